"""Repositories that a test writes the history of, quickly, and what an index holds of one in a form to compare."""

import os
import subprocess
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import Options, refresh
from tests.support.trees import contents, write_tree

LIMIT_S = 30.0
MINUTES = count(1_600_000_000, 60)
# Nothing is lost that matters where the disk is not waited for, and no work goes on behind a test's back.
QUICK = ("core.fsync=none", "gc.auto=0", "maintenance.auto=false", "protocol.file.allow=always", "commit.gpgsign=false")
CLOSED = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
    "GIT_EDITOR": "true",
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Repository:
    """A work tree, or a bare repository, and git in it with no settings but these; each commit a minute after the last.

    ``clock`` is when the next commit is made, in Unix time, where it is not the next minute.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.clock: int | None = None

    def git(self, *arguments: str, code: int = 0, given: bytes | None = None) -> str:
        """What git prints. Fails where it ends with another code."""
        time_s = next(MINUTES) if self.clock is None else self.clock
        done = subprocess.run(
            ["git", *(part for setting in QUICK for part in ("-c", setting)), *arguments],
            cwd=self.top,
            env=CLOSED | {f"GIT_{who}_DATE": f"@{time_s} +0000" for who in ("AUTHOR", "COMMITTER")},
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            input=given,
        )
        assert done.returncode == code, done.stderr.decode("utf-8", "replace")
        return done.stdout.decode("utf-8", "replace").strip()

    def write(self, files: Mapping[str, str | bytes], message: str = "") -> str:
        """A commit of these files, and all else that has changed; returns its hash."""
        write_tree(self.top, dict(files))
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", message or f"say {' '.join(files)}")
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def log(self) -> list[tuple[str, int]]:
        """(hash, number of parents) of every commit that reaches HEAD, by hash."""
        lines = self.git("rev-list", "--parents", "HEAD").split("\n")
        return sorted((line.split()[0], len(line.split()) - 1) for line in lines)


def made(top: Path, files: Mapping[str, str | bytes]) -> Repository:
    """A repository with one commit of these files."""
    top.mkdir(parents=True)
    repository = Repository(top)
    repository.git("init", "-q", "-b", "main")
    repository.write(files, "begin")
    return repository


def refreshed(root: Path, data: Path, options: Options | None = None) -> IndexReport:
    """Brings the index of the workspace "w" up to date, in this process."""
    folder = DataFolder(data)
    with folder.owned(), Index.for_writing(folder, "w", root) as index:
        return refresh(index, options or Options(workers=1))


def held(root: Path, data: Path) -> dict[str, object]:
    """All that the index of the workspace "w" holds."""
    folder = DataFolder(data)
    with folder.owned(), Index.for_writing(folder, "w", root) as index:
        return contents(index) | history_of(index)


def history_of(index: Index) -> dict[str, object]:
    """What a reader could ask of the history; row ids apart, the tables themselves must agree."""
    rows = index._database.rows
    path = "SELECT path FROM commit_paths WHERE id = commit_changes."
    asked = ["alpha", "beta gamma", "change rename", "Alpha run", "first", "total stop"]
    paths = [row[0] for row in rows("SELECT path FROM files ORDER BY path")]
    return {
        "commits": rows("SELECT hash, parents, time_s, author, subject, body, files FROM commits ORDER BY hash"),
        "changes": rows(
            f"SELECT hash, ({path}path), ({path}before), ({path}today), weight, symbols"
            " FROM commit_changes JOIN commits ON commits.id = commit_row ORDER BY 1, 2, 3"
        ),
        "search": {question: index.commits.search(question, 20) for question in asked},
        "parts": {question: index.commits.chunks(question, 20) for question in asked},
        "together": {path: index.commits.together(path, 20) for path in paths},
        "about": {name: index.commits.about(name) for name in [*paths, "run", "stop"]},
        "messages": rows(
            "SELECT p.path, digest FROM commit_files AS f JOIN commit_paths AS p ON p.id = f.path ORDER BY 1"
        ),
    }
