"""A llama.cpp server, reached over HTTP: one that the user runs, or the embedded one.

Counts with the server's own tokenizer and chat template, so what it says about a prompt's size is exact.
Owns httpx: none of its types or exceptions leaves this module. Knows nothing of how the server was started.

The server's behaviour is as read and tried on llama.cpp b10488 and b11549: 400 ``exceed_context_size_error`` for a
prompt that does not fit, errors in the middle of a stream as an event, counts of tokens in the last event.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hub.backends import refuse_overlong
from hub.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelMissing,
    PromptTooLong,
)
from hub.model import BackendInfo, Capabilities, Completion, Counting, GenerationOptions, Prompt, Streamed, Usage

# Seconds. A server on the same machine or network accepts at once; 1 to 10 are sensible.
CONNECT_TIMEOUT_S = 3.0
# Seconds. For everything but an answer; a server in the middle of a prefill answers these late. 10 to 120.
REQUEST_TIMEOUT_S = 60.0
# Tokens. What a template may add where the server cannot render it: 5 to 60 in the usual ones.
TEMPLATE_TOKENS = 64
# Tokens. A prompt that is answered well and soon where a graphics card does the prefill. 4,000 to 64,000.
PROMPT_TOKENS = 16_384
# A server that reports less than this share of the prompt we counted has not read all of it. 0.8 to 1.
LEAST_SHARE_READ = 0.9

_ADDRESS_HINT = "Give the address of a llama.cpp server, such as http://127.0.0.1:8080."


class _NoSuchPath(BackendUnavailable):
    """The server does not know the path that was asked for."""


class LlamaServerBackend:
    """A Backend over one llama.cpp server, for instance ``http://127.0.0.1:8080``.

    ``name`` is what answers are said to come from. ``prompt_tokens`` is the size of prompt to aim for; ``info`` lowers
    it where the server's window is smaller. Nothing is sent before the first call.
    """

    def __init__(
        self, base_url: str, *, api_key: str = "", prompt_tokens: int = PROMPT_TOKENS, name: str = "llama.cpp"
    ) -> None:
        import httpx  # noqa: PLC0415 - 0.2 s that a command without a model need not wait for

        self._url = base_url.rstrip("/")
        self._name = name
        self._prompt_tokens = prompt_tokens
        # A fresh connection for each request: the server may close a kept one after a stream, and a request that meets
        # this moment fails (2 of 12 in one trial). Both ways take 2.5 ms. The environment's proxies are not for this.
        with self._translated():
            self._client = httpx.Client(
                base_url=self._url,
                headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
                timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_keepalive_connections=0),
                trust_env=False,
            )

    def info(self) -> BackendInfo:
        """Asks the server each time, so that a restart with another model or window is seen. Raises BackendError."""
        properties = self._ask("GET", "/props")
        window = _whole_number(properties, "default_generation_settings", "n_ctx")
        if window is None:
            raise BackendUnavailable(f"What answers at {self._url} is not a llama.cpp server.", _ADDRESS_HINT)
        model = properties.get("model_alias") or properties.get("model_path") or "unknown"
        room = window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo(self._name, _file_name(str(model)), window, max(0, min(self._prompt_tokens, room)))

    def count_tokens(self, text: str) -> int:
        """The model's own count, where ``<|im_end|>`` and its like count as the text they are. Raises BackendError."""
        return self._tokenize(text, parse_special=False)

    def capabilities(self) -> Capabilities:
        return Capabilities(counting=Counting.EXACT, cached_tokens=True)

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. The size is checked at once, with the chat template, before the prompt is sent."""
        messages = _messages(prompt)
        counted = self._rendered_tokens(messages)
        window = self.info().context_window
        size = counted if counted is not None else prompt.tokens + TEMPLATE_TOKENS
        refuse_overlong(size, options.max_tokens, window)
        return self._answer(messages, options, at_least=int((counted or 0) * LEAST_SHARE_READ))

    def close(self) -> None:
        self._client.close()

    def _answer(self, messages: list[dict[str, str]], options: GenerationOptions, at_least: int) -> Iterator[Streamed]:
        import httpx  # noqa: PLC0415 - see the constructor

        body = {
            "messages": messages,
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
            "seed": options.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_prompt": True,
            # A model that thinks aloud first spends the whole of a short answer on it; others ignore the setting.
            "chat_template_kwargs": {"enable_thinking": False},
        }
        timeout = httpx.Timeout(options.timeout_s, connect=CONNECT_TIMEOUT_S)
        pieces: list[str] = []
        finish = ""
        usage = Usage()
        with (
            self._translated(),
            self._client.stream("POST", "/v1/chat/completions", json=body, timeout=timeout) as response,
        ):
            if response.is_error:
                response.read()
                raise self._refusal(response.status_code, response.text)
            for event in self._events(response.iter_lines()):
                piece, ending = _delta(event)
                finish = ending or finish
                usage = _usage(event) or usage
                if piece:
                    pieces.append(piece)
                    yield piece
        if not finish:
            raise BrokenStream(
                f"The server at {self._url} stopped in the middle of its answer.",
                "Look at the server's log; a crash or too little memory is the usual cause.",
            )
        if usage.prompt and usage.prompt < at_least:
            raise BrokenStream(
                f"The answer was made from a shortened prompt: {usage.prompt} tokens were read of at least "
                f"{at_least} sent.",
                "Start the server without a context shift and with a larger context window.",
            )
        yield Completion("".join(pieces), usage, "length" if finish == "length" else "stop")

    def _events(self, lines: Iterator[str]) -> Iterator[Mapping[str, Any]]:
        """The JSON objects of a stream of server-sent events, up to its end mark. An error among them is raised."""
        for line in lines:
            kind, _, payload = line.partition(":")
            payload = payload.strip()
            if kind not in {"data", "error"} or payload == "[DONE]":
                continue  # comments keep the connection alive, empty lines part the events
            event = json.loads(payload)
            if not isinstance(event, dict):
                raise BrokenStream(f"The server at {self._url} sent an event that is no object.")
            if kind == "error" or event.get("error"):
                raise self._mid_stream(payload)
            yield event

    def _rendered_tokens(self, messages: list[dict[str, str]]) -> int | None:
        """Exact tokens of the prompt in the model's chat template; None if the server cannot render it."""
        try:
            rendered = self._ask("POST", "/apply-template", {"messages": messages}).get("prompt")
        except _NoSuchPath:
            return None  # older servers do not have it
        return self._tokenize(rendered, parse_special=True) if isinstance(rendered, str) else None

    def _tokenize(self, text: str, *, parse_special: bool) -> int:
        body = {"content": _unicode(text), "add_special": False, "parse_special": parse_special}
        tokens = self._ask("POST", "/tokenize", body).get("tokens")
        if not isinstance(tokens, list):
            raise BackendUnavailable(
                f"What answers at {self._url} does not count tokens, so it is not a llama.cpp server.",
                _ADDRESS_HINT,
            )
        return len(tokens)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        with self._translated():
            response = self._client.request(method, path, json=body)
            if response.status_code == 404:
                raise _NoSuchPath(
                    f"What answers at {self._url} has no {path}, so it is not a llama.cpp server.", _ADDRESS_HINT
                )
            if response.is_error:
                raise self._refusal(response.status_code, response.text)
            answer = response.json()
            return answer if isinstance(answer, dict) else {}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns httpx's errors, and those of reading what came, into ours."""
        import httpx  # noqa: PLC0415 - see the constructor

        try:
            yield
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
            UnicodeError,  # a name that no network could have
        ) as error:
            raise BackendUnavailable(
                f"No llama.cpp server answers at {self._url}.",
                "Start it (llama-server -m MODEL.gguf) or correct the address.",
            ) from error
        except httpx.TimeoutException as error:
            raise BrokenStream(
                f"The server at {self._url} did not answer in time.",
                "A long prompt needs a long time to be read: raise the time limit or ask for less.",
            ) from error
        except httpx.HTTPError as error:
            raise BrokenStream(
                f"The connection to {self._url} broke before the answer was complete.",
                "Look at the server's log; a crash or too little memory is the usual cause.",
            ) from error
        except ValueError as error:
            raise BrokenStream(f"The server at {self._url} sent what is not JSON.") from error

    def _refusal(self, status: int, text: str) -> BackendError:
        """The error that an HTTP status and its body mean."""
        message, too_long = _complaint(text)
        if too_long is not None:
            return too_long
        if status in {401, 403}:
            return BackendUnavailable(
                f"The server at {self._url} refused the API key.", "Set the key it was started with."
            )
        if status == 404:
            return ModelMissing(
                f"The server at {self._url} does not have what was asked for: {message}",
                "Check the address, and which model the server was started with.",
            )
        if status in {429, 503}:
            return BackendBusy(
                f"The server at {self._url} is busy: {message}", "Try again when it has loaded its model."
            )
        return BackendError(f"The server at {self._url} refused the request ({status}): {message}")

    def _mid_stream(self, text: str) -> BackendError:
        message, too_long = _complaint(text)
        return too_long or BrokenStream(
            f"The server at {self._url} stopped in the middle of its answer: {message}",
            "Look at the server's log; too little memory is the usual cause.",
        )


def _complaint(text: str) -> tuple[str, PromptTooLong | None]:
    """What the server said in one line, and the PromptTooLong it means if it means that.

    The body is ``{"error": {"code", "message", "type", "n_prompt_tokens", "n_ctx"}}``; other servers differ.
    """
    try:
        said = json.loads(text)
    except ValueError:
        said = text
    if isinstance(said, dict):
        said = said.get("error", said)
    if not isinstance(said, dict):
        return " ".join(str(said).split())[:300], None
    message = " ".join(str(said.get("message", said)).split())[:300]
    if said.get("type") != "exceed_context_size_error":
        return message, None
    return message, PromptTooLong(
        f"The prompt of {said.get('n_prompt_tokens', 'unknown')} tokens does not fit the server's "
        f"context window of {said.get('n_ctx', 'unknown')} tokens.",
        "Ask for a smaller prompt, or start the server with a larger context window (-c).",
    )


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    parts = (("system", prompt.system), ("user", prompt.user))
    return [{"role": role, "content": _unicode(text)} for role, text in parts if text or role == "user"]


def _unicode(text: str) -> str:
    """The text with lone surrogates, which JSON over UTF-8 cannot carry, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _delta(event: Mapping[str, Any]) -> tuple[str, str]:
    """The new text of an event, and how the answer ended if it did; thoughts are left out."""
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "", ""
    delta = choices[0].get("delta")
    text = delta.get("content") if isinstance(delta, dict) else None
    return text or "", choices[0].get("finish_reason") or ""


def _usage(event: Mapping[str, Any]) -> Usage | None:
    read = _whole_number(event, "usage", "prompt_tokens")
    written = _whole_number(event, "usage", "completion_tokens")
    if read is None or written is None:
        return None
    cached = _whole_number(event, "usage", "prompt_tokens_details", "cached_tokens")
    return Usage(read, written, _whole_number(event, "timings", "cache_n") if cached is None else cached)


def _whole_number(value: Any, *path: str) -> int | None:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else None


def _file_name(model: str) -> str:
    """A model's path as its name: the last part, without ``.gguf``."""
    return model.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gguf")
