"""What a text asserts of a code base, and what became of each assertion. Plain values."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from indexer.model import Span


class Relation(StrEnum):
    """What two names are said to have to do with each other."""

    CALLS = "calls"
    DERIVES = "derives from"
    OVERRIDES = "overrides"
    DEFINED = "is defined in"  # the second is a path, with or without a line
    DECLARED = "is declared in"
    INCLUDES = "includes"  # both are files


class Truth(StrEnum):
    """What the tree says of an assertion. UNKNOWN where it says it by name only, or not at all."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Claim:
    """One assertion, read out of a sentence. ``guessed`` where its subject is a pronoun's."""

    relation: Relation
    subject: str
    object: str
    sentence: str
    guessed: bool = False
    indirect: bool = False  # through others: "eventually calls"

    def __str__(self) -> str:
        return f"{self.subject} {self.relation} {self.object}"


@dataclass(frozen=True, slots=True)
class Told:
    """What the tree says, and where."""

    truth: Truth
    places: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """An assertion with its judgement: ``claim`` says it in short, ``places`` are lines that speak to it."""

    claim: str
    sentence: str
    truth: Truth
    places: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What can be asked of a tree. Each callable may say that it does not know; none raises."""

    stands: Callable[[str], bool]  # whether a name stands anywhere in the tree
    edge: Callable[[Claim], Told]
    lines: Callable[[Span], str]  # the text of lines, as much of it as is known


def _unasked(_claim: Claim) -> Told:
    return Told(Truth.UNKNOWN)


# For texts about nothing that is indexed: no name is doubted, no edge is judged.
NOTHING_KNOWN = Known(lambda _name: True, _unasked, lambda _span: "")


@dataclass(frozen=True, slots=True)
class Checks:
    """What was found true and untrue of a text. Names and labels as written, in order, each once."""

    resolved: int = 0  # citations that name lines of the prompt
    unresolved: tuple[str, ...] = ()  # those that do not
    apart: tuple[Finding, ...] = ()  # sentences of whose names the lines that they cite hold none
    quotes_right: tuple[Finding, ...] = ()  # quoted code, strings and numbers
    quotes_wrong: tuple[Finding, ...] = ()
    names_in_pack: tuple[str, ...] = ()
    names_in_repository: tuple[str, ...] = ()
    names_nowhere: tuple[str, ...] = ()
    edges_right: tuple[Finding, ...] = ()
    edges_wrong: tuple[Finding, ...] = ()
    edges_unknown: tuple[Finding, ...] = ()
    parts: int = 1  # of the question
    unanswered: tuple[str, ...] = ()  # those that the text does not touch

    @property
    def failed(self) -> bool:
        """Whether anything that the text asserts is untrue."""
        return bool(self.edges_wrong or self.quotes_wrong or self.names_nowhere)
