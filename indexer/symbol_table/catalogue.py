"""What is asked of every candidate of every question, kept in memory while the table stays as it is: where a chunk
stands, what it is called and what kind of thing it shows. Texts stay on disk.
"""

from collections.abc import Iterable, Sequence
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


class Catalogue:
    """Reads the chunks of one table without their texts."""

    def __init__(self, database: Database, facts: Facts) -> None:
        self._db = database
        self._facts = facts
        self._generation = -1
        self._cards: dict[ChunkId, Card] = {}
        self._names: dict[SymbolId, tuple[str, str]] = {}

    def cards(self, ids: Sequence[ChunkId]) -> dict[ChunkId, Card]:
        """The cards of the ids that exist, in the order of the ids."""
        generation = self._db.generation()
        if generation != self._generation:
            self._generation = generation
            self._cards.clear()
            self._names.clear()
        self._read([chunk for chunk in ids if chunk not in self._cards])
        return {chunk: card for chunk in ids if (card := self._cards.get(chunk))}

    def _read(self, ids: Sequence[ChunkId]) -> None:
        rows = [
            row
            for start in range(0, len(ids), _IDS_A_STATEMENT)
            for part in (ids[start : start + _IDS_A_STATEMENT],)
            for row in self._db.rows(_CARDS.format(marks(part)), part)
        ]
        self._name(row[5] for row in rows if row[5])
        for chunk, path, first, last, title, symbol in rows:
            name, kind = self._names.get(symbol, ("", ""))
            self._cards[ChunkId(chunk)] = Card(Span(path, first, last), title, name, kind)

    def _name(self, symbols: Iterable[SymbolId]) -> None:
        """A namespace has thousands of rows, so each is looked up once."""
        asked = {symbol for symbol in symbols if symbol not in self._names}
        if asked:
            for symbol, (name, kind) in self._facts.names_of(asked).items():
                self._names[symbol] = (name, kind.value)
