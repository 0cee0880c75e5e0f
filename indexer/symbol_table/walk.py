"""Walks from chunk to chunk along what the code says: who calls what, which types are used, what overrides what, where
a declaration's definition stands, which files belong together.

The walk is personalised PageRank by local push (Andersen, Chung and Lang, FOCS 2006): mass starts at the seeds, a part
of it stays at each chunk it meets and the rest goes on along that chunk's edges, until what is left is too little to
matter. That bounds the work, whatever the size of the tree. Edges are kept in arrays, and stored beside the table. What
is stored is walked even while the table has gone on: to make it again takes longer than a file is read in, and a few
changed chunks change little. Nothing here knows what a question is, nor how its seeds were found.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from indexer.model import ChunkId, Span, SymbolId
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.names import parts
from indexer.symbol_table.ties import MADE_OF, PLACELESS, Edges, Masses, Numbers, Parts, read, stretches


class Weights(NamedTuple):
    """What edges of each kind are worth, onward and back, against the others of the same chunk; 0 takes a kind out.

    Onward is from a use to what it means, from a class to its base, from an overriding method to the overridden one,
    from a declaration to its definition, from a member to its class, from a chunk to its file, from a file to what it
    includes. What a class or a file gives back is shared among all that it is given from.
    """

    call: tuple[float, float] = (1.0, 0.3)
    type: tuple[float, float] = (0.1, 0.1)
    base: tuple[float, float] = (0.3, 0.3)
    override: tuple[float, float] = (0.5, 0.3)
    name: tuple[float, float] = (0.3, 0.1)
    macro: tuple[float, float] = (0.1, 0.1)
    declaration: tuple[float, float] = (1.0, 1.0)
    scope: tuple[float, float] = (0.1, 1.0)
    file: tuple[float, float] = (0.1, 1.0)
    include: tuple[float, float] = (0.1, 0.0)
    pair: tuple[float, float] = (0.3, 0.3)  # of files whose names differ in their ending only


# Constants of the walk, each with its range and source. Fitted by coordinate ascent on half of 985 descriptions and
# 793 commits of six libraries (glog, google/benchmark, jsoncpp, oatpp, libzmq, taglib), judged on the other half. Calls
# and declarations carry the gain; the others move it by less than its noise, and are kept low.
MADE_AS = 1  # raise it with each change of how edges are made, so that stored ones are made again
WEIGHTS = Weights()  # 0 to 1 each
RESTART = 0.3  # of a mass, what stays where it is; 0.15 to 0.6
OWN = 0.01  # of what stays at a seed because the walk starts there, what counts; 0 loses seeds without edges; 0 to 1
TOLERANCE = 5e-5  # of all mass, for each edge of a chunk, what is not worth pushing on; 1e-6 to 1e-3
LEAST_ROW = 2.0  # a chunk whose edges weigh less than this together passes on only as much; 0 to 3
MOST_ROUNDS = 64  # of pushing; (1 - RESTART) ** 64 is 1e-8
GLOBAL_ROUNDS = 30  # of power iteration for ``important``; (1 - RESTART) ** 30 is 2e-4


class Adjacency(NamedTuple):
    """Weighted edges in compressed rows. Those of a row add up to 1 at most."""

    offsets: Numbers  # shape (nodes + 1,)
    targets: Numbers  # shape (edges,)
    shares: Masses  # shape (edges,)


class Made(NamedTuple):
    """Edges as a row of the table ``walks``."""

    made_of: str
    chunks: str
    offsets: bytes
    targets: bytes
    shares: bytes


class _Graph(NamedTuple):
    chunks: list[ChunkId]
    numbers: dict[ChunkId, int]
    edges: Adjacency
    generation: int  # of the table that it was made of


class Walk:
    """Reads the edges between the chunks of one table."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def from_chunks(
        self, seeds: Sequence[tuple[ChunkId, float]], limit: int, within: Collection[ChunkId] | None = None
    ) -> list[tuple[ChunkId, float]]:
        """(chunk, mass), most first, equal ones by id: where a walk from the seeds comes by, of those ``within`` alone
        where they are given.

        The seeds' scores, made to add up to 1, say how often the walk starts at each; those that are not above 0 and
        those of no chunk count for nothing. That it starts at a seed hardly counts, for the caller knew that: a seed
        is high where the others lead to it. Masses add up to 1 at most. Empty while there is no graph yet.
        """
        if not seeds or limit < 1:
            return []
        with self._db.moment():
            graph = self._current()
            return [] if graph is None else self._from_chunks(graph, seeds, limit, within)

    def _from_chunks(
        self, graph: _Graph, seeds: Sequence[tuple[ChunkId, float]], limit: int, within: Collection[ChunkId] | None
    ) -> list[tuple[ChunkId, float]]:
        import numpy as np  # noqa: PLC0415 - brings 0.1 s, which symbol look-ups do without

        start = np.zeros(len(graph.edges.offsets) - 1)
        for chunk, score in seeds:
            number = graph.numbers.get(chunk)
            if number is not None and score > 0:
                start[number] += score
        total = start.sum()
        if not 0 < total < np.inf:
            return []
        start /= total
        mass = push(graph.edges, start, RESTART, TOLERANCE) - (1 - OWN) * RESTART * start
        mass = np.maximum(mass[: len(graph.chunks)], 0)  # a seed of more edges than its share is worth is not pushed
        if within is not None:
            mass *= [chunk in within for chunk in graph.chunks]
        least = limit
        while True:
            numbers = _most(mass, least)
            found = self._there(graph, [graph.chunks[number] for number in numbers])
            if len(found) >= limit or len(numbers) < least:
                return [
                    (graph.chunks[number], float(mass[number])) for number in numbers if graph.chunks[number] in found
                ][:limit]
            least *= 2

    def _there(self, graph: _Graph, chunks: Sequence[ChunkId]) -> Collection[ChunkId]:
        """Those of the chunks of a graph that the table still has."""
        if graph.generation == self._db.generation():
            return frozenset(chunks)
        return {
            row[0]
            for part in parts(chunks)
            for row in self._db.rows(f"SELECT id FROM chunks WHERE id IN ({marks(part)})", part)
        }

    def important(self, limit: int) -> list[tuple[SymbolId, float]]:
        """(symbol, mass), most first, equal ones by id: where walks come by that start anywhere.

        The symbols are those that chunks are named after; one of several chunks has the mass of all.
        """
        with self._db.moment():
            graph = self._current()
            rows = self._db.rows(
                "SELECT id, symbol FROM chunks WHERE symbol IN"
                f" (SELECT id FROM symbols WHERE kind NOT IN ({marks(PLACELESS)})) ORDER BY id",
                PLACELESS,
            )
        if graph is None or not rows or limit < 1:
            return []
        mass = _from_anywhere(graph)
        found: dict[SymbolId, float] = {}
        for chunk, symbol in rows:
            number = graph.numbers.get(chunk)
            if number is not None:
                found[symbol] = found.get(symbol, 0.0) + float(mass[number])
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def everywhere(self) -> list[tuple[Span, float]]:
        """(place, mass) of every chunk, by place: how much a walk that starts anywhere comes by there.

        Chunks that came after the graph was made have none. Empty while there is no graph yet.
        """
        with self._db.moment():
            graph = self._current()
            rows = self._db.rows(
                "SELECT chunks.id, path, first_line, last_line FROM chunks JOIN files ON files.id = chunks.file"
                " ORDER BY path, first_line, chunks.id"
            )
        if graph is None or not rows:
            return []
        mass = dict(zip(graph.chunks, _from_anywhere(graph).tolist(), strict=False))  # nodes beyond are no chunks
        return [(Span(*place), mass.get(chunk, 0.0)) for chunk, *place in rows]

    def version(self) -> str:
        """Another one means that walks may lead elsewhere, although the table is the same."""
        return self._stored()

    def keep(self) -> bool:
        """Stores the edges as they are now, so that those who open the table need not read them together. False where
        they are stored already, or files wait to be linked. The caller owns the folder.
        """
        made = self.made()
        if made is not None:
            self.store(made)
        return made is not None

    def made(self) -> Made | None:
        """The edges as they are now, as they are stored; None where they are, or files wait to be linked.

        Takes seconds for a large tree, and nobody need own the folder meanwhile.
        """
        with self._db.moment():
            made_of = self._made_of()
            if self._stored() == made_of or self._waiting():
                return None
            ties = read(self._db)
        edges = _compact(assembled(ties, WEIGHTS, LEAST_ROW))
        return Made(made_of, "\n".join(ties.chunks), *(column.tobytes() for column in edges))

    def store(self, made: Made) -> None:
        """Stores edges, also those of the table as it was a moment ago. The caller owns the folder."""
        with self._db.transaction():
            self._db.run("DELETE FROM walks")
            self._db.run("INSERT INTO walks VALUES(?, ?, ?, ?, ?)", made)

    def _current(self) -> _Graph | None:
        """The graph that is stored, of the table as it is or was. Where there is none it is made, unless links are
        missing, which would change it under the reader: then None. To be called within a moment.
        """
        stored = self._stored()
        if stored.partition(" ")[2] == _CONSTANTS:
            return self._db.commons.of("walk", stored, self._read)
        if self._waiting():
            return None
        return self._db.commons.of("walk", self._made_of(), self._made)

    def _read(self, _before: object) -> _Graph:
        import numpy as np  # noqa: PLC0415 - as above

        ((made_of, ids, offsets, targets, shares),) = self._db.rows("SELECT * FROM walks")
        edges = Adjacency(
            np.frombuffer(offsets, np.int64), np.frombuffer(targets, np.int32), np.frombuffer(shares, np.float32)
        )
        chunks = ids.split("\n") if ids else []
        return _graph(chunks, edges, int(made_of.partition(" ")[0]))

    def _made(self, _before: object) -> _Graph:
        ties = read(self._db)
        return _graph(ties.chunks, _compact(assembled(ties, WEIGHTS, LEAST_ROW)), self._db.generation())

    def _stored(self) -> str:
        """What the stored graph was made of; "" where none is stored."""
        found = self._db.settled("SELECT made_of FROM walks")
        return str(found[0][0]) if found else ""

    def _waiting(self) -> bool:
        return bool(self._db.settled("SELECT 1 FROM unlinked LIMIT 1"))

    def _made_of(self) -> str:
        """What a stored graph must be made of to be that of the table as it is."""
        return f"{self._db.generation()} {_CONSTANTS}"


# Edges that were made otherwise are not walked.
_CONSTANTS = str((MADE_AS, WEIGHTS, LEAST_ROW, *MADE_OF))


def _graph(chunks: list[ChunkId], edges: Adjacency, generation: int) -> _Graph:
    return _Graph(chunks, {chunk: place for place, chunk in enumerate(chunks)}, edges, generation)


def _from_anywhere(graph: _Graph) -> Masses:
    """The mass of each node where walks start at every chunk alike, less what only started there."""
    import numpy as np  # noqa: PLC0415 - brings 0.1 s, which symbol look-ups do without

    start = np.zeros(len(graph.edges.offsets) - 1)
    start[: len(graph.chunks)] = 1 / len(graph.chunks)
    return iterate(graph.edges, start, RESTART, GLOBAL_ROUNDS) - RESTART * start


def push(edges: Adjacency, start: Masses, restart: float, tolerance: float) -> Masses:
    """Personalised PageRank of all nodes from a start that adds up to 1 at most, never above the exact values.

    What is missing of the exact values adds up to ``tolerance`` times the number of edges and nodes at most (Andersen,
    Chung and Lang 2006; here all nodes that have enough are pushed at a time).
    """
    import numpy as np  # noqa: PLC0415 - as above

    degrees = np.diff(edges.offsets)
    enough = tolerance * np.maximum(degrees, 1)
    mass = np.zeros_like(start)
    left = start.copy()
    for _ in range(MOST_ROUNDS):
        active = np.flatnonzero(left > enough)
        if not len(active):
            break
        here = left[active]
        left[active] = 0
        mass[active] += restart * here
        places, owners = stretches(edges.offsets[active], degrees[active])
        flow = ((1 - restart) * here)[owners] * edges.shares[places]
        left += np.bincount(edges.targets[places], flow, minlength=len(start))
    return mass


def iterate(edges: Adjacency, start: Masses, restart: float, rounds: int) -> Masses:
    """Personalised PageRank by power iteration: what is missing adds up to ``(1 - restart) ** rounds`` at most."""
    import numpy as np  # noqa: PLC0415 - as above

    starts = np.repeat(np.arange(len(start)), np.diff(edges.offsets))
    mass = np.zeros_like(start)
    left = start.copy()
    for _ in range(rounds):
        mass += restart * left
        left[:] = (1 - restart) * np.bincount(edges.targets, left[starts] * edges.shares, minlength=len(start))
    return mass


def assembled(parts: Parts, weights: Weights, least_row: float) -> Adjacency:
    """All edges together: equal ones are added up, and each row is divided by its sum, ``least_row`` at least."""
    kinds: list[Edges] = []
    for kind, (onward, backward) in weights._asdict().items():
        there = parts.edges[kind]
        back = parts.back.get(kind) or Edges(there.end, there.start, there.weight)
        kinds += [there._replace(weight=onward * there.weight), back._replace(weight=backward * back.weight)]
    return adjacency(parts.nodes, kinds, least_row)


def adjacency(nodes: int, kinds: Iterable[Edges], least_row: float) -> Adjacency:
    """As ``assembled``. Edges that weigh nothing, and those from a node to itself, are left out."""
    import numpy as np  # noqa: PLC0415 - as above

    start, end, weight = (np.concatenate(parts) for parts in zip(*kinds, strict=True))
    kept = (weight > 0) & (start != end)
    both, where = np.unique(start[kept] * nodes + end[kept], return_inverse=True)
    summed = np.bincount(where, weight[kept], minlength=len(both))
    starts, ends = np.divmod(both, max(nodes, 1))
    rows = np.bincount(starts, summed, minlength=nodes)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(starts, minlength=nodes))])
    return Adjacency(offsets, ends.astype(np.int32), summed / np.maximum(rows, least_row)[starts])


def _compact(edges: Adjacency) -> Adjacency:
    """In fewer bytes; shares are rounded down, so that rows add up to 1 at most."""
    import numpy as np  # noqa: PLC0415 - as above

    shares = np.nextafter(edges.shares.astype(np.float32), np.float32(0))
    return Adjacency(edges.offsets.astype(np.int64), edges.targets.astype(np.int32), shares)


def _most(mass: Masses, limit: int) -> list[int]:
    """The nodes of most mass; nodes stand in the order of their ids, so that equal ones follow theirs."""
    import numpy as np  # noqa: PLC0415 - as above

    found = np.flatnonzero(mass)
    if len(found) > limit:
        least = np.partition(mass[found], len(found) - limit)[len(found) - limit]
        found = found[mass[found] >= least]
    return [int(number) for number in found[np.argsort(-mass[found], kind="stable")][:limit]]
