"""The server's own routes over real HTTP: lookups, streams of answers, health, errors, and clients that misbehave."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub import errors as hub_errors
from hub import shapes
from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Scope
from hub.http_api import errors
from hub.service import Page, Service
from hub.shapes import Json
from hub.workspaces import MOST_IDLE
from indexer import errors as indexer_errors
from indexer.index import Reach
from tests.support.scripted_server import CHAT, DONE, Reply, ScriptedServer, counts, event, prompt_tokens, stream, vllm
from tests.support.served import BOUND_S, WORKSPACE, Served, served, until
from tests.support.trees import COUNTER

MODEL = "Qwen/Qwen3-8B"
QUESTION = "What does Counter::Increment do?"
ASK = "/api/v1/ask"
WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau".split()
STREAMS = 104


@dataclass
class Scripted:
    """A model that writes what the test says, and a server that asks it."""

    model: ScriptedServer
    hub: Served
    script: Callable[[Any], Reply] = field(default=lambda body: written(body))  # noqa: PLW0108 - it stands below

    def ask(self, **more: Any) -> Json:
        return {"question": QUESTION, "tier": "rag", "stream": True, **more}


def written(body: Any, sentences: int = len(WORDS)) -> Reply:
    """So many sentences that stand on the first piece of evidence."""
    parts = [
        part for word in WORDS[:sentences] for part in ("Counter", " adds", f" {word}", " to it", " [1]", ".", " ")
    ]
    return stream(*map(event, parts), event(finish="stop"), counts(prompt_tokens(body), len(parts)), DONE)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    place = tmp_path_factory.mktemp("scripted")
    with ScriptedServer(vllm(16_384)) as model:
        made: list[Scripted] = []
        model.answers[CHAT] = lambda body: made[0].script(body)  # noqa: PLW0108 - tests change it
        with served(place, **changes_for(model.url, server_streams=STREAMS)) as hub:
            made.append(Scripted(model, hub))
            yield made[0]


@pytest.fixture
def asked(scripted: Scripted) -> Iterator[Scripted]:
    scripted.script = written
    scripted.model.gave_up.clear()
    yield scripted
    until(lambda: scripted.hub.state.streams.count == 0)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, Json]]:
    """The events of a stream, comments left out."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def whole_stream(client: httpx.Client, body: Json) -> list[tuple[str, Json]]:
    with client.stream("POST", ASK, json=body) as response:
        assert response.status_code == 200, response.read()
        return list(events_of(response.iter_lines()))


def text_of(told: list[tuple[str, Json]]) -> str:
    """What counts of the pieces: those after the last move."""
    last = max((number for number, (name, _) in enumerate(told) if name == "moved"), default=-1)
    return "".join(content["text"] for name, content in told[last + 1 :] if name == "piece")


# Lookups

LOOKUPS: tuple[tuple[str, Json, Callable[[Service], Json]], ...] = (
    ("search", {"query": "adds to the value"}, lambda s: shapes.search_shape(s.search("adds to the value", 10))),
    ("symbol", {"name": "Increment"}, lambda s: shapes.found_shape(s.find("Increment", Page(20)), 0)),
    ("references", {"name": "Counter"}, lambda s: shapes.relations_shape(s.references("Counter", Page(100)))),
    (
        "callers",
        {"name": "Increment", "depth": 2},
        lambda s: shapes.relations_shape(s.callers("Increment", Reach(2), Page(100))),
    ),
    ("callees", {"name": "main"}, lambda s: shapes.relations_shape(s.callees("main", Reach(), Page(100)))),
    ("hierarchy", {"name": "Counter"}, lambda s: shapes.hierarchy_shape(s.hierarchy("Counter"))),
    ("overrides", {"name": "Increment"}, lambda s: shapes.overrides_shape(s.overrides("Increment", Page(100)))),
    ("includes", {"file": "main.cc"}, lambda s: shapes.includes_shape(s.includes("main.cc", 1, Page(100)))),
    ("included-by", {"file": "counter.h"}, lambda s: shapes.includes_shape(s.included_by("counter.h", 1, Page(100)))),
    ("history", {"name": "Counter"}, lambda _: shapes.history_shape((), 0, 0)),
    ("impact", {"name": "Increment"}, lambda s: shapes.impact_shape(s.impact_of(["Increment"], 3), 100)),
)


@pytest.mark.parametrize(("route", "parameters", "expected"), LOOKUPS, ids=[row[0] for row in LOOKUPS])
def test_a_lookup_answers_what_the_service_says(
    scripted: Scripted, route: str, parameters: Json, expected: Callable[[Service], Json]
) -> None:
    answer = scripted.hub.client.get(f"/api/v1/{route}", params={**parameters, "workspace": WORKSPACE})
    with scripted.hub.state.workspaces.opened(LOCAL, WORKSPACE) as service:
        said = {**expected(service), "stamp": shapes.stamp_shape(service.stamp())}
        assert answer.json() == json.loads(json.dumps(said))
    assert answer.status_code == 200


def test_posts_answer_as_gets_do(scripted: Scripted) -> None:
    client = scripted.hub.client
    searched = client.post("/api/v1/search", json={"query": "adds to the value"}).json()
    assert searched == client.get("/api/v1/search", params={"query": "adds to the value"}).json()
    diff = "--- a/src/counter.cc\n+++ b/src/counter.cc\n@@ -7 +7 @@\n-  value_ += by;\n+  value_ += by;\n"
    changed = client.post("/api/v1/impact", json={"diff": diff}).json()
    assert [entry["qualified_name"] for entry in changed["changed"]] == ["app::Counter::Increment"]


def test_the_lines_of_a_file_are_given_as_they_were_indexed(scripted: Scripted) -> None:
    text = str(COUNTER["src/counter.cc"])
    client = scripted.hub.client
    whole = client.get("/api/v1/source", params={"path": "src/counter.cc"}).json()
    assert set(whole.pop("stamp")) == {"commit", "dirty", "indexed_at", "behind"}
    assert whole == {"path": "src/counter.cc", "first_line": 1, "last_line": 10, "text": text}
    part = client.get("/api/v1/source", params={"path": "src/counter.cc", "first_line": 6, "last_line": 8}).json()
    assert part["text"] == "".join(text.splitlines(keepends=True)[5:8])
    assert client.get("/api/v1/source", params={"path": "../tree/src/counter.cc"}).status_code == 404
    assert client.get("/api/v1/source", params={"path": "src/counter.cc", "first_line": 99}).status_code == 404


def test_an_export_has_every_symbol_and_edge(scripted: Scripted) -> None:
    lines = [json.loads(line) for line in scripted.hub.client.get("/api/v1/export").text.splitlines()]
    with scripted.hub.state.workspaces.reading(LOCAL, WORKSPACE) as index:
        symbols = list(index.facts.all_symbols())
        edges = [*index.facts.all_edges(), *index.graph.lineage.all_overrides()]
    assert lines == json.loads(json.dumps(list(shapes.export_shapes(symbols, edges))))


def test_who_asks_is_told_what_is_granted(scripted: Scripted) -> None:
    with scripted.hub.keyed(Grant(WORKSPACE, frozenset({Scope.READ})), owner="Ada") as client:
        told = client.get("/api/v1/whoami").json()
        assert told["owner"] == "Ada"
        assert told["grants"] == [{"workspace": WORKSPACE, "scopes": ["read"]}]
        assert [entry["name"] for entry in client.get("/api/v1/workspaces").json()["workspaces"]] == [WORKSPACE]
    with scripted.hub.keyed(Grant("other", frozenset({Scope.READ}))) as client:
        assert client.get("/api/v1/workspaces").json() == {"workspaces": []}


def test_a_key_without_the_scope_is_refused_and_one_without_sight_is_told_nothing(scripted: Scripted) -> None:
    with scripted.hub.keyed(Grant(WORKSPACE, frozenset({Scope.INGEST}))) as client:
        for route, parameters, _ in LOOKUPS:
            assert client.get(f"/api/v1/{route}", params=parameters).status_code == 403, route
        assert client.post(ASK, json=scripted.ask()).status_code == 403
    with scripted.hub.keyed(Grant("other", frozenset({Scope.READ}))) as client:
        for name in (WORKSPACE, "missing"):
            answer = client.post(ASK, json=scripted.ask(workspace=name))
            assert answer.status_code == 404
            assert answer.json()["error"] == f"There is no workspace {name!r}."


def test_the_plan_is_that_of_the_catalogue_and_of_no_file(scripted: Scripted, tmp_path: Path) -> None:
    client = scripted.hub.client
    one = client.get(
        "/api/v1/plan", params={"model": "qwen3-coder:30b", "gpu": "RTX 4080 16GB", "ram": "32GB", "context": "8K"}
    ).json()
    assert one["model"]["name"] == "qwen3-coder:30b"
    assert one["rows"]
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    for name in (str(tmp_path / "model.gguf"), "no such model"):
        assert client.get("/api/v1/plan", params={"model": name}).status_code == 400


# Freshness and health


def test_a_workspace_tells_how_far_its_tree_has_moved_on(tmp_path: Path) -> None:
    with served(tmp_path) as hub:
        told = hub.client.get(f"/api/v1/workspaces/{WORKSPACE}").json()
        assert (told["name"], told["files"], told["changed_files"]) == (WORKSPACE, 4, 0)
        assert told["behind_s"] is None
        (tmp_path / "tree" / "src" / "main.cc").write_text("int main() {}\n", encoding="utf-8")
        assert hub.client.get(f"/api/v1/workspaces/{WORKSPACE}").json()["changed_files"] == 1


def test_health_needs_no_key_and_says_nothing_but_whether(tmp_path: Path) -> None:
    with served(tmp_path) as hub, hub.stranger() as client:
        assert client.get("/livez").json() == {"status": "ok"}
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        (tmp_path / "data" / "workspaces" / WORKSPACE / "index.db").write_bytes(b"no database at all, " * 500)
        broken = client.get("/readyz")
        assert (broken.status_code, broken.json()["error"]) == (503, "An index cannot be opened.")
        assert "retry-after" in broken.headers
        assert client.get("/livez").status_code == 200


# Errors


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for inner in kind.__subclasses__():
        if inner.__module__ in (hub_errors.__name__, indexer_errors.__name__):
            yield from subclasses(inner)


@pytest.mark.parametrize("base", [hub_errors.HubError, indexer_errors.IndexerError])
def test_every_error_has_a_status_and_every_kind_next_to_the_root_was_thought_of(base: type[Exception]) -> None:
    for kind in subclasses(base):
        assert errors.status_of(kind("Sentence.", "Hint.")) in range(400, 504)
    for kind in base.__subclasses__():
        if kind.__module__ in (hub_errors.__name__, indexer_errors.__name__):
            assert kind in errors.STATUSES, kind


def test_what_is_wrong_in_the_data_folder_is_told_to_administrators_alone(tmp_path: Path) -> None:
    with served(tmp_path) as hub, hub.keyed(Grant(WORKSPACE, frozenset({Scope.READ}))) as client:
        with hub.state.workspaces.reading(LOCAL, WORKSPACE):
            pass
        hub.state.workspaces.sweep()
        (tmp_path / "data" / "workspaces" / WORKSPACE / "index.db").write_bytes(b"no database at all, " * 500)
        (tmp_path / "data" / "workspaces" / WORKSPACE / "index.db").rename(tmp_path / "kept")
        (tmp_path / "kept").rename(tmp_path / "data" / "workspaces" / WORKSPACE / "index.db")
        ours, theirs = (each.get("/api/v1/symbol", params={"name": "x"}) for each in (hub.client, client))
        assert (ours.status_code, theirs.status_code) == (503, 503)
        assert str(tmp_path) in ours.json()["error"]
        assert str(tmp_path) not in theirs.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/api/v1/search", None, 405),
        ("GET", "/api/v1/search", None, 422),
        ("GET", "/api/v1/search?query=x&limit=many", None, 422),
        ("GET", "/api/v1/symbol?name=x&match=wild", None, 422),
        ("GET", "/api/v1/symbol?name=(&match=regex", None, 400),
        ("POST", ASK, {"question": ""}, 422),
        ("POST", ASK, {"question": "x", "tier": "deepest"}, 422),
        ("POST", ASK, {"question": "x", "unknown": 1}, 422),
        ("GET", "/docs", None, 404),
        ("GET", "/redoc", None, 404),
    ],
)
def test_every_error_is_one_sentence_and_a_way_out(
    scripted: Scripted, method: str, path: str, body: Json | None, status: int
) -> None:
    answer = scripted.hub.client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "hint"}
    assert answer.json()["error"]


def test_text_that_no_store_could_take_is_mended(scripted: Scripted) -> None:
    headers = {"content-type": "application/json"}
    client = scripted.hub.client
    assert client.post("/api/v1/search", content=b'{"query": "\\ud800"}', headers=headers).json()["query"] == "?"
    assert client.post("/api/v1/search", content=b'{"query": "a\\u0000b"}', headers=headers).json()["query"] == "a b"
    assert client.get("/api/v1/search?query=%ff%00").json()["query"] == "\ufffd "


# Answers


def test_the_pieces_joined_are_the_text_and_the_answer_comes_last(asked: Scripted) -> None:
    told = whole_stream(asked.hub.client, asked.ask())
    names = [name for name, _ in told]
    assert names[:2] == ["found", "reading"]
    assert names.count("piece") > 5
    assert names[-1] == "answer"
    assert text_of(told) == told[-1][1]["answer"]
    assert told[-1][1]["citations"]


def test_an_answer_in_one_is_the_one_that_is_streamed(asked: Scripted) -> None:
    in_one = asked.hub.client.post(ASK, json=asked.ask(stream=False)).json()
    streamed = whole_stream(asked.hub.client, asked.ask())[-1][1]
    assert {**in_one, "seconds": 0, "attempts": []} == {**streamed, "seconds": 0, "attempts": []}


def test_a_header_asks_for_a_stream_too(asked: Scripted) -> None:
    headers = {"accept": "text/event-stream"}
    answer = asked.hub.client.post(ASK, json=asked.ask(stream=False, tier="exact"), headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"


def test_a_hundred_streams_at_once_lose_nothing_and_leave_nothing_open(asked: Scripted) -> None:
    hub, together = asked.hub, threading.Barrier(100)
    asked.script = lambda body: written(body, 4)
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
    with httpx.Client(base_url=hub.url, headers=hub.client.headers, timeout=100, limits=limits) as client:

        def ask(_number: int) -> list[tuple[str, Json]]:
            together.wait(60)
            return whole_stream(client, asked.ask())

        before = len(list(Path("/proc/self/fd").iterdir()))
        with ThreadPoolExecutor(100) as threads:
            answers = list(threads.map(ask, range(100)))
    assert all(told[-1][0] == "answer" for told in answers)
    assert all(text_of(told) == told[-1][1]["answer"] for told in answers)
    until(lambda: hub.state.streams.count == 0)
    # A few services stay, each with its database and journal; and SQLite keeps the files of those that were closed, one
    # for each, to use them again, since closing one would drop the locks of the others.
    until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 100 + 4 * MOST_IDLE)


def test_more_streams_than_there_may_be_are_refused_while_a_search_is_answered(tmp_path: Path) -> None:
    go_on = threading.Event()

    def wait(body: Any) -> Reply:
        go_on.wait(BOUND_S)
        return written(body)

    with ScriptedServer({**vllm(16_384), CHAT: wait}) as model:
        body = {"question": QUESTION, "tier": "rag", "stream": True}
        with (
            served(tmp_path, **changes_for(model.url, server_streams=1)) as hub,
            hub.keyed(Grant(ALL_WORKSPACES, frozenset({Scope.READ}))) as other,
            hub.client.stream("POST", ASK, json=body) as first,
        ):
            assert first.status_code == 200
            refused = other.post(ASK, json=body)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert other.get("/api/v1/search", params={"query": "value"}).status_code == 200
            go_on.set()
            assert list(events_of(first.iter_lines()))[-1][0] == "answer"


@contextmanager
def begun(asked: Scripted) -> Iterator[Iterator[tuple[str, Json]]]:
    """A stream whose first event was seen."""
    with asked.hub.client.stream("POST", ASK, json=asked.ask()) as response:
        told = events_of(response.iter_lines())
        assert next(told)[0] == "found"
        yield told


def changes_for(url: str, **more: Any) -> dict[str, Any]:
    return {"backend": "openai", "openai_url": url, "openai_model": MODEL, **more}


def test_a_client_that_leaves_in_the_middle_ends_its_answer(asked: Scripted) -> None:
    def endless(_body: Any) -> Reply:
        def parts() -> Iterator[bytes]:
            yield b"".join(event(f"Counter adds {word} to it [1]. ").encode() + b"\n\n" for word in WORDS)
            while not asked.model.gave_up.wait(0.002):
                yield b": still here\n\n"

        return Reply(parts(), kind="text/event-stream")

    asked.script = endless
    with begun(asked) as told:
        assert "piece" in (name for name, _ in told)
    until(lambda: asked.hub.state.streams.count == 0)
    assert asked.model.gave_up.wait(BOUND_S), "the model was left writing"


def test_a_client_that_leaves_while_the_model_reads_ends_its_answer(asked: Scripted) -> None:
    silent = threading.Event()

    def read(body: Any) -> Reply:
        silent.wait(BOUND_S)
        return written(body)

    asked.script = read
    with begun(asked):
        until(lambda: asked.model.paths()[-1] == CHAT)
    until(lambda: asked.hub.state.streams.count == 0)
    assert not silent.is_set()
    silent.set()


def test_a_client_that_leaves_before_an_answer_in_one_ends_it(asked: Scripted) -> None:
    silent = threading.Event()

    def read(body: Any) -> Reply:
        silent.wait(BOUND_S)
        return written(body)

    asked.script = read
    with pytest.raises(httpx.ReadTimeout):
        asked.hub.client.post(ASK, json=asked.ask(stream=False), timeout=0.5)
    until(lambda: asked.hub.state.streams.count == 0)
    silent.set()


def test_a_model_that_is_away_leaves_the_evidence_and_the_server_goes_on(tmp_path: Path) -> None:
    with ScriptedServer() as gone:
        url = gone.url
    with served(tmp_path, **changes_for(url)) as hub:
        answer = hub.client.post(ASK, json={"question": QUESTION, "tier": "rag"})
        assert answer.status_code == 200
        assert "value_ += by" in answer.json()["answer"]
        assert any("answers at" in note for note in answer.json()["notes"])
        deep = hub.client.post(ASK, json={"question": QUESTION, "tier": "full"})
        assert deep.status_code == 502
        streamed = whole_stream(hub.client, {"question": QUESTION, "tier": "full", "stream": True})
        assert streamed == [("error", deep.json())]


def test_a_stream_that_is_open_when_the_server_stops_ends_with_a_word(tmp_path: Path) -> None:
    silent = threading.Event()

    def read(body: Any) -> Reply:
        silent.wait(BOUND_S)
        return written(body)

    with ScriptedServer({**vllm(16_384), CHAT: read}) as model:
        try:
            with served(tmp_path, **changes_for(model.url)) as hub:
                body = {"question": QUESTION, "tier": "rag", "stream": True}
                with hub.client.stream("POST", ASK, json=body) as response:
                    told = events_of(response.iter_lines())
                    assert next(told)[0] == "found"
                    hub.server.handle_exit(15, None)
                    last = list(told)[-1]
                assert last == ("error", {"error": "The server is stopping.", "hint": "Ask again in a moment."})
        finally:
            silent.set()


# The document


def test_every_route_is_described_with_its_answers_and_errors(scripted: Scripted) -> None:
    document = scripted.hub.client.get("/openapi.json").json()
    mine = {"reading", "asking", "overview", "health"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), f"{method} {path}"
            if not mine & set(operation.get("tags", ())) or path == "/metrics":
                continue
            assert "200" in operation["responses"], f"{method} {path}"
            for content in operation["responses"]["200"]["content"].values():
                assert "example" in content, f"{method} {path}"
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema["$ref"].endswith("ErrorShape"), f"{method} {path} {status}"
    assert document["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    assert document["security"] == [{"key": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []


def test_the_examples_of_the_document_have_the_keys_of_real_answers(scripted: Scripted) -> None:
    document = scripted.hub.client.get("/openapi.json").json()
    for route, parameters, _ in LOOKUPS:
        described = document["paths"][f"/api/v1/{route}"]["get"]["responses"]["200"]["content"]["application/json"]
        real = scripted.hub.client.get(f"/api/v1/{route}", params=parameters).json()
        assert set(described["example"]) == set(real), route
    described = document["paths"]["/api/v1/workspaces/{workspace}"]["get"]["responses"]["200"]["content"]
    real = scripted.hub.client.get(f"/api/v1/workspaces/{WORKSPACE}").json()
    assert set(described["application/json"]["example"]) == set(real)
