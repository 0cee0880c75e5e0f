"""Vectors that follow a table: what is read of a change alone is what reading everything again would give."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.index import DataFolder, Index
from indexer.layers import MOST_ABOVE, Layers
from indexer.model import ChunkId
from indexer.pipeline import EmbedderSource, Options, refresh
from indexer.symbol_table import table
from indexer.vectors import ExactVectors
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import write_tree

NAME = FakeEmbedder().name
SOURCE = EmbedderSource(NAME, FakeEmbedder)
IDS = st.sampled_from([ChunkId(f"c{number}") for number in range(8)])
ROWS = st.lists(st.integers(-3, 3), min_size=3, max_size=3).map(lambda row: np.array(row, dtype=np.float32))
QUERY = np.array([0.6, 0.8, 0.0], dtype=np.float32)


def whole(rows: Mapping[ChunkId, np.ndarray]) -> ExactVectors:
    return ExactVectors(list(rows), np.array(list(rows.values()))) if rows else ExactVectors()


@given(
    st.dictionaries(IDS, ROWS, max_size=8),
    st.lists(st.dictionaries(IDS, st.none() | ROWS, max_size=4), max_size=4),
    st.integers(0, 9),
    st.none() | st.sets(IDS),
)
def test_layers_find_what_all_vectors_read_again_do(
    first: dict[ChunkId, np.ndarray],
    changes: list[dict[ChunkId, np.ndarray | None]],
    limit: int,
    within: set[ChunkId] | None,
) -> None:
    rows = dict(first)
    layers = before = Layers(0, whole(rows))
    for version, changed in enumerate(changes, 1):
        there = {chunk: row for chunk, row in changed.items() if row is not None}
        rows = {chunk: row for chunk, row in rows.items() if chunk not in changed} | there
        matrix = np.array(list(there.values()), dtype=np.float32).reshape(-1, 3)
        layers = layers.changed(version, list(changed), list(there), matrix)
    assert layers.nearest(QUERY, limit, within) == whole(rows).nearest(QUERY, limit, within)
    assert (layers.version, layers.above) == (len(changes), len({chunk for changed in changes for chunk in changed}))
    assert before.nearest(QUERY, limit, within) == whole(first).nearest(QUERY, limit, within), "it was not to change"


# Beside a writer


@contextmanager
def opened(base: Path) -> Iterator[Index]:
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "w", base / "tree") as index:
        yield index


def refreshed(base: Path) -> None:
    with opened(base) as index:
        refresh(index, Options(workers=1, carry=False), (SOURCE,))


def nearest(index: Index) -> list[tuple[ChunkId, float]]:
    return index.neighbours(NAME, FakeEmbedder().embed_query("alpha beta gamma"), 50)


def read_anew(base: Path) -> list[tuple[ChunkId, float]]:
    """By a reader of a copy, which shares nothing with those of this one."""
    with TemporaryDirectory() as folder:
        copied = Path(folder) / "workspaces" / "w"
        copied.mkdir(parents=True)
        for file in (base / "data" / "workspaces" / "w").iterdir():
            if file.is_file():
                (copied / file.name).write_bytes(file.read_bytes())
        with Index.for_reading(DataFolder(Path(folder)), "w") as index:
            return nearest(index)


EDITS = st.dictionaries(
    st.sampled_from(["a.md", "b.md", "c.md"]),
    st.none() | st.sampled_from(["# alpha\nbeta\n", "# beta\ngamma\n\n## delta\nalpha gamma\n", "gamma\n"]),
    min_size=1,
)


@given(st.lists(EDITS, min_size=1, max_size=4), st.sampled_from([1, 3, 2_000]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_reader_that_stays_sees_what_one_that_begins_anew_sees(
    edits: list[dict[str, str | None]], logged: int, forgets: bool
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_LOGGED_CHANGES", logged)
        base = Path(folder)
        write_tree(base / "tree", {"always.md": "alpha\n"})
        refreshed(base)
        with Index.for_reading(DataFolder(base / "data"), "w") as reader:
            for number, edit in enumerate(edits):
                for path, text in edit.items():
                    if text is None:
                        (base / "tree" / path).unlink(missing_ok=True)
                    else:
                        write_tree(base / "tree", {path: text})
                if forgets and number == 1:
                    with opened(base) as index:
                        index.table.forget_embedder(NAME)
                refreshed(base)
                assert nearest(reader) == read_anew(base)


def test_of_a_small_change_only_what_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "tree", {"a.md": "alpha\n", "b.md": "beta\n"})
    refreshed(tmp_path)
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as reader:
        nearest(reader)
        write_tree(tmp_path / "tree", {"b.md": "gamma beta\n"})
        refreshed(tmp_path)
        expected = read_anew(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(table.SymbolTable, "vectors", None)
            assert nearest(reader) == expected
        write_tree(tmp_path / "tree", {"a.md": "delta alpha\n"})
        refreshed(tmp_path)
        monkeypatch.setattr(table, "_LOGGED_CHANGES", 0)
        monkeypatch.setattr("indexer.layers.MOST_ABOVE", 1)
        assert nearest(reader) == read_anew(tmp_path), "so much has changed that everything is read again"
    assert MOST_ABOVE > 1


def test_the_log_of_changes_stays_small_and_goes_with_its_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_LOGGED_CHANGES", 4)
    for number in range(12):
        write_tree(tmp_path / "tree", {"a.md": f"alpha {number}\n"})
        refreshed(tmp_path)
    with opened(tmp_path) as index:
        assert 0 < index._database.number("SELECT count(*) FROM vector_log") <= 16
        version = index.table.vectors_version(NAME)
        assert index.table.vectors_changed(NAME, version) == []
        assert index.table.vectors_changed(NAME, version + 1) is None
        assert index.table.vectors_changed(NAME, 0) is None
        index.table.forget_embedder(NAME)
        assert index._database.number("SELECT count(*) FROM vector_log") == 0
    refreshed(tmp_path)
    with opened(tmp_path) as index:
        assert index.table.vectors_version(NAME) > version, "a reader of before must not take these for those"
