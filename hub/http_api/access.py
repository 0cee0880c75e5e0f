"""Who calls, for the routes; and how a browser gets in: a key or a one-time link becomes a session.

The doors (hub.http_api.guards) have proven who calls before a route is reached. What is asked here is what that caller
may do.
"""

import json
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict

from hub.auth.model import ALL_WORKSPACES, LOCAL, Principal, Scope
from hub.errors import Forbidden
from hub.http_api.doors import LINK_S, SESSION_S, Session
from hub.http_api.errors import answers, refusal
from hub.http_api.guards.callers import COOKIE, SECURE_COOKIE, holder, session_secret
from hub.http_api.state import State, state_of
from hub.workspaces import unknown

router = APIRouter(prefix="/api/v1", tags=["access"])

LOGIN_PATH = "/login"
_MOST_KEY_LETTERS = 200
_CLEARED = '"cache", "storage"'  # what a browser keeps of a session that has ended


def principal_of(request: Request) -> Principal:
    """Whoever calls, as the doors have proven it. Raises HTTPException 401 where there is nobody."""
    principal = request.scope.get("state", {}).get("principal")
    if not isinstance(principal, Principal):
        raise HTTPException(401, "This needs a key.", {"www-authenticate": 'Bearer realm="codehub"'})
    return principal


async def _caller(request: Request) -> Principal:
    return principal_of(request)


# A dependency that is no coroutine is run in another thread, which costs more than most lookups.
Caller = Annotated[Principal, Depends(_caller)]


def require(principal: Principal, scope: Scope, workspace: str = ALL_WORKSPACES) -> None:
    """Raises WorkspaceError for a workspace that is not seen, as for one that is not there, else Forbidden."""
    if principal.may(scope, workspace):
        return
    if workspace != ALL_WORKSPACES and not principal.sees(workspace):
        raise unknown(workspace)
    where = "for all workspaces" if workspace == ALL_WORKSPACES else f"in the workspace {workspace}"
    raise Forbidden(
        f"This key has no {scope.value} grant {where}.", "Use a key that has it, or ask an administrator for one."
    )


def csrf_token(request: Request) -> str:
    """What a page sends back with whatever it changes; "" for a caller without a session."""
    session = _session(request)
    return session.csrf if session else ""


def new_login_link(state: State, principal: Principal = LOCAL) -> str:
    """A path that opens one session of this principal, once, within minutes."""
    return f"{LOGIN_PATH}?once={state.doors.new_link(principal.key_id)}"


def enter(request: Request, once: str) -> Response | None:
    """A page with the cookie of a new session, which goes on to the first page; None for a link that is none any more.

    No redirect: along one that began on another site, such as a web mail, a browser sends no SameSite=Strict cookie.
    """
    state = state_of(request)
    key_id = state.doors.take_link(once)
    principal = holder(state, key_id) if key_id else None
    if principal is None:
        return None
    _record(state, principal, "link")
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
        '<title>codehub</title><p><a href="/">Go on</a></p></html>'
    )
    response = Response(text, media_type="text/html")
    _open(request, state, principal.key_id, response)
    return response


class SessionShape(BaseModel):
    """A session; its secret travels in the cookie alone."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"owner": "Ada", "csrf_token": "mM3...", "expires_in_s": 43200}}
    )

    owner: str
    csrf_token: str
    expires_in_s: int


class LinkShape(BaseModel):
    """A link that opens one session, once."""

    model_config = ConfigDict(json_schema_extra={"example": {"path": "/login?once=Yh0...", "expires_in_s": 300}})

    path: str  # below the address that the server has for the browser
    expires_in_s: int


_LOGIN_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string"}}}}
            for kind in ("application/json", "application/x-www-form-urlencoded")
        },
    }
}


@router.post(
    "/sessions",
    status_code=201,
    response_model=SessionShape,
    summary="Turn a key into a session of the browser",
    responses=answers(400, 401, 403),
    openapi_extra=_LOGIN_BODY,
)
async def log_in(request: Request, response: Response) -> SessionShape | Response:
    """Takes ``{"key": ...}`` as JSON or as a form, and answers with a cookie that lasts 12 hours."""
    state = state_of(request)
    principal = state.keys.check(_shown_key(await request.body(), request.headers.get("content-type", "")))
    if principal is None:
        return refusal(401, "That key is not known, or not any more.", "Ask whoever runs this server for a new one.")
    await state.look(_record, state, principal, "key")
    request.state.audited = True
    if secret := _cookie(request):
        state.doors.close_session(secret)  # whoever knew the old one gains nothing by the new
    session = _open(request, state, principal.key_id, response)
    return SessionShape(owner=principal.owner, csrf_token=session.csrf, expires_in_s=state.doors.remaining_s(session))


@router.get(
    "/sessions",
    summary="The session that this request belongs to",
    responses=answers(404),
)
async def show_session(request: Request, principal: Caller) -> SessionShape:
    session = _session(request)
    if session is None:
        raise HTTPException(404)
    remaining = state_of(request).doors.remaining_s(session)
    return SessionShape(owner=principal.owner, csrf_token=session.csrf, expires_in_s=remaining)


@router.delete("/sessions", status_code=204, response_class=Response, summary="End the session", responses=answers(403))
async def log_out(request: Request, _principal: Caller) -> Response:
    """What has no session has none to end, and is answered the same."""
    if _session(request) is not None:
        state_of(request).doors.close_session(_cookie(request))
    response = Response(status_code=204, headers={"clear-site-data": _CLEARED})
    response.delete_cookie(_cookie_name(request), secure=_secure(request), httponly=True, samesite="strict", path="/")
    return response


@router.post(
    "/login-links",
    status_code=201,
    summary="Make a link that logs a browser in, once",
    responses=answers(403),
)
async def make_login_link(request: Request, principal: Caller) -> LinkShape:
    """The session is of whoever asks. Needs the local socket, or a key with the scope admin."""
    if principal != LOCAL:
        require(principal, Scope.ADMIN)
    state = state_of(request)
    return LinkShape(path=new_login_link(state, principal), expires_in_s=int(LINK_S))


def _open(request: Request, state: State, key_id: str, response: Response) -> Session:
    secret, session = state.doors.open_session(key_id)
    response.set_cookie(
        _cookie_name(request),
        secret,
        max_age=int(SESSION_S),
        path="/",
        secure=_secure(request),
        httponly=True,
        samesite="strict",
    )
    return session


def _record(state: State, principal: Principal, by: str) -> None:
    """That a session is about to be opened. Raises DataFolderError: what cannot be recorded is not done."""
    state.audit.append(principal, "session.open", "", "done", {"by": by})


def _shown_key(body: bytes, kind: str) -> str:
    """The key in a body, "" where there is none."""
    text = body.decode("utf-8", "replace")
    try:
        if kind.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
            fields: object = dict(parse_qsl(text, max_num_fields=10))
        else:
            fields = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    key = fields.get("key") if isinstance(fields, dict) else None
    return key[:_MOST_KEY_LETTERS] if isinstance(key, str) else ""


def _session(request: Request) -> Session | None:
    session = request.scope.get("state", {}).get("session")
    return session if isinstance(session, Session) else None


def _secure(request: Request) -> bool:
    return bool(request.scope["scheme"] == "https")


def _cookie_name(request: Request) -> str:
    return SECURE_COOKIE if _secure(request) else COOKIE


def _cookie(request: Request) -> str:
    cookies = [value for name, value in request.scope["headers"] if name == b"cookie"]
    return session_secret(cookies, secure=_secure(request))
