"""Which commit a checkout is at, which repository it belongs to, and what lies between two commits, as git sees it."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import history
from indexer.history import FileChange, FileStatus
from indexer.history.running import printed
from tests.support.trees import write_tree

CLOSED = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    **{f"GIT_{who}_DATE": "1600000000 +0000" for who in ("AUTHOR", "COMMITTER")},
}
ALLOWED = ("-c", "protocol.file.allow=always", "-c", "gc.auto=0", "-c", "core.fsync=none")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *ALLOWED, "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=CLOSED,
    )
    return done.stdout.strip()


def commit(folder: Path, message: str = "a change") -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "tree", {"a.cc": "int a;\n" * 20, "sub/b.cc": "int b;\n" * 20})
    git(root, "init", "--quiet", "--initial-branch=main")
    commit(root)
    return root


def without_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The commit of HEAD where git cannot be asked."""
    with monkeypatch.context() as patched:
        patched.setattr(history.checkouts, "printed", lambda *_: None)
        return history.head_commit(root)


# The commit of a checkout


def test_the_commit_of_a_checkout_is_read_without_a_process_however_git_keeps_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = git(root, "rev-parse", "HEAD")
    assert without_processes(root, monkeypatch) == without_processes(root / "sub", monkeypatch) == first
    git(root, "branch", "main-2")
    git(root, "pack-refs", "--all")
    assert not (root / ".git/refs/heads/main").exists()
    assert without_processes(root, monkeypatch) == first
    write_tree(root, {"a.cc": "int c;\n"})
    second = commit(root)
    assert without_processes(root, monkeypatch) == second
    git(root, "checkout", "--quiet", "--detach", first)
    assert without_processes(root, monkeypatch) == first
    git(root, "worktree", "add", "--quiet", str(tmp_path / "linked"), "main")
    assert without_processes(tmp_path / "linked", monkeypatch) == second
    git(root, "symbolic-ref", "refs/heads/other", "refs/heads/main-2")
    git(root, "symbolic-ref", "HEAD", "refs/heads/other")
    assert without_processes(root, monkeypatch) == first


def test_where_files_do_not_tell_the_commit_git_is_asked(root: Path, tmp_path: Path) -> None:
    commit_there = git(root, "rev-parse", "HEAD")
    git(tmp_path, "clone", "--quiet", "--bare", str(root), "bare.git")
    assert history.head_commit(tmp_path / "bare.git") == commit_there
    assert history.head_commit(tmp_path / "nowhere") is None
    git(tmp_path, "init", "--quiet", "empty")
    assert history.head_commit(tmp_path / "empty") is None


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["HEAD", "refs/heads/main", "packed-refs"]),
    st.binary(max_size=80)
    | st.sampled_from([b"ref: refs/heads/main\n", b"ref: ../../../etc/passwd\n", b"ref: refs/x"]),
)
def test_whatever_stands_in_gits_files_the_commit_is_one_or_none(root: Path, name: str, content: bytes) -> None:
    file = root / ".git" / name
    before = file.read_bytes() if file.exists() else None
    file.write_bytes(content)
    told = history.head_commit(root)
    asked = printed(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if asked is not None:
        assert told == asked.strip()
    assert told is None or (len(told) == 40 and set(told) <= set("0123456789abcdef"))
    file.unlink() if before is None else file.write_bytes(before)


# The repository of a checkout


def test_all_checkouts_of_a_repository_have_one_folder_in_common(root: Path, tmp_path: Path) -> None:
    git(root, "worktree", "add", "--quiet", str(tmp_path / "linked"), "--detach")
    git(tmp_path, "clone", "--quiet", str(root), "clone")
    shared = root.resolve() / ".git"
    assert history.common_folder(root) == shared
    assert history.common_folder(root / "sub") == shared
    assert history.common_folder(tmp_path / "linked") == shared
    assert history.common_folder(tmp_path / "linked" / "sub") == shared
    assert history.common_folder(tmp_path / "clone") == tmp_path.resolve() / "clone" / ".git"
    assert history.common_folder(tmp_path) is None


def test_a_submodule_belongs_to_a_repository_of_its_own(root: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "outer", {"o.cc": "int o;\n"})
    git(tmp_path / "outer", "init", "--quiet")
    git(tmp_path / "outer", "submodule", "--quiet", "add", str(root), "inner")
    assert history.common_folder(tmp_path / "outer" / "inner") == tmp_path.resolve() / "outer/.git/modules/inner"


def test_a_folder_that_only_claims_to_be_a_work_tree_belongs_to_no_repository(root: Path, tmp_path: Path) -> None:
    git(root, "worktree", "add", "--quiet", str(tmp_path / "linked"), "--detach")
    pointer = (tmp_path / "linked/.git").read_text(encoding="utf-8")
    strange = write_tree(tmp_path / "strange", {".git": pointer})
    assert history.common_folder(strange) is None
    write_tree(tmp_path / "nowhere", {".git": "gitdir: /nonexistent\n"})
    assert history.common_folder(tmp_path / "nowhere") is None


# What lies between two commits


def test_commits_are_counted_that_one_of_both_has_and_the_other_has_not(root: Path) -> None:
    first = git(root, "rev-parse", "HEAD")
    second, third = commit(root, "two"), commit(root, "three")
    git(root, "reset", "--quiet", "--hard", first)
    other = commit(root, "other")
    assert history.commits_between(root, first, first) == 0
    assert history.commits_between(root, first, third) == history.commits_between(root, third, first) == 2
    assert history.commits_between(root, third, other) == 3
    assert history.commits_between(root, second, "0" * 40) is None
    assert history.commits_between(root, "--all", third) is None


def test_files_between_two_commits_are_told_with_what_became_of_their_names(root: Path) -> None:
    write_tree(root, {"gone.cc": "int gone;\n", "linked.cc": "int linked;\n", "was.cc": "int was;\n" * 20})
    base = commit(root)
    write_tree(root, {"a.cc": "int a;\n" * 21, "new\nline.cc": "int n;\n", "sub/c.cc": "int c;\n"})
    git(root, "mv", "was.cc", "sub/moved.cc")
    (root / "gone.cc").unlink()
    (root / "linked.cc").unlink()
    (root / "linked.cc").symlink_to("a.cc")
    head = commit(root)

    def blob(revision: str, path: str) -> str:
        return git(root, "rev-parse", f"{revision}:{path}")

    def added(path: str) -> FileChange:
        return FileChange(FileStatus.ADDED, path, None, "", blob(head, path))

    def deleted(path: str) -> FileChange:
        return FileChange(FileStatus.DELETED, path, None, blob(base, path), "")

    moved = blob(base, "was.cc")
    assert history.files_between(root, base, head) == (
        FileChange(FileStatus.MODIFIED, "a.cc", None, blob(base, "a.cc"), blob(head, "a.cc")),
        deleted("gone.cc"),
        deleted("linked.cc"),
        added("new\nline.cc"),
        added("sub/c.cc"),
        FileChange(FileStatus.RENAMED, "sub/moved.cc", "was.cc", moved, moved),
    )
    assert history.files_between(root / "sub", base, head) == (
        FileChange(FileStatus.ADDED, "c.cc", None, "", blob(head, "sub/c.cc")),
        FileChange(FileStatus.ADDED, "moved.cc", None, "", moved),
    )
    assert history.files_between(root, "HEAD~1", "main") == history.files_between(root, base, head)
    assert history.files_between(root, base, base) == ()
    assert history.files_between(root, base, "nowhere") is None
    assert history.files_between(root, "--output=x", head) is None
