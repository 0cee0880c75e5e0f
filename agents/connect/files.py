"""Files of other programs, changed as a whole or not at all: links kept inside, modes kept, the last state beside it.

What was read is compared once more before it is replaced, while nobody else of us may write there. It knows nothing of
what the files say.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from agents.errors import ConnectError

MOST_BYTES = 16 << 20  # a client's own state stands in some of these files
_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it is: its bytes, None where there is none, and where it really is."""

    path: Path
    target: Path
    content: bytes | None
    mode: int = 0o644
    owner: tuple[int, int] = (-1, -1)  # user and group; -1 is whoever writes
    inside: Path | None = None  # the folder that it has to be in

    def text(self) -> str | None:
        """Without the mark that some editors put first. Raises ConnectError where it is not UTF-8."""
        if self.content is None:
            return None
        try:
            return self.content.decode("utf-8").removeprefix(_MARK)
        except UnicodeDecodeError as error:
            raise ConnectError(
                f"{self.path} is not UTF-8, from byte {error.start + 1} on.",
                "Mend the file first; nothing was written.",
            ) from error

    def backup(self) -> Path:
        return self.target.with_name(f"{self.target.name}.before-codehub")


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a file; ``after`` is None where it goes."""

    found: Found
    after: bytes | None

    def is_any(self) -> bool:
        return self.found.content != self.after

    def diff(self) -> str:
        """As a unified diff; "" where nothing changes."""
        old, new = self.found.content, self.after
        names = [os.devnull if content is None else str(self.found.path) for content in (old, new)]
        return "\n".join(
            line.removesuffix("\n") for line in unified_diff(_shown_lines(old), _shown_lines(new), names[0], names[1])
        )


def look(path: Path, inside: Path | None) -> Found:
    """A file, with links followed as long as they stay inside a folder (None: wherever they lead).

    Raises ConnectError for what is no file, cannot be read, is too large, or leads outside.
    """
    try:
        target = path.resolve()
        if inside is not None and not target.is_relative_to(inside.resolve()):
            raise ConnectError(
                f"{path} is a link that leads out of {inside}, to {target}.",
                f"Where that is meant, name it: --file {target}.",
            )
        with target.open("rb") as file:
            state = os.fstat(file.fileno())
            content = file.read(MOST_BYTES + 1) if stat.S_ISREG(state.st_mode) else None
    except FileNotFoundError:
        if path.is_symlink():
            raise ConnectError(f"{path} is a link to a file that is not there.", "Remove the link.") from None
        return Found(path, target, None, inside=inside)
    except (OSError, RuntimeError) as error:  # the latter for links in a circle
        raise ConnectError(f"{path} cannot be read: {_reason(error)}.", "Nothing was written.") from error
    if content is None or len(content) > MOST_BYTES:
        raise ConnectError(f"{path} is no file, or larger than {MOST_BYTES >> 20} MiB.", "Nothing was written.")
    return Found(path, target, content, stat.S_IMODE(state.st_mode), (state.st_uid, state.st_gid), inside)


def changed(found: Found, text: str | None) -> Change:
    """With another text; a mark at the beginning is kept."""
    if text is None:
        return Change(found, None)
    marked = found.content is not None and found.content.startswith(_MARK.encode())
    return Change(found, (_MARK if marked else "").encode() + text.encode("utf-8"))


def write(change: Change) -> Path | None:
    """Carries a change out and returns where the last state is kept, None where nothing is lost.

    Raises ConnectError where the file is no longer as it was read, or cannot be written.
    """
    found = change.found
    target, backup = found.target, found.backup()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(target.parent):
            if _content(target) != found.content:
                raise ConnectError(f"{found.path} has changed meanwhile.", "Nothing was written; call it again.")
            undone = change.after is not None and _content(backup) == change.after
            kept = None
            if found.content is not None and change.after is not None and not undone:
                _replace(backup, found.content, found)
                kept = backup
            if change.after is None:
                target.unlink(missing_ok=True)
            else:
                _replace(target, change.after, found)
            if undone:
                backup.unlink()
        if change.after is None and found.inside is not None and target.parent != found.inside.resolve():
            with suppress(OSError):  # what else is in the folder keeps it
                target.parent.rmdir()
    except OSError as error:
        raise ConnectError(
            f"{found.path} cannot be written: {_reason(error)}.", "Nothing was changed; see to its rights."
        ) from error
    return kept


def _shown_lines(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "replace").splitlines(keepends=True)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, content: bytes, like: Found) -> None:
    """In one step, so that a reader sees the old or the new; a link at that place is not followed."""
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            with suppress(PermissionError):  # a group that the writer is not in
                os.fchown(file.fileno(), *like.owner)
            os.fchmod(file.fileno(), like.mode)
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - the name is a text
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """While it lasts no other of these commands writes into a folder."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
