"""How far a tree has moved on since it was indexed, as git tells it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from hub.standing import behind


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git settings of whoever runs the tests do not count."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)


def git(root: Path, *arguments: str, at: int = 0) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "GIT_COMMITTER_DATE": f"{at} +0000", "GIT_AUTHOR_DATE": f"{at} +0000"},
    )
    return done.stdout.strip()


def committed(root: Path, text: str, at: int) -> str:
    (root / "a.h").write_text(text, encoding="utf-8")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", text, at=at)
    return git(root, "rev-parse", "HEAD")


def test_a_tree_is_behind_by_the_commits_since_and_by_the_age_of_the_first(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    assert behind(root, None) == (None, 0, None)
    git(root, "init", "--quiet")
    now = int(time.time())
    first = committed(root, "one", now - 9_000)
    assert behind(root, first) == (first, 0, 0.0)
    committed(root, "two", now - 3_000)
    last = committed(root, "three", now - 1_000)
    told = behind(root, first)
    assert (told.head, told.commits) == (last, 2)
    assert told.seconds is not None
    assert 3_000 <= told.seconds < 3_000 + 120
    assert behind(root, None) == (last, 0, None)


def test_a_commit_that_is_no_more_leaves_the_time_open(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    git(root, "init", "--quiet")
    head = committed(root, "one", 1_700_000_000)
    assert behind(root, "0" * 40) == (head, 0, None)
