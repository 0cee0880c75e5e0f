"""An indexed tree as a full load reads it: its texts as they may be shown, and the order in which its files matter.

That order hardly moves when files are edited and does not depend on any question, so that all questions share a prefix.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hub.evidence.skeleton import masses, standing
from hub.fullload.entries import shown
from hub.fullload.log import Ranking
from indexer.index import Index

# How files are chosen, each with its range. Of the descriptions asked of seastar, ceres-solver, qpdf and folly, which
# do not fit 256K, this shows the files of .30, .35, .54 and .10, by mass alone .22, .36, .50 and .09, headers first
# .22, .19, .06 and .10. Without knowing the question none does much better.
LENGTH_POWER = 0.75  # of its length, that what a file is worth is divided by; 0 to 1
SHORT_BYTES = 200  # that a file counts as at least; 50 to 1,000


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
    """Where not all files fit: a README, the code that most of the rest leans on for its length, documents, tests."""
    sizes = {path: known.size for path, known in index.table.known_files().items()}
    leaning = {path: sum(mass for _, mass in chunks) for path, chunks in masses(index).items()}

    def worth(path: str) -> tuple[int, float, str]:
        told = leaning.get(path, 0.0) / max(sizes.get(path, 0), SHORT_BYTES) ** LENGTH_POWER
        return _GROUPS.get(standing(path), standing(path)), -float(f"{told:.6g}"), path

    return Ranking(tuple(sorted(sources)), tuple(sorted(sources, key=worth)))


_GROUPS = {1: 2}  # headers alone tell little: they compete with the code
