"""LlamaServerBackend: what is its own, by a scripted server, and slots and prefixes on disk by a real one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
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
    PrefixUnusable,
    PromptTooLong,
    UnsupportedRequest,
)
from hub.model import Completion, GenerationOptions, Prefill, Prompt
from tests.support.real_llama import llama_server
from tests.support.scripted_server import (
    CHAT,
    WHOLE,
    ScriptedServer,
    counts,
    llama_cpp,
    refusal,
    stream,
    whole,
)

OPTIONS = GenerationOptions(max_tokens=16, timeout_s=20)
PROMPT = Prompt("Answer from the evidence.", "[1] int two() { return 2; }\nWhat does two return?", (), (), 30)
SOURCE = "\n".join(f"int function_{number}(int a, int b) {{ return a * {number} + b; }}" for number in range(9))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(llama_cpp()) as running:
        yield running


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ScriptedServer]:
    with ScriptedServer(llama_cpp()) as running:
        yield running


@pytest.fixture(scope="module")
def shared_backend(shared_server: ScriptedServer) -> Iterator[LlamaServerBackend]:
    with closing(LlamaServerBackend(shared_server.url)) as backend:
        yield backend


def ask(
    backend: LlamaServerBackend, asked: Prompt = PROMPT, options: GenerationOptions = OPTIONS
) -> tuple[list[str], Completion]:
    *pieces, end = backend.stream(asked, options)
    assert isinstance(end, Completion)
    return [piece for piece in pieces if isinstance(piece, str)], end


# Laws

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 50) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "choices", "delta", "content", "finish_reason", "usage", "message", "type", "logprobs"]
            )
            | st.sampled_from(
                ["timings", "prompt_progress", "total", "processed", "prompt_tokens", "completion_tokens"]
            )
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
    shared_server: ScriptedServer, shared_backend: LlamaServerBackend, lines: list[str], cut: bool
) -> None:
    shared_server.answers[CHAT] = stream(WHOLE[0], *lines, counts(30, 2), cut=cut)
    try:
        pieces, end = ask(shared_backend, options=replace(OPTIONS, progress=True))
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
    shared_server: ScriptedServer, path: str, status: int, body: Any
) -> None:
    shared_server.answers = llama_cpp() | {CHAT: stream(*WHOLE), path: whole(body, status)}
    backend = LlamaServerBackend(shared_server.url)
    try:
        assert ask(backend)[1].text == "Two [1]."
    except BackendError as error:
        assert error.message  # noqa: PT017 - both ends are right, but no third
    finally:
        backend.close()


# What is sent and what comes back


def test_a_chat_asks_for_a_stream_with_counts_and_for_the_prompt_cache(server: ScriptedServer) -> None:
    ask(LlamaServerBackend(server.url))
    (body,) = server.bodies(CHAT)
    assert body["stream_options"] == {"include_usage": True}
    assert (body["cache_prompt"], body["stream"], body["temperature"], body["max_tokens"]) == (True, True, 0.0, 16)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert not {"id_slot", "return_progress", "logprobs", "response_format"} & set(body)


def test_a_slot_is_asked_for_by_its_number(server: ScriptedServer) -> None:
    ask(LlamaServerBackend(server.url, slot=2))
    assert server.bodies(CHAT)[0]["id_slot"] == 2


def test_the_tokens_taken_from_the_cache_are_told_in_either_form(server: ScriptedServer) -> None:
    server.answers[CHAT] = stream(*WHOLE)
    assert ask(LlamaServerBackend(server.url))[1].usage.cached is None
    server.answers[CHAT] = stream(*WHOLE[:3], counts(30, 2, timings={"cache_n": 25}))
    assert ask(LlamaServerBackend(server.url))[1].usage.cached == 25
    usage = {"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
    server.answers[CHAT] = stream(*WHOLE[:3], "data: " + json.dumps({"usage": usage, "timings": {"cache_n": 25}}))
    assert ask(LlamaServerBackend(server.url))[1].usage.cached == 0


def test_progress_is_told_only_where_it_was_asked_for_and_only_when_there_is_some(server: ScriptedServer) -> None:
    steps = [{"total": 30, "cache": 8, "processed": read, "time_ms": 1} for read in (8, 8, 16, 30)]
    lines = ["data: " + json.dumps({"choices": [], "prompt_progress": step}) for step in steps]
    server.answers[CHAT] = stream(*lines, *WHOLE)
    backend = LlamaServerBackend(server.url)
    told = list(backend.stream(PROMPT, replace(OPTIONS, progress=True)))
    assert [part for part in told if isinstance(part, Prefill)] == [Prefill(read, 30, 8) for read in (8, 16, 30)]
    assert server.bodies(CHAT)[0]["return_progress"] is True
    assert not any(isinstance(part, Prefill) for part in backend.stream(PROMPT, OPTIONS))


def test_the_model_is_named_by_its_file_and_the_window_is_the_servers(server: ScriptedServer) -> None:
    info = LlamaServerBackend(server.url).info()
    assert (info.name, info.model, info.context_window) == ("llama.cpp", "tiny", 4096)
    assert info.prompt_tokens < 4096
    server.answers["/props"] = whole({"default_generation_settings": {"n_ctx": 65_536}, "model_alias": "coder"})
    assert LlamaServerBackend(server.url, prompt_tokens=9000).info().prompt_tokens == 9000


def test_what_a_server_says_of_itself_is_asked_again_after_a_second(server: ScriptedServer) -> None:
    now = [0.0]
    backend = LlamaServerBackend(server.url, clock=lambda: now[0])
    for _ in range(3):
        assert backend.info().context_window == 4096
    assert server.paths() == ["/props"]
    server.answers = llama_cpp(8192)
    now[0] = 1.5
    assert backend.info().context_window == 8192


def test_another_model_build_window_or_template_is_another_identity(server: ScriptedServer) -> None:
    base = {"default_generation_settings": {"n_ctx": 4096}, "model_path": "/m/a.gguf", "build_info": "b1"}
    others = (
        {"default_generation_settings": {"n_ctx": 8192}},
        {"model_path": "/m/b.gguf"},
        {"build_info": "b2"},
        {"chat_template": "{{ messages }}"},
    )
    seen = set()
    for change in ({}, *others, {}):
        server.answers["/props"] = whole(base | change)
        seen.add(LlamaServerBackend(server.url).identity())
    assert len(seen) == 1 + len(others)


# The size of a prompt


def text_of(tokens: int) -> str:
    """A text that the scripted server counts as so many tokens."""
    return "abc" * tokens


def test_a_prompt_is_measured_in_its_template_and_refused_before_it_is_sent(server: ScriptedServer) -> None:
    backend = LlamaServerBackend(server.url)
    fits = 4096 - 8 - OPTIONS.max_tokens
    for stated in (fits + 1, 10, 0):  # the last two are no count of this text
        with pytest.raises(PromptTooLong) as caught:
            backend.stream(Prompt("", text_of(fits + 1), (), (), stated), OPTIONS)
        assert "4081" in caught.value.message
    assert CHAT not in server.paths()
    assert ask(backend, Prompt("", text_of(fits), (), (), fits))[1].usage.prompt == 4080


def test_a_prompt_that_leaves_room_to_spare_is_not_counted_again(server: ScriptedServer) -> None:
    backend = LlamaServerBackend(server.url)
    ask(backend, Prompt("", text_of(3000), (), (), 3000))
    server.asked.clear()
    ask(backend, Prompt("", text_of(3500), (), (), 3500))
    assert server.paths() == [CHAT]
    server.asked.clear()
    ask(backend, Prompt("", text_of(4060), (), (), 4060))
    assert server.paths() == ["/apply-template", "/tokenize", CHAT]


def test_a_server_that_renders_no_templates_is_given_the_texts_own_count(server: ScriptedServer) -> None:
    del server.answers["/apply-template"]
    backend = LlamaServerBackend(server.url)
    assert ask(backend)[1].text
    with pytest.raises(PromptTooLong):
        backend.stream(Prompt("", text_of(4060), (), (), tokens=4060), OPTIONS)


def test_a_count_that_was_too_high_makes_no_answer_a_shortened_one(server: ScriptedServer) -> None:
    backend = LlamaServerBackend(server.url)
    assert ask(backend, replace(PROMPT, tokens=90))[1].usage.prompt == 34
    server.answers[CHAT] = stream(*WHOLE[:3], counts(20, 2))
    with pytest.raises(BrokenStream):
        ask(backend, replace(PROMPT, tokens=90))


# Faults


def test_a_server_that_loads_its_model_is_busy(server: ScriptedServer) -> None:
    server.answers["/props"] = refusal(503, "Loading model", "unavailable_error")
    with pytest.raises(BackendBusy) as caught:
        ask(LlamaServerBackend(server.url))
    assert "Loading model" in caught.value.message


def test_another_kind_of_server_is_told_from_llama_cpp(server: ScriptedServer) -> None:
    for answers in ({}, {"/props": whole({"data": []})}):
        server.answers = dict(answers)
        with pytest.raises(BackendUnavailable) as caught:
            LlamaServerBackend(server.url).info()
        assert "not a llama.cpp server" in caught.value.message


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "127.0.0.1:9", "http://127.0.0.1:port", "gopher://127.0.0.1:9", "http://..:9"]
)
def test_a_server_that_is_not_there_is_unavailable(address: str) -> None:
    with pytest.raises(BackendUnavailable):
        LlamaServerBackend(address).info()


# Prefixes on disk


SAVE, RESTORE, ERASE = (f"/slots/0?action={action}" for action in ("save", "restore", "erase"))


def test_a_server_without_a_folder_keeps_no_prefixes_and_says_how_it_would(server: ScriptedServer) -> None:
    no_folder = refusal(501, "This server does not support slots action. Start it with `--slot-save-path`")
    for answer in (no_folder, refusal(404, "File Not Found", "not_found_error")):
        server.answers |= dict.fromkeys((SAVE, RESTORE, ERASE), answer)
        backend = LlamaServerBackend(server.url)
        assert not backend.capabilities().prefix_files
        with pytest.raises(UnsupportedRequest):
            backend.save_prefix("name.bin")
    server.answers[SAVE] = no_folder
    with pytest.raises(UnsupportedRequest) as caught:
        backend.save_prefix("name.bin")
    assert "--slot-save-path" in caught.value.hint


def test_a_disk_that_is_full_is_told(server: ScriptedServer) -> None:
    server.answers[SAVE] = refusal(500, "Unable to save slot", "server_error")
    with pytest.raises(BackendError) as caught:
        LlamaServerBackend(server.url).save_prefix("name.bin")
    assert "disk is full" in caught.value.hint


def test_a_prefix_that_is_empty_is_of_no_use(server: ScriptedServer) -> None:
    server.answers[RESTORE] = whole({"n_restored": 0, "n_read": 36, "timings": {"restore_ms": 1.0}})
    with pytest.raises(PrefixUnusable):
        LlamaServerBackend(server.url).restore_prefix("name.bin")


@pytest.mark.parametrize("name", ["../name", "/etc/passwd", "a/b", ".hidden", "a\0b", "a" * 129])
def test_a_prefix_is_named_by_a_plain_name(server: ScriptedServer, name: str) -> None:
    backend = LlamaServerBackend(server.url)
    for action in (backend.save_prefix, backend.restore_prefix):
        with pytest.raises(UnsupportedRequest):
            action(name)
    assert not any(path.startswith("/slots") for path in server.paths())


def test_a_server_with_several_slots_must_be_told_which_one_a_prefix_is_of(server: ScriptedServer) -> None:
    server.answers["/props"] = whole({"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4})
    server.answers["/slots/3?action=save"] = whole({"n_saved": 5, "n_written": 500, "timings": {"save_ms": 250}})
    assert not LlamaServerBackend(server.url).capabilities().prefix_files
    with pytest.raises(UnsupportedRequest) as caught:
        LlamaServerBackend(server.url).save_prefix("name.bin")
    assert "slot" in caught.value.message
    saved = LlamaServerBackend(server.url, slot=3).save_prefix("name.bin")
    assert (saved.tokens, saved.bytes, saved.seconds) == (5, 500, 0.25)


@pytest.fixture(scope="module")
def slots_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slots")


@pytest.fixture(scope="module")
def real(slots_folder: Path) -> Iterator[LlamaServerBackend]:
    with llama_server(1024, slots_folder=str(slots_folder)) as url, closing(LlamaServerBackend(url)) as backend:
        yield backend


def real_prompt(question: str) -> Prompt:
    return Prompt("Answer in one word.", f"{SOURCE}\n{question}", (), (), 200)


def test_a_prefix_that_was_kept_is_not_read_again(real: LlamaServerBackend, slots_folder: Path) -> None:
    assert real.capabilities().prefix_files
    asked = real_prompt("What does function_3 return?")
    first = ask(real, asked)[1]
    saved = real.save_prefix("kept.bin")
    assert saved.tokens >= first.usage.prompt
    assert saved.bytes == (slots_folder / "kept.bin").stat().st_size
    real.erase_prefix()
    ask(real, Prompt("", "Something else.", (), (), 5))
    restored = real.restore_prefix("kept.bin")
    assert (restored.tokens, restored.bytes) == (saved.tokens, saved.bytes)
    again = ask(real, asked)[1]
    assert again.text == first.text
    assert again.usage.cached == first.usage.prompt - 1
    other = ask(real, real_prompt("What does function_5 return?"))[1]
    assert (other.usage.cached or 0) > first.usage.prompt * 0.8


def test_a_prefix_that_was_erased_is_read_again(real: LlamaServerBackend) -> None:
    asked = real_prompt("What does function_4 return?")
    ask(real, asked)
    real.erase_prefix()
    assert ask(real, asked)[1].usage.cached == 0


def test_a_prefix_file_that_is_damaged_missing_or_in_the_way_is_told(
    real: LlamaServerBackend, slots_folder: Path
) -> None:
    asked = real_prompt("What does function_6 return?")
    before = ask(real, asked)[1].text
    real.save_prefix("whole.bin")
    content = (slots_folder / "whole.bin").read_bytes()
    (slots_folder / "head.bin").write_bytes(content[:400])
    (slots_folder / "junk.bin").write_bytes(b"hello" * 100)
    (slots_folder / "empty.bin").touch()
    for name in ("head.bin", "junk.bin", "empty.bin", "missing.bin"):
        with pytest.raises(PrefixUnusable) as caught:
            real.restore_prefix(name)
        assert name in caught.value.message
    (slots_folder / "folder.bin").mkdir()
    with pytest.raises(BackendError) as refused:
        real.save_prefix("folder.bin")
    assert "could not put" in refused.value.message
    assert ask(real, asked)[1].text == before


def test_a_prefix_larger_than_the_window_is_told(real: LlamaServerBackend, slots_folder: Path) -> None:
    ask(real, real_prompt(f"{SOURCE}\nWhat does function_7 return?"))
    assert real.save_prefix("large.bin").tokens > 256
    with llama_server(256, slots_folder=str(slots_folder)) as url, closing(LlamaServerBackend(url)) as small:
        with pytest.raises(PrefixUnusable) as caught:
            small.restore_prefix("large.bin")
        assert "larger than the context window" in caught.value.message
        assert ask(small, Prompt("", "Say yes.", (), (), 5))[1].usage.cached == 0


def test_a_named_slot_of_several_keeps_its_own_prefix(slots_folder: Path) -> None:
    asked = Prompt("", "Name one word that rhymes with tree, and nothing else.", (), (), 20)
    with llama_server(512, slots_folder=str(slots_folder), parallel=2) as url:
        first, second = LlamaServerBackend(url, slot=0), LlamaServerBackend(url, slot=1)
        assert second.capabilities().prefix_files
        read = ask(second, asked)[1].usage.prompt
        saved = second.save_prefix("second.bin")
        assert saved.tokens >= read
        assert first.save_prefix("first.bin").tokens == 0
        second.erase_prefix()
        first.restore_prefix("second.bin")
        assert ask(first, asked)[1].usage.cached == read - 1
        first.close()
        second.close()


def test_an_answer_left_half_way_frees_its_slot(real: LlamaServerBackend) -> None:
    endless = GenerationOptions(max_tokens=900, timeout_s=60, temperature=1.0)
    answer = real.stream(Prompt("", "Write a very long story about compilers.", (), (), 10), endless)
    with closing(answer):  # type: ignore[type-var]
        next(answer)
    ask(real, Prompt("", "Say yes.", (), (), 5))  # served at once: the one slot is free again
    (slot,) = json.loads(_get(f"{real._url}/slots"))
    assert not slot["is_processing"]
    assert slot["params"]["max_tokens"] == OPTIONS.max_tokens


def test_a_prompt_left_in_the_middle_of_being_read_frees_its_slot(real: LlamaServerBackend) -> None:
    reading = real.stream(real_prompt("Which functions are there?" * 40), replace(OPTIONS, progress=True))
    with closing(reading):  # type: ignore[type-var]
        assert isinstance(next(reading), Prefill)
    answer = ask(real, Prompt("", "Say yes.", (), (), 5))[1]
    assert answer.finish in {"stop", "length"}
    (slot,) = json.loads(_get(f"{real._url}/slots"))
    assert not slot["is_processing"]


def _get(url: str) -> bytes:
    import urllib.request

    with urllib.request.urlopen(url, timeout=20) as response:
        body: bytes = response.read()
        return body


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
