"""The submodules of a tree: which of their files belong to its state, and putting those into a copy as plain files.

Each is a tree of its own, with a repository of ours beside it, and by the same rules: where its own repository lies is
found by reading files, and one that is not what it seems is left out, which is told. In git's eyes the tree keeps its
links alone, so that git in a copy sees nothing changed, and a commit holds the links as they were.
"""

import os
import re
import unicodedata
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agents.errors import TreeStateError
from agents.worktrees.changes import since_commit
from agents.worktrees.git import LONG_S, Git, GitFailed
from agents.worktrees.origin import Origin, find
from agents.worktrees.own import Own

MOST = 500  # looked at in one tree; the libraries of Boost are about 160
MOST_DEEP = 8  # in each other
MOST_LISTED_BYTES = 256 << 20  # of a tree's names with their ids, where links are looked for

_STRANGE = "a submodule whose repository is not what it seems, or cannot be read"
_LINK = re.compile(rb"160000 (?:commit )?([0-9a-f]{40,64})(?: 0)?\t([^\0]+)\0")  # as ls-tree and ls-files tell it

OwnOf = Callable[[Path], Own]  # our own repository's folder for the tree at a resolved path


class Submodule(NamedTuple):
    """One that is part of a state."""

    path: str  # from the root of the tree
    commit: str  # that it is at
    tree: str  # git's id of all its files, local changes included


@dataclass(frozen=True, slots=True)
class Found:
    """Those of a tree, outer ones before what lies in them; paths that differ from what is recorded in the commit, and
    (path, why) of what was left out.
    """

    submodules: tuple[Submodule, ...]
    changed: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Submodules:
    """Those of the tree at a resolved root; ``ignored`` is what the user ignores in all repositories."""

    root: Path
    own_of: OwnOf
    ignored: str

    def found(self, own: Own, tree: str, *, changes: bool) -> Found:
        """All submodules that a tree's id holds, and theirs: as recorded, or with ``changes`` as they are checked out
        now. Nothing is written there.

        Raises TreeStateError where the files of one cannot be read, or differ too much; one that is not there, or
        whose repository is not what it seems, is left out.
        """
        taken: list[Submodule] = []
        changed: list[str] = []
        left_out: list[tuple[str, str]] = []
        pending = deque([(own, "", tree, 1)])
        looked_at = 0
        while pending:
            outer, prefix, outer_tree, depth = pending.popleft()
            listed = outer.git().run("ls-tree", "-r", "-z", outer_tree, most=MOST_LISTED_BYTES)
            for name, recorded in links(listed).items():
                path = prefix + name
                looked_at += 1
                if looked_at > MOST:
                    left_out.append((_shown(path), f"more than {MOST} submodules"))
                    return Found(tuple(taken), tuple(changed), tuple(left_out))
                if depth > MOST_DEEP:
                    left_out.append((_shown(path), f"submodules in each other, more than {MOST_DEEP} deep"))
                    continue
                try:
                    one = self._one(path, recorded, changes=changes)
                except _LeftOut as error:
                    left_out.append((_shown(path), error.why))
                    continue
                taken.append(one.submodule)
                changed += one.changed
                left_out += one.left_out
                pending.append((one.own, f"{path}/", one.submodule.tree, depth + 1))
        return Found(tuple(taken), tuple(changed), tuple(left_out))

    def _one(self, path: str, recorded: str, *, changes: bool) -> "_One":
        place, origin = _found(self.root, path)
        own = self.own_of(place)
        try:
            with own.alone():
                try:
                    own.prepare(origin, self.ignored)
                except TreeStateError:
                    raise _LeftOut(_STRANGE) from None
                return _at(own, origin, path, recorded, changes=changes)
        except GitFailed as failed:
            said = failed.complaint.splitlines()[0][:300] if failed.complaint else "it says nothing."
            raise TreeStateError(
                f"Git fails in the submodule {_shown(path)}: {said}", "Look at what `git fsck` says there."
            ) from None
        except TreeStateError as error:
            raise TreeStateError(f"In the submodule {_shown(path)}: {error.message}", error.hint) from None

    def put(self, folder: Path, index: Path, submodules: tuple[Submodule, ...]) -> None:
        """Writes the files of submodules into a copy that nothing has run in yet. ``index`` is a place for git's list
        of them, which goes again.

        Raises TreeStateError where one is not to be had any more, or its place in the copy is not where it seems.
        """
        top = Path(os.path.realpath(folder))
        for each in submodules:
            place = top / each.path
            if os.path.realpath(place) != str(place) or not place.is_dir():
                raise _not_there(each, "its place in the copy is none")
            try:
                where, origin = _found(self.root, each.path)
                own = self.own_of(where)
                with own.alone():
                    own.prepare(origin, self.ignored)
                index.unlink(missing_ok=True)
                Git(own.repository, place, index).run("read-tree", "--reset", "-u", each.tree, within_s=LONG_S)
            except _LeftOut as error:
                raise _not_there(each, error.why) from None
            except GitFailed as failed:
                raise _not_there(
                    each, failed.complaint.splitlines()[0][:300] if failed.complaint else "git fails"
                ) from None
        index.unlink(missing_ok=True)


def links(listed: bytes) -> dict[str, str]:
    """Paths and commits of the submodules in what ``ls-tree -r -z`` or ``ls-files -s -z`` print; of two entries with
    one name, which git does not make, the first counts.
    """
    found: dict[str, str] = {}
    for match in _LINK.finditer(listed):
        if not match.start() or not listed[match.start() - 1]:  # else a file is called so
            found.setdefault(os.fsdecode(match[2]), match[1].decode("ascii"))
    return found


class _LeftOut(Exception):
    """A submodule is no part of a state; ``why`` is told."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _One(NamedTuple):
    own: Own
    submodule: Submodule
    changed: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def _at(own: Own, origin: Origin, path: str, recorded: str, *, changes: bool) -> _One:
    commit = own.resolved("HEAD") if changes else recorded
    base = own.subtree(commit, "") if commit else ""
    if not base:
        raise _LeftOut(f"a submodule without its commit {recorded[:12]}" if commit else "a submodule without a commit")
    if not changes:
        return _One(own, Submodule(path, commit, base), (), ())
    found = since_commit(own.git(origin.top, own.index), origin, base)
    moved = () if commit == recorded else (path,)
    return _One(
        own,
        Submodule(path, commit, found.tree),
        (*moved, *(f"{path}/{name}" for name in found.changed)),
        tuple((f"{_shown(path)}/{name}", why) for name, why in found.left_out),
    )


def _found(root: Path, path: str) -> tuple[Path, Origin]:
    """Where a submodule is checked out, and its repository. Raises _LeftOut for what git would not have made."""
    if any(_is_odd(name) for name in path.split("/")):
        raise _LeftOut("a submodule with a name that no folder should have")
    place = root / path
    if os.path.realpath(place) != str(place):
        raise _LeftOut("a submodule that a link stands in place of")
    if not os.path.lexists(place / ".git"):
        raise _LeftOut("a submodule that is not checked out")
    origin = None
    with suppress(TreeStateError, OSError):
        origin = find(place)
    if origin is None or origin.top != place:
        raise _LeftOut(_STRANGE)
    return place, origin


def _is_odd(name: str) -> bool:
    """Whether some file system could take a name for git's own, or for a way up."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf").casefold()
    stem = plain.partition(":")[0].rstrip(". ")
    return not stem or stem == ".git" or stem.startswith("git~") or "\\" in plain


def _not_there(submodule: Submodule, why: str) -> TreeStateError:
    return TreeStateError(
        f"The submodule {_shown(submodule.path)} at {submodule.commit[:12]} cannot be had: {why}",
        "Take the tree's state again.",
    )


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
