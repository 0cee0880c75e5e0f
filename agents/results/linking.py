"""Findings looked up in the index: which file of the tree is meant, which symbols stand there, what a test tries.

What is not in the index keeps what the output said of it, without symbols.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from agents.model import Finding, FindingKind
from hub.service import is_test_path
from indexer.model import ReferenceKind, SymbolKind

if TYPE_CHECKING:
    from hub.service import Service
    from indexer.model import Edge

MOST_SYMBOLS = 8  # of a finding
MOST_CALLED = 5  # functions under test; 2 to 7
_MOST_LOOKED_UP = 60  # findings; more are mostly of one cause, and each costs some queries
_MOST_MEANT = 2  # symbols that a name of the output may mean before it says nothing
_FUNCTIONS = (SymbolKind.FUNCTION, SymbolKind.METHOD)
_CALLED = (*_FUNCTIONS, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR)
_MOST_SEEN = 6  # symbols of a name that is asked whether it belongs to tests
_NEAR_LINES = 12  # before a check that fails, where what it checks was called; 4 to 30
_IDENTIFIER = re.compile(r"[A-Za-z_]\w{2,}")
_HUNK = re.compile(r"@@ -(?P<old>\d{1,9})(?:,(?P<olds>\d{1,9}))? \+(?P<new>\d{1,9})(?:,(?P<news>\d{1,9}))? @@")
_PARAMETERISED = re.compile(
    r"(?:\w{1,200}/)?(?P<suite>[A-Za-z_]\w{0,300})(?:/\w{1,40})?\.(?P<test>\w{1,300})(?:/[\w.]{1,200})?"
)


def linked(findings: Iterable[Finding], service: "Service", patch: str = "") -> tuple[Finding, ...]:
    """The findings with paths as the index has them and qualified names of symbols, the likeliest first.

    ``patch`` is the unified diff that the tree had which the output is of and the index has not: what stands at a line
    is looked up where that line was before. The findings keep the lines of the output.

    Of an error: what it names, as far as the tree has it, then what it stands in. Of a failed test: the functions that
    it calls, first those that the message names or that were called shortly before the check; then the test itself.
    Raises IndexerError.
    """
    looking = _Looking(service, Before(patch))
    return tuple(
        looking.linked(finding) if number < _MOST_LOOKED_UP else finding for number, finding in enumerate(findings)
    )


class _Looking:
    """What was looked up for one output, where the same names come again and again."""

    def __init__(self, service: "Service", before: "Before") -> None:
        self._service = service
        self._before = before
        self._root = f"{service.root.as_posix().rstrip('/')}/"
        self._paths: dict[str, str] = {}
        self._named: dict[str, tuple[str, ...]] = {}
        self._calls: dict[str, tuple[Edge, ...]] = {}
        self._places: dict[str, list[tuple[str, SymbolKind]]] = {}

    def linked(self, finding: Finding) -> Finding:
        path = self._path(finding.path)
        line = self._before.line(path, finding.line)
        there = self._standing(path, line) if path and line else ()
        named = [name for each in finding.symbols for name in self._meant(each)]
        tested = finding.kind in (FindingKind.TEST, FindingKind.CRASH)
        test = (self._test(finding.test, path) if finding.test else "") or (
            there[0] if tested and there and is_test_path(path) else ""
        )
        if test:
            called = self._under_test(finding, path, line, test)
            own = [name for name in (*named, *there) if name != test and not self._is_test(name)]
            symbols = [*own, *called, test] if finding.kind is FindingKind.CRASH else [*called, *own, test]
            # The test itself is told whatever else there is.
            symbols = [*list(dict.fromkeys(symbols[:-1]))[: MOST_SYMBOLS - 1], test]
        else:
            symbols = [*named, *there]
        return replace(finding, path=path or finding.path, symbols=tuple(dict.fromkeys(symbols))[:MOST_SYMBOLS])

    def _path(self, written: str) -> str:
        """The file of the index that is meant: of this path, or the only one that shares the longest end with it."""
        if written not in self._paths:
            self._paths[written] = self._like(written.removeprefix(self._root)) if written else ""
        return self._paths[written]

    def _like(self, written: str) -> str:
        parts = written.strip("/").split("/")
        found = [path.split("/") for path in self._service.files_called(parts[-1])]
        shared = [_in_common(parts, path) for path in found]
        best = max(shared, default=0)
        if shared.count(best) != 1 or not best:
            return ""
        return "/".join(found[shared.index(best)])

    def _standing(self, path: str, line: int) -> tuple[str, ...]:
        """Qualified names of what has this line, the innermost first."""
        return tuple(dict.fromkeys(symbol.qualified_name for symbol in self._service.symbols_at(path, line)))

    def _meant(self, name: str) -> tuple[str, ...]:
        """What a name of the output means in the tree; () for names of libraries and for what may mean several."""
        if name not in self._named:
            found = dict.fromkeys(symbol.qualified_name for symbol in self._service.symbols(name, 20))
            exact = tuple(each for each in found if each == name)
            names = exact or tuple(found)
            self._named[name] = names if len(names) <= _MOST_MEANT else ()
        return self._named[name]

    def _test(self, name: str, path: str) -> str:
        """The qualified name of a test's function, in the file where it failed if there are several; else ""."""
        for spelling in filter(None, _spellings(name)):
            last = spelling.rpartition(".")[2]
            found = [
                symbol
                for symbol in self._service.symbols(spelling, 8)
                if symbol.is_definition and symbol.kind in _FUNCTIONS and symbol.name.endswith(last)
            ]
            here = [symbol for symbol in found if symbol.span.path == path]
            if here or found:
                return (here or found)[0].qualified_name
        return ""

    def _under_test(self, finding: Finding, path: str, line: int, test: str) -> list[str]:
        """The functions of the tree that a test calls: those on the line or named, then those called before it."""
        if test not in self._calls:
            self._calls[test] = self._service.callees(test).edges
        words = set(_IDENTIFIER.findall(f"{finding.message}\n{finding.detail}"))
        ranked = []
        for edge in self._calls[test]:
            if edge.target_id is None or edge.kind is not ReferenceKind.CALL:
                continue
            if edge.target == test or not self._is_tested(edge.target):
                continue
            before = line - edge.line if edge.path == path and line else _NEAR_LINES + 1
            named = edge.target.rpartition("::")[2] in words
            near = before if 0 <= before <= _NEAR_LINES else _NEAR_LINES + 1
            ranked.append((not named, near, edge.line, edge.target))
        return list(dict.fromkeys(name for _, _, _, name in sorted(ranked)))[:MOST_CALLED]

    def _is_test(self, name: str) -> bool:
        """Whether it stands in files of tests alone."""
        return all(is_test_path(path) for path, _ in self._seen(name))

    def _is_tested(self, name: str) -> bool:
        """Whether it is a function of the tree that does not belong to its tests."""
        return any(kind in _CALLED and not is_test_path(path) for path, kind in self._seen(name))

    def _seen(self, name: str) -> list[tuple[str, SymbolKind]]:
        """The paths and kinds of a few symbols of the name."""
        if name not in self._places:
            symbols = self._service.symbols(name, _MOST_SEEN)
            self._places[name] = [(symbol.span.path, symbol.kind) for symbol in symbols]
        return self._places[name]


class Before:
    """Where the lines of a patched tree were before, by the hunks of the patch."""

    def __init__(self, patch: str) -> None:
        self._hunks: dict[str, list[tuple[int, int, tuple[int, ...]]]] = {}  # (first line, lines moved after, lines)
        path = ""
        lines = iter(patch.split("\n"))
        for line in lines:
            if line.startswith("+++ "):
                path = line[4:].split("\t")[0].removeprefix("b/")
            elif hunk := _HUNK.match(line):
                old, new = int(hunk["old"]), int(hunk["new"])
                left_old, left_new = int(hunk["olds"] or 1), int(hunk["news"] or 1)
                moved = (new + left_new) - (old + left_old)
                was: list[int] = []
                while (left_old > 0 or left_new > 0) and (line := next(lines, "")):
                    if line[0] in " +":
                        was.append(old)  # what was put in stands where the next line was
                        left_new -= 1
                    if line[0] in " -":
                        old += 1
                        left_old -= 1
                    if line[0] not in " +-\\":
                        break
                self._hunks.setdefault(path, []).append((new, moved, tuple(was)))

    def line(self, path: str, line: int) -> int:
        """The line that this one was, or stands in the place of."""
        moved = 0
        for first, after, was in self._hunks.get(path, ()):
            if first <= line < first + len(was):
                return was[line - first]
            if line >= first + len(was):
                moved = after
        return line - moved


def _in_common(one: list[str], other: list[str]) -> int:
    """How many last parts are the same."""
    count = 0
    for here, there in zip(reversed(one), reversed(other), strict=False):
        if here != there:
            break
        count += 1
    return count


def _spellings(name: str) -> list[str]:
    """A test's name as its framework prints it, and as the code has it: without instances, parameters and sections."""
    found = _PARAMETERISED.fullmatch(name)
    plain = [f"{found['suite']}.{found['test']}"] if found else []
    story = name.removeprefix("Scenario: ")
    whole = story.partition("/")[0]
    return list(dict.fromkeys((*plain, name, story, whole, whole.rpartition(" - ")[0], re.split(r"::|/", name)[-1])))
