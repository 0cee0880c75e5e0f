"""What measuring on a machine has shown, kept in the data folder and handed to the next plan.

A correction is two ratios (measured over planned speed) and one number of bytes, each the median over the measured
rows. The median makes the promise that matters: the sum of the absolute errors over these rows, in bytes and in
logarithms of speeds, is never larger with the correction than without it. Knows nothing of how anything was measured.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from hub.capacity import memory, speed
from hub.capacity.model import Calibration, Load, Machine, ModelShape
from hub.errors import MeasuringError

# Factors beyond these say that something else was measured than was planned: another card, a cache, a busy machine.
LEAST_FACTOR, LARGEST_FACTOR = 0.02, 50.0
# Measurements that are kept, newest first, over all machines and models. 20 to 1,000.
MOST_ENTRIES = 200
# Bytes of a file that is worth reading: 200 entries take 80 kB.
MOST_BYTES = 4 << 20

_FILE = "calibration.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """One quantity at one context, as planned and as measured; both above 0."""

    context: int
    planned: float
    measured: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Planned against measured, row by row. Speeds are tokens a second, memory bytes of the card without overhead.

    ``host`` is bytes of main memory; it is shown and not corrected, for what a process keeps there is the engine's.
    """

    decode: tuple[Pair, ...] = ()
    prefill: tuple[Pair, ...] = ()
    card: tuple[Pair, ...] = ()
    host: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What was measured with ``prompt_tokens`` in a window of ``context``; None where it was not."""

    context: int
    prompt_tokens: int
    decode_tokens_s: float | None = None
    prefill_tokens_s: float | None = None  # of the whole prompt, cold
    card_bytes: int | None = None
    host_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What one measurement of one model on one machine has shown. ``date`` is ISO 8601."""

    machine: str
    engine: str
    model: str
    date: str
    decode: float | None = None
    prefill: float | None = None
    overhead: int | None = None
    rows: int = 0


def machine_key(machine: Machine) -> str:
    """What a machine is recognised by: its cards and their memory, its cores, main memory to the next GiB."""
    card = machine.gpu
    cards = f"{card.count}x {card.name} {round(card.memory / 2**30)} GiB" if card else "no card"
    return f"{cards}; {machine.cores} cores, {round(machine.ram / 2**30)} GiB"


def compare(shape: ModelShape, machine: Machine, load: Load, observed: Sequence[Observed]) -> Comparison:
    """Uncorrected plans beside what was measured. ``load`` says how the model was loaded; its context is each row's."""
    decode: list[Pair] = []
    prefill: list[Pair] = []
    card: list[Pair] = []
    host: list[Pair] = []
    for row in observed:
        loaded = replace(load, context=row.context)
        need = memory.need(shape, loaded, Calibration(overhead=0))
        if row.decode_tokens_s:
            planned = speed.decode_tokens_s(shape, loaded, machine, used=row.prompt_tokens)
            decode.append(Pair(row.context, planned, row.decode_tokens_s))
        if row.prefill_tokens_s:
            planned = row.prompt_tokens / speed.prefill_s(shape, loaded, machine, row.prompt_tokens)
            prefill.append(Pair(row.context, planned, row.prefill_tokens_s))
        if row.card_bytes and need.gpu.total:
            card.append(Pair(row.context, need.gpu.total, row.card_bytes))
        if row.host_bytes and need.host.total:
            host.append(Pair(row.context, need.host.total, row.host_bytes))
    return Comparison(tuple(decode), tuple(prefill), tuple(card), tuple(host))


def fit(compared: Comparison) -> Calibration:
    """The correction that brings the plan nearest to what was measured; neutral where there is nothing to go by."""
    return Calibration(
        overhead=_overhead(compared.card), decode=_factor(compared.decode), prefill=_factor(compared.prefill)
    )


def error(pairs: Sequence[Pair], factor: float = 1.0) -> float:
    """The mean distance of ``planned * factor`` from ``measured``, as a share: 0.1 means 10% off on average.

    It is the exponential of the mean absolute logarithm of the ratio, less one. 0 for no pairs.
    """
    if not pairs:
        return 0.0
    distances = [abs(math.log(pair.planned * factor / pair.measured)) for pair in pairs]
    return math.exp(math.fsum(distances) / len(distances)) - 1.0


def load(data: Path, machine: Machine, engine: str = "", model: str = "") -> Calibration:
    """What is known of this machine, the neutral Calibration where that is nothing.

    Entries of the same engine and model count alone where there are any, else those of the engine, else all of the
    machine; of each model the newest. A file that is damaged counts as none: see ``damage``.
    """
    key = machine_key(machine)
    here = [entry for entry in _read(data)[0] if entry.machine == key]
    for wanted_engine, wanted_model in ((engine, model), (engine, ""), ("", "")):
        chosen = [
            one
            for one in here
            if wanted_engine in {"", one.engine} and (not wanted_model or _plain(wanted_model) == _plain(one.model))
        ]
        if chosen:
            return _joined(chosen)
    return Calibration()


def entries(data: Path) -> tuple[Entry, ...]:
    """Everything that is kept, newest first."""
    return _read(data)[0]


def damage(data: Path) -> str:
    """A sentence that says why what was kept is not used; empty where nothing is wrong."""
    return _read(data)[1]


def store(data: Path, entry: Entry) -> None:
    """Keeps an entry in place of the one of the same machine, engine and model. Raises MeasuringError."""
    same = (entry.machine, entry.engine, entry.model)
    others = [old for old in _read(data)[0] if (old.machine, old.engine, old.model) != same]
    kept = [entry, *others][:MOST_ENTRIES]
    text = json.dumps({"version": _VERSION, "entries": [asdict(one) for one in kept]}, indent=1)
    temporary = ""
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=data, prefix=_FILE, suffix=".new", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(data / _FILE)
    except OSError as failure:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise MeasuringError(
            f"What was measured cannot be kept in {data}: {failure.strerror}.",
            "Make room or name another folder with --data; the next plan is as good as before.",
        ) from None


def _plain(model: str) -> str:
    """A model's name, be it given as a path or as an engine tells it."""
    return model.replace("\\", "/").rsplit("/", 1)[-1].lower().removesuffix(".gguf").removesuffix(":latest")


def _factor(pairs: Sequence[Pair]) -> float:
    ratios = [pair.measured / pair.planned for pair in pairs if pair.planned > 0 and pair.measured > 0]
    return min(max(math.exp(median(map(math.log, ratios))), LEAST_FACTOR), LARGEST_FACTOR) if ratios else 1.0


def _overhead(pairs: Sequence[Pair]) -> int | None:
    return max(0, round(median(pair.measured - pair.planned for pair in pairs))) if pairs else None


def _joined(chosen: Sequence[Entry]) -> Calibration:
    decode = [entry.decode for entry in chosen if entry.decode is not None]
    prefill = [entry.prefill for entry in chosen if entry.prefill is not None]
    overhead = [entry.overhead for entry in chosen if entry.overhead is not None]
    told = ", ".join(f"{entry.model} on {entry.date[:10]}" for entry in chosen[:3])
    return Calibration(
        overhead=round(median(overhead)) if overhead else None,
        decode=math.exp(median(map(math.log, decode))) if decode else 1.0,
        prefill=math.exp(median(map(math.log, prefill))) if prefill else 1.0,
        measured=told + (f" and {len(chosen) - 3} more" if len(chosen) > 3 else ""),
    )


def _read(data: Path) -> tuple[tuple[Entry, ...], str]:
    file = data / _FILE
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return (), ""
    except OSError as failure:
        return (), f"{file} cannot be read ({failure.strerror}), so plans are not corrected by what was measured."
    damaged = f"{file} is damaged, so plans are not corrected by what was measured; measure-context writes it anew."
    if len(raw) > MOST_BYTES:
        return (), damaged
    try:
        told = json.loads(raw)
        if told["version"] != _VERSION:
            return (), damaged
        return tuple(_entry(one) for one in told["entries"]), ""
    except (ValueError, TypeError, KeyError, RecursionError):
        return (), damaged


def _entry(told: Mapping[str, Any]) -> Entry:
    """Raises TypeError or ValueError for what no ``store`` has written."""
    made = Entry(**told)
    texts = (made.machine, made.engine, made.model, made.date)
    factors = [factor for factor in (made.decode, made.prefill) if factor is not None]
    if not all(isinstance(text, str) for text in texts) or not isinstance(made.rows, int):
        raise TypeError
    if not all(isinstance(factor, int | float) and LEAST_FACTOR <= factor <= LARGEST_FACTOR for factor in factors):
        raise ValueError
    if made.overhead is not None and (not isinstance(made.overhead, int) or made.overhead < 0):
        raise ValueError
    return made
