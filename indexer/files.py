"""Finds and reads the files of a tree that are worth indexing, and says why it leaves the others out.

Follows gitignore rules at every level, never follows a symbolic link, never leaves the root, and never raises for a
single file: what cannot be read becomes a Problem. Knows nothing of what stands in the files.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from pathspec import GitIgnoreSpec

from indexer.errors import TreeError
from indexer.model import Language, Problem, SourceFile

MAX_FILE_BYTES = 2 << 20  # 256 KiB to 16 MiB; nlohmann's single header has 0.9 MB, sqlite3.c 9 MB
SNIFF_BYTES = 8 << 10  # git looks for NUL in the first 8,000 bytes
GENERATED_HEAD_CHARS = 2_000  # generators sign in the first comment

_LANGUAGES = {
    **dict.fromkeys(
        ".c .cc .cpp .cxx .c++ .h .hh .hpp .hxx .h++ .inl .ipp .tpp .txx .cu .cuh .ixx .cppm".split(),
        Language.CPP,
    ),
    ".cmake": Language.CMAKE,
    ".md": Language.MARKDOWN,
    ".markdown": Language.MARKDOWN,
    ".rst": Language.RST,
    ".txt": Language.TEXT,
    ".text": Language.TEXT,
}
_IGNORE_FILES = (".gitignore", ".codehubignore")
_SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "CMakeFiles"})
_GENERATED_NAME = re.compile(r"(\.pb\.(h|cc)|\.grpc\.pb\.(h|cc)|_generated\.h|^(moc|qrc)_.*\.cpp|^ui_.*\.h)$")
_GENERATED_MARK = re.compile(
    r"@generated\b|\bDO NOT (?:EDIT|MODIFY)\b|\b[Gg]enerated (?:by|from|automatically)\b"
    r"|\b[Aa]uto(?:matically)?[- ]?generated\b"
)
_COMMENT_START = re.compile(r"^\s*(//|/\*|\*|#|<!--|\.\.)")


@dataclass(frozen=True, slots=True)
class FileRules:
    """What to take. ``exclude`` holds further gitignore patterns, relative to the root."""

    max_bytes: int = MAX_FILE_BYTES
    include_generated: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that its name and size admit; its text has not been looked at."""

    path: str
    language: Language
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What the walk saw, both sorted by path. ``skipped`` names only files that would be indexed but for the reason."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """A file left out after a look inside."""

    path: str
    reason: str


def language_of(path: str) -> Language | None:
    """The language a file's name tells, or None for files that are not indexed."""
    name = path.rpartition("/")[2]
    if name == "CMakeLists.txt":
        return Language.CMAKE
    stem, dot, suffix = name.rpartition(".")
    return _LANGUAGES.get(dot + suffix.lower()) if stem else None


def check_root(root: Path) -> Path:
    """The resolved root of a tree. Raises TreeError where there is no readable folder."""
    try:
        resolved = root.expanduser().resolve(strict=True)
        if not resolved.is_dir():
            raise TreeError(f"{root} is not a folder.", "Give the folder that holds the source tree.")
        next(os.scandir(resolved), None)
    except FileNotFoundError:
        raise TreeError(f"{root} does not exist.", "Check the path; ~ and relative paths work.") from None
    except PermissionError:
        raise TreeError(f"{root} cannot be read.", "Ask for read access to it, or index a copy.") from None
    except OSError as error:
        raise TreeError(f"{root} cannot be opened: {error.strerror}.", "Check the path.") from None
    return resolved


def scan(root: Path, rules: FileRules) -> Scan:
    """Walks the tree below a root from ``check_root``. Deterministic: the order is that of the paths."""
    candidates: list[Candidate] = []
    skipped: list[tuple[str, str]] = []
    problems: list[Problem] = []
    top = _spec(_lines(root / ".git" / "info" / "exclude"))
    forced = _spec(rules.exclude)
    pending: list[tuple[str, _Rules]] = [("", (("", top),))]
    while pending:
        folder, inherited = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(Problem(folder, 0, f"folder cannot be read: {error.strerror}"))
            continue
        own = [line for name in _IGNORE_FILES for line in _lines(root / folder / name)]
        ignore = (*inherited, (folder, _spec(own))) if own else inherited
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink():
                if language_of(path):
                    skipped.append((path, "symbolic link"))
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name.startswith(".") or entry.name in _SKIPPED_FOLDERS:
                    continue
                if not _ignored(path + "/", ignore) and not forced.match_file(path + "/"):
                    pending.append((path, ignore))
                continue
            language = language_of(path)
            if language is None or _ignored(path, ignore) or forced.match_file(path):
                continue
            _admit(entry, path, language, rules, candidates, skipped, problems)
    return Scan(
        tuple(sorted(candidates, key=lambda candidate: candidate.path)),
        tuple(sorted(skipped)),
        tuple(sorted(problems, key=lambda problem: problem.path)),
    )


def _admit(
    entry: os.DirEntry[str],
    path: str,
    language: Language,
    rules: FileRules,
    candidates: list[Candidate],
    skipped: list[tuple[str, str]],
    problems: list[Problem],
) -> None:
    try:
        path.encode("utf-8")
        status = entry.stat(follow_symlinks=False)
    except UnicodeEncodeError:
        skipped.append((path.encode("utf-8", "replace").decode(), "its name is not valid UTF-8"))
        return
    except OSError as error:
        problems.append(Problem(path, 0, f"cannot be read: {error.strerror}"))
        return
    if not stat.S_ISREG(status.st_mode):
        skipped.append((path, "not a regular file"))
    elif status.st_size > rules.max_bytes:
        skipped.append((path, f"larger than {rules.max_bytes >> 10} KiB ({status.st_size >> 10} KiB)"))
    elif not rules.include_generated and _GENERATED_NAME.search(entry.name):
        skipped.append((path, "generated (by its name)"))
    else:
        candidates.append(Candidate(path, language, status.st_size, status.st_mtime_ns))


def read(root: Path, candidate: Candidate, rules: FileRules) -> SourceFile | Skip | Problem:
    """The file's text, or why there is none. Invalid bytes become U+FFFD; a byte order mark goes."""
    try:
        data = _read_beneath(root, candidate.path, rules.max_bytes)
    except OSError as error:
        return Problem(candidate.path, 0, f"cannot be read: {error.strerror or error}")
    if data is None:
        return Skip(candidate.path, "no regular file beneath the root")
    if len(data) > rules.max_bytes:
        return Skip(candidate.path, f"larger than {rules.max_bytes >> 10} KiB")
    text = _decode(data)
    if text is None:
        return Skip(candidate.path, "binary (NUL bytes)")
    if not rules.include_generated and _is_generated(text, candidate.language):
        return Skip(candidate.path, "generated (it says so)")
    digest = blake2b(data, digest_size=16).hexdigest()
    return SourceFile(candidate.path, candidate.language, candidate.size, candidate.mtime_ns, digest, text)


def _read_beneath(root: Path, path: str, limit: int) -> bytes | None:
    """The bytes, one more than ``limit`` at most; None where the path is no regular file or leaves the root."""
    full = root / path
    if not full.parent.resolve().is_relative_to(root):
        return None
    # O_NONBLOCK: a FIFO that took the file's place since the walk must not hang the indexer.
    descriptor = os.open(full, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(limit + 1)


def _decode(data: bytes) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # MSVC writes resource headers in UTF-16
        return data.decode("utf-16", "replace").replace("\0", "\ufffd")
    if b"\0" in data[:SNIFF_BYTES]:
        return None
    return data.decode("utf-8-sig", "replace")


def _is_generated(text: str, language: Language) -> bool:
    """Only what stands in a comment at the head counts: a code generator holds the words in its strings."""
    if language in (Language.TEXT, Language.MARKDOWN, Language.RST):
        return False
    head = text[:GENERATED_HEAD_CHARS]
    return any(_COMMENT_START.match(line) and _GENERATED_MARK.search(line) for line in head.split("\n"))


_Rules = tuple[tuple[str, GitIgnoreSpec], ...]  # (folder the patterns stand in, patterns), outermost first


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(lines)


def _lines(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return lines.read().splitlines()
    except OSError:
        return []  # most folders have none, and an unreadable one rules nothing out


def _ignored(path: str, rules: _Rules) -> bool:
    """The innermost folder with an opinion decides, as in git."""
    for folder, spec in reversed(rules):
        relative = path[len(folder) + 1 :] if folder else path
        verdict = spec.check_file(relative).include
        if verdict is not None:
            return verdict
    return False
