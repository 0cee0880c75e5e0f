"""Cases as text: a Markdown file holds inputs and what is expected of them, and can rewrite its own expectations.

A case is a heading of level 2, a fenced block with the input, and a fenced block named ``expected``. Run the tests with
UPDATE_CASES=1 to write what was computed into the files; then read the difference before it is kept.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "cases"

_CASE = re.compile(
    r"^## (?P<name>[^\n]+)\n(?:(?!## |````)[^\n]*\n)*?````(?P<kind>\S+)\n(?P<text>.*?)````\n+"
    r"````expected\n(?P<expected>.*?)````$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Case:
    path: Path
    name: str
    kind: str  # what the input block is called: "cpp", "markdown", ...
    text: str
    expected: str


def load(pattern: str) -> list[Case]:
    """The cases of all files that match, in order. Raises ValueError for a heading without its two blocks."""
    cases: list[Case] = []
    for path in sorted(FOLDER.glob(pattern)):
        content = path.read_text(encoding="utf-8")
        found = [Case(path, m["name"], m["kind"], m["text"], m["expected"]) for m in _CASE.finditer(content)]
        outside = re.sub(r"^````.*?^````$", "", content, flags=re.MULTILINE | re.DOTALL)
        if len(found) != len(re.findall(r"^## ", outside, re.MULTILINE)):
            raise ValueError(f"{path.name}: a case lacks its input or its expected block")
        if len({case.name for case in found}) != len(found):
            raise ValueError(f"{path.name}: two cases have the same name")
        cases += found
    if not cases:
        raise ValueError(f"no cases in {pattern}")
    return cases


def check(case: Case, actual: str) -> None:
    """Asserts that the expectation holds, or with UPDATE_CASES=1 makes it the expectation."""
    if os.environ.get("UPDATE_CASES") == "1":
        content = case.path.read_text(encoding="utf-8")

        def updated(match: re.Match[str]) -> str:
            if match["name"] != case.name:
                return match[0]
            return match[0][: match.start("expected") - match.start()] + actual + "````"

        case.path.write_text(_CASE.sub(updated, content), encoding="utf-8")
        return
    assert actual == case.expected, f"{case.path.name}: {case.name}"
