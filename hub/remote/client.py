"""Finds the server of a data folder and talks to it over its local socket, where the same user needs no key.

What it answers is plain JSON, and its errors are those that the command itself would have had. Knows nothing of what is
asked.
"""

import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import NO_CONTENT, HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hub.errors import ServerError

Json = dict[str, Any]

FILE = "server.json"
CONNECT_S = 2.0
# Seconds of silence after which a server is given up; it gives a sign of life each ten while it works. 30 to 300.
SILENCE_S = 60.0
LINE_BYTES = 64 << 20  # of one event: an answer with everything that it rests on
_CREDENTIALS = struct.Struct("3i")  # process, user and group, as the kernel tells them
_AGAIN = "Run it again, or with --no-server to do without the server."


@dataclass(frozen=True, slots=True)
class Remote:
    """A server that runs. ``settings`` is the fingerprint of its own; "" where it does not tell."""

    pid: int
    socket: str  # path
    url: str
    version: str
    settings: str
    started_at: object

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Json:
        """Raises ServerError, with the server's sentence where it refused."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        return self._answered("GET", f"{path}?{urlencode(asked, doseq=True)}" if asked else path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Json:
        """As ``get``."""
        return self._answered("POST", path, body)

    def stream(self, path: str, body: Mapping[str, object] | None = None) -> Iterator[tuple[str, Json]]:
        """Events as they come: name and content. Posts the body where there is one. Raises ServerError, also for an
        event of that name, and where the stream breaks off; closing the iterator ends the work behind an answer.
        """
        headers = {"accept": "text/event-stream"}
        with self._asked("GET" if body is None else "POST", path, body, headers) as response:
            name, data = "", b""
            while line := response.readline(LINE_BYTES):
                field, _, value = line.rstrip(b"\r\n").partition(b": ")
                if field == b"event":
                    name = value.decode()
                elif field == b"data":
                    data = value
                elif not field and name:
                    content = _read(data)
                    if name == "error":
                        raise ServerError(str(content.get("error")), str(content.get("hint") or ""))
                    yield name, content
                    name, data = "", b""

    def _answered(self, method: str, path: str, body: Mapping[str, object] | None) -> Json:
        with self._asked(method, path, body, {}) as response:
            return {} if response.status == NO_CONTENT else _read(response.read())

    @contextmanager
    def _asked(
        self, method: str, path: str, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> Iterator[HTTPResponse]:
        told = {"host": "localhost", **headers}
        sent = None
        if body is not None:
            sent = json.dumps(body).encode()
            told["content-type"] = "application/json"
        try:
            with closing(_Connection(self.socket)) as connection:
                connection.request(method, path, sent, told)
                with closing(connection.getresponse()) as response:
                    _check(response)
                    yield response
        except TimeoutError:
            raise ServerError(
                f"The server (process {self.pid}) has not answered for {SILENCE_S:.0f} s.", _AGAIN
            ) from None
        except (OSError, HTTPException):
            raise gone(self.pid) from None


def gone(pid: int) -> ServerError:
    """What is said of a server that ended before its answer did."""
    return ServerError(f"The server (process {pid}) went away in the middle of it.", _AGAIN)


def find(data: Path) -> Remote | None:
    """The server that runs on a data folder, if one answers, and if it is this user's own."""
    try:
        told = json.loads((data / FILE).read_text(encoding="utf-8"))
        remote = Remote(
            int(told["pid"]),
            str(told["socket"]),
            str(told["url"]),
            str(told["version"]),
            str(told.get("settings", "")),
            told.get("started_at"),
        )
        with closing(connected(remote.socket)):
            return remote
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def version() -> str:
    """Of what is installed here; "" for a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415 - 0.05 s for those who found a server
    from importlib.metadata import version as installed  # noqa: PLC0415 - as above

    try:
        return installed("code-knowledge-hub")
    except PackageNotFoundError:
        return ""


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = connected(self._path)
        self.sock.settimeout(SILENCE_S)


def connected(path: str) -> socket.socket:
    """Raises OSError, also where another user listens: what is asked would be told to them."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with ExitStack() as failed:
        failed.callback(made.close)
        made.settimeout(CONNECT_S)
        made.connect(path)
        if hasattr(socket, "SO_PEERCRED"):
            told = made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if _CREDENTIALS.unpack(told)[1] != os.getuid():
                raise PermissionError(f"{path} is another user's")
        failed.pop_all()
    return made


def _check(response: HTTPResponse) -> None:
    if response.status >= 400:
        refused = _read(response.read())
        raise ServerError(str(refused.get("error")), str(refused.get("hint") or ""))


def _read(text: bytes) -> Json:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ServerError("The server answered what is no JSON object.", _AGAIN)
    return told
