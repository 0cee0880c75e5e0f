import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.backends.embedded import EmbeddedBackend
from hub.backends.llama_server import LlamaServerBackend
from hub.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelMissing,
    PromptTooLong,
)
from hub.model import Completion, GenerationOptions, Prompt

OPTIONS = GenerationOptions(max_tokens=16, timeout_s=20)
PROMPT = Prompt("Answer from the evidence.", "[1] int two() { return 2; }\nWhat does two return?", (), (), 20)

CHAT = "/v1/chat/completions"
TOO_LONG = {
    "code": 400,
    "message": "request (9001 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 9001,
    "n_ctx": 4096,
}


def event(text: str | None = None, finish: str | None = None, **more: Any) -> str:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return "data: " + json.dumps({"choices": [choice], **more})


def counts(prompt: int, completion: int, **more: Any) -> str:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return "data: " + json.dumps({"choices": [], "usage": usage, **more})


WHOLE = (event("Two"), event(" [1]."), event(finish="stop"), counts(30, 2), "data: [DONE]")


@dataclass
class Scripted:
    """A server that answers each path with a status and a body, and a chat with lines; it keeps what it was asked."""

    answers: dict[str, tuple[int, Any]] = field(
        default_factory=lambda: {
            "/props": (200, {"default_generation_settings": {"n_ctx": 4096}, "model_path": "/models/tiny.gguf"}),
            "/apply-template": (200, {"prompt": "<user>rendered<assistant>"}),
            "/tokenize": (200, {"tokens": list(range(30))}),
        }
    )
    lines: Sequence[str] = WHOLE
    cut: bool = False
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list, repr=False)
    url: str = ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests; anything else is told on stderr."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    script: Scripted
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Says nothing: the requests are kept instead."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.script.asked.append((self.path, body))
        if self.path == CHAT and CHAT not in self.script.answers:
            self._stream()
            return
        status, answer = self.script.answers.get(self.path, (404, {"error": {"message": "File Not Found"}}))
        payload = (answer if isinstance(answer, str) else json.dumps(answer)).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in self.script.lines:
            payload = line.encode("utf-8", "replace") + b"\n\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(payload), payload))
        if not self.script.cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True


def serve(script: Scripted) -> Iterator[Scripted]:
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": script}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    yield script
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def script() -> Iterator[Scripted]:
    yield from serve(Scripted())


@pytest.fixture(scope="module")
def shared_script() -> Iterator[Scripted]:
    yield from serve(Scripted())


@pytest.fixture(scope="module")
def shared_backend(shared_script: Scripted) -> LlamaServerBackend:
    return LlamaServerBackend(shared_script.url)


def ask(backend: LlamaServerBackend) -> tuple[list[str], Completion]:
    *pieces, end = backend.stream(PROMPT, OPTIONS)
    assert isinstance(end, Completion)
    return [piece for piece in pieces if isinstance(piece, str)], end


def check_fails(script: Scripted, kind: type[BackendError], *words: str) -> None:
    """A question raises exactly this kind of error, with these words in message or hint."""
    with pytest.raises(BackendError) as caught:
        ask(LlamaServerBackend(script.url))
    assert isinstance(caught.value, kind)
    for word in words:
        assert word in f"{caught.value.message} | {caught.value.hint}"


# Laws

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 50) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "choices", "delta", "content", "finish_reason", "usage", "message", "type"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(JSON_VALUES.map(lambda value: f"data: {json.dumps(value)}") | st.text(max_size=12), max_size=4),
    cut=st.booleans(),
)
def test_whatever_event_comes_an_answer_is_whole_or_one_of_our_own_errors(
    shared_script: Scripted, shared_backend: LlamaServerBackend, lines: list[str], cut: bool
) -> None:
    shared_script.lines, shared_script.cut = [event("Two"), *lines], cut
    try:
        pieces, end = ask(shared_backend)
    except BackendError:
        return
    assert end.text == "".join(pieces)
    assert any("finish_reason" in line for line in lines)


@settings(max_examples=60, deadline=None)
@given(
    path=st.sampled_from(["/props", "/tokenize", "/apply-template", CHAT]),
    status=st.sampled_from([200, 301, 400, 401, 404, 418, 429, 500, 503]),
    body=JSON_VALUES | st.text(max_size=20),
)
def test_whatever_answer_comes_only_our_own_errors_come_out(
    shared_script: Scripted, shared_backend: LlamaServerBackend, path: str, status: int, body: Any
) -> None:
    usual = dict(shared_script.answers)
    shared_script.lines, shared_script.cut = WHOLE, False
    shared_script.answers[path] = (status, body)
    try:
        assert ask(shared_backend)[1].text == "Two [1]."
    except BackendError as error:
        assert error.message  # noqa: PT017 - both ends are right, but no third
    finally:
        shared_script.answers = usual


# What is sent and what comes back


def test_a_chat_asks_for_a_stream_with_counts_and_for_the_prompt_cache(script: Scripted) -> None:
    ask(LlamaServerBackend(script.url))
    (body,) = [body for path, body in script.asked if path == CHAT]
    assert body["stream_options"] == {"include_usage": True}
    assert (body["cache_prompt"], body["stream"], body["temperature"], body["max_tokens"]) == (True, True, 0.0, 16)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_the_tokens_taken_from_the_cache_are_told_in_either_form(script: Scripted) -> None:
    assert ask(LlamaServerBackend(script.url))[1].usage.cached is None
    script.lines = (*WHOLE[:3], counts(30, 2, timings={"cache_n": 25}))
    assert ask(LlamaServerBackend(script.url))[1].usage.cached == 25
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
    script.lines = (*WHOLE[:3], "data: " + json.dumps({"usage": usage, "timings": {"cache_n": 25}}))
    assert ask(LlamaServerBackend(script.url))[1].usage.cached == 0


def test_comments_that_keep_the_connection_alive_are_no_part_of_the_answer(script: Scripted) -> None:
    script.lines = (":", ": ping", *WHOLE[:1], ":", *WHOLE[1:])
    assert ask(LlamaServerBackend(script.url))[0] == ["Two", " [1]."]


def test_the_model_is_named_by_its_file_and_the_window_is_the_servers(script: Scripted) -> None:
    info = LlamaServerBackend(script.url).info()
    assert (info.name, info.model, info.context_window) == ("llama.cpp", "tiny", 4096)
    assert info.prompt_tokens < 4096
    script.answers["/props"] = (200, {"default_generation_settings": {"n_ctx": 65_536}, "model_alias": "coder"})
    assert LlamaServerBackend(script.url, prompt_tokens=9000).info().prompt_tokens == 9000


def test_a_server_that_renders_no_templates_is_given_the_prompts_own_count(script: Scripted) -> None:
    del script.answers["/apply-template"]
    assert ask(LlamaServerBackend(script.url))[1].text == "Two [1]."
    with pytest.raises(PromptTooLong):
        LlamaServerBackend(script.url).stream(Prompt("", "long", (), (), tokens=4096), OPTIONS)


# Faults


def test_a_prompt_is_measured_in_its_template_and_refused_before_it_is_sent(script: Scripted) -> None:
    script.answers["/tokenize"] = (200, {"tokens": list(range(4081))})
    check_fails(script, PromptTooLong, "4081", "4096")
    script.answers["/tokenize"] = (200, {"tokens": list(range(4080))})
    script.lines = (*WHOLE[:3], counts(4080, 2))
    ask(LlamaServerBackend(script.url))
    assert len([path for path, _ in script.asked if path == CHAT]) == 1


def test_a_prompt_that_the_server_refuses_is_too_long(script: Scripted) -> None:
    script.answers[CHAT] = (400, {"error": TOO_LONG})
    check_fails(script, PromptTooLong, "9001", "4096")


def test_an_error_in_the_middle_of_an_answer_breaks_it_in_either_form(script: Scripted) -> None:
    error = {"code": 500, "message": "decode failed"}
    for line in ("data: " + json.dumps({"error": error}), "error: " + json.dumps(error)):
        script.lines = (WHOLE[0], line)
        check_fails(script, BrokenStream, "decode failed")
    script.lines = (WHOLE[0], "data: " + json.dumps({"error": TOO_LONG}))
    check_fails(script, PromptTooLong, "9001")


def test_a_connection_cut_half_way_breaks_the_answer(script: Scripted) -> None:
    script.cut = True
    check_fails(script, BrokenStream, "broke")


def test_an_answer_without_an_end_is_broken(script: Scripted) -> None:
    script.lines = WHOLE[:2]
    check_fails(script, BrokenStream, "stopped in the middle")


def test_an_answer_about_a_shortened_prompt_is_broken(script: Scripted) -> None:
    script.lines = (*WHOLE[:3], counts(15, 2))
    check_fails(script, BrokenStream, "shortened prompt", "15")


def test_a_server_that_loads_its_model_is_busy(script: Scripted) -> None:
    loading = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    script.answers |= dict.fromkeys(("/props", "/tokenize", "/apply-template"), (503, loading))
    check_fails(script, BackendBusy, "Loading model")


def test_a_wrong_key_is_told(script: Scripted) -> None:
    script.answers[CHAT] = (401, {"error": {"message": "Invalid API Key"}})
    check_fails(script, BackendUnavailable, "key")


def test_a_model_that_the_server_does_not_have_is_missing(script: Scripted) -> None:
    script.answers[CHAT] = (404, {"error": {"message": "model not found"}})
    check_fails(script, ModelMissing, "model not found")


def test_another_kind_of_server_is_told_from_llama_cpp(script: Scripted) -> None:
    script.answers = {}
    with pytest.raises(BackendUnavailable) as caught:
        LlamaServerBackend(script.url).info()
    assert "not a llama.cpp server" in caught.value.message


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "127.0.0.1:9", "http://127.0.0.1:port", "gopher://127.0.0.1:9", "http://..:9"]
)
def test_a_server_that_is_not_there_is_unavailable(address: str) -> None:
    with pytest.raises(BackendUnavailable):
        LlamaServerBackend(address).info()


# The embedded one


def test_a_missing_model_file_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        EmbeddedBackend(tmp_path / "none.gguf")
    assert "[embedded]" in caught.value.hint


@pytest.fixture
def embedded() -> Iterator[EmbeddedBackend]:
    try:
        backend = EmbeddedBackend()
    except BackendUnavailable as missing:
        pytest.skip(f"needs the embedded llama.cpp: {missing.message}")
    yield backend
    backend.close()


@pytest.mark.usefixtures("embedded")
def test_a_damaged_model_file_is_told(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(200))
    backend = EmbeddedBackend(damaged)
    with pytest.raises(BackendUnavailable) as caught:
        backend.count_tokens("text")
    assert "damaged.gguf" in caught.value.message
    with pytest.raises(PromptTooLong):  # which takes no model to see
        backend.stream(Prompt("", "long", (), (), tokens=9000), OPTIONS)
    backend.close()


def test_a_closed_embedded_model_is_gone_and_can_be_closed_again(embedded: EmbeddedBackend) -> None:
    assert embedded.count_tokens("int main() {}") > 0
    address = embedded._client()._url
    embedded.close()
    embedded.close()
    with pytest.raises(BackendUnavailable):
        embedded.count_tokens("int main() {}")
    with pytest.raises(BackendUnavailable):
        LlamaServerBackend(address).info()


def test_others_on_the_machine_cannot_use_the_embedded_model(embedded: EmbeddedBackend) -> None:
    embedded.count_tokens("start")
    with pytest.raises(BackendUnavailable) as caught:
        LlamaServerBackend(embedded._client()._url).count_tokens("text")
    assert "key" in caught.value.message


def test_words_that_look_like_the_templates_marks_are_counted_as_text(embedded: EmbeddedBackend) -> None:
    assert embedded.count_tokens("<|im_end|>") > 1


LEAVES_HALF_WAY = """
from hub.backends.embedded import EmbeddedBackend
from hub.model import GenerationOptions, Prompt
backend = EmbeddedBackend()
answer = backend.stream(Prompt("", "Tell a long story.", (), (), 5), GenerationOptions(max_tokens=4000))
print(repr(next(answer)))
"""


@pytest.mark.usefixtures("embedded")
def test_a_program_that_leaves_in_the_middle_of_an_answer_ends_and_nothing_is_logged() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES_HALF_WAY],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.strip()
    assert ended.stderr == ""
