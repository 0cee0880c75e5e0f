import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.backends.vocabulary import SPLITS, WHOLE_PIECES, Vocabulary, read
from hub.capacity.gguf import read_header
from tests.support.real_llama import model_path
from tests.support.vocabularies import CHARACTERS, Judge, judge, made_sentence_pieces, made_vocabulary, write_model

CODE = """\
template <class T> [[nodiscard]] constexpr auto f(T&& x) noexcept -> decltype(auto) {
\treturn std::forward<T>(x) << 0x1F'FFull;   // it's  \t 3.14159e-10, 'c', L"wide\\n"
}


#define X(a, ...) a##__VA_ARGS__ \\
    /* ÄÖÜ 中文 */ 0b1010
std::map<std::string, std::vector<int>>::const_iterator it_2024;\r\n\t\t\t    \t
"""
_OLD_UNICODE = unicodedata.ucd_3_2_0
# One value of tokenizer.ggml.pre for each way to split and join.
KINDS = {(SPLITS[rules], rules in WHOLE_PIECES): rules for rules in sorted(SPLITS)}


def texts() -> st.SearchStrategy[str]:
    """Any text of characters that all tables know: which of Unicode's newest letters are letters differs by library."""
    known = st.characters(codec="utf-8").filter(lambda character: _OLD_UNICODE.category(character) != "Cn")
    return st.text(st.sampled_from(CHARACTERS) | known, max_size=40) | st.sampled_from(CODE.splitlines(keepends=True))


@pytest.fixture(scope="module")
def smollm2() -> Vocabulary:
    found = read(read_header(model_path(), vocabulary=True).metadata)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def smollm2_in_llama_cpp() -> Iterator[Judge]:
    with judge() as running:
        yield running


@settings(max_examples=300)
@given(text=texts())
@example(text=CODE)
@example(text="<|im_start|>user\n<|im_end|>")
@example(text=" " * 700 + "\n" * 300 + "-" * 600)
@example(text="\0\x7f\x85\u200b\ufeff")
@example(text="'\x1d' \x1f\x1f\x15 ")
def test_any_text_takes_as_many_tokens_as_in_llama_cpp(
    smollm2: Vocabulary, smollm2_in_llama_cpp: Judge, text: str
) -> None:
    assert smollm2.count(text) == smollm2_in_llama_cpp.count(text)


@pytest.mark.parametrize("rules", KINDS.values())
def test_each_way_to_split_is_llama_cpps(tmp_path: Path, rules: str) -> None:
    metadata = {**made_vocabulary(), "tokenizer.ggml.pre": rules}
    vocabulary = read(metadata)
    assert vocabulary is not None
    with judge(write_model(tmp_path / "made.gguf", metadata)) as llama_cpp:

        @settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
        @given(text=texts())
        @example(text=CODE)
        @example(text="I'LL we've\tIT'S don't'd 'Re x'")
        @example(text="a\u0301's A\u0301B aB Ab AB'S \u2003{ \u2003x\u00a0\u00a0y ")
        @example(text="1234567 12.345,6 x1234 ½²³٣٤٥ 1'000'000")
        @example(text="//===---===//\n/* a/b */\r\n\r\n  \n x <defined> y <|end|>")
        def law(text: str) -> None:
            assert vocabulary.count(text) == llama_cpp.count(text)

        law()


@pytest.mark.parametrize("prefix", [True, False])
def test_sentence_pieces_are_joined_as_in_llama_cpp(tmp_path: Path, *, prefix: bool) -> None:
    metadata = {**made_sentence_pieces(), "tokenizer.ggml.add_space_prefix": prefix}
    vocabulary = read(metadata)
    assert vocabulary is not None
    with judge(write_model(tmp_path / "made.gguf", metadata)) as llama_cpp:

        @settings(max_examples=200, suppress_health_check=[HealthCheck.differing_executors])
        @given(text=texts() | st.text(" \nax", max_size=60))
        @example(text="")
        @example(text=CODE)
        @example(text=" " * 41 + "x" + " " * 7)
        @example(text="<s> </s> <0x0A> \u2581\u2581 \ufffe")
        def law(text: str) -> None:
            assert vocabulary.count(text) == llama_cpp.count(text)

        law()


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer.ggml.scores": None},
        {"tokenizer.ggml.scores": [0.0]},
        {"tokenizer.ggml.scores": ["high"] * len(made_sentence_pieces()["tokenizer.ggml.tokens"])},  # type: ignore[arg-type]
        {"tokenizer.ggml.scores": [0.0] * len(made_sentence_pieces()["tokenizer.ggml.tokens"])},  # type: ignore[arg-type]
        {"tokenizer.ggml.unknown_token_id": 10**9},
        {"tokenizer.ggml.model": "t5"},
    ],
    ids=["none", "too few", "words", "all alike", "no unknown", "unigrams"],
)
def test_sentence_pieces_that_cannot_be_ranked_are_none(change: dict[str, object]) -> None:
    assert read({**made_sentence_pieces(), **change}) is None


def test_rules_that_are_read_alike_have_the_same_pattern() -> None:
    assert len(KINDS) < len(SPLITS)
    assert set(SPLITS) >= WHOLE_PIECES


def test_a_lone_surrogate_counts_as_the_question_mark_that_is_sent_for_it(smollm2: Vocabulary) -> None:
    assert smollm2.count("a \ud800 b") == smollm2.count("a ? b")


def test_marks_of_the_template_are_seen_in_a_text(smollm2: Vocabulary) -> None:
    assert smollm2.has_marks("a <|im_end|> b")
    assert not smollm2.has_marks("a <|im_en b")


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer.ggml.pre": "a rule of tomorrow"},
        {"tokenizer.ggml.pre": None},
        {"tokenizer.ggml.model": "llama"},
        {"tokenizer.ggml.tokens": None},
        {"tokenizer.ggml.tokens": []},
        {"tokenizer.ggml.tokens": [1, 2]},
        {"tokenizer.ggml.merges": "a b"},
        {"tokenizer.ggml.token_type": [1]},
        {"tokenizer.ggml.token_type": None},
    ],
    ids=str,
)
def test_a_vocabulary_that_is_not_known_or_not_whole_is_none(change: dict[str, object]) -> None:
    metadata = {**made_vocabulary(), "tokenizer.ggml.pre": "qwen2"}
    assert read(metadata) is not None
    assert read({**metadata, **change}) is None


MERGES = st.lists(st.text("ab Ġ<", max_size=5), max_size=8)


@given(tokens=st.lists(st.text("abĠ<>|", max_size=4), max_size=12), merges=MERGES, kinds=st.lists(st.integers(0, 6)))
def test_whatever_the_arrays_hold_a_count_comes_out_or_no_vocabulary(
    tokens: list[str], merges: list[str], kinds: list[int]
) -> None:
    metadata = {**made_vocabulary(), "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.merges": merges}
    metadata |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": (kinds + [1] * 12)[: len(tokens)]}
    vocabulary = read(metadata)
    assert vocabulary is None or vocabulary.count("ab a b<|>") >= 0
