"""A measurement as a whole: its JSON, and its tables as Markdown that a terminal shows as well. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from hub.capacity.calibration import Comparison, error
from hub.capacity.model import Calibration
from hub.measuring.findings import reach, recall_breaks
from hub.measuring.model import NeedleCell, Row, Subject

_GIB, _MIB = 1 << 30, 1 << 20
_VERSION = 1
_COLUMNS = ("context", "read", "VRAM", "RAM", "prefill", "decode", "cold", "warm", "status")
_UNITS = ("tokens", "tokens", "GiB", "GiB", "tokens/s", "tokens/s", "s", "s", "")


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, of what, when (ISO 8601), and whether it came to its end."""

    subject: Subject
    date: str
    complete: bool
    rows: tuple[Row, ...]
    text: str = ""  # where what was read came from
    cells: tuple[NeedleCell, ...] = ()
    compared: Comparison | None = None
    before: Calibration | None = None  # what plans were corrected by until now
    after: Calibration | None = None
    notes: tuple[str, ...] = ()


def shape(report: Report) -> dict[str, Any]:
    """The report as JSON. Keys only ever get added; sizes are bytes, times seconds."""
    broken, why = recall_breaks(report.cells)
    return {
        "version": _VERSION,
        "date": report.date,
        "complete": report.complete,
        "subject": asdict(report.subject),
        "text": report.text,
        "rows": [_row_shape(row) for row in report.rows],
        "reach": asdict(reach(report.rows)),
        "needle": {
            "cells": [asdict(cell) for cell in report.cells],
            "reads_up_to": broken,
            "reason": why,
        }
        if report.cells
        else None,
        "calibration": _calibration_shape(report),
        "notes": list(report.notes),
    }


def table(rows: Sequence[Row]) -> str:
    """The rows by context, a line each, and a line of units."""
    lines = [_COLUMNS, _UNITS]
    lines += [
        (
            f"{row.context:,}",
            f"{row.prompt_tokens:,}" if row.prompt_tokens else "-",
            _gib(row.peak.gpu_taken),
            _gib(row.peak.rss or None),
            _number(row.prefill_overall_tokens_s),
            _number(row.decode_tokens_s),
            _number(row.first_cold_s),
            _number(row.first_warm_s),
            row.status + (f" ({row.alert}%)" if row.alert else ""),
        )
        for row in sorted(rows, key=lambda row: row.context)
    ]
    return _aligned(lines)


def needle_table(cells: Sequence[NeedleCell]) -> str:
    """Depth by context: answers in words, and right choices, of as many facts."""
    contexts = sorted({cell.context for cell in cells})
    at = {(cell.context, cell.depth): cell for cell in cells}
    lines = [("depth", *(f"{context:,}" for context in contexts))]
    for depth in sorted({cell.depth for cell in cells}):
        found = [at.get((context, depth)) for context in contexts]
        lines.append((f"{depth:.0%}", *(_cell(cell) if cell else "-" for cell in found)))
    return _aligned(lines)


def sentences(report: Report) -> list[str]:
    """What the numbers mean, a sentence or two each."""
    found = reach(report.rows)
    said = [f"Largest safe context: {found.safe:,} tokens. {found.safe_reason}"]
    said.append(f"Latency knee: {found.knee:,} tokens. {found.knee_reason}" if found.knee else found.knee_reason)
    said += [f"{row.context:,}: {row.status}. {row.reason}" for row in report.rows if row.reason]
    if report.cells:
        upto, why = recall_breaks(report.cells)
        said.append(f"Hidden facts are found up to {upto:,} tokens. {why}")
    said += _calibrated(report)
    if any(row.summed for row in report.rows):
        said.append("Cold times add what was read before for shorter contexts, because the engine kept it.")
    return [*said, *report.notes]


def document(report: Report) -> str:
    """The report as Markdown, without a title."""
    parts = [table(report.rows)]
    if report.cells:
        parts.append("Facts found by words / by choice, of those hidden, by depth and context:")
        parts.append(needle_table(report.cells))
    parts.append("\n".join(f"- {line}" for line in sentences(report)))
    return "\n\n".join(parts) + "\n"


def _row_shape(row: Row) -> dict[str, Any]:
    peak = row.peak
    memory = {
        "gpu_bytes": peak.gpu_taken,
        "gpu_used_bytes": peak.gpu,
        "gpu_total_bytes": peak.gpu_total,
        "engine_ram_bytes": peak.rss or None,
        "ram_used_bytes": peak.ram or None,
        "ram_total_bytes": peak.ram_total or None,
    }
    plain = {key: value for key, value in asdict(row).items() if key != "peak"}
    return {**plain, "status": row.status.value, **memory}


def _calibration_shape(report: Report) -> dict[str, Any] | None:
    if report.compared is None or report.after is None:
        return None
    before = report.before or Calibration()
    compared = report.compared
    return {
        "decode": {
            "pairs": [asdict(pair) for pair in compared.decode],
            "error_before": error(compared.decode, before.decode),
            "error_after": error(compared.decode, report.after.decode),
        },
        "prefill": {
            "pairs": [asdict(pair) for pair in compared.prefill],
            "error_before": error(compared.prefill, before.prefill),
            "error_after": error(compared.prefill, report.after.prefill),
        },
        "card": {"pairs": [asdict(pair) for pair in compared.card], "overhead": report.after.overhead},
        "host": {"pairs": [asdict(pair) for pair in compared.host]},
        "factors": {"decode": report.after.decode, "prefill": report.after.prefill},
    }


def _calibrated(report: Report) -> list[str]:
    if report.compared is None or report.after is None:
        return []
    before, after = report.before or Calibration(), report.after
    said = []
    for name, pairs, old, new in (
        ("Decoding", report.compared.decode, before.decode, after.decode),
        ("Prefill", report.compared.prefill, before.prefill, after.prefill),
    ):
        if pairs:
            said.append(
                f"{name}: the plan was off by a factor of {1 + error(pairs, old):.2f}, the corrected one by"
                f" {1 + error(pairs, new):.2f}, over {len(pairs)} contexts: {new:.2f} of what data sheets say."
            )
    if after.overhead is not None:
        said.append(f"The card holds {after.overhead / _GIB:.2f} GiB beyond what is computed.")
    host = report.compared.host
    if host:
        more = median(pair.measured - pair.planned for pair in host) / _MIB
        said.append(
            f"Main memory: the engine's process, its own code included, held {more:+,.0f} MiB against the plan."
        )
    return said


def _cell(cell: NeedleCell) -> str:
    choice = f" / {cell.chosen}" if cell.chosen is not None else ""
    place = f" (rank {cell.rank:.1f})" if cell.rank is not None else ""
    return f"{cell.recalled}{choice} of {cell.facts}{place}"


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / _GIB:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand below each other, the first line its head."""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    padded = [[cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    shown = [f"| {' | '.join(cells)} |" for cells in padded]
    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])
