"""Measures how often the evidence of an answer is in the prompt, by its size, with and without a second look.

    make bench-recall        (or: python benchmarks/evidence_recall.py [--library NAME ...] [--questions N] [--json])

Questions are those of `codehub calibrate`: comments that were hidden, later commits, relations and mistyped names, each
asked of the tree as it was at a split in its history. Tokens are estimated as without a model. The prompts are those
that the product packs: of the first search (rag), of the second look (wide), and behind an outline (focus). `full` is
the choice of files that a full load makes where not all of them fit, which no question has a part in.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import TypeVar

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from end_to_end import machine  # noqa: E402 - the path is set above, so that a plain checkout works
from retrieval import DEVELOPMENT, Library, repository_of, settings_for  # noqa: E402

from hub.backends.evidence_only import EvidenceOnlyBackend  # noqa: E402
from hub.calibrating.examples import is_shown  # noqa: E402
from hub.calibrating.questions import Asked, QuestionSet, answered_by_any, question_set  # noqa: E402
from hub.calibrating.running import chosen  # noqa: E402
from hub.evaluation import usable_embedders  # noqa: E402
from hub.evidence.focus import focus  # noqa: E402
from hub.evidence.pieces import pieces  # noqa: E402
from hub.evidence.widening import widen  # noqa: E402
from hub.fullload.log import Room, laid_out  # noqa: E402
from hub.fullload.tree import tree_of  # noqa: E402
from hub.labels import Gold  # noqa: E402
from hub.model import Prompt, Tier  # noqa: E402
from hub.prompting import pack  # noqa: E402
from hub.retrieval import retrieve, understand  # noqa: E402
from indexer.index import Index  # noqa: E402
from indexer.model import Embedder  # noqa: E402
from indexer.pipeline import ignore_progress, never  # noqa: E402

# What confidence and escalation are measured on, beside what ranking was tuned on.
FURTHER = (
    Library("qpdf", "qpdf"),
    Library("ceres-solver", "ceres-solver"),
    Library("scylladb", "seastar"),
    Library("apache", "brpc"),
    Library("facebook", "folly"),
)
K = 1_024
RAG = tuple(size * K for size in (2, 4, 8, 16, 32, 64))
WIDE = tuple(size * K for size in (16, 32, 64, 96, 128))
FOCUS = (96 * K, 128 * K)
FULL = 256 * K
OFFERED = 80  # tokens of a budget for each hit that is offered to the packing
LEAST_OFFERED, MOST_OFFERED = 40, 1_000

COUNT = EvidenceOnlyBackend().count_tokens

Cell = tuple[Tier, int]
_Found = TypeVar("_Found")


@dataclass
class Result:
    """Of one library: whether each question's evidence was shown, by stratum and variant, then by prompt."""

    library: str
    chunks: int
    shown: dict[str, dict[Cell, list[bool]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    caught: list[bool] = field(default_factory=list)  # of what 16K miss, whether the second look shows it in 32K


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep clones here")
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="clones that lie there as OWNER+NAME/repo")
    parser.add_argument("--library", action="append", metavar="NAME", help="measure this one; may be repeated")
    parser.add_argument("--questions", type=int, default=300, metavar="N", help="of a library, at most (300)")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON instead of tables")
    options = parser.parse_args()
    known = (*DEVELOPMENT, *FURTHER)
    libraries = [library for library in known if not options.library or library.name in options.library]
    if not libraries:
        raise SystemExit(f"None of {', '.join(library.name for library in known)} is meant.")
    results = []
    with TemporaryDirectory() as scratch:
        keep: Path = options.keep or Path(scratch)
        for library in libraries:
            settings = settings_for(keep / "data", None)
            root = repository_of(library, keep, options.repositories)
            with question_set(root, settings, ignore_progress, never) as made:
                embedders, _ = usable_embedders(made.present, settings)
                results.append(measured(library.name, chosen(made, options.questions), embedders))
            print(library.name, file=sys.stderr)
    print(as_json(results) if options.json else as_tables(results))


def measured(library: str, made: QuestionSet, embedders: Sequence[Embedder]) -> Result:
    """The figures of one library, over the questions that its index can answer."""
    index = made.present
    result = Result(library, index.table.counts().chunks)
    loaded = shown_by_full_load(index)
    for asked in made.questions:
        if asked.missing:
            continue
        group = f"{asked.stratum.value}, {asked.variant.value}"
        seen: dict[Cell, bool] = {}
        for cell, prompt in prompts(index, asked.question, embedders, result.seconds):
            seen[cell] = is_shown(asked, prompt)
        seen[Tier.FULL, FULL] = _is_loaded(asked, loaded)
        for cell, shown in seen.items():
            result.shown[group][cell].append(shown)
        if not seen[Tier.RAG, 16 * K]:
            result.caught.append(seen[Tier.WIDE, 32 * K])
    return result


def prompts(
    index: Index, question: str, embedders: Sequence[Embedder], seconds: Mapping[str, list[float]]
) -> Iterator[tuple[Cell, Prompt]]:
    """The prompts of a question at every size. What was done to find the evidence is timed."""

    def timed(name: str, work: Callable[[], _Found]) -> _Found:
        started = time.perf_counter()
        done = work()
        seconds[name].append(time.perf_counter() - started)
        return done

    found = timed("retrieve", lambda: retrieve(index, understand(question), embedders, MOST_OFFERED))
    wide = timed("widen", lambda: widen(index, found, embedders, MOST_OFFERED))
    for tier, sizes, retrieval in ((Tier.RAG, RAG, found), (Tier.WIDE, WIDE, wide)):
        passages = pieces(index, retrieval.hits)  # one for each hit, and none depends on those behind it
        for budget in sizes:
            offered = passages[: max(LEAST_OFFERED, budget // OFFERED)]
            yield (tier, budget), pack(question, offered, budget, COUNT)
    for budget in FOCUS:
        made = timed("focus", lambda budget=budget: focus(index, wide, budget, COUNT))  # type: ignore[misc]
        yield (Tier.FOCUS, budget), pack(question, pieces(index, made.hits), budget, COUNT, made.foundation)


def shown_by_full_load(index: Index) -> frozenset[str]:
    """The files that a full load of 256K shows."""
    tree = tree_of(index)
    log = laid_out(tree.texts, tree.ranking(), Room(FULL, COUNT))
    return frozenset(log.sheets)


def _is_loaded(asked: Asked, loaded: frozenset[str]) -> bool:
    def met(part: Gold) -> bool:
        return (part if isinstance(part, str) else part.path) in loaded

    parts = [met(part) for part in asked.gold]
    return any(parts) if answered_by_any(asked.stratum) else all(parts)


def as_json(results: Sequence[Result]) -> str:
    return json.dumps(
        {
            "machine": machine(),
            "libraries": [
                {
                    "library": result.library,
                    "chunks": result.chunks,
                    "recall": {
                        group: {
                            f"{tier.value} {budget}": [mean(shown), len(shown)]
                            for (tier, budget), shown in cells.items()
                        }
                        for group, cells in result.shown.items()
                    },
                    "misses of 16K caught by 32K": [sum(result.caught), len(result.caught)],
                    "median seconds": {name: median(taken) for name, taken in result.seconds.items()},
                }
                for result in results
            ],
        },
        indent=1,
    )


def as_tables(results: Sequence[Result]) -> str:
    """A table for all questions, one line a library, and one for each kind of question over all libraries."""
    cells: list[Cell] = [*((Tier.RAG, b) for b in RAG), *((Tier.WIDE, b) for b in WIDE)]
    cells += [*((Tier.FOCUS, b) for b in FOCUS), (Tier.FULL, FULL)]
    head = " | ".join(f"{tier.value} {budget // K}K" for tier, budget in cells)
    lines = [machine(), "", f"| | questions | {head} |", f"|---|---|{'---|' * len(cells)}"]
    rows: list[tuple[str, Mapping[Cell, Sequence[bool]]]] = [(result.library, _all(result)) for result in results]
    groups = sorted({group for result in results for group in result.shown})
    for name, shown in rows:
        lines.append(_line(name, shown, cells))
    if len(results) > 1:
        means = " | ".join(f"{mean(mean(shown[cell]) for _, shown in rows):.3f}" for cell in cells)
        lines.append(f"| mean of libraries | {sum(len(shown[cells[0]]) for _, shown in rows)} | {means} |")
    for group in groups:
        together: dict[Cell, list[bool]] = defaultdict(list)
        for result in results:
            for cell, told in result.shown.get(group, {}).items():
                together[cell] += told
        lines.append(_line(group, together, cells))
    lines.append("")
    for result in results:
        seen = ", ".join(f"{name} {1000 * median(taken):.0f} ms" for name, taken in result.seconds.items())
        caught = f"{sum(result.caught)} of {len(result.caught)}"
        lines.append(f"{result.library}: {result.chunks} chunks; {seen}; of the misses at 16K wide 32K shows {caught}.")
    return "\n".join(lines)


def _all(result: Result) -> Mapping[Cell, Sequence[bool]]:
    together: dict[Cell, list[bool]] = defaultdict(list)
    for shown in result.shown.values():
        for cell, told in shown.items():
            together[cell] += told
    return together


def _line(name: str, shown: Mapping[Cell, Sequence[bool]], cells: Sequence[Cell]) -> str:
    return f"| {name} | {len(shown[cells[0]])} | " + " | ".join(f"{mean(shown[cell]):.3f}" for cell in cells) + " |"


if __name__ == "__main__":
    main()
