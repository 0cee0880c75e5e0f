"""How the trees that are followed stand, in one small file of the data folder: written by one process, read by all.

It is written when something changes and at no other time, so what grows with time is worked out by whoever reads.
Whether the process that wrote it still lives is asked of the kernel, by its number and by when it began.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

FILE = "following.json"
MOST_BYTES = 4 << 20  # of the file, which holds a few hundred bytes for each tree


class Mode(StrEnum):
    """How a tree is followed."""

    INOTIFY = "inotify"  # the kernel tells of changes
    POLLING = "polling"  # changes are looked for
    AWAY = "away"  # its folder is not there at the moment
    WAITING = "waiting"  # it is about to be watched


@dataclass(frozen=True, slots=True)
class Last:
    """What the last refresh of a tree did."""

    at: float  # Unix time of its end
    seconds: float
    changed: int  # files that were read again
    removed: int
    whole: bool  # everything was looked at


@dataclass(frozen=True, slots=True)
class Followed:
    """One tree as it is followed. Counts are since the process began."""

    workspace: str
    root: Path
    mode: Mode
    why: str = ""  # it is not told by the kernel; a clause
    watches: int = 0  # of the kernel's, for this tree
    limit: int = 0  # of watches, for all programs of a user; 0 where there is none
    pending: int = 0  # files and folders that wait to be looked at
    whole: bool = False  # everything waits to be looked at, so how much has changed is not known
    waiting_since: float | None = None  # Unix time of the first notice that waits
    behind_s: float = 0.0  # since then, when this was read
    last: Last | None = None
    error: str = ""  # why the last refresh failed; it is tried again
    hints: int = 0
    refreshes: int = 0
    refresh_s: float = 0.0  # that all of them took
    corrected: int = 0  # files found changed that no notice had told of


@dataclass(frozen=True, slots=True)
class State:
    """The process that follows, alive or dead, and its trees by name."""

    pid: int
    began: str  # what the kernel says of when the process began; "" where it does not say
    since: float  # Unix time
    trees: tuple[Followed, ...] = ()

    @property
    def alive(self) -> bool:
        return lives(self.pid, self.began)


def state(data: Path) -> tuple[Followed, ...]:
    """The trees that are followed at this moment; none where no process does."""
    told = following(data)
    return told.trees if told is not None and told.alive else ()


def following(data: Path, clock: float | None = None) -> State | None:
    """What the process that follows, or last did, says of itself; None where it ended in order or never was."""
    now = time.time() if clock is None else clock
    try:
        with (data / FILE).open("rb") as file:
            shape = json.loads(file.read(MOST_BYTES))
        trees = tuple(_followed(each, now) for each in shape["trees"])
        return State(int(shape["pid"]), str(shape["began"]), float(shape["since"]), trees)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _followed(shape: dict[str, Any], now: float) -> Followed:
    since = shape["waiting_since"]
    last = Last(**shape["last"]) if shape["last"] else None
    behind = 0.0 if since is None else max(0.0, now - since)
    return Followed(
        **{**shape, "root": Path(shape["root"]), "mode": Mode(shape["mode"]), "last": last, "behind_s": behind}
    )


def followed_shape(tree: Followed) -> dict[str, Any]:
    """How a tree is followed, as JSON."""
    shape = asdict(tree)
    del shape["root"]
    return {**shape, "behind_s": round(tree.behind_s, 1)}


def words_of(tree: Followed) -> str:
    """How a tree is followed, in one clause for a person."""
    if tree.error:
        return f"followed, but {tree.error}"
    match tree.mode:
        case Mode.AWAY:
            return "its folder is away; it is taken up when it is back"
        case Mode.WAITING:
            return "about to be watched"
        case Mode.POLLING:
            how = f"followed by looking: {tree.why}"
        case Mode.INOTIFY:
            limit = f" of {tree.limit:,}" if tree.limit else ""
            how = f"followed, {tree.watches:,} watches{limit}"
    if tree.whole:
        return f"{how}; all of it is about to be looked at"
    return f"{how}; {tree.pending:,} files wait" if tree.pending else how


class Keeper:
    """Writes how it stands, when that is another than before. A folder that cannot be written costs the word only."""

    def __init__(self, data: Path, now: float) -> None:
        self._path = data / FILE
        self._state = State(os.getpid(), began(os.getpid()), now)
        self._written: str | None = None

    def keep(self, trees: Sequence[Followed]) -> bool:
        """Writes it in one step, for the owner's eyes. Tells whether it is on disk."""
        state = self._state
        shapes = [{**asdict(tree), "root": str(tree.root), "behind_s": 0.0} for tree in trees]
        text = json.dumps({"pid": state.pid, "began": state.began, "since": state.since, "trees": shapes})
        if text == self._written:
            return True
        new = self._path.with_suffix(".new")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(new, flags, 0o600), "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            new.replace(self._path)
        except OSError:
            return False
        self._written = text
        return True

    def end(self) -> None:
        """Says that nothing is followed any more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def began(pid: int) -> str:
    """When a process began, in ticks of the kernel's, so that a number given to another is noticed; "" elsewhere."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""  # the 22nd of all, see proc(5)


def lives(pid: int, when: str) -> bool:
    """Whether a process is still the one that began then."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return not when or began(pid) == when
