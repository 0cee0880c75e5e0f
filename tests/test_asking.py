"""Questions on their way through the tiers: over a small real index, with models that follow a script and heads of
constants, so that every transition is forced.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import shapes, wiring
from hub.asking import AskOptions, Pace, Paces, looking
from hub.asking.planned import Planned, pace
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.capacity.catalogue import find
from hub.capacity.machine import described
from hub.capacity.model import Calibration
from hub.capacity.planning import Wish, plan
from hub.cli import main
from hub.confidence.certifying import Certificate
from hub.confidence.heads import Head, Heads
from hub.errors import BackendError, BackendUnavailable
from hub.fullload.loading import loader_of
from hub.ladder import REFUSE_BELOW
from hub.model import (
    Answer,
    Attempt,
    Backend,
    BackendInfo,
    Capabilities,
    Completion,
    Event,
    Found,
    GenerationOptions,
    Moved,
    Piece,
    Policy,
    Prompt,
    Reading,
    Streamed,
    Tier,
    Timings,
    Usage,
    Way,
)
from hub.service import Service
from indexer.errors import Cancelled
from indexer.index import DataFolder, Index
from indexer.pipeline import EmbedderSource
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import ScriptedBackend, library_index, spoken

QUESTION = "When is the oldest entry evicted?"
GOOD = "`EvictOldest` lowers `capacity_` [1]. The oldest entry goes first [2]."
WRONG = "`Increment` calls `EvictOldest` [1]. `value` calls `EvictOldest` [1]."
INVENTED = "It calls `Vanish` [1]."
SMALL = AskOptions(prompt_tokens=500, wide_tokens=2_500)
WINDOW = BackendInfo("scripted", "parrot", context_window=32_768, prompt_tokens=8_192)


def heads(rag: float, wide: float = 5.0, **gains: float) -> Heads:
    """Log-odds of a prompt of 500 tokens and of one of 2,500, and of the gains of further tiers."""
    slope = (wide - rag) / 0.58  # the feature grows by a quarter for each doubling
    bias = rag + slope * 1.259
    told = {"wide": 0.0, "focus": 0.0, "full": 0.0, "analysis": 0.0} | gains
    return Heads(Head(bias, (("budget", slope),)), tuple((Tier(t), Head(v, ())) for t, v in told.items()), "constants")


class Parrot(ScriptedBackend):
    """Says the next of its texts to each prompt."""

    def __init__(self, *texts: str | Exception, info: BackendInfo = WINDOW, timings: Timings = Timings()) -> None:  # noqa: B008 - frozen
        super().__init__(info=info)
        self._texts = list(texts)
        self._timings = timings

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        text = self._texts.pop(0)
        end = Completion(str(text), Usage(prompt.tokens, 20), timings=self._timings)
        self._script = (text,) if isinstance(text, Exception) else (*spoken(text)[:-1], end)
        return super().stream(prompt, options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("asking")
    with library_index(folder, EmbedderSource(FakeEmbedder().name, FakeEmbedder)):
        yield folder


def made(
    folder: Path,
    backend: Callable[[], Backend],
    judged: Heads,
    options: AskOptions = SMALL,
    paces: Paces | None = None,
    loads: Path | None = None,
    note: Callable[[tuple[tuple[str, float], ...], float], None] | None = None,
) -> Service:
    data = DataFolder(folder / "data")
    return Service(
        Index.for_reading(data, "w"),
        lambda: [FakeEmbedder()],
        backend,
        options,
        loader=(lambda model: loader_of(loads, model, data.owned)) if loads else None,
        paces=paces,
        heads=judged,
        note=note,
    )


def ask(
    service: Service, policy: Policy | None = None, question: str = QUESTION, tier: Tier | None = None
) -> tuple[Answer, list[Event]]:
    """The answer and its events; what is true of every answer is asserted here."""
    events: list[Event] = []
    try:
        answer = service.ask(question, tier, events.append, policy)
    finally:
        service.close()
    moves = [number for number, event in enumerate(events) if isinstance(event, Moved)]
    last = events[moves[-1] + 1 if moves else 0 :]
    assert "".join(event.text for event in last if isinstance(event, Piece)) == answer.text
    assert isinstance(last[0], Found)
    assert list(answer.tried) == list(dict.fromkeys(attempt.tier for attempt in answer.attempts))
    assert answer.tier in {*answer.tried, Tier.NONE}
    assert all(attempt.left for attempt in answer.attempts[:-1])
    assert answer.declined == (answer.refusal is not None)
    shape = json.loads(json.dumps(shapes.answer_shape(answer), allow_nan=False))
    assert [attempt["tier"] for attempt in shape["attempts"]] == [attempt.tier.value for attempt in answer.attempts]
    assert len(shape["explanation"]) == len(answer.decisions)
    return answer, events


def moves(events: Sequence[Event]) -> list[tuple[Tier, Tier]]:
    return [(event.attempt.tier, event.to) for event in events if isinstance(event, Moved)]


def test_a_sure_prompt_is_answered_where_it_is(folder: Path) -> None:
    backend = Parrot(GOOD)
    answer, events = ask(made(folder, lambda: backend, heads(4.9)))
    assert (answer.tier, answer.text, moves(events)) == (Tier.RAG, GOOD, [])
    assert [decision.way for decision in answer.decisions] == [Way.ACCEPT, Way.ACCEPT]
    assert [decision.answered for decision in answer.decisions] == [False, True]
    assert answer.attempts[-1].usage == answer.usage == Usage(backend.prompts[0].tokens, 20)
    assert answer.decisions[0].origin == "constants"
    assert answer.decisions[0].arithmetic


def test_an_unsure_prompt_is_left_before_a_model_reads_it(folder: Path) -> None:
    backend = Parrot(GOOD)
    answer, events = ask(made(folder, lambda: backend, heads(-0.5)))
    assert (answer.tier, answer.text) == (Tier.WIDE, GOOD)
    assert moves(events) == [(Tier.RAG, Tier.WIDE)]
    (prompt,) = backend.prompts
    assert prompt.tokens > SMALL.prompt_tokens
    left = answer.attempts[1]
    assert (left.tier, left.checked, left.usage, left.model) == (Tier.RAG, None, Usage(), "none")
    assert left.left == answer.decisions[0].reason


def test_the_wide_prompt_keeps_the_evidence_of_the_first_one(folder: Path) -> None:
    first, second = Parrot(GOOD), Parrot(GOOD)
    ask(made(folder, lambda: first, heads(5.0)), tier=Tier.RAG)
    ask(made(folder, lambda: second, heads(5.0)), tier=Tier.WIDE)
    shown = {line for citation in second.prompts[0].citations for line in lines_of(citation)}
    assert {line for citation in first.prompts[0].citations for line in lines_of(citation)} <= shown


def lines_of(citation: object) -> Iterator[tuple[str, int]]:
    span = citation.span  # type: ignore[attr-defined] # of Citation
    return ((span.path, line) for line in range(span.first_line, span.last_line + 1))


@pytest.mark.parametrize("text", [WRONG, INVENTED, "I do not know."])
def test_an_answer_that_fails_its_checks_is_taken_back_and_the_next_tier_asked(folder: Path, text: str) -> None:
    backend = Parrot(text, GOOD)
    answer, events = ask(made(folder, lambda: backend, heads(5.0)), Policy.EXHAUSTIVE)
    assert (answer.tier, answer.text) == (Tier.WIDE, GOOD)
    assert moves(events) == [(Tier.RAG, Tier.WIDE)]
    rag = answer.attempts[1]
    assert rag.checked is not None
    assert rag.checked < rag.confidence
    assert rag.usage.prompt == backend.prompts[0].tokens
    assert [type(event) for event in events].index(Moved) > [type(event) for event in events].index(Reading)
    assert backend.open_streams == 0


def test_an_earlier_answer_that_is_surer_is_told_again(folder: Path) -> None:
    backend = Parrot(WRONG, INVENTED)
    answer, events = ask(made(folder, lambda: backend, heads(5.0, wide=-0.5)), Policy.EXHAUSTIVE)
    assert (answer.tier, answer.text) == (Tier.RAG, WRONG)
    assert moves(events) == [(Tier.RAG, Tier.WIDE), (Tier.WIDE, Tier.RAG)]
    assert answer.attempts[-1].left == "The answer of tier rag is surer."


def test_an_answer_is_kept_where_the_next_tier_turns_out_to_be_a_guess(folder: Path) -> None:
    backend = Parrot(WRONG)
    answer, events = ask(made(folder, lambda: backend, heads(5.0, wide=-4.0)), Policy.EXHAUSTIVE)
    assert (answer.tier, answer.text) == (Tier.RAG, WRONG)
    assert moves(events)[0] == (Tier.RAG, Tier.WIDE)
    assert moves(events)[-1][1] is Tier.RAG
    assert len(backend.prompts) == 1


def test_each_policy_goes_at_least_as_far_as_the_one_that_is_in_more_of_a_hurry(folder: Path) -> None:
    for odds in (-0.9, -0.3, 0.5, 1.5, 3.0):
        reached = []
        for policy in Policy:
            backend = Parrot(GOOD, GOOD)
            slow = Paces(planned=lambda _info, _tokens: Pace(60.0, 30.0))
            answer, _ = ask(made(folder, lambda backend=backend: backend, heads(odds), paces=slow), policy)  # type: ignore[misc] # bound now
            reached.append(len(answer.attempts))
        assert reached == sorted(reached)


def test_what_remains_a_guess_is_refused_with_what_is_missing_and_what_may_help(folder: Path) -> None:
    backend = Parrot()
    answer, _ = ask(made(folder, lambda: backend, heads(-3.0, wide=-2.5)))
    assert answer.declined
    assert backend.prompts == []
    assert answer.confidence.value < REFUSE_BELOW
    assert answer.refusal
    assert [attempt.tier for attempt in answer.refusal.looked_at] == [Tier.EXACT, Tier.RAG, Tier.WIDE]
    assert answer.refusal.remedies
    assert answer.text.startswith("Not found. ")
    assert answer.decisions[-1].way is Way.REFUSE


def test_an_answer_that_its_checks_make_a_guess_is_taken_back(folder: Path) -> None:
    backend = Parrot("`Increment` calls `EvictOldest` [1]. `value` calls `EvictOldest` [1].")
    shut = AskOptions(prompt_tokens=500, wide_tokens=500, focus_tokens=500)
    answer, events = ask(made(folder, lambda: backend, heads(-0.5), shut))
    assert answer.declined
    assert moves(events)[-1] == (Tier.RAG, Tier.NONE)
    assert answer.attempts[-1].left


def test_a_tier_that_shows_nothing_new_is_not_asked(folder: Path) -> None:
    backend = Parrot(GOOD)
    roomy = AskOptions(prompt_tokens=8_000, wide_tokens=20_000)
    answer, events = ask(made(folder, lambda: backend, heads(-0.9, wide=-0.9), roomy), Policy.EXHAUSTIVE)
    assert (answer.tier, moves(events)) == (Tier.RAG, [])
    assert "nothing that was not shown" in answer.decisions[-1].weighed[0].closed


def test_a_window_without_room_for_more_closes_the_further_tiers(folder: Path) -> None:
    small = BackendInfo("scripted", "parrot", context_window=2_000, prompt_tokens=1_232)
    answer, _ = ask(made(folder, lambda: Parrot(GOOD, info=small), heads(-0.9), AskOptions()), Policy.EXHAUSTIVE)
    assert answer.tier is Tier.RAG
    assert all(rung.closed for rung in answer.decisions[0].weighed)


def test_a_question_that_the_first_prompt_has_no_room_for_begins_with_the_wide_one(folder: Path) -> None:
    backend = Parrot(GOOD)
    cramped = AskOptions(prompt_tokens=50, wide_tokens=2_500)
    answer, events = ask(made(folder, lambda: backend, heads(5.0), cramped))
    assert (answer.tier, answer.text, moves(events)) == (Tier.WIDE, GOOD, [])
    assert answer.attempts[1].tier is Tier.RAG
    assert answer.attempts[1].left.startswith("The question alone takes ")


# Certificates


def certificate(accept: float, accepted: int = 90) -> Certificate:
    return Certificate("point", 500, 0.10, 0.05, 100, accept=accept, accepted=accepted, wrong=2)


def test_what_is_certified_is_accepted_and_says_so(folder: Path) -> None:
    judged = heads(1.0)
    judged = Heads(judged.evidence, judged.gains, judged.origin, certificates=(certificate(0.7),))
    answer, _ = ask(made(folder, lambda: Parrot(GOOD), judged))
    assert answer.tier is Tier.RAG
    assert "certified" in answer.decisions[0].reason
    assert answer.decisions[0].certified == 0.7


def test_where_nothing_could_be_certified_it_widens_but_not_when_it_must_be_fast(folder: Path) -> None:
    judged = heads(5.0)
    judged = Heads(judged.evidence, judged.gains, judged.origin, certificates=(certificate(2.0, accepted=0),))
    answer, _ = ask(made(folder, lambda: Parrot(GOOD), judged))
    assert answer.tier is Tier.WIDE
    answer, _ = ask(made(folder, lambda: Parrot(GOOD), judged), Policy.FAST)
    assert answer.tier is Tier.RAG


# The code base itself


def test_a_full_load_that_the_engine_holds_is_taken_before_a_cold_wide_prompt(folder: Path, tmp_path: Path) -> None:
    paces = Paces(tmp_path, planned=lambda _info, _tokens: Pace(100.0, 30.0))
    backend = Parrot("Read.", GOOD)
    service = made(folder, lambda: backend, heads(-0.5, full=2.0), paces=paces, loads=tmp_path / "loads")
    cold = {rung.tier: rung.cost_s for rung in asked_once(folder, paces, tmp_path).decisions[0].weighed}
    service.warm()
    answer, events = ask(service)
    warm = {rung.tier: rung.cost_s for rung in answer.decisions[0].weighed}
    assert cold[Tier.FULL] > cold[Tier.WIDE]
    assert warm[Tier.FULL] < cold[Tier.FULL]
    assert warm[Tier.FULL] <= warm[Tier.WIDE]
    assert moves(events) == [(Tier.RAG, Tier.FULL)]


def asked_once(folder: Path, paces: Paces, tmp_path: Path) -> Answer:
    answer, _ = ask(made(folder, lambda: Parrot(GOOD), heads(5.0), paces=paces, loads=tmp_path / "loads"))
    return answer


def test_a_tier_whose_model_is_gone_is_passed_over(folder: Path) -> None:
    class Leaving(Parrot):
        def __init__(self) -> None:
            super().__init__(INVENTED)
            self._asked = False

        def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
            self._asked = True
            return super().stream(prompt, options)

        def count_tokens(self, text: str) -> int:
            if self._asked:
                raise BackendUnavailable("The model is gone.", "Start it.")
            return super().count_tokens(text)

    answer, events = ask(made(folder, Leaving, heads(5.0)), Policy.EXHAUSTIVE)
    assert (answer.tier, moves(events)) == (Tier.RAG, [])
    closed = {rung.tier: rung.closed for rung in answer.decisions[-1].weighed}
    assert closed[Tier.WIDE] == "The model is gone. Start it."


@pytest.mark.parametrize("error", [BackendError("It broke.", "Look."), BackendUnavailable("It went.", "Start it.")])
def test_a_model_that_breaks_in_a_further_tier_leaves_its_evidence(folder: Path, error: BackendError) -> None:
    backend = Parrot(INVENTED, error)
    answer, _ = ask(made(folder, lambda: backend, heads(5.0, wide=6.0)), Policy.EXHAUSTIVE)
    assert answer.tier is Tier.WIDE
    assert "void Cache::EvictOldest() {" in answer.text
    assert f"{error.message} {error.hint}" in answer.notes
    assert len(backend.prompts) == 2


# Stopping


def test_who_cancels_before_an_answer_is_there_gets_none_and_no_model_is_asked(folder: Path) -> None:
    backend = Parrot()
    service = made(folder, lambda: backend, heads(-0.5))
    with pytest.raises(Cancelled):
        service.ask(QUESTION, cancelled=lambda: True)
    assert backend.prompts == []
    backend._texts.append(GOOD)
    assert service.ask(QUESTION).text == GOOD
    service.close()


def test_who_cancels_between_two_tiers_keeps_the_answer_that_is_there(folder: Path) -> None:
    backend = Parrot("It is the oldest entry that goes [1]. It is so. It may be so. I think it is. So it is.", GOOD)
    service = made(folder, lambda: backend, heads(0.5, wide=3.0), paces=slow_paces())
    answer = service.ask(QUESTION, policy=Policy.FAST, cancelled=lambda: bool(backend.prompts))
    service.close()
    assert len(backend.prompts) == 1
    assert answer.tier is Tier.RAG
    assert "Stopped before a further tier was tried." in answer.notes


def slow_paces() -> Paces:
    return Paces(planned=lambda _info, _tokens: Pace(20.0, 30.0))


def test_who_raises_while_text_comes_ends_the_request_and_can_ask_again(folder: Path) -> None:
    backend = Parrot(GOOD, GOOD)
    service = made(folder, lambda: backend, heads(5.0))

    def stop(event: Event) -> None:
        if isinstance(event, Piece):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        service.ask(QUESTION, on_event=stop)
    assert backend.open_streams == 0
    assert service.ask(QUESTION).text == GOOD
    service.close()


def test_a_question_is_noted_once_with_numbers_alone(folder: Path) -> None:
    noted: list[tuple[tuple[tuple[str, float], ...], float]] = []
    service = made(
        folder, lambda: Parrot(GOOD), heads(-0.5), note=lambda features, value: noted.append((features, value))
    )
    answer, _ = ask(service)
    ((features, value),) = noted
    assert value == answer.attempts[1].confidence
    assert dict(features).keys() >= {"budget"}


def test_without_a_model_evidence_is_widened_and_nothing_deeper_is_tried(folder: Path) -> None:
    answer, events = ask(made(folder, EvidenceOnlyBackend, heads(-0.5)), Policy.EXHAUSTIVE)
    assert moves(events) == [(Tier.RAG, Tier.WIDE)]
    assert (answer.tier, answer.backend) == (Tier.WIDE, "evidence only")
    assert all(rung.closed for rung in answer.decisions[-1].weighed)


def test_every_tier_can_be_forced_whatever_the_confidence(folder: Path, tmp_path: Path) -> None:
    for tier in (Tier.RAG, Tier.WIDE, Tier.FOCUS, Tier.FULL):
        service = made(folder, lambda: Parrot(GOOD), heads(-6.0, wide=-6.0), loads=tmp_path / "loads")
        answer, events = ask(service, tier=tier)
        assert (answer.tier, answer.tried, answer.text) == (tier, (tier,), GOOD)
        assert moves(events) == []


# The command


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, judged: Heads, *texts: str) -> Callable[..., int]:
    """``codehub ask`` over the index, with a model that says the texts."""
    backend = Parrot(*texts)
    monkeypatch.setattr(wiring, "backend", lambda _settings: backend)
    monkeypatch.setattr(looking, "SHIPPED", judged)
    monkeypatch.setenv("CODEHUB_PROMPT_TOKENS", "500")
    where = ("--data", str(folder / "data"), "-w", "w")
    return lambda *options: main(["ask", QUESTION, *options, *where])


def test_the_command_says_that_a_text_is_void_before_it_tells_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, monkeypatch, heads(5.0), WRONG, GOOD)("--policy", "exhaustive") == 0
    out, err = capsys.readouterr()
    before, _, after = out.partition("-- the text above is void --")
    assert before.startswith(WRONG)
    assert after.strip().startswith(GOOD)
    assert "tier rag left for tier wide" in err
    assert "  rag      0.99, checked 0." in after
    assert "  wide     0.99, checked 0." in after


def test_the_command_explains_every_decision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, monkeypatch, heads(-0.5), GOOD)("--explain") == 0
    out, _ = capsys.readouterr()
    assert "at tier rag: 0.38 of its prompt, move -> wide" in out
    assert "log-odds, fitted on constants: budget " in out
    assert "a right answer is worth 900 s of waiting; nothing is certified" in out
    assert " of its prompt, accept -> wide" in out


def test_the_command_tells_all_of_it_as_json_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, monkeypatch, heads(5.0), WRONG, GOOD)("--policy", "exhaustive", "--json") == 0
    shape = json.loads(capsys.readouterr().out)
    assert shape["answer"] == GOOD
    assert [attempt["tier"] for attempt in shape["attempts"]] == ["exact", "rag", "wide"]
    assert all(attempt["left"] for attempt in shape["attempts"][:-1])
    first = shape["explanation"][0]
    assert first.keys() >= {"at", "way", "tier", "reason", "value", "answered", "weighed", "arithmetic", "fitted_on"}
    assert [rung["tier"] for rung in first["weighed"]] == ["wide", "focus", "full", "analysis"]


# Paces


HERE = BackendInfo("embedded llama.cpp", "tiny", 8_192, 1_600)
AWAY = BackendInfo("ollama", "large", 65_536, 16_384)
samples = st.lists(st.tuples(st.integers(128, 200_000), st.floats(0.01, 1_000)), min_size=1, max_size=40)


@given(samples, st.integers(1, 200_000))
def test_a_pace_lies_within_what_was_measured(measured: list[tuple[int, float]], tokens: int) -> None:
    paces = Paces()
    for read, seconds in measured:
        paces.learn(AWAY, Usage(read + 7, 10, 7), Timings(prompt_s=seconds, completion_s=1.0))
    pace = paces.pace(AWAY, tokens)
    rates = [read / max(0.001, round(seconds, 3)) for read, seconds in measured]
    assert min(rates) * 0.999 <= pace.read <= max(rates) * 1.001
    assert (pace.written, pace.answer, pace.origin) == (10.0, 10, "measured")


def test_a_pace_is_of_prompts_of_that_length() -> None:
    paces = Paces()
    for _ in range(8):
        paces.learn(AWAY, Usage(1_000, 10), Timings(prompt_s=1.0, completion_s=1.0))
        paces.learn(AWAY, Usage(100_000, 10), Timings(prompt_s=400.0, completion_s=1.0))
    assert paces.pace(AWAY, 900).read == 1_000
    assert paces.pace(AWAY, 120_000).read == 250


def test_a_pace_that_was_never_measured_says_that_it_is_assumed_or_planned() -> None:
    assert Paces().pace(AWAY, 1_000).origin == "assumed"
    assert Paces().pace(HERE, 1_000).read < Paces().pace(AWAY, 1_000).read
    planned = Paces(planned=lambda _info, tokens: Pace(tokens / 2.0, 9.0, origin="planned"))
    assert planned.pace(AWAY, 1_000) == Pace(500.0, 9.0, origin="planned")
    planned.learn(AWAY, Usage(1_000, 0), Timings(prompt_s=10.0))
    assert planned.pace(AWAY, 1_000) == Pace(100.0, 9.0, origin="measured in part, otherwise planned")


@pytest.mark.parametrize("graphics", ["RTX 4080 16GB", "none"])
def test_a_planned_pace_is_that_of_the_machine_and_slows_down_with_length(graphics: str, tmp_path: Path) -> None:
    shape, machine = find("qwen3-coder:30b"), described(graphics, "64GB")
    chosen = plan(shape, machine, Wish(contexts=(65_536,))).recommended
    assert chosen
    short, long = (pace(shape, chosen.load, machine, Calibration(), tokens) for tokens in (4_096, 60_000))
    assert short.read > long.read > 0
    assert short.written > long.written > 0
    assert Planned(tmp_path, lambda _info: None)(AWAY, 4_096) is None


def test_what_an_engine_does_not_tell_is_not_learnt() -> None:
    paces = Paces()
    paces.learn(AWAY, Usage(5_000, 100), Timings())
    paces.learn(AWAY, Usage(5_000, 100, 4_990), Timings(prompt_s=0.1))
    assert paces.pace(AWAY, 1_000).origin == "assumed"


def test_the_next_process_knows_paces_and_what_an_engine_of_its_own_holds(tmp_path: Path) -> None:
    clock = [1_000.0]
    paces = Paces(tmp_path, now=lambda: clock[0])
    for info in (AWAY, HERE):
        paces.learn(info, Usage(1_000, 10), Timings(prompt_s=1.0, completion_s=1.0))
        paces.hold(info, "a digest")
    later = Paces(tmp_path, now=lambda: clock[0])
    assert later.pace(AWAY, 1_000).read == 1_000
    assert later.holds(AWAY, "a digest")
    assert not later.holds(AWAY, "another")
    assert not later.holds(HERE, "a digest")
    clock[0] += 100_000
    assert not later.holds(AWAY, "a digest")


def test_nothing_of_a_question_is_kept_with_the_paces(folder: Path, tmp_path: Path) -> None:
    timings = Timings(prompt_s=1.0, completion_s=1.0)
    service = made(folder, lambda: Parrot(GOOD, timings=timings), heads(5.0), paces=Paces(tmp_path))
    answer, _ = ask(service)
    (file,) = tmp_path.iterdir()
    kept = file.read_text(encoding="utf-8")
    assert json.loads(kept)["engines"].keys() == {"scripted|parrot"}
    assert json.loads(kept)["engines"]["scripted|parrot"]["read"] == [[answer.usage.prompt, 1.0]]
    assert not any(word in kept for word in ("oldest", "Evict", "cache"))


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"version": 1, "engines": {"a": {}}}', '{"version": 9}', "x" * 2_000_000]
)
def test_paces_that_were_damaged_are_learnt_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "paces.json").write_text(damage, encoding="utf-8")
    paces = Paces(tmp_path)
    assert paces.pace(AWAY, 1_000).origin == "assumed"
    paces.learn(AWAY, Usage(1_000, 10), Timings(prompt_s=1.0, completion_s=1.0))
    assert Paces(tmp_path).pace(AWAY, 1_000).read == 1_000


def test_paces_that_cannot_be_kept_are_known_to_this_process(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file", encoding="utf-8")
    paces = Paces(tmp_path / "data")
    paces.learn(AWAY, Usage(1_000, 10), Timings(prompt_s=1.0, completion_s=1.0))
    assert paces.pace(AWAY, 1_000).read == 1_000


def test_an_attempt_is_what_the_answer_was_made_of(folder: Path) -> None:
    answer, _ = ask(made(folder, lambda: Parrot(GOOD), heads(5.0)))
    last: Attempt = answer.attempts[-1]
    assert (last.tier, last.usage, last.backend, last.model) == (
        answer.tier,
        answer.usage,
        answer.backend,
        answer.model,
    )
    assert last.checked == answer.confidence.value


class Probed(Parrot):
    """Says its text, and then the letter of one of two answers whenever it is asked apart."""

    def __init__(self, text: str, believes: str) -> None:
        super().__init__(text)
        self._believes = believes

    def capabilities(self) -> Capabilities:
        return Capabilities(json_schema=True)

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        if options.json_schema:
            letter = "A" if f"A: {self._believes}\n" in f"{prompt.user}\n" else "B"
            self._texts.insert(0, f'"{letter}"')
        return super().stream(prompt, options)


def test_a_probe_moves_the_confidence_of_an_answer_and_says_so(folder: Path) -> None:
    probing = replace(SMALL, probe=True)
    plain, _ = ask(made(folder, lambda: Probed(GOOD, "it does"), heads(2.0)), tier=Tier.RAG)
    sure, _ = ask(made(folder, lambda: Probed(GOOD, "it does"), heads(2.0), probing), tier=Tier.RAG)
    unsure, _ = ask(made(folder, lambda: Probed(GOOD, "it does not"), heads(2.0), probing), tier=Tier.RAG)
    assert unsure.confidence.value < plain.confidence.value < sure.confidence.value
    assert "Asked apart, the model takes the evidence to answer it at 0%." in unsure.confidence.reasons
    assert [answer.text for answer in (plain, sure, unsure)] == [GOOD] * 3


def test_a_probe_of_a_model_that_cannot_tell_changes_nothing(folder: Path) -> None:
    plain, _ = ask(made(folder, lambda: Parrot(GOOD), heads(2.0)), tier=Tier.RAG)
    probed, _ = ask(made(folder, lambda: Parrot(GOOD), heads(2.0), replace(SMALL, probe=True)), tier=Tier.RAG)
    assert probed.confidence == plain.confidence
