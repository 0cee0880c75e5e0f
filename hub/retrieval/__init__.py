"""Finds the chunks that answer a question: several arms, fused, and every hit with the arithmetic of its score.

The order is total, so the same index and question give the same hits. Knows nothing of models that write, nor of how
confident to be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hub.model import Hit, Query, SignalSource, Understood
from hub.retrieval.arms import gather, symbols_named
from hub.retrieval.candidates import Candidates, Found
from hub.retrieval.fusion import GLOBAL, Fused, Weights, fuse, is_test_path, rank_files, signals_of
from hub.retrieval.narrowing import MOST_PATH_CHARS, MOST_PATHS, Filters, narrowed
from hub.retrieval.query import OPERATOR, is_bare_name, understand
from indexer.index import Index, Wording
from indexer.model import Embedder, Symbol

__all__ = [
    "GLOBAL",
    "MOST_PATHS",
    "MOST_PATH_CHARS",
    "OPERATOR",
    "STORED_WEIGHTS",
    "Candidates",
    "Filters",
    "Found",
    "Retrieval",
    "Weights",
    "fuse",
    "gather",
    "is_bare_name",
    "is_test_path",
    "rank_files",
    "retrieve",
    "stored_weights",
    "symbols_named",
    "understand",
    "understood",
]


STORED_WEIGHTS = "fusion"  # what the weights fitted to a tree are called among the notes of its index


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What was found, with what confidence and an explanation need to know beyond the hits."""

    query: Query
    hits: tuple[Hit, ...]
    named: tuple[Symbol, ...]  # symbols that the question names, best first
    unknown: tuple[str, ...]  # identifiers of the question that no symbol has and no text holds
    ambiguous: tuple[tuple[str, int], ...]  # (identifier, how many different symbols it may mean)
    arms: Mapping[SignalSource, Found]  # all that each arm found, of the arms that took part
    notes: tuple[str, ...] = ()
    files: tuple[tuple[str, float], ...] = ()  # (path, score), best first
    wording: Wording | None = None  # how text search understood the question
    weights: Weights = GLOBAL


def retrieve(
    index: Index,
    query: Query,
    embedders: Sequence[Embedder],
    limit: int,
    weights: Weights | None = None,
    filters: Filters | None = None,
) -> Retrieval:
    """The best ``limit`` chunks and files, best first. An embedder that fails costs its arm and leaves a note.

    Without weights those that were fitted to the tree count, where there are any, else those that ship.
    """
    chosen = weights or stored_weights(index) or GLOBAL
    candidates = gather(index, query, embedders, narrowing=narrowed(index, filters) if filters else None)
    return Retrieval(
        query,
        _hits(index, candidates, fuse(candidates, chosen, limit)),
        candidates.named,
        candidates.unknown,
        candidates.ambiguous,
        candidates.arms,
        candidates.notes,
        tuple(rank_files(candidates, chosen)[:limit]),
        candidates.wording,
        chosen,
    )


def understood(retrieval: Retrieval) -> Understood:
    """How the question was read, to be shown."""
    query, wording = retrieval.query, retrieval.wording
    return Understood(
        kind=query.kind,
        words=tuple((term.word, term.weight) for term in wording.terms if term.holding) if wording else (),
        dropped=wording.dropped if wording else 0,
        names=query.identifiers,
        spelt=wording.compounds if wording else (),
        unknown=retrieval.unknown,
        paste=query.paste.kind if query.paste else None,
        found=tuple((source.value, len(found)) for source, found in sorted(retrieval.arms.items())),
        weights=tuple(sorted(retrieval.weights.of(query).items())),
        origin=retrieval.weights.origin,
    )


def stored_weights(index: Index) -> Weights | None:
    """The weights that were fitted to a tree; None where there are none, or of another version."""
    stored = index.table.note(STORED_WEIGHTS)
    return _loaded(stored) if stored else None


@lru_cache(maxsize=16)
def _loaded(stored: str) -> Weights | None:
    return Weights.loads(stored)


def _hits(index: Index, candidates: Candidates, best: Sequence[Fused]) -> tuple[Hit, ...]:
    scored = {fused.chunk: fused for fused in best}
    signals = signals_of(candidates, scored)
    chunks = index.table.chunks(list(scored))
    cards = index.catalogue.cards(list(scored))
    hits = []
    for found in chunks:
        fused = scored[found.id]
        card = cards[found.id]
        hits.append(Hit(found, fused.score, tuple(signals[found.id]), fused.contributions, card.name, card.kind))
    return tuple(hits)
