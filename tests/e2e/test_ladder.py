"""The whole ladder on the embedded SmolLM2, from the tables to a refusal: real index, real prompts, a real engine.

What a prompt is worth is fixed by heads with constants, which are data, so that each move can be had at will; what the
model says is its own affair, and none of these tests depends on it: it has few of its layers, but for the command and
where what it says is looked at. Sizes are scaled down to what a CPU reads in time.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import pytest

from hub.analysis import Bounds
from hub.asking import Analyst
from hub.backends.embedded import EmbeddedBackend
from hub.cli import main
from hub.confidence.heads import BUDGET, BUDGET_SCALE, MIDDLE_BUDGET, Head, Heads
from hub.confidence.stored import STORED
from hub.fullload import window
from hub.fullload.loading import loader_of
from hub.grounding import REPEATED_WORDS
from hub.ladder import is_further
from hub.llama import summarize_tree
from hub.model import Answer, BackendInfo, Event, Found, Moved, Part, Piece, Policy, Tier, Way
from hub.service import AskOptions, Service
from indexer.errors import Cancelled
from indexer.index import DataFolder, Index
from tests.support.command import ROOT
from tests.support.real_llama import model_path, thin_model_path
from tests.support.trees import index_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUESTION = "What happens to a memtable when a flush fails?"
EXACT = "Where is FlushJob::Run defined?"
FILES = ("src/flush.cc", "src/log.h")
WINDOW = 4_096
RAG, WIDE, FOCUS = 512, 1_024, 1_536
ANSWER = 24
LEAST_WINDOW = 2_048  # of a full load, scaled down as the rest
NO_GAIN = 0.0
TEMPLATE = 64  # tokens that the marks of turns take beside a prompt


class Bold(EmbeddedBackend):
    """SmolLM2 as if it were large enough to answer alone, kept for all tests of this module."""

    def info(self) -> BackendInfo:
        return replace(super().info(), evidence_first=False)

    def close(self) -> None:
        """Whoever asks it does not own it."""

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def backend() -> Iterator[Bold]:
    made = Bold(thin_model_path(), context_window=WINDOW, prompt_tokens=RAG)
    yield made
    made.end()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the index of a part of the sample, small enough for a full load."""
    folder = tmp_path_factory.mktemp("ladder")
    for path in FILES:
        (folder / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "sample_repo" / path, folder / "tree" / path)
    index_of(folder / "tree", folder / "data")
    return folder / "data"


def heads(at: dict[int, float], **gains: float) -> Heads:
    """Heads that give a prompt of each of two sizes its value, and further tiers their gains; 0 for the others."""
    (first, low), (second, high) = at.items()
    place = {size: (log(size / MIDDLE_BUDGET) / log(2)) / BUDGET_SCALE for size in at}
    weight = (_odds(high) - _odds(low)) / (place[second] - place[first])
    known = {tier: Head(_odds(gains.get(tier.value, NO_GAIN)), ()) for tier in Tier if is_a_rung(tier)}
    return Heads(Head(_odds(low) - weight * place[first], ((BUDGET, weight),)), tuple(known.items()), "constants")


def is_a_rung(tier: Tier) -> bool:
    return tier is not Tier.NONE and is_further(tier, Tier.RAG)


def _odds(share: float) -> float:
    bounded = min(0.999, max(0.001, share))
    return log(bounded / (1 - bounded))


SURE = heads({RAG: 0.99, WIDE: 0.99})
HOPELESS = heads({RAG: 0.1, WIDE: 0.1})


@contextmanager
def service(
    data: Path,
    backend: Bold,
    judged: Heads,
    policy: Policy = Policy.EXHAUSTIVE,
    sizes: tuple[int, int, int] = (RAG, WIDE, FOCUS),
    answer: int = ANSWER,
) -> Iterator[Service]:
    options = AskOptions(
        sizes[0],
        answer,
        policy=policy,
        wide_tokens=sizes[1],
        focus_tokens=sizes[2],
        bounds=Bounds(part_tokens=WIDE, answer_tokens=ANSWER * 3),
    )
    folder = DataFolder(data)
    made = Service(
        Index.for_reading(folder, "w"),
        list,
        lambda: backend,
        options,
        loader=lambda model: loader_of(data / "loads", model, folder.owned),
        heads=judged,
        analyst=Analyst(summarize_tree, data / "analyses"),
    )
    try:
        yield made
    finally:
        made.close()


def asked(made: Service, question: str = QUESTION, tier: Tier | None = None) -> tuple[Answer, list[Event]]:
    events: list[Event] = []
    answer = made.ask(question, tier, events.append)
    assert_told_as_it_ran(answer, events)
    return answer, events


def assert_told_as_it_ran(answer: Answer, events: list[Event]) -> None:
    """What holds of every run, whatever the model says."""
    last = max((place for place, event in enumerate(events) if isinstance(event, Moved)), default=-1)
    assert "".join(event.text for event in events[last + 1 :] if isinstance(event, Piece)) == answer.text
    assert answer.tried == tuple(dict.fromkeys(attempt.tier for attempt in answer.attempts))
    assert all(is_further(later.tier, former.tier) for former, later in pairwise(answer.attempts))
    assert all(attempt.left for attempt in answer.attempts[:-1])
    moves = [event for event in events if isinstance(event, Moved)]
    assert [move.to for move in moves if move.to not in {Tier.NONE, answer.tier}] == [
        attempt.tier
        for attempt in answer.attempts[1:]
        if attempt.tier is not answer.tier and attempt.tier is not Tier.RAG
    ]
    assert all(attempt.seconds >= 0 and 0 <= attempt.confidence <= 1 for attempt in answer.attempts)
    assert (answer.refusal is not None) == answer.declined
    labels = {citation.label for citation in answer.citations}
    assert len(labels) == len(answer.citations)
    for citation in answer.citations:
        assert (ROOT / "sample_repo" / citation.span.path).is_file()
        assert f"[{citation.label}" in answer.text or f", {citation.label}" in answer.text


def tiers(answer: Answer) -> list[Tier]:
    return [attempt.tier for attempt in answer.attempts]


def test_a_question_that_the_tables_answer_loads_no_model(data: Path) -> None:
    unloaded = Bold(model_path(), context_window=WINDOW, prompt_tokens=RAG)
    with service(data, unloaded, SURE) as made:
        answer, _ = asked(made, EXACT)
    unloaded.end()
    assert (answer.tier, tiers(answer)) == (Tier.EXACT, [Tier.EXACT])
    assert answer.usage.prompt == 0


def test_a_prompt_that_is_sure_to_hold_the_evidence_is_answered_at_once(data: Path, backend: Bold) -> None:
    with service(data, backend, SURE, Policy.FAST) as made:
        answer, events = asked(made)
    assert tiers(answer)[:2] == [Tier.EXACT, Tier.RAG]
    found = next(event for event in events if isinstance(event, Found))
    assert found.confidence.value > 0.95
    assert 0 < answer.attempts[1].usage.prompt <= RAG + TEMPLATE
    assert answer.attempts[1].seconds > 0


def test_what_a_moderate_prompt_lacks_is_looked_for_in_a_wide_one_before_anything_is_read(
    data: Path, backend: Bold
) -> None:
    with service(data, backend, heads({RAG: 0.3, WIDE: 0.99}, wide=0.95), Policy.BALANCED) as made:
        answer, events = asked(made)
    assert tiers(answer)[:3] == [Tier.EXACT, Tier.RAG, Tier.WIDE]
    moved = next(event for event in events if isinstance(event, Moved))
    assert (moved.to, moved.attempt.tier, moved.attempt.usage.prompt) == (Tier.WIDE, Tier.RAG, 0)
    assert 0.2 < moved.gain < 0.96
    assert RAG < answer.attempts[2].usage.prompt <= WIDE + TEMPLATE
    decision = answer.decisions[0]
    assert (decision.way, decision.tier) == (Way.MOVE, Tier.WIDE)
    assert decision.value == pytest.approx(0.3, abs=0.01)
    assert "takes" in decision.reason


def test_what_a_wide_prompt_lacks_is_looked_for_in_the_outline_of_everything(data: Path, backend: Bold) -> None:
    with service(data, backend, heads({WIDE: 0.3, FOCUS: 0.99}, wide=0.5, focus=0.95)) as made:
        answer, events = asked(made)
    assert tiers(answer)[:4] == [Tier.EXACT, Tier.RAG, Tier.WIDE, Tier.FOCUS]
    assert [event.to for event in events if isinstance(event, Moved)][:2] == [Tier.WIDE, Tier.FOCUS]
    assert WIDE < answer.attempts[3].usage.prompt <= FOCUS + TEMPLATE


def test_where_even_that_lacks_it_the_whole_code_base_is_read_and_a_warm_one_is_preferred_to_a_cold_wide_prompt(
    data: Path, backend: Bold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "LEAST_WINDOW", LEAST_WINDOW)
    judged = heads({WIDE: 0.3, FOCUS: 0.31}, wide=0.5, full=0.95)
    with service(data, backend, judged) as made:
        cold, _ = asked(made)
        assert tiers(cold) == [Tier.EXACT, Tier.RAG, Tier.WIDE, Tier.FULL]
        read = cold.attempts[-1].usage
        assert read.prompt > FOCUS
        warm, events = asked(made, "Why does a flush fail, and what becomes of the log?")
        assert tiers(warm) == [Tier.EXACT, Tier.RAG, Tier.FULL]
        assert [event.to for event in events if isinstance(event, Moved)][:1] == [Tier.FULL]
        cost = {rung.tier: rung.cost_s for rung in warm.decisions[0].weighed}
        assert cost[Tier.FULL] < cost[Tier.WIDE]
        known = warm.attempts[-1].usage.cached
        assert known is not None
        assert known > read.prompt / 2


def test_a_code_base_past_the_window_is_read_part_after_part_and_not_again_for_the_same_question(
    data: Path, backend: Bold
) -> None:
    with service(data, backend, heads({WIDE: 0.3, FOCUS: 0.3}, wide=0.5, analysis=0.95)) as made:
        answer, events = asked(made)
        assert tiers(answer) == [Tier.EXACT, Tier.RAG, Tier.WIDE, Tier.ANALYSIS]
        parts = [event for event in events if isinstance(event, Part)]
        assert [part.number for part in parts] == list(range(parts[0].total + 1))
        assert len(parts) >= 3
        left = [part.tokens for part in parts]
        assert left == sorted(left, reverse=True)
        assert parts[0].seconds > 0
        assert answer.attempts[-1].usage.prompt >= WIDE
        again, events = asked(made, tier=Tier.ANALYSIS)
    assert again.text == answer.text
    assert again.usage.prompt == 0
    assert any("known from an analysis before" in note for note in again.notes)


def test_where_no_tier_would_help_it_is_refused_and_says_what_would(data: Path, backend: Bold) -> None:
    with service(data, backend, HOPELESS) as made:
        answer, events = asked(made, "What happens to the quantum memtable?")
    assert answer.declined
    assert answer.refusal is not None
    assert "quantum" in {missing.what for missing in answer.refusal.missing}
    assert answer.refusal.remedies
    assert not any(attempt.usage.prompt for attempt in answer.attempts)
    assert answer.text.startswith("Not found. ")
    assert isinstance(events[-1], Piece)


@pytest.mark.parametrize("tier", [Tier.RAG, Tier.WIDE, Tier.FOCUS, Tier.FULL])
def test_a_tier_that_is_asked_for_runs_alone_whatever_it_is_worth(
    data: Path, backend: Bold, tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "LEAST_WINDOW", LEAST_WINDOW)
    with service(data, backend, HOPELESS) as made:
        answer, _ = asked(made, tier=tier)
    assert tiers(answer) == [tier]
    assert answer.usage.prompt > 0


def test_what_the_model_says_goes_round_no_more_than_once(data: Path) -> None:
    """At temperature 0 a model of this size soon says the same again and again, up to the longest answer allowed."""
    whole = Bold(model_path(), context_window=WINDOW, prompt_tokens=RAG)
    with service(data, whole, SURE, answer=240) as made:
        answer, _ = asked(made, tier=Tier.RAG)
    whole.end()
    said = answer.text.partition("The evidence itself:")[0].lower().split()
    runs = list(zip(*(said[start:] for start in range(REPEATED_WORDS)), strict=False))
    assert len(runs) == len(set(runs))
    if any("repeats itself" in note for note in answer.notes):
        assert answer.usage.completion < 240


def test_a_user_who_stops_before_there_is_an_answer_gets_none_and_may_ask_again(data: Path, backend: Bold) -> None:
    with service(data, backend, heads({RAG: 0.3, WIDE: 0.99}, wide=0.95)) as made:
        with pytest.raises(Cancelled) as raised:
            made.ask(QUESTION, cancelled=lambda: True)
        assert raised.value.hint
        answer, _ = asked(made)
    assert answer.text


def test_a_user_who_stops_between_two_tiers_keeps_the_answer_that_is_there(data: Path, backend: Bold) -> None:
    told: list[Event] = []

    def enough() -> bool:
        return any(isinstance(event, Piece) for event in told)

    # No model of this size cites what it says, so that its answer is never as sure as to stay.
    judged = heads({RAG: 0.985, WIDE: 0.99}, wide=0.99)
    with service(data, backend, judged) as made:
        answer = made.ask(QUESTION, on_event=told.append, cancelled=enough)
    assert [attempt.tier for attempt in answer.attempts] == [Tier.EXACT, Tier.RAG]
    assert not any(isinstance(event, Moved) for event in told)
    assert answer.text


def test_it_climbs_through_1k_and_2k_to_3k_of_the_sample(tmp_path: Path) -> None:
    for folder in ("include", "src"):
        shutil.copytree(ROOT / "sample_repo" / folder, tmp_path / "tree" / folder)
    index_of(tmp_path / "tree", tmp_path / "data")
    sizes = (1_024, 2_048, 3_072)  # twice that climbs as well, in 95 s on two idle cores
    large = Bold(thin_model_path(), context_window=WINDOW, prompt_tokens=sizes[0])
    judged = heads({sizes[1]: 0.3, sizes[2]: 0.99}, wide=0.5, focus=0.95)
    with service(tmp_path / "data", large, judged, sizes=sizes) as made:
        answer, _ = asked(made)
    large.end()
    assert tiers(answer)[:4] == [Tier.EXACT, Tier.RAG, Tier.WIDE, Tier.FOCUS]
    assert sizes[1] < answer.attempts[3].usage.prompt <= sizes[2] + TEMPLATE


Shell = Callable[..., tuple[int, Any]]


@pytest.fixture
def shell(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """``codehub ask --json`` in this process, on a copy of the data whose index has heads of its own."""
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("hub.backends.embedded.TINY_MODEL_BYTES", 0)
    for name, value in {
        "BACKEND": "embedded",
        "EMBEDDED_MODEL": str(model_path()),
        "EMBEDDINGS": "none",
        "PROFILE_CONTEXT": str(WINDOW),
        "PROMPT_TOKENS": str(RAG),
        "WIDE_TOKENS": str(WIDE),
        "FOCUS_TOKENS": str(FOCUS),
        "ANSWER_TOKENS": str(ANSWER),
    }.items():
        monkeypatch.setenv(f"CODEHUB_{name}", value)

    def call(judged: Heads, *arguments: str) -> tuple[int, Any]:
        folder = DataFolder(copy)
        with folder.owned(), Index.for_writing(folder, "w", data.parent / "tree") as index:
            index.table.set_meta({STORED: judged.dumps()})
        capsys.readouterr()
        code = main(["ask", *arguments, "--json", "--data", str(copy), "--workspace", "w"])
        return code, json.loads(capsys.readouterr().out)

    return call


def test_the_command_climbs_as_its_policy_and_sizes_say_and_tells_every_step(shell: Shell) -> None:
    code, told = shell(heads({RAG: 0.3, WIDE: 0.99}, wide=0.95), QUESTION, "--policy", "exhaustive")
    assert code == 0
    assert [attempt["tier"] for attempt in told["attempts"]][:3] == ["exact", "rag", "wide"]
    assert told["attempts"][1]["left"]
    wide = told["attempts"][2]
    assert RAG < wide["usage"]["prompt"] <= WIDE + TEMPLATE
    assert wide["seconds"] > 0


def test_the_command_refuses_with_an_exit_code_and_a_shape_of_its_own(shell: Shell) -> None:
    code, told = shell(HOPELESS, "What happens to the quantum memtable?", "--policy", "fast")
    assert code == 1
    assert told["tier"] == "none"
    assert "quantum" in {missing["what"] for missing in told["refusal"]["missing"]}
    assert all(remedy["text"] for remedy in told["refusal"]["remedies"])
    assert told["answer"].startswith("Not found. ")
