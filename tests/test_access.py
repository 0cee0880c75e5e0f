"""How a browser gets in and out: a key or a one-time link becomes a session. Through the doors and the real routes."""

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from hub.auth.model import ALL_WORKSPACES, Grant
from hub.auth.model import Scope as Right
from hub.cli import main
from hub.http_api.access import new_login_link
from hub.http_api.app import application
from hub.http_api.doors import LINK_S, MOST_DELIVERIES, MOST_LINKS, MOST_SESSIONS, MOST_SESSIONS_OF_A_KEY, Doors
from hub.http_api.state import State
from tests.support.asgi import Reply, ask, bearer, sent
from tests.support.served import served
from tests.support.server_state import EVERYTHING, Clock, state_in

FORM = ("content-type", "application/x-www-form-urlencoded")
_ADDRESSES = itertools.count(1)


class Browser:
    """Keeps its cookies as a browser does, of one host."""

    def __init__(self, app: ASGIApp, scheme: str = "http") -> None:
        self.app = app
        self.scheme = scheme
        self.cookies: dict[str, str] = {}
        self.token = ""
        self.client = (f"203.0.113.{next(_ADDRESSES)}", 1)  # each is counted apart

    def __call__(self, method: str, path: str, *headers: tuple[str, str], body: object = None) -> Reply:
        shown = (
            [("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))] if self.cookies else []
        )
        if self.token:
            shown.append(("x-csrf-token", self.token))
        reply = ask(self.app, sent(method, path, (*shown, *headers), body, scheme=self.scheme, client=self.client))[0]
        for name, value in reply.headers:
            if name == "set-cookie":
                key, _, kept = value.partition(";")[0].partition("=")
                self.cookies.pop(key, None)
                if "max-age=0" not in value.lower():
                    self.cookies[key] = kept
        return reply

    def log_in(self, key: str) -> Reply:
        reply = self("POST", "/api/v1/sessions", body={"key": key})
        self.token = reply.json.get("csrf_token", "")
        return reply


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[State]:
    with state_in(tmp_path_factory.mktemp("access") / "data", clock) as state:
        yield state


@pytest.fixture(scope="module")
def app(state: State) -> ASGIApp:
    return application(state)


@pytest.fixture
def key(state: State) -> str:
    return state.keys.create("Ada", EVERYTHING, None).text


def test_a_key_becomes_a_session_that_ends_when_its_user_says_so(app: ASGIApp, key: str) -> None:
    browser = Browser(app)
    reply = browser.log_in(key)
    assert reply.status == 201
    assert set(reply.json) == {"owner", "csrf_token", "expires_in_s"}
    assert key not in str(reply)
    assert browser("GET", "/api/v1/sessions").json["csrf_token"] == browser.token
    assert browser("GET", "/api/v1/whoami").status == 200
    stolen = dict(browser.cookies)
    assert browser("DELETE", "/api/v1/sessions").status == 204
    assert browser.cookies == {}
    browser.cookies = stolen
    assert browser("GET", "/api/v1/whoami").status == 401


def test_the_cookie_is_for_this_host_alone_and_no_script_reads_it(app: ASGIApp, key: str) -> None:
    plain = Browser(app).log_in(key)["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= set(re.split("; ?", plain))
    assert "domain" not in plain
    over_tls = Browser(app, "https").log_in(key)["set-cookie"]
    assert over_tls.startswith("__Host-codehub_session=")
    assert "Secure" in over_tls


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"key": "wrong"}, "application/json"),
        ({"key": 5}, "application/json"),
        ({"key": ["x"]}, "application/json"),
        (["key"], "application/json"),
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[" * 4_000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"key=wrong&key=x", FORM[1]),
        (b"&" * 4_000, FORM[1]),
    ],
)
def test_what_is_no_key_is_answered_alike(app: ASGIApp, body: object, kind: str) -> None:
    raw = body if isinstance(body, bytes) else None
    headers = (("content-type", kind),) if raw is not None else ()
    reply = Browser(app)("POST", "/api/v1/sessions", *headers, body=body)
    assert (reply.status, reply.json["error"]) == (401, "That key is not known, or not any more.")
    assert not reply["set-cookie"]


def test_a_form_logs_in_too(app: ASGIApp, key: str) -> None:
    assert Browser(app)("POST", "/api/v1/sessions", FORM, body=f"key={key}".encode()).status == 201


def test_a_new_login_ends_the_session_before_it(app: ASGIApp, key: str) -> None:
    browser = Browser(app)
    browser.log_in(key)
    before = Browser(app)
    before.cookies = dict(browser.cookies)
    browser.log_in(key)
    assert browser("GET", "/api/v1/whoami").status == 200
    assert before("GET", "/api/v1/whoami").status == 401


def test_a_session_does_not_outlive_its_key(app: ASGIApp, state: State) -> None:
    made = state.keys.create("Eve", EVERYTHING, None)
    browser = Browser(app)
    browser.log_in(made.text)
    state.keys.revoke(made.record.key_id)
    assert browser("GET", "/api/v1/whoami").status == 401


def test_a_page_changes_nothing_without_its_token(app: ASGIApp, key: str) -> None:
    browser = Browser(app)
    browser.log_in(key)
    browser.token = ""
    assert browser("DELETE", "/api/v1/sessions").status == 403
    assert browser("GET", "/api/v1/sessions").status == 200


def test_a_link_lets_one_browser_in_once(app: ASGIApp, state: State) -> None:
    path = new_login_link(state)
    browser = Browser(app)
    reply = browser("GET", path)
    assert reply.status == 200
    assert 'content="0;url=/"' in reply.body.decode()  # not a redirect: along it a Strict cookie may not travel
    assert browser("GET", "/api/v1/sessions").json["owner"] == "this machine's user"
    second = Browser(app)
    second("GET", path)
    assert second.cookies == {}


def test_a_link_is_good_for_minutes(app: ASGIApp, state: State, clock: Clock) -> None:
    path = new_login_link(state)
    clock.now += LINK_S
    browser = Browser(app)
    browser("GET", path)
    assert browser.cookies == {}


def test_a_link_of_a_key_that_was_revoked_lets_nobody_in(app: ASGIApp, state: State) -> None:
    made = state.keys.create("Eve", EVERYTHING, None)
    path = ask(app, sent("POST", "/api/v1/login-links", bearer(made.text), {}))[0].json["path"]
    state.keys.revoke(made.record.key_id)
    browser = Browser(app)
    browser("GET", path)
    assert browser.cookies == {}


def test_links_are_made_for_the_same_user_and_for_administrators_alone(app: ASGIApp, state: State) -> None:
    local = sent("POST", "/api/v1/login-links", (), {}, client=None, peer_uid=os.getuid())
    assert ask(app, local)[0].status == 201
    grants = (Grant(ALL_WORKSPACES, frozenset(Right) - {Right.ADMIN}), Grant("w", frozenset({Right.ADMIN})))
    reader = state.keys.create("Bob", grants, None).text
    assert ask(app, sent("POST", "/api/v1/login-links", bearer(reader), {}))[0].status == 403
    assert ask(app, sent("POST", "/api/v1/login-links", (), {}))[0].status == 401


def test_nothing_of_a_key_or_a_session_stands_in_the_log(app: ASGIApp, state: State, key: str) -> None:
    browser = Browser(app)
    browser.log_in(key)
    browser.log_in(key + "x")
    browser("DELETE", "/api/v1/sessions")
    text = (state.settings.data / "audit.jsonl").read_text()
    secrets = [key, key.split("_")[2], browser.token]
    assert text.count("\n") >= 2
    made = [(entry.who, entry.detail["by"]) for entry in state.audit.entries() if entry.action == "session.open"]
    assert made[0] == (key.split("_")[1], "key")
    assert not [secret for secret in secrets if secret and secret in text]


def test_without_a_server_there_is_nothing_to_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["open", "--data", str(tmp_path)]) == 2
    assert "No server runs on this data folder." in capsys.readouterr().err


def test_open_logs_a_browser_in_to_the_server_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path) as hub:
        told = {"pid": os.getpid(), "socket": str(hub.socket), "url": hub.url, "version": ""}
        (tmp_path / "data" / "server.json").write_text(json.dumps(told))
        assert main(["open", "--json", "--data", str(tmp_path / "data")]) == 0
        url = json.loads(capsys.readouterr().out)["url"]
        assert url.startswith(hub.url)
        with httpx.Client() as browser:
            assert browser.get(f"{hub.url}/api/v1/sessions").status_code == 401
            assert browser.get(url).status_code == 200
            session = browser.get(f"{hub.url}/api/v1/sessions")
            assert (session.status_code, session.json()["owner"]) == (200, "this machine's user")
            changing = f"{hub.url}/api/v1/login-links"
            assert browser.post(changing, json={}).status_code == 403
            token = {"x-csrf-token": session.json()["csrf_token"]}
            assert browser.post(changing, json={}, headers=token).status_code == 201
        with httpx.Client() as stranger:
            assert stranger.get(url).headers.get("set-cookie") is None
            unknown = stranger.get(f"{hub.url}/livez", headers={"host": "evil.example"})
            assert (unknown.status_code, unknown.headers.get("server")) == (421, None)

            def large() -> Iterator[bytes]:
                for _ in range(100):
                    yield b"x" * 65_536

            key = {"authorization": f"Bearer {hub.key}"}
            assert stranger.post(f"{hub.url}/api/v1/search", content=large(), headers=key).status_code == 413
        with hub.local() as local:
            assert local.get("/api/v1/whoami").json()["owner"] == "this machine's user"
            proxied = local.get("/api/v1/whoami", headers={"x-forwarded-for": "203.0.113.1"})
            assert proxied.status_code == 401


def test_what_the_doors_remember_is_bounded() -> None:
    clock = Clock()
    doors = Doors(clock)
    first, _ = doors.open_session("a")
    for _ in range(MOST_SESSIONS_OF_A_KEY):
        latest, _ = doors.open_session("a")
    assert doors.session(first) is None
    assert doors.session(latest) is not None
    for number in range(MOST_SESSIONS + 10):
        doors.open_session(str(number))
    for _ in range(MOST_LINKS + 10):
        doors.new_link("a")
    assert len(doors._sessions) == MOST_SESSIONS
    assert len(doors._links) == MOST_LINKS
    assert doors.first_delivery(b"first")
    for number in range(MOST_DELIVERIES):
        doors.first_delivery(b"%d" % number)
    assert len(doors._deliveries) == MOST_DELIVERIES
    clock.now += 24 * 3600
    assert doors.first_delivery(b"1")
    assert len(doors._deliveries) == 1
