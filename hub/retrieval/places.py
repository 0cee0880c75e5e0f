"""Finds the places and names of a paste in an index: files by how their paths end, lines by their chunks, functions by
their symbols. Build machines' folders fall away, and a function that has moved since is found by its name.

Knows nothing of how texts are read.
"""

import re
from collections.abc import Iterable, Sequence

from hub.model import Frame, Paste, PasteKind
from indexer.index import Index
from indexer.model import ChunkId, Span, Symbol, SymbolKind

MOST_PLACES = 24  # frames and names that are looked up, 8 to 48; each takes about 0.1 ms, and later ones say little
MOST_CHUNKS = 100  # as of every other arm
NAMESAKES = 8  # overloads and functions of other files that one name may mean, 3 to 20
NAMESAKES_OF_LAST_PART = 3  # where only the last part of a qualified name is known
MOST_FILES = 3  # of the same name, where a path does not decide
# Shares of a place's score, 0 to 1: the chunk of the line itself, where its function begins, what is only declared.
LINE, BEGINNING, DECLARATION = 1.0, 0.6, 0.4
LIKELY_WRITERS = 50  # chunks whose string literals are compared with a message, 20 to 100; 0.05 ms each
LEAST_RUN = 3  # words in a row that tell a literal from chance, 3 to 5; two are enough where they are the whole message
WRITERS = 5

_LITERAL = re.compile(r'"((?:[^"\\\n]|\\.){0,1000})"')
_HOLE = re.compile(r"%[-+ #0]{0,3}[\d*.]{0,8}(?:hh|h|ll|l|L|z|j|t)?[diouxXeEfFgGcspn]|\{[^{}]{0,40}\}|\\[nt]")
_WORD = re.compile(r"[a-z]+")
_NAMES_FIRST = frozenset({PasteKind.LINKER, PasteKind.TEST})


def resolve(index: Index, paste: Paste) -> list[tuple[ChunkId, float]]:
    """(chunk, score) of what a paste names, best first, equal ones by id: the innermost frame of its error first."""
    placed = {frame.symbol for frame in paste.frames if frame.symbol}
    names = [Frame("", 0, name) for name in paste.names if name not in placed or paste.kind in _NAMES_FIRST]
    wanted = [*names, *paste.frames] if paste.kind in _NAMES_FIRST else [*paste.frames, *names]
    files = _files(index, {frame.path for frame in wanted if frame.path})
    known: dict[str, list[Symbol]] = {}
    scores: dict[ChunkId, float] = {}
    resolved = 0
    for frame in wanted[:MOST_PLACES]:
        if frame.symbol and frame.symbol not in known:
            known[frame.symbol] = _symbols(index, frame.symbol)
        found = _chunks(index, frame, files.get(frame.path, ()), known.get(frame.symbol, []))
        for chunk, share in found:
            scores[chunk] = max(scores.get(chunk, 0.0), share / (1 + resolved))
        resolved += bool(found)
    for chunk, share in _writers(index, paste.said):
        scores[chunk] = max(scores.get(chunk, 0.0), share / (1 + resolved))
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:MOST_CHUNKS]


def _writers(index: Index, said: Sequence[str]) -> list[tuple[ChunkId, float]]:
    """The chunks whose string literals hold most words in a row of a message, and their share of its words.

    What a message was given stands in neither: numbers and paths are blanked there, and place-holders here.
    """
    wanted = [words for message in said if len(words := _WORD.findall(message.lower())[:40]) > 1]
    if not wanted:
        return []
    likely = index.text.search(" ".join(" ".join(words) for words in wanted), LIKELY_WRITERS)
    found = []
    for chunk in index.table.chunks([chunk for chunk, _ in likely]):
        literals = " ".join(literal.group(1) for literal in _LITERAL.finditer(chunk.text))
        written = f" {' '.join(_WORD.findall(_HOLE.sub(' ', literals).lower()))} "
        share = max(_longest_run(words, written) / len(words) for words in wanted)
        if share:
            found.append((chunk.id, share))
    return sorted(found, key=lambda item: (-item[1], item[0]))[:WRITERS]


def _longest_run(words: Sequence[str], written: str) -> int:
    """How many of the words stand in a row in what was written; 0 where they are too few to mean anything."""
    longest = min(LEAST_RUN, len(words)) - 1
    start = 0
    while start + longest < len(words):
        if f" {' '.join(words[start : start + longest + 1])} " in written:
            longest += 1
        else:
            start += 1
    return longest if longest >= min(LEAST_RUN, len(words)) else 0


def _chunks(index: Index, frame: Frame, paths: Sequence[str], symbols: Sequence[Symbol]) -> list[tuple[ChunkId, float]]:
    """What one frame stands for. Where its function is elsewhere, the line is of an older state of the file."""
    here = [symbol for symbol in symbols if symbol.span.path in paths]
    if here:
        paths = sorted({symbol.span.path for symbol in here}, key=paths.index)
    around = [s for s in here if s.span.first_line <= frame.line <= s.span.last_line]
    lines = [
        chunk.id for path in paths[:MOST_FILES] for chunk in index.table.chunks_at(Span(path, frame.line, frame.line))
    ]
    beginnings = _beginnings(index, around or here or ([] if lines else symbols))
    share_of_line = LINE / max(1, len(paths[:MOST_FILES]))
    if here and not around:
        return [*beginnings, *((chunk, share_of_line * DECLARATION) for chunk in lines)]
    if not lines:
        return beginnings
    return [*((chunk, share_of_line) for chunk in lines), *((chunk, share * BEGINNING) for chunk, share in beginnings)]


def _beginnings(index: Index, symbols: Iterable[Symbol]) -> list[tuple[ChunkId, float]]:
    found = []
    for symbol in list(symbols)[:NAMESAKES]:
        line = symbol.line or symbol.span.first_line
        share = LINE if symbol.is_definition else DECLARATION
        found += [(chunk.id, share) for chunk in index.table.chunks_at(Span(symbol.span.path, line, line))]
    return found


def _symbols(index: Index, name: str) -> list[Symbol]:
    """The symbols of a name; where there are none, those of its last parts: macros may hide a namespace."""
    parts = name.split("::") if " " not in name else [name]
    for start in range(len(parts)):
        found = index.facts.symbols_named("::".join(parts[start:]), NAMESAKES + 1)
        found = [symbol for symbol in found if symbol.kind is not SymbolKind.SECTION]
        alone = start > 0 and start == len(parts) - 1
        if found:
            return [] if alone and len(found) > NAMESAKES_OF_LAST_PART else found[:NAMESAKES]
    return []


def _files(index: Index, pasted: set[str]) -> dict[str, list[str]]:
    """The files that each pasted path may mean: those that share most of its end, the shortest first."""
    if not pasted:
        return {}
    called: dict[str, list[str]] = {}
    for path in index.table.paths_called({_parts(path)[-1] for path in pasted}):
        called.setdefault(path.rpartition("/")[2].lower(), []).append(path)
    found = {}
    for path in sorted(pasted):
        parts = _parts(path)
        shared = {one: _shared_end(parts, _parts(one)) for one in called.get(parts[-1], ())}
        most = max(shared.values(), default=0)
        found[path] = sorted((one for one in shared if shared[one] == most), key=lambda one: (one.count("/"), one))
    return found


def _parts(path: str) -> list[str]:
    """The names in a path in lower case, as Windows may write them, without dots."""
    return [part for part in path.lower().split("/") if part not in {"", ".", ".."}] or [""]


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count
