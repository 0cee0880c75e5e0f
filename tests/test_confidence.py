"""Confidence: what is declined, what is exact, and that more evidence never makes it less sure."""

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.confidence import DECLINE_BELOW, WEIGHTS, assess
from hub.model import Confidence, Hit, SignalSource, Tier
from hub.retrieval import Found, Retrieval, retrieve, understand
from indexer.index import Index
from indexer.model import ChunkId, Embedder
from indexer.pipeline import EmbedderSource
from indexer.words import words
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import hit, library_index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
    with library_index(tmp_path_factory.mktemp("confidence"), source) as opened:
        yield opened


def judged(index: Index, question: str, embedder: Embedder | None = None) -> Confidence:
    retrieval = retrieve(index, understand(question), [embedder] if embedder else [], 20)
    return assess(retrieval, index.text.term_weights(question), index.text.stems)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("What does Cache::Vanish do?", "The name Cache::Vanish stands nowhere in this tree."),
        ("Vanish", "The name Vanish stands nowhere in this tree."),
        ("Why does vanish_now call `Ghost`?", "The names vanish_now and Ghost stand nowhere in this tree."),
    ],
)
def test_a_question_about_an_unknown_symbol_is_declined(index: Index, question: str, reason: str) -> None:
    assert judged(index, question) == Confidence(0.0, Tier.NONE, (reason,))


@pytest.mark.parametrize("question", ["How do I bake bread?", "What is the weather in Paris tomorrow?", "", "???"])
def test_a_question_about_something_else_is_declined(index: Index, question: str) -> None:
    for embedder in (None, FakeEmbedder()):
        assert judged(index, question, embedder).tier is Tier.NONE


def test_an_unknown_name_beside_a_known_one_is_told_and_not_declined(index: Index) -> None:
    confidence = judged(index, "Does EvictOldest call Ghost::Walk?")
    assert confidence.tier is Tier.RAG
    assert "The name Ghost::Walk stands nowhere in this tree." in confidence.reasons
    assert confidence.value < judged(index, "Does EvictOldest call Cache::Get?").value


@pytest.mark.parametrize("name", ["Counter", "app::Cache::EvictOldest", "operator==", "log_error"])
def test_a_known_name_alone_is_of_tier_exact(index: Index, name: str) -> None:
    confidence = judged(index, name)
    assert confidence.tier is Tier.EXACT
    assert confidence.value > 0.9


def test_a_question_whose_words_are_found_is_answered_from_evidence(index: Index) -> None:
    confidence = judged(index, "Which entry is evicted when the capacity is used up?")
    assert confidence.tier is Tier.RAG
    assert confidence.value >= DECLINE_BELOW


@pytest.mark.parametrize("embedder", [None, FakeEmbedder()], ids=["without vectors", "with vectors"])
@pytest.mark.parametrize(
    "question",
    ["Counter", "Does Cache::Get call Ghost::Walk?", "How do I bake bread?", "oldest entry", "zebra entry", "X"],
)
def test_reasons_are_sentences_and_the_value_says_that_it_is_uncalibrated(
    index: Index, question: str, embedder: Embedder | None
) -> None:
    confidence = judged(index, question, embedder)
    assert confidence.reasons
    assert all(reason[0].isupper() and reason.endswith(".") and " " in reason for reason in confidence.reasons)
    assert not confidence.calibrated
    assert 0 <= confidence.value <= 1
    assert all(0 <= value <= 1 for _, value in confidence.features)


def test_the_words_that_were_not_found_are_named_rarest_first(index: Index) -> None:
    assert "Not found in them: zebra." in judged(index, "Which zebra entry goes?").reasons
    assert judged(index, "Which zebra entry goes?").value < judged(index, "Which entry goes?").value


# Monotony

STEMS = ["alpha", "beta", "gamma", "delta"]
ASKED = st.lists(st.floats(0.1, 9), min_size=4, max_size=4).map(lambda values: list(zip(STEMS, values, strict=True)))


def retrieval_of(hits: list[Hit], arms: Mapping[SignalSource, Found]) -> Retrieval:
    return Retrieval(understand("how"), tuple(hits), (), (), (), arms)


def value_of(hits: list[Hit], weights: list[tuple[str, float]], vectors: Found = ()) -> float:
    lexical = [(found.chunk.id, 1.0) for found in hits]
    arms = {SignalSource.LEXICAL: lexical, SignalSource.VECTOR: vectors}
    return assess(retrieval_of(hits, arms), weights, words).value


@given(ASKED, st.lists(st.sampled_from(STEMS)), st.sampled_from(STEMS))
def test_a_further_word_found_never_lowers_the_confidence(
    weights: list[tuple[str, float]], before: list[str], more: str
) -> None:
    held = " ".join(["text", *before])
    assert value_of([hit(f"{held} {more}")], weights) >= value_of([hit(held)], weights)


@given(ASKED)
def test_all_words_found_are_surer_than_none(weights: list[tuple[str, float]]) -> None:
    assert value_of([hit(" ".join(STEMS))], weights) >= DECLINE_BELOW > value_of([hit("text")], weights)


@given(ASKED, st.floats(-1, 1), st.floats(-1, 1))
def test_a_nearer_vector_never_lowers_the_confidence(
    weights: list[tuple[str, float]], one: float, other: float
) -> None:
    def value(cosine: float) -> float:
        return value_of([hit("alpha")], weights, [(hit("alpha").chunk.id, cosine)])

    assert value(max(one, other)) >= value(min(one, other))


def test_arms_that_agree_are_surer_than_arms_that_do_not() -> None:
    weights = [("alpha", 1.0)]
    hits = [hit("alpha")]
    assert value_of(hits, weights, [(hits[0].chunk.id, 0.3)]) > value_of(hits, weights, [(ChunkId("other"), 0.3)])


def test_only_ambiguity_counts_against() -> None:
    assert [name for name, weight in WEIGHTS.items() if weight < 0] == ["ambiguity"]
