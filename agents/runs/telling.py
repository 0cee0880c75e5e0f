"""How a run is told: what failed first, with its place and symbols, then the end of the output, then the next step.

What programs wrote stands behind a bar at the beginning of each line, so that it cannot pass for our own words.
"""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from agents.model import Finding, FindingKind, Run, RunState, Step
from agents.recipes import APPLY_PATCH, WRITE_BRANCH
from agents.text import DEFAULT_TOKENS, MOST_TOKENS, one_line, shortened, size
from hub.auth.keys import written_time

_BAR = "| "
_MOST_FINDINGS = {FindingKind.TEST: 20, FindingKind.CRASH: 5, FindingKind.ERROR: 15, FindingKind.WARNING: 5}
_HEADINGS = {
    FindingKind.TEST: ("failed test", "failed tests"),
    FindingKind.CRASH: ("crash", "crashes"),
    FindingKind.ERROR: ("error", "errors"),
    FindingKind.WARNING: ("warning", "warnings"),
}
_MOST_SYMBOLS = 5
_MOST_DETAIL_LINES = 6
_MOST_MESSAGE_CHARS = 300
_MOST_SHOWN_CHARS = 200  # of a symbol or place that is the next thing to look at
_TAIL_BYTES = 6_000  # of the output, where something failed
_PASSED_TAIL_BYTES = 1_200
_DIFF_BYTES = 6_000
_MOST_LINE_CHARS = 400
_CUT = "... cut here"


def told(run: Run, may_write: bool = False, budget: int = DEFAULT_TOKENS) -> str:
    """A run for an agent, within a budget of tokens. ``may_write`` is whether a branch may be the next step."""
    parts = [_head(run), *_steps(run), *_findings(run.findings)]
    if run.diff:
        parts += ["What the patch changed:", _barred(run.diff, _DIFF_BYTES, from_end=False)]
    if run.output and run.state.ended:
        most = _PASSED_TAIL_BYTES if run.state is RunState.PASSED else _TAIL_BYTES
        parts += [_output_heading(run, most), _barred(run.output, most, from_end=True)]
    following = f"Next: {_next(run, may_write)}"
    return f"{shortened(chr(10).join(parts), budget - 150)}\n{following}"


def told_output(run: Run) -> str:
    """All that is kept of the last step's output, as far as one result may hold it."""
    if not run.output:
        return (
            f"{_head(run)}\nThere is no output{'' if run.state.ended else ' yet: it is told when the run has ended'}."
        )
    most = int(MOST_TOKENS * 3)
    return "\n".join([_head(run), _output_heading(run, most), _barred(run.output, most, from_end=True)])


def in_one_line(run: Run) -> str:
    """A run in a list of them."""
    seconds = "" if run.started_at is None or run.ended_at is None else f", {run.ended_at - run.started_at:.1f} s"
    failed = sum(finding.kind is FindingKind.TEST for finding in run.findings)
    tests = f", {failed} failed {'test' if failed == 1 else 'tests'}" if failed else ""
    when = written_time(run.created_at)
    return f"{run.id}  {when}  {run.workspace}  {run.recipe}  {run.state}{seconds}{tests}"


def run_shape(run: Run) -> dict[str, Any]:
    """A run as JSON."""
    return {
        "id": run.id,
        "workspace": run.workspace,
        "recipe": run.recipe,
        "asked_by": run.asked_by,
        "state": run.state.value,
        "reason": run.reason,
        "stage": run.stage,
        "commit": run.commit,
        "changes": run.changes,
        "patch": run.patch,
        "steps": [{"command": list(step.argv), "code": step.code, "seconds": step.seconds} for step in run.steps],
        "findings": [_finding_shape(finding) for finding in run.findings],
        "output": run.output,
        "output_bytes": run.output_bytes,
        "diff": run.diff,
        "layers": list(run.layers),
        "created_at": written_time(run.created_at),
        "started_at": written_time(run.started_at),
        "ended_at": written_time(run.ended_at),
    }


def _finding_shape(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "message": finding.message,
        "tool": finding.tool,
        "path": finding.path,
        "line": finding.line,
        "test": finding.test,
        "detail": finding.detail,
        "symbols": list(finding.symbols),
    }


def _head(run: Run) -> str:
    patched = " with a patch" if run.diff else ""
    changed = " and the changes that are not committed" if run.changes else ""
    words = (
        f"{run.state.upper()}: {run.recipe} in {run.workspace}, run {run.id}, on {run.commit[:12]}{changed}{patched}."
    )
    return one_line(f"{words} {run.reason or run.stage}".strip())


def _steps(run: Run) -> Iterator[str]:
    for number, step in enumerate(run.steps, 1):
        how = "stopped" if step.code is None else f"code {step.code}"
        yield f"  {number}. {_command(step)}: {how}, {step.seconds:.1f} s"


def _command(step: Step) -> str:
    text = one_line(shlex.join(step.argv))
    return text if len(text) <= 160 else text[:157] + "..."


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    for kind, most in _MOST_FINDINGS.items():
        of_kind = [finding for finding in findings if finding.kind is kind]
        if not of_kind:
            continue
        one, many = _HEADINGS[kind]
        yield f"{len(of_kind)} {one if len(of_kind) == 1 else many}:"
        for finding in of_kind[:most]:
            yield from _finding(finding)
        if len(of_kind) > most:
            yield f"- and {len(of_kind) - most} more; job with action=output shows what was written"


def _finding(finding: Finding) -> Iterator[str]:
    where = f"{finding.path}:{finding.line}" if finding.path and finding.line else finding.path
    message = finding.message[:_MOST_MESSAGE_CHARS]
    named = " ".join(part for part in (where, finding.test) if part)
    symbols = ", ".join(finding.symbols[:_MOST_SYMBOLS])
    yield one_line(f"- {named}{': ' if named else ''}{message}") + (one_line(f"  [{symbols}]") if symbols else "")
    for line in finding.detail.splitlines()[:_MOST_DETAIL_LINES]:
        yield f"    {_BAR}{one_line(line[:_MOST_LINE_CHARS])}"


def _output_heading(run: Run, most: int) -> str:
    command = f" of {_command(run.steps[-1])}" if run.steps else ""
    part = "the end of what it wrote" if size(run.output) > most else "what it wrote"
    return f"Output{command}, {part} ({run.output_bytes:,} bytes in all steps):"


def _barred(text: str, most_bytes: int, *, from_end: bool) -> str:
    """As many whole lines as have room, from the beginning or the end, each behind a bar."""
    lines = [one_line(line[:_MOST_LINE_CHARS]) for line in text.splitlines()]
    kept: list[str] = []
    room = most_bytes
    for line in reversed(lines) if from_end else lines:
        room -= size(line) + len(_BAR) + 1
        if room < 0:
            kept.append(_CUT)
            break
        kept.append(_BAR + line)
    return "\n".join(reversed(kept) if from_end else kept)


def _next(run: Run, may_write: bool) -> str:
    if not run.state.ended:
        return f"call job with id={run.id} and wait=25 until it has ended."
    if run.state is RunState.PASSED:
        if run.patch and may_write:
            return (
                f'to put the patch on a branch, call run with recipe={WRITE_BRANCH} and arguments=["run={run.id}",'
                ' "branch=NAME", "message=..."]; a person decides.'
            )
        return (
            "nothing is left to do." if run.recipe != APPLY_PATCH else "tell your user: the patch applies and passes."
        )
    if run.state is RunState.FAILED:
        symbol = next((finding.symbols[0] for finding in run.findings if finding.symbols), "")
        place = next((f"{finding.path}:{finding.line}" for finding in run.findings if finding.path), "")
        about = (symbol or place)[:_MOST_SHOWN_CHARS]
        return f"explore {one_line(about)}, mend it, and run {run.recipe} again." if about else "see its output."
    if run.state is RunState.STOPPED:
        return "run less at once by its arguments, or tell your user which limit it met."
    return "tell your user." if run.state is RunState.BROKEN else "run it again when it is wanted."
