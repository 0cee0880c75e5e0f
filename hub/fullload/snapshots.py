"""What a model has read, kept on disk: KV states of prefixes, found again by everything that they depend on.

An engine that is handed a state of another model or of other RoPE settings answers nonsense without a word, one bit
changed in a state goes unnoticed, and a file that was cut short ends llama.cpp's whole process (an assertion, tried on
b11549). So a state is named by a digest of all that made it, is only called kept once it is complete, and is read back
and compared before an engine sees it. The folder never outgrows its quota: what was not used for longest goes first.

Knows nothing of how an engine writes and reads a state, nor of what the prefix says.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hub.errors import SnapshotError
from hub.model import PrefixState

VERSION = 1
# Bytes of all states together. An 8B model with q8_0 takes 68 KiB a token: 8.5 GiB for 128K. 1 GiB to the whole disk.
QUOTA = 32 << 30
# Bytes that stay free on the disk whatever the quota says: a full disk stops more than us. 0.5 to 10 GiB.
KEPT_FREE = 2 << 30
# Seconds. What is half written and older was left by a process that died. A save of 30 GiB to a hard disk takes 5 min.
STALE_S = 3600.0
# Bytes read at once while a state is compared.
_BLOCK = 4 << 20

_STATE, _ABOUT, _HALF, _USELESS = ".kv", ".json", ".part", ".useless"


@dataclass(frozen=True, slots=True)
class Kept:
    """A state on disk. ``prefill_s`` is what reading the prefix took: what a restore saves.

    ``made`` names everything but the prefix that it depends on: engine and build, model, KV types, RoPE, template.
    ``next`` is what the model would write straight after the prefix: the likeliest tokens with the natural logarithms
    of their probabilities, by which a state that an engine misreads shows; empty where the engine does not tell.
    """

    key: str
    label: str  # for people: whose prefix
    made: str
    characters: int  # of the prefix
    tokens: int
    bytes: int
    digest: str
    prefill_s: float
    used: float  # seconds since the epoch
    next: tuple[tuple[str, float], ...] = ()


def key_of(made: str, prefix: str) -> str:
    """The name of the state of a prefix: 40 hexadecimal digits over everything that it depends on."""
    digest = hashlib.blake2b(digest_size=20)
    for part in (str(VERSION), made, prefix):
        text = part.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


class Snapshots:
    """The states in one folder, which the engine reads and writes too. Several processes may share it.

    ``free`` tells the bytes that are free on the folder's disk. Raises SnapshotError when the folder cannot be made.
    """

    def __init__(self, folder: Path, quota: int = QUOTA, *, free: Callable[[Path], int] | None = None) -> None:
        self.folder = folder
        self.quota = quota
        self._free = free or (lambda path: shutil.disk_usage(path).free)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # maybe the data folder itself
            folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise SnapshotError(
                f"The folder of saved prefixes {folder} cannot be made: {error.strerror}.",
                "Choose another with profile.slots_folder, or free the way.",
            ) from error
        self._sweep()

    def kept(self) -> list[Kept]:
        """All states, those used last first."""
        found = [kept for path in self._paths(_ABOUT) if (kept := self._read(path)) is not None]
        return sorted(found, key=lambda kept: (-kept.used, kept.key))

    def find(self, made: str, prefix: str) -> Kept | None:
        """The state of the prefix, or else of the longest beginning of it that is kept."""
        fitting = [kept for kept in self.kept() if kept.made == made and kept.characters <= len(prefix)]
        fitting.sort(key=lambda kept: -kept.characters)
        return next((kept for kept in fitting if kept.key == key_of(made, prefix[: kept.characters])), None)

    def keep(
        self,
        made: str,
        prefix: str,
        save: Callable[[str], PrefixState],
        *,
        label: str = "",
        prefill_s: float = 0.0,
        following: tuple[tuple[str, float], ...] = (),
    ) -> Kept:
        """Has the engine write a state by ``save(file name)`` and keeps it.

        Room is made first for as much as states of this make took before. Raises SnapshotError when it does not fit,
        and what the engine raises; neither leaves anything behind.
        """
        key = key_of(made, prefix)
        self._make_room(self._expected(made, len(prefix)), besides=key)
        name = f"{key}.{os.getpid()}{_HALF}"
        half = self.folder / name
        try:
            state = save(name)
            size, digest = self._measured(half)
            if state.bytes and state.bytes != size:
                raise SnapshotError(
                    f"The engine says it saved {state.bytes} bytes, but {size} are on the disk.",
                    "The disk may be full: free some of it, or lower snapshots.gigabytes.",
                )
            kept = Kept(key, label, made, len(prefix), state.tokens, size, digest, prefill_s, time.time(), following)
            self._make_room(0, besides=key, adding=size)
            half.replace(self.folder / f"{key}{_STATE}")
            self._write(kept)
        except OSError as error:
            raise SnapshotError(
                f"The state of the prefix cannot be kept in {self.folder}: {error.strerror}.",
                "Free some of the disk, or choose another with profile.slots_folder.",
            ) from error
        finally:
            half.unlink(missing_ok=True)
        return kept

    def restore(self, kept: Kept, load: Callable[[str], PrefixState]) -> None:
        """Has the engine read a state by ``load(file name)``.

        A state that is not what was saved is removed, and SnapshotError says so; the engine never sees it. One that
        the engine refuses is removed likewise, and what it raised is raised.
        """
        key = kept.key
        state = self.folder / f"{key}{_STATE}"
        try:
            whole = (kept.bytes, kept.digest) == self._measured(state)
        except OSError:
            whole = False
        if not whole:
            self.forget(key)
            raise SnapshotError(
                "A saved prefix is damaged; it was removed, and the prefix is read again.",
                "If this happens often, check the disk.",
            )
        refused = True
        try:
            load(state.name)
            refused = False
        finally:
            if refused:
                self.forget(key)
        with suppress(OSError):  # another process has just removed it to make room; it is restored all the same
            os.utime(self.folder / f"{key}{_ABOUT}")

    def forget(self, key: str) -> None:
        """Removes a state; nothing happens where there is none."""
        (self.folder / f"{key}{_ABOUT}").unlink(missing_ok=True)  # first: without it the state does not count
        (self.folder / f"{key}{_STATE}").unlink(missing_ok=True)

    def distrust(self, made: str) -> None:
        """Notes that states made so are read back but not used by the engine; all of them are removed."""
        (self.folder / f"{key_of(made, '')}{_USELESS}").touch()
        for kept in self.kept():
            if kept.made == made:
                self.forget(kept.key)

    def distrusted(self, made: str) -> bool:
        return (self.folder / f"{key_of(made, '')}{_USELESS}").exists()

    def _expected(self, made: str, characters: int) -> int:
        """Bytes that a state of this make will take, by those there are; 0 where there are none."""
        alike = [kept for kept in self.kept() if kept.made == made and kept.characters]
        return int(alike[0].bytes / alike[0].characters * characters) if alike else 0

    def _make_room(self, expected: int, *, besides: str, adding: int = 0) -> None:
        """Removes what was not used for longest until the quota and the disk have room. Raises SnapshotError.

        ``expected`` bytes are not written yet; ``adding`` are, but count from now on.
        """
        wanted = expected + adding
        if wanted > self.quota:
            raise SnapshotError(
                f"The state of this prefix takes {_gib(wanted)}; all of them together may take {_gib(self.quota)}.",
                "Raise snapshots.gigabytes, or use a smaller KV type.",
            )
        others = [kept for kept in self.kept() if kept.key != besides]
        used = sum(kept.bytes for kept in others)
        while others and (used + wanted > self.quota or self._free(self.folder) < KEPT_FREE + expected):
            oldest = others.pop()
            self.forget(oldest.key)
            used -= oldest.bytes
        if self._free(self.folder) < KEPT_FREE + expected:
            raise SnapshotError(
                f"The disk of {self.folder} has {_gib(self._free(self.folder))} free: too little for this state.",
                f"Free {_gib(KEPT_FREE + expected)}, or choose another disk with profile.slots_folder.",
            )

    def _measured(self, path: Path) -> tuple[int, str]:
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
            return file.tell(), digest.hexdigest()

    def _write(self, kept: Kept) -> None:
        """The sheet that makes a state count, in one step."""
        shape = {"version": VERSION, **asdict(kept)}
        del shape["used"]  # the time stamp of the file, which a restore renews
        half = self.folder / f"{kept.key}.{os.getpid()}{_ABOUT}{_HALF}"
        half.write_text(json.dumps(shape, indent=1), encoding="utf-8")
        half.replace(self.folder / f"{kept.key}{_ABOUT}")

    def _read(self, path: Path) -> Kept | None:
        """What a sheet says; None where there is none, or none that we could have written of a state that is there."""
        try:
            used = path.stat().st_mtime
            shape = json.loads(path.read_text(encoding="utf-8"))
            size = path.with_suffix(_STATE).stat().st_size
        except (OSError, ValueError):
            return None
        kept = _kept(shape, used)
        return kept if kept and kept.bytes == size and kept.key == path.stem else None

    def _sweep(self) -> None:
        """Removes what died half way, and states without a sheet or of another version."""
        now = time.time()
        for path in self._paths(_HALF):
            if now - _changed(path, now) > STALE_S:
                path.unlink(missing_ok=True)
        for path in self._paths(_STATE):
            if self._read(path.with_suffix(_ABOUT)) is None and now - _changed(path, now) > STALE_S:
                self.forget(path.stem)

    def _paths(self, ending: str) -> Iterator[Path]:
        try:
            yield from sorted(path for path in self.folder.iterdir() if path.suffix == ending)
        except OSError:
            return


def _kept(shape: object, used: float) -> Kept | None:
    if not isinstance(shape, Mapping) or shape.get("version") != VERSION:
        return None
    texts = {name: shape.get(name) for name in ("key", "label", "made", "digest")}
    numbers = {name: shape.get(name) for name in ("characters", "tokens", "bytes", "prefill_s")}
    if not all(isinstance(value, str) for value in texts.values()):
        return None
    if not all(isinstance(value, int | float) for value in numbers.values()):
        return None
    return Kept(**texts, **numbers, used=used, next=_tokens(shape.get("next")))  # type: ignore[arg-type] # looked at above


def _tokens(shape: object) -> tuple[tuple[str, float], ...]:
    """The tokens of a sheet; what cannot be read is left out, and then nothing is compared."""
    pairs = shape if isinstance(shape, list) else []
    return tuple(
        (pair[0], float(pair[1]))
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int | float)
    )


def _changed(path: Path, otherwise: float) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return otherwise


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
