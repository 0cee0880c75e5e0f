"""Vectors in memory that follow those of a table: what was read once stays, and what changed since lies above it.

To read all of them again takes longer than a search. Where vectors come from, and which of them changed, it does not
know.
"""

from collections.abc import Collection, Sequence

import numpy as np

from indexer.model import ChunkId, Matrix, Vector
from indexer.vectors import ExactVectors

# Changes above which everything is better read again: a search looks at as many more vectors. 100 to 10,000.
MOST_ABOVE = 1_000


class Layers:
    """Vectors of which some were replaced since. Finds what ExactVectors of the same would. Never changes itself."""

    def __init__(self, version: int, below: ExactVectors, above: dict[ChunkId, Vector | None] | None = None) -> None:
        """``above`` are the vectors of the chunks that changed since ``below`` was read, None of those that went."""
        self.version = version
        self._below = below
        self._above = above or {}
        there = {chunk: row for chunk, row in self._above.items() if row is not None}
        self._added = ExactVectors(list(there), np.array(list(there.values()))) if there else ExactVectors()

    def changed(self, version: int, chunks: Collection[ChunkId], ids: Sequence[ChunkId], rows: Matrix) -> "Layers":
        """These as they are in a later version, in which other vectors are known of ``chunks``: of those among
        ``ids`` the rows, of the others none.
        """
        above: dict[ChunkId, Vector | None] = {**self._above, **dict.fromkeys(chunks)}
        above.update(zip(ids, rows, strict=True))
        return Layers(version, self._below, above)

    @property
    def above(self) -> int:
        """How many chunks changed since all were read."""
        return len(self._above)

    def nearest(
        self, vector: Vector, limit: int, within: Collection[ChunkId] | None = None
    ) -> list[tuple[ChunkId, float]]:
        """As ExactVectors.nearest."""
        if limit <= 0 or not self._above:
            return self._below.nearest(vector, limit, within)
        found = self._below.nearest(vector, limit + len(self._above), within)
        found = [(chunk, score) for chunk, score in found if chunk not in self._above]
        found += self._added.nearest(vector, limit, within)
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:limit]
