"""A folder in which hooks of git say which tree has changed, without waiting for anybody who would listen.

A file holds paths, a line each, and is one work tree's. Whatever lies there is believed for nothing but which of the
trees that are indexed anyway is looked at again.
"""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path

FOLDER = "spool"
MOST_FILES = 1_000  # at one look; the others wait for the next
MOST_BYTES = 1 << 20  # of a file that are read; what tells more often tells the same again
MOST_TREES = 200  # of one file: copies of a repository share its hooks, and so the file
# Seconds after which a file that nothing was written to is thrown away: a hook takes a few milliseconds. 10 to 600.
FORGOTTEN_S = 60.0
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Told:
    """One file: the trees that it names, resolved, and whether it was left alone for long."""

    path: Path
    trees: tuple[Path, ...]
    is_old: bool


def folder_in(data: Path) -> Path:
    """Where the hooks tell a data folder, in full, since they run in any folder."""
    return Path(os.path.abspath(data)) / FOLDER  # noqa: PTH100 - resolve() would follow links, absolute() keeps ".."


def made(data: Path) -> Path:
    """The folder of that name, which is made; without it hooks tell nothing. Raises OSError."""
    folder = folder_in(data)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def is_empty(data: Path) -> bool:
    """Whether nothing has been told; cheap enough to be asked each second."""
    try:
        with os.scandir(folder_in(data)) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def waiting(data: Path, roots: Sequence[Path]) -> frozenset[Path]:
    """Those of the indexed roots that hooks have told of. Takes nothing away."""
    return frozenset(root for told in _all(data) for root in roots if _is_about(told.trees, root))


def take(data: Path, roots: Sequence[Path]) -> frozenset[Path]:
    """Those of the indexed roots that hooks have told of, which is forgotten with that.

    A hook that tells meanwhile is not lost: its change came before, so whoever looks at the tree afterwards sees it.
    """
    found: set[Path] = set()
    for told in _all(data):
        if told.trees or told.is_old:
            with suppress(OSError):
                told.path.unlink()
                found.update(root for root in roots if _is_about(told.trees, root))
    return frozenset(found)


def forget(data: Path, root: Path) -> None:
    """Forgets what was told of one root that is about to be indexed, as far as it was told of no other."""
    for told in _all(data):
        if told.trees and all(_is_about((tree,), root) for tree in told.trees):
            with suppress(OSError):
                told.path.unlink()


def tell(data: Path, root: Path) -> None:
    """Says what a hook would: for one who took it and cannot act upon it yet. Raises OSError."""
    line = os.fsencode(root) + b"\n"
    name = f"again.{blake2b(line, digest_size=8).hexdigest()}"
    number = os.open(made(data) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(number, line)
    finally:
        os.close(number)


def _all(data: Path) -> Iterator[_Told]:
    folder = folder_in(data)
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, MOST_FILES))
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            yield _read(folder / name)


def _read(path: Path) -> _Told:
    """What a file tells; what is no plain file tells nothing and goes soon. Raises OSError."""
    state = path.lstat()
    is_old = time.time() - state.st_mtime > FORGOTTEN_S
    if not stat.S_ISREG(state.st_mode):
        return _Told(path, (), is_old)
    number = os.open(path, _FLAGS)
    with os.fdopen(number, "rb") as file:
        content = file.read(MOST_BYTES) if stat.S_ISREG(os.fstat(number).st_mode) else b""
    # The last line may be in the writing; a name with a line break in it is split and leads nowhere.
    lines = dict.fromkeys(content.split(b"\n")[:-1])
    trees = tuple(os.path.realpath(line) for line in islice(lines, MOST_TREES) if line.startswith(b"/"))
    return _Told(path, tuple(Path(os.fsdecode(tree)) for tree in trees), is_old)


def _is_about(trees: Sequence[Path], root: Path) -> bool:
    """Whether one of the trees is the work tree of a root, or a repository within the root, such as a submodule."""
    return any(tree.is_relative_to(root) or _holds(tree, root) for tree in trees)


def _holds(tree: Path, root: Path) -> bool:
    """Whether a root lies in this work tree and in none further in: a home kept in git holds other repositories."""
    if not root.is_relative_to(tree):
        return False
    between = (root, *root.parents)[: len(root.parts) - len(tree.parts)]
    return not any(os.path.lexists(folder / ".git") for folder in between)
