"""What the server writes of itself: a line for each request, and its errors, as text or JSON on stderr.

A line holds what was called and how it went, never what was asked: no bodies, no query strings, no paths but the
template of the route, no messages of foreign errors, since those quote what they failed at. OpenTelemetry is told no
more. Knows no route.
"""

import json
import logging
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.auth.model import Principal
from hub.http_api.metrics import Metrics

LOGGER = "codehub.server"
ACCESS = "codehub.access"
REQUEST_ID = b"x-request-id"
UNKNOWN_ROUTE = "other"  # what no route took
# What a client or a proxy may name a request itself. Nothing in it can be taken for another field of a line.
_REQUEST_ID = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_WORKSPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ASKED_WORKSPACE = re.compile(rb"(?:^|&)workspace=([^&]{1,200})")
_PLAIN = re.compile(r"[!-~]{1,200}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FRAMES = 12  # of a traceback, the innermost
_HIDDEN = "codehub.hidden"  # where a scope keeps what telemetry does not get to see

# FastAPI's own OpenTelemetry: spans and figures of requests. Its log records would hold messages of errors.
TELEMETRY: TelemetryConfig = {"tracing": True, "metrics": True, "logs": False, "operation_spans": True}


def configure(how: str, stream: TextIO | None = None) -> None:
    """Sends what this server, uvicorn and FastAPI log to ``stream`` (stderr), as "text" or "json" lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Lines(json_lines=how == "json"))
    for name in ("codehub", "uvicorn", "fastapi"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.getLogger("uvicorn.error").handlers = []
    access = logging.getLogger("uvicorn.access")  # whose lines hold query strings
    access.handlers = []
    access.propagate = False
    access.disabled = True


class _Lines(logging.Formatter):
    """A record as one line: time, level, logger, message, the fields it carries, and where an error came from."""

    def __init__(self, *, json_lines: bool) -> None:
        super().__init__()
        self._json_lines = json_lines

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told = getattr(record, "fields", None)
        if isinstance(told, Mapping):
            fields |= told
        if record.exc_info and record.exc_info[1] is not None:
            fields |= {"error": type(record.exc_info[1]).__qualname__, "at": _trace(record.exc_info[1])}
        if self._json_lines:
            return json.dumps(fields, ensure_ascii=True, default=str)
        head = f"{fields.pop('time')} {fields.pop('level')} {fields.pop('logger')}: {_one_line(fields.pop('message'))}"
        return " ".join((head, *(f"{name}={_word(value)}" for name, value in fields.items())))


def _trace(error: BaseException) -> str:
    """Where an error was raised, innermost first, with what caused it; without messages and source lines."""
    parts, seen = [], 0
    while error is not None and seen < 4:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        where = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
        parts.append(f"{type(error).__qualname__}: {where}")
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            break
        error, seen = cause, seen + 1
    return " | caused by ".join(parts)


def _word(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) and not set(text) & {'"', "="} else json.dumps(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


def watched(app: ASGIApp, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> ASGIApp:
    """The application with a line and figures for each request, and a name for it that the response gives back."""
    log = logging.getLogger(ACCESS)

    async def watching(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, status, written = clock(), 0, 0
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id.decode("ascii")
        query = scope["query_string"]

        async def named(message: Message) -> None:
            nonlocal status, written
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (REQUEST_ID, request_id)]}
            elif message["type"] == "http.response.body":
                written += len(message.get("body", b""))
            await send(message)

        ended = False
        try:
            with metrics.at_work():
                await app(scope, receive, named)
            ended = True
        finally:
            if not ended:
                status = status or 500
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            route, seconds = route_of(scope) or UNKNOWN_ROUTE, clock() - began
            metrics.requested(method, route, status, seconds)
            if log.isEnabledFor(logging.INFO):
                fields = {
                    "id": request_id.decode("ascii"),
                    "method": method,
                    "route": route,
                    "status": status or "gone",  # the client left before there was one
                    "seconds": round(seconds, 4),
                    "bytes": written,
                    "key": _key_of(scope),
                    "workspace": _workspace_of(scope, query, status),
                }
                log.info("request", extra={"fields": fields})

    return watching


def route_of(scope: Scope) -> str:
    """The whole template of the route that took a request, such as /api/v1/keys/{key_id}; "" where none did."""
    inner = scope.get("fastapi")
    found = inner.get("effective_route_context") if isinstance(inner, Mapping) else None
    for holder in (found, scope.get("route")):
        path = getattr(holder, "path_format", None) or getattr(holder, "path", None)
        if isinstance(path, str):
            return path
    return ""


def _request_id(scope: Scope) -> bytes:
    given = [value for name, value in scope["headers"] if name == REQUEST_ID]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return bytes(given[0])
    return secrets.token_hex(8).encode("ascii")


def _key_of(scope: Scope) -> str:
    principal = scope.get("state", {}).get("principal")
    return principal.key_id if isinstance(principal, Principal) else "-"


def _workspace_of(scope: Scope, query: bytes, status: int) -> str:
    """The workspace that was asked for by name; only where the answer says that it is there and was seen."""
    if not 200 <= status < 400:
        return "-"
    named = scope.get("path_params", {}).get("workspace")
    if named is None and (found := _ASKED_WORKSPACE.search(query)):
        named = unquote_to_bytes(found[1]).decode("ascii", "replace")
    return named if isinstance(named, str) and _WORKSPACE.fullmatch(named) else "-"


def traced(app: FastAPI) -> ASGIApp:
    """The application, whose telemetry sees routes, methods and statuses, and neither paths nor query strings."""
    app.add_middleware(_Revealed)

    async def hiding(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[_HIDDEN] = (scope["path"], scope["query_string"])
            scope["path"], scope["query_string"] = "/", b""
        await app(scope, receive, send)

    return hiding


class _Revealed:
    """Gives back, inside of FastAPI's telemetry, what was hidden from it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        hidden = scope.pop(_HIDDEN, None)
        if hidden is not None:
            scope["path"], scope["query_string"] = hidden
        await self.app(scope, receive, send)
