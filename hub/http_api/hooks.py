"""What git's hooks tell: a tree has changed, so index it again.

Nothing that is told is believed but which tree it is. What changed the indexing works out itself, so that a lost
or forged event costs freshness, or a look at git, and never correctness.
"""

import asyncio
import os.path
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from hub import following
from hub.auth.model import LOCAL, Principal, Scope
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

LISTEN_S = 1.0  # between two looks for what hooks of git have told


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
    job = await indexed(state, workspace.name, principal)
    return Taken(job=job.id, workspace=workspace.name)


async def listen(state: State) -> None:
    """Has every tree indexed again that a hook of git tells of and that nobody follows, as long as it is let run."""
    while True:
        await asyncio.sleep(LISTEN_S)
        await state.look(take_in, state)


def take_in(state: State) -> tuple[Job, ...]:
    """The jobs for all trees that hooks of git have told of until now. What cannot be taken yet is told again.

    A tree that is followed is left to whoever follows it.
    """
    data = state.settings.data
    if spool.is_empty(data):
        return ()
    workspaces = state.workspaces.visible(LOCAL)
    followed = {tree.root for tree in following.state(data)}
    if followed and spool.waiting(data, [workspace.root for workspace in workspaces]) <= followed:
        return ()
    told = spool.take(data, [workspace.root for workspace in workspaces])
    jobs = []
    for workspace in workspaces:
        if workspace.root in told and workspace.root in followed:
            _tell_again(data, workspace.root)
        elif workspace.root in told:
            try:
                job = state.jobs.submit(JobKind.INDEX, workspace.name, {}, LOCAL.key_id)
                state.audit.append(LOCAL, "hook", workspace.name, "done", {"job": job.id})
            except (JobError, DataFolderError):
                _tell_again(data, workspace.root)
            else:
                jobs.append(job)
    return tuple(jobs)


def _tell_again(data: Path, root: Path) -> None:
    with suppress(OSError):
        spool.tell(data, root)


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


async def indexed(state: State, workspace: str, principal: Principal) -> Job:
    """The job that indexes a workspace's tree again; the one that waits already, where one does."""
    return await state.look(lambda: state.jobs.submit(JobKind.INDEX, workspace, {}, principal.key_id))
