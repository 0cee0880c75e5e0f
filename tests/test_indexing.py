"""Indexing as the settings say."""

from pathlib import Path

import pytest

from hub.config import Settings
from hub.indexing import index_tree, name_for
from indexer.index import DataFolder, Index, Workspace
from indexer.pipeline import ignore_progress, never
from tests.support.trees import COUNTER, write_tree

NOBODY_LISTENS = "http://127.0.0.1:9"  # the discard port, which nothing serves here


def test_an_ollama_that_does_not_answer_costs_the_vectors_and_not_the_index(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", COUNTER)
    settings = Settings(tmp_path / "data", embeddings="ollama:nomic-embed-text", ollama_host=NOBODY_LISTENS)
    report = index_tree(settings, root, None, ignore_progress, never)
    assert report.changed == len(COUNTER)
    assert report.embedded == 0
    assert [note.startswith("No vectors for now: ") for note in report.notes] == [True]
    with Index.for_reading(DataFolder(settings.data), "tree") as index:
        assert index.facts.symbols_named("Counter::Increment", 5)


@pytest.mark.parametrize(
    ("root", "taken", "name"),
    [
        ("/src/leveldb", [], "leveldb"),
        ("/src/Level DB++", [], "level-db"),
        ("/", [], "tree"),
        ("/b/leveldb", [("leveldb", "/a/leveldb")], "leveldb-2"),
        ("/a/leveldb", [("mine", "/a/leveldb")], "mine"),
    ],
)
def test_a_tree_is_named_after_its_folder_and_keeps_the_name_it_has(
    root: str, taken: list[tuple[str, str]], name: str
) -> None:
    workspaces = [Workspace(known, Path(where), 0) for known, where in taken]
    assert name_for(Path(root), workspaces) == name
