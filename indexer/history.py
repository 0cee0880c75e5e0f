"""What git knows of the tree: its commit, its local changes, and its log. Owns the git command.

A tree without git is fine and simply has no commit. What a commit is good for in a search it does not know: it hands
the log over as plain values, in bounded memory, however large, broken or hostile the repository is.
"""

import os
import re
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import NamedTuple, TypeVar

from indexer.secrets import redact

_T = TypeVar("_T")

GIT_TIMEOUT_S = 30.0  # a status of Chromium's tree on a cold disk takes about 20 s
SILENCE_S = 60.0  # without any output of a log; the largest commit of LLVM takes about 5 s
BATCH = 500  # commits a process; few enough that their hashes fit into a pipe (64 KB), whichever hash is used
NOT_THERE = -1
BLOCK_BYTES = 1 << 16
MOST_BODY_CHARS = 8_000  # of a message; longer ones are logs and change lists
MOST_LISTED = 200  # changed files of a commit that are listed; beyond only its renames are, up to MOST_RENAMES
MOST_RENAMES = 20_000
MOST_COMPARED = 300  # added and removed files whose contents git compares to find renames; equal contents always count
MOST_PATCH_BYTES = 1 << 18  # of a commit that are kept; the names of what changed repeat long before
# One missing object costs a process, 5 to 20 ms. A clone without contents lacks them all, and then it is not tried on.
MOST_BROKEN_IN_A_ROW = 50
LINES_TIMEOUT_S = 10.0  # for the story of a few lines; leveldb takes 0.1 s. What was told by then counts. 2 to 30
MOST_LINES_TOLD = 400  # of a file at once, 50 to 2,000: each costs git time

# A repository's own configuration may name programs that git then runs; these settings name none.
_HARMLESS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat")
_CLOSED = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # a clone with missing objects would fetch them, by a program of its own choice
    "GIT_NO_LAZY_FETCH": "1",  # and would try to, for each of them
    "LC_ALL": "C",
}
_KEPT_VARIABLES = ("PATH", "HOME", "SYSTEMROOT")  # HOME, because safe.directory stands in the user's own settings

# What git shall print beside each hunk: the line above it that begins a function or a class, at any depth. Patterns are
# tried in this order on each line; "!" says that such a line begins none.
_HEADINGS = """\
!^[ \t]*([^A-Za-z_~: \t]|$)
!;[ \t]*$
^([A-Za-z_~].*[(].*)$
!^[ \t]*(if|else|for|while|switch|return|case|default|do|goto|throw|delete|using|typedef|new|catch)([^A-Za-z0-9_]|$)
^([ \t]*(class|struct|union|enum)[ \t].*)$
^([ \t]+[A-Za-z_][^=(.]*[ \t*&][A-Za-z_0-9:~]+[ \t]*[(].*)$"""
_PLAIN = ("--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--encoding=UTF-8", "--no-color")
_HEADER = "--format=%x01%H%x00%ct%x00%an%x00%s%x00%b%x00"
_HEADER_FIELDS = 5
# What these commands would do beside: check signatures by a program, and read files that the repository names.
_PASSIVE = tuple(
    part
    for setting in (
        "log.showSignature=false",
        "blame.ignoreRevsFile=",
        "mailmap.file=",
        "mailmap.blob=",
        "core.quotePath=false",
    )
    for part in ("-c", setting)
)
_BLAMED = re.compile(  # the heading of a stretch of lines, and the path where it is told
    r"^(?P<commit>[0-9a-f]{40}(?:[0-9a-f]{24})?) (?P<line>\d{1,9}) \d{1,9} (?P<lines>\d{1,9})\n"
    r"(?:(?!\t|filename )[^\n]*\n){0,20}(?:filename (?P<path>[^\n]*)\n)?",
    re.MULTILINE,
)
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


class FileAt(NamedTuple):
    """A file of a revision. ``path`` is relative to the folder that was asked about."""

    path: str
    blob: str  # git's name of its bytes
    size: int  # bytes; NOT_THERE where the object is missing


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


class _Broken(Exception):
    """Git ended with an error, or went silent."""


def head(root: Path) -> tuple[str | None, bool]:
    """(full hash of HEAD, whether tracked files below the root differ from it); (None, False) outside git."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return None, False
    off = _filters_off(root)
    if off is None:
        return commit.strip(), True
    looks = ("--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    changes = _git(root, *off, "--no-optional-locks", "status", *looks, "--", ".")
    return commit.strip(), bool(changes)


def diff(root: Path, revision: str) -> str | None:
    """How the work tree below the root differs from a revision, as a unified diff with paths relative to the root.

    A renamed file is shown as removed and added. None where git knows no such revision, or no git is there.
    """
    if "\0" in revision:
        return None
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        return None
    filters = _filters_off(root)
    if filters is None:
        return None
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=all", "--relative")
    return _git(root, *filters, "--no-optional-locks", "diff", *plain, "--unified=0", commit.strip(), "--", ".")


def files_at(root: Path, revision: str) -> list[FileAt] | None:
    """The regular files below the root as a revision holds them, by path; None where git knows no such revision."""
    listed = _git(root, "ls-tree", "-r", "-z", "--long", "--end-of-options", revision)
    if listed is None:
        return None
    found = []
    for entry in listed.split("\0"):
        facts, tab, path = entry.partition("\t")
        mode, _, blob, size = facts.split() if tab else ("", "", "", "")
        if mode.startswith("100"):
            found.append(FileAt(path, blob, int(size) if size.isdecimal() else NOT_THERE))
    return sorted(found)


def contents(root: Path, files: Sequence[FileAt]) -> list[bytes | None]:
    """The bytes of these files, in order, without the repository's filters; None for what git cannot give."""
    asked = "".join(f"{file.blob}\n" for file in files)
    given = _git_bytes(root, ("cat-file", "--batch"), asked.encode()) or b""
    found: list[bytes | None] = []
    start = 0
    for file in files:
        heading = given.find(b"\n", start) + 1
        if given[start:heading].split()[1:] == [b"blob", str(file.size).encode()]:
            found.append(given[heading : heading + file.size])
            start = heading + file.size + 1
        else:
            found.append(None)  # a missing object has no bytes behind its heading
            start = heading or len(given)
    return found


def text_at(root: Path, revision: str, path: str) -> str | None:
    """The text of a file below the root as a revision holds it, without filters; None where git cannot give it."""
    if not path or "\0" in path or revision.startswith("-"):
        return None
    return _git(root, "cat-file", "blob", f"{revision}:./{path}")


def commit_before(root: Path, time_s: int) -> str | None:
    """The commit that HEAD's own line was at before a Unix time; None where it had not begun or git fails."""
    asked = ("--first-parent", "--max-count=1", f"--before={time_s - 1}", "HEAD")
    return (_git(root, "rev-list", *asked) or "").strip() or None


def is_shallow(root: Path) -> bool:
    """Whether the repository holds only the end of its history."""
    return (_git(root, "rev-parse", "--is-shallow-repository") or "").strip() == "true"


def line_commits(source: HistorySource, path: str, first: int, last: int, most: int) -> LineCommits:
    """The newest ``most`` commits that changed these lines of a file of the revision, through its renames.

    No attribute, driver, signature or pager of the repository is acted upon. Empty where git knows no such lines.
    """
    if not _askable(source, path) or most < 1:
        return LineCommits((), whole=False)
    end = min(last, first + MOST_LINES_TOLD - 1)
    shown = ("--no-patch", "--format=%H", "--no-mailmap", "--no-ext-diff", "--no-textconv", "-M", f"-l{MOST_COMPARED}")
    arguments = ("log", *shown, f"--max-count={most + 1}", f"-L{first},{end}:{path}", source.revision, "--")
    told, whole = _told_in_time(source.repository, (*_PASSIVE, *arguments))
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
    printed, whole = _told_in_time(source.repository, (*_PASSIVE, "blame", *shown, source.revision, "--", path))
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


def _told_in_time(root: Path, arguments: Sequence[str]) -> tuple[str, bool]:
    """What git printed until it ended or its time was up, and whether it ended well."""
    try:
        done = subprocess.run(
            ["git", *_HARMLESS, "-C", str(root), *arguments],  # noqa: S607 - git is found on the user's own PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LINES_TIMEOUT_S,
            check=False,
            env=git_environment(),
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode("utf-8", "replace"), False
    except OSError:
        return "", False
    return done.stdout.decode("utf-8", "replace"), done.returncode == 0


def hooks_path(root: Path) -> str:
    """What ``core.hooksPath`` is set to for a tree, wherever that stands, with ~ written out; "" where unset."""
    asked = ("--includes", "-z", "--type=path", "--get-all", "core.hooksPath")
    parts = (_git(root, "config", "--show-scope", *asked) or "").split("\0")
    # What this command line itself sets is nobody's; the machine's settings are otherwise not read here.
    own = [value for scope, value in zip(parts[::2], parts[1::2], strict=False) if scope != "command"]
    if not own:
        own = (_git(root, "config", "--system", *asked) or "").split("\0")[:-1]
    return own[-1] if own else ""


def _filters_off(root: Path) -> tuple[str, ...] | None:
    """Arguments that switch the repository's own filters off; None where one cannot be."""
    filters = _own_filters(root)
    if any("=" in name for name in filters):  # cannot be switched off on the command line
        return None
    return tuple(
        part
        for name in filters
        for key in ("clean=", "process=", "required=false")
        for part in ("-c", f"filter.{name}.{key}")
    )


def _own_filters(root: Path) -> list[str]:
    """The content filters that the repository itself defines; comparing files would run them. The user's may run, but
    for git-lfs where the repository names the program that it then starts.
    """
    asked = ("--includes", "-z", "--name-only", "--get-regexp", r"^(filter|lfs\.extension)\.")
    listed = [_git(root, "config", scope, *asked) or "" for scope in ("--local", "--worktree")]
    keys = [key for key in "".join(listed).split("\0") if key]
    own = {key.removeprefix("filter.").rpartition(".")[0] for key in keys if key.startswith("filter.")}
    return sorted(own | {"lfs" for key in keys if key.startswith("lfs.")})


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None when it fails or is not there."""
    printed = _git_bytes(root, arguments)
    return None if printed is None else printed.decode("utf-8", "replace")


def _git_bytes(root: Path, arguments: Sequence[str], given: bytes = b"") -> bytes | None:
    try:
        done = subprocess.run(
            ["git", *_HARMLESS, "-C", str(root), *arguments],  # noqa: S607 - git is found on the user's own PATH
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
            env=git_environment(),
            input=given,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def git_environment() -> dict[str, str]:
    """What git is started with: where programs and the user's own settings are, and nothing that leads elsewhere."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | _CLOSED


# The log


def source_of(root: Path, commit: str) -> HistorySource | None:
    """The history of a root inside a work tree, up to a commit; None outside git."""
    prefix = _git(root, "rev-parse", "--show-prefix")
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
        for block in _blocks(source.repository, arguments, b""):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                commit, *parents = line.split()
                found.append((commit.decode("ascii", "replace"), len(parents)))
    except _Broken:
        return found
    return found


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
        except _Broken:
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
        except _Broken:
            continue
    return False, []


def _listed(source: HistorySource, batch: Sequence[str], renames: str) -> Iterator[LogEntry]:
    shown = ("--raw", "-r", "-z", renames, f"-l{MOST_COMPARED}", "--root", "--always", "--no-abbrev", _HEADER)
    fields = _fields(_blocks(source.repository, _diff_tree(source, *shown), _lines(batch)))
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
            author,
            _harmless(subject, source),
            _harmless(body, source)[:MOST_BODY_CHARS].strip(),
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
    for block in _blocks(source.repository, arguments, _lines(batch)):
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
    return ("diff-tree", "--stdin", *_PLAIN, *shown, *below)


def _lines(hashes: Sequence[str]) -> bytes:
    return "".join(f"{commit}\n" for commit in hashes).encode("ascii")


@contextmanager
def _attributes() -> Iterator[Path]:
    """A file that has git read every file's hunks as C++, as long as the repository says nothing else of it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "attributes"
        file.write_text("* diff=cpp\n", encoding="utf-8")
        yield file


def _blocks(repository: Path, arguments: Sequence[str], given: bytes) -> Iterator[bytes]:
    """What git prints, piece by piece as it comes; ``given`` must fit into a pipe. Raises _Broken behind the last piece
    where git fails, and where it is silent for too long or missing.
    """
    try:
        process = subprocess.Popen(
            ["git", *_HARMLESS, "-C", str(repository), *arguments],  # noqa: S607 - git is found on the user's own PATH
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=git_environment(),
        )
    except OSError:
        raise _Broken from None
    pieces: Queue[bytes] = Queue(maxsize=8)  # an empty one is the last
    Thread(target=_pump, args=(process, given, pieces), daemon=True).start()
    ended = False
    try:
        while piece := pieces.get(timeout=SILENCE_S):
            yield piece
        ended = True
        if process.wait(SILENCE_S):
            raise _Broken
    except (Empty, subprocess.TimeoutExpired):
        raise _Broken from None
    finally:
        process.kill()
        while not ended:
            ended = not pieces.get()
        process.wait()


def _pump(process: "subprocess.Popen[bytes]", given: bytes, pieces: "Queue[bytes]") -> None:
    """Carries bytes in a thread of its own, because only a queue can be waited for with a limit on every system."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError), process.stdin:  # git may have ended already
        process.stdin.write(given)
    with process.stdout:
        while block := os.read(process.stdout.fileno(), BLOCK_BYTES):
            pieces.put(block)
    pieces.put(b"")
