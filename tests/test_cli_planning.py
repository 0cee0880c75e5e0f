"""`codehub plan`, as its users run it."""

import json
import os
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hub import config, wiring
from hub.backends.embedded import _packaged_model
from hub.capacity import calibration, machine
from hub.cli import main
from tests.support.command import run
from tests.support.fake_ollama import FakeModel, FakeOllama

Shell = Callable[..., tuple[int, str]]
CARD = ("--gpu", "RTX 4080 16GB", "--ram", "32GB DDR5-5600")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("CODEHUB_OLLAMA_HOST", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--data", str(tmp_path / "data")])
        told = capsys.readouterr()
        return code, told.out + ("" if code < 2 else told.err)

    return run


def shape(shell: Shell, *arguments: str) -> Any:
    code, out = shell("plan", *arguments, "--json")
    assert code < 2, out
    return json.loads(out)


def test_a_plan_says_what_to_take_and_why_and_shows_the_other_contexts(shell: Shell) -> None:
    code, out = shell("plan", "qwen2.5-coder:14b", *CARD)
    assert code == 0
    assert "Recommended: 32K" in out
    assert "RTX 4080" in out
    for word in ("Why", "Mind", "64K*", "trained on", "tokens/s", "card", "RAM"):
        assert word in out


@pytest.mark.parametrize(
    "more", [(), ("--all",), ("--rules",), ("--users", "3"), ("--context", "10M"), ("--kv", "q4_0")]
)
def test_nothing_that_is_printed_is_wider_than_the_terminal(shell: Shell, more: tuple[str, ...]) -> None:
    _, out = shell("plan", "qwen3-coder:30b", *CARD, *more)
    assert max(map(len, out.splitlines())) <= 80


def test_json_has_every_way_with_its_bytes_and_seconds(shell: Shell) -> None:
    told = shape(shell, "gpt-oss:20b", *CARD)
    assert told["model"]["experts"] == 32
    assert {row["placement"] for row in told["rows"]} == {
        "gpu",
        "experts-in-ram",
        "layers-on-cpu",
        "kv-in-ram",
        "cpu",
    }
    for row in told["rows"]:
        for where in ("card", "host"):
            memory = row["memory"][where]
            assert memory["total"] == sum(size for kind, size in memory.items() if kind != "total")
        for speed in ("decode_full", "decode_empty", "prefill_cold", "prefill_warm"):
            assert row[speed]["tokens_s"] > 0
            assert row[speed]["limit"] in [term["name"] for term in row[speed]["terms"]]
    assert told["recommended"] in told["rows"]
    assert {note["code"] for note in told["reasons"]} >= {"placement", "context", "kv", "speed", "prefill"}


def test_without_a_model_all_known_ones_are_ranked(shell: Shell) -> None:
    code, out = shell("plan", *CARD, "--context", "32K")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert out.index("qwen3-coder:30b") < out.index("llama3.1:8b")
    told = shape(shell, *CARD, "--context", "32K")
    assert len(told["models"]) > 40
    assert all("recommended" in model for model in told["models"])


def test_several_models_are_compared_in_one_table(shell: Shell) -> None:
    code, out = shell("plan", "llama3.1:8b", "gpt-oss:20b", *CARD)
    assert code == 0
    assert out.index("gpt-oss:20b") < out.index("llama3.1:8b")
    assert "qwen" not in out


def test_a_file_is_planned_by_its_own_numbers(shell: Shell) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    model = _packaged_model()
    if model is None:
        pytest.skip("the packaged model is not installed")
    told = shape(shell, str(model), *CARD)
    assert told["model"]["source"] == "gguf"
    assert told["model"]["trained_context"] == 8192
    assert told["model"]["weight_bytes"] == pytest.approx(model.stat().st_size, rel=0.05)


def test_a_model_of_ollama_is_planned_by_what_ollama_tells_of_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    length, vocabulary = 512, 1000
    blocks = [
        (f"blk.{number}.{name}.weight", [length, size])
        for number in range(4)
        for name, size in (("attn_q", 512), ("attn_k", 128), ("attn_v", 128), ("ffn_down", 512))
    ]
    tensors = [("token_embd.weight", [length, vocabulary]), ("output.weight", [length, vocabulary]), *blocks]
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 4,
        "llama.context_length": 8192,
        "llama.embedding_length": length,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2,
    }
    shown = {
        "model_info": metadata,
        "tensors": [{"name": name, "type": "F16", "shape": sizes} for name, sizes in tensors],
    }
    with FakeOllama(models=(FakeModel("mine:latest"),), show=shown) as fake:
        monkeypatch.setenv("CODEHUB_OLLAMA_HOST", fake.url)
        told = shape(shell, "mine", *CARD)
        assert fake.bodies("/api/show")[0]["verbose"] is True
    assert told["model"]["source"] == "ollama"
    assert told["model"]["weight_bytes"] == 2 * sum(rows * columns for _, (rows, columns) in tensors)
    first = told["rows"][0]
    assert first["memory"]["card"]["kv"] == 4 * 8192 * 2 * (64 + 64) * 2


def test_a_file_that_is_cut_short_is_an_error_with_a_sentence(shell: Shell, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0\xff\xff\xff")
    code, out = shell("plan", str(broken), *CARD)
    assert code == 2
    assert "broken.gguf" in out


def test_a_file_that_is_not_there_is_an_error_with_a_sentence(shell: Shell) -> None:
    code, out = shell("plan", "nowhere/model.gguf", *CARD)
    assert code == 2
    assert "nowhere/model.gguf" in out


def test_an_unknown_model_is_answered_with_the_nearest_names(shell: Shell) -> None:
    code, out = shell("plan", "qwen2.5-codr:14b", *CARD)
    assert code == 2
    assert "qwen2.5-coder:14b" in out


def test_an_unknown_card_is_answered_with_the_nearest_names(shell: Shell) -> None:
    code, out = shell("plan", "llama3.1:8b", "--gpu", "RTX 4081", "--ram", "32GB")
    assert code == 2
    assert "RTX 4080" in out


def test_ten_million_tokens_end_with_what_is_missing(shell: Shell) -> None:
    code, out = shell("plan", "llama3.1:8b", *CARD, "--context", "10M")
    assert code == 1
    assert "Nothing fits" in out
    assert "GiB" in out


@pytest.mark.parametrize("text", ["", "0", "-1", "K", "12Q", "9" * 400, "2000M", "1.5K"])
def test_a_context_that_is_no_number_is_refused_before_anything_is_done(shell: Shell, text: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        shell("plan", "llama3.1:8b", f"--context={text}")
    assert stopped.value.code == 2


def test_contexts_are_read_as_people_write_them(shell: Shell) -> None:
    told = shape(shell, "llama3.1:8b", *CARD, "--context", "32k", "--context", "131,072", "--context", "10000")
    assert sorted({row["context"] for row in told["rows"]}) == [10000, 32768, 131072]


@pytest.mark.parametrize(
    ("model", "more", "key"),
    [
        ("qwen3-coder:30b", (), "ram_experts"),
        ("qwen2.5-coder:32b", ("--context", "16K"), "gpu_layers"),
        ("llama3.1:8b", ("--users", "2", "--context", "8K"), "parallel"),
        ("qwen2.5-coder:7b", ("--context", "64K"), "yarn_factor"),
    ],
)
def test_what_is_recommended_can_be_set_as_it_is_printed(
    shell: Shell, tmp_path: Path, model: str, more: tuple[str, ...], key: str
) -> None:
    told = shape(shell, model, *CARD, *more)
    assert key in told["profile"]
    _, out = shell("plan", model, *CARD, *more)
    printed = out[out.index("[profile]") :].split("\n\n")[0]
    assert tomllib.loads(printed)["profile"] == told["profile"]
    (tmp_path / "codehub.toml").write_text(printed, encoding="utf-8")
    settings = config.load({"data": tmp_path}, {}, tmp_path)
    for name, value in told["profile"].items():
        assert getattr(settings, f"profile_{name}") == value
    assert wiring.profile(settings).context == told["recommended"]["context"]


def test_what_was_measured_here_corrects_the_plan_and_is_named(shell: Shell, tmp_path: Path) -> None:
    before = shape(shell, "smollm2:135m", "--context", "2K")["rows"][0]
    here = machine.detect()
    entry = calibration.Entry(
        calibration.machine_key(here),
        "llama.cpp",
        "smollm2:135m",
        "2026-01-02T00:00:00",
        decode=0.5,
        prefill=2.0,
        rows=5,
    )
    calibration.store(tmp_path / "data", entry)
    after = shape(shell, "smollm2:135m", "--context", "2K")["rows"][0]
    assert after["decode_full"]["tokens_s"] == pytest.approx(before["decode_full"]["tokens_s"] / 2)
    assert after["prefill_cold"]["seconds"] == pytest.approx(before["prefill_cold"]["seconds"] / 2)
    _, out = shell("plan", "smollm2:135m", "--context", "2K")
    assert "smollm2:135m on 2026-01-02" in " ".join(out.split())
    elsewhere = shape(shell, "smollm2:135m", "--context", "2K", *CARD)
    assert elsewhere["calibration"]["decode"] == 1


def test_a_damaged_measurement_is_named_and_left_out(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "calibration.json").write_text("{", encoding="utf-8")
    told = shape(shell, "smollm2:135m", "--context", "2K")
    assert told["calibration"]["decode"] == 1
    assert any("damaged" in note for note in told["machine"]["notes"])


def test_rules_of_thumb_are_shown_with_how_far_they_are_off(shell: Shell) -> None:
    _, out = shell("plan", "gemma3:12b", *CARD, "--rules")
    assert "0.7 GB a billion parameters" in out
    assert "Ollama's own prediction" in out
    told = shape(shell, "gemma3:12b", *CARD, "--rules")["rules"]
    assert all(rule["off"] == pytest.approx(rule["says"] / rule["computed"] - 1) for rule in told)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra `plots`")
@pytest.mark.parametrize("model", ["qwen3-coder:30b", "qwen3.6:35b-a3b", "qwen2.5:72b"])
def test_a_plan_is_drawn(shell: Shell, tmp_path: Path, model: str) -> None:
    picture = tmp_path / "plan.svg"
    code, out = shell("plan", model, *CARD, "--plot", str(picture))
    assert code < 2, out
    text = picture.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert "KV cache" in text or "path" in text


@pytest.mark.skipif(find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_a_picture_without_matplotlib_is_refused_with_how_to_get_it(shell: Shell, tmp_path: Path) -> None:
    code, out = shell("plan", "llama3.1:8b", *CARD, "--plot", str(tmp_path / "plan.png"))
    assert code == 2
    assert "matplotlib" in out


def test_a_picture_of_no_known_kind_is_refused(shell: Shell, tmp_path: Path) -> None:
    code, out = shell("plan", "llama3.1:8b", *CARD, "--plot", str(tmp_path / "plan.doc"))
    assert code == 2
    assert ".png" in out


def test_this_machine_is_planned_for_in_a_process_of_its_own(tmp_path: Path) -> None:
    settings = {"CODEHUB_OLLAMA_HOST": "http://127.0.0.1:9"}
    done = run(["plan", "smollm2:135m", "--task", "refactoring", "--json"], tmp_path / "data", settings)
    assert done.code in {0, 1}, done.err
    assert done.json()["machine"]["cores"] >= 1
