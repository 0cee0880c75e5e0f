"""Replays the last commits of a library and counts what an engine must read again of the full-load prompt.

    make bench-commits REPOSITORY=DIR     (or: python benchmarks/commit_replay.py --repository DIR [--commits N])

DIR is a work tree or a bare repository. A question is asked after each commit of HEAD's own line that changes a file of
the prompt; evidence and question, which follow the prompt's stable part, are not counted. What an engine keeps is the
longest common beginning, counted in tokens of a real tokenizer. A compaction is made in the background after the commit
that makes it due: what it reads counts as background; one that has to happen at once counts as foreground.
The baselines lay the same files out by path, and by how often they had changed before the first commit replayed.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from end_to_end import machine  # noqa: E402 - the path is set above, so that a plain checkout works

from hub.backends.embedded import EmbeddedBackend  # noqa: E402
from hub.evidence.skeleton import standing  # noqa: E402
from hub.fullload.entries import Entry, Kind, rendered, shown  # noqa: E402
from hub.fullload.log import Log, Ranking, Room, laid_out, updated  # noqa: E402
from indexer import history  # noqa: E402
from indexer.files import MAX_FILE_BYTES, language_of  # noqa: E402
from indexer.history.running import printed  # noqa: E402

WINDOW = 1 << 20  # tokens; all of a library of this benchmark fits
BARS = (0.01, 0.05)  # median and mean share that is read again
CHURN_COMMITS = 2_000  # before the first one replayed, whose changes say which files change often
LONGEST_COUNTED = 200_000  # characters a request; a longer entry is counted in parts, at line ends


@dataclass(frozen=True)
class Step:
    """What one commit costs, in tokens."""

    commit: str
    total: int
    foreground: int
    background: int
    alphabetical: int
    by_churn: int
    plain: int  # what the same files take laid out once
    seconds: float


class Tokens:
    """Counts each text once, and the seconds that takes."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._known: dict[str, int] = {}
        self.seconds = 0.0

    def __call__(self, text: str) -> int:
        if text not in self._known:
            started = time.perf_counter()
            self._known[text] = sum(map(self._count, _parts(text)))
            self.seconds += time.perf_counter() - started
        return self._known[text]


def _parts(text: str) -> list[str]:
    parts = []
    start = 0
    while start < len(text):
        end = start + LONGEST_COUNTED
        end = len(text) if end >= len(text) else text.rfind("\n", start, end) + 1 or end
        parts.append(text[start:end])
        start = end
    return parts


@dataclass
class Tree:
    """The files of a commit that a prompt holds, by path; only those that changed are read."""

    repository: Path
    texts: dict[str, str] = field(default_factory=dict)
    _blobs: dict[str, str] = field(default_factory=dict)

    def move_to(self, commit: str) -> dict[str, str | None]:
        """The files that differ from the commit before: their text as shown, None for those that are gone."""
        found = history.files_at(self.repository, commit)
        if found is None:
            raise SystemExit(f"git cannot read {commit} of {self.repository}")
        here = {file.path: file for file in found if _is_packed(file.path) and 0 <= file.size <= MAX_FILE_BYTES}
        changed: dict[str, str | None] = dict.fromkeys(self._blobs.keys() - here.keys())
        fresh = [file for path, file in here.items() if self._blobs.get(path) != file.blob]
        for file, data in zip(fresh, history.contents(self.repository, fresh), strict=True):
            if data is not None and b"\0" not in data[:8192]:
                changed[file.path] = shown(data.decode("utf-8-sig", "replace"))
            elif file.path in self.texts:
                changed[file.path] = None
        self._blobs = {path: file.blob for path, file in here.items()}
        for path, text in list(changed.items()):
            if text is None:
                if self.texts.pop(path, None) is None:
                    del changed[path]
            elif self.texts.get(path) == text:
                del changed[path]
            else:
                self.texts[path] = text
        return changed


def _is_packed(path: str) -> bool:
    return language_of(path) is not None and not any(part.startswith(".") for part in path.split("/")[:-1])


def first_parents(repository: Path) -> list[str]:
    """Commits of HEAD's own line, newest first."""
    found = printed(repository, "rev-list", "--first-parent", "HEAD")
    if not found:
        raise SystemExit(f"{repository} is no repository that git can read")
    return found.split()


def churn(repository: Path, before: str) -> Counter[str]:
    """How often each path had changed up to a commit."""
    source = history.HistorySource(repository, before)
    commits = [commit for commit, _ in history.commits(source, CHURN_COMMITS)]
    counted: Counter[str] = Counter()
    for entry in history.entries(source, commits):
        counted.update(change.path for change in entry.changes)
    return counted


@cache
def whole(path: str, text: str) -> str:
    """A file as a plain layout would hold it. Its fence, a digest of the text, would differ from the first line on."""
    lines = rendered(Entry(Kind.WHOLE, path, text)).split("\n")
    lines[1], lines[-2] = "<<<000000", "000000>>>"
    return "\n".join(lines)


def packed_again(old: Mapping[str, str], new: Mapping[str, str], key: Callable[[str], object], count: Tokens) -> int:
    """Tokens of a plain layout in an order that are not the common beginning with the one before."""
    before = sorted(old, key=key)  # type: ignore[arg-type] # every key given can be compared
    after = sorted(new, key=key)  # type: ignore[arg-type]
    again = 0
    same = True
    for place, path in enumerate(after):
        text = whole(path, new[path])
        if same and place < len(before):
            other = whole(before[place], old[before[place]])
            if text != other:
                same = False
                shared = os.path.commonprefix([text, other])  # noqa: RUF071 - characters are what is meant
                again += count(text) - count(shared[: shared.rfind("\n") + 1])
        else:
            same = False
            again += count(text)
    return again


def replay(repository: Path, commits: int, window: int, count: Tokens) -> tuple[Log, list[Step]]:
    """One question after each of the last commits that change something; oldest first."""
    line = first_parents(repository)
    start = _start(repository, line, commits)
    tree = Tree(repository)
    tree.move_to(line[start])
    often = churn(repository, line[start])
    ranking = Ranking(sorted(tree.texts), sorted(tree.texts, key=lambda path: (standing(path), path)))
    room = Room(window, count)
    log = laid_out(tree.texts, ranking, room)
    waiting: Log | None = None
    steps = []
    for commit in reversed(line[:start]):
        old = dict(tree.texts)
        changed = tree.move_to(commit)
        if not changed:
            continue
        started, counting = time.perf_counter(), count.seconds
        before = waiting or log
        new = updated(before, changed, room) or laid_out(tree.texts, ranking, room)
        waiting = new.compacted(count, room.tokens) if new.due_in(room) else None
        seconds = time.perf_counter() - started - (count.seconds - counting)
        steps.append(
            Step(
                commit,
                new.tokens,
                _again(before, new),
                _again(new, waiting) if waiting else 0,
                packed_again(old, tree.texts, lambda path: path, count),
                packed_again(old, tree.texts, lambda path: (often[path], path), count),
                sum(count(whole(path, text)) for path, text in tree.texts.items()),
                seconds,
            )
        )
        log = new
    return log, steps


def _start(repository: Path, line: Sequence[str], commits: int) -> int:
    """How far back the line must go for so many commits that change a packed file."""
    found = 0
    blobs: dict[str, str] | None = None
    for place, commit in enumerate(line):
        files = history.files_at(repository, commit) or []
        here = {file.path: file.blob for file in files if _is_packed(file.path)}
        if blobs is not None and here != blobs:
            found += 1
            if found == commits:
                return place
        blobs = here
    return len(line) - 1


def _again(before: Log, after: Log) -> int:
    same = 0
    for one, other in zip(before.entries, after.entries, strict=False):
        if one != other:
            break
        same += 1
    return sum(after.costs[same:])


def table(steps: Sequence[Step]) -> dict[str, dict[str, float]]:
    """Shares of the prompt that are read again, for each way to lay it out."""
    ways = {
        "log, foreground": [step.foreground / step.total for step in steps],
        "log, with compaction": [(step.foreground + step.background) / step.total for step in steps],
        "by path": [step.alphabetical / step.plain for step in steps],
        "by churn": [step.by_churn / step.plain for step in steps],
    }
    return {
        way: {
            "median": statistics.median(shares),
            "mean": statistics.fmean(shares),
            "p95": sorted(shares)[int(0.95 * (len(shares) - 1))],
            "max": max(shares),
        }
        for way, shares in ways.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repository", type=Path, required=True, action="append", help="may be repeated")
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--window", type=int, default=WINDOW, help="tokens for the stable part")
    parser.add_argument("--json", type=Path, help="write every step there")
    options = parser.parse_args()
    backend = EmbeddedBackend(context_window=512, prompt_tokens=256)
    count = Tokens(backend.count_tokens)
    print(machine())
    missed = False
    try:
        for repository in options.repository:
            log, steps = replay(repository, options.commits, options.window, count)
            found = table(steps)
            compactions = sum(step.background > 0 for step in steps)
            slowest = max(step.seconds for step in steps)
            print(
                f"\n{repository}: {len(steps)} commits, {steps[0].plain} to {steps[-1].plain} tokens of files, at most"
                f" {max(step.total for step in steps)} of prompt, {compactions} compactions, {len(log.absent)} files"
                f" left out, an update takes {slowest:.2f} s at most without counting"
            )
            for way, figures in found.items():
                print(f"  {way:22}" + "".join(f"  {name} {value:6.2%}" for name, value in figures.items()))
            total = found["log, with compaction"]
            missed |= total["median"] > BARS[0] or total["mean"] > BARS[1]
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    for step in steps:
                        file.write(json.dumps({"repository": repository.name, **asdict(step)}) + "\n")
    finally:
        backend.close()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
