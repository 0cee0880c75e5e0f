"""Laws of prompts, fusion and checks: for any hits, budgets, counters, texts and cuts, not only for those of today."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hub.grounding import QUOTED_LINES, QUOTES, Verdict, checked, key_sentences, quotes
from hub.model import Query, SignalSource
from hub.prompting import visible
from hub.retrieval import GLOBAL, Candidates, fuse, understand
from hub.retrieval.arms import DECLARATION_SHARE
from indexer.model import ChunkId, Span
from indexer.words import words
from tests.support.library import prompt_of

WORDS = st.sampled_from(
    ["alpha", "beta", "Gamma", "app::Cache", "int x = 0;", "// why", "<<<a1", "[99]", "\u202e", "\r"]
)
LINES = st.lists(st.one_of(WORDS, st.just(""), st.text(max_size=12)), min_size=1, max_size=14)
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n", "\n\n\n"])).filter(bool)

# What is shown


@given(st.text())
def test_making_a_text_visible_keeps_its_lines_and_leaves_no_covert_character(text: str) -> None:
    shown = visible(text)
    assert shown.count("\n") == text.count("\n")
    seen_by_design = {"\n", "\t"}
    written = {"Cf", "Cc", "Cs", "Zl", "Zp"}
    covert = [c for c in shown if unicodedata.category(c) in written and c not in seen_by_design]
    assert all(unicodedata.name(c, "").startswith(VISIBLE_FORMATS) for c in covert)
    assert visible(shown) == shown


# Format characters that Unicode draws: signs that span the digits after them, and hieroglyph joiners.
VISIBLE_FORMATS = ("ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN")


# Fusion


CHUNKS = [ChunkId(letter) for letter in "abcdefgh"]
ARM = st.lists(st.sampled_from(CHUNKS), unique=True).map(lambda ids: [(chunk, 0.9) for chunk in ids])
ARMS = st.dictionaries(st.sampled_from(list(SignalSource)), ARM)
PLACES = st.lists(st.sampled_from(["a.cc", "tests/b.cc", "c.md"]), min_size=8, max_size=8).map(
    lambda paths: {chunk: Span(path, 1, 2) for chunk, path in zip(CHUNKS, paths, strict=True)}
)
QUERIES = st.sampled_from(["Cache", "what is a cache", "how is the cache tested", "Fix the cache"]).map(understand)
Arms = dict[SignalSource, list[tuple[ChunkId, float]]]


@given(PLACES, QUERIES, ARMS, st.randoms(use_true_random=False))
def test_fusion_does_not_depend_on_the_order_in_which_the_arms_are_given(
    places: dict[ChunkId, Span], query: Query, arms: Arms, chance: Random
) -> None:
    shuffled = list(arms.items())
    chance.shuffle(shuffled)
    assert fuse(Candidates(query, arms, places), GLOBAL) == fuse(Candidates(query, dict(shuffled), places), GLOBAL)


@given(PLACES, QUERIES, ARMS)
def test_a_candidate_explains_its_score_and_all_are_in_its_order(
    places: dict[ChunkId, Span], query: Query, arms: Arms
) -> None:
    fused = fuse(Candidates(query, arms, places), GLOBAL)
    counting = GLOBAL.of(query)
    assert {one.chunk for one in fused} == {c for source in arms if counting.get(source) for c, _ in arms[source]}
    assert all(one.score == sum(value for _, value in one.contributions) for one in fused)
    keys = [(-one.score, places[one.chunk], one.chunk) for one in fused]
    assert keys == sorted(keys)


@given(st.integers(0, 20), st.permutations(range(40)), st.permutations(range(40)))
def test_a_bare_name_finds_its_definitions_then_its_declarations_then_all_else(
    definitions: int, lexical: list[int], vectors: list[int]
) -> None:
    chunks = [ChunkId(f"{number:02}") for number in range(40)]
    places = dict.fromkeys(chunks, Span("a.cc", 1, 2))
    arms: Arms = {
        SignalSource.SYMBOL: [(c, 1.0 if n < definitions else DECLARATION_SHARE) for n, c in enumerate(chunks[:20])],
        SignalSource.LEXICAL: [(chunks[number], 9.0) for number in lexical],
        SignalSource.VECTOR: [(chunks[number], 0.9) for number in vectors],
    }
    found = [one.chunk for one in fuse(Candidates(understand("Cache"), arms, places), GLOBAL)]
    assert set(found[:definitions]) == set(chunks[:definitions])
    assert set(found[:20]) == set(chunks[:20])


def test_equal_scores_are_ordered_by_place() -> None:
    arms: Arms = {SignalSource.LEXICAL: [(CHUNKS[0], 9.0), (CHUNKS[1], 9.0)]}
    places = {CHUNKS[0]: Span("src/b.cc", 1, 2), CHUNKS[1]: Span("src/a.cc", 1, 2)}
    first, second = fuse(Candidates(understand("what is a cache"), arms, places), GLOBAL)
    assert first.score == second.score
    assert [places[one.chunk].path for one in (first, second)] == ["src/a.cc", "src/b.cc"]


# Checks on a model's text

FRAGMENTS = st.sampled_from(
    """It evicts the oldest entry|app::Cache|`x[7]`|x[7]|Ghost::Walk|[1]|[2]|[99]|[1, 98]|[ |[|]|97|,|.|. |! |\n| |`
    |e.g.|the same eight words come a second time here""".split("|")
)
DRAFTS = st.lists(FRAGMENTS, max_size=25).map("".join)
PROMPT = prompt_of("It evicts the oldest entry of app::Cache", "the same words")


def judged(pieces: Sequence[str]) -> tuple[str, Verdict]:
    verdict = Verdict()
    shown = "".join(checked(pieces, PROMPT, "why?", lambda name: name != "Ghost", verdict))
    return shown, verdict


@given(DRAFTS)
def test_no_label_that_is_not_in_the_prompt_is_ever_shown(draft: str) -> None:
    shown, verdict = judged([draft])
    assert shown == verdict.text
    subscripts_aside = r"(?<![\w)\]])" if "`" in draft else ""
    labels = re.findall(rf"{subscripts_aside}\[(\d+(?:[ \t]*,[ \t]*\d+)*)\]", shown)
    assert {number for label in labels for number in re.findall(r"\d+", label)} <= {"1", "2"}
    assert not verdict.unknown_labels & {"1", "2"}


@given(DRAFTS, st.lists(st.integers(0, 200), max_size=12))
@example("It is so. [1] Ghost::Walk", [11])
@example("It is so.[1] \n[2] Ghost::Walk", [13])
@settings(max_examples=300)
def test_how_a_text_is_cut_into_pieces_changes_nothing(draft: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(draft)) for cut in cuts), len(draft)]
    pieces = [draft[start:end] for start, end in pairwise(places)]
    assert "".join(pieces) == draft
    assert judged(pieces) == judged([draft]) == judged(list(draft))


@given(DRAFTS)
def test_a_text_without_a_fault_is_shown_whole_but_for_its_unknown_labels(draft: str) -> None:
    shown, verdict = judged([draft])
    if not verdict.fault and not verdict.unknown_labels:
        assert shown == draft
    assert verdict.grounded == (bool(verdict.used) and not verdict.fault)


# Quoting

EVIDENCE = st.lists(LINES.map(lambda lines: "\n".join(map(visible, lines))), min_size=1, max_size=5)
ASKED = st.lists(st.tuples(st.sampled_from(["alpha", "beta", "gamma", "cache", "why"]), st.floats(0, 9)), max_size=4)


@given(EVIDENCE, ASKED)
def test_a_quote_is_exactly_the_lines_that_its_citation_names_and_lies_within_the_evidence(
    evidence: list[str], weights: list[tuple[str, float]]
) -> None:
    prompt = prompt_of(*evidence)
    quoted = quotes(prompt, weights, words)
    assert 1 <= len(quoted) <= QUOTES
    for quote in quoted:
        whole = prompt.citations[quote.citation.label - 1].span
        assert whole.first_line <= quote.citation.span.first_line <= quote.citation.span.last_line <= whole.last_line
        lines = prompt.evidence[quote.citation.label - 1].split("\n")
        span = quote.citation.span
        assert (
            quote.text.split("\n") == lines[span.first_line - whole.first_line : span.last_line - whole.first_line + 1]
        )
        assert span.last_line - span.first_line < QUOTED_LINES
    assert quoted == quotes(prompt, weights, words)


COMMENTS = r"""
// The alpha comes before the beta here.
/// Every gamma is a cache
/// of what was read. It never ends!
 * - an item about the beta cache
int alpha = beta;
/*
 */
// @param alpha how much is taken in
// \brief Tells the gamma from the beta.
// Copyright 2011 The Alpha Authors
//
""".split("\n")
PROSE = st.lists(st.sampled_from(COMMENTS), min_size=1, max_size=12).map("\n".join)


@given(st.lists(PROSE, min_size=1, max_size=3), ASKED)
def test_a_key_sentence_stands_word_for_word_in_the_comments_it_is_labelled_with(
    evidence: list[str], weights: list[tuple[str, float]]
) -> None:
    assume(weights)
    for sentence in key_sentences(prompt_of(*evidence), range(9), weights, words):
        told = " ".join(re.sub(r"[/*!]+|\\brief|(?<= )- ", " ", evidence[sentence.label - 1]).split())
        assert re.sub(r"[/*!]+", " ", sentence.text).strip() in told


@pytest.mark.parametrize("path", ["src/a.cc", "README.md"])
def test_a_prompt_without_evidence_quotes_nothing(path: str) -> None:
    empty = replace(prompt_of(path=path), citations=(), evidence=())
    assert quotes(empty, [("alpha", 1.0)], words) == []
    assert key_sentences(empty, [1], [("alpha", 1.0)], words) == []
