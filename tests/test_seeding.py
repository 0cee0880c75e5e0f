"""A second checkout of a repository begins with what is known of the first, and is as one that is indexed afresh."""

from pathlib import Path

import pytest

from hub.confidence.stored import STORED
from hub.config import Settings
from hub.indexing import index_tree, seed
from indexer.errors import Cancelled, DataFolderError
from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import ignore_progress, never
from indexer.static_embedding import STATIC_NAME
from tests.laws.test_freshness_laws import rows_of
from tests.support.trees import COUNTER, write_tree
from tests.test_commits import commit, git

EDIT = "int only_here() {\n  return 1;\n}\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A repository whose tree is indexed as "tree", and another checkout of it that is one commit and an edit on."""
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    git(root, "init", "--quiet", "--initial-branch=main")
    commit(root, "Import")
    settings = Settings(tmp_path / "data", embeddings="static", index_background=True)
    indexed(settings, root)
    git(root, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "other"))
    write_tree(tmp_path / "other", {"src/more.cc": EDIT})
    commit(tmp_path / "other", "More")
    write_tree(tmp_path / "other", {"README.md": "# Other\n"})
    return settings


def indexed(settings: Settings, root: Path) -> IndexReport:
    return index_tree(settings, root, None, ignore_progress, never)


def rows(settings: Settings, name: str) -> dict[str, object]:
    with Index.for_reading(DataFolder(settings.data), name) as index:
        return rows_of(index)


def test_a_second_checkout_reads_only_what_differs_and_equals_one_made_afresh(
    settings: Settings, tmp_path: Path
) -> None:
    report = indexed(settings, tmp_path / "other")
    assert (report.files, report.changed, report.removed) == (5, 2, 0)
    assert any(f"Begun with what is known of {tmp_path / 'tree'}" in note for note in report.notes)
    fresh = Settings(tmp_path / "fresh", embeddings="static", index_background=True)
    assert indexed(fresh, tmp_path / "other").changed == 5
    assert rows(settings, "other") == rows(fresh, "other")
    assert indexed(settings, tmp_path / "tree").changed == 0, "the first one is as it was"


def test_its_vectors_come_to_a_chroma_of_its_own(settings: Settings, tmp_path: Path) -> None:
    indexed(settings, tmp_path / "other")
    data = DataFolder(settings.data)
    with data.owned(), Index.for_adding(data, "other") as index:
        assert index.waits_for_chroma()
        index.reconcile()
        drift = index.drift(STATIC_NAME)
        assert (drift.missing, drift.orphans, drift.in_chroma) == (0, 0, drift.in_table)


def test_how_sure_to_be_is_taken_over(settings: Settings, tmp_path: Path) -> None:
    data = DataFolder(settings.data)
    with data.owned(), Index.for_adding(data, "tree") as index:
        index.table.set_meta({STORED: "learnt"})
    indexed(settings, tmp_path / "other")
    with Index.for_reading(data, "other") as index:
        assert index.table.note(STORED) == "learnt"


def test_nobody_reads_it_before_it_tells_of_its_own_tree_alone(settings: Settings, tmp_path: Path) -> None:
    data = DataFolder(settings.data)
    with data.owned():
        assert seed(data, "other", tmp_path / "other", settings, never)
        with Index.for_writing(data, "other", tmp_path / "other"):
            pass
    with pytest.raises(DataFolderError, match="not made yet"):
        Index.for_reading(data, "other")
    indexed(settings, tmp_path / "other")
    with Index.for_reading(data, "other") as index:
        assert index.table.known_file("src/more.cc")


def test_what_is_in_no_common_repository_begins_with_nothing(settings: Settings, tmp_path: Path) -> None:
    data = DataFolder(settings.data)
    copied = write_tree(tmp_path / "copied", dict(COUNTER))
    git(copied, "init", "--quiet")
    plain = write_tree(tmp_path / "plain", dict(COUNTER))
    with data.owned():
        for root in (copied, plain, tmp_path / "other" / "src"):
            assert seed(data, "new", root, settings, never) == ()
    assert not data.workspace_folder("new").exists()


def test_one_that_is_indexed_already_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    indexed(settings, tmp_path / "other")
    with DataFolder(settings.data).owned():
        assert seed(DataFolder(settings.data), "other", tmp_path / "other", settings, never) == ()


def test_a_damaged_sibling_is_no_beginning(settings: Settings, tmp_path: Path) -> None:
    table = DataFolder(settings.data).workspace_folder("tree") / "index.db"
    for journal in table.parent.glob("index.db-*"):
        journal.unlink()
    table.write_bytes(b"no database " * 1_000)
    report = indexed(settings, tmp_path / "other")
    assert (report.changed, report.notes) == (5, ())


def test_a_sibling_larger_than_an_index_may_be_is_no_beginning(settings: Settings, tmp_path: Path) -> None:
    table = DataFolder(settings.data).workspace_folder("tree") / "index.db"
    with table.open("r+b") as file:
        file.truncate(2 << 20)
    small = Settings(settings.data, embeddings="none", index_max_megabytes=1)
    with DataFolder(settings.data).owned():
        assert seed(DataFolder(settings.data), "other", tmp_path / "other", small, never) == ()


def test_one_that_is_stopped_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    data = DataFolder(settings.data)
    with data.owned(), pytest.raises(Cancelled):
        seed(data, "other", tmp_path / "other", settings, lambda: True)
    assert not list(data.workspace_folder("other").glob("index.db*"))
