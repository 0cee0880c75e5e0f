"""What the code of a file uses, and what is known of the operands: the cases stand in cases/uses_*.md."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import cpp
from indexer.model import Context, Language, ParsedFile, ReferenceKind, SourceFile
from tests.support.cases import Case, check, load
from tests.support.hints import check_operands

Shown = tuple[int, str, str, str, Context]


def parse(text: str) -> ParsedFile:
    return cpp.parse(SourceFile("a.cc", Language.CPP, len(text), 0, "", text))


def uses(parsed: ParsedFile) -> str:
    """One line a use: its place, kind and name, its operands, and behind a bar where it is looked up from."""
    lines: list[str] = []
    for reference in parsed.references:
        operands = f" {json.dumps(json.loads(reference.operands), ensure_ascii=False)}" if reference.operands else ""
        context = parsed.contexts[reference.context]
        place = "; ".join([part for part in (context.scope, *context.usings) if part])
        where = f" | {place}" if place else ""
        lines.append(f"{reference.span.first_line}: {reference.kind} {reference.name}{operands}{where}\n")
    return "".join(lines)


def shown(parsed: ParsedFile, last_line: int = 10**6) -> list[Shown]:
    """The uses up to a line, apart from the symbols they stand in."""
    return [
        (use.span.first_line, use.kind, use.name, use.operands, parsed.contexts[use.context])
        for use in parsed.references
        if use.span.first_line <= last_line
    ]


@pytest.mark.parametrize("case", load("uses_*.md"), ids=lambda case: case.name)
def test_a_small_file_gives_the_uses_of_its_case(case: Case) -> None:
    check(case, uses(parse(case.text)))


FRAGMENTS = [
    *("{", "}", "(", ")", ";", ",", "<", ">", "[", "]", " = ", "*", "&", "&&", "...", "::", ".", "->", "++", "-", "<<"),
    *("\n", " ", "==", "!", "?", ":", "if (", "for (", "while (", "switch (", "catch (", "try {", "return ", "new "),
    *("auto ", "const ", "static ", "int ", "unsigned ", "Foo ", "std::string ", "T ", "x", "y", "f", "g_", "this"),
    *("[&]", "[x = y]", "(auto z)", "auto [a, b] = ", "template <class T> ", "using namespace n;", "using V = Foo;"),
    *("class C : public B {", "void f(Foo x, int y) {", "C::C() : x(1), y{2} {", "operator+", "co_await ", "sizeof("),
    *('"s"', 'R"(r)"', "u8'c'", "L'c'", "12_km", '"s"_x', "1'000ul", "0x1p3", "nullptr", "true", "static_cast<Foo*>("),
    *("decltype(auto) ", "typename T::U ", "x.template f<T>()", "// c\n", "/* c */", "#if A\n", "#endif\n", "\\\n"),
]
anything = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join), st.text(max_size=80))

# Statements about the local @, one a line.
STATEMENTS = [
    "Foo @(1);",
    "Foo @;",
    "auto @ = Find(key);",
    "auto [@, other] = Pair();",
    "const Foo* @ = &global;",
    "for (auto& @ : items) { @.go(); }",
    "for (const Foo& @ : items) @.go();",
    "if (auto* @ = Find()) @->go();",
    "auto l = [@ = Make()](Foo f) { return @ + f; };",
    "auto m = [](Foo @) { @.go(@, 1); };",
    "try { go(); } catch (const Error& @) { @.what(); }",
    "std::function<void()> @ = Callback;",
    "@.go(@, &@, *@, -@);",
    "@->field.go(@->next, @[1]);",
    "@(1, 2);",
    "use(@ == other_, @ ? 1 : @.size(), (Foo*)@, Foo{@}, @++);",
    "@ = Foo(@);",
    "return take(std::move(@));",
    "CHECK_EQ(@, call(@));",
    "{ Foo @; @.go(); }",
    "Foo w(@, size());",
]
bodies = st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=8)


def program(body: list[str], name: str) -> str:
    return "\n".join(["void C::f(const Foo& @) {", *body, "}", ""]).replace("@", name)


@given(anything)
def test_operands_keep_to_the_language_of_hints_whatever_the_text(text: str) -> None:
    for reference in parse(text).references:
        assert bool(reference.operands) <= (reference.kind in (ReferenceKind.CALL, ReferenceKind.MACRO))
        if reference.operands:
            check_operands(reference.operands)


@given(anything)
def test_a_use_lies_inside_the_symbol_it_stands_in_and_names_a_context_of_its_file(text: str) -> None:
    parsed = parse(text)
    for use in parsed.references:
        assert use.name
        assert 0 <= use.context < len(parsed.contexts)
        spans = [symbol.span for symbol in parsed.symbols if symbol.id == use.inside]
        assert use.inside is None or any(s.first_line <= use.span.first_line <= s.last_line for s in spans)


@given(bodies)
def test_another_name_for_a_local_changes_no_use(body: list[str]) -> None:
    assert shown(parse(program(body, "x"))) == shown(parse(program(body, "number_of_things")))


@given(bodies, bodies)
def test_a_statement_added_behind_changes_no_use_before_it(body: list[str], added: list[str]) -> None:
    last_line = 1 + len(body)
    before = shown(parse(program(body, "x")), last_line)
    assert before == shown(parse(program(body + added, "x")), last_line)
    assert before


@given(bodies)
def test_calls_are_read_alike_from_their_text_and_from_their_nodes(body: list[str]) -> None:
    plain = program(body, "x")
    commented = re.sub(r"(?<=\w)\((?=[^()\s])", "(/**/", plain)
    assert shown(parse(plain)) == shown(parse(commented))


@pytest.mark.parametrize(
    "text",
    [
        "void f() { g(" + "++" * 3_000 + "x); }",
        "void f() { g(" + "(1, " * 3_000 + "x" + ")" * 3_000 + "); }",
        "void f() { g(" + "a << (" * 3_000 + "x" + ")" * 3_000 + "); }",
        "void f() { g(" + "((" * 1_000 + "x" + " = 1)))" * 1_000 + "); }",
        "void f() { x" + ".g(x).h" * 3_000 + "(); }",
        "void f() { x" + "->y" * 3_000 + "(); }",
        "void f() { g(" + "x + " * 3_000 + "1); }",
        "void f() { g(" + "x, " * 5_000 + "1); }",
        "void f() { g(" + "{" * 3_000 + "}" * 3_000 + "); }",
        "void f() { auto a = g(h()); " + "auto a = g(a, a, a, a, a, a); " * 200 + " k(a); }",
        "void f() { " + "auto l = [=] { g(); " * 1_000 + "}; " * 1_000 + " }",
        "void f() { " + "using namespace a{}; ".replace("{}", "b") * 500 + "g(); }",
        "".join(f"using namespace n{i};\nint v{i} = g();\n" for i in range(300)),
        "std::map<" * 1_000 + "int" + ">" * 1_000 + " x; void f() { x.g(); }",
    ],
    ids=lambda text: text[:30],
)
def test_what_is_known_of_operands_stays_small_however_the_text_nests(text: str) -> None:
    parsed = parse(text)
    assert parsed.references
    for use in parsed.references:
        assert len(use.operands) < 5_000
        if use.operands:
            check_operands(use.operands)
    assert all(len(context.usings) <= 64 for context in parsed.contexts)
