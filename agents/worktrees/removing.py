"""A folder taken away that strangers' programs have written into.

Nothing in it is followed, whatever it is: links, mounts' names, folders that may not be written, or that lie deeper in
each other than any path is long. A folder within is first moved up to the top, so that nothing is ever deeper than one.
"""

import itertools
import os
import stat
from contextlib import suppress
from pathlib import Path

from agents.errors import TreeStateError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BATCH = 10_000  # names held at once
_MOST_ROUNDS = 1_000  # of names that come back; nobody writes there any more


def remove(folder: Path) -> None:
    """Removes a folder with everything in it; nothing happens where there is none.

    Its parent must belong to nobody else. Raises TreeStateError where the system refuses.
    """
    try:
        parent = os.open(folder.parent, _FOLDER)
    except FileNotFoundError:
        return
    try:
        _remove(parent, folder.name)
    except OSError as error:
        raise TreeStateError(
            f"{folder} cannot be removed: {error.strerror}.", "Remove it by hand; nothing in it is needed."
        ) from None
    finally:
        os.close(parent)


def _remove(parent: int, name: str) -> None:
    pending = [name]
    numbers = itertools.count()
    while pending:
        current = pending.pop()
        try:
            status = os.stat(current, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(current, dir_fd=parent)
            continue
        _make_writable(parent, current)
        folder = os.open(current, _FOLDER, dir_fd=parent)
        try:
            pending += _emptied(folder, parent, name, numbers)
        finally:
            os.close(folder)
        os.rmdir(current, dir_fd=parent)


def _emptied(folder: int, parent: int, name: str, numbers: "itertools.count[int]") -> list[str]:
    """Unlinks the files of a folder, and moves its folders up to the parent; the names that they got there."""
    moved = []
    for _ in range(_MOST_ROUNDS):
        with os.scandir(folder) as entries:
            batch = list(itertools.islice(entries, _BATCH))
        if not batch:
            break
        for entry in batch:
            if entry.is_dir(follow_symlinks=False):
                _make_writable(folder, entry.name)
                upper = f"{name}~{next(numbers)}"
                while _stands(parent, upper):
                    upper = f"{name}~{next(numbers)}"
                os.rename(entry.name, upper, src_dir_fd=folder, dst_dir_fd=parent)
                moved.append(upper)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=folder)
    return moved


def _stands(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_writable(folder: int, name: str) -> None:
    """Lets a folder be read and written; a name that is a link by now is left as it is."""
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(place)
        if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 != 0o700:
            Path(f"/proc/self/fd/{place}").chmod(0o700)  # there is no other way to a thing itself
    finally:
        os.close(place)
