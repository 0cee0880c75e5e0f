"""How long a prompt takes to be read, and a token to be written: what has to be moved and computed.

Writing a token is bound by moving bytes: every weight that takes part, and the whole KV cache, once. Reading a prompt
is bound by computing: its tokens go through in batches, so that weights are moved once a batch. Each figure is a sum of
named terms, so that a reader sees which one decides and what a faster card, link or memory would change. Knows no
engine that is running; what measuring on this machine has shown comes in as a ``Calibration``. Speculative decoding is
not modelled: what it gains depends on the text, from nothing to about twice.
"""

from dataclasses import dataclass

from hub.capacity.model import Calibration, Gpu, KvType, Layer, LayerKind, Load, Machine, ModelShape, Placement

# Shares of what data sheets say (bandwidth; dense half precision with the matrix units), as llama.cpp reaches them.
# From published runs of llama-bench and llama-server: docs/planning.md names each, with what is computed for it here.
#
# Bandwidth of a card's memory while tokens are written. Range 0.60 (older cards, ROCm) to 0.92.
CARD_BANDWIDTH_SHARE = 0.85
# Likewise where processor and graphics share one memory and there are no matrix units (Apple before M5).
# Range 0.44 (M2 Ultra) to 0.78 (M1).
UNIFIED_BANDWIDTH_SHARE = 0.65
# Bandwidth of main memory while the processor computes dense layers. Range 0.40 to 0.80.
RAM_BANDWIDTH_SHARE = 0.60
# Likewise for a few experts of many, scattered, with a hand-over between card and processor in each layer.
# Range 0.33 to 0.65.
EXPERT_BANDWIDTH_SHARE = 0.50
# Link to the card for a KV cache in pinned memory. Range 0.6 to 0.9.
LINK_SHARE = 0.80
# Link to the card for weights, which lie in the page cache. Range 0.25 to 0.80.
WEIGHT_LINK_SHARE = 0.50
# Matrix units while a prompt is read: dense weights, range 0.17 (H100) to 0.45 (RTX 4090); experts, where a batch is
# spread thinly over many small matrices, range 0.10 to 0.30; attention, range 0.20 to 0.45, and that without flash
# attention (a judgement).
DENSE_COMPUTE_SHARE = 0.35
EXPERT_COMPUTE_SHARE = 0.20
ATTENTION_COMPUTE_SHARE = 0.30
UNFUSED_ATTENTION_SHARE = 0.15
# A card without matrix units comes nearer to its data sheet, in all of these by this much. Range 1.3 to 2.5.
PLAIN_CARD_FACTOR = 1.7
# It is known by its operations for each byte of bandwidth: 25 to 45 without matrix units, 100 to 460 with them.
PLAIN_CARD_OPERATIONS = 60
# The processor's arithmetic, in either. Range 0.2 to 0.7.
CPU_COMPUTE_SHARE = 0.50
# Seconds that a layer costs a token whatever its size: starting kernels, small operations, choosing experts.
# Range 5 to 30 and 30 to 70 millionths.
LAYER_S = 15e-6
EXPERT_LAYER_S = 50e-6


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the time: ``amount`` bytes moved or operations done (0 for what has no amount), in ``seconds``."""

    name: str
    amount: float
    unit: str  # "bytes", "operations" or ""
    seconds: float


@dataclass(frozen=True, slots=True)
class Decoding:
    """One step of writing, in which each of ``users`` gets a token, with the cache as full as was asked."""

    users: int
    terms: tuple[Term, ...]  # largest first
    seconds: float  # of the step, corrected by measuring

    @property
    def tokens_s(self) -> float:
        """Of each user."""
        return 1 / self.seconds

    @property
    def limit(self) -> str:
        return self.terms[0].name


@dataclass(frozen=True, slots=True)
class Prefilling:
    """Reading ``tokens`` tokens behind ``cached`` ones that are in the cache already."""

    tokens: int
    cached: int
    terms: tuple[Term, ...]  # largest first
    seconds: float  # corrected by measuring

    @property
    def tokens_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def limit(self) -> str:
        return self.terms[0].name


@dataclass(frozen=True, slots=True)
class _Rates:
    """Bytes and operations a second that are really to be had."""

    card: float
    ram: float
    experts: float
    link: float
    weight_link: float
    dense_flops: float
    expert_flops: float
    attention_flops: float
    cpu_flops: float


def decode(
    shape: ModelShape,
    load: Load,
    machine: Machine,
    calibration: Calibration | None = None,
    *,
    used: int | None = None,
) -> Decoding:
    """One step of writing when ``used`` tokens of all users together lie in the cache (default: the whole context)."""
    rates = _rates(load, machine)
    users = max(1, load.parallel)
    filled = min(load.context, load.context if used is None else max(0, used)) // users  # tokens of one user
    busy = _experts_busy(shape, users)
    card_weights = ram_weights = ram_experts = 0.0
    card_cache = ram_cache = 0.0
    cpu_operations = expert_work = 0.0
    for layer, where, keeper in _placed(shape, load):
        experts = layer.expert_bytes * busy
        if where is _CARD:
            card_weights += layer.dense_bytes + experts
        else:
            if where is _SPLIT:
                card_weights += layer.dense_bytes
            else:
                ram_weights += layer.dense_bytes
            ram_experts += experts
            expert_work += layer.expert_bytes * _experts_busy(shape, 1)
        cells = min(filled, shape.window) if layer.kind is LayerKind.SLIDING and shape.window else filled
        # A recurrent state is read and written anew.
        moved = users * (cells * _cell_bytes(keeper, load) + 2 * layer.state_bytes)
        if where is _RAM or _cache_in_ram(load):
            ram_cache += moved
            cpu_operations += 2 * users * cells * _attention_numbers(shape, layer)
        else:
            card_cache += moved
    output = shape.output_bytes + (shape.embedding_bytes - shape.looked_up_bytes if shape.tied else 0)
    if load.placement is Placement.CPU:
        ram_weights += output
    else:
        card_weights += output  # the first to go there
    over_link = _cache_in_ram(load) and load.flash_attention
    # Few cores multiply slower than their memory delivers.
    work = users * 2 * _numbers_per_byte(shape) / rates.cpu_flops
    terms = [
        Term("weights read on the card", card_weights, "bytes", card_weights / rates.card),
        Term("KV cache read on the card", card_cache, "bytes", card_cache / rates.card),
        Term("weights read in RAM", ram_weights, "bytes", max(ram_weights / rates.ram, ram_weights * work)),
        Term("experts read in RAM", ram_experts, "bytes", max(ram_experts / rates.experts, expert_work * work)),
        Term("KV cache over the link", ram_cache, "bytes", ram_cache / rates.link)
        if over_link
        else Term(
            "attention on the CPU",
            ram_cache,
            "bytes",
            max(ram_cache / rates.ram, cpu_operations / rates.cpu_flops) if ram_cache else 0.0,
        ),
        Term("starting each layer", 0, "", _layers_s(shape)),
    ]
    ordered, seconds = _summed(terms)
    return Decoding(users, ordered, seconds / _positive(calibration.decode if calibration else 1.0))


def decode_tokens_s(
    shape: ModelShape,
    load: Load,
    machine: Machine,
    calibration: Calibration | None = None,
    *,
    used: int | None = None,
) -> float:
    """Tokens a second that each user sees."""
    return decode(shape, load, machine, calibration, used=used).tokens_s


def prefill(
    shape: ModelShape,
    load: Load,
    machine: Machine,
    tokens: int,
    calibration: Calibration | None = None,
    *,
    cached: int = 0,
) -> Prefilling:
    """Reading ``tokens`` tokens (at least 1) of one prompt behind ``cached`` ones."""
    rates = _rates(load, machine)
    tokens = max(1, tokens)
    end = cached + tokens
    batch = min(max(1, load.batch), tokens)
    whole, rest = divmod(tokens, batch)
    batches = whole + bool(rest)
    # How often all experts are moved: a batch needs most of them, what is left over fewer.
    expert_moves = whole * _experts_busy(shape, batch) + (_experts_busy(shape, rest) if rest else 0.0)
    # What lies in RAM is computed on the card all the same where there is one: copied there for each batch.
    streams = load.placement in {Placement.LAYERS_ON_CPU, Placement.EXPERTS_IN_RAM}
    dense = experts = touched = streamed = cache = attention = cpu_attention = 0.0
    share = shape.experts_used / shape.experts if shape.experts else 1.0
    for layer, where, keeper in _placed(shape, load):
        dense += layer.dense_bytes
        experts += layer.expert_bytes * share
        touched += layer.dense_bytes * batches + layer.expert_bytes * expert_moves
        if streams and where is not _CARD:
            streamed += layer.expert_bytes * expert_moves + (layer.dense_bytes * batches if where is _RAM else 0)
        window = shape.window if layer.kind is LayerKind.SLIDING else 0
        seen = _seen(end, window) - _seen(cached, window)
        operations = 2 * seen * _attention_numbers(shape, layer)
        spilled = where is _RAM and load.placement is Placement.LAYERS_ON_CPU
        if spilled or (_cache_in_ram(load) and not load.flash_attention):
            cpu_attention += operations
        else:
            attention += operations
        if _cache_in_ram(load) and load.flash_attention:
            # Each batch needs what stands before it and itself: half a batch more than its tokens see on average.
            cells = seen / batch + min(tokens, window or tokens) / 2
            cache += cells * _cell_bytes(keeper, load)
    operations_per_byte = 2 * tokens * _numbers_per_byte(shape)
    dense_s = dense * operations_per_byte / rates.dense_flops
    experts_s = experts * operations_per_byte / rates.expert_flops
    reading_s = touched / (rates.ram if load.placement is Placement.CPU else rates.card)
    terms = [
        Term("dense weights computed", dense * operations_per_byte, "operations", dense_s),
        Term("experts computed", experts * operations_per_byte, "operations", experts_s),
        # Weights are read while others are computed: only what takes longer than that adds to the time.
        Term("waiting for weights", touched, "bytes", max(0.0, reading_s - dense_s - experts_s)),
        Term("attention", attention, "operations", attention / rates.attention_flops),
        Term("attention on the CPU", cpu_attention, "operations", cpu_attention / rates.cpu_flops),
        Term("weights over the link", streamed, "bytes", streamed / rates.weight_link),
        Term("KV cache over the link", cache, "bytes", cache / rates.link),
        Term("starting each layer", 0, "", batches * _layers_s(shape)),
    ]
    ordered, seconds = _summed(terms)
    return Prefilling(tokens, cached, ordered, seconds / _positive(calibration.prefill if calibration else 1.0))


def prefill_s(
    shape: ModelShape,
    load: Load,
    machine: Machine,
    tokens: int,
    calibration: Calibration | None = None,
    *,
    cached: int = 0,
) -> float:
    """Seconds until the first token can be written."""
    return prefill(shape, load, machine, tokens, calibration, cached=cached).seconds


# Q4_K_M: 4.85 bits a weight.
_USUAL_NUMBERS_PER_BYTE = 8 / 4.85
# Blocks of 32 numbers with their scale, as ggml stores them.
_NUMBER_BYTES = {
    KvType.F32: 4.0,
    KvType.F16: 2.0,
    KvType.BF16: 2.0,
    KvType.Q8_0: 34 / 32,
    KvType.Q5_1: 24 / 32,
    KvType.Q5_0: 22 / 32,
    KvType.Q4_1: 20 / 32,
    KvType.Q4_0: 18 / 32,
    KvType.IQ4_NL: 18 / 32,
}
_CARD, _SPLIT, _RAM = "card", "split", "ram"


def _placed(shape: ModelShape, load: Load) -> list[tuple[Layer, str, Layer]]:
    """Each layer, where it lies, and the layer whose keys and values it reads: its own, or the last one of its kind."""
    keepers: dict[LayerKind, Layer] = {}
    placed = []
    first_on_card = first_layer_on_card(shape, load)
    for number, layer in enumerate(shape.layers):
        if layer.kv_heads or layer.kind is LayerKind.RECURRENT:
            keepers[layer.kind] = layer
        if number < first_on_card:
            where = _RAM
        elif load.placement is Placement.EXPERTS_IN_RAM and number < load.ram_experts:
            where = _SPLIT
        else:
            where = _CARD
        placed.append((layer, where, keepers.get(layer.kind, layer)))
    return placed


def first_layer_on_card(shape: ModelShape, load: Load) -> int:
    """llama.cpp fills the card from the last layer on, and counts the output as one of ``gpu_layers``."""
    if load.placement is Placement.CPU:
        return len(shape.layers)
    if load.placement is not Placement.LAYERS_ON_CPU or load.gpu_layers is None:
        return 0
    return min(len(shape.layers), max(0, len(shape.layers) + 1 - load.gpu_layers))


def _cache_in_ram(load: Load) -> bool:
    return load.placement is Placement.KV_IN_RAM


def _attention_numbers(shape: ModelShape, layer: Layer) -> int:
    """Numbers of keys and values that the queries of one token are multiplied with, for each token that it sees."""
    if layer.kind is LayerKind.RECURRENT:
        return 0
    # Where keys and values are one, the value is nearly all of the key.
    return shape.heads * (layer.key_length + (layer.value_length or layer.key_length))


def _cell_bytes(layer: Layer, load: Load) -> float:
    """Keys and values of one token in one layer."""
    numbers = layer.key_length * _NUMBER_BYTES[load.k_type] + layer.value_length * _NUMBER_BYTES[load.v_type]
    return layer.kv_heads * numbers


def _seen(tokens: int, window: int) -> float:
    """Pairs of tokens that see each other among the first ``tokens``, within ``window`` (0: all)."""
    if window and tokens > window:
        return window * window / 2 + (tokens - window) * window
    return tokens * tokens / 2


def _experts_busy(shape: ModelShape, tokens: int) -> float:
    """Share of the experts that at least one of ``tokens`` tokens needs, if they choose evenly."""
    if not shape.experts:
        return 1.0
    return float(1 - (1 - shape.experts_used / shape.experts) ** max(1, tokens))


def _numbers_per_byte(shape: ModelShape) -> float:
    known = shape.parameters > 0 and shape.weight_bytes > 0
    return shape.parameters / shape.weight_bytes if known else _USUAL_NUMBERS_PER_BYTE


def _layers_s(shape: ModelShape) -> float:
    return sum(EXPERT_LAYER_S if layer.expert_bytes else LAYER_S for layer in shape.layers)


def _rates(load: Load, machine: Machine) -> _Rates:
    gpu = machine.gpu or Gpu("", 0, 0, machine.ram_bandwidth, machine.cpu_flops, machine.ram_bandwidth)
    plain = gpu.flops < PLAIN_CARD_OPERATIONS * gpu.bandwidth
    flops = _positive(gpu.flops) * (PLAIN_CARD_FACTOR if plain else 1.0)
    cpu_flops = _positive(machine.cpu_flops) * CPU_COMPUTE_SHARE
    on_cpu = load.placement is Placement.CPU
    attention = ATTENTION_COMPUTE_SHARE if load.flash_attention else UNFUSED_ATTENTION_SHARE
    return _Rates(
        card=_positive(gpu.bandwidth)
        * (UNIFIED_BANDWIDTH_SHARE if machine.unified and plain else CARD_BANDWIDTH_SHARE),
        ram=_positive(machine.ram_bandwidth) * RAM_BANDWIDTH_SHARE,
        experts=_positive(machine.ram_bandwidth) * EXPERT_BANDWIDTH_SHARE,
        link=_positive(gpu.link) * LINK_SHARE,
        weight_link=_positive(gpu.link) * WEIGHT_LINK_SHARE,
        dense_flops=cpu_flops if on_cpu else flops * DENSE_COMPUTE_SHARE,
        expert_flops=cpu_flops if on_cpu else flops * EXPERT_COMPUTE_SHARE,
        attention_flops=cpu_flops if on_cpu else flops * attention,
        cpu_flops=cpu_flops,
    )


def _positive(rate: float) -> float:
    """An unknown rate of 0 makes a time endless for all that matters, not a division fail."""
    return rate if rate > 0 else 1e-9


def _summed(terms: list[Term]) -> tuple[tuple[Term, ...], float]:
    taken = sorted((term for term in terms if term.seconds > 0), key=lambda term: (-term.seconds, term.name))
    return tuple(taken), sum(term.seconds for term in taken)
