"""What the places that keep git repositories send: a tree has changed, so index it again; or what a pull request says.

Nothing that is told of a tree is believed but which repository it is, and what a pull request says is kept as words of
somebody. Comments and reviews are not taken. A webhook is verified over the bytes as they came, before they are read
as anything; which workspace it is about stands in the settings, never in what was sent.

GitHub signs the body (X-Hub-Signature-256, docs.github.com "Validating webhook deliveries"). GitLab sends a token
along, or signs id, time and body as the Standard Webhooks specification has it (``v1,`` and base64 of HMAC-SHA256).
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException, Request

from hub.auth.model import Grant, Principal, Scope
from hub.config import Settings
from hub.http_api.errors import answers
from hub.http_api.hooks import Taken, indexed
from hub.http_api.state import State, state_of
from hub.knowledge.pulls import FILE, Pull, Pulls

router = APIRouter(prefix="/api/v1", tags=["hooks"])

WINDOW_S = 300  # that a signed time may be off by
_MOST_SIGNATURES = 10  # in one header, while a key is being replaced


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is what it says. ``seen`` is the same for the same delivery, and cannot be chosen by a forger."""

    repository: str  # "" where what was sent names none
    changes: bool  # a tree
    seen: bytes
    pull: Pull | None = None  # that it tells of


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
    if delivery.pull is not None:
        await state.look(_take, state, workspace, delivery.pull)
    if not delivery.changes:
        return Taken(job=None, workspace=workspace)
    return Taken(job=(await indexed(state, workspace, principal)).id, workspace=workspace)


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
    """Of the body the repository's name alone is taken, and what a pull request says."""
    if place == "github":
        at, name, event, changing = "repository", "full_name", headers.get("x-github-event", b""), (b"push", b"create")
    else:
        at, name, event = "project", "path_with_namespace", headers.get("x-gitlab-event", b"")
        changing = (b"Push Hook", b"Tag Push Hook")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    repository = _text(_part(told, at), name)
    pull = _PULLS[event](told) if event in _PULLS else None
    # The id of a delivery is not signed by GitHub, nor with GitLab's token; what was signed is the body.
    seen = hashlib.sha256(b"\0".join((place.encode(), headers.get("webhook-id", b""), body))).digest()
    return Delivery(repository, event in changing, seen, pull)


def _of_github(told: object) -> Pull | None:
    """Of docs.github.com's "Webhook events and payloads", pull_request."""
    pull = _part(told, "pull_request")
    merged = pull.get("merged") is True
    return _pull(
        pull.get("number"),
        "github",
        _text(pull, "html_url"),
        _text(pull, "title"),
        _text(pull, "body"),
        _text(_part(pull, "user"), "login"),
        "merged" if merged else "open" if pull.get("state") == "open" else "closed",
        # Of one that is still open it is a commit that was made to try whether it could be merged.
        _text(pull, "merge_commit_sha") if merged else "",
        _text(_part(pull, "base"), "ref"),
        _text(pull, "updated_at"),
    )


def _of_gitlab(told: object) -> Pull | None:
    """Of docs.gitlab.com's "Webhook events", merge request. The user is who acted, so the author of a new one alone."""
    pull = _part(told, "object_attributes")
    merged = pull.get("state") == "merged"
    return _pull(
        pull.get("iid"),
        "gitlab",
        _text(pull, "url"),
        _text(pull, "title"),
        _text(pull, "description"),
        _text(_part(told, "user"), "username") if pull.get("action") == "open" else "",
        "merged" if merged else "open" if pull.get("state") in ("opened", "locked") else "closed",
        (_text(pull, "merge_commit_sha") or _text(pull, "squash_commit_sha")) if merged else "",
        _text(pull, "target_branch"),
        _text(pull, "updated_at"),
    )


_PULLS: Mapping[bytes, Callable[[object], Pull | None]] = {
    b"pull_request": _of_github,
    b"Merge Request Hook": _of_gitlab,
}


def _pull(number: object, *texts: str) -> Pull | None:
    return Pull(number, *texts) if type(number) is int else None


def _part(told: object, name: str) -> Mapping[str, object]:
    found = told.get(name) if isinstance(told, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _text(told: Mapping[str, object], name: str) -> str:
    found = told.get(name)
    return found if isinstance(found, str) else ""


def _take(state: State, workspace: str, pull: Pull) -> None:
    with Pulls(state.settings.data / FILE) as pulls:
        pulls.take(workspace, pull)


def _record(state: State, principal: Principal, workspace: str) -> None:
    state.audit.append(principal, "webhook", workspace, "done", {"repository": principal.owner[:200]})
