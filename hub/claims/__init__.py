"""What a text asserts of a code base, looked up: citations, quotes, names, calls, bases, overrides, places.

Deterministic, no model. Reads plain English sentences about code, and is silent where it does not understand one.
Knows nothing of who wrote the text.
"""

from hub.claims.checking import check
from hub.claims.model import NOTHING_KNOWN, Checks, Claim, Finding, Known, Relation, Told, Truth
from hub.claims.tree import known_of

__all__ = ["NOTHING_KNOWN", "Checks", "Claim", "Finding", "Known", "Relation", "Told", "Truth", "check", "known_of"]
