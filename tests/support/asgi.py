"""One request to an ASGI application in this process, byte by byte as a client may send it, and its whole answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

LOOPBACK = ("127.0.0.1", 50_000)
Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int  # 0: none came
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """All values of a header, "" where it is missing."""
        return ", ".join(value for other, value in self.headers if other == name)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request. ``pieces`` None sends no body; without ``head`` neither host nor length are added."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[bytes, ...] | None = None
    client: tuple[str, int] | None = LOOPBACK
    scheme: str = "http"
    peer_uid: int | None = None
    head: bool = True
    waits: Callable[[], Awaitable[None]] | None = None  # before each piece


async def answered(app: ASGIApp, sent: Sent) -> Reply:
    """The answer, once the application is done with the request. Whoever waits for a disconnect waits to the end."""
    path, _, query = sent.path.partition("?")
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in sent.headers]
    if sent.head and not any(name == b"host" for name, _ in headers):
        headers.append((b"host", b"localhost"))
    if sent.head and sent.pieces is not None:
        headers.append((b"content-length", b"%d" % sum(map(len, sent.pieces))))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": sent.scheme,
        "path": unquote(path),
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query.encode("utf-8", "surrogatepass"),
        "root_path": "",
        "headers": headers,
        "client": sent.client,
        "server": ("127.0.0.1", 8642),
        "state": {} if sent.peer_uid is None else {"peer_uid": sent.peer_uid},
    }
    waiting = list(sent.pieces or (b"",))
    done = asyncio.Event()
    messages: list[Message] = []

    async def receive() -> Message:
        if sent.waits and waiting:
            await sent.waits()
        if waiting:
            piece = waiting.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    try:
        await app(scope, receive, send)
    finally:
        done.set()
    start = next((message for message in messages if message["type"] == "http.response.start"), None)
    if start is None:
        return Reply(0, (), b"")
    named = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"])
    return Reply(start["status"], named, b"".join(message.get("body", b"") for message in messages))


def ask(app: ASGIApp, *requests: Sent) -> list[Reply]:
    """The answers to requests that come one after another."""

    async def all_of_them() -> list[Reply]:
        return [await answered(app, sent) for sent in requests]

    return asyncio.run(all_of_them())


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def sent(method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: Any = None, **more: Any) -> Sent:
    """A request whose body is JSON, unless it is bytes."""
    if body is None:
        return Sent(method, path, tuple(headers), **more)
    if isinstance(body, bytes):
        return Sent(method, path, tuple(headers), (body,), **more)
    return Sent(method, path, (*headers, ("content-type", "application/json")), (json.dumps(body).encode(),), **more)
