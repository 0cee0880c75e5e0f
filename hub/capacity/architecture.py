"""What the metadata and tensors of a model mean for memory: which layers keep all tokens, a window, or a state.

Takes values as a GGUF's header or Ollama's /api/show give them, and knows neither. An architecture that stands in no
table here is planned as the usual kind, full attention, where its metadata allow it, and that is said in its notes.

Source of every rule: llama.cpp b11434, src/models/*.cpp (load_arch_hparams), src/llama-hparams.cpp, and
llama_model::create_memory. The tables are named after what stands there.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hub.capacity.gguf import Skipped, Tensor, tensor_bytes
from hub.capacity.model import Layer, LayerKind, ModelShape
from hub.errors import ModelFileError


class _Sliding(NamedTuple):
    """One layer in ``period`` sees all tokens, the last of them or the first; the others see a window."""

    period: int
    first: bool = False
    window: int = 0  # where the metadata name none
    fixed: bool = False  # the engine takes its own window, whatever the metadata say


# set_swa_pattern and load_swa_pattern. A period of 0: the metadata list the layers one by one.
_SLIDING = {
    "afmoe": _Sliding(4),
    "cohere2": _Sliding(4),
    "cohere2moe": _Sliding(4, first=True),
    "exaone-moe": _Sliding(4, window=128),
    "exaone4": _Sliding(4, window=4096),
    "gemma2": _Sliding(2, window=4096),
    "gemma3": _Sliding(6),
    "gemma3n": _Sliding(5),
    "gemma4": _Sliding(0),
    "gpt-oss": _Sliding(2),
    "granite_swa": _Sliding(0),
    "laguna": _Sliding(4, first=True),
    "llama4": _Sliding(4, window=8192, fixed=True),  # in chunks, which take as much memory as a window
    "maple": _Sliding(0),
    "mellum": _Sliding(4),
    "mimo2": _Sliding(0),
    "muse-glimmer": _Sliding(4),
    "olmo2": _Sliding(4),
    "plamo3": _Sliding(8),
    "smallthinker": _Sliding(4, first=True, window=4096, fixed=True),
    "spark2_5": _Sliding(0),
    "step35": _Sliding(0),
}
# is_recr_impl: layers with a state instead of keys and values are all but every nth, those without keys, or all.
_RECURRENT_BY_PERIOD = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "minimax-01": 8}
_RECURRENT_BY_HEADS = frozenset(
    {"jamba", "granitehybrid", "kimi-linear", "kimi-k3", "bailingmoe3", "lfm2", "lfm2moe", "plamo2"}
)
_RECURRENT_BY_NEITHER = frozenset({"nemotron_h", "nemotron_h_moe"})  # no keys and no feed-forward network
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_BOTH = frozenset({"falcon-h1"})  # every layer has attention and a state
# Sparse attention with an index of its own: llama_kv_cache_dsa keeps one more key a token and layer.
_INDEXED = frozenset({"deepseek32", "glm-dsa"})
_FULL = frozenset(
    """
    apertus arcee arctic baichuan bailingmoe bailingmoe2 bitnet bloom chameleon chatglm codeshell cogvlm command-r
    dbrx deci deepseek deepseek2 dots1 ernie4_5 ernie4_5-moe exaone falcon gemma glm4 glm4moe gpt2 gptj gptneox granite
    granitemoe grok grovemoe hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 internlm2 jais jais2 llama maincoder minicpm
    minicpm3 minimax-m2 mistral3 mistral4 mpt nemotron olmo olmoe openelm orion paddleocr pangu-embedded phi2 phi3
    phimoe plamo plm qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe refact seed_oss smollm3 stablelm
    starcoder starcoder2 talkie xverse
    """.split()
)
# They embed, fill in masks, draw or speak; none continues a prompt from a cache.
_OTHERWISE = frozenset(
    """
    bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert gemma-embedding llama-embed
    clip clef t5 t5encoder dream llada llada-moe rnd1 wavtokenizer-dec eagle3 dflash gemma4-assistant pockettts qwen3tts
    """.split()
)
# Their caches are compressed or pooled by rules that are not modelled here.
_COMPRESSED = frozenset({"deepseek4", "dots3note", "glm5-next", "hy_v4", "minimax-m3", "qwen4exp"})

# Copies of a token beside its feed-forward layer: 5 but where attention runs beside it, or is done in place.
_TOKEN_COPIES = {"cohere2": 6, "command-r": 6, "gemma3n": 17, "gpt-oss": 1}
# Names that Ollama's own converter gave to architectures.
_ALIASES = {"gptoss": "gpt-oss", "qwen25vl": "qwen2vl"}
_MOST_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS
_SHARED_FROM = {"gemma3n": 20}  # n_layer_kv_from_start: layers from here on use the cache of earlier ones
_BLOCK = re.compile(r"blk\.(\d{1,4})\.")
# These are looked up by token or position, which stays in main memory: LLM_TENSOR_LAYER_INPUT.
_LOOKED_UP = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")
# llama_ftype in llama.h: the numbers of general.file_type, gaps included.
_FILE_TYPES = dict(
    enumerate(
        """
        F32 F16 Q4_0 Q4_1 - - - Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ2_XXS IQ2_XS
        Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M IQ4_XS IQ1_M BF16 - - - TQ1_0 TQ2_0 MXFP4
        """.split()
    )
)


def shape_of(metadata: Mapping[str, object], tensors: Iterable[Tensor], *, name: str, source: str) -> ModelShape:
    """The shape of a model from its metadata, with all arrays of the length of its layers, and its tensors.

    Raises ModelFileError where the architecture is not one that writes text, its memory cannot be told, or metadata and
    tensors contradict each other.
    """
    told = _Told(metadata, name)
    _refuse(told)
    blocks = told.whole("block_count")
    layers_used = blocks - told.whole("nextn_predict_layers", 0)
    if not 1 <= blocks <= _MOST_LAYERS or layers_used < 1:
        raise _lie(name, f"it claims {blocks:,} layers")
    weights = _Weights.of(tensors, name, blocks, layers_used)
    heads = told.each("attention.head_count", blocks, 0)
    memories = _memories(told, blocks, heads)
    window = _window(told, blocks)
    layers = tuple(
        Layer(
            kind=memory.kind,
            kv_heads=memory.kv_heads,
            key_length=memory.key_length,
            value_length=memory.value_length,
            dense_bytes=weights.dense[number],
            expert_bytes=weights.experts[number],
            state_bytes=memory.state_bytes,
        )
        for number, memory in enumerate(memories[:layers_used])
    )
    trained = told.whole("context_length")
    original = told.whole("rope.scaling.original_context_length", trained)
    experts = told.whole("expert_count", 0)
    return ModelShape(
        name=name,
        architecture=told.architecture,
        parameters=weights.parameters,
        layers=layers,
        heads=max(heads),
        embedding_length=told.whole("embedding_length"),
        vocabulary=weights.vocabulary,
        trained_context=trained,
        original_context=min(original, trained) or trained,
        window=window if any(layer.kind is LayerKind.SLIDING for layer in layers) else 0,
        experts=experts,
        experts_used=max(told.each("expert_used_count", blocks, 0)) if experts else 0,
        embedding_bytes=weights.embedding,
        output_bytes=weights.output,
        tied=weights.tied,
        quantization=_quantization(metadata, weights),
        source=source,
        activation_length=_activation_length(told, blocks, weights.gated),
        notes=tuple(_notes(told)),
        looked_up_bytes=weights.looked_up,
    )


def listed_tensors(listed: Iterable[object]) -> tuple[Tensor, ...]:
    """Tensors as Ollama lists them: ``name``, ``type`` as a word and ``shape`` as a list. Raises ModelFileError."""
    tensors = []
    for one in listed:
        told = one if isinstance(one, Mapping) else {}
        name, kind, shape = told.get("name"), told.get("type"), told.get("shape")
        if not isinstance(name, str) or not isinstance(kind, str) or not isinstance(shape, Sequence):
            raise ModelFileError("A tensor is listed without its name, type or shape.", "Update Ollama.")
        sides = tuple(side for side in shape if isinstance(side, int) and not isinstance(side, bool))
        if len(sides) != len(shape):
            raise ModelFileError(f"The shape of the tensor {name[:80]!r} is not made of numbers.", "Update Ollama.")
        tensors.append(Tensor(name, sides, kind, tensor_bytes(sides, kind)))
    return tuple(tensors)


def _lie(name: str, what: str) -> ModelFileError:
    return ModelFileError(f"The metadata of {name} cannot be true: {what}.", "Download or convert the model again.")


class _Told:
    """Metadata, asked by the names that follow the architecture's."""

    def __init__(self, metadata: Mapping[str, object], name: str) -> None:
        self._metadata = metadata
        self._name = name
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise ModelFileError(f"{name} does not say its architecture.", "It is no language model in GGUF.")
        self._prefix = architecture
        self.architecture = _ALIASES.get(architecture, architecture)

    def get(self, key: str) -> object:
        return self._metadata.get(f"{self._prefix}.{key}")

    def whole(self, key: str, default: int | None = None) -> int:
        """A number that is 0 or more; of an array, the largest. Without a default it has to be there and above 0."""
        value = self.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = max((one for one in value if isinstance(one, int)), default=None)
        if value is None:
            if default is not None:
                return default
            raise ModelFileError(
                f"{self._name} does not say its {key.replace('_', ' ')}.",
                f"Planning does not know enough of the architecture {self.architecture[:40]!r}.",
            )
        if not isinstance(value, int) or not 0 <= value < 1 << 40 or (default is None and value == 0):
            raise _lie(self._name, f"{key} is {str(value)[:40]}")
        return int(value)

    def each(self, key: str, layers: int, default: int) -> tuple[int, ...]:
        """One number for each layer; a single one holds for all of them."""
        value = self.get(key)
        if value is None and f"{self._prefix}.{key}" in self._metadata:
            raise ModelFileError(
                f"The lists in the metadata of {self._name} are missing.", "Ask Ollama's /api/show with verbose: true."
            )
        if not isinstance(value, Sequence) or isinstance(value, (str, Skipped)):
            return (self.whole(key, default),) * layers
        if len(value) < layers or not all(isinstance(one, int) and 0 <= one < 1 << 31 for one in value):
            raise _lie(self._name, f"{key} does not give a number for each of {layers} layers")
        return tuple(int(one) for one in value[:layers])


def _refuse(told: _Told) -> None:
    if told.architecture in _OTHERWISE:
        raise ModelFileError(
            f"Models of the architecture {told.architecture} do not write text from a prompt.",
            "Choose a language model.",
        )
    if told.architecture in _COMPRESSED:
        raise ModelFileError(
            f"Models of the architecture {told.architecture} compress what they remember in ways not known here.",
            "Load it and measure: codehub measure-context.",
        )


@dataclass(frozen=True, slots=True)
class _Weights:
    """Bytes of the tensors by where they belong."""

    dense: tuple[int, ...]
    experts: tuple[int, ...]
    embedding: int
    output: int
    tied: bool
    gated: bool  # the feed-forward layers have a gate, on its own or together with up
    vocabulary: int
    parameters: int
    main_type: str
    looked_up: int  # of the embedding, what is not that of words

    @classmethod
    def of(cls, tensors: Iterable[Tensor], name: str, blocks: int, used: int) -> "_Weights":
        dense, experts = [0] * blocks, [0] * blocks
        parameters = embedding = output = 0
        outside: dict[str, Tensor] = {}
        inside: dict[str, Tensor] = {}  # one of each kind
        types: Counter[str] = Counter()
        for tensor in tensors:
            parameters += math.prod(tensor.shape)
            types[tensor.type] += tensor.bytes
            block = _BLOCK.match(tensor.name)
            if block is None:
                outside[tensor.name] = tensor
                looked_up = tensor.name.startswith(_LOOKED_UP)
                embedding += tensor.bytes if looked_up else 0
                output += 0 if looked_up else tensor.bytes
                continue
            number = int(block[1])
            if number >= blocks:
                raise _lie(name, f"it claims {blocks} layers and has the tensor {tensor.name[:80]!r}")
            (experts if "exps." in tensor.name else dense)[number] += tensor.bytes
            inside[tensor.name[block.end() :]] = tensor
        words = outside.get("token_embd.weight")
        if words is None or len(words.shape) != 2:
            raise ModelFileError(f"{name} has no weights of a language model.", "Give the model, not a projector.")
        # Those that only draft may be left out.
        missing = next((number for number in range(used) if not dense[number]), None)
        if missing is not None:
            raise _lie(name, f"it claims {blocks} layers and has no weights for layer {missing}")
        main = max(types, key=lambda kind: (types[kind], kind))
        tied = "output.weight" not in outside
        return cls(
            tuple(dense),
            tuple(experts),
            embedding,
            output,
            tied,
            _gated(inside),
            words.shape[1],
            parameters,
            main,
            embedding - words.bytes,
        )


def _gated(inside: Mapping[str, Tensor]) -> bool:
    """Whether there are gates, on their own or in one matrix with up."""
    up, down = inside.get("ffn_up.weight"), inside.get("ffn_down.weight")
    together = up is not None and down is not None and up.shape[-1] > down.shape[0]
    return together or any(name.startswith(("ffn_gate.", "ffn_gate_")) for name in inside)


class _Memory(NamedTuple):
    kind: LayerKind
    kv_heads: int
    key_length: int
    value_length: int
    state_bytes: int


def _memories(told: _Told, blocks: int, heads: tuple[int, ...]) -> list[_Memory]:
    width = told.whole("embedding_length")
    kv_heads = told.each("attention.head_count_kv", blocks, 0)
    if told.get("attention.head_count_kv") is None:
        kv_heads = heads
    usual = width // heads[0] if heads[0] else 0
    key = told.whole("attention.key_length", usual)
    value = told.whole("attention.value_length", usual)
    key_short = told.whole("attention.key_length_swa", key)
    value_short = told.whole("attention.value_length_swa", value)
    latent = bool(told.whole("attention.key_length_mla", 0) and told.whole("attention.value_length_mla", 0))
    index = told.whole("attention.indexer.key_length", 0) if told.architecture in _INDEXED else 0
    indexed = told.each("attention.indexer.types", blocks, 1)
    sliding = _sliding_layers(told, blocks)
    recurrent = _recurrent_layers(told, blocks, kv_heads)
    state = _state_bytes(told, heads[0], width)
    shared_from = _shared_from(told, blocks)
    memories = []
    for number in range(blocks):
        if recurrent[number]:
            memories.append(_Memory(LayerKind.RECURRENT, 0, 0, 0, state))
            continue
        short = sliding[number]
        length = (key_short if short else key) + (index if indexed[number] else 0)
        memories.append(
            _Memory(
                LayerKind.SLIDING if short else LayerKind.FULL,
                kv_heads[number] if number < shared_from else 0,
                length,
                0 if latent else (value_short if short else value),
                state if told.architecture in _BOTH else 0,
            )
        )
    return memories


def _shared_from(told: _Told, blocks: int) -> int:
    if told.architecture in _SHARED_FROM:
        return _SHARED_FROM[told.architecture]
    return blocks - told.whole("attention.shared_kv_layers", 0) if told.architecture == "gemma4" else blocks


def _window(told: _Told, blocks: int) -> int:
    rule = _SLIDING.get(told.architecture)
    if rule is None or (told.architecture == "exaone4" and blocks != 64):
        return 0
    named = told.whole("attention.sliding_window", rule.window)
    return rule.window if rule.fixed and named else named


def _sliding_layers(told: _Told, blocks: int) -> tuple[bool, ...]:
    rule = _SLIDING.get(told.architecture)
    if rule is None or not _window(told, blocks):
        return (False,) * blocks
    used = blocks - told.whole("nextn_predict_layers", 0)
    pattern = told.get("attention.sliding_window_pattern")
    if isinstance(pattern, Sequence) and not isinstance(pattern, str):
        return tuple(bool(one) for one in told.each("attention.sliding_window_pattern", blocks, 0))
    if not rule.period:
        raise ModelFileError(
            f"The metadata do not say which layers of this model ({told.architecture}) see a window only.",
            "Ask Ollama's /api/show with verbose: true, or give the GGUF file.",
        )
    period = told.whole("attention.sliding_window_pattern", rule.period)
    sees_all = 0 if rule.first else period - 1
    return tuple(number < used and (not period or number % period != sees_all) for number in range(blocks))


def _recurrent_layers(told: _Told, blocks: int, kv_heads: tuple[int, ...]) -> tuple[bool, ...]:
    if told.architecture in _RECURRENT:
        return (True,) * blocks
    if told.architecture in _RECURRENT_BY_HEADS:
        return tuple(not heads for heads in kv_heads)
    if told.architecture in _RECURRENT_BY_NEITHER:
        widths = told.each("feed_forward_length", blocks, 0)
        return tuple(not heads and not width for heads, width in zip(kv_heads, widths, strict=True))
    if told.architecture not in _RECURRENT_BY_PERIOD:
        return (False,) * blocks
    if told.get("attention.recurrent_layers") is not None:
        return tuple(bool(one) for one in told.each("attention.recurrent_layers", blocks, 0))
    period = told.whole("full_attention_interval", _RECURRENT_BY_PERIOD[told.architecture]) or 1
    return tuple((number + 1) % period != 0 for number in range(blocks))


def _state_bytes(told: _Told, heads: int, width: int) -> int:
    """Of one layer and sequence, in float32: n_embd_r and n_embd_s in llama-hparams.cpp."""
    convolution = max(0, told.whole("ssm.conv_kernel", 0) - 1)
    inner, state = told.whole("ssm.inner_size", 0), told.whole("ssm.state_size", 0)
    groups = told.whole("ssm.group_count", 0)
    if told.whole("wkv.head_size", 0):
        numbers = width * (told.whole("token_shift_count", 2) + told.whole("wkv.head_size"))
    elif told.whole("shortconv.l_cache", 0):
        numbers = width * (told.whole("shortconv.l_cache") - 1) + state * inner
    elif told.whole("kda.head_dim", 0):
        side = told.whole("kda.head_dim")
        numbers = 3 * (convolution or 3) * heads * side + side * side * heads
    elif told.architecture == "minimax-01":
        side = told.whole("attention.key_length", width // max(1, heads))
        numbers = convolution * (inner + 2 * groups * state) + side * side * heads
    else:
        numbers = convolution * (inner + 2 * groups * state) + state * inner
    return 4 * numbers


def _activation_length(told: _Told, blocks: int, gated: bool) -> int:
    """What of the widest layer is alive at once, found by the sizes that llama.cpp reserves (tests/test_memory.py).

    Feed-forward: gate, up and their product, five copies of the token, and the output of each expert before they are
    summed; without a gate up, what becomes of it, and the token. States: what goes in, twice what is convolved, twice
    what comes out, three copies of the token.
    """
    width = told.whole("embedding_length")
    dense = max(told.each("feed_forward_length", blocks, 0))
    used = max(told.each("expert_used_count", blocks, 0))
    expert = max(told.each("expert_feed_forward_length", blocks, 0)) or dense
    if gated:
        network = max(
            0 if used and not told.get("leading_dense_block_count") else 3 * dense, used * (3 * expert + width)
        )
        network += _TOKEN_COPIES.get(told.architecture, 5) * width
    else:
        network = 2 * max(dense, used * expert) + used * width + width
    inner = 0 if told.architecture in _RECURRENT_BY_PERIOD else told.whole("ssm.inner_size", 0)
    if not inner:
        return network
    mixed = inner + 2 * told.whole("ssm.group_count", 0) * told.whole("ssm.state_size", 0)
    return max(network, inner + mixed + told.whole("ssm.time_step_rank", 0) + 2 * mixed + 2 * inner + 3 * width)


def _quantization(metadata: Mapping[str, object], weights: _Weights) -> str:
    number = metadata.get("general.file_type")
    named = _FILE_TYPES.get(number, "-") if isinstance(number, int) else "-"
    return weights.main_type if named == "-" else named


def _notes(told: _Told) -> list[str]:
    known = _FULL | _SLIDING.keys() | _RECURRENT_BY_PERIOD.keys() | _RECURRENT_BY_HEADS | _RECURRENT_BY_NEITHER
    if told.architecture in _INDEXED:
        return ["The compute buffers of sparse attention are larger than planned here."]
    if told.architecture not in known | _RECURRENT | _BOTH:
        return [
            f"The architecture {told.architecture[:40]!r} is not known here; full attention in all layers is assumed."
        ]
    return []
