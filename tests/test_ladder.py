"""The decision between tiers: laws over all outlooks, and what each rule is for."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ladder import (
    DEEP_BELOW,
    LEAST_BENEFIT,
    MANY_MEANINGS,
    ORDER,
    REFUSE_BELOW,
    VALUE_S,
    Outlook,
    Rung,
    decide,
    harm,
    is_further,
    reading,
)
from hub.model import Breadth, Decision, Policy, Tier, Way

shares = st.floats(0, 1)
seconds = st.floats(0, 5_000)
FURTHER = (Tier.WIDE, Tier.FOCUS, Tier.FULL, Tier.ANALYSIS)
rungs_of_any_kind = st.lists(
    st.builds(
        Rung,
        tier=st.sampled_from(FURTHER),
        gain=shares,
        cost_s=seconds,
        harm=shares,
        whole=st.booleans(),
        closed=st.sampled_from(["", "", "The window is too small."]),
    ),
    max_size=4,
    unique_by=lambda rung: rung.tier,
).map(tuple)
outlooks = st.builds(
    Outlook,
    tier=st.sampled_from((Tier.RAG, *FURTHER)),
    value=shares,
    rungs=rungs_of_any_kind,
    policy=st.sampled_from(Policy),
    breadth=st.sampled_from(Breadth),
    answered=st.booleans(),
    missing=st.sampled_from([(), ("Cache::Get",)]),
    ambiguous=st.sampled_from([(), (("Get", 3),), (("process", 41),)]),
    certified=st.one_of(st.none(), shares),
    tried_to_certify=st.booleans(),
)


def pull(decision: Decision) -> float:
    """How far a decision hangs on the confidence: gain and harm of the chosen tier, 0 where it stays."""
    chosen = [rung for rung in decision.weighed if rung.tier is decision.tier and decision.way is Way.MOVE]
    return sum(rung.gain * (1 - rung.harm) + rung.harm for rung in chosen)


@given(outlooks)
def test_every_move_goes_further_up_to_a_tier_that_is_open(outlook: Outlook) -> None:
    decision = decide(outlook)
    if decision.way is Way.MOVE:
        assert is_further(decision.tier, outlook.tier)
        assert decision.tier in {rung.tier for rung in outlook.rungs if not rung.closed}
    else:
        assert decision.tier is (outlook.tier if decision.way is Way.ACCEPT else Tier.NONE)
    assert decision.reason
    assert decide(replace(outlook, rungs=outlook.rungs[::-1])) == decision


@given(outlooks, st.lists(shares, min_size=6, max_size=6))
def test_asking_again_after_each_move_ends(outlook: Outlook, values: Sequence[float]) -> None:
    reached = [outlook.tier]
    for value in values:
        decision = decide(replace(outlook, tier=reached[-1], value=value))
        if decision.way is not Way.MOVE:
            break
        reached.append(decision.tier)
    assert len(reached) <= len(ORDER) - 1
    assert sorted(set(reached), key=ORDER.index) == reached


@given(outlooks, shares)
def test_more_confidence_never_reaches_for_more(outlook: Outlook, other: float) -> None:
    low, high = sorted((outlook.value, other))
    unsure, sure = decide(replace(outlook, value=low)), decide(replace(outlook, value=high))
    if unsure.way is Way.ACCEPT:
        assert sure.way is Way.ACCEPT
    if sure.way is Way.MOVE and unsure.way is Way.MOVE and not outlook.certified and not outlook.tried_to_certify:
        assert pull(sure) <= pull(unsure) + 1e-9


@given(outlooks)
def test_a_policy_that_values_answers_more_never_stays_where_the_other_moves(outlook: Outlook) -> None:
    decisions = [decide(replace(outlook, policy=policy)) for policy in Policy]
    moves = [decision.way is Way.MOVE for decision in decisions]
    assert moves == sorted(moves)
    worth = [
        next(rung.worth_s + rung.cost_s for rung in decision.weighed if rung.tier is decision.tier) / decision.value_s
        for decision in decisions
        if decision.way is Way.MOVE
    ]
    if outlook.certified is None and not outlook.tried_to_certify:
        assert all(later >= earlier - 1e-9 for earlier, later in pairwise(worth))


@given(outlooks, seconds)
def test_a_dearer_tier_is_never_chosen_over_an_equal_one(outlook: Outlook, more: float) -> None:
    cheap = Rung(Tier.FOCUS, 0.6, 10.0, whole=True)
    dear = Rung(Tier.FULL, 0.6, 10.0 + more, whole=True)
    decision = decide(replace(outlook, tier=Tier.WIDE, rungs=(cheap, dear)))
    assert decision.tier is not Tier.FULL


@given(outlooks)
def test_what_is_certified_is_accepted_at_once(outlook: Outlook) -> None:
    decision = decide(replace(outlook, certified=outlook.value))
    assert (decision.way, decision.tier) == (Way.ACCEPT, outlook.tier)


@given(outlooks)
def test_what_no_tier_can_answer_is_refused_at_once(outlook: Outlook) -> None:
    decision = decide(replace(outlook, hopeless="The name Vanish stands nowhere."))
    assert (decision.way, decision.reason) == (Way.REFUSE, "The name Vanish stands nowhere.")


@given(outlooks)
def test_what_stays_below_a_guess_is_refused(outlook: Outlook) -> None:
    decision = decide(replace(outlook, rungs=(), certified=None))
    assert decision.way is (Way.REFUSE if outlook.value < REFUSE_BELOW else Way.ACCEPT)


V = VALUE_S[Policy.BALANCED]
WIDE = Rung(Tier.WIDE, 0.45, V / 15)
FULL = Rung(Tier.FULL, 0.8, V * 0.8, whole=True)


def chosen(value: float, *rungs: Rung, **changes: object) -> tuple[Way, Tier]:
    decision = decide(replace(Outlook(Tier.RAG, value, rungs), **changes))  # type: ignore[arg-type] # fields of Outlook
    return decision.way, decision.tier


def test_a_sure_prompt_is_accepted_and_an_unsure_one_widened() -> None:
    assert chosen(0.95, WIDE, FULL) == (Way.ACCEPT, Tier.RAG)
    assert chosen(0.6, WIDE, FULL) == (Way.MOVE, Tier.WIDE)


def test_a_warm_full_load_is_taken_before_a_cold_wide_prompt() -> None:
    assert chosen(0.6, WIDE, replace(FULL, cost_s=V / 100)) == (Way.MOVE, Tier.FULL)
    assert chosen(0.6, WIDE, replace(FULL, cost_s=V / 100, whole=False)) == (Way.MOVE, Tier.WIDE)


def test_a_deep_tier_is_for_questions_about_much_or_for_what_the_wide_one_lacks() -> None:
    cheap = replace(FULL, cost_s=V / 10)
    point = {"policy": Policy.EXHAUSTIVE}
    assert chosen(0.6, WIDE, cheap, **point) == (Way.MOVE, Tier.WIDE)
    assert chosen(0.6, WIDE, cheap, **point, breadth=Breadth.GLOBAL) == (Way.MOVE, Tier.FULL)
    assert chosen(0.6, cheap, **point, tier=Tier.WIDE) == (Way.MOVE, Tier.FULL)
    assert chosen(DEEP_BELOW, cheap, **point, tier=Tier.WIDE) == (Way.ACCEPT, Tier.WIDE)
    assert chosen(DEEP_BELOW, cheap, **point, tier=Tier.WIDE, missing=("Cache::Get",)) == (Way.MOVE, Tier.FULL)


def test_where_the_window_has_no_room_for_a_wide_prompt_the_deep_ones_stand_in() -> None:
    shut = replace(WIDE, closed="The window has no room for more.")
    assert chosen(0.5, shut, replace(FULL, cost_s=V / 10)) == (Way.MOVE, Tier.FULL)


def test_a_name_of_many_meanings_is_asked_about_and_not_read_for() -> None:
    many = (("process", MANY_MEANINGS),)
    assert chosen(0.6, WIDE, ambiguous=many) == (Way.ACCEPT, Tier.RAG)
    assert chosen(0.1, WIDE, ambiguous=many) == (Way.REFUSE, Tier.NONE)
    assert "process may mean" in decide(Outlook(Tier.RAG, 0.6, (WIDE,), ambiguous=many)).reason
    assert chosen(0.6, WIDE, ambiguous=(("process", MANY_MEANINGS - 1),)) == (Way.MOVE, Tier.WIDE)


def test_where_nothing_is_certified_it_widens_unless_it_must_be_fast() -> None:
    sure = {"tried_to_certify": True}
    assert chosen(0.95, WIDE) == (Way.ACCEPT, Tier.RAG)
    assert chosen(0.95, WIDE, **sure) == (Way.MOVE, Tier.WIDE)
    assert chosen(0.95, WIDE, certified=0.97) == (Way.MOVE, Tier.WIDE)
    assert chosen(0.95, WIDE, **sure, policy=Policy.FAST) == (Way.ACCEPT, Tier.RAG)
    assert chosen(0.95, WIDE, **sure, answered=True) == (Way.ACCEPT, Tier.RAG)


def test_what_a_longer_prompt_would_spoil_is_weighed_against_what_it_shows() -> None:
    assert chosen(0.8, replace(WIDE, cost_s=V / 300)) == (Way.MOVE, Tier.WIDE)
    assert chosen(0.8, replace(WIDE, cost_s=V / 300, harm=0.2)) == (Way.ACCEPT, Tier.RAG)


def test_a_move_that_would_hardly_ever_help_is_not_made_though_it_is_free() -> None:
    free = replace(WIDE, cost_s=0.0)
    value = 1 - LEAST_BENEFIT / free.gain
    assert chosen(value - 0.01, free, policy=Policy.EXHAUSTIVE) == (Way.MOVE, Tier.WIDE)
    assert chosen(value + 0.01, free, policy=Policy.EXHAUSTIVE) == (Way.ACCEPT, Tier.RAG)


def test_the_worth_that_is_told_is_the_gain_in_seconds_less_the_cost() -> None:
    (weighed,) = decide(Outlook(Tier.RAG, 0.6, (replace(WIDE, harm=0.1),), policy=Policy.EXHAUSTIVE)).weighed
    assert weighed.worth_s == pytest.approx(VALUE_S[Policy.EXHAUSTIVE] * (0.4 * 0.45 * 0.9 - 0.6 * 0.1) - V / 15)


def test_a_further_tier_is_taken_to_show_at_least_what_a_nearer_one_shows() -> None:
    less = replace(FULL, gain=0.1)
    assert [rung.gain for rung in decide(Outlook(Tier.RAG, 0.6, (WIDE, less))).weighed] == [0.45, 0.45]


def test_longer_prompts_are_read_no_better() -> None:
    lengths = [0, 8_000, 32_768, 50_000, 65_536, 131_072, 262_144, 1 << 20]
    shares_read = [reading(length) for length in lengths]
    assert shares_read == sorted(shares_read, reverse=True)
    assert (reading(32_768), reading(262_144)) == (0.972, 0.825)
    assert harm(16_384, 262_144) == pytest.approx(1 - 0.825 / 0.972)
    assert harm(262_144, 16_384) == 0
