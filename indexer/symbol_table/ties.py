"""What ties chunks to each other: reads the edges of each kind out of the table, whatever they are worth.

A use ties the chunk that it stands in to the chunks of what it means; a symbol, its declarations to its definition; a
class, its members to each other; a file, its chunks. Numbers are given in the order of ids and paths, so that equal
trees have equal edges, however their tables came to be. Knows nothing of walks.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.model import ChunkId, ReferenceKind, SymbolKind
from indexer.symbol_table.database import Database

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
_KIND_NUMBERS: dict[str, int] = {kind.value: number for number, kind in enumerate(SymbolKind)}
_OVERRIDING = frozenset({SymbolKind.METHOD, SymbolKind.FUNCTION})  # an out-of-line method may look like a function
PLACELESS = (SymbolKind.NAMESPACE, SymbolKind.SECTION, SymbolKind.MODULE, SymbolKind.USING)
_TARGET = "CASE WHEN refs.how = 'compiler' THEN coalesce(refs.target, '') ELSE links.target END"
# All uses in one pass, for reading them takes most of the time: where and what, what is meant, what a guess goes by,
# and whose base it is.
_USES = (
    f"SELECT refs.file AS file, refs.line AS line, refs.kind AS kind, coalesce({_TARGET}, '') AS target,"
    " CASE WHEN links.ref IS NULL AND refs.how <> 'compiler' THEN refs.kind || ' ' || refs.name ELSE '' END AS guess,"
    " CASE WHEN refs.kind = 'base' THEN coalesce(refs.inside, '') ELSE '' END AS inside"
    " FROM refs LEFT JOIN links ON links.ref = refs.id WHERE refs.id > ? AND refs.id <= ?"
)
# A text for each column takes half the time of a tuple for each row, and leaves the garbage collector nothing to do.
_COLUMNS = ", ".join(
    f"group_concat({column}, char(10))" for column in ("file", "line", "kind", "target", "guess", "inside")
)
_ROWS_AT_ONCE = 20_000  # of uses, 3 MB; 5,000 to 500,000


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
    guesses: dict[str, int]  # by kind of use and last name, where it may mean a few symbols only
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
    uses = _read_uses(db, places, homes)
    edges = _edges_of(uses, places, homes)
    edges["declaration"] = declarations
    edges["override"] = _joined([edges["override"], _overrides(uses.bases, rows, homes)])
    edges["scope"], scope_back = _members(rows, chunks, classes)
    edges["file"], file_back = _shared(np.arange(len(places.ids)), places.file + first_file)
    paths = {path: first_file + number for number, path in enumerate(places.paths)}
    edges["include"], include_back = _includes(uses.includes, paths, places)
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
        *map(
            _Row._make,
            db.rows("SELECT id, kind, name, scope, parameters, is_definition, file, first_line FROM symbols"),
        )
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
    if meant:
        rows = [row._replace(id=meant[row.id][0], scope=meant[row.id][1]) if row.id in meant else row for row in rows]
    return sorted(rows, key=itemgetter(0)), {alias: symbol for alias, (symbol, _) in meant.items()}


def _homes(rows: Sequence[_Row], chunks: Numbers) -> tuple[_Homes, Edges]:
    """Where symbols stand, and the edges from their declarations to their definitions."""
    import numpy as np  # noqa: PLC0415 - as above

    numbers: dict[str, int] = {}
    of_rows = np.array([numbers.setdefault(row.id, len(numbers)) for row in rows], np.int64)
    placed = (chunks >= 0) & np.array([row.kind not in PLACELESS for row in rows], bool)
    defining = np.array([row.defines for row in rows], bool)
    defined = np.zeros(len(numbers), bool)
    defined[of_rows[placed & defining]] = True
    symbols, ends = _distinct(of_rows, chunks, placed & (defining | ~defined[of_rows]))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(symbols, minlength=len(numbers)))])
    guesses, guess_offsets, guessed = _guesses(rows, of_rows)
    homes = _Homes(numbers, offsets, ends, guesses, guess_offsets, guessed)
    declared, starts = _distinct(of_rows, chunks, placed & ~defining & defined[of_rows])
    ends, owners = homes.of(declared)
    weight = 1 / np.bincount(declared, minlength=len(numbers))[declared]
    return homes, Edges(starts[owners], ends, weight[owners])


def _guesses(rows: Sequence[_Row], of_rows: Numbers) -> tuple[dict[str, int], Numbers, Numbers]:
    """What uses known by their names only may mean, as _Homes keeps it."""
    import numpy as np  # noqa: PLC0415 - as above

    names: dict[str, int] = {}
    named = np.array([names.setdefault(row.name, len(names)) for row in rows], np.int64)
    kinds = np.array([_KIND_NUMBERS[row.kind] for row in rows], np.int64)
    spelt = list(names)
    guesses: dict[str, int] = {}
    sizes, guessed = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)]
    for use, meant in _GUESSED.items():
        name, symbol = _distinct(named, of_rows, np.isin(kinds, [_KIND_NUMBERS[kind] for kind in meant]))
        number = np.bincount(name, minlength=len(names))
        few = (number > 0) & (number <= MOST_GUESSES)
        first = len(guesses)
        guesses.update((f"{use.value} {spelt[at]}", first + n) for n, at in enumerate(np.flatnonzero(few).tolist()))
        sizes.append(number[few])
        guessed.append(symbol[few[name]])
    return guesses, np.cumsum(np.concatenate(sizes)), np.concatenate(guessed)


class _Uses(NamedTuple):
    """What the uses of a tree come to."""

    keys: Numbers  # the different ones of kind, chunk and symbol, in one number each as ``_size`` says, in order
    sure: Masses  # for each of them, how sure the surest is
    bases: set[tuple[str, str]]  # ids of a class and of one that it derives from
    includes: set[tuple[int, str]]  # row of a file and path of what it includes


def _size(places: _Places, homes: _Homes) -> tuple[int, int, int]:
    return len(_KINDS), max(len(places.ids), 1), max(len(homes.numbers), 1)


def _read_uses(db: Database, places: _Places, homes: _Homes) -> _Uses:
    import numpy as np  # noqa: PLC0415 - as above

    bases: set[tuple[str, str]] = set()
    includes: set[tuple[int, str]] = set()
    found: list[tuple[Numbers, Masses]] = []
    numbers = np.zeros(max(places.rows, default=0) + 1, np.int64)
    numbers[places.rows] = np.arange(len(places.rows))
    last = db.number("SELECT coalesce(max(id), 0) FROM refs")
    for start in range(0, last, _ROWS_AT_ONCE):
        columns = _columns(db, start, start + _ROWS_AT_ONCE)
        if columns is None:
            continue
        # Hundreds of thousands of rows: each column goes through one built-in function, not through a loop.
        files, lines, kinds, targets, guesses, inside = columns
        if "base" in kinds:
            bases.update((who, what) for who, what in zip(inside, targets, strict=True) if who and what)
        if "include" in kinds:
            listed = zip(kinds, files.tolist(), targets, strict=True)
            includes.update((file, target) for kind, file, target in listed if kind == "include" and target)
        found.append(
            _different(
                np.array([*map(_NUMBERS.get, kinds, repeat(-1))]),
                places.at(numbers[files], lines),
                np.array([*map(homes.numbers.get, targets, repeat(-1))]),
                np.array([*map(homes.guesses.get, guesses, repeat(-1))]),
                places,
                homes,
            )
        )
    keys = np.concatenate([np.zeros(0, np.int64), *(keys for keys, _ in found)])
    weight = np.concatenate([np.zeros(0), *(weight for _, weight in found)])
    return _Uses(*_surest(keys, weight), bases, includes)


def _columns(
    db: Database, after: int, last: int
) -> tuple[Numbers, Numbers, Sequence[str], Sequence[str], Sequence[str], Sequence[str]] | None:
    """The uses of some numbers, column by column; None where there are none."""
    import numpy as np  # noqa: PLC0415 - as above

    ((number, *texts),) = db.rows(f"SELECT count(*), {_COLUMNS} FROM ({_USES})", (after, last))
    if not number:
        return None
    files, lines, *words = (text.split("\n") for text in texts)
    if any(len(column) != number for column in words):  # a path or a name may hold whatever separates them
        files, lines, *words = zip(*db.rows(_USES, (after, last)), strict=True)
    kinds, targets, guesses, inside = words
    return np.array(files, np.int64), np.array(lines, np.int64), kinds, targets, guesses, inside


def _different(
    kinds: Numbers, chunks: Numbers, symbols: Numbers, guesses: Numbers, places: _Places, homes: _Homes
) -> tuple[Numbers, Masses]:
    """The different ones among some uses. -1 stands for a kind or place that makes no edge, and for what is unknown."""
    import numpy as np  # noqa: PLC0415 - as above

    tied = (chunks >= 0) & (kinds >= 0)
    (sure,) = np.nonzero(tied & (symbols >= 0))
    (guessed,) = np.nonzero(tied & (guesses >= 0))
    first = homes.guess_offsets[guesses[guessed]]
    sizes = homes.guess_offsets[guesses[guessed] + 1] - first
    listed, owners = stretches(first, sizes)
    uses = np.concatenate([sure, guessed[owners]])
    meant = np.concatenate([symbols[sure], homes.guessed[listed]])
    sureness = np.concatenate([np.ones(len(sure)), (GUESS / np.maximum(sizes, 1))[owners]])
    return _surest(np.ravel_multi_index((kinds[uses], chunks[uses], meant), _size(places, homes)), sureness)


def _surest(keys: Numbers, weight: Masses) -> tuple[Numbers, Masses]:
    """The different keys, in order, each with the most that it weighs."""
    import numpy as np  # noqa: PLC0415 - as above

    order = np.lexsort((weight, keys))
    keys, weight = keys[order], weight[order]
    last = np.concatenate([keys[1:] != keys[:-1], np.ones(min(len(keys), 1), bool)])
    return keys[last], weight[last]


def _edges_of(uses: _Uses, places: _Places, homes: _Homes) -> dict[str, Edges]:
    """Edges from where a symbol is used to where it stands, by kind; symbols that many files use weigh less."""
    import numpy as np  # noqa: PLC0415 - as above

    size = _size(places, homes)
    kinds, chunks, symbols = np.unravel_index(uses.keys, size)
    using, _ = _distinct(symbols, places.file[chunks], uses.sure > 0)
    users = np.bincount(using, minlength=size[2])
    weight = uses.sure * np.minimum(1.0, HUB / np.maximum(users, 1))[symbols]
    ends, owners = homes.of(symbols)
    weight = (weight / np.maximum(np.bincount(owners, minlength=len(symbols)), 1))[owners]
    edges = Edges(chunks[owners], ends, weight)
    return {kind: Edges(*(column[kinds[owners] == number] for column in edges)) for number, kind in enumerate(_KINDS)}


def _overrides(derived_from: Collection[tuple[str, str]], rows: Sequence[_Row], homes: _Homes) -> Edges:
    """Edges between methods of one name of a class and of the classes above it, as far as these are known."""
    import numpy as np  # noqa: PLC0415 - as above

    qualified = {row.id: _join(row.scope, row.name) for row in rows if row.kind in _CLASSES}
    methods: dict[str, dict[str, set[int]]] = {}
    for row in rows:
        if row.kind in _OVERRIDING:
            methods.setdefault(row.scope, {}).setdefault(row.name, set()).add(homes.numbers[row.id])
    bases: dict[str, set[str]] = {}
    for derived, base in derived_from:
        if derived in qualified and base in qualified:
            bases.setdefault(qualified[derived], set()).add(qualified[base])
    width = max(len(homes.numbers), 1)
    found = [np.zeros(0, np.int64)]
    for derived in bases:
        own = methods.get(derived, {})
        for base in _above(derived, bases):
            theirs = methods.get(base, {})
            for name in own.keys() & theirs.keys():
                lower, upper = np.array([*own[name]]), np.array([*theirs[name]])
                found.append((lower[:, np.newaxis] * width + upper).ravel())
    listed = np.stack(np.divmod(np.unique(np.concatenate(found)), width), axis=1)
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


def _includes(included: Collection[tuple[int, str]], paths: Mapping[str, int], places: _Places) -> tuple[Edges, Edges]:
    import numpy as np  # noqa: PLC0415 - as above

    rows = dict(zip(places.rows, paths.values(), strict=True))
    found = sorted({(rows[file], paths[target]) for file, target in included if target in paths})
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
