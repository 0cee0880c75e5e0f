"""An indexed tree as a full load reads it: its texts as they may be shown, and the order in which its files matter.

That order hardly moves when files are edited and does not depend on any question, so that all questions share a prefix.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hub.fullload.entries import shown
from hub.fullload.log import Ranking
from hub.retrieval import is_test_path
from indexer.index import Index

MOST_SYMBOLS = 1_000_000  # whose part in the graph is added up for their files
_VENDORED = re.compile(r"(?:^|/)(?:third[_-]?party|3rd[_-]?party|vendor|vendored|external|extern|deps|bundled)(?:/|$)")
_HEADER = re.compile(r"\.(?:h|hh|hpp|hxx|h\+\+|cuh|ixx|cppm)$")
_DOCUMENT = re.compile(r"\.(?:md|markdown|rst|txt|text|cmake)$")


@dataclass(frozen=True, slots=True)
class Tree:
    """A state of the tree. Texts are made when they are first asked for."""

    sources: Mapping[str, str]  # path to the digest of the file's bytes
    texts: Mapping[str, str]  # path to the text as it may be shown
    ranking: Callable[[], Ranking]


def tree_of(index: Index, admits: Callable[[str], bool] = lambda _path: True) -> Tree:
    """The tree as it is indexed, so that it shows what search finds and leaves out what search leaves out.

    ``admits`` may keep further paths out of every prompt.
    """
    sources = {path: known.digest for path, known in sorted(index.table.known_files().items()) if admits(path)}
    return Tree(sources, _Texts(index, sources), lambda: _ranking(index, sources))


class _Texts(Mapping[str, str]):
    def __init__(self, index: Index, sources: Mapping[str, str]) -> None:
        self._index = index
        self._sources = sources

    def __getitem__(self, path: str) -> str:
        if path not in self._sources:
            raise KeyError(path)
        return shown("".join(chunk.text for chunk in self._index.table.chunks_of(path)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _ranking(index: Index, sources: Mapping[str, str]) -> Ranking:
    files: dict[str, str] = {}
    for symbol in index.facts.all_symbols():
        if symbol.is_definition or symbol.id not in files:
            files[symbol.id] = symbol.span.path
    mass: dict[str, float] = {}
    for found, value in index.walk.important(MOST_SYMBOLS):
        if found in files:
            mass[files[found]] = mass.get(files[found], 0.0) + value
    worth = sorted(sources, key=lambda path: (standing(path), -round(mass.get(path, 0.0), 9), path))
    return Ranking(tuple(sorted(sources)), tuple(worth))


def standing(path: str) -> int:
    """What a file is for, by its path: public headers come first, then the code, documents, tests, other people's."""
    if _VENDORED.search(path.lower()):
        return 5
    if is_test_path(path):
        return 4
    if _DOCUMENT.search(path.lower()):
        return 0 if path.upper().startswith("README") else 3
    if _HEADER.search(path.lower()):
        return 1
    return 2
