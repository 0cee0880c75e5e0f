"""What lies between two commits, as git tells it: commits, files, and the symbols of both sides compared.

A pure function of the repository and of the macros that the index knows. Bounded, and says where it was cut. What pull
requests say of it and how it is told is not its business.
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from hub import reasons
from hub.changes.model import ChangedDocument, ChangedFile, Changes, Landing, Range, Told
from hub.errors import ChangeError
from indexer import history
from indexer.comparing import MOST_SYMBOLS, Side, SymbolChange, compared, is_compared, macros_of
from indexer.files import FileRules
from indexer.history import FileChange, FileStatus, HistorySource

# Bounds of one range, each with its reach. What is beyond is counted, told and left out.
MOST_COMMITS = 1_000  # whose messages are read; 100 to 10,000
MOST_SUBJECT_CHARS = 500
MOST_MESSAGE_CHARS = 200_000  # of all messages, in which names of documents are looked for
MOST_FILES = 2_000  # that are named; 200 to 20,000
MOST_COMPARED_FILES = 400  # whose symbols are compared, both sides parsed; 50 to 2,000
MOST_COMPARED_BYTES = 16 << 20  # of all of them; about 20 s of parsing
MOST_SECONDS = 60.0  # of comparing; what takes longer is cut, and not kept
MOST_DOCUMENTS = 40
MOST_NUMBERS = 50  # of issues and pull requests
_DOCUMENTS = (".md", ".markdown", ".rst", ".adoc", ".txt")

_RANGE = re.compile(r"(?P<base>[^\s]{0,200}?)(?P<dots>\.{2,3})(?P<head>[^\s]{0,200})")
# ``Merge pull request #12 from``, ``(#12)`` at the end of a subject, ``See merge request group/project!3``.
_PULL_NUMBER = re.compile(
    r"\AMerge pull request #(?P<merged>\d{1,9})\b|\(#(?P<squashed>\d{1,9})\)\s*\Z"
    r"|\bSee merge request [\w./-]{0,200}!(?P<gitlab>\d{1,9})\b|\(!(?P<squashed_there>\d{1,9})\)\s*\Z",
    re.MULTILINE,
)
_OTHER_ISSUES = re.compile(r"(?<![\w/.-])[\w.-]{1,80}/[\w./-]{1,120}[#!]\d{1,7}\b|(?<![\w&/!])!\d{1,7}\b")
_WRITTEN_PATH = re.compile(r"[\w./-]{1,200}\.(?:md|markdown|rst|adoc|txt)\b")
_WRITTEN_NUMBER = re.compile(r"\b(?:ADR|RFC|decision)[ \t_#-]{0,3}(?P<number>\d{1,5})\b", re.IGNORECASE)
_NUMBERED = re.compile(r"(?:^|/)(?:adr|rfc|decision)?[-_]?0*(?P<number>\d{1,5})[-_.][^/]*$", re.IGNORECASE)


def range_of(root: Path, asked: str, tip: str) -> Range:
    """The range that ``A..B``, ``A...B`` or a commit means; what is left out of the former stands for ``tip``.

    A commit means what it brought to the branch: all that its first parent has not. Raises ChangeError.
    """
    said = _RANGE.fullmatch(asked.strip())
    if said is None:
        commit = _resolved(root, asked.strip())
        return step_of(history.own_line(root, commit, 1)[0])
    base, head = _resolved(root, said["base"] or tip), _resolved(root, said["head"] or tip)
    if said["dots"] == "...":
        met = history.meeting(root, base, head)
        if met is None:
            raise ChangeError(f"{said['base']} and {said['head']} have no commit in common.", "Ask for A..B instead.")
        base = met
    return Range(base, head)


def step_of(step: history.Step) -> Range:
    """What one commit of a branch's own line brought to it."""
    if len(step.parents) > 1:
        landing = Landing.MERGE
    else:
        landing = Landing.SQUASH if pull_numbers(step.subject) else Landing.ASKED
    return Range(step.parents[0] if step.parents else "", step.commit, landing)


def read(
    root: Path,
    asked: Range,
    knowledge: str,
    rules: FileRules,
    cancelled: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Changes:
    """What lies in the range, without pull requests, issues of theirs, and summary. Raises ChangeError.

    ``knowledge`` is what the index keeps of macros. A merge's own commit counts to what it brings.
    """
    notes: list[str] = []
    commits, total = _commits(root, asked, rules, notes)
    files = [each for each in _files(root, asked) if not rules.excludes(each.path)]
    symbols, whole = _symbols(root, files, knowledge, rules, _Until(clock() + MOST_SECONDS, clock, cancelled), notes)
    if len(files) > MOST_FILES:
        notes.append(f"{len(files):,} files differ; the first {MOST_FILES:,} by path are named.")
    messages = [f"{told.subject}\n{told.body}" for told in commits]
    named = dict.fromkeys(issue for message in messages for issue in issues_in(message))
    return Changes(
        asked.base,
        asked.head,
        asked.landing,
        commits,
        tuple(ChangedFile(each.status, each.path, each.before) for each in files[:MOST_FILES]),
        symbols,
        issues=tuple(named)[:MOST_NUMBERS],
        documents=_documents(root, asked, files, "\n".join(messages)[:MOST_MESSAGE_CHARS], rules),
        notes=tuple(notes),
        total_commits=total,
        total_files=len(files),
        whole=whole,
    )


def pull_numbers(message: str) -> tuple[int, ...]:
    """The numbers of the pull requests that a message says it brings in."""
    numbers = (int(next(group for group in found.groups() if group)) for found in _PULL_NUMBER.finditer(message))
    return tuple(dict.fromkeys(numbers))[:MOST_NUMBERS]


def issues_in(text: str) -> tuple[str, ...]:
    """The issues and pull requests that a text names, those of other projects too, each once."""
    found = [*reasons.issues(text), *(said.group() for said in _OTHER_ISSUES.finditer(text[: reasons.MOST_READ]))]
    return tuple(dict.fromkeys(found))[:MOST_NUMBERS]


def unknown(revision: str, hint: str = "Name a commit or A..B of the branch that is indexed.") -> ChangeError:
    """The error for a revision that is not there, or that may not be seen."""
    return ChangeError(f"{revision[:100]!r} is no commit that git knows here.", hint)


def _resolved(root: Path, revision: str) -> str:
    commit = history.resolved(root, revision)
    if commit is None and history.is_shallow(root):
        raise unknown(revision, "The clone is shallow: `git fetch --unshallow` gets what came before.")
    if commit is None:
        raise unknown(revision)
    return commit


def _commits(root: Path, asked: Range, rules: FileRules, notes: list[str]) -> tuple[tuple[Told, ...], int]:
    source = history.source_of(root, f"{asked.base}..{asked.head}" if asked.base else asked.head)
    if source is None:
        raise ChangeError("The tree is in no git repository.", "What changed is told of commits.")
    most = MOST_COMMITS if asked.base else 1
    found = history.commits(source, most + 1 if asked.base else 1)
    total = len(found)
    if total > most:
        total = history.commits_between(root, asked.base, asked.head) or total
        notes.append(f"{total:,} commits; the messages of the newest {most:,} were read.")
    if history.is_shallow(root):
        notes.append(
            "The clone is shallow: commits before its oldest one are not at hand (git fetch --unshallow gets them)."
        )
    if asked.base and history.left_behind(root, (asked.base,), asked.head):
        notes.append(
            f"{asked.base[:12]} is not behind {asked.head[:12]}: the files are compared as they are, and its own"
            " commits are not told of."
        )
    read_from = HistorySource(source.repository, asked.head, source.prefix, rules.secrets_redact)
    parents = dict(found[:most])
    with closing(history.entries(read_from, list(parents))) as entries:
        told = tuple(
            Told(
                each.hash,
                each.subject[:MOST_SUBJECT_CHARS],
                each.body,
                each.author,
                each.time_s,
                parents.get(each.hash, 1) > 1,
            )
            for each in entries
        )
    return told, total


def _files(root: Path, asked: Range) -> list[FileChange]:
    if asked.base:
        between = history.files_between(root, asked.base, asked.head)
    else:
        first = history.files_at(root, asked.head)
        between = (
            None
            if first is None
            else tuple(FileChange(FileStatus.ADDED, each.path, None, "", each.blob) for each in first)
        )
    if between is None:
        raise ChangeError(
            f"Git cannot compare {asked.base[:12]} with {asked.head[:12]}.",
            "Objects may be missing: this is a shallow or partial clone, or one of the commits is gone.",
        )
    return list(between)


class _Until:
    """Says when to stop: when asked to, or when the time is up."""

    def __init__(self, until: float, clock: Callable[[], float], cancelled: Callable[[], bool]) -> None:
        self._until = until
        self._clock = clock
        self._cancelled = cancelled
        self.stopped = False

    def __call__(self) -> bool:
        self.stopped = self.stopped or self._cancelled() or self._clock() > self._until
        return self.stopped


def _symbols(
    root: Path, files: Sequence[FileChange], knowledge: str, rules: FileRules, until: _Until, notes: list[str]
) -> tuple[tuple[SymbolChange, ...], bool]:
    """(what differs, whether it was all looked at in time)."""
    code = [each for each in files if is_compared(each.path) and each.blob_before != each.blob]
    # A file that was only renamed says nothing new, and one that another took in place of it still does.
    code = code[:MOST_COMPARED_FILES]
    names = [name for each in code for name in (each.blob_before, each.blob) if name]
    held = history.blobs(root, names, MOST_COMPARED_BYTES)
    pairs = []
    missing = 0
    for each in code:
        if any(name and name not in held for name in (each.blob_before, each.blob)):
            missing += 1
            continue
        old = Side(each.before or each.path, held[each.blob_before]) if each.blob_before else None
        new = Side(each.path, held[each.blob]) if each.blob else None
        pairs.append((old, new))
    all_code = sum(is_compared(each.path) and each.blob_before != each.blob for each in files)
    left_out = all_code - len(pairs)
    if left_out:
        why = "they are too many or too large, or their contents are not at hand" if missing else "they are too many"
        notes.append(f"The symbols of {left_out:,} of {all_code:,} changed files are not compared: {why}.")
    found = compared(pairs, macros_of(knowledge), rules, until)
    if until.stopped:
        notes.append("The symbols are not compared: that took too long.")
        return (), False
    if len(found) >= MOST_SYMBOLS:
        notes.append(f"More than {MOST_SYMBOLS:,} symbols differ; the first of them by path are named.")
    return found, True


def _documents(
    root: Path, asked: Range, files: Sequence[FileChange], messages: str, rules: FileRules
) -> tuple[ChangedDocument, ...]:
    """Records of decisions first, then other documents, by path."""
    words = {FileStatus.ADDED: "added", FileStatus.DELETED: "removed", FileStatus.RENAMED: "moved"}
    found = {
        each.path: words.get(each.status, "changed")
        for each in files
        if each.path.lower().endswith(_DOCUMENTS) and reasons.is_document(each.path)
    }
    paths = {written.lstrip("./") for written in _WRITTEN_PATH.findall(messages)}
    numbers = {int(said["number"]) for said in _WRITTEN_NUMBER.finditer(messages)}
    if paths or numbers:
        for each in history.files_at(root, asked.head) or []:
            if not each.path.lower().endswith(_DOCUMENTS) or rules.excludes(each.path):
                continue
            numbered = _NUMBERED.search(each.path) if numbers and reasons.is_decision(each.path) else None
            if each.path in paths or (numbered and int(numbered["number"]) in numbers):
                found.setdefault(each.path, "named by a message")
    told = [ChangedDocument(path, how, reasons.is_decision(path)) for path, how in found.items()]
    return tuple(sorted(told, key=lambda each: (not each.recorded, each.path)))[:MOST_DOCUMENTS]
