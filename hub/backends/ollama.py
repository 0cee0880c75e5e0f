"""Ollama, by its official client: a chat model as Backend, an embedding model as Embedder, and how to find them.

Owns the ``ollama`` client and translates its errors, and those of httpx that it lets through. Knows nothing of
retrieval or prompts, and reads no environment: the host arrives as an argument.

What this module guards against, all of it silent in Ollama unless asked otherwise (read in its source of August 2026):

* a chat request drops old messages, or cuts the prompt to half of the window, unless it says ``truncate: false``;
* generation drops half of the context when the window is full, unless it says ``shift: false``;
* a thinking model thinks unless it is told ``think: false`` (a model that cannot think accepts that, and only that);
* another ``num_ctx`` or ``shift`` than before reloads the model, so all requests carry the same;
* nothing is sent before the first token, so the read timeout must exceed the longest prefill;
* once an answer has begun an error is a line of it, under status 200.
"""

import hashlib
import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from hub.backends import refuse_overlong
from hub.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelMissing,
    PromptTooLong,
)
from hub.model import BackendInfo, Capabilities, Completion, GenerationOptions, Prompt, Streamed, Usage
from indexer.errors import EmbedderError
from indexer.model import Matrix

if TYPE_CHECKING:
    import ollama

_LOG_HINT = "Look at Ollama's log: journalctl -u ollama, or ~/.ollama/logs/server.log."
_MEMORY_HINT = (
    "The memory is too small: use a smaller num_ctx or model, or start Ollama with OLLAMA_FLASH_ATTENTION=1 "
    "OLLAMA_KV_CACHE_TYPE=q8_0."
)

DEFAULT_HOST = "http://127.0.0.1:11434"

# Seconds. Whether something listens shows at once on a local network; find() must not delay a command. 0.2 to 1.
PROBE_TIMEOUT_S = 0.5
# Seconds. 1 to 10.
CONNECT_TIMEOUT_S = 3.0
# Seconds. For lists and facts about models, which Ollama reads from disk. 5 to 60.
REQUEST_TIMEOUT_S = 30.0
# Seconds. One batch of texts on a CPU, behind a model load. 60 to 1,800.
EMBED_TIMEOUT_S = 600.0
# Texts in one request. Ollama embeds them one after the other, so this only bounds what a failure loses. 8 to 128.
EMBED_BATCH = 32

# Tokens. The window of the daily tier. Another value reloads the model, so one is kept. 8,192 to 65,536.
NUM_CTX = 32_768
# Tokens. A prompt that is answered well and soon. 4,000 to 64,000.
PROMPT_TOKENS = 16_384
# Tokens. What a chat template adds: 5 to 60 in the usual ones, about 100 in gpt-oss's.
TEMPLATE_TOKENS = 128

# UTF-8 bytes, safe side. SmolLM2's vocabulary of 49,152 takes 3.0 to 3.4 bytes of C++ a token at the median and 1.9 to
# 2.2 in the hardest hundredth (tables of numbers), measured over windows of 3,000 bytes of googletest and libstdc++;
# the larger vocabularies of today's coding models take more. 2.0 is the safest, 3.0 wrong for every second prompt.
BYTES_PER_TOKEN = 2.2
# UTF-8 bytes. Below this a template weighs more than the text, and nothing is learnt of the text's rate.
LEAST_TO_LEARN_FROM = 1024
# Of the pieces of a prompt that no vocabulary joins (see _PIECES). They are 0.3 to 0.9 of the tokens, 0.6 at the median
# (same measurement), so a cut to half of a usual prompt shows. Below 1 because SentencePiece splits a little less.
LEAST_SHARE_READ = 0.9

# The tokenizers of GPT-2, Llama 3, Qwen and their kin first split a text, and no token crosses a split: between words,
# between digits and letters, and around punctuation except for one mark straight before a word.
_PIECES = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|(?:[^\w\s]|_){2,}|(?:[^\w\s]|_)(?![^\W\d_])")

_TOO_LONG = re.compile(
    r"exceed_context_size|exceeds? the available context size|longer than the context length|"
    r"exceeds the context length"
)
_TOO_LONG_SIZES = re.compile(r"\((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
_OUT_OF_MEMORY = re.compile(
    r"out.of.memory|\boom\b|more system memory|cudaMalloc|resource limitations|process has terminated",
    re.IGNORECASE,
)

# Parts of names of models that do not answer questions.
_NO_CHAT = re.compile(r"embed|minilm|\bbge\b|\bgte\b|\be5\b|paraphrase|rerank|guard|-ocr|translate", re.IGNORECASE)
# Models that Ollama runs on its maker's machines: code would leave this one.
_ELSEWHERE = re.compile(r"[:-]cloud$")

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


def find(host: str = DEFAULT_HOST, model: str | None = None) -> str | None:
    """The chat model to use at this host, or None if no Ollama answers there. Takes half a second at most to say None
    where nothing listens.

    The configured model if there is one, else the best of those installed: first those with "coder" in the name,
    then the largest file, then by name. Embedding models, rerankers and guards are passed over, and so are models
    that run in Ollama's cloud. Raises ModelMissing when Ollama runs without such a model, and BackendUnavailable when
    the host is not an address.
    """
    address = _address(host)
    if not _listens(address):
        return None
    try:
        installed = _list(_connect(address), address)
    except BackendError:
        return None  # it is something else that listens there, or it is of no use now
    if model is not None:
        for name in (model, f"{model}:latest"):
            if name in installed:
                return name
        raise _missing(model)
    chat = [name for name in installed if not _NO_CHAT.search(name) and not _ELSEWHERE.search(name)]
    if not chat:
        raise ModelMissing(f"Ollama at {address} has no model that answers questions.", "ollama pull qwen2.5-coder:7b")
    return min(chat, key=lambda name: ("coder" not in name.lower(), -installed[name].size, name))


def installed_models(host: str = DEFAULT_HOST) -> tuple[str, ...]:
    """The names of all models that Ollama has, sorted. Raises BackendError."""
    address = _address(host)
    return tuple(sorted(_list(_connect(address), address)))


class _Overlong(PromptTooLong):
    """With the prompt's size as Ollama counted it, in tokens; 0 where it did not tell."""

    tokens = 0


class OllamaBackend:
    """A Backend over one model of an Ollama server. Nothing is sent before the first call.

    ``num_ctx`` is the context window to load the model with, in tokens; the model's own limit caps it.
    """

    def __init__(self, host: str, model: str, *, num_ctx: int = NUM_CTX, prompt_tokens: int = PROMPT_TOKENS) -> None:
        self._address = _address(host)
        self._model = model
        self._num_ctx = num_ctx
        self._prompt_tokens = prompt_tokens
        self._tokens_per_byte = 1 / BYTES_PER_TOKEN
        self._window: int | None = None
        self._connected: ollama.Client | None = None

    def info(self) -> BackendInfo:
        """The window is ``num_ctx``, or what the model was trained for if that is less. Raises BackendError."""
        window = self._context_window()
        room = window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo("ollama", self._model, window, max(0, min(self._prompt_tokens, room)))

    def count_tokens(self, text: str) -> int:
        """An upper estimate from the UTF-8 bytes: Ollama has no tokenizer to ask.

        It grows when an answer shows that a prompt took more tokens than estimated, and never shrinks.
        """
        return int(np.ceil(len(_bytes(text)) * self._tokens_per_byte))

    def capabilities(self) -> Capabilities:
        return Capabilities()

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. Raises BrokenStream also when Ollama says it read less than was sent."""
        window = self._context_window()
        counted = self.count_tokens(prompt.system) + self.count_tokens(prompt.user)
        refuse_overlong(max(prompt.tokens, counted) + TEMPLATE_TOKENS, options.max_tokens, window)
        return self._answer(prompt, options, window)

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()  # type: ignore[no-untyped-call]
            self._connected = None

    def _answer(self, prompt: Prompt, options: GenerationOptions, window: int) -> Iterator[Streamed]:
        body = {
            "model": self._model,
            "messages": _messages(prompt),
            "stream": True,
            "truncate": False,
            "shift": False,
            "think": False,
            "options": {
                "num_ctx": window,
                "num_predict": options.max_tokens,
                "temperature": options.temperature,
                "seed": options.seed,
            },
        }
        parts = _post(self._client(), "/api/chat", body, stream=True, timeout=_timeout(options.timeout_s))
        pieces: list[str] = []
        last: Mapping[str, Any] = {}
        try:
            while not last.get("done"):
                with _translated(self._address, self._model):
                    last = _next_line(parts)
                if text := _text_of(last):
                    pieces.append(text)
                    yield text
        except _Overlong as error:
            self._learn(prompt, error.tokens)
            raise
        finally:
            parts.close()  # the connection with it, which is what cancels the request
        usage = Usage(_count(last, "prompt_eval_count"), _count(last, "eval_count"))
        _check_that_it_was_read(prompt, usage.prompt)
        self._learn(prompt, usage.prompt)
        yield Completion("".join(pieces), usage, "length" if last.get("done_reason") == "length" else "stop")

    def _learn(self, prompt: Prompt, tokens: int) -> None:
        """Raises the rate so that this prompt's estimate, with its template, would not have been too low."""
        size = len(_bytes(prompt.system)) + len(_bytes(prompt.user))
        if size >= LEAST_TO_LEARN_FROM:
            self._tokens_per_byte = max(self._tokens_per_byte, (tokens - TEMPLATE_TOKENS) / size)

    def _context_window(self) -> int:
        if self._window is None:
            trained = _fact(self._client(), self._address, self._model, "context_length")
            self._window = min(self._num_ctx, trained or self._num_ctx)
        return self._window

    def _client(self) -> "ollama.Client":
        if self._connected is None:
            self._connected = _connect(self._address)
        return self._connected


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
            self._address = _address(host)
            self._client = _connect(self._address, EMBED_TIMEOUT_S)
            installed = _list(self._client, self._address)
            if (entry := installed.get(model) or installed.get(f"{model}:latest")) is None:
                raise _missing(model)
            dimensions = _fact(self._client, self._address, model, "embedding_length")
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
        self._client.close()  # type: ignore[no-untyped-call]

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
        with _translated(self._address, self._model):
            # A text of nothing has no vector at all in Ollama; a space has.
            inputs = [_unicode(text) or " " for text in texts]
            return self._client.embed(self._model, inputs, truncate=True).embeddings


@dataclass(frozen=True, slots=True)
class _Installed:
    """What the list of models says of one."""

    digest: str
    size: int  # bytes on disk


def _address(host: str) -> str:
    """The host as a URL with its port. OLLAMA_HOST may name an address to listen on, which is none to call."""
    text = host.strip().rstrip("/") or DEFAULT_HOST
    has_scheme = "://" in text
    try:
        parts = urlsplit(text if has_scheme else f"http://{text}")
        port = parts.port or ({"http": 80, "https": 443}.get(parts.scheme, 0) if has_scheme else 11434)
    except ValueError:
        port = 0
    if port == 0:
        raise BackendUnavailable(f"{host} is not an address of Ollama.", f"Write it like {DEFAULT_HOST}.")
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", None: "127.0.0.1"}.get(parts.hostname, parts.hostname)  # noqa: S104 - it is replaced, not bound
    return f"{parts.scheme}://{f'[{name}]' if name and ':' in name else name}:{port}{parts.path}"


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PROBE_TIMEOUT_S).close()
    except (OSError, UnicodeError):  # the latter for a name that no network could have
        return False
    return True


def _connect(address: str, read_s: float = REQUEST_TIMEOUT_S) -> "ollama.Client":
    import ollama  # noqa: PLC0415 - 0.4 to 0.9 s that a command without Ollama need not wait for

    # Prompts hold source code: they go to this address only, through no proxy and after no redirect.
    with _translated(address, ""):
        return ollama.Client(
            host=address,
            timeout=_timeout(read_s),
            trust_env=False,
            follow_redirects=False,
        )


def _timeout(read_s: float) -> tuple[float, float, float, float]:
    """The limits httpx takes: to connect, read, write and wait for a connection, in seconds."""
    return (CONNECT_TIMEOUT_S, read_s, REQUEST_TIMEOUT_S, REQUEST_TIMEOUT_S)


def _post(client: "ollama.Client", path: str, body: Mapping[str, Any], **more: Any) -> Any:
    """The answer as a dict, or an iterator of dicts with ``stream=True``.

    The client's public methods have no ``truncate`` and ``shift``, and give up where a fact about a model is missing;
    this is what they themselves call.
    """
    return client._request(dict, "POST", path, json=body, **more)  # noqa: SLF001 - the reason is above


def _list(client: "ollama.Client", address: str) -> dict[str, _Installed]:
    with _translated(address, ""):
        return {
            entry.model: _Installed(entry.digest or "", int(entry.size or 0))
            for entry in client.list().models
            if entry.model
        }


def _fact(client: "ollama.Client", address: str, model: str, name: str) -> int | None:
    """A number from the model's GGUF metadata, whose keys begin with its architecture: ``qwen2.context_length``."""
    with _translated(address, model):
        facts = _post(client, "/api/show", {"model": model}).get("model_info") or {}
        return next((int(facts[key]) for key in sorted(facts) if key.endswith(f".{name}")), None)


def _next_line(parts: Iterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The next line of an answer. The client raises the errors it sees in one; what it may not see is caught here."""
    line = next(parts, None)
    if line is None:
        raise BrokenStream("Ollama stopped in the middle of its answer.", _LOG_HINT)
    if line.get("error"):
        raise _refusal(line["error"], None, "", "")
    return line


@contextmanager
def _translated(address: str, model: str) -> Iterator[None]:
    """The errors of the client, and what it lets through from httpx and from reading a line, as ours."""
    import httpx  # noqa: PLC0415 - comes with the client, which is loaded late
    import ollama  # noqa: PLC0415 - see _connect

    try:
        yield
    except ollama.ResponseError as error:
        status = error.status_code if error.status_code >= 0 else None
        raise _refusal(error.error, status, address, model) from error
    except (
        ConnectionError,
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.InvalidURL,
        httpx.UnsupportedProtocol,
        UnicodeError,  # a name that no network could have
    ) as error:
        raise BackendUnavailable(f"Ollama does not answer at {address}.", "Start it: ollama serve") from error
    except httpx.TimeoutException as error:
        raise BrokenStream(
            f"Ollama at {address} did not answer in time.",
            "A long prompt needs a long time to be read: raise the time limit or ask for less.",
        ) from error
    except httpx.HTTPError as error:
        raise BrokenStream("The connection to Ollama broke before the answer was complete.", _LOG_HINT) from error
    except (ValueError, TypeError, AttributeError) as error:
        # The client takes each line, and each error in one, for a JSON object of the right form, and fails like this.
        raise BrokenStream("Ollama sent a line that is no part of an answer.", _LOG_HINT) from error


@contextmanager
def _as_embedder_errors() -> Iterator[None]:
    try:
        yield
    except BackendError as error:
        raise EmbedderError(error.message, error.hint) from error


def _refusal(said: object, status: int | None, address: str, model: str) -> BackendError:
    """The error that Ollama's words and status mean; the status is None in the middle of an answer.

    ``said`` is the text of the error, in which a refusal by llama-server is JSON again, or that JSON already read.
    """
    text = " ".join((said if isinstance(said, str) else json.dumps(said, sort_keys=True)).split())[:400]
    if _TOO_LONG.search(text):
        return _overlong(text)
    if status == 404 and "model" not in text:
        return BackendUnavailable(f"What answers at {address} is not Ollama.", "Correct the address.")
    if status == 404 or (status == 400 and "model is required" in text):
        return _missing(model)
    if status == 503:
        return BackendBusy(f"Ollama is busy: {text}", "Try again soon, or raise OLLAMA_MAX_QUEUE.")
    hint = _MEMORY_HINT if _OUT_OF_MEMORY.search(text) else _LOG_HINT
    if status is None:
        return BrokenStream(f"Ollama stopped in the middle of its answer: {text}", hint)
    return BackendError(f"Ollama refused the request ({status}): {text}", hint)


def _overlong(text: str) -> _Overlong:
    sizes = _TOO_LONG_SIZES.search(text)
    what = f"of {sizes[1]} tokens does" if sizes else "does"
    window = f"context window of {sizes[2]} tokens" if sizes else "context window"
    error = _Overlong(
        f"The prompt {what} not fit the model's {window}.",
        "Ask for a smaller prompt, or give the model a larger context window (num_ctx).",
    )
    error.tokens = int(sizes[1]) if sizes else 0
    return error


def _missing(model: str) -> ModelMissing:
    return ModelMissing(f"Ollama does not have the model {model}.", f"ollama pull {model}")


def _check_that_it_was_read(prompt: Prompt, tokens: int) -> None:
    """Raises BrokenStream if Ollama read fewer tokens than any tokenizer would make of the prompt."""
    pieces = len(_PIECES.findall(prompt.system)) + len(_PIECES.findall(prompt.user))
    least = int(pieces * LEAST_SHARE_READ)
    if tokens < least:
        raise BrokenStream(
            f"The answer was made from a shortened prompt: Ollama read {tokens} tokens of at least {least} sent.",
            "Update Ollama: this version cuts prompts although it is told not to.",
        )


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    parts = (("system", prompt.system), ("user", prompt.user))
    return [{"role": role, "content": _unicode(text)} for role, text in parts if text or role == "user"]


def _text_of(line: Mapping[str, Any]) -> str:
    """The piece of the answer in a line; thoughts, which some models have unasked, are left out."""
    message = line.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _count(line: Mapping[str, Any], key: str) -> int:
    value = line.get(key)
    return value if isinstance(value, int) else 0


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _unicode(text: str) -> str:
    """The text with lone surrogates, which JSON over UTF-8 cannot carry, as question marks."""
    return _bytes(text).decode("utf-8")
