"""A prompt within its budget: what is shown of which evidence, in which order, and how it is written. Knows nothing of
where the evidence comes from, nor of the model.
"""

from hub.prompting.layout import (
    ONE_SENTENCE_SYSTEM,
    Foundation,
    ask_one_sentence,
    defused,
    fence_of,
    heading,
    visible,
)
from hub.prompting.packing import LEAST_LINES, SYSTEM, Part, Passage, Stretch, pack

__all__ = [
    "LEAST_LINES",
    "ONE_SENTENCE_SYSTEM",
    "SYSTEM",
    "Foundation",
    "Part",
    "Passage",
    "Stretch",
    "ask_one_sentence",
    "defused",
    "fence_of",
    "heading",
    "pack",
    "visible",
]
