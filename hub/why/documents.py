"""The parts of documents that speak of a symbol or a question, decisions first; those that hold no longer say so."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hub import reasons
from hub.model import Hit, SignalSource
from hub.retrieval import Filters
from indexer.index import Index
from indexer.model import Chunk, Span

LOOKED_AT = 40  # hits that parts of documents are chosen of; 20 to 100
MOST_LINES = 8  # that are shown of a part
MOST_SENTENCES = 3
PARTS_A_FILE = 2

Search = Callable[[str, int, Filters], Sequence[Hit]]
"""The best hits of a text, so many, among what the filters let through."""

_WRITTEN_PATH = re.compile(r"[\w./-]{1,200}\.(?:md|markdown|rst|adoc|txt)\b")
_WRITTEN_NUMBER = re.compile(r"\b(?:ADR|RFC|decision)[ \t_#-]{0,3}(?P<number>\d{1,5})\b", re.IGNORECASE)
_NUMBERED = re.compile(r"(?:^|/)(?:adr|rfc|decision)?[-_]?0*(?P<number>\d{1,5})[-_.][^/]*$", re.IGNORECASE)
_DISTINCT = re.compile(r"[a-z\d][A-Z]|[A-Z]{2}[a-z]|\w_\w|_$|^k[A-Z]|^[A-Z][A-Z\d_]{3}")  # no word of prose looks so
_DECISION_HEADING = re.compile(r"\bdecision\b", re.IGNORECASE)


class Name(NamedTuple):
    """A name that a document may speak of, and what that would be worth."""

    text: str
    weight: float  # 0 to 1
    how: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A part of a document that speaks of what was asked."""

    span: Span
    title: str
    says: tuple[str, ...]  # its sentences that give reasons, or else its first lines
    how: str  # why it is taken to be about that
    date: str  # that it gives itself, "" where it gives none
    outdated: str  # what it says of itself, or what took its place; "" where it says nothing
    strength: float
    recorded: bool  # whether it stands where records of decisions are kept


def naming(index: Index, search: Search, names: Sequence[Name]) -> list[Decision]:
    """The parts of documents in which one of these names stands, the best first."""
    found: dict[Span, Decision] = {}
    for name in names:
        pattern = _written(name.text)
        for hit in search(name.text, LOOKED_AT, _DOCUMENTS):
            chunk = hit.chunk
            if reasons.is_document(chunk.span.path) and pattern.search(chunk.text):
                made = _decision(index, chunk, name.weight, f"{name.how} {name.text}", pattern)
                if chunk.span not in found or made.strength > found[chunk.span].strength:
                    found[chunk.span] = made
    return _best(index, found.values())


def linked(index: Index, texts: Iterable[tuple[Span, str]], names: Sequence[Name]) -> list[Decision]:
    """The documents that comments point at, by a path or a number; of each the part that names it, or the decision."""
    found: dict[Span, Decision] = {}
    for span, text in texts:
        for path in _pointed_at(index, text):
            chunks = index.table.chunks_of(path)
            if chunks:
                patterns = [_written(name.text) for name in names]
                best = max(chunks, key=lambda chunk: _part_worth(chunk, patterns))
                how = f"a comment at {span.path}:{span.first_line} points at it"
                found.setdefault(best.span, _decision(index, best, 1.2, how, None))
    return _best(index, found.values())


def speaking(index: Index, search: Search, question: str) -> list[Decision]:
    """The parts of documents that a question in words finds, by how well they answer it."""
    hits = [
        hit
        for hit in search(question, LOOKED_AT, _DOCUMENTS)
        # Text that only means something like it decides nothing: it has to say a word of what is asked.
        if reasons.is_document(hit.chunk.span.path)
        and any(signal.source is SignalSource.LEXICAL for signal in hit.signals)
    ]
    best = max((hit.score for hit in hits), default=0.0)
    made = [
        _decision(index, hit.chunk, 0.8 * hit.score / best if best > 0 else 0.0, "it speaks of what is asked", None)
        for hit in hits
    ]
    return _best(index, made)


_DOCUMENTS = Filters(reasons.DOCUMENTS)


def _decision(index: Index, chunk: Chunk, strength: float, how: str, pattern: re.Pattern[str] | None) -> Decision:
    path = chunk.span.path
    head = _head(index, path)
    heard = reasons.sentences(chunk.text)
    about = [each for each in heard if pattern is None or pattern.search(each.text)]
    giving = [each for each in heard if each.weight]
    ordered = [each for each in about if each.weight] + [each for each in giving if each not in about]
    says = tuple(each.text for each in (ordered or about or list(heard))[:MOST_SENTENCES])
    recorded = reasons.is_decision(path)
    outdated = reasons.outdated(head)
    strength += (0.15 if recorded else -0.3) + 0.1 * any(each.weight > 1 for each in ordered)
    strength += 0.05 * reasons.speaks_of_deciding(chunk.text) - (0.8 if outdated else 0.0)
    title = chunk.title.rpartition(" | ")[2] if " | " in chunk.title else ""
    return Decision(chunk.span, title, says, how, reasons.date_in(head), outdated, strength, recorded)


def _best(index: Index, found: Iterable[Decision]) -> list[Decision]:
    """The strongest first, a few of each file, those that another of them takes the place of marked and last."""
    ordered = sorted(found, key=lambda each: (-each.strength, str(each.span)))
    by_file: dict[str, int] = {}
    kept = []
    for each in ordered:
        by_file[each.span.path] = by_file.get(each.span.path, 0) + 1
        if by_file[each.span.path] <= PARTS_A_FILE:
            kept.append(each)
    taken = {name: path for path in by_file for name in reasons.replaces(_head(index, path))}
    marked = [
        replace(each, outdated=f"{new} says that it takes its place", strength=each.strength - 0.8)
        if not each.outdated and (new := taken.get(each.span.path.rpartition("/")[2], each.span.path)) != each.span.path
        else each
        for each in kept
    ]
    return sorted(marked, key=lambda each: (-each.strength, str(each.span)))


def _pointed_at(index: Index, text: str) -> list[str]:
    found = []
    for written in _WRITTEN_PATH.findall(text):
        plain = written.lstrip("./")
        called = index.table.paths_called([plain.rpartition("/")[2].lower()])
        same = [path for path in called if path == plain or path.endswith(f"/{plain}")]
        found += same[:1] if len(same) == 1 else []
    numbers = {int(said["number"]) for said in _WRITTEN_NUMBER.finditer(text)}
    if numbers:
        for path in sorted(index.table.known_files()):
            numbered = _NUMBERED.search(path) if reasons.is_decision(path) else None
            found += [path] if numbered and int(numbered["number"]) in numbers else []
    return list(dict.fromkeys(found))


def _part_worth(chunk: Chunk, patterns: Sequence[re.Pattern[str]]) -> tuple[object, ...]:
    named = max((len(patterns) - place for place, each in enumerate(patterns) if each.search(chunk.text)), default=0)
    decided = bool(_DECISION_HEADING.search(chunk.title.rpartition(" | ")[2]))
    return named, decided, -chunk.span.first_line


def _written(name: str) -> re.Pattern[str]:
    """Where a name stands in prose: one that may be a plain word only as code."""
    last = re.escape(name)
    if "::" in name or _DISTINCT.search(name):
        return re.compile(rf"(?<!\w){last}(?!\w)")
    return re.compile(rf"`[^`\n]{{0,80}}\b{last}\b[^`\n]{{0,80}}`|(?<=::){last}(?!\w)|(?<!\w){last}\(\)")


def _head(index: Index, path: str) -> str:
    first = index.table.chunks_at(Span(path, 1, reasons.HEAD_LINES))
    return "".join(chunk.text for chunk in first)[: reasons.HEAD_CHARS]
