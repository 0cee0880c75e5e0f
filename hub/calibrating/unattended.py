"""Calibrates again, in the background, what was calibrated once and has moved on since. Never while a user waits.

One process for a data folder, as in ``hub.background``: of the lowest priority, and it holds the index for the moment
of storing only. What it has found out when it is killed is kept, and the next one goes on from there. A tree that
nobody has calibrated is left alone, since it takes minutes of a processor that somebody else may want.
"""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from hub import background, wiring
from hub.background import State
from hub.calibrating.running import Options, calibrate
from hub.config import Settings
from hub.errors import HubError
from hub.standing import standing
from indexer.errors import IndexerError
from indexer.index import DataFolder, Index, Workspace
from indexer.pipeline import never

STATE = "calibration.json"
_LOCK = "calibration"


def start(settings: Settings) -> bool:
    """Begins the process where a calibration is stale and the settings want it. Tells whether it began one.

    Raises HubError where no process can be begun.
    """
    if not settings.calibration_background or not _stale(wiring.data_folder(settings)):
        return False
    background.begin(settings, "hub.calibrating.unattended", "codehub calibrate")
    return True


def state(data: DataFolder) -> State | None:
    """What the process says of itself; None where there is none and nothing went wrong."""
    return background.state(data, STATE)


def finish(settings: Settings, tell: Callable[[State], None], now: Callable[[], str]) -> None:
    """Calibrates every workspace that is stale, unless another process is at it. One that fails is told."""
    data = wiring.data_folder(settings)
    failed: list[str] = []
    with data.background(_LOCK) as mine:
        for workspace in _stale(data) if mine else ():
            told = State(os.getpid(), workspace.name)
            tell(told)

            def progress(stage: str, done: int, total: int, told: State = told) -> None:
                if stage == "ask":
                    tell(State(told.pid, told.workspace, done=done, total=total))

            try:
                calibrate(settings, workspace, Options(), now(), progress, never)
            except (HubError, IndexerError) as error:
                failed.append(f"{workspace.name}: {error.message} {error.hint}".strip())
    if mine:
        tell(State(os.getpid(), note="; ".join(failed)))


def _stale(data: DataFolder) -> list[Workspace]:
    found = []
    for workspace in data.workspaces():
        try:
            with Index.for_reading(data, workspace.name) as index:
                now = standing(data, index)
        except IndexerError:
            continue  # damaged or of another version: the next `codehub index` says so
        if now is not None and now.stale:
            found.append(workspace)
    return found


def main() -> int:
    """The process itself: settings come on standard input, as ``start`` hands them over."""
    settings = background.settings_from(sys.stdin.read())
    background.step_aside()
    with background.telling(settings.data / STATE) as tell:
        try:
            finish(settings, tell, lambda: datetime.now(UTC).isoformat(timespec="seconds"))
        except (IndexerError, HubError) as error:
            sys.stderr.write(f"{error.message} {error.hint}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
