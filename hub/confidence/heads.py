"""What turns features into probabilities: a linear head of log-odds for each thing that is asked of a prompt. Pure.

One head tells whether the evidence is in a prompt, of any budget; one for each further tier tells whether that tier
shows what is missing, if something is. What was found out about one repository stands beside them: a map of the values
and the certificates of thresholds. Knows neither where features come from nor how the numbers were fitted.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from hub.confidence.certifying import Certificate
from hub.confidence.recalibration import IDENTITY, Calibration, probability
from hub.model import Tier

# Raise it when a feature changes its meaning: heads of other versions are then left aside.
HEADS_VERSION = 1
BUDGET = "budget"  # the feature that tells the tokens of a prompt, as doublings of MIDDLE_BUDGET over BUDGET_SCALE
MIDDLE_BUDGET = 16_384
BUDGET_SCALE = 4.0

Features = tuple[tuple[str, float], ...]
Weights = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Log-odds as a weighted sum: a feature without a weight counts nothing, one that was not observed is 0."""

    bias: float
    weights: Weights

    def odds(self, features: Mapping[str, float]) -> float:
        return self.bias + sum(weight * features.get(name, 0.0) for name, weight in self.weights)


@dataclass(frozen=True, slots=True)
class Heads:
    """``origin`` says in words what they were fitted on; ``calibration`` bends the values of ``evidence``."""

    evidence: Head
    gains: tuple[tuple[Tier, Head], ...]
    origin: str
    calibration: Calibration = IDENTITY
    certificates: tuple[Certificate, ...] = ()

    def value(self, features: Iterable[tuple[str, float]]) -> float:
        """P(the evidence for a right answer is in the prompt)."""
        known = dict(features)
        raw = probability(self.evidence.odds(known))
        return raw if self.calibration == IDENTITY else self.calibration.of(raw, budget_of(known))

    def gain(self, tier: Tier, features: Iterable[tuple[str, float]]) -> float | None:
        """P(the tier shows the evidence | this prompt does not); None for a tier without a head."""
        head = dict(self.gains).get(tier)
        return None if head is None else probability(head.odds(dict(features)))

    def dumps(self) -> str:
        """As JSON, to be kept with an index."""
        return json.dumps({"version": HEADS_VERSION, **asdict(self)}, sort_keys=True)

    @staticmethod
    def loads(text: str) -> "Heads | None":
        """What ``dumps`` gave; None for anything else, other versions among it."""
        try:
            told = json.loads(text)
            if told["version"] != HEADS_VERSION:
                return None
            return Heads(
                _head(told["evidence"]),
                tuple((Tier(tier), _head(head)) for tier, head in told["gains"]),
                str(told["origin"]),
                Calibration(**told["calibration"]),
                tuple(Certificate(**entry) for entry in told["certificates"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def budget_of(features: Mapping[str, float]) -> int:
    """The tokens of the prompt that the features are about."""
    return round(MIDDLE_BUDGET * 2 ** (features.get(BUDGET, 0.0) * BUDGET_SCALE))


def _head(told: Mapping[str, object]) -> Head:
    weights = told["weights"]
    if not isinstance(weights, list):
        raise TypeError
    return Head(float(str(told["bias"])), tuple((str(name), float(value)) for name, value in weights))
