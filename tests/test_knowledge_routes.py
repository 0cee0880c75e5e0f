"""Knowledge over HTTP: proposed, reviewed by somebody else, taken back, each act recorded, nothing told elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from hub.auth.model import Grant
from hub.auth.model import Scope as Right
from hub.http_api.app import application
from hub.http_api.state import State
from tests.support.asgi import Reply, ask, bearer, sent
from tests.support.server_state import state_in
from tests.support.trees import COUNTER, index_of, write_tree

AUTHOR = {Right.READ, Right.KNOWLEDGE}
REVIEWER = {Right.READ, Right.APPROVE}


@dataclass
class Hub:
    state: State
    app: ASGIApp
    folder: Path

    def key(self, owner: str, scopes: set[Right], workspace: str = "w") -> str:
        return self.state.keys.create(owner, (Grant(workspace, frozenset(scopes)),)).text

    def call(self, key: str, method: str, path: str, body: Any = None) -> Reply:
        return ask(self.app, sent(method, f"/api/v1/knowledge{path}", bearer(key), body))[0]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    with state_in(tmp_path / "data") as state:
        yield Hub(state, application(state), tmp_path)


def test_an_entry_goes_from_a_proposal_to_its_end_and_each_step_is_recorded_once(hub: Hub) -> None:
    ann, ben = hub.key("Ann", AUTHOR), hub.key("Ben", REVIEWER)
    wanted = {"text": "Increment wraps.", "about": ["Increment, nowhere.cc"], "evidence": ["run r1"], "kind": "gotcha"}
    made = hub.call(ann, "POST", "", wanted)
    assert made.status == 201
    entry = made.json
    assert (entry["id"], entry["state"], entry["author"]) == (1, "proposed", "Ann")
    assert entry["about"][0] == {"symbol": "app::Counter::Increment", "path": "", "line": 0}
    assert entry["unknown"] == ["nowhere.cc"]
    assert entry["open_to_you"] == ["reject", "rollback"]
    assert hub.call(ben, "GET", "").json["entries"] == [], "what nobody accepted is not shown"
    (waiting,) = hub.call(ben, "GET", "?only=proposed").json["entries"]
    assert waiting["open_to_you"] == ["accept", "reject", "rollback"]
    assert hub.call(ann, "POST", "/1/review", {"accept": True}).status == 403
    assert hub.call(ben, "POST", "/1/review", {"accept": True}).json["state"] == "accepted"
    assert [each["id"] for each in hub.call(ann, "GET", "?query=wraps").json["entries"]] == [1]
    assert hub.call(ann, "POST", "/1/retire", {"reason": "fixed"}).status == 403, "it was accepted"
    retired = hub.call(ben, "POST", "/1/retire", {"reason": "fixed"}).json
    assert (retired["state"], retired["reason"]) == ("retired", "fixed")
    told = [(each.action, each.outcome) for each in reversed(hub.state.audit.entries()) if each.outcome != "refused"]
    assert told == [
        ("knowledge.add", "done"),
        ("knowledge.accept", "denied"),
        ("knowledge.accept", "done"),
        ("knowledge.retire", "denied"),
        ("knowledge.retire", "done"),
    ]


def test_a_reviewer_sees_what_an_entry_would_replace_and_a_batch_is_taken_back_exactly(hub: Hub) -> None:
    ann, ben = hub.key("Ann", AUTHOR), hub.key("Ben", REVIEWER)
    hub.call(ann, "POST", "", {"text": "It locks."})
    hub.call(ben, "POST", "/1/review", {"accept": True})
    before = hub.call(ann, "GET", "").json
    batch = hub.call(ann, "POST", "", {"text": "It does not lock.", "supersedes": [1]}).json["batch"]
    shown = hub.call(ben, "GET", "/2").json
    assert [old["text"] for old in shown["replaces"]] == ["It locks."]
    hub.call(ben, "POST", "/2/review", {"accept": True})
    both = hub.call(ann, "GET", "").json["entries"]
    assert [(each["id"], each["state"], each["superseded_by"]) for each in both] == [
        (2, "accepted", []),
        (1, "superseded", [2]),
    ]
    rolled = hub.call(ben, "POST", f"/batches/{batch}/rollback", {"reason": "wrong"}).json
    assert [each["id"] for each in rolled["entries"]] == [2]
    assert hub.call(ann, "GET", "").json == before


def test_an_entry_is_flagged_when_its_code_changes_until_a_reviewer_reaffirms_it(hub: Hub) -> None:
    ann, ben = hub.key("Ann", AUTHOR), hub.key("Ben", REVIEWER)
    hub.call(ann, "POST", "", {"text": "Increment wraps.", "about": ["Increment"]})
    hub.call(ben, "POST", "/1/review", {"accept": True})
    changed = str(COUNTER["src/counter.cc"]).replace("value_ += by;", "value_ += by + 0;")
    index_of(write_tree(hub.folder / "tree", {"src/counter.cc": changed}), hub.folder / "data")
    (drifted,) = hub.call(ann, "GET", "").json["entries"]
    assert "has changed" in drifted["drift"][0]
    assert hub.call(ann, "POST", "/1/reaffirm").status == 403
    blind = hub.key("Cid", {Right.APPROVE})
    assert hub.call(blind, "POST", "/1/reaffirm").status == 403, "whoever cannot look cannot say that it holds"
    assert hub.call(ben, "POST", "/1/reaffirm").json["drift"] == []
    assert hub.call(ann, "GET", "/1").json["reaffirmed_by"] == "Ben"


def test_a_wrong_request_says_what_is_wrong_and_changes_nothing(hub: Hub) -> None:
    ann, ben = hub.key("Ann", AUTHOR), hub.key("Ben", REVIEWER)
    for body, status in (
        ({"text": ""}, 422),
        ({"text": "x" * 16_385}, 422),
        ({"text": "x", "kind": "hearsay"}, 422),
        ({"text": "x", "supersedes": [7]}, 404),
        ({"text": "x", "expires_in_days": -1}, 422),
        ({"text": " \n"}, 400),
        ({"text": "x", "about": ["a"] * 33}, 422),
    ):
        assert hub.call(ann, "POST", "", body).status == status, body
    assert hub.call(ben, "POST", "/1/review", {"accept": True}).status == 404
    assert hub.call(ben, "POST", "/0/review", {"accept": True}).status == 422
    assert hub.call(ben, "POST", "/batches/b_none/rollback").status == 404
    everything = "".join(f"&only={state}" for state in ("accepted", "proposed", "retired"))
    assert hub.call(ann, "GET", f"?limit=5{everything}").json["entries"] == []


def test_a_reviewer_who_may_not_read_the_tree_is_told_nothing_of_its_code(hub: Hub) -> None:
    ann, blind = hub.key("Ann", AUTHOR), hub.key("Cid", {Right.APPROVE})
    hub.call(ann, "POST", "", {"text": "Increment wraps.", "about": ["Increment"]})
    assert hub.call(blind, "GET", "").status == 403
    changed = str(COUNTER["src/counter.cc"]).replace("value_ += by;", "value_ += by + 0;")
    index_of(write_tree(hub.folder / "tree", {"src/counter.cc": changed}), hub.folder / "data")
    assert hub.call(blind, "POST", "/1/review", {"accept": True}).json["drift"] == []


def test_an_entry_of_another_workspace_is_answered_as_one_that_never_was(hub: Hub) -> None:
    ann, stranger = hub.key("Ann", AUTHOR), hub.key("Eve", set(Right), "other")
    hub.call(ann, "POST", "", {"text": "Increment wraps."})
    for method, path, body in (
        ("GET", "/1", None),
        ("POST", "/1/review", {"accept": True}),
        ("POST", "/1/retire", {}),
        ("POST", "/1/reaffirm", None),
    ):
        one, other = (hub.call(stranger, method, f"{path}?workspace={name}", body) for name in ("w", "v"))
        assert (one.status, one.body.replace(b"'w'", b"'v'")) == (other.status, other.body)
        assert one.status == 404


def test_a_query_that_is_no_text_sends_on_as_any_other(hub: Hub) -> None:
    key = hub.key("Ann", AUTHOR)
    navigates = (("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("accept", "text/html"))
    for headers, where in ((bearer(key), "/w/w/knowledge"), (navigates, "/login?next=")):
        reply = ask(hub.app, sent("GET", "/knowledge?\xed=1", headers))[0]
        assert (reply.status, reply["location"][: len(where)]) == (303, where)
