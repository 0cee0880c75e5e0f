"""One HTTP server that speaks JSON, and streams of server-sent events: asked with limits, its failures in our words.

Owns httpx for the backends that speak OpenAI's interface: none of its types or exceptions leaves this module. Knows
nothing of what is asked or of what an answer means, except how the servers say that a prompt is too long.

Prompts hold source code: they go to the given address only, through no proxy and after no redirect. What comes back is
bounded in size and time, and never unpacked, so that no server can fill the memory or hold a caller for ever.
"""

import json
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hub.backends.interrupting import breakable
from hub.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelMissing,
    PromptTooLong,
    UnsupportedRequest,
)

if TYPE_CHECKING:
    import httpx

# Seconds. A server on the same machine or network accepts at once; 1 to 10 are sensible.
CONNECT_TIMEOUT_S = 3.0
# Seconds. For everything but an answer; a server in the middle of a prefill answers these late. 10 to 120.
REQUEST_TIMEOUT_S = 60.0
# Bytes. The longest answers but streams are the tokens of a prompt: about 7 bytes each, so this is for 9 million.
MOST_BODY_BYTES = 64 << 20
# Bytes. One event of a stream is one token with its alternatives, 4 kB at most.
MOST_LINE_BYTES = 1 << 20
# Bytes. What an error says beyond this is of no use to a reader.
MOST_ERROR_BYTES = 1 << 16

_TOO_LONG = re.compile(
    r"exceed_context_size|available context size|maximum context length|context_length_exceeded|"
    r"Trying to keep the first|greater than the context length|Context size has been exceeded|"
    r"context the overflows|max_model_len",
    re.IGNORECASE,
)
# How llama.cpp, vLLM and LM Studio give the sizes: read in llama.cpp b11549, vLLM 0.33 and LM Studio's bug tracker.
_TOO_LONG_SIZES = (
    re.compile(r"\((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<window>\d+) tokens\)"),
    re.compile(r"context length is (?P<window>\d+) tokens[^(]{0,80}\((?P<prompt>\d+) in the messages"),
    re.compile(r"context length is (?P<window>\d+) tokens[^(]{0,200}?(?:contains|has) (?P<prompt>\d+) input tokens"),
    re.compile(r"keep the first (?P<prompt>\d+) tokens .{0,120}context length of only (?P<window>\d+) tokens"),
    re.compile(r"n_keep: ?(?P<prompt>\d+) ?>= ?n_ctx: ?(?P<window>\d+)"),
)
_UNSUPPORTED = re.compile(r"json.?schema|response_format|grammar|logprobs|structured", re.IGNORECASE)

_LOG_HINT = "Look at the server's log; a crash or too little memory is the usual cause."


class NoSuchPath(BackendUnavailable):
    """The server does not know the path that was asked for."""


class Overlong(PromptTooLong):
    """The server itself refused the prompt, of so many ``tokens`` by its own count; 0 where it did not tell."""

    tokens = 0


class Endpoint:
    """A server at ``url``. ``what`` names its kind in messages, ``way_out`` says how one is started or reached.

    Nothing is sent before the first call. Safe to use from several threads. Every call raises BackendError.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        what: str,
        way_out: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import httpx  # noqa: PLC0415 - 0.2 s that a command without a model need not wait for

        self.url = url.rstrip("/")
        self.clock = clock
        self._what = what
        self._way_out = way_out
        # Said, not only meant: of many threads one could else be given a connection that another is about to close.
        headers = {"Accept-Encoding": "identity", "Connection": "close"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # A fresh connection for each request: the server may close a kept one after a stream, and a request that meets
        # this moment fails (2 of 12 in one trial). Both ways take 2.5 ms. The environment's proxies are not for this.
        with self._translated():
            self._client = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_keepalive_connections=0),
                trust_env=False,
                follow_redirects=False,
            )

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> Mapping[str, Any]:
        """The JSON object that the server answers; an empty one where it is none. Raises NoSuchPath for a 404."""
        with self._translated(), self._sent(method, path, body, timeout_s) as response:
            if response.status_code == 404:
                raise NoSuchPath(f"What answers at {self.url} has no {path}, so it is not {self._what}.", self._way_out)
            if not response.is_success:
                raise self._refusal(response, timeout_s)
            text = self._whole(response, MOST_BODY_BYTES, timeout_s)
            if text.lstrip()[:1] == b"<":
                raise self._web_page()
            answer = json.loads(text)
            return answer if isinstance(answer, dict) else {}

    def text(self, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> str:
        """What the server answers to a GET, as text. Raises NoSuchPath for a 404."""
        with self._translated(), self._sent("GET", path, None, timeout_s) as response:
            if response.status_code == 404:
                raise NoSuchPath(f"What answers at {self.url} has no {path}, so it is not {self._what}.", self._way_out)
            if not response.is_success:
                raise self._refusal(response, timeout_s)
            return self._whole(response, MOST_BODY_BYTES, timeout_s).decode("utf-8", "replace")

    def events(self, path: str, body: Mapping[str, Any], *, timeout_s: float) -> Generator[Mapping[str, Any]]:
        """The JSON objects of a stream of events, to its end mark, as they come; an error among them is raised.

        An empty object is a sign of life that says nothing, so that the caller can give up after a time. ``timeout_s``
        bounds each silence. Closing the iterator closes the connection, which is what cancels the request.
        """
        with self._translated(), self._sent("POST", path, body, timeout_s) as response:
            if not response.is_success:
                raise self._refusal(response, timeout_s)
            kind = response.headers.get("content-type", "")
            if "html" in kind:
                raise self._web_page()
            if kind and "event-stream" not in kind:
                raise BrokenStream(
                    f"The server at {self.url} answered with {kind.partition(';')[0]} instead of a stream.",
                    "Check that the address is that of the model's server itself.",
                )
            for line in self._lines(response):
                field, _, payload = line.partition(b":")
                payload = payload.strip()
                if field not in {b"data", b"error"} or not payload:
                    yield {}  # comments keep the connection alive, empty lines part the events
                    continue
                if payload == b"[DONE]":
                    return
                event = json.loads(payload)
                if not isinstance(event, dict):
                    raise BrokenStream(f"The server at {self.url} sent an event that is no object.")
                if field == b"error" or event.get("error") or event.get("object") == "error":
                    raise self._mid_stream(payload.decode("utf-8", "replace"))
                yield event

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float
    ) -> Iterator["httpx.Response"]:
        import httpx  # noqa: PLC0415 - see the constructor

        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, write=max(timeout_s, REQUEST_TIMEOUT_S))
        with (
            breakable() as extensions,
            self._client.stream(method, path, json=body, timeout=timeout, extensions={**extensions}) as response,
        ):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise BrokenStream(
                    f"The server at {self.url} sent a packed answer, which was not asked for.",
                    "Turn compression off in what stands between this machine and the model's server.",
                )
            yield response

    def _whole(self, response: "httpx.Response", most: int, timeout_s: float) -> bytes:
        """The body, if it is not larger than ``most`` bytes and comes within the time."""
        began = self.clock()
        parts: list[bytes] = []
        size = 0
        for part in response.iter_raw():
            parts.append(part)
            size += len(part)
            if size > most:
                raise BrokenStream(f"The server at {self.url} sent more than {most} bytes.", _LOG_HINT)
            if self.clock() - began > timeout_s:
                raise self.silence()
        return b"".join(parts)

    def _lines(self, response: "httpx.Response") -> Iterator[bytes]:
        """The lines of the body; an empty one also for each part of a line that came alone."""
        rest = b""
        for part in response.iter_raw():
            *whole, rest = (rest + part).split(b"\n")
            yield from whole or (b"",)
            if len(rest) > MOST_LINE_BYTES:
                raise BrokenStream(f"The server at {self.url} sent an event of more than {MOST_LINE_BYTES} bytes.")
        if rest:
            yield rest

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns httpx's errors, and those of reading what came, into ours."""
        import httpx  # noqa: PLC0415 - see the constructor

        try:
            yield
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise BrokenStream(f"The server at {self.url} sent what is not JSON.", _LOG_HINT) from error
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
            UnicodeError,  # a name that no network could have
        ) as error:
            raise BackendUnavailable(f"Nothing answers at {self.url}.", self._way_out) from error
        except httpx.TimeoutException as error:
            raise self.silence() from error
        except httpx.HTTPError as error:
            raise BrokenStream(
                f"The connection to {self.url} broke before the answer was complete.", _LOG_HINT
            ) from error

    def silence(self) -> BrokenStream:
        """The error of a server that says nothing for too long."""
        return BrokenStream(
            f"The server at {self.url} did not answer in time.",
            "A long prompt needs a long time to be read: raise the time limit or ask for less.",
        )

    def _web_page(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"What answers at {self.url} sends a web page, so it is not {self._what}.", self._way_out
        )

    def _refusal(self, response: "httpx.Response", timeout_s: float) -> BackendError:
        """The error that an HTTP status, its headers and its body mean."""
        status = response.status_code
        if response.is_redirect:
            return BackendUnavailable(
                f"The server at {self.url} sends its callers elsewhere, where no prompt of yours is sent.",
                "Give the address of the model's server itself.",
            )
        text = self._whole(response, MOST_ERROR_BYTES, timeout_s).decode("utf-8", "replace")
        message, too_long = _complaint(text)
        if too_long is not None:
            return too_long
        wait = response.headers.get("retry-after", "")
        later = f"Try again in {wait} seconds." if wait.isdecimal() else "Try again when it has loaded its model."
        where = f"The server at {self.url}"
        kinds: tuple[tuple[bool, type[BackendError], str, str], ...] = (
            (status in {401, 403}, BackendUnavailable, "refused the API key.", "Set the key it was started with."),
            (
                status == 404,
                ModelMissing,
                f"does not have what was asked for: {message}",
                "Check the address, and which model the server was started with.",
            ),
            (status in {429, 503}, BackendBusy, f"is busy: {message}", later),
            (
                status in {400, 422, 501} and bool(_UNSUPPORTED.search(message)),
                UnsupportedRequest,
                f"cannot do what was asked for: {message}",
                "Correct it, or leave it out.",
            ),
            (True, BackendError, f"refused the request ({status}): {message}", _LOG_HINT),
        )
        return next(kind(f"{where} {said}", hint) for meant, kind, said, hint in kinds if meant)

    def _mid_stream(self, text: str) -> BackendError:
        message, too_long = _complaint(text)
        return too_long or BrokenStream(
            f"The server at {self.url} stopped in the middle of its answer: {message}",
            "Look at the server's log; too little memory is the usual cause.",
        )


def _complaint(text: str) -> tuple[str, Overlong | None]:
    """What the server said in one line, and the Overlong it means if it means that.

    The body is ``{"error": {"code", "message", "type", "n_prompt_tokens", "n_ctx"}}`` with llama.cpp,
    ``{"error": {"message", "type", "code"}}`` or the inner object alone with vLLM, ``{"error": "..."}`` with LM Studio.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = text
    if isinstance(said, dict):
        said = said.get("error") or said
    facts = said if isinstance(said, dict) else {}
    message = " ".join(str(facts.get("message", said)).split())[:300]
    if not _TOO_LONG.search(f"{message} {facts.get('type', '')} {facts.get('code', '')}"):
        return message, None
    sizes = next((found for pattern in _TOO_LONG_SIZES if (found := pattern.search(message))), None)
    prompt = facts.get("n_prompt_tokens") or (sizes and sizes["prompt"]) or "unknown size"
    window = facts.get("n_ctx") or (sizes and sizes["window"]) or "unknown"
    error = Overlong(
        f"The prompt of {prompt} tokens does not fit the server's context window of {window} tokens.",
        "Ask for a smaller prompt, or start the server with a larger context window.",
    )
    error.tokens = int(prompt) if str(prompt).isdecimal() else 0
    return message, error
