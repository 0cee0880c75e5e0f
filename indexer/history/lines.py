"""Where lines come from: the commits that made them what they are, and where they were first written."""

import re
from typing import NamedTuple

from indexer.history.log import MOST_COMPARED, HistorySource
from indexer.history.running import PASSIVE, told_in_time

MOST_LINES_TOLD = 400  # of a file at once, 50 to 2,000: each costs git time

_BLAMED = re.compile(  # the heading of a stretch of lines, and the path where it is told
    r"^(?P<commit>[0-9a-f]{40}(?:[0-9a-f]{24})?) (?P<line>\d{1,9}) \d{1,9} (?P<lines>\d{1,9})\n"
    r"(?:(?!\t|filename )[^\n]*\n){0,20}(?:filename (?P<path>[^\n]*)\n)?",
    re.MULTILINE,
)


class LineCommits(NamedTuple):
    """The commits that made some lines what they are. ``whole`` is false where git was stopped, or could not go on."""

    hashes: tuple[str, ...]  # newest first
    whole: bool


class Origin(NamedTuple):
    """Where a stretch of lines came from: in this commit they were first written, under this path and number.

    The path is relative to the root that was asked about, or "" where it lay outside of that.
    """

    commit: str
    path: str
    first_line: int
    lines: int


def line_commits(source: HistorySource, path: str, first: int, last: int, most: int) -> LineCommits:
    """The newest ``most`` commits that changed these lines of a file of the revision, through its renames.

    No attribute, driver, signature or pager of the repository is acted upon. Empty where git knows no such lines.
    """
    if not _askable(source, path) or most < 1:
        return LineCommits((), whole=False)
    end = min(last, first + MOST_LINES_TOLD - 1)
    shown = ("--no-patch", "--format=%H", "--no-mailmap", "--no-ext-diff", "--no-textconv", "-M", f"-l{MOST_COMPARED}")
    arguments = ("log", *shown, f"--max-count={most + 1}", f"-L{first},{end}:{path}", source.revision, "--")
    told, whole = told_in_time(source.repository, (*PASSIVE, *arguments))
    hashes = tuple(dict.fromkeys(line for line in told.split("\n")[:-1] if line))
    return LineCommits(hashes[:most], whole and len(hashes) <= most)


def origins(source: HistorySource, path: str, first: int, last: int) -> tuple[Origin, ...]:
    """Where these lines of a file came from, in their order; also out of files that the same commits changed.

    Lines that were only indented otherwise, or moved, are those of the commit that wrote them. Empty where git fails.
    """
    if not _askable(source, path):
        return ()
    end = min(last, first + MOST_LINES_TOLD - 1)
    shown = ("-w", "-M", "-C", "-C", "--porcelain", "--no-textconv", "--root", f"-L{first},{end}")
    printed, whole = told_in_time(source.repository, (*PASSIVE, "blame", *shown, source.revision, "--", path))
    if not whole:
        return ()
    groups = list(_BLAMED.finditer(printed))
    found: list[Origin] = []
    paths: dict[str, str] = {}  # git repeats the path of a commit only where it has several
    for group in groups:
        commit = group["commit"]
        if group["path"] is not None:
            paths[commit] = group["path"]
        was = paths.get(commit, "")
        inside = was.removeprefix(source.prefix) if was.startswith(source.prefix) and was[:1] != '"' else ""
        found.append(Origin(commit, inside, int(group["line"]), int(group["lines"])))
    return tuple(found)


def _askable(source: HistorySource, path: str) -> bool:
    """Whether git can be asked for a path at all: no name of a file holds these."""
    return (
        bool(path)
        and not source.revision.startswith("-")
        and not any(letter in path or letter in source.revision for letter in "\0\n")
    )
