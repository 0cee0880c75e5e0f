"""Which symbols of two states of a tree differ: what was edited is named, and nothing else."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.comparing import ChangeKind, Side, SymbolChange, compared, macros_of, without_comments
from indexer.files import FileRules

Tree = Mapping[str, str]
OTHER_WAY = {ChangeKind.ADDED: ChangeKind.REMOVED, ChangeKind.REMOVED: ChangeKind.ADDED}
NAMES = ("alpha", "beta", "gamma", "delta")
PATHS = ("a.h", "a.cc", "b.cc")


def changed(before: Tree, after: Tree, renamed: Mapping[str, str] | None = None) -> tuple[SymbolChange, ...]:
    """``renamed`` says what a file of before is called after."""
    names = dict(renamed or {})
    pairs = []
    for path in sorted({*before, *after} - set(names.values())):
        new = names.get(path, path)
        old_side = Side(path, before[path].encode()) if path in before else None
        pairs.append((old_side, Side(new, after[new].encode()) if new in after else None))
    return compared(pairs, macros_of(""), FileRules())


def told(before: Tree, after: Tree) -> set[tuple[ChangeKind, str]]:
    return {(each.kind, each.symbol) for each in changed(before, after)}


@st.composite
def functions(draw: st.DrawFn) -> dict[str, list[tuple[str, int, int]]]:
    """Functions by file: name, number of parameters, and a number within."""
    places = draw(st.lists(st.sampled_from(PATHS), min_size=len(NAMES), max_size=len(NAMES)))
    made: dict[str, list[tuple[str, int, int]]] = {path: [] for path in PATHS}
    for name, path in zip(NAMES, places, strict=True):
        made[path].append((name, draw(st.integers(0, 2)), draw(st.integers(0, 9))))
    return made


def written(made: Mapping[str, list[tuple[str, int, int]]], comment: str = "") -> dict[str, str]:
    return {
        path: "namespace app {\n"
        + "".join(
            f"{comment}int {name}({', '.join(f'int p{each}' for each in range(count))}) {{\n  return {number};\n}}\n\n"
            for name, count, number in there
        )
        + "}  // namespace app\n"
        for path, there in made.items()
    }


@given(functions())
@settings(max_examples=20, deadline=None)
def test_a_tree_does_not_differ_from_itself(made: dict[str, list[tuple[str, int, int]]]) -> None:
    assert not changed(written(made), written(made))


@given(functions(), st.sampled_from(NAMES), st.sampled_from(["body", "signature", "removed", "moved"]), st.data())
@settings(max_examples=60, deadline=None)
def test_what_was_edited_is_named_and_nothing_else(
    made: dict[str, list[tuple[str, int, int]]], name: str, edit: str, data: st.DataObject
) -> None:
    path = next(path for path, there in made.items() if any(each[0] == name for each in there))
    after = {each: list(there) for each, there in made.items()}
    at = next(number for number, each in enumerate(after[path]) if each[0] == name)
    _, count, number = after[path].pop(at)
    if edit == "body":
        after[path].insert(at, (name, count, number + 1))
    elif edit == "signature":
        after[path].insert(at, (name, count + 1, number))
    elif edit == "moved":
        to = data.draw(st.sampled_from([each for each in PATHS if each != path]))
        after[to].append((name, count, number))
    before_text, after_text = written(made), written(after, data.draw(st.sampled_from(["", "// said\n", "\n\n"])))
    assert told(before_text, after_text) == {(ChangeKind(edit), f"app::{name}")}


@given(functions(), functions())
@settings(max_examples=40, deadline=None)
def test_the_other_way_round_what_was_added_is_removed_and_the_rest_is_the_same(
    one: dict[str, list[tuple[str, int, int]]], other: dict[str, list[tuple[str, int, int]]]
) -> None:
    there, back = changed(written(one), written(other)), changed(written(other), written(one))
    assert {(OTHER_WAY.get(each.kind, each.kind), each.symbol, each.after, each.before) for each in there} == {
        (each.kind, each.symbol, each.before, each.after) for each in back
    }


@given(st.text(alphabet="/*\"'\\\nRu8(x) a", max_size=200))
@settings(max_examples=200, deadline=None)
def test_lines_keep_their_numbers_without_comments(text: str) -> None:
    assert without_comments(text).count("\n") == text.count("\n")


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_no_text_is_too_broken_to_be_compared(one: bytes, other: bytes) -> None:
    compared([(Side("a.cc", one), Side("a.cc", other))], macros_of(""), FileRules())


HEADER = """class Queue {
 public:
  // Takes one.
  int Take(int most = 1);
  int size() const { return size_; }

 private:
  int size_ = 0;
};
constexpr int kMost = 2;
enum class Way {
  kIn,
  kOut
};
"""
SOURCE = """#include "queue.h"
int Queue::Take(int most) {
  return most;  // all of them
}
"""
TREE = {"queue.h": HEADER, "queue.cc": SOURCE}


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("queue.cc", "return most;", "return  most ;", set()),
        ("queue.cc", "// all of them", "/* some\n of them */", set()),
        ("queue.cc", "return most;", "return most + 1;", {("body", "Queue::Take")}),
        ("queue.h", "int most = 1", "int most = 2", {("signature", "Queue::Take")}),
        ("queue.h", "return size_;", "return size_ + 0;", {("body", "Queue::size")}),
        ("queue.h", "int size_ = 0;", "long size_ = 0;", {("signature", "Queue::size_")}),
        ("queue.h", "int size_ = 0;", "int size_ = 0;\n  int most_ = 1;", {("added", "Queue::most_")}),
        ("queue.h", "kMost = 2", "kMost = 4", {("body", "kMost")}),
        ("queue.h", "  kOut\n", "  kOut,\n  kBoth\n", {("added", "Way::kBoth")}),
        ("queue.h", " private:\n", "", {("signature", "Queue::size_"), ("body", "Queue")}),
        ("queue.h", "class Queue {", "class Base;\nclass Queue {", set()),
        ("queue.h", "class Queue {", "class Queue final {", {("signature", "Queue")}),
    ],
)
def test_an_edit_is_told_as_a_developer_would_call_it(
    path: str, old: str, new: str, expected: set[tuple[str, str]]
) -> None:
    after = {**TREE, path: TREE[path].replace(old, new)}
    assert after != TREE
    assert {(kind.value, symbol) for kind, symbol in told(TREE, after)} == expected


def test_a_further_parameter_is_one_change_of_the_declaration_and_the_definition() -> None:
    after = {path: text.replace("int most", "int least, int most") for path, text in TREE.items()}
    (change,) = changed(TREE, after)
    assert (change.kind, change.path, change.line) == (ChangeKind.SIGNATURE, "queue.cc", 2)
    assert change.before == "int Queue::Take(int most)"
    assert change.after == "int Queue::Take(int least, int most)"


def test_a_class_that_goes_takes_its_members_with_it() -> None:
    (change,) = [each for each in changed(TREE, {}) if each.symbol == "Queue"]
    assert (change.kind, change.members) == (ChangeKind.REMOVED, 3)
    assert {each.symbol for each in changed(TREE, {})} == {"Queue", "kMost", "Way"}


def test_a_file_that_is_only_called_otherwise_moves_none_of_its_symbols() -> None:
    after = {"line.h": HEADER, "queue.cc": SOURCE}
    assert changed(TREE, after, {"queue.h": "line.h"}) == ()
    # Without the word of git that it is the same file, all that it holds has moved.
    assert {each.kind for each in changed(TREE, after)} == {ChangeKind.MOVED}


def test_functions_of_one_name_in_two_files_are_kept_apart() -> None:
    before = {"a.cc": "static int help() { return 1; }\n", "b.cc": "static int help() { return 2; }\n"}
    after = {**before, "b.cc": "static int help() { return 3; }\n"}
    (change,) = changed(before, after)
    assert (change.kind, change.path) == (ChangeKind.BODY, "b.cc")


def test_an_overload_that_comes_is_added_beside_the_other() -> None:
    before = {"a.cc": "int f(int a) { return a; }\n"}
    after = {"a.cc": "int f(int a) { return a; }\nint f(long a) { return 1; }\n"}
    assert told(before, after) == {(ChangeKind.ADDED, "f")}
