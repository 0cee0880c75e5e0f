"""Where a long result goes on: opaque marks that only their own server reads, for the caller and question they are of.

A mark carries no text of the question, and nothing is kept for it. One that was changed, made for somebody else or for
other arguments is told from a right one by its code alone, in constant time, and all of these are answered alike.
"""

import base64
import binascii
import fcntl
import hmac
import json
import os
import secrets
import struct
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from agents.errors import BadCursor
from hub.auth.files import opened
from hub.auth.model import Principal

SECRET_BYTES = 32
_VERSION_BYTES = 4
# 104 bits, which nobody tries out against a server that counts calls; with them no letter has bits to spare,
# so that there is one way to write it.
_CODE_BYTES = 13
_LAYOUT = struct.Struct(f">I{_VERSION_BYTES}s{_CODE_BYTES}s")
_CHARS = _LAYOUT.size // 3 * 4
_UNBOUND = ("cursor", "limit", "approval")  # may differ from page to page


class Place(NamedTuple):
    """Where the next page begins. ``same`` says whether what is paged is still as it was."""

    offset: int
    same: bool


class Cursors:
    """Makes and reads cursors with one secret, which the processes of one data folder share."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, data: Path) -> "Cursors":
        """With the secret of a data folder, which is made where there is none. Raises OSError."""
        descriptor = opened(data / "cursors.key", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            secret = os.pread(descriptor, SECRET_BYTES, 0)
            if len(secret) != SECRET_BYTES:
                secret = secrets.token_bytes(SECRET_BYTES)
                os.pwrite(descriptor, secret, 0)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return cls(secret)

    def make(
        self, principal: Principal, tool: str, arguments: Mapping[str, object], offset: int, version: str = ""
    ) -> str:
        """A mark of a few dozen letters; ``version`` names the state of what is paged, such as an index's stamp."""
        state = blake2b(version.encode(), digest_size=_VERSION_BYTES).digest()
        code = self._code(principal, tool, arguments, offset, state)
        return base64.urlsafe_b64encode(_LAYOUT.pack(offset, state, code)).decode()

    def read(self, cursor: str, principal: Principal, tool: str, arguments: Mapping[str, object]) -> int:
        """The offset that a cursor was made with. Raises BadCursor."""
        return self.place(cursor, principal, tool, arguments).offset

    def place(
        self, cursor: str, principal: Principal, tool: str, arguments: Mapping[str, object], version: str = ""
    ) -> Place:
        """The offset, and whether the version is the one that the cursor was made at. Raises BadCursor."""
        if len(cursor) != _CHARS or not cursor.isascii():
            raise _bad()
        try:
            offset, state, code = _LAYOUT.unpack(base64.b64decode(cursor, b"-_", validate=True))
        except (binascii.Error, struct.error):
            raise _bad() from None
        if not hmac.compare_digest(code, self._code(principal, tool, arguments, offset, state)):
            raise _bad()
        return Place(offset, state == blake2b(version.encode(), digest_size=_VERSION_BYTES).digest())

    def _code(
        self, principal: Principal, tool: str, arguments: Mapping[str, object], offset: int, state: bytes
    ) -> bytes:
        asked = {name: value for name, value in arguments.items() if name not in _UNBOUND}
        bound = json.dumps([principal.key_id, tool, asked, offset, state.hex()], sort_keys=True)
        return blake2b(bound.encode(), key=self._secret, digest_size=_CODE_BYTES).digest()


def _bad() -> BadCursor:
    return BadCursor(
        "This cursor does not belong to this call.",
        "Call again with the arguments that it was given for, or without a cursor to begin anew.",
    )
