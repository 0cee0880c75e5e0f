"""The application: all routes behind the doors, and the document that describes them."""

import asyncio
import ctypes
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.http_api import (
    access,
    administration,
    asking,
    changes,
    errors,
    guards,
    hooks,
    knowledge,
    logs,
    metrics,
    openai,
    overview,
    pages,
    reading,
    webhooks,
    working,
)
from hub.http_api.extending import METHODS, Extension
from hub.http_api.state import State

SWEEP_S = 60.0  # between two looks for services that nobody uses any more

_TAGS = (
    ("reading", "What the tables know: search, symbols, relations, sources."),
    ("asking", "Questions answered with citations, or declined."),
    ("overview", "Who asks, what there is, how fresh it is."),
    ("jobs", "Long work: indexing, repair, calibration, backups."),
    ("knowledge", "What people keep of a tree, proposed, reviewed and taken back."),
    ("access", "Sessions of browsers."),
    ("administration", "Keys, approvals, the record of what was done."),
    ("hooks", "What git and its hosts tell."),
    ("openai", "The interface of OpenAI's API, a model for each workspace."),
    ("health", "For whoever keeps the server running; needs no key."),
)


def create_app(state: State, extensions: Sequence[Extension] = ()) -> FastAPI:
    """All routes of a server, and what extensions serve beside them.

    Its documentation page is off, since FastAPI's loads scripts from elsewhere.
    """

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for extension in extensions:
                await stack.enter_async_context(extension.running())
            sweeping = asyncio.create_task(_sweep(state))
            stack.callback(sweeping.cancel)
            listening = asyncio.create_task(hooks.listen(state))
            stack.callback(listening.cancel)
            yield

    app = FastAPI(
        title="codehub",
        summary="Search C++ code, look symbols up, and ask questions that are answered with citations.",
        description="Every request needs a key as `Authorization: Bearer chub_...`. Every error is one JSON object "
        "with `error`, a sentence, and `hint`, the way out. Beside what each path names, all of them may answer "
        "408 (sent too slowly), 413, 414 and 431 (too much was sent) and 421 (called by a name that is not its own).",
        version="1",
        openapi_tags=[{"name": name, "description": text} for name, text in _TAGS],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=logs.TELEMETRY,
        lifespan=running,
    )
    app.state.hub = state
    errors.install(app)
    for module in (
        reading,
        changes,
        asking,
        overview,
        working,
        knowledge,
        access,
        administration,
        hooks,
        webhooks,
        openai,
        metrics,
        pages,
    ):
        app.include_router(module.router)
    app.include_router(overview.health)
    # Beside the routes that are described: what speaks a protocol of its own describes itself in it. First, since to
    # compare a path with all the others takes as long as to answer a call.
    app.router.routes[:0] = [Route(each.path, _Application(each.app), methods=METHODS) for each in extensions]
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for route in overview.health.routes:
            for operation in document["paths"][getattr(route, "path", "")].values():
                operation["security"] = []
        return document

    app.openapi = described  # type: ignore[method-assign] # as FastAPI's documentation has it
    return app


def application(state: State, extensions: Sequence[Extension] = ()) -> ASGIApp:
    """The routes behind the doors, with a line of the log for each request."""
    return logs.watched(guards.guarded(logs.traced(create_app(state, extensions)), state), state.metrics)


class _Application:
    """An application for a route, which would take a plain function for one of a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _sweep(state: State) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await state.look(state.workspaces.sweep)
        await state.look(_give_memory_back)


def _give_memory_back() -> None:
    """What a hundred answers at once took and left stays with glibc's pools of their threads until it is asked for."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
