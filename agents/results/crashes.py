"""What ends a program: reports of sanitizers and valgrind, assertions, exceptions that nobody caught, signals.

A report's place is its first frame in the tree, whatever of the system stands above it.
"""

import re

from agents.model import FindingKind
from agents.results.output import Draft, Output

_REPORT = re.compile(r"(?:==\d{1,9}==\s?)?(?:ERROR|WARNING): (?P<tool>\w{1,20}Sanitizer): (?P<text>.*)")
_RUNTIME = re.compile(r"(?P<path>[^\s:][^:\n]{0,400}):(?P<line>\d{1,7}):(?:\d{1,6}:)? runtime error: (?P<text>.*)")
_LEAK = re.compile(r"(?P<text>(?:Direct|Indirect) leak of \d{1,15} byte\(s\) in \d{1,12} object\(s\) allocated from:)")
_FRAME = re.compile(r"\s{0,12}#(?P<number>\d{1,5}) (?:0x[0-9a-fA-F]{1,16} )?(?:in )?(?P<rest>\S.*)")
_FRAME_PLACE = re.compile(r"\s(?P<path>[^\s:()]{1,400}):(?P<line>\d{1,7})(?::\d{1,6})?(?:\s|$)")
_MODULE = re.compile(r"\s\(?[^\s()]{1,300}\+0x[0-9a-fA-F]{1,16}\)?.*$")
_END = re.compile(r"SUMMARY: |={20,}$|==\d{1,9}==ABORTING")
_ADDRESS = re.compile(r"\s(?:on (?:unknown )?(?:address )?0x[0-9a-f]+|at pc 0x|\(pid=\d+\)|\(0x[0-9a-f]+).*")
_ACCESS = re.compile(r"\s{0,4}(?P<text>(?:READ|WRITE|Read|Write|Atomic \w{4,5}) of size \d{1,12})\b")
_BYTES = re.compile(r"\s*(?:=>)?0x|Shadow|\s+(?:Addressable|Partially|Heap|Freed|Stack|Global|Poisoned|Container)")
_MOST_REPORT = 400  # lines
_HEADINGS = 24  # lines of the detail, up to which what stands between stacks is told, too

_MEMCHECK = re.compile(
    r"==\d{1,9}== (?P<text>Invalid (?:read|write|free)\b.*|Conditional jump or move.*|Use of uninitialised.*"
    r"|Mismatched free.*"
    r"|Jump to the invalid.*|Syscall param .*|[\d,]{1,15} (?:\([^()]{1,80}\) )?bytes in [\d,]{1,12} blocks are"
    r" (?:definitely|indirectly) lost.*"
    r"|Process terminating with .*|Possible data race.*)"
)
_MEMCHECK_FRAME = re.compile(
    r"==\d{1,9}==\s{1,8}(?:at|by) 0x[0-9A-F]{1,16}: (?P<name>.{1,1500}?) \((?:in )?(?P<place>[^()\n]{1,400})\)$"
)

_MEMCHECK_MORE = re.compile(r"==\d{1,9}== {1,8}\S")
_MEMCHECK_SYSTEM = re.compile(  # frames of the C library, whose files are named without folders
    r"_|std::|(?:f?puts|v?[fs]?n?printf|mem\w{3,4}|str\w{3,5}|malloc|calloc|free|operator (?:new|delete)"
    r"|pthread_\w+|raise|abort)\b"
    r"|.{0,1600} vg_replace"
)

_ASSERT = re.compile(
    r"(?:(?P<program>[^:\n]{1,300}): )?(?P<path>[^\s:][^:\n]{0,400}):(?P<line>\d{1,7}): (?P<name>.{1,1500}?):"
    r" Assertion [`'](?P<text>.{0,1500}?)['`] failed"
)
_ASSERT_C = re.compile(
    r"Assertion failed: (?P<text>.{1,1000}?), function (?P<name>[^,\n]{1,400}), file (?P<path>[^,\n]{1,400}),"
    r" line (?P<line>\d{1,7})"
)
_CHECK = re.compile(
    r"(?:F\d{4,8} [\d:.]{8,20}\s+\S{1,20} |\[FATAL:?)?\[?(?P<path>[\w./+-]{1,300}\.\w{1,4})[:(]"
    r"(?P<line>\d{1,7})[\])]{1,2}:? (?P<text>(?:Check failed|CHECK failed|Assertion failure)[: ].*)"
)
_OTHER_CHECK = re.compile(  # of macros that a tree has made itself
    r"(?:\[\w+\] ?)?(?P<path>[\w./+-]{1,300}\.\w{1,4})[:(](?P<line>\d{1,7})\)?: "
    r"(?P<text>(?=.{0,120}\b[Ff]ail(?:ed|ure)?\b)"
    r".{0,60}\b(?:[Cc]heck|[Aa]ssert\w{0,20}|[Ee]xpect\w{0,20}|[Rr]equire\w{0,20}|[Ii]nvariant|[Pp](?:re"
    r"|ost)condition|[Tt]est|CHECK\w{0,20}|ASSERT\w{0,20}|EXPECT\w{0,20})\b.*)"
)
_LIBRARY = re.compile(
    r"(?P<path>/\S{1,300}):(?P<line>\d{1,7}): (?P<name>.{1,1500}?): Assertion '(?P<text>.{1,600}?)' failed"
)
_THROWN = re.compile(
    r"terminat(?:e called (?:after throwing an instance of '(?P<gnu>[^'\n]{1,400})'|without an active exception"
    r"|recursively)"
    r"|ing (?:due to|with) uncaught exception of type (?P<clang>[^:\n]{1,400}(?:::[^:\n]{1,400}){0,20})(?:: "
    r"(?P<text>.*))?)"
)
_SIGNAL = re.compile(
    r"(?:.{0,300}?[\s:])?(?P<text>(?:Segmentation fault|Bus error|Floating point exception|Illegal instruction"
    r"|Aborted|Killed|Trace/breakpoint trap"
    r"|Stack fault|stack smashing detected|double free or corruption \S+|free\(\): \S.{0,60}|malloc\S*:"
    r" \S.{0,60}|munmap_chunk\S*.{0,60}"
    r"|corrupted size vs\. prev_size|realloc\(\): .{0,60})(?: \(core dumped\))?)(?P<rest>.*)"
)
_SIGNAL_WORDS = (
    "Segmentation",
    "Bus error",
    "exception",
    "Illegal",
    "Aborted",
    "Killed",
    "trap",
    "fault",
    "smash",
    "free",
    "malloc",
    "corrupt",
    "realloc",
    "munmap",
)
_PROSE = re.compile(r"[a-z]{3,} [a-z]{3,} [a-z]{3,}")


def sanitizer(output: Output, at: int) -> int:
    """One report; each leak of LeakSanitizer is one."""
    line = output.lines[at]
    if "runtime error: " in line and (found := _RUNTIME.match(line)):
        draft = Draft(FindingKind.CRASH, "ubsan", f"runtime error: {found['text']}", test=output.test)
        draft.place(output.path(found["path"]), int(found["line"]))
        draft.tell(line)
        end = _frames(output, at + 1, draft, stop=_RUNTIME)
        output.add(draft, at)
        return end
    if "leak of" in line and (found := _LEAK.match(line)):
        draft = Draft(FindingKind.CRASH, "lsan", found["text"].removesuffix(" allocated from:"), test=output.test)
        draft.tell(line)
        end = _frames(output, at + 1, draft, stop=_LEAK)
        output.add(draft, at)
        return end
    found = _REPORT.match(line) if "Sanitizer: " in line else None
    if not found:
        return 0
    tool = {"Address": "asan", "Thread": "tsan", "Memory": "msan", "Leak": "lsan", "UndefinedBehavior": "ubsan"}.get(
        found["tool"].removesuffix("Sanitizer"), found["tool"].lower()
    )
    if tool == "lsan" and "detected memory leaks" in found["text"]:
        return at + 1
    draft = Draft(FindingKind.CRASH, tool, _ADDRESS.sub("", found["text"]), test=output.test)
    draft.tell(line)
    if access := _ACCESS.match(output.line(at + 1)):
        draft.message = f"{draft.message}, {access['text']}"
    end = _frames(output, at + 1, draft, stop=_REPORT)
    output.add(draft, at)
    return end


def _frames(output: Output, at: int, draft: Draft, stop: re.Pattern[str]) -> int:
    """Takes up the stacks of a report; where it ends.

    A report of one stack ends with it; one of several, which only an error has, with its summary or two empty lines.
    """
    several = stop is _REPORT
    frames = blank = 0
    last = min(len(output.lines), at + _MOST_REPORT)
    while at < last:
        line = output.lines[at]
        if line.startswith("SUMMARY: "):
            draft.tell(line)
            return at + 1
        if stop.match(line) or _REPORT.match(line) or line.startswith("[ ") or (_END.match(line) and frames):
            return at
        if frame := _FRAME.match(line):
            frames += 1
            _frame(output, draft, frame["rest"], line)
        elif not several:
            return at if line.strip() else at + 1
        elif line.strip() and len(draft.detail) < _HEADINGS and not _BYTES.match(line):
            draft.tell(line)
        blank = 0 if line.strip() else blank + 1
        if blank > 1:
            return at
        at += 1
    return at


def _frame(output: Output, draft: Draft, rest: str, line: str) -> None:
    place = _FRAME_PLACE.search(rest)
    path = output.path(place["path"]) if place else ""
    if path and place:
        first = not draft.path
        draft.place(path, int(place["line"]))
        if first or len(draft.names) < 4:
            draft.name(_MODULE.sub("", rest[: place.start()]))
    if path or len(draft.detail) < 6:
        draft.tell(line)


def memcheck(output: Output, at: int) -> int:
    """One error of valgrind. It names files without their folders."""
    line = output.lines[at]
    found = _MEMCHECK.match(line) if line.startswith("==") else None
    if not found:
        return 0
    draft = Draft(FindingKind.CRASH, "valgrind", found["text"], test=output.test)
    draft.tell(line)
    end = at + 1
    while end - at < 60 and _MEMCHECK_MORE.match(output.line(end)):
        line = output.lines[end]
        draft.tell(line)
        if frame := _MEMCHECK_FRAME.match(line):
            path, _, number = frame["place"].rpartition(":")
            if path and number.isdecimal() and not _MEMCHECK_SYSTEM.match(f"{frame['name']} {path}"):
                draft.place(output.path(path), int(number[:7]))
                draft.name(frame["name"])
        elif draft.path:
            break  # where the block was made or freed
        end += 1
    output.add(draft, at)
    return end


def assertion(output: Output, at: int) -> int:
    """``assert``, its kin of libraries, and exceptions that nobody caught."""
    line = output.lines[at]
    if "terminat" in line and (thrown := _THROWN.match(line)):
        kind = thrown["gnu"] or thrown["clang"] or ""
        said = thrown["text"] or ""
        draft = Draft(FindingKind.CRASH, "runtime", "", test=output.test)
        draft.tell(line)
        end = at + 1
        if (what := output.line(end).strip()).startswith("what():"):
            said = what.removeprefix("what():").strip()
            draft.tell(output.line(end))
            end += 1
        draft.message = f"uncaught exception {kind}: {said}".rstrip(": ") if kind else line
        output.add(draft, at)
        return end
    if "fail" not in line and "Fail" not in line:
        return 0
    found = (
        _LIBRARY.match(line)
        or _ASSERT.match(line)
        or _ASSERT_C.search(line)
        or _CHECK.match(line)
        or _OTHER_CHECK.match(line)
    )
    if not found:
        return 0
    groups = found.groupdict()
    # A check that fails in a test is the test's failure, however it ends.
    kind = FindingKind.TEST if output.test or output.enclosing else FindingKind.CRASH
    draft = Draft(kind, "assert", groups["text"], test=output.test)
    if "Assertion" in line and "ssertion" not in groups["text"]:
        draft.message = f"assertion failed: {groups['text']}"
    draft.place(output.path(found["path"]), int(found["line"]))
    if groups.get("name"):
        draft.name(groups["name"])
    draft.tell(line)
    output.add(draft, at)
    return at + 1


def signal(output: Output, at: int) -> int:
    """A signal that a shell, make or the C library tells of; a consequence where the same output says why."""
    line = output.lines[at]
    if len(line) > 400 or not any(word in line for word in _SIGNAL_WORDS):
        return 0
    found = _SIGNAL.match(line)
    if not found or _PROSE.search(line[: found.start("text")]) or _PROSE.search(found["rest"]):
        return 0
    draft = Draft(FindingKind.CRASH, "signal", found["text"], test=output.test)
    draft.consequence = any(each.kind is FindingKind.CRASH or each.tool == "assert" for each in output.drafts[-3:])
    draft.tell(line)
    output.add(draft, at)
    return at + 1
