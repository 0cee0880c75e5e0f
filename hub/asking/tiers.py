"""One tier at a time: the prompt that it makes, and the answer to it. Chooses nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hub import analysis, answering
from hub.asking.costs import ASSUMED_GAINS, USUAL_PROMPT_TOKENS, AskOptions, Costs, unfit
from hub.asking.engines import Engines, patient
from hub.asking.looking import Looking
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.claims import Checks, known_of
from hub.confidence.answers import probe, revise, signals
from hub.errors import BackendError, PromptTooLong, UnsupportedRequest
from hub.evidence import LEAST_HITS, hits_for
from hub.evidence.focus import focus
from hub.evidence.pieces import pieces
from hub.evidence.widening import widen
from hub.fullload.loading import FullLoad
from hub.fullload.tree import tree_of
from hub.fullload.warming import LoadsAnew
from hub.ladder import Rung
from hub.model import (
    Backend,
    BackendInfo,
    Citation,
    Completion,
    Confidence,
    Event,
    Found,
    GenerationOptions,
    Hit,
    Piece,
    Prompt,
    Tier,
    Usage,
)
from hub.prompting import Passage, pack
from hub.retrieval import Retrieval
from indexer.index import Index

WHOLE = 0.97  # share of the lines of a tree that are all of it but for its ends; 0.9 to 1
NOTHING_SAID = "Not found. The model said nothing that could be checked, and search found no evidence to quote."
Known = Callable[[str, Sequence[Hit]], Sequence[Passage]]
"""What people keep beside the code that speaks of a question and what was found for it."""
NOBODY = BackendInfo("none", "none", 0, 0, writes=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found at first, and what a wider look has found beyond it."""

    first: Retrieval
    wide: Retrieval | None = None

    @property
    def best(self) -> Retrieval:
        return self.wide or self.first


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt that can be sent, and how sure it is to hold what an answer needs."""

    tier: Tier
    evidence: Evidence
    confidence: Confidence
    prompt: Prompt
    backend: Backend
    info: BackendInfo
    options: GenerationOptions
    lexicon: answering.Lexicon
    budget: int = 0  # tokens that its prompt might have had
    notes: tuple[str, ...] = ()
    load: FullLoad | None = None
    planned: tuple[analysis.Plan, analysis.Reader] | None = None
    seconds: float = 0.0  # that making it took

    @property
    def retrieval(self) -> Retrieval:
        return self.evidence.best

    def lines(self) -> set[tuple[str, int]]:
        """The lines of the tree that its evidence shows."""
        spans = [citation.span for citation in self.prompt.citations]
        return {(span.path, line) for span in spans for line in range(span.first_line, span.last_line + 1)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a tier. ``text`` was told as it grew, and ``confidence`` is that it is right.

    ``checked`` is the same for what the model wrote, also where that could not stand and the evidence was quoted.
    """

    tier: Tier
    text: str
    confidence: Confidence
    citations: tuple[Citation, ...] = ()
    info: BackendInfo = NOBODY
    usage: Usage = field(default_factory=Usage)
    notes: tuple[str, ...] = ()
    checked: Confidence | None = None  # None where no model wrote
    checks: Checks = field(default_factory=Checks)
    failed: bool = False  # whether its engine failed
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Analyst:
    """What tier "analysis" needs beside a model: what puts notes together, and the folder of its journals."""

    summarize: analysis.Summarizer
    folder: Path | None = None


def nothing_known(_question: str, _hits: Sequence[Hit]) -> tuple[()]:
    """Where nobody keeps anything."""
    return ()


class Tiers:
    """The tiers that read evidence, for one workspace."""

    def __init__(
        self,
        index: Index,
        engines: Engines,
        looking: Looking,
        options: AskOptions,
        clock: Callable[[], float],
        analyst: Analyst | None = None,
        known: Known = nothing_known,
    ) -> None:
        self._index = index
        self._engines = engines
        self._looking = looking
        self._options = options
        self._clock = clock
        self._analyst = analyst
        self._known = known
        self.costs = Costs(index, engines, options, analyses=analyst is not None)

    def look(self, question: str) -> Evidence:
        """The evidence of a question, as much as the first prompt may have room for."""
        # Which model will read it is not asked yet: making one may take seconds that a refusal does not need.
        return Evidence(self._looking.look(question, hits_for(self._options.prompt_tokens or USUAL_PROMPT_TOKENS)))

    def writer(self) -> BackendInfo | None:
        """Who answers from evidence; None where nobody was asked yet, since making one may take seconds."""
        return self._engines.known_writer()

    def prepare(self, tier: Tier, evidence: Evidence, wanted: Sequence[str] = ()) -> Prepared:
        """The prompt of a tier. ``wanted`` are names that an answer used and its prompt did not show.

        Raises BackendError where the tier cannot be asked.
        """
        started = self._clock()
        match tier:
            case Tier.FULL:
                prepared = self._everything(evidence)
            case Tier.ANALYSIS:
                prepared = self._planned(evidence)
            case Tier.FOCUS:
                prepared = self._focused(evidence, wanted)
            case _:
                prepared = self._packed(tier, evidence, self._engines.writer(), wanted)
        return replace(prepared, seconds=self._clock() - started)

    def quoting(self, tier: Tier, evidence: Evidence, failure: BackendError) -> Prepared:
        """The prompt where a model failed: the evidence itself. Raises PromptTooLong where not even that fits."""
        note = f"{failure.message} {failure.hint}".strip()
        noted = replace(evidence.first, notes=(*evidence.first.notes, note))
        return self._packed(tier, Evidence(noted), EvidenceOnlyBackend())

    def adds(self, following: Prepared, prepared: Prepared) -> bool:
        """Whether a prompt shows what another one does not."""
        shown = prepared.lines()
        if following.tier in {Tier.FULL, Tier.ANALYSIS}:
            return len(shown) < WHOLE * self._index.table.counts().lines
        return not following.lines() <= shown

    def write(self, prepared: Prepared, tell: Callable[[Event], None]) -> Outcome:
        """The answer of a tier, told as it grows."""
        started = self._clock()
        tell(Found(prepared.prompt.citations, prepared.confidence))
        outcome = (
            self._analysed(prepared, prepared.planned, tell) if prepared.planned else self._written(prepared, tell)
        )
        if not outcome.text:
            tell(Piece(NOTHING_SAID))
            outcome = replace(outcome, text=NOTHING_SAID, tier=Tier.NONE)
        return replace(outcome, seconds=round(self._clock() - started, 3))

    def rungs(self, prepared: Prepared, closed: Mapping[Tier, str], *, answered: bool) -> tuple[Rung, ...]:
        """The tiers above one, with what each takes beyond accepting this one."""
        tokens = prepared.prompt.tokens
        return self.costs.rungs(prepared.tier, prepared.info, tokens, prepared.confidence, closed, answered=answered)

    def _packed(self, tier: Tier, evidence: Evidence, backend: Backend, wanted: Sequence[str] = ()) -> Prepared:
        info = backend.info()
        reader = _reader(backend, info)
        budget = self.costs.budget(tier, reader.info())
        if tier is Tier.WIDE:
            evidence = self._widened(evidence.first, budget, wanted)
        elif len(evidence.first.hits) < hits_for(budget):
            deeper = self._looking.look(evidence.first.query.text, hits_for(budget))
            evidence = Evidence(replace(deeper, notes=evidence.first.notes))
        retrieval = evidence.best
        prompt = pack(retrieval.query.text, self._passages(retrieval), budget, reader.count_tokens)
        if not prompt.citations:
            raise PromptTooLong(
                f"No piece of evidence fits a prompt of {budget} tokens.",
                "Allow a longer prompt or a shorter answer.",
            )
        return Prepared(
            tier,
            evidence,
            self._looking.confidence(retrieval, prompt, budget, tier),
            prompt,
            backend,
            info,
            GenerationOptions(max_tokens=self._options.answer_tokens),
            self._lexicon(retrieval.query.text),
            budget,
            (*retrieval.notes, *_left_out(retrieval, prompt, info)),
        )

    def _widened(self, first: Retrieval, budget: int, wanted: Sequence[str]) -> Evidence:
        embedders, _ = self._looking.embedders()
        wide = widen(self._index, first, embedders, hits_for(budget), wanted)
        return Evidence(first, replace(wide, notes=tuple(dict.fromkeys((*first.notes, *wide.notes)))))

    def _focused(self, evidence: Evidence, wanted: Sequence[str]) -> Prepared:
        """The outline of the code base, the best files, and the evidence. Raises BackendError."""
        backend = self._engines.writer()
        info, count = backend.info(), backend.count_tokens
        if reason := unfit(info):
            raise UnsupportedRequest(reason, "Leave --tier away, or name a larger model.")
        budget = self.costs.budget(Tier.FOCUS, info)
        if evidence.wide is None:
            evidence = self._widened(evidence.first, budget, wanted)
        retrieval = evidence.best
        made = focus(self._index, retrieval, budget, count)
        passages = self._passages(replace(retrieval, hits=made.hits))
        prompt = pack(retrieval.query.text, passages, budget, count, made.foundation)
        return Prepared(
            Tier.FOCUS,
            evidence,
            self._looking.confidence(retrieval, prompt, budget, Tier.FOCUS),
            prompt,
            backend,
            info,
            replace(patient(backend, prompt), max_tokens=self._options.answer_tokens),
            self._lexicon(retrieval.query.text),
            budget,
            retrieval.notes,
        )

    def _everything(self, evidence: Evidence) -> Prepared:
        """The code base, then the evidence. It may answer where search found nothing."""
        loads, backend, retrieval = self._engines.loads, self._engines.reader(), evidence.best
        info, load = backend.info(), loads.current(backend)
        count, question = backend.count_tokens, retrieval.query.text
        passages = self._passages(retrieval)
        prompt = pack(question, passages, loads.budget(backend, load), count, load.foundation(count))
        notes = [*retrieval.notes, *load.notes]
        if load.left_out:
            names = ", ".join(load.left_out[:3]) + (" and others" if len(load.left_out) > 3 else "")
            notes.append(f"The window has no room for {len(load.left_out)} of the files, such as {names}.")
        return Prepared(
            Tier.FULL,
            evidence,
            _lifted(self._looking.confidence(retrieval, prompt, prompt.tokens, Tier.FULL), Tier.FULL),
            prompt,
            backend,
            info,
            replace(patient(backend, prompt), max_tokens=self._options.answer_tokens),
            replace(self._lexicon(question), place=load.place),
            prompt.tokens,
            tuple(notes),
            load,
        )

    def _planned(self, evidence: Evidence) -> Prepared:
        """The whole code base part after part. Raises BackendError."""
        retrieval = evidence.best
        if self._analyst is None:
            raise UnsupportedRequest(
                "Nothing is there to put the parts of an analysis together.", "Leave --tier away, or install it."
            )
        backend, question = self._engines.writer(), retrieval.query.text
        info, folder = backend.info(), self._analyst.folder
        reader = analysis.Reader(
            backend,
            self._lexicon(question),
            self._index.table.chunks_of,
            self._analyst.summarize,
            self._options.bounds,
            analysis.Journal(folder, f"{info.model}\0{question}") if folder else None,
            lambda read, written: self.costs.seconds_of(info, read, written),
            self._clock,
        )
        found = [path for path, _ in retrieval.files]
        plan = analysis.planned(question, dict.fromkeys((*found, *tree_of(self._index).ranking().worth)), reader)
        return Prepared(
            Tier.ANALYSIS,
            evidence,
            _lifted(self._looking.confidence(retrieval, None, plan.tokens, Tier.ANALYSIS), Tier.ANALYSIS),
            Prompt("", question, (), (), plan.tokens),
            backend,
            info,
            patient(backend, Prompt("", "", (), (), plan.tokens)),
            reader.lexicon,
            plan.tokens,
            retrieval.notes,
            planned=(plan, reader),
        )

    def _written(self, prepared: Prepared, tell: Callable[[Event], None]) -> Outcome:
        question, load = prepared.retrieval.query.text, prepared.load
        notes = list(prepared.notes)
        if load is not None:
            notes += self._made_ready(prepared, load, tell)
        else:
            self._engines.let_go(prepared.info)
        written = answering.write(
            question, prepared.prompt, prepared.lexicon, prepared.backend, prepared.info, prepared.options, tell
        )
        if load is not None and not written.broke:
            self._engines.hold(load)
        self._engines.learn(prepared.info, written.usage, written.completion.timings)
        said = written.signals
        if self._options.probe and said.sentences and not prepared.info.evidence_first:
            said = replace(said, answerable=self._probed(prepared, notes))
        checked = revise(prepared.confidence, written.checks, said) if said.sentences or said.fault else None
        stands = checked is not None and written.checks.resolved > 0 and not said.fault
        return Outcome(
            tier=prepared.tier,
            text=written.text,
            confidence=checked if checked and stands else prepared.confidence,
            citations=written.citations,
            info=prepared.info,
            usage=written.usage,
            notes=(*notes, *written.notes),
            checked=checked,
            checks=written.checks,
            failed=written.broke,
        )

    def _analysed(
        self, prepared: Prepared, planned: tuple[analysis.Plan, analysis.Reader], tell: Callable[[Event], None]
    ) -> Outcome:
        plan, reader = planned
        self._engines.let_go(prepared.info)
        try:
            done = analysis.analyse(plan, reader, tell)
        except BackendError as error:
            return Outcome(
                Tier.NONE,
                "",
                prepared.confidence,
                info=prepared.info,
                notes=(*prepared.notes, f"{error.message} {error.hint}".strip()),
                failed=True,
            )
        if done.text:
            tell(Found(done.citations, prepared.confidence))
            tell(Piece(done.text))
        said = signals(plan.question, done.text, Completion(done.text, done.usage))
        checked = revise(prepared.confidence, done.checks, said)
        return Outcome(
            tier=prepared.tier,
            text=done.text,
            confidence=checked,
            citations=done.citations,
            info=prepared.info,
            usage=done.usage,
            notes=(*prepared.notes, *done.notes),
            checked=checked if done.text else None,
            checks=done.checks,
        )

    def _probed(self, prepared: Prepared, notes: list[str]) -> float | None:
        """Whether the model takes its prompt to answer the question; None, with a note, where it cannot be asked."""
        question = prepared.retrieval.query.text
        try:
            return probe(prepared.backend, prepared.prompt, question, GenerationOptions())
        except BackendError as error:
            notes.append(f"The model was not asked whether the evidence answers it: {error.message}")
            return None

    def _made_ready(self, prepared: Prepared, load: FullLoad, tell: Callable[[Event], None]) -> list[str]:
        notes = []
        if isinstance(prepared.backend, LoadsAnew) and (reason := prepared.backend.reload_ahead()):
            notes.append(reason)
        if self._engines.worth_warming(load):
            notes += self._engines.warmed(load, tell).notes
        return notes

    def _passages(self, retrieval: Retrieval) -> tuple[Passage, ...]:
        """What the hits can be shown as, and what people keep of them."""
        found = pieces(self._index, retrieval.hits)
        return (*found, *self._known(retrieval.query.text, retrieval.hits)) if found else found

    def _lexicon(self, question: str) -> answering.Lexicon:
        index = self._index
        return answering.Lexicon(
            index.text.term_weights(question),
            index.text.stems,
            lambda name: index.text.holds(name) or bool(index.facts.symbols_named(name, 1)),
            known=known_of(index),
        )


def _reader(backend: Backend, info: BackendInfo) -> Backend:
    """Who the evidence is packed for. A model that may only follow it reads one quote; the rest is for the user, as
    without a model.
    """
    return EvidenceOnlyBackend() if info.evidence_first else backend


def _lifted(confidence: Confidence, tier: Tier) -> Confidence:
    """What a prompt of the best evidence is sure of, for one that shows the code base with it."""
    gain = dict(confidence.gains).get(tier, ASSUMED_GAINS[tier])
    value = round(confidence.value + (1 - confidence.value) * gain, 4)
    return replace(confidence, value=value, tier=tier, calibrated=False, guarantee="")


def _left_out(retrieval: Retrieval, prompt: Prompt, info: BackendInfo) -> list[str]:
    """A note where the prompt of a model has no room for some of the best hits."""
    dropped = {(span.path, span.first_line) for span in prompt.dropped}
    best = [hit.chunk.span for hit in retrieval.hits[:LEAST_HITS]]
    lost = sum(
        any((span.path, line) in dropped for line in range(span.first_line, span.last_line + 1)) for span in best
    )
    if not lost or not info.writes or info.evidence_first:
        return []
    return [f"The prompt of {prompt.tokens} tokens has no room for all: {lost} pieces were left out or shortened."]
