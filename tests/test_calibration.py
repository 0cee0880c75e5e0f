"""What measuring teaches the next plan: never a worse one, never a stranger's, and nothing out of a damaged file."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.backends.embedded import EmbeddedBackend
from hub.capacity import architecture, calibration, gguf, memory, speed
from hub.capacity.calibration import Comparison, Entry, Observed, Pair
from hub.capacity.model import Calibration, Gpu, Load, Machine, ModelShape, Placement
from hub.errors import BackendUnavailable, MeasuringError

GIB = 1 << 30
LAPTOP = Machine(None, 16 * GIB, 12 * GIB, 40e9, 8, 800e9)
TOWER = Machine(Gpu("RTX 4080", 16 * GIB, 15 * GIB, 717e9, 97e12, 26e9), 64 * GIB, 60 * GIB, 70e9, 16, 2e12)
# SmolLM2-135M in the embedded engine on two shared cores, as `codehub measure-context` printed it.
MEASURED = [
    Observed(512, 371, 43.9, 90.3, None, 221_556_736),
    Observed(1024, 875, 36.6, 84.5, None, 234_635_264),
    Observed(2048, 1904, 23.3, 73.1, None, 258_859_008),
    Observed(8192, 8045, 7.0, 41.3, None, 380_448_768),
]
SHARED = Machine(None, 24 * GIB, 20 * GIB, 20e9, 2, 100e9)

speeds = st.floats(1e-3, 1e6)
pairs = st.lists(st.builds(Pair, st.integers(1, 10**6), speeds, speeds), min_size=1, max_size=12).map(tuple)


@pytest.fixture(scope="module")
def smollm2() -> ModelShape:
    try:
        file = EmbeddedBackend().model_file
    except BackendUnavailable as missing:
        pytest.skip(f"needs the packaged model: {missing.message}")
    header = gguf.read_header(file)
    return architecture.shape_of(header.metadata, header.tensors, name=file.stem, source="gguf")


def entry(machine: Machine = LAPTOP, engine: str = "ollama", model: str = "qwen3:8b", **more: Any) -> Entry:
    return replace(Entry(calibration.machine_key(machine), engine, model, "2026-11-22T10:00:00+00:00"), **more)


@given(pairs)
def test_a_fitted_plan_is_never_farther_from_what_was_measured(measured: tuple[Pair, ...]) -> None:
    fitted = calibration.fit(Comparison(decode=measured, prefill=measured))
    before = calibration.error(measured)
    assert calibration.error(measured, fitted.decode) <= before * (1 + 1e-9) + 1e-9
    assert fitted.decode == fitted.prefill


@given(st.lists(st.builds(Pair, st.just(4096), st.floats(1, 1e11), st.floats(1, 1e11)), min_size=1), st.floats(0, 1e9))
def test_no_other_overhead_fits_the_card_better(card: list[Pair], other: float) -> None:
    fitted = calibration.fit(Comparison(card=tuple(card))).overhead
    assert fitted is not None

    def off(overhead: float) -> float:
        return math.fsum(abs(pair.planned + overhead - pair.measured) for pair in card)

    assert off(fitted) <= off(other) + len(card)


def test_the_next_plan_of_smollm2_is_nearer_to_what_was_measured(smollm2: ModelShape, tmp_path: Path) -> None:
    load = Load(8192, placement=Placement.CPU, batch=128)
    compared = calibration.compare(smollm2, SHARED, load, MEASURED)
    assert len(compared.decode) == len(compared.prefill) == len(compared.host) == len(MEASURED)
    fitted = calibration.fit(compared)
    calibration.store(
        tmp_path, entry(SHARED, "embedded llama.cpp", smollm2.name, decode=fitted.decode, prefill=fitted.prefill)
    )
    known = calibration.load(tmp_path, SHARED, model=f"/models/{smollm2.name}.gguf")

    def off(corrected: Calibration) -> tuple[float, float]:
        rows = [replace(load, context=row.context) for row in MEASURED]
        decode = [
            Pair(
                row.context,
                speed.decode_tokens_s(smollm2, at, SHARED, corrected, used=row.prompt_tokens),
                row.decode_tokens_s or 0,
            )
            for row, at in zip(MEASURED, rows, strict=True)
        ]
        prefill = [
            Pair(
                row.context,
                row.prompt_tokens / speed.prefill_s(smollm2, at, SHARED, row.prompt_tokens, corrected),
                row.prefill_tokens_s or 0,
            )
            for row, at in zip(MEASURED, rows, strict=True)
        ]
        return calibration.error(decode), calibration.error(prefill)

    before, after = off(Calibration()), off(known)
    assert after[0] < before[0]
    assert after[1] < before[1]


def test_main_memory_is_compared_with_what_the_plan_says(smollm2: ModelShape) -> None:
    load = Load(8192, placement=Placement.CPU, batch=128)
    (pair,) = calibration.compare(smollm2, SHARED, load, MEASURED[-1:]).host
    assert pair.planned == memory.need(smollm2, load).host.total
    assert pair.measured == 380_448_768


def test_what_is_kept_comes_back_for_the_same_machine_only(tmp_path: Path) -> None:
    calibration.store(tmp_path, entry(decode=0.5, prefill=0.25, overhead=600 << 20))
    known = calibration.load(tmp_path, LAPTOP)
    assert (known.decode, known.prefill, known.overhead) == (0.5, 0.25, 600 << 20)
    assert "qwen3:8b on 2026-11-22" in known.measured
    assert calibration.load(tmp_path, TOWER) == Calibration()


def test_memory_that_others_take_does_not_make_another_machine() -> None:
    assert TOWER.gpu is not None
    busy = replace(TOWER, ram_free=GIB, gpu=replace(TOWER.gpu, free=GIB))
    assert calibration.machine_key(busy) == calibration.machine_key(TOWER)


def test_the_same_model_counts_before_the_same_engine_and_that_before_all(tmp_path: Path) -> None:
    calibration.store(tmp_path, entry(engine="ollama", model="a", decode=0.5))
    calibration.store(tmp_path, entry(engine="ollama", model="b", decode=0.8))
    calibration.store(tmp_path, entry(engine="llama.cpp", model="c", decode=0.1))
    assert calibration.load(tmp_path, LAPTOP, "ollama", "a").decode == 0.5
    assert calibration.load(tmp_path, LAPTOP, "ollama", "unknown").decode == pytest.approx(math.sqrt(0.5 * 0.8))
    assert calibration.load(tmp_path, LAPTOP, "vllm").decode == pytest.approx(0.5)
    assert calibration.load(tmp_path, LAPTOP, model="C").decode == pytest.approx(0.1)


def test_measuring_again_replaces_what_was_known(tmp_path: Path) -> None:
    for decode in (0.5, 0.9):
        calibration.store(tmp_path, entry(decode=decode))
    assert [one.decode for one in calibration.entries(tmp_path)] == [0.9]


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_ENTRIES", 3)
    for number in range(5):
        calibration.store(tmp_path, entry(model=f"m{number}"))
    assert [one.model for one in calibration.entries(tmp_path)] == ["m4", "m3", "m2"]


@given(st.binary(max_size=200))
def test_a_damaged_file_is_no_calibration_and_is_said(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    data = tmp_path_factory.mktemp("data")
    (data / "calibration.json").write_bytes(junk)
    assert calibration.load(data, LAPTOP) == Calibration()
    assert "is damaged" in calibration.damage(data)
    calibration.store(data, entry(decode=0.5))
    assert calibration.load(data, LAPTOP).decode == 0.5
    assert calibration.damage(data) == ""


@pytest.mark.parametrize(
    "wrong", [{"decode": 0.0}, {"decode": "fast"}, {"overhead": -1}, {"machine": 3}, {"rows": None}, {"extra": 1}]
)
def test_an_entry_that_nobody_wrote_is_damage(tmp_path: Path, wrong: dict[str, object]) -> None:
    calibration.store(tmp_path, entry(decode=0.5))
    file = tmp_path / "calibration.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    told["entries"][0] |= wrong
    file.write_text(json.dumps(told), encoding="utf-8")
    assert calibration.load(tmp_path, LAPTOP) == Calibration()
    assert calibration.damage(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(MeasuringError, match="cannot be kept"):
        calibration.store(tmp_path / "data", entry())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_nothing_is_known_before_anything_was_measured(tmp_path: Path) -> None:
    assert calibration.load(tmp_path / "none", LAPTOP) == Calibration()
    assert calibration.damage(tmp_path / "none") == ""
