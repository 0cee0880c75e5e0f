"""What is the same for all that speaks OpenAI's interface: faults of the wire, and what is made of a stream."""

import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.backends import endpoint
from hub.backends.counting import LEAST_TO_LEARN_FROM, CalibratedRate, least_tokens, most_tokens, utf8_bytes
from hub.backends.llama_server import LlamaServerBackend
from hub.backends.logprobs import UNLIKELY, Heard, aligned, heard
from hub.backends.openai_compatible import OpenAiCompatibleBackend
from hub.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelMissing,
    PromptTooLong,
    UnsupportedRequest,
)
from hub.model import Completion, GenerationOptions, Prompt
from tests.support.real_llama import llama_server_process
from tests.support.scripted_server import (
    CHAT,
    DONE,
    LONGEST_WAIT_S,
    WHOLE,
    Reply,
    ScriptedServer,
    counts,
    event,
    llama_cpp,
    refusal,
    stream,
    vllm,
    whole,
)

OPTIONS = GenerationOptions(max_tokens=16, timeout_s=20)
PROMPT = Prompt("Answer from the evidence.", "[1] int two() { return 2; }\nWhat does two return?", (), (), 30)

AnyBackend = LlamaServerBackend | OpenAiCompatibleBackend


class Case:
    """A scripted server and a backend for it."""

    def __init__(self, server: ScriptedServer, make: Callable[..., AnyBackend]) -> None:
        self.server = server
        self.make = make

    def ask(self, reply: Reply, options: GenerationOptions = OPTIONS, **more: Any) -> tuple[list[str], Completion]:
        self.server.answers[CHAT] = reply
        backend = self.make(self.server.url, **more)
        try:
            *pieces, end = backend.stream(PROMPT, options)
        finally:
            backend.close()
        assert isinstance(end, Completion)
        return [piece for piece in pieces if isinstance(piece, str)], end

    def fails(self, reply: Reply, kind: type[BackendError], *words: str, **more: Any) -> None:
        """A chat that is answered so raises exactly this kind of error, with these words in message or hint."""
        with pytest.raises(BackendError) as caught:
            self.ask(reply, **more)
        assert isinstance(caught.value, kind)
        for word in words:
            assert word in f"{caught.value.message} | {caught.value.hint}"


@pytest.fixture(params=["llama.cpp", "vllm"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    answers, make = {"llama.cpp": (llama_cpp(), LlamaServerBackend), "vllm": (vllm(), OpenAiCompatibleBackend)}[
        request.param
    ]
    with ScriptedServer(answers) as server:
        yield Case(server, make)


# Laws


@given(cuts=st.lists(st.integers(0, 60), max_size=12), text=st.text(max_size=20), thoughts=st.text(max_size=10))
def test_tokens_cut_anywhere_join_to_the_text_again(cuts: list[int], text: str, thoughts: str) -> None:
    whole_text = thoughts.encode("utf-8", "replace") + text.encode("utf-8", "replace")
    places = sorted({0, *(cut for cut in cuts if cut < len(whole_text)), len(whole_text)})
    tokens = [Heard(whole_text[start:end], -1.0, (("x", -1.0),)) for start, end in itertools.pairwise(places)]
    found = aligned(tokens, text)
    assert "".join(token.token for token in found) == text.encode("utf-8", "replace").decode("utf-8")
    assert all(token.token for token in found)
    assert sum(token.logprob for token in found) >= -len(tokens)


@given(text=st.text(min_size=1, max_size=12), data=st.data())
def test_first_halves_of_characters_that_a_stream_leaves_out_are_put_back(text: str, data: st.DataObject) -> None:
    parts: list[bytes] = []
    for character in text:
        raw = character.encode("utf-8", "replace")
        parts.append(raw[data.draw(st.integers(0, len(raw) - 1)) :])
    found = aligned([Heard(part, -0.5) for part in parts], text)
    assert found or not text.isascii()
    if found:
        assert "".join(token.token for token in found) == text.encode("utf-8", "replace").decode("utf-8")


def test_half_a_character_goes_with_the_token_that_ends_it() -> None:
    fox = "🦊".encode()
    apart = aligned([Heard(b"a", -1.0), Heard(fox[:2], -2.0, (("x", -2.0),)), Heard(fox[2:], -0.25)], "a🦊")
    assert [(token.token, token.logprob, token.alternatives) for token in apart] == [("a", -1.0, ()), ("🦊", -2.25, ())]
    left_out = aligned([Heard(b"a", -1.0), Heard(fox[2:], -0.25, (("?", -3.0),)), Heard(b"b", -1.5)], "a🦊b")
    assert [(token.token, token.logprob) for token in left_out] == [("a", -1.0), ("🦊", -0.25), ("b", -1.5)]
    assert left_out[1].alternatives == ()


def test_tokens_of_thoughts_and_marks_are_no_part_of_the_answer() -> None:
    tokens = [Heard(part, -1.0) for part in (b"<think>", b"It is two", b"</think>", b"\n", b"Two", b".", b"<eos>")]
    assert [token.token for token in aligned(tokens, "Two.")] == ["Two", "."]
    assert aligned(tokens, "Three.") == ()
    assert aligned([], "Two") == ()
    assert aligned(tokens, "") == ()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["token", "bytes", "logprob", "top_logprobs"]) | st.text(max_size=4), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(entries=JSON_VALUES, alternatives=st.integers(0, 20), text=st.text(max_size=6))
def test_whatever_stands_in_a_list_of_tokens_it_is_read_or_left_out(
    entries: object, alternatives: int, text: str
) -> None:
    tokens = heard(entries, alternatives)
    assert all(UNLIKELY <= token.logprob <= 0 and len(token.alternatives) <= alternatives for token in tokens)
    found = "".join(token.token for token in aligned(tokens, text))
    assert found in {"", text.encode("utf-8", "replace").decode("utf-8")}


@given(first=st.text(), second=st.text(), told=st.integers(0, 4000))
def test_a_rate_never_shrinks_and_parts_never_count_less_than_the_whole(first: str, second: str, told: int) -> None:
    rate = CalibratedRate()
    before = rate.tokens(first + second)
    rate.learn(LEAST_TO_LEARN_FROM, told)
    parts = rate.tokens(first), rate.tokens(second)
    assert before <= rate.tokens(first + second) <= sum(parts)
    assert rate.tokens("a" * LEAST_TO_LEARN_FROM) >= told
    assert utf8_bytes(first) == len(first.encode("utf-8", "replace"))


@given(system=st.text(max_size=40), user=st.text(max_size=400), tokens=st.integers(0, 500))
def test_a_prompt_has_no_more_tokens_than_bytes_and_no_more_than_it_says_with_something_on_top(
    system: str, user: str, tokens: int
) -> None:
    most = most_tokens(Prompt(system, user, (), (), tokens))
    size = utf8_bytes(system) + utf8_bytes(user)
    assert most <= size
    assert most == size or tokens <= most <= tokens * 1.004 + 32
    assert least_tokens(system, user) <= size


# What a stream tells


def test_all_that_was_asked_for_is_told(case: Case) -> None:
    token = {"token": "Two", "bytes": list(b"Two"), "logprob": -0.5}
    choice = {"index": 0, "delta": {"content": "Two"}, "finish_reason": None}
    choice["logprobs"] = {"content": [{**token, "top_logprobs": [token, {**token, "token": "2", "bytes": [50]}]}]}
    end = "data: " + json.dumps({"choices": [choice]})
    pieces, answer = case.ask(
        stream(end, event(finish="stop"), counts(30, 1, timings={"prompt_ms": 1500.0, "predicted_ms": 250}), DONE),
        replace(OPTIONS, logprobs=2),
    )
    (body,) = case.server.bodies(CHAT)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    assert pieces == ["Two"]
    assert [(token.token, token.logprob, token.alternatives) for token in answer.logprobs] == [
        ("Two", -0.5, (("Two", -0.5), ("2", -0.5)))
    ]
    assert (answer.timings.prompt_s, answer.timings.completion_s) == (1.5, 0.25)


def test_no_alternatives_are_told_where_none_were_asked_for(case: Case) -> None:
    token = {"token": "Two", "logprob": -0.5}
    choice = {"delta": {"content": "Two"}, "logprobs": {"content": [{**token, "top_logprobs": [token]}]}}
    line = "data: " + json.dumps({"choices": [choice]})
    answer = case.ask(stream(line, event(finish="stop"), counts(30, 1)), replace(OPTIONS, logprobs=0))[1]
    assert answer.logprobs[0].alternatives == ()
    assert case.server.bodies(CHAT)[0]["top_logprobs"] == 1


def test_a_server_that_tells_no_probabilities_is_found_out(case: Case) -> None:
    case.fails(stream(*WHOLE), UnsupportedRequest, "probabilities", options=replace(OPTIONS, logprobs=1))


def test_an_answer_by_a_schema_is_asked_for_in_the_interfaces_words(case: Case) -> None:
    schema = {"type": "object", "properties": {"two": {"type": "integer"}}}
    case.ask(stream(*WHOLE), replace(OPTIONS, json_schema=json.dumps(schema)))
    asked = case.server.bodies(CHAT)[0]["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    "options",
    [
        replace(OPTIONS, json_schema="{not json"),
        replace(OPTIONS, json_schema="[1]"),
        replace(OPTIONS, logprobs=21),
        replace(OPTIONS, logprobs=-1),
        replace(OPTIONS, keep_alive_s=5.0),
    ],
)
def test_what_makes_no_sense_or_cannot_be_done_is_refused_before_anything_is_sent(
    case: Case, options: GenerationOptions
) -> None:
    case.fails(stream(*WHOLE), UnsupportedRequest, options=options)
    assert CHAT not in case.server.paths()


def test_thoughts_are_no_part_of_the_answer(case: Case) -> None:
    thoughts = [
        "data: " + json.dumps({"choices": [{"delta": {key: "Hm."}}]}) for key in ("reasoning_content", "reasoning")
    ]
    assert case.ask(stream(*thoughts, *WHOLE))[0] == ["Two", " [1]."]


def test_events_may_come_in_any_pieces(case: Case) -> None:
    text = "".join(f"{line}\r\n\r\n" for line in (event("Zwei 🦊"), event(finish="stop"), counts(30, 2), DONE)).encode()
    assert case.ask(Reply([bytes([byte]) for byte in text], kind="text/event-stream"))[0] == ["Zwei 🦊"]


def test_an_answer_that_is_ended_twice_ends_as_it_did_first(case: Case) -> None:
    twice = stream(event("Two"), event(finish="length"), event(finish="stop"), counts(30, 1), counts(30, 1), DONE)
    assert case.ask(twice)[1].finish == "length"


def test_what_comes_after_the_end_mark_is_not_waited_for(case: Case) -> None:
    released = threading.Event()

    def parts() -> Iterator[bytes]:
        yield "\n\n".join(WHOLE).encode() + b"\n\n"
        released.wait(LONGEST_WAIT_S)

    try:
        assert case.ask(Reply(parts(), kind="text/event-stream"))[1].text == "Two [1]."
    finally:
        released.set()


# Faults


def test_a_busy_server_says_when_to_come_back(case: Case) -> None:
    for status in (429, 503):
        busy = replace(refusal(status, "queue full"), headers={"Retry-After": "7"})
        case.fails(busy, BackendBusy, "queue full", "7 seconds")
        case.fails(refusal(status, "Loading model"), BackendBusy, "Loading model", "again")


def test_a_connection_cut_half_way_breaks_the_answer(case: Case) -> None:
    case.fails(stream(*WHOLE[:2], cut=True), BrokenStream, "broke")
    case.fails(stream(cut=True), BrokenStream, "broke")


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"choices": [{"delta": {"content": "Zw',
        b'data: {"choices": [{"delta": {"content": "\xf0\x9f\n\n',
        b"data: nonsense\n\n",
        b"data: [[[1]]]\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: "text"\n\n',
    ],
)
def test_half_an_event_breaks_the_answer(case: Case, broken: bytes) -> None:
    begun = f"{WHOLE[0]}\n\n".encode()
    case.fails(Reply([begun, broken], kind="text/event-stream"), BrokenStream)


def test_an_error_in_the_middle_of_an_answer_breaks_it_in_every_form(case: Case) -> None:
    error = {"code": 500, "message": "decode failed", "type": "server_error"}
    forms = (
        "data: " + json.dumps({"error": error}),
        "error: " + json.dumps(error),
        "data: " + json.dumps({"object": "error", **error}),
        "event: error\ndata: " + json.dumps({"error": error}),
        "data: " + json.dumps({"error": "decode failed"}),
    )
    for line in forms:
        case.fails(stream(WHOLE[0], line), BrokenStream, "decode failed")


OVERLONG = {
    "code": 400,
    "message": "request (9001 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 9001,
    "n_ctx": 4096,
}
VLLM_OVERLONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 9017 tokens (9001 in the messages, 16 "
    "in the completion). Please reduce the length of the messages or completion."
)
VLLM_OVERLONG_TOO = (
    "'max_tokens' or 'max_completion_tokens' is too large: 16. This model's maximum context length is 4096 tokens and "
    "your request has 9001 input tokens (16 > 4096 - 9001)."
)
LM_STUDIO_OVERLONG = (
    "Trying to keep the first 9001 tokens when context the overflows. However, the model is loaded with context length "
    "of only 4096 tokens, which is not enough."
)


@pytest.mark.parametrize(
    "body",
    [
        {"error": OVERLONG},
        {"error": {"message": VLLM_OVERLONG, "type": "BadRequestError", "code": 400}},
        {"object": "error", "message": VLLM_OVERLONG, "type": "BadRequestError", "code": 400},
        {"error": {"message": VLLM_OVERLONG_TOO, "type": "BadRequestError", "code": 400}},
        {"error": LM_STUDIO_OVERLONG},
        {"error": "... greater than the context length (n_keep: 9001>= n_ctx: 4096). Try to load the model"},
    ],
)
def test_a_prompt_that_the_server_refuses_is_too_long_whatever_its_words(case: Case, body: Mapping[str, Any]) -> None:
    case.fails(whole(body, 400), PromptTooLong, "9001", "4096")
    case.fails(
        stream(WHOLE[0], "data: " + json.dumps({**body, "error": body.get("error", body)})), PromptTooLong, "9001"
    )


def test_an_answer_without_an_end_is_broken(case: Case) -> None:
    case.fails(stream(*WHOLE[:2]), BrokenStream, "stopped in the middle")
    case.fails(stream(*WHOLE[:2], counts(30, 2), DONE), BrokenStream, "stopped in the middle")


def test_an_answer_that_does_not_tell_what_was_read_is_broken(case: Case) -> None:
    case.fails(stream(*WHOLE[:3], DONE), BrokenStream, "how much of the prompt")
    case.fails(stream(*WHOLE[:3], counts(0, 2), DONE), BrokenStream, "how much of the prompt")


def test_an_answer_about_a_shortened_prompt_is_broken(case: Case) -> None:
    case.fails(stream(*WHOLE[:3], counts(15, 2), DONE), BrokenStream, "shortened prompt", "15")


@pytest.mark.parametrize("reason", ["tool_calls", "content_filter", "abort"])
def test_what_is_no_answer_is_not_handed_over_as_one(case: Case, reason: str) -> None:
    call = {"index": 0, "id": "1", "function": {"name": "search", "arguments": "{}"}}
    line = "data: " + json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]})
    case.fails(stream(line, event(finish=reason), counts(30, 2), DONE), BrokenStream)


def test_a_web_page_is_no_model(case: Case) -> None:
    page = Reply([b"<!doctype html><title>Sign in</title>"], kind="text/html; charset=utf-8")
    case.fails(page, BackendUnavailable, "web page")
    for path in list(case.server.answers):
        case.server.answers[path] = replace(page, kind="application/json")
    case.fails(page, BackendUnavailable, "web page")


def test_an_answer_that_is_no_stream_is_told(case: Case) -> None:
    case.fails(whole({"choices": [{"message": {"content": "Two"}}]}), BrokenStream, "instead of a stream")


def test_a_prompt_goes_to_no_other_address(case: Case) -> None:
    with ScriptedServer() as other:
        for status in (301, 302, 307, 308):
            moved = whole("", status, Location=other.url + CHAT)
            case.fails(moved, BackendUnavailable, "elsewhere")
        assert other.asked == []


def test_a_packed_answer_is_not_unpacked(case: Case) -> None:
    bomb = gzip.compress(bytes(1 << 24))
    case.fails(Reply([bomb], headers={"Content-Encoding": "gzip"}, kind="text/event-stream"), BrokenStream, "packed")
    assert case.server.headers[-1]["Accept-Encoding"] == "identity"


def test_an_endless_body_is_not_read_to_its_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MOST_BODY_BYTES", 1 << 16)
    monkeypatch.setattr(endpoint, "MOST_LINE_BYTES", 1 << 16)
    endless = Reply(itertools.repeat(b" " * 4096), kind="text/event-stream")
    case.fails(endless, BrokenStream, "more than 65536 bytes")
    assert case.server.gave_up.wait(LONGEST_WAIT_S)
    for path in case.server.answers:
        case.server.answers[path] = endless
    case.fails(endless, BrokenStream, "more than 65536 bytes")


def test_an_endless_refusal_is_not_read_to_its_end(case: Case) -> None:
    case.fails(Reply(itertools.repeat(b"no " * 4096), status=500), BrokenStream, "more than")


def test_an_endless_answer_is_given_up(case: Case) -> None:
    text = f"{event('blah ' * 4000)}\n\n".encode()
    case.fails(Reply(itertools.repeat(text), kind="text/event-stream"), BrokenStream, "without end")
    assert case.server.gave_up.wait(LONGEST_WAIT_S)


@pytest.mark.parametrize("sign", [b": ping\n\n", b"\n", b'data: {"choices": [{"delta": {}}]}\n\n', b"d"])
def test_signs_of_life_without_an_answer_are_waited_for_only_so_long(case: Case, sign: bytes) -> None:
    ticking = itertools.count(step=0.01)  # each look at the clock is a hundredth of a second later
    endless = Reply(itertools.repeat(sign), kind="text/event-stream")
    case.fails(endless, BrokenStream, "in time", clock=lambda: next(ticking))
    assert case.server.gave_up.wait(LONGEST_WAIT_S)


def test_a_body_that_drips_is_waited_for_only_so_long(case: Case) -> None:
    ticking = itertools.count()  # each look at the clock is a second later
    for path in list(case.server.answers):
        case.server.answers[path] = Reply(itertools.repeat(b" "))
    case.fails(stream(*WHOLE), BrokenStream, "in time", clock=lambda: next(ticking))
    assert case.server.gave_up.wait(LONGEST_WAIT_S)


def test_a_first_byte_that_does_not_come_is_waited_for_only_so_long(case: Case) -> None:
    released = threading.Event()

    def parts() -> Iterator[bytes]:
        released.wait(LONGEST_WAIT_S)
        yield b""

    try:
        case.fails(
            Reply(parts(), kind="text/event-stream"), BrokenStream, "in time", options=replace(OPTIONS, timeout_s=0.2)
        )
    finally:
        released.set()


def test_a_key_is_sent_and_a_wrong_one_is_told(case: Case) -> None:
    case.fails(whole({"error": {"message": "Invalid API Key"}}, 401), BackendUnavailable, "key", api_key="guess")
    assert case.server.headers[-1]["Authorization"] == "Bearer guess"


def test_a_model_that_the_server_does_not_have_is_missing(case: Case) -> None:
    case.fails(refusal(404, "model not found"), ModelMissing, "model not found")


def test_a_schema_that_the_server_cannot_follow_is_told_as_that(case: Case) -> None:
    case.fails(refusal(400, "JSON schema error at #: unrecognized type nonsense"), UnsupportedRequest, "nonsense")


def test_leaving_half_way_closes_the_connection(case: Case) -> None:
    def parts() -> Iterator[bytes]:
        for line in itertools.repeat(event("word ")):
            yield f"{line}\n\n".encode()

    case.server.answers[CHAT] = Reply(parts(), kind="text/event-stream")
    backend = case.make(case.server.url)
    answer = backend.stream(PROMPT, OPTIONS)
    with closing(answer):  # type: ignore[type-var]
        assert next(answer) == "word "
    assert case.server.gave_up.wait(LONGEST_WAIT_S)
    backend.close()


@pytest.mark.parametrize("make", [LlamaServerBackend, OpenAiCompatibleBackend])
def test_a_real_server_that_is_killed_in_the_middle_of_an_answer_breaks_it(make: Callable[..., AnyBackend]) -> None:
    with llama_server_process() as (url, process):
        backend = make(url)
        options = GenerationOptions(max_tokens=1500, timeout_s=60)
        answer = backend.stream(Prompt("", "Count from one to a thousand, in words.", (), (), 12), options)
        assert isinstance(next(answer), str)
        process.kill()
        with pytest.raises(BrokenStream) as caught:
            list(answer)
        assert "broke" in caught.value.message
        with pytest.raises(BackendUnavailable):
            make(url).info()
        backend.close()
