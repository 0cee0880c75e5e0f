"""A card of calibration as a picture: reliability, risk against coverage, and evidence against questions that go on."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hub.calibrating.card import Card
from hub.errors import EvaluationError

_FORMATS = (".png", ".svg", ".pdf")
_NAME = "calibration.png"  # in a folder


def check(target: Path) -> None:
    """Raises EvaluationError for what could not be drawn, before anything is asked."""
    if not target.is_dir() and target.suffix.lower() not in _FORMATS:
        raise EvaluationError(
            f"{target} names no kind of picture.", f"Let it end in {', '.join(_FORMATS)}, or name a folder."
        )
    if find_spec("matplotlib") is None:
        raise EvaluationError(
            "Pictures need matplotlib, which is not installed.", "pip install 'code-knowledge-hub[plots]'"
        )


def draw(target: Path, card: Card) -> Path:
    """The file that was drawn, inside of ``target`` where that is a folder. Raises EvaluationError."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow

    file = target / _NAME if target.is_dir() else target
    picture = Figure(figsize=(15, 4.8), layout="constrained")
    reliability, risk, escalated = picture.subplots(1, 3)
    picture.suptitle(
        f"{card.workspace}: confidence in a prompt of 16K tokens, on held-out questions", fontsize="medium"
    )
    _reliability(reliability, card)
    _risk(risk, card)
    _escalated(escalated, card)
    try:
        picture.savefig(file)
    except OSError as error:
        raise EvaluationError(f"{file} cannot be written: {error.strerror}.", "Check the path of --plot.") from None
    return file


def _reliability(panel: Any, card: Card) -> None:
    panel.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--", label="as it should be")
    for points, colour, label in (
        (card.curves.reliability_before, "tab:gray", "as it ships"),
        (card.curves.reliability, "tab:blue", "calibrated"),
    ):
        panel.plot([point.x for point in points], [point.y for point in points], color=colour, linewidth=0.8)
        sizes = [12 + 2 * point.number**0.5 * 2 for point in points]
        panel.scatter([point.x for point in points], [point.y for point in points], s=sizes, color=colour, label=label)
    _label(panel, "confidence", "share with the evidence")


def _risk(panel: Any, card: Card) -> None:
    points = card.curves.risk
    panel.plot([point.x for point in points], [point.y for point in points], color="tab:blue", label="most sure first")
    for certificate in card.certificates:
        if certificate.holds and not certificate.group and certificate.budget == 16_384:
            panel.axhline(certificate.alpha, color="tab:gray", linewidth=0.8, linestyle=":")
            panel.plot(
                certificate.accepted / certificate.tested,
                certificate.wrong / certificate.accepted,
                "o",
                label=f"certified at {certificate.alpha:.0%}",
            )
    _label(panel, "share of questions accepted", "share of those without the evidence")


def _escalated(panel: Any, card: Card) -> None:
    for points, colour, label in (
        (card.curves.escalated_by_oracle, "tab:green", "as one would who knew"),
        (card.curves.escalated, "tab:blue", "those that promise most first"),
        (card.curves.escalated_by_chance, "tab:gray", "by chance"),
    ):
        panel.plot([point.x for point in points], [point.y for point in points], color=colour, label=label)
    _label(panel, "share of questions that go on to the wide prompt", "share with the evidence", bottom=None)


def _label(panel: Any, across: str, up: str, bottom: float | None = 0.0) -> None:
    panel.set_xlabel(across)
    panel.set_ylabel(up)
    panel.set_xlim(0, 1)
    if bottom is not None:
        panel.set_ylim(bottom, None)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize="small")
