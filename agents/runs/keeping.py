"""Runs on disk, a file each, so that what became of one can be asked after a restart. Knows not how one is run.

Several processes may keep runs in one folder. Each holds a lock for as long as it lives, by which the others know
whether a run that has not ended still goes on.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from agents.errors import AgentError
from agents.model import Finding, FindingKind, Run, RunState, Step
from hub.auth.files import opened

KEPT_S = 24 * 3_600.0  # that a run is kept after its end
MOST_KEPT = 100  # that have ended, of all workspaces. 50 to 1,000.
_MOST_BYTES = 16 << 20  # of one file; output and findings are bounded far below
_ID = re.compile(r"[0-9a-f]{16}")
_ENDED_BEFORE = "It had not ended when the process that ran it did."


@dataclass(frozen=True, slots=True)
class Applied:
    """A patch that a run has tried, and the state of the tree that it was tried on."""

    patch: str
    commit: str
    tree: str  # with the changes that were not committed
    digest: str
    versioned: bool


class Records:
    """The files of one folder. Raises AgentError where they cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = token_hex(8)
        self._held: int | None = None

    def close(self) -> None:
        """Lets go of what says that this process lives."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(OSError):
                self._lock_of(self._owner).unlink()
            os.close(held)

    def keep(self, run: Run) -> None:
        """Writes a run as it is now, whole or not at all."""
        try:
            self._hold()
            self._write(f"{run.id}.json", json.dumps({**asdict(run), "owner": self._owner}, ensure_ascii=True))
        except OSError as error:
            raise AgentError(
                f"The run cannot be recorded: {error.strerror}.", f"Look after {self._folder}; nothing was run."
            ) from None

    def keep_patch(self, run_id: str, applied: Applied) -> None:
        """Keeps what a run has tried, for as long as the run."""
        with suppress(OSError):
            self._write(f"{run_id}.patch.json", json.dumps(asdict(applied), ensure_ascii=True))

    def patch(self, run_id: str) -> Applied | None:
        found = self._read(f"{run_id}.patch.json") if _ID.fullmatch(run_id) else None
        try:
            return Applied(**found) if isinstance(found, dict) else None
        except TypeError:
            return None

    def run(self, run_id: str) -> Run | None:
        """A run as it was last written; one whose process has ended before it is told so."""
        found = self._read(f"{run_id}.json") if _ID.fullmatch(run_id) else None
        return self._run_of(found) if isinstance(found, dict) else None

    def runs(self, now: float, known: Mapping[str, Run]) -> tuple[Run, ...]:
        """All that are kept, the oldest first; those that are ``known`` are not read. What is past its time goes."""
        read = (known.get(run_id) or self.run(run_id) for run_id in self._ids())
        found = [run for run in read if run is not None]
        found.sort(key=lambda run: (run.created_at, run.id))
        ended = [run for run in found if run.state.ended]
        gone = {
            run.id
            for number, run in enumerate(ended)
            if number < len(ended) - MOST_KEPT or (run.ended_at or run.created_at) < now - KEPT_S
        }
        for run_id in gone:
            self.forget(run_id)
        self._sweep_locks()
        return tuple(run for run in found if run.id not in gone)

    def forget(self, run_id: str) -> None:
        for name in (f"{run_id}.json", f"{run_id}.patch.json"):
            with suppress(OSError):
                (self._folder / name).unlink()

    def _ids(self) -> Iterator[str]:
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder))
        except OSError:
            return
        yield from (name.removesuffix(".json") for name in names if _ID.fullmatch(name.removesuffix(".json")))

    def _run_of(self, found: dict[str, Any]) -> Run | None:
        owner = found.pop("owner", "")
        try:
            run = Run(
                **{
                    **found,
                    "state": RunState(found["state"]),
                    "steps": tuple(Step(**{**step, "argv": tuple(step["argv"])}) for step in found["steps"]),
                    "findings": tuple(
                        Finding(**{**one, "kind": FindingKind(one["kind"]), "symbols": tuple(one["symbols"])})
                        for one in found["findings"]
                    ),
                    "layers": tuple(found["layers"]),
                }
            )
        except (TypeError, KeyError, ValueError):
            return None  # written by another version: what it says cannot be told
        if run.state.ended or self._lives(owner):
            return run
        return replace(run, state=RunState.BROKEN, reason=_ENDED_BEFORE, ended_at=run.started_at or run.created_at)

    def _write(self, name: str, text: str) -> None:
        path, draft = self._folder / name, self._folder / f"{name}.{self._owner}"
        with os.fdopen(opened(draft, os.O_WRONLY | os.O_TRUNC), "w", encoding="ascii") as file:
            file.write(text)
        draft.replace(path)

    def _read(self, name: str) -> object:
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                return json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError):
            return None

    def _lock_of(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"

    def _hold(self) -> None:
        while self._held is None:
            path = self._lock_of(self._owner)
            held = opened(path, os.O_RDWR)
            fcntl.flock(held, fcntl.LOCK_EX)  # the others hold it for a moment at most
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(held).st_ino:
                    self._held = held
                    return
            os.close(held)  # somebody has just removed the file, before it was locked

    def _lives(self, owner: object) -> bool:
        """Whether the process of that name still runs."""
        if owner == self._owner:
            return True
        return isinstance(owner, str) and bool(_ID.fullmatch(owner)) and not self._taken(owner)

    def _taken(self, owner: str, *, remove: bool = False) -> bool:
        """Whether a process has let go of its lock, whose file is then removed where that is wanted."""
        try:
            descriptor = os.open(self._lock_of(owner), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                self._lock_of(owner).unlink(missing_ok=True)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _sweep_locks(self) -> None:
        """Removes what processes have left that ended without a word."""
        with suppress(OSError):
            for entry in sorted(os.scandir(self._folder), key=lambda entry: entry.name):
                owner = entry.name.removesuffix(".lock")
                if entry.name.endswith(".lock") and _ID.fullmatch(owner) and owner != self._owner:
                    self._taken(owner, remove=True)
