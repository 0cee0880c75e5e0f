"""How much of a code base a question is about, read off its words. Pure; knows no index."""

import re

from hub.model import Breadth, Query, QuestionKind

_READ_CHARS = 4_000  # of a question; 500 to 20,000
_RELATION = re.compile(
    r"\b(?:who|what|which\s+\w{1,40})\s+(?:directly\s+|also\s+)?"
    r"(?:calls?|invokes?|uses?|includes?|overrides?|inherits?|derives?|extends?|implements?|references?)\b"
    r"|\b(?:callers?|callees?|call sites?|users|usages?|subclass(?:es)?|derived (?:classes|types)|base class(?:es)?"
    r"|overriders?|overrides|implementations?|implementers?|includers?|references) (?:of|to)\b"
    r"|\bwhere\b.{1,120}\b(?:used|called|referenced|overridden|included|instantiated|implemented by)\b"
    r"|\b(?:derives?|inherits?|inherited) from\b|\b(?:is|are|gets?) (?:called|overridden|included|used) by\b",
    re.IGNORECASE | re.DOTALL,
)
_GLOBAL = re.compile(
    r"\b(?:architecture|overview|big picture|(?:main|major|core) (?:components|modules|parts|subsystems|classes))\b"
    r"|\b(?:all|every|each)(?: of)?(?: the)? "
    r"(?:places?|files?|classes|modules?|functions?|components?|call sites?|spots?)\b"
    r"|\beverywhere\b|\bthroughout\b|\bacross the (?:\w{1,30} )?(?:code ?base|project|repository|library|tree|system)\b"
    r"|\b(?:whole|entire) (?:code ?base|project|repository|repo|library|tree|system|program)\b"
    r"|\bhow is (?:the|this) (?:\w{1,30} )?(?:code(?: ?base)?|project|repository|library|tree|system) "
    r"(?:organi[sz]ed|structured|laid out|divided|built up)\b"
    r"|\b(?:summari[sz]e|describe|explain) (?:the|this) (?:\w{1,30} )?(?:code ?base|project|repository|repo|library)\b",
    re.IGNORECASE,
)


def breadth_of(query: Query) -> Breadth:
    """GLOBAL where the words ask for much of the code, RELATION where they ask what relates to one thing."""
    if query.kind in {QuestionKind.NAME, QuestionKind.PASTE, QuestionKind.CHANGE}:
        return Breadth.POINT
    text = query.text[:_READ_CHARS]
    if _GLOBAL.search(text):
        return Breadth.GLOBAL
    return Breadth.RELATION if _RELATION.search(text) else Breadth.POINT
