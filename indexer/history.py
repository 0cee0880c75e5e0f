"""What git knows of the tree. Owns the git command; a tree without git is fine and simply has no commit."""

import os
import subprocess
from pathlib import Path

GIT_TIMEOUT_S = 30.0  # a status of Chromium's tree on a cold disk takes about 20 s

# A repository's own configuration may name programs that git then runs; these settings name none.
_HARMLESS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat")
_CLOSED = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # a clone with missing objects would fetch them, by a program of its own choice
    "LC_ALL": "C",
}
_KEPT_VARIABLES = ("PATH", "HOME", "SYSTEMROOT")  # HOME, because safe.directory stands in the user's own settings


def head(root: Path) -> tuple[str | None, bool]:
    """(full hash of HEAD, whether tracked files below the root differ from it); (None, False) outside git."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return None, False
    off = _filters_off(root)
    if off is None:
        return commit.strip(), True
    looks = ("--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    changes = _git(root, *off, "--no-optional-locks", "status", *looks, "--", ".")
    return commit.strip(), bool(changes)


def diff(root: Path, revision: str) -> str | None:
    """How the work tree below the root differs from a revision, as a unified diff with paths relative to the root.

    A renamed file is shown as removed and added. None where git knows no such revision, or no git is there.
    """
    if "\0" in revision:
        return None
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        return None
    filters = _filters_off(root)
    if filters is None:
        return None
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=all", "--relative")
    return _git(root, *filters, "--no-optional-locks", "diff", *plain, "--unified=0", commit.strip(), "--", ".")


def _filters_off(root: Path) -> tuple[str, ...] | None:
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
    """The content filters that the repository itself defines; comparing files would run them. The user's may run."""
    asked = ("--includes", "-z", "--name-only", "--get-regexp", r"^filter\.")
    listed = [_git(root, "config", scope, *asked) or "" for scope in ("--local", "--worktree")]
    keys = "".join(listed).split("\0")
    return sorted({key.removeprefix("filter.").rpartition(".")[0] for key in keys if key})


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None when it fails or is not there."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= _CLOSED
    try:
        done = subprocess.run(
            ["git", *_HARMLESS, "-C", str(root), *arguments],  # noqa: S607 - git is found on the user's own PATH
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
