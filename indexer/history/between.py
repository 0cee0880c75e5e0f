"""What lies between two commits: how many commits, and which files, with what became of their names.

Who wrote them and what they say it does not know; ``indexer.history.log`` does.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from indexer.history.log import MOST_COMPARED
from indexer.history.running import PLAIN, printed

MOST_COUNTED = 100_000  # commits; beyond it no number tells more
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_REGULAR = ("100644", "100755")


class FileStatus(StrEnum):
    ADDED = "A"
    MODIFIED = "M"
    DELETED = "D"
    RENAMED = "R"


class FileChange(NamedTuple):
    """A regular file that two commits hold otherwise. Paths are relative to the folder that was asked about."""

    status: FileStatus
    path: str  # the newer one; of a deleted file the only one
    before: str | None  # what a renamed file was called in the older commit
    blob_before: str  # git's name of its bytes; "" where it was not there
    blob: str


def commits_between(root: Path, base: str, head: str) -> int | None:
    """How many commits belong to one of both only: 0 where they are the same, and as many after a reset back as after
    a pull. At most MOST_COUNTED; None where git does not know both, and for what are no full hashes.
    """
    if not (_HASH.match(base) and _HASH.match(head)):
        return None
    if base == head:
        return 0
    asked = ("--count", f"--max-count={MOST_COUNTED}", "--end-of-options", f"{base}...{head}", "--")
    counted = (printed(root, "rev-list", *asked) or "").strip()
    return int(counted) if counted.isdecimal() else None


def files_between(root: Path, base: str, head: str) -> tuple[FileChange, ...] | None:
    """The files below the root that two commits hold otherwise, by path; None where git does not know both.

    A file that became a link or a submodule counts as deleted, and the other way as added. Where contents are missing,
    as in a partial clone, renames are told as an added and a deleted file.
    """
    commits = [printed(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") for name in (base, head)]
    if base.startswith("-") or head.startswith("-") or None in commits:
        return None
    shown = ("--raw", "-r", "-z", f"-l{MOST_COMPARED}", "--no-abbrev", "--relative", *PLAIN)
    two = [str(commit).strip() for commit in commits]
    for renames in ("-M", "--no-renames"):
        told = printed(root, "diff-tree", *shown, renames, *two, "--")
        if told is not None:
            return tuple(sorted(_changes(told), key=lambda change: change.path))
    return None


def _changes(told: str) -> list[FileChange]:
    found: list[FileChange] = []
    fields = iter(told.split("\0"))
    for field in fields:
        facts = field.removeprefix(":").split(" ")
        if len(facts) < 5:  # two modes, two names of contents and a status
            continue
        mode_before, mode, blob_before, blob, status = facts
        path = next(fields, "")
        before = None
        if status.startswith("R"):
            before, path = path, next(fields, "")
        was, there = mode_before in _REGULAR, mode in _REGULAR
        if was and there:
            kind = FileStatus.MODIFIED if before is None else FileStatus.RENAMED
            found.append(FileChange(kind, path, before, blob_before, blob))
        elif was:
            found.append(FileChange(FileStatus.DELETED, before or path, None, blob_before, ""))
        elif there:
            found.append(FileChange(FileStatus.ADDED, path, None, "", blob))
    return found
