"""Full loads on disk: entries in a file that is only appended to, and a manifest that says how much of it counts.

A crash at any point leaves the state before or the state after: the manifest is replaced in one step, and what lies in
the file beyond it is overwritten by the next writer. Everything is compared with its digest when it is read; what does
not match is made again from the index, with a note. The caller holds the lock of the data folder while it writes.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

from hub.fullload.entries import Entry, Hunk, Kind, Lines
from hub.fullload.log import Log

VERSION = 1  # of the files. Raise it when entries are written or rendered otherwise: kept ones are then made again
MOST_KEPT = 4  # layouts of a workspace, one for each model that was asked; 1 to 20
MOST_RECORD_BYTES = 64 << 20  # of one entry, unpacked; a file has MAX_FILE_BYTES at most, and escapes make it longer
_MANIFEST = "full-load.json"
_DIGEST_BYTES = 16


class DamagedError(Exception):
    """What is kept does not match its digests, or is of another version."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A log with what it was made of. ``sources`` maps paths to digests of the files' bytes at its last entry."""

    log: Log
    sources: Mapping[str, str]
    name: str = ""  # of the file that holds the entries; "" for one that was never written
    records: int = 0  # entries in the file
    size: int = 0  # bytes of the file that count
    chain: str = ""  # digest over all records


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder of one layout: what is asked with now, and what will take its place."""

    folder: Path

    def written_at(self) -> int:
        """Changes with every write, whoever did it; 0 where nothing is kept."""
        try:
            return (self.folder / _MANIFEST).stat().st_mtime_ns
        except OSError:
            return 0

    def read(self) -> tuple[Kept | None, Kept | None]:
        """(current, next), None for what is not there. Raises DamagedError."""
        try:
            manifest = json.loads((self.folder / _MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        except (OSError, ValueError) as error:
            raise DamagedError(str(error)) from None
        if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
            raise DamagedError("it is of another version")
        return self._read(manifest.get("current")), self._read(manifest.get("next"))

    def write(self, current: Kept, following: Kept | None) -> tuple[Kept, Kept | None]:
        """Makes both last and returns them as they were written. Raises OSError; the state before then still stands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        current = self._written(current)
        following = self._written(following) if following else None
        manifest = {"version": VERSION, "current": _card(current), "next": _card(following) if following else None}
        _replace(self.folder / _MANIFEST, json.dumps(manifest, ensure_ascii=True).encode())
        names = {current.name, following.name if following else "", _MANIFEST}
        for file in self.folder.iterdir():
            if file.name not in names:
                with suppress(OSError):
                    file.unlink()
        return current, following

    def _read(self, card: object) -> Kept | None:
        if card is None:
            return None
        try:
            name, records, size, chain, sources = (
                card[key]  # type: ignore[index] # checked by what follows
                for key in ("file", "records", "bytes", "chain", "sources")
            )
            if "/" in name or name != Path(name).name:
                raise DamagedError("its file has no plain name")
            with (self.folder / name).open("rb") as file:
                data = file.read(size)
            found, digest = _entries(data)
            if len(found) != records or digest != chain or len(data) != size:
                raise DamagedError("its entries are not those that were written")
            return Kept(Log(found), dict(sources), name, records, size, chain)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise DamagedError(str(error)) from None

    def _written(self, kept: Kept) -> Kept:
        """Appends what the file lacks, or begins a new file."""
        entries, costs = kept.log.entries, kept.log.costs
        if kept.name and kept.records == len(entries):
            return kept
        name = kept.name or self._free_name()
        chain = kept.chain
        packed = []
        for entry, cost in zip(entries[kept.records :], costs[kept.records :], strict=True):
            record = _packed(entry, cost)
            chain = _chained(chain, record)
            packed.append(len(record).to_bytes(8, "little") + record)
        data = b"".join(packed)
        path = self.folder / name
        with path.open("r+b" if kept.name else "xb") as file:
            file.seek(kept.size)
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        return replace(kept, name=name, records=len(entries), size=kept.size + len(data), chain=chain)

    def _free_name(self) -> str:
        taken = {file.name for file in self.folder.iterdir()}
        return next(name for number in range(len(taken) + 1) if (name := f"entries-{number}") not in taken)


def forget_oldest(folder: Path, keep: Path) -> None:
    """Deletes the layouts that were written longest ago beyond MOST_KEPT, never ``keep``."""

    def written(shelf: Path) -> tuple[float, str]:
        try:
            return (shelf / _MANIFEST).stat().st_mtime, shelf.name
        except OSError:
            return 0.0, shelf.name

    others = sorted((shelf for shelf in folder.iterdir() if shelf != keep), key=written, reverse=True)
    for shelf in others[MOST_KEPT - 1 :]:
        shutil.rmtree(shelf, ignore_errors=True)


def _card(kept: Kept) -> dict[str, object]:
    return {
        "file": kept.name,
        "records": kept.records,
        "bytes": kept.size,
        "chain": kept.chain,
        "tokens": kept.log.tokens,
        "sources": dict(kept.sources),
    }


def _packed(entry: Entry, cost: int) -> bytes:
    fields = {key: value for key, value in asdict(entry).items() if value}
    text = json.dumps({"tokens": cost, **fields}, ensure_ascii=True)
    return zlib.compress(text.encode("ascii"), 6)


def _entries(data: bytes) -> tuple[list[tuple[Entry, int]], str]:
    found = []
    chain = ""
    start = 0
    while start < len(data):
        size = int.from_bytes(data[start : start + 8], "little")
        record = data[start + 8 : start + 8 + size]
        if not 0 < size == len(record):
            raise DamagedError("an entry is cut short")
        chain = _chained(chain, record)
        found.append(_unpacked(record))
        start += 8 + size
    return found, chain


def _unpacked(record: bytes) -> tuple[Entry, int]:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(record, MOST_RECORD_BYTES)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise DamagedError("an entry is longer than any file")
    fields = json.loads(text)
    entry = Entry(
        Kind(fields["kind"]),
        str(fields.get("path", "")),
        str(fields.get("text", "")),
        tuple(_hunks(fields.get("hunks", ()))),
        str(fields.get("before", "")),
        tuple(map(str, fields.get("paths", ()))),
    )
    return entry, int(fields["tokens"])


def _hunks(listed: Iterable[tuple[list[list[int]], int, str]]) -> Iterable[Hunk]:
    for instead, first, text in listed:
        yield Hunk(tuple(Lines(int(one), int(last)) for one, last in instead), int(first), str(text))


def _chained(chain: str, record: bytes) -> str:
    return blake2b(chain.encode("ascii") + record, digest_size=_DIGEST_BYTES).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    half = path.with_suffix(".new")
    with half.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
