"""One translation unit through libclang: what is noted of it, and of what it reads."""

import re
from pathlib import Path

import pytest

from indexer.compiler.commands import Unit
from indexer.compiler.unit import Crash, FileFacts, Reader, Target, UnitFacts
from tests.support.cases import Case, check, load
from tests.support.trees import write_tree

_PART = re.compile(r"^//// (\S+)\n", re.MULTILINE)


def files_of(text: str) -> dict[str, str | bytes]:
    """The files of a case; a text without file names is main.cc."""
    _, *parts = _PART.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True)) if parts else {"main.cc": text}


def read(root: Path, *arguments: str, path: str = "main.cc") -> UnitFacts:
    found = Reader(root).read(Unit(path, ("-std=c++17", *arguments)), ())
    assert not isinstance(found, Crash)
    return found


def shown(facts: UnitFacts) -> str:
    several = len(facts.files) > 1
    return "".join(line for file in facts.files for line in _file(file, facts.targets, several=several))


def _file(file: FileFacts, targets: tuple[Target, ...], *, several: bool) -> list[str]:
    lines = []
    for use in file.uses:
        target = targets[use.target]
        inside = f" in {targets[use.inside].name}" if use.inside >= 0 else ""
        lines.append((use.line, f"{use.kind} {use.name} -> {_place(target, use.name)}{inside}"))
    lines += [(line, f"include {written} -> {path or 'outside'}") for line, written, path in file.includes]
    prefix = f"{file.path}:" if several else ""
    return [f"{prefix}{line} {text}\n" for line, text in sorted(lines)]


def _place(target: Target, written: str) -> str:
    if not target.places:
        return "outside"
    name = target.symbol if target.symbol != written else ""
    parameters = f"({', '.join(target.parameters)})" if target.family == "function" else ""
    places = " and ".join(sorted(f"{path}:{line}" for path, line in target.places))
    return f"{target.family} {name}{parameters}{' at ' if name or parameters else 'at '}{places}"


@pytest.mark.parametrize("case", load("compiler_uses.md"), ids=lambda case: case.name)
def test_a_unit_says_what_its_text_uses(case: Case, tmp_path: Path) -> None:
    root = write_tree(tmp_path, files_of(case.text))
    check(case, shown(read(root)).replace("main.cc:", "") if len(files_of(case.text)) == 1 else shown(read(root)))
