"""What a sandbox is made of: command line, bounds, output; and that nothing runs without it.

The filter of system calls has its tests in test_seccomp.py; what programs try inside stands in test_escapes.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import sandbox
from agents.command import examining, main, sandboxing
from agents.errors import SandboxUnavailable
from agents.model import Limits
from agents.sandbox import cgroups, command, landlock, limits, looking, probing, running, selftest
from agents.sandbox.model import CACHE, SOURCE, Ended, Job, Sandboxing
from agents.sandbox.output import Ring
from agents.sandbox.watching import taken
from hub.cli import DONE, FAILED
from hub.config import Settings
from hub.health import Grade, Surroundings

LIMITS = Limits(seconds=30, memory=256 << 20, processes=64, disk=32 << 20, output=64 << 10)
needs_sandbox = pytest.mark.skipif(not sandbox.look().available, reason="; ".join(sandbox.look().missing) or "none")


# The output


@given(st.lists(st.binary(max_size=40), max_size=60), st.integers(0, 90))
def test_the_output_keeps_its_beginning_and_its_end_however_it_comes(pieces: list[bytes], most: int) -> None:
    ring, at_once = Ring(most), Ring(most)
    for piece in pieces:
        ring.add(piece)
    whole = b"".join(pieces)
    at_once.add(whole)
    assert ring.seen == len(whole)
    assert ring.kept() == at_once.kept()
    if len(whole) <= most:
        assert ring.kept() == whole
        return
    head, mark, tail = re.split(rb"\n?(\[\.\.\. \d+ bytes left out \.\.\.\])\n", ring.kept(), maxsplit=1)
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) + len(tail) <= most
    assert int(mark.split()[1]) in {len(whole) - len(head) - len(tail), len(whole) - len(head) - len(tail) - 1}


# The command line

KIT = command.Kit(
    Path("/usr/bin/bwrap"),
    frozenset({"--disable-userns", "--hostname"}),
    command.Root((("bin", "usr/bin"),), ("lib64",)),
    Path("/opt/python/bin/python3"),
    (Path("/opt/python"),),
    (Path("/opt/python/lib/site-packages"),),
)
GIVEN = command.Descriptors(10, 11, 12, 13, {"/etc/passwd": 14})


def lined(job: Job, git: Path | None = None, devices: Path | None = None) -> list[str]:
    return list(command.line(KIT, job, GIVEN, git, devices))


def test_what_is_writable_is_the_folder_the_cache_and_memory() -> None:
    job = Job(("make",), Path("/data/runs/one"), LIMITS, readable=(Path("/data/repo.git"),), cache=Path("/data/cache"))
    argv = lined(job, Path("/data/runs/one/.git"))
    binds = [argv[place + 1 : place + 3] for place, word in enumerate(argv) if word == "--bind"]
    assert binds == [["/data/runs/one", SOURCE], ["/data/cache", CACHE]]
    assert command.writable(job) == [SOURCE, CACHE, "/tmp", "/dev/shm"]
    assert argv.index("/data/runs/one/.git") > argv.index(SOURCE)
    assert argv[argv.index("/data/repo.git") - 1] == "--ro-bind"
    assert argv[-1] == str(GIVEN.answers)
    for layer in ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"):
        assert layer in argv[: argv.index("--")]
    assert "--share-net" not in argv


def test_neither_the_program_nor_its_environment_stands_on_the_command_line() -> None:
    job = Job(("make", "it-is-secret"), Path("/f"), LIMITS, environment={"TOKEN": "it-is-secret"})
    assert not [word for word in lined(job) if "it-is-secret" in word]
    assert command.environment(job)["TOKEN"] == "it-is-secret"


@pytest.mark.parametrize(
    "readable",
    [
        "/",
        "/etc",
        "/home",
        "/root",
        "/proc/1",
        "/dev/sda",
        "/src",
        "/src/x",
        "/cache/x",
        "/sys",
        "/run/launcher/x",
        "/data",
        "/data/runs/one",
        "/data/runs/one/inner",
        "/data/cache",
        "relative",
    ],
)
def test_paths_that_would_show_too_much_or_hide_something_are_wrong(readable: str) -> None:
    job = Job(("make",), Path("/data/runs/one"), LIMITS, readable=(Path(readable),), cache=Path("/data/cache"))
    assert command.wrong(job)
    assert not command.wrong(replace(job, readable=(Path("/data/repo.git"), Path("/opt/gcc"))))


@pytest.mark.parametrize(
    "changed",
    [
        {"argv": ()},
        {"argv": ("",)},
        {"argv": ("a\x00b",)},
        {"inside": "../x"},
        {"inside": "/etc"},
        {"inside": "a//b"},
        {"environment": {"A B": ""}},
        {"environment": {"A=B": ""}},
        {"environment": {"A": "\x00"}},
    ],
)
def test_a_job_that_makes_no_sense_is_wrong(changed: dict[str, object]) -> None:
    job = Job(("make",), Path("/data/one"), LIMITS, inside="build")
    assert not command.wrong(job)
    assert command.wrong(replace(job, **changed))  # type: ignore[arg-type]


def test_the_count_of_processes_is_used_where_it_means_one_job() -> None:
    assert limits.counts_apart("5.14.0-generic", 1000)
    assert limits.counts_apart("6.1.0", 1000)
    assert not limits.counts_apart("5.13.9", 1000)
    assert not limits.counts_apart("4.18.0-553.el8", 1000)
    assert not limits.counts_apart("6.1.0", 0)
    assert "RLIMIT_NPROC" not in limits.of_a_process(LIMITS, 2, counted=False)
    assert limits.of_a_process(LIMITS, 2, counted=True)["RLIMIT_NPROC"] == LIMITS.processes


# Groups of processes


def told(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"


def version_2(root: Path, group: str, controllers: str, divided: str) -> Path:
    folder = root / "sys/fs/cgroup" / group
    folder.mkdir(parents=True)
    told(root, proc__self__cgroup=f"0::/{group}\n", proc__self__mountinfo=V2)
    for name, text in (("controllers", controllers), ("subtree_control", divided), ("procs", "")):
        (folder / f"cgroup.{name}").write_text(text, encoding="ascii")
    return folder


def test_a_group_that_divides_its_own_is_where_groups_are_made(tmp_path: Path) -> None:
    folder = version_2(tmp_path, "hub.service", "cpu memory pids", "memory pids")
    assert cgroups.place(tmp_path) == (cgroups.Place("v2", folder, folder), "")
    group = cgroups.make(cgroups.Place("v2", folder, folder), LIMITS)
    assert (group.memory / "memory.max").read_text("ascii") == str(LIMITS.memory)
    assert (group.memory / "memory.swap.max").read_text("ascii") == "0"
    assert (group.pids / "pids.max").read_text("ascii") == str(LIMITS.processes)
    assert group.entrances == (group.memory / "cgroup.procs",)


def test_beside_the_group_is_where_groups_are_made_if_only_that_is_divided(tmp_path: Path) -> None:
    folder = version_2(tmp_path, "unit/codehub-hub", "memory pids", "")
    for name, text in (("subtree_control", "memory pids"), ("procs", "")):
        (folder.parent / f"cgroup.{name}").write_text(text, encoding="ascii")
    assert cgroups.place(tmp_path)[0] == cgroups.Place("v2", folder.parent, folder.parent)


def test_beside_the_group_is_not_where_groups_are_made_if_that_was_not_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = version_2(tmp_path, "system.slice/hub.service", "memory pids", "")
    for name, text in (("subtree_control", "memory pids"), ("procs", "")):
        (folder.parent / f"cgroup.{name}").write_text(text, encoding="ascii")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert cgroups.place(tmp_path)[0] is None


def test_a_group_of_another_user_is_not_divided_although_it_could_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_2(tmp_path, "hub.service", "memory pids", "")
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    assert cgroups.place(tmp_path)[0] is None


def test_a_delegated_group_is_divided_once_its_own_processes_stand_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = version_2(tmp_path, "hub.service", "cpu memory pids", "")
    (folder / "cgroup.procs").write_text("41\n42\n", encoding="ascii")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert "is not delegated" in cgroups.place(tmp_path)[1]
    assert not (folder / "codehub-hub").exists()
    monkeypatch.setattr(os, "getxattr", lambda _path, name: {"trusted.delegate": b"1"}[name])
    assert cgroups.place(tmp_path)[0] == cgroups.Place("v2", folder, folder)
    assert (folder / "codehub-hub/cgroup.procs").read_text("ascii") == "42"
    assert (folder / "cgroup.subtree_control").read_text("ascii") == "+memory +pids"


def test_without_controllers_there_are_no_groups_and_the_reason_is_told(tmp_path: Path) -> None:
    version_2(tmp_path, "hub.service", "cpu io", "")
    place, reason = cgroups.place(tmp_path)
    assert place is None
    assert "no groups of processes" in reason
    assert cgroups.place(tmp_path / "nothing")[0] is None


def test_groups_of_version_1_stand_beneath_those_of_the_server(tmp_path: Path) -> None:
    mounts = "".join(
        f"3{number} 24 0:3{number} /docker/abc /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
        for number, name in enumerate(("memory", "pids"))
    )
    told(tmp_path, proc__self__cgroup="9:pids:/docker/abc/x\n4:memory:/docker/abc/x\n", proc__self__mountinfo=mounts)
    for name in ("memory", "pids"):
        told(tmp_path, **{f"sys__fs__cgroup__{name}__x__cgroup.procs": ""})
    folder = tmp_path / "sys/fs/cgroup"
    assert cgroups.place(tmp_path)[0] == cgroups.Place("v1", folder / "memory/x", folder / "pids/x")


def test_which_bound_was_met_is_read_from_the_group(tmp_path: Path) -> None:
    group = cgroups.Group(tmp_path, tmp_path, "v2")
    assert group.exceeded() == ""
    told(tmp_path, **{"pids.events": "max 3\n"})
    assert group.exceeded() == "processes"
    told(tmp_path, **{"memory.events": "low 0\nmax 40\noom 1\noom_kill 1\n"})
    assert group.exceeded() == "memory"


def test_groups_of_servers_that_have_ended_are_swept_and_others_stay(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left, own = tmp_path / f"codehub-{int(gone.stdout)}-1", tmp_path / f"codehub-{os.getpid()}-1"
    for folder in (left, own, tmp_path / "codehub-hub", tmp_path / "other"):
        folder.mkdir()
    cgroups.sweep(cgroups.Place("v2", tmp_path, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["codehub-hub", "other", own.name])


# What is on the disk


def test_what_is_taken_counts_each_file_once_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(bytes(1 << 20))
    os.link(tmp_path / "a/b/file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/usr")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert 1 << 20 <= taken(tmp_path).bytes < (1 << 20) + (64 << 10)
    assert taken(tmp_path / "link").bytes == 0
    assert taken(tmp_path / "nowhere") == (0, True)


# What there is


def fake(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # whatever the umask of whoever runs this
    program = folder / "bwrap"
    program.write_text("#!/bin/sh\n" + script, encoding="utf-8")
    program.chmod(0o755)
    return program


def test_a_bubblewrap_that_others_may_write_to_is_not_taken(tmp_path: Path) -> None:
    program = fake(tmp_path / "bin", "exit 0")
    assert looking.find([str(tmp_path / "nowhere"), str(program.parent)]) == program
    program.chmod(0o777)
    assert looking.find([str(program.parent)]) is None
    program.chmod(0o755)
    program.parent.chmod(0o777)
    assert looking.find([str(program.parent)]) is None


def test_without_bubblewrap_nothing_runs_and_the_way_out_is_that_of_the_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(tmp_path, **{"etc__os-release": 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'})
    found, host = looking.examine([str(tmp_path)], tmp_path)
    assert (found.available, found.missing, host) == (False, ("bubblewrap is not installed",), None)
    assert "dnf install bubblewrap" in found.hint
    monkeypatch.setattr(looking, "_found", looking._Found())
    monkeypatch.setattr(looking, "examine", lambda: (found, None))
    made = tmp_path / "folder"
    made.mkdir()
    with pytest.raises(SandboxUnavailable, match="not installed") as refusal:
        sandbox.run(Job(("touch", str(made / "ran")), made, LIMITS), lambda: False)
    assert "dnf install" in refusal.value.hint
    assert not list(made.iterdir())


def test_a_bubblewrap_that_is_too_old_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    program = fake(
        tmp_path, 'case $1 in --version) echo bubblewrap 0.4.1;; *) echo "--seccomp FD --die-with-parent";; esac'
    )
    found, host = looking.examine([str(program.parent)])
    assert host is None
    assert found.version == "0.4.1"
    assert "too old" in found.missing[0]


HELP = (
    'case $1 in --version) echo bubblewrap 9.9; exit;; --help) echo "' + " ".join(looking._NEEDED) + '"; exit;; esac\n'
)


@pytest.mark.parametrize(
    "said", ["bwrap: No permissions to create a new namespace", "bwrap: setting up uid map: refused"]
)
def test_a_bubblewrap_that_may_not_make_namespaces_is_told_in_its_words(tmp_path: Path, said: str) -> None:
    program = fake(tmp_path, HELP + f'echo "{said}" >&2; exit 1')
    found, host = looking.examine([str(program.parent)], tmp_path)
    assert host is None
    assert not found.available
    assert found.missing == (said,)


def test_a_bubblewrap_that_holds_nothing_runs_nothing(tmp_path: Path) -> None:
    """One that starts what it is given as it is: the launcher sees it, and does not become the job."""
    launcher = Path(running.__file__).with_name("launching.py")
    script = HELP + f'while [ "$1" != -- ]; do shift; done; shift; exec "$1" -I -S -B {launcher} "$6" "$7"'
    program = fake(tmp_path / "bin", script)
    found, host = looking.examine([str(program.parent)], tmp_path)
    assert host is None
    assert re.search("holds capabilities|could give it privileges|no system calls are refused", found.missing[0])


@pytest.mark.parametrize(
    ("file", "text", "words", "way_out"),
    [
        ("proc/sys/user/max_user_namespaces", "0", "no user namespaces", "sysctl user.max_user_namespaces"),
        (".dockerenv", "", "Docker", "on the machine itself"),
        ("run/.containerenv", "", "Podman", "on the machine itself"),
        ("run/systemd/container", "lxc", "lxc", "on the machine itself"),
    ],
)
def test_why_no_namespace_can_be_made_is_told_with_the_way_out(
    tmp_path: Path, file: str, text: str, words: str, way_out: str
) -> None:
    told(tmp_path, **{file.replace("/", "__"): text})
    missing, hint = looking.explained(running.NOT_MADE + "bwrap: Operation not permitted.", tmp_path)
    assert words in missing
    assert way_out in hint


def test_apparmor_is_named_to_those_whom_it_keeps_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    told(tmp_path, proc__sys__kernel__apparmor_restrict_unprivileged_userns="1\n")
    missing, hint = looking.explained(running.NOT_MADE + "bwrap: setting up uid map: Permission denied.", tmp_path)
    assert "AppArmor" in missing
    assert "docs/sandbox.md" in hint


# Jobs

LEAK = """
#include <stdlib.h>
int main(void) { return malloc(7) == NULL; }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def shell(folder: Path, script: str, **changed: object) -> Ended:
    job = replace(Job(("sh", "-c", script), folder, LIMITS), **changed)  # type: ignore[arg-type]
    return sandbox.run(job, lambda: False)


@needs_sandbox
def test_a_job_sees_its_folder_its_cache_and_what_is_shown_and_nothing_else(folder: Path) -> None:
    cache, shown = folder.parent / "cache", folder.parent / "shown"
    for path in (cache, shown):
        path.mkdir()
    (shown / "tool").write_text("a tool", "utf-8")
    (folder / ".git").write_text("gitdir: elsewhere", "utf-8")
    script = (
        "pwd; cat $1; echo kept > /cache/one; echo built > out; (echo x > .git) 2>&1; (echo x > $1) 2>&1;"
        f" ls {folder.parent}; env | sort; ls -A / /home 2>&1"
    )
    job = Job(
        ("sh", "-c", script, "sh", str(shown / "tool")),
        folder,
        LIMITS,
        (shown,),
        cache,
        {"CC": "a b;$(c)", "PATH": "/usr/bin"},
    )
    ended = sandbox.run(job, lambda: False)
    text = ended.output.decode()
    assert text.startswith("/src\na tool")
    assert text.count("Read-only file system") == 2
    assert "CC=a b;$(c)\n" in text
    assert "PATH=/usr/bin\n" in text
    assert set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE)) == {
        "CC",
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "PWD",
        "TMPDIR",
        "USER",
    }
    assert "cannot access '/home'" in text
    assert "\nshown\nCC" in text  # of its neighbours outside it sees the one alone
    assert (cache / "one").read_text("utf-8") == "kept\n"
    assert (folder / "out").read_text("utf-8") == "built\n"


@needs_sandbox
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("nothing-of-that-name",), 127),
        (("/src",), 126),
        (("sh", "-c", "kill -SEGV $$"), 139),
    ],
)
def test_the_code_is_that_of_a_shell(folder: Path, argv: tuple[str, ...], code: int) -> None:
    ended = sandbox.run(Job(argv, folder, LIMITS), lambda: False)
    assert (ended.code, ended.reason, ended.survivors) == (code, "", 0)


@needs_sandbox
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_what_builds_need_works_inside(folder: Path) -> None:
    """A leak checker traces its process; ccache opens the null device and writes beside the folder."""
    (folder / "leak.c").write_text(LEAK, "utf-8")
    (folder.parent / "cache").mkdir()
    script = "cc -fsanitize=address -o leak leak.c || exit 9; ./leak 2>&1 | grep SUMMARY"
    ended = shell(folder, script)
    if ended.code == 9:
        pytest.skip("no AddressSanitizer")
    assert b"7 byte(s) leaked" in ended.output
    if shutil.which("ccache"):
        twice = "for n in 1 2; do ccache cc -c leak.c -o $n.o; done; ccache --print-stats | grep -w direct_cache_hit"
        cached = shell(folder, twice, cache=folder.parent / "cache", environment={"CCACHE_DIR": CACHE})
        assert cached.output == b"direct_cache_hit\t1\n"


@needs_sandbox
def test_arguments_are_handed_over_as_they_are(folder: Path) -> None:
    words = ("; touch x", "$(touch y)", "a\nb", "--", "é", "*")
    ended = sandbox.run(Job(("printf", "%s|", *words), folder, LIMITS), lambda: False)
    assert ended.output.decode() == "".join(f"{word}|" for word in words)
    assert not list(folder.iterdir())


@needs_sandbox
def test_a_job_starts_in_the_folder_that_is_asked_for(folder: Path) -> None:
    (folder / "build/debug").mkdir(parents=True)
    assert shell(folder, "pwd", inside="build/debug").output == b"/src/build/debug\n"
    missing = shell(folder, "pwd", inside="elsewhere")
    assert (missing.code, missing.output) == (127, b"/src/elsewhere: No such file or directory\n")


@needs_sandbox
def test_output_is_told_while_it_comes_with_errors_in_their_place(folder: Path) -> None:
    heard: list[bytes] = []
    job = Job(("sh", "-c", "echo one; echo two >&2; echo three"), folder, LIMITS)
    ended = sandbox.run(job, lambda: False, heard.append)
    assert b"".join(heard) == ended.output == b"one\ntwo\nthree\n"


@needs_sandbox
def test_an_error_of_whoever_listens_ends_the_job(folder: Path) -> None:
    def listen(_data: bytes) -> None:
        raise KeyError("listener")

    job = Job(("sh", "-c", "echo one; sleep 600"), folder, LIMITS)
    with pytest.raises(KeyError, match="listener"):
        sandbox.run(job, lambda: False, listen)


@needs_sandbox
def test_a_job_that_is_cancelled_before_it_begins_does_nothing(folder: Path) -> None:
    ended = sandbox.run(Job(("sh", "-c", "sleep 5; touch ran"), folder, LIMITS), lambda: True)
    assert (ended.code, ended.reason, ended.survivors) == (None, "cancelled", 0)
    assert not list(folder.iterdir())


@needs_sandbox
def test_several_jobs_at_once_keep_to_themselves(tmp_path: Path) -> None:
    def one(number: int) -> Ended:
        folder = tmp_path / str(number)
        folder.mkdir()
        return shell(folder, f"echo {number} > /tmp/n; sleep 0.1; cat /tmp/n; ls /proc | grep -c '^[0-9]'")

    with ThreadPoolExecutor(4) as threads:
        ended = list(threads.map(one, range(4)))
    assert [one.output.split()[0] for one in ended] == [b"0", b"1", b"2", b"3"]
    assert all(int(one.output.split()[1]) < 8 and not one.survivors for one in ended)


@needs_sandbox
def test_no_descriptor_stays_open(folder: Path) -> None:
    shell(folder, "true")
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    shell(folder, "true")
    with pytest.raises(SandboxUnavailable):
        shell(folder / "nowhere", "true")
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


@needs_sandbox
@pytest.mark.skipif(landlock.version() < landlock.LEAST, reason="no Landlock in the kernel")
def test_a_launcher_that_is_to_hold_with_landlock_and_cannot_runs_nothing(folder: Path) -> None:
    host = looking.host()
    broken = host.launcher["agents/sandbox/landlock.py"] + b"\n\ndef version():\n    return 0\n"
    host = replace(host, launcher=dict(host.launcher) | {"agents/sandbox/landlock.py": broken})
    with pytest.raises(SandboxUnavailable, match="Landlock is gone"):
        running.run(host, Job(("touch", "ran"), folder, LIMITS), lambda: False)
    assert not list(folder.iterdir())


@needs_sandbox
@pytest.mark.skipif(landlock.version() < landlock.LEAST, reason="no Landlock in the kernel")
def test_landlock_holds_where_a_mount_does_not(folder: Path) -> None:
    """With every mount writable, the launcher alone keeps writing to the folder."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom agents.sandbox import landlock\n"
        "landlock.restrict(landlock.version(), [sys.argv[2]], '/dev')\n"
        "open(sys.argv[2] + '/in', 'w').write('x')\nopen('/dev/null', 'w').write('x')\n"
        "try: open(sys.argv[3] + '/out', 'w')\nexcept PermissionError: print('held')\n"
    )
    argv = [sys.executable, "-c", code, str(Path(__file__).parent.parent), str(folder), str(elsewhere)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("held\n", "")
    assert [path.name for path in folder.iterdir()] == ["in"]
    assert not list(elsewhere.iterdir())


# The self-test, the command and doctor's line


@needs_sandbox
def test_the_self_test_holds_everything_that_it_tries() -> None:
    tried = list(selftest.attempts())
    assert len(tried) >= 20
    assert [one for one in tried if not one.held] == []


def test_what_the_self_test_looks_for_is_seen_where_nothing_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harmless ones, in this process."""
    (tmp_path / "secret").write_bytes(b"x")
    with selftest._listening() as (port, name):
        assert probing._port(port) == f"127.0.0.1:{port}"
        assert probing._abstract(name) == name
    assert probing._seen([str(tmp_path / "secret")])
    assert probing._processes()
    assert probing._inherited()
    monkeypatch.setenv("HUB_CANARY", "x")
    assert "HUB_CANARY" in probing._variables()
    monkeypatch.chdir(tmp_path)
    assert probing._set_user_id()


NOTHING = Sandboxing(
    available=False, missing=("bubblewrap is not installed",), hint="Install it: apt install bubblewrap."
)
LESS = Sandboxing(available=True, layers=("bubblewrap", "seccomp"), missing=("no Landlock",), hint="A newer kernel.")
ALL = Sandboxing(available=True, layers=("bubblewrap", "seccomp", "landlock", "cgroup"), version="0.8.0", landlock=7)


@pytest.mark.parametrize(("found", "grade"), [(NOTHING, Grade.WARNING), (LESS, Grade.WARNING), (ALL, Grade.OK)])
def test_doctor_says_what_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Sandboxing, grade: Grade
) -> None:
    monkeypatch.setattr(examining, "look", lambda: found)
    finding = examining.examined(Surroundings(Settings(tmp_path)))
    assert examining.CHECK.look is examining.examined
    assert finding.subject == examining.CHECK.subject == "sandbox"
    assert finding.grade is grade
    assert all(missing in finding.detail for missing in found.missing)


def test_the_command_says_what_holds_and_fails_where_nothing_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*arguments: str) -> tuple[int, str]:
        return main(["sandbox", *arguments]), capsys.readouterr().out

    monkeypatch.setattr(sandboxing, "look", lambda: NOTHING)
    code, out = called()
    assert code == FAILED
    assert "nothing can be run apart here" in out
    assert "apt install bubblewrap" in out
    code, out = called("--json", "--test")
    assert (code, json.loads(out)["available"], json.loads(out)["attempts"]) == (FAILED, False, [])
    monkeypatch.setattr(sandboxing, "look", lambda: ALL)
    monkeypatch.setattr(sandboxing, "attempts", lambda: iter([selftest.Attempt("mount", held=True)]))
    code, out = called("--test")
    assert code == DONE
    assert "1 attempts, 0 escaped" in out
    monkeypatch.setattr(sandboxing, "attempts", lambda: iter([selftest.Attempt("mount", held=False, detail="/")]))
    code, out = called("--test", "--json")
    assert (code, json.loads(out)["escaped"]) == (FAILED, 1)
