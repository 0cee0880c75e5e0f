"""Processes that work for this one: spawned, deaf to Ctrl-C, and ended with their parent.

What they work at, it does not know.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Task = TypeVar("_Task")


def pool(workers: int, begin: Callable[..., None], *given: object) -> ProcessPoolExecutor:
    """Processes that each call ``begin`` with what is given before they work."""
    # Spawned, because a fork would copy Chroma's and onnxruntime's threads in the middle of what they do.
    return ProcessPoolExecutor(workers, get_context("spawn"), partial(_begin, begin, *given))


def submit(to: ProcessPoolExecutor, work: Callable[_P, _R], *given: _P.args, **named: _P.kwargs) -> Future[_R]:
    """Hands work over. Raises BrokenProcessPool when a process of the pool has died."""
    with interrupts_held_back():
        return to.submit(work, *given, **named)


def side_by_side(
    processes: ProcessPoolExecutor,
    hand_over: Callable[[ProcessPoolExecutor, _Task], Future[list[_R]]],
    left: list[_Task],
    workers: int,
) -> Generator[_R, None, list[_Task]]:
    """Takes tasks off the end of ``left``, no more than are worked on, so that memory stays flat, and yields what each
    gives as it comes. Ends when none is left or a process died; returns the tasks that were under way then.
    """
    under_way: dict[Future[list[_R]], _Task] = {}
    lost: list[_Task] = []
    while (left and not lost) or under_way:
        while left and len(under_way) < 2 * workers and not lost:
            task = left.pop()
            try:
                under_way[hand_over(processes, task)] = task
            except BrokenProcessPool:
                lost.append(task)
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            task = under_way.pop(future)
            try:
                found = future.result()
            except BrokenProcessPool:
                lost.append(task)
            else:
                yield from found
    return lost


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
