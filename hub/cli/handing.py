"""Has long work done by the server that runs on the data folder, where one does, or else here; shows how far it is.

Ctrl-C stops the work wherever it is done.
"""

from contextlib import ExitStack, suppress
from typing import Any

from hub import config
from hub.auth.model import ALL_WORKSPACES
from hub.cli.progress import interruptible, shown
from hub.cli.served import server_for_answers, server_for_jobs
from hub.errors import HubError, ServerError
from hub.jobs.model import JobKind, JobState, Task
from hub.jobs.work import given, perform
from hub.remote import Remote
from indexer.errors import Cancelled
from indexer.pipeline import Progress, never

Json = dict[str, Any]
JOBS = "/api/v1/jobs"
# Kinds whose settings go with them, so that it does not matter which the server has.
_WITH_SETTINGS = (JobKind.INDEX, JobKind.REPAIR, JobKind.CALIBRATE, JobKind.TUNE)


def done(settings: config.Settings, task: Task) -> Json:
    """Has a task done, by the server or here; what comes of it, as JSON. Raises HubError, IndexerError, Cancelled."""
    as_here = task.kind in _WITH_SETTINGS
    remote = server_for_jobs(settings) if as_here else server_for_answers(settings)
    if remote is not None:
        return _by_the_server(remote, settings, task)
    with shown() as progress, ExitStack() as held:
        # An engine that reads looks up seldom, so Ctrl-C ends it as it ends any program.
        cancelled = never if task.kind is JobKind.WARM else held.enter_context(interruptible())
        return perform(settings, task, progress, cancelled)


def followed(remote: Remote, job: Json, progress: Progress) -> Json:
    """Shows a job's progress until it has ended; returns it as it is then. Raises ServerError."""
    for _, told in remote.stream(f"{JOBS}/{job['id']}/events"):
        state = JobState(told["state"])
        if state.ended:
            return told
        progress("queue" if state is JobState.QUEUED else told["stage"] or "begin", told["done"], told["total"])
    raise ServerError(
        f"The server (process {remote.pid}) went away in the middle of job {job['id']}.",
        f"Its work stops; `codehub jobs resume {job['id']}` goes on with it when a server runs again.",
    )


def result_of(job: Json) -> Json:
    """What came of a job that has ended. Raises what it ended with."""
    match JobState(job["state"]):
        case JobState.DONE:
            result: Json = job["result"]
            return result
        case JobState.CANCELLED:
            raise Cancelled(job["error"] or "Stopped.", f"`codehub jobs resume {job['id']}` goes on with it.")
        case JobState.INTERRUPTED:
            raise ServerError(
                "The server ended before the job did.", f"`codehub jobs resume {job['id']}` goes on with it."
            )
        case _:
            raise HubError(job["error"] or "The job failed.", job["hint"] or "")


def _by_the_server(remote: Remote, settings: config.Settings, task: Task) -> Json:
    arguments = dict(task.arguments)
    if task.kind in _WITH_SETTINGS:
        arguments["settings"] = given(settings)
    workspace = None if task.workspace == ALL_WORKSPACES else task.workspace
    job = remote.post(JOBS, {"kind": task.kind.value, "workspace": workspace, "arguments": arguments})

    def stop() -> None:
        with suppress(ServerError):  # it is gone, and the stream of its events tells that
            remote.post(f"{JOBS}/{job['id']}/cancel", {})

    with shown() as progress, interruptible(stop):
        ended = followed(remote, job, progress)
    return result_of(ended)
