"""What was found out about each question, on disk, so that a stop or a crash costs the question under way and no more.

One file for all that a finding depends on: another commit, another version or other options never meet it. A question
stands there as a digest, and its finding as numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from hub.calibrating.examples import Example, loads
from hub.calibrating.questions import Asked

_FILES = "examples-*.jsonl"
_WHOLE = "whole"  # begins the line that says so


@dataclass(frozen=True, slots=True)
class Kept:
    """Findings by the digest of their question; ``notes`` is None unless all questions were asked."""

    findings: Mapping[str, Example]
    notes: tuple[str, ...] | None


class Journal:
    """The findings for one key in a folder, which is made. That nothing can be written any more, ``trouble`` says."""

    def __init__(self, folder: Path, key: Mapping[str, object]) -> None:
        digest = blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
        self._folder = folder
        self._file = folder / _FILES.replace("*", digest)
        self._cut = False  # whether its last line was cut
        self.trouble = ""  # why findings are no longer kept, empty while they are

    def read(self) -> Kept:
        """What is kept. Damaged lines, such as one cut by a crash, are passed over."""
        found: dict[str, Example] = {}
        notes: tuple[str, ...] | None = None
        try:
            text = self._file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return Kept({}, None)
        self._cut = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            digest, _, rest = line.partition(" ")
            if digest == _WHOLE:
                notes = _notes(rest)
            elif (example := loads(rest)) is not None:
                found[digest] = example
        return Kept(found, notes)

    def add(self, asked: Asked, example: Example) -> None:
        """Keeps a finding. A disk that is full costs the journal and not the calibration."""
        self._write(f"{digest_of(asked)} {example.dumps()}")

    def end(self, notes: Sequence[str]) -> None:
        """Marks the findings as whole, with what was said about the questions."""
        self._write(f"{_WHOLE} {json.dumps(list(notes))}")

    def forget_others(self) -> None:
        """Removes what was found for other keys."""
        for file in self._folder.glob(_FILES):
            if file != self._file:
                file.unlink(missing_ok=True)

    def forget(self) -> None:
        """Removes what was found for this key."""
        self._file.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(("\n" if self._cut else "") + line + "\n")
            self._cut = False
        except OSError as error:
            self.trouble = (
                f"Findings can no longer be kept in {self._file} ({error.strerror}): do not stop before the end."
            )


def digest_of(asked: Asked) -> str:
    """Tells questions apart without their words."""
    told = json.dumps([asked.question, asked.stratum, asked.variant, asked.missing, asked.about])
    return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def _notes(text: str) -> tuple[str, ...] | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return tuple(map(str, told)) if isinstance(told, list) else None
