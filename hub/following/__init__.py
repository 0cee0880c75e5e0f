"""Which trees are followed at this moment, and how far each index is behind its tree.

The one process that follows writes down how it stands, and whoever wants to know reads that. What following does this
does not know.
"""

from hub.following.behind import Stamped, behind_words, stamp, stamped
from hub.following.state import Followed, Keeper, Last, Mode, State, followed_shape, following, state, words_of

__all__ = [
    "Followed",
    "Keeper",
    "Last",
    "Mode",
    "Stamped",
    "State",
    "behind_words",
    "followed_shape",
    "following",
    "stamp",
    "stamped",
    "state",
    "words_of",
]
