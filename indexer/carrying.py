"""The way of one index's vectors to Chroma, in its folder or on a server, and Chroma made again when that is the better
way: beside the one that is there, part after part, and put in its place by a rename.

SQLite is the truth. An entry of the outbox is forgotten only after Chroma has taken it, and how far a renewal has come
is noted only after Chroma has it, so a crash at any point loses nothing and repeats at most a batch. Knows nothing of
files, of text, and of who holds the folder.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from indexer.errors import DataFolderError, VectorServerError
from indexer.model import ChunkId, Vector
from indexer.symbol_table.database import Database
from indexer.symbol_table.table import OutboxEntry, SymbolTable

if TYPE_CHECKING:
    from indexer.vectors import ChromaVectors, ServedVectors

DRAIN_BATCH = 100  # entries a step; 64 to 5,461 (Chroma's own limit): small keeps Chroma's journal small
# Chroma's graph never shrinks; after this share of deletions it is made again. 0.1 to 1.
REBUILD_AFTER_DELETED = 0.3
# The share of what Chroma holds that has to go at once from which on it is made again instead: taking out and putting
# in costs twice what filling a new one costs, and leaves its graph worn. 0.1 to 0.5.
REBUILD_FROM_WAITING = 0.2
OVER_ASK = 2  # Chroma's graph is approximate; asking for more and scoring exactly makes the order exact. 1 to 10.
# Seconds for which a Chroma server that did not answer is left in peace: each try may take some. 5 to 300.
OUTAGE_S = 30.0

_CHROMA, _NEW, _OLD = "chroma", "chroma.new", "chroma.old"
_PLACE = "vectors.json"  # where the vectors are on a server
_OWNER = re.compile(r"[0-9a-f]{16}")
# Notes of the table: how many were taken out of Chroma's graph, and how far it is made again.
_DELETED, _RENEWAL = "deleted_from_chroma", "chroma_renewal"
_BEGIN = "begin"
# As notes of an index that has no Chroma yet.
NOT_CARRIED = {_DELETED: "0", _RENEWAL: ""}


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the vector index is from the table, for one embedder."""

    embedder: str
    in_table: int
    in_chroma: int
    missing: int
    orphans: int


class Place(NamedTuple):
    """Where an index has its vectors on a server. It does not go into backups, so that no two share a place."""

    url: str
    owner: str

    @classmethod
    def of(cls, folder: Path, url: str) -> "Place | None":
        """That of an index on this server; None where it has none there."""
        try:
            told = json.loads((folder / _PLACE).read_text(encoding="utf-8"))
            place = cls(str(told["url"]), str(told["owner"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return place if place.url == url and _OWNER.fullmatch(place.owner) else None


@dataclass(slots=True)
class _Outage:
    """When a Chroma server that did not answer is asked again, of the clock that never goes back."""

    until: float = 0.0
    note: str = ""


class Carrier:
    """Chroma as one index uses it. Whoever writes owns the data folder."""

    def __init__(self, database: Database, table: SymbolTable, folder: Path, server: str) -> None:
        self._database = database
        self._table = table
        self._folder = folder
        self._server = server
        self._outage: _Outage = database.commons.of("outage", None, lambda _before: _Outage())
        self._open: dict[str, ChromaVectors | ServedVectors] = {}
        self._open_new: dict[str, ChromaVectors] = {}
        self._compared: set[str] = set()  # embedders whose Chroma was found complete since it was opened

    def close(self) -> None:
        for vectors in (*self._open.values(), *self._open_new.values()):
            vectors.close()
        self._open.clear()
        self._open_new.clear()

    # Reading

    def nearest(self, embedder: str, vector: Vector, limit: int) -> list[tuple[ChunkId, float]]:
        """As Chroma has it, scored exactly."""
        from indexer.vectors import ExactVectors  # noqa: PLC0415 - brings numpy, which symbol look-ups do without

        found = self.chroma(embedder, vector.shape[0]).nearest(vector, limit * OVER_ASK)
        candidates = [chunk for chunk, _ in found]
        ids, matrix = self._table.vectors_of(embedder, candidates)
        if not ids:
            return []
        return ExactVectors(ids, matrix).nearest(vector, limit)

    def served(self, embedder: str, vector: Vector, limit: int) -> list[tuple[ChunkId, float]] | None:
        """As the server has it; None where it has not all of the vectors, or does not answer."""
        if Place.of(self._folder, self._server) is None or monotonic() < self._outage.until:
            return None
        renewal = self._table.note(_RENEWAL) or ""
        version = (self._table.vectors_version(embedder), self._server, renewal)

        def compared(_before: object) -> bool:
            held = self.chroma(embedder, vector.shape[0]).count()
            return not self._table.outbox_depth() and held == self._table.vector_count(embedder)

        try:
            complete = not renewal and self._database.commons.of(f"completeness of {embedder}", version, compared)
            found = self.nearest(embedder, vector, limit) if complete else None
        except VectorServerError as error:
            self._outage.until = monotonic() + OUTAGE_S
            self._outage.note = f"{error.message} Vectors were compared without it."
            return None
        self._outage.note = ""
        return found

    def notes(self) -> tuple[str, ...]:
        """What kept ``served`` from asking the server that there should be; nothing where all is well."""
        return (self._outage.note,) if self._server and self._outage.note else ()

    def waits(self) -> bool:
        """Whether something is left to carry: entries, a renewal that was begun, or all of it, as Chroma is gone."""
        return bool(self._table.outbox_depth() or self._table.note(_RENEWAL) or self.lost())

    def lost(self) -> bool:
        """Whether there are vectors but no Chroma folder at all, or nothing of them with the server."""
        if not self._table.embedders():
            return False
        if self._server:
            return Place.of(self._folder, self._server) is None
        return not (self._folder / _CHROMA).exists()

    def drift(self, embedder: str) -> Drift:
        """Compares Chroma with the table, id by id. The caller owns the folder."""
        in_table = self._table.vector_ids(embedder)
        in_chroma = self.chroma(embedder, self._table.embedders()[embedder]).ids()
        return Drift(embedder, len(in_table), len(in_chroma), len(in_table - in_chroma), len(in_chroma - in_table))

    # Writing

    def carry(self, limit: int) -> bool:
        """Carries some of what waits, ``limit`` entries at most, or reconciles. Tells whether more waits."""
        if self._renews():
            return self._renew(limit)
        if self._table.outbox_depth() > limit:
            self.drain(limit)
            return True
        self.reconcile()
        return False

    def drain(self, limit: int | None = None) -> int:
        """Carries the outbox. Returns how many entries it took; safe to repeat, safe to be killed."""
        taken = 0
        if self._renews():
            waiting = self._table.outbox_depth()
            self._renew(None)
            return waiting
        while (limit is None or taken < limit) and (entries := self._table.outbox(DRAIN_BATCH)):
            for embedder in sorted({entry.embedder for entry in entries}):
                self._apply(embedder, [entry for entry in entries if entry.embedder == embedder], self.chroma)
            self._table.clear_outbox(entries[-1].seq)
            taken += len(entries)
        if taken:
            self._renew_if_worn()
        return taken

    def reconcile(self) -> None:
        """Drains, and makes Chroma again where it holds another number of vectors, as after its folder was deleted, or
        what no embedder uses any more. Compares once for each opening: nobody else writes there.
        """
        self.drain()
        for embedder, dimensions in self._table.embedders().items():
            if embedder not in self._compared:
                if self.chroma(embedder, dimensions).count() != self._table.vector_count(embedder):
                    self.rebuild()
                self._compared.add(embedder)
        if not self._server and len(graphs(self._folder)) > max(1, len(self._table.embedders())):
            self.rebuild()

    def rebuild(self) -> int:
        """Makes Chroma again from the table alone, for every embedder. Returns the number of vectors.

        The one that is there stays until the new one is complete.
        """
        self._table.set_meta({_RENEWAL: _BEGIN})
        self._renew(None)
        return sum(self._table.vector_count(embedder) for embedder in self._table.embedders())

    def sweep(self) -> None:
        """Takes away what a crash has left half made and nothing will use. The caller owns the folder."""
        for name in () if self._table.note(_RENEWAL) else (_NEW, _OLD):
            if (self._folder / name).exists():
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def count_deleted(self, number: int) -> None:
        """Notes how many of the vectors that Chroma has are used no more."""
        before = int(self._table.meta().get(_DELETED, "0"))
        self._table.set_meta({_DELETED: str(before + number)})

    def chroma(self, embedder: str, dimensions: int) -> "ChromaVectors | ServedVectors":
        """What Chroma holds of an embedder."""
        from indexer.vectors import ChromaVectors, ServedVectors  # noqa: PLC0415 - brings numpy, as above

        if embedder not in self._open:
            if self._server:
                self._open[embedder] = ServedVectors(self._server, self._place().owner, embedder, dimensions)
            else:
                (self._folder / _PLACE).unlink(missing_ok=True)
                self._open[embedder] = ChromaVectors(self._folder / _CHROMA, embedder, dimensions)
        return self._open[embedder]

    def _new(self, embedder: str, dimensions: int) -> "ChromaVectors | ServedVectors":
        """What the new one holds; on a server there is only one, and nobody asks it meanwhile."""
        from indexer.vectors import ChromaVectors  # noqa: PLC0415 - as above

        if self._server:
            return self.chroma(embedder, dimensions)
        if embedder not in self._open_new:
            self._open_new[embedder] = ChromaVectors(self._folder / _NEW, embedder, dimensions)
        return self._open_new[embedder]

    def _apply(
        self,
        embedder: str,
        entries: list[OutboxEntry],
        chroma_of: "Callable[[str, int], ChromaVectors | ServedVectors]",
    ) -> None:
        dimensions = self._table.embedders().get(embedder)
        if dimensions is None:
            return
        last = {entry.chunk: entry.operation for entry in entries}
        ids, matrix = self._table.vectors_of(embedder, [chunk for chunk in last if last[chunk] == "upsert"])
        # An entry without a vector any more was overtaken by a deletion; deleting what is not there is harmless.
        gone = sorted(set(last) - set(ids))
        chroma = chroma_of(embedder, dimensions)
        if gone:
            chroma.delete(gone)
            self.count_deleted(len(gone))
        if ids:
            chroma.upsert(ids, matrix)

    def _renew_if_worn(self) -> None:
        deleted = int(self._table.meta().get(_DELETED, "0"))
        held = sum(vectors.count() for vectors in self._open.values())
        if deleted > REBUILD_AFTER_DELETED * max(held, 1) and deleted > DRAIN_BATCH:
            self.rebuild()

    def _renews(self) -> bool:
        """Whether Chroma is being made again, or begins to be as so much of it is to go."""
        if self._is_in_place():
            self._put_in_place()
        if self._table.note(_RENEWAL):
            return True
        going = self._table.outbox_deletions()
        if going <= DRAIN_BATCH or self.lost():
            return False
        held = sum(self.chroma(*embedder).count() for embedder in self._table.embedders().items())
        if going <= REBUILD_FROM_WAITING * held:
            return False
        self._table.set_meta({_RENEWAL: _BEGIN})
        return True

    def _renew(self, limit: int | None) -> bool:
        """Goes on making Chroma again, by ``limit`` vectors or so. Tells whether more is left.

        What was posted to the outbox since it was begun, and before, is applied to the new one at the end: vectors are
        copied in the order of their keys, and one that is taken out after it was copied is in the outbox.
        """
        embedder, after = self._renewed_up_to()
        taken = 0
        for name, dimensions in self._table.embedders().items():
            if name < embedder:
                continue
            after = after if name == embedder else 0
            while limit is None or taken < limit:
                ids, matrix, last = self._table.vectors_after(name, after, DRAIN_BATCH)
                if not ids:
                    break
                self._new(name, dimensions).upsert(ids, matrix)
                after = last
                taken += len(ids)
                if limit is None or taken >= limit:
                    self._table.set_meta({_RENEWAL: json.dumps([name, after])})
            if limit is not None and taken >= limit:
                return True
        while entries := self._table.outbox(DRAIN_BATCH):
            for name in sorted({entry.embedder for entry in entries}):
                self._apply(name, [entry for entry in entries if entry.embedder == name], self._new)
            self._table.clear_outbox(entries[-1].seq)
        self._put_in_place()
        return False

    def _renewed_up_to(self) -> tuple[str, int]:
        """The embedder and the key up to which the new one is filled, which begins empty where it cannot go on."""
        from indexer.vectors import discard, discard_collections  # noqa: PLC0415 - as above

        noted = self._table.note(_RENEWAL) or _BEGIN
        if noted != _BEGIN and (self._server or (self._folder / _NEW).exists()):
            embedder, after = json.loads(noted)
            return str(embedder), int(after)
        if self._server:
            discard_collections(self._server, self._place().owner)
        self._close_new()
        discard(self._folder / _OLD)
        discard(self._folder / _NEW)
        if not self._server:
            self._made(self._folder / _NEW)
        self._table.set_meta({_RENEWAL: json.dumps(["", 0])})
        return "", 0

    def _is_in_place(self) -> bool:
        """Whether a renewal was put in its place and only the note of that is missing."""
        if self._server or self._table.note(_RENEWAL) in {None, "", _BEGIN} or (self._folder / _NEW).exists():
            return False
        return all((self._folder / name).exists() for name in (_CHROMA, _OLD))

    def _put_in_place(self) -> None:
        from indexer.vectors import discard  # noqa: PLC0415 - as above

        if not self._server and (self._folder / _NEW).exists():
            self.close()
            discard(self._folder / _OLD)
            (self._folder / _PLACE).unlink(missing_ok=True)
            try:
                if (self._folder / _CHROMA).exists():
                    (self._folder / _CHROMA).rename(self._folder / _OLD)
                (self._folder / _NEW).rename(self._folder / _CHROMA)
            except OSError as error:
                raise DataFolderError(
                    f"The vectors in {self._folder} cannot be put in their place: {error.strerror}.",
                    "Check the folder and its disk, then run `codehub repair`.",
                ) from error
        self._table.set_meta({_RENEWAL: "", _DELETED: "0"})
        if not self._server:
            discard(self._folder / _OLD)
        self._compared.clear()

    def _made(self, folder: Path) -> None:
        try:
            folder.mkdir()
        except OSError as error:
            raise DataFolderError(
                f"The vector folder {folder} cannot be made: {error.strerror}.", "Free some space or check its owner."
            ) from error

    def _close_new(self) -> None:
        for vectors in self._open_new.values():
            vectors.close()
        self._open_new.clear()

    def _place(self) -> Place:
        """What the collections on the server are called by; a writer makes it up."""
        place = Place.of(self._folder, self._server)
        if place is not None:
            return place
        place = Place(self._server, token_hex(8))
        written = self._folder / f"{_PLACE}.new"
        written.write_text(json.dumps({"url": place.url, "owner": place.owner}), encoding="utf-8")
        written.replace(self._folder / _PLACE)
        # What lies in the folder would be old by the time that the server is left again.
        for name in (_CHROMA, _NEW, _OLD):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        return place


def graphs(folder: Path) -> list[Path]:
    """The folders in which Chroma keeps a graph: one for each embedder, and those of what it has deleted."""
    return sorted(path for path in (folder / _CHROMA).glob("*") if _is_uuid(path.name))


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
