"""The tool that reads the tree as it was indexed: lines of a file, or a symbol whole. It opens no file of the tree."""

import re
from collections.abc import Sequence

from agents import text
from agents.desk import Desk
from agents.errors import ArgumentError
from agents.model import Arguments, Call
from agents.parameters import Number, Text
from agents.text import Item
from agents.tools.model import Tool
from agents.tools.replies import Asked, asked, listed
from hub.auth.model import Scope
from hub.service import Match, Page
from indexer.model import Span, Symbol, SymbolKind

LAST_LINE = 9_999_999  # above every file's
MOST_DEFINITIONS = 6  # of one name that are shown
MOST_NAMED = 12  # of those that are not shown
MOST_ENTRIES = 200  # of a folder
FIRST_LOOK = 2_000  # lines that are taken out of the index at once; more than a result can show

_BRIEF = frozenset({SymbolKind.USING, SymbolKind.NAMESPACE})  # read only where a name is of nothing else
# A place as it is cited: "path:12" and "path:12-40".
_CITED = re.compile(r"(?P<path>[^:]+):(?P<first>\d{1,8})(?:-(?P<last>\d{1,8}))?")


def _read(desk: Desk, call: Call, arguments: Arguments) -> str:
    path, symbol = arguments["path"], arguments["symbol"]
    if not path and not symbol:
        raise ArgumentError("path and symbol are missing.", "Give a path, with lines where you know them, or a symbol.")
    with asked(desk, call, "read_file", arguments) as this:
        if symbol:
            return _definition(this, symbol, path)
        first, last = arguments["first_line"], arguments["last_line"] or LAST_LINE
        known = this.service.file(path)
        if known is None and (cited := _CITED.fullmatch(path)):
            known = this.service.file(cited["path"])
            first = max(1, int(cited["first"]))
            last = int(cited["last"] or cited["first"])
        if known is None:
            return _no_file(this, path)
        if last < first:
            raise ArgumentError(f"last_line is {last}, above first_line {first}.", "Lines count from 1, both ends in.")
        return _lines(this, known, first, last)


def _lines(this: Asked, path: str, first: int, last: int) -> str:
    total = this.service.last_line(path)
    if first > total:
        return this.whole(f"{text.one_line(path)} has {total} lines in the index, none at {first}.")
    this.notes += this.service.age([path])
    last = min(last, total)
    wanted = Span(path, first, min(last, first + FIRST_LOOK - 1))
    if this.call.as_json:
        return _json(this, wanted, total)
    rows = text.numbered(enumerate(_split(this.service.lines(wanted)), first)).split("\n")
    foot = this.foot()
    fixed = f"{text.one_line(path)}:{first}-{last} of {total} lines\n{_further(last, last, first)}\n{foot}"
    fitted = text.fit([Item(row) for row in rows], text.DEFAULT_TOKENS - text.tokens(fixed) - 1)
    end = first + fitted.shown - 1
    heading = f"{text.one_line(path)}:{first}-{end} of {total} lines"
    further = _further(last - end, last, end + 1) if end < last else ""
    return "\n".join(part for part in (heading, fitted.text, further, foot) if part)


def _further(left: int, last: int, following: int) -> str:
    return f"… {left} more lines of those asked for: call again with first_line={following}, last_line={last}"


def _json(this: Asked, wanted: Span, total: int) -> str:
    lines = _split(this.service.lines(wanted))

    def shape(count: int) -> dict[str, object]:
        end = wanted.first_line + count - 1
        code = "\n".join(lines[:count])
        return {"path": wanted.path, "first_line": wanted.first_line, "last_line": end, "lines": total, "text": code}

    return this.json(shape, len(lines), 0)


def _split(code: str) -> list[str]:
    return code.removesuffix("\n").split("\n")


def _no_file(this: Asked, path: str) -> str:
    entries = this.service.folder(path)
    if entries is not None:
        named = listed((f"{name} ({files} files)" if files else name for name, files in entries), MOST_ENTRIES)
        return this.whole(f"{text.one_line(path)} is a folder with: {named}.")
    near = this.service.near_files(path, 5)
    told = [f"The index has no file {text.one_line(path)}."]
    if near:
        told.append(f"Files that are called much like it: {listed(near, 5)}.")
    return this.whole(*told, "Next: a folder as path lists what is in it. What git ignores is not indexed.")


def _definition(this: Asked, symbol: str, path: str) -> str:
    """What defines a symbol, whole; what declares it where the tree has no definition."""
    found = this.service.find(symbol, Page(200))
    name = text.one_line(symbol)
    if found.match not in (Match.EXACT, Match.FOLDED):
        near = f" Near names: {listed((each.qualified_name for each in found.symbols), 5)}." if found.symbols else ""
        return this.whole(f"No symbol is named {name}.{near}", "Next: find_symbol or search_code.")
    symbols = found.symbols
    if path:
        within = this.service.file(path)
        if within is None:
            return _no_file(this, path)
        symbols = tuple(each for each in symbols if each.span.path == within)
        if not symbols:
            places = listed((text.place(each.span) for each in found.symbols), 5)
            return this.whole(f"{name} does not stand in {text.one_line(within)}, but in {places}.")
    own = [each for each in symbols if each.kind not in _BRIEF] or symbols
    chosen = [each for each in own if each.is_definition] or list(own)
    unclear = _unclear(name, chosen)
    if unclear:
        return this.whole(*unclear)
    this.notes += this.service.age(each.span.path for each in chosen[:MOST_DEFINITIONS])
    if this.call.as_json:
        return _json(this, chosen[0].span, this.service.last_line(chosen[0].span.path))
    return _shown(this, chosen)


def _unclear(name: str, chosen: Sequence[Symbol]) -> list[str]:
    """What is told in place of code, where a name is of too many things or of a namespace."""
    places = listed((f"{each.qualified_name} {text.place(each.span)}" for each in chosen), MOST_NAMED)
    if all(each.kind is SymbolKind.NAMESPACE for each in chosen):
        return [f"{name} is a namespace: {places}.", "Next: path= with lines, or a symbol in it."]
    if len({each.qualified_name for each in chosen}) > 1 and len(chosen) > MOST_DEFINITIONS:
        return [f"{name} may mean {len(chosen)} symbols: {places}.", "Next: give the qualified name."]
    return []


def _shown(this: Asked, chosen: Sequence[Symbol]) -> str:
    """As many whole definitions as fit; the first in any case, which ends with how to read on where it is too long."""
    foot = this.foot()
    room = text.DEFAULT_TOKENS - text.tokens(foot) - 1
    blocks: list[str] = []
    left: list[str] = []
    for each in chosen:
        span = each.span
        most = Span(span.path, span.first_line, min(span.last_line, span.first_line + FIRST_LOOK - 1))
        name = f" {each.kind.value} {text.one_line(each.qualified_name)}"
        rows = text.numbered(enumerate(_split(this.service.lines(most)), span.first_line)).split("\n")
        heading = f"{text.place(span)}{name}"
        block = "\n".join((heading, *rows))
        if text.tokens(block) + 1 <= room and len(blocks) < MOST_DEFINITIONS and most == span:
            blocks.append(block)
            room -= text.tokens(block) + 1
        elif blocks:
            left.append(text.place(span))
        else:
            budget = room - text.tokens(f"{heading}\n{_further(span.last_line, span.last_line, span.last_line)}") - 80
            fitted = text.fit([Item(row) for row in rows], budget)
            end = span.first_line + fitted.shown - 1
            further = f"… {span.last_line - end} more lines: read_file with path={text.one_line(span.path)}"
            blocks.append(f"{heading}\n{fitted.text}\n{further}, first_line={end + 1}, last_line={span.last_line}")
            room = 0
    if left:
        this.notes.append(f"Of this name there is more: {listed(left, 8)}.")
        foot = this.foot()
    return text.shortened("\n".join((*blocks, foot)), text.DEFAULT_TOKENS + 400)


READ_FILE = Tool(
    name="read_file",
    title="Read a file",
    about="Numbered lines of a file, or a symbol's whole definition. A path's end is enough.",
    parameters=(
        Text("path"),
        Number("first_line", "", 1, LAST_LINE, 1),
        Number("last_line", "", 0, LAST_LINE, 0),
        Text("symbol"),
        Text("workspace"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_read,
)
