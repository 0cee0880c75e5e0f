"""The running server as commands use it: shapes read back without a loss, and a server that fails them."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import config
from hub.calibrating.card import Card
from hub.errors import ServerError
from hub.evaluation import Evaluation
from hub.model import Answer, Confidence, Decision, Found, Moved, Part, Piece, Prefill, Reading, Refusal
from hub.remote import find
from hub.remote.client import FILE, Remote
from hub.remote.reading import answer_from, event_from, report_from, search_from, value_from
from hub.service import SearchResult
from hub.shapes import answer_shape, event_shape, report_shape, search_shape
from indexer.model import Confirmation, IndexReport
from tests.support.command import ROOT

BOUND_S = 20.0
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def over_the_wire(shape: Any) -> Any:
    return json.loads(json.dumps(shape))


def same(one: Any, other: Any) -> bool:
    """Whether two shapes are the same text, in which even what is no number equals itself."""
    return json.dumps(one) == json.dumps(other)


# Shapes read back


@FEW
@given(st.from_type(Answer), st.none() | st.from_type(Refusal), st.lists(st.from_type(Decision), max_size=2))
def test_the_shape_of_an_answer_that_was_read_back_is_the_same(
    answer: Answer, refusal: Refusal | None, decisions: list[Decision]
) -> None:
    shape = over_the_wire(answer_shape(replace(answer, refusal=refusal, decisions=tuple(decisions))))
    assert same(answer_shape(answer_from(shape)), shape)


@FEW
@given(st.from_type(SearchResult))
def test_the_shape_of_a_search_that_was_read_back_is_the_same(result: SearchResult) -> None:
    shape = over_the_wire(search_shape(result))
    assert same(search_shape(search_from(shape)), shape)


@FEW
@given(st.one_of([st.from_type(kind) for kind in (Found, Reading, Prefill, Piece, Moved, Part)]))
def test_the_shape_of_an_event_that_was_read_back_is_the_same(
    event: Found | Reading | Prefill | Piece | Moved | Part,
) -> None:
    name, shape = event_shape(event)
    again = event_from(name, over_the_wire(shape))
    assert type(again) is type(event)
    assert again is not None
    assert event_shape(again)[0] == name
    assert same(event_shape(again)[1], shape)


def test_an_event_of_a_later_version_is_passed_over() -> None:
    assert event_from("nothing of today", {}) is None


@FEW
@given(st.from_type(IndexReport), st.none() | st.from_type(Confirmation))
def test_the_shape_of_a_report_that_was_read_back_is_the_same(
    report: IndexReport, confirmation: Confirmation | None
) -> None:
    shape = over_the_wire(report_shape(replace(report, confirmation=confirmation)))
    assert same(report_shape(report_from(shape)), shape)


@pytest.mark.parametrize("kind", [Card, Evaluation, Confidence])
def test_plain_values_are_read_back_as_they_were(kind: type) -> None:
    @settings(FEW, max_examples=6)
    @given(st.from_type(kind))
    def law(value: Any) -> None:
        again = value_from(kind, over_the_wire(asdict(value)))
        assert type(again) is kind
        assert same(asdict(again), asdict(value))
        assert repr(again) == repr(value)  # with the kinds of what is inside

    law()


# Whose answers are the same


@pytest.mark.parametrize("row", config.SETTINGS, ids=lambda row: row.field)
def test_settings_that_decide_answers_make_another_fingerprint_and_others_do_not(row: Any) -> None:
    plain = config.Settings(Path("data"))
    value = getattr(plain, row.field)
    other: object = not value if isinstance(value, bool) else (*value, "x") if isinstance(value, tuple) else f"{value}x"
    changed = replace(plain, **{row.field: other})
    apart = (
        "watch_",
        "server_",
        "webhooks_",
        "index_",
        "compiler_",
        "history_",
        "secrets_",
        "calibration_",
        "agents_",
        "knowledge_",
    )
    same_answers = row.field.startswith(apart) or row.field in {"data", "use_server", "ask_policy"}
    assert (config.fingerprint(changed) == config.fingerprint(plain)) is same_answers


# A server that is there, and one that is not


@contextmanager
def answering(folder: Path, *answers: bytes) -> Iterator[Remote]:
    """A socket that answers each connection with bytes and closes it; it is found as a server is."""
    path = folder / "server.sock"
    told = {"pid": 4711, "socket": str(path), "url": "http://127.0.0.1:1", "version": "1", "started_at": 0.0}
    (folder / FILE).write_text(json.dumps(told))
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(BOUND_S)

        def serve() -> None:
            for answer in (b"", *answers):  # the first one only looks whether anybody is there
                connection, _ = listener.accept()
                with closing(connection):
                    connection.settimeout(BOUND_S)
                    if answer:
                        read_request(connection)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        remote = find(folder)
        assert remote is not None
        yield remote
        thread.join(BOUND_S)


def read_request(connection: socket.socket) -> None:
    """All of it: what is closed with something unread breaks off the answer."""
    with connection.makefile("rb") as sent:
        lengths = [
            int(line.split(b":")[1]) for line in iter(sent.readline, b"\r\n") if line.lower().startswith(b"content-l")
        ]
        sent.read(sum(lengths))


def http(status: int, body: bytes, kind: str = "application/json", length: int | None = None) -> bytes:
    told = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {told}\r\n\r\n".encode() + body


def test_a_server_answers_over_its_socket(tmp_path: Path) -> None:
    with answering(tmp_path, http(200, b'{"jobs": []}'), http(202, b'{"id": "1"}')) as remote:
        assert (remote.pid, remote.version, remote.settings) == (4711, "1", "")
        assert remote.get("/api/v1/jobs", {"state": None, "limit": 3}) == {"jobs": []}
        assert remote.post("/api/v1/jobs", {"kind": "index"}) == {"id": "1"}


def test_what_a_server_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    refused = json.dumps({"error": "There is no workspace 'x'.", "hint": "Ask."}).encode()
    with answering(tmp_path, http(404, refused)) as remote, pytest.raises(ServerError) as caught:
        remote.get("/api/v1/workspaces/x")
    assert (caught.value.message, caught.value.hint) == ("There is no workspace 'x'.", "Ask.")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff"])
def test_an_answer_that_is_no_object_is_told(tmp_path: Path, body: bytes) -> None:
    with answering(tmp_path, http(500, body)) as remote, pytest.raises(ServerError):
        remote.get("/")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 2",
        b"nonsense\r\n\r\n",
        http(200, b'{"a": 1', length=500),
    ],
)
def test_a_server_that_goes_away_is_one_sentence(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path, answer) as remote, pytest.raises(ServerError) as caught:
        remote.get("/")
    assert "4711" in caught.value.message
    assert "--no-server" in caught.value.hint


def test_events_are_read_as_they_come(tmp_path: Path) -> None:
    body = (
        b': working\n\nevent: piece\ndata: {"text":"a: b"}\n\n: working\n\nevent: answer\ndata: {"answer":"a: b"}\n\n'
    )
    with answering(tmp_path, http(200, body, "text/event-stream")) as remote:
        assert list(remote.stream("/api/v1/ask", {})) == [("piece", {"text": "a: b"}), ("answer", {"answer": "a: b"})]


def test_an_error_among_the_events_is_raised(tmp_path: Path) -> None:
    body = b'event: piece\ndata: {"text":"a"}\n\nevent: error\ndata: {"error":"No model.","hint":"Start one."}\n\n'
    with answering(tmp_path, http(200, body, "text/event-stream")) as remote:
        events = remote.stream("/api/v1/ask", {})
        assert next(events) == ("piece", {"text": "a"})
        with pytest.raises(ServerError, match="No model"):
            next(events)


def test_a_stream_that_breaks_off_in_the_middle_of_a_chunk_is_told(tmp_path: Path) -> None:
    broken = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b'21\r\nevent: piece\ndata: {"text":"a"}\n\n\r\n30\r\nevent: piece\nda'
    )
    with answering(tmp_path, broken) as remote:
        events = remote.stream("/api/v1/ask", {})
        assert next(events) == ("piece", {"text": "a"})
        # Either way: what was cut off is no event, and the command says itself that the last one never came.
        with suppress(ServerError):
            assert list(events) == []


@given(st.binary(max_size=60) | st.dictionaries(st.sampled_from(["pid", "socket", "url", "version"]), st.integers()))
@settings(max_examples=40, deadline=None)
def test_a_file_that_names_no_server_names_none(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | dict[str, int]
) -> None:
    folder = tmp_path_factory.mktemp("data")
    assert find(folder) is None
    (folder / FILE).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert find(folder) is None


def test_a_server_that_was_killed_is_none(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(tmp_path / "server.sock"))
    told = {"pid": 4711, "socket": str(tmp_path / "server.sock"), "url": "", "version": "1", "started_at": 0.0}
    (tmp_path / FILE).write_text(json.dumps(told))
    assert find(tmp_path) is None


def test_a_socket_of_another_user_is_not_spoken_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(tmp_path) as remote:
        assert remote.pid == 4711
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
            listener.bind(str(tmp_path / "other.sock"))
            listener.listen()
            told = json.loads((tmp_path / FILE).read_text()) | {"socket": str(tmp_path / "other.sock")}
            (tmp_path / FILE).write_text(json.dumps(told))
            assert find(tmp_path) is not None
            own = os.getuid()
            monkeypatch.setattr("os.getuid", lambda: own + 1)
            assert find(tmp_path) is None


def test_looking_for_a_server_needs_no_part_of_the_index() -> None:
    code = "import sys, hub.remote; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert not {"numpy", "apsw", "tree_sitter", "indexer.index", "httpx", "hub.service"} & set(done.stdout.split())
