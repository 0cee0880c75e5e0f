"""Follows edges from symbol to symbol and from file to file: callers and callees to a depth, includes, and what a
change reaches. Each level is a handful of statements, however many symbols it holds.

Edges known by name only are shown beside the symbols that were asked for, but not followed unless that is asked for
too: one wrong guess would bring all that follows from it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from indexer.errors import QuestionError
from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolId, SymbolKind
from indexer.symbol_table.database import Database
from indexer.symbol_table.facts import SURENESS, Facts, Meant, order_of
from indexer.symbol_table.lineage import Lineage, Override

DEEPEST = 8  # levels that may be asked for; beyond it nearly everything calls everything
MOST_REACHED = 20_000  # symbols of one level that are followed
CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)
_USERS = (*CALLS, ReferenceKind.NAME)
_TYPE_USERS = (ReferenceKind.TYPE,)
_TYPES = frozenset(
    {SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION, SymbolKind.ENUM, SymbolKind.ALIAS, SymbolKind.CONCEPT}
)
_METHODS = frozenset({SymbolKind.METHOD, SymbolKind.DESTRUCTOR})
_Key = TypeVar("_Key", bound=str)
_MANY_NAMED = 5  # files of an ambiguous path that an error names


@dataclass(frozen=True, slots=True)
class Reach:
    """How far and over what edges are followed."""

    depth: int = 1  # 1 to 8
    by_name: bool = False  # follow guesses too
    overriders: bool = False  # a virtual call may end in any of the methods that override the one it names
    kinds: tuple[ReferenceKind, ...] = CALLS


@dataclass(frozen=True, slots=True)
class Step:
    """An edge with the way that led to it."""

    edge: Edge
    depth: int = 1
    # What stands between the symbol asked for and this edge's other end, from there on: "leveldb::DBImpl::Write",
    # "virtual leveldb::DB::Write".
    via: tuple[str, ...] = ()
    cycle: bool = False  # of an include: it leads back to where it came from


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that a change reaches."""

    group: str  # "callers", "derived", "overrides", "users" or "included by"
    step: Step
    id: SymbolId | None  # of what is reached; None where that is a file
    reason: str


class Graph:
    """Reads the graph of one table."""

    def __init__(self, database: Database, facts: Facts) -> None:
        self._db = database
        self._facts = facts
        self.lineage = Lineage(facts)

    # Calls

    def callers(self, roots: Iterable[SymbolId], reach: Reach) -> list[Step]:
        """What calls these symbols, what calls that, and so on; nearest first, then sure before guessed, by place.

        A call of the method that a symbol overrides may end in the symbol: it is a caller via "virtual Base::f".
        """
        ways: dict[SymbolId, tuple[str, ...]] = dict.fromkeys(sorted(set(roots)), ())
        seen = set(ways)
        shown: set[Meant] = set()
        steps: list[Step] = []
        for depth in range(1, min(reach.depth, DEEPEST) + 1):
            ways |= self._through_overridden(ways, seen)
            seen |= ways.keys()
            meant = self._facts.uses_of(ways, reach.kinds)
            if depth == 1 or reach.by_name:
                meant += self._facts.guesses_at(self._last_names(ways), reach.kinds)
            met = []
            for one in meant:
                if one not in shown:
                    shown.add(one)
                    met.append((one, min((ways[i] for i in one.ids if i in ways), key=_shortest)))
            steps += self._steps(met, depth)
            following: dict[SymbolId, tuple[str, ...]] = {}
            names = self._facts.names_of({one.use.inside for one, _ in met if one.use.inside})
            for one, way in met:
                inside = one.use.inside
                if inside in names and inside not in seen and (one.use.target or reach.by_name):
                    further = (*way, names[inside][0])
                    following[inside] = min(following.get(inside, further), further, key=_shortest)
            ways = _bounded(following)
            seen |= ways.keys()
            if not ways:
                break
        return sorted(set(steps), key=_order)

    def callees(self, roots: Iterable[SymbolId], reach: Reach) -> list[Step]:
        """What these symbols call, what that calls, and so on; in the order of ``callers``."""
        ways: dict[SymbolId, tuple[str, ...]] = dict.fromkeys(sorted(set(roots)), ())
        seen = set(ways)
        steps: list[Step] = []
        for depth in range(1, min(reach.depth, DEEPEST) + 1):
            meant = [
                one
                for one in self._facts.uses_in(ways, reach.kinds)
                if one.use.target or ((depth == 1 or reach.by_name) and (one.ids or depth == 1))
            ]
            met = [(one, ways[one.use.inside]) for one in meant if one.use.inside in ways]
            if reach.overriders:
                met += self._overriding(met)
            steps += self._steps(met, depth)
            following: dict[SymbolId, tuple[str, ...]] = {}
            followed = [(one, way) for one, way in met if one.use.target or reach.by_name]
            names = self._facts.names_of({target for one, _ in followed for target in one.ids})
            for one, way in followed:
                for target in one.ids:
                    if target in names and target not in seen:
                        further = (*way, names[target][0])
                        following[target] = min(following.get(target, further), further, key=_shortest)
            ways = _bounded(following)
            seen |= ways.keys()
            if not ways:
                break
        return sorted(set(steps), key=_order)

    def _through_overridden(
        self, ways: Mapping[SymbolId, tuple[str, ...]], seen: Collection[SymbolId]
    ) -> dict[SymbolId, tuple[str, ...]]:
        """The methods that these override, each with the way to it."""
        kinds = self._facts.names_of(ways)
        methods = [symbol for symbol in ways if symbol in kinds and kinds[symbol][1] in _METHODS]
        overrides = self.lineage.overrides_of(methods) if methods else []
        names = self._facts.names_of({o.overridden for o in overrides})
        found: dict[SymbolId, tuple[str, ...]] = {}
        for override in overrides:
            if override.overridden in names and override.overridden not in seen:
                way = (*ways[override.method], f"virtual {names[override.overridden][0]}")
                found[override.overridden] = min(found.get(override.overridden, way), way, key=_shortest)
        return found

    def _overriding(self, met: Sequence[tuple[Meant, tuple[str, ...]]]) -> list[tuple[Meant, tuple[str, ...]]]:
        """The same calls once more for each method that overrides the called one."""
        called = {target for one, _ in met if one.use.target for target in one.ids}
        overrides: dict[SymbolId, list[Override]] = {}
        for override in self.lineage.overriders_of(called):
            overrides.setdefault(override.overridden, []).append(override)
        names = self._facts.names_of(overrides)
        return [
            (
                one._replace(
                    ids=(override.method,),
                    use=one.use._replace(
                        target=override.method, how=max(one.use.how, override.how, key=lambda how: SURENESS[how])
                    ),
                ),
                (*way, f"virtual {names[target][0]}"),
            )
            for one, way in met
            for target in one.ids
            for override in overrides.get(target, ())
        ]

    def _steps(self, met: Iterable[tuple[Meant, tuple[str, ...]]], depth: int) -> list[Step]:
        by_way: dict[tuple[str, ...], list[Meant]] = {}
        for one, way in met:
            by_way.setdefault(way, []).append(one)
        found = self._facts.edges_in_groups(by_way.values())
        return [Step(edge, depth, way) for way, edges in zip(by_way, found, strict=True) for edge in edges]

    def _last_names(self, ids: Collection[SymbolId]) -> dict[SymbolId, str]:
        return {s.id: s.name for s in self._facts.names.by_ids(ids)}

    # Includes

    def file(self, typed: str) -> str | None:
        """The file of a path or of the end of one, None where there is none. Raises QuestionError where several are."""
        wanted = typed.encode("utf-8", "replace").decode().replace("\\", "/").removeprefix("./").rstrip("/")
        if not wanted or self._db.row("SELECT 1 FROM files WHERE path = ?", (wanted,)):
            return wanted or None
        ending = f"/{wanted}"
        rows = self._db.rows("SELECT path FROM files WHERE substr(path, -length(?1)) = ?1 ORDER BY path", (ending,))
        if len(rows) > 1:
            named = ", ".join(row[0] for row in rows[:_MANY_NAMED]) + (" ..." if len(rows) > _MANY_NAMED else "")
            raise QuestionError(f"{typed} may be any of {len(rows)} files: {named}.", "Give more of the path.")
        return str(rows[0][0]) if rows else None

    def includes(self, path: str, depth: int) -> list[Step]:
        """The includes of a file, those of the files it includes, and so on. What is outside the tree is named."""
        return self._files([path], depth, onward=True)

    def included_by(self, path: str, depth: int) -> list[Step]:
        """The includes that name a file, those that name the files they stand in, and so on."""
        return self._files([path], depth, onward=False)

    def _files(self, roots: Sequence[str], depth: int, *, onward: bool) -> list[Step]:
        ways: dict[str, tuple[str, ...]] = dict.fromkeys(roots, ())
        seen = set(roots)
        steps: list[Step] = []
        for level in range(1, min(depth, DEEPEST) + 1):
            edges = self._facts.edges(self._facts.includes_of(ways) if onward else self._including(ways))
            following: dict[str, tuple[str, ...]] = {}
            for edge in edges:
                here, there = (edge.path, edge.target) if onward else (edge.target, edge.path)
                if here not in ways:  # the include was a guess, and it means another file
                    continue
                steps.append(Step(edge, level, ways[here]))
                if there not in seen:
                    further = (*ways[here], there)
                    following[there] = min(following.get(there, further), further, key=_shortest)
            ways = _bounded(following)
            seen |= ways.keys()
            if not ways:
                break
        circles = _circles((step.edge.path, step.edge.target) for step in steps)
        marked = [
            Step(s.edge, s.depth, s.via, s.edge.path in circles and circles[s.edge.path] == circles.get(s.edge.target))
            for s in steps
        ]
        return sorted(set(marked), key=_order)

    def _including(self, paths: Collection[str]) -> list[Meant]:
        return self._facts.uses_of(paths, (ReferenceKind.INCLUDE,)) + self._facts.guessed_includes(
            {path.rpartition("/")[2] for path in paths}
        )

    # Changes

    def effects(self, changed: Sequence[Symbol], files: Sequence[str], depth: int) -> list[Effect]:
        """What a change of these symbols and files reaches, by group, nearest first.

        Callers (and those who name a function as a value) to the depth; classes that derive; methods that override, or
        are overridden; who names a changed type; files that include a changed one.
        """
        ids = {s.id: s for s in changed}
        names = {s.id: s.qualified_name for s in changed}
        functions = [s.id for s in ids.values() if s.kind not in _TYPES]
        types = {s.id: s.name for s in ids.values() if s.kind in _TYPES}
        found: list[Effect] = []
        for step in self.callers(functions + sorted(types), Reach(depth, kinds=_USERS)):
            verb = "names" if step.edge.kind is ReferenceKind.NAME else "calls"
            found.append(Effect("callers", step, step.edge.inside_id, f"{verb} {step.edge.target}"))
        for edge, generation in self.lineage.derivations(types, depth):
            found.append(Effect("derived", Step(edge, generation), edge.inside_id, f"derives from {edge.target}"))
        methods = [s.id for s in ids.values() if s.kind in _METHODS]
        overrides = self.lineage.overriders_of(methods)
        distances: dict[tuple[object, object], int] = {(o.method, o.overridden): o.distance for o in overrides}
        for edge in self.lineage.edges(overrides):
            distance = distances[edge.inside_id, edge.target_id]
            found.append(Effect("overrides", Step(edge, distance), edge.inside_id, f"overrides {edge.target}"))
        named = self._facts.uses_of(types, _TYPE_USERS) + self._facts.guesses_at(types, _TYPE_USERS)
        found += [
            Effect("users", Step(edge), edge.inside_id, f"names the type {edge.target}")
            for edge in self._facts.edges(named)
        ]
        found += [
            Effect("included by", step, None, f"includes {step.edge.target}")
            for step in self._files(files, depth, onward=False)
        ]
        own = [e for e in found if e.id is None or e.id not in names]
        return sorted(set(own), key=lambda e: (e.group, *_order(e.step), e.reason))


def _shortest(way: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    return len(way), way


def _order(step: Step) -> tuple[object, ...]:
    return (step.depth, step.edge.how is Provenance.BY_NAME, *order_of(step.edge), step.via)


def _bounded(ways: Mapping[_Key, tuple[str, ...]]) -> dict[_Key, tuple[str, ...]]:
    return dict(sorted(ways.items(), key=lambda entry: (_shortest(entry[1]), entry[0]))[:MOST_REACHED])


def _circles(edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The number of the circle that each node stands in, for nodes that can reach themselves (Kosaraju 1978)."""
    onward: dict[str, set[str]] = {}
    back: dict[str, set[str]] = {}
    for start, end in edges:
        onward.setdefault(start, set()).add(end)
        back.setdefault(end, set()).add(start)
    finished: list[str] = []
    seen: set[str] = set()
    for root in sorted(onward):
        waiting = [(root, False)]
        while waiting:
            node, left = waiting.pop()
            if left:
                finished.append(node)
            elif node not in seen:
                seen.add(node)
                waiting.append((node, True))
                waiting += [(other, False) for other in onward.get(node, ()) if other not in seen]
    found: dict[str, int] = {}
    placed: set[str] = set()
    for number, root in enumerate(reversed(finished)):
        members: list[str] = []
        nodes = [root]
        while nodes:
            node = nodes.pop()
            if node not in placed:
                placed.add(node)
                members.append(node)
                nodes += back.get(node, ())
        if len(members) > 1 or root in onward.get(root, ()):
            found |= dict.fromkeys(members, number)
    return found
