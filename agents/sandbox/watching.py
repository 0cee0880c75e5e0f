"""What a job has taken so far, seen from outside: memory and processes where no group bounds them, and disk.

Looks through the job's own /proc, in which its processes alone stand, and follows no link that the job has made.
What is done about it, it does not know.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from agents.model import Limits

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512  # of st_blocks, whatever the file system
_SHARED = 4 << 20  # bytes beyond which it is worth a look which of a process' shared pages are memory
MOST_ENTRIES = 1_000_000  # of files and folders; more is taken for an attack on the file system
MOST_DEPTH = 100  # of folders
_DISK_S, _DISK_ANYWAY_S = 0.25, 5.0  # between two looks: at the room that is left, and at every file
_LITTLE = 1 << 20  # bytes of room that come and go
_MOST_OPEN = 20_000  # descriptors looked at in one round
LEAST_FREE = 64 << 20  # bytes that have to be left on the disk


@dataclass(slots=True)
class Watch:
    """Looks at one job. ``init`` is its first process as seen from here; 0 until it is known."""

    folders: tuple[Path, ...]
    limits: Limits
    grouped: bool  # a group bounds memory and processes
    clock: Callable[[], float]
    init: int = 0
    _before: int = 0
    _free_before: int = 0
    _free_at_look: int = 0
    _next_disk: float = 0.0
    _latest_disk: float = 0.0
    _next_memory: float = 0.0
    _next_threads: float = 0.0
    _nameless: dict[tuple[int, int], int] = field(default_factory=dict)

    def begin(self) -> None:
        """Takes down what is there already."""
        self._before = sum(taken(folder).bytes for folder in self.folders)
        self._free_before = self._free()
        self._look_again(self._free_before, _DISK_S)

    def exceeded(self) -> str:
        """Which limit is exceeded: "memory", "processes", "disk", or "". Cheap enough for twenty times a second."""
        now = self.clock()
        if not self.grouped and self.init:
            processes = self._processes()
            if len(processes) > self.limits.processes:
                return "processes"
            if now >= self._next_memory:
                self._next_memory = now + 0.1
                if self._memory(processes) > self.limits.memory and self._proportional(processes) > self.limits.memory:
                    return "memory"
            if now >= self._next_threads:
                self._next_threads = now + 0.3
                if self._threads(processes) > self.limits.processes:
                    return "processes"
        if now < self._next_disk:
            return ""
        free = self._free()
        if self._free_at_look - free < max(_LITTLE, self.limits.disk // 16) and now < self._latest_disk:
            self._next_disk = now + _DISK_S
            return ""
        found = self.disk()
        # A look at a large tree takes its time; the job gets at least ten times as much.
        self._look_again(free, max(_DISK_S, 10 * (self.clock() - now)))
        return found

    def disk(self) -> str:
        """Says "disk" where the job has written more than it may, "" otherwise."""
        nameless = self._held_open() if self.init else 0
        amounts = [taken(folder) for folder in self.folders]
        if sum(amount.bytes for amount in amounts) - self._before + nameless > self.limits.disk:
            return "disk"
        free = self._free()
        # What a job closes to its own user cannot be looked into, but it shows in what is left.
        hidden = any(amount.closed for amount in amounts) and self._free_before - free > self.limits.disk
        return "disk" if hidden or free < LEAST_FREE <= self._free_before else ""

    def _look_again(self, free: int, after_s: float) -> None:
        """Not before some time has passed; then once the disk has less room, and after a while whatever it has."""
        now = self.clock()
        self._free_at_look = free
        self._next_disk = now + after_s
        self._latest_disk = now + max(_DISK_ANYWAY_S, after_s)

    def _free(self) -> int:
        free = []
        for folder in self.folders:
            with suppress(OSError):
                told = os.statvfs(folder)
                free.append(told.f_bavail * told.f_frsize)
        return min(free, default=0)

    @property
    def _inside(self) -> str:
        return f"/proc/{self.init}/root"

    def _processes(self) -> list[str]:
        with suppress(OSError), os.scandir(f"{self._inside}/proc") as entries:
            return [entry.name for entry in entries if entry.name.isdecimal()]
        return []

    def _memory(self, processes: list[str]) -> int:
        """Bytes, counting what processes share once for each of them."""
        total = 0
        for place in ("/tmp", "/dev/shm"):  # noqa: S108 - of the sandbox
            with suppress(OSError):
                told = os.statvfs(self._inside + place)
                total += (told.f_blocks - told.f_bfree) * told.f_frsize
        for process in processes:
            fields = self._told(process, "statm").split()
            if len(fields) < 3:
                continue
            resident, shared = int(fields[1]) * _PAGE, int(fields[2]) * _PAGE
            total += resident - shared
            if shared > _SHARED:
                total += _kilobytes(self._told(process, "status"), "RssShmem:")
        return total

    def _proportional(self, processes: list[str]) -> int:
        """Bytes, with what processes share divided among them: exact, and dear."""
        total = 0
        for process in processes:
            told = self._told(process, "smaps_rollup")
            total += _kilobytes(told, "Pss_Anon:") + _kilobytes(told, "Pss_Shmem:") if told else 0
        for place in ("/tmp", "/dev/shm"):  # noqa: S108 - of the sandbox
            with suppress(OSError):
                used = os.statvfs(self._inside + place)
                total += (used.f_blocks - used.f_bfree) * used.f_frsize
        return total

    def _threads(self, processes: list[str]) -> int:
        total = 0
        for process in processes:
            after_name = self._told(process, "stat").rpartition(")")[2].split()
            total += int(after_name[17]) if len(after_name) > 17 else 1
        return total

    def _told(self, process: str, name: str) -> str:
        try:
            return Path(f"{self._inside}/proc/{process}/{name}").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""  # it has ended

    def _held_open(self) -> int:
        """Bytes of files that have no name any more, which no walk over folders sees."""
        found: dict[tuple[int, int], int] = {}
        looked = 0
        for process in self._processes():
            with suppress(OSError), os.scandir(f"{self._inside}/proc/{process}/fd") as descriptors:
                for descriptor in descriptors:
                    looked += 1
                    if looked > _MOST_OPEN:
                        return sum(found.values())
                    with suppress(OSError):
                        told = descriptor.stat()
                        if stat.S_ISREG(told.st_mode) and not told.st_nlink:
                            found[told.st_dev, told.st_ino] = told.st_blocks * _BLOCK
        return sum(found.values())


class Amount(NamedTuple):
    """Bytes on disk, and whether there were folders that cannot be looked into."""

    bytes: int
    closed: bool


def taken(folder: Path) -> Amount:
    """What is beneath a folder, each file once; no link is followed, whoever puts one there meanwhile.

    More than any limit where there are too many entries, or too deep ones.
    """
    walk = _Walk()
    with suppress(OSError):
        walk.enter(folder, None)
    if not walk.ways:
        return Amount(0, closed=True)
    try:
        while walk.ways:
            walk.step()
            if walk.entries > MOST_ENTRIES or len(walk.ways) > MOST_DEPTH:
                return Amount(1 << 62, walk.closed)
    finally:
        for descriptor, _ in walk.ways:
            os.close(descriptor)
    return Amount(walk.bytes, walk.closed)


@dataclass(slots=True)
class _Walk:
    ways: list[tuple[int, Iterator[str]]] = field(default_factory=list)  # the open folders, the innermost last
    seen: set[tuple[int, int]] = field(default_factory=set)  # files of several names
    bytes: int = 0
    entries: int = 0
    closed: bool = False

    def enter(self, folder: Path | str, above: int | None) -> None:
        descriptor = os.open(folder, _FOLDER, dir_fd=above)
        self.ways.append((descriptor, iter(_listed(descriptor))))

    def step(self) -> None:
        descriptor, names = self.ways[-1]
        name = next(names, None)
        if name is None:
            os.close(descriptor)
            self.ways.pop()
            return
        self.entries += 1
        try:
            told = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(told.st_mode):
                self.enter(name, descriptor)
        except PermissionError:
            self.closed = True
            return
        except OSError:
            return  # it is gone, or something else by now
        if told.st_nlink > 1 and not stat.S_ISDIR(told.st_mode):
            if (told.st_dev, told.st_ino) in self.seen:
                return
            self.seen.add((told.st_dev, told.st_ino))
        self.bytes += told.st_blocks * _BLOCK


def _listed(descriptor: int) -> list[str]:
    try:
        return os.listdir(descriptor)
    except OSError:
        return []


def _kilobytes(told: str, name: str) -> int:
    """Bytes of a line such as "RssShmem:     12 kB"; all lines of that name together."""
    _, found, after = told.partition(name)
    word = after.split(None, 1)[0] if found and after.strip() else ""
    return int(word) << 10 if word.isdecimal() else 0
