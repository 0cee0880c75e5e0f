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
from typing import TypeVar

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
    features = chunk_features(candidates)
    scores = _scores(features, block)
    lifts: dict[ChunkId, float] = {}
    if candidates.query.kind is QuestionKind.NAME:
        lifts = _lifts(_levels(candidates), scores)
        for chunk, lift in lifts.items():
            scores[chunk] = scores.get(chunk, 0.0) + lift
    places = candidates.places
    best = sorted(scores, key=lambda chunk: (-scores[chunk], places[chunk], chunk))[:limit]
    return [Fused(chunk, scores[chunk], _told(features[chunk], block, lifts.get(chunk))) for chunk in best]


def rank_files(candidates: Candidates, weights: Weights) -> list[tuple[str, float]]:
    """(path, score) of the files that hold the candidates or that the history names, best first, equal ones by path."""
    files = _scores(file_features(candidates), dict(weights.files))
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
    places = candidates.places
    features: dict[ChunkId, list[tuple[str, float]]] = {}
    for source in sorted(candidates.arms):
        name = source.value
        for chunk, value in _shares(source, candidates.arms[source]):
            told = features.get(chunk)
            if told is not None:
                told.append((name, value))
            elif chunk in places:
                features[chunk] = [(name, value)]
    titles, kinds = candidates.titles, candidates.kinds
    read = {chunk: _title(titles.get(chunk) or places[chunk].path, kinds.get(chunk, "")) for chunk in features}
    _tell_titles(features, read, candidates)
    doubted = not candidates.query.mentions_tests
    for chunk, told in features.items():
        place = places[chunk]
        lines = place.last_line - place.first_line + 1
        told.append((LONG, lines / LONG_LINES if lines < LONG_LINES else 1.0))
        if doubted and is_test_path(place.path):
            told.append((TESTS, 1.0))
    return features


def file_features(candidates: Candidates) -> dict[str, list[tuple[str, float]]]:
    """The same for whole files. An arm's value is that of its best chunk, and ever less of each further one."""
    features: dict[str, list[tuple[str, float]]] = {}
    for source in sorted(candidates.arms):
        values: dict[str, list[float]] = defaultdict(list)
        for chunk, value in _shares(source, candidates.arms[source]):
            if chunk in candidates.places:
                values[candidates.places[chunk].path].append(value)
        for path, found in values.items():
            found.sort(reverse=True)
            total = sum(value * NEXT_SHARE**number for number, value in enumerate(found[:8]))
            features.setdefault(path, []).append((source.value, total * (1 - NEXT_SHARE)))
    most = max(candidates.files.values(), default=0.0)
    for path, score in candidates.files.items():
        if score > 0:
            features.setdefault(path, []).append((CHANGES, score / most))
    _tell_titles(features, {path: _title(path, "") for path in features}, candidates)
    for path, told in features.items():
        if not candidates.query.mentions_tests and is_test_path(path):
            told.append((TESTS, 1.0))
    return features


@lru_cache(maxsize=100_000)
def is_test_path(path: str) -> bool:
    """Whether a path says that it holds tests."""
    return _TEST_PATH.search(path) is not None


_FINDING = frozenset((*ARMS, CHANGES))


@dataclass(frozen=True, slots=True)
class _Title:
    roots: frozenset[str]
    traits: tuple[tuple[str, float], ...]


@lru_cache(maxsize=20_000)
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


def _tell_titles(
    features: Mapping[_Key, list[tuple[str, float]]], titles: Mapping[_Key, _Title], candidates: Candidates
) -> None:
    """Adds what the titles tell of the question, and of themselves."""
    asked = _roots(candidates.query.terms)
    said = {key: len(asked & title.roots) for key, title in titles.items()}
    most = max(said.values(), default=0)
    for key, told in features.items():
        title, number = titles[key], said[key]
        if number:
            told.append((TITLE, number / most))
            told.append((TOLD, number / len(title.roots)))
        told.extend(title.traits)


def _scores(features: Mapping[_Key, Sequence[tuple[str, float]]], block: Mapping[str, float]) -> dict[_Key, float]:
    """The weighted sums, of what was found by anything that counts."""
    weights = {name: weight for name, weight in block.items() if weight}
    finding = _FINDING.intersection(weights)
    scores = {}
    for key, told in features.items():
        # What found it stands first.
        if told[0][0] in finding or any(name in finding for name, _ in told):
            total = 0.0
            for name, value in told:
                if name in weights:
                    total += weights[name] * value
            scores[key] = total
    return scores


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
