"""Answers questions about one workspace: search, symbols, relations, impact, ask. Knows nothing of who asks or how."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from hub import answering, impact, tables
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.confidence import LOOKED_AT, assess
from hub.errors import BackendError, BackendUnavailable, PromptTooLong
from hub.fullload.loading import FullLoad, Loader
from hub.fullload.snapshots import Snapshots
from hub.fullload.warming import LoadsAnew, Warmth, ignore_progress, warm
from hub.fullload.window import FullLoads, patience_s
from hub.impact import Impact
from hub.model import (
    Answer,
    Backend,
    BackendInfo,
    Citation,
    Confidence,
    Event,
    Found,
    GenerationOptions,
    Hit,
    Piece,
    Prefill,
    Prompt,
    Tier,
    Understood,
    Usage,
)
from hub.prompting import assemble
from hub.retrieval import GLOBAL, Retrieval, is_bare_name, retrieve, understand, understood
from indexer.errors import EmbedderError
from indexer.index import FoundSymbols, Index, Match, Reach, Relative, Step, Told, order_of
from indexer.model import Edge, Embedder, Provenance, ReferenceKind, Span, Stamp, Symbol, SymbolId, SymbolKind

READ_HITS = 40  # hits offered to the prompt; 10 to 200
WIDE_PROMPT_TOKENS = 49_152  # of tier "wide": 32K to 64K, the lengths that models still read well (RULER)
# Seconds that an engine is asked to keep a model which has read a code base, and with it what it has read. Ollama's own
# 5 minutes are shorter than a cup of coffee, and reading 128K again takes 1 to 4. 600 to -1, which is for ever.
FULL_KEEP_ALIVE_S = 3600.0
CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)
USES = (*CALLS, ReferenceKind.TYPE, ReferenceKind.BASE, ReferenceKind.NAME)
MOST_NAMESAKES = 200
CLASSES = (SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION)

_TIERS = {None, Tier.EXACT, Tier.RAG, Tier.WIDE, Tier.FULL}
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class AskOptions:
    prompt_tokens: int = 0  # 0: what the backend reads well
    answer_tokens: int = 768
    adapt: bool = True  # rank with the weights that were fitted to the tree, where there are any


@dataclass(frozen=True, slots=True)
class SearchResult:
    query: str
    workspace: str
    stamp: Stamp
    confidence: Confidence
    hits: tuple[Hit, ...]
    notes: tuple[str, ...]
    files: tuple[tuple[str, float], ...]  # (path, score), best first
    understood: Understood


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a long answer is wanted."""

    limit: int | None = None  # None: all of it
    offset: int = 0


EVERYTHING = Page()


@dataclass(frozen=True, slots=True)
class Relations:
    """Edges of all symbols that a name may mean. ``symbols`` is empty when the tree has only uses of it."""

    symbols: tuple[Symbol, ...]
    steps: tuple[Step, ...]  # of the page asked for
    total: int
    offset: int = 0

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(step.edge for step in self.steps)


@dataclass(frozen=True, slots=True)
class ClassTree:
    """One class with what it derives from and what derives from it."""

    symbol: Symbol
    bases: tuple[Relative, ...]
    derived: tuple[Relative, ...]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the methods of a name override, and what overrides them."""

    symbols: tuple[Symbol, ...]
    overridden: tuple[Edge, ...]  # of the page asked for, which these come first in
    overriding: tuple[Edge, ...]
    total: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Includes:
    """The includes of a file, or those of it. ``path`` is None where the tree has no such file."""

    path: str | None
    steps: tuple[Step, ...]  # of the page asked for
    total: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    text: str
    citations: tuple[Citation, ...]
    confidence: Confidence
    tier: Tier
    info: BackendInfo
    usage: Usage = field(default_factory=Usage)
    notes: tuple[str, ...] = ()


def ignore_event(_event: Event) -> None:
    """For callers that wait for the whole answer."""


class Service:
    """One workspace and the models behind it. The models are made when they are first needed."""

    def __init__(
        self,
        index: Index,
        embedders: Callable[[], Iterable[Embedder]],
        backend: Callable[[], Backend],
        options: AskOptions,
        clock: Callable[[], float] = perf_counter,
        loader: Callable[[str], Loader] | None = None,
        snapshots: Callable[[], Snapshots | None] = lambda: None,
        deep: Callable[[], Backend] | None = None,
    ) -> None:
        """``loader`` has the full loads of a model by its name; without it tier "full" is refused. ``snapshots`` has
        what models have read of them, ``deep`` is the model that reads them where it is not that of the other tiers.
        """
        self._snapshots = snapshots
        self._make_deep = deep
        self._deep: Backend | None = None
        self._held = ""  # the full load that the backend was last made to read, if it was asked nothing else since
        self._full_loads = FullLoads(index, loader, options.answer_tokens) if loader else None
        self._index = index
        self._make_embedders = embedders
        self._make_backend = backend
        self._embedders: list[Embedder] | None = None
        self._backend: Backend | None = None
        self._options = options
        self._clock = clock

    @property
    def root(self) -> Path:
        """The folder whose tree is indexed."""
        return self._index.root

    def close(self) -> None:
        for backend in (self._backend, self._deep):
            if backend:
                backend.close()
        self._index.close()

    def search(self, text: str, limit: int) -> SearchResult:
        """The best hits with the confidence that they answer the text."""
        retrieval, confidence = self._look(text, max(limit, LOOKED_AT))
        hits = retrieval.hits[:limit]
        notes = (*retrieval.notes, *self._notes_on_age(hit.chunk.span.path for hit in hits))
        return SearchResult(
            text,
            self._index.workspace,
            self._index.stamp(),
            confidence,
            hits,
            notes,
            retrieval.files[:limit],
            understood(retrieval),
        )

    def lines(self, span: Span) -> str:
        """The lines of a span as they were indexed, each with its end; less where the file is shorter."""
        return "".join(
            line
            for chunk in self._index.table.chunks_at(span)
            for number, line in enumerate(_LINE.findall(chunk.text), chunk.span.first_line)
            if span.first_line <= number <= span.last_line
        )

    def symbols(self, name: str, limit: int) -> list[Symbol]:
        """Symbols of a name as a developer types it, the fullest match first."""
        return self._index.facts.symbols_named(name, limit)

    def find(self, name: str, page: Page, how: Match | None = None, kinds: tuple[SymbolKind, ...] = ()) -> FoundSymbols:
        """Symbols of a typed name, or else what is like it; says which. Raises QuestionError."""
        limit = MOST_NAMESAKES if page.limit is None else page.limit
        return self._index.facts.find(name, limit, page.offset, how, kinds)

    def references(self, name: str, page: Page = EVERYTHING) -> Relations:
        """Every use that may mean the name: calls, types, bases, macros, and names in expressions."""
        symbols = self._meant(name)
        if not symbols:
            return self._outside(name, USES, page)
        facts = self._index.facts
        targets = {symbol.id: symbol.name for symbol in symbols}
        edges = set(facts.edges(facts.uses_of(targets, USES) + facts.guesses_at(targets, USES)))
        steps = [Step(edge) for edge in sorted(edges, key=_surest_first)]
        told = {(edge.path, edge.line) for edge in edges if edge.kind in (ReferenceKind.NAME, ReferenceKind.CALL)}
        mentions = self._index.mentions.of(symbols)
        steps += [Step(mention.edge) for mention in mentions if (mention.edge.path, mention.edge.line) not in told]
        return _paged(symbols, steps, page)

    def callers(self, name: str, reach: Reach = Reach(), page: Page = EVERYTHING) -> Relations:  # noqa: B008 - frozen
        """What calls the functions of this name, and what calls that, to the depth asked for."""
        symbols = self._meant(name)
        if not symbols:
            return self._outside(name, CALLS, page)
        return _paged(symbols, self._index.graph.callers([symbol.id for symbol in symbols], reach), page)

    def callees(self, name: str, reach: Reach = Reach(), page: Page = EVERYTHING) -> Relations:  # noqa: B008 - frozen
        """What the functions of this name call, and what that calls, to the depth asked for."""
        symbols = self._meant(name)
        return _paged(symbols, self._index.graph.callees([symbol.id for symbol in symbols], reach), page)

    def hierarchy(self, name: str) -> tuple[ClassTree, ...]:
        """The classes of this name, each with its bases and what derives from it."""
        lineage = self._index.graph.lineage
        classes = [symbol for symbol in self.symbols(name, MOST_NAMESAKES) if symbol.kind in CLASSES]
        return tuple(ClassTree(s, lineage.bases(s), lineage.derived(s)) for s in _distinct(classes))

    def overrides(self, name: str, page: Page = EVERYTHING) -> Overrides:
        """What the methods of this name override, and what overrides them, through all generations."""
        lineage = self._index.graph.lineage
        kinds = (SymbolKind.METHOD, SymbolKind.DESTRUCTOR)
        symbols = [symbol for symbol in self.symbols(name, MOST_NAMESAKES) if symbol.kind in kinds]
        ids = {symbol.id for symbol in symbols}
        up = [Step(edge) for edge in lineage.edges(lineage.overrides_of(ids))]
        down = [Step(edge) for edge in lineage.edges(lineage.overriders_of(ids))]
        shown = _part(up + down, page)
        first = max(0, len(up) - page.offset)
        edges = tuple(step.edge for step in shown)
        return Overrides(tuple(symbols), edges[:first], edges[first:], len(up) + len(down), page.offset)

    def includes(self, file: str, depth: int = 1, page: Page = EVERYTHING) -> Includes:
        """What a file includes, given by its path or the end of it. Raises QuestionError where several are meant."""
        return self._included(file, page, lambda path: self._index.graph.includes(path, depth))

    def included_by(self, file: str, depth: int = 1, page: Page = EVERYTHING) -> Includes:
        """What includes a file, as ``includes``."""
        return self._included(file, page, lambda path: self._index.graph.included_by(path, depth))

    def history(self, name: str, page: Page = EVERYTHING) -> tuple[tuple[Told, ...], int]:
        """The commits that changed a file or a symbol, newest first, and how many there are."""
        told = self._index.commits.about(name)
        end = None if page.limit is None else page.offset + page.limit
        return tuple(told[page.offset : end]), len(told)

    def impact_of(self, names: Iterable[str], depth: int) -> Impact:
        """What a change of these symbols reaches. A name that nothing has is noted."""
        symbols: list[Symbol] = []
        notes = []
        for name in names:
            found = self._meant(name)
            symbols += found
            if not found:
                notes.append(f"Nothing is named {name}.")
        found_impact = impact.of_symbols(self._index, list(dict.fromkeys(symbols)), depth)
        return replace(found_impact, notes=(*notes, *found_impact.notes))

    def impact_of_diff(self, diff: str, depth: int) -> Impact:
        """What the changes of a unified diff reach, where its new side is the tree as indexed. Raises ChangeError."""
        found = impact.of_diff(self._index, diff, depth)
        indexed = [path for path in found.files if self._index.table.known_file(path)]
        return replace(found, notes=(*found.notes, *self._notes_on_age(indexed)))

    def ask(self, question: str, tier: Tier | None = None, on_event: Callable[[Event], None] = ignore_event) -> Answer:
        """Answers within a tier, or chooses exact or rag when it is None. Declines rather than guess.

        ``on_event`` is told of each step; the pieces it gets, joined, are the answer's text. A backend that fails
        leaves a note, and the evidence is the answer. Raises PromptTooLong when not even that fits its bounds, and in
        tier "full" BackendError where no model is there that can read a code base.
        """
        if tier not in _TIERS:
            raise ValueError(f"no answer comes from tier {tier}")
        started = self._clock()
        tried: list[Tier] = []
        outcome = None
        if tier in {None, Tier.EXACT}:
            tried.append(Tier.EXACT)
            outcome = self._from_tables(question, on_event)
        if outcome is None and tier is Tier.EXACT:
            reasons = ("The tables alone do not answer this; another tier may.",)
            outcome = _declined(Confidence(0.0, Tier.NONE, reasons), on_event)
        if outcome is None:
            retrieval, confidence = self._look(question, READ_HITS)
            if tier is Tier.FULL:
                tried.append(tier)
                outcome = self._from_everything(retrieval, confidence, on_event)
            elif confidence.tier is Tier.NONE:
                outcome = _declined(confidence, on_event)
            else:
                tried.append(tier or Tier.RAG)
                outcome = self._from_evidence(retrieval, confidence, tier or Tier.RAG, on_event)
        age = self._notes_on_age(citation.span.path for citation in outcome.citations)
        return Answer(
            question=question,
            text=outcome.text,
            confidence=outcome.confidence,
            tier=outcome.tier,
            tried=tuple(tried),
            citations=outcome.citations,
            backend=outcome.info.name,
            model=outcome.info.model,
            usage=outcome.usage,
            seconds=round(self._clock() - started, 3),
            stamp=self._index.stamp(),
            workspace=self._index.workspace,
            notes=(*outcome.notes, *age),
        )

    def _look(self, text: str, limit: int) -> tuple[Retrieval, Confidence]:
        embedders, notes = self._loaded_embedders()
        weights = None if self._options.adapt else GLOBAL
        query = understand(text)
        retrieval = retrieve(self._index, query, embedders, limit, weights)
        retrieval = replace(retrieval, notes=(*notes, *retrieval.notes))
        return retrieval, assess(retrieval, self._index.text.term_weights(query.wording), self._index.text.stems)

    def _loaded_embedders(self) -> tuple[list[Embedder], list[str]]:
        """The embedders that can be had and that the index has vectors of; otherwise why not, as a note."""
        known = self._index.table.embedders()
        if not known:
            return [], []
        notes: list[str] = []
        embedders = self._embedders
        if embedders is None:
            embedders = []
            try:
                for embedder in self._make_embedders():
                    embedders.append(embedder)
            except EmbedderError as error:
                which = "vectors of an encoder" if embedders else "vectors"
                notes = [f"Searched without {which}: {error.message} {error.hint}".strip()]
            else:
                self._embedders = embedders
        usable = [embedder for embedder in embedders if embedder.name in known]
        if embedders and not usable:
            names = " or ".join(embedder.name for embedder in embedders)
            notes.append(f"Searched without vectors: there are none of {names}. Run `codehub index`.")
        return usable, notes

    def _meant(self, name: str) -> list[Symbol]:
        """The symbols of a name, and the constructors of those that are classes."""
        symbols = self.symbols(name, MOST_NAMESAKES)
        classes = {symbol.qualified_name: symbol.name for symbol in symbols if symbol.kind in CLASSES}
        if not classes:
            return symbols
        made = self._index.facts.names.of_names(classes.values(), (SymbolKind.CONSTRUCTOR,))
        return list(dict.fromkeys([*symbols, *(symbol for symbol in made if symbol.scope in classes)]))

    def _outside(self, name: str, kinds: tuple[ReferenceKind, ...], page: Page) -> Relations:
        """The uses of a name that the tree does not declare."""
        return _paged((), [Step(edge) for edge in self._index.facts.edges_by_name(name, kinds)], page)

    def _included(self, file: str, page: Page, look: Callable[[str], list[Step]]) -> Includes:
        path = self._index.graph.file(file)
        steps = look(path) if path else []
        return Includes(path, _part(steps, page), len(steps), page.offset)

    def _from_tables(self, question: str, tell: Callable[[Event], None]) -> _Outcome | None:
        query = understand(question)
        asked = tables.relation_asked(question)
        if asked is None and is_bare_name(query):
            asked = (tables.Relation.DEFINITION, query.identifiers[0])
        found = tables.answer(self._index, *asked) if asked else None
        if found is None:
            return None
        confidence = Confidence(1.0, Tier.EXACT, ("Answered from the symbol table, without a model.",), calibrated=True)
        tell(Found(found.citations, confidence))
        tell(Piece(found.text))
        return _Outcome(found.text, found.citations, confidence, Tier.EXACT, _TABLES)

    def _from_evidence(
        self, retrieval: Retrieval, confidence: Confidence, tier: Tier, tell: Callable[[Event], None]
    ) -> _Outcome:
        notes = list(retrieval.notes)
        try:
            backend = self._writer()
            info, prompt = self._prompt(backend, retrieval, tier)
        except BackendError as error:
            notes.append(f"{error.message} {error.hint}".strip())
            backend = EvidenceOnlyBackend()
            info, prompt = self._prompt(backend, retrieval, tier)
        tell(Found(prompt.citations, confidence))
        if prompt.dropped and info.writes and not info.evidence_first:
            notes.append(
                f"The prompt of {prompt.tokens} tokens has no room for all: "
                f"{len(prompt.dropped)} pieces were left out or shortened."
            )
        options = GenerationOptions(max_tokens=self._options.answer_tokens)
        lexicon = self._lexicon(retrieval.query.text)
        self._held = self._held if self._deep else ""
        written = answering.write(retrieval.query.text, prompt, lexicon, backend, info, options, tell)
        return _Outcome(
            written.text, written.citations, confidence, tier, info, written.usage, (*notes, *written.notes)
        )

    def _from_everything(self, retrieval: Retrieval, confidence: Confidence, tell: Callable[[Event], None]) -> _Outcome:
        """The model reads the code base, then the evidence. It may answer where search found nothing."""
        loads, backend = self._loads(), self._reader()
        info, load = backend.info(), loads.current(backend)
        count, question = backend.count_tokens, retrieval.query.text
        prompt = assemble(question, retrieval.hits, loads.budget(backend, load), count, load.foundation(count))
        tell(Found(prompt.citations, confidence))
        notes = [*retrieval.notes, *load.notes]
        if load.left_out:
            names = ", ".join(load.left_out[:3]) + (" and others" if len(load.left_out) > 3 else "")
            notes.append(f"The window has no room for {len(load.left_out)} of the files, such as {names}.")
        if isinstance(backend, LoadsAnew) and (reason := backend.reload_ahead()):
            notes.append(reason)
        options = replace(_patient(backend, prompt), max_tokens=self._options.answer_tokens)
        if self._held != load.text and backend.capabilities().prefix_files and self._snapshots() is not None:
            notes += self._warm(backend, load, tell).notes
        lexicon = replace(self._lexicon(question), place=load.place)
        written = answering.write(question, prompt, lexicon, backend, info, options, tell)
        if not written.text:
            tell(Piece(_NOTHING_SAID))
        text = written.text or _NOTHING_SAID
        tier = Tier.FULL if written.text else Tier.NONE
        return _Outcome(text, written.citations, confidence, tier, info, written.usage, (*notes, *written.notes))

    def full_load(self) -> FullLoad:
        """The code base as tier "full" shows it now: how its prompts begin. Raises BackendError."""
        return self._loads().current(self._reader())

    def warm(self, tell: Callable[[Prefill], None] = ignore_progress) -> Warmth:
        """Has the model read what every prompt of tier "full" begins with, so that a question waits for its own tokens.

        Where a compaction is due, what it comes to is read instead and taken from then on. Raises BackendError.
        """
        loads, backend = self._loads(), self._reader()
        following = loads.prepared(backend)
        warmth = self._warm(backend, following or loads.current(backend), tell)
        if following:
            loads.adopt(backend)
        return warmth

    def _warm(self, backend: Backend, load: FullLoad, tell: Callable[[Prefill], None]) -> Warmth:
        prefix = load.prompt(backend.count_tokens)
        options = _patient(backend, prefix)
        label = self._index.workspace
        warmth = warm(backend, prefix, options, snapshots=self._snapshots(), label=label, tell=tell)
        self._held = load.text
        return warmth

    def _loads(self) -> FullLoads:
        if self._full_loads is None:
            raise BackendUnavailable("Nothing keeps the whole code base ready to be read.", "Ask with another tier.")
        return self._full_loads

    def _writer(self) -> Backend:
        if self._backend is None:
            self._backend = self._make_backend()
        return self._backend

    def _reader(self) -> Backend:
        """Who reads the whole code base."""
        if self._make_deep is None:
            return self._writer()
        if self._deep is None:
            self._deep = self._make_deep()
        return self._deep

    def _lexicon(self, question: str) -> answering.Lexicon:
        index = self._index
        return answering.Lexicon(
            index.text.term_weights(question),
            index.text.stems,
            lambda name: index.text.holds(name) or bool(index.facts.symbols_named(name, 1)),
        )

    def _prompt(self, backend: Backend, retrieval: Retrieval, tier: Tier) -> tuple[BackendInfo, Prompt]:
        """What the backend is, and a prompt that fits it and holds evidence. Raises BackendError."""
        info = backend.info()
        # A model that may only follow the evidence reads one quote of it; the rest is for the user, as without a model.
        reader: Backend = EvidenceOnlyBackend() if info.evidence_first else backend
        limits = reader.info()
        room = limits.context_window - self._options.answer_tokens
        wanted = WIDE_PROMPT_TOKENS if tier is Tier.WIDE else self._options.prompt_tokens or limits.prompt_tokens
        budget = min(wanted, room)
        prompt = assemble(retrieval.query.text, retrieval.hits, budget, reader.count_tokens)
        if not prompt.citations:
            raise PromptTooLong(
                f"No piece of evidence fits a prompt of {budget} tokens.",
                "Allow a longer prompt or a shorter answer.",
            )
        return info, prompt

    def _notes_on_age(self, paths: Iterable[str]) -> list[str]:
        changed = self._index.changed_since(paths)
        if not changed:
            return []
        names = ", ".join(changed[:3]) + (" and others" if len(changed) > 3 else "")
        return [f"Changed since it was indexed: {names}. Run `codehub index` to refresh."]


_NOTHING_SAID = "Not found. The model said nothing that could be checked, and search found no evidence to quote."
_TABLES = BackendInfo("symbol table", "none", 0, 0, writes=False)
_NOBODY = BackendInfo("none", "none", 0, 0, writes=False)


def _patient(backend: Backend, prompt: Prompt) -> GenerationOptions:
    """How to ask for what is read for minutes: with its progress, and the model is kept for the next question."""
    can = backend.capabilities()
    return GenerationOptions(
        timeout_s=max(GenerationOptions().timeout_s, patience_s(prompt.tokens)),
        progress=can.progress,
        keep_alive_s=FULL_KEEP_ALIVE_S if can.keep_alive else None,
    )


def _declined(confidence: Confidence, tell: Callable[[Event], None]) -> _Outcome:
    text = f"Not found. {' '.join(confidence.reasons)}"
    tell(Found((), confidence))
    tell(Piece(text))
    return _Outcome(text, (), confidence, Tier.NONE, _NOBODY)


def _distinct(symbols: Iterable[Symbol]) -> list[Symbol]:
    """The first symbol of each id: a declaration and its definition have the same edges."""
    found: dict[SymbolId, Symbol] = {}
    for symbol in symbols:
        found.setdefault(symbol.id, symbol)
    return list(found.values())


def _surest_first(edge: Edge) -> tuple[object, ...]:
    return (edge.how is Provenance.BY_NAME, *order_of(edge))


def _part(steps: list[Step], page: Page) -> tuple[Step, ...]:
    return tuple(steps[page.offset :] if page.limit is None else steps[page.offset : page.offset + page.limit])


def _paged(symbols: Iterable[Symbol], steps: list[Step], page: Page) -> Relations:
    return Relations(tuple(symbols), _part(steps, page), len(steps), page.offset)
