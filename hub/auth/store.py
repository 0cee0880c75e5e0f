"""The keys of one data folder, in a file of their own. Knows neither HTTP nor what a workspace is.

The file holds digests, never keys. Every process that checks keys notices at its next check what another has changed,
so a revocation needs no restart: SQLite's own count of foreign commits is asked each time, and the keys are read again
when it has moved.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hub.auth import keys
from hub.auth.database import Database
from hub.auth.keys import KeyRecord, NewKey
from hub.auth.model import ALL_WORKSPACES, Grant, Principal, Scope
from hub.errors import AccessError, UnknownAccess

FILE = "keys.db"
FORM = 1  # raise it with each change of the table
USED_EVERY_S = 60.0  # how exactly the last use of a key is kept; 10 to 3,600
LONGEST_GRACE_S = 30 * 86_400.0  # that a replaced key may be good for beside the new one
_SCHEMA = """
CREATE TABLE keys(
    id TEXT PRIMARY KEY, digest BLOB NOT NULL, owner TEXT NOT NULL, grants TEXT NOT NULL, created_at REAL NOT NULL,
    expires_at REAL, last_used_at REAL, revoked_at REAL, replaced_by TEXT) WITHOUT ROWID;
"""
_ALL = """
SELECT id, digest, owner, grants, created_at, expires_at, last_used_at, revoked_at, replaced_by FROM keys
"""


class _Kept(NamedTuple):
    digest: bytes
    record: KeyRecord


class KeyRing:
    """Makes, checks, lists and revokes keys. Safe in several threads and processes at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """``path`` is of the file, which is made where there is none. Raises DataFolderError."""
        self._clock = clock
        self._lock = threading.RLock()  # over what is kept in memory
        self._database = Database(path, _SCHEMA, FORM)
        self._reading = Database(path, _SCHEMA, FORM)  # apart, so that no check waits for a change
        self._stranger = secrets.token_bytes(32)  # what a key is compared with whose id is unknown
        self._version = -1
        self._kept: dict[str, _Kept] = {}
        self._used: dict[str, float] = {}

    def close(self) -> None:
        self._database.close()
        self._reading.close()

    def create(self, owner: str, grants: Sequence[Grant], expires_at: float | None = None) -> NewKey:
        """A new key; ``expires_at`` in seconds since 1970. Raises AccessError."""
        with self._database.transaction():
            made = self._insert(owner, grants, expires_at)
        self._read()
        return made

    def first_key(self) -> NewKey | None:
        """A key with every scope where there has never been any; None where one was made before."""
        with self._database.transaction():
            if self._database.rows("SELECT 1 FROM keys LIMIT 1"):
                return None
            made = self._insert("first key", (Grant(ALL_WORKSPACES, frozenset(Scope)),), None)
        self._read()
        return made

    def check(self, text: str) -> Principal | None:
        """Whoever holds this key; None for one that is unknown, wrong, expired or revoked.

        Takes as long for an unknown id as for a wrong secret. Raises DataFolderError where the file cannot be read:
        nobody gets in then.
        """
        parts = keys.read(text)
        if parts is None:
            return None
        with self._lock:
            if self._reading.version() != self._version:
                self._read()
            kept = self._kept.get(parts.key_id)
            same = keys.same(keys.digest(parts), kept.digest if kept else self._stranger)
            now = self._clock()
            if kept is None or not same or kept.record.state(now) != "active":
                return None
            self._note_use(parts.key_id, now)
        return Principal(parts.key_id, kept.record.owner, kept.record.grants)

    def holder(self, key_id: str) -> Principal | None:
        """Whoever holds the key of this id, as long as it works: for one who has shown it before and got a cookie."""
        with self._lock:
            if self._reading.version() != self._version:
                self._read()
            kept = self._kept.get(key_id)
        if kept is None or kept.record.state(self._clock()) != "active":
            return None
        return Principal(key_id, kept.record.owner, kept.record.grants)

    def records(self) -> tuple[KeyRecord, ...]:
        """Every key that was ever made, the oldest first."""
        self._read()
        return tuple(sorted((kept.record for kept in self._kept.values()), key=lambda it: (it.created_at, it.key_id)))

    def revoke(self, key_id: str) -> bool:
        """Ends a key at once and for good; False where there is none of that id, or it was revoked before."""
        done = self._database.run(
            "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (self._clock(), key_id)
        )
        self._read()
        return bool(done)

    def rotate(self, key_id: str, grace_s: float = 0.0) -> NewKey:
        """A key of the same owner and grants in the place of one, which goes on working for ``grace_s`` seconds.

        The new one lasts as long as the old one was made for. Raises UnknownAccess, and AccessError for a key that no
        longer works or was replaced before.
        """
        if not 0 <= grace_s <= LONGEST_GRACE_S:
            raise AccessError("That is no time for a key to go on.", "Give 0 seconds to 30 days.")
        now = self._clock()
        with self._database.transaction():
            found = [row for row in self._database.rows(_ALL) if row[0] == key_id]
            if not found:
                raise UnknownAccess("There is no such key.", "See `codehub keys list`.")
            old = _kept(found[0]).record
            if old.state(now) != "active" or old.replaced_by:
                state = "replaced" if old.replaced_by else old.state(now)
                raise AccessError(f"The key {key_id} is {state}.", "Make a new one with `codehub keys create`.")
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            made = self._insert(old.owner, old.grants, None if lifetime is None else now + lifetime)
            ends = now + grace_s if old.expires_at is None else min(old.expires_at, now + grace_s)
            self._database.run(
                "UPDATE keys SET replaced_by = ?, expires_at = ?, revoked_at = ? WHERE id = ?",
                (made.record.key_id, ends, None if grace_s else now, key_id),
            )
        self._read()
        return made

    def _insert(self, owner: str, grants: Sequence[Grant], expires_at: float | None) -> NewKey:
        now = self._clock()
        if expires_at is not None and not now < expires_at < float("inf"):
            raise AccessError("The key would have expired already.", "Give a time that is still to come.")
        if not grants or not all(grant.scopes for grant in grants):
            raise AccessError("The key would be allowed nothing.", f"Give a scope: {', '.join(Scope)}.")
        text, parts = keys.make(_letters)
        record = KeyRecord(parts.key_id, keys.owner_of(owner), tuple(grants), now, expires_at, None, None, None)
        self._database.run(
            "INSERT INTO keys(id, digest, owner, grants, created_at, expires_at) VALUES(?, ?, ?, ?, ?, ?)",
            (record.key_id, keys.digest(parts), record.owner, _written(record.grants), now, expires_at),
        )
        return NewKey(text, record)

    def _read(self) -> None:
        """Reads every key anew; the count of commits first, so that one that comes between is noticed later."""
        with self._lock:
            version = self._reading.version()
            self._kept = {kept.record.key_id: kept for kept in map(_kept, self._reading.rows(_ALL))}
            self._version = version

    def _note_use(self, key_id: str, now: float) -> None:
        """Keeps when a key was used, seldom, and never at the cost of the request."""
        last = self._used.get(key_id)
        if last is not None and abs(now - last) < USED_EVERY_S:
            return
        self._used[key_id] = now
        if self._reading.run_at_leisure("UPDATE keys SET last_used_at = ? WHERE id = ?", (now, key_id)):
            kept = self._kept.get(key_id)
            if kept is not None:
                self._kept[key_id] = kept._replace(record=replace(kept.record, last_used_at=now))


def _letters(kinds: str, number: int) -> str:
    return "".join(secrets.choice(kinds) for _ in range(number))


def _written(grants: Iterable[Grant]) -> str:
    return json.dumps([[grant.workspace, sorted(grant.scopes)] for grant in grants])


def _kept(row: Sequence[object]) -> _Kept:
    key_id, digest, owner, grants, created, expires, used, revoked, replaced_by = row
    read = tuple(Grant(name, frozenset(map(Scope, scopes))) for name, scopes in json.loads(str(grants)))
    record = KeyRecord(
        key_id=str(key_id),
        owner=str(owner),
        grants=read,
        created_at=_number(created),
        expires_at=_time(expires),
        last_used_at=_time(used),
        revoked_at=_time(revoked),
        replaced_by=None if replaced_by is None else str(replaced_by),
    )
    return _Kept(digest if isinstance(digest, bytes) else b"", record)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _time(value: object) -> float | None:
    return None if value is None else _number(value)
