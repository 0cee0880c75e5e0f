"""A prompt within its budget: what is shown of which evidence, in which order, and how it is written. Knows nothing of
where the evidence comes from, nor of the model.
"""

from hub.prompting.layout import (
    LEAST_LINES,
    MOST_EVIDENCE,
    ONE_SENTENCE_SYSTEM,
    SYSTEM,
    Foundation,
    ask_one_sentence,
    assemble,
    defused,
    fence_of,
    heading,
    visible,
)

__all__ = [
    "LEAST_LINES",
    "MOST_EVIDENCE",
    "ONE_SENTENCE_SYSTEM",
    "SYSTEM",
    "Foundation",
    "ask_one_sentence",
    "assemble",
    "defused",
    "fence_of",
    "heading",
    "visible",
]
