"""What every Backend promises, asked of each: Ollama's by a fake server, llama.cpp's by the real one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise

import pytest

from hub.backends.embedded import EmbeddedBackend
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.backends.ollama import OllamaBackend
from hub.errors import BackendUnavailable, PromptTooLong
from hub.model import Backend, Completion, GenerationOptions, Prompt
from tests.support.fake_ollama import FakeOllama

ANSWER_TOKENS = 16
OPTIONS = GenerationOptions(max_tokens=ANSWER_TOKENS, timeout_s=60)
SOURCE = [
    "// Returns the length of a path.\n",
    "std::size_t length(const Path& path) {\n",
    "    std::size_t total = 0;\n",
    "    for (const auto& step : path.steps()) total += step.length;\n",
    "    return total;  // in metres\n",
    "}\n",
]


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBackend]:
    try:
        backend = EmbeddedBackend()
    except BackendUnavailable as missing:
        pytest.skip(f"needs the embedded llama.cpp: {missing.message}")
    yield backend
    backend.close()


@pytest.fixture(params=["ollama", "llama.cpp", "embedded", "evidence only"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    match request.param:
        case "ollama":
            with FakeOllama() as fake:
                ollama = OllamaBackend(fake.url, "qwen2.5-coder:7b")
                yield ollama
                ollama.close()
        case "llama.cpp":
            yield request.getfixturevalue("embedded")._client()
        case "embedded":
            yield request.getfixturevalue("embedded")
        case _:
            yield EvidenceOnlyBackend()


def prompt(backend: Backend, user: str) -> Prompt:
    system = "You explain C++ in one sentence and cite the evidence."
    return Prompt(system, user, (), (), tokens=backend.count_tokens(system) + backend.count_tokens(user))


def answer(backend: Backend, asked: Prompt) -> tuple[str, Completion]:
    """The pieces in one, and the end; fails if the end is not the last thing and the only of its kind."""
    *pieces, end = backend.stream(asked, OPTIONS)
    assert isinstance(end, Completion)
    assert all(isinstance(piece, str) and piece for piece in pieces)
    return "".join(map(str, pieces)), end


def question(backend: Backend) -> Prompt:
    return prompt(backend, f"[1]\n{''.join(SOURCE)}\nWhat does length return?")


def has_a_model(backend: Backend) -> bool:
    return backend.info().model != "none"


def test_the_pieces_are_the_answer(backend: Backend) -> None:
    pieces, end = answer(backend, question(backend))
    assert pieces == end.text
    assert bool(pieces) == has_a_model(backend)


def test_the_tokens_used_are_counted(backend: Backend) -> None:
    asked = question(backend)
    usage = answer(backend, asked)[1].usage
    if has_a_model(backend):
        assert asked.tokens / 2 < usage.prompt < asked.tokens * 2 + 100
        assert 0 < usage.completion <= ANSWER_TOKENS
    else:
        assert (usage.prompt, usage.completion) == (0, 0)


def test_an_answer_that_was_cut_at_its_longest_says_so(backend: Backend) -> None:
    if not has_a_model(backend):
        pytest.skip("writes nothing that could be cut")
    *_, end = backend.stream(question(backend), GenerationOptions(max_tokens=2, timeout_s=60))
    assert isinstance(end, Completion)
    assert end.finish == "length"
    assert end.usage.completion == 2


def test_the_same_prompt_gets_the_same_answer_at_temperature_zero(backend: Backend) -> None:
    answers = {answer(backend, question(backend))[0] for _ in range(3)}
    assert len(answers) == 1


def test_an_answer_left_half_way_does_not_spoil_the_next(backend: Backend) -> None:
    before = answer(backend, question(backend))[0]
    for _ in range(3):
        left = backend.stream(question(backend), GenerationOptions(max_tokens=512, timeout_s=60))
        with closing(left):  # type: ignore[type-var]
            next(left)
    assert answer(backend, question(backend))[0] == before


def test_a_prompt_too_long_is_refused_and_changes_nothing(backend: Backend) -> None:
    before = answer(backend, question(backend))[0]
    count = backend.count_tokens("".join(SOURCE))
    copies = backend.info().context_window // backend.count_tokens("".join(SOURCE)) + 2
    with pytest.raises(PromptTooLong) as refused:
        list(backend.stream(prompt(backend, "".join(SOURCE) * copies), OPTIONS))
    assert str(backend.info().context_window) in refused.value.message
    assert backend.count_tokens("".join(SOURCE)) == count
    assert answer(backend, question(backend))[0] == before


def test_a_prompt_too_long_is_refused_when_it_is_handed_over_not_when_it_is_read(backend: Backend) -> None:
    window = backend.info().context_window
    with pytest.raises(PromptTooLong):
        backend.stream(Prompt("", "x " * (4 * window), (), (), tokens=4 * window), OPTIONS)


def test_every_line_more_is_counted_and_lines_count_about_as_much_together_as_apart(backend: Backend) -> None:
    counts = [backend.count_tokens("".join(SOURCE[:lines])) for lines in range(len(SOURCE) + 1)]
    assert counts[0] == 0
    assert all(fewer < more for fewer, more in pairwise(counts))
    apart = sum(backend.count_tokens(line) for line in SOURCE)
    assert abs(apart - counts[-1]) <= len(SOURCE)


def test_a_prompt_of_the_size_it_likes_leaves_room_for_an_answer(backend: Backend) -> None:
    info = backend.info()
    assert info.prompt_tokens > 0
    assert info.prompt_tokens + GenerationOptions().max_tokens <= info.context_window
    assert info == backend.info()


def test_two_questions_at_once_both_get_their_answer(backend: Backend) -> None:
    questions = [question(backend), prompt(backend, "What is a destructor?")]
    alone = [answer(backend, asked)[0] for asked in questions]
    with ThreadPoolExecutor(2) as pool:
        together = [text for text, _ in pool.map(lambda asked: answer(backend, asked), questions)]
    assert together == alone
