"""Which file systems tell of their changes, and how many folders the kernel lets one watch. Knows Linux alone."""

import ctypes
import os
import sys
from pathlib import Path

# First words of statfs(2)'s answer, from there and from linux/magic.h. What another machine, a host or a process of its
# own changes there, this kernel is not told; on an overlay that which changes below it goes by unseen.
_SILENT = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "SMB",
    0xFE534D42: "SMB",
    0x65735546: "FUSE",
    0x01021997: "9p",
    0x794C7630: "an overlay",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "Ceph",
    0x73757245: "Coda",
    0x786F4256: "a folder shared by VirtualBox",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
}
_STATFS_BYTES = 512  # 120 on 64-bit Linux; the rest is room
_MOST_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")


def kind_of(path: Path) -> int:
    """The number of the file system that a path stands on, as statfs(2) has it; 0 where that cannot be asked."""
    if not sys.platform.startswith("linux"):
        return 0
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if ctypes.CDLL(None).statfs(os.fsencode(path), answer) != 0:
        return 0
    return int.from_bytes(answer.raw[: ctypes.sizeof(ctypes.c_ulong)], sys.byteorder) & 0xFFFFFFFF


def silent(kind: int) -> str | None:
    """What a file system is called that does not tell of all its changes; None for those that do."""
    return _SILENT.get(kind)


def most_watches() -> int:
    """How many folders the kernel lets one user watch; 0 where it does not say."""
    try:
        return int(_MOST_WATCHES.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
