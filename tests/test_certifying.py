"""Certified thresholds: the exact tails, the tests over many thresholds, and that what is certified holds."""

import random
from collections.abc import Callable
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.confidence.certifying import (
    ALPHA_OF,
    ALPHAS,
    NEVER,
    Certificate,
    Trial,
    certificate_for,
    certified,
    certified_on_lattice,
    fixed_sequence,
    graphical,
    guarantee,
    least_tested,
    tail,
    upper_bound,
)
from hub.model import Policy

Certify = Callable[..., Certificate]

COUNTS = st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(-1, n), st.just(n)))
CERTIFIERS = pytest.mark.parametrize("certify", [certified, certified_on_lattice])


@given(COUNTS, st.integers(1, 99))
def test_the_tail_is_the_exact_sum_of_the_binomial(counts: tuple[int, int], percent: int) -> None:
    wrong, tested = counts
    risk = Fraction(percent, 100)
    exact = sum((comb(tested, k) * risk**k * (1 - risk) ** (tested - k) for k in range(wrong + 1)), start=Fraction(0))
    assert tail(wrong, tested, percent / 100) == pytest.approx(float(exact), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("wrong", "tested", "risk", "expected"),
    [
        (0, 28, 0.1, 0.05233476330273605),
        (3, 60, 0.1, 0.13739856941965792),
        (17, 200, 0.1, 0.28492857377077335),
        (45, 500, 0.1, 0.25468926056234353),
        (2, 1000, 0.01, 0.00267943199379151),
        (120, 600, 0.2, 0.5244041878755504),
    ],
)
def test_the_tail_is_what_scipy_computes(wrong: int, tested: int, risk: float, expected: float) -> None:
    assert tail(wrong, tested, risk) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("wrong", "tested", "expected"),
    [
        (0, 28, 0.10146573557272467),
        (3, 60, 0.12418721047743608),
        (17, 200, 0.12477113319232826),
        (45, 500, 0.11390506836557414),
        (2, 1000, 0.006282284546723426),
        (120, 600, 0.22877037033494577),
    ],
)
def test_the_upper_bound_is_that_of_clopper_and_pearson(wrong: int, tested: int, expected: float) -> None:
    """Expected values: scipy.stats.beta.ppf(0.95, wrong + 1, tested - wrong)."""
    assert upper_bound(wrong, tested, 0.05) == pytest.approx(expected, rel=1e-9)


@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.01, 0.05, 0.2])
)
def test_the_bound_lies_above_what_was_seen_and_the_tail_there_is_delta(counts: tuple[int, int], delta: float) -> None:
    wrong, tested = counts
    bound = upper_bound(wrong, tested, delta)
    assert wrong / tested <= bound <= 1
    if wrong < tested:
        assert tail(wrong, tested, bound) == pytest.approx(delta, rel=1e-6)


def test_how_many_right_answers_it_takes_to_certify_a_share() -> None:
    assert [least_tested(alpha, 0.05) for alpha in ALPHAS] == [59, 29, 14]


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.001, 0.5))
def test_a_fixed_sequence_certifies_the_beginning_up_to_the_first_that_fails(
    p_values: list[float], delta: float
) -> None:
    kept = fixed_sequence(p_values, delta)
    assert kept == list(range(len(kept)))
    assert all(p_values[place] <= delta for place in kept)
    assert len(kept) == len(p_values) or p_values[len(kept)] > delta


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=20), st.floats(0.001, 0.2))
def test_on_a_chain_the_graphical_test_is_the_fixed_sequence(p_values: list[float], delta: float) -> None:
    chain = [[place + 1] if place + 1 < len(p_values) else [] for place in range(len(p_values))]
    assert graphical(p_values, chain, {0: delta}, delta) == fixed_sequence(p_values, delta)


def test_the_graphical_test_hands_on_what_a_certified_position_held() -> None:
    diamond = [[1, 2], [3], [3], []]
    assert graphical([0.01, 0.024, 0.03, 0.02], diamond, {0: 0.05}, 0.05) == [0, 1, 3]
    assert graphical([0.01, 0.024, 0.02, 0.049], diamond, {0: 0.05}, 0.05) == [0, 1, 2, 3]
    assert graphical([0.06, 0.0, 0.0, 0.0], diamond, {0: 0.05}, 0.05) == []


def test_no_more_than_delta_can_be_spent() -> None:
    with pytest.raises(ValueError, match="shares"):
        graphical([0.0, 0.0], [[], []], {0: 0.05, 1: 0.05}, 0.05)


def honest(chance: random.Random, number: int, missing: float = 0.3) -> list[Trial]:
    """Questions whose confidence is what it says, some of which no prompt can answer; a wide prompt finds half of what
    the moderate one misses.
    """
    trials = []
    for _ in range(number):
        lost = chance.random() < missing
        first = chance.betavariate(1, 8) if lost else chance.betavariate(6, 1)
        right = not lost and chance.random() < first
        second = first if lost else (1 + first) / 2
        trials.append(Trial(first, right, second, right or (not lost and chance.random() < 0.5)))
    return trials


@CERTIFIERS
def test_what_is_certified_holds_on_other_questions_as_often_as_is_said(certify: Certify) -> None:
    """The risk of each pair over many questions of the same kind, against the share it was certified for."""
    chance = random.Random(7)
    population = honest(chance, 5_000)
    broken = kept = 0
    for _ in range(60):
        asked = chance.sample(population, 400)
        found = certify(asked[:200], asked[200:], 0.10)
        if found.holds:
            kept += 1
            direct = [trial.first_right for trial in population if trial.first >= found.accept]
            later = [
                trial.second_right
                for trial in population
                if trial.first < found.accept and trial.second >= found.accept_wide
            ]
            broken += 1 - sum(direct + later) / len(direct + later) > 0.10
    assert kept > 30  # or it would hold for want of certificates
    assert broken <= 0.05 * 60 + 3  # 5% of 60 draws, and what chance adds


@CERTIFIERS
@given(st.integers(0, 2**32), st.sampled_from(ALPHAS))
@settings(max_examples=30)
def test_a_certificate_counts_what_its_thresholds_accept(certify: Certify, seed: int, alpha: float) -> None:
    chance = random.Random(seed)
    learning, testing = honest(chance, 80), honest(chance, 120, missing=0.05)
    found = certify(learning, testing, alpha)
    if not found.holds:
        assert (found.accept, found.accept_wide, found.wrong, found.bound) == (NEVER, NEVER, 0, 1.0)
        return
    direct = [trial for trial in testing if trial.first >= found.accept]
    later = [trial for trial in testing if trial.first < found.accept and trial.second >= found.accept_wide]
    assert found.accepted == len(direct) + len(later)
    assert found.wrong == sum(not t.first_right for t in direct) + sum(not t.second_right for t in later)
    assert found.widened == (len(testing) - len(direct) if found.accept_wide < NEVER else 0)
    assert found.bound <= alpha  # the pair alone is certified at the whole of delta, so together it is, too


@CERTIFIERS
def test_nothing_is_certified_for_a_model_that_is_sure_of_everything(certify: Certify) -> None:
    trials = [Trial(1.0, place % 3 > 0) for place in range(300)]
    assert not certify(trials[:150], trials[150:], 0.10).holds
    right = [Trial(1.0, first_right=True)] * 300
    assert certify(right[:150], right[150:], 0.10).accepted == 150


@CERTIFIERS
@pytest.mark.parametrize("number", [0, 1, 3, 28])
def test_too_few_questions_certify_nothing_and_fail_nowhere(certify: Certify, number: int) -> None:
    trials = [Trial(0.9, True, 0.95, True)] * number
    for learning, testing in ((trials, trials), ([], trials), (trials, [])):
        assert not certify(learning, testing, 0.10).holds


@CERTIFIERS
def test_twenty_nine_right_answers_certify_a_tenth(certify: Certify) -> None:
    assert certify([Trial(0.9, first_right=True)] * 29, [Trial(0.9, first_right=True)] * 29, 0.10).accepted == 29


def test_a_certificate_speaks_for_its_own_group_and_for_budgets_near_its_own() -> None:
    def made(group: str, budget: int, accept: float) -> Certificate:
        return Certificate(group, budget, 0.1, 0.05, 100, accept, NEVER, 80, 2, 0)

    held = [made("point", 4_096, 0.9), made("point", 16_384, 0.7), made("", 16_384, 0.6)]
    assert certificate_for(held, "point", 14_000, 0.1) == held[1]
    assert certificate_for(held, "point", 7_000, 0.1) == held[0]
    assert certificate_for(held, "", 16_384, 0.1) == held[2]
    assert certificate_for(held, "relation", 16_384, 0.1) is None
    assert certificate_for(held, "point", 65_536, 0.1) is None
    assert certificate_for(held, "point", 16_384, 0.2) is None


def test_a_guarantee_is_said_of_what_is_accepted_and_of_nothing_else() -> None:
    held = Certificate("point", 16_384, 0.1, 0.05, 240, 0.7, 0.8, 180, 9, 60)
    assert guarantee(held, 0.69) == ""
    assert guarantee(Certificate("point", 16_384, 0.1, 0.05, 240), 1.0) == ""
    assert "at most 10%" in guarantee(held, 0.7)
    assert "95% certainty" in guarantee(held, 0.7)


def test_every_policy_has_a_share_that_is_tested() -> None:
    assert set(ALPHA_OF) == set(Policy)
    assert set(ALPHA_OF.values()) <= set(ALPHAS)
