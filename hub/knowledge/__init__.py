"""What is remembered beside the code: for the length of one task, or for good once accepted. Knows nothing of tools."""

from hub.knowledge.lasting import Lasting
from hub.knowledge.model import (
    Anchor,
    Anchored,
    Draft,
    Entry,
    EntryKind,
    Note,
    NoteKind,
    Review,
    Session,
    Source,
    State,
)
from hub.knowledge.sessions import Sessions

__all__ = [
    "Anchor",
    "Anchored",
    "Draft",
    "Entry",
    "EntryKind",
    "Lasting",
    "Note",
    "NoteKind",
    "Review",
    "Session",
    "Sessions",
    "Source",
    "State",
]
