"""One tree's index, kept open and brought up to date: what was saved at once, what can wait when it is quiet.

At once: text, symbols, links and vectors that cost nothing, and what the compiler said of files that have changed since
is taken back. Later: the compiler's word on them, the graph, an encoder's vectors, and Chroma. After both an index is
what ``codehub index`` makes of the tree. It holds the data folder for moments only; when which is done is decided
elsewhere.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from hub import background, changes, indexing, wiring
from hub.calibrating import unattended
from hub.config import Settings
from hub.follower.turns import Wish
from hub.follower.walking import Walking
from indexer.compiler import CompilerOptions, Limits, confirm, retract
from indexer.cpp.macros import BUILTIN
from indexer.errors import Cancelled, DataFolderError, EmbedderError
from indexer.files import Candidate, Part
from indexer.index import Index
from indexer.model import Embedder, IndexReport, Language
from indexer.parsing import Parser
from indexer.pipeline import EMBED_BATCH, EmbedderSource, Options, embed, ignore_progress, never, refresh
from indexer.relinking import relink

# Seconds for which the compiler reads on while the folder is held; then others get their turn. 1 to 15.
COMPILE_S = 5.0
# Chunks that wait for an encoder's vectors and are embedded here; more are left to the process in the background, which
# is gentler. 16 to 1,000: at some 50 chunks a second on one core.
FEW_CHUNKS = 64

# Chunks of which the graph is worked out here: it takes 0.1 s for each 1,000. 1,000 to 10,000.
FEW_NODES = 3_000

WARM_BYTES = 500  # of a file that is read to be warm: what is smaller may hold nothing. 100 to 10,000
_CPP = (".cc", ".cpp", ".cxx", ".h", ".hpp")

Stop = Callable[[], bool]


@dataclass(slots=True)
class _Opened:
    index: Index
    file: tuple[int, int]  # device and number of the database


class Tree:
    """One workspace. Used by one thread."""

    def __init__(self, settings: Settings, workspace: str, root: Path) -> None:
        self._settings = settings
        self._data = wiring.data_folder(settings)
        self._workspace = workspace
        self._root = root
        self._opened: _Opened | None = None
        self._embedder: Embedder | None = None
        self._made: tuple[tuple[object, ...], Options] | None = None
        self.blocked = False  # it waits for whoever writes the data folder

    def refresh(self, wish: Wish, stop: Stop = never) -> IndexReport:
        """Looks at what is wished. Raises HubError and IndexerError, and Cancelled after keeping what was finished.

        A root that is gone is a TreeError, and nothing counts as deleted.
        """
        with self._held():
            index = self._index()
            settings = self._as_indexed(index)
            part = None if wish.whole else Part(wish.paths, wish.folders)
            options = replace(self._options(settings), carry=False, part=part, graph=False)
            report = refresh(index, options, indexing.instant_sources(settings), ignore_progress, stop)
            if report.changed or report.removed:
                self._take_back(index, settings)
            if report.whole:
                index.unseal()  # where a first run did not come so far
            return report

    def warm(self) -> None:
        """Reads one small file and forgets what it says, so that the next save does not wait for parser and model."""
        with self._held():
            index = self._index()
            known = index.table.known_files()
            settings = self._as_indexed(index)
        told = (path for path in known if path.endswith(_CPP) and known[path].size >= WARM_BYTES)
        smallest = min(told, key=lambda path: known[path].size, default=None)
        if smallest is not None:
            there = known[smallest]
            instant = next(iter(indexing.instant_sources(settings)), None)
            parser = Parser(self._root, indexing.file_rules(settings), BUILTIN, instant)
            parser.parse(((Candidate(smallest, Language.CPP, there.size, there.mtime_ns), ""),))

    def confirm(self, stop: Stop) -> bool:
        """Has the compiler read what it has not read as it is now, for some seconds. Tells whether all is read."""
        with self._held():
            index = self._index()
            settings = self._as_indexed(index)
            if settings.compiler_commands == "none":
                return True
            options = self._compiling(settings)
            if options.commands is None and index.compiled.is_empty():
                return True
            until = monotonic() + COMPILE_S
            finished = True
            try:
                confirm(index, options, ignore_progress, lambda: stop() or monotonic() > until)
            except Cancelled:
                finished = False
            finally:
                relink(index.links, settings.index_workers, _nothing_told, _never_stopped)
            return finished

    def walk(self) -> Walking | None:
        """Works the graph out anew where the code has changed since: here, or in a process where that takes seconds."""
        with self._held():
            index = self._index()
            if index.table.counts().chunks > FEW_NODES:
                return Walking(self._data, self._workspace)
            index.walk.keep()
        return None

    def tell_changes(self, stop: Stop) -> None:
        """Has what was merged since put down. Holds nothing."""
        changes.keep_up(self._settings, self._workspace, stop)

    def encode(self, stop: Stop) -> None:
        """Gives the few chunks that wait for it a vector of the encoder; many are left to the background.

        Raises EmbedderError.
        """
        with self._held():
            index = self._index()
            source = self._encoder(self._as_indexed(index))
            waiting = [chunk for chunk, _ in index.table.waiting_chunks(source.name)] if source else []
        if source is None or not waiting or len(waiting) > FEW_CHUNKS:
            return
        if self._embedder is None or self._embedder.name != source.name:
            self._embedder = source.load()
        for start in range(0, len(waiting), EMBED_BATCH):
            if stop():
                return
            with self._held():
                embed(self._index(), self._embedder, waiting[start : start + EMBED_BATCH])

    def leave_to_others(self) -> None:
        """Begins the processes that do what is left: vectors, Chroma, and calibrating again.

        Raises HubError or IndexerError.
        """
        if self._settings.index_background:
            background.start(self._settings)
        else:
            with self._held():
                self._index().reconcile()
        unattended.start(self._settings)

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.blocked = True
        try:
            with self._data.owned_for_a_moment():
                self.blocked = False
                yield
        finally:
            self.blocked = False

    def rest(self) -> None:
        """Lets go of what is kept for the next refresh."""
        self._embedder = None
        self.close()
        gc.collect()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.index.close()
            self._opened = None

    def _index(self) -> Index:
        """The open one, or another where somebody put another file in its place."""
        file = self._file()
        if self._opened is not None and self._opened.file != file:
            self.close()
        if self._opened is None:
            index = Index.for_adding(self._data, self._workspace, indexing.size_bound(self._settings))
            self._opened = _Opened(index, self._file())
        return self._opened.index

    def _file(self) -> tuple[int, int]:
        try:
            status = (self._data.workspace_folder(self._workspace) / "index.db").stat()
        except OSError:
            self.close()
            raise DataFolderError(
                f"The workspace {self._workspace!r} has no index any more.", "Run `codehub index PATH` again."
            ) from None
        return status.st_dev, status.st_ino

    def _as_indexed(self, index: Index) -> Settings:
        """Each workspace keeps the embedder that it was indexed for."""
        return replace(self._settings, embeddings=index.table.note("embeddings") or "none")

    def _options(self, settings: Settings) -> Options:
        """How to index; a compile_commands.json is read again only when it is another."""
        commands = indexing.commands_of(settings, self._root)
        made_of: tuple[object, ...] = (commands,)
        if commands is not None:
            with suppress(OSError):
                status = commands.stat()
                made_of = (commands, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._made is None or self._made[0] != made_of:
            self._made = made_of, indexing.index_options(settings, self._root)
        return self._made[1]

    def _take_back(self, index: Index, settings: Settings) -> None:
        if not index.compiled.is_empty():
            retract(index, self._compiling(settings))
            relink(index.links, settings.index_workers, _nothing_told, _never_stopped)

    def _compiling(self, settings: Settings) -> CompilerOptions:
        limits = Limits(settings.index_workers, settings.compiler_seconds, settings.compiler_megabytes << 20)
        return CompilerOptions(indexing.commands_of(settings, self._root), limits)

    def _encoder(self, settings: Settings) -> EmbedderSource | None:
        with suppress(EmbedderError):
            return indexing.encoder_source(settings)
        return None


def _nothing_told(_done: int, _total: int) -> None:
    """Nobody looks."""


def _never_stopped() -> None:
    """Links are few."""
