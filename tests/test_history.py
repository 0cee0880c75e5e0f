"""What git is asked, and what a hostile repository cannot make it do."""

import os
import subprocess
from pathlib import Path

import pytest

from indexer.history import head
from tests.support.trees import write_tree

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git settings of whoever runs the tests do not count."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit with two files."""
    root = write_tree(tmp_path / "repository", {"a.cc": "int a;\n", "sub/b.cc": "int b;\n"})
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "First")
    return root


def trap(tmp_path: Path, then: str = "cat") -> tuple[Path, Path]:
    """A program that leaves a mark when it is run, and where it leaves it."""
    mark = tmp_path / "it was run"
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\n{then}\n", encoding="utf-8")
    program.chmod(0o755)
    return program, mark


def change_only_the_time(file: Path) -> None:
    """Git then compares the content, which is when filters run."""
    before = file.stat().st_mtime_ns
    os.utime(file, ns=(before + 5_000_000_000, before + 5_000_000_000))


def test_a_folder_outside_git_has_no_commit(tmp_path: Path) -> None:
    assert head(tmp_path) == (None, False)


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert head(tmp_path) == (None, False)


def test_where_there_is_no_git_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert head(repository) == (None, False)


def test_the_commit_is_named_and_only_changed_tracked_files_below_the_root_make_it_dirty(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert head(repository) == (commit, False)
    write_tree(repository, {"new.cc": "int n;\n"})
    assert head(repository) == (commit, False)
    write_tree(repository, {"a.cc": "int changed;\n"})
    assert head(repository) == (commit, True)
    assert head(repository / "sub") == (commit, False)


def test_a_file_with_another_time_and_the_same_bytes_is_not_dirty(repository: Path) -> None:
    change_only_the_time(repository / "a.cc")
    assert head(repository)[1] is False


def test_the_variables_of_a_git_hook_do_not_lead_to_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_tree(tmp_path / "other", {"c.cc": "int c;\n"})
    git(other, "init", "--quiet")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "--message", "Another")
    expected = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert head(repository) == (expected, False)


def test_a_file_monitor_that_the_repository_names_is_not_run(repository: Path, tmp_path: Path) -> None:
    program, mark = trap(tmp_path)
    git(repository, "config", "core.fsmonitor", str(program))
    subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, timeout=60, check=False)
    assert mark.exists(), "the trap does not work, so the test shows nothing"
    mark.unlink()
    assert head(repository)[0]
    assert not mark.exists()


@pytest.mark.parametrize("key", ["clean", "process"])
@pytest.mark.parametrize("where", ["config", "included", "attributes of the repository"])
def test_a_content_filter_that_the_repository_names_is_not_run(
    repository: Path, tmp_path: Path, key: str, where: str
) -> None:
    program, mark = trap(tmp_path)
    if where == "included":
        inner = tmp_path / "inner.config"
        git(repository, "config", "--file", str(inner), f"filter.Evil.{key}", str(program))
        git(repository, "config", "include.path", str(inner))
    else:
        git(repository, "config", f"filter.Evil.{key}", str(program))
    attributes = ".git/info/attributes" if where == "attributes of the repository" else ".gitattributes"
    write_tree(repository, {attributes: "*.cc filter=Evil\n"})
    change_only_the_time(repository / "a.cc")
    assert head(repository) == (git(repository, "rev-parse", "HEAD"), False)
    assert not mark.exists()
    subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, timeout=60, check=False)
    assert mark.exists(), "the trap does not work, so the test shows nothing"


def test_a_filter_whose_name_cannot_be_switched_off_counts_as_dirty_and_is_not_run(
    repository: Path, tmp_path: Path
) -> None:
    program, mark = trap(tmp_path)
    git(repository, "config", "filter.a=b.clean", str(program))
    write_tree(repository, {".gitattributes": "*.cc filter=a=b\n"})
    change_only_the_time(repository / "a.cc")
    assert head(repository) == (git(repository, "rev-parse", "HEAD"), True)
    assert not mark.exists()


def test_a_filter_of_the_users_own_still_counts(repository: Path) -> None:
    git(repository, "config", "--global", "filter.upper.clean", "tr a-z A-Z")
    write_tree(repository, {".gitattributes": "*.cc filter=upper\n"})
    git(repository, "add", "--renormalize", ".")
    git(repository, "commit", "--quiet", "--message", "In capitals")
    change_only_the_time(repository / "a.cc")
    assert git(repository, "show", "HEAD:a.cc") == "INT A;"
    assert head(repository)[1] is False


def test_a_clone_with_missing_objects_does_not_fetch_them(repository: Path, tmp_path: Path) -> None:
    program, mark = trap(tmp_path, "exit 1")
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    (repository / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(tmp_path)),
        ("remote.origin.uploadpack", str(program)),
    ):
        git(repository, "config", key, value)
    (repository / "a.cc").write_text("int changed;\n", encoding="utf-8")
    assert head(repository)[0]
    assert not mark.exists()
    subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, timeout=60, check=False)
    assert mark.exists(), "the trap does not work, so the test shows nothing"
