"""Classes and what they derive from, and which methods override which. Nothing of it is stored: it follows from the
symbols and the edges to bases, each time it is asked.

A method overrides one of a base class that has the same name, the same parameters after the base's template arguments
are put in, the same const, and that is virtual or overrides a virtual one itself (C++ [class.virtual]).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolId, SymbolKind, Trait
from indexer.rows import last_name, split_row
from indexer.symbol_table.facts import SURENESS, Facts, Meant
from indexer.symbol_table.names import Brief, ends_with, parts, split_arguments, without_arguments

MOST_GENERATIONS = 32  # of classes that are followed up or down; deep hierarchies have ten
MOST_SHOWN = 5_000  # classes of one tree that are shown

_CLASSES = (SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION)
_METHODS = (
    SymbolKind.METHOD,
    SymbolKind.DESTRUCTOR,
    SymbolKind.FUNCTION,
)  # an out-of-line one may look like a function
_BASE = (ReferenceKind.BASE,)
_OVERRIDE = (ReferenceKind.OVERRIDE,)
_VIRTUAL = frozenset({Trait.VIRTUAL, Trait.PURE, Trait.OVERRIDE, Trait.FINAL})
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_QUALIFIER = re.compile(r"\b\w+::")


@dataclass(frozen=True, slots=True)
class Relative:
    """A class in a tree of classes, with where it derives from the one above it (or that from it)."""

    name: str
    id: SymbolId | None  # None where no one symbol of the tree is meant
    path: str
    line: int
    how: Provenance
    relatives: tuple["Relative", ...] = ()
    repeated: bool = False  # shown above already, or the class derives from itself; its own relatives are left out


class Override(NamedTuple):
    """A method that overrides another one, ``distance`` generations away."""

    method: SymbolId
    overridden: SymbolId
    how: Provenance
    distance: int
    direct: bool  # no method between the two overrides the farther one


class _Step(NamedTuple):
    """From one class to the next, up or down."""

    written: str
    to: SymbolId | None
    path: str
    line: int
    how: Provenance


@dataclass(slots=True)
class _Class:
    """A class, out of all its declarations."""

    id: SymbolId
    name: str
    qualified: str
    template_parameters: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()


@dataclass(slots=True)
class _Method:
    """A method, out of all its declarations."""

    id: SymbolId
    name: str
    scope: str
    parameters: tuple[str, ...]
    paths: set[str] = field(default_factory=set)
    constant: bool = False
    virtual: bool = False
    marked: bool = False  # says itself that it overrides something


class _Derivation(NamedTuple):
    derived: SymbolId
    base: SymbolId
    how: Provenance
    path: str
    line: int
    arguments: tuple[str, ...]  # of the base, as written


class Lineage:
    """Reads the hierarchy of classes from one table."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    # Classes

    def bases(self, symbol: Symbol) -> tuple[Relative, ...]:
        """The classes that a class derives from, each with its own bases."""
        return self._tree(symbol.id, upward=True)

    def derived(self, symbol: Symbol) -> tuple[Relative, ...]:
        """The classes that derive from a class, each with those that derive from it."""
        return self._tree(symbol.id, upward=False)

    def derivations(self, ids: Collection[SymbolId], generations: int) -> list[tuple[Edge, int]]:
        """The edges from derived classes down to these, with the generation of each."""
        found: list[tuple[Edge, int]] = []
        seen, frontier = set(ids), set(ids)
        for generation in range(1, generations + 1):
            meant = self._into_bases(frontier)
            found += [(edge, generation) for edge in self._facts.edges(meant)]
            frontier = {one.use.inside for one in meant if one.use.inside} - seen
            seen |= frontier
            if not frontier:
                break
        return found

    def _tree(self, root: SymbolId, *, upward: bool) -> tuple[Relative, ...]:
        steps: dict[SymbolId, set[_Step]] = {}
        frontier, seen = {root}, {root}
        for _ in range(MOST_GENERATIONS):
            meant = self._out_of_derived(frontier) if upward else self._into_bases(frontier)
            following: set[SymbolId] = set()
            for here, step in _steps(meant, upward=upward):
                if here in frontier:
                    steps.setdefault(here, set()).add(step)
                    if step.to is not None:
                        following.add(step.to)
            frontier = following - seen
            seen |= frontier
            if not frontier or len(seen) > MOST_SHOWN:
                break
        names = {symbol: name for symbol, (name, _) in self._facts.names_of(seen).items()}
        shown: set[SymbolId | None] = {root}

        def called(step: _Step) -> str:
            return names.get(step.to, step.written) if step.to else step.written

        def relatives(of: SymbolId, generation: int) -> tuple[Relative, ...]:
            found = []
            for step in sorted(steps.get(of, ()), key=lambda s: (called(s), s.path, s.line, s.to or "", s.how)):
                repeated = step.to in shown
                inner: tuple[Relative, ...] = ()
                if step.to is not None and not repeated:
                    shown.add(step.to)
                    inner = relatives(step.to, generation + 1) if generation < MOST_GENERATIONS else ()
                found.append(Relative(called(step), step.to, step.path, step.line, step.how, inner, repeated))
            return tuple(found)

        return relatives(root, 1)

    def _out_of_derived(self, ids: Collection[SymbolId]) -> list[Meant]:
        return self._through_aliases(self._facts.uses_in(ids, _BASE))

    def _into_bases(self, ids: Collection[SymbolId]) -> list[Meant]:
        """The uses of these classes as a base, by their own names and by those of their aliases."""
        names = {symbol: last_name(name) for symbol, (name, _) in self._facts.names_of(ids).items()}
        return self._facts.uses_of(ids, _BASE) + self._facts.guesses_at(names, _BASE)

    def _through_aliases(self, meant: Iterable[Meant]) -> list[Meant]:
        """A base that is an alias is the class it stands for, where its name tells one."""
        found = list(meant)
        kinds = self._facts.names_of({symbol for one in found for symbol in one.ids})
        aliases = {symbol for symbol, (_, kind) in kinds.items() if kind is SymbolKind.ALIAS}
        if not aliases:
            return found
        stands_for = {
            s.id: without_arguments(s.type.removeprefix("typename ")) for s in self._facts.names.by_ids(aliases)
        }
        known = self._facts.candidates({last_name(name) for name in stands_for.values() if name})
        classes = {
            alias: [
                c.id
                for c in known.get(last_name(name), ())
                if c.kinds & set(_CLASSES) and ends_with(f"{c.scope}::{c.name}", name.removeprefix("::"))
            ]
            for alias, name in stands_for.items()
        }
        return [
            one._replace(ids=tuple(classes[one.ids[0]]))
            if len(one.ids) == 1 and len(classes.get(one.ids[0], ())) == 1
            else one
            for one in found
        ]

    # Methods

    def overrides_of(self, ids: Collection[SymbolId]) -> list[Override]:
        """What these methods override, nearest first."""
        if not ids:
            return []
        methods = self._methods(self._facts.names.brief_of(ids, _METHODS))
        family = self._family(methods.values())
        deriving = [m for m in methods.values() if any(o in family.parents for o in family.owners[m.id])]
        found: list[Override] = []
        if deriving:
            slots = {method.name for method in deriving if not method.name.startswith("~")}
            if len(slots) < len(deriving):
                slots |= {f"~{c.name}" for c in family.classes.values()}
            by_place: dict[tuple[str, str], list[_Method]] = {}
            for method in self._methods(self._facts.names.brief_named(slots, _METHODS)).values():
                by_place.setdefault((method.scope, _slot(method.name)), []).append(method)
            found = [override for method in deriving for override in _overrides(method, family, by_place)]
        return _surest(found + self._told_by_the_compiler(ids))

    def overriders_of(self, ids: Collection[SymbolId]) -> list[Override]:
        """What overrides these methods, nearest first."""
        methods = self._methods(self._facts.names.brief_of(ids, _METHODS))
        if not methods:
            return []
        owners = self._owners(methods.values())
        below: set[SymbolId] = set()
        frontier = {owner for found in owners.values() for owner in found}
        for _ in range(MOST_GENERATIONS):
            frontier = {one.use.inside for one in self._into_bases(frontier) if one.use.inside} - below
            below |= frontier
            if not frontier:
                break
        told = self._facts.uses_of(ids, _OVERRIDE)
        lower = {one.use.inside for one in told if one.use.inside}
        if below:
            names = {name for name, _ in self._facts.names_of(below).values()}
            wanted = {m.name for m in methods.values() if not m.name.startswith("~")}
            if any(m.name.startswith("~") for m in methods.values()):
                wanted |= {f"~{last_name(name)}" for name in names}
            lower |= {row.id for row in self._facts.names.brief_named(wanted, _METHODS) if row.scope in names}
        return [override for override in self.overrides_of(lower) if override.overridden in methods]

    def all_overrides(self) -> Iterator[Edge]:
        """An edge from each method to the nearest one that it overrides on each path, by place."""
        ids = sorted({symbol.id for symbol in self._facts.all_symbols() if symbol.kind in _METHODS and symbol.scope})
        found = [override for part in parts(ids) for override in self.overrides_of(part) if override.direct]
        return iter(self.edges(found))

    def edges(self, overrides: Collection[Override]) -> list[Edge]:
        """Overrides as edges of their own kind, at the place of the overriding method, by place."""
        names = self._facts.names_of({o.method for o in overrides} | {o.overridden for o in overrides})
        places: dict[SymbolId, Symbol] = {}
        for symbol in self._facts.names.by_ids({o.method for o in overrides}):
            before = places.get(symbol.id)
            if before is None or (_VIRTUAL & set(symbol.traits) and not _VIRTUAL & set(before.traits)):
                places[symbol.id] = symbol
        found = [
            Edge(
                ReferenceKind.OVERRIDE,
                places[o.method].span.path,
                places[o.method].line or places[o.method].span.first_line,
                names[o.method][0],
                names[o.overridden][0],
                o.how,
                o.overridden,
                o.method,
            )
            for o in overrides
            if o.method in places and o.overridden in names
        ]
        return sorted(set(found), key=lambda e: (e.path, e.line, e.inside, e.target, e.target_id or ""))

    def _methods(self, rows: Iterable[Brief]) -> dict[SymbolId, _Method]:
        found: dict[SymbolId, _Method] = {}
        for row in rows:
            traits = split_row(row.traits)
            if not row.scope or Trait.STATIC in traits:
                continue
            method = found.get(row.id)
            if method is None:
                method = found[row.id] = _Method(row.id, row.name, row.scope, split_row(row.parameters))
            method.paths.add(row.path)
            method.constant |= Trait.CONST in traits
            method.virtual |= not _VIRTUAL.isdisjoint(traits)
            method.marked |= Trait.OVERRIDE in traits
        return found

    def _owners(self, methods: Iterable[_Method]) -> dict[SymbolId, list[SymbolId]]:
        """The class that each method stands in. Of namesakes in several files, the one in the method's own file."""
        listed = list(methods)
        scopes = {method.scope for method in listed}
        classes: dict[str, dict[SymbolId, set[str]]] = {}
        for row in self._facts.names.brief_named({last_name(scope) for scope in scopes}, _CLASSES):
            qualified = _qualified(row)
            if qualified in scopes:
                classes.setdefault(qualified, {}).setdefault(row.id, set()).add(row.path)
        owners: dict[SymbolId, list[SymbolId]] = {}
        for method in listed:
            found = classes.get(method.scope, {})
            near = [owner for owner, paths in found.items() if paths & method.paths] if len(found) > 1 else []
            owners[method.id] = sorted(near or found)
        return owners

    def _family(self, methods: Iterable[_Method]) -> "_Family":
        """The classes of these methods with all that they derive from."""
        family = _Family(self._owners(methods))
        frontier = {owner for found in family.owners.values() for owner in found}
        for _ in range(MOST_GENERATIONS):
            self._read_classes(family, frontier)
            following: set[SymbolId] = set()
            for one in self._out_of_derived(frontier):
                inside = one.use.inside
                if inside is None or inside not in family.classes:
                    continue
                arguments = _arguments_of(one.use.name, family.classes[inside].bases)
                for base in one.ids:
                    how = one.use.how if len(one.ids) == 1 else Provenance.BY_NAME
                    family.parents.setdefault(inside, []).append(
                        _Derivation(inside, base, how, one.use.path, one.use.line, arguments)
                    )
                    following.add(base)
            frontier = following - family.classes.keys()
            if not frontier:
                break
        return family

    def _read_classes(self, family: "_Family", ids: Collection[SymbolId]) -> None:
        for row in self._facts.names.brief_of(ids, _CLASSES):
            found = family.classes.get(row.id)
            if found is None:
                found = family.classes[row.id] = _Class(row.id, row.name, _qualified(row))
            found.template_parameters = found.template_parameters or split_row(row.template_parameters)
            found.bases = found.bases or split_row(row.bases)

    def _told_by_the_compiler(self, ids: Collection[SymbolId]) -> list[Override]:
        return [
            Override(one.use.inside, target, one.use.how, 1, direct=True)
            for one in self._facts.uses_in(ids, _OVERRIDE)
            if one.use.inside and one.use.target
            for target in one.ids
        ]


@dataclass(slots=True)
class _Family:
    owners: dict[SymbolId, list[SymbolId]]  # of methods
    classes: dict[SymbolId, _Class] = field(default_factory=dict)
    parents: dict[SymbolId, list[_Derivation]] = field(default_factory=dict)


class _Reached(NamedTuple):
    base: SymbolId
    distance: int
    how: Provenance
    meaning: Mapping[str, str]  # what the base's template parameters stand for


def _steps(meant: Iterable[Meant], *, upward: bool) -> Iterator[tuple[SymbolId, _Step]]:
    """From a class to its bases, or from a class to what derives from it. A guess leads to each of its candidates."""
    for use, ids, _ in meant:
        if use.inside is not None:
            for base in ids or (None,):
                if upward:
                    yield use.inside, _Step(use.written, base, use.path, use.line, use.how)
                elif base is not None:
                    yield base, _Step(use.written, use.inside, use.path, use.line, use.how)


def _overrides(
    method: _Method, family: _Family, by_place: Mapping[tuple[str, str], Sequence[_Method]]
) -> Iterator[Override]:
    matches: list[tuple[_Reached, _Method]] = []
    wanted = tuple(_plain(parameter, {}) for parameter in method.parameters)
    for reached in _ancestors(method, family):
        base = family.classes[reached.base]
        for other in by_place.get((base.qualified, _slot(method.name)), ()):
            if other.id == method.id or other.constant != method.constant:
                continue
            if len(other.parameters) == len(wanted) and wanted == tuple(
                _plain(parameter, reached.meaning) for parameter in other.parameters
            ):
                matches.append((reached, other))
    virtual = {reached.base for reached, other in matches if other.virtual}
    above = {reached.base: _all_above(reached.base, family) for reached, _ in matches}
    for reached, other in matches:
        if other.virtual or method.marked or above[reached.base] & virtual:
            between = {r.base for r, _ in matches if r.base != reached.base and reached.base in above[r.base]}
            yield Override(method.id, other.id, reached.how, reached.distance, direct=not between)


def _ancestors(method: _Method, family: _Family) -> Iterator[_Reached]:
    """The classes above a method's own, nearest first, each once."""
    seen = set(family.owners.get(method.id, ()))
    level = [_Reached(owner, 0, Provenance.COMPILER, {}) for owner in family.owners.get(method.id, ())]
    while level:
        following = []
        for reached in level:
            for derivation in sorted(family.parents.get(reached.base, ())):
                base = family.classes.get(derivation.base)
                if base is None or base.id in seen:
                    continue
                seen.add(base.id)
                arguments = [_plain(argument, reached.meaning) for argument in derivation.arguments]
                meaning = dict(zip(base.template_parameters, arguments, strict=False))
                how = max(reached.how, derivation.how, key=lambda h: SURENESS[h])
                following.append(_Reached(base.id, reached.distance + 1, how, meaning))
        yield from following
        level = following


def _all_above(start: SymbolId, family: _Family) -> set[SymbolId]:
    found: set[SymbolId] = set()
    waiting = [start]
    while waiting:
        for derivation in family.parents.get(waiting.pop(), ()):
            if derivation.base not in found:
                found.add(derivation.base)
                waiting.append(derivation.base)
    return found


def _qualified(row: Brief) -> str:
    return f"{row.scope}::{row.name}" if row.scope else row.name


def _slot(name: str) -> str:
    """What the names of an overriding method and of the overridden one have in common: all but destructors' names."""
    return "~" if name.startswith("~") else name


def _plain(written: str, meaning: Mapping[str, str]) -> str:
    """A type without the qualifiers that two scopes may write differently, template parameters replaced."""
    plain = _QUALIFIER.sub("", written)
    if meaning:
        plain = _IDENTIFIER.sub(lambda found: meaning.get(found.group(), found.group()), plain)
    return plain.replace(" ", "")


def _arguments_of(base: str, written: Sequence[str]) -> tuple[str, ...]:
    """The template arguments that a class gives to a base of this name."""
    for one in written:
        opening = one.find("<")
        if opening > 0 and one.endswith(">") and last_name(one[:opening]) == base:
            return split_arguments(one[opening + 1 : -1])
    return ()


def _surest(overrides: Iterable[Override]) -> list[Override]:
    best: dict[tuple[SymbolId, SymbolId], Override] = {}
    for override in overrides:
        key = (override.method, override.overridden)
        if key not in best or SURENESS[override.how] < SURENESS[best[key].how]:
            best[key] = override
    return sorted(best.values(), key=lambda o: (o.method, o.distance, o.overridden))
