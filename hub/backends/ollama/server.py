"""One Ollama server, spoken to by its official client, with its errors in our words.

Owns the ``ollama`` client, and translates what that lets through from httpx. Knows nothing of prompts, windows and
counts, and reads no environment: the host arrives as an argument.
"""

import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
    import ollama

DEFAULT_HOST = "http://127.0.0.1:11434"

# Seconds. Whether something listens shows at once on a local network; a look must not delay a command. 0.2 to 1.
PROBE_TIMEOUT_S = 0.5
# Seconds. 1 to 10.
CONNECT_TIMEOUT_S = 3.0
# Seconds. For lists and facts about models, which Ollama reads from disk. 5 to 60.
REQUEST_TIMEOUT_S = 30.0
# Seconds. A model of 40 GB comes from a slow disk in five minutes, which is when Ollama itself gives up. 300 to 900.
LOAD_TIMEOUT_S = 330.0

LOG_HINT = "Look at Ollama's log: journalctl -u ollama, or ~/.ollama/logs/server.log."
_MEMORY_HINT = (
    "The memory is too small: use a smaller num_ctx or model, or start Ollama with OLLAMA_FLASH_ATTENTION=1 "
    "OLLAMA_KV_CACHE_TYPE=q8_0."
)
_TOO_LONG = re.compile(
    r"exceed_context_size|exceeds? the available context size|longer than the context length|"
    r"exceeds the context length"
)
_TOO_LONG_SIZES = re.compile(r"\((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
_OUT_OF_MEMORY = re.compile(
    r"out.of.memory|\boom\b|more system memory|cudaMalloc|resource limitations|process has terminated",
    re.IGNORECASE,
)
_CANNOT = re.compile(r"does not support|JSON schema in format|invalid format|top_logprobs must|failed to parse grammar")


class Overlong(PromptTooLong):
    """With the prompt's size as Ollama counted it, in tokens; 0 where it did not tell."""

    tokens = 0


@dataclass(frozen=True, slots=True)
class Installed:
    """What the list of models says of one."""

    digest: str
    size: int  # bytes on disk


class Server:
    """Ollama at ``host``, written in any form that OLLAMA_HOST may have. Nothing is sent before the first call.

    ``read_s`` is how long an answer may take. Safe to use from several threads. Every call raises BackendError.
    """

    def __init__(self, host: str, read_s: float = REQUEST_TIMEOUT_S) -> None:
        self.address = _address(host)
        self._read_s = read_s
        self._connected: ollama.Client | None = None

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, so that its files are ours to read."""
        return (urlsplit(self.address).hostname or "") in {"127.0.0.1", "::1", "localhost"}

    def listens(self) -> bool:
        """Whether anything answers at the address, within half a second."""
        parts = urlsplit(self.address)
        try:
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PROBE_TIMEOUT_S).close()
        except (OSError, UnicodeError):  # the latter for a name that no network could have
            return False
        return True

    def installed(self) -> dict[str, Installed]:
        """All models by name."""
        with self._translated(""):
            return {
                entry.model: Installed(entry.digest or "", int(entry.size or 0))
                for entry in self._client().list().models
                if entry.model
            }

    def shown(self, model: str, *, verbose: bool = False) -> Mapping[str, Any]:
        """The facts about a model; long lists are among them only where ``verbose`` asks for them."""
        return self._asked("POST", "/api/show", {"model": model, "verbose": verbose}, model)

    def running(self) -> Sequence[Mapping[str, Any]]:
        """The models in memory, as ``/api/ps`` has them."""
        models = self._asked("GET", "/api/ps", None, "").get("models")
        return [entry for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []

    def version(self) -> tuple[int, ...]:
        """As numbers, such as (0, 12, 11); empty where it says none, or is a build of nobody's release."""
        said = self._asked("GET", "/api/version", None, "").get("version")
        numbers = re.match(r"\d+(?:\.\d+)*", said) if isinstance(said, str) else None
        parts = tuple(int(part[:9]) for part in numbers[0].split(".")) if numbers else ()
        return parts if any(parts) else ()

    def keep(self, model: str, body: Mapping[str, Any]) -> str:
        """Loads a model or lets go of it, without a prompt; what Ollama says it did: "load" or "unload"."""
        request = {"model": model, "messages": [], "stream": False, **body}
        answer = self._asked("POST", "/api/chat", request, model, timeout=_timeout(LOAD_TIMEOUT_S))
        return str(answer.get("done_reason") or "")

    def chat(self, body: Mapping[str, Any], timeout_s: float) -> Iterator[Mapping[str, Any]]:
        """The lines of an answer, from the first to the one that says ``done``.

        ``timeout_s`` bounds each silence. Closing the iterator closes the connection, which cancels the request.
        """
        model = str(body["model"])
        with breakable() as extensions:
            more = {"timeout": _timeout(timeout_s), "extensions": {**extensions}}
            parts = self._post("POST", "/api/chat", body, stream=True, **more)
            last: Mapping[str, Any] = {}
            try:
                while not last.get("done"):
                    with self._translated(model):
                        last = _next_line(parts)
                    yield last
            finally:
                parts.close()

    def embed(self, model: str, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A vector for each text; a text that is too long is cut, as asked."""
        with self._translated(model):
            return self._client().embed(model, list(texts), truncate=True).embeddings

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()  # type: ignore[no-untyped-call]
            self._connected = None

    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None, model: str, **more: Any
    ) -> Mapping[str, Any]:
        with self._translated(model):
            answer = self._post(method, path, body, **more)
            if not isinstance(answer, dict):
                raise BrokenStream("Ollama sent what is no answer.", LOG_HINT)
            return answer

    def _post(self, method: str, path: str, body: Mapping[str, Any] | None, **more: Any) -> Any:
        """The answer as a dict, or an iterator of dicts with ``stream=True``.

        The client's public methods have no ``truncate`` and ``shift``, and give up where a fact about a model is
        missing; this is what they themselves call.
        """
        return self._client()._request(dict, method, path, json=body, **more)  # noqa: SLF001 - the reason is above

    def _client(self) -> "ollama.Client":
        if self._connected is None:
            import httpx  # noqa: PLC0415 - comes with the client
            import ollama  # noqa: PLC0415 - 0.4 to 0.9 s that a command without Ollama need not wait for

            # Prompts hold source code: they go to this address only, through no proxy and after no redirect.
            with self._translated(""):
                self._connected = ollama.Client(
                    host=self.address,
                    timeout=_timeout(self._read_s),
                    trust_env=False,
                    follow_redirects=False,
                    # A connection of its own for each request can be broken off alone. 2.5 ms. It is said to the
                    # server, too: of many threads one could else be given a connection that another is about to close.
                    headers={"Connection": "close"},
                    limits=httpx.Limits(max_keepalive_connections=0),
                )
        return self._connected

    @contextmanager
    def _translated(self, model: str) -> Iterator[None]:
        """The errors of the client, and what it lets through from httpx and from reading a line, as ours."""
        import httpx  # noqa: PLC0415 - comes with the client, which is loaded late
        import ollama  # noqa: PLC0415 - see _client

        try:
            yield
        except ollama.ResponseError as error:
            status = error.status_code if error.status_code >= 0 else None
            raise _refusal(error.error, status, self.address, model) from error
        except (
            ConnectionError,
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.InvalidURL,
            httpx.UnsupportedProtocol,
            UnicodeError,  # a name that no network could have
        ) as error:
            raise BackendUnavailable(f"Ollama does not answer at {self.address}.", "Start it: ollama serve") from error
        except httpx.TimeoutException as error:
            raise BrokenStream(
                f"Ollama at {self.address} did not answer in time.",
                "A long prompt needs a long time to be read: raise the time limit or ask for less.",
            ) from error
        except httpx.HTTPError as error:
            raise BrokenStream("The connection to Ollama broke before the answer was complete.", LOG_HINT) from error
        except (ValueError, TypeError, AttributeError) as error:
            # The client takes each line, and each error in one, for a JSON object of the right form, and fails so.
            raise BrokenStream("Ollama sent a line that is no part of an answer.", LOG_HINT) from error


def fact(shown: Mapping[str, Any], name: str) -> int | None:
    """A number of the metadata, whose keys begin with the model's architecture: ``qwen2.context_length``."""
    facts = shown.get("model_info")
    if not isinstance(facts, dict):
        return None
    values = (facts[key] for key in sorted(facts) if key.endswith(f".{name}"))
    return next((value for value in values if type(value) is int), None)


def missing(model: str) -> ModelMissing:
    return ModelMissing(f"Ollama does not have the model {model}.", f"ollama pull {model}")


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


def _timeout(read_s: float) -> tuple[float, float, float, float]:
    """The limits httpx takes: to connect, read, write and wait for a connection, in seconds."""
    return (CONNECT_TIMEOUT_S, read_s, REQUEST_TIMEOUT_S, REQUEST_TIMEOUT_S)


def _next_line(parts: Iterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The next line of an answer. The client raises the errors it sees in one; what it may not see is caught here."""
    line = next(parts, None)
    if line is None:
        raise BrokenStream("Ollama stopped in the middle of its answer.", LOG_HINT)
    if line.get("error"):
        raise _refusal(line["error"], None, "", "")
    return line


def _refusal(said: object, status: int | None, address: str, model: str) -> BackendError:
    """The error that Ollama's words and status mean; the status is None in the middle of an answer.

    ``said`` is the text of the error, in which a refusal by llama-server is JSON again, or that JSON already read.
    """
    text = " ".join((said if isinstance(said, str) else json.dumps(said, sort_keys=True)).split())[:400]
    hint = _MEMORY_HINT if _OUT_OF_MEMORY.search(text) else LOG_HINT
    error: BackendError
    if _TOO_LONG.search(text):
        error = _overlong(text)
    elif status == 404 and "model" not in text:
        error = BackendUnavailable(f"What answers at {address} is not Ollama.", "Correct the address.")
    elif status == 404 or (status == 400 and "model is required" in text):
        error = missing(model)
    elif status == 503:
        error = BackendBusy(f"Ollama is busy: {text}", "Try again soon, or raise OLLAMA_MAX_QUEUE.")
    elif status is None:
        error = BrokenStream(f"Ollama stopped in the middle of its answer: {text}", hint)
    elif status in {400, 500} and _CANNOT.search(text):
        error = UnsupportedRequest(f"Ollama cannot do what was asked for: {text}", "Leave it out, or correct it.")
    else:
        error = BackendError(f"Ollama refused the request ({status}): {text}", hint)
    return error


def _overlong(text: str) -> Overlong:
    sizes = _TOO_LONG_SIZES.search(text)
    what = f"of {sizes[1]} tokens does" if sizes else "does"
    window = f"context window of {sizes[2]} tokens" if sizes else "context window"
    error = Overlong(
        f"The prompt {what} not fit the model's {window}.",
        "Ask for a smaller prompt, or give the model a larger context window (num_ctx).",
    )
    error.tokens = int(sizes[1]) if sizes else 0
    return error
