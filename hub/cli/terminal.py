"""What a terminal is shown: text of a tree may hold what acts on a terminal or deceives its reader, and is spelt out.

It stands before everything that a command prints for people, so that no command can forget it. Programs read JSON,
which is exact; what draws with colours draws for itself.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from hub.prompting import visible


class _Visible:
    """A stream whose text is visible; all else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def visibly() -> Iterator[None]:
    """Whatever is printed inside is visible."""
    stream: Any = _Visible(sys.stdout)
    with redirect_stdout(stream):
        yield
