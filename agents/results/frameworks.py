"""What other test frameworks print: Catch2, doctest, Boost.Test, Qt Test. One finding for each failed check."""

import re

from agents.model import FindingKind
from agents.results.output import Draft, Output

_PLACE = r"(?P<path>(?:[A-Za-z]:)?[^\s:()][^:()\n]{0,400})[:(](?P<line>\d{1,7})\)?"
_DASHES = re.compile(r"-{60,}$")
_DOTS = re.compile(r"\.{60,}$")
_EQUALS = re.compile(r"={60,}$")
_RULE = re.compile(r"[-.=]{60,}$")
_MOST_LINES = 60  # of a failure
_FAILED = re.compile(rf"{_PLACE}: (?P<what>FAILED|failed): ?(?P<rest>.*)")
_PLACE_ALONE = re.compile(rf"{_PLACE}$")

_DOCTEST = re.compile(rf"{_PLACE}: (?P<level>FATAL ERROR|ERROR|WARNING|MESSAGE): (?P<rest>.*)")
_TEST_CASE = re.compile(r"TEST CASE:  ?(?P<name>.{1,400})")

_BOOST = re.compile(
    rf"(?:unknown location\(0\)|{_PLACE}): (?:fatal )?error: in \"(?P<test>[^\"\n]{{1,400}})\": (?P<rest>.*)"
)
_QT = re.compile(r"(?:FAIL!|XPASS) {1,3}: (?P<test>[\w:]{1,300}\([^()\n]{0,200}\)) (?P<rest>.*)")
_QT_PLACE = re.compile(r"\s+Loc: \[(?P<path>[^\]\n]{1,400})\((?P<line>\d{1,7})\)\]")

_SPACES = re.compile(r"\s+")


def catch(output: Output, at: int) -> int:
    """Catch2's console and compact reporters."""
    line = output.lines[at]
    if _DASHES.match(line):
        return _catch_heading(output, at)
    found = _FAILED.match(line) if "FAILED" in line or "failed" in line else None
    if not found:
        return 0
    draft = Draft(FindingKind.TEST, "catch2", found["rest"].strip(), test=output.test)
    draft.place(output.path(found["path"]), int(found["line"]))
    draft.tell(line)
    end = at + 1
    if found["what"] == "FAILED":  # else it is the compact reporter's, all of it on one line
        end = _catch_message(output, end, draft)
    if "SIG" in draft.message and "signal" in draft.message:
        draft.kind = FindingKind.CRASH
    output.add(draft, at)
    return end


def _catch_message(output: Output, at: int, draft: Draft) -> int:
    said = []
    end = at
    while end < min(len(output.lines), at + _MOST_LINES):
        line = output.lines[end]
        if _RULE.match(line) or _FAILED.match(line):
            break
        if not line.strip() and not output.line(end + 1).startswith((" ", "with", "due")):
            break
        draft.tell(line)
        said.append(line.strip())
        end += 1
    message = _SPACES.sub(" ", "; ".join(filter(None, said)))
    draft.message = message.replace(":; ", ": ").replace("; with expansion: ", " with expansion: ")
    return end


def _catch_heading(output: Output, at: int) -> int:
    """The names between two lines of dashes: of the test, then of the sections."""
    names: list[str] = []
    for end in range(at + 1, min(at + 20, len(output.lines))):
        line = output.lines[end]
        if _DASHES.match(line):
            if names and _PLACE_ALONE.match(output.line(end + 1)):
                output.test = names[0]
                output.framework = "catch"
                return end + 3 if _DOTS.match(output.line(end + 2)) else end + 2
            return at + 1
        if line.strip():
            names.append(line.strip())
    return at + 1


def doctest(output: Output, at: int) -> int:
    """Headings and failures of doctest."""
    line = output.lines[at]
    if _EQUALS.match(line):
        return _doctest_heading(output, at)
    found = _DOCTEST.match(line) if "ERROR: " in line else None
    return _doctest_failure(output, at, found) if found else 0


def _doctest_heading(output: Output, at: int) -> int:
    if not _PLACE_ALONE.match(output.line(at + 1).removesuffix(":")):
        return 0
    for end in range(at + 2, min(at + 12, len(output.lines))):
        if found := _TEST_CASE.match(output.lines[end]):
            output.test = found["name"].strip()
            output.framework = "catch"
            return end + 1
    return 0


def _doctest_failure(output: Output, at: int, found: re.Match[str]) -> int:
    draft = Draft(FindingKind.TEST, "doctest", found["rest"].strip(), test=output.test)
    draft.place(output.path(found["path"]), int(found["line"]))
    draft.tell(output.lines[at])
    if "CRASHED" in draft.message:
        draft.kind = FindingKind.CRASH
    end = at + 1
    while (
        end - at < 30
        and output.line(end).strip()
        and not _DOCTEST.match(output.line(end))
        and not _EQUALS.match(output.line(end))
    ):
        draft.tell(output.line(end))
        if (said := output.line(end).strip()).startswith("values: ") or draft.message.endswith("exception:"):
            draft.message = f"{draft.message} {said}"
        end += 1
    output.add(draft, at)
    return end


def other_frameworks(output: Output, at: int) -> int:
    """Boost.Test and Qt Test."""
    line = output.lines[at]
    if 'error: in "' in line and (found := _BOOST.match(line)):
        draft = Draft(FindingKind.TEST, "boost", found["rest"], test=found["test"])
        if found["path"]:
            draft.place(output.path(found["path"]), int(found["line"]))
        draft.tell(line)
        output.add(draft, at)
        return at + 1
    if found := _QT.match(line):
        draft = Draft(FindingKind.TEST, "qtest", found["rest"], test=found["test"].partition("(")[0])
        draft.tell(line)
        end = at + 1
        while end - at < 6 and output.line(end).startswith("   "):
            draft.tell(output.line(end))
            if place := _QT_PLACE.match(output.line(end)):
                draft.place(output.path(place["path"]), int(place["line"]))
            else:
                draft.message = f"{draft.message}; {' '.join(output.line(end).split())}"
            end += 1
        output.add(draft, at)
        return end
    return 0
