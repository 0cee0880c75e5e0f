"""The process of one job: its task comes on standard input, its progress goes as JSON lines to standard output.

It stops as with Ctrl-C when the pipe from its parent closes, and ends hard when it has not stopped a while later. What
libraries print goes to the log.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from hub.background import settings_from
from hub.errors import HubError
from hub.jobs.model import JobKind, Task
from hub.jobs.work import perform
from indexer.errors import FolderBusyError, IndexerError

GRACE_S = 15.0  # from the parent's end until this process ends too
# Seconds for which a job waits for a command that writes the folder, and between two tries.
BUSY_S, TRY_S = 900.0, 1.0
TELL_S = 0.1  # between two words on one stage
_Tell = Callable[..., None]


def main() -> int:
    output = os.dup(1)  # for our own lines; whatever prints to standard output is a library
    os.dup2(2, 1)
    source = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # so that no process begun here can read what is ours
    stop = _Stop()

    def tell(**words: Any) -> None:
        line = json.dumps(words).encode() + b"\n"
        try:
            while line:
                line = line[os.write(output, line) :]
        except BrokenPipeError:
            stop.asked = True

    def note(_signal: int, _frame: FrameType | None) -> None:
        stop.asked = True

    signal.signal(signal.SIGINT, note)
    told = json.loads(_line(source))
    threading.Thread(target=_end_with_the_parent, args=(source, stop), daemon=True).start()
    settings = settings_from(json.dumps(told["settings"]))
    task = Task(JobKind(told["task"]["kind"]), told["task"]["workspace"], told["task"]["arguments"])
    progress = _Told(tell)
    waited = 0.0
    while True:
        try:
            tell(result=perform(settings, task, progress, stop))
        except FolderBusyError as error:
            if waited < BUSY_S and not stop.asked:
                progress("wait", 0, 0)
                time.sleep(TRY_S)
                waited += TRY_S
                continue
            tell(error=error.message, hint=error.hint, kind="Cancelled" if stop.asked else type(error).__name__)
        except (HubError, IndexerError) as error:
            tell(error=error.message, hint=error.hint, kind=type(error).__name__)
        else:
            return 0
        return 130 if stop.asked else 1


class _Stop:
    """Whether this is to end. A plain field: a signal may come while a lock is held."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked


class _Told:
    """Progress in lines, each stage's first and last word and a few a second between."""

    def __init__(self, tell: _Tell) -> None:
        self._tell = tell
        self._stage = ""
        self._last_s = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage == self._stage and done != total and now - self._last_s < TELL_S:
            return
        self._stage, self._last_s = stage, now
        self._tell(stage=stage, done=done, total=total)


def _line(source: int) -> bytes:
    """The first line, without reading beyond what the parent has written."""
    parts = []
    while part := os.read(source, 1 << 16):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


def _end_with_the_parent(source: int, stop: _Stop) -> None:
    while os.read(source, 1):
        pass
    stop.asked = True
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
