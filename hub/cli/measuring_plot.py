"""A measurement as a picture: memory, speeds and waiting against the context, and facts found by depth and context."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hub.errors import MeasuringError
from hub.measuring.findings import reach
from hub.measuring.model import ANSWERED, FULL_PERCENT, NeedleCell
from hub.measuring.report import Report

_FORMATS = (".png", ".svg", ".pdf")
_GIB = 1 << 30


def check(file: Path) -> None:
    """Raises MeasuringError for what could not be drawn, before anything is measured."""
    if file.suffix.lower() not in _FORMATS:
        raise MeasuringError(f"{file} names no kind of picture.", f"Let it end in {', '.join(_FORMATS)}.")
    if find_spec("matplotlib") is None:
        raise MeasuringError(
            "Pictures need matplotlib, which is not installed.", "pip install 'code-knowledge-hub[plots]'"
        )


def draw(file: Path, report: Report) -> None:
    """Raises OSError where the file cannot be written."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow

    picture = Figure(figsize=(9, 11 if report.cells else 8.5), layout="constrained")
    panels = picture.subplots(4 if report.cells else 3, 1)
    picture.suptitle(f"{report.subject.model}, {report.subject.engine}, {report.subject.machine}", fontsize="medium")
    rows = sorted((row for row in report.rows if row.status in ANSWERED), key=lambda row: row.context)
    contexts = [row.context for row in rows]
    memory, speed, wait = panels[:3]
    memory.plot(contexts, [row.peak.rss / _GIB for row in rows], marker="o", label="main memory of the engine")
    if any(row.peak.gpu_taken is not None for row in rows):
        memory.plot(contexts, [(row.peak.gpu_taken or 0) / _GIB for row in rows], marker="s", label="card")
    total = next((row.peak.gpu_total or row.peak.ram_total for row in rows), 0)
    highest = max((row.peak.rss for row in rows), default=0)
    if total and highest > total / 4:  # farther away the line would hide what was measured
        memory.axhline(total * FULL_PERCENT / 100 / _GIB, color="black", linestyle="--", label=f"{FULL_PERCENT}%")
    memory.set_ylabel("GiB")
    speed.plot(contexts, [row.prefill_overall_tokens_s for row in rows], marker="o", label="reading")
    speed.plot(contexts, [row.decode_tokens_s for row in rows], marker="s", label="writing")
    speed.set_ylabel("tokens/s")
    wait.plot(contexts, [row.first_cold_s for row in rows], marker="o", label="cold")
    wait.plot(contexts, [row.first_warm_s for row in rows], marker="s", label="warm")
    wait.set_ylabel("s to the first token")
    found = reach(report.rows)
    for panel in (memory, speed, wait):
        panel.set_ylim(bottom=0)
        if found.knee:
            panel.axvline(found.knee, color="tab:gray", linestyle=":", label="knee")
        panel.legend(fontsize="small")
        panel.set_xticks(contexts, [f"{context:,}" for context in contexts], rotation=30)
    if report.cells:
        _grid(panels[3], report.cells)
    picture.savefig(file)


def _grid(panel: Any, cells: tuple[NeedleCell, ...]) -> None:
    """Shares found, by choice where that was asked."""
    contexts = sorted({cell.context for cell in cells})
    depths = sorted({cell.depth for cell in cells})
    shares = {
        (cell.depth, cell.context): (cell.recalled if cell.chosen is None else cell.chosen) / cell.facts
        for cell in cells
    }
    grid = [[shares.get((depth, context), float("nan")) for context in contexts] for depth in depths]
    panel.imshow(grid, aspect="auto", vmin=0, vmax=1, cmap="RdYlGn")
    panel.set_xticks(range(len(contexts)), [f"{context:,}" for context in contexts])
    panel.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    panel.set_ylabel("depth of the fact")
    for line, values in enumerate(grid):
        for column, value in enumerate(values):
            panel.text(column, line, f"{value:.0%}", ha="center", va="center")
