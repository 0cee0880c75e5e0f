"""Finds the chunks that answer a question: exact symbols, BM25 and vectors, fused by rank.

Every hit carries the arithmetic of its score. The order is total, so the same index and question give the same hits.
Knows nothing of models that write, nor of how confident to be.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from hub.model import Hit, Query, Signal, SignalSource
from indexer.errors import EmbedderError
from indexer.index import Index, query_words
from indexer.model import ChunkId, Embedder, Span, Symbol, SymbolKind

# Constants of ranking, each with its range and source. RRF: Cormack, Clarke, Buettcher, SIGIR 2009. The weights are
# start values (dense 0.3 for symbol questions, 0.5 for prose), to be fitted on labels.
RRF_K = 60.0  # 10 to 100; 60 is the paper's
CANDIDATES = 100  # of each arm; 50 to 1,000: what stands at rank 100 of both arms is below the tenth of either
SYMBOLS_A_NAME = 20  # overloads and namesakes looked at; 5 to 100
WEIGHT_LEXICAL = 1.0
WEIGHT_VECTOR_PROSE = 0.5  # 0 to 1
WEIGHT_VECTOR_NAME = 0.3  # 0 to 1, where the question is a bare name
WEIGHT_SYMBOL_PROSE = 0.8  # 0 to 3; a name within a sentence is a hint among others
WEIGHT_SYMBOL_NAME = 4.0  # more than the other arms together: an exact name always comes first
TEST_FACTOR = 0.5  # 0.3 to 1; what stands in tests, unless the question is about tests
DECLARATION_FACTOR = 0.5  # 0.3 to 0.57; the share of the symbol arm that a declaration keeps: below 0.58 no other arms
# can lift it above a definition of the same bare name, of the 20 that are looked at

# The name of an operator function as it is typed, a part of other patterns.
OPERATOR = r"operator(?:\s*(?:\(\)|\[\]|[-+*/%^&|~!=<>,]{1,3})|\s+(?:new|delete)\b(?:\[\])?)"
_CODE_NAME = re.compile(
    r"`([^`]+)`"  # quoted by the writer
    rf"|((?:::)?[A-Za-z_]\w*(?:::(?:{OPERATOR}|~?[A-Za-z_]\w*))+)"  # qualified
    rf"|(\b{OPERATOR})"
    r"|(\b[A-Za-z]\w*_\w*\b|\b_\w+\b)"  # snake_case, kMember_, MACRO_NAME
    r"|(\b[a-z]+[A-Z]\w*\b|\b[A-Z]\w*[a-z]\w*[A-Z]\w*\b)"  # lowerCamel, UpperCamel with two humps
    r"|(\b[A-Z]{2,}[a-z]{2,}\w*\b)"  # DBImpl, but no plural such as URLs
    r"|(~?\b[A-Za-z_]\w*)(?=\(\))"  # called
)
_WORD = re.compile(r"~?[A-Za-z_]\w*")
_TEST_WORDS = frozenset({"test", "tests", "tested", "testing", "unittest", "benchmark", "benchmarks"})
_TEST_PATH = re.compile(
    r"(^|/)(tests?|testing|unittests?|benchmarks?)/|_(test|tests|unittest|bench)\.[^/]*$|(^|/)test_"
)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What was found, with what confidence needs to know beyond the hits."""

    query: Query
    hits: tuple[Hit, ...]
    named: tuple[Symbol, ...]  # symbols that the question names, best first
    unknown: tuple[str, ...]  # identifiers of the question that no symbol has and no text holds
    ambiguous: tuple[tuple[str, int], ...]  # (identifier, how many different symbols it may mean)
    arms: tuple[SignalSource, ...]  # the arms that took part
    notes: tuple[str, ...] = ()


def understand(text: str) -> Query:
    """Reads a question: its words, and the names in it that can only be code."""
    names = [next(group for group in match.groups() if group) for match in _CODE_NAME.finditer(text)]
    bare = text.strip()
    if not names and _WORD.fullmatch(bare):
        names = [bare]
    identifiers = tuple(dict.fromkeys(_uncalled(name.strip()) for name in names if _WORD.search(name)))
    terms = tuple(query_words(text))
    return Query(text, terms, identifiers, mentions_tests=not _TEST_WORDS.isdisjoint(terms))


def is_bare_name(query: Query) -> bool:
    """Whether the question is one name and nothing else."""
    return query.identifiers == (_uncalled(query.text.strip().strip("`").strip()),)


def _uncalled(name: str) -> str:
    """A name without the empty parentheses of a call; those of ``operator()`` belong to it."""
    return name if name.removesuffix("()").rstrip().endswith("operator") else name.removesuffix("()")


def retrieve(index: Index, query: Query, embedder: Embedder | None, limit: int) -> Retrieval:
    """The best ``limit`` chunks, best first. An embedder that fails costs its arm and leaves a note."""
    named, unknown, ambiguous = _named_symbols(index, query)
    arms: dict[SignalSource, list[tuple[ChunkId, float]]] = {}
    notes: list[str] = []
    if named:
        arms[SignalSource.SYMBOL] = _chunks_of(index, named)
    arms[SignalSource.LEXICAL] = index.text.search(query.text, CANDIDATES)
    if embedder and query.terms:  # an empty text is near to anything
        try:
            found = index.neighbours(embedder.name, embedder.embed_query(query.text), CANDIDATES)
        except EmbedderError as error:
            notes.append(f"Searched without vectors: {error.message}")
            found = []
        if found:
            arms[SignalSource.VECTOR] = found
    hits = _fuse(index, query, arms, limit)
    return Retrieval(query, hits, tuple(named), unknown, ambiguous, tuple(arms), tuple(notes))


def _named_symbols(index: Index, query: Query) -> tuple[list[Symbol], tuple[str, ...], tuple[tuple[str, int], ...]]:
    named: list[Symbol] = []
    unknown: list[str] = []
    ambiguous: list[tuple[str, int]] = []
    for identifier in query.identifiers:
        symbols = symbols_named(index, identifier, SYMBOLS_A_NAME)
        if not symbols and not _stands_somewhere(index, identifier):
            unknown.append(identifier)
        meanings = len({symbol.id for symbol in symbols})
        if meanings > 1:
            ambiguous.append((identifier, meanings))
        named += [symbol for symbol in symbols if symbol not in named]
    return named, tuple(unknown), tuple(ambiguous)


def symbols_named(index: Index, name: str, limit: int) -> list[Symbol]:
    """Symbols of a name as a developer types it, best first; headings of documents only where no code has the name."""
    symbols = index.facts.symbols_named(name, limit)
    return [symbol for symbol in symbols if symbol.kind is not SymbolKind.SECTION] or symbols


def _stands_somewhere(index: Index, identifier: str) -> bool:
    """Whether texts hold the identifier's parts as words: arguments of macros, file names, words of comments."""
    parts = identifier.rpartition("/")[2].partition(".")[0].split("::")
    return all(index.text.holds(part) for part in parts if part)


def _chunks_of(index: Index, symbols: Sequence[Symbol]) -> list[tuple[ChunkId, float]]:
    found: dict[ChunkId, float] = {}
    for symbol in symbols:
        start = Span(symbol.span.path, symbol.span.first_line, symbol.span.first_line)
        for chunk in index.table.chunks_at(start):
            share = 1.0 if symbol.is_definition else DECLARATION_FACTOR
            found[chunk.id] = max(share, found.get(chunk.id, 0.0))
    return sorted(found.items(), key=lambda item: -item[1])


def _fuse(
    index: Index, query: Query, arms: dict[SignalSource, list[tuple[ChunkId, float]]], limit: int
) -> tuple[Hit, ...]:
    """Weighted reciprocal rank fusion. The outcome does not depend on the order of the arms."""
    weights = _weights(query)
    signals: dict[ChunkId, list[Signal]] = {}
    for source in sorted(arms):
        for rank, (chunk, raw) in enumerate(arms[source], 1):
            signals.setdefault(chunk, []).append(Signal(source, rank, raw))
    places = index.table.places(list(signals))
    scored = {chunk: _score(query, place, signals[chunk], weights) for chunk, place in places.items()}
    best = sorted(places, key=lambda chunk: (-scored[chunk][0], places[chunk], chunk))[:limit]
    chunks = index.table.chunks(best)
    names = index.facts.names_of(found.symbol for found in chunks if found.symbol)
    hits = []
    for found in chunks:
        score, contributions = scored[found.id]
        named = names.get(found.symbol) if found.symbol else None
        name, kind = (named[0], named[1].value) if named else ("", "")
        hits.append(Hit(found, score, tuple(signals[found.id]), contributions, name, kind))
    return tuple(hits)


def _weights(query: Query) -> dict[SignalSource, float]:
    bare = is_bare_name(query)
    return {
        SignalSource.SYMBOL: WEIGHT_SYMBOL_NAME if bare else WEIGHT_SYMBOL_PROSE,
        SignalSource.LEXICAL: WEIGHT_LEXICAL,
        SignalSource.VECTOR: WEIGHT_VECTOR_NAME if bare else WEIGHT_VECTOR_PROSE,
    }


def _score(
    query: Query, place: Span, signals: Sequence[Signal], weights: dict[SignalSource, float]
) -> tuple[float, tuple[tuple[str, float], ...]]:
    """The score of a chunk and what it is the sum of."""
    contributions = [
        (signal.source.value, weights[signal.source] * _share(signal) / (RRF_K + signal.rank)) for signal in signals
    ]
    if is_test_path(place.path) and not query.mentions_tests:
        contributions.append(("in tests", -(1 - TEST_FACTOR) * sum(value for _, value in contributions)))
    return sum(value for _, value in contributions), tuple(contributions)


def _share(signal: Signal) -> float:
    """The symbol arm's own number is a share of its weight; those of the others only order."""
    return signal.raw if signal.source is SignalSource.SYMBOL else 1.0


@lru_cache(maxsize=100_000)
def is_test_path(path: str) -> bool:
    """Whether a path says that it holds tests."""
    return _TEST_PATH.search(path) is not None
