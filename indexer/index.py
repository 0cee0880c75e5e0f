"""One workspace's index: the symbol table and the vector index behind it, kept as one.

SQLite is the truth. Vectors are computed once, kept there, and carried to Chroma through an outbox: an entry is
forgotten only after Chroma has taken it, so a crash at any point loses nothing and repeats at most a batch. What
Chroma returns is checked against the table, and the whole of Chroma can be made again from SQLite alone.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from indexer.errors import DataFolderError, EmbedderError, FolderBusyError, VectorServerError
from indexer.model import ChunkId, Stamp, Vector
from indexer.symbol_table.catalogue import Catalogue
from indexer.symbol_table.commits import Commits, Told, everywhere
from indexer.symbol_table.compiled import CompiledTable
from indexer.symbol_table.database import Database
from indexer.symbol_table.facts import Facts, order_of
from indexer.symbol_table.graph import DEEPEST, Effect, Graph, Reach, Step
from indexer.symbol_table.lineage import Relative
from indexer.symbol_table.links import LinkTable
from indexer.symbol_table.log import CHANGES, CommitLog
from indexer.symbol_table.macros import MacroTable
from indexer.symbol_table.mentions import Mentions
from indexer.symbol_table.names import FoundSymbols, Match, Outline
from indexer.symbol_table.table import OutboxEntry, SymbolTable
from indexer.symbol_table.text import Form, TextSearch, Wording
from indexer.symbol_table.walk import Walk
from indexer.words import query_words, words

if TYPE_CHECKING:
    from filelock import FileLock

    from indexer.vectors import ChromaVectors, ExactVectors, ServedVectors

__all__ = [
    "DEEPEST",
    "DataFolder",
    "Drift",
    "Effect",
    "Form",
    "FoundSymbols",
    "Index",
    "Match",
    "Outline",
    "Reach",
    "Relative",
    "Step",
    "Told",
    "Wording",
    "Workspace",
    "everywhere",
    "order_of",
    "query_words",
    "words",
]

# Seconds that a writer waits for one that works in the background and holds the folder for moments only. 5 to 60.
PATIENCE_S = 20.0
_LOOK_S = 0.05  # between two looks at a lock that another holds
# Seconds in which one that has just taken the lock says who it is. 0.2 to 2.
_SILENT_S = 0.5
DRAIN_BATCH = 100  # entries a step; 64 to 5,461 (Chroma's own limit): small keeps Chroma's journal small
# Chroma's graph never shrinks; after this share of deletions it is made again. 0.1 to 1.
REBUILD_AFTER_DELETED = 0.3
OVER_ASK = 2  # Chroma's graph is approximate; asking for more and scoring exactly makes the order exact. 1 to 10.

_Shared = TypeVar("_Shared")

_CARD = "workspace.json"  # name and root, readable when the index itself is not
_PLACE = "vectors.json"  # where its vectors are on a server
_OWNER = re.compile(r"[0-9a-f]{16}")
# Seconds for which a Chroma server that did not answer is left in peace: each try may take some. 5 to 300.
OUTAGE_S = 30.0
_WORKSPACE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tree that has an index."""

    name: str
    root: Path
    used_ns: int  # when it was last opened for writing


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the vector index is from the table, for one embedder."""

    embedder: str
    in_table: int
    in_chroma: int
    missing: int
    orphans: int


class _Place(NamedTuple):
    """Where an index has its vectors on a server. It does not go into backups, so that no two share a place."""

    url: str
    owner: str

    @classmethod
    def of(cls, folder: Path, url: str) -> "_Place | None":
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


class DataFolder:
    """The folder that holds all workspaces. One process at a time may write to it."""

    def __init__(self, path: Path, vector_server: str = "") -> None:
        """``vector_server`` is the address of a Chroma server; without one each index has a Chroma folder."""
        self.path = path
        self.vector_server = vector_server

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Holds the folder for writing. Raises FolderBusyError when another process does.

        One that holds it for a moment is waited for.
        """
        with self._locked(0.0):
            yield

    @contextmanager
    def owned_for_a_moment(self) -> Iterator[None]:
        """As ``owned``, for work in the background: it waits for its turn however long that takes, and others wait for
        it, so what is done inside must end within a few seconds.
        """
        with self._locked(-1.0):
            yield

    @contextmanager
    def background(self, work: str = "background") -> Iterator[bool]:
        """True for the one process that does some work in the background; False, at once, for every other."""
        from filelock import FileLock, Timeout  # noqa: PLC0415 - as below

        lock = FileLock(self.path / f"{work}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def _locked(self, timeout_s: float) -> Iterator[None]:
        """A negative ``timeout_s`` waits without end and tells the others that this one takes moments only."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DataFolderError(
                f"The data folder {self.path} cannot be made: {error.strerror}.", "Give another one with --data."
            ) from None
        from filelock import FileLock, Timeout  # noqa: PLC0415 - 0.03 s that readers need not wait for

        lock = FileLock(self.path / "lock")
        moments = timeout_s < 0
        try:
            try:
                lock.acquire(timeout=timeout_s, poll_interval=1.0 if moments else _LOOK_S)
            except Timeout:
                self._wait_for_a_moment(lock)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._note({"pid": os.getpid(), "moments": moments})
            yield
        finally:
            self._note({})
            lock.release()

    def _wait_for_a_moment(self, lock: "FileLock") -> None:
        """Takes the lock from one that holds it for moments. Raises FolderBusyError for any other owner."""
        from filelock import Timeout  # noqa: PLC0415 - as above

        waited = 0.0
        while waited < PATIENCE_S:
            owner = self._owner()
            if owner and not owner.get("moments"):
                break
            if not owner and waited > _SILENT_S:
                break
            try:
                lock.acquire(timeout=_LOOK_S, poll_interval=_LOOK_S / 5)
            except Timeout:
                waited += _LOOK_S
            else:
                return
        owner = self._owner()
        who = f"process {owner['pid']}" if owner else "another process"
        raise FolderBusyError(
            f"The data folder {self.path} is being written by {who}.",
            "Wait for it or stop it; searching and asking work meanwhile.",
        ) from None

    def _unwritable(self, error: OSError) -> DataFolderError:
        return DataFolderError(
            f"The data folder {self.path} cannot be written: {error.strerror}.", "Give another one with --data."
        )

    def workspaces(self) -> list[Workspace]:
        """All of them, by name, those with a damaged index too."""
        found = []
        for file in sorted(self.path.glob(f"workspaces/*/{_CARD}")):
            try:
                card = json.loads(file.read_text(encoding="utf-8"))
                found.append(Workspace(file.parent.name, Path(card["root"]), file.stat().st_mtime_ns))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a folder that is being made or deleted
        return found

    def workspace_folder(self, name: str) -> Path:
        if not _WORKSPACE_NAME.fullmatch(name):
            raise DataFolderError(
                f"{name!r} is no workspace name.",
                "Use lower-case letters, digits, dots, dashes and underscores, 64 at most.",
            )
        return self.path / "workspaces" / name

    def forget(self, name: str) -> None:
        """Deletes a workspace's index. The caller owns the folder. A server that is away keeps its vectors, unseen."""
        folder = self.workspace_folder(name)
        if place := _Place.of(folder, self.vector_server):
            from indexer.vectors import discard_collections  # noqa: PLC0415 - brings numpy

            with suppress(VectorServerError):
                discard_collections(place.url, place.owner)
        shutil.rmtree(folder, ignore_errors=True)

    def _owner(self) -> dict[str, int]:
        """What the one that holds the folder says of itself; nothing while it has not said it."""
        try:
            owner = json.loads((self.path / "owner").read_text(encoding="utf-8"))
            return {"pid": int(owner["pid"]), "moments": int(owner.get("moments", False))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _note(self, owner: Mapping[str, int]) -> None:
        try:
            (self.path / "owner").write_text(json.dumps(owner), encoding="utf-8")
        except OSError:
            return  # only the message of the next one to knock is poorer


class Index:
    """An open index. Its parts read (``facts``, ``graph``, ``walk``, ``mentions``, ``text``, ``table``); writing goes
    through the pipeline and the methods here.
    """

    def __init__(self, database: Database, folder: Path, root: Path, server: str = "", *, owner: bool) -> None:
        self._database = database
        self._folder = folder
        self._owner = owner
        self._server = server
        self._outage: _Outage = database.commons.of("outage", None, lambda _before: _Outage())
        self.workspace = folder.name
        self.root = root
        self._chroma: dict[str, ChromaVectors | ServedVectors] = {}
        self._compared: set[str] = set()  # embedders whose Chroma was found complete since it was opened
        self.table = SymbolTable(database)
        self.compiled = CompiledTable(database)
        self.facts = Facts(database)
        self.graph = Graph(database, self.facts)
        self.walk = Walk(database)
        self.mentions = Mentions(database, self.facts.names)
        self.text = TextSearch(database)
        self.catalogue = Catalogue(database, self.facts)
        self.macros = MacroTable(database)
        self.links = LinkTable(database)
        self.commits = Commits(database)
        self.log = CommitLog(database)

    @classmethod
    def for_writing(cls, data: DataFolder, name: str, root: Path, max_bytes: int | None = None) -> "Index":
        """Opens or makes a workspace. The caller owns the data folder. Raises DataFolderError."""
        folder = data.workspace_folder(name)
        known = next((workspace.root for workspace in data.workspaces() if workspace.name == name), root)
        if known != root:
            raise DataFolderError(
                f"The workspace {name!r} holds {known}, not {root}.", "Give this tree another name with --workspace."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # In one step, so that neither a crash nor a full disk leaves a workspace without its card.
            written = folder / f"{_CARD}.new"
            written.write_text(json.dumps({"root": str(root)}), encoding="utf-8")
            written.replace(folder / _CARD)
        except OSError as error:
            raise DataFolderError(
                f"The folder {folder} cannot be written: {error.strerror}.", "Free some space or check its owner."
            ) from None
        database = Database.create_or_open(folder / "index.db", max_bytes)
        return cls(database, folder, root, data.vector_server, owner=True)

    @classmethod
    def for_adding(cls, data: DataFolder, name: str) -> "Index":
        """Opens a workspace that exists, to write vectors, without making it the one last used.

        The caller owns the data folder. Raises DataFolderError.
        """
        folder = data.workspace_folder(name)
        if not (folder / "index.db").exists():
            raise DataFolderError(f"There is no workspace {name!r}.", "Run `codehub index PATH` first.")
        return cls(Database.create_or_open(folder / "index.db"), folder, Path(), data.vector_server, owner=True)

    @classmethod
    def for_reading(cls, data: DataFolder, name: str) -> "Index":
        """Opens beside whatever writes. Raises DataFolderError when there is no such workspace."""
        folder = data.workspace_folder(name)
        if not (folder / "index.db").exists():
            raise DataFolderError(f"There is no workspace {name!r}.", "Run `codehub index PATH` first.")
        root = next((workspace.root for workspace in data.workspaces() if workspace.name == name), Path())
        return cls(Database.open_readonly(folder / "index.db"), folder, root, data.vector_server, owner=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for vectors in self._chroma.values():
            vectors.close()
        self._chroma.clear()
        self._database.close()

    def stamp(self) -> Stamp:
        note = self.table.note
        return Stamp(note("commit") or None, note("dirty") == "1", note("indexed_at") or "")

    @contextmanager
    def moment(self) -> Iterator[None]:
        """All that is read within is of one moment, whatever others write meanwhile."""
        with self._database.moment():
            yield

    def state(self) -> tuple[object, ...]:
        """Equal for two readings in one process only while all that a search reads is equal, notes left aside."""
        embedders = tuple((name, self.table.vectors_version(name)) for name in self.table.embedders())
        return (self._database.generation(), self.table.note(CHANGES), embedders)

    def shared(self, what: str, version: Hashable, make: Callable[[], _Shared]) -> _Shared:
        """What all readers of this index in this process keep of a version, made when it is first asked for.

        Several threads may use it at a time.
        """
        return self._database.commons.of(what, version, lambda _before: make())

    def generation(self) -> int:
        """A number that grows with each change of files, chunks and links: what was read is good while it stays."""
        return self._database.generation()

    def version(self) -> int:
        """A number that changes with whatever others write, notes and vectors too. Each opening counts for itself."""
        return self._database.version()

    def bytes_on_disk(self) -> int:
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())

    def changed_since(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths whose file no longer has the size and time at which it was indexed."""
        changed = []
        asked = sorted(set(paths))
        files = self.table.files_known(asked)
        for path in asked:
            try:
                status = (self.root / path).stat()
            except OSError:
                changed.append(path)
                continue
            known = files.get(path)
            if known is None or (status.st_size, status.st_mtime_ns) != (known.size, known.mtime_ns):
                changed.append(path)
        return changed

    # Vectors

    def neighbours(
        self, embedder: str, vector: Vector, limit: int, within: Collection[ChunkId] | None = None
    ) -> list[tuple[ChunkId, float]]:
        """(chunk, cosine similarity), best first, equal ones by id, of those ``within`` alone where they are given;
        empty while there are no vectors. Raises EmbedderError for a vector of another size.

        The owner asks Chroma for more than enough and scores those exactly; others scan, unless there is a Chroma
        server that has all. Both give the same numbers.
        """
        dimensions = self.table.embedders().get(embedder)
        if dimensions is None:
            return []
        if vector.shape != (dimensions,):
            raise EmbedderError(
                f"{embedder} now gives vectors of {vector.shape[-1]} dimensions, and {dimensions} are kept of it.",
                "Run `codehub repair --rebuild`: vectors of two kinds cannot be compared.",
            )
        if self._server:
            found = None if within is not None else self._served(embedder, vector, limit)
            return self._exact_vectors(embedder).nearest(vector, limit, within) if found is None else found
        if not self._owner or within is not None:
            return self._exact_vectors(embedder).nearest(vector, limit, within)
        self.reconcile()
        return self._of_chroma(embedder, vector, limit)

    def vector_notes(self) -> tuple[str, ...]:
        """What kept ``neighbours`` from asking the Chroma server that there should be; nothing where all is well."""
        return (self._outage.note,) if self._server and self._outage.note else ()

    def _served(self, embedder: str, vector: Vector, limit: int) -> list[tuple[ChunkId, float]] | None:
        """As the server has it; None where it has not all of the vectors, or does not answer."""
        if _Place.of(self._folder, self._server) is None or monotonic() < self._outage.until:
            return None
        version = (self.table.vectors_version(embedder), self._server)

        def compared(_before: object) -> bool:
            held = self._chroma_vectors(embedder, vector.shape[0]).count()
            return not self.table.outbox_depth() and held == self.table.vector_count(embedder)

        try:
            complete = self._database.commons.of(f"completeness of {embedder}", version, compared)
            found = self._of_chroma(embedder, vector, limit) if complete else None
        except VectorServerError as error:
            self._outage.until = monotonic() + OUTAGE_S
            self._outage.note = f"{error.message} Vectors were compared without it."
            return None
        self._outage.note = ""
        return found

    def _of_chroma(self, embedder: str, vector: Vector, limit: int) -> list[tuple[ChunkId, float]]:
        from indexer.vectors import ExactVectors  # noqa: PLC0415 - brings numpy, which symbol look-ups do without

        found = self._chroma_vectors(embedder, vector.shape[0]).nearest(vector, limit * OVER_ASK)
        candidates = [chunk for chunk, _ in found]
        ids, matrix = self.table.vectors_of(embedder, candidates)
        if not ids:
            return []
        return ExactVectors(ids, matrix).nearest(vector, limit)

    def carry(self, limit: int) -> bool:
        """Carries some of what waits to Chroma, ``limit`` entries at most, or reconciles. Tells whether more waits."""
        if self.table.outbox_depth() > limit:
            self.drain(limit)
            return True
        self.reconcile()
        return False

    def drain(self, limit: int | None = None) -> int:
        """Carries the outbox to Chroma. Returns how many entries it took; safe to repeat, safe to be killed."""
        taken = 0
        while (limit is None or taken < limit) and (entries := self.table.outbox(DRAIN_BATCH)):
            for embedder in sorted({entry.embedder for entry in entries}):
                self._apply(embedder, [entry for entry in entries if entry.embedder == embedder])
            self.table.clear_outbox(entries[-1].seq)
            taken += len(entries)
        if taken:
            self._renew_if_worn()
        return taken

    def reconcile(self) -> None:
        """Drains, and makes Chroma again where it holds another number of vectors, as after its folder was deleted.

        Compares once for each opening: nobody else writes there.
        """
        self.drain()
        for embedder, dimensions in self.table.embedders().items():
            if embedder not in self._compared:
                if self._chroma_vectors(embedder, dimensions).count() != self.table.vector_count(embedder):
                    self.rebuild_vectors()
                self._compared.add(embedder)

    def forget_embedder(self, embedder: str) -> None:
        """Takes all vectors of an embedder out. Chroma keeps them, unseen, until it is made again."""
        gone = self.table.vector_count(embedder)
        self.table.forget_embedder(embedder)
        self._count_deleted(gone)

    def lost_chroma(self) -> bool:
        """Whether there are vectors but no Chroma folder at all, or nothing of them with the server."""
        if not self.table.embedders():
            return False
        if self._server:
            return _Place.of(self._folder, self._server) is None
        return not (self._folder / "chroma").exists()

    def _apply(self, embedder: str, entries: list[OutboxEntry]) -> None:
        last = {entry.chunk: entry.operation for entry in entries}
        ids, matrix = self.table.vectors_of(embedder, [chunk for chunk in last if last[chunk] == "upsert"])
        # An entry without a vector any more was overtaken by a deletion; deleting what is not there is harmless.
        gone = sorted(set(last) - set(ids))
        chroma = self._chroma_vectors(embedder, self.table.embedders()[embedder])
        if gone:
            chroma.delete(gone)
            self._count_deleted(len(gone))
        if ids:
            chroma.upsert(ids, matrix)

    def _renew_if_worn(self) -> None:
        deleted = int(self.table.meta().get("deleted_from_chroma", "0"))
        held = sum(vectors.count() for vectors in self._chroma.values())
        if deleted > REBUILD_AFTER_DELETED * max(held, 1) and deleted > DRAIN_BATCH:
            self.rebuild_vectors()

    def _count_deleted(self, number: int) -> None:
        before = int(self.table.meta().get("deleted_from_chroma", "0"))
        self.table.set_meta({"deleted_from_chroma": str(before + number)})

    def drift(self, embedder: str) -> Drift:
        """Compares Chroma with the table, id by id. The caller owns the folder."""
        in_table = self.table.vector_ids(embedder)
        in_chroma = self._chroma_vectors(embedder, self.table.embedders()[embedder]).ids()
        return Drift(embedder, len(in_table), len(in_chroma), len(in_table - in_chroma), len(in_chroma - in_table))

    def rebuild_vectors(self) -> int:
        """Makes Chroma again from the table alone, for every embedder. Returns the number of vectors."""
        for vectors in self._chroma.values():
            vectors.close()
        self._chroma.clear()
        from indexer.vectors import discard, discard_collections  # noqa: PLC0415 - as above

        discard(self._folder / "chroma")
        if self._server:
            discard_collections(self._server, self._place().owner)
        total = 0
        for embedder, dimensions in self.table.embedders().items():
            ids, matrix = self.table.vectors(embedder)
            chroma = self._chroma_vectors(embedder, dimensions)
            for start in range(0, len(ids), DRAIN_BATCH):
                chroma.upsert(ids[start : start + DRAIN_BATCH], matrix[start : start + DRAIN_BATCH])
            total += len(ids)
        self.table.clear_outbox(up_to=self.table.last_outbox_entry())
        self.table.set_meta({"deleted_from_chroma": "0"})
        return total

    def problems(self) -> list[str]:
        """What is wrong with the table itself; empty when all is well."""
        return self._database.integrity_problems()

    def _chroma_vectors(self, embedder: str, dimensions: int) -> "ChromaVectors | ServedVectors":
        from indexer.vectors import ChromaVectors, ServedVectors  # noqa: PLC0415 - brings numpy, as above

        if embedder not in self._chroma:
            if self._server:
                self._chroma[embedder] = ServedVectors(self._server, self._place().owner, embedder, dimensions)
            else:
                (self._folder / _PLACE).unlink(missing_ok=True)
                self._chroma[embedder] = ChromaVectors(self._folder / "chroma", embedder, dimensions)
        return self._chroma[embedder]

    def _place(self) -> "_Place":
        """What the collections on the server are called by; a writer makes it up."""
        place = _Place.of(self._folder, self._server)
        if place is not None:
            return place
        place = _Place(self._server, token_hex(8))
        written = self._folder / f"{_PLACE}.new"
        written.write_text(json.dumps({"url": place.url, "owner": place.owner}), encoding="utf-8")
        written.replace(self._folder / _PLACE)
        # What lies in the folder would be old by the time that the server is left again.
        shutil.rmtree(self._folder / "chroma", ignore_errors=True)
        return place

    def _exact_vectors(self, embedder: str) -> "ExactVectors":
        from indexer.vectors import ExactVectors  # noqa: PLC0415 - as above

        def read(_before: ExactVectors | None) -> ExactVectors:
            return ExactVectors(*self.table.vectors(embedder))

        with self._database.moment():
            version = self.table.vectors_version(embedder)
            return self._database.commons.of(f"vectors of {embedder}", version, read)
