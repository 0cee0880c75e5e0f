"""Looks the installation over, says what is wrong and how to mend it, and mends what SQLite alone can mend."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from hub import indexing, wiring
from hub.config import Settings, changed
from hub.errors import HubError
from hub.standing import standing, unlike
from indexer.errors import DataFolderError, IndexerError
from indexer.files import check_root, read, scan
from indexer.index import DataFolder, Index, Workspace
from indexer.model import SourceFile
from indexer.pipeline import Progress
from indexer.symbol_table.database import SQLITE_WITHOUT_THE_WAL_BUG, sqlite_version

LOW_SPACE_BYTES = 1 << 30


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    grade: Grade
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of a tree that is not indexed, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Repair:
    workspace: str
    done: str


def examine(settings: Settings) -> Iterator[Finding]:
    """One finding after another, cheap ones first. Changes nothing and never raises."""
    yield Finding("python", Grade.OK, sys.version.split()[0])
    yield _sqlite()
    yield _git()
    yield _clang()
    yield _folder(settings.data)
    yield _guarded("embeddings", lambda: _embeddings(settings))
    yield _guarded("language model", lambda: _language_model(settings))
    if any(name.startswith("profile_") for name in changed(settings)) and settings.backend != "none":
        yield _guarded("profile", lambda: _profile(settings))
    data = wiring.data_folder(settings)
    for workspace in data.workspaces():
        yield _guarded(f"workspace {workspace.name}", lambda w=workspace: _workspace(data, w, settings))  # type: ignore[misc]


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


def repair(settings: Settings, name: str | None, progress: Progress, cancelled: Callable[[], bool]) -> list[Repair]:
    """Drains what is waiting and makes Chroma again where it differs from the table.

    Raises IndexerError for a workspace that only a rebuild can mend, after mending the others.
    """
    data = wiring.data_folder(settings)
    done = []
    beyond: list[DataFolderError] = []
    with data.owned():
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
            data.forget(workspace.name)
            with Index.for_writing(data, workspace.name, root, indexing.size_bound(settings)) as index:
                report = indexing.refresh_as_set(index, settings, progress, cancelled)
            done.append(Repair(workspace.name, f"indexed afresh: {report.files} files, {report.chunks} chunks"))
    return done


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
    try:
        drained = index.drain()
        differing = [drift for drift in map(index.drift, index.table.embedders()) if drift.missing or drift.orphans]
        broken = ""
    except IndexerError as error:
        broken = error.message
    if not differing and not broken:
        return f"{drained} waiting entries brought to Chroma" if drained else "nothing to mend"
    total = index.rebuild_vectors()
    why = broken or ", ".join(f"{drift.missing} missing and {drift.orphans} orphaned" for drift in differing)
    return f"Chroma was made again from the table: {total} vectors ({why})"


def _guarded(subject: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (IndexerError, HubError) as error:
        return Finding(subject, Grade.FAILED, error.message, error.hint)


def _sqlite() -> Finding:
    version = sqlite_version()
    if version < SQLITE_WITHOUT_THE_WAL_BUG:
        return Finding(
            "sqlite", Grade.WARNING, ".".join(map(str, version)), "Upgrade apsw: WAL files may be corrupted."
        )
    return Finding("sqlite", Grade.OK, ".".join(map(str, version)))


def _git() -> Finding:
    git = shutil.which("git")
    if git is None:
        return Finding("git", Grade.WARNING, "not found", "Install git, and answers will name the commit they rest on.")
    return Finding("git", Grade.OK, git)


def _clang() -> Finding:
    try:
        return Finding("libclang", Grade.OK, metadata.version("libclang"))
    except metadata.PackageNotFoundError:
        hint = "pip install 'code-knowledge-hub[clang]', and a compile_commands.json makes edges exact."
        return Finding("libclang", Grade.WARNING, "not installed: facts come from the parser alone", hint)


def _folder(path: Path) -> Finding:
    if not path.exists():
        return Finding("data folder", Grade.OK, f"{path} (will be made)")
    if not os.access(path, os.W_OK):
        return Finding("data folder", Grade.FAILED, f"{path} is not writable", "Give another one with --data.")
    free = shutil.disk_usage(path).free
    if free < LOW_SPACE_BYTES:
        return Finding("data folder", Grade.WARNING, f"{path}, {free >> 20} MiB free", "Free some space.")
    return Finding("data folder", Grade.OK, f"{path}, {free >> 30} GiB free")


def _embeddings(settings: Settings) -> Finding:
    encoder = indexing.encoder_source(settings)
    sources = (*indexing.instant_sources(settings), *((encoder,) if encoder else ()))
    if not sources:
        return Finding("embeddings", Grade.WARNING, "switched off", "Search uses text and symbols only.")
    loaded = [source.load() for source in sources]
    detail = "; ".join(f"{embedder.name}, {embedder.dimensions} dimensions" for embedder in loaded)
    return Finding("embeddings", Grade.OK, detail)


def _language_model(settings: Settings) -> Finding:
    backend = wiring.backend(settings)
    try:
        info = backend.info()
    finally:
        backend.close()
    if not info.writes:
        missing = "" if importlib.util.find_spec("xllamacpp") else "pip install 'code-knowledge-hub[embedded]', or "
        return Finding("language model", Grade.WARNING, "none: answers quote the evidence", f"{missing}start Ollama.")
    return Finding("language model", Grade.OK, f"{info.model} through {info.name}, {info.context_window} tokens")


def _profile(settings: Settings) -> Finding:
    """Whether all that the profile asks for is codehub's to apply."""
    from hub.capacity.profile import Status, settle  # noqa: PLC0415 - for those who have set one

    engine = wiring.engine(settings)
    rows = settle(wiring.profile(settings), engine)
    cannot = ", ".join(row.knob for row in rows if row.status is Status.UNSUPPORTED)
    outside = ", ".join(row.knob for row in rows if row.status is Status.NEEDS_ENVIRONMENT)
    parts = [f"{engine} cannot: {cannot}"] if cannot else []
    parts += [f"to be set where {engine} is started: {outside}"] if outside else []
    if not parts:
        return Finding("profile", Grade.OK, f"all of it is applied to {engine}")
    hint = "codehub profile shows how, and codehub profile --check what runs."
    return Finding("profile", Grade.WARNING if cannot else Grade.OK, "; ".join(parts), hint)


def _workspace(data: DataFolder, workspace: Workspace, settings: Settings) -> Finding:
    subject = f"workspace {workspace.name}"
    with Index.for_reading(data, workspace.name) as index:
        if problems := index.problems():
            return Finding(subject, Grade.FAILED, problems[0], f"codehub repair --rebuild --workspace {workspace.name}")
        counts = index.table.counts()
        source = indexing.encoder_source(settings)
        sources = (*indexing.instant_sources(settings), *((source,) if source else ()))
        waiting = max((index.table.waiting(each.name) for each in sources), default=0)
        depth = index.table.outbox_depth()
        confirmed = index.compiled.coverage()
        calibrated = standing(data, index)
    detail = f"{counts.files} files, {counts.symbols} symbols, {counts.chunks} chunks of {workspace.root}"
    if confirmed.units:
        share = confirmed.functions / max(1, confirmed.functions_in_tree)
        detail += (
            f"; the compiler has confirmed {confirmed.files} of {confirmed.files_in_tree} files and {share:.0%} of the"
            f" functions ({confirmed.units} units, {confirmed.broken} with errors, {confirmed.failed} without result)"
        )
    if not workspace.root.is_dir():
        return Finding(subject, Grade.WARNING, f"its tree {workspace.root} is gone", "Index it again from where it is.")
    if waiting or depth:
        unfinished = f"{detail}; {waiting} chunks wait for vectors, {depth} entries for Chroma"
        return Finding(subject, Grade.WARNING, unfinished, f"codehub index {workspace.root}")
    if calibrated and (moved := (*calibrated.stale, *([unlike(calibrated.shifts)] if calibrated.shifts else ()))):
        told = f"{detail}; calibrated {calibrated.calibrated_at}. {' '.join(moved)}"
        return Finding(subject, Grade.WARNING, told, f"codehub calibrate --workspace {workspace.name}")
    return Finding(subject, Grade.OK, f"{detail}; calibrated {calibrated.calibrated_at}" if calibrated else detail)
