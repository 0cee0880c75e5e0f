"""Thresholds of confidence with a guarantee: of what is accepted at them, no more than a share lacks its evidence.

Learn then Test (Angelopoulos, Bates, Candès, Jordan, Lei, 2021): that a threshold's risk lies above ``alpha`` is a
hypothesis; its p-value is the exact binomial tail (Clopper and Pearson, 1934); thresholds are certified together by a
test that errs about any of them with probability ``delta`` at most. A pair of thresholds is tested, for the moderate
prompt and for the wide one that follows where the first is not sure enough, as a cascade is in BalanceRAG
(arXiv 2605.20084): in an order learnt on other questions (split fixed-sequence testing), the test ending with the first
pair that fails, or along a lattice. Pure: numbers in, certificates out. Knows nothing of where confidence comes from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, log1p, log2
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from hub.model import Policy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]
else:  # numpy takes 0.1 s to import, which a question should not wait for
    Counts = Any

ALPHAS = (0.05, 0.10, 0.20)  # shares of what is accepted that may lack the evidence
DELTA = 0.05  # that a certificate is wrong
# The share that each policy puts up with. Judgements, of ALPHAS.
ALPHA_OF = MappingProxyType({Policy.FAST: 0.20, Policy.BALANCED: 0.10, Policy.EXHAUSTIVE: 0.05})
GRID = 24  # thresholds of each tier; 10 to 100. More cost time, and certify little that these do not.
# What an answer accepted is worth of going on to the wide prompt: of pairs that are all certified, the one that accepts
# most less this for each question that goes on. 0 to 0.5; a wide prompt is 4 times a moderate one.
GOING_ON = 0.05
NEVER = 2.0  # a threshold that no confidence reaches
EVERYTHING = ""  # the group of all questions
_STEPS = 60  # of a bisection


class Trial(NamedTuple):
    """One question: how sure its moderate and its wide prompt are, and whether they hold the evidence."""

    first: float
    first_right: bool
    second: float = 0.0  # 0 where there is no wide prompt
    second_right: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is certified for one group of questions, one budget and one ``alpha``.

    A prompt of ``budget`` tokens is accepted from a confidence of ``accept`` on; failing that, the wide one from one of
    ``accept_wide`` on. With probability 1 - ``delta`` at most ``alpha`` of what is accepted so lacks its evidence, for
    questions like those tested. ``accepted`` is 0 where nothing could be certified.
    """

    group: str  # of questions, such as a Breadth; "" for all of them
    budget: int  # tokens of the moderate prompt
    alpha: float
    delta: float
    tested: int  # questions
    accept: float = NEVER
    accept_wide: float = NEVER
    accepted: int = 0  # of the questions tested, by the pair of thresholds
    wrong: int = 0  # of those, without their evidence
    widened: int = 0  # of the questions tested, how many went on to the wide prompt

    @property
    def holds(self) -> bool:
        return self.accepted > 0

    @property
    def bound(self) -> float:
        """Upper bound of the risk of this pair alone (Clopper and Pearson); 1 where nothing is certified."""
        return upper_bound(self.wrong, self.accepted, self.delta) if self.accepted else 1.0


def tail(wrong: int, tested: int, risk: float) -> float:
    """P(X <= wrong) of a binomial X of ``tested`` trials that each go wrong with probability ``risk``, exactly summed.

    The p-value of the hypothesis that the risk is at least ``risk``.
    """
    if wrong >= tested or risk <= 0:
        return 1.0
    if wrong < 0 or risk >= 1:
        return 0.0
    logs = [
        lgamma(tested + 1) - lgamma(k + 1) - lgamma(tested - k + 1) + k * log(risk) + (tested - k) * log1p(-risk)
        for k in range(wrong + 1)
    ]
    highest = max(logs)
    return min(1.0, exp(highest) * sum(exp(value - highest) for value in logs))


def upper_bound(wrong: int, tested: int, delta: float) -> float:
    """The smallest risk that so few wrong ones refute at level ``delta``; 1 where nothing was tested."""
    if wrong >= tested:
        return 1.0
    low, high = wrong / tested, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if tail(wrong, tested, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def least_tested(alpha: float, delta: float) -> int:
    """How many accepted questions, all of them right, certify a risk of ``alpha``."""
    count = 1
    while tail(0, count, alpha) > delta:
        count += 1
    return count


def certified(
    learning: Sequence[Trial],
    testing: Sequence[Trial],
    alpha: float,
    delta: float = DELTA,
    *,
    group: str = EVERYTHING,
    budget: int = 0,
) -> Certificate:
    """The pair of thresholds that accepts most among those certified on ``testing``.

    Which pairs are tried, and in which order, is learnt on ``learning`` alone, which shares no question with
    ``testing``; a question stands in ``testing`` once, so that trials are independent.
    """
    lattice = _Lattice(learning)
    # What promises most is tried first: by the p-value on the other questions, then the pair that accepts more.
    seen = lattice.counted(learning)
    promised = sorted(
        range(len(lattice)),
        key=lambda pair: (tail(seen.wrong[pair], seen.accepted[pair], alpha), -seen.accepted[pair], pair),
    )
    counted = lattice.counted(testing)
    kept = fixed_sequence(
        [
            tail(counted.wrong[pair], counted.accepted[pair], alpha) if counted.accepted[pair] else 1.0
            for pair in promised
        ],
        delta,
    )
    return lattice.best(
        [promised[place] for place in kept], counted, Certificate(group, budget, alpha, delta, len(testing))
    )


def certified_on_lattice(
    learning: Sequence[Trial],
    testing: Sequence[Trial],
    alpha: float,
    delta: float = DELTA,
    *,
    group: str = EVERYTHING,
    budget: int = 0,
) -> Certificate:
    """The same by a graphical test: ``delta`` starts at the strictest pairs and flows to their laxer neighbours."""
    lattice = _Lattice(learning)
    counted = lattice.counted(testing)
    p_values = [
        tail(counted.wrong[pair], counted.accepted[pair], alpha) if counted.accepted[pair] else 1.0
        for pair in range(len(lattice))
    ]
    # The strictest pairs that could be certified at all, if none of what they accept were wrong.
    enough = 1.5 * least_tested(alpha, delta) / max(1, len(testing))
    starts = lattice.frontier(lattice.counted(learning), enough * len(learning))
    kept = graphical(p_values, lattice.successors(), {pair: delta / len(starts) for pair in starts}, delta)
    return lattice.best(kept, counted, Certificate(group, budget, alpha, delta, len(testing)))


def fixed_sequence(p_values: Iterable[float], delta: float) -> list[int]:
    """Positions certified by testing in order, each at the whole of ``delta``, until one fails."""
    kept = []
    for place, p_value in enumerate(p_values):
        if p_value > delta:
            break
        kept.append(place)
    return kept


def graphical(
    p_values: Sequence[float], successors: Sequence[Sequence[int]], shares: dict[int, float], delta: float
) -> list[int]:
    """Positions certified by the graphical test of Bretz, Maurer, Brannath and Posch (Stat. Med. 2009).

    A position whose p-value is within its share is certified and hands its share to its successors in equal parts, and
    what reaches it later flows through. ``successors`` names later positions only, so that one pass in order gives what
    the sequential procedure gives. Raises ValueError where the shares exceed ``delta``.
    """
    if sum(shares.values()) > delta * (1 + 1e-9):
        raise ValueError(f"shares of {sum(shares.values())} of a delta of {delta}")
    held = [shares.get(place, 0.0) for place in range(len(p_values))]
    kept = []
    for place, p_value in enumerate(p_values):
        if held[place] > 0 and p_value <= held[place]:
            kept.append(place)
            for after in successors[place]:
                held[after] += held[place] / len(successors[place])
    return kept


class _Counted(NamedTuple):
    """By pair: questions accepted, wrong ones among them, questions that went on."""

    accepted: list[int]
    wrong: list[int]
    widened: list[int]


class _Lattice:
    """Pairs of thresholds, strictest first in both, at quantiles of the values that other questions had."""

    def __init__(self, learning: Sequence[Trial]) -> None:
        self.firsts = _grid([trial.first for trial in learning])
        self.seconds = _grid([trial.second for trial in learning if trial.second > 0])

    def __len__(self) -> int:
        return len(self.firsts) * len(self.seconds)

    def counted(self, trials: Sequence[Trial]) -> _Counted:
        import numpy as np  # noqa: PLC0415 - as above

        shape = len(self.firsts), len(self.seconds)
        if not trials:
            return _Counted(*([0] * len(self) for _ in range(3)))
        # From which position on, in the order from strict to lax, each trial is accepted by either threshold.
        first = np.searchsorted(-np.array(self.firsts), [-trial.first for trial in trials])
        second = np.searchsorted(-np.array(self.seconds), [-trial.second for trial in trials])
        first_right = np.array([trial.first_right for trial in trials])
        second_right = np.array([trial.second_right for trial in trials])

        def spread(chosen: Any) -> Counts:
            grid = np.zeros((shape[0] + 1, shape[1] + 1), dtype=np.int64)
            np.add.at(grid, (first[chosen], second[chosen]), 1)
            return grid

        def directly(grid: Counts) -> Counts:
            return np.repeat(np.cumsum(grid.sum(axis=1))[: shape[0], None], shape[1], axis=1)

        def later(grid: Counts) -> Counts:
            """Not accepted at first (a later position than i), but then (up to j)."""
            by_second = np.cumsum(grid, axis=1)[:, : shape[1]]
            found: Counts = by_second.sum(axis=0)[None, :] - np.cumsum(by_second, axis=0)[: shape[0]]
            return found

        everything = spread(np.ones(len(trials), dtype=bool))
        accepted = directly(everything) + later(everything)
        wrong = directly(spread(~first_right)) + later(spread(~second_right))
        widened = np.where(np.array(self.seconds) < NEVER, len(trials) - directly(everything), 0)
        return _Counted(accepted.ravel().tolist(), wrong.ravel().tolist(), widened.ravel().tolist())

    def successors(self) -> list[list[int]]:
        rows, columns = len(self.firsts), len(self.seconds)
        return [
            [
                place
                for place, there in ((at + columns, at // columns + 1 < rows), (at + 1, at % columns + 1 < columns))
                if there
            ]
            for at in range(rows * columns)
        ]

    def frontier(self, counted: _Counted, enough: float) -> list[int]:
        """Of each first threshold the strictest second one with which enough is accepted, where a stricter first one
        does not do already; at least one pair.
        """
        columns = len(self.seconds)
        found: list[int] = []
        least = columns
        for row in range(len(self.firsts)):
            column = next((c for c in range(least) if counted.accepted[row * columns + c] >= enough), None)
            if column is not None:
                found.append(row * columns + column)
                least = column
        return found or [len(self) - 1]

    def best(self, pairs: Sequence[int], counted: _Counted, empty: Certificate) -> Certificate:
        if not pairs:
            return empty
        best = max(
            pairs,
            key=lambda pair: (counted.accepted[pair] - GOING_ON * counted.widened[pair], -counted.wrong[pair], -pair),
        )
        first, second = divmod(best, len(self.seconds))
        return Certificate(
            empty.group,
            empty.budget,
            empty.alpha,
            empty.delta,
            empty.tested,
            self.firsts[first],
            self.seconds[second],
            counted.accepted[best],
            counted.wrong[best],
            counted.widened[best],
        )


def _grid(values: Sequence[float]) -> list[float]:
    """Thresholds from the strictest to the laxest: never, quantiles, always."""
    ordered = sorted(values, reverse=True)
    picked = {round(ordered[len(ordered) * place // GRID], 4) for place in range(GRID)} if ordered else set()
    return [NEVER, *sorted(picked - {0.0}, reverse=True), *([0.0] if ordered else [])]


def certificate_for(certificates: Iterable[Certificate], group: str, budget: int, alpha: float) -> Certificate | None:
    """What was tested for a group at the nearest budget within a doubling; one that does not hold where nothing could
    be certified. None where nothing was tested. What holds for all questions together says nothing of one group.
    """
    near = [
        (abs(log2(max(1, budget) / certificate.budget)), certificate.budget, certificate)
        for certificate in certificates
        if certificate.group == group and certificate.alpha == alpha and certificate.budget > 0
    ]
    near = [entry for entry in near if entry[0] <= 1]
    return min(near, key=lambda entry: entry[:2])[2] if near else None


def guarantee(certificate: Certificate, value: float) -> str:
    """What a certificate says of an answer that is this sure, in a sentence; "" where it says nothing."""
    if not certificate.holds or value < min(certificate.accept, certificate.accept_wide):
        return ""
    kind = f" of kind {certificate.group}" if certificate.group else ""
    return (
        f"Certified with {1 - certificate.delta:.0%} certainty: of answers to questions{kind} like the"
        f" {certificate.tested} that this tree was asked, at most {certificate.alpha:.0%} lack their evidence when they"
        " are accepted at this confidence."
    )
