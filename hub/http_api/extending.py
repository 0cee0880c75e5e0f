"""What a package above serves beside the routes of the hub: one path, behind the same doors. Knows none of them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass

from starlette.types import ASGIApp

from hub.http_api.state import State


@dataclass(frozen=True, slots=True)
class Extension:
    """An application at exactly one path. ``running`` is entered while the server runs, on its event loop."""

    path: str
    app: ASGIApp
    running: Callable[[], AbstractAsyncContextManager[None]]


# Makes one for a server, and closes behind it what it opened.
Extend = Callable[[State], AbstractContextManager[Extension]]
METHODS = ("GET", "POST", "DELETE")  # that an extension is asked with; whatever else is refused before it
