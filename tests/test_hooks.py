"""What git, GitHub and GitLab tell: proven before it is read, believed for nothing but which tree it is about."""

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from hub.auth.model import Grant
from hub.auth.model import Scope as Right
from hub.config import Settings
from hub.http_api.app import application
from hub.http_api.state import State
from hub.http_api.webhooks import delivered, repositories
from tests.support.asgi import Reply, ask, bearer, sent
from tests.support.server_state import EVERYTHING, state_in
from tests.support.trees import index_of, write_tree

SECRET = "s" + "3cret of github"  # put together, so that no scanner takes it for a real one
TOKEN = "t" + "oken of gitlab"
SIGNING = "whsec_" + base64.b64encode(b"signing key of gitlab").decode()
PUSH = {"repository": {"full_name": "Acme/Counter"}, "after": "0" * 40, "commits": [{"message": "$(touch /tmp/x)"}]}
GITLAB_PUSH = {"project": {"path_with_namespace": "acme/counter"}, "after": "0" * 40}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hooks")
    index_of(write_tree(folder / "tree", {"a.cc": "int main() { return 0; }\n"}), folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def state(data: Path) -> Iterator[State]:
    settings: dict[str, Any] = {
        "webhooks_repositories": ("acme/counter=w", "acme/gone=gone"),
        "webhooks_github_secret": SECRET,
        "webhooks_gitlab_token": TOKEN,
    }
    with state_in(data, child=(sys.executable, "-c", "pass"), **settings) as state:
        yield state


@pytest.fixture(scope="module")
def app(state: State) -> ASGIApp:
    return application(state)


def signed(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def github(app: ASGIApp, body: bytes, signature: str | None = None, event: str = "push", delivery: str = "1") -> Reply:
    headers = (
        ("content-type", "application/json"),
        ("x-github-event", event),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", signed(body) if signature is None else signature),
    )
    return ask(app, sent("POST", "/api/v1/webhooks/github", headers, body))[0]


def jobs(state: State) -> list[tuple[str, str, str]]:
    return [(job.kind.value, job.workspace, job.asked_by) for job in state.jobs.jobs()]


def test_a_push_to_github_asks_for_an_index_job(app: ASGIApp, state: State) -> None:
    reply = github(app, json.dumps(PUSH | {"after": "1" * 40}).encode())
    assert reply.status == 202
    job = state.jobs.job(reply.json["job"])
    assert job is not None
    assert (job.kind, job.workspace, job.asked_by, job.arguments) == ("index", "w", "webhook-github", {})
    entry = state.audit.entries()[0]
    assert (entry.action, entry.workspace, entry.outcome) == ("webhook", "w", "done")


@pytest.mark.parametrize(
    "signature",
    ["", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40, signed(b"other"), signed(b"{}", "wrong"), "\xff"],
)
def test_an_event_that_github_has_not_signed_is_refused_unread(app: ASGIApp, state: State, signature: str) -> None:
    before = jobs(state)
    for body in (json.dumps(PUSH).encode(), b"not json"):
        assert github(app, body, signature).status == 401
    assert jobs(state) == before


def test_a_signature_over_other_bytes_of_the_same_json_is_none(app: ASGIApp) -> None:
    body = json.dumps(PUSH).encode()
    assert github(app, body + b" ", signed(body)).status == 401


def test_the_same_event_is_taken_once_whatever_its_number(app: ASGIApp) -> None:
    body = json.dumps(PUSH | {"after": "2" * 40}).encode()
    assert github(app, body).status == 202
    assert github(app, body).status == 409
    assert github(app, body, delivery="another").status == 409


@pytest.mark.parametrize(
    "body",
    [
        {"repository": {"full_name": "acme/other"}},
        {"repository": {"full_name": "acme/gone"}},
        {"repository": {"full_name": 5}},
        {"repository": "acme/counter"},
        {"workspace": "w", "root": "/"},
        [],
        "text",
        None,
    ],
)
def test_the_settings_alone_say_which_workspace_an_event_is_about(app: ASGIApp, state: State, body: object) -> None:
    before = jobs(state)
    reply = github(app, json.dumps(body).encode())
    missing = ask(app, sent("POST", "/api/v1/webhooks/nowhere", (), {}))[0]
    assert (reply.status, reply.body) == (404, missing.body)
    assert jobs(state) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff" * 100])
def test_signed_nonsense_is_about_no_workspace(app: ASGIApp, body: bytes) -> None:
    assert github(app, body).status == 404


def test_an_event_that_changes_no_tree_starts_nothing(app: ASGIApp, state: State) -> None:
    before = jobs(state)
    reply = github(app, json.dumps(PUSH | {"zen": "calm"}).encode(), event="ping")
    assert (reply.status, reply.json) == (202, {"job": None, "workspace": "w"})
    assert jobs(state) == before


def test_gitlab_shows_its_token(app: ASGIApp, state: State) -> None:
    def told(token: str, number: int) -> Reply:
        body = json.dumps(GITLAB_PUSH | {"checkout_sha": str(number)}).encode()
        headers = (("x-gitlab-event", "Push Hook"), ("x-gitlab-token", token))
        return ask(app, sent("POST", "/api/v1/webhooks/gitlab", headers, body))[0]

    assert told(TOKEN, 1).status == 202
    assert told(TOKEN, 1).status == 409
    assert told(TOKEN[:-1], 2).status == 401
    assert told("", 2).status == 401


def gitlab_signature(body: bytes, identity: str, at: int, key: bytes = b"signing key of gitlab") -> dict[str, bytes]:
    text = b".".join((identity.encode(), str(at).encode(), body))
    signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest())
    return {
        "webhook-id": identity.encode(),
        "webhook-timestamp": str(at).encode(),
        "webhook-signature": b"v1,wrong v1," + signature,
        "x-gitlab-event": b"Push Hook",
        "x-gitlab-token": TOKEN.encode(),
    }


def test_gitlab_signs_id_time_and_body_and_a_token_is_not_enough_then() -> None:
    settings = Settings(Path("/data"), webhooks_gitlab_signing_key=SIGNING, webhooks_gitlab_token=TOKEN)
    body = json.dumps(GITLAB_PUSH).encode()
    headers = gitlab_signature(body, "msg_1", 1_000)
    for now in (1_000.0, 701.0, 1_299.0):
        assert delivered(settings, "gitlab", headers, body, now).repository == "acme/counter"
    assert delivered(settings, "gitlab", headers, body, 1_000).changes
    wrong = [
        (headers, body + b" ", 1_000.0),
        (headers, body, 1_301.0),
        (headers, body, 699.0),
        (headers | {"webhook-id": b"msg_2"}, body, 1_000.0),
        (headers | {"webhook-timestamp": b"1001"}, body, 1_000.0),
        (headers | {"webhook-timestamp": b"-1"}, body, 1_000.0),
        (headers | {"webhook-timestamp": b"9" * 400}, body, 1_000.0),
        (headers | {"webhook-signature": b""}, body, 1_000.0),
        ({"x-gitlab-token": TOKEN.encode()}, body, 1_000.0),
        (gitlab_signature(body, "msg_1", 1_000, b"other"), body, 1_000.0),
    ]
    for shown, sent_body, now in wrong:
        with pytest.raises(HTTPException) as refused:
            delivered(settings, "gitlab", shown, sent_body, now)
        assert refused.value.status_code == 401


@given(
    st.binary(max_size=200), st.dictionaries(st.sampled_from(["x-hub-signature-256", "x-gitlab-token"]), st.binary())
)
def test_nothing_that_is_made_up_is_taken(body: bytes, headers: dict[str, bytes]) -> None:
    settings = Settings(Path("/data"), webhooks_github_secret=SECRET, webhooks_gitlab_token=TOKEN)
    for place in ("github", "gitlab"):
        with pytest.raises(HTTPException):
            delivered(settings, place, headers, body, 0.0)


@pytest.mark.parametrize("place", ["github", "gitlab", "gitea", ""])
def test_without_a_secret_there_is_no_such_place(place: str) -> None:
    with pytest.raises(HTTPException) as refused:
        delivered(Settings(Path("/data")), place, {"x-gitlab-token": b"", "x-hub-signature-256": b"sha256="}, b"", 0.0)
    assert refused.value.status_code == 404


def test_repositories_are_named_in_any_letters() -> None:
    settings = Settings(Path("/data"), webhooks_repositories=("Acme/Counter = w", "=x", "y=", "z"))
    assert repositories(settings) == {"acme/counter": "w"}


def test_git_tells_of_a_tree_by_its_folder_or_its_workspace(app: ASGIApp, state: State, data: Path) -> None:
    key = state.keys.create("hook", (Grant("w", frozenset({Right.INGEST})),), None).text
    root = str(data.parent / "tree")

    def told(**event: object) -> Reply:
        return ask(app, sent("POST", "/api/v1/events/git", bearer(key), event))[0]

    for event in (
        {"root": root},
        {"root": root + "/sub/../sub"},
        {"workspace": "w", "old": "x", "event": "post-merge"},
    ):
        assert (told(**event).status, told(**event).json["workspace"]) == (202, "w")
    assert jobs(state)[0][:2] == ("index", "w")
    for event in ({"root": "/"}, {"root": root + "/.."}, {"root": "tree"}, {"workspace": "x"}, {}, {"root": ""}):
        assert told(**event).status == 404


def test_git_tells_an_unseen_tree_nothing(app: ASGIApp, state: State, data: Path) -> None:
    stranger = state.keys.create("stranger", (Grant("other", frozenset(Right)),), None).text
    reader = state.keys.create("reader", (Grant("w", frozenset({Right.READ})),), None).text

    def told(key: str, **event: object) -> Reply:
        return ask(app, sent("POST", "/api/v1/events/git", bearer(key), event))[0]

    assert told(stranger, workspace="w").json["error"] == "There is no workspace 'w'."
    assert told(stranger, workspace="v").json["error"] == "There is no workspace 'v'."
    assert told(stranger, root=str(data.parent / "tree")).status == 404
    assert told(reader, workspace="w").status == 403


def test_a_large_webhook_is_not_read(app: ASGIApp) -> None:
    assert github(app, b"x" * 5_000_000).status == 413


def test_webhooks_need_no_clock_of_the_sender_but_gitlabs(app: ASGIApp, data: Path) -> None:
    with state_in(data, webhooks_repositories=("acme/counter=w",), webhooks_gitlab_signing_key=SIGNING) as state:
        body = json.dumps(GITLAB_PUSH).encode()
        headers = gitlab_signature(body, "msg_9", int(time.time()))
        shown = tuple((name, value.decode()) for name, value in headers.items())
        assert ask(application(state), sent("POST", "/api/v1/webhooks/gitlab", shown, body))[0].status == 202


def test_events_are_counted_for_each_sender(app: ASGIApp, state: State) -> None:
    key = state.keys.create("hook", EVERYTHING, None).text
    statuses = [ask(app, sent("POST", "/api/v1/events/git", bearer(key), {}))[0].status for _ in range(62)]
    assert statuses == [404] * 60 + [429] * 2
