"""One job from its start to its end: started shut in, listened to, watched, and ended with all that it has started.

Nothing runs in the server's own process between fork and exec: a shell of three words joins the group of processes and
becomes bubblewrap, and what has to be set inside, a launcher sets there. Where no sandbox can be made, nothing runs.
"""

import json
import os
import select
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.errors import SandboxUnavailable
from agents.sandbox import cgroups, command, limits, seccomp
from agents.sandbox.model import SOURCE, Ended, Job, drop
from agents.sandbox.output import Ring
from agents.sandbox.watching import Watch

NOT_MADE = "The sandbox could not be made: "  # what an error begins with, before the words of who refused
_TICK_MS = 40  # between two looks at the clock and at what the job has taken; 20 to 100
_READ = 1 << 18  # bytes at once
_FREELY = 32 << 20  # bytes of output beyond which a job is read no faster than it can be borne
_ENDING_S = 5.0  # that the end of what was killed may take
_MOST_ORDERS = 4 << 20  # bytes of arguments and environment; a kernel takes about two million
# The job is the first to go where the machine's memory is short. A group that cannot be joined ends it.
_JOIN = (
    "{ echo 500 > /proc/self/oom_score_adj; } 2> /dev/null; "
    'while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"'
)
_DEVICES = "codehub-devices-"  # the beginning of a folder's name
_OUTER = {"PATH": "/usr/bin:/bin", "LANG": "C"}  # of bubblewrap, which hands nothing of it on


@dataclass(frozen=True, slots=True)
class Host:
    """A machine on which jobs can be run apart, as it was found."""

    kit: command.Kit
    machine: str
    landlock: str  # "must" | "where there is" | ""
    groups: cgroups.Place | None
    counted: bool  # RLIMIT_NPROC counts the job's own processes
    launcher: Mapping[str, bytes]  # files for the first program inside
    devices: Path | None = None  # for root: a folder in which devices can be made


def run(
    host: Host,
    job: Job,
    cancelled: Callable[[], bool],
    on_output: Callable[[bytes], None] = drop,
    clock: Callable[[], float] = time.monotonic,
) -> Ended:
    """Runs a job to its end, in this thread. Raises SandboxUnavailable where it could not be begun.

    ``cancelled`` is asked many times a second. When this returns or raises, the job's processes have ended.
    """
    job = _checked(job)
    with _grouped(host, job) as group, _started(host, job, group, clock) as running:
        while not running.ended:
            running.listen(on_output)
            reason = running.judge(cancelled)
            if reason and not running.reason:
                running.stop(reason)
        return running.result()


def _checked(job: Job) -> Job:
    """The job with the paths that its paths lead to. Raises SandboxUnavailable where it may not be run so."""
    try:
        job = replace(
            job,
            folder=job.folder.resolve(strict=True),
            readable=tuple(path.resolve(strict=True) for path in job.readable),
            cache=job.cache.resolve(strict=True) if job.cache is not None else None,
        )
        if not job.folder.is_dir():
            raise NotADirectoryError(str(job.folder))
    except (OSError, RuntimeError, ValueError) as error:
        raise SandboxUnavailable(f"What the run needs is not there: {error}.", "Nothing was run.") from error
    wrong = command.wrong(job)
    if wrong:
        raise SandboxUnavailable(f"It cannot be run apart: {wrong}.", "Nothing was run. See docs/sandbox.md.")
    return job


@contextmanager
def _grouped(host: Host, job: Job) -> Iterator[cgroups.Group | None]:
    """A group of processes for the job; None where there can be none, so that the watch does its work."""
    group = None
    if host.groups is not None:
        with suppress(OSError):
            group = cgroups.make(host.groups, job.limits)
    try:
        yield group
    finally:
        if group is not None:
            group.kill()
            group.remove()


@contextmanager
def _started(host: Host, job: Job, group: cgroups.Group | None, clock: Callable[[], float]) -> Iterator["_Running"]:
    """The job under way; ended in whatever way the block is left."""
    folders = (job.folder,) if job.cache is None else (job.folder, job.cache)
    watch = Watch(folders, job.limits, group is not None, clock)
    watch.begin()
    with ExitStack() as ours:
        told, tells = os.pipe()
        ours.callback(os.close, told)
        with ExitStack() as handed:
            handed.callback(os.close, tells)
            heard, says = os.pipe()
            ours.callback(os.close, heard)
            handed.callback(os.close, says)
            begun = clock()
            process = _spawned(host, job, group, ours.enter_context(_devices(host)), handed, tells, says)
        running = _Running(job, host, process, told, heard, group, watch, clock, begun, Ring(job.limits.output))
        try:
            yield running
        finally:
            running.close()


@dataclass(slots=True)
class _Running:
    job: Job
    host: Host
    process: "subprocess.Popen[bytes]"
    told: int  # where bubblewrap and the launcher answer
    heard: int  # where the output comes
    group: cgroups.Group | None
    watch: Watch
    clock: Callable[[], float]
    begun: float
    ring: Ring
    reason: str = ""
    survivors: int = 0
    stopped_at: float | None = None
    ended: bool = False
    _answers: dict[str, Any] = field(default_factory=dict)
    _half_line: bytes = b""
    _init: int = -1  # a descriptor of the first process inside, by which it is killed and nobody else
    _open: set[int] = field(default_factory=set)
    _poll: select.poll = field(default_factory=select.poll)

    def __post_init__(self) -> None:
        for descriptor in (self.told, self.heard):
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)
            self._open.add(descriptor)

    def listen(self, on_output: Callable[[bytes], None]) -> None:
        """Takes what comes within one tick."""
        for descriptor, _ in self._poll.poll(_TICK_MS):
            try:
                data = os.read(descriptor, _READ)
            except BlockingIOError:
                continue
            if not data:
                self._poll.unregister(descriptor)
                self._open.discard(descriptor)
            elif descriptor == self.heard:
                self.ring.add(data)
                on_output(data)
                if self.ring.seen > _FREELY:
                    time.sleep(0.002)  # a flood fills the pipe and waits there, instead of taking a core of the server
            else:
                self._take(data)
        if self.told not in self._open and self.heard in self._open and self.stopped_at is None:
            self.stopped_at = self.clock()  # bubblewrap has ended; what comes now is the last
        late = self.stopped_at is not None and self.clock() - self.stopped_at > _ENDING_S
        self.ended = not self._open or late

    def judge(self, cancelled: Callable[[], bool]) -> str:
        """Why the job is to be stopped; "" while it is not."""
        if self.reason or self.ended:
            return ""
        if cancelled():
            return "cancelled"
        if self.clock() - self.begun > self.job.limits.seconds:
            return "time"
        return self.watch.exceeded()

    def stop(self, reason: str) -> None:
        """Ends everything: with its first process, the kernel ends all that the job has started."""
        self.reason = reason
        self.stopped_at = self.clock()
        self._end()

    def result(self) -> Ended:
        """What became of it, once it has ended. Raises SandboxUnavailable where it never began."""
        self._reap()
        reason, code = self.reason, self._code()
        if not self._answers.get("started") and not reason:
            raise SandboxUnavailable(*self._why())
        if code and not reason and self.group is not None:
            reason = self.group.exceeded()
        if not reason and self.watch.disk():
            reason = "disk"
        layers = ["bubblewrap", "seccomp"]
        layers += ["landlock"] if self._answers.get("landlock") else []
        layers += ["cgroup"] if self.group is not None else []
        return Ended(
            None if reason else code,
            reason,
            self.ring.kept(),
            self.ring.seen,
            self.clock() - self.begun,
            tuple(layers),
            self.survivors,
        )

    def _code(self) -> int:
        """As a shell tells it. Bubblewrap says nothing more where it was ended from outside, as by a full group."""
        told = self._answers.get("exit-code")
        if isinstance(told, int):
            return told
        code = self.process.returncode
        return code if code is not None and code >= 0 else 128 - (code or -signal.SIGKILL)

    def close(self) -> None:
        """So that nothing is left when an error passes by."""
        self._reap()
        if self._init >= 0:
            os.close(self._init)
            self._init = -1

    def _take(self, data: bytes) -> None:
        *lines, self._half_line = (self._half_line + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict):
                    self._answers |= told
        child = self._answers.get("child-pid")
        if isinstance(child, int) and self._init < 0:
            self._meet(child)
        # Before that, what it sees is the machine.
        if isinstance(child, int) and self._init >= 0 and self._answers.get("started"):
            self.watch.init = child

    def _meet(self, child: int) -> None:
        """Takes hold of the first process inside; its number alone could be another's by the time it is used."""
        try:
            descriptor = os.pidfd_open(child)
        except OSError:
            return  # it has ended
        if _namespace(child) == self._answers.get("pid-namespace"):
            self._init = descriptor
        else:
            os.close(descriptor)

    def _end(self) -> None:
        """Kills the first process inside; bubblewrap asks after it and ends, so that nobody else has to."""
        if self._init < 0:
            self._force()
            return
        with suppress(OSError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)

    def _force(self) -> None:
        """Kills bubblewrap as well, and whatever is in the group."""
        if self.process.returncode is None:  # it leads a group, and is not waited for, so that its number is its own
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        if self.group is not None:
            self.group.kill()

    def _reap(self) -> None:
        """Ends what has not ended, and waits for it. What outlives this is counted."""
        if self.process.returncode is not None:
            return
        if self.reason or self.told in self._open:  # otherwise it has answered for the last time, and ends by itself
            self._end()
        if self._init >= 0:  # readable once it has ended, and the kernel lets it end after all others
            waiting = select.poll()
            waiting.register(self._init, select.POLLIN)
            waiting.poll(_ENDING_S * 1000)
        for _ in range(2):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_ENDING_S / 2)
                break
            self._force()
        if self._init >= 0:
            with suppress(
                OSError
            ):  # it is ours to ask after where bubblewrap has not, and we are the first of a container
                os.waitid(os.P_PIDFD, self._init, os.WEXITED | os.WNOHANG)
        self.watch.init = 0
        self.survivors += self._left()

    def _left(self) -> int:
        """How many processes there are in the job's namespace, by looking at all of the machine's that may be seen."""
        number = self._answers.get("pid-namespace")
        if not isinstance(number, int):
            return 0
        in_group = self.group.members() if self.group is not None else 0
        seen = sum(_namespace(int(one.name)) == number for one in Path("/proc").iterdir() if one.name.isdecimal())
        return max(in_group, seen)

    def _why(self) -> tuple[str, str]:
        """Why nothing was run: the launcher's words, else those of bubblewrap."""
        failed = str(self._answers.get("failed", ""))
        said = self.ring.kept().decode("utf-8", "replace").strip().splitlines()
        reason = failed or (said[-1] if said else f"it ended with {self.process.returncode}")
        return (
            f"{NOT_MADE}{reason[:300]}.",
            "Nothing was run. `codehub sandbox` says what is missing.",
        )


def _spawned(
    host: Host, job: Job, group: cgroups.Group | None, devices: Path | None, handed: ExitStack, tells: int, says: int
) -> "subprocess.Popen[bytes]":
    """Bubblewrap on its way. What is opened for it is closed with ``handed``."""
    answers = os.dup(tells)
    handed.callback(os.close, answers)
    contents = {path: text.encode() for path, text in command.MADE_UP.items()}
    contents |= {f"{command.LAUNCHER}/{name}": data for name, data in host.launcher.items()}
    given = command.Descriptors(
        _holding(handed, seccomp.program(host.machine, bounded=group is not None)),
        tells,
        _holding(handed, _orders(host, job)),
        answers,
        {path: _holding(handed, data) for path, data in contents.items()},
    )
    git = job.folder / ".git"
    shown = git if git.exists() and not git.is_symlink() else None
    entrances = [str(path) for path in group.entrances] if group is not None else []
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _JOIN, "sh", *entrances, "--", *command.line(host.kit, job, given, shown, devices)],
            stdin=subprocess.DEVNULL,
            stdout=says,
            stderr=says,
            cwd="/",
            env=_OUTER,
            pass_fds=(given.seccomp, tells, given.orders, answers, *given.contents.values()),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise SandboxUnavailable(f"The run could not be begun: {error}.", "Nothing was run.") from error


@contextmanager
def _devices(host: Host) -> Iterator[Path | None]:
    """Devices of the job's own where root runs it, who owns the machine's and could close them to everybody."""
    if host.devices is None:
        yield None
        return
    with devices_in(host.devices) as folder:
        yield folder


@contextmanager
def devices_in(place: Path) -> Iterator[Path]:
    """Devices in a folder of their own. Raises OSError where the file system or a container has none."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_DEVICES}{os.getpid()}-", dir=place))
    try:
        for name, major, minor in command.DEVICES:
            device = folder / name
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
            device.chmod(0o666)
        yield folder
    finally:
        _remove_devices(folder)


def sweep_devices(place: Path) -> None:
    """Removes those of servers that were killed."""
    for folder in place.glob(f"{_DEVICES}[0-9]*-*"):
        owner = folder.name.removeprefix(_DEVICES).partition("-")[0]
        if not Path(f"/proc/{owner}").exists() and folder.lstat().st_uid == os.getuid():
            _remove_devices(folder)


def _remove_devices(folder: Path) -> None:
    with suppress(OSError):
        for name, _, _ in command.DEVICES:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _orders(host: Host, job: Job) -> bytes:
    """What the launcher is told."""
    cores = os.cpu_count() or 1
    told = json.dumps(
        {
            "argv": job.argv,
            "environment": command.environment(job),
            "folder": f"{SOURCE}/{job.inside}" if job.inside else SOURCE,
            "limits": limits.of_a_process(job.limits, cores, counted=host.counted),
            "landlock": host.landlock,
            "writable": command.writable(job),
        }
    ).encode()
    if len(told) > _MOST_ORDERS:
        raise SandboxUnavailable("Its arguments and its environment are too long.", "Nothing was run.")
    return told


def _holding(stack: ExitStack, data: bytes) -> int:
    """A descriptor from which some bytes can be read."""
    descriptor = os.memfd_create("sandbox")
    stack.callback(os.close, descriptor)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _namespace(process: int) -> int | None:
    """The number of a process' namespace of processes; None where it has ended or is not ours to look at."""
    folder = Path(f"/proc/{process}")
    try:
        number = (folder / "ns/pid").stat().st_ino
        # What has ended and waits to be asked after is no process any more.
        return None if (folder / "stat").read_text("utf-8", "replace").rpartition(") ")[2].startswith("Z") else number
    except OSError:
        return None
