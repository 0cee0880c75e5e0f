"""Brings an index up to date with its tree: scan, parse in other processes, write in batches, link, then embed.

Text, symbols and vectors of an instant embedder can be searched as soon as their batch is written; those of an encoder
follow. Everything that is finished stays finished: a run that was cancelled or killed is continued by the next one.
Knows nothing of who asked for it.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from time import perf_counter

from indexer import chunking, cpp, documents, history
from indexer.cpp.macros import BUILTIN, MAX_BODY, MacroDefinition, Macros, definitions, from_flag, learn
from indexer.cpp.macros import changed as changed_meanings
from indexer.errors import (
    Cancelled,
    DataFolderError,
    EmbedderError,
    FolderFullError,
    TreeError,
    VectorServerError,
)
from indexer.files import Candidate, FileRules, Scan, Skip, check_root, read, scan
from indexer.history import HistorySource
from indexer.index import Index
from indexer.model import (
    Chunk,
    ChunkId,
    Embedder,
    IndexReport,
    Language,
    ParsedFile,
    Problem,
    SourceFile,
    StageTime,
)
from indexer.processes import pool, side_by_side, submit
from indexer.relinking import relink
from indexer.rows import FileRows, packed, rows_of
from indexer.secrets import redact
from indexer.symbol_table.log import MOST_COMMITS
from indexer.symbol_table.table import KnownFile

# Raise it whenever parsing, chunking or splitting into words gives other facts for the same text: every file is then
# read again. 1: first form. 2: types, operands, links and masked macros.
FACTS_VERSION = 2

TASK_BYTES = 128 << 10  # of source a parsing task: large enough to hide the hand-over, small enough to share evenly
INLINE_BYTES = 192 << 10  # below this starting processes (0.3 s) costs more than parsing here
WRITE_FILES = 64  # a transaction: what a crash can cost, against the price of a commit
EMBED_BATCH = 64  # texts between two looks at the cancel button
# A file changed this shortly before it was read may have changed again without a new time stamp. 0.01 s (a tick of the
# kernel's clock) to 2 s (FAT's).
RACY_NS = 2_000_000_000

STATIC = "static"  # how the name of an embedder begins that looks its words up instead of reading sentences
COMMAND_LINE = "-D"  # stands for a path where the macros of the compiler's command line are kept

Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True, slots=True)
class EmbedderSource:
    """An embedder that is loaded only when there is something to embed. ``name`` is what the loaded one will say.

    One whose name begins with "static" embeds thousands of texts a second: the parsing processes do it as they go, so
    what loads it must be such as can be handed to a process.
    """

    name: str
    load: Callable[[], Embedder]

    @property
    def instant(self) -> bool:
        return self.name.startswith(STATIC)


@dataclass(frozen=True, slots=True)
class Options:
    rules: FileRules = field(default_factory=FileRules)
    workers: int = 0  # parsing processes; 0 means as many as there are cores
    defines: tuple[str, ...] = ()  # macros given on the command line of the compiler, as -DNAME=VALUE
    history: HistorySource | None = None  # None means the tree's own, up to the commit that it is at
    commits: int = MOST_COMMITS  # of the history that are kept, the newest; 0 keeps none
    carry: bool = True  # to Chroma what waits for it; if not, the caller sees to it later
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = perf_counter  # seconds


@dataclass(frozen=True, slots=True)
class _Touched:
    """A file with a new time stamp and the old bytes."""

    path: str
    size: int
    mtime_ns: int


_Outcome = FileRows | _Touched | Skip | Problem
_Task = tuple[tuple[Candidate, str], ...]  # candidates, each with the digest that the table knows or ""


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
        self._problems: list[Problem] = []
        self._skipped: list[tuple[str, str]] = []
        self._stages: list[StageTime] = []
        self._notes: list[str] = []
        self._changed = 0
        self._embedded = 0

    def refresh(self, sources: Sequence[EmbedderSource]) -> IndexReport:
        table, clock = self._index.table, self._options.clock
        started = clock()
        root = check_root(self._index.root)
        self._progress("scan", 0, 0)
        trusted_ns = int(self._options.now().timestamp() * 1e9) - RACY_NS
        found = scan(root, self._options.rules)
        if not found.candidates:
            raise TreeError(
                f"{root} holds no C++, CMake, Markdown, reST or text file to index.",
                "Check the path and its ignore rules; `codehub doctor PATH` says why files are left out.",
            )
        self._skipped += found.skipped
        self._problems += found.problems
        facts = f"{FACTS_VERSION} {self._options.rules.facts}"
        if table.meta().get("facts") != facts:
            table.distrust_files({"facts": facts, "macros": ""})  # what was learnt too
        known = table.known_files()
        trusted_before_ns = int(table.meta().get("trusted_ns", "0"))
        gone = sorted(set(known) - {candidate.path for candidate in found.candidates})
        macros = self._learn_macros(root, _todo(found, known, trusted_before_ns), gone)
        known = table.known_files()  # those that hold a macro of another meaning are no longer trusted
        todo = _todo(found, known, trusted_before_ns)
        commit, dirty = history.head(root)
        self._lap("scan", started)

        started = clock()
        if gone:
            table.remove(gone)
        removed = len(gone)
        if todo:
            removed += self._parse_and_write(_Parser(root, self._options.rules, macros, _instant(sources)), todo, known)
        table.set_meta(
            {
                "commit": commit or "",
                "dirty": str(int(dirty)),
                "indexed_at": self._options.now().isoformat(timespec="seconds"),
                "trusted_ns": str(trusted_ns),
            }
        )
        self._lap("parse and write", started)
        self._embed_or_note([source for source in sources if source.instant])
        self._link()
        self._read_history(root, commit)
        self._embed_or_note([source for source in sources if not source.instant])
        if self._options.carry:
            self._drain()
        counts = table.counts()
        return IndexReport(
            workspace=self._index.workspace,
            files=counts.files,
            changed=self._changed,
            unchanged=counts.files - self._changed,
            removed=removed,
            lines=counts.lines,
            symbols=counts.symbols,
            references=counts.references,
            chunks=counts.chunks,
            embedded=self._embedded,
            waiting_for_vectors=max((table.waiting(source.name) for source in sources), default=counts.chunks),
            problems=(*self._problems, *table.problems()),
            skipped=tuple(sorted(self._skipped)),
            stages=tuple(self._stages),
            notes=tuple(self._notes),
            redacted=tuple(table.redactions()),
            redacted_commits=self._index.log.redactions(),
        )

    def _learn_macros(self, root: Path, todo: Sequence[Candidate], gone: Sequence[str]) -> Macros:
        """What the macros of the tree mean, as it is now. Files that this concerns are no longer trusted afterwards."""
        table = self._index.macros
        flags = self._options.defines
        if self._options.rules.secrets_redact:
            flags = tuple(redact(flag)[0] for flag in flags)
        given = [macro for macro in map(from_flag, flags) if macro is not None]
        now: dict[str, tuple[MacroDefinition, ...]] = dict.fromkeys(gone, ())
        now[COMMAND_LINE] = tuple(sorted(set(given), key=repr))
        for candidate in todo:
            if candidate.language is Language.CPP:
                now[candidate.path] = _definitions(root, candidate, self._options.rules)
        before = table.definitions()
        changed = {path: macros for path, macros in now.items() if macros != before.get(path, ())}
        noted = table.knowledge()
        if noted and not changed:
            return Macros.loads(noted)
        everything = chain.from_iterable({**before, **now}.values())
        learnt = learn(MacroDefinition(*macro) for macro in everything)
        known_before = Macros.loads(noted) if noted else BUILTIN
        table.replace(changed, learnt.dumps(), changed_meanings(known_before, learnt))
        return learnt

    def _parse_and_write(self, parser: "_Parser", todo: Sequence[Candidate], known: dict[str, KnownFile]) -> int:
        """Writes what changed. Returns how many files turned out to be no longer indexable."""
        tasks = _tasks(todo, known)
        small = sum(candidate.size for candidate in todo) <= INLINE_BYTES
        outcomes: Generator[_Outcome, None, None] = (
            (outcome for task in tasks for outcome in parser.parse(task))
            if small
            else _parse_elsewhere(parser, tasks, self._options.workers)
        )
        filling = nullcontext() if small or known else self._index.table.filling()
        with filling, closing(outcomes):  # its processes end here, and not when the garbage is collected
            lost = self._write(outcomes, len(todo))
        had = [path for path in lost if path in self._index.table.known_files()] if lost else []
        if had:
            self._index.table.remove(had)
        return len(had)

    def _write(self, outcomes: Iterable[_Outcome], total: int) -> list[str]:
        """Writes outcomes batch by batch as they come. Returns the paths that cannot be indexed any more."""
        table = self._index.table
        batch: list[FileRows] = []
        touched: list[tuple[str, int, int]] = []
        lost: list[str] = []
        for done, outcome in enumerate(outcomes, 1):
            match outcome:
                case FileRows():
                    batch.append(outcome)
                case _Touched(path, size, mtime_ns):
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
        if self._index.walk.keep():
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

    def _embed_or_note(self, sources: Sequence[EmbedderSource]) -> None:
        """Text and symbols are there already, so a model that does not answer is worth a note, not a failure."""
        for source in sources:
            try:
                self._embed(source)
            except EmbedderError as error:
                self._notes.append(f"No vectors for now: {error.message} {error.hint}")
            else:
                if source.instant:
                    self._forget_others(source.name)

    def _embed(self, source: EmbedderSource) -> None:
        table = self._index.table
        waiting = table.waiting_chunks(source.name)
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
        if not self._index.table.outbox_depth() and not self._index.lost_chroma():
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


def parse_file(source: SourceFile, macros: Macros = BUILTIN) -> tuple[ParsedFile, tuple[Chunk, ...]]:
    """A file's facts and chunks, whatever its language. Never raises on its text."""
    parsed = cpp.parse(source, macros) if source.language is Language.CPP else documents.parse_document(source)
    return parsed, chunking.chunk(source, parsed)


def _definitions(root: Path, candidate: Candidate, rules: FileRules) -> tuple[MacroDefinition, ...]:
    """The macros of a file, without secrets. Few bodies hold any, so the whole text is looked through only then."""
    source = read(root, candidate, replace(rules, secrets_redact=False))
    if not isinstance(source, SourceFile):
        return ()
    found = definitions(source.text.encode("utf-8", "surrogatepass"))
    if not rules.redacts(candidate.path):
        return found
    bodies = "\n".join(f"{macro.name} {macro.body}" for macro in found)
    if not redact(bodies)[1] and all(
        len(macro.body) < MAX_BODY // 4 for macro in found
    ):  # a cut one may end in half a key
        return found
    return definitions(redact(source.text)[0].encode("utf-8", "surrogatepass"))


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


def embed(index: Index, embedder: Embedder, ids: Sequence[ChunkId]) -> int:
    """Stores the vectors of chunks. Returns how many; of a chunk that is gone there is none. Raises EmbedderError."""
    chunks = index.table.chunks(ids)
    vectors = embedder.embed_documents([embedded_text(chunk) for chunk in chunks])
    return index.table.store_vectors(embedder.name, [chunk.id for chunk in chunks], vectors)


def embedded_text(chunk: Chunk) -> str:
    """What is embedded of a chunk: its qualified name, or its path where it has none, and its text.

    Path and signature are left out of the name's way: the signature stands in the text anyway, and with both an encoder
    of so few word pieces reads hardly any code (mean reciprocal rank on leveldb 0.26 with the whole title, 0.32
    so). Vectors of differently made texts must not be compared: whoever changes this changes the embedders' names.
    """
    path, *rest = chunk.title.split(" | ")
    return f"{rest[0] if rest else path}\n{chunk.text}"


@dataclass(frozen=True, slots=True)
class _Parser:
    """All that parsing needs beside the files: handed once to each process."""

    root: Path
    rules: FileRules
    macros: Macros
    instant: EmbedderSource | None = None

    def parse(self, task: _Task) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        for candidate, digest in task:
            source = read(self.root, candidate, self.rules)
            if not isinstance(source, SourceFile):
                outcomes.append(source)
            elif source.digest == digest:
                outcomes.append(_Touched(source.path, source.size, source.mtime_ns))
            else:
                parsed, chunks = parse_file(source, self.macros)
                outcomes.append(self._with_vectors(rows_of(source, parsed, chunks), chunks))
        return outcomes

    def _with_vectors(self, rows: FileRows, chunks: Sequence[Chunk]) -> FileRows:
        """An embedder that fails here is tried again when all is written, which then says why."""
        if self.instant is None or not chunks:
            return rows
        try:
            embedder = _loaded(self.instant)
            vectors = embedder.embed_documents([embedded_text(chunk) for chunk in chunks])
        except EmbedderError:
            return rows
        return replace(rows, embedder=embedder.name, vectors=tuple(packed(vectors)))


@lru_cache(maxsize=1)
def _loaded(source: EmbedderSource) -> Embedder:
    """Once for each process: the model weighs more than a task."""
    return source.load()


def _instant(sources: Sequence[EmbedderSource]) -> EmbedderSource | None:
    return next((source for source in sources if source.instant), None)


def _tasks(todo: Sequence[Candidate], known: dict[str, KnownFile]) -> list[_Task]:
    tasks: list[_Task] = []
    current: list[tuple[Candidate, str]] = []
    size = 0
    for candidate in todo:
        before = known.get(candidate.path)
        current.append((candidate, before.digest if before else ""))
        size += candidate.size
        if size >= TASK_BYTES:
            tasks.append(tuple(current))
            current, size = [], 0
    return [*tasks, tuple(current)] if current else tasks


def _parse_elsewhere(parser: _Parser, tasks: Sequence[_Task], workers: int) -> Generator[_Outcome, None, None]:
    """Parses in spawned processes. A parser that kills its process costs one file: what was under way with it is tried
    again file by file, and the rest goes on as before.
    """
    left = list(reversed(tasks))
    while left:
        for task in (yield from _parse_side_by_side(parser, left, workers)):
            yield from _parse_one_by_one(parser, task)


def _parse_side_by_side(parser: _Parser, left: list[_Task], workers: int) -> Generator[_Outcome, None, list[_Task]]:
    """Returns the tasks that were under way when a process died."""
    workers = max(1, min(workers or os.cpu_count() or 1, len(left)))
    with pool(workers, _begin, parser) as processes:
        return (yield from side_by_side(processes, _submit, left, workers))


def _parse_one_by_one(parser: _Parser, task: _Task) -> Iterator[_Outcome]:
    left = list(reversed(task))
    while left:
        with pool(1, _begin, parser) as processes:
            alive = True
            while left and alive:
                entry = left.pop()
                try:
                    outcomes = _submit(processes, (entry,)).result()
                except BrokenProcessPool:
                    outcomes = [Problem(entry[0].path, 0, "the parser crashed on it; the file is left out")]
                    alive = False
                yield from outcomes


_parser_of_this_process: _Parser | None = None


def _begin(parser: _Parser) -> None:
    """The macros of a large tree weigh more than a task, so each process gets them once."""
    global _parser_of_this_process  # noqa: PLW0603 - the one place that a process of a pool can keep something
    _parser_of_this_process = parser


def _parse_here(task: _Task) -> list[_Outcome]:
    assert _parser_of_this_process is not None
    return _parser_of_this_process.parse(task)


def _submit(processes: ProcessPoolExecutor, task: _Task) -> Future[list[_Outcome]]:
    return submit(processes, _parse_here, task)
