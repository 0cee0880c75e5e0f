"""What uses mean, as it was last worked out, and which files must be looked at again.

Links are derived: they can be made again from the symbols and uses of the table, file by file. A file waits in
``unlinked`` from the transaction that made its links doubtful until the one that stores new ones, so that a crash
between the two loses nothing. How a link is found, ``indexer.linking`` knows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.linking import FUNCTIONS, INCLUDES, TYPES, Link, Row, Sources, Use, World, link
from indexer.model import Provenance, ReferenceKind, SymbolKind, Trait
from indexer.rows import FileRows, split_row
from indexer.rows import Row as Values
from indexer.symbol_table.database import Database

EVERY_FILE = 0  # in ``unlinked``: no link is known yet, so nothing need be compared while files are written
_COMPILER = Provenance.COMPILER.value
_INCLUDE, _SECTION, _CONST = ReferenceKind.INCLUDE.value, SymbolKind.SECTION.value, Trait.CONST.value
_PUBLIC = (0, 1, 3, 5, 10, 11, 12, 13, 14, 15)  # of a row of ``symbols`` without its file, what links may rest on
_PUBLIC_COLUMNS = "id, kind, scope, is_definition, type, parameters, required, template_parameters, bases, traits"


class FileLinks(NamedTuple):
    """The links of one file, ready to be stored."""

    file: int
    links: list[Link]
    names: list[str]  # looked up, beside those of its own uses


class Waiting(NamedTuple):
    file: int
    uses: int


class LinkTable:
    """The tables ``links``, ``dependencies`` and ``unlinked``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def path(self) -> Path:
        """Of the database, for processes that open it themselves."""
        return self._db.path

    def waiting(self) -> list[Waiting]:
        """The files whose links are to be made, each with the number of its uses, in the order of their paths."""
        db = self._db
        if db.row("SELECT 1 FROM unlinked WHERE file = ?", (EVERY_FILE,)):
            with db.transaction():
                db.run("INSERT OR IGNORE INTO unlinked SELECT id FROM files")
                db.run("DELETE FROM unlinked WHERE file = ?", (EVERY_FILE,))
        rows = db.rows(
            "SELECT unlinked.file, (SELECT count(*) FROM refs WHERE refs.file = unlinked.file) FROM unlinked"
            " JOIN files ON files.id = unlinked.file ORDER BY path"
        )
        return [Waiting(*row) for row in rows]

    def store(self, batch: Iterable[FileLinks]) -> None:
        """Puts links in place of the files' old ones, as one transaction."""
        db = self._db
        with db.transaction():
            for file, links, names in batch:
                drop_links(db, file)
                db.run_many("INSERT INTO links VALUES(?, ?, ?, ?)", ((ref, file, to, how) for ref, to, how in links))
                db.run_many("INSERT INTO dependencies VALUES(?, ?)", ((name, file) for name in names))
                db.run("DELETE FROM unlinked WHERE file = ?", (file,))

    def distrust(self, paths: Iterable[str]) -> None:
        """Has files linked again, because uses of theirs came from elsewhere."""
        with self._db.transaction():
            self._db.run_many(
                "INSERT OR IGNORE INTO unlinked SELECT id FROM files WHERE path = ?", ((p,) for p in paths)
            )


class Linker:
    """Makes the links of files. The table must not change while it lives."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._world = World(Sources(self._symbols, self._files, self._includes))
        self._paths: dict[str, list[str]] | None = None

    def link(self, files: Sequence[int]) -> Iterator[FileLinks]:
        for file in files:
            yield self._link(file)

    def _link(self, file: int) -> FileLinks:
        db = self._db
        (path,) = db.rows("SELECT path FROM files WHERE id = ?", (file,))[0]
        uses = [
            Use(*row)
            for row in db.rows(
                "SELECT id, kind, name, written, line, context, operands, inside, how FROM refs"
                " WHERE file = ? ORDER BY id",
                (file,),
            )
        ]
        if not uses:
            return FileLinks(file, [], [])
        contexts = {
            number: (scope, split_row(usings))
            for number, scope, usings in db.rows("SELECT number, scope, usings FROM contexts WHERE file = ?", (file,))
        }
        const_methods, local_scopes = self._functions(file)
        read = {use.name for use in uses if use.how != _COMPILER}  # ``refs`` knows these names itself
        linked = link(path, uses, contexts, const_methods, local_scopes, self._world)
        return FileLinks(file, linked.links, sorted(linked.names - read))

    def _functions(self, file: int) -> tuple[frozenset[str], dict[str, str]]:
        """The ids of a file's const methods, and the scopes of its functions that are looked into first."""
        const_methods: set[str] = set()
        functions: dict[str, str] = {}
        fixtures: dict[str, str] = {}
        scopes: set[str] = set()
        for identity, kind, scope, name, traits, parameters in self._db.rows(
            "SELECT id, kind, scope, name, traits, parameters FROM symbols WHERE file = ?", (file,)
        ):
            if kind in FUNCTIONS:
                functions[identity] = f"{scope}::{name}" if scope else name
                fixture, made_by_a_macro, _ = name.partition(".")
                if made_by_a_macro:  # TEST_F(Fixture, Name): its body is a method of a class derived from the fixture
                    fixtures[identity] = f"{scope}::{fixture}" if scope else fixture
                if _CONST in split_row(traits) or f"({_CONST})" in parameters:
                    const_methods.add(identity)
            elif kind in TYPES:
                scopes.add(scope)
        local = {identity: name for identity, name in functions.items() if name in scopes}
        return frozenset(const_methods), fixtures | local

    def _symbols(self, name: str) -> Iterator[Row]:
        for row in self._db.rows(
            "SELECT path, symbols.id, kind, scope, type, parameters, required, template_parameters, bases, traits,"
            " is_definition FROM symbols JOIN files ON files.id = symbols.file"
            " WHERE name = ?1 COLLATE NOCASE AND name = ?1 AND kind <> ?2",
            (name, _SECTION),
        ):
            path, identity, kind, scope, written, parameters, required, templates, bases, traits, is_definition = row
            yield Row(
                path,
                identity,
                kind,
                scope,
                written,
                split_row(parameters),
                required,
                split_row(templates),
                split_row(bases),
                split_row(traits),
                bool(is_definition),
            )

    def _files(self, base: str) -> Sequence[str]:
        if self._paths is None:
            self._paths = {}
            for (path,) in self._db.rows("SELECT path FROM files"):
                self._paths.setdefault(path.rpartition("/")[2], []).append(path)
        return self._paths.get(base, ())

    def _includes(self, path: str) -> list[str]:
        return [
            row[0]
            for row in self._db.rows(
                "SELECT DISTINCT written FROM refs WHERE file = (SELECT id FROM files WHERE path = ?) AND kind = ?",
                (path, _INCLUDE),
            )
        ]


def drop_links(db: Database, file: int) -> None:
    """Forgets a file's links, inside a transaction of the caller's."""
    db.run("DELETE FROM links WHERE file = ?", (file,))
    db.run("DELETE FROM dependencies WHERE file = ?", (file,))


class Doubts:
    """Collects, while files are written or removed, what of theirs changed that links may rest on.

    ``post`` puts the files concerned into ``unlinked``; it belongs into the same transaction.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._names: set[str] = set()
        self._bases: set[str] = set()
        self._files: list[int] = []
        if not db.row("SELECT 1 FROM files LIMIT 1"):
            db.run("INSERT OR IGNORE INTO unlinked VALUES(?)", (EVERY_FILE,))
        self._every = db.row("SELECT 1 FROM unlinked WHERE file = ?", (EVERY_FILE,)) is not None

    def added(self, file: int, rows: FileRows) -> None:
        """A file is there now."""
        self._files.append(file)
        if not self._every:
            self._names.update(_by_name(_public_of(rows)), (INCLUDES,))
            self._bases.add(rows.path.rpartition("/")[2])

    def replaced(self, file: int, rows: FileRows) -> None:
        """A file is about to be read anew: its old rows are still there."""
        self._files.append(file)
        if self._every:
            return
        before, after = _by_name(self._stored(file)), _by_name(_public_of(rows))
        self._names.update(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if self._includes(file) != {row[2] for row in rows.references if row[0] == _INCLUDE}:
            self._names.add(INCLUDES)

    def removed(self, file: int, path: str) -> None:
        """A file is about to go: its rows are still there."""
        self._db.run("DELETE FROM unlinked WHERE file = ?", (file,))
        if not self._every:
            self._names.update(_by_name(self._stored(file)), (INCLUDES,))
            self._bases.add(path.rpartition("/")[2])

    def post(self) -> None:
        db = self._db
        db.run_many("INSERT OR IGNORE INTO unlinked VALUES(?)", ((file,) for file in self._files))
        db.run_many(
            "INSERT OR IGNORE INTO unlinked SELECT file FROM dependencies WHERE name = ?1"
            " UNION SELECT file FROM refs WHERE name = ?1",
            ((name,) for name in sorted(self._names)),
        )
        db.run_many(
            "INSERT OR IGNORE INTO unlinked SELECT file FROM refs WHERE name = ? AND kind = ?",
            ((base, _INCLUDE) for base in sorted(self._bases)),
        )

    def _stored(self, file: int) -> Iterator[tuple[str, Values]]:
        for row in self._db.rows(
            f"SELECT name, {_PUBLIC_COLUMNS} FROM symbols WHERE file = ? AND kind <> ?", (file, _SECTION)
        ):
            yield row[0], row[1:]

    def _includes(self, file: int) -> set[str]:
        return {
            row[0] for row in self._db.rows("SELECT written FROM refs WHERE file = ? AND kind = ?", (file, _INCLUDE))
        }


def _public_of(rows: FileRows) -> Iterator[tuple[str, Values]]:
    for row in rows.symbols:
        if row[1] != _SECTION:
            yield row[2], tuple(row[column] for column in _PUBLIC)


def _by_name(rows: Iterable[tuple[str, Values]]) -> Mapping[str, set[Values]]:
    found: dict[str, set[Values]] = {}
    for name, values in rows:
        found.setdefault(name, set()).add(values)
    return found
