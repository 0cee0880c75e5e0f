"""An Ollama made of the standard library's HTTP server: on loopback, on a random port, and as wicked as asked.

It behaves as Ollama 0.17.4 was seen to, and its source of August 2026 reads, where the hub relies on it: it counts a
prompt's tokens, refuses what does not fit under ``truncate: false`` and otherwise cuts it in silence, streams one JSON
object a line and keeps status 200 for what fails later; it loads, keeps and lets go of models. ``tests/ollama`` asks
the real one the same. Every request body is kept. A fault is given as the answer to the chats that follow.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class FakeModel:
    name: str
    size: int = 4_000_000_000
    digest: str = "8c2e06607696bd4afe1b"
    context_length: int = 32_768
    dimensions: int = 3
    capabilities: tuple[str, ...] = ("completion",)
    facts: Mapping[str, Any] = field(default_factory=dict)  # more of its metadata, such as a vocabulary


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status other than 200, and its body."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Status 200 and these lines; ``cut`` drops the connection after them instead of ending the answer."""

    lines: Iterable[bytes]
    cut: bool = False


Answer = Refusal | Lines


def count_tokens(text: str) -> int:
    """The fake's own tokenizer: one for each three bytes, which is what C++ takes in the vocabularies of today."""
    return -(-len(text.encode()) // 3)


def chat_line(text: str, **more: Any) -> bytes:
    """One line of an answer; ``done=True`` and counts make it the last."""
    line = {"model": "fake", "created_at": "2026-08-21T00:00:00Z", "done": False, **more}
    return json.dumps({**line, "message": {"role": "assistant", "content": text}}).encode()


def last_line(prompt_eval_count: int, eval_count: int, reason: str = "stop") -> bytes:
    counts = {"prompt_eval_count": prompt_eval_count, "eval_count": eval_count}
    return chat_line("", done=True, done_reason=reason, **counts)


def error_body(message: str) -> str:
    return json.dumps({"error": message})


# What the versions up to 0.17 say of a prompt that does not fit.
DOES_NOT_FIT = error_body("the input length exceeds the context length")


def exceeds(tokens: int, window: int) -> str:
    """A refusal by the llama-server behind Ollama, which Ollama hands on as a string of JSON in its own JSON."""
    message = f"request ({tokens} tokens) exceeds the available context size ({window} tokens), try increasing it"
    inner = {"code": 400, "message": message, "type": "exceed_context_size_error"}
    return error_body(json.dumps({"error": {**inner, "n_prompt_tokens": tokens, "n_ctx": window}}))


@dataclass
class FakeOllama:
    """``with FakeOllama() as fake: OllamaBackend(fake.url, "qwen2.5-coder:7b")``."""

    models: tuple[FakeModel, ...] = (FakeModel("qwen2.5-coder:7b"),)
    chat: Callable[[Mapping[str, Any]], Answer] | None = None  # None: as Ollama would
    show: Mapping[str, Any] | None = None  # None: the facts of the model
    embed: Answer | None = None
    ignores_truncate: bool = False  # as the versions before the parameter do
    cuts_to: Callable[[int], int] = lambda window: window  # tokens left; the versions of 2026 leave window // 2 + 2
    version: str = "0.17.4"
    loaded: dict[str, int] = field(default_factory=dict)  # the context of each model in memory
    loads: list[tuple[str, int]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list, repr=False)
    gave_up: threading.Event = field(default_factory=threading.Event)  # a client went away before the end

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"ollama": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.requests if asked == path]

    def find(self, name: str) -> FakeModel | None:
        return next((model for model in self.models if model.name in {name, f"{name}:latest"}), None)

    def answer_chat(self, body: Mapping[str, Any]) -> Answer:
        """As Ollama would: refuse or cut what does not fit, else cite the first evidence in as many words as asked."""
        if self.chat is not None:
            return self.chat(body)
        model = self.find(body["model"])
        if model is None:
            return Refusal(404, error_body(f"model '{body['model']}' not found"))
        if (refusal := _refused(body, model)) is not None:
            return refusal
        options = body.get("options", {})
        window = min(options.get("num_ctx", 4096), model.context_length)
        if not body["messages"]:
            return self._keep(model, window, body)
        self._load(model, window)
        tokens = 8 + sum(count_tokens(message["content"]) for message in body["messages"])
        if tokens > window:
            if body.get("truncate", True) is False and not self.ignores_truncate:
                return Refusal(400, DOES_NOT_FIT)
            tokens = self.cuts_to(window)
        words = [f" word{number}" for number in range(7)]
        said = ["It", " is", " in", " [1]", *words]
        if body.get("format"):
            said = [json.dumps(dict.fromkeys(body["format"].get("properties", {}), 1))]
        said = said[: options.get("num_predict", 128)]
        reason = "stop" if len(said) < options.get("num_predict", 128) else "length"
        top = body["top_logprobs"] if body.get("logprobs") and self.version >= "0.12.11" else None
        return Lines([*(_said(word, top) for word in said), last_line(tokens, len(said), reason)])

    def _load(self, model: FakeModel, window: int) -> None:
        if self.loaded.get(model.name) != window:
            self.loaded[model.name] = window
            self.loads.append((model.name, window))

    def _keep(self, model: FakeModel, window: int, body: Mapping[str, Any]) -> Answer:
        """Without messages a model is only loaded, or let go of."""
        if body.get("keep_alive") == 0:
            self.loaded.pop(model.name, None)
        else:
            self._load(model, window)
        reason = "unload" if body.get("keep_alive") == 0 else "load"
        return Lines([chat_line("", done=True, done_reason=reason)])


def _refused(body: Mapping[str, Any], model: FakeModel) -> Refusal | None:
    if body.get("think") and "thinking" not in model.capabilities:
        return Refusal(400, error_body(f'"{model.name}" does not support thinking'))
    if body.get("format", {}) != {} and body["format"].get("type") != "object":
        return Refusal(500, error_body("invalid JSON schema in format"))
    return None


def _said(word: str, top: int | None) -> bytes:
    """A line of an answer, with its token's probability and ``top`` alternatives where they were asked for."""
    if top is None:
        return chat_line(word)
    token = {"token": word, "logprob": -0.25, "bytes": list(word.encode())}
    return chat_line(word, logprobs=[{**token, **({"top_logprobs": [token] * top} if top else {})}])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests; anything else is told on stderr."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    ollama: FakeOllama
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Says nothing: the requests are kept instead."""

    def do_GET(self) -> None:
        self.ollama.requests.append((self.path, {}))
        match self.path:
            case "/api/tags":
                models = [
                    {"name": model.name, "model": model.name, "size": model.size, "digest": model.digest}
                    for model in self.ollama.models
                ]
                self._send(200, json.dumps({"models": models}))
            case "/api/version":
                self._send(200, json.dumps({"version": self.ollama.version}))
            case "/api/ps":
                running = [
                    {"name": name, "model": name, "size": 5_000_000_000, "size_vram": 4_000_000_000}
                    | {"context_length": window, "expires_at": "2026-11-22T21:53:40.981013258Z"}
                    for name, window in self.ollama.loaded.items()
                ]
                self._send(200, json.dumps({"models": running}))
            case _:
                self._send(404, "404 page not found")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.ollama.requests.append((self.path, body))
        match self.path:
            case "/api/chat":
                self._answer(self.ollama.answer_chat(body))
            case "/api/show":
                self._show(body)
            case "/api/embed":
                self._embed(body)
            case _:
                self._send(404, "404 page not found")

    def _show(self, body: Mapping[str, Any]) -> None:
        model = self.ollama.find(body["model"])
        if self.ollama.show is not None:
            self._send(200, json.dumps(self.ollama.show))
        elif model is None:
            self._send(404, error_body(f"model '{body['model']}' not found"))
        else:
            facts = {"general.architecture": "qwen2", "qwen2.context_length": model.context_length}
            facts["qwen2.embedding_length"] = model.dimensions
            facts |= model.facts
            if not body.get("verbose"):
                facts = {key: None if isinstance(value, list) else value for key, value in facts.items()}
            tensors = [{"name": "token_embd.weight", "type": "Q8_0", "shape": [576, 49152]}]
            shown = {"model_info": facts, "capabilities": list(model.capabilities), "tensors": tensors}
            shown["modelfile"] = "# Modelfile\nFROM /elsewhere/blobs/sha256-" + "0" * 64 + "\n"
            self._send(200, json.dumps(shown))

    def _embed(self, body: Mapping[str, Any]) -> None:
        model = self.ollama.find(body["model"])
        if self.ollama.embed is not None:
            self._answer(self.ollama.embed)
        elif model is None:
            self._send(404, error_body(f'model "{body["model"]}" not found, try pulling it first'))
        else:
            vectors = [
                [float(len(text) + 1)] + [1.0] * (model.dimensions - 1) if text else [] for text in body["input"]
            ]
            self._send(200, json.dumps({"model": body["model"], "embeddings": vectors}))

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer, Refusal):
            self._send(answer.status, answer.body)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in answer.lines:
                self.wfile.write(b"%x\r\n%b\n\r\n" % (len(line) + 1, line))
            if not answer.cut:
                self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.ollama.gave_up.set()
            self.close_connection = True
        if answer.cut:
            self.close_connection = True

    def _send(self, status: int, text: str) -> None:
        payload = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
