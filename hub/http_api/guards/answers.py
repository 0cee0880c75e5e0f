"""Answers on their way out: the headers that every one of them carries, and those that the guards give themselves.

The pieces of a stream go through as they come.
"""

import json
from enum import Enum

from starlette.types import Message, Send

from hub.http_api.guards.refusals import Refusal
from hub.web import Shell, render

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_ALWAYS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_UNKEPT = (b"cache-control", b"no-store")
_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_CORS = b"access-control-"
_EXPOSED = (b"access-control-expose-headers", b"retry-after, x-request-id, mcp-session-id")
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, codehub-workspace",
    ),
    (b"access-control-max-age", b"600"),
)
_OURS = frozenset(name for name, _ in _ALWAYS) | {_TRANSPORT[0], b"server"}


# Types and codes as OpenAI's own interface has them; clients choose by them whether to try again.
_OPENAI = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", None),
}
_REFUSED = -32000


class Form(Enum):
    """Who reads a refusal."""

    JSON = "a program"
    OPENAI = "a client of OpenAI's interface"
    RPC = "a client of JSON-RPC"
    PAGE = "a browser that went to a page"


class Answer:
    """One answer under way. ``origin`` is the page elsewhere that may read it, b"" for none."""

    def __init__(self, send: Send, *, secure: bool) -> None:
        self._send = send
        self._secure = secure
        self.origin = b""
        self.status = 0  # 0: not begun

    async def send(self, message: Message) -> None:
        """What the application answers. Of origins it says nothing: it has no word in who may call."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = [header for header in message.get("headers", ()) if not header[0].startswith(_CORS)]
            message["headers"] = self._dressed(given)
        await self._send(message)

    async def give(self, status: int, headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes = b"") -> None:
        """A whole answer of the guards' own."""
        self.status = status
        length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)
        dressed = self._dressed([*length, *headers])
        await self._send({"type": "http.response.start", "status": status, "headers": dressed})
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, refusal: Refusal, form: Form) -> None:
        """One sentence and the way out, in the form that whoever asks can read."""
        kind = b"application/json"
        match form:
            case Form.PAGE:
                told = {"title": "That did not work", "message": refusal.message, "hint": refusal.hint}
                kind, body = b"text/html; charset=utf-8", render("problem", Shell(), **told)
            case Form.OPENAI:
                text = f"{refusal.message} {refusal.hint}".strip()
                name, code = _OPENAI.get(refusal.status, ("invalid_request_error", None))
                body = json.dumps({"error": {"message": text, "type": name, "param": None, "code": code}})
            case Form.RPC:
                # Of no request, since none was read; the code is the first of those that JSON-RPC leaves to servers.
                error = {"code": _REFUSED, "message": refusal.message, "data": {"hint": refusal.hint}}
                body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error})
            case Form.JSON:
                body = json.dumps({"error": refusal.message, "hint": refusal.hint})
        await self.give(refusal.status, ((b"content-type", kind), *refusal.headers), body.encode())

    async def allow_calls(self) -> None:
        """What a browser asks before it lets a page elsewhere send a request."""
        await self.give(204, _PREFLIGHT)

    def _dressed(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [header for header in given if header[0] not in _OURS]
        headers += _ALWAYS
        if all(name != b"cache-control" for name, _ in headers):
            headers.append(_UNKEPT)
        if self._secure:
            headers.append(_TRANSPORT)
        if self.origin:
            headers += [(b"access-control-allow-origin", self.origin), (b"vary", b"Origin"), _EXPOSED]
        return headers
