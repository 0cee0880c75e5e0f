"""No key learns anything of a workspace that it does not see: not by a body, a header, a count or an error.

Three workspaces hold the same words beside canaries of their own. Keys with random grants ask every route, and a
canary that was not granted appears in no answer; what is not seen is answered, byte for byte, as what is not there.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from hub.auth.model import Grant, Principal
from hub.auth.model import Scope as Right
from hub.http_api import pages
from hub.http_api.app import application, create_app
from hub.http_api.state import State
from hub.jobs import JobKind
from hub.knowledge import Anchor, Anchored, Draft, EntryKind
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.support.asgi import Reply, Sent, ask, bearer, sent
from tests.support.server_state import state_in
from tests.support.trees import write_tree

NAMES = ("alderwood", "birchbark", "cedartree")  # as rare as canaries, since a name is one
MISSING = "dogwoodxx"  # a workspace that is not there, with a name as long
CONTENT = {"alderwood": "zqalpha", "birchbark": "zqbravo", "cedartree": "zqcharl"}
TOLD = {"alderwood": "zxalpha", "birchbark": "zxbravo", "cedartree": "zxcharl"}  # in requests for approval
KEPT = {"alderwood": "zkalpha", "birchbark": "zkbravo", "cedartree": "zkcharl"}  # for good, beside the tree
FOLDER = {"alderwood": "zfalpha", "birchbark": "zfbravo", "cedartree": "zfcharl"}  # the tree's path
UNSTEADY = {"x-request-id", "date"}
QUESTION = "Where is the shared total computed?"


def tree_of(canary: str) -> dict[str, str | bytes]:
    """The same names and words in every tree, and the canary in each kind of thing that may be shown."""
    return {
        "src/common.h": f"""#pragma once
/// Keeps the shared total. {canary}_doc
struct Shared : {canary}_Base {{
  virtual int compute(int {canary}_argument);
}};
""",
        "src/common.cc": f"""#include "common.h"
#include "{canary}_config.h"
int {canary}_helper() {{ return 1; }}
// Computes the shared total: {canary}_comment
int Shared::compute(int) {{ return {canary}_helper(); }}
int use() {{ Shared shared; return shared.compute(1); }}
int {canary}_caller() {{ return use(); }}
""",
        f"src/{canary}_file.cc": '#include "common.h"\nint other() { return use(); }\n',
        "README.md": f"# Shared total\n\nHow it is computed. {canary}_text\n\n## {canary}_heading\n\nMore.\n",
    }


@dataclass
class Hub:
    state: State
    app: ASGIApp
    document: dict[str, Any]
    jobs: dict[str, str]  # by workspace
    approvals: dict[str, str]
    keys: dict[str, str]
    batches: dict[str, str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("isolation")
    data = folder / "data"
    owned = DataFolder(data)
    for name in NAMES:
        root = write_tree(folder / FOLDER[name] / name, tree_of(CONTENT[name]))
        with owned.owned(), Index.for_writing(owned, name, root) as index:
            refresh(index, Options(workers=1), ())
    settings_of_hub: dict[str, Any] = {
        "server_requests_per_minute": 1_000_000,
        "server_asks_per_minute": 1_000_000,
        "webhooks_repositories": tuple(f"acme/{name}={name}" for name in NAMES),
    }
    with state_in(data, **settings_of_hub) as state:
        asking = Principal("another", "another", ())
        jobs, approvals, keys, batches = {}, {}, {}, {}
        for name in NAMES:
            job = state.jobs.submit(JobKind.CALIBRATE, name, {}, "another")
            while not job.state.ended:
                job = state.jobs.wait(job.id, 20, job.version)
            jobs[name] = job.id
            approvals[name] = state.approvals.ask(asking, name, TOLD[name], TOLD[name], {"run": TOLD[name]}).approval_id
            batches[name] = kept_in(state, name)
            keys[name] = state.keys.create(TOLD[name], (Grant(name, frozenset(Right)),)).record.key_id
        yield Hub(state, application(state), create_app(state).openapi(), jobs, approvals, keys, batches)


def kept_in(state: State, name: str) -> str:
    """The batch of what is kept of a tree: entry 1 is accepted, entry 2 waits for a review."""
    writer, reviewer = (Principal(who, who, (Grant(name, frozenset(Right)),)) for who in ("writer", "reviewer"))
    anchor = Anchored(Anchor("Shared"))
    drafts = [
        Draft(EntryKind.GOTCHA, "", f"the shared total {KEPT[name]} {number}", (anchor,), evidence=(KEPT[name],))
        for number in (1, 2)
    ]
    first, _ = state.lasting.add(writer, name, drafts)
    return state.lasting.accept(reviewer, name, first.id).batch


READ = frozenset({Right.READ})

grants = st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from(Right), min_size=1), max_size=2)


def values_for(hub: Hub, workspace: str) -> dict[str, str]:
    """What fits the parameters of all routes, about one workspace. It holds no canary but its name."""
    return {
        "workspace": workspace,
        "query": "shared total compute",
        "q": "shared total compute",
        "name": "Shared",
        "file": "common.cc",
        "path": "src/common.cc",
        "last_line": "20",
        "job_id": hub.jobs.get(workspace, "0" * 12),
        "approval_id": hub.approvals.get(workspace, "0" * 32),
        "key_id": hub.keys.get(workspace, "0" * 10),
        "model": workspace,
        "number": "1",
        "batch": hub.batches.get(workspace, "b_0"),
        "place": "github",
        "depth": "3",
        "context": "32K",
        "gpu": "none",
        "ram": "32GB",
    }


def bodies_for(workspace: str) -> dict[str, Any]:
    said = {"model": workspace, "messages": [{"role": "user", "content": QUESTION}]}
    return {
        "POST /api/v1/search": {"query": "shared total compute", "workspace": workspace},
        "POST /api/v1/impact": {
            "diff": "--- a/src/common.cc\n+++ b/src/common.cc\n@@ -5 +5 @@\n-x\n+y\n",
            "workspace": workspace,
        },
        "POST /api/v1/ask": {"question": QUESTION, "workspace": workspace},
        "POST /v1/chat/completions": said,
        "POST /api/v1/jobs": {"kind": "tune", "workspace": workspace},
        "POST /api/v1/keys": {"owner": "x", "grants": [{"workspace": workspace, "scopes": ["read"]}]},
        "POST /api/v1/keys/{key_id}/rotate": {},
        "POST /api/v1/approvals/{approval_id}": {"grant": False},
        "POST /api/v1/knowledge": {"text": "shared total", "about": ["Shared"]},
        "POST /api/v1/knowledge/{number}/review": {"accept": True},
        "POST /api/v1/events/git": {"workspace": workspace},
        "POST /api/v1/webhooks/{place}": {"repository": {"full_name": f"acme/{workspace}"}},
        "POST /api/v1/sessions": {"key": f"chub_{workspace}"},
    }


def routes_of(hub: Hub) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Method, path and names of parameters of everything that the server answers."""
    for path, methods in hub.document["paths"].items():
        for method, described in methods.items():
            yield method.upper(), path, tuple(entry["name"] for entry in described.get("parameters", ()))
    for route in pages.router.routes:
        assert isinstance(route, APIRoute)
        yield "GET", route.path, ("workspace", "q", "name", "path", "last_line")
    yield "GET", "/openapi.json", ()


def requests_about(hub: Hub, workspace: str | None, key: str) -> Iterator[Sent]:
    """Every route, asked about one workspace, or without naming any."""
    values = values_for(hub, workspace or "")
    bodies = bodies_for(workspace or "")
    for method, path, parameters in routes_of(hub):
        if method == "DELETE" or (workspace is None and "{" in path):
            continue
        query = {name: values[name] for name in parameters if name in values and f"{{{name}}}" not in path}
        if workspace is None:
            query.pop("workspace", None)
        address = re.sub(r"\{(\w+)(?::\w+)?\}", lambda part: values.get(part[1], "x"), path)
        body = bodies.get(f"{method} {path}")
        if workspace is None and body is not None:
            body = {name: value for name, value in body.items() if name != "workspace"}
        address += f"?{urlencode(query)}" if query else ""
        yield sent(method, address, bearer(key), body)
        if path == "/api/v1/ask":
            yield sent(method, address, (*bearer(key), ("accept", "text/event-stream")), body)
        if path == "/v1/chat/completions":
            said: dict[str, Any] = body or {}
            yield sent(method, address, bearer(key), {**said, "stream": True})
            yield sent(method, address, bearer(key), {**said, "model": f"{workspace}:rag"})


def hidden_from(granted: dict[str, frozenset[Right]], named: str | None) -> set[str]:
    """What may stand in no answer to this key. A name that it sends itself comes back to it, and tells nothing."""
    hidden = set()
    for name in NAMES:
        scopes = granted.get(name, frozenset())
        if not scopes:
            hidden |= {FOLDER[name]} | ({name} if name != named else set())
        if Right.READ not in scopes:
            hidden.add(CONTENT[name])
        if not scopes & {Right.READ, Right.KNOWLEDGE, Right.APPROVE}:
            hidden.add(KEPT[name])
        if Right.APPROVE not in scopes:
            hidden.add(TOLD[name])
    return hidden


def key_with(hub: Hub, granted: dict[str, frozenset[Right]]) -> str:
    grants_of_key = tuple(Grant(*grant) for grant in granted.items()) or (Grant("gone", READ),)
    return hub.state.keys.create("x", grants_of_key).text


def told(reply: Reply) -> str:
    return "\n".join((f"{reply.status}", *(f"{name}: {value}" for name, value in reply.headers), reply.body.decode()))


def steady(reply: Reply, name: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """What two answers are compared by: all but the time, and the name that was sent."""
    headers = [(key, value.replace(name, "?")) for key, value in reply.headers if key not in UNSTEADY]
    return reply.status, headers, reply.body.replace(name.encode(), b"?")


# An example is a whole round of requests, and says enough as it is: it is not made smaller.
BOUNDED = settings(
    max_examples=12,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def test_the_canaries_sing_for_whoever_may_hear_them(hub: Hub) -> None:
    """Without this the laws below would hold of a server that answers nothing."""
    key = hub.state.keys.create("reader", tuple(Grant(name, frozenset(Right)) for name in NAMES)).text
    for name in NAMES:
        requests = tuple(requests_about(hub, name, key))
        replies = ask(hub.app, *requests)
        answers = {(one.method, one.path): told(reply) for one, reply in zip(requests, replies, strict=True)}
        singing = {path.partition("?")[0] for (_, path), text in answers.items() if CONTENT[name] in text}
        api = {f"/api/v1/{way}" for way in ("search", "symbol", "callers", "callees", "hierarchy", "source", "export")}
        web = {f"/w/{name}/{page}" for page in ("search", "symbol", "file", "snippet")}
        assert singing >= api | web | {"/api/v1/ask", "/v1/chat/completions", "/api/v1/includes", "/api/v1/impact"}
        assert {"/api/v1/knowledge"} <= {
            path.partition("?")[0] for (_, path), text in answers.items() if KEPT[name] in text
        }
        assert sum(TOLD[name] in text for text in answers.values()) >= 2
        assert sum(f'"{name}"' in text for text in answers.values()) >= 10


@given(granted=grants, named=st.sampled_from((*NAMES, None)))
@BOUNDED
def test_no_canary_of_an_unseen_workspace_is_in_any_answer(
    hub: Hub, granted: dict[str, frozenset[Right]], named: str | None
) -> None:
    key = key_with(hub, granted)
    hidden = hidden_from(granted, named)
    requests = tuple(requests_about(hub, named, key))
    for request, reply in zip(requests, ask(hub.app, *requests), strict=True):
        assert reply.status != 500, request
        assert not [canary for canary in hidden if canary in told(reply)], (request, told(reply)[:2_000])


@given(granted=grants)
@BOUNDED
def test_what_is_not_seen_is_answered_as_what_is_not_there(hub: Hub, granted: dict[str, frozenset[Right]]) -> None:
    key = key_with(hub, granted)
    unseen = next(name for name in NAMES if name not in granted)
    about = list(zip(requests_about(hub, unseen, key), requests_about(hub, MISSING, key), strict=True))
    # What is about a job, an approval or a key has their numbers, which differ: the law below has those.
    about = [(one, other) for one, other in about if unseen in f"{one.path}{one.pieces}"]
    assert len(about) > 30
    replies = ask(hub.app, *(request for pair in about for request in pair))
    for (request, _), one, other in zip(about, replies[::2], replies[1::2], strict=True):
        assert steady(one, unseen) == steady(other, MISSING), request


@given(granted=grants)
@BOUNDED
def test_numbers_of_what_is_not_seen_are_answered_as_numbers_that_were_never_given(
    hub: Hub, granted: dict[str, frozenset[Right]]
) -> None:
    key = key_with(hub, granted)
    unseen = next(name for name in NAMES if name not in granted)
    for path, number, never in (
        ("/api/v1/jobs/{}", hub.jobs[unseen], "f" * 12),
        ("/api/v1/jobs/{}/events", hub.jobs[unseen], "f" * 12),
        ("/api/v1/jobs/{}/cancel", hub.jobs[unseen], "f" * 12),
        ("/api/v1/jobs/{}/resume", hub.jobs[unseen], "f" * 12),
        ("/api/v1/approvals/{}", hub.approvals[unseen], "f" * 32),
        ("/api/v1/keys/{}/rotate", hub.keys[unseen], "f" * 10),
    ):
        methods = ("POST",) if path.endswith(("cancel", "resume", "rotate")) else ("GET",)
        for method in methods:
            body: dict[str, Any] | None = {} if method == "POST" else None
            requests = [sent(method, path.format(which), bearer(key), body) for which in (number, never)]
            one, other = ask(hub.app, *requests)
            assert steady(one, number) == steady(other, never), path


def test_what_is_written_for_a_key_stays_json(hub: Hub) -> None:
    key = hub.state.keys.create("x", (Grant(NAMES[0], READ),)).text
    reply = ask(hub.app, sent("GET", f"/api/v1/search?query=shared&workspace={NAMES[1]}", bearer(key)))[0]
    assert json.loads(reply.body) == {
        "error": f"There is no workspace '{NAMES[1]}'.",
        "hint": "Ask for the list of workspaces.",
    }
