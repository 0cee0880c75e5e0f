"""What commits answer: files and functions of today by the words people used for changes, what changes together, and
who changed something and why. Reads what ``indexer.symbol_table.log`` keeps; knows nothing of git.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from indexer.model import ChunkId, Commit
from indexer.rows import Row, last_name, split_row
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.log import CHANGES
from indexer.words import query_words

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# How a question is scored against commits; fitted on the later commits of glog, google/benchmark, jsoncpp, oatpp,
# libzmq and taglib, each split in time.
COMMIT_COLUMNS = (1.5, 1.0, 0.25, 1.5)  # subject, body, names in changed lines, names around them; 0 to 4
FILE_COLUMNS = (1.0, 1.0)  # subjects and bodies of all commits of a file; 0 to 4
NEAREST_COMMITS = 50  # 10 to 200; more of them bring noise
SHARPNESS = 1.5  # 1 to 4; the power of a commit's score: the best commits count for most
SPREAD = 0.3  # 0 to 1; a commit of n files counts n to the minus this for each
MESSAGES_SHARE = 0.8  # 0 to 1; of the score by all messages of a file, beside that by single commits
MOST_ASKED_CHARS = 4_000  # of a question
MOST_ASKED_WORDS = 128  # 16 to 500; leaving out the common ones, too, loses where a message lists what it did
FILES_WITH_CHUNKS = 100  # 20 to 500; the best files, whose chunks are looked for
CHUNKS_A_FILE = 3  # 1 to 10
MOST_KEPT = 100_000  # names of files whose chunks are kept, 150 bytes each
MOST_KEPT_SCORES = 1_000_000  # of words in commits, 16 bytes each
MOST_KEPT_SYMBOLS = 200_000  # in changes of commits, 100 bytes each
SYMBOLS_A_FILE = 8  # 3 to 50; the best of those that commits changed, whose chunks are looked for
CHANGED_TOGETHER_AT_MOST = 20  # files of a commit that says something about what belongs together; 5 to 30
DOUBT = 2.0  # 0 to 10; commits that are added in thought before a share is believed

# BM25 of one word; that of a question is the sum over its words, so each word is scored once and kept.
_COMMITS = (
    f"SELECT rowid, -bm25(commit_words, {', '.join(map(str, COMMIT_COLUMNS))}) FROM commit_words"
    " WHERE commit_words MATCH ?"
)
_FILES = (
    f"SELECT rowid, -bm25(commit_file_words, {', '.join(map(str, FILE_COLUMNS))}) FROM commit_file_words"
    " WHERE commit_file_words MATCH ?"
)


@dataclass(frozen=True, slots=True)
class Told:
    """A commit that changed what was asked about, and what it changed of that."""

    commit: Commit
    body: str
    paths: tuple[str, ...]  # of today
    symbols: tuple[str, ...]  # as the commit's time knew them
    files: int  # it changed in all


@dataclass(frozen=True, slots=True)
class TheLog:
    """What there is to read of the history, and how much of it was kept."""

    commits: int
    oldest_s: int  # Unix time; 0 where there is none
    newest_s: int


_FIRST = "/"  # stands for a file's first chunk where names stand; no symbol is called so


Holds = Callable[[str], bool]
"""Tells of a path whether it counts."""


def everywhere(_path: str) -> bool:
    """Lets every path count."""
    return True


class _Scores(NamedTuple):
    """The rows that hold a word, and what it is worth in each."""

    rows: "npt.NDArray[np.int64]"
    values: "npt.NDArray[np.float64]"


class _Found(NamedTuple):
    """How a question meets the history: scores by path number, and by path number and symbol."""

    files: Mapping[int, float]
    symbols: Mapping[int, Mapping[str, float]]
    best: list[tuple[int, str]]  # the files by number and path, best first, equal ones by path


_Held = dict[tuple[int, str], tuple[str, ...]]  # chunks by path number and name


class _Changes(NamedTuple):
    """What a commit changed of what there is today."""

    hash: str
    files: int  # it changed in all
    changed: list[tuple[int, tuple[str, ...]]]  # path number and symbols, by number


@dataclass(slots=True)
class _Read:
    """What was read of one state of the tables, by whoever searches them; several threads may add to it."""

    scores: dict[tuple[str, str], _Scores] = field(default_factory=dict)  # by statement and word
    kept_scores: int = 0
    held: _Held = field(default_factory=dict)
    changes: dict[int, _Changes] = field(default_factory=dict)  # by row of the commit
    kept_symbols: int = 0  # in them
    paths: dict[int, str] = field(default_factory=dict)


class Commits:
    """Reads the tables of commits."""

    def __init__(self, database: Database) -> None:
        self._db = database
        # Files and chunks are asked for one after another.
        self._last: tuple[tuple[str, tuple[int, str]], _Found] | None = None

    def search(self, text: str, limit: int, holds: Holds = everywhere) -> list[tuple[str, float]]:
        """(path of today, score) of the files whose commits speak as the text does, best first, equal ones by path; of
        those that ``holds`` is true of.

        The best file has a score of at most 1 + MESSAGES_SHARE.
        """
        found, _ = self._find(text)
        return [(path, found.files[number]) for number, path in self._best_files(found, limit, holds)]

    def chunks(self, text: str, limit: int, holds: Holds = everywhere) -> list[tuple[ChunkId, float]]:
        """The chunks of those files that hold what the commits changed, best first, equal ones by id.

        The best chunk of a file has the score of the file; a file in which nothing is known by name gives its first.
        """
        found, read = self._find(text)
        best = [number for number, _ in self._best_files(found, min(limit, FILES_WITH_CHUNKS), holds)]
        scored = self._chunks_of(read, best, found)
        return sorted(scored.items(), key=lambda chunk: (-chunk[1], chunk[0]))[: max(0, limit)]

    def together(self, path: str, limit: int) -> list[tuple[str, float]]:
        """(path, share) of the files that changed in the same commits as a file, best first, equal ones by path.

        The share is of the file's own commits, each counting the less the more files it touched, with DOUBT.
        """
        rows = self._db.rows(
            "SELECT mine.commit_row, other.path, files FROM commit_changes AS mine"
            " JOIN commits ON commits.id = mine.commit_row AND files <= ?"
            " JOIN commit_changes AS others ON others.commit_row = mine.commit_row AND others.weight = 1"
            " JOIN commit_paths AS other ON other.id = others.today"
            " WHERE mine.weight = 1 AND mine.today = (SELECT id FROM commit_paths WHERE path = ?)"
            " ORDER BY mine.commit_row, other.path",
            (CHANGED_TOGETHER_AT_MOST, path),
        )
        shared: dict[str, float] = defaultdict(float)
        for _, other, files in dict.fromkeys(rows):
            shared[other] += files**-SPREAD
        own = shared.pop(path, 0.0)
        scored = [(other, score / (own + DOUBT)) for other, score in shared.items()]
        return sorted(scored, key=lambda file: (-file[1], file[0]))[: max(0, limit)]

    def about(self, name: str) -> list[Told]:
        """The commits that changed a file, given by its path or the end of it, or else a symbol, newest first.

        Mere formatting is left out, and of symbols also commits that touched very many files. A symbol is known by its
        name within the files that declare or define it today.
        """
        paths = self._paths_like(name)
        if paths:
            return _told(self._changes_of(paths), None)
        last = last_name(name)
        found = self._db.rows("SELECT DISTINCT path FROM symbols JOIN files ON files.id = file WHERE name = ?", (last,))
        rows = self._changes_of([str(path) for (path,) in found])
        return _told([row for row in rows if any(_is_meant(name, symbol) for symbol in split_row(row[-1]))], name)

    def told(self, text: str, limit: int) -> list[tuple[Told, float]]:
        """(commit, score) of those that speak as the text does, best first, equal ones newest first."""
        terms = query_words(text[:MOST_ASKED_CHARS])[:MOST_ASKED_WORDS]
        _, read = self._find(text)
        best = dict(self._best(read, _COMMITS, terms, max(1, limit))) if terms else {}
        rows = self._db.rows(
            "SELECT hash, subject, author, time_s, body, files, coalesce(commit_paths.path, ''), coalesce(symbols, ''),"
            " commits.id"
            " FROM commits LEFT JOIN commit_changes ON commit_row = commits.id AND today IS NOT NULL"
            f" LEFT JOIN commit_paths ON commit_paths.id = today WHERE commits.id IN ({marks(list(best))})"
            " ORDER BY time_s DESC, hash, 7",
            list(best),
        )
        scores = {str(row[0]): best[row[8]] for row in rows}
        found = [(told, scores[told.commit.id]) for told in _told([row[:8] for row in rows], None)]
        found.sort(key=lambda each: -each[1])
        return found[: max(0, limit)]

    def extent(self) -> TheLog:
        """How far the kept history reaches."""
        (row,) = self._db.rows("SELECT count(*), coalesce(min(time_s), 0), coalesce(max(time_s), 0) FROM commits")
        return TheLog(*row)

    def _find(self, text: str) -> tuple[_Found, _Read]:
        noted = self._db.settled("SELECT value FROM meta WHERE key = ?", (CHANGES,))
        state = (self._db.generation(), str(noted[0][0]) if noted else "")
        read = self._db.commons.of("commits", state, lambda _before: _Read())
        if len(read.held) > MOST_KEPT:
            read.held = {}
        if len(read.paths) > MOST_KEPT:
            read.paths = {}
        if read.kept_symbols > MOST_KEPT_SYMBOLS:
            read.changes, read.kept_symbols = {}, 0
        if read.kept_scores > MOST_KEPT_SCORES:
            read.scores, read.kept_scores = {}, 0
        if self._last is None or self._last[0] != (text, state):
            self._last = ((text, state), self._look(read, text))
        return self._last[1], read

    def _look(self, read: _Read, text: str) -> _Found:
        terms = query_words(text[:MOST_ASKED_CHARS])[:MOST_ASKED_WORDS]
        if not terms:
            return _Found({}, {}, [])
        files: dict[int, float] = defaultdict(float)
        symbols: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        nearest = dict(self._best(read, _COMMITS, terms, NEAREST_COMMITS))
        for row, commit in sorted(self._changes_in(read, list(nearest)), key=lambda known: known[1].hash):
            score = nearest[row] ** SHARPNESS * commit.files**-SPREAD
            for today, changed in commit.changed:
                files[today] += score
                if changed:
                    of_file = symbols[today]
                    for symbol in changed:
                        of_file[symbol] += score
        highest = max(files.values(), default=1.0)
        scored = {path: score / highest for path, score in files.items()}
        by_messages = self._best(read, _FILES, terms, 2 * NEAREST_COMMITS)
        highest = max((score for _, score in by_messages), default=1.0)
        for path, score in by_messages:
            scored[path] = scored.get(path, 0.0) + MESSAGES_SHARE * score / highest
        return _Found(scored, symbols, self._in_order(read, scored))

    def _changes_in(self, read: _Read, commits: Sequence[int]) -> list[tuple[int, _Changes]]:
        """The changes of these commits, by row."""
        kept = read.changes  # another thread may put an empty one in its place
        missing = [row for row in commits if row not in kept]
        if missing:
            found = {
                row: _Changes(commit, files, [])
                for row, commit, files in self._db.rows(
                    f"SELECT id, hash, files FROM commits WHERE id IN ({marks(missing)})", missing
                )
            }
            for row, today, symbols in self._db.rows(
                "SELECT commit_row, today, symbols FROM commit_changes"
                f" WHERE commit_row IN ({marks(missing)}) AND today IS NOT NULL AND weight = 1 ORDER BY today, id",
                missing,
            ):
                found[row].changed.append((today, split_row(symbols)))
            read.kept_symbols += sum(1 + len(changed) for of in found.values() for _, changed in of.changed)
            kept.update(found)
        return [(row, kept[row]) for row in commits if row in kept]

    def _best(self, read: _Read, statement: str, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
        """The best rows of a full-text table; where the limit would cut among equals, all of them."""
        import numpy as np  # noqa: PLC0415 - 0.1 s that look-ups of symbols need not wait for

        scored = [self._scores_of(read, statement, term) for term in terms]
        total = np.zeros(max((int(found.rows.max()) for found in scored if len(found.rows)), default=0) + 1)
        for found in scored:
            total[found.rows] += found.values  # rows are distinct within a word
        best = np.flatnonzero(total > 0)
        if len(best) > limit:
            best = best[total[best] >= np.partition(total[best], -limit)[-limit]]
        return sorted(zip(best.tolist(), total[best].tolist(), strict=True), key=lambda row: -row[1])

    def _scores_of(self, read: _Read, statement: str, term: str) -> _Scores:
        known = read.scores.get((statement, term))
        if known is None:
            import numpy as np  # noqa: PLC0415 - as above

            rows = self._db.rows(statement, (f'"{term}"',))  # words hold no quotes
            known = read.scores[statement, term] = _Scores(
                np.fromiter((row for row, _ in rows), np.int64, len(rows)),
                np.fromiter((value for _, value in rows), np.float64, len(rows)),
            )
            read.kept_scores += len(rows)
        return known

    def _best_files(self, found: _Found, limit: int, holds: Holds) -> list[tuple[int, str]]:
        """(number, path), best first, equal ones by path."""
        if holds is everywhere:
            return found.best[: max(0, limit)]
        return [(number, path) for number, path in found.best if holds(path)][: max(0, limit)]

    def _in_order(self, read: _Read, files: Mapping[int, float]) -> list[tuple[int, str]]:
        paths = read.paths  # another thread may put an empty one in its place
        missing = [number for number in files if number not in paths]
        if missing:
            rows = self._db.rows(f"SELECT id, path FROM commit_paths WHERE id IN ({marks(missing)})", missing)
            paths.update((int(number), str(path)) for number, path in rows)
        ranked = sorted((-score, paths[number], number) for number, score in files.items() if number in paths)
        return [(number, path) for _, path, number in ranked]

    def _chunks_of(self, read: _Read, paths: Sequence[int], found: _Found) -> dict[ChunkId, float]:
        """The few chunks of each file that hold its symbols best, scored by the file's score and their share of it."""
        asked = {path: _best_names(found.symbols.get(path, {})) for path in paths}
        held_by = read.held  # another thread may put an empty one in its place
        self._look_up(
            held_by,
            [place for path, names in asked.items() for name in names if (place := (path, name)) not in held_by],
        )
        weights: dict[int, dict[str, float]] = {}
        for path, names in asked.items():
            of_file = weights[path] = defaultdict(float)
            for name in sorted(names):
                for chunk in held_by[path, name]:
                    of_file[chunk] += names[name]
        bare = [path for path in paths if not weights[path]]
        self._look_up_first(held_by, [path for path in bare if (path, _FIRST) not in held_by])
        scored: dict[ChunkId, float] = {}
        for path in paths:
            held = sorted(weights[path].items(), key=lambda chunk: (-chunk[1], chunk[0]))[:CHUNKS_A_FILE]
            for chunk, weight in held or [(first, 1.0) for first in held_by[path, _FIRST]]:
                scored[ChunkId(chunk)] = found.files[path] * (weight / held[0][1] if held else weight)
        return scored

    def _look_up(self, held: _Held, asked: Sequence[tuple[int, str]]) -> None:
        """Keeps the chunks in which symbols of these names stand today, out of (path, name)."""
        if not asked:
            return
        rows = self._db.rows(
            f"WITH asked(path, name) AS (VALUES {', '.join(['(?, ?)'] * len(asked))})"
            " SELECT DISTINCT asked.path, asked.name, chunks.id FROM asked"
            " CROSS JOIN commit_paths ON commit_paths.id = asked.path"
            " CROSS JOIN files ON files.path = commit_paths.path"
            " CROSS JOIN symbols ON symbols.file = files.id AND symbols.name = asked.name"
            " CROSS JOIN chunks ON chunks.file = files.id AND chunks.first_line <= symbols.line"
            " AND chunks.last_line >= symbols.line",
            [value for pair in asked for value in pair],
        )
        found: dict[tuple[int, str], list[str]] = {place: [] for place in asked}
        for path, name, chunk in rows:
            found[path, name].append(chunk)
        held.update({place: tuple(sorted(chunks)) for place, chunks in found.items()})

    def _look_up_first(self, held: _Held, paths: Sequence[int]) -> None:
        """Keeps the chunk that each of the files begins with."""
        if not paths:
            return
        rows = self._db.rows(
            "SELECT commit_paths.id, chunks.id, min(first_line) FROM commit_paths"
            " JOIN files ON files.path = commit_paths.path JOIN chunks ON chunks.file = files.id"
            f" WHERE commit_paths.id IN ({marks(paths)}) GROUP BY commit_paths.id",
            paths,
        )
        first = {path: chunk for path, chunk, _ in rows}
        held.update({(path, _FIRST): (first[path],) if path in first else () for path in paths})

    def _paths_like(self, written: str) -> list[str]:
        """The indexed files of this path, or else those that end with it."""
        if self._db.row("SELECT 1 FROM files WHERE path = ?", (written,)):
            return [written]
        ending = written.lstrip("./")
        if not ending:
            return []
        rows = self._db.rows("SELECT path FROM files WHERE substr(path, -?) = ?", (len(ending) + 1, f"/{ending}"))
        return sorted(str(path) for (path,) in rows)

    def _changes_of(self, paths: Sequence[str]) -> list[Row]:
        """The changes of files that were more than formatting, newest first."""
        return self._db.rows(
            "SELECT hash, subject, author, time_s, body, files, today.path, symbols FROM commit_paths AS today"
            " JOIN commit_changes ON today = today.id JOIN commits ON commits.id = commit_row"
            f" WHERE today.path IN ({marks(paths)}) AND coalesce(weight, 1) > 0"
            " ORDER BY time_s DESC, hash, today.path",
            paths,
        )


def _best_names(symbols: Mapping[str, float]) -> Mapping[str, float]:
    """What the last names of symbols weigh, of the SYMBOLS_A_FILE that weigh most."""
    by_name: dict[str, float] = defaultdict(float)
    for symbol, weight in symbols.items():
        by_name[_last_name(symbol)] += weight
    if len(by_name) <= SYMBOLS_A_FILE:
        return by_name
    return dict(sorted(by_name.items(), key=lambda name: (-name[1], name[0]))[:SYMBOLS_A_FILE])


_last_name = lru_cache(maxsize=50_000)(last_name)


def _is_meant(name: str, symbol: str) -> bool:
    """Whether a symbol, as some commit's time wrote it, may be the one that a name, however far qualified, asks for."""
    if last_name(name) != last_name(symbol):
        return False
    asked, known = name.split("::"), symbol.split("::")
    shorter = min(len(asked), len(known))
    return asked[-shorter:] == known[-shorter:]


def _told(rows: Sequence[Row], name: str | None) -> list[Told]:
    """One entry for each commit, in the order of the rows; of symbols those that the name means, where one is given."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row[0]].append(row)
    found = []
    for commit, changes in grouped.items():
        _, subject, author, time_s, body, files, _, _ = changes[0]
        symbols = dict.fromkeys(symbol for change in changes for symbol in split_row(change[-1]))
        found.append(
            Told(
                Commit(commit, subject, author, time_s),
                body,
                tuple(dict.fromkeys(change[-2] for change in changes)),
                tuple(symbol for symbol in symbols if name is None or _is_meant(name, symbol)),
                files,
            )
        )
    return found
