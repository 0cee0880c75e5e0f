"""Ollama: a chat model of it as Backend, an embedding model as Embedder, and what it says of its models.

Knows nothing of retrieval or how a prompt is written, and reads no environment: the host arrives as an argument.

What this package guards against, all of it silent in Ollama unless asked otherwise (read in its source of August 2026,
and tried on 0.17.4; ``docs/ollama.md`` has the list of what was tried):

* a chat request drops old messages, or cuts the prompt to the window or half of it, unless it says ``truncate: false``;
* generation drops half of the context when the window is full, unless it says ``shift: false``;
* a thinking model thinks unless it is told ``think: false`` (a model that cannot think accepts that, and only that);
* another ``num_ctx`` or ``shift`` than before reloads the model, so all requests of a backend carry the same;
* nothing is sent before the first token, so the read timeout must exceed the longest prefill;
* once an answer has begun an error is a line of it, under status 200.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from hub.backends import refuse_overlong, refuse_unsupported, schema_of
from hub.backends.counting import CalibratedRate, least_tokens, unicode, utf8_bytes
from hub.backends.logprobs import Heard, aligned, heard
from hub.backends.ollama.embedding import OllamaEmbedder
from hub.backends.ollama.models import (
    Resident,
    find,
    installed_models,
    model_facts,
    preload,
    residency,
    unload,
    vocabulary_of,
)
from hub.backends.ollama.server import DEFAULT_HOST, Overlong, Server, fact
from hub.backends.vocabulary import Vocabulary, read
from hub.errors import BackendError, PromptShortened, UnsupportedRequest
from hub.model import (
    BackendInfo,
    Capabilities,
    Completion,
    Counting,
    GenerationOptions,
    Prompt,
    Streamed,
    Timings,
    Usage,
)

__all__ = [
    "DEFAULT_HOST",
    "OllamaBackend",
    "OllamaEmbedder",
    "Resident",
    "find",
    "installed_models",
    "model_facts",
    "preload",
    "residency",
    "unload",
]

# Tokens. The window of the daily tier. Another value reloads the model, so one is kept. 8,192 to 65,536.
NUM_CTX = 32_768
# Tokens. A prompt that is answered well and soon. 4,000 to 64,000.
PROMPT_TOKENS = 16_384
# Tokens. What a chat template adds: 5 to 60 in the usual ones, about 100 in gpt-oss's.
TEMPLATE_TOKENS = 128
# Tokens. What a text may lose where the template stands straight against it, so that they share tokens. 4 to 32.
JOINED_TOKENS = 16
# Texts whose exact count is kept: a prompt is counted when it is made and again when it is sent. 4 to 64.
_COUNTS_KEPT = 16
# Tokens. More than any window.
_UNTOLD = 1 << 40
# The first version whose chats tell probabilities (ollama#12899).
_LOGPROBS_SINCE = (0, 12, 11)


class OllamaBackend:
    """A Backend over one model of an Ollama server. Nothing is sent before the first call.

    ``num_ctx`` is the context window to load the model with, in tokens; the model's own limit caps it. Counts are exact
    where the model's vocabulary is of a kind that is known here, and estimates from above elsewhere.
    ``load_options`` are further options of loading (num_batch, num_gpu, num_thread), the same in every request, because
    others would load the model again; ``keep_alive_s`` holds where a request says nothing of it.
    """

    def __init__(
        self,
        host: str,
        model: str,
        *,
        num_ctx: int = NUM_CTX,
        prompt_tokens: int = PROMPT_TOKENS,
        load_options: Mapping[str, int] | None = None,
        keep_alive_s: float | None = None,
    ) -> None:
        self._server = Server(host)
        self._model = model
        self._num_ctx = num_ctx
        self._prompt_tokens = prompt_tokens
        self._load_options = dict(load_options or {})
        self._keep_alive_s = keep_alive_s
        self._rate = CalibratedRate()
        self._template_tokens: int | None = None  # the most that the template was seen to add to an exact count
        self._loaded_window: int | None = None
        self._shown: Mapping[str, Any] | None = None
        self._version: tuple[int, ...] | None = None
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._looked_for_vocabulary = False
        self._counts: dict[str, int] = {}

    def info(self) -> BackendInfo:
        """The window is ``num_ctx``, or what the model was trained for if that is less. Raises BackendError."""
        window = self._window()
        room = window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo("ollama", self._model, window, max(0, min(self._prompt_tokens, room)))

    def count_tokens(self, text: str) -> int:
        """By the model's own vocabulary where that is known, else an upper estimate from the UTF-8 bytes.

        The estimate grows when an answer shows that a prompt took more tokens, and never shrinks. Raises nothing:
        where Ollama does not answer it is the estimate.
        """
        vocabulary = self._exact()
        if vocabulary is None:
            return self._rate.tokens(text)
        counted = self._counts.get(text)
        if counted is None:
            counted = vocabulary.count(text)
            with self._lock:
                if len(self._counts) >= _COUNTS_KEPT:
                    self._counts.clear()
                self._counts[text] = counted
        return counted

    def capabilities(self) -> Capabilities:
        """Raises BackendError. The counts are exact until an answer shows that they are not."""
        self._facts()
        if self._version is None:
            self._version = self._server.version()
        return Capabilities(
            counting=Counting.EXACT if self._exact() else Counting.BOUND,
            logprobs=not self._version or self._version >= _LOGPROBS_SINCE,
            json_schema=True,
            keep_alive=True,
        )

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. Raises PromptShortened also when Ollama says it read less than was sent."""
        window = self._window()
        if options.logprobs is not None or options.json_schema or options.progress:
            refuse_unsupported(options, self.capabilities(), "ollama")
        refuse_overlong(self._size(prompt, window - options.max_tokens), options.max_tokens, window)
        return self._answer(prompt, self._body(prompt, options, window), options)

    def reload_ahead(self) -> str:
        """Why the next request will load the model anew, in a sentence; empty where it need not. Raises BackendError.

        A load takes seconds to minutes and loses all that was read before. Settings of the server are not seen.
        """
        window = self._window()
        for entry in self._entries():
            held = _whole(entry, "context_length")
            if held in {0, window}:
                return ""
            return (
                f"Ollama holds {self._model} with a context of {held} tokens and is asked for {window}: "
                "it loads it again, and what it had read is lost."
            )
        return f"Ollama does not hold {self._model} in memory and loads it first."

    def preload(self) -> None:
        """Loads the model as the requests of this backend want it. Raises BackendError."""
        body: dict[str, Any] = {"truncate": False, "shift": False}
        if self._keep_alive_s is not None:
            body["keep_alive"] = self._keep_alive_s
        self._server.keep(self._model, {**body, "options": {"num_ctx": self._window(), **self._load_options}})

    def close(self) -> None:
        self._server.close()

    def _size(self, prompt: Prompt, room: int) -> int:
        """Tokens that the prompt takes at most, as far as that decides whether it fits the room."""
        seen = self._template_tokens if self._vocabulary is not None else None
        template = TEMPLATE_TOKENS if seen is None else seen
        least = prompt.tokens + template
        most = utf8_bytes(prompt.system) + utf8_bytes(prompt.user) + template  # no token is less than a byte
        if max(least, most) <= room:
            return least
        counted = self.count_tokens(prompt.system) + self.count_tokens(prompt.user)
        return max(prompt.tokens, counted) + template

    def _body(self, prompt: Prompt, options: GenerationOptions, window: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": _messages(prompt),
            "stream": True,
            "truncate": False,
            "shift": False,
            "think": False,
            "options": {
                **self._load_options,
                "num_ctx": window,
                "num_predict": options.max_tokens,
                "temperature": options.temperature,
                "seed": options.seed,
            },
        }
        if options.json_schema:
            body["format"] = schema_of(options)
        if options.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": options.logprobs}
        keep_alive_s = self._keep_alive_s if options.keep_alive_s is None else options.keep_alive_s
        if keep_alive_s is not None:
            body["keep_alive"] = keep_alive_s
        return body

    def _answer(self, prompt: Prompt, body: Mapping[str, Any], options: GenerationOptions) -> Iterator[Streamed]:
        pieces: list[str] = []
        tokens: list[Heard] = []
        last: Mapping[str, Any] = {}
        lines = self._server.chat(body, options.timeout_s)
        try:
            for last in lines:
                if options.logprobs is not None:
                    tokens += heard(last.get("logprobs"), options.logprobs)
                if text := _text_of(last):
                    pieces.append(text)
                    yield text
        except Overlong as error:
            self._rate.learn(_bytes_of(prompt), error.tokens - TEMPLATE_TOKENS)
            raise
        finally:
            lines.close()  # type: ignore[attr-defined]
        usage = Usage(_whole(last, "prompt_eval_count"), _whole(last, "eval_count"))
        self._check(prompt, usage.prompt, min(body["options"]["num_ctx"], self._held()))
        self._learn(prompt, usage.prompt)
        text = "".join(pieces)
        logprobs = aligned(tokens, text)
        if options.logprobs is not None and options.needs_logprobs and text and not logprobs:
            raise UnsupportedRequest(
                "Ollama has not told the probabilities of its answer's tokens.", "Leave them out, or update Ollama."
            )
        finish = "length" if last.get("done_reason") == "length" else "stop"
        yield Completion(text, usage, finish, logprobs, _timings(last))

    def _check(self, prompt: Prompt, tokens: int, window: int) -> None:
        """Raises PromptShortened if Ollama read fewer tokens than were sent, as far as that can be known.

        What cuts a prompt cuts it to the window or to half of it.
        """
        least = least_tokens(prompt.system, prompt.user)
        if self._is_proved(prompt):
            least = max(least, self._counted(prompt) - JOINED_TOKENS)
        if tokens < least or tokens >= window:
            raise PromptShortened(
                f"The answer was made from a shortened prompt: Ollama read {tokens} tokens of at least "
                f"{max(least, tokens + 1)} sent.",
                "Update Ollama: this version cuts prompts although it is told not to.",
            )

    def _held(self) -> int:
        """Tokens of the window that the model was loaded with, asked once; very many where Ollama does not tell."""
        if self._loaded_window is None:
            self._loaded_window = _UNTOLD
            with suppress(BackendError):
                for entry in self._entries():
                    self._loaded_window = _whole(entry, "context_length") or _UNTOLD
        return self._loaded_window

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        """What Ollama says of this model among those in memory."""
        names = {self._model, f"{self._model}:latest"}
        return (entry for entry in self._server.running() if names & {entry.get("name"), entry.get("model")})

    def _learn(self, prompt: Prompt, tokens: int) -> None:
        """Raises the estimate so that this prompt's, with its template, would not have been too low.

        Holds the exact count against what was read, too: it is given up where the template cannot be the difference.
        """
        self._rate.learn(_bytes_of(prompt), tokens - TEMPLATE_TOKENS)
        vocabulary = self._exact()
        if vocabulary is None or vocabulary.has_marks(prompt.system + prompt.user):
            return
        added = tokens - self._counted(prompt)
        if -JOINED_TOKENS <= added <= TEMPLATE_TOKENS:
            self._template_tokens = max(added, self._template_tokens or 0)
        else:
            self._vocabulary = None

    def _is_proved(self, prompt: Prompt) -> bool:
        """Whether the exact count of this prompt must be what is read: an answer has confirmed the vocabulary."""
        vocabulary = self._vocabulary
        if vocabulary is None or self._template_tokens is None:
            return False
        return not vocabulary.has_marks(prompt.system + prompt.user)

    def _counted(self, prompt: Prompt) -> int:
        return self.count_tokens(prompt.system) + self.count_tokens(prompt.user)

    def _exact(self) -> Vocabulary | None:
        """The vocabulary; None where it is not known, or Ollama does not tell now."""
        if self._looked_for_vocabulary:
            return self._vocabulary
        with self._lock:
            if not self._looked_for_vocabulary:
                with suppress(BackendError):  # it is looked for again once Ollama has answered
                    self._vocabulary = read(vocabulary_of(self._server, self._model, self._facts()))
                self._looked_for_vocabulary = True
        return self._vocabulary

    def _window(self) -> int:
        trained = fact(self._facts(), "context_length")
        return min(self._num_ctx, trained or self._num_ctx)

    def _facts(self) -> Mapping[str, Any]:
        if self._shown is None:
            self._shown = self._server.shown(self._model)
            self._looked_for_vocabulary = False
        return self._shown


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    parts = (("system", prompt.system), ("user", prompt.user))
    return [{"role": role, "content": unicode(text)} for role, text in parts if text or role == "user"]


def _bytes_of(prompt: Prompt) -> int:
    return utf8_bytes(prompt.system) + utf8_bytes(prompt.user)


def _text_of(line: Mapping[str, Any]) -> str:
    """The piece of the answer in a line; thoughts, which some models have unasked, are left out."""
    message = line.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _timings(line: Mapping[str, Any]) -> Timings:
    load, prompt, completion = (
        max(0, _whole(line, key)) / 1e9 for key in ("load_duration", "prompt_eval_duration", "eval_duration")
    )
    return Timings(load, prompt, completion)


def _whole(line: Mapping[str, Any], key: str) -> int:
    value = line.get(key)
    return value if type(value) is int else 0
