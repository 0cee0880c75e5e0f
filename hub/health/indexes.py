"""The indexes: whether each is whole, fresh and complete, and whether its tree tells of its changes.

Changes nothing, and knows nothing of what stands in them.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from hub import indexing, wiring
from hub.config import Settings
from hub.errors import HookError, HubError
from hub.health.model import Finding, Surroundings, failed, fine, warning
from hub.hooking.standing import standing as standing_of_hooks
from hub.standing import Standing, standing, unlike
from indexer import history
from indexer.errors import IndexerError
from indexer.index import DataFolder, Index, Workspace

# Seconds that a clock may go back between indexing and looking. 1 to 3,600.
CLOCK_SLACK_S = 300.0


def workspaces(around: Surroundings) -> Iterator[Finding]:
    """One finding for each, so that one that is damaged does not hide the others."""
    data = wiring.data_folder(around.settings)
    found = data.workspaces()
    if not found:
        yield fine("workspaces", "nothing is indexed yet: codehub index PATH")
    for workspace in found:
        subject = f"workspace {workspace.name}"
        try:
            yield _workspace(data, workspace, around)
        except (IndexerError, HubError) as error:
            yield failed(subject, error.message, error.hint)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an index that is whole says of itself."""

    workspace: Workspace
    detail: str
    indexed_at: str
    kept: Mapping[str, int]  # dimensions of the vectors of each embedder
    waiting: int  # chunks without a vector
    depth: int  # entries that Chroma has not got
    lost: bool  # Chroma's folder is gone
    stray: int  # folders that Chroma left behind
    calibrated: Standing | None


def _workspace(data: DataFolder, workspace: Workspace, around: Surroundings) -> Finding:
    with Index.for_reading(data, workspace.name) as index:
        if problems := index.problems():
            hint = f"codehub repair --rebuild --workspace {workspace.name}"
            return failed(f"workspace {workspace.name}", problems[0], hint)
        seen = _seen(data, workspace, index, around.settings)
    trouble = next(_troubles(seen, around), None)
    if trouble:
        return trouble
    calibrated = f"; calibrated {seen.calibrated.calibrated_at}" if seen.calibrated else ""
    return fine(f"workspace {workspace.name}", seen.detail + calibrated)


def _seen(data: DataFolder, workspace: Workspace, index: Index, settings: Settings) -> _Seen:
    counts, confirmed = index.table.counts(), index.compiled.coverage()
    detail = f"{counts.files} files, {counts.symbols} symbols, {counts.chunks} chunks of {workspace.root}"
    if confirmed.units:
        share = confirmed.functions / max(1, confirmed.functions_in_tree)
        detail += (
            f"; the compiler has confirmed {confirmed.files} of {confirmed.files_in_tree} files and {share:.0%} of the"
            f" functions ({confirmed.units} units, {confirmed.broken} with errors, {confirmed.failed} without result)"
        )
    source = indexing.encoder_source(settings)
    sources = (*indexing.instant_sources(settings), *((source,) if source else ()))
    kept, depth, embedded = index.table.embedders(), index.table.outbox_depth(), settings.vectors == "embedded"
    return _Seen(
        workspace,
        detail,
        index.stamp().indexed_at,
        kept,
        waiting=max((index.table.waiting(each.name) for each in sources), default=0),
        depth=depth,
        lost=embedded and index.lost_chroma() and not depth,
        stray=len(stray_folders(data, workspace.name)) - max(1, len(kept)) if embedded else 0,
        calibrated=standing(data, index),
    )


def _troubles(seen: _Seen, around: Surroundings) -> Iterator[Finding]:
    """What is wrong, the worst first."""
    name, root = seen.workspace.name, seen.workspace.root
    subject, detail = f"workspace {name}", seen.detail
    if not root.is_dir():
        yield warning(subject, f"its tree {root} is gone", "Index it again from where it is.")
    for each in indexing.instant_sources(around.settings):
        if each.name in seen.kept and seen.kept[each.name] != (now := each.load().dimensions):
            told = f"{each.name} has {now} dimensions, and vectors of {seen.kept[each.name]} are kept of it"
            yield failed(subject, told, f"codehub repair --rebuild --workspace {name}")
    if _is_later(seen.indexed_at, around.clock()):
        yield warning(subject, f"{detail}; indexed at {seen.indexed_at}, which is still to come", "Set the clock.")
    if seen.lost:
        yield warning(subject, f"{detail}; Chroma's folder is gone", "codehub doctor --fix", fixable=True)
    if seen.waiting or seen.depth:
        unfinished = f"{detail}; {seen.waiting} chunks wait for vectors, {seen.depth} entries for Chroma"
        yield warning(subject, unfinished, f"codehub index {root}", fixable=not seen.waiting)
    if seen.stray > 0:
        told = f"{detail}; Chroma has left {seen.stray} folders behind that nothing uses"
        yield warning(subject, told, "codehub doctor --fix makes Chroma again.", fixable=True)
    if seen.calibrated and (seen.calibrated.stale or seen.calibrated.shifts):
        shifted = [unlike(seen.calibrated.shifts)] if seen.calibrated.shifts else []
        moved = " ".join((*seen.calibrated.stale, *shifted))
        told = f"{detail}; calibrated {seen.calibrated.calibrated_at}. {moved}"
        yield warning(subject, told, f"codehub calibrate --workspace {name}")


def stray_folders(data: DataFolder, workspace: str) -> list[Path]:
    """The folders in which Chroma keeps a graph: one for each embedder, and those of what it has deleted."""
    return sorted(path for path in (data.workspace_folder(workspace) / "chroma").glob("*") if _is_uuid(path.name))


def hooks(around: Surroundings) -> Finding:
    """Which trees tell of their changes."""
    found = wiring.data_folder(around.settings).workspaces()
    trees = [workspace for workspace in found if (workspace.root / ".git").exists()]
    if not trees:
        return fine("git hooks", "no tree is in git")
    parts = []
    for workspace in trees:
        try:
            stands = standing_of_hooks(workspace.root, around.settings.data, history.hooks_path(workspace.root))
        except HookError as error:
            return warning("git hooks", f"{workspace.name}: {error.message}", error.hint)
        if stands.state == "partly":
            missing = ", ".join(hook.name for hook in stands.missing)
            hint = f"codehub hooks install {shlex.quote(str(workspace.root))}"
            return warning("git hooks", f"{workspace.name} lacks {missing}", hint)
        if stands.state == "installed":
            parts.append(f"{workspace.name}: installed in {stands.place.folder}")
    if not parts:
        told = f"none in {len(trees)} trees: each is as fresh as its last `codehub index`"
        return fine("git hooks", f"{told}; `codehub hooks install PATH` has git tell of changes")
    return fine("git hooks", ", ".join(parts))


def _is_later(indexed_at: str, now: float) -> bool:
    try:
        then = datetime.fromisoformat(indexed_at)
    except ValueError:
        return False
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() > now + CLOCK_SLACK_S


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
