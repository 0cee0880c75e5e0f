"""What GoogleTest prints: one finding for each failed check, its test and parameter, and tests that never ended."""

import re

from agents.model import FindingKind
from agents.results.output import MOST_MESSAGE, Draft, Output

_PLACE = r"(?P<path>(?:[A-Za-z]:)?[^\s:()][^:()\n]{0,400})[:(](?P<line>\d{1,7})\)?"
_FAILURE = re.compile(rf"(?:{_PLACE}|unknown file): Failure(?P<rest>.*)")
_RUN = re.compile(r"\[ RUN {6}\] (?P<name>\S{1,400})")
_ENDED = re.compile(r"\[ {2}(?P<how>FAILED | {4}OK|SKIPPED) ?\] (?P<name>[^\s,(]{1,400})(?P<rest>.*)")
_OTHER = re.compile(r"\[(?:-{10}|={10}| {2}PASSED | {2}DEATH {2}|  XML  )")
_PARAMETER = re.compile(r", where (?P<what>(?:GetParam\(\)|TypeParam) = .{1,200}?)(?: \(\d{1,9} ms\))?$")
_FOLLOWS = 14  # lines of a failure that make its message
_MOST_LINES = 200  # of a failure
_TRACE = "Google Test trace:"


def google(output: Output, at: int) -> int:
    """GoogleTest's own lines. A test that does not end is told by ``unfinished``."""
    line = output.lines[at]
    if "[ " in line or line.startswith("["):
        return _progress(output, at, line)
    found = _FAILURE.match(line) if "Failure" in line else None
    if not found:
        return 0
    draft = Draft(FindingKind.TEST, "gtest", "", test=output.test)
    if found["path"]:
        draft.place(output.path(found["path"]), int(found["line"]))
    draft.tell(line)
    end = _message(output, at + 1, draft, found["rest"].strip())
    output.add(draft, at)
    if not output.test:
        output.loose.append(draft)
    return end


def _message(output: Output, at: int, draft: Draft, first: str) -> int:
    """Takes up what is told of a failure, to the next failure, the end of the test, or an empty line."""
    said = [first]
    end = at
    while end < min(len(output.lines), at + _MOST_LINES):
        line = output.lines[end]
        if line.startswith(("[ ", "[--", "[==")) or _FAILURE.match(line):
            break
        if not line.strip() and not output.line(end + 1).startswith(_TRACE):
            break
        if end - at < _FOLLOWS and sum(map(len, said)) < MOST_MESSAGE:
            said.append(line.strip())
        draft.tell(line)
        end += 1
    draft.message = "; ".join(filter(None, said)).replace(":; ", ": ").replace("; Which is: ", " is ") or "failed"
    return end


def _progress(output: Output, at: int, line: str) -> int:
    begins = max(0, line.find("[ "))  # a test may have written before it, without a line end
    if run := _RUN.match(line, begins):
        output.test = run["name"]
        output.started = at
        output.loose.clear()
        return at + 1
    if ended := _ENDED.match(line, begins):
        if ended["how"] == "FAILED ":
            _failed(output, at, ended["name"].rstrip(":"), ended["rest"])
        else:
            output.loose.clear()
        output.test = ""
        return at + 1
    return at + 1 if _OTHER.match(line) else 0


def _failed(output: Output, at: int, name: str, rest: str) -> None:
    """The failures that stood before this line are of this test; or it failed without any."""
    loose, output.loose = output.loose, []
    if "." not in name and "TestSuite" not in rest:
        return  # "[  FAILED  ] 3 tests, listed below:"
    if name in output.tests_failed and not output.test and not loose:
        return  # told again at the end of all
    for draft in loose:
        draft.test = name
    parameter = _PARAMETER.search(rest)
    mine = [draft for draft in output.drafts[output.first_of_test :] if draft.test == name and draft.tool != "ctest"]
    if parameter:
        for draft in mine:
            draft.message = f"{draft.message} ({parameter['what']})"
    if not mine:
        mine = [
            output.add(Draft(FindingKind.TEST, "gtest", parameter["what"] if parameter else "failed", test=name), at)
        ]
    output.tests_failed[name] = mine[0]


def _ends(draft: Draft) -> bool:
    """Whether a program does not go on after it."""
    return draft.kind is FindingKind.CRASH or draft.tool == "assert"


def unfinished(output: Output) -> None:
    """The test of GoogleTest that had begun when its output ended: it crashed, or was stopped."""
    if not output.test or output.framework:
        return
    crash = next((draft for draft in output.drafts if _ends(draft) and draft.at >= output.started), None)
    if crash is not None:
        crash.test = crash.test or output.test
        return
    draft = Draft(FindingKind.CRASH, "gtest", "it began and did not end: it crashed or was stopped", test=output.test)
    for line in output.lines[output.started : output.started + 20]:
        draft.tell(line)
    output.add(draft, output.started)
