"""Everything is read, part after part: what tier "analysis" does about a code base past every window.

Map: files, the most relevant first, are packed into prompts that fit the window; of each part the model notes what it
says to the question. Reduce: a summarizer puts the notes together, with their labels carried through. What the model
said is kept in a journal, so that an analysis which was stopped goes on where it was. What it costs is told before it
begins, and is bounded; what the bounds leave out is named.
"""

from hub.analysis.journal import Journal, Said
from hub.analysis.planning import (
    MAP_SYSTEM,
    NOTE_TOKENS,
    PART_TOKENS,
    Bounds,
    Plan,
    Reader,
    Summarizer,
    Summary,
    planned,
)
from hub.analysis.running import REDUCE_SYSTEM, Analysed, analyse, labels_in, relabelled

__all__ = [
    "MAP_SYSTEM",
    "NOTE_TOKENS",
    "PART_TOKENS",
    "REDUCE_SYSTEM",
    "Analysed",
    "Bounds",
    "Journal",
    "Plan",
    "Reader",
    "Said",
    "Summarizer",
    "Summary",
    "analyse",
    "labels_in",
    "planned",
    "relabelled",
]
