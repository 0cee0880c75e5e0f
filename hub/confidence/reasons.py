"""A confidence with its reasons: sentences that a developer can act on. Pure.

Two facts need no weights: a question about a name that stands nowhere in the tree cannot be answered from it, nor can
one that found nothing.
"""

from collections.abc import Callable, Collection, Sequence

from hub.confidence.features import FIRST, Words
from hub.confidence.heads import Features, Heads
from hub.model import Confidence, SignalSource, Tier
from hub.retrieval import Retrieval, is_bare_name

DECLINE_BELOW = 0.25  # 0.05 to 0.5: below it an answer would be a guess
MOST_MISSING = 5  # words that are named
DANGLING = 0.25  # 0.1 to 0.6; of the question, what a name must say that the hits call and the tree lacks, to be told
_VECTORS = frozenset({SignalSource.STATIC, SignalSource.VECTOR})


def judge(
    retrieval: Retrieval,
    features: Features,
    heads: Heads,
    tier: Tier,
    stems: Callable[[str], Collection[str]],
) -> Confidence:
    """How sure the prompt of a tier is to hold the evidence, which gains further tiers promise, and why.

    The tier becomes NONE where an answer would be a guess, and EXACT for a bare name that is known.
    """
    if retrieval.unknown and not retrieval.named:
        return Confidence(0.0, Tier.NONE, (_nowhere(retrieval.unknown),))
    if not retrieval.hits:
        return Confidence(0.0, Tier.NONE, ("Nothing in this tree shares a word or a name with the question.",))
    value = heads.value(features)
    bare = bool(retrieval.named) and is_bare_name(retrieval.query)
    chosen = Tier.EXACT if bare else tier if value >= DECLINE_BELOW else Tier.NONE
    gains = tuple(
        (further, round(gain, 4)) for further, _ in heads.gains if (gain := heads.gain(further, features)) is not None
    )
    return Confidence(
        round(value, 4),
        chosen,
        tuple(_reasons(retrieval, dict(features), stems)),
        features,
        calibrated=True,
        gains=gains,
    )


def _reasons(retrieval: Retrieval, features: dict[str, float], stems: Callable[[str], Collection[str]]) -> list[str]:
    wording = Words.of(retrieval)
    told = [wording.read(hit, stems) for hit in retrieval.hits[:FIRST]]
    held = frozenset[str]().union(*(read.held for read in told))
    missing = [
        stem for stem in sorted(wording.weights, key=lambda stem: (-wording.weights[stem], stem)) if stem not in held
    ]
    reasons = [f"The first hits hold {features['first hits hold']:.0%} of the question's words, by rarity."]
    if missing:
        reasons.append(f"Not found in them: {', '.join(missing[:MOST_MISSING])}.")
    if retrieval.query.paste:
        found = SignalSource.PLACE in retrieval.arms
        reasons.append(f"What was pasted names {'places' if found else 'no place'} of this tree.")
    if retrieval.named:
        reasons.append(f"The question names a known symbol, {retrieval.named[0].qualified_name}.")
    if retrieval.unknown:
        reasons.append(_nowhere(retrieval.unknown))
    if features["called and unknown"] >= DANGLING and features["known over unknown"] < 0:
        reasons.append("The first hits call what the question speaks of, and this tree does not define it.")
    reasons += [f"The name {name} may mean {count} different symbols." for name, count in retrieval.ambiguous]
    if not _VECTORS.isdisjoint(retrieval.arms):
        reasons.append(f"Text search and vectors agree on {features['agreement']:.0%} of their first ten.")
    else:
        reasons.append("Searched without vectors.")
    return reasons


def _nowhere(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"The name {names[0]} stands nowhere in this tree."
    return f"The names {', '.join(names[:-1])} and {names[-1]} stand nowhere in this tree."
