"""Which lines of what was found are worth showing: whole functions, or their first lines and those that matter.

A share of the hits' worth goes to each function, by the scores of its hits; each way to show it has a price in tokens.
The best worth a token comes first, and where another token is worth too little nothing more is shown, however much room
there is. Pure but for the lines that it is given to read. Knows nothing of indexes and of how the lines are written.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import exp
from typing import NamedTuple

from hub.model import Hit
from hub.prompting import Passage
from indexer.model import ChunkId, Span, Symbol

# What shown lines are worth, with ranges.
TEMPERATURE = 1.25  # of the softmax over scores, as hub.prompting packs with; 0.7 to 2
# Share of all worth a token, below which nothing more is shown: where the evidence is sure to be there, and where it is
# not, between which it goes by the confidence. 5e-5 to 5e-4; 0 to 5e-5.
SURE_WORTH, UNSURE_WORTH = 6e-5, 1e-5
# Of a function of which only the lines that matter are shown, by their share of all lines: the share to this power.
MATTERING_POWER = 0.8  # 0.2, where a line or two say it all, to 1, where each line says as much
MOST_OF_WHOLE = (
    0.75  # of a function's price that its mattering lines may have, else it is shown whole or not; 0.5 to 0.9
)
MOST_UNITS = 48  # functions that are considered; 10 to 80
WHOLE_SHARE = 0.2  # of the worth, from which on a function is read beyond its hit; 0.1 to 0.5
WHOLE_ROOM = 0.6  # of the room that one function may fill; 0.3 to 0.9
AROUND = 2  # lines shown around one that matters; 1 to 5
LINES_A_PEAK = 15  # of a function there is one that matters for so many lines, 8 to 40,
MOST_PEAKS = 8  # and at most so many; 4 to 16
NEAR_BEST = 0.6  # of the best line's words, from which on a line matters; 0.3 to 1
HEAD_LINES = 2  # of a function that has no known signature; 1 to 4
CLOSE = 4  # lines between two blocks of a file that are shown as one; 1 to 10
BLOCK_TOKENS = 18.0  # of a heading and what stands around it; 10 to 30
LEAST_ROOT = 3  # letters of a root that is looked for

POINTER_SHARE = 0.5  # of a unit's share, given to what its prose names; 0 to 1
TEST_SHARE = 0.5  # of a test's own share that it keeps, where the question does not speak of tests; 0.2 to 1
MEMBERS_SHARE = 0.5  # of a class's share, given to those of its methods that were found too; 0 to 1
MOST_POINTING = 8  # units whose prose is read for names; 2 to 20
MOST_POINTED = 40  # names read in each; 10 to 100

_FUNCTIONS = frozenset({"function", "method", "constructor", "destructor"})
_CLASSES = frozenset({"class", "struct", "union"})
_DOCUMENTS = frozenset({"", "section"})
# Lines around code that say nothing of it: licences, guards, includes, namespaces opened and closed.
_AROUND = re.compile(
    r"\s*(?:#\s*(?:include|pragma once|endif|ifndef \w+_H_*$|define \w+_H_*$)"
    r"|// (?:SPDX|Copyright|Use of this source|found in the)|/// \\file|namespace(?: [\w:]+)? \{$|\}\s*// namespace)"
)
_COMMENT = re.compile(r"\s*(?://|/?\*)")
_NAME = re.compile(r"\b[A-Za-z_]\w{1,80}(?:::~?[A-Za-z_]\w{0,80}){1,5}|`([A-Za-z_]\w{2,80})`|\b[A-Z]\w{3,80}(?=\(\))")

Lines = Mapping[int, str]
Price = Callable[[str], float]


class Block(NamedTuple):
    """Lines of one file that are shown, in order; between those that are not neighbours something was left out."""

    path: str
    symbol: str
    lines: tuple[tuple[int, str], ...]
    whole: bool

    @property
    def span(self) -> Span:
        return Span(self.path, self.lines[0][0], self.lines[-1][0])


class Chosen(NamedTuple):
    """The blocks, best first, the functions of which nothing is shown, and the share of the worth that is shown."""

    blocks: tuple[Block, ...]
    left: tuple["Unit", ...]
    share: float
    no_room: int  # functions that were worth showing, or showing whole, and did not fit


@dataclass(slots=True)
class Unit:
    """A function, a class or a passage, with its share of the worth."""

    path: str
    symbol: str
    kind: str
    lines: dict[int, str]
    share: float
    first: int  # its line where it is named in a list
    heads: tuple[int, ...]  # lines of its signature
    beside: list[tuple[str, dict[int, str]]] = field(default_factory=list)  # comments at its declaration

    @property
    def is_document(self) -> bool:
        return self.kind in _DOCUMENTS

    def touches(self, span: Span) -> bool:
        """Whether a span overlaps its lines or follows them."""
        return bool(self.lines) and span.first_line <= max(self.lines) + 1 and span.last_line >= min(self.lines) - 1


class _Step(NamedTuple):
    """One way to show more of a unit. ``lines`` are all that it shows then."""

    worth: float  # a token
    number: int  # of the unit
    value: float
    price: float
    lines: tuple[int, ...]
    whole: bool


def shares_of(hits: Sequence[Hit]) -> dict[ChunkId, float]:
    """How likely each hit is the one that is meant; they add up to 1."""
    best = max((hit.score for hit in hits), default=0.0)
    weights = {hit.chunk.id: exp((hit.score - best) / TEMPERATURE) for hit in hits}
    total = sum(weights.values())
    return {chunk: weight / total for chunk, weight in weights.items()}


def units(
    found: Iterable[tuple[Hit, Passage, float]],
    definitions: Callable[[Hit], Symbol | None],
    read: Callable[[Span], str],
) -> list[Unit]:
    """What hits stand for with their shares, best first: those within one function are one, and the best are read to
    their ends.
    """
    made: dict[tuple[str, str], list[Unit]] = {}
    number = 0
    for hit, passage, share in found:
        span = hit.chunk.span
        inside = hit.symbol_kind in _FUNCTIONS and hit.chunk.symbol is not None
        lines = _lines(span.first_line, hit.chunk.text)
        known = made.setdefault((span.path, hit.chunk.symbol or ""), [])
        same = next((unit for unit in known if inside and unit.touches(span)), None)
        if same is not None:
            same.lines.update(lines)
            same.share += share
            continue
        if number == MOST_UNITS:
            continue
        number += 1
        heads: tuple[int, ...] = ()
        if inside and share >= WHOLE_SHARE and (symbol := definitions(hit)):
            whole = symbol.span
            if _overlap(whole, span) and (whole.first_line < span.first_line or whole.last_line > span.last_line):
                lines = _lines(whole.first_line, read(whole)) | lines
            heads = tuple(range(symbol.line, symbol.line + HEAD_LINES)) if symbol.line else ()
        if not heads and passage.brief:
            brief = passage.brief[0].span
            heads = tuple(range(brief.first_line, brief.last_line + 1))[-HEAD_LINES - 1 :]
        first = heads[0] if heads else min(lines, default=span.first_line)
        beside = [(stretch.span.path, _lines(stretch.span.first_line, stretch.text)) for stretch in passage.body[1:]]
        known.append(Unit(span.path, hit.symbol_name, hit.symbol_kind, lines, share, first, heads, beside))
    return sorted(
        (unit for some in made.values() for unit in some), key=lambda unit: (-unit.share, unit.path, unit.first)
    )


def pointed_at(found: Sequence[Unit], names: Callable[[str], str]) -> list[Unit]:
    """The units, those first that the best ones lead to. A comment or a document that says where a thing is decided is
    not that place, and a class that is spoken of does it in its methods. ``names`` spells a name out in full.
    """
    by_symbol: dict[str, Unit] = {}
    for unit in found:
        if unit.symbol and unit.kind in _FUNCTIONS:
            by_symbol.setdefault(unit.symbol, unit)
    given: dict[str, float] = {}
    for unit in found[:MOST_POINTING]:
        prose = "\n".join(text for text in unit.lines.values() if unit.is_document or _COMMENT.match(text))
        spelt = islice((match[1] or match[0] for match in _NAME.finditer(prose)), MOST_POINTED)
        told = list(dict.fromkeys(map(names, dict.fromkeys(spelt))))
        meant = [name for name in told if name in by_symbol and name != unit.symbol]
        for name in meant:
            given[name] = given.get(name, 0.0) + POINTER_SHARE * unit.share / len(meant)
        if unit.kind in _CLASSES:
            members = [other for name, other in by_symbol.items() if name.startswith(f"{unit.symbol}::")]
            held = sum(member.share for member in members)
            for member in members:
                more = MEMBERS_SHARE * unit.share * member.share / held
                given[member.symbol] = given.get(member.symbol, 0.0) + more
    for name, share in given.items():
        by_symbol[name].share += share
    return sorted(found, key=lambda unit: (-unit.share, unit.path, unit.first))


def choose(found: Sequence[Unit], roots: Mapping[str, float], room: float, price: Price, sure: float) -> Chosen:
    """What is shown within a room of tokens, the less the surer it is, 0..1, that the best is what is meant."""
    least = UNSURE_WORTH * (SURE_WORTH / UNSURE_WORTH) ** sure
    steps = []
    for number, unit in enumerate(found):
        steps += _steps(unit, number, roots, room, price)
    steps.sort(key=lambda step: (-step.worth, step.number, step.price))
    taken: dict[int, _Step] = {}
    used, no_room = 0.0, set[int]()
    for step in steps:
        if step.worth < least and taken:
            break
        before = taken.get(step.number)
        more = step.price - (before.price if before else 0.0)
        if before and step.value <= before.value:
            continue
        if used + more > room:
            no_room.add(step.number)
            continue
        taken[step.number] = step
        used += more
        if step.whole:
            no_room.discard(step.number)
    if not taken and found:
        taken[0] = _squeezed(found[0], roots, room, price)
    covered: dict[str, set[int]] = {}
    blocks = [block for number, step in sorted(taken.items()) for block in _blocks(found[number], step, covered)]
    left = tuple(unit for number, unit in enumerate(found) if number not in taken)
    return Chosen(_joined(blocks), left, sum(step.value for step in taken.values()), len(no_room))


def roots_of(words: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The words of a question as they are looked for in lines, with what each counts."""
    return {word.lower(): weight for word, weight in words if len(word) >= LEAST_ROOT}


def mattering(unit: Unit, roots: Mapping[str, float]) -> tuple[int, ...]:
    """The lines of a unit to be read first: its signature, and what holds most of the question's rare words."""
    scores = {}
    for number, line in unit.lines.items():
        low = line.lower()
        score = sum(weight for root, weight in roots.items() if root in low)
        if score:
            scores[number] = score
    heads = [number for number in unit.heads if number in unit.lines] or sorted(unit.lines)[:HEAD_LINES]
    chosen = set(heads)
    best = max(scores.values(), default=0.0)
    peaks = sorted(
        (number for number, score in scores.items() if score >= NEAR_BEST * best), key=lambda n: (-scores[n], n)
    )
    for peak in peaks[: min(MOST_PEAKS, 2 + len(unit.lines) // LINES_A_PEAK)]:
        chosen.update(number for number in range(peak - AROUND, peak + AROUND + 1) if number in unit.lines)
    return tuple(sorted(chosen))


def _steps(unit: Unit, number: int, roots: Mapping[str, float], room: float, price: Price) -> list[_Step]:
    whole_lines = tuple(sorted(unit.lines))
    whole = _price(unit, whole_lines, price) + sum(
        BLOCK_TOKENS + sum(map(price, lines.values())) for _, lines in unit.beside
    )
    part_lines = mattering(unit, roots)
    part = _price(unit, part_lines, price)
    steps = []
    if part <= MOST_OF_WHOLE * whole:
        value = unit.share * (len(part_lines) / len(unit.lines)) ** MATTERING_POWER
        steps.append(_Step(value / part, number, value, part, part_lines, whole=False))
        if whole <= WHOLE_ROOM * room:
            rest = (unit.share - value) / (whole - part)
            if rest > steps[0].worth:
                steps.clear()
                rest = unit.share / whole
            steps.append(_Step(rest, number, unit.share, whole, whole_lines, whole=True))
    elif whole <= room:
        steps.append(_Step(unit.share / whole, number, unit.share, whole, whole_lines, whole=True))
    return steps


def _squeezed(unit: Unit, roots: Mapping[str, float], room: float, price: Price) -> _Step:
    """As many of the first lines that matter as there is room for."""
    kept: list[int] = []
    used = BLOCK_TOKENS
    for number in mattering(unit, roots):
        used += price(unit.lines[number])
        if kept and used > room:
            break
        kept.append(number)
    return _Step(0.0, 0, unit.share * (len(kept) / len(unit.lines)) ** MATTERING_POWER, used, tuple(kept), whole=False)


def _price(unit: Unit, lines: Iterable[int], price: Price) -> float:
    return BLOCK_TOKENS + sum(price(unit.lines[number]) for number in lines)


def _blocks(unit: Unit, step: _Step, covered: dict[str, set[int]]) -> list[Block]:
    """The lines of a step that no block has shown yet."""
    shown = [(unit.path, {number: unit.lines[number] for number in step.lines})]
    if step.whole:
        shown += unit.beside
    blocks = []
    for path, lines in shown:
        told = covered.setdefault(path, set())
        fresh = [
            (number, text) for number, text in sorted(lines.items()) if number not in told and not _AROUND.match(text)
        ]
        told.update(lines)
        while fresh and not fresh[-1][1].strip():
            fresh.pop()
        start = next((place for place, (_, text) in enumerate(fresh) if text.strip()), len(fresh))
        if fresh[start:]:
            blocks.append(Block(path, unit.symbol, tuple(fresh[start:]), step.whole))
    return blocks


def _joined(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """The blocks in their order, those that stand close together in a file as one, at the place of the better."""
    joined: list[Block] = []
    for block in blocks:
        place = next((at for at, other in enumerate(joined) if _close(other, block)), None)
        if place is None:
            joined.append(block)
        else:
            other = joined[place]
            lines = tuple(sorted((*other.lines, *block.lines)))
            joined[place] = Block(block.path, other.symbol, lines, other.whole and block.whole)
    return tuple(joined)


def _close(one: Block, other: Block) -> bool:
    return (
        one.path == other.path
        and one.span.first_line <= other.span.last_line + CLOSE
        and other.span.first_line <= one.span.last_line + CLOSE
    )


def _overlap(one: Span, other: Span) -> bool:
    return one.first_line <= other.last_line and other.first_line <= one.last_line


def _lines(first: int, text: str) -> dict[int, str]:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return dict(enumerate(lines, first))
