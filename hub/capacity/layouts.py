"""The tensors that a GGUF of a model has, from the numbers of its configuration, and the types llama.cpp gives them.

With both, a model's memory can be planned before it is downloaded. ``layout`` names tensors and shapes, ``types``
follows the recipes of llama.cpp's quantize. Knows no model by name: those stand in ``catalogue.toml``.

Sources: llama.cpp b11434, src/models/*.cpp (which tensors are created, with which shapes) and src/llama-quant.cpp
(which type each gets). Files made with an importance matrix or by other recipes ("UD", "i1") differ by some per cent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# What an architecture's blocks have beyond, or instead of, the usual: two norms, separate q, k and v, a gated network.
_STYLES = {
    "llama": "",
    "mistral3": "",
    "granite": "",
    "smollm3": "",
    "qwen2": "qkv-bias",
    "qwen3": "head-norms",
    "qwen3moe": "head-norms",
    "gemma2": "post-norms",
    "gemma3": "post-norms head-norms",
    "gemma4": "post-norms head-norms scale",
    "phi3": "fused-qkv fused-gate",
    "glm4": "post-norms fused-gate",
    "starcoder2": "qkv-bias output-bias norm-bias plain-network",
    "command-r": "one-norm",
    "cohere2": "one-norm",
    "seed_oss": "qkv-bias post-attention-norm one-norm",
    "gpt-oss": "qkv-bias output-bias post-attention-norm one-norm sinks expert-bias",
    "glm4moe": "qkv-bias post-attention-norm one-norm correction",
    "deepseek2": "latent",
    "qwen35": "head-norms post-attention-norm one-norm double-query",
    "qwen35moe": "head-norms post-attention-norm one-norm double-query shared-gate",
    "qwen3next": "head-norms post-attention-norm one-norm double-query shared-gate joined-beta",
    "granitehybrid": "",
    "minimax-m2": "wide-head-norms correction",
    "llama4": "",
}
# Types by what a recipe is called: the one for most tensors, and for attn_v and ffn_down where "more bits" is meant.
_RECIPES = {
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q5_0": "Q5_0",
    "Q5_1": "Q5_1",
    "Q4_K_L": "Q4_K",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "Q4_0": "Q4_0",
    "Q4_1": "Q4_1",
    "IQ4_XS": "IQ4_XS",
    "IQ4_NL": "IQ4_NL",
    "Q3_K_L": "Q3_K",
    "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K",
    "Q2_K": "Q2_K",
    "MXFP4": "MXFP4",
}
RECIPES = tuple(_RECIPES)
# Where rows are no multiple of 256 numbers: tensor_type_fallback.
_FALLBACK = {
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
_BLOCK = {"Q2_K": 256, "Q3_K": 256, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256, "IQ4_XS": 256, "F16": 1, "BF16": 1, "F32": 1}
# tensor_allows_quantization: these stay in single precision.
_KEPT = ("_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d", "per_layer_model_proj", "shortconv.conv")


class Unplaced(NamedTuple):
    """A tensor without its type."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a configuration: metadata without the architecture's name before them, and what they leave out."""

    architecture: str
    metadata: Mapping[str, object]
    vocabulary: int
    tied: bool  # the output is the input embedding
    keys_are_values: bool = False  # in layers that see all tokens

    def number(self, key: str, default: int = 0) -> int:
        value = self.metadata.get(key, default)
        if isinstance(value, Sequence):
            value = max(value)
        assert isinstance(value, int)
        return value

    def at(self, key: str, layer: int, default: int = 0) -> int:
        """The number of a layer, where they differ."""
        value = self.metadata.get(key, default)
        chosen = value[layer] if isinstance(value, Sequence) else value
        assert isinstance(chosen, int)
        return int(chosen)


def layout(plan: Plan) -> tuple[Unplaced, ...]:
    """All tensors, in the order in which llama.cpp counts them."""
    width = plan.number("embedding_length")
    tensors = [Unplaced("token_embd.weight", (width, plan.vocabulary)), Unplaced("output_norm.weight", (width,))]
    if not plan.tied:
        tensors.append(Unplaced("output.weight", (width, plan.vocabulary)))
    if each := plan.number("embedding_length_per_layer_input"):
        whole = each * plan.number("block_count")
        tensors.append(Unplaced("per_layer_token_embd.weight", (whole, plan.vocabulary)))
        tensors.append(Unplaced("per_layer_model_proj.weight", (width, whole)))
        tensors.append(Unplaced("per_layer_proj_norm.weight", (each,)))
    if plan.architecture == "gemma4":
        tensors.append(Unplaced("rope_freqs.weight", (plan.number("attention.key_length") // 2,)))
    if "norm-bias" in _STYLES[plan.architecture]:
        tensors.append(Unplaced("output_norm.bias", (width,)))
    for layer in range(plan.number("block_count")):
        tensors += (Unplaced(f"blk.{layer}.{name}", shape) for name, shape in _block(plan, layer))
    return tuple(tensors)


def types(plan: Plan, tensors: Sequence[Unplaced], recipe: str) -> Iterator[str]:
    """The type of each tensor, in their order; ``recipe`` is one of RECIPES."""
    count = Counting(plan, tensors, recipe)
    for tensor in tensors:
        yield count.type_of(tensor)


class Counting:
    """llama.cpp's quantize as far as it decides types: it counts tensors of a kind as it goes through them."""

    def __init__(self, plan: Plan, tensors: Sequence[Unplaced], recipe: str) -> None:
        self._recipe = recipe
        self._usual = _RECIPES[recipe]
        self._tied = plan.tied
        self._layers = plan.number("block_count")
        self._experts = plan.number("expert_count")
        heads, kv_heads = plan.number("attention.head_count"), plan.number("attention.head_count_kv")
        self._grouped = bool(kv_heads) and heads // kv_heads >= 4
        self._large = self._layers == 80 and plan.architecture in {"llama", "qwen2"}  # LLM_TYPE_70B
        self._values = sum(_is_value(tensor.name) for tensor in tensors)
        self._value = 0
        self._down = 0

    def type_of(self, tensor: Unplaced) -> str:
        name, shape = tensor
        if (
            self._usual == "F32"
            or len(shape) < 2
            or not name.endswith(".weight")
            or any(kept in name for kept in _KEPT)
        ):
            return "F32"
        if self._usual in {"F16", "BF16"}:
            return self._usual
        chosen = self._chosen(name, shape)
        if shape[0] % _BLOCK.get(chosen, 32):
            chosen = _FALLBACK.get(chosen, "F16")
            if shape[0] % 32:
                chosen = "F16"
        return chosen

    def _chosen(self, name: str, shape: tuple[int, ...]) -> str:
        if name == "output.weight" or (self._tied and name == "token_embd.weight"):
            chosen = self._output(shape)
        elif self._recipe == "MXFP4":
            chosen = "MXFP4" if len(shape) > 2 else "Q8_0"
        elif name == "token_embd.weight" and self._recipe == "Q4_K_L":
            chosen = "Q8_0"
        elif _is_value(name):
            chosen = self._value_type()
        elif ".ffn_down" in name:
            chosen = self._down_type(name)
        elif "attn_k.weight" in name and self._experts == 8:
            chosen = "Q8_0"
        elif "attn_output.weight" in name:
            chosen = self._attention_output()
        else:
            chosen = self._usual
        return chosen

    def _output(self, shape: tuple[int, ...]) -> str:
        if self._recipe in {"MXFP4", "Q4_K_L", "Q8_0"} or shape[0] % _BLOCK.get(self._usual, 32):
            return "Q8_0"
        return "Q6_K"

    def _more_bits(self, at: int, count: int) -> bool:
        return at < count // 8 or at >= 7 * count // 8 or (at - count // 8) % 3 == 2

    def _value_type(self) -> str:
        at, chosen = self._value, self._usual
        self._value += 1
        match self._recipe:
            case "Q4_K_M" | "Q4_K_L" | "Q5_K_M" if self._more_bits(at, self._values):
                chosen = "Q6_K"
            case "Q4_K_S" if at < 4:
                chosen = "Q5_K"
            case "IQ4_XS" | "IQ4_NL" if self._grouped:
                chosen = "Q5_K"
            case "Q3_K_M":
                chosen = "Q5_K" if at < 2 else "Q4_K"
            case "Q3_K_L":
                chosen = "Q5_K"
            case "Q2_K":
                chosen = "Q4_K" if self._grouped else "Q3_K"
            case _:
                pass
        if self._large and chosen in {"Q3_K", "Q4_K"}:
            chosen = "Q5_K"
        return "Q8_0" if self._experts == 8 else chosen

    def _down_type(self, name: str) -> str:
        at = int(name.split(".")[1]) if self._experts > 1 else self._down
        self._down += 1
        match self._recipe:
            case "Q4_K_M" | "Q4_K_L" | "Q5_K_M" if self._more_bits(at, self._layers):
                return "Q6_K"
            case "Q4_K_S" | "IQ4_XS" | "IQ4_NL" if at < self._layers // 8:
                return "Q5_K"
            case "Q3_K_M":
                return "Q5_K" if at < self._layers // 16 else "Q4_K"
            case "Q3_K_L":
                return "Q5_K"
            case "Q2_K":
                return "Q3_K"
            case _:
                return self._usual

    def _attention_output(self) -> str:
        if self._experts == 8:
            few = {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q4_K_L", "IQ4_XS", "IQ4_NL"}
            return "Q5_K" if self._recipe in few else self._usual
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(self._recipe, self._usual)


_Parts = Iterator[tuple[str, tuple[int, ...]]]


def _is_value(name: str) -> bool:
    return any(part in name for part in ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"))


def _block(plan: Plan, layer: int) -> _Parts:
    style = _STYLES[plan.architecture].split()
    width = plan.number("embedding_length")
    yield from _norm(plan, "attn_norm", style)
    yield from _memory(plan, layer, style)
    if "post-norms" in style or "post-attention-norm" in style:
        yield "post_attention_norm.weight", (width,)
    if "one-norm" not in style:
        yield from _norm(plan, "ffn_norm", style)
    if "post-norms" in style:
        yield "post_ffw_norm.weight", (width,)
    if "scale" in style:
        yield "layer_output_scale.weight", (1,)
    sparse = plan.number("expert_count") and layer >= plan.number("leading_dense_block_count")
    if sparse:
        yield from _experts(plan, style)
    if not sparse or "scale" in style:  # Gemma 4 has a dense network beside its experts
        yield from _network(plan, layer, style)
    if each := plan.number("embedding_length_per_layer_input"):
        yield from (("inp_gate.weight", (width, each)), ("proj.weight", (each, width)), ("post_norm.weight", (width,)))


def _norm(plan: Plan, name: str, style: Sequence[str]) -> _Parts:
    width = plan.number("embedding_length")
    yield f"{name}.weight", (width,)
    if "norm-bias" in style:
        yield f"{name}.bias", (width,)


def _memory(plan: Plan, layer: int, style: Sequence[str]) -> _Parts:
    """What of a layer mixes tokens with those before them."""
    if "latent" in style:
        return _latent(plan)
    if not _recurrent(plan, layer):
        return _attention(plan, layer, style)
    return _delta_net(plan, style) if plan.number("full_attention_interval") else _mamba(plan)


def _recurrent(plan: Plan, layer: int) -> bool:
    if period := plan.number("full_attention_interval"):
        return (layer + 1) % period != 0
    return plan.architecture == "granitehybrid" and not plan.at("attention.head_count_kv", layer)


def _attention(plan: Plan, layer: int, style: Sequence[str]) -> _Parts:
    width = plan.number("embedding_length")
    heads, kv_heads = plan.number("attention.head_count"), plan.at("attention.head_count_kv", layer)
    side = plan.number("attention.key_length", width // heads)
    sliding = plan.metadata.get("attention.sliding_window_pattern")
    if isinstance(sliding, Sequence) and sliding[layer]:
        side = plan.number("attention.key_length_swa", side)
    query, key = heads * side, kv_heads * side
    if "fused-qkv" in style:
        yield "attn_qkv.weight", (width, query + 2 * key)
    else:
        yield "attn_q.weight", (width, query * (2 if "double-query" in style else 1))
        shared = plan.number("block_count") - plan.number("attention.shared_kv_layers")
        if layer < shared:
            yield "attn_k.weight", (width, key)
            if not plan.keys_are_values or (isinstance(sliding, Sequence) and sliding[layer]):
                yield "attn_v.weight", (width, key)
    yield "attn_output.weight", (query, width)
    if "qkv-bias" in style:
        yield from (("attn_q.bias", (query,)), ("attn_k.bias", (key,)), ("attn_v.bias", (key,)))
    if "output-bias" in style:
        yield "attn_output.bias", (width,)
    if "head-norms" in style:
        yield from (("attn_q_norm.weight", (side,)), ("attn_k_norm.weight", (side,)))
    if "wide-head-norms" in style:
        yield from (("attn_q_norm.weight", (query,)), ("attn_k_norm.weight", (key,)))
    if "sinks" in style:
        yield "attn_sinks.weight", (heads,)


def _latent(plan: Plan) -> _Parts:
    """DeepSeek's attention over compressed keys and values, as files made since April 2025 hold it."""
    width, heads = plan.number("embedding_length"), plan.number("attention.head_count")
    rank, turned = plan.number("attention.kv_lora_rank"), plan.number("rope.dimension_count")
    key, value = plan.number("attention.key_length_mla"), plan.number("attention.value_length_mla")
    if query := plan.number("attention.q_lora_rank"):
        yield "attn_q_a_norm.weight", (query,)
        yield "attn_q_a.weight", (width, query)
        yield "attn_q_b.weight", (query, heads * key)
    else:
        yield "attn_q.weight", (width, heads * key)
    yield "attn_kv_a_norm.weight", (rank,)
    yield "attn_kv_a_mqa.weight", (width, rank + turned)
    yield "attn_k_b.weight", (key - turned, rank, heads)
    yield "attn_v_b.weight", (rank, value, heads)
    yield "attn_output.weight", (heads * value, width)


def _delta_net(plan: Plan, style: Sequence[str]) -> _Parts:
    width, state = plan.number("embedding_length"), plan.number("ssm.state_size")
    heads, inner = plan.number("ssm.time_step_rank"), plan.number("ssm.inner_size")
    mixed = 2 * state * plan.number("ssm.group_count") + inner
    yield "attn_qkv.weight", (width, mixed)
    yield "attn_gate.weight", (width, inner)
    yield "ssm_conv1d.weight", (plan.number("ssm.conv_kernel"), mixed)
    yield "ssm_dt.bias", (heads,)
    yield "ssm_a", (heads,)
    if "joined-beta" in style:
        yield "ssm_ba.weight", (width, 2 * heads)
    else:
        yield from (("ssm_beta.weight", (width, heads)), ("ssm_alpha.weight", (width, heads)))
    yield "ssm_norm.weight", (state,)
    yield "ssm_out.weight", (inner, width)


def _mamba(plan: Plan) -> _Parts:
    width, inner = plan.number("embedding_length"), plan.number("ssm.inner_size")
    heads, groups = plan.number("ssm.time_step_rank"), plan.number("ssm.group_count")
    mixed = inner + 2 * groups * plan.number("ssm.state_size")
    yield "ssm_in.weight", (width, inner + mixed + heads)
    yield from (("ssm_conv1d.weight", (plan.number("ssm.conv_kernel"), mixed)), ("ssm_conv1d.bias", (mixed,)))
    yield from (("ssm_dt.bias", (heads,)), ("ssm_a", (1, heads)), ("ssm_d", (1, heads)))
    yield "ssm_norm.weight", (inner // groups, groups)
    yield "ssm_out.weight", (inner, width)


def _network(plan: Plan, layer: int, style: Sequence[str]) -> _Parts:
    width, inner = plan.number("embedding_length"), plan.at("feed_forward_length", layer)
    if "plain-network" not in style and "fused-gate" not in style:
        yield "ffn_gate.weight", (width, inner)
    yield "ffn_up.weight", (width, inner * (2 if "fused-gate" in style else 1))
    yield "ffn_down.weight", (inner, width)
    if "plain-network" in style:
        yield from (("ffn_up.bias", (inner,)), ("ffn_down.bias", (width,)))


def _experts(plan: Plan, style: Sequence[str]) -> _Parts:
    width, count = plan.number("embedding_length"), plan.number("expert_count")
    inner = plan.number("expert_feed_forward_length") or plan.number("feed_forward_length")
    yield "ffn_gate_inp.weight", (width, count)
    if "scale" in style:
        yield "ffn_gate_inp.scale", (width,)
        yield from (("pre_ffw_norm_2.weight", (width,)), ("post_ffw_norm_1.weight", (width,)))
        yield "post_ffw_norm_2.weight", (width,)
        yield "ffn_gate_up_exps.weight", (width, 2 * inner, count)
        yield "ffn_down_exps.scale", (count,)
    else:
        yield from (("ffn_gate_exps.weight", (width, inner, count)), ("ffn_up_exps.weight", (width, inner, count)))
    yield "ffn_down_exps.weight", (inner, width, count)
    if "correction" in style or plan.number("expert_gating_func") == 2:
        yield "exp_probs_b.bias", (count,)
    if "expert-bias" in style:
        yield "ffn_gate_inp.bias", (count,)
        yield from (("ffn_gate_exps.bias", (inner, count)), ("ffn_up_exps.bias", (inner, count)))
        yield "ffn_down_exps.bias", (width, count)
    shared = plan.number("expert_shared_feed_forward_length") or inner * plan.number("expert_shared_count")
    if shared:
        if "shared-gate" in style:
            yield "ffn_gate_inp_shexp.weight", (width,)
        yield from (("ffn_gate_shexp.weight", (width, shared)), ("ffn_up_shexp.weight", (width, shared)))
        yield "ffn_down_shexp.weight", (shared, width)
