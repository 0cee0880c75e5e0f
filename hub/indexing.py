"""Puts together what indexes, as the settings say: rules, embedder, and the workspace of a tree."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hub import wiring
from hub.confidence.stored import RECORD, STORED
from hub.config import Settings
from hub.errors import SettingsError
from hub.retrieval import STORED_WEIGHTS
from indexer import embedding, history, static_embedding
from indexer.compiler import CompilerOptions, Limits, confirm, defines, find_commands, read_commands, retract
from indexer.errors import Cancelled, DataFolderError, EmbedderError, FolderFullError, OldFormatError, TreeError
from indexer.files import FileRules, check_root
from indexer.index import DataFolder, Index, Workspace
from indexer.model import Confirmation, IndexReport
from indexer.pipeline import EmbedderSource, Options, Progress, refresh
from indexer.relinking import relink

# Of the notes of an index, what cannot be made again from its tree: how sure to be, and how to weigh.
KEPT_NOTES = (STORED, RECORD, STORED_WEIGHTS)


def index_tree(
    settings: Settings, tree: Path, name: str | None, progress: Progress, cancelled: Callable[[], bool]
) -> IndexReport:
    """Brings the workspace of a tree up to date. Owns the data folder while it does."""
    root = check_root(tree)
    data = wiring.data_folder(settings)
    with data.owned():
        data.sweep()
        before = data.workspaces()
        workspace = name or name_for(root, before)
        try:
            begun = seed(data, workspace, root, settings, cancelled)
            with _opened(data, workspace, root, size_bound(settings)) as index:
                report = refresh_as_set(index, settings, progress, cancelled)
                return replace(report, notes=(*begun, *report.notes))
        except TreeError:
            if workspace not in {known.name for known in before}:
                data.forget(workspace)  # or the empty workspace would be the one last indexed, and answer everything
            raise


def seed(data: DataFolder, name: str, root: Path, settings: Settings, cancelled: Callable[[], bool]) -> tuple[str, ...]:
    """Begins a workspace that has no index with a copy of the index of another checkout of the same repository, where
    there is one: what is equal in both then is neither read, linked nor embedded again. Returns a note on it.

    The caller owns the folder and refreshes. Nothing happens, and nothing is told, where that cannot be done; raises
    Cancelled.
    """

    def stop() -> None:
        if cancelled():
            raise Cancelled("Stopped; nothing was begun.", "Run the same command again.")

    if (data.workspace_folder(name) / "index.db").exists() or (common := history.common_folder(root)) is None:
        return ()
    bound = size_bound(settings)
    place = _within(root)
    others = sorted(data.workspaces(), key=lambda other: (-other.used_ns, other.name))
    for other in others:
        table = data.workspace_folder(other.name) / "index.db"
        if other.root == root or not table.exists() or (bound is not None and table.stat().st_size > bound):
            continue
        if history.common_folder(other.root) != common or _within(other.root) != place:
            continue
        try:
            if Index.seed(data, name, other.name, stop):
                return (f"Begun with what is known of {other.root}, another checkout of the same repository.",)
        except FolderFullError:
            return ()
        except DataFolderError:
            continue  # damaged, or of another format: that is told to whoever uses it
    return ()


def _within(root: Path) -> Path | None:
    """Where in its checkout a root lies."""
    tops = (folder for folder in (root, *root.parents) if (folder / ".git").exists())
    return next((root.relative_to(top) for top in tops), None)


def _opened(data: DataFolder, name: str, root: Path, bound: int | None) -> Index:
    """For writing; an index that is too old to be brought up to date gives way to an empty one, with what was learnt
    of how its tree is asked.
    """
    try:
        return Index.for_writing(data, name, root, bound)
    except OldFormatError:
        Index.make_anew(data, name, KEPT_NOTES)
        return Index.for_writing(data, name, root, bound)


def refresh_as_set(index: Index, settings: Settings, progress: Progress, cancelled: Callable[[], bool]) -> IndexReport:
    """Refreshes as the settings say, then lets the compiler confirm what it can.

    With ``index_background`` what takes long, an encoder and Chroma, is left to ``hub.background``. An embedder that
    does not answer costs its vectors for now, and leaves a note. Raises SettingsError for a compile_commands.json that
    was named and is not there.
    """
    options = replace(index_options(settings, index.root), carry=not settings.index_background)
    sources = instant_sources(settings)
    notes: tuple[str, ...] = ()
    try:
        encoder = encoder_source(settings)
    except EmbedderError as error:
        encoder = None
        notes = (f"No vectors of an encoder for now: {error.message} {error.hint}",)
    if encoder and not settings.index_background:
        sources = (*sources, encoder)
    report = refresh(index, options, sources, progress, cancelled)
    index.unseal()
    if encoder and settings.index_background:
        report = replace(report, waiting_for_vectors=index.table.waiting(encoder.name))
    index.table.set_meta({"embeddings": settings.embeddings})
    report = replace(report, notes=(*report.notes, *notes))
    confirmation = _confirm(index, settings, progress, cancelled)
    if confirmation is None:
        return report
    return replace(report, confirmation=confirmation, notes=(*report.notes, *confirmation.notes))


def _confirm(
    index: Index, settings: Settings, progress: Progress, cancelled: Callable[[], bool]
) -> Confirmation | None:
    """Lets the compiler confirm what it can, or takes back what it said before of files that have changed since."""
    commands = commands_of(settings, index.root)
    if commands is None and not index.compiled.coverage().units:
        return None
    options = CompilerOptions(
        commands,
        Limits(settings.index_workers, settings.compiler_seconds, settings.compiler_megabytes << 20),
    )
    report = None
    try:
        if settings.compiler_commands == "none":
            retract(index, options)
        else:
            report = confirm(index, options, progress, cancelled)
    finally:  # what was finished before a stop is linked too
        relink(index.links, settings.index_workers, lambda done, total: progress("link", done, total), lambda: None)
        index.walk.keep()
    if report is None:
        return None
    return Confirmation(
        units=report.units,
        read=report.done,
        broken=report.broken,
        failed=report.failed,
        files=report.files_confirmed,
        problems=report.problems,
        notes=report.notes,
    )


def commands_of(settings: Settings, root: Path) -> Path | None:
    """The compile_commands.json to read. Raises SettingsError when one is named that is not there."""
    if settings.compiler_commands == "none":
        return None
    if settings.compiler_commands == "auto":
        return find_commands(root)
    path = Path(settings.compiler_commands).expanduser()
    if not path.is_file():
        raise SettingsError(f"{path} is no file.", "Check `compiler.commands`; `auto` looks where builds put it.")
    return path


def size_bound(settings: Settings) -> int | None:
    """Bytes that one index may take; None where there is no bound."""
    return settings.index_max_megabytes << 20 or None


def index_options(settings: Settings, root: Path) -> Options:
    """The macros that the compiler is given on its command line count as macros of the tree."""
    commands = commands_of(settings, root)
    given = defines(read_commands(commands, root)) if commands else ()
    commits = settings.history_commits if settings.history_enabled else 0
    return Options(file_rules(settings), settings.index_workers, given, commits=commits)


def file_rules(settings: Settings) -> FileRules:
    return FileRules(
        settings.index_max_file_kilobytes << 10,
        settings.index_generated,
        settings.index_exclude,
        settings.secrets_redact,
        settings.secrets_allow,
    )


def name_for(root: Path, workspaces: list[Workspace]) -> str:
    """The workspace that holds the tree already, or a new name made from the folder's."""
    for workspace in workspaces:
        if workspace.root == root:
            return workspace.name
    letters = [
        letter if (letter.isascii() and letter.isalnum()) or letter in "._-" else "-" for letter in root.name.lower()
    ]
    base = "".join(letters).strip("._-")[:50] or "tree"
    taken = {workspace.name for workspace in workspaces}
    return next(name for name in (base, *(f"{base}-{number}" for number in range(2, 10_000))) if name not in taken)


def instant_sources(settings: Settings) -> tuple[EmbedderSource, ...]:
    """The static embedder, which every other one comes beside; nothing where the settings want no vectors."""
    if settings.embeddings == "none":
        return ()
    return (EmbedderSource(static_embedding.STATIC_NAME, static_embedding.StaticEmbedder),)


def encoder_source(settings: Settings) -> EmbedderSource | None:
    """The configured encoder, unloaded; None where the settings want none. Raises EmbedderError."""
    if settings.embeddings in {"none", "static"}:
        return None
    if settings.embeddings == "minilm":
        return EmbedderSource(embedding.MINILM_NAME, embedding.MiniLmEmbedder)
    from hub.backends.ollama import OllamaEmbedder  # noqa: PLC0415 - 0.9 s that only its users should wait for

    loaded = OllamaEmbedder(settings.ollama_host, settings.embeddings.removeprefix("ollama:"))
    return EmbedderSource(loaded.name, lambda: loaded)
