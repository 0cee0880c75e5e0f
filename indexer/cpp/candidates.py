"""Finds the names of a file that may be macros to act upon, among hundreds of thousands of words that are not.

A file is cut into words once. What a name means, or sounds like when nothing defines it, is worked out once for all
files. It does not look at what stands around a name.
"""

from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from itertools import islice

from indexer.cpp.frameworks import sounds_like_annotation, sounds_like_decoration
from indexer.cpp.macros import SHOUTED, Kind, Macros, Meaning

WORD_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_NO_WORD = bytes(byte if byte in WORD_BYTES else 32 for byte in range(256))
_MAX_KNOWN = 50_000
_MAX_CANDIDATES = 80_000  # of one file; those behind them stay as they are, nobody writes as many


class Sound(IntEnum):
    """What the spelling of a macro says that nothing defines."""

    PLAIN = 0
    DECORATES = 1
    ANNOTATES = 2


Candidate = tuple[int, bytes, Meaning | Sound]  # offset, name, what is known of it


def candidates(code: bytes, macros: Macros, more: frozenset[bytes]) -> tuple[list[Candidate], frozenset[bytes]]:
    """The candidates of a skeleton by offset, and which of ``more`` words stand in it."""
    words = code.translate(_NO_WORD).split()
    present = (macros.odd_names | more).intersection(words)
    known = _known(macros)
    found: list[Candidate] = []
    at = 0
    for name in filter(bytes.isupper, words):
        what = known[name]
        if what is not None:
            at = _find(code, name, at)
            found.append((at, name, what))
            at += len(name)
            if len(found) == _MAX_CANDIDATES:
                break
    for name in macros.odd_names & present:
        what = known[name]
        if what is not None:
            found += [(start, name, what) for start in islice(_places(code, name), _MAX_CANDIDATES)]
    found.sort()
    return found[:_MAX_CANDIDATES], present


class _Known(dict[bytes, Meaning | Sound | None]):
    """What to think of each name. None: it never matters."""

    def __init__(self, macros: Macros) -> None:
        super().__init__()
        self._macros = macros

    def __missing__(self, name: bytes) -> Meaning | Sound | None:
        if len(self) > _MAX_KNOWN:
            self.clear()
        text = name.decode()
        meaning = self._macros.get(text)
        found: Meaning | Sound | None = meaning
        if meaning is None and SHOUTED.fullmatch(text):
            annotates, decorates = sounds_like_annotation(name), sounds_like_decoration(name)
            found = Sound.ANNOTATES if annotates else Sound.DECORATES if decorates else Sound.PLAIN
        elif meaning is not None and meaning.kind is Kind.VALUE:
            found = None
        self[name] = found
        return found


@lru_cache(maxsize=8)
def _known(macros: Macros) -> _Known:
    return _Known(macros)


def _find(code: bytes, word: bytes, start: int) -> int:
    """Where a word stands next, or -1."""
    start = code.find(word, start)
    while start >= 0:
        end = start + len(word)
        if (not start or code[start - 1] not in WORD_BYTES) and (end >= len(code) or code[end] not in WORD_BYTES):
            return start
        start = code.find(word, start + 1)
    return -1


def _places(code: bytes, word: bytes) -> Iterator[int]:
    start = _find(code, word, 0)
    while start >= 0:
        yield start
        start = _find(code, word, start + len(word))
