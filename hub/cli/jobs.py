"""The command that shows what the server works at, stops it, and goes on with it: jobs."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from hub.cli import DONE, FAILED, NOTHING, STOPPED
from hub.cli.handing import JOBS, Json, followed
from hub.cli.output import print_json, settings_of
from hub.cli.progress import shown
from hub.config import Settings
from hub.errors import ServerError, UnknownJob
from hub.jobs.model import JobState, job_shape
from hub.jobs.store import FILE, Store
from hub.remote import Remote, find

_CODES = {JobState.DONE: DONE, JobState.CANCELLED: STOPPED}


def jobs(options: argparse.Namespace) -> int:
    """Without a server, what is kept of jobs can be read, and that is all."""
    settings = settings_of(options)
    remote = find(settings.data)
    if options.action == "list":
        return _list(options, _all(settings, remote))
    chosen = _chosen(_all(settings, remote), options.id)
    if options.action == "show":
        _print(options, remote.get(f"{JOBS}/{chosen['id']}") if remote else chosen)
        return DONE
    if remote is None:
        raise ServerError(f"No server runs on {settings.data}.", "Start it with `codehub serve`.")
    return _ACTIONS[options.action](options, remote, chosen)


def _list(options: argparse.Namespace, entries: list[Json]) -> int:
    if options.json:
        print_json({"jobs": entries})
    elif not entries:
        print("There are no jobs.")
    for entry in entries if not options.json else ():
        print(_line(entry))
    return DONE if entries else NOTHING


def _cancel(options: argparse.Namespace, remote: Remote, job: Json) -> int:
    _print(options, remote.post(f"{JOBS}/{job['id']}/cancel", {}))
    return DONE


def _resume(options: argparse.Namespace, remote: Remote, job: Json) -> int:
    _print(options, remote.post(f"{JOBS}/{job['id']}/resume", {}))
    return DONE


def _follow(options: argparse.Namespace, remote: Remote, job: Json) -> int:
    """Ctrl-C ends the following, not the job."""
    with shown() as progress:
        ended = followed(remote, job, progress)
    _print(options, ended)
    return _CODES.get(JobState(ended["state"]), FAILED)


_ACTIONS: dict[str, Callable[[argparse.Namespace, Remote, Json], int]] = {
    "cancel": _cancel,
    "resume": _resume,
    "follow": _follow,
}


def _all(settings: Settings, remote: Remote | None) -> list[Json]:
    if remote is not None:
        told: list[Json] = remote.get(JOBS)["jobs"]
        return told
    if not (settings.data / FILE).exists():
        return []
    store = Store(settings.data)
    try:
        # Whatever ran has ended with its server, which had no time to say so.
        return [
            job_shape(job if job.state is not JobState.RUNNING else replace(job, state=JobState.INTERRUPTED))
            for job in reversed(store.jobs())
        ]
    finally:
        store.close()


def _chosen(entries: list[Json], begin: str) -> Json:
    """The job whose id begins so; the last one that was asked for where none is named."""
    found = [entry for entry in entries if entry["id"].startswith(begin)]
    if not found or (begin and len(found) > 1):
        which = f"no job {begin!r}" if not found else f"more than one job {begin!r}"
        raise UnknownJob(f"There is {which}." if begin else "There are no jobs.", "`codehub jobs` lists them.")
    return found[0]


def _print(options: argparse.Namespace, job: Json) -> None:
    if options.json:
        print_json(job)
        return
    print(_line(job))
    for text in (job["error"], job["hint"]):
        if text:
            print(f"  {text}")


def _line(job: Json) -> str:
    how_far = f" {job['stage']} {job['done']} of {job['total']}" if job["state"] == "running" and job["total"] else ""
    when = datetime.fromisoformat(job["created_at"]).astimezone()
    where = job["workspace"] or "all"
    return f"{job['id']}  {when:%Y-%m-%d %H:%M:%S}  {job['kind']:9} {where:20} {job['state']}{how_far}"
