"""What each tier may take and would take: tokens of its prompt, seconds as things are now, and why it is closed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log

from hub.analysis import NOTE_TOKENS, PART_TOKENS, Bounds
from hub.asking.engines import Engines
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.errors import BackendError
from hub.fullload import window
from hub.ladder import Rung, harm, is_further
from hub.model import BackendInfo, Confidence, Policy, Tier
from indexer.index import Index

# Tokens of a prompt, each with its range. What models still read well (RULER): 32K to 64K.
WIDE_TOKENS = 49_152
FOCUS_TOKENS = 114_688  # 96K to 128K
# A tier whose prompt is not so much larger than the one before shows the same. 1.02 to 1.5.
LEAST_GROWTH = 1.05
# Seconds of this machine: looking further, outlining a tree, laying it out. 0.1 to 1; 0.2 to 3; 0.5 to 20.
WIDEN_S, OUTLINE_S, LAY_OUT_S = 0.3, 1.0, 2.0
# Bytes of C++ a token; 2.8 to 3.6 in vocabularies of today.
BYTES_A_TOKEN = 3.1
# Tokens of the prompt that a tiny model is asked one sentence with. 200 to 1,500.
SENTENCE_PROMPT_TOKENS = 600
# That a further tier shows what is missing, where no head tells: of what a prompt of 16K lacks, from evidence recall on
# abseil (0.91 at 16K, 0.95 at 64K, 0.98 at 128K). Judgements for the last two. Range 0 to 1.
ASSUMED_GAINS = {Tier.WIDE: 0.45, Tier.FOCUS: 0.6, Tier.FULL: 0.8, Tier.ANALYSIS: 0.7}
# What the heads of a tier were fitted for is a prompt that is so many times as long as the first one. A smaller window
# gains less: the share is that of the logarithms, and at least this, since a second look finds more in any room.
LEAST_SHARE = 0.2
USUAL_PROMPT_TOKENS = 16_384
# Of these, where the window has room for the best files only, or the bounds for a part of them. 0.3 to 1.
PARTIAL_GAIN = 0.7

_NO_READER = "There is no language model to read so much."
_TOO_SMALL = "{} is too small to answer from so much."


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to ask. Tokens are of prompts and answers; 0 chooses by what the backend reads."""

    prompt_tokens: int = 0
    answer_tokens: int = 768
    adapt: bool = True  # rank with the weights that were fitted to the tree, where there are any
    policy: Policy = Policy.BALANCED
    wide_tokens: int = 0
    focus_tokens: int = 0
    probe: bool = False  # a model is asked apart, too, whether its evidence answers the question
    bounds: Bounds = field(default_factory=Bounds)  # of an analysis


@dataclass(frozen=True, slots=True)
class _Estimate:
    tier: Tier
    tokens: int = 0  # of its prompt, or of all of them
    cost_s: float = 0.0
    whole: bool = False  # whether it shows the whole code base
    share: float = 1.0  # of the gain that a large window brings
    closed: str = ""


class Costs:
    """What the tiers take on one workspace and its models."""

    def __init__(self, index: Index, engines: Engines, options: AskOptions, *, analyses: bool) -> None:
        """``analyses`` tells whether there is something to put the notes of an analysis together."""
        self._index = index
        self._engines = engines
        self._options = options
        self._analyses = analyses
        self._tree = (-1, 0)  # tokens of the tree at a generation of its index

    def budget(self, tier: Tier, limits: BackendInfo) -> int:
        """Tokens of a tier's prompt for a model of these limits."""
        options = self._options
        own = {Tier.WIDE: options.wide_tokens or WIDE_TOKENS, Tier.FOCUS: options.focus_tokens or FOCUS_TOKENS}
        wanted = own.get(tier, options.prompt_tokens or limits.prompt_tokens)
        return min(wanted, limits.context_window - options.answer_tokens)

    def tree_tokens(self) -> int:
        """About how many tokens the whole tree has."""
        generation = self._index.generation()
        if self._tree[0] != generation:
            size = sum(file.size for file in self._index.table.known_files().values())
            self._tree = (generation, int(size / BYTES_A_TOKEN))
        return self._tree[1]

    def rungs(
        self,
        tier: Tier,
        info: BackendInfo,
        tokens: int,
        confidence: Confidence,
        closed: Mapping[Tier, str],
        *,
        answered: bool,
    ) -> tuple[Rung, ...]:
        """The tiers above one whose prompt has so many tokens, with what each takes beyond accepting that one.

        ``closed`` names tiers that turned out not to help.
        """
        gains = ASSUMED_GAINS | dict(confidence.gains)
        spent = 0.0 if answered else self._seconds(info, tokens)
        tree = self.tree_tokens()
        full = self._full(info, tree)
        return tuple(
            Rung(
                one.tier,
                gains[one.tier] * one.share,
                max(0.0, one.cost_s - spent),
                harm(tokens, one.tokens) if info.writes and one.tier is not Tier.ANALYSIS else 0.0,
                one.whole,
                closed.get(one.tier) or one.closed,
            )
            for one in (self._wide(info, tree), self._focus(info, tree), full, self._analysis(info, tree, full))
            if is_further(one.tier, tier)
        )

    def seconds_of(self, info: BackendInfo, read: int, written: int | None = None) -> float:
        """What a model takes to read and to write so many tokens; by default an answer as long as usual."""
        return self._engines.pace(info, read).seconds(read, written)

    def _seconds(self, info: BackendInfo, tokens: int, known: int = 0) -> float:
        """Of a prompt of which the model knows some; nothing where there is no model."""
        if not info.writes:
            return 0.0
        read = SENTENCE_PROMPT_TOKENS if info.evidence_first else tokens - known
        return self._engines.pace(info, tokens).seconds(read)

    def _wide(self, info: BackendInfo, tree: int) -> _Estimate:
        limits = EvidenceOnlyBackend().info() if info.evidence_first else info
        budget = self.budget(Tier.WIDE, limits)
        tokens = min(budget, tree)
        small = budget < LEAST_GROWTH * self.budget(Tier.RAG, limits)
        reason = f"The window has no room for more than {budget} tokens." if small else ""
        share = _share(budget / max(1, self.budget(Tier.RAG, limits)), WIDE_TOKENS)
        return _Estimate(Tier.WIDE, tokens, WIDEN_S + self._seconds(info, tokens), share=share, closed=reason)

    def _focus(self, info: BackendInfo, tree: int) -> _Estimate:
        reason = unfit(info)
        budget = self.budget(Tier.FOCUS, info)
        wide = self.budget(Tier.WIDE, info)
        if not reason and budget < LEAST_GROWTH * wide:
            reason = f"The window has no room for more than the {wide} tokens of tier wide."
        tokens = min(budget, tree)
        share = _share(budget / max(1, self.budget(Tier.RAG, info)), FOCUS_TOKENS)
        return _Estimate(Tier.FOCUS, tokens, OUTLINE_S + self._seconds(info, tokens), share=share, closed=reason)

    def _full(self, info: BackendInfo, tree: int) -> _Estimate:
        try:
            reader = self._engines.reader().info() if info.writes else info
            reason = unfit(reader)
            if not reason and reader.context_window < window.LEAST_WINDOW:
                reason = f"A whole code base needs a window of at least {window.LEAST_WINDOW} tokens."
            if not reason and not self._engines.keeps_loads:
                reason = "Nothing keeps the whole code base ready to be read."
        except BackendError as error:
            reason = error.message
        if reason:
            return _Estimate(Tier.FULL, closed=reason)
        evidence = min(window.EVIDENCE_TOKENS, int(window.EVIDENCE_SHARE * reader.context_window))
        room = reader.context_window - self._options.answer_tokens - window.SPARE_TOKENS - evidence
        load = min(tree, room)
        known, restore_s = self._engines.known_of_full(reader, load)
        tokens = load + min(evidence, tree)
        cost_s = restore_s + self._seconds(reader, tokens, known) + (0.0 if known else LAY_OUT_S)
        return _Estimate(Tier.FULL, tokens, cost_s, whole=tree <= room, share=1.0 if tree <= room else PARTIAL_GAIN)

    def _analysis(self, info: BackendInfo, tree: int, full: _Estimate) -> _Estimate:
        reason = unfit(info)
        if not reason and not self._analyses:
            reason = "Nothing is there to put the parts of an analysis together."
        if not reason and full.whole and not full.closed:
            reason = "The whole code base fits one prompt."
        if reason:
            return _Estimate(Tier.ANALYSIS, closed=reason)
        bounds = self._options.bounds
        part = max(1, min(PART_TOKENS, bounds.part_tokens, info.context_window - NOTE_TOKENS))
        pace = self._engines.pace(info, part)
        parts = -(-tree // part)
        most = min(parts, bounds.most_tokens // part, int(bounds.most_seconds / pace.seconds(part, NOTE_TOKENS)))
        read = min(parts, max(1, most))
        cost_s = read * pace.seconds(part, NOTE_TOKENS) + pace.seconds(read * NOTE_TOKENS)
        return _Estimate(Tier.ANALYSIS, read * part, cost_s, share=1.0 if read == parts else PARTIAL_GAIN)


def _share(growth: float, usual_tokens: int) -> float:
    """Of the gain of a tier, what a prompt ``growth`` times as long as the first one brings."""
    usual = log(usual_tokens / USUAL_PROMPT_TOKENS)
    return min(1.0, max(LEAST_SHARE, log(max(1.0, growth)) / usual))


def unfit(info: BackendInfo) -> str:
    """Why a model cannot read much of a code base; "" where it can."""
    if not info.writes:
        return _NO_READER
    return _TOO_SMALL.format(info.model) if info.evidence_first else ""
