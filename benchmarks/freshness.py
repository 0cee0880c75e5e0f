"""How soon what changed in a tree is found: after a save, a switch of branches, a pull; and what waiting for it costs.

    python benchmarks/freshness.py [--tree PATH] [--repository PATH] [--in-process] [--only PART ...] [--json]

A tree is never written into: a copy is. Without --tree, sample_repo is multiplied with other namespaces to 860,000
lines. A real ``codehub serve`` follows the copy, and it is asked over HTTP on the loopback until what was saved is
found; --in-process refreshes what was saved in this process instead, so that waiting for quiet is not part of the
times. A pull is measured with --repository, a clone with its history. Each figure stands beside its bar and its goal.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the server has it, before numpy is imported

from end_to_end import machine  # noqa: E402 - the path is set above, so that a plain checkout works

from hub import following, indexing, wiring  # noqa: E402 - as above
from hub.config import Settings  # noqa: E402 - as above
from hub.hooking import spool  # noqa: E402 - as above
from hub.hooking.installing import block, install  # noqa: E402 - as above
from hub.hooking.placing import place_of, tree_of  # noqa: E402 - as above
from hub.model import SignalSource  # noqa: E402 - as above
from hub.service import Service  # noqa: E402 - as above
from indexer.files import Part  # noqa: E402 - as above
from indexer.index import Index  # noqa: E402 - as above
from indexer.pipeline import Options, refresh  # noqa: E402 - as above

LINES = 860_000
SAVES = 24
PAUSE_S = 2.0  # between two saves; whoever saves more often waits for what was saved before, too. 0 to 30
SWITCHED = 300  # files that differ between two branches
PULLED = 1_000  # commits
IDLE_S = 60.0
REST_S = 150.0  # after the last change: 30 s until the last of it begins, and what that takes. 60 to 600
RECONCILES = 1_000
COMMITS = 40  # with hooks, and as many without
POLL_S = 0.02  # between two questions to the server, which has two cores to share with this
BOUND_S = 120.0  # for anything to be found
START_S = 300.0  # for a server to have looked at everything
NAME = "measured"
PARTS = ("saves", "switch", "pull", "idle", "hooks")
_DECLARED = re.compile(r"^\s*(?:class|struct|enum(?:\s+class)?)\s+(?:EMBER_EXPORT\s+)?([A-Z]\w+)\b[^;]*$", re.MULTILINE)
_CODE = (".cc", ".cpp", ".cxx", ".h", ".hpp", ".hh")
_WORDS = (
    "amber basalt cedar dune ember fjord glade harbor island juniper krill lagoon meadow nectar opal pebble".split()
)
_GIT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the table; ``bar`` and ``goal`` are what it shall be at most, 0 where nothing is said."""

    name: str
    figures: tuple[float, ...]
    bar: tuple[float, ...] = ()
    goal: tuple[float, ...] = ()
    unit: str = "s"
    note: str = ""


class Hub(Protocol):
    """Whoever is asked whether something is found."""

    def told(self, paths: Sequence[str] | None) -> None:
        """Does what there is to be done by hand after files changed; None means that anything may have."""

    def has_symbol(self, name: str) -> bool: ...

    def arms_of(self, query: str, path: str) -> frozenset[str]:
        """Which arms of the search found this file by these words."""


def main() -> None:
    options = _options()
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        _say(line_of(row))

    with ExitStack() as stack:
        base = Path(stack.enter_context(TemporaryDirectory(prefix="codehub-freshness-")))
        if {"saves", "switch", "idle"}.intersection(options.only):
            tree = copied(options.tree, base / "tree") if options.tree else multiplied(base / "tree", options.lines)
            measured_tree(tree, base / "data", options, add)
        if options.repository and "pull" in options.only:
            measured_pull(options.repository, base / "pull", options, add)
        if "idle" in options.only:
            add(growth(base / "small", options.reconciles))
        if "hooks" in options.only:
            for row in hook_times(base / "hooks", options.commits):
                add(row)
    print(
        json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1)
        if options.json
        else table(rows)
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--tree", type=Path, help="a tree of C++ to copy; default: sample_repo multiplied")
    parser.add_argument("--lines", type=int, default=LINES, help="of the multiplied sample_repo")
    parser.add_argument("--repository", type=Path, help="a clone with its history, for the pull")
    parser.add_argument("--in-process", action="store_true", help="refresh here, without a server that follows")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--saves", type=int, default=SAVES)
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="seconds between two saves")
    parser.add_argument("--switched", type=int, default=SWITCHED)
    parser.add_argument("--pulled", type=int, default=PULLED)
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds")
    parser.add_argument("--reconciles", type=int, default=RECONCILES)
    parser.add_argument("--commits", type=int, default=COMMITS, help="with hooks, and as many without")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Trees


def multiplied(folder: Path, lines: int) -> Path:
    """sample_repo again and again, until there are so many lines of C++; namespaces, macros, types and folders of each
    copy have names of their own. The same every time.
    """
    texts = {
        path.relative_to(REPOSITORY / "sample_repo").as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((REPOSITORY / "sample_repo").rglob("*"))
        if path.suffix in {*_CODE, ".md", ".txt"}
    }
    types = sorted({name for text in texts.values() for name in _DECLARED.findall(text)})
    named = re.compile(rf"\b(?:{'|'.join(types)})\b")
    each = sum(text.count("\n") for path, text in texts.items() if path.endswith(_CODE))
    for number in range(-(-lines // each)):
        for path, text in texts.items():
            own = named.sub(lambda found: f"{found[0]}{number}", text)  # noqa: B023 - used at once
            own = own.replace("ember", f"ember{number}").replace("EMBER", f"EMBER{number}")
            file = folder / f"part{number:03}" / path.replace("ember", f"ember{number}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(own, encoding="utf-8")
    return folder


def copied(tree: Path, folder: Path) -> Path:
    """The files of a tree, without its history."""
    shutil.copytree(tree, folder, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    return folder


def code_of(tree: Path) -> list[Path]:
    """The C++ files of a tree, smallest first."""
    files = [path for path in tree.rglob("*") if path.suffix in _CODE and path.is_file() and not path.is_symlink()]
    return sorted(files, key=lambda path: (path.stat().st_size, path))


def spread(files: Sequence[Path], number: int) -> list[Path]:
    """So many files of all sizes, a third of them headers where there are some; the order mixes small and large."""
    headers = [file for file in files if file.suffix.startswith(".h")]
    sources = [file for file in files if not file.suffix.startswith(".h")]
    wanted_headers = number // 3 if headers and sources else number * bool(headers)
    chosen = []
    for group, wanted in ((headers, wanted_headers), (sources, number - wanted_headers)):
        chosen += [group[int((place + 0.5) * len(group) / wanted)] for place in range(wanted) if group]
    return [file for start in range(5) for file in chosen[start::5]]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "gc.auto=0", "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=_GIT).stdout.strip()


def with_branches(tree: Path, number: int) -> list[tuple[str, str]]:
    """Makes a repository of the tree with the branches ``main`` and ``other``, between which so many files differ.

    Returns (path, name of a function) of files that only ``other`` has them in, the first and the last with others
    between.
    """
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "all of it")
    git(tree, "switch", "-qc", "other")
    found = []
    for place, file in enumerate(spread(code_of(tree), number)):
        name = f"switched_{_WORDS[place % len(_WORDS)]}_{place}"
        with file.open("a", encoding="utf-8") as text:
            text.write(f"\n/// Only on the other branch.\nint {name}() {{ return {place}; }}\n")
        found.append((file.relative_to(tree).as_posix(), name))
    git(tree, "commit", "-qam", "another branch")
    git(tree, "switch", "-q", "main")
    found.sort()
    return found[:: max(1, len(found) // 9)] + found[-1:]


# Whom to ask


class Served:
    """A server that runs and follows, asked over HTTP."""

    def __init__(self, told: Mapping[str, Any], data: Path) -> None:
        parts = urlsplit(told["url"])
        self._connection = HTTPConnection(str(parts.hostname), parts.port, timeout=BOUND_S)
        self._key, self.pid, self._data = told["first_key"], int(told["pid"]), data

    def told(self, paths: Sequence[str] | None) -> None:
        """It notices by itself."""

    def has_symbol(self, name: str) -> bool:
        return any(symbol["qualified_name"] == name for symbol in self._get("symbol", name=name)["symbols"])

    def arms_of(self, query: str, path: str) -> frozenset[str]:
        hits = self._get("search", query=query, limit="10")["hits"]
        return frozenset(arm for hit in hits if hit["path"] == path for arm in hit["signals"])

    def settled(self) -> bool:
        """Whether everything was looked at, and nothing waits."""
        trees = following.state(self._data)
        return bool(trees) and all(tree.last and not tree.whole and not tree.pending for tree in trees)

    def _get(self, route: str, **asked: str) -> Any:
        query = urlencode({**asked, "workspace": NAME})
        self._connection.request("GET", f"/api/v1/{route}?{query}", headers={"Authorization": f"Bearer {self._key}"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{route}: {answer.status} {body[:300]!r}")
        return json.loads(body)


class InProcess:
    """An index that is refreshed here, and a service that reads it."""

    def __init__(self, index: Index, service: Service, settings: Settings) -> None:
        self._index, self._service = index, service
        self._options = replace(indexing.index_options(settings, index.root), carry=False, graph=False)
        self._sources = indexing.instant_sources(settings)

    def told(self, paths: Sequence[str] | None) -> None:
        part = None if paths is None else Part(frozenset(paths))
        refresh(self._index, replace(self._options, part=part), self._sources)

    def has_symbol(self, name: str) -> bool:
        return any(symbol.qualified_name == name for symbol in self._service.symbols(name, 20))

    def arms_of(self, query: str, path: str) -> frozenset[str]:
        hits = self._service.search(query, 10).hits
        return frozenset(signal.source.value for hit in hits if hit.chunk.span.path == path for signal in hit.signals)


@contextmanager
def served(data: Path) -> Iterator[Served]:
    (data / "keys.db").unlink(missing_ok=True)  # so that a first key is told
    settings = {"CODEHUB_SERVER_REQUESTS_PER_MINUTE": "10000000", "CODEHUB_CALIBRATION_BACKGROUND": "0"}
    process = subprocess.Popen(
        _codehub("serve", "--port", "0", "--data", str(data), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **settings},
    )
    try:
        assert process.stdout
        server = Served(json.loads(process.stdout.readline()), data)
        _until(server.settled, START_S, "the server follows the tree")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def in_process(data: Path, tree: Path) -> Iterator[InProcess]:
    settings = Settings(data=data)
    folder = wiring.data_folder(settings)
    with (
        folder.owned(),
        Index.for_writing(folder, NAME, tree) as index,
        wiring.open_service(settings, NAME, tree) as service,
    ):
        yield InProcess(index, service, settings)


def _index(tree: Path, data: Path) -> None:
    began = time.perf_counter()
    command = _codehub("index", str(tree), "--data", str(data), "--workspace", NAME, "--wait", "--json")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _say(f"indexed in {time.perf_counter() - began:.0f} s")


def _codehub(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("codehub")), *arguments]


def _until(holds: Callable[[], bool], bound_s: float, what: str) -> float:
    """Seconds until it holds. Raises RuntimeError where it does not within the bound."""
    began = time.perf_counter()
    while not holds():
        if time.perf_counter() - began > bound_s:
            raise RuntimeError(f"not within {bound_s:.0f} s: {what}")
        time.sleep(POLL_S)
    return time.perf_counter() - began


# What is measured


def measured_tree(tree: Path, data: Path, options: argparse.Namespace, add: Callable[[Row], None]) -> None:
    """Saves, a switch of branches, and an idle minute, on one index of a tree."""
    marks = with_branches(tree, options.switched)
    files = code_of(tree)
    _say(f"{len(files):,} files, {sum(file.read_bytes().count(10) for file in files):,} lines of C++")
    _index(tree, data)
    with in_process(data, tree) if options.in_process else served(data) as hub:
        if "saves" in options.only:
            for row in saves(hub, tree, spread(files, options.saves), options.pause):
                add(row)
        git(tree, "checkout", "-q", "--force", ".")
        hub.told(None)
        if isinstance(hub, Served):
            _until(hub.settled, START_S, "nothing waits any more")
        if "switch" in options.only:
            add(switch(hub, tree, marks, options.switched))
        if "idle" in options.only and isinstance(hub, Served):
            _until(hub.settled, START_S, "nothing waits any more")
            time.sleep(REST_S)  # what is done once when it is quiet, the graph and Chroma, is not idleness
            add(idle(hub.pid, options.idle))


@dataclass(frozen=True, slots=True)
class Saved:
    """Seconds from just before a file was written until it was found in each way."""

    text: float
    symbol: float
    vectors: float


def saves(hub: Hub, tree: Path, files: Sequence[Path], pause_s: float) -> list[Row]:
    """Each file gets a function with a name and a comment of its own; every other one is replaced at once, as most
    editors do, and the others are written into.
    """
    found = []
    for number, file in enumerate(files):
        time.sleep(pause_s)
        found.append(save(hub, tree, file, number))
    both = [max(each.text, each.symbol) for each in found]
    return [
        Row("one file saved -> found by text and symbol, p50 / p95", _spread(both), (0.8, 1.5), (0.5, 1.0)),
        Row("the same, by text alone", _spread([each.text for each in found])),
        Row("the same, by symbol alone", _spread([each.symbol for each in found])),
        Row("the same -> vectors, p50 / p95", _spread([each.vectors for each in found]), (5.0,), (2.0,)),
    ]


def save(hub: Hub, tree: Path, file: Path, number: int) -> Saved:
    path = file.relative_to(tree).as_posix()
    first, second = _WORDS[number % len(_WORDS)], _WORDS[(number // len(_WORDS) + number + 5) % len(_WORDS)]
    name = f"zq_{first}_{second}_{number}"
    said = f"Weighs the {first} zq{number} against the {second}, as the tide gauge tells."
    text = file.read_bytes() + f"\n/// {said}\nint {name}(int weight) {{\n  return weight * {number};\n}}\n".encode()
    began = time.perf_counter()
    if number % 2:
        new = file.with_name(f".{file.name}.new")
        new.write_bytes(text)
        new.replace(file)
    else:
        file.write_bytes(text)
    hub.told([path])
    times: dict[str, float] = {}
    while len(times) < len(Saved.__slots__):
        if time.perf_counter() - began > BOUND_S:
            raise RuntimeError(f"{path}: only {sorted(times)} found within {BOUND_S:.0f} s")
        if "symbol" not in times and hub.has_symbol(name):
            times["symbol"] = time.perf_counter() - began
        if "symbol" in times or not number % 3:  # both orders are asked in, since each question takes time
            arms = hub.arms_of(said, path)
            for key, arm in (("text", SignalSource.LEXICAL), ("vectors", SignalSource.STATIC)):
                if arm in arms:
                    times.setdefault(key, time.perf_counter() - began)
        time.sleep(POLL_S)
    return Saved(**times)


def switch(hub: Hub, tree: Path, marks: Sequence[tuple[str, str]], number: int) -> Row:
    """Until functions of all over the other branch are found."""
    began = time.perf_counter()
    git(tree, "switch", "-q", "other")
    switched = time.perf_counter() - began
    hub.told(None)
    left = [name for _, name in marks]

    def all_found() -> bool:
        while left and hub.has_symbol(left[-1]):
            left.pop()
        return not left

    _until(all_found, BOUND_S, "the other branch is found")
    took = time.perf_counter() - began
    return Row(
        f"switch between branches, {number} changed files", (took,), (8.0,), (4.0,), note=f"of it git {switched:.2f} s"
    )


def measured_pull(repository: Path, base: Path, options: argparse.Namespace, add: Callable[[Row], None]) -> None:
    """Until history and code are those of the newer commit."""
    base.mkdir()
    tree, data = base / "tree", base / "data"
    git(base, "clone", "-q", "--no-local", str(repository.resolve()), str(tree))
    tip = git(tree, "rev-parse", "HEAD")
    line = git(tree, "rev-list", "--first-parent", tip).split("\n")
    start = behind_by(line, options.pulled, lambda commit: int(git(tree, "rev-list", "--count", f"{commit}..{tip}")))
    commits = int(git(tree, "rev-list", "--count", f"{start}..{tip}"))
    git(tree, "reset", "-q", "--hard", start)
    _index(tree, data)
    expected = int(git(tree, "rev-list", "--count", tip))
    with in_process(data, tree) if options.in_process else served(data) as hub:
        began = time.perf_counter()
        git(tree, "pull", "-q", "--ff-only", "origin", "HEAD")
        pulled = time.perf_counter() - began
        hub.told(None)
        reading = wiring.data_folder(Settings(data=data))
        with Index.for_reading(reading, NAME) as index:
            _until(
                lambda: index.commits.extent().commits == expected and index.stamp().commit == tip,
                BOUND_S,
                "all that was pulled is kept",
            )
        took = time.perf_counter() - began
    name = f"git pull of {commits:,} commits, history and code"
    add(Row(name, (took,), (60.0,), (20.0,), note=f"{repository.name}; of it git {pulled:.2f} s"))


def behind_by(line: Sequence[str], wanted: int, count: Callable[[str], int]) -> str:
    """The first of these commits, newest first, that at least so many are newer than; the last where none is."""
    low, high = 0, len(line) - 1
    while low < high:
        middle = (low + high) // 2
        if count(line[middle]) >= wanted:
            high = middle
        else:
            low = middle + 1
    return line[low]


def idle(pid: int, seconds: float) -> Row:
    """The share of a core that a process and all that it began take while nothing happens."""
    before = _cpu_s(pid)
    time.sleep(seconds)
    share = 100 * (_cpu_s(pid) - before) / seconds
    return Row("idle server and follower, share of a core", (share,), (0.5,), (0.5,), unit="%")


def _cpu_s(pid: int) -> float:
    """Seconds of a process and its children, and theirs."""
    fields: dict[int, list[str]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields[int(file.parent.name)] = (
                file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
        except OSError:
            continue
    family = {pid}
    while more := {child for child, parts in fields.items() if int(parts[1]) in family} - family:
        family |= more
    return sum(int(fields[each][11]) + int(fields[each][12]) for each in family if each in fields) / os.sysconf(
        "SC_CLK_TCK"
    )


def growth(folder: Path, times: int) -> Row:
    """How much memory a process takes more after so many looks at everything, one file being changed before each."""
    tree = multiplied(folder / "tree", 1)
    data = wiring.data_folder(Settings(data=folder / "data"))
    changed = code_of(tree)[0]
    text = changed.read_text(encoding="utf-8")
    with data.owned(), Index.for_writing(data, NAME, tree) as index:
        sizes = []
        for number in range(times + times // 10):
            changed.write_text(f"{text}// {number}\n", encoding="utf-8")
            refresh(index, Options(workers=1))
            if number >= times // 10:  # what is loaded once is loaded by then
                sizes.append(_resident_mib())
    tenth = max(1, len(sizes) // 10)
    grown = median(sizes[-tenth:]) - median(sizes[:tenth])
    return Row(f"growth over {times:,} reconciles", (grown,), (5.0,), (5.0,), unit="MiB", note=f"of {sizes[0]:.0f} MiB")


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def hook_times(folder: Path, number: int) -> list[Row]:
    """How long a hook takes by itself, and how much longer ``git commit`` takes with hooks than without."""
    tree, data = folder / "tree", folder / "data"
    tree.mkdir(parents=True)
    git(tree, "init", "-q")
    git(tree, "commit", "-q", "--allow-empty", "-m", "first")
    times: dict[bool, list[float]] = {False: [], True: []}
    spool.made(data)
    found = tree_of(tree)
    hooks = place_of(found, "").folder
    aside = hooks.with_name("hooks-aside")
    install(hooks, block(spool.folder_in(data), found.shared))
    alone = []
    for place in range(2 * number):
        hooked = bool(place % 2)
        if not hooked:
            hooks.replace(aside)
        began = time.perf_counter()
        git(tree, "commit", "-q", "--allow-empty", "-m", f"commit {place}")
        times[hooked].append(time.perf_counter() - began)
        if not hooked:
            aside.replace(hooks)
        else:
            began = time.perf_counter()
            subprocess.run([str(hooks / "post-commit")], check=True, cwd=tree, env=_GIT)
            alone.append(time.perf_counter() - began)
    if not spool.waiting(data, [tree.resolve()]):
        raise RuntimeError("the hooks told nothing")
    more = 1_000 * (median(times[True]) - median(times[False]))
    note = f"git commit {1_000 * median(times[False]):.0f} ms without"
    return [
        Row("a hook by itself, p50 / p95", tuple(1_000 * each for each in _spread(alone)), (50.0,), (20.0,), unit="ms"),
        Row("git commit with hooks, longer by", (more,), (50.0,), (20.0,), unit="ms", note=note),
    ]


# What is told


def _spread(times: Sequence[float]) -> tuple[float, float]:
    """The median, and what 95% are not above."""
    return median(times), quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else times[0]


def line_of(row: Row) -> str:
    def told(figures: Sequence[float]) -> str:
        return " / ".join(f"{figure:,.3g}" for figure in figures)

    bar = f"{told(row.bar)} {row.unit}" if row.bar else ""
    goal = f"{told(row.goal)} {row.unit}" if row.goal else ""
    met = ""
    if row.bar:
        reached = [
            word for word, limits in (("bar", row.bar), ("goal", row.goal)) if limits and _within(row.figures, limits)
        ]
        met = f"{reached[-1]} met" if reached else "missed"
    return f"| {row.name} | {told(row.figures)} {row.unit} | {bar} | {goal} | {met} | {row.note} |"


def _within(figures: Sequence[float], limits: tuple[float, ...]) -> bool:
    """A single limit counts for every figure."""
    each = limits * len(figures) if len(limits) == 1 else limits
    return all(figure <= limit for figure, limit in zip(figures, each, strict=True))


def table(rows: Sequence[Row]) -> str:
    heading = "| | measured | first bar | goal | | |\n|---|---:|---:|---:|---|---|\n"
    return f"Machine: {machine()}\n\n{heading}" + "\n".join(line_of(row) for row in rows)


if __name__ == "__main__":
    main()
