"""Why there is no answer: what a refusal names as missing, what was looked at, and what it says would help."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model import Attempt, Confidence, Lack, Missing, Tier, Usage
from hub.prompting import visible
from hub.refusal import LONGEST_NAME, MOST_MISSING, NEAREST, Situation, explain, text
from hub.retrieval import Retrieval, retrieve, understand
from indexer.index import Index
from tests.support.library import library_index

NOWHERE = Confidence(0.0, Tier.NONE, ("The name Zeppelin stands nowhere in this tree.",))
UNSURE = Confidence(0.12, Tier.NONE, ("12% is too little to answer.",))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with library_index(tmp_path_factory.mktemp("refusal")) as opened:
        yield opened


def looked(index: Index, question: str) -> Retrieval:
    return retrieve(index, understand(question), [], 10)


def attempt(tier: Tier, tokens: int = 0) -> Attempt:
    return Attempt(tier, 0.2, usage=Usage(tokens), seconds=1.5)


def commands(index: Index, question: str, situation: Situation) -> list[str]:
    return [remedy.command for remedy in explain(looked(index, question), UNSURE, situation).remedies]


def test_a_name_that_stands_nowhere_comes_with_the_names_that_may_have_been_meant(index: Index) -> None:
    def nearest(name: str) -> list[str]:
        assert name == "Cache::EvictOldst"
        return ["app::Cache::EvictOldest"] * 2 + [f"app::Other{n}" for n in range(9)]

    refusal = explain(looked(index, "What does Cache::EvictOldst do?"), NOWHERE, Situation(nearest=nearest))
    near = ("app::Cache::EvictOldest", "app::Other0", "app::Other1")
    assert refusal.missing == (Missing(Lack.NAME, "Cache::EvictOldst", near),)
    assert len(near) == NEAREST
    assert refusal.remedies[0].command == "codehub symbol app::Cache::EvictOldest"
    told = text(refusal)
    assert told.startswith("Not found. The name Zeppelin stands nowhere in this tree.\n")
    assert "- the name Cache::EvictOldst stands nowhere in this tree; near it are app::Cache::EvictOldest, " in told


def test_a_name_without_any_like_it_may_be_of_code_that_is_not_indexed(index: Index) -> None:
    refusal = explain(looked(index, "What does Zeppelin::Moor do?"), NOWHERE, Situation())
    assert refusal.missing[0] == Missing(Lack.NAME, "Zeppelin::Moor")
    assert any("index that, too" in remedy.text for remedy in refusal.remedies)


def test_words_that_nothing_in_the_tree_says_are_named_and_those_it_says_are_not(index: Index) -> None:
    refusal = explain(looked(index, "how does the quantum cache evict teleported entries"), UNSURE, Situation())
    missing = [missing.what for missing in refusal.missing if missing.lack is Lack.WORD]
    assert {"quantum", "teleported"} <= set(missing)
    assert not {"cache", "evict", "entries"} & set(missing)
    assert any(remedy.text.startswith("Name a function") for remedy in refusal.remedies)


def test_parts_of_the_question_that_no_answer_spoke_to_are_named(index: Index) -> None:
    situation = Situation(unanswered=("who calls it",))
    refusal = explain(looked(index, "What does EvictOldest do and who calls it?"), UNSURE, situation)
    assert Missing(Lack.PART, "who calls it") in refusal.missing
    assert "nothing that was found speaks to: who calls it" in text(refusal)


def test_what_was_looked_at_is_told_with_its_tokens_and_seconds(index: Index) -> None:
    situation = Situation((attempt(Tier.RAG, 8_120), attempt(Tier.WIDE, 40_960), attempt(Tier.EXACT)))
    told = text(explain(looked(index, "cache"), UNSURE, situation))
    assert "Looked at: rag (8,120 tokens, 1.5 s, confidence 0.20); wide (40,960 tokens," in told
    assert "exact (1.5 s, confidence 0.20)." in told


def test_a_tier_that_was_asked_for_alone_is_said_to_be_the_only_one(index: Index) -> None:
    situation = Situation((attempt(Tier.RAG),), only=Tier.RAG)
    refusal = explain(looked(index, "cache"), UNSURE, situation)
    assert any("only rag was tried" in remedy.text for remedy in refusal.remedies)


@pytest.mark.parametrize(
    ("situation", "command", "helps"),
    [
        (Situation(stale=("src/cache.cc",)), "codehub index", True),
        (Situation(calibrated=False), "codehub calibrate", True),
        (Situation(calibrated=True), "codehub calibrate", False),
        (Situation(window=8_192, tree_tokens=100_000), "codehub extend-context", True),
        (Situation(window=200_000, tree_tokens=100_000), "codehub extend-context", False),
        (Situation(window=8_192, tree_tokens=100_000, writes=False), "codehub extend-context", False),
    ],
)
def test_a_remedy_is_named_where_it_helps_and_nowhere_else(
    index: Index, situation: Situation, command: str, helps: bool
) -> None:
    assert (command in commands(index, "EvictOldest capacity", situation)) == helps


def test_more_reading_is_offered_until_everything_was_read(index: Index) -> None:
    def offered(*tiers: Tier) -> str:
        situation = Situation(tuple(map(attempt, tiers)))
        refusal = explain(looked(index, "EvictOldest"), UNSURE, situation)
        return " ".join(remedy.text for remedy in refusal.remedies if "Have more" in remedy.text)

    assert "--policy exhaustive" in offered(Tier.RAG)
    assert "--tier full" in offered(Tier.RAG, Tier.WIDE, Tier.FOCUS)
    assert not offered(Tier.RAG, Tier.WIDE, Tier.FULL)
    assert not offered(Tier.ANALYSIS)


def test_for_a_name_that_stands_nowhere_no_further_reading_is_offered(index: Index) -> None:
    for situation in (Situation(writes=False), Situation((attempt(Tier.RAG),), window=10, tree_tokens=100)):
        refusal = explain(looked(index, "What does Zeppelin::Moor do?"), NOWHERE, situation)
        assert [remedy.command for remedy in refusal.remedies] == [""]
    stale = explain(looked(index, "What does Zeppelin::Moor do?"), NOWHERE, Situation(stale=("src/a.cc",)))
    assert "codehub index" in {remedy.command for remedy in stale.remedies}


def test_without_a_model_that_writes_one_is_proposed_and_no_longer_reading(index: Index) -> None:
    refusal = explain(looked(index, "EvictOldest"), UNSURE, Situation((attempt(Tier.RAG),), writes=False))
    told = [remedy.text for remedy in refusal.remedies]
    assert any("language model" in remedy for remedy in told)
    assert not any("Have more" in remedy for remedy in told)


@given(st.lists(st.text(max_size=300), max_size=30), st.lists(st.text(min_size=1, max_size=40), max_size=5))
def test_a_refusal_is_bounded_and_its_lines_hold_nothing_covert(
    index: Index, unanswered: list[str], near: list[str]
) -> None:
    situation = Situation(unanswered=tuple(unanswered), nearest=lambda _name: near)
    refusal = explain(looked(index, "What does Nowhere::Really do?"), NOWHERE, situation)
    assert len(refusal.missing) <= MOST_MISSING
    told = text(refusal)
    assert told.startswith("Not found. ")
    assert all(
        len(what) <= LONGEST_NAME + 4 for missing in refusal.missing for what in (missing.what, *missing.nearest)
    )
    assert told == visible(told)
    assert told.count("\n") <= MOST_MISSING + 12
