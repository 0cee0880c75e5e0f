"""Processes that work for this one: spawned, deaf to Ctrl-C, and ended with their parent.

What they work at, it does not know.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def pool(workers: int, begin: Callable[..., None], *given: object) -> ProcessPoolExecutor:
    """Processes that each call ``begin`` with what is given before they work."""
    # Spawned, because a fork would copy Chroma's and onnxruntime's threads in the middle of what they do.
    return ProcessPoolExecutor(workers, get_context("spawn"), partial(_begin, begin, *given))


def submit(to: ProcessPoolExecutor, work: Callable[_P, _R], *given: _P.args, **named: _P.kwargs) -> Future[_R]:
    """Hands work over. Raises BrokenProcessPool when a process of the pool has died."""
    with interrupts_held_back():
        return to.submit(work, *given, **named)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """A process begun inside starts with Ctrl-C blocked: the terminal sends it to all, and dying of it while starting
    would look like a worker that crashed.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_the_parent() -> None:
    """Leaves Ctrl-C to the parent, and ends with it: a worker waiting for work would outlive a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_the_parent, daemon=True).start()


def _begin(begin: Callable[..., None], *given: object) -> None:
    begin(*given)
    follow_the_parent()


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
