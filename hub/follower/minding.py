"""The process that follows, begun by a server and begun again where it dies; it ends with the server.

What it does with trees this does not know.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from threading import Event, Thread
from typing import IO

from hub.config import Settings

LOG = "follow.log"
LOG_BYTES = 1 << 20  # of the log; what is older goes
MOST_SAID_BYTES = 64 << 10  # of one process's lines that get into it
# Seconds until a process that died is begun again, at first and at most; one that lived for a while begins anew.
AGAIN_S, MOST_AGAIN_S = 1.0, 60.0
LIVED_S = 60.0
GRACE_S = 8.0  # for it to end before it is killed: longer than the child's own. 2 to 25.
_CHILD = (sys.executable, "-m", "hub.follower.child")


class Minder:
    """Keeps the process alive in a thread of its own, from ``start`` to ``close``."""

    def __init__(
        self, settings: Settings, child: tuple[str, ...] = _CHILD, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._child = child
        self._clock = clock
        self._closing = Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = Thread(target=self._mind, name="follower", daemon=True)
        self.begun = 0  # how many processes there were

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the process, by force where it does not heed within GRACE_S."""
        self._closing.set()
        self._hang_up()
        self._thread.join(GRACE_S)
        process = self._process
        if process is not None and process.poll() is None:
            _kill(process)
            self._thread.join(GRACE_S)

    def _mind(self) -> None:
        pause = AGAIN_S
        while not self._closing.is_set():
            began = self._clock()
            try:
                self._run()
            except OSError as error:  # no process can be begun just now
                self._log(f"no process could be begun: {error.strerror}\n".encode())
            if self._clock() - began >= LIVED_S:
                pause = AGAIN_S
            self._closing.wait(pause)
            pause = min(2 * pause, MOST_AGAIN_S)

    def _run(self) -> None:
        """One process, to its end."""
        told = json.dumps({**asdict(self._settings), "data": str(self._settings.data)}).encode() + b"\n"
        process = subprocess.Popen(
            self._child,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C of the server's terminal is the server's to handle
        )
        self._process = process
        self.begun += 1
        assert process.stdin is not None
        assert process.stderr is not None
        with suppress(BrokenPipeError):  # it has died already, which the end of its output tells
            process.stdin.write(told)
            process.stdin.flush()
        if self._closing.is_set():
            self._hang_up()
        self._keep_log(process.stderr)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _kill(process)  # what it left, while its number cannot have been given to another
        process.wait()
        self._hang_up()
        process.stderr.close()

    def _hang_up(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def _keep_log(self, output: IO[bytes]) -> None:
        """Writes the beginning of what it says, and reads the rest so that it need not wait."""
        left = MOST_SAID_BYTES
        while part := os.read(output.fileno(), 1 << 16):
            if left:
                self._log(part[:left])
            left = max(0, left - len(part))

    def _log(self, text: bytes) -> None:
        path = self._settings.data / LOG
        with suppress(OSError):
            if path.exists() and path.stat().st_size > LOG_BYTES:
                path.unlink()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "ab") as log:
                log.write(text)


@contextmanager
def minded(settings: Settings) -> Iterator[None]:
    """Has a process follow the trees of these settings while inside, where they want it."""
    if not settings.watch_enabled:
        yield
        return
    minder = Minder(settings)
    minder.start()
    try:
        yield
    finally:
        minder.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process with all that it began and left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
