"""What benchmarks/cpp_facts.py counts: Clang's side over a tiny tree, and the arithmetic of the comparison."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import cpp_libraries
import cpp_oracle
from cpp_clang import read
from cpp_libraries import Library, Unit
from cpp_matching import Comparison, Ours, compare

from indexer.compiler import read_commands
from indexer.model import Edge, Provenance, ReferenceKind, Span, Symbol, SymbolId, SymbolKind

HEADER = """\
#pragma once
struct Slice {
  Slice(int size);
  Slice(int size, int more);
  bool operator==(const Slice& other) const;
  operator bool() const;
};
void take(const Slice& slice);
void take(double number);
template <class T> struct Box {
  void put(T value) { value.use(); take(value); }
};
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "slice.h").write_text(HEADER, encoding="utf-8")
    return tmp_path


def clang(tree: Path, text: str) -> cpp_oracle.Oracle:
    """What Clang says of a.cc beside slice.h; its first line is the one after the include."""
    (tree / "a.cc").write_text('#include "slice.h"\n' + text, encoding="utf-8")
    oracle = read([Unit(str(tree / "a.cc"), None, ("-std=c++17",))], str(tree), ())
    assert oracle.fatal == []
    return oracle


def calls(oracle: cpp_oracle.Oracle, category: str = "") -> list[tuple[int, str, str]]:
    """(line, label of the callee, category) of a.cc."""
    return sorted(
        (call.lines[0], oracle.callees[call.callee].label, call.category)
        for call in oracle.calls
        if call.path == "a.cc" and call.category.startswith(category)
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("take(Slice(1));", [("Slice::Slice(int)", "constructor"), ("take(const Slice &)", "function")]),
        ("take(1);", [("take(double)", "function")]),
        ("Slice a(1, 2);", [("Slice::Slice(int, int)", "constructor")]),
        ("Slice a{1};", [("Slice::Slice(int)", "constructor")]),
        ("Slice a = 1;", []),
        ("new Slice(1);", [("Slice::Slice(int)", "constructor")]),
        ("if (*s) return;", []),
        ("*s == *s;", [("Slice::operator==(const Slice &)", "operator")]),
        ("s->operator==(*s);", [("Slice::operator==(const Slice &)", "function")]),
        ("Box<int> box;", [("Box::Box()", "implicit")]),
        ("take(*s);", [("take(const Slice &)", "function")]),
    ],
)
def test_a_call_is_what_somebody_wrote(tree: Path, written: str, expected: list[tuple[str, str]]) -> None:
    oracle = clang(tree, f"void run(Slice* s) {{\n{written}\n}}\n")
    assert calls(oracle) == [(3, *call) for call in expected]


def test_the_initialisers_of_a_constructor_are_calls_of_their_own_kind(tree: Path) -> None:
    oracle = clang(tree, "struct Two : Slice { Two(); Slice one; };\nTwo::Two() : Slice(1), one(2, 3) {}\n")
    assert calls(oracle) == [
        (3, "Slice::Slice(int)", "initialiser"),
        (3, "Slice::Slice(int, int)", "initialiser"),
    ]


def test_an_argument_of_a_macro_stands_where_it_is_written(tree: Path) -> None:
    oracle = clang(tree, "#define TWICE(x) x; take(2.0)\nvoid run() {\nTWICE(\n  take(1.0));\n}\n")
    places = {(call.lines, call.from_macro) for call in oracle.calls if call.path == "a.cc"}
    assert places == {((5,), False), ((4,), True)}


def test_a_function_whose_name_a_macro_makes_is_told_from_one_that_it_makes_whole(tree: Path) -> None:
    text = "#define TEST(a) void extra_##a() {} void test_##a()\nTEST(one) {\n}\nvoid plain() {}\n"
    made = {(function.name, function.made) for function in clang(tree, text).functions if function.path == "a.cc"}
    assert made == {("extra_one", "whole"), ("test_one", "named"), ("plain", "")}


def test_the_same_facts_score_full_marks(tree: Path) -> None:
    oracle = clang(tree, "void run(Slice* s) {\n  take(*s);\n  take(2.0);\n  Slice a(1);\n}\n")
    comparison = compare(oracle, as_ours(oracle))
    for topic in ("functions", "types", "calls", "includes"):
        score = comparison.scores[topic]
        assert (score.precision, score.recall) == (1.0, 1.0), topic
    assert comparison.findings == []


def test_another_overload_is_wrong_and_missing(tree: Path) -> None:
    oracle = clang(tree, "void run() {\n  take(2.0);\n}\n")
    ours = as_ours(oracle, {("a.cc", 3, "take"): ("slice.h", 8)})
    comparison = compare(oracle, ours)
    assert marks(comparison) == (0, 1, 0, 1)
    assert [(finding.verdict, finding.reason) for finding in comparison.findings] == [
        ("missing", "resolved to another [function]"),
        ("wrong", "another overload"),
    ]


def test_what_is_known_by_name_is_missing_but_never_wrong(tree: Path) -> None:
    oracle = clang(tree, "void run() {\n  take(2.0);\n}\n")
    comparison = compare(oracle, as_ours(oracle, how=Provenance.BY_NAME))
    assert marks(comparison) == (0, 0, 0, 1)
    assert comparison.counts["by-name, right one among the candidates"] == 1


def test_a_call_that_nobody_made_is_wrong(tree: Path) -> None:
    oracle = clang(tree, "void run() {\n  int size = sizeof(int);\n}\n")
    assert marks(compare(oracle, with_edge(oracle, "a.cc", 3))) == (0, 1, 0, 0)


def test_a_branch_that_was_not_compiled_counts_neither_way(tree: Path) -> None:
    oracle = clang(tree, "void run() {\n#if 0\n  take(1);\n#endif\n}\n")
    assert marks(compare(oracle, with_edge(oracle, "a.cc", 4))) == (0, 0, 0, 0)


def test_a_call_that_depends_on_a_template_counts_neither_way(tree: Path) -> None:
    oracle = clang(tree, "void run() {}\n")
    comparison = compare(oracle, with_edge(oracle, "slice.h", 11))
    assert marks(comparison) == (0, 0, 0, 0)
    assert comparison.counts["unjudged"] == 1


def test_clangs_facts_survive_being_kept(tree: Path) -> None:
    oracle = clang(tree, "#if 0\n#endif\nstruct Own : Slice {\n  void run() { take(*this); }\n};\n")
    assert oracle.calls
    assert cpp_oracle.Oracle.loads(oracle.dumps()) == oracle


def test_the_commands_of_a_library_are_what_the_product_reads(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a.cc").write_text("", encoding="utf-8")
    (tree / "b.c").write_text("", encoding="utf-8")
    (tree / "only.h").write_text("", encoding="utf-8")
    flags = (f"-I{tree}", "-DNAME=1")
    monkeypatch.setattr(cpp_libraries, "system_arguments", lambda _: ("-nostdinc++", "-isystem", "/headers"))
    units = (
        Unit(str(tree / "a.cc"), None, flags),
        Unit(str(tree / "b.c"), None, flags),
        Unit("unit of both", "#include <slice.h>\n#include <only.h>\n", flags),
    )
    path = cpp_libraries.write_commands(Library("some", tree, units, ""), tree.parent / f"{tree.name} beside")
    found = read_commands(path, tree.resolve())
    common = ("-I", str(tree), "-DNAME=1", "-nostdinc++", "-isystem", "/headers")
    assert [(unit.path, unit.arguments) for unit in found.units] == [
        ("a.cc", common),
        ("b.c", common),
        ("slice.h", (*common, "-xc++")),
        ("only.h", (*common, "-xc++")),
    ]
    assert (found.problems, found.outside, found.missing, found.duplicates) == ((), 0, 0, 0)
    assert not path.is_relative_to(tree)
    assert {entry["directory"] for entry in json.loads(path.read_bytes())} == {str(tree)}


FEW = "void run(Slice* s) {\n" + "".join(f"  take({number}.0); take(*s);\n" for number in range(6)) + "}\n"


@given(data=st.data())
def test_marks_fall_by_what_is_left_out_and_by_what_is_changed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "slice.h").write_text(HEADER, encoding="utf-8")
    oracle = clang(folder, FEW)
    whole = as_ours(oracle)
    number = sum(edge.kind is ReferenceKind.CALL for edge in whole.edges)
    kept = data.draw(st.sets(st.integers(0, number - 1)))
    edges = [edge for edge in whole.edges if edge.kind is ReferenceKind.CALL]
    comparison = compare(oracle, Ours(whole.symbols, [edges[position] for position in sorted(kept)]))
    assert marks(comparison) == (len(kept), 0, len(kept), number - len(kept))


def marks(comparison: Comparison) -> tuple[int, int, int, int]:
    """Of calls: right, wrong, found, missing."""
    score = comparison.scores["calls"]
    return score.right, score.wrong, score.found, score.missing


def as_ours(
    oracle: cpp_oracle.Oracle,
    instead: Mapping[tuple[str, int, str], tuple[str, int]] | None = None,
    how: Provenance = Provenance.RESOLVED,
) -> Ours:
    """The facts of an indexer that knows all that Clang knows; ``instead`` gives a call another target."""
    symbols: dict[tuple[str, int, str], Symbol] = {}

    def add(kind: SymbolKind, path: str, line: int, name: str, *, is_definition: bool = True) -> Symbol:
        wanted = SymbolId(f"{path}:{line}:{name}")
        symbol = Symbol(wanted, kind, name, "", name, is_definition, Span(path, line, line), line=line)
        return symbols.setdefault((path, line, name), symbol)

    for function in sorted(oracle.functions):
        add(SymbolKind.FUNCTION, function.path, function.line, function.name)
    for found in sorted(oracle.types):
        add(SymbolKind.STRUCT, found.path, found.line, found.name)
    edges = [
        Edge(ReferenceKind.INCLUDE, include.path, include.line, "", include.target, Provenance.RESOLVED)
        for include in sorted(oracle.includes)
    ]
    for call in sorted(oracle.calls):
        callee = oracle.callees[call.callee]
        if not callee.places:
            continue
        path, line = (instead or {}).get((call.path, call.lines[0], callee.name), callee.places[0])
        target = add(SymbolKind.FUNCTION, path, line, callee.name, is_definition=False)
        edges.append(Edge(ReferenceKind.CALL, call.path, call.lines[0], "", callee.name, how, target.id))
    return Ours(list(symbols.values()), edges)


def with_edge(oracle: cpp_oracle.Oracle, path: str, line: int) -> Ours:
    """Only one call of take(double), at a place of its own."""
    target = Symbol(
        SymbolId("take"), SymbolKind.FUNCTION, "take", "", "void take(double)", False, Span("slice.h", 9, 9), line=9
    )
    edges: Sequence[Edge] = [Edge(ReferenceKind.CALL, path, line, "", "take", Provenance.RESOLVED, target.id)]
    assert path in oracle.inactive
    return Ours([target], edges)
