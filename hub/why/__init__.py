"""Why code is what it is, out of comments, commits, merges, pull requests and decisions. No language model is asked.

Every statement is somebody's own sentence with the place or the commit that it comes from; what is computed is which of
them come first. Which sentence gives a reason, and what a document is about, are guesses by words, and ranked as such.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from hub import reasons
from hub.changes import Shelf
from hub.model import Hit
from hub.retrieval import Filters
from hub.why.documents import Decision, Name, Search, linked, naming, speaking
from hub.why.lines import Made, made
from hub.why.merges import Landed, brought
from hub.why.merges import speaking as merged
from indexer import history
from indexer.index import Index, Told
from indexer.model import Commit, Span, Symbol, SymbolKind

__all__ = ["Decision", "MadeBy", "Reason", "ReasonKind", "Story", "why"]

MOST_NAMESAKES = 20
MOST_LINES = 400  # of one place
MOST_NAMES = 8  # that stand on the lines asked about
ASKED_COMMITS = 12  # of a question in words, by what their messages and changes say; 6 to 40
ASKED_SYMBOLS = 3  # of the best hits, whose own commits count for more
COMMENT_ABOVE = 12  # lines above the one asked about that may be its comment
MOST_SENTENCES = 3

# What a reason is worth: judgements, between 0 and about 1.3. A decision that names the thing, or that a comment points
# at, comes before the commit that wrote the line; that one before commits known by names only.
LINES, NAMED, ASKED = 0.5, 0.35, 0.6
BROUGHT, MERGED = 0.4, 0.35  # of what brought the commits of lines in; of a question, for the best merge
SAYS_WHY = (0.0, 0.12, 0.25)  # by the weight of the surest sentence
SPEAKS_OF_IT = 0.2
SAID_LITTLE = -0.25  # a subject that tells of no reason, or a message without one
MASS_FILES, MASS = 30, -0.3  # a commit that touched more is about none of them; an import of a whole tree is one
NO_LONGER = -0.8
OF_A_HIT = 0.3  # of a question: for the best hit's symbol, the next ones a half and a third
COMMENT = (0.0, 0.55, 0.75)

_PLACE = re.compile(r"(?P<path>[^\s:][^:\n]{0,390}):(?P<first>\d{1,7})(?:-(?P<last>\d{1,7}))?")
_SAYS_LITTLE = re.compile(
    r"(?:(?:re)?format|typos?\b|fix(?:ed)? typos?|style|whitespace|clang-format|clean ?-?up|merge (?:branch|pull)|bump|"
    r"internal change|automated code|update copyright)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z_]\w{2,80}(?:::\w{1,80}){0,6}")
_DISTINCT = re.compile(r"[a-z\d][A-Z]|\w_\w|\w_$|^k[A-Z]|::")
_COMMENT = re.compile(r"^\s*(?://[/!]?<?|/?\*+/?)\s?")
_CALLABLE = (SymbolKind.NAMESPACE, SymbolKind.SECTION, SymbolKind.MODULE)


class ReasonKind(StrEnum):
    """Where a reason stands."""

    COMMENT = "comment"
    COMMIT = "commit"
    DECISION = "decision"
    MERGE = "merge"
    PULL = "pull request"


@dataclass(frozen=True, slots=True)
class Reason:
    """Sentences that say why, word for word, with where they stand: in a commit, or in lines of a file."""

    kind: ReasonKind
    says: tuple[str, ...]
    title: str  # the subject of the commit, the heading of the document, the symbol of the comment
    commit: str | None
    span: Span | None
    date: str  # YYYY-MM-DD, "" where none is known
    how: str  # why it is taken to be about what was asked
    outdated: str  # why it may hold no longer; "" where nothing says so
    strength: float  # what decides the order; a judgement, of use within one story only


@dataclass(frozen=True, slots=True)
class MadeBy:
    """A commit that made the code what it is."""

    commit: Commit
    says: tuple[str, ...]  # sentences of its message that give a reason
    issues: tuple[str, ...]
    paths: tuple[str, ...]
    how: str
    outdated: str
    first: bool  # the oldest that is known


@dataclass(frozen=True, slots=True)
class Story:
    """What is known of why a piece of code is there. ``span`` is None for a question in words."""

    asked: str
    symbols: tuple[Symbol, ...]  # that are meant, the one that is told of first
    span: Span | None
    comment: str
    reasons: tuple[Reason, ...]  # the best first
    commits: tuple[MadeBy, ...]  # newest first, the very first one always last
    total: int  # commits that are known
    decisions: tuple[Decision, ...]  # those that hold no longer last
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A commit as far as it concerns what is asked."""

    commit: Commit
    body: str
    paths: tuple[str, ...]
    files: int
    how: str
    worth: float


def why(index: Index, search: Search, asked: str, limit: int, shelf: Shelf | None = None) -> Story:
    """The story of ``PATH:LINE`` or ``PATH:FIRST-LAST``, of a symbol, of a file, or of a question in words.

    At most ``limit`` reasons, commits and decisions each. ``shelf`` holds what merges changed. Raises QuestionError
    where a path may be several files.
    """
    asked = asked.strip()
    shelf = shelf or Shelf(index)
    place = _PLACE.fullmatch(asked)
    path = index.graph.file(place["path"]) if place else None
    if place and path and index.table.known_file(path):
        first = max(1, int(place["first"]))
        last = min(max(first, int(place["last"] or first)), first + MOST_LINES - 1)
        return _of_lines(index, search, shelf, asked, Span(path, first, last), limit)
    symbols = [each for each in index.facts.symbols_named(asked, MOST_NAMESAKES) if each.kind not in _CALLABLE]
    if symbols:
        return _of_symbol(index, search, shelf, asked, symbols, limit)
    whole = index.graph.file(asked) if asked and " " not in asked else None
    if whole and index.table.known_file(whole):
        return _of_file(index, search, shelf, asked, whole, limit)
    return _of_question(index, search, shelf, asked, limit)


# The four ways to ask


def _of_lines(index: Index, search: Search, shelf: Shelf, asked: str, span: Span, limit: int) -> Story:
    outline = index.facts.names.outline(span.path, span.first_line, span.last_line)
    known = {symbol.id: symbol for symbol in index.facts.names.by_ids(row.id for row in outline)}
    around = [known[row.id] for row in reversed(outline) if row.id in known]
    text = _text(index, span)
    if not text:
        return _nothing(asked, f"{span.path} has no line {span.first_line} in the index.")
    comment, where = _comment_at(index, span)
    written = [name for name in dict.fromkeys(_NAME.findall(_without_comments(text))) if _DISTINCT.search(name)]
    names = [Name(name, 0.8, "it names what stands there:") for name in written[:MOST_NAMES]]
    names += _names_of(around[:1], 0.85) + _names_of(around[1:2], 0.5)
    told = made(index, span)
    commits = _read(index, told, LINES)
    commits += _by_table(index, around[0].qualified_name if around else span.path, commits)
    comments = [(where, comment)] if comment else []
    doc = next((each for each in around[:1] if each.doc), None)
    comments += [(_beginning(doc), doc.doc)] if doc and doc.doc != comment else []
    return _told(index, search, shelf, asked, tuple(around), span, comments, names, commits, told.notes, limit)


def _of_symbol(index: Index, search: Search, shelf: Shelf, asked: str, symbols: Sequence[Symbol], limit: int) -> Story:
    chosen = next((each for each in symbols if each.is_definition), symbols[0])
    same = [each for each in symbols if each.id == chosen.id]
    others = sorted(
        {f"{each.qualified_name} ({each.span.path}:{each.line})" for each in symbols if each.id != chosen.id}
    )
    notes = (f"Also so called: {', '.join(others[:5])}{' …' if len(others) > 5 else ''}.",) if others else ()
    told = made(index, chosen.span)
    commits = _read(index, told, LINES)
    commits += _by_table(index, chosen.qualified_name, commits)
    comments = [(_beginning(each), each.doc) for each in same if each.doc]
    ordered = (chosen, *(each for each in symbols if each is not chosen))
    names = _names_of([chosen], 0.95)
    return _told(
        index, search, shelf, asked, ordered, chosen.span, comments, names, commits, (*told.notes, *notes), limit
    )


def _of_file(index: Index, search: Search, shelf: Shelf, asked: str, path: str, limit: int) -> Story:
    lines = max(chunk.span.last_line for chunk in index.table.chunks_of(path))
    name = path.rpartition("/")[2]
    names = [Name(path, 0.95, "it names"), Name(name, 0.8, "it names")]
    head = Span(path, 1, min(lines, COMMENT_ABOVE))
    comment = "\n".join(_COMMENT.sub("", line) for line in _text(index, head).split("\n") if _COMMENT.match(line))
    comments = [(head, comment)] if comment else []
    commits = _by_table(index, path, [])
    notes = () if commits else ("No commit that is kept changed this file.",)
    return _told(index, search, shelf, asked, (), Span(path, 1, lines), comments, names, commits, notes, limit)


def _of_question(index: Index, search: Search, shelf: Shelf, asked: str, limit: int) -> Story:
    if not asked:
        return _nothing(asked, "Nothing was asked.")
    told = index.commits.told(asked, ASKED_COMMITS)
    best = max((score for _, score in told), default=0.0)
    known = {
        each.commit.id: _of_told(each, "its message or its changes speak of it", ASKED * score / best)
        for each, score in told
    }
    hits = search(asked, 10, Filters())
    symbols = _symbols_of(index, hits)
    for rank, symbol in enumerate(symbols, 1):
        for each in index.commits.about(symbol.qualified_name):
            before = known.get(each.commit.id)
            worth = OF_A_HIT / rank
            if before:
                known[each.commit.id] = replace(before, worth=before.worth + worth)
            elif reasons.why(each.body, 1):
                known[each.commit.id] = _of_told(each, f"it changed {symbol.qualified_name}", worth)
    found = speaking(index, search, asked)
    comments = [(_beginning(each), each.doc) for each in symbols if each.doc]
    notes = ("The question was read as words: PATH:LINE or the name of a symbol asks more exactly.",)
    landed = [_of_landed(each, MERGED, ()) for each in merged(shelf, asked)]
    told_by = list(known.values())
    return _put_together(asked, tuple(symbols), None, comments, 0.6, told_by, (), found, landed, notes, limit)


# What is put together


def _told(
    index: Index,
    search: Search,
    shelf: Shelf,
    asked: str,
    symbols: tuple[Symbol, ...],
    span: Span,
    comments: Sequence[tuple[Span, str]],
    names: Sequence[Name],
    commits: Sequence[_Known],
    notes: tuple[str, ...],
    limit: int,
) -> Story:
    pointed = linked(index, comments, names)
    paths = {each.span for each in pointed}
    found = pointed + [each for each in naming(index, search, names) if each.span not in paths and each.span != span]
    words = tuple(dict.fromkeys(name.text.rpartition("::")[2] for name in names))
    landed = [_of_landed(each, BROUGHT, words) for each in brought(shelf, [each.commit.id for each in commits])]
    return _put_together(asked, symbols, span, comments, 1.0, commits, words, found, landed, notes, limit)


def _put_together(
    asked: str,
    symbols: tuple[Symbol, ...],
    span: Span | None,
    comments: Sequence[tuple[Span, str]],
    trust: float,
    commits: Sequence[_Known],
    words: Sequence[str],
    found: Sequence[Decision],
    landed: Sequence[Reason],
    notes: tuple[str, ...],
    limit: int,
) -> Story:
    back = {beginning: each.commit.id for each in commits for beginning in reasons.reverted(each.body)}
    heard = [_of_comment(each, text, trust) for each, text in comments]
    heard += [_of_commit(each, words, back) for each in commits]
    heard += [
        Reason(
            ReasonKind.DECISION,
            each.says,
            each.title,
            None,
            each.span,
            each.date,
            each.how,
            each.outdated,
            each.strength,
        )
        for each in found
    ]
    heard += landed
    ranked = sorted((each for each in heard if each.says or each.commit), key=_order)
    newest = sorted(commits, key=lambda each: (-each.commit.time_s, each.commit.id))
    oldest = newest[-1].commit.id if newest and span is not None else None
    shown = newest if len(newest) <= limit else [*newest[: limit - 1], newest[-1]]
    made_by = tuple(
        MadeBy(
            each.commit,
            reasons.why(each.body, MOST_SENTENCES),
            reasons.issues(f"{each.commit.subject}\n{each.body}"),
            each.paths,
            each.how,
            _outdated(each.commit.id, back),
            each.commit.id == oldest,
        )
        for each in shown
    )
    decisions = tuple(sorted(found, key=lambda each: bool(each.outdated))[:limit])
    comment = comments[0][1] if comments else ""
    return Story(asked, symbols, span, comment, tuple(ranked[:limit]), made_by, len(newest), decisions, notes)


def _order(reason: Reason) -> tuple[object, ...]:
    return (bool(reason.outdated), -round(reason.strength, 9), reason.kind, reason.commit or "", str(reason.span or ""))


def _of_comment(span: Span, text: str, trust: float) -> Reason:
    says = reasons.why(text, MOST_SENTENCES)
    strength = max((COMMENT[reasons.weight_of(each)] for each in says), default=0.0)
    return Reason(ReasonKind.COMMENT, says, "", None, span, "", "the comment that stands with it", "", strength * trust)


def _of_commit(known: _Known, words: Sequence[str], back: dict[str, str]) -> Reason:
    message = f"{known.commit.subject}\n\n{known.body}"
    says = reasons.why(known.body, MOST_SENTENCES) or (known.commit.subject,)
    outdated = _outdated(known.commit.id, back)
    strength = known.worth + SAYS_WHY[max(reasons.weight_of(each) for each in says)]
    strength += SPEAKS_OF_IT * any(word in message for word in words)
    strength += 0.1 * max(1, known.files) ** -0.3
    strength += SAID_LITTLE * bool(_SAYS_LITTLE.match(known.commit.subject) or not known.body)
    strength += MASS * (known.files > MASS_FILES) + NO_LONGER * bool(outdated)
    day = _day(known.commit.time_s)
    return Reason(
        ReasonKind.COMMIT, says, known.commit.subject, known.commit.id, None, day, known.how, outdated, strength
    )


def _of_landed(landed: Landed, worth: float, words: Sequence[str]) -> Reason:
    strength = worth * landed.worth + SAYS_WHY[max(reasons.weight_of(each) for each in landed.says)]
    strength += SPEAKS_OF_IT * any(word in said for word in words for said in (landed.title, *landed.says))
    kind = ReasonKind.PULL if landed.by_pull else ReasonKind.MERGE
    day = _day(landed.time_s) if landed.time_s else ""
    return Reason(kind, landed.says, landed.title, landed.commit, None, day, landed.how, "", strength)


def _day(time_s: int) -> str:
    return datetime.fromtimestamp(min(max(time_s, 0), 253_402_300_000), UTC).date().isoformat()


def _outdated(commit: str, back: dict[str, str]) -> str:
    by = next((new for beginning, new in back.items() if commit.startswith(beginning)), "")
    return f"reverted by {by[:12]}" if by else ""


def _nothing(asked: str, note: str) -> Story:
    return Story(asked, (), None, "", (), (), 0, (), (note,))


# What is read


def _read(index: Index, told: Made, worth: float) -> list[_Known]:
    """The commits of lines, with their messages, which git is asked for."""
    commit = index.stamp().commit
    source = history.source_of(index.root, commit) if commit and told.commits else None
    if source is None:
        return []
    found = []
    with closing(history.entries(source, [each for each, _ in told.commits])) as entries:
        for (each, how), entry in zip(told.commits, entries, strict=False):
            written = Commit(each, entry.subject, entry.author, entry.time_s)
            paths = tuple(change.path for change in entry.changes[:20])
            found.append(_Known(written, entry.body, paths, entry.files, how, worth))
    return found


def _by_table(index: Index, name: str, known: Iterable[_Known]) -> list[_Known]:
    """The further commits that the index knows by name: before a move, of a declaration, or where git is no help."""
    have = {each.commit.id for each in known}
    return [
        _of_told(each, f"it changed {name}, as far as names tell", NAMED)
        for each in index.commits.about(name)
        if each.commit.id not in have
    ]


def _of_told(told: Told, how: str, worth: float) -> _Known:
    return _Known(told.commit, told.body, told.paths, told.files, how, worth)


def _symbols_of(index: Index, hits: Sequence[Hit]) -> list[Symbol]:
    ids = dict.fromkeys(hit.chunk.symbol for hit in hits if hit.chunk.symbol is not None)
    known = {each.id: each for each in reversed(index.facts.names.by_ids(ids)) if each.kind not in _CALLABLE}
    return [known[each] for each in ids if each in known][:ASKED_SYMBOLS]


def _names_of(symbols: Iterable[Symbol], weight: float) -> list[Name]:
    """A symbol's names as prose writes them: with its class, alone, and its class, each worth less."""
    found = []
    for symbol in symbols:
        scope = symbol.scope.rpartition("::")[2]
        if scope:
            found.append(Name(f"{scope}::{symbol.name}", weight, "it names"))
        found.append(Name(symbol.name, weight - (0.1 if scope else 0.0), "it names"))
        if scope and symbol.scope.count("::"):
            found.append(Name(scope, weight - 0.4, "it names the class"))
    return found


def _comment_at(index: Index, span: Span) -> tuple[str, Span]:
    """The comment that stands on the lines or right above them, without its marks, and where it begins."""
    first = max(1, span.first_line - COMMENT_ABOVE)
    above = _text(index, Span(span.path, first, span.first_line - 1)).split("\n") if span.first_line > 1 else []
    above = above[:-1] if above and not above[-1] else above
    kept = []
    for line in reversed(above):
        if not _COMMENT.match(line):
            break
        kept.append(_COMMENT.sub("", line))
    own = [part for line in _text(index, span).split("\n") for part in [line.partition("//")[2].strip("/ <!")] if part]
    begins = span.first_line - len(kept)
    return "\n".join([*reversed(kept), *own]).strip(), Span(span.path, begins, span.last_line)


def _without_comments(text: str) -> str:
    return "\n".join(line.partition("//")[0] for line in text.split("\n"))


def _beginning(symbol: Symbol) -> Span:
    return Span(symbol.span.path, symbol.span.first_line, symbol.span.last_line)


def _text(index: Index, span: Span) -> str:
    return "".join(
        f"{line}\n"
        for chunk in index.table.chunks_at(span)
        for number, line in enumerate(chunk.text.removesuffix("\n").split("\n"), chunk.span.first_line)
        if span.first_line <= number <= span.last_line
    )
