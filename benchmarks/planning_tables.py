"""Brings the tables of docs/planning.md up to date: each block that begins with a command shows what it prints today.

    python benchmarks/planning_tables.py

Figures are computed, not measured, and the same everywhere; run it after a change to hub.capacity.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import published_speeds

from hub.capacity import catalogue
from hub.capacity.machine import described
from hub.capacity.rules import rules
from hub.cli import main as codehub

PAGE = Path(__file__).parent.parent / "docs" / "planning.md"
RULED = ("llama3.1:8b", "gpt-oss:20b", "gemma3:12b", "qwen3.6:35b-a3b")


def main() -> None:
    # As wide as a terminal, and without a model of this machine's Ollama.
    os.environ |= {"COLUMNS": "80", "CODEHUB_OLLAMA_HOST": "http://127.0.0.1:9"}
    text = PAGE.read_text(encoding="utf-8")
    text = re.sub(r"```text\n\$ (codehub [^\n]*)\n.*?```", _printed, text, flags=re.DOTALL)
    for name, made in (("published", _captured(published_speeds.main)), ("rules", _rules())):
        marks = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, rest = text.split(marks[0])
        text = f"{before}{marks[0]}{made}{marks[1]}{rest.split(marks[1])[1]}"
    PAGE.write_text(text, encoding="utf-8")


def _printed(block: re.Match[str]) -> str:
    command = block[1]
    return f"```text\n$ {command}\n{_captured(lambda: codehub(shlex.split(command)[1:]))}\n```"


def _captured(run: Callable[[], object]) -> str:
    kept = io.StringIO()
    with contextlib.redirect_stdout(kept):
        run()
    return "\n".join(line.rstrip() for line in kept.getvalue().rstrip().split("\n"))


def _rules() -> str:
    there = described("RTX 4090", "64GB DDR5-5600")
    off: dict[str, list[str]] = {}
    for name in RULED:
        for rule in rules(catalogue.find(name), 32768, there):
            off.setdefault(f"{rule.name}: {rule.quantity}", []).append(f"{rule.off:+.0%}")
    lines = [f"| rule | {' | '.join(RULED)} |", f"|---{'|---' * len(RULED)}|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(shares)} |" for name, shares in off.items())])


if __name__ == "__main__":
    main()
