"""What the requests of one server share: services, keys, jobs, figures, and the threads that do blocking work.

Looking things up has threads of its own beside those of answers and exports, so that a search never waits for a model.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, Request

from hub.backends.interrupting import interruptible
from hub.config import Settings
from hub.errors import BackendBusy
from hub.http_api.doors import Doors
from hub.http_api.events import Channel
from hub.knowledge import Lasting, Review, lasting
from hub.workspaces import Workspaces

if TYPE_CHECKING:
    from hub.auth.approvals import Approvals
    from hub.auth.audit import AuditLog
    from hub.auth.store import KeyRing
    from hub.http_api.metrics import Metrics
    from hub.jobs import Jobs

# Threads that look things up. SQLite and numpy let others run, Python does not: more than the cores, but few. 4 to 16.
LOOKUP_THREADS = max(4, min(16, os.cpu_count() or 4))

_LOG = logging.getLogger("codehub.server")
_T = TypeVar("_T")


class Streams:
    """The long work that clients wait for with an open connection: at most so many at once, each in a thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="stream")
        self._open: set[Channel] = set()  # touched by the event loop's thread alone
        self._stopping = ""
        self._told: list[Callable[[], None]] = []

    @property
    def stopping(self) -> str:
        """Why none begins any more; "" while the server goes on."""
        return self._stopping

    @property
    def count(self) -> int:
        """How many run now."""
        return len(self._open)

    def start(self, channel: Channel, work: Callable[[Channel], _T]) -> "asyncio.Future[_T]":
        """Runs the work, which tells through the channel. Raises BackendBusy where no thread is free.

        Called by the event loop. The slot is given back when the work has ended, not when its client has gone.
        """
        if self._stopping:
            raise BackendBusy(self._stopping, "Ask again in a moment.")
        if len(self._open) >= self._most:
            raise BackendBusy(f"{self._most} answers are being made already.", "Ask again in a moment.")
        self._open.add(channel)
        loop = asyncio.get_running_loop()
        future = self._threads.submit(_done, work, channel)
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._ended, channel, done))
        return asyncio.wrap_future(future, loop=loop)

    def stop(self, reason: str) -> None:
        """Ends all that run, each with an error event that says why; none begins any more. Called by the event loop."""
        self._stopping = reason
        for channel in tuple(self._open):
            channel.stop(reason)
        told, self._told = self._told, []
        for tell in told:
            tell()

    def on_stop(self, tell: Callable[[], None]) -> None:
        """Has others told when the server stops, whose connections stay open beside these. Called by the event loop."""
        self._told.append(tell)

    def close(self) -> None:
        """Lets go of the threads. What they do is stopped already."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, channel: Channel, done: "Future[_T]") -> None:
        self._open.discard(channel)
        error = None if done.cancelled() else done.exception()
        if error is not None and not channel.is_closed() and not channel.expects(error):
            channel.stop("The server made a mistake.")
            # Without its message, which may quote what a user asked.
            _LOG.error("A stream broke: %s", type(error).__name__, exc_info=error)
        channel.end()


@dataclass(slots=True, eq=False)
class State:
    """One server. ``started_at`` is a Unix time."""

    settings: Settings
    workspaces: Workspaces
    keys: "KeyRing"
    audit: "AuditLog"
    approvals: "Approvals"
    jobs: "Jobs"
    metrics: "Metrics"
    started_at: float = field(default_factory=time.time)
    doors: Doors = field(default_factory=Doors)
    lasting: Lasting = field(init=False)  # what people keep for good
    streams: Streams = field(init=False)
    lookups: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        review = Review(self.settings.knowledge_review)
        self.lasting = Lasting(self.settings.data / lasting.FILE, self.audit, review)
        self.streams = Streams(self.settings.server_streams)
        self.lookups = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")

    async def look(self, work: Callable[..., _T], *arguments: object) -> _T:
        """The result of blocking work that is done soon, without holding the event loop up."""
        return await asyncio.get_running_loop().run_in_executor(self.lookups, partial(work, *arguments))

    def close(self) -> None:
        """Ends the threads and services. The stores are closed by whoever opened them."""
        self.streams.stop("The server is stopping.")
        self.streams.close()
        self.lookups.shutdown(wait=True, cancel_futures=True)
        self.workspaces.close()
        self.lasting.close()


def _done(work: Callable[[Channel], _T], channel: Channel) -> _T:
    with interruptible(channel.interrupt):
        return work(channel)


def state_of(request: Request) -> State:
    """The state of the server that a request came to."""
    state: State = request.app.state.hub
    return state


async def _shared(request: Request) -> State:
    return state_of(request)


# For routes. A dependency that is no coroutine is run in another thread, which costs more than most lookups.
Shared = Annotated[State, Depends(_shared)]
