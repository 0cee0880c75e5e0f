"""The model card of one repository's confidence: what was asked, how good the values are, what is certified. Pure.

All figures are of the questions that nothing was fitted on. What is drawn comes as points, and what is read as
Markdown; the rest is for JSON.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from hub.asking.paces import ASSUMED_READ
from hub.calibrating.adapting import row_at
from hub.calibrating.examples import BUDGETS, Example, Row
from hub.confidence import metrics
from hub.confidence.certifying import ALPHA_OF, EVERYTHING, NEVER, Certificate, certificate_for
from hub.confidence.heads import Heads
from hub.confidence.recalibration import LEAST_LABELS, Calibration
from hub.ladder import Outlook, Rung, decide, harm
from hub.model import Breadth, Policy, Tier, Way

MIDDLE = 16_384  # tokens of the prompt that figures are of where none are named
WIDE = 65_536
FEW = 30  # questions; below, a figure says little
ALL = "all"
MISSING = "missing"  # questions whose evidence is not in the index


@dataclass(frozen=True, slots=True)
class Count:
    """How many questions of one kind were asked; ``missing`` of them cannot be answered."""

    stratum: str
    variant: str
    asked: int
    missing: int
    held_out: int


@dataclass(frozen=True, slots=True)
class Figures:
    """How good the values are for one kind of question at one size of prompt. ``before`` is with what ships.

    AUROC is None where all questions went alike.
    """

    kind: str
    tier: Tier
    budget: int
    questions: int
    present: float  # share whose prompt holds the evidence
    auroc: float | None
    ece_before: float
    ece: float
    brier_before: float
    brier: float
    augrc: float


@dataclass(frozen=True, slots=True)
class Recall:
    """Of the questions that the index can answer, the share whose evidence a prompt of that size holds."""

    tier: Tier
    budget: int
    questions: int
    share: float


@dataclass(frozen=True, slots=True)
class Journey:
    """Where a policy would answer the held-out questions: the share of them by tier, ``none`` for refusals."""

    policy: Policy
    shares: tuple[tuple[Tier, float], ...]


@dataclass(frozen=True, slots=True)
class Point:
    """``x`` and ``y`` are shares; ``number`` is of questions."""

    x: float
    y: float
    number: int = 0


@dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn. Reliability: (mean value, share right), before and after. Risk against coverage. And the share of
    prompts that hold the evidence against the share of questions that go on to the wide prompt: those that
    promise most first, by chance, and as one would who knew which.
    """

    reliability_before: tuple[Point, ...] = ()
    reliability: tuple[Point, ...] = ()
    risk: tuple[Point, ...] = ()
    escalated: tuple[Point, ...] = ()
    escalated_by_chance: tuple[Point, ...] = ()
    escalated_by_oracle: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """All that calibrating found out about a repository."""

    workspace: str
    commit: str
    calibrated_at: str
    origin: str  # what the heads were fitted on
    calibration: Calibration
    counts: tuple[Count, ...]
    figures: tuple[Figures, ...]
    certificates: tuple[Certificate, ...]
    missing_told: float | None  # balanced accuracy of telling what the index cannot answer; None where all were alike
    recall: tuple[Recall, ...]
    journeys: tuple[Journey, ...]
    curves: Curves
    notes: tuple[str, ...]


def card_of(
    workspace: str,
    commit: str,
    calibrated_at: str,
    shipped: Heads,
    heads: Heads,
    examples: Sequence[Example],
    notes: Sequence[str],
) -> Card:
    """The card of heads that were made of ``shipped`` with the examples that are not held out."""
    unseen = [example for example in examples if example.held_out]
    few = [f"Only {len(unseen)} questions are held out: the figures say little."] if len(unseen) < FEW else []
    return Card(
        workspace,
        commit,
        calibrated_at,
        heads.origin,
        heads.calibration,
        _counts(examples),
        tuple(_all_figures(shipped, heads, unseen)),
        heads.certificates,
        _missing_told(heads, examples),
        tuple(_recall(unseen)),
        tuple(_journey(heads, unseen, policy) for policy in Policy) if unseen else (),
        _curves(shipped, heads, unseen),
        (*notes, *few),
    )


def markdown(card: Card) -> str:
    """The card as people read it."""
    lines = [
        f"# Confidence in {card.workspace}",
        "",
        f"Calibrated {card.calibrated_at} at commit {card.commit[:12] or 'none'}. Fitted on: {card.origin}.",
        "",
        "## What was asked",
        "",
        "| questions | wording | asked | evidence missing | held out |",
        "|---|---|---|---|---|",
        *(f"| {c.stratum} | {c.variant} | {c.asked} | {c.missing} | {c.held_out} |" for c in card.counts),
        "",
        "Missing: the function was taken out of the index, or the question is of another repository.",
        "",
        "## How good the confidence is",
        "",
        "Of held-out questions. AUROC: 0.5 is chance, 1 tells them all apart. ECE: how far values are from shares.",
        "",
        "| questions | prompt | number | evidence there | AUROC | ECE shipped | ECE now | Brier now | AUGRC |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {f.kind} | {_size(f.budget)} {f.tier.value} | {f.questions} | {f.present:.2f} |"
            f" {'-' if f.auroc is None else format(f.auroc, '.3f')} | {f.ece_before:.3f} | {f.ece:.3f} | {f.brier:.3f}"
            f" | {f.augrc:.3f} |"
            for f in card.figures
        ),
        "",
        _calibration_text(card.calibration),
        *([] if card.missing_told is None else ["", missing_text(card.missing_told)]),
        "",
        "## What is certified",
        "",
        *(f"- {sentence}" for sentence in certificate_sentences(card.certificates)),
        "",
        "## Evidence by the size of the prompt",
        "",
        "| prompt | questions | evidence there |",
        "|---|---|---|",
        *(f"| {_size(r.budget)} {r.tier.value} | {r.questions} | {r.share:.3f} |" for r in card.recall),
        "",
        "## Where questions would be answered",
        "",
        "| policy | " + " | ".join(tier.value for tier in _TIERS) + " |",
        "|---" * (len(_TIERS) + 1) + "|",
        *(
            f"| {journey.policy.value} | "
            + " | ".join(f"{dict(journey.shares).get(tier, 0.0):.0%}" for tier in _TIERS)
            + " |"
            for journey in card.journeys
        ),
        "",
        "Before anything is written, at an assumed pace of reading; checks on the answer may move more of them.",
        "",
    ]
    if card.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in card.notes), ""]
    return "\n".join(lines)


def certificate_sentences(certificates: Sequence[Certificate], alphas: Sequence[float] = ()) -> list[str]:
    """What is certified for the middle prompt, a sentence for each policy and further alpha, and kind of question."""
    asked = [(f", policy {policy.value}", alpha) for policy, alpha in ALPHA_OF.items()]
    asked += [("", alpha) for alpha in sorted(set(alphas) - set(ALPHA_OF.values()))]
    sentences = []
    for group in (EVERYTHING, Breadth.POINT.value, Breadth.RELATION.value):
        for policy, alpha in asked:
            found = certificate_for(certificates, group, MIDDLE, alpha)
            if found is None:
                continue
            kind = f"Questions of kind {group}" if group else "All questions"
            if not found.holds:
                then = "answers carry no guarantee" if policy in _UNWIDENED else "the prompt is widened"
                sentences.append(
                    f"{kind}{policy}: {alpha:.0%} cannot be certified with {found.tested} questions, so {then}."
                )
                continue
            ways = []
            if found.accept < NEVER:
                ways.append(f"from a confidence of {found.accept:.0%}")
            if found.accept_wide < NEVER:
                ways.append(f"in a wide prompt from {found.accept_wide:.0%}")
            sentences.append(
                f"{kind}{policy}: accepted {' or '.join(ways)}. Then at most {alpha:.0%} lack their"
                f" evidence, with {1 - found.delta:.0%} certainty ({found.wrong} of {found.accepted} accepted did, of"
                f" {found.tested} asked)."
            )
    return sentences or ["Nothing could be tested, so nothing is certified."]


def missing_text(told: float) -> str:
    """A sentence on ``Card.missing_told``."""
    return (
        f"What the index cannot answer is told from what it can with a balanced accuracy of {told:.2f} (0.5 is chance)."
    )


_UNWIDENED = ("", f", policy {Policy.FAST.value}")  # as the ladder has it
_TIERS = (Tier.RAG, Tier.WIDE, Tier.FOCUS, Tier.FULL, Tier.NONE)


def _calibration_text(calibration: Calibration) -> str:
    labels = f"{calibration.labels} questions"
    if calibration.labels == 0:
        return "The values are those that ship: nothing could be fitted here."
    if calibration.labels < LEAST_LABELS:
        return f"{labels} bend the values little: it takes {LEAST_LABELS} to trust them more than what ships."
    return f"The values are bent to this repository by {labels}."


def _size(tokens: int) -> str:
    return f"{tokens >> 10}K" if tokens % 1024 == 0 else f"{tokens:,}"


def _counts(examples: Iterable[Example]) -> tuple[Count, ...]:
    asked: Counter[tuple[str, str]] = Counter()
    missing: Counter[tuple[str, str]] = Counter()
    unseen: Counter[tuple[str, str]] = Counter()
    for example in examples:
        key = example.stratum.value, example.variant.value
        asked[key] += 1
        missing[key] += example.missing
        unseen[key] += example.held_out
    return tuple(Count(*key, asked[key], missing[key], unseen[key]) for key in sorted(asked))


def _all_figures(shipped: Heads, heads: Heads, unseen: Sequence[Example]) -> Iterable[Figures]:
    for tier, budget in BUDGETS:
        yield from _figures(ALL, tier, budget, shipped, heads, unseen)
    kinds: list[tuple[str, Callable[[Example], bool]]] = [
        (variant, lambda example, variant=variant: example.variant == variant)  # type: ignore[misc]
        for variant in sorted({example.variant for example in unseen})
    ]
    kinds += [
        (stratum, lambda example, stratum=stratum: example.stratum == stratum)  # type: ignore[misc]
        for stratum in sorted({example.stratum for example in unseen})
    ]
    for kind, belongs in kinds:
        yield from _figures(str(kind), Tier.RAG, MIDDLE, shipped, heads, list(filter(belongs, unseen)))


def _figures(
    kind: str, tier: Tier, budget: int, shipped: Heads, heads: Heads, examples: Sequence[Example]
) -> Iterable[Figures]:
    rows = _rows(examples, budget, tier)
    if not rows:
        return
    before, after = _judged(shipped, rows), _judged(heads, rows)
    yield Figures(
        kind,
        tier,
        budget,
        len(rows),
        round(sum(row.present for row in rows) / len(rows), 4),
        round(metrics.auroc(after), 4) if len({row.present for row in rows}) > 1 else None,
        round(metrics.ece(before), 4),
        round(metrics.ece(after), 4),
        round(metrics.brier(before), 4),
        round(metrics.brier(after), 4),
        round(metrics.augrc(after), 4),
    )


def _judged(heads: Heads, rows: Sequence[Row]) -> metrics.Judged:
    return [(heads.value(row.features), row.present) for row in rows]


def _rows(examples: Iterable[Example], budget: int, tier: Tier) -> list[Row]:
    return [row for example in examples if (row := row_at(example, budget, tier)) is not None]


def _recall(unseen: Sequence[Example]) -> Iterable[Recall]:
    answerable = [example for example in unseen if not example.missing]
    for tier, budget in BUDGETS:
        rows = _rows(answerable, budget, tier)
        if rows:
            yield Recall(tier, budget, len(rows), round(sum(row.present for row in rows) / len(rows), 4))


def _missing_told(heads: Heads, examples: Sequence[Example]) -> float | None:
    """By a threshold that is learnt on the other half: held-out questions that the index can answer, and cannot."""

    def judged(held_out: bool) -> metrics.Judged:
        return [
            (heads.value(row.features), not example.missing)
            for example in examples
            if example.held_out is held_out and (row := row_at(example, MIDDLE, Tier.RAG)) is not None
        ]

    unseen = judged(held_out=True)
    if len({answerable for _, answerable in unseen}) < 2:
        return None
    return round(metrics.balanced_accuracy(unseen, metrics.best_threshold(judged(held_out=False))), 4)


def _journey(heads: Heads, unseen: Sequence[Example], policy: Policy) -> Journey:
    """Each question on its way, as the ladder decides before anything is written."""
    ends: Counter[Tier] = Counter()
    for example in unseen:
        moderate, wide = row_at(example, MIDDLE, Tier.RAG), row_at(example, WIDE, Tier.WIDE)
        if moderate is None:
            continue
        group = Breadth.RELATION if example.stratum == Breadth.RELATION.value else Breadth.POINT
        found = certificate_for(heads.certificates, group.value, MIDDLE, ALPHA_OF[policy])
        at, row = Tier.RAG, moderate
        while True:
            limit = None if found is None else found.accept if at is Tier.RAG else found.accept_wide
            decision = decide(
                Outlook(
                    at,
                    heads.value(row.features),
                    _rungs(heads, row),
                    policy,
                    group,
                    certified=limit if found is not None and found.holds else None,
                    tried_to_certify=found is not None,
                )
            )
            if decision.way is not Way.MOVE:
                ends[at if decision.way is Way.ACCEPT else Tier.NONE] += 1
                break
            if decision.tier is not Tier.WIDE or wide is None:
                ends[decision.tier] += 1  # what a deeper one shows was not looked at
                break
            at, row = Tier.WIDE, wide
    total = ends.total()
    return Journey(policy, tuple((tier, round(ends[tier] / total, 4)) for tier in _TIERS if ends[tier]))


_DEEPER = ((Tier.WIDE, WIDE), (Tier.FOCUS, 114_688), (Tier.FULL, 262_144))


def _rungs(heads: Heads, row: Row) -> tuple[Rung, ...]:
    return tuple(
        Rung(tier, gain, tokens / ASSUMED_READ, harm(row.budget, tokens))
        for tier, tokens in _DEEPER
        if (gain := heads.gain(tier, row.features)) is not None
    )


def _curves(shipped: Heads, heads: Heads, unseen: Sequence[Example]) -> Curves:
    rows = _rows(unseen, MIDDLE, Tier.RAG)
    if not rows:
        return Curves()
    after = _judged(heads, rows)
    by_value, by_chance, by_oracle = _escalations(heads, unseen)
    return Curves(
        _reliability(_judged(shipped, rows)),
        _reliability(after),
        tuple(Point(round(point.coverage, 4), round(point.risk, 4)) for point in metrics.risk_coverage(after)),
        by_value,
        by_chance,
        by_oracle,
    )


def _reliability(judged: metrics.Judged) -> tuple[Point, ...]:
    return tuple(
        Point(round(found.value, 4), round(found.right, 4), found.questions) for found in metrics.reliability(judged)
    )


def _escalations(heads: Heads, unseen: Sequence[Example]) -> tuple[tuple[Point, ...], ...]:
    told = []
    for example in unseen:
        moderate, wide = row_at(example, MIDDLE, Tier.RAG), row_at(example, WIDE, Tier.WIDE)
        if moderate is not None and wide is not None:
            gain = heads.gain(Tier.WIDE, moderate.features)
            expected = (1 - heads.value(moderate.features)) * (1.0 if gain is None else gain)
            told.append((expected, moderate.present, wide.present))
    if not told:
        return (), (), ()
    number = len(told)
    gains = [then - now for _, now, then in sorted(told, key=lambda entry: -entry[0])]
    start = sum(now for _, now, _ in told) / number

    def climbing(steps: Sequence[int]) -> tuple[Point, ...]:
        reached = [start, *(start + gained / number for gained in accumulate(steps))]
        return tuple(Point(round(place / number, 4), round(share, 4)) for place, share in enumerate(reached))

    by_chance = Point(0.0, round(start, 4)), Point(1.0, round(start + sum(gains) / number, 4))
    return climbing(gains), by_chance, climbing(sorted(gains, reverse=True))
