"""Fits a head to examples: logistic regression, shrunk, whose weights keep the signs that their features must have.

A feature that says "more of the question is held" must never make an answer look worse, whatever chance says in a few
thousand examples; a weight of the wrong sign becomes 0. Pure: features and labels in, a head out. Deterministic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.confidence.heads import Features, Head

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Columns = npt.NDArray[np.float64]

PENALTY = 96.0  # on the square of a weight of a standardised feature; 0.1 to 100
STEPS = 100  # of Newton's method, which ends by itself long before
TOLERANCE = 1e-8  # of the loss, relative
LEAST_SPREAD = 1e-3  # standard deviation of a feature below which it tells nothing

# The sign that the weight of each feature must have: more of what is asked for held, and arms that agree, never speak
# against the evidence; what is unknown, ambiguous or scattered never speaks for it. 0 where either may be.
_FOR = """agreement|agreement of fifty|arms for first|best hit holds|best title holds|budget|called and known|depth|fall
|first five share|first hit holds|first hits hold|first share|first shown|first title holds|first told|hits hold
|known over unknown|lead|lead over tenth|names defined|names known|names shown|one hit of all
|rarest in best|rarest in first|score|shown share|similarity|similarity deviation|similarity gap
|similarity gap to tenth|spelt and known|symbol first|symbol strength|text deviation|text gap|text gap to tenth
|text strength|text's first in vectors|top file share|vectors' first in text"""
_AGAINST = """ambiguity|asks a relation|called and unknown|files of first|is a change|names unknown
|rarest spread|spelt and unknown|unknown words"""
_EITHER = "first is a function|first is a type|is a name|names something|words"
# What the questions that heads are fitted to never show counts by judgement.
JUDGED: Mapping[str, float] = {"asks for much": -1.0, "place found": 2.0}
EVIDENCE_SIGNS: Mapping[str, int] = {
    name.strip(): sign for names, sign in ((_FOR, 1), (_AGAINST, -1), (_EITHER, 0)) for name in names.split("|")
}
# Of what a further tier shows: the more of the question the tree knows, and the less the prompt has held of it so far.
GAIN_SIGNS: Mapping[str, int] = {
    "best title holds": 1,
    "budget": -1,
    "called and unknown": -1,
    "fits": 1,
    "is a change": 0,
    "known over unknown": 1,
    "names defined": 1,
    "names unknown": -1,
    "rarest spread": 0,
    "shown share": 0,
    "similarity": 1,
    "symbol strength": 1,
    "text strength": 1,
    "unknown words": -1,
    "words": 0,
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One prompt. ``weight`` says what it counts: several prompts of one question count as one together."""

    features: Features
    right: bool
    weight: float = 1.0


def fit(told: Sequence[Labelled], signs: Mapping[str, int], penalty: float = PENALTY) -> Head:
    """The head of greatest posterior density. ``signs`` names the features to use: 1 for a weight that may not be
    negative, -1 for one that may not be positive, 0 for any.

    Labels all of one kind, and none, give a head that says so and no more.
    """
    import numpy as np  # noqa: PLC0415 - 0.1 s that a question need not wait for

    names = sorted(signs)
    if not told or not names:
        return Head(0.0, ())
    known = [dict(labelled.features) for labelled in told]
    columns = np.array([[features.get(name, 0.0) for name in names] for features in known])
    right = np.array([float(labelled.right) for labelled in told])
    weights = np.array([labelled.weight for labelled in told])
    mean = weights @ columns / weights.sum()
    spread = np.sqrt(weights @ (columns - mean) ** 2 / weights.sum())
    used = spread >= LEAST_SPREAD
    scale = np.where(used, spread, 1.0)
    standard = np.concatenate([(columns - mean) / scale * used, np.ones((len(told), 1))], axis=1)
    bounds = np.array([*(signs[name] for name in names), 0])
    pull = np.array([*([penalty] * len(names)), 1e-3])
    found = _minimum(standard, right, weights, bounds, pull)
    slopes = np.where(used, found[:-1] / scale, 0.0)
    bias = float(found[-1] - slopes @ mean)
    return Head(
        round(bias, 4),
        tuple((name, round(float(slope), 4)) for name, slope in zip(names, slopes, strict=True) if abs(slope) >= 5e-4),
    )


def _minimum(columns: "Columns", right: "Columns", weights: "Columns", bounds: "Columns", pull: "Columns") -> "Columns":
    """Projected Newton (Bertsekas, SIAM J. Control 1982): what a bound holds back stays out of the step."""
    import numpy as np  # noqa: PLC0415 - as above

    def loss(parameters: "Columns") -> float:
        odds = columns @ parameters
        return float(weights @ (np.logaddexp(0.0, odds) - right * odds) + 0.5 * pull @ parameters**2)

    def inside(parameters: "Columns") -> "Columns":
        return np.where(parameters * bounds < 0, 0.0, parameters)

    parameters = np.zeros(columns.shape[1])
    before = loss(parameters)
    for _ in range(STEPS):
        expected = 1 / (1 + np.exp(-np.clip(columns @ parameters, -500, 500)))
        slope = columns.T @ (weights * (expected - right)) + pull * parameters
        free = ~((parameters == 0) & (bounds != 0) & (slope * bounds > 0))
        part = columns[:, free]
        curvature = (part.T * (weights * expected * (1 - expected))) @ part + np.diag(pull[free])
        step = np.zeros_like(parameters)
        step[free] = np.linalg.solve(curvature, slope[free])
        length = 1.0
        while (after := loss(inside(parameters - length * step))) > before and length > 1e-9:
            length /= 2
        if after > before:
            break
        parameters, gained, before = inside(parameters - length * step), before - after, after
        if gained <= TOLERANCE * (1 + abs(before)):
            break
    return parameters
