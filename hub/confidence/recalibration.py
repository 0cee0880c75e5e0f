"""A confidence fitted to many libraries, bent to what one repository shows. Pure: values and labels in, a map out.

The map is the beta calibration of Kull, Silva Filho and Flach (AISTATS 2017), which holds Platt's sigmoid as the case
of equal slopes, with a term for the budget of the prompt. It is fitted as the maximum of a posterior around the
identity, so that a handful of labels, contradictory ones and labels of one kind alone all give a map, and one near the
identity where they say little. Knows nothing of features, of questions or of where labels come from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, isfinite, log, log2
from typing import NamedTuple

LEAST_LABELS = 200  # questions; below, the pull to the shipped map grows. 100 to 1,000.
# How far the map of one repository lies from the identity, as standard deviations. On held-out halves of three
# libraries, judged by heads that did not know them, twice to eight times these did worse by up to 0.001 of the Brier
# score and half of them better by as much, which is noise; isotonic regression did worse by 0.006. 0.05 to 2.
SLOPE_SPREAD = 0.25
SKEW_SPREAD = 0.125  # of the difference of the two slopes, the third parameter that Platt's map lacks
OFFSET_SPREAD = 0.5
BUDGET_SPREAD = 0.1  # of the offset that a doubling of the budget brings
# A map never turns the order of values round, whatever the labels say. 0.01 to 0.2.
LEAST_SLOPE = 0.05
EDGE = 1e-6  # values are kept this far from 0 and 1, where their logarithms end. 1e-9 to 1e-3.
MIDDLE_BUDGET = 16_384  # tokens, at which the budget's term is 0
STEPS = 60  # of Newton's method, which ends by itself long before
TOLERANCE = 1e-9  # of the loss, relative


class Sample(NamedTuple):
    """A value, the budget in tokens of the prompt it is about, and whether the evidence was in that prompt.

    ``weight`` is 1 for a question of its own; of several prompts made for one question it is a share of 1.
    """

    value: float
    present: bool
    budget: int = MIDDLE_BUDGET
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """A rising map of values in 0..1; as it is made without arguments it changes nothing.

    The log-odds become ``low * ln(value) - high * ln(1 - value) + offset + budget * log2(tokens / 16,384)``.
    """

    low: float = 1.0
    high: float = 1.0
    offset: float = 0.0
    budget: float = 0.0
    labels: int = 0  # questions it was fitted to

    def of(self, value: float, budget: int = MIDDLE_BUDGET) -> float:
        """The value as this repository shows it to be. What is no number counts as 0."""
        if not isfinite(value):
            return 0.0
        inside = min(1 - EDGE, max(EDGE, value))
        doublings = log2(max(1, budget) / MIDDLE_BUDGET)
        return probability(self.low * log(inside) - self.high * log(1 - inside) + self.offset + self.budget * doublings)


IDENTITY = Calibration()


def fitted(samples: Iterable[Sample], labels: int | None = None) -> Calibration:
    """The map of maximum posterior density; the identity for no samples. Their order does not matter.

    ``labels`` is how many questions the samples stand for, the sum of their weights where it is not given.
    """
    import numpy as np  # noqa: PLC0415 - 0.1 s that a question need not wait for

    told = sorted(sample for sample in samples if isfinite(sample.value) and sample.weight > 0)
    if not told:
        return IDENTITY
    values = np.clip(np.array([sample.value for sample in told]), EDGE, 1 - EDGE)
    right = np.array([float(sample.present) for sample in told])
    weights = np.array([sample.weight for sample in told])
    count = round(float(weights.sum())) if labels is None else labels
    doublings = np.log2(np.array([max(1, sample.budget) for sample in told]) / MIDDLE_BUDGET)
    # As mean and half the difference of the two slopes: Platt's map is the one whose difference is 0.
    rising, falling = np.log(values), -np.log(1 - values)
    columns = np.stack([rising + falling, rising - falling, np.ones_like(values), doublings], axis=1)
    centre = np.array([1.0, 0.0, 0.0, 0.0])
    spread = np.array([SLOPE_SPREAD, SKEW_SPREAD, OFFSET_SPREAD, BUDGET_SPREAD])
    # With fewer labels than it takes, each counts the less the fewer there are.
    pull = max(1.0, LEAST_LABELS / max(1, count)) ** 2 / spread**2

    def loss(parameters: "np.typing.NDArray[np.float64]") -> float:
        odds = columns @ parameters
        likelihood = weights @ (np.logaddexp(0.0, odds) - right * odds)
        return float(likelihood + 0.5 * pull @ (parameters - centre) ** 2)

    parameters, before = centre, loss(centre)
    for _ in range(STEPS):
        expected = 1 / (1 + np.exp(-np.clip(columns @ parameters, -500, 500)))
        slope = columns.T @ (weights * (expected - right)) + pull * (parameters - centre)
        curvature = (columns.T * (weights * expected * (1 - expected))) @ columns + np.diag(pull)
        step = np.linalg.solve(curvature, slope)
        length = 1.0
        while (after := loss(parameters - length * step)) > before and length > 1e-9:
            length /= 2
        if after > before:
            break
        parameters, gained, before = parameters - length * step, before - after, after
        if gained <= TOLERANCE * (1 + abs(before)):
            break
    mean, half, offset, budget = (round(float(number), 4) for number in parameters)
    return Calibration(
        max(LEAST_SLOPE, round(mean + half, 4)), max(LEAST_SLOPE, round(mean - half, 4)), offset, budget, count
    )


def probability(odds: float) -> float:
    """The probability of log-odds, for any finite number."""
    if odds >= 0:
        return 1 / (1 + exp(-odds))
    grown = exp(odds)
    return grown / (1 + grown)
