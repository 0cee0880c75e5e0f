"""What changed and why: of a range of commits the files, symbols, messages and pull requests, and what those name.

A record is a function of the repository and of the texts of pull requests, made when it is asked for and kept. Those of
the newest merges are made after indexing, each once; what the branch no longer leads back to is let go.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from hub import impact
from hub.changes import telling
from hub.changes.model import (
    ChangedDocument,
    ChangedFile,
    ChangeKind,
    Changes,
    FileStatus,
    Landing,
    Range,
    Source,
    Summary,
    SymbolChange,
    Told,
)
from hub.changes.reading import pull_numbers, range_of, read, step_of, unknown
from hub.changes.records import FILE, Records
from hub.config import Settings
from hub.errors import ChangeError
from hub.knowledge.pulls import Pull, Pulls
from hub.model import Backend
from indexer import history
from indexer.errors import DataFolderError
from indexer.files import FileRules
from indexer.index import DataFolder, Index
from indexer.pipeline import FACTS_VERSION

__all__ = [
    "FILE",
    "ChangeKind",
    "ChangedDocument",
    "ChangedFile",
    "Changes",
    "FileStatus",
    "Landing",
    "Pull",
    "Range",
    "Shelf",
    "Source",
    "Summary",
    "SymbolChange",
    "Told",
    "keep_up",
    "rules_of",
    "why_lines",
]

_T = TypeVar("_T")

LINEAR_COMMITS = 20  # that are told of a branch on which nothing was merged
OWN_LINE = 2_000  # commits of the branch that are looked through for merges; 200 to 20,000
MOST_PULLS = 20  # of one range
MOST_REACHING = 60  # changed symbols that are followed; 10 to 500
MOST_REACHED = 40  # places that are told; 10 to 500
MOST_LANDED = 200  # records that a number is looked for in
KEEPING_S = 10.0  # that one call of keep_up may begin new records in; the rest is for the next

_MOST_QUERY = 2_000  # characters of a query that numbers of pull requests are looked for in
_NUMBER = re.compile(
    r"(?:(?<![\w&])[#!]|\b(?:pull request|merge request|PR|MR|GH)[ \t#!-]{1,3})(?P<number>\d{1,9})\b", re.IGNORECASE
)

why_lines = telling.why_lines


def never() -> bool:
    """For callers that do not cancel."""
    return False


class Shelf:
    """What is kept of the changes of an index, and the making of more. Opens its files for each question anew.

    Without a data folder nothing is kept, and no pull request is known.
    """

    def __init__(self, index: Index, data: DataFolder | None = None, rules: FileRules | None = None) -> None:
        self._index = index
        self._data = data
        self._rules = rules or FileRules()

    def asked_for(self, asked: str, cancelled: Callable[[], bool] = never) -> Changes:
        """What a commit brought, or what lies in ``A..B`` or ``A...B``, with what it reaches. Raises ChangeError."""
        return with_reach(self._index, self.of(range_of(self._index.root, asked, _tip(self._index)), cancelled))

    def asked_from_afar(self, asked: str, cancelled: Callable[[], bool] = never) -> Changes:
        """The same for those who may read the index, not the repository: only what its commit leads back to.

        Raises ChangeError, for what is elsewhere as for what is not there.
        """
        tip = _tip(self._index)
        wanted = range_of(self._index.root, asked, tip)
        ends = [commit for commit in (wanted.base, wanted.head) if commit]
        if history.left_behind(self._index.root, ends, tip):
            raise unknown(asked)
        return with_reach(self._index, self.of(wanted, cancelled))

    def recent(self, limit: int, cancelled: Callable[[], bool] = never) -> tuple[Changes, ...]:
        """What reached the branch last, the newest first: its merges and squashed pull requests, else its last commits.

        Nothing outside git. Raises ChangeError.
        """
        commit = _shown(self._index)
        line = history.own_line(self._index.root, commit, OWN_LINE, ".") if commit else ()
        landings = [step for step in line if _lands(step)][: max(1, limit)]
        if landings or not line:
            return tuple(self.of(step_of(step), cancelled) for step in landings)
        oldest = line[min(len(line), LINEAR_COMMITS) - 1]
        # The first commit of all is what everything began as, and no change of it.
        base = oldest.parents[0] if oldest.parents else oldest.commit
        return (self.of(Range(base, line[0].commit), cancelled),)

    def of(self, asked: Range, cancelled: Callable[[], bool] = never) -> Changes:
        """What lies in a range, out of the records where it is kept, with its pull requests and a summary.

        Raises ChangeError.
        """
        if asked.base == asked.head:
            return telling.with_pulls(Changes(asked.base, asked.head, asked.landing, (), (), ()), ())
        facts = facts_of(self._rules)
        kept = self._opened(Records.reading, lambda records: records.get(asked, facts))
        if kept is not None:
            return self.joined((kept,))[0]
        made = read(self._index.root, asked, self._index.macros.knowledge(), self._rules, cancelled)
        self._opened(Records, lambda records: records.keep(made, facts))
        return self.joined((made,))[0]

    def summarized(self, changes: Changes, backend: Backend, answer_tokens: int) -> Changes:
        """The same with a summary by a model, which is kept; as it is, with a note, where none can be shown."""
        if changes.summary.generated:
            return changes
        made = telling.written_by(backend, changes, answer_tokens)
        if made.summary.generated:
            self._opened(Records, lambda records: records.keep_summary(made, _about(changes)))
        return made

    def newest(self, limit: int) -> tuple[Changes, ...]:
        """The records of what reached the branch last, the newest first."""
        return self.joined(self._opened(Records.reading, lambda records: records.landed(limit)) or ())

    def matching(self, query: str, limit: int) -> tuple[Changes, ...]:
        """What reached the branch and speaks of the query, the best first; also by its pull request's text."""

        def found(records: Records) -> list[Changes]:
            numbers = {int(said["number"]) for said in _NUMBER.finditer(query[:_MOST_QUERY])}
            spoken = {
                each.head: each
                for each in (records.landed(MOST_LANDED) if numbers else ())
                if numbers.intersection(
                    pull_numbers("\n".join(f"{told.subject}\n{told.body}" for told in each.commits))
                )
            }
            spoken |= {each.head: each for each in records.matching(query, limit) if each.head not in spoken}
            merged = [pull.merged_as for pull in self.pulls(query, limit) if pull.merged_as]
            for each in records.bringing(merged).values():
                spoken.setdefault(each.head, each)
            return list(spoken.values())[: max(0, limit)]

        return self.joined(self._opened(Records.reading, found) or ())

    def bringing(self, commits: Sequence[str]) -> dict[str, Changes]:
        """What brought each of these commits to the branch, of those that came by a merge or a pull request."""
        found = self._opened(Records.reading, lambda records: records.bringing(commits)) or {}
        made = {each.head: each for each in self.joined(list({each.head: each for each in found.values()}.values()))}
        return {commit: made[each.head] for commit, each in found.items()}

    def pulls(self, query: str, limit: int) -> tuple[Pull, ...]:
        """The pull requests that speak of the query, the best first."""
        pulls = Pulls.reading(self._data.path) if self._data else None
        if pulls is None:
            return ()
        with pulls:
            return pulls.search(self._index.workspace, query, limit)

    def joined(self, made: Sequence[Changes]) -> tuple[Changes, ...]:
        """Records with what pull requests say of them, and a summary: a model's where one is kept."""
        if not made:
            return ()
        pulls = Pulls.reading(self._data.path) if self._data else None
        try:
            told = [telling.with_pulls(each, _pulls_of(pulls, self._index.workspace, each)) for each in made]
        finally:
            if pulls:
                pulls.close()
        kept = self._opened(
            Records.reading, lambda records: [records.summary(each, _about(each)) for each in told]
        ) or [None] * len(told)
        return tuple(
            replace(each, summary=summary) if summary else each for each, summary in zip(told, kept, strict=True)
        )

    def _opened(self, opens: Callable[[Path], Records | None], work: Callable[[Records], _T]) -> _T | None:
        """What comes of working with the records; None where there are none, or none can be kept, as on a full disk."""
        if self._data is None:
            return None
        try:
            records = opens(self._data.workspace_folder(self._index.workspace))
            if records is None:
                return None
            with records:
                return work(records)
        except DataFolderError:
            return None


def with_reach(index: Index, changes: Changes) -> Changes:
    """The same with what its symbols reach in the tree as it is indexed, one step far."""
    ids = [each.id for each in changes.symbols if each.kind in (ChangeKind.SIGNATURE, ChangeKind.BODY)]
    known = index.facts.names.by_ids(dict.fromkeys(ids[:MOST_REACHING]))
    reached = impact.of_symbols(index, list(known), 1).reached if known else ()
    return replace(changes, reached=reached[:MOST_REACHED], total_reached=len(reached))


def keep_up(settings: Settings, workspace: str, cancelled: Callable[[], bool] = never) -> int:
    """Makes the records of the newest merges and lets go of what the branch no longer leads back to.

    Where nothing was merged since the last time, what came since then is one record. To be called after indexing, when
    it is quiet; at once where nothing moved. Returns how many were made. Raises DataFolderError.
    """
    data = DataFolder(settings.data)
    rules = rules_of(settings)
    facts = facts_of(rules)
    with Index.for_reading(data, workspace) as index:
        commit = index.stamp().commit
        if commit is None or not settings.history_merges or not settings.history_enabled:
            _let_go(data, workspace)
            return 0
        state = f"{commit} {facts} {settings.history_merges}"
        with Records(data.workspace_folder(workspace)) as records:
            if records.note("kept up") == state:
                return 0
            before = records.note("commit")
            line = history.own_line(index.root, commit, OWN_LINE)
            here = history.own_line(index.root, commit, OWN_LINE, ".")
            wanted = [step_of(step) for step in here if _lands(step)][: settings.history_merges]
            known = dict(records.ranges())
            pulled = _pulled(line, before, commit)
            if pulled is not None:
                wanted.append(pulled)
            keeping = {(each.base, each.head) for each in wanted}
            kept = [each for each in known if each.landing is Landing.PULL and (each.base, each.head) not in keeping]
            left = history.left_behind(index.root, [each.head for each in kept], commit) if kept else set()
            kept = [each for each in kept if each.head not in left][: settings.history_merges]
            keeping |= {(each.base, each.head) for each in kept}
            records.retire(each for each in known if (each.base, each.head) not in keeping)
            made, whole = _make(index, records, [*wanted, *kept], known, rules, cancelled)
            if whole:
                records.set_note("commit", commit)
                records.set_note("kept up", state)
    return made


def rules_of(settings: Settings) -> FileRules:
    """Which bytes of a revision are read, and what is taken out of them, as the settings say."""
    return FileRules(
        settings.index_max_file_kilobytes << 10,
        exclude=settings.index_exclude,
        secrets_redact=settings.secrets_redact,
        secrets_allow=settings.secrets_allow,
    )


def _let_go(data: DataFolder, workspace: str) -> None:
    """Where no records are wanted none of before stay."""
    records = Records.reading(data.workspace_folder(workspace))
    if records:
        with records:
            records.retire([each for each, _ in records.ranges()])
            records.set_note("kept up", "")


def _make(
    index: Index,
    records: Records,
    wanted: Sequence[Range],
    known: dict[Range, str],
    rules: FileRules,
    cancelled: Callable[[], bool],
) -> tuple[int, bool]:
    """(how many were made, whether none is left to be made)."""
    facts = facts_of(rules)
    knowledge = index.macros.knowledge()
    until = time.monotonic() + KEEPING_S
    made = 0
    for each in wanted:
        if known.get(each) == facts:
            continue
        if cancelled() or time.monotonic() > until:
            return made, False
        try:
            changes = read(index.root, each, knowledge, rules, cancelled)
        except ChangeError:  # of a shallow or partial clone, which does not hold it
            continue
        if changes.files or each.landing is not Landing.PULL:  # what came may all lie outside of the root
            records.keep(changes, facts)
            made += changes.whole
    return made, True


def _pulled(line: Sequence[history.Step], before: str, commit: str) -> Range | None:
    """What came since the last time, where none of it was merged; None where nothing did, or history was rewritten."""
    if not before or before == commit:
        return None
    since = [step.commit for step in line]
    newer = line[: since.index(before)] if before in since else ()
    if not newer or any(map(_lands, newer)):
        return None
    return Range(before, commit, Landing.PULL)


def _lands(step: history.Step) -> bool:
    return step_of(step).landing in (Landing.MERGE, Landing.SQUASH)


def _pulls_of(pulls: Pulls | None, workspace: str, changes: Changes) -> tuple[Pull, ...]:
    if pulls is None:
        return ()
    numbers = {number for told in changes.commits for number in pull_numbers(f"{told.subject}\n{told.body}")}
    found = {pull.number: pull for pull in pulls.numbered(workspace, sorted(numbers)) if pull.state == "merged"}
    found |= {pull.number: pull for pull in pulls.of_commits(workspace, [told.commit for told in changes.commits])}
    return tuple(found[number] for number in sorted(found, reverse=True))[:MOST_PULLS]


def _about(changes: Changes) -> str:
    """The same as long as a model would be shown the same."""
    texts = (each for pull in changes.pull_requests for each in (pull.called, pull.title, pull.body))
    return sha256("\0".join((str(len(changes.symbols)), *texts)).encode("utf-8", "replace")).hexdigest()


def facts_of(rules: FileRules) -> str:
    """What a record depends on beside the repository: where this is another, it is made again."""
    return f"{FACTS_VERSION} {rules.facts} {' '.join(rules.exclude)}"


def _tip(index: Index) -> str:
    """The commit that the index shows, else that of the tree. Raises ChangeError outside git."""
    commit = _shown(index)
    if commit is None:
        raise ChangeError("The tree is in no git repository.", "What changed is told of commits.")
    return commit


def _shown(index: Index) -> str | None:
    return index.stamp().commit or history.head(index.root)[0]
