"""What each kind of job does: settings and a task in, plain JSON out. A command and the server's child run the same.

Each kind takes the data folder's lock by itself, and goes on from what a run before it had stored. Prints nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub import wiring
from hub.auth.model import ALL_WORKSPACES
from hub.config import Settings
from hub.errors import HubError, TaskError
from hub.hooking import spool
from hub.jobs.model import JobKind, Json, Task
from indexer.errors import Cancelled, DataFolderError, IndexerError
from indexer.index import Index, Workspace
from indexer.pipeline import Progress

Stop = Callable[[], bool]
SHIPPED = "shipped"  # figures of fusing with the weights that ship, where others were fitted
_CHOOSING = 3  # every third question of the fitting half chooses whether the fitted weights are kept
# What the arguments of a task may be, by kind. "settings" are those of the command that hands its work over.
ARGUMENTS: Mapping[JobKind, Mapping[str, type]] = {
    JobKind.INDEX: {"tree": str, "settings": dict},
    JobKind.REPAIR: {"rebuild": bool, "settings": dict},
    JobKind.CALIBRATE: {"limit": int, "alphas": list, "anew": bool, "settings": dict},
    JobKind.TUNE: {"settings": dict},
    JobKind.WARM: {},
    JobKind.BACKUP: {"target": str, "keep": int},
}
# Settings that a command's own may stand in for the server's: what an index is made with.
GIVEN = tuple(
    name
    for name in Settings.__dataclass_fields__
    if name.startswith(("index_", "history_", "compiler_", "calibration_", "secrets_", "retrieval_"))
    or name in {"embeddings", "ollama_host"}
)
MOST_NUMBER = 100_000  # questions of one calibration, backups that are kept


def checked(task: Task) -> None:
    """Raises TaskError where the arguments are not such as the kind takes."""
    known = ARGUMENTS[task.kind]
    for name, value in task.arguments.items():
        if name not in known:
            raise TaskError(f"{name} is no argument of {task.kind.value}.", f"Known: {', '.join(known)}.")
        if type(value) is not known[name]:
            raise TaskError(f"{name} is {value!r}.", f"It must be of type {known[name].__name__}.")
    for name, least in (("limit", 1), ("keep", 0)):
        number = task.arguments.get(name, 1)
        if not least <= number <= MOST_NUMBER:
            raise TaskError(f"{name} is {number}.", f"It may be {least} to {MOST_NUMBER}.")
    for alpha in task.arguments.get("alphas", []):
        if not isinstance(alpha, float) or not 0.01 <= alpha <= 0.5:
            raise TaskError(f"{alpha!r} is no share.", "alphas may be 0.01 to 0.5.")
    for name in task.arguments.get("settings", {}):
        if name not in GIVEN:
            raise TaskError(f"The setting {name} is the server's own.", "Set it where the server is started.")


def named(settings: Settings, tree: Path, name: str | None) -> str:
    """The workspace that a tree is, or would be, indexed in. Raises TreeError, and TaskError for what is no name."""
    from hub.indexing import name_for  # noqa: PLC0415 - each kind waits for its own parts alone
    from indexer.files import check_root  # noqa: PLC0415 - as above

    data = wiring.data_folder(settings)
    if name is None:
        return name_for(check_root(tree), data.workspaces())
    try:
        data.workspace_folder(name)
    except DataFolderError as error:
        raise TaskError(error.message, error.hint) from None
    return name


def given(settings: Settings) -> Json:
    """The settings that decide what a job writes, as its argument of that name."""
    return {name: _plain(getattr(settings, name)) for name in GIVEN}


def perform(settings: Settings, task: Task, progress: Progress, cancelled: Stop) -> Json:
    """Does the task. Returns what its command prints with --json. Raises HubError, IndexerError and Cancelled."""
    checked(task)
    told: Mapping[str, Any] = task.arguments.get("settings", {})
    changes: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return _WORK[task.kind](replace(settings, **changes), task, progress, cancelled)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _workspace(settings: Settings, task: Task) -> Workspace:
    name = None if task.workspace == ALL_WORKSPACES else task.workspace
    return wiring.choose_workspace(wiring.data_folder(settings).workspaces(), name, Path())


def _index(settings: Settings, task: Task, progress: Progress, cancelled: Stop) -> Json:
    from hub import background, changes, indexing  # noqa: PLC0415 - each kind waits for its own parts alone
    from hub.calibrating import unattended  # noqa: PLC0415 - as above
    from hub.shapes import report_shape  # noqa: PLC0415 - as above
    from indexer.files import check_root  # noqa: PLC0415 - as above

    tree = task.arguments.get("tree")
    root = check_root(Path(tree) if tree else _workspace(settings, task).root)
    # Before the tree is looked at, so that what a hook tells from now on counts again.
    spool.forget(settings.data, root)
    name = None if task.workspace == ALL_WORKSPACES else task.workspace
    report = indexing.index_tree(settings, root, name, progress, cancelled)
    notes = list(report.notes)
    for begin in (*([background.start] if settings.index_background else ()), unattended.start):
        try:
            begin(settings)
        except (HubError, IndexerError) as error:  # what is indexed can be searched, so it is worth a line only
            notes.append(f"{error.message} {error.hint}")
    try:
        changes.keep_up(settings, report.workspace, cancelled)
    except (HubError, IndexerError) as error:  # as above
        notes.append(f"{error.message} {error.hint}")
    return report_shape(replace(report, notes=tuple(notes)))


def _repair(settings: Settings, task: Task, progress: Progress, cancelled: Stop) -> Json:
    from hub import health  # noqa: PLC0415 - as above

    mend = health.rebuild if task.arguments.get("rebuild") else health.repair
    name = None if task.workspace == ALL_WORKSPACES else task.workspace
    return {"repairs": [asdict(entry) for entry in mend(settings, name, progress, cancelled)]}


def _calibrate(settings: Settings, task: Task, progress: Progress, cancelled: Stop) -> Json:
    from hub.calibrating import running  # noqa: PLC0415 - as above
    from hub.confidence.certifying import ALPHAS  # noqa: PLC0415 - as above

    wanted = running.Options(
        most=task.arguments.get("limit", running.MOST_ASKED),
        alphas=tuple(sorted({*ALPHAS, *task.arguments.get("alphas", [])})),
        anew=task.arguments.get("anew", False),
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    done = running.calibrate(settings, _workspace(settings, task), wanted, now, progress, cancelled)
    return {**asdict(done.card), "stored": done.stored, "folder": str(done.folder)}


def _tune(settings: Settings, task: Task, progress: Progress, cancelled: Stop) -> Json:
    """Fits on the older half of what the tree can be asked, keeps what helps, and tells how the other half fares.

    The index is written at the very end and for a moment only.
    """
    from hub import evaluation  # noqa: PLC0415 - as above
    from hub.labels import Label, LabelKind  # noqa: PLC0415 - as above
    from hub.retrieval import GLOBAL, STORED_WEIGHTS, Candidates  # noqa: PLC0415 - as above
    from hub.tuning import adapt  # noqa: PLC0415 - as above

    workspace = _workspace(settings, task)
    data = wiring.data_folder(settings)
    with evaluation.snapshot(workspace.root, settings, progress, cancelled) as made:
        embedders, notes = evaluation.usable_embedders(made.index, settings)
        labels = [label for label in made.labels if label.kind is not LabelKind.NAME]

        def found(chosen: Sequence[Label]) -> Iterator[tuple[Label, Candidates]]:
            return evaluation.telling(evaluation.judged(made.index, chosen, embedders, cancelled), chosen, progress)

        examples = list(found([label for label in labels if not label.held_out]))
        # What chooses whether fitted weights are kept is neither what they were fitted on nor what is reported.
        fitting = [pair for number, pair in enumerate(examples) if number % _CHOOSING]
        weights, gains = adapt(fitting, examples[::_CHOOSING], GLOBAL)
        compared = {SHIPPED: GLOBAL, evaluation.FUSED: weights}
        figures = evaluation.measure(found([label for label in labels if label.held_out]), compared)
    kept = [gain.block for gain in gains if gain.kept]
    progress("store", 0, 0)
    with data.owned_for_a_moment(), Index.for_adding(data, workspace.name) as index:
        index.table.set_meta({STORED_WEIGHTS: weights.dumps() if kept else ""})
    gained = [
        f"Weights of {gain.block} fitted on {gain.fitted_on} questions: {gain.before:.3f} -> {gain.after:.3f} on"
        f" {gain.held_out} others, {'kept' if gain.kept else 'not kept'}."
        for gain in gains
    ]
    result = evaluation.Evaluation(
        tuple(figure for figure in figures if figure.arm in compared),
        (*made.notes, *notes, *evaluation.few(figures), *gained),
        made.revision,
    )
    return {"workspace": workspace.name, "kept": kept, "weights": json.loads(weights.dumps()), **asdict(result)}


def _warm(settings: Settings, task: Task, progress: Progress, cancelled: Stop) -> Json:
    from hub.model import Prefill  # noqa: PLC0415 - as above

    def tell(prefill: Prefill) -> None:
        progress("prefill", prefill.read, prefill.total)
        if cancelled():
            raise Cancelled("Stopped; what the engine keeps of what it read is its own affair.")

    with wiring.open_service(settings, _workspace(settings, task).name, Path()) as service:
        warmth = service.warm(tell)
    kept = asdict(warmth.kept) if warmth.kept else None
    if kept is not None:
        del kept["next"]  # of use to the engine alone
    return {
        "how": warmth.how.value,
        "tokens": warmth.tokens,
        "cached": warmth.cached,
        "seconds": round(warmth.seconds, 3),
        "kept": kept,
        "notes": list(warmth.notes),
    }


def _backup(settings: Settings, task: Task, progress: Progress, cancelled: Stop) -> Json:
    from hub import backup  # noqa: PLC0415 - as above

    target = task.arguments.get("target")
    kept = task.arguments.get("keep", 0)
    made = backup.backup(settings, Path(target) if target else None, progress, cancelled, keep=kept)
    return backup.archive_shape(made)


_WORK: Mapping[JobKind, Callable[[Settings, Task, Progress, Stop], Json]] = {
    JobKind.INDEX: _index,
    JobKind.REPAIR: _repair,
    JobKind.CALIBRATE: _calibrate,
    JobKind.TUNE: _tune,
    JobKind.WARM: _warm,
    JobKind.BACKUP: _backup,
}
