"""Lines of JSON-RPC between a client's stdin and stdout and ``/mcp`` of the running server, over its local socket.

It passes messages on and reads of them only what it must: which call an answer is of, which era of the protocol a
request belongs to, and which session a client is in. The standard library alone, so that it is up in no time. A server
that is started anew is found again and, for clients of the older era, greeted again in the client's stead; a call that
it took down with it is answered with an error that says so, since it may have been half-way. Knows no tool.
"""

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, BinaryIO

from hub.remote import Remote, connected

PATH = "/mcp"
MOST_LINE = 16 << 20  # bytes of one message; the server takes less
MOST_CALLS = 64  # that wait for the server at once; a client that sends more is read no further meanwhile
SILENCE_S = 60.0  # after which a server is given up; it gives a sign of life each 15
RETURN_S = 10.0  # that a server may be gone before a call is told so: about what starting one anew takes
LOOK_S = 0.2  # between two looks for it
LAST_WORDS_S = 0.25  # that calls under way get when the client has closed its end
_PARSE_ERROR, _INVALID, _GONE = -32700, -32600, -32000
_VERSION = "io.modelcontextprotocol/protocolVersion"  # in _meta of every request of the newer era
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_ENCODED = re.compile(r"=\?base64\?.*\?=")

Json = dict[str, Any]


class _Lost(Exception):
    """The server is gone, or went away; ``begun`` says whether it may have begun with what it was sent."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__()
        self.begun = begun


class Relay:
    """One client's conversation."""

    def __init__(
        self, find: Callable[[], Remote | None], headers: Mapping[str, str], write: Callable[[bytes], object]
    ) -> None:
        """``find`` looks for the server; ``headers`` go with every request; ``write`` takes whole lines."""
        self._find = find
        self._headers = {
            "host": "localhost",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            **headers,
        }
        self._write = write
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._greeting = threading.Lock()
        self._room = threading.BoundedSemaphore(MOST_CALLS)
        self._ended = threading.Event()
        self._calls: dict[str, _Call] = {}
        self._idle = threading.Condition(self._lock)
        self._socket = ""  # of the server that was last found
        self._greeted: Json | None = None  # the client's initialize, to be said again to another server
        self._ready = False  # it has said that it is initialized
        self._session = self._version = ""

    def run(self, lines: BinaryIO) -> None:
        """Passes on until the client closes its end; then everything that is under way ends, too."""
        while line := lines.readline(MOST_LINE):
            if not line.endswith(b"\n") and len(line) >= MOST_LINE:
                while (rest := lines.readline(MOST_LINE)) and not rest.endswith(b"\n"):
                    continue
                self._fail(None, _PARSE_ERROR, "The message is too long. Send less at a time.")
            elif line.strip():
                self._take(line)
        with self._idle:
            self._idle.wait_for(lambda: not self._calls, LAST_WORDS_S)
            calls = list(self._calls.values())
        self._ended.set()
        for call in calls:
            call.end()
        self._take_leave()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._fail(None, _PARSE_ERROR, "The line is no JSON.")
            return
        if not isinstance(message, dict):
            self._fail(None, _INVALID, "One message is sent at a time, as an object.")
            return
        if "method" in message and "id" in message:
            self._begin(_Call(message, line.strip()))
        else:
            self._notify(message, line.strip())

    def _begin(self, call: "_Call") -> None:
        with self._lock:
            self._calls[call.key] = call
        if call.message["method"] == "initialize":
            # What comes after it needs the session that it makes.
            self._greeted, self._session, self._version, self._ready = call.message, "", "", False
            self._answer(call)
            return
        self._room.acquire()
        threading.Thread(target=self._answer_apart, args=(call,), daemon=True).start()

    def _answer_apart(self, call: "_Call") -> None:
        try:
            self._answer(call)
        finally:
            self._room.release()

    def _answer(self, call: "_Call") -> None:
        try:
            self._exchange(call)
        except _Lost as lost:
            if not call.ended:
                self._tell_lost(call, begun=lost.begun)
        finally:
            with self._idle:
                if self._calls.get(call.key) is call:
                    del self._calls[call.key]
                self._idle.notify_all()

    def _exchange(self, call: "_Call") -> None:
        """Writes what the server answers. Raises _Lost. What can be said twice without harm is, to another server."""
        for last in (False, False, True):
            session = self._session
            try:
                with self._asked("POST", call.line, self._told(call.message), call) as response:
                    if last or response.status != HTTPStatus.NOT_FOUND or not session or call.modern:
                        self._pass_on(call, response)
                        return
                self._greet_again(session)
            except _Lost as lost:
                if last or not lost.begun or call.ended or call.message["method"] == "tools/call":
                    raise
                self._socket = ""

    def _pass_on(self, call: "_Call", response: HTTPResponse) -> None:
        if call.message["method"] == "initialize":
            self._session = response.headers.get("mcp-session-id", "")
        if response.headers.get_content_type() == "text/event-stream":
            for data in _events(response):
                if self._pass_message(call, data):
                    return
            raise _Lost(begun=True)
        text = response.read()
        if not self._pass_message(call, text):
            older = " It may be of an older version: start it anew." if response.status == HTTPStatus.NOT_FOUND else ""
            told = f"The server answered with status {response.status} and no message.{older}"
            self._fail(call.message["id"], _GONE, told)

    def _pass_message(self, call: "_Call", data: bytes) -> bool:
        """Whether it is the answer."""
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return False
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return False
        last = "method" not in message
        if last and call.message["method"] == "initialize":
            self._version = str((message.get("result") or {}).get("protocolVersion", ""))
        if last and message.get("id") is None:  # of no request, since the server did not read as far as that
            data = _line({**message, "id": call.message["id"]})
        elif b"\n" in data:
            data = _line(message)
        if not call.ended:
            self._say(data)
        return last

    def _notify(self, message: Json, line: bytes) -> None:
        """What gets no answer. It is sent in order, before what the client says next."""
        if message.get("method") == "notifications/cancelled":
            params = message.get("params")
            with self._lock:
                call = self._calls.get(_key(params.get("requestId") if isinstance(params, dict) else None))
            if call is not None:
                call.ended = True
                if not call.modern:  # later ones are cancelled by the end of their connection
                    self._send_off(message, line)
                call.end()
            return
        if message.get("method") == "notifications/initialized":
            self._ready = True
        self._send_off(message, line)

    def _send_off(self, message: Json, line: bytes) -> None:
        with suppress(_Lost), self._asked("POST", line, self._told(message)) as response:
            response.read()

    def _greet_again(self, session: str) -> None:
        """In the client's stead, where the server does not know its session any more. Raises _Lost."""
        with self._greeting:
            if self._session != session or self._greeted is None:
                return
            greeting = _Call(self._greeted, _line({**self._greeted, "id": "again"}))
            self._session = ""
            with self._asked("POST", greeting.line, self._told(self._greeted)) as response:
                self._session = response.headers.get("mcp-session-id", "")
                response.read()
            if self._ready:
                told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
                self._send_off(told, _line(told))

    def _told(self, message: Json) -> dict[str, str]:
        """The headers that say again what stands in the message, as the protocol wants it over HTTP."""
        headers = dict(self._headers)
        version = _version_of(message)
        method = message.get("method")
        if version:
            headers["mcp-protocol-version"] = _header(version)
            headers["mcp-method"] = _header(str(method))
            name = message["params"].get(_NAMED.get(str(method), ""))
            if isinstance(name, str):
                headers["mcp-name"] = _header(name)
        elif method != "initialize":
            if self._version:
                headers["mcp-protocol-version"] = _header(self._version)
            if self._session:
                headers["mcp-session-id"] = self._session
        return headers

    @contextmanager
    def _asked(
        self, method: str, body: bytes | None, headers: Mapping[str, str], call: "_Call | None" = None
    ) -> Iterator[HTTPResponse]:
        """The answer's head, with its body to be read. Raises _Lost."""
        made = _Connection(self._reached(call))
        sent = False
        try:
            with closing(made):
                if call is not None:
                    call.hold(made.sock)
                sent = True
                made.request(method, PATH, body, dict(headers))
                with closing(made.getresponse()) as response:
                    yield response
        except (OSError, HTTPException, ValueError):
            raise _Lost(begun=sent) from None

    def _reached(self, call: "_Call | None") -> socket.socket:
        """A connection to the server, once there is one. Raises _Lost."""
        for _ in range(max(1, round(RETURN_S / LOOK_S))):
            path = self._socket
            if not path:
                remote = self._find()
                path = self._socket = remote.socket if remote is not None else ""
            if path:
                try:
                    return connected(path)
                except OSError:
                    self._socket = ""
            if self._ended.wait(LOOK_S) or (call is not None and call.ended):
                break
        raise _Lost(begun=False)

    def _take_leave(self) -> None:
        """Ends the session, as far as the server is there to hear of it."""
        if not self._session or not self._socket:
            return
        with suppress(_Lost, OSError):
            made = _Connection(connected(self._socket))
            made.sock.settimeout(LAST_WORDS_S)
            with closing(made):
                made.request("DELETE", PATH, None, self._told({}))

    def _tell_lost(self, call: "_Call", *, begun: bool) -> None:
        text = (
            "The server went away in the middle of it, so it may or may not have been done. Call again."
            if begun
            else "No server answers on this data folder. Start one with `codehub serve`, then call again."
        )
        if call.message["method"] == "tools/call":
            content = [{"type": "text", "text": text}]
            whole: Json = {"content": content, "isError": True}
            if call.modern:
                whole["resultType"] = "complete"
            self._say(_line({"jsonrpc": "2.0", "id": call.message["id"], "result": whole}))
        else:
            self._fail(call.message["id"], _GONE, text)

    def _fail(self, about: object, code: int, text: str) -> None:
        self._say(_line({"jsonrpc": "2.0", "id": about, "error": {"code": code, "message": text}}))

    def _say(self, data: bytes) -> None:
        with self._writing, suppress(OSError):  # a client that reads no more is about to close its other end
            self._write(data.strip() + b"\n")


class _Call:
    """A request under way."""

    def __init__(self, message: Json, line: bytes) -> None:
        self.message = message
        self.line = line
        self.key = _key(message["id"])
        self.modern = bool(_version_of(message))
        self.ended = False
        self._held: socket.socket | None = None

    def hold(self, connection: socket.socket) -> None:
        """The connection that its answer comes by."""
        self._held = connection
        if self.ended:
            self.end()

    def end(self) -> None:
        """Nobody waits for it any more; the server notices, and so does the thread that reads."""
        self.ended = True
        if self._held is not None:
            with suppress(OSError):
                self._held.shutdown(socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """HTTP over a connection that is there already."""

    sock: socket.socket

    def __init__(self, made: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = made
        made.settimeout(SILENCE_S)


def _events(response: HTTPResponse) -> Iterator[bytes]:
    """The data of each event of a stream."""
    data: list[bytes] = []
    while line := response.readline(MOST_LINE):
        text = line.rstrip(b"\r\n")
        if text.startswith(b"data:"):
            data.append(text[5:].removeprefix(b" "))
        elif not text and data:
            yield b"\n".join(data)
            data = []


def _version_of(message: Json) -> str:
    """The protocol's version where a request carries it itself, as those of the newer era do; else ""."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    version = meta.get(_VERSION) if isinstance(meta, dict) else None
    return version if isinstance(version, str) else ""


def _key(request_id: object) -> str:
    """For looking a request up: 1 and "1" are two."""
    return json.dumps(request_id)


def _header(value: str) -> str:
    """A value as it may stand in a header; others are encoded as the protocol has it."""
    if _PLAIN.fullmatch(value) and not _ENCODED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode('utf-8', 'surrogatepass')).decode('ascii')}?="


def _line(message: Json) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
