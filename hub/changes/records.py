"""Records of what changed, kept beside an index: those of the newest merges, and the last that were asked for.

A record is what git told; pull requests are joined when it is read, so that a text that comes late is in it. All of it
can be made again at any time. Knows neither how a record is made nor how it is told.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hub.auth.database import Database
from hub.changes.model import (
    ChangedDocument,
    ChangedFile,
    ChangeKind,
    Changes,
    FileStatus,
    Landing,
    Range,
    Source,
    Summary,
    SymbolChange,
    Told,
)
from hub.knowledge.words import asked, ranked, searched
from indexer.model import SymbolId, SymbolKind

FILE = "changes.db"
FORM = 1  # raise it with each change of the tables, or of what a record holds
MOST_ASKED = 50  # records that somebody asked for, 10 to 500
MOST_RECORD_CHARS = 8 << 20  # of one; a larger one is made again when it is asked for
_MOST_WORDS_CHARS = 60_000  # of a record's texts that are searched
_SCHEMA = """
CREATE TABLE records(
    base TEXT NOT NULL, head TEXT NOT NULL, facts TEXT NOT NULL, landing TEXT NOT NULL, time_s INTEGER NOT NULL,
    used INTEGER NOT NULL, record TEXT NOT NULL, words TEXT NOT NULL, PRIMARY KEY(base, head));
CREATE TABLE brought(hash TEXT NOT NULL, base TEXT NOT NULL, head TEXT NOT NULL, PRIMARY KEY(hash, base, head))
    WITHOUT ROWID;
CREATE INDEX brought_by ON brought(base, head);
CREATE TABLE summaries(
    base TEXT NOT NULL, head TEXT NOT NULL, about TEXT NOT NULL, text TEXT NOT NULL, model TEXT NOT NULL,
    sources TEXT NOT NULL, PRIMARY KEY(base, head));
CREATE TABLE notes(key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Records:
    """The records of one workspace. Safe in several threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the workspace's. Raises DataFolderError."""
        self._database = Database(folder / FILE, _SCHEMA, FORM)

    @classmethod
    def reading(cls, folder: Path) -> "Records | None":
        """Those of a folder; None where none were ever kept. Raises DataFolderError."""
        return cls(folder) if (folder / FILE).exists() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def get(self, asked_for: Range, facts: str) -> Changes | None:
        """The record of a range, if it was made with these facts."""
        rows = self._database.rows(
            "SELECT record FROM records WHERE base = ? AND head = ? AND facts = ?",
            (asked_for.base, asked_for.head, facts),
        )
        return _read(str(rows[0][0])) if rows else None

    def keep(self, changes: Changes, facts: str) -> None:
        """Keeps a record; one that was asked for only as long as others are not asked for more."""
        if not changes.whole or not changes.head:
            return
        record = json.dumps(_written(changes), ensure_ascii=False, separators=(",", ":"))
        if len(record) > MOST_RECORD_CHARS:
            return
        texts = [f"{told.subject}\n{told.body}" for told in changes.commits]
        texts += [each.symbol for each in changes.symbols] + [each.path for each in changes.files]
        with self._database.transaction():
            known = self._database.rows(
                "SELECT landing FROM records WHERE base = ? AND head = ?", (changes.base, changes.head)
            )
            landing = changes.landing
            if landing is Landing.ASKED and known:
                landing = Landing(str(known[0][0]))
            used = int(str(self._database.rows("SELECT coalesce(max(used), 0) + 1 FROM records")[0][0]))
            self._database.run(
                "INSERT OR REPLACE INTO records VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(changes.base, changes.head, facts, landing.value, changes.time_s, used, record),
                    searched(("\n".join(texts)[:_MOST_WORDS_CHARS],)),
                ),
            )
            self._database.run("DELETE FROM brought WHERE base = ? AND head = ?", (changes.base, changes.head))
            for told in changes.commits:
                self._database.run(
                    "INSERT OR IGNORE INTO brought VALUES(?, ?, ?)", (told.commit, changes.base, changes.head)
                )
            beyond = self._database.rows(
                "SELECT base, head FROM records WHERE landing = ? ORDER BY used DESC LIMIT -1 OFFSET ?",
                (Landing.ASKED.value, MOST_ASKED),
            )
            self._drop((str(base), str(head)) for base, head in beyond)

    def landed(self, limit: int) -> tuple[Changes, ...]:
        """What reached the branch, the newest first."""
        rows = self._database.rows(
            "SELECT record FROM records WHERE landing != ? ORDER BY time_s DESC, head LIMIT ?",
            (Landing.ASKED.value, max(0, limit)),
        )
        return tuple(_read(str(record)) for (record,) in rows)

    def ranges(self) -> tuple[tuple[Range, str], ...]:
        """(range, facts that it was made with) of what reached the branch, the newest first."""
        rows = self._database.rows(
            "SELECT base, head, landing, facts FROM records WHERE landing != ? ORDER BY time_s DESC, head",
            (Landing.ASKED.value,),
        )
        return tuple((Range(str(row[0]), str(row[1]), Landing(str(row[2]))), str(row[3])) for row in rows)

    def retire(self, ranges: Iterable[Range]) -> int:
        """Lets go of records. Returns how many there were."""
        with self._database.transaction():
            return self._drop((each.base, each.head) for each in ranges)

    def bringing(self, commits: Sequence[str]) -> dict[str, Changes]:
        """What brought each of these commits to the branch; of several the one that brought the fewest."""
        found: dict[str, Changes] = {}
        read: dict[tuple[str, str], Changes] = {}
        for commit in commits:
            rows = self._database.rows(
                "SELECT records.base, records.head, record FROM brought JOIN records"
                " ON records.base = brought.base AND records.head = brought.head"
                " WHERE hash = ? AND landing NOT IN (?, ?) ORDER BY length(record), records.head LIMIT 1",
                (commit, Landing.ASKED.value, Landing.PULL.value),
            )
            for base, head, record in rows:
                key = (str(base), str(head))
                found[commit] = read[key] = read.get(key) or _read(str(record))
        return found

    def matching(self, query: str, limit: int) -> tuple[Changes, ...]:
        """What reached the branch and speaks of the query, that with its rarest words first, of equals the newest."""
        wanted = asked(query)
        if not wanted:
            return ()
        held = ", ".join("instr(words, ?) > 0" for _ in wanted)
        rows = self._database.rows(
            f"SELECT row_number() OVER (ORDER BY time_s, head), {held}, record FROM records WHERE landing != ?",  # noqa: S608 - marks alone
            (*wanted, Landing.ASKED.value),
        )
        records = {int(str(row[0])): str(row[-1]) for row in rows}
        return tuple(_read(records[number]) for number in ranked([row[:-1] for row in rows])[: max(0, limit)])

    def summary(self, changes: Changes, about: str) -> Summary | None:
        """What a model wrote of a range, if what it was shown, ``about``, is still the same."""
        rows = self._database.rows(
            "SELECT text, model, sources FROM summaries WHERE base = ? AND head = ? AND about = ?",
            (changes.base, changes.head, about),
        )
        if not rows:
            return None
        text, model, sources = map(str, rows[0])
        return Summary(text, True, model, tuple(Source(*each) for each in json.loads(sources)))

    def keep_summary(self, changes: Changes, about: str) -> None:
        """Keeps what a model wrote, as long as the record of the range is kept."""
        made = changes.summary
        sources = json.dumps([[each.label, each.what, each.title] for each in made.sources])
        self._database.run(
            "INSERT OR REPLACE INTO summaries SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS"
            " (SELECT 1 FROM records WHERE base = ? AND head = ?)",
            (changes.base, changes.head, about, made.text, made.model, sources, changes.base, changes.head),
        )

    def note(self, key: str) -> str:
        """What was noted under a name; "" for nothing."""
        rows = self._database.rows("SELECT value FROM notes WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else ""

    def set_note(self, key: str, value: str) -> None:
        self._database.run("INSERT OR REPLACE INTO notes VALUES(?, ?)", (key, value))

    def _drop(self, ranges: Iterable[tuple[str, str]]) -> int:
        dropped = 0
        for base, head in ranges:
            dropped += self._database.run("DELETE FROM records WHERE base = ? AND head = ?", (base, head))
            for table in ("brought", "summaries"):
                self._database.run(f"DELETE FROM {table} WHERE base = ? AND head = ?", (base, head))  # noqa: S608 - two names
        return dropped


def _written(changes: Changes) -> dict[str, Any]:
    kept = asdict(changes)
    for joined in ("pull_requests", "summary", "whole", "reached", "total_reached"):
        del kept[joined]
    return kept


def _read(record: str) -> Changes:
    kept: dict[str, Any] = json.loads(record)
    return Changes(
        kept["base"],
        kept["head"],
        Landing(kept["landing"]),
        tuple(Told(**each) for each in kept["commits"]),
        tuple(ChangedFile(FileStatus(each["status"]), each["path"], each["before"]) for each in kept["files"]),
        tuple(
            SymbolChange(
                **{
                    **each,
                    "kind": ChangeKind(each["kind"]),
                    "what": SymbolKind(each["what"]),
                    "id": SymbolId(each["id"]),
                }
            )
            for each in kept["symbols"]
        ),
        issues=tuple(kept["issues"]),
        documents=tuple(ChangedDocument(**each) for each in kept["documents"]),
        notes=tuple(kept["notes"]),
        total_commits=kept["total_commits"],
        total_files=kept["total_files"],
    )
