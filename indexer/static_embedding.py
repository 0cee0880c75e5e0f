"""Turns texts into unit vectors by looking their words up: our own model of C++, which ships with this package.

A vector is the weighted sum of the vectors of a text's words. Those and the weights were learnt from comments and the
functions below them, by ``benchmarks/train_embedding.py``, which also writes the three files that are read here. It
knows nothing of chunks, files or stores, and needs nothing but numpy: thousands of texts a second on one core.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.errors import EmbedderError
from indexer.model import Matrix, Vector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FOLDER = Path(__file__).parent / "models" / "cpp-static"
FILES = ("config.json", "tokenizer.json", "model.safetensors")

# Of the three files, one after the other: `benchmarks/train_embedding.py` prints it. Part of the name, because vectors
# of different models must not be compared.
SHA256 = "2fb97534545f3d6b72479f5c036861e70007cb45d2ef2e197962b70daf37744f"

DIMENSIONS = 256

# What the training fixed: changing one of these asks for a new model.
# How often the name of a text, its first line, counts beside what stands below it; 1 to 3. Comment to function, comment
# hidden, over six libraries, mean reciprocal rank at 0.5, 1, 2 and 3: 0.40, 0.42, 0.43, 0.44; long comments to bodies:
# 0.42, 0.42, 0.43, 0.42.
TITLE_GAIN = 2.0
# Characters of a text that are read; chunks have at most 4,500. Sensible range: 2,000 to 10,000.
MAX_CHARACTERS = 6000
# A word that the vocabulary does not hold is read in pieces that it does hold, if these are few and make sense: letters
# of pieces shorter than LEAST_PIECE are at most LOOSE_LETTERS, which leaves room for an ending.
MAX_PIECES = 3
LEAST_PIECE = 3
LOOSE_LETTERS = 2
# Any other word shares one of so many vectors with others: it is found where it stands again, like a project's own
# abbreviations. 1,000 to 16,000; 256 bytes each.
BUCKETS = 4096

# The name of every StaticEmbedder, for callers that must know it before they pay for loading one.
STATIC_NAME = f"static-cpp/{SHA256[:12]}"

_WORDS_KEPT = 200_000  # words whose pieces are remembered: 30 MB at most
_GROUP = 64  # texts that are summed up at once: 10 MB of vectors

# A run of capitals, or a small word with its capital: MakeRoom_forHTTPWrite gives Make, Room, for, HTTP, Write.
# Digits and all else are left out.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


class Model(NamedTuple):
    """What the three files hold."""

    vocabulary: dict[str, int]  # word or piece, lower case -> its row
    vectors: "npt.NDArray[np.int8]"  # shape (words + BUCKETS, DIMENSIONS)
    weights: "npt.NDArray[np.float32]"  # shape (words + BUCKETS,), times a row: the word's vector in a document
    query_weights: "npt.NDArray[np.float32]"  # the same in a question


class Pieces(dict[str, tuple[int, ...]]):
    """The rows of each word: its own, those of its pieces, or that of its bucket, behind those of the vocabulary."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        super().__init__()
        self._vocabulary = vocabulary
        self._longest = max(map(len, vocabulary), default=0)

    def __missing__(self, word: str) -> tuple[int, ...]:
        lower = word.lower()
        row = self._vocabulary.get(lower)
        rows = (row,) if row is not None else self._split(lower)
        if len(self) < _WORDS_KEPT and len(word) <= self._longest * 2:
            self[word] = rows
        return rows

    def _split(self, word: str) -> tuple[int, ...]:
        """The longest piece that the word begins with, and so on."""
        rows: list[int] = []
        at = loose = 0
        while at < len(word) and len(rows) < MAX_PIECES:
            for end in range(min(len(word), at + self._longest), at, -1):
                row = self._vocabulary.get(word[at:end])
                if row is not None:
                    rows.append(row)
                    loose += end - at if end - at < LEAST_PIECE else 0
                    at = end
                    break
            else:
                break
        if at == len(word) and loose <= LOOSE_LETTERS:
            return tuple(rows)
        return (len(self._vocabulary) + zlib.crc32(word.encode()) % BUCKETS,)

    def rows(self, text: str) -> list[int]:
        """The rows of all words of the text, in order."""
        return [row for word in _WORD.findall(text) for row in self[word]]


def words_of(text: str) -> list[str]:
    """Names and prose in words, spelt as they stand."""
    return _WORD.findall(text)


class StaticEmbedder:
    """The static model: 256 dimensions. Takes 0.1 s to build, and 30 MB. Safe to call from several threads.

    It reads the model that ships, and raises EmbedderError when its files are not those that the name stands for.
    Whoever trains a model hands it over instead.
    """

    def __init__(self, model: Model | None = None) -> None:
        import numpy as np  # noqa: PLC0415 - 0.1 s that whoever needs but the name should not wait for

        model = model or read_model(_verified(FOLDER))
        self._pieces = Pieces(model.vocabulary)
        self._vectors = model.vectors.astype(np.float32)
        self._weights = model.weights
        self._query_weights = model.query_weights

    @property
    def name(self) -> str:
        return STATIC_NAME

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """Shape (texts, 256), rows of unit length, the same for a text whatever stands beside it.

        The first line of a text is taken for its name. Texts without a word that is known have one vector in common.
        """
        import numpy as np  # noqa: PLC0415 - see __init__

        rows = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for start in range(0, len(texts), _GROUP):
            group = [text[:MAX_CHARACTERS].partition("\n") for text in texts[start : start + _GROUP]]
            titles = [self._pieces.rows(title) for title, _, _ in group]
            bodies = [self._pieces.rows(body) for _, _, body in group]
            rows[start : start + len(group)] = self._sums(titles, bodies, self._weights)
        return rows

    def embed_query(self, text: str) -> Vector:
        """Shape (256,), of unit length. A question weighs its words in its own way, and has no name."""
        vector: Vector = self._sums([[]], [self._pieces.rows(text[:MAX_CHARACTERS])], self._query_weights)[0]
        return vector

    def _sums(
        self, titles: Sequence[list[int]], bodies: Sequence[list[int]], weights: "npt.NDArray[np.float32]"
    ) -> Matrix:
        """A word that stands n times below the title counts 1 + ln n, and TITLE_GAIN more if it stands in the title."""
        import numpy as np  # noqa: PLC0415 - see __init__

        size = len(self._vectors)
        of_titles, of_bodies = _keys(titles, size), _keys(bodies, size)
        distinct, places = np.unique(np.concatenate((of_bodies, of_titles)), return_inverse=True)
        texts, words = np.divmod(distinct, size)
        times = np.bincount(places[: len(of_bodies)], minlength=len(distinct))
        named = np.bincount(places[len(of_bodies) :], minlength=len(distinct)) > 0
        values = np.where(times > 0, 1 + np.log(np.maximum(times, 1)), 0) + TITLE_GAIN * named
        values = (values * weights[words]).astype(np.float32)
        vectors = self._vectors.take(words, axis=0)
        rows = np.zeros((len(bodies), DIMENSIONS), dtype=np.float32)
        ends = np.searchsorted(texts, np.arange(1, len(bodies) + 1)).tolist()
        start = 0
        for row, end in zip(rows, ends, strict=True):
            # Not the dot product, which may use several threads, and of whose order of adding we know nothing.
            np.einsum("i,ij->j", values[start:end], vectors[start:end], out=row)
            start = end
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: Matrix = np.where(lengths > 0, rows / np.maximum(lengths, 1e-12), np.float32(DIMENSIONS**-0.5))
        return unit


def read_model(files: Sequence[bytes]) -> Model:
    """The model out of the contents of FILES. Raises EmbedderError unless they belong together."""
    _, tokenizer, weights = files
    vocabulary: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    tensors = _read_safetensors(weights)
    model = Model(vocabulary, tensors["embeddings"], tensors["weights"], tensors["query_weights"])
    if model.vectors.shape != (len(vocabulary) + BUCKETS, DIMENSIONS):
        raise EmbedderError(
            f"The static embedding model has vectors of shape {model.vectors.shape} for {len(vocabulary)} words.",
            "Make it again with benchmarks/train_embedding.py.",
        )
    return model


def digest(files: Sequence[bytes]) -> str:
    """What SHA256 is compared with."""
    return hashlib.sha256(b"".join(files)).hexdigest()


def _keys(bags: Sequence[list[int]], size: int) -> "npt.NDArray[np.int64]":
    """Text and word of each occurrence as one number: place of the text times ``size``, plus the word."""
    import numpy as np  # noqa: PLC0415 - see StaticEmbedder

    lengths = [len(bag) for bag in bags]
    texts = np.repeat(np.arange(len(bags), dtype=np.int64), lengths)
    words = np.fromiter(chain.from_iterable(bags), dtype=np.int64, count=sum(lengths))
    keys: npt.NDArray[np.int64] = texts * size + words
    return keys


def _verified(folder: Path) -> list[bytes]:
    hint = "pip install --force-reinstall code-knowledge-hub"
    try:
        files = [(folder / name).read_bytes() for name in FILES]
    except OSError as error:
        raise EmbedderError(
            f"The static embedding model in {folder} cannot be read: {error.strerror}.", hint
        ) from error
    if digest(files) != SHA256:
        raise EmbedderError(f"The static embedding model in {folder} is not the expected one.", hint)
    return files


def _read_safetensors(content: bytes) -> dict[str, Any]:
    """Arrays by name. The format: the header's length in 8 bytes, little-endian, a header in JSON, the numbers."""
    import numpy as np  # noqa: PLC0415 - see StaticEmbedder

    kinds = {"I8": np.int8, "F16": np.float16, "F32": np.float32}
    start = 8 + int.from_bytes(content[:8], "little")
    tensors: dict[str, Any] = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            numbers = np.frombuffer(content[start + first : start + last], dtype=kinds[entry["dtype"]])
            tensors[name] = numbers.reshape(entry["shape"])
    return tensors
