"""Models, machines and loads of any size for the laws of planning."""

from hypothesis import strategies as st

from hub.capacity.model import Gpu, KvType, Layer, LayerKind, Load, Machine, ModelShape, Placement

GIB = 1 << 30


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    kind = draw(st.sampled_from(LayerKind))
    recurrent = kind is LayerKind.RECURRENT
    length = draw(st.sampled_from([64, 128, 256]))
    return Layer(
        kind,
        kv_heads=0 if recurrent else draw(st.sampled_from([1, 2, 8])),
        key_length=0 if recurrent else length,
        value_length=0 if recurrent else length,
        dense_bytes=draw(st.integers(1 << 20, 1 << 28)),
        expert_bytes=draw(st.sampled_from([0, 1 << 24, 1 << 29])),
        state_bytes=draw(st.integers(1 << 10, 1 << 22)) if recurrent else 0,
    )


@st.composite
def shapes(draw: st.DrawFn) -> ModelShape:
    blocks = tuple(draw(st.lists(layers(), min_size=1, max_size=6))) * draw(st.sampled_from([1, 4]))
    experts = draw(st.sampled_from([8, 32, 128]))
    trained = draw(st.sampled_from([8192, 32768, 262144]))
    embedding = draw(st.integers(1 << 20, 1 << 29))
    tied = draw(st.booleans())
    size = sum(block.dense_bytes + block.expert_bytes for block in blocks) + 2 * embedding
    return ModelShape(
        name="any",
        architecture="llama",
        parameters=size * 8 // 5,
        layers=blocks,
        heads=draw(st.sampled_from([8, 32, 64])),
        embedding_length=draw(st.sampled_from([512, 4096])),
        vocabulary=50_000,
        trained_context=trained,
        original_context=trained,
        window=draw(st.sampled_from([128, 1024, 4096])),
        experts=experts,
        experts_used=draw(st.integers(1, 8)),
        embedding_bytes=embedding,
        output_bytes=4096 if tied else embedding,
        tied=tied,
        quantization="Q4_K_M",
        source="catalogue",
    )


@st.composite
def gpus(draw: st.DrawFn) -> Gpu:
    memory = draw(st.integers(1, 64)) * GIB
    bandwidth = draw(st.floats(1e11, 4e12))
    return Gpu(
        "any card", memory, memory, bandwidth, bandwidth * draw(st.floats(20, 400)), draw(st.sampled_from([8e9, 32e9]))
    )


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    ram = draw(st.integers(2, 128)) * GIB
    gpu = draw(st.none() | gpus())
    unified = gpu is not None and draw(st.booleans())
    return Machine(gpu, ram, ram, draw(st.floats(2e10, 4e11)), 8, draw(st.floats(1e11, 4e12)), unified)


loads = st.builds(
    Load,
    context=st.integers(256, 1 << 20),
    k_type=st.sampled_from(KvType),
    v_type=st.sampled_from(KvType),
    placement=st.sampled_from(Placement),
    gpu_layers=st.none() | st.integers(0, 30),
    ram_experts=st.integers(0, 30),
    batch=st.sampled_from([64, 512, 2048]),
    parallel=st.integers(1, 8),
    unified=st.booleans(),
    flash_attention=st.booleans(),
)
