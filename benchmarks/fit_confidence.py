"""Fits the heads that ship, out of what questions with known answers showed in several libraries, and prints them.

    python benchmarks/fit_confidence.py EXAMPLES      (a folder of NAME.jsonl; confidence.py --keep DIR makes it)

Each library in turn is left out to tell how heads do on a code base that they have never seen; what is printed at the
end was fitted on all of them and belongs into hub/confidence/shipped.py. Libraries count alike, however many questions
they gave, and so do the questions of a library, however many prompts were made for each.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from hub.calibrating.adapting import row_at  # noqa: E402 - the path is set above
from hub.calibrating.examples import Example, Row, loads  # noqa: E402 - the path is set above
from hub.calibrating.questions import Variant  # noqa: E402
from hub.confidence.fitting import EVIDENCE_SIGNS, GAIN_SIGNS, JUDGED, PENALTY, Labelled, fit  # noqa: E402
from hub.confidence.heads import Head, Heads  # noqa: E402
from hub.confidence.metrics import auroc  # noqa: E402
from hub.model import Tier  # noqa: E402

# The share of questions whose evidence is nowhere in the tree, as which those of a library count together. A judgement:
# users seldom ask for what is not there, and the sets ask for it as often as for what is. 0.05 to 0.5.
MISSING_SHARE = 0.25
A_LIBRARY = 500.0  # questions, as which each library counts
MISSES = 100.0  # prompts without their evidence, as which those of each library count
GAIN_PENALTY = 10.0  # there are few misses to fit gains on
MIDDLE = 16_384
WINDOW = 262_144
# Of what the wide prompt lacks, how much further tiers show of a tree past the window. Judgements: recall went from .89
# in 64K to .95 in a ranked 256K on one such tree, half of what was lacking. 0 to 1.
BEYOND_WIDE: Mapping[Tier, float] = {Tier.WIDE: 0.0, Tier.FOCUS: 0.35, Tier.FULL: 0.5}

Libraries = Mapping[str, Sequence[Example]]


class Judged(NamedTuple):
    """A question at one size of prompt, with what heads that never saw its library say."""

    library: str
    example: Example
    row: Row
    value: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("examples", type=Path)
    parser.add_argument("--penalty", type=float, default=PENALTY)
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave this library aside")
    parser.add_argument("--ablate", action="store_true", help="tell what leaving out each feature would change")
    options = parser.parse_args()
    libraries = {name: found for name, found in read(options.examples).items() if name not in options.without}
    if len(libraries) < 2:
        raise SystemExit(f"{options.examples} holds examples of fewer than two libraries.")
    for penalty in (options.penalty / 4, options.penalty, options.penalty * 4):
        told = left_out(libraries, MIDDLE, penalty)
        print(f"# penalty {penalty}: {summary(told)}")
    if options.ablate:
        for name in sorted(EVIDENCE_SIGNS):
            signs = {other: sign for other, sign in EVIDENCE_SIGNS.items() if other != name}
            told = left_out(libraries, MIDDLE, options.penalty, signs)
            print(f"# without {name}: {summary(told)}")
    print(block(fitted(libraries, options.penalty)))


def read(folder: Path) -> dict[str, list[Example]]:
    """The examples of each library, by its name."""
    found = {}
    for file in sorted(folder.glob("*.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines()
        found[file.stem] = [example for line in lines if (example := loads(line)) is not None]
    return {name: examples for name, examples in found.items() if examples}


def fitted(libraries: Libraries, penalty: float = PENALTY) -> Heads:
    """Heads of all the libraries together."""
    return Heads(evidence_head(libraries, penalty), gain_heads(libraries), f"{len(libraries)} development libraries")


def evidence_head(libraries: Libraries, penalty: float = PENALTY, signs: Mapping[str, int] = EVIDENCE_SIGNS) -> Head:
    """P(evidence in the prompt), of prompts of all sizes."""
    head = fit([labelled for examples in libraries.values() for labelled in _labelled(examples)], signs, penalty)
    return Head(head.bias, tuple(sorted((*head.weights, *JUDGED.items()))))


def gain_heads(libraries: Libraries, penalty: float = GAIN_PENALTY) -> tuple[tuple[Tier, Head], ...]:
    """P(a further tier shows what this prompt lacks). A full load shows what is in the tree, as far as it fits."""
    heads = []
    for tier in (Tier.WIDE, Tier.FOCUS, Tier.FULL):
        told: list[Labelled] = []
        for examples in libraries.values():
            part = [found for example in examples for found in _gains(example, tier)]
            total = sum(labelled.weight for labelled in part)
            told += [replace(labelled, weight=labelled.weight * MISSES / total) for labelled in part] if total else []
        heads.append((tier, fit(told, GAIN_SIGNS, penalty)))
    return tuple(heads)


def left_out(
    libraries: Libraries, budget: int, penalty: float = PENALTY, signs: Mapping[str, int] = EVIDENCE_SIGNS
) -> list[Judged]:
    """Every question at one size, judged by a head that was fitted without its library."""
    judged = []
    for name, examples in libraries.items():
        head = evidence_head(others(libraries, name), penalty, signs)
        heads = Heads(head, (), name)
        for example in examples:
            row = row_at(example, budget, Tier.RAG)
            if row:
                judged.append(Judged(name, example, row, heads.value(row.features)))
    return judged


def others(libraries: Libraries, name: str) -> Libraries:
    return {other: known for other, known in libraries.items() if other != name}


def summary(told: Iterable[Judged]) -> str:
    told = list(told)

    def of(chosen: Iterable[Judged]) -> str:
        return f"{auroc([(one.value, one.row.present) for one in chosen]):.3f}"

    natural = [one for one in told if one.example.variant is Variant.NATURAL]
    stripped = [one for one in told if one.example.variant is Variant.STRIPPED]
    there = [one for one in told if not one.example.missing]
    return (
        f"AUROC natural {of(natural)}, stripped {of(stripped)}; of what is in the tree {of(there)}, natural "
        f"{of(one for one in natural if not one.example.missing)}, "
        f"stripped {of(one for one in stripped if not one.example.missing)}"
    )


def block(heads: Heads) -> str:
    """The heads as they stand in shipped.py."""
    lines = ["SHIPPED = Heads(", "    evidence=Head(", f"        {heads.evidence.bias},", "        ("]
    lines += [f"            ({quoted(name)}, {weight})," for name, weight in heads.evidence.weights]
    lines += ["        ),", "    ),", "    gains=("]
    for tier, head in heads.gains:
        lines += ["        (", f"            Tier.{tier.name},", "            Head(", f"                {head.bias},"]
        lines += ["                ("]
        lines += [f"                    ({quoted(name)}, {weight})," for name, weight in head.weights]
        lines += ["                ),", "            ),", "        ),"]
    return "\n".join([*lines, "    ),", f"    origin={quoted(heads.origin)},", ")"])


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _labelled(examples: Sequence[Example]) -> list[Labelled]:
    """The prompts of one library; what is missing counts MISSING_SHARE of it."""
    gone = sum(example.missing for example in examples)
    there = len(examples) - gone
    shares = {True: MISSING_SHARE if there else 1.0, False: 1 - MISSING_SHARE if gone else 1.0}
    counts = {True: gone, False: there}
    return [
        Labelled(
            row.features,
            row.present,
            A_LIBRARY * shares[example.missing] / counts[example.missing] / len(example.rows),
        )
        for example in examples
        for row in example.rows
    ]


def _gains(example: Example, tier: Tier) -> list[Labelled]:
    wide = next((row for row in example.rows if row.tier is Tier.WIDE and row.budget >= 4 * MIDDLE), None)
    if wide is None:
        return []
    found = []
    for row in example.rows:
        if row.present or row.budget >= wide.budget or (row.tier is not Tier.RAG and tier is Tier.WIDE):
            continue
        weight = (MISSING_SHARE if example.missing else 1 - MISSING_SHARE) / len(example.rows)
        share = 0.0 if example.missing else _share(row, tier)
        share = 1.0 if wide.present else share
        found += [
            Labelled(row.features, right, weight * part) for right, part in ((True, share), (False, 1 - share)) if part
        ]
    return found


def _share(row: Row, tier: Tier) -> float:
    """How much of what stands in the tree and not in the wide prompt a further tier shows."""
    if tier is Tier.FULL and dict(row.features)["fits"] * WINDOW >= row.budget:
        return 1.0
    return BEYOND_WIDE[tier]


if __name__ == "__main__":
    main()
