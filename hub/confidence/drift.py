"""Whether a calibration still fits: what the tree was and what was asked then, against now. Pure: numbers in, sentences
out.

Two things may drift. The tree grows or moves on, and a new calibration mends that, so it is *stale*. Or what users ask
is unlike what the tree was asked while calibrating, and no calibration mends that: it is told beside the guarantee,
which is about questions like those. The second is measured by the population stability index of each feature,
sum of (now - then) * ln(now / then) over its deciles. Knows neither an index nor a question.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log

GROWTH = 0.10  # of the indexed lines, up or down; beyond, the calibration is stale. 0.05 to 0.5.
COMMITS = 500  # since; likewise. 100 to 5,000.
SHIFTED = 0.25  # of the index, by custom of credit scoring; 0.1 counts there as a small shift
LEAST_ASKED = 100  # questions; below, the index is mostly noise. 50 to 1,000.
BINS = 10
_SMOOTHING = 0.5  # questions added to each bin, so that an empty one has a logarithm


@dataclass(frozen=True, slots=True)
class Spread:
    """How one feature was spread: the ends of its bins, rising, and the questions in each bin, one bin more than ends.

    A value that equals an end lies above it.
    """

    name: str
    ends: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """The tree when it was calibrated, or as it is now."""

    lines: int
    commit: str  # "" outside git
    facts: str  # version of what is read out of a file
    heads: str  # version of the shipped coefficients


@dataclass(frozen=True, slots=True)
class Shift:
    """The population stability index of one feature, less what chance alone brings with so few questions."""

    name: str
    index: float


def spreads(vectors: Iterable[Mapping[str, float]]) -> tuple[Spread, ...]:
    """How each feature is spread over the questions, by name; bins of equal counts, as far as the values differ."""
    columns: dict[str, list[float]] = {}
    for vector in vectors:
        for name, value in vector.items():
            columns.setdefault(name, []).append(value)
    found = []
    for name, values in sorted(columns.items()):
        ordered = sorted(values)
        ends = tuple(sorted({ordered[len(ordered) * place // BINS] for place in range(1, BINS)}))
        found.append(Spread(name, ends, _counted(ends, values)))
    return tuple(found)


def shifts(then: Sequence[Spread], now: Sequence[Mapping[str, float]]) -> tuple[Shift, ...]:
    """The features that have shifted, worst first; none where fewer than ``LEAST_ASKED`` questions tell."""
    found = []
    for spread in then:
        values = [vector[spread.name] for vector in now if spread.name in vector]
        if len(values) < LEAST_ASKED or sum(spread.counts) < LEAST_ASKED:
            continue
        index = stability(spread.counts, _counted(spread.ends, values))
        # Of two samples of one distribution it is about chi-squared with so many degrees of freedom, so divided.
        chance = len(spread.ends) * (1 / sum(spread.counts) + 1 / len(values))
        if index - chance > SHIFTED:
            found.append(Shift(spread.name, round(index - chance, 3)))
    return tuple(sorted(found, key=lambda shift: (-shift.index, shift.name)))


def stability(then: Sequence[int], now: Sequence[int]) -> float:
    """The population stability index of two counts over the same bins: 0 where their shares are equal, never below.

    Raises ValueError for different numbers of bins.
    """
    before, after = _shares(then), _shares(now)
    return sum((b - a) * log(b / a) for a, b in zip(before, after, strict=True))


def stale(then: Taken, now: Taken, commits: int) -> tuple[str, ...]:
    """Why the tree should be calibrated again, a sentence each; ``commits`` is how many lie between."""
    reasons = []
    if then.heads != now.heads:
        reasons.append("The confidence that ships has changed since.")
    if then.facts != now.facts:
        reasons.append("What is read out of a file has changed since.")
    growth = (now.lines - then.lines) / max(1, then.lines)
    if abs(growth) > GROWTH:
        reasons.append(f"The tree has {'grown' if growth > 0 else 'shrunk'} by {abs(growth):.0%} since.")
    if commits > COMMITS:
        reasons.append(f"More than {COMMITS} commits have come since.")
    return tuple(reasons)


def _counted(ends: Sequence[float], values: Iterable[float]) -> tuple[int, ...]:
    counts = [0] * (len(ends) + 1)
    for value in values:
        counts[bisect_right(ends, value)] += 1
    return tuple(counts)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(count + _SMOOTHING) / total for count in counts]
