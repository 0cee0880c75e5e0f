"""Symbols and the edges between them, as they are asked for.

A use whose target the linker or the compiler has decided is an edge to that symbol. Every other one is known by its
name only: what it may mean is found here, when it is asked, and shown as a guess with its candidates.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolId, SymbolKind
from indexer.rows import Row, last_name, split_row
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.names import FoundSymbols, Match, Names, ends_with, parts, typed_name

SHOWN_CANDIDATES = 5  # of a guess; their number is always told
_MOST_NAMES = 100_000  # of which it is kept whether the tree has them: 10 MB
MOST_JUDGED = 100_000  # spellings of uses whose guesses are kept at a time
SURENESS = {how: rank for rank, how in enumerate(Provenance)}

# The target is NULL while nothing has decided it, and '' where it is known to stand outside the tree.
_USES = (
    "SELECT refs.kind, path, line, written, refs.name, inside, operands,"
    " CASE WHEN refs.how = 'compiler' THEN coalesce(refs.target, '') ELSE links.target END,"
    " CASE WHEN refs.how = 'compiler' THEN refs.how ELSE coalesce(links.how, 'by-name') END"
    " FROM refs JOIN files ON files.id = refs.file LEFT JOIN links ON links.ref = refs.id"
)
_OPEN = "links.ref IS NULL AND refs.how <> 'compiler'"
# A use that the parser saw and the compiler saw too is the compiler's.
_SHADOWED = "(coalesce(links.target, 'x') = '' AND links.how = 'compiler' AND refs.how <> 'compiler')"

_KINDS = {kind.value: kind for kind in ReferenceKind}  # three times as fast as the enum's own look-up
_HOWS = {how.value: how for how in Provenance}
_CLASSES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION})
_TYPES = _CLASSES | {SymbolKind.ENUM, SymbolKind.ALIAS}
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
_OBJECTS = frozenset({SymbolKind.VARIABLE, SymbolKind.FIELD})
# What each kind of use can mean. A call may go through a variable or a type's constructor; a macro in capitals may look
# like a call, and a call like a macro.
_MEANT: dict[ReferenceKind, frozenset[SymbolKind]] = {
    ReferenceKind.CALL: _FUNCTIONS | _TYPES | _OBJECTS | {SymbolKind.MACRO},
    ReferenceKind.TYPE: _TYPES | {SymbolKind.CONCEPT, SymbolKind.MACRO},
    ReferenceKind.BASE: _TYPES | {SymbolKind.MACRO},
    ReferenceKind.OVERRIDE: _FUNCTIONS,
    ReferenceKind.MACRO: _FUNCTIONS | {SymbolKind.MACRO},
    ReferenceKind.NAME: _FUNCTIONS | _OBJECTS | {SymbolKind.ENUMERATOR},
    ReferenceKind.INCLUDE: frozenset(),
}
# And each form of a call, where it is known (see indexer.cpp.expressions).
_FORMS: dict[str, frozenset[SymbolKind]] = {
    "method": frozenset({SymbolKind.METHOD, SymbolKind.DESTRUCTOR, SymbolKind.FUNCTION, SymbolKind.FIELD}),
    "new": _TYPES | {SymbolKind.CONSTRUCTOR},
    "init": _TYPES | _OBJECTS | {SymbolKind.CONSTRUCTOR},
    "operator": frozenset({SymbolKind.METHOD, SymbolKind.FUNCTION}),
}


class Use(NamedTuple):
    """One row of what the code uses."""

    kind: ReferenceKind
    path: str
    line: int
    written: str
    name: str
    inside: SymbolId | None
    operands: str
    target: str | None
    how: Provenance


class Candidate(NamedTuple):
    """A symbol that a use known by name may mean; one for each id."""

    id: SymbolId
    kinds: frozenset[SymbolKind]
    scope: str
    name: str
    arities: tuple[tuple[int, int], ...]  # fewest and most arguments, for each of its declarations
    label: str  # its qualified name, and the parameters of a function


class Guess(NamedTuple):
    """What a use may mean that is known by its name only."""

    target: str  # the qualified name that all candidates share; otherwise the name as written
    labels: tuple[str, ...] = ()  # of the first candidates, where there are several
    number: int = 0


class Meant(NamedTuple):
    """A use with the symbols that it means: one where it is decided, any number where it is a guess."""

    use: Use
    ids: tuple[SymbolId, ...]
    guess: Guess | None = None


class _Guessing:
    """Guesses from one set of candidates. Uses that are written alike mean alike, so each spelling is judged once."""

    def __init__(self, known: Mapping[str, Sequence[Candidate]]) -> None:
        self.known = dict(known)
        self._judged: dict[tuple[ReferenceKind, str, str], tuple[tuple[SymbolId, ...], Guess]] = {}

    def meant(self, use: Use) -> Meant:
        if use.target is not None:
            return Meant(use, (SymbolId(use.target),) if use.target else ())
        key = (use.kind, use.written, use.operands)
        judged = self._judged.get(key)
        if judged is None:
            if len(self._judged) > MOST_JUDGED:
                self._judged.clear()
            judged = self._judged[key] = _judge(use, self.known.get(use.name, ()))
        return Meant(use, *judged)


class Facts:
    """Reads symbols and edges from one table."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.names = Names(database)

    # Symbols

    def symbols_named(self, name: str, limit: int) -> list[Symbol]:
        """Symbols of a name as a developer types it: ``Get``, ``DBImpl::Get``, ``leveldb::DBImpl::Get(int)``.

        Partial qualification is enough. Letter case counts unless nothing has the exact case. The fullest match
        comes first, definitions before declarations, then by path and line.
        """
        return self.names.named(name, limit)

    def has(self, name: str) -> bool:
        """Whether ``symbols_named`` finds anything, without reading it."""
        known = self._db.commons.of("names", self._db.generation(), lambda _before: dict[str, bool]())
        found = known.get(name)
        if found is None:
            if len(known) >= _MOST_NAMES:
                known.clear()
            found = known[name] = self.names.has(name)
        return found

    def find(
        self, typed: str, limit: int, offset: int = 0, how: Match | None = None, kinds: Sequence[SymbolKind] = ()
    ) -> FoundSymbols:
        """As ``Names.find``. Raises QuestionError."""
        return self.names.find(typed, limit, offset, how, kinds)

    def symbols_by_id(self, wanted: SymbolId) -> list[Symbol]:
        return self.names.by_ids([wanted])

    def names_of(self, ids: Iterable[SymbolId]) -> dict[SymbolId, tuple[str, SymbolKind]]:
        """Qualified name and kind of each id that exists, the kind as its definition has it where there is one."""
        found: dict[SymbolId, tuple[str, SymbolKind]] = {}
        for part in parts(sorted(set(ids))):
            for symbol, scope, name, kind in self._db.rows(
                f"SELECT id, scope, name, kind FROM symbols WHERE id IN ({marks(part)})"
                " ORDER BY is_definition, kind DESC",
                part,
            ):
                found[SymbolId(symbol)] = (_join(scope, name), SymbolKind(kind))
        return found

    def all_symbols(self) -> Iterator[Symbol]:
        """Every symbol, by path and line."""
        return self.names.all()

    # Edges

    def edges_to(self, symbol: Symbol, kinds: Sequence[ReferenceKind]) -> list[Edge]:
        """Where a symbol is used, and where it may be as far as names tell; by path and line."""
        targets = {symbol.id: symbol.name}
        return self.edges(self.uses_of(targets, kinds) + self.guesses_at(targets, kinds))

    def edges_from(self, symbol: Symbol, kinds: Sequence[ReferenceKind]) -> list[Edge]:
        """What a symbol's own text uses, by path and line."""
        return self.edges(self.uses_in([symbol.id], kinds))

    def edges_by_name(self, name: str, kinds: Sequence[ReferenceKind]) -> list[Edge]:
        """Uses of a name of which the tree holds no symbol, such as ``std::move``."""
        wanted = typed_name(name).name
        rows = self._db.rows(
            f"{_USES} WHERE refs.name = ? AND refs.kind IN ({marks(kinds)}) AND NOT {_SHADOWED}",
            (last_name(wanted), *kinds),
        )
        # Whatever the decided ones mean, it is not this.
        found = [use for use in map(_use, rows) if not use.target and ends_with(use.written, wanted)]
        return self.edges(Meant(use._replace(how=Provenance.BY_NAME), ()) for use in found)

    def all_edges(self) -> Iterator[Edge]:
        """Every use, by path and line, less those known to mean something outside the tree. Includes are all there."""
        guessing = _Guessing({})
        names = {
            SymbolId(symbol): _join(scope, name)
            for symbol, scope, name in self._db.rows("SELECT DISTINCT id, scope, name FROM symbols")
        }
        files = self._paths_by_name()
        for (file,) in self._db.rows("SELECT id FROM files ORDER BY path"):
            rows = self._db.rows(
                f"{_USES} WHERE refs.file = ? AND NOT {_SHADOWED}"
                " AND (links.ref IS NULL OR links.target <> '' OR refs.kind = 'include')",
                (file,),
            )
            uses = [use for use in map(_use, rows) if use.target != "" or use.kind is ReferenceKind.INCLUDE]
            missing = {use.name for use in uses if use.target is None} - guessing.known.keys()
            if missing:
                guessing.known |= self.candidates(missing)
            yield from sorted({_edge(guessing.meant(use), names, files) for use in uses}, key=order_of)

    def edges(self, meant: Iterable[Meant]) -> list[Edge]:
        """Uses as they are shown, each once, by path and line."""
        return self.edges_in_groups([list(meant)])[0]

    def edges_in_groups(self, groups: Iterable[Collection[Meant]]) -> list[list[Edge]]:
        """As ``edges``, for each group by itself."""
        listed = list(groups)
        found = [one for group in listed for one in group]
        ids = {symbol for one in found for symbol in one.ids[:1]} | {one.use.inside for one in found if one.use.inside}
        names = {symbol: name for symbol, (name, _) in self.names_of(ids).items()}
        includes = any(one.use.kind is ReferenceKind.INCLUDE for one in found)
        files = self._paths_by_name() if includes else {}
        return [sorted({_edge(one, names, files) for one in group}, key=order_of) for group in listed]

    def provenance(self) -> dict[Provenance, int]:
        """How many edges rest on what. Names that no symbol of the tree has are no edges."""
        (row,) = self._db.rows(
            "SELECT (SELECT count(*) FROM refs WHERE how = 'compiler' AND coalesce(target, '') <> ''),"
            " (SELECT count(*) FROM links WHERE target <> ''),"
            f" (SELECT count(*) FROM refs LEFT JOIN links ON links.ref = refs.id WHERE {_OPEN}"
            " AND refs.kind <> 'include' AND refs.name IN (SELECT name FROM symbols))"
        )
        return dict(zip((Provenance.COMPILER, Provenance.RESOLVED, Provenance.BY_NAME), row, strict=True))

    # Many at a time, for those who follow edges

    def uses_of(self, ids: Collection[str], kinds: Sequence[ReferenceKind]) -> list[Meant]:
        """The uses that are decided to mean one of these symbols (or files, for includes)."""
        found: list[Meant] = []
        for part in parts(sorted(ids)):
            for where in (
                f"links.target IN ({marks(part)}) AND refs.how <> 'compiler'",
                f"refs.target IN ({marks(part)}) AND refs.how = 'compiler'",
            ):
                rows = self._db.rows(f"{_USES} WHERE {where} AND refs.kind IN ({marks(kinds)})", (*part, *kinds))
                found += [Meant(use, (SymbolId(use.target or ""),)) for use in map(_use, rows)]
        return found

    def guesses_at(self, names: Mapping[SymbolId, str], kinds: Sequence[ReferenceKind]) -> list[Meant]:
        """The undecided uses that may mean one of these symbols, given with their last names."""
        wanted = sorted(set(names.values()))
        found: list[Meant] = []
        for part in parts(wanted):
            rows = self._db.rows(
                f"{_USES} WHERE refs.name IN ({marks(part)}) AND {_OPEN} AND refs.kind IN ({marks(kinds)})",
                (*part, *kinds),
            )
            if rows:
                guessing = _Guessing(self.candidates(part))
                meant = [guessing.meant(_use(row)) for row in rows]
                found += [one for one in meant if any(symbol in names for symbol in one.ids)]
        return found

    def uses_in(self, ids: Collection[SymbolId], kinds: Sequence[ReferenceKind]) -> list[Meant]:
        """What these symbols' own text uses, less what is known to stand outside the tree."""
        uses = [
            use
            for part in parts(sorted(ids))
            for use in map(
                _use,
                self._db.rows(
                    f"{_USES} WHERE refs.inside IN ({marks(part)}) AND refs.kind IN ({marks(kinds)})"
                    f" AND NOT {_SHADOWED}",
                    (*part, *kinds),
                ),
            )
            if use.target != ""
        ]
        guessing = _Guessing(self.candidates({use.name for use in uses if use.target is None}))
        return [guessing.meant(use) for use in uses]

    def includes_of(self, paths: Collection[str]) -> list[Meant]:
        """The includes that stand in these files."""
        uses = [
            _use(row)
            for part in parts(sorted(paths))
            for row in self._db.rows(
                f"{_USES} WHERE refs.kind = 'include' AND NOT {_SHADOWED}"
                f" AND refs.file IN (SELECT id FROM files WHERE path IN ({marks(part)}))",
                part,
            )
        ]
        return [Meant(use, ()) for use in uses]

    def guessed_includes(self, base_names: Collection[str]) -> list[Meant]:
        """The undecided includes of files of these base names."""
        return [
            Meant(_use(row), ())
            for part in parts(sorted(base_names))
            for row in self._db.rows(
                f"{_USES} WHERE refs.kind = 'include' AND refs.name IN ({marks(part)}) AND {_OPEN}", part
            )
        ]

    def candidates(self, names: Collection[str]) -> dict[str, list[Candidate]]:
        """What the tree has of these last names, by name, in the order of labels."""
        rows: dict[str, dict[SymbolId, list[Row]]] = {name: {} for name in names}
        for part in parts(sorted(names)):
            for row in self._db.rows(
                "SELECT id, kind, scope, name, required, parameters FROM symbols"
                f" WHERE name COLLATE NOCASE IN ({marks(part)}) ORDER BY is_definition DESC, required, parameters",
                part,
            ):
                if row[3] in rows:
                    rows[row[3]].setdefault(SymbolId(row[0]), []).append(row)
        return {
            name: sorted((_candidate(group) for group in found.values()), key=lambda c: (c.label, c.id))
            for name, found in rows.items()
        }

    def _paths_by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for (path,) in self._db.rows("SELECT path FROM files ORDER BY path"):
            found.setdefault(path.rpartition("/")[2], []).append(path)
        return found


def order_of(edge: Edge) -> tuple[object, ...]:
    """The total order of edges: by place, then by everything that can differ."""
    return (
        edge.path,
        edge.line,
        edge.kind,
        edge.inside,
        edge.target,
        SURENESS[edge.how],
        edge.target_id or "",
        edge.inside_id or "",
        edge.candidate_count,
        edge.candidates,
    )


def _use(row: Row) -> Use:
    kind, path, line, written, name, inside, operands, target, how = row
    return Use(_KINDS[kind], path, line, written, name, inside, operands, target, _HOWS[how])


def _candidate(rows: Sequence[Row]) -> Candidate:
    """One symbol out of its declarations."""
    symbol, _, scope, name, _, parameters = rows[0]
    kinds = frozenset(SymbolKind(row[1]) for row in rows)
    arities = tuple(dict.fromkeys(_arity(row[4], split_row(row[5])) for row in rows))
    written = f"({', '.join(split_row(parameters))})" if kinds & _FUNCTIONS else ""
    return Candidate(SymbolId(symbol), kinds, scope, name, arities, _join(scope, name) + written)


def _arity(required: int, parameters: Sequence[str]) -> tuple[int, int]:
    variadic = bool(parameters) and parameters[-1].endswith("...")
    return required, 1_000_000 if variadic else len(parameters)


def _judge(use: Use, candidates: Sequence[Candidate]) -> tuple[tuple[SymbolId, ...], Guess]:
    form, arguments = _form_of(use.operands) if use.kind is ReferenceKind.CALL else ("", None)
    found = [c for c in candidates if _fits(use, form, arguments, c)]
    if form == "method" and any(SymbolKind.METHOD in c.kinds for c in found):
        found = [c for c in found if c.kinds != {SymbolKind.FUNCTION}]
    made = {c.scope for c in found if SymbolKind.CONSTRUCTOR in c.kinds}
    if made:  # a class is called through its constructors, and by itself only where it declares none
        found = [c for c in found if not (c.kinds & _CLASSES and _join(c.scope, c.name) in made)]
    qualified = {_join(candidate.scope, candidate.name) for candidate in found}
    target = qualified.pop() if len(qualified) == 1 else use.written
    if len(found) < 2:
        return tuple(c.id for c in found), Guess(target)
    return tuple(c.id for c in found), Guess(target, tuple(c.label for c in found[:SHOWN_CANDIDATES]), len(found))


def _fits(use: Use, form: str, arguments: int | None, candidate: Candidate) -> bool:
    """Whether a use of the candidate's name may mean it, as far as kind, qualifier and number of arguments tell."""
    kinds = candidate.kinds & _MEANT[use.kind]
    if form in _FORMS:
        kinds &= _FORMS[form]
    if not kinds:
        return False
    if form == "method" and kinds == {SymbolKind.FUNCTION} and not candidate.scope:
        return False
    qualifier = use.written.removeprefix("::").rpartition("::")[0]
    if qualifier and not ends_with(candidate.scope, qualifier):
        # A constructor stands in its class, which a call of it names without saying it twice.
        owner = candidate.scope.rpartition("::")[0] if SymbolKind.CONSTRUCTOR in kinds else None
        if owner is None or not ends_with(owner, qualifier):
            return False
    if arguments is None or not kinds <= _FUNCTIONS:
        return True
    if form == "operator" and SymbolKind.METHOD not in kinds:
        arguments += 1  # the left operand
    return any(fewest <= arguments <= most for fewest, most in candidate.arities)


@lru_cache(maxsize=8192)
def _form_of(operands: str) -> tuple[str, int | None]:
    """Form and number of arguments of a call; ("", None) where nothing is known."""
    if not operands:
        return "", None
    try:
        read = json.loads(operands)
    except ValueError:
        return "", None
    if not isinstance(read, list) or not read:
        return "", None
    arguments = read[2] if len(read) > 2 and isinstance(read[2], list) else []
    return str(read[0]), len(arguments)


def _edge(meant: Meant, names: Mapping[SymbolId, str], files: Mapping[str, Sequence[str]]) -> Edge:
    use, ids, guess = meant
    how, target_id = use.how, None
    guess = guess or Guess(use.written)
    if use.kind is ReferenceKind.INCLUDE:
        if use.target:
            guess = Guess(use.target)
        else:
            how, guess = Provenance.BY_NAME, _included(use, files)
    elif use.target:
        target_id = ids[0]
        guess = Guess(names.get(target_id, use.written))
    elif len(ids) == 1:
        target_id = ids[0]
    inside = names.get(use.inside, "") if use.inside else ""
    return Edge(
        use.kind, use.path, use.line, inside, guess.target, how, target_id, use.inside, guess.labels, guess.number
    )


def _included(use: Use, files: Mapping[str, Sequence[str]]) -> Guess:
    """The only file whose path ends as the include is written."""
    ending = "/" + use.written
    found = [path for path in files.get(use.name, ()) if path == use.written or path.endswith(ending)]
    if len(found) == 1:
        return Guess(found[0])
    return Guess(use.written, tuple(found[:SHOWN_CANDIDATES]), len(found))


def _join(scope: str | None, name: str | None) -> str:
    return f"{scope}::{name}" if scope and name else name or ""
