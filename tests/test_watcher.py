"""Watching real trees with the real kernel and the real git: editors' ways, limits, overflow, a root that goes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest

from indexer import watcher as watching
from indexer.files import FileRules
from indexer.watcher import Hints, Mode, Options, Watcher, Why, filesystems, notices
from indexer.watcher.gathering import Gathering
from indexer.watcher.notices import Notices
from tests.support.running import git
from tests.support.trees import write_tree
from tests.support.watching import BOUND_S, QUICK, kernel_watches, open_files, settled

POLLING = replace(QUICK, polls=True, poll_s=0.005)
BOTH = pytest.mark.parametrize("options", [QUICK, POLLING], ids=["inotify", "polling"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "root", {"a.cc": "int a;\n", "src/b.cc": "int b;\n", "src/deep/c.h": "int c;\n"})


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    before = kernel_watches(), len(open_files())
    yield
    assert (kernel_watches(), len(open_files())) == before


def until(watcher: Watcher, why: Why) -> Hints:
    """The first hint with this reason; those before it are let go."""
    ends = monotonic() + BOUND_S
    while monotonic() < ends:
        hints = watcher.take(BOUND_S)
        if hints is not None and why in hints.why:
            return hints
    raise AssertionError(f"nothing said that {why}")


def paths_of(hints: list[Hints]) -> set[str]:
    found = {path for hint in hints for path in (*hint.paths, *hint.folders)}
    return {path for path in found if not path.startswith("sign")}


@BOTH
def test_the_first_hint_is_to_look_at_everything(root: Path, options: Options) -> None:
    with Watcher(root, options=options) as watcher:
        first = watcher.take(BOUND_S)
        assert first == Hints(everything=True, why=(Why.START,))
        assert not first.head
        assert first.cover("whatever.cc")


@BOTH
def test_the_ways_of_editors_name_the_file_that_was_edited(root: Path, options: Options) -> None:
    with Watcher(root, options=options) as watcher:
        settled(watcher, root)
        (root / "src" / ".b.cc.swp").write_text("vim's", encoding="utf-8")
        (root / "src" / "4913").touch()
        (root / "src" / "4913").unlink()
        (root / "src" / "b.cc").rename(root / "src" / "b.cc~")
        (root / "src" / "b.cc").write_text("int other;\n", encoding="utf-8")
        (root / "src" / "b.cc~").unlink()
        assert paths_of(settled(watcher, root)) == {"src/b.cc"}
        (root / "src" / ".goutputstream-X").write_text("int atomic = 1;\n", encoding="utf-8")
        (root / "src" / ".goutputstream-X").replace(root / "src" / "b.cc")
        assert paths_of(settled(watcher, root)) == {"src/b.cc"}
        (root / "a.cc").rename(root / "renamed.cc")
        assert paths_of(settled(watcher, root)) == {"a.cc", "renamed.cc"}


@BOTH
def test_a_folder_that_came_with_files_in_it_is_told_and_watched_from_then_on(root: Path, options: Options) -> None:
    with Watcher(root, options=options) as watcher:
        settled(watcher, root)
        write_tree(root, {"new/inner/d.cc": "int d;\n"})
        found = settled(watcher, root)
        assert any(hint.cover("new/inner/d.cc") for hint in found)
        (root / "new/inner/d.cc").write_text("int dd;\n", encoding="utf-8")
        assert paths_of(settled(watcher, root)) == {"new/inner/d.cc"}


@BOTH
def test_a_moved_folder_is_told_by_both_paths_and_watched_under_the_new_one_alone(root: Path, options: Options) -> None:
    with Watcher(root, options=options) as watcher:
        settled(watcher, root)
        (root / "src").rename(root / "lib")
        found = settled(watcher, root)
        assert all(any(hint.cover(path) for hint in found) for path in ("src/deep/c.h", "lib/deep/c.h"))
        (root / "lib/deep/c.h").write_text("int cc;\n", encoding="utf-8")
        assert paths_of(settled(watcher, root)) == {"lib/deep/c.h"}
        (root / "lib").rename(root.parent / "away")
        settled(watcher, root)
        (root.parent / "away/deep/c.h").write_text("int ccc;\n", encoding="utf-8")
        assert paths_of(settled(watcher, root)) == set()


@BOTH
def test_what_indexing_leaves_out_makes_no_hint(root: Path, options: Options) -> None:
    write_tree(root, {".gitignore": "build/\n*.gen.cc\n", "build/x.cc": "", "node_modules/y.cc": "", ".hid/z.cc": ""})
    (root.parent / "outside").mkdir()
    (root / "link").symlink_to(root.parent / "outside")
    with Watcher(root, FileRules(exclude=("src/deep/",)), options) as watcher:
        settled(watcher, root)
        new = ("build/x.cc", "node_modules/y.cc", ".hid/z.cc", "a.gen.cc", "src/deep/c.h", "link/o.cc", "a.o", "b.py")
        write_tree(root, dict.fromkeys(new, "int changed;\n"))
        (root / os.fsdecode(b"\xff.cc")).touch()
        (root / os.fsdecode(b"\xff")).mkdir()
        assert paths_of(settled(watcher, root)) == set()
        assert watcher.standing().folders == 2


@BOTH
def test_changed_ignore_rules_change_what_is_watched(root: Path, options: Options) -> None:
    with Watcher(root, options=options) as watcher:
        settled(watcher, root)
        (root / ".gitignore").write_text("/src/\n", encoding="utf-8")
        assert until(watcher, Why.RULES).everything
        assert watcher.standing().folders == 1
        (root / ".gitignore").unlink()
        assert until(watcher, Why.RULES).everything
        assert watcher.standing().folders == 3
        (root / "src/b.cc").write_text("int again;\n", encoding="utf-8")
        assert paths_of(settled(watcher, root)) == {"src/b.cc"}


@BOTH
def test_a_burst_becomes_one_hint_to_look_at_everything(root: Path, options: Options) -> None:
    with Watcher(root, options=replace(options, burst=20, quiet_s=0.1)) as watcher:
        settled(watcher, root)
        write_tree(root, {f"f{number}.cc": "int f;\n" for number in range(30)})
        hints = until(watcher, Why.BURST)
        assert hints.everything
        assert not hints.paths


@BOTH
def test_every_flow_of_git_moves_head_and_asks_for_everything(root: Path, options: Options) -> None:
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    with Watcher(root, options=options) as watcher:
        settled(watcher, root)
        for flow in (
            ["commit", "-q", "--allow-empty", "-m", "two"],
            ["checkout", "-q", "-b", "feature/deep/name"],
            ["commit", "-q", "--allow-empty", "-m", "three"],
            ["commit", "-q", "--amend", "--allow-empty", "-m", "other"],
            ["pack-refs", "--all"],
            ["commit", "-q", "--allow-empty", "-m", "onto a packed branch"],
            ["reset", "-q", "--hard", "HEAD~1"],
            ["checkout", "-q", "main"],
            ["merge", "-q", "--no-edit", "feature/deep/name"],
            ["checkout", "-q", "--detach", "HEAD~1"],
        ):
            git(root, *flow)
            hints = until(watcher, Why.HEAD)
            assert hints.head, flow
            assert hints.everything, flow
            settled(watcher, root)
        git(root, "branch", "unrelated")
        assert not any(hints.head for hints in settled(watcher, root))


def test_a_linked_worktree_below_which_a_folder_is_watched_tells_of_its_own_head(root: Path) -> None:
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    tree = root.parent / "linked"
    git(root, "worktree", "add", "-q", "-b", "side", str(tree))
    with Watcher(tree / "src", options=QUICK) as watcher:
        settled(watcher, tree / "src")
        git(tree, "commit", "-q", "--allow-empty", "-m", "in the linked one")
        assert until(watcher, Why.HEAD).head
        settled(watcher, tree / "src")
        git(root, "commit", "-q", "--allow-empty", "-m", "in the other")
        assert not any(hints.head for hints in settled(watcher, tree / "src"))


def test_hints_wait_while_git_holds_its_index_and_come_as_one_when_it_lets_go(root: Path) -> None:
    git(root, "init", "-q")
    with Watcher(root, options=QUICK) as watcher:
        settled(watcher, root)
        lock = root / ".git" / "index.lock"
        lock.touch()
        (root / "a.cc").write_text("int half;\n", encoding="utf-8")
        assert watcher.take(0.1) is None
        lock.unlink()
        hints = watcher.take(BOUND_S)
        assert hints is not None
        assert hints.everything
        assert Why.GIT in hints.why


def test_a_lock_that_a_crash_left_holds_nothing_back_for_ever() -> None:
    gathering = Gathering(Options(quiet_s=0.3, lock_s=10.0))
    gathering.lock(held=True, now=0.0)
    gathering.file("a.cc", 1.0)
    assert gathering.due() == 10.0
    assert gathering.take(9.9) is None
    assert gathering.take(10.0) is not None
    gathering.file("a.cc", 60.0)
    assert gathering.due() == 60.3


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_tree_with_more_folders_than_may_be_watched_is_polled_and_says_so(root: Path, most: int) -> None:
    with Watcher(root, options=replace(QUICK, most_watches=most, poll_s=0.005)) as watcher:
        standing = watcher.standing()
        assert standing.mode is Mode.POLLING
        assert "more folders than may be watched" in standing.why
        assert (standing.watches, standing.folders) == (0, 3)
        settled(watcher, root)
        (root / "src/deep/c.h").write_text("int cc;\n", encoding="utf-8")
        assert paths_of(settled(watcher, root)) == {"src/deep/c.h"}


def test_watches_that_run_out_later_are_noticed_and_come_back_with_the_next_look_at_everything(root: Path) -> None:
    with Watcher(root, options=replace(QUICK, most_watches=4, poll_s=0.005, reconcile_s=1e6)) as watcher:
        settled(watcher, root)
        write_tree(root, {"one/two/d.cc": "int d;\n"})
        assert until(watcher, Why.WATCHES).everything
        assert watcher.standing().mode is Mode.POLLING
        shutil.rmtree(root / "one")
        settled(watcher, root)
        watcher._reconcile_at = 0.0
        assert until(watcher, Why.TIME).everything
        assert watcher.standing().mode is Mode.INOTIFY


IN_NAMESPACE = """
import sys
from pathlib import Path
from indexer.watcher import Watcher
with Watcher(Path(sys.argv[1])) as watcher:
    print(watcher.standing().mode, watcher.standing().why, watcher.standing().folders)
"""


def test_the_kernels_own_refusal_is_noticed(root: Path) -> None:
    allowed = 'echo 2 > /proc/sys/user/max_inotify_watches || exit 77; exec "$@"'
    command = ["unshare", "-Ur", "sh", "-c", allowed, "sh", sys.executable, "-c", IN_NAMESPACE, str(root)]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parent.parent
    )
    if done.returncode in {1, 77} and "unshare" in done.stderr + "unshare" * (done.returncode == 77):
        pytest.skip("user namespaces are not allowed here")
    assert done.stdout == "polling the kernel lets no more folders be watched (fs.inotify.max_user_watches) 3\n", (
        done.stderr
    )


def test_a_queue_that_overflows_asks_for_everything_and_is_watched_anew(root: Path) -> None:
    with Watcher(root, options=QUICK) as watcher:
        settled(watcher, root)
        source = watcher._source
        assert isinstance(source, Notices)
        longest = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
        with source._turn:  # whoever reads is held up
            for number in range(longest + 5_000):  # one read takes some 2,500
                os.utime(root / ("a.cc" if number % 2 else "src/b.cc"))
        assert until(watcher, Why.OVERFLOW).everything
        assert watcher._source is not source
        assert watcher.standing().mode is Mode.INOTIFY
        (root / "src/b.cc").write_text("int after;\n", encoding="utf-8")
        assert "src/b.cc" in paths_of(settled(watcher, root))


def test_a_file_system_that_tells_nothing_is_polled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "kind_of", lambda _: 0x6969)
    with Watcher(root, options=QUICK) as watcher:
        assert watcher.standing().mode is Mode.POLLING
        assert watcher.standing().why == "NFS does not tell of all changes"


def test_file_systems_are_told_apart_as_stat_does() -> None:
    for place in (Path("/proc"), Path("/tmp")):
        done = subprocess.run(["stat", "-f", "-c", "%t", place], capture_output=True, text=True, timeout=10, check=True)
        assert filesystems.kind_of(place) == int(done.stdout, 16)
    assert filesystems.kind_of(Path("/nowhere")) == 0
    assert filesystems.silent(filesystems.kind_of(Path("/proc"))) is None


@BOTH
def test_a_root_that_goes_is_told_and_so_is_one_that_comes_back(
    root: Path, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "AWAY_S", 0.01)
    with Watcher(root, options=options) as watcher:
        settled(watcher, root)
        shutil.rmtree(root)
        assert until(watcher, Why.ROOT).everything
        assert watcher.standing().mode is Mode.AWAY
        write_tree(root, {"e.cc": "int e;\n"})
        assert until(watcher, Why.ROOT).everything
        assert watcher.standing().mode is not Mode.AWAY
        (root / "e.cc").write_text("int ee;\n", encoding="utf-8")
        assert "e.cc" in paths_of(settled(watcher, root))


def test_a_root_that_leads_elsewhere_from_now_on_is_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "ROOT_S", 0.01)
    other = write_tree(root.parent / "other", {"f.cc": "int f;\n"})
    link = root.parent / "current"
    link.symlink_to(root)
    with Watcher(link, options=QUICK) as watcher:
        settled(watcher, link)
        link.unlink()
        link.symlink_to(other)
        until(watcher, Why.ROOT)
        (other / "f.cc").write_text("int ff;\n", encoding="utf-8")
        assert "f.cc" in paths_of(settled(watcher, link))


def test_everything_is_looked_at_every_while(root: Path) -> None:
    with Watcher(root, options=replace(QUICK, reconcile_s=0.05)) as watcher:
        until(watcher, Why.TIME)
        assert until(watcher, Why.TIME).everything


def test_who_waits_without_end_is_let_go_by_closing(root: Path) -> None:
    watcher = Watcher(root, options=QUICK)
    settled(watcher, root)
    watcher.take(BOUND_S)  # the sign that went
    answers: list[Hints | None] = []
    waiting = Thread(target=lambda: answers.append(watcher.take()))
    waiting.start()
    watcher.close()
    waiting.join(BOUND_S)
    assert answers == [None]
    assert watcher.standing().mode is Mode.CLOSED
    assert watcher.take() is None
    watcher.close()


def test_waiting_costs_no_wake_ups(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Watcher(root, options=QUICK) as watcher:
        settled(watcher, root)
        watcher.take(BOUND_S)  # the sign that went
        waits: list[float] = []
        real = watcher._inbox.wait

        def counted(until: float) -> None:
            waits.append(until)
            real(until)

        monkeypatch.setattr(watcher._inbox, "wait", counted)
        assert watcher.take(0.2) is None
        assert len(waits) <= 3


@BOTH
def test_a_fifo_in_gits_place_and_broken_repositories_hang_nothing(root: Path, options: Options) -> None:
    (root / ".git").mkdir()
    os.mkfifo(root / ".git" / "HEAD")
    os.mkfifo(root / ".gitignore")
    with Watcher(root, options=options) as watcher:
        settled(watcher, root)
    shutil.rmtree(root / ".git")
    for text in (b"gitdir: \0", b"gitdir: /nowhere", b"gitdir: ../" + b"x/" * 4000, b"\xff\xfe"):
        (root / ".git").write_bytes(text)
        with Watcher(root, options=options) as watcher:
            settled(watcher, root)
