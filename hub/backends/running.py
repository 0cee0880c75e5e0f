"""What a running engine shows of the knobs of a profile, to hold beside what was asked for.

Engines show little: the context and the number of users (a llama.cpp server), the context and what lies on the card
(Ollama), everything (the embedded one, which is our own). What is not shown is left out, never guessed.
"""

from collections.abc import Mapping
from contextlib import closing

from hub.backends.chat import whole_number
from hub.backends.embedded import EmbeddedBackend
from hub.backends.endpoint import Endpoint
from hub.capacity.profile import Knob, Place, Status
from hub.errors import BackendUnavailable

_START_HINT = "Start it, and give its address."
_LLAMA = "a llama.cpp server"


def of_llama_server(url: str, api_key: str = "") -> Mapping[Knob, str]:
    """From ``/props``. Raises BackendError."""
    with closing(Endpoint(url, api_key=api_key, what=_LLAMA, way_out=_START_HINT)) as server:
        told = server.ask("GET", "/props")
    seen = {
        Knob.CONTEXT: whole_number(told, "default_generation_settings", "n_ctx"),
        Knob.PARALLEL: whole_number(told, "total_slots"),
    }
    if seen[Knob.CONTEXT] is None:
        raise BackendUnavailable(f"What answers at {url} is not {_LLAMA}.", _START_HINT)
    return {knob: str(value) for knob, value in seen.items() if value is not None}


def of_ollama(host: str, model: str) -> Mapping[Knob, str]:
    """From ``/api/ps``, of the named model or the first that is loaded. Raises BackendError where none is."""
    from hub.backends.ollama import residency  # noqa: PLC0415 - 0.9 s that only its users should wait for

    loaded = [one for one in residency(host) if not model or one.name in {model, f"{model}:latest"}]
    if not loaded:
        what = f"The model {model}" if model else "No model"
        raise BackendUnavailable(
            f"{what} is {'not ' if model else ''}loaded in Ollama, so nothing of it can be seen.",
            "Ask it something first.",
        )
    seen: dict[Knob, str] = {}
    if loaded[0].context_length:
        seen[Knob.CONTEXT] = str(loaded[0].context_length)
    if not loaded[0].size_vram:
        seen[Knob.GPU_LAYERS] = "0"
    return seen


def of_embedded(backend: EmbeddedBackend) -> Mapping[Knob, str]:
    """What the library was given, and the context that its server tells. Loads the model. Raises BackendError."""
    given = {
        row.knob: row.value
        for row in backend.settled()
        if row.status is Status.APPLIED and any(binding.place is Place.PARAMETER for binding in row.bindings)
    }
    return given | {Knob.CONTEXT: str(backend.served_window())}
