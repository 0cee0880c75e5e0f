"""Any server of OpenAI's interface: vLLM, LM Studio, SGLang, llama.cpp's own /v1.

The interface tells little: not the context window, not the tokenizer, not what becomes of a prompt that is too long.
So the window is what the server tells in its own way or what the settings say, and never assumed; tokens are counted
by the server where it can, else bounded by an estimate that learns from each answer; and an answer that cannot have
been made from the whole prompt is an error. Knows nothing of HTTP beyond paths and bodies.

Shapes as in vLLM 0.33 (``max_model_len`` of a model, POST /tokenize), LM Studio 0.4 (``loaded_context_length`` under
/api/v0/models) and llama.cpp b11549 (``meta.n_ctx`` of a model).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from hub.backends import chat, refuse_overlong, refuse_shortened, refuse_unsupported
from hub.backends.chat import whole_number
from hub.backends.counting import CalibratedRate, least_tokens, most_tokens, unicode, utf8_bytes
from hub.backends.endpoint import Endpoint, NoSuchPath, Overlong
from hub.errors import BackendError, BackendUnavailable, BrokenStream, ModelMissing
from hub.model import (
    BackendInfo,
    Capabilities,
    Completion,
    Counting,
    GenerationOptions,
    Prompt,
    Streamed,
    Usage,
)

# Tokens. What a chat template adds: 5 to 60 in the usual ones, about 100 in gpt-oss's.
TEMPLATE_TOKENS = 128
# Tokens. A prompt that is answered well and soon where a graphics card does the prefill. 4,000 to 64,000.
PROMPT_TOKENS = 16_384
# A server that reports less than this share of what it counted itself has not read all of it. 0.8 to 1.
LEAST_SHARE_READ = 0.9
# Seconds. What a server says of itself is asked for again after this time. 0.5 to 5.
FACTS_FOR_S = 1.0

_WAY_OUT = "Start the server, and give its address, such as http://127.0.0.1:8000."


class _Kind(NamedTuple):
    """A server that is known, and what it can."""

    name: str
    can: Capabilities
    template_arguments: bool = False  # it takes chat_template_kwargs
    counts: bool = False  # it may have a /tokenize that counts


# By what the list of models says of their owner. A server that is none of these may be able to do more, but does not
# tell. vLLM tells cached tokens only when it was started with --enable-prompt-tokens-details.
_KINDS: Mapping[str, _Kind] = {
    "vllm": _Kind("vLLM", Capabilities(logprobs=True, json_schema=True), template_arguments=True, counts=True),
    "sglang": _Kind("SGLang", Capabilities(logprobs=True, json_schema=True), template_arguments=True, counts=True),
    "llamacpp": _Kind(
        "llama.cpp", Capabilities(logprobs=True, json_schema=True, cached_tokens=True), template_arguments=True
    ),
}
# LM Studio answers with text under any schema, and leaves the probabilities of tokens out.
_LM_STUDIO = _Kind("LM Studio", Capabilities(json_schema=True))
_UNKNOWN = _Kind("OpenAI-compatible", Capabilities(), counts=True)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a server says of itself and of the model that is asked."""

    kind: _Kind
    model: str
    window: int  # 0 where it does not tell


class OpenAiCompatibleBackend:
    """A Backend over one server, for instance ``http://127.0.0.1:8000``, with or without ``/v1`` at its end.

    ``model`` is the one to ask, "" the one that the server has or has loaded. ``context_window`` in tokens caps what
    the server tells, and stands for it where it tells nothing. ``tokenizer`` counts the tokens of a text where the
    model's own tokenizer is at hand. Nothing is sent before the first call.
    """

    def __init__(
        self,
        base_url: str,
        model: str = "",
        *,
        api_key: str = "",
        context_window: int = 0,
        prompt_tokens: int = PROMPT_TOKENS,
        tokenizer: Callable[[str], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        url = base_url.rstrip("/").removesuffix("/v1")
        what = "a server of OpenAI's interface"
        self._server = Endpoint(url, api_key=api_key, what=what, way_out=_WAY_OUT, clock=clock)
        self._clock = clock
        self._model = model
        self._context_window = context_window
        self._prompt_tokens = prompt_tokens
        self._tokenizer = tokenizer
        self._rate = CalibratedRate()
        self._known: tuple[float, _Facts] | None = None  # with the time they were told
        self._counts: dict[str, bool] = {}  # whether the server counts for this model

    def info(self) -> BackendInfo:
        """Raises BackendUnavailable also where nobody says how large the context window is."""
        facts = self._facts()
        window = self._window(facts)
        room = window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo(facts.kind.name, facts.model, window, max(0, min(self._prompt_tokens, room)))

    def count_tokens(self, text: str) -> int:
        """The model's own count where the server or ``tokenizer`` can, else an upper estimate. Raises BackendError."""
        if self._tokenizer is not None:
            return self._tokenizer(text)
        if text and self._server_counts(self._facts()):
            return self._counted({"prompt": unicode(text), "add_special_tokens": False})
        return self._rate.tokens(text)

    def capabilities(self) -> Capabilities:
        """What this kind of server is known for. Raises BackendError."""
        facts = self._facts()
        can = facts.kind.can
        exact = self._tokenizer is not None or self._server_counts(facts)
        return Capabilities(
            counting=Counting.EXACT if exact else Counting.BOUND,
            logprobs=can.logprobs,
            json_schema=can.json_schema,
            cached_tokens=can.cached_tokens,
        )

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. Raises BrokenStream also when the server says it read less than was sent."""
        facts = self._facts()
        refuse_unsupported(options, facts.kind.can, facts.kind.name)
        window = self._window(facts)
        messages = chat.messages(prompt)
        body = chat.request(messages, options)
        body["model"] = facts.model
        if facts.kind.template_arguments:
            # A model that thinks aloud first spends the whole of a short answer on it; others ignore the setting.
            body["chat_template_kwargs"] = {"enable_thinking": False}
        size, least = self._size(prompt, messages, facts, window - options.max_tokens)
        refuse_overlong(size, options.max_tokens, window)
        return self._answer(prompt, options, body, least, facts.kind)

    def close(self) -> None:
        self._server.close()

    def _answer(
        self, prompt: Prompt, options: GenerationOptions, body: Mapping[str, Any], least: int, kind: _Kind
    ) -> Iterator[Streamed]:
        def check(usage: Usage) -> None:
            refuse_shortened(
                usage.prompt,
                max(least, least_tokens(prompt.system, prompt.user)),
                "Start the server with a larger context window, and tell it to refuse what does not fit.",
            )
            self._learn(prompt, usage.prompt)

        try:
            with closing(chat.answer(self._server, body, options, check)) as answer:
                for told in answer:
                    if isinstance(told, Completion) and not told.text:
                        self._check_that_nothing_was_meant(told, kind)
                    yield told
        except Overlong as error:
            self._learn(prompt, error.tokens)
            raise

    def _check_that_nothing_was_meant(self, end: Completion, kind: _Kind) -> None:
        """A model that has nothing to say ends with the one token that means so, or runs out of tokens in thoughts.

        LM Studio ends with nothing where the prompt does not fit (lmstudio-bug-tracker#2339). Raises BrokenStream.
        """
        if end.finish == "stop" and (end.usage.completion > 1 or kind is _LM_STUDIO):
            raise BrokenStream(
                f"The server at {self._server.url} answered with nothing.",
                "Load the model with a larger context window, or ask for less.",
            )

    def _size(self, prompt: Prompt, messages: list[dict[str, str]], facts: _Facts, room: int) -> tuple[int, int]:
        """Tokens of the prompt in its template, never too few, and the least that must be read of it if it is whole."""
        if self._tokenizer is not None:
            counted = self._tokenizer(prompt.system) + self._tokenizer(prompt.user)
            return counted + TEMPLATE_TOKENS, int(counted * LEAST_SHARE_READ)
        if not self._server_counts(facts):
            counted = self._rate.tokens(prompt.system) + self._rate.tokens(prompt.user)
            return max(counted, prompt.tokens) + TEMPLATE_TOKENS, 0
        stated = most_tokens(prompt) + TEMPLATE_TOKENS
        if stated <= room:
            return stated, 0
        counted = self._counted({"messages": messages, "add_generation_prompt": True})
        return counted, int(counted * LEAST_SHARE_READ)

    def _learn(self, prompt: Prompt, tokens: int) -> None:
        self._rate.learn(utf8_bytes(prompt.system) + utf8_bytes(prompt.user), tokens - TEMPLATE_TOKENS)

    def _server_counts(self, facts: _Facts) -> bool:
        """Whether the server has a /tokenize that tells a count; llama.cpp's has another form."""
        if not facts.kind.counts:
            return False
        if facts.model not in self._counts:
            try:
                self._counts[facts.model] = self._counted({"prompt": "x", "add_special_tokens": False}) > 0
            except BackendUnavailable as error:
                if not isinstance(error, NoSuchPath):
                    raise
                self._counts[facts.model] = False
            except BackendError:
                self._counts[facts.model] = False  # it is asked for what it does not know
        return self._counts[facts.model]

    def _counted(self, body: Mapping[str, Any]) -> int:
        told = self._server.ask("POST", "/tokenize", {"model": self._facts().model, **body})
        count = whole_number(told, "count")
        if count is None:
            raise NoSuchPath(f"The server at {self._server.url} does not count tokens.")
        return count

    def _window(self, facts: _Facts) -> int:
        windows = [size for size in (facts.window, self._context_window) if size > 0]
        if not windows:
            raise BackendUnavailable(
                f"The server at {self._server.url} does not tell how large the context window of {facts.model} is.",
                "Load the model, or set the window it was started with: profile.context.",
            )
        return min(windows)

    def _facts(self) -> _Facts:
        now = self._clock()
        if self._known is None or now - self._known[0] > FACTS_FOR_S:
            self._known = now, self._ask_for_facts()
        return self._known[1]

    def _ask_for_facts(self) -> _Facts:
        models: Sequence[Mapping[str, Any]] = _entries(self._server.ask("GET", "/v1/models"))
        kind = next((_KINDS[owner] for model in models if (owner := str(model.get("owned_by"))) in _KINDS), _UNKNOWN)
        if kind is _UNKNOWN:
            loaded = self._ask_lm_studio()
            if loaded is not None:
                kind, models = _LM_STUDIO, loaded
            else:
                self._refuse_ollama()
        chosen = self._choose(models)
        return _Facts(kind, str(chosen["id"]), _told_window(chosen))

    def _ask_lm_studio(self) -> Sequence[Mapping[str, Any]] | None:
        """The models as LM Studio tells them, those that are loaded first; None from any other server."""
        try:
            models = _entries(self._server.ask("GET", "/api/v0/models"))
        except NoSuchPath:
            return None
        except BackendUnavailable:
            raise
        except BackendError:
            return None  # another server that does not say so by a 404
        models = [model for model in models if "state" in model and model.get("type") != "embeddings"]
        return sorted(models, key=lambda model: model["state"] != "loaded") or None

    def _refuse_ollama(self) -> None:
        """Ollama's own interface takes a window and refuses what does not fit; this one cuts prompts in silence."""
        try:
            version = self._server.ask("GET", "/api/version").get("version")
        except BackendError:
            return  # another server, which is of no concern here
        if isinstance(version, str):
            raise BackendUnavailable(
                f"What answers at {self._server.url} is Ollama, which shortens prompts unless asked in its own way.",
                "Set backend to ollama, and ollama.host to this address.",
            )

    def _choose(self, models: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        names = [str(model["id"]) for model in models]
        if self._model:
            found = next((model for model in models if model["id"] == self._model), None)
            if found is not None:
                return found
            if names:
                raise ModelMissing(
                    f"The server at {self._server.url} does not have the model {self._model}.",
                    f"It has: {', '.join(names[:12])}.",
                )
            return {"id": self._model}  # it tells no models, but may have it
        if not models:
            raise ModelMissing(
                f"The server at {self._server.url} has no model.", "Load one there, or name it: openai.model."
            )
        return models[0]


def _entries(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The models of a list, without what has another form."""
    data = told.get("data")
    models = data if isinstance(data, list) else []
    return [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)]


def _told_window(model: Mapping[str, Any]) -> int:
    """What a server tells of the window that a model runs with, in tokens; 0 where it does not tell.

    What the model could be loaded with (LM Studio's ``max_context_length``, llama.cpp's ``n_ctx_train``) is no answer.
    """
    paths = (
        ("max_model_len",),
        ("meta", "n_ctx"),
        ("loaded_context_length",),
        ("context_length",),
        ("context_window",),
    )
    return next((size for path in paths if (size := whole_number(model, *path)) is not None and size > 0), 0)
