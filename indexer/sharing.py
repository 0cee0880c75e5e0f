"""What the readers of one file in one process have in common: each thing is made once, and goes with the last of them.

Knows nothing of what is kept, only of which version of the file it was read.
"""

import threading
from collections.abc import Callable, Hashable
from typing import TypeVar, cast
from weakref import WeakValueDictionary

_Made = TypeVar("_Made")


class Commons:
    """What has been read of one file, by what it is called, each in the version that was read last.

    Safe to use from several threads. What is kept is shared, so whoever gets it must not change what others rely on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._kept: dict[str, tuple[Hashable, object]] = {}

    def of(self, what: str, version: Hashable, make: Callable[[_Made | None], _Made]) -> _Made:
        """What is kept of this version; else what ``make`` makes, out of the version before where there is one.

        Only one thread makes a thing at a time; others that want it wait, those that want something else do not.
        """
        known = self._kept.get(what)
        if known is None or known[0] != version:
            with self._lock:
                making = self._making.setdefault(what, threading.Lock())
            with making:
                known = self._kept.get(what)
                if known is None or known[0] != version:
                    before = cast("_Made | None", known[1]) if known else None
                    known = self._kept[what] = (version, make(before))
        return cast("_Made", known[1])


_READ: WeakValueDictionary[Hashable, Commons] = WeakValueDictionary()
_LOCK = threading.Lock()


def commons_of(file: Hashable) -> Commons:
    """The one Commons of a file, kept as long as anybody holds it. ``file`` must tell it from all others."""
    with _LOCK:
        found = _READ.get(file)
        if found is None:
            found = _READ[file] = Commons()
        return found
