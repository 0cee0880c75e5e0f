"""How much of what g++ says is found: sources with one token changed, read as text and compared with g++'s own JSON.

``python benchmarks/findings.py TREE [--changes 70] [--seed 7]`` compiles sources of a copy of the tree, each with one
token deleted, renamed or doubled, once for text and once for JSON, which says what there is to be found. Needs g++.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from agents.results import read

TOKEN = re.compile(r"\b[A-Za-z_]\w+\b|[;(){}<>,*&.]|->|::")
SAME = 300  # characters of a message that are compared: findings cut them


class Told(NamedTuple):
    path: str
    line: int
    message: str


class Counts(NamedTuple):
    outputs: int = 0
    told: int = 0  # by the JSON
    found: int = 0
    placed: int = 0  # at the line of the JSON
    others: int = 0  # findings that stand in no JSON


def changed(text: str, chance: random.Random) -> str:
    """The source with one token deleted, renamed or doubled."""
    token = chance.choice(list(TOKEN.finditer(text)))
    ways = ("", f"{token.group()}Zq" if token.group()[0].isalpha() else ";", token.group() * 2)
    return text[: token.start()] + chance.choice(ways) + text[token.end() :]


def said(root: Path, source: Path, *more: str) -> str:
    folders = [f"-I{root / name}" for name in ("include", "src", ".")]
    command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-fsyntax-only", *more, *folders, str(source)]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False).stderr


def truth(root: Path, output: str) -> set[Told]:
    """What the JSON tells of the tree."""
    found = set()
    for line in output.splitlines():
        for each in json.loads(line) if line.startswith("[") else ():
            caret = each["locations"][0].get("caret") if each["locations"] else None
            if each["kind"] in ("error", "fatal error", "warning") and caret:
                option = f" [{each['option']}]" if each.get("option") else ""
                path = Path(caret["file"])
                if path.is_relative_to(root):
                    message = " ".join(f"{each['message']}{option}".split())[:SAME]
                    found.add(Told(path.relative_to(root).as_posix(), caret["line"], message))
    return found


def compared(root: Path, source: Path) -> Counts:
    wanted = truth(root, said(root, source, "-fdiagnostics-format=json"))
    findings = read(said(root, source), str(root))
    found = {Told(each.path, each.line, each.message[:SAME]) for each in findings}
    messages = {told.message for told in found}
    return Counts(
        outputs=int(bool(wanted)),
        told=len(wanted),
        found=sum(told.message in messages for told in wanted),
        placed=len(wanted & found),
        others=len(messages - {told.message for told in wanted}),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--changes", type=int, default=70)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    total = Counts()
    with TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "tree"
        shutil.copytree(options.tree, root)
        sources = sorted(path for path in root.rglob("*") if path.suffix in (".cc", ".cpp", ".cxx"))
        for _ in range(options.changes):
            source = chance.choice(sources)
            text = source.read_text(encoding="utf-8")
            source.write_text(changed(text, chance), encoding="utf-8")
            counts = compared(root, source)
            source.write_text(text, encoding="utf-8")
            total = Counts(*(one + other for one, other in zip(total, counts, strict=True)))
    print(
        f"{total.outputs} outputs, {total.told} diagnostics of the tree: {total.found} found, {total.placed} of them at"
        f" their line; {total.others} findings stand in no JSON"
    )


if __name__ == "__main__":
    main()
