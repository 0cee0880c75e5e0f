"""What was noticed, put together until it is quiet for a moment: one hint instead of a hundred.

Pure but for the inbox, which lets one thread put in what another waits for. Where a notice comes from, and what is made
of a hint, it does not know.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition


class Why(StrEnum):
    """Why to look again."""

    START = "watching began"
    CHANGED = "files changed"
    BURST = "much changed at once"
    HEAD = "HEAD or its branch moved"
    GIT = "git finished what it was doing"
    RULES = "ignore rules or the repository changed"
    OVERFLOW = "the kernel dropped notices"
    WATCHES = "not every folder can be watched"
    MOUNT = "a file system went away"
    ROOT = "the root went, came back, or is another folder"
    TIME = "it was time to look"


@dataclass(frozen=True, slots=True)
class Options:
    """How to watch. Times in seconds."""

    quiet_s: float = 0.3  # without a change, until a hint is handed out; 0.1 to 1
    most_s: float = 1.5  # however much goes on changing
    burst: int = 200  # changes from which on git is quicker asked than every file looked at
    lock_s: float = 10.0  # for which a lock of git's holds hints back; one that a crash left must not do it for ever
    reconcile_s: float = 600.0  # after which everything is to be looked at, whatever was noticed
    poll_s: float = 2.0  # between two scans where the kernel tells nothing
    most_watches: int | None = None  # folders; None: as many as the kernel allows
    polls: bool = False  # even where the kernel would tell


@dataclass(frozen=True, slots=True)
class Hints:
    """Where to look again. Nothing is said of what is there: a path may be unchanged, gone, new, or a folder by now.

    All paths are relative to the root. A folder stands for everything beneath it, as it was and as it is. With
    ``everything`` the others are empty; ``head`` says that HEAD, or the commit of its branch, moved.
    """

    paths: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    everything: bool = False
    head: bool = False
    why: tuple[Why, ...] = ()

    def cover(self, path: str) -> bool:
        """Whether a file is to be looked at."""
        if self.everything or path in self.paths:
            return True
        return bool(self.folders) and any(path.startswith(folder + "/") for folder in self.folders)


class Gathering:
    """Notices since the last hint. Times are those of a clock that only goes on; it is an argument everywhere."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._locked_at: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._paths: set[str] = set()
        self._folders: set[str] = set()
        self._everything = False
        self._head = False
        self._why: set[Why] = set()
        self._first = self._last = 0.0

    def file(self, path: str, now: float) -> None:
        self._put(self._paths, path, now)

    def folder(self, path: str, now: float) -> None:
        self._put(self._folders, path, now)

    def everything(self, why: Why, now: float) -> None:
        """Nothing said of single files counts any more."""
        self._touch(why, now)
        self._everything = True
        self._head = self._head or why is Why.HEAD
        self._paths.clear()
        self._folders.clear()

    def lock(self, held: bool, now: float) -> None:
        """Git has, or has not, its index to itself: what it is about to change is better looked at when it is done."""
        if not held:
            self._locked_at = None
        elif self._locked_at is None:
            self._locked_at = now

    @property
    def locked(self) -> bool:
        return self._locked_at is not None

    def due(self) -> float | None:
        """When a hint is to be handed out, if nothing else comes; None while there is nothing to tell."""
        if not self._why:
            return None
        due = min(self._last + self._options.quiet_s, self._first + self._options.most_s)
        return due if self._locked_at is None else max(due, self._locked_at + self._options.lock_s)

    def take(self, now: float) -> Hints | None:
        """What there is to tell, if it is time to."""
        due = self.due()
        if due is None or now < due:
            return None
        why = tuple(sorted(self._why))
        hints = Hints(frozenset(self._paths), frozenset(self._folders), self._everything, self._head, why)
        self._clear()
        return hints

    def _touch(self, why: Why, now: float) -> None:
        if not self._why:
            self._first = now
        self._last = now
        self._why.add(why)

    def _put(self, where: set[str], path: str, now: float) -> None:
        self._touch(Why.CHANGED, now)
        if self._everything:
            return
        where.add(path)
        if len(self._paths) + len(self._folders) > self._options.burst:
            self.everything(Why.BURST, now)


class Inbox:
    """A gathering that threads put into while another waits for it."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self._gathering = Gathering(options)
        self._clock = clock
        self._changed = Condition()
        self._broken = False
        self._closed = False

    def file(self, path: str) -> None:
        with self._changed:
            idle = self._gathering.due() is None
            self._gathering.file(path, self._clock())
            if idle:  # whoever waits looks again in time anyway: what is due only moves back
                self._changed.notify_all()

    def folder(self, path: str) -> None:
        with self._changed:
            idle = self._gathering.due() is None
            self._gathering.folder(path, self._clock())
            if idle:
                self._changed.notify_all()

    def everything(self, why: Why) -> None:
        with self._changed:
            self._gathering.everything(why, self._clock())
            self._changed.notify_all()

    def lock(self, held: bool) -> None:
        with self._changed:
            was = self._gathering.locked
            self._gathering.lock(held, self._clock())
            if was and not held:
                self._gathering.everything(Why.GIT, self._clock())
            self._changed.notify_all()

    def broken(self, why: Why) -> None:
        """What puts in here cannot go on as it is: once it is quiet, make it anew and look at everything."""
        with self._changed:
            self._broken = True
            self._gathering.everything(why, self._clock())
            self._changed.notify_all()

    def to_mend(self) -> bool:
        """Whether it is time to make anew what puts in here; said once, and before that hint is handed out."""
        with self._changed:
            due = self._gathering.due()
            if not self._broken or due is None or self._clock() < due:
                return False
            self._broken = False
            return True

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def take(self) -> Hints | None:
        with self._changed:
            return self._gathering.take(self._clock())

    def wait(self, until: float) -> None:
        """Waits for something to do, no longer than until then by the clock."""
        with self._changed:
            due = self._gathering.due()
            until = until if due is None else min(due, until)
            left = until - self._clock()
            if left > 0 and not self._closed:
                self._changed.wait(left)
