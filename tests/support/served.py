"""The real server on a free port of loopback: in a thread of this process, over an index of a small tree."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from hub import config
from hub.auth.model import ALL_WORKSPACES, Grant, Scope
from hub.config import Settings
from hub.http_api import serving
from hub.http_api.extending import Extend
from hub.http_api.state import State
from tests.support.trees import COUNTER, index_of, write_tree

BOUND_S = 20.0
WORKSPACE = "w"  # of the tree that ``served`` indexes


def until(holds: Callable[[], bool]) -> None:
    """Waits for what another thread or process is about to do."""
    end, pause = time.monotonic() + BOUND_S, threading.Event()
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        pause.wait(0.01)


@dataclass
class Served:
    """A server that runs; ``client`` shows ``key``, which has every scope everywhere."""

    url: str
    socket: Path
    key: str
    state: State
    client: httpx.Client
    server: serving.Server = field(repr=False)

    def keyed(self, *grants: Grant, owner: str = "tests") -> httpx.Client:
        """A client with a new key that has only these grants. The caller closes it."""
        text = self.state.keys.create(owner, grants).text
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {text}"}, timeout=BOUND_S)

    def stranger(self) -> httpx.Client:
        """A client without a key. The caller closes it."""
        return httpx.Client(base_url=self.url, timeout=BOUND_S)

    def local(self) -> httpx.Client:
        """A client of the socket file, which is this user. The caller closes it."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=BOUND_S)


def settings_for(data: Path, **changes: Any) -> Settings:
    """Settings of a server for tests: no model, no limits that tests meet by chance, nothing in the background."""
    flags = {
        "data": data,
        "backend": "none",
        "embeddings": "none",
        "server_port": 0,
        "server_requests_per_minute": 1_000_000,
        "server_asks_per_minute": 1_000_000,
        "index_background": False,
        "calibration_background": False,
        "watch_enabled": False,
    }
    return config.load({**flags, **changes}, environment={}, folder=data)


@contextmanager
def served(
    tmp_path: Path,
    tree: Mapping[str, str | bytes] | None = None,
    *,
    settings: Settings | None = None,
    extend: Sequence[Extend] = (),
    **changes: Any,
) -> Iterator[Served]:
    """Indexes the tree (COUNTER unless another is given; an empty one is left out) and serves it until the end.

    ``extend`` is what it serves beside its own routes, ``changes`` are fields of Settings. Also after a failure
    nothing is left running.
    """
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    files = dict(COUNTER) if tree is None else dict(tree)
    if files:
        index_of(write_tree(tmp_path / "tree", files), data)
    with serving_state(settings or settings_for(data, **changes), extend) as running:
        yield running


@contextmanager
def serving_state(settings: Settings, extend: Sequence[Extend] = ()) -> Iterator[Served]:
    """Serves what lies in the data folder of these settings."""
    with ExitStack() as stack:
        listener = stack.enter_context(serving.listening(settings))
        local, path = stack.enter_context(serving.local_socket(settings))
        state = stack.enter_context(serving.opened_state(settings))
        extensions = [stack.enter_context(make(state)) for make in extend]
        up = threading.Event()
        server = serving.Server(state, ((listener, None), (local, None)), up.set, grace_s=2, extensions=extensions)
        thread = threading.Thread(target=server.run, name="server")
        thread.start()

        def stop() -> None:
            server.handle_exit(15, None)
            thread.join(BOUND_S)
            assert not thread.is_alive(), "the server did not end"

        stack.callback(stop)
        assert up.wait(BOUND_S), "the server did not begin"
        url = serving.url_of(settings, listener, encrypted=False)
        key = state.keys.create("tests", [Grant(ALL_WORKSPACES, frozenset(Scope))]).text
        client = stack.enter_context(
            httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=BOUND_S)
        )
        yield Served(url, path, key, state, client, server)
