"""The commands that measure retrieval on the user's own tree and fit it to that tree: evaluate, tune."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from hub import evaluation, wiring
from hub.cli import DONE, NOTHING
from hub.cli.output import print_json, print_notes, settings_of
from hub.cli.progress import interruptible, shown
from hub.config import Settings
from hub.errors import EvaluationError
from hub.evaluation import FUSED, Evaluation, Figure, Interval
from hub.labels import Label, LabelKind
from hub.retrieval import GLOBAL, STORED_WEIGHTS, Candidates, Weights, stored_weights
from hub.tuning import Gain, adapt
from indexer.index import Index, Workspace
from indexer.pipeline import Progress

_ASKED = {
    LabelKind.DESCRIPTION: "comment -> its function",
    LabelKind.BODY: "long comment -> body",
    LabelKind.COMMIT: "commit message -> files",
    LabelKind.NAME: "name -> its symbol",
    LabelKind.OWN: "your own questions",
}
_SHIPPED = "shipped"  # fused with the weights that ship, where others were fitted
_CHOOSING = 3  # every third question of the fitting half chooses whether the fitted weights are kept
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
    with (
        shown() as progress,
        interruptible() as cancelled,
        evaluation.snapshot(workspace.root, settings, progress, cancelled) as made,
    ):
        embedders, notes = evaluation.usable_embedders(made.index, settings)
        labels = [label for label in made.labels if label.kind is not LabelKind.NAME]

        def found(chosen: Sequence[Label]) -> Iterator[tuple[Label, Candidates]]:
            return _told(evaluation.judged(made.index, chosen, embedders, cancelled), chosen, progress)

        examples = list(found([label for label in labels if not label.held_out]))
        # What chooses whether fitted weights are kept is neither what they were fitted on nor what is reported.
        fitting = [pair for number, pair in enumerate(examples) if number % _CHOOSING]
        choosing = examples[::_CHOOSING]
        weights, gains = adapt(fitting, choosing, GLOBAL)
        compared = {_SHIPPED: GLOBAL, FUSED: weights}
        figures = evaluation.measure(found([label for label in labels if label.held_out]), compared)
    kept = [gain.block for gain in gains if gain.kept]
    with data.owned(), Index.for_writing(data, workspace.name, workspace.root) as index:
        index.table.set_meta({STORED_WEIGHTS: weights.dumps() if kept else ""})
    result = Evaluation(
        tuple(figure for figure in figures if figure.arm in compared),
        (*made.notes, *notes, *evaluation.few(figures), *map(_gain_text, gains)),
        made.revision,
    )
    if options.json:
        print_json(
            {"workspace": workspace.name, "kept": kept, "weights": json.loads(weights.dumps()), **asdict(result)}
        )
    else:
        _print(workspace, result)
        print(f"Search in {workspace.name} now ranks with weights fitted to it." if kept else _UNCHANGED)
    return DONE


def _gain_text(gain: Gain) -> str:
    done = "kept" if gain.kept else "not kept"
    return (
        f"Weights of {gain.block} fitted on {gain.fitted_on} questions: {gain.before:.3f} -> {gain.after:.3f} on"
        f" {gain.held_out} others, {done}."
    )


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
        figures = evaluation.measure(_told(asked, labels, progress), weights)
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
        figures = evaluation.measure(_told(asked, labels, progress), _weights(settings, index))
    return Evaluation(figures, (*unknown, *notes, *evaluation.few(figures)))


def _weights(settings: Settings, index: Index) -> dict[str, Weights]:
    """The weights that search uses, and beside them those that ship where they are others."""
    fitted = stored_weights(index) if settings.retrieval_adapt else None
    return {_SHIPPED: GLOBAL, FUSED: fitted} if fitted else {FUSED: GLOBAL}


def _told(
    found: Iterable[tuple[Label, Candidates]], labels: Sequence[Label], progress: Progress
) -> Iterator[tuple[Label, Candidates]]:
    for done, pair in enumerate(found, 1):
        progress("ask", done, len(labels))
        yield pair


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
