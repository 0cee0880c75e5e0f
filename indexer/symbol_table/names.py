"""Finds symbols by what a developer types: a name, a part of one, a beginning, a misspelling or a pattern.

Whatever is found says how it was found, so that a suggestion never passes for the thing asked for. Knows nothing of
uses and edges.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, TypeVar

from indexer.model import Access, Span, Symbol, SymbolId, SymbolKind, Trait
from indexer.rows import Row, last_name, split_row
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.patterns import Pattern

MOST_TYPED_CHARS = 1_000  # of a name as typed; the longest of real trees have 300
# Edits that a suggestion may be away from what was typed: (longest name, edits). 1 in 4 letters at most, 3 at all.
EDITS = ((3, 1), (7, 2), (64, 3))
MOST_COMPARED = 20_000  # names whose edit distance is computed for one suggestion, about 0.3 s
VALUES_A_STATEMENT = 500  # SQLite allows 32,766; small statements stay in its cache

_COLUMNS = (
    "SELECT symbols.id, kind, name, scope, signature, is_definition, path, first_line, last_line, doc, line, type,"
    " parameters, required, template_parameters, bases, traits, access"
    " FROM symbols JOIN files ON files.id = symbols.file"
)
_BRIEF = (
    "SELECT symbols.id, kind, name, scope, parameters, template_parameters, bases, traits, path"
    " FROM symbols JOIN files ON files.id = symbols.file"
)
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w{0,199}", re.ASCII)
_SPACE = re.compile(r"\s+")
_NEEDLESS_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_OPERATOR = re.compile(r"(?:^|(?<=::))operator(?!\w)(\s*(?:\(\)|\[\]|[^\w\s(]{1,3}))?")
_ARGUMENTS = re.compile(r"<[^<>]*>")
_QUALIFIER = re.compile(r"\b\w+::")
_KINDS = {kind.value: kind for kind in SymbolKind}  # three times as fast as the enum's own look-up
_MOST_NESTING = 32
_LAST_CHARACTER = "\U0010ffff"
_Value = TypeVar("_Value")


class Match(StrEnum):
    """How what was typed led to what was found, surest first."""

    EXACT = "exact"
    FOLDED = "folded"  # in another letter case
    PREFIX = "prefix"
    FUZZY = "fuzzy"  # other spelling, or other parameters than the ones typed
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class FoundSymbols:
    """One page of what was found. ``total`` counts all pages."""

    match: Match | None  # None where nothing is like it
    symbols: tuple[Symbol, ...] = ()
    total: int = 0


@dataclass(frozen=True, slots=True)
class TypedName:
    """A name as typed, taken apart. ``parameters`` is None where no parentheses were written."""

    name: str  # qualified as far as typed, without template arguments
    parameters: tuple[str, ...] | None = None
    constant: bool = False

    @property
    def last(self) -> str:
        return last_name(self.name)


class Brief(NamedTuple):
    """A row of a symbol, as far as who derives from what needs it. Lists are as they are stored."""

    id: SymbolId
    kind: str
    name: str
    scope: str
    parameters: str
    template_parameters: str
    bases: str
    traits: str
    path: str


class Outline(NamedTuple):
    """A row of a symbol, as far as where its lines are needs it."""

    id: SymbolId
    kind: str
    name: str  # qualified
    is_definition: int
    first_line: int
    last_line: int


class Names:
    """Reads the symbols of one table."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def find(
        self, typed: str, limit: int, offset: int = 0, how: Match | None = None, kinds: Sequence[SymbolKind] = ()
    ) -> FoundSymbols:
        """The symbols of a typed name, the fullest match first; ``how`` None tries exact, folded, prefix and fuzzy.

        Raises QuestionError for a pattern that cannot be read.
        """
        if how is Match.REGEX:
            matching = self._matching(Pattern(typed), kinds)
            return _page(Match.REGEX, matching, limit, offset) if matching else FoundSymbols(None)
        wanted = typed_name(typed)
        if not wanted.name:
            return FoundSymbols(None)
        ways = {
            Match.EXACT: self._exact,
            Match.FOLDED: self._folded,
            Match.PREFIX: self._beginning,
            Match.FUZZY: self._similar,
        }
        for match in ways if how is None else (how,):
            symbols = ways[match](wanted, kinds) or (self._titled(typed, kinds) if match is Match.EXACT else [])
            if symbols:
                return _page(match, symbols, limit, offset)
        return FoundSymbols(None)

    def named(self, typed: str, limit: int) -> list[Symbol]:
        """Symbols of exactly this name, in another letter case where nothing has the typed one."""
        wanted = typed_name(typed)
        if not wanted.name:
            return []
        return (self._exact(wanted, ()) or self._folded(wanted, ()) or self._titled(typed, ()))[:limit]

    def has(self, typed: str) -> bool:
        """Whether ``named`` finds anything."""
        if not _PLAIN_NAME.fullmatch(typed):
            return bool(self.named(typed, 1))
        # A plain name is found whatever it stands in, and in any letter case where need be.
        return self._db.row("SELECT 1 FROM symbols WHERE name = ? COLLATE NOCASE LIMIT 1", (typed,)) is not None

    def by_ids(self, ids: Iterable[SymbolId]) -> list[Symbol]:
        """Every row of these ids, definitions first, then by place."""
        found = [
            symbol_of(row)
            for part in parts(sorted(set(ids)))
            for row in self._db.rows(f"{_COLUMNS} WHERE symbols.id IN ({marks(part)})", part)
        ]
        return sorted(found, key=lambda s: (not s.is_definition, s.span, s.id))

    def of_names(self, names: Iterable[str], kinds: Sequence[SymbolKind]) -> list[Symbol]:
        """Every symbol whose last name is one of these, by place."""
        wanted = sorted(set(names))
        found = [
            symbol_of(row)
            for part in parts(wanted)
            for row in self._db.rows(
                f"{_COLUMNS} WHERE name COLLATE NOCASE IN ({marks(part)}) AND kind IN ({marks(kinds)})",
                (*part, *kinds),
            )
        ]
        exact = set(wanted)
        return sorted((s for s in found if s.name in exact), key=_place)

    def brief_of(self, ids: Iterable[SymbolId], kinds: Sequence[SymbolKind]) -> list[Brief]:
        """The rows of these ids, definitions first, then by place."""
        return self._briefly("symbols.id", ids, kinds)

    def brief_named(self, names: Iterable[str], kinds: Sequence[SymbolKind]) -> list[Brief]:
        """The rows whose last name is one of these in exact case, definitions first, then by place."""
        wanted = set(names)
        return [row for row in self._briefly("name COLLATE NOCASE", wanted, kinds) if row.name in wanted]

    def _briefly(self, column: str, values: Iterable[str], kinds: Sequence[SymbolKind]) -> list[Brief]:
        return [
            Brief(*row)
            for part in parts(sorted(set(values)))
            for row in self._db.rows(
                f"{_BRIEF} WHERE {column} IN ({marks(part)}) AND kind IN ({marks(kinds)})"
                " ORDER BY is_definition DESC, path, first_line",
                (*part, *kinds),
            )
        ]

    def in_file(self, path: str) -> list[Symbol]:
        """The symbols of a file, outer ones first."""
        rows = self._db.rows(f"{_COLUMNS} WHERE path = ?", (path,))
        return sorted((symbol_of(row) for row in rows), key=lambda s: (s.span.first_line, -s.span.last_line, s.id))

    def outline(self, path: str, first_line: int, last_line: int) -> list[Outline]:
        """The symbols of a file that have some of the lines, outer ones first; namespaces are left out."""
        rows = self._db.rows(
            "SELECT symbols.id, kind, CASE scope WHEN '' THEN name ELSE scope || '::' || name END, is_definition,"
            " first_line, last_line FROM symbols JOIN files ON files.id = symbols.file"
            " WHERE path = ? AND last_line >= ? AND first_line <= ? AND kind <> 'namespace'"
            " ORDER BY first_line, last_line DESC, symbols.id",
            (path, first_line, last_line),
        )
        return [Outline(*row) for row in rows]

    def all(self) -> Iterator[Symbol]:
        """Every symbol, by path and line."""
        order = "ORDER BY path, first_line, last_line, kind, scope, name, signature, symbols.id"
        return (symbol_of(row) for row in self._db.rows(f"{_COLUMNS} {order}"))

    def _named(self, name: str, kinds: Sequence[SymbolKind]) -> list[Symbol]:
        """Symbols of a last name in any letter case."""
        where, values = _kinds_too("name = ? COLLATE NOCASE", (name,), kinds)
        return [symbol_of(row) for row in self._db.rows(f"{_COLUMNS} WHERE {where}", values)]

    def _exact(self, wanted: TypedName, kinds: Sequence[SymbolKind]) -> list[Symbol]:
        found = [s for s in self._named(wanted.last, kinds) if ends_with(s.qualified_name, wanted.name)]
        return _ordered(_overloads(found, wanted), wanted.name)

    def _titled(self, typed: str, kinds: Sequence[SymbolKind]) -> list[Symbol]:
        """Tests that have a title for a name, in which brackets and colons mean nothing."""
        title = typed.strip()
        if " " not in title:
            return []
        title = title.encode("utf-8", "replace").decode()
        return _ordered((symbol for symbol in self._named(title, kinds) if symbol.name == title), title)

    def _folded(self, wanted: TypedName, kinds: Sequence[SymbolKind]) -> list[Symbol]:
        lower = wanted.name.lower()
        found = [s for s in self._named(wanted.last, kinds) if ends_with(s.qualified_name.lower(), lower)]
        return _ordered(_overloads(found, wanted), wanted.name)

    def _beginning(self, wanted: TypedName, kinds: Sequence[SymbolKind]) -> list[Symbol]:
        if wanted.parameters:  # whoever types parameters has typed the whole name
            return []
        last = wanted.last
        where, values = _kinds_too(
            "name >= ? COLLATE NOCASE AND name < ? COLLATE NOCASE", (last, last + _LAST_CHARACTER), kinds
        )
        lower = last.lower()
        qualifier = wanted.name.removesuffix(last).removesuffix("::").lower()
        found = [
            symbol
            for symbol in (symbol_of(row) for row in self._db.rows(f"{_COLUMNS} WHERE {where}", values))
            if symbol.name.lower().startswith(lower) and (not qualifier or ends_with(symbol.scope.lower(), qualifier))
        ]
        return sorted(
            found, key=lambda s: (not s.name.startswith(last), len(s.name), s.name, *_fullness(s, wanted.name))
        )

    def _similar(self, wanted: TypedName, kinds: Sequence[SymbolKind]) -> list[Symbol]:
        """Overloads other than the one typed; otherwise names a few edits away, the nearest first."""
        others = self._exact(TypedName(wanted.name), kinds) or self._folded(TypedName(wanted.name), kinds)
        if others:
            return others
        typed = wanted.last.lower()
        edits = next((edits for length, edits in EDITS if len(typed) <= length), 0)
        if not edits:
            return []
        near: dict[str, int] = {}
        for name in self._names_sharing_a_piece(typed, edits):
            distance = edit_distance(typed, name.lower(), edits)
            if distance <= edits:
                near[name] = distance
        least = min(near.values(), default=0)
        kept = {name for name, distance in near.items() if distance <= least + 1}
        found = [s for name in sorted(kept) for s in self._named(name, kinds) if s.name == name]
        qualifier = wanted.name.lower().removesuffix(typed).removesuffix("::")
        return sorted(
            found,
            key=lambda s: (
                not ends_with(s.scope.lower(), qualifier) if qualifier else False,
                near[s.name],
                s.name,
                *_fullness(s, wanted.name),
            ),
        )

    def _names_sharing_a_piece(self, typed: str, edits: int) -> list[str]:
        """Names of a like length that hold one of the pieces of the typed one.

        With k edits, of which each touches two neighbouring pieces at most, one of 2k + 1 pieces stays whole.
        """
        number = 2 * edits + 1
        pieces = sorted({typed[len(typed) * i // number : len(typed) * (i + 1) // number] for i in range(number)})
        held = " OR ".join("instr(lower(name), ?)" for piece in pieces if piece) or "1"
        if "" in pieces:  # a short name has pieces of no length, which every name holds
            held = "1"
            pieces = []
        rows = self._db.rows(
            "SELECT DISTINCT name FROM symbols WHERE length(name) BETWEEN ? AND ?"
            f" AND ({held}) AND kind <> ? ORDER BY abs(length(name) - ?), name LIMIT ?",
            (len(typed) - edits, len(typed) + edits, *pieces, SymbolKind.SECTION.value, len(typed), MOST_COMPARED),
        )
        return [row[0] for row in rows]

    def _matching(self, pattern: Pattern, kinds: Sequence[SymbolKind]) -> list[Symbol]:
        """Symbols whose qualified name a pattern is found in, by that name."""
        where, values = _kinds_too("1", (), kinds)
        rows = self._db.rows(f"SELECT DISTINCT scope, name FROM symbols WHERE {where}", values)
        names = {name for scope, name in rows if pattern.found_in(f"{scope}::{name}" if scope else name)}
        found = self.of_names(names, kinds or tuple(SymbolKind))
        return sorted(
            (s for s in found if pattern.found_in(s.qualified_name)),
            key=lambda s: (s.kind is SymbolKind.SECTION, s.qualified_name, *_fullness(s, "")),
        )


def symbol_of(row: Row) -> Symbol:
    return Symbol(
        id=SymbolId(row[0]),
        kind=_KINDS[row[1]],
        name=row[2],
        scope=row[3],
        signature=row[4],
        is_definition=bool(row[5]),
        span=Span(row[6], row[7], row[8]),
        doc=row[9],
        line=row[10],
        type=row[11],
        parameters=split_row(row[12]),
        required=row[13],
        template_parameters=split_row(row[14]),
        bases=split_row(row[15]),
        traits=tuple(Trait(word) for word in split_row(row[16])),
        access=Access(row[17]) if row[17] else None,
    )


def typed_name(text: str) -> TypedName:
    """Takes ``leveldb::DBImpl<T>::Get(int, const Slice&) const`` apart; ``operator()`` keeps its parentheses.

    A name that is too long to be one is empty.
    """
    if len(text) > MOST_TYPED_CHARS:
        return TypedName("")
    whole = text.encode("utf-8", "replace").decode()  # SQLite takes no lone surrogates, which a shell may hand over
    tidy = _NEEDLESS_SPACE.sub("", _SPACE.sub(" ", whole.strip())).removeprefix("::")
    operator = _OPERATOR.search(tidy)
    start = operator.end() if operator else 0
    opening = tidy.find("(", start)
    if opening < 0:
        opening = len(tidy)
    name = tidy[:opening]
    if operator:
        name = without_arguments(tidy[: operator.start()]) + tidy[operator.start() : opening]
    else:
        name = without_arguments(name)
    if opening == len(tidy):
        return TypedName(name)
    closing = tidy.rfind(")")
    inner = tidy[opening + 1 : closing] if closing > opening else tidy[opening + 1 :]
    return TypedName(name, split_arguments(inner), tidy[closing + 1 :].startswith("const") if closing > 0 else False)


def without_arguments(name: str) -> str:
    """A name without template arguments: ``Map<K, V>::Node`` becomes ``Map::Node``."""
    for _ in range(_MOST_NESTING):
        shorter = _ARGUMENTS.sub("", name)
        if shorter == name:
            break
        name = shorter
    return name


def split_arguments(text: str) -> tuple[str, ...]:
    """The parts between the commas that stand in no brackets."""
    found: list[str] = []
    depth = start = 0
    for sign in re.finditer(r"[<(\[{>)\]},]", text):
        character = sign.group()
        if character in "<([{":
            depth += 1
        elif character != ",":
            depth -= 1
        elif depth == 0:
            found.append(text[start : sign.start()].strip())
            start = sign.end()
    last = text[start:].strip()
    return (*found, last) if last or found else ()


def ends_with(qualified: str, wanted: str) -> bool:
    """Whether a qualified name is the wanted one, or that within some scope."""
    return qualified == wanted or qualified.endswith("::" + wanted)


def edit_distance(one: str, other: str, most: int) -> int:
    """Insertions, deletions, replacements and swaps of neighbours from one to the other; ``most`` + 1 where it is more.

    Optimal string alignment (Damerau 1964, Wagner and Fischer 1974), a column of the table at a time in the bits of a
    number (Hyyrö, A bit-vector algorithm for computing Levenshtein and Damerau edit distances, 2003).
    """
    left = len(other)
    if abs(len(one) - left) > most:
        return most + 1
    if not one:
        return left
    places, last, all_ones = _places_of(one), 1 << (len(one) - 1), (1 << len(one)) - 1
    # Of the column: where it grows and where it falls downwards, and where a diagonal step to it costs nothing.
    grows, falls, free, before = all_ones, 0, 0, 0
    distance = len(one)
    for character in other:
        here = places.get(character, 0)
        swapped = ((~free & here) << 1) & before
        free = (((here & grows) + grows) ^ grows) | here | falls | swapped
        rises, sinks = falls | (all_ones & ~(free | grows)), free & grows
        left -= 1
        if rises & last:
            distance += 1
        elif sinks & last:
            distance -= 1
        if distance - left > most:  # each character that is left saves one at most
            return most + 1
        rises = (rises << 1) | 1
        grows = all_ones & ((sinks << 1) | ~(free | rises))
        falls = all_ones & rises & free
        before = here
    return distance


@lru_cache(maxsize=16)
def _places_of(word: str) -> Mapping[str, int]:
    """Where each character stands in a word, as the bits of a number."""
    found: dict[str, int] = {}
    for place, character in enumerate(word):
        found[character] = found.get(character, 0) | 1 << place
    return found


def parts(values: Sequence[_Value]) -> list[Sequence[_Value]]:
    """The values in portions that one statement takes."""
    return [values[start : start + VALUES_A_STATEMENT] for start in range(0, len(values), VALUES_A_STATEMENT)]


def _overloads(symbols: list[Symbol], wanted: TypedName) -> list[Symbol]:
    """Those that take the typed parameters. Empty parentheses mean any, unless one takes none."""
    if wanted.parameters is None:
        return symbols
    found = [s for s in symbols if s.parameters == wanted.parameters and s.kind in _CALLABLE] or [
        s for s in symbols if _loosely(s.parameters) == _loosely(wanted.parameters) and s.kind in _CALLABLE
    ]
    if wanted.constant:
        found = [s for s in found if Trait.CONST in s.traits] or found
    return found if found or wanted.parameters else symbols


def _loosely(parameters: Sequence[str]) -> tuple[str, ...]:
    """Types without const, references, qualifiers and spaces, as they are often typed from memory."""
    return tuple(
        re.sub(r"\bconst\b|[&\s]", "", _QUALIFIER.sub("", parameter)) for parameter in parameters if parameter != "void"
    )


def _ordered(symbols: Iterable[Symbol], wanted: str) -> list[Symbol]:
    return sorted(symbols, key=lambda s: _fullness(s, wanted))


def _fullness(symbol: Symbol, wanted: str) -> tuple[object, ...]:
    return (
        symbol.kind is SymbolKind.SECTION,
        symbol.kind is SymbolKind.USING,
        symbol.qualified_name != wanted,
        not symbol.is_definition,
        symbol.qualified_name.count("::"),
        *_place(symbol),
    )


def _place(symbol: Symbol) -> tuple[object, ...]:
    return (symbol.span, symbol.line, symbol.kind, symbol.scope, symbol.name, symbol.signature, symbol.id)


def _page(match: Match, symbols: Sequence[Symbol], limit: int, offset: int) -> FoundSymbols:
    return FoundSymbols(match, tuple(symbols[offset : offset + limit]), len(symbols))


def _kinds_too(where: str, values: tuple[str, ...], kinds: Sequence[SymbolKind]) -> tuple[str, tuple[str, ...]]:
    return (f"{where} AND kind IN ({marks(kinds)})", (*values, *kinds)) if kinds else (where, values)


_CALLABLE = frozenset(
    {SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR, SymbolKind.MACRO}
)
