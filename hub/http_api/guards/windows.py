"""How many requests within a minute, and how many at once. Knows no HTTP.

The window moves: of the hits of the last minute none is forgotten early, so a burst at a minute's turn gains nothing.
The clock is one that never jumps, and the number of those who are counted is bounded, so that a stranger with many
addresses fills no memory.
"""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_CALLERS = 10_000


class Window:
    """At most so many hits within ``seconds``, for each name apart. Thread-safe."""

    def __init__(self, clock: Callable[[], float], seconds: float = 60.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._hits: OrderedDict[str, deque[float]] = OrderedDict()  # whoever came last stands last

    def hit(self, name: str, most: int) -> float:
        """0 where the hit is let pass, and counted; else the seconds until one will be."""
        now = self._clock()
        with self._lock:
            hits = self._hits.get(name)
            if hits is None:
                hits = self._hits[name] = deque()
                if len(self._hits) > MOST_CALLERS:
                    self._hits.popitem(last=False)
            else:
                self._hits.move_to_end(name)
            while hits and hits[0] <= now - self._seconds:
                hits.popleft()
            if len(hits) < most:
                hits.append(now)
                return 0.0
            return max(hits[len(hits) - most] + self._seconds - now, 0.001)


class Crowd:
    """How many requests of each name are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: dict[str, int] = {}

    def enter(self, name: str, most: int) -> bool:
        """Whether there is room; whoever is let in must leave."""
        with self._lock:
            number = self._inside.get(name, 0)
            if number >= most:
                return False
            self._inside[name] = number + 1
            return True

    def leave(self, name: str) -> None:
        with self._lock:
            number = self._inside[name] - 1
            if number:
                self._inside[name] = number
            else:
                del self._inside[name]


def whole_seconds(seconds: float) -> int:
    """For Retry-After: never less than what has to be waited."""
    return max(1, math.ceil(seconds))
