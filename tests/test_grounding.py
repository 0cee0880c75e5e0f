"""What a model may say, and what is quoted in its place. The cases of sentences stand in tests/cases/prose_*.md."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.grounding import KeySentence, Verdict, checked, key_sentences, quotes
from hub.model import Citation, Prompt
from indexer.model import Span
from indexer.words import words
from tests.support import cases
from tests.support.library import prompt_of

EVIDENCE = "void Cache::EvictOldest() {\n  --capacity_;\n}"
PROMPT = prompt_of(EVIDENCE, "class Counter { int value_; };")


def judged(
    text: str, known: Callable[[str], bool] = lambda _name: False, prompt: Prompt = PROMPT
) -> tuple[str, Verdict]:
    verdict = Verdict()
    shown = "".join(checked([text], prompt, "What does `Asked` do?", known, verdict))
    assert shown == verdict.text
    return shown, verdict


def test_a_cited_text_passes_unchanged_and_its_labels_are_kept() -> None:
    text = "`EvictOldest` lowers `capacity_` [1]. It is called once [1, 2].\n"
    shown, verdict = judged(text)
    assert shown == text
    assert (verdict.used, verdict.fault, verdict.grounded) == ({1, 2}, "", True)


def test_labels_that_are_not_in_the_prompt_are_taken_out_and_reported() -> None:
    shown, verdict = judged("It lowers the capacity [1, 7]. Nobody calls it [9][01]. See [2].")
    assert shown == "It lowers the capacity [1]. Nobody calls it. See [2]."
    assert verdict.unknown_labels == {"7", "9", "01"}
    assert verdict.grounded


def test_a_label_is_not_made_by_taking_another_out() -> None:
    shown, verdict = judged("It lowers the capacity [[99]98] [1].")
    assert shown == "It lowers the capacity [1]."
    assert verdict.unknown_labels == {"99", "98"}


def test_a_label_of_any_length_is_only_unknown() -> None:
    shown, verdict = judged(f"It lowers the capacity [{'9' * 5000}] [1].")
    assert shown == "It lowers the capacity [1]."
    assert verdict.grounded


def test_a_subscript_in_a_code_span_is_no_label() -> None:
    text = "It reads `capacity_[0]` and `Counter()[7]` [1]."
    shown, verdict = judged(text)
    assert (shown, verdict.unknown_labels, verdict.used) == (text, set(), {1})
    assert judged("It reads `[7]` as said.")[0] == "It reads `` as said."


@pytest.mark.parametrize(
    ("invented", "name"),
    [
        ("It calls `Vanish` first [1].", "Vanish"),
        ("It calls Cache::Vanish first [1].", "Vanish"),
        ("It calls vanish_slowly first [1].", "vanish_slowly"),
        ("It calls vanishSlowly first [1].", "vanishSlowly"),
        ("It calls VanishSlowly first [1].", "VanishSlowly"),
        ("It uses the KVVanisher first [1].", "KVVanisher"),
        ("It calls vanish() first [1].", "vanish"),
        ("It calls Ghost::EvictOldest first [1].", "Ghost"),
    ],
)
def test_an_invented_name_ends_the_text_before_its_sentence(invented: str, name: str) -> None:
    shown, verdict = judged(f"It lowers the capacity [2]. {invented} And more [1].")
    assert shown == "It lowers the capacity [2]. "
    assert verdict.fault == f"it names {name}, which stands nowhere in this tree"
    assert not verdict.grounded
    assert verdict.used == {2}  # a label of a sentence that is not shown is not used


@pytest.mark.parametrize(
    "text",
    [
        "It returns a std::string [1].",
        "It returns a `std::vector<std::string>` [1].",
        "It calls WriteError() of the log_stream [1].",
    ],
)
def test_names_that_stand_elsewhere_in_the_tree_pass(text: str) -> None:
    tree = {"std", "string", "vector", "WriteError", "log_stream"}
    assert judged(text, tree.__contains__)[0] == text
    assert not judged(text)[1].grounded


@pytest.mark.parametrize(
    "text",
    [
        "It is `constexpr` and `nullptr` [1].",  # the language's own words
        "It uses static_cast [1].",
        "It shifts by `0x1F` and `10ms` [1].",  # numbers are no names
        "It answers what Asked asks, in src/a.cc, as Symbol2 [1].",  # question, path and symbol are known
        "GPUs and URLs are plain words [1].",
    ],
)
def test_words_that_name_nothing_or_were_shown_pass(text: str) -> None:
    assert judged(text)[0] == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It lowers the capacity [1]. It lowers the capacity [1]. More.", "It lowers the capacity [1]. "),
        ("No. No. No. No. No. No. No. No. No. No. No.", "No. No. No. No. No. No. No. No. "),
        (
            "First the oldest entry leaves the cache for good [1]. Then the oldest entry leaves the cache for good.",
            "First the oldest entry leaves the cache for good [1]. ",
        ),
    ],
)
def test_a_repetition_ends_the_text(text: str, kept: str) -> None:
    shown, verdict = judged(text)
    assert shown == kept
    assert verdict.fault == "it repeats itself"


def test_a_name_that_the_end_of_the_text_cuts_off_is_not_invented() -> None:
    assert judged("It lowers the capacity [1]. Then `EvictOldest` uses Cache::EvictOl")[1].fault == ""
    assert judged("It lowers the capacity [1]. Then `EvictOldest` uses Cache::EvictOl.")[1].fault
    assert judged("It lowers the capacity [1]. Then `EvictOldest` uses Cache::Vanish")[1].fault


def test_short_sentences_may_come_twice() -> None:
    text = "It fails [1]. Nobody calls it twice. It fails [1]. Somebody else does."
    assert judged(text)[0] == text


def test_a_text_without_a_citation_is_not_grounded() -> None:
    shown, verdict = judged("It lowers the capacity. See [9].")
    assert shown == "It lowers the capacity. See."
    assert (verdict.fault, verdict.grounded) == ("", False)


def test_the_stream_is_read_no_further_than_the_sentence_that_failed() -> None:
    read: list[str] = []

    def pieces() -> Iterator[str]:
        for piece in ("It calls `Vanish` [1]. ", "And ", "then ", "more. ", "And more."):
            read.append(piece)
            yield piece

    assert list(checked(pieces(), PROMPT, "", lambda _name: False, Verdict())) == []
    assert read == ["It calls `Vanish` [1]. ", "And "]


# Citations by mark

MARKED = Prompt(
    "system",
    "user",
    (
        Citation(1, Span("src/cache.cc", 120, 158), "app::Cache::EvictOldest"),
        Citation(2, Span("src/log.h", 3, 9)),
        Citation(3, Span("src/cache.cc", 10, 20)),
        Citation(4, Span("src/cache.cc", 159, 170)),
    ),
    ("void Cache::EvictOldest();", "see old/place.cc:7", "int capacity_;", "int m;"),
    tokens=100,
    marks=("F3:120-158", "F5:3-9", "F3:10-20", "F3:159-170"),
)
CACHE = "src/cache.cc"


@pytest.mark.parametrize(
    ("written", "shown", "places"),
    [
        ("It evicts [F3:120-158].", "It evicts [1].", {}),
        ("It evicts[F3:120-158].", "It evicts [1].", {}),
        ("It evicts (F3:120-158).", "It evicts [1].", {}),
        ("It evicts `[F3:120-158]`, see `F5:3-9`.", "It evicts [1], see [2].", {}),
        ("See F3:120-158.", "See [1].", {}),
        ("It logs [F5].", "It logs [2].", {}),
        ("It does all of it [F3].", "It does all of it [1, 3, 4].", {}),
        ("It evicts [F3:130].", "It evicts [5].", {Span(CACHE, 130, 130): 5}),
        ("It evicts [F3:125\u2013140].", "It evicts [5].", {Span(CACHE, 125, 140): 5}),
        ("It evicts [F3:L125-L140].", "It evicts [5].", {Span(CACHE, 125, 140): 5}),
        ("It evicts [F3:120-158, F5:3-9].", "It evicts [1, 2].", {}),
        ("It evicts [F3:120-158; F5:4].", "It evicts [1, 5].", {Span("src/log.h", 4, 4): 5}),
        ("It evicts [F3:120-125, 130-140].", "It evicts [5, 6].", {Span(CACHE, 120, 125): 5, Span(CACHE, 130, 140): 6}),
        ("It evicts [F3:120-158][F5:3-9].", "It evicts [1][2].", {}),
        ("It evicts [F3:150-165].", "It evicts [5].", {Span(CACHE, 150, 165): 5}),  # neighbours are one stretch
        ("It evicts [F3:130]. And again [F3:130].", "It evicts [5]. And again [5].", {Span(CACHE, 130, 130): 5}),
        ("It evicts [1].", "It evicts [1].", {}),
        ("It evicts [src/cache.cc:130].", "It evicts [5].", {Span(CACHE, 130, 130): 5}),
        ("It evicts [cache.cc:120-158].", "It evicts [1].", {}),
        ("See src/log.h:4-5.", "See src/log.h:4-5 [5].", {Span("src/log.h", 4, 5): 5}),
        ("See old/place.cc:7, as told [2].", "See old/place.cc:7, as told [2].", {}),
    ],
)
def test_a_mark_becomes_the_label_of_exactly_the_lines_that_it_names(
    written: str, shown: str, places: dict[Span, int]
) -> None:
    text, verdict = judged(written, prompt=MARKED)
    assert (text, verdict.places, verdict.unknown_labels) == (shown, places, set())
    assert verdict.grounded
    assert verdict.used == {int(n) for n in re.findall(r"\d+", "".join(re.findall(r"\[[^]]*\]", shown))) if int(n) < 5}


@pytest.mark.parametrize(
    ("written", "shown", "unknown"),
    [
        ("It evicts [F9:1-2].", "It evicts.", {"F9:1-2"}),
        ("It evicts [F3:158-120].", "It evicts.", {"F3:158-120"}),
        ("It evicts [F3:115-130].", "It evicts.", {"F3:115-130"}),
        ("It evicts [F3:120-158, F9:1].", "It evicts [1].", {"F9:1"}),
        ("It evicts [F9].", "It evicts.", {"F9"}),
        ("It evicts [src/cache.cc:60].", "It evicts.", {"src/cache.cc:60"}),
        ("It evicts [[F9:1-2]7] [F3:120-158].", "It evicts [1].", {"F9:1-2", "7"}),
        (
            "See `src/none.cc:3`. It calls `EvictOldest` [1].",
            "See `src/none.cc`. It calls `EvictOldest` [1].",
            {"src/none.cc:3"},
        ),
    ],
)
def test_a_mark_of_what_was_not_shown_is_taken_out_and_told(written: str, shown: str, unknown: set[str]) -> None:
    text, verdict = judged(written, prompt=MARKED)
    assert (text, verdict.unknown_labels, verdict.fault) == (shown, unknown, "")


@pytest.mark.parametrize("text", ["It reads `m[F3]` [1].", "It reads `F3[2]` [1].", "It reads F3[2] and m[F3] [1]."])
def test_subscripts_are_no_citations(text: str) -> None:
    shown, verdict = judged(text, prompt=MARKED)
    assert (shown, verdict.used, verdict.places, verdict.unknown_labels) == (text, {1}, {}, set())


def test_lines_cited_in_a_sentence_that_is_not_shown_are_not_cited() -> None:
    _, verdict = judged("It evicts [F3:120-158]. It calls `Vanish` [F3:130].", prompt=MARKED)
    assert (verdict.used, verdict.places) == ({1}, {})
    assert verdict.draft == "It evicts [1]. It calls `Vanish` [5]."


FRAGMENTS = st.sampled_from(
    """It evicts|`m[F3]`|[F3:120-158]|[F3|:130|-140|]|[F5]| |.|. |\n|[1]|[7]|, |F5:3-9|(|)|`|[src/log.h:4]|[F9:1]|L
    |5|\u2013|[F3:120-125, 130; F5:3]|`F3:12`|F3[2]|[[""".split("|")
)


@given(st.lists(FRAGMENTS, max_size=20).map("".join), st.lists(st.integers(0, 200), max_size=12))
@example("It evicts. [F3:120-158] Then", [12, 15])
@example("It evicts.[F3:120-125, 130; F5:3] Then", [22])
def test_marks_become_labels_of_lines_that_were_shown_however_a_text_is_cut(draft: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(draft)) for cut in cuts), len(draft)]
    outcomes = []
    for pieces in ([draft], list(draft), [draft[start:end] for start, end in pairwise(places)]):
        verdict = Verdict()
        shown = "".join(checked(pieces, MARKED, "why?", lambda _name: True, verdict))
        outcomes.append((shown, verdict))
        labels = re.findall(r"(?<![\w)\]])\[(\d+(?:[ \t]*,[ \t]*\d+)*)\]", shown)
        cited = {int(number) for label in labels for number in re.findall(r"\d+", label)}
        assert cited <= {1, 2, 3, 4} | set(verdict.places.values())
        assert set(verdict.places.values()) == set(range(5, 5 + len(verdict.places)))
        stretches = {"src/log.h": [(3, 9)], CACHE: [(10, 20), (120, 170)]}
        for span in verdict.places:
            assert any(first <= span.first_line <= span.last_line <= last for first, last in stretches[span.path])
    assert outcomes[0] == outcomes[1] == outcomes[2]


# Sentences quoted from the evidence


@pytest.mark.parametrize("case", cases.load("prose_*.md"), ids=lambda case: case.name)
def test_sentences_are_taken_from_prose_and_from_nothing_else(case: cases.Case) -> None:
    path = "src/a.cc" if case.kind == "cpp" else "docs/a.md"
    asked = [(word, 1.0) for word in dict.fromkeys(words(case.text))]
    found: list[str] = []
    prompt = prompt_of(case.text.removesuffix("\n"), path=path)
    while sentences := key_sentences(
        prompt, [1], [one for one in asked if one[0] not in words(" ".join(found))], words
    ):
        found += [sentence.text for sentence in sentences]
    cases.check(case, "".join(f"{sentence}\n" for sentence in sorted(found)))


def test_the_sentences_that_say_most_of_the_question_come_each_with_its_label() -> None:
    prompt = prompt_of(
        "// Nothing in here is to the point.\nint a;",
        "// The oldest entry of all leaves.\n// It leaves when the capacity is used up.\nint b;",
        "// The oldest entry of all leaves.\nint c;",
    )
    weights = [("oldest", 3.0), ("capacity", 2.0), ("absent", 5.0)]
    assert key_sentences(prompt, [1, 2, 3], weights, words) == [
        KeySentence(2, "The oldest entry of all leaves."),
        KeySentence(2, "It leaves when the capacity is used up."),
    ]
    assert key_sentences(prompt, [1, 2, 3], [("absent", 1.0)], words) == []
    assert [sentence.label for sentence in key_sentences(prompt, [1, 3], weights, words)] == [3]


def test_the_lines_nearest_to_the_question_are_quoted() -> None:
    text = "\n".join([*(f"int x{number};" for number in range(30)), "", "int capacity;", "", *["int y;"] * 30])
    (quote,) = quotes(prompt_of(text), [("capacity", 1.0)], words)
    assert "int capacity;" in quote.text.split("\n")
    assert quote.citation.span.last_line == 32  # an empty line at its end is trimmed


def test_evidence_that_matches_far_less_than_the_best_is_not_quoted() -> None:
    prompt = prompt_of("int capacity;", "int other;", "int capacity_of_other;")
    weights = [("capacity", 5.0), ("other", 1.0)]
    assert [quote.citation.label for quote in quotes(prompt, weights, words)] == [1, 3]
