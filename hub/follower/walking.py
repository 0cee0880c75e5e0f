"""The graph of one large tree, worked out in a process of its own so that nobody who saves waits for it.

It reads beside whoever writes and holds the data folder only to store, and what it stores may be of a moment ago:
whoever looks sees that, and walks it until the next one. What a graph is good for this does not know.
"""

import os
import sys
from multiprocessing import get_context
from pathlib import Path

from indexer.errors import IndexerError
from indexer.index import DataFolder, Index
from indexer.processes import follow_the_parent, interrupts_held_back

NICE = 10  # so that what is saved meanwhile is found as soon. 0 to 19
END_S = 5.0  # for it to end when it is told to


class Walking:
    """A process that works the graph of a workspace out, from the beginning on."""

    def __init__(self, data: DataFolder, workspace: str) -> None:
        arguments = (data.path, data.vector_server, workspace)
        # Spawned, because a fork would copy the locks of threads that watch in the middle of what they do.
        self._process = get_context("spawn").Process(target=_work, args=arguments, name="walking", daemon=True)
        with interrupts_held_back():
            self._process.start()

    def has_ended(self) -> bool:
        """Well or not: what is lacking is made the next time."""
        if self._process.is_alive():
            return False
        self._process.close()
        return True

    def end(self) -> None:
        """Ends it now; what is stored already stays."""
        self._process.kill()
        self._process.join(END_S)


def _work(path: Path, vector_server: str, workspace: str) -> None:
    follow_the_parent()
    if hasattr(os, "nice"):
        os.nice(NICE)
    data = DataFolder(path, vector_server)
    try:
        with Index.for_reading(data, workspace) as index:
            made = index.walk.made()
        if made is not None:
            with data.owned_for_a_moment(), Index.for_adding(data, workspace) as index:
                index.walk.store(made)
    except IndexerError as error:
        sys.stderr.write(f"{workspace}: {error.message}\n")
