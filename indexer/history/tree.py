"""What git knows of a work tree and of the files of a revision: its commit, its local changes, names and contents.

A tree without git is fine and simply has no commit. No filter, hook or driver of the repository is ever run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.history.running import printed, printed_bytes

NOT_THERE = -1


class FileAt(NamedTuple):
    """A file of a revision. ``path`` is relative to the folder that was asked about."""

    path: str
    blob: str  # git's name of its bytes
    size: int  # bytes; NOT_THERE where the object is missing


def head(root: Path, likely: Sequence[str] = ()) -> tuple[str | None, bool]:
    """(full hash of HEAD, whether tracked files below the root differ from it); (None, False) outside git.

    ``likely`` are files below the root that may differ: where one does, the others need not be looked at.
    """
    commit = printed(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return None, False
    off = filters_off(root)
    if off is None:
        return commit.strip(), True
    looks = ("--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    asked = (*off, "--no-optional-locks", "--literal-pathspecs", "status", *looks, "--")
    return commit.strip(), any(printed(root, *asked, *paths) for paths in (likely, (".",)) if paths)


def diff(root: Path, revision: str) -> str | None:
    """How the work tree below the root differs from a revision, as a unified diff with paths relative to the root.

    A renamed file is shown as removed and added. None where git knows no such revision, or no git is there.
    """
    if "\0" in revision:
        return None
    commit = printed(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        return None
    filters = filters_off(root)
    if filters is None:
        return None
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=all", "--relative")
    return printed(root, *filters, "--no-optional-locks", "diff", *plain, "--unified=0", commit.strip(), "--", ".")


def files_at(root: Path, revision: str) -> list[FileAt] | None:
    """The regular files below the root as a revision holds them, by path; None where git knows no such revision."""
    listed = printed(root, "ls-tree", "-r", "-z", "--long", "--end-of-options", revision)
    if listed is None:
        return None
    found = []
    for entry in listed.split("\0"):
        facts, tab, path = entry.partition("\t")
        mode, _, blob, size = facts.split() if tab else ("", "", "", "")
        if mode.startswith("100"):
            found.append(FileAt(path, blob, int(size) if size.isdecimal() else NOT_THERE))
    return sorted(found)


def contents(root: Path, files: Sequence[FileAt]) -> list[bytes | None]:
    """The bytes of these files, in order, without the repository's filters; None for what git cannot give."""
    asked = "".join(f"{file.blob}\n" for file in files)
    given = printed_bytes(root, ("cat-file", "--batch"), asked.encode()) or b""
    found: list[bytes | None] = []
    start = 0
    for file in files:
        heading = given.find(b"\n", start) + 1
        if given[start:heading].split()[1:] == [b"blob", str(file.size).encode()]:
            found.append(given[heading : heading + file.size])
            start = heading + file.size + 1
        else:
            found.append(None)  # a missing object has no bytes behind its heading
            start = heading or len(given)
    return found


def text_at(root: Path, revision: str, path: str) -> str | None:
    """The text of a file below the root as a revision holds it, without filters; None where git cannot give it."""
    if not path or "\0" in path or revision.startswith("-"):
        return None
    return printed(root, "cat-file", "blob", f"{revision}:./{path}")


def hooks_path(root: Path) -> str:
    """What ``core.hooksPath`` is set to for a tree, wherever that stands, with ~ written out; "" where unset."""
    asked = ("--includes", "-z", "--type=path", "--get-all", "core.hooksPath")
    parts = (printed(root, "config", "--show-scope", *asked) or "").split("\0")
    # What this command line itself sets is nobody's; the machine's settings are otherwise not read here.
    own = [value for scope, value in zip(parts[::2], parts[1::2], strict=False) if scope != "command"]
    if not own:
        own = (printed(root, "config", "--system", *asked) or "").split("\0")[:-1]
    return own[-1] if own else ""


def filters_off(root: Path) -> tuple[str, ...] | None:
    """Arguments that switch the repository's own filters off; None where one cannot be."""
    filters = _own_filters(root)
    if any("=" in name for name in filters):  # cannot be switched off on the command line
        return None
    return tuple(
        part
        for name in filters
        for key in ("clean=", "process=", "required=false")
        for part in ("-c", f"filter.{name}.{key}")
    )


def _own_filters(root: Path) -> list[str]:
    """The content filters that the repository itself defines; comparing files would run them. The user's may run, but
    for git-lfs where the repository names the program that it then starts.
    """
    asked = ("--includes", "-z", "--name-only", "--get-regexp", r"^(filter|lfs\.extension)\.")
    listed = [printed(root, "config", scope, *asked) or "" for scope in ("--local", "--worktree")]
    keys = [key for key in "".join(listed).split("\0") if key]
    own = {key.removeprefix("filter.").rpartition(".")[0] for key in keys if key.startswith("filter.")}
    return sorted(own | {"lfs" for key in keys if key.startswith("lfs.")})
