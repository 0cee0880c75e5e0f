"""Where a checkout keeps its repository, and the commit it is at, read from files: it starts no process.

What a commit holds it does not know. Where git keeps things in a way that is not read here, git itself is asked. A
``.git`` that says it stands elsewhere is followed there, as git does, and a linked work tree counts as one of a
repository only where that leads back to it.
"""

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from indexer.files import read_beneath
from indexer.history.running import printed

MOST_BYTES = 1 << 12  # of HEAD, of a branch, of a ``.git`` file; paths end at 4,096 bytes on Linux
MOST_PACKED_BYTES = 1 << 26  # of packed-refs, about 900,000 of them; beyond git is asked
MOST_STEPS = 5  # from one name to the next, as many as git takes
_BRANCH = re.compile(rb"ref: (refs/[^\0\n]{1,1000})\n?\Z")
_COMMIT = re.compile(rb"([0-9a-f]{40}(?:[0-9a-f]{24})?)\s*\Z")


class GitFolders(NamedTuple):
    """The git folder of a checkout itself, and the one that it shares with the others of its repository."""

    own: Path
    shared: Path


def git_folders(root: Path) -> GitFolders | None:
    """Those of the checkout that a root lies in; None outside git and in a bare repository."""
    for folder in (root, *root.parents):
        said = small_file(folder, ".git") or b""
        own = _folder_at(folder, said[8:]) if said.startswith(b"gitdir: ") else _folder_at(folder, b".git")
        if own is not None:
            common = small_file(own, "commondir")
            shared = _folder_at(own, common) if common else own
            return None if shared is None else GitFolders(own, shared)
    return None


def common_folder(root: Path) -> Path | None:
    """The git folder that all checkouts of a root's repository share, so that equal ones are of one repository.

    None outside git, and for a work tree that its repository does not know. Links in the path are resolved.
    """
    found = git_folders(root)
    if found is None or not all(_is_there(found.shared / part) for part in ("HEAD", "objects", "refs")):
        return None
    if found.own == found.shared:
        return found.shared
    back = (small_file(found.own, "gitdir") or b"").rstrip(b"\n")
    if not back or found.own.parent != found.shared / "worktrees":
        return None
    try:
        top = Path(os.path.realpath(found.own / os.fsdecode(back))).parent
    except ValueError:  # for NUL
        return None
    return found.shared if Path(os.path.realpath(root)).is_relative_to(top) else None


def head_commit(root: Path) -> str | None:
    """The full hash of HEAD; None outside git and where there is no commit yet."""
    found = git_folders(root)
    if found is not None:
        said = small_file(found.own, "HEAD") or b""
        for _ in range(MOST_STEPS):
            if commit := _COMMIT.match(said):
                return commit[1].decode("ascii")
            branch = _BRANCH.match(said)
            if branch is None:
                break
            name = os.fsdecode(branch[1])
            said = small_file(found.shared, name) or small_file(found.own, name) or _packed(found.shared, branch[1])
    # A branch without a commit, a reftable, a bare repository, or what only git makes sense of.
    commit_told = printed(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return None if commit_told is None else commit_told.strip()


def small_file(folder: Path, path: str, most: int = MOST_BYTES) -> bytes | None:
    """The beginning of a regular file below a folder, reached through no link; None where there is none."""
    try:
        return read_beneath(folder, path, most)
    except OSError:
        return None


def _packed(shared: Path, name: bytes) -> bytes:
    """What a packed branch stands for; nothing where it is not packed."""
    listed = small_file(shared, "packed-refs", MOST_PACKED_BYTES) or b""
    if len(listed) > MOST_PACKED_BYTES:
        return b""
    end = listed.find(b" " + name + b"\n")
    return listed[listed.rfind(b"\n", 0, end) + 1 : end] if end > 0 else b""


def _folder_at(place: Path, written: bytes) -> Path | None:
    """The folder that a file of git's names; None where what it says leads to none."""
    try:
        found = os.path.realpath(place / os.fsdecode(written.rstrip(b"\n")), strict=True)
    except (OSError, ValueError):  # the latter for NUL
        return None
    return Path(found) if Path(found).is_dir() else None


def _is_there(path: Path) -> bool:
    try:
        return not stat.S_ISLNK(path.lstat().st_mode)
    except OSError:
        return False
