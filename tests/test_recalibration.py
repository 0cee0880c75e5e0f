"""A confidence bent to one repository, and whether that still fits."""

import json
import random
from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.confidence import recent
from hub.confidence.drift import LEAST_ASKED, Taken, shifts, spreads, stability, stale
from hub.confidence.recalibration import IDENTITY, LEAST_LABELS, Calibration, Sample, fitted

VALUES = st.floats(0, 1)
BUDGETS = st.sampled_from([2_048, 16_384, 65_536])
SAMPLES = st.lists(st.builds(Sample, VALUES, st.booleans(), BUDGETS, st.just(1.0)), max_size=40)
TREE = Taken(100_000, "c0ffee", "2", "1")


def error(pairs: list[tuple[float, bool]]) -> float:
    """Expected calibration error over ten bins of equal counts."""
    pairs = sorted(pairs)
    size = len(pairs) // 10
    bins = [pairs[start : start + size] for start in range(0, size * 10, size)]
    return sum(abs(sum(value - right for value, right in part)) for part in bins) / (size * 10)


# The map


@given(VALUES)
def test_without_labels_a_value_stays_what_it_is(value: float) -> None:
    assert fitted(()) == IDENTITY
    assert IDENTITY.of(value) == pytest.approx(value, abs=2e-6)


@given(SAMPLES, VALUES, VALUES, BUDGETS)
def test_a_map_keeps_the_order_of_values_whatever_the_labels_say(
    samples: list[Sample], one: float, other: float, budget: int
) -> None:
    bent = fitted(samples)
    low, high = sorted((one, other))
    assert 0 <= bent.of(low, budget) <= bent.of(high, budget) <= 1


@given(SAMPLES, st.randoms(use_true_random=False))
def test_the_order_of_labels_does_not_matter(samples: list[Sample], chance: random.Random) -> None:
    mixed = list(samples)
    chance.shuffle(mixed)
    assert fitted(mixed) == fitted(samples)


@given(st.lists(st.builds(Sample, VALUES, st.booleans(), BUDGETS, st.just(1.0)), max_size=3), VALUES, BUDGETS)
def test_three_labels_change_next_to_nothing(samples: list[Sample], value: float, budget: int) -> None:
    assert abs(fitted(samples).of(value, budget) - value) < 0.01


@pytest.mark.parametrize("right", [True, False])
def test_labels_of_one_kind_alone_give_a_map_that_says_neither_never_nor_always(right: bool) -> None:
    bent = fitted(Sample(value / 300, right) for value in range(300))
    told = bent.of(0.5)
    assert (0.5 < told < 1) if right else (0 < told < 0.5)


def test_labels_that_contradict_each_other_draw_values_to_their_mean() -> None:
    bent = fitted(Sample(value, right) for value in (0.1, 0.5, 0.9) for right in (True, False) for _ in range(200))
    assert all(abs(bent.of(value) - 0.5) < abs(value - 0.5) * 0.5 + 0.01 for value in (0.1, 0.5, 0.9))


def test_labels_that_contradict_the_values_flatten_the_map_and_never_turn_it_round() -> None:
    bent = fitted(Sample(value, value < 0.5) for value in (0.05, 0.95) for _ in range(500))
    assert 0 < bent.of(0.95) - bent.of(0.05) < 0.2


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_no_number_is_no_confidence_and_no_label(value: float) -> None:
    assert IDENTITY.of(value) == 0.0
    assert fitted([Sample(value, present=True)]) == IDENTITY


def drawn(chance: random.Random, number: int) -> list[Sample]:
    """Values too high by 1.2 in their log-odds, too flat by a third, and the more so the smaller the budget."""
    truth = Calibration(1.5, 1.5, -1.2, 0.15)
    found = []
    for _ in range(number):
        value, budget = chance.betavariate(4, 1.5), chance.choice([4_096, 16_384, 65_536])
        found.append(Sample(value, chance.random() < truth.of(value, budget), budget))
    return found


def test_a_repository_with_enough_labels_gets_values_that_are_what_they_say() -> None:
    chance = random.Random(5)
    bent = fitted(drawn(chance, 400))
    others = drawn(chance, 20_000)
    before = error([(sample.value, sample.present) for sample in others])
    after = error([(bent.of(sample.value, sample.budget), sample.present) for sample in others])
    assert before > 0.1
    assert after < 0.035


def test_the_more_labels_the_nearer_a_map_comes_to_them() -> None:
    chance = random.Random(6)
    labels = drawn(chance, 4 * LEAST_LABELS)
    told = [fitted(labels[:number]).of(0.6) for number in (0, 20, 100, LEAST_LABELS, 4 * LEAST_LABELS)]
    assert told == sorted(told, reverse=True)
    assert told[0] - told[1] < 0.02 < told[0] - told[3]


def test_several_prompts_of_a_question_count_as_one_label() -> None:
    alone = [Sample(0.9, right) for right in (True, False, False) for _ in range(30)]
    apart = [Sample(0.9, sample.present, weight=0.25) for sample in alone for _ in range(4)]
    assert fitted(apart).labels == fitted(alone).labels == 90
    assert fitted(apart).of(0.9) == pytest.approx(fitted(alone).of(0.9), abs=1e-3)


# Drift


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12))
def test_the_stability_index_is_zero_between_equals_and_never_negative(counts: list[tuple[int, int]]) -> None:
    then, now = [pair[0] for pair in counts], [pair[1] for pair in counts]
    assert stability(then, then) == 0
    assert stability(then, now) >= 0


def vectors(chance: random.Random, number: int, middle: float) -> list[dict[str, float]]:
    return [{"coverage": chance.gauss(middle, 1), "known": float(chance.random() < 0.5)} for _ in range(number)]


def test_questions_like_those_before_have_not_shifted_and_others_have() -> None:
    chance = random.Random(8)
    then = spreads(vectors(chance, 500, 0))
    assert shifts(then, vectors(chance, 300, 0)) == ()
    assert [shift.name for shift in shifts(then, vectors(chance, 300, 1.5))] == ["coverage"]


def test_few_questions_tell_of_no_shift() -> None:
    chance = random.Random(9)
    assert shifts(spreads(vectors(chance, 500, 0)), vectors(chance, LEAST_ASKED - 1, 9)) == ()
    assert shifts(spreads(vectors(chance, LEAST_ASKED - 1, 0)), vectors(chance, 500, 9)) == ()


def test_a_feature_that_never_varies_has_one_bin_on_either_side() -> None:
    (spread,) = spreads([{"same": 0.5}] * 200)
    assert (spread.ends, sum(spread.counts)) == ((0.5,), 200)
    assert [shift.name for shift in shifts((spread,), [{"same": 0.1}] * 200)] == ["same"]


@pytest.mark.parametrize(
    ("now", "commits", "words"),
    [
        (TREE, 0, ()),
        (TREE, 500, ()),
        (TREE, 501, ("commits",)),
        (Taken(110_000, "beef", "2", "1"), 3, ()),
        (Taken(110_100, "beef", "2", "1"), 3, ("grown",)),
        (Taken(50_000, "beef", "2", "1"), 900, ("shrunk", "commits")),
        (Taken(100_000, "c0ffee", "3", "1"), 0, ("read out",)),
        (Taken(100_000, "c0ffee", "2", "2"), 0, ("ships",)),
    ],
)
def test_a_calibration_is_stale_once_the_tree_has_moved_on(now: Taken, commits: int, words: tuple[str, ...]) -> None:
    reasons = stale(TREE, now, commits)
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


def test_an_empty_tree_that_is_filled_has_grown() -> None:
    assert "grown" in stale(Taken(0, "", "2", "1"), TREE, 0)[0]


# What was asked lately


def test_a_question_is_kept_as_numbers_in_the_order_asked(tmp_path: Path) -> None:
    recent.note(tmp_path, [("coverage", 0.25), ("agreement", 1.0)], 0.5)
    recent.note(tmp_path, [("coverage", nan)], 0.75)
    assert [dict(entry.numbers) for entry in recent.recent(tmp_path)] == [
        {"coverage": 0.25, "agreement": 1.0, recent.VALUE: 0.5},
        {recent.VALUE: 0.75},
    ]


def test_the_log_stays_within_its_bound_and_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "LOG_BYTES", 2_000)
    for number in range(500):
        recent.note(tmp_path, [("number", float(number))], 0.5)
    kept = [dict(entry.numbers)["number"] for entry in recent.recent(tmp_path)]
    assert kept == [float(number) for number in range(int(kept[0]), 500)]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3_000


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    recent.note(tmp_path, [], 0.5)
    with (tmp_path / "questions.jsonl").open("ab") as file:
        file.write(b'{"value": "often"}\n[1]\n\xff\n{"value": 0.25}\n{"val')
    assert [entry.numbers for entry in recent.recent(tmp_path)] == [((recent.VALUE, 0.5),), ((recent.VALUE, 0.25),)]


def test_a_folder_that_cannot_be_written_costs_the_log_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recent.note(tmp_path / "file", [], 0.5)
    recent.note(tmp_path / "nowhere", [], 0.5)
    assert recent.recent(tmp_path / "nowhere") == []


def test_the_log_holds_no_text_but_names_of_features(tmp_path: Path) -> None:
    recent.note(tmp_path, [("coverage", 0.5)], 0.5)
    told = json.loads((tmp_path / "questions.jsonl").read_text(encoding="utf-8"))
    assert set(told) == {"coverage", recent.VALUE}
    assert all(isinstance(value, float) for value in told.values())
