"""An embedder without a model: words hashed to dimensions. Texts that share words are near. For tests only."""

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from indexer.model import Matrix

_WORD = re.compile(r"[A-Za-z]+|\d+")


class FakeEmbedder:
    """Sixteen dimensions, deterministic in every process; ``name`` and ``calls`` are for the test to set and read."""

    def __init__(self, name: str = "fake/16") -> None:
        self._name = name
        self.calls: list[tuple[str, ...]] = []  # the texts of every call to embed_documents

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return 16

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        self.calls.append(tuple(texts))
        rows = [self.embed_query(text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dimensions)

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        row = np.zeros(self.dimensions, dtype=np.float32)
        row[0] = 0.01  # a text without words has a direction too
        for word in _WORD.findall(text.lower()):
            digest = blake2b(word.encode(), digest_size=2).digest()
            row[digest[0] % self.dimensions] += 1 if digest[1] % 2 else -1
        unit: npt.NDArray[np.float32] = row / np.linalg.norm(row)
        return unit
