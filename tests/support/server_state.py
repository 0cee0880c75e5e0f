"""The state of a server in this process, with real stores, and an application that says what it was told."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from hub.auth.approvals import Approvals
from hub.auth.audit import AuditLog
from hub.auth.model import ALL_WORKSPACES, Grant, Principal
from hub.auth.model import Scope as Right
from hub.auth.store import KeyRing
from hub.config import Settings
from hub.http_api.doors import Doors
from hub.http_api.metrics import Metrics
from hub.http_api.state import State
from hub.jobs import Jobs
from hub.workspaces import Workspaces

EVERYTHING = (Grant(ALL_WORKSPACES, frozenset(Right)),)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def state_in(
    data: Path, clock: Callable[[], float] | None = None, child: tuple[str, ...] = ("false",), **settings: Any
) -> Iterator[State]:
    """A server's state whose data lies there; its settings are those of a folder without any model.

    ``child`` is the program that does its jobs; by default they fail at once.
    """
    data.mkdir(parents=True, exist_ok=True)
    chosen = Settings(**{"data": data, "backend": "none", "embeddings": "none", **settings})
    keys, approvals, jobs = (
        KeyRing(data / "keys.db", clock or time.time),
        Approvals(data / "approvals.db"),
        Jobs(chosen, child=child),
    )
    state = State(chosen, Workspaces(chosen), keys, AuditLog(data / "audit.jsonl"), approvals, jobs, Metrics())
    if clock:
        state.doors = Doors(clock)
    try:
        yield state
    finally:
        state.close()
        jobs.close(5)
        approvals.close()
        keys.close()


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what an application learns of a request."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    principal = scope["state"].get("principal")
    told = {
        "principal": principal.key_id if isinstance(principal, Principal) else None,
        "body": body.decode("utf-8", "replace"),
        "client": scope["client"][0] if scope["client"] else None,
        "scheme": scope["scheme"],
    }
    headers = [(b"content-type", b"application/json"), (b"server", b"told"), (b"access-control-allow-origin", b"*")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
