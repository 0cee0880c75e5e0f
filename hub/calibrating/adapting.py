"""Confidence bent and certified with what one repository was asked, and how well such certificates hold. Pure.

The questions that may be fitted on bend the values and choose which thresholds are tried; the held-out ones certify
and tell how good it has become. A certificate stands on questions of which no two are about the same thing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random

from hub.calibrating.examples import Example, Row
from hub.calibrating.questions import Stratum
from hub.confidence.certifying import ALPHAS, DELTA, EVERYTHING, Certificate, Trial, certified
from hub.confidence.heads import Heads
from hub.confidence.recalibration import IDENTITY, Sample, fitted
from hub.model import Breadth, Tier

MODERATE = (4_096, 8_192, 16_384, 32_768)  # tokens of a moderate prompt that get certificates
# Of the questions asked, such as cannot be answered. How many users ask is not known; the more, the less is certified.
# 0.1 to 0.5.
MISSING_SHARE = 0.25
SPLITS = 20  # random ones of the questions of a library, of which each certifies anew. 20 to 200.


@dataclass(frozen=True, slots=True)
class Cell:
    """One split of one library's questions: what was certified on a part, and how it went on those nobody had seen."""

    library: str
    group: str
    split: int
    certified: bool
    accepted: int = 0  # of the questions not seen
    wrong: int = 0
    seen: int = 0  # how many questions that was

    @property
    def risk(self) -> float:
        return self.wrong / self.accepted if self.accepted else 0.0


@dataclass(frozen=True, slots=True)
class Holding:
    """How well certificates of one ``alpha`` hold."""

    alpha: float
    cells: tuple[Cell, ...]

    @property
    def certified(self) -> int:
        return sum(cell.certified for cell in self.cells)

    @property
    def held(self) -> float:
        """Share of the cells in which no more than ``alpha`` of what was accepted lacked its evidence. One in which
        nothing was certified accepts nothing, so it counts as held; ``held_certified`` leaves it out.
        """
        return _share(cell.risk <= self.alpha for cell in self.cells)

    @property
    def held_certified(self) -> float:
        return _share(cell.risk <= self.alpha for cell in self.cells if cell.certified)


def group_of(example: Example) -> str:
    """The kind of question that a certificate speaks for."""
    return (Breadth.RELATION if example.stratum is Stratum.RELATION else Breadth.POINT).value


def recalibrated(heads: Heads, examples: Iterable[Example]) -> Heads:
    """The heads with the map that the examples show; certificates of other values go."""
    told = list(examples)
    plain = replace(heads, calibration=IDENTITY, certificates=())
    samples = [
        Sample(plain.value(row.features), row.present, row.budget, 1 / len(example.rows))
        for example in told
        for row in example.rows
    ]
    return replace(plain, calibration=fitted(samples, len(told)))


def certificates(
    heads: Heads,
    learning: Sequence[Example],
    testing: Sequence[Example],
    alphas: Sequence[float] = ALPHAS,
    delta: float = DELTA,
) -> tuple[Certificate, ...]:
    """For each group and budget that was asked, and each alpha. Those where nothing could be certified are among them,
    since that is worth knowing, too.
    """
    found = []
    apart = one_of_each(testing)
    for group in (EVERYTHING, Breadth.POINT.value, Breadth.RELATION.value):
        before, after = (_of_group(examples, group) for examples in (learning, apart))
        for budget in MODERATE:
            first, then = trials(heads, before, budget), trials(heads, after, budget)
            if then:
                found += [certified(first, then, alpha, delta, group=group, budget=budget) for alpha in alphas]
    return tuple(found)


def adapted(heads: Heads, examples: Sequence[Example], alphas: Sequence[float] = ALPHAS, delta: float = DELTA) -> Heads:
    """Both: bent with what may be fitted on, certified with what is held out."""
    learning = [example for example in examples if not example.held_out]
    bent = recalibrated(heads, learning)
    testing = [example for example in examples if example.held_out]
    return replace(bent, certificates=certificates(bent, learning, testing, alphas, delta))


def trials(heads: Heads, examples: Iterable[Example], budget: int) -> list[Trial]:
    """Each example at a moderate prompt of that size, and at the wide one if there is any larger."""
    found = []
    for example in examples:
        first = next((row for row in example.rows if row.budget == budget and row.tier is Tier.RAG), None)
        if first is None:
            continue
        wide = [row for row in example.rows if row.tier is Tier.WIDE and row.budget > budget]
        value = heads.value(first.features)
        if not wide:
            found.append(Trial(value, first.present))
            continue
        second = min(wide, key=lambda row: row.budget)
        found.append(Trial(value, first.present, heads.value(second.features), second.present))
    return found


def one_of_each(examples: Iterable[Example]) -> list[Example]:
    """One example of all about the same thing, whichever; questions about one thing go right and wrong together."""
    kept: dict[str, tuple[bytes, Example]] = {}
    for example in examples:
        told = f"{example.about}\0{example.stratum}\0{example.variant}\0{example.missing}"
        key = blake2b(told.encode("utf-8", "replace"), digest_size=8).digest()
        if example.about not in kept or key < kept[example.about][0]:
            kept[example.about] = key, example
    return [example for _, example in kept.values()]


def holding(
    libraries: Mapping[str, Sequence[Example]],
    heads: Mapping[str, Heads],
    alpha: float = 0.10,
    delta: float = DELTA,
    *,
    budget: int = 16_384,
    splits: int = SPLITS,
    seed: int = 0,
) -> Holding:
    """Certifies each library anew with random parts of its questions, and counts on the others what was wrong.

    A third of the questions bends and chooses, a third certifies, a third is not seen. ``heads`` are those that knew
    nothing of the library. Questions about the same thing stay together, and certificates stand on one of each; of
    such as cannot be answered, MISSING_SHARE is kept.
    """
    cells = []
    for name, told in sorted(libraries.items()):
        examples = mixed(told, seed)
        abouts = sorted({example.about for example in examples})
        for split in range(splits):
            chance = Random(f"{seed} {name} {split}")  # noqa: S311 - splits that anybody can make again
            shuffled = list(abouts)
            chance.shuffle(shuffled)
            third = {about: place * 3 // len(shuffled) for place, about in enumerate(shuffled)}
            parts: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
            for example in examples:
                parts[third[example.about]].append(example)
            bent = recalibrated(heads[name], parts[0])
            testing, unseen = one_of_each(parts[1]), parts[2]
            for group, number in [*sorted(Counter(map(group_of, unseen)).items()), (EVERYTHING, len(unseen))]:
                before, after, others = (_of_group(part, group) for part in (parts[0], testing, unseen))
                found = certified(
                    trials(bent, before, budget), trials(bent, after, budget), alpha, delta, group=group, budget=budget
                )
                cells.append(_cell(found, trials(bent, others, budget), name, split, number))
    return Holding(alpha, tuple(cells))


def mixed(examples: Sequence[Example], seed: int) -> list[Example]:
    """The examples with at most so many of those that cannot be answered that they are MISSING_SHARE of all."""
    missing = [example for example in examples if example.missing]
    most = round((len(examples) - len(missing)) * MISSING_SHARE / (1 - MISSING_SHARE))
    kept = set(Random(seed).sample(range(len(missing)), min(most, len(missing))))  # noqa: S311 - as above
    left = [example for place, example in enumerate(missing) if place in kept]
    return [*(example for example in examples if not example.missing), *left]


def _cell(found: Certificate, others: Sequence[Trial], library: str, split: int, seen: int) -> Cell:
    if not found.holds:
        return Cell(library, found.group, split, certified=False, seen=seen)
    right = [
        trial.first_right if trial.first >= found.accept else trial.second_right
        for trial in others
        if trial.first >= found.accept or trial.second >= found.accept_wide
    ]
    return Cell(library, found.group, split, True, len(right), right.count(False), seen)


def _of_group(examples: Iterable[Example], group: str) -> list[Example]:
    return [example for example in examples if group in {EVERYTHING, group_of(example)}]


def _share(held: Iterable[bool]) -> float:
    told = list(held)
    return sum(told) / len(told) if told else 1.0


def row_at(example: Example, budget: int, tier: Tier) -> Row | None:
    """The prompt of that size; None where none was made."""
    return next((row for row in example.rows if row.budget == budget and row.tier is tier), None)
