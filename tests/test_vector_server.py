"""An index whose vectors are on a Chroma server: the real one, and ones that are away, wrong or hostile. What every
vector index promises is in the contract.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import VectorServerError
from indexer.index import DataFolder, Index
from indexer.model import ChunkId
from indexer.pipeline import EmbedderSource, Options, refresh
from indexer.vectors import ServedVectors
from tests.support.chroma import chroma_server, free_port
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import COUNTER, write_tree

SOURCE = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
ASKED = FakeEmbedder().embed_query("increment the counter")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("chroma")) as url:
        yield url


def indexed(base: Path, url: str, *, carry: bool = True) -> tuple[DataFolder, tuple[str, ...]]:
    """The small tree in the workspace "w", and the notes of indexing it."""
    data = DataFolder(base / "data", url)
    root = write_tree(base / "tree", dict(COUNTER))
    with data.owned(), Index.for_writing(data, "w", root) as index:
        report = refresh(index, replace(Options(workers=1), carry=carry), (SOURCE,))
    return data, report.notes


def owner_of(data: DataFolder) -> str:
    return str(json.loads((data.path / "workspaces/w/vectors.json").read_text(encoding="utf-8"))["owner"])


def held(data: DataFolder) -> set[ChunkId]:
    """What the server has of the workspace."""
    return ServedVectors(data.vector_server, owner_of(data), SOURCE.name, 16).ids()


def exactly(data: DataFolder) -> list[tuple[ChunkId, float]]:
    """The nearest by the exact scan."""
    with Index.for_reading(DataFolder(data.path), "w") as index:
        return index.neighbours(SOURCE.name, ASKED, 5)


def test_writer_and_readers_use_the_server_and_find_what_the_exact_scan_finds(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, notes = indexed(tmp_path, server)
    assert not notes
    assert not (data.path / "workspaces/w/chroma").exists()
    expected = exactly(data)
    assert len(expected) == 5
    monkeypatch.setattr(Index, "_exact_vectors", None)  # whoever scanned would fail
    with Index.for_reading(data, "w") as first, Index.for_reading(data, "w") as second:
        assert first.neighbours(SOURCE.name, ASKED, 5) == second.neighbours(SOURCE.name, ASKED, 5) == expected
        assert first.vector_notes() == ()
    with data.owned(), Index.for_adding(data, "w") as index:
        assert index.neighbours(SOURCE.name, ASKED, 5) == expected


def test_two_data_folders_on_one_server_never_see_each_others_vectors(tmp_path: Path, server: str) -> None:
    one, _ = indexed(tmp_path / "one", server)
    other, _ = indexed(tmp_path / "other", server)
    assert owner_of(one) != owner_of(other)
    before = held(one)
    assert before
    other.forget("w")
    assert held(one) == before


def test_what_a_forgotten_workspace_had_is_gone_from_the_server(tmp_path: Path, server: str) -> None:
    data, _ = indexed(tmp_path, server)
    owner = owner_of(data)
    data.forget("w")
    assert ServedVectors(server, owner, SOURCE.name, 16).count() == 0


def test_drift_is_seen_and_a_rebuild_mends_it(tmp_path: Path, server: str) -> None:
    data, _ = indexed(tmp_path, server)
    on_server = ServedVectors(server, owner_of(data), SOURCE.name, 16)
    all_of_them = sorted(held(data))
    on_server.delete(all_of_them[:2])
    on_server.upsert([ChunkId("orphan")], np.ones((1, 16), dtype=np.float32))
    with data.owned(), Index.for_adding(data, "w") as index:
        drift = index.drift(SOURCE.name)
        assert (drift.missing, drift.orphans) == (2, 1)
        assert index.rebuild_vectors() == len(all_of_them)
        assert index.drift(SOURCE.name).missing == index.drift(SOURCE.name).orphans == 0


def test_a_server_that_lost_everything_is_passed_by_until_it_was_filled_again(tmp_path: Path, server: str) -> None:
    data, _ = indexed(tmp_path, server)
    on_server = ServedVectors(server, owner_of(data), SOURCE.name, 16)
    on_server.delete(sorted(held(data)))
    with Index.for_reading(data, "w") as index:
        assert index.neighbours(SOURCE.name, ASKED, 5) == exactly(data)
    with data.owned(), Index.for_adding(data, "w") as index:
        index.reconcile()
    assert held(data)


def test_while_the_server_is_away_vectors_wait_and_search_goes_on_with_a_note(tmp_path: Path, server: str) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    data, notes = indexed(tmp_path, nowhere)
    assert "does not answer" in notes[0]
    with Index.for_reading(data, "w") as index:
        waiting = index.table.outbox_depth()
        assert waiting
        assert index.neighbours(SOURCE.name, ASKED, 5) == exactly(data)
    # The server comes, at another address: the other was never filled.
    there = DataFolder(data.path, server)
    with there.owned(), Index.for_adding(there, "w") as index:
        assert index.lost_chroma()
        index.reconcile()
        assert index.table.outbox_depth() == 0
    assert len(held(there)) == waiting


def test_a_reader_notes_that_a_server_which_had_everything_went_away(tmp_path: Path) -> None:
    (tmp_path / "chroma").mkdir()
    with chroma_server(tmp_path / "chroma") as url:
        data, notes = indexed(tmp_path, url)
        assert not notes
    with Index.for_reading(data, "w") as index:
        assert index.neighbours(SOURCE.name, ASKED, 5) == exactly(data)
        (note,) = index.vector_notes()
        assert "does not answer" in note
        assert "without it" in note


def test_leaving_the_server_makes_the_folder_again_from_the_table(tmp_path: Path, server: str) -> None:
    data, _ = indexed(tmp_path, server)
    embedded = DataFolder(data.path)
    with embedded.owned(), Index.for_adding(embedded, "w") as index:
        assert index.lost_chroma()
        index.reconcile()
        assert index.drift(SOURCE.name).missing == 0
        assert not (data.path / "workspaces/w/vectors.json").exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n<html></html",
        b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"id": "../../x"}',
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}",
        b"no HTTP at all\r\n\r\n",
        b"",
    ],
)
def test_whatever_else_answers_is_told_from_a_chroma_server(answer: bytes) -> None:
    with answering(answer) as (url, met):
        with pytest.raises(VectorServerError):
            ServedVectors(url, "0" * 16, SOURCE.name, 16).upsert([ChunkId("a")], np.ones((1, 16), dtype=np.float32))
        assert met  # it was asked
    assert not any(b"embeddings" in request for request in met)  # and got no vectors


@pytest.mark.parametrize(
    "url", ["http://", "ftp://host", "http://user:word@host:8000", "http://host:port", "http://host:99999", "//host"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(VectorServerError, match="no address"):
        ServedVectors(url, "0" * 16, SOURCE.name, 16)


def test_vectors_go_to_the_named_host_whatever_proxy_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"") as (proxy, taken), answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") as (url, met):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        with pytest.raises(VectorServerError):
            ServedVectors(url, "0" * 16, SOURCE.name, 16).count()
        assert met
        assert not taken


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Something on a port that gives one answer to all; what it was asked."""
    met: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(30)
                    met.append(connection.recv(65_536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", met
        finally:
            listening.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=30)
    assert not thread.is_alive()
