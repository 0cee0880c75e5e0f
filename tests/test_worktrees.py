"""Throw-away copies of a tree, and branches written by patches: what they hold, and that the tree stays as it is."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import PatchError, TreeStateError
from agents.worktrees import Trees, changes
from agents.worktrees.git import Git, GitFailed
from agents.worktrees.own import Own, folders
from agents.worktrees.removing import remove
from tests.support.trees import write_tree

PATCH = "--- a/a.cc\n+++ b/a.cc\n@@ -1,3 +1,3 @@\n int a;\n-int b;\n+int bee;\n int c;\n"
SUB_PATCH = "--- a/b.cc\n+++ b/b.cc\n@@ -1 +1 @@\n-int inner;\n+int other;\n"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Git settings of whoever runs the tests do not count."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    return home


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def repository_at(root: Path) -> Path:
    write_tree(root, {"a.cc": "int a;\nint b;\nint c;\n", "sub/b.cc": "int inner;\n", ".gitignore": "build/\n*.o\n"})
    git(root, "init", "--quiet", "--template=", "--initial-branch=main")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "First")
    return root


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository_at(tmp_path_factory.mktemp("template") / "tree")


@pytest.fixture
def root(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "tree", symlinks=True))


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path / "data")


def files(folder: Path) -> dict[str, str]:
    """What stands in a folder, without git's part: contents, or where links lead."""
    return {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}" if path.is_symlink() else path.read_text("utf-8")
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.relative_to(folder).parts[0] != ".git"
    }


def everything(folder: Path) -> dict[str, tuple[object, ...]]:
    """Each entry of a folder with all that could be changed of it.

    Git renews the time of an object that it meets again, so that none is thrown away which something new needs.
    """
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        time_ns = 0 if "objects" in path.parts else status.st_mtime_ns
        found[path.relative_to(folder).as_posix()] = (status.st_mode, time_ns, data)
    return found


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    before = everything(folder)
    yield
    assert everything(folder) == before


def left_behind(tmp_path: Path) -> list[Path]:
    data = tmp_path / "data"
    return [place for own in folders(data) for place in (own / "checkouts").iterdir()] + [
        place for own in folders(data) for place in folders(own / "repository.git" / "worktrees")
    ]


# States


def test_a_state_without_changes_is_the_commit(root: Path, trees: Trees) -> None:
    write_tree(root, {"a.cc": "int changed;\n"})
    with untouched(root):
        state = trees.state(root, changes=False)
    assert state.commit == git(root, "rev-parse", "HEAD")
    assert state.tree == git(root, "rev-parse", "HEAD^{tree}")
    assert (state.digest, state.changed, state.versioned) == ("", (), True)
    with trees.checkout(root, state) as checkout:
        assert files(checkout.folder)["a.cc"] == "int a;\nint b;\nint c;\n"


def test_local_changes_are_part_of_a_state_and_ignored_files_are_not(root: Path, trees: Trees) -> None:
    assert trees.state(root, changes=True).digest == ""
    write_tree(root, {"a.cc": "int changed;\n", "new/n.cc": "int n;\n", "build/x.txt": "x", "a.o": "x"})
    (root / "sub" / "b.cc").unlink()
    (root / "inner").symlink_to("a.cc")
    with untouched(root):
        state = trees.state(root, changes=True)
        with trees.checkout(root, state) as checkout:
            found = files(checkout.folder)
    assert state.changed == ("a.cc", "inner", "new/n.cc", "sub/b.cc")
    assert found == {
        ".gitignore": "build/\n*.o\n",
        "a.cc": "int changed;\n",
        "new/n.cc": "int n;\n",
        "inner": "-> a.cc",
    }
    assert state.digest == trees.state(root, changes=True).digest
    write_tree(root, {"a.cc": "int changed again;\n"})
    assert trees.state(root, changes=True).digest != state.digest


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["a.cc", "sub/b.cc", "sub/c.cc", "d/e/f.cc", "sub", "with space.h", "\u00e9.cc", "new\nline"]),
        st.sampled_from(["write", "delete", "link", "folder", "run"]),
        st.text("ab\n\r", max_size=5),
    ),
    max_size=8,
)


@settings(max_examples=6)
@given(edits=EDITS)
def test_a_checkout_of_local_changes_is_the_tree(
    tmp_path_factory: pytest.TempPathFactory, template: Path, edits: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    root, trees = Path(shutil.copytree(template, folder / "tree")), Trees(folder / "data")
    for rounds in (edits[:4], edits[4:]):
        for path, edit, text in rounds:
            _edit(root / path, edit, text)
        with trees.checkout(root, trees.state(root, changes=True)) as checkout:
            assert files(checkout.folder) == files(root)
            for path in files(root):
                assert os.access(checkout.folder / path, os.X_OK) == os.access(root / path, os.X_OK)


def _edit(place: Path, edit: str, text: str) -> None:
    if edit == "run" and place.is_file():
        place.chmod(0o755)
        return
    for above in (place.parent.parent, place.parent):
        if above.is_symlink() or above.is_file():
            above.unlink()
        above.mkdir(exist_ok=True)
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
    if edit == "write":
        place.write_text(text, "utf-8", newline="")
    elif edit == "link":
        place.symlink_to("nowhere")
    elif edit == "folder":
        place.mkdir()


def test_what_indexing_would_not_read_is_left_out_and_told(
    root: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_FILE_BYTES", 100)
    write_tree(root, {"a.cc": "x" * 101, "big.cc": "x" * 101, "small.cc": "x" * 100, "id_rsa": "x", ".env": "x"})
    (root / "out").symlink_to("/etc/passwd")
    (root / "sub" / "up").symlink_to("../../outside")
    os.mkfifo(root / "pipe")
    repository_at(root / "nested")
    with untouched(root):
        state = trees.state(root, changes=True)
    assert state.changed == ("small.cc",)
    assert dict(state.left_out) == {
        ".env": "holds secrets (by its name)",
        "a.cc": "larger than 0 MiB",
        "big.cc": "larger than 0 MiB",
        "id_rsa": "holds secrets (by its name)",
        "nested/": "a repository of its own",
        "out": "a link that leads out of the tree",
        "sub/up": "a link that leads out of the tree",
    } | ({"pipe": "not a regular file"} if "pipe" in dict(state.left_out) else {})


def test_too_many_changes_are_refused_with_a_way_out(root: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_CHANGED_FILES", 2)
    write_tree(root, {f"{number}.cc": "" for number in range(3)})
    with pytest.raises(TreeStateError, match="3 files") as caught:
        trees.state(root, changes=True)
    assert ".gitignore" in caught.value.hint


def test_what_the_user_ignores_everywhere_is_ignored_here(root: Path, trees: Trees, own_home: Path) -> None:
    write_tree(root, {"notes.mine": "x", "x.swp": "x", "local.txt": "x"})
    write_tree(own_home, {".gitconfig": "[core]\nexcludesFile = ~/mine\n", "mine": "*.mine\n"})
    write_tree(root, {".git/info/exclude": "local.txt\n"})
    assert trees.state(root, changes=True).changed == ("x.swp",)
    (own_home / ".gitconfig").unlink()
    write_tree(own_home, {".config/git/ignore": "*.swp\n"})
    assert trees.state(root, changes=True).changed == ("notes.mine",)


def test_another_revision_can_be_had_but_local_changes_belong_to_the_one_that_is_checked_out(
    root: Path, trees: Trees
) -> None:
    first = git(root, "rev-parse", "HEAD")
    git(root, "tag", "--annotate", "--message", "one", "v1.0")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "Second")
    assert trees.state(root, changes=False, revision="v1.0").commit == first
    assert trees.state(root, changes=False, revision="main~1").commit == first
    assert trees.state(root, changes=True, revision="main").commit == git(root, "rev-parse", "HEAD")
    with pytest.raises(TreeStateError, match="belong to the commit"):
        trees.state(root, changes=True, revision="v1.0")
    for odd in (
        "nothing",
        "--all",
        "--output=x",
        "",
        "a\nb",
        "HEAD\0",
        ":/First\n",
        "x" * 1000,
        "HEAD:a.cc",
        "v1.0^{tree}",
    ):
        with pytest.raises(TreeStateError, match="There is no commit"):
            trees.state(root, changes=False, revision=odd)
    assert not (root / "x").exists()


def test_a_folder_of_a_repository_is_a_tree_of_its_own(root: Path, trees: Trees) -> None:
    write_tree(root, {"sub/.gitignore": "*.tmp\n", "sub/x.tmp": "", "sub/y.o": "", "sub/n.cc": "n", "beside.cc": "x"})
    state = trees.state(root / "sub", changes=True)
    assert state.changed == (".gitignore", "n.cc")
    assert state.commit == git(root, "rev-parse", "HEAD")
    with trees.checkout(root / "sub", state, SUB_PATCH) as checkout:
        assert files(checkout.folder) == {".gitignore": "*.tmp\n", "b.cc": "int other;\n", "n.cc": "n"}
        assert checkout.readable == ()  # git's objects would show what lies beside
        assert not (checkout.folder / ".git").exists()
    commit = trees.write_branch(root / "sub", state, SUB_PATCH, "fix", "Rename it")
    assert git(root, "show", "--name-only", "--format=", commit) == "sub/b.cc"
    assert git(root, "show", f"{commit}:sub/b.cc") == "int other;"


def test_a_tree_without_git_or_without_a_commit_is_taken_as_it_is(tmp_path: Path, trees: Trees) -> None:
    root = write_tree(tmp_path / "plain", {"a.cc": "int a;\n", "x.o": "", ".gitignore": "*.o\n", "id_rsa": "x"})
    for _ in ("without git", "without a commit"):
        with untouched(root):
            state = trees.state(root, changes=True)
            assert (state.versioned, state.left_out) == (False, (("id_rsa", "holds secrets (by its name)"),))
            with trees.checkout(root, state) as checkout:
                assert files(checkout.folder) == {"a.cc": "int a;\n", ".gitignore": "*.o\n"}
        with pytest.raises(TreeStateError, match="no repository to write to"):
            trees.write_branch(root, state, PATCH, "fix", "Fix it")
        assert trees.state(root, changes=True) == state
        git(root, "init", "--quiet")
    write_tree(root, {"a.cc": "int other;\n", ".gitignore": "*.o\n*.h\n", "b.h": ""})
    (root / "id_rsa").unlink()
    changed = trees.state(root, changes=True)
    assert changed.commit != state.commit
    with trees.checkout(root, changed) as checkout:
        assert files(checkout.folder) == {"a.cc": "int other;\n", ".gitignore": "*.o\n*.h\n"}


@pytest.mark.parametrize("kind", ["linked", "submodule", "shallow", "shared", "sha256", "sparse", "partial"])
def test_every_kind_of_repository_gives_its_state(tmp_path: Path, root: Path, trees: Trees, kind: str) -> None:
    other = tmp_path / "other"
    if kind == "linked":
        git(root, "worktree", "add", "--quiet", "-b", "side", str(other))
    elif kind == "submodule":
        repository_at(tmp_path / "outer")
        git(tmp_path / "outer", "submodule", "--quiet", "add", str(root), "inner")
        other = tmp_path / "outer" / "inner"
    elif kind == "sha256":
        shutil.rmtree(root / ".git")
        git(root, "init", "--quiet", "--object-format=sha256")
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", "First")
        other = root
    else:
        git(root, "commit", "--quiet", "--allow-empty", "--message", "Second")
        git(root, "config", "uploadpack.allowFilter", "true")
        how = {
            "shallow": ("--depth=1", f"file://{root}"),
            "shared": ("--shared", str(root)),
            "sparse": ("--sparse", f"file://{root}"),
            "partial": ("--filter=blob:none", f"file://{root}"),
        }[kind]
        git(tmp_path, "clone", "--quiet", *how, "other")
    with untouched(other):
        clean = trees.state(other, changes=True)
        assert (clean.changed, clean.commit) == ((), git(other, "rev-parse", "HEAD"))
    write_tree(other, {"new.cc": "int n;\n"})
    state = trees.state(other, changes=True)
    assert state.changed == ("new.cc",)
    assert (kind == "partial") is ("partial clone" in " ".join(state.notes))
    assert (kind == "sparse") is ("sparse" in " ".join(state.notes))
    if kind != "partial":
        with trees.checkout(other, state, PATCH) as checkout:
            assert files(checkout.folder).keys() == {".gitignore", "a.cc", "new.cc", "sub/b.cc"}
            assert git(checkout.folder, "log", "--format=%s", "-1") in {"First", "Second"}
        commit = trees.write_branch(other, state, PATCH, "fix", "Fix it")
        assert git(other, "rev-parse", "fix") == commit
        git(other, "fsck", "--strict")


# Checkouts


def test_a_patch_is_applied_and_told_and_what_runs_in_the_copy_cannot_change_that(root: Path, trees: Trees) -> None:
    state = trees.state(root, changes=False)
    with untouched(root), trees.checkout(root, state, PATCH) as checkout:
        assert files(checkout.folder)["a.cc"] == "int a;\nint bee;\nint c;\n"
        write_tree(checkout.folder, {"a.cc": "int forged;\n", "artefact": "x"})
        (checkout.folder / ".git").write_text(f"gitdir: {root}/.git\n", encoding="utf-8")
        told = trees.diff(checkout)
        assert told.startswith("diff --git a/a.cc b/a.cc\n")
        assert told.endswith("@@ -1,3 +1,3 @@\n int a;\n-int b;\n+int bee;\n int c;\n")
        assert checkout.patch is not None
        assert [file.path for file in checkout.patch.files] == ["a.cc"]
    assert not checkout.folder.exists()


@pytest.mark.parametrize(
    ("patch", "because"),
    [
        (PATCH.replace("int c;", "int z;"), "does not fit: patch failed: a.cc:1"),
        (PATCH.replace("a.cc", "missing.cc"), "missing.cc: does not exist"),
        ("--- /dev/null\n+++ b/a.cc\n@@ -0,0 +1 @@\n+x\n", "a.cc: already exists"),
        ("--- /dev/null\n+++ b/link/x\n@@ -0,0 +1 @@\n+x\n", "link"),
        ("--- a/link\n+++ b/link\n@@ -1 +1 @@\n-sub\n+etc\n", "link"),
        ("diff --git a/link b/l\nrename from link\nrename to l\n", "does more"),
        ("diff --git a/run.sh b/walk.sh\nrename from run.sh\nrename to walk.sh\n", ""),
    ],
)
def test_a_patch_that_does_not_fit_leaves_nothing(
    tmp_path: Path, root: Path, trees: Trees, patch: str, because: str
) -> None:
    (root / "link").symlink_to("sub")
    write_tree(root, {"run.sh": "true\n"})
    (root / "run.sh").chmod(0o755)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "Links")
    state = trees.state(root, changes=False)
    with untouched(root):
        for attempt in (lambda: trees.checkout(root, state, patch).__enter__(), lambda: write(trees, root, patch)):
            if because:
                with pytest.raises(PatchError, match=because):
                    attempt()
    if not because:
        with trees.checkout(root, state, patch) as checkout:
            assert (checkout.folder / "walk.sh").stat().st_mode & 0o111
    assert left_behind(tmp_path) == []


def write(trees: Trees, root: Path, patch: str = PATCH, branch: str = "fix") -> str:
    return trees.write_branch(root, trees.state(root, changes=False), patch, branch, "Fix it")


def test_git_works_in_a_copy_and_knows_the_tags(root: Path, trees: Trees) -> None:
    git(root, "tag", "--annotate", "--message", "one", "v1.0")
    git(root, "tag", "light")
    with trees.checkout(root, trees.state(root, changes=False)) as checkout:
        assert git(checkout.folder, "describe") == "v1.0"
        assert git(checkout.folder, "describe", "--tags", "--match", "light") == "light"
        assert git(checkout.folder, "status", "--porcelain") == ""
        assert git(checkout.folder, "log", "--format=%s") == "First"
        assert git(checkout.folder, "config", "--get", "core.hooksPath") == "/dev/null"
        assert all(place.is_dir() for place in checkout.readable)
        assert root / ".git" not in checkout.readable  # its settings may hold passwords


def test_two_copies_at_once_do_not_see_each_other(tmp_path: Path, root: Path, trees: Trees) -> None:
    state = trees.state(root, changes=False)

    def one(number: int) -> str:
        patch = PATCH.replace("bee", f"bee{number}")
        with Trees(tmp_path / "data").checkout(root, trees.state(root, changes=True), patch) as checkout:
            trees.sweep()
            write_tree(checkout.folder, {"mine": str(number)})
            assert trees.state(root, changes=True) == state
            return files(checkout.folder)["a.cc"] + files(checkout.folder)["mine"]

    with untouched(root), ThreadPoolExecutor(3) as pool:
        found = list(pool.map(one, range(4)))
    assert found == [f"int a;\nint bee{number};\nint c;\n{number}" for number in range(4)]
    assert left_behind(tmp_path) == []


def test_what_a_killed_process_leaves_is_swept_and_what_is_in_use_stays(
    tmp_path: Path, root: Path, trees: Trees
) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from agents.worktrees import Trees\n"
        "trees, root = Trees(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "with trees.checkout(root, trees.state(root, False)) as checkout:\n"
        "    os.mkdir(checkout.folder / 'closed', 0o500)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data"), str(root)], timeout=60, check=False, capture_output=True
    )
    assert done.returncode == -9, done.stderr
    (left,) = [place for place in left_behind(tmp_path) if (place / "closed").exists()]
    with trees.checkout(root, trees.state(root, changes=False)) as checkout:
        trees.sweep()
        assert not left.exists()
        assert files(checkout.folder)["a.cc"]
    trees.sweep()
    assert left_behind(tmp_path) == []


def test_a_lock_that_a_killed_git_has_left_does_not_stop_anything(root: Path, trees: Trees, tmp_path: Path) -> None:
    state = trees.state(root, changes=True)
    (own,) = (Own(folder) for folder in folders(tmp_path / "data"))
    own.index.with_name(own.index.name + ".lock").touch()
    own.folder.joinpath("branch.index.lock").touch()
    assert trees.state(root, changes=True) == state
    assert write(trees, root)


def test_objects_that_nothing_asks_for_are_forgotten_and_states_are_had_again(root: Path, tmp_path: Path) -> None:
    now = [root.stat().st_mtime]
    trees = Trees(tmp_path / "data", clock=lambda: now[0])
    write_tree(root, {"a.cc": "int changed;\n"})
    state = trees.state(root, changes=True)
    now[0] += 3_600
    trees.sweep()
    with trees.checkout(root, state):
        pass
    now[0] += 3 * 86_400
    trees.sweep()
    with pytest.raises(TreeStateError, match="cannot be had"), trees.checkout(root, state):
        pass
    again = trees.state(root, changes=True)
    assert again == state
    with trees.checkout(root, again) as checkout:
        assert files(checkout.folder)["a.cc"] == "int changed;\n"
        now[0] += 40 * 86_400
        trees.sweep()
        assert checkout.folder.exists()
    trees.sweep()
    assert folders(tmp_path / "data") == []
    assert trees.state(root, changes=True) == state


# Removal


def test_removal_follows_nothing_and_stops_at_nothing(tmp_path: Path) -> None:
    outside = write_tree(tmp_path / "outside", {"kept": "x", "deep/kept": "x"})
    folder = write_tree(tmp_path / "own" / "copy", {"a/b/c": "x", "a/d": "x"})
    (folder / "a" / "link").symlink_to(outside)
    (folder / "file link").symlink_to(outside / "kept")
    os.link(outside / "kept", folder / "hard")
    os.mkfifo(folder / "pipe")
    for place in (folder / "a" / "b", folder / "a"):
        place.chmod(0)
    below = os.open(folder, os.O_RDONLY)
    for _ in range(30):  # longer than any path may be
        os.mkdir("deeper" * 30, dir_fd=below)
        inner = os.open("deeper" * 30, os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = inner
    os.close(below)
    before = everything(outside)
    remove(folder)
    assert list((tmp_path / "own").iterdir()) == []
    assert {name: facts[2] for name, facts in everything(outside).items()} == {
        name: facts[2] for name, facts in before.items()
    }
    remove(folder)  # nothing there, nothing done
    folder.symlink_to(outside)
    remove(folder)
    assert (outside / "kept").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="folders are never closed to root")
def test_folders_that_may_not_be_written_are_removed_too(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "copy", {"a/b/c": "x"})
    for place in (folder / "a" / "b", folder / "a", folder):
        place.chmod(0)
    remove(folder)
    assert not folder.exists()


# Branches


def test_a_branch_is_made_and_moved_forward_and_nothing_else_of_the_tree_changes(root: Path, trees: Trees) -> None:
    write_tree(root, {"local.cc": "x", "a.cc": "int a;\nint b;\nint c;\n// mine\n"})
    git(root, "stash", "push", "--quiet", "--", "a.cc")
    before = everything(root)
    state = trees.state(root, changes=True)
    commit = trees.write_branch(root, state, PATCH, "agents/fix", "Name it\n\nBecause.", "Ann <ann@example.org>")
    after = everything(root)
    new = {name for name in after.keys() - before.keys() if not (root / name).is_dir()}
    assert new == {".git/refs/heads/agents/fix", *(name for name in new if name.startswith(".git/objects/"))}
    assert {name for name in before if before[name] != after[name] and not (root / name).is_dir()} == set()
    assert git(root, "log", "-1", "--format=%an|%ae|%cn|%P|%s|%b", commit) == (
        f"Ann|ann@example.org|codehub|{state.commit}|Name it|Because."
    )
    assert git(root, "show", "--name-only", "--format=", commit) == "a.cc"  # local changes are no part of it
    git(root, "fsck", "--strict")
    git(root, "checkout", "--quiet", "--force", commit)
    second = trees.write_branch(
        root,
        trees.state(root, changes=False),
        PATCH.replace("bee", "B").replace("int b;", "int bee;"),
        "agents/fix",
        "x",
    )
    assert git(root, "rev-parse", "agents/fix~1") == commit
    assert second == git(root, "rev-parse", "agents/fix")


def test_a_branch_never_loses_a_commit_and_none_that_is_worked_on_is_written(
    tmp_path: Path, root: Path, trees: Trees
) -> None:
    first = write(trees, root)
    git(root, "worktree", "add", "--quiet", str(tmp_path / "linked"), "-b", "side")
    (root / ".git" / "rebase-merge").mkdir()
    (root / ".git" / "rebase-merge" / "head-name").write_text("refs/heads/rebased\n", encoding="utf-8")
    git(root, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    with untouched(root):
        for branch, because in (
            ("fix", "would be lost"),
            ("main", "checked out"),
            ("MAIN", "checked out"),
            ("side", "checked out in its work tree linked"),
            ("rebased", "checked out"),
            ("alias", "stands for another"),
            ("fix/below", "shorter name"),
        ):
            with pytest.raises(TreeStateError, match=because):
                write(trees, root, PATCH.replace("bee", "bumble"), branch)
    assert git(root, "rev-parse", "fix") == first


def test_a_name_that_is_none_for_a_branch_is_refused(root: Path, trees: Trees) -> None:
    state = trees.state(root, changes=False)
    with untouched(root):
        for branch in (
            *(
                "",
                "-x",
                "--force",
                "HEAD",
                "a..b",
                "a.lock",
                "a/.b",
                "a b",
                "a~1",
                "a^",
                "a:b",
                "a\\b",
                "a?",
                "a*",
                "a[b",
            ),
            *(
                "@",
                "@{-1}",
                "a@{1}",
                "/a",
                "a/",
                "a//b",
                "x" * 300,
                "a\n",
                "\u00e9",
                "a.",
                "refs/heads/refs/../x",
                "a.LOCK/b",
            ),
        ):
            with pytest.raises(TreeStateError, match="is no name for a branch"):
                trees.write_branch(root, state, PATCH, branch, "x")


def test_a_branch_that_was_moved_meanwhile_is_left_alone(root: Path, trees: Trees, tmp_path: Path) -> None:
    from agents.worktrees.branches import publish
    from agents.worktrees.origin import find

    commit = write(trees, root, branch="one")
    (own,) = (Own(folder) for folder in folders(tmp_path / "data"))
    origin = find(root)
    assert origin
    head = git(root, "rev-parse", "HEAD")
    with pytest.raises(TreeStateError, match="cannot be written"):
        publish(own, origin, "refs/heads/one", commit, head, "")  # it was not there when it was looked for
    with pytest.raises(TreeStateError, match="cannot be written"):
        publish(own, origin, "refs/heads/two", commit, head, head)
    assert git(root, "rev-parse", "one") == commit


def test_a_commit_needs_a_message_and_names_are_made_harmless(root: Path, trees: Trees) -> None:
    state = trees.state(root, changes=False)
    with pytest.raises(TreeStateError, match="no message"):
        trees.write_branch(root, state, PATCH, "fix", " \u200b\n")
    author = "A\nCommitter: evil <x> <a@b\nx>"
    commit = trees.write_branch(root, state, PATCH, "fix", "See\u202e\x1b[31m this\r\n", author)
    assert git(root, "log", "-1", "--format=%an|%cn|%s", commit) == "codehub|codehub|See[31m this"


def test_a_patch_that_fits_local_changes_only_is_not_written_and_the_way_out_is_told(root: Path, trees: Trees) -> None:
    write_tree(root, {"a.cc": "int a;\nint q;\nint c;\n"})
    patch = PATCH.replace("int b;", "int q;")
    state = trees.state(root, changes=True)
    with trees.checkout(root, state, patch) as checkout:
        assert files(checkout.folder)["a.cc"] == "int a;\nint bee;\nint c;\n"
    with pytest.raises(PatchError, match="does not fit") as caught:
        trees.write_branch(root, state, patch, "other", "x")
    assert "commit them first" in caught.value.hint


@pytest.mark.parametrize("where", ["refs/heads/agents", "refs/heads/agents/fix", "logs/refs/heads/agents/fix", "logs"])
def test_a_link_on_the_way_to_a_branch_is_not_followed(tmp_path: Path, root: Path, trees: Trees, where: str) -> None:
    outside = write_tree(tmp_path / "outside", {"file": "as it was\n"})
    place = root / ".git" / where
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.symlink_to(outside / "file" if where.endswith("fix") else outside)
    with untouched(outside), pytest.raises(TreeStateError, match="is a link"):
        write(trees, root, branch="agents/fix")


def test_an_object_folder_that_is_a_link_is_not_followed(tmp_path: Path, root: Path, trees: Trees) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(256):
        place = root / ".git" / "objects" / f"{number:02x}"
        if not place.exists():
            place.symlink_to(outside)
    with pytest.raises(TreeStateError, match="cannot be written"):
        write(trees, root)
    assert list(outside.iterdir()) == []
    with pytest.raises(subprocess.CalledProcessError):
        git(root, "rev-parse", "--verify", "fix")


# Git itself


@contextmanager
def instead_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Iterator[None]:
    folder = write_tree(tmp_path / "programs", {"git": f"#!/bin/sh\n{script}\n"})
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    yield


def test_git_that_hangs_is_ended_with_whatever_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"trap '' TERM\nsleep 1000 &\necho $! > {tmp_path}/child\nsleep 1000"
    monkeypatch.setattr("agents.worktrees.git.PATIENCE_S", 0.1)
    with instead_of_git(tmp_path, monkeypatch, script), pytest.raises(TreeStateError, match="took longer"):
        Git(tmp_path).run("status", within_s=0.5)
    child = int((tmp_path / "child").read_text())
    assert is_over(child)


def is_over(process: int) -> bool:
    """Whether a process ends in time; that nobody has taken note of its end yet does not count."""
    try:
        told = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    with os.fdopen(told) as end:
        return bool(select([end], [], [], 30)[0])


def test_what_git_leaves_behind_when_it_ends_itself_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"sleep 1000 &\necho $! > {tmp_path}/child\nexit 0"
    monkeypatch.setattr("agents.worktrees.git.PATIENCE_S", 0.1)
    with instead_of_git(tmp_path, monkeypatch, script), pytest.raises(TreeStateError, match="took longer"):
        Git(tmp_path).run("status", within_s=0.5)
    assert is_over(int((tmp_path / "child").read_text()))


def test_git_that_never_stops_talking_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with instead_of_git(tmp_path, monkeypatch, "yes"), pytest.raises(TreeStateError, match="more to say"):
        Git(tmp_path).run("status", most=1 << 20)
    script = "yes | head -c 1000000 >&2; exit 3"
    with instead_of_git(tmp_path, monkeypatch, script), pytest.raises(GitFailed, match="y") as caught:
        Git(tmp_path).run("status")
    assert 0 < len(str(caught.value)) < 10_000


def test_without_git_the_way_out_is_told(root: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{root}:.:relative")
    with pytest.raises(TreeStateError, match="not installed"):
        trees.state(root, changes=False)


def test_a_git_that_lies_in_the_tree_is_not_taken_for_git(
    root: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(root, {"git": "#!/bin/sh\ntouch it-was-run\n"})
    (root / "git").chmod(0o755)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", ":.:" + os.environ["PATH"])
    assert trees.state(root, changes=True).changed == ("git",)
    assert not list(root.rglob("it-was-run"))
