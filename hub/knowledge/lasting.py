"""What people know of a tree and keep for good: proposed by one, accepted by another, retired when it no longer holds.

Nothing is ever overwritten or deleted. An entry that takes the place of others counts from its acceptance on, so taking
a batch back lets what it replaced hold again. Every change is written into the audit log within the same transaction:
what cannot be recorded is not done. An entry is found in its own workspace alone; elsewhere it is as one that never
was. Knows no index: whether the code has changed since is told by whoever has one.
"""

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from hub.auth.audit import AuditLog
from hub.auth.database import Database
from hub.auth.model import Principal, Scope
from hub.errors import Forbidden, KnowledgeError, UnknownEntry
from hub.knowledge.model import Anchor, Anchored, Draft, Entry, EntryKind, Review, Source, State
from hub.knowledge.words import MOST_ANCHORS, asked, in_one_line, ranked, searched, title_and_text

FILE = "knowledge.db"
FORM = 1  # raise it with each change of the tables
AT_THE_TERMINAL = "terminal"  # the key id of whoever writes the data folder anyway: nobody else need be there
SHOWN = (State.ACCEPTED, State.SUPERSEDED)  # where nothing else is asked for
EVERY = tuple(State)

MOST_ENTRIES = 10_000  # of a workspace, whatever their state
MOST_PROPOSED = 500  # of one key in a workspace: what nobody reviews does not pile up
MOST_EVIDENCE = 32
MOST_LIMIT = 200  # entries of one answer
_MOST_DIGEST = 64
_SCHEMA = """
CREATE TABLE entries(
    workspace TEXT NOT NULL, id INTEGER NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL,
    author TEXT NOT NULL, key TEXT NOT NULL, at_commit TEXT NOT NULL, evidence TEXT NOT NULL, created_at REAL NOT NULL,
    expires_at REAL, state TEXT NOT NULL, counts INTEGER NOT NULL, reviewer TEXT NOT NULL, reviewed_at REAL,
    reason TEXT NOT NULL, reaffirmed_by TEXT NOT NULL, reaffirmed_at REAL, batch TEXT NOT NULL, words TEXT NOT NULL,
    same TEXT NOT NULL, PRIMARY KEY(workspace, id));
CREATE INDEX entries_by_sameness ON entries(workspace, same);
CREATE INDEX entries_by_batch ON entries(workspace, batch);
CREATE TABLE anchors(
    workspace TEXT NOT NULL, id INTEGER NOT NULL, place INTEGER NOT NULL, symbol TEXT NOT NULL, path TEXT NOT NULL,
    line INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(workspace, id, place)) WITHOUT ROWID;
CREATE INDEX anchors_by_symbol ON anchors(workspace, symbol);
CREATE INDEX anchors_by_path ON anchors(workspace, path, line);
CREATE TABLE successions(
    workspace TEXT NOT NULL, old INTEGER NOT NULL, new INTEGER NOT NULL,
    PRIMARY KEY(workspace, old, new)) WITHOUT ROWID;
"""
# What files of the first form lack. It is added to them, since nothing that they hold changes.
_SOURCES = """
CREATE TABLE IF NOT EXISTS sources(
    workspace TEXT NOT NULL, id INTEGER NOT NULL, name TEXT NOT NULL, part TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY(workspace, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sources_by_name ON sources(workspace, name);
"""
_READING = (Scope.READ, Scope.KNOWLEDGE, Scope.APPROVE, Scope.ADMIN)  # each of which lets one read entries
_ENDING = (Scope.APPROVE, Scope.KNOWLEDGE)  # the latter for what is one's own and was never accepted
_COLUMNS = (
    "id, kind, title, text, author, key, at_commit, evidence, created_at, expires_at, reviewer, reviewed_at, reason,"
    " reaffirmed_by, reaffirmed_at, batch, state"
)


class Lasting:
    """All entries of a data folder. Safe in several threads and processes at once."""

    def __init__(
        self, path: Path, audit: AuditLog, review: Review = Review.OTHER, clock: Callable[[], float] = time.time
    ) -> None:
        """``path`` is of the file, which is made where there is none. Raises DataFolderError."""
        self._audit = audit
        self._review = review
        self._clock = clock
        self._database = Database(path, _SCHEMA, FORM)
        if not self._database.rows("SELECT 1 FROM sqlite_master WHERE name = 'sources_by_name'"):
            with self._database.transaction():
                self._database.run(_SOURCES)

    def close(self) -> None:
        self._database.close()

    # Reading

    def get(self, principal: Principal, workspace: str, number: int) -> Entry:
        """One entry, whatever its state. Raises UnknownEntry."""
        found = self._read(workspace, [number]) if _reads(principal, workspace) else ()
        if not found:
            raise _unknown()
        return found[0]

    def search(
        self,
        principal: Principal,
        workspace: str,
        query: str = "",
        limit: int = 20,
        states: Collection[State] = SHOWN,
    ) -> tuple[Entry, ...]:
        """Entries that hold words or names of the query, those that hold the rarest first, the newest first of equals.

        Without a query the newest. Those that count most come before all others, in the order of State: what was
        superseded last. At most ``limit``, 1 to MOST_LIMIT; none where the workspace may not be read.
        """
        if not _reads(principal, workspace):
            return ()
        wanted = asked(query)
        if query.strip() and not wanted:
            return ()
        held = ", ".join("instr(words, ?) > 0" for _ in wanted) or "1"
        rows = self._database.rows(
            f"SELECT id, {held} FROM entries WHERE workspace = ?",  # noqa: S608 - marks and names of columns alone
            (*wanted, workspace),
        )
        state_of = self._states(workspace)
        order = list(State)
        best = [number for number in ranked(rows) if state_of[number] in states]
        best.sort(key=lambda number: order.index(state_of[number]))
        return self._read(workspace, best[: max(1, min(limit, MOST_LIMIT))])

    def batch(self, principal: Principal, workspace: str, batch: str) -> tuple[Entry, ...]:
        """The entries of one import or promotion. Raises UnknownEntry."""
        rows = self._database.rows(
            "SELECT id FROM entries WHERE workspace = ? AND batch = ? ORDER BY id LIMIT ?",
            (workspace, batch, MOST_ENTRIES),
        )
        if not rows or not _reads(principal, workspace):
            raise _unknown()
        return self._read(workspace, [int(str(number)) for (number,) in rows])

    def every(self, principal: Principal, workspace: str, states: Collection[State] = SHOWN[:1]) -> tuple[Entry, ...]:
        """All entries in these states, by number; none where the workspace may not be read."""
        numbers = sorted(self._states(workspace)) if _reads(principal, workspace) else []
        return tuple(entry for entry in self._read(workspace, numbers) if entry.state in states)

    def of_source(self, principal: Principal, workspace: str, name: str) -> tuple[Entry, ...]:
        """What a document gave that is in force or waits for a review, by number."""
        rows = self._database.rows(
            "SELECT id FROM sources WHERE workspace = ? AND name = ? ORDER BY id", (workspace, in_one_line(name))
        )
        found = self._read(workspace, [int(str(number)) for (number,) in rows]) if _reads(principal, workspace) else ()
        return tuple(entry for entry in found if entry.state in (State.ACCEPTED, State.PROPOSED))

    def near(
        self, principal: Principal, workspace: str, symbols: Collection[str], paths: Collection[str], limit: int = 20
    ) -> tuple[Entry, ...]:
        """Accepted entries about these symbols (qualified names) or files, those about most of them first.

        A symbol is also found where an entry names the last parts of it alone. None where the workspace may not be
        read.
        """
        if not _reads(principal, workspace):
            return ()
        names = {end for symbol in list(symbols)[:MOST_LIMIT] for end in _ends(symbol)}
        files = list(dict.fromkeys(paths))[:MOST_LIMIT]
        score: dict[int, int] = {}
        for column, wanted, worth in (("symbol", sorted(names), 2), ("path", files, 1)):
            marks = ", ".join("?" for _ in wanted)
            for (number,) in self._database.rows(
                f"SELECT id FROM anchors WHERE workspace = ? AND {column} IN ({marks})",  # noqa: S608 - marks alone
                (workspace, *wanted),
            ):
                score[int(str(number))] = score.get(int(str(number)), 0) + worth
        best = sorted(score, key=lambda number: (-score[number], -number))
        found = (entry for entry in self._read(workspace, best) if entry.state is State.ACCEPTED)
        return tuple(found)[: max(1, min(limit, MOST_LIMIT))]

    def open_to(self, principal: Principal, entry: Entry) -> tuple[str, ...]:
        """What this principal may do with an entry as it stands: accept, reject, retire, reaffirm, rollback."""
        if not principal.sees(entry.workspace):
            return ()
        reviews = any(principal.may(scope, entry.workspace) for scope in self._reviewing)
        own = entry.key == principal.key_id and principal.may(Scope.KNOWLEDGE, entry.workspace)
        match entry.state:
            case State.PROPOSED:
                accept = ("accept",) if reviews and self._may_accept(principal, entry) else ()
                return (*accept, "reject", "rollback") if reviews or own else ()
            case State.ACCEPTED:
                return ("retire", "reaffirm", "rollback") if reviews else ()
            case State.RETIRED:
                return ()
            case _:
                return ("retire", "rollback") if reviews else ()

    def rivals(self, entry: Entry) -> tuple[Entry, ...]:
        """Other entries that hold for the same place and are of the same kind, the newest first; none unless both hold.

        The same place is the same symbol, or without symbols the same line or file.
        """
        if entry.state is not State.ACCEPTED:
            return ()
        rows = self._database.rows(
            "SELECT DISTINCT entries.id FROM anchors AS mine JOIN anchors AS theirs"
            " ON theirs.workspace = mine.workspace AND theirs.symbol = mine.symbol AND theirs.id != mine.id"
            " AND (mine.symbol != '' OR (theirs.path = mine.path AND theirs.line = mine.line))"
            " JOIN entries ON entries.workspace = theirs.workspace AND entries.id = theirs.id"
            " WHERE mine.workspace = ? AND mine.id = ? AND entries.kind = ? ORDER BY entries.id DESC LIMIT ?",
            (entry.workspace, entry.id, entry.kind.value, MOST_LIMIT),
        )
        found = self._read(entry.workspace, [int(str(number)) for (number,) in rows]) if rows else ()
        return tuple(each for each in found if each.state is State.ACCEPTED)

    # Changing

    def add(self, principal: Principal, workspace: str, drafts: Sequence[Draft]) -> tuple[Entry, ...]:
        """Keeps drafts, all or none of them: proposed, or accepted at once where nobody has to review.

        Raises KnowledgeError for an empty or overlong text, too many anchors or pieces of evidence, a day that has
        passed, what is known word for word already, and where there are too many; UnknownEntry for what a draft
        supersedes and is not there; Forbidden.
        """
        self._let(principal, workspace, "knowledge.add", Scope.KNOWLEDGE)
        with self._database.transaction():
            own = f"b_{secrets.token_hex(4)}"
            made = [self._put(principal, workspace, draft, draft.batch or own) for draft in drafts]
            for batch, numbers in groupby(made, key=lambda each: each[1]):
                listed = [number for number, _ in numbers]
                self._tell(principal, workspace, "knowledge.add", listed, {"batch": batch})
        return self._read(workspace, [number for number, _ in made])

    def accept(self, principal: Principal, workspace: str, number: int) -> Entry:
        """Lets a proposed entry hold, and what it supersedes no longer. Raises UnknownEntry, KnowledgeError, Forbidden.

        Takes the scope approve. Its author cannot, by whichever of his keys, unless nobody has to review or he sits at
        the terminal.
        """
        action = "knowledge.accept"
        self._let(principal, workspace, action, *self._reviewing)
        with self._database.transaction():
            entry = self._proposed(workspace, number)
            if not self._may_accept(principal, entry):
                refusal = Forbidden(
                    "Whoever wrote an entry does not accept it himself.",
                    "Ask somebody else with an approve grant, or run `codehub knowledge review` on the machine.",
                )
            else:
                refusal = None
                self._database.run(
                    "UPDATE entries SET state = 'accepted', counts = 1, reviewer = ?, reviewed_at = ?"
                    " WHERE workspace = ? AND id = ?",
                    (_name(principal), self._clock(), workspace, number),
                )
                self._tell(principal, workspace, action, [number])
        if refusal:
            self._audit.append(principal, action, workspace, "denied", {"entries": str(number)})
            raise refusal
        return self._one(workspace, number)

    def reject(self, principal: Principal, workspace: str, number: int, reason: str) -> Entry:
        """Retires a proposed entry: a reviewer, or whoever proposed it.

        Raises UnknownEntry, KnowledgeError for one that is not proposed, Forbidden.
        """
        self._let(principal, workspace, "knowledge.reject", *_ENDING)
        with self._database.transaction():
            self._let_end(principal, "knowledge.reject", [self._proposed(workspace, number)])
            self._end(principal, workspace, [number], reason)
            self._tell(principal, workspace, "knowledge.reject", [number])
        return self._one(workspace, number)

    def retire(self, principal: Principal, workspace: str, number: int, reason: str) -> Entry:
        """Says that an entry holds no longer; what it superseded stays so. Takes approve, or one's own proposal.

        Raises UnknownEntry, KnowledgeError for one that is retired already, Forbidden.
        """
        self._let(principal, workspace, "knowledge.retire", *_ENDING)
        with self._database.transaction():
            entry = self._one(workspace, number)
            self._let_end(principal, "knowledge.retire", [entry])
            if entry.state is State.RETIRED:
                raise KnowledgeError(f"Entry {number} is retired already.", f"See `codehub knowledge show {number}`.")
            self._end(principal, workspace, [number], reason)
            self._tell(principal, workspace, "knowledge.retire", [number])
        return self._one(workspace, number)

    def reaffirm(self, principal: Principal, workspace: str, number: int, digests: Sequence[str]) -> Entry:
        """Says that an entry holds for the code as it is now: ``digests`` of its anchors, in their order.

        Takes the scope approve. Raises UnknownEntry, KnowledgeError for one that is not accepted, Forbidden.
        """
        self._let(principal, workspace, "knowledge.reaffirm", *self._reviewing)
        with self._database.transaction():
            entry = self._one(workspace, number)
            if entry.state is not State.ACCEPTED:
                raise KnowledgeError(
                    f"Entry {number} is {entry.state.value}.", "Only what is accepted can be reaffirmed."
                )
            for place, (_, digest) in enumerate(zip(entry.anchors, digests, strict=True)):
                self._database.run(
                    "UPDATE anchors SET digest = ? WHERE workspace = ? AND id = ? AND place = ?",
                    (digest[:_MOST_DIGEST], workspace, number, place),
                )
            self._database.run(
                "UPDATE entries SET reaffirmed_by = ?, reaffirmed_at = ? WHERE workspace = ? AND id = ?",
                (_name(principal), self._clock(), workspace, number),
            )
            self._tell(principal, workspace, "knowledge.reaffirm", [number])
        return self._one(workspace, number)

    def rollback(self, principal: Principal, workspace: str, batch: str, reason: str = "") -> tuple[Entry, ...]:
        """Takes a whole batch back, as if none of it had ever been accepted: what it superseded holds again.

        Takes the scope approve, or that all of it are one's own proposals. Raises UnknownEntry where there is no such
        batch, Forbidden.
        """
        self._let(principal, workspace, "knowledge.rollback", *_ENDING)
        with self._database.transaction():
            entries = self.batch(principal, workspace, batch)
            self._let_end(principal, "knowledge.rollback", entries)
            numbers = [entry.id for entry in entries]
            self._end(principal, workspace, numbers, reason or "its batch was rolled back")
            self._database.run(
                "UPDATE entries SET counts = 0 WHERE workspace = ? AND batch = ?",
                (workspace, batch),
            )
            self._tell(principal, workspace, "knowledge.rollback", numbers, {"batch": batch})
        return self._read(workspace, numbers)

    # How it is done

    def _put(self, principal: Principal, workspace: str, draft: Draft, batch: str) -> tuple[int, str]:
        """The number and batch of a new entry, within a transaction."""
        now = self._clock()
        title, text = title_and_text(draft.title, draft.text)
        if len(draft.anchors) > MOST_ANCHORS or len(draft.evidence) > MOST_EVIDENCE:
            raise KnowledgeError(
                f"An entry has at most {MOST_ANCHORS} anchors and {MOST_EVIDENCE} pieces of evidence.",
                "Name the main ones.",
            )
        if draft.expires_at is not None and draft.expires_at <= now:
            raise KnowledgeError("It would have expired already.", "Give a day to come.")
        places = [
            (in_one_line(each.anchor.symbol), in_one_line(each.anchor.path), each.anchor.line, each.digest)
            for each in draft.anchors
        ]
        told = json.dumps([draft.kind.value, title, text, [place[:3] for place in places]])
        same = sha256(told.encode()).hexdigest()
        self._room_for(principal, workspace, same, draft.supersedes)
        known = self._database.rows("SELECT coalesce(max(id), 0) FROM entries WHERE workspace = ?", (workspace,))
        number = int(str(known[0][0])) + 1
        at_once = self._review is Review.NONE
        found_by = searched([title, text, *(f"{symbol} {path}" for symbol, path, _, _ in places)])
        evidence = json.dumps([kept for each in draft.evidence if (kept := in_one_line(each))])
        self._database.run(
            "INSERT INTO entries VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, '', '', NULL, ?, ?, ?)",
            (
                *(workspace, number, draft.kind.value, title, text, _name(principal), principal.key_id),
                *(in_one_line(draft.commit), evidence, now, draft.expires_at),
                *(State.ACCEPTED.value if at_once else State.PROPOSED.value, int(at_once), now if at_once else None),
                *(in_one_line(batch, 64), found_by, same),
            ),
        )
        for place, (symbol, path, line, digest) in enumerate(places):
            self._database.run(
                "INSERT INTO anchors VALUES(?, ?, ?, ?, ?, ?, ?)",
                (workspace, number, place, symbol, path, line, digest[:_MOST_DIGEST]),
            )
        if draft.source:
            self._database.run(
                "INSERT INTO sources VALUES(?, ?, ?, ?, ?)",
                (workspace, number, *map(in_one_line, (draft.source.name, draft.source.part, draft.source.digest))),
            )
        for old in dict.fromkeys(draft.supersedes):
            if not 0 < old < number:  # which also keeps successions from going in a circle
                raise _unknown()
            self._database.run("INSERT INTO successions VALUES(?, ?, ?)", (workspace, old, number))
        return number, in_one_line(batch, 64)

    def _room_for(self, principal: Principal, workspace: str, same: str, supersedes: Collection[int]) -> None:
        """Raises KnowledgeError where it is there already and is not to be replaced, or too much is."""
        alike = self._database.rows(
            "SELECT id FROM entries WHERE workspace = ? AND same = ? AND state != 'retired' ORDER BY id",
            (workspace, same),
        )
        for entry in self._read(workspace, [int(str(number)) for (number,) in alike]) if alike else ():
            if entry.state in (State.ACCEPTED, State.PROPOSED) and entry.id not in supersedes:
                raise KnowledgeError(
                    f"That is known word for word already: entry {entry.id}.",
                    f"See `codehub knowledge show {entry.id}`.",
                )
        held = self._database.rows("SELECT count(*) FROM entries WHERE workspace = ?", (workspace,))
        waiting = self._database.rows(
            "SELECT count(*) FROM entries WHERE workspace = ? AND key = ? AND state = 'proposed'",
            (workspace, principal.key_id),
        )
        if int(str(waiting[0][0])) >= MOST_PROPOSED:
            raise KnowledgeError(
                f"{MOST_PROPOSED} entries of this key wait for a review.", "See `codehub knowledge review`."
            )
        if int(str(held[0][0])) >= MOST_ENTRIES:
            raise KnowledgeError(
                f"The workspace has {MOST_ENTRIES:,} entries.", "Keep documents in the tree: search finds them."
            )

    def _proposed(self, workspace: str, number: int) -> Entry:
        entry = self._one(workspace, number)
        if entry.state is not State.PROPOSED:
            raise KnowledgeError(
                f"Entry {number} is {entry.state.value}, so there is nothing to review.",
                f"See `codehub knowledge show {number}`.",
            )
        return entry

    def _may_accept(self, principal: Principal, entry: Entry) -> bool:
        if self._review is Review.NONE or principal.key_id == AT_THE_TERMINAL:
            return True
        return principal.key_id != entry.key and _name(principal) != entry.author

    def _end(self, principal: Principal, workspace: str, numbers: Iterable[int], reason: str) -> None:
        for number in numbers:
            self._database.run(
                "UPDATE entries SET state = 'retired', reviewer = ?, reviewed_at = ?, reason = ?"
                " WHERE workspace = ? AND id = ? AND state != 'retired'",
                (_name(principal), self._clock(), in_one_line(reason), workspace, number),
            )

    @property
    def _reviewing(self) -> tuple[Scope, ...]:
        """The scopes that say what holds, each of them enough."""
        return (Scope.APPROVE, Scope.KNOWLEDGE) if self._review is Review.NONE else (Scope.APPROVE,)

    def _let(self, principal: Principal, workspace: str, action: str, *scopes: Scope) -> None:
        """Raises UnknownEntry where the workspace is not seen, Forbidden where none of the scopes is granted there."""
        if not principal.sees(workspace):
            raise _unknown()
        if not any(principal.may(scope, workspace) for scope in scopes):
            self._audit.append(principal, action, workspace, "denied")
            raise _not_granted(scopes[0], workspace)

    def _let_end(self, principal: Principal, action: str, entries: Sequence[Entry]) -> None:
        """Raises Forbidden for who is no reviewer, unless all of it is his own and nobody has accepted it yet."""
        workspace = entries[0].workspace
        own = all(entry.key == principal.key_id and entry.state is State.PROPOSED for entry in entries)
        if not own and not any(principal.may(scope, workspace) for scope in self._reviewing):
            self._audit.append(principal, action, workspace, "denied")
            raise _not_granted(Scope.APPROVE, workspace)

    def _tell(
        self,
        principal: Principal,
        workspace: str,
        action: str,
        numbers: Sequence[int],
        detail: Mapping[str, str | int | float] | None = None,
    ) -> None:
        """Into the audit log: numbers alone, no word of what was said."""
        listed = ", ".join(map(str, numbers[:20])) + (", …" if len(numbers) > 20 else "")
        told = {"entries": listed, "count": len(numbers), **(detail or {})}
        self._audit.append(principal, action, workspace, "done", told)

    def _one(self, workspace: str, number: int) -> Entry:
        found = self._read(workspace, [number])
        if not found:
            raise _unknown()
        return found[0]

    def _states(self, workspace: str) -> dict[int, State]:
        """The state of every entry of a workspace."""
        superseded = self._superseded(workspace)
        now = self._clock()
        return {
            int(str(number)): _state(str(state), expires_at, now, superseded.get(int(str(number))))
            for number, state, expires_at in self._database.rows(
                "SELECT id, state, expires_at FROM entries WHERE workspace = ?", (workspace,)
            )
        }

    def _superseded(self, workspace: str) -> dict[int, tuple[int, ...]]:
        """What took the place of an entry, by its number: what was accepted and not rolled back since.

        What was rolled back passes on what replaced it. A successor has a higher number, so one pass from the highest
        down is enough.
        """
        successors: dict[int, list[tuple[int, bool]]] = {}
        for old, new, counts in self._database.rows(
            "SELECT old, new, counts FROM successions JOIN entries ON entries.workspace = successions.workspace"
            " AND entries.id = new WHERE successions.workspace = ? ORDER BY old DESC, new",
            (workspace,),
        ):
            successors.setdefault(int(str(old)), []).append((int(str(new)), bool(counts)))
        found: dict[int, tuple[int, ...]] = {}
        for old, new in successors.items():
            by = [each for number, counts in new for each in ((number,) if counts else found.get(number, ()))]
            found[old] = tuple(sorted(set(by)))
        return found

    def _read(self, workspace: str, numbers: Sequence[int]) -> tuple[Entry, ...]:
        """The entries of these numbers that there are, in this order."""
        numbers = [number for number in numbers if 0 < number <= MOST_ENTRIES]
        marks = ", ".join("?" for _ in numbers)
        now, superseded = self._clock(), self._superseded(workspace)
        anchors: dict[int, list[Anchored]] = {}
        for number, symbol, path, line, digest in self._database.rows(
            f"SELECT id, symbol, path, line, digest FROM anchors WHERE workspace = ? AND id IN ({marks})"  # noqa: S608 - marks
            " ORDER BY id, place",
            (workspace, *numbers),
        ):
            anchor = Anchor(str(symbol), str(path), int(str(line)))
            anchors.setdefault(int(str(number)), []).append(Anchored(anchor, str(digest)))
        supersedes: dict[int, list[int]] = {}
        for old, new in self._database.rows(
            f"SELECT old, new FROM successions WHERE workspace = ? AND new IN ({marks}) ORDER BY old",  # noqa: S608 - marks
            (workspace, *numbers),
        ):
            supersedes.setdefault(int(str(new)), []).append(int(str(old)))
        sources = {
            int(str(number)): Source(str(name), str(part), str(digest))
            for number, name, part, digest in self._database.rows(
                f"SELECT id, name, part, digest FROM sources WHERE workspace = ? AND id IN ({marks})",  # noqa: S608 - marks
                (workspace, *numbers),
            )
        }
        found = {}
        for row in self._database.rows(
            f"SELECT {_COLUMNS} FROM entries WHERE workspace = ? AND id IN ({marks})",  # noqa: S608 - marks and columns
            (workspace, *numbers),
        ):
            number = int(str(row[0]))
            found[number] = Entry(
                id=number,
                workspace=workspace,
                kind=EntryKind(str(row[1])),
                title=str(row[2]),
                text=str(row[3]),
                anchors=tuple(anchors.get(number, ())),
                author=str(row[4]),
                key=str(row[5]),
                commit=str(row[6]),
                evidence=tuple(map(str, json.loads(str(row[7])))),
                created_at=float(str(row[8])),
                expires_at=_time(row[9]),
                supersedes=tuple(supersedes.get(number, ())),
                superseded_by=superseded.get(number, ()),
                state=_state(str(row[16]), row[9], now, superseded.get(number)),
                reviewer=str(row[10]),
                reviewed_at=_time(row[11]),
                reason=str(row[12]),
                reaffirmed_by=str(row[13]),
                reaffirmed_at=_time(row[14]),
                batch=str(row[15]),
                source=sources.get(number),
            )
        return tuple(found[number] for number in numbers if number in found)


def _reads(principal: Principal, workspace: str) -> bool:
    return any(principal.may(scope, workspace) for scope in _READING)


def _ends(symbol: str) -> Iterable[str]:
    """A qualified name and what is left of it without its first parts."""
    parts = symbol.split("::")
    return ("::".join(parts[place:]) for place in range(len(parts)))


def _not_granted(scope: Scope, workspace: str) -> Forbidden:
    return Forbidden(
        f"This key has no {scope.value} grant in the workspace {workspace}.",
        "Use a key that has it, or ask an administrator for one.",
    )


def _name(principal: Principal) -> str:
    return in_one_line(principal.owner, 100)


def _state(kept: str, expires_at: object, now: float, superseded: object) -> State:
    if kept != State.ACCEPTED.value:
        return State(kept)
    if superseded:
        return State.SUPERSEDED
    return State.EXPIRED if expires_at is not None and float(str(expires_at)) <= now else State.ACCEPTED


def _time(value: object) -> float | None:
    return None if value is None else float(str(value))


def _unknown() -> UnknownEntry:
    return UnknownEntry("There is no such entry in this workspace.", "See `codehub knowledge list --all`.")
