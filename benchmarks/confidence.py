"""Measures the confidence and what escalating on it costs, on libraries that the heads in question have never seen.

    make bench-confidence   (or: python benchmarks/confidence.py [--repositories DIR] [--keep DIR] [--library NAME ...])

No model is asked. Each library is asked for what was hidden in it, what was taken out of it, and what stands in
another; what is shown at each size of prompt is looked at (hub.calibrating). Heads are fitted to the other libraries
each time.
The libraries are those that ranking was tuned on and five others; the common judges of code search are in neither.
With --keep the examples of a library stay, as DIR/examples/NAME.jsonl, and are taken from there the next time.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from end_to_end import machine  # noqa: E402 - the path is set above, so that a plain checkout works
from fit_confidence import (  # noqa: E402
    MIDDLE,
    WINDOW,
    Judged,
    Libraries,
    evidence_head,
    gain_heads,
    left_out,
    others,
    read,
)
from retrieval import DEVELOPMENT, TEST, Library, repository_of, settings_for  # noqa: E402

from hub.calibrating.adapting import holding, mixed, recalibrated, row_at  # noqa: E402
from hub.calibrating.examples import BUDGETS, Example, examples  # noqa: E402
from hub.calibrating.questions import Variant, question_set  # noqa: E402
from hub.confidence.heads import Heads  # noqa: E402
from hub.confidence.metrics import Judged as Pairs  # noqa: E402
from hub.confidence.metrics import (  # noqa: E402
    augrc,
    auroc,
    balanced_accuracy,
    best_threshold,
    ece,
    interval,
)
from hub.confidence.shipped import SHIPPED  # noqa: E402
from hub.evaluation import usable_embedders  # noqa: E402
from hub.ladder import Outlook, Rung, decide, harm  # noqa: E402
from hub.model import Policy, Tier, Way  # noqa: E402
from indexer.pipeline import ignore_progress, never  # noqa: E402

NEW = (
    Library("facebook", "folly"),
    Library("scylladb", "seastar"),
    Library("apache", "brpc"),
    Library("ceres-solver", "ceres-solver"),
    Library("qpdf", "qpdf"),
)
SEED = 0
SHORT = 8_192
WIDE = 65_536
ALPHA = 0.10
SHOWN = (SHORT, MIDDLE, 32_768)
# What a prompt takes to be read, of a 30B mixture of experts on one card with 24 GB. A judgement, 500 to 10,000.
TOKENS_A_SECOND = 2_000.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. ``low`` and ``high`` are a bootstrap over whole libraries, where there are several."""

    name: str
    value: float
    bar: float
    goal: float
    questions: int
    low: float = float("nan")
    high: float = float("nan")
    note: str = ""


@dataclass(frozen=True, slots=True)
class Escalated:
    """What became of a question under the balanced policy. The evidence of all of them is in the tree."""

    missed: bool  # by the moderate prompt
    caught: bool  # of those, by a further tier
    full: bool
    tokens: int  # that are read: a prompt that is left before a model sees it costs nothing
    everything: int  # tokens of always loading everything


@dataclass(frozen=True, slots=True)
class OfLibrary:
    """One library at the middle size: areas under the curve, and the share of answerable questions with evidence."""

    library: str
    questions: int
    natural: float
    stripped: float
    in_the_tree: float
    recall: float
    error: float  # ECE before any calibration, with as many unanswerable questions as a calibration takes there to be


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep clones and examples here")
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="clones that lie there as OWNER+NAME/repo")
    parser.add_argument("--library", action="append", metavar="NAME", help="measure this one; at least two")
    parser.add_argument("--examples", type=Path, metavar="DIR", help="examples that lie there as NAME.jsonl; asks none")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="ask every Nth question (default: all)")
    parser.add_argument("--test", action="store_true", help="what ships, on libraries that nothing was fitted on")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON instead of a table")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        keep: Path = options.keep or Path(scratch)
        folder = options.examples or keep / "examples"
        if options.examples is None:
            folder.mkdir(parents=True, exist_ok=True)
            for library in TEST if options.test else (*DEVELOPMENT, *NEW):
                if not options.library or library.name in options.library:
                    ask(library, keep, options.repositories, folder / f"{library.name}.jsonl", options.every)
        libraries = {
            name: told for name, told in read(folder).items() if not options.library or name in options.library
        }
    if options.test:
        apart = by_library(as_shipped(libraries, MIDDLE))
        print(json.dumps([asdict(one) for one in apart]) if options.json else table_by_library(apart, "what ships"))
        return
    if len(libraries) < 2:
        raise SystemExit("At least two libraries are needed: each is judged by the others.")
    told = left_out(libraries, MIDDLE)
    figures, apart = measured(libraries, told), by_library(told)
    if options.json:
        parts = {"figures": [asdict(figure) for figure in figures], "libraries": [asdict(one) for one in apart]}
        print(json.dumps({"machine": machine(), **parts}, indent=1))
    else:
        print(table(figures, libraries))
        print(table_by_library(apart))


def ask(library: Library, keep: Path, given: Path | None, file: Path, every: int) -> None:
    """Writes the examples of a library, of every Nth question, where they are not yet."""
    if file.exists():
        return
    started = time.perf_counter()
    settings = replace(settings_for(keep / "data", None), compiler_commands="none")
    root = repository_of(library, keep, given)
    with question_set(root, settings, ignore_progress, never, SEED) as asked:
        embedders, _ = usable_embedders(asked.present, settings)
        questions, gone = asked.questions[::every], asked.removed_questions[::every]
        made = replace(asked, questions=questions, removed_questions=gone)
        lines = [example.dumps() for example in examples(made, embedders, BUDGETS, ignore_progress, never)]
    unfinished = file.with_suffix(".new")
    unfinished.write_text("\n".join(lines), encoding="utf-8")
    unfinished.replace(file)
    print(f"{library.name}: {len(lines)} questions, {time.perf_counter() - started:.0f} s", file=sys.stderr)


def measured(libraries: Libraries, told: Sequence[Judged]) -> list[Figure]:
    """The rows of the table. Nothing in a row was fitted on the library that it is about.

    ``told`` are all questions at the middle size, judged by heads of the other libraries.
    """
    heads = {
        name: Heads(evidence_head(others(libraries, name)), gain_heads(others(libraries, name)), name)
        for name in libraries
    }
    found = [
        _ordering(f"AUROC, {variant.value}", [one for one in told if one.example.variant is variant], bar, goal)
        for variant, bar, goal in ((Variant.NATURAL, 0.82, 0.88), (Variant.STRIPPED, 0.78, 0.85))
    ]
    there = [one for one in told if not one.example.missing]
    found += [
        _ordering(
            f"  of what is in the tree, {variant.value}",
            [one for one in there if one.example.variant is variant],
            float("nan"),
            float("nan"),
        )
        for variant in Variant
    ]
    found.append(_calibration(libraries, heads))
    found += _missing(told)
    held = holding(libraries, heads, ALPHA)
    sure = [cell for cell in held.cells if cell.certified]
    found.append(
        Figure("certified risk 10% holds, cells", held.held, 0.95, 0.99, len(held.cells), note=f"{len(sure)} certified")
    )
    found.append(Figure("  of the certified cells", held.held_certified, float("nan"), float("nan"), len(sure)))
    bars = {8_192: (0.85, 0.92), MIDDLE: (0.90, 0.95), 32_768: (0.94, 0.97), WIDE: (0.96, 0.985)}
    found += [_recall(libraries, budget, *bars[budget]) for budget in (*SHOWN, WIDE)]
    for first in (MIDDLE, SHORT):
        found += _escalation(libraries, heads, first)
    return found


def table(figures: Iterable[Figure], libraries: Libraries) -> str:
    count = sum(map(len, libraries.values()))
    lines = [
        f"Machine: {machine()}",
        f"{count} questions of {len(libraries)} libraries ({', '.join(sorted(libraries))}), each judged by the others",
        "",
        "| | measured | 95% by library | first bar | goal | of |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        between = "" if isnan(figure.low) else f"{figure.low:.3f} to {figure.high:.3f}"
        bar, goal = ("" if isnan(number) else f"{number:g}" for number in (figure.bar, figure.goal))
        note = f"{figure.questions} {figure.note}".strip()
        lines.append(f"| {figure.name} | {figure.value:.3f} | {between} | {bar} | {goal} | {note} |")
    return "\n".join(lines)


def by_library(told: Sequence[Judged]) -> list[OfLibrary]:
    """How each library fares, by name."""
    found = []
    for name in sorted({one.library for one in told}):
        mine = [one for one in told if one.library == name]
        there = [one for one in mine if not one.example.missing]
        natural, stripped = (
            auroc(_pairs(one for one in mine if one.example.variant is variant)) for variant in Variant
        )
        recall = sum(one.row.present for one in there) / len(there) if there else float("nan")
        usual = set(map(id, mixed([one.example for one in mine], SEED)))
        error = ece(_pairs(one for one in mine if id(one.example) in usual))
        found.append(OfLibrary(name, len(mine), natural, stripped, auroc(_pairs(there)), recall, error))
    return found


def as_shipped(libraries: Libraries, budget: int) -> list[Judged]:
    """Every question at one size, judged by the heads that ship."""
    return [
        Judged(name, example, row, SHIPPED.value(row.features))
        for name, known in libraries.items()
        for example in known
        if (row := row_at(example, budget, Tier.RAG))
    ]


def table_by_library(found: Iterable[OfLibrary], judge: str = "heads of the others") -> str:
    lines = [
        "",
        f"| at 16K, {judge} | questions | AUROC, natural | stripped | in the tree | evidence recall | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        columns = (one.natural, one.stripped, one.in_the_tree, one.recall, one.error)
        lines.append(f"| {one.library} | {one.questions} | {' | '.join(f'{value:.3f}' for value in columns)} |")
    return "\n".join(lines)


def _pairs(told: Iterable[Judged]) -> list[tuple[float, bool]]:
    return [(one.value, one.row.present) for one in told]


def _by_library(told: Sequence[Judged]) -> list[Pairs]:
    return [_pairs(one for one in told if one.library == name) for name in sorted({one.library for one in told})]


def _ordering(name: str, told: Sequence[Judged], bar: float, goal: float) -> Figure:
    mean, low, high = interval(_by_library(told), auroc, SEED)
    return Figure(name, mean, bar, goal, len(told), low, high, f"AUGRC {augrc(_pairs(told)):.3f}")


def _calibration(libraries: Libraries, heads: dict[str, Heads]) -> Figure:
    """Bent with the questions that may be fitted on, told of the held-out ones of all libraries together.

    Of what cannot be answered as many count as a calibration takes there to be: a probability holds for one mixture.
    """
    before, after = [], []
    for name, every in libraries.items():
        known = mixed(every, SEED)
        bent = recalibrated(heads[name], [example for example in known if not example.held_out])
        unseen = [row for example in known if example.held_out and (row := row_at(example, MIDDLE, Tier.RAG))]
        before.append([(heads[name].value(row.features), row.present) for row in unseen])
        after.append([(bent.value(row.features), row.present) for row in unseen])
    plain = ece([pair for part in before for pair in part])
    mean, low, high = interval(after, ece, SEED)
    return Figure(
        "ECE after calibration, held-out half", mean, 0.04, 0.02, sum(map(len, after)), low, high, f"before {plain:.3f}"
    )


def _missing(told: Sequence[Judged]) -> list[Figure]:
    """Whether evidence that was taken out is missed. Only what was taken out is asked with its evidence, too."""
    gone = {(one.library, one.example.about) for one in told if one.example.missing}
    paired = [
        one for one in told if (one.library, one.example.about) in gone and (one.example.missing or one.row.present)
    ]
    there = {(one.library, one.example.about) for one in paired if not one.example.missing}
    removed = [one for one in paired if (one.library, one.example.about) in there]
    strangers = [one for one in told if one.example.missing and (one.library, one.example.about) not in there]
    kept = [one for one in told if one.row.present]
    return [
        _detection("missing detected, gold removed", removed, 0.80, 0.90),
        *(
            _detection(
                f"  {variant.value}",
                [one for one in removed if one.example.variant is variant],
                float("nan"),
                float("nan"),
            )
            for variant in Variant
        ),
        _detection("missing detected, other repository", [*strangers, *kept], float("nan"), float("nan")),
    ]


def _detection(name: str, told: Sequence[Judged], bar: float, goal: float) -> Figure:
    """At a threshold chosen on the other libraries; the mean over the libraries."""
    accuracies = []
    for library in sorted({one.library for one in told}):
        threshold = best_threshold(_pairs(one for one in told if one.library != library))
        accuracy = balanced_accuracy(_pairs(one for one in told if one.library == library), threshold)
        if not isnan(accuracy):
            accuracies.append(accuracy)
    mean = sum(accuracies) / len(accuracies) if accuracies else float("nan")
    return Figure(name, mean, bar, goal, len(told), note=f"AUROC {auroc(_pairs(told)):.3f}")


def _recall(libraries: Libraries, budget: int, bar: float, goal: float) -> Figure:
    tier = Tier.WIDE if budget > MIDDLE else Tier.RAG
    groups: list[Pairs] = [
        [(1.0, row.present) for example in known if not example.missing and (row := row_at(example, budget, tier))]
        for known in libraries.values()
    ]
    mean, low, high = interval(groups, _share, SEED)
    return Figure(
        f"evidence recall at {budget // 1024}K, tier {tier.value}", mean, bar, goal, sum(map(len, groups)), low, high
    )


def _share(judged: Pairs) -> float:
    return sum(right for _, right in judged) / len(judged) if judged else float("nan")


def _escalation(libraries: Libraries, heads: dict[str, Heads], first: int) -> list[Figure]:
    """The ladder's own decisions, on libraries that fit the window, of questions that their trees can answer."""
    bars = {MIDDLE: ((0.12, 0.10), (0.80, 0.90), (0.10, 0.05))}
    full, caught, tokens = bars.get(first, ((float("nan"), float("nan")),) * 3)
    found = [
        escalated
        for name, known in libraries.items()
        for example in known
        if not example.missing and (escalated := escalate(example, heads[name], first))
    ]
    misses = [one for one in found if one.missed]
    return [
        Figure(
            f"answers that need a full load, from {first // 1024}K",
            _of(sum(one.full for one in found), len(found)),
            *full,
            len(found),
        ),
        Figure(
            "  misses that escalating catches",
            _of(sum(one.caught for one in misses), len(misses)),
            *caught,
            len(misses),
        ),
        Figure(
            "  prompt tokens against loading all",
            _of(sum(one.tokens for one in found), sum(one.everything for one in found)),
            *tokens,
            len(found),
        ),
    ]


def _of(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def escalate(example: Example, heads: Heads, begin: int) -> Escalated | None:
    """One question through the ladder, cold, from a prompt of ``begin`` tokens and before a model has read anything;
    None where the tree does not fit the window or a size was not asked.
    """
    first, wide = row_at(example, begin, Tier.RAG), row_at(example, WIDE, Tier.WIDE)
    if first is None or wide is None:
        return None
    fits = dict(wide.features)["fits"]
    everything = round(wide.budget / fits) if 0 < fits < 1 else wide.budget
    if everything > WINDOW:
        return None
    sizes = {Tier.RAG: begin, Tier.WIDE: min(WIDE, everything), Tier.FULL: everything}
    tier, row = Tier.RAG, first
    while tier is not Tier.FULL:
        rungs = tuple(
            Rung(
                further,
                heads.gain(further, row.features) or 0.0,
                sizes[further] / TOKENS_A_SECOND,
                harm(sizes[tier], sizes[further]),
                whole=further is Tier.FULL,
            )
            for further in (Tier.WIDE, Tier.FULL)
            if sizes[further] > sizes[tier]
        )
        decision = decide(Outlook(tier, heads.value(row.features), rungs, Policy.BALANCED))
        if decision.way is not Way.MOVE:
            break
        tier, row = decision.tier, wide
    caught = not first.present and (tier is Tier.FULL or (tier is Tier.WIDE and wide.present))
    return Escalated(not first.present, caught, tier is Tier.FULL, sizes[tier], everything)


if __name__ == "__main__":
    main()
