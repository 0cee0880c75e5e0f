"""Stretches of history: what a name of a commit means, the line that a branch itself went, and contents by their names.

What a stretch is good for it does not know.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.history.running import PASSIVE, printed, printed_bytes
from indexer.history.tree import FileAt, contents
from indexer.secrets import redact

LONGEST_REVISION = 400  # characters of a revision as it is typed
MOST_SUBJECT_CHARS = 300  # git itself cuts them: one may have megabytes
_FACTS = 3  # of an object: name, kind and size


class Step(NamedTuple):
    """A commit of a branch's own line, which goes by first parents."""

    commit: str
    parents: tuple[str, ...]
    time_s: int  # Unix time of the commit
    subject: str  # its beginning, without secrets


def resolved(root: Path, revision: str) -> str | None:
    """The full hash of the commit that a revision means; None where git knows none, or it is no single revision."""
    if not revision or len(revision) > LONGEST_REVISION or any(sign in revision for sign in "\0\n") or ".." in revision:
        return None
    told = printed(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return told.strip() if told else None


def own_line(root: Path, revision: str, most: int, *beneath: str) -> tuple[Step, ...]:
    """The newest commits of a branch's own line, newest first; empty where git knows no such revision.

    With paths only those that changed something ``beneath`` them, such as "." for the root.
    """
    commit = resolved(root, revision)
    if commit is None or most < 1:
        return ()
    shown = (
        "--first-parent",
        "-z",
        "--no-mailmap",
        "--encoding=UTF-8",
        f"--format=%H%x00%P%x00%ct%x00%<({MOST_SUBJECT_CHARS},trunc)%s",
    )
    fields = (printed(root, *PASSIVE, "log", *shown, f"--max-count={most}", commit, "--", *beneath) or "").split("\0")
    rows = zip(*(fields[start::4] for start in range(4)), strict=False)
    return tuple(
        Step(name, tuple(parents.split()), int(time_s) if time_s.isdecimal() else 0, _subject(subject))
        for name, parents, time_s, subject in rows
        if name
    )


def meeting(root: Path, one: str, other: str) -> str | None:
    """The newest commit that two have in common; None where there is none or git knows not both."""
    commits = [resolved(root, one), resolved(root, other)]
    if None in commits:
        return None
    return (printed(root, "merge-base", *map(str, commits)) or "").strip() or None


def left_behind(root: Path, commits: Iterable[str], tip: str) -> set[str]:
    """Those of these commits that the tip does not lead back to, and those that git has no longer."""
    asked = list(dict.fromkeys(commits))
    known = [name for name, kind, _ in _objects(root, asked) if kind == "commit"]
    gone = set(asked) - set(known)
    if known:
        told = printed(root, "rev-list", *known, f"^{tip}", "--")
        gone |= set(known) & set(told.split()) if told is not None else set(known)
    return gone


def blobs(root: Path, names: Sequence[str], most_bytes: int) -> dict[str, bytes]:
    """The bytes behind git's names for them, in order until ``most_bytes`` are reached; without what is missing."""
    files: list[FileAt] = []
    left = most_bytes
    for name, kind, size in _objects(root, list(dict.fromkeys(names))):
        left -= size if kind == "blob" else 0
        if left < 0:
            break
        if kind == "blob":
            files.append(FileAt("", name, size))
    read = contents(root, files)
    return {file.blob: data for file, data in zip(files, read, strict=True) if data is not None}


def _objects(root: Path, names: Iterable[str]) -> list[tuple[str, str, int]]:
    """(name, kind, bytes) of the objects that the repository holds, in the order of their names."""
    asked = [name for name in names if name.isascii() and name.isalnum()]
    given = "".join(f"{name}\n" for name in asked).encode()
    told = (printed_bytes(root, ("cat-file", "--batch-check"), given) or b"").decode("ascii", "replace").splitlines()
    parts = [(name, line.split()) for name, line in zip(asked, told, strict=False)]
    return [(name, facts[1], int(facts[2])) for name, facts in parts if len(facts) == _FACTS and facts[2].isdecimal()]


def _subject(text: str) -> str:
    return redact(text.rstrip())[0]
