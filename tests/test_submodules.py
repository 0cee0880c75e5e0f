"""The files of submodules in throw-away copies: as they are checked out or as they are recorded, and told where not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import PatchError, TreeStateError
from agents.model import Limits
from agents.recipes import Does, Recipe
from agents.runs.preparing import digest_of
from agents.worktrees import Trees, TreeState, submodules
from agents.worktrees.own import folders
from tests.support.trees import write_tree

LIB = "third_party/lib"
CORE = f"{LIB}/deep/core"
PATCH = "--- a/a.cc\n+++ b/a.cc\n@@ -1 +1 @@\n-int a;\n+int aa;\n"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git settings of whoever runs the tests do not count."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def repository_at(root: Path, files: dict[str, str], modules: dict[str, Path]) -> Path:
    write_tree(root, {**files})
    git(root, "init", "--quiet", "--template=", "--initial-branch=main")
    for path, source in modules.items():
        git(root, "submodule", "--quiet", "add", str(source), path)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "First")
    return root


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a submodule that has one of its own, all of them checked out."""
    folder = tmp_path_factory.mktemp("template")
    core = repository_at(folder / "core", {"core.h": "int core;\n"}, {})
    lib = repository_at(folder / "lib", {"lib.cc": "int lib;\n", ".gitignore": "*.o\n"}, {"deep/core": core})
    root = repository_at(folder / "tree", {"a.cc": "int a;\n"}, {LIB: lib})
    git(root, "submodule", "--quiet", "update", "--init", "--recursive")
    git(root, "tag", "v1.0")
    return root


@pytest.fixture
def root(tmp_path: Path, template: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "tree", symlinks=True))


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path / "data")


def files(folder: Path) -> dict[str, str]:
    """What stands in a folder, without git's part of it or of what lies in it: contents, or where links lead."""
    return {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}" if path.is_symlink() else path.read_text("utf-8")
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and ".git" not in path.relative_to(folder).parts
    }


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    def everything() -> dict[str, tuple[int, int, bytes]]:
        return {
            # Git renews the time of an object that it meets again.
            path.relative_to(folder).as_posix(): (
                path.lstat().st_mode,
                0 if "objects" in path.parts else path.lstat().st_mtime_ns,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in folder.rglob("*")
        }

    before = everything()
    yield
    assert everything() == before


def test_a_copy_holds_the_files_of_submodules_as_they_are_checked_out(root: Path, trees: Trees) -> None:
    write_tree(root, {f"{LIB}/lib.cc": "int changed;\n", f"{LIB}/new.cc": "int n;\n", f"{LIB}/x.o": "x"})
    write_tree(root, {f"{CORE}/core.h": "int deeper;\n", f"{LIB}/id_rsa": "x"})
    with untouched(root):
        state = trees.state(root, changes=True)
        with trees.checkout(root, state, PATCH) as checkout:
            found = files(checkout.folder)
            assert list(checkout.folder.rglob(".git")) == [checkout.folder / ".git"]
            assert git(checkout.folder, "status", "--porcelain") == "M  a.cc"
    assert found.keys() == files(root).keys() - {f"{LIB}/x.o", f"{LIB}/id_rsa"}
    assert found["a.cc"] == "int aa;\n"
    assert (found[f"{LIB}/lib.cc"], found[f"{CORE}/core.h"]) == ("int changed;\n", "int deeper;\n")
    assert state.changed == (f"{LIB}/lib.cc", f"{LIB}/new.cc", f"{CORE}/core.h")
    assert state.left_out == ((f"{LIB}/id_rsa", "holds secrets (by its name)"),)
    assert [each.path for each in state.submodules] == [LIB, CORE]
    assert state.notes == ("The files of submodules are in it; there are 2.",)


def test_without_local_changes_they_are_as_the_commit_records_them(root: Path, trees: Trees) -> None:
    lib = root / LIB
    write_tree(lib, {"lib.cc": "int later;\n"})
    git(lib, "commit", "--quiet", "--all", "--message", "Later")
    write_tree(root, {f"{CORE}/core.h": "int changed;\n"})
    recorded = trees.state(root, changes=False)
    assert (recorded.digest, recorded.changed, recorded.left_out) == ("", (), ())
    with trees.checkout(root, recorded) as checkout:
        found = files(checkout.folder)
        assert (found[f"{LIB}/lib.cc"], found[f"{CORE}/core.h"]) == ("int lib;\n", "int core;\n")
        assert git(checkout.folder, "describe", "--tags", "--dirty") == "v1.0"  # as versions are made of it
    now = trees.state(root, changes=True)
    assert now.changed == (LIB, f"{CORE}/core.h")
    assert now.submodules[0].commit == git(lib, "rev-parse", "HEAD")
    with trees.checkout(root, now) as checkout:
        found = files(checkout.folder)
        assert (found[f"{LIB}/lib.cc"], found[f"{CORE}/core.h"]) == ("int later;\n", "int changed;\n")


def test_the_digest_of_a_state_is_another_where_a_file_of_a_submodule_is(root: Path, trees: Trees) -> None:
    seen = {trees.state(root, changes=True).digest}
    assert seen == {""}
    for step in (
        lambda: write_tree(root, {f"{CORE}/core.h": "int one;\n"}),
        lambda: write_tree(root, {f"{LIB}/n.cc": "int n;\n"}),
        lambda: git(root / LIB, "commit", "--quiet", "--allow-empty", "--message", "Nothing"),
    ):
        step()
        state = trees.state(root, changes=True)
        assert state.digest not in seen
        assert trees.state(root, changes=True) == state
        seen.add(state.digest)


def test_an_approval_holds_for_the_files_of_submodules_that_it_was_given_for(root: Path, trees: Trees) -> None:
    with_all = trees.state(root, changes=False)
    shutil.rmtree(root / CORE)
    without = trees.state(root, changes=False)
    assert (with_all.commit, with_all.tree, with_all.digest) == (without.commit, without.tree, without.digest)
    assert bound_to(with_all) == bound_to(replace(with_all))
    assert bound_to(with_all) != bound_to(without)


def bound_to(state: TreeState) -> str:
    recipe = Recipe("build", Does.BUILD, Limits(seconds=1, memory=1, processes=1, disk=1, output=1))
    return digest_of("w", Path("/w"), recipe, recipe, {}, state, "")


def test_submodules_that_are_not_there_are_left_out_and_told(root: Path, trees: Trees) -> None:
    shutil.rmtree(root / CORE)
    (root / CORE).mkdir()
    lost = git(root, "rev-parse", f"HEAD:{LIB}")[:12]
    git(root / LIB, "checkout", "--quiet", "--orphan", "fresh")
    state = trees.state(root, changes=True)
    assert state.left_out == ((LIB, "a submodule without a commit"),)
    git(root / LIB, "commit", "--quiet", "--message", "Fresh")
    state = trees.state(root, changes=True)
    assert state.left_out == ((CORE, "a submodule that is not checked out"),)
    for branch in ("main", "refs/remotes/origin/main", "refs/remotes/origin/HEAD"):
        subprocess.run(["git", "-C", str(root / LIB), "update-ref", "-d", branch], check=False, capture_output=True)
    shutil.rmtree(root / ".git" / "modules" / LIB / "objects")
    shutil.copytree(root / ".git" / "objects", root / ".git" / "modules" / LIB / "objects")
    state = trees.state(root, changes=False)
    assert state.left_out == ((LIB, f"a submodule without its commit {lost}"),)
    with trees.checkout(root, state) as checkout:
        assert list((checkout.folder / LIB).iterdir()) == []


def test_a_patch_cannot_touch_what_lies_in_a_submodule_and_a_commit_keeps_the_links(root: Path, trees: Trees) -> None:
    write_tree(root, {f"{LIB}/lib.cc": "int changed;\n"})
    state = trees.state(root, changes=True)
    new = "--- /dev/null\n+++ b/{}\n@@ -0,0 +1 @@\n+int n;\n"
    inside = PATCH.replace("a.cc", f"{LIB}/lib.cc").replace("int a;", "int changed;")
    for patch in (inside, new.format(f"{LIB}/n.cc"), new.format(f"{CORE}/n.cc"), new.format(LIB), PATCH + inside):
        with pytest.raises(PatchError, match="belongs to a submodule"), trees.checkout(root, state, patch):
            pass
        with untouched(root), pytest.raises(PatchError, match="belongs to a submodule") as caught:
            trees.write_branch(root, state, patch, "fix", "Fix it")
        assert "workspace of that repository" in caught.value.hint
    with trees.checkout(root, state, PATCH + new.format("third_party/library.cc")) as checkout:
        assert files(checkout.folder)["third_party/library.cc"] == "int n;\n"
    commit = trees.write_branch(root, state, PATCH, "fix", "Fix it")
    assert git(root, "ls-tree", commit, LIB) == git(root, "ls-tree", "HEAD", LIB)
    assert git(root, "show", "--name-only", "--format=", commit) == "a.cc"


def test_a_folder_of_a_repository_has_the_submodules_below_it(root: Path, trees: Trees) -> None:
    state = trees.state(root / "third_party", changes=True)
    assert [each.path for each in state.submodules] == ["lib", "lib/deep/core"]
    with trees.checkout(root / "third_party", state) as checkout:
        assert files(checkout.folder) == files(root / "third_party")
        assert checkout.readable == ()


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["", f"{LIB}/", f"{CORE}/"]),
        st.sampled_from(["a.cc", "lib.cc", "core.h", "new/n.cc", "with space.h", "\u00e9.cc"]),
        st.sampled_from(["write", "delete", "run", "commit"]),
        st.text("ab\n\r", max_size=4),
    ),
    max_size=6,
)


@settings(max_examples=3)
@given(edits=EDITS)
def test_a_checkout_of_local_changes_is_the_tree_with_all_its_submodules(
    tmp_path_factory: pytest.TempPathFactory, template: Path, edits: list[tuple[str, str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    root, trees = Path(shutil.copytree(template, folder / "tree", symlinks=True)), Trees(folder / "data")
    for module, name, edit, text in edits:
        place = root / module / name
        if edit == "write":
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, "utf-8", newline="")
        elif edit == "delete":
            place.unlink(missing_ok=True)
        elif edit == "run" and place.exists():
            place.chmod(0o755)
        elif edit == "commit":
            git(root / module, "add", ".")
            git(root / module, "commit", "--quiet", "--allow-empty", "--message", "Edited")
    with trees.checkout(root, trees.state(root, changes=True)) as checkout:
        assert files(checkout.folder) == files(root)
        for path in files(root):
            assert os.access(checkout.folder / path, os.X_OK) == os.access(root / path, os.X_OK)


def test_a_submodule_that_is_gone_meanwhile_is_told_and_nothing_is_left_behind(
    tmp_path: Path, root: Path, trees: Trees
) -> None:
    state = trees.state(root, changes=True)
    shutil.rmtree(root / CORE)
    with pytest.raises(TreeStateError, match=f"submodule {CORE} .* cannot be had"), trees.checkout(root, state):
        pass
    assert [place for own in folders(tmp_path / "data") for place in (own / "checkouts").iterdir()] == []


def test_there_is_a_bound_to_submodules(root: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submodules, "MOST", 1)
    state = trees.state(root, changes=False)
    assert [each.path for each in state.submodules] == [LIB]
    assert state.left_out == ((CORE, "more than 1 submodules"),)


def test_what_cannot_be_read_in_a_submodule_is_told_with_its_name(
    root: Path, trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.worktrees.changes.MOST_CHANGED_FILES", 1)
    write_tree(root, {f"{LIB}/{number}.cc": "" for number in range(2)})
    with pytest.raises(TreeStateError, match=f"In the submodule {LIB}: 2 files") as caught:
        trees.state(root, changes=True)
    assert ".gitignore" in caught.value.hint


def test_a_file_whose_name_looks_like_a_link_of_git_is_none() -> None:
    commit = "1" * 40
    name = f"x160000 commit {commit}\ty"
    listed = f"100644 blob {commit}\t{name}\x00160000 commit {commit}\tlib\x00160000 {commit} 0\tother lib\x00".encode()
    assert submodules.links(listed) == {"lib": commit, "other lib": commit}
