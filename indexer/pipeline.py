"""Brings an index up to date with its tree: scan, parse in other processes, write in batches, link, then embed.

Text, symbols and vectors of an instant embedder can be searched as soon as their batch is written; those of an encoder
follow. Everything that is finished stays finished: a run that was cancelled or killed is continued by the next one.
Knows nothing of who asked for it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from time import perf_counter

from indexer import history
from indexer.cpp.macros import BUILTIN, MacroDefinition, Macros, from_flag, learn
from indexer.cpp.macros import changed as changed_meanings
from indexer.errors import (
    Cancelled,
    DataFolderError,
    EmbedderError,
    FolderFullError,
    TreeError,
    VectorServerError,
)
from indexer.files import Candidate, FileRules, Part, Scan, Skip, check_root, scan
from indexer.history import HistorySource
from indexer.index import Index
from indexer.model import ChunkId, Embedder, IndexReport, Language, Problem, StageTime
from indexer.parsing import (
    STATIC,
    EmbedderSource,
    Outcome,
    Parser,
    Touched,
    are_few,
    embedded_text,
    macros_of,
    outcomes,
    parse_file,
)
from indexer.relinking import relink
from indexer.rows import FileRows
from indexer.secrets import redact
from indexer.symbol_table.log import MOST_COMMITS
from indexer.symbol_table.table import KnownFile, Totals

__all__ = [
    "EMBED_BATCH",
    "FACTS_VERSION",
    "EmbedderSource",
    "Options",
    "Part",
    "Progress",
    "embed",
    "embedded_text",
    "ignore_progress",
    "never",
    "parse_file",
    "refresh",
]

# Raise it whenever parsing, chunking or splitting into words gives other facts for the same text: every file is then
# read again. 1: first form. 2: types, operands, links and masked macros.
FACTS_VERSION = 2

WRITE_FILES = 64  # a transaction: what a crash can cost, against the price of a commit
EMBED_BATCH = 64  # texts between two looks at the cancel button
# A file changed this shortly before it was read may have changed again without a new time stamp. 0.01 s (a tick of the
# kernel's clock) to 2 s (FAT's).
RACY_NS = 2_000_000_000

LIKELY_CHANGED = 20  # files of a part that git is asked of first; 1 to 1,000
COMMAND_LINE = "-D"  # stands for a path where the macros of the compiler's command line are kept

Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True, slots=True)
class Options:
    rules: FileRules = field(default_factory=FileRules)
    workers: int = 0  # parsing processes; 0 means as many as there are cores
    defines: tuple[str, ...] = ()  # macros given on the command line of the compiler, as -DNAME=VALUE
    history: HistorySource | None = None  # None means the tree's own, up to the commit that it is at
    commits: int = MOST_COMMITS  # of the history that are kept, the newest; 0 keeps none
    carry: bool = True  # to Chroma what waits for it; if not, the caller sees to it later
    part: Part | None = None  # where to look; None means everywhere. It must name all that changed since the last run
    graph: bool = True  # whether it is made too; if not, the one before is walked until ``index.walk.keep()``
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = perf_counter  # seconds


def ignore_progress(_stage: str, _done: int, _total: int) -> None:
    """For callers that show none."""


def never() -> bool:
    """For callers that do not cancel."""
    return False


def refresh(
    index: Index,
    options: Options,
    embedders: Sequence[EmbedderSource] = (),
    progress: Progress = ignore_progress,
    cancelled: Callable[[], bool] = never,
) -> IndexReport:
    """Makes the index equal to one made afresh from the tree as it is now.

    With ``options.part`` only what is named there is looked at, and the effect is the same where that is all that
    changed. Where it cannot be enough, as after ignore rules or the parser changed, everything is looked at instead;
    the report says which it was.

    Vectors of other embedders stay beside the new ones, never compared with them; those of another static one go as
    soon as the new ones are all there. The caller owns the data folder. Raises TreeError, DataFolderError, and
    Cancelled after keeping what was finished. An embedder that fails leaves a note.
    """
    run = _Run(index, options, progress, cancelled)
    return run.refresh(embedders)


class _Run:
    """One refresh: what it has seen so far, for the report."""

    def __init__(self, index: Index, options: Options, progress: Progress, cancelled: Callable[[], bool]) -> None:
        self._index = index
        self._options = options
        self._progress = progress
        self._cancelled = cancelled
        self._part: Part | None = None
        self._problems: list[Problem] = []
        self._skipped: list[tuple[str, str]] = []
        self._stages: list[StageTime] = []
        self._notes: list[str] = []
        self._changed = 0
        self._embedded = 0

    def refresh(self, sources: Sequence[EmbedderSource]) -> IndexReport:
        root = check_root(self._index.root)
        part = self._options.part
        likely = sorted(part.paths)[:LIKELY_CHANGED] if part else ()
        with ThreadPoolExecutor(1) as beside:  # git looks at every file of the tree, which nothing here waits for
            return self._refresh(root, beside.submit(history.head, root, likely), sources)

    def _refresh(
        self, root: Path, head: "Future[tuple[str | None, bool]]", sources: Sequence[EmbedderSource]
    ) -> IndexReport:
        table, clock = self._index.table, self._options.clock
        started = clock()
        self._progress("scan", 0, 0)
        trusted_ns = int(self._options.now().timestamp() * 1e9) - RACY_NS
        self._part = self._fitting_part()
        names = [source.name for source in sources]
        before = self._noted_totals(names) if self._part else None
        found, known = self._look(root)
        trusted_before_ns = int(table.note("trusted_ns") or 0)
        todo = _todo(found, known, trusted_before_ns)
        gone = _gone(found, known)
        if todo or gone:
            table.begin()
        macros, relearnt = self._learn_macros(root, todo, gone)
        if relearnt:  # files that hold a macro of another meaning are no longer trusted
            if self._part:
                self._part = self._part.also(table.untrusted())
                found, known = self._look(root)
            else:
                known = table.known_files()
            todo, gone = _todo(found, known, trusted_before_ns), _gone(found, known)
        self._skipped += found.skipped
        self._problems += found.problems
        self._lap("scan", started)

        started = clock()
        concerned = [*gone, *(candidate.path for candidate in todo)]
        own_before = table.totals(names, concerned) if before else None
        if gone:
            table.remove(gone)
        removed = len(gone)
        if todo:
            instant = next((source for source in sources if source.instant), None)
            removed += self._parse_and_write(Parser(root, self._options.rules, macros, instant), todo, known)
        of = concerned if before else None
        if self._part:  # what git says takes longer than a file does
            self._lap("parse and write", started)
            self._embed_or_note([source for source in sources if source.instant], of)
            self._link()
        commit, moved = self._note_state(head, trusted_ns)
        if not self._part:
            self._lap("parse and write", started)
            self._embed_or_note([source for source in sources if source.instant], of)
            self._link()
        moved = moved or bool(removed) or any(path not in known for path in concerned)
        if moved or not self._part or self._options.history:
            self._read_history(root, commit)
        self._embed_or_note([source for source in sources if not source.instant], of)
        if self._options.carry:
            self._drain()
        totals = before.changed(own_before, table.totals(names, concerned)) if before and own_before else None
        return self._report(totals or table.totals(names), removed, concerned)

    def _note_state(self, head: "Future[tuple[str | None, bool]]", trusted_ns: int) -> tuple[str | None, bool]:
        """Notes what the tree was when it was looked at. Returns its commit, and whether that is another."""
        table = self._index.table
        commit, dirty = head.result()
        moved = table.note("commit") != (commit or "")
        noted = {
            "commit": commit or "",
            "dirty": str(int(dirty)),
            "indexed_at": self._options.now().isoformat(timespec="seconds"),
        }
        table.set_meta(noted if self._part else {**noted, "trusted_ns": str(trusted_ns), "looked": self._ways()})
        return commit, moved

    def _report(self, totals: Totals, removed: int, concerned: Sequence[str]) -> IndexReport:
        """Notes what the next run of a part counts from, and that this one was finished."""
        table = self._index.table
        noted = {"begun": "", "totals": json.dumps([self._counted_at(), asdict(totals)])}
        if any(table.note(key) != value for key, value in noted.items()):
            table.set_meta(noted)
        paths = concerned if self._part else None
        return IndexReport(
            workspace=self._index.workspace,
            files=totals.files,
            changed=self._changed,
            unchanged=totals.files - self._changed,
            removed=removed,
            lines=totals.lines,
            symbols=totals.symbols,
            references=totals.references,
            chunks=totals.chunks,
            embedded=self._embedded,
            waiting_for_vectors=max(totals.waiting.values(), default=totals.chunks),
            problems=(*self._problems, *table.problems(paths)),
            skipped=tuple(sorted(self._skipped)),
            stages=tuple(self._stages),
            notes=tuple(self._notes),
            redacted=tuple(table.redactions(paths)),
            redacted_commits=0 if self._part else self._index.log.redactions(),
            whole=self._part is None,
        )

    def _fitting_part(self) -> Part | None:
        """The part that is to be looked at; None where no less than everything will do."""
        table, part = self._index.table, self._options.part
        facts = f"{FACTS_VERSION} {self._options.rules.facts}"
        if table.note("facts") != facts:
            table.distrust_files({"facts": facts, "macros": "", "begun": "1"})  # what was learnt too
        if part is None or part.everything or table.note("looked") != self._ways():
            return None
        # A run that was stopped has left files that no part names.
        return None if table.note("begun") else part

    def _ways(self) -> str:
        """What decides, beside the tree, which files are indexed and how much of the history."""
        return repr((self._options.rules, self._options.commits))

    def _look(self, root: Path) -> tuple[Scan, dict[str, KnownFile]]:
        """What is there, and what is known of the same places."""
        table = self._index.table
        found = scan(root, self._options.rules, self._part)
        if self._part:
            known = table.known_within(self._part.places)
            unreadable = any(not problem.path for problem in found.problems)
            if not unreadable and (found.candidates or not known or len(known) < table.file_count()):
                return found, known
            self._part = None  # nothing would be left, which is an error of the tree's and no reason to forget it
            return self._look(root)
        if not found.candidates:
            raise TreeError(
                f"{root} holds no C++, CMake, Markdown, reST or text file to index.",
                "Check the path and its ignore rules; `codehub doctor PATH` says why files are left out.",
            )
        return found, table.known_files()

    def _counted_at(self) -> list[object]:
        """Equal while no file, chunk or vector of the table changed."""
        table = self._index.table
        return [self._index.generation(), *([name, table.vectors_version(name)] for name in table.embedders())]

    def _noted_totals(self, embedders: Sequence[str]) -> Totals | None:
        """Those at the end of the run before; None where something else has written since, or where chunks wait for a
        vector, so that other files may change than those that are read.
        """
        noted = self._index.table.note("totals")
        at, totals = json.loads(noted) if noted else (None, {})
        settled = at == self._counted_at() and not any(totals["waiting"].get(name, 1) for name in embedders)
        return Totals(**totals) if settled else None

    def _learn_macros(self, root: Path, todo: Sequence[Candidate], gone: Sequence[str]) -> tuple[Macros, bool]:
        """What the macros of the tree mean, as it is now, and whether that is news, so that files that this concerns
        are no longer trusted.
        """
        table = self._index.macros
        flags = self._options.defines
        if self._options.rules.secrets_redact:
            flags = tuple(redact(flag)[0] for flag in flags)
        given = [macro for macro in map(from_flag, flags) if macro is not None]
        now: dict[str, tuple[MacroDefinition, ...]] = dict.fromkeys(gone, ())
        now[COMMAND_LINE] = tuple(sorted(set(given), key=repr))
        for candidate in todo:
            if candidate.language is Language.CPP:
                now[candidate.path] = macros_of(root, candidate, self._options.rules)
        noted = table.knowledge()
        before = table.definitions(now if noted else None)
        changed = {path: macros for path, macros in now.items() if macros != before.get(path, ())}
        if noted and not changed:
            return _loaded_macros(noted), False
        everything = chain.from_iterable({**(table.definitions() if noted else before), **now}.values())
        learnt = learn(MacroDefinition(*macro) for macro in everything)
        known_before = _loaded_macros(noted) if noted else BUILTIN
        news = changed_meanings(known_before, learnt)
        table.replace(changed, learnt.dumps(), news)
        return learnt, bool(news)

    def _parse_and_write(self, parser: Parser, todo: Sequence[Candidate], known: dict[str, KnownFile]) -> int:
        """Writes what changed. Returns how many files turned out to be no longer indexable."""
        digests = {path: file.digest for path, file in known.items()}
        found = outcomes(parser, todo, digests, self._options.workers)
        filling = nullcontext() if self._part or known or are_few(todo) else self._index.table.filling()
        with filling, closing(found):  # its processes end here, and not when the garbage is collected
            lost = self._write(found, len(todo))
        had = sorted(self._index.table.files_known(lost))
        if had:
            self._index.table.remove(had)
        return len(had)

    def _write(self, outcomes: Iterable[Outcome], total: int) -> list[str]:
        """Writes outcomes batch by batch as they come. Returns the paths that cannot be indexed any more."""
        table = self._index.table
        batch: list[FileRows] = []
        touched: list[tuple[str, int, int]] = []
        lost: list[str] = []
        for done, outcome in enumerate(outcomes, 1):
            match outcome:
                case FileRows():
                    batch.append(outcome)
                case Touched(path, size, mtime_ns):
                    touched.append((path, size, mtime_ns))
                case Skip(path, reason):
                    self._skipped.append((path, reason))
                    lost.append(path)
                case Problem():
                    self._problems.append(outcome)
                    lost.append(outcome.path)
            if len(batch) >= WRITE_FILES:
                table.write(batch)
                self._changed += len(batch)
                batch.clear()
            self._progress("parse", done, total)
            self._stop_if_cancelled(batch)
        table.write(batch)
        self._changed += len(batch)
        if touched:
            table.touch(touched)
        return lost

    def _link(self) -> None:
        """What uses mean is worked out after all files are read, for what they mean may stand in any of them."""
        started = self._options.clock()
        linked = relink(
            self._index.links,
            self._options.workers,
            lambda done, total: self._progress("link", done, total),
            lambda: self._stop_if_cancelled(()),
        )
        if linked:
            self._lap("link", started)
        started = self._options.clock()
        if self._options.graph and self._index.walk.keep():
            self._lap("graph", started)

    def _read_history(self, root: Path, commit: str | None) -> None:
        """Nothing that is newer than the tree is read."""
        log, options = self._index.log, self._options
        source = options.history or (history.source_of(root, commit) if commit else None)
        if source is None or not options.commits:
            log.forget()
            return
        started = options.clock()
        report = log.refresh(
            replace(source, redacts=options.rules.secrets_redact),
            options.commits,
            f"{FACTS_VERSION} {options.rules.facts}",
            lambda done, total: self._progress("history", done, total),
            lambda: self._stop_if_cancelled(()),
        )
        if report.read:
            self._lap("history", started)

    def _embed_or_note(self, sources: Sequence[EmbedderSource], paths: Sequence[str] | None) -> None:
        """Text and symbols are there already, so a model that does not answer is worth a note, not a failure.

        ``paths`` are the files of which chunks may wait; None where all may.
        """
        for source in sources:
            try:
                self._embed(source, paths)
            except EmbedderError as error:
                self._notes.append(f"No vectors for now: {error.message} {error.hint}")
            else:
                if source.instant:
                    self._forget_others(source.name)

    def _embed(self, source: EmbedderSource, paths: Sequence[str] | None) -> None:
        table = self._index.table
        waiting = table.waiting_chunks(source.name, paths)
        if not waiting:
            return
        started = self._options.clock()
        self._progress("embed", 0, len(waiting))
        embedder = source.load()
        for start in range(0, len(waiting), EMBED_BATCH):
            ids: list[ChunkId] = [chunk for chunk, _ in waiting[start : start + EMBED_BATCH]]
            self._embedded += embed(self._index, embedder, ids)
            self._progress("embed", start + len(ids), len(waiting))
            self._stop_if_cancelled(())
        self._lap("embed", started)

    def _forget_others(self, name: str) -> None:
        """Vectors of other versions of the static model are made again at any time, so nobody should keep them."""
        for other in self._index.table.embedders():
            if other.startswith(STATIC) and other != name:
                self._index.forget_embedder(other)

    def _drain(self) -> None:
        if not self._index.waits_for_chroma():
            return
        started = self._options.clock()
        self._progress("vectors", 0, 0)
        try:
            self._index.reconcile()
        except FolderFullError:
            raise
        except VectorServerError as error:
            self._notes.append(f"{error.message} The vectors wait for it; search compares them exactly until then.")
        except DataFolderError as error:
            self._notes.append(f"{error.message} The vector index was made again from the table.")
            self._index.rebuild_vectors()
        self._lap("vectors to Chroma", started)

    def _stop_if_cancelled(self, unwritten: Sequence[FileRows]) -> None:
        if self._cancelled():
            self._index.table.write(unwritten)
            raise Cancelled("Stopped; everything finished so far is kept.", "Run the same command to go on from there.")

    def _lap(self, stage: str, started: float) -> None:
        self._stages.append(StageTime(stage, round(self._options.clock() - started, 3)))


def _gone(found: Scan, known: Mapping[str, KnownFile]) -> list[str]:
    return sorted(known.keys() - {candidate.path for candidate in found.candidates})


def _todo(found: Scan, known: dict[str, KnownFile], trusted_ns: int) -> list[Candidate]:
    """The files whose size or time differ, and those that were read when their time could not be trusted yet.

    ``trusted_ns`` is when the last whole run began, less RACY_NS: a change of a file that was older then shows.
    """
    todo = []
    for candidate in found.candidates:
        before = known.get(candidate.path)
        same = before is not None and (before.size, before.mtime_ns) == (candidate.size, candidate.mtime_ns)
        if not same or candidate.mtime_ns > trusted_ns:
            todo.append(candidate)
    return todo


@lru_cache(maxsize=2)
def _loaded_macros(noted: str) -> Macros:
    """Those of a large tree take a tenth of a second to read, and seldom change."""
    return Macros.loads(noted)


def embed(index: Index, embedder: Embedder, ids: Sequence[ChunkId]) -> int:
    """Stores the vectors of chunks. Returns how many; of a chunk that is gone there is none. Raises EmbedderError."""
    chunks = index.table.chunks(ids)
    vectors = embedder.embed_documents([embedded_text(chunk) for chunk in chunks])
    return index.table.store_vectors(embedder.name, [chunk.id for chunk in chunks], vectors)
