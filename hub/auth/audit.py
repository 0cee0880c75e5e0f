"""A record of what was done and refused: lines that are only appended, each holding the digest of the one before.

Whoever edits, drops, swaps or inserts a line breaks the chain at that place. A file beside it, the head, holds number
and digest of the last line, so that lines cut off at the end are missed, too. Both lie with what they guard: who may
write the data folder could make all of it anew, so a digest that ``verify`` gives can be kept elsewhere and compared.

A line that a crash left half-written is told by the next entry, never dropped in silence. Knows nothing of what its
entries mean, and keeps no text of users but what callers put into the details, cut short.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from hub.auth.files import opened
from hub.auth.keys import written_time
from hub.auth.model import Principal
from indexer.errors import DataFolderError, FolderFullError

FILE = "audit.jsonl"
MENDED = "audit.mended"  # the action of an entry that tells what was found wrong at the end of the log
PART_BYTES = 64 << 20  # after which a new file is begun
MOST_DETAILS = 32
MOST_DETAIL_CHARS = 300
LONGEST_LINE = 512 << 10  # bytes; more than the longest entry
MOST_TORN_BYTES = 2 * LONGEST_LINE
_BEGINNING = "0" * 64
_BLOCK = 4 << 10
_NOTHING_TORN = hashlib.sha256(b"").hexdigest()

Detail = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log; ``at`` in seconds since 1970."""

    number: int  # from 1 on, without a gap
    at: float
    who: str  # a key's id, "local", or "nobody"
    owner: str
    action: str  # such as key.create
    workspace: str  # "" where none is concerned
    outcome: str  # such as done, denied, failed
    detail: Detail
    before: str  # digest of the entry before it
    digest: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a look at the whole log found. ``digest`` is of the last good entry, to be compared with one kept before."""

    entries: int  # good ones, from the first on
    broken_at: int | None  # number of the first entry that is not as it was written, or is missing
    reason: str  # "" where the log is whole
    mended: tuple[int, ...]  # numbers of entries that tell of a line left half-written
    torn: bool  # the end is half-written, which the next entry will tell
    digest: str


def entry_shape(entry: Entry) -> dict[str, Any]:
    """An entry as JSON."""
    return {
        "number": entry.number,
        "at": written_time(entry.at),
        "who": entry.who,
        "owner": entry.owner,
        "action": entry.action,
        "workspace": entry.workspace,
        "outcome": entry.outcome,
        "detail": dict(entry.detail),
        "digest": entry.digest,
    }


def verification_shape(found: Verification) -> dict[str, Any]:
    """A verification as JSON."""
    return {**asdict(found), "mended": list(found.mended), "whole": found.broken_at is None}


@dataclass(frozen=True, slots=True)
class _Head:
    number: int
    digest: str


class AuditLog:
    """Appends to the log of a data folder and reads it. Safe in several threads and processes at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """``path`` is of the file that is written; full ones lie beside it with the number of their last entry."""
        self.path = path
        self._clock = clock
        self._head = path.with_suffix(".head")

    def append(
        self, principal: Principal | None, action: str, workspace: str, outcome: str, detail: Detail | None = None
    ) -> None:
        """Writes an entry and has it on disk when this returns. Raises DataFolderError.

        ``principal`` is None for one who could not say who he is.
        """
        entry = {
            "action": _short(action),
            "at": round(self._clock(), 3),
            "detail": _shortened(detail or {}),
            "outcome": _short(outcome),
            "owner": _short(principal.owner) if principal else "",
            "who": _short(principal.key_id) if principal else "nobody",
            "workspace": _short(workspace),
        }
        with self._failing(), self._alone() as head_file:
            last = self._last(head_file)
            if self.path.exists() and self.path.stat().st_size >= PART_BYTES:
                self.path.rename(self._part(last.number))
            self._write(entry, last, head_file)

    def verify(self) -> Verification:
        """Reads the whole log and says whether it is as it was written. Raises DataFolderError.

        What is appended meanwhile neither waits nor counts.
        """
        with self._failing(), ExitStack() as stack:
            with self._alone() as head_file:
                known = _head(head_file)
                files = [stack.enter_context(part.open("rb")) for part in self._parts()]
                sizes = [os.fstat(file.fileno()).st_size for file in files]
            return self._verified(known, chain.from_iterable(map(_lines, files, sizes)))

    def entries(self, limit: int = 100, before: int | None = None) -> tuple[Entry, ...]:
        """The newest entries, newest first, those below the number ``before``; lines that are none are left out."""
        found: list[Entry] = []
        with self._failing(), self._alone():
            for line in (line for part in reversed(self._parts()) for line in _backwards(part)):
                entry = _read(line)
                if entry is not None and (before is None or entry.number < before):
                    found.append(entry)
                    if len(found) >= limit:
                        break
        return tuple(found)

    def _verified(self, known: _Head | None, lines: Iterable[bytes]) -> Verification:
        last, mended, torn, reason = _Head(0, _BEGINNING), [], b"", ""
        met = known is None  # the entry that the head tells of
        broken = 0
        for line in lines:
            entry = _read(line)
            if entry is None:
                torn += line
                if len(torn) > MOST_TORN_BYTES:
                    reason = "what stands there is no entry"
                    break
                continue
            reason = _wrong(entry, last, torn)
            if reason:
                told = entry.detail.get("broken_at")
                broken = told if entry.action == MENDED and isinstance(told, int) else 0
                break
            if torn:
                mended.append(entry.number)
                torn = b""
            last = _Head(entry.number, entry.digest)
            met = met or last == known
        broken = min(broken or last.number + 1, last.number + 1)
        if not reason and known is None and last.number > 1:
            reason = f"{self._head.name} is missing"
        elif not reason and known is not None and not met:
            reason = "entries are missing at the end" if known.number > last.number else "it is not what was written"
            broken = min(broken, known.number)
        return Verification(last.number, broken if reason else None, reason, tuple(mended), bool(torn), last.digest)

    def _last(self, head_file: int) -> _Head:
        """What the next entry follows. Where the log does not end as the head says, an entry first tells so."""
        known, (entry, torn) = _head(head_file), self._end()
        found = _Head(entry.number, entry.digest) if entry else _Head(0, _BEGINNING)
        # A crash leaves the head one entry behind at most.
        before = entry.before if entry else _BEGINNING
        follows = found.number <= 1 if known is None else known in (found, _Head(found.number - 1, before))
        if follows and not torn:
            return found
        headed = known.number if known else found.number + 1
        detail = {
            "lost": max(0, headed - found.number) if known else 0,
            "torn_bytes": len(torn),
            "torn_digest": hashlib.sha256(torn).hexdigest(),
            **({} if follows else {"broken_at": min(headed, found.number + 1)}),
        }
        entry_of = {"action": MENDED, "at": round(self._clock(), 3), "detail": detail, "outcome": "done"}
        return self._write({**entry_of, "owner": "", "who": "codehub", "workspace": ""}, found, head_file)

    def _end(self) -> tuple[Entry | None, bytes]:
        """The last entry, and the half-written lines behind it, which get an end of line where they have none."""
        torn = b""
        for line in (line for part in reversed(self._parts()) for line in _backwards(part)):
            if not line.endswith(b"\n"):
                self._add(b"\n")
            whole = line if line.endswith(b"\n") else line + b"\n"
            if entry := _read(whole):
                return entry, torn
            torn = whole + torn
            if len(torn) > MOST_TORN_BYTES:
                raise DataFolderError(
                    f"The end of the audit log {self.path} is no audit log.", "Move the file away, and keep it."
                )
        return None, torn

    def _write(self, entry: Mapping[str, object], last: _Head, head_file: int) -> _Head:
        whole = {**entry, "before": last.digest, "number": last.number + 1}
        digest = hashlib.sha256(_canonical(whole)).hexdigest()
        self._add(_canonical({**whole, "digest": digest}) + b"\n")
        os.pwrite(head_file, f"{last.number + 1:020} {digest}\n".encode("ascii"), 0)
        return _Head(last.number + 1, digest)

    def _add(self, line: bytes) -> None:
        """Appends while the log is held; what the disk has no room for is cut off again."""
        file = opened(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            size, whole = os.fstat(file).st_size, False
            try:
                whole = os.write(file, line) == len(line)
                os.fsync(file)
            finally:
                if not whole:
                    os.ftruncate(file, size)
        finally:
            os.close(file)
        if not whole:
            raise FolderFullError(f"The disk is full while writing {self.path}.", "Free some space.")

    def _parts(self) -> list[Path]:
        """The files of the log, the oldest first."""
        full = sorted(self.path.parent.glob(f"{self.path.stem}-{'[0-9]' * 12}{self.path.suffix}"))
        return [*full, self.path] if self.path.exists() else full

    def _part(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}-{number:012}{self.path.suffix}")

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Holds the log against every other thread and process; yields the open head."""
        head_file = opened(self._head, os.O_RDWR)
        try:
            fcntl.flock(head_file, fcntl.LOCK_EX)
            yield head_file
        finally:
            os.close(head_file)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataFolderError(
                f"The audit log {self.path} cannot be read or written: {error.strerror}.",
                "Check that you own it and that its disk is not full.",
            ) from None


def _head(file: int) -> _Head | None:
    number, _, digest = os.pread(file, 200, 0).decode("ascii", "replace").strip().partition(" ")
    return _Head(int(number), digest) if number.isdecimal() else None


def _canonical(entry: Mapping[str, object]) -> bytes:
    return json.dumps(entry, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":")).encode("ascii")


def _read(line: bytes) -> Entry | None:
    """The entry, or None where the line is not exactly what was written as one."""
    try:
        whole = json.loads(line)
        digest = whole.pop("digest")
        right = hashlib.sha256(_canonical(whole)).hexdigest() == digest
        if not right or _canonical({**whole, "digest": digest}) + b"\n" != line:
            return None
        entry = Entry(digest=digest, **whole)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    return entry if type(entry.number) is int and isinstance(entry.detail, dict) else None


def _wrong(entry: Entry, last: _Head, torn: bytes) -> str:
    """Why an entry cannot stand behind the last one and what is torn between them; "" where it can."""
    if (entry.number, entry.before) != (last.number + 1, last.digest):
        return "what stands there is no entry" if torn else "it does not follow the one before it"
    told = entry.detail if entry.action == MENDED else {}
    if told.get("broken_at"):
        return "what was written before it is missing or was changed"
    if told.get("torn_digest", _NOTHING_TORN) != hashlib.sha256(torn).hexdigest():
        return "what stands there is no entry" if torn else "it tells of a line that is missing"
    return ""


def _lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The lines of the first bytes with their ends; an overlong one in pieces, none of which is an entry."""
    while size > 0 and (line := file.readline(min(size, LONGEST_LINE))):
        size -= len(line)
        yield line


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file with their ends, the last first, read from its end in blocks."""
    with path.open("rb") as file:
        place, rest = file.seek(0, os.SEEK_END), b""
        while place:
            step = min(_BLOCK, place)
            place -= step
            file.seek(place)
            begun, *lines = (file.read(step) + rest).split(b"\n")
            rest = begun + b"\n" if lines else begun
            if lines and lines[-1]:
                yield lines[-1]
            for line in reversed(lines[:-1]):
                yield line + b"\n"
        if rest:
            yield rest


def _short(text: str) -> str:
    return text if len(text) <= MOST_DETAIL_CHARS else text[: MOST_DETAIL_CHARS - 1] + "…"


def _shortened(detail: Detail) -> dict[str, str | int | float]:
    """Details that are bounded, and that JSON can write and read back the same."""
    kept: dict[str, str | int | float] = {}
    for name, value in list(detail.items())[:MOST_DETAILS]:
        exact = isinstance(value, int) or (isinstance(value, float) and value - value == 0)
        kept[_short(name)] = value if exact else _short(str(value))
    return kept
