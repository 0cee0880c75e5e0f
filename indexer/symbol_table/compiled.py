"""What the compiler has said: which units were read, what each of them read, and the uses that came of it.

A file's uses are kept once for each flavor, which is the lines of it that some unit read; the unit that told them first
owns them. A unit counts as read while every file is as it was then. Knows nothing of compilers.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from indexer.model import Language, Provenance, ReferenceKind, SymbolKind
from indexer.rows import SEPARATOR, Row, split_row
from indexer.symbol_table.database import Database, marks

NOTE = "compiler: "  # what a Problem begins with that is taken back when the unit is read again

_FUNCTIONS = (SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR)


class UnitKey(NamedTuple):
    path: str
    flags: str  # a digest of all that decides how the unit is read


class KnownUnit(NamedTuple):
    number: int
    key: UnitKey
    fresh: bool  # nothing of what it read has changed


class Declared(NamedTuple):
    """A symbol where its name stands, as far as telling it from others there takes."""

    id: str
    family: str
    line: int
    name: str
    parameters: tuple[str, ...]
    first_line: int
    last_line: int
    is_definition: bool


class CompiledUse(NamedTuple):
    kind: ReferenceKind
    name: str
    written: str
    line: int
    inside: str | None
    target: str  # a symbol's id, the path of an included file, or "" for what is outside the tree


@dataclass(frozen=True, slots=True)
class CompiledFile:
    path: str
    digest: str
    flavor: str
    skipped: tuple[tuple[int, int], ...]
    uses: tuple[CompiledUse, ...] | None  # None where another unit had told them


@dataclass(frozen=True, slots=True)
class CompiledUnit:
    """``note`` says what was wrong with it; ``line`` is 0 where that is about the whole file."""

    key: UnitKey
    files: tuple[CompiledFile, ...]
    missing: tuple[str, ...] = ()  # last names of headers that were not found
    broken: bool = False
    note: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the tree the compiler has confirmed. ``failed`` units gave nothing, ``broken`` ones not all."""

    units: int
    broken: int
    failed: int
    files: int
    files_in_tree: int
    functions: int
    functions_in_tree: int
    uses: int  # that the parser saw too
    uses_in_tree: int


@dataclass(frozen=True, slots=True)
class Tree:
    """The indexed files, read once for many units: good while nothing is indexed."""

    files: Mapping[str, tuple[int, str]]  # number and digest, by path
    places: Mapping[str, Sequence[str]]  # paths, by their last name


class CompiledTable:
    """Units and what came of them. Writing needs the folder's lock."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Planning

    def tree(self) -> Tree:
        files: dict[str, tuple[int, str]] = {}
        places: dict[str, list[str]] = {}
        for number, path, digest in self._db.rows("SELECT id, path, digest FROM files ORDER BY path"):
            files[path] = (number, digest)
            places.setdefault(_name(path), []).append(path)
        return Tree(files, places)

    def units(self, tree: Tree, other_digests: Mapping[str, str]) -> list[KnownUnit]:
        """All units, by path. ``other_digests`` are those of ``others`` as they are now; "" for what is gone."""
        names: dict[int, set[str]] = {}
        files: dict[int, int] = {}
        for unit, path in self._db.rows("SELECT unit, path FROM compiled JOIN files ON files.id = compiled.file"):
            names.setdefault(unit, set()).add(_name(path))
            files[unit] = files.get(unit, 0) + 1
        changed = set()
        for unit, path, digest in self._db.rows("SELECT unit, path, digest FROM compiled_others"):
            names.setdefault(unit, set()).add(_name(path))
            if other_digests.get(path) != digest:
                changed.add(unit)
        found = []
        for unit, path, flags, count, missing, surroundings in self._db.rows(
            "SELECT id, path, flags, files, missing, surroundings FROM units ORDER BY path, flags"
        ):
            looked_for = names.get(unit, set()) | set(split_row(missing))
            fresh = (
                unit not in changed
                and files.get(unit, 0) == count
                and surroundings == _surroundings(looked_for, tree.places)
            )
            found.append(KnownUnit(unit, UnitKey(path, flags), fresh))
        return found

    def is_empty(self) -> bool:
        """Whether no unit is known."""
        return not self._db.rows("SELECT 1 FROM units LIMIT 1")

    def others(self) -> list[str]:
        """Files that units read beneath the root and that are not indexed, in order."""
        return [row[0] for row in self._db.rows("SELECT DISTINCT path FROM compiled_others ORDER BY path")]

    def told(self) -> list[tuple[str, str]]:
        """(path, flavor) of which the uses are kept, in order."""
        rows = self._db.rows(
            "SELECT path, flavor FROM compiled JOIN files ON files.id = compiled.file WHERE owner ORDER BY 1, 2"
        )
        return [(path, flavor) for path, flavor in rows]

    def unowned(self) -> list[UnitKey]:
        """For each file and flavor that was read, but whose uses nobody keeps any more, one unit that read it."""
        rows = self._db.rows(
            "SELECT DISTINCT path, flags FROM units WHERE id IN ("
            "SELECT min(unit) FROM compiled WHERE flavor != '' GROUP BY file, flavor HAVING max(owner) = 0)"
            " ORDER BY 1, 2"
        )
        return [UnitKey(*row) for row in rows]

    def declared(self, path: str) -> list[Declared]:
        """The symbols of a file."""
        rows = self._db.rows(
            "SELECT symbols.id, kind, line, name, parameters, first_line, last_line, is_definition"
            " FROM symbols JOIN files ON files.id = symbols.file WHERE path = ? ORDER BY first_line, symbols.rowid",
            (path,),
        )
        return [
            Declared(row[0], SymbolKind(row[1]).family, row[2], row[3], split_row(row[4]), row[5], row[6], bool(row[7]))
            for row in rows
        ]

    # Writing

    def forget(self, units: Collection[int]) -> list[UnitKey]:
        """Drops units and the uses they own, and with them the units that own other flavors of the same files: a
        file's uses are dropped together. Returns all that were dropped, in order.
        """
        gone = set(units)
        if not gone:
            return []
        owners = self._owners()
        files_of: dict[int, set[int]] = {}
        for file, owning in owners.items():
            for unit in owning:
                files_of.setdefault(unit, set()).add(file)
        waiting, files = list(gone), set[int]()
        while waiting:
            for file in files_of.get(waiting.pop(), set()) - files:
                files.add(file)
                waiting += owners[file] - gone
                gone |= owners[file]
        keys = {row[0]: UnitKey(row[1], row[2]) for row in self._db.rows("SELECT id, path, flags FROM units")}
        with self._db.transaction():
            self._drop_uses(files)
            self._drop_units({unit: keys[unit] for unit in sorted(gone) if unit in keys})
        return sorted(keys[unit] for unit in gone if unit in keys)

    def write(self, unit: CompiledUnit, tree: Tree) -> bool:
        """Keeps what a unit said, as one transaction. False, and nothing is kept, where a file it read is another by
        now than the one that is indexed.
        """
        known = tree.files
        if any(file.path in known and known[file.path][1] != file.digest for file in unit.files):
            return False
        indexed = [file for file in unit.files if file.path in known]
        with self._db.transaction():
            number = self._insert_unit(unit, "broken" if unit.broken else "done", len(indexed), tree)
            for file in unit.files:
                if file.path not in known:
                    self._db.run("INSERT INTO compiled_others VALUES(?, ?, ?)", (number, file.path, file.digest))
            for file in indexed:
                at = known[file.path][0]
                owner = file.uses is not None and not self._is_told(at, file.flavor)
                if owner:
                    self._insert_uses(at, file.uses or ())
                self._db.run(
                    "INSERT INTO compiled VALUES(?, ?, ?, ?, ?)",
                    (number, at, file.flavor, int(owner), json.dumps(file.skipped, separators=(",", ":"))),
                )
            if unit.note and unit.key.path in known:
                self._note(known[unit.key.path][0], unit.line, unit.note)
        return True

    def write_failure(self, key: UnitKey, message: str, tree: Tree) -> None:
        """Notes that a unit gave nothing. It is not tried again before its file or its flags change."""
        known = tree.files.get(key.path)
        with self._db.transaction():
            failed = CompiledUnit(key, (), missing=(_name(key.path),), note=message)
            number = self._insert_unit(failed, "failed", 1 if known else 0, tree)
            if known:
                self._db.run("INSERT INTO compiled VALUES(?, ?, '', 0, '[]')", (number, known[0]))
                self._note(known[0], 0, message)

    def _insert_unit(self, unit: CompiledUnit, state: str, files: int, tree: Tree) -> int:
        names = {_name(file.path) for file in unit.files} | set(unit.missing)
        missing = SEPARATOR.join(unit.missing)
        return self._db.insert(
            "INSERT INTO units(path, flags, state, files, missing, surroundings, note) VALUES(?, ?, ?, ?, ?, ?, ?)",
            (*unit.key, state, files, missing, _surroundings(names, tree.places), unit.note),
        )

    def _insert_uses(self, file: int, uses: Iterable[CompiledUse]) -> None:
        db = self._db
        columns = "kind, name, written, line, inside, target"
        before = set(db.rows(f"SELECT {columns} FROM refs WHERE file = ? AND how = ?", (file, Provenance.COMPILER)))
        rows: list[Row] = [
            (file, *use, Provenance.COMPILER.value) for use in sorted(uses, key=_order) if use not in before
        ]
        db.run_many(f"INSERT INTO refs(file, {columns}, how, context, operands) VALUES({marks(range(8))}, 0, '')", rows)
        db.run("INSERT OR IGNORE INTO unlinked VALUES(?)", (file,))

    def _is_told(self, file: int, flavor: str) -> bool:
        return bool(self._db.rows("SELECT 1 FROM compiled WHERE file = ? AND flavor = ? AND owner", (file, flavor)))

    def _note(self, file: int, line: int, message: str) -> None:
        row = (file, line, NOTE + message)
        self._db.run("DELETE FROM problems WHERE file = ? AND line = ? AND message = ?", row)
        self._db.run("INSERT INTO problems VALUES(?, ?, ?)", row)

    def _drop_uses(self, files: Iterable[int]) -> None:
        for file in sorted(files):
            self._db.run("DELETE FROM refs WHERE file = ? AND how = ?", (file, Provenance.COMPILER))
            self._db.run("INSERT OR IGNORE INTO unlinked VALUES(?)", (file,))

    def _drop_units(self, units: Mapping[int, UnitKey]) -> None:
        for number, key in units.items():
            for table in ("compiled", "compiled_others"):
                self._db.run(f"DELETE FROM {table} WHERE unit = ?", (number,))
            self._db.run("DELETE FROM units WHERE id = ?", (number,))
            self._db.run(
                "DELETE FROM problems WHERE file = (SELECT id FROM files WHERE path = ?) AND substr(message, 1, ?) = ?",
                (key.path, len(NOTE), NOTE),
            )

    def _owners(self) -> dict[int, set[int]]:
        """The units that own uses of a file, by file."""
        found: dict[int, set[int]] = {}
        for unit, file in self._db.rows("SELECT unit, file FROM compiled WHERE owner"):
            found.setdefault(file, set()).add(unit)
        return found

    # Reading

    def coverage(self) -> Coverage:
        states: dict[str, int] = dict(self._db.rows("SELECT state, count(*) FROM units GROUP BY state"))
        skipped: dict[int, list[set[int]]] = {}
        for file, ranges in self._db.rows("SELECT DISTINCT file, skipped FROM compiled WHERE flavor != ''"):
            lines = {line for first, last in json.loads(ranges) for line in range(first + 1, last)}
            skipped.setdefault(file, []).append(lines)
        functions = confirmed = 0
        for file, line in self._db.rows(
            f"SELECT file, line FROM symbols WHERE is_definition AND kind IN ({marks(_FUNCTIONS)})", _FUNCTIONS
        ):
            functions += 1
            confirmed += any(line not in lines for lines in skipped.get(file, ()))
        return Coverage(
            units=sum(states.values()),
            broken=states.get("broken", 0),
            failed=states.get("failed", 0),
            files=len(skipped),
            files_in_tree=self._db.number("SELECT count(*) FROM files WHERE language = ?", (Language.CPP,)),
            functions=confirmed,
            functions_in_tree=functions,
            uses=self._db.number("SELECT count(*) FROM links WHERE how = ?", (Provenance.COMPILER,)),
            uses_in_tree=self._db.number("SELECT count(*) FROM refs WHERE how != ?", (Provenance.COMPILER,)),
        )


def _order(use: CompiledUse) -> tuple[int, str, str, str, str]:
    return use.line, use.kind, use.name, use.inside or "", use.target


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _surroundings(names: Iterable[str], places: Mapping[str, Sequence[str]]) -> str:
    """A digest of the files that a unit's includes could mean: a new one may come before the one that was read."""
    text = "\0".join(path for name in sorted(names) for path in places.get(name, ()))
    return blake2b(text.encode(), digest_size=8).hexdigest()
