"""What every vector index promises: Chroma on disk, Chroma as a server, and the exact scan."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.model import ChunkId, Matrix, VectorIndex
from indexer.vectors import ChromaVectors, ExactVectors, ServedVectors
from tests.support.chroma import chroma_server

SIZE = 4
Make = Callable[[], VectorIndex]
Step = tuple[str, list[Any]]  # "upsert" and (id, numbers) pairs, or "delete" and ids


@pytest.fixture(scope="module", params=["chroma", "server", "exact"])
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Makes an empty index each time: Chroma gets a collection of its own, in one folder or server to save time."""
    folder = tmp_path_factory.mktemp("vectors")
    made: list[VectorIndex] = []
    numbers = itertools.count()

    with ExitStack() as stack:
        url = stack.enter_context(chroma_server(folder)) if request.param == "server" else ""

        def new() -> VectorIndex:
            index: VectorIndex = ExactVectors()
            if request.param == "chroma":
                index = ChromaVectors(folder, f"embedder {next(numbers)}", SIZE)
            elif request.param == "server":
                index = ServedVectors(url, "0" * 16, f"embedder {next(numbers)}", SIZE)
            made.append(index)
            return index

        yield new
        for index in made:
            index.close()


IDS = st.sampled_from([ChunkId(letter * 8) for letter in "abcdefgh"])
VECTORS = st.tuples(*[st.integers(-3, 3)] * SIZE).filter(any)
BATCHES = st.lists(st.tuples(IDS, VECTORS), max_size=6)
STEPS = st.lists(
    st.one_of(st.tuples(st.just("upsert"), BATCHES), st.tuples(st.just("delete"), st.lists(IDS, max_size=4))),
    max_size=6,
)


def _unit(numbers: tuple[int, ...]) -> tuple[float, ...]:
    length = math.sqrt(sum(number * number for number in numbers))
    return tuple(number / length for number in numbers)


def _matrix(vectors: list[tuple[float, ...]]) -> Matrix:
    return np.array(vectors, dtype=np.float32).reshape(len(vectors), SIZE)


def _apply(index: VectorIndex, steps: list[Step]) -> dict[ChunkId, tuple[float, ...]]:
    """Does the steps and returns what must be in the index afterwards."""
    known: dict[ChunkId, tuple[float, ...]] = {}
    for what, batch in steps:
        if what == "delete":
            index.delete(batch)
            known = {chunk: vector for chunk, vector in known.items() if chunk not in batch}
        else:
            pairs = [(chunk, _unit(numbers)) for chunk, numbers in batch]
            index.upsert([chunk for chunk, _ in pairs], _matrix([vector for _, vector in pairs]))
            known |= dict(pairs)
    return known


@given(steps=STEPS, asked=VECTORS, limit=st.integers(1, 10))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_steps_exactly_what_was_put_in_last_is_found_best_first(
    make: Make, steps: list[Step], asked: tuple[int, ...], limit: int
) -> None:
    index = make()
    known = _apply(index, steps)
    assert index.count() == len(known)

    question = _unit(asked)
    similarity = {chunk: sum(a * b for a, b in zip(question, vector, strict=True)) for chunk, vector in known.items()}
    found = index.nearest(_matrix([question])[0], limit)

    assert len(found) == min(limit, len(known))
    assert len(dict(found)) == len(found)
    for chunk, score in found:
        assert score == pytest.approx(similarity[chunk], abs=1e-5)
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    worst = min((score for _, score in found), default=1.0)
    assert all(similarity[chunk] <= worst + 1e-5 for chunk in known if chunk not in dict(found))


@given(vectors=st.lists(VECTORS, min_size=1, max_size=8, unique_by=_unit))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_nearest_of_a_stored_vector_is_itself(make: Make, vectors: list[tuple[int, ...]]) -> None:
    index = make()
    ids = [ChunkId(f"chunk {number}") for number in range(len(vectors))]
    matrix = _matrix([_unit(vector) for vector in vectors])
    index.upsert(ids, matrix)
    for chunk, row in zip(ids, matrix, strict=True):
        ((nearest, score),) = index.nearest(row, 1)
        assert nearest == chunk
        assert score == pytest.approx(1.0, abs=1e-5)


def test_equal_vectors_come_in_the_order_of_their_ids(make: Make) -> None:
    index = make()
    ids = [ChunkId(name) for name in ("m", "z", "a", "k", "b")]
    index.upsert(ids, _matrix([(0.0, 1.0, 0.0, 0.0)] * 5))
    found = index.nearest(_matrix([(0.0, 1.0, 0.0, 0.0)])[0], 3)
    assert [chunk for chunk, _ in found] == ["a", "b", "k"]


def test_putting_the_same_in_again_changes_nothing(make: Make) -> None:
    index = make()
    ids = [ChunkId("a"), ChunkId("b")]
    rows = _matrix([(1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)])
    index.upsert(ids, rows)
    before = index.nearest(rows[0], 5)
    index.upsert(ids, rows)
    assert index.nearest(rows[0], 5) == before
    assert index.count() == 2


def test_deleting_what_is_not_there_is_no_error(make: Make) -> None:
    index = make()
    index.delete([ChunkId("nobody")])
    index.upsert([ChunkId("a")], _matrix([(1.0, 0.0, 0.0, 0.0)]))
    index.delete([ChunkId("nobody"), ChunkId("nobody")])
    index.delete([])
    assert index.count() == 1


def test_an_empty_index_finds_nothing(make: Make) -> None:
    index = make()
    index.upsert([], _matrix([]))
    assert index.nearest(_matrix([(1.0, 0.0, 0.0, 0.0)])[0], 5) == []


def test_a_limit_of_none_finds_nothing(make: Make) -> None:
    index = make()
    index.upsert([ChunkId("a")], _matrix([(1.0, 0.0, 0.0, 0.0)]))
    assert index.nearest(_matrix([(1.0, 0.0, 0.0, 0.0)])[0], 0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((2, SIZE + 1), dtype=np.float32),
        np.ones((1, SIZE), dtype=np.float32),
        np.ones(SIZE, dtype=np.float32),
        np.full((2, SIZE), np.nan, dtype=np.float32),
    ],
)
def test_vectors_that_do_not_fit_are_refused_before_anything_is_touched(make: Make, wrong: Matrix) -> None:
    index = make()
    rows = _matrix([(1.0, 0.0, 0.0, 0.0)])
    index.upsert([ChunkId("a")], rows)
    with pytest.raises(ValueError, match=r"shape|finite"):
        index.upsert([ChunkId("a"), ChunkId("b")], wrong)
    assert index.nearest(rows[0], 5) == [(ChunkId("a"), 1.0)]


def test_a_question_of_another_size_is_refused(make: Make) -> None:
    index = make()
    index.upsert([ChunkId("a")], _matrix([(1.0, 0.0, 0.0, 0.0)]))
    with pytest.raises(ValueError, match="shape"):
        index.nearest(np.ones(SIZE - 1, dtype=np.float32), 1)
