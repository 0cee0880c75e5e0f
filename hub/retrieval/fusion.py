"""One order out of what the arms found, and the arithmetic of every score. Pure: candidates and weights in, order out.

A score is a weighted sum: of what each arm says, as a share of the best that it found, and of what a chunk's title and
place tell. The order is total, so the same candidates and weights give the same order, whatever order the arms come
in. Knows nothing of where weights come from; ``hub.tuning`` fits them.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from typing import Generic, TypeVar

from hub.model import Query, QuestionKind, Signal, SignalSource
from hub.retrieval.candidates import Candidates, Found
from indexer.index import words
from indexer.model import ChunkId, SymbolKind

# Raise it when a feature below changes its meaning: weights of other versions are then left aside.
WEIGHTS_VERSION = 1

# What chunks are told apart by beside the arms, each in 0..1.
TITLE = "title"  # share of the question's words that the title says, of the best such share
TOLD = "told"  # share of the title's words that the question says
FUNCTION = "function"  # titled by a function
TYPE = "type"  # titled by a class or an enum
DOCUMENT = "document"  # in a document, a build file
HEADER = "header"  # in a header
TESTS = "in tests"  # in tests, where the question does not speak of tests
LONG = "long"  # lines of a chunk, all from LONG_LINES on
# And files, beside what their chunks are told apart by.
CHANGES = "changes"  # what the history says of the file as a whole

ARMS = tuple(source.value for source in SignalSource)
CHUNK_FEATURES = (*ARMS, TITLE, TOLD, FUNCTION, TYPE, DOCUMENT, HEADER, TESTS, LONG)
FILE_FEATURES = (*ARMS, CHANGES, TITLE, TOLD, DOCUMENT, HEADER, TESTS)

ACCOUNT_WORDS = 16  # 12 to 30; of the words that are searched for
LONG_LINES = 60  # 30 to 120
NEXT_SHARE = 0.5  # what each further chunk of a file counts, of the one before it; 0.3 to 0.7
EXACT = "exact name"  # the contribution that puts what a bare name means above everything else

Block = tuple[tuple[str, float], ...]
"""A weight for each feature; what is not named counts nothing."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What each feature counts, by what is ranked. ``origin`` says in words what they were fitted on."""

    prose: Block  # chunks, for a question in prose, with names in it or without
    account: Block  # chunks, for an account in prose of more than ACCOUNT_WORDS words
    change: Block  # chunks, for what reads like the message of a commit
    paste: Block  # chunks, for what was pasted
    name: Block  # chunks, for a bare name
    files: Block  # whole files, for any question
    origin: str = "development libraries"

    def of(self, query: Query) -> dict[str, float]:
        """The weights of chunks for a question."""
        return dict(getattr(self, block_of(query)))

    def dumps(self) -> str:
        """As JSON, to be kept with an index."""
        blocks = {name: dict(getattr(self, name)) for name in BLOCKS}
        return json.dumps({"version": WEIGHTS_VERSION, "origin": self.origin, **blocks}, sort_keys=True)

    @staticmethod
    def loads(text: str) -> "Weights | None":
        """What ``dumps`` gave; None for anything else, other versions among it."""
        try:
            told = json.loads(text)
            if told["version"] != WEIGHTS_VERSION:
                return None
            blocks = {
                name: tuple((str(feature), float(value)) for feature, value in sorted(told[name].items()))
                for name in BLOCKS
            }
            return Weights(**blocks, origin=str(told["origin"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


BLOCKS = ("prose", "account", "change", "paste", "name", "files")

# The weights that ship. Prose, account, change and files were fitted on glog, benchmark, jsoncpp, oatpp, libzmq and
# taglib by `benchmarks/fit_fusion.py`, which prints them. Range 0 to 20 for arms, -6 to 12 for the rest; differences
# of scores are log odds. Judgements are name and paste, what those questions do not show (vector, place, mostly
# symbol), and what they never ask for: documents and tests, fitted at -2 to -9, are as far up as costs 0.01 of MRR. In
# prose lexical is 5 where 2.8 was fitted: the questions hide the comments that they ask with, a real tree shows its
# own. It costs 0.002 of Hit@10 and 0.011 of MRR on them.
GLOBAL = Weights(
    prose=(
        ("symbol", 1.0),
        ("lexical", 5.0),
        ("static", 3.22),
        ("vector", 1.5),
        ("history", 0.76),
        ("graph", 2.16),
        ("place", 6.0),
        ("title", 1.14),
        ("told", 1.48),
        ("function", 1.21),
        ("type", 0.81),
        ("document", 0.5),
        ("header", -0.23),
        ("in tests", -1.0),
        ("long", 0.46),
    ),
    account=(
        ("symbol", 1.0),
        ("lexical", 4.61),
        ("static", 2.13),
        ("vector", 1.5),
        ("history", 0.22),
        ("graph", 1.57),
        ("place", 6.0),
        ("title", 1.44),
        ("told", 4.03),
        ("function", 3.03),
        ("type", 2.52),
        ("header", -1.61),
        ("in tests", -1.0),
        ("long", 1.04),
    ),
    change=(
        ("symbol", 1.0),
        ("lexical", 1.53),
        ("static", 4.03),
        ("vector", 1.5),
        ("history", 0.97),
        ("graph", 1.31),
        ("place", 6.0),
        ("title", -0.01),
        ("told", 2.7),
        ("function", 2.91),
        ("type", 1.86),
        ("header", 1.39),
        ("in tests", -1.0),
        ("long", -0.51),
    ),
    paste=(
        ("symbol", 6.0),
        ("lexical", 4.0),
        ("static", 1.0),
        ("vector", 1.0),
        ("graph", 0.5),
        ("place", 16.0),
        ("function", 1.0),
        ("document", -2.0),
        ("in tests", -0.5),
    ),
    name=(
        ("symbol", 4.0),
        ("lexical", 3.0),
        ("static", 1.0),
        ("vector", 1.0),
        ("graph", 0.5),
        ("told", 2.0),
        ("document", -1.0),
        ("in tests", -1.0),
    ),
    files=(
        ("symbol", 1.92),
        ("lexical", 3.23),
        ("static", 1.96),
        ("vector", 1.5),
        ("graph", 0.54),
        ("place", 8.0),
        ("changes", 1.97),
        ("title", 0.06),
        ("told", 5.31),
        ("document", -3.0),
        ("header", -0.4),
        ("in tests", -0.77),
    ),
)

_TEST_PATH = re.compile(
    r"(^|/)(tests?|testing|unittests?|benchmarks?)/|_(test|tests|unittest|bench)\.[^/]*$|(^|/)test_"
)
_HEADER_PATH = re.compile(r"\.(?:h|hh|hpp|hxx|h\+\+|inl|ipp|tcc|cuh)$", re.IGNORECASE)
_DOCUMENT_PATH = re.compile(r"\.(?:md|markdown|rst|txt|cmake)$", re.IGNORECASE)
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
_TYPES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION, SymbolKind.ENUM, SymbolKind.CONCEPT})
# Endings that one root loses: reads, reading and reader speak of the same. At least three letters stay.
_ENDING = re.compile(r"(?<=\w{3})(?:ations?|ings?|ions?|ers?|ors?|ed|es|s|e)$")
# Vectors give a similarity to anything, so only what lies above the last one that was found counts.
_SIMILARITIES = frozenset({SignalSource.STATIC, SignalSource.VECTOR})


_Key = TypeVar("_Key", ChunkId, str)


@dataclass(frozen=True, slots=True)
class Fused:
    """A chunk with its score: the sum over ``contributions``."""

    chunk: ChunkId
    score: float
    contributions: tuple[tuple[str, float], ...]


def fuse(candidates: Candidates, weights: Weights, limit: int | None = None) -> list[Fused]:
    """The best ``limit`` candidates that still exist and that an arm of any weight found, best first; all without one.

    What a bare name means always comes first, whatever the weights.
    """
    block = weights.of(candidates.query)
    seen = _seen_chunks(candidates)
    scores = _scores(seen, block)
    lifts: dict[ChunkId, float] = {}
    if candidates.query.kind is QuestionKind.NAME:
        lifts = _lifts(_levels(candidates), scores)
        for chunk, lift in lifts.items():
            scores[chunk] = scores.get(chunk, 0.0) + lift
    places = candidates.places
    best = sorted(_foremost(scores, limit), key=lambda chunk: (-scores[chunk], places[chunk], chunk))[:limit]
    features = seen.features(best)
    return [Fused(chunk, scores[chunk], _told(features[chunk], block, lifts.get(chunk))) for chunk in best]


def rank_files(candidates: Candidates, weights: Weights) -> list[tuple[str, float]]:
    """(path, score) of the files that hold the candidates or that the history names, best first, equal ones by path."""
    files = _scores(_seen_files(candidates), dict(weights.files))
    if candidates.query.kind is QuestionKind.NAME:
        levels: dict[str, int] = {}
        for chunk, level in _levels(candidates).items():
            path = candidates.places[chunk].path
            levels[path] = max(level, levels.get(path, 0))
        for path, lift in _lifts(levels, files).items():
            files[path] = files.get(path, 0.0) + lift
    return sorted(files.items(), key=lambda item: (-item[1], item[0]))


def signals_of(candidates: Candidates, chunks: Iterable[ChunkId]) -> dict[ChunkId, list[Signal]]:
    """The rank (from 1) and raw score of each of the chunks in the arms that found it."""
    signals: dict[ChunkId, list[Signal]] = {chunk: [] for chunk in chunks}
    for source in sorted(candidates.arms):
        for rank, (chunk, raw) in enumerate(candidates.arms[source], 1):
            if chunk in signals:
                signals[chunk].append(Signal(source, rank, raw))
    return signals


def block_of(query: Query) -> str:
    """The name of the block that ranks chunks for a question."""
    match query.kind:
        case QuestionKind.NAME | QuestionKind.CHANGE | QuestionKind.PASTE:
            return query.kind.value
        case _:
            return "account" if len(query.terms) > ACCOUNT_WORDS else "prose"


def chunk_features(candidates: Candidates) -> dict[ChunkId, list[tuple[str, float]]]:
    """What scores are made of: the features of each candidate that are not 0, by name."""
    seen = _seen_chunks(candidates)
    return seen.features(seen.titles)


def file_features(candidates: Candidates) -> dict[str, list[tuple[str, float]]]:
    """The same for whole files. An arm's value is that of its best chunk, and ever less of each further one."""
    seen = _seen_files(candidates)
    return seen.features(seen.titles)


@lru_cache(maxsize=100_000)
def is_test_path(path: str) -> bool:
    """Whether a path says that it holds tests."""
    return _TEST_PATH.search(path) is not None


@dataclass(frozen=True, slots=True)
class _Title:
    roots: frozenset[str]
    traits: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class _Seen(Generic[_Key]):
    """The features of everything that was found, by feature: most of it is ranked and never told."""

    found: Sequence[tuple[str, Sequence[tuple[_Key, float]]]]  # by what found it, in order
    titles: Mapping[_Key, _Title]  # of everything that was found, in the order in which it was first found
    said: Mapping[_Key, int]  # words of the question that the title says
    most: int  # of them
    ends: Mapping[_Key, tuple[tuple[str, float], ...]]  # the features that come last

    @staticmethod
    def of(
        found: Sequence[tuple[str, Sequence[tuple[_Key, float]]]],
        titles: Mapping[_Key, _Title],
        ends: Mapping[_Key, tuple[tuple[str, float], ...]],
        query: Query,
    ) -> "_Seen[_Key]":
        asked = _roots(query.terms)
        said = {key: len(asked & title.roots) for key, title in titles.items()}
        return _Seen(found, titles, said, max(said.values(), default=0), ends)

    def features(self, keys: Iterable[_Key]) -> dict[_Key, list[tuple[str, float]]]:
        """What is told of each of the keys."""
        features: dict[_Key, list[tuple[str, float]]] = {key: [] for key in keys}
        for name, found in self.found:
            for key, value in found:
                if key in features:
                    features[key].append((name, value))
        for key, told in features.items():
            title, number = self.titles[key], self.said[key]
            if number:
                told.append((TITLE, number / self.most))
                told.append((TOLD, number / len(title.roots)))
            told.extend(title.traits)
            told.extend(self.ends[key])
        return features


def _seen_chunks(candidates: Candidates) -> _Seen[ChunkId]:
    places, titles, kinds = candidates.places, candidates.titles, candidates.kinds
    found = [
        (source.value, [pair for pair in _shares(source, candidates.arms[source]) if pair[0] in places])
        for source in sorted(candidates.arms)
    ]
    chunks = dict.fromkeys(chunk for _, pairs in found for chunk, _ in pairs)
    doubted = not candidates.query.mentions_tests
    ends = {}
    for chunk in chunks:
        place = places[chunk]
        ends[chunk] = _end(place.last_line - place.first_line + 1, doubted and is_test_path(place.path))
    read = {chunk: _title(titles.get(chunk) or places[chunk].path, kinds.get(chunk, "")) for chunk in chunks}
    return _Seen.of(found, read, ends, candidates.query)


def _seen_files(candidates: Candidates) -> _Seen[str]:
    places = candidates.places
    found: list[tuple[str, list[tuple[str, float]]]] = []
    for source in sorted(candidates.arms):
        values: dict[str, list[float]] = defaultdict(list)
        for chunk, value in _shares(source, candidates.arms[source]):
            if chunk in places:
                values[places[chunk].path].append(value)
        found.append((source.value, [(path, _falling(shares) * (1 - NEXT_SHARE)) for path, shares in values.items()]))
    most = max(candidates.files.values(), default=0.0)
    found.append((CHANGES, [(path, score / most) for path, score in candidates.files.items() if score > 0]))
    paths = dict.fromkeys(path for _, pairs in found for path, _ in pairs)
    doubted = not candidates.query.mentions_tests
    ends = {path: _IN_TESTS if doubted and is_test_path(path) else () for path in paths}
    return _Seen.of(found, {path: _title(path, "") for path in paths}, ends, candidates.query)


def _falling(values: list[float]) -> float:
    """The sum of the best of them, each further one counting less."""
    if len(values) == 1:
        return values[0]
    values.sort(reverse=True)
    total: float = sum(map(mul, values, _COUNTS))
    return total


_COUNTS = tuple(NEXT_SHARE**number for number in range(8))
_IN_TESTS = ((TESTS, 1.0),)
_MOST_TITLES = 32_000  # read ones that are kept, about 1 KB each: those of a tree of 25,000 chunks; 10,000 to 100,000


@lru_cache(maxsize=20_000)
def _end(lines: int, in_tests: bool) -> tuple[tuple[str, float], ...]:
    """What a chunk's length and place tell."""
    return ((LONG, lines / LONG_LINES if lines < LONG_LINES else 1.0), *(_IN_TESTS if in_tests else ()))


@lru_cache(maxsize=_MOST_TITLES)
def _title(title: str, kind: str) -> _Title:
    """What a title, "path | qualified name | signature" or a bare path, and the kind of its symbol tell."""
    path = title.partition(" | ")[0]
    traits = []
    if _DOCUMENT_PATH.search(path):
        traits.append(DOCUMENT)
    elif _HEADER_PATH.search(path):
        traits.append(HEADER)
    if kind in _FUNCTIONS:
        traits.append(FUNCTION)
    elif kind in _TYPES:
        traits.append(TYPE)
    return _Title(_roots(words(title)), tuple((trait, 1.0) for trait in traits))


def _roots(told: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_root, told))


@lru_cache(maxsize=100_000)
def _root(word: str) -> str:
    return _ENDING.sub("", word)


def _shares(source: SignalSource, found: Found) -> Found:
    """What an arm found, as shares of its best; what the symbol arm says is a share already."""
    if not found or source is SignalSource.SYMBOL:
        return found
    values = [raw for _, raw in found]
    best, floor = max(values), 0.0
    if source in _SIMILARITIES and min(values) < best:
        floor = min(values)
    if best <= floor:
        return ()
    span = best - floor
    return [(chunk, (raw - floor) / span if raw > floor else 0.0) for chunk, raw in found]


def _scores(seen: _Seen[_Key], block: Mapping[str, float]) -> dict[_Key, float]:
    """The weighted sums, of what was found by anything that counts."""
    weights = {name: weight for name, weight in block.items() if weight}
    scores: dict[_Key, float] = {}
    for name, found in seen.found:
        if weight := weights.get(name):
            for key, value in found:
                scores[key] = scores.get(key, 0.0) + weight * value
    titles, said, most, ends = seen.titles, seen.said, seen.most, seen.ends
    for_title, for_told = weights.get(TITLE, 0.0), weights.get(TOLD, 0.0)
    for key, arms in scores.items():
        total, title, number = arms, titles[key], said[key]
        if number:
            total += for_title * (number / most)
            total += for_told * (number / len(title.roots))
        for name, value in title.traits:
            if name in weights:
                total += weights[name] * value
        for name, value in ends[key]:
            if name in weights:
                total += weights[name] * value
        scores[key] = total
    return scores


def _foremost(scores: Mapping[_Key, float], limit: int | None) -> Iterable[_Key]:
    """Those among which the best ``limit`` are, with all that tie with the last of them."""
    if limit is None or not 0 < limit < len(scores):
        return scores
    least = sorted(scores.values(), reverse=True)[limit - 1]
    return [key for key, score in scores.items() if score >= least]


def _told(
    features: Sequence[tuple[str, float]], block: Mapping[str, float], lift: float | None
) -> tuple[tuple[str, float], ...]:
    told = [(name, block[name] * value) for name, value in features if block.get(name)]
    if lift is not None:
        told.append((EXACT, lift))
    return tuple(told)


def _lifts(levels: Mapping[_Key, int], scores: Mapping[_Key, float]) -> dict[_Key, float]:
    """What lifts each level above all scores of the level below; within a level the scores go on to decide."""
    step = 1.0 + max(0.0, *scores.values()) - min(0.0, *scores.values()) if scores else 1.0
    return {key: level * step for key, level in levels.items()}


def _levels(candidates: Candidates) -> dict[ChunkId, int]:
    """1 for the chunks of which the symbol arm is least sure, 2 for the next, and so on."""
    found = [(chunk, raw) for chunk, raw in candidates.arms.get(SignalSource.SYMBOL, ()) if chunk in candidates.places]
    order = {raw: number for number, raw in enumerate(sorted({raw for _, raw in found}), 1)}
    return {chunk: order[raw] for chunk, raw in found}
