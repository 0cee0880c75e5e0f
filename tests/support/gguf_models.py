"""GGUF files made for tests: whole models of real dimensions without their weights, and tiny ones that run.

``sparse`` writes a file whose weights are a hole, a few dozen KiB on disk, which llama.cpp opens where it is told to
allocate nothing; their dimensions are those of the models' own config.json. ``tiny`` writes random weights of another
architecture under SmolLM2's tokenizer: what it answers means nothing, how it is cached is real.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from hub.backends import embedded
from hub.capacity.gguf import read_header

Value = int | float | str | bool | Sequence[int] | Sequence[bool] | Sequence[str]
SMOLLM_VOCABULARY = 49152


@dataclass(frozen=True, slots=True)
class Model:
    """Metadata under the architecture's name, and tensors as (name, shape with the contiguous side first, type)."""

    architecture: str
    metadata: dict[str, Value]
    tensors: list[tuple[str, tuple[int, ...], str]] = field(default_factory=list)

    def add(self, name: str, *shape: int, kind: str = "Q4_K") -> None:
        """A matrix. K-quants need rows of 256; as llama.cpp's quantizer does, others are stored in blocks of 32."""
        if kind.endswith("_K") and shape[0] % 256:
            kind = "Q5_0"
        self.tensors.append((name, shape, kind))

    def add_norms(self, number: int, names: str, length: int) -> None:
        for name in names.split():
            self.add(f"blk.{number}.{name}.weight", length, kind="F32")


def sparse(path: Path, name: str) -> Path:
    """Writes the model of that name, one of MODELS, without weights."""
    write_sparse(path, MODELS[name]())
    return path


def tiny(path: Path, architecture: str) -> Path:
    """Writes a model of about 10 MB with random weights and SmolLM2's tokenizer: "llama", "gemma3", "qwen3next"."""
    model = {"llama": _tiny_llama, "gemma3": _tiny_gemma3, "qwen3next": _tiny_qwen3next}[architecture]()
    numbers = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, architecture)
    _copy_tokenizer(writer)
    _add_metadata(writer, model)
    for name, shape, _ in model.tensors:
        backwards = tuple(reversed(shape))
        if name.endswith("ssm_a"):
            values = -np.ones(backwards, np.float32)
        elif "norm" in name or name.endswith(".bias"):
            values = np.ones(backwards, np.float32)
        else:
            exact = "conv1d" in name or "gate_inp" in name
            values = (numbers.standard_normal(backwards) * 0.05).astype(np.float32 if exact else np.float16)
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_sparse(path: Path, model: Model) -> None:
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_tokenizer_model("no_vocab")
    _add_metadata(writer, model)
    length = 0
    for name, shape, kind in model.tensors:
        quantization = gguf.GGMLQuantizationType[kind]
        numbers, size = gguf.GGML_QUANT_SIZES[quantization]
        count = int(np.prod(shape, dtype=np.int64)) // numbers * size
        backwards = [*reversed(shape)]
        if kind in {"F32", "F16"}:
            plain = np.dtype(np.float32 if kind == "F32" else np.float16)
            writer.add_tensor_info(name, backwards, plain, count)
        else:
            backwards[-1] = backwards[-1] // numbers * size  # the writer wants rows in bytes
            writer.add_tensor_info(name, backwards, np.dtype(np.uint8), count, quantization)
        length += -(-count // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    block = -(-path.stat().st_size // 32) * 32
    with path.open("r+b") as file:
        file.truncate(block + length)


def _add_metadata(writer: gguf.GGUFWriter, model: Model) -> None:
    _add_values(writer, {f"{model.architecture}.{key}": value for key, value in model.metadata.items()})


def _add_values(writer: gguf.GGUFWriter, values: Mapping[str, Value]) -> None:
    for name, value in values.items():
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_array(name, value)


def _copy_tokenizer(writer: gguf.GGUFWriter) -> None:
    # Our own reader, which another test holds against this one, is ten times as fast.
    metadata: Any = read_header(embedded._packaged_model(), vocabulary=True).metadata
    _add_values(writer, {key: value for key, value in metadata.items() if key.startswith("tokenizer.")})


def start(
    architecture: str, layers: int, width: int, heads: int, kv_heads: int, context: int, vocabulary: int, **more: Value
) -> Model:
    """The metadata that every architecture has; double underscores in names stand for dots."""
    metadata: dict[str, Value] = {
        "block_count": layers,
        "context_length": context,
        "embedding_length": width,
        "attention.head_count": heads,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.layer_norm_epsilon": 1e-6,
        "vocab_size": vocabulary,
        "rope.freq_base": 1000000.0,
    }
    if kv_heads:
        metadata["attention.head_count_kv"] = kv_heads
    metadata |= {key.replace("__", "."): value for key, value in more.items()}
    return Model(architecture, metadata)


def ends(model: Model, width: int, vocabulary: int, *, tied: bool = False, kind: str = "Q4_K") -> None:
    model.add("token_embd.weight", width, vocabulary, kind="Q6_K" if tied and kind == "Q4_K" else kind)
    model.add("output_norm.weight", width, kind="F32")
    if not tied:
        model.add("output.weight", width, vocabulary, kind="Q6_K" if kind == "Q4_K" else kind)


def attention(
    model: Model,
    number: int,
    width: int,
    queries: int,
    keys: int,
    *,
    inner: int = 0,
    bias: str = "",
    kind: str = "Q4_K",
) -> None:
    """Four matrices; ``queries`` and ``keys`` are numbers of all heads together, ``bias`` names those that have one."""
    block, inner = f"blk.{number}.attn_", inner or queries
    for name, rows, columns in (
        ("q", width, queries),
        ("k", width, keys),
        ("v", width, keys),
        ("output", inner, width),
    ):
        model.add(f"{block}{name}.weight", rows, columns, kind="Q6_K" if (name, kind) == ("v", "Q4_K") else kind)
        if name in bias.split():
            model.add(f"{block}{name}.bias", columns, kind="F32")


def feed_forward(model: Model, number: int, width: int, inner: int, names: str = "gate up down", end: str = "") -> None:
    for name in names.split():
        rows, columns = (inner, width) if name == "down" else (width, inner)
        down = name == "down" and number % 2 == 1
        model.add(f"blk.{number}.ffn_{name}{end}.weight", rows, columns, kind="Q6_K" if down else "Q4_K")


def experts(model: Model, number: int, width: int, inner: int, count: int, kind: str = "Q4_K") -> None:
    model.add(f"blk.{number}.ffn_gate_inp.weight", width, count, kind="F32")
    for name in ("gate", "up", "down"):
        rows, columns = (inner, width) if name == "down" else (width, inner)
        better = kind == "Q4_K" and name == "down" and number % 2 == 1
        model.add(f"blk.{number}.ffn_{name}_exps.weight", rows, columns, count, kind="Q6_K" if better else kind)


def _llama() -> Model:
    model = start("llama", 32, 4096, 32, 8, 131072, 128256, feed_forward_length=14336, rope__dimension_count=128)
    ends(model, 4096, 128256)
    for number in range(32):
        model.add_norms(number, "attn_norm ffn_norm", 4096)
        attention(model, number, 4096, 4096, 1024)
        feed_forward(model, number, 4096, 14336)
    return model


def _qwen2() -> Model:
    model = start("qwen2", 48, 5120, 40, 8, 32768, 152064, feed_forward_length=13824)
    ends(model, 5120, 152064)
    for number in range(48):
        model.add_norms(number, "attn_norm ffn_norm", 5120)
        attention(model, number, 5120, 5120, 1024, bias="q k v")
        feed_forward(model, number, 5120, 13824)
    return model


def _starcoder2() -> Model:
    model = start("starcoder2", 40, 6144, 48, 4, 16384, 49152, feed_forward_length=24576)
    ends(model, 6144, 49152)
    model.add("output_norm.bias", 6144, kind="F32")
    for number in range(40):
        model.add_norms(number, "attn_norm ffn_norm", 6144)
        for name, length in (("attn_norm", 6144), ("ffn_norm", 6144), ("ffn_up", 24576), ("ffn_down", 6144)):
            model.add(f"blk.{number}.{name}.bias", length, kind="F32")
        attention(model, number, 6144, 6144, 512, bias="q k v output")
        feed_forward(model, number, 6144, 24576, "up down")
    return model


def _qwen3moe() -> Model:
    model = start(
        *("qwen3moe", 48, 2048, 32, 4, 262144, 151936),
        feed_forward_length=6144,
        attention__key_length=128,
        attention__value_length=128,
        expert_count=128,
        expert_used_count=8,
        expert_feed_forward_length=768,
    )
    ends(model, 2048, 151936)
    for number in range(48):
        model.add_norms(number, "attn_norm ffn_norm", 2048)
        model.add_norms(number, "attn_q_norm attn_k_norm", 128)
        attention(model, number, 2048, 4096, 512)
        experts(model, number, 2048, 768, 128)
    return model


def _gpt_oss() -> Model:
    model = start(
        *("gpt-oss", 24, 2880, 64, 8, 131072, 201088),
        feed_forward_length=2880,
        attention__key_length=64,
        attention__value_length=64,
        attention__sliding_window=128,
        expert_count=32,
        expert_used_count=4,
        expert_feed_forward_length=2880,
        rope__dimension_count=64,
        rope__scaling__type="yarn",
        rope__scaling__factor=32.0,
        rope__scaling__original_context_length=4096,
    )
    ends(model, 2880, 201088, kind="Q8_0")
    for number in range(24):
        model.add_norms(number, "attn_norm post_attention_norm", 2880)
        model.add_norms(number, "attn_sinks", 64)
        attention(model, number, 2880, 4096, 512, bias="q k v output", kind="Q8_0")
        experts(model, number, 2880, 2880, 32, kind="MXFP4")
        model.add(f"blk.{number}.ffn_gate_inp.bias", 32, kind="F32")
        for name in ("gate", "up", "down"):
            model.add(f"blk.{number}.ffn_{name}_exps.bias", 2880, 32, kind="F32")
    return model


def _gemma3() -> Model:
    model = start(
        *("gemma3", 48, 3840, 16, 8, 131072, 262208),
        feed_forward_length=15360,
        attention__key_length=256,
        attention__value_length=256,
        attention__sliding_window=1024,
    )
    ends(model, 3840, 262208, tied=True)
    for number in range(48):
        model.add_norms(number, "attn_norm post_attention_norm ffn_norm post_ffw_norm", 3840)
        model.add_norms(number, "attn_k_norm attn_q_norm", 256)
        attention(model, number, 3840, 4096, 2048)
        feed_forward(model, number, 3840, 15360)
    return model


def _gemma2() -> Model:
    model = start(
        *("gemma2", 42, 3584, 16, 8, 8192, 256000),
        feed_forward_length=14336,
        attention__key_length=256,
        attention__value_length=256,
        attention__sliding_window=4096,
    )
    ends(model, 3584, 256000, tied=True)
    for number in range(42):
        model.add_norms(number, "attn_norm post_attention_norm ffn_norm post_ffw_norm", 3584)
        attention(model, number, 3584, 4096, 2048)
        feed_forward(model, number, 3584, 14336)
    return model


def _cohere2() -> Model:
    model = start(
        *("cohere2", 32, 4096, 32, 8, 131072, 256000),
        feed_forward_length=14336,
        attention__sliding_window=4096,
        logit_scale=0.25,
        rope__dimension_count=128,
    )
    ends(model, 4096, 256000, tied=True)
    for number in range(32):
        model.add_norms(number, "attn_norm", 4096)
        attention(model, number, 4096, 4096, 1024)
        feed_forward(model, number, 4096, 14336)
    return model


def _deepseek2() -> Model:
    model = start(
        *("deepseek2", 27, 2048, 16, 1, 163840, 102400),
        feed_forward_length=10944,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
        attention__kv_lora_rank=512,
        leading_dense_block_count=1,
        expert_count=64,
        expert_used_count=6,
        expert_shared_count=2,
        expert_feed_forward_length=1408,
        expert_weights_scale=1.0,
        rope__dimension_count=64,
    )
    ends(model, 2048, 102400)
    for number in range(27):
        block = f"blk.{number}."
        model.add_norms(number, "attn_norm ffn_norm", 2048)
        model.add_norms(number, "attn_kv_a_norm", 512)
        model.add(block + "attn_q.weight", 2048, 16 * 192)
        model.add(block + "attn_kv_a_mqa.weight", 2048, 576)
        model.add(block + "attn_k_b.weight", 128, 512, 16)
        model.add(block + "attn_v_b.weight", 512, 128, 16)
        model.add(block + "attn_output.weight", 16 * 128, 2048)
        if number:
            experts(model, number, 2048, 1408, 64)
            feed_forward(model, number, 2048, 2816, end="_shexp")
        else:
            feed_forward(model, number, 2048, 10944)
    return model


def _qwen35moe() -> Model:
    model = start(
        *("qwen35moe", 40, 2048, 16, 2, 262144, 248320),
        attention__key_length=256,
        attention__value_length=256,
        expert_count=256,
        expert_used_count=8,
        expert_feed_forward_length=512,
        expert_shared_feed_forward_length=512,
        ssm__conv_kernel=4,
        ssm__state_size=128,
        ssm__group_count=16,
        ssm__time_step_rank=32,
        ssm__inner_size=4096,
        full_attention_interval=4,
        rope__dimension_count=64,
        rope__dimension_sections=[11, 11, 10, 0],
    )
    ends(model, 2048, 248320)
    for number in range(40):
        block = f"blk.{number}."
        model.add_norms(number, "attn_norm post_attention_norm", 2048)
        if number % 4 == 3:
            attention(model, number, 2048, 2 * 4096, 512, inner=4096)
            model.add_norms(number, "attn_q_norm attn_k_norm", 256)
        else:
            _delta_net(model, number, 2048, 2048, 4096, 32, 128)
            for name in ("beta", "alpha"):
                model.add(f"{block}ssm_{name}.weight", 2048, 32, kind="F32")
        experts(model, number, 2048, 512, 256)
        model.add(block + "ffn_gate_inp_shexp.weight", 2048, kind="F32")
        feed_forward(model, number, 2048, 512, end="_shexp")
    return model


def _delta_net(model: Model, number: int, width: int, keys: int, values: int, heads: int, side: int) -> None:
    block = f"blk.{number}."
    model.add(block + "attn_qkv.weight", width, 2 * keys + values)
    model.add(block + "attn_gate.weight", width, values)
    model.add(block + "ssm_conv1d.weight", 4, 2 * keys + values, kind="F32")
    model.add(block + "ssm_dt.bias", heads, kind="F32")
    model.add(block + "ssm_a", heads, kind="F32")
    model.add(block + "ssm_norm.weight", side, kind="F32")
    model.add(block + "ssm_out.weight", values, width)


def state_space(model: Model, number: int, width: int, inner: int, state: int, groups: int, heads: int) -> None:
    block, mixed = f"blk.{number}.", inner + 2 * groups * state
    model.add(block + "ssm_in.weight", width, inner + mixed + heads)
    model.add(block + "ssm_conv1d.weight", 4, mixed, kind="F32")
    model.add(block + "ssm_conv1d.bias", mixed, kind="F32")
    model.add(block + "ssm_dt.bias", heads, kind="F32")
    model.add(block + "ssm_a", 1, heads, kind="F32")
    model.add(block + "ssm_d", 1, heads, kind="F32")
    model.add(block + "ssm_norm.weight", inner // groups, groups, kind="F32")
    model.add(block + "ssm_out.weight", inner, width)


def _granite_hybrid() -> Model:
    attentive = {5, 15, 25, 35}
    model = start(
        *("granitehybrid", 40, 1536, 12, 0, 131072, 100352),
        attention__head_count_kv=[4 if number in attentive else 0 for number in range(40)],
        feed_forward_length=512,
        expert_count=64,
        expert_used_count=6,
        expert_shared_feed_forward_length=1024,
        ssm__conv_kernel=4,
        ssm__inner_size=3072,
        ssm__state_size=128,
        ssm__group_count=1,
        ssm__time_step_rank=48,
        rope__dimension_count=128,
    )
    ends(model, 1536, 100352, tied=True)
    for number in range(40):
        model.add_norms(number, "attn_norm ffn_norm", 1536)
        if number in attentive:
            attention(model, number, 1536, 1536, 512)
        else:
            state_space(model, number, 1536, 3072, 128, 1, 48)
        experts(model, number, 1536, 512, 64)
        feed_forward(model, number, 1536, 1024, end="_shexp")
    return model


def _falcon_h1() -> Model:
    model = start(
        *("falcon-h1", 44, 3072, 12, 2, 262144, 130048),
        feed_forward_length=12288,
        attention__key_length=128,
        attention__value_length=128,
        ssm__conv_kernel=4,
        ssm__inner_size=3072,
        ssm__state_size=256,
        ssm__group_count=1,
        ssm__time_step_rank=24,
    )
    ends(model, 3072, 130048)
    for number in range(44):
        model.add_norms(number, "attn_norm", 3072)
        model.add(f"blk.{number}.ffn_norm", 3072, kind="F32")
        state_space(model, number, 3072, 3072, 256, 1, 24)
        attention(model, number, 3072, 1536, 256)
        feed_forward(model, number, 3072, 12288)
    return model


def _tiny_llama() -> Model:
    """Trained, so it says, to 512 tokens."""
    model = start("llama", 2, 64, 4, 2, 512, SMOLLM_VOCABULARY, feed_forward_length=128, rope__dimension_count=16)
    ends(model, 64, SMOLLM_VOCABULARY, tied=True)
    for number in range(2):
        model.add_norms(number, "attn_norm ffn_norm", 64)
        attention(model, number, 64, 64, 32)
        feed_forward(model, number, 64, 128)
    return model


def _tiny_gemma3() -> Model:
    model = start(
        *("gemma3", 6, 64, 4, 2, 32768, SMOLLM_VOCABULARY),
        feed_forward_length=128,
        attention__key_length=32,
        attention__value_length=32,
        attention__sliding_window=128,
    )
    ends(model, 64, SMOLLM_VOCABULARY, tied=True)
    for number in range(6):
        model.add_norms(number, "attn_norm post_attention_norm ffn_norm post_ffw_norm", 64)
        model.add_norms(number, "attn_k_norm attn_q_norm", 32)
        attention(model, number, 64, 128, 64)
        feed_forward(model, number, 64, 128)
    return model


def _tiny_qwen3next() -> Model:
    model = start(
        *("qwen3next", 8, 64, 4, 2, 32768, SMOLLM_VOCABULARY),
        feed_forward_length=128,
        attention__key_length=32,
        attention__value_length=32,
        expert_count=4,
        expert_used_count=2,
        expert_feed_forward_length=32,
        expert_shared_feed_forward_length=32,
        ssm__conv_kernel=4,
        ssm__state_size=32,
        ssm__group_count=2,
        ssm__time_step_rank=4,
        ssm__inner_size=128,
        full_attention_interval=4,
        rope__dimension_count=16,
    )
    ends(model, 64, SMOLLM_VOCABULARY, tied=True)
    for number in range(8):
        block = f"blk.{number}."
        model.add_norms(number, "attn_norm post_attention_norm", 64)
        if number % 4 == 3:
            attention(model, number, 64, 2 * 128, 64, inner=128)
            model.add_norms(number, "attn_q_norm attn_k_norm", 32)
        else:
            _delta_net(model, number, 64, 64, 128, 4, 32)
            model.add(block + "ssm_ba.weight", 64, 8)
        experts(model, number, 64, 32, 4)
        model.add(block + "ffn_gate_inp_shexp.weight", 64, kind="F32")
        feed_forward(model, number, 64, 32, end="_shexp")
    return model


MODELS: dict[str, Callable[[], Model]] = {
    "llama-3.1-8b": _llama,
    "qwen2.5-coder-14b": _qwen2,
    "starcoder2-15b": _starcoder2,
    "qwen3-coder-30b-a3b": _qwen3moe,
    "gpt-oss-20b": _gpt_oss,
    "gemma3-12b": _gemma3,
    "gemma2-9b": _gemma2,
    "command-r7b": _cohere2,
    "deepseek-coder-v2-lite": _deepseek2,
    "qwen3.5-35b-a3b": _qwen35moe,
    "granite-4.0-h-tiny": _granite_hybrid,
    "falcon-h1-7b": _falcon_h1,
}
