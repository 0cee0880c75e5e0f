"""What Chroma does for an index, in one small file a collection: for the thousands of crashes that Chroma itself takes
too long for. It has the same steps, and may be killed between any two of them. For tests only.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from indexer.model import ChunkId, Matrix, Vector


class FiledVectors:
    """As ``indexer.vectors.ChromaVectors``; ``step`` is called before and after each thing that outlasts a crash."""

    step: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, folder: Path, embedder_name: str, dimensions: int) -> None:
        self._file = folder / str(uuid5(NAMESPACE_URL, f"{embedder_name} {dimensions}")) / "vectors.json"
        self._dimensions = dimensions
        self.step()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, list[float]] = {}
        if self._file.exists():
            self._kept = json.loads(self._file.read_text(encoding="utf-8"))
        self._keep()

    def upsert(self, ids: Sequence[ChunkId], vectors: Matrix) -> None:
        """Takes out and puts in, as the real one does."""
        assert vectors.shape == (len(ids), self._dimensions)
        self.delete([chunk for chunk in ids if chunk in self._kept])
        self._kept |= {str(chunk): row.tolist() for chunk, row in zip(ids, vectors, strict=True)}
        self._keep()

    def delete(self, ids: Sequence[ChunkId]) -> None:
        """Takes vectors out; ids that are not there are passed over."""
        for chunk in ids:
            self._kept.pop(chunk, None)
        self._keep()

    def nearest(self, vector: Vector, limit: int) -> list[tuple[ChunkId, float]]:
        """(id, cosine similarity), best first."""
        scored = [
            (ChunkId(chunk), sum(a * b for a, b in zip(row, vector, strict=True))) for chunk, row in self._kept.items()
        ]
        return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:limit]

    def count(self) -> int:
        """How many it holds."""
        return len(self._kept)

    def ids(self) -> set[ChunkId]:
        """All that it holds."""
        return {ChunkId(chunk) for chunk in self._kept}

    def close(self) -> None:
        """Nothing is held open."""

    def _keep(self) -> None:
        self.step()
        written = self._file.with_suffix(".new")
        written.write_text(json.dumps(self._kept), encoding="utf-8")
        written.replace(self._file)
        self.step()
