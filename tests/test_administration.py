"""Keys, the audit log and approvals over HTTP: for administrators and approvers, and nobody else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.auth.model import LOCAL, Grant, Principal, Scope
from tests.support.command import run
from tests.support.served import Served, served

ADMIN = Grant("*", frozenset({Scope.ADMIN}))
AGENT = Principal("agentkey00", "an agent", (Grant("w", frozenset({Scope.EXECUTE})),))
NO_ADMIN = [
    (Grant("*", frozenset(Scope) - {Scope.ADMIN}),),
    (Grant("w", frozenset(Scope)),),  # of one workspace only
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("administration"), {}) as running:
        yield running


def made(hub: Served, **wanted: Any) -> dict[str, Any]:
    body = {"owner": "ci", "grants": [{"workspace": "w", "scopes": ["read"]}], **wanted}
    reply = hub.client.post("/api/v1/keys", json=body)
    assert reply.status_code == 201, reply.text
    shape: dict[str, Any] = reply.json()
    return shape


def whoami(hub: Served, key: str) -> httpx.Response:
    return httpx.get(f"{hub.url}/api/v1/whoami", headers={"authorization": f"Bearer {key}"}, timeout=20)


# Keys


def test_a_key_made_over_http_works_at_once_and_is_told_once(hub: Served) -> None:
    key = made(hub, owner="Zoë", expires_in_days=1)
    assert whoami(hub, key["key"]).json() == {
        "key_id": key["key_id"],
        "owner": "Zoë",
        "grants": [{"workspace": "w", "scopes": ["read"]}],
    }
    listed = hub.client.get("/api/v1/keys")
    assert key["key_id"] in listed.text
    assert key["key"].split("_")[2] not in listed.text
    (entry,) = [entry for entry in listed.json()["keys"] if entry["key_id"] == key["key_id"]]
    assert (entry["state"], entry["revoked_at"]) == ("active", None)
    assert entry["expires_at"] > entry["created_at"]
    assert entry["last_used_at"] is not None


def test_a_revoked_key_is_refused_at_the_next_request(hub: Served) -> None:
    key = made(hub)
    assert whoami(hub, key["key"]).status_code == 200
    assert hub.client.delete(f"/api/v1/keys/{key['key_id']}").status_code == 204
    refused = whoami(hub, key["key"])
    assert refused.status_code == 401
    assert key["key_id"] not in refused.text
    again = hub.client.delete(f"/api/v1/keys/{key['key_id']}")
    assert again.status_code == 404
    assert again.json() == hub.client.delete("/api/v1/keys/nobody").json()


def test_a_key_revoked_by_the_command_is_refused_at_the_next_request_of_a_running_server(hub: Served) -> None:
    key = made(hub)
    assert whoami(hub, key["key"]).status_code == 200
    done = run(["keys", "revoke", key["key_id"]], hub.state.settings.data)
    assert done.code == 0, done.err
    assert whoami(hub, key["key"]).status_code == 401
    assert hub.client.get("/api/v1/audit", params={"limit": 10}).json()["entries"]
    assert hub.client.get("/api/v1/audit/verify").json()["whole"], "two processes write one chain"


def test_a_rotated_key_leaves_a_new_one_in_its_place(hub: Served) -> None:
    key = made(hub)
    reply = hub.client.post(f"/api/v1/keys/{key['key_id']}/rotate")
    assert reply.status_code == 201
    assert whoami(hub, key["key"]).status_code == 401
    assert whoami(hub, reply.json()["key"]).json()["owner"] == "ci"
    slowly = hub.client.post(f"/api/v1/keys/{reply.json()['key_id']}/rotate", json={"grace_s": 600})
    assert whoami(hub, reply.json()["key"]).status_code == 200
    assert whoami(hub, slowly.json()["key"]).status_code == 200
    assert hub.client.post("/api/v1/keys/nobody/rotate").status_code == 404
    assert hub.client.post(f"/api/v1/keys/{key['key_id']}/rotate").status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"owner": "x"}, 422),
        ({"owner": "x", "grants": []}, 422),
        ({"owner": "x", "grants": [{"workspace": "w", "scopes": []}]}, 422),
        ({"owner": "x", "grants": [{"workspace": "w", "scopes": ["fly"]}]}, 422),
        ({"owner": "x", "grants": [{"workspace": "../w", "scopes": ["read"]}]}, 400),
        ({"owner": "x", "grants": [{"workspace": "a:admin", "scopes": ["read"]}]}, 400),
        ({"owner": "x", "grants": [{"workspace": "*", "scopes": ["read"]}], "expires_in_days": -1}, 422),
        ({"owner": "x", "grants": [{"workspace": "*", "scopes": ["read"]}], "expires_in_days": 1e9}, 422),
        ({"owner": "x\u202ey", "grants": [{"workspace": "*", "scopes": ["read"]}]}, 400),
        ({"owner": "x", "grants": [{"workspace": "*", "scopes": ["read"]}], "admin": True}, 422),
        ({"owner": "x", "grants": [{"workspace": "w", "scopes": ["read"]}] * 201}, 422),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(hub: Served, body: dict[str, Any], status: int) -> None:
    before = len(hub.state.keys.records())
    reply = hub.client.post("/api/v1/keys", json=body)
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error", "hint"}
    assert len(hub.state.keys.records()) == before


@pytest.mark.parametrize("grants", NO_ADMIN)
def test_without_admin_everywhere_no_key_and_no_entry_is_told(hub: Served, grants: tuple[Grant, ...]) -> None:
    key = made(hub)
    body = {"owner": "x", "grants": [{"workspace": "*", "scopes": ["admin"]}]}
    with hub.keyed(*grants) as client:
        replies = [
            client.get("/api/v1/keys"),
            client.post("/api/v1/keys", json=body),
            client.post(f"/api/v1/keys/{key['key_id']}/rotate"),
            client.delete(f"/api/v1/keys/{key['key_id']}"),
            client.delete("/api/v1/keys/nobody"),
            client.get("/api/v1/audit"),
            client.get("/api/v1/audit/verify"),
        ]
    assert [reply.status_code for reply in replies] == [403] * len(replies)
    assert len({reply.text for reply in replies}) == 1, "nothing tells what is there from what is not"
    assert whoami(hub, key["key"]).status_code == 200


def test_without_a_key_there_is_nothing(hub: Served) -> None:
    with hub.stranger() as client:
        for path in ("keys", "audit", "audit/verify", "approvals", "approvals/abc"):
            assert client.get(f"/api/v1/{path}").status_code == 401
        assert client.post("/api/v1/keys", json={}).status_code == 401


# The audit log


def test_what_an_administrator_does_is_told_once_and_without_the_key(hub: Served) -> None:
    with hub.keyed(ADMIN, owner="Ann") as client:
        body = {"owner": "ci", "grants": [{"workspace": "w", "scopes": ["read"]}]}
        key = client.post("/api/v1/keys", json=body).json()
        client.post(f"/api/v1/keys/{key['key_id']}/rotate")
        second = next(it.replaced_by for it in hub.state.keys.records() if it.key_id == key["key_id"])
        client.delete(f"/api/v1/keys/{second}")
        entries = client.get("/api/v1/audit", params={"limit": 3}).json()["entries"]
        whole = client.get("/api/v1/audit/verify").json()
    told = [(entry["action"], entry["owner"], entry["detail"]) for entry in entries]
    assert told == [
        ("key.revoke", "Ann", {"key_id": second}),
        ("key.rotate", "Ann", {"key_id": key["key_id"], "replaced_by": second}),
        ("key.create", "Ann", {"key_id": key["key_id"], "owner": "ci"}),
    ]
    assert whole["whole"] is True
    assert whole["digest"] == entries[0]["digest"]
    assert key["key"].split("_")[2][:20] not in json.dumps(entries)


def test_the_log_is_told_in_pages(hub: Served) -> None:
    for number in range(5):
        hub.state.audit.append(LOCAL, f"test.{number}", "w", "done")
    first = hub.client.get("/api/v1/audit", params={"limit": 2}).json()
    second = hub.client.get("/api/v1/audit", params={"limit": 2, "before": first["next_before"]}).json()
    actions = [entry["action"] for page in (first, second) for entry in page["entries"]]
    assert actions == ["test.4", "test.3", "test.2", "test.1"]
    last = hub.client.get("/api/v1/audit", params={"limit": 1, "before": 2}).json()
    assert [entry["number"] for entry in last["entries"]] == [1]
    assert last["next_before"] is None
    for parameters in ({"limit": 0}, {"limit": 1001}, {"before": 0}, {"limit": "many"}):
        assert hub.client.get("/api/v1/audit", params=parameters).status_code == 422


def test_a_log_that_was_changed_is_told_as_broken(tmp_path: Path) -> None:
    with served(tmp_path, {}) as own:
        for number in range(3):
            own.state.audit.append(LOCAL, f"test.{number}", "w", "done")
        path = own.state.audit.path
        path.write_bytes(path.read_bytes().replace(b"test.1", b"test.9"))
        found = own.client.get("/api/v1/audit/verify").json()
        assert (found["whole"], found["broken_at"]) == (False, 2)


# Approvals


def test_an_approver_of_the_workspace_lets_a_request_pass_once(hub: Served) -> None:
    request = hub.state.approvals.ask(AGENT, "w", "build", "d1", {"command": ["make"]})
    with hub.keyed(Grant("w", frozenset({Scope.APPROVE})), owner="Ann") as client:
        (shown,) = client.get("/api/v1/approvals").json()["approvals"]
        assert (shown["id"], shown["told"], shown["state"]) == (request.approval_id, {"command": ["make"]}, "waiting")
        assert client.get(f"/api/v1/approvals/{shown['id']}").json() == shown
        decided = client.post(f"/api/v1/approvals/{shown['id']}", json={"grant": True})
        assert decided.json()["state"] == "granted"
        assert client.post(f"/api/v1/approvals/{shown['id']}", json={"grant": False}).status_code == 400
        assert client.get("/api/v1/approvals").json() == {"approvals": []}
    assert hub.state.approvals.take(request.approval_id, "d1")
    refused, entry = hub.state.audit.entries(2)
    assert (entry.action, entry.owner, entry.workspace, entry.outcome) == ("approval.grant", "Ann", "w", "done")
    assert entry.detail["digest"] == "d1"
    assert (refused.action, refused.outcome) == ("POST /api/v1/approvals/{approval_id}", "failed")


@pytest.mark.parametrize(
    "grant", [Grant("w", frozenset(Scope) - {Scope.APPROVE}), Grant("other", frozenset(Scope)), ADMIN]
)
def test_for_others_a_request_is_one_that_is_not_there(hub: Served, grant: Grant) -> None:
    request = hub.state.approvals.ask(AGENT, "w", "build", "d1", {})
    with hub.keyed(grant) as client:
        assert client.get("/api/v1/approvals").json() == {"approvals": []}
        replies = [client.get(f"/api/v1/approvals/{name}") for name in (request.approval_id, "0" * 32)]
        replies += [
            client.post(f"/api/v1/approvals/{name}", json={"grant": True}) for name in (request.approval_id, "0" * 32)
        ]
    assert [reply.status_code for reply in replies] == [404] * 4
    assert len({reply.text for reply in replies}) == 1
    assert not hub.state.approvals.take(request.approval_id, "d1")


def test_nobody_approves_his_own_request(hub: Served) -> None:
    with hub.keyed(Grant("w", frozenset({Scope.EXECUTE, Scope.APPROVE}))) as client:
        own = client.get("/api/v1/whoami").json()["key_id"]
        principal = hub.state.keys.holder(own)
        assert principal is not None
        request = hub.state.approvals.ask(principal, "w", "build", "d1", {})
        assert request.approval_id in client.get("/api/v1/approvals").text, "whoever asked sees how it stands"
        refused = client.post(f"/api/v1/approvals/{request.approval_id}", json={"grant": True})
    assert refused.status_code == 403
    assert "himself" in refused.json()["error"]
    assert not hub.state.approvals.take(request.approval_id, "d1")


@pytest.mark.parametrize("body", [{}, {"grant": "yes"}, {"grant": 1}, {"grant": None}, {"grant": True, "more": 1}])
def test_a_decision_is_true_or_false_and_nothing_like_it(hub: Served, body: dict[str, Any]) -> None:
    request = hub.state.approvals.ask(AGENT, "w", "build", "d1", {})
    assert hub.client.post(f"/api/v1/approvals/{request.approval_id}", json=body).status_code == 422
    assert not hub.state.approvals.take(request.approval_id, "d1")
