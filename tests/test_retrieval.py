"""Retrieval over a small real index, with and without vectors. The laws of fusion stand in tests/laws."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.model import Hit, QuestionKind, SignalSource
from hub.retrieval import (
    GLOBAL,
    STORED_WEIGHTS,
    Retrieval,
    Weights,
    is_bare_name,
    is_test_path,
    retrieve,
    symbols_named,
    understand,
    understood,
)
from hub.retrieval.fusion import BLOCKS
from hub.retrieval.query import MOST_NAMES
from indexer.errors import EmbedderError
from indexer.index import DataFolder, Index
from indexer.model import Embedder, SymbolKind, Vector
from indexer.pipeline import EmbedderSource
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import LIBRARY, library_index
from tests.support.trees import index_of, write_tree


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
    with library_index(tmp_path_factory.mktemp("retrieval"), source) as opened:
        yield opened


def found(index: Index, text: str, embedder: Embedder | None = None, limit: int = 20) -> Retrieval:
    return retrieve(index, understand(text), [embedder] if embedder else [], limit)


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


def test_what_has_exactly_the_typed_name_comes_before_namesakes_in_scopes_of_their_own(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a.cc": "struct Job {\n  void Run();\n};\n\nvoid Job::Run() {\n  int a;\n  int b;\n  int c;\n}\n",
        "b.cc": "// Runs.\nvoid Run() {\n  int a;\n  int b;\n  int c;\n}\n",
    }
    index_of(write_tree(tmp_path / "tree", files), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as read:
        assert [hit.chunk.span.path for hit in found(read, "Run").hits] == ["b.cc", "a.cc", "a.cc"]
        assert found(read, "Job::Run").hits[0].symbol_name == "Job::Run"


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


@pytest.mark.parametrize("typed", ["EvictOldst", "EvictOldestt", "evictoldset", "EvictOld"])
def test_a_misspelt_name_leads_to_what_it_is_like_and_says_so(index: Index, typed: str) -> None:
    assert found(index, typed).hits[0].symbol_name == "app::Cache::EvictOldest"
    for question in (typed, f"When is `{typed}` called?"):
        retrieval = found(index, question)
        first = retrieval.arms[SignalSource.SYMBOL][0][0]
        assert [hit.symbol_name for hit in retrieval.hits if hit.chunk.id == first] == ["app::Cache::EvictOldest"]
        assert (retrieval.named, retrieval.unknown) == ((), (typed,))
        assert retrieval.notes == (f"Nothing is named {typed}; app::Cache::EvictOldest is like it.",)


def test_a_name_that_stands_somewhere_is_never_taken_for_a_misspelling(index: Index) -> None:
    assert found(index, "What is `overflows`?").notes == ()
    assert found(index, "EvictOldest").notes == ()


@pytest.mark.parametrize(
    ("question", "name"), [("how do we evict oldest", "EvictOldest"), ("where does it write error text", "WriteError")]
)
def test_a_name_spelt_out_in_words_finds_its_symbol(index: Index, question: str, name: str) -> None:
    retrieval = found(index, question)
    by_symbol = [hit for hit in retrieval.hits if any(signal.source is SignalSource.SYMBOL for signal in hit.signals)]
    assert by_symbol
    assert all(name in hit.chunk.text for hit in by_symbol)
    assert understood(retrieval).spelt == (name.lower(),)


# Kinds of questions


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("EvictOldest", QuestionKind.NAME),
        ("app::Cache::Get()", QuestionKind.NAME),
        ("When does EvictOldest run?", QuestionKind.MIXED),
        ("how does the oldest entry leave", QuestionKind.PROSE),
        ("Returns the number of entries.", QuestionKind.PROSE),
        ("Fix the crash on an empty cache", QuestionKind.CHANGE),
        ("Fix or keep?", QuestionKind.PROSE),
        ("#0  0x01 in app::Cache::EvictOldest (this=0x1) at src/cache.cc:17", QuestionKind.PASTE),
        ("", QuestionKind.PROSE),
    ],
)
def test_a_question_says_what_kind_it_is(text: str, kind: QuestionKind) -> None:
    assert understand(text).kind is kind


# Arms and order


def test_what_a_first_hit_calls_is_reached_through_the_graph(index: Index) -> None:
    retrieval = found(index, "TestEvictOldest", limit=100)
    by_graph = {
        hit.chunk.span.path for hit in retrieval.hits if {s.source for s in hit.signals} == {SignalSource.GRAPH}
    }
    assert "src/counter.cc" in by_graph


def test_words_of_a_commit_lead_to_what_it_changed(tmp_path: Path) -> None:
    with library_index(tmp_path) as without:
        assert SignalSource.HISTORY not in found(without, "zebra stampede").arms
    root = write_tree(tmp_path / "told" / "tree", LIBRARY)

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, "-C", str(root), *arguments], timeout=60, check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "Begin")
    counter = root / "src/counter.cc"
    counter.write_text(counter.read_text(encoding="utf-8").replace("+= by", "+= 2 * by"), encoding="utf-8")
    git("commit", "-q", "-a", "-m", "Survive the zebra stampede")
    index_of(root, tmp_path / "told" / "data")
    with Index.for_reading(DataFolder(tmp_path / "told" / "data"), "w") as told:
        retrieval = found(told, "zebra stampede")
        assert retrieval.files[0][0] == "src/counter.cc"
        (by_history, *_) = [h for h in retrieval.hits if any(s.source is SignalSource.HISTORY for s in h.signals)]
        assert holds(by_history, "src/counter.cc", 6)


def test_weights_kept_with_the_index_count_unless_others_are_given(tmp_path: Path) -> None:
    mine = Weights(**dict.fromkeys(BLOCKS, (("lexical", 1.0),)), origin="this tree")
    with library_index(tmp_path) as read:
        assert found(read, "oldest entry").weights == GLOBAL
    data = DataFolder(tmp_path / "data")
    with data.owned(), Index.for_writing(data, "w", tmp_path / "tree") as index:
        index.table.set_meta({STORED_WEIGHTS: mine.dumps()})
    with Index.for_reading(data, "w") as read:
        assert found(read, "oldest entry").weights == mine
        assert retrieve(read, understand("oldest entry"), [], 3, GLOBAL).weights == GLOBAL
        assert understood(found(read, "oldest entry")).origin == "this tree"


def test_what_stands_in_tests_comes_later_unless_tests_are_asked_for(index: Index) -> None:
    question = "throw the oldest entry out when the capacity is used up"
    usual, asked = found(index, question), found(index, f"{question} tests")
    (lowered,) = (
        hit for hit in usual.hits if hit.chunk.span.path == "tests/cache_test.cc" and "Oldest" in hit.chunk.text
    )
    loss = dict(lowered.contributions)["in tests"]
    assert loss < 0
    others = [hit.score for hit in usual.hits if hit.chunk.id != lowered.chunk.id]
    places = [sum(score > own for score in others) for own in (lowered.score, lowered.score - loss)]
    assert places[0] >= places[1]
    assert all("in tests" not in dict(hit.contributions) for hit in asked.hits)


def test_without_an_embedder_the_other_arms_answer(index: Index) -> None:
    retrieval = found(index, "oldest entry")
    assert set(retrieval.arms) == {SignalSource.LEXICAL, SignalSource.GRAPH}
    assert retrieval.hits
    assert retrieval.notes == ()


def test_vectors_find_what_shares_no_word_that_text_search_knows(index: Index) -> None:
    retrieval = found(index, "oldest entry", FakeEmbedder(), limit=100)
    assert set(retrieval.arms) == {SignalSource.LEXICAL, SignalSource.VECTOR, SignalSource.GRAPH}
    sources = [{signal.source for signal in hit.signals} - {SignalSource.GRAPH} for hit in retrieval.hits]
    assert {SignalSource.VECTOR} in sources
    assert {SignalSource.LEXICAL, SignalSource.VECTOR} in sources


def test_vectors_of_another_model_are_not_asked(index: Index) -> None:
    retrieval = found(index, "oldest entry", FakeEmbedder("another/16"))
    assert set(retrieval.arms) == {SignalSource.LEXICAL, SignalSource.GRAPH}


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


ODD = [
    "",
    "  ",
    "???",
    "x",
    "\0",
    '" OR NEAR(',
    "\ud800",
    "最も古い項目を捨てる",
    "".join(map(chr, range(256))) * 40,
    *(
        part * (100_000 // len(part))
        for part in ("x", "Aa", "ab_", "a::", "`", "f()", "~", "operator ", "<", "zz ", "\n#1 ")
    ),
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_questions_find_nothing_by_name_and_do_not_fail(index: Index, text: str) -> None:
    retrieval = found(index, text, FakeEmbedder())
    assert retrieval.named == ()
    assert len(retrieval.query.identifiers) <= MOST_NAMES
    assert understood(retrieval).kind is retrieval.query.kind


@pytest.mark.parametrize("text", ["", "  ", "?!", "..."])
def test_a_question_without_words_finds_nothing(index: Index, text: str) -> None:
    assert found(index, text, FakeEmbedder()).hits == ()
