"""Outputs of builds and tests as findings: read without ever raising, bounded, and the same with colours."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from agents.model import Finding, FindingKind, Run, RunState, Step
from agents.results import kept, linked, read, told
from agents.results.linking import Before
from agents.results.output import MOST_DETAIL_LINE, MOST_DETAIL_LINES, MOST_FINDINGS, MOST_MESSAGE, plain_name
from hub import config
from hub.auth.model import LOCAL, Scope
from hub.knowledge import Anchor, NoteKind, Sessions
from hub.service import Service
from hub.workspaces import Workspaces
from tests.support import cases
from tests.support.desks import holder
from tests.support.trees import index_of, write_tree

SOURCE = "/src"
CASES = cases.load("results_*.md")
ESCAPE = chr(27)
# Beginnings and ends of what the recognisers look for, in any order.
PIECES = (
    *"""
a.cpp:1:2: error: |a.cpp:3: |In file included from a.h:1:|a.cpp:1:2:   required from here|note: x|   12 | int x;
  ^~~|/usr/bin/ld: a.o: in function `f()':|undefined reference to `f()'|ld.lld: error: undefined symbol:
>>> referenced by a.cpp:3|[ RUN      ] A.B|[  FAILED  ] A.B (0 ms)|[       OK ] A.B|a.cpp:3: Failure|Which is: 1
a.cpp:4: FAILED:|with expansion:|==1==ERROR: AddressSanitizer: x|    #0 0x1 in f() /src/a.cpp:3:4
SUMMARY: AddressSanitizer: x|Direct leak of 1 byte(s) in 1 object(s) allocated from:|CMake Error at a:1 (f):
1/2 Test #1: x ....***Failed 0.1 sec|    Start 2: y|test 1|1: |  1 - x (Failed)|The following tests FAILED:
make: *** [a:1: x] Error 1
make[1]: Entering directory '/src/x'|ninja: error: |terminate called after throwing an instance of 'x'
Segmentation fault|a: a.cpp:3: f: Assertion `x' failed.|[{"kind": "error"|TEST CASE:  x|==1== Invalid read
==1==    at 0x1: f (a.c:3)|operator|<|>|(|)|'|`|::|: |- - -""".replace("\n", "|").split("|"),
    *("-" * 79, "=" * 79, "." * 79, ESCAPE + "[31m", ESCAPE + "]8;;x", "\r", "\u202e", "\ud800", "\0"),
)


TREE: dict[str, str | bytes] = {
    "src/stack.h": "#pragma once\n#include <vector>\nnamespace app {\nclass Stack {\n public:\n"
    "  void Push(int value);\n  int Pop();\n  int Size() const;\n\n private:\n  std::vector<int> values_;\n};\n"
    "int Unused(int value);\n}\n",
    "src/stack.cc": '#include "stack.h"\n\nnamespace app {\n\n'
    "void Stack::Push(int value) {\n  values_.push_back(value);\n}\n\n"
    "int Stack::Pop() {\n  const int last = values_.back();\n  values_.pop_back();\n  return last;\n}\n\n"
    "int Stack::Size() const { return static_cast<int>(values_.size()); }\n\n}  // namespace app\n",
    "tests/stack_test.cc": '#include <gtest/gtest.h>\n#include "stack.h"\n\nusing app::Stack;\n\n'
    "void Fill(Stack* stack) {\n  stack->Push(1);\n}\n\n"
    "TEST(StackTest, IsEmptyAtFirst) {\n  Stack stack;\n  EXPECT_EQ(stack.Size(), 0);\n}\n\n"
    "TEST(StackTest, GivesBackTheLast) {\n  Stack stack;\n  Fill(&stack);\n  stack.Push(2);\n"
    "  EXPECT_EQ(stack.Pop(), 2);\n  EXPECT_EQ(stack.Size(), 1);\n}\n\n"
    "TEST_P(StackSizes, AreKept) {\n  Stack stack;\n  EXPECT_EQ(stack.Size(), GetParam());\n}\n",
    "tests/catch_test.cc": '#include <catch2/catch.hpp>\n#include "stack.h"\n\n'
    'TEST_CASE("a stack, when it is full") {\n  app::Stack stack;\n  stack.Push(3);\n'
    "  REQUIRE(stack.Pop() == 4);\n}\n\n"
    'SCENARIO("it grows") {\n  app::Stack stack;\n  REQUIRE(stack.Size() == 4);\n}\n',
    "other/stack.cc": "int StackOfAnother() {\n  return 1;\n}\n",
    "CMakeLists.txt": "project(app)\nadd_executable(stack_test tests/stack_test.cc)\n"
    "add_test(NAME stack_test COMMAND stack_test)\n",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("linked")
    index_of(write_tree(folder / "tree", TREE), folder / "data")
    settings = config.load(
        {"data": folder / "data", "backend": "none", "embeddings": "none"}, environment={}, folder=folder
    )
    with closing(Workspaces(settings)) as workspaces, workspaces.opened(LOCAL, "w") as opened:
        yield opened


def looked_up(service: Service, output: str) -> list[str]:
    return [shown(each).rstrip("\n") for each in linked(read(output, SOURCE), service)]


def shown(finding: Finding) -> str:
    where = f"{finding.path}:{finding.line}" if finding.line else finding.path or "-"
    test = f" [{finding.test}]" if finding.test else ""
    names = f" => {', '.join(finding.symbols)}" if finding.symbols else ""
    return f"{finding.kind} {finding.tool} {where}{test} {finding.message}{names}\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_output_is_read_into_findings(case: cases.Case) -> None:
    cases.check(case, "".join(map(shown, read(case.text, SOURCE))))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_colours_links_and_line_ends_of_terminals_change_nothing(case: cases.Case) -> None:
    plain = read(case.text, SOURCE)
    coloured = re.sub(
        r"\b(error|warning|FAILED|ERROR)\b", rf"{ESCAPE}[01;31m{ESCAPE}[K\1{ESCAPE}[m{ESCAPE}[K", case.text
    )
    linked = re.sub(r"\[(-W[\w=-]+)\]", rf"[{ESCAPE}]8;;https://host/\1{ESCAPE}\\\1{ESCAPE}]8;;{ESCAPE}\\]", coloured)
    assert read(linked, SOURCE) == plain
    assert read(case.text.replace("\n", "\r\n"), SOURCE) == plain
    assert read(f"10% [==>  ]\r90% [====>]\r{case.text}", SOURCE) == plain


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_path_outside_of_the_tree_is_told(case: cases.Case) -> None:
    for finding in read(case.text, SOURCE):
        assert not finding.path.startswith(("/", "../")), finding
        assert finding.line == 0 or finding.path, finding


@given(some.lists(some.sampled_from(PIECES) | some.sampled_from(["\n"]) | some.text(max_size=8), max_size=60))
@example([ESCAPE + "[", "\n"] * 20)
@example(["[{" * 3_000])
def test_whatever_stands_in_an_output_is_read_and_bounded(pieces: list[str]) -> None:
    findings = read("".join(pieces), SOURCE)
    assert len(findings) <= MOST_FINDINGS
    for finding in findings:
        assert len(finding.message) <= MOST_MESSAGE
        assert "\n" not in finding.message + finding.path + finding.test
        lines = finding.detail.split("\n")
        assert len(lines) <= MOST_DETAIL_LINES
        assert all(len(line) <= MOST_DETAIL_LINE for line in lines)
        assert finding.line >= 0
        whole = f"{finding.message}{finding.detail}{finding.path}{finding.test}{finding.symbols}"
        assert not set(whole) & {"\0", ESCAPE, "\r", "\u202e", "\ud800"}, "covert characters are spelt out"
        json.dumps(whole).encode()


@given(some.lists(some.sampled_from(CASES), min_size=1, max_size=3))
def test_outputs_after_one_another_tell_of_each_error_that_they_tell_of_alone(chosen: list[cases.Case]) -> None:
    together = {(each.path, each.line, each.message) for each in read("\n\n".join(c.text for c in chosen), SOURCE)}
    for case in chosen:
        alone = [each for each in read(case.text, SOURCE) if each.kind is FindingKind.ERROR]
        firm = [each for each in alone if each.tool in ("gcc", "ld", "cmake") and each.path]
        assert {(each.path, each.line, each.message) for each in firm} <= together


def test_many_errors_are_cut_before_they_are_too_many_and_warnings_first() -> None:
    text = "".join(f"a.cpp:{n}:1: warning: w{n}\nb.cpp:{n}:1: error: e{n}\n" for n in range(1, MOST_FINDINGS))
    findings = read(text)
    assert len(findings) == MOST_FINDINGS
    assert [each.message for each in findings[:-1]] == [f"e{n}" for n in range(1, MOST_FINDINGS)]


def test_one_error_of_a_header_that_many_files_include_is_told_once() -> None:
    text = "".join(f"In file included from u{n}.cpp:1:\nh.h:3:1: error: no\n" for n in range(9))
    assert [shown(each) for each in read(text)] == ["error gcc h.h:3 no\n"]


def test_what_is_longer_than_is_read_keeps_its_beginning_and_its_end() -> None:
    noise = "-- looking for things\n" * 80_000
    findings = read(f"a.cpp:1:1: error: first\n{noise}b.cpp:2:2: error: last\n")
    assert [each.message for each in findings] == ["first", "last"]


def test_an_output_that_tells_nothing_has_no_findings() -> None:
    assert read("") == read("[100%] Built target x\nall good: 3 errors corrected\n") == ()
    assert told(()) == "nothing found in the output"
    assert told(read("a.cpp:1:1: error: x\nb.cpp:1:1: error: y\nc.cpp:1:1: warning: z\n")) == "2 errors, 1 warning"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("ns::Foo<int>::bar(char const*) const", "ns::Foo::bar"),
        ("std::vector<int, std::allocator<int> > ns::make<std::map<int, int> >(int)", "ns::make"),
        ("vtable for ns::Base", "ns::Base"),
        ("non-virtual thunk to ns::Base::run()", "ns::Base::run"),
        ("(anonymous namespace)::helper(int)", "helper"),
        ("ns::Foo::operator()(int) const", "ns::Foo::operator()"),
        ("ns::operator<<(std::ostream&, int)", "ns::operator<<"),
        ("bool operator==<int>(A<int> const&, A<int> const&)", "operator=="),
        ("ns::Foo::~Foo()", "ns::Foo::~Foo"),
        ("f[abi:cxx11](int)", "f"),
        ("int", ""),
        ("(int*)", ""),
        ("3 + 4", ""),
    ],
)
def test_a_name_is_told_without_types_and_arguments(written: str, name: str) -> None:
    assert plain_name(written) == name


def test_a_failed_test_leads_to_what_its_line_calls_then_to_what_was_called_before_then_to_itself(
    service: Service,
) -> None:
    output = (
        "[ RUN      ] StackTest.GivesBackTheLast\n/src/tests/stack_test.cc:19: Failure\n"
        "Expected equality of these values:\n  stack.Pop()\n    Which is: 1\n  2\n"
        "[  FAILED  ] StackTest.GivesBackTheLast (0 ms)\n"
    )
    (found,) = looked_up(service, output)
    assert found == (
        "test gtest tests/stack_test.cc:19 [StackTest.GivesBackTheLast] Expected equality of these values:"
        " stack.Pop() is 1; 2 => app::Stack::Pop, app::Stack::Push, app::Stack::Size, StackTest.GivesBackTheLast"
    )


def test_a_parameterised_test_is_found_under_its_plain_name(service: Service) -> None:
    (finding,) = linked(read("[  FAILED  ] All/StackSizes.AreKept/2, where GetParam() = 3 (0 ms)\n"), service)
    assert finding.symbols == ("app::Stack::Size", "StackSizes.AreKept")


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("a stack, when it is full", ("app::Stack::Pop", "app::Stack::Push", "a stack, when it is full")),
        ("a stack, when it is full/of three", ("app::Stack::Pop", "app::Stack::Push", "a stack, when it is full")),
        ("Scenario: it grows", ("app::Stack::Size", "it grows")),
        ("of no test", ()),
    ],
)
def test_a_test_that_is_named_in_words_is_found(service: Service, name: str, symbols: tuple[str, ...]) -> None:
    finding = Finding(FindingKind.TEST, "Pop() == 4", "catch2", test=name)
    assert linked([finding], service)[0].symbols == symbols


def test_a_check_of_a_home_made_macro_leads_to_the_function_at_its_line(service: Service) -> None:
    output = (
        "1/1 Test #1: stack_test ...Subprocess aborted***Exception:   0.01 sec\n"
        "/src/tests/stack_test.cc:12: check failed: stack.Size() == 0\n"
    )
    (found,) = looked_up(service, output)
    assert found == (
        "test assert tests/stack_test.cc:12 [stack_test] check failed: stack.Size() == 0"
        " => app::Stack::Size, StackTest.IsEmptyAtFirst"
    ), "stack_test is a target of CMake and no function"


def test_what_a_linker_misses_leads_to_its_declaration(service: Service) -> None:
    output = "/usr/bin/ld: /src/src/stack.cc:11: undefined reference to `app::Unused(int)'\n"
    assert looked_up(service, output) == [
        "error ld src/stack.cc:11 undefined reference to `app::Unused(int)' => app::Unused, app::Stack::Pop"
    ]


def test_an_error_leads_to_what_it_stands_in(service: Service) -> None:
    output = (
        "/src/src/stack.cc: In member function 'int app::Stack::Pop()':\n/src/src/stack.cc:10:3: error: no 'x' here\n"
    )
    assert looked_up(service, output) == ["error gcc src/stack.cc:10 no 'x' here => app::Stack::Pop"]


def test_a_file_named_without_its_folders_is_found_where_only_one_is_meant(service: Service) -> None:
    assert looked_up(service, "stack_test.cc:12:1: error: x\n") == [
        "error gcc tests/stack_test.cc:12 x => StackTest.IsEmptyAtFirst"
    ]
    assert looked_up(service, "stack.cc:5:1: error: x\n") == ["error gcc stack.cc:5 x"], "two are called so"
    assert looked_up(service, "lib/src/stack.cc:5:1: error: x\n") == ["error gcc src/stack.cc:5 x => app::Stack::Push"]
    assert looked_up(service, "build/made.cc:5:1: error: x\n") == ["error gcc build/made.cc:5 x"]


def test_lines_of_a_patched_tree_are_looked_up_where_they_were_before(service: Service) -> None:
    patch = (
        '--- a/src/stack.cc\n+++ b/src/stack.cc\n@@ -1,5 +1,8 @@\n #include "stack.h"\n \n+// one\n+// two\n+// three\n'
        " namespace app {\n \n void Stack::Push(int value) {\n@@ -12,3 +15,2 @@\n   return last;\n-}\n \n"
    )
    for line, symbol in ((8, "app::Stack::Push"), (13, "app::Stack::Pop"), (17, "app::Stack::Size")):
        (finding,) = linked(read(f"src/stack.cc:{line}:1: error: x\n"), service, patch)
        assert (finding.line, finding.symbols) == (line, (symbol,))
    (finding,) = linked(read("src/stack.cc:17:1: error: x\n"), service)
    assert finding.symbols == ()


@given(some.text(max_size=60).map(lambda text: f"+++ b/a\n@@ -1,3 +1,4 @@\n{text}"), some.integers(0, 99))
def test_whatever_stands_in_a_patch_some_line_is_meant(patch: str, line: int) -> None:
    assert isinstance(Before(patch).line("a", line), int)


def test_a_run_becomes_notes_that_the_next_run_of_its_recipe_marks(service: Service, tmp_path: Path) -> None:
    principal = holder("a", Scope.READ, Scope.KNOWLEDGE)
    failed = (
        "[ RUN      ] StackTest.IsEmptyAtFirst\n/src/tests/stack_test.cc:12: Failure\nwrong\n"
        "[  FAILED  ] StackTest.IsEmptyAtFirst\n"
    )
    run = Run(
        "r1",
        "w",
        "tests",
        "a",
        RunState.FAILED,
        "0123456789abcdef",
        steps=(Step(("ctest",), 8, 1.0),),
        diff="--- a/src/stack.cc\n+++ b/src/stack.cc\n@@ -1 +1 @@\n-a\n+b\n",
        findings=linked(read(failed, SOURCE), service),
    )
    with closing(Sessions(tmp_path / "sessions.db")) as sessions:
        handle = sessions.open(principal, "w").handle
        notes = kept(sessions, principal, handle, run)
        assert [note.kind for note in notes] == [NoteKind.RUN, NoteKind.DIFF, NoteKind.FINDING]
        assert notes[0].title == "tests: failed"
        assert "ctest ended with 8" in notes[0].text
        assert notes[1].anchors == (Anchor(path="src/stack.cc"),)
        assert notes[2].anchors == (
            Anchor(path="tests/stack_test.cc", line=12),
            Anchor("app::Stack::Size"),
            Anchor("StackTest.IsEmptyAtFirst"),
        )
        (near, *_) = sessions.near(principal, handle, ["Stack::Size"], [])
        assert near == notes[2]
        assert not near.later
        kept(sessions, principal, handle, Run("r2", "w", "tests", "a", RunState.PASSED, "0123456789abcdef"))
        (near, *_) = sessions.near(principal, handle, ["Stack::Size"], [])
        assert near.later == "tests ran again since (r2): passed"
        kept(sessions, principal, handle, run)
        (near, *_) = sessions.near(principal, handle, ["Stack::Size"], [])
        assert not near.later, "it was found again"


def test_a_run_that_came_to_no_end_marks_nothing_and_the_largest_diff_is_cut(tmp_path: Path) -> None:
    principal = holder("a", Scope.READ, Scope.KNOWLEDGE)
    findings = read("a.cpp:1:1: error: x\n")
    with closing(Sessions(tmp_path / "sessions.db")) as sessions:
        handle = sessions.open(principal, "w").handle
        kept(sessions, principal, handle, Run("r1", "w", "b", "a", RunState.FAILED, "0" * 40, findings=findings))
        diff = "--- a/x\n+++ b/x\n" + "+\u202e\U000e0041ä\n" * 40_000
        notes = kept(sessions, principal, handle, Run("r2", "w", "b", "a", RunState.BROKEN, "0" * 40, diff=diff))
        assert notes[1].text.endswith("… cut short")
        found = [each for each in sessions.notes(principal, handle) if each.kind is NoteKind.FINDING]
        assert [each.later for each in found] == [""]
