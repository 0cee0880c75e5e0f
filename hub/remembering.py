"""What remembered things are about, as the index knows it: names and places completed, and what has changed since.

Knows nothing of how anything is kept, nor of who asks.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from hub.auth.keys import written_time
from hub.knowledge import Anchor, Anchored, Entry, Lasting
from hub.service import Service
from hub.shapes import Json
from indexer.model import Span, Symbol

MOST_NAMESAKES = 64  # definitions of one name that are looked at
_PLACE = re.compile(r"(?P<path>[^\s:][^:\n]{0,390}):(?P<line>\d{1,7})(?:-\d{1,7})?")
_BETWEEN = re.compile(r"[<(\[>)\],;\n]")
_LOOKS_LIKE_A_PATH = re.compile(r"[^\s:]{0,390}[^\s:/]\.\w{1,8}|[^\s:]{1,200}/[^\s:]{0,200}")
_THERE = sha256(b"a file").hexdigest()  # of a whole file, which is looked at for being there alone


@dataclass(frozen=True, slots=True)
class Standing:
    """An entry with what is to be known before it is believed."""

    entry: Entry
    drift: tuple[str, ...]  # what of the code it is about is not as it was, a sentence each
    rivals: tuple[Entry, ...]  # what else is accepted for the same place, the newest first


def standing(lasting: Lasting, service: Service, entries: Iterable[Entry]) -> tuple[Standing, ...]:
    """Entries of the service's workspace as they stand now."""
    with service.moment():
        return tuple(Standing(entry, drift(service, entry), lasting.rivals(entry)) for entry in entries)


def entry_shape(told: Standing) -> Json:
    """An entry as JSON."""
    entry = told.entry
    return {
        "id": entry.id,
        "workspace": entry.workspace,
        "kind": entry.kind.value,
        "state": entry.state.value,
        "title": entry.title,
        "text": entry.text,
        "about": [
            {"symbol": each.anchor.symbol, "path": each.anchor.path, "line": each.anchor.line} for each in entry.anchors
        ],
        "author": entry.author,
        "key": entry.key,
        "commit": entry.commit or None,
        "evidence": list(entry.evidence),
        "created_at": written_time(entry.created_at),
        "expires_at": written_time(entry.expires_at),
        "supersedes": list(entry.supersedes),
        "superseded_by": list(entry.superseded_by),
        "reviewer": entry.reviewer or None,
        "reviewed_at": written_time(entry.reviewed_at),
        "reason": entry.reason or None,
        "reaffirmed_by": entry.reaffirmed_by or None,
        "reaffirmed_at": written_time(entry.reaffirmed_at),
        "batch": entry.batch,
        "drift": list(told.drift),
        "also_held": [each.id for each in told.rivals],
    }


def warnings(told: Standing) -> list[str]:
    """What is to be known before an entry is believed, a line each; nothing where it simply holds."""
    entry = told.entry
    lines = []
    if entry.superseded_by:
        lines.append(f"NO LONGER SO: superseded by {', '.join(map(str, entry.superseded_by))}")
    if entry.state.value in ("proposed", "retired", "expired"):
        reason = f": {entry.reason}" if entry.reason else ""
        lines.append(f"NOT IN FORCE: {entry.state.value}{reason}")
    if told.drift:
        lines.append(f"perhaps no longer so, the code it is about is not as it was: {'; '.join(told.drift)}")
    for other in told.rivals:
        age = "newer" if (other.created_at, other.id) > (entry.created_at, entry.id) else "older"
        lines.append(f"{other.id} is held for the same place, too, and is {age}: {other.title}")
    return lines


def parts(written: str) -> list[str]:
    """What stands between the commas and line ends of a list, those inside of brackets left out."""
    found, depth, begin = [], 0, 0
    for sign_at in _BETWEEN.finditer(written):
        sign = sign_at.group()
        if sign in "<([":
            depth += 1
        elif sign in ">)]":
            depth = max(0, depth - 1)
        elif not depth or sign in ";\n":
            found.append(written[begin : sign_at.start()])
            begin = sign_at.end()
            depth = 0
    return list(dict.fromkeys(part.strip() for part in (*found, written[begin:]) if part.strip()))


def resolved(service: Service, written: str) -> Anchor | None:
    """The anchor with the name or path of the index; None where that has none of it, or several."""
    anchor = as_written(written)
    if anchor.path:
        same = [path for path in service.files_called(anchor.path.rpartition("/")[2]) if _ends_with(path, anchor.path)]
        return Anchor("", same[0], anchor.line) if len(same) == 1 else None
    names = {symbol.qualified_name for symbol in service.symbols(written, 20)}
    name = written if written in names else next(iter(names), "")
    return Anchor(name) if len(names) == 1 or written in names else None


def as_written(written: str) -> Anchor:
    """The anchor that a text means by its form alone: a place, a path, else a name."""
    plain = written.strip()
    if (place := _PLACE.fullmatch(plain)) and "::" not in plain:
        return Anchor("", place["path"].removeprefix("./"), int(place["line"]))
    if "::" not in plain and _LOOKS_LIKE_A_PATH.fullmatch(plain):
        return Anchor("", plain.removeprefix("./"))
    return Anchor(plain)


def anchored(service: Service, anchor: Anchor) -> Anchored:
    """The anchor with what stands there now. A line within a symbol becomes that symbol, which may move."""
    if anchor.line and not anchor.symbol:
        around = service.symbols_at(anchor.path, anchor.line)
        if around:
            anchor = Anchor(around[0].qualified_name, anchor.path, anchor.line)
    return Anchored(anchor, digest(service, anchor))


def digest(service: Service, anchor: Anchor) -> str:
    """Of the code at an anchor as it was last indexed, white space apart, in hexadecimal; "" where there is none.

    A symbol has that of its definitions, else of its declarations, in the anchor's file if it names one. A line that is
    in no symbol has that of the line. A whole file has the same as long as it is there.
    """
    if anchor.symbol:
        texts = sorted(_squeezed(service.lines(symbol.span)) for symbol in _meant(service, anchor))
    elif anchor.line:
        texts = [_squeezed(service.lines(Span(anchor.path, anchor.line, anchor.line)))]
    else:
        return _THERE if service.last_line(anchor.path) else ""
    return sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest() if any(texts) else ""


def drift(service: Service, entry: Entry) -> tuple[str, ...]:
    """What of an entry's anchors is not as it was when it was written or last reaffirmed, each as a sentence.

    An anchor that the index did not know then says nothing until it is reaffirmed. A line that only moved is as it was.
    """
    told = []
    for each in entry.anchors:
        if not each.digest:
            continue
        now = digest(service, each.anchor)
        if now != each.digest and not _moved(service, each):
            told.append(f"{about(each.anchor)} {'has changed' if now else 'is no longer there'}")
    return tuple(told)


def about(anchor: Anchor) -> str:
    """The anchor for people: ``Name (path:line)`` or the part of it that is known."""
    where = f"{anchor.path}:{anchor.line}" if anchor.path and anchor.line else anchor.path
    return f"{anchor.symbol} ({where})" if anchor.symbol and where else anchor.symbol or where


def _meant(service: Service, anchor: Anchor) -> Sequence[Symbol]:
    named = [s for s in service.symbols(anchor.symbol, MOST_NAMESAKES) if s.qualified_name == anchor.symbol]
    here = [symbol for symbol in named if symbol.span.path == anchor.path] or named
    return [symbol for symbol in here if symbol.is_definition] or here


def _moved(service: Service, each: Anchored) -> bool:
    """Whether the line of an anchor stands elsewhere in its file."""
    if each.anchor.symbol or not each.anchor.line:
        return False
    lines = service.lines(Span(each.anchor.path, 1, service.last_line(each.anchor.path))).splitlines()
    return any(sha256(_squeezed(line).encode("utf-8", "replace")).hexdigest() == each.digest for line in lines)


def _squeezed(code: str) -> str:
    """The code without its white space, so that formatting it anew is no change."""
    return "".join(code.split())


def _ends_with(path: str, written: str) -> bool:
    return path == written or path.endswith(f"/{written.lstrip('./')}")
