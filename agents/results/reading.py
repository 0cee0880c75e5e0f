"""Reads the output of a build or of tests into findings, line by line, in linear time, and never with an exception.

What a line is, the recognisers say, each for its tools; this one asks them in turn and knows no format.
"""

import re
from collections.abc import Callable

from agents.model import Finding, FindingKind
from agents.results import compilers, crashes, ctest, frameworks, google, reports
from agents.results.output import Output, finished, readable

# What a line holds that a recogniser begins with; most lines of a build hold none of it.
_TELLS = re.compile(
    r"[:\[(<]|[-=]{60}|terminat|fault|Abort|Killed|exception|Illegal|trap|smash|double free|corrupt|Start|Test|test"
)
_Recogniser = Callable[[Output, int], int]  # the line after what it took up, or 0 where nothing of this is its own
_RECOGNISERS: tuple[_Recogniser, ...] = (
    ctest.ctest,
    reports.report,
    google.google,
    crashes.sanitizer,
    crashes.memcheck,
    frameworks.other_frameworks,
    frameworks.catch,
    crashes.assertion,
    frameworks.doctest,
    compilers.diagnostic,
    compilers.driver,
    compilers.linker,
    compilers.build_tool,
    compilers.as_json,
    crashes.signal,
)


def read(output: str, root: str = "") -> tuple[Finding, ...]:
    """What an output tells, errors, crashes and failed tests before warnings, each in the order of the output.

    ``root`` is the folder that the tree had where the program ran: paths below it become relative to the tree, others
    are left out. ``symbols`` are names as the output spells them; ``linked`` looks them up.
    """
    read = Output(ctest.in_order(readable(output)), root)
    at = 0
    while at < len(read.lines):
        if not _TELLS.search(read.lines[at]) or read.directory(at):
            at += 1
            continue
        before = len(read.drafts)
        after = next((end for each in _RECOGNISERS if (end := each(read, at))), 0)
        read.enclose(before)
        at = max(at + 1, after)
    ctest.settled(read)
    return finished(read)


def told(findings: tuple[Finding, ...]) -> str:
    """How many there are of which kind, in one line."""
    counts = {kind: sum(finding.kind is kind for finding in findings) for kind in FindingKind}
    said = [f"{count} {_WORDS[kind][count > 1]}" for kind, count in counts.items() if count]
    return ", ".join(said) or "nothing found in the output"


_WORDS = {
    FindingKind.ERROR: ("error", "errors"),
    FindingKind.WARNING: ("warning", "warnings"),
    FindingKind.TEST: ("failed check or test", "failed checks or tests"),
    FindingKind.CRASH: ("crash", "crashes"),
}
