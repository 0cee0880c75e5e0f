"""NVIDIA's cards, asked through NVML. Owns ``pynvml``, which is imported when a card is first looked for.

No library, no driver, a driver that does not match, a card that fell off the bus and one that does not answer are
states of a machine like others: they end in fewer cards and a note. Changes nothing on a card, and does not look into
partitions (MIG): what it says is of whole cards. Knows nothing of models.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

# Seconds. A healthy driver answers in milliseconds, one without a persistent daemon wakes a card in 1 to 3; 2 to 20.
TIMEOUT_S = 8.0
# Bytes a second of one lane, one way, by generation of PCIe (its specification, after encoding).
LANE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
# Half precision operations of one multiprocessor in a clock, by compute capability (NVIDIA's architecture papers).
OPERATIONS = {70: 1024, 72: 1024, 75: 1024, 80: 2048, 86: 1024, 87: 2048, 89: 1024, 90: 4096, 100: 8192, 103: 8192}
OPERATIONS |= {110: 4096, 120: 1024, 121: 1024}
_CORES = {60: 64, 70: 64, 72: 64, 75: 64, 80: 64, 90: 128, 100: 128}  # of one multiprocessor, where it is not 128
_SINGLE = 2  # operations of a core in a clock, where there are no matrix units

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Card:
    """One card. Numbers are 0 where it does not tell them, as those that share the host's memory do for theirs."""

    name: str
    memory: int
    used: int
    bandwidth: float = 0.0  # bytes a second, from its largest memory clock and bus
    flops: float = 0.0  # half precision, from its cores and largest clock
    link: float = 0.0  # bytes a second, one way, of the slot it sits in
    partitioned: bool = False  # MIG is on


@dataclass(frozen=True, slots=True)
class Reading:
    """What NVML says. ``note`` is a sentence that says why there is less than there could be."""

    cards: tuple[Card, ...]
    note: str = ""


class Nvml:
    """An open connection to the driver, for asking again and again. ``library`` is for tests."""

    def __init__(self, library: ModuleType | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._note = ""
        self._handles: tuple[Any, ...] = ()
        self._known: tuple[Card, ...] = ()
        self._library: Any = library
        self._open = False
        if library is None:
            try:
                import pynvml  # noqa: PLC0415 - only those who ask for a card need it
            except ImportError:
                self._note = "No NVIDIA card was looked for: the package nvidia-ml-py is missing."
                return
            self._library = pynvml
        self._connect()

    def read(self) -> Reading:
        """The cards as they are now, with how much of them is taken. Never raises."""
        if not self._open:
            return Reading((), self._note)
        used = self._asked(self._used)
        if used is None:
            return Reading((), self._note)
        now = (replace(card, used=taken) for card, taken in zip(self._known, used, strict=True) if taken is not None)
        return Reading(tuple(now), self._note)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._asked(self._library.nvmlShutdown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _connect(self) -> None:
        self._open = True
        found = self._asked(self._begin)
        if found is None:
            self._open = False
            return
        self._handles, self._known = found
        if not self._known:
            self._open = False
            self._note = self._note or "NVIDIA's driver is there, but no card of it."
        elif any(card.partitioned for card in self._known):
            self._note = "A card is partitioned (MIG); its figures are those of the whole card."

    def _asked(self, question: Callable[[], _Result]) -> _Result | None:
        """The answer; None, and a note, where NVML refuses or stays silent. A thread that hangs is left behind."""
        answers: list[_Result] = []
        refusals: list[str] = []

        def ask() -> None:
            try:
                answers.append(question())
            except self._library.NVMLError as error:
                refusals.append(str(error))
            except OSError as error:  # a library that cannot be loaded
                refusals.append(str(error))

        thread = threading.Thread(target=ask, daemon=True, name="nvml")
        thread.start()
        thread.join(self._timeout_s)
        if answers:
            return answers[0]
        self._open = False
        if refusals:
            self._note = f"NVIDIA's driver cannot be asked: {refusals[0]}."
        else:
            self._note = f"NVIDIA's driver did not answer within {self._timeout_s:g} seconds; its cards are left out."
        return None

    def _begin(self) -> tuple[tuple[Any, ...], tuple[Card, ...]]:
        self._library.nvmlInit()
        handles, cards = [], []
        for number in range(int(self._library.nvmlDeviceGetCount())):
            try:
                handle = self._library.nvmlDeviceGetHandleByIndex(number)
                card = self._card(handle)
            except self._library.NVMLError as error:  # one card fell off the bus; the others still work
                self._note = f"Card {number} of NVIDIA's driver cannot be asked: {error}."
                continue
            handles.append(handle)
            cards.append(card)
        return tuple(handles), tuple(cards)

    def _used(self) -> tuple[int | None, ...]:
        return tuple(self._maybe(partial(self._taken, handle), None) for handle in self._handles)

    def _taken(self, handle: Any) -> int:
        return self._memory(handle)[1]

    def _memory(self, handle: Any) -> tuple[int, int]:
        """Total and used. Cards that share the host's memory have none of their own to speak of."""
        try:
            memory = self._library.nvmlDeviceGetMemoryInfo(handle)
        except self._library.NVMLError_NotSupported:
            return 0, 0
        return int(memory.total), int(memory.used)

    def _card(self, handle: Any) -> Card:
        library = self._library
        name = library.nvmlDeviceGetName(handle)
        total, used = self._memory(handle)
        clock = self._maybe(lambda: library.nvmlDeviceGetMaxClockInfo(handle, library.NVML_CLOCK_MEM), 0)
        bus = self._maybe(lambda: library.nvmlDeviceGetMemoryBusWidth(handle), 0)
        generation = self._maybe(lambda: library.nvmlDeviceGetMaxPcieLinkGeneration(handle), 0)
        width = self._maybe(lambda: library.nvmlDeviceGetMaxPcieLinkWidth(handle), 0)
        mode = self._maybe(lambda: library.nvmlDeviceGetMigMode(handle)[0], 0)
        return Card(
            name=name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name),
            memory=total,
            used=used,
            bandwidth=2.0 * clock * 1e6 * bus / 8,  # two transfers a clock; the clock is in MHz, the bus in bits
            flops=self._flops(handle),
            link=LANE.get(generation, 0.0) * width,
            partitioned=bool(mode),
        )

    def _flops(self, handle: Any) -> float:
        library = self._library
        major, minor = self._maybe(lambda: library.nvmlDeviceGetCudaComputeCapability(handle), (0, 0))
        cores = self._maybe(lambda: library.nvmlDeviceGetNumGpuCores(handle), 0)
        clock = self._maybe(lambda: library.nvmlDeviceGetMaxClockInfo(handle, library.NVML_CLOCK_SM), 0)
        capability = 10 * major + minor
        if capability not in OPERATIONS:
            return float(_SINGLE * cores * clock * 1e6)
        return float(cores // _CORES.get(capability, 128) * OPERATIONS[capability] * clock * 1e6)

    def _maybe(self, question: Callable[[], Any], otherwise: Any) -> Any:
        """An answer that not every card and driver has."""
        try:
            return question()
        except (self._library.NVMLError, AttributeError):
            return otherwise


def cards() -> Reading:
    """The cards of this machine, as they are now. Never raises, and ends within some seconds."""
    with Nvml() as connection:
        return connection.read()
