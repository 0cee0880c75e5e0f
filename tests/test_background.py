"""What indexing leaves to a process in the background: it ends as indexing with all vectors would, and nobody waits."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from hub import background
from hub.background import State
from hub.config import Settings
from hub.indexing import index_tree
from indexer.errors import EmbedderError, FolderBusyError
from indexer.index import DataFolder, Index
from indexer.model import Matrix
from indexer.pipeline import EmbedderSource, ignore_progress, never
from indexer.static_embedding import STATIC_NAME
from tests.support.command import LIMIT_S, run, run_here
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import COUNTER, contents, write_tree

WAIT_S = 60.0


@pytest.fixture(autouse=True)
def with_a_fake_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.indexing.encoder_source", source_of)


def source_of(settings: Settings, embedder: FakeEmbedder | None = None) -> EmbedderSource | None:
    if settings.embeddings in {"none", "static"}:
        return None
    return EmbedderSource(FakeEmbedder().name, lambda: embedder or FakeEmbedder())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A small tree that was indexed for an encoder, which has not begun yet."""
    chosen = Settings(tmp_path / "data", embeddings="minilm")
    indexed(chosen, write_tree(tmp_path / "tree", dict(COUNTER)))
    return chosen


def indexed(settings: Settings, root: Path) -> None:
    index_tree(settings, root, None, ignore_progress, never)


def finished(settings: Settings) -> list[State]:
    told: list[State] = []
    background.finish(settings, told.append)
    return told


@contextmanager
def reading(settings: Settings, name: str = "tree") -> Iterator[Index]:
    with Index.for_reading(DataFolder(settings.data), name) as index:
        yield index


def waiting(settings: Settings, name: str = "tree") -> tuple[int, int, int]:
    """Chunks without a static vector, chunks without one of the encoder, entries for Chroma."""
    with reading(settings, name) as index:
        table = index.table
        return table.waiting(STATIC_NAME), table.waiting(FakeEmbedder().name), table.outbox_depth()


def test_static_vectors_are_there_when_indexing_ends_and_the_encoders_follow(settings: Settings) -> None:
    with reading(settings) as index:
        chunks = index.table.counts().chunks
    assert waiting(settings) == (0, chunks, chunks)
    told = finished(settings)
    assert waiting(settings) == (0, 0, 0)
    assert told[0] == State(os.getpid(), "tree", FakeEmbedder().name, 0, chunks)
    assert told[-1] == State(os.getpid())


def test_finishing_in_the_background_equals_waiting_for_it(settings: Settings, tmp_path: Path) -> None:
    finished(settings)
    waited = replace(settings, data=tmp_path / "other", index_background=False)
    indexed(waited, tmp_path / "tree")
    with reading(settings) as one, reading(waited) as other:
        assert contents(one) == contents(other)
    data = DataFolder(settings.data)
    with data.owned(), Index.for_adding(data, "tree") as index:
        for name in (STATIC_NAME, FakeEmbedder().name):
            drift = index.drift(name)
            assert (drift.missing, drift.orphans, drift.in_chroma) == (0, 0, drift.in_table)


def test_what_changed_while_the_encoder_read_is_read_again_and_nothing_of_what_is_gone_is_kept(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree changes between the reading of a chunk and the storing of its vector."""

    class Disturbed(FakeEmbedder):
        def embed_documents(self, texts: Sequence[str]) -> Matrix:
            if not self.calls:
                (tmp_path / "tree" / "src" / "main.cc").unlink()
                write_tree(tmp_path / "tree", {"src/new.cc": "int added_meanwhile;\n"})
                indexed(settings, tmp_path / "tree")
            return super().embed_documents(texts)

    embedder = Disturbed()
    monkeypatch.setattr("hub.indexing.encoder_source", lambda chosen: source_of(chosen, embedder))
    finished(settings)
    assert waiting(settings) == (0, 0, 0)
    waited = replace(settings, data=tmp_path / "other", index_background=False)
    indexed(waited, tmp_path / "tree")
    with reading(settings) as one, reading(waited) as other:
        assert contents(one) == contents(other)


def test_there_are_never_two_and_the_second_leaves_its_work_to_the_first(settings: Settings) -> None:
    with DataFolder(settings.data).background() as mine:
        assert mine
        assert finished(settings) == []
        assert waiting(settings)[1] > 0
    finished(settings)
    assert waiting(settings) == (0, 0, 0)


def test_each_workspace_keeps_the_embedder_that_it_was_indexed_for(settings: Settings, tmp_path: Path) -> None:
    other = write_tree(tmp_path / "plain", {"a.cc": "int a;\n"})
    indexed(replace(settings, embeddings="static"), other)
    finished(settings)
    assert waiting(settings) == (0, 0, 0)
    assert waiting(settings, "plain") == (0, 1, 0)


def test_an_encoder_that_fails_is_told_and_keeps_nothing_else_from_being_done(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(FakeEmbedder):
        def embed_documents(self, texts: Sequence[str]) -> Matrix:
            raise EmbedderError(f"The model is gone, with {len(texts)} texts.", "Pull it.")

    monkeypatch.setattr("hub.indexing.encoder_source", lambda chosen: source_of(chosen, Failing()))
    told = finished(settings)
    assert told[-1].note == f"tree: The model is gone, with {waiting(settings)[1]} texts. Pull it."
    static, encoder, chroma = waiting(settings)
    assert (static, chroma) == (0, 0)
    assert encoder > 0


def test_a_writer_waits_for_one_that_holds_the_folder_for_a_moment(settings: Settings) -> None:
    data, held, go_on = DataFolder(settings.data), Event(), Event()

    def hold() -> None:
        with data.owned_for_a_moment():
            held.set()
            assert go_on.wait(WAIT_S)

    def own() -> int:
        with data.owned():
            return int(json.loads((data.path / "owner").read_text(encoding="utf-8"))["moments"])

    with ThreadPoolExecutor(2) as threads:
        holding = threads.submit(hold)
        assert held.wait(WAIT_S)
        owning = threads.submit(own)
        go_on.set()
        holding.result(WAIT_S)
        assert owning.result(WAIT_S) == 0


def test_a_writer_does_not_wait_for_one_that_holds_the_folder_for_long(settings: Settings) -> None:
    data = DataFolder(settings.data)
    with data.owned(), pytest.raises(FolderBusyError, match=f"process {os.getpid()}"), data.owned():
        pytest.fail("two owners")


def test_finishing_does_not_make_a_workspace_the_one_last_used(settings: Settings) -> None:
    (before,) = DataFolder(settings.data).workspaces()
    finished(settings)
    assert DataFolder(settings.data).workspaces() == [before]


def test_nothing_begins_where_nothing_is_left_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(settings)
    monkeypatch.setattr("hub.background.subprocess", None)
    assert background.start(settings) is False
    assert background.state(DataFolder(settings.data)) is None


@pytest.mark.slow
def test_the_command_ends_before_its_vectors_are_in_chroma_and_the_process_that_puts_them_there_ends_by_itself(
    tmp_path: Path,
) -> None:
    root, data = write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data"
    assert run(["index", root], data, {"CODEHUB_INDEX_BACKGROUND": "1"}).code == 0
    end, pause = time.monotonic() + LIMIT_S, Event()
    while True:
        status = run_here(["status", "--json"], data).json()
        if not status["workspaces"][0]["waiting_for_chroma"] and status["background"] is None:
            break
        assert time.monotonic() < end, (data / "background.log").read_text(encoding="utf-8")
        pause.wait(0.1)
    assert run_here(["repair", "--json"], data).json()["repairs"][0]["done"] == "nothing to mend"
    assert (data / "background.log").read_text(encoding="utf-8") == ""
