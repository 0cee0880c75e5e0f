"""What can be told of a prompt and of the search behind it, as named numbers in -1..1, most of them in 0..1. Pure.

The numbers compare across code bases: shares of what was possible, never raw scores. What text says is compared by the
stems that text search compares. Knows nothing of indexes and of what the numbers are worth; that is fitted.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log2, sqrt

from hub.confidence.breadth import breadth_of
from hub.confidence.heads import BUDGET, BUDGET_SCALE, MIDDLE_BUDGET
from hub.model import Breadth, Hit, Prompt, QuestionKind, Rendering, SignalSource
from hub.retrieval import Found, Retrieval
from indexer.model import ChunkId, Span, Symbol

LOOKED_AT = 20  # first hits whose text is compared with the question; 10 to 50
FIRST = 5  # of those, the first that count most; 3 to 10
MANY_WORDS = 64  # of a question, at which its length counts 1
COMMON = 4_096  # chunks that hold a word, at which its spread counts 1
CALLED = 12  # names that hits call which are looked up, at 0.1 ms each; 4 to 20
LEAST_CALLED = 0.08  # of the question, that such a name has to say; 0.05 to 0.3
DEEP = 256  # hits shown, at which the depth counts 1
# Log-odds of the ranking above which a difference tells nothing more. 4 to 12.
WIDE_GAP = 8.0
TOKENS_A_CHUNK = 230  # mean of real trees, at three bytes for a token; 150 to 400
# What vectors say of the usual question: means over the questions that the shipped heads were fitted to, all of which
# had static vectors. They stand for what an index without vectors cannot tell, and speak neither for nor against.
USUAL_NEARNESS = {
    "similarity": 0.481,
    "similarity gap to tenth": 0.133,
    "similarity gap": 0.041,
    "similarity deviation": 0.49,
}
USUAL_AGREEMENT = {
    "agreement": 0.276,
    "agreement of fifty": 0.299,
    "text's first in vectors": 0.305,
    "vectors' first in text": 0.311,
}
TYPES = frozenset({"class", "struct", "union", "enum", "concept"})
FUNCTIONS = frozenset({"function", "method", "constructor", "destructor"})
VECTORS = (SignalSource.STATIC, SignalSource.VECTOR)
# A name that is called, read from its end: a third of the time, because there are fewer parentheses than names.
_CALLED = re.compile(r"\(\s{0,2}+(\w{4,81}+)(?<=[A-Za-z_])(?!\w)")


def of_search(
    retrieval: Retrieval, stems: Callable[[str], Collection[str]], is_known: Callable[[str], bool]
) -> dict[str, float]:
    """The features of a search: those that no prompt changes. ``is_known`` tells of a name whether the tree has it."""
    wording = Words.of(retrieval)
    told = [wording.read(hit, stems) for hit in retrieval.hits[:LOOKED_AT]]
    return {
        **_question(retrieval, wording),
        **_coverage(wording, told),
        **_lexical(retrieval, wording),
        **_vectors(retrieval),
        **_fused(retrieval.hits),
        **_first(retrieval, told),
        **_called(wording, told, stems, is_known),
        **_spelt(retrieval, is_known),
    }


def of_prompt(retrieval: Retrieval, prompt: Prompt | None, budget: int, chunks: int) -> dict[str, float]:
    """The features of a prompt of at most ``budget`` tokens out of a tree of so many chunks; without a prompt the hits
    stand for it.
    """
    places = _places(prompt)
    return {**_prompt(retrieval.hits, places, budget, chunks), **_definitions(retrieval, places)}


@dataclass(frozen=True, slots=True)
class Read:
    """What a hit says of the words that are asked for: of each, whether its text and its title hold it."""

    hit: Hit
    held: frozenset[str]
    titled: frozenset[str]


@dataclass(frozen=True, slots=True)
class Words:
    """The stems that a question asks for, with what each counts: the rarer the more."""

    weights: Mapping[str, float]
    fewest: int  # chunks that hold the rarest of them that the tree holds; 0 where it holds none
    known: frozenset[str]  # of them, what the tree holds at all
    total: float

    @staticmethod
    def of(retrieval: Retrieval) -> "Words":
        terms = retrieval.wording.terms if retrieval.wording else ()
        weights = {term.stem: term.weight for term in terms}
        known = {term.stem: term.holding for term in terms if term.holding}
        return Words(weights, min(known.values(), default=0), frozenset(known), sum(weights.values()))

    def read(self, hit: Hit, stems: Callable[[str], Collection[str]]) -> Read:
        asked = frozenset(self.weights)
        title = asked.intersection(stems(hit.chunk.title.partition(" | ")[2]))
        return Read(hit, title | asked.intersection(stems(hit.chunk.text)), title)

    def share(self, stems: frozenset[str]) -> float:
        return sum(self.weights[stem] for stem in sorted(stems)) / self.total if self.total else 0.0

    def rarest(self) -> list[str]:
        """Of what the tree holds, the rarest first."""
        return sorted(self.known, key=lambda stem: (-self.weights[stem], stem))


def _question(retrieval: Retrieval, wording: Words) -> dict[str, float]:
    query = retrieval.query
    names = query.identifiers
    breadth = breadth_of(query)
    meanings = max((count for _, count in retrieval.ambiguous), default=1)
    return {
        "words": min(1.0, log2(1 + len(wording.weights)) / log2(1 + MANY_WORDS)),
        "unknown words": max(0.0, 1 - wording.share(wording.known)) if wording.total else 0.0,
        "names known": (len(names) - len(retrieval.unknown)) / len(names) if retrieval.named else 0.0,
        "names unknown": len(retrieval.unknown) / len(names) if names else 0.0,
        "names defined": sum(any(map(_is_defined, _meant(retrieval, name))) for name in names) / len(names)
        if names
        else 0.0,
        "ambiguity": 1 - 1 / meanings,
        "place found": float(SignalSource.PLACE in retrieval.arms),
        "is a change": float(query.kind is QuestionKind.CHANGE),
        "is a name": float(query.kind is QuestionKind.NAME),
        "is a paste": float(query.kind is QuestionKind.PASTE),
        "names something": float(bool(names)),
        "asks a relation": float(breadth is Breadth.RELATION),
        "asks for much": float(breadth is Breadth.GLOBAL),
    }


def _coverage(wording: Words, told: Sequence[Read]) -> dict[str, float]:
    """How much of the question, by rarity, the best hit holds, the first together, and all looked at."""
    shares = [wording.share(read.held) for read in told]
    titles = [wording.share(read.titled) for read in told]
    first = frozenset[str]().union(*(read.held for read in told[:FIRST]))
    everything = frozenset[str]().union(*(read.held for read in told))
    rarest = wording.rarest()[:2]
    best = max(shares, default=0.0)
    return {
        "first hit holds": shares[0] if shares else 0.0,
        "best hit holds": best,
        "first hits hold": wording.share(first),
        "hits hold": wording.share(everything),
        "one hit of all": best / wording.share(everything) if everything else 0.0,
        "rarest in first": sum(stem in first for stem in rarest) / len(rarest) if rarest else 0.0,
        "rarest in best": max((sum(stem in read.held for stem in rarest) for read in told[:FIRST]), default=0)
        / len(rarest)
        if rarest
        else 0.0,
        "rarest spread": min(1.0, log2(1 + wording.fewest) / log2(1 + COMMON)),
        "first title holds": titles[0] if titles else 0.0,
        "best title holds": max(titles[:FIRST], default=0.0),
    }


def _lexical(retrieval: Retrieval, wording: Words) -> dict[str, float]:
    found = retrieval.arms.get(SignalSource.LEXICAL, ())
    if not found or not wording.total:
        return {"text strength": 0.0, "text gap": 0.0, "text gap to tenth": 0.0, "text deviation": 0.0}
    best = found[0][1]
    scores = [raw for _, raw in found]
    mean = sum(scores) / len(scores)
    spread = sqrt(sum((raw - mean) ** 2 for raw in scores) / len(scores))
    return {
        "text strength": min(1.0, best / wording.total / 4),
        "text gap": _gap(scores, 1),
        "text gap to tenth": _gap(scores, 9),
        "text deviation": min(1.0, (best - mean) / spread / 8) if spread else 0.0,
    }


def _vectors(retrieval: Retrieval) -> dict[str, float]:
    source = next((source for source in reversed(VECTORS) if source in retrieval.arms), None)
    scores = [raw for _, raw in retrieval.arms.get(SignalSource.STATIC, ())]
    nearness, agreement = USUAL_NEARNESS, USUAL_AGREEMENT
    if scores:
        mean = sum(scores) / len(scores)
        spread = sqrt(sum((raw - mean) ** 2 for raw in scores) / len(scores))
        nearness = {
            "similarity": max(0.0, scores[0]),
            "similarity gap to tenth": scores[0] - scores[9] if len(scores) > 9 else 0.0,
            "similarity gap": scores[0] - scores[1] if len(scores) > 1 else 0.0,
            "similarity deviation": min(1.0, (scores[0] - mean) / spread / 8) if spread else 0.0,
        }
    if source:
        near, lexical = retrieval.arms[source], retrieval.arms.get(SignalSource.LEXICAL, ())
        agreement = {
            "agreement": _overlap(lexical, near, 10),
            "agreement of fifty": _overlap(lexical, near, 50),
            "text's first in vectors": _reciprocal(lexical, near),
            "vectors' first in text": _reciprocal(near, lexical),
        }
    return {**nearness, **agreement}


def _fused(hits: Sequence[Hit]) -> dict[str, float]:
    if not hits:
        return {"first share": 0.0, "first five share": 0.0, "lead": 0.0, "lead over tenth": 0.0, "score": 0.0}
    top = hits[0].score
    masses = [exp(hit.score - top) for hit in hits[:LOOKED_AT]]
    total = sum(masses)
    scores = [hit.score for hit in hits]
    return {
        "first share": masses[0] / total,
        "first five share": sum(masses[:FIRST]) / total,
        "lead": _within(scores[0] - scores[1]) if len(scores) > 1 else 1.0,
        "lead over tenth": _within(scores[0] - scores[9]) if len(scores) > 9 else 1.0,
        "score": _within(top / 3),
    }


def _first(retrieval: Retrieval, told: Sequence[Read]) -> dict[str, float]:
    """What the first hit is, and how many arms put it first."""
    if not told:
        return dict.fromkeys(
            (
                "arms for first",
                "first is a function",
                "first is a type",
                "first told",
                "files of first",
                "symbol strength",
                "symbol first",
            ),
            0.0,
        )
    hit = told[0].hit
    ranks = {signal.source: signal.rank for signal in hit.signals}
    arms = [
        source for source in (SignalSource.LEXICAL, SignalSource.STATIC, SignalSource.GRAPH) if source in retrieval.arms
    ]
    shares = dict(hit.contributions)
    symbols = retrieval.arms.get(SignalSource.SYMBOL, ())
    surest = {chunk for chunk, raw in symbols if raw == symbols[0][1]}
    paths = {read.hit.chunk.span.path for read in told[:FIRST]}
    return {
        "arms for first": sum(1 / ranks[source] for source in arms if source in ranks) / len(arms) if arms else 0.0,
        "first is a function": float(hit.symbol_kind in FUNCTIONS),
        "first is a type": float(hit.symbol_kind in TYPES),
        "first told": _within(shares.get("told", 0.0)),
        "files of first": (len(paths) - 1) / (FIRST - 1),
        "symbol strength": symbols[0][1] if symbols else 0.0,
        "symbol first": float(hit.chunk.id in surest),
    }


def names_called(text: str) -> list[str]:
    """The names of 4 to 81 characters before an opening parenthesis, the last first."""
    return [name[::-1] for name in _CALLED.findall(text[::-1])]


def _called(
    wording: Words, told: Sequence[Read], stems: Callable[[str], Collection[str]], is_known: Callable[[str], bool]
) -> dict[str, float]:
    """Of the names that the hits call and that say what is asked for: whether the tree has the best of them. Where it
    has not, what is asked for stands elsewhere.
    """
    places: dict[str, int] = {}
    for place, read in enumerate(told):
        for name in names_called(read.hit.chunk.text):
            places.setdefault(name, place)
    asked = frozenset(wording.weights)
    said = [(held, place, name) for name, place in places.items() if (held := asked.intersection(stems(name)))]
    shares = [(wording.share(held), place, name) for held, place, name in said]
    shares = sorted((-share, place, name) for share, place, name in shares if share > LEAST_CALLED)[:CALLED]
    known = unknown = 0.0
    for share, _, name in shares:
        if is_known(name):
            known = max(known, -share)
        else:
            unknown = max(unknown, -share)
    return {"called and known": known, "called and unknown": unknown, "known over unknown": known - unknown}


def _spelt(retrieval: Retrieval, is_known: Callable[[str], bool]) -> dict[str, float]:
    """Of the names that the question spells out in words and that texts hold: whether the tree has them."""
    names = retrieval.wording.compounds if retrieval.wording else ()
    known = sum(map(is_known, names))
    return {"spelt and known": float(known > 0), "spelt and unknown": float(known < len(names))}


def _definitions(retrieval: Retrieval, places: Mapping[str, Sequence[Span]] | None) -> dict[str, float]:
    """Of the names that the question uses, how many are shown where they are defined, or else declared."""
    names = retrieval.query.identifiers
    shown = 0
    for name in names:
        meant = _meant(retrieval, name)
        wanted = [symbol.span for symbol in meant if symbol.is_definition] or [symbol.span for symbol in meant]
        if places is None:
            shown += any(_touches(span, hit.chunk.span) for span in wanted for hit in retrieval.hits)
        else:
            shown += any(_touches(span, place) for span in wanted for place in places.get(span.path, ()))
    return {"names shown": shown / len(names) if names else 0.0}


def _meant(retrieval: Retrieval, name: str) -> list[Symbol]:
    last = name.rpartition("::")[2]
    return [symbol for symbol in retrieval.named if symbol.name == last]


def _is_defined(symbol: Symbol) -> bool:
    return symbol.is_definition


def _touches(one: Span, other: Span) -> bool:
    return one.path == other.path and one.first_line <= other.last_line and other.first_line <= one.last_line


def _prompt(
    hits: Sequence[Hit], places: Mapping[str, Sequence[Span]] | None, budget: int, chunks: int
) -> dict[str, float]:
    shown = [places is None or _mostly(hit.chunk.span, places.get(hit.chunk.span.path, ())) for hit in hits]
    top = hits[0].score if hits else 0.0
    masses = [exp(hit.score - top) for hit in hits]
    total = sum(masses)
    number = sum(shown)
    last = min((hit.score for hit, seen in zip(hits, shown, strict=True) if seen), default=top)
    sharing: dict[str, float] = {}
    for hit, mass, seen in zip(hits, masses, shown, strict=True):
        if seen:
            sharing[hit.chunk.span.path] = sharing.get(hit.chunk.span.path, 0.0) + mass
    held = sum(sharing.values())
    return {
        BUDGET: log2(max(1, budget) / MIDDLE_BUDGET) / BUDGET_SCALE,
        "shown share": held / total if total else 0.0,
        "depth": min(1.0, log2(1 + number) / log2(1 + DEEP)),
        "fall": _within(top - last),
        "top file share": max(sharing.values(), default=0.0) / held if held else 0.0,
        "fits": min(1.0, budget / (chunks * TOKENS_A_CHUNK)) if chunks else 1.0,
        "first shown": float(bool(shown) and shown[0]),
    }


def _places(prompt: Prompt | None) -> dict[str, list[Span]] | None:
    """What a prompt shows as it stands in its files, by path; None without a prompt."""
    if prompt is None:
        return None
    places: dict[str, list[Span]] = {}
    renderings = prompt.renderings or (Rendering.BODY,) * len(prompt.citations)
    for citation, rendering in zip(prompt.citations, renderings, strict=True):
        if rendering is Rendering.BODY:
            places.setdefault(citation.span.path, []).append(citation.span)
    return places


def _mostly(span: Span, places: Sequence[Span]) -> bool:
    """Whether half of its lines or more are among those shown."""
    held = sum(
        max(0, min(span.last_line, place.last_line) - max(span.first_line, place.first_line) + 1) for place in places
    )
    return 2 * held >= span.last_line - span.first_line + 1


def _gap(scores: Sequence[float], rank: int) -> float:
    """How far the first lies above one of a later rank, as a share of the first; 1 where there is none."""
    return 1 - scores[rank] / scores[0] if len(scores) > rank and scores[0] > 0 else 1.0


def _within(gap: float) -> float:
    return max(-1.0, min(1.0, gap / WIDE_GAP))


def _overlap(one: Found, other: Found, depth: int) -> float:
    first, second = {chunk for chunk, _ in one[:depth]}, {chunk for chunk, _ in other[:depth]}
    smaller = min(len(first), len(second))
    return len(first & second) / smaller if smaller else 0.0


def _reciprocal(one: Found, other: Found) -> float:
    """1 over the rank that the first of one arm has in another; 0 where it is not there."""
    if not one:
        return 0.0
    first: ChunkId = one[0][0]
    return next((1 / rank for rank, (chunk, _) in enumerate(other[:50], 1) if chunk == first), 0.0)
