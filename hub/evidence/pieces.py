"""What each hit of a search could be shown as: whole, in parts, by its signature with its comment, by its name.

A declaration's comment goes with its definition, and what says nearly the same as a better hit is known. Reads the
index; what of it all is shown within which budget ``hub.prompting`` decides.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import attrgetter

from hub.model import Hit
from hub.prompting import Part, Passage, Stretch
from indexer.index import Index, Outline
from indexer.model import ChunkId, Span, Symbol, SymbolId

MOST_BRIEF_LINES = 24  # of a signature with its comment; 8 to 60
LEAST_DIVIDED = 300  # characters of a hit that is offered in parts; 100 to 1,000
MOST_TOLD = 60  # best hits for which the comments at their declarations are looked up; 0 to 400
MOST_COMMENT_LINES = 40  # of a comment that goes with a definition; 10 to 120
# Hits of which one stands for the other: shingles of tokens, and the share of all that both have.
SHINGLE = 4  # tokens; 2 to 8
NEARLY_EQUAL = 0.9  # 0.8 to 1
LEAST_COMPARED = 12  # tokens; shorter texts are alike by chance, 8 to 40
MOST_SHARING = 8  # hits that have a line in common, above which the line tells nothing; 4 to 50
LEAST_TELLING = 16  # characters of a line that is looked at for this; 8 to 30

_FUNCTIONS = frozenset({"function", "method", "constructor", "destructor"})
_TYPES = frozenset({"class", "struct", "union"})
_OPENED = _FUNCTIONS | _TYPES
_INSIDE = frozenset({"enumerator", "section", "using", "module"})
_HELD = frozenset({"field", "variable"})
_COMMENT_LINE = re.compile(r"\s*(?://|/?\*)")
_first_line = attrgetter("first_line")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def pieces(index: Index, hits: Sequence[Hit]) -> tuple[Passage, ...]:
    """The passages of the hits, in their order: one for each."""
    outlines = _outlines(index, hits)
    alike = _alike(hits)
    told = _comments_told(index, hits)
    passages = []
    for number, hit in enumerate(hits):
        span = hit.chunk.span
        body = Stretch(span, hit.chunk.text)
        outline = _starting(outlines[span.path], span)
        passages.append(
            Passage(
                body=(body, *told.get(hit.chunk.id, ())),
                score=hit.score,
                symbol=hit.symbol_name,
                brief=_brief(body, hit.chunk.symbol, outline),
                parts=_parts(body, outline) if len(body.text) >= LEAST_DIVIDED else (),
                like=hits[alike[number]].chunk.span if number in alike else None,
            )
        )
    return tuple(passages)


# Parts


def _outlines(index: Index, hits: Iterable[Hit]) -> dict[str, list[Outline]]:
    reach: dict[str, tuple[int, int]] = {}
    for hit in hits:
        span = hit.chunk.span
        first, last = reach.get(span.path, (span.first_line, span.last_line))
        reach[span.path] = min(first, span.first_line), max(last, span.last_line)
    return {path: index.facts.names.outline(path, *lines) for path, lines in reach.items()}


def _starting(outline: Sequence[Outline], span: Span) -> Sequence[Outline]:
    """The rows that begin within the span."""
    low = bisect_left(outline, span.first_line, key=_first_line)
    return outline[low : bisect_right(outline, span.last_line, lo=low, key=_first_line)]


def _parts(body: Stretch, outline: Iterable[Outline]) -> tuple[Part, ...]:
    """What is declared in the stretch, each with the comment right above it; neighbouring fields are one.

    Of a type that holds others it is the comment and the lines up to where it is opened.
    """
    first, last = body.span.first_line, body.span.last_line
    inside = [row for row in outline if row.kind in _TYPES or (row.last_line <= last and row.kind not in _INSIDE)]
    lines = body.text.split("\n")
    parts: list[Part] = []
    done, was_held = first - 1, False
    for number, row in enumerate(inside):
        end = row.last_line
        following = inside[number + 1].first_line if number + 1 < len(inside) else last + 1
        if row.kind in _TYPES and (following <= end or end > last):
            end = _opened(lines, first, row.first_line, min(following, last + 1))
        declared_only = row.kind in _TYPES and not row.is_definition
        if row.first_line <= done or end < row.first_line or declared_only:
            continue
        top = _with_comment(lines, first, row.first_line, done + 1)
        name, held = row.name, row.kind in _HELD
        if held and was_held and top == done + 1:
            before = parts.pop()
            top, name = before.stretch.span.first_line, before.symbol
        parts.append(Part(_stretch(body.span.path, lines, first, top, end), name))
        done, was_held = end, held
    return tuple(parts)


def _brief(body: Stretch, wanted: SymbolId | None, outline: Iterable[Outline]) -> tuple[Stretch, ...]:
    """The symbol with its comment up to where its body is opened; () where there is no more of it."""
    first, last = body.span.first_line, body.span.last_line
    row = next((row for row in outline if row.id == wanted), None)
    if row is None or not row.is_definition or row.kind not in _OPENED:
        return ()
    lines = body.text.split("\n")
    opened = _opened(lines, first, row.first_line, min(row.last_line, last + 1))
    if opened < row.first_line:
        return ()
    return (_stretch(body.span.path, lines, first, _with_comment(lines, first, row.first_line, first), opened),)


def _opened(lines: Sequence[str], start: int, first: int, end: int) -> int:
    """The line where what begins at ``first`` is opened, before ``end``; 0 where it is not. ``lines`` as below."""
    within = range(first, min(end, first + MOST_BRIEF_LINES))
    return next((line for line in within if "{" in lines[line - start]), 0)


def _with_comment(lines: Sequence[str], start: int, line: int, least: int) -> int:
    """The first line of the comment right above a line, not above ``least``; ``lines`` begin at line ``start``."""
    while line > least and _COMMENT_LINE.match(lines[line - 1 - start]):
        line -= 1
    return line


def _stretch(path: str, lines: Sequence[str], start: int, first: int, last: int) -> Stretch:
    return Stretch(Span(path, first, last), "\n".join(lines[first - start : last - start + 1]))


# Declarations


def _comments_told(index: Index, hits: Sequence[Hit]) -> dict[ChunkId, tuple[Stretch, ...]]:
    """By hit, the documented declaration of a function that is defined there without a word, with its comment."""
    asked = {
        hit.chunk.symbol: hit
        for hit in reversed(hits[:MOST_TOLD])
        if hit.chunk.symbol is not None and hit.symbol_kind in _FUNCTIONS
    }
    found: dict[SymbolId, list[Symbol]] = defaultdict(list)
    for symbol in index.facts.names.by_ids(asked):
        found[symbol.id].append(symbol)
    told: dict[ChunkId, tuple[Stretch, ...]] = {}
    for wanted, rows in found.items():
        hit = asked[wanted]
        span = hit.chunk.span
        here = [row for row in rows if row.span.path == span.path and row.is_definition]
        elsewhere = [row for row in rows if row.doc and not row.is_definition]
        if not here or any(row.doc for row in here) or not elsewhere:
            continue
        declared = elsewhere[0].span
        if declared.path == span.path and span.first_line <= declared.first_line <= span.last_line:
            continue
        stretch = _declared(index, declared)
        if stretch:
            told[hit.chunk.id] = (stretch,)
    return told


def _declared(index: Index, declared: Span) -> Stretch | None:
    top = max(1, declared.first_line - MOST_COMMENT_LINES)
    around = index.table.chunks_at(Span(declared.path, top, declared.last_line))
    if not around:
        return None
    start = around[0].span.first_line
    lines = "".join(chunk.text for chunk in around).split("\n")
    first = _with_comment(lines, start, declared.first_line, max(top, start))
    return None if first == declared.first_line else _stretch(declared.path, lines, start, first, declared.last_line)


# Texts that are nearly equal


def _alike(hits: Sequence[Hit]) -> dict[int, int]:
    """The hits of which nearly all stands in a better one too, by number, with the number of that one.

    Compared are those that share a line which few others have; near-equal texts share most of theirs.
    """
    holders: dict[str, list[int]] = defaultdict(list)
    for number, hit in enumerate(hits):
        for line in set(hit.chunk.text.split("\n")):
            if len(line) >= LEAST_TELLING:
                holders[line.strip()].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in holders.values():
        if 1 < len(numbers) <= MOST_SHARING:
            shared.update((one, other) for place, one in enumerate(numbers) for other in numbers[place + 1 :])
    alike: dict[int, int] = {}
    for (one, other), lines in sorted(shared.items()):
        if other in alike or one in alike:
            continue
        texts = hits[one].chunk.text, hits[other].chunk.text
        if min(map(len, texts)) < NEARLY_EQUAL * max(map(len, texts)) or lines * 2 < texts[1].count("\n"):
            continue
        mine, theirs = map(_shingles, texts)
        if mine and theirs and len(mine & theirs) >= NEARLY_EQUAL * len(mine | theirs):
            alike[other] = one
    return alike


@lru_cache(maxsize=1_000)
def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    tokens = _TOKEN.findall(text)
    if len(tokens) < LEAST_COMPARED:
        return frozenset()
    return frozenset(tuple(tokens[start : start + SHINGLE]) for start in range(len(tokens) - SHINGLE + 1))
