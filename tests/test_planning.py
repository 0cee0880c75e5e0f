"""What fits where and what is recommended: laws over any model and machine, then models and cards that people have."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hub.capacity import advice, catalogue, memory
from hub.capacity.machine import described
from hub.capacity.model import Gpu, KvType, Load, Machine, ModelShape, Placement
from hub.capacity.planning import LOSS, WANTED_TOKENS_S, Plan, Task, Wish, fast_enough, plan, survey
from hub.capacity.rules import rules
from tests.support.shapes import GIB, gpus, loads, machines, shapes

CONTEXTS = (8192, 32768, 262144)
wishes = st.builds(
    Wish,
    contexts=st.sampled_from([(), CONTEXTS]),
    users=st.sampled_from([1, 1, 3]),
    kv_type=st.sampled_from([None, KvType.Q8_0, KvType.Q4_0]),
    task=st.sampled_from(Task),
)
# Each example makes a plan or two, some tens of milliseconds.
few = settings(max_examples=25)


def context_of(made: Plan) -> int:
    return made.recommended.context if made.recommended else 0


def codes(made: Plan) -> set[str]:
    return {note.code for note in advice.cautions(made)}


@few
@given(shapes(), machines(), wishes)
def test_a_row_fits_exactly_if_its_need_is_within_the_rooms(shape: ModelShape, machine: Machine, wish: Wish) -> None:
    made = plan(shape, machine, wish)
    for row in made.rows:
        assert row.need == memory.need(shape, row.load)
        within = row.need.gpu.total <= made.card_room and (machine.unified or row.need.host.total <= made.host_room)
        assert row.fits == within
        assert bool(advice.missing(row)) == (not row.fits)


@few
@given(shapes(), machines(), wishes)
def test_what_is_recommended_fits_and_is_within_the_training_unless_more_was_asked_for(
    shape: ModelShape, machine: Machine, wish: Wish
) -> None:
    made = plan(shape, machine, wish)
    if made.recommended is None:
        usable = [row for row in made.rows if row.fits and (wish.contexts or not row.beyond_training)]
        assert not usable
        return
    assert made.recommended in made.rows
    assert made.recommended.fits
    assert wish.contexts or not made.recommended.beyond_training


@few
@given(shapes(), machines(), gpus(), wishes, st.integers(1, 64))
def test_a_larger_card_never_recommends_less(
    shape: ModelShape, machine: Machine, card: Gpu, wish: Wish, more: int
) -> None:
    small = replace(machine, gpu=card, unified=False)
    size = card.memory + more * GIB
    large = replace(small, gpu=replace(card, memory=size, free=size))
    assert context_of(plan(shape, large, wish)) >= context_of(plan(shape, small, wish))


@few
@given(shapes(), machines(), wishes, st.integers(1, 64))
def test_more_main_memory_never_recommends_less(shape: ModelShape, machine: Machine, wish: Wish, more: int) -> None:
    assume(not machine.unified)
    larger = replace(machine, ram=machine.ram + more * GIB, ram_free=machine.ram_free + more * GIB)
    assert context_of(plan(shape, larger, wish)) >= context_of(plan(shape, machine, wish))


@few
@given(shapes(), machines(), st.integers(1, 3))
def test_a_patient_task_never_gets_less_than_a_hasty_one(shape: ModelShape, machine: Machine, users: int) -> None:
    contexts = [context_of(plan(shape, machine, Wish(users=users, task=task))) for task in Task]
    assert contexts == sorted(contexts)


@given(shapes(), loads, st.integers(0, 1 << 20))
def test_more_context_never_needs_less_memory(shape: ModelShape, load: Load, more: int) -> None:
    less, larger = (memory.need(shape, replace(load, context=load.context + added)) for added in (0, more))
    assert larger.gpu.total + larger.host.total >= less.gpu.total + less.host.total


@given(shapes(), loads, st.integers(1, 16))
def test_more_users_of_one_context_each_never_need_less_memory(shape: ModelShape, load: Load, users: int) -> None:
    alone = replace(load, parallel=1)
    together = replace(load, parallel=users, context=load.context * users)
    one, all_of_them = memory.need(shape, alone), memory.need(shape, together)
    assert all_of_them.gpu.total + all_of_them.host.total >= one.gpu.total + one.host.total


@few
@given(shapes(), machines(), wishes)
def test_as_many_users_are_told_as_fit_and_are_served_as_fast_as_the_task_needs(
    shape: ModelShape, machine: Machine, wish: Wish
) -> None:
    made = plan(shape, machine, replace(wish, users=1))
    assert bool(made.users) == (made.recommended is not None)
    for at in made.users:
        assert made.recommended
        way = (at.context, made.recommended.load.k_type, made.recommended.load.placement)
        alone = [row for row in made.rows if (row.context, row.load.k_type, row.load.placement) == way and row.fits]
        if at.users == 1:
            continue
        if alone:
            assert at.tokens_s >= min(WANTED_TOKENS_S[wish.task], max(row.decode.tokens_s for row in alone))
        many = Load(at.context * at.users, way[1], way[1], way[2], gpu_layers=0, ram_experts=99, parallel=at.users)
        least = memory.need(shape, many)
        assert least.gpu.total <= made.card_room


@few
@given(shapes(), machines(), wishes)
def test_advice_is_whole_sentences_for_any_plan(shape: ModelShape, machine: Machine, wish: Wish) -> None:
    made = plan(shape, machine, wish)
    notes = [*advice.reasons(made), *advice.cautions(made)]
    assert bool(advice.reasons(made)) == (made.recommended is not None)
    for note in notes:
        assert note.code
        assert note.text[0].isupper() or note.text[0].isdigit()
        assert note.text.endswith(".")
        assert "None" not in note.text
    assert made.recommended or notes


CARD = described("RTX 4080 16GB", "32GB DDR5-5600")


def test_a_model_that_fits_stays_whole_on_the_card() -> None:
    made = plan(catalogue.find("qwen2.5-coder:14b"), CARD)
    row = made.recommended
    assert row
    assert (row.context, row.load.placement) == (32768, Placement.GPU)
    assert row.load.k_type in {KvType.F16, KvType.Q8_0}


def test_of_experts_that_do_not_fit_the_fewest_go_to_ram_and_the_cache_stays() -> None:
    shape = catalogue.find("qwen3-coder:30b")
    made = plan(shape, CARD, Wish(contexts=(65536,)))
    row = made.recommended
    assert row
    assert row.load.placement is Placement.EXPERTS_IN_RAM
    assert row.need.host.kv == 0
    fewer = replace(row.load, ram_experts=row.load.ram_experts - 1)
    assert memory.need(shape, fewer).gpu.total > made.card_room
    moved = [other for other in made.rows if other.load.placement is Placement.KV_IN_RAM and other.fits]
    assert all(other.decode.tokens_s < row.decode.tokens_s for other in moved)


def test_of_layers_that_do_not_fit_the_fewest_go_to_the_processor() -> None:
    shape = catalogue.find("qwen2.5-coder:32b")
    made = plan(shape, CARD, Wish(contexts=(16384,)))
    row = made.recommended
    assert row
    assert row.load.placement is Placement.LAYERS_ON_CPU
    assert row.load.gpu_layers is not None
    more = replace(row.load, gpu_layers=row.load.gpu_layers + 1)
    assert memory.need(shape, more).gpu.total > made.card_room
    assert "slow" in codes(made)


def test_four_bits_of_cache_are_taken_only_where_they_are_asked_for() -> None:
    shape = catalogue.find("llama3.1:8b")
    assert not LOSS.get(plan(shape, CARD).recommended.load.k_type)  # type: ignore[union-attr]
    asked = plan(shape, CARD, Wish(kv_type=KvType.Q4_0))
    assert asked.recommended
    assert asked.recommended.load.k_type is KvType.Q4_0
    assert "kv-quality" in codes(asked)


def test_ten_million_tokens_are_refused_with_what_they_lack() -> None:
    made = plan(catalogue.find("llama3.1:8b"), CARD, Wish(contexts=(10 << 20,)))
    assert made.recommended is None
    (note,) = [note for note in advice.cautions(made) if note.code == "nothing-fits"]
    assert "10M" in note.text
    assert "GiB" in note.text
    assert {"beyond-training", "yarn"} <= codes(made)


def test_of_contexts_that_were_asked_for_the_largest_that_fits_is_taken_and_the_others_are_named() -> None:
    made = plan(catalogue.find("llama3.1:8b"), CARD, Wish(contexts=(8192, 10 << 20)))
    assert context_of(made) == 8192
    assert {"too-large", "beyond-training", "yarn"} <= codes(made)


def test_a_context_beyond_training_is_never_taken_unasked_and_named_when_asked() -> None:
    shape = catalogue.find("qwen2.5-coder:7b")
    assert context_of(plan(shape, CARD)) == shape.trained_context
    made = plan(shape, CARD, Wish(contexts=(65536,)))
    assert context_of(made) == 65536
    assert "beyond-training" in codes(made)
    assert "yarn" not in codes(made)  # twice is what its makers allow


@pytest.mark.parametrize("context", [2048, 40960, 10 << 20])
def test_as_much_as_a_model_is_trained_on_is_tried_whatever_it_is(context: int) -> None:
    shape = replace(catalogue.find("smollm2:135m"), trained_context=context, original_context=context)
    assert context in {row.context for row in plan(shape, CARD).rows}
    if context <= 1 << 20:
        assert context_of(plan(shape, CARD)) == context


def test_a_training_that_no_model_had_is_not_believed() -> None:
    shape = replace(catalogue.find("smollm2:135m"), trained_context=1 << 63, original_context=1 << 63)
    assert max(row.context for row in plan(shape, CARD).rows) == 1 << 20


def test_a_machine_without_memory_left_is_told_so() -> None:
    full = replace(CARD, ram_free=0)
    made = plan(catalogue.find("llama3.1:8b"), full)
    assert made.recommended is None
    assert "no-ram" in codes(made)


def test_without_a_card_the_processor_does_it_and_the_plan_says_what_that_means() -> None:
    made = plan(catalogue.find("llama3.1:8b"), described("none", "64GB"), Wish(task=Task.REFACTORING))
    assert made.recommended
    assert made.recommended.load.placement is Placement.CPU
    assert made.recommended.need.gpu.total == 0
    assert "no-card" in codes(made)


def test_several_cards_add_memory_and_no_speed() -> None:
    shape = catalogue.find("llama3.1:8b")
    one, two = (plan(shape, described(words, "64GB"), Wish(contexts=(8192,))) for words in ("RTX 3090", "2x RTX 3090"))
    assert one.recommended
    assert two.recommended
    assert two.card_room > one.card_room
    assert two.recommended.decode.tokens_s == pytest.approx(one.recommended.decode.tokens_s)
    assert "cards" in codes(two)


def test_one_memory_for_all_is_one_place() -> None:
    made = plan(catalogue.find("gpt-oss:20b"), described("M3 Max 64GB", None))
    assert {row.load.placement for row in made.rows} == {Placement.UNIFIED}
    assert made.recommended


def test_a_prompt_that_takes_minutes_is_named() -> None:
    made = plan(catalogue.find("qwen3-coder:30b"), CARD, Wish(contexts=(262144,)))
    assert made.recommended
    assert "cold" in codes(made)


def test_the_survey_puts_fast_models_first_and_larger_ones_before_smaller() -> None:
    names = ("llama3.3:70b", "llama3.1:8b", "qwen2.5-coder:14b", "qwen3:235b-a22b")
    made = survey(map(catalogue.find, names), CARD, Wish(task=Task.COMPLETION))
    assert [one.shape.name for one in made] == ["qwen2.5-coder:14b", "llama3.1:8b", "llama3.3:70b", "qwen3:235b-a22b"]
    fast = [bool(one.recommended and fast_enough(one.recommended, one.wish)) for one in made]
    assert fast == [True, True, False, False]


def test_rules_of_thumb_hold_for_old_models_and_fail_for_new_ones() -> None:
    def off(name: str) -> dict[str, float]:
        return {f"{rule.name} {rule.quantity}": rule.off for rule in rules(catalogue.find(name), 32768, CARD)}

    dense, sliding, hybrid = off("llama3.1:8b"), off("gemma3:12b"), off("qwen3.6:35b-a3b")
    grouped, every = "KV: 2 L KV-heads D x 2 x tokens KV cache", "KV: 2 L heads D x 2 x tokens KV cache"
    assert dense[grouped] == pytest.approx(0)
    assert dense[every] == pytest.approx(3)  # eight heads of keys for thirty-two of queries
    assert sliding[grouped] > 2
    assert hybrid[grouped] > 2
    assert 0.1 < dense["0.7 GB a billion parameters (Q4) weights"] < 0.25
