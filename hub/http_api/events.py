"""Server-sent events between a thread that makes them and a client that reads them as fast as it likes.

The thread is never ahead of its client by more than a bounded number of bytes, and is told when the client has gone.
Many events cross into the event loop with one wake-up and leave it in one write. Knows nothing of what they say.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from hub.backends.interrupting import Interrupt
from indexer.errors import Cancelled

MEDIA_TYPE = "text/event-stream"
# Bytes that wait for a slow client before the thread that makes them waits, too. 16 KiB to 1 MiB.
MOST_BYTES = 128 << 10
# Seconds that a thread waits for a client that takes nothing before it gives the client up. 30 to 600.
STALLED_S = 120.0
# Seconds of silence after which a comment shows proxies and clients that the connection lives. 5 to 30.
BEAT_S = 10.0
BEAT = b": working\n\n"
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encoded(name: str, content: Mapping[str, Any]) -> bytes:
    """One event as it travels. JSON holds no line ends, so that one line of data is enough."""
    # Half of a surrogate pair, which file names may hold, is spelt as JSON spells it.
    return f"event: {name}\ndata: {_dumps(content)}\n\n".encode("utf-8", "backslashreplace")


class Channel:
    """Bytes from one thread to one client. Made by the event loop, which also takes and stops; the thread puts."""

    def __init__(self, expected: tuple[type[BaseException], ...] = (), beat: bytes = BEAT) -> None:
        """The ``expected`` errors of its thread are told to the client by others, so that nobody need log them.

        ``beat`` is what says nothing and shows that the connection lives; b"" where the format has no such thing.
        """
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._lock = threading.Condition()
        self._expected: tuple[type[BaseException], ...] = (Cancelled, *expected)
        self._parts: list[bytes] = []
        self._bytes = 0
        self._woken = False
        self._beat = beat
        self._silent = False  # for so long that a beat is due
        self._ended = False
        self._closed = False
        self.interrupt = Interrupt()  # of the requests that the thread makes
        self._last = b""  # what is sent after the rest, where the channel was stopped
        self.on_stall: Callable[[], None] = _nothing

    # The thread's side

    def put(self, data: bytes) -> None:
        """Hands bytes over, waiting while the client is far behind. Raises Cancelled once nobody takes them."""
        with self._lock:
            if self._bytes > MOST_BYTES:
                self._wait()
            if self._closed:
                raise _nobody_waits()
            self._parts.append(data)
            self._bytes += len(data)
            asleep, self._woken = not self._woken, True
        if asleep:
            self._wake()

    def is_closed(self) -> bool:
        """Whether nobody takes anything any more. Safe from every thread."""
        return self._closed

    def check(self) -> None:
        """Raises Cancelled once nobody takes anything any more."""
        if self._closed:
            raise _nobody_waits()

    def expects(self, error: BaseException) -> bool:
        """Whether this error of the thread is none that somebody has to look after."""
        return isinstance(error, self._expected)

    def _wait(self) -> None:
        until = time.monotonic() + STALLED_S
        while self._bytes > MOST_BYTES and not self._closed:
            left = until - time.monotonic()
            if left <= 0:
                self._closed = True
                self._loop.call_soon_threadsafe(self.on_stall)
                return
            self._lock.wait(left)

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._ready.set)

    # The event loop's side

    async def take(self) -> bytes | None:
        """All that was put since, as soon as there is any; a comment after a long silence; None at the end."""
        beat = self._loop.call_later(BEAT_S, self._fall_silent)
        try:
            while True:
                with self._lock:
                    parts, self._parts, self._bytes, self._woken = self._parts, [], 0, False
                    self._ready.clear()
                    self._lock.notify_all()
                if parts:
                    return b"".join(parts)
                if self._ended:
                    last, self._last = self._last, b""
                    return last or None
                if self._silent and self._beat:
                    return self._beat
                await self._ready.wait()
        finally:
            beat.cancel()
            self._silent = False

    def _fall_silent(self) -> None:
        self._silent = True
        self._ready.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._ready.set()

    def stop(self, reason: str) -> None:
        """Ends it with an error event, and its thread as soon as that looks."""
        if not self._ended:
            self._last = encoded("error", {"error": reason, "hint": "Ask again in a moment."})
        self.close()
        self.end()

    def close(self) -> None:
        """The client has gone."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self.interrupt.fire()


class EventStream(Response):
    """Sends what comes through a channel until its end, and closes it when the client goes first."""

    media_type = MEDIA_TYPE

    def __init__(self, channel: Channel, media_type: str = MEDIA_TYPE) -> None:
        super().__init__(None, media_type=media_type, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._channel = channel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all of it. A client that takes nothing for long is cut off."""
        channel = self._channel
        watching = asyncio.create_task(_watch(receive, channel))
        mine = asyncio.current_task()
        stalled = False

        def cut() -> None:
            nonlocal stalled
            stalled = True
            abort = scope.get("state", {}).get("abort")
            if abort is not None:
                abort()
            elif mine is not None:
                mine.cancel()

        channel.on_stall = cut
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while (data := await channel.take()) is not None:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not stalled:
                raise
        finally:
            channel.on_stall = _nothing
            channel.close()
            watching.cancel()


async def _watch(receive: Receive, channel: Channel) -> None:
    """Closes the channel when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue
    channel.close()
    channel.end()


async def gone(receive: Receive) -> None:
    """Waits until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue


def _nobody_waits() -> Cancelled:
    return Cancelled("Nobody waits for it any more.", "Ask again.")


def _nothing() -> None:
    pass
