"""Answers questions about one workspace: search, symbols, relations, impact, ask. Knows nothing of who asks or how."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock
from time import perf_counter
from typing import NamedTuple

from hub import impact
from hub.asking import (
    Analyst,
    Asking,
    AskOptions,
    Engines,
    Looking,
    Note,
    Paces,
    Sources,
    Tiers,
    close,
    notes_on,
    notes_on_age,
)
from hub.changes import Shelf
from hub.confidence.heads import Heads
from hub.evidence.pieces import pieces
from hub.evidence.widening import widen
from hub.following import Stamped, stamped
from hub.fullload.loading import FullLoad, Loader
from hub.fullload.snapshots import Snapshots
from hub.fullload.warming import Warmth, ignore_progress
from hub.impact import GROUPS, Impact, Reached
from hub.model import (
    Answer,
    Backend,
    Confidence,
    Event,
    Hit,
    Policy,
    Prefill,
    Prompt,
    SearchResult,
    Tier,
    Understood,
)
from hub.prompting import Passage
from hub.retrieval import MOST_PATH_CHARS, MOST_PATHS, Filters, Retrieval, is_test_path, understood
from hub.why import Story, why
from indexer.index import FoundSymbols, Index, Match, Reach, Relative, Step, Told, order_of
from indexer.model import Edge, Embedder, Provenance, ReferenceKind, Span, Stamp, Symbol, SymbolId, SymbolKind

__all__ = [
    "CLASSES",
    "EVERYTHING",
    "GROUPS",
    "MOST_PATHS",
    "MOST_PATH_CHARS",
    "AskOptions",
    "ClassTree",
    "Evidence",
    "Filters",
    "FoundSymbols",
    "Impact",
    "Includes",
    "Match",
    "Overrides",
    "Page",
    "Reach",
    "Reached",
    "Relations",
    "SearchResult",
    "Service",
    "Story",
    "ignore_event",
    "is_test_path",
    "never",
]

CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)
USES = (*CALLS, ReferenceKind.TYPE, ReferenceKind.BASE, ReferenceKind.NAME)
MOST_NAMESAKES = 200
JUDGED_HITS = 40  # that the confidence of a search is of, however many are shown
SEARCH_TOKENS = 16_384  # of a prompt that a search is judged by: what a question would be answered from
CLASSES = (SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION)

# Searches whose hits are kept, 40 kB each for ten of them, until the index changes. 16 to 1,000.
_MOST_SEARCHES = 128
_MOST_KEPT_HITS = 40
_LONGEST_KEPT = 2_000  # characters of a question; what is longer is pasted, and seldom twice

# Of a file that is not there: its name's length that is looked at, names of files it is compared with, and how like
# they are, as difflib counts it. 100 to 255; 500 to 20,000; 0.4 to 0.9.
_LONGEST_FILE_NAME = 200
_MOST_NEAR_NAMES = 5_000
_LEAST_LIKENESS = 0.6

_Asked = tuple[str, int, Filters | None]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


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
class Evidence:
    """What was found for a question, for whoever packs it: each hit with what it could be shown as."""

    workspace: str
    stamp: Stamp
    retrieval: Retrieval
    passages: tuple[Passage, ...]  # one for each hit, in their order
    notes: tuple[str, ...]  # what was searched without, and files that changed since they were indexed
    stale: tuple[str, ...]  # the notes on such files alone


def ignore_event(_event: Event) -> None:
    """For callers that wait for the whole answer."""


def never() -> bool:
    """For callers that do not cancel."""
    return False


def _nothing_known(_service: "Service", _question: str, _hits: Sequence[Hit]) -> tuple[()]:
    return ()


class _Found(NamedTuple):
    """What of a search only the index decides."""

    heads: Heads  # that were sure of it
    confidence: Confidence
    hits: tuple[Hit, ...]
    files: tuple[tuple[str, float], ...]
    notes: tuple[str, ...]
    understood: Understood


class _Searches:
    """What was found last, for whoever asks the same of the same state of the index. Used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[_Asked, _Found] = {}

    def get(self, asked: "_Asked") -> _Found | None:
        with self._lock:
            found = self._found.pop(asked, None)
            if found is not None:
                self._found[asked] = found  # the last one again
            return found

    def put(self, asked: "_Asked", found: _Found) -> None:
        with self._lock:
            self._found[asked] = found
            while len(self._found) > _MOST_SEARCHES:
                del self._found[next(iter(self._found))]


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
        paces: Paces | None = None,
        heads: Heads | None = None,
        note: Note | None = None,
        analyst: Analyst | None = None,
        end: Callable[[Backend], None] = close,
        stamp: Stamped = Index.stamp,
        known: "Callable[[Service, str, Sequence[Hit]], Sequence[Passage]]" = _nothing_known,
        shelf: Shelf | None = None,
    ) -> None:
        """``loader``, ``snapshots``, ``deep`` and ``end`` are as in hub.asking.Sources, ``paces`` is known of engines.

        ``heads`` judge in place of the tree's own and the shipped ones. ``note`` is told the features of each question
        that is asked, without its text. Without an ``analyst`` tier "analysis" is refused.
        ``stamp`` says how far behind its tree the index is, where it can. ``known`` gives what people keep beside the
        code of a question and its hits, to be evidence with them. ``shelf`` holds what merges changed.
        """
        self._index = index
        self.shelf = shelf or Shelf(index)
        self._looking = Looking(index, embedders, adapt=options.adapt, heads=heads)
        sources = Sources(backend, loader, snapshots, deep, end)
        self._engines = Engines(index, sources, options.answer_tokens, paces or Paces())
        knows = partial(known, self)
        tiers = Tiers(index, self._engines, self._looking, options, clock, analyst, knows)
        self._stamp = stamp
        self._asking = Asking(index, self._looking, tiers, options.policy, clock, note, stamp)

    @property
    def workspace(self) -> str:
        """Its name."""
        return self._index.workspace

    @property
    def root(self) -> Path:
        """The folder whose tree is indexed."""
        return self._index.root

    def stamp(self) -> Stamp:
        """What state of the tree the index shows."""
        return self._stamp(self._index)

    def close(self) -> None:
        self._engines.close()
        self._index.close()

    def search(self, text: str, limit: int, filters: Filters | None = None) -> SearchResult:
        """The best hits with the confidence that they answer the text, among what the filters let through."""
        with self._index.moment():
            found = self._kept_or_found(text, limit, filters or None)  # one that lets everything through is none
            changed = self._index.changed_since(hit.chunk.span.path for hit in found.hits)
            notes = (*found.notes, *notes_on(changed))
            return SearchResult(
                text,
                self._index.workspace,
                stamped(self.stamp(), changed),
                found.confidence,
                found.hits,
                notes,
                found.files,
                found.understood,
            )

    def _kept_or_found(self, text: str, limit: int, filters: Filters | None) -> "_Found":
        known = self._index.shared("searches", self._looking.version(), _Searches)
        key = (text, limit, filters)
        found = known.get(key)
        if found is None or found.heads != self._looking.heads:
            found = self._found(text, limit, filters)
            # What went without an arm may have it the next time.
            if len(text) <= _LONGEST_KEPT and limit <= _MOST_KEPT_HITS and not found.notes:
                known.put(key, found)
        return found

    def _found(self, text: str, limit: int, filters: Filters | None) -> "_Found":
        retrieval = self._looking.look(text, max(limit, JUDGED_HITS), filters)
        first = replace(retrieval, hits=retrieval.hits[:JUDGED_HITS])
        confidence = self._looking.confidence(first, None, SEARCH_TOKENS)
        return _Found(
            self._looking.heads,
            confidence,
            retrieval.hits[:limit],
            retrieval.files[:limit],
            retrieval.notes,
            understood(retrieval),
        )

    def evidence(self, question: str, limit: int) -> Evidence:
        """The best ``limit`` hits of a question, in pieces that a text of any size can be packed of."""
        with self._index.moment():
            retrieval = self._looking.look(question, limit)
            changed = self._index.changed_since(hit.chunk.span.path for hit in retrieval.hits)
            stale = tuple(notes_on(changed))
            return Evidence(
                self._index.workspace,
                stamped(self.stamp(), changed),
                retrieval,
                pieces(self._index, retrieval.hits),
                (*retrieval.notes, *stale),
                stale,
            )

    def more_evidence(self, evidence: Evidence, limit: int) -> Evidence:
        """A second look, which starts from what the first one found: the best ``limit`` hits of both."""
        with self._index.moment():
            embedders, _ = self._looking.embedders()
            retrieval = widen(self._index, evidence.retrieval, embedders, limit)
            before = zip(evidence.retrieval.hits, evidence.passages, strict=True)
            made = {hit.chunk.id: passage for hit, passage in before}
            fresh = [hit for hit in retrieval.hits if hit.chunk.id not in made]
            made |= {hit.chunk.id: passage for hit, passage in zip(fresh, pieces(self._index, fresh), strict=True)}
            return replace(evidence, retrieval=retrieval, passages=tuple(made[hit.chunk.id] for hit in retrieval.hits))

    def confidence_in(self, evidence: Evidence, shown: Prompt | None, budget: int) -> Confidence:
        """That what was packed of the evidence, within so many tokens, is enough for a right answer; without a prompt,
        that the hits are.
        """
        with self._index.moment():
            return self._looking.confidence(evidence.retrieval, shown, budget)

    def lines(self, span: Span) -> str:
        """The lines of a span as they were indexed, each with its end; less where the file is shorter."""
        return "".join(
            line
            for chunk in self._index.table.chunks_at(span)
            for number, line in enumerate(_LINE.findall(chunk.text), chunk.span.first_line)
            if span.first_line <= number <= span.last_line
        )

    def line_texts(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """The text of single lines, given by path and number, as they were indexed; those that exist."""
        found: dict[tuple[str, int], str] = {}
        wanted = sorted(set(places))
        for path, number in wanted:
            if (path, number) not in found:
                for chunk in self._index.table.chunks_at(Span(path, number, number)):
                    rows = enumerate(_LINE.findall(chunk.text), chunk.span.first_line)
                    found |= {(path, line): text.rstrip("\r\n") for line, text in rows}
        return {place: found[place] for place in wanted if place in found}

    def file(self, typed: str) -> str | None:
        """The file of a path or of the end of one, None where there is none. Raises QuestionError where several are."""
        return self._index.graph.file(typed)

    def last_line(self, path: str) -> int:
        """How many lines a file of the index has, 0 where there is none."""
        return max((chunk.span.last_line for chunk in self._index.table.chunks_of(path)), default=0)

    def near_files(self, typed: str, limit: int) -> tuple[str, ...]:
        """Paths whose file is called much like the one typed, the likest first."""
        wanted = PurePosixPath(typed[-_LONGEST_FILE_NAME:].replace("\\", "/"))
        stem, name = wanted.stem.lower(), wanted.name.lower()
        paths: dict[str, list[str]] = {}
        for path in self._index.table.known_files():
            paths.setdefault(path.rpartition("/")[2].lower(), []).append(path)
        akin = [called for called in paths if stem and (stem in called or called[:2] == name[:2])]
        best = get_close_matches(name, sorted(akin)[:_MOST_NEAR_NAMES], limit, _LEAST_LIKENESS)
        return tuple(path for called in best for path in sorted(paths[called]))[:limit]

    def folder(self, typed: str) -> tuple[tuple[str, int], ...] | None:
        """What stands right in a folder: files with 0, and folders, which end with "/", with the files below each.

        None where the index has no file below it. "" and "." are the root.
        """
        wanted = typed.replace("\\", "/").strip("/").removeprefix("./")
        begin = "" if wanted in ("", ".") else f"{wanted}/"
        found: Counter[str] = Counter()
        for path in self._index.table.known_files():
            if path.startswith(begin):
                name, inner, _ = path[len(begin) :].partition("/")
                found[name + inner] += bool(inner)
        return tuple(sorted(found.items())) or None

    def age(self, paths: Iterable[str]) -> tuple[str, ...]:
        """A note that names those of these files which have changed since they were indexed, if any have."""
        return tuple(notes_on_age(self._index, paths))

    def moment(self) -> AbstractContextManager[None]:
        """Within it everything is of one state of the index."""
        return self._index.moment()

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

    def members(self, symbol: Symbol) -> tuple[Symbol, ...]:
        """What a class declares in its own text, in order."""
        first, last, scope = symbol.span.first_line, symbol.span.last_line, symbol.qualified_name
        here = self._index.facts.names.in_file(symbol.span.path)
        return tuple(each for each in here if each.scope == scope and first <= each.span.first_line <= last)

    def symbols_at(self, path: str, line: int) -> list[Symbol]:
        """What stands at a line of a file, the innermost first; namespaces are left out."""
        outline = self._index.facts.names.outline(path, line, line)
        known = {symbol.id: symbol for symbol in self._index.facts.names.by_ids(row.id for row in outline)}
        return [known[row.id] for row in reversed(outline) if row.id in known]

    def files_called(self, name: str) -> list[str]:
        """The paths of the index whose last part is this name, in whatever case, in order."""
        return self._index.table.paths_called([name.lower()])

    def told(self, text: str, limit: int) -> list[tuple[Told, float]]:
        """The commits whose messages or changes speak as the text does, with their scores, the best first."""
        return self._index.commits.told(text, limit)

    def history(self, name: str, page: Page = EVERYTHING) -> tuple[tuple[Told, ...], int]:
        """The commits that changed a file or a symbol, newest first, and how many there are."""
        told = self._index.commits.about(name)
        end = None if page.limit is None else page.offset + page.limit
        return tuple(told[page.offset : end]), len(told)

    def why(self, asked: str, limit: int) -> Story:
        """Why a place, a symbol or a file is what it is, or what a question in words finds of that. See hub.why."""
        with self._index.moment():
            return why(self._index, self._hits, asked, limit, self.shelf)

    def _hits(self, text: str, most: int, filters: Filters) -> tuple[Hit, ...]:
        return self.search(text, most, filters).hits

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
        return replace(found, notes=(*found.notes, *notes_on_age(self._index, indexed)))

    def ask(
        self,
        question: str,
        tier: Tier | None = None,
        on_event: Callable[[Event], None] = ignore_event,
        policy: Policy | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Answer:
        """Answers within a tier, or from the tables up through the tiers as far as it pays. Declines rather than guess.

        ``on_event`` is told of each step; the pieces it gets after the last Moved, joined, are the answer's text.
        ``cancelled`` is asked between tiers and while a model reads: an answer that is there by then stands, else
        Cancelled is raised. A backend that fails leaves a note, and the evidence is the answer. Raises PromptTooLong
        when not even that fits its bounds, and in the tiers above wide BackendError where no model is there that can
        read so much.
        """
        if tier is Tier.NONE:
            raise ValueError(f"no answer comes from tier {tier}")
        return self._asking.ask(question, tier, on_event, policy, cancelled)

    def full_load(self) -> FullLoad:
        """The code base as tier "full" shows it now: how its prompts begin. Raises BackendError."""
        return self._engines.full_load()

    def warm(self, tell: Callable[[Prefill], None] = ignore_progress) -> Warmth:
        """Has the model read what every prompt of tier "full" begins with, so that a question waits for its own tokens.

        Where a compaction is due, what it comes to is read instead and taken from then on. Raises BackendError.
        """
        return self._engines.warm(tell)

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
