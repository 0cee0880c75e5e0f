"""What a search is narrowed to: files by their paths, chunks by the kind of thing that they show.

The arms look for their best among what is left, so however little that is, what fits is found. How rare a word is goes
by the whole tree. A search that nothing is taken from finds what it finds without.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property, lru_cache

from indexer.errors import QuestionError
from indexer.index import Index
from indexer.model import ChunkId, SymbolKind

MOST_PATHS = 32
MOST_PATH_CHARS = 1_000
_MOST_KEPT = 16  # of what searches were narrowed to: up to 2 MB each for 25,000 chunks


@dataclass(frozen=True)
class Filters:
    """Any of the paths, and any of the kinds; an empty one lets everything through.

    A path is a file, a folder, or a pattern in which ``*`` and ``?`` stand for anything, slashes too. A pattern without
    a slash is compared with the names of files. Raises QuestionError for more, or longer ones, than make sense.
    """

    paths: tuple[str, ...] = ()
    kinds: tuple[SymbolKind, ...] = ()

    def __post_init__(self) -> None:
        if len(self.paths) > MOST_PATHS or any(len(path) > MOST_PATH_CHARS for path in self.paths):
            raise QuestionError(
                "That is too much to narrow a search by.",
                f"Give {MOST_PATHS} paths at most, of {MOST_PATH_CHARS} characters each.",
            )

    def __bool__(self) -> bool:
        return bool(self.paths or self.kinds)

    def matches(self, path: str) -> bool:
        """Whether a file's path is one of those asked for."""
        return not self.paths or any(test(path) for test in self._tests)

    @cached_property
    def _tests(self) -> tuple[Callable[[str], bool], ...]:
        return tuple(_test(path) for path in self.paths)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The chunks that a search is among, and a test for the paths of its files."""

    chunks: frozenset[ChunkId]
    holds: Callable[[str], bool]


def narrowed(index: Index, filters: Filters) -> Narrowing:
    """What of an index is left; kept until the index changes, for whoever narrows a search like that again."""
    known = index.shared("narrowings", index.generation(), dict[Filters, Narrowing])
    found = known.get(filters)
    if found is None:
        if len(known) >= _MOST_KEPT:
            known.clear()
        found = known[filters] = _narrowed(index, filters)
    return found


def _narrowed(index: Index, filters: Filters) -> Narrowing:
    paths = [path for path in index.table.known_files() if filters.matches(path)]
    chunks = index.catalogue.of_files(paths)
    if filters.kinds:
        wanted = {kind.value for kind in filters.kinds}
        chunks = [chunk for chunk, card in index.catalogue.cards(chunks).items() if card.kind in wanted]
        paths = list({card.place.path for card in index.catalogue.cards(chunks).values()})
    return Narrowing(frozenset(chunks), frozenset(paths).__contains__)


@lru_cache(maxsize=256)
def _test(wanted: str) -> Callable[[str], bool]:
    plain = wanted.removeprefix("./")
    if not re.search(r"[*?\[]", plain):
        folder = plain.rstrip("/") + "/"
        return lambda path: path == plain or path.startswith(folder)
    # Runs of asterisks are one: each more would cost a hostile pattern another power of time.
    found = re.compile(translate(re.sub(r"\*+", "*", plain)))
    if "/" in plain:
        return lambda path: found.match(path) is not None
    return lambda path: found.match(path.rpartition("/")[2]) is not None
