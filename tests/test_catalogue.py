"""The catalogue: names as people write them, numbers of parameters and sizes of files as they are published."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.capacity import catalogue, layouts, memory
from hub.capacity.layouts import RECIPES
from hub.capacity.model import Load, Placement
from hub.errors import NotInCatalogue
from tests.support import gguf_models, oracle

# Billions of parameters, by the makers' model cards and by Hugging Face's count of the weights.
PARAMETERS = {
    "qwen2.5-coder:1.5b": 1.54,
    "qwen2.5-coder:3b": 3.09,
    "qwen2.5-coder:7b": 7.62,
    "qwen2.5-coder:14b": 14.77,
    "qwen2.5-coder:32b": 32.76,
    "qwen2.5:72b": 72.71,
    "qwen3:4b": 4.02,
    "qwen3:8b": 8.19,
    "qwen3:14b": 14.77,
    "qwen3:32b": 32.76,
    "qwen3:30b-a3b": 30.53,
    "qwen3:235b-a22b": 235.1,
    "qwen3-coder:480b": 480.2,
    "qwen3-coder-next:80b": 79.7,
    "qwen3.6:27b": 26.9,
    "qwen3.6:35b-a3b": 34.7,
    "gpt-oss:20b": 20.9,
    "gpt-oss:120b": 116.8,
    "llama3.1:8b": 8.03,
    "llama3.2:1b": 1.24,
    "llama3.2:3b": 3.21,
    "llama3.3:70b": 70.55,
    "codellama:34b": 33.74,
    "mistral:7b": 7.25,
    "mistral-nemo:12b": 12.25,
    "codestral:22b": 22.25,
    "mistral-small:24b": 23.57,
    "mixtral:8x7b": 46.70,
    "deepseek-coder-v2:16b": 15.71,
    "deepseek-coder-v2:236b": 235.7,
    "starcoder2:3b": 3.03,
    "starcoder2:7b": 7.17,
    "starcoder2:15b": 15.96,
    "gemma2:9b": 9.24,
    "gemma2:27b": 27.23,
    "gemma3:4b": 3.88,
    "gemma3:12b": 11.77,
    "gemma3:27b": 27.01,
    "gemma4:26b-a4b": 25.2,
    "gemma4:31b": 30.7,
    "phi4:14b": 14.66,
    "phi4-mini:3.8b": 3.84,
    "granite3.3:8b": 8.17,
    "granite4:micro-h": 3.19,
    "granite4:tiny-h": 6.94,
    "granite4:small-h": 32.2,
    "glm4:9b": 9.40,
    "glm4:32b": 32.57,
    "glm-4.7-flash": 29.9,
    "smollm2:135m": 0.1345,
    "smollm3:3b": 3.08,
    "command-r:35b": 32.3,
    "command-r7b:7b": 8.03,
    "seed-oss:36b": 36.15,
    "minimax-m2:230b": 228.7,
}
# Gigabytes (10^9) as Hugging Face lists the files of bartowski, lmstudio-community, ggml-org and tensorblock, which
# were made with llama.cpp's own recipes. Those of IQ4_XS were made with an importance matrix, which saves 0.6%.
PUBLISHED = {
    "Meta-Llama-3.1-8B-Instruct-Q2_K.gguf": 3.18,
    "Meta-Llama-3.1-8B-Instruct-Q3_K_M.gguf": 4.02,
    "Meta-Llama-3.1-8B-Instruct-Q3_K_L.gguf": 4.32,
    "Meta-Llama-3.1-8B-Instruct-IQ4_XS.gguf": 4.45,
    "Meta-Llama-3.1-8B-Instruct-Q4_K_S.gguf": 4.69,
    "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf": 4.92,
    "Meta-Llama-3.1-8B-Instruct-Q4_K_L.gguf": 5.31,
    "Meta-Llama-3.1-8B-Instruct-Q5_K_S.gguf": 5.60,
    "Meta-Llama-3.1-8B-Instruct-Q5_K_M.gguf": 5.73,
    "Meta-Llama-3.1-8B-Instruct-Q6_K.gguf": 6.60,
    "Meta-Llama-3.1-8B-Instruct-Q8_0.gguf": 8.54,
    "Mistral-7B-Instruct-v0.3-Q4_0.gguf": 4.11,
    "Mistral-7B-Instruct-v0.3-Q5_0.gguf": 5.00,
    "DeepCoder-14B: Qwen2.5-14B Q4_0": 8.518,
    "DeepCoder-14B: Qwen2.5-14B Q4_K_M": 8.988,
    "Qwen2.5-Coder-7B-Instruct-Q4_K_M.gguf": 4.68,
    "Qwen2.5-Coder-32B-Instruct-Q4_K_M.gguf": 19.85,
    "Llama-3.3-70B-Instruct-Q4_K_M.gguf": 42.52,
    "Codestral-22B-v0.1-Q2_K.gguf": 8.27,
    "Codestral-22B-v0.1-Q4_K_M.gguf": 13.34,
    "Codestral-22B-v0.1-Q5_K_M.gguf": 15.7,
    "DeepSeek-Coder-V2-Lite-Instruct-Q4_K_M.gguf": 10.4,
    "DeepSeek-Coder-V2-Lite-Instruct-Q6_K.gguf": 14.1,
    "DeepSeek-Coder-V2-Instruct-Q4_K_M.gguf": 142.5,
    "gpt-oss-20b-mxfp4.gguf": 12.1,
    "gpt-oss-120b-mxfp4.gguf": 63.4,
    "gemma-2-27b-it-Q4_K_M.gguf": 16.65,
    "google_gemma-3-12b-it-Q4_K_M.gguf": 7.30,
    "phi-4-Q4_K_M.gguf": 9.05,
    "Qwen3-30B-A3B-Q4_K_M.gguf": 18.56,
    "c4ai-command-r-08-2024-Q4_K_M.gguf": 19.80,
    "starcoder2-15b-instruct-v0.1-Q4_K_M.gguf": 9.86,
}
# What llama.cpp asks of metadata that decide no memory.
EVERYWHERE = {
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.layer_norm_epsilon": 1e-6,
    "rope.freq_base": 1e6,
    "logit_scale": 0.0625,
    "embedding_length_per_layer_input": 0,
}


def one_of_each_architecture() -> list[str]:
    first: dict[str, str] = {}
    for name in catalogue.models():
        first.setdefault(catalogue.entry(name).plan.architecture, name)
    return list(first.values())


@pytest.mark.parametrize(("name", "billions"), PARAMETERS.items())
def test_a_model_has_as_many_parameters_as_its_makers_say(name: str, billions: float) -> None:
    assert catalogue.find(name).parameters / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize(("name", "gigabytes"), PUBLISHED.items())
def test_a_file_is_as_large_as_the_one_that_is_published(name: str, gigabytes: float) -> None:
    """Within 0.8%: published figures are rounded, and files hold a vocabulary of up to 16 MB besides."""
    assert catalogue.find(name.rsplit(": ", 1)[-1]).weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.008)


def test_keys_and_values_of_a_model_with_eight_experts_are_kept_in_eight_bits() -> None:
    plan = catalogue.entry("mixtral:8x7b").plan
    tensors = layouts.layout(plan)
    kinds = dict(zip((tensor.name for tensor in tensors), layouts.types(plan, tensors, "Q4_K_M"), strict=True))
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_exps", "ffn_gate_inp")
    assert [kinds[f"blk.5.{name}.weight"] for name in names] == ["Q4_K", "Q8_0", "Q8_0", "Q5_K", "Q4_K", "F32"]


@pytest.mark.parametrize("name", one_of_each_architecture())
def test_llama_cpp_finds_every_tensor_where_and_as_large_as_the_catalogue_says(name: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    entry = catalogue.entry(name)
    plan = entry.plan
    tensors = layouts.layout(plan)
    kinds = layouts.types(plan, tensors, entry.quantization)
    metadata = {**EVERYWHERE, "vocab_size": plan.vocabulary, **plan.metadata}
    if plan.architecture.startswith("qwen35"):
        metadata["rope.dimension_sections"] = (11, 11, 10, 0)
    model = gguf_models.Model(
        plan.architecture, metadata, [(*tensor, kind) for tensor, kind in zip(tensors, kinds, strict=True)]
    )
    gguf_models.write_sparse(tmp_path / "model.gguf", model)
    load = Load(context=8192, placement=Placement.CPU)
    [told] = oracle.ask([(tmp_path / "model.gguf", load)])
    shape = catalogue.find(name)
    weights = shape.weight_bytes
    if plan.architecture == "gemma4":
        weights += shape.embedding_bytes  # llama.cpp makes its tied output a copy there, on the host, too
    assert told.weights == pytest.approx(weights, abs=1 << 20)
    assert told.kv == pytest.approx(memory.kv_bytes(shape, load), abs=1 << 14)
    assert told.state == pytest.approx(memory.state_bytes(shape, load), abs=1 << 14)


@pytest.mark.parametrize(
    ("spelling", "name", "quantization"),
    [
        ("qwen2.5-coder:14b", "qwen2.5-coder:14b", "Q4_K_M"),
        ("qwen2.5-coder", "qwen2.5-coder:7b", "Q4_K_M"),
        ("qwen2.5-coder:latest", "qwen2.5-coder:7b", "Q4_K_M"),
        ("qwen2.5-coder:14b-instruct-q5_K_M", "qwen2.5-coder:14b", "Q5_K_M"),
        ("Qwen/Qwen2.5-Coder-14B-Instruct", "qwen2.5-coder:14b", "Q4_K_M"),
        ("Qwen2.5-Coder-14B-Instruct-Q4_K_M.gguf", "qwen2.5-coder:14b", "Q4_K_M"),
        ("models/qwen2.5-coder-14b-instruct-q8_0.gguf", "qwen2.5-coder:14b", "Q8_0"),
        ("hf.co/bartowski/Qwen2.5-Coder-32B-Instruct-GGUF:IQ4_XS", "qwen2.5-coder:32b", "IQ4_XS"),
        ("gpt-oss", "gpt-oss:20b", "MXFP4"),
        ("gpt-oss-120b-mxfp4.gguf", "gpt-oss:120b", "MXFP4"),
        ("openai/gpt-oss-20b", "gpt-oss:20b", "MXFP4"),
        ("llama3.1:70b", "llama3.3:70b", "Q4_K_M"),
        ("Meta-Llama-3.1-8B-Instruct-Q6_K.gguf", "llama3.1:8b", "Q6_K"),
        ("meta-llama/Llama-3.2-3B-Instruct", "llama3.2:3b", "Q4_K_M"),
        ("qwen3-coder:30b-a3b-q4_K_M", "qwen3-coder:30b", "Q4_K_M"),
        ("Qwen3-Coder-30B-A3B-Instruct-Q8_0.gguf", "qwen3-coder:30b", "Q8_0"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3:30b-a3b-2507", "Q4_K_M"),
        ("qwen3:30b", "qwen3:30b-a3b", "Q4_K_M"),
        ("Qwen/Qwen3-Coder-Next", "qwen3-coder-next:80b", "Q4_K_M"),
        ("Qwen/Qwen3.5-35B-A3B", "qwen3.6:35b-a3b", "Q4_K_M"),
        ("google/gemma-3-12b-it-qat-q4_0-gguf", "gemma3:12b", "Q4_0"),
        ("deepseek-coder-v2:16b-lite-instruct-q4_0", "deepseek-coder-v2:16b", "Q4_0"),
        ("DeepSeek-Coder-V2-Lite-Instruct-F16.gguf", "deepseek-coder-v2:16b", "F16"),
        ("bigcode/starcoder2-15b", "starcoder2:15b", "Q4_K_M"),
        ("codellama/CodeLlama-34b-Instruct-hf", "codellama:34b", "Q4_K_M"),
        ("mistralai/Devstral-Small-2507", "devstral:24b", "Q4_K_M"),
        ("microsoft/phi-4", "phi4:14b", "Q4_K_M"),
        ("zai-org/GLM-4.5-Air", "glm-4.5-air", "Q4_K_M"),
        ("ibm-granite/granite-4.0-h-small", "granite4:small-h", "Q4_K_M"),
    ],
)
def test_a_model_is_found_as_ollama_hugging_face_and_files_spell_it(
    spelling: str, name: str, quantization: str
) -> None:
    shape = catalogue.find(spelling)
    assert (shape.name, shape.quantization, shape.source) == (name, quantization, "catalogue")


def test_every_name_and_alias_leads_to_its_own_model() -> None:
    for name in catalogue.models():
        entry = catalogue.entry(name)
        assert entry.name == name
        assert {catalogue.entry(alias).name for alias in entry.aliases} <= {name}
        assert entry.source


def test_a_name_that_nobody_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(NotInCatalogue) as refusal:
        catalogue.find("qwen2.5-coder:15b")  # no 1.5b either
    assert "qwen2.5-coder:14b" in refusal.value.hint
    with pytest.raises(NotInCatalogue):
        catalogue.find("utterly unknown")


def test_a_quantisation_that_no_recipe_makes_is_refused_instead_of_guessed() -> None:
    with pytest.raises(NotInCatalogue, match="Q4_K_XL"):
        catalogue.find("Qwen3-32B-UD-Q4_K_XL.gguf")


@given(st.text(max_size=60))
def test_any_text_is_a_model_or_refused(text: str) -> None:
    try:
        found = catalogue.find(text).name
    except NotInCatalogue:
        found = ""
    assert not found or found in catalogue.models()


@given(st.sampled_from(catalogue.models()), st.sampled_from(sorted(set(RECIPES) - {"MXFP4"})))
def test_every_recipe_makes_a_file_of_every_model_no_larger_than_single_precision(name: str, recipe: str) -> None:
    shape = catalogue.find(f"{name}-{recipe}")
    assert shape.quantization == recipe
    assert shape.parameters * 0.3 < shape.weight_bytes <= shape.parameters * 4


def test_contexts_are_those_of_the_configuration_and_scaling_is_told() -> None:
    oss = catalogue.find("gpt-oss:20b")
    assert (oss.trained_context, oss.original_context, oss.window) == (131072, 4096, 128)
    assert catalogue.find("qwen3-coder:30b").trained_context == 262144
    assert catalogue.find("qwen2.5-coder:14b").trained_context == 32768


def test_what_a_reader_should_know_of_a_model_comes_with_its_shape() -> None:
    assert any("YaRN" in note for note in catalogue.find("qwen2.5-coder:32b").notes)


def test_the_file_holds_nothing_that_is_read_by_nobody() -> None:
    text = (Path(catalogue.__file__).with_name("catalogue.toml")).read_text(encoding="utf-8")
    known = {"name", "aliases", "architecture", "tied", "keys_are_values", "quantization", "source", "note", "metadata"}
    rows = tomllib.loads(text)["model"]
    assert {key for row in rows for key in row} <= known
    assert len({row["name"] for row in rows}) == len(rows)
