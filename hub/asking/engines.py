"""The models behind one workspace: made when they are first needed, with what they have read and how fast they are."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b

from hub.asking.paces import Pace, Paces
from hub.errors import BackendError, BackendUnavailable
from hub.fullload.loading import FullLoad, Loader
from hub.fullload.snapshots import Snapshots
from hub.fullload.warming import KeepsPrefixes, Warmth, ignore_progress, warm
from hub.fullload.window import FullLoads, patience_s
from hub.model import Backend, BackendInfo, GenerationOptions, Prefill, Prompt, Timings, Usage
from indexer.index import Index

# Seconds that an engine is asked to keep a model which has read a code base, and with it what it has read. Ollama's own
# 5 minutes are shorter than a cup of coffee, and reading 128K again takes 1 to 4. 600 to -1, which is for ever.
FULL_KEEP_ALIVE_S = 3600.0
# Bytes a second at which a state of a prompt is compared and taken back from disk. 0.2 to 5 GB.
RESTORED_BYTES_S = 1e9


def close(backend: Backend) -> None:
    """Ends a model that nobody else uses."""
    backend.close()


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the models of a workspace come from.

    ``loader`` has the full loads of a model by its name; without it tier "full" is refused. ``snapshots`` has what
    models have read of them, ``deep`` is the model that reads them where it is not that of the other tiers. ``end``
    is what becomes of a model when its workspace is closed: one that others use goes on.
    """

    backend: Callable[[], Backend]
    loader: Callable[[str], Loader] | None = None
    snapshots: Callable[[], Snapshots | None] = lambda: None
    deep: Callable[[], Backend] | None = None
    end: Callable[[Backend], None] = close


class Engines:
    """The models of one workspace. Every method raises BackendError for a model that is not there."""

    def __init__(self, index: Index, sources: Sources, answer_tokens: int, paces: Paces) -> None:
        self._index = index
        self._sources = sources
        self._paces = paces
        self._backend: Backend | None = None
        self._deep: Backend | None = None
        self._held = ""  # the full load that its reader was last made to read, if it was asked nothing else since
        self._full_loads = FullLoads(index, sources.loader, answer_tokens) if sources.loader else None

    def close(self) -> None:
        """Ends what was made."""
        for backend in (self._backend, self._deep):
            if backend:
                self._sources.end(backend)

    def writer(self) -> Backend:
        """Who answers from evidence."""
        if self._backend is None:
            self._backend = self._sources.backend()
        return self._backend

    def known_writer(self) -> BackendInfo | None:
        """What the writer is, where it was made already and tells; None otherwise. Raises nothing."""
        with suppress(BackendError):
            return self._backend.info() if self._backend else None
        return None

    def reader(self) -> Backend:
        """Who reads the whole code base."""
        if self._sources.deep is None:
            return self.writer()
        if self._deep is None:
            self._deep = self._sources.deep()
        return self._deep

    @property
    def loads(self) -> FullLoads:
        """The full loads of the workspace."""
        if self._full_loads is None:
            raise BackendUnavailable("Nothing keeps the whole code base ready to be read.", "Ask with another tier.")
        return self._full_loads

    @property
    def keeps_loads(self) -> bool:
        """Whether there are full loads."""
        return self._full_loads is not None

    def full_load(self) -> FullLoad:
        """The code base as tier "full" shows it now: how its prompts begin."""
        return self.loads.current(self.reader())

    def warm(self, tell: Callable[[Prefill], None] = ignore_progress) -> Warmth:
        """Has the model read what every prompt of tier "full" begins with. Where a compaction is due, what it comes to
        is read instead and taken from then on.
        """
        loads, backend = self.loads, self.reader()
        following = loads.prepared(backend)
        warmth = self.warmed(following or loads.current(backend), tell)
        if following:
            loads.adopt(backend)
        return warmth

    def warmed(self, load: FullLoad, tell: Callable[[Prefill], None]) -> Warmth:
        """Has the model read a full load: from its memory, from disk, or by reading it."""
        backend = self.reader()
        prefix = load.prompt(backend.count_tokens)
        snapshots = self._sources.snapshots()
        label = self._index.workspace
        warmth = warm(backend, prefix, patient(backend, prefix), snapshots=snapshots, label=label, tell=tell)
        self.hold(load)
        return warmth

    def worth_warming(self, load: FullLoad) -> bool:
        """Whether a saved state may spare the reading of a load that the engine does not hold."""
        keeps = self.reader().capabilities().prefix_files
        return self._held != load.text and keeps and self._sources.snapshots() is not None

    def hold(self, load: FullLoad) -> None:
        """Notes that the reader of full loads has read one last."""
        self._held = load.text
        self._paces.hold(self.reader().info(), self._digest())

    def let_go(self, info: BackendInfo) -> None:
        """Notes that the writer is asked something else, which takes the place of what it held."""
        if info.writes and self._sources.deep is None:
            self._held = ""
            self._paces.hold(info, "")

    def pace(self, info: BackendInfo, tokens: int) -> Pace:
        """How fast a model reads a prompt of so many tokens, and writes an answer to it."""
        return self._paces.pace(info, tokens)

    def learn(self, info: BackendInfo, usage: Usage, timings: Timings) -> None:
        """Takes what an answer has shown of a model's pace."""
        if info.writes:
            self._paces.learn(info, usage, timings)

    def known_of_full(self, info: BackendInfo, tokens: int) -> tuple[int, float]:
        """How many of the ``tokens`` of a full load its reader need not read now, and the seconds that takes.

        Told without laying the load out, which would count all of the tree: what this process had it read last, what
        an engine of its own was made to read within the hour, or what lies on disk of this workspace.
        """
        if self._held or self._paces.holds(info, self._digest()):
            return tokens, 0.0
        with suppress(BackendError):
            backend, snapshots = self.reader(), self._sources.snapshots()
            if snapshots and backend.capabilities().prefix_files and isinstance(backend, KeepsPrefixes):
                ours = [kept for kept in snapshots.kept() if kept.label == self._index.workspace]
                made = backend.identity() if ours else ""
                best = max((kept for kept in ours if kept.made == made), key=lambda kept: kept.tokens, default=None)
                if best:
                    return min(tokens, best.tokens), best.bytes / RESTORED_BYTES_S
        return 0, 0.0

    def _digest(self) -> str:
        """What a full load of this workspace is known by. Its text only grows, so that the tree stands for it."""
        return blake2b(f"{self._index.root}\0{self._index.workspace}".encode(), digest_size=8).hexdigest()


def patient(backend: Backend, prompt: Prompt) -> GenerationOptions:
    """How to ask for what is read for minutes: with its progress, and the model is kept for the next question."""
    can = backend.capabilities()
    return GenerationOptions(
        timeout_s=max(GenerationOptions().timeout_s, patience_s(prompt.tokens)),
        progress=can.progress,
        keep_alive_s=FULL_KEEP_ALIVE_S if can.keep_alive else None,
    )
