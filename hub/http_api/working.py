"""Jobs over HTTP: asked for, listed, followed, stopped, gone on with. A job of a workspace that is not seen is none.

What a job writes with is the server's settings. Only the user of this machine may say otherwise, as with a command.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from hub.auth.model import ALL_WORKSPACES, LOCAL, Principal, Scope
from hub.errors import Forbidden, TaskError, UnknownJob
from hub.http_api.access import Caller, require
from hub.http_api.errors import answers
from hub.http_api.events import MEDIA_TYPE, encoded
from hub.http_api.shaping import JsonResponse, Text, schema_of, shaped
from hub.http_api.state import Shared, State, state_of
from hub.jobs import Job, JobKind, Task, job_shape
from hub.jobs.model import NEEDED, Json
from hub.jobs.work import checked, named
from hub.workspaces import unknown

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

MOST_WAIT_S = 25.0  # of one request, below what clients and proxies give up at
TELL_S = 0.2  # between two events of one job's progress. 0.05 to 1.
BEAT_S = 10.0  # of silence until a comment shows that the connection lives. 5 to 30.
_BEAT = b": working\n\n"
_FOLDERS = {"folder", "path"}  # of results, that name files of the server


class Wanted(BaseModel):
    """A job to do. Which arguments there are depends on the kind; docs/jobs.md has them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"kind": "index", "workspace": "counter", "arguments": {}}]}
    )

    kind: JobKind
    workspace: Annotated[Text | None, Field(max_length=64)] = None
    arguments: dict[str, Any] = Field(default_factory=dict, max_length=20)


_EXAMPLE = {
    "id": "5a383549505f",
    "kind": "index",
    "workspace": "counter",
    "asked_by": "local",
    "state": "queued",
    "stage": "",
    "done": 0,
    "total": 0,
    "created_at": "2026-11-01T10:00:00.000+00:00",
    "started_at": None,
    "ended_at": None,
    "result": None,
    "error": None,
    "hint": None,
    "version": 17,
}
_STREAMED = 'event: job\ndata: {"id":"5a383549505f","state":"running","stage":"parse","done":120,"total":400}\n\n'
_JobId = Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")]


@router.get(
    "",
    summary="The jobs of the workspaces that are seen, the newest first",
    responses={**answers(), **shaped({"jobs": [_EXAMPLE]})},
)
async def list_jobs(principal: Caller, state: Shared) -> Response:
    """Without their results, which the job itself tells."""
    seen = [job for job in state.jobs.jobs() if _visible(principal, job)]
    return JsonResponse({"jobs": [_shape(principal, state, replace(job, result=None)) for job in seen]})


@router.post(
    "",
    status_code=202,
    summary="Ask for a job",
    responses={
        202: {
            "description": "It waits or runs; `location` says where it is told of. An equal one may wait already.",
            "content": {"application/json": {"schema": schema_of(_EXAMPLE), "example": _EXAMPLE}},
        },
        **answers(400, 403, 404, 409),
    },
)
async def submit(body: Wanted, request: Request, principal: Caller, state: Shared) -> Response:
    """index, repair and warm need ingest in the workspace, as do calibrate and tune; backup needs admin."""
    task = await state.look(_task, state, principal, body)
    job = await state.look(state.jobs.submit, task.kind, task.workspace, task.arguments, principal.key_id)
    await _note(request, principal, job, "submit")
    return JsonResponse(_shape(principal, state, job), 202, {"location": f"{router.prefix}/{job.id}"})


@router.get(
    "/{job_id}",
    summary="One job, at once or when it has changed",
    responses={**shaped(_EXAMPLE), **answers(404)},
)
async def show(
    job_id: _JobId,
    principal: Caller,
    state: Shared,
    wait_s: Annotated[float, Query(ge=0, le=MOST_WAIT_S, description="Seconds to wait for a change.")] = 0.0,
    after: Annotated[int, Query(ge=-1, le=1 << 53, description="The version that is known already.")] = -1,
) -> Response:
    job = _known(principal, state, job_id)
    if wait_s and not job.state.ended and job.version <= after:
        with _Watch(state, job_id) as watch:
            await watch.change(wait_s, after)
        job = _known(principal, state, job_id)
    return JsonResponse(_shape(principal, state, job))


@router.post("/{job_id}/cancel", summary="Stop a job", responses={**shaped(_EXAMPLE), **answers(403, 404)})
async def cancel(job_id: _JobId, request: Request, principal: Caller, state: Shared) -> Response:
    """One that waits is cancelled at once, one that runs once it has stored what it has; others stay as they are."""
    job = _known(principal, state, job_id)
    require(principal, NEEDED[job.kind], job.workspace)
    job = await state.look(state.jobs.cancel, job_id)
    await _note(request, principal, job, "cancel")
    return JsonResponse(_shape(principal, state, job))


@router.post("/{job_id}/resume", summary="Go on with a job", responses={**shaped(_EXAMPLE), **answers(403, 404, 409)})
async def resume(job_id: _JobId, request: Request, principal: Caller, state: Shared) -> Response:
    """One that failed, was cancelled or interrupted waits again, and goes on from what it had stored."""
    job = _known(principal, state, job_id)
    require(principal, NEEDED[job.kind], job.workspace)
    job = await state.look(state.jobs.resume, job_id)
    await _note(request, principal, job, "resume")
    return JsonResponse(_shape(principal, state, job))


@router.get(
    "/{job_id}/events",
    summary="A job's progress as server-sent events",
    response_class=StreamingResponse,
    responses={
        **answers(404),
        200: {
            "description": "An event `job` with the whole of it at each change, a few a second, until it has ended.",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _STREAMED}},
        },
    },
)
async def follow(job_id: _JobId, principal: Caller, state: Shared) -> Response:
    _known(principal, state, job_id)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(principal, state, job_id), media_type=MEDIA_TYPE, headers=headers)


async def _events(principal: Principal, state: State, job_id: str) -> AsyncIterator[bytes]:
    told = -1
    with _Watch(state, job_id) as watch:
        while True:
            job = state.jobs.job(job_id)
            if job is None:
                return
            if job.version > told:
                told = job.version
                yield encoded("job", _shape(principal, state, job))
                if job.state.ended:
                    return
                await asyncio.sleep(TELL_S)
            elif not await watch.change(BEAT_S, told):
                if state.jobs.closing:
                    return
                yield _BEAT


class _Watch:
    """Wakes a coroutine when a job has changed."""

    def __init__(self, state: State, job_id: str) -> None:
        self._jobs = state.jobs
        self._job_id = job_id
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        self._held.enter_context(self._jobs.watched(self._tell))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    async def change(self, timeout_s: float, after: int) -> bool:
        """Waits until the job is beyond a version, or ended, or gone; False where the time was over first."""
        until = time.monotonic() + timeout_s
        while True:
            self._changed.clear()
            job = self._jobs.job(self._job_id)
            if job is None or job.state.ended or job.version > after:
                return True
            try:
                await asyncio.wait_for(self._changed.wait(), until - time.monotonic())
            except TimeoutError:
                return False
            if self._jobs.closing:
                return False

    def _tell(self, job: Job | None) -> None:
        if job is None or job.id == self._job_id:
            with suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._changed.set)


def _task(state: State, principal: Principal, body: Wanted) -> Task:
    """The task that is meant, with a workspace in which the caller may have it done."""
    task = Task(body.kind, _workspace(state, principal, body), body.arguments)
    if principal != LOCAL and "settings" in body.arguments:
        raise Forbidden("A job is done with the server's settings.", "Leave the settings out.")
    if principal != LOCAL and "target" in body.arguments:
        raise Forbidden("A backup goes to the data folder's own backups.", "Leave the target out.")
    checked(task)
    return task


def _workspace(state: State, principal: Principal, body: Wanted) -> str:
    needed = NEEDED[body.kind]
    if body.kind is JobKind.BACKUP:
        require(principal, needed)
        return ALL_WORKSPACES
    if body.kind is JobKind.REPAIR and body.workspace is None and principal.may(needed):
        return ALL_WORKSPACES
    if body.kind is not JobKind.INDEX or "tree" not in body.arguments:
        return state.workspaces.chosen(principal, body.workspace, needed).name
    if body.workspace is not None and not principal.may(Scope.ADMIN) and not principal.sees(body.workspace):
        raise unknown(body.workspace)
    # Before anything is looked at, or the answer would tell which folders there are.
    require(principal, Scope.ADMIN)
    tree = body.arguments["tree"]
    if not isinstance(tree, str) or not tree or "\0" in tree or not Path(tree).is_absolute():
        raise TaskError(f"{tree!r} is no absolute path.", "Name the folder as the server sees it.")
    return named(state.settings, Path(tree), body.workspace)


def _visible(principal: Principal, job: Job) -> bool:
    return any(principal.may(scope, job.workspace) for scope in (Scope.READ, NEEDED[job.kind]))


def _known(principal: Principal, state: State, job_id: str) -> Job:
    job = state.jobs.job(job_id)
    if job is None or not _visible(principal, job):
        raise UnknownJob(f"There is no job {job_id!r}.", "Ask for the list of jobs.")
    return job


def _shape(principal: Principal, state: State, job: Job) -> Json:
    """What this caller is told of a job: files and keys of the server are for administrators."""
    if principal.may(Scope.ADMIN):
        return job_shape(job)
    data = str(state.settings.data)
    shape = job_shape(
        replace(
            job,
            asked_by=job.asked_by if job.asked_by == principal.key_id else "",
            error=job.error.replace(data, "the data folder"),
            hint=job.hint.replace(data, "the data folder"),
        )
    )
    if job.result is not None:
        shape["result"] = {name: value for name, value in job.result.items() if name not in _FOLDERS}
    return shape


async def _note(request: Request, principal: Principal, job: Job, what: str) -> None:
    state = state_of(request)
    request.state.audited = True  # or the doors would note the plain request beside it
    workspace = "" if job.workspace == ALL_WORKSPACES else job.workspace
    detail = {"job": job.id, "kind": job.kind.value}
    await state.look(state.audit.append, principal, f"job.{what}", workspace, "done", detail)
