"""The open services of one process: a pool for each workspace, the models behind all of them, and who may use which.

A service is used by one thread at a time, so there are as many as threads that ask at once; what is idle is closed
after a while. A workspace that was deleted, indexed anew or calibrated meanwhile is noticed when it is next opened.
What whoever asks does not see does not exist here: no name, count or error tells of it. Knows nothing of HTTP.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from hub import wiring
from hub.auth.model import Principal, Scope
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.config import Settings
from hub.errors import BackendError, Forbidden, WorkspaceError
from hub.model import Backend
from hub.service import Service
from indexer.errors import DataFolderError, EmbedderError
from indexer.index import Index, Workspace
from indexer.model import Embedder

# Seconds that a service may be idle: a reader that stays open keeps SQLite's journal from shrinking. 30 to 3,600.
IDLE_S = 300.0
# Idle services of a workspace that are kept for the next ones: about the threads that look things up. 2 to 32.
MOST_IDLE = 8
# Seconds after which a model is looked for again where the settings leave open which, and the best was not there.
LOOK_AGAIN_S = 30.0


@dataclass(slots=True)
class _Opened:
    """One service with its index, and the state of things that it was opened at."""

    index: Index
    service: Service
    workspace: Workspace
    file: tuple[int, int]  # device and number of the database's file
    models: int  # the generation of the models
    version: int  # of the database when its notes on itself were last compared
    notes: dict[str, str]
    idle_since: float = 0.0


class Workspaces:
    """What of the data folder may be read, by whom. Safe to use from several threads."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._data = wiring.data_folder(settings)
        self._clock = clock
        self._models = _SharedModels(settings, clock)
        self._lock = threading.Lock()
        self._idle: dict[str, list[_Opened]] = {}
        self._closed = False

    def visible(self, principal: Principal) -> tuple[Workspace, ...]:
        """Those in which anything at all is granted, by name."""
        return tuple(workspace for workspace in self._data.workspaces() if principal.sees(workspace.name))

    def chosen(self, principal: Principal, name: str | None, scope: Scope = Scope.READ) -> Workspace:
        """The named workspace; without a name the only one that is seen, else the one last indexed.

        Raises WorkspaceError, with the same text for one that is not seen and one that is not there, or Forbidden.
        """
        seen = self.visible(principal)
        if name is None:
            allowed = [workspace for workspace in seen if principal.may(scope, workspace.name)] or seen
            found = max(allowed, key=lambda workspace: (workspace.used_ns, workspace.name), default=None)
            if found is None:
                raise WorkspaceError("There is no workspace yet.", "Index a tree first, or ask for a grant to one.")
        else:
            found = next((workspace for workspace in seen if workspace.name == name), None)
            if found is None:
                raise unknown(name)
        if not principal.may(scope, found.name):
            raise Forbidden(
                f"This key has no {scope.value} grant in the workspace {found.name}.",
                "Use a key that has it, or ask an administrator for one.",
            )
        return found

    @contextmanager
    def opened(self, principal: Principal, name: str | None, scope: Scope = Scope.READ) -> Iterator[Service]:
        """The service of a workspace, for the calling thread alone. Raises as ``chosen``, and IndexerError."""
        with self._borrowed(self.chosen(principal, name, scope)) as opened:
            yield opened.service

    @contextmanager
    def reading(self, principal: Principal, name: str | None, scope: Scope = Scope.READ) -> Iterator[Index]:
        """The index of a workspace, as ``opened``."""
        with self._borrowed(self.chosen(principal, name, scope)) as opened:
            yield opened.index

    def open_count(self) -> int:
        """How many services wait for the next one to use them."""
        with self._lock:
            return sum(map(len, self._idle.values()))

    def sweep(self) -> None:
        """Closes what has been idle for long, and what is of workspaces that are no more."""
        now = self._clock()
        names = {workspace.name for workspace in self._data.workspaces()}
        gone: list[_Opened] = []
        with self._lock:
            for name, idle in list(self._idle.items()):
                kept = [opened for opened in idle if name in names and now - opened.idle_since < IDLE_S]
                gone += [opened for opened in idle if opened not in kept]
                self._idle[name] = kept
                if not kept:
                    del self._idle[name]
        for opened in gone:
            opened.service.close()

    def close(self) -> None:
        """Ends what is idle now, what is in use as soon as it is not, and the models."""
        with self._lock:
            self._closed = True
            idle = [opened for each in self._idle.values() for opened in each]
            self._idle.clear()
        for opened in idle:
            opened.service.close()
        self._models.close()

    @contextmanager
    def _borrowed(self, workspace: Workspace) -> Iterator[_Opened]:
        opened = self._taken(workspace)
        try:
            yield opened
        finally:
            opened.idle_since = self._clock()
            with self._lock:
                idle = self._idle.setdefault(workspace.name, [])
                kept = not self._closed and len(idle) < MOST_IDLE
                if kept:
                    idle.append(opened)
            if not kept:
                opened.service.close()

    def _taken(self, workspace: Workspace) -> _Opened:
        models = self._models.generation()
        with self._lock:
            idle = self._idle.get(workspace.name)
            opened = idle.pop() if idle else None
        if opened is None:
            return self._made(workspace, models)
        if opened.models == models and self._holds(opened, workspace):
            return opened
        try:
            # Before the other goes: what both have read of the same file is kept as long as anybody has it open.
            return self._made(workspace, models)
        finally:
            opened.service.close()

    def _made(self, workspace: Workspace, models: int) -> _Opened:
        try:
            file = self._file(workspace.name)
            index = Index.for_reading(self._data, workspace.name)
        except OSError:
            raise unknown(workspace.name) from None
        except DataFolderError:
            if not any(known.name == workspace.name for known in self._data.workspaces()):
                raise unknown(workspace.name) from None  # deleted between two looks
            raise
        with ExitStack() as failed:
            failed.callback(index.close)
            service = wiring.service_of(self.settings, index, self._models.of_one())
            opened = _Opened(index, service, workspace, file, models, index.version(), index.table.meta())
            failed.pop_all()
        return opened

    def _holds(self, opened: _Opened, workspace: Workspace) -> bool:
        """Whether a service still shows what is on disk: the same file of the same tree, with the same notes on it."""
        try:
            if opened.workspace.root != workspace.root or opened.file != self._file(workspace.name):
                return False
            version = opened.index.version()
            if version != opened.version:
                # What was calibrated, tuned or indexed to its end is noted there, and kept by what was opened before.
                if opened.index.table.meta() != opened.notes:
                    return False
                opened.version = version
        except (OSError, DataFolderError):
            return False
        return True

    def _file(self, name: str) -> tuple[int, int]:
        status = (self._data.workspace_folder(name) / "index.db").stat()
        return status.st_dev, status.st_ino


def unknown(name: str) -> WorkspaceError:
    """What is told of a workspace that is not there, and of one that may not be seen."""
    return WorkspaceError(f"There is no workspace {name!r}.", "Ask for the list of workspaces.")


class _SharedModels:
    """The models of all services of the process, each made once. Safe to use from several threads.

    Where the settings leave open which model writes and only a poor one was there, a better one is looked for again
    after a while; a new ``generation`` tells that one came, so that services are opened anew.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.RLock()
        self._embedders: list[Embedder] | None = None
        self._backend: Backend | None = None
        self._deep: Backend | None = None
        self._former: list[Backend] = []  # that were replaced, and may still be in use
        self._looked_at = 0.0
        self._generation = 0

    def of_one(self) -> wiring.Models:
        """What a service takes its models from."""
        deep = self.deep if wiring.has_deep_backend(self._settings) else None
        return wiring.Models(self.embedders, self.backend, deep, _leave)

    def generation(self) -> int:
        """Grows when another model writes. Looks for a better one where that is due."""
        with self._lock:
            if self._settings.backend == "auto" and _is_last_resort(self._backend):
                now = self._clock()
                if now - self._looked_at >= LOOK_AGAIN_S:
                    self._looked_at = now
                    self._look_again()
            return self._generation

    def embedders(self) -> Iterator[Embedder]:
        """All that the settings name. Raises EmbedderError, after those that could be had, and tries again then."""
        made: list[Embedder] = []
        failure: EmbedderError | None = None
        with self._lock:
            if self._embedders is None:
                try:
                    for embedder in wiring.embedders(self._settings):
                        made.append(embedder)  # noqa: PERF402 - those before a failure stay
                except EmbedderError as error:
                    failure = error
                else:
                    self._embedders = made
            else:
                made = self._embedders
        yield from made
        if failure:
            raise failure

    def backend(self) -> Backend:
        """Who answers from evidence. Raises BackendError, and tries again then."""
        with self._lock:
            if self._backend is None:
                self._backend = wiring.backend(self._settings)
                self._looked_at = self._clock()
            return self._backend

    def deep(self) -> Backend:
        """Who reads the whole code base, where that is another."""
        with self._lock:
            if self._deep is None:
                self._deep = wiring.backend(wiring.deep_settings(self._settings))
            return self._deep

    def close(self) -> None:
        """Ends all of them."""
        with self._lock:
            backends = [self._backend, self._deep, *self._former]
            self._backend = self._deep = None
            self._former = []
        for backend in backends:
            if backend is not None:
                backend.close()

    def _look_again(self) -> None:
        with suppress(BackendError):
            found = wiring.backend(self._settings)
            if type(found) is type(self._backend):
                found.close()
                return
            if self._backend is not None:
                self._former.append(self._backend)
            self._backend = found
            self._generation += 1


def _is_last_resort(backend: Backend | None) -> bool:
    """Whether ``auto`` takes this model only where it finds no engine that runs."""
    return backend is not None and (isinstance(backend, EvidenceOnlyBackend) or "embedded" in type(backend).__module__)


def _leave(_backend: Backend) -> None:
    """A model that others use goes on."""
