"""What git knows of the tree. Owns the git command; a tree without git is fine and simply has no commit."""

import os
import subprocess
from pathlib import Path

GIT_TIMEOUT_S = 30.0  # a status of Chromium's tree on a cold disk takes about 20 s

# A repository's own configuration may name programs that git then runs; these settings name none.
_HARMLESS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat")
_KEPT_VARIABLES = ("PATH", "HOME", "SYSTEMROOT")  # HOME, because safe.directory stands in the user's own settings


def head(root: Path) -> tuple[str | None, bool]:
    """(full hash of HEAD, whether tracked files below the root differ from it); (None, False) outside git."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return None, False
    changes = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--", ".")
    return commit.strip(), bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None when it fails or is not there."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
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
