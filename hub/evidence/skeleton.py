"""A code base in outline: the signatures that the rest leans on most, file by file, without a body.

The same for every question, so an engine that has read it once reads it no more. Signatures are chosen by the part that
walks from anywhere have in their lines (PageRank, as in aider's map of a repository), those of tests and of other
people's code last. Deterministic: equal trees, budgets and counts give equal outlines. Knows nothing of questions.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from hub.prompting import defused, fence_of, visible
from hub.retrieval import is_test_path
from indexer.index import Index
from indexer.model import Span, Symbol, SymbolId, SymbolKind

# Constants, each with its range.
LOOKED_AT = 3.0  # times the budget, of signatures that are chosen from; 1.5 to 10
MOST_FILES = 2_000  # that are read for signatures; each takes 0.3 ms; 200 to 20,000
LONGEST = 240  # characters of a signature; 120 to 1,000
TOKENS_A_BYTE = 1 / 3  # to begin with; C++ takes about 3.1 bytes a token in vocabularies of today
FULL_ENOUGH = 0.97  # of a budget, above which no more is looked for; 0.9 to 1
ROUNDS = 5  # of filling, each of which counts the outline once; 2 to 10
LEAST_TOKENS = 200  # below it an outline says nothing; 50 to 1,000

_HEADLINE = "Outline of the code base: the declarations that most of it leans on, file by file, without bodies.\n"
_SHOWN = frozenset(
    {
        SymbolKind.CLASS,
        SymbolKind.STRUCT,
        SymbolKind.UNION,
        SymbolKind.ENUM,
        SymbolKind.CONCEPT,
        SymbolKind.ALIAS,
        SymbolKind.FUNCTION,
        SymbolKind.METHOD,
        SymbolKind.CONSTRUCTOR,
        SymbolKind.MACRO,
    }
)
_TYPES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION, SymbolKind.ENUM})
_VENDORED = re.compile(r"(?:^|/)(?:third[_-]?party|3rd[_-]?party|vendor|vendored|external|extern|deps|bundled)(?:/|$)")
_HEADER = re.compile(r"\.(?:h|hh|hpp|hxx|h\+\+|cuh|ixx|cppm)$")
_DOCUMENT = re.compile(r"\.(?:md|markdown|rst|txt|text|cmake)$")
_TESTS = 4

Count = Callable[[str], int]


class Skeleton(NamedTuple):
    """``text`` is "" or ends with a line end."""

    text: str
    tokens: int
    shown: int  # signatures
    left_out: int  # of those that were looked at


class _Line(NamedTuple):
    """A signature at its place."""

    symbol: SymbolId
    place: Span
    scope: str
    signature: str
    worth: float


def skeleton(index: Index, budget: int, count: Count) -> Skeleton:
    """The outline of an index in at most ``budget`` tokens by ``count``; an empty one where nothing can be told.

    Kept for each index until it changes, since it is asked for with every question.
    """
    kept = _KEPT.setdefault(index, [])
    generation = index.generation()
    for known in kept:
        if (known.generation, known.budget, known.count) == (generation, budget, count):
            return known.made
    made = _made(index, budget, count)
    kept.insert(0, _Kept(generation, budget, count, made))
    del kept[_MOST_KEPT:]
    return made


def standing(path: str) -> int:
    """What a file is for, by its path: public headers come first, then the code, documents, tests, other people's."""
    if _VENDORED.search(path.lower()):
        return 5
    if is_test_path(path):
        return _TESTS
    if _DOCUMENT.search(path.lower()):
        return 0 if path.upper().startswith("README") else 3
    if _HEADER.search(path.lower()):
        return 1
    return 2


def masses(index: Index) -> dict[str, list[tuple[Span, float]]]:
    """By path, the places of a file's chunks in order, each with how much of the code leans on it."""
    found: dict[str, list[tuple[Span, float]]] = {}
    for place, mass in index.walk.everywhere():
        found.setdefault(place.path, []).append((place, mass))
    return found


class _Kept(NamedTuple):
    generation: int
    budget: int
    count: Count
    made: Skeleton


_KEPT: WeakKeyDictionary[Index, list[_Kept]] = WeakKeyDictionary()
_MOST_KEPT = 4


def _made(index: Index, budget: int, count: Count) -> Skeleton:
    lines = _chosen_from(index, int(LOOKED_AT * budget / TOKENS_A_BYTE)) if budget >= LEAST_TOKENS else []
    if not lines:
        return Skeleton("", 0, 0, 0)
    share = TOKENS_A_BYTE
    best = Skeleton("", 0, 0, len(lines))
    for _ in range(ROUNDS):
        number, size = _fitting(lines, budget / share)
        if number <= best.shown:
            break
        text = _written(lines[:number], len(lines) - number)
        tokens = count(text)
        share = tokens / size * _MARGIN
        if tokens <= budget:
            best = Skeleton(text, tokens, number, len(lines) - number)
            if tokens >= FULL_ENOUGH * budget or number == len(lines):
                break
    return best


def _chosen_from(index: Index, most_bytes: int) -> list[_Line]:
    """Signatures, the most worth first, of the files that the code leans on most."""
    places = masses(index)
    together: dict[str, float] = {}  # a header and its source are one thing
    for path, chunks in places.items():
        together[_stem(path)] = together.get(_stem(path), 0.0) + sum(mass for _, mass in chunks)
    order = sorted(
        places, key=lambda path: (standing(path) >= _TESTS, -round(together[_stem(path)], 9), standing(path), path)
    )
    lines: dict[SymbolId, _Line] = {}
    size = 0
    for path in order[:MOST_FILES]:
        if size > most_bytes:
            break
        for line in _of_file(index.facts.names.in_file(path), places[path]):
            known = lines.get(line.symbol)
            if known is None:
                size += _bytes(line)
            # Of a declaration and its definition the one in the header is shown, and it is worth both.
            shown = min(line, known or line, key=lambda one: (standing(one.place.path), one.place, one.signature))
            lines[line.symbol] = shown._replace(worth=line.worth + (known.worth if known else 0.0))
    return sorted(lines.values(), key=_order)


def _stem(path: str) -> str:
    """The file's name without its ending."""
    return path.rpartition("/")[2].partition(".")[0]


def _order(line: _Line) -> tuple[object, ...]:
    return (standing(line.place.path) >= _TESTS, -round(line.worth, 12), line.place, line.scope, line.signature)


def _of_file(symbols: Iterable[Symbol], chunks: Sequence[tuple[Span, float]]) -> list[_Line]:
    """The signatures of a file; what the code leans on a chunk is shared by those that stand in it."""
    starts = [place.first_line for place, _ in chunks]
    met: dict[int, list[Symbol]] = {}
    for symbol in symbols:
        if symbol.kind in _SHOWN and symbol.signature and (symbol.kind not in _TYPES or symbol.is_definition):
            line = symbol.line or symbol.span.first_line
            met.setdefault(max(0, bisect_right(starts, line) - 1), []).append(symbol)
    found = []
    for number, standing_there in met.items():
        worth = chunks[number][1] / len(standing_there)
        for symbol in standing_there:
            line = symbol.line or symbol.span.first_line
            place = Span(symbol.span.path, line, line)
            found.append(_Line(symbol.id, place, symbol.scope, _shortened(symbol), worth))
    return found


def _shortened(symbol: Symbol) -> str:
    """The signature in one line without the name of the scope, which is told above."""
    written = symbol.signature
    scopes = symbol.scope.split("::")
    for start in range(len(scopes)):
        qualified = "::".join((*scopes[start:], symbol.name))
        if qualified in written:
            written = written.replace(qualified, symbol.name, 1)
            break
    return defused(visible(written)).replace("\n", " ")[:LONGEST]


def _fitting(lines: Sequence[_Line], most: float) -> tuple[int, float]:
    """How many of the lines take at most so many bytes, with their files' names and scopes; and how many they take."""
    size = float(_FRAME)
    files: set[str] = set()
    heads: set[tuple[str, str]] = set()
    for number, line in enumerate(lines):
        path = line.place.path
        more = _bytes(line)
        if path not in files:
            more += len(path) + 1
        if (path, line.scope) not in heads:
            more += len(line.scope) + 3
        if size + more > most:
            return number, size
        size += more
        files.add(path)
        heads.add((path, line.scope))
    return len(lines), size


_FRAME = 200  # bytes of the headline, the fences and the last line
_MARGIN = 1.003  # that the next estimate is rather too long than too short; 1 to 1.02


def _bytes(line: _Line) -> int:
    return len(line.signature) + 5


def _written(lines: Iterable[_Line], left_out: int) -> str:
    by_file: dict[str, list[_Line]] = {}
    for line in lines:
        by_file.setdefault(line.place.path, []).append(line)
    told: list[str] = []
    for path in sorted(by_file, key=lambda path: (standing(path) >= _TESTS, path)):
        told.append(defused(visible(path)).replace("\n", "\\n"))
        scope = None
        for line in sorted(by_file[path], key=lambda line: (line.place, line.scope, line.signature)):
            if line.scope != scope:
                scope = line.scope
                told.append(f"  {defused(visible(scope)) or '::'}")
            told.append(f"    {line.signature}")
    body = "\n".join(told)
    fence = fence_of(body)
    rest = f"{left_out} more are not shown.\n" if left_out else ""
    return f"{_HEADLINE}<<<{fence}\n{body}\n{fence}>>>\n{rest}\n"
