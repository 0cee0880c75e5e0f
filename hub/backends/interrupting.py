"""A way to break off a request that a thread waits for, from another thread: while a model reads, nothing comes.

Whoever asks a model on somebody's behalf says so with ``interruptible``; the requests made inside can then be ended at
once by their connection. Knows nothing of what is asked.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

# What httpcore calls the moments at which it has a connection, the last of which is the one that is used.
_CONNECTED = ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete", "start_tls.complete")


class Interrupt:
    """Ends what is waited for, now and from now on. Safe from every thread; never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._fired = False

    def fire(self) -> None:
        """Breaks every request off that is under way, and each further one as soon as it is connected."""
        with self._lock:
            self._fired = True
            connections, self._connections = self._connections, set()
        for connection in connections:
            _break(connection)

    @contextmanager
    def breakable(self) -> Iterator[Mapping[str, Any]]:
        """The ``extensions`` of a request of httpx that this can break off."""
        held: list[socket.socket] = []

        def trace(name: str, info: Mapping[str, Any]) -> None:
            if not name.endswith(_CONNECTED):
                return
            connection = info["return_value"].get_extra_info("socket")
            if not isinstance(connection, socket.socket):
                return
            with self._lock:
                self._connections -= set(held)
                held[:] = [connection]
                if not self._fired:
                    self._connections.add(connection)
                    return
            _break(connection)

        try:
            yield {"trace": trace}
        finally:
            with self._lock:
                self._connections -= set(held)


_CURRENT: ContextVar[Interrupt | None] = ContextVar("interrupt", default=None)


@contextmanager
def interruptible(interrupt: Interrupt) -> Iterator[None]:
    """Lets the interrupt end whatever this thread asks of models inside."""
    token = _CURRENT.set(interrupt)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def breakable() -> Iterator[Mapping[str, Any]]:
    """The ``extensions`` for a request of httpx: those that the current interrupt needs, or none."""
    interrupt = _CURRENT.get()
    if interrupt is None:
        yield {}
        return
    with interrupt.breakable() as extensions:
        yield extensions


def _break(connection: socket.socket) -> None:
    # A thread that reads wakes up with the end of the stream. Closing would leave it waiting; and a socket of TLS would
    # take its own state apart under that thread, so the plain one below it is told.
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
