"""Which models an Ollama has, which of them answers questions best, what they are made of, and which are in memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hub.backends.ollama.server import DEFAULT_HOST, Server, missing
from hub.capacity.architecture import listed_tensors
from hub.capacity.gguf import Tensor, read_header
from hub.errors import BackendError, BrokenStream, ModelFileError, ModelMissing

# Parts of names of models that do not answer questions.
_NO_CHAT = re.compile(r"embed|minilm|\bbge\b|\bgte\b|\be5\b|paraphrase|rerank|guard|-ocr|translate", re.IGNORECASE)
# Models that Ollama runs on its maker's machines: code would leave this one.
_ELSEWHERE = re.compile(r"[:-]cloud$")
# The weights among the lines of a Modelfile: Ollama keeps them under their digest.
_WEIGHTS = re.compile(r"^FROM (?P<path>.{1,4096}[/\\]blobs[/\\]sha256-[0-9a-f]{64})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory. What Ollama's sizes leave out: the driver's own memory and prompts kept in RAM."""

    name: str
    size: int  # bytes: weights, KV cache and buffers
    size_vram: int  # of these on the card
    context_length: int  # tokens; 0 where an old Ollama does not tell
    expires: str  # ISO 8601; a year far ahead for one that stays


def find(host: str = DEFAULT_HOST, model: str | None = None) -> str | None:
    """The chat model to use at this host, or None if no Ollama answers there. Takes half a second at most to say None
    where nothing listens.

    The configured model if there is one, else the best of those installed: first those with "coder" in the name,
    then the largest file, then by name. Embedding models, rerankers and guards are passed over, and so are models
    that run in Ollama's cloud. Raises ModelMissing when Ollama runs without such a model, and BackendUnavailable when
    the host is not an address.
    """
    server = Server(host)
    if not server.listens():
        return None
    try:
        installed = server.installed()
    except BackendError:
        return None  # it is something else that listens there, or it is of no use now
    finally:
        server.close()
    if model is not None:
        for name in (model, f"{model}:latest"):
            if name in installed:
                return name
        raise missing(model)
    chat = [name for name in installed if not _NO_CHAT.search(name) and not _ELSEWHERE.search(name)]
    if not chat:
        raise ModelMissing(
            f"Ollama at {server.address} has no model that answers questions.", "ollama pull qwen2.5-coder:7b"
        )
    return min(chat, key=lambda name: ("coder" not in name.lower(), -installed[name].size, name))


def installed_models(host: str = DEFAULT_HOST) -> tuple[str, ...]:
    """The names of all models that Ollama has, sorted. Raises BackendError."""
    server = Server(host)
    try:
        return tuple(sorted(server.installed()))
    finally:
        server.close()


def model_facts(host: str, model: str) -> tuple[Mapping[str, object], tuple[Tensor, ...]]:
    """The GGUF metadata of a model, vocabulary and all, and its matrices, by ``/api/show``. Raises BackendError.

    Matrices that are listed by halves or of an unknown type raise ModelFileError. A model not in GGUF has no matrices.
    """
    server = Server(host)
    try:
        shown = server.shown(model, verbose=True)
    finally:
        server.close()
    metadata = shown.get("model_info")
    if not isinstance(metadata, dict):
        raise BrokenStream(f"Ollama tells nothing of what {model} is made of.", "Update Ollama.")
    return metadata, listed_tensors(shown.get("tensors") or ())


def residency(host: str = DEFAULT_HOST) -> tuple[Resident, ...]:
    """The models in memory, sorted by name. Raises BackendError."""
    server = Server(host)
    try:
        running = server.running()
    finally:
        server.close()
    found = (
        Resident(
            str(entry.get("name") or entry.get("model") or ""),
            _number(entry.get("size")),
            _number(entry.get("size_vram")),
            _number(entry.get("context_length")),
            str(entry.get("expires_at") or ""),
        )
        for entry in running
    )
    return tuple(sorted(found, key=lambda resident: resident.name))


def preload(host: str, model: str, num_ctx: int, keep_alive_s: float | None = None) -> None:
    """Loads a model, as a request with this ``num_ctx`` and no other option of loading would. Raises BackendError."""
    body: dict[str, object] = {"truncate": False, "shift": False, "options": {"num_ctx": num_ctx}}
    if keep_alive_s is not None:
        body["keep_alive"] = keep_alive_s
    _keep(host, model, body)


def unload(host: str, model: str) -> None:
    """Lets go of a model, once what it is answering has ended; it is gone soon after. Raises BackendError."""
    _keep(host, model, {"keep_alive": 0})


def vocabulary_of(server: Server, model: str, shown: Mapping[str, object]) -> Mapping[str, object]:
    """Metadata with the whole vocabulary: from the model's file where that lies on this machine, else from Ollama.

    ``shown`` is what ``server.shown`` said without it. Raises BackendError.
    """
    found = _WEIGHTS.search(str(shown.get("modelfile") or "")) if server.is_here else None
    if found:
        try:
            return read_header(Path(found["path"]), vocabulary=True).metadata
        except ModelFileError:
            pass  # another user's, or in a container: Ollama itself can be asked
    metadata = server.shown(model, verbose=True).get("model_info")
    return metadata if isinstance(metadata, dict) else {}


def _keep(host: str, model: str, body: Mapping[str, object]) -> None:
    server = Server(host)
    try:
        server.keep(model, body)
    finally:
        server.close()


def _number(value: object) -> int:
    return value if type(value) is int else 0
