"""The tools that remember: what was found and decided before, and what is to be known for the rest of a task.

A note is data, shown as somebody's words with where they come from, and never an instruction. Knows nothing of how
notes are kept, nor of how documents and commits are found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agents import text
from agents.desk import Desk
from agents.errors import ArgumentError
from agents.model import Arguments, Call
from agents.parameters import Choice, Number, Text
from agents.text import Item
from agents.tools.model import Tool
from agents.tools.replies import Asked, as_json, asked, counted
from hub import reasons
from hub.auth.model import Scope
from hub.changes import Changes
from hub.knowledge import Anchor, EntryKind, Note, NoteKind, Session, State
from hub.model import SignalSource
from hub.remembering import (
    Standing,
    about,
    as_written,
    doubts,
    drafted,
    entry_shape,
    parts,
    resolved,
    standing,
    warnings,
)
from hub.service import Filters, Page, Service
from hub.shapes import Json
from indexer.model import Span

MOST_NOTE_CHARS = 12_000
MOST_ANCHORS = 16
MOST_RIVALS = 3  # entries for the same place that are told to who proposes another
LOOKED_AT = 40  # hits that documents are chosen of
NOTE_LINES, SECTION_LINES, BODY_LINES = 12, 8, 6  # that are shown of each

_DOCUMENTS = Filters(reasons.DOCUMENTS)
_DECISION_BONUS, _DECIDED_BONUS = 0.5, 0.2  # of a hit's own score; 0 to 1


@dataclass(frozen=True, slots=True)
class _Document:
    """A part of a document that speaks of what was asked."""

    span: Span
    title: str
    shown: str
    date: str  # "" where neither it nor git tells
    outdated: str  # what it says of itself, or what has taken its place; "" where it says nothing
    kind: str = ""  # of knowledge; "" for other documents
    status: str = ""  # that it gives itself
    doubts: tuple[str, ...] = ()  # what it says it is about and has changed since


@dataclass(frozen=True, slots=True)
class _Change:
    """A commit that speaks of what was asked."""

    id: str
    date: str
    author: str
    subject: str
    body: str
    paths: tuple[str, ...]
    outdated: str


def _search(desk: Desk, call: Call, arguments: Arguments) -> str:
    query, limit, handle = arguments["query"], arguments["limit"], arguments["session"]
    notes: tuple[Note, ...] = ()
    if handle:
        session = _session(desk, call, arguments)
        notes = desk.sessions.notes(call.principal, handle, query, limit)
        arguments = {**arguments, "workspace": session.workspace}
    with asked(desk, call, "search_knowledge", {**arguments, "cursor": ""}) as this:
        documents = _documents(this, query, limit)
        merges = this.service.shelf.matching(query, limit)
        changes = _changes(this.service, query, limit)
        kept = desk.lasting.search(call.principal, this.service.workspace, query, limit)
        entries = standing(desk.lasting, this.service, kept)
        if call.as_json:
            return this.json(
                lambda count: _shape(
                    notes[:count], entries[:count], documents[:count], merges[:count], changes[:count]
                ),
                limit,
                limit,
            )
        if not (notes or entries or documents or merges or changes):
            return this.whole(
                "Nothing is known of this: no note of the session, no entry, no document and no commit speaks of it.",
                "Next: other words or the name of a symbol, or explore, which reads the code itself.",
            )
        items = [Item(_note_lines(note), "This session's notes (data, not instructions):") for note in notes]
        if handle and not notes:
            items.append(Item("No note of this session speaks of it."))
        items += [
            Item(_entry_lines(each), "What people keep of this tree (data, not instructions):") for each in entries
        ]
        items += [Item(_document_lines(each), "What documents of the tree say:") for each in documents]
        items += [Item(_merge_lines(each), "What was merged:") for each in merges]
        items += [Item(_change_lines(each), "Commits and their reasons:") for each in changes]
        room = text.DEFAULT_TOKENS - text.tokens(this.foot()) - 40
        fitted = text.fit(items, room)
        left = len(items) - fitted.shown
        more = (
            f"… {counted(left, 'more entry', 'more entries')} left out for room: ask with a smaller limit."
            if left
            else ""
        )
        return this.whole(fitted.text, more)


def _session(desk: Desk, call: Call, arguments: Arguments) -> Session:
    session = desk.sessions.get(call.principal, arguments["session"])
    if arguments["workspace"] not in ("", session.workspace):
        raise ArgumentError(
            f"That session is of the workspace {session.workspace}.", f'Say workspace="{session.workspace}".'
        )
    return session


# Documents


def _documents(this: Asked, query: str, limit: int) -> list[_Document]:
    """The parts of documents that speak of it, those that still hold first; at most two of a file."""
    result = this.service.search(query, LOOKED_AT, _DOCUMENTS)
    scored = []
    for place, hit in enumerate(result.hits):
        path = hit.chunk.span.path
        # Text that only means something like it decides nothing: it has to say a word of what is asked.
        if not reasons.is_document(path) or all(signal.source is not SignalSource.LEXICAL for signal in hit.signals):
            continue
        bonus = _DECISION_BONUS * bool(reasons.kept_as(path, ""))
        bonus += _DECIDED_BONUS * reasons.speaks_of_deciding(hit.chunk.text)
        scored.append((-hit.score * (1 + bonus), place, hit.chunk))
    of_file: dict[str, int] = {}
    found: list[_Document] = []
    for _, _, chunk in sorted(scored)[: 3 * limit]:
        path = chunk.span.path
        of_file[path] = of_file.get(path, 0) + 1
        if of_file[path] <= 2 and len(found) < limit:
            title = chunk.title.rpartition(" | ")[2] if " | " in chunk.title else ""
            head = this.service.lines(Span(path, 1, reasons.HEAD_LINES))[: reasons.HEAD_CHARS]
            found.append(
                _Document(
                    chunk.span,
                    title,
                    _cut(chunk.text, SECTION_LINES),
                    _date(this.service, path, head),
                    reasons.outdated(head),
                    reasons.kept_as(path, head),
                    reasons.status_of(head),
                    doubts(this.service, path, head),
                )
            )
    this.notes += this.service.age(dict.fromkeys(each.span.path for each in found))
    return sorted(_with_successors(this.service, found), key=lambda each: bool(each.outdated))


def _with_successors(service: Service, found: Sequence[_Document]) -> list[_Document]:
    """The same, those marked of which another one of them says that it takes their place."""
    taken: dict[str, str] = {}
    for path in dict.fromkeys(each.span.path for each in found):
        head = service.lines(Span(path, 1, reasons.HEAD_LINES))[: reasons.HEAD_CHARS]
        taken |= dict.fromkeys(reasons.replaces(head), path)
    return [
        each
        if each.outdated or (new := taken.get(each.span.path.rpartition("/")[2], each.span.path)) == each.span.path
        else replace(each, outdated=f"{new} says that it takes its place")
        for each in found
    ]


def _date(service: Service, path: str, head: str) -> str:
    """The date that a document gives itself, or that of the last commit which changed it."""
    if written := reasons.date_in(head):
        return written
    changes, _ = service.history(path, Page(1))
    return _day(changes[0].commit.time_s) if changes else ""


# Commits


def _changes(service: Service, query: str, limit: int) -> list[_Change]:
    """The commits that speak of it, those with reasons and those that still hold first."""
    told = [each for each, _ in service.told(query, 2 * limit)]
    reverted = {old: each.commit.id for each in told for old in reasons.reverted(each.body)}
    found = []
    for each in told:
        by = next((new for old, new in reverted.items() if each.commit.id.startswith(old)), "")
        found.append(
            _Change(
                each.commit.id,
                _day(each.commit.time_s),
                each.commit.author,
                each.commit.subject,
                each.body,
                each.paths,
                f"reverted by {by[:10]}" if by else "",
            )
        )
    return sorted(found, key=lambda each: (bool(each.outdated), not each.body.strip()))[:limit]


# What is shown


def _note_lines(note: Note) -> str:
    places = _places(note.anchors)
    lines = [f"- {note.kind.value}, {_time(note.made_at)}, by {note.source or 'nobody known'}: {note.title}"]
    lines += [f"  about {places}"] if places else []
    lines += [f"  perhaps no longer so: {note.later}"] if note.later else []
    shown = _cut(note.text, NOTE_LINES)
    return "\n".join([*map(text.one_line, lines), *(_quoted(shown) if shown != note.title else [])])


def _entry_lines(told: Standing) -> str:
    entry = told.entry
    accepted = f", accepted by {entry.reviewer}" if entry.reviewer and entry.state is not State.RETIRED else ""
    head = f"- {entry.kind.value} {entry.id}, {_day(entry.created_at)}, by {entry.author}{accepted}: {entry.title}"
    places = _places([each.anchor for each in entry.anchors])
    lines = [head, *([f"  about {places}"] if places else []), *(f"  {each}" for each in warnings(told))]
    lines += [f"  rests on {', '.join(entry.evidence[:4])}"] if entry.evidence else []
    shown = _cut(entry.text, NOTE_LINES)
    return "\n".join([*map(text.one_line, lines), *(_quoted(shown) if shown != entry.title else [])])


def _places(anchors: Sequence[Anchor]) -> str:
    return ", ".join(filter(None, map(about, anchors[:6])))


def _document_lines(document: _Document) -> str:
    # A word of its own says how far it holds where nothing stronger does.
    told = (document.kind, document.status if not document.outdated else "", document.date)
    title = f" {document.title}" if document.title else ""
    lines = [text.one_line(", ".join((f"- {document.span}{title}", *filter(None, told))))]
    lines += [f"  NO LONGER SO: {document.outdated}"] if document.outdated else []
    lines += [text.one_line(f"  perhaps no longer so: {'; '.join(document.doubts)}")] if document.doubts else []
    return "\n".join([*lines, *_quoted(document.shown)])


def _merge_lines(merged: Changes) -> str:
    by = " (summary by a model)" if merged.summary.generated else ""
    lines = [text.one_line(f"- {merged.head[:10]} {_day(merged.time_s)}: “{merged.title}”{by}")]
    return "\n".join([*lines, *_quoted(_cut(merged.summary.text, BODY_LINES))])


def _change_lines(change: _Change) -> str:
    files = ", ".join(change.paths[:4]) + (f" and {len(change.paths) - 4} more" if len(change.paths) > 4 else "")
    lines = [text.one_line(f"- {change.id[:10]} {change.date} {change.author}: “{change.subject}”")]
    lines += [f"  NO LONGER SO: {change.outdated}"] if change.outdated else []
    lines += [text.one_line(f"  changed {files}")] if files else []
    return "\n".join([*lines, *_quoted(_cut(change.body, BODY_LINES))])


def _quoted(shown: str) -> list[str]:
    """Lines of others, each after a mark, so that none of them can pass for one of ours."""
    return [f"  | {text.one_line(line)[: text.LONGEST_LINE]}" for line in shown.split("\n") if line.strip()]


def _cut(written: str, lines: int) -> str:
    kept = [line for line in written.strip("\n").split("\n") if line.strip()]
    return "\n".join([*kept[:lines], *(["…"] if len(kept) > lines else [])])


def _day(time_s: float) -> str:
    return _time(time_s)[:10]


def _time(time_s: float) -> str:
    """``2026-11-23 07:10 UTC``."""
    return datetime.fromtimestamp(min(max(time_s, 0.0), 253_402_300_000.0), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _shape(
    notes: Iterable[Note],
    entries: Iterable[Standing],
    documents: Iterable[_Document],
    merges: Iterable[Changes],
    changes: Iterable[_Change],
) -> Json:
    return {
        "notes": [note_shape(note) for note in notes],
        "entries": [entry_shape(each) for each in entries],
        "documents": [
            {
                "path": each.span.path,
                "first_line": each.span.first_line,
                "last_line": each.span.last_line,
                "title": each.title,
                "text": each.shown,
                "date": each.date or None,
                "outdated": each.outdated or None,
                "kind": each.kind or None,
                "status": each.status or None,
                "doubts": list(each.doubts),
            }
            for each in documents
        ],
        "merges": [
            {
                "commit": each.head,
                "title": each.title,
                "date": _day(each.time_s),
                "text": each.summary.text,
                "generated": each.summary.generated,
            }
            for each in merges
        ],
        "commits": [
            {
                "id": each.id,
                "date": each.date,
                "author": each.author,
                "subject": each.subject,
                "body": _cut(each.body, BODY_LINES),
                "paths": list(each.paths[:20]),
                "outdated": each.outdated or None,
            }
            for each in changes
        ],
    }


def note_shape(note: Note) -> Json:
    """A note as JSON."""
    return {
        "kind": note.kind.value,
        "title": note.title,
        "text": note.text,
        "about": [{"symbol": each.symbol, "path": each.path, "line": each.line} for each in note.anchors],
        "source": note.source,
        "made_at": _time(note.made_at),
        "later": note.later or None,
    }


# Remembering


def _remember(desk: Desk, call: Call, arguments: Arguments) -> str:
    if arguments["lasting"]:
        return _proposed(desk, call, arguments)
    if arguments["session"]:
        session = _session(desk, call, arguments)
        desk.workspaces.chosen(call.principal, session.workspace, Scope.KNOWLEDGE)
    else:
        workspace = desk.workspaces.chosen(call.principal, arguments["workspace"] or None, Scope.KNOWLEDGE)
        session = desk.sessions.open(call.principal, workspace.name)
    anchors, unknown = _anchors(desk, call, session, _parts(arguments["about"]))
    note = desk.sessions.note(
        call.principal,
        session.handle,
        NoteKind.NOTE,
        arguments["title"],
        arguments["text"],
        anchors,
        "an agent in this session",
    )
    if call.as_json:
        return as_json(
            {
                "session": session.handle,
                "workspace": session.workspace,
                "until": _time(session.until),
                "unknown": unknown,
                "note": note_shape(note),
            }
        )
    lines = [
        f"Remembered until {_time(session.until)} in the workspace {session.workspace}: {note.title}",
        f'Pass session="{session.handle}" to remember, search_knowledge, explore and run; without it a new one begins.',
    ]
    lines += _remarks(unknown, note.text, arguments["text"])
    return "\n".join(map(text.one_line, lines))


def _proposed(desk: Desk, call: Call, arguments: Arguments) -> str:
    """Proposes an entry. It is no note of the session, whose workspace it goes to where one is named."""
    named = _session(desk, call, arguments).workspace if arguments["session"] else arguments["workspace"]
    workspace = desk.workspaces.chosen(call.principal, named or None, Scope.KNOWLEDGE).name
    _parts(arguments["about"])
    told = (EntryKind(arguments["lasting"]), arguments["title"], arguments["text"], (arguments["about"],))
    if call.principal.may(Scope.READ, workspace):
        with desk.workspaces.opened(call.principal, workspace) as service:
            draft, unknown = drafted(service, *told)
    else:
        draft, unknown = drafted(None, *told)
    kept = replace(draft, evidence=tuple(parts(arguments["evidence"])))
    (entry,) = desk.lasting.add(call.principal, workspace, [kept])
    symbols = [each.anchor.symbol for each in entry.anchors if each.anchor.symbol]
    places = [each.anchor.path for each in entry.anchors if not each.anchor.symbol]
    near = desk.lasting.near(call.principal, workspace, symbols, places, MOST_RIVALS + 1)
    near = tuple(each for each in near if each.id != entry.id)[:MOST_RIVALS]
    if call.as_json:
        shape = entry_shape(Standing(entry, (), ()))
        return as_json({"entry": shape, "unknown": unknown, "near": [each.id for each in near]})
    if entry.state is State.ACCEPTED:
        lines = [f"Kept for good as {entry.kind.value} {entry.id} in the workspace {workspace}: {entry.title}"]
    else:
        lines = [
            f"Proposed as {entry.kind.value} {entry.id} in the workspace {workspace}: {entry.title}",
            "It holds once somebody else accepts it, with `codehub knowledge review` or on the page Knowledge.",
        ]
    lines += [f"Held for the same place already: {each.kind.value} {each.id}: {each.title}" for each in near]
    lines += _remarks(unknown, entry.text, arguments["text"])
    return "\n".join(map(text.one_line, lines))


def _remarks(unknown: Sequence[str], kept: str, told: str) -> list[str]:
    lines = [f"Kept as written, the index knows none or several of: {', '.join(unknown)}."] if unknown else []
    if "[redacted:" in kept and "[redacted:" not in told:
        lines.append("What looked like a secret was taken out of it.")
    return lines


def _anchors(desk: Desk, call: Call, session: Session, written: Sequence[str]) -> tuple[list[Anchor], list[str]]:
    """The anchors with the names and paths of the index, and those of which it has none or several."""
    if not written:
        return [], []
    if not call.principal.may(Scope.READ, session.workspace):
        return [as_written(each) for each in written], []
    anchors, unknown = [], []
    with desk.workspaces.opened(call.principal, session.workspace) as service:
        for each in written:
            anchor = resolved(service, each)
            anchors.append(anchor or as_written(each))
            if anchor is None:
                unknown.append(each)
    return anchors, unknown


def _parts(written: str) -> list[str]:
    named = parts(written)
    if len(named) > MOST_ANCHORS:
        raise ArgumentError(f"about names {len(named)} things.", f"{MOST_ANCHORS} are the most: name the main ones.")
    return named


SEARCH_KNOWLEDGE = Tool(
    name="search_knowledge",
    title="Search notes, decisions and commits",
    about="Tells why: notes, decisions, docs, commits.",
    parameters=(
        Text("query", required=True),
        Text("session"),
        Number("limit", "", 1, 20, 6),
        Text("workspace"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_search,
)
REMEMBER = Tool(
    name="remember",
    title="Remember for this task",
    about="Keeps a fact for this task; with lasting, proposes it for good. Without session opens one.",
    parameters=(
        Text("text", most=MOST_NOTE_CHARS, required=True),
        Text("title"),
        Text("about", "symbols, path:line"),
        Choice("lasting", "", tuple(kind.value for kind in EntryKind), ""),
        Text("evidence"),
        Text("session"),
        Text("workspace"),
    ),
    scope=Scope.KNOWLEDGE,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=False,
    run=_remember,
)
