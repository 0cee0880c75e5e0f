"""What remembered things are about, as the index knows it: names and places completed, and what has changed since.

Knows nothing of how anything is kept, nor of who asks.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from hub.auth.keys import written_time
from hub.auth.model import LOCAL, Principal
from hub.knowledge import Anchor, Anchored, Draft, Entry, EntryKind, Lasting, State
from hub.knowledge.model import PLACE
from hub.knowledge.words import asked, in_one_line, searched
from hub.model import Hit
from hub.prompting import Passage, Stretch
from hub.reasons import front_matter
from hub.service import Page, Service, Story
from hub.shapes import Json
from indexer import history
from indexer.model import Span, Symbol

# Which entries stand among the evidence of a question, and what they are worth beside its hits.
MOST_EVIDENCE = 3  # entries; 1 to 8
HITS_ABOUT = 8  # best hits whose symbols and files entries may be about; 3 to 20
MOST_NEAR = 20  # entries that are looked at; 10 to 100
ABOUT_A_SYMBOL, ABOUT_A_FILE = 0.35, 0.2  # added to the share of the question's words that an entry holds; 0 to 0.5
LEAST_RELEVANCE = 0.5  # 0.3 to 0.8
BELOW_THE_BEST = 0.7  # in log odds: half of what the best hit is worth; 0 to 2
MOST_NAMED = 16  # symbols and places of a document's front matter that are looked up
MOST_TITLE = 80  # characters of a title beside a citation; 40 to 200
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


def evidence(lasting: Lasting, service: Service, question: str, hits: Sequence[Hit]) -> tuple[Passage, ...]:
    """What is accepted of the service's workspace and speaks of a question and its best hits, to be shown with them.

    At most MOST_EVIDENCE entries, the best first, each as the lines of a place that no file of a tree can have, such as
    ``knowledge://3``: a line of who says so, lines of what speaks against believing it, then its text. Its title
    stands where that of a symbol would.
    """
    if not hits:
        return ()
    best = hits[:HITS_ABOUT]
    symbols = dict.fromkeys(hit.symbol_name for hit in best if hit.symbol_name)
    paths = dict.fromkeys(hit.chunk.span.path for hit in best)
    near = lasting.near(LOCAL, service.workspace, symbols, paths, MOST_NEAR)
    found = {entry.id: entry for entry in (*near, *lasting.search(LOCAL, service.workspace, question, MOST_NEAR))}
    wanted = asked(question)
    scored = []
    for entry in found.values():
        if entry.state is not State.ACCEPTED:
            continue
        held = searched([entry.title, entry.text, *(each.anchor.symbol for each in entry.anchors)])
        relevance = sum(word in held for word in wanted) / len(wanted) if wanted else 0.0
        names = {each.anchor.symbol for each in entry.anchors}
        relevance += ABOUT_A_SYMBOL * any(_is_same(name, symbol) for name in names if name for symbol in symbols)
        relevance += ABOUT_A_FILE * any(each.anchor.path in paths for each in entry.anchors)
        if relevance >= LEAST_RELEVANCE:
            scored.append((-relevance, -entry.id, entry))
    chosen = [entry for *_, entry in sorted(scored, key=lambda each: each[:2])[:MOST_EVIDENCE]]
    score = best[0].score - BELOW_THE_BEST
    return tuple(_passage(told, score - place / 100) for place, told in enumerate(standing(lasting, service, chosen)))


def beside(lasting: Lasting, principal: Principal, service: Service, story: Story, limit: int) -> tuple[Standing, ...]:
    """What is kept about what a story tells of, at most ``limit``: of its symbols and file, else what speaks of it."""
    symbols = [symbol.qualified_name for symbol in story.symbols] if story.span else []
    paths = [story.span.path] if story.span else []
    found = {entry.id: entry for entry in lasting.near(principal, service.workspace, symbols, paths, limit)}
    if story.span is None:
        told = lasting.search(principal, service.workspace, story.asked, limit, (State.ACCEPTED,))
        found |= {entry.id: entry for entry in told}
    return standing(lasting, service, list(found.values())[:limit])


def _passage(told: Standing, score: float) -> Passage:
    entry = told.entry
    day, by = str(written_time(entry.created_at))[:10], f", accepted by {entry.reviewer}" if entry.reviewer else ""
    head = f"{entry.kind.value} {entry.id}, kept by {entry.author}{by}, {day}"
    rests = [f"rests on {', '.join(entry.evidence[:4])}"] if entry.evidence else []
    text = "\n".join((head, *warnings(told), *rests, entry.text))
    span = Span(f"{PLACE}{entry.id}", 1, text.count("\n") + 1)
    return Passage((Stretch(span, text),), score, entry.title[:MOST_TITLE])


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
        "source": {"name": entry.source.name, "part": entry.source.part, "digest": entry.source.digest}
        if entry.source
        else None,
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


def drafted(
    service: Service | None, kind: EntryKind, title: str, text: str, about: Iterable[str]
) -> tuple[Draft, list[str]]:
    """A draft about symbols and places as they were written, and those of which the index knows none or several.

    Without a service all are kept as written, and the draft tells no commit.
    """
    written = list(dict.fromkeys(part for each in about for part in parts(each)))
    if service is None:
        return Draft(kind, title, text, tuple(Anchored(as_written(each)) for each in written)), []
    anchors, unknown = [], []
    with service.moment():
        for each in written:
            anchor = resolved(service, each)
            unknown += [each] if anchor is None else []
            anchors.append(anchored(service, anchor or as_written(each)))
    return Draft(kind, title, text, tuple(anchors), commit_of(service)), unknown


def commit_of(service: Service) -> str:
    """The commit that the tree is at, marked where it differs from it; "" outside of git."""
    commit, dirty = history.head(service.root)
    return f"{commit}{' and local changes' if dirty else ''}" if commit else ""


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


def doubts(service: Service, path: str, head: str) -> tuple[str, ...]:
    """What a document of the tree says in its front matter that it is about, and is not as it was when it was written.

    A file keeps no digests, so the commits decide: what was changed after the document was. Sentences, as in ``drift``.
    """
    named = front_matter(head).get("about", "")
    written, _ = service.history(path, Page(1)) if named else ((), 0)
    told = []
    for each in parts(named)[:MOST_NAMED]:
        anchor = resolved(service, each)
        if anchor is None:
            told.append(f"{in_one_line(each)} is not known, or means several things")
            continue
        changed, _ = service.history(anchor.symbol or anchor.path, Page(1))
        if written and changed and changed[0].commit.time_s > written[0].commit.time_s:
            told.append(f"{about(anchor)} was changed after it")
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


def _is_same(name: str, symbol: str) -> bool:
    return symbol == name or symbol.endswith(f"::{name}")


def _squeezed(code: str) -> str:
    """The code without its white space, so that formatting it anew is no change."""
    return "".join(code.split())


def _ends_with(path: str, written: str) -> bool:
    return path == written or path.endswith(f"/{written.lstrip('./')}")
