"""What is remembered during one task: notes under a handle that only the key which opened it can use, gone after a day.

A handle is 128 random bits. The file holds a digest of it together with the key's id, so neither the file nor the
handle alone opens anything, and a handle in another key's hands is one that never was. Whatever is kept has lost its
secrets and shows its covert characters before it is written. Knows no tool, and judges nothing that it is told.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from hub.auth.database import Database
from hub.auth.model import Principal
from hub.errors import KnowledgeError, UnknownSession
from hub.knowledge.model import Anchor, Note, NoteKind, Session
from hub.knowledge.words import (
    MOST_ANCHORS,
    MOST_RAW,
    MOST_SOURCE_CHARS,
    asked,
    clean,
    in_one_line,
    ranked,
    searched,
    title_and_text,
)

FILE = "sessions.db"
FORM = 1  # raise it with each change of the tables
LIFETIME_S = 86_400.0  # 3,600 to 30 days; the setting [agents] session_hours
CLOCK_SLACK_S = 60.0  # that the clock may go back before what was opened later than now is taken for void

MOST_NOTES = 400  # of a session; what runs told goes first, the oldest before the others
MOST_OF_KEY = 64  # sessions; the oldest goes
MOST_IN_ALL = 2_000  # then the oldest one of the key that has most
MOST_LIMIT = 200  # notes of one answer
_SCHEMA = """
CREATE TABLE sessions(
    digest TEXT PRIMARY KEY, key TEXT NOT NULL, workspace TEXT NOT NULL, opened_at REAL NOT NULL,
    until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX sessions_by_end ON sessions(until);
CREATE INDEX sessions_by_start ON sessions(opened_at);
CREATE TABLE notes(
    id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL, anchors TEXT NOT NULL, source TEXT NOT NULL, made_at REAL NOT NULL, later TEXT NOT NULL,
    words TEXT NOT NULL, same TEXT NOT NULL);
CREATE INDEX notes_by_session ON notes(session, same);
"""
_SELECT = "SELECT id, kind, title, text, anchors, source, made_at, later FROM notes WHERE "


class Sessions:
    """All sessions of a data folder. Safe in several threads and processes at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, lifetime_s: float = LIFETIME_S) -> None:
        """``path`` is of the file, which is made where there is none. Raises DataFolderError."""
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._database = Database(path, _SCHEMA, FORM)

    def close(self) -> None:
        self._database.close()

    def open(self, principal: Principal, workspace: str) -> Session:
        """A new session of this key in a workspace that it sees; where it has too many, its oldest one ends."""
        if not principal.sees(workspace):
            raise _unknown()
        handle = f"s_{secrets.token_hex(16)}"
        now = self._clock()
        with self._database.transaction():
            self._sweep(now)
            self._make_room(principal.key_id)
            self._database.run(
                "INSERT INTO sessions VALUES(?, ?, ?, ?, ?)",
                (_digest(principal, handle), principal.key_id, workspace, now, now + self._lifetime_s),
            )
        return Session(handle, workspace, now + self._lifetime_s)

    def get(self, principal: Principal, handle: str) -> Session:
        """The session of a handle. Raises UnknownSession, alike for none, another key's, and one that has ended."""
        now = self._clock()
        if self._database.rows("SELECT 1 FROM sessions WHERE until <= ? LIMIT 1", (now,)):
            with self._database.transaction():
                self._sweep(now)
        return self._found(principal, handle, now)

    def end(self, principal: Principal, handle: str) -> None:
        """Ends a session and forgets what is in it. Raises UnknownSession."""
        self.get(principal, handle)
        with self._database.transaction():
            self._drop([_digest(principal, handle)])

    def note(
        self,
        principal: Principal,
        handle: str,
        kind: NoteKind,
        title: str,
        text: str,
        anchors: Sequence[Anchor] = (),
        source: str = "",
    ) -> Note:
        """Keeps a note. What was kept word for word before becomes the newest.

        Raises UnknownSession, and KnowledgeError for an empty text, one above MOST_TEXT_BYTES, more than MOST_ANCHORS,
        and where the session is full of notes in people's own words.
        """
        kept_title, kept_text = title_and_text(title, text)
        if len(anchors) > MOST_ANCHORS:
            raise KnowledgeError(f"A note has at most {MOST_ANCHORS} anchors.", "Name the main symbols and places.")
        places = json.dumps([(in_one_line(anchor.symbol), in_one_line(anchor.path), anchor.line) for anchor in anchors])
        said = clean(source[:MOST_RAW])[:MOST_SOURCE_CHARS]
        same = sha256(f"{kind.value}\0{kept_title}\0{kept_text}\0{places}".encode()).hexdigest()
        found_by = searched([kept_title, kept_text, *(f"{each.symbol} {each.path}" for each in anchors)])
        self.get(principal, handle)
        session = _digest(principal, handle)
        with self._database.transaction():
            now = self._clock()
            self._found(principal, handle, now)
            self._database.run("DELETE FROM notes WHERE session = ? AND same = ?", (session, same))
            self._make_room_for_note(session, kind)
            self._database.run(
                "INSERT INTO notes(session, kind, title, text, anchors, source, made_at, later, words, same)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, '', ?, ?)",
                (session, kind.value, kept_title, kept_text, places, said, now, found_by, same),
            )
            made = self._database.rows(_SELECT + "session = ? AND same = ?", (session, same))
        return _note(made[0])

    def overtaken(self, principal: Principal, handle: str, source: str, later: str) -> int:
        """Marks the findings whose source begins so as overtaken by ``later``; how many. Raises UnknownSession."""
        self.get(principal, handle)
        return self._database.run(
            "UPDATE notes SET later = ? WHERE session = ? AND kind = 'finding' AND later = ''"
            " AND substr(source, 1, length(?)) = ?",
            (clean(later[:MOST_RAW])[:MOST_SOURCE_CHARS], _digest(principal, handle), source, source),
        )

    def notes(self, principal: Principal, handle: str, query: str = "", limit: int = 20) -> tuple[Note, ...]:
        """Notes that hold words or names of the query, those that hold the rarest first, the newest first of equals.

        Without a query the newest. At most ``limit``, 1 to MOST_LIMIT. Raises UnknownSession.
        """
        self.get(principal, handle)
        session, limit = _digest(principal, handle), max(1, min(limit, MOST_LIMIT))
        if not query.strip():
            return self._of("session = ? ORDER BY id DESC LIMIT ?", (session, limit))
        wanted = asked(query)
        if not wanted:
            return ()
        held = ", ".join("instr(words, ?) > 0" for _ in wanted)
        rows = self._database.rows(
            f"SELECT id, {held} FROM notes WHERE session = ?",  # noqa: S608 - marks and names of columns alone
            (*wanted, session),
        )
        return self._in_order(session, ranked(rows)[:limit])

    def near(
        self, principal: Principal, handle: str, symbols: Collection[str], paths: Collection[str], limit: int = 20
    ) -> tuple[Note, ...]:
        """Notes about these symbols (qualified names, or their last parts) or files, those about most of them first.

        Raises UnknownSession.
        """
        self.get(principal, handle)
        session = _digest(principal, handle)
        wanted = set(symbols)
        wanted_ends = {symbol.rpartition("::")[2] for symbol in wanted}
        files = set(paths)
        scored = []
        for number, places in self._database.rows(
            "SELECT id, anchors FROM notes WHERE session = ? AND anchors != '[]'", (session,)
        ):
            score = 0
            for symbol, path, _line in json.loads(str(places)):
                if symbol and symbol.rpartition("::")[2] in wanted_ends:
                    score += 2 * any(_is_same(symbol, each) for each in wanted)
                score += bool(path) and path in files
            if score:
                scored.append((score, int(str(number))))
        best = [note for _, note in sorted(scored, reverse=True)][: max(1, min(limit, MOST_LIMIT))]
        return self._in_order(session, best)

    def _found(self, principal: Principal, handle: str, now: float) -> Session:
        found = self._database.rows(
            "SELECT workspace, until FROM sessions WHERE digest = ? AND until > ? AND opened_at <= ?",
            (_digest(principal, handle), now, now + CLOCK_SLACK_S),
        )
        if not found or not principal.sees(str(found[0][0])):
            raise _unknown()
        return Session(handle, str(found[0][0]), float(str(found[0][1])))

    def _of(self, where: str, values: Sequence[object]) -> tuple[Note, ...]:
        return tuple(map(_note, self._database.rows(_SELECT + where, values)))

    def _in_order(self, session: str, numbers: Sequence[int]) -> tuple[Note, ...]:
        marks = ", ".join("?" for _ in numbers)
        found = {note.id: note for note in self._of(f"session = ? AND id IN ({marks})", (session, *numbers))}
        return tuple(found[number] for number in numbers if number in found)

    def _make_room(self, key: str) -> None:
        mine = self._database.rows("SELECT digest FROM sessions WHERE key = ? ORDER BY opened_at DESC, digest", (key,))
        self._drop(str(digest) for (digest,) in mine[MOST_OF_KEY - 1 :])
        total = Counter(str(row[0]) for row in self._database.rows("SELECT key FROM sessions"))
        if total.total() >= MOST_IN_ALL:
            most = max(sorted(total), key=lambda each: total[each])
            oldest = self._database.rows(
                "SELECT digest FROM sessions WHERE key = ? ORDER BY opened_at, digest LIMIT 1", (most,)
            )
            self._drop(str(digest) for (digest,) in oldest)

    def _make_room_for_note(self, session: str, kind: NoteKind) -> None:
        counted = self._database.rows(
            "SELECT coalesce(sum(kind = 'note'), 0), count(*) FROM notes WHERE session = ?", (session,)
        )
        own, held = (int(str(number)) for number in counted[0])
        if held < MOST_NOTES:
            return
        if own == held:
            if kind is NoteKind.NOTE:
                raise KnowledgeError(
                    f"This session holds {MOST_NOTES} notes already.",
                    "Open another one: call remember without `session`.",
                )
            raise KnowledgeError(f"This session holds {MOST_NOTES} notes already.", "Open another one for the run.")
        self._database.run(
            "DELETE FROM notes WHERE id = (SELECT min(id) FROM notes WHERE session = ? AND kind != 'note')", (session,)
        )

    def _sweep(self, now: float) -> None:
        ended = self._database.rows("SELECT digest FROM sessions WHERE until <= ?", (now,))
        self._drop(str(digest) for (digest,) in ended)

    def _drop(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self._database.run("DELETE FROM notes WHERE session = ?", (digest,))
            self._database.run("DELETE FROM sessions WHERE digest = ?", (digest,))


def _unknown() -> UnknownSession:
    return UnknownSession(
        "There is no such session, or it has ended.",
        "Call remember without `session`: it opens a new one and returns its handle.",
    )


def _digest(principal: Principal, handle: str) -> str:
    """What a session is looked up by. 128 random bits need no slow hash (OWASP ASVS 6.5.2)."""
    return sha256(f"{principal.key_id}\0{handle}".encode("utf-8", "replace")).hexdigest()


def _is_same(symbol: str, other: str) -> bool:
    """Whether two names may mean one symbol: equal, or one the end of the other."""
    return symbol == other or symbol.endswith(f"::{other}") or other.endswith(f"::{symbol}")


def _note(row: Sequence[object]) -> Note:
    number, kind, title, text, places, source, made_at, later = row
    return Note(
        id=int(str(number)),
        kind=NoteKind(str(kind)),
        title=str(title),
        text=str(text),
        anchors=tuple(Anchor(*place) for place in json.loads(str(places))),
        source=str(source),
        made_at=float(str(made_at)),
        later=str(later),
    )
