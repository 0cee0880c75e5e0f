"""A request to a model that is broken off from another thread, also while nothing comes."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from hub.backends.endpoint import Endpoint
from hub.backends.interrupting import Interrupt, interruptible
from hub.backends.ollama.server import Server
from hub.errors import BackendError

BOUND_S = 20.0


class Silent:
    """A server that takes a request and never says a word, until its client goes."""

    def __enter__(self) -> Self:
        self.asked = threading.Event()
        self.left = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(BOUND_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(BOUND_S)
            connection.recv(65_536)
            self.asked.set()
            while connection.recv(65_536):
                continue
            self.left.set()


def through_endpoint(url: str) -> Iterator[Any]:
    return Endpoint(url, what="a model", way_out="Start it.").events("/chat", {"stream": True}, timeout_s=60)


def through_ollama(url: str) -> Iterator[Any]:
    return Server(url).chat({"model": "m", "messages": [], "stream": True}, 60)


WAYS = pytest.mark.parametrize("ask", [through_endpoint, through_ollama], ids=["endpoint", "ollama"])


@WAYS
def test_a_request_that_waits_for_its_first_word_ends_at_once(ask: Callable[[str], Iterator[Any]]) -> None:
    interrupt, ended = Interrupt(), threading.Event()

    def wait(url: str) -> None:
        with interruptible(interrupt), pytest.raises(BackendError):
            list(ask(url))
        ended.set()

    with Silent() as server:
        thread = threading.Thread(target=wait, args=(server.url,))
        thread.start()
        assert server.asked.wait(BOUND_S)
        assert not ended.is_set()
        interrupt.fire()
        assert ended.wait(BOUND_S)
        assert server.left.wait(BOUND_S)
        thread.join(BOUND_S)


@WAYS
def test_a_request_that_comes_after_the_interrupt_ends_too(ask: Callable[[str], Iterator[Any]]) -> None:
    interrupt = Interrupt()
    interrupt.fire()
    with Silent() as server, interruptible(interrupt), pytest.raises(BackendError):
        list(ask(server.url))


def test_a_request_of_another_thread_is_left_alone() -> None:
    ours, theirs, ended = Interrupt(), Interrupt(), threading.Event()

    def wait(url: str) -> None:
        with interruptible(ours), pytest.raises(BackendError):
            list(through_endpoint(url))
        ended.set()

    with Silent() as server:
        thread = threading.Thread(target=wait, args=(server.url,))
        thread.start()
        assert server.asked.wait(BOUND_S)
        with interruptible(theirs):
            theirs.fire()
        assert not ended.wait(0.05)
        ours.fire()
        assert ended.wait(BOUND_S)
        thread.join(BOUND_S)
