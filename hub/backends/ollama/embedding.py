"""An embedding model of Ollama as Embedder, with the words that its card wants before each text."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from hub.backends.counting import unicode
from hub.backends.ollama.server import Server, fact, missing
from hub.errors import BackendError
from indexer.errors import EmbedderError
from indexer.model import Matrix

# Seconds. One batch of texts on a CPU, behind a model load. 60 to 1,800.
EMBED_TIMEOUT_S = 600.0
# Texts in one request. Ollama embeds them one after the other, so this only bounds what a failure loses. 8 to 128.
EMBED_BATCH = 32

# What the models' cards want before a query and before a document; a model that is not here wants nothing.
# nomic-ai/nomic-embed-text-v1.5 "Task instruction prefixes"; Qwen/Qwen3-Embedding-0.6B "Usage" (documents go without);
# google/embeddinggemma-300m "Prompt instructions", the rows for code retrieval and for documents;
# mixedbread-ai/mxbai-embed-large-v1 "Quickstart"; Snowflake/snowflake-arctic-embed-m "Using Huggingface transformers"
# and snowflake-arctic-embed-l-v2.0 likewise; BAAI/bge-large-en-v1.5 "Usage"; BAAI/bge-m3 "FAQ" wants none.
PREFIXES: Mapping[str, tuple[str, str]] = {
    "nomic-embed-text": ("search_query: ", "search_document: "),
    "qwen3-embedding": (
        "Instruct: Given a question about a C++ code base, retrieve the code that answers it\nQuery:",
        "",
    ),
    "embeddinggemma": ("task: code retrieval | query: ", "title: none | text: "),
    "mxbai-embed-large": ("Represent this sentence for searching relevant passages: ", ""),
    "snowflake-arctic-embed": ("Represent this sentence for searching relevant passages: ", ""),
    "snowflake-arctic-embed2": ("query: ", ""),
    "bge-large": ("Represent this sentence for searching relevant passages: ", ""),
    "bge-m3": ("", ""),
}


class OllamaEmbedder:
    """An Embedder over one embedding model of an Ollama server.

    A text that is longer than the model's window is embedded by its beginning: Ollama cuts it, as asked. Making one
    asks Ollama for the model's digest and dimensions. Raises EmbedderError, then and later.
    """

    def __init__(self, host: str, model: str) -> None:
        self._model = model
        family = model.rsplit("/", 1)[-1].partition(":")[0]
        self._query_prefix, self._document_prefix = PREFIXES.get(family, ("", ""))
        with _as_embedder_errors():
            self._server = Server(host, EMBED_TIMEOUT_S)
            installed = self._server.installed()
            if (entry := installed.get(model) or installed.get(f"{model}:latest")) is None:
                raise missing(model)
            dimensions = fact(self._server.shown(model), "embedding_length")
            self._dimensions = dimensions or len(self._request(["dimensions"])[0])
        prefixes = f"{self._query_prefix}\0{self._document_prefix}".encode()
        settings = hashlib.blake2b(prefixes, digest_size=4).hexdigest()
        self._name = f"ollama:{model}@{entry.digest[:12]}:{self._dimensions}:{settings}"

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        return self._embed([self._document_prefix + text for text in texts])

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        vector: npt.NDArray[np.float32] = self._embed([self._query_prefix + text])[0]
        return vector

    def close(self) -> None:
        self._server.close()

    def _embed(self, texts: Sequence[str]) -> Matrix:
        rows = np.zeros((len(texts), self._dimensions), dtype=np.float64)
        for start in range(0, len(texts), EMBED_BATCH):
            batch = texts[start : start + EMBED_BATCH]
            with _as_embedder_errors():
                answer = self._request(batch)
            if len(answer) != len(batch) or any(len(row) != self._dimensions for row in answer):
                raise EmbedderError(
                    f"Ollama's {self._model} answered {len(batch)} texts with vectors of another number or size.",
                    "The model was replaced under its name: restart, and index again.",
                )
            rows[start : start + len(batch)] = answer
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise EmbedderError(
                f"Ollama's {self._model} answered a text with a vector that has no direction.",
                "Pull the model again, or choose another.",
            )
        return np.asarray(rows / lengths, dtype=np.float32)

    def _request(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        # A text of nothing has no vector at all in Ollama; a space has.
        return self._server.embed(self._model, [unicode(text) or " " for text in texts])


@contextmanager
def _as_embedder_errors() -> Iterator[None]:
    try:
        yield
    except BackendError as error:
        raise EmbedderError(error.message, error.hint) from error
