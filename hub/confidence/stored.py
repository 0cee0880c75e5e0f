"""What calibrating has found out about a tree, as it stands in its index: the heads, and what they were made at."""

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b

from hub.confidence.drift import Spread, Taken
from hub.confidence.heads import Heads
from hub.confidence.shipped import SHIPPED
from indexer.index import Index

STORED = "confidence"  # of the index's notes on itself: the heads
RECORD = "confidence_record"  # likewise: how they came about
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """When and at what a tree was calibrated, and how its questions were spread."""

    calibrated_at: str  # ISO 8601
    taken: Taken
    asked: int  # questions
    spreads: tuple[Spread, ...]

    def dumps(self) -> str:
        """As JSON, to be kept with an index."""
        return json.dumps({"version": _VERSION, **asdict(self)}, sort_keys=True)

    @staticmethod
    def loads(text: str) -> "Record | None":
        """What ``dumps`` gave; None for anything else, other versions among it."""
        try:
            told = json.loads(text)
            if told["version"] != _VERSION:
                return None
            spreads = tuple(
                Spread(str(entry["name"]), tuple(map(float, entry["ends"])), tuple(map(int, entry["counts"])))
                for entry in told["spreads"]
            )
            return Record(str(told["calibrated_at"]), Taken(**told["taken"]), int(told["asked"]), spreads)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def stored_heads(index: Index) -> Heads | None:
    """The heads that were calibrated for this tree; None where there are none, or of another version."""
    text = index.table.meta().get(STORED)
    return Heads.loads(text) if text else None


def stored_record(index: Index) -> Record | None:
    """How they came about; None where the tree was never calibrated."""
    text = index.table.meta().get(RECORD)
    return Record.loads(text) if text else None


def store(index: Index, heads: Heads, record: Record) -> None:
    """Keeps both in the index, from where the next question takes them. The caller owns the data folder."""
    index.table.set_meta({STORED: heads.dumps(), RECORD: record.dumps()})


def version_of_shipped() -> str:
    """Changes whenever the heads that ship do."""
    return blake2b(SHIPPED.dumps().encode(), digest_size=6).hexdigest()
