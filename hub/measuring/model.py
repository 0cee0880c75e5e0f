"""The values of a measurement. Sizes are bytes, times seconds, contexts and prompts tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """How a context went."""

    OK = "ok"
    SLOW = "slow"  # it works, with fewer tokens a second than anyone waits for
    TRUNCATED = "truncated"  # the engine answered about less than it was sent
    OUT_OF_MEMORY = "out-of-memory"
    REFUSED = "refused"  # too long for the model or the engine, which said so
    CRASHED = "crashed"
    TIMEOUT = "timeout"


ANSWERED = frozenset({Status.OK, Status.SLOW})
# Percent of the card's or the machine's memory. The first is worth knowing, beyond the second nothing is safe.
ALERT_PERCENT, FULL_PERCENT = 90, 95


class Reading(NamedTuple):
    """Memory at one moment. The card's numbers are None where none can be seen; ``rss`` is the engine's own."""

    gpu_used: int | None
    gpu_total: int | None
    ram_used: int
    ram_total: int
    rss: int


# Reads the memory of the machine and of the processes named by their ids.
Sampler = Callable[[tuple[int, ...]], Reading]


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest readings while a model was loaded, and what was in use before."""

    gpu: int | None = None
    gpu_before: int | None = None
    gpu_total: int | None = None
    rss: int = 0
    ram: int = 0
    ram_total: int = 0

    @property
    def gpu_share(self) -> float:
        return self.gpu / self.gpu_total if self.gpu is not None and self.gpu_total else 0.0

    @property
    def ram_share(self) -> float:
        return self.ram / self.ram_total if self.ram_total else 0.0

    @property
    def gpu_taken(self) -> int | None:
        """What the engine took of the card; None where nothing is known of one."""
        return None if self.gpu is None or self.gpu_before is None else max(0, self.gpu - self.gpu_before)


@dataclass(frozen=True, slots=True)
class Row:
    """One context. Numbers that could not be measured are None or 0, and ``reason`` says why.

    ``first_cold_s`` is the time to the first token of a prompt that nothing is known of. Where the engine already had
    the beginning, that part is what reading it took before (``summed``). ``first_warm_s`` is that of another short
    question about the same text.
    """

    context: int
    status: Status
    reason: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0  # of them read now, the others were there already
    prefill_tokens_s: float | None = None  # of the new tokens
    prefill_overall_tokens_s: float | None = None  # of all tokens, cold
    decode_tokens_s: float | None = None
    first_cold_s: float | None = None
    first_warm_s: float | None = None
    warm_cached: int | None = None
    summed: bool = False
    load_s: float = 0.0
    peak: Peak = Peak()
    alert: int = 0  # 90 or 95, the line in percent of the card's or the machine's memory that was crossed


@dataclass(frozen=True, slots=True)
class NeedleCell:
    """Facts hidden at one depth of one context. ``depth`` is 0 at the beginning, 1 at the end.

    ``recalled`` counts answers in words that gave exactly the hidden value, ``chosen`` those where the right value was
    the likeliest of ``candidates``; ``rank`` is the mean rank of the right one, 1 is best. The latter are None where
    the backend cannot be held to the candidates.
    """

    context: int
    depth: float
    facts: int
    recalled: int
    chosen: int | None
    rank: float | None
    candidates: int


@dataclass(frozen=True, slots=True)
class Reach:
    """What the rows say. ``safe`` and ``knee`` are contexts in tokens, 0 where no row supports one."""

    safe: int
    safe_reason: str
    knee: int
    knee_reason: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a row belongs only to others of an equal subject."""

    model: str
    fingerprint: str  # of the model's file, or what the engine calls it
    engine: str
    build: str
    profile: str
    machine: str
    text: str  # digest of what is read
