"""Puts together what answers, as the settings say: index, embedder, language model. Nothing is loaded early."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from hub.analysis import Bounds, Summary
from hub.asking import Analyst, Paces, close
from hub.asking.paces import Pace, in_process
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.changes import Shelf, rules_of
from hub.choosing import choose_workspace as choose_workspace  # noqa: PLC0414 - those who wire find it here
from hub.confidence import recent
from hub.config import Settings
from hub.errors import BackendError, BackendUnavailable, ModelFileError, SettingsError, SnapshotError
from hub.following import stamp
from hub.fullload.loading import loader_of
from hub.fullload.snapshots import Snapshots
from hub.model import Backend, BackendInfo, Hit, Policy
from hub.prompting import Passage
from hub.service import AskOptions, Service
from indexer.errors import DataFolderError
from indexer.index import DataFolder, Index
from indexer.model import Embedder

if TYPE_CHECKING:
    from hub.asking.planned import Planned
    from hub.capacity.model import ModelShape
    from hub.capacity.profile import Engine, Profile


def data_folder(settings: Settings) -> DataFolder:
    return DataFolder(settings.data, "" if settings.vectors == "embedded" else settings.vectors)


@dataclass(frozen=True, slots=True)
class Models:
    """Where a service has its models from. What several services use together is not theirs to ``end``."""

    embedders: Callable[[], Iterable[Embedder]]
    backend: Callable[[], Backend]
    deep: Callable[[], Backend] | None  # who reads the whole code base, where that is another
    end: Callable[[Backend], None] = close


def models(settings: Settings) -> Models:
    """Models of one service alone."""
    return Models(
        lambda: embedders(settings),
        lambda: backend(settings),
        (lambda: backend(deep_settings(settings))) if has_deep_backend(settings) else None,
    )


@contextmanager
def open_service(settings: Settings, workspace: str | None, folder: Path) -> Iterator[Service]:
    """A service over a workspace, reading beside whatever writes. Closes what it opened."""
    data = data_folder(settings)
    chosen = choose_workspace(data.workspaces(), workspace, folder)
    service = service_of(settings, Index.for_reading(data, chosen.name), models(settings))
    try:
        yield service
    finally:
        service.close()


def service_of(settings: Settings, index: Index, made: Models) -> Service:
    """A service over an open index, which it closes."""
    data = data_folder(settings)
    folder = data.workspace_folder(index.workspace)
    return Service(
        index,
        made.embedders,
        made.backend,
        _ask_options(settings),
        loader=cache(lambda model: loader_of(folder / "full-loads", model, data.owned)),
        snapshots=cache(lambda: _writable_snapshots(deep_settings(settings))),
        deep=made.deep,
        paces=Paces(settings.data, partial(_pace, settings)),
        analyst=Analyst(_summarized, folder / "analyses"),
        note=partial(recent.note, folder),
        end=made.end,
        stamp=partial(stamp, settings.data),
        known=partial(_known, settings),
        shelf=Shelf(index, data, rules_of(settings)),
    )


def _known(settings: Settings, service: Service, question: str, hits: Sequence[Hit]) -> tuple[Passage, ...]:
    """What people keep of what was found, and what merges changed where the question is about them."""
    from hub.why import merges  # noqa: PLC0415 - only for those who ask

    shown = merges.passages(service.shelf, question, hits[0].score) if hits else ()
    return (*_kept(settings, service, question, hits), *shown)


def _kept(settings: Settings, service: Service, question: str, hits: Sequence[Hit]) -> tuple[Passage, ...]:
    """What people keep of what was found. Where that cannot be read, an answer is made of the code alone."""
    from hub import remembering  # noqa: PLC0415 - as the two below, only for those who ask
    from hub.auth import audit  # noqa: PLC0415
    from hub.knowledge import Lasting, Review, lasting  # noqa: PLC0415

    if not (settings.data / lasting.FILE).exists():
        return ()
    log, review = audit.AuditLog(settings.data / audit.FILE), Review(settings.knowledge_review)
    try:
        with closing(Lasting(settings.data / lasting.FILE, log, review)) as kept:
            return remembering.evidence(kept, service, question, hits)
    except DataFolderError:
        return ()


def _ask_options(settings: Settings) -> AskOptions:
    return AskOptions(
        prompt_tokens=settings.prompt_tokens,
        answer_tokens=settings.answer_tokens,
        adapt=settings.retrieval_adapt,
        policy=Policy(settings.ask_policy),
        probe=settings.ask_probe,
        wide_tokens=settings.wide_tokens,
        focus_tokens=settings.focus_tokens,
        bounds=Bounds(
            answer_tokens=settings.answer_tokens,
            most_tokens=settings.analysis_tokens,
            most_seconds=60.0 * settings.analysis_minutes,
        ),
    )


def _pace(settings: Settings, info: BackendInfo, tokens: int) -> Pace | None:
    """How fast a model is by arithmetic, asked where nothing was measured."""
    return _planned(settings)(info, tokens)


@cache
def _planned(settings: Settings) -> "Planned":
    from hub.asking.planned import Planned  # noqa: PLC0415 - 0.1 s for those who ask a model

    return Planned(settings.data, lambda info: _shape(settings, info))


def _shape(settings: Settings, info: BackendInfo) -> "ModelShape | None":
    """What a model that runs on this machine is made of; None where that cannot be told."""
    from hub.backends.embedded import EmbeddedBackend  # noqa: PLC0415 - as above
    from hub.capacity import architecture, gguf  # noqa: PLC0415 - as above

    try:
        if in_process(info):
            path = EmbeddedBackend(Path(settings.embedded_model).expanduser() if settings.embedded_model else None)
            header = gguf.read_header(path.model_file)
            return architecture.shape_of(header.metadata, header.tensors, name=info.model, source="gguf")
        if info.name == "ollama":
            from hub.backends import ollama  # noqa: PLC0415 - 0.9 s that only its users should wait for
            from hub.backends.ollama.server import Server  # noqa: PLC0415 - as above

            if not Server(settings.ollama_host).is_here:
                return None
            metadata, tensors = ollama.model_facts(settings.ollama_host, info.model)
            return architecture.shape_of(metadata, tensors, name=info.model, source="ollama")
    except (BackendError, ModelFileError):
        return None
    return None


def _summarized(notes: Sequence[str], summary: Summary) -> str:
    from hub.llama import summarize_tree  # noqa: PLC0415 - seconds that only those should wait whose notes are there

    return summarize_tree(notes, summary)


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
            return _llama_server(settings)
        case "openai":
            if not settings.openai_url:
                raise SettingsError(
                    "No server of OpenAI's interface is named.", "Set openai.url, for instance http://127.0.0.1:8000."
                )
            return _openai(settings)
        case "embedded":
            return _embedded(settings)
        case "none":
            return EvidenceOnlyBackend()
        case _:
            return _found(settings)


def _found(settings: Settings) -> Backend:
    if settings.llama_server_url:
        return _llama_server(settings)
    if settings.openai_url:
        return _openai(settings)
    from hub.backends import ollama  # noqa: PLC0415 - as above

    model = ollama.find(settings.ollama_host, settings.ollama_model or None)
    if model is not None:
        return _ollama_with(settings, model)
    try:
        return _embedded(settings)
    except BackendError:
        return EvidenceOnlyBackend()


def _ollama(settings: Settings) -> Backend:
    from hub.backends import ollama  # noqa: PLC0415 - as above

    model = ollama.find(settings.ollama_host, settings.ollama_model or None)
    if model is None:
        raise BackendUnavailable(f"Ollama does not answer at {settings.ollama_host}.", "Start it with `ollama serve`.")
    return _ollama_with(settings, model)


def _ollama_with(settings: Settings, model: str) -> Backend:
    from hub.backends import ollama  # noqa: PLC0415 - as above
    from hub.capacity.profile import request_options  # noqa: PLC0415 - as above

    wanted = profile(settings)
    return ollama.OllamaBackend(
        settings.ollama_host,
        model,
        num_ctx=wanted.context or settings.ollama_context,
        load_options=request_options(wanted),
        keep_alive_s=wanted.keep_alive_s,
    )


def _llama_server(settings: Settings) -> Backend:
    from hub.backends.llama_server import LlamaServerBackend  # noqa: PLC0415 - for those who ask a model

    return LlamaServerBackend(settings.llama_server_url, api_key=settings.llama_server_key)


def _openai(settings: Settings) -> Backend:
    from hub.backends.openai_compatible import OpenAiCompatibleBackend  # noqa: PLC0415 - for those who ask a model

    return OpenAiCompatibleBackend(
        settings.openai_url,
        settings.openai_model,
        api_key=settings.openai_key,
        context_window=settings.profile_context,
    )


def _embedded(settings: Settings) -> Backend:
    from hub.backends.embedded import EmbeddedBackend  # noqa: PLC0415 - for those who ask a model

    model = Path(settings.embedded_model).expanduser() if settings.embedded_model else None
    kept = _writable_snapshots(replace(settings, backend="embedded"))
    return EmbeddedBackend(model, profile=profile(settings), slots_folder=kept.folder if kept else None)


def has_deep_backend(settings: Settings) -> bool:
    """Whether the whole code base is read by another model, or in another window, than the evidence."""
    return settings.full_backend != "same" or bool(settings.full_url or settings.full_model or settings.full_context)


def deep_settings(settings: Settings) -> Settings:
    """The settings under which the whole code base is read. Raises SettingsError where they could not work well."""
    if not has_deep_backend(settings):
        return settings
    kind = settings.backend if settings.full_backend == "same" else settings.full_backend
    if settings.full_context and not settings.full_url and kind in {"auto", "ollama"}:
        raise SettingsError(
            f"full.context is {settings.full_context} on the same Ollama, which holds a model in one window only: "
            "it would load it again, and forget all it has read, with every change of tier.",
            "Start a second one (OLLAMA_HOST=127.0.0.1:11435 ollama serve) and name it with full.url, or set "
            "ollama.context for all tiers.",
        )
    if settings.full_url and kind == "auto":
        raise SettingsError("full.url is set, but not what answers there.", "Set full.backend.")
    changes: dict[str, object] = {"backend": kind}
    for value, fields in (
        (settings.full_url, {"ollama": "ollama_host", "llama-server": "llama_server_url", "openai": "openai_url"}),
        (settings.full_model, {"ollama": "ollama_model", "embedded": "embedded_model", "openai": "openai_model"}),
        (settings.full_context, dict.fromkeys(("ollama", "embedded", "openai"), "profile_context")),
    ):
        if value and kind in fields:
            changes[fields[kind]] = value
    return replace(settings, **changes)  # type: ignore[arg-type] # the fields are of the values' types


def snapshots(settings: Settings) -> Snapshots | None:
    """Where states of prompts lie that engines have read; None where none are kept. Raises SnapshotError.

    A llama.cpp server of the user's own writes into the folder that it was started with, so it has to be named.
    """
    folder = Path(settings.profile_slots_folder).expanduser() if settings.profile_slots_folder else None
    elsewhere = settings.backend in {"auto", "llama-server"} and settings.llama_server_url
    if settings.snapshots_gigabytes == 0 or (elsewhere and folder is None):
        return None
    return Snapshots(folder or settings.data / "prefixes", settings.snapshots_gigabytes << 30)


def _writable_snapshots(settings: Settings) -> Snapshots | None:
    """The same; none where our own folder cannot be written, since an index may be read where nothing may be kept."""
    try:
        return snapshots(settings)
    except SnapshotError:
        if settings.profile_slots_folder:
            raise
        return None


def engine(settings: Settings) -> "Engine":
    """What the settings make run the model; with ``auto``, what is there. Raises SettingsError where it is nothing."""
    from hub.capacity.profile import Engine  # noqa: PLC0415 - for those who ask a model

    match settings.backend:
        case "none":
            raise SettingsError("The backend is none, so no engine is set up.", "Name one with --engine.")
        case "openai":
            return Engine.VLLM
        case "auto":
            return _engine_found(settings)
        case _:
            return Engine(settings.backend)


def _engine_found(settings: Settings) -> "Engine":
    from hub.capacity.profile import Engine  # noqa: PLC0415 - for those who ask a model

    if settings.llama_server_url:
        return Engine.LLAMA_SERVER
    if settings.openai_url:
        return Engine.VLLM
    from hub.backends import ollama  # noqa: PLC0415 - as above

    found = ollama.find(settings.ollama_host, settings.ollama_model or None)
    return Engine.EMBEDDED if found is None else Engine.OLLAMA


def profile(settings: Settings) -> "Profile":
    """How the model is to be run. Raises SettingsError where the knobs contradict."""
    from hub.capacity.model import KvType  # noqa: PLC0415 - for those who ask a model
    from hub.capacity.profile import KvPlacement, Numa, Profile, Switch  # noqa: PLC0415 - as above
    from hub.capacity.profile.knobs import read_cpus, read_experts, read_keep_alive  # noqa: PLC0415 - as above

    def kind(text: str) -> KvType | None:
        return None if text == "auto" else KvType(text)

    return Profile(
        context=settings.profile_context,
        k_type=kind(settings.profile_k_type),
        v_type=kind(settings.profile_v_type),
        flash_attention=Switch(settings.profile_flash_attention),
        kv_placement=KvPlacement(settings.profile_kv_placement),
        gpu_layers=settings.profile_gpu_layers,
        ram_experts=read_experts(settings.profile_ram_experts),
        vram_margin_mib=settings.profile_vram_margin_mib,
        prefill_chunk=settings.profile_prefill_chunk,
        threads=settings.profile_threads,
        cpus=read_cpus(settings.profile_cpus),
        cpu_strict=settings.profile_cpu_strict,
        numa=Numa(settings.profile_numa),
        yarn_factor=settings.profile_yarn_factor,
        yarn_original=settings.profile_yarn_original,
        swa_full=settings.profile_swa_full,
        ram_cache_mib=settings.profile_ram_cache_mib,
        chunk_reuse=settings.profile_chunk_reuse,
        checkpoints=settings.profile_checkpoints,
        slots_folder=str(Path(settings.profile_slots_folder).expanduser()) if settings.profile_slots_folder else "",
        parallel=settings.profile_parallel,
        keep_alive_s=read_keep_alive(settings.profile_keep_alive),
    )
