"""Files read, parsed and made into rows: here for a few, in other processes for many, with the vectors that are made at
once beside them.

What is stored of them, and which files these are, it does not know.
"""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from indexer import chunking, cpp, documents
from indexer.cpp.macros import BUILTIN, MAX_BODY, MacroDefinition, Macros, definitions
from indexer.errors import EmbedderError
from indexer.files import Candidate, FileRules, Skip, read
from indexer.model import Chunk, Embedder, Language, ParsedFile, Problem, SourceFile
from indexer.processes import pool, side_by_side, submit
from indexer.rows import FileRows, packed, rows_of
from indexer.secrets import redact

TASK_BYTES = 128 << 10  # of source a parsing task: large enough to hide the hand-over, small enough to share evenly
INLINE_BYTES = 192 << 10  # below this starting processes (0.3 s) costs more than parsing here

STATIC = "static"  # how the name of an embedder begins that looks its words up instead of reading sentences


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
class Touched:
    """A file with a new time stamp and the old bytes."""

    path: str
    size: int
    mtime_ns: int


Outcome = FileRows | Touched | Skip | Problem
_Task = tuple[tuple[Candidate, str], ...]  # candidates, each with the digest that the table knows or ""


def parse_file(source: SourceFile, macros: Macros = BUILTIN) -> tuple[ParsedFile, tuple[Chunk, ...]]:
    """A file's facts and chunks, whatever its language. Never raises on its text."""
    parsed = cpp.parse(source, macros) if source.language is Language.CPP else documents.parse_document(source)
    return parsed, chunking.chunk(source, parsed)


def embedded_text(chunk: Chunk) -> str:
    """What is embedded of a chunk: its qualified name, or its path where it has none, and its text.

    Path and signature are left out of the name's way: the signature stands in the text anyway, and with both an encoder
    of so few word pieces reads hardly any code (mean reciprocal rank on leveldb 0.26 with the whole title, 0.32
    so). Vectors of differently made texts must not be compared: whoever changes this changes the embedders' names.
    """
    path, *rest = chunk.title.split(" | ")
    return f"{rest[0] if rest else path}\n{chunk.text}"


def macros_of(root: Path, candidate: Candidate, rules: FileRules) -> tuple[MacroDefinition, ...]:
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


@dataclass(frozen=True, slots=True)
class Parser:
    """All that parsing needs beside the files: handed once to each process."""

    root: Path
    rules: FileRules
    macros: Macros
    instant: EmbedderSource | None = None

    def parse(self, task: _Task) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for candidate, digest in task:
            source = read(self.root, candidate, self.rules)
            if not isinstance(source, SourceFile):
                outcomes.append(source)
            elif source.digest == digest:
                outcomes.append(Touched(source.path, source.size, source.mtime_ns))
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


def outcomes(
    parser: Parser, todo: Sequence[Candidate], digests: Mapping[str, str], workers: int
) -> Generator[Outcome, None, None]:
    """What becomes of each of the files, as it comes. ``digests`` are those of the files that are known.

    ``workers`` processes are begun where there is enough to share; 0 means as many as there are cores.
    """
    tasks = _tasks(todo, digests)
    if len(tasks) > 1 and not are_few(todo):
        yield from _parse_elsewhere(parser, tasks, workers)
        return
    for task in tasks:
        yield from parser.parse(task)


def are_few(todo: Sequence[Candidate]) -> bool:
    """Whether files are better parsed here than shared."""
    return sum(candidate.size for candidate in todo) <= INLINE_BYTES


@lru_cache(maxsize=1)
def _loaded(source: EmbedderSource) -> Embedder:
    """Once for each process: the model weighs more than a task."""
    return source.load()


def _tasks(todo: Sequence[Candidate], digests: Mapping[str, str]) -> list[_Task]:
    tasks: list[_Task] = []
    current: list[tuple[Candidate, str]] = []
    size = 0
    for candidate in todo:
        current.append((candidate, digests.get(candidate.path, "")))
        size += candidate.size
        if size >= TASK_BYTES:
            tasks.append(tuple(current))
            current, size = [], 0
    return [*tasks, tuple(current)] if current else tasks


def _parse_elsewhere(parser: Parser, tasks: Sequence[_Task], workers: int) -> Generator[Outcome, None, None]:
    """Parses in spawned processes. A parser that kills its process costs one file: what was under way with it is tried
    again file by file, and the rest goes on as before.
    """
    left = list(reversed(tasks))
    while left:
        for task in (yield from _parse_side_by_side(parser, left, workers)):
            yield from _parse_one_by_one(parser, task)


def _parse_side_by_side(parser: Parser, left: list[_Task], workers: int) -> Generator[Outcome, None, list[_Task]]:
    """Returns the tasks that were under way when a process died."""
    workers = max(1, min(workers or os.cpu_count() or 1, len(left)))
    with pool(workers, _begin, parser) as processes:
        return (yield from side_by_side(processes, _submit, left, workers))


def _parse_one_by_one(parser: Parser, task: _Task) -> Iterator[Outcome]:
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


_parser_of_this_process: Parser | None = None


def _begin(parser: Parser) -> None:
    """The macros of a large tree weigh more than a task, so each process gets them once."""
    global _parser_of_this_process  # noqa: PLW0603 - the one place that a process of a pool can keep something
    _parser_of_this_process = parser


def _parse_here(task: _Task) -> list[Outcome]:
    assert _parser_of_this_process is not None
    return _parser_of_this_process.parse(task)


def _submit(processes: ProcessPoolExecutor, task: _Task) -> Future[list[Outcome]]:
    return submit(processes, _parse_here, task)
