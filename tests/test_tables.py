"""Questions that the tables answer alone: which forms they have, and what the answers say and leave open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.tables import MOST_EDGES, MOST_SYMBOLS, Relation, TableAnswer, answer, relation_asked
from indexer.index import DataFolder, Index
from tests.support.library import LIBRARY, library_index
from tests.support.trees import index_of, write_tree


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with library_index(tmp_path_factory.mktemp("tables")) as opened:
        yield opened


def asked(index: Index, question: str) -> TableAnswer:
    relation = relation_asked(question)
    assert relation is not None
    found = answer(index, *relation)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("question", "relation", "name"),
    [
        ("Where is EvictOldest defined?", Relation.DEFINITION, "EvictOldest"),
        ("where is the class app::Cache declared", Relation.DEFINITION, "app::Cache"),
        ("Where is the Cache::Get method implemented?", Relation.DEFINITION, "Cache::Get"),
        ("Where is `::app::Cache::operator==` defined?", Relation.DEFINITION, "::app::Cache::operator=="),
        ("where is operator[] defined", Relation.DEFINITION, "operator[]"),
        ("Where are EvictOldest() implemented?!", Relation.DEFINITION, "EvictOldest"),
        ("Definition of ~Cache", Relation.DEFINITION, "~Cache"),
        ("the definition of 'Cache::~Cache'", Relation.DEFINITION, "Cache::~Cache"),
        ("Show me the Cache definition", Relation.DEFINITION, "Cache"),
        ("Who calls Counter::Increment()?", Relation.CALLERS, "Counter::Increment"),
        ("Which functions call operator()?", Relation.CALLERS, "operator()"),
        ("callers of EvictOldest", Relation.CALLERS, "EvictOldest"),
        ("all the callers of `Get`", Relation.CALLERS, "Get"),
        ("Where is EvictOldest called from?", Relation.CALLERS, "EvictOldest"),
        ("What does main call?", Relation.CALLEES, "main"),
        ("what functions does Cache::Get call", Relation.CALLEES, "Cache::Get"),
        ("Callees of main.", Relation.CALLEES, "main"),
        ("Who uses Counter?", Relation.REFERENCES, "Counter"),
        ("which files use LOG_ERROR", Relation.REFERENCES, "LOG_ERROR"),
        ("all usages of Counter", Relation.REFERENCES, "Counter"),
        ("references to Counter", Relation.REFERENCES, "Counter"),
        ("Where is Counter used?", Relation.REFERENCES, "Counter"),
    ],
)
def test_plain_questions_are_recognized_with_the_name_as_typed(question: str, relation: Relation, name: str) -> None:
    assert relation_asked(question) == (relation, name)


@pytest.mark.parametrize(
    "question",
    [
        "Why does main call Increment?",
        "Where is the value of the counter stored and who calls it?",
        "How is EvictOldest defined in terms of capacity?",
        "Counter",
        "Who calls EvictOldest and why?",
        "What does main do?",
        "",
    ],
)
def test_other_questions_are_left_to_retrieval(question: str) -> None:
    assert relation_asked(question) is None


@pytest.mark.parametrize("relation", list(Relation))
def test_a_name_that_does_not_exist_has_no_answer(index: Index, relation: Relation) -> None:
    assert answer(index, relation, "Vanish") is None
    assert answer(index, relation, "Cache::Increment") is None
    assert answer(index, relation, "vanish.h") is None


@pytest.mark.parametrize("question", ["Where is EvictOldest defined?", "Who calls EvictOldest?", "Who uses Counter?"])
def test_every_label_of_an_answer_has_a_citation_and_its_lines_exist(index: Index, question: str) -> None:
    found = asked(index, question)
    assert found.citations
    for citation in found.citations:
        assert f"[{citation.label}]" in found.text
        assert f"{citation.span.path}:{citation.span.first_line}" in found.text
        lines = str(LIBRARY[citation.span.path]).split("\n")
        assert 1 <= citation.span.first_line <= citation.span.last_line <= len(lines)
        assert question.split()[2].rstrip("?") in lines[citation.span.first_line - 1]
    assert [citation.label for citation in found.citations] == list(range(1, len(found.citations) + 1))


def test_a_definition_comes_first_with_signature_and_comment_then_the_declaration(index: Index) -> None:
    lines = asked(index, "Where is EvictOldest defined?").text.split("\n")
    assert lines[0] == "app::Cache::EvictOldest (method) is defined at src/cache.cc:17-22 [1]"
    assert lines[1] == "    void Cache::EvictOldest()"
    assert "read longest ago" in lines[2]
    assert lines[3] == "app::Cache::EvictOldest (method) is declared at src/cache.h:15-15 [2]"


def test_a_class_is_not_hidden_behind_a_heading_of_its_name(index: Index) -> None:
    assert "README.md" not in asked(index, "Where is Counter defined?").text
    assert asked(index, "Where is Limits defined?").citations[0].span.path == "README.md"


def test_callers_are_listed_by_place_and_a_call_that_is_resolved_does_not_say_by_name(index: Index) -> None:
    assert asked(index, "Who calls EvictOldest?").text.split("\n") == [
        "app::Cache::EvictOldest is called in 2 places:",
        "  src/cache.cc:6 app::Cache::~Cache [1]",
        "  tests/cache_test.cc:8 app::TestEvictOldest [2]",
    ]


def test_a_use_that_is_resolved_does_not_say_by_name(index: Index) -> None:
    text = asked(index, "Where is Cache used?").text
    assert "src/cache.cc:24 app::Cache::operator== [" in text


def test_a_type_has_uses_though_nothing_calls_it(index: Index) -> None:
    assert "main [" in asked(index, "Who uses Counter?").text
    assert asked(index, "Who calls DBImpl?").text.endswith("; nothing in this tree calls it.")


def test_callees_are_named_by_what_they_mean(index: Index) -> None:
    assert "src/main.cc:5 app::Counter::Increment [2]" in asked(index, "What does main call?").text
    assert asked(index, "What does WriteError call?").text.endswith("; it calls nothing.")


SHAPES: dict[str, str | bytes] = {
    "shape.h": "struct Shape {\n  virtual double Area() const;\n};\n",
    "square.cc": '#include "shape.h"\nstruct Square : Shape {\n  double Area() const override;\n};\n'
    "template <class T> double any(T& t) { return t.Area(); }\n"
    "double sure(Shape& s) { return s.Area(); }\n",
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    base = tmp_path_factory.mktemp("shapes")
    index_of(write_tree(base / "tree", SHAPES), base / "data")
    with Index.for_reading(DataFolder(base / "data"), "w") as opened:
        yield opened


@pytest.mark.parametrize(
    ("question", "lines"),
    [
        ("What derives from Shape?", ["Shape is derived from in 1 place:", "  square.cc:2 Square [1]"]),
        ("which classes inherit from `Shape`?", ["Shape is derived from in 1 place:", "  square.cc:2 Square [1]"]),
        ("Subclasses of Shape", ["Shape is derived from in 1 place:", "  square.cc:2 Square [1]"]),
        ("What does Square derive from?", ["Square derives from others in 1 place:", "  square.cc:2 Shape [1]"]),
        ("base classes of Square", ["Square derives from others in 1 place:", "  square.cc:2 Shape [1]"]),
        ("What overrides Shape::Area?", ["Shape::Area is overridden in 1 place:", "  square.cc:3 Square::Area [1]"]),
        (
            "What does Square::Area override?",
            ["Square::Area overrides others in 1 place:", "  square.cc:3 Shape::Area [1]"],
        ),
        ("What includes shape.h?", ["shape.h is included in 1 place:", "  square.cc:1 file scope [1]"]),
        ("which files include <shape.h>?", ["shape.h is included in 1 place:", "  square.cc:1 file scope [1]"]),
        ("What does square.cc include?", ["square.cc includes others in 1 place:", "  square.cc:1 shape.h [1]"]),
        ("What derives from Square?", ["Square stands at square.cc:2-4 [1]; nothing in this tree derives from it."]),
        ("What includes square.cc?", ["square.cc [1]: nothing in this tree includes it."]),
    ],
)
def test_questions_about_classes_and_files_are_answered_exactly(shapes: Index, question: str, lines: list[str]) -> None:
    assert asked(shapes, question).text.split("\n") == lines


def test_what_is_sure_comes_before_what_is_known_by_name(shapes: Index) -> None:
    assert asked(shapes, "Who calls Shape::Area?").text.split("\n")[1:] == [
        "  square.cc:6 sure [1]",
        "  square.cc:5 any (by name) [2]",
    ]


def many(tmp_path: Path) -> Path:
    """Twelve classes with a method of the same name, which thirty functions call through an object."""
    classes = "".join(f"struct S{number} {{ int Get() {{ return {number}; }} }};\n" for number in range(12))
    calls = "".join(f"int f{number}(auto s) {{ return s.Get(); }}\n" for number in range(30))
    index_of(write_tree(tmp_path / "tree", {"a.cc": classes, "b.cc": calls}), tmp_path / "data")
    return tmp_path / "data"


def test_one_place_is_listed_once_however_many_symbols_it_may_mean_and_the_rest_is_counted(tmp_path: Path) -> None:
    with Index.for_reading(DataFolder(many(tmp_path)), "w") as index:
        callers, definitions = asked(index, "Who calls Get?"), asked(index, "Where is Get defined?")
        last = asked(index, "Where is S11::Get defined?")
    lines = callers.text.split("\n")
    assert lines[0] == "Get (12 symbols have this name) is called in 30 places:"
    assert lines[-1] == f"  and {30 - MOST_EDGES} more; `codehub callers Get` lists them."
    places = [line.split()[0] for line in lines[1:-1]]
    assert places == sorted(set(places), key=lambda place: int(place.split(":")[1]))
    assert len(places) == len(callers.citations) == MOST_EDGES
    assert len(definitions.citations) == MOST_SYMBOLS
    assert definitions.text.endswith("There are more; `codehub symbol Get` lists them.")
    assert last.citations[0].span.first_line == 12
