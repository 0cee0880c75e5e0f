"""The full load of one workspace and model: read from disk, brought up to date with the tree, kept for the next time.

A compaction is prepared beside what is asked with, so that a model can read it before it takes its place. Knows
nothing of models but how they count, and nothing of questions.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import RLock

from hub.fullload.entries import SYSTEM, Sheet
from hub.fullload.log import Count, Log, Room, laid_out, updated
from hub.fullload.store import DamagedError, Kept, Shelf, forget_oldest
from hub.fullload.tree import Tree
from hub.model import Prompt
from hub.prompting import Foundation
from indexer.errors import DataFolderError
from indexer.model import Span

_LOOKS = 2  # at what is kept: another process may replace it between two reads


@dataclass(frozen=True, slots=True)
class FullLoad:
    """The part of a prompt that stays the same from question to question, and what it says."""

    text: str
    tokens: int
    sheets: Mapping[str, Sheet]  # of every file that is shown
    left_out: tuple[str, ...]  # files that are there and not shown, by path
    stale_tokens: int  # about how much of it no longer holds
    due: bool  # whether a compaction would pay
    notes: tuple[str, ...] = ()

    def foundation(self, count: Count) -> Foundation:
        """What every prompt with this load begins with."""
        return Foundation(SYSTEM, self.text, count(SYSTEM) + self.tokens)

    def prompt(self, count: Count) -> Prompt:
        """The load alone, for an engine to read before the question comes."""
        return Prompt(SYSTEM, self.text, (), (), count(SYSTEM) + self.tokens)

    def place(self, path: str, first: int, last: int) -> Span | None:
        """Where the lines of these numbers stand today; None where one of the two does not, or they are none.

        A path may be given by its end where that names one file.
        """
        if path not in self.sheets:
            found = [known for known in self.sheets if known.endswith(f"/{path}")]
            if len(found) != 1:
                return None
            path = found[0]
        one, other = self.sheets[path].today(first), self.sheets[path].today(last)
        return Span(path, one, other) if one is not None and other is not None and one <= other else None


class Loader:
    """Full loads in one folder. ``writing`` holds the lock of the data folder, raising DataFolderError where it cannot.

    Where the folder cannot be written the load is the same; only the next one may have to be laid out anew.
    """

    def __init__(self, folder: Path, writing: Callable[[], AbstractContextManager[object]]) -> None:
        self._shelf = Shelf(folder)
        self._writing = writing
        self._lock = RLock()
        self._known: tuple[Kept | None, Kept | None] | None = None
        self._read_at = 0

    def current(self, tree: Tree, room: Room) -> FullLoad:
        """What to ask with: all of the last one, and what changed since. Raises PromptTooLong, BackendError."""
        with self._lock:
            (kept, following), notes = self._read()
            fresh = _fresh(kept, tree, room)
            if kept is None or fresh is not kept:
                notes += self._keep(fresh, following if fresh.name else None)
            return _load(fresh, notes, room)

    def prepared(self, tree: Tree, room: Room) -> FullLoad | None:
        """What shall take the place of the current one once a model has read it; None where nothing is due."""
        with self._lock:
            (kept, following), notes = self._read()
            kept = _fresh(kept, tree, room)
            if following is not None:
                following = _fresh(following, tree, room)
            elif kept.log.due_in(room):
                log = kept.log.compacted(room.count, room.tokens)
                following = Kept(log, kept.sources) if log else None
            notes += self._keep(kept, following)
            return _load(following, notes, room) if following else None

    def adopt(self) -> None:
        """Puts what was prepared in the place of the current one, if there is any."""
        with self._lock:
            (_, following), _ = self._read()
            if following is not None:
                self._keep(following, None)

    def _read(self) -> tuple[tuple[Kept | None, Kept | None], tuple[str, ...]]:
        reason = ""
        for _ in range(_LOOKS):
            at = self._shelf.written_at()
            if self._known is not None and at == self._read_at:
                return self._known, ()
            self._known, self._read_at = None, at
            try:
                self._known = self._shelf.read()
            except DamagedError as error:
                reason = str(error)
        if self._known is not None:
            return self._known, ()
        return (None, None), (f"The full load that was kept cannot be used ({reason}), so it is laid out anew.",)

    def _keep(self, kept: Kept, following: Kept | None) -> tuple[str, ...]:
        try:
            with self._writing():
                if self._shelf.written_at() != self._read_at and self._read_at:
                    return ("Another process has changed the full load meanwhile; this one is not kept.",)
                self._known = self._shelf.write(kept, following)
                self._read_at = self._shelf.written_at()
                forget_oldest(self._shelf.folder.parent, self._shelf.folder)
        except DataFolderError as error:
            return (f"The full load is not kept for the next question: {error.message}",)
        except OSError as error:
            return (f"The full load is not kept for the next question: {error.strerror or error}.",)
        return ()


def loader_of(folder: Path, model: str, writing: Callable[[], AbstractContextManager[object]]) -> Loader:
    """The loader of a model's full loads, which are kept in a folder of the workspace: models count differently."""
    name = blake2b(model.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return Loader(folder / name, writing)


def _fresh(kept: Kept | None, tree: Tree, room: Room) -> Kept:
    """The kept log with what changed since; the very same where nothing did."""
    log: Log | None = None
    if kept is not None:
        changed: dict[str, str | None] = dict.fromkeys(kept.sources.keys() - tree.sources.keys())
        changed |= {path: tree.texts[path] for path, made in tree.sources.items() if kept.sources.get(path) != made}
        if not changed and kept.log.tokens <= room.tokens:
            return kept
        log = updated(kept.log, changed, room)
    if log is None:
        log = laid_out(tree.texts, tree.ranking(), room)
    if kept is not None and log.entries[: kept.records] == kept.log.entries[: kept.records]:
        return Kept(log, tree.sources, kept.name, kept.records, kept.size, kept.chain)
    return Kept(log, tree.sources)


def _load(kept: Kept, notes: tuple[str, ...], room: Room) -> FullLoad:
    log = kept.log
    return FullLoad(log.text, log.tokens, log.sheets, tuple(sorted(log.absent)), log.stale, log.due_in(room), notes)
