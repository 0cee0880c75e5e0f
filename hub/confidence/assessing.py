"""How likely it is that the evidence for a right answer was found. Pure: features in, value and reasons out.

The weights below are judgements, not fitted, so the value orders questions and is no probability; every Confidence
made here says ``calibrated=False``. Two facts need no weights: a question about a name that stands nowhere in the tree
cannot be answered from it, nor can one that found nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp

from hub.model import Confidence, SignalSource, Tier
from hub.retrieval import Found, Retrieval, is_bare_name
from indexer.model import ChunkId

# Weights of the features, each of which lies in 0..1. Judgements; range -6 to 6. Uncalibrated.
BIAS = -3.2
WEIGHTS = {
    "coverage": 4.2,  # share of the question's words, by rarity, that the first hits hold
    "rarest word held": 0.9,  # the rarest word of the question is among them
    "agreement": 1.2,  # text search and vectors agree about the first ten
    "named symbols known": 2.4,  # the question names symbols and all are known
    "place found": 3.0,  # something that was pasted is of this tree
    "similarity": 1.5,  # cosine of the nearest chunk, from 0.2 (nothing in common) to 0.7 (the same thing)
    "ambiguity": -1.0,  # a name that may mean many things
}

DECLINE_BELOW = 0.25  # 0.05 to 0.5: below it an answer would be a guess
_VECTORS = frozenset({SignalSource.STATIC, SignalSource.VECTOR})
LOOKED_AT = 5  # hits whose text is compared with the question


def assess(retrieval: Retrieval, weights: Sequence[tuple[str, float]], stems: Callable[[str], list[str]]) -> Confidence:
    """``weights`` holds the question's stems with their inverse document frequency, ``stems`` splits a text alike."""
    if retrieval.unknown and not retrieval.named:
        return Confidence(0.0, Tier.NONE, (_nowhere(retrieval.unknown),))
    if not retrieval.hits:
        return Confidence(0.0, Tier.NONE, ("Nothing in this tree shares a word or a name with the question.",))
    held = {stem for hit in retrieval.hits[:LOOKED_AT] for stem in stems(f"{hit.chunk.title}\n{hit.chunk.text}")}
    features = _features(retrieval, weights, held)
    value = 1 / (1 + exp(-BIAS - sum(WEIGHTS[name] * feature for name, feature in features)))
    reasons = tuple(_reasons(retrieval, dict(features), weights, held))
    bare = bool(retrieval.named) and is_bare_name(retrieval.query)
    tier = Tier.EXACT if bare else Tier.RAG if value >= DECLINE_BELOW else Tier.NONE
    return Confidence(round(value, 4), tier, reasons, features)


def _features(
    retrieval: Retrieval, weights: Sequence[tuple[str, float]], held: set[str]
) -> tuple[tuple[str, float], ...]:
    total = sum(weight for _, weight in weights)
    coverage = sum(weight for stem, weight in weights if stem in held) / total if total else 0.0
    rarest = max(weights, key=lambda pair: (pair[1], pair[0]), default=("", 0.0))[0]
    identifiers = retrieval.query.identifiers
    known = (len(identifiers) - len(retrieval.unknown)) / len(identifiers) if identifiers else 0.0
    meanings = max((count for _, count in retrieval.ambiguous), default=1)
    return (
        ("coverage", round(coverage, 4)),
        ("rarest word held", float(rarest in held)),
        ("agreement", round(_agreement(retrieval.arms), 4)),
        ("named symbols known", round(known if retrieval.named else 0.0, 4)),
        ("place found", float(SignalSource.PLACE in retrieval.arms)),
        ("similarity", round(_similarity(retrieval.arms), 4)),
        ("ambiguity", round(1 - 1 / meanings, 4)),
    )


def _reasons(
    retrieval: Retrieval, features: dict[str, float], weights: Sequence[tuple[str, float]], held: set[str]
) -> list[str]:
    missing = [stem for stem, _ in sorted(weights, key=lambda pair: (-pair[1], pair[0])) if stem not in held]
    reasons = [f"The first hits hold {features['coverage']:.0%} of the question's words, by rarity."]
    if missing:
        reasons.append(f"Not found in them: {', '.join(missing[:5])}.")
    if retrieval.query.paste:
        found = SignalSource.PLACE in retrieval.arms
        reasons.append(f"What was pasted names {'places' if found else 'no place'} of this tree.")
    if retrieval.named:
        reasons.append(f"The question names a known symbol, {retrieval.named[0].qualified_name}.")
    if retrieval.unknown:
        reasons.append(_nowhere(retrieval.unknown))
    reasons += [f"The name {name} may mean {count} different symbols." for name, count in retrieval.ambiguous]
    if not _VECTORS.isdisjoint(retrieval.arms):
        reasons.append(f"Text search and vectors agree on {features['agreement']:.0%} of their first ten.")
    else:
        reasons.append("Searched without vectors.")
    return reasons


def _agreement(arms: Mapping[SignalSource, Found]) -> float:
    """What share of their first ten chunks text search and vectors have in common; the surer where there are two."""
    lexical = _first_ten(arms.get(SignalSource.LEXICAL, ()))
    shares = [0.0]
    for source in _VECTORS:
        near = _first_ten(arms.get(source, ()))
        smaller = min(len(lexical), len(near))
        shares.append(len(lexical & near) / smaller if smaller else 0.0)
    return max(shares)


def _first_ten(found: Found) -> set[ChunkId]:
    return {chunk for chunk, _ in found[:10]}


def _similarity(arms: Mapping[SignalSource, Found]) -> float:
    cosines = [cosine for source in _VECTORS for _, cosine in arms.get(source, ())]
    return min(1.0, max(0.0, (max(cosines, default=0.0) - 0.2) / 0.5))


def _nowhere(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"The name {names[0]} stands nowhere in this tree."
    return f"The names {', '.join(names[:-1])} and {names[-1]} stand nowhere in this tree."
