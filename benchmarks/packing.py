"""Measures what packing takes: milliseconds of a core for each prompt, and how often tokens are counted.

    python benchmarks/packing.py [TREE] [--questions N] [--hits N] [--json]

Asked are the names of functions of the tree, in words. The count of tokens is a third of the bytes, as without a model.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from end_to_end import machine  # noqa: E402 - the path is set above, so that a plain checkout works

from hub.backends.evidence_only import EvidenceOnlyBackend  # noqa: E402
from hub.evidence.pieces import pieces  # noqa: E402
from hub.prompting import pack  # noqa: E402
from hub.retrieval import retrieve, understand  # noqa: E402
from indexer.index import DataFolder, Index, words  # noqa: E402
from indexer.model import SymbolKind  # noqa: E402
from indexer.pipeline import Options, refresh  # noqa: E402

BUDGETS = (8, 16, 32, 64, 128)  # Ki tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tree", nargs="?", type=Path, default=REPOSITORY / "sample_repo")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--hits", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        data = DataFolder(Path(folder))
        with data.owned(), Index.for_writing(data, "packing", arguments.tree.resolve()) as index:
            refresh(index, Options(commits=0, carry=False))
            told = measured(index, arguments.questions, arguments.hits)
    if arguments.json:
        print(json.dumps({"machine": machine(), **told._asdict()}, indent=2))
        return
    print(machine())
    print(f"{told.questions} questions with {told.hits} hits each; milliseconds of a core, median")
    print(f"pieces {told.pieces_ms:>6}")
    for budget, (took, counted) in told.pack.items():
        print(f"{budget:>5}K {took:>6}   {counted} counts")


class Measured(NamedTuple):
    """Medians over the questions."""

    questions: int
    hits: int
    pieces_ms: float
    pack: dict[int, tuple[float, float]]  # by budget in Ki tokens: milliseconds, and how often tokens were counted


def measured(index: Index, questions: int, most: int) -> Measured:
    """What packing the hits of as many questions takes."""
    kinds = {SymbolKind.FUNCTION, SymbolKind.METHOD}
    functions = [one for one in index.facts.all_symbols() if one.kind in kinds and one.is_definition]
    asked = [" ".join(words(symbol.qualified_name)) for symbol in functions[:: max(1, len(functions) // questions)]]
    count = EvidenceOnlyBackend().count_tokens
    calls = 0

    def counting(text: str) -> int:
        nonlocal calls
        calls += 1
        return count(text)

    offered, looked = [], []
    for question in asked:
        hits = retrieve(index, understand(question), (), most).hits
        pieces(index, hits)
        started = time.process_time()
        passages = pieces(index, hits)
        looked.append(time.process_time() - started)
        offered.append((question, passages))
    rows: dict[int, tuple[float, float]] = {}
    for budget in BUDGETS:
        took, counted = [], []
        for question, passages in offered:
            calls, started = 0, time.process_time()
            pack(question, passages, budget * 1_024, counting)
            took.append(time.process_time() - started)
            counted.append(calls)
        rows[budget] = (round(1_000 * median(took), 1), median(counted))
    found = round(median(len(passages) for _, passages in offered))
    return Measured(len(asked), found, round(1_000 * median(looked), 1), rows)


if __name__ == "__main__":
    main()
