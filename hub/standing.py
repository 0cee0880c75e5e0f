"""How an index stands: how far its tree has moved on, and whether what it was calibrated on still holds.

Asks git, and counts; changes nothing.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from hub.confidence.drift import COMMITS, Shift, Taken, shifts, stale
from hub.confidence.recent import recent
from hub.confidence.stored import stored_record, version_of_shipped
from hub.following import stamp
from hub.shapes import Json, stamp_shape
from indexer import history
from indexer.index import DataFolder, Index
from indexer.pipeline import FACTS_VERSION

MOST_BEHIND = 1_000  # commits that are counted


class Behind(NamedTuple):
    """How far a tree has moved on since it was indexed, as git tells it."""

    head: str | None  # None outside git
    commits: int  # since the indexed one
    seconds: float | None  # since the first of these was made; None where that cannot be told


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


def behind(root: Path, indexed: str | None) -> Behind:
    """How far the tree at a root is from the commit that was indexed. Takes git up to a second for a large tree."""
    head = history.head(root)[0]
    if head is None or indexed is None:
        return Behind(head, 0, None)
    if head == indexed:
        return Behind(head, 0, 0.0)
    source = history.source_of(root, f"{indexed}..{head}")
    since = history.commits(source, MOST_BEHIND) if source else []
    if not source or not since:
        return Behind(head, 0, None)  # another branch, or a history that was rewritten
    oldest, _ = since[-1]
    with closing(history.entries(source, [oldest])) as told:
        made = next(told).time_s
    return Behind(head, len(since), max(0.0, round(time.time() - made, 1)) if made else None)


def state_shape(data: DataFolder, index: Index, embedders: Iterable[str]) -> Json:
    """What is indexed, whether it holds still, and what waits: for vectors of these embedders, and for Chroma."""
    table = index.table
    now = standing(data, index)
    return {
        "stamp": stamp_shape(stamp(data.path, index)),
        "changed_files": len(index.changed_since(table.known_files())),
        **asdict(table.counts()),
        "redacted": len(table.redactions()) + index.log.redactions(),
        "edges": {how.value: number for how, number in index.facts.provenance().items()},
        "compiler": asdict(index.compiled.coverage()),
        "waiting_for_vectors": max((table.waiting(name) for name in embedders), default=0),
        "waiting_for_chroma": table.outbox_depth(),
        "bytes_on_disk": index.bytes_on_disk(),
        "calibration": _calibration_shape(now) if now else None,
    }


def _calibration_shape(now: Standing) -> Json:
    shifted = [unlike(now.shifts)] if now.shifts else []
    return {"calibrated_at": now.calibrated_at, "asked": now.asked, "stale": list(now.stale), "notes": shifted}


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
