"""What git, and the places that keep it, tell: a tree has changed, so index it again.

Nothing that is told is believed but which tree it is. What changed the indexing works out itself, so that a lost
or forged event costs freshness, or a look at git, and never correctness. A webhook is verified over the bytes as they
came, before they are read as anything; which workspace it is about stands in the settings, never in what was sent.

GitHub signs the body (X-Hub-Signature-256, docs.github.com "Validating webhook deliveries"). GitLab sends a token
along, or signs id, time and body as the Standard Webhooks specification has it (``v1,`` and base64 of HMAC-SHA256).
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os.path
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from hub.auth.model import LOCAL, Grant, Principal, Scope
from hub.config import Settings
from hub.errors import JobError
from hub.hooking import spool
from hub.http_api.access import Caller, require
from hub.http_api.errors import answers
from hub.http_api.shaping import Text
from hub.http_api.state import State, state_of
from hub.jobs import Job, JobKind
from hub.workspaces import unknown
from indexer.errors import DataFolderError
from indexer.index import Workspace

router = APIRouter(prefix="/api/v1", tags=["hooks"])

WINDOW_S = 300  # that a signed time may be off by
LISTEN_S = 1.0  # between two looks for what hooks of git have told
_MOST_SIGNATURES = 10  # in one header, while a key is being replaced


class Event(BaseModel):
    """What a hook of git tells. What else it sends is not looked at."""

    model_config = ConfigDict(json_schema_extra={"example": {"root": "/home/ada/leveldb", "event": "post-merge"}})

    root: Annotated[Text, Field(max_length=4_096)] = ""
    workspace: Annotated[Text, Field(max_length=64)] = ""
    event: Annotated[Text, Field(max_length=64)] = ""


class Taken(BaseModel):
    """A job that will look at what changed; none where the event changes no tree."""

    model_config = ConfigDict(json_schema_extra={"example": {"job": "3f9a1c2b4d5e", "workspace": "leveldb"}})

    job: str | None
    workspace: str


@router.post(
    "/events/git",
    status_code=202,
    summary="Say that a tree has changed",
    responses=answers(400, 403, 404, 409, 413),
)
async def git_event(request: Request, event: Event, principal: Caller) -> Taken:
    """For git's hooks: name the tree's folder, or its workspace. Needs the scope ingest there."""
    state = state_of(request)
    seen = await state.look(state.workspaces.visible, principal)
    workspace = _named(seen, event)
    require(principal, Scope.INGEST, workspace.name)
    job = await _indexed(state, workspace.name, principal)
    return Taken(job=job.id, workspace=workspace.name)


async def listen(state: State) -> None:
    """Has every tree indexed again that a hook of git tells of, as long as it is let run."""
    while True:
        await asyncio.sleep(LISTEN_S)
        await state.look(take_in, state)


def take_in(state: State) -> tuple[Job, ...]:
    """The jobs for all trees that hooks of git have told of until now. What cannot be taken yet is told again."""
    data = state.settings.data
    if spool.is_empty(data):
        return ()
    workspaces = state.workspaces.visible(LOCAL)
    told = spool.take(data, [workspace.root for workspace in workspaces])
    jobs = []
    for workspace in workspaces:
        if workspace.root in told:
            try:
                jobs.append(state.jobs.submit(JobKind.INDEX, workspace.name, {}, LOCAL.key_id))
            except (JobError, DataFolderError):
                with suppress(OSError):
                    spool.tell(data, workspace.root)
    return tuple(jobs)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is what it says. ``seen`` is the same for the same delivery, and cannot be chosen by a forger."""

    repository: str  # "" where what was sent names none
    changes: bool  # a tree
    seen: bytes


@router.post(
    "/webhooks/{place}",
    status_code=202,
    summary="Take a webhook of GitHub or GitLab",
    responses=answers(401, 404, 409, 413),
    openapi_extra={
        "security": [],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
)
async def webhook(request: Request, place: str) -> Taken:
    """The place is ``github`` or ``gitlab``; its secret stands in the settings, else there is nothing here."""
    state = state_of(request)
    headers = {name.decode("latin-1"): value for name, value in request.scope["headers"]}
    delivery = delivered(state.settings, place, headers, await request.body(), time.time())
    workspace = repositories(state.settings).get(delivery.repository.lower())
    if workspace is None:
        raise HTTPException(404)
    principal = Principal(f"webhook-{place}", delivery.repository, (Grant(workspace, frozenset({Scope.INGEST})),))
    if not await state.look(state.workspaces.visible, principal):
        raise HTTPException(404)
    if not state.doors.first_delivery(delivery.seen):
        raise HTTPException(409, "This delivery was taken before.")
    request.state.audited = True
    await state.look(_record, state, principal, workspace)
    if not delivery.changes:
        return Taken(job=None, workspace=workspace)
    return Taken(job=(await _indexed(state, workspace, principal)).id, workspace=workspace)


def delivered(settings: Settings, place: str, headers: Mapping[str, bytes], body: bytes, now: float) -> Delivery:
    """What a webhook tells, once it is proven to come from there.

    Raises HTTPException: 404 where no secret is set up, 401 where the proof is missing, wrong or old.
    """
    if place == "github" and settings.webhooks_github_secret:
        proven = _signed_by_github(settings.webhooks_github_secret, headers, body)
    elif place == "gitlab" and settings.webhooks_gitlab_signing_key:
        proven = _signed_by_gitlab(settings.webhooks_gitlab_signing_key, headers, body, now)
    elif place == "gitlab" and settings.webhooks_gitlab_token:
        proven = hmac.compare_digest(headers.get("x-gitlab-token", b""), settings.webhooks_gitlab_token.encode())
    else:
        raise HTTPException(404)
    if not proven:
        raise HTTPException(401, "The webhook is not signed as it should be.")
    return _read(place, headers, body)


def repositories(settings: Settings) -> dict[str, str]:
    """Workspaces by the names of their repositories, in small letters, since both places take them as equal."""
    pairs = (text.partition("=") for text in settings.webhooks_repositories)
    return {
        name.strip().lower(): workspace.strip() for name, _, workspace in pairs if name.strip() and workspace.strip()
    }


def _signed_by_github(secret: str, headers: Mapping[str, bytes], body: bytes) -> bool:
    wanted = b"sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
    return hmac.compare_digest(headers.get("x-hub-signature-256", b""), wanted)


def _signed_by_gitlab(key: str, headers: Mapping[str, bytes], body: bytes, now: float) -> bool:
    identity, told = headers.get("webhook-id", b""), headers.get("webhook-timestamp", b"")
    if not identity or not told.isdigit() or len(told) > 12 or abs(now - int(told)) > WINDOW_S:
        return False
    signed = base64.b64encode(hmac.new(_key_of(key), b".".join((identity, told, body)), hashlib.sha256).digest())
    shown = headers.get("webhook-signature", b"").split(b" ")[:_MOST_SIGNATURES]
    return any(hmac.compare_digest(signature, b"v1," + signed) for signature in shown)


def _key_of(text: str) -> bytes:
    """The bytes of a signing key: base64 after ``whsec_``, as the specification writes it, else the text itself."""
    if text.startswith("whsec_"):
        try:
            return base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return text.encode()


def _read(place: str, headers: Mapping[str, bytes], body: bytes) -> Delivery:
    """Of the body the repository's name alone is taken."""
    if place == "github":
        at, name, event, changing = "repository", "full_name", headers.get("x-github-event", b""), (b"push", b"create")
    else:
        at, name, event = "project", "path_with_namespace", headers.get("x-gitlab-event", b"")
        changing = (b"Push Hook", b"Tag Push Hook")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    about = told.get(at) if isinstance(told, dict) else None
    repository = about.get(name) if isinstance(about, dict) else None
    # The id of a delivery is not signed by GitHub, nor with GitLab's token; what was signed is the body.
    seen = hashlib.sha256(b"\0".join((place.encode(), headers.get("webhook-id", b""), body))).digest()
    return Delivery(repository if isinstance(repository, str) else "", event in changing, seen)


def _named(seen: tuple[Workspace, ...], event: Event) -> Workspace:
    """The workspace of an event among those that its sender sees. No file is looked at. Raises WorkspaceError."""
    if event.workspace:
        found = [workspace for workspace in seen if workspace.name == event.workspace]
    else:
        root = PurePosixPath(os.path.normpath(event.root)) if event.root.startswith("/") else PurePosixPath()
        found = [workspace for workspace in seen if root.is_relative_to(workspace.root)]
        found.sort(key=lambda workspace: len(workspace.root.parts), reverse=True)
    if not found:
        raise unknown(event.workspace or event.root)
    return found[0]


async def _indexed(state: State, workspace: str, principal: Principal) -> Job:
    return await state.look(lambda: state.jobs.submit(JobKind.INDEX, workspace, {}, principal.key_id))


def _record(state: State, principal: Principal, workspace: str) -> None:
    state.audit.append(principal, "webhook", workspace, "done", {"repository": principal.owner[:200]})
