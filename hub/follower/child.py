"""The process that follows for a server: settings come on standard input, and it ends when the pipe from there closes.

What it does goes to standard error as lines, which the server puts into a log. Settings and trees it knows from the
data folder alone.
"""

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from types import FrameType

from hub.background import settings_from
from hub.errors import HubError
from hub.follower import Follower, Refreshed
from indexer.errors import IndexerError

GRACE_S = 6.0  # from the parent's end until this process ends too, whatever it waits for. 1 to 15.


def main() -> int:
    source = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # so that no process begun here can read what is ours
    os.dup2(2, 1)
    follower = Follower(settings_from(_line(source)), tell=_tell)

    def end(_signal: int, _frame: FrameType | None) -> None:
        follower.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    threading.Thread(target=_end_with_the_parent, args=(source, follower), daemon=True).start()
    try:
        follower.run()
    except (HubError, IndexerError) as error:
        _say(f"{error.message} {error.hint}")
        return 1
    return 0


def _tell(done: Refreshed) -> None:
    """Only what went wrong, since everything else stands in figures."""
    if done.error:
        _say(f"{done.workspace}: {done.error} {done.hint}")


def _say(text: str) -> None:
    line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {text.strip()}\n"
    os.write(2, line.encode("utf-8", "backslashreplace"))


def _line(source: int) -> str:
    """The first line, without reading beyond what the parent has written."""
    parts = []
    while part := os.read(source, 1 << 16):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts).decode()


def _end_with_the_parent(source: int, follower: Follower) -> None:
    while os.read(source, 1):
        pass
    follower.stop()
    time.sleep(GRACE_S)
    os._exit(1)  # it waits for whoever holds the data folder, and has nothing under way


if __name__ == "__main__":
    sys.exit(main())
