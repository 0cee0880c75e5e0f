"""The commands that measure retrieval on the user's own tree and fit it to that tree: evaluate, tune."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from hub import evaluation, wiring
from hub.cli import DONE, NOTHING
from hub.cli.handing import done
from hub.cli.output import print_json, print_notes, settings_of
from hub.cli.progress import interruptible, shown
from hub.config import Settings
from hub.errors import EvaluationError
from hub.evaluation import FUSED, Evaluation, Figure, Interval
from hub.jobs.model import JobKind, Task
from hub.jobs.work import SHIPPED
from hub.labels import LabelKind
from hub.remote.reading import value_from
from hub.retrieval import GLOBAL, Weights, stored_weights
from indexer.index import Index, Workspace

_ASKED = {
    LabelKind.DESCRIPTION: "comment -> its function",
    LabelKind.BODY: "long comment -> body",
    LabelKind.COMMIT: "commit message -> files",
    LabelKind.NAME: "name -> its symbol",
    LabelKind.OWN: "your own questions",
}
_UNCHANGED = "Fitted weights do not find more here, so search ranks with those that ship."
_PLOTS = (".png", ".svg", ".pdf")


def evaluate(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.plot is not None:
        _check_plot(options.plot)  # before minutes are spent on figures that could then not be drawn
    data = wiring.data_folder(settings)
    workspace = wiring.choose_workspace(data.workspaces(), options.workspace, Path.cwd())
    if options.labels is not None:
        result = _on_own_labels(settings, workspace, options.labels)
    else:
        result = _on_snapshot(settings, workspace, options.limit)
    if options.json:
        print_json({"workspace": workspace.name, **asdict(result)})
    else:
        _print(workspace, result)
    if options.plot is not None:
        _draw(options.plot, workspace.name, result.figures)
    return DONE if result.figures else NOTHING


def tune(options: argparse.Namespace) -> int:
    """Fits on the older half of what the tree can be asked, keeps what helps, and tells how the other half fares."""
    settings = settings_of(options)
    data = wiring.data_folder(settings)
    workspace = wiring.choose_workspace(data.workspaces(), options.workspace, Path.cwd())
    shape = done(settings, Task(JobKind.TUNE, workspace.name, {}))
    if options.json:
        print_json(shape)
    else:
        _print(workspace, value_from(Evaluation, shape))
        print(f"Search in {workspace.name} now ranks with weights fitted to it." if shape["kept"] else _UNCHANGED)
    return DONE


def _on_snapshot(settings: Settings, workspace: Workspace, limit: int | None) -> Evaluation:
    """The figures of what is held out; on the other half the weights may have been fitted."""
    with Index.for_reading(wiring.data_folder(settings), workspace.name) as index:
        weights = _weights(settings, index)
    with (
        shown() as progress,
        interruptible() as cancelled,
        evaluation.snapshot(workspace.root, settings, progress, cancelled) as made,
    ):
        labels = [
            label
            for kind in LabelKind
            for label in [label for label in made.labels if label.kind is kind and label.held_out][:limit]
        ]
        embedders, notes = evaluation.usable_embedders(made.index, settings)
        asked = evaluation.judged(made.index, labels, embedders, cancelled)
        figures = evaluation.measure(evaluation.telling(asked, labels, progress), weights)
    return Evaluation(figures, (*made.notes, *notes, *evaluation.few(figures)), made.revision)


def _on_own_labels(settings: Settings, workspace: Workspace, file: Path) -> Evaluation:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{file} cannot be read: {error.strerror}.", "Check the path of --labels.") from None
    except UnicodeDecodeError:
        raise EvaluationError(f"{file} is no UTF-8 text.", "Write one JSON object a line.") from None
    with (
        Index.for_reading(wiring.data_folder(settings), workspace.name) as index,
        shown() as progress,
        interruptible() as cancelled,
    ):
        labels, unknown = evaluation.own_labels(text, index)
        embedders, notes = evaluation.usable_embedders(index, settings)
        asked = evaluation.judged(index, labels, embedders, cancelled)
        figures = evaluation.measure(evaluation.telling(asked, labels, progress), _weights(settings, index))
    return Evaluation(figures, (*unknown, *notes, *evaluation.few(figures)))


def _weights(settings: Settings, index: Index) -> dict[str, Weights]:
    """The weights that search uses, and beside them those that ship where they are others."""
    fitted = stored_weights(index) if settings.retrieval_adapt else None
    return {SHIPPED: GLOBAL, FUSED: fitted} if fitted else {FUSED: GLOBAL}


def _check_plot(file: Path) -> None:
    if file.suffix not in _PLOTS:
        raise EvaluationError(f"{file} names no kind of picture.", f"Let it end in {', '.join(_PLOTS)}.")
    if find_spec("matplotlib") is None:
        raise EvaluationError(
            "Pictures need matplotlib, which is not installed.", "pip install 'code-knowledge-hub[plots]'"
        )


def _print(workspace: Workspace, result: Evaluation) -> None:
    if result.revision is not None:
        print(f"{workspace.name} as it was at {result.revision[:12]}, asked for what was hidden or came later\n")
    if not result.figures:
        print("There is nothing to ask: no comments of functions, no history, no labels.")
    for kind, figures in groupby(result.figures, key=lambda figure: figure.kind):
        told = list(figures)
        print(f"{_ASKED[kind]}, {told[0].questions} questions")
        print(f"  {'':10}{'Hit@10':20}{'MRR@10':20}{'NDCG@10':20}".rstrip())
        for figure in told:
            columns = "".join(f"{_text(value):20}" for value in (figure.hit, figure.mrr, figure.ndcg))
            print(f"  {figure.arm:10}{columns}".rstrip())
        print()
    print("In brackets: 95% of 1,000 resamples.")
    print_notes(result.notes)


def _text(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.2f}, {value.high:.2f}]"


def _draw(file: Path, title: str, figures: Sequence[Figure]) -> None:
    """One panel a kind of question, one bar an arm with its interval."""
    from matplotlib.figure import Figure as Picture  # noqa: PLC0415 - an extra, and slow

    groups = [(kind, list(group)) for kind, group in groupby(figures, key=lambda figure: figure.kind)]
    picture = Picture(figsize=(9, 1 + sum(0.4 + 0.35 * len(group) for _, group in groups)), layout="constrained")
    panels = picture.subplots(
        max(1, len(groups)), squeeze=False, sharex=True, height_ratios=[len(group) for _, group in groups] or [1]
    )
    picture.suptitle(f"{title}: NDCG@10 and its 95% interval")
    for panel, (kind, group) in zip(panels[:, 0], groups, strict=False):
        rows = group[::-1]
        means = [figure.ndcg.mean for figure in rows]
        below = [figure.ndcg.mean - figure.ndcg.low for figure in rows]
        above = [figure.ndcg.high - figure.ndcg.mean for figure in rows]
        colours = ["tab:blue" if figure.arm == FUSED else "tab:gray" for figure in rows]
        panel.barh([figure.arm for figure in rows], means, xerr=[below, above], color=colours)
        panel.set_title(f"{_ASKED[kind]} ({rows[0].questions})", fontsize="medium", loc="left")
        panel.set_xlim(0, 1)
    try:
        picture.savefig(file)
    except OSError as error:
        raise EvaluationError(f"{file} cannot be written: {error.strerror}.", "Check the path of --plot.") from None
