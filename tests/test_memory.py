"""The memory a load takes, held against what llama.cpp itself would allocate for models of real dimensions."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.backends import embedded
from hub.capacity import memory
from hub.capacity.architecture import shape_of
from hub.capacity.gguf import read_header
from hub.capacity.model import Calibration, KvType, Layer, LayerKind, Load, MemoryNeed, ModelShape, Placement
from tests.support import gguf_models, oracle
from tests.support.odd_models import ODD_MODELS

K, MIB, GIB = 1024, 1 << 20, 1 << 30
CONTEXTS = (32 * K, 64 * K, 128 * K, 256 * K)
USUAL = Load(context=32 * K, placement=Placement.CPU)
SETTINGS = (
    replace(USUAL, k_type=KvType.Q8_0, v_type=KvType.Q8_0),
    replace(USUAL, batch=2048),
)
# What changes more than a size: once for each model.
ODD = (
    replace(USUAL, context=64 * K, parallel=2),
    replace(USUAL, context=100_000, parallel=3),
    replace(USUAL, context=128 * K, parallel=4, unified=True),
    replace(USUAL, swa_full=True),
    replace(USUAL, k_type=KvType.Q5_1, v_type=KvType.Q4_0),
    replace(USUAL, batch=128),
    replace(USUAL, context=1000),
    replace(USUAL, flash_attention=False),
)
# For architectures that remember in ways of their own.
FEW = (
    USUAL,
    replace(USUAL, context=128 * K),
    replace(USUAL, batch=2048),
    replace(USUAL, context=64 * K, parallel=2),
    replace(USUAL, swa_full=True),
    replace(USUAL, flash_attention=False),
)
# Largest error of all that a device holds. The issue allows 0.05; found were 0.007 at most.
WHOLE = 0.02


def shape(folder: Path, name: str) -> ModelShape:
    header = read_header(gguf_models.sparse(folder / f"{name}.gguf", name))
    return shape_of(header.metadata, header.tensors, name=name, source="gguf")


@pytest.mark.parametrize("name", gguf_models.MODELS)
def test_a_model_takes_what_llama_cpp_says(name: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    found = shape(tmp_path, name)
    loads = [replace(USUAL, context=context) for context in CONTEXTS]
    loads += [replace(setting, context=context) for setting in SETTINGS for context in (CONTEXTS[0], CONTEXTS[-1])]
    loads += [load for load in ODD if load.k_type == load.v_type or found.layers[-1].value_length]  # else it refuses
    told = oracle.ask([(tmp_path / f"{name}.gguf", load) for load in loads])
    for load, truth in zip(loads, told, strict=True):
        # It prints hundredths of a MiB for each cache, and whole MiB of weights.
        assert abs(memory.kv_bytes(found, load) - truth.kv) <= 0.006 * MIB * len(truth.cells), load
        assert abs(memory.state_bytes(found, load) - truth.state) <= 0.006 * MIB, load
        assert 0 <= found.weight_bytes - truth.weights < MIB
        needed = memory.need(found, load)
        assert needed.gpu.total == 0
        assert abs(needed.host.total / truth.total - 1) < WHOLE, load


@pytest.mark.parametrize("name", ODD_MODELS)
def test_what_an_architecture_remembers_is_what_llama_cpp_says(name: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    path = tmp_path / f"{name}.gguf"
    gguf_models.write_sparse(path, ODD_MODELS[name]())
    header = read_header(path)
    found = shape_of(header.metadata, header.tensors, name=name, source="gguf")
    assert found.notes == ()
    for load, truth in zip(FEW, oracle.ask([(path, load) for load in FEW]), strict=True):
        assert abs(memory.kv_bytes(found, load) - truth.kv) <= 0.006 * MIB * len(truth.cells), load
        assert abs(memory.state_bytes(found, load) - truth.state) <= 0.006 * MIB, load
        # Gemma's do not share a matrix between input and output where the file is not mapped, as here.
        again = found.embedding_bytes - found.looked_up_bytes if name in {"gemma4", "gemma3n"} else 0
        assert 0 <= found.weight_bytes + again - truth.weights < MIB
        needed = memory.need(found, load).host
        assert abs(needed.total - needed.weights - truth.total + truth.weights) < WHOLE * truth.total, load


def test_the_oracle_sees_every_kind_of_memory(tmp_path: Path) -> None:
    shapes = [shape(tmp_path, name) for name in gguf_models.MODELS]
    assert len(shapes) >= 8
    for kind in LayerKind:
        assert any(layer.kind is kind for one in shapes for layer in one.layers), kind
    assert any(layer.kv_heads and not layer.value_length for one in shapes for layer in one.layers)
    assert any(layer.kv_heads and layer.state_bytes for one in shapes for layer in one.layers)
    assert any(one.experts for one in shapes)
    assert {one.tied for one in shapes} == {True, False}


def plain(layers: int = 4, **changed: object) -> ModelShape:
    layer = Layer(LayerKind.FULL, kv_heads=8, key_length=128, value_length=128, dense_bytes=100 * MIB)
    made = ModelShape(
        name="plain",
        architecture="llama",
        parameters=0,
        layers=(layer,) * layers,
        heads=32,
        embedding_length=4096,
        vocabulary=128_000,
        trained_context=131_072,
        original_context=131_072,
        window=0,
        experts=0,
        experts_used=0,
        embedding_bytes=300 * MIB,
        output_bytes=400 * MIB,
        tied=False,
        quantization="Q4_K_M",
        source="catalogue",
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def loads() -> st.SearchStrategy[Load]:
    return st.builds(
        Load,
        context=st.integers(1, 1 << 20),
        k_type=st.sampled_from(KvType),
        v_type=st.sampled_from(KvType),
        placement=st.sampled_from(
            [Placement.GPU, Placement.KV_IN_RAM, Placement.LAYERS_ON_CPU, Placement.EXPERTS_IN_RAM]
        ),
        gpu_layers=st.none() | st.integers(0, 60),
        ram_experts=st.integers(0, 8),
        batch=st.sampled_from([1, 128, 512, 2048]),
        parallel=st.integers(1, 8),
        unified=st.booleans(),
        flash_attention=st.booleans(),
        swa_full=st.booleans(),
    )


MIXED = (
    Layer(LayerKind.FULL, 8, 128, 128, dense_bytes=100 * MIB, expert_bytes=300 * MIB),
    Layer(LayerKind.SLIDING, 4, 256, 256, dense_bytes=80 * MIB, expert_bytes=300 * MIB),
    Layer(LayerKind.RECURRENT, 0, 0, 0, dense_bytes=90 * MIB, state_bytes=2 * MIB),
    Layer(LayerKind.FULL, 1, 576, 0, dense_bytes=50 * MIB),
)


@given(loads(), st.booleans())
def test_nothing_is_lost_or_counted_twice_wherever_it_lies(load: Load, tied: bool) -> None:
    model = plain(layers=0, tied=tied, window=1024, looked_up_bytes=7 * MIB)
    model = replace(model, layers=MIXED * 2)
    needed = memory.need(model, load)
    both = [needed.gpu, needed.host]
    assert sum(device.kv for device in both) == memory.kv_bytes(model, load)
    assert sum(device.state for device in both) == memory.state_bytes(model, load)
    twice = model.embedding_bytes - 7 * MIB if tied else 0
    if load.placement is Placement.LAYERS_ON_CPU and load.gpu_layers == 0:
        twice = 0  # no output on the card
    assert sum(device.weights for device in both) == model.weight_bytes + twice
    assert min(value for device in both for value in values(device)) >= 0


def values(device: object) -> Iterator[int]:
    for name in ("weights", "kv", "state", "compute", "overhead"):
        yield getattr(device, name)


@given(loads(), st.integers(1, 1 << 19))
def test_more_context_never_takes_less(load: Load, more: int) -> None:
    model = replace(plain(layers=0, window=1024), layers=MIXED)
    small, large = memory.need(model, load), memory.need(model, replace(load, context=load.context + more))
    assert large.gpu.total + large.host.total >= small.gpu.total + small.host.total


def test_a_token_of_the_cache_takes_two_bytes_a_number_and_half_of_it_in_eight_bits() -> None:
    load = Load(context=32 * K)
    assert memory.kv_bytes(plain(), load) == 4 * 32 * K * 8 * (128 + 128) * 2
    quantized = replace(load, k_type=KvType.Q8_0, v_type=KvType.Q8_0)
    assert memory.kv_bytes(plain(), quantized) * 64 == memory.kv_bytes(plain(), load) * 34


def test_users_with_a_cache_of_their_own_share_the_context_and_it_is_rounded_up_for_each() -> None:
    load = Load(context=10_000, parallel=3)
    assert memory.user_context(load) == 3584  # a third of 10,240, in whole blocks of 256
    assert memory.kv_bytes(plain(), load) == 4 * 3 * 3584 * 8 * 256 * 2
    assert memory.user_context(replace(load, unified=True)) == 10_240


def test_what_lies_where_follows_the_placement() -> None:
    load = Load(context=32 * K)
    model = replace(plain(), layers=MIXED, window=1024)

    def placed(**changed: object) -> MemoryNeed:
        return memory.need(model, replace(load, **changed))  # type: ignore[arg-type]

    everything = placed()
    assert everything.host.weights == model.embedding_bytes
    assert everything.host.kv == 0
    in_ram = placed(placement=Placement.KV_IN_RAM)
    assert (in_ram.gpu.kv, in_ram.gpu.state) == (0, 0)
    assert in_ram.gpu.compute > everything.gpu.compute  # copies of some layers' keys and values
    experts = placed(placement=Placement.EXPERTS_IN_RAM, ram_experts=1)
    assert everything.gpu.weights - experts.gpu.weights == MIXED[0].expert_bytes
    assert experts.gpu.kv == everything.gpu.kv
    split = placed(placement=Placement.LAYERS_ON_CPU, gpu_layers=3)  # the output and the last two layers
    assert split.gpu.weights == model.output_bytes + MIXED[2].dense_bytes + MIXED[3].dense_bytes
    assert split.host.kv > 0
    assert split.gpu.state == model.layers[2].state_bytes
    alone = placed(placement=Placement.CPU)
    assert alone.gpu.total == 0
    shared = placed(placement=Placement.UNIFIED)
    assert shared.host.total == 0
    assert shared.gpu.weights == model.weight_bytes


# SmolLM2-135M on an emulated card (Mesa's lavapipe, llama.cpp's Vulkan backend): MiB of "Vulkan0 model buffer", of
# "Vulkan0 KV buffer" and of "CPU KV buffer", as llama.cpp printed them.
CARD = (
    (Load(32 * K), 92.10, 720.0, 0.0),
    (Load(8 * K, placement=Placement.KV_IN_RAM), 92.10, 0.0, 180.0),
    (Load(8 * K, placement=Placement.LAYERS_ON_CPU, gpu_layers=31), 92.10, 180.0, 0.0),
    (Load(8 * K, placement=Placement.LAYERS_ON_CPU, gpu_layers=11), 49.83, 60.0, 120.0),
    (Load(8 * K, placement=Placement.LAYERS_ON_CPU, gpu_layers=1), 28.69, 0.0, 180.0),
    (Load(8 * K, placement=Placement.LAYERS_ON_CPU, gpu_layers=0), 0.0, 0.0, 180.0),
)


@pytest.mark.parametrize(("load", "weights", "kv", "ram_kv"), CARD)
def test_a_card_holds_what_llama_cpp_put_on_one(load: Load, weights: float, kv: float, ram_kv: float) -> None:
    header = read_header(embedded._packaged_model())
    needed = memory.need(shape_of(header.metadata, header.tensors, name="SmolLM2", source="gguf"), load)
    assert round(needed.gpu.weights / MIB, 2) == weights
    assert (needed.gpu.kv / MIB, needed.host.kv / MIB) == (kv, ram_kv)


def test_what_was_measured_replaces_the_assumed_overhead() -> None:
    load = Load(context=8 * K)
    assert memory.need(plain(), load).gpu.overhead == memory.OVERHEAD
    assert memory.need(plain(), load, Calibration(overhead=123)).gpu.overhead == 123
    assert memory.need(plain(), load, Calibration(overhead=0)).gpu.overhead == 0


def test_without_flash_attention_a_long_context_takes_more_than_the_weights() -> None:
    load = Load(context=256 * K, flash_attention=False)
    products = 512 * 256 * K * 32 * 4
    taken = memory.compute_bytes(plain(), load)
    assert products < taken < 1.1 * products
    assert math.isclose(products / GIB, 16.0)
    assert memory.compute_bytes(plain(), replace(load, flash_attention=True)) < GIB
