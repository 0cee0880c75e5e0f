"""Where git looks for the hooks of a tree, and whether that is a place to write into. Reads files, starts nothing.

What a repository sets for ``core.hooksPath`` is handed in, since only git knows all the files in which it may stand.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hub.errors import HookError

MOST_FOLDERS_UP = 60
MOST_POINTER_BYTES = 4 << 10
_POINTER = b"gitdir:"
_PARTS = ("HEAD", "objects", "refs")  # by which git knows a repository


@dataclass(frozen=True, slots=True)
class Tree:
    """A work tree and its repository. ``shared`` is what all work trees of the repository have in common."""

    top: Path
    shared: Path


@dataclass(frozen=True, slots=True)
class Place:
    """The folder that git takes the hooks of a tree from; ``reason`` says why nothing is written there, else ""."""

    folder: Path
    reason: str = ""


def tree_of(path: Path) -> Tree:
    """The work tree that a folder lies in. Raises HookError where there is none, or its repository is odd."""
    here = path.resolve()
    for top in (here, *here.parents[:MOST_FOLDERS_UP]):
        mode = _mode(top / ".git")
        if stat.S_ISDIR(mode) and _is_repository(top / ".git"):
            return Tree(top, top / ".git")
        if stat.S_ISREG(mode):
            return Tree(top, _pointed(top))
        if stat.S_ISLNK(mode):
            raise HookError(f"{top / '.git'} is a link.", "Name the tree that it leads to.")
        if _is_repository(top) and top.name != ".git":
            raise HookError(
                f"{top} is a repository without a work tree, in which there is nothing to index.",
                "Have the place that it is pushed to tell of it: docs/security.md, Events and webhooks.",
            )
    raise HookError(f"{here} lies in no git repository.", "Name a folder of one: codehub hooks install PATH")


def place_of(tree: Tree, hooks_path: str) -> Place:
    """The folder of a tree's hooks. ``hooks_path`` is what ``core.hooksPath`` holds, or "" where it is not set."""
    usual = tree.shared / "hooks"
    if not hooks_path:
        return Place(usual, _reason_against(usual))
    named = Path(os.path.normpath(tree.top / hooks_path))
    real = Path(os.path.realpath(named))
    if real == Path(os.path.realpath(usual)):
        return Place(usual, _reason_against(usual))
    if real == Path(os.devnull):
        return Place(named, "core.hooksPath switches hooks off")
    if real.is_relative_to(os.path.realpath(tree.shared)):
        return Place(named, _reason_against(named))
    if real.is_relative_to(tree.top):
        return Place(named, f"core.hooksPath names {hooks_path}, a folder of the tree that is committed with it")
    return Place(named, f"core.hooksPath names {hooks_path}, which other repositories may use, too")


def _pointed(top: Path) -> Path:
    """The shared folder of the repository that a file ``.git`` leads to: that of a linked work tree or a submodule."""
    pointer = top / ".git"
    said = _small(pointer)
    if not said.startswith(_POINTER) or not (where := said.removeprefix(_POINTER).strip()):
        raise HookError(f"{pointer} names no repository.", "Look at what `git status` says there.")
    own = Path(os.path.realpath(top / os.fsdecode(where)))
    common = _small(own / "commondir").strip()
    if not common:
        if not _is_repository(own):
            raise HookError(f"{own}, which {pointer} names, is no repository.", "Look at what `git status` says there.")
        return own
    shared = Path(os.path.realpath(own / os.fsdecode(common)))
    back = _small(own / "gitdir").strip()
    # A tree from a stranger shall not have another repository's hooks written.
    if not back or Path(os.path.realpath(own / os.fsdecode(back))) != pointer or not _is_repository(shared):
        raise HookError(f"{top} is a work tree that its repository does not know.", "Run `git worktree repair` in it.")
    return shared


def _is_repository(folder: Path) -> bool:
    return all(_mode(folder / part) for part in _PARTS) and not stat.S_ISLNK(_mode(folder))


def _reason_against(folder: Path) -> str:
    mode = _mode(folder)
    if stat.S_ISLNK(mode):
        return f"{folder} is a link to {os.path.realpath(folder)}"
    return f"{folder} is no folder" if mode and not stat.S_ISDIR(mode) else ""


def _mode(path: Path) -> int:
    """What stands there itself; 0 for nothing."""
    try:
        return path.lstat().st_mode
    except (OSError, ValueError):
        return 0


def _small(path: Path) -> bytes:
    """The bytes of a small regular file, reached through no link; nothing of anything else."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return b""
        return os.read(number, MOST_POINTER_BYTES)
    except OSError:
        return b""
    finally:
        os.close(number)
