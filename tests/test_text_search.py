"""Text search: how a question is read against the tree's words, and that its ranking is BM25 and nothing else."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.index import Form, Index
from indexer.rows import Row
from indexer.sharing import Commons
from indexer.symbol_table import text as text_search
from indexer.symbol_table.database import Database
from indexer.symbol_table.text import COLUMN_WEIGHTS, TextSearch
from tests.support.library import LIBRARY, library_index

WORDS = sorted({word for content in LIBRARY.values() for word in str(content).split()})
QUESTIONS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with library_index(tmp_path_factory.mktemp("text")) as opened:
        yield opened


@pytest.fixture(scope="module")
def database(index: Index) -> Iterator[Database]:
    folder = index.root.parent / "data"
    (path,) = folder.rglob("index.db")
    opened = Database.open_readonly(path)
    yield opened
    opened.close()


# Ranking


@given(QUESTIONS, st.sampled_from(Form), st.integers(1, 30))
@settings(max_examples=60)
def test_the_scores_of_a_search_are_those_of_bm25_over_all_words_together(
    index: Index, database: Database, question: str, form: Form, limit: int
) -> None:
    found = index.text.search(question, limit, form)
    asked = index.text.wording(question, form).asked
    if not asked:
        assert found == []
        return
    rows = database.rows(
        f"SELECT chunks.id, -bm25(chunk_words, {', '.join(map(str, COLUMN_WEIGHTS))}) FROM chunk_words"
        " JOIN chunks ON chunks.rowid = chunk_words.rowid WHERE chunk_words MATCH ?",
        (" OR ".join(f'"{word}"' for word in asked),),
    )
    scores = {chunk: score for chunk, score in rows}  # noqa: C416 - rows are wider to the type checker
    assert len(found) == min(limit, len(scores))
    assert found == sorted(found, key=lambda item: (-item[1], item[0]))
    assert all(score == pytest.approx(scores[chunk]) for chunk, score in found)
    least = min((score for _, score in found), default=0.0)
    assert sum(score > least + 1e-6 for score in scores.values()) <= len(found)


@given(QUESTIONS, st.integers(0, 10))
@settings(max_examples=40)
def test_a_smaller_limit_cuts_the_list_and_changes_nothing_else(index: Index, question: str, limit: int) -> None:
    assert index.text.search(question, limit) == index.text.search(question, 100)[:limit]


def test_what_was_counted_before_does_not_change_what_is_found(index: Index, database: Database) -> None:
    for question in ("oldest entry", "the capacity of the cache", "oldest entry"):
        assert index.text.search(question, 9) == TextSearch(database).search(question, 9)


# Reading a question


@given(st.lists(QUESTIONS, min_size=1, max_size=4), st.integers(0, 30))
@settings(max_examples=20)
def test_a_question_is_read_alike_whether_words_are_looked_up_or_all_of_them_are_kept(
    index: Index, database: Database, questions: list[str], looked_up: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_search, "LOOK_UPS_A_CHUNK", looked_up / index.text.size())
        patch.setattr(database, "commons", Commons())
        keeping = TextSearch(database)
        kept = [keeping.wording(f"{question} nowhere", form) for question in questions for form in Form]
        patch.setattr(text_search, "MOST_READ_WHOLE", 0)
        patch.setattr(database, "commons", Commons())
        asking = TextSearch(database)
        assert kept == [asking.wording(f"{question} nowhere", form) for question in questions for form in Form]


def test_all_words_are_kept_once_many_were_looked_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_search, "LOOK_UPS_A_CHUNK", 0)
    monkeypatch.setattr(database, "commons", Commons())
    text = TextSearch(database)
    text.wording("oldest entry")
    asked: list[str] = []
    rows = database.rows

    def told(sql: str, values: Sequence[object] = ()) -> list[Row]:
        asked.append(sql)
        return rows(sql, values)

    monkeypatch.setattr(database, "rows", told)
    assert [term.holding > 0 for term in text.wording("capacity nowhere").terms] == [True, False]
    assert not [sql for sql in asked if "vocabulary" in sql]


def test_the_words_that_say_most_are_asked_and_the_others_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "MOST_WORDS", 2)
    read = TextSearch(database).wording("the cache increments a counter by the value that overflows in practice")
    assert [term.word for term in read.terms if term.holding] == ["overflows", "practice"]
    assert read.dropped == 4


def test_words_that_many_chunks_hold_are_left_out_once_the_rare_ones_cost_enough(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TextSearch(database).wording("cache counter practice overflows app")
    monkeypatch.setattr(text_search, "MOST_HELD", 3)
    monkeypatch.setattr(text_search, "FEWEST_WORDS", 2)
    kept = TextSearch(database).wording("app cache counter practice overflows").terms  # not one that was read before
    assert {term.word for term in whole.terms} == {"cache", "counter", "practice", "overflows", "app"}
    assert [term.word for term in kept] == ["practice", "overflows"]


def test_forms_of_one_word_count_once(index: Index) -> None:
    assert [term.word for term in index.text.wording("evict evicts evicted evicting").terms] == ["evict"]


def test_a_word_that_stands_nowhere_is_weighed_and_not_asked(index: Index) -> None:
    read = index.text.wording("zebra cache")
    assert read.asked == ("cache",)
    weights = dict(index.text.term_weights("zebra cache"))
    assert weights["zebra"] > weights["cach"] > 0


@pytest.mark.parametrize(
    ("question", "compound"),
    [
        ("evict oldest", "evictoldest"),
        ("how do we evict oldest entries", "evictoldest"),
        ("the write error of the log", "writeerror"),
        ("log error", "log_error"),
    ],
)
def test_a_name_spelt_out_in_words_is_asked_as_one(index: Index, question: str, compound: str) -> None:
    assert compound in index.text.wording(question).compounds


@pytest.mark.parametrize("question", ["EvictOldest", "oldest evict", "of the cache", ""])
def test_what_is_no_name_spelt_out_is_not_made_one(index: Index, question: str) -> None:
    assert index.text.wording(question).compounds == ()


def test_the_first_line_of_a_message_counts_twice_and_so_do_words_side_by_side(index: Index) -> None:
    message = "Evict the oldest entry\n\nIts capacity is used up."
    read = index.text.wording(message, Form.MESSAGE)
    assert read.stressed == ("evict", "oldest", "entry")
    assert "oldest entry" in read.pairs
    assert index.text.wording(message).stressed == index.text.wording(message).pairs == ()


@pytest.mark.parametrize(
    ("question", "path", "line"),
    [("destructor of the cache", "src/cache.cc", 6), ("cache equal operator", "src/cache.cc", 24)],
)
def test_operators_and_destructors_are_found_by_what_they_are_called(
    index: Index, question: str, path: str, line: int
) -> None:
    places = index.catalogue.cards([chunk for chunk, _ in index.text.search(question, 2)]).values()
    assert any(card.place.path == path and card.place.first_line <= line <= card.place.last_line for card in places)


ODD = [
    "",
    "\0",
    "\ud800 cache",
    '" OR NEAR(',
    "x" * 100_000,
    "cache " * 20_000,
    "A1b2" * 25_000,
    "".join(map(chr, range(256))) * 40,
    "как вытесняется старая запись",
    "最も古い項目",
    "n\u0303" * 50_000,
    " ".join(f"word{number}" for number in range(15_000)),
]


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("question", ODD, ids=range(len(ODD)))
def test_odd_questions_are_read_and_searched_for(index: Index, question: str, form: Form) -> None:
    read = index.text.wording(question, form)
    assert len(read.terms) <= 2 * text_search.MOST_WORDS
    assert len(index.text.search(question, 20, form)) <= 20
    assert len(index.text.term_weights(question)) == len({term.stem for term in read.terms})


# The catalogue


def test_a_card_says_where_a_chunk_stands_and_what_it_shows(index: Index) -> None:
    chunks = index.table.chunks_of("src/cache.cc")
    cards = index.catalogue.cards([chunk.id for chunk in chunks])
    assert [cards[chunk.id].place for chunk in chunks] == [chunk.span for chunk in chunks]
    assert [cards[chunk.id].title for chunk in chunks] == [chunk.title for chunk in chunks]
    assert ("app::Cache::EvictOldest", "method") in {(card.name, card.kind) for card in cards.values()}
