"""Clients of OpenAI's interface ask a workspace as they ask a model: by the requests of its official client, byte for
byte the same but for their ids.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.auth.model import Grant, Scope
from hub.http_api.openai import question_of
from tests.support.scripted_server import CHAT, DONE, ScriptedServer, counts, event, stream, vllm
from tests.support.served import WORKSPACE, Served, served
from tests.support.trees import COUNTER

ASKED = "What does Counter::Increment do?"
SAID = ("`Increment` adds ", "its argument to ", "`value_` [1].")
BIDI = {"src/odd.h": "// Odd\u202e is what this names.\nint odd_number();\n"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model says SAID to everything, in three pieces."""
    model = vllm(16_384)
    model[CHAT] = lambda _body: stream(*map(event, SAID), event(None, "stop"), counts(300, 12), DONE)
    with ScriptedServer(model) as engine:
        tree = {**COUNTER, **BIDI}
        with served(
            tmp_path_factory.mktemp("openai"), tree, backend="openai", openai_url=f"{engine.url}/v1"
        ) as running:
            yield running


def complete(hub: Served, *said: Any, model: str = WORKSPACE, **more: Any) -> httpx.Response:
    messages = [{"role": "user", "content": content} for content in said]
    return hub.client.post("/v1/chat/completions", json={"model": model, "messages": messages, **more})


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream that ended as it should."""
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def test_every_workspace_that_a_key_may_read_is_a_model(hub: Served) -> None:
    listed = hub.client.get("/v1/models").json()
    assert listed["object"] == "list"
    (only,) = listed["data"]
    assert (only["id"], only["object"], only["owned_by"]) == (WORKSPACE, "model", "codehub")
    assert hub.client.get(f"/v1/models/{WORKSPACE}").json() == only
    assert hub.client.get(f"/v1/models/{WORKSPACE}:full").json() == {**only, "id": f"{WORKSPACE}:full"}


@pytest.mark.parametrize("name", ["nowhere", "w:fast", "w:none", "w:", "W", "../w", "nowhere:rag", "w/x", "w\u202e"])
def test_a_model_that_is_not_there_is_told_as_openai_tells_it(hub: Served, name: str) -> None:
    for response in (complete(hub, ASKED, model=name), hub.client.get(f"/v1/models/{name}")):
        if name == "../w" and response.request.method == "GET":
            continue  # the client itself makes another path of it
        assert response.status_code == 404
        error = response.json()["error"]
        assert error == {
            "message": f"The model {name!r} does not exist.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }


def test_what_a_key_does_not_see_is_answered_as_what_is_not_there(hub: Served) -> None:
    with hub.keyed(Grant("elsewhere", frozenset({Scope.READ}))) as other:
        assert other.get("/v1/models").json()["data"] == []

        def told(model: str) -> tuple[int, str, list[str]]:
            body = {"model": model, "messages": [{"role": "user", "content": ASKED}]}
            response = other.post("/v1/chat/completions", json=body)
            return response.status_code, response.text.replace(f"{model!r}", "MODEL"), sorted(response.headers)

        assert told("w") == told("q")
        assert other.get("/v1/models/w").text.replace("'w'", "") == other.get("/v1/models/q").text.replace("'q'", "")


def test_a_key_that_may_not_read_a_workspace_it_sees_is_told_so(hub: Served) -> None:
    with hub.keyed(Grant(WORKSPACE, frozenset({Scope.INGEST}))) as other:
        assert other.get("/v1/models").json()["data"] == []
        response = other.post(
            "/v1/chat/completions", json={"model": WORKSPACE, "messages": [{"role": "user", "content": ASKED}]}
        )
        assert response.status_code == 403
        assert response.json()["error"]["type"] == "permission_error"


def test_nobody_is_answered_without_a_key(hub: Served) -> None:
    with hub.stranger() as nobody:
        refused = nobody.get("/v1/models")
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert "key" in refused.json()["error"]["message"]
        assert nobody.post("/v1/chat/completions", json={}).status_code == 401


def test_an_answer_has_the_form_of_a_completion_with_links_to_what_it_cites(hub: Served) -> None:
    answer = complete(
        hub, ASKED, model="w:rag", temperature=0.2, top_p=1, user="x", seed=1, unheard_of={"of": 1}
    ).json()
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert isinstance(answer["created"], int)
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    text = choice["message"]["content"]
    assert text.startswith("".join(SAID))
    (cited, *_) = answer["citations"]
    assert (
        f"- [1] [src/counter.cc:{cited['first_line']}-{cited['last_line']} app::Counter::Increment]({cited['url']})"
        in text
    )
    assert cited["url"].startswith(f"{hub.url}/w/w/file?path=src%2Fcounter.cc&line=")
    assert hub.client.get(cited["url"]).status_code == 200
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (300, 12, 312)
    told = answer["codehub"]
    assert (told["tier"], told["declined"], told["question"]) == ("rag", False, ASKED)
    assert 0 <= told["confidence"]["value"] <= 1


def test_a_stream_of_a_tier_sends_the_text_as_it_comes_and_ends_with_what_it_rests_on(hub: Served) -> None:
    chunks = chunks_of(complete(hub, ASKED, model="w:rag", stream=True, stream_options={"include_usage": True}))
    whole = complete(hub, ASKED, model="w:rag").json()
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    *texts, last, counted = chunks
    assert [c["choices"][0]["finish_reason"] for c in texts] == [None] * len(texts)
    assert all(c["usage"] is None for c in [*texts, last])
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert last["citations"] == whole["citations"]
    assert (counted["choices"], counted["usage"]) == ([], whole["usage"])


def test_no_chunk_counts_where_that_was_not_asked_for(hub: Served) -> None:
    chunks = chunks_of(complete(hub, ASKED, model="w:rag", stream=True))
    assert not [chunk for chunk in chunks if "usage" in chunk]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)


def test_without_a_tier_only_text_that_stands_is_sent(hub: Served) -> None:
    """A further tier makes what was written void, and no client can take it back."""
    chunks = chunks_of(complete(hub, "How does the increment work on the value?", stream=True))
    last = next(chunk for chunk in chunks if "codehub" in chunk)
    steps = [c["choices"][0]["delta"]["reasoning_content"] for c in chunks if "reasoning_content" in str(c["choices"])]
    assert steps
    assert steps[0].startswith("Tier rag: ")
    assert last["codehub"]["tier"] != "rag"
    texts = [c["choices"][0]["delta"]["content"] for c in chunks if c["choices"][0]["delta"].get("content")]
    assert len(texts) == 1
    assert texts[0].split("\n\nSources:\n")[1].count("](http") == len(last["citations"])


def test_what_is_declined_is_told_as_an_answer_that_says_so(hub: Served) -> None:
    answer = complete(hub, "What does Zyzzyva::Quux() do?").json()
    assert answer["codehub"]["declined"] is True
    assert answer["citations"] == []
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "Zyzzyva" in answer["choices"][0]["message"]["content"]


def test_covert_characters_of_code_and_question_are_shown(hub: Served) -> None:
    answer = complete(hub, "Where is odd_number\u202e?", model="w:exact").json()
    text = complete(hub, "odd_number", model="w:rag").json()["choices"][0]["message"]["content"]
    assert "\u202e" not in text + answer["choices"][0]["message"]["content"]


def test_parts_of_text_are_one_question(hub: Served) -> None:
    parts = [{"type": "text", "text": "What does"}, {"type": "text", "text": "Counter::Increment do?"}]
    assert complete(hub, parts, model="w:rag").json()["codehub"]["question"] == "What does\nCounter::Increment do?"


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [USER]}, "model"),
        ({"model": 1, "messages": [USER]}, "model"),
        ({"model": "w"}, "messages"),
        ({"model": "w", "messages": []}, "messages"),
        ({"model": "w", "messages": "x"}, "messages"),
        ({"model": "w", "messages": [1]}, "messages[0]"),
        ({"model": "w", "messages": [{"role": "king", "content": "x"}]}, "messages[0]"),
        ({"model": "w", "messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"model": "w", "messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"model": "w", "messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"model": "w", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"model": "w", "messages": [USER], "n": 2}, "n"),
        ({"model": "w", "messages": [USER], "stream": "yes"}, "stream"),
        ({"model": "w", "messages": [USER], "tools": [{"type": "function"}]}, "tools"),
        ({"model": "w", "messages": [USER], "functions": [{"name": "f"}]}, "functions"),
        ({"model": "w", "messages": [USER], "response_format": {"type": "json_object"}}, "response_format"),
        ({"model": "w", "messages": [USER], "modalities": ["text", "audio"]}, "modalities"),
        ({"model": "w", "messages": [USER] * 1_001}, "messages"),
    ],
)
def test_what_is_not_done_is_refused_with_its_parameter(hub: Served, body: dict[str, Any], param: str) -> None:
    response = hub.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"].endswith(".")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, b"nul\0l"])
def test_a_body_that_is_no_object_is_refused(hub: Served, body: bytes) -> None:
    response = hub.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_question_that_is_too_long_is_refused(hub: Served) -> None:
    response = complete(hub, "x" * 100_001)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "string_above_max_length")


def test_halves_of_letters_and_zeros_are_no_trouble(hub: Served) -> None:
    body = b'{"model":"w:rag","messages":[{"role":"user","content":"Counter::Increment \\ud800 \\u0000?"}]}'
    response = hub.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200
    assert response.json()["codehub"]["question"] == "Counter::Increment ?  ?"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("w") | st.just("user"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), inner)
    ),
    max_leaves=8,
)
_FIELDS = [
    "model",
    "messages",
    "n",
    "stream",
    "tools",
    "tool_choice",
    "response_format",
    "modalities",
    "stream_options",
]


@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON))
@settings(max_examples=60, deadline=None)
def test_no_body_makes_the_server_stumble(hub: Served, body: dict[str, Any]) -> None:
    response = hub.client.post("/v1/chat/completions", json=body)
    assert response.status_code in {200, 400, 404}, response.text


@pytest.mark.parametrize(
    ("said", "question"),
    [
        (["What is X?"], "What is X?"),
        (["What does Counter::Increment do?", "Who calls it?"], "Who calls Counter::Increment?"),
        (
            ["What does Counter::Increment do?", "And what are its callers?"],
            "And what are Counter::Increment's callers?",
        ),
        (["What does Counter::Increment do?", "Thanks.", "Who calls it?"], "Who calls Counter::Increment?"),
        (["What does Counter::Increment do?", "Where is Cache::Insert?"], "Where is Cache::Insert?"),
        (
            ["How do Cache::Insert and Cache::Evict work?", "Which of them locks?"],
            "Which of them locks?\n\nThis follows the question: How do Cache::Insert and Cache::Evict work?",
        ),
        (["How are keys hashed?", "And why?"], "And why?\n\nThis follows the question: How are keys hashed?"),
        (
            ["How are keys hashed?", "Which classes read files from the disk at startup?"],
            "Which classes read files from the disk at startup?",
        ),
    ],
)
def test_a_question_that_points_back_gets_what_it_points_at(said: list[str], question: str) -> None:
    assert question_of(said) == question
