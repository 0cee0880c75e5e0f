"""Keeps what the log tells of the tree: which commits changed which files of today, what in them, and in which words.

What is kept is a function of the list of commits and of the files that are indexed, and of nothing else: reading step
by step, or again after history was rewritten, leaves what reading afresh would. Merges, first commits, commits that
touched very many files, and mere formatting weigh nothing. Of files that are not indexed no word is kept. Runs no git
itself, which ``indexer.history`` does, and answers nothing, which ``indexer.symbol_table.commits`` does.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from indexer import history
from indexer.history import HistorySource, LogEntry
from indexer.rows import SEPARATOR
from indexer.secrets import BEGINS
from indexer.symbol_table.database import Database, marks
from indexer.words import words

# Raise it whenever the same log would be kept otherwise: every index then reads it again. 1: first form. 2: digests of
# a file's messages do not rest on their order.
LOG_VERSION = 2

MOST_COMMITS = 20_000  # 100 to 200,000; the newest are kept. 20,000 cost about 20 s once, and 30 MB
MOST_FILES = 30  # 10 to 100; a commit that touched more is a mass edit, and its message is about none of them
MOST_NAMES = 300  # 50 to 1,000; names out of the changed lines of a commit
MOST_SYMBOLS = 60  # 10 to 200; functions and classes that a commit changed in one file
MOST_MESSAGES = 200  # 20 to 1,000; the newest commits of a file whose words are held against it
MOST_ON_TOP = 100  # 20 to 500; commits on top of what is kept that are read without looking at the rest
WRITE_COMMITS = 200  # a transaction: what a crash can cost, against the price of a commit

STATE = "history"  # key within meta of what was read
CHANGES = "history changes"  # key within meta of a number; another one means that answers may be others
_HASH_DIGITS = 40

_HEADING = re.compile(r"^@@ [^@\n]{1,60}@@ ?([^\n]*)$", re.MULTILINE)
_CHANGED_LINE = re.compile(r"^[+-]([^\n]*)$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w{2,80}")
# What a comment says is no name, and the comments of today are searched where they stand. Of a block comment that
# begins in a line above, only lines with the customary star show that they belong to it.
_COMMENT = re.compile(r"//.*|/\*.*?(?:\*/|$)|^[ \t]*\*(?:[ \t/*].*)?$")
_FUNCTION = re.compile(r"(~?[A-Za-z_]\w*(?:::~?[A-Za-z_]\w*){0,8})\s?\(")
_CLASS = re.compile(
    r"^\s*(?:class|struct|union|enum(?:\s+class|\s+struct)?)\s+(?:[A-Z][A-Z0-9_]+\s+)?([A-Za-z_][\w:]*)"
)
_BEGUN = re.compile(  # a line that begins a function, as far as one line shows
    r"[ \t]*(?!(?:return|else|case|throw|delete|new|if|for|while|switch|using|typedef|goto|co_return)\b)"
    r"(?:[\w:<>,*&~]{1,80}[ \t]{1,8}[*&]{0,2}){1,8}(~?[A-Za-z_][\w:~]{0,120})[ \t]?\("
)
_NOTHING_OF_NOTE = frozenset(
    """alignas auto bool break case catch char class const constexpr continue default define delete double else endif
    enum explicit extern false float for friend goto ifdef ifndef include inline int long namespace new noexcept
    nullptr operator private protected public return short signed sizeof static std string struct switch template this
    throw true try typedef typename union unsigned using virtual void volatile while""".split()
)
# Lines that tools put under a message.
_TRAILER = re.compile(
    r"^[ \t]*(?:[A-Z][\w-]{2,30}-by|git-svn-id|Change-Id|PiperOrigin-RevId|Reviewed-on|Cr-Commit-Position|cc)[ \t]*:"
    r"[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class LogReport:
    """What one run did."""

    commits: int  # that are kept by now
    read: int  # of these, in this run


class Touched(NamedTuple):
    """What a commit did to one file."""

    weight: int  # 0 where it only moved text within its lines
    symbols: tuple[str, ...]  # functions and classes around the changes or in them, as written
    names: tuple[str, ...]  # out of the changed lines
    around: tuple[str, ...]  # out of the lines that begin what was changed


ONLY_RENAMED = Touched(0, (), (), ())


class _Row(NamedTuple):
    id: int
    path: int
    before: int | None
    today: int | None
    weight: int | None  # None where the patch was not read


class CommitLog:
    """Writes the tables of commits. The caller owns the data folder."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def forget(self) -> None:
        """Keeps no history any more."""
        if self._state():
            self._wipe({})

    def redactions(self) -> int:
        """How many secrets were taken out of the messages that are kept."""
        return self._db.number(
            "SELECT coalesce(sum((length(told) - length(replace(told, ?1, ''))) / length(?1)), 0)"
            " FROM (SELECT subject || ' ' || body AS told FROM commits) WHERE instr(told, ?1)",
            (BEGINS,),
        )

    def refresh(
        self,
        source: HistorySource,
        most: int = MOST_COMMITS,
        version: str = "",
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        stop: Callable[[], None] = lambda: None,
    ) -> LogReport:
        """Makes what is kept equal to what reading the newest ``most`` commits afresh would keep, of the files that are
        indexed now. ``version`` stands for how texts are split into words. ``stop`` may raise between batches; what was
        written stays, and the next run goes on from there.
        """
        base = f"{LOG_VERSION} {version} {source.prefix}"
        wanted = {"base": base, "revision": source.revision, "most": str(most), "known": self._known()}
        state = self._state()
        if state == wanted:
            return LogReport(self._db.number("SELECT count(*) FROM commits"), 0)
        if state | {"revision": source.revision} == wanted:
            read = self._put_on_top(source, state, most)
            if read:
                return LogReport(self._db.number("SELECT count(*) FROM commits"), read)
        if state.get("base") != base:
            self._wipe({"base": base})
        elif state.keys() != {"base"}:
            with self._changing():  # from here on it is not what the log was, wherever this ends
                self._note({"base": base})
        order = history.commits(source, most)
        read = self._take(source, order, progress, stop)
        self._place([commit for commit, _ in order])
        self._read_patches(source, [commit for commit, _ in order], progress, stop)
        self._keep_messages({commit: place for place, (commit, _) in enumerate(order)}, stop)
        # Behind the name of a branch, and below the end of a shallow clone, other commits may be found the next time.
        lasting = len(source.revision) >= _HASH_DIGITS and not history.is_shallow(source.repository)
        with self._changing():
            self._note({**wanted, "known": self._known()} if lasting else {"base": base, "open": _digest(_told(order))})
        return LogReport(len(order), read)

    def _known(self) -> str:
        """A digest of those files that are indexed and were ever changed by a commit that was read."""
        known = "SELECT path FROM files WHERE path IN (SELECT path FROM commit_paths) ORDER BY path"
        return _digest(str(path) for (path,) in self._db.rows(known))

    def _put_on_top(self, source: HistorySource, state: Mapping[str, str], most: int) -> int:
        """Puts in, at once, the commits that came straight on top of the newest one, where they change nothing of what
        older ones mean. Returns how many; 0 where everything has to be looked at.
        """
        new = history.on_top(source, state["revision"], MOST_ON_TOP)
        if not new or self._db.number("SELECT count(*) FROM commits") + len(new) > most:
            return 0
        with closing(history.entries(source, new)) as read:
            entries = list(read)
        touched = {change.path for entry in entries for change in entry.changes}
        indexed = {path for path in touched if self._db.row("SELECT 1 FROM files WHERE path = ?", (path,))}
        old_names = "SELECT path FROM commit_paths WHERE id IN (SELECT before FROM commit_changes)"
        renamed = {str(path) for (path,) in self._db.rows(old_names)}
        if any(change.before for entry in entries for change in entry.changes) or renamed & (touched - indexed):
            return 0
        worth = [
            entry
            for entry in entries
            if 1 <= entry.files <= MOST_FILES and any(change.path in indexed for change in entry.changes)
        ]
        hashes = [entry.hash for entry in worth]
        with closing(history.patches(source, hashes)) as found:
            patches = dict(zip(hashes, found, strict=True))
        with self._changing():
            numbers = self._numbers()
            self._insert(entries, dict.fromkeys(new, 1), numbers)
            today = [numbers[path] for path in sorted(indexed)]
            self._db.run_many(
                "UPDATE commit_changes SET today = path"
                " WHERE path = ? AND commit_row = (SELECT id FROM commits WHERE hash = ?)",
                [
                    (numbers[change.path], entry.hash)
                    for entry in entries
                    for change in entry.changes
                    if change.path in indexed
                ],
            )
            paths = {number: path for path, number in numbers.items()}
            for commit, patch in patches.items():
                self._write_commit(self._changes_of(commit), commit, patch, paths)
            weighty = self._weighty(today)
            rank: dict[str, int] = {}
            if any(len(found) > MOST_MESSAGES for found in weighty.values()):
                rank = {commit: place for place, (commit, _) in enumerate(history.commits(source, most))}
            for path, commits in weighty.items():
                self._hold(path, _newest(commits, rank))
            self._note({**state, "revision": source.revision, "known": self._known()})
        return len(new)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A transaction that readers can tell from what was before."""
        with self._db.transaction():
            yield
            self._db.run("INSERT INTO meta VALUES(?, '1') ON CONFLICT(key) DO UPDATE SET value = value + 1", (CHANGES,))

    def _state(self) -> dict[str, str]:
        row = self._db.row("SELECT value FROM meta WHERE key = ?", (STATE,))
        return dict(json.loads(row[0])) if row else {}

    def _note(self, state: Mapping[str, str]) -> None:
        self._db.run("INSERT OR REPLACE INTO meta VALUES(?, ?)", (STATE, json.dumps(state)))

    def _wipe(self, state: Mapping[str, str]) -> None:
        with self._changing():
            for table in ("commit_words", "commit_file_words"):
                self._db.run(f"INSERT INTO {table}({table}) VALUES('delete-all')")
            for table in ("commits", "commit_paths", "commit_changes", "commit_files"):
                self._db.run(f"DELETE FROM {table}")
            self._note(state)

    def _take(
        self,
        source: HistorySource,
        order: Sequence[tuple[str, int]],
        progress: Callable[[int, int], None],
        stop: Callable[[], None],
    ) -> int:
        """Drops commits that are not listed any more and puts in those that are new; returns how many these are."""
        # A commit whose parents have come to light, as when a shallow clone was deepened, is read again.
        kept = {(str(commit), int(parents)) for commit, parents in self._db.rows("SELECT hash, parents FROM commits")}
        self._drop(sorted(kept.difference(order)))
        parents = dict(order)
        missing = [commit for commit, number in order if (commit, number) not in kept]
        paths = self._numbers()
        taken: list[LogEntry] = []
        if missing:
            with closing(history.entries(source, missing)) as entries:
                for done, entry in enumerate(entries, 1):
                    taken.append(entry)
                    if len(taken) >= WRITE_COMMITS:
                        with self._changing():
                            self._insert(taken, parents, paths)
                        taken.clear()
                        progress(done, len(missing))
                        stop()
            with self._changing():
                self._insert(taken, parents, paths)
        return len(missing)

    def _drop(self, gone: Sequence[tuple[str, int]]) -> None:
        if not gone:
            return
        with self._changing():
            for commit, _ in gone:
                row = self._db.number("SELECT id FROM commits WHERE hash = ?", (commit,))
                self._db.run("DELETE FROM commit_words WHERE rowid = ?", (row,))
                self._db.run("DELETE FROM commit_changes WHERE commit_row = ?", (row,))
                self._db.run("DELETE FROM commits WHERE id = ?", (row,))

    def _numbers(self) -> dict[str, int]:
        """The row of every path that a commit has touched."""
        return {str(path): int(row) for path, row in self._db.rows("SELECT path, id FROM commit_paths")}

    def _insert(self, entries: Iterable[LogEntry], parents: Mapping[str, int], paths: dict[str, int]) -> None:
        """Puts commits in with what they touched; what that is today is not said yet. To be called in a transaction."""

        def number(path: str) -> int:
            if path not in paths:
                paths[path] = self._db.insert("INSERT INTO commit_paths(path) VALUES(?)", (path,))
            return paths[path]

        for entry in entries:
            told = (entry.author, entry.subject, entry.body) if entry.files else ("", "", "")
            row = self._db.insert(
                "INSERT INTO commits(hash, parents, time_s, author, subject, body, files) VALUES(?, ?, ?, ?, ?, ?, ?)",
                (entry.hash, parents[entry.hash], entry.time_s, *told, entry.files),
            )
            self._db.run_many(
                "INSERT INTO commit_changes(commit_row, path, before, symbols) VALUES(?, ?, ?, '')",
                (
                    (row, number(change.path), None if change.before is None else number(change.before))
                    for change in entry.changes
                ),
            )

    def _place(self, order: Sequence[str]) -> None:
        """Says of each change which file of today it concerns."""
        here = "SELECT id FROM commit_paths WHERE path IN (SELECT path FROM files)"
        there = {int(row) for (row,) in self._db.rows(here)}
        changes = self._changes()
        rows = [changes.get(commit, []) for commit in order]
        placed = paths_today([[(row.path, row.before) for row in commit] for commit in rows], there)
        moved = [
            (today, row.id)
            for commit, targets in zip(rows, placed, strict=True)
            for row, today in zip(commit, targets, strict=True)
            if row.today != today
        ]
        for start in range(0, len(moved), 50 * WRITE_COMMITS):
            with self._changing():
                self._db.run_many(
                    "UPDATE commit_changes SET today = ? WHERE id = ?", moved[start : start + 50 * WRITE_COMMITS]
                )

    def _changes(self) -> dict[str, list[_Row]]:
        """All changes, by commit."""
        found: dict[str, list[_Row]] = defaultdict(list)
        for commit, *row in self._db.rows(
            "SELECT hash, commit_changes.id, path, before, today, weight"
            " FROM commit_changes JOIN commits ON commits.id = commit_row ORDER BY commit_changes.id"
        ):
            found[commit].append(_Row(*row))
        return found

    def _changes_of(self, commit: str) -> list[_Row]:
        return [
            _Row(*row)
            for row in self._db.rows(
                "SELECT id, path, before, today, weight FROM commit_changes"
                " WHERE commit_row = (SELECT id FROM commits WHERE hash = ?) ORDER BY id",
                (commit,),
            )
        ]

    def _read_patches(
        self,
        source: HistorySource,
        order: Sequence[str],
        progress: Callable[[int, int], None],
        stop: Callable[[], None],
    ) -> None:
        """Reads the patches of the commits that weigh something and were not read, or not of all that is indexed."""
        heavy = {
            str(commit): int(row)
            for commit, row in self._db.rows(
                "SELECT hash, id FROM commits WHERE parents = 1 AND files BETWEEN 1 AND ?", (MOST_FILES,)
            )
        }
        changes = self._changes()
        waiting = [
            commit
            for commit in order
            if any(
                (row.weight is None) == (commit in heavy and row.today is not None) for row in changes.get(commit, ())
            )
        ]
        worth = [commit for commit in waiting if commit in heavy and any(row.today for row in changes[commit])]
        paths = {int(row): str(path) for row, path in self._db.rows("SELECT id, path FROM commit_paths")}
        with self._changing():
            for commit in sorted(set(waiting).difference(worth)):
                self._write_commit(changes[commit], commit, {}, paths)
        batch: list[tuple[str, dict[str, str]]] = []
        with closing(history.patches(source, worth)) as patches:
            for done, (commit, patch) in enumerate(zip(worth, patches, strict=True), 1):
                batch.append((commit, patch))
                if len(batch) >= WRITE_COMMITS or done == len(worth):
                    with self._changing():
                        for known, found in batch:
                            self._write_commit(changes[known], known, found, paths)
                    batch.clear()
                    progress(done, len(worth))
                    stop()

    def _write_commit(
        self, changes: Sequence[_Row], commit: str, patch: Mapping[str, str], paths: Mapping[int, str]
    ) -> None:
        (row, parents, files, subject, body) = self._db.rows(
            "SELECT id, parents, files, subject, body FROM commits WHERE hash = ?", (commit,)
        )[0]
        weighty = parents == 1 and files <= MOST_FILES
        names: dict[str, None] = {}
        around: dict[str, None] = {}
        counts = False
        for change in changes:
            touched = None
            if weighty and change.today is not None:
                hunks = patch.get(paths[change.path], "")
                touched = read_patch(hunks) if hunks or change.before is None else ONLY_RENAMED
                names.update(dict.fromkeys(touched.names))
                around.update(dict.fromkeys(touched.around))
                counts = counts or bool(touched.weight)
            self._db.run(
                "UPDATE commit_changes SET weight = ?, symbols = ? WHERE id = ?",
                (touched and touched.weight, SEPARATOR.join(touched.symbols) if touched else "", change.id),
            )
        self._db.run("DELETE FROM commit_words WHERE rowid = ?", (row,))
        if counts:
            told = (" ".join(words(text)) for text in (subject, said(body)))
            # Of names each word is held once: how often a patch repeats it says little and costs every question time.
            named = (" ".join(dict.fromkeys(words(" ".join(list(found)[:MOST_NAMES])))) for found in (names, around))
            self._db.run(
                "INSERT INTO commit_words(rowid, subject, body, names, around) VALUES(?, ?, ?, ?, ?)",
                (row, *told, *named),
            )

    def _keep_messages(self, rank: Mapping[str, int], stop: Callable[[], None]) -> None:
        """Holds the words of a file's commits against it, where they are others than before."""
        newest = {path: _newest(commits, rank) for path, commits in self._weighty().items()}
        digests = {path: _digest(found) for path, found in newest.items()}
        kept = {int(path): str(digest) for path, digest in self._db.rows("SELECT path, digest FROM commit_files")}
        changed = sorted(path for path in {*kept, *digests} if kept.get(path) != digests.get(path))
        for start in range(0, len(changed), WRITE_COMMITS):
            with self._changing():
                for path in changed[start : start + WRITE_COMMITS]:
                    self._hold(path, newest.get(path, []))
            stop()

    def _weighty(self, paths: Sequence[int] | None = None) -> dict[int, set[str]]:
        """The commits that changed more of a file than its lay-out, of these files or of all."""
        commits = (
            "SELECT hash FROM commit_changes JOIN commits ON commits.id = commit_row WHERE weight = 1 AND today = ?"
        )
        if paths is not None:
            found = {path: {str(commit) for (commit,) in self._db.rows(commits, (path,))} for path in paths}
            return {path: hashes for path, hashes in found.items() if hashes}
        of_file: dict[int, set[str]] = defaultdict(set)
        for path, commit in self._db.rows(
            "SELECT today, hash FROM commit_changes JOIN commits ON commits.id = commit_row"
            " WHERE today IS NOT NULL AND weight = 1"
        ):
            of_file[path].add(commit)
        return of_file

    def _hold(self, path: int, commits: Sequence[str]) -> None:
        """Holds the words of these commits against a file, and no others. To be called in a transaction."""
        self._db.run("DELETE FROM commit_file_words WHERE rowid = ?", (path,))
        self._db.run("DELETE FROM commit_files WHERE path = ?", (path,))
        if not commits:
            return
        told = self._db.rows(f"SELECT subject, body FROM commits WHERE hash IN ({marks(commits)})", commits)
        subjects = " ".join(" ".join(words(subject)) for subject, _ in told)
        bodies = " ".join(" ".join(words(said(body))) for _, body in told)
        self._db.run("INSERT INTO commit_files VALUES(?, ?)", (path, _digest(commits)))
        self._db.run("INSERT INTO commit_file_words(rowid, subject, body) VALUES(?, ?, ?)", (path, subjects, bodies))


def _newest(commits: Collection[str], rank: Mapping[str, int]) -> list[str]:
    """The newest of a file's commits, by hash; where all are taken, no rank is asked for."""
    if len(commits) > MOST_MESSAGES:
        commits = sorted(commits, key=rank.__getitem__)[:MOST_MESSAGES]
    return sorted(commits)


def _told(order: Iterable[tuple[str, int]]) -> Iterator[str]:
    return (f"{commit} {parents}" for commit, parents in order)


def paths_today(commits: Sequence[Sequence[tuple[int, int | None]]], there: Collection[int]) -> list[list[int | None]]:
    """What each changed path is called today. ``commits`` are newest first; a change is (path then, path before it was
    renamed, if so), and ``there`` are the paths that count; None for a file that is not among them.

    A branch that knew a file by its old name may be merged after the file was renamed, so what is found nowhere else is
    looked for under all renames.
    """
    called: dict[int, int] = {}  # an older name -> what it is called today
    placed: list[list[int]] = []
    for commit in commits:
        placed.append([called.get(path, path) for path, _ in commit])
        for (_, before), today in zip(commit, placed[-1], strict=True):
            if before is not None:
                called[before] = today
    found: list[list[int | None]] = []
    for commit, targets in zip(commits, placed, strict=True):
        found.append([])
        for (path, _), today in zip(commit, targets, strict=True):
            target = today if today in there else called.get(path, path)
            found[-1].append(target if target in there else None)
    return found


def read_patch(hunks: str) -> Touched:
    """What a file's part of a patch, without context lines, says of the change. Never raises.

    Where what was taken out equals what was put in but for blanks and line ends, it was only formatted.
    """
    lines = _CHANGED_LINE.findall(hunks)
    if not lines:
        return Touched(1, (), (), ())  # its contents are missing, or too much of the commit stands before it
    old = "".join("".join(line[1:].split()) for line in hunks.split("\n") if line.startswith("-"))
    new = "".join("".join(line[1:].split()) for line in hunks.split("\n") if line.startswith("+"))
    if old == new:
        return Touched(0, (), (), ())
    symbols: dict[str, None] = {}
    around: dict[str, None] = {}
    for heading in dict.fromkeys(_HEADING.findall(hunks)):
        around.update(dict.fromkeys(_NAME.findall(heading)))
        begun = _CLASS.match(heading) or _FUNCTION.search(heading)
        if begun:
            symbols[begun[1]] = None
    for line in lines:
        begun = _CLASS.match(line) or _BEGUN.match(line)
        if begun:
            symbols[begun[1]] = None
    code = (_COMMENT.sub(" ", line) for line in lines)
    names = dict.fromkeys(name for line in code for name in _NAME.findall(line) if name not in _NOTHING_OF_NOTE)
    return Touched(1, tuple(symbols)[:MOST_SYMBOLS], tuple(names)[:MOST_NAMES], tuple(around)[:MOST_NAMES])


def said(body: str) -> str:
    """The body of a message without the lines that tools put under it."""
    return _TRAILER.sub("", body)


def _digest(texts: Iterable[str]) -> str:
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
