"""What the doors of the server remember, in memory alone: sessions, one-time login links, webhooks already taken.

A restart ends them all, so nothing here can outlive what it rests on. Secrets are kept as digests. Knows no HTTP, and
of who may what only the id of a key: whether that key still stands is asked at every request.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

SESSION_S = 12 * 3600.0
LINK_S = 300.0
DELIVERY_S = 24 * 3600.0
MOST_SESSIONS = 1_000  # the one that ends first goes; a browser makes one at a login
MOST_SESSIONS_OF_A_KEY = 50
MOST_LINKS = 100
MOST_DELIVERIES = 20_000
_SECRET_BYTES = 32  # 256 bits; ASVS 5.0 (11.5.1) asks for 128


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has shown a key. ``csrf`` goes to its pages, and comes back with whatever changes something."""

    key_id: str
    csrf: str = field(repr=False)
    ends_at: float  # of the clock


class Doors:
    """Thread-safe. ``clock`` is one that never jumps, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()  # by digest; all live equally long, so oldest first
        self._links: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # (key id, ends at)
        self._deliveries: OrderedDict[bytes, float] = OrderedDict()  # end of the time they are remembered for

    def open_session(self, key_id: str) -> tuple[str, Session]:
        """The secret for the cookie, and the session of this key."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        session = Session(key_id, secrets.token_urlsafe(_SECRET_BYTES), self._clock() + SESSION_S)
        with self._lock:
            own = [name for name, other in self._sessions.items() if other.key_id == key_id]
            for name in own[: max(0, len(own) - MOST_SESSIONS_OF_A_KEY + 1)]:
                del self._sessions[name]
            self._sessions[_digest(secret)] = session
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return secret, session

    def session(self, secret: str) -> Session | None:
        """The session of a cookie, or None where there is none or it has ended."""
        name = _digest(secret)
        with self._lock:
            session = self._sessions.get(name)
            if session is not None and self._clock() >= session.ends_at:
                del self._sessions[name]
                return None
            return session

    def close_session(self, secret: str) -> None:
        with self._lock:
            self._sessions.pop(_digest(secret), None)

    def remaining_s(self, session: Session) -> int:
        return max(0, int(session.ends_at - self._clock()))

    def new_link(self, key_id: str) -> str:
        """The secret of a link that opens one session of this key."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._lock:
            self._links[_digest(secret)] = (key_id, self._clock() + LINK_S)
            while len(self._links) > MOST_LINKS:
                self._links.popitem(last=False)
        return secret

    def take_link(self, secret: str) -> str | None:
        """The id of the key that the link is of, once; None for what was used, is too old or never was."""
        with self._lock:
            key_id, ends_at = self._links.pop(_digest(secret), ("", 0.0))
            return key_id if key_id and self._clock() < ends_at else None

    def first_delivery(self, digest: bytes) -> bool:
        """Whether a webhook comes for the first time within a day; it is remembered from then on."""
        now = self._clock()
        with self._lock:
            while self._deliveries and next(iter(self._deliveries.values())) <= now:
                self._deliveries.popitem(last=False)
            if digest in self._deliveries:
                return False
            self._deliveries[digest] = now + DELIVERY_S
            while len(self._deliveries) > MOST_DELIVERIES:
                self._deliveries.popitem(last=False)
            return True


def _digest(secret: str) -> bytes:
    """What is looked up instead of a secret, so that neither a dump nor the time of a look-up tells it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
