"""Which commit a checkout shows, so far as it can be seen without running git: that it moved, and that git is at work.

Looks at HEAD, its branch and ``index.lock`` where git keeps them; packed branches and reftables count by their files.
What a commit holds it does not know. A ``.git`` that says it stands elsewhere is followed there, as git does, and
nothing but these few names is looked at.
"""

import os
import re
from pathlib import Path

from indexer.history import git_folders
from indexer.history.checkouts import small_file

_MOST_TABLES = 1 << 16  # of a reftable's list; git keeps it short by putting tables together
_BRANCH = re.compile(rb"ref: (refs/[^\0\n]{1,1000})\n?\Z")


class Checkout:
    """The repository around a root, as it was when this was made; a root without one has ``folders`` empty."""

    def __init__(self, root: Path) -> None:
        found = git_folders(root)
        self._own = found.own if found else None
        self._common = found.shared if found else None
        self._branch: str | None = None
        self._seen = self._state()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where notices are to be had of what ``moved`` and ``locked`` look at: few folders, and nothing beneath."""
        if self._own is None or self._common is None:
            return ()
        found = [self._own, self._common]
        if (self._common / "reftable").is_dir():
            found.append(self._common / "reftable")
        if self._branch is not None:  # its folder goes when its last branch is packed, and comes with a new one
            folder = (self._common / self._branch).parent
            while not folder.is_dir() and folder != self._common:
                folder = folder.parent
            found.append(folder)
        return tuple(dict.fromkeys(found))

    def heeds(self, name: str) -> bool:
        """Whether an entry of this name, in one of the folders, may matter."""
        if name in {"HEAD", "packed-refs", "index.lock", "tables.list"}:
            return True
        return self._branch is not None and name in self._branch.split("/")

    def moved(self) -> bool:
        """Whether HEAD or the commit of its branch is another than when last asked."""
        before, self._seen = self._seen, self._state()
        return before != self._seen

    def locked(self) -> bool:
        """Whether git has its index to itself at this moment."""
        return self._own is not None and os.path.lexists(self._own / "index.lock")

    def _state(self) -> tuple[object, ...]:
        if self._own is None or self._common is None:
            return ()
        head = small_file(self._own, "HEAD")
        found = _BRANCH.match(head or b"")
        self._branch = os.fsdecode(found[1]) if found else None
        commit = small_file(self._common, self._branch) if self._branch else None
        packed = _stamp(self._common / "packed-refs") if self._branch and commit is None else None
        return head, commit, packed, small_file(self._common, "reftable/tables.list", _MOST_TABLES)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
