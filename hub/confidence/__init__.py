"""How likely it is that the evidence for a right answer is in a prompt, and that a further tier would help. Pure at its
core: what was found comes in as named features, values and reasons go out.
"""

from hub.confidence.assessing import DECLINE_BELOW, LOOKED_AT, WEIGHTS, assess

__all__ = ["DECLINE_BELOW", "LOOKED_AT", "WEIGHTS", "assess"]
