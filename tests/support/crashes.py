"""A step before and after each thing that outlasts a process, for tests that end one between any two of them; and, as
a program, work on an index that ends by SIGKILL at a chosen step or moment.
"""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer.index import DataFolder, Index
from indexer.pipeline import EmbedderSource, Options, refresh
from indexer.symbol_table.database import Database
from indexer.vectors import ChromaVectors
from tests.support.fake_embedder import FakeEmbedder
from tests.support.filed_vectors import FiledVectors

SOURCE = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
WORKS = ("index", "carry", "swap", "migrate", "seed")


@contextmanager
def stepping(step: Callable[[], None]) -> Iterator[None]:
    """Calls ``step`` before and after a transaction ends, a step of Chroma's, and a change of names or folders."""

    def around(real: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object, **named: object) -> object:
            step()
            found = real(*arguments, **named)
            step()
            return found

        return stepped

    real = Database.transaction

    @contextmanager
    def transaction(self: Database) -> Iterator[None]:
        with real(self):
            yield
            step()
        step()

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(Database, "transaction", transaction)
        patches.setattr(FiledVectors, "step", staticmethod(step))
        patches.setattr(shutil, "rmtree", around(shutil.rmtree))
        for owner, names in ((Path, ("rename", "replace", "unlink", "mkdir")), (ChromaVectors, ("upsert", "delete"))):
            for name in names:
                patches.setattr(owner, name, around(getattr(owner, name)))
        yield


def work(data: Path, root: Path, what: str) -> None:
    """One of WORKS on the workspace "w"; "migrate" only opens it."""
    folder = DataFolder(data)
    with folder.owned():
        folder.sweep()
        if what == "seed":
            folder.forget("w")
            Index.seed(folder, "w", "sibling", lambda: None)
        with Index.for_writing(folder, "w", root) as index:
            if what in {"index", "seed"}:
                refresh(index, Options(workers=1, carry=False), (SOURCE,))
                index.unseal()
            elif what == "carry":
                while index.carry(50):
                    pass
            elif what == "swap":
                index.rebuild_vectors()


def main() -> None:
    """Arguments as JSON: data, root, what, and the step or the seconds after which it ends."""
    told = json.loads(sys.argv[1])
    left = int(told.get("steps", -1))

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if "seconds" in told:
        threading.Timer(told["seconds"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    with stepping(step):
        work(Path(told["data"]), Path(told["root"]), told["what"])
    os._exit(0)  # the timer is not waited for


if __name__ == "__main__":
    main()
