"""The doors of the server: names, origins, callers, limits, bodies, headers. Before any route."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from hub.auth.audit import AuditLog
from hub.auth.model import ALL_WORKSPACES, Grant
from hub.auth.model import Scope as Right
from hub.config import Settings
from hub.http_api.doors import Doors
from hub.http_api.guards import guarded
from hub.http_api.guards.addresses import canonical_origin, known_host, names_of, source_of, subscriber
from hub.http_api.guards.bodies import read_body
from hub.http_api.guards.kinds import Kind, kind_of
from hub.http_api.guards.records import LINES_PER_MINUTE, MOST_HELD
from hub.http_api.guards.refusals import Refused
from hub.http_api.guards.windows import MOST_CALLERS, Window
from hub.http_api.state import State
from tests.support.asgi import Reply, Sent, answered, ask, bearer, sent
from tests.support.server_state import EVERYTHING, Clock, mirror, state_in

READING = (Grant(ALL_WORKSPACES, frozenset({Right.READ})),)


class Hub:
    """A guarded application that says what it is told, and a key of it."""

    def __init__(self, state: State, clock: Clock) -> None:
        self.state = state
        self.clock = clock
        self.app: ASGIApp = guarded(mirror, state, clock)
        self.key = state.keys.create("Ada", EVERYTHING, None).text

    def get(self, path: str = "/api/v1/status", *headers: tuple[str, str], **more: object) -> Reply:
        return self.send(sent("GET", path, (*bearer(self.key), *headers), **more))

    def send(self, request: Sent) -> Reply:
        return ask(self.app, request)[0]

    def audited(self) -> list[tuple[str, str, str | int | float | None]]:
        return [
            (entry.action, entry.outcome, entry.detail.get("reason", entry.detail.get("status")))
            for entry in self.state.audit.entries()
        ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[State, Clock]]:
    """The slow part: stores on disk."""
    clock = Clock()
    with state_in(
        tmp_path_factory.mktemp("guards") / "data",
        clock,
        server_hosts=("hub.example", "Second.Example:8443"),
        server_origins=("https://chat.example", "http://tools.example:8080/"),
        server_proxies=("10.0.0.0/8", "unix"),
        server_body_kilobytes=64,
        server_requests_per_minute=50,
        server_asks_per_minute=5,
    ) as state:
        yield state, clock


@pytest.fixture
def hub(shared: tuple[State, Clock], tmp_path: Path) -> Hub:
    """Doors that nobody has come through yet, with a record of their own."""
    state, clock = shared
    state.doors, state.audit = Doors(clock), AuditLog(tmp_path / "audit.jsonl")
    return Hub(state, clock)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8642", "127.0.0.1:1", "[::1]:8642", "hub.example", "hub.example.", "second.example:443"],
)
def test_the_server_answers_to_its_names_at_any_port(hub: Hub, host: str) -> None:
    assert hub.get("/", ("host", host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "hub.example.evil.example", "xhub.example", "localhost.evil", "127.0.0.1.nip.io", "0.0.0.0"),
        *("[::]", "127.1", "2130706433", "hub.example:99999999", "hub.example@evil", "", " localhost", "localhost/x"),
    ],
)
def test_a_strangers_name_is_refused_on_every_route(hub: Hub, host: str) -> None:
    for path in ("/", "/api/v1/search?query=x", "/v1/models", "/healthz", "/login", "/static/a.js"):
        assert hub.get(path, ("host", host)).status == 421


def test_a_request_names_one_host(hub: Hub) -> None:
    assert hub.send(Sent("GET", "/", bearer(hub.key), head=False)).status == 400
    assert hub.get("/", ("host", "localhost"), ("host", "localhost")).status == 400


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:1", "http://localhost.evil", "chat.example", "https://"],
)
def test_a_page_of_a_stranger_may_not_call(hub: Hub, origin: str) -> None:
    headers = (*bearer(hub.key), ("host", "localhost:8642"), ("origin", origin))
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        reply = hub.send(sent(method, "/api/v1/search", headers))
        assert reply.status == 403
        assert not reply["access-control-allow-origin"]


def test_the_servers_own_pages_may_call(hub: Hub) -> None:
    own = (("host", "hub.example:8642"), ("origin", "http://hub.example:8642"))
    assert hub.get("/api/v1/search", *own).status == 200
    other_scheme = (("host", "hub.example:8642"), ("origin", "https://hub.example:8642"))
    assert hub.get("/api/v1/search", *other_scheme).status == 403
    by_a_form = (("origin", "null"), ("sec-fetch-site", "same-origin"))  # no referrer, so no origin either
    assert hub.get("/api/v1/search", *by_a_form).status == 200


def test_a_page_elsewhere_may_call_when_it_is_in_the_settings_and_is_told_its_own_name_only(hub: Hub) -> None:
    reply = hub.get("/api/v1/search", ("origin", "https://chat.example"))
    assert (reply.status, reply["access-control-allow-origin"], reply["vary"]) == (
        200,
        "https://chat.example",
        "Origin",
    )
    assert not reply["access-control-allow-credentials"]
    asked = sent(
        "OPTIONS",
        "/api/v1/ask",
        (("origin", "http://tools.example:8080"), ("access-control-request-method", "POST")),
    )
    preflight = hub.send(asked)
    assert preflight.status == 204
    assert preflight["access-control-allow-origin"] == "http://tools.example:8080"
    assert "authorization" in preflight["access-control-allow-headers"]


def test_what_an_application_says_of_origins_is_not_passed_on(hub: Hub) -> None:
    assert not hub.get()["access-control-allow-origin"]  # the mirror says *


@pytest.mark.parametrize(("site", "mode", "status"), [
    ("cross-site", "no-cors", 403),
    ("same-site", "cors", 403),
    ("cross-site", "navigate", 200),
    ("same-origin", "cors", 200),
    ("none", "navigate", 200),
])  # fmt: skip
def test_a_browser_says_by_itself_that_another_site_calls(hub: Hub, site: str, mode: str, status: int) -> None:
    assert hub.get("/", ("sec-fetch-site", site), ("sec-fetch-mode", mode)).status == status


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/x", "/nowhere"])
def test_every_answer_carries_the_headers_that_keep_pages_apart(hub: Hub, path: str) -> None:
    for reply in (hub.get(path), hub.send(sent("GET", path)), hub.get(path, ("host", "evil"))):
        assert reply["content-security-policy"].startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in reply["content-security-policy"]
        assert reply["x-content-type-options"] == "nosniff"
        assert reply["referrer-policy"] == "no-referrer"
        assert reply["cross-origin-opener-policy"] == reply["cross-origin-resource-policy"] == "same-origin"
        assert reply["cache-control"] == "no-store"
        assert not reply["server"]
        assert not reply["strict-transport-security"]
    over_tls = hub.get(path, scheme="https")
    assert "max-age=31536000" in over_tls["strict-transport-security"]


@pytest.mark.parametrize("path", ["/api/v1/search", "/v1/models", "/metrics", "/openapi.json", "/api/x", "/mcp"])
def test_who_shows_no_key_gets_nothing(hub: Hub, path: str) -> None:
    reply = hub.send(sent("GET", path, (("accept", "text/html"),)))
    assert reply.status == 401
    assert reply["www-authenticate"] == 'Bearer realm="codehub"'
    forms = {"/v1/models": {"error"}, "/mcp": {"jsonrpc", "id", "error"}}
    assert set(reply.json) == forms.get(path, {"error", "hint"})


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/login", "/static/app.css"])
def test_health_and_the_login_page_need_no_key(hub: Hub, path: str) -> None:
    assert hub.send(sent("GET", path)).json["principal"] is None
    assert hub.send(sent("POST", path)).status == 401


def test_a_page_without_a_session_leads_to_the_login_page(hub: Hub) -> None:
    reply = hub.send(sent("GET", "/w/leveldb?q=a%20b", (("accept", "text/html,*/*"),)))
    assert (reply.status, reply["location"]) == (303, "/login?next=%2Fw%2Fleveldb%3Fq%3Da%2520b")


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YTpi",
        "Bearer chub_0123456789_" + 43 * "a" + "000000",
        "Bearer {key}x",
        "Bearer {key} {key}",
        "{key}",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 3_000,
    ],
)
def test_a_key_that_is_none_is_nobodys(hub: Hub, shown: str) -> None:
    reply = hub.send(sent("GET", "/api/v1/search", (("authorization", shown.format(key=hub.key)),)))
    assert reply.status == 401
    assert hub.key not in reply.body.decode()


def test_two_keys_at_once_are_none(hub: Hub) -> None:
    assert hub.send(sent("GET", "/api/v1/x", (*bearer(hub.key), *bearer(hub.key)))).status == 401


def test_a_key_that_was_revoked_or_has_expired_opens_nothing_from_the_next_request_on(hub: Hub) -> None:
    made = hub.state.keys.create("Eve", READING, None)
    assert hub.send(sent("GET", "/api/v1/x", bearer(made.text))).status == 200
    hub.state.keys.revoke(made.record.key_id)
    assert hub.send(sent("GET", "/api/v1/x", bearer(made.text))).status == 401
    brief = hub.state.keys.create("Brief", READING, hub.clock.now + 10)
    assert hub.send(sent("GET", "/api/v1/x", bearer(brief.text))).status == 200
    hub.clock.now += 10
    assert hub.send(sent("GET", "/api/v1/x", bearer(brief.text))).status == 401


def test_the_same_user_needs_no_key_over_the_socket(hub: Hub) -> None:
    by_socket: dict[str, Any] = {"client": None, "peer_uid": os.getuid()}
    assert hub.send(sent("POST", "/api/v1/jobs", **by_socket)).json["principal"] == "local"
    assert hub.send(sent("GET", "/api/v1/x", client=None, peer_uid=os.getuid() + 1)).status == 401
    assert hub.send(sent("GET", "/api/v1/x", client=None)).status == 401
    assert hub.send(sent("GET", "/api/v1/x", bearer("wrong"), **by_socket)).status == 401


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-proto"])
def test_a_proxy_at_the_socket_is_not_the_same_user(hub: Hub, header: str) -> None:
    proxied = sent("GET", "/api/v1/x", ((header, "203.0.113.9"),), client=None, peer_uid=os.getuid())
    assert hub.send(proxied).status == 401


def test_where_the_keys_cannot_be_read_nobody_gets_in(hub: Hub, tmp_path: Path) -> None:
    with state_in(tmp_path) as state:
        lost = Hub(state, hub.clock)
        state.keys.close()
        reply = lost.get()
        assert (reply.status, reply["retry-after"]) == (503, "5")
        assert lost.send(sent("GET", "/healthz")).status == 200


def _session(hub: Hub, key_id: str) -> tuple[tuple[tuple[str, str], ...], str]:
    secret, session = hub.state.doors.open_session(key_id)
    return (("cookie", f"other=1; codehub_session={secret}"),), session.csrf


def test_a_session_is_as_good_as_its_key_and_ends_with_it(hub: Hub) -> None:
    made = hub.state.keys.create("Eve", READING, None)
    cookie, _ = _session(hub, made.record.key_id)
    assert hub.send(sent("GET", "/w/x", cookie)).json["principal"] == made.record.key_id
    hub.state.keys.revoke(made.record.key_id)
    assert hub.send(sent("GET", "/api/v1/x", cookie)).status == 401


def test_a_session_lasts_twelve_hours(hub: Hub) -> None:
    cookie, _ = _session(hub, "local")
    hub.clock.now += 12 * 3600 - 1
    assert hub.send(sent("GET", "/api/v1/x", cookie)).status == 200
    hub.clock.now += 1
    assert hub.send(sent("GET", "/api/v1/x", cookie)).status == 401


def test_a_cookie_without_tls_is_none_with_it(hub: Hub) -> None:
    cookie, _ = _session(hub, "local")
    assert hub.send(sent("GET", "/api/v1/x", cookie, scheme="https")).status == 401
    kept = ((cookie[0][0], cookie[0][1].replace("codehub_session", "__Host-codehub_session")),)
    assert hub.send(sent("GET", "/api/v1/x", kept, scheme="https")).status == 200


def test_what_a_page_changes_comes_with_the_pages_token(hub: Hub) -> None:
    cookie, token = _session(hub, "local")
    _, other = _session(hub, "local")

    def status(*headers: tuple[str, str], body: object = None, method: str = "POST") -> int:
        return hub.send(sent(method, "/api/v1/keys", (*cookie, *headers), body)).status

    assert status() == 403
    assert status(("x-csrf-token", other)) == 403
    assert status(("x-csrf-token", token), ("x-csrf-token", token)) == 403
    assert status(("x-csrf-token", token)) == 200
    assert status(method="DELETE") == 403
    form = ("content-type", "application/x-www-form-urlencoded")
    assert status(form, body=f"a=1&csrf_token={token}".encode()) == 200
    assert status(form, body=b"csrf_token=x") == 403
    assert status(("content-type", "text/plain"), body=f"csrf_token={token}".encode()) == 403
    assert status(method="GET") == 200


def test_a_key_goes_before_a_session_and_needs_no_token(hub: Hub) -> None:
    cookie, _ = _session(hub, "local")
    assert hub.send(sent("POST", "/api/v1/ask", (*cookie, *bearer(hub.key)))).json["principal"] != "local"


def test_a_burst_is_stopped_for_its_key_alone_and_for_as_long_as_is_said(hub: Hub) -> None:
    other = hub.state.keys.create("Bob", READING, None).text
    statuses = [hub.get().status for _ in range(60)]
    assert statuses == [200] * 50 + [429] * 10
    wait = int(hub.get()["retry-after"])
    assert hub.send(sent("GET", "/api/v1/x", bearer(other))).status == 200
    hub.clock.now += wait
    assert hub.get().status == 200


def test_questions_to_a_model_are_counted_apart(hub: Hub) -> None:
    asked = [hub.send(sent("POST", "/api/v1/ask", bearer(hub.key), {})).status for _ in range(6)]
    assert asked == [200] * 5 + [429]
    assert hub.send(sent("POST", "/v1/chat/completions", bearer(hub.key), {})).status == 429
    assert hub.get().status == 200


def test_the_same_user_is_not_counted(hub: Hub) -> None:
    request = sent("POST", "/api/v1/ask", client=None, peer_uid=os.getuid())
    assert {reply.status for reply in ask(hub.app, *[request] * 120)} == {200}


def test_guessing_keys_is_stopped_for_its_address_and_right_keys_still_pass(hub: Hub) -> None:
    guess = sent("GET", "/api/v1/x", bearer("chub_guess"), client=("203.0.113.7", 1))
    statuses = [hub.send(guess).status for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert hub.send(sent("GET", "/api/v1/x", bearer(hub.key), client=("203.0.113.7", 1))).status == 200
    assert hub.send(sent("GET", "/api/v1/x", bearer("chub_guess"), client=("203.0.113.8", 1))).status == 401
    logins = [hub.send(sent("POST", "/api/v1/sessions", client=("203.0.113.9", 1))).status for _ in range(12)]
    assert logins == [200] * 10 + [429] * 2


def test_only_a_proxy_of_the_settings_is_believed_who_calls(hub: Hub) -> None:
    forwarded = (("x-forwarded-for", "198.51.100.1, 203.0.113.5, 10.1.1.1"), ("x-forwarded-proto", "https"))
    told = hub.get("/api/v1/x", *forwarded, client=("10.0.0.2", 1)).json
    assert (told["client"], told["scheme"]) == ("203.0.113.5", "https")
    spoofed = hub.get("/api/v1/x", *forwarded, client=("192.0.2.1", 1)).json
    assert (spoofed["client"], spoofed["scheme"]) == ("192.0.2.1", "http")
    assert hub.get("/api/v1/x", ("x-forwarded-host", "evil.example")).status == 200


def test_many_requests_of_one_caller_at_once_leave_room_for_others(hub: Hub) -> None:
    inside = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def scenario() -> tuple[Reply, Reply]:
        async def slow(scope: object, receive: object, send: object) -> None:
            inside.release()
            await go_on.wait()
            await mirror(scope, receive, send)  # type: ignore[arg-type]

        app = guarded(slow, hub.state, hub.clock)
        health = [asyncio.create_task(answered(app, sent("GET", "/livez"))) for _ in range(50)]
        for _ in range(50):
            await inside.acquire()
        hub.clock.now += 61
        more = [asyncio.create_task(answered(app, sent("GET", "/livez"))) for _ in range(15)]
        for _ in range(14):
            await inside.acquire()
        go_on.set()
        await asyncio.gather(*health, *more)
        return health[0].result(), more[-1].result()

    first, last = asyncio.run(scenario())
    assert (first.status, last.status) == (200, 429)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(hub: Hub) -> None:
    told = sent("POST", "/api/v1/search", (*bearer(hub.key), ("content-length", "10000000")), head=False)
    named = Sent(told.method, told.path, (*told.headers, ("host", "localhost")), (b"x",), head=False)
    reply = hub.send(named)
    assert (reply.status, reply["connection"]) == (413, "close")


def test_a_body_without_a_length_is_counted_as_it_comes(hub: Hub) -> None:
    headers = (*bearer(hub.key), ("host", "localhost"), ("transfer-encoding", "chunked"))
    fits = Sent("POST", "/api/v1/search", headers, (b"x" * 1024,) * 64, head=False)
    assert len(hub.send(fits).json["body"]) == 65_536
    too_much = Sent("POST", "/nowhere", headers, (b"x" * 1024,) * 65, head=False)
    assert hub.send(too_much).status == 413


@pytest.mark.parametrize("lengths", [("-1",), ("1e3",), ("5", "6"), ("5", "5"), ("0x10",), ("\xb2",)])
def test_a_length_that_is_no_number_is_refused(hub: Hub, lengths: tuple[str, ...]) -> None:
    headers = (*bearer(hub.key), ("host", "localhost"), *(("content-length", length) for length in lengths))
    assert hub.send(Sent("POST", "/api/v1/search", headers, (b"12345",), head=False)).status == 400


def test_a_body_that_does_not_arrive_in_time_is_given_up() -> None:
    async def never() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    async def read() -> None:
        await read_body({b"content-length": [b"5"]}, never, 10, seconds=0)

    with pytest.raises(Refused) as caught:
        asyncio.run(read())
    assert caught.value.refusal.status == 408


def test_who_leaves_in_the_middle_of_a_body_is_let_go(hub: Hub) -> None:
    headers = (*bearer(hub.key), ("host", "localhost"), ("content-length", "5"))

    async def gone() -> dict[str, object]:
        return {"type": "http.disconnect"}

    messages: list[object] = []

    async def send(message: object) -> None:
        messages.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/ask", "raw_path": b"/api/v1/ask", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "scheme": "http", "client": ("127.0.0.1", 1), "state": {},
    }  # fmt: skip
    asyncio.run(hub.app(scope, gone, send))  # type: ignore[arg-type]
    assert messages == []
    assert hub.get().status == 200


def test_heads_have_a_size(hub: Hub) -> None:
    assert hub.get("/", *[("x-a", "1")] * 200).status == 431
    assert hub.get("/", ("x-a", "1" * 40_000)).status == 431
    assert hub.get("/?q=" + "1" * 20_000).status == 414


def test_sockets_for_anything_but_http_are_closed(hub: Hub) -> None:
    messages: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        messages.append(message)

    asyncio.run(hub.app({"type": "websocket", "path": "/"}, None, send))  # type: ignore[arg-type]
    assert messages == [{"type": "websocket.close", "code": 1008}]


def test_denials_and_changes_are_recorded_and_reading_is_not(hub: Hub) -> None:
    hub.get("/api/v1/search?query=my+secret+plan")
    hub.send(sent("POST", "/api/v1/search", bearer(hub.key), {"query": "my secret plan"}))
    assert hub.audited() == []
    hub.send(sent("DELETE", "/api/v1/keys/x", bearer(hub.key)))
    hub.get("/secret", ("host", "evil.example"))
    assert hub.audited() == [("GET page", "refused", "host"), ("DELETE change", "done", 200)]
    assert "secret" not in hub.state.audit.path.read_text()


def test_a_change_that_breaks_half_way_is_recorded(hub: Hub) -> None:
    async def broken(_scope: object, _receive: object, _send: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ask(guarded(broken, hub.state, hub.clock), sent("DELETE", "/api/v1/keys/x", bearer(hub.key)))
    assert hub.audited() == [("DELETE change", "failed", 0)]


def test_a_flood_of_denials_is_counted_into_one_line_a_minute(hub: Hub) -> None:
    def deny() -> None:
        hub.send(sent("GET", "/api/v1/x"))

    for _ in range(30):
        deny()
    assert len(hub.audited()) == 1
    hub.clock.now += 60
    deny()
    assert [entry.detail.get("times") for entry in hub.state.audit.entries()] == [30, None]


def test_a_flood_from_many_addresses_writes_a_bounded_number_of_lines(hub: Hub) -> None:
    async def told(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    app = guarded(told, hub.state, hub.clock)
    floods = [sent("GET", "/x", (("host", "evil"),), client=(f"10.{n // 250}.{n % 250}.1", 1)) for n in range(1_000)]
    assert {reply.status for reply in ask(app, *floods)} == {421}
    entries = hub.state.audit.entries(1_000)
    assert len(entries) <= LINES_PER_MINUTE + len(floods) // MOST_HELD
    assert sum(int(entry.detail.get("times", 1)) for entry in entries) > 900
    within = [sent("GET", "/x", (("host", "evil"),), client=(f"2001:db8::{n:x}", 1)) for n in range(1, 99)]
    hub.clock.now += 61
    ask(app, *within)
    assert len(hub.state.audit.entries(1_000)) == len(entries) + 1


def test_what_was_counted_is_written_when_the_server_ends(hub: Hub) -> None:
    async def stopped(scope: object, receive: object, send: object) -> None:
        await send({"type": "lifespan.shutdown.complete"})  # type: ignore[operator]

    app = guarded(stopped, hub.state, hub.clock)
    for _ in range(3):
        ask(app, sent("GET", "/api/v1/x"))

    async def told(_message: object) -> None:
        assert [entry.detail.get("times") for entry in hub.state.audit.entries()] == [2, None]

    asyncio.run(app({"type": "lifespan"}, None, told))  # type: ignore[arg-type]
    assert [entry.detail.get("times") for entry in hub.state.audit.entries()] == [2, None]


def test_no_change_is_made_while_none_can_be_recorded(hub: Hub) -> None:
    log = hub.state.audit.path
    hub.send(sent("GET", "/api/v1/x"))
    log.rename(log.with_suffix(".away"))
    log.mkdir()
    hub.send(sent("DELETE", "/api/v1/keys/x", bearer(hub.key)))
    assert hub.send(sent("DELETE", "/api/v1/keys/x", bearer(hub.key))).status == 503
    assert hub.get().status == 200
    log.rmdir()
    log.with_suffix(".away").rename(log)
    assert hub.send(sent("DELETE", "/api/v1/keys/x", bearer(hub.key))).status == 200
    assert hub.state.audit.verify().broken_at is None


@given(st.text(alphabet="abc.:-_[]@/ \n\x00é019", max_size=40))
def test_only_names_that_are_allowed_are_known_however_they_are_written(host: str) -> None:
    names = names_of(Settings(Path("/data"), server_hosts=("a.b",)))
    if known_host(names, host):
        assert host.lower().partition(":")[0].rstrip(".") in {"a.b", "localhost", "127.0.0.1"} or "[::1]" in host


@given(st.text(max_size=60))
def test_an_origin_is_read_without_raising_and_stays_itself(text: str) -> None:
    origin = canonical_origin(text)
    assert not origin or canonical_origin(origin) == origin


@given(st.lists(st.text(alphabet="0123456789.:, abcdefx", max_size=40), max_size=4), st.booleans())
def test_nobody_gets_an_address_of_a_proxy_or_of_garbage(hops: list[str], trusted: bool) -> None:
    names = names_of(Settings(Path("/data"), server_proxies=("10.0.0.1",)))
    client = "10.0.0.1" if trusted else "192.0.2.1"
    headers = {b"x-forwarded-for": [hop.encode() for hop in hops]} if hops else {}
    source = source_of(names, client, "http", headers)
    if not trusted:
        assert source.address == client
    assert subscriber(source.address)


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 5))
def test_no_minute_ever_holds_more_than_the_limit(pauses: list[float], most: int) -> None:
    clock = Clock()
    window = Window(clock)
    passed = []
    for pause in pauses:
        clock.now += pause
        wait = window.hit("a", most)
        if not wait:
            passed.append(clock.now)
        else:
            clock_now = clock.now
            clock.now = clock_now + wait + 1e-6
            assert window.hit("a", most) == 0
            passed.append(clock.now)
    assert all(later - earlier >= 60 - 1e-6 for earlier, later in zip(passed, passed[most:], strict=False))


def test_many_callers_fill_no_memory() -> None:
    window = Window(Clock())
    for number in range(MOST_CALLERS + 100):
        window.hit(str(number), 1)
    assert len(window._hits) == MOST_CALLERS


def test_a_household_is_counted_as_one() -> None:
    assert subscriber("2001:db8:1:2:3:4:5:6") == subscriber("2001:db8:1:2::1") != subscriber("2001:db8:1:3::1")
    assert subscriber("192.0.2.1") != subscriber("192.0.2.2")


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]), st.text(max_size=20))
def test_a_path_that_stands_in_no_list_is_closed(method: str, rest: str) -> None:
    assert kind_of(method, "/api/v2/" + rest) in {Kind.READ, Kind.CHANGE}
    assert kind_of(method, "/" + rest) in {Kind.PAGE, Kind.CHANGE, Kind.READ}
