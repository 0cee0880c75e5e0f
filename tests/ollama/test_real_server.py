"""Our backend over a real Ollama: what it counts, what it refuses, and what it says when the server fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.backends.embedded import _packaged_model
from hub.backends.ollama import OllamaBackend, find, model_facts, preload, residency, unload
from hub.capacity.gguf import read_header
from hub.errors import BackendUnavailable, BrokenStream, ModelMissing, PromptTooLong, UnsupportedRequest
from hub.model import Capabilities, Completion, Counting, GenerationOptions, Prompt
from tests.ollama.conftest import MODEL, MODELFILE
from tests.support.real_ollama import RealOllama, ask

WINDOW = 256
LINE = 'x_1 += f("\\t%08.3f", 0x1F); // ünïcode 中文\n'
OPTIONS = GenerationOptions(max_tokens=4, timeout_s=120)


@pytest.fixture
def backend(real: RealOllama) -> Iterator[OllamaBackend]:
    made = OllamaBackend(real.url, MODEL, num_ctx=WINDOW)
    yield made
    made.close()


def prompt(backend: OllamaBackend, user: str, system: str = "") -> Prompt:
    return Prompt(system, user, (), (), backend.count_tokens(system) + backend.count_tokens(user))


def answer(backend: OllamaBackend, user: str) -> Completion:
    *_, end = backend.stream(prompt(backend, user), OPTIONS)
    assert isinstance(end, Completion)
    return end


def test_counts_differ_from_what_is_read_by_the_template_alone(backend: OllamaBackend) -> None:
    assert backend.capabilities().counting is Counting.EXACT
    texts = ["What is 2+2?", LINE * 3, "y 1234567\n\n\n\t\t    y", "Grüße, 世界! 🙂 'S don't"]
    added = {answer(backend, text).usage.prompt - backend.count_tokens(text) for text in texts}
    assert added == {9}
    indented = "\t\t  x"  # the end of the template's line before it and the tabs become one token
    assert answer(backend, indented).usage.prompt - backend.count_tokens(indented) == 8
    assert backend.capabilities().counting is Counting.EXACT


def test_around_the_window_every_prompt_is_read_whole_or_refused_before_it_is_sent(backend: OllamaBackend) -> None:
    """Sizes from well below to well above; once the template's part is known, not one token is wasted."""
    added = answer(backend, "Hello").usage.prompt - backend.count_tokens("Hello")
    room = WINDOW - OPTIONS.max_tokens - added
    for size in (*range(room - 3, room + 4), 2 * WINDOW):
        text = " word" * size
        assert backend.count_tokens(text) == size
        if size <= room:
            assert answer(backend, text).usage.prompt == size + added
        else:
            with pytest.raises(PromptTooLong):
                backend.stream(prompt(backend, text), OPTIONS)


def test_a_prompt_read_before_tells_as_many_tokens_and_the_times_of_the_engine(backend: OllamaBackend) -> None:
    first, second = (answer(backend, LINE * 3) for _ in range(2))
    assert first.usage == second.usage
    assert second.usage.cached is None
    assert all(end.timings.prompt_s > 0 and end.timings.completion_s > 0 for end in (first, second))


def test_a_load_ahead_is_told_and_a_model_stays_as_long_as_wished(real: RealOllama, backend: OllamaBackend) -> None:
    preload(real.url, MODEL, 512, keep_alive_s=-1)
    (resident,) = residency(real.url)
    assert (resident.name, resident.context_length, resident.expires[:2]) == (f"{MODEL}:latest", 512, "23")
    assert resident.size > 50_000_000
    assert "context of 512 tokens and is asked for 256" in backend.reload_ahead()
    answer(backend, "Hello")
    assert backend.reload_ahead() == ""
    assert residency(real.url)[0].context_length == WINDOW
    unload(real.url, MODEL)
    preload(real.url, MODEL, WINDOW)
    assert backend.reload_ahead() == ""


def test_facts_over_http_are_those_of_the_file(real: RealOllama) -> None:
    metadata, tensors = model_facts(real.url, MODEL)
    header = read_header(_packaged_model(), vocabulary=True)
    assert {entry.name: entry for entry in tensors} == {entry.name: entry for entry in header.tensors}
    names = ("general.architecture", "llama.block_count", "llama.context_length", "llama.attention.head_count_kv")
    assert [metadata[name] for name in names] == [header.metadata[name] for name in names]
    assert tuple(metadata["tokenizer.ggml.tokens"]) == header.metadata["tokenizer.ggml.tokens"]  # type: ignore[arg-type]


def test_the_vocabulary_over_http_counts_as_the_one_from_the_file(real: RealOllama) -> None:
    near, far = (OllamaBackend(real.url, MODEL) for _ in range(2))
    far._server.__class__ = type("Elsewhere", (type(far._server),), {"is_here": False})
    assert far.capabilities().counting is Counting.EXACT
    assert near.count_tokens(LINE * 9) == far.count_tokens(LINE * 9)


def test_what_it_claims_it_does(backend: OllamaBackend) -> None:
    claimed = Capabilities(Counting.EXACT, logprobs=True, json_schema=True, keep_alive=True)
    assert backend.capabilities() == claimed
    with pytest.raises(UnsupportedRequest):
        list(backend.stream(prompt(backend, "x"), GenerationOptions(max_tokens=8, json_schema='{"type": "nonsense"}')))


def test_a_model_deleted_while_it_answers_ends_its_answer_and_is_missing_then(real: RealOllama) -> None:
    assert ask(real.url, "POST", "/api/copy", {"source": MODEL, "destination": "brief"})[0] == 200
    backend = OllamaBackend(real.url, "brief", num_ctx=WINDOW)
    lines = backend.stream(prompt(backend, "Tell a story."), GenerationOptions(max_tokens=24, timeout_s=120))
    first = next(lines)
    assert ask(real.url, "DELETE", "/api/delete", {"model": "brief"})[0] == 200
    *_, end = lines
    assert isinstance(end, Completion)
    assert end.text.startswith(str(first))
    with pytest.raises(ModelMissing) as caught:
        answer(backend, "Hello")
    assert caught.value.hint == "ollama pull brief"
    assert find(real.url) == f"{MODEL}:latest"


def test_a_server_killed_while_it_answers_breaks_the_answer_and_works_when_it_is_back(
    binary: Path, weights: Path, tmp_path: Path
) -> None:
    with RealOllama(binary, tmp_path) as server:
        server.create(MODEL, MODELFILE.format(path=weights))
        backend = OllamaBackend(server.url, MODEL, num_ctx=WINDOW)
        lines = backend.stream(prompt(backend, "Tell a story."), GenerationOptions(max_tokens=100, timeout_s=60))
        next(lines)
        server.kill()
        with pytest.raises(BrokenStream):
            list(lines)
        with pytest.raises(BackendUnavailable) as caught:
            answer(backend, "Hello")
        assert "ollama serve" in caught.value.hint
        server.start()
        assert answer(backend, "Hello").text
        backend.close()
