"""Git's log as plain values: which commits there are, what they say, which files they touched and how.

What a commit is good for in a search it does not know: it hands the log over in bounded memory, however large, broken
or hostile the repository is.
"""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from indexer.history.running import PLAIN, Broken, blocks, printed
from indexer.secrets import redact

_T = TypeVar("_T")

BATCH = 500  # commits a process; few enough that their hashes fit into a pipe (64 KB), whichever hash is used
MOST_SUBJECT_CHARS = 2_000  # of a message's first paragraph, 200 to 10,000
MOST_BODY_CHARS = 8_000  # of the rest; longer ones are logs and change lists
MOST_AUTHOR_CHARS = 200
MOST_LOOKED_THROUGH = 1 << 18  # characters of a message; a secret that begins in what is kept has ended by then
MOST_LISTED = 200  # changed files of a commit that are listed; beyond only its renames are, up to MOST_RENAMES
MOST_RENAMES = 20_000
MOST_COMPARED = 300  # added and removed files whose contents git compares to find renames; equal contents always count
MOST_PATCH_BYTES = 1 << 18  # of a commit that are kept; the names of what changed repeat long before
# One missing object costs a process, 5 to 20 ms. A clone without contents lacks them all, and then it is not tried on.
MOST_BROKEN_IN_A_ROW = 50

# What git shall print beside each hunk: the line above it that begins a function or a class, at any depth. Patterns are
# tried in this order on each line; "!" says that such a line begins none.
_HEADINGS = """\
!^[ \t]*([^A-Za-z_~: \t]|$)
!;[ \t]*$
^([A-Za-z_~].*[(].*)$
!^[ \t]*(if|else|for|while|switch|return|case|default|do|goto|throw|delete|using|typedef|new|catch)([^A-Za-z0-9_]|$)
^([ \t]*(class|struct|union|enum)[ \t].*)$
^([ \t]+[A-Za-z_][^=(.]*[ \t*&][A-Za-z_0-9:~]+[ \t]*[(].*)$"""
_HEADER = "--format=%x01%H%x00%ct%x00%an%x00%s%x00%b%x00"
_HEADER_FIELDS = 5
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_COMMIT_LINE = re.compile(rb"^(?:[0-9a-f]{40}|[0-9a-f]{64})\n", re.MULTILINE)
_COMMIT_LINE_BYTES = 65
_FILE_LINE = re.compile(r"^diff --git ", re.MULTILINE)
_NEW_PATH = re.compile(r"^\+\+\+ (?:b/)?(.*?)\t?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class HistorySource:
    """Whose log to read: up to the commit that the indexed tree shows, and nothing after it."""

    repository: Path  # a folder of the work tree, or a bare repository
    revision: str
    prefix: str = ""  # where the indexed root lies below the repository's top: "" or "sub/folder/"
    redacts: bool = True  # whether secrets are taken out of messages and patches


@dataclass(frozen=True, slots=True)
class Change:
    """A file that a commit touched. Paths are relative to the indexed root, as they were then."""

    path: str
    before: str | None = None  # what a renamed file was called until then


@dataclass(frozen=True, slots=True)
class LogEntry:
    hash: str
    time_s: int  # Unix time of the commit
    author: str
    subject: str
    body: str
    files: int  # how many it touched below the root
    changes: tuple[Change, ...]  # all renames, and every change where they are MOST_LISTED or fewer


def source_of(root: Path, commit: str) -> HistorySource | None:
    """The history of a root inside a work tree, up to a commit; None outside git."""
    prefix = printed(root, "rev-parse", "--show-prefix")
    return None if prefix is None else HistorySource(root, commit, prefix.removesuffix("\n"))


def commits(source: HistorySource, most: int) -> list[tuple[str, int]]:
    """(hash, number of parents) of the newest commits up to the revision, newest first, no parent before its child.

    Empty where git knows no such revision. Where an object is missing the log ends, as it does in a shallow clone.
    """
    if "\0" in source.revision or most < 1:
        return []
    arguments = ("rev-list", "--parents", f"--max-count={most}", "--end-of-options", source.revision, "--")
    found: list[tuple[str, int]] = []
    rest = b""
    try:
        for block in blocks(source.repository, arguments, b""):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                commit, *parents = line.split()
                found.append((commit.decode("ascii", "replace"), len(parents)))
    except Broken:
        return found
    return found


def on_top(source: HistorySource, below: str, most: int) -> list[str]:
    """The commits from the revision down to ``below``, newest first, without that one.

    Empty where they are none or more than ``most``, where they are no straight line, as behind a merge,
    or where git knows not both.
    """
    if not (_HASH.match(source.revision) and _HASH.match(below)):
        return []
    asked = ("--parents", f"--max-count={most + 1}", "--end-of-options", source.revision, f"^{below}", "--")
    lines = (printed(source.repository, "rev-list", *asked) or "").split("\n")[:-1]
    found: list[str] = []
    after = source.revision
    for line in lines:
        commit, *parents = line.split()
        if commit != after or len(parents) != 1:
            return []
        found.append(commit)
        after = parents[0]
    return found if after == below and len(found) <= most else []


def commit_before(root: Path, time_s: int) -> str | None:
    """The commit that HEAD's own line was at before a Unix time; None where it had not begun or git fails."""
    asked = ("--first-parent", "--max-count=1", f"--before={time_s - 1}", "HEAD")
    return (printed(root, "rev-list", *asked) or "").strip() or None


def is_shallow(root: Path) -> bool:
    """Whether the repository holds only the end of its history."""
    return (printed(root, "rev-parse", "--is-shallow-repository") or "").strip() == "true"


def entries(source: HistorySource, hashes: Sequence[str]) -> Generator[LogEntry, None, None]:
    """What the commits say and which files they touched, one for each hash and in that order; merges touch none.

    Where contents are missing, renames are not told; where trees are, an entry says nothing.
    """

    def read(batch: Sequence[str], rescuing: bool) -> Iterator[LogEntry]:
        return _listed(source, batch, "--no-renames" if rescuing else "-M")

    return _each(hashes, read, lambda commit: LogEntry(commit, 0, "", "", "", 0, ()))


def patches(source: HistorySource, hashes: Sequence[str]) -> Generator[dict[str, str], None, None]:
    """The hunks of each commit, one dictionary for each hash and in that order: path -> unified diff without context.

    The line of a hunk names the function or class around it. Empty for merges, where contents are missing, and for
    files that are no text; what is beyond MOST_PATCH_BYTES of a commit is left out.
    """
    with _attributes() as attributes:

        def read(batch: Sequence[str], rescuing: bool) -> Iterator[dict[str, str]]:
            if rescuing:
                return iter([{}] * len(batch))
            return (_by_path(_harmless(patch, source)) for patch in _patched(source, batch, attributes))

        yield from _each(hashes, read, lambda _: {})


def _each(
    hashes: Sequence[str], read: Callable[[Sequence[str], bool], Iterator[_T]], nothing: Callable[[str], _T]
) -> Generator[_T, None, None]:
    """Reads batch by batch. A commit that git cannot show costs that commit: it is tried alone, then as a rescue, then
    taken for nothing, and the rest goes on behind it.
    """
    start = broken = 0
    while start < len(hashes) and broken < 2 * MOST_BROKEN_IN_A_ROW:
        rescuing = broken >= MOST_BROKEN_IN_A_ROW
        held: list[_T] = []  # the last of a broken process may be cut off
        try:
            for found in read(hashes[start : start + BATCH], rescuing):
                if held:
                    yield held.pop()
                    start += 1
                    broken = MOST_BROKEN_IN_A_ROW if rescuing else 0
                held.append(found)
        except Broken:
            held = []
        if not held:
            sound, held = _alone(hashes[start], read)
            broken += not sound
        yield held[0] if held else nothing(hashes[start])
        start += 1
    yield from map(nothing, hashes[start:])


def _alone(commit: str, read: Callable[[Sequence[str], bool], Iterator[_T]]) -> tuple[bool, list[_T]]:
    """(whether the commit can be read as any other, what can be read of it)."""
    for rescuing in (False, True):
        try:
            return not rescuing, list(read([commit], rescuing))[:1]
        except Broken:
            continue
    return False, []


def _listed(source: HistorySource, batch: Sequence[str], renames: str) -> Iterator[LogEntry]:
    shown = ("--raw", "-r", "-z", renames, f"-l{MOST_COMPARED}", "--root", "--always", "--no-abbrev", _HEADER)
    fields = _fields(blocks(source.repository, _diff_tree(source, *shown), _lines(batch)))
    header = next(fields, None)
    while header is not None:
        if not header.startswith("\1"):  # what git puts between commits
            header = next(fields, None)
            continue
        time_s, author, subject, body = (next(fields, "") for _ in range(_HEADER_FIELDS - 1))
        changes: list[Change] = []
        renamed: list[Change] = []
        files = 0
        entry = next(fields, None)
        while entry is not None and not entry.startswith("\1"):
            status = entry.rpartition(" ")[2] if ":" in entry[:2] else ""
            if status:
                path = next(fields, "")
                files += 1
                if status[0] == "R":
                    change = Change(next(fields, ""), path)
                    renamed.append(change)
                else:
                    change = Change(path)
                if len(changes) <= MOST_LISTED:
                    changes.append(change)
            entry = next(fields, None)
        yield LogEntry(
            header[1:],
            int(time_s) if time_s.isdecimal() else 0,
            author[:MOST_AUTHOR_CHARS],
            _harmless(subject[:MOST_LOOKED_THROUGH], source)[:MOST_SUBJECT_CHARS],
            _harmless(body[:MOST_LOOKED_THROUGH], source)[:MOST_BODY_CHARS].strip(),
            files,
            tuple(changes if files <= MOST_LISTED else renamed[:MOST_RENAMES]),
        )
        header = entry


def _harmless(text: str, source: HistorySource) -> str:
    return redact(text)[0] if source.redacts else text


def _fields(blocks: Iterator[bytes]) -> Iterator[str]:
    """The texts between zero bytes."""
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\0")
        for field in whole:
            yield field.decode("utf-8", "replace")


def _patched(source: HistorySource, batch: Sequence[str], attributes: Path) -> Iterator[str]:
    """The patch of each commit, cut at MOST_PATCH_BYTES."""
    names = ("-c", f"core.attributesFile={attributes}", "-c", f"diff.cpp.xfuncname={_HEADINGS}")
    shown = ("-p", "--unified=0", "-r", "-M", f"-l{MOST_COMPARED}", "--root", "--always", "--src-prefix=a/")
    arguments = (*names, "-c", "core.quotePath=false", *_diff_tree(source, *shown, "--dst-prefix=b/"))
    text = b""
    begun = False
    for block in blocks(source.repository, arguments, _lines(batch)):
        text += block
        while found := _COMMIT_LINE.search(text):
            if begun:
                yield _cut(text[: found.start()])
            text = text[found.end() :]
            begun = True
        if len(text) > 2 * MOST_PATCH_BYTES:
            last = text[text.rfind(b"\n") + 1 :]  # a line that may go on in the next block
            text = text[:MOST_PATCH_BYTES] + b"\n" + (last if len(last) < _COMMIT_LINE_BYTES else b"-")
    if begun:
        yield _cut(text)


def _cut(patch: bytes) -> str:
    """At a line's end: half of a secret would not be known for one."""
    whole = patch if len(patch) <= MOST_PATCH_BYTES else patch[:MOST_PATCH_BYTES].rpartition(b"\n")[0]
    return whole.decode("utf-8", "replace")


def _by_path(patch: str) -> dict[str, str]:
    found = {}
    for part in _FILE_LINE.split(patch)[1:]:
        head, mark, hunks = part.partition("\n@@ ")
        path = _NEW_PATH.search(head)
        if mark and path:
            found[path[1]] = f"@@ {hunks}"
    return found


def _diff_tree(source: HistorySource, *shown: str) -> tuple[str, ...]:
    below = (f"--relative={source.prefix}",) if source.prefix else ()
    return ("diff-tree", "--stdin", *PLAIN, *shown, *below)


def _lines(hashes: Sequence[str]) -> bytes:
    return "".join(f"{commit}\n" for commit in hashes).encode("ascii")


@contextmanager
def _attributes() -> Iterator[Path]:
    """A file that has git read every file's hunks as C++, as long as the repository says nothing else of it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "attributes"
        file.write_text("* diff=cpp\n", encoding="utf-8")
        yield file
