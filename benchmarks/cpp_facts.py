"""Measures our facts of C++, made without a build and with one, against Clang's.

    python benchmarks/cpp_facts.py [--keep DIR] [--json] [--build | --no-build] [LIBRARY ...]
    python benchmarks/cpp_facts.py --keep DIR --show wrong calls leveldb      (or: missing functions, types, bases ...)

The libraries come through package clients; Clang is the libclang wheel (pip install 'libclang>=18'). With --keep the
sources and Clang's side stay in DIR, so that another run costs seconds. Each figure is of the code that Clang compiled:
branches of an #if that it skipped count neither way.

With a build both sides are libclang over the same commands. That table therefore says how much of what the compiler
knows the product keeps, attributes and gives back; the two sides read Clang's tree by code of their own.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cpp_libraries  # noqa: E402 - the path is set above, so that a plain checkout works
import cpp_oracle  # noqa: E402
import tree_sitter_cpp  # noqa: E402
from cpp_matching import Comparison, Finding, Ours, Score, compare, reasons  # noqa: E402
from end_to_end import family, machine, memory_mib  # noqa: E402
from tree_sitter import Language, Node, Parser  # noqa: E402

from hub.config import Settings  # noqa: E402
from hub.indexing import refresh_as_set  # noqa: E402
from indexer.cpp.macros import Macros, definitions, learn  # noqa: E402
from indexer.cpp.masking import mask  # noqa: E402
from indexer.files import FileRules, scan  # noqa: E402
from indexer.index import DataFolder, Index  # noqa: E402
from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolKind  # noqa: E402
from indexer.model import Language as FileLanguage  # noqa: E402
from indexer.pipeline import Options, refresh  # noqa: E402
from indexer.symbol_table.graph import Reach  # noqa: E402

WORKERS = 2
LOOKUPS = 400
CALLERS = 100

# What each topic is called, the first bar, the goal, and what other tools reach on leveldb. Which leveldb those figures
# are of is not known: they name no version, only libclang 18.1.1, 79 files and 899 function definitions, which is not
# the 1.20 measured here. They compare names without scope; "right file" takes a header and its source as one.
ROWS: tuple[tuple[str, str, str, str, str, str], ...] = (
    ("files", "files", "recall", "", "", ""),
    (
        "functions",
        "function definitions",
        "recall",
        ".98",
        ".995",
        "codegraph .932, aider .917, graphify .780, kit .184",
    ),
    ("functions", "function definitions", "precision", ".98", ".995", ""),
    ("functions made by macros", "... that a macro makes whole", "recall", "", "", ""),
    ("types", "types", "recall", ".98", ".995", "graphify .945, aider .945, codegraph .932, kit .493"),
    ("types", "types", "precision", "", "", ""),
    ("aliases", "aliases and typedefs", "recall", "", "", ""),
    ("calls", "calls to the right target", "precision", ".90", ".95", ""),
    ("calls", "calls to the right target", "recall", ".80", ".90", ""),
    (
        "calls as pairs of names",
        "... as pairs of names, right file",
        "precision",
        "",
        "",
        "graphify .827, codegraph .727",
    ),
    ("calls as pairs of names", "... as pairs of names, right file", "recall", "", "", "codegraph .782, graphify .423"),
    ("calls: initialiser", "member and base initialisers", "precision", "", "", ""),
    ("calls: initialiser", "member and base initialisers", "recall", "", "", ""),
    ("calls: default", "default constructions", "precision", "", "", ""),
    ("calls: default", "default constructions", "recall", "", "", ""),
    ("calls: operator", "operators by their sign", "precision", "", "", ""),
    ("calls: operator", "operators by their sign", "recall", "", "", ""),
    ("calls out of macros", "calls that stand in a macro's body", "recall", "", "", ""),
    ("bases", "base classes, right target", "precision", ".97", ".99", ""),
    ("bases", "base classes, right target", "recall", ".97", ".99", ""),
    ("bases by name", "... by name", "precision", "", "", "graphify .94, codegraph .16"),
    ("bases by name", "... by name", "recall", "", "", "graphify .91, codegraph .765"),
    ("includes", "includes", "precision", ".98", ".99", ""),
    ("includes", "includes", "recall", ".98", ".99", ""),
    ("overrides", "overrides", "precision", "", "", ""),
    ("overrides", "overrides", "recall", "", "", ""),
)
# The compiler's pass takes tens of seconds a library, so these alone are measured with a build unless --build asks.
BUILT = ("leveldb", "fmt")
# What is compared again with a build, and the goals that it has of its own. Definitions are the parser's in any case.
BUILT_TOPICS = (
    "calls",
    "calls: initialiser",
    "calls: default",
    "calls: operator",
    "calls out of macros",
    "bases",
    "bases by name",
    "includes",
    "overrides",
)
BUILT_GOALS = {("calls", "precision"): ".98", ("calls", "recall"): ".97"}
COUNTS = (
    "by-name",
    "by-name, should be resolved",
    "by-name, right one among the candidates",
    "said to be outside, but inside",
    "constructions without a constructor",
    "unjudged",
)


@dataclass(slots=True)
class Errors:
    """Bytes inside the outermost ERROR regions of the grammar, of the raw text and of the masked one."""

    files: int = 0
    lines: int = 0
    bytes: int = 0
    raw_bytes: int = 0
    raw_files: int = 0
    masked_bytes: int = 0
    masked_files: int = 0
    largest: list[tuple[int, str, int, str]] = field(default_factory=list)  # bytes, path, line, text


@dataclass(slots=True)
class Speed:
    lines: int
    seconds: float
    cpu_seconds: float  # of all processes; on a busy machine it says more than the clock
    stages: dict[str, float]
    peak_mib: float
    lookup_p50_ms: float
    callers_p50_ms: float
    callers_p95_ms: float


@dataclass(slots=True)
class Pass:
    """The compiler's pass over one library's commands, with the linking that follows it."""

    units: int
    broken: int  # units of which Clang did not understand all
    failed: int  # units that gave nothing
    files: int  # of the tree, that it confirmed
    files_in_tree: int
    uses: int  # calls, bases and the like that the parser saw too
    uses_in_tree: int
    seconds: float
    cpu_seconds: float  # of all processes


@dataclass(slots=True)
class Result:
    """One library's comparison without a build, and the one with a build where it was asked for."""

    library: cpp_libraries.Library
    oracle: cpp_oracle.Oracle
    plain: Comparison
    built: tuple[Comparison, Pass] | None
    has_targets: bool


def main() -> None:
    options = arguments()
    if missing := cpp_libraries.missing_clients():
        raise SystemExit(f"The libraries come through package clients that are not here: {', '.join(missing)}.")
    with TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if options.index:
            print(json.dumps(index_alone(Path(options.index), folder)))
            return
        names = options.libraries or list(cpp_libraries.LIBRARIES)
        if options.show:
            show(names, folder, options)
            return
        report(names, folder, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"of {', '.join(cpp_libraries.LIBRARIES)}")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="use and keep this folder for sources and Clang's side"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-speed", action="store_true", help="leave out the large tree")
    parser.add_argument(
        "--build",
        action=argparse.BooleanOptionalAction,
        help=f"measure every library with a build too, or none; without it {' and '.join(BUILT)}."
        " --show --build lists what differs with a build",
    )
    parser.add_argument(
        "--show", nargs=2, metavar=("wrong|missing", "TOPIC"), help="list what differs, with the reason"
    )
    parser.add_argument("--reason", default="", help="with --show: only reasons that contain this")
    parser.add_argument("--path", default="", help="with --show: only paths that contain this")
    parser.add_argument("--limit", type=int, default=40, help="with --show: at most so many of each library")
    parser.add_argument("--index", metavar="TREE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := sorted(set(options.libraries) - set(cpp_libraries.LIBRARIES)):
        parser.error(f"no such library: {', '.join(unknown)}")
    if options.show and options.show[0] not in ("wrong", "missing"):
        parser.error(
            "--show takes 'wrong' or 'missing' and a topic: files, calls, functions, types, aliases, bases, includes"
        )
    return options


# The two sides


def compared(name: str, folder: Path, *, with_build: bool) -> Result:
    library = cpp_libraries.LIBRARIES[name](folder)
    oracle = clangs_side(library, folder)
    commands = cpp_libraries.write_commands(library, folder) if with_build else None
    ours, built = our_side(library.tree, commands)
    return Result(
        library, oracle, compare(oracle, ours), built and (compare(oracle, built[0]), built[1]), ours.has_targets
    )


def clangs_side(library: cpp_libraries.Library, folder: Path) -> cpp_oracle.Oracle:
    """Clang's facts, kept from the last run with the same commands and the same code where there was one."""
    code = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("cpp_clang.py", "cpp_oracle.py"))
    commands = json.dumps([sha256(code).hexdigest(), library.units])
    kept = folder / "oracle" / f"{library.name}.json"
    if kept.exists():
        known, _, text = kept.read_text(encoding="utf-8").partition("\n")
        if known == commands:
            return cpp_oracle.Oracle.loads(text)
    print(f"{library.name}: Clang reads {len(library.units)} units", file=sys.stderr)
    oracle = cpp_oracle.ask(library, cpp_libraries.system_arguments(folder), WORKERS)
    kept.parent.mkdir(parents=True, exist_ok=True)
    written = kept.with_suffix(f".{os.getpid()}")  # another run may look at the same moment
    written.write_text(f"{commands}\n{oracle.dumps()}", encoding="utf-8")
    written.replace(kept)
    return oracle


def our_side(tree: Path, commands: Path | None) -> tuple[Ours, tuple[Ours, Pass] | None]:
    """Our facts, by the product's own way from files to edges, made afresh; with commands once more after its pass."""
    with TemporaryDirectory() as data, Index.for_writing(DataFolder(Path(data)), "measured", tree) as index:
        settings = Settings(Path(data), embeddings="none", index_workers=WORKERS, compiler_commands="none")
        refresh_as_set(index, settings, silent, never)
        plain = facts_of(index)
        if commands is None:
            return plain, None
        done = compiler_pass(index, replace(settings, compiler_commands=str(commands)))
        return plain, (facts_of(index), done)


def compiler_pass(index: Index, settings: Settings) -> Pass:
    started, used = time.perf_counter(), cpu_seconds()
    report = refresh_as_set(index, settings, silent, never)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - used
    if report.confirmation is None or not report.confirmation.read:
        raise SystemExit(f"The compiler's pass read nothing: {'; '.join(report.notes) or 'no unit was left to read'}")
    for problem in report.confirmation.problems:
        print(f"{problem.path}:{problem.line}: {problem.message}", file=sys.stderr)
    known = index.compiled.coverage()
    return Pass(
        units=report.confirmation.units,
        broken=report.confirmation.broken,
        failed=report.confirmation.failed,
        files=known.files,
        files_in_tree=known.files_in_tree,
        uses=known.uses,
        uses_in_tree=known.uses_in_tree,
        seconds=seconds,
        cpu_seconds=cpu,
    )


def silent(_stage: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def never() -> bool:
    """Nobody stops a measurement."""
    return False


def cpu_seconds() -> float:
    """Of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def facts_of(index: Index) -> Ours:
    edges = [*index.facts.all_edges(), *index.graph.lineage.all_overrides(), *edges_to_the_outside(index)]
    return Ours(list(index.facts.all_symbols()), edges, frozenset(index.table.known_files()))


def edges_to_the_outside(index: Index) -> Iterator[Edge]:
    """The calls and bases that are known to mean nothing in the tree; nobody asks the product for them.

    Linking says so of the uses that the parser saw, the compiler of its own, which then stand for the parser's.
    """
    database = index.facts._db  # noqa: SLF001 - as said
    for kind, path, line, written, how in database.rows(
        "SELECT refs.kind, path, line, written, CASE WHEN refs.how = 'compiler' THEN refs.how ELSE links.how END"
        " FROM refs JOIN files ON files.id = refs.file LEFT JOIN links ON links.ref = refs.id"
        " WHERE refs.kind IN ('call', 'base') AND CASE WHEN refs.how = 'compiler' THEN coalesce(refs.target, '') = ''"
        " ELSE links.target = '' AND links.how <> 'compiler' END"
    ):
        yield Edge(ReferenceKind(kind), path, line, "", written, Provenance(how))


# What differs


def show(names: Iterable[str], folder: Path, options: argparse.Namespace) -> None:
    verdict, topic = options.show
    for name in names:
        result = compared(name, folder, with_build=bool(options.build))
        comparison = result.built[0] if result.built else result.plain
        found = [
            finding
            for finding in comparison.findings
            if finding.verdict == verdict
            and (finding.topic == topic or finding.topic.startswith(f"{topic}:"))
            and options.reason in finding.reason
            and options.path in finding.path
        ]
        print(f"{name}: {len(found)} {verdict} {topic}")
        for reason, number in reasons(found):
            print(f"  {number:5}  {reason}")
        for finding in spread(found, options.limit):
            print_finding(finding, result.library.tree)


def spread(found: Sequence[Finding], limit: int) -> list[Finding]:
    """Some of many, taken evenly over the list, so that one file does not hide the others."""
    if len(found) <= limit:
        return list(found)
    return [found[position * len(found) // limit] for position in range(limit)]


def print_finding(finding: Finding, tree: Path) -> None:
    lines = (tree / finding.path).read_text(encoding="utf-8", errors="replace").split("\n")
    text = lines[finding.line - 1].strip()[:150] if 0 < finding.line <= len(lines) else ""
    print(f"\n{finding.path}:{finding.line}  {finding.name}  ({finding.topic}: {finding.reason})")
    print(f"    text:  {text}")
    print(f"    Clang: {finding.clang}")
    print(f"    ours:  {finding.ours}")


# What the grammar makes of it


def error_shares(tree: Path) -> Errors:
    parser = Parser(Language(tree_sitter_cpp.language()))
    texts = {
        candidate.path: (tree / candidate.path).read_bytes()
        for candidate in scan(tree, FileRules()).candidates
        if candidate.language is FileLanguage.CPP
    }
    macros = learn([definition for text in texts.values() for definition in definitions(text)])
    found = Errors(files=len(texts))
    for path, text in sorted(texts.items()):
        _add_errors(found, path, text, macros, parser)
    found.largest.sort(reverse=True)
    del found.largest[10:]
    return found


def _add_errors(found: Errors, path: str, text: bytes, macros: Macros, parser: Parser) -> None:
    found.lines += text.count(b"\n")
    found.bytes += len(text)
    raw = outermost_errors(parser.parse(text).root_node)
    masked = outermost_errors(parser.parse(mask(text, macros).code).root_node)
    found.raw_bytes += sum(node.end_byte - node.start_byte for node in raw)
    found.raw_files += bool(raw)
    found.masked_bytes += sum(node.end_byte - node.start_byte for node in masked)
    found.masked_files += bool(masked)
    for node in masked:
        line = text.count(b"\n", 0, node.start_byte) + 1
        first = text[node.start_byte : node.start_byte + 90].decode("utf-8", "replace")
        found.largest.append((node.end_byte - node.start_byte, path, line, " ".join(first.split())))


def outermost_errors(root: Node) -> list[Node]:
    found, left = [], [root]
    while left:
        node = left.pop()
        if node.is_error:
            found.append(node)
        elif node.has_error:
            left += node.children
    return found


# Speed


def speed(folder: Path) -> Speed:
    """The large tree, indexed by a process of its own, then asked in this one."""
    with TemporaryDirectory() as data:
        return measured_speed(cpp_libraries.rocksdb(folder), Path(data))


def measured_speed(tree: Path, data: Path) -> Speed:
    command = [sys.executable, __file__, "--keep", str(data), "--index", str(tree)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(memory_mib(pid) for pid in family(process.pid)))
            time.sleep(0.05)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"Indexing the large tree ended with {process.returncode}.")
    figures = json.loads(output)
    with Index.for_reading(DataFolder(data), "measured") as index:
        functions = [s for s in index.facts.all_symbols() if s.kind is SymbolKind.METHOD and s.is_definition]
        lookups = [
            timed_ms(lambda s=s: index.facts.symbols_named(s.name, 20)) for s in spread_evenly(functions, LOOKUPS)
        ]
        callers = [
            timed_ms(lambda s=s: index.graph.callers([s.id], Reach(depth=3))) for s in spread_evenly(functions, CALLERS)
        ]
    return Speed(
        **figures,
        peak_mib=peak,
        lookup_p50_ms=statistics.median(lookups),
        callers_p50_ms=statistics.median(callers),
        callers_p95_ms=statistics.quantiles(callers, n=20)[18],
    )


def index_alone(tree: Path, data: Path) -> dict[str, Any]:
    folder = DataFolder(data)
    started = time.perf_counter()
    with folder.owned(), Index.for_writing(folder, "measured", tree) as index:
        found = refresh(index, Options(workers=WORKERS))
    seconds = time.perf_counter() - started
    return {
        "lines": found.lines,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds(),
        "stages": {stage.stage: stage.seconds for stage in found.stages},
    }


def spread_evenly(symbols: Sequence[Symbol], number: int) -> list[Symbol]:
    return [symbols[position * len(symbols) // number] for position in range(number)] if symbols else []


def timed_ms(work: Any) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


# The table


def report(names: Sequence[str], folder: Path, options: argparse.Namespace) -> None:
    results = {
        name: compared(name, folder, with_build=name in BUILT if options.build is None else options.build)
        for name in names
    }
    trees = {name: result.library.tree for name, result in results.items()}
    if not options.libraries:
        trees["range-v3"] = cpp_libraries.range_v3(folder)
    errors = {name: error_shares(tree) for name, tree in trees.items()}
    fast = None if options.no_speed or options.libraries else speed(folder)
    if options.json:
        print(json.dumps(as_json(results, errors, fast), indent=2))
        return
    print(f"Machine: {machine()}\n")
    print_plain(results)
    if built := {name: result.built for name, result in results.items() if result.built}:
        print_built(built)
    print_errors(errors)
    print("\n| Clang's side | units | that did not compile | errors | commands |\n|---|---:|---:|---:|---|")
    for name, result in results.items():
        oracle = result.oracle
        print(f"| {name} | {oracle.units} | {len(oracle.fatal)} | {oracle.errors} | {result.library.note} |")
        for failed in oracle.fatal:
            print(f"{name}: {failed}", file=sys.stderr)
    if not all(result.has_targets for result in results.values()):
        print("\nEdges name no symbol yet: targets are compared by qualified name, overloads count as one.")
    if fast:
        print_speed(fast)


def print_plain(results: dict[str, Result]) -> None:
    heads = "".join(f" {name} |" for name in results)
    print(f"| without a build, against libclang | |{heads} first bar | goal | others, on leveldb |")
    print("|---|---|" + "---:|" * len(results) + "---|---|---|")
    for topic, label, measure, bar, goal, others in ROWS:
        cells = [cell(result.plain.scores[topic], measure) for result in results.values()]
        print(f"| {label} | {measure} | " + " | ".join(cells) + f" | {bar} | {goal} | {others} |")
    for count in COUNTS:
        cells = [str(result.plain.counts[count]) for result in results.values()]
        print(f"| calls: {count} | number | " + " | ".join(cells) + " | | | |")


def print_built(built: dict[str, tuple[Comparison, Pass]]) -> None:
    print("\n| with a build, against libclang | |" + "".join(f" {name} |" for name in built) + " goal |")
    print("|---|---|" + "---:|" * len(built) + "---|")
    for topic, label, measure, *_ in ROWS:
        if topic in BUILT_TOPICS:
            cells = [cell(comparison.scores[topic], measure) for comparison, _ in built.values()]
            print(f"| {label} | {measure} | {' | '.join(cells)} | {BUILT_GOALS.get((topic, measure), '')} |")
    for count in COUNTS:
        cells = [str(comparison.counts[count]) for comparison, _ in built.values()]
        print(f"| calls: {count} | number | {' | '.join(cells)} | |")
    passes = [done for _, done in built.values()]
    rows = {
        "units read (broken, failed)": [f"{done.units} ({done.broken}, {done.failed})" for done in passes],
        "files that the compiler confirmed": [f"{done.files}/{done.files_in_tree}" for done in passes],
        "uses that it confirmed, of the parser's": [f"{done.uses}/{done.uses_in_tree}" for done in passes],
        "the pass, by the clock": [f"{done.seconds:.1f} s" for done in passes],
        "the pass, processor time of all processes": [f"{done.cpu_seconds:.1f} s" for done in passes],
    }
    for label, cells in rows.items():
        print(f"| {label} | | {' | '.join(cells)} | |")


def cell(score: Score, measure: str) -> str:
    value = score.recall if measure == "recall" else score.precision
    if value is None:
        return "-"
    parts = (
        (score.found, score.found + score.missing) if measure == "recall" else (score.right, score.right + score.wrong)
    )
    return f"{value:.3f} ({parts[0]}/{parts[1]})"


def print_errors(errors: dict[str, Errors]) -> None:
    print("\n| the grammar's ERROR regions | lines | raw: bytes | raw: files | masked: bytes | masked: files |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, found in errors.items():
        print(
            f"| {name} | {found.lines:,} | {found.raw_bytes / found.bytes:.2%} | {found.raw_files}/{found.files}"
            f" | {found.masked_bytes / found.bytes:.2%} | {found.masked_files}/{found.files} |"
        )


def print_speed(fast: Speed) -> None:
    print(f"\n| rocksdb, {fast.lines:,} lines, {min(WORKERS, os.cpu_count() or 1)} workers | |\n|---|---:|")
    print(f"| indexing without vectors | {fast.seconds:.1f} s, {fast.lines / fast.seconds:,.0f} lines/s |")
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in fast.stages.items())
    print(f"| of which | {stages} |")
    print(f"| processor time, all processes | {fast.cpu_seconds:.1f} s |")
    print(f"| 860,000 lines at that pace | {860_000 / fast.lines * fast.seconds:.0f} s (goal: 15 s) |")
    print(f"| peak memory, all processes | {fast.peak_mib:.0f} MiB |")
    print(f"| a symbol by name, in process, p50 | {fast.lookup_p50_ms:.2f} ms |")
    print(f"| callers to depth 3, p50 / p95 | {fast.callers_p50_ms:.1f} / {fast.callers_p95_ms:.1f} ms |")


def as_json(results: dict[str, Result], errors: dict[str, Errors], fast: Speed | None) -> dict[str, Any]:
    def marks(comparison: Comparison, topics: Iterable[str]) -> dict[str, Any]:
        scores = {
            topic: {"precision": score.precision, "recall": score.recall, **asdict(score)}
            for topic, score in sorted(comparison.scores.items())
            if topic in topics
        }
        return {"scores": scores, "counts": dict(comparison.counts)}

    def one(result: Result) -> dict[str, Any]:
        oracle = result.oracle
        clang = {
            "units": oracle.units,
            "failed": oracle.fatal,
            "errors": oracle.errors,
            "commands": result.library.note,
        }
        built = result.built and {**marks(result.built[0], BUILT_TOPICS), "pass": asdict(result.built[1])}
        return {**marks(result.plain, result.plain.scores), "clang": clang, "build": built}

    return {
        "machine": machine(),
        "libraries": {name: one(result) for name, result in results.items()},
        "errors": {name: asdict(found) for name, found in errors.items()},
        "rocksdb": asdict(fast) if fast else None,
    }


if __name__ == "__main__":
    main()
