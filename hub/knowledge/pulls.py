"""What pull requests and merge requests said, as the places that keep them sent it: the texts alone, no comments.

A text is data of strangers: secrets are taken out, covert characters spelt out, and it is cut before it is kept. What
was sent later takes the place of what was sent before, in whatever order it comes. Knows neither git nor who may read.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hub.auth.database import Database
from hub.knowledge.words import asked, clean, in_one_line, ranked, searched

FILE = "pulls.db"
FORM = 1  # raise it with each change of the table
MOST_PULLS = 5_000  # of a workspace; those that nothing was sent of for longest go first
MOST_TITLE_CHARS = 300
MOST_BODY_CHARS = 8_000  # as much as of a commit's message
_MOST_RAW_CHARS = 24_000  # of a body that are looked at
_MOST_NAME_CHARS = 200
_MOST_ASKED = 500  # hashes or numbers at once
_HASH = frozenset("0123456789abcdef")
_HASH_LENGTHS = (40, 64)
_SCHEMA = """
CREATE TABLE pulls(
    workspace TEXT NOT NULL, number INTEGER NOT NULL, place TEXT NOT NULL, url TEXT NOT NULL, title TEXT NOT NULL,
    body TEXT NOT NULL, author TEXT NOT NULL, state TEXT NOT NULL, merged_as TEXT NOT NULL, base TEXT NOT NULL,
    updated TEXT NOT NULL, kept_at REAL NOT NULL, words TEXT NOT NULL, PRIMARY KEY(workspace, number));
CREATE INDEX pulls_by_commit ON pulls(workspace, merged_as);
"""
_COLUMNS = "number, place, url, title, body, author, state, merged_as, base, updated"


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request. Its texts are data."""

    number: int
    place: str  # "github" or "gitlab"
    url: str
    title: str
    body: str
    author: str  # "" where it was not told
    state: str  # "open", "merged" or "closed"
    merged_as: str  # the full hash of the commit that brought it in; "" until then
    base: str  # the branch it was for
    updated: str  # ISO 8601 as it was sent; of two the greater counts

    @property
    def called(self) -> str:
        """How people write it: ``#12``, on GitLab ``!12``."""
        return f"{'!' if self.place == 'gitlab' else '#'}{self.number}"


class Pulls:
    """All pull requests of a data folder, each in its workspace. Safe in several threads and processes at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """``path`` is of the file, which is made where there is none. Raises DataFolderError."""
        self._database = Database(path, _SCHEMA, FORM)
        self._clock = clock

    @classmethod
    def reading(cls, data: Path) -> "Pulls | None":
        """Those of a data folder; None where none was ever sent. Raises DataFolderError."""
        path = data / FILE
        return cls(path) if path.exists() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def take(self, workspace: str, pull: Pull) -> bool:
        """Keeps what was sent, cleaned and cut; False where it is no pull request, or older than what is known."""
        if pull.number < 1 or pull.number >= 1 << 31:
            return False
        title = in_one_line(pull.title, MOST_TITLE_CHARS)
        body = _body(pull.body)
        merged_as = pull.merged_as.lower()
        if len(merged_as) not in _HASH_LENGTHS or not _HASH.issuperset(merged_as):
            merged_as = ""
        names = [in_one_line(name, _MOST_NAME_CHARS) for name in (pull.url, pull.author, pull.base, pull.updated)]
        url = names[0] if names[0].startswith(("https://", "http://")) else ""
        with self._database.transaction():
            before = self._read("workspace = ? AND number = ?", (workspace, pull.number))
            if before and names[3] < before[0].updated:
                return False
            author = names[1] or (before[0].author if before else "")
            self._database.run(
                f"INSERT OR REPLACE INTO pulls(workspace, {_COLUMNS}, kept_at, words)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(workspace, pull.number, pull.place, url, title, body, author, pull.state, merged_as),
                    *(names[2], names[3], self._clock(), searched((title, body))),
                ),
            )
            self._database.run(
                "DELETE FROM pulls WHERE workspace = ? AND number NOT IN"
                " (SELECT number FROM pulls WHERE workspace = ? ORDER BY kept_at DESC, number DESC LIMIT ?)",
                (workspace, workspace, MOST_PULLS),
            )
        return True

    def of_commits(self, workspace: str, hashes: Iterable[str]) -> tuple[Pull, ...]:
        """Those that these commits brought in, by number."""
        return self._among(workspace, "merged_as", list(hashes))

    def numbered(self, workspace: str, numbers: Iterable[int]) -> tuple[Pull, ...]:
        """Those with these numbers, by number."""
        return self._among(workspace, "number", list(numbers))

    def search(self, workspace: str, query: str, limit: int) -> tuple[Pull, ...]:
        """Those that hold words of the query, the ones with the rarest first, of equals the newest."""
        wanted = asked(query)
        if not wanted:
            return ()
        held = ", ".join("instr(words, ?) > 0" for _ in wanted)
        rows = self._database.rows(
            f"SELECT number, {held} FROM pulls WHERE workspace = ?",  # noqa: S608 - marks alone
            (*wanted, workspace),
        )
        best = ranked(rows)[: max(0, min(limit, _MOST_ASKED))]
        known = {pull.number: pull for pull in self.numbered(workspace, best)}
        return tuple(known[number] for number in best if number in known)

    def forget(self, workspace: str) -> None:
        """Lets go of all that was sent about a workspace."""
        self._database.run("DELETE FROM pulls WHERE workspace = ?", (workspace,))

    def _among(self, workspace: str, column: str, values: Sequence[object]) -> tuple[Pull, ...]:
        found: list[Pull] = []
        for start in range(0, len(values), _MOST_ASKED):
            part = values[start : start + _MOST_ASKED]
            marks = ", ".join("?" for _ in part)
            found += self._read(f"workspace = ? AND {column} IN ({marks})", (workspace, *part))
        return tuple(sorted(found, key=lambda pull: pull.number))

    def _read(self, where: str, values: Sequence[object]) -> list[Pull]:
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM pulls WHERE {where}", values)  # noqa: S608 - names and marks
        return [Pull(int(str(row[0])), *map(str, row[1:])) for row in rows]


def _body(text: str) -> str:
    """Whole lines only where it is cut: half of a secret would not be known for one."""
    if len(text) > _MOST_RAW_CHARS:
        text = text[:_MOST_RAW_CHARS].rpartition("\n")[0]
    plain = clean(text.replace("\r\n", "\n")).strip()
    return plain if len(plain) <= MOST_BODY_CHARS else plain[:MOST_BODY_CHARS]
