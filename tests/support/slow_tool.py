"""A tool that takes as long as a test wants, in the place of ``job`` among those that a server has."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from agents.mcp_server import desks, http
from agents.model import Arguments, Call
from agents.parameters import Text
from agents.router import Router
from agents.tools import TOOLS
from agents.tools.model import Tool
from hub.auth.model import Scope
from hub.http_api.extending import Extension
from hub.http_api.state import State


class Slow:
    """A tool that waits to be let go, or until nobody wants it any more."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.calls: list[Call] = []
        self.left: list[str] = []

    def run(self, _desk: object, call: Call, arguments: Arguments) -> str:
        self.calls.append(call)
        call.tell("waiting for a word", 1, 2)
        self.begun.release()
        for _ in range(2_000):
            if self.go.wait(0.01):
                return f"went on with {arguments['id']}"
            if call.cancelled():
                self.left.append(arguments["id"])
                break
        return "left"

    def again(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go.clear()
        self.calls.clear()
        self.left.clear()


def with_slow(slow: Slow) -> Callable[[State], AbstractContextManager[Extension]]:
    """All tools but that ``job`` waits."""
    waits = Tool("job", "Wait", "Waits.", (Text("id"),), *(Scope.EXECUTE, True, False, True, False, slow.run))
    tools = [tool if tool.name != "job" else waits for tool in TOOLS]

    @contextmanager
    def made(state: State) -> Iterator[Extension]:
        with desks.desk_of(state) as desk, http.served(state, Router(desk, tools)) as extended:
            yield extended

    return made
