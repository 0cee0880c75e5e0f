"""The symbol table: names as they are typed, edges and what they rest on, text search, and the file's own rules."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from math import log
from pathlib import Path

import apsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import DataFolderError, EmbedderError, FolderBusyError, FolderFullError, SchemaError
from indexer.index import DataFolder, Index
from indexer.model import ChunkId, Edge, Provenance, ReferenceKind, Symbol, SymbolKind
from indexer.symbol_table import database
from indexer.symbol_table.database import Database
from indexer.symbol_table.table import SymbolTable
from tests.support.trees import index_of, write_tree

CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)

TREE: dict[str, str | bytes] = {
    "include/shapes.h": """#pragma once
namespace geo {
struct Point {
  int x;
  bool operator==(const Point& other) const;
  void operator()(int by);
};
class Shape {
 public:
  Shape();
  ~Shape();
  double Area() const;
  void Move(int by);
  void Move(Point to);
};
double area(double width);
}  // namespace geo
namespace other {
class Shape {
 public:
  double Area() const;
};
}  // namespace other
""",
    "src/shapes.cc": """#include "shapes.h"
#include "detail/grid.h"
#include <vector>
namespace geo {
Shape::Shape() {}
Shape::~Shape() {}
double Shape::Area() const { return area(2); }
void Shape::Move(int by) { Shape::Area(); }
void Shape::Move(Point to) { std::move(to); }
bool Point::operator==(const Point& other) const { return x == other.x; }
void Point::operator()(int by) { x += by; }
double area(double width) { return width; }
}  // namespace geo
""",
    "src/detail/grid.h": "#pragma once\nnamespace geo {\nclass Grid : public Shape {\n  Shape parts;\n};\n}\n",
    "src/use.cc": """#include "../include/shapes.h"
int use() {
  geo::Shape shape;
  shape.Move(1);
  geo::area(2);
  return 0;
}
""",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    base = tmp_path_factory.mktemp("table")
    index_of(write_tree(base / "tree", TREE), base / "data")
    with Index.for_reading(DataFolder(base / "data"), "w") as opened:
        yield opened


# Names


def names(index: Index, asked: str, limit: int = 50) -> list[str]:
    return [f"{s.qualified_name}:{s.span.first_line}" for s in index.facts.symbols_named(asked, limit)]


@pytest.mark.parametrize(
    "asked", ["geo::Shape::Area", "::geo::Shape::Area", " geo :: Shape::Area ", "geo::Shape::Area() const"]
)
def test_a_full_name_finds_its_definition_before_its_declaration(index: Index, asked: str) -> None:
    assert names(index, asked) == ["geo::Shape::Area:7", "geo::Shape::Area:12"]


def test_a_part_of_a_name_is_enough_and_the_fullest_match_comes_first(index: Index) -> None:
    assert names(index, "Shape::Area") == ["geo::Shape::Area:7", "geo::Shape::Area:12", "other::Shape::Area:21"]
    assert names(index, "hape::Area") == []
    assert {name.partition(":")[0] for name in names(index, "other::Shape")} == {"other"}


def test_letter_case_counts_unless_nothing_has_the_exact_case(index: Index) -> None:
    assert names(index, "area") == ["geo::area:12", "geo::area:16"]
    assert {name.rpartition(":")[0] for name in names(index, "AREA")} == {
        "geo::area",
        "geo::Shape::Area",
        "other::Shape::Area",
    }
    assert names(index, "GEO::SHAPE::area") == ["geo::Shape::Area:7", "geo::Shape::Area:12"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Point::operator==", "geo::Point::operator=="),
        ("operator ==", "geo::Point::operator=="),
        ("Point::operator()", "geo::Point::operator()"),
        ("operator()(int)", "geo::Point::operator()"),
        ("Shape::~Shape", "geo::Shape::~Shape"),
    ],
)
def test_operators_and_destructors_are_found_as_they_are_written(index: Index, asked: str, found: str) -> None:
    assert {name.rpartition(":")[0] for name in names(index, asked)} == {found}


def test_a_declaration_and_its_definition_share_an_id_and_overloads_do_not(index: Index) -> None:
    moves = index.facts.symbols_named("geo::Shape::Move", 50)
    assert len(moves) == 4
    pairs = {s.id: [other.is_definition for other in index.facts.symbols_by_id(s.id)] for s in moves}
    assert list(pairs.values()) == [[True, False], [True, False]]


def test_a_limit_cuts_the_least_full_matches(index: Index) -> None:
    assert names(index, "Area", 2) == names(index, "Area")[:2]


@given(st.text())
def test_no_text_is_too_odd_to_be_looked_up(index: Index, text: str) -> None:
    assert isinstance(index.facts.symbols_named(text, 5), list)
    assert isinstance(index.facts.edges_by_name(text, CALLS), list)
    assert isinstance(index.text.search(text, 5), list)
    index.text.term_weights(text)
    index.text.holds(text)


@pytest.mark.parametrize("asked", ["", "   ", "::", "\0", "\udcff", "Shape\udcff", "()"])
def test_what_is_no_name_finds_nothing(index: Index, asked: str) -> None:
    assert index.facts.symbols_named(asked, 5) == []


def test_wildcards_of_sql_are_plain_characters(index: Index) -> None:
    assert index.facts.symbols_named("%", 5) == []
    assert index.facts.symbols_named("Are_", 5) == []


# Edges


def edges(found: list[Edge]) -> set[tuple[str, int, str, str, Provenance]]:
    return {(edge.path, edge.line, edge.inside, edge.target, edge.how) for edge in found}


def definition(index: Index, name: str) -> Symbol:
    return index.facts.symbols_named(name, 1)[0]


def test_a_call_is_resolved_by_its_scope_and_by_its_qualifier(index: Index) -> None:
    area = definition(index, "geo::area")
    assert edges(index.facts.edges_to(area, CALLS)) == {
        ("src/shapes.cc", 7, "geo::Shape::Area", "geo::area", Provenance.RESOLVED),
        ("src/use.cc", 5, "use", "geo::area", Provenance.RESOLVED),
    }


def test_a_qualifier_that_names_another_thing_is_no_use_of_this_one(index: Index) -> None:
    mine, others = definition(index, "geo::Shape::Area"), definition(index, "other::Shape::Area")
    call = ("src/shapes.cc", 8, "geo::Shape::Move")
    assert (*call, "geo::Shape::Area", Provenance.RESOLVED) in edges(index.facts.edges_to(mine, CALLS))
    written = [edge for edge in index.facts.edges_to(others, CALLS) if edge.line == 8]
    assert all(edge.target == "other::Shape::Area" for edge in written)
    (type_use,) = [
        edge
        for edge in index.facts.edges_to(definition(index, "geo::Shape"), (ReferenceKind.TYPE,))
        if edge.path == "src/use.cc"
    ]
    assert (type_use.line, type_use.how) == (3, Provenance.RESOLVED)
    assert not [
        edge
        for edge in index.facts.edges_to(definition(index, "other::Shape"), (ReferenceKind.TYPE,))
        if edge.path == "src/use.cc"
    ]


def test_a_base_class_is_looked_up_from_the_inside_out(index: Index) -> None:
    bases = (ReferenceKind.BASE,)
    (edge,) = index.facts.edges_to(definition(index, "geo::Shape"), bases)
    assert (edge.path, edge.inside, edge.how) == ("src/detail/grid.h", "geo::Grid", Provenance.RESOLVED)
    exported = [edge for edge in index.facts.all_edges() if edge.kind is ReferenceKind.BASE]
    assert [(edge.target, edge.how) for edge in exported] == [("geo::Shape", Provenance.RESOLVED)]


def test_what_a_function_calls_is_told_with_what_it_rests_on(index: Index) -> None:
    use = definition(index, "use")
    assert edges(index.facts.edges_from(use, CALLS)) == {
        ("src/use.cc", 3, "use", "geo::Shape::Shape", Provenance.RESOLVED),
        ("src/use.cc", 4, "use", "geo::Shape::Move", Provenance.RESOLVED),
        ("src/use.cc", 5, "use", "geo::area", Provenance.RESOLVED),
    }


def test_a_name_outside_the_tree_is_found_by_its_uses(index: Index) -> None:
    expected = {("src/shapes.cc", 9, "geo::Shape::Move", "std::move", Provenance.BY_NAME)}
    assert edges(index.facts.edges_by_name("std::move", CALLS)) == expected
    assert edges(index.facts.edges_by_name("move", CALLS)) == expected
    assert index.facts.edges_by_name("mystd::move", CALLS) == []


def test_an_include_is_resolved_beside_its_includer_or_below_a_folder_of_the_tree(index: Index) -> None:
    found = {
        (edge.path, edge.line): (edge.target, edge.how)
        for edge in index.facts.all_edges()
        if edge.kind is ReferenceKind.INCLUDE
    }
    assert found == {
        ("src/shapes.cc", 1): ("include/shapes.h", Provenance.RESOLVED),
        ("src/shapes.cc", 2): ("src/detail/grid.h", Provenance.RESOLVED),
        ("src/shapes.cc", 3): ("vector", Provenance.BY_NAME),
        ("src/use.cc", 1): ("include/shapes.h", Provenance.RESOLVED),
    }


def test_an_include_that_two_files_could_be_stays_as_written(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "tree", {"one/a.h": "int a;\n", "two/a.h": "int b;\n", "src/main.cc": '#include "a.h"\n'}
    )
    index_of(root, tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as opened:
        (edge,) = opened.facts.all_edges()
        assert (edge.target, edge.how) == ("a.h", Provenance.BY_NAME)


def test_symbols_and_edges_come_in_the_order_of_the_tree(index: Index) -> None:
    symbols = [(s.span.path, s.span.first_line) for s in index.facts.all_symbols()]
    places = [(edge.path, edge.line) for edge in index.facts.all_edges()]
    assert symbols == sorted(symbols)
    assert places == sorted(places)
    assert SymbolKind.NAMESPACE in {s.kind for s in index.facts.all_symbols()}


# Text


def open_tree(stack: ExitStack, base: Path, files: dict[str, str | bytes]) -> Index:
    index_of(write_tree(base / "tree", files), base / "data")
    return stack.enter_context(Index.for_reading(DataFolder(base / "data"), "w"))


def test_equally_good_chunks_come_by_id_wherever_the_limit_cuts(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}/same.cc": "int needle;\n" for name in "abcdefghij"}
    with ExitStack() as stack:
        opened = open_tree(stack, tmp_path, files)
        everything = opened.text.search("needle", 100)
        assert len(everything) == 10
        assert len({score for _, score in everything}) == 1
        assert everything == sorted(everything, key=lambda hit: hit[0])
        for limit in range(12):
            assert opened.text.search("needle", limit) == everything[:limit]


def test_a_limit_among_equals_keeps_the_better_ones_before_them(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}/same.cc": "int needle;\n" for name in "abcdefgh"}
    files["best/needle.cc"] = "int needle; // needle needle\n"
    with ExitStack() as stack:
        opened = open_tree(stack, tmp_path, files)
        everything = opened.text.search("needle", 100)
        assert everything[0][1] > everything[1][1] == everything[-1][1]
        for limit in range(11):
            assert opened.text.search("needle", limit) == everything[:limit]


def test_a_name_is_found_by_its_parts_and_by_its_other_forms(index: Index) -> None:
    (best, _), *_ = index.text.search("compute moving shapes", 5)
    assert index.table.chunks([best])
    assert index.text.stems("Moving moves MoveTo") == ["move", "move", "moveto", "move", "to"]
    assert index.text.holds("GRID")
    assert not index.text.holds("gri")


def test_the_weight_of_a_word_is_its_inverse_document_frequency(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}.cc": f"int common; int only_{name};\n" for name in "abcd"}
    with ExitStack() as stack:
        opened = open_tree(stack, tmp_path, files)
        assert opened.table.counts().chunks == 4
        weights = dict(opened.text.term_weights("common only_a missing common"))
    assert list(weights) == ["common", "only_a", "onli", "miss"]
    assert weights["common"] == pytest.approx(log(1 + 0.5 / 4.5))
    assert weights["miss"] == pytest.approx(log(1 + 4.5 / 0.5))
    assert weights["common"] < weights["only_a"] < weights["miss"]


# The file


@pytest.fixture
def table(tmp_path: Path) -> Iterator[SymbolTable]:
    opened = Database.create_or_open(tmp_path / "index.db")
    yield SymbolTable(opened)
    opened.close()


def test_a_file_of_another_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    opened = Database.create_or_open(tmp_path / "index.db")
    SymbolTable(opened).set_meta({"format": "999"})
    opened.close()
    for again in (Database.create_or_open, Database.open_readonly):
        with pytest.raises(SchemaError, match="has format 999") as caught:
            again(tmp_path / "index.db")
        assert "repair --rebuild" in caught.value.hint


def damage_by_rubbish(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says\n" * 200)


def damage_by_emptiness(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_another_database(path: Path) -> None:
    apsw.Connection(str(path)).execute("CREATE TABLE something(x)")


@pytest.mark.parametrize("damage", [damage_by_rubbish, damage_by_emptiness, damage_by_another_database])
def test_a_file_that_is_no_index_is_refused_in_a_sentence(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(tmp_path / "index.db")
    with pytest.raises(DataFolderError, match=r"index\.db is .*no index"):
        Database.open_readonly(tmp_path / "index.db")


def test_reading_goes_on_beside_a_writer_and_sees_whole_transactions_only(tmp_path: Path) -> None:
    writer = Database.create_or_open(tmp_path / "index.db")
    reader = Database.open_readonly(tmp_path / "index.db")
    writing, reading = SymbolTable(writer), SymbolTable(reader)
    with writer.transaction():
        writer.run("INSERT INTO meta VALUES('half', 'done')")
        assert "half" not in reading.meta()
    assert reading.meta()["half"] == "done"
    with pytest.raises(DataFolderError):
        reading.set_meta({"never": "written"})
    assert "never" not in writing.meta()
    reader.close()
    writer.close()


def test_what_is_settled_holds_for_the_moment_of_a_reader_and_no_longer(tmp_path: Path) -> None:
    writer = Database.create_or_open(tmp_path / "index.db")
    reader = Database.open_readonly(tmp_path / "index.db")
    before = reader.generation()
    with reader.moment():
        assert reader.generation() == before
        with reader.moment():
            writer.run("UPDATE changes SET number = number + 1")
            assert reader.generation() == before
        assert reader.generation() == before
    assert reader.generation() == before + 1
    with writer.moment():
        assert writer.generation() == before + 1
        writer.run("UPDATE changes SET number = number + 1")
        assert writer.generation() == before + 2  # whoever writes always sees what it wrote
    reader.close()
    writer.close()


def test_two_writers_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 1)
    one = Database.create_or_open(tmp_path / "index.db")
    two = Database.create_or_open(tmp_path / "index.db")
    with one.transaction(), pytest.raises(FolderBusyError):
        SymbolTable(two).set_meta({"a": "b"})
    two.close()
    one.close()


def test_a_transaction_that_fails_leaves_nothing_behind(table: SymbolTable) -> None:
    def half() -> Iterator[tuple[str, str]]:
        yield "half", "done"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), table._db.transaction():
        table._db.run_many("INSERT INTO meta VALUES(?, ?)", half())
    assert "half" not in table.meta()
    table.set_meta({"next": "works"})
    assert table.meta()["next"] == "works"


def test_a_bound_on_the_size_is_an_error_with_the_way_out_and_what_was_written_stays(tmp_path: Path) -> None:
    opened = Database.create_or_open(tmp_path / "index.db", max_bytes=300_000)
    table = SymbolTable(opened)
    table.set_meta({"small": "fits"})
    with pytest.raises(FolderFullError) as caught:
        table.set_meta({"large": "x" * 400_000})
    assert "index.max_megabytes" in caught.value.hint
    assert table.meta()["small"] == "fits"
    assert "large" not in table.meta()
    opened.close()


def test_no_error_of_sqlite_comes_out_as_such(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="cannot be opened"):
        Database.open_readonly(tmp_path / "missing" / "index.db")
    with pytest.raises(DataFolderError, match="cannot be opened"):
        Database.create_or_open(tmp_path)


# Vectors and the outbox


def made_up(table: SymbolTable, chunks: Sequence[ChunkId]) -> None:
    """Chunks that no file holds, for vectors to belong to."""
    table._db.run_many(
        "INSERT INTO chunks VALUES(NULL, 0, ?, 1, 1, '', '', NULL, x'00')", ((chunk,) for chunk in chunks)
    )


def test_a_vector_of_a_chunk_that_is_gone_is_not_kept(table: SymbolTable) -> None:
    assert table.store_vectors("e", [ChunkId("gone")], np.ones((1, 2), dtype=np.float32)) == 0
    assert (table.vector_count("e"), table.outbox_depth()) == (0, 0)


def test_vectors_of_another_size_under_the_same_name_are_refused_and_leave_nothing(table: SymbolTable) -> None:
    made_up(table, [ChunkId("a"), ChunkId("b")])
    table.store_vectors("e", [ChunkId("a")], np.ones((1, 2), dtype=np.float32))
    with pytest.raises(EmbedderError, match="vectors of 3 dimensions, and 2 are kept"):
        table.store_vectors("e", [ChunkId("b")], np.ones((1, 3), dtype=np.float32))
    assert (table.vector_count("e"), table.outbox_depth(), table.embedders()) == (1, 1, {"e": 2})


def test_an_embedder_that_is_forgotten_leaves_nothing_and_the_others_whole(table: SymbolTable) -> None:
    made_up(table, [ChunkId("a"), ChunkId("b")])
    for name in ("d", "e", "f"):
        table.store_vectors(name, [ChunkId("a"), ChunkId("b")], np.ones((2, 2), dtype=np.float32))
    table.forget_embedder("e")
    assert table.embedders() == {"d": 2, "f": 2}
    assert [table.vector_count(name) for name in ("d", "e", "f")] == [2, 0, 2]
    assert {entry.embedder for entry in table.outbox(10)} == {"d", "f"}
    assert table.waiting("e") == 2


def test_vectors_are_kept_in_a_byte_a_dimension_and_posted_in_the_same_transaction(table: SymbolTable) -> None:
    ids = [ChunkId("b"), ChunkId("a")]
    made_up(table, ids)
    rows = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    assert table.store_vectors("e", ids, rows) == 2
    kept, matrix = table.vectors("e")
    assert kept == ["a", "b"]
    assert np.allclose(matrix, rows[::-1], atol=4e-3)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1)
    assert [(entry.operation, entry.chunk) for entry in table.outbox(10)] == [("upsert", "b"), ("upsert", "a")]
    assert table.vectors_of("e", [ChunkId("b"), ChunkId("missing")])[0] == ["b"]
    assert (table.vector_count("e"), table.vector_count("other")) == (2, 0)


def test_forgetting_what_was_taken_keeps_what_came_later(table: SymbolTable) -> None:
    row = np.ones((1, 2), dtype=np.float32)
    made_up(table, [ChunkId("a"), ChunkId("b")])
    table.store_vectors("e", [ChunkId("a")], row)
    taken = table.outbox(10)[-1].seq
    table.store_vectors("e", [ChunkId("b")], row)
    table.clear_outbox(taken)
    assert [entry.chunk for entry in table.outbox(10)] == ["b"]
    assert table.last_outbox_entry() == table.outbox(10)[-1].seq
