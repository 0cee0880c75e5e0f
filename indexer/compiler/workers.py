"""Reads units side by side in processes that may hang, eat memory or die, and then lose only the unit at hand.

A pool of the standard library cannot end one worker without the others, so these are held singly: each has a pipe, a
time by which it must have answered, and a size it must not outgrow.
"""

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from indexer.compiler.commands import Unit
from indexer.compiler.unit import Crash, Reader, UnitFacts
from indexer.processes import follow_the_parent, interrupts_held_back

POLL_S = 0.2  # between two looks at memory, time and the cancel button
UNITS_A_WORKER = 100  # then a new one: what libclang does not give back stays small
START_S = 30.0  # what a new process may take to load libclang, on top of its unit's time
STACK_BYTES = 256 << 20  # deeply nested code is walked recursively; the address space costs nothing
HEADROOM_BYTES = (1 << 30) + STACK_BYTES  # of address space beyond what may be in use
LOST = 70  # exit status
NICENESS = 10  # whoever works at the machine goes first

Told = list[tuple[str, str]]  # (path, flavor) that need not be told again, in the order in which that became known


@dataclass(frozen=True, slots=True)
class Limits:
    """``workers`` 0 means as many as there are cores."""

    workers: int = 0
    seconds: float = 60.0  # a unit
    memory_bytes: int = 2 << 30  # a worker


class _Task(NamedTuple):
    unit: Unit
    system: tuple[str, ...]
    told: Told  # since the last task of this worker


class _Worker:
    """One process, and the unit it has in hand."""

    def __init__(self, root: Path, limits: Limits) -> None:
        context = get_context("spawn")  # a fork would copy threads in the middle of what they do
        self.connection, other = context.Pipe()
        self._limits = limits
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(other, root, limits.memory_bytes), daemon=True
        )
        with interrupts_held_back():
            self.process.start()
        other.close()
        self.unit: Unit | None = None
        self.done = 0
        self._sent = 0
        self._deadline = 0.0

    def take(self, unit: Unit, system: tuple[str, ...], told: Told) -> None:
        self.unit = unit
        self._deadline = monotonic() + self._limits.seconds + (0 if self.done else START_S)
        with contextlib.suppress(OSError):  # it has died, which is seen when its answer is read
            self.connection.send(_Task(unit, system, told[self._sent :]))
        self._sent = len(told)

    def answer(self) -> UnitFacts | Crash | None:
        """What it says of its unit; None while it is at work within its limits."""
        try:
            if self.connection.poll():
                found: UnitFacts | Crash = self.connection.recv()
                self.done += 1
                return found
        except (EOFError, OSError):
            self.process.join(POLL_S)
            return Crash(f"the compiler died of it (exit status {self.process.exitcode})", fatal=True)
        if monotonic() > self._deadline:
            return Crash(f"the compiler took longer than {self._limits.seconds:g} s", fatal=True)
        if _resident_bytes(self.process.pid or 0) > self._limits.memory_bytes:
            return Crash(f"the compiler took more than {self._limits.memory_bytes >> 20} MiB", fatal=True)
        return None

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def read_units(
    units: Sequence[Unit],
    root: Path,
    system: tuple[str, ...],
    told: Told,
    limits: Limits,
    cancelled: Callable[[], bool],
) -> Generator[tuple[Unit, UnitFacts | Crash], None, None]:
    """Each unit with its facts, in the order in which they come; ends early once cancelled.

    ``told`` may grow meanwhile: later units hear of it.
    """
    left = list(reversed(units))
    number = max(1, min(limits.workers or os.cpu_count() or 1, len(units)))
    workers: list[_Worker] = []
    try:
        while (left or any(worker.unit for worker in workers)) and not cancelled():
            while left and len(workers) < number:
                workers.append(_Worker(root, limits))
            for worker in workers:
                if worker.unit is None and left:
                    worker.take(left.pop(), system, told)
            wait([worker.connection for worker in workers if worker.unit], POLL_S)
            for worker in list(workers):
                if worker.unit is None or (found := worker.answer()) is None:
                    continue
                unit, worker.unit = worker.unit, None
                if (isinstance(found, Crash) and found.fatal) or worker.done >= UNITS_A_WORKER:
                    worker.end()
                    workers.remove(worker)
                yield unit, found
    finally:
        for worker in workers:
            worker.end()


def _serve(connection: Connection, root: Path, memory_bytes: int) -> None:
    """The life of a worker."""
    follow_the_parent()
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes + HEADROOM_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # whatever a flag may have asked for, nothing is written
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # libclang prints what it dies of
        os.dup2(silence, stream)
    # An exception inside of a callback from C would be lost, and half a unit taken for the whole.
    sys.unraisablehook = lambda _: os._exit(LOST)
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=_answer_all, args=(connection, root))
    thread.start()
    thread.join()


def _answer_all(connection: Connection, root: Path) -> None:
    reader = Reader(root)
    for task in _tasks(connection):
        reader.told.update(task.told)
        connection.send(reader.read(task.unit, task.system))


def _tasks(connection: Connection) -> Iterator[_Task]:
    with contextlib.suppress(EOFError):
        while True:
            yield connection.recv()


def _resident_bytes(process: int) -> int:
    """What a process holds in memory; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()
