"""Programs that try to get out of the sandbox, to outlive it, and to take more than they may. None succeeds.

Each attempt has to have been made, which it says itself, and to have come to nothing, which is looked at from outside.
"""

import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

from agents import sandbox
from agents.model import Limits
from agents.sandbox import looking, running
from agents.sandbox.command import DEVICES
from agents.sandbox.model import Ended, Job
from indexer.files import read_beneath
from tests.support import escaping

FOUND = sandbox.look()
pytestmark = pytest.mark.skipif(not FOUND.available, reason="; ".join(FOUND.missing) or "no sandbox")

ROOT = Path(__file__).parent.parent
SUPPORT = Path(__file__).parent / "support"
LIMITS = Limits(seconds=30, memory=192 << 20, processes=48, disk=24 << 20, output=64 << 10)
BOUND_S = 20  # of every wait
SECRET = b"nobody inside may read this"
ATTEMPTS = [
    name
    for name, function in inspect.getmembers(escaping, inspect.isfunction)
    if function.__module__ == escaping.__name__ and not inspect.signature(function).parameters and name != "refuse"
]


@dataclass(frozen=True)
class Made:
    """All attempts, made in one sandbox, and what was outside meanwhile."""

    outcomes: dict[str, str]
    ended: Ended
    folder: Path
    outside: Path
    readable: Path
    bystander: "subprocess.Popen[bytes]"
    accepted: Callable[[], int]
    before: dict[str, object]


def machine() -> dict[str, object]:
    """What no attempt may change."""
    return {
        "null": Path("/dev/null").stat().st_mode,
        "core": Path("/proc/sys/kernel/core_pattern").read_bytes(),
        "name": socket.gethostname(),
        "mounts": Path("/proc/self/mountinfo").read_bytes().count(b"\n"),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    outside = tmp_path_factory.mktemp("outside")
    folder, readable, home = outside / "job", outside / "readable", outside / "home"
    (folder / ".git/hooks").mkdir(parents=True)
    (folder / ".git/config").write_bytes(b"[core]\n")
    (home / ".ssh").mkdir(parents=True)
    readable.mkdir()
    for secret in (outside / "secret", home / ".ssh/id_ed25519", outside / "inherited"):
        secret.write_bytes(SECRET)
    (readable / "objects").write_bytes(b"history")
    shutil.copy(SUPPORT / "escaping.py", folder)
    canary, token = f"canary-{uuid4().hex}", uuid4().hex
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setenv("HUB_CANARY", canary)
        patched.chdir(ROOT)  # pytest's own; the job starts elsewhere
        listening = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))),
            stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6)),
            stack.enter_context(socket.create_server(("0.0.0.0", 0))),
            stack.enter_context(socket.socket(socket.AF_UNIX)),
            stack.enter_context(socket.socket(socket.AF_UNIX)),
        ]
        listening[3].bind(f"\0codehub-{token}")
        short = Path("/tmp", f"codehub-{token[:12]}")  # a socket's name has little room
        listening[4].bind(str(short))
        stack.callback(short.unlink)
        for one in listening:
            one.listen()
            one.setblocking(False)
        shared = Path("/dev/shm", f"codehub-{token}")
        shared.write_bytes(SECRET)
        stack.callback(shared.unlink)
        inherited = os.open(outside / "inherited", os.O_RDONLY)
        stack.callback(os.close, inherited)
        os.set_inheritable(inherited, True)
        bystander = subprocess.Popen(["sleep", "600"])
        stack.callback(bystander.wait, BOUND_S)
        stack.callback(bystander.kill)
        told = {
            "home_key": str(home / ".ssh/id_ed25519"),
            "secret": str(outside / "secret"),
            "readable": str(readable),
            "port": listening[0].getsockname()[1],
            "port6": listening[1].getsockname()[1],
            "address": address(),
            "port_everywhere": listening[2].getsockname()[1],
            "abstract": f"codehub-{token}",
            "socket": str(short),
            "process": bystander.pid,
            "canary": canary,
            "inherited": str(outside / "inherited"),
            "shared_memory": str(shared),
        }
        before = machine()
        argv = (str(looking.host().kit.interpreter), "-I", "-S", "escaping.py", json.dumps(told), *ATTEMPTS)
        ended = sandbox.run(Job(argv, folder, LIMITS, readable=(readable,)), lambda: False)
        assert ended.code == 0, ended.output.decode()

        def accepted() -> int:
            return sum(accepts(one) for one in listening)

        outcomes = json.loads(ended.output)
        yield Made(outcomes, ended, folder, outside, readable, bystander, accepted, before)


def address() -> str:
    """One of this machine other than those of loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # of documentation; nothing is sent
        except OSError:
            return "127.0.0.2"
        return str(asking.getsockname()[0])


def accepts(listening: socket.socket) -> bool:
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_is_made_and_comes_to_nothing(made: Made, name: str) -> None:
    assert made.outcomes[name].startswith("refused: "), made.outcomes[name]


def test_the_attempts_are_at_least_forty_and_were_all_made_inside(made: Made) -> None:
    assert len(ATTEMPTS) >= 40
    assert set(made.outcomes) == set(ATTEMPTS)
    assert made.ended.survivors == 0
    assert made.ended.layers[:2] == ("bubblewrap", "seccomp")


def test_the_world_outside_is_as_it_was(made: Made) -> None:
    assert machine() == made.before
    assert made.bystander.poll() is None
    assert made.accepted() == 0
    assert sorted(path.name for path in made.outside.iterdir()) == ["home", "inherited", "job", "readable", "secret"]
    assert (made.outside / "secret").read_bytes() == SECRET
    assert {path.name: path.read_bytes() for path in made.readable.iterdir()} == {"objects": b"history"}
    assert not list((made.folder / ".git/hooks").iterdir())
    assert (made.folder / ".git/config").read_bytes() == b"[core]\n"
    assert not Path("/usr/bin/planted").exists()
    assert not Path("/planted").exists()
    left = [path for path in made.folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o6000]
    assert not left
    assert (made.folder / "moved").read_bytes() == b"planted"  # that attempt got as far as its own folder


def test_an_attempt_that_comes_through_would_be_seen(made: Made, tmp_path: Path) -> None:
    """The same program, with what is harmless of it, where nothing holds it."""
    told = {"secret": str(made.outside / "secret"), "home_key": str(made.outside / "home/.ssh/id_ed25519")}
    names = ["read_the_data_folder", "read_a_key_in_a_home"]
    argv = [sys.executable, "-I", "-S", str(SUPPORT / "escaping.py"), json.dumps(told), *names]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=BOUND_S, cwd=tmp_path)
    assert json.loads(done.stdout) == dict.fromkeys(names, f"reached: read {len(SECRET)} bytes")


# What a job leaves


def test_what_a_job_leaves_for_a_reader_leads_nowhere_and_holds_nobody_up(tmp_path: Path) -> None:
    script = "ln -s /etc/passwd link; mkfifo pipe; ln -s / folder; echo it is > real; ln -s link again"
    assert job(tmp_path, "sh", "-c", script).code == 0
    assert (tmp_path / "pipe").is_fifo()
    assert read_beneath(tmp_path, "real", 100) == b"it is\n"
    for path in ("link", "pipe", "again", "folder/etc/passwd"):
        assert read_beneath(tmp_path, path, 100) is None


def test_what_a_job_makes_belongs_to_whoever_ran_it(tmp_path: Path) -> None:
    assert job(tmp_path, "sh", "-c", "id -u; mkdir a; echo > a/b").output == b"1000\n"
    assert (tmp_path / "a/b").stat().st_uid == os.getuid()


def test_a_job_of_the_owner_of_the_devices_closes_none_but_its_own(tmp_path: Path) -> None:
    before = [Path("/dev", name).stat().st_mode for name, _, _ in DEVICES]
    names = " ".join(f"/dev/{name}" for name, _, _ in DEVICES)
    assert b"made" in job(tmp_path, "sh", "-c", f"echo made; chmod 0 {names}").output
    assert [Path("/dev", name).stat().st_mode for name, _, _ in DEVICES] == before
    usable = "for name in null zero full random urandom; do head -c 1 /dev/$name > /dev/null || echo $name; done"
    assert job(tmp_path, "sh", "-c", usable).output == b""


@pytest.mark.skipif(os.getuid() != 0, reason="devices of their own are for jobs of root")
def test_devices_of_a_server_that_was_killed_are_swept(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    with running.devices_in(tmp_path) as own:
        left = tmp_path / own.name.replace(str(os.getpid()), gone.stdout.decode().strip())
        left.mkdir()
        (left / "null").touch()
        running.sweep_devices(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [own.name]
    assert not list(tmp_path.iterdir())


# Programs in C


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_program_in_c_is_built_inside_and_reaches_nothing(tmp_path: Path) -> None:
    shutil.copy(SUPPORT / "escaping.c", tmp_path)
    ended = job(tmp_path, "sh", "-c", "cc -o attempts escaping.c && ./attempts clone unshare setns older other")
    told = dict(line.split(" ", 1) for line in ended.output.decode().splitlines())
    assert set(told) == {"clone", "unshare", "setns", "older", "other"}
    assert {told["clone"], told["unshare"], told["setns"], told["other"]} == {"refused"}
    if os.uname().machine == "x86_64":
        assert told["older"] == f"killed by {int(signal.SIGSYS)}"
    assert ended.code == 0


# Daemons


DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", sys.argv[1]])
    time.sleep(600)
print("started", flush=True)
"""


def test_daemons_that_hold_the_output_and_ignore_signals_end_with_the_job(tmp_path: Path) -> None:
    seconds = unlikely()
    ended = python(tmp_path, DAEMON, seconds)
    assert (ended.code, ended.output, ended.survivors) == (0, b"started\n", 0)
    assert not alive(seconds)


def test_a_job_that_is_cancelled_takes_its_daemons_along(tmp_path: Path) -> None:
    seconds = unlikely()
    heard: list[bytes] = []
    job_of = Job(inner(DAEMON + "time.sleep(600)", tmp_path, seconds), tmp_path, LIMITS)
    ended = sandbox.run(job_of, lambda: b"started" in b"".join(heard) and bool(alive(seconds)), heard.append)
    assert (ended.code, ended.reason, ended.survivors) == (None, "cancelled", 0)
    assert not alive(seconds)


def test_signals_to_everybody_and_to_the_group_reach_nobody_outside(tmp_path: Path) -> None:
    seconds = unlikely()
    bystander = subprocess.Popen(["sleep", seconds])
    try:
        everybody = job(tmp_path, "sh", "-c", f"sleep {unlikely()} & kill -9 -1; wait; echo made")
        assert (everybody.code, everybody.output, everybody.survivors) == (0, b"made\n", 0)
        group = job(tmp_path, "sh", "-c", "echo made; kill -9 0; sleep 600")
        assert (group.code, group.reason, group.output, group.survivors) == (137, "", b"made\n", 0)
        assert alive(seconds) == [bystander.pid]
    finally:
        bystander.kill()
        bystander.wait(BOUND_S)


def test_a_server_that_is_killed_takes_its_jobs_along(tmp_path: Path) -> None:
    seconds = unlikely()
    code = (
        "import sys\nfrom pathlib import Path\nfrom agents import sandbox\nfrom agents.model import Limits\n"
        "job = sandbox.Job(('sh', '-c', 'setsid sleep ' + sys.argv[2] + ' & echo begun; wait'), Path(sys.argv[1]),"
        " Limits(600, 1 << 28, 32, 1 << 24, 1 << 16))\n"
        "sandbox.run(job, lambda: False, lambda data: print(data.decode(), flush=True))\n"
    )
    server = subprocess.Popen([sys.executable, "-c", code, tmp_path, seconds], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"begun\n"
        eventually(lambda: bool(alive(seconds)))
    finally:
        server.kill()
        server.communicate(timeout=BOUND_S)
    eventually(lambda: not alive(seconds))


def test_a_bubblewrap_that_is_ended_from_outside_takes_its_job_along(tmp_path: Path) -> None:
    seconds = unlikely()
    ended_ones: list[int] = []

    def end(_output: bytes) -> None:
        for path in Path("/proc").iterdir():
            if path.name.isdecimal() and child_of_this(path):
                ended_ones.append(int(path.name))
                os.kill(int(path.name), signal.SIGKILL)

    ended = sandbox.run(
        Job(("sh", "-c", f"setsid sleep {seconds} & echo begun; wait"), tmp_path, LIMITS), lambda: False, end
    )
    assert len(ended_ones) == 1
    assert (ended.code, ended.reason, ended.output, ended.survivors) == (137, "", b"begun\n", 0)
    assert not alive(seconds)


def child_of_this(path: Path) -> bool:
    try:
        name, _, rest = (path / "stat").read_text("utf-8").rpartition(") ")
    except OSError:
        return False
    return name.endswith("(bwrap") and rest.split()[1] == str(os.getpid())


# Too much


UNBOUNDED = pytest.mark.parametrize("grouped", [True, False], ids=["in a group", "watched"])


@UNBOUNDED
def test_a_fork_bomb_ends(tmp_path: Path, grouped: bool) -> None:
    ended = python(
        tmp_path,
        "import os, time\nprint('begun', flush=True)\nwhile True:\n    if os.fork() == 0: time.sleep(600)",
        host=host(grouped),
    )
    assert ended.output.startswith(b"begun")
    assert ended.survivors == 0
    assert ended.reason == "processes" or (ended.code and b"Resource temporarily unavailable" in ended.output)


@UNBOUNDED
def test_threads_without_end_end(tmp_path: Path, grouped: bool) -> None:
    code = (
        "import threading, time\nprint('begun', flush=True)\n"
        "while True: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    ended = python(tmp_path, code, host=host(grouped))
    assert ended.output.startswith(b"begun")
    assert ended.survivors == 0
    assert ended.reason == "processes" or (ended.code and b"can't start new thread" in ended.output)


@UNBOUNDED
@pytest.mark.parametrize(
    "taking",
    ["held.append(bytearray(8 << 20))", "held.append(mmap.mmap(-1, 8 << 20)); held[-1].write(b'x' * (8 << 20))"],
    ids=["its own", "shared"],
)
def test_a_memory_bomb_ends(tmp_path: Path, grouped: bool, taking: str) -> None:
    code = f"import mmap\nprint('begun', flush=True)\nheld = []\nwhile True: {taking}"
    ended = python(tmp_path, code, host=host(grouped))
    assert (ended.output, ended.reason, ended.survivors) == (b"begun\n", "memory", 0)


def test_memory_that_belongs_to_no_process_is_refused_where_nothing_bounds_it(tmp_path: Path) -> None:
    code = "import os\ntry: os.memfd_create('x')\nexcept OSError as error: print(error.strerror)"
    assert python(tmp_path, code, host=host(False)).output == b"Function not implemented\n"


def test_one_file_ends_at_the_limit(tmp_path: Path) -> None:
    ended = job(tmp_path, "sh", "-c", "echo begun; head -c 64M /dev/zero > big; echo $?")
    assert ended.output.splitlines()[0] == b"begun"
    assert (tmp_path / "big").stat().st_size <= LIMITS.disk
    assert str(128 + signal.SIGXFSZ) in ended.output.decode()


MEGABYTES = "for number in range(60): open(f'f{number}', 'wb').write(bytes(1 << 20))"
HOLES = """
for number in range(60):
    file = open(f"f{number}", "w+b")
    os.ftruncate(file.fileno(), 1 << 20)
    mmap.mmap(file.fileno(), 1 << 20).write(bytes([120]) * (1 << 20))
"""
NAMELESS = """
held = []
for number in range(60):
    held.append(open("f", "wb"))
    held[-1].write(bytes(1 << 20))
    held[-1].flush()
    os.unlink("f")
time.sleep(600)
"""
DEEP = "for number in range(200):\n    os.mkdir('d')\n    os.chdir('d')"
CLOSED = f"os.mkdir('closed')\nos.chdir('closed')\n{MEGABYTES}\nos.chmod('.', 0)"


@pytest.mark.parametrize(
    "code",
    [MEGABYTES, HOLES, NAMELESS, DEEP, CLOSED],
    ids=["many files", "holes that are filled", "files without names", "folders without end", "a closed folder"],
)
def test_a_disk_that_is_filled_is_noticed(tmp_path: Path, code: str) -> None:
    ended = python(tmp_path, f"import mmap, os, time\nprint('begun', flush=True)\n{code}")
    if "closed" in code and os.getuid():  # it is seen by what is left of the disk alone, which is everybody's
        pytest.skip("a closed folder is open to root alone")
    assert (ended.output, ended.reason, ended.survivors) == (b"begun\n", "disk", 0)


def test_a_sparse_file_takes_nothing(tmp_path: Path) -> None:
    ended = python(tmp_path, "import os\nos.truncate(os.open('f', os.O_CREAT | os.O_RDWR), 20 << 20)")
    assert (ended.code, ended.reason) == (0, "")


def test_the_folder_for_temporary_files_is_bounded_and_gone_afterwards(tmp_path: Path) -> None:
    script = "for n in 1 2 3 4 5; do head -c 20M /dev/zero > /tmp/$n || echo full; done; du -sm /tmp | cut -f1"
    ended = job(tmp_path, "sh", "-c", script)
    *full, size = ended.output.split()
    assert b"full" in full
    assert int(size) <= LIMITS.memory >> 22


def test_a_flood_of_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    ended = job(tmp_path, "sh", "-c", "echo first; yes | head -c 20M; echo last")
    assert ended.output_bytes == len(b"first\nlast\n") + (20 << 20)
    assert ended.output.startswith(b"first\ny\n")
    assert ended.output.endswith(b"y\nlast\n")
    assert len(ended.output) <= LIMITS.output + 100


def test_open_files_run_out_inside_and_not_outside(tmp_path: Path) -> None:
    code = "held = []\ntry:\n    while True: held.append(open('/dev/null'))\nexcept OSError as error: print(len(held))"
    before = len(list(Path("/proc/self/fd").iterdir()))
    ended = python(tmp_path, code)
    assert 1000 < int(ended.output) < 4_096
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_sleep_without_end_ends(tmp_path: Path) -> None:
    ended = job(tmp_path, "sh", "-c", "trap '' TERM INT; echo begun; sleep 600", limits=replace(LIMITS, seconds=0.7))
    assert (ended.code, ended.reason, ended.output, ended.survivors) == (None, "time", b"begun\n", 0)


def test_a_program_that_waits_for_input_gets_none(tmp_path: Path) -> None:
    ended = job(tmp_path, "sh", "-c", "read answer; echo answered $?; cat")
    assert (ended.code, ended.output) == (0, b"answered 1\n")


def test_nothing_is_left_of_the_groups_of_the_jobs() -> None:
    """Run last: of all that ran before."""
    place = looking.host().groups
    if place is None:
        pytest.skip("no groups of processes")
    assert not list(place.memory.glob(f"codehub-{os.getpid()}-*"))
    assert not list(place.pids.glob(f"codehub-{os.getpid()}-*"))


def host(grouped: bool) -> running.Host:
    found = looking.host()
    if grouped and found.groups is None:
        pytest.skip("no groups of processes can be made here")
    return found if grouped else replace(found, groups=None)


def job(folder: Path, *argv: str, limits: Limits = LIMITS) -> Ended:
    return sandbox.run(Job(argv, folder, limits), lambda: False)


def python(folder: Path, code: str, *arguments: str, host: running.Host | None = None) -> Ended:
    argv = inner(code, folder, *arguments)
    return running.run(host or looking.host(), Job(argv, folder, LIMITS), lambda: False)


def inner(code: str, folder: Path, *arguments: str) -> tuple[str, ...]:
    """A program in Python, by the interpreter that every sandbox has."""
    (folder / "program.py").write_text(code, encoding="utf-8")
    return (str(looking.host().kit.interpreter), "-I", "-S", "program.py", *arguments)


def unlikely() -> str:
    """Seconds that nobody else sleeps for, by which a process is known."""
    return f"{86_400 + int.from_bytes(os.urandom(4))}"


def alive(word: str) -> list[int]:
    """The processes of this machine that sleep for so many seconds."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", word.encode()]:
                found.append(int(path.name))
    return found


def eventually(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + BOUND_S
    while not is_so():
        assert time.monotonic() < until
        Event().wait(0.02)
