"""The OpenAPI document is true: what it says of every route is tried against the application, in this process.

Schemathesis makes requests that fit the document and such that do not, the same ones each time. An answer that the
document does not promise is a failure, be it by its status, its kind of content or its shape.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hub.http_api.app import application
from tests.support.server_state import EVERYTHING, state_in
from tests.support.trees import COUNTER, index_of, write_tree

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 2  # of each kind, for each route
# What the doors answer on any route; the document says so once, at its head.
DOORS = {408, 413, 414, 421, 431}
# What sends events until a job ends, and what starts jobs: their own tests have them.
APART = {"/api/v1/jobs/{job_id}/events"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    folder = tmp_path_factory.mktemp("schemathesis")
    index_of(write_tree(folder / "tree", dict(COUNTER)), folder / "data")
    with state_in(folder / "data", server_requests_per_minute=100_000, server_asks_per_minute=100_000) as state:
        key = state.keys.create("schemathesis", EVERYTHING).text
        app = application(state)
        headers = {"host": "localhost", "authorization": f"Bearer {key}"}
        yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers), key


def test_every_route_answers_as_its_description_says(api: tuple[Any, str]) -> None:
    schema, key = api
    headers = {"host": "localhost", "authorization": f"Bearer {key}"}
    tried, found = set(), []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in APART:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=EXAMPLES,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def conforms(case: Case[Any]) -> None:
                response = case.call(headers=headers)
                if response.status_code not in DOORS:
                    # A stream's schema is of the text as a whole; schemathesis would hold it against each event.
                    streamed = "text/event-stream" in response.headers.get("content-type", [""])[0]
                    case.validate_response(response, headers=headers, checks=CHECKS[:3] if streamed else CHECKS)

            try:
                conforms()
            except Unsatisfiable:  # a route without parameters, of which nothing can be wrong
                assert mode is GenerationMode.NEGATIVE
            except FailureGroup as failures:
                found += [f"{operation.method.upper()} {operation.path}: {one}"[:600] for one in failures.exceptions]
        tried.add((operation.method, operation.path))
    assert not found, "\n\n".join(found)
    assert len(tried) > 40
