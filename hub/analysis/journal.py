"""What a model said of each part of an analysis, kept on disk: whoever was stopped goes on where he was.

Knows nothing of what was asked or answered, and believes nothing that it reads: who takes a text from here checks it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from hub.model import Usage

MOST_JOURNALS = 16  # analyses that are remembered; 1 to 1,000


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said to one prompt, before any check."""

    text: str
    usage: Usage = field(default_factory=Usage)


class Journal:
    """What a model said of each part of one analysis, on disk. Damaged lines are passed over.

    A disk that cannot be written costs the journal, which ``trouble`` says, and not the analysis.
    """

    def __init__(self, folder: Path, subject: str) -> None:
        """``subject`` is whatever analyses must agree in to go on with each other's parts: question and model."""
        self._file = folder / f"{blake2b(subject.encode('utf-8', 'replace'), digest_size=8).hexdigest()}.jsonl"
        self._said: dict[str, Said] | None = None
        self.trouble = ""

    def said(self, key: str) -> Said | None:
        """What was said to the prompt of this key."""
        if self._said is None:
            self._said = dict(self._read())
        return self._said.get(key)

    def keep(self, key: str, said: Said) -> None:
        """Keeps it for the next run, the journals of the newest analyses only."""
        row = {"key": key, "text": said.text, "prompt": said.usage.prompt, "completion": said.usage.completion}
        try:
            if not self._file.exists():
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._forget_oldest()
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            self.trouble = f"What is read cannot be kept for another run: {error.strerror or error}."

    def _read(self) -> Iterator[tuple[str, Said]]:
        try:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            try:
                row = json.loads(line)
                key, text, prompt, completion = row["key"], row["text"], row["prompt"], row["completion"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            if (
                isinstance(key, str)
                and isinstance(text, str)
                and isinstance(prompt, int)
                and isinstance(completion, int)
            ):
                yield key, Said(text, Usage(prompt, completion))

    def _forget_oldest(self) -> None:
        known = sorted(self._file.parent.glob("*.jsonl"), key=lambda file: (file.stat().st_mtime_ns, file.name))
        for file in known[: max(0, len(known) - MOST_JOURNALS + 1)]:
            file.unlink(missing_ok=True)
