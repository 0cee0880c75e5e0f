"""The benchmark of evidence in prompts, on a small tree: every cell is there, and more room never shows less here."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.calibrating.questions import Asked, QuestionSet, Stratum, Variant
from hub.model import Tier
from indexer.index import Index
from indexer.model import Span
from tests.support.library import library_index

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)

from evidence_recall import FOCUS, FULL, RAG, WIDE, Result, as_json, as_tables, measured  # noqa: E402 - as above

sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    with library_index(tmp_path_factory.mktemp("recall")) as index:
        yield measured("library", questions(index), [])


def questions(index: Index) -> QuestionSet:
    (defined,) = [s.span for s in index.facts.symbols_named("app::Cache::EvictOldest", 9) if s.is_definition]
    natural = Variant.NATURAL
    asked = (
        Asked("Who throws the oldest out?", (defined,), Stratum.DESCRIPTION, natural, False, "EvictOldest", True),
        Asked("Who throws it out?", (Span("nowhere.cc", 1, 2),), Stratum.COMMIT, natural, False, "abc", True),
        Asked("What was taken out?", (), Stratum.DESCRIPTION, natural, True, "gone", True),
    )
    return QuestionSet(index, asked, index, (), (), None)


def test_every_question_that_has_an_answer_is_asked_at_every_size(result: Result) -> None:
    cells = {(Tier.RAG, b) for b in RAG} | {(Tier.WIDE, b) for b in WIDE} | {(Tier.FOCUS, b) for b in FOCUS}
    for shown in result.shown.values():
        assert shown.keys() == cells | {(Tier.FULL, FULL)}
        assert {len(told) for told in shown.values()} == {1}
    assert all(all(told) for told in result.shown["description, natural"].values())
    assert not any(any(told) for told in result.shown["commit, natural"].values())
    assert result.caught == [False]


def test_the_figures_are_printed_as_json_and_as_tables(result: Result) -> None:
    (told,) = json.loads(as_json([result]))["libraries"]
    assert told["recall"]["description, natural"]["wide 32768"] == [1, 1]
    assert told["misses of 16K caught by 32K"] == [0, 1]
    table = as_tables([result, result])
    assert "| library | 2 | 0.500 |" in table
    assert "| mean of libraries | 4 | 0.500 |" in table
    assert "of the misses at 16K wide 32K shows 0 of 1." in table
