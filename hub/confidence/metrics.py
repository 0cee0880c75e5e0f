"""How good values of confidence are: do they order, do they mean what they say, what does declining the least sure win.

Pure: values in 0..1 with whether each was right, and numbers out. A figure is NaN where it means nothing, as of answers
that are all right. Knows nothing of where values come from.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isnan, nan
from random import Random
from typing import NamedTuple

BINS = 10  # of equal count, of a reliability diagram; 5 to 20
RESAMPLES = 200  # of a bootstrap; 100 to 10,000
COVERED = 0.95  # by an interval

Judged = Sequence[tuple[float, bool]]
"""(value, whether it was right)"""


class Bin(NamedTuple):
    """Questions of about the same value."""

    value: float  # mean
    right: float  # share
    questions: int


class Point(NamedTuple):
    """What happens where the surest questions are accepted, down to a value."""

    threshold: float
    coverage: float  # share of all that is accepted
    risk: float  # share of that which is wrong


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


def auroc(judged: Judged) -> float:
    """P(a right one has the higher value than a wrong one), ties count half."""
    right = sorted(value for value, is_right in judged if is_right)
    wrong = sorted(value for value, is_right in judged if not is_right)
    if not right or not wrong:
        return nan
    below = ties = 0
    for value in right:
        lower = bisect_left(wrong, value)
        below += lower
        at = lower
        while at < len(wrong) and wrong[at] == value:
            at += 1
            ties += 1
    return (below + ties / 2) / (len(right) * len(wrong))


def brier(judged: Judged) -> float:
    """Mean squared distance of a value from 1 where it is right, from 0 where it is wrong."""
    return sum((value - is_right) ** 2 for value, is_right in judged) / len(judged) if judged else nan


def reliability(judged: Judged, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal count, by value, the least sure first. Equal values may part, in the order of being wrong first."""
    ordered = sorted(judged)
    number = min(bins, len(ordered))
    cuts = [len(ordered) * at // number for at in range(number + 1)] if number else [0]
    found = []
    for first, last in pairwise(cuts):
        part = ordered[first:last]
        found.append(
            Bin(
                sum(value for value, _ in part) / len(part),
                sum(is_right for _, is_right in part) / len(part),
                len(part),
            )
        )
    return tuple(found)


def ece(judged: Judged, bins: int = BINS) -> float:
    """Expected calibration error: how far the share of right ones lies from the mean value, over bins of equal count
    (Naeini, Cooper and Hauskrecht, AAAI 2015, with the bins of Nixon et al. 2019).
    """
    if not judged:
        return nan
    return sum(found.questions * abs(found.value - found.right) for found in reliability(judged, bins)) / len(judged)


def risk_coverage(judged: Judged) -> tuple[Point, ...]:
    """A point for each distinct value, the surest first."""
    ordered = sorted(judged, reverse=True)
    points = []
    wrong = 0
    for number, (value, is_right) in enumerate(ordered, 1):
        wrong += not is_right
        if number == len(ordered) or ordered[number][0] != value:
            points.append(Point(value, number / len(ordered), wrong / number))
    return tuple(points)


def aurc(judged: Judged) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman and El-Yaniv 2017)."""
    return _area(judged, lambda point: point.risk)


def augrc(judged: Judged) -> float:
    """Area under the generalised curve, where a risk counts what is accepted and wrong of all (Traub et al. 2024)."""
    return _area(judged, lambda point: point.risk * point.coverage)


def balanced_accuracy(judged: Judged, threshold: float) -> float:
    """Mean of the shares of right ones at or above the threshold and of wrong ones below it."""
    right = [value for value, is_right in judged if is_right]
    wrong = [value for value, is_right in judged if not is_right]
    if not right or not wrong:
        return nan
    return (
        sum(value >= threshold for value in right) / len(right) + sum(value < threshold for value in wrong) / len(wrong)
    ) / 2


def best_threshold(judged: Judged) -> float:
    """Where the balanced accuracy is best, halfway between two values; 0.5 where all are right or none."""
    right, wrong = sum(is_right for _, is_right in judged), sum(not is_right for _, is_right in judged)
    if not right or not wrong:
        return 0.5
    ordered = sorted(judged)
    best, chosen = 0.5, ordered[0][0]
    kept, caught = right, 0
    for number, (value, is_right) in enumerate(ordered, 1):
        kept, caught = kept - is_right, caught + (not is_right)
        if number < len(ordered) and ordered[number][0] == value:
            continue
        accuracy = (kept / right + caught / wrong) / 2
        if accuracy > best:
            after = ordered[number][0] if number < len(ordered) else 1.0
            best, chosen = accuracy, (value + after) / 2
    return chosen


def interval(
    groups: Sequence[Judged], statistic: Callable[[Judged], float], seed: int, resamples: int = RESAMPLES
) -> Interval:
    """The statistic of all, and its percentile bootstrap over whole groups: give each question as a group of its own
    for an interval by question, each library for one by library.
    """
    everything = [pair for group in groups for pair in group]
    mean = statistic(everything)
    chance = Random(seed)  # noqa: S311 - resampling keeps no secret
    found = []
    for _ in range(resamples):
        told = statistic([pair for group in chance.choices(groups, k=len(groups)) for pair in group])
        if not isnan(told):
            found.append(told)
    if not found:
        return Interval(mean, nan, nan)
    found.sort()
    outside = (1 - COVERED) / 2
    return Interval(mean, found[int(outside * (len(found) - 1))], found[round((1 - outside) * (len(found) - 1))])


def _area(judged: Judged, height: Callable[[Point], float]) -> float:
    if not judged:
        return nan
    area, before = 0.0, 0.0
    for point in risk_coverage(judged):
        area += (point.coverage - before) * height(point)
        before = point.coverage
    return area
