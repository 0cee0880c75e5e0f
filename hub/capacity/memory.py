"""How many bytes a model takes where: weights, KV cache, recurrent state, compute buffers, and the driver's own.

KV cache and state are what llama.cpp allocates, to the byte. Compute buffers are fitted to its own reservations, whose
largest terms are named below. Pure arithmetic over ``hub.capacity.model``; knows no engine and no file.

Source: llama.cpp b11434, llama-context.cpp (contexts and their padding), llama-kv-cache.cpp and llama-kv-cache-iswa.cpp
(cells), llama-memory-recurrent.cpp (states), llama-model.cpp (which layers lie on the card). Held against the engine's
own breakdown by tests/test_memory.py; benchmarks/memory_oracle.py prints the table.
"""

from hub.capacity.model import (
    Calibration,
    DeviceMemory,
    KvType,
    Layer,
    LayerKind,
    Load,
    MemoryNeed,
    ModelShape,
    Placement,
)

# Numbers in a block, and bytes of it: ggml.c, type_traits.
_KV_BLOCKS = {
    KvType.F32: (1, 4),
    KvType.F16: (1, 2),
    KvType.BF16: (1, 2),
    KvType.Q8_0: (32, 34),
    KvType.Q5_1: (32, 24),
    KvType.Q5_0: (32, 22),
    KvType.Q4_1: (32, 20),
    KvType.Q4_0: (32, 18),
    KvType.IQ4_NL: (32, 18),
}
_CELLS = 256  # contexts and windows are rounded up to whole ones of these
# Bytes of a card that CUDA and cuBLAS take for themselves: 0.3 to 0.6 GiB by driver and card; measuring replaces it.
OVERHEAD = 450 << 20
# Layers whose keys and values the card has a copy of where the cache lies in main memory: one at a time, as seen on an
# emulated card (8K, 32K and 64K tokens).
_STAGED_LAYERS = 1
# Likewise part of a layer's weights in main memory, while a prompt is read: one matrix at a time. Of a layer's experts
# that is one of three, the better quantised one; of a dense layer it is one of the feed-forward network.
_STAGED_EXPERTS = 0.4
_STAGED_DENSE = 0.3
# Copies of a token's numbers that attention needs at once: of its width, of its queries, of its keys and values. Found
# by what llama.cpp reserves without flash attention for llama, qwen2, starcoder2 and qwen3moe.
_ATTENTION_WIDTHS = 3
_ATTENTION_QUERIES = 3
# Likewise in all, where the width of the feed-forward layers is unknown. Range 9 (no gate) to 22 (many experts).
_ACTIVATION_WIDTHS = 15.5
_FLOAT, _HALF = 4, 2  # bytes of what is computed, and of the mask under flash attention


def kv_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the KV cache of all layers and users, wherever they lie."""
    return sum(_kv_of_layers(shape, load))


def state_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of recurrent state of all layers and users."""
    return sum(layer.state_bytes for layer in shape.layers) * max(1, load.parallel)


def user_context(load: Load) -> int:
    """Tokens that one user can have: the padded context, or a part of it where each has a cache of their own."""
    context = _padded(load.context)
    return context if load.unified else _padded(context // max(1, load.parallel))


def compute_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the buffers that one step of ``load.batch`` tokens needs, on the device that computes.

    Masks over all cells, and what of the widest layer is alive at once. Without flash attention the products of all
    queries and keys come on top, which dwarfs the rest: batch x context x heads x 4. Older engines
    also reserve batch x vocabulary x 4 for the probabilities of every token, which is not counted.
    """
    length = max((layer.key_length for layer in shape.layers), default=0)
    keys = max((layer.kv_heads * (layer.key_length + layer.value_length) for layer in shape.layers), default=0)
    attention = _ATTENTION_WIDTHS * shape.embedding_length + _ATTENTION_QUERIES * shape.heads * length + keys
    feed_forward = shape.activation_length or int(_ACTIVATION_WIDTHS * shape.embedding_length)
    if load.flash_attention:
        return _mask_bytes(shape, load) + _batch(load) * _FLOAT * max(attention, feed_forward)
    products = shape.heads * max((_cells(shape, load, layer.kind) for layer in _attentive(shape)), default=0)
    return _mask_bytes(shape, load) + _batch(load) * _FLOAT * max(attention + products, feed_forward)


def need(shape: ModelShape, load: Load, calibration: Calibration | None = None) -> MemoryNeed:
    """What a load takes of the card and of main memory.

    Not counted are what other programs take, pages of the file that the system keeps, and llama-server's cache of
    prompts in main memory (8 GiB unless it is told otherwise).
    """
    measured = calibration.overhead if calibration is not None else None
    overhead = OVERHEAD if measured is None else measured
    if load.placement is Placement.CPU:
        return MemoryNeed(DeviceMemory(), _whole(shape, load, 0))
    if load.placement is Placement.UNIFIED:
        return MemoryNeed(_whole(shape, load, overhead), DeviceMemory())
    return _divided(shape, load, overhead)


def _divided(shape: ModelShape, load: Load, overhead: int) -> MemoryNeed:
    first = _first_on_card(shape, load)
    in_ram, on_card = shape.layers[:first], shape.layers[first:]
    experts_in_ram = load.ram_experts if load.placement is Placement.EXPERTS_IN_RAM else 0
    experts = sum(layer.expert_bytes for layer in shape.layers[:experts_in_ram])
    card_weights = sum(layer.dense_bytes + layer.expert_bytes for layer in on_card) - experts
    ram_weights = shape.embedding_bytes + sum(layer.dense_bytes + layer.expert_bytes for layer in in_ram) + experts
    output = shape.output_bytes + (shape.embedding_bytes - shape.looked_up_bytes if shape.tied else 0)
    caches = _kv_of_layers(shape, load)
    staged = _staged(load, shape.layers, in_ram, caches)
    if load.placement is Placement.LAYERS_ON_CPU and load.gpu_layers == 0:
        ram_weights += shape.output_bytes
        staged = max(staged, output)
    else:
        card_weights += output
    kv, state = sum(caches), state_bytes(shape, load)
    ram_kv = sum(caches[:first])
    ram_state = sum(layer.state_bytes for layer in in_ram) * max(1, load.parallel)
    if load.placement is Placement.KV_IN_RAM:
        ram_kv, ram_state = kv, state
    compute = compute_bytes(shape, load)
    inputs = _mask_bytes(shape, load) + _batch(load) * _FLOAT * shape.embedding_length
    return MemoryNeed(
        DeviceMemory(card_weights, kv - ram_kv, state - ram_state, compute + staged, overhead),
        DeviceMemory(ram_weights, ram_kv, ram_state, compute if in_ram else inputs),
    )


def _whole(shape: ModelShape, load: Load, overhead: int) -> DeviceMemory:
    """All on one device, where the input embedding serves as the output too if they are one."""
    kv, state = kv_bytes(shape, load), state_bytes(shape, load)
    return DeviceMemory(shape.weight_bytes, kv, state, compute_bytes(shape, load), overhead)


def _first_on_card(shape: ModelShape, load: Load) -> int:
    """The last layers lie there. The output counts as one and goes first, as with llama.cpp's --n-gpu-layers."""
    if load.placement is not Placement.LAYERS_ON_CPU or load.gpu_layers is None:
        return 0
    return max(0, len(shape.layers) + 1 - max(1, load.gpu_layers))


def _staged(load: Load, layers: tuple[Layer, ...], in_ram: tuple[Layer, ...], caches: list[int]) -> int:
    """Bytes of the card for copies of what lies in main memory and is needed at the moment."""
    match load.placement:
        case Placement.KV_IN_RAM:
            return _STAGED_LAYERS * max(caches, default=0)
        case Placement.EXPERTS_IN_RAM if load.ram_experts:
            return int(_STAGED_EXPERTS * max(layer.expert_bytes for layer in layers))
        case Placement.LAYERS_ON_CPU if in_ram:
            return int(_STAGED_DENSE * max(layer.dense_bytes + layer.expert_bytes for layer in in_ram))
        case _:
            return 0


def _attentive(shape: ModelShape) -> list[Layer]:
    return [layer for layer in shape.layers if layer.kind is not LayerKind.RECURRENT]


def _mask_bytes(shape: ModelShape, load: Load) -> int:
    """Which token may look at which cell, once for each kind of cache."""
    kinds = {layer.kind for layer in _attentive(shape)}
    cells = sum(_cells(shape, load, kind) for kind in kinds)
    return _batch(load) * cells * (_HALF if load.flash_attention else _FLOAT)


def _padded(tokens: int) -> int:
    return -(-tokens // _CELLS) * _CELLS


def _cells(shape: ModelShape, load: Load, kind: LayerKind) -> int:
    """Cells of one stream, by the kind of layer."""
    context = user_context(load)
    if kind is LayerKind.FULL or load.swa_full:
        return context
    window = shape.window * (load.parallel if load.unified else 1)
    return _padded(min(context, window + _batch(load)))


def _batch(load: Load) -> int:
    return max(1, min(load.batch, load.context))


def _streams(load: Load) -> int:
    return 1 if load.unified else max(1, load.parallel)


def _row(length: int, kind: KvType) -> int:
    numbers, size = _KV_BLOCKS[kind]
    return -(-length // numbers) * size


def _kv_of_layers(shape: ModelShape, load: Load) -> list[int]:
    """Bytes of each layer's cache."""
    cells = {kind: _streams(load) * _cells(shape, load, kind) for kind in LayerKind}
    # Without flash attention values are kept transposed, in as many rows as the widest layer needs.
    widest = 0 if load.flash_attention else max((one.kv_heads * one.value_length for one in shape.layers), default=0)
    rows: dict[tuple[int, int, int], int] = {}
    found = []
    for layer in shape.layers:
        if not layer.kv_heads:
            found.append(0)
            continue
        sizes = (layer.kv_heads, layer.key_length, layer.value_length)
        if sizes not in rows:
            values = max(widest, layer.kv_heads * layer.value_length) if layer.value_length else 0
            rows[sizes] = _row(layer.kv_heads * layer.key_length, load.k_type) + _row(values, load.v_type)
        found.append(cells[layer.kind] * rows[sizes])
    return found
