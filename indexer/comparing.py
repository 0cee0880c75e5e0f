"""Two states of some files, and which symbols differ: added, removed, declared otherwise, changed within, or
moved to another file. Pure: texts in, changes out; knows neither git nor the index.

A symbol is known again by its id. What it says is compared without comments, white space and line breaks, and without
the lines of the symbols that stand within it, so that a changed method is no change of its class. The unit is a line:
of two functions that share one, both are named.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from indexer import cpp
from indexer.cpp.macros import BUILTIN, Macros
from indexer.files import FileRules, language_of
from indexer.model import Access, Language, SourceFile, Symbol, SymbolId, SymbolKind, Trait
from indexer.secrets import redact

MOST_SYMBOLS = 5_000  # changes of one comparison; 500 to 50,000
MOST_SIGNATURE_CHARS = 400  # that are kept of one

_TYPES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION, SymbolKind.ENUM})
_HOLDS_OTHERS = _TYPES | {SymbolKind.NAMESPACE}
_NEVER = frozenset({SymbolKind.NAMESPACE, SymbolKind.SECTION, SymbolKind.MODULE, SymbolKind.USING})
_WITH_BODIES = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
# Where a string, a character, a comment or a raw string begins; the raw one's end is looked for apart, since no
# expression finds it in linear time.
_MARKS = re.compile(
    r"(?P<raw>\bu?8?[LuU]?R\"(?P<by>[^()\\\s\"]{0,16})\()"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?:(?<!\w)|\b(?:u8|[LuU]))'(?:\\.|[^'\\\n])*'"
    r"|(?P<comment>//(?:\\\r?\n|[^\n])*|/\*.*?(?:\*/|\Z))",
    re.DOTALL,
)
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\w+|[^\w\s]')
_LINE_ENDS = re.compile(r"[^\n]+")


class ChangeKind(StrEnum):
    """What became of a symbol. Where several are true the first of them is told."""

    ADDED = "added"
    REMOVED = "removed"
    SIGNATURE = "signature"  # its type, parameters, bases, traits or access, or the text of a declaration
    BODY = "body"  # what it says beside its comments
    MOVED = "moved"  # to another file that is not its own file renamed


@dataclass(frozen=True, slots=True)
class SymbolChange:
    """One symbol that differs. ``path`` and ``line`` are where it stands now, or stood where it was removed."""

    kind: ChangeKind
    symbol: str  # qualified
    what: SymbolKind
    id: SymbolId
    before: str  # signatures in one line; "" where it was not there
    after: str
    path: str
    line: int
    was: str = ""  # the path of before, where it is another
    members: int = 0  # that came, went or moved with it and are not told of one by one


class Side(NamedTuple):
    """A file as one of the two states has it."""

    path: str
    data: bytes


class _Place(NamedTuple):
    """One declaration or definition, with what is compared of it."""

    symbol: Symbol
    file: str  # what its file is called afterwards
    shape: tuple[object, ...]  # what a caller has to know of it
    text: str


_Pair = tuple[_Place | None, _Place | None]


def macros_of(knowledge: str) -> Macros:
    """The macros that an index knows, from the text in which it keeps them; "" stands for none of its own."""
    return Macros.loads(knowledge) if knowledge else BUILTIN


def is_compared(path: str) -> bool:
    """Whether the symbols of a file are known at all."""
    return language_of(path) is Language.CPP


def compared(
    files: Iterable[tuple[Side | None, Side | None]],
    macros: Macros,
    rules: FileRules,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[SymbolChange, ...]:
    """What differs between the two sides of these files, by path and line. A renamed file has both sides.

    Raises nothing on any text. Stops early where ``cancelled`` says so, and then what is returned says nothing.
    """
    before: list[_Place] = []
    after: list[_Place] = []
    for old, new in files:
        if cancelled():
            return ()
        called = new.path if new else old.path if old else ""
        before += _places(old, called, macros, rules)
        after += _places(new, called, macros, rules)
    changes = _told_once(_changes_of(_matched(before, after)))
    return tuple(sorted(_outermost(changes), key=lambda each: (each.path, each.line, each.symbol, each.kind, each.id)))[
        :MOST_SYMBOLS
    ]


# Reading one side


def _places(side: Side | None, called: str, macros: Macros, rules: FileRules) -> list[_Place]:
    if side is None or not is_compared(side.path) or len(side.data) > rules.max_bytes or b"\0" in side.data[:8192]:
        return []
    text = side.data.decode("utf-8-sig", "replace")
    if rules.redacts(side.path):
        text = redact(text)[0]
    parsed = cpp.parse(SourceFile(side.path, Language.CPP, len(side.data), 0, "", text), macros)
    lines = without_comments(text).split("\n")
    symbols = sorted(enumerate(parsed.symbols), key=lambda at: (at[1].span.first_line, -at[1].span.last_line, at[0]))
    inner: list[list[Symbol]] = [[] for _ in symbols]
    crowded = [False] * len(symbols)
    open_ones: list[int] = []
    last_child: dict[int, int] = {}
    for number, (_, symbol) in enumerate(symbols):
        while open_ones and symbols[open_ones[-1]][1].span.last_line < symbol.span.last_line:
            open_ones.pop()
        while open_ones and not _holds(symbols[open_ones[-1]][1], symbol):
            open_ones.pop()
        parent = open_ones[-1] if open_ones else -1
        if parent >= 0:
            inner[parent].append(symbol)
        neighbour = last_child.get(parent)
        if neighbour is not None and symbols[neighbour][1].span.last_line >= symbol.span.first_line:
            crowded[neighbour] = crowded[number] = True
        last_child[parent] = number
        open_ones.append(number)
    return [
        _Place(symbol, called, _shape(symbol), _own_text(symbol, lines, inner[number], crowded=crowded[number]))
        for number, (_, symbol) in enumerate(symbols)
        if _counts(symbol)
    ]


def _holds(outer: Symbol, symbol: Symbol) -> bool:
    """Whether what stands on the lines of another stands in it, and not merely beside it on one line."""
    inside = outer.span.first_line <= symbol.span.first_line and symbol.span.last_line <= outer.span.last_line
    return inside and (outer.span != symbol.span or outer.kind in _HOLDS_OTHERS)


def _counts(symbol: Symbol) -> bool:
    """Not so what only names another thing: a forward declaration, a friend, a namespace."""
    forward = symbol.kind in _TYPES and not symbol.is_definition
    return symbol.kind not in _NEVER and not forward and Trait.FRIEND not in symbol.traits


def _shape(symbol: Symbol) -> tuple[object, ...]:
    return (
        symbol.kind,
        symbol.type,
        symbol.parameters,
        symbol.required,
        symbol.template_parameters,
        symbol.bases,
        symbol.traits,
        symbol.access or Access.PUBLIC,
    )


def _own_text(symbol: Symbol, lines: Sequence[str], inner: Sequence[Symbol], *, crowded: bool) -> str:
    first, last = symbol.span.first_line, symbol.span.last_line
    written: list[str] = []
    at = first
    for each in inner:
        written += lines[at - 1 : each.span.first_line - 1]
        at = max(at, each.span.last_line + 1)
    written += lines[at - 1 : last]
    alone = symbol.kind in _WITH_BODIES or not crowded
    text = "\n".join(written) if alone and symbol.kind is not SymbolKind.ENUMERATOR else ""
    tokens = _TOKEN.findall(text if text.strip() else without_comments(symbol.signature))
    while tokens and tokens[-1] in ",;":
        tokens.pop()
    return " ".join(tokens)


def without_comments(text: str) -> str:
    """C++ with each comment as one blank and its line ends, so that lines keep their numbers. Linear in its length."""
    kept: list[str] = []
    nowhere: set[str] = set()
    at = copied = 0
    while found := _MARKS.search(text, at):
        at = found.end()
        if found["comment"]:
            kept += (text[copied : found.start()], " ", _LINE_ENDS.sub("", found["comment"]))
            copied = at
        elif found["raw"]:
            end = f'){found["by"]}"'
            begins = -1 if end in nowhere else text.find(end, at)
            if begins < 0:
                nowhere.add(end)
            else:
                at = begins + len(end)
    return "".join((*kept, text[copied:]))


# Which is which


def _matched(before: Sequence[_Place], after: Sequence[_Place]) -> list[_Pair]:
    """Each place of either side once, with the place of the other that is the same symbol's, as surely as can be."""
    left, right = list(before), list(after)
    pairs: list[_Pair] = []
    for key, equal in (
        (_in_its_file, True),
        (_in_its_file, False),
        (_anywhere, True),
        (_anywhere, False),
        (_of_its_name_in_its_file, False),
        (_of_its_name, False),
    ):
        left, right = _paired(left, right, key, pairs, equal=equal)
    known_before = {each.symbol.id for each in before}
    known_after = {each.symbol.id for each in after}
    # A declaration that came or went says nothing as long as there is another place of the symbol.
    pairs += [(each, None) for each in left if each.symbol.is_definition or each.symbol.id not in known_after]
    pairs += [(None, each) for each in right if each.symbol.is_definition or each.symbol.id not in known_before]
    return pairs


def _paired(
    left: Sequence[_Place],
    right: Sequence[_Place],
    key: Callable[[_Place], tuple[object, ...]],
    pairs: list[_Pair],
    *,
    equal: bool,
) -> tuple[list[_Place], list[_Place]]:
    """Pairs places of one key in their order, with ``equal`` only those that say the same; returns those left over."""
    waiting: dict[tuple[object, ...], list[_Place]] = defaultdict(list)
    for each in sorted(right, key=_order, reverse=True):
        waiting[(*key(each), each.text if equal else "")].append(each)
    unpaired = []
    for each in sorted(left, key=_order):
        others = waiting.get((*key(each), each.text if equal else ""))
        if others:
            pairs.append((each, others.pop()))
        else:
            unpaired.append(each)
    return unpaired, [each for others in waiting.values() for each in others]


def _order(place: _Place) -> tuple[object, ...]:
    return (place.file, place.symbol.span.first_line, place.symbol.signature)


def _in_its_file(place: _Place) -> tuple[object, ...]:
    return (place.symbol.id, place.symbol.is_definition, place.file)


def _anywhere(place: _Place) -> tuple[object, ...]:
    return (place.symbol.id, place.symbol.is_definition)


def _of_its_name_in_its_file(place: _Place) -> tuple[object, ...]:
    symbol = place.symbol
    return (symbol.kind.family, symbol.qualified_name, symbol.is_definition, place.file)


def _of_its_name(place: _Place) -> tuple[object, ...]:
    return (place.symbol.kind.family, place.symbol.qualified_name, place.symbol.is_definition)


# What is told


class _Made(NamedTuple):
    """A change of one place of a symbol."""

    change: SymbolChange
    ids: frozenset[SymbolId]  # that the symbol had before and has now
    defined: bool


def _changes_of(pairs: Iterable[_Pair]) -> list[_Made]:
    found = []
    for old, new in pairs:
        here = new or old
        assert here is not None
        kind = _kind_of(old, new)
        if kind is None:
            continue
        symbol = here.symbol
        change = SymbolChange(
            kind,
            symbol.qualified_name,
            symbol.kind,
            symbol.id,
            old.symbol.signature[:MOST_SIGNATURE_CHARS] if old else "",
            new.symbol.signature[:MOST_SIGNATURE_CHARS] if new else "",
            symbol.span.path,
            symbol.line or symbol.span.first_line,
            old.symbol.span.path if old and new and old.symbol.span.path != symbol.span.path else "",
        )
        found.append(_Made(change, frozenset(each.symbol.id for each in (old, new) if each), symbol.is_definition))
    return found


def _kind_of(old: _Place | None, new: _Place | None) -> ChangeKind | None:
    if old is None:
        return ChangeKind.ADDED
    if new is None:
        return ChangeKind.REMOVED
    if old.shape != new.shape:
        return ChangeKind.SIGNATURE
    if old.text != new.text:
        declared = old.symbol.kind in _WITH_BODIES and not new.symbol.is_definition
        return ChangeKind.SIGNATURE if declared else ChangeKind.BODY
    return ChangeKind.MOVED if old.file != new.file else None


def _told_once(made: Sequence[_Made]) -> list[SymbolChange]:
    """Declarations told with the definition that changed, too, or else once; by what says most."""
    order = list(ChangeKind)
    best: dict[frozenset[SymbolId], SymbolChange] = {}
    definitions: list[tuple[frozenset[SymbolId], SymbolChange]] = []
    known: set[SymbolId] = set()
    for each in sorted(made, key=lambda each: not each.defined):
        alone = each.change.kind in (ChangeKind.ADDED, ChangeKind.REMOVED)
        if each.defined:
            definitions.append((each.ids, each.change))
            known |= each.ids
        elif not (alone and each.ids & known):  # its definition says what became of it
            before = best.get(each.ids)
            if before is None or order.index(each.change.kind) < order.index(before.kind):
                best[each.ids] = each.change
    found = []
    for ids, change in definitions:
        declared = best.pop(ids, None)
        stronger = declared is not None and order.index(declared.kind) < order.index(change.kind)
        found.append(replace(change, kind=declared.kind) if declared and stronger else change)
    return [*found, *best.values()]


def _outermost(changes: Sequence[SymbolChange]) -> list[SymbolChange]:
    """Without what came, went or moved as a part of what did the same; that counts it."""
    whole = {
        (each.symbol, each.kind)
        for each in changes
        if each.what in _TYPES and each.kind in (ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.MOVED)
    }
    counts: dict[tuple[str, ChangeKind], int] = defaultdict(int)
    kept = []
    for each in changes:
        scope = each.symbol
        inside = None
        while scope := scope.rpartition("::")[0]:
            if (scope, each.kind) in whole:
                inside = (scope, each.kind)
        if inside is None:
            kept.append(each)
        else:
            counts[inside] += 1
    return [replace(each, members=counts.get((each.symbol, each.kind), 0)) for each in kept]
