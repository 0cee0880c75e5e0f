"""OpenAiCompatibleBackend: what each kind of server tells, and what is made of what none of them tells."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.backends.openai_compatible import TEMPLATE_TOKENS, OpenAiCompatibleBackend
from hub.errors import (
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelMissing,
    PromptTooLong,
    UnsupportedRequest,
)
from hub.model import Completion, Counting, GenerationOptions, Prompt
from tests.support.real_llama import llama_server
from tests.support.scripted_server import (
    CHAT,
    DONE,
    WHOLE,
    ScriptedServer,
    count_tokens,
    counts,
    event,
    llama_cpp,
    lm_studio,
    refusal,
    stream,
    vllm,
    whole,
)

OPTIONS = GenerationOptions(max_tokens=16, timeout_s=20)
PROMPT = Prompt("Answer from the evidence.", "[1] int two() { return 2; }\nWhat does two return?", (), (), 30)
SOURCE = "int function(int a, int b) { return a + b; }\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(vllm()) as running:
        yield running


def ask(
    backend: OpenAiCompatibleBackend, asked: Prompt = PROMPT, options: GenerationOptions = OPTIONS
) -> tuple[list[str], Completion]:
    *pieces, end = backend.stream(asked, options)
    assert isinstance(end, Completion)
    return [piece for piece in pieces if isinstance(piece, str)], end


def refused(backend: OpenAiCompatibleBackend, asked: Prompt) -> bool:
    """Whether the prompt is too long, asked without reading an answer."""
    try:
        backend.stream(asked, OPTIONS).close()  # type: ignore[attr-defined] # it is a generator
    except PromptTooLong:
        return True
    return False


# What servers tell


def test_vllm_tells_its_model_its_window_and_counts(server: ScriptedServer) -> None:
    backend = OpenAiCompatibleBackend(f"{server.url}/v1/")
    info = backend.info()
    assert (info.name, info.model, info.context_window) == ("vLLM", "Qwen/Qwen3-8B", 4096)
    can = backend.capabilities()
    assert (can.counting, can.logprobs, can.json_schema) == (Counting.EXACT, True, True)
    assert backend.count_tokens(SOURCE) == count_tokens(SOURCE)
    assert ask(backend)[1].text
    assert server.bodies("/tokenize")[-1]["add_special_tokens"] is False


def test_lm_studio_tells_the_window_that_a_model_was_loaded_with(server: ScriptedServer) -> None:
    server.answers = lm_studio(8192)
    backend = OpenAiCompatibleBackend(server.url)
    info = backend.info()
    assert (info.name, info.model, info.context_window) == ("LM Studio", "qwen2.5-coder-7b-instruct", 8192)
    can = backend.capabilities()
    assert (can.counting, can.logprobs, can.json_schema) == (Counting.BOUND, False, True)


def test_a_model_of_lm_studio_that_is_not_loaded_has_no_window_yet(server: ScriptedServer) -> None:
    server.answers = lm_studio()
    with pytest.raises(BackendUnavailable) as caught:
        OpenAiCompatibleBackend(server.url, "another").info()
    assert "Load the model" in caught.value.hint


def test_llama_cpp_tells_the_window_it_runs_with_and_not_the_one_it_was_trained_for(server: ScriptedServer) -> None:
    meta = {"n_ctx": 2048, "n_ctx_train": 131_072}
    server.answers = {"/v1/models": whole({"data": [{"id": "m", "owned_by": "llamacpp", "meta": meta}]})}
    info = OpenAiCompatibleBackend(server.url).info()
    assert (info.name, info.context_window) == ("llama.cpp", 2048)


def plain(*models: str) -> ScriptedServer:
    """A server that says nothing but what OpenAI's interface says."""
    data = [{"id": model, "object": "model", "owned_by": "somebody"} for model in models]
    return ScriptedServer({"/v1/models": whole({"object": "list", "data": data}), CHAT: stream(*WHOLE)})


def test_a_window_that_nobody_tells_is_not_assumed() -> None:
    with plain("m") as server:
        backend = OpenAiCompatibleBackend(server.url)
        for call in (backend.info, lambda: backend.stream(PROMPT, OPTIONS)):
            with pytest.raises(BackendUnavailable) as caught:
                call()
            assert "context window" in caught.value.message
            assert "profile.context" in caught.value.hint
        assert OpenAiCompatibleBackend(server.url, context_window=2048).info().context_window == 2048


def test_a_window_that_is_set_caps_what_a_server_tells(server: ScriptedServer) -> None:
    assert OpenAiCompatibleBackend(server.url, context_window=1000).info().context_window == 1000
    assert OpenAiCompatibleBackend(server.url, context_window=9000).info().context_window == 4096


def test_a_server_that_is_not_known_claims_nothing() -> None:
    with plain("m") as server:
        backend = OpenAiCompatibleBackend(server.url, context_window=2048)
        can = backend.capabilities()
        assert (can.counting, can.logprobs, can.json_schema, can.progress) == (Counting.BOUND, False, False, False)
        for options in (replace(OPTIONS, logprobs=1), replace(OPTIONS, json_schema="{}")):
            with pytest.raises(UnsupportedRequest):
                backend.stream(PROMPT, options)
        assert ask(backend)[1].text == "Two [1]."
        assert "chat_template_kwargs" not in server.bodies(CHAT)[0]


def test_the_named_model_is_asked_for_and_a_missing_one_is_told_with_those_there_are() -> None:
    with plain("first", "second") as server:
        ask(OpenAiCompatibleBackend(server.url, "second", context_window=2048))
        assert server.bodies(CHAT)[0]["model"] == "second"
        with pytest.raises(ModelMissing) as caught:
            OpenAiCompatibleBackend(server.url, "third", context_window=2048).info()
        assert "first, second" in caught.value.hint
    with plain() as server:
        assert OpenAiCompatibleBackend(server.url, "third", context_window=2048).info().model == "third"
        with pytest.raises(ModelMissing):
            OpenAiCompatibleBackend(server.url, context_window=2048).info()


def test_a_server_without_a_list_of_models_is_none_of_these(server: ScriptedServer) -> None:
    server.answers = llama_cpp()
    with pytest.raises(BackendUnavailable) as caught:
        OpenAiCompatibleBackend(server.url).info()
    assert "not a server of OpenAI's interface" in caught.value.message


def test_ollama_is_sent_to_its_own_interface(server: ScriptedServer) -> None:
    data = [{"id": "qwen2.5-coder:7b", "object": "model", "owned_by": "library"}]
    server.answers = {"/v1/models": whole({"data": data}), "/api/version": whole({"version": "0.17.4"})}
    with pytest.raises(BackendUnavailable) as caught:
        OpenAiCompatibleBackend(server.url, context_window=4096).info()
    assert "ollama.host" in caught.value.hint


# The size of a prompt


def test_a_prompt_near_the_window_is_counted_by_the_server_in_its_template(server: ScriptedServer) -> None:
    backend = OpenAiCompatibleBackend(server.url)
    fits = 4096 - 8 - OPTIONS.max_tokens
    assert not refused(backend, Prompt("", "abc" * fits, (), (), fits))
    assert refused(backend, Prompt("", "abc" * (fits + 1), (), (), fits + 1))
    assert refused(backend, Prompt("", "abc" * (fits + 1), (), (), 0))
    assert "messages" in server.bodies("/tokenize")[-1]
    assert CHAT not in server.paths()


def test_a_prompt_that_leaves_room_to_spare_is_not_counted_again(server: ScriptedServer) -> None:
    backend = OpenAiCompatibleBackend(server.url)
    ask(backend)
    server.asked.clear()
    ask(backend, Prompt("", "abc" * 3000, (), (), 3000))
    assert server.paths() == [CHAT]


def test_a_tokenizer_that_is_at_hand_counts(server: ScriptedServer) -> None:
    server.answers = lm_studio()
    backend = OpenAiCompatibleBackend(server.url, tokenizer=count_tokens)
    assert backend.capabilities().counting is Counting.EXACT
    assert backend.count_tokens(SOURCE) == count_tokens(SOURCE)
    fits = 4096 - TEMPLATE_TOKENS - OPTIONS.max_tokens
    assert not refused(backend, Prompt("", "abc" * fits, (), (), fits))
    assert refused(backend, Prompt("", "abc" * (fits + 1), (), (), fits + 1))


def test_an_estimate_grows_with_what_an_answer_tells(server: ScriptedServer) -> None:
    server.answers = lm_studio(65_536)
    backend = OpenAiCompatibleBackend(server.url)
    asked = Prompt("", SOURCE * 100, (), (), 100)
    before = backend.count_tokens(asked.user)
    server.answers[CHAT] = stream(*WHOLE[:3], counts(before * 2, 2))
    ask(backend, asked)
    assert backend.count_tokens(asked.user) + TEMPLATE_TOKENS >= before * 2
    grown = backend.count_tokens(asked.user)
    server.answers[CHAT] = stream(*WHOLE[:3], counts(before, 2))
    ask(backend, asked)
    assert backend.count_tokens(asked.user) == grown


def test_an_estimate_grows_with_what_a_refusal_tells(server: ScriptedServer) -> None:
    server.answers = lm_studio(65_536)
    message = (
        "Trying to keep the first 40000 tokens when context the overflows. ... context length of only 65536 tokens"
    )
    server.answers[CHAT] = whole({"error": message}, 400)
    backend = OpenAiCompatibleBackend(server.url)
    asked = Prompt("", SOURCE * 1000, (), (), 100)
    assert backend.count_tokens(asked.user) < 40_000
    with pytest.raises(PromptTooLong):
        ask(backend, asked)
    assert backend.count_tokens(asked.user) + TEMPLATE_TOKENS >= 40_000


@settings(max_examples=25, deadline=None)
@given(share=st.integers(1, 70))
def test_an_answer_from_half_a_prompt_never_passes(share: int) -> None:
    tokens = 2000
    with ScriptedServer(lm_studio(65_536)) as server:
        server.answers[CHAT] = stream(*WHOLE[:3], counts(tokens * share // 100, 2))
        backend = OpenAiCompatibleBackend(server.url)
        words = Prompt("", "word " * tokens, (), (), tokens)
        with pytest.raises(BrokenStream):
            ask(backend, words)
        backend.close()


# Faults


def test_an_answer_of_nothing_is_broken(server: ScriptedServer) -> None:
    server.answers[CHAT] = stream(event(finish="stop"), counts(30, 12), DONE)
    with pytest.raises(BrokenStream) as caught:
        ask(OpenAiCompatibleBackend(server.url))
    assert "nothing" in caught.value.message
    server.answers[CHAT] = stream(event(finish="length"), counts(30, 16), DONE)
    assert ask(OpenAiCompatibleBackend(server.url))[1].finish == "length"  # all of it went into thoughts


def test_a_tokenizer_path_that_fails_is_done_without_but_not_one_that_is_guarded(server: ScriptedServer) -> None:
    for answer in (refusal(404, "Not Found"), refusal(400, "bad"), whole({"tokens": []}), whole("nonsense")):
        server.answers["/tokenize"] = answer
        assert OpenAiCompatibleBackend(server.url).capabilities().counting is Counting.BOUND
    server.answers["/tokenize"] = refusal(401, "Unauthorized")
    with pytest.raises(BackendUnavailable) as caught:
        OpenAiCompatibleBackend(server.url).capabilities()
    assert "key" in caught.value.message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "id", "owned_by", "max_model_len", "meta", "n_ctx", "state", "count", "error"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    path=st.sampled_from(["/v1/models", "/api/v0/models", "/tokenize"]),
    status=st.sampled_from([200, 302, 401, 404, 500, 503]),
    body=JSON_VALUES | st.text(max_size=20),
)
def test_whatever_a_server_tells_of_itself_only_our_own_errors_come_out(path: str, status: int, body: object) -> None:
    with ScriptedServer(lm_studio() | {"/tokenize": whole({"count": 1}), path: whole(body, status)}) as server:
        backend = OpenAiCompatibleBackend(server.url)
        try:
            backend.capabilities()
            assert ask(backend)[1].text
        except BackendError as error:
            assert error.message  # noqa: PT017 - both ends are right, but no third
        finally:
            backend.close()


# The real thing


def test_llama_cpps_own_interface_answers_with_all_that_it_is_said_to_do() -> None:
    with llama_server(512) as url, closing(OpenAiCompatibleBackend(url)) as backend:
        assert backend.info().context_window == 512
        schema = '{"type": "object", "properties": {"two": {"type": "integer"}}, "required": ["two"]}'
        options = replace(OPTIONS, max_tokens=48, logprobs=3, json_schema=schema)
        end = ask(backend, PROMPT, options)[1]
        assert end.text.lstrip().startswith("{")
        assert "".join(token.token for token in end.logprobs) == end.text
        assert ask(backend, PROMPT, options)[1].usage.cached
        assert backend.count_tokens(PROMPT.user) + TEMPLATE_TOKENS >= end.usage.prompt - TEMPLATE_TOKENS


def test_the_window_of_one_slot_is_told_where_there_are_several() -> None:
    with llama_server(512, parallel=2) as url, closing(OpenAiCompatibleBackend(url)) as backend:
        assert backend.info().context_window == 512
