"""Retrieval over a small real index, with and without vectors. The laws of fusion stand in tests/laws."""

from collections.abc import Iterator

import pytest

from hub.model import Hit, SignalSource
from hub.retrieval import Retrieval, is_bare_name, is_test_path, retrieve, symbols_named, understand
from indexer.errors import EmbedderError
from indexer.index import Index
from indexer.model import Embedder, SymbolKind, Vector
from indexer.pipeline import EmbedderSource
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import library_index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
    with library_index(tmp_path_factory.mktemp("retrieval"), source) as opened:
        yield opened


def found(index: Index, text: str, embedder: Embedder | None = None, limit: int = 20) -> Retrieval:
    return retrieve(index, understand(text), embedder, limit)


def holds(hit: Hit, path: str, line: int) -> bool:
    span = hit.chunk.span
    return span.path == path and span.first_line <= line <= span.last_line


# Reading the question


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("What does Cache::EvictOldest do?", ("Cache::EvictOldest",)),
        ("Does ::app::Cache call ~Cache() or Get()?", ("::app::Cache", "~Cache", "Get")),
        ("What is `Get` for?", ("Get",)),
        ("Where is max_open_files read, and MAX_SIZE, and evictOldest?", ("max_open_files", "MAX_SIZE", "evictOldest")),
        ("How does MakeRoomForWrite or DBImpl work?", ("MakeRoomForWrite", "DBImpl")),
        ("What does Foo::operator==?", ("Foo::operator==",)),
        (
            "Is operator() or operator[] called, or Cache::operator()?",
            ("operator()", "operator[]", "Cache::operator()"),
        ),
        ("Compare operator <= with operator new", ("operator <=", "operator new")),
        ("Cache", ("Cache",)),
        ("~Cache", ("~Cache",)),
        ("Cache::Get()", ("Cache::Get",)),
        ("How are URLs and plain words read?", ()),
        ("???", ()),
        ("", ()),
    ],
)
def test_the_names_of_a_question_that_can_only_be_code_are_found(text: str, identifiers: tuple[str, ...]) -> None:
    assert understand(text).identifiers == identifiers


@pytest.mark.parametrize("name", ["Cache", "`Cache`", " app::Cache::Get() ", "operator()", "operator ==", "~Cache"])
def test_a_name_alone_is_a_bare_name(name: str) -> None:
    assert is_bare_name(understand(name))


@pytest.mark.parametrize("text", ["the Cache", "What is app::Cache?", "Cache Counter", "", "two words"])
def test_a_sentence_is_no_bare_name(text: str) -> None:
    assert not is_bare_name(understand(text))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("tests/a.cc", True),
        ("src/test/a.cc", True),
        ("src/a_test.cc", True),
        ("src/test_a.cc", True),
        ("benchmarks/a.cc", True),
        ("src/latest/a.cc", False),
        ("src/contest.cc", False),
        ("src/testament.h", False),
    ],
)
def test_a_path_says_whether_it_holds_tests(path: str, says: bool) -> None:
    assert is_test_path(path) is says


# Names


def test_every_name_of_the_tree_alone_finds_its_definition_first(index: Index) -> None:
    symbols = [s for s in index.facts.all_symbols() if s.kind not in {SymbolKind.SECTION, SymbolKind.NAMESPACE}]
    defined = {s.qualified_name for s in symbols if s.is_definition}
    assert len(defined) > 12
    for name in sorted({s.qualified_name for s in symbols} | {s.name for s in symbols}):
        for embedder in (None, FakeEmbedder()):
            first = found(index, name, embedder).hits[0]
            there = [s for s in symbols if holds(first, s.span.path, s.span.first_line)]
            assert any(name in {s.name, s.qualified_name} for s in there), name
            if any(full == name or full.endswith(f"::{name}") for full in defined):
                assert any(name in {s.name, s.qualified_name} and s.is_definition for s in there), name


def test_a_definition_comes_before_its_declaration_however_well_the_declaration_reads(index: Index) -> None:
    hits = found(index, "EvictOldest", FakeEmbedder()).hits
    by_symbol = [hit for hit in hits if any(signal.source is SignalSource.SYMBOL for signal in hit.signals)]
    assert [hit.chunk.span.path for hit in by_symbol] == ["src/cache.cc", "src/cache.h"]
    assert hits[:2] == tuple(by_symbol)


@pytest.mark.parametrize("name", ["Counter::Increment", "app::Counter::Increment", "increment", "COUNTER::increment()"])
def test_part_of_a_qualified_name_in_any_letter_case_is_enough(index: Index, name: str) -> None:
    retrieval = found(index, name)
    assert holds(retrieval.hits[0], "src/counter.cc", 6)
    assert retrieval.named[0].qualified_name == "app::Counter::Increment"
    assert retrieval.unknown == ()


@pytest.mark.parametrize(
    ("name", "line"), [("operator==", 24), ("Cache::operator[]", 28), ("operator()", 32), ("operator ==", 24)]
)
def test_an_operator_is_found_by_its_name(index: Index, name: str, line: int) -> None:
    retrieval = found(index, name)
    assert holds(retrieval.hits[0], "src/cache.cc", line)
    assert [symbol.span.first_line for symbol in retrieval.named if symbol.is_definition] == [line]


def test_a_class_comes_before_a_heading_of_the_same_name(index: Index) -> None:
    assert holds(found(index, "Counter").hits[0], "src/counter.h", 4)
    assert found(index, "Counter").ambiguous == ()
    assert [symbol.kind for symbol in symbols_named(index, "Limits", 5)] == [SymbolKind.SECTION]


def test_a_name_with_several_meanings_says_how_many(index: Index) -> None:
    assert found(index, "What does Cache::Get return?").ambiguous == (("Cache::Get", 2),)


@pytest.mark.parametrize("name", ["Vanish", "Missing::Increment", "Cache::Vanish", "`vanish.cc`", "Foo::operator=="])
def test_a_name_of_which_any_part_stands_nowhere_is_unknown(index: Index, name: str) -> None:
    assert found(index, name).unknown == (name.strip("`"),)


@pytest.mark.parametrize("name", ["std::string", "`cache.h`", "`src/cache.h`", "`overflows`"])
def test_a_name_that_only_texts_hold_is_not_unknown(index: Index, name: str) -> None:
    retrieval = found(index, f"What about {name}?")
    assert (retrieval.unknown, retrieval.named) == ((), ())


# Arms and order


def test_what_stands_in_tests_comes_later_unless_tests_are_asked_for(index: Index) -> None:
    question = "throw the oldest entry out when the capacity is used up"
    usual, asked = found(index, question).hits, found(index, f"{question} tests").hits
    assert usual[0].chunk.span.path != "tests/cache_test.cc" == asked[0].chunk.span.path
    (halved,) = (hit for hit in usual if hit.chunk.span.path == "tests/cache_test.cc" and hit.chunk.span.first_line < 8)
    assert dict(halved.contributions)["in tests"] == pytest.approx(-halved.score)
    assert all("in tests" not in dict(hit.contributions) for hit in asked)


def test_without_an_embedder_the_other_arms_answer(index: Index) -> None:
    retrieval = found(index, "oldest entry")
    assert retrieval.arms == (SignalSource.LEXICAL,)
    assert retrieval.hits
    assert retrieval.notes == ()


def test_vectors_find_what_shares_no_word_that_text_search_knows(index: Index) -> None:
    retrieval = found(index, "oldest entry", FakeEmbedder(), limit=100)
    assert retrieval.arms == (SignalSource.LEXICAL, SignalSource.VECTOR)
    sources = [{signal.source for signal in hit.signals} for hit in retrieval.hits]
    assert {SignalSource.VECTOR} in sources
    assert {SignalSource.LEXICAL, SignalSource.VECTOR} in sources


def test_vectors_of_another_model_are_not_asked(index: Index) -> None:
    retrieval = found(index, "oldest entry", FakeEmbedder("another/16"))
    assert retrieval.arms == (SignalSource.LEXICAL,)


class BrokenEmbedder(FakeEmbedder):
    def embed_query(self, text: str) -> Vector:
        raise EmbedderError(f"The model cannot read {text!r}.", "Pull it again.")


def test_an_embedder_that_fails_costs_its_arm_and_leaves_a_note(index: Index) -> None:
    broken, without = found(index, "oldest entry", BrokenEmbedder()), found(index, "oldest entry")
    assert broken.hits == without.hits
    assert broken.notes == ("Searched without vectors: The model cannot read 'oldest entry'.",)


def test_the_same_question_finds_the_same_hits(index: Index) -> None:
    for text in ("Cache", "how does the oldest entry leave", "operator==", ""):
        first = found(index, text, FakeEmbedder())
        assert first == found(index, text, FakeEmbedder())
        assert found(index, text, FakeEmbedder(), limit=2).hits == first.hits[:2]


def test_a_hit_names_the_symbol_it_shows(index: Index) -> None:
    first = found(index, "EvictOldest").hits[0]
    assert (first.symbol_name, first.symbol_kind) == ("app::Cache::EvictOldest", "method")


@pytest.mark.parametrize("text", ["", "  ", "???", "\0", '" OR NEAR(', "x" * 5000, "\ud800"])
def test_odd_questions_find_nothing_and_do_not_fail(index: Index, text: str) -> None:
    assert found(index, text, FakeEmbedder()).named == ()


@pytest.mark.parametrize("text", ["", "  ", "?!", "..."])
def test_a_question_without_words_finds_nothing(index: Index, text: str) -> None:
    assert found(index, text, FakeEmbedder()).hits == ()
