"""What is asked of every candidate of every question, kept in memory while the table stays as it is: where a chunk
stands, what it is called and what kind of thing it shows. Texts stay on disk.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from indexer.model import ChunkId, Span, SymbolId
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.facts import Facts

_CARDS = (
    "SELECT chunks.id, path, first_line, last_line, title, symbol FROM chunks JOIN files ON files.id = chunks.file"
    " WHERE chunks.id IN ({})"
)
_IDS_A_STATEMENT = 100  # one statement for most questions, and small enough to stay in SQLite's cache


class Card(NamedTuple):
    """About 0.5 kB, so that 25,000 are 12 MB."""

    place: Span
    title: str  # "path | qualified name | signature"
    name: str  # qualified, of the symbol shown; "" where there is none
    kind: str  # of that symbol, as its definition has it


@dataclass(slots=True)
class _Kept:
    cards: dict[ChunkId, Card] = field(default_factory=dict)
    names: dict[SymbolId, tuple[str, str]] = field(default_factory=dict)


class Catalogue:
    """Reads the chunks of one table without their texts."""

    def __init__(self, database: Database, facts: Facts) -> None:
        self._db = database
        self._facts = facts

    def cards(self, ids: Sequence[ChunkId]) -> dict[ChunkId, Card]:
        """The cards of the ids that exist, in the order of the ids."""
        kept = self._db.commons.of("cards", self._db.generation(), lambda _before: _Kept())
        self._read(kept, [chunk for chunk in ids if chunk not in kept.cards])
        return {chunk: card for chunk in ids if (card := kept.cards.get(chunk))}

    def of_files(self, paths: Sequence[str]) -> list[ChunkId]:
        """The chunks of these files, by path and line."""
        wanted = set(paths)
        rows = self._db.rows(
            "SELECT path, chunks.id FROM chunks JOIN files ON files.id = chunks.file"
            " ORDER BY path, first_line, chunks.id"
        )
        return [ChunkId(chunk) for path, chunk in rows if path in wanted]

    def _read(self, kept: _Kept, ids: Sequence[ChunkId]) -> None:
        rows = [
            row
            for start in range(0, len(ids), _IDS_A_STATEMENT)
            for part in (ids[start : start + _IDS_A_STATEMENT],)
            for row in self._db.rows(_CARDS.format(marks(part)), part)
        ]
        self._name(kept, (row[5] for row in rows if row[5]))
        for chunk, path, first, last, title, symbol in rows:
            name, kind = kept.names.get(symbol, ("", ""))
            kept.cards[ChunkId(chunk)] = Card(Span(path, first, last), title, name, kind)

    def _name(self, kept: _Kept, symbols: Iterable[SymbolId]) -> None:
        """A namespace has thousands of rows, so each is looked up once."""
        asked = {symbol for symbol in symbols if symbol not in kept.names}
        if asked:
            for symbol, (name, kind) in self._facts.names_of(asked).items():
                kept.names[symbol] = (name, kind.value)
