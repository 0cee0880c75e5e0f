"""The corrupted answers of benchmarks/answer_checks.py: what is right passes, and what was made untrue is noticed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.claims import known_of
from indexer.index import DataFolder, Index
from tests.support.trees import index_of

ROOT = Path(__file__).parent.parent
BENCHMARKS = str(ROOT / "benchmarks")
sys.path.insert(0, BENCHMARKS)

import answer_checks  # noqa: E402 - the path is set above

sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    data = tmp_path_factory.mktemp("answers")
    index_of(ROOT / "sample_repo", data)
    with Index.for_reading(DataFolder(data), "w") as opened:
        yield opened


def test_right_answers_pass_and_corrupted_ones_are_doubted(index: Index) -> None:
    rows = answer_checks.measured(index, answers=25, show="")
    assert rows["right"]["doubted"] == 0
    assert rows.keys() >= {"right", "wrong callee", "invented name", "wrong base", "altered quote", "wrong citation"}
    for kind, row in rows.items():
        assert kind == "right" or (row["doubted"] >= 0.7 and row["confidence"] < rows["right"]["confidence"]), kind


def test_a_corruption_changes_one_fact_and_leaves_the_rest(index: Index) -> None:
    author = answer_checks.Author(index, known_of(index), answer_checks.SEED)
    changed = 0
    for written in author.answers(10):
        for kind in answer_checks.CORRUPTIONS:
            other = answer_checks.corrupted(written, kind, author)
            if other is not None:
                changed += 1
                assert sum(a != b for a, b in zip(written.facts, other.facts, strict=True)) == 1, kind
                assert other.citations == written.citations
    assert changed > 20
