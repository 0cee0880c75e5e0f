"""Asks every arm of retrieval for the chunks it would answer with. How they are fused it asks ``fusion``, once, to know
where the graph is entered.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from hub.model import Query, QuestionKind, SignalSource
from hub.retrieval.candidates import Candidates, Found
from hub.retrieval.fusion import GLOBAL, fuse
from hub.retrieval.narrowing import Narrowing
from hub.retrieval.places import resolve
from indexer.errors import EmbedderError
from indexer.index import Form, Index, Match, everywhere
from indexer.model import ChunkId, Embedder, Span, Symbol, SymbolKind

CANDIDATES = 100  # of each arm; 50 to 1,000: what stands at rank 100 of both arms is below the tenth of either
FILES = 50  # of the history; 20 to 200
SYMBOLS_A_NAME = 20  # overloads and namesakes looked at; 5 to 100
SEED_DEPTH = 40  # of each other arm, looked at for seeds; 20 to 100
SEEDS = 20  # first hits of the other arms from which the graph is entered; 5 to 50
# Raw scores of the symbol arm, where a definition of a name as it is typed has 1. Each 0 to 1, in this order.
NAMESAKE_SHARE = 0.9  # of what has the name in a scope of its own, where something has it without one
DECLARATION_SHARE = 0.5
SUGGESTED_SHARE = 0.4  # of a name that is like one which stands nowhere
SPELT_SHARE = 0.3  # of a name that the question spells out in words
SUGGESTED_NAMES = 2  # names of a question for which others like them are looked for: each takes up to 0.1 s; 1 to 4
SUGGESTIONS = 5  # symbols that one such name may have meant
LEAST_SUGGESTED = 4  # letters: shorter names are like too many others
MOST_EMBEDDED_CHARS = 8_000  # of a question; encoders read 1,000 to 30,000

_SPELT_KINDS = frozenset(
    {SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.ENUM, SymbolKind.MACRO}
)


def gather(
    index: Index,
    query: Query,
    embedders: Sequence[Embedder],
    depth: int = CANDIDATES,
    narrowing: Narrowing | None = None,
) -> Candidates:
    """What each arm found, ``depth`` chunks at most, of those that a search is narrowed to.

    An embedder that fails costs its arm and leaves a note.
    """
    within = narrowing.chunks if narrowing else None
    holds = narrowing.holds if narrowing else everywhere
    named, unknown, ambiguous = _named_symbols(index, query)
    arms: dict[SignalSource, Found] = {}
    notes: list[str] = []
    if query.paste and (placed := _within(resolve(index, query.paste), within)):
        arms[SignalSource.PLACE] = placed
    form = Form.MESSAGE if query.kind is QuestionKind.CHANGE else Form.QUESTION
    wording = index.text.wording(query.wording, form)
    meant, suggested = _symbols_meant(index, query, named, wording.compounds, unknown)
    notes += suggested
    if meant := _within(meant, within)[:CANDIDATES]:
        arms[SignalSource.SYMBOL] = meant
    arms[SignalSource.LEXICAL] = index.text.search(query.wording, depth, form, within)
    for embedder in embedders if query.terms else ():  # an empty text is near to anything
        source = SignalSource.STATIC if embedder.name.startswith("static") else SignalSource.VECTOR
        try:
            vector = embedder.embed_query(query.wording[:MOST_EMBEDDED_CHARS])
            near = index.neighbours(embedder.name, vector, depth, within)
        except EmbedderError as error:
            notes.append(f"Searched without vectors: {error.message}")
            continue
        if near:
            arms[source] = near
        notes += [note for note in index.vector_notes() if note not in notes]
    files: Mapping[str, float] = {}
    if query.terms:
        files = dict(index.commits.search(query.wording, FILES, holds))
        if files and (told := _within(index.commits.chunks(query.wording, depth, holds), within)):
            arms[SignalSource.HISTORY] = told

    # With the weights that ship, so that candidates do not depend on what was fitted.
    first = {source: found[:SEED_DEPTH] for source, found in arms.items()}
    seeds = fuse(_described(index, Candidates(query, first, {})), GLOBAL, SEEDS)
    walked = index.walk.from_chunks([(seed.chunk, seed.score) for seed in seeds], depth, within)
    if walked:
        arms[SignalSource.GRAPH] = walked
    found = Candidates(
        query,
        arms,
        places={},
        named=tuple(named),
        unknown=unknown,
        ambiguous=ambiguous,
        files=files,
        wording=wording,
        notes=tuple(notes),
    )
    return _described(index, found)


def _within(found: Found, chunks: Collection[ChunkId] | None) -> Found:
    return found if chunks is None else [pair for pair in found if pair[0] in chunks]


def _described(index: Index, candidates: Candidates) -> Candidates:
    """The candidates with where each stands and what it shows."""
    cards = index.catalogue.cards(list(dict.fromkeys(chunk for arm in candidates.arms.values() for chunk, _ in arm)))
    return replace(
        candidates,
        places={chunk: card.place for chunk, card in cards.items()},
        titles={chunk: card.title for chunk, card in cards.items()},
        kinds={chunk: card.kind for chunk, card in cards.items()},
    )


def symbols_named(index: Index, name: str, limit: int) -> list[Symbol]:
    """Symbols of a name as a developer types it, best first; headings of documents only where no code has the name."""
    symbols = index.facts.symbols_named(name, limit)
    return [symbol for symbol in symbols if symbol.kind is not SymbolKind.SECTION] or symbols


def _named_symbols(index: Index, query: Query) -> tuple[list[Symbol], tuple[str, ...], tuple[tuple[str, int], ...]]:
    named: list[Symbol] = []
    unknown: list[str] = []
    ambiguous: list[tuple[str, int]] = []
    for identifier in query.identifiers:
        symbols = symbols_named(index, identifier, SYMBOLS_A_NAME)
        # Half of a trace is of other libraries, which says nothing of what is known of this one.
        if not symbols and not query.paste and not _stands_somewhere(index, identifier):
            unknown.append(identifier)
        meanings = len({symbol.id for symbol in symbols})
        if meanings > 1:
            ambiguous.append((identifier, meanings))
        named += [symbol for symbol in symbols if symbol not in named]
    return named, tuple(unknown), tuple(ambiguous)


def _stands_somewhere(index: Index, identifier: str) -> bool:
    """Whether texts hold the identifier's parts as words: arguments of macros, file names, words of comments."""
    parts = identifier.rpartition("/")[2].partition(".")[0].split("::")
    return all(index.text.holds(part) for part in parts if part)


def _symbols_meant(
    index: Index, query: Query, named: Sequence[Symbol], spelt: Sequence[str], unknown: Sequence[str]
) -> tuple[Found, list[str]]:
    """The chunks of the symbols that a question names, spells out or may have meant, and notes on the latter."""
    found: dict[ChunkId, float] = {}
    notes = []
    typed = {name.removeprefix("::") for name in query.identifiers}
    whole = {symbol.name for symbol in named if symbol.qualified_name in typed}
    for symbol in named:
        namesake = symbol.name in whole and symbol.qualified_name not in typed
        _put(index, [symbol], NAMESAKE_SHARE if namesake else 1.0, found)
    for name in spelt:
        _put(index, [s for s in symbols_named(index, name, SUGGESTIONS) if s.kind in _SPELT_KINDS], SPELT_SHARE, found)
    # A message may well name what its commit brought; a question that names what is nowhere has misspelt it.
    misspelt = () if query.kind is QuestionKind.CHANGE else unknown
    for name in [name for name in misspelt if len(name) >= LEAST_SUGGESTED][:SUGGESTED_NAMES]:
        like = index.facts.find(name, SUGGESTIONS)
        if like.symbols and like.match in {Match.PREFIX, Match.FUZZY}:
            _put(index, like.symbols, SUGGESTED_SHARE, found)
            notes.append(f"Nothing is named {name}; {like.symbols[0].qualified_name} is like it.")
    return sorted(found.items(), key=lambda item: (-item[1], item[0])), notes


def _put(index: Index, symbols: Sequence[Symbol], share: float, found: dict[ChunkId, float]) -> None:
    for symbol in symbols:
        start = Span(symbol.span.path, symbol.span.first_line, symbol.span.first_line)
        for chunk in index.table.chunks_at(start):
            raw = share if symbol.is_definition else share * DECLARATION_SHARE
            found[chunk.id] = max(raw, found.get(chunk.id, 0.0))
