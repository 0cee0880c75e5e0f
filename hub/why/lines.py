"""Where lines of the indexed text stood in the commit that the index shows, and which commits made them. Asks git of
one file only; what the commits say is not its business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from indexer import history
from indexer.history import HistorySource
from indexer.index import Index
from indexer.model import Span
from indexer.secrets import redact

MOST_COMPARED = 2_000  # lines between the ends that are equal, compared one by one; 500 to 5,000
MOST_COMMITS = 60  # of a story; 20 to 200, and what is beyond is told
MOST_MOVES = 3  # places that lines were moved from, followed further; each costs a call of git
_EVERY_LINE = 1 << 30


@dataclass(frozen=True, slots=True)
class Made:
    """Which commits made some lines, newest first, each with what it did to them."""

    commits: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    known: bool = False  # whether git told anything; else the index's own tables have to


def made(index: Index, span: Span) -> Made:
    """The commits of these lines of a file, numbered as the index has them. Bounded in time; never raises."""
    commit = index.stamp().commit
    if commit is None:
        return Made(notes=("The tree is in no git repository, so no commit is known.",))
    source = history.source_of(index.root, commit)
    before = history.text_at(index.root, commit, span.path) if source else None
    if source is None or before is None:
        return Made(notes=(_why_not(source, commit, span.path),))
    notes = _shallow(index)
    then, fresh = stood(_indexed(index, span.path), _lines(redact(before)[0]), span.first_line, span.last_line)
    if fresh:
        what = f"Line {fresh[0]} of {span.path} is" if len(fresh) == 1 else f"{len(fresh)} lines of {span} are"
        notes = (*notes, f"{what} not committed yet.")
    if then is None:
        return Made(notes=notes, known=True)
    told, whole = _followed(source, span.path, then)
    if not whole:
        notes = (*notes, "Older commits of these lines may be missing: there are many, or git could not read them all.")
    return Made(tuple(told.items()), notes, known=True)


def stood(now: Sequence[str], before: Sequence[str], first: int, last: int) -> tuple[tuple[int, int] | None, list[int]]:
    """((first, last) line of a stretch as an earlier text has it, the lines of it that the earlier text lacks).

    Numbers start at 1. The first is None where the earlier text has none of them.
    """
    last = min(last, len(now))
    begin = 0
    shortest = min(len(now), len(before))
    while begin < shortest and now[begin] == before[begin]:
        begin += 1
    end = 0
    while end < shortest - begin and now[-1 - end] == before[-1 - end]:
        end += 1
    shift = len(before) - len(now)
    same: dict[int, int] = {}
    middle_now, middle_before = now[begin : len(now) - end], before[begin : len(before) - end]
    if max(len(middle_now), len(middle_before)) <= MOST_COMPARED:
        for block in SequenceMatcher(None, middle_now, middle_before).get_matching_blocks():
            same |= {begin + block.a + each + 1: begin + block.b + each + 1 for each in range(block.size)}
    there, fresh = [], []
    for number in range(first, last + 1):
        if number <= begin:
            there.append(number)
        elif number > len(now) - end:
            there.append(number + shift)
        elif number in same:
            there.append(same[number])
        else:
            fresh.append(number)
    return ((min(there), max(there)) if there else None), fresh


def _followed(source: HistorySource, path: str, then: tuple[int, int]) -> tuple[dict[str, str], bool]:
    """(commit -> what it did, whether that is all): newest first within each place that the lines stood at."""
    told: dict[str, str] = {}
    origins = history.origins(source, path, *then)
    wrote = {origin.commit for origin in origins}
    changed = history.line_commits(source, path, *then, MOST_COMMITS)
    for commit in changed.hashes:
        told[commit] = "wrote lines of it that still stand" if commit in wrote else "changed these lines"
    whole = changed.whole
    for origin in origins:
        told.setdefault(origin.commit, "wrote lines of it that still stand")
    elsewhere = [origin for origin in origins if origin.path and origin.path != path]
    for origin in sorted(elsewhere, key=lambda each: -each.lines)[:MOST_MOVES]:
        end = origin.first_line + origin.lines - 1
        earlier = replace(source, revision=origin.commit)
        older = history.line_commits(earlier, origin.path, origin.first_line, end, MOST_COMMITS)
        for commit in older.hashes:
            told.setdefault(commit, f"changed these lines while they stood in {origin.path}")
    return told, whole


def _indexed(index: Index, path: str) -> list[str]:
    return _lines("".join(chunk.text for chunk in index.table.chunks_at(Span(path, 1, _EVERY_LINE))))


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]


def _shallow(index: Index) -> tuple[str, ...]:
    if not history.is_shallow(index.root):
        return ()
    return ("The clone is shallow: what came before its oldest commit is not at hand (git fetch --unshallow gets it).",)


def _why_not(source: HistorySource | None, commit: str, path: str) -> str:
    if source is None or not history.commits(source, 1):
        return f"git cannot be asked about {commit[:12]} any more; what the index kept of the history is told instead."
    return (
        f"{path} is not in commit {commit[:12]}, or its contents are not at hand: it is not committed yet, or this is a"
        " partial clone. What the index kept of the history is told instead."
    )
