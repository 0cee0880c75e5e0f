"""Who gets in where: every route of the server against every single scope. A route that stands in no row is a failure.

Each request is one that succeeds for whoever may make it, so what is not let in shows as a refusal.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from hub.auth.model import ALL_WORKSPACES, Grant, Principal
from hub.auth.model import Scope as Right
from hub.http_api import pages
from hub.http_api.app import application, create_app
from hub.http_api.state import State
from hub.jobs import JobKind
from hub.knowledge import Draft, EntryKind
from tests.support.asgi import ask, bearer, sent
from tests.support.server_state import EVERYTHING, state_in
from tests.support.trees import COUNTER, index_of, write_tree

ANY = frozenset(Right)
NOBODY: frozenset[Right] = frozenset()
READ = frozenset({Right.READ})
INGEST = frozenset({Right.INGEST})
KNOWLEDGE = frozenset({Right.KNOWLEDGE})
APPROVE = frozenset({Right.APPROVE})
ADMIN = frozenset({Right.ADMIN})
DIFF = "--- a/src/counter.cc\n+++ b/src/counter.cc\n@@ -6,1 +6,1 @@\n-  value_ += by;\n+  value_ -= by;\n"


@dataclass(frozen=True, slots=True)
class Row:
    """A request, and which scope alone lets it in: granted for its workspace, or for all of them."""

    here: frozenset[Right]
    query: str = ""
    body: Any = None
    everywhere: frozenset[Right] = frozenset()
    places: dict[str, str] = field(default_factory=dict)  # what stands for the parts of the path


TABLE = {
    "GET /api/v1/search": Row(READ, "query=count"),
    "POST /api/v1/search": Row(READ, body={"query": "count"}),
    "GET /api/v1/symbol": Row(READ, "name=Counter"),
    "GET /api/v1/references": Row(READ, "name=Counter"),
    "GET /api/v1/callers": Row(READ, "name=Increment"),
    "GET /api/v1/callees": Row(READ, "name=main"),
    "GET /api/v1/hierarchy": Row(READ, "name=Counter"),
    "GET /api/v1/overrides": Row(READ, "name=Increment"),
    "GET /api/v1/includes": Row(READ, "file=main.cc"),
    "GET /api/v1/included-by": Row(READ, "file=counter.h"),
    "GET /api/v1/history": Row(READ, "name=Counter"),
    "GET /api/v1/why": Row(READ, "asked=Counter"),
    "GET /api/v1/changes": Row(READ),
    "GET /api/v1/impact": Row(READ, "name=Increment"),
    "POST /api/v1/impact": Row(READ, body={"diff": DIFF}),
    "GET /api/v1/source": Row(READ, "path=src/main.cc"),
    "GET /api/v1/export": Row(READ),
    "POST /api/v1/ask": Row(READ, body={"question": "Where is Counter defined?"}),
    "POST /v1/chat/completions": Row(
        READ, body={"model": "w", "messages": [{"role": "user", "content": "Where is Counter defined?"}]}
    ),
    "GET /v1/models": Row(ANY),
    "GET /v1/models/{model}": Row(READ, places={"model": "w"}),
    "GET /api/v1/whoami": Row(ANY),
    "GET /api/v1/workspaces": Row(ANY),
    "GET /api/v1/workspaces/{workspace}": Row(READ, places={"workspace": "w"}),
    "GET /api/v1/plan": Row(ANY, "model=qwen3-coder:30b&context=32K&gpu=none&ram=32GB"),
    "GET /api/v1/jobs": Row(ANY),
    "POST /api/v1/jobs": Row(INGEST, body={"kind": "index", "workspace": "w"}),
    "GET /api/v1/jobs/{job_id}": Row(READ | INGEST),
    "GET /api/v1/jobs/{job_id}/events": Row(READ | INGEST),
    "POST /api/v1/jobs/{job_id}/cancel": Row(INGEST),
    "POST /api/v1/jobs/{job_id}/resume": Row(INGEST),
    "POST /api/v1/events/git": Row(INGEST, body={"workspace": "w"}),
    "POST /api/v1/webhooks/{place}": Row(NOBODY, body={}, places={"place": "github"}),  # signatures, not keys
    "GET /api/v1/sessions": Row(NOBODY),  # a key is no session
    "POST /api/v1/sessions": Row(NOBODY, body={"key": "none"}),  # the key stands in the body
    "DELETE /api/v1/sessions": Row(ANY),
    "POST /api/v1/login-links": Row(NOBODY, body={}, everywhere=ADMIN),
    "GET /api/v1/keys": Row(NOBODY, everywhere=ADMIN),
    "POST /api/v1/keys": Row(NOBODY, body={"owner": "x", "grants": [{"scopes": ["read"]}]}, everywhere=ADMIN),
    "POST /api/v1/keys/{key_id}/rotate": Row(NOBODY, body={}, everywhere=ADMIN),
    "DELETE /api/v1/keys/{key_id}": Row(NOBODY, everywhere=ADMIN),
    "GET /api/v1/audit": Row(NOBODY, everywhere=ADMIN),
    "GET /api/v1/audit/verify": Row(NOBODY, everywhere=ADMIN),
    "GET /api/v1/approvals": Row(ANY),  # empty without the scope
    "GET /api/v1/approvals/{approval_id}": Row(APPROVE),
    "POST /api/v1/approvals/{approval_id}": Row(APPROVE, body={"grant": True}),
    "GET /api/v1/knowledge": Row(READ),
    "GET /api/v1/knowledge/{number}": Row(READ),
    "POST /api/v1/knowledge": Row(KNOWLEDGE, body={}),
    "POST /api/v1/knowledge/{number}/review": Row(APPROVE, body={"accept": True}),
    "POST /api/v1/knowledge/{number}/retire": Row(APPROVE, body={}),
    "POST /api/v1/knowledge/{number}/reaffirm": Row(NOBODY),  # takes read and approve together
    "POST /api/v1/knowledge/batches/{batch}/rollback": Row(APPROVE, body={}),
    "GET /metrics": Row(ANY),
    "GET /openapi.json": Row(ANY),
    "GET /livez": Row(ANY),
    "GET /healthz": Row(ANY),
    "GET /readyz": Row(ANY),
    "GET /": Row(ANY),
    "GET /search": Row(ANY, "q=count"),
    "GET /ask": Row(ANY),
    "GET /symbol": Row(ANY, "name=Counter"),
    "GET /file": Row(ANY, "path=src/main.cc"),
    "GET /history": Row(ANY),
    "GET /changes": Row(ANY),
    "GET /knowledge": Row(ANY),
    "GET /w/{workspace}/knowledge": Row(READ, places={"workspace": "w"}),
    "GET /w/{workspace}": Row(READ, places={"workspace": "w"}),
    "GET /w/{workspace}/search": Row(READ, "q=count", places={"workspace": "w"}),
    "GET /w/{workspace}/ask": Row(READ, places={"workspace": "w"}),
    "GET /w/{workspace}/symbol": Row(READ, "name=Counter", places={"workspace": "w"}),
    "GET /w/{workspace}/file": Row(READ, "path=src/main.cc", places={"workspace": "w"}),
    "GET /w/{workspace}/snippet": Row(READ, "path=src/main.cc&first=1&last=3", places={"workspace": "w"}),
    "GET /w/{workspace}/history": Row(READ, places={"workspace": "w"}),
    "GET /w/{workspace}/changes": Row(READ, places={"workspace": "w"}),
    "GET /planner": Row(ANY),
    "GET /jobs": Row(ANY),
    "GET /approvals": Row(ANY),
    "GET /keys": Row(NOBODY, everywhere=ADMIN),
    "GET /login": Row(ANY),
    "GET /favicon.ico": Row(ANY),
    "GET /static/{digest}/{name}": Row(
        NOBODY, places={"digest": "0", "name": "none.css"}
    ),  # for everyone; this is none
}
OPEN = {"/livez", "/healthz", "/readyz", "/login", "/favicon.ico"}


class Hub:
    def __init__(self, state: State) -> None:
        self.state = state
        self.app: ASGIApp = application(state)
        self._digests = itertools.count()
        self.here = {scope: self._key(scope, "w") for scope in Right}
        self.everywhere = {scope: self._key(scope, ALL_WORKSPACES) for scope in Right}

    def _key(self, scope: Right, workspace: str) -> str:
        return self.state.keys.create(scope.value, (Grant(workspace, frozenset({scope})),)).text

    def status(self, name: str, key: str | None) -> int:
        row = TABLE[name]
        method, _, path = name.partition(" ")
        for part, value in {**self._standing(path), **row.places}.items():
            path = path.replace(f"{{{part}}}", value)
        headers = bearer(key) if key else ()
        address = f"{path}?{row.query}" if row.query else path
        # The same words are kept once.
        body = {"text": f"known {next(self._digests)}"} if name == "POST /api/v1/knowledge" else row.body
        return ask(self.app, sent(method, address, headers, body))[0].status

    def _standing(self, path: str) -> dict[str, str]:
        """A job, a key, an approval or an entry that a request may be about, made anew since one may be used up."""
        if "{job_id}" in path:
            job = self.state.jobs.submit(JobKind.INDEX, "w", {}, "nobody")
            while not job.state.ended:
                job = self.state.jobs.wait(job.id, 20, job.version)
            return {"job_id": job.id}
        if "{key_id}" in path:
            return {"key_id": self.state.keys.create("x", EVERYTHING).record.key_id}
        if "/knowledge/" in path:
            another = Principal("another", "another", EVERYTHING)
            text = f"known {next(self._digests)}"
            (entry,) = self.state.lasting.add(another, "w", [Draft(EntryKind.GOTCHA, "", text)])
            return {"number": str(entry.id), "batch": entry.batch}
        if "{approval_id}" in path:
            asking = Principal("another", "another", ())
            digest = str(next(self._digests))
            return {"approval_id": self.state.approvals.ask(asking, "w", "build", digest, {}).approval_id}
        return {}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("permissions")
    index_of(write_tree(folder / "tree", dict(COUNTER)), folder / "data")
    with state_in(folder / "data", server_requests_per_minute=100_000, server_asks_per_minute=100_000) as state:
        yield Hub(state)


def test_every_route_stands_in_the_table(hub: Hub) -> None:
    document = create_app(hub.state).openapi()
    described = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    of_pages = [route for route in pages.router.routes if isinstance(route, APIRoute)]
    assert len(of_pages) == len(pages.router.routes)
    shown = {f"{method} {route.path}" for route in of_pages for method in route.methods or () if method != "HEAD"}
    assert described | shown | {"GET /openapi.json"} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_scope_lets_in_where_it_should_and_nowhere_else(hub: Hub, name: str) -> None:
    row = TABLE[name]
    assert {scope for scope in Right if hub.status(name, hub.here[scope]) < 400} == row.here
    assert {scope for scope in Right if hub.status(name, hub.everywhere[scope]) < 400} == row.here | row.everywhere


@pytest.mark.parametrize("name", TABLE)
def test_without_a_key_only_health_and_the_way_in_are_open(hub: Hub, name: str) -> None:
    path = name.partition(" ")[2]
    assert (hub.status(name, None) < 400) == (path in OPEN)


def test_a_grant_in_another_workspace_opens_nothing_here(hub: Hub, tmp_path: Path) -> None:
    elsewhere = hub.state.keys.create("elsewhere", (Grant("other", frozenset(Right)),)).text
    general = {name for name, row in TABLE.items() if row.here == ANY}
    let_in = {name for name in TABLE if hub.status(name, elsewhere) < 400}
    assert let_in <= general
