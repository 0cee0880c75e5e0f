"""How names and prose are split for text search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.words import STOP_WORDS, query_words, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MakeRoomForWrite", "makeroomforwrite make room for write"),
        ("kMaxHeight", "kmaxheight k max height"),
        ("write_buffer_size_", "write_buffer_size write buffer size"),
        ("HTTPServer", "httpserver http server"),
        ("parseHTML5", "parsehtml5 parse html 5"),
        ("crc32c", "crc32c crc 32 c"),
        ("leveldb::DBImpl::~DBImpl()", "leveldb dbimpl db impl destructor dbimpl db impl"),
        ("~Cache() {}", "destructor cache"),
        ("flags & ~mask", "flags mask"),
        ("bool operator==(const Key&)", "bool operator equal const key"),
        ("operator <<=", "operator shift left output assign"),
        ("a.operator()(3)", "a operator call 3"),
        ("operator new", "operator new"),
        ("operator_ == 3", "operator 3"),
        ("LEVELDB_EXPORT", "leveldb_export leveldb export"),
        ("4 << 20", "4 20"),
        ("Größe größe", "größe größe"),
        ("a.b->c", "a b c"),
        ("", ""),
    ],
)
def test_a_name_gives_itself_and_its_parts(text: str, expected: str) -> None:
    assert words(text) == expected.split()


def test_function_words_leave_a_question_unless_nothing_else_is_left() -> None:
    assert query_words("When does the memtable get flushed?") == ["memtable", "get", "flushed"]
    assert query_words("what is this") == ["what", "is", "this"]


@given(st.text())
def test_a_question_asks_only_for_words_that_the_same_text_would_be_found_by(text: str) -> None:
    asked = query_words(text)
    assert set(asked) <= set(words(text))
    assert len(asked) == len(set(asked))
    assert all(word not in STOP_WORDS for word in asked) or set(words(text)) <= STOP_WORDS


@given(st.text())
def test_words_hold_nothing_that_the_query_language_would_read(text: str) -> None:
    assert all('"' not in word and word == word.strip() and word for word in words(text))
