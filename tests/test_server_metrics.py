"""What the server tells of itself: figures, lines of its log and spans, each without a word of what users ask."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as some
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Scope
from hub.http_api import logs, metrics
from hub.http_api.app import application
from hub.http_api.guards.refusals import Reason
from hub.http_api.metrics import Metrics
from hub.http_api.serving import opened_state
from hub.http_api.state import State
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.support.asgi import Reply, ask, bearer, sent
from tests.support.served import settings_for
from tests.support.trees import COUNTER, write_tree

SECRET = "xyzzyplugh"  # what a user asks, which must not be told anywhere
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workspaces with the same small tree, in which a secret stands."""
    folder = tmp_path_factory.mktemp("figures")
    secret = "AKIA" + "IOSFODNN7EXAMPQR"  # as one of AWS looks, put together here
    files: dict[str, str | bytes] = {**COUNTER, "src/key.cc": f'const char* key = "{secret}";\n'}
    root, data = write_tree(folder / "tree", files), DataFolder(folder / "data")
    for name in ("alpha", "beta"):
        with data.owned(), Index.for_writing(data, name, root) as index:
            refresh(index, Options(workers=1), ())
    return data.path


@contextmanager
def server(data: Path, **changes: Any) -> Iterator[tuple[State, ASGIApp]]:
    """The whole application in this process, so that what follows a response has happened when a test looks."""
    with opened_state(settings_for(data, **changes)) as state:
        yield state, application(state)


@pytest.fixture(scope="module")
def running(data: Path) -> Iterator[tuple[State, ASGIApp]]:
    with server(data) as started:
        yield started


def key_of(state: State, *grants: Grant) -> tuple[tuple[str, str], ...]:
    return bearer(state.keys.create("tests", grants).text)


def everything(state: State) -> tuple[tuple[str, str], ...]:
    return key_of(state, Grant(ALL_WORKSPACES, frozenset(Scope)))


def figures(reply: Reply) -> Samples:
    assert reply.status == 200, reply.body
    assert reply["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode("utf-8"))
        for sample in family.samples
    }


def named(samples: Samples, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {labels: value for (other, labels), value in samples.items() if other == name}


# Figures


def test_requests_are_counted_by_the_template_of_their_route(running: tuple[State, ASGIApp]) -> None:
    state, app = running
    key = everything(state)
    before = figures(ask(app, sent("GET", "/metrics", key))[0])
    ask(
        app,
        sent("GET", f"/api/v1/search?query={SECRET}&workspace=alpha", key),
        sent("GET", "/api/v1/workspaces/alpha", key),
        sent("GET", "/api/v1/workspaces/beta", key),
        sent("GET", f"/{SECRET}", key),
        sent("GET", "/api/v1/whoami"),
        sent(SECRET.upper(), "/api/v1/whoami", key),
    )
    after = figures(ask(app, sent("GET", "/metrics", key))[0])
    counted = {
        labels: value - before.get(("codehub_http_requests_total", labels), 0)
        for labels, value in named(after, "codehub_http_requests_total").items()
        if value != before.get(("codehub_http_requests_total", labels), 0)
    }
    of = {(dict(labels)["method"], dict(labels)["route"], dict(labels)["status"]): n for labels, n in counted.items()}
    assert of[("GET", "/api/v1/search", "200")] == 1
    assert of[("GET", "/api/v1/workspaces/{workspace}", "200")] == 2
    assert of[("GET", "other", "404")] == 1
    assert of[("GET", "other", "401")] == 1, "whoever is not let in is told apart by no route"
    assert of[("GET", "/metrics", "200")] == 1
    assert {method for method, _, _ in of} == {"GET", "OTHER"}
    assert after["codehub_http_requests_at_work", ()] == 1
    seconds = named(after, "codehub_http_request_seconds_count")
    assert seconds[("method", "GET"), ("route", "/api/v1/search")] >= 1


def test_no_figure_and_no_label_holds_what_was_asked(running: tuple[State, ASGIApp]) -> None:
    state, app = running
    key = everything(state)
    ask(
        app,
        sent("GET", f"/api/v1/search?query={SECRET}&workspace=alpha", key),
        sent("POST", "/api/v1/ask", key, {"question": f"What is {SECRET}?", "workspace": "alpha"}),
        sent("GET", f"/api/v1/search?query=x&workspace={SECRET}", key),
        sent("GET", f"/api/v1/jobs/{SECRET}", key),
        sent("GET", f"/{SECRET}/{SECRET}", key),
    )
    assert SECRET.encode() not in ask(app, sent("GET", "/metrics", key))[0].body


def test_searches_answers_and_tokens_are_counted_by_workspace(running: tuple[State, ASGIApp]) -> None:
    state, app = running
    key = everything(state)
    ask(
        app,
        sent("GET", "/api/v1/search?query=increment&workspace=beta", key),
        sent("POST", "/api/v1/ask", key, {"question": "Where is app::Counter defined?", "workspace": "beta"}),
    )
    found = figures(ask(app, sent("GET", "/metrics", key))[0])
    assert found["codehub_retrieval_seconds_count", (("workspace", "beta"),)] >= 1
    assert found["codehub_hits_total", (("workspace", "beta"),)] >= 1
    tiers = {dict(labels)["tier"] for labels in named(found, "codehub_answers_total")}
    assert tiers <= {"exact", "rag", "wide", "focus", "full", "analysis", "none"}
    assert tiers
    assert {dict(labels)["direction"] for labels in named(found, "codehub_tokens_total")} == {
        "read",
        "cached",
        "written",
    }


def test_the_freshness_and_size_of_each_index_is_told(running: tuple[State, ASGIApp], data: Path) -> None:
    state, app = running
    found = figures(ask(app, sent("GET", "/metrics", everything(state)))[0])
    for workspace in ("alpha", "beta"):
        of = (("workspace", workspace),)
        assert found["codehub_index_readable", of] == 1
        assert found["codehub_index_files", of] == len(COUNTER) + 1
        assert found["codehub_index_changed_files", of] == 0
        assert found["codehub_index_secrets", of] == 1
        assert found["codehub_index_bytes", of] > 0
        assert found["codehub_index_indexed_at_seconds", of] > 1.5e9
    assert found["process_resident_memory_bytes", ()] > 1e6
    assert found["process_open_fds", ()] > 3
    assert found["codehub_streams", ()] == 0
    assert found["codehub_ram_total_bytes", ()] > 1e6


def test_an_index_is_looked_at_again_only_after_a_while(
    running: tuple[State, ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = running
    looked: list[str] = []
    monkeypatch.setattr(metrics, "_figures", lambda _state, name: looked.append(name) or {"readable": 1.0})
    own = Metrics()
    for now in (1_000.0, 1_029.0, 1_030.0, 900.0):
        own.text(state, LOCAL, now)
    assert looked == ["alpha", "beta"] * 3, "anew after half a minute, and when the clock went back"
    own.close()


def test_an_index_that_cannot_be_read_is_told_as_that(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    with folder.owned(), Index.for_writing(folder, "w", write_tree(tmp_path / "tree", COUNTER)) as index:
        refresh(index, Options(workers=1), ())
    with server(folder.path) as (state, app):
        file = folder.workspace_folder("w") / "index.db"
        file.write_bytes(b"no index " * 1_000)
        found = figures(ask(app, sent("GET", "/metrics", everything(state)))[0])
    assert found["codehub_index_readable", (("workspace", "w"),)] == 0
    assert ("codehub_index_files", (("workspace", "w"),)) not in found


def test_refusals_are_counted_by_their_reason(data: Path) -> None:
    with server(data) as (state, app):
        key = everything(state)
        ask(
            app,
            sent("GET", "/api/v1/whoami"),
            sent("GET", "/api/v1/whoami", (*key, ("host", "evil.example"))),
            sent("GET", "/api/v1/keys", key_of(state, Grant("alpha", frozenset({Scope.READ})))),
        )
        state.metrics.refused("a reason of tomorrow")
        found = figures(ask(app, sent("GET", "/metrics", key))[0])
    counted = {
        dict(labels)["reason"]: value for labels, value in named(found, "codehub_refused_total").items() if value
    }
    assert counted == {"key": 1, "host": 1, "scope": 1, "other": 1}


def test_every_reason_of_the_doors_is_counted_as_itself() -> None:
    assert {reason.value for reason in Reason} == metrics.REASONS - {"other"}


# Who may know what


def test_metrics_need_a_key(running: tuple[State, ASGIApp]) -> None:
    (reply,) = ask(running[1], sent("GET", "/metrics"))
    assert reply.status == 401
    assert b"codehub_" not in reply.body


def test_metrics_that_are_open_need_none_and_tell_everything(data: Path) -> None:
    with server(data, server_metrics="open") as (_, app):
        found = figures(ask(app, sent("GET", "/metrics"))[0])
    assert {"alpha", "beta"} == {dict(labels)["workspace"] for labels in named(found, "codehub_index_readable")}
    assert ("process_open_fds", ()) in found


@pytest.mark.parametrize("scope", Scope)
def test_a_key_of_one_workspace_learns_nothing_of_others_or_of_the_server(
    running: tuple[State, ASGIApp], scope: Scope
) -> None:
    state, app = running
    key = everything(state)
    ask(
        app,
        *(sent("GET", f"/api/v1/search?query=counter&workspace={name}", key) for name in ("alpha", "beta")),
        sent("POST", "/api/v1/ask", key, {"question": "Where is app::Counter defined?", "workspace": "beta"}),
    )
    (reply,) = ask(app, sent("GET", "/metrics", key_of(state, Grant("alpha", frozenset({scope})))))
    found = figures(reply)
    assert found
    assert {dict(labels).get("workspace") for _, labels in found} == {"alpha"}
    assert b"beta" not in reply.body
    for line in reply.body.decode().splitlines():
        assert line.startswith("#") or 'workspace="alpha"' in line


def test_a_key_of_a_workspace_that_is_not_there_learns_nothing(running: tuple[State, ASGIApp]) -> None:
    state, app = running
    (reply,) = ask(app, sent("GET", "/metrics", key_of(state, Grant("gamma", frozenset(Scope)))))
    assert (reply.status, reply.body) == (200, b"")


@settings(max_examples=20, deadline=None)
@given(some.lists(some.text(max_size=20), max_size=40))
def test_the_number_of_routes_is_bounded_and_the_text_can_be_read(routes: list[str]) -> None:
    own = Metrics()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "MOST_ROUTES", 5)
        for route in routes:
            own.requested("GET", route, 200, 0.01)
    counted = {
        sample.labels["route"]
        for family in own._registry.collect()
        for sample in family.samples
        if "route" in sample.labels
    }
    assert len(counted) <= 6
    own.close()


# Lines of the log


@contextmanager
def logged(how: str) -> Iterator[io.StringIO]:
    """What is logged meanwhile; how the loggers were set comes back afterwards."""
    names = ("codehub", "uvicorn", "uvicorn.error", "uvicorn.access", "fastapi")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers, logger.level, logger.propagate, logger.disabled) for logger in loggers]
    stream = io.StringIO()
    logs.configure(how, stream)
    try:
        yield stream
    finally:
        for logger, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)


def test_a_request_is_one_line_with_what_was_called_and_how_it_went(running: tuple[State, ASGIApp]) -> None:
    state, app = running
    principal = state.keys.create("tests", [Grant("alpha", frozenset({Scope.READ}))])
    key = bearer(principal.text)
    with logged("json") as stream:
        (reply,) = ask(app, sent("GET", f"/api/v1/search?query={SECRET}&workspace=alpha", key))
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told.pop("seconds") >= 0
    assert told == {
        "level": "info",
        "logger": "codehub.access",
        "message": "request",
        "id": reply["x-request-id"],
        "method": "GET",
        "route": "/api/v1/search",
        "status": 200,
        "bytes": len(reply.body),
        "key": principal.record.key_id,
        "workspace": "alpha",
    }


@pytest.mark.parametrize("how", ["text", "json"])
def test_no_line_holds_what_was_asked_or_a_key(running: tuple[State, ASGIApp], how: str) -> None:
    state, app = running
    made = state.keys.create("tests", [Grant(ALL_WORKSPACES, frozenset(Scope))])
    key = bearer(made.text)
    with logged(how) as stream:
        ask(
            app,
            sent("GET", f"/api/v1/search?query={SECRET}&workspace=alpha", key),
            sent("GET", f"/api/v1/search?query=x&workspace={SECRET}", key),
            sent("POST", "/api/v1/ask", key, {"question": f"What is {SECRET}?", "workspace": "alpha"}),
            sent("POST", "/api/v1/search", key, SECRET.encode()),
            sent("GET", f"/{SECRET}", key),
            sent("GET", "/api/v1/whoami", bearer(made.text[:-1] + SECRET[0])),
            sent("GET", "/api/v1/whoami", (*key, ("user-agent", SECRET), ("referer", f"https://{SECRET}"))),
        )
    assert len(stream.getvalue().splitlines()) == 7
    assert SECRET not in stream.getvalue()
    assert made.text.split("_")[2] not in stream.getvalue()


def test_a_request_keeps_the_name_that_a_proxy_gave_it_and_no_other(running: tuple[State, ASGIApp]) -> None:
    state, app = running
    key = everything(state)
    names = ["a-1.B_2", "", "x" * 65, "two words", "a\tb", 'a"b', "a=b", "-", "é"]
    with logged("text") as stream:
        replies = ask(
            app,
            *(sent("GET", "/livez", (*key, ("x-request-id", name))) for name in names),
            sent("GET", "/livez", (*key, ("x-request-id", "a"), ("x-request-id", "b"))),
            sent("GET", "/nothing"),
        )
    given_back = [reply["x-request-id"] for reply in replies]
    assert given_back[0] == "a-1.B_2"
    for made in given_back[1:]:
        assert re.fullmatch(r"[0-9a-f]{16}", made)
    assert len(set(given_back)) == len(replies)
    lines = stream.getvalue().splitlines()
    assert [re.findall(r" id=(\S+) ", line) for line in lines] == [[made] for made in given_back]


def test_an_error_is_told_by_its_kind_and_place_without_its_message() -> None:
    app = FastAPI()

    @app.get("/broken/{what}")
    def broken(what: str) -> None:
        try:
            len({}[what])
        except KeyError as error:
            raise ValueError(f"cannot do {what}") from error

    with logged("json") as stream:
        try:
            ask(logs.watched(app, Metrics()), sent("GET", f"/broken/{SECRET}"))
        except ValueError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    access, error_line = map(json.loads, stream.getvalue().splitlines())
    assert (access["route"], access["status"]) == ("/broken/{what}", 500)
    assert error_line["error"] == "ValueError"
    assert re.search(r"^ValueError: \S*test_server_metrics\.py:\d+ broken < ", error_line["at"])
    assert "| caused by KeyError: " in error_line["at"]
    assert SECRET not in stream.getvalue()


@settings(max_examples=100, deadline=None)
@given(some.text(some.characters()), some.dictionaries(some.sampled_from("abc"), some.text(some.characters())))
def test_a_record_is_one_line_of_ascii_whatever_it_holds(message: str, fields: dict[str, str]) -> None:
    record = logging.LogRecord("codehub.server", logging.WARNING, "", 0, message.replace("%", ""), (), None)
    record.fields = fields
    for json_lines in (True, False):
        line = logs._Lines(json_lines=json_lines).format(record)
        assert len(line.splitlines()) == 1
    assert json.loads(logs._Lines(json_lines=True).format(record))["message"] == message.replace("%", "")


def test_the_figures_count_a_client_that_leaves_before_there_is_a_status() -> None:
    async def silent(_scope: Any, _receive: Callable[[], Any], _send: Callable[[Any], Any]) -> None:
        return

    own = Metrics()
    with logged("text") as stream:
        (reply,) = ask(logs.watched(silent, own), sent("GET", "/x"))
    assert reply.status == 0
    assert " status=gone " in stream.getvalue()
    assert own._requests.labels("GET", "other", "gone")._value.get() == 1
    own.close()


# OpenTelemetry


def test_spans_and_their_figures_hold_routes_and_nothing_that_was_asked(
    running: tuple[State, ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, _ = running
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    told = {"tracer_provider": provider, "meter_provider": MeterProvider([reader])}
    monkeypatch.setattr(logs, "TELEMETRY", {**logs.TELEMETRY, **told})
    app = application(state)
    key = everything(state)
    replies = ask(
        app,
        sent("GET", f"/api/v1/search?query={SECRET}&workspace=alpha", key),
        sent("GET", f"/api/v1/symbol?name={SECRET}&workspace=alpha", key),
        sent("POST", "/api/v1/ask", key, {"question": f"What is {SECRET}?", "workspace": "alpha"}),
        sent("GET", f"/api/v1/jobs/{SECRET}", key),
        sent("GET", f"/{SECRET}?{SECRET}", key),
        sent("GET", f"/api/v1/search?limit={SECRET}", key),
    )
    assert [reply.status for reply in replies] == [200, 200, 200, 422, 404, 422]
    spans: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
    routes = {(span.attributes or {}).get("http.route") for span in spans}
    assert {"/api/v1/search", "/api/v1/symbol", "/api/v1/ask", "/api/v1/jobs/{job_id}"} <= routes
    content = "".join(span.to_json() for span in spans) + str(reader.get_metrics_data())
    assert "http.server.request.duration" in content
    assert SECRET not in content
    assert "alpha" not in content


def test_an_exception_is_told_to_telemetry_without_its_message() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = FastAPI(telemetry={**logs.TELEMETRY, "tracer_provider": provider})

    @app.get("/broken/{what}")
    def broken(what: str) -> None:
        raise ValueError(f"cannot do {what}")

    with pytest.raises(ValueError, match="cannot do"):
        ask(logs.traced(app), sent("GET", f"/broken/{SECRET}"))
    content = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert '"error.type": "ValueError"' in content
    assert SECRET not in content


def test_the_routes_see_what_telemetry_does_not() -> None:
    app = FastAPI()
    seen: list[tuple[str, str]] = []

    @app.get("/things/{what}")
    def thing(what: str, more: str) -> None:
        seen.append((what, more))

    ask(logs.traced(app), sent("GET", "/things/one?more=two"))
    assert seen == [("one", "two")]
