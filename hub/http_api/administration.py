"""Keys and the audit log for administrators, and the requests that wait for somebody to let them pass.

Every change is told in the audit log, with more than the doors could tell of it.
"""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from hub.auth.approvals import approval_shape
from hub.auth.audit import entry_shape, verification_shape
from hub.auth.keys import MOST_OWNER_LETTERS, NewKey, grants_of, key_shape
from hub.auth.model import ALL_WORKSPACES, Grant, Principal, Scope
from hub.auth.store import LONGEST_GRACE_S
from hub.errors import UnknownAccess
from hub.http_api.access import Caller, require
from hub.http_api.errors import answers
from hub.http_api.shaping import JsonResponse, Text, shaped
from hub.http_api.state import Shared, state_of
from hub.shapes import Json

router = APIRouter(prefix="/api/v1", tags=["administration"])

MOST_ENTRIES = 1_000  # of the audit log at once
_MOST_GRANTS = 200
_DAY_S = 86_400.0
_ID = r"^[0-9A-Za-z]{1,64}$"

KeyId = Annotated[str, InPath(pattern=_ID, description="As GET /api/v1/keys tells it.")]
ApprovalId = Annotated[str, InPath(pattern=_ID, description="As GET /api/v1/approvals tells it.")]

_KEY = {
    "key_id": "196ur7Woix",
    "owner": "continuous integration",
    "state": "active",
    "grants": [{"workspace": "leveldb", "scopes": ["read"]}],
    "created_at": "2026-11-01T10:00:00+00:00",
    "expires_at": None,
    "last_used_at": None,
    "revoked_at": None,
    "replaced_by": None,
}
_NEW_KEY = {**_KEY, "key": "chub_<id>_<secret>"}
_ENTRY = {
    "number": 17,
    "at": "2026-11-01T10:00:00+00:00",
    "who": "196ur7Woix",
    "owner": "continuous integration",
    "action": "key.create",
    "workspace": "",
    "outcome": "done",
    "detail": {"key_id": "9YKI3NeDww"},
    "digest": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
}
_VERIFIED = {
    "entries": 17,
    "broken_at": None,
    "reason": "",
    "mended": [],
    "torn": False,
    "digest": _ENTRY["digest"],
    "whole": True,
}
_APPROVAL = {
    "id": "11a0b4e843bc5f864329e6ba2a57880d",
    "workspace": "leveldb",
    "tool": "build",
    "digest": _ENTRY["digest"],
    "told": {"command": ["cmake", "--build", "build"]},
    "asked_by": "9YKI3NeDww",
    "owner": "an agent",
    "asked_at": "2026-11-01T10:00:00+00:00",
    "until": "2026-11-01T10:10:00+00:00",
    "state": "waiting",
    "decided_by": None,
    "decided_at": None,
}


def _created(example: Json) -> dict[int | str, dict[str, Any]]:
    return {201: shaped(example, "Made. The key is told here and nowhere else.")[200]}


class Granted(BaseModel):
    """Scopes in one workspace, or with ``*`` in all of them."""

    model_config = ConfigDict(extra="forbid")

    workspace: Annotated[Text, Field(max_length=64)] = ALL_WORKSPACES
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]


class WantedKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "owner": "continuous integration",
                    "grants": [{"workspace": "leveldb", "scopes": ["read"]}],
                    "expires_in_days": 90,
                }
            ]
        },
    )

    owner: Annotated[Text, Field(min_length=1, max_length=MOST_OWNER_LETTERS, description="A name for people.")]
    grants: Annotated[list[Granted], Field(min_length=1, max_length=_MOST_GRANTS)]
    expires_in_days: Annotated[float | None, Field(gt=0, le=36_500, description="By default it never expires.")] = None


class Rotation(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"grace_s": 3600}]})

    grace_s: Annotated[
        float, Field(ge=0, le=LONGEST_GRACE_S, description="Seconds that the old key goes on working.")
    ] = 0.0


class Decision(BaseModel):
    """What is decided."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"grant": True}]})

    grant: Annotated[bool, Field(strict=True, description="true lets it pass once, false denies it.")]


@router.get("/keys", summary="All keys, without their secrets", responses={**answers(403), **shaped({"keys": [_KEY]})})
async def keys(state: Shared, principal: Caller) -> Response:
    """Needs the scope admin in all workspaces, as everything about keys does."""
    require(principal, Scope.ADMIN)
    records = await state.look(state.keys.records)
    now = time.time()
    return JsonResponse({"keys": [key_shape(record, now) for record in records]})


@router.post("/keys", status_code=201, summary="Make a key", responses={**answers(400, 403), **_created(_NEW_KEY)})
async def create_key(wanted: WantedKey, request: Request, state: Shared, principal: Caller) -> Response:
    require(principal, Scope.ADMIN)
    grants = _grants(wanted.grants)
    expires = None if wanted.expires_in_days is None else time.time() + wanted.expires_in_days * _DAY_S
    made = await state.look(state.keys.create, wanted.owner, grants, expires)
    await _told(request, principal, "key.create", {"key_id": made.record.key_id, "owner": made.record.owner})
    return _shown(made)


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    summary="Replace a key by a new one with the same grants",
    responses={**answers(400, 403, 404), **_created(_NEW_KEY)},
)
async def rotate_key(
    key_id: KeyId, request: Request, state: Shared, principal: Caller, rotation: Rotation | None = None
) -> Response:
    require(principal, Scope.ADMIN)
    made = await state.look(state.keys.rotate, key_id, rotation.grace_s if rotation else 0.0)
    await _told(request, principal, "key.rotate", {"key_id": key_id, "replaced_by": made.record.key_id})
    return _shown(made)


@router.delete(
    "/keys/{key_id}",
    status_code=204,
    response_class=Response,
    summary="Revoke a key, at once and for good",
    responses=answers(403, 404),
)
async def revoke_key(key_id: KeyId, request: Request, state: Shared, principal: Caller) -> Response:
    require(principal, Scope.ADMIN)
    if not await state.look(state.keys.revoke, key_id):
        raise UnknownAccess("There is no such key, or it was revoked before.", "See the list of keys.")
    await _told(request, principal, "key.revoke", {"key_id": key_id})
    return Response(status_code=204)


@router.get(
    "/audit",
    summary="What was done and refused, newest first",
    responses={**answers(403), **shaped({"entries": [_ENTRY], "next_before": None})},
)
async def audit(
    state: Shared,
    principal: Caller,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
    before: Annotated[int | None, Query(ge=1, description="Entries below this number only.")] = None,
) -> Response:
    """``next_before`` asks for the page that follows; null where there is none."""
    require(principal, Scope.ADMIN)
    entries = await state.look(state.audit.entries, limit, before)
    more = len(entries) == limit and entries[-1].number > 1
    return JsonResponse(
        {"entries": [entry_shape(entry) for entry in entries], "next_before": entries[-1].number if more else None}
    )


@router.get(
    "/audit/verify",
    summary="Whether the audit log is as it was written",
    responses={**answers(403), **shaped(_VERIFIED)},
)
async def verify_audit(state: Shared, principal: Caller) -> Response:
    """Reads all of it. Keep the digest elsewhere to notice later that the whole log was replaced."""
    require(principal, Scope.ADMIN)
    return JsonResponse(verification_shape(await state.look(state.audit.verify)))


@router.get(
    "/approvals",
    summary="What waits for somebody to let it pass",
    responses={**answers(), **shaped({"approvals": [_APPROVAL]})},
)
async def approvals(state: Shared, principal: Caller) -> Response:
    """Those that the caller may decide, and those he has asked for himself."""
    waiting = await state.look(state.approvals.pending, principal)
    return JsonResponse({"approvals": [approval_shape(approval) for approval in waiting]})


@router.get(
    "/approvals/{approval_id}",
    summary="One request, and what became of it",
    responses={**answers(404), **shaped(_APPROVAL)},
)
async def approval(approval_id: ApprovalId, state: Shared, principal: Caller) -> Response:
    return JsonResponse(approval_shape(await state.look(state.approvals.one, approval_id, principal)))


@router.post(
    "/approvals/{approval_id}",
    summary="Let a request pass once, or deny it",
    responses={**answers(400, 403, 404), **shaped({**_APPROVAL, "state": "granted"})},
)
async def decide(
    approval_id: ApprovalId, decision: Decision, request: Request, state: Shared, principal: Caller
) -> Response:
    """Needs the scope approve in the workspace that it is for. Nobody decides what he has asked for himself."""
    decided = await state.look(state.approvals.decide, approval_id, principal, decision.grant)
    await _told(
        request,
        principal,
        "approval.grant" if decision.grant else "approval.deny",
        {"approval": approval_id, "tool": decided.tool, "digest": decided.digest, "asked_by": decided.asked_by},
        decided.workspace,
    )
    return JsonResponse(approval_shape(decided))


def _grants(wanted: list[Granted]) -> tuple[Grant, ...]:
    """The grants, checked and put together as those that are typed are."""
    return grants_of((), [f"{grant.workspace}:{','.join(grant.scopes)}" for grant in wanted])


def _shown(made: NewKey) -> Response:
    return JsonResponse({**key_shape(made.record, time.time()), "key": made.text}, 201)


async def _told(
    request: Request, principal: Principal, action: str, detail: dict[str, str | int | float], workspace: str = ""
) -> None:
    """Writes what was done into the audit log, in place of the line that the doors would write."""
    state = state_of(request)
    await state.look(state.audit.append, principal, action, workspace, "done", detail)
    request.state.audited = True
