"""What the guards write into the audit log: every change, and every denial. No path, query or body of a request.

A denial costs whoever is denied nothing, and a line of the log costs a write to disk, so that a flood of them would be
a lever. The first of its kind is written at once; those that follow within a minute are counted into one line.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from hub.auth.audit import AuditLog
from hub.auth.model import Principal
from hub.errors import HubError
from hub.http_api.guards.windows import Window
from indexer.errors import IndexerError

HELD_S = 60.0
MOST_HELD = 300  # kinds of denials that are counted apart
LINES_PER_MINUTE = 120  # that strangers can have written, however many addresses they have
_LOG = logging.getLogger("codehub.guards")

Detail = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Denial:
    """One kind of refusal of one caller."""

    principal: Principal | None  # None: showed nobody
    action: str
    reason: str
    address: str
    status: int


_MANY = Denial(None, "doors", "many", "", 0)


class Records:
    def __init__(self, log: AuditLog, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[Denial, tuple[float, int]] = {}  # (written at, since then)
        self._sound = True
        self._lines = Window(clock)

    async def denied(self, denial: Denial) -> None:
        """Never fails: a refusal stays one, whatever the log is worth."""
        due = self._due(denial)
        if due:
            await asyncio.to_thread(self._write_denials, due)

    async def changed(
        self, principal: Principal | None, action: str, workspace: str, outcome: str, detail: Detail
    ) -> None:
        """Where the log cannot be written, the next change is refused until it can (see ``sound``)."""
        await asyncio.to_thread(self._write, principal, action, workspace, outcome, detail)

    async def sound(self) -> bool:
        """Whether a change can be recorded; asked before it is made, so that none goes unseen for long."""
        if not self._sound:
            await asyncio.to_thread(self._write, None, "audit", "", "resumed", {})
        return self._sound

    def flush(self) -> None:
        """Writes what is counted and not written, at the end."""
        with self._lock:
            rest = [(denial, times) for denial, (_, times) in self._held.items() if times]
            self._held.clear()
        self._write_denials(rest)

    def _due(self, denial: Denial) -> list[tuple[Denial, int]]:
        """What is to be written now, each with how often it happened since it was last written."""
        now = self._clock()
        with self._lock:
            written_at, times = self._held.get(denial, (-HELD_S, 0))
            if now - written_at < HELD_S or self._lines.hit("", LINES_PER_MINUTE):
                self._held[denial] = (max(written_at, now - HELD_S), times + 1)
                return self._made_room()
            self._held[denial] = (now, 0)
            return [*self._made_room(), (denial, times + 1)]

    def _made_room(self) -> list[tuple[Denial, int]]:
        """Whatever too many are counted apart for, in one line."""
        if len(self._held) <= MOST_HELD:
            return []
        rest = sum(times for _, times in self._held.values())
        self._held.clear()
        return [(_MANY, rest)] if rest else []

    def _write_denials(self, denials: list[tuple[Denial, int]]) -> None:
        for denial, times in denials:
            detail: Detail = {"reason": denial.reason, "status": denial.status, "address": denial.address}
            if times > 1:
                detail["times"] = times
            self._write(denial.principal, denial.action, "", "refused", detail)

    def _write(self, principal: Principal | None, action: str, workspace: str, outcome: str, detail: Detail) -> None:
        try:
            self._log.append(principal, action, workspace, outcome, detail)
        except (HubError, IndexerError, OSError) as error:
            self._sound = False
            _LOG.error("The audit log cannot be written: %s", type(error).__name__)
        else:
            self._sound = True
