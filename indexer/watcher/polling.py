"""Changes found by looking: every file's size, times and number against those of the last look. Reads no file.

For where the kernel tells nothing. What is found goes into the inbox, as notices would.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from indexer import files
from indexer.files import FileRules, Folder
from indexer.watcher.checkout import Checkout
from indexer.watcher.gathering import Inbox, Why

SHARE = 20  # of the time that a scan took, until the next: a twentieth of a core at most


@dataclass(frozen=True, slots=True)
class _Seen:
    """A folder at the last look. ``stamps`` hold what a file's entry says of it, as one number, by name."""

    folder: Folder
    stamps: dict[str, int]
    rules: tuple[int, ...]  # stamps of its ignore files
    inner: tuple[str, ...]  # paths of the folders in it


class Polling:
    """The tree as it was at the last look; made with a first one."""

    def __init__(
        self,
        root: Path,
        rules: FileRules,
        inbox: Inbox,
        pace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._rules = rules
        self._inbox = inbox
        self._pace_s = pace_s
        self._clock = clock
        self._checkout = Checkout(root)
        self._tree: dict[str, _Seen] = {}
        self._next = 0.0
        self._tree = self._scanned({})
        self._next = (
            self._clock() + pace_s
        )  # the first scan reads the rules too, and says little of the next one's time

    @property
    def folders(self) -> int:
        return len(self._tree)

    def next_look(self) -> float | None:
        """When to call ``look`` again."""
        return self._next

    def close(self) -> None:
        self._tree = {}

    def look(self) -> None:
        """Looks, if it is time to, and puts what is another than before into the inbox."""
        if self._clock() < self._next:
            return
        self._inbox.lock(self._checkout.locked())
        if self._checkout.moved():
            self._inbox.everything(Why.HEAD)
        before = self._tree
        after = self._scanned(before)
        if self._inbox.closed:
            return
        top, old = after.get(""), before.get("")
        if top is None or old is None:
            self._inbox.broken(Why.ROOT)
            return
        if any(path in before and seen.rules != before[path].rules for path, seen in after.items()):
            self._inbox.broken(Why.RULES)
            return
        self._tree = after
        self._compare(before, after)

    def _compare(self, before: dict[str, _Seen], after: dict[str, _Seen]) -> None:
        for path, seen in after.items():
            old = before.get(path)
            if old is None:
                self._inbox.folder(path)
            elif old.stamps != seen.stamps:
                for name, _ in old.stamps.items() ^ seen.stamps.items():
                    self._inbox.file(seen.folder.under(name))
        for path in before.keys() - after.keys():
            self._inbox.folder(path)

    def _scanned(self, before: dict[str, _Seen]) -> dict[str, _Seen]:
        """The tree as it is. Rules are read for new folders only: a changed ignore file is told by its stamp."""
        began = self._clock()
        found: dict[str, _Seen] = {}
        known = before.get("")
        pending = [known.folder if known else files.top_folder(self._root, self._rules)]
        while pending and not self._inbox.closed:
            folder = pending.pop()
            seen = self._looked_at(folder, before.get(folder.path))
            if seen is None:
                continue
            found[folder.path] = seen
            for path in seen.inner:
                old = before.get(path)
                pending.append(old.folder if old else files.folder_in(self._root, folder, path.rpartition("/")[2]))
        now = self._clock()
        self._next = now + max(self._pace_s, SHARE * (now - began))
        return found

    def _looked_at(self, folder: Folder, before: _Seen | None) -> _Seen | None:
        # What was taken is taken still, while the rules are the same; asking the patterns costs more than the look.
        taken = before.stamps if before else {}
        entered = frozenset(before.inner if before else ())
        stamps: dict[str, int] = {}
        rules: list[tuple[str, int]] = []
        inner: list[str] = []
        try:
            with os.scandir(self._root / folder.path) as entries:
                for entry in entries:
                    name = entry.name
                    if entry.is_dir(follow_symlinks=False):
                        path = folder.under(name)
                        if path in entered or (is_text(name) and folder.enters(name)):
                            inner.append(path)
                    elif name in files.IGNORE_FILES:
                        rules.append((name, _stamp(entry)))
                    elif name in taken or (is_text(name) and folder.takes(name) is not None):
                        stamps[name] = _stamp(entry)
        except OSError:  # it went, or may not be read: as if it were not there, and told as that
            return None
        return _Seen(folder, stamps, tuple(stamp for _, stamp in sorted(rules)), tuple(inner))


def is_text(name: str) -> bool:
    """Whether a name is valid UTF-8; what is not is never indexed."""
    return name.isascii() or not any("\udc80" <= character <= "\udcff" for character in name)


def _stamp(entry: os.DirEntry[str]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    # The time of the entry itself tells of edits that put the time of the file back.
    return hash((status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
