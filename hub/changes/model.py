"""The values of what changed between two commits, and why. Plain and frozen; each text in them is data of others."""

from dataclasses import dataclass, field
from enum import StrEnum

from hub import reasons
from hub.impact import Reached
from hub.knowledge.pulls import Pull
from indexer.comparing import ChangeKind, SymbolChange
from indexer.history import FileStatus

__all__ = [
    "ChangeKind",
    "ChangedDocument",
    "ChangedFile",
    "Changes",
    "FileStatus",
    "Landing",
    "Range",
    "Source",
    "Summary",
    "SymbolChange",
    "Told",
]


class Landing(StrEnum):
    """How a stretch of history reached the branch that is indexed."""

    MERGE = "merge"  # a commit with several parents
    SQUASH = "squash"  # one commit that stands for a pull request
    PULL = "pull"  # what came between two states of the index, with neither of those in it
    ASKED = "asked"  # somebody asked for this stretch


@dataclass(frozen=True, slots=True)
class Range:
    """What lies between two commits. ``base`` is "" before the first commit; both are full hashes."""

    base: str
    head: str
    landing: Landing = Landing.ASKED


@dataclass(frozen=True, slots=True)
class Told:
    """A commit of the range, as far as its message goes."""

    commit: str
    subject: str
    body: str
    author: str
    time_s: int  # Unix time
    merge: bool


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A regular file that differs, with what it was called before where that is another name."""

    status: FileStatus
    path: str
    before: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedDocument:
    """A document that the range touches, or that its messages name."""

    path: str
    how: str
    recorded: bool  # where records of decisions are kept


@dataclass(frozen=True, slots=True)
class Source:
    """What a statement of a summary rests on: a commit, a place or a pull request, by the name it has in the text."""

    label: int
    what: str  # a hash, ``path:line``, ``#12``, or the range itself
    title: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The range in a few sentences. ``generated`` by a model, or put together out of what is known."""

    text: str
    generated: bool = False
    model: str = ""
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """All that is known of a range. Commits newest first; files, symbols and documents by path."""

    base: str
    head: str
    landing: Landing
    commits: tuple[Told, ...]
    files: tuple[ChangedFile, ...]
    symbols: tuple[SymbolChange, ...]
    pull_requests: tuple[Pull, ...] = ()
    issues: tuple[str, ...] = ()
    documents: tuple[ChangedDocument, ...] = ()
    summary: Summary = field(default_factory=lambda: Summary(""))
    notes: tuple[str, ...] = ()  # what was cut, or could not be read
    reached: tuple[Reached, ...] = ()  # by what its symbols are used, one step far; where it was asked for
    total_reached: int = 0
    total_commits: int = 0
    total_files: int = 0
    whole: bool = True  # False where time was up: what was read then is not kept

    @property
    def empty(self) -> bool:
        """Whether nothing lies between the two."""
        return not (self.commits or self.files)

    @property
    def time_s(self) -> int:
        """Unix time of its newest commit; 0 without one."""
        return max((told.time_s for told in self.commits), default=0)

    @property
    def title(self) -> str:
        """One line to know it by: the pull request's, else the subject of the commit that brought it in."""
        if self.pull_requests:
            return f"{self.pull_requests[0].title} ({self.pull_requests[0].called})"
        if not self.commits:
            return ""
        first = self.commits[0]
        if not first.merge or not first.subject.startswith("Merge "):
            return first.subject
        # What a place writes into a merge's subject says nothing; the title of its pull request stands below.
        below = next((said.text for said in reasons.sentences(first.body)), "")
        own = [told.subject for told in self.commits if not told.merge]
        return f"{below or (own[0] if len(own) == 1 else '') or first.subject}"
