"""A server of OpenAI's interface made of the standard library: on loopback, on a random port, and as wicked as asked.

Each path is answered by a ``Reply``, or by a function of the request's body that makes one. ``llama_cpp``, ``vllm`` and
``lm_studio`` are the answers of those servers, with a toy tokenizer of three bytes a token, as their sources and
documentation show them: llama.cpp b11549, vLLM 0.33, LM Studio 0.4.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

CHAT = "/v1/chat/completions"
TEMPLATE_TOKENS = 8
# Seconds. The longest that a scripted wait may take, should a test have forgotten to end it.
LONGEST_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """``parts`` are sent one after the other, each at once; ``cut`` drops the connection after them."""

    parts: Iterable[bytes]
    status: int = 200
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


Answer = Reply | Callable[[Mapping[str, Any]], Reply]


def whole(body: Any, status: int = 200, **headers: str) -> Reply:
    """JSON, or a text as it is."""
    text = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply((text.encode("utf-8", "replace"),), status, headers=named)


def refusal(status: int, message: str, kind: str = "invalid_request_error", **more: Any) -> Reply:
    return whole({"error": {"code": status, "message": message, "type": kind, **more}}, status)


def stream(*lines: str, cut: bool = False) -> Reply:
    """Server-sent events, each line one of them."""
    return Reply([line.encode("utf-8", "replace") + b"\n\n" for line in lines], kind="text/event-stream", cut=cut)


def event(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    delta = {} if text is None else {"content": text}
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def counts(prompt: int, completion: int, **more: Any) -> str:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return "data: " + json.dumps({"choices": [], "usage": usage, **more})


DONE = "data: [DONE]"
WHOLE = (event("Two"), event(" [1]."), event(finish="stop"), counts(30, 2), DONE)


def count_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // 3)


def prompt_tokens(body: Mapping[str, Any]) -> int:
    return TEMPLATE_TOKENS + sum(count_tokens(message["content"]) for message in body["messages"])


def said(body: Mapping[str, Any], read: int, *, logprobs: bool = True, cached: int | None = None) -> Reply:
    """An answer of at most as many tokens as asked for, from a prompt of which ``read`` tokens were read.

    By a schema where one is asked for, and with the probabilities of its tokens where the server is one that tells.
    """
    words = ["It", " is", " in", " [1]", *(f" word{number}" for number in range(7))]
    if "response_format" in body:
        names = body["response_format"]["json_schema"]["schema"].get("required", [])
        words = [json.dumps(dict.fromkeys(names, 1))]
    chosen = words[: body["max_tokens"]]
    finish = "length" if len(chosen) == body["max_tokens"] else "stop"
    more = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    usage = {"prompt_tokens": read, "completion_tokens": len(chosen), **more}
    told = [_token(word, body["top_logprobs"] if body.get("logprobs") and logprobs else None) for word in chosen]
    progress = {"total": read, "cache": cached or 0, "processed": read, "time_ms": 1}
    read_first = (
        ["data: " + json.dumps({"choices": [], "prompt_progress": progress})] if "return_progress" in body else []
    )
    return stream(
        *read_first, *told, event(finish=finish), "data: " + json.dumps({"choices": [], "usage": usage}), DONE
    )


def _token(text: str, alternatives: int | None) -> str:
    choice: dict[str, Any] = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    if alternatives is not None:
        known = {"token": text, "logprob": -0.25, "bytes": list(text.encode())}
        choice["logprobs"] = {"content": [{**known, "top_logprobs": [known] * alternatives}]}
    return "data: " + json.dumps({"choices": [choice]})


def llama_cpp(window: int = 4096) -> dict[str, Answer]:
    """As llama-server: it renders, counts, keeps the last prompt, and refuses what does not fit."""
    kept: list[Any] = []

    def chat(body: Mapping[str, Any]) -> Reply:
        size = prompt_tokens(body)
        if size <= window:
            cached = size - 1 if kept == body["messages"] else 0
            kept[:] = body["messages"]
            return said(body, size, cached=cached)
        message = f"request ({size} tokens) exceeds the available context size ({window} tokens), try increasing it"
        return refusal(400, message, "exceed_context_size_error", n_prompt_tokens=size, n_ctx=window)

    def render(body: Mapping[str, Any]) -> Reply:
        return whole({"prompt": "<" * (3 * TEMPLATE_TOKENS) + "".join(m["content"] for m in body["messages"])})

    return {
        "/props": whole({"default_generation_settings": {"n_ctx": window}, "model_path": "/models/tiny.gguf"}),
        "/apply-template": render,
        "/tokenize": lambda body: whole({"tokens": list(range(count_tokens(body["content"])))}),
        CHAT: chat,
    }


def vllm(window: int = 4096, model: str = "Qwen/Qwen3-8B") -> dict[str, Answer]:
    """As ``vllm serve``: it tells its window, counts, and refuses a prompt together with the answer asked for."""

    def tokenize(body: Mapping[str, Any]) -> Reply:
        size = prompt_tokens(body) if "messages" in body else count_tokens(body["prompt"])
        return whole({"count": size, "max_model_len": window, "tokens": list(range(size)), "token_strs": None})

    def chat(body: Mapping[str, Any]) -> Reply:
        if body["model"] != model:
            missing = f"The model `{body['model']}` does not exist."
            return whole({"object": "error", "message": missing, "type": "NotFoundError", "code": 404}, 404)
        size = prompt_tokens(body)
        if size + body["max_tokens"] <= window:
            return said(body, size)
        message = (
            f"This model's maximum context length is {window} tokens. However, you requested "
            f"{size + body['max_tokens']} tokens ({size} in the messages, {body['max_tokens']} in the completion). "
            "Please reduce the length of the messages or completion."
        )
        return refusal(400, message, "BadRequestError", param=None)

    served = {"id": model, "object": "model", "owned_by": "vllm", "root": model, "max_model_len": window}
    return {"/v1/models": whole({"object": "list", "data": [served]}), "/tokenize": tokenize, CHAT: chat}


def lm_studio(window: int = 4096, model: str = "qwen2.5-coder-7b-instruct") -> dict[str, Answer]:
    """As LM Studio with its rolling window: what does not fit is cut in silence, and nothing is counted beforehand."""

    def chat(body: Mapping[str, Any]) -> Reply:
        size = prompt_tokens(body)
        return said(body, size if size <= window else window // 2, logprobs=False)

    names = [model, "text-embedding-nomic-embed-text-v1.5"]
    listed = [{"id": name, "object": "model", "owned_by": "organization_owner"} for name in names]
    about = {"object": "model", "publisher": "lmstudio-community", "compatibility_type": "gguf"}
    loaded = {"state": "loaded", "max_context_length": 32_768, "loaded_context_length": window}
    idle = {"state": "not-loaded", "max_context_length": 131_072}
    native = [
        {**about, "id": "another", "type": "llm", **idle},
        {**about, "id": names[1], "type": "embeddings", "state": "not-loaded", "max_context_length": 2048},
        {**about, "id": model, "type": "llm", **loaded},
    ]
    return {
        "/v1/models": whole({"object": "list", "data": listed}),
        "/api/v0/models": whole({"object": "list", "data": native}),
        CHAT: chat,
    }


@dataclass
class ScriptedServer:
    """``with ScriptedServer(vllm()) as server: OpenAiCompatibleBackend(server.url)``."""

    answers: dict[str, Answer] = field(default_factory=llama_cpp)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list, repr=False)
    headers: list[Mapping[str, str]] = field(default_factory=list, repr=False)  # of the requests, in the same order
    gave_up: threading.Event = field(default_factory=threading.Event)  # a client went away before the end

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": self}))
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
        return [body for asked, body in self.asked if asked == path]

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections that come at once; one that finds no room is tried again after a second

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests; anything else is told on stderr."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    script: ScriptedServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Says nothing: the requests are kept instead."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.script.headers.append(dict(self.headers))
        self.script.asked.append((self.path, body))
        answer = self.script.answers.get(self.path, refusal(404, "File Not Found", "not_found_error"))
        reply = answer if isinstance(answer, Reply) else answer(body)
        self.close_connection = True
        try:
            self._send(reply)
        except ConnectionError:
            self.script.gave_up.set()

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for part in reply.parts:
            if part:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")
