"""Measures whether the commit or the decision that says why is among the first that `codehub why` gives.

    python benchmarks/why.py [--tree leveldb=PATH] [--misses] [--json]

The questions stand in why_questions.toml, with what answers each; they were written before anything was asked. A clone
of leveldb with its whole history is taken by --tree, sample_repo is there. Each question is asked once, as it would be
typed, and what comes is counted by the place of the first right reason. The bar is 85% in the top 3, the goal 95%.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from agent_tokens import indexed  # noqa: E402 - the path is set above, so that a plain checkout works
from end_to_end import machine  # noqa: E402 - as above

from hub import config  # noqa: E402 - as above
from hub.changes import keep_up  # noqa: E402 - as above
from hub.service import Service, Story  # noqa: E402 - as above

QUESTIONS = Path(__file__).resolve().parent / "why_questions.toml"
SAMPLE = "sample_repo"
TOP = 3
SHOWN = 10  # reasons that are asked for, so that the place of a late one is seen


@dataclass(frozen=True, slots=True)
class Question:
    tree: str
    ask: str
    gold: tuple[str, ...]  # beginnings of hashes, or paths


@dataclass(frozen=True, slots=True)
class Found:
    """Where the first right reason came, 0 where none did, and what came first instead."""

    question: Question
    place: int
    first: str
    seconds: float


def questions(trees: Mapping[str, Path]) -> list[Question]:
    """The questions of these trees. Raises ValueError where a line that is asked about is not there once."""
    made = []
    for entry in tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["question"]:
        root = trees.get(entry["tree"])
        if root is not None:
            ask = entry["ask"] if "ask" in entry else _place(root, entry["path"], entry["line"])
            made.append(Question(entry["tree"], ask, tuple(entry["gold"])))
    return made


def _place(root: Path, path: str, text: str) -> str:
    lines = (root / path).read_text(encoding="utf-8").split("\n")
    found = [number for number, line in enumerate(lines, 1) if text in line]
    if len(found) != 1:
        raise ValueError(f"{path} holds {text!r} {len(found)} times")
    return f"{path}:{found[0]}"


def asked(service: Service, question: Question) -> Found:
    started = time.perf_counter()
    story = service.why(question.ask, SHOWN)
    seconds = time.perf_counter() - started
    cited = citations(story)
    place = next((at for at, cite in enumerate(cited, 1) if any(cite.startswith(gold) for gold in question.gold)), 0)
    return Found(question, place, cited[0] if cited else "nothing", seconds)


def citations(story: Story) -> list[str]:
    """What the reasons rest on, in their order: hashes of commits, and paths; each once, since a second part of the
    same document is no further answer.
    """
    return list(dict.fromkeys(reason.commit or (reason.span.path if reason.span else "") for reason in story.reasons))


def table(found: Sequence[Found]) -> str:
    """In Markdown, a row for each tree."""
    lines = ["| tree | questions | first | in the top 3 | anywhere | seconds, median |", "|---|---|---|---|---|---|"]
    for tree in dict.fromkeys(each.question.tree for each in found):
        own = [each for each in found if each.question.tree == tree]
        first, top = sum(each.place == 1 for each in own), sum(1 <= each.place <= TOP for each in own)
        known = sum(each.place > 0 for each in own)
        lines.append(
            f"| {tree} | {len(own)} | {first} | {top} ({100 * top / len(own):.0f}%) | {known} |"
            f" {median(each.seconds for each in own):.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=PATH", help="another tree with questions")
    parser.add_argument("--misses", action="store_true", help="name the questions whose answer is not in the top 3")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    trees = {SAMPLE: REPOSITORY / SAMPLE}
    trees |= {name: Path(path) for name, _, path in (given.partition("=") for given in options.tree)}
    wanted = questions(trees)
    found: list[Found] = []
    for name, root in trees.items():
        with TemporaryDirectory() as folder, indexed(root, Path(folder)) as service:
            keep_up(config.load({"data": Path(folder)}, environment={}), service.workspace)  # as indexing does
            found += [asked(service, question) for question in wanted if question.tree == name]
    if options.json:
        print(json.dumps({"machine": machine(), "found": [asdict(each) for each in found]}, indent=2))
        return 0
    print(f"{machine()}\n\n{table(found)}")
    if options.misses:
        for each in found:
            if not 1 <= each.place <= TOP:
                print(f"  - {each.question.ask}: place {each.place or 'none'}, first came {each.first[:60]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
