"""How likely it is that the evidence for a right answer is in a prompt, and that a further tier would help. Pure at its
core: what was found comes in as named features, values and reasons go out.
"""

from hub.confidence.breadth import breadth_of
from hub.confidence.heads import Features, Head, Heads
from hub.confidence.observing import Search, observe, search_observed
from hub.confidence.reasons import DECLINE_BELOW, judge
from hub.confidence.shipped import SHIPPED

__all__ = [
    "DECLINE_BELOW",
    "SHIPPED",
    "Features",
    "Head",
    "Heads",
    "Search",
    "breadth_of",
    "judge",
    "observe",
    "search_observed",
]
