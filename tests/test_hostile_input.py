"""A thousand requests that nobody means well with: no mistake of the server, nothing from outside of the trees, no end.

Each goes through the doors and the real routes with a key that may do everything but write, so that what is behind the
doors is what is tried.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import ASGIApp

from hub.auth.model import ALL_WORKSPACES, Grant
from hub.auth.model import Scope as Right
from hub.http_api import pages
from hub.http_api.app import application, create_app
from tests.support.asgi import Reply, Sent, ask, bearer, sent
from tests.support.server_state import state_in
from tests.support.trees import COUNTER, index_of, write_tree

REQUESTS = 1_000
OUTSIDE = "canary-outside-of-every-tree"
SEED = 7
TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "\x1b[31m",
    "\ud800",
    "\udfff\ud800",
    "\U0010ffff",
    "\ufeff",
    "\u202e\u2066abc",
    "\r\nx-evil: 1",
    "'",
    '"',
    "\\",
    "%",
    "%%",
    "%s%n",
    "{}",
    "{0}",
    "${x}",
    "$(id)",
    "`id`",
    "; id",
    "| id",
    "&& id",
    "--help",
    "-rf",
    "*",
    "**/*",
    "' OR 1=1 --",
    "'; DROP TABLE chunks; --",
    '" NEAR("a", 5)',
    "a AND OR NOT (",
    "rowid:1",
    "^",
    "a*",
    '"unclosed',
    "((((",
    "[a-",
    "(?P<x>",
    "(a+)+$",
    "(?:" * 200,
    "\\u{110000}",
    "NaN",
    "Infinity",
    "-0",
    "1e999",
    "0x10",
    "true",
    "null",
    "[]",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}",
    "{% raw %}",
    "a" * 5_000,
    "a " * 2_000,
    "::" * 1_000,
    "((" * 1_000,
    "é" * 3_000,
    "\u0301" * 2_000,
    "🙂" * 500,
    "a::b<" * 300,
    "operator" + "<" * 300,
    "~" * 300,
    "std::vector<" * 100 + "int" + ">" * 100,
)
PATHS = (
    "../../../../{outside}",
    "..%2f..%2f{outside}",
    "/etc/passwd",
    "{outside}",
    "/{outside}",
    "//{outside}",
    "src/../../{outside}",
    "src/./../../../{outside}",
    "..\\..\\{outside}",
    "....//....//{outside}",
    "%2e%2e/{outside}",
    "file://{outside}",
    "/proc/self/environ",
    "/proc/self/mem",
    "/dev/zero",
    "/dev/stdin",
    "CON",
    "link",
    "link/passwd",
    "src/\0../{outside}",
    "~root/.ssh/id_rsa",
    "src/main.cc/",
    "src//main.cc",
    ".git/config",
    "src/main.cc\n",
    "src\u2215main.cc",
    "\u2025/\u2025/x",
)
NUMBERS = (
    "0",
    "-1",
    "1",
    "999999999999999999999999",
    "-999999999999999999999",
    "1.5",
    "1e3",
    "NaN",
    "Infinity",
    "0x1",
    " 1",
    "٣",
    "",
    "1_000",
    "9223372036854775807",
    "9223372036854775808",
    "4294967296",
    "1" * 4_000,
)
HEADERS = (
    ("accept", "text/event-stream"),
    ("accept", "text/html"),
    ("accept", "*/*;q=nan"),
    ("accept", "\xff\xfe"),
    ("accept-language", "x" * 3_000),
    ("content-type", "application/json; charset=utf-7"),
    ("content-type", "multipart/form-data; boundary=" + "x" * 300),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "\xff"),
    ("content-type", "text/plain"),
    ("range", "bytes=0-0,-1,5-2"),
    ("range", "bytes=" + "0-," * 500),
    ("if-none-match", "*"),
    ("if-modified-since", "\xff"),
    ("x-request-id", "a\tb" * 200),
    ("x-request-id", "\xff" * 50),
    ("x-forwarded-for", "1.2.3.4, \xff"),
    ("x-forwarded-host", "evil"),
    ("x-http-method-override", "DELETE"),
    ("x-original-url", "/api/v1/keys"),
    ("cookie", "codehub_session=" + "x" * 2_000),
    ("cookie", "=;=;;;a;codehub_session=\xff"),
    ("expect", "100-continue"),
    ("te", "trailers"),
    ("upgrade", "websocket"),
    ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-ff"),
    ("last-event-id", "-1"),
    ("x-csrf-token", "\xff"),
)
BODIES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"5",
    b"{}",
    b'{"a": 1}',
    b"\xff\xfe\x00",
    b"[" * 50_000,
    b'{"a":' * 20_000,
    b"1" * 100_000,
    b'{"query": "a", "query": "b"}',
    b'{"query": NaN}',
    b'{"query": 1e999}',
    b'{"limit": 1' + b"0" * 5_000 + b"}",
    b"\xef\xbb\xbf{}",
    b'{"\\ud800": "\\udfff"}',
    b'{"__proto__": {"x": 1}, "constructor": 1}',
    b"a=1&b=2",
    b"%" * 1_000,
    b"\0" * 1_000,
    b"x" * 70_000,
)


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    parameters: tuple[tuple[str, str], ...]  # name and kind
    fields: tuple[str, ...]  # of its body


class Enemy:
    """Makes requests, the same ones each time, of everything that a client may choose."""

    def __init__(self, routes: tuple[Route, ...], key: str, outside: Path) -> None:
        self._chance = random.Random(SEED)
        self._routes = routes
        self._key = key
        self._outside = str(outside)

    def requests(self) -> Iterator[Sent]:
        for _ in range(REQUESTS):
            route = self._chance.choice(self._routes)
            yield self._against(route)

    def _text(self) -> str:
        choose = self._chance
        kind = choose.random()
        if kind < 0.3:
            return choose.choice(PATHS).replace("{outside}", self._outside)
        if kind < 0.8:
            return choose.choice(TEXTS)
        return "".join(chr(choose.choice((choose.randrange(0x80), choose.randrange(0x110000)))) for _ in range(20))

    def _value(self, kind: str) -> str:
        if kind in {"integer", "number"} or self._chance.random() < 0.1:
            return self._chance.choice(NUMBERS)
        return self._text()

    def _json(self, depth: int = 0) -> Any:
        kind = self._chance.randrange(8)
        if kind == 0 and depth < 3:
            return {self._text(): self._json(depth + 1) for _ in range(3)}
        if kind == 1 and depth < 3:
            return [self._json(depth + 1) for _ in range(3)]
        if kind == 2:
            return self._chance.choice((None, True, False, 0, -1, 1e308, 10**30, 5.5))
        return self._text()

    def _against(self, route: Route) -> Sent:
        choose = self._chance
        path = route.path
        while "{" in path:
            before, _, rest = path.partition("{")
            path = before + quote(self._text()[:200], safe="", errors="replace") + rest.partition("}")[2]
        pairs = [(name, self._value(kind)) for name, kind in route.parameters if choose.random() < 0.8]
        if choose.random() < 0.1:
            pairs += [*pairs, (self._text()[:50], self._text()[:50])]
        query = "&".join(f"{quote(name, errors='replace')}={quote(value, errors='replace')}" for name, value in pairs)
        if choose.random() < 0.05:
            query = choose.choice(("&" * 2_000, "=", "%", "%zz=%ff", "a=%00", "a" * 10_000, "\udc80"))
        method = route.method if choose.random() < 0.95 else choose.choice(("PUT", "PATCH", "OPTIONS", "HEAD", "TRACE"))
        headers = [*bearer(self._key), *(choose.choice(HEADERS) for _ in range(choose.randrange(3)))]
        if choose.random() < 0.03:
            headers[0] = ("authorization", choose.choice(("Bearer \xff", "Basic =", "Bearer", "Bearer " + "x" * 9_000)))
        return Sent(method, f"{path}?{query}" if query else path, tuple(headers), self._body(route))

    def _body(self, route: Route) -> tuple[bytes, ...] | None:
        if route.method == "GET":
            return None
        if self._chance.random() < 0.3:
            return (self._chance.choice(BODIES),)
        body = {name: self._json() for name in route.fields if self._chance.random() < 0.8}
        return (json.dumps(body).encode(),)


@dataclass
class Hub:
    app: ASGIApp
    routes: tuple[Route, ...]
    key: str
    outside: Path
    data: Path


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hostile")
    outside = folder / "outside.txt"
    outside.write_text(OUTSIDE)
    tree = write_tree(folder / "tree", dict(COUNTER))
    (tree / "link").symlink_to(folder)
    index_of(tree, folder / "data")
    (tree / "src" / "main.cc").unlink()  # indexed, and another file's name since
    (tree / "src" / "main.cc").symlink_to(outside)
    with state_in(
        folder / "data",
        server_requests_per_minute=100_000,
        server_asks_per_minute=100_000,
        server_body_kilobytes=64,
    ) as state:
        document = create_app(state).openapi()
        grants = (Grant(ALL_WORKSPACES, frozenset(Right) - {Right.ADMIN, Right.INGEST}),)
        key = state.keys.create("enemy", grants).text
        yield Hub(application(state), tuple(routes_of(document)), key, outside, folder / "data")


def routes_of(document: dict[str, Any]) -> Iterator[Route]:
    parts = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            parameters = tuple(
                (entry["name"], str(entry.get("schema", {}).get("type", "string")))
                for entry in described.get("parameters", ())
                if entry["in"] == "query"
            )
            schema = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            schema = parts.get(schema.get("$ref", "").rpartition("/")[2], schema)
            yield Route(method.upper(), path, parameters, tuple(schema.get("properties", ())))
    for route in pages.router.routes:
        names = ("q", "name", "path", "first_line", "last_line", "limit", "kind", "workspace", "once", "next", "line")
        yield Route("GET", str(getattr(route, "path", "/")), tuple((name, "string") for name in names), ())


def test_a_thousand_hostile_requests_are_answered_each_with_its_status(hub: Hub) -> None:
    statuses: dict[int, int] = {}
    requests = tuple(Enemy(hub.routes, hub.key, hub.outside).requests())
    for request, reply in zip(requests, ask(hub.app, *requests), strict=True):
        assert 200 <= reply.status < 500, (request, reply.status, reply.body[:500])
        assert OUTSIDE not in text_of(reply), request
        assert "\r" not in text_of(reply).partition("\n\n")[0]
        if reply.status >= 400 and not reply["content-type"].startswith("text/html") and reply.body:
            assert "error" in reply.json, request
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
    # What is hostile must reach every depth: the doors, the parameters, and what is looked up.
    assert sum(statuses.values()) == REQUESTS
    assert {200, 401, 404, 405, 413, 422} <= set(statuses)
    assert statuses[200] > 100
    found = ask(hub.app, sent("GET", "/api/v1/symbol?name=Counter", bearer(hub.key)))[0]
    assert found.json["symbols"]


@pytest.mark.parametrize("path", PATHS)
def test_no_way_of_writing_a_path_leads_out_of_a_tree(hub: Hub, path: str) -> None:
    written = quote(path.replace("{outside}", str(hub.outside)), errors="replace")
    for address in (f"/api/v1/source?path={written}", f"/w/w/file?path={written}", f"/w/w/snippet?path={written}"):
        reply = ask(hub.app, sent("GET", address, bearer(hub.key)))[0]
        assert reply.status < 500
        assert not any(secret in text_of(reply) for secret in (OUTSIDE, "root:x:", "PATH="))
    for address in (f"/static/{written}", f"/static/0/{written}", f"/{written}"):
        reply = ask(hub.app, sent("GET", address, bearer(hub.key)))[0]
        assert reply.status in {303, 404, 405}, address
        assert OUTSIDE not in text_of(reply)


def test_a_file_that_has_become_a_link_out_of_its_tree_is_shown_as_it_was_indexed(hub: Hub) -> None:
    reply = ask(hub.app, sent("GET", "/api/v1/source?path=src/main.cc", bearer(hub.key)))[0]
    assert OUTSIDE not in text_of(reply)


def test_the_server_is_alive_and_its_record_whole_after_all_of_it(hub: Hub) -> None:
    few = Enemy(hub.routes, hub.key, hub.outside)
    ask(hub.app, *(replace(request, headers=()) for request in islice(few.requests(), 100)))
    assert ask(hub.app, sent("GET", "/readyz"))[0].status == 200
    with state_in(hub.data) as state:
        assert state.audit.verify().broken_at is None


def test_a_password_in_the_address_of_an_engine_stands_in_no_answer(hub: Hub) -> None:
    password = "pass" + "-of-an-engine"
    with state_in(hub.data, backend="openai", openai_url=f"http://user:{password}@127.0.0.1:9") as state:
        app = application(state)
        shown = bearer(state.keys.create("reader", (Grant(ALL_WORKSPACES, frozenset({Right.READ})),)).text)
        question = {"question": "Why is the counter increased?"}
        said = {"model": "w", "messages": [{"role": "user", "content": question["question"]}]}
        for request in (
            sent("POST", "/api/v1/ask", shown, question),
            sent("POST", "/api/v1/ask", (*shown, ("accept", "text/event-stream")), question),
            sent("POST", "/v1/chat/completions", shown, said),
            sent("GET", "/api/v1/workspaces/w", shown),
            sent("GET", "/metrics", shown),
        ):
            reply = ask(app, request)[0]
            assert reply.status, request
            assert password not in text_of(reply), request


def text_of(reply: Reply) -> str:
    head = "\n".join(f"{name}: {value}" for name, value in reply.headers)
    return f"{head}\n\n{reply.body.decode('utf-8', 'replace')}"
