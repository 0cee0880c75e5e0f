"""Opens the SQLite file, speaks its errors in the user's words, and knows its tables. Owns apsw."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import apsw

from indexer.errors import DataFolderError, FolderBusyError, FolderFullError, OldFormatError, SchemaError
from indexer.rows import Row
from indexer.sharing import Commons, commons_of
from indexer.symbol_table.migrations import can_migrate, format_of, migrate

# Raise it with each change of the tables below and say here what changed. 1: first form. 2: types, parameters, traits
# and bases of symbols; contexts and operands of uses; links, the names they rest on, and macros. 3: commits, what they
# changed, and their words; vectors by number. 4: a stored graph names its chunks, and vectors which of them changed.
# Raise it with a step in ``migrations``, or every index is made anew from its tree.
FORMAT = 4
SQLITE_WITHOUT_THE_WAL_BUG = (3, 51, 3)  # older ones may corrupt a WAL with several connections (sqlite.org/wal.html)
BUSY_TIMEOUT_MS = 5_000
# Seconds for which a reader waits for whoever may just be bringing the index to the present format, and between two
# looks at it. 0.2 to 5; a step takes 0.01 s for 900,000 lines.
MIGRATION_S, _LOOK_S = 1.0, 0.05
PAGE_BYTES = 4_096
# Of a writer: rows of a large tree go to random places of its indexes. With the 2 MiB and 1,000 pages that SQLite takes
# unless told otherwise, writing 830,000 lines took 13.7 s of a core, with these 9.7 s. 2 to 256 MiB, 1,000 to 65,536.
CACHE_KIB = 64 << 10
JOURNAL_PAGES = 8_192
_COPIED_PAGES = 4_096  # of an index that are copied between two looks at whether to stop: 16 MiB

TOKENIZER = ("porter", "unicode61", "remove_diacritics", "2", "tokenchars", "_")

# Each transaction that changes facts or chunks touches one of these rows for each file or unit, and none for vectors.
_COUNTING = "".join(
    f"CREATE TRIGGER count_{number} AFTER {event} BEGIN UPDATE changes SET number = number + 1; END;"
    for number, event in enumerate(
        (
            "INSERT ON files",
            "UPDATE OF digest ON files",
            "DELETE ON files",
            "INSERT ON unlinked",
            "DELETE ON unlinked",
            "INSERT ON units",
            "UPDATE ON units",
            "DELETE ON units",
        )
    )
)
_SCHEMA = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files(
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, language TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL, lines INTEGER NOT NULL);
CREATE TABLE problems(file INTEGER NOT NULL, line INTEGER NOT NULL, message TEXT NOT NULL);
CREATE INDEX problems_by_file ON problems(file);
CREATE TABLE symbols(
    file INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, scope TEXT NOT NULL,
    signature TEXT NOT NULL, is_definition INTEGER NOT NULL, first_line INTEGER NOT NULL, last_line INTEGER NOT NULL,
    doc TEXT NOT NULL, line INTEGER NOT NULL, type TEXT NOT NULL, parameters TEXT NOT NULL, required INTEGER NOT NULL,
    template_parameters TEXT NOT NULL, bases TEXT NOT NULL, traits TEXT NOT NULL, access TEXT NOT NULL);
CREATE INDEX symbols_by_file ON symbols(file, name, line);
CREATE TABLE refs(
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, written TEXT NOT NULL,
    line INTEGER NOT NULL, inside TEXT, target TEXT, how TEXT NOT NULL, context INTEGER NOT NULL,
    operands TEXT NOT NULL);
CREATE INDEX refs_by_file ON refs(file);
CREATE TABLE contexts(file INTEGER NOT NULL, number INTEGER NOT NULL, scope TEXT NOT NULL, usings TEXT NOT NULL);
CREATE INDEX contexts_by_file ON contexts(file);
CREATE TABLE links(ref INTEGER PRIMARY KEY, file INTEGER NOT NULL, target TEXT NOT NULL, how TEXT NOT NULL);
CREATE INDEX links_by_file ON links(file);
CREATE INDEX links_by_target ON links(target);
CREATE TABLE dependencies(name TEXT NOT NULL, file INTEGER NOT NULL, PRIMARY KEY(name, file)) WITHOUT ROWID;
CREATE INDEX dependencies_by_file ON dependencies(file);
CREATE TABLE unlinked(file INTEGER PRIMARY KEY);
CREATE TABLE macros(path TEXT NOT NULL, name TEXT NOT NULL, parameters TEXT, body TEXT NOT NULL);
CREATE INDEX macros_by_path ON macros(path);
CREATE TABLE units(
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, flags TEXT NOT NULL, state TEXT NOT NULL, files INTEGER NOT NULL,
    missing TEXT NOT NULL, surroundings TEXT NOT NULL, note TEXT NOT NULL, UNIQUE(path, flags));
CREATE TABLE compiled(
    unit INTEGER NOT NULL, file INTEGER NOT NULL, flavor TEXT NOT NULL, owner INTEGER NOT NULL, skipped TEXT NOT NULL,
    PRIMARY KEY(unit, file)) WITHOUT ROWID;
CREATE INDEX compiled_by_file ON compiled(file);
CREATE TABLE compiled_others(
    unit INTEGER NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(unit, path)) WITHOUT ROWID;
CREATE TABLE chunks(
    rowid INTEGER PRIMARY KEY, file INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, symbol TEXT, words_digest BLOB NOT NULL);
CREATE INDEX chunks_by_file ON chunks(file, first_line, last_line);
CREATE VIRTUAL TABLE chunk_words USING fts5(
    name, signature, doc, path, body, content='', contentless_delete=1,
    tokenize="{TOKENIZER[0]} {TOKENIZER[1]} remove_diacritics 2 tokenchars '_'");
CREATE TABLE vectors(key INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE embedders(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL, changes INTEGER NOT NULL);
CREATE TABLE vector_log(embedder INTEGER NOT NULL, number INTEGER NOT NULL, chunk TEXT NOT NULL);
CREATE INDEX vector_log_by_number ON vector_log(embedder, number);
CREATE TABLE outbox(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL, embedder TEXT NOT NULL, chunk TEXT NOT NULL);
CREATE TABLE walks(
    made_of TEXT PRIMARY KEY, chunks TEXT NOT NULL, offsets BLOB NOT NULL, targets BLOB NOT NULL,
    shares BLOB NOT NULL);
CREATE TABLE changes(number INTEGER NOT NULL);
INSERT INTO changes VALUES(0);
{_COUNTING}
CREATE TABLE commits(
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, parents INTEGER NOT NULL, time_s INTEGER NOT NULL,
    author TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL, files INTEGER NOT NULL);
CREATE TABLE commit_paths(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE commit_changes(
    id INTEGER PRIMARY KEY, commit_row INTEGER NOT NULL, path INTEGER NOT NULL, before INTEGER, today INTEGER,
    weight INTEGER, symbols TEXT NOT NULL);
CREATE INDEX commit_changes_by_commit ON commit_changes(commit_row);
CREATE INDEX commit_changes_by_today ON commit_changes(today) WHERE today IS NOT NULL;
CREATE VIRTUAL TABLE commit_words USING fts5(
    subject, body, names, around, content='', contentless_delete=1,
    tokenize="{TOKENIZER[0]} {TOKENIZER[1]} remove_diacritics 2 tokenchars '_'");
CREATE TABLE commit_files(path INTEGER PRIMARY KEY, digest TEXT NOT NULL);
CREATE VIRTUAL TABLE commit_file_words USING fts5(
    subject, body, content='', contentless_delete=1,
    tokenize="{TOKENIZER[0]} {TOKENIZER[1]} remove_diacritics 2 tokenchars '_'");
"""
# Indexes whose keys come in no order. To fill a table first and to make them then takes half the time.
_LATE_INDEXES = (
    "symbols_by_name ON symbols(name COLLATE NOCASE)",
    "symbols_by_id ON symbols(id)",
    "refs_by_name ON refs(name)",
    "refs_by_inside ON refs(inside)",
    "refs_by_target ON refs(target) WHERE target IS NOT NULL",
    "chunks_by_symbol ON chunks(symbol)",
)


class Database:
    """One connection. A writer may live beside any number of readers; two writers exclude each other elsewhere."""

    def __init__(self, connection: apsw.Connection, path: Path, commons: Commons | None = None) -> None:
        """``commons`` is what others in this process read of the same file; a writer sees what nobody else may see."""
        self._connection = connection
        self._tokenizer: apsw.FTS5Tokenizer | None = None
        self.path = path
        self.commons = commons or Commons()
        # What ``settled`` has read in the present moment; None outside of one, and always of one who may write.
        self._settled: dict[tuple[str, tuple[object, ...]], list[Row]] | None = None

    @classmethod
    def create_or_open(cls, path: Path, max_bytes: int | None = None) -> "Database":
        """Opens for writing. ``max_bytes`` bounds the file. Raises DataFolderError or one of its kinds."""
        with _translated(path):
            connection = apsw.Connection(str(path))
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "normal")
            connection.pragma("temp_store", "memory")
            connection.pragma("cache_size", -CACHE_KIB)
            connection.pragma("wal_autocheckpoint", JOURNAL_PAGES)
            if max_bytes is not None:
                connection.pragma("max_page_count", max(1, max_bytes // PAGE_BYTES))
            database = cls(connection, path)
            if not connection.pragma("schema_version"):
                with database.transaction():
                    connection.execute(_SCHEMA)
                    connection.execute("INSERT INTO meta VALUES('format', ?)", (str(FORMAT),))
            migrate(connection, FORMAT)
            database._check_format()
            database.make_indexes()  # a first run that was killed has left them to the next
            return database

    @classmethod
    def open_readonly(cls, path: Path) -> "Database":
        """Opens for reading beside a writer. Raises DataFolderError where there is nothing to read."""
        with _translated(path):
            before = _identity(path)
            try:
                connection = _reading(str(path))
            except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError):
                # A reader too keeps notes beside the file. On a full disk or in a foreign folder it cannot, and the
                # file alone is the whole truth only while no journal lies beside it.
                journal = path.with_name(f"{path.name}-wal")
                if not path.exists() or (journal.exists() and journal.stat().st_size):
                    raise
                connection = _reading(f"{path.absolute().as_uri()}?immutable=1")
            # A file that was replaced while it was opened is shared with nobody.
            same = before is not None and before == _identity(path)
            database = cls(connection, path, commons_of(before) if same else None)
            looks = int(MIGRATION_S / _LOOK_S)
            while looks and can_migrate(format_of(connection), FORMAT):
                sleep(_LOOK_S)
                looks -= 1
            database._check_format()
            return database

    @staticmethod
    def copy(source: Path, target: Path, noted: Mapping[str, str], stop: Callable[[], None]) -> None:
        """Copies an index as of one moment to a file that is not there yet, with some notes instead of the source's.

        ``stop`` raises to give up. Raises DataFolderError or one of its kinds; then no file of that name is left.
        """
        done = False
        try:
            with _translated(source):
                reading = _reading(str(source))
                writing = apsw.Connection(str(target))
                try:
                    if format_of(reading) != FORMAT:
                        raise OldFormatError(f"The index {source} has another format.", "Run `codehub index` on it.")
                    writing.pragma("synchronous", "normal")
                    reading.execute("BEGIN")  # held for all of it: the copy would begin anew with every write otherwise
                    reading.pragma("schema_version")
                    with writing.backup("main", reading, "main") as copying:
                        while not copying.done:
                            copying.step(_COPIED_PAGES)
                            stop()
                    writing.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", noted.items())
                finally:
                    writing.close()
                    reading.close()
            done = True
        finally:
            if not done:
                for end in ("", "-wal", "-shm", "-journal"):
                    target.with_name(f"{target.name}{end}").unlink(missing_ok=True)

    @staticmethod
    def notes_of_any(path: Path) -> dict[str, str]:
        """The notes of an index of whatever format, its journal put away; nothing where they cannot be read."""
        try:
            connection = apsw.Connection(str(path))
            try:
                connection.set_busy_timeout(BUSY_TIMEOUT_MS)
                return {str(key): str(value) for key, value in connection.execute("SELECT key, value FROM meta")}
            finally:
                connection.close()
        except apsw.Error:
            return {}

    def close(self) -> None:
        self._connection.close()
        # What is shared goes with the last open one: the number of a file that is deleted is given to another file.
        self.commons = Commons()

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        with _translated(self.path):
            return self._connection.execute(sql, tuple(values)).fetchall()

    def row(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, values)
        return found[0] if found else None

    def settled(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """As ``rows``, for what is asked again and again: whoever only reads looks it up once in a moment."""
        known = self._settled
        if known is None:
            return self.rows(sql, values)
        asked = (sql, tuple(values))
        found = known.get(asked)
        if found is None:
            found = known[asked] = self.rows(sql, values)
        return found

    def number(self, sql: str, values: Sequence[object] = ()) -> int:
        """The one number that a counting statement yields."""
        return int(self.rows(sql, values)[0][0])

    def run(self, sql: str, values: Sequence[object] = ()) -> None:
        self._connection.execute(sql, tuple(values))

    def run_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        self._connection.executemany(sql, values)

    def insert(self, sql: str, values: Sequence[object]) -> int:
        """The row id of what was inserted."""
        self.run(sql, values)
        return self._connection.last_insert_rowid()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. IMMEDIATE, because a read lock that must grow fails at once instead of waiting."""
        with _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:  # whatever came, Ctrl-C too, half a batch must not stay
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def moment(self) -> Iterator[None]:
        """All that is read within is of one moment, whatever others write meanwhile."""
        with _translated(self.path), self._connection:
            if self._settled is not None or not self._connection.readonly("main"):
                yield
                return
            self._settled = {}
            try:
                yield
            finally:
                self._settled = None

    @contextmanager
    def indexes_later(self) -> Iterator[None]:
        """For the time of writing a whole tree at once. Readers beside it find everything, more slowly."""
        with self.transaction():
            for index in _LATE_INDEXES:
                self._connection.execute(f"DROP INDEX IF EXISTS {index.partition(' ')[0]}")
        try:
            yield
        finally:
            with _translated(self.path):
                self.make_indexes()

    def make_indexes(self) -> None:
        """Makes those that ``indexes_later`` left out."""
        for index in _LATE_INDEXES:
            self._connection.execute(f"CREATE INDEX IF NOT EXISTS {index}")

    def version(self) -> int:
        """A number that changes when another connection has written; own writes leave it as it is."""
        return self.number("PRAGMA data_version")

    def generation(self) -> int:
        """A number that grows with each change of files, chunks, links or what the compiler said, whoever wrote it.

        What is read from those tables and kept is good while it stays; vectors and notes leave it as it is.
        """
        return int(self.settled("SELECT number FROM changes")[0][0])

    def stems(self, tokens: Sequence[str]) -> list[str]:
        """The tokens as the full-text index stores them, in order."""
        if not tokens:
            return []
        if self._tokenizer is None:  # made late: what opens a damaged file must get as far as saying so
            self._tokenizer = self._connection.fts5_tokenizer(TOKENIZER[0], list(TOKENIZER[1:]))
        text = " ".join(tokens).encode("utf-8", "replace")
        found = self._tokenizer(text, apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False)
        return [str(colocated[0]) for colocated in found]

    def integrity_problems(self) -> list[str]:
        """What SQLite's own check finds; empty when all is well."""
        return [str(row[0]) for row in self.rows("PRAGMA quick_check(20)") if row[0] != "ok"]

    def _check_format(self) -> None:
        found = format_of(self._connection)
        if found == FORMAT:
            return
        form = "unknown" if found is None else found
        told = f"The index {self.path} has format {form}; this program reads format {FORMAT}."
        if found is not None and found < FORMAT:
            raise OldFormatError(told, "Run `codehub index` on its tree, or `codehub repair --rebuild`.")
        raise SchemaError(told, "Run `codehub repair --rebuild`, or use the version of codehub that wrote it.")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others while it is open; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _reading(name: str) -> apsw.Connection:
    connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("schema_version")  # only the first look at the file shows whether it can be read
    return connection


def sqlite_version() -> tuple[int, ...]:
    """Of the SQLite that is used, which is not the one of Python's own module."""
    return tuple(int(part) for part in apsw.sqlite_lib_version().split("."))


def has_text_search() -> bool:
    """Whether that SQLite was built with FTS5, without which nothing is found by its words."""
    return "ENABLE_FTS5" in apsw.compile_options


def marks(values: Sequence[object]) -> str:
    """As many question marks as values."""
    return ", ".join("?" * len(values))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors in the user's words."""
    try:
        yield
    except apsw.FullError:
        raise FolderFullError(
            f"The disk, or the size allowed for the index, is used up while writing {path}.",
            "Free some space or raise `index.max_megabytes`, then run the same command: finished files are kept.",
        ) from None
    except (apsw.BusyError, apsw.LockedError):
        raise FolderBusyError(f"{path} is in use by another process.", "Wait for it to finish.") from None
    except (apsw.CorruptError, apsw.NotADBError):
        raise DataFolderError(
            f"{path} is damaged or no index.", "Run `codehub repair --rebuild` to make it again from the source tree."
        ) from None
    except apsw.SQLError as error:
        if "no such table: meta" not in str(error):
            raise
        raise DataFolderError(f"{path} is no index.", "Run `codehub repair --rebuild`.") from None
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError, apsw.PermissionsError) as error:
        raise DataFolderError(
            f"{path} cannot be opened or written: {error}.",
            "Check that the folder exists, that you own it, and that its disk is not full.",
        ) from None
