"""Whether to accept a tier, to move to a further one, or to refuse: a pure decision, with the sentence that tells why.

A further tier is worth its seconds where what it is expected to put right, in seconds that a right answer is worth,
exceeds what it is expected to spoil and what it takes. Knows nothing of how anything is estimated: probabilities and
seconds come in. What is ambiguous is not unknown: reading more does not tell which of forty things a name means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from hub.confidence.reasons import DECLINE_BELOW
from hub.model import Breadth, Decision, Policy, Tier, Way, Weighed

# What a right answer instead of a wrong one is worth, in seconds of waiting. Judgements: fast is a reader who types the
# next question meanwhile, balanced one who would otherwise read the code for a quarter of an hour, exhaustive one who
# would look for an hour. Ranges 5 to 120, 300 to 2,400, 1,800 to 14,400. On the libraries that fit a window, read at
# 2,000 tokens a second and judged by heads of the others (benchmarks/confidence.py), a balanced 300, 900, 1,100 and
# 3,600 s caught 36, 72, 83 and 83% of 47 misses of a prompt of 16K, with a full load for 2, 10, 14 and 22% of 500
# questions; of the 62 misses of a prompt of 8K 42, 82, 87 and 90%.
VALUE_S = {Policy.FAST: 30.0, Policy.BALANCED: 900.0, Policy.EXHAUSTIVE: 3600.0}
# What a move must at least win, as a share of answers put right: less is noise of the estimates. 0 to 0.1.
LEAST_BENEFIT = 0.02
REFUSE_BELOW = DECLINE_BELOW  # an answer is refused where a search already says that it would be a guess
# The deep tiers are for questions about much of the code, and for evidence that the wide one lacks: it is taken to lack
# it below this confidence. 0.4 to 0.9.
DEEP_BELOW = 0.75
# From so many meanings on a name is ambiguous rather than unknown. 4 to 100.
MANY_MEANINGS = 10
# Share of what a prompt holds that models read out of it, by its tokens: RULER of Qwen3-30B-A3B-Instruct-2507, a model
# made for 256K, as its card tells. Shorter prompts are read no worse than the shortest of these.
READING = ((32_768, 0.972), (65_536, 0.934), (131_072, 0.891), (262_144, 0.825))

ORDER = (Tier.EXACT, Tier.RAG, Tier.WIDE, Tier.FOCUS, Tier.FULL, Tier.ANALYSIS)
SHALLOW = frozenset({Tier.RAG, Tier.WIDE})  # what evidence alone is read in
_RANK = {tier: rank for rank, tier in enumerate(ORDER)}


@dataclass(frozen=True, slots=True)
class Rung:
    """A further tier: ``gain`` and ``harm`` are in 0..1, ``cost_s`` is what it takes as things are now."""

    tier: Tier
    gain: float  # as hub.model.Weighed
    cost_s: float
    harm: float = 0.0  # that it spoils an answer that would have been right
    whole: bool = False  # whether it shows the whole code base
    closed: str = ""  # a sentence: why it cannot be tried, "" where it can


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known at a tier, before its prompt is read or after its answer was checked."""

    tier: Tier
    value: float  # 0..1: that it holds the evidence, or that the answer is right
    rungs: tuple[Rung, ...] = ()
    policy: Policy = Policy.BALANCED
    breadth: Breadth = Breadth.POINT
    answered: bool = False
    missing: tuple[str, ...] = ()  # names of the tree that the question or the answer needs and the prompt lacks
    ambiguous: tuple[tuple[str, int], ...] = ()  # (name, how many things it may mean)
    certified: float | None = None  # from this value on what is accepted is certified
    tried_to_certify: bool = False  # with ``certified`` None: nothing could be certified of this code base
    hopeless: str = ""  # a sentence: why no tier can answer it, "" where one may


def decide(outlook: Outlook) -> Decision:
    """Accept, move or refuse. Each move goes further up, so that asking again after each ends."""
    value_s = VALUE_S[outlook.policy]
    weighed = _weighed(outlook, value_s)
    way, tier, reason = _way(outlook, weighed)
    return Decision(
        at=outlook.tier,
        way=way,
        tier=tier,
        reason=reason,
        value=outlook.value,
        answered=outlook.answered,
        value_s=value_s,
        certified=outlook.certified,
        weighed=weighed,
    )


def reading(tokens: int) -> float:
    """The share of a prompt's content that models read out of so many tokens, by interpolating READING."""
    before, share = READING[0]
    if tokens <= before:
        return share
    for length, next_share in READING[1:]:
        if tokens <= length:
            return share + (next_share - share) * log(tokens / before) / log(length / before)
        before, share = length, next_share
    return share


def harm(now: int, then: int) -> float:
    """How likely a prompt of ``then`` tokens spoils an answer that one of ``now`` tokens would have got right."""
    return max(0.0, 1 - reading(then) / reading(now))


def is_further(tier: Tier, than: Tier) -> bool:
    """Whether a tier stands above another."""
    return _RANK[tier] > _RANK[than]


def _weighed(outlook: Outlook, value_s: float) -> tuple[Weighed, ...]:
    """The further tiers in their order. What a cheaper one shows a further one shows too, so gains never fall."""
    rungs = sorted((rung for rung in outlook.rungs if is_further(rung.tier, outlook.tier)), key=_rank)
    shallow = min((rung.cost_s for rung in rungs if rung.tier in SHALLOW and not rung.closed), default=None)
    weighed = []
    gain = 0.0
    for rung in rungs:
        gain = max(gain, rung.gain)
        benefit = (1 - outlook.value) * gain * (1 - rung.harm) - outlook.value * rung.harm
        closed = rung.closed
        if not closed and rung.tier not in SHALLOW:
            closed = _not_deep(outlook, rung, shallow)
        weighed.append(Weighed(rung.tier, gain, rung.harm, rung.cost_s, benefit * value_s - rung.cost_s, closed))
    return tuple(weighed)


def _not_deep(outlook: Outlook, rung: Rung, shallow: float | None) -> str:
    """Why a deep tier is not for this question; "" where it is."""
    if outlook.breadth is Breadth.GLOBAL or (rung.whole and shallow is not None and rung.cost_s <= shallow):
        return ""
    if not is_further(Tier.WIDE, outlook.tier) and (outlook.missing or outlook.value < DEEP_BELOW):
        return ""
    wide_open = shallow is not None
    if not wide_open and outlook.value < DEEP_BELOW:
        return ""
    return "It is for questions about much of the code, or for what a wide prompt lacks."


def _way(outlook: Outlook, weighed: Sequence[Weighed]) -> tuple[Way, Tier, str]:
    value = outlook.value
    if outlook.hopeless:
        return Way.REFUSE, Tier.NONE, outlook.hopeless
    if outlook.certified is not None and value >= outlook.certified:
        return Way.ACCEPT, outlook.tier, f"{value:.0%} is in the range that is certified, from {outlook.certified:.0%}."
    open_rungs = [rung for rung in weighed if not rung.closed]
    best = _best([rung for rung in open_rungs if rung.worth_s + rung.cost_s >= LEAST_BENEFIT * VALUE_S[outlook.policy]])
    stays = _ambiguity(outlook)
    if not stays and best and best.worth_s > 0:
        return Way.MOVE, best.tier, _worthwhile(outlook, best)
    if not stays and _must_widen(outlook) and any(rung.tier is Tier.WIDE for rung in open_rungs):
        return Way.MOVE, Tier.WIDE, f"{value:.0%} is not in a range that is certified."
    stays = stays or _no_further(open_rungs, best)
    if value < REFUSE_BELOW:
        return Way.REFUSE, Tier.NONE, f"{value:.0%} is too little to answer: it would be a guess. {stays}"
    return Way.ACCEPT, outlook.tier, f"{value:.0%} sure. {stays}"


def _must_widen(outlook: Outlook) -> bool:
    """Whether certificates were asked for, and this prompt is not certified. Of answers they say nothing."""
    asked_for = outlook.certified is not None or outlook.tried_to_certify
    return asked_for and not outlook.answered and outlook.policy is not Policy.FAST


def _ambiguity(outlook: Outlook) -> str:
    """Why reading more does not help, where a name means too many things; "" where it does not."""
    name, meanings = max(outlook.ambiguous, key=lambda pair: (pair[1], pair[0]), default=("", 0))
    if meanings < MANY_MEANINGS or outlook.breadth is not Breadth.POINT or outlook.missing:
        return ""
    return f"The name {name} may mean {meanings} things, and reading more does not tell which: name it in full."


def _best(rungs: Sequence[Weighed]) -> Weighed | None:
    """The one of the greatest worth; of equal ones the cheaper, then the earlier."""
    return min(rungs, key=lambda rung: (-rung.worth_s, rung.cost_s, _RANK[rung.tier]), default=None)


def _worthwhile(outlook: Outlook, best: Weighed) -> str:
    gained = best.worth_s + best.cost_s
    return (
        f"{outlook.value:.0%} sure, and tier {best.tier.value} shows what is missing in {best.gain:.0%} of such cases: "
        f"worth {gained:.0f} s, and it takes {best.cost_s:.0f} s."
    )


def _no_further(open_rungs: Sequence[Weighed], best: Weighed | None) -> str:
    if not open_rungs:
        return "No further tier is open."
    if best is None:
        return f"Further tiers would put right less than {LEAST_BENEFIT:.0%} of such answers."
    return f"The best further tier, {best.tier.value}, is not worth its {best.cost_s:.0f} s."


def _rank(rung: Rung) -> int:
    return _RANK[rung.tier]
