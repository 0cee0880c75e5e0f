"""What merges and pull requests say of what was asked: of the commits that made it, or by their own words.

Knows what they changed only as it is kept (hub.changes); how much of a reason that is, is told by whoever asks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

from hub import reasons
from hub.changes import Changes, Pull, Shelf, why_lines
from hub.changes.shapes import as_evidence
from hub.prompting import Passage, Stretch
from indexer.model import Span

MOST_BROUGHT = 60  # commits of a story that are looked up; 20 to 200
MOST_LANDED = 6  # merges of one question; 3 to 20
MOST_SENTENCES = 3
MOST_SHOWN = 2  # merges in a prompt
PLACE = "merge://"
LAST = 5.0  # what the last merge is worth where it is asked for: more than anything that is merely like the question

_LAST = re.compile(
    r"\b(?:last|latest|newest|recent(?:ly)?|previous)\b[^.?!]{0,40}\b(?:merges?d?|pulls?|PRs?|MRs?|chang(?:es?|ed)"
    r"|commits?)\b|\b(?:changed|merged|landed|new)\b[^.?!]{0,30}\b(?:last|lately|recently)\b",
    re.IGNORECASE,
)

_ABOUT_MERGES = re.compile(
    r"\b(?:merges?|merged|pull requests?|merge requests?|PRs?|MRs?)\b|(?<![\w&])[#!]\d{1,7}\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Landed:
    """What a merge or a pull request says. ``worth`` is 0 to 1 of what it is found by, or LAST."""

    says: tuple[str, ...]
    title: str
    commit: str
    time_s: int
    how: str
    worth: float
    by_pull: bool  # said by a pull request


def brought(shelf: Shelf, commits: Sequence[str]) -> list[Landed]:
    """What the merges and pull requests that brought these commits in say why, each once."""
    found = []
    seen = set()
    for commit, changes in shelf.bringing(commits[:MOST_BROUGHT]).items():
        for pull in changes.pull_requests[:MOST_LANDED]:
            says = reasons.why(pull.body, MOST_SENTENCES)
            if says and pull.called not in seen:
                seen.add(pull.called)
                how = f"the pull request that brought in {commit[:12]}"
                found.append(Landed(says, _title(pull), changes.head, changes.time_s, how, 1.0, by_pull=True))
        first = changes.commits[0] if changes.commits else None
        if first and first.merge and first.commit != commit and changes.head not in seen:
            seen.add(changes.head)
            says = reasons.why(first.body, MOST_SENTENCES)
            if says:
                how = f"the merge that brought in {commit[:12]}"
                found.append(Landed(says, changes.title, changes.head, changes.time_s, how, 1.0, by_pull=False))
    return found


def speaking(shelf: Shelf, question: str) -> list[Landed]:
    """The merges and pull requests that speak of a question, the best first; the last ones if those are asked for."""
    found: dict[str, Landed] = {}
    if _LAST.search(question[:2_000]):
        for rank, changes in enumerate(shelf.newest(MOST_LANDED), 1):
            found[changes.head] = _landed(changes, "it was merged last" if rank == 1 else "merged before", LAST / rank)
    for rank, changes in enumerate(shelf.matching(question, MOST_LANDED), 1):
        found.setdefault(changes.head, _landed(changes, "what it merged speaks of that", 1 / rank))
    for rank, pull in enumerate(shelf.pulls(question, MOST_LANDED), 1):
        says = reasons.why(pull.body, MOST_SENTENCES) or (pull.title,)
        known = pull.merged_as in found
        if not known and pull.merged_as and pull.state == "merged":
            how = "the pull request speaks of that"
            found[pull.merged_as] = Landed(says, _title(pull), pull.merged_as, 0, how, 1 / rank, by_pull=True)
    return list(found.values())


def passages(shelf: Shelf, question: str, score: float) -> tuple[Passage, ...]:
    """What a prompt may show of merges, where the question is about merges: the best MOST_SHOWN, with that score.

    Each stands at a place that no file of a tree can have, such as ``merge://4f2a90c1``.
    """
    if not (_LAST.search(question[:2_000]) or _ABOUT_MERGES.search(question[:2_000])):
        return ()
    newest = shelf.newest(MOST_SHOWN) if _LAST.search(question[:2_000]) else ()
    found = {each.head: each for each in (*newest, *shelf.matching(question, MOST_SHOWN))}
    shown = []
    for place, changes in enumerate(list(found.values())[:MOST_SHOWN]):
        text = as_evidence(changes)
        span = Span(f"{PLACE}{changes.head[:12]}", 1, text.count("\n") + 1)
        shown.append(Passage((Stretch(span, text),), score - place / 100, changes.title[:200]))
    return tuple(shown)


def _landed(changes: Changes, how: str, worth: float) -> Landed:
    says = why_lines(changes, MOST_SENTENCES) if worth <= 1 else ()
    says = says or (shorten(changes.summary.text, reasons.LONGEST_SENTENCE, placeholder=" …"),)
    return Landed(says, changes.title, changes.head, changes.time_s, how, worth, by_pull=bool(changes.pull_requests))


def _title(pull: Pull) -> str:
    return f"{pull.title} ({pull.called})"
