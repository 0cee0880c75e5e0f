"""Nearest neighbours over chunk ids: the one module that knows Chroma, in a folder or as a server, and an exact scan
for when Chroma is not needed.

Knows nothing of texts, chunks or the table that owns the vectors. What stands in Chroma is a cache: whatever is wrong
with it, the way out is to discard the folder and fill it again. The caller holds the data folder's lock, because two
processes on one Chroma folder corrupt it without an error, and never forks while one is open, because the child hangs.
A server takes any number of readers beside the one writer. It is spoken to in plain HTTP (its API v2), by no client of
others: no proxy, redirect or telemetry may carry vectors to any other host than the one that was named.
"""

import ctypes
import errno
import json
import re
import shutil
import sys
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from indexer.errors import DataFolderError, FolderFullError, VectorServerError
from indexer.model import ChunkId, Matrix

Vector = npt.NDArray[np.float32]

FORMAT = 2  # of a collection; another number is another collection, so an old one is ignored

# Neighbours that Chroma weighs for each row it puts in; 10 to 200 (its default is 100). Of the 20 nearest of 5,000
# static vectors, 60 asked for, it finds 99.9% with 100 and 99.6% with 40, which takes three quarters of the time.
EF_CONSTRUCTION = 40

# Rows that Chroma keeps in its journal before it writes them into the graph's files; 50 to 1,000 (its default). The
# journal never shrinks: 1,600 vectors take 4.1 MB with 1,000 and 3.3 MB with 100. 5,000 static vectors take 1.1 s of a
# core with 100, and 0.6 s with 1,000.
FLUSH_EVERY = 100

# Chroma's graph is approximate. It is asked for this many more than wanted, so that those at the cut are the right
# ones. 0 to 100; the graph looks at 100 candidates (ef_search) whatever it is asked for.
OVER_ASK = 20

# Decimals of a similarity from Chroma: its distances are single precision, and their last digits depend on the order
# in which a processor adds. 5 to 7.
DECIMALS = 6

# Two similarities of one scan that differ by less than this may be swapped by single precision. Rows this close to the
# cut are computed again in double precision. 1e-6 (the rounding of 384 products) to 1e-4.
_CLOSE = np.float32(1e-5)

# Seconds that a server may take for an answer; vectors of 100 chunks take it 0.05 s, a search 0.01 s. 2 to 60.
ANSWER_S = 10.0
_SENT_AT_ONCE = 500  # vectors, of its own limit of some 5,000: 1 MB
_READ_AT_ONCE = 5_000  # ids, or collections
_MOST_ANSWERED = 64 << 20

# Bytes of a disk; where less is free, that is why something fails. 64 KiB to 4 MiB.
_LITTLE_BYTES = 1 << 20
_PERTURB = -6  # M_PERTURB of mallopt(3)
_REPAIR = "codehub repair"
_IS_IT_ONE = "Start the server, or name another one with the setting vectors; search works meanwhile."
_COLLECTION_ID = re.compile(r"[0-9a-f-]{8,64}")
_COLLECTION_NAME = re.compile(r"[\w.-]{3,512}", re.ASCII)


class ChromaVectors:
    """Vectors in a Chroma collection on disk, one collection for each embedder, format and number of dimensions.

    Every method raises DataFolderError, with the hint to repair, when Chroma fails or the object was closed. Safe to
    call from several threads. Names of several embedders may be open on one folder at a time.
    """

    def __init__(self, folder: Path, embedder_name: str, dimensions: int) -> None:
        """Opens or makes the collection.

        Takes 0.02 s, for a new folder 0.5 s, and 1 to 3 s more the first time in a process, to import chromadb.
        """
        self._dimensions = dimensions
        self._folder = folder.resolve()  # Chroma tells folders apart by their spelling
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataFolderError(f"The vector folder {folder} cannot be made: {error.strerror}.", _REPAIR) from error
        self._client = _open(self._folder)
        from chromadb.errors import ChromaError  # noqa: PLC0415 - see _open

        self._failures = (ChromaError, OSError)
        try:
            with self._translated("opened"):
                self._collection = self._client.get_or_create_collection(
                    collection_name(embedder_name, dimensions),
                    embedding_function=None,  # the default one would download a model at the first text
                    metadata={"embedder": embedder_name, "dimensions": dimensions, "format": FORMAT},
                    configuration={
                        "hnsw": {
                            "space": "cosine",
                            "ef_construction": EF_CONSTRUCTION,
                            "batch_size": FLUSH_EVERY,
                            "sync_threshold": 2 * FLUSH_EVERY,
                        }
                    },
                )
                self._batch = int(self._client.get_max_batch_size())
        except DataFolderError:
            self.close()
            raise

    def upsert(self, ids: Sequence[ChunkId], vectors: Matrix) -> None:
        """Puts vectors in, in place of those of the same ids; of an id that is given twice the last one counts.

        Raises ValueError, before anything is touched, unless ``vectors`` has the shape (ids, dimensions) and is finite.
        """
        rows = _checked(ids, vectors, self._dimensions)
        last = {chunk: row for row, chunk in enumerate(ids)}
        with self._translated("written"):
            for part in _parts(list(last), self._batch):
                # Overwriting in place costs Chroma about fifteen times as much as taking out and putting in.
                present = self._collection.get(ids=part, include=[])["ids"]
                if present:
                    self._collection.delete(ids=present)
                self._collection.add(ids=part, embeddings=rows[[last[chunk] for chunk in part]])

    def delete(self, ids: Sequence[ChunkId]) -> None:
        """Takes vectors out; ids that are not there are passed over."""
        with self._translated("written"):
            for part in _parts(list(dict.fromkeys(ids)), self._batch):
                self._collection.delete(ids=part)

    def nearest(self, vector: Vector, limit: int) -> list[tuple[ChunkId, float]]:
        """(id, cosine similarity), best first, equal ones by id. Now and then one that belongs there is missing.

        Raises ValueError when the vector has another shape than (dimensions,).
        """
        row = _checked([ChunkId("")], vector[np.newaxis], self._dimensions)
        if limit <= 0:
            return []
        with self._translated("read"):
            found = self._collection.query(query_embeddings=row, n_results=limit + OVER_ASK, include=["distances"])
            pairs = zip(found["ids"][0], found["distances"][0], strict=True)
            scored = [(ChunkId(chunk), round(1.0 - distance, DECIMALS)) for chunk, distance in pairs]
        return _ranked(scored)[:limit]

    def count(self) -> int:
        with self._translated("read"):
            return int(self._collection.count())

    def ids(self) -> set[ChunkId]:
        """Every id that has a vector, for comparison with the table."""
        with self._translated("read"):
            return {ChunkId(chunk) for chunk in self._collection.get(include=[])["ids"]}

    def close(self) -> None:
        """Gives the folder back, once the last one open on it is closed; it can then be discarded and opened again.

        Chroma's own threads let go of the files some milliseconds later. May be called twice; nothing else may follow.
        """
        with self._translated("closed"):
            self._client.close()

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            if _is_full(self._folder, error):
                raise FolderFullError(
                    f"The disk is used up while the vectors in {self._folder} are {doing}.",
                    f"Free some space, then run `{_REPAIR}`: nothing but Chroma's copy of them is incomplete.",
                ) from error
            raise DataFolderError(
                f"The vectors in {self._folder} cannot be {doing}: {_first_line(error)}", _REPAIR
            ) from error


class ServedVectors:
    """Vectors in a collection of a Chroma server, one for each owner, embedder, format and number of dimensions.

    Every method raises VectorServerError when the server does not answer as it should. Safe to call from several
    threads, which take turns.
    """

    def __init__(self, url: str, owner: str, embedder_name: str, dimensions: int) -> None:
        """Asks nothing of the server yet; the collection is made when something is first written.

        ``owner`` tells the collections of one index from those of all others on the server, 1 to 64 of 0-9a-z.
        Raises VectorServerError for an address that is none.
        """
        self._server = _Server(url)
        self._name = f"{collection_name(embedder_name, dimensions)}-{owner}"
        self._dimensions = dimensions
        self._made: Mapping[str, Any] = {
            "name": self._name,
            "get_or_create": True,
            "metadata": {"owner": owner, "embedder": embedder_name, "dimensions": dimensions, "format": FORMAT},
            "configuration": {
                "hnsw": {
                    "space": "cosine",
                    "ef_construction": EF_CONSTRUCTION,
                    "batch_size": FLUSH_EVERY,
                    "sync_threshold": 2 * FLUSH_EVERY,
                }
            },
        }
        self._id = ""

    def upsert(self, ids: Sequence[ChunkId], vectors: Matrix) -> None:
        """As ChromaVectors.upsert."""
        rows = _checked(ids, vectors, self._dimensions)
        last = {chunk: row for row, chunk in enumerate(ids)}
        for part in _parts(list(last), _SENT_AT_ONCE):
            sent = rows[[last[chunk] for chunk in part]].astype("<f4")
            texts = [b64encode(row.tobytes()).decode("ascii") for row in sent]
            self._asked("delete", {"ids": part})  # as above: to overwrite in place costs many times as much
            self._asked("add", {"ids": part, "embeddings": texts})

    def delete(self, ids: Sequence[ChunkId]) -> None:
        """Takes vectors out; ids that are not there are passed over."""
        for part in _parts(list(dict.fromkeys(ids)), _SENT_AT_ONCE):
            self._asked("delete", {"ids": part})

    def nearest(self, vector: Vector, limit: int) -> list[tuple[ChunkId, float]]:
        """As ChromaVectors.nearest."""
        row = _checked([ChunkId("")], vector[np.newaxis], self._dimensions)
        if limit <= 0:
            return []
        asked = {"query_embeddings": row.tolist(), "n_results": limit + OVER_ASK, "include": ["distances"]}
        found = self._asked("query", asked)
        with self._server.understood():
            pairs = zip(found["ids"][0], found["distances"][0], strict=True)
            scored = [(ChunkId(str(chunk)), round(1.0 - float(distance), DECIMALS)) for chunk, distance in pairs]
        return _ranked(scored)[:limit]

    def count(self) -> int:
        found = self._asked("count", None)
        with self._server.understood():
            return int(found)

    def ids(self) -> set[ChunkId]:
        """Every id that has a vector, for comparison with the table."""
        found: set[ChunkId] = set()
        while True:
            page = self._asked("get", {"include": [], "limit": _READ_AT_ONCE, "offset": len(found)})
            with self._server.understood():
                ids = [ChunkId(str(chunk)) for chunk in page["ids"]]
            before = len(found)
            found.update(ids)
            if len(ids) < _READ_AT_ONCE or len(found) == before:
                return found

    def close(self) -> None:
        """Lets the connection go. May be called twice; nothing else may follow."""
        self._server.close()

    def _asked(self, what: str, body: Mapping[str, Any] | None) -> Any:
        """What the collection answers. It is made where it is not there, as after somebody emptied the server."""
        again = bool(self._id)
        if not self._id:
            self._id = self._find()
        method = "GET" if body is None else "POST"
        try:
            return self._server.ask(method, f"collections/{self._id}/{what}", body)
        except _NotThereError:
            if not again:
                raise
            self._id = ""
            return self._asked(what, body)

    def _find(self) -> str:
        made = self._server.ask("POST", "collections", self._made)
        with self._server.understood():
            if not _COLLECTION_ID.fullmatch(made["id"]):
                raise ValueError(made["id"])
            return str(made["id"])


class _NotThereError(VectorServerError):
    """The server knows no such collection."""


class _Server:
    """Speaks to one Chroma server over a connection that is kept. Threads take turns."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = url
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1 or "@" in parts.netloc:
            raise VectorServerError(f"{url} is no address of a Chroma server.", "Such as http://127.0.0.1:8000.")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=ANSWER_S)
        self._base = f"{parts.path.rstrip('/')}/api/v2/tenants/default_tenant/databases/default_database/"
        self._lock = Lock()

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """What the server answers, read as JSON. Raises VectorServerError, of another kind for what is not there."""
        sent = None if body is None else json.dumps(body).encode()
        with self._lock:
            kept = self._connection.sock is not None
            try:
                status, text = self._exchange(method, path, sent)
            except (HTTPException, OSError) as error:
                self._connection.close()
                # A server that waited for long has closed what was kept; asking twice does no harm, as all steps may
                # be repeated.
                if not kept or isinstance(error, TimeoutError):
                    raise self._away(error) from error
                try:
                    status, text = self._exchange(method, path, sent)
                except (HTTPException, OSError) as error:
                    self._connection.close()
                    raise self._away(error) from error
        with self.understood():
            told = json.loads(text) if text else None
        if status == HTTPStatus.NOT_FOUND:
            raise _NotThereError(f"The Chroma server at {self._url} has no such collection.", _REPAIR)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            why = str(told.get("message", ""))[:200] if isinstance(told, dict) else ""
            raise VectorServerError(f"The Chroma server at {self._url} answers {status}: {why}", _IS_IT_ONE)
        return told

    @contextmanager
    def understood(self) -> Iterator[None]:
        """For reading what was answered: of another form than expected, it is no Chroma server's."""
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise VectorServerError(
                f"What answers at {self._url} is no Chroma server that is known.", _IS_IT_ONE
            ) from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _exchange(self, method: str, path: str, sent: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, self._base + path, sent, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read(_MOST_ANSWERED + 1)
        if len(text) > _MOST_ANSWERED:
            raise HTTPException("it answers without end")
        return answer.status, text

    def _away(self, error: Exception) -> VectorServerError:
        told = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return VectorServerError(f"The Chroma server at {self._url} does not answer: {told}.", _IS_IT_ONE)


def discard_collections(url: str, owner: str) -> None:
    """Removes every collection of an owner from a server. Raises VectorServerError."""
    server = _Server(url)
    try:
        start = 0
        gone: list[str] = []
        while True:
            page = server.ask("GET", f"collections?limit={_READ_AT_ONCE}&offset={start}", None)
            with server.understood():
                gone += [c["name"] for c in page if (c["metadata"] or {}).get("owner") == owner]
                start += len(page)
                if len(page) < _READ_AT_ONCE:
                    break
        for name in gone:
            if _COLLECTION_NAME.fullmatch(name):
                with suppress(_NotThereError):
                    server.ask("DELETE", f"collections/{name}", None)
    finally:
        server.close()


class ExactVectors:
    """Vectors in memory, every one of them compared: the truth about what is nearest, 25,000 rows of 384 in 3 ms.

    Similarities are the same to the last digit whatever else is held, so a handful of candidates ranks as the whole
    does. ``matrix`` has the shape (ids, dimensions), half or single precision; it is kept, not copied, and must not be
    changed afterwards.
    """

    def __init__(self, ids: Sequence[ChunkId] = (), matrix: npt.NDArray[np.floating[Any]] | None = None) -> None:
        self._ids: list[ChunkId] = []
        self._matrix: Matrix = np.empty((0, 0), dtype=np.float32)
        self._lengths: Vector = np.empty(0, dtype=np.float32)
        if matrix is not None:
            self.upsert(ids, np.asarray(matrix, dtype=np.float32))

    def upsert(self, ids: Sequence[ChunkId], vectors: Matrix) -> None:
        """As ChromaVectors.upsert; the first vectors decide the number of dimensions."""
        rows = _checked(ids, vectors, self._matrix.shape[1] if self._ids else vectors.shape[-1])
        if not ids:
            return
        last = {chunk: row for row, chunk in enumerate(ids)}
        if len(last) < len(ids):
            rows = rows[list(last.values())]
        self._keep([chunk not in last for chunk in self._ids])
        self._ids += last
        self._matrix = np.concatenate((self._matrix, rows)) if len(self._matrix) else rows
        self._lengths = np.concatenate((self._lengths, _lengths(rows)))

    def delete(self, ids: Sequence[ChunkId]) -> None:
        """Takes vectors out; ids that are not there are passed over."""
        gone = set(ids)
        self._keep([chunk not in gone for chunk in self._ids])

    def nearest(
        self, vector: Vector, limit: int, within: Collection[ChunkId] | None = None
    ) -> list[tuple[ChunkId, float]]:
        """(id, cosine similarity), best first, equal ones by id; of those ``within`` alone where they are given.

        Raises ValueError for a vector of another shape.
        """
        if not self._ids:
            return []
        (row,) = _checked([ChunkId("")], vector[np.newaxis], self._matrix.shape[1])
        if limit <= 0:
            return []
        unit = row.astype(np.float64) / (np.linalg.norm(row.astype(np.float64)) or 1.0)
        rough = self._matrix @ unit.astype(np.float32)
        rough /= self._lengths
        if within is not None:
            rough = np.where([chunk in within for chunk in self._ids], rough, -np.inf)
            limit = min(limit, int(np.isfinite(rough).sum()))
            if not limit:
                return []
        if limit < len(rough):
            cut = np.partition(rough, len(rough) - limit)[len(rough) - limit]
            close = np.flatnonzero(rough >= cut - _CLOSE)
        else:
            close = np.arange(len(rough))
        # A sum along a row is computed the same way for every row; a matrix product treats the last rows differently.
        rows = self._matrix[close].astype(np.float64)
        lengths = np.sqrt((rows * rows).sum(axis=1))
        exact = np.clip((rows * unit).sum(axis=1) / np.where(lengths > 0, lengths, 1.0), -1.0, 1.0)
        scored = zip((self._ids[place] for place in close), exact.tolist(), strict=True)
        return _ranked(scored)[:limit]

    def count(self) -> int:
        return len(self._ids)

    def ids(self) -> set[ChunkId]:
        return set(self._ids)

    def close(self) -> None:
        """Forgets everything."""
        self._keep([False] * len(self._ids))

    def _keep(self, kept: list[bool]) -> None:
        if all(kept):
            return
        mask = np.array(kept, dtype=bool)
        self._ids = [chunk for chunk, keep in zip(self._ids, kept, strict=True) if keep]
        self._matrix = self._matrix[mask]
        self._lengths = self._lengths[mask]


def discard(folder: Path) -> None:
    """Removes a Chroma folder whatever state it is in; nothing happens when there is none.

    The caller has closed every ChromaVectors on it and fills a new one from the table. Raises DataFolderError.
    """
    try:
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)
    except OSError as error:
        raise DataFolderError(
            f"The vector folder {folder} cannot be removed: {error.strerror}.",
            f"Stop the program that uses it, or remove it by hand, then run {_REPAIR}.",
        ) from error


def collection_name(embedder_name: str, dimensions: int) -> str:
    """A name that Chroma accepts (3 to 512 of a-z, A-Z, 0-9, dot, underscore, dash) and that no other embedder has."""
    digest = blake2b(embedder_name.encode(), digest_size=8).hexdigest()
    return f"codehub-{FORMAT}-{dimensions}-{digest}"


def _open(folder: Path) -> Any:
    try:
        import chromadb  # noqa: PLC0415 - takes a second or more, so it waits until vectors are needed
        from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415 - same
        from chromadb.config import Settings  # noqa: PLC0415 - same
        from chromadb.errors import ChromaError  # noqa: PLC0415 - same
    except (ImportError, ValueError) as error:
        # ValueError: while it is imported, Chroma reads settings, and one of them is not what it should be.
        raise DataFolderError(
            f"Chroma does not load: {_first_line(error)}",
            "Install chromadb anew, or correct its settings in the environment and in the .env of this folder.",
        ) from error

    # Chroma takes settings from the environment and from a .env file in the current folder. In somebody's repository
    # these could send the vectors to another host, so everything that decides where data goes is said here.
    settings: Mapping[str, Any] = {
        "_env_file": None,
        "anonymized_telemetry": False,
        "allow_reset": False,
        "chroma_api_impl": "chromadb.api.rust.RustBindingsAPI",
        "chroma_otel_collection_endpoint": "",
        "chroma_server_host": None,
        "migrations": "apply",
    }
    _clear_fresh_memory()
    try:
        return chromadb.PersistentClient(str(folder), settings=Settings(**settings))
    except (ChromaError, OSError, AttributeError, ValueError) as error:
        # Chroma remembers even what failed to start, under the path, and would hand it out at the next try.
        if str(folder) not in SharedSystemClient._identifier_to_refcount:  # noqa: SLF001 - the public way forgets every folder
            SharedSystemClient._identifier_to_system.pop(str(folder), None)  # noqa: SLF001 - same
        # AttributeError: Chroma 1.5 hides a failure to open behind one of its own when it cleans up. ValueError:
        # another part of this process has the folder open with other settings.
        if _is_full(folder, error.__context__ or error):
            raise FolderFullError(
                f"The disk is used up while the vectors in {folder} are opened.",
                f"Free some space, then run `{_REPAIR}`: nothing but Chroma's copy of them is incomplete.",
            ) from error
        raise DataFolderError(
            f"The vectors in {folder} cannot be opened: {_first_line(error.__context__ or error)}", _REPAIR
        ) from error


def _is_full(folder: Path, error: BaseException) -> bool:
    """Whether an error is one of a disk that is used up; Chroma does not always say so."""
    if "disk is full" in str(error) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        return True
    try:
        return shutil.disk_usage(folder).free < _LITTLE_BYTES
    except OSError:
        return False


def _clear_fresh_memory() -> None:
    """Has all memory that is asked for from now on overwritten first.

    Chroma's graph is written to disk with the room it keeps for more, as malloc gave it: with whatever this process had
    read before, secrets that were taken out of a text among it. Only glibc can do this.
    """
    if sys.platform == "linux":
        setting = getattr(ctypes.CDLL(None), "mallopt", None)
        if setting is not None:
            setting(_PERTURB, 0xFF)


def _checked(ids: Sequence[ChunkId], vectors: Matrix, dimensions: int) -> Matrix:
    """The vectors in single precision, side by side in memory. Raises ValueError unless they fit."""
    if vectors.shape != (len(ids), dimensions):
        raise ValueError(f"{len(ids)} ids need vectors of shape ({len(ids)}, {dimensions}), not {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector holds a number that is not finite")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _lengths(rows: Matrix) -> Vector:
    """The length of each row; 1 for a row of zeros, which then is similar to nothing."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return np.where(lengths > 0, lengths, np.float32(1)).astype(np.float32)


def _parts(ids: list[ChunkId], size: int) -> Iterator[list[ChunkId]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _ranked(scored: Any) -> list[tuple[ChunkId, float]]:
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
