"""Jobs on disk, so that they outlive the server: one row each, the arguments and the result as JSON.

Knows nothing of how a job is run.
"""

import json
from pathlib import Path

from hub.auth.database import Database
from hub.jobs.model import Job, JobKind, JobState

FILE = "jobs.db"
FORM = 1
MOST_KEPT = 200  # jobs that have ended. 50 to 1,000.
KEPT_S = 7 * 86_400.0  # that one is kept after its end

_SCHEMA = """
CREATE TABLE jobs(
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, workspace TEXT NOT NULL, asked_by TEXT NOT NULL, state TEXT NOT NULL,
    stage TEXT NOT NULL, done INTEGER NOT NULL, total INTEGER NOT NULL, created_at REAL NOT NULL, started_at REAL,
    ended_at REAL, result TEXT, error TEXT NOT NULL, hint TEXT NOT NULL, arguments TEXT NOT NULL,
    version INTEGER NOT NULL);
"""
_COLUMNS = (
    "id, kind, workspace, asked_by, state, stage, done, total, created_at, started_at, ended_at, result, error, hint,"
    " arguments, version"
)


class Store:
    """The file of the jobs. Raises DataFolderError where it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder / FILE, _SCHEMA, FORM)

    def close(self) -> None:
        self._database.close()

    def keep(self, job: Job) -> None:
        """Writes a job as it is now."""
        values = (
            *(job.id, job.kind.value, job.workspace, job.asked_by, job.state.value, job.stage, job.done, job.total),
            *(job.created_at, job.started_at, job.ended_at),
            None if job.result is None else json.dumps(job.result),
            *(job.error, job.hint, json.dumps(dict(job.arguments or {})), job.version),
        )
        marks = ", ".join("?" * len(values))
        self._database.run(f"INSERT OR REPLACE INTO jobs({_COLUMNS}) VALUES({marks})", values)

    def forget(self, job_id: str) -> None:
        self._database.run("DELETE FROM jobs WHERE id = ?", (job_id,))

    def jobs(self, most_result: int = -1) -> tuple[Job, ...]:
        """All of them, in the order in which they were asked for.

        Results of more characters than ``most_result``, where that is not negative, are left out.
        """
        shown = _COLUMNS.replace("result", "CASE WHEN ? >= 0 AND length(result) > ? THEN NULL ELSE result END")
        sql = f"SELECT {shown} FROM jobs ORDER BY created_at, rowid"  # noqa: S608 - constants
        return tuple(_job(*row) for row in self._database.rows(sql, (most_result, most_result)))

    def job(self, job_id: str) -> Job | None:
        """One with its whole result; None where there is none."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,))  # noqa: S608 - constants
        return _job(*rows[0]) if rows else None


def _job(*row: object) -> Job:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["kind"] = JobKind(str(values["kind"]))
    values["state"] = JobState(str(values["state"]))
    values["result"] = None if values["result"] is None else json.loads(str(values["result"]))
    values["arguments"] = json.loads(str(values["arguments"]))
    return Job(**values)  # type: ignore[arg-type] # the columns have the types of the fields
