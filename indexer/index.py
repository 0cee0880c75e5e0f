"""One workspace's index: the symbol table and the vector index behind it, kept as one; and the folder of all of them.

SQLite is the truth. Vectors are computed once, kept there, and carried to Chroma through an outbox. What Chroma returns
is checked against the table, and the whole of Chroma can be made again from SQLite alone.
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
from typing import TYPE_CHECKING, Self, TypeVar

from indexer.carrying import NOT_CARRIED, Carrier, Drift, Place, graphs
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
from indexer.symbol_table.table import SymbolTable
from indexer.symbol_table.text import Form, TextSearch, Wording
from indexer.symbol_table.walk import Walk
from indexer.words import query_words, words

if TYPE_CHECKING:
    from filelock import FileLock

    from indexer.layers import Layers

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

_Shared = TypeVar("_Shared")

_CARD = "workspace.json"  # name and root, readable when the index itself is not
_TABLE = "index.db"
_FORGOTTEN = "forgotten"  # in the data folder: where what is being deleted lies meanwhile
_HALF_MADE = re.compile(r"(?:workspace\.json|vectors\.json|index\.db)\.new(?:-wal|-shm|-journal)?")
_WORKSPACE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


# Notes of an index whose tree was not looked at yet: none of its files is believed by its time, and no part is enough.
_UNREAD = {"trusted_ns": "0", "looked": "", "begun": "1", "commit": "", "dirty": "0", "indexed_at": ""}
_SEALED = "sealed"  # a note of an index that still tells of another tree, and is not to be read


@dataclass(frozen=True, slots=True)
class Workspace:
    """A tree that has an index."""

    name: str
    root: Path
    used_ns: int  # when it was last opened for writing


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
                lock.acquire(timeout=timeout_s, poll_interval=_LOOK_S)
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

    def root_of(self, name: str) -> Path:
        """The tree of a workspace; the current folder for one without a card."""
        return next((workspace.root for workspace in self.workspaces() if workspace.name == name), Path())

    def workspace_folder(self, name: str) -> Path:
        if not _WORKSPACE_NAME.fullmatch(name):
            raise DataFolderError(
                f"{name!r} is no workspace name.",
                "Use lower-case letters, digits, dots, dashes and underscores, 64 at most.",
            )
        return self.path / "workspaces" / name

    def forget(self, name: str) -> None:
        """Deletes a workspace's index, all of it at once for whoever looks. The caller owns the folder.

        A server that is away keeps its vectors, unseen.
        """
        folder = self.workspace_folder(name)
        if place := Place.of(folder, self.vector_server):
            from indexer.vectors import discard_collections  # noqa: PLC0415 - brings numpy

            with suppress(VectorServerError):
                discard_collections(place.url, place.owner)
        aside = self.path / _FORGOTTEN / f"{name}-{token_hex(4)}"
        try:
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
        except FileNotFoundError:
            return
        except OSError:
            aside = folder  # on a full disk nothing can be put aside
        shutil.rmtree(aside, ignore_errors=True)

    def half_made(self) -> list[Path]:
        """What a crash has left that nothing will ever use. The caller owns the folder: nobody is making it just now.

        One that has lost its card or its index alone is none of them: a card says what to index, an index holds facts.
        """
        folders = sorted(path for path in (self.path / "workspaces").glob("*") if path.is_dir())
        folders = [path for path in folders if not path.is_symlink()]
        found = [path for path in folders if not (path / _CARD).exists() and not (path / _TABLE).exists()]
        found += sorted((self.path / _FORGOTTEN).glob("*"))
        for folder in folders:
            if folder not in found:
                found += sorted(path for path in folder.iterdir() if _HALF_MADE.fullmatch(path.name))
        return found

    def sweep(self) -> int:
        """Takes away what ``half_made`` finds. Returns how much; what cannot be taken away stays."""
        found = self.half_made()
        for path in found:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
        return len(found)

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
        self.workspace = folder.name
        self.root = root
        self.table = SymbolTable(database)
        self.carrier = Carrier(database, self.table, folder, server)
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
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # In one step, so that neither a crash nor a full disk leaves a workspace without its card.
            written = folder / f"{_CARD}.new"
            written.write_text(json.dumps({"root": str(root)}), encoding="utf-8")
            written.replace(folder / _CARD)
        index = cls(Database.create_or_open(folder / _TABLE, max_bytes), folder, root, data.vector_server, owner=True)
        index.carrier.sweep()
        return index

    @staticmethod
    def seed(data: DataFolder, name: str, sibling: str, stop: Callable[[], None]) -> bool:
        """Begins a workspace that has no index with a copy of that of a sibling, a tree of the same files or nearly so.

        Paths are relative, so the rows hold as they are; of the files only the digests are believed, so that the next
        refresh reads each and keeps those whose bytes are equal, with all that was made of them. Tells whether it did.
        Nobody can read it until it is unsealed: whoever may see this tree need not be allowed to see the other. The
        caller owns the folder. Raises DataFolderError, or what ``stop`` raises; then nothing was begun.
        """
        folder, source = data.workspace_folder(name), data.workspace_folder(sibling) / _TABLE
        if (folder / _TABLE).exists() or not source.exists():
            return False
        made = folder / f"{_TABLE}.new"
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _unlink_table(made)
        Database.copy(source, made, {**_UNREAD, **NOT_CARRIED, _SEALED: "1"}, stop)
        with _writable(folder):
            made.replace(folder / _TABLE)
        return True

    @staticmethod
    def make_anew(data: DataFolder, name: str, kept: Collection[str]) -> None:
        """Puts an empty index in place of one that is too old to be read, with these of its notes.

        The caller owns the folder, and fills it. Raises DataFolderError.
        """
        folder = data.workspace_folder(name)
        notes = Database.notes_of_any(folder / _TABLE)
        made = folder / f"{_TABLE}.new"
        with _writable(folder):
            _unlink_table(made)
        database = Database.create_or_open(made)
        try:
            SymbolTable(database).set_meta({key: notes[key] for key in kept if key in notes})
        finally:
            database.close()
        with _writable(folder):
            for end in ("-wal", "-shm"):  # a journal of the old one would be taken for the new one's
                (folder / f"{_TABLE}{end}").unlink(missing_ok=True)
            made.replace(folder / _TABLE)

    @staticmethod
    def notes_of_any(data: DataFolder, name: str) -> dict[str, str]:
        """The notes of an index of whatever format; nothing where they cannot be read. The caller owns the folder."""
        table = data.workspace_folder(name) / _TABLE
        return Database.notes_of_any(table) if table.exists() else {}

    @classmethod
    def for_adding(cls, data: DataFolder, name: str, max_bytes: int | None = None) -> "Index":
        """Opens a workspace that exists for writing, without making it the one last used.

        The caller owns the data folder. Raises DataFolderError.
        """
        folder = data.workspace_folder(name)
        if not (folder / _TABLE).exists():
            raise DataFolderError(f"There is no workspace {name!r}.", "Run `codehub index PATH` first.")
        database = Database.create_or_open(folder / _TABLE, max_bytes)
        index = cls(database, folder, data.root_of(name), data.vector_server, owner=True)
        index.carrier.sweep()
        return index

    @classmethod
    def for_reading(cls, data: DataFolder, name: str) -> "Index":
        """Opens beside whatever writes. Raises DataFolderError when there is no such workspace."""
        folder = data.workspace_folder(name)
        if not (folder / _TABLE).exists():
            raise DataFolderError(f"There is no workspace {name!r}.", "Run `codehub index PATH` first.")
        database = Database.open_readonly(folder / _TABLE)
        index = cls(database, folder, data.root_of(name), data.vector_server, owner=False)
        if index.table.note(_SEALED):
            index.close()
            raise DataFolderError(f"The workspace {name!r} is not made yet.", "Run `codehub index PATH` to its end.")
        return index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.carrier.close()
        self._database.close()

    def unseal(self) -> None:
        """Lets others read an index that was seeded, once it tells of nothing but its own tree."""
        if self.table.note(_SEALED):
            self.table.set_meta({_SEALED: ""})

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
        return (self._database.generation(), self.table.note(CHANGES), embedders, self.walk.version())

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
            found = None if within is not None else self.carrier.served(embedder, vector, limit)
            return self._exact_vectors(embedder).nearest(vector, limit, within) if found is None else found
        if not self._owner or within is not None:
            return self._exact_vectors(embedder).nearest(vector, limit, within)
        self.reconcile()
        return self.carrier.nearest(embedder, vector, limit)

    def vector_notes(self) -> tuple[str, ...]:
        """What kept ``neighbours`` from asking the Chroma server that there should be; nothing where all is well."""
        return self.carrier.notes()

    def carry(self, limit: int) -> bool:
        """Carries some of what waits to Chroma, ``limit`` entries at most, or reconciles. Tells whether more waits."""
        return self.carrier.carry(limit)

    def drain(self, limit: int | None = None) -> int:
        """Carries the outbox to Chroma. Returns how many entries it took; safe to repeat, safe to be killed."""
        return self.carrier.drain(limit)

    def reconcile(self) -> None:
        """Drains, and makes Chroma again where it holds another number of vectors, as after its folder was deleted."""
        self.carrier.reconcile()

    def rebuild_vectors(self) -> int:
        """Makes Chroma again from the table alone, for every embedder, beside the one that is there until it is
        complete. Returns the number of vectors.
        """
        return self.carrier.rebuild()

    def forget_embedder(self, embedder: str) -> None:
        """Takes all vectors of an embedder out. Chroma keeps them, unseen, until it is made again."""
        gone = self.table.vector_count(embedder)
        self.table.forget_embedder(embedder)
        self.carrier.count_deleted(gone)

    def lost_chroma(self) -> bool:
        """Whether there are vectors but no Chroma folder at all, or nothing of them with the server."""
        return self.carrier.lost()

    def waits_for_chroma(self) -> bool:
        """Whether something is left to carry there."""
        return self.carrier.waits()

    def stray_graphs(self) -> int:
        """How many folders Chroma has left behind that no embedder uses."""
        return 0 if self._server else max(0, len(graphs(self._folder)) - max(1, len(self.table.embedders())))

    def drift(self, embedder: str) -> Drift:
        """Compares Chroma with the table, id by id. The caller owns the folder."""
        return self.carrier.drift(embedder)

    def problems(self) -> list[str]:
        """What is wrong with the table itself; empty when all is well."""
        return self._database.integrity_problems()

    def _exact_vectors(self, embedder: str) -> "Layers":
        from indexer.layers import MOST_ABOVE, Layers  # noqa: PLC0415 - as above
        from indexer.vectors import ExactVectors  # noqa: PLC0415 - as above

        def read(before: Layers | None) -> Layers:
            """Only what changed is read, where that is known and little."""
            changed = None if before is None else self.table.vectors_changed(embedder, before.version)
            if before is None or changed is None or before.above + len(changed) > MOST_ABOVE:
                return Layers(version, ExactVectors(*self.table.vectors(embedder)))
            return before.changed(version, changed, *self.table.vectors_of(embedder, changed))

        with self._database.moment():
            version = self.table.vectors_version(embedder)
            return self._database.commons.of(f"vectors of {embedder}", version, read)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataFolderError(
            f"The folder {folder} cannot be written: {error.strerror}.", "Free some space or check its owner."
        ) from None


def _unlink_table(table: Path) -> None:
    for end in ("", "-wal", "-shm", "-journal"):
        table.with_name(f"{table.name}{end}").unlink(missing_ok=True)
