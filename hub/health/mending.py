"""What is left out of an index and why; and mending, from what is safe at any time to making all of it anew.

Judges nothing: what is wrong is for the modules beside it to say.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from hub import indexing, wiring
from hub.config import Settings
from hub.health.folder import abandoned, open_to_others, stale_server_files
from hub.health.model import Fixed, LeftOut, Repair
from indexer.errors import DataFolderError, IndexerError
from indexer.files import check_root, read, scan
from indexer.index import DataFolder, Index, Workspace
from indexer.model import SourceFile
from indexer.pipeline import Progress

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


def left_out(tree: Path, settings: Settings) -> list[LeftOut]:
    """Every file below a tree that its name would admit and that is not indexed. Raises TreeError."""
    root = check_root(tree)
    rules = indexing.file_rules(settings)
    found = scan(root, rules)
    reasons = [LeftOut(path, reason) for path, reason in found.skipped]
    reasons += [LeftOut(problem.path, problem.message) for problem in found.problems]
    for candidate in found.candidates:
        outcome = read(root, candidate, rules)
        if not isinstance(outcome, SourceFile):
            reasons.append(LeftOut(outcome.path, getattr(outcome, "reason", "") or getattr(outcome, "message", "")))
    return sorted(reasons, key=lambda entry: entry.path)


def fix(settings: Settings, progress: Progress) -> Iterator[Fixed]:
    """Does what ``examine`` calls fixable, and tells each thing that it did or could not do. Safe at any time.

    Takes rights from others, takes away what a crash left, carries to Chroma what waits. Deletes nothing that holds
    facts, and never touches a folder that another process writes.
    """
    data = wiring.data_folder(settings)
    yield from _closed(settings.data)
    yield from _removed("server", stale_server_files(settings.data), settings.data)
    if not settings.data.exists():
        return
    try:
        with data.owned():
            yield from _removed("leftovers", abandoned(settings.data), settings.data)
            for workspace in data.workspaces():
                yield from _carried(data, workspace, settings, progress)
    except IndexerError as error:
        yield Fixed("data folder", f"left as it is: {error.message}")


def repair(settings: Settings, name: str | None, progress: Progress, cancelled: Callable[[], bool]) -> list[Repair]:
    """Drains what is waiting and makes Chroma again where it differs from the table.

    Raises IndexerError for a workspace that only a rebuild can mend, after mending the others.
    """
    data = wiring.data_folder(settings)
    done = []
    beyond: list[DataFolderError] = []
    with data.owned():
        data.sweep()
        for workspace in _wanted(data, name):
            try:
                done.append(Repair(workspace.name, _mend(data, workspace, progress)))
            except DataFolderError as error:
                beyond.append(error)
            if cancelled():
                break
    if beyond:
        raise beyond[0]
    return done


def rebuild(settings: Settings, name: str | None, progress: Progress, cancelled: Callable[[], bool]) -> list[Repair]:
    """Deletes the indexes and makes them again from their trees. Raises IndexerError."""
    data = wiring.data_folder(settings)
    done = []
    with data.owned():
        for workspace in _wanted(data, name):
            root = check_root(workspace.root)
            notes = Index.notes_of_any(data, workspace.name)
            data.forget(workspace.name)
            with Index.for_writing(data, workspace.name, root, indexing.size_bound(settings)) as index:
                index.table.set_meta({key: notes[key] for key in indexing.KEPT_NOTES if key in notes})
                report = indexing.refresh_as_set(index, settings, progress, cancelled)
            done.append(Repair(workspace.name, f"indexed afresh: {report.files} files, {report.chunks} chunks"))
    return done


def _closed(data: Path) -> Iterator[Fixed]:
    for path in tuple(open_to_others(data)):
        mode = _FOLDER_MODE if path.is_dir() else _FILE_MODE
        try:
            path.chmod(mode)
        except OSError as error:
            yield Fixed("permissions", f"{path} stays open to others: {error.strerror}")
        else:
            yield Fixed("permissions", f"{path} is its owner's alone now ({mode:04o})")


def _removed(subject: str, paths: list[Path], data: Path) -> Iterator[Fixed]:
    for path in paths:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            yield Fixed(subject, f"{path.relative_to(data)} cannot be taken away: {error.strerror}")
        else:
            yield Fixed(subject, f"{path.relative_to(data)} was taken away")


def _carried(data: DataFolder, workspace: Workspace, settings: Settings, progress: Progress) -> Iterator[Fixed]:
    """What waits goes to Chroma, which is made again where its folder is gone or holds what nothing uses."""
    subject = f"workspace {workspace.name}"
    try:
        with Index.for_adding(data, workspace.name) as index:
            kept = len(index.table.embedders())
            worn = settings.vectors == "embedded" and (index.lost_chroma() or index.stray_graphs())
            if worn and kept:
                progress("repair", 0, 0)
                yield Fixed(subject, f"Chroma was made again from the table: {index.rebuild_vectors()} vectors")
            elif index.waits_for_chroma():
                yield Fixed(subject, _mend_vectors(index, progress))
    except IndexerError as error:
        yield Fixed(subject, f"left as it is: {error.message} {error.hint}")


def _wanted(data: DataFolder, name: str | None) -> list[Workspace]:
    workspaces = data.workspaces()
    return [wiring.choose_workspace(workspaces, name, Path())] if name else workspaces


def _mend(data: DataFolder, workspace: Workspace, progress: Progress) -> str:
    with Index.for_writing(data, workspace.name, workspace.root) as index:
        if problems := index.problems():
            raise DataFolderError(
                f"The index of workspace {workspace.name} is damaged: {problems[0]}.",
                f"Run `codehub repair --rebuild --workspace {workspace.name}`.",
            )
        return _mend_vectors(index, progress)


def _mend_vectors(index: Index, progress: Progress) -> str:
    progress("repair", 0, 0)
    drained, differing = 0, []
    stray = index.stray_graphs()
    try:
        half_way = not index.table.outbox_depth() and not index.lost_chroma() and index.waits_for_chroma()
        drained = index.drain()
        differing = [drift for drift in map(index.drift, index.table.embedders()) if drift.missing or drift.orphans]
        broken = ""
    except IndexerError as error:
        broken = error.message
    if not differing and not broken and not stray:
        if half_way:
            return "what was begun is finished: Chroma was made again from the table"
        return f"{drained} waiting entries brought to Chroma" if drained else "nothing to mend"
    total = index.rebuild_vectors()
    differences = [f"{drift.missing} missing and {drift.orphans} orphaned" for drift in differing]
    why = broken or ", ".join(differences) or f"it had left {stray} folders behind"
    return f"Chroma was made again from the table: {total} vectors ({why})"
