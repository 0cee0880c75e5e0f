"""The way to Chroma: made again beside the one that is there, part by part, when that is the better way; and what a
crash has left half made.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hub import health
from hub.config import Settings
from hub.health import Grade, Surroundings
from indexer import carrying, vectors
from indexer.carrying import Carrier
from indexer.index import DataFolder, Index
from indexer.model import ChunkId
from indexer.pipeline import Options, ignore_progress, never, refresh
from tests.support.crashes import SOURCE
from tests.support.filed_vectors import FiledVectors
from tests.support.trees import write_tree

FILES = 30


@pytest.fixture(autouse=True)
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "ChromaVectors", FiledVectors)
    monkeypatch.setattr(carrying, "DRAIN_BATCH", 4)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An index of thirty files, all of it in Chroma."""
    write_tree(tmp_path / "tree", {f"{n}.cc": f"/// Number {n}.\nint count_{n};\n" for n in range(FILES)})
    with written(tmp_path) as index:
        refresh(index, Options(workers=1), (SOURCE,))
    return tmp_path


@contextmanager
def written(base: Path) -> Iterator[Index]:
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "w", base / "tree") as index:
        yield index


def folder(base: Path) -> Path:
    return base / "data" / "workspaces" / "w"


def changed(base: Path, files: int) -> None:
    """So many files are others now, and that is in the table and not in Chroma."""
    write_tree(base / "tree", {f"{n}.cc": f"/// Another {n}.\nint other_{n};\n" for n in range(files)})
    with written(base) as index:
        refresh(index, Options(workers=1, carry=False), (SOURCE,))


def drifted(index: Index) -> tuple[int, int]:
    drift = index.drift(SOURCE.name)
    return drift.missing, drift.orphans


def test_few_changes_go_to_the_chroma_that_is_there(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(base, 5)
    made: list[Path] = []
    monkeypatch.setattr(FiledVectors, "__init__", noting(made))
    with written(base) as index:
        index.drain()
        assert drifted(index) == (0, 0)
    assert {path.name for path in made} == {"chroma"}


def test_where_more_than_a_fifth_is_to_go_it_is_made_again_beside_and_put_in_its_place(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(base, 10)
    made: list[Path] = []
    monkeypatch.setattr(FiledVectors, "__init__", noting(made))
    with written(base) as index:
        assert index.table.outbox_deletions() == 10
        index.drain()
        assert drifted(index) == (0, 0)
        assert index.table.outbox_depth() == 0
    assert {path.name for path in made} == {"chroma", "chroma.new"}
    assert not (folder(base) / "chroma.new").exists()
    assert not (folder(base) / "chroma.old").exists()


def noting(made: list[Path]) -> object:
    real = FiledVectors.__init__

    def noted(self: FiledVectors, place: Path, name: str, dimensions: int) -> None:
        made.append(place)
        real(self, place, name, dimensions)

    return noted


def test_the_one_that_is_there_stays_until_the_new_one_is_complete_and_what_comes_meanwhile_is_in_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(base, 20)
    with written(base) as index:
        old = index.carrier.chroma(SOURCE.name, 16).ids()
        assert index.carry(8), "more is left"
        assert index.carrier.chroma(SOURCE.name, 16).ids() == old
        assert index.waits_for_chroma()
        copied = index.carrier._new(SOURCE.name, 16).ids()
        paths = {span.path for span in index.table.places(sorted(copied)).values()}
    # Of what was copied something is deleted, what was not is changed, and something new comes.
    (base / "tree" / min(paths)).unlink()
    write_tree(base / "tree", {"3.cc": "int once_more;\n", "new.cc": "int brand_new;\n"})
    with written(base) as index:
        refresh(index, Options(workers=1, carry=False), (SOURCE,))
    steps = 0
    monkeypatch.setattr(Carrier, "rebuild", None)  # comparing numbers would hide what is missing
    with written(base) as index:
        while index.carry(8):
            steps += 1
        assert steps > 1
        assert drifted(index) == (0, 0)
        assert not index.waits_for_chroma()


def test_the_owner_who_asks_in_the_middle_of_it_gets_all(base: Path) -> None:
    changed(base, 20)
    with written(base) as index:
        index.carry(4)
        found = index.neighbours(SOURCE.name, SOURCE.load().embed_query("another other 3"), FILES)
        assert len(found) == FILES
        assert drifted(index) == (0, 0)


def test_a_new_one_that_is_gone_is_begun_again(base: Path) -> None:
    with written(base) as index:
        index.table.set_meta({"chroma_renewal": "begin"})
        assert index.carry(4)
    shutil.rmtree(folder(base) / "chroma.new")
    with written(base) as index:
        index.reconcile()
        assert drifted(index) == (0, 0)


def test_one_that_was_put_in_its_place_is_not_made_again(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the last rename and the note of it."""
    with written(base) as index:
        index.table.set_meta({"chroma_renewal": json.dumps([SOURCE.name, 1 << 60])})
    shutil.copytree(folder(base) / "chroma", folder(base) / "chroma.old")
    made: list[Path] = []
    monkeypatch.setattr(FiledVectors, "__init__", noting(made))
    changed(base, 1)
    with written(base) as index:
        index.reconcile()
        assert drifted(index) == (0, 0)
    assert {path.name for path in made} == {"chroma"}
    assert not (folder(base) / "chroma.old").exists()


def test_what_an_embedder_that_is_forgotten_had_in_chroma_goes(base: Path) -> None:
    with written(base) as index:
        chunks = sorted(index.table.vector_ids(SOURCE.name))
        index.table.store_vectors("another", chunks, np.eye(1, 8, dtype=np.float32).repeat(len(chunks), 0))
        index.reconcile()
        assert len(carrying.graphs(folder(base))) == 2
        index.forget_embedder("another")
        assert index.stray_graphs() == 1
        index.reconcile()
        assert index.stray_graphs() == 0
        assert len(carrying.graphs(folder(base))) == 1


def test_repair_makes_chroma_again_from_the_table_alone(base: Path) -> None:
    with written(base) as index:
        before = index.carrier.chroma(SOURCE.name, 16).ids()
    shutil.rmtree(folder(base) / "chroma")
    shutil.rmtree(base / "tree")  # no file is read, and no model
    (repaired,) = health.repair(Settings(base / "data"), None, ignore_progress, never)
    assert "again from the table" in repaired.done
    with written(base) as index:
        assert index.carrier.chroma(SOURCE.name, 16).ids() == before
        assert len(before) == FILES


def test_repair_finishes_what_was_begun(base: Path) -> None:
    with written(base) as index:
        index.table.set_meta({"chroma_renewal": "begin"})
        index.carry(4)
    around = Surroundings(Settings(base / "data", embeddings="none"))
    (found,) = (one for one in health.examine(around.settings, around) if one.subject == "workspace w")
    assert (found.grade, found.fixable, "being made again" in found.detail) == (Grade.WARNING, True, True)
    (repaired,) = health.repair(around.settings, None, ignore_progress, never)
    assert "what was begun is finished" in repaired.done
    assert health.repair(around.settings, None, ignore_progress, never)[0].done == "nothing to mend"


def test_an_entry_of_an_embedder_that_is_unknown_holds_nothing_up(base: Path) -> None:
    with written(base) as index:
        index._database.run("INSERT INTO outbox(operation, embedder, chunk) VALUES('delete', 'gone', 'x')")
        index.reconcile()
        assert index.table.outbox_depth() == 0


# Half made


def test_what_a_crash_left_half_made_goes_when_the_folder_is_next_opened(base: Path) -> None:
    places = [folder(base) / "chroma.new", folder(base) / "chroma.old", base / "data" / "forgotten" / "x-1"]
    places += [base / "data" / "workspaces" / "never_made"]
    for place in places:
        (place / "deep").mkdir(parents=True)
    for name in ("index.db.new", "index.db.new-wal", "workspace.json.new", "vectors.json.new"):
        places.append(folder(base) / name)
        places[-1].write_text("half", encoding="utf-8")
    data = DataFolder(base / "data")
    assert len(data.half_made()) == 6
    with data.owned():
        assert data.sweep() == 6
        assert data.sweep() == 0
        with Index.for_writing(data, "w", base / "tree") as index:
            assert drifted(index) == (0, 0)
    assert not [place for place in places if place.exists()]


def test_doctor_tells_what_is_half_made_while_nobody_is_at_work(base: Path) -> None:
    (folder(base) / "index.db.new").write_text("half", encoding="utf-8")
    around = Surroundings(Settings(base / "data"))
    (found,) = (one for one in health.examine(around.settings, around) if one.subject == "leftovers")
    assert (found.grade, found.detail) == (Grade.WARNING, "workspaces/w/index.db.new")
    with DataFolder(base / "data").owned():
        (found,) = (one for one in health.examine(around.settings, around) if one.subject == "leftovers")
    assert found.grade is Grade.OK


def test_what_holds_facts_is_never_swept_away(base: Path) -> None:
    data = DataFolder(base / "data")
    (folder(base) / "workspace.json").unlink()
    (base / "data" / "workspaces" / "carded").mkdir()
    (base / "data" / "workspaces" / "carded" / "workspace.json").write_text("{}", encoding="utf-8")
    with data.owned():
        assert data.sweep() == 0
    assert (folder(base) / "index.db").exists()


def test_a_workspace_that_is_deleted_is_gone_at_once_for_whoever_looks(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataFolder(base / "data")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before the first file is deleted
    with data.owned():
        data.forget("w")
    assert data.workspaces() == []
    assert not folder(base).exists()
    monkeypatch.undo()
    with data.owned():
        assert data.sweep() == 1
    assert not list((base / "data" / "forgotten").iterdir())


def test_vectors_come_in_the_order_in_which_they_were_stored_and_each_once(base: Path) -> None:
    with written(base) as index:
        seen: list[ChunkId] = []
        key = 0
        while True:
            ids, matrix, key = index.table.vectors_after(SOURCE.name, key, 7)
            if not ids:
                break
            assert matrix.shape == (len(ids), 16)
            seen += ids
        assert len(seen) == len(set(seen)) == FILES
        assert set(seen) == index.table.vector_ids(SOURCE.name)
