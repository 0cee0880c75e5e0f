"""What is remembered beside the code: for the length of one task, by whoever works on it. Knows nothing of tools."""

from hub.knowledge.model import Anchor, Note, NoteKind, Session
from hub.knowledge.sessions import Sessions

__all__ = ["Anchor", "Note", "NoteKind", "Session", "Sessions"]
