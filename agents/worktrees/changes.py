"""The files of a tree as they are, as an object of git's: what is committed, and what has changed since.

Reads the tree and writes nothing into it. Which files differ is told by an index of our own, which is kept, so that
only files with another time or size are read again. What is left out is told, never silently missing.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from posixpath import dirname, normpath

from agents.errors import TreeStateError
from agents.worktrees.git import Git, GitFailed
from agents.worktrees.origin import Origin
from indexer.secrets import is_secret_file

MOST_FILE_BYTES = 16 << 20  # of a changed file
MOST_CHANGED_BYTES = 2 << 30  # of all of them
MOST_CHANGED_FILES = 200_000
MOST_TOLD = 200
_ATTEMPTS = 3  # files that vanish while they are read


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree's id, the paths in which it differs from what is committed, and (path, why) of what was left out."""

    tree: str
    changed: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def since_commit(git: Git, origin: Origin, base: str) -> Snapshot:
    """The files below the origin's prefix as they are now; ``base`` is the tree that is committed there."""
    git.run("read-tree", "--reset", _nested(git, base, origin.prefix))
    if origin.sparse:
        _keep_what_is_not_checked_out(git)
    return _taken(git, origin.prefix, base)


def unversioned(git: Git) -> Snapshot:
    """The files of a folder that no repository knows; all of them count as changed."""
    empty = git.line("hash-object", "-t", "tree", "-w", "--stdin").strip()
    assert git.index is not None
    if not git.index.exists():
        git.run("read-tree", "--empty")
    unwanted = list(_names(git.run("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")))
    unwanted += [path for path in _names(git.run("ls-files", "-z", "--cached")) if is_secret_file(path)]
    if unwanted:
        git.run("update-index", "-z", "--force-remove", "--stdin", given=_listed(unwanted))
    return _taken(git, "", empty, forgets=True)


def _taken(git: Git, prefix: str, base: str, *, forgets: bool = False) -> Snapshot:
    below = ("--", prefix) if prefix else ()
    for attempt in range(_ATTEMPTS):
        try:
            left_out = _brought_up(git, below, forgets=forgets)
            break
        except GitFailed as failed:
            if attempt == _ATTEMPTS - 1:
                raise _unreadable(failed) from None
    try:
        tree = git.line("write-tree", *((f"--prefix={prefix}",) if prefix else ())).strip()
    except GitFailed as failed:
        if not prefix or "prefix" not in failed.complaint:
            raise _unreadable(failed) from None
        tree = git.line("hash-object", "-t", "tree", "-w", "--stdin").strip()  # nothing is left there
    changed = _names(git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, tree))
    return Snapshot(tree, tuple(sorted(changed)), tuple(sorted(left_out)[:MOST_TOLD]))


def _brought_up(git: Git, below: tuple[str, ...], *, forgets: bool) -> list[tuple[str, str]]:
    """Makes the index say what the files are now, but for those that it returns with a reason. Raises GitFailed."""
    try:
        git.run("update-index", "-q", "--ignore-submodules", "--refresh")
    except GitFailed as failed:
        if failed.code != 1:  # which says that some differ
            raise
    plain = ("diff-files", "-z", "--name-status", "--no-renames", "--ignore-submodules=all")
    fields = list(_names(git.run(*plain, *below)))
    differing = dict(zip(fields[1::2], fields[::2], strict=True))
    gone = {path for path, how in differing.items() if how == "D"}
    known = differing.keys() - gone
    others = _names(git.run("ls-files", "-z", "--others", "--exclude-standard", *below))
    left_out: list[tuple[str, str]] = []
    wanted, refused = _sifted(git, {*known, *others} - gone, left_out)
    if forgets:
        gone |= refused & known
    if gone:
        git.run("update-index", "-z", "--force-remove", "--stdin", given=_listed(sorted(gone)))
    if wanted:
        git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", given=_listed(wanted))
    return left_out


def _sifted(git: Git, paths: Iterable[str], left_out: list[tuple[str, str]]) -> tuple[list[str], set[str]]:
    """(those to be taken, those that are not though they stand there); why not is added to ``left_out``."""
    assert git.tree is not None
    wanted: list[str] = []
    refused = set()
    size = 0
    for path in sorted(set(paths)):
        place = os.path.join(git.tree, path)  # noqa: PTH118 - a name may be no text, and there may be many
        try:
            status = os.lstat(place)
        except OSError:
            wanted.append(path)  # it is gone
            continue
        why = _why_not(place, path, status)
        if why:
            left_out.append((_shown(path), why))
            refused.add(path)
            continue
        wanted.append(path)
        size += status.st_size
    if len(wanted) > MOST_CHANGED_FILES or size > MOST_CHANGED_BYTES:
        raise TreeStateError(
            f"{len(wanted):,} files with {size >> 20:,} MiB differ from what is committed.",
            "Name what builds leave behind in .gitignore, or commit what belongs to the tree.",
        )
    return wanted, refused


def _why_not(place: str, path: str, status: os.stat_result) -> str:
    why = ""
    if path.endswith("/"):
        why = "a repository of its own"
    elif stat.S_ISLNK(status.st_mode):
        target = os.readlink(place)  # noqa: PTH115 - as above
        beyond = normpath(f"{dirname(path)}/{target}".removeprefix("/")).split("/")[0] == ".."
        why = "a link that leads out of the tree" if beyond or target.startswith("/") else ""
    elif stat.S_ISDIR(status.st_mode):
        why = ""  # in place of a file, whose removal is what changed
    elif not stat.S_ISREG(status.st_mode):
        why = "not a regular file"
    elif is_secret_file(path):
        why = "holds secrets (by its name)"
    elif status.st_size > MOST_FILE_BYTES:
        why = f"larger than {MOST_FILE_BYTES >> 20} MiB"
    elif not os.access(place, os.R_OK):
        why = "it cannot be read"
    return why


def _keep_what_is_not_checked_out(git: Git) -> None:
    """In a sparse work tree, files that are missing are not deleted ones: those that are there are looked at alone."""
    assert git.tree is not None
    tree = git.tree
    missing = [path for path in _names(git.run("ls-files", "-z", "--cached")) if not os.path.lexists(tree / path)]
    if missing:
        git.run("update-index", "-z", "--skip-worktree", "--stdin", given=_listed(missing))


def _nested(git: Git, tree: str, prefix: str) -> str:
    """A tree that holds another one at a prefix and nothing else."""
    for name in reversed(prefix.split("/")[:-1]):
        tree = git.line("mktree", "-z", given=b"040000 tree %b\t%b\0" % (tree.encode(), os.fsencode(name))).strip()
    return tree


def _names(listed: bytes) -> Iterator[str]:
    return (os.fsdecode(name) for name in listed.split(b"\0") if name)


def _listed(paths: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _unreadable(failed: GitFailed) -> TreeStateError:
    complaint = failed.complaint.splitlines()[-1][:300] if failed.complaint else "git says nothing"
    return TreeStateError(
        f"The tree's local changes cannot be read: {complaint}",
        "Look whether files change all the time, or cannot be read; or leave local changes out.",
    )
