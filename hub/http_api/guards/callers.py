"""Who calls: a key, the session of a browser that showed one, or this machine's same user over the local socket.

Whatever is not proven is nobody. That the keys cannot be read is no reason to let anyone in.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hub.auth.model import LOCAL, Principal
from hub.errors import HubError
from hub.http_api.doors import Session
from hub.http_api.guards.refusals import NO_STORE, Refused
from hub.http_api.state import State
from indexer.errors import IndexerError

COOKIE = "codehub_session"
SECURE_COOKIE = "__Host-codehub_session"  # a browser takes it over TLS alone, and for this very host
_BEARER = re.compile(rb"bearer +([\x21-\x7e]{1,200})", re.IGNORECASE)
_SECRET = re.compile(r"[A-Za-z0-9_-]{20,100}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever comes by a session must show that its user meant what is changed."""

    principal: Principal | None = None
    session: Session | None = None
    local: bool = False  # by the socket, which nobody is counted at
    wrong: bool = False  # showed a key that is none


NOBODY_YET = Caller()


def caller_of(state: State, headers: Mapping[bytes, Sequence[bytes]], *, secure: bool, own_socket: bool) -> Caller:
    """Raises Refused where the keys cannot be read. A key goes before a session, so that a page can use another."""
    try:
        if shown := headers.get(b"authorization"):
            return _bearer(state, shown)
        if own_socket:
            return Caller(LOCAL, local=True)
        return _browser(state, headers.get(b"cookie", ()), secure=secure)
    except (HubError, IndexerError, OSError):
        raise Refused(NO_STORE) from None


def session_secret(cookies: Sequence[bytes], *, secure: bool) -> str:
    """The secret of the session's cookie, "" where there is none, or two that differ."""
    wanted = SECURE_COOKIE if secure else COOKIE
    found = {
        value
        for header in cookies
        for part in header.decode("latin-1").split(";")
        for name, _, value in (part.strip().partition("="),)
        if name == wanted
    }
    secret = found.pop() if len(found) == 1 else ""
    return secret if _SECRET.fullmatch(secret) else ""


def holder(state: State, key_id: str) -> Principal | None:
    """Whoever has this key now; None when it was revoked, has expired, or is unknown."""
    return LOCAL if key_id == LOCAL.key_id else state.keys.holder(key_id)


def _bearer(state: State, shown: Sequence[bytes]) -> Caller:
    found = _BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
    principal = state.keys.check(found[1].decode("ascii")) if found else None
    return Caller(principal, wrong=principal is None)


def _browser(state: State, cookies: Sequence[bytes], *, secure: bool) -> Caller:
    secret = session_secret(cookies, secure=secure)
    session = state.doors.session(secret) if secret else None
    if session is None:
        return NOBODY_YET
    principal = holder(state, session.key_id)
    if principal is None:
        state.doors.close_session(secret)
        return NOBODY_YET
    return Caller(principal, session)
