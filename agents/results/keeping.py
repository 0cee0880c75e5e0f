"""What a run told, written down in a session: one note for the run, one for each thing that it found."""

from typing import TYPE_CHECKING

from agents.model import Finding, Run, RunState
from agents.results.reading import told
from hub.knowledge.model import Anchor, NoteKind
from hub.prompting import visible

if TYPE_CHECKING:
    from hub.auth.model import Principal
    from hub.knowledge import Note, Sessions

MOST_KEPT = 40  # findings of one run that become notes
_MOST_DETAIL = 4_000  # bytes
_MOST_DIFF = 12_000


def kept(sessions: "Sessions", principal: "Principal", handle: str, run: Run) -> "tuple[Note, ...]":
    """Writes a run that has ended, its diff and its findings into a session, and marks what earlier runs of the same
    recipe found as overtaken. The notes, that of the run first. Raises UnknownSession and KnowledgeError.
    """
    source = f"run of {run.recipe}, {run.id}"
    if run.state in (RunState.PASSED, RunState.FAILED):  # what did not run to its end proves nothing
        sessions.overtaken(
            principal, handle, f"run of {run.recipe}, ", f"{run.recipe} ran again since ({run.id}): {run.state}"
        )
    made = [
        sessions.note(principal, handle, NoteKind.RUN, f"{run.recipe}: {run.state}", _summary(run), (), source),
    ]
    if run.diff.strip():
        anchors = [Anchor(path=path) for path in _changed(run.diff)]
        title = f"patch that {run.recipe} ran with: {run.state}"
        made.append(sessions.note(principal, handle, NoteKind.DIFF, title, _cut(run.diff, _MOST_DIFF), anchors, source))
    for finding in run.findings[:MOST_KEPT]:
        anchors = [Anchor(path=finding.path, line=finding.line)] if finding.path else []
        anchors += [Anchor(symbol=symbol) for symbol in finding.symbols]
        made.append(
            sessions.note(principal, handle, NoteKind.FINDING, _title(finding), _text(finding), anchors, source)
        )
    return tuple(made)


def _summary(run: Run) -> str:
    steps = "; ".join(f"{step.argv[0] if step.argv else '?'} ended with {step.code}" for step in run.steps)
    where = f"{run.commit[:12]} with changes" if run.changes else run.commit[:12]
    parts = [
        f"{run.recipe} {run.state} at {where} in {run.workspace}.",
        f"{run.reason}." if run.reason else "",
        f"Steps: {steps}." if steps else "",
        f"{told(run.findings)}." if run.findings else "",
        f"Patch {run.patch}." if run.patch else "",
    ]
    return _cut("\n".join(part for part in parts if part), _MOST_DETAIL)


def _title(finding: Finding) -> str:
    where = f"{finding.path}:{finding.line}" if finding.line else finding.path
    about = " ".join(part for part in (finding.kind.value, finding.test, where) if part)
    return f"{about}: {finding.message}"


def _text(finding: Finding) -> str:
    return _cut(f"{finding.message}\n{finding.detail}".strip(), _MOST_DETAIL) or finding.kind.value


def _cut(text: str, most: int) -> str:
    """The text within so many bytes of UTF-8, as it is kept: with covert characters spelt out."""
    shown = visible(text).encode()
    return shown.decode() if len(shown) <= most else f"{shown[:most].decode(errors='ignore')}\n… cut short"


def _changed(diff: str) -> list[str]:
    found = dict.fromkeys(
        line[6:].split("\t")[0] for line in diff.splitlines() if line.startswith(("+++ b/", "--- a/"))
    )
    return list(found)[:32]
