"""The command line of bubblewrap for a job. Pure: what the machine has, it is told.

Order matters to bubblewrap: what comes later is put over what came before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.sandbox.model import CACHE, SOURCE, Job

USER = 1000  # inside; outside it is whoever runs the job, who owns the folder
_HOST = "sandbox"
_PROGRAMS = "/usr/local/bin:/usr/bin:/bin"
# Names and numbers of the devices inside; Linux' Documentation/admin-guide/devices.txt.
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
LAUNCHER = "/run/launcher"  # the folder of the first program inside
# Paths of the system that are not shown whatever an administrator writes: they hold what is private, or are made up.
_KEPT = ("/etc", "/proc", "/sys", "/dev", "/run", "/tmp", "/var", "/home", "/root", SOURCE, CACHE)  # noqa: S108 - the name alone
_SEALED = ("/proc", "/sys", "/dev", SOURCE, CACHE, LAUNCHER)  # nor is anything beneath them

# Files of /etc that are made up: names for the user, and for this machine alone.
MADE_UP: Mapping[str, str] = {
    "/etc/passwd": f"builder:x:{USER}:{USER}:builder:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "/etc/group": f"builder:x:{USER}:\nnogroup:x:65534:\n",
    "/etc/hosts": f"127.0.0.1 localhost {_HOST}\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_SHOWN = ("/etc/ld.so.cache", "/etc/alternatives")  # without them programs of the system do not find their libraries


@dataclass(frozen=True, slots=True)
class Root:
    """What stands at the top of this machine's file system: links, such as ``bin`` to ``usr/bin``, and folders."""

    links: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open files of the caller by number: what bubblewrap reads, and where it and the launcher answer."""

    seccomp: int
    status: int
    orders: int
    answers: int
    contents: Mapping[str, int]  # a path inside, and what stands there


@dataclass(frozen=True, slots=True)
class Kit:
    """What every job of this machine is started with."""

    program: Path  # bubblewrap
    options: frozenset[str]  # those of its options that not every version has, or not every unit of systemd allows
    root: Root
    interpreter: Path  # a Python, for the launcher
    libraries: tuple[Path, ...]  # of it, where they are not beneath /usr
    hidden: tuple[Path, ...] = ()  # folders beneath those that the launcher does not need


def line(kit: Kit, job: Job, given: Descriptors, git: Path | None, devices: Path | None) -> tuple[str, ...]:
    """The arguments. ``git`` is what names or holds the folder's history, and is shown read-only over the writable one.
    ``devices`` holds devices of the job's own, which take the place of the machine's.

    The job's paths are taken as they are; ``wrong`` says what is wrong with them.
    """
    argv = [str(kit.program), "--unshare-all", "--unshare-user"]
    argv += ["--disable-userns"] if "--disable-userns" in kit.options else []
    argv += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    argv += ["--uid", str(USER), "--gid", str(USER)]
    argv += ["--hostname", _HOST] if "--hostname" in kit.options else []
    argv += ["--ro-bind", "/usr", "/usr"]
    for name, target in kit.root.links:
        argv += ["--symlink", target, f"/{name}"]
    for name in kit.root.folders:
        argv += ["--ro-bind", f"/{name}", f"/{name}"]
    for shown in _SHOWN:
        argv += ["--ro-bind-try", shown, shown]
    for inside, descriptor in sorted(given.contents.items()):
        argv += ["--ro-bind-data", str(descriptor), inside]
    argv += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    for name, _, _ in DEVICES if devices is not None else ():
        argv += ["--dev-bind", f"{devices}/{name}", f"/dev/{name}"]
    room = str(temporary_bytes(job))
    argv += ["--perms", "1777", "--size", room, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 - inside
    argv += ["--perms", "1777", "--size", room, "--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    for path in (*kit.libraries, *_by_depth(job.readable)):  # after /tmp, since some of them may lie beneath it
        argv += ["--ro-bind", str(path), str(path)]
    for path in kit.hidden:
        argv += ["--tmpfs", str(path), "--remount-ro", str(path)]
    argv += ["--bind", str(job.folder), SOURCE]
    argv += ["--ro-bind", str(git), f"{SOURCE}/.git"] if git is not None else []
    argv += ["--bind", str(job.cache), CACHE] if job.cache is not None else []
    argv += ["--remount-ro", "/", "--chdir", "/"]
    argv += ["--seccomp", str(given.seccomp), "--json-status-fd", str(given.status), "--"]
    argv += [str(kit.interpreter), "-I", "-S", "-B", f"{LAUNCHER}/launching.py", str(given.orders), str(given.answers)]
    return tuple(argv)


def temporary_bytes(job: Job) -> int:
    """The room in /tmp, and as much in /dev/shm: both are memory."""
    return max(16 << 20, min(job.limits.disk, job.limits.memory // 4))


def environment(job: Job) -> dict[str, str]:
    """All that the job finds in its environment."""
    fixed = {"PATH": _PROGRAMS, "LANG": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108 - the sandbox's own
    return fixed | {"USER": "builder", "LOGNAME": "builder"} | dict(job.environment)


def writable(job: Job) -> list[str]:
    """Where it may write."""
    cache = [CACHE] if job.cache is not None else []
    return [SOURCE, *cache, "/tmp", "/dev/shm"]  # noqa: S108 - the sandbox's own


def wrong(job: Job) -> str:
    """What is wrong with a job, as the end of a sentence; "" where nothing is. Its paths are resolved ones."""
    words = (*job.argv, *job.environment.values())
    if not job.argv or not job.argv[0] or any("\0" in word for word in words):
        return "it names no program"
    if job.inside and (job.inside.startswith("/") or {"..", ""}.intersection(job.inside.split("/"))):
        return f"it starts in {job.inside!r}, which is not beneath its folder"
    odd = [name for name in job.environment if not (name.isidentifier() and name.isascii())]
    if odd:
        return f"{odd[0]!r} is no variable"
    mine = [path for path in (job.folder, job.cache) if path is not None]
    return next(filter(None, (_wrong_to_show(path, mine) for path in job.readable)), "")


def _wrong_to_show(path: Path, mine: list[Path]) -> str:
    text = str(path)
    if not path.is_absolute() or text == "/" or text in _KEPT:
        return f"{text} is not to be shown as a whole"
    if any(text == kept or text.startswith(kept + "/") for kept in _SEALED):
        return f"{text} is made up inside"
    near = next((one for one in mine if path == one or path in one.parents or one in path.parents), None)
    return f"{text} and the writable {near} lie within each other" if near is not None else ""


def _by_depth(paths: Iterable[Path]) -> list[Path]:
    """The outermost first, so that an inner one is not put out of sight."""
    return sorted(set(paths), key=lambda path: (len(path.parts), path))
