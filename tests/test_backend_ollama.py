import functools
import itertools
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.backends import vocabulary
from hub.backends.ollama import (
    TEMPLATE_TOKENS,
    OllamaBackend,
    OllamaEmbedder,
    Resident,
    find,
    installed_models,
    model_facts,
    preload,
    residency,
    unload,
)
from hub.backends.ollama.embedding import EMBED_BATCH, EMBED_TIMEOUT_S
from hub.errors import (
    BackendBusy,
    BackendError,
    BackendUnavailable,
    BrokenStream,
    ModelFileError,
    ModelMissing,
    PromptTooLong,
    UnsupportedRequest,
)
from hub.model import Completion, Counting, GenerationOptions, Prompt, Timings
from indexer.errors import EmbedderError
from tests.support.fake_ollama import (
    Answer,
    FakeModel,
    FakeOllama,
    Lines,
    Refusal,
    chat_line,
    error_body,
    exceeds,
    last_line,
)
from tests.support.vocabularies import made_vocabulary

MODEL = "qwen2.5-coder:7b"
EVIDENCE = "int add(int first, int second) { return first + second; }\n" * 40
OPTIONS = GenerationOptions(max_tokens=64, timeout_s=20)


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama() as running:
        yield running


@pytest.fixture(scope="module")
def shared_fake() -> Iterator[FakeOllama]:
    with FakeOllama() as running:
        yield running


@pytest.fixture(scope="module")
def shared_backend(shared_fake: FakeOllama) -> OllamaBackend:
    """For the laws about errors, which leave nothing behind; making a client takes longer than an example."""
    return OllamaBackend(shared_fake.url, MODEL)


def prompt(user: str = EVIDENCE, system: str = "Answer from the evidence and cite it.") -> Prompt:
    return Prompt(system, user, (), (), tokens=len(user) // 3 + len(system) // 3)


def ask(backend: OllamaBackend, asked: Prompt | None = None) -> tuple[list[str], Completion]:
    *pieces, end = backend.stream(asked or prompt(), OPTIONS)
    assert isinstance(end, Completion)
    return [piece for piece in pieces if isinstance(piece, str)], end


def check_chat_fails(fake: FakeOllama, answer: Answer, kind: type[BackendError], *words: str) -> BackendError:
    """A chat that is answered so raises exactly this kind of error, with these words in message or hint."""
    fake.chat = lambda _: answer
    with pytest.raises(kind) as caught:
        ask(OllamaBackend(fake.url, MODEL))
    for word in words:
        assert word in f"{caught.value.message} | {caught.value.hint}"
    return caught.value


# Laws


NOWHERE = OllamaBackend("http://127.0.0.1:9", MODEL)


@given(first=st.text(), second=st.text())
def test_a_longer_text_never_counts_fewer_tokens_and_parts_never_count_less_than_the_whole(
    first: str, second: str
) -> None:
    backend = NOWHERE
    whole, parts = backend.count_tokens(first + second), (backend.count_tokens(first), backend.count_tokens(second))
    assert max(parts) <= whole <= sum(parts)
    assert (whole == 0) == (first + second == "")


@settings(max_examples=12, deadline=None)
@given(size=st.integers(1024, 6000), counts=st.lists(st.integers(400, 9000), min_size=1, max_size=3))
def test_the_estimate_is_never_below_a_count_that_ollama_has_told(
    shared_fake: FakeOllama, size: int, counts: list[int]
) -> None:
    backend = OllamaBackend(shared_fake.url, MODEL)
    asked = prompt(user="a" * size, system="")
    before = backend.count_tokens(asked.user)
    for count in counts:
        shared_fake.chat = lambda _, told=count: Lines([last_line(told, 1)])
        ask(backend, asked)
    assert backend.count_tokens(asked.user) + TEMPLATE_TOKENS >= max(counts)
    assert backend.count_tokens(asked.user) >= before


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 50) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "content", "done", "prompt_eval_count"]) | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
JSON_LINES = JSON_VALUES.map(lambda value: json.dumps(value).encode())


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(JSON_LINES | st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=4),
    cut=st.booleans(),
)
def test_whatever_line_comes_only_our_own_errors_come_out(
    shared_fake: FakeOllama, shared_backend: OllamaBackend, lines: list[bytes], cut: bool
) -> None:
    shared_fake.chat = lambda _: Lines([chat_line("It"), *lines], cut)
    with pytest.raises(BackendError):  # none of these answers says how much was read, so none is whole
        ask(shared_backend)


@settings(max_examples=60, deadline=None)
@given(status=st.sampled_from([301, 400, 401, 404, 418, 500, 502, 503]), body=JSON_VALUES.map(json.dumps) | st.text())
def test_whatever_refusal_comes_only_our_own_errors_come_out(
    shared_fake: FakeOllama, shared_backend: OllamaBackend, status: int, body: str
) -> None:
    shared_fake.chat = lambda _: Refusal(status, body.encode("utf-8", "replace").decode())
    with pytest.raises(BackendError):
        ask(shared_backend)


# What is sent


def test_every_chat_forbids_cutting_shifting_and_thinking_and_names_one_window(fake: FakeOllama) -> None:
    backend = OllamaBackend(fake.url, MODEL, num_ctx=8192)
    ask(backend)
    ask(backend, prompt("Another question?"))
    bodies = fake.bodies("/api/chat")
    assert len(bodies) == 2
    for body in bodies:
        assert (body["truncate"], body["shift"], body["think"], body["stream"]) == (False, False, False, True)
        assert body["options"] == {"num_ctx": 8192, "num_predict": 64, "temperature": 0.0, "seed": 0}
    assert bodies[0]["messages"] == [
        {"role": "system", "content": "Answer from the evidence and cite it."},
        {"role": "user", "content": EVIDENCE},
    ]


def test_the_window_is_at_most_what_the_model_was_trained_for(fake: FakeOllama) -> None:
    fake.models = (FakeModel(MODEL, context_length=4096),)
    backend = OllamaBackend(fake.url, MODEL, num_ctx=32_768)
    info = backend.info()
    assert info.context_window == 4096
    assert info.prompt_tokens + OPTIONS.max_tokens < 4096
    ask(backend)
    assert fake.bodies("/api/chat")[0]["options"]["num_ctx"] == 4096


def test_a_model_that_tells_no_window_gets_the_one_asked_for(fake: FakeOllama) -> None:
    fake.show = {"details": {"format": "safetensors"}}
    assert OllamaBackend(fake.url, MODEL, num_ctx=16_384).info().context_window == 16_384


def test_a_lone_surrogate_in_a_question_is_sent_as_a_question_mark(fake: FakeOllama) -> None:
    ask(OllamaBackend(fake.url, MODEL), prompt("what is \ud800 here"))
    assert fake.bodies("/api/chat")[0]["messages"][1]["content"] == "what is ? here"


# What comes back


def test_an_answer_comes_in_pieces_and_ends_with_its_counts(fake: FakeOllama) -> None:
    pieces, end = ask(OllamaBackend(fake.url, MODEL))
    assert pieces[:4] == ["It", " is", " in", " [1]"]
    assert end.text == "".join(pieces)
    assert end.finish == "stop"
    assert end.usage.prompt > len(EVIDENCE) // 4
    assert (end.usage.completion, end.usage.cached) == (len(pieces), None)


def test_an_answer_that_ran_out_of_room_says_so(fake: FakeOllama) -> None:
    *_, end = OllamaBackend(fake.url, MODEL).stream(prompt(), GenerationOptions(max_tokens=3))
    assert isinstance(end, Completion)
    assert (end.finish, end.text) == ("length", "It is in")


def test_thoughts_that_come_unasked_are_not_part_of_the_answer(fake: FakeOllama) -> None:
    thought = {"message": {"role": "assistant", "content": "", "thinking": "Hmm."}, "done": False}
    fake.chat = lambda _: Lines([json.dumps(thought).encode(), chat_line("Yes."), last_line(900, 9)])
    assert ask(OllamaBackend(fake.url, MODEL))[0] == ["Yes."]


def test_closing_the_iterator_drops_the_connection(fake: FakeOllama) -> None:
    fake.chat = lambda _: Lines(chat_line("more " * 500) for _ in itertools.count())
    answer = OllamaBackend(fake.url, MODEL).stream(prompt(), OPTIONS)
    assert next(answer) == "more " * 500
    answer.close()  # type: ignore[attr-defined]
    assert fake.gave_up.wait(20)


# Faults, each as Ollama has it


def test_an_ollama_that_does_not_run_is_unavailable_and_the_hint_starts_it() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        OllamaBackend(unused_address(), MODEL).info()
    assert "ollama serve" in caught.value.hint


def test_a_model_that_was_not_pulled_is_missing_and_the_hint_pulls_it(fake: FakeOllama) -> None:
    with pytest.raises(ModelMissing) as caught:
        ask(OllamaBackend(fake.url, "qwen3-coder:30b"))
    assert caught.value.hint == "ollama pull qwen3-coder:30b"
    check_chat_fails(fake, Refusal(404, error_body(f"model '{MODEL}' not found")), ModelMissing, f"pull {MODEL}")
    check_chat_fails(fake, Refusal(400, error_body("model is required")), ModelMissing)


def test_a_full_queue_is_busy(fake: FakeOllama) -> None:
    full = "server busy, please try again.  maximum pending requests exceeded"
    check_chat_fails(fake, Refusal(503, error_body(full)), BackendBusy, "maximum pending requests")


def test_an_error_in_the_middle_of_an_answer_breaks_it(fake: FakeOllama) -> None:
    error = json.dumps({"error": "an error was encountered while running the model: CUDA error"}).encode()
    check_chat_fails(fake, Lines([chat_line("It"), error]), BrokenStream, "CUDA error")
    check_chat_fails(fake, Lines([chat_line("It"), b'{"error": {"code": 500}}']), BrokenStream)


def test_a_connection_cut_half_way_breaks_the_answer(fake: FakeOllama) -> None:
    check_chat_fails(fake, Lines([chat_line("It"), chat_line(" is")], cut=True), BrokenStream, "broke")


def test_an_answer_that_ends_without_its_last_line_is_broken(fake: FakeOllama) -> None:
    check_chat_fails(fake, Lines([chat_line("It"), chat_line(" is")]), BrokenStream, "stopped in the middle")


def test_the_pieces_before_a_fault_are_handed_on(fake: FakeOllama) -> None:
    fake.chat = lambda _: Lines([chat_line("It"), chat_line(" is")])
    answer = OllamaBackend(fake.url, MODEL).stream(prompt(), OPTIONS)
    assert [next(answer), next(answer)] == ["It", " is"]
    with pytest.raises(BrokenStream):
        next(answer)


@pytest.mark.parametrize(
    "error",
    [
        "llama-server reported out-of-memory during startup: cudaMalloc failed",
        "model requires more system memory (20 GiB) than is available (8 GiB)",
        "model runner has unexpectedly stopped, this may be due to resource limitations",
    ],
)
def test_too_little_memory_is_told_with_a_way_out(fake: FakeOllama, error: str) -> None:
    raised = check_chat_fails(fake, Refusal(500, error_body(error)), BackendError, error[:30], "num_ctx")
    assert type(raised) is BackendError


def test_a_prompt_cut_by_an_old_ollama_breaks_the_answer(fake: FakeOllama) -> None:
    fake.ignores_truncate = True
    fake.show = {}  # so that the window asked for is not capped,
    fake.models = (FakeModel(MODEL, context_length=600),)  # though the model is loaded with a smaller one
    with pytest.raises(BrokenStream) as caught:
        ask(OllamaBackend(fake.url, MODEL))
    assert "shortened prompt" in caught.value.message


def test_an_answer_that_does_not_tell_how_much_was_read_is_not_trusted(fake: FakeOllama) -> None:
    check_chat_fails(fake, Lines([chat_line("It"), chat_line("", done=True)]), BrokenStream, "shortened prompt")


def test_a_prompt_that_cannot_fit_is_refused_before_it_is_sent(fake: FakeOllama) -> None:
    backend = OllamaBackend(fake.url, MODEL, num_ctx=2048)
    with pytest.raises(PromptTooLong) as caught:
        backend.stream(prompt(EVIDENCE * 4), OPTIONS)
    assert "2048" in caught.value.message
    assert fake.bodies("/api/chat") == []


def test_a_prompt_whose_count_is_understated_is_counted_again(fake: FakeOllama) -> None:
    with pytest.raises(PromptTooLong):
        OllamaBackend(fake.url, MODEL, num_ctx=2048).stream(Prompt("", EVIDENCE * 4, (), (), tokens=1), OPTIONS)


@pytest.mark.parametrize(
    "body",
    [
        exceeds(5001, 4096),
        json.dumps({"error": json.loads(json.loads(exceeds(5001, 4096))["error"])["error"]}),
        error_body("the prompt is longer than the context length currently available to the model; shorten it"),
    ],
    ids=["json in a string", "json in json", "words"],
)
def test_a_prompt_that_ollama_refuses_as_too_long_is_too_long(fake: FakeOllama, body: str) -> None:
    sizes = ("5001", "4096") if "5001" in body else ("does not fit",)
    check_chat_fails(fake, Refusal(400, body), PromptTooLong, *sizes)


def test_a_refusal_teaches_the_estimate(fake: FakeOllama) -> None:
    backend = OllamaBackend(fake.url, MODEL)
    fake.chat = lambda _: Refusal(400, exceeds(5001, 4096))
    with pytest.raises(PromptTooLong):
        ask(backend)
    assert backend.count_tokens(prompt().system + prompt().user) + TEMPLATE_TOKENS >= 5001


def test_something_else_on_ollamas_port_is_unavailable(fake: FakeOllama) -> None:
    check_chat_fails(fake, Refusal(404, "404 page not found"), BackendUnavailable, "is not Ollama")


def test_a_silent_ollama_breaks_the_answer_when_the_time_is_up(fake: FakeOllama) -> None:
    def silence() -> Iterator[bytes]:
        fake.gave_up.wait(20)
        yield chat_line("late")

    fake.chat = lambda _: Lines(silence())
    with pytest.raises(BrokenStream) as caught:
        list(OllamaBackend(fake.url, MODEL).stream(prompt(), GenerationOptions(max_tokens=8, timeout_s=0.2)))
    fake.gave_up.set()
    assert "in time" in caught.value.message


# What may be asked for


def test_wishes_are_sent_in_ollamas_words(fake: FakeOllama) -> None:
    schema = {"type": "object", "properties": {"two": {"type": "integer"}}}
    wishes = GenerationOptions(max_tokens=8, json_schema=json.dumps(schema), logprobs=2, keep_alive_s=-1)
    *_, end = OllamaBackend(fake.url, MODEL).stream(prompt(), wishes)
    (body,) = fake.bodies("/api/chat")
    assert (body["format"], body["logprobs"], body["top_logprobs"], body["keep_alive"]) == (schema, True, 2, -1)
    assert isinstance(end, Completion)
    assert json.loads(end.text) == {"two": 1}
    assert [token.token for token in end.logprobs] == [end.text]
    ask(OllamaBackend(fake.url, MODEL))
    assert not {"format", "logprobs", "top_logprobs", "keep_alive"} & fake.bodies("/api/chat")[1].keys()


@pytest.mark.parametrize(
    ("version", "tells"),
    [("0.12.10", False), ("0.12.11", True), ("0.13.0", True), ("0.0.0", True), ("1.0.0-rc1", True), ("x", True)],
)
def test_an_ollama_too_old_to_tell_probabilities_is_not_asked_for_them(
    fake: FakeOllama, version: str, tells: bool
) -> None:
    fake.version = version
    backend = OllamaBackend(fake.url, MODEL)
    assert backend.capabilities().logprobs is tells
    if not tells:
        with pytest.raises(UnsupportedRequest):
            backend.stream(prompt(), GenerationOptions(logprobs=0))
        assert fake.bodies("/api/chat") == []


def test_probabilities_that_do_not_come_are_an_error(fake: FakeOllama) -> None:
    fake.chat = lambda _: Lines([chat_line("Yes."), last_line(900, 1)])
    with pytest.raises(UnsupportedRequest):
        list(OllamaBackend(fake.url, MODEL).stream(prompt(), GenerationOptions(logprobs=0)))


def test_probabilities_of_thoughts_are_left_out(fake: FakeOllama) -> None:
    thought = {"token": "Hm", "logprob": -2.0, "bytes": [72, 109]}
    said = {"token": "Yes.", "logprob": -0.5, "bytes": [89, 101, 115, 46]}
    fake.chat = lambda _: Lines(
        [chat_line("", logprobs=[thought]), chat_line("Yes.", logprobs=[said]), last_line(900, 2)]
    )
    *_, end = OllamaBackend(fake.url, MODEL).stream(prompt(), GenerationOptions(logprobs=0))
    assert isinstance(end, Completion)
    assert [(token.token, token.logprob) for token in end.logprobs] == [("Yes.", -0.5)]


@pytest.mark.parametrize(
    "said", ["invalid JSON schema in format", '"x" does not support chat', "failed to parse grammar"]
)
def test_what_ollama_cannot_do_is_told_as_that(fake: FakeOllama, said: str) -> None:
    check_chat_fails(fake, Refusal(400, error_body(said)), UnsupportedRequest, said)
    check_chat_fails(fake, Refusal(500, error_body(said)), UnsupportedRequest, said)


def test_the_times_are_the_engines_own_in_seconds(fake: FakeOllama) -> None:
    durations = {"load_duration": 1_500_000_000, "prompt_eval_duration": 250_000_000, "eval_duration": "much"}
    counts = {"prompt_eval_count": 900, "eval_count": 1}
    fake.chat = lambda _: Lines([chat_line("Yes.", done=True, **counts, **durations)])
    assert ask(OllamaBackend(fake.url, MODEL))[1].timings == Timings(1.5, 0.25, 0.0)


# Counting by the model's vocabulary


def told_vocabulary() -> dict[str, object]:
    """Made when the first test asks for it, which takes seconds."""
    return {**made_vocabulary(), "tokenizer.ggml.pre": "qwen2"}


@functools.cache
def counting() -> vocabulary.Vocabulary:
    found = vocabulary.read(told_vocabulary())
    assert found is not None
    return found


@pytest.fixture
def with_vocabulary(fake: FakeOllama) -> FakeOllama:
    """An Ollama whose model tells a vocabulary and reads as many tokens, and a template of nine."""
    fake.models = (FakeModel(MODEL, facts=told_vocabulary()),)
    fake.chat = lambda body: Lines([chat_line("Yes."), last_line(9 + counted(body), 1)])
    return fake


def counted(body: Mapping[str, Any]) -> int:
    return sum(counting().count(message["content"]) for message in body["messages"])


def test_a_vocabulary_that_ollama_tells_counts_exactly(with_vocabulary: FakeOllama) -> None:
    backend = OllamaBackend(with_vocabulary.url, MODEL)
    assert backend.capabilities().counting is Counting.EXACT
    assert backend.count_tokens(EVIDENCE) == counting().count(EVIDENCE)
    ask(backend)
    ask(backend)
    assert backend.capabilities().counting is Counting.EXACT
    assert [body["verbose"] for body in with_vocabulary.bodies("/api/show")] == [False, True]


def test_once_the_template_is_known_no_room_is_kept_for_it(with_vocabulary: FakeOllama) -> None:
    backend = OllamaBackend(with_vocabulary.url, MODEL, num_ctx=1000)
    word = next(word for word in ("a", "b") if backend.count_tokens(f" {word}" * 100) == 100)
    asked = [prompt(user=f" {word}" * size, system="") for size in (1000 - 64 - 9, 1000 - 64 - 8)]
    with pytest.raises(PromptTooLong):
        backend.stream(asked[0], OPTIONS)
    ask(backend, prompt(user="small", system=""))
    assert ask(backend, asked[0])[1].usage.prompt == 1000 - 64
    with pytest.raises(PromptTooLong):
        backend.stream(asked[1], OPTIONS)


@pytest.mark.parametrize("added", [-17, TEMPLATE_TOKENS + 1])
def test_a_count_that_is_not_what_is_read_is_given_up(with_vocabulary: FakeOllama, added: int) -> None:
    with_vocabulary.chat = lambda body: Lines([chat_line("Yes."), last_line(added + counted(body), 1)])
    backend = OllamaBackend(with_vocabulary.url, MODEL)
    assert backend.capabilities().counting is Counting.EXACT
    ask(backend, prompt("((((((()))))))" * 200, system=""))
    assert backend.capabilities().counting is Counting.BOUND
    assert backend.count_tokens("a" * 22) >= 10


def test_a_few_tokens_less_than_an_exact_count_break_the_answer(with_vocabulary: FakeOllama) -> None:
    backend = OllamaBackend(with_vocabulary.url, MODEL)
    ask(backend)
    ask(backend)
    with_vocabulary.chat = lambda body: Lines([chat_line("Yes."), last_line(counted(body) - 17, 1)])
    with pytest.raises(BrokenStream) as caught:
        ask(backend)
    assert "shortened prompt" in caught.value.message


def test_marks_of_the_template_in_a_text_prove_nothing(with_vocabulary: FakeOllama) -> None:
    with_vocabulary.chat = lambda body: Lines([chat_line("Yes."), last_line(counted(body) - 80, 1)])
    backend = OllamaBackend(with_vocabulary.url, MODEL)
    backend.capabilities()
    ask(backend, prompt(EVIDENCE + "<|end|>" * 40))
    assert backend.capabilities().counting is Counting.EXACT


def test_a_count_never_fails_and_becomes_exact_when_ollama_is_back() -> None:
    with FakeOllama((FakeModel(MODEL, facts=told_vocabulary()),)) as fake:
        url = fake.url
    backend = OllamaBackend(url, MODEL)
    estimate = backend.count_tokens(EVIDENCE)
    assert estimate == backend.count_tokens(EVIDENCE)
    backend._server.address = unused_address()
    with FakeOllama((FakeModel(MODEL, facts=told_vocabulary()),)) as fake:
        backend._server.close()
        backend._server.address = fake.url
        backend.info()
        assert backend.count_tokens(EVIDENCE) == counting().count(EVIDENCE) != estimate


def test_a_text_counted_before_is_not_counted_again(with_vocabulary: FakeOllama, monkeypatch: Any) -> None:
    backend = OllamaBackend(with_vocabulary.url, MODEL)
    once = backend.count_tokens(EVIDENCE)
    assert backend._vocabulary is not None
    monkeypatch.setattr(backend._vocabulary, "count", lambda _: pytest.fail("counted again"))
    assert backend.count_tokens(EVIDENCE) == once


# What is in memory, and of what it is made


def test_models_are_loaded_seen_and_let_go_of(fake: FakeOllama) -> None:
    assert residency(fake.url) == ()
    preload(fake.url, MODEL, 8192, keep_alive_s=60)
    assert residency(fake.url) == (Resident(MODEL, 5 * 10**9, 4 * 10**9, 8192, "2026-11-22T21:53:40.981013258Z"),)
    assert fake.bodies("/api/chat")[0]["keep_alive"] == 60
    unload(fake.url, MODEL)
    assert residency(fake.url) == ()
    with pytest.raises(ModelMissing):
        preload(fake.url, "absent", 8192)


def test_another_window_than_the_loaded_one_is_told_before_it_loads_anew(fake: FakeOllama) -> None:
    backend = OllamaBackend(fake.url, MODEL, num_ctx=8192)
    assert "does not hold" in backend.reload_ahead()
    preload(fake.url, MODEL, 4096)
    assert "4096 tokens and is asked for 8192" in backend.reload_ahead()
    ask(backend)
    assert backend.reload_ahead() == ""
    ask(backend)
    assert fake.loads == [(MODEL, 4096), (MODEL, 8192)]


def test_a_backend_loads_its_model_as_its_requests_want_it(fake: FakeOllama) -> None:
    backend = OllamaBackend(fake.url, MODEL, num_ctx=8192, load_options={"num_gpu": 7}, keep_alive_s=30)
    backend.preload()
    assert backend.reload_ahead() == ""
    ask(backend)
    first, second = fake.bodies("/api/chat")
    assert fake.loads == [(MODEL, 8192)]
    assert first["options"] == {"num_ctx": 8192, "num_gpu": 7}
    assert first["options"].items() <= second["options"].items()
    assert [(body["keep_alive"], body["truncate"], body["shift"]) for body in (first, second)] == [
        (30, False, False)
    ] * 2


def test_a_models_facts_are_its_metadata_and_matrices(fake: FakeOllama) -> None:
    fake.models = (FakeModel(MODEL, facts=told_vocabulary()),)
    metadata, (embedding,) = model_facts(fake.url, MODEL)
    assert metadata["qwen2.context_length"] == 32_768
    assert metadata["tokenizer.ggml.tokens"] == told_vocabulary()["tokenizer.ggml.tokens"]
    assert (embedding.name, embedding.shape, embedding.type) == ("token_embd.weight", (576, 49_152), "Q8_0")
    assert embedding.bytes == 576 * 49_152 // 32 * 34


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        ({}, BrokenStream),
        ({"model_info": {}, "tensors": [{"name": "a"}]}, ModelFileError),
        ({"model_info": {}, "tensors": [{"name": "a", "type": "Q9_X", "shape": [32]}]}, ModelFileError),
        ({"model_info": {}, "tensors": [{"name": "a", "type": "F32", "shape": []}]}, ModelFileError),
    ],
    ids=["nothing", "half a matrix", "an unknown type", "no shape"],
)
def test_facts_that_make_no_sense_are_told(fake: FakeOllama, shown: dict[str, Any], kind: type[Exception]) -> None:
    fake.show = shown
    with pytest.raises(kind):
        model_facts(fake.url, MODEL)


# Finding a model


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def models(*names: str) -> tuple[FakeModel, ...]:
    return tuple(FakeModel(name) for name in names)


def test_where_nothing_listens_nothing_is_found() -> None:
    assert find(unused_address()) is None


def test_what_listens_but_is_no_ollama_is_not_found() -> None:
    with FakeOllama() as other:
        assert find(f"{other.url}/elsewhere") is None


@pytest.mark.parametrize(
    ("installed", "best"),
    [
        (models("llama3.1:8b", "qwen2.5-coder:7b"), "qwen2.5-coder:7b"),
        (models("nomic-embed-text:latest", "mistral:7b"), "mistral:7b"),
        (models("b:1b", "a:1b"), "a:1b"),
        ((FakeModel("qwen3-coder:30b", size=18), FakeModel("qwen2.5-coder:3b", size=2)), "qwen3-coder:30b"),
        (models("qwen3-coder:480b-cloud", "gpt-oss:20b"), "gpt-oss:20b"),
    ],
    ids=["coder first", "no embedder", "by name", "largest", "not in the cloud"],
)
def test_the_best_model_for_code_is_found_in_any_order_of_the_list(
    fake: FakeOllama, installed: tuple[FakeModel, ...], best: str
) -> None:
    for order in (installed, installed[::-1]):
        fake.models = order
        assert find(fake.url) == best


def test_a_configured_model_is_found_with_its_tag_and_missed_with_a_hint(fake: FakeOllama) -> None:
    fake.models = models("mistral:latest", "qwen2.5-coder:7b")
    assert find(fake.url, "mistral") == "mistral:latest"
    with pytest.raises(ModelMissing) as caught:
        find(fake.url, "phi4")
    assert caught.value.hint == "ollama pull phi4"


@pytest.mark.parametrize(
    "embedder",
    [
        "nomic-embed-text:latest",
        "bge-m3:latest",
        "all-minilm:l6-v2",
        "qwen3-embedding:0.6b",
        "embeddinggemma:300m",
        "snowflake-arctic-embed2:568m",
    ],
)
def test_an_embedding_model_alone_answers_no_questions(fake: FakeOllama, embedder: str) -> None:
    fake.models = models(embedder)
    with pytest.raises(ModelMissing):
        find(fake.url)


def test_the_installed_models_are_listed_by_name(fake: FakeOllama) -> None:
    fake.models = models("qwen2.5-coder:7b", "bge-m3:latest")
    assert installed_models(fake.url) == ("bge-m3:latest", "qwen2.5-coder:7b")


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "0.0.0.0:{}", "http://localhost:{}/"])
def test_a_host_is_understood_as_ollamas_own_setting_writes_it(fake: FakeOllama, host: str) -> None:
    assert find(host.format(fake.url.rpartition(":")[2])) == MODEL


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:port", "gopher://127.0.0.1:9", "http://..:9", "http://[::1", "\0:9"]
)
def test_a_host_that_is_no_address_is_told(host: str) -> None:
    with pytest.raises(BackendUnavailable):
        OllamaBackend(host, MODEL).info()


# Embeddings


EMBEDDING_MODELS = (
    "nomic-embed-text:latest",
    "bge-m3:latest",
    "qwen3-embedding:0.6b",
    "mxbai-embed-large:latest",
    "snowflake-arctic-embed:m",
    "snowflake-arctic-embed2:latest",
)


@pytest.fixture
def embedding_fake() -> Iterator[FakeOllama]:
    with FakeOllama(models=models(*EMBEDDING_MODELS)) as running:
        yield running


@pytest.fixture(scope="module")
def shared_embedder() -> Iterator[OllamaEmbedder]:
    with FakeOllama(models=models("bge-m3:latest")) as running:
        yield OllamaEmbedder(running.url, "bge-m3")


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(max_size=20), max_size=2 * EMBED_BATCH + 1))
def test_every_text_gets_one_row_of_unit_length(shared_embedder: OllamaEmbedder, texts: list[str]) -> None:
    embedder = shared_embedder
    rows = embedder.embed_documents(texts)
    assert rows.shape == (len(texts), embedder.dimensions)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_texts_travel_in_batches_and_come_back_in_order(embedding_fake: FakeOllama) -> None:
    texts = ["x" * length for length in range(1, EMBED_BATCH + 3)]
    rows = OllamaEmbedder(embedding_fake.url, "bge-m3").embed_documents(texts)
    sent = [body["input"] for body in embedding_fake.bodies("/api/embed")]
    assert [len(batch) for batch in sent] == [EMBED_BATCH, 2]
    assert (np.diff(rows[:, 0]) > 0).all()  # the fake's vectors lean further the longer the text is


@pytest.mark.parametrize(
    ("model", "query", "document"),
    [
        ("nomic-embed-text", "search_query: open a file", "search_document: open a file"),
        ("qwen3-embedding:0.6b", "Instruct: ", "open a file"),
        ("bge-m3", "open a file", "open a file"),
        ("mxbai-embed-large", "Represent this sentence for searching relevant passages: open", "open a file"),
        ("snowflake-arctic-embed:m", "Represent this sentence for searching relevant passages: open", "open a file"),
        ("snowflake-arctic-embed2", "query: open", "open a file"),
    ],
)
def test_queries_and_documents_get_the_prefixes_of_the_models_card(
    embedding_fake: FakeOllama, model: str, query: str, document: str
) -> None:
    embedder = OllamaEmbedder(embedding_fake.url, model)
    embedder.embed_query("open a file")
    embedder.embed_documents(["open a file"])
    sent = [body["input"][0] for body in embedding_fake.bodies("/api/embed")]
    assert sent[0].startswith(query)
    assert sent[0].endswith("open a file")
    assert sent[1] == document
    assert all(body["truncate"] is True for body in embedding_fake.bodies("/api/embed"))


def test_a_model_pulled_anew_has_another_name(embedding_fake: FakeOllama) -> None:
    before = OllamaEmbedder(embedding_fake.url, "bge-m3").name
    assert OllamaEmbedder(embedding_fake.url, "bge-m3").name == before
    embedding_fake.models = (FakeModel("bge-m3:latest", digest="f00dfeedf00dfeedf00d"),)
    assert OllamaEmbedder(embedding_fake.url, "bge-m3").name != before


def test_an_embedding_model_that_is_missing_or_gone_is_an_embedder_error(embedding_fake: FakeOllama) -> None:
    with pytest.raises(EmbedderError) as caught:
        OllamaEmbedder(embedding_fake.url, "all-minilm")
    assert caught.value.hint == "ollama pull all-minilm"
    for host in (unused_address(), "http://127.0.0.1:port"):
        with pytest.raises(EmbedderError):
            OllamaEmbedder(host, "bge-m3")


@pytest.mark.parametrize(
    "answer",
    [
        Refusal(500, error_body("llama-server process has terminated")),
        Lines([b'{"embeddings": [[1.0, 2.0]]}']),
        Lines([b'{"embeddings": []}']),
        Lines([b'{"embeddings": [[0.0, 0.0, 0.0]]}']),
        Lines([b'{"embeddings": "none"}']),
        Lines([b"not json"]),
        Lines([b'{"embeddings": ['], cut=True),
    ],
    ids=["500", "another size", "too few", "no direction", "no numbers", "no json", "cut"],
)
def test_a_bad_answer_is_an_embedder_error(embedding_fake: FakeOllama, answer: Answer) -> None:
    embedder = OllamaEmbedder(embedding_fake.url, "bge-m3")
    embedding_fake.embed = answer
    with pytest.raises(EmbedderError):
        embedder.embed_documents(["text"])


def test_embedding_waits_as_long_as_a_model_takes_to_load(embedding_fake: FakeOllama) -> None:
    embedder = OllamaEmbedder(embedding_fake.url, "bge-m3")
    assert embedder._server._client()._client.timeout.read == EMBED_TIMEOUT_S
