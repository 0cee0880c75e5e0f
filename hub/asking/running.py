"""The run of a question through the tiers: from the tables up, as far as it pays, to an answer or an honest refusal.

Each tier keeps the evidence of the one before. What is decided on the way, and what each tier took, is told with the
answer. Knows nothing of who asks, nor of how a tier makes its prompt.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hub import ladder, refusal, tables
from hub.asking.looking import Looking
from hub.asking.tiers import NOBODY, Evidence, Outcome, Prepared, Tiers
from hub.confidence.breadth import breadth_of
from hub.errors import BackendError, PromptTooLong
from hub.following import Stamped, stamped
from hub.knowledge.model import PLACE
from hub.ladder import Outlook
from hub.model import (
    Answer,
    Attempt,
    BackendInfo,
    Confidence,
    Decision,
    Event,
    Found,
    Moved,
    Part,
    Piece,
    Policy,
    Prefill,
    Refusal,
    Tier,
    Usage,
    Way,
)
from hub.refusal import Situation
from hub.retrieval import Retrieval, is_bare_name, understand
from indexer.errors import Cancelled
from indexer.index import Index

# Parts of the question or names of the tree that an answer needs and the prompt lacks: so many are told. 3 to 20.
MOST_MISSING = 8

Note = Callable[[tuple[tuple[str, float], ...], float], None]

_TABLES = BackendInfo("symbol table", "none", 0, 0, writes=False)
_NOT_IN_TABLES = "The tables alone do not answer this; another tier may."


@dataclass(slots=True)
class _Run:
    """One question on its way."""

    question: str
    policy: Policy
    tell: Callable[[Event], None]
    cancelled: Callable[[], bool]
    attempts: list[Attempt] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    closed: dict[Tier, str] = field(default_factory=dict)  # tiers that turned out not to help, each with its reason
    written: list[Outcome] = field(default_factory=list)  # what was told, in order
    shown: Outcome | None = None  # of these, the one whose text is not void
    refusal: Refusal | None = None
    only: Tier | None = None  # the tier that was asked for

    def tried(self, prepared: Prepared, outcome: Outcome | None, left: str = "") -> Attempt:
        """Puts down a tier, with its answer where there is one."""
        attempt = Attempt(
            tier=prepared.tier,
            confidence=prepared.confidence.value,
            checked=outcome.checked.value if outcome and outcome.checked else None,
            backend=outcome.info.name if outcome else NOBODY.name,
            model=outcome.info.model if outcome else NOBODY.model,
            usage=outcome.usage if outcome else Usage(),
            seconds=round(prepared.seconds + (outcome.seconds if outcome else 0.0), 3),
            left=left,
        )
        self.attempts.append(attempt)
        return attempt

    def stopped(self) -> bool:
        """Whether the user wants no further tier. Raises Cancelled where there is nothing to show yet."""
        if not self.cancelled():
            return False
        if not self.written:
            raise _nothing_yet()
        return True

    def listen(self, event: Event) -> None:
        """Passes on what happens while a model reads. Raises Cancelled, which ends its request, when the user stops."""
        self.tell(event)
        if isinstance(event, Prefill | Part) and self.cancelled():
            raise _nothing_yet()


class Asking:
    """Answers the questions about one workspace."""

    def __init__(
        self,
        index: Index,
        looking: Looking,
        tiers: Tiers,
        policy: Policy,
        clock: Callable[[], float],
        note: Note | None = None,
        stamp: Stamped = Index.stamp,
    ) -> None:
        """``note`` is told the features of each question and how sure its first prompt was."""
        self._index = index
        self._looking = looking
        self._tiers = tiers
        self._policy = policy
        self._clock = clock
        self._note = note
        self._stamp = stamp

    def ask(
        self,
        question: str,
        tier: Tier | None,
        tell: Callable[[Event], None],
        policy: Policy | None,
        cancelled: Callable[[], bool],
    ) -> Answer:
        """As Service.ask."""
        started = self._clock()
        run = _Run(question, policy or self._policy, tell, cancelled, only=tier)
        if tier in {None, Tier.EXACT}:
            outcome = self._from_tables(run)
            if outcome is None and tier is Tier.EXACT:
                retrieval = self._tiers.look(question).best
                outcome = self._refused(run, retrieval, Confidence(0.0, Tier.NONE, (_NOT_IN_TABLES,)))
        else:
            outcome = self._in_one(run, tier)
        if outcome is None:
            outcome = self._climbing(run)
        cited = (citation.span.path for citation in outcome.citations)
        changed = self._index.changed_since(path for path in cited if not path.startswith(PLACE))
        return Answer(
            question=question,
            text=outcome.text,
            confidence=outcome.confidence,
            tier=outcome.tier,
            tried=tuple(dict.fromkeys(attempt.tier for attempt in run.attempts)),
            citations=outcome.citations,
            backend=outcome.info.name,
            model=outcome.info.model,
            usage=outcome.usage,
            seconds=round(self._clock() - started, 3),
            stamp=stamped(self._stamp(self._index), changed),
            workspace=self._index.workspace,
            notes=(*outcome.notes, *notes_on(changed)),
            attempts=tuple(run.attempts),
            decisions=tuple(run.decisions),
            refusal=run.refusal,
        )

    def _from_tables(self, run: _Run) -> Outcome | None:
        started = self._clock()
        query = understand(run.question)
        asked = tables.relation_asked(run.question)
        if asked is None and is_bare_name(query):
            asked = (tables.Relation.DEFINITION, query.identifiers[0])
        found = tables.answer(self._index, *asked) if asked else None
        seconds = round(self._clock() - started, 3)
        if found is None:
            run.attempts.append(Attempt(Tier.EXACT, 0.0, seconds=seconds, left="The tables alone do not answer it."))
            return None
        confidence = Confidence(1.0, Tier.EXACT, ("Answered from the symbol table, without a model.",), calibrated=True)
        run.attempts.append(Attempt(Tier.EXACT, 1.0, backend=_TABLES.name, seconds=seconds))
        run.tell(Found(found.citations, confidence))
        run.tell(Piece(found.text))
        return Outcome(Tier.EXACT, found.text, confidence, found.citations, _TABLES)

    def _in_one(self, run: _Run, tier: Tier) -> Outcome:
        """The answer of the tier that was asked for, whatever it costs."""
        evidence = self._tiers.look(run.question)
        retrieval = evidence.best
        if tier in ladder.SHALLOW and _is_hopeless(retrieval):
            return self._refused(run, retrieval, self._looking.confidence(retrieval, None, 0))
        prepared = self._prepared(tier, evidence)
        outcome = self._tiers.write(prepared, run.listen)
        run.tried(prepared, outcome)
        return outcome

    def _climbing(self, run: _Run) -> Outcome:
        evidence = self._tiers.look(run.question)
        retrieval = evidence.best
        if _is_hopeless(retrieval):
            return self._refused(run, retrieval, self._looking.confidence(retrieval, None, 0))
        prepared = self._first(run, evidence)
        if self._note:
            self._note(prepared.confidence.features, prepared.confidence.value)
        while True:
            following = self._following(run, prepared, None)
            if following is not None:
                prepared = following
                continue
            if run.stopped():
                return self._chosen(run, prepared.retrieval)
            outcome = None
            if run.decisions[-1].way is not Way.REFUSE:
                outcome = self._answered(run, prepared)
            elif not run.written:
                run.tried(prepared, None, run.decisions[-1].reason)
                return self._refused(run, prepared.retrieval, prepared.confidence)
            # Where no text of a model was checked nothing is known that was not known before.
            if outcome and outcome.checked and not outcome.failed:
                following = self._following(run, prepared, outcome)
            if following is None:
                run.tried(prepared, outcome, "" if outcome else run.decisions[-1].reason)
                return self._chosen(run, prepared.retrieval)
            prepared = following

    def _answered(self, run: _Run, prepared: Prepared) -> Outcome | None:
        """The tier's answer; None where the user stopped it and there is another."""
        try:
            outcome = self._tiers.write(prepared, run.listen)
        except Cancelled:
            if not run.written:
                raise
            return None
        run.written.append(outcome)
        run.shown = outcome
        return outcome

    def _following(self, run: _Run, prepared: Prepared, outcome: Outcome | None) -> Prepared | None:
        """The next tier's prompt where moving there pays; None where this one stays. Both are put down."""
        while True:
            decision = self._decided(run, prepared, outcome)
            if decision.way is not Way.MOVE or run.stopped():
                run.decisions.append(decision)
                return None
            try:
                following = self._tiers.prepare(decision.tier, prepared.evidence, _wanted(outcome))
            except BackendError as error:
                run.closed[decision.tier] = f"{error.message} {error.hint}".strip()
                continue
            if not self._tiers.adds(following, prepared):
                run.closed[decision.tier] = "It would show nothing that was not shown."
                continue
            run.decisions.append(decision)
            chosen = next(rung for rung in decision.weighed if rung.tier is decision.tier)
            attempt = run.tried(prepared, outcome, decision.reason)
            run.shown = None
            run.tell(Moved(attempt, decision.tier, chosen.gain, chosen.cost_s))
            return following

    def _decided(self, run: _Run, prepared: Prepared, outcome: Outcome | None) -> Decision:
        decision = ladder.decide(self._outlook(run, prepared, outcome))
        arithmetic = self._looking.arithmetic(prepared.confidence)
        return replace(decision, arithmetic=arithmetic, origin=self._looking.heads.origin)

    def _outlook(self, run: _Run, prepared: Prepared, outcome: Outcome | None) -> Outlook:
        confidence = (outcome.checked or outcome.confidence) if outcome else prepared.confidence
        retrieval = prepared.retrieval
        certified, tried = self._looking.certified(retrieval, prepared.budget, prepared.tier, run.policy)
        return Outlook(
            tier=prepared.tier,
            value=confidence.value,
            rungs=self._tiers.rungs(prepared, run.closed, answered=outcome is not None),
            policy=run.policy,
            breadth=breadth_of(retrieval.query),
            answered=outcome is not None,
            missing=_wanted(outcome),
            ambiguous=retrieval.ambiguous,
            certified=certified,
            tried_to_certify=tried,
        )

    def _first(self, run: _Run, evidence: Evidence) -> Prepared:
        """The prompt to begin with: that of tier rag, or the wide one where its size has no room for the question."""
        try:
            return self._tiers.prepare(Tier.RAG, evidence)
        except PromptTooLong as error:
            with suppress(BackendError):
                wide = self._tiers.prepare(Tier.WIDE, evidence)
                run.attempts.append(Attempt(Tier.RAG, 0.0, left=error.message))
                return wide
        except BackendError as error:
            return self._tiers.quoting(Tier.RAG, evidence, error)
        return self._prepared(Tier.RAG, evidence)

    def _prepared(self, tier: Tier, evidence: Evidence) -> Prepared:
        """The tier's prompt; where no model can be asked the evidence is quoted, but not in place of the deep tiers.

        Raises PromptTooLong where not even that fits, and in the deep tiers BackendError.
        """
        try:
            return self._tiers.prepare(tier, evidence)
        except BackendError as error:
            if tier not in ladder.SHALLOW:
                raise
            return self._tiers.quoting(tier, evidence, error)

    def _chosen(self, run: _Run, retrieval: Retrieval) -> Outcome:
        """The surest of what was told. Where that is not the last it is told again; a guess is taken back."""
        last = run.written[-1]
        best = max(run.written, key=lambda outcome: (outcome.confidence.value, outcome is last))
        if best.tier is Tier.NONE or (best.checked and best.confidence.value < ladder.REFUSE_BELOW):
            return self._taken_back(run, retrieval, best)
        if best is not run.shown:
            surer = f"The answer of tier {best.tier.value} is surer."
            self._leave(run, best.tier, "Stopped before it was answered." if run.cancelled() else surer)
            run.tell(Found(best.citations, best.confidence))
            run.tell(Piece(best.text))
        if run.cancelled():
            best = replace(best, notes=(*best.notes, "Stopped before a further tier was tried."))
        return best

    def _taken_back(self, run: _Run, retrieval: Retrieval, best: Outcome) -> Outcome:
        self._leave(run, Tier.NONE, f"{best.confidence.value:.0%} is too little to answer: it would be a guess.")
        refused = self._refused(run, retrieval, best.confidence, best.checks.unanswered)
        return replace(refused, notes=best.notes, info=best.info, usage=best.usage)

    def _leave(self, run: _Run, to: Tier, reason: str) -> None:
        run.attempts[-1] = replace(run.attempts[-1], left=reason)
        run.tell(Moved(run.attempts[-1], to, 0.0, 0.0))

    def _refused(
        self, run: _Run, retrieval: Retrieval, confidence: Confidence, unanswered: Sequence[str] = ()
    ) -> Outcome:
        """No answer: what is missing, what was looked at, and what may help."""
        info = self._tiers.writer()
        situation = Situation(
            attempts=tuple(run.attempts),
            nearest=self._nearest,
            unanswered=tuple(unanswered),
            calibrated=self._looking.adapted,
            stale=tuple(self._index.changed_since(hit.chunk.span.path for hit in retrieval.hits[:MOST_MISSING])),
            writes=info is None or info.writes,
            window=info.context_window if info and info.writes else 0,
            tree_tokens=self._tiers.costs.tree_tokens(),
            only=run.only,
        )
        confidence = replace(confidence, tier=Tier.NONE)
        run.refusal = refusal.explain(retrieval, confidence, situation)
        text = refusal.text(run.refusal)
        run.tell(Found((), confidence))
        run.tell(Piece(text))
        return Outcome(Tier.NONE, text, confidence)

    def _nearest(self, name: str) -> list[str]:
        """Names of the tree like one that it does not have."""
        found = self._index.facts.find(name, MOST_MISSING)
        return list(dict.fromkeys(symbol.qualified_name for symbol in found.symbols))


def notes_on_age(index: Index, paths: Iterable[str]) -> list[str]:
    """A note that names the files which have changed since they were indexed."""
    return notes_on(index.changed_since(paths))


def notes_on(changed: Sequence[str]) -> list[str]:
    """A note that names these files, which have changed since they were indexed."""
    if not changed:
        return []
    names = ", ".join(changed[:3]) + (" and others" if len(changed) > 3 else "")
    return [f"Changed since it was indexed: {names}. Run `codehub index` to refresh."]


def _nothing_yet() -> Cancelled:
    return Cancelled("Stopped before an answer was there.", "Ask again; what was read is kept where it can be.")


def _is_hopeless(retrieval: Retrieval) -> bool:
    """Whether there is no evidence that could answer it."""
    return not retrieval.hits or bool(retrieval.unknown and not retrieval.named)


def _wanted(outcome: Outcome | None) -> tuple[str, ...]:
    """Names that an answer used and its prompt did not show, and parts of the question that it did not touch."""
    if outcome is None:
        return ()
    return (*outcome.checks.names_in_repository, *outcome.checks.unanswered)[:MOST_MISSING]
