"""A question's way through the tiers, for one workspace: the models behind it, what each tier takes, and the run."""

from hub.asking.costs import WIDE_TOKENS, AskOptions
from hub.asking.engines import Engines, Sources, close
from hub.asking.looking import Looking
from hub.asking.paces import Pace, Paces
from hub.asking.running import Asking, Note, notes_on, notes_on_age
from hub.asking.tiers import Analyst, Tiers

__all__ = [
    "WIDE_TOKENS",
    "Analyst",
    "AskOptions",
    "Asking",
    "Engines",
    "Looking",
    "Note",
    "Pace",
    "Paces",
    "Sources",
    "Tiers",
    "close",
    "notes_on",
    "notes_on_age",
]
