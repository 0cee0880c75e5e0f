"""The data folder in one file, made while others read and write, and the way back.

In it are all indexes, keys, jobs, approvals, what people keep of their trees, the record of what was done, and the
settings without secrets. Left out is
what is made again from those: Chroma, states of prompts that engines have read, analyses, logs. Each database is copied
as of one moment by SQLite itself, whatever is being written. An archive is believed only after it was read back; what
comes out of one is believed of nothing: its names, sizes, digests and databases are looked at before anything is kept.

Knows nothing of schedules, nor of where else a copy should lie.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import apsw

from hub import config
from hub.config import Settings
from hub.errors import BackupError
from indexer.errors import Cancelled
from indexer.index import DataFolder
from indexer.pipeline import Progress
from indexer.symbol_table.database import FORMAT as INDEX_FORMAT
from indexer.symbol_table.migrations import can_migrate, migrate

FORMAT = 1  # of an archive; raise it with each change that an older program would misread
LAST = "backup.json"  # in the data folder: when the last one was made, and where it went
FOLDER = "backups"  # in the data folder, where no other place is named
MANIFEST = "manifest.json"

_NAME = re.compile(r"codehub-\d{8}T\d{6}Z\.zip")
_TOP = re.compile(
    r"(?:(?:keys|jobs|approvals|knowledge|pulls)\.db|audit(?:[.-]\d{1,20})?\.jsonl|audit\.head|paces\.json)"
)
_OF_WORKSPACE = re.compile(r"workspaces/([a-z0-9][a-z0-9._-]{0,63})/(?:index\.db|workspace\.json|questions\.jsonl)")
_SETTINGS = "settings.json"  # told, not restored: the machine may be another one
_PASSWORD = re.compile(r"//[^/@\s]*@")  # within an address

_PAGES = 4_096  # of a database that are copied between two looks at whether to stop: 16 MiB
_BLOCK = 1 << 20
_MOST_FILES = 100_000
_MOST_MANIFEST = 64 << 20
_SPARE_BYTES = 64 << 20  # of the disk, that restoring leaves free
_COMPRESSION = 1  # of 1 to 9: an index shrinks to a third with 1, in a quarter of the time of 6
_BUSY_MS = 5_000
_TAKE = "codehub backup"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A workspace of an archive."""

    name: str
    root: str
    files: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive holds; ``bytes`` is its own size, ``made_at`` in seconds since 1970."""

    path: Path
    bytes: int
    made_at: float
    workspaces: tuple[Kept, ...]
    files: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def backup(
    settings: Settings,
    target: Path | None,
    progress: Progress,
    cancelled: Callable[[], bool],
    *,
    keep: int = 0,
    clock: Callable[[], float] = time.time,
) -> Archive:
    """Writes an archive of the data folder, reads it back, and puts it in its place in one step.

    ``target`` is a file, or a folder that gets a file named by its time; None stands for a folder within the data.
    With ``keep`` the oldest of the folder's archives go, until so many are left. Raises BackupError, Cancelled.
    """
    data = settings.data
    if not data.is_dir():
        raise BackupError(f"There is nothing to keep in {data}.", "Run `codehub index PATH` first.")
    now = clock()
    place = _place(data, target, now)
    sources = _sources(data)
    with _told(f"The backup {place} cannot be written"):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".codehub-backup-", dir=place.parent) as scratch:
            part = Path(scratch) / place.name
            kept, notes = _write(part, data, sources, settings, now, Path(scratch), progress, cancelled)
            told = _verified(part, progress, cancelled)
            if told.workspaces != kept:
                raise BackupError(f"{place} does not hold what was written.", "Check the disk.")
            part.replace(place)
            _flushed(place.parent)
    if keep and (target is None or place.parent == target.absolute()):
        _thinned(place.parent, keep)
    _note(data, place, now)
    return Archive(place, place.stat().st_size, now, told.workspaces, told.files, notes)


def verify(
    archive: Path,
    progress: Progress = lambda _stage, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Archive:
    """What an archive holds, after every byte of it was read. Raises BackupError for whatever is wrong with it."""
    with _told(f"{archive} cannot be read"):
        return _verified(archive, progress, cancelled)


def restore(archive: Path, data: Path, progress: Progress, cancelled: Callable[[], bool]) -> Archive:
    """Makes a data folder out of an archive: all of it, or nothing.

    The folder must not be there yet, or be empty. Vectors are handed to Chroma later, by whoever writes next; until
    then, and without it, search finds the same. Raises BackupError, Cancelled.
    """
    with _told(f"{data} cannot be written"):
        if data.is_symlink() or (data.exists() and (not data.is_dir() or any(data.iterdir()))):
            raise BackupError(
                f"{data} is there already, and nothing of it is overwritten.",
                "Name a new folder with --data, or move that one away.",
            )
        told = verify(archive, progress, cancelled)
        data.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(entry.bytes for entry in told.files) + _SPARE_BYTES
        if shutil.disk_usage(data.parent).free < needed:
            raise BackupError(
                f"{data.parent} has less than the {needed >> 20} MiB free that are needed.", "Free some space."
            )
        made = Path(tempfile.mkdtemp(prefix=f".{data.name}-", dir=data.parent))
        with ExitStack() as failed:
            failed.callback(shutil.rmtree, made, ignore_errors=True)
            notes = _unpacked(archive, told, made, progress, cancelled)
            if data.exists():
                data.rmdir()
            made.rename(data)
            _flushed(data.parent)
            failed.pop_all()
    return Archive(archive, told.bytes, told.made_at, told.workspaces, told.files, notes)


def archive_shape(archive: Archive) -> dict[str, object]:
    """The JSON of an archive."""
    return {
        "path": str(archive.path),
        "bytes": archive.bytes,
        "made_at": datetime.fromtimestamp(archive.made_at, UTC).isoformat(timespec="seconds"),
        "workspaces": [asdict(workspace) for workspace in archive.workspaces],
        "files": len(archive.files),
        "notes": list(archive.notes),
    }


def _place(data: Path, target: Path | None, now: float) -> Path:
    folder = (target or data / FOLDER).absolute()
    if target is not None and not target.is_dir() and target.suffix == ".zip":
        if target.exists():
            raise BackupError(f"{target} is there already.", "Name another file, or a folder.")
        return folder
    return folder / f"codehub-{datetime.fromtimestamp(now, UTC).strftime('%Y%m%dT%H%M%SZ')}.zip"


def _sources(data: Path) -> list[str]:
    """The names of what is kept, in order; links are passed over."""
    names = [path.name for path in data.iterdir() if _TOP.fullmatch(path.name)]
    for workspace in DataFolder(data).workspaces():
        folder = data / "workspaces" / workspace.name
        names += [
            name
            for path in folder.iterdir()
            if _OF_WORKSPACE.fullmatch(name := f"workspaces/{folder.name}/{path.name}")
        ]
    return sorted(name for name in names if stat.S_ISREG((data / name).lstat().st_mode))


def _write(
    part: Path,
    data: Path,
    sources: list[str],
    settings: Settings,
    now: float,
    scratch: Path,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> tuple[tuple[Kept, ...], tuple[str, ...]]:
    entries: list[Entry] = []
    kept: list[Kept] = []
    notes: list[str] = []
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with (
        os.fdopen(descriptor, "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as archive,
    ):
        for done, name in enumerate(sources):
            progress("backup", done, len(sources))
            copy = scratch / "copy"
            if name.endswith(".db"):
                try:
                    counted = _copied(data / name, copy, cancelled)
                except BackupError as error:
                    if not name.startswith("workspaces/"):
                        raise
                    # One damaged index does not keep the others, and the keys, from being kept.
                    notes.append(f"{name} is left out: {error.message}")
                    continue
                if found := _OF_WORKSPACE.fullmatch(name):
                    kept.append(Kept(found[1], _root(data, found[1]), *counted))
            elif name.startswith("audit"):
                continue
            else:
                copy.write_bytes((data / name).read_bytes())
            entries.append(_added(archive, name, copy))
            copy.unlink()
        with _audit_still(data):
            records = [name for name in sources if name.startswith("audit")]
            entries += [_added(archive, name, data / name) for name in records]
        told = scratch / "copy"
        told.write_text(json.dumps(_settings_told(settings), indent=1), encoding="utf-8")
        entries.append(_added(archive, _SETTINGS, told))
        manifest = {
            "format": FORMAT,
            "index_format": INDEX_FORMAT,
            "made_at": now,
            "workspaces": [asdict(workspace) for workspace in kept],
            "files": [asdict(entry) for entry in entries],
        }
        archive.writestr(_member(MANIFEST), json.dumps(manifest, indent=1))
    _flushed(part)
    return tuple(kept), tuple(notes)


def _copied(source: Path, copy: Path, cancelled: Callable[[], bool]) -> tuple[int, int]:
    """Copies a database as of one moment, and looks at the copy. Returns its files and chunks, where it is an index."""
    try:
        copy.unlink(missing_ok=True)
        reading = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        writing = apsw.Connection(str(copy))
        try:
            reading.set_busy_timeout(_BUSY_MS)
            reading.execute("BEGIN")  # held for the whole copy, which would begin anew with every write otherwise
            index = source.name == "index.db"
            counted = "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM chunks)" if index else "SELECT 0, 0"
            files, chunks = (int(str(number)) for number in reading.execute(counted).fetchall()[0])
            reading.pragma("schema_version")
            with writing.backup("main", reading, "main") as copying:
                while not copying.done:
                    copying.step(_PAGES)
                    if cancelled():
                        raise Cancelled("Stopped; nothing was kept.")
            writing.pragma("journal_mode", "delete")
            found = [str(row[0]) for row in writing.execute("PRAGMA integrity_check(3)")]
            if found != ["ok"]:
                raise BackupError(f"{source} is damaged: {found[0]}.", "Run `codehub repair --rebuild`.")
            if writing.execute(counted).fetchall() != [(files, chunks)]:
                raise BackupError(f"The copy of {source} is not complete.", _TAKE)
        finally:
            writing.close()
            reading.close()
    except apsw.Error as error:
        raise BackupError(f"{source} cannot be copied: {error}.", "Look at it with `codehub doctor`.") from error
    return files, chunks


@contextmanager
def _audit_still(data: Path) -> Iterator[None]:
    """Nobody appends to the record meanwhile: whoever does holds its head."""
    try:
        head = os.open(data / "audit.head", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield
        return
    try:
        fcntl.flock(head, fcntl.LOCK_SH)
        yield
    finally:
        os.close(head)


def _added(archive: zipfile.ZipFile, name: str, source: Path) -> Entry:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading, archive.open(_member(name), "w", force_zip64=True) as writing:
        while block := reading.read(_BLOCK):
            digest.update(block)
            size += len(block)
            writing.write(block)
    return Entry(name, size, digest.hexdigest())


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # of a fixed time: equal contents make equal archives
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    return info


def _root(data: Path, workspace: str) -> str:
    return next((str(known.root) for known in DataFolder(data).workspaces() if known.name == workspace), "")


def _settings_told(settings: Settings) -> Mapping[str, object]:
    """What was set by hand, less what is secret and passwords within addresses."""
    secret = {row.field for row in config.SETTINGS if row.secret}
    told = {name: getattr(settings, name) for name in config.changed(settings) if name not in secret}
    return {name: _PASSWORD.sub("//", str(value)) for name, value in told.items()}


def _verified(archive: Path, progress: Progress, cancelled: Callable[[], bool]) -> Archive:
    with _opened(archive) as (opened, told):
        for done, entry in enumerate(told.files):
            progress("verify", done, len(told.files))
            for _ in _blocks(opened, entry, cancelled):
                pass
    return told


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[zipfile.ZipFile, Archive]]:
    """An archive whose names and sizes are those of its manifest; none of its bytes is believed yet."""
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened, _manifest(archive, opened)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise BackupError(f"{archive} is damaged or no backup: {error}.", "Take another one.") from error


def _manifest(path: Path, opened: zipfile.ZipFile) -> Archive:
    """Raises BackupError unless exactly the files are there that the manifest tells, and all of them may be."""
    strange = BackupError(f"{path} is no backup of codehub.", "Name a file that `codehub backup` wrote.")
    members = opened.infolist()
    names = [member.filename for member in members]
    if MANIFEST not in names or len(names) > _MOST_FILES or opened.getinfo(MANIFEST).file_size > _MOST_MANIFEST:
        raise strange
    try:
        with opened.open(MANIFEST) as reading:
            told = json.loads(reading.read(_MOST_MANIFEST))
        form, index_form = int(told["format"]), int(told["index_format"])
        made_at = float(told["made_at"])
        kept = tuple(
            Kept(str(w["name"]), str(w["root"]), int(w["files"]), int(w["chunks"])) for w in told["workspaces"]
        )
        files = tuple(Entry(str(f["name"]), int(f["bytes"]), str(f["sha256"])) for f in told["files"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise strange from None
    if form > FORMAT or index_form > INDEX_FORMAT:
        raise BackupError(
            f"{path} was written by a newer codehub (form {form}, indexes of format {index_form}; this one knows"
            f" {FORMAT} and {INDEX_FORMAT}).",
            "Install that version, or a later one.",
        )
    if sorted(names) != sorted([MANIFEST, *(entry.name for entry in files)]) or len(set(names)) != len(names):
        raise BackupError(f"{path} does not hold the files that it says it holds.", "Take another one.")
    sizes = {member.filename: member for member in members}
    for entry in files:
        allowed = entry.name == _SETTINGS or _TOP.fullmatch(entry.name) or _OF_WORKSPACE.fullmatch(entry.name)
        kind = stat.S_IFMT(sizes[entry.name].external_attr >> 16)
        if not allowed or kind not in {0, stat.S_IFREG} or sizes[entry.name].flag_bits & 1:
            raise BackupError(f"{path} holds {entry.name!r}, which no backup holds.", "Do not trust it.")
        if entry.bytes < 0 or sizes[entry.name].file_size != entry.bytes:
            raise BackupError(f"{path} says another size of {entry.name} than it has.", "Take another one.")
    older = index_form != INDEX_FORMAT and not can_migrate(index_form, INDEX_FORMAT)
    notes = ("Its indexes are of an older format: index the trees again.",) if older else ()
    return Archive(path, path.stat().st_size, made_at, kept, files, notes)


def _blocks(opened: zipfile.ZipFile, entry: Entry, cancelled: Callable[[], bool]) -> Iterator[bytes]:
    """The bytes of a file, never more than are told. Raises BackupError where they are others."""
    digest, size = hashlib.sha256(), 0
    with opened.open(entry.name) as reading:
        while block := reading.read(_BLOCK):
            size += len(block)
            if size > entry.bytes:
                break
            digest.update(block)
            yield block
            if cancelled():
                raise Cancelled("Stopped; nothing was kept.")
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        raise BackupError(f"{entry.name} in the backup is not what was written.", "Take another one.")


def _unpacked(
    archive: Path, told: Archive, made: Path, progress: Progress, cancelled: Callable[[], bool]
) -> tuple[str, ...]:
    with _opened(archive) as (opened, again):
        if again.files != told.files:
            raise BackupError(f"{archive} changed while it was read.", "Try again.")
        for done, entry in enumerate(told.files):
            progress("restore", done, len(told.files))
            if entry.name == _SETTINGS:
                continue
            place = made / entry.name
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as writing:
                _poured(_blocks(opened, entry, cancelled), writing)
            if place.suffix == ".db":
                _looked_at(place)
            if place.name == "index.db":
                _brought_up(place)
    return told.notes


def _poured(blocks: Iterator[bytes], writing: BinaryIO) -> None:
    writing.writelines(blocks)
    writing.flush()
    os.fsync(writing.fileno())


def _looked_at(place: Path) -> None:
    """Raises BackupError for a database that is none."""
    try:
        connection = apsw.Connection(str(place), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.pragma("trusted_schema", False)
            problems = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
        finally:
            connection.close()
    except apsw.Error as error:
        raise BackupError(f"{place.name} in the backup cannot be opened: {error}.", "Take another one.") from error
    if problems != ["ok"]:
        raise BackupError(f"{place.name} in the backup is damaged: {problems[0]}.", "Take another one.")


def _brought_up(place: Path) -> None:
    """Brings an index of an older format to the present one, where there is a way."""
    try:
        connection = apsw.Connection(str(place))
        try:
            connection.pragma("trusted_schema", False)
            migrate(connection, INDEX_FORMAT)
        finally:
            connection.close()
    except apsw.Error as error:
        raise BackupError(f"{place.name} in the backup is no index: {error}.", "Take another one.") from error


def _thinned(folder: Path, keep: int) -> None:
    """Deletes all but the newest archives that were named by their time."""
    for old in sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))[:-keep]:
        old.unlink(missing_ok=True)


def _note(data: Path, place: Path, now: float) -> None:
    """Leaves word for `codehub doctor`; the archive is as good without."""
    with suppress(OSError):
        written = data / f"{LAST}.{os.getpid()}"
        descriptor = os.open(written, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"at": now, "path": str(place)}, file)
        written.replace(data / LAST)


def _flushed(place: Path) -> None:
    """Makes a file, or the names in a folder, outlast a loss of power."""
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(
            f"{doing}: {error.strerror or error}.", "Check the folder, its owner and its space."
        ) from error
