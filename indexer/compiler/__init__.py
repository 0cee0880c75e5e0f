"""Facts from the compiler, where a tree has a compile_commands.json: what libclang says of each unit takes the place of
what the parser took it to mean.

The pass comes after the quick one and can be stopped at any time: a unit is read and kept, or it is not. A unit is read
again when a file that it read has changed, when a file has come that one of its includes could mean, or when its flags
have. A unit that cannot be read loses only itself.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from time import perf_counter

from indexer.compiler.commands import Commands, Unit, defines, find_commands, read_commands
from indexer.compiler.headers import compiler_headers
from indexer.compiler.targets import Targets
from indexer.compiler.unit import Crash, UnitFacts
from indexer.compiler.workers import Limits, read_units
from indexer.errors import Cancelled
from indexer.index import Index
from indexer.model import Problem
from indexer.symbol_table.compiled import Coverage, UnitKey

__all__ = [
    "Commands",
    "CompilerOptions",
    "CompilerReport",
    "Coverage",
    "Limits",
    "Unit",
    "confirm",
    "coverage",
    "defines",
    "find_commands",
    "read_commands",
    "retract",
]

# Raise it whenever a unit gives other facts for the same text: every unit is then read again. 1: first form.
COMPILER_FACTS_VERSION = 1


@dataclass(frozen=True, slots=True)
class CompilerOptions:
    """``commands`` names the compile_commands.json where it is not where builds usually put it."""

    commands: Path | None = None
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = perf_counter  # seconds


@dataclass(frozen=True, slots=True)
class CompilerReport:
    """What one pass did. ``units`` are those of the compile_commands.json, ``fresh`` those that were known already,
    ``done`` those that were read now, and ``failed`` those that gave nothing now.
    """

    units: int = 0
    fresh: int = 0
    done: int = 0
    broken: int = 0  # of ``done``: with headers missing, or flags that Clang does not know
    failed: int = 0
    moved: int = 0  # files changed after the quick pass; the next run reads these units
    files_confirmed: int = 0
    seconds: float = 0.0
    duplicates: int = 0  # entries of the compile_commands.json, as the two below
    outside: int = 0
    missing: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def confirm(
    index: Index,
    options: CompilerOptions,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> CompilerReport:
    """Reads the units that are not known as they are now. The caller owns the data folder, and links afterwards.

    Raises DataFolderError, and Cancelled after keeping what was finished. Without a compile_commands.json or without
    libclang, what units said before is dropped and the report's notes say so.
    """
    started = options.clock()
    run, commands, note = _begin(index, options, progress, cancelled)
    run.run()
    return CompilerReport(
        units=len(commands.units),
        fresh=run.fresh,
        done=run.done,
        broken=run.broken,
        failed=run.failed,
        moved=run.moved,
        files_confirmed=index.compiled.coverage().files,
        seconds=round(options.clock() - started, 3),
        duplicates=commands.duplicates,
        outside=commands.outside,
        missing=commands.missing,
        problems=(*commands.problems, *run.problems),
        notes=(note,) if note else (),
    )


def retract(index: Index, options: CompilerOptions) -> None:
    """Drops what the compiler said of units that have changed since, and reads none: what ``confirm`` begins with.

    For a run that leaves the compiler out. The caller owns the data folder, and links afterwards.
    """
    run, _, _ = _begin(index, options, lambda _stage, _done, _total: None, lambda: False)
    run.retract()


def coverage(index: Index) -> Coverage:
    """How much of the tree the compiler has confirmed."""
    return index.compiled.coverage()


def _begin(
    index: Index,
    options: CompilerOptions,
    progress: Callable[[str, int, int], None],
    cancelled: Callable[[], bool],
) -> tuple["_Pass", Commands, str]:
    """A pass over the units of a tree's commands, and why there are none, if so."""
    version = _clang_version()
    path = options.commands or find_commands(index.root)
    note = ""
    if path is None:
        note = "There is no compile_commands.json, so no use is confirmed by the compiler."
    elif version is None:
        note = "libclang is not installed, so no use is confirmed by the compiler: install codehub's extra `clang`."
    commands = read_commands(path, index.root) if path and version else Commands()
    return _Pass(index, options, progress, cancelled, commands, version or "0"), commands, note


class _Pass:
    """One pass over the units, and what it has counted so far."""

    def __init__(
        self,
        index: Index,
        options: CompilerOptions,
        progress: Callable[[str, int, int], None],
        cancelled: Callable[[], bool],
        commands: Commands,
        version: str,
    ) -> None:
        self._table = index.compiled
        self._root = index.root
        self._options = options
        self._progress = progress
        self._cancelled = cancelled
        self._tree = self._table.tree()
        self._targets = Targets(self._table)
        self._system = compiler_headers(int(version.partition(".")[0]))
        setting = (str(COMPILER_FACTS_VERSION), version, *self._system)
        self._keys = {UnitKey(unit.path, _digest((*setting, *unit.arguments))): unit for unit in commands.units}
        self._fresh: set[UnitKey] = set()
        self.fresh = self.done = self.broken = self.failed = self.moved = 0
        self.problems: list[Problem] = []

    def retract(self) -> None:
        """Drops the units that are no longer as they were read."""
        known = self._table.units(self._tree, self._others())
        gone = self._table.forget([unit.number for unit in known if not unit.fresh or unit.key not in self._keys])
        self._fresh = {unit.key for unit in known} - set(gone)
        self.fresh = len(self._fresh)

    def run(self) -> None:
        self.retract()
        todo = [key for key in self._keys if key not in self._fresh]
        tried = set(todo)
        while todo:
            self._read(todo)
            # What a unit owned and no longer reads is told by another one that does. Each is tried once.
            numbers = {unit.key: unit.number for unit in self._table.units(self._tree, self._others())}
            again = [key for key in self._table.unowned() if key not in tried and key in self._keys]
            todo = [key for key in self._table.forget([numbers[key] for key in again]) if key in self._keys]
            self.fresh -= len(set(todo) - tried)
            tried |= set(todo)

    def _others(self) -> dict[str, str]:
        return {path: _digest_of(self._root / path) for path in self._table.others()}

    def _read(self, todo: list[UnitKey]) -> None:
        told = self._table.told()
        keys = {self._keys[key]: key for key in todo}
        total = len(todo)
        self._progress("compile", 0, total)
        outcomes = read_units(list(keys), self._root, self._system, told, self._options.limits, self._cancelled)
        with closing(outcomes):  # its processes end here, whatever happens
            for done, (unit, found) in enumerate(outcomes, 1):
                self._keep(unit, keys[unit], found, told)
                self._progress("compile", done, total)
        if self._cancelled():
            raise Cancelled("Stopped; every unit finished so far is kept.", "Run the same command to go on from there.")

    def _keep(self, unit: Unit, key: UnitKey, found: UnitFacts | Crash, told: list[tuple[str, str]]) -> None:
        if isinstance(found, Crash):
            self.failed += 1
            self.problems.append(Problem(unit.path, 0, found.message))
            self._table.write_failure(key, found.message, self._tree)
            return
        compiled = self._targets.compiled(unit, key, found)
        if not self._table.write(compiled, self._tree):
            self.moved += 1
            return
        told += [(file.path, file.flavor) for file in found.files if file.walked]
        self.done += 1
        if compiled.broken:
            self.broken += 1
            self.problems.append(Problem(unit.path, compiled.line, compiled.note))


def _clang_version() -> str | None:
    try:
        return metadata.version("libclang")
    except metadata.PackageNotFoundError:
        return None


def _digest(parts: tuple[str, ...]) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _digest_of(path: Path) -> str:
    """Of a file's bytes, as units note it; "" where it cannot be read."""
    try:
        return blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
