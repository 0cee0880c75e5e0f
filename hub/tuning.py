"""Fits the weights of fusion to questions with known answers, and tells whether that helped.

A conditional logit (McFadden 1974): of the candidates of a question, the one that a score puts first is right with
the probability softmax(score); the weights are those that make the known answers likeliest. A Gaussian prior around
given weights keeps them there where labels are few: with n questions the pull of the labels grows with n, that of the
prior does not. Deterministic. Knows nothing of how labels are made nor of how candidates are found.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hub.evaluation import meets, rankings, score
from hub.labels import Label, LabelKind
from hub.retrieval.candidates import Candidates
from hub.retrieval.fusion import (
    ARMS,
    CHANGES,
    CHUNK_FEATURES,
    FILE_FEATURES,
    Block,
    Weights,
    block_of,
    chunk_features,
    file_features,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]
    Positions = npt.NDArray[np.int64]
else:  # numpy takes 0.1 s to import, which other commands should not wait for
    Numbers = Flags = Positions = Any

# How far a weight of one tree lies from the shipped one, as a standard deviation in units of weights. 0.2 to 5: small
# trusts the prior. Of 0.5 and 1, the one that did less harm on held-out questions of glog and jsoncpp.
SPREAD = 0.5
LEAST_QUESTIONS = 20  # of a kind, below which nothing is fitted; 10 to 100
LEAST_GAIN = 0.002  # of the mean of MRR and NDCG on held-out questions; below, the prior stays
STEPS = 200  # of the minimisation, which ends by itself long before
TOLERANCE = 1e-7  # of the loss, relative
DIGITS = 3  # of a fitted weight

Example = tuple[Label, Candidates]

# Weights that cannot be negative: what an arm found is never a reason against it.
_NOT_NEGATIVE = frozenset((*ARMS, CHANGES))


@dataclass(frozen=True, slots=True)
class Gain:
    """What fitting did to one block: the mean of MRR@10 and NDCG@10 over held-out questions."""

    block: str
    fitted_on: int  # questions
    held_out: int
    before: float
    after: float
    kept: bool  # whether the fitted weights are used


def fit(examples: Iterable[Example], prior: Weights, spread: float = SPREAD) -> Weights:
    """The weights of maximum posterior density under the examples; the prior itself where there are none.

    Examples of functions fit the weights for chunks, those of commits the weights for files. Their order does not
    matter.
    """
    told = list(examples)
    fitted = {
        name: _fitted(_problems(name, told), features, dict(getattr(prior, name)), spread)
        for name, features in FITTED.items()
    }
    if all(dict(block) == dict(getattr(prior, name)) for name, block in fitted.items()):
        return prior
    return replace(prior, **fitted, origin=_origin(told))


def adapt(examples: Iterable[Example], held_out: Sequence[Example], prior: Weights) -> tuple[Weights, tuple[Gain, ...]]:
    """Fits, and keeps of each block what ranks held-out questions better than the prior does."""
    told = list(examples)
    fitted = fit(told, prior)
    kept, gains = prior, []
    for name in FITTED:
        asked = [example for example in held_out if _block_of(example) == name]
        learnt = sum(_block_of(example) == name for example in told)
        candidate = replace(prior, **{name: getattr(fitted, name)})
        before, after = _quality(asked, prior), _quality(asked, candidate)
        better = learnt >= LEAST_QUESTIONS and after >= before + LEAST_GAIN
        gains.append(Gain(name, learnt, len(asked), before, after, better))
        if better:
            kept = replace(kept, **{name: getattr(fitted, name)}, origin=fitted.origin)
    return kept, tuple(gains)


FITTED = {"prose": CHUNK_FEATURES, "account": CHUNK_FEATURES, "change": CHUNK_FEATURES, "files": FILE_FEATURES}


def _block_of(example: Example) -> str:
    """Which block ranks the answers of an example; "" where none is fitted."""
    label, candidates = example
    if all(isinstance(part, str) for part in label.gold):
        return "files"
    block = block_of(candidates.query)
    return block if block in FITTED else ""


def _origin(examples: Sequence[Example]) -> str:
    counts = [(kind.value, sum(label.kind is kind for label, _ in examples)) for kind in LabelKind]
    return "this tree: " + ", ".join(f"{number} of kind {kind}" for kind, number in counts if number)


def _quality(examples: Sequence[Example], weights: Weights) -> float:
    if not examples:
        return 0.0
    total = 0.0
    for label, candidates in examples:
        _, first, gain = score(label.gold, rankings(label, candidates, weights)["fused"])
        total += (first + gain) / 2
    return total / len(examples)


@dataclass(frozen=True, slots=True)
class _Problem:
    """One question: the features of its candidates, and which of them answer it."""

    key: str
    rows: tuple[tuple[tuple[str, float], ...], ...]
    right: tuple[bool, ...]


def _problems(block: str, examples: Sequence[Example]) -> list[_Problem]:
    """Those of the examples that a block ranks and whose answer is among the candidates, in an order of their own."""
    found = []
    for label, candidates in (example for example in examples if _block_of(example) == block):
        if block == "files":
            files = sorted(file_features(candidates).items())
            rows = tuple(tuple(features) for _, features in files)
            right = tuple(path in label.gold for path, _ in files)
        else:
            chunks = sorted(chunk_features(candidates).items())
            rows = tuple(tuple(features) for _, features in chunks)
            places = [candidates.places[chunk] for chunk, _ in chunks]
            right = tuple(any(meets(part, place) for part in label.gold) for place in places)
        if any(right) and not all(right):
            found.append(_Problem(f"{label.question}\0{label.about}", rows, right))
    return sorted(found, key=lambda problem: problem.key)


def _fitted(problems: Sequence[_Problem], features: Sequence[str], prior: dict[str, float], spread: float) -> Block:
    given = tuple(prior.items())
    if not problems:
        return given
    import numpy as np  # noqa: PLC0415 - 0.1 s that other commands should not wait for

    column = {name: number for number, name in enumerate(features)}
    table = np.zeros((sum(len(problem.rows) for problem in problems), len(features)))
    row = 0
    for problem in problems:
        for told in problem.rows:
            for name, value in told:
                table[row, column[name]] = value
            row += 1
    right = np.array([answer for problem in problems for answer in problem.right])
    starts = np.cumsum([0, *(len(problem.rows) for problem in problems[:-1])])
    centre = np.array([prior.get(name, 0.0) for name in features])
    told_of = np.abs(table).max(axis=0) > 0  # a feature that no example shows stays where it was
    bounded = np.array([name in _NOT_NEGATIVE for name in features])

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        value, slope = _surprise(table, right, starts, weights)
        away = weights - centre
        return value + float(away @ away) / (2 * spread**2), slope + away / spread**2

    weights = _minimum(loss, centre, told_of, bounded)
    rounded = [(name, round(float(value), DIGITS)) for name, value in zip(features, weights, strict=True)]
    return tuple((name, value) for name, value in rounded if value or name in prior)


def _surprise(table: Numbers, right: Flags, starts: Positions, weights: Numbers) -> tuple[float, Numbers]:
    """Minus the log probability of the right answers, summed over the questions, and its gradient.

    ``table`` has a row for each candidate, the questions one after the other from ``starts`` on.
    """
    import numpy as np  # noqa: PLC0415 - as above

    sizes = np.diff([*starts, len(table)])
    scores = table @ weights
    scores -= np.repeat(np.maximum.reduceat(scores, starts), sizes)
    powers = np.exp(scores)
    all_of = np.add.reduceat(powers, starts)
    right_of = np.maximum(np.add.reduceat(powers * right, starts), 1e-300)
    shares = powers / np.repeat(all_of, sizes) - powers * right / np.repeat(right_of, sizes)
    return float(np.log(all_of / right_of).sum()), shares @ table


def _minimum(loss: Callable[[Numbers], tuple[float, Numbers]], start: Numbers, free: Flags, bounded: Flags) -> Numbers:
    """The weights of least loss. What would be negative and may not be is held at 0, one after the other (an active
    set); the rest is found by BFGS (Nocedal and Wright 2006, chapter 6).
    """
    import numpy as np  # noqa: PLC0415 - as above

    moving = free.copy()
    weights = np.where(bounded, np.maximum(start, 0.0), start)
    while True:
        weights = _descended(loss, weights, moving)
        negative = bounded & moving & (weights < 0)
        if not negative.any():
            return weights
        moving &= ~negative
        weights = np.where(negative, 0.0, weights)


def _descended(loss: Callable[[Numbers], tuple[float, Numbers]], weights: Numbers, moving: Flags) -> Numbers:
    import numpy as np  # noqa: PLC0415 - as above

    curvature = np.eye(len(weights))
    value, slope = loss(weights)
    slope = np.where(moving, slope, 0.0)
    for step in range(STEPS):
        direction = -curvature @ slope
        if direction @ slope >= 0:
            curvature, direction = np.eye(len(weights)), -slope
        length = 1.0 if step else min(1.0, 1.0 / max(1.0, float(np.abs(slope).sum())))
        down = float(direction @ slope)
        while length > 1e-12:
            ahead, gradient = loss(weights + length * direction)
            if ahead <= value + 1e-4 * length * down:
                break
            length /= 2
        else:
            return weights
        moved = length * direction
        gradient = np.where(moving, gradient, 0.0)
        turned = gradient - slope
        weights = weights + moved
        gained = value - ahead
        value, slope = ahead, gradient
        bent = float(moved @ turned)
        if bent > 1e-12:
            away = np.eye(len(weights)) - np.outer(moved, turned) / bent
            curvature = away @ curvature @ away.T + np.outer(moved, moved) / bent
        if gained <= TOLERANCE * (1 + abs(value)):
            return weights
    return weights
