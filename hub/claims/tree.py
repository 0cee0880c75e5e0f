"""What an index says of claims. What it knows by name only it neither confirms nor denies.

A claim is wrong only where the tables hold what would have to say it: the text of the function that is said to call,
the class that is said to derive. What may hide behind a macro, a base outside the tree or an object without a written
call is left open.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from hub.claims.model import Claim, Known, Relation, Told, Truth
from indexer.errors import QuestionError
from indexer.index import Index, Relative
from indexer.model import Provenance, ReferenceKind, Span, Symbol, SymbolId, SymbolKind

MOST_NAMESAKES = 60  # symbols that one name of a claim may mean; with more it is not judged
MOST_PLACES = 3  # lines told of one claim
MOST_BETWEEN = 200  # functions between two that are looked into for an indirect call
NEARLY = 2  # lines that a place may be off before it is wrong: comments and attributes above a definition

_CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)
_CLASSES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION})
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
_METHODS = frozenset({SymbolKind.METHOD, SymbolKind.DESTRUCTOR, SymbolKind.FUNCTION})
# Calls that code need not write: of constructors, destructors and operators.
_SILENT = _CLASSES | {SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR, SymbolKind.ALIAS}
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_UNKNOWN = Told(Truth.UNKNOWN)


def known_of(index: Index) -> Known:
    """The tree of an index, as far as claims ask about it."""
    tree = _Tree(index)
    return Known(lambda name: index.text.holds(name) or bool(index.facts.symbols_named(name, 1)), tree.edge, tree.lines)


class _Tree:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._facts = index.facts
        self._lineage = index.graph.lineage

    def lines(self, span: Span) -> str:
        """The lines of a span as they were indexed; "" where nothing is."""
        return "".join(
            line
            for chunk in self._index.table.chunks_at(span)
            for number, line in enumerate(_LINE.findall(chunk.text), chunk.span.first_line)
            if span.first_line <= number <= span.last_line
        )

    def edge(self, claim: Claim) -> Told:
        """What the tables say of a claim."""
        if claim.relation is Relation.INCLUDES:
            return self._includes(claim)
        subjects = self._named(claim.subject)
        if not subjects or len(subjects) >= MOST_NAMESAKES:
            return _UNKNOWN
        match claim.relation:
            case Relation.CALLS:
                return self._calls(claim, subjects)
            case Relation.DERIVES:
                return self._derives(claim, subjects)
            case Relation.OVERRIDES:
                return self._overrides(claim, subjects)
            case _:
                return _stands(claim, subjects)

    def _named(self, name: str) -> list[Symbol]:
        found = self._facts.symbols_named(name, MOST_NAMESAKES)
        last = _last(name)
        if not found and "." in name:
            return self._named(name.rpartition(".")[2])
        return [symbol for symbol in found if symbol.name == last]  # not in another letter case

    # Calls

    def _calls(self, claim: Claim, subjects: Sequence[Symbol]) -> Told:
        functions = [symbol for symbol in subjects if symbol.kind in _FUNCTIONS]
        targets = self._named(claim.object)
        if not functions:
            return self._calls_of_members(subjects, targets)
        callers = {symbol.id for symbol in functions}
        meant = {symbol.id for symbol in targets} | self._constructors(targets)
        uses = self._facts.uses_in(callers, _CALLS)
        sure: list[Span] = []
        unsure: list[Span] = []
        for one in uses:
            if meant.isdisjoint(one.ids):
                continue
            decided = one.use.how is not Provenance.BY_NAME or meant.issuperset(one.ids)
            (sure if decided else unsure).append(Span(one.use.path, one.use.line, one.use.line))
        if sure:
            return Told(Truth.RIGHT, _first(sure))
        if unsure:
            return Told(Truth.UNKNOWN, _first(unsure))
        return self._unwritten(
            claim, functions, targets, {target for one in uses for target in one.ids} - callers, meant
        )

    def _unwritten(
        self,
        claim: Claim,
        functions: Sequence[Symbol],
        targets: Sequence[Symbol],
        between: set[SymbolId],
        meant: set[SymbolId],
    ) -> Told:
        """Of a call that the tables do not show: whether the text of the caller shows that there is none."""
        last = _last(claim.object)
        bodies = [symbol.span for symbol in functions if symbol.is_definition]
        said = self._saying(bodies, last)
        if said:  # the name is there, as a value, in a macro or in a comment
            outside = not targets and re.search(rf"\b{re.escape(last)}\s*\(", self.lines(said[0]))
            return Told(Truth.RIGHT if outside else Truth.UNKNOWN, _first(said))
        reached = self._reached(between, meant, last)
        if reached:
            return Told(Truth.RIGHT if claim.indirect else Truth.UNKNOWN, _first(reached))
        silent = bool(targets) and all(symbol.kind in _SILENT for symbol in targets)
        if not bodies or claim.indirect or silent or not re.match(r"(?!operator\b)[A-Za-z_]", last):
            return _UNKNOWN
        return Told(Truth.WRONG, _first(bodies))

    def _calls_of_members(self, subjects: Sequence[Symbol], targets: Sequence[Symbol]) -> Told:
        """A class is said to call what any of its members calls."""
        owners = {symbol.qualified_name for symbol in subjects if symbol.kind in _CLASSES}
        if not owners or not targets:
            return _UNKNOWN
        ids = {symbol.id: symbol.name for symbol in targets}
        edges = self._facts.edges(self._facts.uses_of(ids, _CALLS))
        places = [
            Span(edge.path, edge.line, edge.line)
            for edge in edges
            if edge.inside in owners or any(edge.inside.startswith(f"{owner}::") for owner in owners)
        ]
        return Told(Truth.RIGHT, _first(places)) if places else _UNKNOWN

    def _constructors(self, targets: Iterable[Symbol]) -> set[SymbolId]:
        classes = {symbol.qualified_name: symbol.name for symbol in targets if symbol.kind in _CLASSES}
        if not classes:
            return set()
        made = self._facts.names.of_names(classes.values(), (SymbolKind.CONSTRUCTOR,))
        return {symbol.id for symbol in made if symbol.scope in classes}

    def _saying(self, bodies: Iterable[Span], name: str) -> list[Span]:
        """The lines of these spans that hold a name, in code or in a comment."""
        form = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        return [
            Span(body.path, number, number)
            for body in bodies
            for number, line in enumerate(self.lines(body).split("\n"), body.first_line)
            if form.search(line)
        ]

    def _reached(self, between: Collection[SymbolId], meant: set[SymbolId], name: str) -> list[Span]:
        """Where what a function calls, itself calls what is meant."""
        if not between or len(between) > MOST_BETWEEN:
            return []
        return [
            Span(one.use.path, one.use.line, one.use.line)
            for one in self._facts.uses_in(between, _CALLS)
            if not meant.isdisjoint(one.ids) or (not meant and one.use.name == name)
        ]

    # Classes

    def _derives(self, claim: Claim, subjects: Sequence[Symbol]) -> Told:
        classes = {symbol.id: symbol for symbol in subjects if symbol.kind in _CLASSES}
        targets = [symbol for symbol in self._named(claim.object) if symbol.kind in _CLASSES | {SymbolKind.ALIAS}]
        if not classes or (not targets and self._named(claim.object)):
            return _UNKNOWN
        meant, last = {symbol.id for symbol in targets}, _last(claim.object)
        above = [one for symbol in classes.values() for one in _flat(self._lineage.bases(symbol))]
        for one in above:
            if one.id in meant or (one.id is None and _last(_bare(one.name)) == last):
                return Told(Truth.RIGHT, (Span(one.path, one.line, one.line),))
        defined = [symbol.span for symbol in subjects if symbol.id in classes and symbol.is_definition]
        if not defined or any(one.id is None for one in above):
            return _UNKNOWN  # what stands outside the tree has bases of its own
        return Told(Truth.WRONG, _first(defined))

    def _overrides(self, claim: Claim, subjects: Sequence[Symbol]) -> Told:
        last = _last(claim.object)
        methods = {symbol.id for symbol in subjects if symbol.kind in _METHODS and symbol.scope}
        owners = {symbol.qualified_name for symbol in subjects if symbol.kind in _CLASSES}
        if owners:
            members = self._facts.names.of_names([last], tuple(sorted(_METHODS)))
            methods |= {symbol.id for symbol in members if symbol.scope in owners}
        if not methods:
            return _UNKNOWN
        targets = self._named(claim.object)
        meant = {symbol.id for symbol in targets}
        bases = {symbol.qualified_name for symbol in targets if symbol.kind in _CLASSES}
        overridden = self._lineage.overrides_of(methods)
        for one in self._lineage.edges(overridden):
            of_base = one.target.rpartition("::")[0] in bases
            # Where the class says it itself, any method of that name that it overrides is meant.
            if one.target_id in meant or of_base or ("::" not in claim.object and one.target.endswith(f"::{last}")):
                return Told(Truth.RIGHT, (Span(one.path, one.line, one.line),))
        scopes = {symbol.scope for symbol in self._facts.names.by_ids(methods)}
        holders = [s for scope in sorted(scopes) for s in self._named(scope) if s.qualified_name == scope]
        above = [one for s in holders if s.kind in _CLASSES for one in _flat(self._lineage.bases(s))]
        if not targets or not holders or any(one.id is None for one in above):
            return _UNKNOWN
        return Told(Truth.WRONG, _first([symbol.span for symbol in self._facts.names.by_ids(methods)]))

    # Files

    def _includes(self, claim: Claim) -> Told:
        try:
            including, included = (self._index.graph.file(_path(name)) for name in (claim.subject, claim.object))
        except QuestionError:
            return _UNKNOWN
        if including is None or self._index.table.known_file(including) is None:
            return _UNKNOWN
        steps = self._index.graph.includes(including, 2)
        wanted = included or _path(claim.object)
        for step in steps:
            if step.edge.target == wanted or step.edge.target.endswith(f"/{wanted}"):
                truth = Truth.RIGHT if step.edge.path == including else Truth.UNKNOWN
                return Told(truth, (Span(step.edge.path, step.edge.line, step.edge.line),))
        return Told(Truth.WRONG, (Span(including, 1, 1),))


def _stands(claim: Claim, symbols: Sequence[Symbol]) -> Told:
    """Whether a symbol is defined, or declared, where it is said to be."""
    path, _, lines = claim.object.partition(":")
    here = [s for s in symbols if s.span.path == path or s.span.path.endswith(f"/{path}")]
    wanted = [s for s in symbols if s.is_definition] or list(symbols)
    if not here:
        return Told(Truth.WRONG, _first([symbol.span for symbol in wanted]))
    if lines:
        first, last = (int(part) for part in (re.findall(r"[0-9]+", lines) * 2)[:2])
        near = [s for s in here if s.span.first_line - NEARLY <= last and first <= s.span.last_line + NEARLY]
        at = [s for s in near if s.span.first_line <= last and first <= s.span.last_line]
        if not at:
            return Told(Truth.UNKNOWN if near else Truth.WRONG, _first([symbol.span for symbol in here]))
        here = at
    # Said to be defined where it is only declared: loosely put, not untrue.
    loose = claim.relation is Relation.DEFINED and not any(s.is_definition for s in here) and wanted[0].is_definition
    return Told(Truth.UNKNOWN if loose else Truth.RIGHT, _first([symbol.span for symbol in here]))


def _flat(relatives: Iterable[Relative]) -> Iterator[Relative]:
    for one in relatives:
        yield one
        yield from _flat(one.relatives)


def _first(places: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(sorted(set(places))[:MOST_PLACES])


def _last(name: str) -> str:
    return name.rpartition("::")[2]


def _bare(name: str) -> str:
    return name.partition("<")[0]


def _path(written: str) -> str:
    return written.partition(":")[0]
