"""``codehub mcp`` with a server: lines in, lines out, whatever becomes of the server and the client meanwhile."""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.inbound import encode_header_value

from agents import relay
from agents.mcp_server import protocol
from agents.relay import Relay
from hub.auth.audit import AuditLog
from hub.remote import Remote
from tests.support.command import ROOT
from tests.support.mcp_clients import (
    GREETING,
    INITIALIZED,
    NEW,
    Json,
    call,
    request,
    spoken,
    text_of,
    told_of,
)
from tests.support.served import BOUND_S, Served, served, serving_state, until
from tests.support.slow_tool import Slow, with_slow

FIND = {"name": "Counter"}
ERAS = pytest.mark.parametrize("new", [False, True], ids=["older", "newer"])


class Spoken:
    """A relay in a thread of this process, with a client's ends of its lines."""

    def __init__(self, find: Callable[[], Remote | None]) -> None:
        self.heard: queue.Queue[Json] = queue.Queue()
        inner, outer = os.pipe()
        self._out = os.fdopen(outer, "wb", buffering=0)
        self._in = os.fdopen(inner, "rb")
        made = Relay(find, {}, lambda line: self.heard.put(json.loads(line)))
        self._thread = threading.Thread(target=made.run, args=(self._in,))
        self._thread.start()

    def write(self, line: bytes) -> None:
        self._out.write(line)

    def say(self, message: Json) -> Json:
        self.write(json.dumps(message).encode() + b"\n")
        return message

    def next(self) -> Json:
        return self.heard.get(timeout=BOUND_S)

    def ask(self, message: Json) -> Json:
        """The next thing that is heard, which is the answer."""
        self.say(message)
        answer = self.next()
        assert answer["id"] == message["id"]
        return answer

    def greet(self) -> Json:
        answer = self.ask(request("initialize", GREETING))
        self.say(INITIALIZED)
        return answer

    def end(self) -> None:
        if not self._out.closed:
            self._out.close()
        self._thread.join(BOUND_S)
        assert not self._thread.is_alive(), "it did not end"
        self._in.close()


@contextmanager
def speaking(find: Callable[[], Remote | None], *, greeted: bool = False) -> Iterator[Spoken]:
    with ExitStack() as stack:
        made = Spoken(find)
        stack.callback(made.end)
        if greeted:
            made.greet()
        yield made


def remote_at(path: Path) -> Remote:
    return Remote(os.getpid(), str(path), "", "", "", 0)


@pytest.fixture(scope="module")
def waiting() -> Slow:
    return Slow()


@pytest.fixture
def slow(waiting: Slow) -> Slow:
    waiting.again()
    return waiting


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, waiting: Slow) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("relay"), extend=(with_slow(waiting),)) as running:
        yield running


@pytest.fixture
def find(hub: Served) -> Callable[[], Remote | None]:
    return lambda: remote_at(hub.socket)


@ERAS
def test_calls_run_side_by_side(find: Callable[[], Remote], slow: Slow, *, new: bool) -> None:
    with speaking(find, greeted=not new) as client:
        first = client.say(call("job", {"id": "1"}, new=new))
        assert slow.begun.acquire(timeout=BOUND_S)
        assert "Counter" in text_of(client.ask(call("find_symbol", FIND, new=new)))
        slow.go.set()
        last = client.next()
        assert (last["id"], text_of(last)) == (first["id"], "went on with 1")


@ERAS
def test_progress_comes_before_the_answer(
    find: Callable[[], Remote], slow: Slow, monkeypatch: pytest.MonkeyPatch, *, new: bool
) -> None:
    monkeypatch.setattr(protocol, "PULSE_S", 0.02)
    with speaking(find, greeted=not new) as client:
        client.say(call("job", {"id": "1"}, new=new, progressToken=7))
        told = client.next()
        assert (told["method"], told["params"]["progressToken"]) == ("notifications/progress", 7)
        slow.go.set()
        while "method" in (told := client.next()):
            assert told["method"] == "notifications/progress"
        assert text_of(told) == "went on with 1"


@ERAS
def test_a_cancelled_call_ends_and_is_not_answered(find: Callable[[], Remote], slow: Slow, *, new: bool) -> None:
    with speaking(find, greeted=not new) as client:
        message = client.say(call("job", {"id": "unwanted"}, new=new))
        assert slow.begun.acquire(timeout=BOUND_S)
        client.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": message["id"]}})
        until(lambda: slow.left == ["unwanted"])
        assert "Counter" in text_of(client.ask(call("find_symbol", FIND, new=new)))


@ERAS
def test_the_end_of_the_lines_ends_what_is_under_way(find: Callable[[], Remote], slow: Slow, *, new: bool) -> None:
    with speaking(find, greeted=not new) as client:
        client.say(call("job", {"id": "left"}, new=new))
        assert slow.begun.acquire(timeout=BOUND_S)
        client.end()
        until(lambda: slow.left == ["left"])
        assert client.heard.empty()


def test_what_is_nearly_done_at_the_end_of_the_lines_is_still_answered(find: Callable[[], Remote]) -> None:
    with speaking(find) as client:
        message = client.say(call("read_file", {"path": "README.md"}, new=True))
        client.end()
        assert client.next()["id"] == message["id"]


def test_a_server_that_is_started_anew_is_found_again(tmp_path: Path) -> None:
    slow = Slow()
    slow.go.set()
    there: list[Remote] = []
    with ExitStack() as stack:
        with served(tmp_path, extend=(with_slow(slow),)) as first:
            there.append(remote_at(first.socket))
            chosen = first.state.settings
            older = stack.enter_context(speaking(lambda: there[0] if there else None, greeted=True))
            newer = stack.enter_context(speaking(lambda: there[0] if there else None))
            for client, new in ((older, False), (newer, True)):
                assert text_of(client.ask(call("job", {"id": "1"}, new=new))) == "went on with 1"
            there.clear()
        asked = [older.say(call("job", {"id": "2"})), newer.say(call("job", {"id": "2"}, new=True))]
        with serving_state(chosen, (with_slow(slow),)) as second:
            there.append(remote_at(second.socket))
            for client, message in zip((older, newer), asked, strict=True):
                answer = client.next()
                assert (answer["id"], text_of(answer)) == (message["id"], "went on with 2")
            assert older.ask(request("tools/list"))["result"]["tools"]
            older.end()
            newer.end()
        assert AuditLog(chosen.data / "audit.jsonl").verify().broken_at is None


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (call("find_symbol", FIND), "result"),
        (call("find_symbol", FIND, new=True), "result"),
        (request("initialize", GREETING), "error"),
        (request("tools/list", new=True), "error"),
    ],
)
def test_without_a_server_a_call_says_what_to_do(message: Json, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "RETURN_S", 0.02)
    monkeypatch.setattr(relay, "LOOK_S", 0.01)
    with speaking(lambda: None) as client:
        answer = client.ask(message)
        assert "codehub serve" in json.dumps(answer[told])
        assert told == "error" or answer["result"]["isError"]


class Scripted:
    """A server at a socket file that answers each request as it is told to, and keeps what was sent."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.path = path
        self.heads: list[str] = []
        self._answers = list(answers)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                received = b""
                while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                    received += connection.recv(65_536)
                self.heads.append(received.partition(b"\r\n\r\n")[0].decode("ascii"))
                connection.sendall(answer)

    def close(self) -> None:
        self._thread.join(BOUND_S)
        self._listener.close()


def answer(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def test_a_call_that_its_server_took_down_is_told_so_and_not_repeated(tmp_path: Path) -> None:
    with closing(Scripted(tmp_path / "s", b"", answer(b'{"jsonrpc":"2.0","id":7,"result":{}}'))) as server:
        with speaking(lambda: remote_at(server.path)) as client:
            told = client.ask({**call("run", {"recipe": "x"}, new=True), "id": 7})
            assert told["result"]["isError"]
            assert "may or may not have been done" in text_of(told)
            assert client.ask({**call("run", {"recipe": "x"}, new=True), "id": 7})["result"] == {}
        assert len(server.heads) == 2


def test_what_can_be_said_twice_is_said_again(tmp_path: Path) -> None:
    done = answer(b'{"jsonrpc":"2.0","id":7,"result":{}}')
    with closing(Scripted(tmp_path / "s", b"", done)) as server, speaking(lambda: remote_at(server.path)) as client:
        assert client.ask({**request("tools/list", new=True), "id": 7})["result"] == {}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer(b'{"jsonrpc":"2.0","id":7,\n"result":{}}'), {"result": {}}),
        (answer(b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"no"}}', "403 Forbidden"), "no"),
        (answer(b"<html>", "502 Bad Gateway", "text/html"), "502"),
        (answer(b"{", "200 OK"), "200"),
        (answer(b'{"error":"There is nothing here.","hint":""}', "404 Not Found"), "older version"),
        (answer(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n', kind="text/event-stream"), {"result": {}}),
        (answer(b': ping\n\ndata: \n\ndata: {"jsonrpc"\n\n', kind="text/event-stream"), "went away"),
        (b"HTTP/1.1 nonsense\r\n\r\n", "went away"),
    ],
)
def test_whatever_a_server_answers_becomes_one_line(tmp_path: Path, reply: bytes, expected: object) -> None:
    with closing(Scripted(tmp_path / "s", reply)) as server, speaking(lambda: remote_at(server.path)) as client:
        told = client.ask({**call("run", {"recipe": "x"}, new=True), "id": 7})
        if isinstance(expected, dict):
            assert told == {"jsonrpc": "2.0", "id": 7, **expected}
        else:
            assert str(expected) in json.dumps(told)
        assert client.heard.empty()


def test_headers_say_again_what_the_newer_era_wants_in_them(tmp_path: Path) -> None:
    done = answer(b'{"jsonrpc":"2.0","id":7,"result":{}}')
    with closing(Scripted(tmp_path / "s", done, done)) as server, speaking(lambda: remote_at(server.path)) as client:
        for name in ("find_symbol", "naïve\r\nx: y"):
            client.ask({**call(name, {}, new=True), "id": 7})
        first, second = server.heads
        assert f"mcp-protocol-version: {NEW}\r\n" in first
        assert "mcp-method: tools/call\r\n" in first
        assert "mcp-name: find_symbol" in first
        assert "mcp-name: =?base64?" in second
        assert "x: y" not in second


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.just("=?base64?YQ==?="))
def test_a_header_is_written_as_the_sdk_writes_it(value: str) -> None:
    if value:
        assert relay._header(value) == encode_header_value(value)


def test_lines_that_are_no_message_are_answered_and_the_next_is_taken(
    find: Callable[[], Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MOST_LINE", 4_096)
    with speaking(find) as client:
        for line, code in ((b"{", -32700), (b"[]", -32600), (b"7", -32600), (b"[" * 4_000, -32700)):
            client.write(line + b"\n")
            told = client.next()
            assert (told["id"], told["error"]["code"]) == (None, code)
        client.write(b"x" * 10_000 + b"\n\n  \n")
        assert client.next()["error"]["message"].startswith("The message is too long.")
        assert "Counter" in text_of(client.ask(call("find_symbol", FIND, new=True)))


def test_the_command_answers_and_ends_with_its_lines(hub: Served, slow: Slow) -> None:
    data = hub.state.settings.data
    told_of(hub, data)
    with spoken(data, cwd=data.parent / "tree" / "src") as lines:
        lines.greet()
        assert "Counter" in text_of(lines.ask(call("find_symbol", FIND)))
        lines.say(call("job", {"id": "left"}))
        assert slow.begun.acquire(timeout=BOUND_S)
        assert lines.process.stdin is not None
        lines.process.stdin.close()
        assert lines.process.wait(BOUND_S) == 0
        assert lines.lines.get(timeout=BOUND_S) == b""
    until(lambda: slow.left == ["left"])
    assert slow.calls[0].workspace == "w"  # in whose tree it was started


def test_a_killed_client_ends_its_calls(hub: Served, slow: Slow) -> None:
    data = hub.state.settings.data
    told_of(hub, data)
    with spoken(data, ["--workspace", "w"]) as lines:
        lines.say(call("job", {"id": "killed"}, new=True))
        assert slow.begun.acquire(timeout=BOUND_S)
        lines.process.kill()
        until(lambda: slow.left == ["killed"])
    assert slow.calls[0].workspace == "w"


def test_the_relay_loads_nothing_that_takes_time() -> None:
    code = "import sys, agents.command, agents.command.serving; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert not {"mcp", "mcp_types", "pydantic", "anyio", "asyncio", "numpy", "apsw", "starlette"} & set(
        done.stdout.split()
    )
