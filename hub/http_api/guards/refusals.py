"""What the guards answer themselves: a status, one sentence, the way out. Pure."""

from dataclasses import dataclass
from enum import StrEnum

RETRY = b"retry-after"
_CLOSE = ((b"connection", b"close"),)  # what is left of the request is not waited for


class Reason(StrEnum):
    """Why a request was refused, for counting: a closed set."""

    HOST = "host"
    ORIGIN = "origin"
    HEAD = "head"
    KEY = "key"
    SCOPE = "scope"  # of the application's refusals
    CSRF = "csrf"
    RATE = "rate"
    CROWD = "crowd"
    BODY = "body"
    SLOW = "slow"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to what the application never hears of."""

    status: int
    reason: Reason
    message: str
    hint: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Refused(Exception):
    """Ends a request with its refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


NO_HOST = Refusal(400, Reason.HOST, "The request names no host, or more than one.", "Send one Host header.")
STRANGE_HOST = Refusal(
    421,
    Reason.HOST,
    "This server is not called by that name.",
    "Add the name to [server] hosts (CODEHUB_SERVER_HOSTS), or call it by its address.",
)
STRANGE_ORIGIN = Refusal(
    403,
    Reason.ORIGIN,
    "A web page from elsewhere may not call this server.",
    "Add its origin to [server] origins (CODEHUB_SERVER_ORIGINS) if it is yours.",
)
LONG_HEAD = Refusal(431, Reason.HEAD, "The request's headers are too large.", "Send fewer or shorter ones.", _CLOSE)
LONG_PATH = Refusal(414, Reason.HEAD, "The request's address is too long.", "Send long questions by POST.", _CLOSE)
BAD_LENGTH = Refusal(400, Reason.BODY, "The request's length is no number.", "Send one Content-Length.", _CLOSE)
SLOW_BODY = Refusal(408, Reason.SLOW, "The request did not arrive in time.", "Send it again, faster.", _CLOSE)
NO_TOKEN = Refusal(
    403,
    Reason.CSRF,
    "The page's token is missing or of another session.",
    "Load the page again, or send X-CSRF-Token as GET /api/v1/sessions tells it.",
)
NO_STORE = Refusal(
    503, Reason.STORE, "The keys cannot be read, so nobody is let in.", "See `codehub doctor`.", ((RETRY, b"5"),)
)
NO_RECORD = Refusal(
    503, Reason.STORE, "Changes cannot be recorded, so none is made.", "See `codehub doctor`.", ((RETRY, b"5"),)
)


def no_key(*, wrong: bool) -> Refusal:
    if wrong:
        return Refusal(
            401,
            Reason.KEY,
            "That key is not known, or not any more.",
            "Ask whoever runs this server for a new one.",
            ((b"www-authenticate", b'Bearer realm="codehub", error="invalid_token"'),),
        )
    return Refusal(
        401,
        Reason.KEY,
        "This needs a key.",
        "Send `Authorization: Bearer chub_...`; `codehub keys create` makes one.",
        ((b"www-authenticate", b'Bearer realm="codehub"'),),
    )


def too_many(seconds: int) -> Refusal:
    return Refusal(
        429,
        Reason.RATE,
        "Too many requests within a minute.",
        f"Try again in {seconds} s.",
        ((RETRY, b"%d" % seconds),),
    )


def too_many_at_once() -> Refusal:
    return Refusal(429, Reason.CROWD, "Too many requests at once.", "Wait for some of them to end.", ((RETRY, b"1"),))


def too_large(limit: int) -> Refusal:
    return Refusal(413, Reason.BODY, f"The request is larger than {limit:,} bytes.", "Send less at a time.", _CLOSE)
