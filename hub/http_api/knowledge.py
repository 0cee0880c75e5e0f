"""What people keep of a tree: shown, proposed, reviewed and taken back over HTTP.

Who may do what, and what the audit log is told of it, is decided by the store itself, as for every other way in.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from hub.auth.model import Principal, Scope
from hub.errors import Forbidden
from hub.http_api.access import Caller
from hub.http_api.errors import answers
from hub.http_api.shaping import JsonResponse, Text, WorkspaceName, shaped
from hub.http_api.state import Shared, State
from hub.knowledge import Entry, EntryKind, lasting
from hub.knowledge import State as EntryState
from hub.knowledge.words import MOST_TEXT_BYTES, MOST_TITLE_CHARS
from hub.remembering import Standing, digest, drafted, entry_shape, standing
from hub.shapes import Json

router = APIRouter(prefix="/api/v1", tags=["knowledge"])

_DAY_S = 86_400.0
_MOST_LIST = 32  # places, pieces of evidence and numbers of one entry
_LARGEST = lasting.MOST_ENTRIES

Number = Annotated[int, InPath(ge=1, le=_LARGEST, description="Of the entry, counted in its workspace.")]
Batch = Annotated[str, InPath(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="As an entry tells it.")]

# As proposed in a folder outside of git: what is null here may be a string.
_ENTRY: Json = {
    "id": 3,
    "workspace": "leveldb",
    "kind": "gotcha",
    "state": "proposed",
    "title": "The mutex is let go during compaction",
    "text": "BackgroundCompaction unlocks it around file writes, so state read before may be stale after.",
    "about": [{"symbol": "leveldb::DBImpl::BackgroundCompaction", "path": "db/db_impl.cc", "line": 0}],
    "author": "Ann",
    "key": "196ur7Woix",
    "commit": None,
    "evidence": ["db/db_impl.cc:708"],
    "created_at": "2026-11-01T10:00:00+00:00",
    "expires_at": None,
    "supersedes": [],
    "superseded_by": [],
    "reviewer": None,
    "reviewed_at": None,
    "reason": None,
    "reaffirmed_by": None,
    "reaffirmed_at": None,
    "batch": "b_5f70bf18",
    "source": None,
    "drift": [],
    "also_held": [],
    "open_to_you": ["accept", "reject", "rollback"],
}


class Wanted(BaseModel):
    """Something to be kept."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "text": "BackgroundCompaction unlocks the mutex around file writes.",
                    "kind": "gotcha",
                    "about": ["DBImpl::BackgroundCompaction"],
                    "evidence": ["db/db_impl.cc:708"],
                }
            ]
        },
    )

    text: Annotated[Text, Field(min_length=1, max_length=MOST_TEXT_BYTES)]
    kind: EntryKind = EntryKind.GOTCHA
    title: Annotated[Text, Field(max_length=MOST_TITLE_CHARS, description="By default the beginning of the text.")] = ""
    about: Annotated[
        list[Annotated[Text, Field(max_length=500)]],
        Field(max_length=_MOST_LIST, description="Symbols and places, such as src/a.cc:12."),
    ] = []
    evidence: Annotated[
        list[Annotated[Text, Field(max_length=500)]],
        Field(max_length=_MOST_LIST, description="What it rests on: places, commits, runs."),
    ] = []
    expires_in_days: Annotated[float | None, Field(gt=0, le=36_500, description="By default never.")] = None
    supersedes: Annotated[
        list[Annotated[int, Field(ge=1, le=_LARGEST)]], Field(max_length=_MOST_LIST, description="What it replaces.")
    ] = []


class Verdict(BaseModel):
    """What a reviewer says."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"accept": True}]})

    accept: Annotated[bool, Field(strict=True, description="true: it holds from now on; false: it does not.")]
    reason: Annotated[Text, Field(max_length=500, description="Why not; shown with the entry.")] = ""


class Reason(BaseModel):
    """Why something holds no longer."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "the lock is gone"}]})

    reason: Annotated[Text, Field(max_length=500)] = ""


@router.get(
    "/knowledge",
    summary="What people keep of a tree",
    responses={**answers(403, 404), **shaped({"workspace": "leveldb", "entries": [_ENTRY]})},
)
async def entries(
    state: Shared,
    principal: Caller,
    workspace: WorkspaceName = None,
    query: Annotated[Text, Query(max_length=2_000, description="Words or names; by default the newest.")] = "",
    only: Annotated[
        list[EntryState] | None, Query(description="States; by default what holds, and then what was superseded.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=lasting.MOST_LIMIT)] = 20,
) -> Response:
    """Needs the scope read. What holds comes first, and within it what holds the rarest words."""

    def looked() -> Json:
        name = state.workspaces.chosen(principal, workspace).name
        found = state.lasting.search(principal, name, query, limit, tuple(only or lasting.SHOWN))
        return {"workspace": name, "entries": _shapes(state, principal, name, found)}

    return JsonResponse(await state.look(looked))


@router.get(
    "/knowledge/{number}",
    summary="One entry with what it would replace",
    responses={**answers(403, 404), **shaped({**_ENTRY, "replaces": []})},
)
async def entry(number: Number, state: Shared, principal: Caller, workspace: WorkspaceName = None) -> Response:
    def looked() -> Json:
        name = state.workspaces.chosen(principal, workspace).name
        found = state.lasting.get(principal, name, number)
        old = [state.lasting.get(principal, name, each) for each in found.supersedes]
        (shape,) = _shapes(state, principal, name, [found])
        return {**shape, "replaces": _shapes(state, principal, name, old)}

    return JsonResponse(await state.look(looked))


@router.post(
    "/knowledge",
    status_code=201,
    summary="Propose something to be kept",
    responses={
        **answers(400, 403, 404),
        201: shaped({**_ENTRY, "state": "proposed", "unknown": []}, "Kept, and proposed.")[200],
    },
)
async def add(
    wanted: Wanted, request: Request, state: Shared, principal: Caller, workspace: WorkspaceName = None
) -> Response:
    """Needs the scope knowledge. It holds once somebody else has accepted it, or at once where nobody has to.

    ``unknown`` are the places of which the index knows none or several, which are kept as written.
    """

    def added() -> Json:
        name = _named(state, principal, workspace, Scope.KNOWLEDGE)
        told = (wanted.kind, wanted.title, wanted.text, wanted.about)
        if principal.may(Scope.READ, name):
            with state.workspaces.opened(principal, name) as service:
                draft, unknown = drafted(service, *told)
        else:
            draft, unknown = drafted(None, *told)
        days = wanted.expires_in_days
        whole = replace(
            draft,
            evidence=tuple(wanted.evidence),
            expires_at=None if days is None else time.time() + days * _DAY_S,
            supersedes=tuple(wanted.supersedes),
        )
        (shape,) = _shapes(state, principal, name, state.lasting.add(principal, name, [whole]))
        return {**shape, "unknown": unknown}

    return JsonResponse(await _changed(request, state, added), 201)


@router.post(
    "/knowledge/{number}/review",
    summary="Accept what is proposed, or reject it",
    responses={**answers(400, 403, 404), **shaped(_ENTRY)},
)
async def review(
    number: Number,
    verdict: Verdict,
    request: Request,
    state: Shared,
    principal: Caller,
    workspace: WorkspaceName = None,
) -> Response:
    """Needs the scope approve. Nobody accepts what he wrote himself; rejecting one's own takes it back."""

    def decided(name: str) -> tuple[Entry, ...]:
        if verdict.accept:
            return (state.lasting.accept(principal, name, number),)
        return (state.lasting.reject(principal, name, number, verdict.reason),)

    return JsonResponse((await _acted(request, state, principal, workspace, decided))["entries"][0])


@router.post(
    "/knowledge/{number}/retire",
    summary="Say that an entry holds no longer",
    responses={**answers(400, 403, 404), **shaped({**_ENTRY, "state": "retired"})},
)
async def retire(
    number: Number,
    request: Request,
    state: Shared,
    principal: Caller,
    why: Reason | None = None,
    workspace: WorkspaceName = None,
) -> Response:
    """Needs the scope approve, or that nobody has accepted it yet and the caller wrote it."""

    def retired(name: str) -> tuple[Entry, ...]:
        return (state.lasting.retire(principal, name, number, why.reason if why else ""),)

    return JsonResponse((await _acted(request, state, principal, workspace, retired))["entries"][0])


@router.post(
    "/knowledge/{number}/reaffirm",
    summary="Say that an entry holds for the code as it is now",
    responses={**answers(400, 403, 404), **shaped(_ENTRY)},
)
async def reaffirm(
    number: Number, request: Request, state: Shared, principal: Caller, workspace: WorkspaceName = None
) -> Response:
    """Needs the scopes approve and read: whoever says so has to be able to look."""

    def reaffirmed(name: str) -> tuple[Entry, ...]:
        with state.workspaces.opened(principal, name) as service:
            known = state.lasting.get(principal, name, number)
            digests = tuple(digest(service, each.anchor) for each in known.anchors)
        return (state.lasting.reaffirm(principal, name, number, digests),)

    return JsonResponse((await _acted(request, state, principal, workspace, reaffirmed))["entries"][0])


@router.post(
    "/knowledge/batches/{batch}/rollback",
    summary="Take back all that was added at once",
    responses={**answers(400, 403, 404), **shaped({"workspace": "leveldb", "entries": [_ENTRY]})},
)
async def rollback(
    batch: Batch,
    request: Request,
    state: Shared,
    principal: Caller,
    why: Reason | None = None,
    workspace: WorkspaceName = None,
) -> Response:
    """As if none of it had ever been accepted: what it superseded holds again. Needs what ``retire`` needs."""

    def rolled_back(name: str) -> tuple[Entry, ...]:
        return state.lasting.rollback(principal, name, batch, why.reason if why else "")

    return JsonResponse(await _acted(request, state, principal, workspace, rolled_back))


async def _acted(
    request: Request,
    state: State,
    principal: Principal,
    workspace: str | None,
    act: Callable[[str], tuple[Entry, ...]],
) -> Json:
    """The entries after what was done to them in the workspace that is meant."""

    def acted() -> Json:
        name = _named(state, principal, workspace, Scope.APPROVE, Scope.KNOWLEDGE)
        return {"workspace": name, "entries": _shapes(state, principal, name, act(name))}

    return await _changed(request, state, acted)


async def _changed(request: Request, state: State, work: Callable[[], Json]) -> Json:
    """The result of what the store tells the audit log of, so that the doors need not tell it again."""
    made = await state.look(work)
    request.state.audited = True
    return made


def _named(state: State, principal: Principal, workspace: str | None, *scopes: Scope) -> str:
    """The workspace that is meant, by the first scope that is granted. Raises WorkspaceError, Forbidden."""
    for scope in scopes[:-1]:
        with suppress(Forbidden):
            return state.workspaces.chosen(principal, workspace, scope).name
    return state.workspaces.chosen(principal, workspace, scopes[-1]).name


def _shapes(state: State, principal: Principal, name: str, found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Entries as JSON, as they stand; whoever may not read the tree is told nothing of its code."""
    if found and principal.may(Scope.READ, name):
        with state.workspaces.opened(principal, name) as service:
            told = standing(state.lasting, service, found)
    else:
        told = tuple(Standing(each, (), state.lasting.rivals(each)) for each in found)
    return [{**entry_shape(each), "open_to_you": list(state.lasting.open_to(principal, each.entry))} for each in told]
