"""``codehub extend-context``, as its users run it."""

import json
import shutil
from pathlib import Path

import pytest

from hub.backends import embedded
from hub.capacity import gguf
from hub.cli import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(embedded._packaged_model(), tmp_path / "smol.gguf"))


def test_a_longer_copy_is_made_and_its_use_is_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extend-context", str(model)]) == 0
    out = capsys.readouterr().out
    made = model.with_name("smol-16K.gguf")
    assert gguf.read_header(made).metadata["llama.context_length"] == 16_384
    for told in ("16,384 tokens instead of 8,192", "rope.scaling.type = yarn", "ollama create", "llama-server"):
        assert told in out
    assert "measure-context" in out
    assert "--needle" in out
    assert "warning:" in out


def test_as_json_it_is_one_object(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "long.gguf"
    assert main(["extend-context", str(model), "--factor", "6", "--output", str(target), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(target)
    assert (told["context"], told["context_before"], told["trained_context"], told["factor"]) == (49_152, 8192, 8192, 6)
    assert any("6-fold" in warning for warning in told["warnings"])
    assert str(target) in told["use"]["with llama.cpp"]


def test_nothing_is_overwritten(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = model.with_name("smol-16K.gguf")
    target.write_bytes(b"mine")
    assert main(["extend-context", str(model)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"


def test_a_damaged_model_is_a_sentence_and_a_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes(embedded._packaged_model().read_bytes()[:5_000_000])
    assert main(["extend-context", str(half), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert "bytes are missing" in told["error"]
    assert told["hint"]
    assert [path.name for path in tmp_path.iterdir()] == ["half.gguf"]


@pytest.mark.parametrize("factor", ["1", "0", "-2", "nan", "inf", "much"])
def test_a_factor_that_extends_nothing_is_refused(factor: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["extend-context", "model.gguf", f"--factor={factor}"])
    assert stopped.value.code == 2
    assert "factor" in capsys.readouterr().err
