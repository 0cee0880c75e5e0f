"""What a change reaches: reading diffs, mapping their lines to symbols, and the groups that come out."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import impact
from hub.errors import ChangeError
from hub.impact import MOST_DIFF_CHARS, changes_of, of_diff, of_symbols
from indexer.index import DataFolder, Index
from tests.support.trees import index_of, write_tree

TREE: dict[str, str | bytes] = {
    "src/shape.h": """#pragma once
namespace geo {
class Shape {
 public:
  virtual ~Shape();
  virtual double Area() const;
  int sides = 0;
};
double Twice(double value);
}  // namespace geo
""",
    "src/shape.cc": """#include "shape.h"
namespace geo {
Shape::~Shape() {}
double Shape::Area() const {
  return 0;
}

double Twice(double value) {
  return value * 2;
}
}  // namespace geo
""",
    "src/square.cc": """#include "shape.h"
namespace geo {
class Square : public Shape {
  double Area() const override { return Twice(2); }
};
}  // namespace geo
""",
    "tests/shape_test.cc": """#include "../src/shape.h"
double CheckTwice() {
  return geo::Twice(1) + Vanished(3);
}
""",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    base = tmp_path_factory.mktemp("impact")
    index_of(write_tree(base / "tree", TREE), base / "data")
    with Index.for_reading(DataFolder(base / "data"), "w") as opened:
        yield opened


def diff_of(path: str, hunk: str, old: str | None = None) -> str:
    return f"diff --git a/{old or path} b/{path}\n--- a/{old or path}\n+++ b/{path}\n{hunk}"


# Reading diffs

LINES = st.lists(st.sampled_from(["a", "b", "c", "-", "+x", "--- d", "+++ e", "diff f", "@@ -1 +1 @@"]), max_size=8)


@given(LINES, LINES)
def test_what_diff_writes_is_read_back(before: list[str], after: list[str]) -> None:
    """Applying the changed lines to the new text, and leaving out those, gives what both texts share."""
    import difflib

    for context in (0, 3):
        written = "\n".join(difflib.unified_diff(before, after, "a/x.cc", "b/x.cc", n=context, lineterm=""))
        changes = changes_of(written)
        if before == after:
            assert changes == ()
            continue
        (change,) = changes
        assert (change.path, change.removed) == ("x.cc", False)
        touched = {line for first, last in change.lines for line in range(first, last + 1)}
        kept = [text for number, text in enumerate(after, 1) if number not in touched]
        assert len(kept) + len(change.cut) == len(before)
        assert all(0 <= gap <= len(after) for gap in change.gaps)


@given(st.text(alphabet='+-@ a/bd\\"1,\n\t', max_size=200))
def test_any_text_is_read_to_its_end(text: str) -> None:
    for change in changes_of(f"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n{text}"):
        assert all(first <= last for first, last in change.lines)


def test_a_line_that_looks_like_a_heading_inside_a_hunk_is_a_line() -> None:
    (change,) = changes_of(diff_of("x.cc", "@@ -1,2 +1,2 @@\n--- a/other.cc\n-- y\n+++ b/other.cc\n+new\n"))
    assert change.path == "x.cc"
    assert change.cut == ("-- a/other.cc", "- y")
    assert change.lines == ((1, 2),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("--- /dev/null\n+++ b/new.cc\n@@ -0,0 +1,2 @@\n+a\n+b\n", [("new.cc", False, ((1, 2),))]),
        ("--- a/old.cc\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", [("old.cc", True, ())]),
        (
            "diff --git a/o.cc b/n.cc\nsimilarity index 100%\nrename from o.cc\nrename to n.cc\n",
            [("n.cc", False, ()), ("o.cc", True, ())],
        ),
        (
            '--- "a/\\303\\244 \\"b.cc"\n+++ "b/\\303\\244 \\"b.cc"\n@@ -1 +1 @@\n-a\n+b\n',
            [('ä "b.cc', False, ((1, 1),))],
        ),
        ("--- x.cc\t2024-01-01 10:00\n+++ x.cc\t2024-01-02 10:00\n@@ -1 +1 @@\n-a\n+b\n", [("x.cc", False, ((1, 1),))]),
        (
            "--- a/one\n+++ b/one\n@@ -1 +1 @@\n-a\n+b\n--- a/two\n+++ b/two\n@@ -5,0 +6 @@\n+c\n",
            [("one", False, ((1, 1),)), ("two", False, ((6, 6),))],
        ),
        ("no diff at all\n", []),
        ("", []),
    ],
)
def test_the_forms_that_git_and_diff_write_are_read(text: str, found: list[object]) -> None:
    assert [(change.path, change.removed, change.lines) for change in changes_of(text)] == found


def test_a_diff_that_is_too_large_is_refused_with_a_way_out() -> None:
    with pytest.raises(ChangeError, match="million characters") as caught:
        changes_of("x" * (MOST_DIFF_CHARS + 1))
    assert caught.value.hint


# From lines to symbols


def changed(index: Index, hunk: str, path: str = "src/shape.h") -> list[str]:
    return [f"{s.kind.value} {s.qualified_name}" for s in of_diff(index, diff_of(path, hunk), 1).changed]


@pytest.mark.parametrize(
    ("hunk", "found"),
    [
        ("@@ -9 +9 @@\n-x\n+double Twice(double value);\n", ["function geo::Twice"]),
        ("@@ -6 +6 @@\n-x\n+  virtual double Area() const;\n", ["method geo::Shape::Area"]),
        ("@@ -7 +7 @@\n-x\n+  int sides = 0;\n", ["class geo::Shape", "field geo::Shape::sides"]),
        ("@@ -5,2 +4,0 @@\n-  int gone;\n-  int also;\n", ["class geo::Shape"]),
        ("@@ -1 +1 @@\n-x\n+#pragma once\n", []),
        ("@@ -10 +10 @@\n-x\n+}  // namespace geo\n", []),
    ],
)
def test_a_changed_line_changes_the_innermost_symbol_that_holds_it(index: Index, hunk: str, found: list[str]) -> None:
    assert changed(index, hunk) == found


def test_a_changed_body_changes_the_function_alone(index: Index) -> None:
    assert changed(index, "@@ -9 +9 @@\n-x\n+  return value * 2;\n", "src/shape.cc") == ["function geo::Twice"]


# What is reached


def reached(found: impact.Impact) -> set[tuple[str, str, int]]:
    return {(one.group, one.name, one.line) for one in found.reached}


def test_a_changed_function_reaches_its_callers_and_the_tests_among_them(index: Index) -> None:
    found = of_symbols(index, index.facts.symbols_named("geo::Twice", 10), 3)
    assert reached(found) == {("callers", "geo::Square::Area", 4), ("callers", "CheckTwice", 3)}
    assert {one.name for one in found.reached if one.is_test} == {"CheckTwice"}


def test_a_changed_header_reaches_the_files_that_include_it_and_what_derives_from_its_class(index: Index) -> None:
    found = of_diff(index, diff_of("src/shape.h", "@@ -7 +7 @@\n-x\n+  int sides = 0;\n"), 2)
    assert {("included by", path, 1) for path in ("src/shape.cc", "src/square.cc", "tests/shape_test.cc")} <= reached(
        found
    )
    assert ("derived", "geo::Square", 3) in reached(found)
    assert found.files == ("src/shape.h",)


def test_a_changed_virtual_method_reaches_what_overrides_it(index: Index) -> None:
    methods = index.facts.symbols_named("Shape::Area", 10)
    assert ("overrides", "geo::Square::Area", 4) in reached(of_symbols(index, methods, 1))


def test_a_removed_declaration_reaches_those_who_still_use_it(index: Index) -> None:
    hunk = "@@ -9,2 +9 @@\n double Twice(double value);\n-double Vanished(int x);\n"
    found = of_diff(index, diff_of("src/shape.h", hunk), 1)
    (left,) = [one for one in found.reached if one.group == "left behind"]
    assert (left.name, left.reason) == ("CheckTwice", "uses Vanished, which src/shape.h no longer declares")
    again = of_diff(index, diff_of("src/shape.h", hunk.replace("-double", "-  return")), 1)
    assert not [one for one in again.reached if one.group == "left behind"]


def test_a_removed_file_changes_all_that_it_held(index: Index) -> None:
    text = "--- a/src/shape.cc\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    names = {s.qualified_name for s in of_diff(index, text, 1).changed}
    assert {"geo::Shape::Area", "geo::Twice"} <= names


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "x/../../y.cc"])
def test_a_path_that_leads_out_of_the_tree_is_left_out_with_a_note(index: Index, path: str) -> None:
    found = of_diff(index, f"--- {path}\n+++ {path}\n@@ -1 +1 @@\n-a\n+b\n", 1)
    assert found.files == ()
    assert found.notes == (f"{path} leads out of the tree and is left out.",)


def test_a_path_from_above_the_tree_means_the_file_in_it(index: Index) -> None:
    hunk = "@@ -9 +9 @@\n-x\n+double Twice(double value);\n"
    assert changed(index, hunk, "tree/src/shape.h") == ["function geo::Twice"]
    assert of_diff(index, diff_of("src/none.h", hunk), 1).notes == ("src/none.h is not in the index.",)


def test_the_diff_of_git_is_read_whole(tmp_path: Path) -> None:
    from indexer import history

    root = write_tree(tmp_path / "tree", TREE)

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True, timeout=60)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "First")
    text = str(TREE["src/shape.cc"]).replace("value * 2", "value + value")
    write_tree(root, {"src/shape.cc": text})
    index_of(root, tmp_path / "data")
    diff = history.diff(root, "HEAD")
    assert diff
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        found = of_diff(index, diff, 3)
        assert [s.qualified_name for s in found.changed] == ["geo::Twice"]
        assert ("callers", "CheckTwice", 3) in reached(found)
    assert history.diff(root / "src", "HEAD") == diff.replace("src/shape.cc", "shape.cc")
    for revision in ("nonsense", "--output=x", "", "HEAD\0"):
        assert history.diff(root, revision) is None
