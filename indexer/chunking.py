"""Cuts a file into the pieces that are embedded, searched and quoted.

Chunks are whole lines, follow each other without a gap and cover the file. A function with its comment is one chunk, a
type that fits stays whole, a larger one is cut between its members, and small neighbours share a chunk. It sees only
lines and symbols: no syntax tree, nothing of a language beyond its comments, its blank lines and its indentation.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from indexer.model import Chunk, Language, ParsedFile, SourceFile, Span, Symbol, SymbolKind, chunk_id

# Characters unless said otherwise. Splitters that merge small pieces and cut large ones do best on code at 1,200-1,500;
# 3,000 keeps nearly every function whole. Sensible ranges: target 800-2,000, whole 2,000-4,000.
TARGET_SIZE = 1400
WHOLE_SIZE = 3000
WITH_COMMENT_SIZE = 4500  # a comment that would make more than this of its function stands apart
SMALL_SIZE = 120  # a remainder without a symbol (braces, an #endif, a label) below this joins a neighbour
OWN_CHUNK_LINES = 4  # a function with its comment of fewer lines may share a chunk with its neighbours
TITLE_SIGNATURE = 200  # of a signature in a title

# Where a long stretch is cut: how much each property of a place is worth, and the window around the target.
CUT_WINDOW = (0.6, 1.5)  # of TARGET_SIZE
BLANK_LINE_GAIN = 2.0
INDENT_LOSS = 0.25  # for each column, so that eight columns outweigh a blank line
CLOSING_LINE_LOSS = 1.0  # a piece that starts with "}" or "else" belongs to what stands above it

_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
_TYPES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION})
_CLOSES = ("}", ")", "#endif", "else")
_LONE_MACRO = re.compile(r"[A-Z_][A-Z0-9_]{2,}(?:\(.*\))?")


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines that belong together, numbered from 1, both ends in."""

    first: int
    last: int
    alone: bool = False  # a chunk of its own
    named: bool = False  # holds a symbol
    whole: bool = False  # never cut, whatever small remainders join it


class _Lines:
    """A text as lines that keep their ends, with sizes of stretches in constant time."""

    def __init__(self, text: str) -> None:
        parts = text.split("\n")
        self._lines = [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
        self._before = [0, *accumulate(map(len, self._lines))]

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, line: int) -> str:
        return self._lines[line - 1]

    def size(self, first: int, last: int) -> int:
        return self._before[last] - self._before[first - 1]

    def text(self, first: int, last: int) -> str:
        return "".join(self._lines[first - 1 : last])

    def paragraphs(self, first: int, last: int) -> Iterator[_Block]:
        """The stretch in pieces that end with their blank lines."""
        start = first
        for line in range(first, last):
            if not self[line].strip() and self[line + 1].strip():
                yield _Block(start, line)
                start = line + 1
        if start <= last:
            yield _Block(start, last)


def chunk(source: SourceFile, parsed: ParsedFile) -> tuple[Chunk, ...]:
    """The chunks by line; their texts joined are the file's text, and an empty file has none.

    A title is "path | qualified name | signature" of the symbol that has most lines in the chunk among those that
    start there, else of the innermost one around it; "path | heading > heading" in a document; the bare path where
    there is no symbol. ``symbol`` is that symbol's id. No line is ever cut, however long it is.
    """
    lines = _Lines(source.text)
    symbols = [symbol for symbol in parsed.symbols if symbol.span.last_line <= len(lines)]
    symbols.sort(key=lambda symbol: (symbol.span.first_line, -symbol.span.last_line))
    if source.language in (Language.CPP, Language.CMAKE):
        blocks, cuts = _code_blocks(lines, symbols)
    else:
        blocks, cuts = _section_blocks(lines, symbols)
    ranges = _cut_long(lines, _merged(lines, blocks, cuts))
    return tuple(_titled(source.path, lines, symbols, ranges))


def _code_blocks(lines: _Lines, symbols: list[Symbol]) -> tuple[list[_Block], set[int]]:
    """The file as blocks, and the lines before which a chunk must end: where a type begins or ends that is cut."""
    blocks: list[_Block] = []
    cuts: set[int] = set()
    done = 0
    for symbol in symbols:
        first, last = symbol.span.first_line, symbol.span.last_line
        if symbol.kind is SymbolKind.NAMESPACE or last <= done:
            continue
        top = _with_comment(lines, first, done, "#" if symbol.kind is SymbolKind.SECTION else "//")
        if symbol.kind in _TYPES and lines.size(top, last) > WHOLE_SIZE and first > done:
            cuts.update((top, last + 1))
            continue
        if first <= done:  # it starts on the line where the block before ends
            start, alone = blocks[-1].first, blocks[-1].alone
            blocks[-1] = _Block(start, last, alone, named=True, whole=lines.size(start, last) <= WHOLE_SIZE)
        else:
            if lines.size(top, last) > WITH_COMMENT_SIZE:
                top = first
            blocks.extend(lines.paragraphs(done + 1, top - 1))
            function = symbol.kind in _FUNCTIONS or symbol.kind is SymbolKind.SECTION
            alone = function and symbol.is_definition and last - top + 1 >= OWN_CHUNK_LINES
            whole = lines.size(first, last) <= WHOLE_SIZE
            blocks.append(_Block(top, last, alone, named=True, whole=whole))
        done = last
    blocks.extend(lines.paragraphs(done + 1, len(lines)))
    return blocks, cuts


def _section_blocks(lines: _Lines, symbols: list[Symbol]) -> tuple[list[_Block], set[int]]:
    """Paragraphs, and a cut at each heading; a subheading right below its heading shares its chunk."""
    starts = [symbol.span.first_line for symbol in symbols]
    cuts: set[int] = set()
    blocks: list[_Block] = []
    for first, following in zip([1, *starts], [*starts, len(lines) + 1], strict=True):
        blocks.extend(lines.paragraphs(first, following - 1))
    for index, start in enumerate(starts):
        parent = index > 0 and symbols[index - 1].span.last_line >= start
        body = lines.text(starts[index - 1] + 1, start - 1) if parent else ""
        if not parent or any(char.isalnum() for char in body):
            cuts.add(start)
    return blocks, cuts


def _with_comment(lines: _Lines, first: int, done: int, mark: str) -> int:
    """The first line of the comment right above a symbol, not above line ``done`` + 1; else the symbol's own."""
    top = first
    while top - 1 > done:
        above = lines[top - 1].strip()
        if above.startswith(mark) or _LONE_MACRO.fullmatch(above):
            top -= 1
            continue
        if not above.endswith("*/"):
            break
        opening = top - 1
        while opening > done and "/*" not in lines[opening]:
            opening -= 1
        if opening <= done or not lines[opening].lstrip().startswith("/*"):
            break
        top = opening
    return top


def _merged(lines: _Lines, blocks: Iterable[_Block], cuts: set[int]) -> list[_Block]:
    """Neighbours joined up to the target size; small remainders join what they close or what they open."""
    merged: list[_Block] = []
    for block in blocks:
        current = merged[-1] if merged else None
        if current is None or block.first in cuts:
            joins = False
        elif _belongs_above(lines, block):
            joins = True
        elif block.alone:
            joins = _is_remainder(lines, current)
        else:
            joins = not current.alone and lines.size(current.first, block.last) <= TARGET_SIZE
        if joins and current is not None:
            merged[-1] = _joined(current, block)
        else:
            merged.append(block)
    if len(merged) > 1 and _is_remainder(lines, merged[-1]) and merged[-1].first not in cuts:
        last = merged.pop()
        merged[-1] = _joined(merged[-1], last)
    return merged


def _joined(above: _Block, below: _Block) -> _Block:
    return _Block(
        above.first,
        below.last,
        alone=above.alone or below.alone,
        named=above.named or below.named,
        whole=above.whole or below.whole,
    )


def _belongs_above(lines: _Lines, block: _Block) -> bool:
    if not lines.text(block.first, block.last).strip():
        return True
    return _is_remainder(lines, block) and lines[block.first].strip().startswith(_CLOSES)


def _is_remainder(lines: _Lines, block: _Block) -> bool:
    return not block.named and lines.size(block.first, block.last) <= SMALL_SIZE


def _cut_long(lines: _Lines, blocks: Iterable[_Block]) -> Iterator[tuple[int, int]]:
    for block in blocks:
        if block.whole or lines.size(block.first, block.last) <= WHOLE_SIZE:
            yield block.first, block.last
            continue
        first = block.first
        while first <= block.last:
            last = _best_cut(lines, first, block.last)
            yield first, last
            first = last + 1


def _best_cut(lines: _Lines, first: int, end: int) -> int:
    """The last line of the piece that starts at ``first``: near the target, at a blank line, at a shallow indent."""
    least, most = (int(TARGET_SIZE * share) for share in CUT_WINDOW)
    if lines.size(first, end) <= most:
        return end
    best, best_worth = first, float("-inf")
    for last in range(first, end):
        size = lines.size(first, last)
        if size > most:
            break
        if size < least:
            best = last  # the fallback when the next line is longer than the window
            continue
        following = lines[last + 1]
        stripped = following.strip()
        indent = len(following) - len(following.lstrip())
        worth = -abs(size - TARGET_SIZE) / TARGET_SIZE - INDENT_LOSS * indent
        worth += BLANK_LINE_GAIN if not lines[last].strip() else 0.0
        worth -= CLOSING_LINE_LOSS if stripped.startswith(_CLOSES) else 0.0
        if stripped and worth > best_worth:
            best, best_worth = last, worth
    return best


def _titled(path: str, lines: _Lines, symbols: list[Symbol], ranges: Iterable[tuple[int, int]]) -> Iterator[Chunk]:
    starts = [symbol.span.first_line for symbol in symbols]
    seen: Counter[tuple[str, str]] = Counter()
    around: list[Symbol] = []  # the symbols open at the start of the chunk, innermost last
    opened = 0
    for first, last in ranges:
        begin, end = bisect_left(starts, first), bisect_left(starts, last + 1)
        for symbol in symbols[opened:begin]:
            while around and around[-1].span.last_line < symbol.span.first_line:
                around.pop()
            around.append(symbol)
        opened = begin
        while around and around[-1].span.last_line < first:
            around.pop()
        main = _main_symbol(symbols[begin:end], last) or (around[-1] if around else None)
        title = _title(path, main)
        text = lines.text(first, last)
        identity = chunk_id(path, seen[title, text], title, text)
        seen[title, text] += 1
        yield Chunk(identity, Span(path, first, last), title, text, None if main is None else main.id)


def _main_symbol(starting: list[Symbol], last: int) -> Symbol | None:
    """The symbol that has most lines up to ``last``, namespaces only if there is nothing else.

    Of headings the deepest: one heading right below another introduces what follows.
    """
    if not starting:
        return None
    if starting[-1].kind is SymbolKind.SECTION and starting[0].kind is SymbolKind.SECTION:
        return max(starting, key=lambda symbol: (symbol.scope.count("::"), bool(symbol.scope)))
    return max(
        starting,
        key=lambda symbol: (
            symbol.kind is not SymbolKind.NAMESPACE,
            min(last, symbol.span.last_line) - symbol.span.first_line,
            symbol.is_definition,
        ),
    )


def _title(path: str, symbol: Symbol | None) -> str:
    if symbol is None:
        return path
    if symbol.kind is SymbolKind.SECTION:
        return f"{path} | {symbol.qualified_name.replace('::', ' > ')}"
    return f"{path} | {symbol.qualified_name} | {symbol.signature[:TITLE_SIGNATURE]}"
