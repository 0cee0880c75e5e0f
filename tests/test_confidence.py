"""Confidence: what is declined, what is exact, what its features are, and that heads keep their signs."""

import re
from collections.abc import Iterator
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.confidence import DECLINE_BELOW, SHIPPED, Head, Heads, breadth_of, judge, observe, search_observed
from hub.confidence.certifying import Certificate
from hub.confidence.features import names_called
from hub.confidence.fitting import EVIDENCE_SIGNS, GAIN_SIGNS, JUDGED, Labelled, fit
from hub.confidence.heads import BUDGET, BUDGET_SCALE, MIDDLE_BUDGET, budget_of
from hub.confidence.observing import stems_of
from hub.confidence.recalibration import Calibration, probability
from hub.evidence.pieces import pieces
from hub.model import Breadth, Confidence, Prompt, Tier
from hub.prompting import pack
from hub.retrieval import Retrieval, retrieve, understand
from indexer.index import Index
from indexer.model import Embedder
from indexer.pipeline import EmbedderSource
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import library_index

BUDGET_TOKENS = 16_384


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
    with library_index(tmp_path_factory.mktemp("confidence"), source) as opened:
        yield opened


def found(index: Index, question: str, embedder: Embedder | None = None) -> Retrieval:
    return retrieve(index, understand(question), [embedder] if embedder else [], 40)


def judged(index: Index, question: str, embedder: Embedder | None = None, prompt: Prompt | None = None) -> Confidence:
    retrieval = found(index, question, embedder)
    features = observe(index, retrieval, prompt, BUDGET_TOKENS)
    return judge(retrieval, features, SHIPPED, Tier.RAG, index.text.stems)


def packed(index: Index, question: str, budget: int) -> Prompt:
    return pack(question, pieces(index, found(index, question).hits), budget, len)


# What is declined, and what is not


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
    confidence = judged(index, name, FakeEmbedder())
    assert confidence.tier is Tier.EXACT
    assert confidence.value > 0.8


@pytest.mark.parametrize("embedder", [None, FakeEmbedder()], ids=["without vectors", "with vectors"])
def test_a_question_whose_words_are_found_is_answered_from_evidence(index: Index, embedder: Embedder | None) -> None:
    confidence = judged(index, "Which entry is evicted when the capacity is used up?", embedder)
    assert confidence.tier is Tier.RAG
    assert confidence.value >= DECLINE_BELOW


@pytest.mark.parametrize("embedder", [None, FakeEmbedder()], ids=["without vectors", "with vectors"])
@pytest.mark.parametrize(
    "question",
    ["Counter", "Does Cache::Get call Ghost::Walk?", "How do I bake bread?", "oldest entry", "zebra entry", "X"],
)
def test_reasons_are_sentences_and_all_numbers_are_bounded(
    index: Index, question: str, embedder: Embedder | None
) -> None:
    confidence = judged(index, question, embedder)
    assert confidence.reasons
    assert all(reason[0].isupper() and reason.endswith(".") and " " in reason for reason in confidence.reasons)
    assert 0 <= confidence.value <= 1
    assert all(0 <= gain <= 1 for _, gain in confidence.gains)
    assert all(-1 <= value <= 1 for _, value in confidence.features)


def test_the_words_that_were_not_found_are_named_rarest_first(index: Index) -> None:
    assert "Not found in them: zebra." in judged(index, "Which zebra entry goes?").reasons
    assert judged(index, "Which zebra entry goes?").value < judged(index, "Which entry goes?").value


# Features


def test_every_feature_that_counts_is_observed_whatever_is_asked(index: Index) -> None:
    weighted = {name for head in (SHIPPED.evidence, *(head for _, head in SHIPPED.gains)) for name, _ in head.weights}
    assert weighted <= set(EVIDENCE_SIGNS) | set(GAIN_SIGNS) | set(JUDGED)
    names = {name for name, _ in observe(index, found(index, "oldest entry"), None, BUDGET_TOKENS)}
    assert set(EVIDENCE_SIGNS) | set(GAIN_SIGNS) | set(JUDGED) <= names
    for question in ("", "EvictOldest", "bake bread", "#0 0x1 in app::Cache::Get (this=0x1) at /src/cache.cc:8\n"):
        assert {name for name, _ in observe(index, found(index, question), None, BUDGET_TOKENS)} == names


def test_a_prompt_that_shows_more_of_what_was_found_is_surer(index: Index) -> None:
    question = "Which entry is evicted when the capacity is used up?"
    search = search_observed(index, found(index, question))
    nothing = search.packed(Prompt("", "", (), (), 0), BUDGET_TOKENS)
    little, much = (search.packed(packed(index, question, room), BUDGET_TOKENS) for room in (900, 12_000))
    assert dict(nothing)["shown share"] < dict(little)["shown share"] < dict(much)["shown share"]
    assert SHIPPED.value(nothing) < SHIPPED.value(little) < SHIPPED.value(much)


def test_a_name_counts_as_shown_where_its_definition_is(index: Index) -> None:
    question = "What happens in EvictOldest()?"
    search = search_observed(index, found(index, question))
    whole = dict(search.packed(packed(index, question, 12_000), BUDGET_TOKENS))
    nothing = dict(search.packed(Prompt("", "", (), (), 0), BUDGET_TOKENS))
    assert (whole["names shown"], nothing["names shown"]) == (1.0, 0.0)
    assert (whole["first shown"], nothing["first shown"]) == (1.0, 0.0)
    assert nothing["shown share"] == 0.0 < whole["shown share"]


def test_a_called_name_that_says_what_is_asked_and_stands_nowhere_is_told(index: Index) -> None:
    known = dict(observe(index, found(index, "evict the oldest"), None, BUDGET_TOKENS))
    assert known["called and known"] > known["called and unknown"]
    read = known["known over unknown"]
    assert read == pytest.approx(known["called and known"] - known["called and unknown"], abs=1e-3)


@given(st.text("aZ_9\u00e9\u00b2 \n\t(x\u2003", max_size=40), st.integers(0, 90))
def test_names_read_from_their_ends_are_those_read_from_their_beginnings(text: str, more: int) -> None:
    whole = f"{text}{'a' * more}( {text}"
    assert names_called(whole)[::-1] == re.findall(r"\b([A-Za-z_]\w{3,80})\s{0,2}\(", whole)


def test_remembered_stems_are_those_of_text_search(index: Index) -> None:
    texts = [text for hit in found(index, "evict the oldest").hits for text in (hit.chunk.text, hit.chunk.title)]
    assert texts
    stems = stems_of(index)
    for _ in range(2):
        assert [stems(text) for text in texts] == [frozenset(index.text.stems(text)) for text in texts]


def test_a_call_of_what_the_tree_lacks_is_told_as_a_reason(index: Index) -> None:
    retrieval = found(index, "evict the oldest")
    features = dict(observe(index, retrieval, None, BUDGET_TOKENS))
    dangling = features | {"called and unknown": 0.5, "known over unknown": -0.5}
    reason = "The first hits call what the question speaks of, and this tree does not define it."
    for told, expected in ((features, False), (dangling, True)):
        judged = judge(retrieval, tuple(told.items()), SHIPPED, Tier.RAG, index.text.stems)
        assert (reason in judged.reasons) is expected


@given(st.integers(256, 1_000_000))
def test_the_budget_stands_in_the_features(tokens: int) -> None:
    assert budget_of({BUDGET: log2(tokens / MIDDLE_BUDGET) / BUDGET_SCALE}) == pytest.approx(tokens, rel=0.01)


# Breadth


@pytest.mark.parametrize(
    ("question", "breadth"),
    [
        ("What does Cache::Get do?", Breadth.POINT),
        ("EvictOldest", Breadth.POINT),
        ("How is the oldest entry found?", Breadth.POINT),
        ("Fix the callers of Cache::Get", Breadth.POINT),  # a change is made in places
        ("Who calls Cache::Get?", Breadth.RELATION),
        ("Which classes derive from Cache?", Breadth.RELATION),
        ("Where is Counter used?", Breadth.RELATION),
        ("What is the architecture of this project?", Breadth.GLOBAL),
        ("List every place where a lock is taken", Breadth.GLOBAL),
        ("How is this code base organised?", Breadth.GLOBAL),
        ("Where are errors logged, across the whole repository?", Breadth.GLOBAL),
    ],
)
def test_breadth_is_read_off_the_words(question: str, breadth: Breadth) -> None:
    assert breadth_of(understand(question)) is breadth


# Heads

VALUES = st.floats(0, 1)
SIGNED = st.sampled_from(sorted(name for name, sign in EVIDENCE_SIGNS.items() if sign))


@given(st.dictionaries(SIGNED, VALUES, max_size=12), SIGNED, VALUES, VALUES)
def test_more_of_what_speaks_for_the_evidence_never_makes_less_sure(
    features: dict[str, float], name: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    before = SHIPPED.value({**features, name: low}.items())
    after = SHIPPED.value({**features, name: high}.items())
    assert (after - before) * EVIDENCE_SIGNS[name] >= 0


@given(st.floats(-1e6, 1e6))
def test_a_probability_stays_one(odds: float) -> None:
    assert 0 <= probability(odds) <= 1
    assert probability(odds) + probability(-odds) == pytest.approx(1)


def test_heads_come_back_as_they_were_kept() -> None:
    certificate = Certificate("", 16_384, 0.1, 0.05, 300, 0.7, 0.6, 200, 9, 40)
    heads = Heads(SHIPPED.evidence, SHIPPED.gains, "a test", Calibration(0.9, 1.1, 0.2, 0.1, 300), (certificate,))
    assert Heads.loads(heads.dumps()) == heads
    assert Heads.loads(SHIPPED.dumps()) == SHIPPED


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version": 0}', '{"version": 1, "evidence": 3}'])
def test_what_is_no_head_is_left_aside(text: str) -> None:
    assert Heads.loads(text) is None


def test_a_calibrated_head_bends_the_value_and_keeps_the_order() -> None:
    plain = Heads(Head(0.0, (("lead", 4.0),)), (), "a test")
    bent = Heads(plain.evidence, (), "a test", Calibration(0.5, 0.5, -1.0))
    values = [(plain.value([("lead", lead)]), bent.value([("lead", lead)])) for lead in (0.0, 0.5, 1.0)]
    assert [bent for _, bent in values] == sorted(bent for _, bent in values)
    assert all(plain > bent for plain, bent in values)


# Fitting

ROWS = st.lists(st.tuples(VALUES, VALUES, st.booleans()), min_size=1, max_size=40)


@given(ROWS, st.sampled_from([-1, 1]))
def test_a_weight_never_has_the_wrong_sign(rows: list[tuple[float, float, bool]], sign: int) -> None:
    told = [Labelled((("one", one), ("other", other)), right) for one, other, right in rows]
    head = fit(told, {"one": sign, "other": 0}, 0.1)
    assert all(weight * sign > 0 for name, weight in head.weights if name == "one")


@given(ROWS)
def test_the_order_of_examples_does_not_matter(rows: list[tuple[float, float, bool]]) -> None:
    told = [Labelled((("one", one), ("other", other)), right) for one, other, right in rows]
    mixed = sorted(told, key=lambda labelled: (labelled.right, labelled.features))
    first, second = fit(told, {"one": 1, "other": 0}, 1.0), fit(mixed, {"one": 1, "other": 0}, 1.0)
    assert first.bias == pytest.approx(second.bias, abs=0.01)
    assert dict(first.weights) == pytest.approx(dict(second.weights), abs=0.01)


def test_what_tells_apart_is_found_and_what_does_not_gets_nothing() -> None:
    told = [
        Labelled((("signal", place / 100), ("noise", (place * 37 % 100) / 100), ("constant", 0.5)), place >= 50)
        for place in range(100)
    ]
    head = fit(told, {"signal": 1, "noise": 0, "constant": 0}, 1.0)
    weights = dict(head.weights)
    assert weights["signal"] > 3
    assert abs(weights.get("noise", 0.0)) < 1
    assert "constant" not in weights


@pytest.mark.parametrize("right", [True, False])
def test_labels_all_of_one_kind_give_a_finite_head_that_says_so(right: bool) -> None:
    head = fit([Labelled((("one", place / 10),), right) for place in range(10)], {"one": 1})
    value = probability(head.odds({"one": 0.5}))
    assert (value > 0.9) if right else (value < 0.1)


def test_nothing_to_fit_on_gives_a_head_that_knows_nothing() -> None:
    assert fit([], {"one": 1}) == Head(0.0, ())
