"""What a model could run on: this machine as it is found, or another one as it is described.

``detect`` asks NVIDIA's driver, the kernel and the firmware, ``described`` reads words such as "2x RTX 3090", and
``Sampler`` says again and again how much memory is taken. What was assumed rather than found stands in the notes.
Finding nothing is normal: no card, no driver, a container without a view of its hardware. Knows nothing of models.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Self

import numpy as np

from hub.capacity import cards, host, nvml
from hub.capacity.cards import GIB
from hub.capacity.host import Places
from hub.capacity.model import Gpu, Machine

# Hz. A processor that does not tell its clock; usual ones run at 2.5 to 5.
ASSUMED_CLOCK = 3.0e9
# A machine of which only card and memory are told: eight cores with AVX2 at 4 GHz, a desktop of 2020 to 2026.
ASSUMED_CORES, ASSUMED_CPU_FLOPS = 8, 8 * 32 * 4.0e9
# Of the modules' bandwidth what a copy reaches with all cores at it; 0.7 to 0.9 on desktops.
COPY_SHARE = 0.8
# Seconds and bytes for measuring that. The arrays must be larger than any cache.
COPY_SECONDS, COPY_BYTES, COPY_THREADS = 0.2, 96 << 20, 8
# A reading below this is a measurement gone wrong, as under an emulator.
COPY_LEAST = 1e9

_AMD, _NVIDIA = 0x1002, 0x10DE
_OWN_VRAM_LEAST = 2 * GIB  # AMD's processors with graphics reserve less for them and share the rest


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one moment, in bytes. ``gpu_total`` is 0 without a card whose driver answers."""

    gpu_used: int  # all cards together
    gpu_total: int
    ram_used: int
    ram_total: int
    rss: int  # of the watched processes and their descendants
    gpus: tuple[tuple[int, int], ...] = ()  # used and total of each card


class Sampler:
    """Reads memory again and again. ``pids`` are the processes to watch, or a function that says which they are now.

    One sample takes some milliseconds. A card that is gone half-way counts nothing from then on.
    """

    def __init__(
        self,
        pids: Sequence[int] | Callable[[], Sequence[int]] = (),
        *,
        places: Places | None = None,
        connection: nvml.Nvml | None = None,
    ) -> None:
        self._pids = pids
        self._places = places or _here()
        self._nvml = connection or nvml.Nvml()

    def sample(self) -> Sample:
        """Never raises: what cannot be read counts nothing."""
        read = tuple((card.used, card.memory) for card in self._nvml.read().cards if card.memory)
        each = read or tuple((card.used, card.memory) for card in _amd_cards(self._places))
        memory = host.memory(self._places) or host.Memory(0, 0)
        return Sample(
            gpu_used=sum(used for used, _ in each),
            gpu_total=sum(total for _, total in each),
            ram_used=memory.total - memory.available,
            ram_total=memory.total,
            rss=host.resident(self._places, self._pids() if callable(self._pids) else self._pids),
            gpus=each,
        )

    def close(self) -> None:
        self._nvml.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def detect(
    places: Places | None = None,
    *,
    ask: Callable[[], nvml.Reading] = nvml.cards,
    allowed: Iterable[int] | None = None,
    measure: Callable[[], float] | None = None,
) -> Machine:
    """The machine that this runs on. Never raises; takes up to half a second for measuring main memory, once.

    The arguments replace, for tests, the files of the system, NVIDIA's driver, the processors that may be used, and
    the measurement of main memory in bytes a second.
    """
    places = places or _here()
    notes: list[str] = []
    memory = host.memory(places)
    if memory is None:
        memory = host.Memory(0, 0)
        notes.append("The size of main memory cannot be read here; say it with --ram.")
    if memory.limited:
        notes.append(f"Main memory is limited to {memory.total / GIB:.1f} GiB for this process.")
    processor = host.processor(places, _allowed() if allowed is None else allowed)
    if processor.limited:
        notes.append(f"Processor time is limited to {processor.cores} cores for this process.")
    if not processor.clock:
        notes.append(f"The processor's clock is unknown; {ASSUMED_CLOCK / 1e9:g} GHz was assumed.")
    machine = Machine(
        gpu=None,
        ram=memory.total,
        ram_free=memory.available,
        ram_bandwidth=0.0,
        cores=processor.cores,
        cpu_flops=processor.cores * processor.operations * (processor.clock or ASSUMED_CLOCK),
    )
    if processor.name.startswith("Apple "):
        machine, said = _apple(machine, processor.name)
    else:
        machine, said = _with_cards(machine, ask(), places)
    notes += said
    if not machine.ram_bandwidth:
        bandwidth, said = _bandwidth(places, measure or _measured_copy)
        machine = replace(machine, ram_bandwidth=bandwidth)
        notes += said
    return replace(machine, notes=tuple(notes))


def described(gpu: str | None, ram: str | None) -> Machine:
    """A machine by words; what is not described is this machine's. Raises UnknownHardware (a HubError).

    ``gpu`` is a card ("RTX 4080", "2x 3090", "M3 Max 64GB", "16GB") or "none", ``ram`` a size with or without what it
    is made of ("32GB", "64G DDR5-5600", "256GB DDR4-3200 8 channels").
    """
    if gpu is None and ram is None:
        return detect()
    graphics = cards.graphics(gpu) if gpu is not None else None
    if graphics and graphics.facts.unified:
        return _unified(graphics, ram)
    main = cards.modules(ram) if ram is not None else None
    if gpu is not None and main is not None:
        machine = Machine(
            gpu=None,
            ram=main.size,
            ram_free=main.size,
            ram_bandwidth=main.bandwidth,
            cores=ASSUMED_CORES,
            cpu_flops=ASSUMED_CPU_FLOPS,
            notes=(f"A processor of {ASSUMED_CORES} cores with AVX2 was assumed.", *main.notes),
        )
    else:
        machine = detect()
    if main is not None and gpu is None:
        notes = ("The card and the processor are this machine's.", *main.notes)
        machine = replace(
            machine, ram=main.size, ram_free=main.size, ram_bandwidth=main.bandwidth, notes=machine.notes + notes
        )
    if main is None:
        said = "Main memory and processor are this machine's; describe another one with --ram."
        machine = replace(machine, gpu=None, unified=False, notes=(*machine.notes, said))
    if graphics:
        machine = replace(machine, gpu=_gpu(graphics), notes=machine.notes + graphics.notes)
    return machine


def _gpu(graphics: cards.Graphics) -> Gpu:
    facts, count = graphics.facts, graphics.count
    memory = graphics.memory * count
    return Gpu(facts.name, memory, memory, facts.bandwidth, facts.flops, facts.link, count)


def _unified(graphics: cards.Graphics, ram: str | None) -> Machine:
    facts = graphics.facts
    notes = list(graphics.notes)
    memory = graphics.memory
    if ram is not None and (size := cards.modules(ram).size) != memory:
        if graphics.sized:
            notes.append(f"{facts.name} shares one memory with its processor; {memory / GIB:g} GB of it was taken.")
        else:
            memory, notes = size, []
    if graphics.count > 1:
        notes.append("Machines with one memory for all are not used together; one was taken.")
    usable = cards.shared_part(memory)
    notes.append(f"Of one memory for all, {usable / GIB:.0f} GiB was taken as what its graphics part may use.")
    return Machine(
        gpu=Gpu(facts.name, usable, usable, facts.bandwidth, facts.flops, facts.bandwidth),
        ram=memory,
        ram_free=memory,
        ram_bandwidth=facts.bandwidth,
        cores=ASSUMED_CORES,
        cpu_flops=ASSUMED_CPU_FLOPS / 2,  # four lanes instead of eight
        unified=True,
        notes=tuple(notes),
    )


def _apple(machine: Machine, name: str) -> tuple[Machine, list[str]]:
    facts = cards.by_name(name, machine.ram)
    usable = cards.shared_part(machine.ram)
    notes = [f"Of one memory for all, {usable / GIB:.0f} GiB was taken as what the graphics part may use."]
    if facts is None:
        facts = cards.by_name("M1", machine.ram)
        assert facts is not None
        notes.append(f"{name} is not in the table; the figures of an M1 were taken.")
    gpu = Gpu(name, usable, min(usable, machine.ram_free), facts.bandwidth, facts.flops, facts.bandwidth)
    return replace(machine, gpu=gpu, ram_bandwidth=facts.bandwidth, unified=True), notes


def _with_cards(machine: Machine, read: nvml.Reading, places: Places) -> tuple[Machine, list[str]]:
    kernel = host.drm_cards(places)
    nvidia_seen = any(card.vendor == _NVIDIA for card in kernel)
    # A machine without NVIDIA's card has no reason to speak of a missing driver, unless a card of it is seen.
    notes = [read.note] if read.note and (read.cards or nvidia_seen or not _driver_is_missing(read.note)) else []
    own = [card for card in read.cards if card.memory]
    if own:
        gpu, said = _nvidia(own)
        return replace(machine, gpu=gpu), notes + said
    if read.cards:
        return _sharing(machine, read.cards[0].name, notes)
    amd = [card for card in kernel if card.vendor == _AMD and card.memory >= _OWN_VRAM_LEAST]
    shared = next((card for card in kernel if card.vendor == _AMD and card.shared and not amd), None)
    if amd:
        gpu, said = _amd(amd)
        return replace(machine, gpu=gpu), notes + said
    if shared and (facts := cards.by_pci(shared.device, machine.ram)):
        return _sharing(machine, facts.name, notes)
    if any(card.vendor not in {_AMD, _NVIDIA} and card.vendor for card in kernel):
        notes.append("A graphics card is there whose memory cannot be read; describe it with --gpu.")
    return machine, notes


def _driver_is_missing(note: str) -> bool:
    return bool(re.search(r"not found|cannot open shared object|is missing", note, re.IGNORECASE))


def _nvidia(read: Sequence[nvml.Card]) -> tuple[Gpu, list[str]]:
    notes = []
    first = read[0]
    facts = cards.by_name(first.name, first.memory)
    bandwidth = first.bandwidth or (facts.bandwidth if facts else 0.0)
    if not bandwidth:
        generic = cards.graphics(f"{max(1, round(first.memory / GIB))}GB")
        assert generic is not None
        bandwidth = generic.facts.bandwidth
        notes.append(f"The bandwidth of {first.name} is unknown; {bandwidth / 1e9:g} GB/s was assumed.")
    flops = (facts.flops if facts else 0.0) or first.flops
    if not flops:
        flops = bandwidth * 100
        notes.append(f"The speed of {first.name} is unknown; {flops / 1e12:.0f} TFLOPS was assumed.")
    if len({card.name for card in read}) > 1:
        notes.append(f"The cards differ; the figures of {first.name} were taken for all.")
    memory = sum(card.memory for card in read)
    free = sum(max(0, card.memory - card.used) for card in read)
    link = first.link or (facts.link if facts else 0.0) or nvml.LANE[4] * 16
    if not first.link:
        notes.append(f"The link of {first.name} is unknown; {link / 1e9:.0f} GB/s was assumed.")
    return Gpu(first.name, memory, free, bandwidth, flops, link, len(read)), notes


def _amd_cards(places: Places) -> list[host.DrmCard]:
    return [card for card in host.drm_cards(places) if card.vendor == _AMD and card.memory >= _OWN_VRAM_LEAST]


def _amd(read: Sequence[host.DrmCard]) -> tuple[Gpu, list[str]]:
    first = read[0]
    facts = cards.by_pci(first.device, first.memory)
    notes = []
    if facts is None:
        generic = cards.graphics(f"{max(1, round(first.memory / GIB))}GB")
        assert generic is not None
        facts = generic.facts
        notes += [f"The card {first.device:#06x} of AMD is not in the table.", *generic.notes]
    memory = sum(card.memory for card in read)
    free = sum(max(0, card.memory - card.used) for card in read)
    name = first.name or facts.name
    return Gpu(name, memory, free, facts.bandwidth, facts.flops, facts.link, len(read)), notes


def _sharing(machine: Machine, name: str, notes: list[str]) -> tuple[Machine, list[str]]:
    """A card that uses main memory: NVIDIA's GB10 and Jetson, AMD's larger processors with graphics."""
    facts = cards.by_name(name, machine.ram)
    usable = cards.shared_part(machine.ram)
    bandwidth = facts.bandwidth if facts else cards.USUAL_TRANSFERS * cards.USUAL_CHANNELS * cards.CHANNEL_BYTES
    if facts is None:
        notes.append(f"{name} is not in the table; a bandwidth of {bandwidth / 1e9:.0f} GB/s was assumed.")
    notes.append(f"Of one memory for all, {usable / GIB:.0f} GiB was taken as what the graphics part may use.")
    flops = facts.flops if facts else bandwidth * 100
    gpu = Gpu(name, usable, min(usable, machine.ram_free), bandwidth, flops, bandwidth)
    return replace(machine, gpu=gpu, ram_bandwidth=bandwidth, unified=True), notes


def _bandwidth(places: Places, measure: Callable[[], float]) -> tuple[float, list[str]]:
    """Bytes a second that the modules could move, and how that is known."""
    found = host.modules(places)
    channels = {module.channel for module in found}
    if found and "" not in channels:
        each = {module.channel: module.bytes_wide * module.transfers for module in found}
        return sum(each.values()), []
    if found:
        used = min(len(found), cards.USUAL_CHANNELS)
        note = f"The firmware names no channels of main memory; {used} were assumed."
        return used * found[0].bytes_wide * found[0].transfers, [note]
    measured = measure()
    if measured >= COPY_LEAST:
        note = f"Main memory: {measured / 1e9:.0f} GB/s measured by copying, {COPY_SHARE:.0%} of what it could do."
        return measured / COPY_SHARE, [note]
    assumed = cards.USUAL_TRANSFERS * cards.USUAL_CHANNELS * cards.CHANNEL_BYTES
    return assumed, [f"The speed of main memory is unknown; {assumed / 1e9:.0f} GB/s was assumed."]


@cache
def _measured_copy() -> float:
    """Bytes read and written a second by the best of some copies, side by side on the cores."""
    threads = min(COPY_THREADS, len(_allowed()))
    part = COPY_BYTES // threads
    try:
        pairs = [(np.ones(part, np.uint8), np.zeros(part, np.uint8)) for _ in range(threads)]
    except MemoryError:
        return 0.0
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        end = time.perf_counter() + COPY_SECONDS
        while (began := time.perf_counter()) < end:
            for _ in pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs):
                pass
            best = max(best, 2 * part * threads / (time.perf_counter() - began))
    return best


def _allowed() -> Sequence[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def _here() -> Places:
    return Places(sysctl=host.libc_sysctl if sys.platform == "darwin" else host.no_sysctl)
