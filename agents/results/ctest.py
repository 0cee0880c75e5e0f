"""What CTest says of tests: the test itself is what is found, unless its own output says more."""

import re

from agents.model import FindingKind
from agents.results.google import unfinished
from agents.results.output import Draft, Output

_RESULT = re.compile(
    r"\s{0,8}\d{1,6}/\d{1,6} Test\s{1,5}#(?P<number>\d{1,6}): (?P<name>\S.{0,400}?) \.{2,}\s{0,3}"
    r"(?P<how>[^.\s].{0,120}?)(?: {2,}[\d.]{1,12} sec|$)"
)
_LISTED = re.compile(r"\s{1,12}\d{1,6} - (?P<name>\S.{0,400}?) \((?P<how>[\w .:-]{1,80})\)(?:\s.{0,200})?$")
_START = re.compile(
    r"\s{0,8}Start\s{1,6}\d{1,6}: |\d{1,6}% tests passed|The following tests |Total Test time|test \d{1,6}$"
)
_VERBOSE = re.compile(r"^test \d{1,6}\n\s+Start", re.MULTILINE)
_NUMBERED = re.compile(r"(?P<number>\d{1,6}): ?(?P<rest>.*)")
_CRASHES = (
    "SEGFAULT",
    "SegFault",
    "Exception",
    "Subprocess",
    "ILLEGAL",
    "NUMERICAL",
    "Child aborted",
    "Bus",
    "OTHER",
)
_NOT_FAILED = ("Passed", "Skipped", "Disabled", "Not Run (Disabled)")
_FIRST, _LAST = 3, 12  # lines of a test's own output that are told where nothing in it is known


def in_order(text: str) -> str:
    """An output of ``ctest -V`` as without it: without numbers before lines, each test's own after its result."""
    if not _VERBOSE.search(text):
        return text
    kept: list[str] = []
    held: dict[str, list[str]] = {}
    for line in text.split("\n"):
        if numbered := _NUMBERED.match(line):
            held.setdefault(numbered["number"], []).append(numbered["rest"])
            continue
        kept.append(line)
        if result := _RESULT.match(line):
            kept += held.pop(result["number"], [])
    return "\n".join([*kept, *(line for lines in held.values() for line in lines)])


def ctest(output: Output, at: int) -> int:
    """What CTest says of a test: what its output told is the test's, else the test itself is what is found."""
    line = output.lines[at]
    if " Test " in line and (found := _RESULT.match(line)):
        _end_of_block(output, at)
        name = found["name"].strip()
        how = " ".join(found["how"].replace("*", " ").replace("Exception", " ").split()).strip(" :") or "Exception"
        if how.startswith(_NOT_FAILED):
            return at + 1
        draft = Draft(_kind_of(found["how"]), "ctest", how, test=name)
        draft.tell(line.strip())
        if (before := output.line(at - 1)).startswith("Unable to find"):
            draft.message = f"{how}: {before}"
        output.tests_failed[name] = output.enclosing = output.add(draft, at)
        output.first_of_test = len(output.drafts)
        return at + 1
    if _START.match(line):
        _end_of_block(output, at)
        return at + 1
    if " - " in line and (found := _LISTED.match(line)):
        name, how = found["name"].strip(), found["how"].strip()
        if how not in _NOT_FAILED and name not in output.tests_failed:
            output.tests_failed[name] = output.add(Draft(_kind_of(how), "ctest", how, test=name), at)
        return at + 1
    return 0


def _end_of_block(output: Output, at: int) -> None:
    """The output of one test ends here: what had begun in it goes no further."""
    if output.enclosing is not None:
        before = len(output.drafts)
        unfinished(output)
        output.enclose(before)
        if not output.within.get(id(output.enclosing)):
            own = [line for line in output.lines[output.enclosing.at + 1 : at] if line.strip()]
            shown = own if len(own) <= _FIRST + _LAST else [*own[:_FIRST], "…", *own[-_LAST:]]
            for line in shown:
                output.enclosing.tell(line)
    output.enclosing = None
    output.test = output.framework = ""
    output.loose.clear()
    output.first_of_test = len(output.drafts)


def settled(output: Output) -> None:
    """What is known at the end: leaves out what CTest says of a test whose own output says more."""
    _end_of_block(output, len(output.lines)) if output.enclosing else unfinished(output)
    kept = {id(draft) for draft in output.drafts}
    named = {draft.test for draft in output.drafts if draft.tool != "ctest"}
    gone: set[int] = set()
    for draft in output.drafts:
        if draft.tool != "ctest":
            continue
        inside = [each for each in output.within.get(id(draft), []) if id(each) in kept]
        for each in inside:
            if each.test and each.test != draft.test:
                each.tell(f"in the test {draft.test} of CTest")
            each.test = each.test or draft.test
            if each.kind is not FindingKind.TEST:
                each.tell(f"CTest: {draft.message}")
        if any(not each.consequence for each in inside) or draft.test in named:
            gone.add(id(draft))
        elif draft.message == "Failed":
            draft.message = "failed"
    output.drafts = [draft for draft in output.drafts if id(draft) not in gone]


def _kind_of(how: str) -> FindingKind:
    return FindingKind.CRASH if any(word in how for word in _CRASHES) or how.startswith("SIG") else FindingKind.TEST
