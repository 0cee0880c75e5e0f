"""The benchmark of freshness, on a small tree and in this process: what it makes, what it waits for, what it prints."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.histories import Repository, made

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)

import freshness  # noqa: E402 - as above

sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("freshness")
    return freshness.multiplied(folder / "tree", 1)


@pytest.fixture(scope="module")
def marks(tree: Path) -> list[tuple[str, str]]:
    return freshness.with_branches(tree, 12)


@pytest.fixture(scope="module")
def hub(tree: Path, marks: list[tuple[str, str]]) -> Iterator[freshness.InProcess]:
    assert marks
    with freshness.in_process(tree.parent / "data", tree) as made_up:
        made_up.told(None)
        yield made_up


def test_the_multiplied_tree_is_the_same_every_time_and_its_copies_share_no_name(tmp_path: Path) -> None:
    again = freshness.multiplied(tmp_path / "again", 4_000)
    same = {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}
    code = freshness.code_of(again)
    assert sum(file.read_bytes().count(10) for file in code) >= 4_000
    subprocess.run(["diff", "-rq", str(freshness.multiplied(tmp_path / "tree", 4_000)), str(again)], check=True)
    assert {path.parts[0] for path in same} == {"part000", "part001"}
    first, second = (b"".join(same[path] for path in same if path.parts[0] == part) for part in ("part000", "part001"))
    assert b"class MemTable0" in first
    assert b"ember0::" in first
    assert b"MemTable1" not in first
    assert b"ember0" not in second


def test_what_was_saved_is_found_in_every_way_and_by_nothing_that_was_there_before(
    tree: Path, hub: freshness.InProcess
) -> None:
    files = freshness.spread(freshness.code_of(tree), 3)
    assert len({file.suffix for file in files}) == 2
    rows = freshness.saves(hub, tree, files, 0)
    assert [len(row.figures) for row in rows] == [2, 2, 2, 2]
    assert all(figure > 0 for row in rows for figure in row.figures)
    assert not hub.has_symbol("zq_never_saved")


def test_a_switch_of_branches_is_over_when_all_of_the_other_branch_is_found(
    tree: Path, hub: freshness.InProcess, marks: list[tuple[str, str]]
) -> None:
    assert len(marks) > 3
    assert not any(hub.has_symbol(name) for _, name in marks)
    freshness.git(tree, "checkout", "-q", "--force", ".")
    row = freshness.switch(hub, tree, marks, 12)
    assert row.figures[0] > 0
    assert all(hub.has_symbol(name) for _, name in marks)


def test_a_pull_begins_as_many_commits_behind_as_asked_for(tmp_path: Path) -> None:
    repository: Repository = made(tmp_path / "r", {"a.cc": "int a;\n"})
    commits = [repository.head(), *(repository.write({"a.cc": f"int a{n};\n"}) for n in range(6))]
    newest_first = commits[::-1]
    assert freshness.behind_by(newest_first, 3, newest_first.index) == commits[3]
    assert freshness.behind_by(newest_first, 99, newest_first.index) == commits[0]


def test_hooks_tell_while_they_are_timed(tmp_path: Path) -> None:
    alone, more = freshness.hook_times(tmp_path, 2)
    assert alone.figures[0] > 0
    assert more.unit == "ms"


def test_the_table_says_of_each_figure_whether_its_bar_and_its_goal_are_met() -> None:
    row = freshness.Row("saved", (0.6, 1.2), (0.8, 1.5), (0.5, 1.3))
    assert freshness.line_of(row) == "| saved | 0.6 / 1.2 s | 0.8 / 1.5 s | 0.5 / 1.3 s | bar met |  |"
    assert "goal met" in freshness.line_of(freshness.Row("vectors", (1.0, 1.9), (5.0,), (2.0,)))
    assert "missed" in freshness.line_of(freshness.Row("vectors", (1.0, 5.1), (5.0,), (2.0,)))
    assert freshness.table([row]).endswith(freshness.line_of(row))
