"""The values of what is remembered: notes of a session, entries that last, and what they are about. Pure."""

from dataclasses import dataclass
from enum import StrEnum

PLACE = "knowledge://"  # before the number of an entry that is cited; no path within a tree has two slashes together


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


class EntryKind(StrEnum):
    """What an entry is."""

    ARCHITECTURE = "architecture"  # how the parts fit
    DECISION = "decision"  # what was chosen, and why
    STANDARD = "standard"  # how things are to be done
    GOTCHA = "gotcha"  # what catches people out


class State(StrEnum):
    """How far an entry counts."""

    ACCEPTED = "accepted"
    PROPOSED = "proposed"  # until somebody else accepts it
    EXPIRED = "expired"  # accepted, until a day that has passed
    RETIRED = "retired"  # taken back, or never accepted
    SUPERSEDED = "superseded"  # accepted, and so was an entry that takes its place


class Review(StrEnum):
    """Who accepts an entry: the setting [knowledge] review."""

    OTHER = "other"  # somebody other than its author; whoever sits at the terminal may accept his own
    NONE = "none"  # nobody has to


@dataclass(frozen=True, slots=True)
class Anchored:
    """An anchor with a digest of the code there when it was last looked at; "" where none was found."""

    anchor: Anchor
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The document that an entry was taken from."""

    name: str  # which file, as told when it was taken in: what comes from the same name replaces it
    part: str = ""  # the heading or page within it
    digest: str = ""  # SHA-256 of the file, in hexadecimal


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody wants kept for good. What it supersedes are numbers of entries of the same workspace."""

    kind: EntryKind
    title: str  # "" takes the beginning of the text
    text: str
    anchors: tuple[Anchored, ...] = ()
    commit: str = ""  # that the tree was at
    evidence: tuple[str, ...] = ()  # path:line, commits, runs: what it rests on
    expires_at: float | None = None  # Unix time
    supersedes: tuple[int, ...] = ()
    batch: str = ""  # of one import; "" makes it a batch of its own
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept for good. Its texts are data, without secrets and covert characters. Times are Unix times."""

    id: int  # counted in its workspace
    workspace: str
    kind: EntryKind
    title: str  # one line
    text: str
    anchors: tuple[Anchored, ...]
    author: str  # a name for people
    key: str  # the id of the author's key
    commit: str
    evidence: tuple[str, ...]
    created_at: float
    expires_at: float | None
    supersedes: tuple[int, ...]
    superseded_by: tuple[int, ...]  # by what was accepted
    state: State
    reviewer: str  # who accepted or retired it; "" for nobody
    reviewed_at: float | None
    reason: str  # why it was retired
    reaffirmed_by: str  # who said last that it holds for the code as it is
    reaffirmed_at: float | None
    batch: str
    source: Source | None = None  # None where somebody wrote it
