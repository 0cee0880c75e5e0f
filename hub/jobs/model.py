"""The values of long work: what is to be done, how far it is, and the shape in which both are told. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from hub.auth.model import ALL_WORKSPACES, Scope

Json = dict[str, Any]


class JobKind(StrEnum):
    INDEX = "index"
    REPAIR = "repair"
    CALIBRATE = "calibrate"
    TUNE = "tune"
    WARM = "warm"
    BACKUP = "backup"


# What a key needs in the workspace that is worked at.
NEEDED = {kind: Scope.ADMIN if kind is JobKind.BACKUP else Scope.INGEST for kind in JobKind}


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # the server ended first; what was finished is kept

    @property
    def ended(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done. ``workspace`` is a name, or ALL_WORKSPACES; ``arguments`` are plain JSON."""

    kind: JobKind
    workspace: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A task that was asked for, and how far it is. Times are Unix times."""

    id: str
    kind: JobKind
    workspace: str  # a name, or ALL_WORKSPACES
    asked_by: str  # a key's id, or "local"
    state: JobState
    stage: str = ""
    done: int = 0
    total: int = 0  # 0 where it is not known
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    result: Json | None = None  # what the command of the same name prints with --json
    error: str = ""
    hint: str = ""
    arguments: Mapping[str, Any] | None = None
    version: int = 0  # grows with each change, for those who wait for the next one

    @property
    def task(self) -> Task:
        return Task(self.kind, self.workspace, self.arguments or {})


def job_shape(job: Job) -> Json:
    return {
        "id": job.id,
        "kind": job.kind.value,
        "workspace": None if job.workspace == ALL_WORKSPACES else job.workspace,
        "asked_by": job.asked_by,
        "state": job.state.value,
        "stage": job.stage,
        "done": job.done,
        "total": job.total,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "ended_at": _time(job.ended_at),
        "result": job.result,
        "error": job.error or None,
        "hint": job.hint or None,
        "version": job.version,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
