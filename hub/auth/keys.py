"""How a key is made, written, read and compared. Pure but for the chance it is given; knows no store and no clock.

A key is ``chub_<id>_<secret><checksum>``. The id is public: lists and logs show it. The secret has 256 bits, so a plain
SHA-256 of it is as hard to reverse as it is to guess (OWASP ASVS 5.0, 6.5.2), and a check costs a microsecond instead
of the 0.4 s that a hash made for passwords would give away to anyone who sends wrong keys. The checksum tells a key
that was mistyped from a wrong one without any look-up, and scanners a key from noise; it protects nothing.
"""

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hub.auth.model import ALL_WORKSPACES, Grant, Scope
from hub.errors import AccessError

PREFIX = "chub"
ID_LETTERS = 10
SECRET_LETTERS = 43  # of 62 kinds: 43 * log2(62) = 256 bits
CHECKSUM_LETTERS = 6  # 62**6 is more than the 2**32 values of CRC-32
MOST_OWNER_LETTERS = 100
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(
    rf"{PREFIX}_([0-9A-Za-z]{{{ID_LETTERS}}})_([0-9A-Za-z]{{{SECRET_LETTERS}}})([0-9A-Za-z]{{{CHECKSUM_LETTERS}}})"
)
# Names of workspaces as the data folder admits them, or all of them.
_WORKSPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}|\*")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_LAST_SECOND = 253_402_300_799.0  # of the year 9999
_PURPOSE = b"codehub key 1\x00"  # keeps these digests apart from any other SHA-256 of the same text


@dataclass(frozen=True, slots=True)
class Parts:
    """A key that was read: its checksum is right, which says nothing of whether it is one of ours."""

    key_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of a key. Times are seconds since 1970; None is never."""

    key_id: str
    owner: str
    grants: tuple[Grant, ...]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    replaced_by: str | None  # the id of the key that a rotation made of it

    def state(self, now: float) -> str:
        """One of active, expired and revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at else "expired"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. Its text exists here alone: nothing can show it again."""

    text: str = field(repr=False)
    record: KeyRecord


def make(letters: Callable[[str, int], str]) -> tuple[str, Parts]:
    """A new key as text and in parts. ``letters`` draws so many of the letters given, from a source fit for secrets."""
    parts = Parts(letters(_DIGITS, ID_LETTERS), letters(_DIGITS, SECRET_LETTERS))
    body = f"{PREFIX}_{parts.key_id}_{parts.secret}"
    return body + _checksum(body), parts


def read(text: str) -> Parts | None:
    """The parts of a key, or None where the text is none: too short, mistyped, no text of ASCII."""
    found = _KEY.fullmatch(text) if len(text) < 100 else None
    if found is None or _checksum(text[:-CHECKSUM_LETTERS]) != found[3]:
        return None
    return Parts(found[1], found[2])


def digest(parts: Parts) -> bytes:
    """32 bytes that say whether a key is the one that was made, and not what it is."""
    return hashlib.sha256(_PURPOSE + f"{parts.key_id}\x00{parts.secret}".encode("ascii")).digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(one, other)


def _checksum(body: str) -> str:
    value, written = zlib.crc32(body.encode("ascii")), ""
    for _ in range(CHECKSUM_LETTERS):
        value, place = divmod(value, len(_DIGITS))
        written = _DIGITS[place] + written
    return written


def key_shape(record: KeyRecord, now: float) -> dict[str, Any]:
    """What is told of a key, as JSON: everything but the key."""
    return {
        "key_id": record.key_id,
        "owner": record.owner,
        "state": record.state(now),
        "grants": [{"workspace": grant.workspace, "scopes": sorted(grant.scopes)} for grant in record.grants],
        "created_at": written_time(record.created_at),
        "expires_at": written_time(record.expires_at),
        "last_used_at": written_time(record.last_used_at),
        "revoked_at": written_time(record.revoked_at),
        "replaced_by": record.replaced_by,
    }


def written_time(seconds: float | None) -> str | None:
    """A Unix time as ISO 8601; one beyond the calendar as its last second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_SECOND), UTC).isoformat(timespec="seconds")


def owner_of(text: str) -> str:
    """A name for people as it is kept. Raises AccessError for an empty or overlong one, and for unseen characters."""
    name = text.strip()
    if not name or len(name) > MOST_OWNER_LETTERS or _UNSEEN.search(name):
        raise AccessError(
            "That is no name of an owner.", f"Give up to {MOST_OWNER_LETTERS} characters that can be seen."
        )
    return name


def grants_of(scopes: Iterable[str], workspaces: Iterable[str]) -> tuple[Grant, ...]:
    """Grants as they are typed: scopes for each workspace named alone, and ``NAME:SCOPE,SCOPE`` with scopes of its own.

    Without any workspace the scopes are for all of them. Raises AccessError for what is no scope or no workspace, for
    scopes that no workspace takes, and where nothing at all is granted.
    """
    shared = frozenset(scope_of(name) for name in scopes)
    found: dict[str, frozenset[Scope]] = {}
    taken = False
    for text in workspaces:
        name, colon, listed = text.partition(":")
        if not _WORKSPACE.fullmatch(name):
            raise AccessError(f"{name[:80]!r} is no name of a workspace.", "See `codehub status`; * means all of them.")
        own = frozenset(scope_of(scope) for scope in listed.split(",")) if colon else shared
        taken = taken or not colon
        found[name] = found.get(name, frozenset()) | own
    if not found:
        found, taken = {ALL_WORKSPACES: shared}, True
    if not all(found.values()):
        raise AccessError("The key would be allowed nothing.", f"Give a scope: {', '.join(Scope)}.")
    if shared and not taken:
        raise AccessError(
            "No workspace takes the scopes.", "Name one without scopes of its own, or leave the shared scopes out."
        )
    return tuple(Grant(name, found[name]) for name in sorted(found))


def scope_of(name: str) -> Scope:
    """The scope of that name. Raises AccessError."""
    try:
        return Scope(name.strip())
    except ValueError:
        raise AccessError(f"{name[:80]!r} is no scope.", f"It may be {', '.join(Scope)}.") from None
