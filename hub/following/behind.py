"""How far an index is behind its tree, cheaply enough to be said with every answer.

Files are read and no process is begun while HEAD stands where it was indexed; what git counts between two commits is
kept for the two. What cannot be told is not known, and is not said to be nothing.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from hub.following.state import Followed, Mode, state
from indexer import history
from indexer.index import Index
from indexer.model import Behind, Stamp

# Seconds for which a look is taken for true: answers come many a second, and a person waits longer. 0.2 to 5.
BELIEVED_S = 1.0

Stamped = Callable[[Index], Stamp]


@dataclass(slots=True)
class _Looks:
    """The last look at one index, and what git counted last. Used by several threads."""

    lock: Lock = field(default_factory=Lock)
    until: float = 0.0
    indexed: str | None = None
    told: Behind | None = None
    pair: tuple[str, str] = ("", "")
    between: int | None = None


def stamp(data: Path, index: Index, clock: Callable[[], float] = time.monotonic) -> Stamp:
    """What state of its tree an index shows, and how far that is behind."""
    told = index.stamp()
    looks = index.shared("how far behind", "", _Looks)
    now = clock()
    with looks.lock:
        if now >= looks.until or looks.indexed != told.commit:
            followed = next((each for each in state(data) if each.workspace == index.workspace), None)
            looks.told = _seen(index, told.commit, followed, looks)
            looks.indexed, looks.until = told.commit, clock() + BELIEVED_S
        return replace(told, behind=looks.told)


def stamped(stamp: Stamp, changed: Iterable[str]) -> Stamp:
    """The stamp of an answer that shows files which are known to have changed since."""
    number = len(set(changed))
    if not number:
        return stamp
    before = stamp.behind or Behind(None, None, None)
    return replace(stamp, behind=replace(before, files=max(number, before.files or 0)))


def behind_words(stamp: Stamp) -> str:
    """How far behind its tree an index is, in a few words; "" where that is not known."""
    behind = stamp.behind
    if behind is None:
        return ""
    counted = [_counted(behind.commits, "commit"), _counted(behind.files, "file")]
    parts = " and ".join(part for part in counted if part)
    if parts:
        return f"{parts} behind"
    unmoved = behind.commits == 0 or stamp.commit is None
    return "up to date" if unmoved and behind.files == 0 else ""


def _counted(number: int | None, what: str) -> str:
    return f"{number:,} {what}{'s' if number > 1 else ''}" if number else ""


def _seen(index: Index, indexed: str | None, followed: Followed | None, looks: _Looks) -> Behind | None:
    commits = _commits(index.root, indexed, looks)
    if followed is None or followed.mode not in {Mode.INOTIFY, Mode.POLLING} or followed.error:
        return None if commits is None else Behind(commits, None, None)
    files = None if followed.whole else followed.pending
    return Behind(commits, files, round(followed.behind_s, 1) if followed.waiting_since is not None else None)


def _commits(root: Path, indexed: str | None, looks: _Looks) -> int | None:
    """None outside git, and where git cannot count them."""
    if indexed is None:
        return None
    head = history.head_commit(root)
    if head is None:
        return None
    if head == indexed:
        return 0
    if looks.pair != (indexed, head):
        looks.between = history.commits_between(root, indexed, head)
        looks.pair = (indexed, head)
    return looks.between
