"""What agents call, written into the audit log: each call, and each denial. No argument, path or text of anyone.

A line costs a write that the disk has to confirm, so what only reads is written behind its answer, in order, by one
thread. What may act is written before it acts, and where that cannot be done it does not. A denial costs whoever is
denied nothing, so the first of its kind is written at once, and those that follow within a minute are counted into one
line.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from queue import SimpleQueue

from hub.auth.audit import AuditLog, Detail
from hub.auth.model import Principal
from hub.errors import HubError
from indexer.errors import DataFolderError, IndexerError

HELD_S = 60.0
MOST_HELD = 300  # kinds of denials that are counted apart
LINES_PER_MINUTE = 120  # of denials, of all callers together
MOST_WAITING = 2_000  # lines that are not written yet; more calls wait for the disk
WAIT_S = 20.0  # for a line that has to be there before something acts; 5 to 60
_LOG = logging.getLogger("codehub.agents")


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the log, before it is written."""

    principal: Principal | None
    action: str
    workspace: str
    outcome: str
    detail: Detail


@dataclass(frozen=True, slots=True)
class _Kind:
    """Denials that are counted together."""

    key_id: str
    action: str
    workspace: str
    reason: str


class Records:
    """Safe in several threads. ``clock`` is one that never jumps."""

    def __init__(self, log: AuditLog, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[_Kind, tuple[float, int, Line]] = {}  # (written at, times since then, the last of them)
        self._recent: list[float] = []  # when lines of denials were written within the last minute
        self._waiting: SimpleQueue[tuple[Line, Future[None]] | None] = SimpleQueue()
        self._room = threading.BoundedSemaphore(MOST_WAITING)
        self._writer: threading.Thread | None = None
        self._closed = False

    def later(self, line: Line) -> None:
        """Writes a line soon. That it cannot be is logged: what it tells of has happened already."""
        self._put(line)

    def before(self, line: Line) -> None:
        """Has a line on disk when this returns. Raises DataFolderError."""
        try:
            self._put(line).result(WAIT_S)
        except NotInTime:
            raise DataFolderError("The audit log has not answered in time.", "See `codehub doctor`.") from None

    def denied(self, line: Line, reason: str) -> None:
        """Never fails: a denial stays one, whatever the log is worth."""
        key_id = line.principal.key_id if line.principal else ""
        for due in self._due(_Kind(key_id, line.action, line.workspace, reason), line):
            try:
                self.before(due)
            except (HubError, IndexerError):
                return  # the writer has told of it

    def close(self) -> None:
        """Writes what waits and what was counted. Nothing is taken after it."""
        with self._lock:
            if self._closed:
                return
            rest = [_counted(line, times) for _, times, line in self._held.values() if times]
            self._held.clear()
        for line in rest:
            self._put(line)
        with self._lock:
            self._closed = True
            writer = self._writer
        if writer is not None:
            self._waiting.put(None)
            writer.join(WAIT_S)

    def _put(self, line: Line) -> "Future[None]":
        done: Future[None] = Future()
        self._room.acquire()
        with self._lock:
            if self._closed:
                self._room.release()
                done.set_exception(DataFolderError("The audit log is closed.", "Call again in a moment."))
                return done
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="audit", daemon=True)
                self._writer.start()
            self._waiting.put((line, done))
        return done

    def _write(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            line, done = waiting
            self._room.release()
            try:
                self._log.append(line.principal, line.action, line.workspace, line.outcome, line.detail)
            except (HubError, IndexerError, OSError) as error:
                _LOG.error("The audit log cannot be written: %s", type(error).__name__)
                done.set_exception(DataFolderError("The audit log cannot be written.", "See `codehub doctor`."))
            else:
                done.set_result(None)

    def _due(self, kind: _Kind, line: Line) -> list[Line]:
        """What is to be written now, each with how often it happened since it was last written."""
        now = self._clock()
        with self._lock:
            self._recent = [at for at in self._recent if at > now - HELD_S]
            written_at, times, _ = self._held.get(kind, (-HELD_S, 0, line))
            if now - written_at < HELD_S or len(self._recent) >= LINES_PER_MINUTE:
                self._held[kind] = (max(written_at, now - HELD_S), times + 1, line)
                return self._made_room(line)
            self._held[kind] = (now, 0, line)
            self._recent.append(now)
            return [*self._made_room(line), _counted(line, times + 1)]

    def _made_room(self, line: Line) -> list[Line]:
        """Whatever too many are counted apart for, in one line."""
        if len(self._held) <= MOST_HELD:
            return []
        times = sum(count for _, count, _ in self._held.values())
        self._held.clear()
        return [_counted(Line(None, "tool", "", line.outcome, {"reason": "many"}), times)] if times else []


def _counted(line: Line, times: int) -> Line:
    if times < 2:
        return line
    return Line(line.principal, line.action, line.workspace, line.outcome, {**line.detail, "times": times})
