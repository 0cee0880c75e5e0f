"""Measuring as the context grows: nothing is read twice, and nothing that an engine does ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.capacity.calibration import machine_key
from hub.capacity.machine import detect
from hub.errors import MeasuringError
from hub.measuring import needle, steps
from hub.measuring.engine import Engine, Failed, MachineSampler, Watch
from hub.measuring.findings import reach, recall_breaks
from hub.measuring.journal import Journal
from hub.measuring.model import ANSWERED, NeedleCell, Peak, Row, Sampler, Status, Subject
from hub.measuring.report import Report, document, shape, table
from hub.measuring.steps import Asked
from hub.measuring.sweep import Hooks, Plan, Sweep, alert
from hub.measuring.text import Filler, material
from hub.model import Counting, TokenLogprob
from tests.support.command import COMMAND, ROOT, environment, run, run_here
from tests.support.fake_ollama import FakeModel, FakeOllama
from tests.support.measured_backend import GIB, HereEngine, MeasuredBackend, ample, made, nearly_full
from tests.support.real_llama import llama_server_process, thin_model_path

SUBJECT = Subject("words", "1", "measured", "0", "", "machine", "text")
WORDS = " ".join(f"word{number}" for number in range(30)) + "\n"
PIECES = material([("a.cc", WORDS * 4_000)], "words", 0).pieces
WAYS_TO_DIE = {
    "abort": Status.CRASHED,
    "abort for memory": Status.OUT_OF_MEMORY,
    "killed": Status.CRASHED,
    "stream breaks": Status.CRASHED,
    "shortened": Status.TRUNCATED,
}


def silent(_read: int, _total: int) -> None:
    """Progress that nobody hears."""


def tokens(text: str) -> int:
    return len(text.split())


class Climb:
    """A sweep over engines in this process, which it keeps to be looked at."""

    def __init__(
        self,
        plan: Plan,
        make: Callable[[int], MeasuredBackend],
        done: dict[int, Row] | None = None,
        free_bytes: int = 1 << 50,
    ) -> None:
        self.engines: list[HereEngine] = []

        def start(window: int) -> HereEngine:
            self.engines.append(HereEngine(make(window)))
            return self.engines[-1]

        self.sweep = Sweep(plan, PIECES, Hooks(start, lambda: free_bytes, silent), done)  # type: ignore[arg-type]
        self.rows = list(self.sweep.rows())

    @property
    def statuses(self) -> dict[int, Status]:
        return {row.context: row.status for row in self.rows}

    @property
    def read(self) -> int:
        return sum(engine.backend.read for engine in self.engines)


# Text


@given(
    st.lists(st.text("ab \n", max_size=300), max_size=8),
    st.integers(0, 3_000),
    st.integers(0, 400),
    st.integers(0, 400),
)
def test_a_longer_text_begins_with_the_shorter_one(files: list[str], least: int, few: int, more: int) -> None:
    pieces = material([(f"{n}.cc", text) for n, text in enumerate(files)], "tree", least).pieces
    filler = Filler(pieces, tokens)
    short, long = sorted((filler.fill(few), filler.fill(few + more)), key=len)
    assert long.startswith(short)
    assert tokens(short) <= few
    assert tokens(long) <= few + more


def test_a_text_is_filled_to_the_last_line() -> None:
    filled = tokens(Filler(PIECES, tokens).fill(10_000))
    assert 10_000 - tokens(WORDS) < filled <= 10_000


def test_a_tree_that_is_too_small_is_read_again_and_that_is_said() -> None:
    small = material([("a.cc", WORDS * 20)], "tree", 30_000)
    assert sum(map(len, small.pieces)) >= 30_000
    assert small.source == "tree, repeated"
    assert material([("a.cc", WORDS * 20)], "tree", 3_000).source == "tree"


def test_where_there_is_no_tree_functions_are_made_up() -> None:
    made_up = material([], "", 5_000)
    assert made_up.source.startswith("generated functions")
    assert made_up == material([], "", 5_000)
    assert "std::size_t" in made_up.pieces[0]


# The climb


@given(st.lists(st.integers(600, 9_000), min_size=1, max_size=6, unique=True), st.booleans())
def test_a_climb_to_n_tokens_reads_n_tokens(contexts: list[int], reloads: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        climb = Climb(
            Plan(tuple(contexts), reloads=reloads), lambda window: MeasuredBackend(window, folder=Path(folder))
        )
    assert set(climb.statuses.values()) == {Status.OK}
    largest = max(row.prompt_tokens for row in climb.rows)
    # A line that was cut in half, and the two questions, are read once more at each context.
    assert largest <= climb.read <= largest + 150 * len(contexts)
    assert len(climb.engines) == (len(contexts) if reloads else 1)
    assert all(engine.closed for engine in climb.engines)


def test_cold_times_are_those_of_reading_everything() -> None:
    grown = Climb(Plan((1_000, 2_000, 4_000), reloads=False), MeasuredBackend).rows
    anew = [Climb(Plan((4_000,), reloads=True), MeasuredBackend).rows[-1]]
    assert [row.summed for row in grown] == [False, True, True]
    assert grown[-1].prefill_overall_tokens_s == pytest.approx(anew[-1].prefill_overall_tokens_s, rel=0.05)
    speeds = [row.prefill_overall_tokens_s or 0 for row in grown]
    assert speeds == sorted(speeds, reverse=True)


def test_an_engine_that_does_not_tell_what_it_kept_gets_nothing_to_keep() -> None:
    climb = Climb(Plan((1_000, 2_000), reloads=False), lambda window: MeasuredBackend(window, tells_cached=False))
    assert [row.new_tokens for row in climb.rows] == [row.prompt_tokens for row in climb.rows]
    assert not any(row.summed for row in climb.rows)


@settings(max_examples=25)  # each reads up to 600,000 words
@given(st.integers(1_000, 60_000), st.sampled_from([256, 512, 1024, 4096]))
def test_the_largest_context_that_works_is_found_to_the_precision(breaks: int, precision: int) -> None:
    plan = Plan((800, 64_000), reloads=True, precision=precision)
    climb = Climb(plan, lambda window: MeasuredBackend(window, "stream breaks", breaks))
    found = reach(climb.rows).safe
    assert found < breaks <= found + max(precision, 256) + 256
    assert len(climb.rows) < 2 + 64_000 // precision
    assert len(climb.rows) <= 12


def test_a_context_beyond_what_the_model_admits_is_refused_without_trying() -> None:
    plan = Plan((1_000, 10 << 20), reloads=True, limit=5_000, limit_reason="too long", precision=1_000)
    climb = Climb(plan, MeasuredBackend)
    assert climb.statuses == {1_000: Status.OK, 10 << 20: Status.REFUSED, 5_000: Status.OK}
    assert [engine.backend.window for engine in climb.engines] == [1_000, 5_000]
    assert reach(climb.rows).safe == 5_000
    assert climb.rows[1].reason == "too long"


def test_a_window_that_cannot_be_loaded_while_a_smaller_one_can_is_for_want_of_memory() -> None:
    plan = Plan((1_000, 4_000), reloads=True, precision=4_000)
    climb = Climb(plan, lambda window: MeasuredBackend(window, "cannot load", 4_000))
    assert climb.statuses == {1_000: Status.OK, 4_000: Status.OUT_OF_MEMORY}


def test_a_model_that_never_loads_is_an_error_with_a_way_out() -> None:
    with pytest.raises(MeasuringError) as said:
        Climb(Plan((1_000,), reloads=True), lambda window: MeasuredBackend(window, "cannot load", 0))
    assert said.value.hint == "Take a smaller one."


def test_a_model_that_is_deleted_half_way_ends_the_climb_and_keeps_its_rows() -> None:
    class Deleted(HereEngine):
        def run(self, *given: Any, **named: Any) -> Any:
            if self.backend.window >= 2_000:
                raise Failed(Status.CRASHED, "There is no model file a.gguf.", "Bring it back.", lasting=True)
            return super().run(*given, **named)

    plan = Plan((1_000, 16_000), reloads=True, precision=256)
    hooks = Hooks(lambda window: Deleted(MeasuredBackend(window)), lambda: 0, silent)  # type: ignore[arg-type,return-value]
    rows = list(Sweep(plan, PIECES, hooks).rows())
    assert [(row.context, row.status) for row in rows] == [(1_000, Status.OK), (16_000, Status.CRASHED)]
    assert rows[1].reason == "There is no model file a.gguf."


def test_on_a_full_disk_everything_is_read_again_and_that_is_said(tmp_path: Path) -> None:
    climb = Climb(
        Plan((1_000, 2_000, 4_000, 8_000), reloads=True),
        lambda window: MeasuredBackend(window, folder=tmp_path),
        free_bytes=0,
    )
    assert set(climb.statuses.values()) == {Status.OK}
    assert climb.rows[-1].new_tokens == climb.rows[-1].prompt_tokens
    assert any("too little of it is free" in note for note in climb.sweep.notes)


@pytest.mark.parametrize(
    ("peak", "line"),
    [
        (Peak(), 0),
        (Peak(gpu=89, gpu_total=100, ram=1, ram_total=100), 0),
        (Peak(gpu=90, gpu_total=100), 90),
        (Peak(gpu=10, gpu_total=100, ram=95, ram_total=100), 95),
    ],
)
def test_the_fuller_of_card_and_machine_crosses_the_line(peak: Peak, line: int) -> None:
    assert alert(peak) == line


@pytest.mark.parametrize("counting", list(Counting))
def test_a_halved_prompt_is_truncated_whatever_the_count_is_worth(counting: Counting) -> None:
    def make(window: int) -> MeasuredBackend:
        return MeasuredBackend(window, "truncated", 2_000, counting=counting)

    climb = Climb(Plan((1_000, 2_000), reloads=True, precision=2_000), make)
    assert climb.statuses == {1_000: Status.OK, 2_000: Status.TRUNCATED}
    assert "that were sent" in climb.rows[-1].reason


def test_few_tokens_a_second_are_slow() -> None:
    climb = Climb(Plan((1_000,), reloads=True), lambda window: MeasuredBackend(window, decode_tokens_s=2))
    (row,) = climb.rows
    assert row.status is Status.SLOW
    assert row.decode_tokens_s == pytest.approx(2)
    assert reach(climb.rows).safe == 1_000


def test_rows_that_were_finished_are_not_measured_again() -> None:
    plan = Plan((1_000, 2_000), reloads=True)
    first = Climb(plan, MeasuredBackend).rows
    again = Climb(plan, MeasuredBackend, {first[0].context: first[0]})
    assert again.rows[0] == first[0]
    assert [engine.backend.window for engine in again.engines] == [2_000]
    assert again.rows[1].new_tokens == again.rows[1].prompt_tokens


def test_memory_over_the_second_line_is_no_safe_context() -> None:
    rows = [
        Row(context, Status.OK, peak=Peak(gpu=int(used * GIB), gpu_before=0, gpu_total=16 * GIB), alert=line)
        for context, used, line in ((1_000, 8, 0), (2_000, 14, 90), (4_000, 15.5, 95))
    ]
    found = reach(rows)
    assert (found.safe, found.safe_reason) == (2_000, "At 4,000 memory was fuller than 95%.")


@given(st.lists(st.sampled_from(list(Status)), max_size=6))
def test_the_safe_context_is_always_one_that_answered(statuses: list[Status]) -> None:
    rows = [Row(1_000 * (number + 1), status, "why") for number, status in enumerate(statuses)]
    safe = reach(rows).safe
    assert safe == max((row.context for row in rows if row.status in ANSWERED), default=0)


def test_the_knee_is_where_writing_has_lost_too_much() -> None:
    rows = [Row(1_000 << power, Status.OK, decode_tokens_s=speed) for power, speed in enumerate((50, 48, 40, 20, 8))]
    found = reach(rows)
    assert found.knee == 4_000
    assert "At 8,000 decoding falls to 40%" in found.knee_reason


def test_the_knee_is_where_waiting_begins_to_grow_faster() -> None:
    waits = {1_000: 1.0, 2_000: 2.0, 3_000: 3.0, 4_000: 4.0, 5_000: 15.0, 6_000: 40.0}
    rows = [Row(context, Status.OK, decode_tokens_s=50, first_cold_s=wait) for context, wait in waits.items()]
    assert reach(rows).knee == 4_000
    straight = [Row(context, Status.OK, decode_tokens_s=50, first_cold_s=context / 1e3) for context in waits]
    assert reach(straight).knee == 0


# The engine in a process of its own


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    begun: list[Engine] = []

    def start(way: str = "", sampler: Sampler = ample, data_limit: int | None = None) -> Engine:
        backend = MeasuredBackend(8_000, way, 0)
        watch = Watch(sampler, data_limit=data_limit)
        begun.append(Engine(partial(made, backend), watch, tmp_path / "engine.log"))
        return begun[-1]

    yield start
    for one in begun:
        one.close(at_once=True)


def measure(engine: Engine, timeout_s: float = 60) -> tuple[Asked, Asked]:
    return engine.run(steps.measure, timeout_s, silent, steps.Step(PIECES, 2_000, 8))


def test_an_engine_is_asked_across_the_border(engine: Callable[..., Engine]) -> None:
    cold, warm = measure(engine())
    assert 1_700 < cold.prompt == cold.sent <= 2_000
    assert warm.cached is not None
    assert cold.prompt - warm.cached < 100


@pytest.mark.parametrize(("way", "status"), WAYS_TO_DIE.items())
def test_whatever_an_engine_does_is_a_status(engine: Callable[..., Engine], way: str, status: Status) -> None:
    with pytest.raises(Failed) as failed:
        measure(engine(way))
    assert failed.value.status is status
    assert failed.value.reason.endswith((".", "failed", "9000000"))


def test_the_last_words_of_an_engine_are_told(engine: Callable[..., Engine]) -> None:
    with pytest.raises(Failed) as failed:
        measure(engine("abort"))
    assert "GGML_ASSERT(cells < size) failed" in failed.value.reason
    assert f"signal {signal.SIGABRT}" in failed.value.reason


def test_an_engine_that_hangs_is_ended_in_time(engine: Callable[..., Engine]) -> None:
    hanging = engine("hang")
    with pytest.raises(Failed) as failed:
        measure(hanging, timeout_s=3)
    assert failed.value.status is Status.TIMEOUT
    with pytest.raises(Failed):  # it is gone
        measure(hanging, timeout_s=60)


@pytest.mark.skipif(find_spec("resource") is None, reason="the system sets no limits")
def test_memory_beyond_the_limit_fails_at_once(engine: Callable[..., Engine]) -> None:
    with pytest.raises(Failed) as failed:
        measure(engine("greedy", data_limit=GIB))
    assert failed.value.status is Status.OUT_OF_MEMORY


def test_an_engine_that_leaves_too_little_memory_is_ended_before_the_machine_swaps(
    engine: Callable[..., Engine],
) -> None:
    with pytest.raises(Failed) as failed:
        measure(engine("hang", sampler=nearly_full))
    assert failed.value.status is Status.OUT_OF_MEMORY
    assert "before the machine would swap" in failed.value.reason


def test_this_machine_is_sampled_with_or_without_a_card() -> None:
    with closing(MachineSampler()) as sampler:
        seen = sampler((os.getpid(),))
    assert 0 < seen.rss < seen.ram_total
    assert 0 < seen.ram_used <= seen.ram_total
    assert (seen.gpu_used is None) == (seen.gpu_total is None)


# The journal


rows_in_order = st.lists(
    st.builds(
        Row,
        st.integers(1, 10**7),
        st.sampled_from(list(Status)),
        st.text(max_size=20),
        prompt_tokens=st.integers(0, 10**7),
        decode_tokens_s=st.none() | st.floats(0, 1e4),
        peak=st.builds(Peak, rss=st.integers(0, 10**12), gpu=st.none() | st.integers(0, 10**12)),
        alert=st.sampled_from((0, 90, 95)),
    ),
    max_size=5,
    unique_by=lambda row: row.context,
)


@given(rows_in_order, st.integers(0, 4_000))
def test_a_journal_cut_anywhere_gives_back_the_rows_before_the_cut(rows: list[Row], cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), SUBJECT)
        journal.begin_anew()
        for row in rows:
            journal.add(row)
        assert journal.rows() == ({row.context: row for row in rows}, False)
        kept = journal.path.read_bytes()[:cut]
        journal.path.write_bytes(kept)
        whole = kept.count(b"\n") - 1
        found = list(journal.rows()[0].values())
        assert found[: max(whole, 0)] == rows[: max(whole, 0)]
        assert found == rows[: len(found)]


def test_a_whole_journal_says_so_until_more_is_added(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SUBJECT)
    journal.add(Row(1_000, Status.OK))
    journal.end()
    assert journal.rows()[1]
    journal.add(Row(2_000, Status.OK))
    assert not journal.rows()[1]


def test_rows_of_another_subject_are_not_found(tmp_path: Path) -> None:
    Journal(tmp_path, SUBJECT).add(Row(1_000, Status.OK))
    other = Subject("words", "2", "measured", "0", "", "machine", "text")
    assert Journal(tmp_path, other).rows() == ({}, False)


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(MeasuringError, match="Nothing can be written"):
        Journal(tmp_path / "file", SUBJECT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_a_full_disk_costs_the_journal_and_not_the_measurement(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SUBJECT)
    journal.path.unlink()
    journal.path.symlink_to("/dev/full")
    journal.add(Row(1_000, Status.OK))
    assert "No space left" in journal.trouble


# Hidden facts


@given(st.integers(1, 10**7), st.integers(1, 5), st.integers(1, 8))
def test_facts_differ_in_name_and_those_of_a_group_in_their_first_digit(
    context: int, facts_a_depth: int, depths: int
) -> None:
    hidden = needle.facts(context, [number / 8 for number in range(depths)], facts_a_depth)
    assert len({fact.name for fact in hidden}) == len(hidden) == facts_a_depth * depths
    for fact in hidden:
        assert fact.value in fact.candidates
        assert len({str(value)[0] for value in fact.candidates}) == len(fact.candidates) == depths
        assert fact.text.count(str(fact.value)) == 1
        assert f"{fact.name}()" in fact.text


@given(st.lists(st.text("ab;\n", max_size=20), max_size=30))
def test_hiding_adds_the_facts_and_changes_nothing_else(lines: list[str]) -> None:
    text = "\n".join(lines)
    hidden = needle.facts(1_000, needle.DEPTHS, 2)
    shown = needle.hide(text, hidden)
    for fact in hidden:
        assert shown.count(fact.text) == 1
        shown = shown.replace(fact.text, "")
    assert shown == text
    places = [needle.hide(WORDS * 100, hidden).index(fact.text) for fact in hidden[: len(needle.DEPTHS)]]
    assert places == sorted(places)


def answer(text: str, *logprobs: TokenLogprob) -> Asked:
    return Asked(1, 1, 0, 0.1, 0.1, 1, 0.1, text, logprobs)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("{value}", True),
        ("The number is {value}.", True),
        ("It returns **{value}**, as agreed.", True),
        ("{value}1", False),
        ("It is either 17 or {value}.", False),
        ("I do not know.", False),
        ("", False),
    ],
)
def test_only_exactly_the_hidden_value_counts(said: str, right: bool) -> None:
    (fact, *_) = needle.facts(1_000, needle.DEPTHS, 1)
    assert needle.recalled(answer(said.format(value=fact.value)), fact) is right


def test_digits_may_be_parted() -> None:
    fact = needle.facts(1_000, needle.DEPTHS, 1)[0]
    assert needle.recalled(answer(f"{fact.value:,}"), fact)


def test_the_rank_is_the_place_among_the_candidates() -> None:
    fact = needle.facts(1_000, needle.DEPTHS, 1)[0]
    first = [str(value)[0] for value in fact.candidates if value != fact.value]
    own = str(fact.value)[0]

    def ranked(*order: str) -> float | None:
        told = tuple((digit, -1.0 - place) for place, digit in enumerate(order))
        return needle.rank(answer("", TokenLogprob('"', 0.0, (("9", 0.0),)), TokenLogprob(order[0], -1.0, told)), fact)

    assert ranked(own, *first) == 1
    assert ranked(first[0], own, first[1]) == 2
    assert ranked(first[0], "x", first[1]) == 4  # the right one shares the last three places with two others
    assert needle.rank(answer("none"), fact) is None


def cells(*found: int, context: int = 1_000) -> list[NeedleCell]:
    return [NeedleCell(context, depth / 4, 5, 0, chosen, None, 5) for depth, chosen in enumerate(found)]


def test_recall_breaks_where_it_falls_to_what_guessing_finds() -> None:
    found = [*cells(5, 5, 5, context=1_000), *cells(5, 5, 4, context=2_000), *cells(5, 1, 1, context=4_000)]
    upto, why = recall_breaks(found)
    assert upto == 2_000
    assert "At 4,000 tokens 47% were found" in why
    assert recall_breaks(cells(1, 1, 1))[0] == 0
    chance = [*cells(3, 3, 2, context=1_000), *cells(3, 3, 3, context=2_000)]
    assert recall_breaks(chance)[0] == 2_000, "one fact fewer is no break"
    assert recall_breaks([]) == (0, "No facts were hidden.")


# The report


def test_a_table_has_a_line_for_each_context_and_says_what_went_wrong() -> None:
    rows = (
        Row(1_000, Status.OK, prompt_tokens=900, decode_tokens_s=12.345, peak=Peak(rss=GIB), alert=90),
        Row(2_000, Status.OUT_OF_MEMORY, "It was stopped."),
    )
    lines = table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 100
    assert "ok (90%)" in lines[3]
    assert "12.3" in lines[3]
    assert "out-of-memory" in lines[4]
    text = document(Report(SUBJECT, "2026-11-22", True, rows))
    assert "- 2,000: out-of-memory. It was stopped." in text


def test_the_report_is_json_also_where_nothing_worked() -> None:
    told = json.loads(json.dumps(shape(Report(SUBJECT, "2026-11-22", False, (Row(1_000, Status.CRASHED, "why"),)))))
    assert told["complete"] is False
    assert told["reach"]["safe"] == 0
    assert told["rows"][0]["status"] == "crashed"
    assert told["rows"][0]["gpu_bytes"] is None
    assert told["calibration"] is told["needle"] is None


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra `plots`")
@pytest.mark.parametrize("statuses", [(Status.OK, Status.SLOW, Status.OK, Status.CRASHED), (Status.CRASHED,)])
def test_the_picture_is_drawn_whatever_was_measured(tmp_path: Path, statuses: tuple[Status, ...]) -> None:
    from hub.cli import measuring_plot

    rows = tuple(
        Row(1_000 << power, status, decode_tokens_s=20 / (power + 1), first_cold_s=power**3, peak=Peak(rss=GIB))
        for power, status in enumerate(statuses)
    )
    for found in ((), (*cells(5, 4, 3), *cells(5, 1, 0, context=2_000))):
        measuring_plot.draw(tmp_path / "a.png", Report(SUBJECT, "2026-11-22", True, rows, cells=tuple(found)))
        assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.skipif(find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_a_picture_without_matplotlib_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = run(["measure-context", "--plot", str(tmp_path / "a.png")], tmp_path / "data")
    assert (done.code, "code-knowledge-hub[plots]" in done.err) == (2, True)


# The command, with the real engine


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    thin_model_path()  # skips where there is none
    return tmp_path_factory.mktemp("measured") / "data"


def model() -> dict[str, str]:
    return {"CODEHUB_EMBEDDED_MODEL": str(thin_model_path())}


def command(data: Path, *more: str) -> Sequence[str]:
    tree = ["--tree", str(ROOT / "sample_repo"), "--backend", "embedded"]
    return ["measure-context", *tree, "--output", str(data.parent / "out"), *more]


@pytest.mark.slow
def test_the_real_engine_is_measured_and_the_next_plan_is_nearer(real: Path) -> None:
    done = run([*command(real, "--contexts", "320,384"), "--json"], real, model())
    assert done.code == 0, done.err
    told = done.json()
    assert [(row["context"], row["status"] in ANSWERED) for row in told["rows"]] == [(320, True), (384, True)]
    first, second = told["rows"]
    assert 100 < first["prompt_tokens"] < 320
    assert second["new_tokens"] < second["prompt_tokens"] - 40, "the prefix was not taken over"
    assert second["prompt_tokens"] - second["warm_cached"] < 64
    assert all(row["decode_tokens_s"] > 0 and row["first_cold_s"] > 0 for row in told["rows"])
    assert first["engine_ram_bytes"] > 0.9 * thin_model_path().stat().st_size
    assert told["complete"]
    for speed in ("decode", "prefill"):
        fitted = told["calibration"][speed]
        assert fitted["error_after"] <= fitted["error_before"]
    kept = json.loads((real / "calibration.json").read_text(encoding="utf-8"))["entries"]
    assert [entry["machine"] for entry in kept] == [machine_key(detect())]
    assert "context.md" in " ".join(told["files"])
    assert not (real.parent / "out" / "prefixes").exists()


@pytest.mark.slow
def test_a_measurement_that_is_stopped_leaves_a_valid_table_and_goes_on_later(real: Path) -> None:
    data = real.parent / "stopped"
    arguments = [sys.executable, "-c", COMMAND, *command(data, "--contexts", "320,8K", "--json")]
    with subprocess.Popen(
        arguments,
        env=environment(data, model()),
        cwd=data.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait_for_a_row(data.parent / "out")
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the engine's process as well
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    told = json.loads(out)
    assert told["complete"] is False
    assert [row["context"] for row in told["rows"]] == [320]
    assert not (data / "calibration.json").exists()
    again = run([*command(data, "--contexts", "320"), "--json"], data, model()).json()
    assert again["rows"] == told["rows"]
    assert "1 contexts were taken over from an earlier run." in again["notes"]


@pytest.mark.slow
def test_a_server_is_measured_within_its_window_and_its_end_is_a_sentence(tmp_path: Path) -> None:
    with llama_server_process(8192) as (url, server):
        settings = {"CODEHUB_LLAMA_SERVER_URL": url}
        out = ["--output", str(tmp_path / "out"), "--tree", str(ROOT / "sample_repo")]
        arguments = ["measure-context", "--backend", "llama-server", "--contexts", "320,8K", *out, "--json"]
        with subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            env=environment(tmp_path / "data", settings),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                wait_for_a_row(tmp_path / "out")
                server.kill()
                told = json.loads(process.communicate(timeout=60)[0])
            finally:
                process.kill()
    assert process.returncode == 0
    first, *others = told["rows"]
    assert (first["context"], first["status"] in ANSWERED) == (320, True)
    assert others
    assert {row["status"] for row in others} == {"crashed"}
    assert all(row["reason"].endswith(".") for row in others)
    assert told["reach"]["safe"] == 320
    assert told["calibration"]["decode"]["pairs"][0]["context"] == 8192, "its memory is that of its whole window"


def test_each_context_of_ollama_is_its_window_and_begins_anew(tmp_path: Path) -> None:
    with FakeOllama((FakeModel("qwen3:8b"),)) as fake:
        settings = {"CODEHUB_BACKEND": "ollama", "CODEHUB_OLLAMA_HOST": fake.url}
        done = run_here(["measure-context", "--contexts", "1K,2K", "--json"], tmp_path / "data", settings)
        asked = [body for body in fake.bodies("/api/chat") if body.get("messages")]
    assert done.code == 0, done.err
    rows = done.json()["rows"]
    assert [(row["context"], row["summed"]) for row in rows] == [(1024, False), (2048, False)]
    assert all(row["prompt_tokens"] > 0.5 * row["context"] for row in rows)
    assert [body["options"]["num_ctx"] for body in asked] == [1024, 1024, 2048, 2048]
    beginnings = {body["messages"][-1]["content"].splitlines()[1] for body in asked}
    assert beginnings == {"// context 1024", "// context 2048"}
    assert done.json()["text"] == "generated functions"


def wait_for_a_row(folder: Path) -> None:
    until = time.monotonic() + 90
    before = {path: path.stat().st_size for path in folder.glob("rows-*.jsonl")}
    while time.monotonic() < until:
        for path in folder.glob("rows-*.jsonl"):
            text = path.read_text(encoding="utf-8")
            if '"context": 320' in text and '"end"' not in text and path.stat().st_size != before.get(path):
                return
        time.sleep(0.05)
    pytest.fail("no row was finished in time")


def test_a_context_of_ten_million_is_a_sentence(real: Path) -> None:
    far = real.parent / "far"
    done = run_here(command(far, "--contexts", "10M", "--precision", "8M", "--json"), far, model())
    (row,) = done.json()["rows"]
    assert done.code == 1
    assert row["status"] == "refused"
    assert "8,192" in row["reason"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--plot", "picture.doc"], "names no kind of picture"),
        (["--output", "/proc/none"], "Nothing can be written"),
        (["--tree", "/nowhere"], "does not exist"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(real: Path, more: list[str], said: str) -> None:
    done = run_here([*command(real), *more], real)
    assert done.code == 2
    assert said in done.err


def test_without_a_model_there_is_nothing_to_measure(tmp_path: Path) -> None:
    done = run_here(["measure-context", "--contexts", "1K"], tmp_path / "data", {"CODEHUB_BACKEND": "none"})
    assert done.code == 2
    assert "no language model" in done.err


def test_contexts_double() -> None:
    from hub.cli.measuring import _contexts

    for limit in (512, 8192, 32_768, 131_072, 1 << 20):
        chosen = _contexts(None, limit)
        assert chosen[-1] == limit
        assert all(more <= 2 * fewer for fewer, more in pairwise(chosen))
