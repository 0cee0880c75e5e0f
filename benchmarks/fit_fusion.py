"""Fits the weights of fusion that ship, on the development libraries of benchmarks/retrieval.py, and prints them.

    python benchmarks/fit_fusion.py --keep DIR [--repositories DIR] [--library NAME ...] [--spread S]

Each library is asked what `codehub evaluate` asks a user's tree. The first table ranks every library with weights that
were fitted on the others: that is what the form is worth on a tree it has not seen. The second adapts these weights to
half of the library's own questions, as `codehub tune` does, and asks the other half. Then comes the block for
hub/retrieval/fusion.py, fitted on all. What was found for the questions is kept in DIR, so a second run takes a minute.
"""

import argparse
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from retrieval import DEVELOPMENT, Library, repository_of, settings_for  # noqa: E402 - the path is set above

from hub.evaluation import FUSED, judged, rankings, score, snapshot, usable_embedders  # noqa: E402
from hub.labels import LabelKind  # noqa: E402
from hub.retrieval.fusion import GLOBAL, Weights  # noqa: E402
from hub.tuning import FITTED, SPREAD, Example, fit  # noqa: E402
from indexer.pipeline import ignore_progress, never  # noqa: E402

# How far a shipped weight may lie from 0 for want of evidence; so wide that thousands of questions outweigh it.
WIDE = 4.0
MOST = 150  # questions of a kind and library, so that no library speaks for all
KINDS = (LabelKind.DESCRIPTION, LabelKind.BODY, LabelKind.COMMIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--keep", type=Path, required=True, metavar="DIR", help="for clones and what was found")
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="clones that are there, as OWNER+NAME/repo")
    parser.add_argument("--library", action="append", metavar="NAME", help="only this one; may be given again")
    parser.add_argument("--spread", type=float, default=SPREAD, help=f"of the prior of a tree (default: {SPREAD})")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    examples = {
        library.name: found_for(library, options.keep, options.repositories)
        for library in DEVELOPMENT
        if not options.library or library.name in options.library
    }
    unfitted = replace(GLOBAL, prose=(), account=(), change=(), files=())
    others = {
        name: fit([pair for other in examples if other != name for pair in some(examples[other])], unfitted, WIDE)
        for name in examples
    }
    print("Hit@10, MRR@10, NDCG@10 with weights fitted on the other libraries\n")
    show(examples, lambda name: others[name])
    held = {name: [pair for pair in found if pair[0].held_out] for name, found in examples.items()}
    own = {name: [pair for pair in found if not pair[0].held_out] for name, found in examples.items()}
    print("\nThe same on the held-out half\n")
    show(held, lambda name: others[name])
    print("\nAdapted to the other half\n")
    show(held, lambda name: fit(own[name], others[name], options.spread))
    print("\nFitted on all\n")
    print(as_source(fit([pair for found in examples.values() for pair in some(found)], unfitted, WIDE)))


def found_for(library: Library, keep: Path, given: Path | None) -> list[Example]:
    """What every arm finds for the library's questions; read again where an earlier run left it."""
    cache = keep / f"found-{library.name}.pickle"
    if cache.exists():
        kept: list[Example] = pickle.loads(cache.read_bytes())
        return kept
    root = repository_of(library, keep, given)
    with TemporaryDirectory(dir=keep) as folder:
        settings = settings_for(Path(folder), None)
        with snapshot(root, settings, ignore_progress, never) as made:
            embedders, notes = usable_embedders(made.index, settings)
            labels = [label for label in made.labels if label.kind in KINDS]
            found = list(judged(made.index, labels, embedders, never))
    print(library.name, len(found), "questions", *made.notes, *notes, file=sys.stderr)
    cache.write_bytes(pickle.dumps(found))
    return found


def some(found: Sequence[Example]) -> list[Example]:
    """The first of each kind."""
    return [pair for kind in KINDS for pair in [pair for pair in found if pair[0].kind is kind][:MOST]]


def show(examples: dict[str, list[Example]], weights_of: Callable[[str], Weights]) -> None:
    print(f"{'':12}" + "".join(f"{kind.value:24}" for kind in KINDS))
    means: list[list[list[float]]] = []
    for name, found in examples.items():
        weights = weights_of(name)
        rows = [
            average(
                [score(label.gold, rankings(label, one, weights)[FUSED]) for label, one in found if label.kind is kind]
            )
            for kind in KINDS
        ]
        means.append(rows)
        print(f"{name:12}" + "".join(as_text(row) for row in rows))
    whole = [average([rows[number] for rows in means if rows[number]]) for number in range(len(KINDS))]
    print(f"{'mean':12}" + "".join(as_text(row) for row in whole), flush=True)


def average(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column; of no rows nothing."""
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def as_text(row: Sequence[float]) -> str:
    return f"{' '.join(f'{value:.3f}' for value in row):24}"


def as_source(weights: Weights) -> str:
    lines = []
    for name in FITTED:
        pairs = "".join(f'        ("{feature}", {value:g}),\n' for feature, value in getattr(weights, name))
        lines.append(f"    {name}=(\n{pairs}    ),\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
