"""Requests to run something that a person must let pass: asked for, decided, and used once.

A grant is bound to a digest of what exactly would run, so that nothing else can run under it; it is used up by the
first who takes it, and does not last. Knows no tool, and does not judge what it is told of one.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hub.auth.database import Database
from hub.auth.keys import written_time
from hub.auth.model import Principal, Scope
from hub.errors import AccessError, Forbidden, UnknownAccess

FILE = "approvals.db"
FORM = 1  # raise it with each change of the table
WAIT_S = 600.0  # for somebody to decide, and then again for whoever asked to use it; 60 to 3,600
CLOCK_SLACK_S = 60.0  # that the clock may go back before what was asked later than now is taken for void
MOST_WAITING = 100  # requests of one key that nobody has decided
KEPT_S = 30 * 86_400.0  # that what was decided is kept for looking back
MOST_TOLD_CHARS = 20_000
_DIGEST_CHARS = 200
_SCHEMA = """
CREATE TABLE approvals(
    id TEXT PRIMARY KEY, workspace TEXT NOT NULL, tool TEXT NOT NULL, digest TEXT NOT NULL, told TEXT NOT NULL,
    asked_by TEXT NOT NULL, owner TEXT NOT NULL, asked_at REAL NOT NULL, until REAL NOT NULL, state TEXT NOT NULL,
    decided_by TEXT, decided_at REAL) WITHOUT ROWID;
CREATE INDEX approvals_by_state ON approvals(state, until);
"""
_ALL = """
SELECT id, workspace, tool, digest, told, asked_by, owner, asked_at, until, state, decided_by, decided_at
FROM approvals
"""


class Standing(StrEnum):
    """How a request stands. What is past its time is expired, whether or not it was granted."""

    WAITING = "waiting"
    GRANTED = "granted"
    DENIED = "denied"
    TAKEN = "taken"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Approval:
    """A request and what became of it. Times are seconds since 1970."""

    approval_id: str
    workspace: str
    tool: str
    digest: str  # of what exactly would run
    told: Mapping[str, object]  # what people are shown to decide by
    asked_by: str  # a key's id
    owner: str  # of that key
    asked_at: float
    until: float  # the end of its time to be decided, or to be used
    standing: Standing
    decided_by: str | None
    decided_at: float | None


class Approvals:
    """All requests of a data folder. Safe in several threads and processes at once: of two who decide, one does."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """``path`` is of the file, which is made where there is none. Raises DataFolderError."""
        self._clock = clock
        self._database = Database(path, _SCHEMA, FORM)

    def close(self) -> None:
        self._database.close()

    def ask(self, principal: Principal, workspace: str, tool: str, digest: str, told: Mapping[str, object]) -> Approval:
        """A request that waits; the same one again while it does. Raises AccessError for too many or too long ones."""
        written = json.dumps(told, ensure_ascii=True, sort_keys=True, default=str)
        if len(written) > MOST_TOLD_CHARS or not 0 < len(digest) <= _DIGEST_CHARS:
            raise AccessError("The request is too long to be shown to anyone.", "Ask for less at once.")
        now = self._clock()
        with self._database.transaction():
            self._database.run("DELETE FROM approvals WHERE until < ?", (now - KEPT_S,))
            waiting = [
                approval
                for approval in self._found("WHERE state = 'waiting' AND asked_by = ?", (principal.key_id,), now)
                if approval.standing is Standing.WAITING
            ]
            for approval in waiting:
                if (approval.workspace, approval.tool, approval.digest) == (workspace, tool, digest):
                    return approval
            if len(waiting) >= MOST_WAITING:
                raise AccessError("Too many requests of this key wait.", "Have some of them decided first.")
            made = secrets.token_hex(16)
            self._database.run(
                "INSERT INTO approvals VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', NULL, NULL)",
                (made, workspace, tool, digest, written, principal.key_id, principal.owner, now, now + WAIT_S),
            )
            return self._found("WHERE id = ?", (made,), now)[0]

    def pending(self, principal: Principal | None = None) -> tuple[Approval, ...]:
        """What waits, the oldest first; with a principal, as far as he may decide it or has asked it himself."""
        found = self._found("WHERE state = 'waiting' ORDER BY asked_at, id", (), self._clock())
        return tuple(
            approval
            for approval in found
            if approval.standing is Standing.WAITING
            and (principal is None or may_decide(principal, approval) or _asked(principal, approval))
        )

    def one(self, approval_id: str, principal: Principal) -> Approval:
        """A request that he may decide or has asked. Raises UnknownAccess for any other, and where there is none."""
        found = self._found("WHERE id = ?", (approval_id,), self._clock())
        if not found or not (_asked(principal, found[0]) or principal.may(Scope.APPROVE, found[0].workspace)):
            raise UnknownAccess("There is no such request.", "See `codehub approve` for those that wait.")
        return found[0]

    def decide(self, approval_id: str, principal: Principal, grant: bool) -> Approval:
        """Grants or denies one. Raises UnknownAccess, Forbidden for one's own, AccessError where it waits no more."""
        now = self._clock()
        with self._database.transaction():
            approval = self.one(approval_id, principal)
            if _asked(principal, approval):
                raise Forbidden("Nobody decides what he has asked for himself.", "Ask someone with another key.")
            if approval.standing is not Standing.WAITING:
                raise AccessError(f"The request is {approval.standing}.", "It has to be asked again.")
            self._database.run(
                "UPDATE approvals SET state = ?, until = ?, decided_by = ?, decided_at = ? WHERE id = ?",
                ("granted" if grant else "denied", now + WAIT_S, principal.key_id, now, approval_id),
            )
            return self._found("WHERE id = ?", (approval_id,), now)[0]

    def take(self, approval_id: str, digest: str) -> bool:
        """Uses a grant up. True once, for exactly what was granted, within its time; False for everything else."""
        now = self._clock()
        taken = self._database.run(
            "UPDATE approvals SET state = 'taken' WHERE id = ? AND digest = ? AND state = 'granted'"
            " AND until > ? AND decided_at <= ?",
            (approval_id, digest, now, now + CLOCK_SLACK_S),
        )
        return taken == 1

    def _found(self, where: str, values: Sequence[object], now: float) -> tuple[Approval, ...]:
        return tuple(_approval(row, now) for row in self._database.rows(_ALL + where, values))


def approval_shape(approval: Approval) -> dict[str, Any]:
    """A request as JSON."""
    return {
        "id": approval.approval_id,
        "workspace": approval.workspace,
        "tool": approval.tool,
        "digest": approval.digest,
        "told": dict(approval.told),
        "asked_by": approval.asked_by,
        "owner": approval.owner,
        "asked_at": written_time(approval.asked_at),
        "until": written_time(approval.until),
        "state": approval.standing.value,
        "decided_by": approval.decided_by,
        "decided_at": written_time(approval.decided_at),
    }


def may_decide(principal: Principal, approval: Approval) -> bool:
    """Whether the decision is his: granted to him in that workspace, and not about what he asks himself."""
    return principal.may(Scope.APPROVE, approval.workspace) and not _asked(principal, approval)


def _asked(principal: Principal, approval: Approval) -> bool:
    return principal.key_id == approval.asked_by


def _approval(row: Sequence[object], now: float) -> Approval:
    approval_id, workspace, tool, digest, told, asked_by, owner, asked, until, state, decided_by, decided = row
    began = float(str(decided if decided is not None else asked))
    standing = Standing(str(state))
    if standing in {Standing.WAITING, Standing.GRANTED} and not began - CLOCK_SLACK_S <= now < float(str(until)):
        standing = Standing.EXPIRED
    return Approval(
        approval_id=str(approval_id),
        workspace=str(workspace),
        tool=str(tool),
        digest=str(digest),
        told=json.loads(str(told)),
        asked_by=str(asked_by),
        owner=str(owner),
        asked_at=float(str(asked)),
        until=float(str(until)),
        standing=standing,
        decided_by=None if decided_by is None else str(decided_by),
        decided_at=None if decided is None else float(str(decided)),
    )
