r"""Where variables, fields and enumerators are named. Nothing is stored of that, for most of a program's words would be
rows: the full-text index narrows the files, and a pass over their text drops comments and literals.

All it finds is known by name only. A bare name inside the class or namespace that has it, or one behind ``.`` or
``->``, is likelier to be meant than any other and comes first.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolId, SymbolKind
from indexer.symbol_table.database import Database
from indexer.symbol_table.facts import SHOWN_CANDIDATES, order_of
from indexer.symbol_table.names import Names, ends_with
from indexer.words import words

KINDS = (SymbolKind.VARIABLE, SymbolKind.FIELD, SymbolKind.ENUMERATOR)

_INSIDE = frozenset(SymbolKind) - {*KINDS, SymbolKind.MACRO, SymbolKind.ALIAS, SymbolKind.USING, SymbolKind.SECTION}
_LITERAL = (
    r"//(?:[^\n\\]|\\.)*|/\*(?:.*?\*/|.*)"  # what is not closed reaches to the end, as for a compiler
    r"|R\"(?P<mark>[^()\s\\]{0,16})\((?:.*?\)(?P=mark)\"|.*)"
    r"|(?<!\w)\d(?:'?\w)*|\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?"
)
_BEFORE = re.compile(r"(?:(?P<member>\.|->)|(?P<qualifier>\w*)(?:<[^<>;{}]{0,200}>)?\s*::)\s*$")
_BEFORE_CHARS = 300  # looked at before a name: a qualifier with its template arguments


class Mention(NamedTuple):
    """A place where a name stands that may mean one of the symbols asked for."""

    likely: bool
    edge: Edge


class Mentions:
    """Reads the text of one table."""

    def __init__(self, database: Database, names: Names) -> None:
        self._db = database
        self._names = names

    def of(self, symbols: Collection[Symbol]) -> list[Mention]:
        """Where these variables, fields and enumerators may be named, less their declarations; likely ones first."""
        asked = {s.id for s in symbols if s.kind in KINDS}
        found: list[Mention] = []
        for name in sorted({s.name for s in symbols if s.kind in KINDS}):
            namesakes = list({s.id: s for s in self._names.of_names([name], KINDS)}.values())
            declared = {(s.span.path, s.line) for s in self._names.of_names([name], tuple(SymbolKind))}
            for path, text in self._texts_with(name):
                found += self._in_file(path, text, name, namesakes, asked, declared)
        return sorted(set(found), key=lambda mention: (not mention.likely, *order_of(mention.edge)))

    def _texts_with(self, name: str) -> Iterator[tuple[str, str]]:
        """Path and text of the C++ files that hold the word."""
        (whole, *_) = words(name) or [""]
        if not whole:
            return
        rows = self._db.rows(
            "SELECT path, text FROM chunks JOIN files ON files.id = chunks.file"
            " WHERE language = 'c++' AND chunks.file IN"
            " (SELECT file FROM chunks WHERE rowid IN (SELECT rowid FROM chunk_words WHERE chunk_words MATCH ?))"
            " ORDER BY path, first_line",
            (f'body : "{whole}"',),
        )
        for path, group in groupby(rows, key=lambda row: str(row[0])):
            yield path, "".join(row[1] for row in group)

    def _in_file(
        self,
        path: str,
        text: str,
        name: str,
        namesakes: Sequence[Symbol],
        asked: AbstractSet[SymbolId],
        declared: Collection[tuple[str, int]],
    ) -> Iterator[Mention]:
        starts: list[int] = []
        around: list[Symbol] = []
        for found in _lexer(name).finditer(text):
            if found["name"] is None:
                continue
            if not starts:  # most files of a common word turn out to hold it in comments only
                starts = [0, *(end.end() for end in re.finditer("\n", text))]
                around = [s for s in self._names.in_file(path) if s.kind in _INSIDE]
            line = bisect_right(starts, found.start())
            if (path, line) in declared:
                continue
            holder = _innermost(around, line)
            before = _BEFORE.search(text, max(0, found.start() - _BEFORE_CHARS), found.start())
            meant, likely = _judged(namesakes, before, holder)
            if asked.isdisjoint(s.id for s in meant):
                continue
            one = meant[0] if len(meant) == 1 else None
            labels = () if one else tuple(sorted(s.qualified_name for s in meant))
            yield Mention(
                likely,
                Edge(
                    kind=ReferenceKind.NAME,
                    path=path,
                    line=line,
                    inside=holder.qualified_name if holder else "",
                    target=one.qualified_name if one else name,
                    how=Provenance.BY_NAME,
                    target_id=one.id if one else None,
                    inside_id=holder.id if holder else None,
                    candidates=labels[:SHOWN_CANDIDATES],
                    candidate_count=len(labels),
                ),
            )


@lru_cache(maxsize=64)
def _lexer(name: str) -> re.Pattern[str]:
    """Steps over comments and literals, and stops at the name."""
    return re.compile(rf"{_LITERAL}|(?<!\w)(?P<name>{re.escape(name)})(?!\w)", re.DOTALL)


def _innermost(around: Sequence[Symbol], line: int) -> Symbol | None:
    """The last to begin of those that the line stands in; outer ones begin first."""
    holding = [s for s in around if s.span.first_line <= line <= s.span.last_line]
    return holding[-1] if holding else None


def _judged(
    namesakes: Sequence[Symbol], before: re.Match[str] | None, holder: Symbol | None
) -> tuple[Sequence[Symbol], bool]:
    """Which of the namesakes a mention may mean, and whether that is likely."""
    if before and before["qualifier"]:
        return [s for s in namesakes if ends_with(s.scope, before["qualifier"])], True
    if before and before["member"]:
        return [s for s in namesakes if s.kind is SymbolKind.FIELD] or namesakes, True
    scope = holder.qualified_name if holder else ""
    enclosing = [s for s in namesakes if s.scope and (scope == s.scope or scope.startswith(f"{s.scope}::"))]
    if enclosing:
        longest = max(len(s.scope) for s in enclosing)
        return [s for s in enclosing if len(s.scope) == longest], True
    return namesakes, any(not s.scope for s in namesakes)
