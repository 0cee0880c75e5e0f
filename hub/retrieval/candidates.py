"""What the arms found for one question: the values that pass from gathering to fusing. Knows neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hub.model import Query, SignalSource
from indexer.index import Wording
from indexer.model import ChunkId, Span, Symbol

Found = Sequence[tuple[ChunkId, float]]  # (chunk, the arm's own number), best first, equal ones by id


@dataclass(frozen=True, slots=True)
class Candidates:
    """Everything that fusion and confidence may know of what was found."""

    query: Query
    arms: Mapping[SignalSource, Found]  # of the arms that took part
    places: Mapping[ChunkId, Span]  # of every chunk that an arm found and that still exists
    titles: Mapping[ChunkId, str] = field(default_factory=dict)  # "path | qualified name | signature", likewise
    kinds: Mapping[ChunkId, str] = field(default_factory=dict)  # of the symbol that it shows, "" where there is none
    named: tuple[Symbol, ...] = ()  # symbols that the question names, best first
    unknown: tuple[str, ...] = ()  # identifiers of the question that no symbol has and no text holds
    ambiguous: tuple[tuple[str, int], ...] = ()  # (identifier, how many different symbols it may mean)
    files: Mapping[str, float] = field(default_factory=dict)  # what history says of whole files, by path of today
    wording: Wording | None = None  # how text search understood the question
    notes: tuple[str, ...] = ()
