"""The queue of jobs: one child process at a time, watched by one thread, its record kept across restarts.

A child takes the data folder's lock as a command does. It is told to stop as with Ctrl-C, and killed with all that it
began where it does not heed; it stops by itself when the pipe to it closes, so that it never outlives the server. What
the work is, ``hub.jobs.work`` knows.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from secrets import token_hex
from typing import IO, Any

from hub.config import Settings
from hub.errors import JobError, QueueFull, UnknownJob
from hub.jobs.model import Job, JobKind, JobState, Json, Task
from hub.jobs.store import KEPT_S, MOST_KEPT, Store
from indexer.errors import IndexerError

MOST_QUEUED = 20  # jobs that wait. 5 to 100.
# Seconds from being told to stop until a child is killed: it ends after the files under way. 2 to 60.
GRACE_S = 15.0
LOG = "jobs.log"
LOG_BYTES = 1 << 20  # of all children; what is older goes
MOST_SAID_BYTES = 256 << 10  # of one child's log
LINE_BYTES = 32 << 20  # of one line of a child: the longest is a result
MOST_RESULT = 128 << 10  # characters of a result that is kept in memory; a longer one is read when it is asked for
_CHILD = (sys.executable, "-m", "hub.jobs.child")


class Jobs:
    """All jobs of a data folder. One process at a time may have it: the server, whose lock sees to that.

    Safe for many threads. What is asked of it comes from memory; only taking, ending and stopping a job touch the disk.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.time, child: tuple[str, ...] = _CHILD
    ) -> None:
        """Jobs that ran when the last one ended are interrupted from now on; those that waited go on waiting.

        Raises DataFolderError.
        """
        self._settings = settings
        self._clock = clock
        self._command = child
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._watchers: set[Callable[[Job | None], None]] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping: set[str] = set()  # running jobs that are to be cancelled
        self._closing = False
        self._store = Store(settings.data)
        for job in self._store.jobs(MOST_RESULT):
            self._jobs[job.id] = job
            if job.state is JobState.RUNNING:
                self._change(job.id, state=JobState.INTERRUPTED, ended_at=clock(), hint=_RESUME)
        self._prune()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether no job begins any more."""
        return self._closing

    def submit(self, kind: JobKind, workspace: str, arguments: Mapping[str, Any], asked_by: str) -> Job:
        """A new job at the end of the queue, or the equal one that waits already. Raises QueueFull, DataFolderError."""
        with self._changed:
            if self._closing:
                raise JobError("The server is ending.", "Ask again when it is back.")
            waiting = [job for job in self._jobs.values() if job.state is JobState.QUEUED]
            for job in waiting:
                if job.task == Task(kind, workspace, dict(arguments)):
                    return job
            self._check_room(len(waiting))
            job = Job(
                *(token_hex(6), kind, workspace, asked_by, JobState.QUEUED),
                created_at=self._clock(),
                arguments=dict(arguments),
            )
            self._store.keep(job)
            self._jobs[job.id] = job
            self._prune()
            self._changed.notify_all()
        self._tell(job)
        return job

    def job(self, job_id: str) -> Job | None:
        job = self._jobs.get(job_id)  # without the lock, which is held while a disk is written
        if job is not None and job.state is JobState.DONE and job.result is None:
            with suppress(IndexerError):
                return self._store.job(job_id) or job
        return job

    def jobs(self) -> tuple[Job, ...]:
        """All that are kept, the newest first; without large results."""
        return tuple(sorted(self._jobs.values(), key=lambda job: (-job.created_at, job.id)))

    def cancel(self, job_id: str) -> Job:
        """Takes a job out of the queue, or has it stop; one that has ended stays as it is. Raises UnknownJob."""
        with self._changed:
            job = self._known(job_id)
            if job.state is JobState.QUEUED:
                return self._change(job_id, state=JobState.CANCELLED, ended_at=self._clock(), hint=_RESUME)
            if job.state is JobState.RUNNING and job_id not in self._stopping:
                self._stopping.add(job_id)
                self._stop_child()
            return job

    def resume(self, job_id: str) -> Job:
        """Puts a job that did not get to its end back into the queue: it goes on from what it had stored.

        Raises UnknownJob, QueueFull, and JobError for one that is done.
        """
        with self._changed:
            job = self._known(job_id)
            if not job.state.ended:
                return job
            if job.state is JobState.DONE:
                raise JobError(f"Job {job_id} is done.", "Ask for it again to have it done anew.")
            self._check_room(sum(other.state is JobState.QUEUED for other in self._jobs.values()))
            return self._change(
                job_id,
                state=JobState.QUEUED,
                stage="",
                done=0,
                total=0,
                started_at=None,
                ended_at=None,
                error="",
                hint="",
            )

    def wait(self, job_id: str, timeout_s: float, after: int = -1) -> Job:
        """The job once it has changed beyond version ``after`` or ended, or as it is when the time is over.

        Raises UnknownJob.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (job := self._jobs.get(job_id)) is None or job.state.ended or job.version > after, timeout_s
            )
            self._known(job_id)
        return self.job(job_id) or self._known(job_id)

    @contextmanager
    def watched(self, tell: Callable[[Job | None], None]) -> Iterator[None]:
        """Tells of every change while inside, and None when all ends.

        Other threads call ``tell``, which must neither wait nor raise.
        """
        with self._changed:
            self._watchers.add(tell)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.discard(tell)

    def stop(self, timeout_s: float = GRACE_S) -> None:
        """Begins to end: the running job is to stop within that time, and no other begins. Waits for nothing."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
            self._stop_child(timeout_s)
        self._tell(None)

    def close(self, timeout_s: float = GRACE_S) -> None:
        """Has the running job stop within that time and keeps it as interrupted; those that wait are kept waiting."""
        self.stop(timeout_s)
        self._thread.join(timeout_s + GRACE_S)
        self._store.close()

    def _known(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id!r}.", "`codehub jobs` lists those there are.")
        return job

    def _check_room(self, waiting: int) -> None:
        if waiting >= MOST_QUEUED:
            raise QueueFull(f"{waiting} jobs wait already.", "Ask again later, or cancel one of them.")

    def _change(self, job_id: str, **changes: Any) -> Job:
        """Keeps a change in memory and, of the state, on disk. A full disk costs the record, not the work."""
        with self._changed:
            before = self._jobs[job_id]
            job = replace(before, version=before.version + 1, **changes)
            self._jobs[job_id] = job
            if "state" in changes:
                with suppress(IndexerError):
                    self._store.keep(job)
                    if job.result is not None and len(json.dumps(job.result)) > MOST_RESULT:
                        self._jobs[job_id] = replace(job, result=None)
            self._changed.notify_all()
        self._tell(job)
        return job

    def _tell(self, job: Job | None) -> None:
        with self._changed:
            watchers = tuple(self._watchers)
        for tell in watchers:
            tell(job)

    def _prune(self) -> None:
        """Forgets what ended long ago, and the oldest beyond what is kept."""
        ended = sorted((job for job in self._jobs.values() if job.state.ended), key=lambda job: job.ended_at or 0.0)
        oldest = self._clock() - KEPT_S
        for number, job in enumerate(ended):
            if number < len(ended) - MOST_KEPT or (job.ended_at or 0.0) < oldest:
                del self._jobs[job.id]
                with suppress(IndexerError):
                    self._store.forget(job.id)

    def _work(self) -> None:
        """One job after another, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._next() is not None)
                job = self._next()
                if self._closing or job is None:
                    return
                job = self._change(job.id, state=JobState.RUNNING, started_at=self._clock())
            try:
                end = self._run(job)
            except (OSError, RuntimeError) as error:  # the latter where no thread can be begun
                why = getattr(error, "strerror", None) or str(error)
                end = _failed(f"No process could be begun for the job: {why}.", "Try again later.")
            with self._changed:
                self._stopping.discard(job.id)
                self._change(job.id, ended_at=self._clock(), **end)
                self._prune()

    def _next(self) -> Job | None:
        return next((job for job in self._jobs.values() if job.state is JobState.QUEUED), None)

    def _run(self, job: Job) -> dict[str, Any]:
        """Runs a job's child to its end; returns what changes of the job with that. Raises OSError."""
        with self._changed:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C of the server's terminal is the server's to handle
            )
            self._process = process
            if job.id in self._stopping or self._closing:
                self._stop_child()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        log = threading.Thread(target=self._keep_log, args=(job, process.stderr), daemon=True)
        try:
            log.start()
            with suppress(BrokenPipeError):  # it has died already, which the end of its output tells
                process.stdin.write(_told(self._settings, job.task))
                process.stdin.flush()
            said = self._listen(job, process.stdout)
        finally:
            code = _ended(process)
            with self._changed:
                self._process = None
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            if log.ident is not None:
                log.join(GRACE_S)
            process.stderr.close()
        return self._end(job, said, code)

    def _listen(self, job: Job, output: IO[bytes]) -> Json:
        """Follows a child's progress; its last word, empty where it had none."""
        last: Json = {}
        while line := output.readline(LINE_BYTES):
            try:
                said = json.loads(line)
            except ValueError:
                continue  # cut off by its death, or longer than any result may be
            if not isinstance(said, dict):
                continue
            if "stage" in said:
                self._change(job.id, stage=said["stage"], done=said["done"], total=said["total"])
            else:
                last = said
        return last

    def _end(self, job: Job, said: Json, code: int) -> dict[str, Any]:
        if "result" in said:
            return {"state": JobState.DONE, "result": said["result"]}
        if job.id in self._stopping or said.get("kind") == "Cancelled":
            state = JobState.CANCELLED if job.id in self._stopping or not self._closing else JobState.INTERRUPTED
            return {"state": state, "error": said.get("error", ""), "hint": _RESUME}
        if self._closing:
            return {"state": JobState.INTERRUPTED, "hint": _RESUME}
        if "error" in said:
            return _failed(said["error"], said["hint"])
        if code == -signal.SIGKILL:
            return _failed("The job's process was killed, as it is when memory runs out.", f"{_RESUME} {self._see_log}")
        how = f"signal {-code}" if code < 0 else f"code {code}"
        return _failed(f"The job's process ended without a result ({how}).", self._see_log)

    @property
    def _see_log(self) -> str:
        return f"{self._settings.data / LOG} says more."

    def _stop_child(self, grace_s: float = GRACE_S) -> None:
        """Tells the child to stop, and kills it with its own when it has not after a while."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
        timer = threading.Timer(grace_s, partial(self._kill, process))
        timer.daemon = True
        timer.start()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with self._changed:
            # Not yet waited for, so the number is still its own.
            if self._process is process and process.returncode is None:
                _kill_group(process.pid)

    def _keep_log(self, job: Job, output: IO[bytes]) -> None:
        """Writes the beginning of what a child says to the log, and reads the rest so that the child need not wait."""
        path = self._settings.data / LOG
        left = MOST_SAID_BYTES
        while part := os.read(output.fileno(), 1 << 16):
            if not left:
                continue
            with suppress(OSError):
                if path.exists() and path.stat().st_size > LOG_BYTES:
                    path.unlink()
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "ab") as log:
                    head = f"-- job {job.id} ({job.kind.value})\n".encode() if left == MOST_SAID_BYTES else b""
                    log.write(head + part[:left])
            left = max(0, left - len(part))


_RESUME = "Resume it: what was finished is kept."


def _failed(error: str, hint: str) -> dict[str, Any]:
    return {"state": JobState.FAILED, "error": error, "hint": hint}


def _told(settings: Settings, task: Task) -> bytes:
    """Settings and task as the child reads them, in one line."""
    plain = {**asdict(settings), "data": str(settings.data)}
    return json.dumps({"settings": plain, "task": asdict(task)}).encode() + b"\n"


def _ended(process: subprocess.Popen[bytes]) -> int:
    """Waits for a child and ends what it leaves behind, while its number cannot have been given to another."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    _kill_group(process.pid)
    return process.wait()


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
