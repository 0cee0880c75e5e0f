"""One workspace's index: who may write, what a workspace is called, and two stores that stay one."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from hub.indexing import name_for
from indexer import carrying
from indexer.errors import DataFolderError, EmbedderError, FolderBusyError
from indexer.index import DataFolder, Index, Workspace
from indexer.model import ChunkId
from indexer.pipeline import EmbedderSource, Options, refresh
from tests.support.command import held_by_another_process
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import COUNTER, index_of, write_tree

SOURCE = EmbedderSource(FakeEmbedder().name, FakeEmbedder)


@contextmanager
def written(base: Path, root: Path | None = None) -> Iterator[Index]:
    """The workspace "w" below a folder, open for writing."""
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "w", root or base / "tree") as index:
        yield index


def made_up(index: Index, chunks: Sequence[ChunkId]) -> None:
    """Chunks that no file holds, for vectors to belong to."""
    with index._database.transaction():
        index._database.run_many(
            "INSERT INTO chunks VALUES(NULL, 0, ?, 1, 1, '', '', NULL, x'00')", ((chunk,) for chunk in chunks)
        )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a small tree and its index, vectors in Chroma too."""
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data", SOURCE)
    return tmp_path


# Who may write


def test_a_folder_that_another_process_holds_is_refused_with_its_number(base: Path) -> None:
    data = DataFolder(base / "data")
    with held_by_another_process(base / "data") as pid:
        with pytest.raises(FolderBusyError, match=f"process {pid}"), data.owned():
            pytest.fail("two processes own the folder")
        with Index.for_reading(data, "w") as index:
            assert index.facts.symbols_named("Counter", 1)
            assert index.neighbours(SOURCE.name, FakeEmbedder().embed_query("increment"), 3)
    with data.owned():
        assert json.loads((base / "data" / "owner").read_text(encoding="utf-8"))["pid"] != pid


def test_a_second_owner_in_the_same_process_is_refused_too(base: Path) -> None:
    data = DataFolder(base / "data")
    with data.owned(), pytest.raises(FolderBusyError), DataFolder(base / "data").owned():
        pytest.fail("two owners")


def test_a_folder_is_free_again_after_its_owner_failed(base: Path) -> None:
    data = DataFolder(base / "data")
    with pytest.raises(ZeroDivisionError), data.owned():
        raise ZeroDivisionError
    with data.owned():
        pass


def test_a_data_folder_that_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataFolderError, match="cannot be made") as caught, DataFolder(tmp_path / "file" / "d").owned():
        pytest.fail("owned a folder below a file")
    assert "--data" in caught.value.hint


# What a workspace is called


@pytest.mark.parametrize("name", ["../up", "", "A", "a/b", ".hidden", "x" * 65, "a b", "-a", "ä"])
def test_a_name_that_could_be_another_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataFolderError, match="is no workspace name"):
        DataFolder(tmp_path).workspace_folder(name)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("leveldb", "leveldb"),
        ("My Project", "my-project"),
        ("LevelDB-1.23", "leveldb-1.23"),
        ("...", "tree"),
        ("Ärger", "rger"),
        ("漢字", "tree"),
        ("x" * 200, "x" * 50),
    ],
)
def test_a_trees_folder_gives_its_workspace_a_name_that_is_allowed(tmp_path: Path, folder: str, name: str) -> None:
    assert name_for(tmp_path / folder, []) == name
    assert DataFolder(tmp_path).workspace_folder(name)


def test_a_tree_keeps_its_workspace_and_another_of_the_same_name_gets_a_number(tmp_path: Path) -> None:
    known = [Workspace("src", tmp_path / "a" / "src", 0), Workspace("src-2", tmp_path / "b" / "src", 0)]
    assert name_for(tmp_path / "b" / "src", known) == "src-2"
    assert name_for(tmp_path / "c" / "src", known) == "src-3"


def test_a_workspace_holds_one_tree_only(base: Path) -> None:
    other = write_tree(base / "other", {"a.cc": "int a;\n"})
    with pytest.raises(DataFolderError, match=r"'w' holds .*tree, not .*other") as caught, written(base, other):
        pytest.fail("one workspace for two trees")
    assert "--workspace" in caught.value.hint


def test_a_workspace_that_does_not_exist_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="no workspace 'w'"):
        Index.for_reading(DataFolder(tmp_path), "w")


def test_workspaces_are_listed_by_name_and_a_folder_without_a_card_is_none(base: Path) -> None:
    data = DataFolder(base / "data")
    with data.owned():
        Index.for_writing(data, "a", base / "tree").close()
    write_tree(base / "data" / "workspaces", {"half/index.db": "", "torn/workspace.json": '{"ro'})
    assert [(workspace.name, workspace.root) for workspace in data.workspaces()] == [
        ("a", base / "tree"),
        ("w", base / "tree"),
    ]


def test_a_card_that_cannot_be_written_leaves_the_one_before(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_text

    def full(self: Path, text: str, **more: str) -> int:
        real(self, "", **more)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    data = DataFolder(base / "data")
    with pytest.raises(DataFolderError, match="No space left"):
        Index.for_writing(data, "w", base / "tree")
    assert [workspace.name for workspace in data.workspaces()] == ["w"]


def test_a_forgotten_workspace_leaves_nothing_and_its_neighbour_stays(base: Path) -> None:
    data = DataFolder(base / "data")
    with data.owned():
        Index.for_writing(data, "a", base / "tree").close()
        data.forget("w")
    assert [workspace.name for workspace in data.workspaces()] == ["a"]
    assert not (base / "data" / "workspaces" / "w").exists()


# Two stores that stay one


def drifted(index: Index) -> tuple[int, int]:
    drift = index.drift(SOURCE.name)
    return drift.missing, drift.orphans


def test_the_owner_and_a_reader_get_the_same_neighbours(base: Path) -> None:
    question = FakeEmbedder().embed_query("increment the counter value")
    with written(base) as index:
        owners = index.neighbours(SOURCE.name, question, 3)
    with Index.for_reading(DataFolder(base / "data"), "w") as index:
        readers = index.neighbours(SOURCE.name, question, 3)
        assert index.neighbours("another embedder", question, 3) == []
    assert len(owners) == 3
    assert owners == readers


def test_vectors_stay_when_a_chunk_moves_unchanged(base: Path) -> None:
    """Every function below the insertion stands on other lines now, with the same text."""
    functions = "\n".join(
        f"// Number {number}.\nint f{number}() {{\n" + "  total += 1;\n" * 30 + "}\n" for number in range(6)
    )
    write_tree(base / "tree", {"src/many.cc": functions})
    with written(base) as index:
        refresh(index, Options(workers=1), (SOURCE,))
        before = {chunk.id: chunk.span for chunk in index.table.chunks_of("src/many.cc")}
    write_tree(base / "tree", {"src/many.cc": "int above;\n" + functions})
    embedder = FakeEmbedder()
    with written(base) as index:
        report = refresh(index, Options(workers=1), (EmbedderSource(SOURCE.name, lambda: embedder),))
        after = {chunk.id: chunk.span for chunk in index.table.chunks_of("src/many.cc")}
        assert drifted(index) == (0, 0)
    stayed = before.keys() & after.keys()
    assert len(stayed) >= 5
    assert all(after[chunk].first_line == before[chunk].first_line + 1 for chunk in stayed)
    assert report.embedded == sum(map(len, embedder.calls)) == len(after) - len(stayed)


def test_an_outbox_is_folded_so_that_the_last_word_counts(base: Path) -> None:
    chunk = ChunkId("f" * 32)
    row = np.eye(1, 16, dtype=np.float32)
    with written(base) as index:
        table, count = index.table, index.table.vector_count(SOURCE.name)
        made_up(index, [chunk])
        table.store_vectors(SOURCE.name, [chunk], row)
        table._db.run("INSERT INTO outbox(operation, embedder, chunk) VALUES('delete', ?, ?)", (SOURCE.name, chunk))
        table._db.run("DELETE FROM vectors WHERE key % (1 << 40) = (SELECT max(rowid) FROM chunks)")
        assert index.drain() == 2
        assert drifted(index) == (0, 0)
        table._db.run("INSERT INTO outbox(operation, embedder, chunk) VALUES('delete', ?, ?)", (SOURCE.name, chunk))
        table.store_vectors(SOURCE.name, [chunk], row)
        assert index.drain() == 2
        assert drifted(index) == (0, 0)
        assert table.vector_count(SOURCE.name) == count + 1
        assert table.outbox_depth() == 0


def test_a_delete_that_was_taken_back_does_not_lose_the_vector(base: Path) -> None:
    """As when a crash repeats entries whose chunk has come back since."""
    with written(base) as index:
        (chunk, *_), _ = index.table.vectors(SOURCE.name)
        for operation in ("upsert", "delete", "upsert"):
            index.table._db.run(
                "INSERT INTO outbox(operation, embedder, chunk) VALUES(?, ?, ?)", (operation, SOURCE.name, chunk)
            )
        index.drain()
        assert drifted(index) == (0, 0)


def test_what_chroma_lost_is_made_again_from_the_table_at_the_next_question(base: Path) -> None:
    question = FakeEmbedder().embed_query("increment the counter value")
    with written(base) as index:
        expected = index.neighbours(SOURCE.name, question, 3)
    shutil.rmtree(base / "data" / "workspaces" / "w" / "chroma")
    with written(base) as index:
        assert index.neighbours(SOURCE.name, question, 3) == expected
        assert drifted(index) == (0, 0)


def test_a_refresh_after_chroma_was_deleted_fills_all_of_it(base: Path) -> None:
    shutil.rmtree(base / "data" / "workspaces" / "w" / "chroma")
    write_tree(base / "tree", {"src/new.cc": "int brand_new;\n"})
    with written(base) as index:
        refresh(index, Options(workers=1), (SOURCE,))
        assert drifted(index) == (0, 0)


def test_a_worn_chroma_is_made_again(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "DRAIN_BATCH", 4)
    chunks = [ChunkId(f"{number:032}") for number in range(40)]
    with written(base) as index:
        made_up(index, chunks)
        index.table.store_vectors(SOURCE.name, chunks, np.tile(np.eye(1, 16, dtype=np.float32), (40, 1)))
        index.drain()
        with index._database.transaction():
            for chunk in chunks:
                index._database.run(
                    "INSERT INTO outbox(operation, embedder, chunk) VALUES('delete', ?, ?)", (SOURCE.name, chunk)
                )
                index._database.run(
                    "DELETE FROM vectors WHERE key % (1 << 40) = (SELECT rowid FROM chunks WHERE id = ?)", (chunk,)
                )
        rebuilt: list[int] = []
        real = index.carrier._renew
        index.carrier._renew = lambda limit: rebuilt.append(1) or real(limit)  # type: ignore[method-assign,func-returns-value]
        assert index.drain() == 40
        assert len(rebuilt) == 1
        assert index.table.meta()["deleted_from_chroma"] == "0"
        assert drifted(index) == (0, 0)


def test_orphans_and_missing_vectors_are_counted_one_by_one(base: Path) -> None:
    with written(base) as index:
        (chunk, *_), matrix = index.table.vectors(SOURCE.name)
        chroma = index.carrier.chroma(SOURCE.name, 16)
        chroma.delete([chunk])
        chroma.upsert([ChunkId("orphan"), ChunkId("another")], matrix[:2])
        drift = index.drift(SOURCE.name)
        assert (drift.missing, drift.orphans) == (1, 2)
        assert (drift.in_table, drift.in_chroma) == (len(matrix), len(matrix) + 1)
        question = FakeEmbedder().embed_query("counter")
        assert {found for found, _ in index.neighbours(SOURCE.name, question, 50)} <= index.table.vector_ids(
            SOURCE.name
        )
        assert index.rebuild_vectors() == len(matrix)
        assert drifted(index) == (0, 0)


def test_files_that_changed_since_are_told_and_only_those(base: Path) -> None:
    with closing(Index.for_reading(DataFolder(base / "data"), "w")) as index:
        assert index.changed_since(COUNTER) == []
        write_tree(base / "tree", {"README.md": "# Other\n"})
        (base / "tree" / "src" / "main.cc").unlink()
        assert index.changed_since([*COUNTER, "never/was.cc"]) == ["README.md", "never/was.cc", "src/main.cc"]


def test_a_question_of_another_size_than_the_vectors_is_refused(base: Path) -> None:
    with written(base) as index, pytest.raises(EmbedderError, match="17 dimensions, and 16 are kept"):
        index.neighbours(SOURCE.name, np.ones(17, dtype=np.float32), 5)


def test_a_reader_that_stays_open_sees_the_vectors_that_were_written_since(tmp_path: Path) -> None:
    source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
    root = write_tree(tmp_path / "tree", {"a.cc": "int alpha;\n"})
    index_of(root, tmp_path / "data", source)
    asked = FakeEmbedder().embed_query("omega")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as reader:
        before = reader.neighbours(source.name, asked, 10)
        write_tree(root, {"b.cc": "int omega;\n"})
        index_of(root, tmp_path / "data", source)
        after = reader.neighbours(source.name, asked, 10)
    assert (len(before), len(after)) == (1, 2)
