"""What every Backend promises, asked of each: Ollama's, vLLM's and LM Studio's by servers that behave as theirs do,
llama.cpp's by the real one.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import pytest

from hub.errors import PromptTooLong, UnsupportedRequest
from hub.model import Backend, Completion, Counting, GenerationOptions, Prefill, Prompt
from tests.contract.backends import MAKERS, SMALL_WINDOW, WINDOW, Made

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


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    with MAKERS[request.param](WINDOW) as made:
        yield made


@pytest.fixture(scope="module", params=MAKERS)
def small(request: pytest.FixtureRequest) -> Iterator[Made]:
    """The same with a window that can be filled soon."""
    with MAKERS[request.param](SMALL_WINDOW) as made:
        yield made


@pytest.fixture
def backend(made: Made) -> Backend:
    return made.backend


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
    copies = backend.info().context_window // count + 2
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


# What is claimed works, and what is not claimed is refused

SCHEMA = json.dumps({"type": "object", "properties": {"two": {"type": "integer"}}, "required": ["two"]})
WISHES = {
    "logprobs": replace(OPTIONS, logprobs=3),
    "json_schema": replace(OPTIONS, json_schema=SCHEMA, max_tokens=64),
    "progress": replace(OPTIONS, progress=True),
    "keep_alive": replace(OPTIONS, keep_alive_s=60.0),
}


@pytest.mark.parametrize("wish", WISHES)
def test_what_is_not_claimed_is_refused_before_anything_is_sent(made: Made, wish: str) -> None:
    if getattr(made.backend.capabilities(), wish):
        pytest.skip("it is claimed")
    sent = made.sent() if made.sent else 0
    with pytest.raises(UnsupportedRequest) as refused:
        made.backend.stream(question(made.backend), WISHES[wish])
    assert refused.value.hint
    assert (made.sent() if made.sent else 0) == sent


def test_the_probabilities_of_tokens_join_to_the_answer(backend: Backend) -> None:
    if not backend.capabilities().logprobs:
        pytest.skip("it is not claimed")
    for alternatives in (0, 3):
        *_, end = backend.stream(question(backend), replace(OPTIONS, logprobs=alternatives))
        assert isinstance(end, Completion)
        assert end.text
        assert "".join(token.token for token in end.logprobs) == end.text
        assert all(token.logprob <= 0 and len(token.alternatives) <= alternatives for token in end.logprobs)
        assert any(token.alternatives for token in end.logprobs) == (alternatives > 0)
    assert not answer(backend, question(backend))[1].logprobs


def test_an_answer_by_a_schema_follows_it(backend: Backend) -> None:
    if not backend.capabilities().json_schema:
        pytest.skip("it is not claimed")
    *_, end = backend.stream(question(backend), WISHES["json_schema"])
    assert isinstance(end, Completion)
    if end.finish == "stop":
        assert isinstance(json.loads(end.text)["two"], int)
    else:
        assert end.text.lstrip().startswith("{")


def test_what_makes_no_sense_is_refused(backend: Backend) -> None:
    can = backend.capabilities()
    nonsense = [replace(OPTIONS, json_schema="{")] * can.json_schema + [replace(OPTIONS, logprobs=21)] * can.logprobs
    for options in nonsense:
        with pytest.raises(UnsupportedRequest):
            backend.stream(question(backend), options)


def test_progress_grows_to_the_size_of_the_prompt_and_comes_first(backend: Backend) -> None:
    if not backend.capabilities().progress:
        pytest.skip("it is not claimed")
    other = prompt(backend, "Who reads this?\n" + "".join(SOURCE))
    *told, end = backend.stream(other, WISHES["progress"])
    steps = [step for step in told if isinstance(step, Prefill)]
    assert isinstance(end, Completion)
    assert steps
    assert told[: len(steps)] == steps
    assert all(fewer.read < more.read for fewer, more in pairwise(steps))
    assert {step.total for step in steps} == {end.usage.prompt}
    assert steps[-1].read == end.usage.prompt


def test_a_model_can_be_kept_for_a_time(backend: Backend) -> None:
    if not backend.capabilities().keep_alive:
        pytest.skip("it is not claimed")
    assert isinstance(list(backend.stream(question(backend), WISHES["keep_alive"]))[-1], Completion)


def test_a_prompt_asked_again_is_taken_from_the_cache(backend: Backend) -> None:
    if not backend.capabilities().cached_tokens:
        pytest.skip("it is not claimed")
    answer(backend, question(backend))
    usage = answer(backend, question(backend))[1].usage
    assert usage.cached is not None
    assert usage.prompt * 0.9 < usage.cached <= usage.prompt


def test_capabilities_stay_the_same(backend: Backend) -> None:
    assert backend.capabilities() == backend.capabilities()


# The law of truncation


def fitting(made: Made, tokens: int) -> str:
    """A text of about so many tokens by the backend's own count."""
    rate = made.backend.count_tokens(" word" * 1000) / 1000
    return " word" * round(tokens / rate)


def whole_or_refused(made: Made, asked: Prompt) -> int:
    """1 if the prompt was refused, 0 if it was read in full; fails for an answer from less of it."""
    least = made.true_tokens(asked.system) + made.true_tokens(asked.user)
    sent = made.sent() if made.sent else 0
    try:
        *_, end = made.backend.stream(asked, replace(OPTIONS, max_tokens=4))
    except PromptTooLong:
        assert (made.sent() if made.sent else 0) == sent
        return 1
    assert isinstance(end, Completion)
    assert end.usage.prompt >= least
    return 0


def test_no_answer_is_made_from_less_than_the_prompt(small: Made) -> None:
    if not has_a_model(small.backend):
        pytest.skip("writes nothing")
    window = small.backend.info().context_window
    texts = [fitting(small, tokens) for tokens in (*range(window - 145, window + 41, 23), 2 * window)]
    asked = [Prompt("", text, (), (), stated) for text in texts for stated in (small.backend.count_tokens(text), 1)]
    outcomes = [whole_or_refused(small, prompt) for prompt in asked]
    assert {0, 1} <= set(outcomes)
    assert outcomes == sorted(outcomes)


def test_an_exact_count_wastes_no_more_of_the_window_than_a_template_takes(small: Made) -> None:
    if small.backend.capabilities().counting is not Counting.EXACT:
        pytest.skip("it only bounds")
    window = small.backend.info().context_window
    text = fitting(small, window - 4 - 160)
    assert not whole_or_refused(small, Prompt("", text, (), (), small.backend.count_tokens(text)))
