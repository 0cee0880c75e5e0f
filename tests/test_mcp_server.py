"""/mcp behind the doors: who gets in, whose a session is, what is told while a call runs, and how calls end."""

import json
import logging
import re
import shlex
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from agents import sandbox
from agents.mcp_server import extension, http, protocol
from agents.mcp_server.http import FOLDER_HEADER, WORKSPACE_HEADER
from agents.model import AGENT
from agents.tools import TOOLS
from hub.auth.model import ALL_WORKSPACES, Grant, Scope
from tests.support.mcp_clients import ACCEPT, GREETING, Json, OverHttp, call, messages, request, text_of
from tests.support.running import alive, made_in
from tests.support.served import BOUND_S, Served, served, serving_state, settings_for, until
from tests.support.slow_tool import Slow, with_slow

READING = Grant(ALL_WORKSPACES, frozenset({Scope.READ}))
FIND = call("find_symbol", {"name": "Counter"}, new=True)
ERAS = pytest.mark.parametrize("new", [False, True], ids=["older", "newer"])


@pytest.fixture(scope="module")
def waiting() -> Slow:
    return Slow()


@pytest.fixture
def slow(waiting: Slow) -> Slow:
    waiting.again()
    return waiting


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, waiting: Slow) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("mcp"), extend=(with_slow(waiting),)) as running:
        yield running


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def over(client: httpx.Client, *, new: bool) -> OverHttp:
    """Greeted where the era wants it."""
    made = OverHttp(client)
    if not new:
        made.greet()
    return made


def refused(reply: httpx.Response) -> Json:
    """The error of a refusal, which is one of JSON-RPC."""
    told = reply.json()
    assert (told["jsonrpc"], told["id"]) == ("2.0", None)
    error: Json = told["error"]
    assert error["message"]
    return error


def test_without_a_key_nothing_is_told(hub: Served) -> None:
    with hub.stranger() as stranger:
        for reply in (OverHttp(stranger).post(FIND), stranger.get("/mcp"), stranger.delete("/mcp")):
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"] == 'Bearer realm="codehub"'
            assert "codehub keys create" in refused(reply)["data"]["hint"]


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [("host", "evil.example", 421), ("origin", "https://evil.example", 403), ("authorization", "Bearer chub_x", 401)],
)
def test_pages_and_names_of_strangers_are_refused(hub: Served, header: str, value: str, status: int) -> None:
    client = OverHttp(hub.client)
    reply = hub.client.post("/mcp", json=FIND, headers={**client.headers(FIND), header: value})
    assert reply.status_code == status
    refused(reply)
    assert "Counter" in text_of(client.ask(FIND))


@pytest.mark.parametrize("scope", Scope)
@ERAS
def test_a_key_sees_and_calls_what_its_scope_lets_it(hub: Served, slow: Slow, scope: Scope, *, new: bool) -> None:
    slow.go.set()
    with hub.keyed(Grant(ALL_WORKSPACES, frozenset({scope}))) as one:
        client = over(one, new=new)
        listed = [tool["name"] for tool in client.ask(request("tools/list", new=new))["result"]["tools"]]
        assert listed == [tool.name for tool in TOOLS if tool.scope is scope]
        missing = client.ask(call("rm", {}, new=new))["result"]
        assert missing["isError"]
        for tool in TOOLS:
            answer = client.ask(call(tool.name, {}, new=new))["result"]
            assert (answer == missing) == (tool.name not in listed)


def test_a_session_is_of_its_key_alone(hub: Served) -> None:
    own = over(hub.client, new=False)
    with hub.keyed(READING) as other, hub.local() as local:
        for client in (OverHttp(other), OverHttp(local)):
            client.session = own.session
            answers = [client.post(request("tools/list")), client.client.delete("/mcp", headers=client.headers({}))]
            client.session = "0" * 32
            answers += [client.post(request("tools/list")), client.client.delete("/mcp", headers=client.headers({}))]
            assert [answer.status_code for answer in answers] == [404] * 4
            assert len({answer.text for answer in answers}) == 1
    assert own.ask(request("ping"))["result"] == {}


def test_a_revoked_key_is_refused_at_its_next_word(hub: Served) -> None:
    key = hub.state.keys.create("leaving", [READING])
    with httpx.Client(base_url=hub.url, headers={"authorization": f"Bearer {key.text}"}, timeout=BOUND_S) as leaving:
        client = over(leaving, new=False)
        assert "result" in client.ask(request("tools/list"))
        hub.state.keys.revoke(key.record.key_id)
        assert client.post(request("tools/list")).status_code == 401


def test_a_session_that_was_ended_is_not_there_any_more(hub: Served) -> None:
    client = over(hub.client, new=False)
    assert hub.client.delete("/mcp", headers=client.headers({})).status_code == 200
    assert client.post(request("tools/list")).status_code == 404
    assert over(hub.client, new=False).session != client.session


def test_no_key_takes_all_sessions_that_there_may_be(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_OPENED", 2)
    with hub.keyed(READING) as many, hub.keyed(READING) as other:
        first, _ = over(many, new=False), over(many, new=False)
        third = OverHttp(many).post(request("initialize", GREETING))
        assert third.status_code == 429
        assert third.headers["retry-after"]
        refused(third)
        assert first.ask(request("ping"))["result"] == {}
        assert "Counter" in text_of(OverHttp(many).ask(FIND))
        over(other, new=False)


def test_this_machines_user_comes_as_an_agent_and_not_as_himself(hub: Served, slow: Slow) -> None:
    slow.go.set()
    with hub.local() as local:
        assert text_of(OverHttp(local).ask(call("job", {"id": "1"}, new=True))) == "went on with 1"
    assert slow.calls[0].principal is AGENT


def test_a_browsers_session_needs_its_pages_token(hub: Served, slow: Slow) -> None:
    with hub.stranger() as browser:
        csrf = browser.post("/api/v1/sessions", json={"key": hub.key}).json()["csrf_token"]
        client = OverHttp(browser)
        assert client.post(FIND).status_code == 403
        reply = browser.post("/mcp", json=FIND, headers={**client.headers(FIND), "x-csrf-token": csrf})
        assert "Counter" in text_of(messages(reply)[-1])


def test_the_connection_says_which_workspace_is_meant(hub: Served, slow: Slow, tmp_path: Path) -> None:
    root = str(hub.state.workspaces.visible(AGENT)[0].root)
    slow.go.set()
    with hub.local() as local:
        told = {
            (WORKSPACE_HEADER, "w"): "w",
            (WORKSPACE_HEADER, "no%2Fsuch"): "no/such",
            (FOLDER_HEADER, root): "w",
            (FOLDER_HEADER, f"{root}/src%20deep"): "w",
            (FOLDER_HEADER, str(tmp_path)): "",
            (FOLDER_HEADER, "%00"): "",
        }
        message = call("job", {"id": "1"}, new=True)
        for header, value in told:
            reply = local.post("/mcp", json=message, headers={**OverHttp(local).headers(message), header: value})
            assert text_of(messages(reply)[-1]) == "went on with 1"
        assert [each.workspace for each in slow.calls] == list(told.values())
    slow.calls.clear()
    headers = {**OverHttp(hub.client).headers(message), FOLDER_HEADER: root}
    assert hub.client.post("/mcp", json=message, headers=headers).status_code == 200
    assert slow.calls[0].workspace == ""  # a folder of whoever comes from elsewhere is none of this machine


@ERAS
def test_while_a_call_runs_it_is_told_how_far_it_is(
    hub: Served, slow: Slow, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, *, new: bool
) -> None:
    monkeypatch.setattr(protocol, "PULSE_S", 0.02)
    monkeypatch.setattr(protocol, "HEARTBEAT_S", 0.05)
    client = over(hub.client, new=new)
    message = call("job", {"id": "1"}, new=new, progressToken="p")
    progress: list[Json] = []
    with hub.client.stream("POST", "/mcp", json=message, headers=client.headers(message)) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            if not line.startswith("data:") or not line[5:].strip():
                continue
            told = json.loads(line[5:])
            if "method" not in told:
                assert text_of(told) == "went on with 1"
                break
            assert told["method"] == "notifications/progress"
            progress.append(told["params"])
            if len(progress) == 3:
                slow.go.set()
    assert progress[0] == {"progressToken": "p", "progress": 1, "total": 2, "message": "waiting for a word"}
    assert {one["message"] for one in progress} == {"waiting for a word"}  # the later ones say that it goes on
    values = [one["progress"] for one in progress]
    assert values == sorted(set(values))


@ERAS
def test_a_client_that_drops_ends_its_call_and_no_other(
    hub: Served, slow: Slow, threads: ThreadPoolExecutor, *, new: bool
) -> None:
    client = over(hub.client, new=new)
    stays: Future[Json] = threads.submit(client.ask, call("job", {"id": "stays"}, new=new))
    assert slow.begun.acquire(timeout=BOUND_S)
    message = call("job", {"id": "drops"}, new=new)
    hasty = httpx.Client(base_url=hub.url, headers=hub.client.headers, timeout=0.05)
    with hasty, pytest.raises(httpx.TimeoutException):
        hasty.post("/mcp", json=message, headers=client.headers(message))
    until(lambda: slow.left == ["drops"])
    slow.go.set()
    assert text_of(stays.result(BOUND_S)) == "went on with stays"


def test_a_call_that_is_cancelled_ends(hub: Served, slow: Slow, threads: ThreadPoolExecutor) -> None:
    client = over(hub.client, new=False)
    message = call("job", {"id": "unwanted"})
    answer = threads.submit(client.post, message)
    assert slow.begun.acquire(timeout=BOUND_S)
    params = {"requestId": message["id"], "reason": "it takes too long"}
    told = client.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
    assert told.status_code == 202
    until(lambda: slow.left == ["unwanted"])
    answer.result(BOUND_S)


def test_no_key_holds_all_threads(
    hub: Served, slow: Slow, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MOST_CALLS_OF_ONE", 2)
    client = OverHttp(hub.client)
    two = [threads.submit(client.ask, call("job", {"id": str(each)}, new=True)) for each in range(2)]
    for _ in two:
        assert slow.begun.acquire(timeout=BOUND_S)
    third = client.ask(call("job", {"id": "3"}, new=True))["result"]
    assert third["isError"]
    assert "at once" in third["content"][0]["text"]
    with hub.keyed(READING) as other:
        assert "Counter" in text_of(OverHttp(other).ask(FIND))
    slow.go.set()
    assert {text_of(one.result(BOUND_S)) for one in two} == {"went on with 0", "went on with 1"}
    assert text_of(client.ask(call("job", {"id": "4"}, new=True))) == "went on with 4"


@pytest.mark.parametrize(
    "sent",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b'"text"',
        b"\xff\xfe",
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"no/such"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"job","arguments":[1]}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
    ],
)
@ERAS
def test_what_is_no_request_is_answered_with_an_error(hub: Served, sent: bytes, *, new: bool) -> None:
    client = over(hub.client, new=new)
    about = client.headers(call("job", {}, new=new))
    reply = hub.client.post("/mcp", content=sent, headers={**about, "content-type": "application/json"})
    assert reply.status_code < 500
    # The older era takes what has an id that is none for a word that wants no answer.
    assert reply.status_code >= 400 or (reply.status_code == 202 and not new) or "error" in messages(reply)[-1]
    assert "result" in client.ask(request("tools/list", new=new))


@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
def test_what_is_too_large_is_refused_and_the_next_call_works(hub: Served, size: int) -> None:
    client = OverHttp(hub.client)
    reply = client.post(call("find_symbol", {"name": "x" * size}, new=True))
    if reply.status_code == 200:
        told = messages(reply)[-1]["result"]
        assert told["isError"]
        assert "name has 1,000,000 characters" in told["content"][0]["text"]
    else:
        assert reply.status_code == 413
        refused(reply)
    assert "Counter" in text_of(client.ask(FIND))


def test_calls_are_recorded_by_tool_and_not_by_request(hub: Served) -> None:
    before = len(hub.state.audit.entries(10_000))
    client = over(hub.client, new=False)
    client.ask(request("tools/list"))
    client.ask(call("find_symbol", {"name": "Counter"}))
    until(lambda: len(hub.state.audit.entries(10_000)) > before)
    assert [entry.action for entry in hub.state.audit.entries(len(hub.state.audit.entries(10_000)) - before)] == [
        "tool.find_symbol"
    ]
    assert hub.state.audit.verify().broken_at is None


def test_the_examples_of_the_page_work(hub: Served) -> None:
    page = (Path(__file__).parent.parent / "docs" / "mcp.md").read_text(encoding="utf-8")
    examples = re.findall(r"```bash\n(curl .*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        words = shlex.split(example.replace("$HUB_URL", hub.url).replace("$HUB_KEY", hub.key))
        headers = dict(word.split(": ", 1) for flag, word in pairwise(words) if flag == "-H")
        (body,) = [word for flag, word in pairwise(words) if flag == "-d"]
        with hub.stranger() as stranger:
            reply = stranger.post(words[2], content=body, headers=headers)
        assert reply.status_code == 200
        assert "error" not in messages(reply)[-1]
        assert reply.headers.get("mcp-session-id") or "src/counter.h" in text_of(messages(reply)[-1])


def test_the_log_of_others_is_left_alone(hub: Served) -> None:
    over(hub.client, new=False)
    assert not any("rich" in type(handler).__module__ for handler in logging.getLogger().handlers)
    assert not logging.getLogger("mcp").propagate


def test_when_the_server_ends_calls_and_streams_are_told(tmp_path: Path) -> None:
    slow = Slow()
    with ThreadPoolExecutor(2) as threads, served(tmp_path, extend=(with_slow(slow),)) as hub:
        outer = httpx.Client(base_url=hub.url, headers=hub.client.headers, timeout=BOUND_S)
        with outer:
            client = over(outer, new=False)
            opened = threading.Event()

            def listen() -> list[str]:
                with outer.stream("GET", "/mcp", headers=client.headers({})) as stream:
                    assert stream.status_code == 200
                    opened.set()
                    return [line for line in stream.iter_lines() if line.startswith("data: {")]

            heard = threads.submit(listen)
            answer = threads.submit(client.ask, call("job", {"id": "1"}))
            assert opened.wait(BOUND_S)
            assert slow.begun.acquire(timeout=BOUND_S)
            hub.server.handle_exit(15, None)
            assert answer.result(BOUND_S)["result"]["content"][0]["text"].startswith("The server is stopping.")
            assert heard.result(BOUND_S) == []
            until(lambda: slow.left == ["1"])


def test_the_servers_own_tools_limit_what_costs(tmp_path: Path) -> None:
    with served(tmp_path, extend=(extension,), server_asks_per_minute=1) as hub:
        client = OverHttp(hub.client)
        first, second = (client.ask(call("ask", {"question": "What counts?"}, new=True))["result"] for _ in range(2))
        assert "1 times a minute" not in first["content"][0]["text"]
        assert "1 times a minute" in second["content"][0]["text"]
        assert hub.client.post("/mcp", json=request("initialize", GREETING), headers=ACCEPT).status_code == 200


@pytest.mark.skipif(not sandbox.look().available, reason="nothing can be run apart here")
def test_a_client_that_drops_in_a_build_leaves_nothing_running(tmp_path: Path) -> None:
    settings = settings_for(made_in(tmp_path).joinpath("data"), agents_mode="trusted")
    with serving_state(settings, (extension,)) as hub:
        client = over(hub.client, new=False)
        message = call("run", {"recipe": "forever"}, progressToken=1)
        with hub.client.stream("POST", "/mcp", json=message, headers=client.headers(message)) as reply:
            assert reply.status_code == 200
            until(lambda: bool(alive()))
        until(lambda: not alive())
        until(lambda: "forever  cancelled" in text_of(client.ask(call("job", {}))))
        lines = [entry for entry in hub.state.audit.entries() if entry.action == "tool.run"]
        assert [line.outcome for line in lines][-1] == "begun"
