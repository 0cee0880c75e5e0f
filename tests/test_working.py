"""Jobs over HTTP: who may ask for which, what is told of them, and that a job of an unseen workspace is none."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.auth.model import ALL_WORKSPACES, Grant, Scope
from hub.jobs import JobKind, Jobs
from hub.jobs import running as running_module
from tests.support.served import WORKSPACE, Served, serving_state, settings_for
from tests.support.trees import COUNTER, index_of, write_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

# A child that waits until the file that its task's workspace names in its data folder is there, then says so.
_CHILD = r"""
import json, os, sys, time
told = json.loads(sys.stdin.buffer.readline())
def say(**words):
    sys.stdout.write(json.dumps(words) + "\n"); sys.stdout.flush()
say(stage="parse", done=1, total=2)
try:
    while not os.path.exists(os.path.join(told["settings"]["data"], "gate")):
        time.sleep(0.005)
except KeyboardInterrupt:
    say(error="Stopped.", hint="", kind="Cancelled"); sys.exit(130)
say(result={"workspace": told["task"]["workspace"], "folder": told["settings"]["data"]})
"""
JOBS = "/api/v1/jobs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose jobs wait for a gate. Its workspaces are ``w`` and ``hidden``."""
    folder = tmp_path_factory.mktemp("working")
    data = folder / "data"
    index_of(write_tree(folder / "tree", COUNTER), data)
    (data / "workspaces" / "hidden").mkdir()
    (data / "workspaces" / "hidden" / "workspace.json").write_text(json.dumps({"root": str(folder / "hidden")}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Jobs.__init__, "__defaults__", (*Jobs.__init__.__defaults__[:1], (sys.executable, "-ISc", _CHILD))
        )
        with serving_state(settings_for(data)) as running:
            yield running
            while _clients:
                _clients.popitem()[1].close()


@pytest.fixture(autouse=True)
def open_gate(server: Served) -> Iterator[Path]:
    """What a test leaves is over before the next one begins."""
    gate = server.state.settings.data / "gate"
    gate.unlink(missing_ok=True)
    yield gate
    gate.touch()
    for job in server.state.jobs.jobs():
        assert server.state.jobs.wait(job.id, 20, sys.maxsize).state.ended


_clients: dict[tuple[Scope, str], httpx.Client] = {}


@contextmanager
def client(server: Served, scope: Scope, workspace: str = WORKSPACE) -> Iterator[httpx.Client]:
    """A client whose key has one scope in one workspace; made once, since each key is written to the disk."""
    if (scope, workspace) not in _clients:
        _clients[scope, workspace] = server.keyed(Grant(workspace, frozenset({scope})))
    yield _clients[scope, workspace]


def posted(caller: httpx.Client, kind: str, workspace: str | None = WORKSPACE, **arguments: Any) -> httpx.Response:
    return caller.post(JOBS, json={"kind": kind, "workspace": workspace, "arguments": arguments})


def events_of(caller: httpx.Client, job: str) -> list[dict[str, Any]]:
    text = caller.get(f"{JOBS}/{job}/events").text
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_a_job_is_asked_for_followed_and_read(server: Served, open_gate: Path) -> None:
    with client(server, Scope.INGEST) as caller:
        reply = posted(caller, "index")
        assert reply.status_code == 202, reply.text
        job = reply.json()
        assert reply.headers["location"] == f"{JOBS}/{job['id']}"
        assert (job["kind"], job["workspace"], job["result"]) == ("index", WORKSPACE, None)
        version = -1
        while (told := caller.get(f"{JOBS}/{job['id']}", params={"wait_s": 20, "after": version}).json())[
            "stage"
        ] == "":
            version = told["version"]
        assert (told["state"], told["stage"], told["done"], told["total"]) == ("running", "parse", 1, 2)
        open_gate.touch()
        told_last = events_of(caller, job["id"])[-1]
        assert told_last["state"] == "done"
        assert told_last["result"] == {"workspace": WORKSPACE}  # the folder is for administrators
        assert told_last["asked_by"] == job["asked_by"] != ""
        listed = caller.get(JOBS).json()["jobs"]
        assert listed[0] == {**told_last, "result": None}
    assert server.client.get(f"{JOBS}/{job['id']}").json()["result"]["folder"] == str(server.state.settings.data)


def test_a_job_is_cancelled_and_resumed(server: Served, open_gate: Path) -> None:
    with client(server, Scope.INGEST) as caller, client(server, Scope.READ) as reader:
        job = posted(caller, "repair").json()["id"]
        assert reader.get(f"{JOBS}/{job}").status_code == 200
        assert reader.post(f"{JOBS}/{job}/cancel").status_code == 403
        assert caller.post(f"{JOBS}/{job}/cancel").status_code == 200
        assert events_of(caller, job)[-1]["state"] == "cancelled"
        assert reader.post(f"{JOBS}/{job}/resume").status_code == 403
        open_gate.touch()
        assert caller.post(f"{JOBS}/{job}/resume").json()["state"] == "queued"
        assert events_of(caller, job)[-1]["state"] == "done"
        assert caller.post(f"{JOBS}/{job}/resume").status_code == 409
    noted = [entry.action for entry in server.state.audit.entries(20, None) if entry.detail.get("job") == job]
    assert noted == ["job.resume", "job.cancel", "job.submit"]


_KINDS = [(kind.value, Scope.ADMIN if kind is JobKind.BACKUP else Scope.INGEST) for kind in JobKind]


@pytest.mark.parametrize(("kind", "needed"), _KINDS)
def test_each_kind_needs_its_scope(server: Served, open_gate: Path, kind: str, needed: Scope) -> None:
    open_gate.touch()
    for scope in Scope:
        where = ALL_WORKSPACES if needed is Scope.ADMIN else WORKSPACE
        with client(server, scope, where) as caller:
            assert posted(caller, kind).status_code == (202 if scope is needed else 403), scope


@pytest.mark.parametrize("kind", [kind.value for kind in JobKind])
def test_a_workspace_that_is_not_seen_is_told_as_one_that_is_not_there(server: Served, kind: str) -> None:
    with client(server, Scope.INGEST) as caller:
        replies = [
            posted(caller, kind, name, **arguments)
            for name in ("hidden", "nothing")
            for arguments in ({}, {"tree": "/etc"})
            if kind == "index" or not arguments
        ]
    texts = {reply.text.replace("hidden", "_").replace("nothing", "_") for reply in replies}
    assert len(texts) == 1, texts
    assert {reply.status_code for reply in replies} == {403 if kind == "backup" else 404}


def test_a_job_of_a_workspace_that_is_not_seen_is_none(server: Served, open_gate: Path) -> None:
    open_gate.touch()
    hidden = posted(server.client, "repair", "hidden").json()["id"]
    everywhere = posted(server.client, "repair", None).json()["id"]
    with client(server, Scope.INGEST) as caller, server.stranger() as stranger:
        assert {job["workspace"] for job in caller.get(JOBS).json()["jobs"]} <= {WORKSPACE}
        for job in (hidden, everywhere):
            for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resume")):
                seen = caller.request(method, f"{JOBS}/{job}{path}")
                there = caller.request(method, f"{JOBS}/{'0' * len(job)}{path}")
                assert (seen.status_code, seen.text.replace(job, "0" * len(job))) == (404, there.text)
                assert stranger.request(method, f"{JOBS}/{job}{path}").status_code == 401
    assert {job["id"] for job in server.client.get(JOBS).json()["jobs"]} >= {hidden, everywhere}


def test_a_tree_is_named_by_administrators_alone_and_settings_by_this_user_alone(
    server: Served, open_gate: Path, tmp_path: Path
) -> None:
    open_gate.touch()
    tree = write_tree(tmp_path / "New Tree", COUNTER)
    with client(server, Scope.INGEST) as caller:
        # Whether the folder is there or not.
        replies = [posted(caller, "index", None, tree=path) for path in (str(tree), "/nowhere/at/all")]
        assert {reply.status_code for reply in replies} == {403}
        assert len({reply.text for reply in replies}) == 1
        assert posted(caller, "index", settings={"embeddings": "none"}).status_code == 403
    assert posted(server.client, "index", None, tree=str(tree)).json()["workspace"] == "new-tree"
    assert posted(server.client, "index", None, tree="relative").status_code == 400
    assert posted(server.client, "index", "No Name", tree=str(tree)).status_code == 400
    assert posted(server.client, "index", settings={"embeddings": "none"}).status_code == 403
    with server.local() as local:
        assert posted(local, "index", settings={"embeddings": "none"}).status_code == 202
        assert posted(local, "index", settings={"data": "/elsewhere"}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "dance"},
        {"kind": "index", "more": 1},
        {"kind": "index", "workspace": "w", "arguments": {"tree": 1}},
        {"kind": "index", "workspace": "w", "arguments": {"tree": "/\0"}},
        {"kind": "calibrate", "workspace": "w", "arguments": {"limit": -1}},
        {"kind": "calibrate", "workspace": "w", "arguments": {"limit": "many"}},
        {"kind": "repair", "workspace": "w", "arguments": {"rebuild": "yes"}},
        {"kind": "repair", "workspace": "w" * 100},
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(server: Served, body: dict[str, Any]) -> None:
    reply = server.client.post(JOBS, json=body)
    assert reply.status_code in {400, 422}
    assert reply.json()["error"]


@pytest.mark.parametrize("path", ["/x", "/..%2f", "/" + "0" * 80, "/%00", "/0?wait_s=1000", "/0?after=-5"])
def test_odd_ids_and_times_are_refused(server: Served, path: str) -> None:
    assert server.client.get(JOBS + path).status_code in {400, 404, 422}


def test_a_full_queue_says_when_to_come_again(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "MOST_QUEUED", 1)
    assert posted(server.client, "repair", "hidden").status_code == 202
    replies = [posted(server.client, kind) for kind in ("repair", "index", "tune")]
    full = [reply for reply in replies if reply.status_code == 503]
    assert full
    assert all(int(reply.headers["retry-after"]) > 0 for reply in full)
