"""What the C++ reader finds in small files: the cases stand in cases/cpp_*.md."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import cpp
from indexer.model import Language, ParsedFile, ReferenceKind, SourceFile, Symbol, SymbolId, SymbolKind
from tests.support.cases import Case, check, load

CALLABLE = {SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR}


def source(text: str, path: str = "a.cc") -> SourceFile:
    return SourceFile(path, Language.CPP, len(text), 0, "", text)


def facts(parsed: ParsedFile) -> str:
    """One line a fact. Equal numbers are equal ids, counted in the order in which the ids appear."""
    numbers: dict[SymbolId, int] = {}
    names: dict[SymbolId, str] = {}
    lines: list[str] = []
    for symbol in parsed.symbols:
        number = numbers.setdefault(symbol.id, len(numbers) + 1)
        names.setdefault(symbol.id, symbol.qualified_name)
        kind = "def" if symbol.is_definition else "decl"
        place = f"{symbol.span.first_line}-{symbol.span.last_line}"
        lines.append(f"{symbol.kind} {symbol.qualified_name} #{number} {place} {kind} | {symbol.signature}")
        lines += [f"  = {details}" for details in [described(symbol)] if details]
        lines.extend(f"    {line}" for line in symbol.doc.split("\n") if symbol.doc)
    for reference in parsed.references:
        inside = f" in {names[reference.inside]}" if reference.inside else ""
        lines.append(f"{reference.span.first_line}: {reference.kind} {reference.name}{inside}")
    lines.extend(f"{problem.line}: problem, {problem.message}" for problem in parsed.problems)
    return "".join(line.rstrip() + "\n" for line in lines)


def described(symbol: Symbol) -> str:
    """What a symbol says of itself beside its signature: traits, access, then name=value."""
    parts: list[str] = [*symbol.traits, *([symbol.access] if symbol.access else [])]
    if symbol.template_parameters:
        parts.append(f"template={', '.join(symbol.template_parameters)}")
    if symbol.bases:
        parts.append(f"bases={', '.join(symbol.bases)}")
    if symbol.kind in CALLABLE or symbol.parameters:
        parts.append(f"parameters=({', '.join(symbol.parameters)})")
    if symbol.required != len(symbol.parameters):
        parts.append(f"required={symbol.required}")
    if symbol.type:
        parts.append(f"type={symbol.type}")
    if symbol.line != symbol.span.first_line:
        parts.append(f"line={symbol.line}")
    return " ".join(parts)


@pytest.mark.parametrize("case", load("cpp_*.md"), ids=lambda case: case.name)
def test_a_small_file_gives_the_facts_of_its_case(case: Case) -> None:
    check(case, facts(cpp.parse(source(case.text, "a.c" if case.kind == "c" else "a.cc"))))


@pytest.mark.parametrize(
    "text",
    [
        "int x = " + "(" * 5_000 + "1" + ")" * 5_000 + ";",
        "namespace a {" * 5_000,
        "{" * 5_000,
        "class A { void f() {" * 2_000,
        "template<" * 3_000,
        "f(" * 5_000 + ")" * 5_000,
        "void f() {" + "if (x) {" * 3_000,
        "A::" * 5_000 + "f() {}",
        "int " + "*" * 5_000 + "p;",
        "#if A\n" * 3_000,
    ],
    ids=lambda text: text[:12],
)
def test_nesting_of_thousands_is_read_without_recursion(text: str) -> None:
    parsed = cpp.parse(source(text))
    assert all(symbol.span.last_line <= text.count("\n") + 1 for symbol in parsed.symbols)


@pytest.mark.parametrize(
    "text",
    [
        "int x = " + "a+" * 90_000 + "b;",
        "void f() { x " + "<< y" * 90_000 + "; }",
        "{" * 90_000,
        "f(a," * 90_000,
        "void f() {" + "if (a) b; else " * 70_000 + "c; }",
    ],
    ids=lambda text: text[:12],
)
def test_what_nests_deeper_than_the_grammar_can_follow_is_a_problem_and_ends(text: str) -> None:
    parsed = cpp.parse(source("int before;\n" + text + "\n"))
    assert [symbol.name for symbol in parsed.symbols][:1] == ["before"]
    assert "too deeply nested to be read" in {problem.message for problem in parsed.problems}


def test_a_file_of_errors_reports_the_first_twenty_and_counts_the_others() -> None:
    parsed = cpp.parse(source("int ) = ;\n" * 100))
    assert len(parsed.problems) == cpp.MAX_PROBLEMS + 1
    assert [problem.line for problem in parsed.problems] == list(range(1, cpp.MAX_PROBLEMS + 2))
    assert parsed.problems[-1].message.startswith("80 more lines")


def test_a_line_with_many_macros_is_read_in_time_that_grows_with_its_length() -> None:
    names = cpp.parse(source("int a; " + "LOG(x) " * 20_000)).references
    assert {reference.kind for reference in names} <= {ReferenceKind.MACRO, ReferenceKind.TYPE, ReferenceKind.CALL}
    assert names


def test_the_name_of_a_specialisation_is_plain_and_its_id_its_own() -> None:
    text = "template <> struct hash<A> { int v; };\ntemplate <> struct hash<B> { int v; };\n"
    symbols = cpp.parse(source(text)).symbols
    assert [symbol.qualified_name for symbol in symbols] == ["hash", "hash::v", "hash", "hash::v"]
    assert len({symbol.id for symbol in symbols}) == 4


DECLARATIONS = [case.text for case in load("cpp_functions.md") + load("cpp_types.md") + load("cpp_templates.md")]
ABOVE = [
    "\n",
    "// words\n\n",
    "int other_one;\n",
    "void other_two(int a) {\n  a;\n}\n",
    "namespace other { class X { int y; }; }\n",
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DECLARATIONS), st.lists(st.sampled_from(ABOVE), min_size=1, max_size=4).map("".join))
def test_ids_are_stable_under_edits_elsewhere(text: str, above: str) -> None:
    before = cpp.parse(source(text)).symbols
    added = len(cpp.parse(source(above)).symbols)
    after = cpp.parse(source(above + text)).symbols
    assert [symbol.id for symbol in after[added:]] == [symbol.id for symbol in before]
    moved = above.count("\n")
    assert [symbol.line - moved for symbol in after[added:]] == [symbol.line for symbol in before]


@pytest.mark.parametrize(
    "text",
    [
        "static int f(int a) { return a; }",
        "static int shared = 1;",
        "namespace { struct A { void f(); }; }",
        "namespace n { namespace { void f(); } }",
        "int main() {}",
    ],
)
def test_what_only_one_file_can_see_has_an_id_of_its_own(text: str) -> None:
    here, there = (
        {symbol.id for symbol in cpp.parse(source(text, path)).symbols if symbol.name != "n"}
        for path in ("a.cc", "b.cc")
    )
    assert here
    assert not here & there


def test_what_every_file_can_see_has_one_id() -> None:
    text = "class A { static int f(); }; inline int g() { return 1; } extern int h; namespace n { void main(); }"
    assert [s.id for s in cpp.parse(source(text, "a.h")).symbols] == [
        s.id for s in cpp.parse(source(text, "b.h")).symbols
    ]


def test_local_classes_of_one_name_in_two_overloads_are_two() -> None:
    text = "void f(int) { struct A { int x; }; }\nvoid f(long) { struct A { int x; }; }\n"
    symbols = [symbol for symbol in cpp.parse(source(text)).symbols if symbol.name == "A"]
    assert [symbol.qualified_name for symbol in symbols] == ["f::A", "f::A"]
    assert len({symbol.id for symbol in symbols}) == 2


def test_a_declaration_in_one_file_has_the_id_of_its_definition_in_another() -> None:
    header = "namespace n { class A { void f(const std::string& name, int limit = 3) const; }; }"
    body = "using namespace n;\nvoid n::A::f(std::string const &s, int) const { return; }"
    (declared,) = (s for s in cpp.parse(source(header, "a.h")).symbols if s.name == "f")
    (defined,) = (s for s in cpp.parse(source(body, "b.cc")).symbols if s.name == "f")
    assert declared.id == defined.id
    assert not declared.is_definition
    assert defined.is_definition


@pytest.mark.parametrize(
    "text", ["enum class : int;\n", "struct A { : int b; };\n", "#define\n", "using = int;\n", "namespace a:: {\n}\n"]
)
def test_a_name_that_is_only_missing_makes_no_symbol_without_a_name(text: str) -> None:
    parsed = cpp.parse(source(text))
    assert all(symbol.name for symbol in parsed.symbols)
    assert all(reference.name for reference in parsed.references)


def test_what_is_missing_at_the_end_of_a_file_is_a_problem_of_its_last_line() -> None:
    parsed = cpp.parse(source("int a;\nint b\n"))
    assert [problem.line for problem in parsed.problems] == [2]
