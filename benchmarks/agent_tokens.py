"""Measures what one call of `explore` shows of an answer and what it costs, beside an agent that greps and reads.

    make bench-agents TREES="--tree leveldb=PATH"    (or: python benchmarks/agent_tokens.py [--tree NAME=PATH] [--json])

The questions stand in agent_questions.toml, each with the lines that answer it. A question counts as answered when
these lines were shown with their numbers, or, where places are asked for, cited. `explore` is called once and knows
nothing of the lines. The other agent is a script: it greps for the rarest words of the question, reads what looks best,
and stops at the very moment that it has read the lines that answer, which no agent could know; so its tokens are a
lower bound. Both are counted as the tools count, bytes over 3.5.
"""

import argparse
import json
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from math import log
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from end_to_end import machine  # noqa: E402 - the path is set above, so that a plain checkout works

from agents.exploring import explore  # noqa: E402
from agents.text import tokens  # noqa: E402
from hub import config, wiring  # noqa: E402
from hub.indexing import index_tree  # noqa: E402
from hub.service import Service  # noqa: E402
from indexer.pipeline import ignore_progress, never  # noqa: E402

QUESTIONS = Path(__file__).resolve().parent / "agent_questions.toml"
BUDGETS = (1_000, 2_000, 4_000, 8_000)
SAMPLE = "sample_repo"
WARMING = 10  # questions asked before time is taken

# The agent that greps and reads, as strong as a script can be made. Judgements, from what agents of today do.
GREP_LINES = 100  # that one grep gives; the tools of agents cut at 100 to 250
GREP_CHARS = 200  # of one line
GREPS_AT_ONCE = 3  # words that are looked for before it reads, the rarest first
WINDOW = 40  # lines read above and below what was found
SMALL_FILE = 150  # lines of a file that is read whole
MOST_STEPS = 20  # calls in all, after which it gives up; no step is counted twice
_WORD = re.compile(r"[A-Za-z_]\w*(?:::~?[A-Za-z_]\w*)*")
_ENDING = re.compile(r"(?<=\w{3})(?:ations?|ings?|ions?|ers?|ors?|ed|es|s|e)$")
# Words that no developer would grep for.
_COMMON = frozenset(
    """a about after again an and any are as at be because been before begin begins but by call called calls can cannot
    come comes could deeper derive did do does done down each end ends ever few file files find first for from get gets
    go goes happens has have held hold holds how if in into is it its itself keep keeps know left let like made make
    makes many may mean more most much must nobody not nothing now of off on once one only or other out over own put
    several she should show shown so some somebody step than that the their them then there they thing this those
    through to too two under up use used uses very was way well were what when where which while who why will with
    without work works would you""".split()
)


@dataclass(frozen=True, slots=True)
class Line:
    """Lines that answer, any of which is meant: those of a file that hold a text."""

    path: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    tree: str
    ask: str
    gold: tuple[Line, ...]
    every: bool  # whether all of them have to be seen, or any
    cited: bool  # whether a place is enough

    def answered(self, seen: Callable[[str, int], bool]) -> bool:
        found = [any(seen(line.path, number) for number in line.numbers) for line in self.gold]
        return all(found) if self.every else any(found)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to look at one tree: of the questions the share that it answered, and what it put before the model."""

    tree: str
    way: str
    questions: int
    answered: int
    median_tokens: float
    mean_tokens: float
    reread_tokens: float  # mean, with all that came before read again at every call, as a model without a cache does
    missed: tuple[str, ...]


def questions(trees: Mapping[str, Path]) -> list[Question]:
    """The prepared questions of these trees. Raises ValueError where a tree does not hold what should answer."""
    made = []
    for entry in tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["question"]:
        root = trees.get(entry["tree"])
        if root is None:
            continue
        gold = tuple(Line(line["path"], _numbers(root / line["path"], line["line"])) for line in entry["gold"])
        every = entry.get("need", "any") == "all"
        made.append(Question(entry["tree"], entry["ask"], gold, every, bool(entry.get("cited", False))))
    return made


def _numbers(file: Path, text: str) -> tuple[int, ...]:
    lines = file.read_bytes().decode().split("\n")
    found = tuple(number for number, line in enumerate(lines, 1) if text in line)
    if not found:
        raise ValueError(f"{file} does not hold {text!r}")
    return found


# explore


def explored(service: Service, question: Question, budget: int) -> tuple[bool, int]:
    """Whether one call shows what answers, and its tokens."""
    found = explore(service, question.ask, budget)
    shown = set(found.shown)

    def seen(path: str, number: int) -> bool:
        return (path, number) in shown or (question.cited and cites(found.text, path, number))

    return question.answered(seen), found.tokens


def cites(text: str, path: str, number: int) -> bool:
    """Whether a text names a place as ``path:line``, or among several lines as ``path:12,34``."""
    return re.search(rf"(?<![\w/.]){re.escape(path)}:(?:\d+,)*{number}(?!\d)", text) is not None


# Grep and read


class Tree:
    """What grep sees: the lines of the files that git tracks, or all of them."""

    def __init__(self, root: Path) -> None:
        self.files: dict[str, list[str]] = {}
        for path in _listed(root):
            try:
                text = (root / path).read_bytes().decode()
            except (UnicodeDecodeError, OSError):
                continue
            if "\0" not in text:
                self.files[path] = text.split("\n")
        self._low = {path: [line.lower() for line in lines] for path, lines in self.files.items()}

    def grep(self, word: str) -> list[tuple[str, int]]:
        """The places of a word, letter case aside, by path and line."""
        return [
            (path, number) for path, lines in self._low.items() for number, line in enumerate(lines, 1) if word in line
        ]


def _listed(root: Path) -> list[str]:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 0 and done.stdout:
        return sorted(done.stdout.decode().strip("\0").split("\0"))
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def wanted_words(question: str) -> list[str]:
    """What a developer would grep for: names with their last part, and the roots of words that carry meaning."""
    found = []
    for word in _WORD.findall(question):
        if "::" in word:
            found.append(word.rpartition("::")[2].lower())
        elif len(word) > 2 and word.lower() not in _COMMON:
            low = word.lower()
            is_name = "_" in word or re.search(r"[a-z][A-Z]", word)
            found.append(low if is_name else _ENDING.sub("", low))
    return list(dict.fromkeys(found))


class Searcher:
    """Greps and reads for one question; what it has put before the model grows with each call."""

    def __init__(self, tree: Tree, question: Question) -> None:
        self._tree = tree
        self._question = question
        self._read: dict[str, set[int]] = {}
        self._told: set[tuple[str, int]] = set()
        self.calls: list[int] = []  # tokens of each

    def run(self) -> bool:
        """Whether it came to what answers."""
        places = {word: self._tree.grep(word) for word in wanted_words(self._question.ask)}
        by_rarity = sorted((word for word in places if places[word]), key=lambda word: (len(places[word]), word))
        for start in range(0, len(by_rarity), GREPS_AT_ONCE):
            for word in by_rarity[start : start + GREPS_AT_ONCE]:
                self._grep(places[word])
                if self._done() or len(self.calls) >= MOST_STEPS:
                    return self._done()
            last = start + GREPS_AT_ONCE >= len(by_rarity)
            steps = MOST_STEPS if last else len(self.calls) + (MOST_STEPS - len(self.calls)) // 2
            for path, first, final in self._windows(places, by_rarity[: start + GREPS_AT_ONCE]):
                if len(self.calls) >= steps:
                    break
                self._open(path, first, final)
                if self._done():
                    return True
        return self._done()

    def _done(self) -> bool:
        def seen(path: str, number: int) -> bool:
            return number in self._read.get(path, ()) or (self._question.cited and (path, number) in self._told)

        return self._question.answered(seen)

    def _grep(self, places: Sequence[tuple[str, int]]) -> None:
        shown = places[:GREP_LINES]
        self._told.update(shown)
        lines = [f"{path}:{number}:{self._tree.files[path][number - 1][:GREP_CHARS]}" for path, number in shown]
        self.calls.append(tokens("\n".join(lines)))

    def _open(self, path: str, first: int, last: int) -> None:
        told = self._read.setdefault(path, set())
        fresh = [number for number in range(first, last + 1) if number not in told]
        told.update(fresh)
        lines = self._tree.files[path]
        self.calls.append(tokens("\n".join([path, *(f"{number}\t{lines[number - 1]}" for number in fresh)])))

    def _windows(
        self, places: Mapping[str, Sequence[tuple[str, int]]], words: Sequence[str]
    ) -> Iterator[tuple[str, int, int]]:
        """What to read, best first: where most of the words that were looked for stand together, the rare ones first,
        in the files that hold most of them. What was read before is left out.
        """
        total = sum(map(len, self._tree.files.values()))
        weight = {word: log(1 + total / len(places[word])) for word in words}
        by_file: dict[str, list[tuple[int, str]]] = {}
        for word in words:
            for path, number in places[word]:
                by_file.setdefault(path, []).append((number, word))
        windows = []
        for path, found in by_file.items():
            whole = sum(weight[word] for word in {word for _, word in found})
            lines = len(self._tree.files[path])
            for number, _ in found:
                near = Counter(word for other, word in found if abs(other - number) <= WINDOW)
                # A word that stands there often says a little more than one that stands there once.
                value = sum(weight[word] * (1 + 0.1 * min(5, times - 1)) for word, times in near.items())
                first, last = max(1, number - WINDOW), min(lines, number + WINDOW)
                if lines <= SMALL_FILE:
                    first, last = 1, lines
                windows.append((-(value + 0.5 * whole), path, first, last))
        for _, path, first, last in sorted(windows):
            told = self._read.get(path, set())
            fresh = sum(number not in told for number in range(first, last + 1))
            if 2 * fresh > last - first + 1 or fresh > WINDOW:
                yield path, first, last


def rereading(calls: Sequence[int]) -> int:
    """Tokens read in all by a model that reads everything again at each call."""
    return sum((len(calls) - place) * tokens_told for place, tokens_told in enumerate(calls))


# All of it


@contextmanager
def indexed(root: Path, data: Path) -> Iterator[Service]:
    """A service over the tree, indexed as `codehub index` does."""
    settings = config.load({"data": data, "backend": "none"}, environment={})
    index_tree(settings, root, None, ignore_progress, never)
    with wiring.open_service(settings, None, root) as service:
        yield service


def measure(name: str, root: Path, asked: Sequence[Question], budgets: Sequence[int]) -> Iterator[Row]:
    """The rows of one tree: grep and read, then each budget."""
    tree = Tree(root)
    searchers = [Searcher(tree, question) for question in asked]
    done = [searcher.run() for searcher in searchers]
    spent = [sum(searcher.calls) for searcher in searchers]
    again = [rereading(searcher.calls) for searcher in searchers]
    yield _row(name, "grep and read", asked, done, spent, again)
    with TemporaryDirectory() as folder, indexed(root, Path(folder)) as service:
        for budget in budgets:
            found = [explored(service, question, budget) for question in asked]
            told = [used for _, used in found]
            yield _row(name, f"explore, {budget:,}", asked, [shown for shown, _ in found], told, told)


def speeds(service: Service, asked: Sequence[Question]) -> str:
    """How long one call takes, beside a search for the same: wall clock, and processor time, which others on the
    machine change less. `explore` goes first, so that nothing is known of a question when it is asked.
    """
    for question in asked[:WARMING]:
        explore(service, question.ask)
    call = [_timed(lambda ask=question.ask: explore(service, ask)) for question in asked[WARMING:]]  # type: ignore[misc]
    search = [_timed(lambda ask=question.ask: service.search(ask, 10)) for question in asked[WARMING:]]  # type: ignore[misc]
    told = []
    for name, times in (("search", search), ("explore", call)):
        wall, busy = (sorted(each) for each in zip(*times, strict=True))
        last = int(0.95 * len(wall))
        told.append(
            f"{name} p50 {1000 * median(wall):.0f} ms, p95 {1000 * wall[last]:.0f} ms"
            f" (processor {1000 * median(busy):.0f} and {1000 * busy[last]:.0f})"
        )
    return f"{service.workspace}, {len(wall)} questions: {'; '.join(told)}"


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    started, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - busy


def _row(
    tree: str, way: str, asked: Sequence[Question], done: Sequence[bool], spent: Sequence[int], again: Sequence[int]
) -> Row:
    missed = tuple(question.ask for question, good in zip(asked, done, strict=True) if not good)
    return Row(tree, way, len(asked), sum(done), median(spent), mean(spent), mean(again), missed)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, each with how many times fewer tokens it takes than grep and read."""
    lines = [
        "| tree | way | lines that answer shown | median tokens | mean tokens | fewer by | with re-reading |",
        "|---|---|---|---|---|---|---|",
    ]
    base = {row.tree: row for row in rows if row.way == "grep and read"}
    for row in rows:
        fewer = base[row.tree].mean_tokens / row.mean_tokens
        again = base[row.tree].reread_tokens / row.reread_tokens
        lines.append(
            f"| {row.tree} | {row.way} | {row.answered} of {row.questions} | {row.median_tokens:,.0f} |"
            f" {row.mean_tokens:,.0f} | {fewer:.1f}x | {again:.1f}x |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=PATH", help="another tree with questions")
    parser.add_argument("--budget", action="append", type=int, default=[], help="tokens; several may be given")
    parser.add_argument("--speed", type=Path, metavar="DATA", help="only time calls over the index of a data folder")
    parser.add_argument("--misses", action="store_true", help="name the questions that were not answered")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    trees = {SAMPLE: REPOSITORY / SAMPLE}
    trees |= {name: Path(path) for name, _, path in (given.partition("=") for given in options.tree)}
    asked = questions(trees)
    if options.speed:
        settings = config.load({"data": options.speed, "backend": "none"}, environment={})
        with wiring.open_service(settings, None, REPOSITORY) as service:
            print(f"{machine()}; {speeds(service, asked)}")
        return 0
    started = time.perf_counter()
    rows = list(
        chain.from_iterable(
            measure(name, root, [q for q in asked if q.tree == name], options.budget or BUDGETS)
            for name, root in trees.items()
        )
    )
    if options.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=2))
        return 0
    print(f"{machine()}; {time.perf_counter() - started:.0f} s\n\n{table(rows)}")
    if options.misses:
        for row in rows:
            print(f"\n{row.tree}, {row.way}:", *row.missed, sep="\n  - ")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
