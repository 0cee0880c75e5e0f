"""The figures of a confidence: what they are on cases that can be counted by hand, and what must always hold."""

from math import isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.confidence.metrics import (
    augrc,
    aurc,
    auroc,
    balanced_accuracy,
    best_threshold,
    brier,
    ece,
    interval,
    reliability,
    risk_coverage,
)

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)
FOUR = [(0.9, True), (0.8, False), (0.7, True), (0.1, False)]


def test_auroc_counts_the_pairs_that_stand_in_order() -> None:
    assert auroc(FOUR) == 0.75
    assert auroc([(0.5, True), (0.5, False)]) == 0.5
    assert auroc([(0.2, True), (0.3, False)]) == 0.0


@given(PAIRS)
def test_auroc_turns_round_with_the_order(pairs: list[tuple[float, bool]]) -> None:
    turned = auroc([(1 - value, right) for value, right in pairs])
    if len({right for _, right in pairs}) < 2:
        assert isnan(auroc(pairs))
    elif len({1 - value for value, _ in pairs}) == len({value for value, _ in pairs}):
        assert auroc(pairs) + turned == pytest.approx(1)


def test_brier_and_ece_are_nothing_for_values_that_come_true() -> None:
    sure = [(1.0, True)] * 5 + [(0.0, False)] * 5
    assert brier(sure) == ece(sure) == 0.0
    assert brier([(0.5, True), (0.5, False)]) == 0.25
    assert ece([(0.9, False)] * 10) == pytest.approx(0.9)


@given(PAIRS)
def test_bins_hold_every_answer_once_and_their_error_is_bounded(pairs: list[tuple[float, bool]]) -> None:
    bins = reliability(pairs)
    assert sum(found.questions for found in bins) == len(pairs)
    assert max(found.questions for found in bins) - min(found.questions for found in bins) <= 1
    assert [found.value for found in bins] == sorted(found.value for found in bins)
    assert 0 <= ece(pairs) <= 1


def test_risk_rises_as_less_sure_answers_are_accepted() -> None:
    assert risk_coverage(FOUR) == ((0.9, 0.25, 0.0), (0.8, 0.5, 0.5), (0.7, 0.75, 1 / 3), (0.1, 1.0, 0.5))
    assert aurc(FOUR) == pytest.approx((0 + 0.5 + 1 / 3 + 0.5) / 4)
    assert augrc(FOUR) == pytest.approx((0 + 0.25 + 0.25 + 0.5) / 4)


@given(PAIRS)
def test_all_accepted_is_the_share_of_wrong_ones(pairs: list[tuple[float, bool]]) -> None:
    last = risk_coverage(pairs)[-1]
    assert last.coverage == 1.0
    assert last.risk == pytest.approx(sum(not right for _, right in pairs) / len(pairs))
    assert augrc(pairs) <= aurc(pairs) + 1e-9


@given(PAIRS)
def test_no_threshold_does_better_than_the_best_one(pairs: list[tuple[float, bool]]) -> None:
    if len({right for _, right in pairs}) < 2:
        assert best_threshold(pairs) == 0.5
        return
    best = balanced_accuracy(pairs, best_threshold(pairs))
    assert best >= max(balanced_accuracy(pairs, value) for value, _ in pairs) - 1e-9
    assert best >= 0.5


def test_an_interval_holds_its_mean_and_is_wider_over_whole_groups() -> None:
    alike = [[pair] for pair in FOUR * 10]
    apart = [[(0.5, True)] * 20, [(0.5, False)] * 20]
    share = lambda pairs: sum(right for _, right in pairs) / len(pairs)  # noqa: E731 - one line of arithmetic
    by_question, by_group = interval(alike, share, 1), interval(apart, share, 1)
    assert by_question.low <= by_question.mean == 0.5 <= by_question.high
    assert by_group.high - by_group.low == 1.0 > by_question.high - by_question.low
    assert interval(alike, share, 1) == by_question


def test_figures_of_no_answers_mean_nothing() -> None:
    assert isnan(brier([]))
    assert isnan(ece([]))
    assert isnan(aurc([]))
    assert isnan(auroc([(0.5, True)]))
    assert isnan(balanced_accuracy([(0.5, True)], 0.5))
    assert reliability([]) == ()
    assert risk_coverage([]) == ()
