"""What the benchmark of retrieval rests on: libraries kept apart, and a baseline that is what it says."""

import sys
from math import isclose, log
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)

import retrieval  # noqa: E402 - the path is set above

sys.path.remove(BENCHMARKS)

JUDGES = {"fmt", "json", "catch2", "abseil-cpp", "simdjson", "rocksdb", "cpp-httplib", "curl", "redis", "libuv"}


def test_no_library_is_both_tuned_on_and_measured_and_the_common_judges_are_neither() -> None:
    development = {library.name.lower() for library in retrieval.DEVELOPMENT}
    test = {library.name.lower() for library in retrieval.TEST}
    assert len(test) >= 5
    assert not development & test
    assert not JUDGES & (development | test)


def test_the_baseline_scores_as_the_formula_of_okapi_says() -> None:
    bm25 = retrieval.Bm25([["lock", "writer", "lock"], ["writer"], ["cache", "table"]])
    mean = (3 + 1 + 2) / 3
    weight = log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    norm = retrieval.K1 * (1 - retrieval.B + retrieval.B * 3 / mean)
    assert isclose(bm25.scores("lock")[0], weight * 2 * (retrieval.K1 + 1) / (2 + norm))
    assert bm25.best("lock", 10) == [0]
    assert bm25.best("writer", 10) == [1, 0], "the shorter text says it more plainly"
    assert bm25.best("nothing of it", 10) == []


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), max_size=8), st.text("abcdef ", max_size=9))
def test_the_baseline_finds_only_what_shares_a_word(documents: list[list[str]], question: str) -> None:
    found = retrieval.Bm25(documents).best(question, 5)
    assert len(found) <= 5
    for number in found:
        assert set(documents[number]) & set(question.replace(" ", ""))


@pytest.mark.parametrize("development", [False, True])
def test_the_table_names_its_baselines_and_says_what_is_no_evidence(development: bool) -> None:
    result = retrieval.Result("leveldb", "0" * 40, 10, names_first=(9, 10))
    result.scores[retrieval.LabelKind.COMMIT, retrieval.FUSED].append((1.0, 0.5, 0.75))
    result.scores[retrieval.LabelKind.COMMIT, "BM25 over files"].append((1.0, 0.5, 0.25))
    table = retrieval.as_tables([result], None, development=development)
    assert "| fused | | | **0.750** | 0.750 |" in table
    assert "| BM25 over files | | | **0.250** | 0.250 |" in table
    assert "| **exact identifier at rank 1** | 1 | 1 | **0.900** | 0.900 |" in table
    assert ("no evidence" in table) == development
