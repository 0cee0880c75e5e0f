"""Puts together what indexes, as the settings say: rules, embedder, and the workspace of a tree."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hub import wiring
from hub.config import Settings
from indexer import embedding
from indexer.errors import EmbedderError, TreeError
from indexer.files import FileRules, check_root
from indexer.index import Index, Workspace
from indexer.model import IndexReport
from indexer.pipeline import EmbedderSource, Options, Progress, refresh


def index_tree(
    settings: Settings, tree: Path, name: str | None, progress: Progress, cancelled: Callable[[], bool]
) -> IndexReport:
    """Brings the workspace of a tree up to date. Owns the data folder while it does."""
    root = check_root(tree)
    data = wiring.data_folder(settings)
    with data.owned():
        before = data.workspaces()
        workspace = name or name_for(root, before)
        try:
            with Index.for_writing(data, workspace, root, size_bound(settings)) as index:
                return refresh_as_set(index, settings, progress, cancelled)
        except TreeError:
            if workspace not in {known.name for known in before}:
                data.forget(workspace)  # or the empty workspace would be the one last indexed, and answer everything
            raise


def refresh_as_set(index: Index, settings: Settings, progress: Progress, cancelled: Callable[[], bool]) -> IndexReport:
    """Refreshes as the settings say. An embedder that does not answer costs the vectors for now, and leaves a note."""
    try:
        source = embedder_source(settings)
    except EmbedderError as error:
        report = refresh(index, index_options(settings), None, progress, cancelled)
        return replace(report, notes=(*report.notes, f"No vectors for now: {error.message} {error.hint}"))
    return refresh(index, index_options(settings), source, progress, cancelled)


def size_bound(settings: Settings) -> int | None:
    """Bytes that one index may take; None where there is no bound."""
    return settings.index_max_megabytes << 20 or None


def index_options(settings: Settings) -> Options:
    return Options(file_rules(settings), settings.index_workers)


def file_rules(settings: Settings) -> FileRules:
    return FileRules(settings.index_max_file_kilobytes << 10, settings.index_generated, settings.index_exclude)


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


def embedder_source(settings: Settings) -> EmbedderSource | None:
    """The configured embedder, unloaded; None when the settings want none. Raises EmbedderError."""
    if settings.embeddings == "none":
        return None
    if settings.embeddings == "minilm":
        return EmbedderSource(embedding.MINILM_NAME, embedding.MiniLmEmbedder)
    from hub.backends.ollama import OllamaEmbedder  # noqa: PLC0415 - 0.9 s that only its users should wait for

    loaded = OllamaEmbedder(settings.ollama_host, settings.embeddings.removeprefix("ollama:"))
    return EmbedderSource(loaded.name, lambda: loaded)
