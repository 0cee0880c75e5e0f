"""Bringing a part of an index up to date: what is looked at, and when a part is not enough."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from indexer import files, history, parsing, pipeline
from indexer.errors import EmbedderError, TreeError
from indexer.files import FileRules, Part
from indexer.history import running, tree
from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import EmbedderSource, Options, refresh
from indexer.symbol_table import ties
from indexer.symbol_table.table import SymbolTable
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import COUNTER, contents, write_tree

NAME = "static-fake/16"
SOURCE = EmbedderSource(NAME, partial(FakeEmbedder, NAME))
OPTIONS = Options(workers=1, carry=False)


@contextmanager
def opened(base: Path) -> Iterator[Index]:
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "w", base / "tree") as index:
        yield index


def refreshed(base: Path, *paths: str, options: Options = OPTIONS) -> IndexReport:
    """Of the files at these paths, or of everything where there are none."""
    with opened(base) as index:
        return refresh(index, replace(options, part=Part(frozenset(paths)) if paths else None), (SOURCE,))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An index of a small tree whose times can be trusted, and a change of one of its files."""
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    for path in COUNTER:
        os.utime(root / path, ns=(10**18, 10**18))
    assert refreshed(tmp_path).whole
    write_tree(root, {"src/counter.cc": "int changed();\n"})
    return tmp_path


def never(*_: object, **__: object) -> object:
    raise AssertionError("this was not to be done")


def test_only_what_is_named_is_looked_at_and_nothing_is_counted_or_read_as_a_whole(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for name in ("known_files", "counts", "meta", "waiting"):
            patch.setattr(SymbolTable, name, never)
        report = refreshed(base, "src/counter.cc")
    assert (report.whole, report.files, report.changed, report.unchanged, report.removed) == (False, 4, 1, 3, 0)
    again = refreshed(base)
    counted = ("files", "lines", "symbols", "references", "chunks", "waiting_for_vectors")
    assert (again.whole, again.changed) == (True, 0), "the time of the change is recent, so it is read, and is the same"
    assert [getattr(report, name) for name in counted] == [getattr(again, name) for name in counted]


def test_a_change_that_is_not_named_stays_for_the_next_look_at_everything(base: Path) -> None:
    write_tree(base / "tree", {"README.md": "# Other\n"})
    assert refreshed(base, "src/counter.cc").changed == 1
    with opened(base) as index:
        assert index.changed_since(["README.md", "src/counter.cc"]) == ["README.md"]
    assert refreshed(base).changed == 1


def test_a_part_where_nothing_changed_writes_no_file(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed(base)
    monkeypatch.setattr(SymbolTable, "write", lambda _table, batch: [never() for _ in batch])
    report = refreshed(base, "src/main.cc", "not/there.cc")
    assert (report.whole, report.changed, report.files) == (False, 0, 4)


@pytest.mark.parametrize("path", [".gitignore", "src/.codehubignore", ".git/info/exclude"])
def test_rules_that_changed_make_it_look_at_everything(base: Path, path: str) -> None:
    write_tree(base / "tree", {path: "main.cc\n"})
    report = refreshed(base, path)
    assert (report.whole, report.removed) == (True, 1)
    assert report.changed == 1, "the change that nobody named is seen as well"


def test_other_rules_or_another_parser_make_it_look_at_everything(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    excluding = replace(OPTIONS, rules=FileRules(exclude=("README.md",)))
    report = refreshed(base, "src/counter.cc", options=excluding)
    assert (report.whole, report.files) == (True, 3)
    assert not refreshed(base, "src/counter.cc", options=excluding).whole
    monkeypatch.setattr(pipeline, "FACTS_VERSION", pipeline.FACTS_VERSION + 1)
    report = refreshed(base, "src/counter.cc", options=excluding)
    assert (report.whole, report.changed) == (True, 3)


def test_a_run_that_was_stopped_makes_the_next_one_look_at_everything(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(base / "tree", {"README.md": "# Other\n"})
    with monkeypatch.context() as patch:
        patch.setattr(SymbolTable, "write", never)
        with pytest.raises(AssertionError):
            refreshed(base, "README.md", "src/counter.cc")
    report = refreshed(base, "src/counter.cc")
    assert (report.whole, report.changed) == (True, 2)
    assert not refreshed(base, "src/counter.cc").whole


def test_an_index_that_was_never_finished_is_read_as_a_whole(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", dict(COUNTER))
    report = refreshed(tmp_path, "src/counter.cc")
    assert (report.whole, report.files) == (True, 4)


def test_the_last_files_of_a_tree_are_not_forgotten(base: Path) -> None:
    for path in COUNTER:
        (base / "tree" / path).unlink()
    with pytest.raises(TreeError):
        refreshed(base, *COUNTER)
    with opened(base) as index:
        assert len(index.table.known_files()) == 4


def test_a_folder_that_became_a_file_takes_what_was_in_it_along(base: Path) -> None:
    root = base / "tree"
    for path in ("counter.h", "counter.cc", "main.cc"):
        (root / "src" / path).unlink()
    (root / "src").rmdir()
    write_tree(root, {"src": "no folder\n", "README.md": "# Other\n"})
    report = refreshed(base, "src", "README.md")
    assert (report.whole, report.files, report.removed, report.changed) == (False, 1, 3, 1)


def test_a_macro_of_another_meaning_has_the_files_read_that_hold_it_though_nobody_named_them(base: Path) -> None:
    root = base / "tree"
    write_tree(root, {"api.h": "#define API\n", "use.cc": "class API Shown { int a; };\n"})
    refreshed(base)
    write_tree(root, {"api.h": "#define API(x) x\n"})
    report = refreshed(base, "api.h")
    assert (report.whole, report.changed) == (False, 2)
    with opened(base) as index:
        index.walk.keep()
        held = contents(index)
    fresh = base / "other"
    data = DataFolder(fresh)
    with data.owned(), Index.for_writing(data, "w", root) as index:
        refresh(index, OPTIONS, (SOURCE,))
        assert contents(index) == held


def test_one_file_is_parsed_here_however_large_it_is(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "INLINE_BYTES", 1_000)
    monkeypatch.setattr(parsing, "pool", never)
    write_tree(base / "tree", {"src/main.cc": "int many();\n" * 200})
    assert refreshed(base, "src/main.cc").changed == 1


def test_the_graph_of_before_stays_until_it_is_made_again(base: Path) -> None:
    refreshed(base, "src/counter.cc", options=replace(OPTIONS, graph=False))
    with opened(base) as index:
        before = index.walk.version()
        assert index.walk.keep()
        assert index.walk.version() != before
        assert not index.walk.keep()


def test_an_embedder_that_failed_is_asked_again_for_files_that_nobody_names(base: Path) -> None:
    def broken() -> FakeEmbedder:
        raise EmbedderError("no model", "later")

    with opened(base) as index:
        report = refresh(
            index, replace(OPTIONS, part=Part(frozenset({"src/counter.cc"}))), (replace(SOURCE, load=broken),)
        )
        assert report.waiting_for_vectors > 0
        assert report.notes
        parsing._loaded.cache_clear()
        report = refresh(index, replace(OPTIONS, part=Part(frozenset({"README.md"}))), (SOURCE,))
        assert (report.whole, report.changed, report.waiting_for_vectors) == (False, 0, 0)


def test_ignore_files_above_a_part_are_heeded_without_a_look_at_other_folders(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(base / "tree", {"src/deep/a.cc": "int a;\n", "src/.gitignore": "*.inl\n", "other/b.cc": "int b;\n"})
    looked: list[str] = []
    scandir = os.scandir

    def looking(path: Path) -> object:
        looked.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr("indexer.files.os.scandir", looking)
    found = files.scan(base / "tree", FileRules(), Part(frozenset({"src/deep/a.cc", "src/deep/b.inl"})))
    assert [candidate.path for candidate in found.candidates] == ["src/deep/a.cc"]
    assert looked == ["tree", "src", "deep"]


# Beside it


def test_a_file_that_is_known_to_differ_saves_git_the_look_at_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path, {"a.cc": "int a;\n", ":(top)b.cc": "int b;\n", "c.cc": "int c;\n"})
    run = partial(subprocess.run, cwd=root, check=True, timeout=30, capture_output=True)
    run(["git", "init", "-q"])
    run(["git", "add", "."])
    run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"])
    looks: list[str] = []
    printed = running.printed

    def looking(*about: object) -> str | None:
        looks.extend(["all" if about[-1] == "." else "some"] if "status" in about else [])
        return printed(*about)  # type: ignore[arg-type]

    monkeypatch.setattr(tree, "printed", looking)
    assert not history.head(root, ("a.cc",))[1]
    write_tree(root, {"c.cc": "int other;\n"})
    assert history.head(root, ("a.cc", "gone.cc", ":(top)b.cc"))[1]
    assert looks == ["some", "all", "some", "all"], "where what is likely did not change, all others are looked at"
    write_tree(root, {"c.cc": "int c;\n", ":(top)b.cc": "int other;\n"})
    assert history.head(root, ("a.cc", ":(top)b.cc"))[1]
    assert looks[4:] == ["some"]


def test_a_path_that_holds_what_separates_columns_has_its_edges_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path / "tree", {**COUNTER, "odd\nname.h": "int odd();\n", "user.cc": "int u() { return odd(); }\n"})
    refreshed(tmp_path)
    with opened(tmp_path) as index:
        index._database.run(
            "INSERT INTO refs SELECT NULL, id, 'include', 'x', 'x', 1, NULL, ?, 'compiler', 0, '' FROM files LIMIT 1",
            ("odd\nname.h",),
        )
        read = ties.read(index._database)
        monkeypatch.setattr(ties, "_COLUMNS", ties._COLUMNS.replace("char(10)", "char(1)"))
        monkeypatch.setattr(ties, "_columns", rows_one_by_one)
        assert read.edges["include"].start.tolist() == ties.read(index._database).edges["include"].start.tolist()
        assert read.nodes == len(read.chunks) + 1 + 6


def rows_one_by_one(db: object, after: int, last: int) -> object:
    import numpy as np

    found = db.rows(ties._USES, (after, last))  # type: ignore[attr-defined]
    if not found:
        return None
    where, lines, *words = zip(*found, strict=True)
    return np.array(where), np.array(lines), *words
