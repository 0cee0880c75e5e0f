"""The values of what is remembered: notes, what they are about, and the session that they belong to. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class NoteKind(StrEnum):
    """What a note is, which says how far to believe it."""

    NOTE = "note"  # somebody's own words
    FINDING = "finding"  # what the output of a run told
    DIFF = "diff"  # what a patch changed
    RUN = "run"  # what became of a run


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a note is about: a symbol, a place, or both. "" and 0 where it is not known."""

    symbol: str = ""  # a qualified name
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """One thing remembered. Its texts are data, and hold neither secrets nor covert characters."""

    id: int  # grows with each note of a data folder
    kind: NoteKind
    title: str  # one line
    text: str
    anchors: tuple[Anchor, ...]
    source: str  # who or what says so
    made_at: float  # Unix time
    later: str = ""  # what has happened since that may make it untrue; "" for nothing


@dataclass(frozen=True, slots=True)
class Session:
    """What one key remembers during one task in one workspace. Its handle is shown once and stored nowhere."""

    handle: str
    workspace: str
    until: float  # Unix time at which everything in it is gone
