"""Jobs: one at a time, told and kept, stopped and gone on with, and nothing of them left behind.

Most children here are small programs that speak as a job does; the last tests run the real one.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.auth.model import ALL_WORKSPACES
from hub.config import Settings
from hub.errors import JobError, QueueFull, TaskError, UnknownJob
from hub.jobs import Job, JobKind, Jobs, JobState, Task, job_shape
from hub.jobs import running as running_module
from hub.jobs.running import LOG, LOG_BYTES, MOST_QUEUED, MOST_SAID_BYTES
from hub.jobs.store import KEPT_S, Store
from hub.jobs.work import ARGUMENTS, GIVEN, checked
from hub.jobs.work import given as given_settings
from indexer.errors import FolderFullError
from indexer.index import DataFolder, Index
from tests.support.command import ROOT, held_by_another_process
from tests.support.trees import COUNTER, write_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

BOUND_S = 60.0
WORDS = st.text(max_size=8)

# A child that does what its task's arguments say, each step a word and maybe a value.
_CHILD = r"""
import json, os, signal, subprocess, sys, time
told = json.loads(sys.stdin.buffer.readline())
def say(**words):
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
for step, value in told["task"]["arguments"].get("steps", []):
    if step == "tell":
        say(stage=value, done=1, total=2)
    elif step == "note":
        with open(value, "a") as file:
            file.write(f"{os.getpid()}\n")
    elif step == "until":
        while not os.path.exists(value):
            time.sleep(0.005)
    elif step == "raw":
        sys.stdout.write(value)
        sys.stdout.flush()
    elif step == "log":
        sys.stderr.write("x" * value)
        sys.stderr.flush()
    elif step == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    elif step == "child":
        with open(value, "w") as file:
            file.write(str(subprocess.Popen([sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"],
                                            stdin=os.pipe()[0]).pid))
    elif step == "hang":
        try:
            say(stage="hang", done=0, total=0)
            while True:
                time.sleep(60)
        except KeyboardInterrupt:
            say(error="Stopped.", hint="", kind="Cancelled")
            sys.exit(130)
    elif step == "fail":
        say(error=value, hint="A hint.", kind="TreeError")
        sys.exit(1)
    elif step == "exit":
        os._exit(value)
    elif step == "kill":
        os.kill(os.getpid(), value)
say(result={"told": told["task"]["workspace"]})
"""
CHILD = (sys.executable, "-I", "-S", "-c", _CHILD)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def jobs_in(data: Path, clock: Clock | None = None, child: tuple[str, ...] = CHILD) -> Iterator[Jobs]:
    data.mkdir(exist_ok=True)
    made = Jobs(Settings(data, backend="none"), clock or Clock(), child)
    try:
        yield made
    finally:
        made.close(5)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def jobs(data: Path) -> Iterator[Jobs]:
    with jobs_in(data) as made:
        yield made


def asked(jobs: Jobs, *steps: tuple[str, Any], kind: JobKind = JobKind.INDEX, workspace: str = "w") -> Job:
    return jobs.submit(kind, workspace, {"steps": [list(step) for step in steps]}, "local")


def ended(jobs: Jobs, job: Job) -> Job:
    found = jobs.wait(job.id, BOUND_S, sys.maxsize)
    assert found.state.ended, found
    return found


def reached(jobs: Jobs, job: Job, stage: str) -> Job:
    """The job once it is at a stage."""
    version = -1
    while True:
        found = jobs.wait(job.id, BOUND_S, version)
        assert found.version > version, found
        if found.stage == stage:
            return found
        assert not found.state.ended, found
        version = found.version


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    with suppress(OSError):
        return "State:\tZ" not in status.read_text()
    return True


def dies(pid: int) -> bool:
    """Whether a process that was killed is gone within a bounded time: the kernel may take a moment."""
    tries = threading.Event()
    return any(not is_alive(pid) or tries.wait(0.02) for _ in range(500)) and not is_alive(pid)


# Values


def test_a_job_keeps_its_shape_on_disk(tmp_path: Path) -> None:
    job = Job(
        *("0123456789ab", JobKind.CALIBRATE, "w", "key"),
        *(JobState.FAILED, "ask", 3, 600, 1.5, 2.5, 3.5, {"a": [1, None]}, "No.", "Try."),
        {"limit": 5},
        7,
    )
    store = Store(tmp_path)
    store.keep(job)
    store.close()
    again = Store(tmp_path)
    assert again.jobs() == (job,)
    assert job_shape(again.jobs()[0])["created_at"] == "1970-01-01T00:00:01.500+00:00"
    again.close()


@given(
    st.sampled_from(JobKind), st.dictionaries(WORDS | st.sampled_from(["tree", "limit", "settings"]), st.none() | WORDS)
)
def test_arguments_that_a_kind_does_not_know_are_refused(kind: JobKind, arguments: dict[str, Any]) -> None:
    wrong = {name for name, value in arguments.items() if not isinstance(value, ARGUMENTS[kind].get(name, bytes))}
    if wrong:
        with pytest.raises(TaskError):
            checked(Task(kind, "w", arguments))
    else:
        checked(Task(kind, "w", arguments))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (JobKind.CALIBRATE, {"limit": 0}),
        (JobKind.CALIBRATE, {"limit": True}),
        (JobKind.CALIBRATE, {"limit": 10**9}),
        (JobKind.CALIBRATE, {"alphas": [0.9]}),
        (JobKind.CALIBRATE, {"alphas": ["0.1"]}),
        (JobKind.REPAIR, {"rebuild": 1}),
        (JobKind.INDEX, {"settings": {"data": "/elsewhere"}}),
        (JobKind.INDEX, {"settings": {"server_host": "0.0.0.0"}}),
        (JobKind.WARM, {"settings": {}}),
    ],
)
def test_arguments_out_of_their_bounds_are_refused(kind: JobKind, arguments: dict[str, Any]) -> None:
    with pytest.raises(TaskError):
        checked(Task(kind, "w", arguments))


def test_settings_that_travel_with_a_job_are_neither_secret_nor_the_servers_own() -> None:
    assert "index_exclude" in GIVEN
    assert not [name for name in GIVEN if name.startswith(("server_", "webhooks_", "data")) or name.endswith("_key")]
    plain = given_settings(Settings(Path("d"), index_exclude=("a",)))
    assert json.loads(json.dumps(plain)) == plain
    checked(Task(JobKind.INDEX, "w", {"settings": plain}))


# The queue


def test_a_job_is_done_and_told(jobs: Jobs) -> None:
    told: list[Job | None] = []
    with jobs.watched(told.append):
        job = ended(jobs, asked(jobs, ("tell", "parse")))
    assert job.state is JobState.DONE
    assert job.result == {"told": "w"}
    assert (job.stage, job.done, job.total) == ("parse", 1, 2)
    seen = [each for each in told if each is not None]
    assert [each.version for each in seen] == sorted({each.version for each in seen})
    assert seen[0].state is JobState.QUEUED
    assert JobState.RUNNING in {each.state for each in seen}
    assert jobs.jobs() == (job,)


_LAWFUL = {
    JobState.QUEUED: {JobState.RUNNING, JobState.CANCELLED},
    JobState.RUNNING: {JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.INTERRUPTED},
    JobState.FAILED: {JobState.QUEUED},
    JobState.CANCELLED: {JobState.QUEUED},
    JobState.INTERRUPTED: {JobState.QUEUED},
    JobState.DONE: set(),
}
_ENDINGS = [[], [("fail", "No.")], [("exit", 3)], [("tell", "parse")], [("hang", None)]]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["submit", "cancel", "resume"]), st.integers(0, 9)), min_size=3, max_size=12))
def test_whatever_is_asked_jobs_move_lawfully_and_one_runs_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]
) -> None:
    told: list[Job] = []
    folder = tmp_path_factory.mktemp("jobs")
    with jobs_in(folder / "data") as jobs:
        with jobs.watched(lambda job: told.append(job) if job else None):
            made: list[Job] = []
            for move, number in moves:
                if move == "submit":
                    made.append(asked(jobs, *_ENDINGS[number % len(_ENDINGS)], workspace=f"w{number}"))
                elif made:
                    with suppress(JobError):
                        getattr(jobs, move)(made[number % len(made)].id)
            for job in made:
                if _hangs(job):
                    jobs.cancel(job.id)
            for job in made:
                assert jobs.wait(job.id, BOUND_S, sys.maxsize).state.ended
        kept = {job.id: job for job in jobs.jobs()}
    states: dict[str, Job] = {}
    for job in told:
        before = states.get(job.id)
        if before is not None:
            assert job.version > before.version
            assert job.state is before.state or job.state in _LAWFUL[before.state]
        states[job.id] = job
        assert sum(each.state is JobState.RUNNING for each in states.values()) <= 1
    assert states == kept
    store = Store(folder / "data")
    assert {job.id: job for job in store.jobs()} == kept
    store.close()


def _hangs(job: Job) -> bool:
    return bool(job.arguments and ["hang", None] in job.arguments["steps"])


def test_the_next_job_begins_when_the_one_before_has_ended(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = asked(jobs, ("tell", "parse"), ("until", str(gate)))
    second = asked(jobs, kind=JobKind.REPAIR)
    reached(jobs, first, "parse")
    waiting = jobs.job(second.id)
    assert waiting is not None
    assert waiting.state is JobState.QUEUED
    gate.touch()
    assert ended(jobs, second).state is JobState.DONE
    before, after = ended(jobs, first), ended(jobs, second)
    assert before.ended_at is not None
    assert after.started_at is not None
    assert before.ended_at <= after.started_at


def test_a_job_that_waits_already_is_not_queued_twice_and_the_queue_has_an_end(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running = asked(jobs, ("tell", "parse"), ("until", str(gate)))
    reached(jobs, running, "parse")
    again = asked(jobs, ("tell", "parse"), ("until", str(gate)))
    assert again.id != running.id  # that one runs, and may have read what has changed since
    assert asked(jobs, ("tell", "parse"), ("until", str(gate))).id == again.id
    for number in range(MOST_QUEUED - 1):
        asked(jobs, workspace=f"w{number}")
    with pytest.raises(QueueFull):
        asked(jobs, workspace="one-more")
    assert len(jobs.jobs()) == MOST_QUEUED + 1
    for job in jobs.jobs():
        jobs.cancel(job.id)
    gate.touch()


def test_ended_jobs_are_kept_for_a_week_and_so_many_of_them(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "MOST_KEPT", 10)
    data.mkdir()
    store = Store(data)
    clock = Clock()
    for number in range(14):
        at = clock.now - (KEPT_S + 1 if number % 7 == 0 else number)
        store.keep(Job(f"{number:012x}", JobKind.INDEX, "w", "local", JobState.DONE, created_at=at, ended_at=at))
    store.close()
    with jobs_in(data, clock) as jobs:
        kept = jobs.jobs()
        assert len(kept) == 10
        assert all(job.ended_at is not None and job.ended_at > clock.now - KEPT_S for job in kept)
        clock.now += 2 * KEPT_S
        new = ended(jobs, asked(jobs))
        assert jobs.jobs() == (new,)


# Stopping


def test_a_job_that_waits_is_cancelled_at_once_and_may_be_resumed(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = asked(jobs, ("until", str(gate)))
    second = asked(jobs, kind=JobKind.REPAIR)
    assert jobs.cancel(second.id).state is JobState.CANCELLED
    assert jobs.cancel(second.id).state is JobState.CANCELLED
    assert jobs.resume(second.id).state is JobState.QUEUED
    gate.touch()
    assert ended(jobs, second).state is JobState.DONE
    with pytest.raises(JobError):
        jobs.resume(second.id)
    assert ended(jobs, first).state is JobState.DONE


def test_a_running_job_is_stopped_as_with_ctrl_c(jobs: Jobs) -> None:
    job = asked(jobs, ("hang", None))
    reached(jobs, job, "hang")
    jobs.cancel(job.id)
    stopped = ended(jobs, job)
    assert stopped.state is JobState.CANCELLED
    assert stopped.hint
    assert ended(jobs, asked(jobs)).state is JobState.DONE  # and the queue goes on


def test_a_job_that_does_not_heed_is_killed_with_all_that_it_began(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_module, "GRACE_S", 0.2)
    monkeypatch.setattr(Jobs._stop_child, "__defaults__", (0.2,))
    pids = (tmp_path / "own", tmp_path / "childs")
    job = asked(jobs, ("deaf", None), ("note", str(pids[0])), ("child", str(pids[1])), ("hang", None))
    reached(jobs, job, "hang")
    jobs.cancel(job.id)
    assert ended(jobs, job).state is JobState.CANCELLED
    for file in pids:
        assert dies(int(file.read_text()))


@pytest.mark.parametrize("ending", [(), ("exit", 5), ("fail", "No.")])
def test_nothing_that_a_job_began_outlives_it(jobs: Jobs, tmp_path: Path, ending: tuple[Any, ...]) -> None:
    job = asked(jobs, ("child", str(tmp_path / "pid")), *([ending] if ending else []))
    ended(jobs, job)
    assert dies(int((tmp_path / "pid").read_text()))


# What goes wrong


def test_an_error_of_a_job_is_told_in_its_own_words(jobs: Jobs) -> None:
    job = ended(jobs, asked(jobs, ("fail", "The tree is gone.")))
    assert (job.state, job.error, job.hint) == (JobState.FAILED, "The tree is gone.", "A hint.")
    assert jobs.resume(job.id).error == ""


@pytest.mark.parametrize(
    ("step", "words"), [(("exit", 3), "code 3"), (("kill", 9), "memory"), (("kill", 11), "signal 11")]
)
def test_a_job_whose_process_dies_has_failed_and_the_next_one_runs(
    jobs: Jobs, step: tuple[str, int], words: str
) -> None:
    job = ended(jobs, asked(jobs, step))
    assert job.state is JobState.FAILED
    assert words in job.error
    assert LOG in job.hint
    assert ended(jobs, asked(jobs)).state is JobState.DONE


@given(st.lists(st.text(alphabet='{}[]":,0 a\n', max_size=30), max_size=4))
@settings(max_examples=6, deadline=None)
def test_what_is_no_word_of_a_job_is_passed_over(tmp_path_factory: pytest.TempPathFactory, noise: list[str]) -> None:
    with jobs_in(tmp_path_factory.mktemp("noise") / "data") as jobs:
        job = ended(jobs, asked(jobs, *(("raw", f"{text}\n") for text in noise)))
    assert job.state is JobState.DONE


def test_a_program_that_cannot_be_begun_is_a_failed_job(data: Path) -> None:
    with jobs_in(data, child=("/nowhere/python",)) as jobs:
        job = ended(jobs, asked(jobs))
        assert job.state is JobState.FAILED
        assert "No such file" in job.error


def test_the_log_is_bounded_and_its_owners_alone(jobs: Jobs, data: Path) -> None:
    for number in range(6):
        assert ended(jobs, asked(jobs, ("log", 2 * MOST_SAID_BYTES), workspace=f"w{number}")).state is JobState.DONE
    log = data / LOG
    assert 0 < log.stat().st_size <= LOG_BYTES + MOST_SAID_BYTES + 100
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "jobs.db").stat().st_mode) == 0o600


def test_a_full_disk_costs_the_record_and_not_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jobs_in(data) as jobs:
        gate = tmp_path / "gate"
        job = asked(jobs, ("until", str(gate)))

        def full(_store: Store, _job: Job) -> None:
            raise FolderFullError("The disk is full.")

        monkeypatch.setattr(Store, "keep", full)
        gate.touch()
        assert ended(jobs, job).state is JobState.DONE
        with pytest.raises(FolderFullError):
            asked(jobs)
        assert jobs.jobs() == (jobs.job(job.id),)


def test_a_large_result_is_kept_on_disk_and_read_from_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "MOST_RESULT", 5)
    with jobs_in(data) as jobs:
        job = ended(jobs, asked(jobs, workspace="somewhere"))
        assert job.result == {"told": "somewhere"}
        assert [each.result for each in jobs.jobs()] == [None]
    with jobs_in(data) as later:
        assert [each.result for each in later.jobs()] == [None]
        assert later.job(job.id) == job


def test_an_unknown_job_is_told(jobs: Jobs) -> None:
    assert jobs.job("0") is None
    for ask in (jobs.cancel, jobs.resume, lambda job_id: jobs.wait(job_id, 1)):
        with pytest.raises(UnknownJob):
            ask("0")


# The end of the server


def test_a_server_that_ends_interrupts_its_job_and_the_next_one_goes_on(data: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with jobs_in(data) as jobs:
        running = asked(jobs, ("hang", None))
        reached(jobs, running, "hang")
        waiting = asked(jobs, ("until", str(gate)), kind=JobKind.REPAIR)
    with pytest.raises(JobError):
        jobs.submit(JobKind.INDEX, "w", {}, "local")
    with jobs_in(data) as later:
        found = later.job(running.id)
        assert found is not None
        assert found.state is JobState.INTERRUPTED
        gate.touch()
        assert ended(later, waiting).state is JobState.DONE
        again = later.resume(running.id)
        reached(later, again, "hang")
        later.cancel(again.id)
        assert ended(later, again).state is JobState.CANCELLED


def test_a_job_of_a_server_that_was_killed_is_interrupted(data: Path) -> None:
    data.mkdir()
    store = Store(data)
    store.keep(Job("0123456789ab", JobKind.INDEX, "w", "local", JobState.RUNNING, created_at=1_000_000.0))
    store.close()
    with jobs_in(data) as jobs:
        found = jobs.job("0123456789ab")
        assert found is not None
        assert found.state is JobState.INTERRUPTED
        assert found.ended_at == Clock().now


def test_many_who_wait_are_all_told(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = asked(jobs, ("tell", "parse"), ("until", str(gate)))
    reached(jobs, job, "parse")
    found: list[JobState] = []
    threads = [threading.Thread(target=lambda: found.append(ended(jobs, job).state)) for _ in range(50)]
    for thread in threads:
        thread.start()
    gate.touch()
    for thread in threads:
        thread.join(BOUND_S)
    assert found == [JobState.DONE] * 50


# The real child


def test_a_real_job_waits_for_a_command_that_writes_and_then_indexes(tmp_path: Path, data: Path) -> None:
    tree = write_tree(tmp_path / "tree", COUNTER)
    with ExitStack() as stack:
        jobs = stack.enter_context(jobs_in(data, child=running_module._CHILD))
        with held_by_another_process(data):
            task = {"tree": str(tree), "settings": given_settings(Settings(data, embeddings="none"))}
            job = jobs.submit(JobKind.INDEX, "w", task, "local")
            reached(jobs, job, "wait")
        done = ended(jobs, job)
        assert done.state is JobState.DONE, (done, (data / LOG).read_text())
        assert done.result is not None
        assert done.result["files"] == len(COUNTER)
        gone = jobs.submit(JobKind.INDEX, "w", {"tree": str(tmp_path / "gone")}, "local")
        failed = ended(jobs, gone)
        assert failed.state is JobState.FAILED
        assert "gone" in failed.error
    with Index.for_reading(DataFolder(data), "w") as index:
        assert len(index.table.known_files()) == len(COUNTER)


def test_a_real_job_ends_when_the_pipe_from_its_server_closes(tmp_path: Path, data: Path) -> None:
    tree = write_tree(tmp_path / "tree", COUNTER)
    data.mkdir()
    told = running_module._told(
        Settings(data, backend="none", embeddings="none"), Task(JobKind.INDEX, "w", {"tree": str(tree)})
    )
    with held_by_another_process(data):
        process = subprocess.Popen(
            running_module._CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(told)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["stage"] == "wait"
            process.stdin.close()
            assert process.wait(BOUND_S) == 130
            assert json.loads(process.stdout.read().splitlines()[-1])["kind"] == "Cancelled"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait(BOUND_S)
    assert not (data / "workspaces").exists()


def test_all_workspaces_are_no_name() -> None:
    job = Job("0", JobKind.REPAIR, ALL_WORKSPACES, "local", JobState.DONE)
    assert job_shape(job)["workspace"] is None
    assert job_shape(replace(job, workspace="w"))["workspace"] == "w"
