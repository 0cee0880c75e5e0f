"""Finished rows on disk, one JSON object a line, so that a crash or Ctrl-C costs the row under way and no more.

One file for each subject: rows of another model, profile, engine or machine never meet.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hub.errors import MeasuringError
from hub.measuring.model import Peak, Row, Status, Subject

_END = {"end": True}


class Journal:
    """The journal of one subject in a folder, which is made. Raises MeasuringError where it cannot be written."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        told = json.dumps(asdict(subject), sort_keys=True)
        self._file = folder / f"rows-{blake2b(told.encode(), digest_size=6).hexdigest()}.jsonl"
        self._subject = subject
        self.trouble = ""  # why rows are no longer kept, empty while they are
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise MeasuringError(
                f"Nothing can be written to {folder}: {error.strerror}.", "Name another folder with --output."
            ) from None

    @property
    def path(self) -> Path:
        return self._file

    def rows(self) -> tuple[dict[int, Row], bool]:
        """Finished rows by context, and whether the measurement had come to its end. Damaged lines are passed over."""
        rows: dict[int, Row] = {}
        ended = False
        try:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}, False
        for line in lines:
            try:
                told = json.loads(line)
                if told == _END:
                    ended = True
                elif "context" in told:
                    row = row_of(told)
                    rows[row.context] = row
                    ended = False
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
        return rows, ended

    def begin_anew(self) -> None:
        """Forgets all rows."""
        self._write("w", {"subject": asdict(self._subject)})

    def add(self, row: Row) -> None:
        """Keeps a row. A disk that is full costs the journal, which ``trouble`` says, and not the measurement."""
        self._write("a", asdict(row))

    def end(self) -> None:
        """Marks the measurement as whole, so that the next one begins anew."""
        self._write("a", _END)

    def _write(self, mode: str, told: Mapping[str, Any]) -> None:
        try:
            with self._file.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(told) + "\n")
        except OSError as error:
            self.trouble = f"Rows can no longer be kept in {self._file} ({error.strerror}): do not stop before the end."


def row_of(told: Mapping[str, Any]) -> Row:
    """A row from what ``asdict`` made of it. Raises TypeError, ValueError or KeyError."""
    row = Row(**{**told, "status": Status(told["status"]), "peak": Peak(**told["peak"])})
    numbers = (row.context, row.prompt_tokens, row.new_tokens, row.alert)
    if not all(isinstance(number, int) for number in numbers) or row.context <= 0:
        raise ValueError
    return row
