"""The body of a request, whole before the application hears of it: so large at most, and in so much time.

Nothing that is sent here is long enough to need a stream, and so a slow sender holds no worker, whatever the route.
"""

import asyncio
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from starlette.types import Message, Receive

from hub.http_api.doors import Session
from hub.http_api.guards.refusals import BAD_LENGTH, NO_TOKEN, SLOW_BODY, Refused, too_large

BODY_S = 30.0
CSRF_HEADER = b"x-csrf-token"
CSRF_FIELD = "csrf_token"
_FORM = b"application/x-www-form-urlencoded"
_MOST_FIELDS = 100

Headers = Mapping[bytes, Sequence[bytes]]


class Gone(Exception):
    """The sender left before the end."""


async def read_body(headers: Headers, receive: Receive, limit: int, seconds: float = BODY_S) -> bytes | None:
    """None where the request says that it has none. Raises Refused and Gone."""
    lengths = headers.get(b"content-length", ())
    if not lengths and b"transfer-encoding" not in headers:
        return None
    if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
        raise Refused(BAD_LENGTH)
    if lengths and (len(lengths[0]) > 18 or int(lengths[0]) > limit):
        raise Refused(too_large(limit))
    pieces, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Gone
                piece = message.get("body", b"")
                size += len(piece)
                if size > limit:
                    raise Refused(too_large(limit))
                pieces.append(piece)
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise Refused(SLOW_BODY) from None


def again(body: bytes, receive: Receive) -> Receive:
    """Hands the body out once; what comes after it is the sender's leaving, which is still heard."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def require_token(session: Session, headers: Headers, body: bytes) -> None:
    """Raises Refused unless the page's token came along, in its header or as a field of a form."""
    shown = headers.get(CSRF_HEADER, ())
    if not shown and any(kind.split(b";")[0].strip().lower() == _FORM for kind in headers.get(b"content-type", ())):
        shown = _field(body)
    if len(shown) != 1 or not hmac.compare_digest(shown[0], session.csrf.encode()):
        raise Refused(NO_TOKEN)


def _field(body: bytes) -> Sequence[bytes]:
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return ()
    return [value.encode() for name, value in fields if name == CSRF_FIELD]
