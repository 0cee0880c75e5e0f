"""What each engine makes of the knobs of a profile: one table for each, from a knob to the engine's own spelling.

``settle`` answers for every knob: codehub applies it, somebody has to set it where the engine is started (and how), the
engine cannot do it, or nobody asked. Nothing is left out silently.

The spellings are those of llama.cpp b10488 to b11549, of an Ollama that runs llama.cpp's own server as its child (its
environment reaches the child, so what Ollama has no option for can still be set, for all models at once), and of vLLM
0.33. Knows no running engine, and not how answers are written down (``renderings``).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hub.capacity.model import KvType
from hub.capacity.profile.knobs import (
    FIT,
    FOR_EVER,
    MIB,
    QUANTIZED,
    Knob,
    KvPlacement,
    Profile,
    Switch,
    Value,
    asked,
    plain,
    spell_cpus,
)


class Engine(StrEnum):
    """What runs the model."""

    OLLAMA = "ollama"
    LLAMA_SERVER = "llama-server"
    EMBEDDED = "embedded"
    VLLM = "vllm"


class Status(StrEnum):
    """What becomes of a knob."""

    APPLIED = "applied"  # codehub sees to it
    NEEDS_ENVIRONMENT = "needs-environment"  # to be set where the engine is started
    UNSUPPORTED = "unsupported"  # was asked and will not happen
    DEFAULT = "default"  # was not asked


class Place(StrEnum):
    """Where a setting of an engine stands."""

    REQUEST = "request"  # codehub sends it with every request
    PARAMETER = "parameter"  # codehub hands it to the library
    CODEHUB = "codehub"  # codehub does it itself
    ENVIRONMENT = "environment"  # of the engine's server
    FLAG = "flag"  # of its command line
    CONFIG = "config.ini"  # llama.cpp's own file, /etc/llama.cpp/config.ini or ~/.config/llama.cpp/config.ini
    MODEL_FILE = "model file"


@dataclass(frozen=True, slots=True)
class Binding:
    """One setting as an engine spells it. ``variable`` is what a flag is called in the environment, "" if nothing."""

    place: Place
    name: str
    value: Value
    variable: str = ""

    @property
    def spelling(self) -> str:
        """On one line, without quotes."""
        if self.place is Place.FLAG:
            return f"{self.name} {plain(self.value)}".rstrip() if self.value is not True else self.name
        return f"{self.name}={plain(self.value)}"


@dataclass(frozen=True, slots=True)
class Settled:
    """What an engine makes of a knob. ``value`` is what was asked, "" where nothing was."""

    knob: Knob
    value: str
    status: Status
    bindings: tuple[Binding, ...] = ()
    note: str = ""

    @property
    def spelling(self) -> str:
        """What the engine is told, on one line; "" where it need not be told anything."""
        return " ".join(binding.spelling for binding in self.bindings if binding.place is not Place.CODEHUB)


@dataclass(frozen=True, slots=True)
class _Told:
    """What an engine says of a knob that was asked for."""

    bindings: tuple[Binding, ...] = ()
    note: str = ""
    possible: bool = True


Table = Mapping[Knob, Callable[[Profile], _Told]]


def settle(profile: Profile, engine: Engine, *, gpu_memory: int = 0) -> tuple[Settled, ...]:
    """One answer for each knob, in the order of Knob. ``gpu_memory``: bytes of the card, for what is a share of it."""
    table = _TABLES[engine]
    return tuple(_settled(profile, knob, table[knob], gpu_memory) for knob in Knob)


def request_options(profile: Profile) -> dict[str, int]:
    """What codehub sends to Ollama beside ``num_ctx`` with every request, by Ollama's names."""
    rows = (row for row in settle(profile, Engine.OLLAMA) if row.status is Status.APPLIED)
    bindings = (binding for row in rows for binding in row.bindings if binding.place is Place.REQUEST)
    return {
        binding.name: int(binding.value)
        for binding in bindings
        if binding.name.startswith("num_") and binding.name != "num_ctx"
    }


def _settled(profile: Profile, knob: Knob, tell: Callable[[Profile], _Told], gpu_memory: int) -> Settled:
    value = asked(profile, knob)
    if not value:
        return Settled(knob, "", Status.DEFAULT)
    told = tell(profile)
    if any(binding.name == _SHARE for binding in told.bindings):
        told = _share(profile, gpu_memory)
    if not told.possible:
        return Settled(knob, value, Status.UNSUPPORTED, note=told.note)
    ours = all(binding.place in _OURS for binding in told.bindings)
    return Settled(knob, value, Status.APPLIED if ours else Status.NEEDS_ENVIRONMENT, told.bindings, told.note)


_OURS = frozenset({Place.REQUEST, Place.PARAMETER, Place.CODEHUB})
_REFUSED = Binding(Place.CODEHUB, "refuse", "before sending")
_SHARE = "--gpu-memory-utilization"


def _flags(*flags: tuple[str, Value, str], note: str = "") -> _Told:
    return _Told(tuple(Binding(Place.FLAG, name, value, variable) for name, value, variable in flags), note)


def _never(note: str) -> Callable[[Profile], _Told]:
    return lambda _: _Told(note=note, possible=False)


def _mask(cpus: Iterable[int]) -> str:
    """CPUs as the hexadecimal mask of llama.cpp."""
    return f"0x{sum(1 << cpu for cpu in cpus):x}"


def _margin_is_open(profile: Profile) -> bool:
    return profile.gpu_layers is None


_FIXED_LAYERS = "an explicit number of layers on the card switches the fitting off that would leave room"
_SLOW_KV = (
    "attention stays on the card, which copies the cache over for every token: the last resort, with a large "
    "prefill chunk"
)
_SLIDING_ONLY = "for models with sliding layers only"
_NO_EXPERTS_BEYOND = "counts layers from the first one on"

# The flags of llama.cpp's server, with the variable that means the same where there is one in every build.
_LLAMA_SERVER: Table = {
    Knob.CONTEXT: lambda p: _flags(
        ("--ctx-size", p.context * p.users, "LLAMA_ARG_CTX_SIZE"),
        note="all users share what the flag says" if p.users > 1 else "",
    ),
    Knob.OVERFLOW: lambda _: _Told((_REFUSED,), "refused before it is sent; the server refuses it, too"),
    Knob.K_TYPE: lambda p: _flags(("--cache-type-k", str(p.k_type), "LLAMA_ARG_CACHE_TYPE_K")),
    Knob.V_TYPE: lambda p: _flags(("--cache-type-v", str(p.v_type), "LLAMA_ARG_CACHE_TYPE_V")),
    Knob.FLASH_ATTENTION: lambda p: _flags(("--flash-attn", str(p.attention), "LLAMA_ARG_FLASH_ATTN")),
    Knob.KV_PLACEMENT: lambda p: (
        _flags(("--no-kv-offload", True, "LLAMA_ARG_KV_OFFLOAD=0"), note=_SLOW_KV)
        if p.kv_placement is KvPlacement.RAM
        else _flags(("--kv-offload", True, "LLAMA_ARG_KV_OFFLOAD=1"))
    ),
    Knob.GPU_LAYERS: lambda p: _flags(("--n-gpu-layers", int(p.gpu_layers or 0), "LLAMA_ARG_N_GPU_LAYERS")),
    Knob.RAM_EXPERTS: lambda p: (
        _flags(("--fit", "on", "LLAMA_ARG_FIT"), note="puts experts into main memory first")
        if p.ram_experts == FIT
        else _flags(("--n-cpu-moe", int(p.ram_experts or 0), "LLAMA_ARG_N_CPU_MOE"), note=_NO_EXPERTS_BEYOND)
    ),
    Knob.VRAM_MARGIN: lambda p: (
        _flags(("--fit-target", int(p.vram_margin_mib or 0), "LLAMA_ARG_FIT_TARGET"))
        if _margin_is_open(p)
        else _Told(note=_FIXED_LAYERS, possible=False)
    ),
    Knob.PREFILL_CHUNK: lambda p: _flags(
        ("--batch-size", p.prefill_chunk, "LLAMA_ARG_BATCH"), ("--ubatch-size", p.prefill_chunk, "LLAMA_ARG_UBATCH")
    ),
    Knob.THREADS: lambda p: _flags(("--threads", p.threads, "LLAMA_ARG_THREADS")),
    Knob.CPUS: lambda p: _flags(
        ("--cpu-mask", _mask(p.cpus), ""), note="builds of December 2025 to b10386 ignore it: taskset works with any"
    ),
    Knob.CPU_STRICT: lambda _: _flags(("--cpu-strict", 1, "")),
    Knob.NUMA: lambda p: _flags(("--numa", str(p.numa), "LLAMA_ARG_NUMA")),
    Knob.YARN_FACTOR: lambda p: _flags(
        ("--rope-scaling", "yarn", "LLAMA_ARG_ROPE_SCALING_TYPE"),
        ("--rope-scale", p.yarn_factor, "LLAMA_ARG_ROPE_SCALE"),
        note="builds before September 2026 keep to the trained context: `codehub extend-context` works with any",
    ),
    Knob.YARN_ORIGINAL: lambda p: _flags(("--yarn-orig-ctx", p.yarn_original, "LLAMA_ARG_YARN_ORIG_CTX")),
    Knob.SWA_FULL: lambda _: _flags(("--swa-full", True, "LLAMA_ARG_SWA_FULL=1"), note=_SLIDING_ONLY),
    Knob.RAM_CACHE: lambda p: _flags(("--cache-ram", int(p.ram_cache_mib or 0), "LLAMA_ARG_CACHE_RAM")),
    Knob.CHUNK_REUSE: lambda p: _flags(
        ("--cache-reuse", int(p.chunk_reuse or 0), "LLAMA_ARG_CACHE_REUSE"),
        note="an approximation; not for sliding layers unless they keep every token",
    ),
    Knob.CHECKPOINTS: lambda p: _flags(
        ("--ctx-checkpoints", int(p.checkpoints or 0), "LLAMA_ARG_CTX_CHECKPOINTS"),
        note="with 0 a recurrent model reads every prompt afresh" if p.checkpoints == 0 else "",
    ),
    Knob.SLOTS_FOLDER: lambda p: _flags(("--slot-save-path", p.slots_folder.rstrip("/") + "/", "")),
    Knob.PARALLEL: lambda p: _flags(("--parallel", p.parallel, "LLAMA_ARG_N_PARALLEL")),
    Knob.KEEP_ALIVE: lambda p: (
        _Told((Binding(Place.CODEHUB, "server", "stays loaded"),), "as long as the server runs")
        if p.keep_alive_s == FOR_EVER
        else _flags(
            ("--sleep-idle-seconds", max(1, int(p.keep_alive_s or 0)), ""), note="what it had read is lost then"
        )
    ),
}


def _request(name: str, value: Value, note: str = "") -> _Told:
    return _Told((Binding(Place.REQUEST, name, value),), note)


def _environment(*pairs: tuple[str, Value], note: str = "") -> _Told:
    return _Told(tuple(Binding(Place.ENVIRONMENT, name, value) for name, value in pairs), note)


def _passed_on(knob: Knob) -> Callable[[Profile], _Told]:
    """Ollama's child reads llama.cpp's variables from Ollama's environment, and its file for what has no variable."""

    def tell(profile: Profile) -> _Told:
        told = _LLAMA_SERVER[knob](profile)
        note = "; ".join(part for part in (told.note, _INSIDE) if part)
        return _Told(tuple(_for_child(binding) for binding in told.bindings), note, told.possible)

    return tell


def _for_child(binding: Binding) -> Binding:
    if not binding.variable:
        return Binding(Place.CONFIG, binding.name.lstrip("-"), binding.value)
    name, _, value = binding.variable.partition("=")
    return Binding(Place.ENVIRONMENT, name, value or binding.value)


def _kv_type(profile: Profile, variable: str, kind: KvType | None) -> _Told:
    if profile.k_type == profile.v_type:
        return _environment(("OLLAMA_KV_CACHE_TYPE", str(kind)), note="for all models, keys and values alike")
    return _environment((variable, str(kind)), note=f"only while OLLAMA_KV_CACHE_TYPE is not set; {_INSIDE}")


_INSIDE = "for the llama-server inside Ollama: an Ollama with a runner of its own, as before mid-2026, ignores it"
_OWN_YARN = (
    "Ollama keeps to the context of the model file: make one with `codehub extend-context`, then `ollama create`"
)

_OLLAMA: Table = {
    Knob.CONTEXT: lambda p: _request("num_ctx", p.context, "another size than before loads the model again"),
    Knob.OVERFLOW: lambda _: _Told(
        (_REFUSED, Binding(Place.REQUEST, "truncate", value=False), Binding(Place.REQUEST, "shift", value=False)),
        "refused before it is sent",
    ),
    Knob.K_TYPE: lambda p: _kv_type(p, "LLAMA_ARG_CACHE_TYPE_K", p.k_type),
    Knob.V_TYPE: lambda p: _kv_type(p, "LLAMA_ARG_CACHE_TYPE_V", p.v_type),
    Knob.FLASH_ATTENTION: lambda p: _environment(("OLLAMA_FLASH_ATTENTION", int(p.attention is Switch.ON))),
    Knob.KV_PLACEMENT: _passed_on(Knob.KV_PLACEMENT),
    Knob.GPU_LAYERS: lambda p: _request("num_gpu", int(p.gpu_layers or 0), "switches Ollama's own fitting off"),
    Knob.RAM_EXPERTS: _passed_on(Knob.RAM_EXPERTS),
    Knob.VRAM_MARGIN: lambda p: (
        _environment(
            ("LLAMA_ARG_FIT_TARGET", int(p.vram_margin_mib or 0)),
            note=f"not OLLAMA_GPU_OVERHEAD, which no longer places anything; {_INSIDE}",
        )
        if _margin_is_open(p)
        else _Told(note=_FIXED_LAYERS, possible=False)
    ),
    Knob.PREFILL_CHUNK: lambda p: _request("num_batch", p.prefill_chunk, "another size loads the model again"),
    Knob.THREADS: lambda p: _request("num_thread", p.threads),
    Knob.CPUS: _passed_on(Knob.CPUS),
    Knob.CPU_STRICT: _passed_on(Knob.CPU_STRICT),
    Knob.NUMA: _passed_on(Knob.NUMA),
    Knob.YARN_FACTOR: lambda p: _Told((Binding(Place.MODEL_FILE, "rope.scaling.factor", p.yarn_factor),), _OWN_YARN),
    Knob.YARN_ORIGINAL: _never("codehub extend-context takes it from the model's file"),
    Knob.SWA_FULL: _passed_on(Knob.SWA_FULL),
    Knob.RAM_CACHE: _passed_on(Knob.RAM_CACHE),
    Knob.CHUNK_REUSE: _passed_on(Knob.CHUNK_REUSE),
    Knob.CHECKPOINTS: _passed_on(Knob.CHECKPOINTS),
    Knob.SLOTS_FOLDER: _never("Ollama hides the server that could save them: run a llama-server for this"),
    Knob.PARALLEL: lambda p: _environment(
        ("OLLAMA_NUM_PARALLEL", p.parallel), note="Ollama takes 1 for embedding models and for some recurrent ones"
    ),
    Knob.KEEP_ALIVE: lambda p: _request("keep_alive", float(p.keep_alive_s or 0)),
}


def _parameters(*pairs: tuple[str, Value], note: str = "") -> _Told:
    return _Told(tuple(Binding(Place.PARAMETER, name, value) for name, value in pairs), note)


def _experts(layers: int) -> str:
    """The override of llama.cpp that leaves the experts of the first layers in main memory."""
    return (
        rf"blk\.(?:{'|'.join(map(str, range(layers)))})\.ffn_(?:up|down|gate|gate_up)_(?:ch|)exps=CPU" if layers else ""
    )


# Attributes of the library's CommonParams; hub.backends.embedded sets exactly what stands here.
_EMBEDDED: Table = {
    Knob.CONTEXT: lambda p: _parameters(("n_ctx", p.context * p.users)),
    Knob.OVERFLOW: lambda _: _Told(
        (_REFUSED, Binding(Place.PARAMETER, "ctx_shift", value=False)), "refused before it is sent"
    ),
    Knob.K_TYPE: lambda p: _parameters(("cache_type_k", str(p.k_type))),
    Knob.V_TYPE: lambda p: _parameters(("cache_type_v", str(p.v_type))),
    Knob.FLASH_ATTENTION: lambda p: _parameters(("flash_attn_type", str(p.attention))),
    Knob.KV_PLACEMENT: lambda p: _parameters(("no_kv_offload", p.kv_placement is KvPlacement.RAM)),
    Knob.GPU_LAYERS: lambda p: _parameters(("n_gpu_layers", int(p.gpu_layers or 0))),
    Knob.RAM_EXPERTS: lambda p: (
        _parameters(("fit_params", True))
        if p.ram_experts == FIT
        else _parameters(("tensor_buft_overrides", _experts(int(p.ram_experts or 0))), note=_NO_EXPERTS_BEYOND)
    ),
    Knob.VRAM_MARGIN: lambda p: (
        _parameters(("fit_params_target", int(p.vram_margin_mib or 0) * MIB))
        if _margin_is_open(p)
        else _Told(note=_FIXED_LAYERS, possible=False)
    ),
    Knob.PREFILL_CHUNK: lambda p: _parameters(("n_batch", p.prefill_chunk), ("n_ubatch", p.prefill_chunk)),
    Knob.THREADS: lambda p: _parameters(("cpuparams.n_threads", p.threads), ("cpuparams_batch.n_threads", p.threads)),
    Knob.CPUS: lambda p: _parameters(
        ("cpuparams.cpumask", spell_cpus(p.cpus)),
        ("cpuparams_batch.cpumask", spell_cpus(p.cpus)),
        note="the threads that compute; those that wait for requests stay free",
    ),
    Knob.CPU_STRICT: lambda _: _parameters(("cpuparams.strict_cpu", True), ("cpuparams_batch.strict_cpu", True)),
    Knob.NUMA: lambda p: _parameters(("numa", str(p.numa)), note="once for the whole process"),
    Knob.YARN_FACTOR: lambda p: _parameters(("rope_scaling_type", "yarn"), ("rope_freq_scale", 1 / p.yarn_factor)),
    Knob.YARN_ORIGINAL: lambda p: _parameters(("yarn_orig_ctx", p.yarn_original)),
    Knob.SWA_FULL: lambda _: _parameters(("swa_full", True), note=_SLIDING_ONLY),
    Knob.RAM_CACHE: lambda p: _parameters(("cache_ram_mib", int(p.ram_cache_mib or 0))),
    Knob.CHUNK_REUSE: lambda p: _parameters(("n_cache_reuse", int(p.chunk_reuse or 0))),
    Knob.CHECKPOINTS: lambda p: _parameters(("n_ctx_checkpoints", int(p.checkpoints or 0))),
    Knob.SLOTS_FOLDER: lambda p: _parameters(("slot_save_path", p.slots_folder.rstrip("/") + "/")),
    Knob.PARALLEL: lambda p: _parameters(("n_parallel", p.parallel)),
    Knob.KEEP_ALIVE: lambda p: (
        _Told((Binding(Place.CODEHUB, "process", "stays loaded"),), "as long as the process runs")
        if p.keep_alive_s == FOR_EVER
        else _Told(note="the model stays loaded as long as the process runs", possible=False)
    ),
}

# What comes nearest in vLLM, which has one type for keys and values; auto is the model's own 16 bits.
_VLLM_KV = {KvType.F16: "auto", KvType.BF16: "bfloat16", KvType.Q8_0: "fp8", KvType.Q4_0: "int4_per_token_head"}


def _vllm_kv(profile: Profile) -> _Told:
    kinds = {kind for kind in (profile.k_type, profile.v_type) if kind is not None}
    kind = kinds.pop()
    if kinds:
        return _Told(note="vLLM has one type for keys and values", possible=False)
    if kind not in _VLLM_KV:
        return _Told(note=f"vLLM has nothing like {kind}", possible=False)
    note = f"of the size of {kind}, rounded in another way" if kind in QUANTIZED else ""
    return _flags(("--kv-cache-dtype", _VLLM_KV[kind], ""), note=note)


def _vllm_yarn(profile: Profile) -> _Told:
    original = profile.yarn_original or 0
    longest = int(original * profile.yarn_factor)
    rope: dict[str, object] = {"rope_type": "yarn", "factor": profile.yarn_factor}
    if original:
        rope["original_max_position_embeddings"] = original
    overrides: dict[str, object] = {"rope_parameters": rope}
    if longest:
        overrides["max_position_embeddings"] = longest
    return _flags(
        ("--hf-overrides", json.dumps(overrides), ""),
        note="add the rope_theta of the model's config.json to rope_parameters",
    )


def _share(profile: Profile, gpu_memory: int) -> _Told:
    margin = (profile.vram_margin_mib or 0) * MIB
    if not gpu_memory or margin >= gpu_memory:
        return _Told(note="vLLM takes a share of the card, and how large the card is is not known here", possible=False)
    return _flags((_SHARE, round(1 - margin / gpu_memory, 3), ""))


_VLLM: Table = {
    Knob.CONTEXT: lambda p: _flags(("--max-model-len", p.context, "")),
    Knob.OVERFLOW: lambda _: _Told((_REFUSED,), "refused before it is sent; the server refuses it, too"),
    Knob.K_TYPE: _vllm_kv,
    Knob.V_TYPE: _vllm_kv,
    Knob.FLASH_ATTENTION: lambda p: (
        _Told((Binding(Place.CODEHUB, "vllm", "always"),), "it always is")
        if p.attention is Switch.ON
        else _Told(note="vLLM cannot do without", possible=False)
    ),
    Knob.KV_PLACEMENT: lambda p: (
        _Told((Binding(Place.CODEHUB, "vllm", "always"),), "of running requests it always is")
        if p.kv_placement is KvPlacement.GPU
        else _Told(note="the cache of a running request must fit the card", possible=False)
    ),
    Knob.GPU_LAYERS: _never("vLLM has no layers on the CPU; --cpu-offload-gb takes GiB of weights"),
    Knob.RAM_EXPERTS: _never("vLLM counts GiB of weights (--cpu-offload-gb), not layers"),
    Knob.VRAM_MARGIN: lambda _: _flags((_SHARE, 1.0, "")),
    Knob.PREFILL_CHUNK: lambda p: _flags(("--max-num-batched-tokens", p.prefill_chunk, "")),
    Knob.THREADS: _never("vLLM computes on the card"),
    Knob.CPUS: _never("vLLM computes on the card: start it with taskset"),
    Knob.CPU_STRICT: _never("vLLM computes on the card"),
    Knob.NUMA: _never("vLLM computes on the card: start it with numactl"),
    Knob.YARN_FACTOR: _vllm_yarn,
    Knob.YARN_ORIGINAL: _vllm_yarn,
    Knob.SWA_FULL: lambda _: _flags(("--disable-hybrid-kv-cache-manager", True, "")),
    Knob.RAM_CACHE: lambda p: (
        _flags(
            ("--kv-offloading-size", round((p.ram_cache_mib or 0) / 1024, 3), ""),
            note="GiB, for requests that have ended",
        )
        if p.ram_cache_mib
        else _Told((Binding(Place.CODEHUB, "vllm", "keeps none"),), "it keeps none unless told to")
    ),
    Knob.CHUNK_REUSE: _never("vLLM reuses the beginning of a prompt only"),
    Knob.CHECKPOINTS: _never("vLLM decides itself what it keeps of recurrent layers"),
    Knob.SLOTS_FOLDER: _never("vLLM keeps no states on disk by itself"),
    Knob.PARALLEL: lambda p: _flags(("--max-num-seqs", p.parallel, "")),
    Knob.KEEP_ALIVE: lambda p: (
        _Told((Binding(Place.CODEHUB, "server", "stays loaded"),), "as long as the server runs")
        if p.keep_alive_s == FOR_EVER
        else _Told(note="vLLM keeps its model as long as it runs", possible=False)
    ),
}

_TABLES: Mapping[Engine, Table] = {
    Engine.OLLAMA: _OLLAMA,
    Engine.LLAMA_SERVER: _LLAMA_SERVER,
    Engine.EMBEDDED: _EMBEDDED,
    Engine.VLLM: _VLLM,
}
