"""The doors: what every request passes before the application sees it, and every answer on its way out.

In this order: by what name and from which page it comes; who it is; whether it is one too many; how large it is and
how slowly it arrives; whether a browser's user meant it. Each refusal is one JSON object, counted and recorded. Pure
ASGI: answers go through untouched, piece by piece. Knows no route, and nothing of what a caller may do in a workspace:
that is asked where it is done.
"""

import asyncio
import os
import time
from collections.abc import Callable
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.http_api.guards.addresses import (
    Source,
    canonical_origin,
    known_host,
    names_of,
    same_origin,
    source_of,
    subscriber,
)
from hub.http_api.guards.answers import Answer, Form
from hub.http_api.guards.bodies import Gone, again, read_body, require_token
from hub.http_api.guards.callers import NOBODY_YET, Caller, caller_of
from hub.http_api.guards.kinds import METRICS, OPEN_TO_STRANGERS, SAFE, Kind, body_limit, kind_of
from hub.http_api.guards.records import Denial, Detail, Records
from hub.http_api.guards.refusals import (
    LONG_HEAD,
    LONG_PATH,
    NO_HOST,
    NO_RECORD,
    STRANGE_HOST,
    STRANGE_ORIGIN,
    Reason,
    Refused,
    no_key,
    too_many,
    too_many_at_once,
)
from hub.http_api.guards.windows import Crowd, Window, whole_seconds
from hub.http_api.state import State

MOST_HEADERS = 100
MOST_HEADER_BYTES = 32_768
MOST_ADDRESS_BYTES = 16_384  # path and query together
FAILED_LOGINS_PER_MINUTE = 10  # of one address
WEBHOOKS_PER_MINUTE = 120  # of one address
JOBS_PER_MINUTE = 60  # of one key
CHANGES_PER_MINUTE = 120  # of one key
MOST_AT_ONCE_BEYOND_STREAMS = 64  # of one key, beside as many answers as there may be at all
MOST_STRANGERS_AT_ONCE = 64  # of one address

# What only reads, and what agents call, which is recorded tool by tool.
_UNRECORDED = frozenset({Kind.READ, Kind.ASK, Kind.TOOLS})

Headers = dict[bytes, list[bytes]]


def guarded(app: ASGIApp, state: State, clock: Callable[[], float] = time.monotonic) -> ASGIApp:
    """The application behind its doors. ``clock`` is one that never jumps."""
    return _Guard(app, state, clock)


class _Guard:
    def __init__(self, app: ASGIApp, state: State, clock: Callable[[], float]) -> None:
        self._app = app
        self._state = state
        self._settings = state.settings
        self._names = names_of(state.settings)
        self._records = Records(state.audit, clock)
        self._requests, self._asks, self._heavy, self._failures = (Window(clock) for _ in range(4))
        self._crowd = Crowd()
        self._uid = os.getuid()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._flushing(send))
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _flushing(self, send: Send) -> Send:
        """What was counted and not written is written before the end is told: after it the task may be cancelled."""

        async def flushed(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await asyncio.to_thread(self._records.flush)
            await send(message)

        return flushed

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        source = self._source(scope, headers)
        answer = Answer(send, secure=source.scheme == "https")
        kind = self._kind(scope)
        caller, inside = NOBODY_YET, ""
        try:
            answer.origin = self._known(scope, headers, source)
            if answer.origin and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await answer.allow_calls()
                return
            caller = self._caller(scope, headers, source)
            self._count(caller, kind, source)
            inside = self._entered(caller, source)
            if caller.principal is None and kind is Kind.PAGE and _wants_page(headers):
                await answer.give(303, ((b"location", _login_page(scope)),))
                return
            _require_key(caller, kind)
            receive = await self._checked_body(scope, headers, receive, caller)
            await self._require_record(kind)
            _introduce(scope, caller)
            try:
                await self._app(scope, receive, answer.send)
            finally:  # also of what broke half-way: it may have changed something
                await self._record(scope, answer.status, caller, kind, source)
        except Gone:
            return
        except Refused as refused:
            await answer.refuse(refused.refusal, _form(scope, kind, headers))
            await self._deny(refused.refusal.reason, scope, answer.status, caller, kind, source)
        finally:
            if inside:
                self._crowd.leave(inside)

    def _source(self, scope: Scope, headers: Headers) -> Source:
        """Where the request comes from; the application is told the same."""
        client = scope.get("client")
        source = source_of(self._names, client[0] if client else "", scope["scheme"], headers)
        if client and source.address != client[0]:
            scope["client"] = (source.address, 0)
        scope["scheme"] = source.scheme
        return source

    def _kind(self, scope: Scope) -> Kind:
        kind = kind_of(scope["method"], scope["path"])
        open_metrics = kind is Kind.READ and scope["path"] == METRICS and self._settings.server_metrics == "open"
        return Kind.OPEN if open_metrics else kind

    def _known(self, scope: Scope, headers: Headers, source: Source) -> bytes:
        """The origin of a page elsewhere that may call, b"" for whatever is no such page. Raises Refused."""
        if (
            len(scope["headers"]) > MOST_HEADERS
            or sum(len(n) + len(v) for n, v in scope["headers"]) > MOST_HEADER_BYTES
        ):
            raise Refused(LONG_HEAD)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_ADDRESS_BYTES:
            raise Refused(LONG_PATH)
        hosts = headers.get(b"host", ())
        if len(hosts) != 1:
            raise Refused(NO_HOST)
        host = hosts[0].decode("latin-1")
        if not known_host(self._names, host):
            raise Refused(STRANGE_HOST)
        site = headers.get(b"sec-fetch-site", [b"none"])[-1]
        origins = headers.get(b"origin", ())
        if not origins:
            # A browser that sends no origin says in this header whether a page of another site has it call.
            if site in (b"cross-site", b"same-site") and not _follows_link(scope, headers):
                raise Refused(STRANGE_ORIGIN)
            return b""
        origin = canonical_origin(origins[0].decode("latin-1")) if len(origins) == 1 else ""
        if same_origin(origin, source.scheme, host) or (origins == [b"null"] and site == b"same-origin"):
            return b""
        if origin and origin in self._names.origins:
            return origins[0]
        raise Refused(STRANGE_ORIGIN)

    def _caller(self, scope: Scope, headers: Headers, source: Source) -> Caller:
        # A proxy may run as the same user, and what it hands on comes from anyone.
        own = not source.address and not source.proxied and scope.get("state", {}).get("peer_uid") == self._uid
        return caller_of(self._state, headers, secure=source.scheme == "https", own_socket=own)

    def _count(self, caller: Caller, kind: Kind, source: Source) -> None:
        """Raises Refused for one request too many of this caller; of others nothing is taken."""
        if caller.local:
            return
        settings = self._settings
        if caller.principal is None:
            name = f"address {subscriber(source.address)}"
            if caller.wrong or kind is Kind.LOGIN:
                self._hit(self._failures, name, FAILED_LOGINS_PER_MINUTE)
            self._hit(
                self._requests,
                name,
                WEBHOOKS_PER_MINUTE if kind is Kind.WEBHOOK else settings.server_requests_per_minute,
            )
            return
        name = caller.principal.key_id
        self._hit(self._requests, name, settings.server_requests_per_minute)
        if kind is Kind.ASK:
            self._hit(self._asks, name, settings.server_asks_per_minute)
        elif kind in (Kind.JOB, Kind.CHANGE, Kind.LOGIN):
            self._hit(self._heavy, f"{kind} {name}", JOBS_PER_MINUTE if kind is Kind.JOB else CHANGES_PER_MINUTE)

    def _hit(self, window: Window, name: str, most: int) -> None:
        if wait := window.hit(name, most):
            raise Refused(too_many(whole_seconds(wait)))

    def _entered(self, caller: Caller, source: Source) -> str:
        """The name that is counted inside, "" for whoever is not."""
        if caller.local:
            return ""
        if caller.principal is None:
            name, most = f"address {subscriber(source.address)}", MOST_STRANGERS_AT_ONCE
        else:
            name, most = caller.principal.key_id, self._settings.server_streams + MOST_AT_ONCE_BEYOND_STREAMS
        if not self._crowd.enter(name, most):
            raise Refused(too_many_at_once())
        return name

    async def _checked_body(self, scope: Scope, headers: Headers, receive: Receive, caller: Caller) -> Receive:
        body = await read_body(headers, receive, body_limit(scope["path"], self._settings.server_body_kilobytes * 1024))
        if caller.session is not None and scope["method"] not in SAFE:
            require_token(caller.session, headers, body or b"")
        return receive if body is None else again(body, receive)

    async def _require_record(self, kind: Kind) -> None:
        """Raises Refused for a change while none can be recorded."""
        if kind in (Kind.CHANGE, Kind.JOB) and not await self._records.sound():
            raise Refused(NO_RECORD)

    async def _record(self, scope: Scope, status: int, caller: Caller, kind: Kind, source: Source) -> None:
        """What the application refused, and what was changed. Reading leaves no line."""
        if status in (401, 403):
            await self._deny(Reason.KEY if status == 401 else Reason.SCOPE, scope, status, caller, kind, source)
        elif scope["method"] not in SAFE and kind not in _UNRECORDED and not scope["state"].get("audited"):
            outcome = "done" if 200 <= status < 400 else "failed"
            detail: Detail = {"status": status, "address": _told(source)}
            await self._records.changed(caller.principal, _action(scope, kind), "", outcome, detail)

    async def _deny(
        self, reason: Reason, scope: Scope, status: int, caller: Caller, kind: Kind, source: Source
    ) -> None:
        self._state.metrics.refused(reason.value)
        denial = Denial(caller.principal, _action(scope, kind), reason.value, subscriber(_told(source)), status)
        await self._records.denied(denial)


def _action(scope: Scope, kind: Kind) -> str:
    """What was asked for, without a word of whoever asked: the route as it is written, or its kind."""
    return f"{scope['method'][:16]} {getattr(scope.get('route'), 'path', None) or kind.value}"


def _told(source: Source) -> str:
    return source.address or "socket"


def _require_key(caller: Caller, kind: Kind) -> None:
    if caller.principal is None and kind not in OPEN_TO_STRANGERS:
        raise Refused(no_key(wrong=caller.wrong))


def _introduce(scope: Scope, caller: Caller) -> None:
    """Tells the application who calls. What stood there before was put there by nobody who may."""
    shared = scope.setdefault("state", {})
    shared["principal"] = caller.principal
    shared["session"] = caller.session


def _follows_link(scope: Scope, headers: Headers) -> bool:
    """Whether a user went to a page, which shows its answer to that user alone."""
    return scope["method"] in SAFE and headers.get(b"sec-fetch-mode") == [b"navigate"]


def _form(scope: Scope, kind: Kind, headers: Headers) -> Form:
    if kind is Kind.PAGE and _wants_page(headers):
        return Form.PAGE
    if kind is Kind.TOOLS:
        return Form.RPC
    return Form.OPENAI if scope["path"].startswith("/v1/") else Form.JSON


def _wants_page(headers: Headers) -> bool:
    return any(b"text/html" in accepted for accepted in headers.get(b"accept", ()))


def _login_page(scope: Scope) -> bytes:
    wanted = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
    return b"/login?next=" + quote(wanted, safe="", errors="replace").encode()
