"""Shows how far long work has come: a bar on a terminal, a line for each stage elsewhere, always on stderr."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from indexer.pipeline import Progress

_STAGES = {
    "scan": "looking for files",
    "parse": "reading and parsing",
    "link": "working out what uses mean",
    "history": "reading git's log",
    "compile": "asking the compiler",
    "embed": "computing vectors (search works already)",
    "vectors": "handing vectors to Chroma",
    "ask": "asking",
    "store": "waiting for a moment to write the index",
    "measure": "reading longer and longer texts",
    "needle": "looking for hidden facts",
    "copy": "copying the model, in MiB",
    "repair": "comparing Chroma with the table",
    "prefill": "having the model read, in tokens",
    "backup": "copying",
    "verify": "checking what was written",
    "restore": "unpacking",
    "queue": "waiting for other jobs of the server",
    "begin": "the server begins",
    "wait": "waiting for whoever writes the data folder",
}
_STDERR = 2  # the descriptor: the signal may come in the middle of a print, and print cannot be entered twice


def _nothing() -> None:
    pass


@contextmanager
def shown() -> Iterator[Progress]:
    """A progress function for the time of the work."""
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _lines()


@contextmanager
def interruptible(first: Callable[[], None] = _nothing) -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed. A second press stops at once; both leave everything finished in place.

    ``first`` is called at the first press, wherever the work is at.
    """
    pressed = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        os.write(_STDERR, b"Stopping after the files under way; press again to stop at once.\n")
        first()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _lines() -> Progress:
    begun: set[str] = set()

    def report(stage: str, _done: int, total: int) -> None:
        if stage not in begun:
            begun.add(stage)
            print(_STAGES.get(stage, stage) + (f": {total}" if total else ""), file=sys.stderr)

    return report


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console  # noqa: PLC0415 - 0.15 s that only a terminal needs
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, object] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_STAGES.get(stage, stage), total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)  # type: ignore[arg-type]

        yield report
