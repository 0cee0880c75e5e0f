"""Examples of confidence: what counts as shown, and that every prompt is really packed at its size."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.calibrating.examples import BUDGETS, ENOUGH_LINES, Example, Row, examples, is_shown, loads
from hub.calibrating.questions import Asked, QuestionSet, Stratum, Variant, question_set
from hub.config import Settings
from hub.labels import Gold
from hub.model import Citation, Prompt, Rendering, Tier
from indexer.errors import Cancelled
from indexer.model import Span
from indexer.pipeline import ignore_progress, never
from tests.support.trees import write_tree
from tests.test_questions import STORE

SMALL = ((Tier.RAG, 500), (Tier.RAG, 4_000), (Tier.WIDE, 4_000))
SPANS = st.builds(
    lambda path, first, lines: Span(path, first, first + lines),
    st.sampled_from(("a.cc", "b.cc")),
    st.integers(1, 60),
    st.integers(0, 90),
)


def asked(*gold: Gold, stratum: Stratum = Stratum.DESCRIPTION, missing: bool = False) -> Asked:
    return Asked("Where?", gold, stratum, Variant.NATURAL, missing, "kv::f", held_out=False)


def prompt_of(*spans: Span, rendering: Rendering = Rendering.BODY) -> Prompt:
    citations = tuple(Citation(label, span) for label, span in enumerate(spans, 1))
    return Prompt("", "", citations, ("",) * len(spans), 0, renderings=(rendering,) * len(spans))


# What counts as shown


def test_half_of_a_definition_is_enough_and_less_is_not() -> None:
    gold = asked(Span("a.cc", 11, 20))
    assert is_shown(gold, prompt_of(Span("a.cc", 1, 15)))
    assert not is_shown(gold, prompt_of(Span("a.cc", 1, 14)))
    assert not is_shown(gold, prompt_of(Span("b.cc", 1, 99)))


def test_of_a_long_definition_a_screen_is_enough() -> None:
    gold = asked(Span("a.cc", 1, 1_000))
    assert is_shown(gold, prompt_of(Span("a.cc", 200, 200 + ENOUGH_LINES - 1)))
    assert not is_shown(gold, prompt_of(Span("a.cc", 200, 200 + ENOUGH_LINES - 2)))


def test_lines_that_two_citations_show_count_once() -> None:
    gold = asked(Span("a.cc", 1, 10))
    assert not is_shown(gold, prompt_of(Span("a.cc", 1, 4), Span("a.cc", 2, 4)))
    assert is_shown(gold, prompt_of(Span("a.cc", 1, 3), Span("a.cc", 7, 8)))


def test_one_definition_answers_a_description_and_only_all_places_a_relation() -> None:
    gold = Span("a.cc", 3, 3), Span("b.cc", 9, 9)
    one, both = prompt_of(Span("a.cc", 1, 5)), prompt_of(Span("a.cc", 1, 5), Span("b.cc", 1, 9))
    for stratum in (Stratum.DESCRIPTION, Stratum.BODY, Stratum.NAME):
        assert is_shown(asked(*gold, stratum=stratum), one)
    for stratum in (Stratum.RELATION, Stratum.COMMIT):
        assert not is_shown(asked(*gold, stratum=stratum), one)
        assert is_shown(asked(*gold, stratum=stratum), both)


def test_a_name_alone_shows_no_line() -> None:
    gold = asked(Span("a.cc", 1, 1))
    assert not is_shown(gold, prompt_of(Span("a.cc", 1, 9), rendering=Rendering.NAME))
    assert is_shown(gold, prompt_of(Span("a.cc", 1, 9)))


@given(st.lists(SPANS, max_size=4), st.lists(SPANS, max_size=6), st.sampled_from(Stratum))
def test_what_is_missing_is_never_shown_and_more_never_shows_less(
    gold: list[Span], shown: list[Span], stratum: Stratum
) -> None:
    assert not is_shown(asked(*gold, stratum=stratum, missing=True), prompt_of(*shown, *gold))
    assert is_shown(asked(*gold, stratum=stratum), prompt_of(*shown, *gold)) == bool(gold)
    if is_shown(asked(*gold, stratum=stratum), prompt_of(*shown[:3])):
        assert is_shown(asked(*gold, stratum=stratum), prompt_of(*shown))


# On disk

ROWS = st.builds(
    Row,
    st.integers(1, 200_000),
    st.dictionaries(st.text(max_size=8), st.floats(-9, 9), max_size=4).map(lambda told: tuple(told.items())),
    st.booleans(),
    st.sampled_from(Tier),
)
EXAMPLES = st.builds(
    Example,
    st.text(max_size=20),
    st.sampled_from(Stratum),
    st.sampled_from(Variant),
    st.booleans(),
    st.booleans(),
    st.lists(ROWS, max_size=3).map(tuple),
)


@given(EXAMPLES)
def test_an_example_comes_back_from_its_line(example: Example) -> None:
    line = example.dumps()
    assert "\n" not in line
    assert loads(line) == example


@given(EXAMPLES, st.integers(0, 300))
def test_a_line_that_was_cut_off_is_no_example(example: Example, length: int) -> None:
    line = example.dumps()
    assert loads(line[: min(length, len(line) - 1)]) is None


@pytest.mark.parametrize("line", ["", "[]", "7", "null", "{}", json.dumps({"rows": [{"tier": "rag"}]})])
def test_what_is_no_example_is_none(line: str) -> None:
    assert loads(line) is None


# Of a tree


@pytest.fixture
def made(tmp_path: Path) -> Iterator[QuestionSet]:
    settings = Settings(data=tmp_path / "data", backend="none", embeddings="none", index_workers=1)
    tree = write_tree(tmp_path / "tree", dict(STORE))
    with question_set(tree, settings, ignore_progress, never) as found:
        yield replace(found, questions=tuple(one for one in found.questions if not one.missing)[:12])


def test_every_question_gives_one_example_with_a_row_for_each_size(made: QuestionSet) -> None:
    found = list(examples(made, (), SMALL, ignore_progress, never))
    questions = [*made.questions, *made.removed_questions]
    assert [(e.about, e.stratum, e.variant, e.missing, e.held_out) for e in found] == [
        (q.about, q.stratum, q.variant, q.missing, q.held_out) for q in questions
    ]
    assert {tuple((row.tier, row.budget) for row in example.rows) for example in found} == {SMALL}
    assert all(row.features for example in found for row in example.rows)
    assert list(examples(made, (), SMALL, ignore_progress, never)) == found, "it repeats"


def test_the_same_question_is_shown_its_answer_with_it_and_not_without_it(made: QuestionSet) -> None:
    found = list(examples(made, (), SMALL, ignore_progress, never))
    told = [one for one in found if one.about.endswith("expireLeases") and one.stratum is Stratum.DESCRIPTION]
    assert {one.missing for one in told} == {True, False}
    for one in told:
        assert one.rows[1].present != one.missing, "all that is found of this tree fits the larger size"
    assert not any(row.present for example in found if example.missing for row in example.rows)


def test_a_size_that_not_even_the_question_fits_gives_no_row(made: QuestionSet) -> None:
    one = replace(made, questions=made.questions[:1], removed_questions=())
    (found,) = examples(one, (), ((Tier.RAG, 5), *SMALL), ignore_progress, never)
    assert [row.budget for row in found.rows] == [budget for _, budget in SMALL]


def test_asking_tells_how_far_it_is_and_can_be_stopped(made: QuestionSet) -> None:
    told: list[tuple[str, int, int]] = []
    total = len(made.questions) + len(made.removed_questions)
    running = examples(made, (), SMALL, lambda *at: told.append(at), lambda: len(told) > 2)
    with pytest.raises(Cancelled):
        list(running)
    assert told == [("ask", 0, total), ("ask", 1, total), ("ask", 2, total)]


def test_no_questions_give_no_examples(made: QuestionSet) -> None:
    assert list(examples(replace(made, questions=(), removed_questions=()), (), BUDGETS, ignore_progress, never)) == []
