"""What the hub relies on Ollama to do, asked of the real one and of the fake that stands in for it elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ollama.conftest import MODEL
from tests.support.fake_ollama import FakeModel, FakeOllama
from tests.support.real_ollama import RealOllama, ask

WINDOW = 256
SENTENCE = "int add(int a, int b) { return a + b; }\n"  # 15 tokens in SmolLM2's vocabulary, 14 for the fake
FORBIDDEN = {"truncate": False, "shift": False, "think": False}
Chat = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module", params=["fake", "real"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "real":
        running: RealOllama = request.getfixturevalue("real")
        yield running.url
        return
    with FakeOllama((FakeModel(f"{MODEL}:latest", context_length=8192),)) as fake:
        yield fake.url


@pytest.fixture
def chat(url: str) -> Chat:
    def send(text: str | None, **more: Any) -> tuple[int, Any]:
        options = {"num_ctx": WINDOW, "num_predict": 4, "temperature": 0, **more.pop("options", {})}
        messages = [] if text is None else [{"role": "user", "content": text}]
        body = {"model": MODEL, "messages": messages, "stream": True, "options": options, **more}
        return ask(url, "POST", "/api/chat", body)

    return send


def running(url: str) -> dict[str, Any]:
    status, answer = ask(url, "GET", "/api/ps")
    assert status == 200
    return {entry["name"]: entry for entry in answer["models"]}


def test_a_prompt_that_fits_is_counted_and_answered_in_lines(chat: Chat) -> None:
    status, lines = chat(SENTENCE, **FORBIDDEN)
    assert status == 200
    assert len(lines) == 5
    assert all(line["message"]["content"] and not line["done"] for line in lines[:-1])
    assert (lines[-1]["done"], lines[-1]["done_reason"], lines[-1]["eval_count"]) == (True, "length", 4)
    assert 14 <= lines[-1]["prompt_eval_count"] <= 40


def test_a_prompt_too_long_is_cut_in_silence_unless_that_is_forbidden(chat: Chat) -> None:
    status, lines = chat(SENTENCE * 40)
    assert status == 200
    assert lines[-1]["prompt_eval_count"] <= WINDOW
    status, refusal = chat(SENTENCE * 40, **FORBIDDEN)
    assert (status, refusal) == (400, {"error": "the input length exceeds the context length"})


def test_forbidding_the_shift_alone_does_not_forbid_the_cut(chat: Chat) -> None:
    status, _ = chat(SENTENCE * 40, shift=False)
    assert status == 200


def test_a_prompt_read_before_is_counted_in_full_again(chat: Chat) -> None:
    first, second = (chat(SENTENCE * 4, **FORBIDDEN)[1][-1]["prompt_eval_count"] for _ in range(2))
    assert first == second


def test_each_line_tells_the_probabilities_of_its_tokens_where_asked(chat: Chat) -> None:
    _, lines = chat(SENTENCE, logprobs=True, top_logprobs=2, **FORBIDDEN)
    for line in lines[:-1]:
        assert "".join(token["token"] for token in line["logprobs"]) == line["message"]["content"]
        assert all(bytes(token["bytes"]).decode() == token["token"] for token in line["logprobs"])
        assert all(len(token["top_logprobs"]) == 2 for token in line["logprobs"])
    assert "logprobs" not in lines[-1]
    assert not any("logprobs" in line for line in chat(SENTENCE, **FORBIDDEN)[1])


def test_a_schema_is_followed_and_a_bad_one_refused(chat: Chat) -> None:
    schema = {"type": "object", "properties": {"two": {"type": "integer"}}, "required": ["two"]}
    status, lines = chat("Give a number.", format=schema, options={"num_predict": 30}, **FORBIDDEN)
    assert status == 200
    assert "".join(line["message"]["content"] for line in lines).lstrip().startswith("{")
    assert chat("x", format={"type": "nonsense"}) == (500, {"error": "invalid JSON schema in format"})


def test_a_model_that_cannot_think_may_be_told_not_to(chat: Chat) -> None:
    assert chat(SENTENCE, **FORBIDDEN)[0] == 200
    status, refusal = chat(SENTENCE, **{**FORBIDDEN, "think": True})
    assert status == 400
    assert refusal["error"].endswith("does not support thinking")


def test_a_chat_without_messages_loads_a_model_and_lets_go_of_it(url: str, chat: Chat) -> None:
    status, loaded = chat(None, keep_alive=60, stream=False, options={"num_ctx": 512}, **FORBIDDEN)
    assert (status, loaded["done_reason"], loaded["message"]["content"]) == (200, "load", "")
    entry = running(url)[f"{MODEL}:latest"]
    assert entry["context_length"] == 512
    assert entry["size"] > 0
    assert entry["size_vram"] >= 0
    assert entry["expires_at"]
    status, gone = chat(None, keep_alive=0, stream=False)
    assert (status, gone["done_reason"]) == (200, "unload")


def test_a_window_beyond_the_training_is_cut_to_it(url: str, chat: Chat) -> None:
    assert chat(SENTENCE, options={"num_ctx": 1_000_000}, **FORBIDDEN)[0] == 200
    assert running(url)[f"{MODEL}:latest"]["context_length"] == 8192


def test_a_model_that_is_not_there_is_told_so_everywhere(url: str) -> None:
    absent = {"error": "model 'absent' not found"}
    assert ask(url, "POST", "/api/chat", {"model": "absent", "messages": []}) == (404, absent)
    assert ask(url, "POST", "/api/show", {"model": "absent"}) == (404, absent)
    answer = ask(url, "POST", "/api/embed", {"model": "absent", "input": ["x"]})
    assert answer == (404, {"error": 'model "absent" not found, try pulling it first'})
    assert ask(url, "GET", "/api/absent") == (404, "404 page not found")


def test_facts_about_a_model_come_with_its_matrices_and_without_long_lists(url: str) -> None:
    status, shown = ask(url, "POST", "/api/show", {"model": MODEL})
    assert status == 200
    assert shown["capabilities"] == ["completion"]
    assert shown["tensors"][0] == {"name": "token_embd.weight", "type": "Q8_0", "shape": [576, 49152]}
    assert not any(isinstance(value, list) for value in shown["model_info"].values())
    assert "FROM " in shown["modelfile"]


def test_it_tells_its_version(url: str) -> None:
    status, answer = ask(url, "GET", "/api/version")
    assert (status, answer["version"]) == (200, "0.17.4")
