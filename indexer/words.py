"""Splits code and prose into the words that text search compares. Knows nothing of C++ beyond how names are spelt.

A name yields itself and its parts, in lower case: ``MakeRoomForWrite`` gives makeroomforwrite, make, room, for, write.
Index and query go through the same function, so that both sides always agree.
"""

import re
from functools import lru_cache

_TOKEN = re.compile(r"[^\W\d]\w*|\d+")
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
    found: list[str] = []
    for token in _TOKEN.findall(text):
        found.extend(_spell_out(token))
    return found


def query_words(text: str) -> list[str]:
    """The distinct words worth asking for, in order: stop words go, unless nothing else would be left."""
    distinct = list(dict.fromkeys(words(text)))
    return [word for word in distinct if word not in STOP_WORDS] or distinct


@lru_cache(maxsize=200_000)
def _spell_out(token: str) -> tuple[str, ...]:
    whole = token.strip("_").lower() or token
    if not token.isascii():
        return (whole,)
    parts = [part.lower() for part in _PART.findall(token)]
    if len(parts) <= 1:
        return (whole,)
    return (whole, *parts)
