"""How fast a model is by arithmetic, on this machine, before anything was measured. See hub.capacity."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from hub.asking.paces import Pace
from hub.capacity import calibration, speed
from hub.capacity.machine import detect
from hub.capacity.model import Calibration, Load, Machine, ModelShape
from hub.capacity.planning import Wish, plan
from hub.model import BackendInfo

# Bytes a second of main memory where the system does not tell: not measured here, since that takes half a second. It
# bounds writing on a processor alone. 20 to 100 GB.
ASSUMED_BANDWIDTH = 40e9


class Planned:
    """Paces of the models whose shape is known. The machine is looked at when the first one is asked for."""

    def __init__(self, data: Path, shape: Callable[[BackendInfo], ModelShape | None]) -> None:
        """``data`` holds what measuring has shown of this machine; ``shape`` tells what a model is made of, None for
        one that is unknown or runs elsewhere.
        """
        self._data = data
        self._shape = cache(shape)
        self._machine: Machine | None = None
        self._loads: dict[BackendInfo, tuple[Load, Machine, Calibration] | None] = {}

    def __call__(self, info: BackendInfo, tokens: int) -> Pace | None:
        """The pace of a model at a prompt of so many tokens; None where nothing can be said."""
        shape = self._shape(info)
        if shape is None:
            return None
        if info not in self._loads:
            self._loads[info] = self._planned(shape, info)
        planned = self._loads[info]
        return pace(shape, *planned, tokens) if planned else None

    def _planned(self, shape: ModelShape, info: BackendInfo) -> tuple[Load, Machine, Calibration] | None:
        if self._machine is None:
            self._machine = detect(measure=lambda: ASSUMED_BANDWIDTH)
        measured = calibration.load(self._data, self._machine, info.name, info.model)
        chosen = plan(shape, self._machine, Wish(contexts=(info.context_window,)), measured).recommended
        return (chosen.load, self._machine, measured) if chosen else None


def pace(shape: ModelShape, load: Load, machine: Machine, measured: Calibration, tokens: int) -> Pace:
    """The pace of a model that is loaded so, at a prompt of so many tokens."""
    length = max(1, min(tokens, load.context))
    read = speed.prefill(shape, load, machine, length, measured)
    written = speed.decode(shape, load, machine, measured, used=length)
    return Pace(length / read.seconds, written.tokens_s, origin="planned for this machine")
