"""How what is remembered is cleaned before it is kept, and found again by words and by names. Pure."""

from collections.abc import Iterable, Sequence
from math import log

from hub.errors import KnowledgeError
from hub.prompting import visible
from indexer.index import query_words, words
from indexer.secrets import redact

MOST_TEXT_BYTES = 16_384
MOST_TITLE_CHARS = 200
MOST_SOURCE_CHARS = 200
MOST_ANCHORS = 32
MOST_ANCHOR_CHARS = 500
MOST_RAW = 2_000  # characters of a title, a source or an anchor that are looked at
_MOST_ASKED = 32  # words of a question
_ENDINGS = ("ies", "ing", "es", "ed", "s")
_SHORTEST_STEM = 4


def clean(text: str) -> str:
    """The text as it may be kept: without secrets, covert characters spelt out."""
    return visible(redact(text)[0])


def in_one_line(text: str, most: int = MOST_ANCHOR_CHARS) -> str:
    """The same in one line of ``most`` characters, of a text whose first MOST_RAW are looked at."""
    return " ".join(clean(text[:MOST_RAW]).split())[:most]


def title_and_text(title: str, text: str) -> tuple[str, str]:
    """Both as they may be kept; without a title the text's beginning. Raises KnowledgeError for nothing or too much."""
    if len(text) > MOST_TEXT_BYTES:
        raise _too_long()
    kept_text = clean(text).strip()
    kept_title = in_one_line(title, MOST_TITLE_CHARS) or kept_text.partition("\n")[0][:80]
    if not kept_text:
        raise KnowledgeError("There is nothing to remember.", "Say what it is in `text`.")
    if len(kept_text.encode()) > MOST_TEXT_BYTES:
        raise _too_long()
    return kept_title, kept_text


def searched(texts: Iterable[str]) -> str:
    """What is kept to be searched: each word once, in the form that ``asked`` gives, a space on either side of it."""
    found = dict.fromkeys(_stem(word) for text in texts for word in words(clean(text)))
    return f" {' '.join(found)} "


def asked(query: str) -> list[str]:
    """The words of a question, each as it stands in what ``searched`` gives, with the spaces."""
    found = dict.fromkeys(map(_stem, query_words(query[:MOST_TEXT_BYTES])))
    return [f" {word} " for word in list(found)[:_MOST_ASKED]]


def ranked(rows: Sequence[Sequence[object]]) -> list[int]:
    """The numbers of what holds a word at all: those that hold the rarest first, of equals the highest number.

    A row is a number and, for each word asked for, whether it is held. A word counts log(1 + rows / holding ones).
    """
    if not rows:
        return []
    holding = [sum(bool(row[place]) for row in rows) for place in range(1, len(rows[0]))]
    worth = [log(1 + len(rows) / count) if count else 0.0 for count in holding]
    scored = [
        (sum(value for value, holds in zip(worth, row[1:], strict=True) if holds), int(str(row[0]))) for row in rows
    ]
    return [number for score, number in sorted(scored, reverse=True) if score]


def _stem(word: str) -> str:
    """The word without the endings that the same thing is called with; both sides are cut alike."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word.removesuffix(ending)
    return word


def _too_long() -> KnowledgeError:
    return KnowledgeError(
        f"A note is at most {MOST_TEXT_BYTES:,} bytes.", "Keep what matters of it, or make several notes."
    )
