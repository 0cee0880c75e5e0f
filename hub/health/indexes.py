"""The indexes: whether each is whole, fresh and complete, and whether its tree tells of its changes.

Changes nothing, and knows nothing of what stands in them.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hub import following, indexing, wiring
from hub.config import Settings
from hub.errors import HookError, HubError
from hub.following import Followed, Mode
from hub.health.folder import server_told
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
    half_way: bool  # Chroma is being made again, and that was stopped
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
        half_way=not depth and not index.lost_chroma() and index.waits_for_chroma(),
        lost=embedded and index.lost_chroma() and not depth,
        stray=index.stray_graphs() if embedded else 0,
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
    if seen.half_way:
        told = f"{detail}; Chroma is being made again, and is not complete yet"
        yield warning(subject, told, "codehub doctor --fix goes on with it.", fixable=True)
    if seen.stray > 0:
        told = f"{detail}; Chroma has left {seen.stray} folders behind that nothing uses"
        yield warning(subject, told, "codehub doctor --fix makes Chroma again.", fixable=True)
    if seen.calibrated and (seen.calibrated.stale or seen.calibrated.shifts):
        shifted = [unlike(seen.calibrated.shifts)] if seen.calibrated.shifts else []
        moved = " ".join((*seen.calibrated.stale, *shifted))
        told = f"{detail}; calibrated {seen.calibrated.calibrated_at}. {moved}"
        yield warning(subject, told, f"codehub calibrate --workspace {name}")


def followed(around: Surroundings) -> Iterator[Finding]:
    """Whether trees are followed, and how: one finding for each that could be followed better."""
    told = following.following(around.settings.data)
    found = wiring.data_folder(around.settings).workspaces()
    if told is None and found and around.settings.watch_enabled and server_told(around.settings.data):
        yield warning(
            "following", "a server runs, and nobody follows the trees", "follow.log in the data folder says why."
        )
        return
    if told is None:
        yield fine("following", "no tree is followed; `codehub serve` and `codehub watch` keep indexes up to date")
        return
    if not told.alive:
        hint = "A server begins it again by itself; else run `codehub watch --all`. follow.log may say why."
        yield warning("following", f"process {told.pid}, which followed the trees, has died", hint)
        return
    odd = [finding for tree in told.trees if (finding := _odd(tree))]
    missing = sorted({each.name for each in found} - {tree.workspace for tree in told.trees})
    if missing:
        names = ", ".join(missing)
        odd.append(warning("following", f"nobody follows {names}", "Run `codehub watch --all` instead, or a server."))
    yield from odd
    if not odd:
        watches, limit = sum(tree.watches for tree in told.trees), max((tree.limit for tree in told.trees), default=0)
        bound = f" of {limit:,}" if limit else ""
        yield fine("following", f"{len(told.trees)} trees by process {told.pid}, {watches:,} watches{bound}")


def _odd(tree: Followed) -> Finding | None:
    words = f"{tree.workspace}: {following.words_of(tree)}"
    if tree.error:
        return warning("following", words, "It is tried again by itself; mend the cause.")
    if tree.mode is Mode.AWAY:
        return warning("following", words, f"Mount or restore {tree.root}; its index stays as it is until then.")
    if tree.mode is Mode.POLLING:
        return warning("following", words, _OUT_OF_POLLING)
    return None


_OUT_OF_POLLING = (
    "It works, and notices changes a few seconds later. Where watches ran out, raise fs.inotify.max_user_watches (or"
    " max_user_instances), or leave folders out by .codehubignore; on a network's file system, run it where the files"
    " lie."
)


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
