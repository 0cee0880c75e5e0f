"""``codehub knowledge``: what people keep of a tree, beside its files.

Works on the data folder itself, with or without a server: whoever may write there needs no key. Whoever sits at the
terminal may accept what he wrote himself.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import indent

from hub import importing, remembering
from hub.auth import audit
from hub.auth.audit import AuditLog
from hub.auth.model import Principal
from hub.cli import DONE, NOTHING
from hub.cli.keys import moment, terminal
from hub.cli.output import opened_service, print_json, settings_of
from hub.errors import KnowledgeError, UnknownSession
from hub.knowledge import Anchored, Draft, Entry, EntryKind, Lasting, Note, Review, Sessions, State, lasting, sessions
from hub.knowledge.words import MOST_TEXT_BYTES
from hub.remembering import Standing, entry_shape, standing, warnings
from hub.service import Service

_LOCAL_KEYS = ("agent", "local")  # whom sessions belong to that were opened without a key
_DAY = 10  # characters of a written time


@dataclass(frozen=True, slots=True)
class _Place:
    """What every action works with."""

    who: Principal
    service: Service
    store: Lasting
    workspace: str
    data: Path


def knowledge(options: argparse.Namespace) -> int:
    with _opened(options) as place:
        run: Callable[[argparse.Namespace, _Place], int] = _ACTIONS[options.action]
        return run(options, place)


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[_Place]:
    settings = settings_of(options)
    with ExitStack() as stack:
        service = stack.enter_context(opened_service(options))
        log, review = AuditLog(settings.data / audit.FILE), Review(settings.knowledge_review)
        store = stack.enter_context(closing(Lasting(settings.data / lasting.FILE, log, review)))
        yield _Place(terminal(), service, store, service.workspace, settings.data)


def _add(options: argparse.Namespace, place: _Place) -> int:
    kind = EntryKind(options.kind)
    made, unknown = remembering.drafted(
        place.service, kind, options.title or "", _text(options.text), options.about or ()
    )
    draft = replace(
        made,
        evidence=tuple(options.evidence or ()),
        expires_at=moment(options.expires),
        supersedes=tuple(options.supersedes or ()),
    )
    entries = place.store.add(place.who, place.workspace, [draft])
    if options.accept:
        entries = _accepted(place, entries)
    for each in unknown:
        print(f"note: kept as written, the index knows none or several of: {each}", file=sys.stderr)
    return _show_changed(options, place, entries)


def _promote(options: argparse.Namespace, place: _Place) -> int:
    """Without numbers of notes, shows those of the session."""
    notes = _notes_of(options.session, place, options.key)
    if not options.notes:
        _show_notes(options, notes)
        return DONE if notes else NOTHING
    known = {note.id: note for note in notes}
    missing = [number for number in options.notes if number not in known]
    if missing:
        raise KnowledgeError(
            f"The session has no note {missing[0]}.", "Without a number, all of its notes are shown with theirs."
        )
    commit = remembering.commit_of(place.service)
    drafts = [_draft_of(known[number], options, place, commit) for number in dict.fromkeys(options.notes)]
    entries = place.store.add(place.who, place.workspace, drafts)
    return _show_changed(options, place, _accepted(place, entries) if options.accept else entries)


def _list(options: argparse.Namespace, place: _Place) -> int:
    states = tuple(State) if options.all else lasting.SHOWN
    query = " ".join(getattr(options, "query", ()))
    found = place.store.search(place.who, place.workspace, query, options.limit, states)
    return _show(options, place, found, "Nothing that is kept speaks of it." if query else "Nothing is kept yet.")


def _show_one(options: argparse.Namespace, place: _Place) -> int:
    entry = place.store.get(place.who, place.workspace, options.id)
    (told,) = standing(place.store, place.service, [entry])
    if options.json:
        print_json(entry_shape(told))
    else:
        _print_whole(told)
    return DONE


def _review(options: argparse.Namespace, place: _Place) -> int:
    """Without a number, shows what waits."""
    if options.id is None:
        found = place.store.search(place.who, place.workspace, "", lasting.MOST_LIMIT, (State.PROPOSED,))
        return _show(options, place, found, "Nothing waits for a review.")
    if options.reject is not None:
        entry = place.store.reject(place.who, place.workspace, options.id, options.reject)
    elif options.accept:
        entry = place.store.accept(place.who, place.workspace, options.id)
    else:
        raise KnowledgeError("Accepted or rejected?", "Give --accept, or --reject REASON.")
    return _show_changed(options, place, (entry,))


def _retire(options: argparse.Namespace, place: _Place) -> int:
    return _show_changed(
        options, place, (place.store.retire(place.who, place.workspace, options.id, options.reason or ""),)
    )


def _reaffirm(options: argparse.Namespace, place: _Place) -> int:
    entry = place.store.get(place.who, place.workspace, options.id)
    digests = [remembering.digest(place.service, each.anchor) for each in entry.anchors]
    return _show_changed(options, place, (place.store.reaffirm(place.who, place.workspace, options.id, digests),))


def _import(options: argparse.Namespace, place: _Place) -> int:
    """All files as one batch, which can be rolled back. What is beneath the tree and indexed is refused."""
    if options.name and len(options.files) > 1:
        raise KnowledgeError("One name for several files?", "Take them in one by one.")
    drafts: list[Draft] = []
    unchanged: list[Entry] = []
    gone: list[Entry] = []
    for file in options.files:
        if file.suffix.lower() == importing.LINES:
            drafts += importing.drafts_of(_lines(file), time.time())
            continue
        name = options.name or _called(file, place.service)
        known = place.store.of_source(place.who, place.workspace, name)
        plan = importing.planned(importing.read(file), name, EntryKind(options.kind), known)
        drafts += plan.drafts
        unchanged += plan.unchanged
        gone += plan.gone
    commit = remembering.commit_of(place.service)
    made = [draft if draft.commit else replace(draft, commit=commit) for draft in drafts]
    entries = place.store.add(place.who, place.workspace, made) if made else ()
    entries = _accepted(place, entries) if options.accept else entries
    for entry in gone:
        place.store.retire(place.who, place.workspace, entry.id, "its document no longer says so")
    if options.json:
        print_json(
            {
                "workspace": place.workspace,
                "batch": entries[0].batch if entries else None,
                "entries": [entry_shape(each) for each in standing(place.store, place.service, entries)],
                "unchanged": [entry.id for entry in unchanged],
                "retired": [entry.id for entry in gone],
            }
        )
        return DONE
    batch = f", batch {entries[0].batch}" if entries else ""
    print(f"{len(entries)} new, {len(unchanged)} as they were, {len(gone)} retired{batch}")
    if any(entry.state is State.PROPOSED for entry in entries):
        print("They hold once they are accepted: `codehub knowledge review`.")
    return DONE


def _export(options: argparse.Namespace, place: _Place) -> int:
    entries = place.store.every(place.who, place.workspace)
    text = "".join(f"{line}\n" for line in importing.lines_of(entries))
    if options.file is None:
        sys.stdout.write(text)
        return DONE if entries else NOTHING
    try:
        with os.fdopen(
            os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as out:
            out.write(text)
    except OSError as error:
        raise KnowledgeError(f"{options.file} cannot be written: {error.strerror}.", "Name another file.") from None
    if options.json:
        print_json({"workspace": place.workspace, "file": str(options.file), "entries": len(entries)})
    else:
        print(f"{len(entries)} written to {options.file}")
    return DONE


def _lines(file: Path) -> str:
    try:
        if file.stat().st_size > importing.MOST_BYTES:
            raise KnowledgeError(f"{file.name} is too large.", f"{importing.MOST_BYTES:,} bytes are the most.")
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise KnowledgeError(f"{file} cannot be read: {error.strerror}.", "Name a file that there is.") from None


def _called(file: Path, service: Service) -> str:
    """What a document is called: its path within the tree, else its name. Raises KnowledgeError for what is indexed."""
    try:
        path = file.resolve().relative_to(service.root.resolve()).as_posix()
    except ValueError:
        return file.name
    if service.last_line(path):
        raise KnowledgeError(f"{path} stands in the tree, where search finds it.", "Only other documents are taken in.")
    return path


def _rollback(options: argparse.Namespace, place: _Place) -> int:
    return _show_changed(
        options, place, place.store.rollback(place.who, place.workspace, options.batch, options.reason or "")
    )


_ACTIONS = {
    "add": _add,
    "list": _list,
    "search": _list,
    "show": _show_one,
    "promote": _promote,
    "review": _review,
    "retire": _retire,
    "reaffirm": _reaffirm,
    "rollback": _rollback,
    "import": _import,
    "export": _export,
}


def _accepted(place: _Place, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(
        place.store.accept(place.who, place.workspace, entry.id) if entry.state is State.PROPOSED else entry
        for entry in entries
    )


def _text(written: Sequence[str]) -> str:
    """What was typed, or what standard input holds where that is ``-``."""
    if list(written) != ["-"]:
        return " ".join(written)
    return sys.stdin.buffer.read(2 * MOST_TEXT_BYTES).decode("utf-8", "replace")


def _notes_of(handle: str, place: _Place, key: str | None) -> tuple[Note, ...]:
    """The notes of a session, the newest first. Raises UnknownSession, also for one of another workspace."""
    if not (place.data / sessions.FILE).exists():
        raise UnknownSession("There is no session yet.", "An agent's `remember` opens one.")
    with closing(Sessions(place.data / sessions.FILE)) as opened:
        keys = (key,) if key else _LOCAL_KEYS
        for number, each in enumerate(keys, 1):
            # A session is found by its handle together with the id of its key, whoever names them.
            holder = replace(place.who, key_id=each)
            try:
                session = opened.get(holder, handle)
            except UnknownSession as error:
                if number == len(keys):
                    raise UnknownSession(error.message, "Name the key that opened it with --key ID.") from None
                continue
            if session.workspace != place.workspace:
                raise UnknownSession(f"That session is of the workspace {session.workspace}.", "Name it with -w.")
            return opened.notes(holder, handle, "", sessions.MOST_LIMIT)
    return ()


def _draft_of(note: Note, options: argparse.Namespace, place: _Place, commit: str) -> Draft:
    anchors: tuple[Anchored, ...] = tuple(remembering.anchored(place.service, anchor) for anchor in note.anchors)
    said = f"a {note.kind.value} of a session, by {note.source or 'nobody known'}"
    return Draft(EntryKind(options.kind), note.title, note.text, anchors, commit, (said, *(options.evidence or ())))


def _show_notes(options: argparse.Namespace, notes: Sequence[Note]) -> None:
    if options.json:
        print_json({"notes": [{"id": n.id, "kind": n.kind.value, "title": n.title, "source": n.source} for n in notes]})
    elif not notes:
        print("The session holds no note.")
    for note in notes if not options.json else ():
        print(f"{note.id:>6}  {note.kind.value}, by {note.source or 'nobody known'}: {note.title}")


def _show(options: argparse.Namespace, place: _Place, entries: Sequence[Entry], nothing: str) -> int:
    told = standing(place.store, place.service, entries)
    if options.json:
        print_json({"workspace": place.workspace, "entries": [entry_shape(each) for each in told]})
    elif not told:
        print(nothing)
    for each in told if not options.json else ():
        _print_line(each)
    return DONE if told else NOTHING


def _show_changed(options: argparse.Namespace, place: _Place, entries: Sequence[Entry]) -> int:
    _show(options, place, entries, "")
    if not options.json and any(entry.state is State.PROPOSED for entry in entries):
        print("It holds once it is accepted: `codehub knowledge review`.")
    return DONE


def _print_line(told: Standing) -> None:
    entry = told.entry
    day = str(entry_shape(told)["created_at"])[:_DAY]
    print(f"{entry.id:>5}  {entry.kind.value}, {entry.state.value}, {day}, by {entry.author}: {entry.title}")
    for line in warnings(told):
        print(f"       {line}")


def _print_whole(told: Standing) -> None:
    _print_line(told)
    shape, entry = entry_shape(told), told.entry
    for name, value in (
        ("about", "; ".join(remembering.about(each.anchor) for each in entry.anchors)),
        ("rests on", "; ".join(entry.evidence)),
        ("written at", entry.commit),
        ("by key", entry.key),
        ("reviewed", f"{entry.reviewer}, {shape['reviewed_at']}" if entry.reviewer else ""),
        ("reaffirmed", f"{entry.reaffirmed_by}, {shape['reaffirmed_at']}" if entry.reaffirmed_by else ""),
        ("expires", shape["expires_at"] or ""),
        ("supersedes", ", ".join(map(str, entry.supersedes))),
        ("taken from", f"{entry.source.name}, {entry.source.part}" if entry.source else ""),
        ("batch", entry.batch),
    ):
        if value:
            print(f"       {name} {value}")
    print(indent(entry.text, "  | ", lambda _line: True))
