"""The data folder: where it lies, whose it is, who holds it, and what was left in it.

Opens no index and changes nothing.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from hub import background
from hub.health.machine import read_text
from hub.health.model import Finding, Surroundings, failed, fine, warning
from indexer.index import DataFolder

LOW_SPACE_BYTES = 1 << 30
# Of the file system's entries. Chroma makes a handful of files for each workspace. 0.01 to 0.1.
FEW_ENTRIES = 0.02
# Days after which a backup is called old. 1 to 30.
OLD_BACKUP_DAYS = 7

# Locks and shared memory of SQLite do not hold on these (sqlite.org/wal.html, "useful anyway?" and faq q5).
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "davfs"}
_NETWORK |= {"fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "virtiofs", "drvfs"}
_PASSING = {"tmpfs", "ramfs"}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What holds secrets, or what was said to whom: of the data folder, where they are.
PRIVATE_FILES = (
    *("keys.db", "keys.db-wal", "keys.db-shm", "audit.jsonl", "audit.head", "approvals.db", "approvals.db-wal"),
    *("jobs.db", "jobs.db-wal", "server.json", "backup.json", "sessions.db", "sessions.db-wal", "cursors.key"),
    "following.json",
    *("knowledge.db", "knowledge.db-wal", "pulls.db", "pulls.db-wal"),
)


def place(around: Surroundings) -> Finding:
    """That it is there, writable and has room."""
    path = around.settings.data
    if not path.exists():
        return fine("data folder", f"{path} (will be made)")
    if not path.is_dir():
        return failed("data folder", f"{path} is no folder", "Give another one with --data.")
    if not os.access(path, os.W_OK | os.X_OK):
        return failed("data folder", f"{path} is not writable", "Give another one with --data.")
    free = shutil.disk_usage(path).free
    if free < LOW_SPACE_BYTES:
        return warning("data folder", f"{path}, {free >> 20} MiB free", "Free some space.")
    if hasattr(os, "statvfs"):
        entries = os.statvfs(path)
        if entries.f_files and entries.f_favail < FEW_ENTRIES * entries.f_files:
            return warning("data folder", f"{path}, {entries.f_favail} more files fit", "Free some inodes.")
    return fine("data folder", f"{path}, {free >> 30} GiB free")


def file_system(around: Surroundings) -> Finding:
    """That locks hold on it, and that it outlives a restart."""
    kind = _kind_of(around.settings.data, around)
    if not kind:
        return fine("file system", "of a kind that is not shown here")
    if kind in _NETWORK:
        hint = "Keep the data folder on a disk of this machine: SQLite's locks do not hold over a network."
        return warning("file system", f"{kind}, which other machines may share", hint)
    if kind in _PASSING:
        return warning("file system", f"{kind}: gone after a restart", "Put the data folder on a disk.")
    return fine("file system", kind)


def permissions(around: Surroundings) -> Finding:
    """That it is this user's alone, and what holds secrets in it too."""
    path = around.settings.data
    if not path.exists() or not hasattr(os, "getuid"):
        return fine("permissions", "nothing to protect yet")
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        hint = f"sudo chown -R $(id -un) {path}, or run codehub as the user that owns it."
        return failed("permissions", f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}", hint)
    if status.st_uid != os.geteuid():
        return warning(
            "permissions", f"{path} belongs to root, and this is user {os.geteuid()}", "Give it to one user."
        )
    open_ones = [str(found) for found in open_to_others(path)]
    if open_ones:
        hint = "codehub doctor --fix (or chmod 0700 the folder and 0600 the files)"
        return warning("permissions", f"others may read {', '.join(open_ones)}", hint, fixable=True)
    return fine("permissions", "this user's alone")


def open_to_others(path: Path) -> Iterator[Path]:
    """The folder and what holds secrets in it, where others than the owner have any right to them."""
    for found in (path, *(path / name for name in PRIVATE_FILES)):
        try:
            mode = found.lstat().st_mode
        except OSError:
            continue
        if mode & _OTHERS and not stat.S_ISLNK(mode):
            yield found


def holder(around: Surroundings) -> Finding:
    """Who writes to it just now."""
    owner = _told(around.settings.data / "owner").get("pid")
    if not isinstance(owner, int):
        return fine("writer", "nobody")
    if alive(owner):
        return fine("writer", f"process {owner}")
    return fine("writer", f"nobody (process {owner} ended without saying so, which harms nothing)")


def at_work(around: Surroundings) -> Finding:
    """What the process in the background says of itself."""
    state = background.state(DataFolder(around.settings.data))
    if state is None:
        return fine("background", "nothing is left to do, or nothing does it")
    if state.note:
        return warning("background", state.note, "codehub index PATH tries again.")
    return fine("background", f"process {state.pid} is at {state.workspace or 'work'}")


def leftovers(around: Surroundings) -> Finding:
    """What a crash or a kill left behind and nothing will ever use."""
    data = around.settings.data
    owner = _told(data / "owner").get("pid")
    at_work = isinstance(owner, int) and alive(owner)  # what is half made then may just be on its way
    found = [str(path.relative_to(data)) for path in (stale_server_files(data) if at_work else abandoned(data))]
    if not found:
        return fine("leftovers", "none")
    shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return warning("leftovers", shown, "codehub doctor --fix takes them away.", fixable=True)


def abandoned(data: Path) -> list[Path]:
    """Workspaces that were never made, files that were never put in place, what was being deleted, and the words of a
    server that is gone.
    """
    return [*DataFolder(data).half_made(), *stale_server_files(data)]


def stale_server_files(data: Path) -> list[Path]:
    """What tells of a server whose process is gone, and its socket."""
    told = _told(data / "server.json")
    pid = told.get("pid")
    if not told or (isinstance(pid, int) and alive(pid)):
        return []
    found = [data / "server.json"]
    socket = Path(str(told.get("socket") or ""))
    if socket.is_absolute() and socket.is_socket() and socket.parent == data:
        found.append(socket)
    return found


def server_told(data: Path) -> dict[str, object]:
    """What a server on this folder says of itself; nothing without one that lives."""
    return {} if stale_server_files(data) else _told(data / "server.json")


def backups(around: Surroundings) -> Finding:
    """How old the last backup is."""
    if not any((around.settings.data / "workspaces").glob("*")):
        return fine("backup", "nothing to keep yet")
    told = _told(around.settings.data / "backup.json")
    at = told.get("at")
    if not isinstance(at, int | float) or isinstance(at, bool):
        hint = "codehub backup FOLDER; deploy/systemd/codehub-backup.timer does it each night."
        if around.checklist is None and not (around.settings.data / "keys.db").exists():
            return fine("backup", "none was made; everything but keys can be made again from the trees")
        return warning("backup", "none was made", hint)
    days = (around.clock() - at) / 86_400
    detail = f"{datetime.fromtimestamp(at, UTC).isoformat(timespec='minutes')} to {told.get('path', '?')}"
    if days > OLD_BACKUP_DAYS:
        return warning("backup", f"{detail}, {days:.0f} days ago", "codehub backup FOLDER")
    return fine("backup", detail)


def alive(pid: int) -> bool:
    """Whether a process of that number runs, whoever's it is."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _told(file: Path) -> dict[str, object]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _kind_of(path: Path, around: Surroundings) -> str:
    """The kind of file system that a path lies on, or will, by the longest mount point above it."""
    whole = path.absolute()
    while not whole.exists() and whole != whole.parent:
        whole = whole.parent
    whole = whole.resolve()
    best, kind = -1, ""
    for line in read_text(around.places.proc / "self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < _MOUNT_FIELDS or not after:
            continue
        point = Path(fields[4].replace("\\040", " ").replace("\\011", "\t"))
        if whole.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


_MOUNT_FIELDS = 5  # of a line before the dash, up to the mount point (proc(5))
