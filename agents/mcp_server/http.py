"""``/mcp`` of the running server, behind its doors: sessions bound to their key, an end in order. Knows no tool.

By what name the server may be called and from which pages, who calls, how much is sent and how often: the doors see to
that before a request comes here. The SDK takes a second to load, so that is done beside the first requests of others.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from agents.mcp_server.desks import around, desk_of
from agents.model import AGENT
from agents.router import Router
from hub.auth.model import LOCAL, Principal
from hub.http_api.extending import Extension
from hub.http_api.guards.windows import Window
from hub.http_api.state import State
from hub.remote import version

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from agents.mcp_server.protocol import Context, Protocol

PATH = "/mcp"
# Seconds after the start when the SDK is loaded, unless it is asked for before: what serves for less is spared it.
LOAD_AFTER_S = 2.0
# Sessions that one key may begin within half an hour, after which unused ones are gone; there is room for 1,000 of all.
MOST_OPENED = 200
OPENED_S = 30 * 60.0
# Which workspace is meant where a call names none, percent-encoded: its name; or a folder in its tree, which only this
# machine's user tells. Either only chooses among what the caller sees.
WORKSPACE_HEADER = "codehub-workspace"
FOLDER_HEADER = "codehub-folder"
_TOO_MANY = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {
        "code": -32000,
        "message": "Too many sessions were begun with this key.",
        "data": {"hint": "Go on with one of them, or end them by DELETE; requests of 2026-07-28 need none."},
    },
}


@contextmanager
def extension(state: State) -> Iterator[Extension]:
    """The tools for a server. Raises HubError and IndexerError where what they need cannot be opened."""
    with desk_of(state) as desk, served(state, Router(desk, limit=Window(time.monotonic).hit)) as made:
        yield made


@contextmanager
def served(state: State, router: Router) -> Iterator[Extension]:
    """The tools of a router, which is closed afterwards."""
    with closing(router):
        place = _Place(state, router)
        yield Extension(PATH, place, place.running)


class _Place:
    """The application at the path."""

    path = PATH  # by which the server's log and figures name it, as they do a route

    def __init__(self, state: State, router: Router) -> None:
        self._state = state
        self._router = router
        self._opened = Window(time.monotonic, OPENED_S)
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()
        self._ready: asyncio.Future[StreamableHTTPSessionManager] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        self._wanted.set()
        assert self._ready is not None, "it is not running"
        manager = await asyncio.shield(self._ready)
        from agents.mcp_server.protocol import LEFT, known_as  # noqa: PLC0415 - loaded by now, by another thread

        scope["user"] = known_as(scope["state"]["principal"])
        if scope["method"] == "GET":
            await self._until_stopped(manager, scope, receive, send)
            return
        if self._opens_too_many(scope):
            await JSONResponse(_TOO_MANY, 429, {"retry-after": "60"})(scope, receive, send)
            return
        # The older era goes on for a client that has dropped its connection, whose answer nobody can fetch any more.
        left = scope["state"][LEFT] = asyncio.get_running_loop().create_future()
        try:
            await manager.handle_request(scope, receive, send)
        finally:
            left.set_result(None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves until the server ends."""
        self._ready = asyncio.get_running_loop().create_future()
        self._state.streams.on_stop(self._stopping.set)
        serving = asyncio.create_task(self._serve(self._ready))
        try:
            yield
        finally:
            self._stopping.set()
            self._ended.set()
            await serving

    async def _serve(self, ready: "asyncio.Future[StreamableHTTPSessionManager]") -> None:
        """All in one task, as the library's own task groups need it."""
        ended = asyncio.ensure_future(self._ended.wait())
        wanted = asyncio.ensure_future(self._wanted.wait())
        await asyncio.wait((ended, wanted), timeout=LOAD_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
        wanted.cancel()
        if ended.done():
            return
        loading = asyncio.ensure_future(asyncio.to_thread(self._loaded))
        await asyncio.wait((loading,))
        if error := loading.exception():
            ready.set_exception(error)
            return
        protocol, manager = loading.result()
        with closing(protocol):
            async with manager.run():
                ready.set_result(manager)
                await ended

    def _loaded(self) -> "tuple[Protocol, StreamableHTTPSessionManager]":
        from agents.mcp_server import protocol  # noqa: PLC0415 - a second that the start of a server need not take

        made = protocol.Protocol(self._router, version(), self._workspace_of, self._stopping)
        return made, protocol.over_http(made, self._state.settings.server_body_kilobytes * 1024)

    def _opens_too_many(self, scope: Scope) -> bool:
        """Whether it would begin one session too many of its key, so that no key takes all there may be."""
        names = {name for name, _ in scope["headers"]}
        if scope["method"] != "POST" or names & {b"mcp-session-id", b"mcp-method"}:
            return False
        principal: Principal = scope["state"]["principal"]
        return principal is not LOCAL and self._opened.hit(principal.key_id, MOST_OPENED) > 0

    async def _until_stopped(
        self, manager: "StreamableHTTPSessionManager", scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A stream in which nothing may come for hours, and which must not hold the server's end up."""
        begun = ended = False

        async def watched(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        stream = asyncio.ensure_future(manager.handle_request(scope, receive, watched))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((stream, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            stream.cancel()
        if stream.done() and not stream.cancelled():
            stream.result()
        elif begun and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _workspace_of(self, principal: Principal, ctx: "Context") -> str:
        headers = ctx.request.headers if ctx.request is not None else {}
        if named := headers.get(WORKSPACE_HEADER, ""):
            return unquote(named)
        folder = unquote(headers.get(FOLDER_HEADER, "")) if principal is AGENT else ""
        return around(self._state.workspaces, principal, Path(folder)) if folder else ""
