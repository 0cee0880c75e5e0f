"""What was asked lately, as numbers alone: a bounded log of features and values, in the folder of a workspace.

No text of a question is ever kept: names of features come from our own code, and their values are numbers. A log that
cannot be written costs a comparison with what the tree was calibrated on, and no answer.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

LOG_BYTES = 1 << 20  # of the log; when it is larger, the older half goes. 100 KiB to 10 MiB: some 1,000 to 10,000.
_LOG = "questions.jsonl"
_LONGEST_NAME = 60  # of a feature
VALUE = "value"  # the name that the confidence itself has among the features


@dataclass(frozen=True, slots=True)
class Recent:
    """One question: its features and, as ``VALUE``, how sure the prompt was."""

    numbers: tuple[tuple[str, float], ...]


def note(folder: Path, features: Iterable[tuple[str, float]], value: float) -> None:
    """Adds a question. Does nothing where the folder cannot be written."""
    numbers = {name[:_LONGEST_NAME]: round(float(number), 5) for name, number in features if isfinite(number)}
    line = json.dumps({**numbers, VALUE: round(float(value), 5)}) + "\n"
    file = folder / _LOG
    with suppress(OSError):
        if file.exists() and file.stat().st_size > LOG_BYTES:
            _shorten(file)
        # One write at the end of the file, so that lines of several processes do not mix.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode("ascii"))
        finally:
            os.close(descriptor)


def recent(folder: Path) -> list[Recent]:
    """The questions of the log, oldest first; damaged lines are passed over."""
    try:
        lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            told = json.loads(line)
            found.append(Recent(tuple((str(name), float(number)) for name, number in told.items())))
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    return found


def _shorten(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    written = file.with_suffix(f".{os.getpid()}")
    written.write_bytes(b"".join(lines[len(lines) // 2 :]))
    written.replace(file)
