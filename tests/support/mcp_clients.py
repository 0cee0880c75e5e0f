"""Clients of MCP: the SDK's own over each transport, and JSON-RPC written by hand in both eras of the protocol."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.support.command import COMMAND, environment
from tests.support.served import Served

BOUND_S = 30.0
OLD, NEW = "2025-06-18", "2026-07-28"
ACCEPT = {"accept": "application/json, text/event-stream"}
Json = dict[str, Any]
_CLIENT = {"name": "by hand", "version": "1"}
_ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": NEW,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}
GREETING = {"protocolVersion": OLD, "capabilities": {}, "clientInfo": _CLIENT}
INITIALIZED: Json = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_NUMBERS = count(1)


def request(method: str, params: Mapping[str, object] | None = None, *, new: bool = False) -> Json:
    """A request with an id of its own; those of the newer era carry what a handshake settled before."""
    whole: Json = {"jsonrpc": "2.0", "id": next(_NUMBERS), "method": method}
    given = dict(params or {})
    if new:
        given["_meta"] = {**_ENVELOPE, **given.get("_meta", {})}  # type: ignore[dict-item] # an object where there is one
    return {**whole, "params": given} if given else whole


def call(tool: str, arguments: Mapping[str, object], *, new: bool = False, **meta: object) -> Json:
    """A request that calls a tool."""
    params: Json = {"name": tool, "arguments": dict(arguments)}
    return request("tools/call", {**params, "_meta": meta} if meta else params, new=new)


def text_of(answer: Json) -> str:
    """The text of a result, which is all there is of it."""
    result = answer["result"]
    assert "structuredContent" not in result
    (content,) = result["content"]
    assert content["type"] == "text"
    return str(content["text"])


class OverHttp:
    """JSON-RPC by hand over HTTP, in either era."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.session = ""

    def greet(self) -> Json:
        """The handshake of the older era; what the server says of itself."""
        reply = self.post(request("initialize", GREETING))
        assert reply.status_code == 200
        self.session = reply.headers["mcp-session-id"]
        assert self.post(INITIALIZED).status_code == 202
        return messages(reply)[-1]

    def ask(self, message: Json) -> Json:
        """The answer to a request."""
        answer = messages(self.post(message))[-1]
        assert answer["id"] == message["id"]
        return answer

    def post(self, message: Json) -> httpx.Response:
        return self.client.post("/mcp", json=message, headers=self.headers(message))

    def headers(self, message: Json) -> dict[str, str]:
        params = message.get("params", {})
        if "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {}):
            named = {"mcp-name": params["name"]} if "name" in params else {}
            return {**ACCEPT, "mcp-protocol-version": NEW, "mcp-method": message["method"], **named}
        return {**ACCEPT, **({"mcp-session-id": self.session, "mcp-protocol-version": OLD} if self.session else {})}


def messages(reply: httpx.Response) -> list[Json]:
    """What an answer holds, whether it is one object or a stream of events."""
    if reply.headers["content-type"].startswith("text/event-stream"):
        return [
            json.loads(line[5:]) for line in reply.text.splitlines() if line.startswith("data:") and line[5:].strip()
        ]
    return [reply.json()]


class OverLines:
    """JSON-RPC by hand over the stdin and stdout of ``codehub mcp``."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def say(self, message: Json) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def heard(self) -> Json:
        """The next message."""
        line = self.lines.get(timeout=BOUND_S)
        assert line, "it has ended"
        message: Json = json.loads(line)
        return message

    def ask(self, message: Json) -> Json:
        """The answer to a request; what is told before it is left out."""
        self.say(message)
        while (answer := self.heard()).get("id") != message["id"]:
            assert "method" in answer
        return answer

    def greet(self) -> Json:
        answer = self.ask(request("initialize", GREETING))
        self.say(INITIALIZED)
        return answer


def told_of(running: Served, data: Path) -> None:
    """Has commands find a server that runs in this process."""
    told = {"pid": os.getpid(), "socket": str(running.socket), "url": running.url, "version": "", "settings": ""}
    (data / "server.json").write_text(json.dumps(told), encoding="utf-8")


def command(*options: str) -> list[str]:
    """``codehub mcp`` as a command line."""
    return [sys.executable, "-c", COMMAND, "mcp", *options]


@contextmanager
def spoken(data: Path, options: Sequence[str] = (), cwd: Path | None = None) -> Iterator[OverLines]:
    """A process of ``codehub mcp``, ended whatever happens."""
    settings = {"CODEHUB_EMBEDDINGS": "none"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        command(*options), **pipes, env=environment(data, settings), cwd=cwd or data.parent
    ) as process:  # type: ignore[call-overload] # two pipes of bytes
        try:
            yield OverLines(process)
        finally:
            process.kill()


@asynccontextmanager
async def sdk_over_http(url: str, key: str, mode: str) -> AsyncIterator[Client]:
    """The SDK's client; ``mode`` is "auto" or "legacy"."""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=BOUND_S) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode, read_timeout_seconds=BOUND_S) as client:
            yield client


@asynccontextmanager
async def sdk_over_stdio(data: Path, mode: str, *options: str) -> AsyncIterator[Client]:
    """The SDK's client with a process of ``codehub mcp``, which it ends."""
    program, *arguments = command(*options)
    told = environment(data, {"CODEHUB_EMBEDDINGS": "none"})
    parameters = StdioServerParameters(command=program, args=arguments, env=told, cwd=data.parent)
    async with Client(stdio_client(parameters), mode=mode, read_timeout_seconds=BOUND_S) as client:
        yield client
