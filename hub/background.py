"""Finishes in the background what indexing leaves to it: vectors of an encoder, and the way of all vectors to Chroma.

One process for a data folder, of the lowest priority and in a session of its own, so that it outlives the command that
began it. It holds the folder for moments only, so that no other writer waits for more than one of them, and ends when
nothing is left. What it has stored stays; what it has not is taken up by the next one. Knows nothing of files.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hub import indexing, wiring
from hub.config import Settings
from hub.errors import HubError
from indexer.errors import EmbedderError, IndexerError
from indexer.index import DataFolder, Index
from indexer.model import ChunkId, Embedder
from indexer.pipeline import EMBED_BATCH, embedded_text

# Chunks whose vectors are stored at once: what a kill costs (some ten seconds of an encoder), against what every
# reader that stays open has to read anew. 64 to 1,024.
STORE_CHUNKS = 256
CARRY_ENTRIES = 4_000  # to Chroma while the folder is held: about a second. 500 to 10,000.
LOG_BYTES = 1 << 20  # of the log; what is older goes
START_S = 30.0  # for the process to begin

STATE = "background.json"
_LOG = "background.log"


@dataclass(frozen=True, slots=True)
class State:
    """How far it is; ``note`` says what went wrong, of a process that has ended."""

    pid: int
    workspace: str = ""
    embedder: str = ""  # empty while it fills Chroma
    done: int = 0
    total: int = 0
    note: str = ""


def start(settings: Settings) -> bool:
    """Begins the process where something is left to do; one that is there already does it. Tells whether it began one.

    Raises HubError or IndexerError where the folder cannot be read or no process can be begun.
    """
    data = wiring.data_folder(settings)
    if not any(_waits(data, workspace.name, settings) for workspace in data.workspaces()):
        return False
    begin(settings, "hub.background", "codehub index --wait PATH")
    return True


def begin(settings: Settings, module: str, instead: str) -> None:
    """Runs a module in a process of its own, which gets the settings on standard input and goes on when this one ends.

    Raises HubError with the command that does it ``instead``.
    """
    told = json.dumps({**asdict(settings), "data": str(settings.data)}).encode()
    log = settings.data / _LOG
    try:
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.unlink()
        with log.open("ab") as lines:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=lines,
                stderr=lines,
                start_new_session=True,
            )
            process.communicate(told, timeout=START_S)  # it goes on in a child, so that this one need not wait for it
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HubError(f"No process for the background could be begun: {error}.", f"Run `{instead}` instead.") from None


def state(data: DataFolder, file: str = STATE) -> State | None:
    """What the process says of itself; None where there is none and nothing went wrong."""
    try:
        told = State(**json.loads((data.path / file).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return told if told.note or _lives(told.pid) else None


def finish(settings: Settings, tell: Callable[[State], None]) -> None:
    """Does all that is left in the folder, unless another process is at it.

    A workspace whose embedder fails is left out, and told. Raises IndexerError where the folder cannot be used.
    """
    data = wiring.data_folder(settings)
    failed: dict[str, str] = {}
    while left := [w.name for w in data.workspaces() if w.name not in failed and _waits(data, w.name, settings)]:
        with data.background() as mine:
            if not mine:
                return
            with data.owned_for_a_moment():
                data.sweep()
            for workspace in left:
                try:
                    _finish(data, workspace, settings, tell)
                except (HubError, IndexerError) as error:
                    failed[workspace] = f"{workspace}: {error.message} {error.hint}".strip()
        # Looked at again after the turn is over: another that came meanwhile has left its work to this one.
    tell(State(os.getpid(), note="; ".join(failed.values())))


def _finish(data: DataFolder, workspace: str, settings: Settings, tell: Callable[[State], None]) -> None:
    source = indexing.encoder_source(_as_indexed(data, workspace, settings))
    pid = os.getpid()
    try:
        if source is not None:
            with Index.for_reading(data, workspace) as index:
                waiting = [chunk for chunk, _ in index.table.waiting_chunks(source.name)]
            embedder = source.load() if waiting else None
            for start in range(0, len(waiting), STORE_CHUNKS):
                assert embedder is not None
                part = waiting[start : start + STORE_CHUNKS]
                now = State(pid, workspace, source.name, start, len(waiting))
                _embed(data, workspace, embedder, part, lambda done, now=now: tell(replace(now, done=now.done + done)))  # type: ignore[misc]
    finally:  # an encoder that fails does not keep the others from Chroma
        carried = True
        while carried:
            with data.owned_for_a_moment(), Index.for_adding(data, workspace) as index:
                tell(State(pid, workspace, "", 0, index.table.outbox_depth()))
                carried = index.carry(CARRY_ENTRIES)


def _embed(
    data: DataFolder, workspace: str, embedder: Embedder, ids: list[ChunkId], tell: Callable[[int], None]
) -> None:
    """Reads and computes beside whoever writes; holds the folder only to store. Tells how many it has read."""
    with Index.for_reading(data, workspace) as index:
        chunks = index.table.chunks(ids)
    vectors = []
    for start in range(0, len(chunks), EMBED_BATCH):
        tell(start)
        part = chunks[start : start + EMBED_BATCH]
        vectors.append((part, embedder.embed_documents([embedded_text(chunk) for chunk in part])))
    with data.owned_for_a_moment(), Index.for_adding(data, workspace) as index:
        for part, matrix in vectors:
            index.table.store_vectors(embedder.name, [chunk.id for chunk in part], matrix)


def _waits(data: DataFolder, workspace: str, settings: Settings) -> bool:
    """Whether a workspace lacks vectors of the encoder that it was indexed for, or Chroma those that are there."""
    try:
        with Index.for_reading(data, workspace) as index:
            if index.waits_for_chroma():
                return True
            source = indexing.encoder_source(_as_indexed(data, workspace, settings))
            return source is not None and index.table.waiting(source.name) > 0
    except (HubError, IndexerError):
        return False  # damaged, of another version, or its embedder does not answer: the next `codehub index` says so


def _as_indexed(data: DataFolder, workspace: str, settings: Settings) -> Settings:
    """Each workspace keeps the embedder that it was indexed for, whoever began this process."""
    with Index.for_reading(data, workspace) as index:
        return replace(settings, embeddings=index.table.meta().get("embeddings", "none"))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def settings_from(text: str) -> Settings:
    """Settings as ``begin`` hands them over."""
    told: dict[str, Any] = json.loads(text)
    lists = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
    return Settings(**{**told, **lists, "data": Path(told["data"])})


@contextmanager
def telling(path: Path) -> Iterator[Callable[[State], None]]:
    """Writes each state where ``state`` reads it, and takes the last one away unless it is a note."""

    def tell(now: State) -> None:
        last.append(now)
        del last[:-1]
        written = path.with_suffix(f".{os.getpid()}")
        try:
            written.write_text(json.dumps(asdict(now)), encoding="utf-8")
            written.replace(path)
        except OSError as error:
            sys.stderr.write(f"{path}: {error.strerror}\n")

    last: list[State] = []
    try:
        yield tell
    finally:
        if last and not last[-1].note:
            path.unlink(missing_ok=True)


def step_aside() -> None:
    """Goes on in a child of the lowest priority, so that whoever began this process need not wait."""
    if hasattr(os, "fork"):
        if os.fork():
            os._exit(0)
        os.nice(19)


def main() -> int:
    """The process itself: settings come on standard input, as ``start`` hands them over."""
    settings = settings_from(sys.stdin.read())
    step_aside()
    with telling(settings.data / STATE) as tell:
        try:
            finish(settings, tell)
        except (EmbedderError, IndexerError, HubError) as error:
            sys.stderr.write(f"{error.message} {error.hint}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
