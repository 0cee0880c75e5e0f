"""Puts together what answers, as the settings say: index, embedder, language model. Nothing is loaded early."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.backends.embedded import EmbeddedBackend
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.backends.llama_server import LlamaServerBackend
from hub.config import Settings
from hub.errors import BackendError, BackendUnavailable, SettingsError, WorkspaceError
from hub.model import Backend
from hub.service import AskOptions, Service
from indexer.index import DataFolder, Index, Workspace
from indexer.model import Embedder


def data_folder(settings: Settings) -> DataFolder:
    return DataFolder(settings.data)


@contextmanager
def open_service(settings: Settings, workspace: str | None, folder: Path) -> Iterator[Service]:
    """A service over a workspace, reading beside whatever writes. Closes what it opened."""
    data = data_folder(settings)
    chosen = choose_workspace(data.workspaces(), workspace, folder)
    service = Service(
        Index.for_reading(data, chosen.name),
        lambda: embedders(settings),
        lambda: backend(settings),
        AskOptions(settings.prompt_tokens, settings.answer_tokens, settings.retrieval_adapt),
    )
    try:
        yield service
    finally:
        service.close()


def choose_workspace(workspaces: list[Workspace], name: str | None, folder: Path) -> Workspace:
    """The named one; else the one whose tree holds the folder, innermost first; else the one last indexed."""
    if not workspaces:
        raise WorkspaceError("Nothing is indexed yet.", "Run `codehub index PATH` first.")
    if name is not None:
        for workspace in workspaces:
            if workspace.name == name:
                return workspace
        raise WorkspaceError(f"There is no workspace {name!r}.", f"There are: {', '.join(w.name for w in workspaces)}.")
    here = folder.resolve()
    around = [workspace for workspace in workspaces if here.is_relative_to(workspace.root)]
    if around:
        return max(around, key=lambda workspace: (len(workspace.root.parts), workspace.name))
    return max(workspaces, key=lambda workspace: (workspace.used_ns, workspace.name))


def embedders(settings: Settings) -> Iterator[Embedder]:
    """The configured embedders, the static one first, loaded as they are taken. Raises EmbedderError."""
    if settings.embeddings == "none":
        return
    from indexer.static_embedding import StaticEmbedder  # noqa: PLC0415 - for those who need vectors

    yield StaticEmbedder()
    if settings.embeddings == "minilm":
        from indexer.embedding import MiniLmEmbedder  # noqa: PLC0415 - as above

        yield MiniLmEmbedder()
    elif settings.embeddings != "static":
        from hub.backends.ollama import OllamaEmbedder  # noqa: PLC0415 - 0.9 s that only its users should wait for

        yield OllamaEmbedder(settings.ollama_host, settings.embeddings.removeprefix("ollama:"))


def backend(settings: Settings) -> Backend:
    """The configured language model; with ``auto`` Ollama, then the embedded one, then none. Raises BackendError."""
    match settings.backend:
        case "ollama":
            return _ollama(settings)
        case "llama-server":
            if not settings.llama_server_url:
                raise SettingsError(
                    "No llama-server is named.", "Set llama_server.url, for instance http://127.0.0.1:8080."
                )
            return LlamaServerBackend(settings.llama_server_url)
        case "embedded":
            return _embedded(settings)
        case "none":
            return EvidenceOnlyBackend()
        case _:
            return _found(settings)


def _found(settings: Settings) -> Backend:
    if settings.llama_server_url:
        return LlamaServerBackend(settings.llama_server_url)
    from hub.backends import ollama  # noqa: PLC0415 - as above

    model = ollama.find(settings.ollama_host, settings.ollama_model or None)
    if model is not None:
        return ollama.OllamaBackend(settings.ollama_host, model, num_ctx=settings.ollama_context)
    try:
        return _embedded(settings)
    except BackendError:
        return EvidenceOnlyBackend()


def _ollama(settings: Settings) -> Backend:
    from hub.backends import ollama  # noqa: PLC0415 - as above

    model = ollama.find(settings.ollama_host, settings.ollama_model or None)
    if model is None:
        raise BackendUnavailable(f"Ollama does not answer at {settings.ollama_host}.", "Start it with `ollama serve`.")
    return ollama.OllamaBackend(settings.ollama_host, model, num_ctx=settings.ollama_context)


def _embedded(settings: Settings) -> Backend:
    model = Path(settings.embedded_model).expanduser() if settings.embedded_model else None
    return EmbeddedBackend(model)
