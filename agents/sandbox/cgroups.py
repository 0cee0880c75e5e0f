"""A group of processes for each job, in which the kernel bounds memory and processes of all of them together.

Version 2 where the hub's own group was delegated to it, version 1 where groups can be made, else none. Groups stand
beneath or beside the hub's own, so that what bounds the hub bounds its jobs. What a job is, it does not know.
Source: Linux' Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agents.model import Limits

_PREFIX = "codehub-"
_HUB = "codehub-hub"  # the group of the hub itself where it had to make room for others
_NEEDED = frozenset({"memory", "pids"})
_REMOVING_S = 2.0  # the kernel takes a moment to let go of what has ended
_ROOT = Path("/")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where groups can be made: one folder in version 2, one for each controller in version 1."""

    version: str  # "v2" | "v1"
    memory: Path
    pids: Path


@dataclass(frozen=True, slots=True)
class Group:
    """One group, with its bounds set. Whoever makes one removes it."""

    memory: Path
    pids: Path
    version: str

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.memory, self.pids)))

    @property
    def entrances(self) -> tuple[Path, ...]:
        """The files into which a process writes 0 to join."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def exceeded(self) -> str:
        """Which bound was met: "memory", "processes", or ""."""
        if self.version == "v2":
            killed = _counter(self.memory / "memory.events", "oom_kill")
        else:
            killed = _counter(self.memory / "memory.oom_control", "oom_kill")
        if killed:
            return "memory"
        return "processes" if _counter(self.pids / "pids.events", "max") else ""

    def members(self) -> int:
        """How many processes are in it."""
        return len({line for folder in self.folders for line in _read(folder / "cgroup.procs").split()})

    def kill(self) -> None:
        """Ends all that is in it, where the kernel does that for a group."""
        with suppress(OSError):
            (self.pids / "cgroup.kill").write_text("1", encoding="ascii")

    def remove(self, clock: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = time.sleep) -> None:
        """Removes it, empty as it is by then. What the kernel still holds after two seconds is swept later."""
        until = clock() + _REMOVING_S
        for folder in self.folders:
            while not _removed(folder) and clock() < until:
                wait(0.01)


def place(root: Path = _ROOT) -> tuple[Place | None, str]:
    """Where groups can be made, or why nowhere. ``root`` is that of the file system."""
    own = dict(_own(_read(root / "proc/self/cgroup")))
    mounts = _mounts(_read(root / "proc/self/mountinfo"))
    reasons = []
    if "" in own and "" in mounts:
        folder = _beneath(root, mounts[""], own[""])
        # Beside its own only where both lie in what was given to it: elsewhere a job would be free of the hub's bounds.
        beside = [folder.parent] if folder.name == _HUB or _is_delegated(folder.parent) else []
        for candidate in (folder, *beside):
            if set(_read(candidate / "cgroup.subtree_control").split()) >= _NEEDED and _makes_groups(candidate):
                return Place("v2", candidate, candidate), ""
        if set(_read(folder / "cgroup.controllers").split()) >= _NEEDED:
            if _is_delegated(folder) and _make_room(folder):
                return Place("v2", folder, folder), ""
            reasons.append("its group of processes is not delegated to it (Delegate=yes in a systemd unit)")
    if set(own) >= _NEEDED and set(mounts) >= _NEEDED:
        memory, pids = (_beneath(root, mounts[name], own[name]) for name in ("memory", "pids"))
        if _makes_groups(memory) and _makes_groups(pids):
            return Place("v1", memory, pids), ""
        reasons.append("groups of processes are the administrator's alone")
    return None, "; ".join(reasons) or "the kernel shows no groups of processes for memory and processes"


def make(where: Place, limits: Limits) -> Group:
    """A new group with its bounds. Raises OSError where it cannot be made; then nothing is left of it."""
    name = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    group = Group(where.memory / name, where.pids / name, where.version)
    try:
        for folder in group.folders:
            folder.mkdir()
        for file, value, needed in _bounds(group, limits):
            _set(file, value, needed=needed)
    except OSError:
        group.remove()
        raise
    return group


def sweep(where: Place) -> None:
    """Removes the empty groups of processes that have ended without doing so."""
    for folder in dict.fromkeys((where.memory, where.pids)):
        for left in folder.glob(f"{_PREFIX}[0-9]*-*"):
            owner = left.name.removeprefix(_PREFIX).partition("-")[0]
            if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
                _removed(left)


def _bounds(group: Group, limits: Limits) -> list[tuple[Path, str, bool]]:
    """Files, what is written into them, and whether a job may not run where that fails."""
    if group.version == "v2":
        return [
            (group.memory / "memory.max", str(limits.memory), True),
            (group.memory / "memory.swap.max", "0", False),  # not there on a kernel without swap
            (group.memory / "memory.oom.group", "1", False),  # half a build is of no use
            (group.pids / "pids.max", str(limits.processes), True),
        ]
    return [
        (group.memory / "memory.limit_in_bytes", str(limits.memory), True),
        (group.memory / "memory.memsw.limit_in_bytes", str(limits.memory), False),
        (group.pids / "pids.max", str(limits.processes), True),
    ]


def _set(file: Path, value: str, *, needed: bool) -> None:
    try:
        file.write_text(value, encoding="ascii")
    except OSError:
        if needed:
            raise


def _makes_groups(folder: Path) -> bool:
    """Tried, because rights alone do not tell: a file system that is read-only, a container, a root without rights."""
    trial = folder / f"{_PREFIX}{os.getpid()}-trial"
    try:
        trial.mkdir()
    except FileExistsError:
        pass
    except OSError:
        return False
    # Whoever moves a process writes here as well, and only where that is allowed joins a new group.
    usable = os.access(folder / "cgroup.procs", os.W_OK)
    _removed(trial)
    return usable


def _is_delegated(folder: Path) -> bool:
    """Whether what is beneath is ours: it was given to our user, or systemd says so."""
    with suppress(OSError):
        if os.getuid() and folder.stat().st_uid == os.getuid():
            return True
    for name in ("trusted.delegate", "user.delegate"):
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _make_room(folder: Path) -> bool:
    """Moves the hub's own processes into a group beneath, since a group that divides memory may hold none itself."""
    own = folder / _HUB
    try:
        own.mkdir(exist_ok=True)
        for _ in range(3):  # a process may start another meanwhile
            for process in _read(folder / "cgroup.procs").split():
                (own / "cgroup.procs").write_text(process, encoding="ascii")
        (folder / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")
    except OSError:
        return False
    return _makes_groups(folder)


def _own(text: str) -> list[tuple[str, str]]:
    """The controllers, "" for version 2, and the group of this process in each."""
    found = []
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        found += [(controller, path) for controller in controllers.split(",")]
    return found


def _mounts(text: str) -> dict[str, tuple[str, str]]:
    """By controller, "" for version 2: where its hierarchy is mounted, and which group stands there."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if not separator or len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            found.setdefault("", (fields[4], fields[3]))
        elif kinds[0] == "cgroup":
            for option in kinds[2].split(","):
                found.setdefault(option, (fields[4], fields[3]))
    return found


def _beneath(root: Path, mount: tuple[str, str], group: str) -> Path:
    point, top = mount
    inside = group.removeprefix(top) if top != "/" else group
    return root / point.lstrip("/") / inside.lstrip("/")


def _counter(file: Path, name: str) -> int:
    for line in _read(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
