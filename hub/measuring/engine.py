"""A backend in a process of its own, so that what kills an engine does not end the measurement.

llama.cpp aborts where it cannot go on, and the system kills whoever takes the last memory. The process is watched:
who takes more than is left is stopped before the machine swaps, who is late is stopped too, and whoever dies is
reported with what it printed last. Knows nothing of what is done with the backend.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from hub.capacity import machine
from hub.errors import HubError, PromptShortened, PromptTooLong
from hub.measuring.model import Peak, Reading, Sampler, Status
from hub.model import Backend
from indexer.processes import follow_the_parent, interrupts_held_back

# Seconds between two looks at the memory. llama.cpp clears a new cache at some 5 GB a second: 0.5 GB in between.
SAMPLE_S = 0.1
# Seconds between two looks at whether the time is over.
POLL_S = 0.1
# Bytes of main memory that the engine never gets: below them a machine begins to swap. 256 MiB to 4 GiB.
FLOOR_BYTES = 768 << 20
# Seconds to leave a closing engine before it is killed.
CLOSING_S = 10.0
# Bytes of what an engine printed that are looked at.
LOG_TAIL_BYTES = 8 << 10

_OUT_OF_MEMORY = (
    "out of memory",
    "out-of-memory",
    "outofmemory",
    "failed to allocate",
    "bad_alloc",
    "cannot allocate memory",
    "insufficient memory",
    "not enough memory",
    "unable to allocate",
)

_P = ParamSpec("_P")
_R = TypeVar("_R")
Tell = Callable[[int, int], None]
Make = Callable[[], Backend]


class Failed(Exception):
    """The engine did not do what it was asked. ``lasting``: it is gone, and making it anew would fail likewise."""

    def __init__(self, status: Status, reason: str, hint: str = "", *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.hint = hint
        self.lasting = lasting


class MachineSampler:
    """The machine's memory as a Sampler. What one engine cannot tell, such as a card that is not there, is None."""

    def __init__(self) -> None:
        self._pids: tuple[int, ...] = ()
        self._source = machine.Sampler(lambda: self._pids)

    def __call__(self, pids: tuple[int, ...]) -> Reading:
        self._pids = pids
        seen = self._source.sample()
        known = seen.gpu_total > 0
        return Reading(
            seen.gpu_used if known else None,
            seen.gpu_total if known else None,
            seen.ram_used,
            seen.ram_total,
            seen.rss,
        )

    def close(self) -> None:
        self._source.close()


@dataclass(frozen=True, slots=True)
class Watch:
    """How an engine is watched. ``pids`` are further processes whose memory is its own, such as a server's."""

    sampler: Sampler
    floor: int = FLOOR_BYTES
    data_limit: int | None = None  # bytes of its own that the process may ask for; None leaves that to the floor
    pids: tuple[int, ...] = ()
    clock: Callable[[], float] = time.monotonic


class Engine:
    """One backend, made by ``make`` in a spawned process. Ends with the ``with`` block, in a bounded time."""

    def __init__(self, make: Make, watch: Watch, log: Path) -> None:
        self._watch = watch
        self._log = log
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._pipe: Connection = ours
        self._before = watch.sampler(())
        with interrupts_held_back():
            self._process = context.Process(
                target=_serve, args=(theirs, make, log, watch.data_limit), name="measured engine", daemon=True
            )
            self._process.start()
        theirs.close()
        self._memory = _Memory(watch, self._process, self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None)

    @property
    def peak(self) -> Peak:
        return self._memory.peak

    def run(
        self,
        work: Callable[Concatenate[Backend, Tell, _P], _R],
        timeout_s: float,
        tell: Tell,
        *given: _P.args,
        **named: _P.kwargs,
    ) -> _R:
        """What ``work`` gives in the other process; ``tell`` hears how far it is. Raises Failed, and the process of
        an engine that crashed, took too much or too long is gone then.
        """
        until = self._watch.clock() + timeout_s
        try:
            self._pipe.send((work, given, named))
            while True:
                if self._pipe.poll(POLL_S):
                    kind, told = self._pipe.recv()
                    if kind == "progress":
                        tell(*told)
                    elif kind == "done":
                        result: _R = told
                        return result
                    else:
                        raise self._failure(*told)
                elif self._watch.clock() > until:
                    self._kill()
                    raise Failed(Status.TIMEOUT, f"It was not done after {timeout_s:.0f} s.")
        except (EOFError, OSError):
            raise self._ended() from None

    def close(self, *, at_once: bool = False) -> None:
        """Ends the process; an engine that does not close in time is killed."""
        self._memory.stop()
        if self._process.is_alive() and not at_once:
            try:
                self._pipe.send(None)
            except OSError:
                at_once = True  # it has just died
        if not at_once:
            self._process.join(CLOSING_S)
        self._kill()
        self._pipe.close()

    def _kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join(CLOSING_S)

    def _ended(self) -> Failed:
        """Why there is no engine any more."""
        self._process.join(CLOSING_S)
        code = self._process.exitcode
        if self._memory.exhausted is not None:
            return Failed(Status.OUT_OF_MEMORY, self._memory.exhausted)
        said = _last_words(self._log)
        if _is_memory(said):
            return Failed(Status.OUT_OF_MEMORY, f"The engine ended for want of memory: {said}")
        ended = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return Failed(Status.CRASHED, f"The engine ended {ended}" + (f": {said}" if said else "."))

    def _failure(self, stage: str, kind: str, message: str, hint: str) -> Failed:
        said = _last_words(self._log)
        if kind == PromptTooLong.__name__:
            return Failed(Status.REFUSED, message, hint)
        if _is_memory(message) or kind == MemoryError.__name__ or (stage != "make" and _is_memory(said)):
            return Failed(Status.OUT_OF_MEMORY, message, hint)
        if kind == PromptShortened.__name__:
            return Failed(Status.TRUNCATED, message, hint)
        return Failed(Status.CRASHED, message, hint, lasting=stage == "make" or kind == "ModelMissing")


class _Memory:
    """Samples while the process lives, and kills it when main memory runs out."""

    def __init__(self, watch: Watch, process: Any, before: Reading) -> None:
        self._watch = watch
        self._process = process
        self._lock = Lock()
        self._over = Event()
        self._peak = Peak(
            gpu=before.gpu_used,
            gpu_before=before.gpu_used,
            gpu_total=before.gpu_total,
            ram=before.ram_used,
            ram_total=before.ram_total,
        )
        self.exhausted: str | None = None
        self._thread = Thread(target=self._look, name="memory watch", daemon=True)
        self._thread.start()

    @property
    def peak(self) -> Peak:
        with self._lock:
            return self._peak

    def stop(self) -> None:
        self._over.set()
        self._thread.join(CLOSING_S)  # a driver that hangs must not hold the measurement up

    def _look(self) -> None:
        pids = (self._process.pid, *self._watch.pids)
        while not self._over.wait(SAMPLE_S) and self._process.is_alive():
            seen = self._watch.sampler(pids)
            with self._lock:
                old = self._peak
                self._peak = Peak(
                    gpu=seen.gpu_used if old.gpu is None else max(old.gpu, seen.gpu_used or 0),
                    gpu_before=old.gpu_before,
                    gpu_total=seen.gpu_total or old.gpu_total,
                    rss=max(old.rss, seen.rss),
                    ram=max(old.ram, seen.ram_used),
                    ram_total=seen.ram_total,
                )
            left = seen.ram_total - seen.ram_used
            if seen.ram_total and left < self._watch.floor:
                self.exhausted = (
                    f"It was stopped when {left >> 20} MiB of main memory were left, before the machine would swap."
                )
                self._process.kill()
                return


def _serve(pipe: Connection, make: Make, log: Path, data_limit: int | None) -> None:
    """The other process: makes the backend, does what it is sent, until it is sent None or the parent is gone."""
    follow_the_parent()
    _print_to(log)
    _limit(data_limit)
    backend: Backend | None = None
    stage = "make"
    try:
        while (sent := pipe.recv()) is not None:
            work, given, named = sent
            try:
                if backend is None:
                    backend = make()
                    stage = "work"
                pipe.send(
                    ("done", work(backend, lambda done, of: pipe.send(("progress", (done, of))), *given, **named))
                )
            except HubError as error:
                pipe.send(("failed", (stage, _kind(error), error.message, error.hint)))
            except MemoryError:
                pipe.send(("failed", (stage, MemoryError.__name__, "The engine's process ran out of memory.", "")))
    except EOFError:
        pass  # the parent is done with it
    finally:
        if backend is not None:
            backend.close()


def _kind(error: HubError) -> str:
    """The class by which an error is told apart: the ones that are known, else the general one."""
    known = (PromptTooLong, PromptShortened)
    return next((kind.__name__ for kind in known if isinstance(error, kind)), type(error).__name__)


def _print_to(log: Path) -> None:
    """What the engine prints goes to a file, where its last words are found."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def _limit(data_limit: int | None) -> None:
    """An allocation beyond the limit fails at once. Mapped files, such as the model's weights, do not count."""
    if data_limit is None:
        return
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:
        return  # the watch on main memory remains
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = data_limit if hard == resource.RLIM_INFINITY else min(data_limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _last_words(log: Path) -> str:
    """The end of what the engine printed, in one line."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    about_memory = [line for line in lines if _is_memory(line)]
    return (about_memory or lines)[-1][:300] if lines else ""


def _is_memory(text: str) -> bool:
    folded = text.lower()
    return any(words in folded for words in _OUT_OF_MEMORY)
