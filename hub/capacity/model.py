"""The values that planning speaks. Sizes are bytes, times seconds, bandwidths bytes a second, contexts tokens."""

from dataclasses import dataclass
from enum import StrEnum


class KvType(StrEnum):
    """How numbers of the KV cache are stored, by llama.cpp's names."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q5_1 = "q5_1"
    Q5_0 = "q5_0"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"
    IQ4_NL = "iq4_nl"


class LayerKind(StrEnum):
    """What a layer remembers of what it read."""

    FULL = "full"  # keys and values of every token
    SLIDING = "sliding"  # those of the last tokens only
    RECURRENT = "recurrent"  # one state of fixed size a sequence


class Placement(StrEnum):
    """Where weights and KV cache lie."""

    GPU = "gpu"  # all on the card
    KV_IN_RAM = "kv-in-ram"  # the cache in main memory, copied to the card for each token
    LAYERS_ON_CPU = "layers-on-cpu"  # some layers, with their part of the cache, in main memory and computed there
    EXPERTS_IN_RAM = "experts-in-ram"  # the experts of some layers in main memory; the cache on the card
    CPU = "cpu"  # no card at all
    UNIFIED = "unified"  # one memory for both, as on Apple's machines


@dataclass(frozen=True, slots=True)
class Layer:
    """One block. ``kv_heads`` is 0 where it keeps none of its own: recurrent, or shared with another layer."""

    kind: LayerKind
    kv_heads: int
    key_length: int  # numbers in the key of one head
    value_length: int  # 0 where keys and values are one, as in DeepSeek's latent attention
    dense_bytes: int  # weights that every token needs
    expert_bytes: int = 0  # weights of all experts together
    state_bytes: int = 0  # recurrent state of one sequence


@dataclass(frozen=True, slots=True)
class ModelShape:
    """All of a model that decides how much memory and time it takes."""

    name: str
    architecture: str
    parameters: int
    layers: tuple[Layer, ...]
    heads: int  # of queries
    embedding_length: int
    vocabulary: int
    trained_context: int  # as the metadata says, RoPE scaling included
    original_context: int  # before RoPE scaling; equal to trained_context without it
    window: int  # of the sliding layers, 0 without any
    experts: int
    experts_used: int
    embedding_bytes: int  # the input embedding, which stays in main memory
    output_bytes: int  # what lies outside the layers and on the card: the output matrix and its norm
    tied: bool  # the output is the input embedding, of which the card then has a copy
    quantization: str  # such as "Q4_K_M", "" where unknown
    source: str  # "gguf", "ollama" or "catalogue"
    activation_length: int = 0  # numbers that one token needs at once in the widest feed-forward layer, 0 if unknown
    notes: tuple[str, ...] = ()  # what was assumed rather than told
    looked_up_bytes: int = 0  # of embedding_bytes, what is never the output: embeddings of layers and positions

    @property
    def weight_bytes(self) -> int:
        blocks = sum(layer.dense_bytes + layer.expert_bytes for layer in self.layers)
        return self.embedding_bytes + self.output_bytes + blocks


@dataclass(frozen=True, slots=True)
class Load:
    """How a model is loaded. ``gpu_layers`` and ``ram_experts`` count layers, the latter from the first one on."""

    context: int  # tokens of all users together
    k_type: KvType = KvType.F16
    v_type: KvType = KvType.F16
    placement: Placement = Placement.GPU
    gpu_layers: int | None = None  # None: all
    ram_experts: int = 0  # layers whose experts lie in main memory
    batch: int = 512  # tokens computed at once (llama.cpp's ubatch)
    parallel: int = 1  # users at once
    unified: bool = False  # one cache for all of them instead of a part each
    flash_attention: bool = True
    swa_full: bool = False  # sliding layers keep every token too


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What lies on one device."""

    weights: int = 0
    kv: int = 0
    state: int = 0  # recurrent
    compute: int = 0  # buffers of one step
    overhead: int = 0  # the driver's own, and what stays free for others

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.state + self.compute + self.overhead


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a load takes. Without a card all of it is the host's; with unified memory all of it is the card's."""

    gpu: DeviceMemory
    host: DeviceMemory


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card, or several that are used as one."""

    name: str
    memory: int
    free: int  # what others leave of it
    bandwidth: float  # of its memory, as its data sheet says
    flops: float  # dense half precision with the matrix units, as its data sheet says
    link: float  # to main memory, one way
    count: int = 1


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to run a model on."""

    gpu: Gpu | None
    ram: int
    ram_free: int
    ram_bandwidth: float
    cores: int
    cpu_flops: float
    unified: bool = False
    notes: tuple[str, ...] = ()  # what was assumed rather than found, and why


@dataclass(frozen=True, slots=True)
class Calibration:
    """What measuring on this machine has shown; multiplied into (or added to) what is computed."""

    overhead: int | None = None  # bytes of the card that a loaded model takes beyond what is computed
    decode: float = 1.0  # measured over computed tokens a second
    prefill: float = 1.0
    measured: str = ""  # the model and date, for the reader
