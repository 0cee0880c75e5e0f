"""What changed in a tree, as hints only: where to look again, and how surely nothing is missed.

The folders that indexing would look into are watched by the kernel, or scanned where it does not tell everything. A
hint is never a fact: what is there, the caller finds out. What it does then this does not know.
"""

import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Protocol, Self

from indexer.files import FileRules
from indexer.watcher.filesystems import most_watches
from indexer.watcher.gathering import Hints, Inbox, Options, Why
from indexer.watcher.polling import Polling

__all__ = ["Hints", "Mode", "Options", "Standing", "Watcher", "Why"]

ROOT_S = 5.0  # between two looks whether the root is still the same folder: a mount or a folder above it tells nothing
AWAY_S = 1.0  # the same while it is away


class Mode(StrEnum):
    """How changes are noticed."""

    INOTIFY = "inotify"
    POLLING = "polling"
    AWAY = "away"  # there is no root at the moment
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tree is watched at the moment, for a person to read."""

    mode: Mode
    why: str  # a clause; empty where the kernel tells everything
    folders: int
    watches: int  # that the kernel keeps for this tree, those on git's folders among them
    limit: int  # how many one user may have, over all programs; 0 where the kernel does not say


class _Source(Protocol):
    @property
    def folders(self) -> int: ...

    def next_look(self) -> float | None: ...

    def look(self) -> None: ...

    def close(self) -> None: ...


class _Away:
    """In a root's place while there is none."""

    folders = 0

    def next_look(self) -> float | None:
        return None

    def look(self) -> None:
        """There is nothing to look at."""

    def close(self) -> None:
        """There is nothing to close."""


class Watcher:
    """Watches a tree from when it is made until it is closed. One thread takes; any may ask how it stands, and close.

    The first hint is to look at everything, because what happened before is not known. Nothing is raised for a tree
    that cannot be watched well: ``standing`` says how it is done, and every while everything is to be looked at anyway.
    """

    def __init__(
        self,
        root: Path,
        rules: FileRules | None = None,
        options: Options | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given = root
        self._rules = rules or FileRules()
        self._options = options or Options()
        self._clock = clock
        self._inbox = Inbox(self._options, clock)
        self._mode, self._why, self._watches = Mode.AWAY, "", _none
        self._source: _Source = _Away()
        self._identity: tuple[int, int] | None = None
        self._reconcile_at = self._root_at = 0.0
        self._inbox.everything(Why.START)
        self._arrange()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, timeout_s: float | None = None) -> Hints | None:
        """The next hint as soon as it is quiet for a moment; None after the time is up, and at once when closed.

        While polling, a scan that has begun is finished before the time is looked at.
        """
        ends = inf if timeout_s is None else self._clock() + timeout_s
        while not self._inbox.closed:
            self._look_around()
            self._source.look()
            if self._inbox.to_mend():
                self._arrange()
            hints = self._inbox.take()
            if hints is not None:
                return hints
            if self._clock() >= ends:
                return None
            look = self._source.next_look()
            self._inbox.wait(min(ends, self._reconcile_at, self._root_at, inf if look is None else look))
        self._end()
        return None

    def standing(self) -> Standing:
        """How the tree is watched at the moment."""
        if self._inbox.closed:
            return Standing(Mode.CLOSED, "it was closed", 0, 0, most_watches())
        return Standing(self._mode, self._why, self._source.folders, self._watches(), most_watches())

    def close(self) -> None:
        """Ends within a second, and lets a ``take`` that waits return None."""
        self._inbox.close()
        self._end()

    def _end(self) -> None:
        self._source.close()

    def _look_around(self) -> None:
        now = self._clock()
        if now >= self._reconcile_at:
            self._reconcile_at = now + self._options.reconcile_s
            self._inbox.broken(Why.TIME)
        if now >= self._root_at:
            self._root_at = now + (AWAY_S if self._identity is None else ROOT_S)
            if _identity(self._given) != self._identity:
                self._inbox.broken(Why.ROOT)

    def _arrange(self) -> None:
        """Begins anew with the tree as it is, in the best way there is now. The hint that follows covers the gap."""
        self._source.close()
        self._identity = _identity(self._given)
        self._watches = _none
        if self._identity is None:
            self._source, self._mode, self._why = _Away(), Mode.AWAY, "there is no such folder at the moment"
            self._inbox.lock(False)
        else:
            self._source = self._best(Path(os.path.realpath(self._given)))
        now = self._clock()
        self._reconcile_at = now + self._options.reconcile_s
        self._root_at = now + (AWAY_S if self._identity is None else ROOT_S)
        if self._inbox.closed:
            self._source.close()

    def _best(self, root: Path) -> _Source:
        refused = "it is set to"
        if not self._options.polls:
            try:
                # Where there is no inotify, this cannot even be imported.
                from indexer.watcher.notices import Notices, Refused  # noqa: PLC0415 - see above
            except ImportError:
                refused = "this system has no inotify"
            else:
                limit = self._options.most_watches
                most = (most_watches() or sys.maxsize) if limit is None else limit
                try:
                    notices = Notices(root, self._rules, self._inbox, most)
                except Refused as error:
                    refused = str(error)
                else:
                    self._mode, self._why = Mode.INOTIFY, ""
                    self._watches = lambda: notices.watches
                    return notices
        self._mode, self._why = Mode.POLLING, refused
        return Polling(root, self._rules, self._inbox, self._options.poll_s, self._clock)


def _none() -> int:
    return 0


def _identity(root: Path) -> tuple[int, int] | None:
    """Which folder a root is; None where there is none."""
    try:
        status = root.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
