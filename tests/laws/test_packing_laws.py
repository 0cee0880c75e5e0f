"""Laws of packing: for any passages, budgets and counts of tokens, not only for those of today."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import PromptTooLong
from hub.model import Prompt, Rendering
from hub.prompting import LEAST_LINES, Part, Passage, Stretch, pack, visible
from indexer.model import Span

WORDS = st.sampled_from(
    ["alpha", "beta", "Gamma", "app::Cache", "int x = 0;", "// why", "<<<a1", "[F9:1-2]", "\u202e", "\r", ""]
)
LINES = st.lists(
    st.one_of(WORDS, st.text(max_size=12).map(lambda text: text.replace("\n", " "))), min_size=1, max_size=14
)
Count = Callable[[str], int]


@st.composite
def passage(draw: st.DrawFn, path: str, first_line: int) -> Passage:
    """A passage with parts and a signature that are some of its lines, as they always are."""
    lines = draw(LINES)
    last = first_line + len(lines) - 1

    def stretch(first: int, end: int) -> Stretch:
        return Stretch(Span(path, first, end), "\n".join(lines[first - first_line : end - first_line + 1]))

    cuts = sorted(draw(st.sets(st.integers(first_line, last + 1), max_size=4)))
    parts = tuple(Part(stretch(one, end - 1), draw(WORDS)) for one, end in pairwise(cuts))
    brief = draw(st.sampled_from([(), (stretch(first_line, first_line),)]))
    like = draw(st.sampled_from([None, None, Span(path, 1, 2)]))
    text = "\n".join(lines) + ("\n" if not lines[-1] else draw(st.sampled_from(["", "\n"])))
    return Passage(
        (Stretch(Span(path, first_line, last), text),),
        draw(st.sampled_from([0.0, 1.0, 1.5, 7.0])),
        draw(WORDS),
        brief,
        parts,
        like,
    )


@st.composite
def passages(draw: st.DrawFn) -> list[Passage]:
    """Passages of some files, in any order; in a file they stand apart, as chunks do."""
    found: list[Passage] = []
    for path in draw(st.lists(st.sampled_from(["a.cc", "b/c.h", "odd\n[F1:1-1] name.cc"]), max_size=3, unique=True)):
        line = draw(st.integers(1, 90))
        for _ in range(draw(st.integers(1, 3))):
            found.append(draw(passage(path, line)))
            line = found[-1].body[0].span.last_line + draw(st.integers(1, 3))
    return draw(st.permutations(found))


def count_characters(text: str) -> int:
    return len(text)


def count_words(text: str) -> int:
    return len(text.split())


def count_oddly(text: str) -> int:
    """The parts may count less than the whole, and the whole less than the parts; a longer text may count less."""
    return len(text) // 3 + (len(text) % 7) * 4 + 60 * (len(text) > 900)


COUNTERS = st.sampled_from([count_characters, count_words, count_oddly])
ROOM = st.integers(0, 1500)


def packed(found: Sequence[Passage], extra: int, count: Count) -> tuple[Prompt, int]:
    """A prompt with ``extra`` tokens of room for evidence, and its budget."""
    budget = pack("why alpha?", (), 10**9, count).tokens + extra
    return pack("why alpha?", found, budget, count), budget


def lines_of(span: Span) -> list[tuple[str, int]]:
    return [(span.path, line) for line in range(span.first_line, span.last_line + 1)]


def source_of(found: Sequence[Passage]) -> dict[tuple[str, int], str]:
    """Every line of the passages as it is shown."""
    return {
        place: line
        for one in found
        for place, line in zip(lines_of(one.body[0].span), visible(one.body[0].text).split("\n"), strict=False)
    }


@given(passages(), ROOM, COUNTERS)
def test_a_prompt_fits_its_budget(found: list[Passage], extra: int, count: Count) -> None:
    prompt, budget = packed(found, extra, count)
    assert prompt.tokens == count(prompt.system) + count(prompt.user) <= budget


@given(passages(), ROOM, COUNTERS)
def test_every_line_is_either_shown_and_cited_or_named_as_dropped(
    found: list[Passage], extra: int, count: Count
) -> None:
    prompt, _ = packed(found, extra, count)
    told = [citation.span for citation in prompt.citations] + list(prompt.dropped)
    assert sorted(line for span in told for line in lines_of(span)) == sorted(source_of(found))


@given(passages(), ROOM, COUNTERS)
def test_a_citation_names_exactly_the_lines_that_its_evidence_shows(
    found: list[Passage], extra: int, count: Count
) -> None:
    prompt, _ = packed(found, extra, count)
    source = source_of(found)
    assert [citation.label for citation in prompt.citations] == list(range(1, len(prompt.citations) + 1))
    for citation, evidence in zip(prompt.citations, prompt.evidence, strict=True):
        assert evidence.split("\n") == [source[place] for place in lines_of(citation.span)]
        assert f"\n{evidence}\n" in prompt.user


@given(passages(), ROOM, COUNTERS)
def test_a_mark_names_a_file_of_the_prompt_and_the_lines_of_its_citation(
    found: list[Passage], extra: int, count: Count
) -> None:
    prompt, _ = packed(found, extra, count)
    assert len(prompt.marks) == len(set(prompt.marks)) == len(prompt.citations) == len(prompt.renderings)
    for mark, citation in zip(prompt.marks, prompt.citations, strict=True):
        file, _, lines = mark.partition(":")
        path = visible(citation.span.path).replace("\n", "\\n")
        assert f"\n{file} is {path}\n" in prompt.user
        assert lines == f"{citation.span.first_line}-{citation.span.last_line}"
        assert re.search(rf"^\[{mark}\]", prompt.user, re.MULTILINE)


@given(passages(), ROOM, COUNTERS, st.randoms(use_true_random=False))
def test_the_order_in_which_passages_come_makes_no_difference(
    found: list[Passage], extra: int, count: Count, chance: Random
) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    assert packed(found, extra, count) == packed(shuffled, extra, count)


@given(passages(), ROOM, st.integers(0, 1500), st.sampled_from([count_characters, count_words]))
def test_a_larger_budget_never_shows_less_of_the_best_passage(
    found: list[Passage], extra: int, more: int, count: Count
) -> None:
    best = sorted(found, key=lambda one: (-one.score, one.body))[:1]

    def shown(prompt: Prompt) -> int:
        lines = {line for citation in prompt.citations for line in lines_of(citation.span)}
        return sum(line in lines for one in best for line in lines_of(one.body[0].span))

    assert shown(packed(best, extra, count)[0]) <= shown(packed(found, extra, count)[0])
    assert shown(packed(found, extra, count)[0]) <= shown(packed(found, extra + more, count)[0])


@given(passages(), ROOM, COUNTERS)
def test_files_stand_in_the_order_of_their_best_passage_and_their_lines_in_order(
    found: list[Passage], extra: int, count: Count
) -> None:
    prompt, _ = packed(found, extra, count)
    stand = [prompt.user.index(f"\n[{mark}]") for mark in prompt.marks]
    in_text = [citation for _, citation in sorted(zip(stand, prompt.citations, strict=True), key=lambda pair: pair[0])]
    files = list(dict.fromkeys(citation.span.path for citation in prompt.citations))
    assert list(dict.fromkeys(citation.span.path for citation in reversed(in_text))) == files
    for path in files:
        spans = [citation.span for citation in in_text if citation.span.path == path]
        assert spans == sorted(spans)


@given(passages(), COUNTERS)
def test_where_there_is_room_for_all_of_it_all_is_shown_whole(found: list[Passage], count: Count) -> None:
    prompt = pack("why?", found, 10**6, count)
    assert prompt.dropped == ()
    assert pack("why?", found, 3 * prompt.tokens, count) == prompt
    assert set(prompt.renderings) <= {Rendering.BODY}
    assert "Found too" not in prompt.user


@given(st.lists(WORDS, min_size=1, max_size=30), ROOM, COUNTERS)
def test_a_passage_cut_to_fewer_than_a_few_lines_is_not_shown(lines: list[str], extra: int, count: Count) -> None:
    only = Passage((Stretch(Span("a.cc", 5, 4 + len(lines)), "\n".join(lines)),), 1.0)
    prompt, _ = packed([only], extra, count)
    assert all(
        citation.span == only.body[0].span or len(lines_of(citation.span)) >= LEAST_LINES
        for citation in prompt.citations
    )


@given(st.text(max_size=40), st.integers(-10, 700))
def test_a_question_that_does_not_fit_is_refused_and_never_shortened(question: str, budget: int) -> None:
    needed = pack(question, (), 10**9, count_characters).tokens
    if needed <= budget:
        assert visible(question) in pack(question, (), budget, count_characters).user
        return
    with pytest.raises(PromptTooLong) as refusal:
        pack(question, (), budget, count_characters)
    assert refusal.value.hint
