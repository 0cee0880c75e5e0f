"""Makes the links of the files that wait for it: here for a few, in other processes for many, stored batch by batch.

A run that is stopped leaves the rest waiting. What a link is, it does not know.
"""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

from indexer.processes import pool, side_by_side, submit
from indexer.symbol_table.database import Database
from indexer.symbol_table.links import FileLinks, Linker, LinkTable, Waiting

INLINE_USES = 20_000  # below this starting processes (0.3 s) costs more than linking here
TASK_USES = 4_000  # a task: large enough to hide the hand-over, small enough to share evenly
STORE_FILES = 64  # a transaction


def relink(
    table: LinkTable, workers: int, progress: Callable[[int, int], None], stop_if_cancelled: Callable[[], None]
) -> int:
    """Links the waiting files. Returns how many there were.

    ``progress`` gets how many are done and of how many; ``stop_if_cancelled`` raises to stop between two batches.
    """
    waiting = table.waiting()
    if not waiting:
        return 0
    tasks = _tasks(waiting)
    few = sum(file.uses for file in waiting) <= INLINE_USES or (workers or os.cpu_count() or 1) < 2
    found = _linked_here(table.path, tasks) if few else _linked_elsewhere(table.path, tasks, workers)
    with closing(found):
        batch: list[FileLinks] = []
        for done, links in enumerate(found, 1):
            batch.append(links)
            if len(batch) >= STORE_FILES:
                table.store(batch)
                batch.clear()
                progress(done, len(waiting))
                stop_if_cancelled()
        table.store(batch)
    progress(len(waiting), len(waiting))
    return len(waiting)


def _tasks(waiting: Sequence[Waiting]) -> list[tuple[int, ...]]:
    tasks: list[tuple[int, ...]] = []
    current: list[int] = []
    uses = 0
    for file in waiting:
        current.append(file.file)
        uses += file.uses
        if uses >= TASK_USES:
            tasks.append(tuple(current))
            current, uses = [], 0
    return [*tasks, tuple(current)] if current else tasks


def _linked_here(path: Path, tasks: Sequence[tuple[int, ...]]) -> Generator[FileLinks, None, None]:
    database = Database.open_readonly(path)
    try:
        linker = Linker(database)
        for task in tasks:
            yield from linker.link(task)
    finally:
        database.close()


def _linked_elsewhere(path: Path, tasks: Sequence[tuple[int, ...]], workers: int) -> Generator[FileLinks, None, None]:
    """Links in other processes; what was under way with one that died is done here."""
    left = list(reversed(tasks))
    workers = max(1, min(workers or os.cpu_count() or 1, len(left)))
    with pool(workers, _begin, path) as processes:
        lost = yield from side_by_side(processes, _submit, left, workers)
    yield from _linked_here(path, [*lost, *reversed(left)])


_linker_of_this_process: Linker | None = None


def _begin(path: Path) -> None:
    global _linker_of_this_process  # noqa: PLW0603 - the one place that a process of a pool can keep something
    _linker_of_this_process = Linker(Database.open_readonly(path))


def _link_here(task: tuple[int, ...]) -> list[FileLinks]:
    assert _linker_of_this_process is not None
    return list(_linker_of_this_process.link(task))


def _submit(processes: ProcessPoolExecutor, task: tuple[int, ...]) -> Future[list[FileLinks]]:
    return submit(processes, _link_here, task)
