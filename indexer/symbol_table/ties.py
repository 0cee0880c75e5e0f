"""What ties chunks to each other: reads the edges of each kind out of the table, whatever they are worth.

A use ties the chunk that it stands in to the chunks of what it means; a symbol, its declarations to its definition; a
class, its members to each other; a file, its chunks. Numbers are given in the order of ids and paths, so that equal
trees have equal edges, however their tables came to be. Knows nothing of walks.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.model import ChunkId, ReferenceKind, SymbolKind
from indexer.rows import Row
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.names import parts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]
    Masses = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]
else:  # numpy takes 0.1 s to import, which looking up a symbol should not wait for
    Numbers = Masses = Flags = Any


# Constants of the edges, each with its range and source.
GUESS = 0.5  # of an edge that is known by name only, shared by all that it may mean; 0 to 1
MOST_GUESSES = 4  # meanings of a name beyond which it tells nothing; 1 to 20
HUB = 10.0  # files that use a symbol, beyond which its edges weigh less, as HUB / files; 1 to 50
MOST_ALIKE = 4  # files of one name but for the ending that make pairs; more are main.cpp or README; 2 to 10
MOST_GENERATIONS = 8  # of classes, upward, that are looked at for overridden methods; 1 to 32
MADE_OF = (GUESS, MOST_GUESSES, HUB, MOST_ALIKE, MOST_GENERATIONS)

_LINES = 1 << 32  # more than any file has: makes one number of a file and a line
_KINDS = [kind.value for kind in ReferenceKind if kind is not ReferenceKind.INCLUDE]
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
_CLASSES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION})
# What a use known by its name only is taken for: less than all it may be, because each wrong guess leads astray.
_GUESSED: dict[ReferenceKind, frozenset[SymbolKind]] = {
    ReferenceKind.CALL: _FUNCTIONS | {SymbolKind.MACRO},
    ReferenceKind.TYPE: _CLASSES | {SymbolKind.ENUM, SymbolKind.ALIAS, SymbolKind.CONCEPT},
    ReferenceKind.BASE: _CLASSES,
    ReferenceKind.NAME: _FUNCTIONS,
    ReferenceKind.MACRO: frozenset({SymbolKind.MACRO}),
}
_GUESSED_AS = {kind.value: [use.value for use, kinds in _GUESSED.items() if kind in kinds] for kind in SymbolKind}
_OVERRIDING = frozenset({SymbolKind.METHOD, SymbolKind.FUNCTION})  # an out-of-line method may look like a function
PLACELESS = (SymbolKind.NAMESPACE, SymbolKind.SECTION, SymbolKind.MODULE, SymbolKind.USING)
_TARGET = "CASE WHEN refs.how = 'compiler' THEN coalesce(refs.target, '') ELSE links.target END"
_USES = (
    f"SELECT refs.file, refs.line, refs.kind, {_TARGET},"
    " CASE WHEN links.ref IS NULL AND refs.how <> 'compiler' THEN refs.name END"
    " FROM refs LEFT JOIN links ON links.ref = refs.id WHERE refs.kind <> 'include'"
)
_INCLUDES = (
    f"SELECT DISTINCT refs.file, {_TARGET} AS meant FROM refs LEFT JOIN links ON links.ref = refs.id"
    " WHERE refs.kind = 'include' AND meant <> ''"
)
_BASES = (
    f"SELECT DISTINCT refs.inside, {_TARGET} AS meant FROM refs LEFT JOIN links ON links.ref = refs.id"
    " WHERE refs.kind = 'base' AND meant <> '' AND refs.inside <> '' ORDER BY 1, 2"
)


class Edges(NamedTuple):
    """Edges of one kind, in arrays of one length."""

    start: Numbers
    end: Numbers
    weight: Masses


class Parts(NamedTuple):
    """What a tree's graph is made of. Nodes are its chunks, by their ids, then its classes, then its files."""

    chunks: list[ChunkId]
    nodes: int
    edges: Mapping[str, Edges]  # onward, by kind
    back: Mapping[str, Edges]


class _Places(NamedTuple):
    """The chunks of a tree, numbered in the order of their ids, and its files, in the order of their paths."""

    ids: list[ChunkId]
    paths: list[str]
    rows: list[int]  # of the files
    numbers: dict[int, int]  # of the files, by their rows
    file: Numbers  # of each chunk
    keys: Numbers  # of each chunk's file and first line, sorted
    order: Numbers  # the chunks in the order of their keys

    def at(self, files: Numbers, lines: Numbers) -> Numbers:
        """The chunk at each line of a file, -1 where there is none."""
        import numpy as np  # noqa: PLC0415 - as above

        if not len(self.ids):
            return np.full(len(files), -1)
        found = np.searchsorted(self.keys, files * _LINES + lines, side="right") - 1
        chunks = self.order[found]
        return np.where((found >= 0) & (self.file[chunks] == files), chunks, -1)


class _Homes(NamedTuple):
    """The symbols of a tree, numbered in the order of their ids, with the chunks that stand for them: those of its
    definitions, or of its declarations where it has none.
    """

    numbers: dict[str, int]
    offsets: Numbers  # shape (symbols + 1,), into ``chunks``
    chunks: Numbers
    guesses: dict[tuple[str, str], int]  # by kind of use and last name, where it may mean a few symbols only
    guess_offsets: Numbers  # shape (guesses + 1,), into ``guessed``
    guessed: Numbers  # symbols

    def of(self, symbols: Numbers) -> tuple[Numbers, Numbers]:
        """The chunks of these symbols, one after another, and the place of the symbol that each is of."""
        import numpy as np  # noqa: PLC0415 - as above

        places, owners = stretches(self.offsets[symbols], np.diff(self.offsets)[symbols])
        return self.chunks[places], owners


class _Row(NamedTuple):
    """A declaration of a symbol."""

    id: str
    kind: str
    name: str
    scope: str
    parameters: str
    defines: int
    file: int
    line: int


def read(db: Database) -> Parts:
    """The chunks of a table and the edges between them, whatever they are worth. The same for equal trees."""
    import numpy as np  # noqa: PLC0415 - as above

    places = _places(db)
    rows, aliases = _symbols(db)
    files = np.array([places.numbers[row.file] for row in rows], np.int64)
    chunks = places.at(files, np.array([row.line for row in rows], np.int64))
    homes, declarations = _homes(rows, chunks)
    homes.numbers.update({alias: homes.numbers[symbol] for alias, symbol in aliases.items()})
    names = sorted({_join(row.scope, row.name) for row in rows if row.kind in _CLASSES})
    classes = {name: number for number, name in enumerate(names, len(places.ids))}
    first_file = len(places.ids) + len(classes)
    nodes = first_file + len(places.paths)
    edges = _uses(db, places, homes)
    edges["declaration"] = declarations
    edges["override"] = _joined([edges["override"], _overrides(db, rows, homes)])
    edges["scope"], scope_back = _members(rows, chunks, classes)
    edges["file"], file_back = _shared(np.arange(len(places.ids)), places.file + first_file)
    paths = {path: first_file + number for number, path in enumerate(places.paths)}
    edges["include"], include_back = _includes(db, paths, places)
    edges["pair"] = _pairs(paths)
    back = {"scope": scope_back, "file": file_back, "include": include_back}
    return Parts(places.ids, nodes, edges, back)


def _places(db: Database) -> _Places:
    import numpy as np  # noqa: PLC0415 - as above

    files = db.rows("SELECT id, path FROM files ORDER BY path")
    numbers = {row: number for number, (row, _) in enumerate(files)}
    chunks = db.rows("SELECT id, file, first_line FROM chunks ORDER BY id")
    file = np.array([numbers[row[1]] for row in chunks], np.int64)
    keys = file * _LINES + np.array([row[2] for row in chunks], np.int64)
    order = np.argsort(keys, kind="stable")
    return _Places(
        [row[0] for row in chunks], [p for _, p in files], [r for r, _ in files], numbers, file, keys[order], order
    )


def _symbols(db: Database) -> tuple[list[_Row], dict[str, str]]:
    """All declarations by their symbols' ids, and which ids are others'.

    A function that is defined as ``B::f`` below ``using namespace A`` has another id than the ``A::B::f`` that is
    declared; where only one can be meant, it is that one's here.
    """
    rows = [
        _Row(*row)
        for row in db.rows("SELECT id, kind, name, scope, parameters, is_definition, file, first_line FROM symbols")
    ]
    defined = {row.id for row in rows if row.defines}
    declared: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if row.id not in defined and row.kind in _FUNCTIONS:
            declared.setdefault((row.name, row.parameters), {})[row.id] = row.scope
    own = {row.id for row in rows if not row.defines}
    meant: dict[str, tuple[str, str]] = {}
    for row in rows:
        if row.scope and row.kind in _FUNCTIONS and row.id not in own and row.id not in meant:
            ending = "::" + row.scope
            found = [
                (symbol, scope)
                for symbol, scope in declared.get((row.name, row.parameters), {}).items()
                if scope.endswith(ending)
            ]
            if len(found) == 1:
                meant[row.id] = found[0]
    same = [row._replace(id=meant[row.id][0], scope=meant[row.id][1]) if row.id in meant else row for row in rows]
    return sorted(same, key=lambda row: row.id), {alias: symbol for alias, (symbol, _) in meant.items()}


def _homes(rows: Sequence[_Row], chunks: Numbers) -> tuple[_Homes, Edges]:
    """Where symbols stand, and the edges from their declarations to their definitions."""
    import numpy as np  # noqa: PLC0415 - as above

    numbers: dict[str, int] = {}
    named: dict[tuple[str, str], list[int]] = {}
    of_rows = np.empty(len(rows), np.int64)
    for place, row in enumerate(rows):
        number = of_rows[place] = numbers.setdefault(row.id, len(numbers))
        for use in _GUESSED_AS[row.kind]:
            meant = named.setdefault((use, row.name), [])
            if not meant or meant[-1] != number:
                meant.append(number)
    placed = (chunks >= 0) & np.array([row.kind not in PLACELESS for row in rows], bool)
    defining = np.array([row.defines for row in rows], bool)
    defined = np.zeros(len(numbers), bool)
    defined[of_rows[placed & defining]] = True
    symbols, ends = _distinct(of_rows, chunks, placed & (defining | ~defined[of_rows]))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(symbols, minlength=len(numbers)))])
    few = {key: meant for key, meant in named.items() if len(meant) <= MOST_GUESSES}
    guess_offsets = np.concatenate([[0], np.cumsum([len(meant) for meant in few.values()], dtype=np.int64)])
    guessed = np.array([number for meant in few.values() for number in meant], np.int64)
    guesses = {key: place for place, key in enumerate(few)}
    homes = _Homes(numbers, offsets, ends, guesses, guess_offsets, guessed)
    declared, starts = _distinct(of_rows, chunks, placed & ~defining & defined[of_rows])
    ends, owners = homes.of(declared)
    weight = 1 / np.bincount(declared, minlength=len(numbers))[declared]
    return homes, Edges(starts[owners], ends, weight[owners])


def _uses(db: Database, places: _Places, homes: _Homes) -> dict[str, Edges]:
    """Edges from where a symbol is used to where it stands, by kind; symbols that many files use weigh less."""
    import numpy as np  # noqa: PLC0415 - as above

    size = (len(_KINDS), max(len(places.ids), 1), max(len(homes.numbers), 1))
    found = [
        _different(places, homes, rows, size)
        for part in parts(places.rows)
        if (rows := db.rows(f"{_USES} AND refs.file IN ({marks(part)})", part))
    ]
    keys = np.concatenate([np.zeros(0, np.int64), *(keys for keys, _ in found)])
    weight = np.concatenate([np.zeros(0), *(weight for _, weight in found)])
    kinds, chunks, symbols = np.unravel_index(keys, size)
    using, _ = _distinct(symbols, places.file[chunks], weight > 0)
    users = np.bincount(using, minlength=size[2])
    weight = weight * np.minimum(1.0, HUB / np.maximum(users, 1))[symbols]
    ends, owners = homes.of(symbols)
    weight = (weight / np.maximum(np.bincount(owners, minlength=len(symbols)), 1))[owners]
    edges = Edges(chunks[owners], ends, weight)
    return {kind: Edges(*(column[kinds[owners] == number] for column in edges)) for number, kind in enumerate(_KINDS)}


def _different(
    places: _Places, homes: _Homes, rows: Sequence[Row], size: tuple[int, int, int]
) -> tuple[Numbers, Masses]:
    """The different uses of some files, as keys of kind, chunk and symbol, each with how sure the surest of them is."""
    import numpy as np  # noqa: PLC0415 - as above

    # Hundreds of thousands of rows: each column goes through one built-in function, not through a loop.
    files, lines, kinds, targets, names = zip(*rows, strict=True)  # names of what is known by them only
    chunks = places.at(np.array([*map(places.numbers.__getitem__, files)]), np.array(lines))
    numbers = np.array([*map(_NUMBERS.__getitem__, kinds)])
    symbols = np.array([*map(homes.numbers.get, targets, repeat(-1))])
    guesses = np.array([*map(homes.guesses.get, zip(kinds, names, strict=True), repeat(-1))])
    (sure,) = np.nonzero((chunks >= 0) & (symbols >= 0))
    (guessed,) = np.nonzero((chunks >= 0) & (guesses >= 0))
    first = homes.guess_offsets[guesses[guessed]]
    sizes = homes.guess_offsets[guesses[guessed] + 1] - first
    listed, owners = stretches(first, sizes)
    uses = np.concatenate([sure, guessed[owners]])
    meant = np.concatenate([symbols[sure], homes.guessed[listed]])
    sureness = np.concatenate([np.ones(len(sure)), (GUESS / np.maximum(sizes, 1))[owners]])
    keys, where = np.unique(np.ravel_multi_index((numbers[uses], chunks[uses], meant), size), return_inverse=True)
    weight = np.zeros(len(keys))
    np.maximum.at(weight, where, sureness)
    return keys, weight


def _overrides(db: Database, rows: Sequence[_Row], homes: _Homes) -> Edges:
    """Edges between methods of one name of a class and of the classes above it, as far as these are known."""
    import numpy as np  # noqa: PLC0415 - as above

    qualified = {row.id: _join(row.scope, row.name) for row in rows if row.kind in _CLASSES}
    methods: dict[str, dict[str, set[int]]] = {}
    for row in rows:
        if row.kind in _OVERRIDING:
            methods.setdefault(row.scope, {}).setdefault(row.name, set()).add(homes.numbers[row.id])
    bases: dict[str, set[str]] = {}
    for derived, base in db.rows(_BASES):
        if derived in qualified and base in qualified:
            bases.setdefault(qualified[derived], set()).add(qualified[base])
    found: set[tuple[int, int]] = set()
    for derived in bases:
        own = methods.get(derived, {})
        for base in _above(derived, bases):
            theirs = methods.get(base, {})
            for name in own.keys() & theirs.keys():
                found |= {(lower, upper) for lower in own[name] for upper in theirs[name]}
    listed = np.array(sorted(found), np.int64).reshape(-1, 2)
    starts, owners = homes.of(listed[:, 0])
    ends, again = homes.of(listed[owners, 1])
    return Edges(starts[again], ends, np.ones(len(ends)))


def _above(derived: str, bases: Mapping[str, set[str]]) -> set[str]:
    """The classes that a class derives from, without itself."""
    seen = {derived}
    level = seen
    for _ in range(MOST_GENERATIONS):
        level = {base for name in level for base in bases.get(name, ())} - seen
        if not level:
            break
        seen = seen | level
    return seen - {derived}


def _members(rows: Sequence[_Row], chunks: Numbers, classes: Mapping[str, int]) -> tuple[Edges, Edges]:
    """Edges from the chunks of classes and of their members to the nodes of the classes, and back."""
    import numpy as np  # noqa: PLC0415 - as above

    of_rows = np.array(
        [classes.get(_join(row.scope, row.name) if row.kind in _CLASSES else row.scope, -1) for row in rows], np.int64
    )
    return _shared(*_distinct(chunks, of_rows, (chunks >= 0) & (of_rows >= 0)))


def _includes(db: Database, paths: Mapping[str, int], places: _Places) -> tuple[Edges, Edges]:
    import numpy as np  # noqa: PLC0415 - as above

    rows = dict(zip(places.rows, paths.values(), strict=True))
    found = sorted({(rows[file], paths[target]) for file, target in db.rows(_INCLUDES) if target in paths})
    listed = np.array(found, np.int64).reshape(-1, 2)
    return _shared(listed[:, 0], listed[:, 1])


def _pairs(paths: Mapping[str, int]) -> Edges:
    """Edges between files whose names differ in their ending only, wherever they lie."""
    import numpy as np  # noqa: PLC0415 - as above

    alike: dict[str, list[int]] = {}
    for path, number in paths.items():
        alike.setdefault(path.rpartition("/")[2].partition(".")[0], []).append(number)
    found = [
        (one, other, 1 / (len(files) - 1))
        for files in alike.values()
        if 1 < len(files) <= MOST_ALIKE
        for one in files
        for other in files
        if one < other
    ]
    listed = np.array(found, np.float64).reshape(-1, 3)
    return Edges(listed[:, 0].astype(np.int64), listed[:, 1].astype(np.int64), listed[:, 2])


def _shared(start: Numbers, end: Numbers) -> tuple[Edges, Edges]:
    """Edges of weight 1, and those that lead back, which share that weight among all that came."""
    import numpy as np  # noqa: PLC0415 - as above

    sizes = np.bincount(end) if len(end) else np.zeros(0)
    return Edges(start, end, np.ones(len(start))), Edges(end, start, 1 / sizes[end])


def _distinct(one: Numbers, other: Numbers, kept: Flags) -> tuple[Numbers, Numbers]:
    """The different pairs of two columns, of the rows that are kept, in order."""
    import numpy as np  # noqa: PLC0415 - as above

    width = int(other.max(initial=0)) + 1
    first, second = np.divmod(np.unique(one[kept] * width + other[kept]), width)
    return first, second


def _joined(kinds: Iterable[Edges]) -> Edges:
    import numpy as np  # noqa: PLC0415 - as above

    return Edges(*(np.concatenate(columns) for columns in zip(*kinds, strict=True)))


def _join(scope: str, name: str) -> str:
    return f"{scope}::{name}" if scope else name


def stretches(starts: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """The places of stretches of these starts and sizes, one after another, and which stretch each belongs to."""
    import numpy as np  # noqa: PLC0415 - as above

    owners = np.repeat(np.arange(len(starts)), sizes)
    before = np.cumsum(sizes) - sizes
    return (starts - before)[owners] + np.arange(len(owners)), owners
