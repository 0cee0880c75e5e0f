"""Files, chunks and vectors, written batch by batch. Whatever concerns the vector index is posted to an outbox in the
same transaction; ``indexer.index`` carries it there. Knows nothing of how text was parsed.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from indexer.errors import EmbedderError
from indexer.model import Chunk, ChunkId, Matrix, Problem, Span, SymbolId
from indexer.rows import FileRows, Row, packed
from indexer.secrets import REDACTED
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.links import EVERY_FILE, Doubts, drop_links
from indexer.symbol_table.names import parts

_CHUNK_COLUMNS = (
    "SELECT chunks.id, path, first_line, last_line, title, text, symbol"
    " FROM chunks JOIN files ON files.id = chunks.file"
)
_IDS_A_STATEMENT = 500  # SQLite allows 32,766 values; small statements stay in its cache
# Changes of vectors of which is kept, for readers, what they changed; and chunks of one change above which it is not.
_LOGGED_CHANGES = 2_000
_LOGGED_AT_ONCE = 500
# A vector's key is its embedder's number above this many bits, and its chunk's row below: vectors of one embedder lie
# side by side, and a new one at the end.
_ROW_BITS = 40
_OF_CHUNK = f"vectors.key = (? << {_ROW_BITS}) + chunks.rowid"
_OF_EMBEDDER = f"key >= ?1 << {_ROW_BITS} AND key < (?1 + 1) << {_ROW_BITS}"


@dataclass(frozen=True, slots=True)
class KnownFile:
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Counts:
    files: int
    lines: int
    symbols: int
    references: int
    chunks: int
    problems: int


@dataclass(frozen=True, slots=True)
class Totals:
    """How much an index holds, as a report of indexing tells it."""

    files: int
    lines: int
    symbols: int
    references: int
    chunks: int
    waiting: Mapping[str, int]  # chunks without a vector, by embedder

    def changed(self, before: "Totals", after: "Totals") -> "Totals":
        """These, after some files held what is ``after`` instead of what was ``before``."""
        return Totals(
            self.files + after.files - before.files,
            self.lines + after.lines - before.lines,
            self.symbols + after.symbols - before.symbols,
            self.references + after.references - before.references,
            self.chunks + after.chunks - before.chunks,
            {name: self.waiting[name] + after.waiting[name] - number for name, number in before.waiting.items()},
        )


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    seq: int
    operation: str  # "upsert" or "delete"
    embedder: str
    chunk: ChunkId


class SymbolTable:
    """The tables of one workspace. Reading needs nothing but an open database; writing needs the folder's lock."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._logs = True  # which vectors change

    # Writing

    def write(self, batch: Iterable[FileRows]) -> None:
        """Puts files in, or in place of what was there, as one transaction. Chunks that stayed keep their vectors."""
        with self._db.transaction():
            doubts = Doubts(self._db)
            for rows in batch:
                self._write_file(rows, doubts)
            doubts.post()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """For the time in which a tree is written into an empty table: faster than one file after another."""
        self._logs = False
        try:
            with self._db.indexes_later():
                yield
        finally:
            self._logs = True

    def remove(self, paths: Iterable[str]) -> None:
        with self._db.transaction():
            doubts = Doubts(self._db)
            for path in paths:
                found = self._db.row("SELECT id FROM files WHERE path = ?", (path,))
                if found:
                    doubts.removed(found[0], path)
                    self._drop_chunks(self._chunk_rows(found[0]))
                    self._drop_facts(found[0])
                    self._db.run("DELETE FROM files WHERE id = ?", (found[0],))
            doubts.post()

    def touch(self, files: Iterable[tuple[str, int, int]]) -> None:
        """Notes (path, size, mtime_ns) of files whose bytes are as before."""
        with self._db.transaction():
            self._db.run_many("UPDATE files SET size = ?2, mtime_ns = ?3 WHERE path = ?1", files)

    def distrust_files(self, values: Mapping[str, str]) -> None:
        """Forgets what the files' bytes were and what their uses mean, so that each is read and linked again; notes
        values in the same transaction.
        """
        with self._db.transaction():
            self._db.run("UPDATE files SET digest = '', mtime_ns = 0")
            self._db.run("INSERT OR IGNORE INTO unlinked VALUES(?)", (EVERY_FILE,))
            self._db.run_many("INSERT OR REPLACE INTO meta VALUES(?, ?)", values.items())

    def begin(self) -> None:
        """Notes that a run is under way; it is for that run to note ``begun`` as "" when it is finished."""
        self.set_meta({"begun": "1"})

    def set_meta(self, values: Mapping[str, str]) -> None:
        with self._db.transaction():
            self._db.run_many("INSERT OR REPLACE INTO meta VALUES(?, ?)", values.items())

    def _write_file(self, rows: FileRows, doubts: Doubts) -> None:
        db = self._db
        found = db.row("SELECT id FROM files WHERE path = ?", (rows.path,))
        before: dict[str, tuple[int, bytes]] = {}
        if found is None:
            file = db.insert(
                "INSERT INTO files(path, language, size, mtime_ns, digest, lines) VALUES(?, ?, ?, ?, ?, ?)", rows.file
            )
            doubts.added(file, rows)
        else:
            file = int(found[0])
            doubts.replaced(file, rows)
            db.run(
                "UPDATE files SET language = ?2, size = ?3, mtime_ns = ?4, digest = ?5, lines = ?6 WHERE path = ?1",
                rows.file,
            )
            before = self._chunk_rows(file)
            self._drop_facts(file)
        db.run_many(f"INSERT INTO symbols VALUES({marks(range(18))})", ((file, *row) for row in rows.symbols))
        db.run_many(f"INSERT INTO refs VALUES(NULL, {marks(range(10))})", ((file, *row) for row in rows.references))
        db.run_many("INSERT INTO contexts VALUES(?, ?, ?, ?)", ((file, *row) for row in rows.contexts))
        db.run_many("INSERT INTO problems VALUES(?, ?, ?)", ((file, *row) for row in rows.problems))
        staying = {row[0] for row in rows.chunks}
        self._drop_chunks({chunk: row for chunk, row in before.items() if chunk not in staying})
        places = self._write_chunks(file, rows, before)
        if rows.embedder:
            known = self._with_vector(rows.embedder, file) if before else ()
            new = [
                (row, chunk[0], vector)
                for row, chunk, vector in zip(places, rows.chunks, rows.vectors, strict=True)
                if chunk[0] not in known
            ]
            self._put_vectors(rows.embedder, len(rows.vectors[0]) if rows.vectors else 0, new)

    def _write_chunks(self, file: int, rows: FileRows, before: Mapping[str, tuple[int, bytes]]) -> list[int]:
        """Puts a file's chunks in, or in place of those that stayed. Returns their rows, in order."""
        db = self._db
        free = db.number("SELECT coalesce(max(rowid), 0) + 1 FROM chunks")
        places: list[int] = []
        added: list[Row] = []
        spoken: list[Row] = []
        for row, columns in zip(rows.chunks, rows.words, strict=True):
            place, digest = before.get(row[0], (free, b""))
            places.append(place)
            if place == free:
                added.append((place, file, *row))
                free += 1
            else:
                db.run(
                    "UPDATE chunks SET first_line = ?, last_line = ?, symbol = ?, words_digest = ? WHERE rowid = ?",
                    (row[1], row[2], row[5], row[6], place),
                )
                if digest == row[6]:
                    continue
                db.run("DELETE FROM chunk_words WHERE rowid = ?", (place,))
            spoken.append((place, *columns))
        db.run_many(
            "INSERT INTO chunks(rowid, file, id, first_line, last_line, title, text, symbol, words_digest)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            added,
        )
        db.run_many("INSERT INTO chunk_words(rowid, name, signature, doc, path, body) VALUES(?, ?, ?, ?, ?, ?)", spoken)
        return places

    def _with_vector(self, embedder: str, file: int) -> set[str]:
        """The ids of a file's chunks that have a vector."""
        rows = self._db.rows(
            f"SELECT id FROM chunks JOIN vectors ON {_OF_CHUNK} WHERE file = ?", (self._number(embedder), file)
        )
        return {chunk for (chunk,) in rows}

    def _chunk_rows(self, file: int) -> dict[str, tuple[int, bytes]]:
        rows = self._db.rows("SELECT id, rowid, words_digest FROM chunks WHERE file = ?", (file,))
        return {chunk: (rowid, digest) for chunk, rowid, digest in rows}

    def _drop_chunks(self, gone: Mapping[str, tuple[int, bytes]]) -> None:
        db = self._db
        for chunk, (rowid, _) in gone.items():
            db.run("DELETE FROM chunk_words WHERE rowid = ?", (rowid,))
            db.run("DELETE FROM chunks WHERE rowid = ?", (rowid,))
            for number, embedder in self._numbers():
                key = (number << _ROW_BITS) + rowid
                if db.row("SELECT 1 FROM vectors WHERE key = ?", (key,)):
                    db.run("DELETE FROM vectors WHERE key = ?", (key,))
                    self._count_change(number, [ChunkId(chunk)])
                    db.run("INSERT INTO outbox(operation, embedder, chunk) VALUES('delete', ?, ?)", (embedder, chunk))

    def _drop_facts(self, file: int) -> None:
        for table in ("symbols", "refs", "contexts", "problems", "compiled"):
            self._db.run(f"DELETE FROM {table} WHERE file = ?", (file,))
        drop_links(self._db, file)

    # Vectors and their way to the vector index

    def waiting(self, embedder: str) -> int:
        """Chunks that have no vector of this embedder yet."""
        return self._db.number(
            f"SELECT count(*) FROM chunks WHERE NOT EXISTS (SELECT 1 FROM vectors WHERE {_OF_CHUNK})",
            (self._number(embedder),),
        )

    def waiting_chunks(self, embedder: str, paths: Sequence[str] | None = None) -> list[tuple[ChunkId, int]]:
        """(id, length of the text) of the chunks without a vector, of these files or of all, by length and id, so that
        batches are even.
        """
        number = self._number(embedder)
        rows = [
            row
            for within, values in self._of_files("file", paths)
            for row in self._db.rows(
                "SELECT id, length(text) FROM chunks"
                f" WHERE {within} AND NOT EXISTS (SELECT 1 FROM vectors WHERE {_OF_CHUNK})",
                (*values, number),
            )
        ]
        return sorted(((ChunkId(chunk), length) for chunk, length in rows), key=lambda row: (row[1], row[0]))

    def _of_files(self, column: str, paths: Sequence[str] | None) -> list[tuple[str, tuple[int, ...]]]:
        """Conditions under which rows are of these files, or of all, each with its values; a few hundred in each."""
        if paths is None:
            return [("1", ())]
        files = [
            int(row[0])
            for part in parts(paths)
            for row in self._db.rows(f"SELECT id FROM files WHERE path IN ({marks(part)})", part)
        ]
        return [(f"{column} IN ({marks(part)})", tuple(part)) for part in parts(files)]

    def store_vectors(self, embedder: str, ids: Sequence[ChunkId], vectors: Matrix) -> int:
        """Keeps unit vectors as ``packed`` and posts them for the vector index, as one transaction.

        Those of chunks that are gone by now are left out. Returns how many were kept. Raises EmbedderError when the
        vectors that are kept of this embedder have another size: they are never mixed.
        """
        blobs = dict(zip(ids, packed(vectors), strict=True))
        with self._db.transaction():
            rows: dict[ChunkId, int] = {}
            for part in _parts(list(blobs)):
                rows |= dict(self._db.rows(f"SELECT id, rowid FROM chunks WHERE id IN ({marks(part)})", part))
            new = [(rows[chunk], chunk, blob) for chunk, blob in blobs.items() if chunk in rows]
            self._put_vectors(embedder, vectors.shape[1], new)
        return len(new)

    def forget_embedder(self, embedder: str) -> None:
        """Takes an embedder's vectors out, and with them what waits for the vector index of it."""
        with self._db.transaction():
            self._db.run(f"DELETE FROM vectors WHERE {_OF_EMBEDDER}", (self._number(embedder),))
            self._db.run("DELETE FROM outbox WHERE embedder = ?", (embedder,))
            self._db.run("DELETE FROM vector_log WHERE embedder = ?", (self._number(embedder),))
            # Numbers that readers know must not come again with other vectors.
            self._db.run(
                "INSERT INTO meta SELECT 'forgotten changes', changes + 1 FROM embedders WHERE name = ?"
                " ON CONFLICT(key) DO UPDATE SET value = max(value + 0, excluded.value + 0)",
                (embedder,),
            )
            self._db.run("DELETE FROM embedders WHERE name = ?", (embedder,))

    def _put_vectors(self, embedder: str, dimensions: int, new: Sequence[tuple[int, ChunkId, bytes]]) -> None:
        """Keeps (row of the chunk, its id, packed vector)."""
        db = self._db
        if not new:
            return
        db.run(
            "INSERT OR IGNORE INTO embedders(name, dimensions, changes)"
            " VALUES(?, ?, coalesce((SELECT value FROM meta WHERE key = 'forgotten changes'), 0) + 0)",
            (embedder, dimensions),
        )
        ((number, kept),) = db.rows("SELECT id, dimensions FROM embedders WHERE name = ?", (embedder,))
        if kept != dimensions:
            raise EmbedderError(
                f"{embedder} now gives vectors of {dimensions} dimensions, and {kept} are kept of it.",
                "Run `codehub repair --rebuild`: vectors of two kinds cannot be compared.",
            )
        self._count_change(number, [chunk for _, chunk, _ in new])
        first = number << _ROW_BITS
        db.run_many(
            "INSERT OR REPLACE INTO vectors(key, vector) VALUES(?, ?)", ((first + row, blob) for row, _, blob in new)
        )
        db.run_many(
            "INSERT INTO outbox(operation, embedder, chunk) VALUES('upsert', ?, ?)",
            ((embedder, chunk) for _, chunk, _ in new),
        )

    def _count_change(self, embedder: int, chunks: Sequence[ChunkId]) -> None:
        """Gives what is about to change of an embedder's vectors the next number."""
        db = self._db
        db.run("UPDATE embedders SET changes = changes + 1 WHERE id = ?", (embedder,))
        if not self._logs or len(chunks) > _LOGGED_AT_ONCE:
            return
        number = db.number("SELECT changes FROM embedders WHERE id = ?", (embedder,))
        db.run_many("INSERT INTO vector_log VALUES(?, ?, ?)", ((embedder, number, chunk) for chunk in chunks))
        if number % _LOGGED_CHANGES == 0:
            db.run("DELETE FROM vector_log WHERE embedder = ? AND number <= ?", (embedder, number - _LOGGED_CHANGES))

    def vectors_changed(self, embedder: str, since: int) -> list[ChunkId] | None:
        """The chunks whose vectors are others than in an earlier version; None where that is not known any more."""
        now = self.vectors_version(embedder)
        if not 0 <= since <= now:
            return None
        values = (self._number(embedder), since)
        where = "FROM vector_log WHERE embedder = ? AND number > ?"
        if self._db.number(f"SELECT count(DISTINCT number) {where}", values) < now - since:
            return None
        return [ChunkId(row[0]) for row in self._db.rows(f"SELECT DISTINCT chunk {where} ORDER BY chunk", values)]

    def _numbers(self) -> list[tuple[int, str]]:
        return [(number, name) for number, name in self._db.rows("SELECT id, name FROM embedders ORDER BY name")]

    def _number(self, embedder: str) -> int:
        """The number in the keys of its vectors; 0, which no vector has, for one that is not known."""
        row = self._db.row("SELECT id FROM embedders WHERE name = ?", (embedder,))
        return row[0] if row else 0

    def embedders(self) -> dict[str, int]:
        """Every embedder that vectors are kept of, by name, with its dimensions."""
        return {
            str(name): int(size) for name, size in self._db.settled("SELECT name, dimensions FROM embedders ORDER BY 1")
        }

    def vectors_version(self, embedder: str) -> int:
        """A number that changes with this embedder's vectors, whoever wrote them; -1 while there are none."""
        found = self._db.settled("SELECT changes FROM embedders WHERE name = ?", (embedder,))
        return int(found[0][0]) if found else -1

    def vectors(self, embedder: str) -> tuple[list[ChunkId], Matrix]:
        """All ids of an embedder in order, and their vectors, shape (ids, dimensions)."""
        return _matrix(
            self._db.rows(
                f"SELECT chunks.id, vector FROM vectors JOIN chunks ON chunks.rowid = key - (?1 << {_ROW_BITS})"
                f" WHERE {_OF_EMBEDDER} ORDER BY chunks.id",
                (self._number(embedder),),
            )
        )

    def vectors_after(self, embedder: str, key: int, limit: int) -> tuple[list[ChunkId], Matrix, int]:
        """The next vectors of an embedder in the order in which they were stored, and the key to go on after; 0 is
        before the first.
        """
        rows = self._db.rows(
            f"SELECT chunks.id, vector, key FROM vectors JOIN chunks ON chunks.rowid = key - (?1 << {_ROW_BITS})"
            f" WHERE {_OF_EMBEDDER} AND key > ?2 ORDER BY key LIMIT ?3",
            (self._number(embedder), key, limit),
        )
        return (*_matrix(rows), int(rows[-1][2]) if rows else key)

    def vectors_of(self, embedder: str, ids: Sequence[ChunkId]) -> tuple[list[ChunkId], Matrix]:
        """Those of the ids that have a vector, in order, and their vectors."""
        rows: list[Row] = []
        number = self._number(embedder)
        for part in _parts(sorted(ids)):
            rows += self._db.rows(
                f"SELECT id, vector FROM chunks JOIN vectors ON {_OF_CHUNK} WHERE id IN ({marks(part)}) ORDER BY id",
                (number, *part),
            )
        return _matrix(rows)

    def vector_ids(self, embedder: str) -> set[ChunkId]:
        return {
            ChunkId(row[0])
            for row in self._db.rows(f"SELECT id FROM chunks JOIN vectors ON {_OF_CHUNK}", (self._number(embedder),))
        }

    def vector_count(self, embedder: str) -> int:
        return self._db.number(f"SELECT count(*) FROM vectors WHERE {_OF_EMBEDDER}", (self._number(embedder),))

    def outbox(self, limit: int) -> list[OutboxEntry]:
        rows = self._db.rows("SELECT seq, operation, embedder, chunk FROM outbox ORDER BY seq LIMIT ?", (limit,))
        return [OutboxEntry(seq, operation, embedder, ChunkId(chunk)) for seq, operation, embedder, chunk in rows]

    def clear_outbox(self, up_to: int) -> None:
        """Forgets the entries that the vector index has taken."""
        with self._db.transaction():
            self._db.run("DELETE FROM outbox WHERE seq <= ?", (up_to,))

    def last_outbox_entry(self) -> int:
        return self._db.number("SELECT coalesce(max(seq), 0) FROM outbox")

    def outbox_deletions(self) -> int:
        """The entries that take vectors out."""
        return self._db.number("SELECT count(*) FROM outbox WHERE operation = 'delete'")

    def outbox_depth(self) -> int:
        return self._db.number("SELECT count(*) FROM outbox")

    # Reading

    def meta(self) -> dict[str, str]:
        return {key: value for key, value in self._db.rows("SELECT key, value FROM meta")}  # noqa: C416 - rows are wider to the type checker

    def note(self, key: str) -> str | None:
        """One of the notes that ``meta`` gives."""
        found = self._db.settled("SELECT value FROM meta WHERE key = ?", (key,))
        return str(found[0][0]) if found else None

    def known_files(self) -> dict[str, KnownFile]:
        rows = self._db.rows("SELECT path, size, mtime_ns, digest FROM files")
        return {path: KnownFile(size, mtime_ns, digest) for path, size, mtime_ns, digest in rows}

    def paths_called(self, names: Collection[str]) -> list[str]:
        """The paths, in order, whose last part is one of these names of lower case, in whatever case they are."""
        found: set[str] = set()
        wanted = sorted(names)
        for start in range(0, len(wanted), _IDS_A_STATEMENT):
            part = wanted[start : start + _IDS_A_STATEMENT]
            ends = " OR ".join("lower(substr(path, ?)) = ?" for _ in part)
            values = [value for name in part for value in (-len(name), name)]
            found.update(path for (path,) in self._db.rows(f"SELECT path FROM files WHERE {ends}", values))
        return sorted(path for path in found if path.rpartition("/")[2].lower() in names)

    def files_known(self, paths: Collection[str]) -> dict[str, KnownFile]:
        """As ``known_files``, of those of the paths that there are."""
        wanted = sorted(set(paths))
        return {
            path: KnownFile(size, mtime_ns, digest)
            for start in range(0, len(wanted), _IDS_A_STATEMENT)
            for part in (wanted[start : start + _IDS_A_STATEMENT],)
            for path, size, mtime_ns, digest in self._db.rows(
                f"SELECT path, size, mtime_ns, digest FROM files WHERE path IN ({marks(part)})", part
            )
        }

    def known_within(self, places: Sequence[str]) -> dict[str, KnownFile]:
        """As ``known_files``, of the files at these paths and beneath them."""
        rows = [
            row
            for place in places
            for row in self._db.rows(
                # "0" is the letter behind "/": what lies between begins with the path and a slash.
                "SELECT path, size, mtime_ns, digest FROM files WHERE path = ?1"
                " UNION ALL SELECT path, size, mtime_ns, digest FROM files WHERE path > ?1 || '/' AND path < ?1 || '0'",
                (place,),
            )
        ]
        return {path: KnownFile(size, mtime_ns, digest) for path, size, mtime_ns, digest in rows}

    def untrusted(self) -> list[str]:
        """The files that are to be read again, whatever their size and time."""
        return [row[0] for row in self._db.rows("SELECT path FROM files WHERE digest = '' ORDER BY path")]

    def file_count(self) -> int:
        return self._db.number("SELECT count(*) FROM files")

    def known_file(self, path: str) -> KnownFile | None:
        row = self._db.row("SELECT size, mtime_ns, digest FROM files WHERE path = ?", (path,))
        return KnownFile(*row) if row else None

    def counts(self) -> Counts:
        (row,) = self._db.rows(
            "SELECT (SELECT count(*) FROM files), (SELECT coalesce(sum(lines), 0) FROM files),"
            " (SELECT count(*) FROM symbols), (SELECT count(*) FROM refs WHERE how <> 'compiler'),"
            " (SELECT count(*) FROM chunks),"
            " (SELECT count(*) FROM problems WHERE substr(message, 1, ?) <> ?)",
            (len(REDACTED), REDACTED),
        )
        return Counts(*row)

    def totals(self, embedders: Sequence[str], paths: Sequence[str] | None = None) -> Totals:
        """Of these files, or of all."""
        db = self._db
        of_files = self._of_files("file", paths)
        files = [
            db.rows(f"SELECT count(*), coalesce(sum(lines), 0) FROM files WHERE {within}", values)[0]
            for within, values in self._of_files("id", paths)
        ]
        symbols, references, chunks = (
            sum(db.number(f"SELECT count(*) FROM {rows} AND {within}", values) for within, values in of_files)
            for rows in ("symbols WHERE 1", "refs WHERE how <> 'compiler'", "chunks WHERE 1")
        )
        return Totals(
            sum(row[0] for row in files),
            sum(row[1] for row in files),
            symbols,
            references,
            chunks,
            {
                name: self.waiting(name) if paths is None else len(self.waiting_chunks(name, paths))
                for name in embedders
            },
        )

    def problems(self, paths: Sequence[str] | None = None) -> list[Problem]:
        """What could not be read as it should be, in these files or in all."""
        return self._noted("<>", paths)

    def redactions(self, paths: Sequence[str] | None = None) -> list[Problem]:
        """Secrets that stand in files and not in the index; each message names the rule behind REDACTED."""
        return self._noted("=", paths)

    def _noted(self, begins: str, paths: Sequence[str] | None) -> list[Problem]:
        rows = [
            row
            for within, values in self._of_files("file", paths)
            for row in self._db.rows(
                "SELECT path, line, message FROM problems JOIN files ON files.id = file"
                f" WHERE {within} AND substr(message, 1, ?) {begins} ? ORDER BY path, line, message",
                (*values, len(REDACTED), REDACTED),
            )
        ]
        return sorted(
            (Problem(*row) for row in rows), key=lambda problem: (problem.path, problem.line, problem.message)
        )

    def places(self, ids: Sequence[ChunkId]) -> dict[ChunkId, Span]:
        """Where the chunks of these ids stand; ids that do not exist are left out."""
        found = {}
        for part in _parts(ids):
            for chunk, *span in self._db.rows(
                "SELECT chunks.id, path, first_line, last_line FROM chunks JOIN files ON files.id = chunks.file"
                f" WHERE chunks.id IN ({marks(part)})",
                part,
            ):
                found[ChunkId(chunk)] = Span(*span)
        return found

    def chunks(self, ids: Sequence[ChunkId]) -> list[Chunk]:
        """The chunks of these ids that exist, in the order of the ids."""
        found = {}
        for part in _parts(ids):
            for row in self._db.rows(f"{_CHUNK_COLUMNS} WHERE chunks.id IN ({marks(part)})", part):
                found[row[0]] = _chunk(row)
        return [found[chunk] for chunk in ids if chunk in found]

    def chunks_of(self, path: str) -> list[Chunk]:
        """The chunks of a file, in order."""
        return [_chunk(row) for row in self._db.rows(f"{_CHUNK_COLUMNS} WHERE path = ? ORDER BY first_line", (path,))]

    def chunks_at(self, span: Span) -> list[Chunk]:
        """The chunks that share lines with a span, in order."""
        rows = self._db.rows(
            f"{_CHUNK_COLUMNS} WHERE path = ? AND last_line >= ? AND first_line <= ? ORDER BY first_line",
            (span.path, span.first_line, span.last_line),
        )
        return [_chunk(row) for row in rows]


def _chunk(row: Row) -> Chunk:
    symbol = None if row[6] is None else SymbolId(row[6])
    return Chunk(ChunkId(row[0]), Span(row[1], row[2], row[3]), row[4], row[5], symbol)


def _matrix(rows: Sequence[Row]) -> tuple[list[ChunkId], Matrix]:
    """Ids and unpacked vectors of unit length."""
    import numpy as np  # noqa: PLC0415 - as above

    if not rows:
        return [], np.empty((0, 0), dtype=np.float32)
    packed = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.int8)
    matrix = packed.reshape(len(rows), -1).astype(np.float32)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix /= np.maximum(lengths, 1)  # components are whole numbers: only zero vectors are shorter than 1
    return [ChunkId(row[0]) for row in rows], matrix


def _parts(ids: Sequence[ChunkId]) -> list[Sequence[ChunkId]]:
    return [ids[start : start + _IDS_A_STATEMENT] for start in range(0, len(ids), _IDS_A_STATEMENT)]
