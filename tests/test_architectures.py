"""What metadata say about the memory of a model: which layers keep everything, a window, a state, or nothing."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.capacity.architecture import listed_tensors, shape_of
from hub.capacity.gguf import Skipped, Tensor, read_header
from hub.capacity.model import LayerKind, ModelShape
from hub.errors import ModelFileError
from tests.support import gguf_models

LETTERS = {LayerKind.FULL: "f", LayerKind.SLIDING: "s", LayerKind.RECURRENT: "r"}


def weights(layers: int, *, experts: int = 0, vocabulary: int = 1000, tied: bool = False) -> list[Tensor]:
    made = [Tensor("token_embd.weight", (64, vocabulary), "F16", 128 * vocabulary)]
    if not tied:
        made.append(Tensor("output.weight", (64, vocabulary), "F16", 128 * vocabulary))
    for number in range(layers):
        made.append(Tensor(f"blk.{number}.attn_q.weight", (64, 64), "F16", 8192))
        if experts:
            made.append(Tensor(f"blk.{number}.ffn_up_exps.weight", (64, 64, experts), "F16", 8192 * experts))
    return made


def told(architecture: str, layers: int = 8, tensors: list[Tensor] | None = None, **more: Any) -> ModelShape:
    """The shape from the usual metadata and ``more``, in whose names double underscores stand for dots."""
    usual = {
        "block_count": layers,
        "context_length": 4096,
        "embedding_length": 64,
        "feed_forward_length": 256,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    given_values = usual | {key.replace("__", "."): value for key, value in more.items()}
    metadata = {f"{architecture}.{key}": value for key, value in given_values.items() if value != "absent"}
    metadata["general.architecture"] = architecture
    return shape_of(metadata, weights(layers) if tensors is None else tensors, name="model", source="gguf")


def kinds(shape: ModelShape) -> str:
    return "".join(LETTERS[layer.kind] for layer in shape.layers)


def refusal(architecture: str = "llama", layers: int = 8, tensors: list[Tensor] | None = None, **more: Any) -> str:
    with pytest.raises(ModelFileError) as caught:
        told(architecture, layers, tensors, **more)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message


WINDOW: dict[str, Any] = {"attention__sliding_window": 512}


@pytest.mark.parametrize(
    ("architecture", "more", "pattern", "window"),
    [
        ("llama", {}, "ffffffff", 0),
        ("llama", WINDOW, "ffffffff", 0),  # Mistral's, which the engine does not use
        ("phi3", WINDOW, "ffffffff", 0),
        ("qwen2", WINDOW, "ffffffff", 0),
        ("gemma2", {}, "sfsfsfsf", 4096),
        ("gemma3", WINDOW, "sssssfss", 512),
        ("gemma3", {}, "ffffffff", 0),
        ("gpt-oss", WINDOW, "sfsfsfsf", 512),
        ("cohere2", WINDOW, "sssfsssf", 512),
        ("cohere2moe", WINDOW, "fsssfsss", 512),
        ("olmo2", WINDOW, "sssfsssf", 512),
        ("olmo2", {}, "ffffffff", 0),
        ("llama4", {}, "sssfsssf", 8192),
        ("llama4", {"attention__sliding_window": 0}, "ffffffff", 0),
        ("smallthinker", WINDOW, "fsssfsss", 4096),
        ("exaone4", WINDOW, "ffffffff", 0),  # but for its 64 layers
        ("plamo3", WINDOW, "sssssssf", 512),
        ("gemma3", {**WINDOW, "attention__sliding_window_pattern": 2}, "sfsfsfsf", 512),
        ("cohere2", {**WINDOW, "attention__sliding_window_pattern": (True, False) * 4}, "sfsfsfsf", 512),
        ("mimo2", {**WINDOW, "attention__sliding_window_pattern": (False,) * 4 + (True,) * 4}, "ffffssss", 512),
        ("qwen3next", {}, "rrrfrrrf", 0),
        ("qwen35moe", {"full_attention_interval": 2}, "rfrfrfrf", 0),
        ("qwen35", {"attention__recurrent_layers": (True,) * 6 + (False,) * 2}, "rrrrrrff", 0),
        ("minimax-01", {}, "rrrrrrrf", 0),
        ("granitehybrid", {"attention__head_count_kv": (0, 0, 0, 2) * 2}, "rrrfrrrf", 0),
        ("jamba", {"attention__head_count_kv": (0, 2) * 4}, "rfrfrfrf", 0),
        ("lfm2", {"attention__head_count_kv": (0, 0, 2, 0, 0, 2, 0, 2)}, "rrfrrfrf", 0),
        ("mamba2", {"attention__head_count": 0}, "rrrrrrrr", 0),
        ("rwkv7", {"attention__head_count": 0, "wkv__head_size": 16}, "rrrrrrrr", 0),
    ],
)
def test_layers_are_of_the_kind_that_the_engine_makes_them(
    architecture: str, more: dict[str, Any], pattern: str, window: int
) -> None:
    shape = told(architecture, **more)
    assert kinds(shape) == pattern
    assert shape.window == window
    assert shape.notes == ()


def test_ollama_s_name_of_an_architecture_is_understood() -> None:
    shape = told("gptoss", **WINDOW)
    assert (shape.architecture, kinds(shape), shape.notes) == ("gpt-oss", "sfsfsfsf", ())


def test_the_large_exaone_has_windows() -> None:
    assert kinds(told("exaone4", 64)) == "sssf" * 16


def test_layers_that_only_draft_keep_nothing_and_are_not_loaded() -> None:
    shape = told("glm4moe", 9, nextn_predict_layers=1)
    assert len(shape.layers) == 8
    without = told("glm4moe", 9, weights(8), nextn_predict_layers=1)  # they may be left out of a file
    assert without.layers == shape.layers
    assert "no weights for layer 7" in refusal("glm4moe", 9, weights(7), nextn_predict_layers=1)


def test_a_model_without_a_number_of_key_heads_has_as_many_as_of_queries() -> None:
    assert {layer.kv_heads for layer in told("gpt2", attention__head_count_kv="absent").layers} == {4}


def test_the_length_of_a_key_is_told_or_follows_from_the_heads() -> None:
    assert told("llama").layers[0].key_length == 16
    layer = told("qwen3", attention__key_length=128, attention__value_length=96).layers[0]
    assert (layer.key_length, layer.value_length) == (128, 96)


def test_short_layers_may_have_keys_of_another_length() -> None:
    shape = told(
        "gemma4",
        **WINDOW,
        attention__sliding_window_pattern=(True, True, True, False) * 2,
        attention__key_length=512,
        attention__value_length=512,
        attention__key_length_swa=256,
        attention__value_length_swa=256,
        attention__head_count_kv=(8, 8, 8, 2) * 2,
    )
    assert [(layer.kv_heads, layer.key_length) for layer in shape.layers[2:4]] == [(8, 256), (2, 512)]


def test_layers_that_share_a_cache_have_none_of_their_own() -> None:
    shape = told("gemma4", **WINDOW, attention__sliding_window_pattern=(True, False) * 4, attention__shared_kv_layers=3)
    assert [layer.kv_heads for layer in shape.layers] == [2] * 5 + [0] * 3
    assert [layer.kv_heads for layer in told("gemma3n", 30, **WINDOW).layers] == [2] * 20 + [0] * 10


def test_latent_attention_keeps_one_thing_for_key_and_value() -> None:
    latent: dict[str, Any] = {
        "attention__head_count_kv": 1,
        "attention__key_length": 576,
        "attention__value_length": 512,
        "attention__key_length_mla": 192,
        "attention__value_length_mla": 128,
    }
    layer = told("deepseek2", **latent).layers[0]
    assert (layer.kv_heads, layer.key_length, layer.value_length) == (1, 576, 0)
    indexed = told("deepseek32", **latent, attention__indexer__key_length=128)
    assert indexed.layers[0].key_length == 576 + 128
    assert indexed.notes
    old = told("deepseek2", attention__head_count_kv=4, attention__key_length=192, attention__value_length=128)
    assert (old.layers[0].key_length, old.layers[0].value_length) == (192, 128)


def test_states_have_the_size_of_their_formula() -> None:
    space: dict[str, Any] = {
        "ssm__conv_kernel": 4,
        "ssm__inner_size": 128,
        "ssm__state_size": 16,
        "ssm__group_count": 2,
    }
    expected = 4 * (3 * (128 + 2 * 2 * 16) + 16 * 128)
    assert told("mamba2", attention__head_count=0, **space).layers[0].state_bytes == expected
    both = told("falcon-h1", **space).layers[0]
    assert (both.kind, both.kv_heads, both.state_bytes) == (LayerKind.FULL, 2, expected)
    assert told("rwkv6", attention__head_count=0, wkv__head_size=16).layers[0].state_bytes == 4 * 64 * (2 + 16)
    short = told("lfm2", attention__head_count_kv=(0, 2) * 4, shortconv__l_cache=3).layers[0]
    assert short.state_bytes == 4 * 64 * 2
    delta = told("kimi-linear", attention__head_count_kv=(0, 0, 0, 2) * 2, kda__head_dim=16, ssm__conv_kernel=4)
    assert delta.layers[0].state_bytes == 4 * (3 * 3 * 4 * 16 + 16 * 16 * 4)
    assert told("llama").layers[0].state_bytes == 0


def test_layers_of_nemotron_are_attention_a_state_or_neither() -> None:
    shape = told(
        "nemotron_h",
        4,
        attention__head_count_kv=(0, 0, 2, 0),
        feed_forward_length=(0, 256, 0, 0),
        ssm__conv_kernel=4,
        ssm__inner_size=128,
        ssm__state_size=16,
    )
    assert kinds(shape) == "rffr"
    assert [bool(layer.kv_heads) for layer in shape.layers] == [False, False, True, False]
    assert [bool(layer.state_bytes) for layer in shape.layers] == [True, False, False, True]


def test_weights_are_counted_where_they_belong() -> None:
    shape = told("qwen3moe", tensors=weights(8, experts=6), expert_count=6, expert_used_count=2)
    assert {(layer.dense_bytes, layer.expert_bytes) for layer in shape.layers} == {(8192, 6 * 8192)}
    assert (shape.embedding_bytes, shape.output_bytes, shape.tied) == (128_000, 128_000, False)
    assert shape.weight_bytes == sum(tensor.bytes for tensor in weights(8, experts=6))
    assert (shape.experts, shape.experts_used, shape.vocabulary) == (6, 2, 1000)
    tied = told("gemma3", tensors=weights(8, tied=True))
    assert (tied.tied, tied.output_bytes) == (True, 0)


def test_contexts_before_and_after_scaling_are_told_apart() -> None:
    scaled = told("llama", context_length=131_072, rope__scaling__original_context_length=8192)
    assert (scaled.trained_context, scaled.original_context) == (131_072, 8192)
    plain = told("llama")
    assert (plain.trained_context, plain.original_context) == (4096, 4096)


def test_an_unknown_architecture_is_planned_as_full_attention_and_that_is_said() -> None:
    shape = told("brandnew")
    assert kinds(shape) == "f" * 8
    assert any("brandnew" in note and "full attention" in note for note in shape.notes)


def test_an_unknown_architecture_that_tells_too_little_is_refused() -> None:
    assert "embedding length" in refusal("brandnew", embedding_length="absent")
    assert "context length" in refusal("brandnew", context_length="absent")


@pytest.mark.parametrize("architecture", ["bert", "clip", "llada", "deepseek4", "qwen4exp"])
def test_what_writes_no_text_or_cannot_be_told_is_refused(architecture: str) -> None:
    assert architecture in refusal(architecture)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"block_count": 0}, "block_count"),
        ({"block_count": 1 << 30}, "layers"),
        ({"block_count": -1}, "block_count"),
        ({"block_count": "eight"}, "block_count"),
        ({"block_count": 1.5}, "block_count"),
        ({"embedding_length": 0}, "embedding_length"),
        ({"context_length": 1 << 60}, "context_length"),
        ({"attention__head_count_kv": (2, 2)}, "each of 8 layers"),
        ({"attention__head_count_kv": (2,) * 7 + (-1,)}, "each of 8 layers"),
        ({"attention__head_count_kv": (2,) * 7 + ("x",)}, "each of 8 layers"),
        ({"nextn_predict_layers": 8}, "layers"),
        ({"nextn_predict_layers": 9}, "layers"),
        ({"block_count": 4}, "blk."),
        ({"block_count": 9}, "no weights for layer 8"),
    ],
)
def test_metadata_that_cannot_be_true_are_refused(more: dict[str, Any], word: str) -> None:
    assert word in refusal(**more)


def test_a_projector_is_not_a_language_model() -> None:
    alone = [Tensor("v.blk.0.attn_q.weight", (64, 64), "F16", 8192)]
    assert "language model" in refusal(tensors=alone)
    assert "language model" in refusal(tensors=[])


def test_lists_that_ollama_leaves_out_are_asked_for() -> None:
    assert "missing" in refusal("gemma4", **WINDOW, attention__head_count_kv=None)
    assert "window" in refusal("gemma4", **WINDOW)


@given(
    st.sampled_from(["llama", "gemma3", "qwen3next", "granitehybrid", "deepseek2", "lfm2", "gemma4", "brandnew"]),
    st.dictionaries(
        st.sampled_from(
            """
            block_count context_length embedding_length feed_forward_length attention.head_count attention.head_count_kv
            attention.key_length attention.sliding_window attention.sliding_window_pattern attention.shared_kv_layers
            full_attention_interval ssm.inner_size ssm.state_size nextn_predict_layers expert_count expert_used_count
            attention.key_length_mla attention.value_length_mla rope.scaling.original_context_length shortconv.l_cache
            """.split()
        ),
        st.one_of(
            st.integers(-5, 100),
            st.integers(),
            st.floats(),
            st.text(max_size=3),
            st.booleans(),
            st.none(),
            st.lists(st.integers(-1, 9) | st.booleans() | st.text(max_size=1), max_size=12).map(tuple),
            st.just(Skipped(9)),
        ),
    ),
)
def test_any_metadata_give_a_sound_shape_or_a_sentence(architecture: str, values: dict[str, Any]) -> None:
    try:
        shape = told(architecture, **{key.replace(".", "__"): value for key, value in values.items()})
    except ModelFileError as error:
        assert error.hint  # noqa: PT017 - either outcome is right, and this is what an error has to bring
        return
    assert shape.layers
    assert shape.trained_context >= shape.original_context >= 1
    for layer in shape.layers:
        assert min(layer.kv_heads, layer.key_length, layer.value_length, layer.state_bytes) >= 0


@pytest.mark.parametrize("name", gguf_models.MODELS)
def test_what_ollama_lists_and_what_the_file_says_are_one_shape(name: str, tmp_path: Path) -> None:
    header = read_header(gguf_models.sparse(tmp_path / "model.gguf", name))
    listed = listed_tensors({"name": one.name, "type": one.type, "shape": [*one.shape]} for one in header.tensors)
    assert listed == header.tensors
    from_file = shape_of(header.metadata, header.tensors, name=name, source="gguf")
    from_list = shape_of(dict(header.metadata), listed, name=name, source="gguf")
    assert from_file == from_list
    assert from_file.notes == ()


def test_a_list_of_tensors_that_makes_no_sense_is_refused() -> None:
    for wrong in (
        {"name": "x", "type": "Q99", "shape": [32]},
        {"name": "x", "type": "Q8_0", "shape": [33]},
        {"name": "x", "type": "Q8_0", "shape": ["32"]},
        {"name": "x", "type": "Q8_0", "shape": []},
        {"name": "x", "shape": [32]},
    ):
        with pytest.raises(ModelFileError):
            listed_tensors([wrong])


def test_the_quantization_is_named_as_its_file_type_or_after_most_of_its_weights(tmp_path: Path) -> None:
    assert told("llama").quantization == "F16"
    metadata = {"general.architecture": "llama", "general.file_type": 15}
    header = read_header(gguf_models.sparse(tmp_path / "m.gguf", "llama-3.1-8b"))
    shape = shape_of({**header.metadata, **metadata}, header.tensors, name="m", source="gguf")
    assert shape.quantization == "Q4_K_M"
    assert 8.0e9 < shape.parameters < 8.1e9
