"""Reads a question: its words, the names in it that can only be code, and what kind of question it is.

Knows nothing of any index.
"""

import re

from hub.model import PasteKind, Query, QuestionKind
from hub.retrieval.pasted import read_paste
from indexer.index import query_words

# Bounds on what is read out of one question; what is pasted may be far longer than what is asked.
MOST_NAME_CHARS = 300  # of one name; the longest of real trees
MOST_NAMES = 16  # looked up; 8 to 64
MOST_READ_CHARS = 20_000  # read for names
LEAST_TOLD = 12  # words around a paste, from which on they tell of a change; 8 to 30

# The name of an operator function as it is typed, a part of other patterns.
OPERATOR = r"operator(?:\s*(?:\(\)|\[\]|[-+*/%^&|~!=<>,]{1,3})|\s+(?:new|delete)\b(?:\[\])?)"
# Every branch reads a word once: what may repeat excludes what comes after it.
_CODE_NAME = re.compile(
    rf"`([^`\n]{{1,{MOST_NAME_CHARS}}})`"  # quoted by the writer
    rf"|(?<!\w)((?:::)?[A-Za-z_]\w*(?:::(?:{OPERATOR}|~?[A-Za-z_]\w*))+)"  # qualified
    rf"|(\b{OPERATOR})"
    r"|(\b[A-Za-z]\w*_\w*\b|\b_\w+\b)"  # snake_case, kMember_, MACRO_NAME
    r"|(\b[a-z]+[A-Z]\w*\b|\b[A-Z][^\Wa-z]*[a-z][^\WA-Z]*[A-Z]\w*\b)"  # lowerCamel, UpperCamel with two humps
    r"|(\b[A-Z]{2,}[a-z]{2,}\w*\b)"  # DBImpl, but no plural such as URLs
    r"|(~?\b[A-Za-z_]\w*)(?=\(\))"  # called
)
_WORD = re.compile(r"~?[A-Za-z_]\w*")
_TEST_WORDS = frozenset({"test", "tests", "tested", "testing", "unittest", "benchmark", "benchmarks"})
# How the subject of a commit begins: an order. What a function does is told in the third person instead.
_ORDERS = frozenset(
    """add added adds allow avoid bump change changed clean cleanup convert correct disable document drop enable ensure
    expose extend fix fixed fixes fixing handle implement implemented improve improved introduce make merge move moved
    optimize port prevent reduce refactor remove removed removes rename renamed replace replaced restore revert rewrite
    simplify skip speed split support switch tweak update updated upgrade use""".split()
)


def understand(text: str) -> Query:
    """Reads a question: its words, the names in it that can only be code, and what was pasted into it."""
    paste = read_paste(text)
    if paste:
        terms = tuple(query_words(paste.wording))
        identifiers = tuple(dict.fromkeys((*paste.names, *_names(paste.prose))))[:MOST_NAMES]
        about = _kind(paste.prose, identifiers)
        # A place may be but a part of what is asked, and a trace but the reason of a change that is told at length.
        asks = paste.kind is PasteKind.PLACE and paste.prose
        tells = about is QuestionKind.CHANGE and len(paste.prose.split()) >= LEAST_TOLD
        kind = about if asks or tells else QuestionKind.PASTE
        about_tests = paste.kind is PasteKind.TEST or not _TEST_WORDS.isdisjoint(query_words(paste.prose))
        return Query(text, terms, identifiers, about_tests, kind, paste)
    terms = tuple(query_words(text))
    identifiers = _names(text)
    return Query(
        text,
        terms,
        identifiers,
        mentions_tests=not _TEST_WORDS.isdisjoint(terms),
        kind=_kind(text, identifiers),
    )


def _names(text: str) -> tuple[str, ...]:
    read = text[:MOST_READ_CHARS]
    names = [next(group for group in match.groups() if group) for match in _CODE_NAME.finditer(read)]
    bare = read.strip()
    if not names and _WORD.fullmatch(bare):
        names = [bare]
    found = (_uncalled(name.strip()) for name in names if len(name) <= MOST_NAME_CHARS and _WORD.search(name))
    return tuple(dict.fromkeys(found))[:MOST_NAMES]


def is_bare_name(query: Query) -> bool:
    """Whether the question is one name and nothing else."""
    return query.kind is QuestionKind.NAME


def _kind(text: str, identifiers: tuple[str, ...]) -> QuestionKind:
    bare = text.strip()
    if identifiers == (_uncalled(bare.strip("`").strip()),):
        return QuestionKind.NAME
    first = _WORD.match(bare)
    if first and "?" not in text and first.group().lower() in _ORDERS:
        return QuestionKind.CHANGE
    return QuestionKind.MIXED if identifiers else QuestionKind.PROSE


def _uncalled(name: str) -> str:
    """A name without the empty parentheses of a call; those of ``operator()`` belong to it."""
    return name if name.removesuffix("()").rstrip().endswith("operator") else name.removesuffix("()")
