"""A small SQLite file of this package: opened for its owner alone, shared by processes, its errors in the user's words.

Knows no table.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from hub.auth.files import OWNER_ALONE, opened
from indexer.errors import DataFolderError, FolderBusyError, FolderFullError, SchemaError

BUSY_TIMEOUT_MS = 5_000
_MAKING = threading.Lock()


class Database:
    """One connection, used by one thread at a time. Every statement sees what other processes have committed."""

    def __init__(self, path: Path, schema: str, form: int) -> None:
        """Opens or makes the file, ``form`` being the number of the schema. Raises DataFolderError or a kind of it."""
        self.path = path
        self._lock = threading.RLock()
        _for_its_owner_alone(path)
        with _translated(path):
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._connection.pragma("journal_mode", "wal")
            # A key that was revoked must not come back when the power fails.
            self._connection.pragma("synchronous", "full")
            self._connection.pragma("trusted_schema", False)
            with self.transaction():  # two processes that start at once make the tables once
                found = self._connection.pragma("user_version")
                if not found:
                    self._connection.execute(schema)
                    self._connection.pragma("user_version", form)
        if found and found != form:
            self.close()
            raise SchemaError(
                f"{path} has form {found}; this program reads form {form}.",
                "Use the version of codehub that wrote it.",
            )

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._lock, _translated(self.path):
            return list(self._connection.execute(sql, _taken(values)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. IMMEDIATE: what is read inside stays true until it ends."""
        with self._lock, _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """How many rows the statement changed."""
        with self._lock, _translated(self.path):
            self._connection.execute(sql, _taken(values))
            return self._connection.changes()

    def run_at_leisure(self, sql: str, values: Sequence[object] = ()) -> bool:
        """Runs what may as well be lost, and waits for nobody; says whether it was done."""
        with self._lock:
            self._connection.set_busy_timeout(0)
            try:
                self._connection.pragma("synchronous", "off")
                self._connection.execute(sql, _taken(values))
            except (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.ReadOnlyError, apsw.IOError):
                return False
            finally:
                self._connection.pragma("synchronous", "full")
                self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            return True

    def version(self) -> int:
        """A number that changes when another connection has written."""
        return int(str(self.rows("PRAGMA data_version")[0][0]))


def _taken(values: Sequence[object]) -> tuple[object, ...]:
    """The values as SQLite takes them: half a surrogate pair, which arguments of commands may hold, is no text."""
    return tuple(value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values)


def _for_its_owner_alone(path: Path) -> None:
    """Makes the file, or takes from others what they could do with it. SQLite gives its journals the same mode.

    A file that is there is not opened: closing it would drop the locks that this process holds on it elsewhere.
    """
    try:
        if path.is_symlink():
            raise DataFolderError(f"{path} is a link.", "Put the file itself there.")
        with _MAKING:
            if not path.exists():
                os.close(opened(path, os.O_RDWR))
            elif path.stat().st_mode & 0o777 != OWNER_ALONE:
                path.chmod(OWNER_ALONE)
    except OSError as error:
        raise DataFolderError(
            f"{path} cannot be opened: {error.strerror}.", "Check that the folder exists and that you own it."
        ) from None


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.FullError:
        raise FolderFullError(f"The disk is full while writing {path}.", "Free some space and try again.") from None
    except (apsw.BusyError, apsw.LockedError):
        raise FolderBusyError(f"{path} is in use by another process.", "Try again in a moment.") from None
    except (apsw.CorruptError, apsw.NotADBError):
        raise DataFolderError(f"{path} is damaged.", "Take it back from a backup.") from None
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError, apsw.PermissionsError, apsw.ConnectionClosedError):
        raise DataFolderError(
            f"{path} cannot be read or written.", "Check that you own it and that its disk is not full."
        ) from None
