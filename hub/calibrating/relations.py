"""Questions about relations whose whole answer the tables know: who calls, what derives, what overrides.

Only such symbols are asked about whose uses are all decided, so that the places below are the answer and no more.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from hub.calibrating.wording import related
from hub.labels import order_of
from hub.retrieval import is_test_path
from hub.tables import Relation
from indexer.errors import Cancelled
from indexer.index import Index
from indexer.model import Edge, Provenance, ReferenceKind, Span, Symbol, SymbolId, SymbolKind

MOST_ASKED = 30  # of each relation; 10 to 100
MOST_TRIED = 600  # symbols looked at for each relation
MOST_PLACES = 8  # of an answer; with more nobody asks for all of them. 3 to 20

_CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)
_BASE = (ReferenceKind.BASE,)
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD})
_CLASSES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT})
_SUBJECTS = {
    Relation.CALLERS: _FUNCTIONS,
    Relation.CALLEES: _FUNCTIONS,
    Relation.DERIVED: _CLASSES,
    Relation.OVERRIDERS: frozenset({SymbolKind.METHOD}),
}


@dataclass(frozen=True, slots=True)
class Related:
    """A question; ``places`` are the lines that make its answer, sorted."""

    question: str
    about: str
    places: tuple[Span, ...]


def relation_questions(
    index: Index, symbols: Sequence[Symbol], seed: int, cancelled: Callable[[], bool]
) -> Iterator[Related]:
    """For each relation up to MOST_ASKED questions. Deterministic. Raises Cancelled."""
    owners: dict[str, set[str]] = {}
    ids: dict[str, dict[SymbolId, Symbol]] = {}
    for symbol in symbols:
        owners.setdefault(symbol.name, set()).add(symbol.qualified_name)
        ids.setdefault(symbol.qualified_name, {})[symbol.id] = symbol
    for relation, kinds in _SUBJECTS.items():
        names = {
            symbol.qualified_name
            for symbol in symbols
            if symbol.kind in kinds
            and symbol.is_definition
            and symbol.name.isidentifier()
            and not is_test_path(symbol.span.path)
        }
        asked = 0
        for name in sorted(names, key=lambda name: (order_of(seed, f"{relation}\0{name}"), name))[:MOST_TRIED]:
            if asked == MOST_ASKED:
                break
            if cancelled():
                raise Cancelled("Stopped; the index of the tree is as it was.")
            edges = _edges(index, relation, ids[name])
            places = tuple(sorted({Span(edge.path, edge.line, edge.line) for edge in edges}))
            if not edges or len(places) > MOST_PLACES or any(edge.how is Provenance.BY_NAME for edge in edges):
                continue
            bare = next(iter(ids[name].values())).name
            asked += 1
            yield Related(related(relation, bare if len(owners[bare]) == 1 else name, seed), name, places)


def _edges(index: Index, relation: Relation, meant: dict[SymbolId, Symbol]) -> Collection[Edge]:
    facts, lineage = index.facts, index.graph.lineage
    names = {identifier: symbol.name for identifier, symbol in meant.items()}
    match relation:
        case Relation.CALLERS:
            return facts.edges(facts.uses_of(names, _CALLS) + facts.guesses_at(names, _CALLS))
        case Relation.CALLEES:
            return facts.edges(facts.uses_in(names, _CALLS))
        case Relation.DERIVED:
            return facts.edges(facts.uses_of(names, _BASE) + facts.guesses_at(names, _BASE))
        case _:
            return lineage.edges(lineage.overriders_of(names))
