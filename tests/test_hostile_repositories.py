"""A repository may name programs in dozens of places, and lead elsewhere in some. None is run, and none is followed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from agents.errors import TreeStateError
from agents.worktrees import Trees
from agents.worktrees.submodules import Submodules
from indexer import history
from tests.support.trees import write_tree

PATCH = "--- a/a.cc\n+++ b/a.cc\n@@ -1 +1 @@\n-int a;\n+int aa;\n"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Git settings of whoever runs the tests do not count."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    return home


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """Git as anybody calls it, with whatever a repository says."""
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = write_tree(
        tmp_path_factory.mktemp("template") / "tree", {"a.cc": "int a;\n", "sub/b.cc": "int b;\n", "c.dat": "data\n"}
    )
    git(tree, "init", "--quiet", "--template=", "--initial-branch=main")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "First")
    return tree


@pytest.fixture
def root(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "tree", symlinks=True))


class Trap(NamedTuple):
    """How a repository names a program, and a plain call of git that runs it."""

    name: str
    settings: Mapping[str, str] = MappingProxyType({})  # "PROGRAM" stands for the program
    attributes: str = ""
    hook: str = ""
    springs: tuple[str, ...] = ()


COMMIT = ("commit", "--quiet", "--allow-empty", "--message", "x")
# Those of one group do not hide each other.
TRAPS = [
    [
        Trap("a file monitor", {"core.fsmonitor": "PROGRAM"}, springs=("status",)),
        Trap("a hook before commits", hook="pre-commit", springs=COMMIT),
        Trap("a hook of branches", hook="post-checkout", springs=("checkout", "--quiet", "--detach")),
        Trap("a program that compares", {"diff.external": "PROGRAM"}, springs=("diff",)),
        Trap("a filter on the way in", {"filter.in.clean": "PROGRAM"}, "*.cc filter=in", springs=("add", "a.cc")),
        Trap("another name", {"alias.status": "!PROGRAM", "alias.x": "!PROGRAM"}, springs=("x",)),
        Trap("a way to others", {"core.sshCommand": "PROGRAM"}, springs=("ls-remote", "ssh://127.0.0.1:1/x")),
        Trap("a pager", {"core.pager": "PROGRAM", "pager.diff": "PROGRAM", "pager.status": "PROGRAM"}),
        Trap("a program that merges", {"merge.evil.driver": "PROGRAM"}, "*.h merge=evil"),
        Trap("a program that asks", {"core.askPass": "PROGRAM", "credential.helper": "!PROGRAM"}),
    ],
    [
        Trap("settings that are included", {"include.path": "INCLUDED"}, springs=("status",)),
        Trap("a hook of the index", hook="post-index-change", springs=("read-tree", "HEAD")),
        Trap("one for some files", {"diff.evil.command": "PROGRAM"}, "*.cc diff=evil", springs=("diff",)),
        Trap("an editor", {"core.editor": "PROGRAM", "sequence.editor": "PROGRAM"}, springs=("commit", "-a")),
        Trap("another address", {"url.ext::PROGRAM.insteadOf": "file:"}),
        Trap("a program that sends", {"uploadpack.packObjectsHook": "PROGRAM"}),
        Trap("one that lists other refs", {"core.alternateRefsCommand": "PROGRAM"}),
    ],
    [
        Trap("settings of the work tree", {"extensions.worktreeConfig": "true"}, springs=("status",)),
        Trap("a hook behind commits", hook="post-commit", springs=COMMIT),
        Trap("a hook of refs", hook="reference-transaction", springs=("update-ref", "refs/heads/x", "HEAD")),
        Trap("a filter for both ways", {"filter.x.process": "PROGRAM"}, "*.dat filter=x", springs=("add", "c.dat")),
        Trap("a trailer", {"trailer.x.command": "PROGRAM", "trailer.x.key": "X"}),
        Trap("a hook by a setting", {"hook.x.command": "PROGRAM", "hook.x.event": "reference-transaction"}),
    ],
    [
        Trap("a program that makes text", {"diff.evil.textconv": "PROGRAM"}, "*.cc diff=evil", springs=("diff",)),
        Trap("hooks elsewhere", {"core.hooksPath": "HOOKS"}, springs=("update-ref", "refs/heads/x", "HEAD")),
        Trap(
            "a filter on the way out",
            {"filter.out.smudge": "PROGRAM"},
            "*.cc filter=out",
            springs=("checkout-index", "--force", "--", "a.cc"),
        ),
        Trap("a program that signs", {"commit.gpgSign": "true", "gpg.program": "PROGRAM"}, springs=COMMIT),
        Trap("maintenance", {"gc.auto": "1", "maintenance.auto": "true", "gc.autoDetach": "false"}),
    ],
]


def plant(root: Path, trap: Trap, folder: Path) -> Path:
    """Sets a trap; where its program leaves a mark when it is run."""
    folder.mkdir()
    mark = folder / "it was run"
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\nexit 0\n", encoding="utf-8")
    program.chmod(0o755)
    shutil.copy(program, folder / "reference-transaction")
    (folder / "included").write_text(f"[core]\nfsmonitor = '{program}'\n", encoding="utf-8")
    words = {"PROGRAM": str(program), "HOOKS": str(folder), "INCLUDED": str(folder / "included")}
    for key, value in trap.settings.items():
        parts = [key, value]
        for word, meant in words.items():
            parts = [part.replace(word, meant) for part in parts]
        git(root, "config", *parts)
    if "extensions.worktreeConfig" in trap.settings:
        git(root, "config", "--worktree", "core.fsmonitor", str(program))
    if trap.attributes:
        for place in (root / ".gitattributes", root / ".git" / "info" / "attributes"):
            place.parent.mkdir(exist_ok=True)
            with place.open("a", encoding="utf-8") as file:
                file.write(trap.attributes + "\n")
    if trap.hook:
        (root / ".git" / "hooks").mkdir(exist_ok=True)
        shutil.copy(program, root / ".git" / "hooks" / trap.hook)
    return mark


def with_submodule(root: Path) -> None:
    commit = git(root, "rev-parse", "HEAD")
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    git(root, "commit", "--quiet", "--message", "A submodule")


def everything_that_agents_do(root: Path, data: Path) -> None:
    trees = Trees(data)
    state = trees.state(root, changes=True)
    assert "a.cc" in state.changed
    with trees.checkout(root, state, PATCH.replace("-int a", "-int changed")) as checkout:
        assert (checkout.folder / "a.cc").read_text(encoding="utf-8") == "int aa;\n"
        assert trees.diff(checkout)
    commit = trees.write_branch(root, trees.state(root, changes=False), PATCH, "agents/x", "Do it")
    assert (root / ".git" / "refs" / "heads" / "agents" / "x").read_text(encoding="utf-8").strip() == commit
    trees.sweep()


def everything_that_indexing_asks(root: Path) -> None:
    commit, dirty = history.head(root)
    assert commit
    assert dirty
    history.diff(root, "HEAD")
    history.diff(root, "HEAD~1")
    assert history.contents(root, history.files_at(root, "HEAD") or [])
    history.commit_before(root, 1)
    history.is_shallow(root)
    source = history.source_of(root, commit)
    assert source
    hashes = [name for name, _ in history.commits(source, 10)]
    assert len(list(history.entries(source, hashes))) == len(list(history.patches(source, hashes))) == len(hashes)


@pytest.mark.parametrize("group", range(len(TRAPS)))
def test_indexing_runs_nothing_that_a_repository_names(tmp_path: Path, root: Path, group: int) -> None:
    with_submodule(root)
    traps = [(trap, plant(root, trap, tmp_path / f"trap{number}")) for number, trap in enumerate(TRAPS[group])]
    shutil.copytree(root, root / "module", dirs_exist_ok=True)  # git asks it for its status, with its own settings
    write_tree(root, {"a.cc": "int changed;\n", "c.dat": "changed\n"})
    for _, mark in traps:
        mark.unlink(missing_ok=True)  # setting the later ones springs the former
    everything_that_indexing_asks(root)
    assert [trap.name for trap, mark in traps if mark.exists()] == []
    for trap, mark in traps:
        if trap.springs:
            git(root, *trap.springs, check=False)
            assert mark.exists(), f"{trap.name} does not work as a trap, so the test shows nothing"


def test_agents_run_nothing_that_a_repository_names(tmp_path: Path, root: Path) -> None:
    with_submodule(root)
    every = [trap for group in TRAPS for trap in group]
    marks = {trap.name: plant(root, trap, tmp_path / f"trap{number}") for number, trap in enumerate(every)}
    for place in (root / "nested", root / "module"):
        shutil.copytree(root, place, dirs_exist_ok=True)
    write_tree(root, {"a.cc": "int changed;\n", ".gitmodules": '[submodule "module"]\npath = module\nurl = ext::sh\n'})
    for mark in marks.values():
        mark.unlink(missing_ok=True)
    everything_that_agents_do(root, tmp_path / "data")
    state = Trees(tmp_path / "data").state(root, changes=True)
    assert [each.path for each in state.submodules] == ["module"]
    assert [name for name, mark in marks.items() if mark.exists()] == []
    for place in (root, root / "module"):
        git(place, "status", check=False)
        assert [name for name, mark in marks.items() if mark.exists()]
        for mark in marks.values():
            mark.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "how", ["remote.origin.uploadpack", "core.sshCommand", "remote.origin.vcs", "credential.helper"]
)
def test_a_clone_with_missing_objects_fetches_nothing(tmp_path: Path, root: Path, how: str) -> None:
    mark = plant(root, Trap("", {how: "PROGRAM"}), tmp_path / "trap")
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", "ssh://127.0.0.1:1/x" if how == "core.sshCommand" else str(tmp_path)),
    ):
        git(root, "config", key, value)
    blob = git(root, "rev-parse", "HEAD:a.cc")
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=False)
    assert "partial clone" in state.notes[0]
    with pytest.raises(TreeStateError, match="cannot be had") as caught, trees.checkout(root, state):
        pass
    assert "git fetch" in caught.value.hint
    assert list((tmp_path / "data").glob("*/checkouts/*")) == []
    everything_that_indexing_asks_without_contents = history.head(root), history.diff(root, "HEAD")
    assert everything_that_indexing_asks_without_contents
    assert not mark.exists()


def test_filters_of_the_users_own_do_not_run_on_what_agents_touch(tmp_path: Path, root: Path, own_home: Path) -> None:
    """They may obey the repository's settings, as those of git-lfs do."""
    mark = plant(root, Trap("", {}, "*.cc filter=mine"), tmp_path / "trap")
    program = tmp_path / "trap" / "program"
    write_tree(own_home, {".gitconfig": f"[filter \"mine\"]\nclean = '{program}'\nsmudge = '{program}'\n"})
    write_tree(root, {"a.cc": "int changed;\n"})
    everything_that_agents_do(root, tmp_path / "data")
    assert not mark.exists()


def test_git_lfs_of_the_users_own_does_not_run_what_a_repository_names(
    tmp_path: Path, root: Path, own_home: Path
) -> None:
    mark = plant(root, Trap("", {"lfs.extension.evil.clean": "PROGRAM"}, "*.cc filter=lfs"), tmp_path / "trap")
    write_tree(tmp_path, {"git-lfs": "#!/bin/sh\n$(git config lfs.extension.evil.clean)\ncat\n"})
    (tmp_path / "git-lfs").chmod(0o755)
    write_tree(own_home, {".gitconfig": f'[filter "lfs"]\nclean = {tmp_path}/git-lfs\n'})
    write_tree(root, {"a.cc": "int changed;\n"})
    everything_that_indexing_asks(root)
    assert not mark.exists()
    git(root, "status")
    git(root, "diff")
    assert mark.exists(), "the trap does not work, so the test shows nothing"


# Repositories that are not what they seem


def _fifo(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(place)


def _elsewhere(root: Path, name: str) -> None:
    """Moves a part of a repository away and leaves a link to it."""
    place = root / ".git" / name
    target = root.parent / "moved"
    place.rename(target)
    place.symlink_to(target)


def _pointer(root: Path, text: str) -> None:
    (root / ".git").rename(root.parent / "moved")
    (root / ".git").write_text(text.replace("MOVED", str(root.parent / "moved")), encoding="utf-8")


ODD: dict[str, Callable[[Path], None]] = {
    "a link for .git": lambda root: _elsewhere(root, ""),
    "a FIFO for .git": lambda root: _fifo(root / ".git"),
    "a pointer that nothing points back to": lambda root: _pointer(root, "gitdir: MOVED\n"),
    "a pointer to nowhere": lambda root: _pointer(root, "gitdir: ../nowhere\n"),
    "a pointer without words": lambda root: _pointer(root, "what\n"),
    "a pointer that is too long": lambda root: _pointer(root, "gitdir: " + "x" * 100_000),
    "another's commondir": lambda root: _write(root, "commondir", str(root.parent)),
    "a FIFO for HEAD": lambda root: _fifo(root / ".git" / "HEAD"),
    "a link for HEAD": lambda root: _elsewhere(root, "HEAD"),
    "a HEAD that leads out": lambda root: _write(root, "HEAD", "ref: ../../../etc/passwd\n"),
    "a HEAD that is an option": lambda root: _write(root, "HEAD", "--upload-pack=x\n"),
    "a link for refs": lambda root: _elsewhere(root, "refs"),
    "a link for branches": lambda root: _elsewhere(root, "refs/heads"),
    "a link for objects": lambda root: _elsewhere(root, "objects"),
    "a FIFO for packed refs": lambda root: _fifo(root / ".git" / "packed-refs"),
    "a FIFO for alternates": lambda root: _fifo(root / ".git" / "objects" / "info" / "alternates"),
    "a FIFO for a pack": lambda root: _fifo(root / ".git" / "objects" / "pack" / "pack-1.idx"),
    "refs in a table": lambda root: (root / ".git" / "reftable").mkdir(),
    "settings that cannot be read": lambda root: _write(root, "config", "[core\n"),
    "objects of another kind": lambda root: _write(root, "config", "[extensions]\nobjectFormat = sha3\n"),
}


def _write(root: Path, name: str, text: str) -> None:
    (root / ".git" / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_a_repository_that_is_not_what_it_seems_is_refused(
    tmp_path: Path, root: Path, odd: Callable[[Path], None]
) -> None:
    odd(root)
    with pytest.raises(TreeStateError) as caught:
        Trees(tmp_path / "data").state(root, changes=True)
    assert caught.value.hint


@pytest.mark.parametrize(
    "name", ["info/exclude", "config", "shallow", "info/attributes", "info/sparse-checkout", "index"]
)
def test_what_else_may_be_a_fifo_is_not_waited_for(tmp_path: Path, root: Path, name: str) -> None:
    _fifo(root / ".git" / name)
    write_tree(root, {"n.cc": "x"})
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=True)
    assert state.changed == ("n.cc",)
    with trees.checkout(root, state) as checkout:
        assert (checkout.folder / "n.cc").exists()


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes"])
def test_a_tree_that_git_waits_for_is_given_up(
    tmp_path: Path, root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.worktrees.git.QUICK_S", 1.0)
    monkeypatch.setattr("agents.worktrees.git.PATIENCE_S", 0.1)
    os.mkfifo(root / "sub" / name)
    write_tree(root, {"sub/n.cc": "x"})
    with pytest.raises(TreeStateError, match="took longer"):
        Trees(tmp_path / "data").state(root, changes=True)


def test_a_tree_cannot_make_the_repository_of_another_its_own(tmp_path: Path, root: Path) -> None:
    """The other's files could be read by whoever may ask about this one."""
    stranger = write_tree(tmp_path / "stranger", {".git": f"gitdir: {root}/.git\n"})
    with pytest.raises(TreeStateError, match="does not lead back"):
        Trees(tmp_path / "data").state(stranger, changes=False)
    git(root, "config", "core.worktree", str(stranger))  # as submodules have it
    assert Trees(tmp_path / "data").state(stranger, changes=False).commit == git(root, "rev-parse", "HEAD", check=False)


def test_a_work_tree_cannot_be_forged_beside_the_repository_that_it_names(tmp_path: Path, root: Path) -> None:
    inner = "fake/worktrees/x"
    stranger = tmp_path / "stranger"
    write_tree(
        stranger,
        {
            ".git": f"gitdir: {inner}\n",
            f"{inner}/commondir": f"{root}/.git\n",
            f"{inner}/gitdir": f"{stranger}/.git\n",
            f"{inner}/HEAD": "ref: refs/heads/main\n",
        },
    )
    assert git(stranger, "show", "HEAD:a.cc") == "int a;", "git itself is not deceived, so the test shows nothing"
    with pytest.raises(TreeStateError, match="does not know"):
        Trees(tmp_path / "data").state(stranger, changes=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_repository_that_a_stranger_put_above_a_tree_does_not_count(tmp_path: Path, root: Path) -> None:
    os.chown(root / ".git", 12_345, 12_345)
    assert not Trees(tmp_path / "data").state(root / "sub", changes=True).versioned
    os.chown(root / "sub", 12_345, 12_345)
    assert Trees(tmp_path / "data").state(root / "sub", changes=True).versioned


def test_a_work_tree_that_names_another_place_is_still_the_folder_it_lies_in(tmp_path: Path, root: Path) -> None:
    outside = write_tree(tmp_path / "outside", {"a.cc": "int secret;\n"})
    git(root, "config", "core.worktree", str(outside))
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=True)
    assert state.changed == ()
    with trees.checkout(root, state) as checkout:
        assert (checkout.folder / "a.cc").read_text(encoding="utf-8") == "int a;\n"


def link_to(root: Path, *paths: str) -> None:
    """Commits links to the first commit as submodules at paths, whatever git would say of them."""
    commit = git(root, "rev-parse", "HEAD")
    tree: dict[str, object] = {}
    for path in paths:
        *above, name = path.split("/")
        folder = tree
        for part in above:
            folder = folder.setdefault(part, {})  # type: ignore[assignment] # it holds folders of its own kind
        folder[name] = f"160000 commit {commit}"
    head = git(root, "commit-tree", _made(root, tree, git(root, "ls-tree", "HEAD")), "-p", "HEAD", "-m", "Links")
    git(root, "update-ref", "HEAD", head)


def _made(root: Path, tree: dict[str, object], beside: str = "") -> str:
    lines = [beside] if beside else []
    lines += [
        f"040000 tree {_made(root, entry)}\t{name}" if isinstance(entry, dict) else f"{entry}\t{name}"
        for name, entry in tree.items()
    ]
    given = "\n".join(lines) + "\n"
    made = subprocess.run(
        ["git", "-C", str(root), "mktree", "--missing"], input=given, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


def test_a_submodule_that_is_not_what_it_seems_is_left_out_and_told(tmp_path: Path, root: Path) -> None:
    places = {f"odd/{number}/module": odd for number, odd in enumerate(ODD.values())}
    link_to(root, *places)
    for path, odd in places.items():
        shutil.copytree(root, root / path, ignore=shutil.ignore_patterns("odd"))
        odd(root / path)
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=False)
    assert state.submodules == ()
    assert {path for path, _ in state.left_out} == places.keys()
    assert all("not what it seems" in why for _, why in state.left_out)
    with trees.checkout(root, state) as checkout:
        assert [path for path in (checkout.folder / "odd").rglob("*") if not path.is_dir()] == []


def test_a_submodule_that_leads_to_another_place_of_the_machine_is_left_out(tmp_path: Path, root: Path) -> None:
    """What lies there could be read by whoever may ask about this tree."""
    other = Path(shutil.copytree(root, tmp_path / "other", symlinks=True))
    write_tree(other, {"secret.cc": "int secret;\n"})
    git(other, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    link_to(root, "link", "sub/up", "pointer", "linked", "below/module", "empty")
    (root / "link").symlink_to(other)
    (root / "sub" / "up").symlink_to("../../other")
    (root / "below").symlink_to(tmp_path)
    (tmp_path / "module").symlink_to(other)
    write_tree(root, {"pointer/.git": f"gitdir: {other}/.git\n", "empty/.git/description": "git looks above it\n"})
    shutil.copytree(tmp_path / "linked", root / "linked")
    trees = Trees(tmp_path / "data")
    for with_changes in (False, True):
        state = trees.state(root, changes=with_changes)
        assert state.submodules == ()
        assert {"linked", "pointer", "empty"} <= {path for path, _ in state.left_out}
        with trees.checkout(root, state) as checkout:
            assert not list(checkout.folder.rglob("*.cc*"))[2:], "only those of the tree itself"
            assert not any(path.is_symlink() for path in checkout.folder.rglob("*"))


def test_a_submodule_at_a_name_of_gits_own_is_not_looked_for(tmp_path: Path, root: Path) -> None:
    names = [".git/x", ".GIT/x", "git~1/x", "../x", "sub2/../../x", ".git\u200c/x", ".git /x", "./x"]
    link_to(root, *names)
    for name in names:
        shutil.copytree(root, root / name, ignore=shutil.ignore_patterns("x", ".git?*", "git~1"), dirs_exist_ok=True)
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=False)
    assert state.submodules == ()
    assert {why for _, why in state.left_out} == {"a submodule with a name that no folder should have"}
    assert len(state.left_out) == len(names)
    with pytest.raises(TreeStateError, match="cannot be had"), trees.checkout(root, state):
        pass


def test_submodules_ten_deep_in_each_other_are_taken_as_far_as_the_bound(tmp_path: Path, root: Path) -> None:
    place = root
    link_to(root, "m")
    for _ in range(10):
        shutil.copytree(place, place / "m", ignore=shutil.ignore_patterns("m"))
        place /= "m"
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=True)
    deepest = "/".join("m" * 8)
    assert [each.path for each in state.submodules] == ["/".join("m" * depth) for depth in range(1, 9)]
    assert state.left_out == ((f"{deepest}/m", "submodules in each other, more than 8 deep"),)
    with trees.checkout(root, state) as checkout:
        assert (checkout.folder / deepest / "a.cc").exists()
        assert list((checkout.folder / deepest / "m").iterdir()) == []


def test_a_submodule_that_is_the_tree_itself_comes_to_an_end(tmp_path: Path, root: Path) -> None:
    link_to(root, "m")
    write_tree(root, {"m/.git": "gitdir: ../.git\n", "m/m/.git": "gitdir: ../../.git\n"})
    git(root, "config", "core.worktree", "../m")
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=True)
    assert [each.path for each in state.submodules] == ["m"]
    assert [path for path, _ in state.left_out] == ["m/m"]


def test_files_of_a_submodule_are_never_written_through_a_link_in_the_copy(tmp_path: Path, root: Path) -> None:
    """A tree can hold two entries of one name; whichever git checks out, nothing is written beyond the copy."""
    outside = tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    link_to(root, "m/x")
    shutil.copytree(root, root / "m" / "x", ignore=shutil.ignore_patterns("m"))
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=False)
    assert [each.path for each in state.submodules] == ["m/x"]
    inner = git(root, "rev-parse", "HEAD:m")
    blob = subprocess.run(
        ["git", "-C", str(root), "hash-object", "-w", "--stdin"],
        input=str(outside).encode(),
        capture_output=True,
        check=True,
    )
    link = bytes.fromhex(blob.stdout.decode())
    for entries in (
        (b"120000", link, b"40000", bytes.fromhex(inner)),
        (b"40000", bytes.fromhex(inner), b"120000", link),
    ):
        data = b"%b m\0%b%b m\0%b" % entries
        made = subprocess.run(
            ["git", "-C", str(root), "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
            input=data,
            capture_output=True,
            check=True,
        )
        evil = git(root, "commit-tree", made.stdout.decode().strip(), "-m", "Evil")
        git(root, "update-ref", "refs/heads/evil", evil)
        with suppress(TreeStateError), trees.checkout(root, trees.state(root, changes=False, revision="evil")):
            pass
        assert list((outside / "x").iterdir()) == []
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "m").symlink_to(outside)
    put = Submodules(root, trees._own, "").put
    with pytest.raises(TreeStateError, match="its place in the copy is none"):
        put(copy, tmp_path / "index", state.submodules)
    assert list((outside / "x").iterdir()) == []


def test_a_submodule_whose_commit_holds_hostile_paths_is_not_checked_out(tmp_path: Path, root: Path) -> None:
    inner = Path(shutil.copytree(root, root / "m"))
    link_to(inner, ".git/hooks/x")
    evil = git(inner, "rev-parse", "HEAD")
    tree = git(root, "ls-tree", "HEAD") + f"\n160000 commit {evil}\tm\n"
    made = subprocess.run(["git", "-C", str(root), "mktree"], input=tree, capture_output=True, text=True, check=True)
    git(root, "update-ref", "HEAD", git(root, "commit-tree", made.stdout.strip(), "-m", "Evil"))
    trees = Trees(tmp_path / "data")
    with pytest.raises(TreeStateError, match="submodule m"):
        trees.state(root, changes=True)
    state = trees.state(root, changes=False)
    with pytest.raises(TreeStateError, match=r"submodule m .* cannot be had"), trees.checkout(root, state):
        pass
    assert not list((tmp_path / "data").rglob("x"))


@pytest.mark.parametrize("path", [".git/hooks/x", ".GIT/config", "git~1/config", "../x", "sub/../../x", ".git\u200c/x"])
def test_a_commit_that_holds_hostile_paths_is_not_checked_out(tmp_path: Path, root: Path, path: str) -> None:
    blob = git(root, "rev-parse", "HEAD:a.cc")
    tree = f"100644 blob {blob}"
    for name in reversed(path.split("/")):
        made = subprocess.run(
            ["git", "-C", str(root), "mktree"], input=f"{tree}\t{name}\n", capture_output=True, text=True, check=True
        )
        tree = f"040000 tree {made.stdout.strip()}"
    commit = git(root, "commit-tree", tree.split()[-1], "-m", "Evil")
    git(root, "update-ref", "refs/heads/evil", commit)
    trees = Trees(tmp_path / "data")
    state = trees.state(root, changes=False, revision="evil")
    with pytest.raises(TreeStateError, match="cannot be had"), trees.checkout(root, state):
        pass
    assert not list((tmp_path / "data").rglob("x"))


def test_what_a_program_in_a_copy_leaves_behind_is_not_obeyed(tmp_path: Path, root: Path) -> None:
    trees = Trees(tmp_path / "data")
    with trees.checkout(root, trees.state(root, changes=False), PATCH) as checkout:
        (checkout.folder / ".git").unlink()
        shutil.copytree(root / ".git", checkout.folder / ".git")
        mark = plant(checkout.folder, TRAPS[0][0], tmp_path / "trap")
        assert trees.diff(checkout)
        trees.sweep()
    assert not mark.exists()
    assert not checkout.folder.exists()
