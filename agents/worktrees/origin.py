"""Where the repository of a tree lies, found by reading its files. Git is not asked: it would obey what it finds.

Anything odd is refused rather than followed. A `.git` that leads elsewhere counts only where that place points back, so
that a tree from a stranger cannot make another repository of this machine its own.
"""

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agents.errors import TreeStateError
from agents.worktrees.git import Git, GitFailed
from indexer.files import read_beneath

MOST_CONFIG_BYTES = 1 << 20
MOST_POINTER_BYTES = 4 << 10
MOST_FOLDERS_UP = 60

_HEAD = re.compile(r"ref: (refs/[^\s\\]{1,400})|([0-9a-f]{40}|[0-9a-f]{64})")
_ASKED = (
    r"^(core\.(worktree|filemode|symlinks|ignorecase|precomposeunicode|autocrlf|eol|sparsecheckout)"
    r"|extensions\.(objectformat|refstorage|partialclone)|remote\..*\.promisor)$"
)

# What git opens by itself, whether it has to be there, and what it has to be.
_PARTS = (
    ("objects", stat.S_ISDIR, True),
    ("refs", stat.S_ISDIR, True),
    ("refs/heads", stat.S_ISDIR, False),
    ("refs/tags", stat.S_ISDIR, False),
    ("packed-refs", stat.S_ISREG, False),
    ("objects/info", stat.S_ISDIR, False),
    ("objects/info/alternates", stat.S_ISREG, False),
    ("objects/pack", stat.S_ISDIR, False),
)


@dataclass(frozen=True, slots=True)
class Origin:
    """The repository of a tree. Only files in it are ever read, but for what ``branches`` adds."""

    top: Path  # of its work tree
    prefix: str  # where the root lies below the top: "" or "sub/folder/"
    own: Path  # what belongs to this work tree: HEAD and index
    common: Path  # what all work trees of it share: objects and refs
    head: str  # what stands in HEAD
    settings: Mapping[str, str] = field(default_factory=dict)  # the few that are no program's name, in lower case

    @property
    def objects(self) -> Path:
        return self.common / "objects"

    @property
    def is_partial(self) -> bool:
        return any(key == "extensions.partialclone" or key.endswith(".promisor") for key in self.settings)

    @property
    def sparse(self) -> bool:
        """Whether files may be missing from the work tree on purpose."""
        return os.path.lexists(self.own / "info" / "sparse-checkout")

    def checked_out(self) -> dict[str, str]:
        """Branches that some work tree stands on or is in the middle of, and where."""
        found = {}
        for folder in (self.common, *_folders(self.common / "worktrees")):
            where = "this repository" if folder == self.common else f"its work tree {folder.name}"
            for name in ("HEAD", "rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
                said = small_file(folder, name) or ""
                branch = said.strip().removeprefix("ref:").strip().removeprefix("refs/heads/")
                found[branch] = where
        return found


def find(root: Path) -> Origin | None:
    """The repository that a resolved root lies in; None where there is none.

    Raises TreeStateError for one that is not what it seems, or cannot be read here.
    """
    for top in (root, *root.parents[:MOST_FOLDERS_UP]):
        pointer = top / ".git"
        try:
            status = pointer.lstat()
            trusted = {0, os.geteuid(), root.stat().st_uid}
        except OSError:
            continue
        if top != root and status.st_uid not in trusted:
            continue  # anybody may put one into /tmp, above what others keep there
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            if small_file(pointer, "HEAD") is None and not os.path.lexists(pointer / "HEAD"):
                continue  # git passes such folders over as well
            if os.path.lexists(pointer / "commondir"):
                raise _odd(pointer, "belongs to another repository")
            return _read(top, root, pointer, pointer)
        if stat.S_ISREG(mode):
            return _pointed(top, root)
        raise _odd(pointer, "is neither a folder nor a file")
    return None


def small_file(folder: Path, name: str, most: int = MOST_POINTER_BYTES) -> str | None:
    """The text of a regular file that is reached through no link; None where there is none or it is too large."""
    try:
        data = read_beneath(folder, name, most)
    except OSError:
        return None
    return None if data is None or len(data) > most else data.decode("utf-8", "surrogateescape")


def _pointed(top: Path, root: Path) -> Origin:
    """What a file `.git` leads to: that of a linked work tree, or of a submodule."""
    said = small_file(top, ".git") or ""
    where = said.removeprefix("gitdir:").strip()
    if not said.startswith("gitdir:") or not where or "\0" in where:
        raise _odd(top / ".git", "says nothing that can be read")
    own = Path(os.path.realpath(top / where))
    shared = small_file(own, "commondir")
    if shared is not None:
        common = Path(os.path.realpath(own / shared.strip()))
        back = (small_file(own, "gitdir") or "").strip()
        if not back or Path(os.path.realpath(own / back)) != top / ".git" or own.parent != common / "worktrees":
            raise TreeStateError(
                f"{top} is a work tree that its repository does not know.", "Run `git worktree repair` in it."
            )
        return _read(top, root, own, common)
    found = _read(top, root, own, own)
    work = found.settings.get("core.worktree", "")
    if not work or Path(os.path.realpath(own / work)) != top:
        raise _odd(top / ".git", "leads to a repository that does not lead back")
    return found


def _read(top: Path, root: Path, own: Path, common: Path) -> Origin:
    for name, kind, needed in _PARTS:
        try:
            mode = (common / name).lstat().st_mode
        except FileNotFoundError:
            if needed:
                raise _odd(common, f"has no {name}") from None
            continue
        except OSError as error:
            raise TreeStateError(f"{common} cannot be read: {error.strerror}.", "Ask for read access.") from None
        if not kind(mode):
            raise _odd(common / name, "is not what stands there in a repository")
    with suppress(FileNotFoundError), os.scandir(common / "objects" / "pack") as packs:
        for pack in packs:  # git would wait for a FIFO
            if not pack.is_file(follow_symlinks=False):
                raise _odd(common / "objects" / "pack" / pack.name, "is no regular file")
    head = (small_file(own, "HEAD") or "").strip()
    if not _HEAD.fullmatch(head):
        raise _odd(own / "HEAD", "names no commit and no branch")
    settings = _settings(common)
    if settings.get("extensions.refstorage", "files") != "files" or os.path.lexists(common / "reftable"):
        raise TreeStateError(
            f"{common} keeps its branches in a form that is not read here.",
            "Run `git refs migrate --ref-format=files` in it.",
        )
    prefix = root.relative_to(top).as_posix()
    return Origin(top, "" if prefix == "." else f"{prefix}/", own, common, head, settings)


def _settings(common: Path) -> dict[str, str]:
    """Those of its settings that name no program. What it includes is not read."""
    text = small_file(common, "config", MOST_CONFIG_BYTES)
    if text is None:
        return {}
    given = text.encode("utf-8", "surrogateescape")
    asked = ("config", "--file", "-", "--no-includes", "-z", "--get-regexp", _ASKED)
    try:
        # Without a repository of any kind: git shall parse these bytes and nothing else.
        listed = Git(Path(os.devnull), Path("/")).run(*asked, given=given)
    except GitFailed as failed:
        if failed.code == 1:  # none of them is there
            return {}
        raise TreeStateError(f"{common / 'config'} cannot be read.", "Look at what `git status` says.") from None
    pairs = (entry.partition("\n") for entry in listed.decode("utf-8", "replace").split("\0") if entry)
    return {key.lower(): value if found else "true" for key, found, value in pairs}


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _odd(place: Path, what: str) -> TreeStateError:
    return TreeStateError(f"{place} {what}.", "Nothing is done with it. Look at it, or clone the repository afresh.")
