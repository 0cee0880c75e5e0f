"""Whether what an index was calibrated on still holds: how its tree has moved on, and what has been asked since."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.confidence.drift import COMMITS, Shift, Taken, shifts, stale
from hub.confidence.recent import recent
from hub.confidence.stored import stored_record, version_of_shipped
from indexer import history
from indexer.index import DataFolder, Index
from indexer.pipeline import FACTS_VERSION


@dataclass(frozen=True, slots=True)
class Standing:
    """When a tree was calibrated; ``stale`` gives reasons to do it again, ``shifts`` how questions have changed."""

    calibrated_at: str
    asked: int  # questions, while calibrating
    stale: tuple[str, ...]
    shifts: tuple[Shift, ...]


def standing(data: DataFolder, index: Index) -> Standing | None:
    """None where the tree was never calibrated. Asks git for the commits since."""
    record = stored_record(index)
    if record is None:
        return None
    now = taken_now(index)
    since = _commits_between(index.root, record.taken.commit, now.commit)
    told = [dict(entry.numbers) for entry in recent(data.workspace_folder(index.workspace))]
    return Standing(record.calibrated_at, record.asked, stale(record.taken, now, since), shifts(record.spreads, told))


def taken_now(index: Index) -> Taken:
    """What a calibration of the index as it is would stand on."""
    return Taken(index.table.counts().lines, index.stamp().commit or "", str(FACTS_VERSION), version_of_shipped())


def unlike(shifted: Sequence[Shift]) -> str:
    """What it means that users ask differently from what a tree was asked while calibrating."""
    named = ", ".join(f"{shift.name} ({shift.index:.2f})" for shift in shifted[:3])
    return (
        f"Recent questions are unlike those that this was calibrated on, most of all in {named}: what is certified"
        " may not hold for them."
    )


def _commits_between(root: Path, then: str, now: str) -> int:
    """How many commits came since, up to one more than matter; 0 outside git, and where the old one is gone."""
    if not then or not now or then == now:
        return 0
    source = history.source_of(root, f"{then}..{now}")
    return len(history.commits(source, COMMITS + 1)) if source else 0
