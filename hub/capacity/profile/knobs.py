"""How a model is to be run, as one set of knobs: their values, what contradicts, and how they are written and read.

Knows no engine's spelling of them (``engines``) and no running engine: what was asked and what one shows are compared
by ``compare``, which is handed both.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hub.capacity.model import KvType
from hub.errors import SettingsError

# Values with a scale for each block of 32: flash attention has to be on for V to be stored so.
QUANTIZED = frozenset({KvType.Q8_0, KvType.Q5_1, KvType.Q5_0, KvType.Q4_1, KvType.Q4_0, KvType.IQ4_NL})
# Seconds. "For ever", as Ollama spells it.
FOR_EVER = -1.0
FIT = -1  # of ram_experts: as many as it takes for the rest to fit the card
# The most CPUs a mask of llama.cpp has room for (GGML_MAX_N_THREADS).
MOST_CPUS = 512
# Tokens. llama.cpp rounds the context of a user up to a multiple of this.
CONTEXT_STEP = 256
MIB = 1 << 20
# Models are stretched 2 to 8 times; beyond, they read nothing any more.
MOST_YARN = 1024
MOST_TOKENS = (1 << 31) - 1  # engines count them in 32 bits


class Switch(StrEnum):
    """On, off, or as the engine sees fit."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class KvPlacement(StrEnum):
    """Where the KV cache of the layers on the card lies."""

    AUTO = "auto"
    GPU = "gpu"
    RAM = "ram"


class Numa(StrEnum):
    """What to do on a machine with several memories."""

    AUTO = "auto"
    DISTRIBUTE = "distribute"
    ISOLATE = "isolate"
    NUMACTL = "numactl"


class Overflow(StrEnum):
    """What becomes of a prompt that does not fit. There is one answer; it is a knob because engines differ."""

    ERROR = "error"


class Knob(StrEnum):
    """The fields of a Profile, in its order."""

    CONTEXT = "context"
    OVERFLOW = "overflow"
    K_TYPE = "k_type"
    V_TYPE = "v_type"
    FLASH_ATTENTION = "flash_attention"
    KV_PLACEMENT = "kv_placement"
    GPU_LAYERS = "gpu_layers"
    RAM_EXPERTS = "ram_experts"
    VRAM_MARGIN = "vram_margin_mib"
    PREFILL_CHUNK = "prefill_chunk"
    THREADS = "threads"
    CPUS = "cpus"
    CPU_STRICT = "cpu_strict"
    NUMA = "numa"
    YARN_FACTOR = "yarn_factor"
    YARN_ORIGINAL = "yarn_original"
    SWA_FULL = "swa_full"
    RAM_CACHE = "ram_cache_mib"
    CHUNK_REUSE = "chunk_reuse"
    CHECKPOINTS = "checkpoints"
    SLOTS_FOLDER = "slots_folder"
    PARALLEL = "parallel"
    KEEP_ALIVE = "keep_alive_s"


# What each knob is, for tables.
MEANINGS: Mapping[Knob, str] = {
    Knob.CONTEXT: "context window of one user, tokens",
    Knob.OVERFLOW: "a prompt that does not fit",
    Knob.K_TYPE: "type of the keys in the KV cache",
    Knob.V_TYPE: "type of the values in the KV cache",
    Knob.FLASH_ATTENTION: "flash attention",
    Knob.KV_PLACEMENT: "where the KV cache lies",
    Knob.GPU_LAYERS: "layers on the card",
    Knob.RAM_EXPERTS: "layers whose experts lie in main memory, or fit",
    Knob.VRAM_MARGIN: "memory of the card left free, MiB",
    Knob.PREFILL_CHUNK: "tokens of a prompt read at once",
    Knob.THREADS: "threads",
    Knob.CPUS: "CPUs to run on",
    Knob.CPU_STRICT: "one thread to each CPU",
    Knob.NUMA: "several memories",
    Knob.YARN_FACTOR: "context stretched by YaRN",
    Knob.YARN_ORIGINAL: "context before that, tokens",
    Knob.SWA_FULL: "sliding layers keep every token",
    Knob.RAM_CACHE: "prompts kept in main memory, MiB",
    Knob.CHUNK_REUSE: "least tokens of a moved part to reuse",
    Knob.CHECKPOINTS: "states kept of sliding and recurrent layers",
    Knob.SLOTS_FOLDER: "folder for states of prompts",
    Knob.PARALLEL: "users at once",
    Knob.KEEP_ALIVE: "how long the model stays loaded, seconds",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """All knobs. None, 0, "", 1.0 and AUTO leave one to the engine. Raises SettingsError where they contradict."""

    context: int = 0  # tokens that one user may fill, prompt and answer together
    overflow: Overflow = Overflow.ERROR
    k_type: KvType | None = None
    v_type: KvType | None = None
    flash_attention: Switch = Switch.AUTO
    kv_placement: KvPlacement = KvPlacement.AUTO
    gpu_layers: int | None = None
    ram_experts: int | None = None  # layers, from the first one on; FIT for as many as it takes
    vram_margin_mib: int | None = None
    prefill_chunk: int = 0
    threads: int = 0
    cpus: tuple[int, ...] = ()
    cpu_strict: bool = False
    numa: Numa = Numa.AUTO
    yarn_factor: float = 1.0
    yarn_original: int = 0  # 0: what the model was trained for
    swa_full: bool = False
    ram_cache_mib: int | None = None
    chunk_reuse: int | None = None  # 0: none
    checkpoints: int | None = None
    slots_folder: str = ""
    parallel: int = 0
    keep_alive_s: float | None = None

    def __post_init__(self) -> None:
        for knob in Knob:
            value = getattr(self, knob)
            least = FIT if knob is Knob.RAM_EXPERTS else 0
            if isinstance(value, int) and value < least:
                raise SettingsError(f"profile.{knob} is {value}.", "It must be 0 or more.")
        if self.keep_alive_s is not None and self.keep_alive_s < 0 and self.keep_alive_s != FOR_EVER:
            raise SettingsError(f"profile.{Knob.KEEP_ALIVE} is {self.keep_alive_s:g}.", "It must be 0 or more, or -1.")
        if not 1 <= self.yarn_factor <= MOST_YARN:
            raise SettingsError(f"profile.yarn_factor is {self.yarn_factor:g}.", f"It must be 1 to {MOST_YARN}.")
        if self.context * self.users > MOST_TOKENS:
            raise SettingsError(
                f"profile.context is {self.context}, for {self.users} users at once.",
                f"No engine takes more than {MOST_TOKENS} tokens for all of them.",
            )
        if not self.slots_folder.isprintable():
            raise SettingsError(
                f"profile.slots_folder is {self.slots_folder!r}.", "It must be a path that can be shown."
            )
        if max(self.cpus, default=0) >= MOST_CPUS:
            raise SettingsError(f"profile.cpus names CPU {max(self.cpus)}.", f"The last possible is {MOST_CPUS - 1}.")
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        if self.v_type in QUANTIZED and self.flash_attention is Switch.OFF:
            raise SettingsError(
                f"profile.v_type is {self.v_type}, which needs flash attention.",
                "Set profile.flash_attention to on or auto, or profile.v_type to f16.",
            )
        if self.ram_experts == FIT and self.gpu_layers is not None:
            raise SettingsError(
                "profile.ram_experts is fit, and profile.gpu_layers says how many layers the card takes.",
                "An engine fits only what is left open: leave one of the two out.",
            )
        if self.yarn_original and self.yarn_factor == 1:
            raise SettingsError("profile.yarn_original is set without profile.yarn_factor.", "Set both or neither.")
        if self.cpu_strict and not self.cpus:
            raise SettingsError("profile.cpu_strict is set without profile.cpus.", "Name the CPUs, such as 0-3.")

    @property
    def attention(self) -> Switch:
        """Flash attention as it has to be: on where quantised values, or a KV cache in main memory, need it."""
        needed = self.v_type in QUANTIZED or self.kv_placement is KvPlacement.RAM
        return Switch.ON if needed and self.flash_attention is Switch.AUTO else self.flash_attention

    @property
    def users(self) -> int:
        return self.parallel or 1


Value = str | int | float | bool


def asked(profile: Profile, knob: Knob) -> str:
    """What a profile asks for a knob, in words; "" where it leaves the knob to the engine."""
    value = profile.attention if knob is Knob.FLASH_ATTENTION else getattr(profile, knob)
    if knob is Knob.OVERFLOW:
        return str(value)
    if value == _UNASKED[knob]:
        return ""
    match knob:
        case Knob.CPUS:
            return spell_cpus(profile.cpus)
        case Knob.RAM_EXPERTS if value == FIT:
            return "fit"
        case Knob.KEEP_ALIVE if value == FOR_EVER:
            return "forever"
        case _:
            return plain(value)


def plain(value: Value) -> str:
    """A value as files of settings and command lines have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_cpus(text: str) -> tuple[int, ...]:
    """CPUs out of text such as ``0-3,8``, in order, once each. Raises SettingsError."""
    cpus: set[int] = set()
    for part in text.replace(" ", "").split(",") if text.strip() else ():
        if not (found := re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)):
            raise SettingsError(f"profile.cpus is {text!r}.", "It must be numbers and ranges, such as 0-3,8.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise SettingsError(f"profile.cpus has the range {part}.", "The lower number comes first.")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def spell_cpus(cpus: Iterable[int]) -> str:
    """The shortest text that ``read_cpus`` reads as these."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read_keep_alive(text: str) -> float | None:
    """Seconds out of ``auto`` (None), ``forever`` (-1), ``90``, ``90s``, ``30m``, ``2h``. Raises SettingsError."""
    if text == "auto":
        return None
    if text == "forever":
        return FOR_EVER
    if found := re.fullmatch(r"(\d{1,9})([smh]?)", text):
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    raise SettingsError(
        f"profile.keep_alive is {text!r}.", "It may be auto, forever, or a time such as 90s, 30m or 2h."
    )


def read_experts(text: str) -> int | None:
    """Layers out of ``auto`` (None), ``fit`` (FIT) or a number. Raises SettingsError."""
    if text in {"auto", "fit"}:
        return FIT if text == "fit" else None
    if re.fullmatch(r"\d{1,6}", text):
        return int(text)
    raise SettingsError(f"profile.ram_experts is {text!r}.", "It may be auto, fit or a number of layers.")


def check_cpus(profile: Profile, present: Collection[int]) -> None:
    """Raises SettingsError when the profile names a CPU that this process may not run on."""
    if missing := [cpu for cpu in profile.cpus if cpu not in present]:
        raise SettingsError(
            f"profile.cpus names CPU {spell_cpus(missing)}, which this process cannot run on.",
            f"It can run on {spell_cpus(present)}.",
        )


class Verdict(StrEnum):
    """What a running engine shows of a knob."""

    APPLIED = "applied"
    DIFFERS = "differs"
    UNSEEN = "cannot be seen"


@dataclass(frozen=True, slots=True)
class Compared:
    """A knob as asked and as it runs. ``seen`` is "" where the engine does not tell."""

    knob: Knob
    asked: str
    seen: str
    verdict: Verdict


def compare(profile: Profile, seen: Mapping[Knob, str]) -> tuple[Compared, ...]:
    """The knobs that were asked for, or that the engine shows, beside each other. What nobody asked does not differ."""
    rows = []
    for knob in Knob:
        wanted, found = asked(profile, knob), seen.get(knob, "")
        if found:
            agrees = wanted in {"", found} or (knob is Knob.CONTEXT and _padded(int(wanted)) == found)
            rows.append(Compared(knob, wanted, found, Verdict.APPLIED if agrees else Verdict.DIFFERS))
        elif wanted:
            rows.append(Compared(knob, wanted, "", Verdict.UNSEEN))
    return tuple(rows)


def _padded(context: int) -> str:
    """A context as llama.cpp rounds it up."""
    return str(-(-context // CONTEXT_STEP) * CONTEXT_STEP)


_DEFAULTS = Profile()
_UNASKED = {knob: getattr(_DEFAULTS, knob) for knob in Knob}
