"""More of what was found, for a prompt that has room: looks deeper, one step further, and asks a second time.

What the first hits tell is asked for again: what they lead to, the rest of their files, what stands in a relation to
the symbols that a question names, the words that none of them has, and the names that a draft answer left open (a
second round out of what the first one found as in RepoCoder: Zhang and others, EMNLP 2023; here without a model). The
order is total, and every hit tells the arithmetic of its score. Knows nothing of prompts, budgets and confidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import NamedTuple

from hub.model import Hit, QuestionKind, SignalSource
from hub.retrieval import Candidates, Retrieval, Weights, fuse, gather, symbols_named
from hub.retrieval.fusion import signals_of
from indexer.index import Index, Reach
from indexer.model import ChunkId, Embedder, ReferenceKind, Span, Symbol

# How far is looked, each with its range.
KEPT = 100  # hits of the first round that no other may take the place of; 40 to 200
DEPTH = 400  # chunks of each arm; 100 to 1,000
LOOKED_AT = 40  # first hits that the second round starts from; 10 to 100
READ = 12  # of them, whose text is read for the words of the question; 4 to 30
FILES = 12  # first files that are looked at whole; 3 to 40
FILE_CHUNKS = 400  # of these files together; 100 to 2,000
SOFTNESS = 2.0  # of the softmax that says how far a first hit is followed; 1 to 4
NAMED = 8  # symbols that the question names, whose relations are looked up; 1 to 20
RELATED = 60  # uses of each kind that are followed; 20 to 500
OPEN_NAMES = 16  # of a draft answer that are looked up; 4 to 64
MEANINGS = 5  # symbols of one such name; 1 to 20
WORDS_SHARE = 0.3  # of what defines such a name, what holding its words counts; 0 to 1
LEAST_MASS = 1e-4  # of the most that a walk leaves anywhere, where it counts nothing; 1e-6 to 0.01
FILE_RANGE = 10.0  # of scores below that of the best file, where a file counts nothing; 4 to 20

# What a chunk's score is made of beside its parts of the first round, each in 0..1.
LINKED = "linked"  # the first hits lead there: log of a walk's mass
FILE = "file"  # the file is among the best: by its score
FIRST_FILES = "first files"  # likewise, by its rank
LEADS = "leads"  # the best of its file
RELATION = "related"  # stands in a relation to what the question names
LACKED = "lacked"  # has words of the question that the first hits lack
OPEN = "left open"  # has names that a draft answer left open

Told = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Share:
    """What the first round's score and each feature of the second count. The sum is in log odds."""

    first: float
    second: Mapping[str, float]


# Fitted on 860 descriptions, bodies and commits of glog, benchmark, jsoncpp, oatpp, libzmq and taglib as conditional
# logits (McFadden 1974) of the chunk that answers, none below 0. Range 0 to 6. What a draft left open is a judgement,
# for no question of theirs has one.
PROSE = Share(0.64, {LINKED: 1.42, FILE: 0.6, FIRST_FILES: 0.47, LEADS: 0.59, RELATION: 0.59, LACKED: 0.4, OPEN: 4.0})
CHANGE = Share(
    0.51, {LINKED: 0.52, FILE: 2.09, FIRST_FILES: 0.74, LEADS: 1.83, RELATION: 0.85, LACKED: 0.28, OPEN: 4.0}
)


class Features(NamedTuple):
    """Everything that scores are made of, for each chunk that either round found."""

    candidates: Candidates  # of the arms, as deep as they were asked
    places: Mapping[ChunkId, Span]
    first: Mapping[ChunkId, tuple[tuple[str, float], ...]]  # contributions of the first round
    told: Mapping[ChunkId, Told]  # of the second, by name


def widen(
    index: Index, retrieval: Retrieval, embedders: Sequence[Embedder], limit: int, unresolved: Sequence[str] = ()
) -> Retrieval:
    """The retrieval with the best ``limit`` hits of two rounds, best first. The first KEPT of it are among them always.

    ``unresolved`` are names that a draft answer left open. An embedder that fails costs its arm and leaves a note.
    """
    found = features(index, retrieval, embedders, unresolved)
    share = CHANGE if retrieval.query.kind is QuestionKind.CHANGE else PROSE
    contributions = {chunk: _contributions(first, found.told[chunk], share) for chunk, first in found.first.items()}
    scores = {chunk: sum(value for _, value in told) for chunk, told in contributions.items()}
    order = sorted(scores, key=lambda chunk: (-scores[chunk], found.places[chunk], chunk))
    before = {hit.chunk.id for hit in retrieval.hits[:KEPT]}
    left = limit - len(before)
    chosen = []
    for chunk in order:
        if chunk in before:
            chosen.append(chunk)
        elif left > 0:
            chosen.append(chunk)
            left -= 1
    signals = signals_of(found.candidates, chosen)
    cards = index.catalogue.cards(chosen)
    hits = tuple(
        Hit(
            chunk,
            scores[chunk.id],
            tuple(signals[chunk.id]),
            contributions[chunk.id],
            cards[chunk.id].name,
            cards[chunk.id].kind,
        )
        for chunk in index.table.chunks(chosen)
    )
    return replace(retrieval, hits=hits, arms=found.candidates.arms, notes=found.candidates.notes)


def _contributions(first: Sequence[tuple[str, float]], told: Told, share: Share) -> tuple[tuple[str, float], ...]:
    second = [(name, weight * told[name]) for name, weight in share.second.items() if told.get(name)]
    return (*((name, share.first * value) for name, value in first), *second)


def features(index: Index, retrieval: Retrieval, embedders: Sequence[Embedder], unresolved: Sequence[str]) -> Features:
    """What both rounds find for a question, before it is weighed."""
    candidates = gather(index, retrieval.query, embedders, DEPTH)
    told: dict[ChunkId, dict[str, float]] = {}
    hits = retrieval.hits[:LOOKED_AT]
    for name, found in (
        (LINKED, _linked(index, hits)),
        (RELATION, dict.fromkeys(_related(index, retrieval.named), 1.0)),
        (LACKED, _lacked(index, retrieval, hits[:READ])),
        (OPEN, _open(index, unresolved)),
        (FILE, dict.fromkeys(_whole_files(index, retrieval), 0.0)),
    ):
        for chunk, value in found.items():
            told.setdefault(chunk, {})[name] = value
    both = _together(index, candidates, told, retrieval.weights)
    fused = fuse(both, retrieval.weights)
    ranks = {path: number for number, (path, _) in enumerate(retrieval.files)}
    scores = dict(retrieval.files)
    best = max(scores.values(), default=0.0)
    led: set[str] = set()
    for entry in fused:
        path = both.places[entry.chunk].path
        row = told.setdefault(entry.chunk, {})
        if path in ranks:
            row[FILE] = max(0.0, 1 - (best - scores[path]) / FILE_RANGE)
            row[FIRST_FILES] = 1 / (1 + ranks[path])
        if path not in led:
            led.add(path)
            row[LEADS] = 1.0
    return Features(candidates, both.places, {entry.chunk: entry.contributions for entry in fused}, told)


def _linked(index: Index, hits: Sequence[Hit]) -> dict[ChunkId, float]:
    """Where a walk from the first hits comes by."""
    if not hits:
        return {}
    best = max(hit.score for hit in hits)
    seeds = [(hit.chunk.id, exp((hit.score - best) / SOFTNESS)) for hit in hits]
    walked = index.walk.from_chunks(seeds, DEPTH)
    most = walked[0][1] if walked else 0.0
    return {chunk: max(0.0, 1 - log(mass / most) / log(LEAST_MASS)) for chunk, mass in walked if mass > 0}


def _related(index: Index, named: Sequence[Symbol]) -> list[ChunkId]:
    """Callers and callees of the symbols that the question names."""
    ids = list(dict.fromkeys(symbol.id for symbol in named))[:NAMED]
    if not ids:
        return []
    reach = Reach(1, kinds=(ReferenceKind.CALL, ReferenceKind.MACRO, ReferenceKind.NAME))
    callers = [step.edge for step in index.graph.callers(ids, reach)[:RELATED]]
    callees = [step.edge.target_id for step in index.graph.callees(ids, reach)[:RELATED] if step.edge.target_id]
    places = [Span(edge.path, edge.line, edge.line) for edge in callers]
    places += [
        Span(s.span.path, s.span.first_line, s.span.first_line) for s in index.facts.names.by_ids(callees)[:RELATED]
    ]
    return _at(index, places)


def _lacked(index: Index, retrieval: Retrieval, hits: Sequence[Hit]) -> dict[ChunkId, float]:
    """Chunks with the words of the question that the first hits lack."""
    if retrieval.wording is None:
        return {}
    known = {stem for hit in hits for stem in index.text.stems(f"{hit.chunk.title} {hit.chunk.text}")}
    words = [term.word for term in retrieval.wording.terms if term.holding and term.stem not in known]
    return _searched(index, words)


def _open(index: Index, unresolved: Sequence[str]) -> dict[ChunkId, float]:
    """Chunks that define the names, or else hold their words."""
    names = list(dict.fromkeys(unresolved))[:OPEN_NAMES]
    places = [symbol.span for name in names for symbol in symbols_named(index, name, MEANINGS)]
    found = {chunk: WORDS_SHARE * value for chunk, value in _searched(index, names).items()}
    found |= dict.fromkeys(_at(index, [Span(p.path, p.first_line, p.first_line) for p in places]), 1.0)
    return found


def _searched(index: Index, words: Sequence[str]) -> dict[ChunkId, float]:
    found = index.text.search(" ".join(words), DEPTH) if words else []
    return {chunk: value / found[0][1] for chunk, value in found}


def _whole_files(index: Index, retrieval: Retrieval) -> list[ChunkId]:
    """The chunks of the best files."""
    found: list[ChunkId] = []
    for path, _ in retrieval.files[:FILES]:
        found += [chunk.id for chunk in index.table.chunks_of(path)]
        if len(found) > FILE_CHUNKS:
            break
    return found[:FILE_CHUNKS]


def _at(index: Index, places: Iterable[Span]) -> list[ChunkId]:
    return list(dict.fromkeys(chunk.id for place in dict.fromkeys(places) for chunk in index.table.chunks_at(place)))


def _together(index: Index, candidates: Candidates, told: Mapping[ChunkId, Told], weights: Weights) -> Candidates:
    """The candidates with what only the second round found: as if an arm had found it that says 0 of it."""
    known = candidates.places
    cards = index.catalogue.cards(sorted(chunk for chunk in told if chunk not in known))
    counting = weights.of(candidates.query)
    arm = next((source for source in _CARRIERS if counting.get(source.value)), SignalSource.GRAPH)
    found = candidates.arms.get(arm) or [(_NOBODY, 1.0)]  # shares are of the best, so there must be one
    return replace(
        candidates,
        arms={**candidates.arms, arm: [*found, *((chunk, 0.0) for chunk in cards)]},
        places={**known, **{chunk: card.place for chunk, card in cards.items()}},
        titles={**candidates.titles, **{chunk: card.title for chunk, card in cards.items()}},
        kinds={**candidates.kinds, **{chunk: card.kind for chunk, card in cards.items()}},
    )


_CARRIERS = (SignalSource.GRAPH, SignalSource.LEXICAL, SignalSource.HISTORY, SignalSource.PLACE)
_NOBODY = ChunkId("")  # stands nowhere, so fusion passes it over
