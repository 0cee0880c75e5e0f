"""What is particular to Chroma on disk and to the exact scan; what both promise is in the contract."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import DataFolderError
from indexer.model import ChunkId, Matrix
from indexer.rows import packed
from indexer.symbol_table.table import _matrix
from indexer.vectors import ChromaVectors, ExactVectors, collection_name, discard
from tests.support.command import ROOT


def _random(rows: int, size: int = 8, seed: int = 0) -> Matrix:
    matrix = np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)
    unit: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit


def _ids(number: int) -> list[ChunkId]:
    return [ChunkId(f"{place:032x}") for place in range(number)]


def test_vectors_are_still_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    rows = _random(30)
    first = ChromaVectors(tmp_path / "chroma", "minilm/128", 8)
    first.upsert(_ids(30), rows)
    first.delete(_ids(3))
    before = first.nearest(rows[7], 10)
    first.close()

    again = ChromaVectors(tmp_path / "chroma", "minilm/128", 8)
    assert again.nearest(rows[7], 10) == before
    assert again.ids() == set(_ids(30)[3:])
    again.close()


def test_embedders_share_a_folder_and_nothing_else(tmp_path: Path) -> None:
    one = ChromaVectors(tmp_path, "minilm-l6-v2-int8/128", 8)
    other = ChromaVectors(tmp_path, "minilm-l6-v2-int8/256", 8)
    wider = ChromaVectors(tmp_path, "minilm-l6-v2-int8/128", 16)
    one.upsert(_ids(3), _random(3))
    assert (one.count(), other.count(), wider.count()) == (3, 0, 0)
    one.close()
    other.upsert(_ids(2), _random(2))  # closing one leaves the others open
    assert other.count() == 2
    other.close()
    wider.close()


@given(st.text(max_size=600), st.integers(1, 10_000))
def test_a_collection_name_is_one_that_chroma_accepts(name: str, dimensions: int) -> None:
    collection = collection_name(name, dimensions)
    assert 3 <= len(collection) <= 512
    assert set(collection) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_more_vectors_than_chroma_takes_at_once_are_put_in_in_parts(tmp_path: Path) -> None:
    index = ChromaVectors(tmp_path, "minilm", 2)
    number = index._client.get_max_batch_size() + 1
    index.upsert(_ids(number), _random(number, 2))
    assert index.count() == number
    index.delete(_ids(number)[1:])
    assert index.ids() == set(_ids(1))
    index.close()


def test_a_discarded_folder_starts_empty_in_the_same_process(tmp_path: Path) -> None:
    folder = tmp_path / "chroma"
    index = ChromaVectors(folder, "minilm", 8)
    index.upsert(_ids(5), _random(5))
    index.close()
    index.close()
    discard(folder)
    assert not folder.exists()
    discard(folder)

    fresh = ChromaVectors(folder, "minilm", 8)
    assert fresh.count() == 0
    fresh.upsert(_ids(2), _random(2))
    assert fresh.count() == 2
    fresh.close()


def test_a_folder_that_is_spelt_differently_is_the_same_folder(tmp_path: Path) -> None:
    one = ChromaVectors(tmp_path / "chroma", "minilm", 8)
    other = ChromaVectors(tmp_path / "x" / ".." / "chroma", "minilm", 8)
    one.upsert(_ids(3), _random(3))
    assert other.count() == 3
    one.close()
    other.close()


_STALE = """
import ctypes, sys
from indexer.vectors import ChromaVectors
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
if len(sys.argv) > 1:
    ChromaVectors(__import__("pathlib").Path(sys.argv[1]), "minilm", 8).close()
size, blocks = 100_000, []
for _ in range(8):
    blocks.append(libc.malloc(ctypes.c_size_t(size)))
    ctypes.memset(blocks[-1], ord("s"), size)
for block in blocks:
    libc.free(ctypes.c_void_p(block))
again = [ctypes.string_at(libc.malloc(ctypes.c_size_t(size)), size) for _ in range(8)]
print(sum(block.count(b"ssss") for block in again))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc clears memory")
def test_what_a_process_has_read_does_not_get_into_the_room_that_chroma_keeps_in_its_files(tmp_path: Path) -> None:
    """Its graph is written as malloc gave it. The count of stale words shows that they are there without us."""

    def stale(*arguments: str) -> int:
        command = [sys.executable, "-c", _STALE, *arguments]
        return int(subprocess.run(command, capture_output=True, check=True, timeout=100, cwd=ROOT).stdout)

    assert stale() > 0
    assert stale(str(tmp_path)) == 0


def test_a_database_of_rubbish_is_an_error_that_says_how_to_repair_it(tmp_path: Path) -> None:
    folder = tmp_path / "chroma"
    folder.mkdir()
    (folder / "chroma.sqlite3").write_bytes(b"rubbish" * 1000)
    for _ in range(2):  # the second try finds the same, not what the first one left in Chroma
        with pytest.raises(DataFolderError, match="not a database") as caught:
            ChromaVectors(folder, "minilm", 8)
    assert caught.value.hint == "codehub repair"

    discard(folder)
    index = ChromaVectors(folder, "minilm", 8)
    assert index.count() == 0
    index.close()


def test_a_destroyed_graph_is_an_error_that_says_how_to_repair_it(tmp_path: Path) -> None:
    index = ChromaVectors(tmp_path, "minilm", 8)
    index.upsert(_ids(1200), _random(1200))  # from 1,000 on the graph is written to disk
    index.close()
    graphs = list(tmp_path.rglob("*.bin"))
    assert graphs
    for file in graphs:
        file.write_bytes(b"rubbish")

    broken = ChromaVectors(tmp_path, "minilm", 8)
    with pytest.raises(DataFolderError) as caught:
        broken.nearest(_random(1)[0], 5)
    assert caught.value.hint == "codehub repair"
    broken.close()


def test_a_file_in_the_place_of_the_folder_is_an_error_and_can_be_discarded(tmp_path: Path) -> None:
    folder = tmp_path / "chroma"
    folder.write_text("not a folder", encoding="utf-8")
    with pytest.raises(DataFolderError):
        ChromaVectors(folder, "minilm", 8)
    discard(folder)
    assert not folder.exists()


def test_discarding_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "chroma").symlink_to(tmp_path / "precious", target_is_directory=True)
    discard(tmp_path / "chroma")
    assert (tmp_path / "precious").is_dir()
    assert not (tmp_path / "chroma").is_symlink()


_PROGRAM = """
import sys
from pathlib import Path

import numpy as np

from indexer import vectors

assert "chromadb" not in sys.modules
index = vectors.ChromaVectors(Path(sys.argv[1]), "minilm", 4)
index.upsert(["a", "b"], np.eye(4, dtype=np.float32)[:2])
assert index.nearest(np.eye(4, dtype=np.float32)[0], 2)[0] == ("a", 1.0)
index.close()
assert not {"onnxruntime", "posthog"} & set(sys.modules)
"""


def _run_in(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROGRAM, str(folder / "chroma")]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_vectors_stay_here_whatever_settings_a_repository_brings(tmp_path: Path) -> None:
    lines = [
        "CHROMA_API_IMPL=chromadb.api.fastapi.FastAPI",
        "CHROMA_SERVER_HOST=127.0.0.1",
        "CHROMA_SERVER_HTTP_PORT=9",
    ]
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    done = _run_in(tmp_path, dict(line.split("=", 1) for line in lines))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "chroma" / "chroma.sqlite3").is_file()


def test_settings_that_chroma_cannot_read_are_an_error_that_says_where_they_are(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("IS_PERSISTENT=maybe", encoding="utf-8")
    done = _run_in(tmp_path, {})
    assert done.returncode == 1
    assert "indexer.errors.DataFolderError: Chroma does not load" in done.stderr


@given(
    numbers=st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=40),
    asked=st.lists(st.integers(-2, 2), min_size=3, max_size=3),
    limit=st.integers(1, 50),
    kept=st.sets(st.integers(0, 39)),
)
@settings(max_examples=150, deadline=None)
def test_a_scan_of_some_ranks_them_as_the_scan_of_all_does(
    numbers: list[list[int]], asked: list[int], limit: int, kept: set[int]
) -> None:
    matrix, question = np.array(numbers, dtype=np.float32), np.array(asked, dtype=np.float32)
    ids = _ids(len(numbers))
    everything = ExactVectors(ids, matrix).nearest(question, len(ids))
    assert everything[:limit] == ExactVectors(ids, matrix).nearest(question, limit)

    some = sorted(place for place in kept if place < len(ids))
    chosen = {ids[place] for place in some}
    part = ExactVectors([ids[place] for place in some], matrix[some]).nearest(question, len(ids))
    assert part == [(chunk, score) for chunk, score in everything if chunk in chosen]


def test_a_scan_finds_what_a_computation_in_double_precision_finds() -> None:
    matrix, question = _random(3000, 384), _random(1, 384, seed=1)[0]
    ids = _ids(3000)
    exact = matrix.astype(np.float64) @ question.astype(np.float64)
    found = ExactVectors(ids, matrix).nearest(question, 25)
    assert [chunk for chunk, _ in found] == [ids[place] for place in np.argsort(-exact)[:25]]
    np.testing.assert_allclose([score for _, score in found], np.sort(exact)[::-1][:25], atol=1e-6)


def test_vectors_in_half_precision_are_as_good() -> None:
    matrix = _random(50, 384)
    index = ExactVectors(_ids(50), matrix.astype(np.float16))
    assert [index.nearest(row, 1)[0][0] for row in matrix] == _ids(50)


def test_a_row_of_zeros_is_similar_to_nothing() -> None:
    index = ExactVectors([ChunkId("zero"), ChunkId("one")], np.array([[0, 0], [0, 1]], dtype=np.float32))
    assert index.nearest(np.array([0, 1], dtype=np.float32), 2) == [("one", 1.0), ("zero", 0.0)]
    assert index.nearest(np.zeros(2, dtype=np.float32), 2) == [("one", 0.0), ("zero", 0.0)]


def test_what_the_caller_gave_is_not_changed() -> None:
    given = np.eye(3, dtype=np.float32)
    index = ExactVectors(_ids(3), given)
    index.upsert(_ids(2), np.full((2, 3), 0.5, dtype=np.float32))
    index.delete(_ids(3)[2:])
    assert np.array_equal(given, np.eye(3))


def test_a_closed_scan_is_empty_and_takes_vectors_of_another_size() -> None:
    index = ExactVectors(_ids(3), np.eye(3, dtype=np.float32))
    index.close()
    assert index.count() == 0
    index.upsert(_ids(1), np.ones((1, 5), dtype=np.float32))
    assert index.ids() == set(_ids(1))


def test_vectors_packed_into_bytes_keep_their_cosines() -> None:
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(200, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    stored = [(str(number), blob) for number, blob in enumerate(packed(rows))]
    _, kept = _matrix(stored)
    assert np.abs(kept @ kept.T - rows @ rows.T).max() < 5e-3
    assert np.sum(kept * rows, axis=1).min() > 0.9998
    assert not _matrix([("zero", bytes(384))])[1].any()
