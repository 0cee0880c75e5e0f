"""Throw-away copies of a tree to build and test in, and commits made of patches. The tree itself is never touched.

Of the tree's own repository only files are read: git is run on a repository of ours that borrows its objects, so
nothing that its settings, hooks or attributes name is ever started. What runs in a copy this package does not know.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from agents import patches
from agents.errors import PatchError, TreeStateError
from agents.worktrees import branches, changes
from agents.worktrees.changes import MOST_TOLD
from agents.worktrees.git import LONG_S, Git, GitFailed, git_program
from agents.worktrees.origin import Origin, find
from agents.worktrees.own import Own, folders, users_ignored
from agents.worktrees.submodules import MOST_LISTED_BYTES, Found, Submodule, Submodules, links

MOST_DIFF_BYTES = 4 << 20
MOST_CHANGED_TOLD = 1_000
_MODES = {b"000000", b"100644", b"100755"}


@dataclass(frozen=True, slots=True)
class TreeState:
    """A tree as it was at one moment. It can be checked out for two days, whatever becomes of the tree."""

    commit: str  # that the tree is at; of a tree without git, one that was made of its files
    tree: str  # git's id of all files, local changes included; submodules are links in it
    digest: str  # of the local changes, those in submodules included; "" where there are none
    changed: tuple[str, ...] = ()  # the first of the paths that differ from the commit
    left_out: tuple[tuple[str, str], ...] = ()  # (path, why) of files that are not in it
    notes: tuple[str, ...] = ()
    versioned: bool = True
    submodules: tuple[Submodule, ...] = ()  # whose files a copy holds, the outer ones first


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the files of a state, and where it is told of. ``readable`` is what git needs to work in it."""

    folder: Path
    readable: tuple[Path, ...]
    state: TreeState
    patch: patches.Patch | None
    changes: str  # what the patch did, as git tells it


class Trees:
    """Work trees of any number of trees, all below one folder that belongs to nobody else. Safe to use from several
    threads and processes.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def state(self, root: Path, changes: bool, revision: str = "HEAD") -> TreeState:
        """What a tree is now: a commit, and with ``changes`` also the local ones below the root.

        Files that are ignored are no part of it. Raises TreeStateError where there is no such commit, or the tree
        cannot be read.
        """
        root = _resolved(root)
        submodules = Submodules(root, self._own, users_ignored())
        own = self._own(root)
        with _translated(), own.alone():
            return _state(own, submodules, changes, revision)

    @contextmanager
    def checkout(self, root: Path, state: TreeState, patch: str = "") -> Iterator[Checkout]:
        """A new folder with the files of a state and a patch applied to them; it is removed in the end.

        Raises TreeStateError where the state is not to be had any more, and PatchError where the patch may not be
        applied or does not fit.
        """
        checked = patches.check(patch) if patch else None
        root = _resolved(root)
        submodules = Submodules(root, self._own, users_ignored())
        own = self._own(root)
        with _translated(), own.alone():
            origin = find(root)
            own.prepare(origin, submodules.ignored)
            held = own.hold(f"c{secrets.token_hex(8)}", state.commit)
        try:
            with _translated():
                filled = _filled(own, origin, held.name, state, checked, submodules)
            yield filled
        finally:
            own.let_go(held)

    def diff(self, checkout: Checkout) -> str:
        """What the patch of a checkout changed, as git tells it. What ran in it since cannot change that."""
        return checkout.changes

    def write_branch(
        self, root: Path, state: TreeState, patch: str, branch: str, message: str, author: str = ""
    ) -> str:
        """Commits a patch on top of a state's commit, into a branch of the tree's own repository; the commit's id.

        Local changes are no part of it. The branch is made or moved forward, never one that is checked out, and no
        program of the repository's is run. ``author`` looks like ``Name <mail>``. Raises PatchError where the patch
        does not fit the commit, TreeStateError where the branch cannot be written.
        """
        checked = patches.check(patch)
        root = _resolved(root)
        own = self._own(root)
        with _translated(), own.alone():
            origin = find(root)
            if origin is None or not state.versioned:
                raise TreeStateError("The tree has no repository to write to.", "Run `git init` in it and commit.")
            own.prepare(origin, users_ignored())
            ref = branches.checked_branch(origin, branch)
            before = branches.tip(own, origin, ref)
            tree = _patched_tree(own, origin, state, checked)
            commit = branches.committed(own, tree, state.commit, message, author, self._clock())
            branches.publish(own, origin, ref, commit, state.commit, before)
            return commit

    def sweep(self) -> None:
        """Removes what a crash has left, and what nobody has asked for since long. What is in use stays."""
        failures = []
        for folder in folders(self._folder):
            own = Own(folder)
            try:
                with _translated(), own.alone():
                    own.sweep(self._clock())
            except TreeStateError as error:  # of one tree, which keeps nobody from the others
                failures.append(error)
        if failures:
            raise failures[0]

    def _own(self, root: Path) -> Own:
        return Own(self._folder / blake2b(os.fsencode(root), digest_size=12).hexdigest())


@contextmanager
def _translated() -> Iterator[None]:
    """Failures of git that nobody expected, and those of the disk, as a sentence."""
    try:
        yield
    except GitFailed as failed:
        raise TreeStateError(f"Git fails: {_said(failed)}", "Look at what `git fsck` says of the tree.") from None
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else "A file"
        raise TreeStateError(f"{where} cannot be used: {error.strerror}.", "Look at space and rights there.") from None


def _said(failed: GitFailed) -> str:
    return failed.complaint.splitlines()[0][:300] if failed.complaint else "it says nothing."


# States


def _state(own: Own, submodules: Submodules, with_changes: bool, revision: str) -> TreeState:
    git_program()  # which says what to do where there is none
    root = submodules.root
    origin = find(root)
    own.prepare(origin, submodules.ignored)
    commit = own.resolved(revision) if origin else ""
    if origin is None or (not commit and revision == "HEAD"):
        return _of_files(own, root, revision)
    if not commit:
        raise TreeStateError(
            f"There is no commit {revision[:80]!a}.",
            "Name a branch, a tag or a commit; HEAD is what is checked out.",
        )
    base = own.subtree(commit, origin.prefix)
    if not base:
        if not own.subtree(commit, ""):
            raise TreeStateError(f"Objects of the commit {commit[:12]} are missing.", "Run `git fsck` in the tree.")
        if revision == "HEAD":  # a folder that the repository around it knows nothing of
            return _of_files(own, root, revision)
        raise TreeStateError(f"The commit {commit[:12]} does not hold this tree's folder.", "Name another commit.")
    if not with_changes:
        inner = submodules.found(own, base, changes=False)
        return TreeState(
            commit, base, "", (), inner.left_out[:MOST_TOLD], _notes(origin, inner), submodules=inner.submodules
        )
    if revision != "HEAD" and commit != own.resolved("HEAD"):
        raise TreeStateError(
            "Local changes belong to the commit that is checked out.", "Ask for HEAD, or leave local changes out."
        )
    found = changes.since_commit(own.git(origin.top, own.index), origin, base)
    inner = submodules.found(own, found.tree, changes=True)
    changed = (*found.changed, *inner.changed)
    differs = found.tree != base or bool(changed)
    return TreeState(
        commit,
        found.tree,
        _digest(base, found.tree, inner.submodules) if differs else "",
        changed[:MOST_CHANGED_TOLD],
        (*inner.left_out, *found.left_out)[:MOST_TOLD],
        _notes(origin, inner),
        submodules=inner.submodules,
    )


def _digest(base: str, tree: str, submodules: tuple[Submodule, ...]) -> str:
    parts = [f"{base} {tree}".encode()]
    parts += [
        b"\0%b\0%b %b" % (os.fsencode(each.path), each.commit.encode(), each.tree.encode()) for each in submodules
    ]
    return blake2b(b"".join(parts), digest_size=16).hexdigest()


def _of_files(own: Own, root: Path, revision: str) -> TreeState:
    """A tree without git, or without a commit: what stands there is all there is."""
    if revision != "HEAD":
        raise TreeStateError(f"The tree has no commit {revision[:80]!a}; it has no git.", "Ask for HEAD.")
    found = changes.unversioned(own.git(root, own.files_index))
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "codehub"), ("EMAIL", "codehub@localhost"), ("DATE", "@0 +0000"))
    }
    commit = own.git().line("commit-tree", found.tree, given=b"The files of a tree without git\n", who=who).strip()
    note = "The tree has no commit; its files are taken as they are."
    return TreeState(commit, found.tree, "", (), found.left_out, (note,), versioned=False)


def _notes(origin: Origin, inner: Found) -> tuple[str, ...]:
    found = []
    if origin.is_partial:
        found.append("The repository is a partial clone; what it has not fetched yet is missing.")
    if origin.sparse:
        found.append("The checkout is sparse: files that are missing from it are taken as they are committed.")
    if inner.submodules:
        found.append(f"The files of submodules are in it; there are {len(inner.submodules):,}.")
    return tuple(found)


def _resolved(root: Path) -> Path:
    try:
        return root.resolve(strict=True)
    except OSError as error:
        raise TreeStateError(f"{root} cannot be opened: {error.strerror}.", "Check the path.") from None


# Checkouts


def _filled(
    own: Own, origin: Origin | None, name: str, state: TreeState, patch: patches.Patch | None, submodules: Submodules
) -> Checkout:
    folder = own.checkouts / name
    inner = own.repository / "worktrees" / name
    git = Git(inner, folder, inner / "index")
    whole = origin is None or (state.versioned and not origin.prefix)
    if whole:
        # Where the root is a part of its repository, git's objects would show what lies beside it.
        own.share_tags()
        (folder / ".git").write_text(f"gitdir: {inner}\n", encoding="utf-8")
    try:
        git.run("read-tree", "--reset", "-u", state.tree, within_s=LONG_S)
    except GitFailed as failed:
        raise _not_there(state, origin, failed) from None
    told = ""
    if patch:
        _check_submodules(git, patch, "")
        _apply(git, patch, ("--index",))
        told = _confirmed(git, state.tree, patch, "")
    submodules.put(folder, inner / "submodule.index", state.submodules)
    borrowed = (origin.objects,) if origin and whole else ()
    return Checkout(folder, (own.repository, *borrowed) if whole else (), state, patch, told)


def _patched_tree(own: Own, origin: Origin, state: TreeState, patch: patches.Patch) -> str:
    """The id of the tree that a patch makes of a state's commit."""
    index = own.folder / "branch.index"
    for place in (index, index.with_name(index.name + ".lock")):
        place.unlink(missing_ok=True)
    git = own.git(index=index)
    try:
        git.run("read-tree", state.commit)
    except GitFailed as failed:
        raise _not_there(state, origin, failed) from None
    _check_submodules(git, patch, origin.prefix)
    below = (f"--directory={origin.prefix}",) if origin.prefix else ()
    try:
        _apply(git, patch, ("--cached", *below))
    except PatchError as error:
        if not state.digest:
            raise
        hint = "It was tried on local changes, which are no part of a branch: commit them first, then try it again."
        raise PatchError(error.message, hint) from None
    _confirmed(git, state.commit, patch, origin.prefix)
    try:
        return git.line("write-tree").strip()
    except GitFailed as failed:
        raise _not_there(state, origin, failed) from None


def _check_submodules(git: Git, patch: patches.Patch, prefix: str) -> None:
    """Raises PatchError for a patch of files that no commit of this tree could hold."""
    inner = links(git.run("ls-files", "-s", "-z", most=MOST_LISTED_BYTES))
    for path in (path for file in patch.files for path in (file.path, file.before) if path):
        parts = (prefix + path).split("/")
        if any("/".join(parts[:depth]) in inner for depth in range(1, len(parts) + 1)):
            raise PatchError(
                f"The patch is refused. {path!a} belongs to a submodule, which is a repository of its own.",
                "Leave it out here, and give it to the workspace of that repository.",
            )


def _apply(git: Git, patch: patches.Patch, where: tuple[str, ...]) -> None:
    plain = ("--whitespace=nowarn", "-p1", *where, "-")
    try:
        git.run("apply", "--check", *plain, given=patch.text.encode())
        git.run("apply", *plain, given=patch.text.encode())
    except GitFailed as failed:
        said = "; ".join(line.removeprefix("error: ") for line in failed.complaint.splitlines()[:6])
        raise PatchError(
            f"The patch does not fit: {said[:800]}",
            "Read the lines again as they are now, and write the diff against them, with three lines of context.",
        ) from None


def _confirmed(git: Git, before: str, patch: patches.Patch, prefix: str) -> str:
    """What was changed, as a diff. Raises PatchError where it is anything but what the patch was checked for."""
    expected = {prefix + path for file in patch.files for path in (file.path, file.before) if path}
    plain = ("diff-index", "--cached", "--no-renames", "--ignore-submodules=none")
    fields = git.run(*plain, "--raw", "-z", before, "--").split(b"\0")[:-1]
    for facts, name in zip(fields[::2], fields[1::2], strict=True):
        old, new = facts[1:].split()[:2]
        same = old == new or b"000000" in (old, new)
        if os.fsdecode(name) not in expected or not {old, new} <= _MODES or not same:
            raise PatchError(
                f"The patch is refused. It does more to {os.fsdecode(name)!a} than its text says.",
                "Give a unified diff of plain text files.",
            )
    shown = ("diff-index", "--cached", "-p", "-M", "--no-color", "--no-ext-diff", "--no-textconv", before, "--")
    return git.run(*shown, most=MOST_DIFF_BYTES).decode("utf-8", "replace")


def _not_there(state: TreeState, origin: Origin | None, failed: GitFailed) -> TreeStateError:
    hint = "Take the tree's state again."
    if origin and origin.is_partial:
        hint = "The repository is a partial clone: fetch what is missing, with `git fetch --refetch --no-filter`."
    return TreeStateError(f"The state {state.commit[:12]} cannot be had: {_said(failed)}", hint)
