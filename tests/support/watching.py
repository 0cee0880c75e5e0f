"""Waiting for hints without sleeping: a file is written last, and what comes until it is named is all there is."""

import itertools
from pathlib import Path

from indexer.watcher import Hints, Options, Watcher

QUICK = Options(quiet_s=0.005, most_s=0.1)
BOUND_S = 20.0  # for a hint that is certain to come
_numbers = itertools.count(1)


def settled(watcher: Watcher, root: Path) -> list[Hints]:
    """All hints there are of what was done to a tree until now; that of the file which is written for it left out."""
    sign = f"sign{next(_numbers)}.cc"
    (root / sign).write_text("int sign;", encoding="utf-8")
    found: list[Hints] = []
    while not (found and found[-1].cover(sign)):
        hints = watcher.take(BOUND_S)
        assert hints is not None, f"nothing came of {sign} in {BOUND_S:.0f} s"
        found.append(hints)
    (root / sign).unlink()
    return found


def kernel_watches() -> int:
    """How many watches of inotify this process has, as the kernel says."""
    found = 0
    for descriptor in open_files():
        try:
            if descriptor.readlink() == Path("anon_inode:inotify"):
                told = Path("/proc/self/fdinfo", descriptor.name).read_text(encoding="ascii")
                found += told.count("inotify wd:")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def open_files() -> list[Path]:
    """The descriptors of this process, one of which is that of the listing."""
    return list(Path("/proc/self/fd").iterdir())
