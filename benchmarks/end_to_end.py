"""Indexes two real C++ libraries and prints what it costs: the figures of the README.

    make bench            (or: python benchmarks/end_to_end.py [--json] [--keep DIR])

The sources come through ordinary package clients: leveldb and snappy out of the npm package leveldown, and the
header-only fmt and range-v3 out of Debian's -dev packages. Each command runs as its user would run it, in a process of
its own; memory is that of all its processes together (PSS where Linux tells it). The baselines of the same run are
universal-ctags for symbols and `grep -rn` for a search, where they are installed.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from hub import config, wiring  # noqa: E402 - the path is set above, so that a plain checkout works
from hub.service import AskOptions, Service  # noqa: E402
from indexer.index import DataFolder, Index  # noqa: E402
from indexer.model import Embedder  # noqa: E402

LEVELDOWN = "leveldown@6.1.1"
DEBIAN = ("libfmt-dev", "librange-v3-dev")
QUERIES = 60
SAMPLE_S = 0.02
COMMAND = [sys.executable, "-c", "import sys; from hub.cli import main; sys.exit(main())"]


@dataclass(frozen=True, slots=True)
class Cost:
    seconds: float
    peak_mib: float
    output: str


@dataclass(slots=True)
class Row:
    library: str
    files: int = 0
    lines: int = 0
    symbols: int = 0
    references: int = 0
    chunks: int = 0
    text_searchable_s: float = 0.0
    embed_s: float = 0.0
    chroma_s: float = 0.0
    everything_s: float = 0.0
    again_s: float = 0.0
    again_embedded: int = 0
    peak_mib: float = 0.0
    disk_over_source: float = 0.0
    chroma_p50_ms: float = 0.0
    chroma_p95_ms: float = 0.0
    exact_p50_ms: float = 0.0
    exact_p95_ms: float = 0.0
    text_p50_ms: float = 0.0
    baselines: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="use and keep this folder for sources and indexes")
    options = parser.parse_args()
    if missing := [name for name in ("npm", "tar", "apt-get", "dpkg-deb") if shutil.which(name) is None]:
        raise SystemExit(f"The libraries come through package clients that are not here: {', '.join(missing)}.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        trees = {"leveldb + snappy": leveldown(folder), "fmt + range-v3": debian_headers(folder)}
        rows = [measure(name, tree, folder / "data" / str(number)) for number, (name, tree) in enumerate(trees.items())]
        starts = start_up(folder / "data" / "0")
    if options.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows], "start_up_s": starts}, indent=2))
    else:
        print_tables(rows, starts)


def leveldown(folder: Path) -> Path:
    """The C++ sources of leveldb and snappy, out of the npm package that carries them."""
    target = folder / "leveldown"
    if not target.exists():
        run(["npm", "pack", LEVELDOWN, "--silent"], folder)
        archive = next(folder.glob("leveldown-*.tgz"))
        run(["tar", "-xzf", archive.name], folder)
        (folder / "package" / "deps").rename(target)
        shutil.rmtree(folder / "package")
    return target


def debian_headers(folder: Path) -> Path:
    """The headers of header-only libraries, out of Debian's packages."""
    target = folder / "headers"
    if not target.exists():
        run(["apt-get", "download", *DEBIAN], folder)
        for archive in sorted(folder.glob("*.deb")):
            run(["dpkg-deb", "-x", archive.name, "unpacked"], folder)
        (folder / "unpacked" / "usr" / "include").rename(target)
        shutil.rmtree(folder / "unpacked")
    return target


def measure(name: str, tree: Path, data: Path) -> Row:
    print(f"{name}: indexing", file=sys.stderr)
    row = Row(name)
    shutil.rmtree(data, ignore_errors=True)
    first = command(["index", str(tree), "--data", str(data), "--json"])
    report = json.loads(first.output)
    seconds = report["seconds"]
    row.files, row.lines, row.symbols = report["files"], report["lines"], report["symbols"]
    row.references, row.chunks = report["references"], report["chunks"]
    row.everything_s, row.peak_mib = first.seconds, first.peak_mib
    row.embed_s, row.chroma_s = seconds.get("embed", 0.0), seconds.get("vectors to Chroma", 0.0)
    row.text_searchable_s = first.seconds - row.embed_s - row.chroma_s
    again = [command(["index", str(tree), "--data", str(data), "--json"]) for _ in range(5)]
    row.again_s = statistics.median(cost.seconds for cost in again)
    row.again_embedded = max(json.loads(cost.output)["embedded"] for cost in again)
    source = sum(file.stat().st_size for file in indexed_files(tree, data))
    row.disk_over_source = sum(f.stat().st_size for f in data.rglob("*") if f.is_file()) / source
    queries(row, tree, data)
    return row


def indexed_files(tree: Path, data: Path) -> list[Path]:
    folder = DataFolder(data)
    with Index.for_reading(folder, folder.workspaces()[0].name) as index:
        return [tree / path for path in index.table.known_files()]


def queries(row: Row, tree: Path, data: Path) -> None:
    """Times searches in process: as the owner with Chroma, as a reader with the exact scan, and without vectors."""
    folder = DataFolder(data)
    workspace = folder.workspaces()[0]
    settings = config.load({"data": data}, environment={})
    embedders = list(wiring.embedders(settings))
    with folder.owned():
        index = Index.for_writing(folder, workspace.name, workspace.root)
        asked = questions(index)
        row.chroma_p50_ms, row.chroma_p95_ms = timed(service(index, lambda: embedders), asked)
    reader = Index.for_reading(folder, workspace.name)
    row.exact_p50_ms, row.exact_p95_ms = timed(service(reader, lambda: embedders), asked)
    row.text_p50_ms, _ = timed(service(Index.for_reading(folder, workspace.name), list), asked)
    words = [question.split()[-1] for question in asked[:15]]
    grep = [clock(lambda w=word: run(["grep", "-rn", "--", w, str(tree)], tree, check=False)) for word in words]
    row.baselines["grep -rn, ms"] = statistics.median(grep) * 1000
    if shutil.which("ctags"):
        tags = str(data / "tags")
        row.baselines["ctags -R, s"] = clock(lambda: run(["ctags", "-R", "--languages=C++,C", "-f", tags, "."], tree))


def service(index: Index, embedders: Callable[[], Sequence[Embedder]]) -> Service:
    return Service(index, embedders, lambda: None, AskOptions())  # type: ignore[arg-type,return-value] # nothing is asked here


def questions(index: Index) -> list[str]:
    """First sentences of doc comments and bare names, evenly spread over the tree: what people type."""
    documented = [symbol for symbol in index.facts.all_symbols() if len(symbol.doc.split()) > 5]
    step = max(1, len(documented) // (QUERIES // 2))
    chosen = documented[::step][: QUERIES // 2]
    return [text for symbol in chosen for text in (" ".join(symbol.doc.split()[:14]), symbol.qualified_name)]


def timed(target: Service, asked: Sequence[str]) -> tuple[float, float]:
    """p50 and p95 in milliseconds, after a warm-up round over all queries.

    What was asked before in the same letters is kept, so each round asks with one more blank.
    """
    for question in asked:
        target.search(question, 10)
    again = [question + " " * number for question in asked for number in (1, 2, 3)]
    seconds = sorted(clock(lambda q=question: target.search(q, 10)) for question in again)
    target.close()
    return seconds[len(seconds) // 2] * 1000, seconds[int(len(seconds) * 0.95)] * 1000


def start_up(data: Path) -> dict[str, float]:
    """Medians of whole commands in a warm file cache, in seconds."""
    commands = {
        "codehub --help": ["--help"],
        "codehub symbol NAME": ["symbol", "DBImpl::Get", "--data", str(data)],
        "codehub search (with vectors)": ["search", "memtable flush", "--data", str(data)],
        "python -c pass (baseline)": [],
    }
    medians = {}
    for name, arguments in commands.items():
        line = [*COMMAND, *arguments] if arguments else [sys.executable, "-c", "pass"]
        medians[name] = statistics.median(clock(lambda line=line: run(line, REPOSITORY)) for _ in range(7))
    return medians


def command(arguments: Sequence[str]) -> Cost:
    """Runs codehub, watching the memory of its whole process tree."""
    peak = 0.0
    started = time.perf_counter()
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY
    ) as process:
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(SAMPLE_S):
                peak = max(peak, sum(memory_mib(pid) for pid in family(process.pid)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        output, _ = process.communicate(timeout=1800)
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"codehub {' '.join(arguments)} ended with {process.returncode}: {output}")
    return Cost(seconds, peak, output)


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
        except OSError:
            continue
        found += [int(child) for child in children]
    return found


def memory_mib(pid: int) -> float:
    """Proportional set size: memory that processes share is counted once in their sum."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)


def clock(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(arguments: Sequence[str], folder: Path, *, check: bool = True) -> None:
    subprocess.run(
        arguments, cwd=folder, check=check, timeout=600, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def machine() -> str:
    model = "unknown processor"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, {platform.system()}"


def print_tables(rows: Sequence[Row], starts: dict[str, float]) -> None:
    print(f"Machine: {machine()}\n")
    print("| | " + " | ".join(row.library for row in rows) + " |")
    print("|---|" + "---:|" * len(rows))
    lines: list[tuple[str, Callable[[Row], str]]] = [
        ("files / lines", lambda r: f"{r.files} / {r.lines:,}"),
        ("symbols / references / chunks", lambda r: f"{r.symbols:,} / {r.references:,} / {r.chunks:,}"),
        ("text and symbols searchable after", lambda r: f"{r.text_searchable_s:.1f} s"),
        ("vectors: embedding", lambda r: f"{r.embed_s:.1f} s"),
        ("vectors: into Chroma", lambda r: f"{r.chroma_s:.1f} s"),
        ("everything after", lambda r: f"{r.everything_s:.1f} s"),
        ("index an unchanged tree again", lambda r: f"{r.again_s:.2f} s, {r.again_embedded} embedded"),
        ("peak memory, all processes", lambda r: f"{r.peak_mib:.0f} MiB"),
        ("index on disk / source", lambda r: f"{r.disk_over_source:.1f}"),
        ("warm search, Chroma, p50 / p95", lambda r: f"{r.chroma_p50_ms:.1f} / {r.chroma_p95_ms:.1f} ms"),
        ("warm search, exact scan, p50 / p95", lambda r: f"{r.exact_p50_ms:.1f} / {r.exact_p95_ms:.1f} ms"),
        ("warm search, no vectors, p50", lambda r: f"{r.text_p50_ms:.1f} ms"),
    ]
    lines += [
        (f"baseline: {name}", lambda r, n=name: f"{r.baselines.get(n, float('nan')):.1f}") for name in rows[0].baselines
    ]
    for name, cell in lines:
        print(f"| {name} | " + " | ".join(cell(row) for row in rows) + " |")
    print("\n| command, warm file cache | median |\n|---|---:|")
    for name, seconds in starts.items():
        print(f"| {name} | {seconds:.2f} s |")


if __name__ == "__main__":
    main()
