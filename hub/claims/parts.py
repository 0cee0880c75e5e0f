"""The parts of a question, and which of them an answer does not touch. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hub.claims.model import Claim, Relation
from hub.claims.names import CODE_WORD, LANGUAGE, NAME

MOST_PARTS = 8  # of one question; a paste is no question of many parts

_ASKING = (
    r"(?:what|who|where|when|why|how|which|whose|does|do|is|are|can|explain|describe|list|show|tell|name|give|find)"
)
_SPLIT = re.compile(
    rf"\?\s+(?=\S)|(?:,|;)?\s+(?:and|or|but)(?:\s+(?:also|then|in particular))?\s+(?={_ASKING}\b)"
    rf"|[,;]\s+(?={_ASKING}\b)|\n+",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z]{4,}")
# What a part asks for, and the beginnings of the words that an answer to it says.
_RELATIONS = (
    (
        re.compile(r"\b(?:calls?|called|callers?|invokes?|invoked)\b", re.IGNORECASE),
        ("call", "invok", "caller"),
        Relation.CALLS,
    ),
    (
        re.compile(
            r"\b(?:derives?|derived|inherits?|inherited|subclass(?:es)?|base class(?:es)?|extends?)\b", re.IGNORECASE
        ),
        ("deriv", "inherit", "subclass", "base", "extend", "parent", "implement"),
        Relation.DERIVES,
    ),
    (re.compile(r"\boverrid(?:e|es|den)\b", re.IGNORECASE), ("overrid", "reimplement"), Relation.OVERRIDES),
    (
        re.compile(r"\bwhere\b.*\b(?:defined|declared|implemented|located)\b", re.IGNORECASE),
        ("defin", "declar", "implement", "stands", "locat", "found", "lives"),
        Relation.DEFINED,
    ),
    (re.compile(r"\bincludes?\b|\bincluded\b", re.IGNORECASE), ("includ",), Relation.INCLUDES),
)
_NO_SUBJECT = frozenset(
    """about also another any could does each every explain describe exactly find from give have here into just like
    list made make many more most much name need needs only other over please show some such tell than that
    their them then there these they thing things this those uses used using what when where which while whose
    will with work works would your code function functions class classes method methods file files called calls
    happens mean means done""".split()
)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is asked. ``names`` are those that only it names, or all where it is the first."""

    text: str
    names: tuple[str, ...]
    words: tuple[str, ...]  # beginnings of its other words
    relations: tuple[int, ...]  # numbers of the relations it asks for


def parts_of(question: str) -> tuple[Part, ...]:
    """What is asked, in order; at least one part unless the question is empty."""
    texts = [text.strip(" ,;?.") for text in _SPLIT.split(question) if text and text.strip(" ,;?.")]
    return tuple(_part(text) for text in texts[:MOST_PARTS])


def untouched(parts: Sequence[Part], text: str, claims: Iterable[Claim]) -> tuple[str, ...]:
    """The parts whose names, relation and words a text does not say. Of a question in one part none is ever untouched
    that the text says any name or word of.
    """
    said = set(NAME.findall(text))
    low = text.lower()
    relations = {claim.relation for claim in claims}
    return tuple(part.text for part in parts if not _touched(part, said, low, relations))


def _part(text: str) -> Part:
    names = [
        name
        for match in CODE_WORD.finditer(text)
        for name in NAME.findall(next(group for group in match.groups() if group))
        if name not in LANGUAGE
    ]
    words = [word.lower() for word in _WORD.findall(CODE_WORD.sub(" ", text))]
    relations = tuple(number for number, (form, _, _) in enumerate(_RELATIONS) if form.search(text))
    spoken = {stem for number in relations for stem in _RELATIONS[number][1]}
    stems = [_stem(word) for word in words if word not in _NO_SUBJECT and not any(word.startswith(s) for s in spoken)]
    return Part(text, tuple(dict.fromkeys(names)), tuple(dict.fromkeys(stems)), relations)


def _touched(part: Part, said: set[str], low: str, relations: set[Relation]) -> bool:
    for number in part.relations:
        _, stems, relation = _RELATIONS[number]
        if relation not in relations and not any(stem in low for stem in stems):
            return False
    if part.names:
        return not said.isdisjoint(part.names) or bool(part.relations)
    return not part.words or bool(part.relations) or any(stem in low for stem in part.words)


def _stem(word: str) -> str:
    """Enough of a word to find its other forms: of "eviction" what "evicted" has too."""
    return word[: max(4, len(word) - 3)]
