"""Long work on the data folder, each piece in a process of its own: asked for, watched, stopped, gone on with."""

from hub.jobs.model import Job, JobKind, JobState, Task, job_shape
from hub.jobs.running import Jobs

__all__ = ["Job", "JobKind", "JobState", "Jobs", "Task", "job_shape"]
