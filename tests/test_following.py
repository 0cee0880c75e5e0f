"""Trees that are followed: what is saved is found, what is away is kept, and what cannot be done is told.

Real files, real notices of the kernel's, real processes; nothing sleeps, and each wait has a bound.
"""

import gc
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some

from hub import following as told_of
from hub import health, shapes
from hub.auth.model import LOCAL, Grant, Scope
from hub.cli import DONE, FAILED, main
from hub.cli.watching import line_of
from hub.config import Settings
from hub.errors import FollowError
from hub.follower import Follower, Refreshed, minding
from hub.follower.minding import Minder
from hub.follower.refreshing import Tree
from hub.follower.turns import PATIENCE_S, Turns, Wish, wish_of
from hub.following import Followed, Keeper, Mode
from hub.health import indexes
from hub.hooking import spool
from hub.http_api import hooks
from indexer.compiler import CompilerOptions, confirm
from indexer.errors import DataFolderError, FolderFullError
from indexer.index import DataFolder, Index
from indexer.model import Behind, Provenance, Stamp
from indexer.pipeline import EmbedderSource, Options, refresh
from indexer.watcher import Hints, Why
from tests.support.command import COMMAND, environment
from tests.support.fake_embedder import FakeEmbedder
from tests.support.following import BOUND_S, Following, following, save
from tests.support.running import git
from tests.support.served import served, settings_for, until
from tests.support.server_state import Clock, state_in
from tests.support.trees import COUNTER, contents, index_of, write_tree
from tests.support.watching import open_files

TWICE = "int Twice(int number) { return 2 * number; }\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a data folder with one small indexed tree."""
    tree = write_tree(tmp_path / "tree", dict(COUNTER))
    (tmp_path / "data").mkdir()
    index_of(tree, tmp_path / "data")
    return settings_for(tmp_path / "data")


@pytest.fixture
def tree(tmp_path: Path, settings: Settings) -> Path:
    assert settings.data == tmp_path / "data"
    return tmp_path / "tree"


def begun(settings: Settings, stack: ExitStack, names: list[str] | None = None) -> Following:
    """One that has looked at every tree once."""
    running = stack.enter_context(following(settings, names))
    running.next(lambda done: done.whole)
    return running


def symbols(settings: Settings, workspace: str = "w") -> set[str]:
    with Index.for_reading(DataFolder(settings.data), workspace) as index:
        return {symbol.name for symbol in index.facts.all_symbols()}


def holds(data: Path) -> dict[str, object]:
    with Index.for_reading(DataFolder(data), "w") as index:
        return contents(index)


# What is saved is found


def test_a_saved_file_is_found_and_what_is_deleted_is_not(
    settings: Settings, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.follower.SETTLE_S", 0.05)
    with ExitStack() as stack:
        running = begun(settings, stack)
        save(tree / "src/twice.cc", TWICE)
        done = running.changed()
        assert (done.workspace, done.changed, done.whole, done.error) == ("w", 1, False, "")
        assert done.after_save_s is not None
        assert "Twice" in symbols(settings)
        (tree / "src/twice.cc").unlink()
        assert running.changed().removed == 1
        assert "Twice" not in symbols(settings)
        (tree / "src").rename(tree / "source")
        while "source/counter.cc" not in known(settings):
            running.changed()
        index_of(tree, tmp_path / "fresh")
        fresh = holds(tmp_path / "fresh")
        until(lambda: holds(settings.data) == fresh)  # the graph follows when it is quiet


def known(settings: Settings) -> set[str]:
    with Index.for_reading(DataFolder(settings.data), "w") as index:
        return set(index.table.known_files())


def test_a_switch_of_branches_is_taken_up_as_a_whole_with_its_commit(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", dict(COUNTER))
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    git(tree, "switch", "-q", "-c", "other")
    write_tree(tree, {"src/twice.cc": TWICE})
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "two")
    settings = settings_for(tmp_path / "data", history_enabled=False)
    index_of(tree, settings.data)
    with ExitStack() as stack:
        running = begun(settings, stack)
        git(tree, "switch", "-q", "main")
        assert running.changed().whole
        assert "Twice" not in symbols(settings)
        with Index.for_reading(DataFolder(settings.data), "w") as index:
            assert index.stamp().commit == git(tree, "rev-parse", "HEAD").strip()


def test_a_workspace_that_comes_later_is_followed_too(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.follower.FIND_S", 0.01)
    with ExitStack() as stack:
        running = begun(settings, stack)
        other = write_tree(tmp_path / "other", {"a.cc": "int a;\n"})
        data = DataFolder(settings.data)
        with data.owned(), Index.for_writing(data, "other", other) as index:
            refresh(index, Options(workers=1), ())
        running.next(lambda done: done.workspace == "other")
        save(other / "b.cc", TWICE)
        assert running.changed().workspace == "other"
        assert "Twice" in symbols(settings, "other")
        with data.owned():
            data.forget("other")
        until(lambda: [tree.workspace for tree in told_of.state(settings.data)] == ["w"])


# What goes wrong


def test_a_root_that_is_away_loses_nothing_and_is_taken_up_when_it_is_back(settings: Settings, tree: Path) -> None:
    before = known(settings)
    with ExitStack() as stack:
        running = begun(settings, stack)
        tree.rename(tree.with_name("away"))
        until(lambda: told_of.state(settings.data)[0].mode is Mode.AWAY)
        assert known(settings) == before
        write_tree(tree.with_name("away"), {"src/twice.cc": TWICE})
        tree.with_name("away").rename(tree)
        running.next(lambda done: bool(done.changed))
        assert known(settings) == {*before, "src/twice.cc"}
        until(lambda: told_of.state(settings.data)[0].mode is Mode.INOTIFY)


def test_a_refresh_that_fails_is_told_once_and_made_when_the_cause_is_gone(
    settings: Settings, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    real = refresh

    def refused(*arguments: Any) -> Any:
        if full.is_set():
            raise FolderFullError("The disk is full.", "Free some space.")
        return real(*arguments)

    monkeypatch.setattr("hub.follower.refreshing.refresh", refused)
    monkeypatch.setattr("hub.follower.RETRY_S", 0.01)
    monkeypatch.setattr("hub.follower.MOST_RETRY_S", 0.02)
    with ExitStack() as stack:
        running = begun(settings, stack)
        full.set()
        save(tree / "src/twice.cc", TWICE)
        assert running.changed().error == "The disk is full."
        (state,) = told_of.state(settings.data)
        assert state.error == "The disk is full."
        full.clear()
        done = running.next()
        assert (done.error, done.changed, done.whole) == ("", 1, True)
        assert told_of.state(settings.data)[0].error == ""
        assert "Twice" in symbols(settings)


def test_a_second_one_is_refused_and_says_who_follows(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        begun(settings, stack)
        with pytest.raises(FollowError, match=f"followed already by process {os.getpid()}"):
            Follower(settings).run()
        capsys.readouterr()
        assert main(["watch", "--all", "--json", "--data", str(settings.data)]) == FAILED
        assert "followed already" in json.loads(capsys.readouterr().out)["error"]


def test_a_tree_that_is_not_indexed_is_refused_by_the_command(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", str(tmp_path), "--json", "--data", str(settings.data)]) == FAILED
    assert json.loads(capsys.readouterr().out)["error"] == f"{tmp_path} is not indexed."


def test_the_command_tells_what_it_does_and_ends_in_order_with_a_signal(settings: Settings, tree: Path) -> None:
    call = [sys.executable, "-c", COMMAND, "watch", str(tree), "--json"]
    with subprocess.Popen(call, env=environment(settings.data), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["whole"]
            save(tree / "src/twice.cc", TWICE)
            assert json.loads(process.stdout.readline())["changed"] == 1
            process.send_signal(signal.SIGINT)
            assert process.wait(BOUND_S) == DONE
        finally:
            process.kill()


def test_a_data_folder_that_cannot_be_written_is_refused(settings: Settings) -> None:
    (settings.data / "follow.lock").mkdir()
    with pytest.raises(DataFolderError, match="cannot be written"):
        Follower(settings).run()


# What can wait


def test_what_the_compiler_said_of_a_changed_file_is_taken_back_and_confirmed_when_it_is_quiet(tmp_path: Path) -> None:
    pytest.importorskip("clang")
    files: dict[str, str | bytes] = {
        "area.cc": "int Area(int n) { return n; }\nint Use() { return Area(2); }\n",
        "alone.cc": "int Alone() { return 0; }\nint Twice() { return Alone(); }\n",
    }
    entries = [{"directory": ".", "file": path, "arguments": ["g++", "-c", path]} for path in files]
    root = write_tree(tmp_path / "tree", {**files, "compile_commands.json": json.dumps(entries)})
    data, chosen = DataFolder(tmp_path / "data"), settings_for(tmp_path / "data", index_workers=1)
    with data.owned(), Index.for_writing(data, "w", root) as index:
        refresh(index, Options(workers=1), ())
        confirm(index, CompilerOptions(root / "compile_commands.json"))
    tree = Tree(chosen, "w", root)
    save(root / "area.cc", "int Area(int n) { return n; }\nint Use() { return Area(3); }\nint More();\n")
    try:
        tree.refresh(Wish(frozenset({"area.cc"})))
        assert confirmed(data) == {"alone.cc"}
        assert tree.confirm(lambda: False)
        assert confirmed(data) == {"alone.cc", "area.cc"}
    finally:
        tree.close()


def confirmed(data: DataFolder) -> set[str]:
    with Index.for_reading(data, "w") as index:
        return {edge.path for edge in index.facts.all_edges() if edge.how is Provenance.COMPILER}


def test_few_chunks_get_their_vectors_of_an_encoder_at_once(settings: Settings, tree: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
        patched.setattr("hub.indexing.encoder_source", lambda _settings: source)
        followed = Tree(settings, "w", tree)
        try:
            followed.encode(lambda: False)
        finally:
            followed.close()
    with Index.for_reading(DataFolder(settings.data), "w") as index:
        assert index.table.waiting(source.name) == 0
        assert index.table.vector_count(source.name) > 0


def test_many_looks_leave_nothing_behind(settings: Settings, tree: Path) -> None:
    """LOOKS=1000 by hand; memory is counted in objects, which no allocator blurs."""
    followed = Tree(settings, "w", tree)
    rounds = int(os.environ.get("LOOKS", "40"))
    try:
        for _ in range(10):
            followed.refresh(Wish(whole=True, why=frozenset({Why.TIME})))
        gc.collect()
        objects, files, threads = len(gc.get_objects()), len(open_files()), threading.active_count()
        for _ in range(rounds):
            followed.refresh(Wish(whole=True, why=frozenset({Why.TIME})))
        gc.collect()
        assert len(open_files()) == files
        assert threading.active_count() == threads
        assert len(gc.get_objects()) - objects < 100  # however many looks there were
    finally:
        followed.close()


# How it stands


def test_how_a_tree_stands_is_told_to_its_owner_and_written_only_when_it_changes(
    settings: Settings, tree: Path
) -> None:
    path = settings.data / "following.json"
    with ExitStack() as stack:
        running = begun(settings, stack)
        (state,) = told_of.state(settings.data)
        assert (state.workspace, state.root, state.mode, state.pending, state.whole) == (
            "w",
            tree,
            Mode.INOTIFY,
            0,
            False,
        )
        assert state.watches >= 2
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        keeper, written = running.follower._keeper, path.stat().st_mtime_ns
        assert keeper.keep([replace(state, behind_s=5.0)])
        assert path.stat().st_mtime_ns == written
        save(tree / "src/twice.cc", TWICE)
        running.changed()
        (state,) = told_of.state(settings.data)
        assert state.last is not None
        assert (state.last.changed, state.last.whole, state.pending, state.waiting_since) == (1, False, 0, None)
    assert told_of.state(settings.data) == ()
    assert not path.exists()


def test_the_word_of_a_process_that_died_is_not_taken(tmp_path: Path) -> None:
    Keeper(tmp_path, 1.0).keep([Followed("w", tmp_path, Mode.INOTIFY)])
    assert [tree.workspace for tree in told_of.state(tmp_path)] == ["w"]
    path = tmp_path / "following.json"
    shape = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(shape | {"began": "1"}), encoding="utf-8")  # another process of the same number
    assert told_of.state(tmp_path) == ()
    state = told_of.following(tmp_path)
    assert state is not None
    assert not state.alive
    (finding,) = health_of(settings_for(tmp_path))
    assert finding.grade is health.Grade.WARNING
    assert "has died" in finding.detail


def health_of(settings: Settings) -> list[health.Finding]:
    return list(indexes.followed(health.Surroundings(settings)))


@pytest.mark.parametrize("junk", ["", "[]", "{", '{"pid": 1}', '{"pid":1,"began":"","since":0,"trees":[{}]}', "\0"])
def test_a_state_that_is_none_tells_nothing(tmp_path: Path, junk: str) -> None:
    (tmp_path / "following.json").write_text(junk, encoding="utf-8")
    assert told_of.state(tmp_path) == ()


def test_doctor_says_which_trees_are_polled_away_failing_or_followed_by_nobody(settings: Settings, tree: Path) -> None:
    (finding,) = health_of(settings)
    assert (finding.grade, "no tree is followed" in finding.detail) == (health.Grade.OK, True)
    keeper = Keeper(settings.data, 1.0)
    polled = Followed("w", tree, Mode.POLLING, "NFS does not tell of all changes")
    for followed, grade, words in (
        (Followed("w", tree, Mode.INOTIFY, watches=3, limit=100), health.Grade.OK, "3 watches of 100"),
        (polled, health.Grade.WARNING, "NFS does not tell"),
        (Followed("w", tree, Mode.AWAY), health.Grade.WARNING, "its folder is away"),
        (Followed("w", tree, Mode.INOTIFY, error="The disk is full."), health.Grade.WARNING, "The disk is full."),
        (Followed("other", tree, Mode.INOTIFY), health.Grade.WARNING, "nobody follows w"),
    ):
        keeper.keep([followed])
        (finding,) = health_of(settings)
        assert finding.grade is grade
        assert words in finding.detail
        assert finding.hint or grade is health.Grade.OK
    keeper.end()


def test_status_says_how_each_tree_is_followed(
    settings: Settings, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Keeper(settings.data, 1.0).keep([Followed("w", tree, Mode.POLLING, "NFS does not tell of all changes", pending=2)])
    assert main(["status", "--data", str(settings.data)]) == DONE
    assert "followed by looking: NFS does not tell of all changes; 2 files wait" in capsys.readouterr().out
    assert main(["status", "--json", "--data", str(settings.data)]) == DONE
    (entry,) = json.loads(capsys.readouterr().out)["workspaces"]
    assert (entry["followed"]["mode"], entry["stamp"]["behind"]["files"]) == ("polling", 2)


def test_a_search_says_that_files_wait_to_be_read_again(
    settings: Settings, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Keeper(settings.data, 1.0).keep([Followed("w", tree, Mode.INOTIFY, pending=2, waiting_since=1.0)])
    main(["search", "counter", "--data", str(settings.data), "--no-server"])
    assert "w is 2 files behind" in capsys.readouterr().out


def test_the_server_tells_of_followed_trees_those_who_see_them(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        keeper = Keeper(tmp_path / "data", 1.0)
        keeper.keep([Followed("w", tmp_path / "tree", Mode.INOTIFY, pending=2, waiting_since=1.0, hints=7)])
        told = server.client.get("/api/v1/workspaces/w").json()
        assert (told["followed"]["mode"], told["followed"]["pending"]) == ("inotify", 2)
        assert told["stamp"]["behind"]["files"] == 2
        assert 'codehub_follow_hints{workspace="w"} 7.0' in server.client.get("/metrics").text
        found = server.client.get("/api/v1/search", params={"query": "counter"}).json()
        assert found["stamp"]["behind"]["files"] == 2
        with server.keyed(Grant("other", frozenset({Scope.READ}))) as stranger:
            assert "codehub_follow" not in stranger.get("/metrics").text
        keeper.end()
        assert server.client.get("/api/v1/workspaces/w").json()["followed"] is None


def test_a_hook_of_a_followed_tree_is_heard_by_its_follower_and_any_other_makes_a_job(
    settings: Settings, tree: Path, tmp_path: Path
) -> None:
    other = write_tree(tmp_path / "other", {"a.cc": "int a;\n"})
    data = DataFolder(settings.data)
    with data.owned(), Index.for_writing(data, "other", other) as index:
        refresh(index, Options(workers=1), ())
    with ExitStack() as stack:
        state = stack.enter_context(state_in(settings.data))
        running = begun(settings, stack, ["w"])
        spool.tell(settings.data, tree)
        spool.tell(settings.data, other)
        assert running.next(lambda done: Why.HEAD.value in done.why).workspace == "w"
        until(lambda: bool(hooks.take_in(state)) or bool(state.jobs.jobs()))
        assert {job.workspace for job in state.jobs.jobs()} == {"other"}
        (entry,) = [entry for entry in state.audit.entries() if entry.action == "hook"]
        assert (entry.workspace, entry.owner) == ("other", LOCAL.owner)
        until(lambda: spool.is_empty(settings.data))


# How far behind


def test_a_stamp_says_how_far_behind_as_far_as_that_is_known(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", dict(COUNTER))
    data = tmp_path / "data"
    now = [0.0]

    def behind(index: Index) -> Behind | None:
        now[0] += 10
        return told_of.stamp(data, index, lambda: now[0]).behind

    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    index_of(tree, data)
    with Index.for_reading(DataFolder(data), "w") as index:
        assert behind(index) == Behind(0, None, None)
        git(tree, "commit", "-q", "--allow-empty", "-m", "two")
        git(tree, "commit", "-q", "--allow-empty", "-m", "three")
        assert behind(index) == Behind(2, None, None)
        git(tree, "reset", "-q", "--hard", "HEAD~2")
        keeper = Keeper(data, 1.0)
        keeper.keep([Followed("w", tree, Mode.INOTIFY)])
        assert behind(index) == Behind(0, 0, None)
        keeper.keep([Followed("w", tree, Mode.INOTIFY, whole=True)])
        assert behind(index) == Behind(0, None, None)
        keeper.keep([Followed("w", tree, Mode.AWAY)])
        assert behind(index) == Behind(0, None, None)
        keeper.end()
    (tree / ".git").rename(tmp_path / "git")
    with Index.for_reading(DataFolder(data), "w") as index:
        assert behind(index) is None


def test_a_look_is_taken_for_true_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    looks: list[Path] = []

    def state(data: Path) -> tuple[Followed, ...]:
        looks.append(data)
        return ()

    monkeypatch.setattr("hub.following.behind.state", state)
    clock = Clock()
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        for now in (0.0, 0.5, 0.9, 1.1, 1.5):
            clock.now = now
            told_of.stamp(tmp_path / "data", index, clock)
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("behind", "words"),
    [
        (None, ""),
        (Behind(None, None, None), ""),
        (Behind(0, None, None), ""),
        (Behind(0, 0, None), "up to date"),
        (Behind(2, 3, 1.0), "2 commits and 3 files behind"),
        (Behind(1, 0, None), "1 commit behind"),
        (Behind(None, 1_200, 2.0), "1,200 files behind"),
    ],
)
def test_it_is_said_in_few_words(behind: Behind | None, words: str) -> None:
    stamp = Stamp("1" * 40, dirty=False, indexed_at="2026-11-20T10:11:12+00:00", behind=behind)
    assert told_of.behind_words(stamp) == words
    assert shapes.stamp_shape(stamp)["behind"] == (
        None if behind is None else {"commits": behind.commits, "files": behind.files, "since_s": behind.since_s}
    )


def test_files_that_are_shown_and_have_changed_count_as_behind() -> None:
    stamp = Stamp(None, dirty=False, indexed_at="")
    assert told_of.stamped(stamp, []) == stamp
    assert told_of.stamped(stamp, ["a.cc", "a.cc"]).behind == Behind(None, 1, None)
    known_before = replace(stamp, behind=Behind(2, 5, 1.0))
    assert told_of.stamped(known_before, ["a.cc"]).behind == Behind(2, 5, 1.0)


@pytest.mark.parametrize(
    ("done", "line"),
    [
        (Refreshed("w", 1, 0, 0.12, 0.31), "w: 1 file in 0.12 s, 0.31 s after it was saved"),
        (Refreshed("w", 3, 1, 1.0), "w: 3 files and 1 removed in 1.00 s"),
        (Refreshed("w", whole=True, seconds=2.0), "w: up to date, looked at in 2.00 s"),
        (Refreshed("w"), ""),
        (Refreshed("w", error="The disk is full.", hint="Free some."), "w: The disk is full. Free some."),
    ],
)
def test_a_person_is_told_in_a_line(done: Refreshed, line: str) -> None:
    assert line_of(done) == line


# Turns

paths = some.frozensets(some.sampled_from(["a.cc", "b.cc", "c/d.cc"]), max_size=3)
hints_of_any_kind = some.builds(
    lambda paths, whole: Hints(frozenset() if whole else paths, frozenset(), whole, whole, (Why.CHANGED,)),
    paths,
    some.booleans(),
)


@given(some.lists(some.tuples(some.sampled_from("uvw"), hints_of_any_kind), max_size=12), some.integers(0, 12))
def test_whatever_is_told_is_looked_at_once_more_afterwards(told: list[tuple[str, Hints]], taken_after: int) -> None:
    turns, waiting = Turns(), {name: set[str]() for name in "uvw"}

    def take() -> bool:
        turn = turns.take(100.0)
        if turn is not None:
            name, wish = turn
            assert wish.whole or wish.paths >= waiting[name]
            waiting[name].clear()
        return turn is not None

    for number, (name, hints) in enumerate(told):
        turns.put(name, wish_of(hints, float(number), float(number)))
        waiting[name] |= hints.paths
        if number == taken_after:
            take()
    while take():
        pass
    assert not any(waiting.values())


def test_what_was_saved_last_goes_first_and_nothing_waits_without_end() -> None:
    turns = Turns()
    turns.put("whole", wish_of(Hints(everything=True, why=(Why.TIME,)), 1.0, 0.0))
    turns.put("old", wish_of(Hints(frozenset({"a"})), 1.5, 0.0))
    turns.put("new", wish_of(Hints(frozenset({"a"})), 2.0, 0.0))
    assert [turns.take(2.5)[0] for _ in range(3)] == ["new", "old", "whole"]  # type: ignore[index]
    turns.put("whole", wish_of(Hints(everything=True, why=(Why.TIME,)), 1.0, 0.0))
    turns.put("new", wish_of(Hints(frozenset({"a"})), 1.0 + PATIENCE_S, 0.0))
    assert turns.take(1.1 + PATIENCE_S)[0] == "whole"  # type: ignore[index]


def test_what_failed_is_tried_again_as_a_whole_and_not_before_its_time_unless_something_new_comes() -> None:
    turns = Turns()
    turns.put_back("w", wish_of(Hints(frozenset({"a"})), 1.0, 0.0), 9.0)
    assert turns.take(8.0) is None
    assert turns.due() == 9.0
    turns.put("w", wish_of(Hints(frozenset({"b"})), 8.0, 0.0))
    taken = turns.take(8.0)
    assert taken is not None
    assert taken[1].whole


# The process

DIES = "import sys; sys.stdin.readline(); print('cannot', file=sys.stderr); sys.exit(1)"


def test_a_process_that_dies_is_begun_again_and_what_it_said_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minding, "AGAIN_S", 0.01)
    minder = Minder(settings_for(tmp_path), (sys.executable, "-c", DIES))
    minder.start()
    try:
        until(lambda: minder.begun >= 2)
    finally:
        minder.close()
    assert "cannot" in (tmp_path / minding.LOG).read_text(encoding="utf-8")
    assert stat.S_IMODE((tmp_path / minding.LOG).stat().st_mode) == 0o600


def test_a_process_that_does_not_heed_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minding, "GRACE_S", 0.2)
    deaf = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); sys.stdin.readline(); time.sleep(600)"
    minder = Minder(settings_for(tmp_path), (sys.executable, "-c", deaf))
    minder.start()
    until(lambda: minder._process is not None)
    minder.close()
    assert minder._process is not None
    assert minder._process.poll() is not None


def until_followed(settings: Settings, after: int = 0) -> int:
    """Waits for a process that has looked at everything; its number, which is another than the one before."""

    def holds() -> bool:
        told = told_of.following(settings.data)
        return bool(told and told.alive and told.pid != after and all(tree.last for tree in told.trees) and told.trees)

    until(holds)
    told = told_of.following(settings.data)
    assert told is not None
    return told.pid


def test_a_server_finds_what_is_saved_also_after_the_process_that_follows_was_killed(
    settings: Settings, tree: Path
) -> None:
    call = [sys.executable, "-c", COMMAND, "serve", "--port", "0", "--json"]
    follows = {"CODEHUB_WATCH_ENABLED": "1", "CODEHUB_WATCH_QUIET_MILLISECONDS": "10"}
    with subprocess.Popen(
        call, env=environment(settings.data, follows), stdout=subprocess.PIPE, text=True, cwd=settings.data.parent
    ) as process:
        overdue = threading.Timer(2 * BOUND_S, process.kill)
        overdue.start()
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            headers = {"authorization": f"Bearer {said['first_key']}"}
            with httpx.Client(base_url=said["url"], headers=headers, timeout=BOUND_S) as client:

                def finds(name: str) -> bool:
                    return bool(client.get("/api/v1/symbol", params={"name": name}).json().get("symbols"))

                first = until_followed(settings)
                save(tree / "src/twice.cc", TWICE)
                until(lambda: finds("Twice"))
                os.kill(first, signal.SIGKILL)
                write_tree(tree, {"src/thrice.cc": "int Thrice(int n) { return 3 * n; }\n"})
                second = until_followed(settings, first)
                until(lambda: finds("Thrice"))
                assert client.get("/api/v1/workspaces/w").json()["followed"]["mode"] == "inotify"
            process.send_signal(signal.SIGTERM)
            assert process.wait(BOUND_S) == DONE
            assert told_of.following(settings.data) is None
            with pytest.raises(ProcessLookupError):
                os.kill(second, 0)
        finally:
            overdue.cancel()
            process.kill()
