"""Splits code and prose into the words that text search compares. Knows nothing of C++ beyond how names are spelt.

A name yields itself and its parts, in lower case: ``MakeRoomForWrite`` gives makeroomforwrite, make, room, for, write;
``operator==`` gives operator, equal; ``~Cache`` gives destructor, cache.
Index and query go through the same function, so that both sides always agree.
"""

import re
from functools import lru_cache
from itertools import chain

_TOKEN = re.compile(r"[^\W\d]\w*|\d+")
# Operators and destructors are names without letters: they are compared by what they are called.
_OPERATOR = re.compile(
    r"\boperator\s*(\(\s*\)|\[\s*\]|<=>|->\*?|<<=?|>>=?|[-+*/%^&|=!<>]=|&&|\|\||\+\+|--|[-+*/%^&|~!=<>,])"
)
_DESTRUCTOR = re.compile(r"~(?=\w{1,200}\s{0,4}\()|(?<=::)~(?=\w)")
_OPERATOR_NAMES = {
    "()": "call",
    "[]": "subscript",
    "<=>": "spaceship compare",
    "->": "arrow dereference",
    "->*": "arrow dereference",
    "<<": "shift left output",
    ">>": "shift right input",
    "==": "equal",
    "!=": "unequal",
    "<=": "less equal",
    ">=": "greater equal",
    "&&": "and",
    "||": "or",
    "++": "increment",
    "--": "decrement",
    "+": "plus add",
    "-": "minus subtract",
    "*": "times multiply dereference",
    "/": "divide",
    "%": "modulo",
    "^": "xor",
    "&": "bitand address",
    "|": "bitor",
    "~": "complement",
    "!": "not",
    "=": "assign",
    "<": "less",
    ">": "greater",
    ",": "comma",
}
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# English function words that carry nothing in a question about code. Left out of queries only: in a
# document they cost little, and a query of nothing but these must still be able to say so.
STOP_WORDS = frozenset(
    """a about all an and any are as at be been but by can could did do does done each for from has have how i if in
    into is it its let me my need not of on one or our out please shall should show so some than that the their them
    then there these they this to up us use used uses using want was we were what when where which while who whose
    why will with would you your""".split()
)


def words(text: str) -> list[str]:
    """All words of the text in order, names whole and in parts, lower case."""
    return list(chain.from_iterable(map(spell_out, tokens(text))))


def spelt_out(text: str) -> str:
    """The words of the text with blanks between."""
    return " ".join(map(_joined, tokens(text)))  # nothing of it runs in Python: it is done to every line of a tree


def query_words(text: str) -> list[str]:
    """The distinct words worth asking for, in order: stop words go, unless nothing else would be left."""
    distinct = list(dict.fromkeys(words(text)))
    return [word for word in distinct if word not in STOP_WORDS] or distinct


def tokens(text: str) -> list[str]:
    """The names and words of the text as they are written, in order."""
    if "operator" in text:
        text = _OPERATOR.sub(_named_operator, text)
    if "~" in text:
        text = _DESTRUCTOR.sub(" destructor ", text)
    return _TOKEN.findall(text)


def _named_operator(found: re.Match[str]) -> str:
    """``operator+=`` as operator plus add assign."""
    sign = "".join(found.group(1).split())
    called = _OPERATOR_NAMES.get(sign) or f"{_OPERATOR_NAMES[sign[:-1]]} assign"
    return f"operator {called} "


@lru_cache(maxsize=200_000)
def spell_out(token: str) -> tuple[str, ...]:
    """A token whole and in parts, lower case."""
    whole = token.strip("_").lower() or token
    if not token.isascii():
        return (whole,)
    parts = [part.lower() for part in _PART.findall(token)]
    if len(parts) <= 1:
        return (whole,)
    return (whole, *parts)


@lru_cache(maxsize=200_000)
def _joined(token: str) -> str:
    return " ".join(spell_out(token))
