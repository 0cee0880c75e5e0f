"""Compares our facts of a library with Clang's, fact by fact, and says why each one that differs does.

Two values go in, findings and counts come out. It neither parses nor prints.

A call edge of ours is right when our target stands where Clang's callee does (declared, defined, or the template it is
an instance of). An edge that is only known by name claims nothing: it can be missing, never wrong. Where Clang itself
cannot tell (in templates, in branches that no unit compiled, in the arguments of macros that drop them) nothing is
counted either way.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from cpp_oracle import Base, Call, Expansion, Oracle, Place, Stretch

from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolId, SymbolKind, Trait

HEADLINE = ("function", "constructor")
FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
CLASSES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION, SymbolKind.ENUM})
TYPES = CLASSES | {SymbolKind.ALIAS}


class Finding(NamedTuple):
    topic: str
    verdict: str  # "wrong" or "missing"
    reason: str
    path: str
    line: int
    name: str
    clang: str
    ours: str


@dataclass(slots=True)
class Score:
    """Counts of one topic. Precision and recall are None where there is nothing to divide by."""

    right: int = 0
    wrong: int = 0
    found: int = 0
    missing: int = 0

    @property
    def precision(self) -> float | None:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def recall(self) -> float | None:
        return self.found / (self.found + self.missing) if self.found + self.missing else None


@dataclass(slots=True)
class Comparison:
    scores: defaultdict[str, Score] = field(default_factory=lambda: defaultdict(Score))
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class Ours:
    """Our facts of one tree, with the ways into them that comparing needs."""

    symbols: Sequence[Symbol]
    edges: Sequence[Edge]
    files: frozenset[str] | None = None  # that were indexed; None where nobody asks
    by_id: dict[SymbolId, list[Symbol]] = field(init=False)
    by_qualified: dict[str, list[Symbol]] = field(init=False)
    by_name: dict[str, list[Symbol]] = field(init=False)
    by_file: dict[tuple[str, str], list[Symbol]] = field(init=False)  # path and name

    def __post_init__(self) -> None:
        self.by_id, self.by_qualified = defaultdict(list), defaultdict(list)
        self.by_name, self.by_file = defaultdict(list), defaultdict(list)
        for symbol in self.symbols:
            self.by_id[symbol.id].append(symbol)
            self.by_qualified[symbol.qualified_name].append(symbol)
            self.by_name[symbol.name].append(symbol)
            self.by_file[symbol.span.path, _squeezed(symbol.name)].append(symbol)

    @property
    def has_targets(self) -> bool:
        """Whether edges name one symbol each; otherwise qualified names are compared, and overloads count as one."""
        return any(edge.target_id for edge in self.edges)

    def targets(self, edge: Edge) -> Sequence[Symbol]:
        """The places of the one symbol that an edge claims to mean; empty when it claims nothing in the tree."""
        if edge.how is Provenance.BY_NAME:
            return ()
        if edge.target_id is not None:
            return self.by_id.get(edge.target_id, ())
        return () if self.has_targets else self.by_qualified.get(edge.target, ())

    def candidates(self, edge: Edge) -> Sequence[Symbol]:
        """What an edge that is known by name may mean."""
        return self.by_name.get(last_name(edge.target), ())


def compare(oracle: Oracle, ours: Ours) -> Comparison:
    into = Comparison()
    _files(oracle, ours, into)
    _functions(oracle, ours, into)
    _types(oracle, ours, into)
    _calls(oracle, ours, into)
    _bases(oracle, ours, into)
    _includes(oracle, ours, into)
    _overrides(oracle, ours, into)
    into.findings.sort()
    return into


def last_name(name: str) -> str:
    head, found, operator = name.rpartition("operator")
    if found and (not head or head.endswith("::")):
        return found + operator
    return name.rpartition("::")[2]


def stands_at(symbol: Symbol, places: Iterable[Place]) -> bool:
    span = symbol.span
    if symbol.line:
        return (span.path, symbol.line) in places
    return any(path == span.path and span.first_line <= line <= span.last_line for path, line in places)


# Definitions


def _files(oracle: Oracle, ours: Ours, into: Comparison) -> None:
    score = into.scores["files"]
    for path in sorted(oracle.inactive) if ours.files is not None else ():
        found = path in (ours.files or ())
        score.found += found
        score.missing += not found
        if not found:
            into.findings.append(Finding("files", "missing", "not indexed", path, 1, path, "read", "left out"))


def _functions(oracle: Oracle, ours: Ours, into: Comparison) -> None:
    score = into.scores["functions"]
    definitions = [s for s in ours.symbols if s.kind in FUNCTIONS and s.is_definition]
    left = _Unmatched(definitions)
    for function in sorted(oracle.functions):
        if function.defaulted:
            continue
        # A macro that makes the name of a function: ours, the macro's with its arguments, is as good.
        name = None if function.made == "named" else function.name
        matched = left.take(function.path, function.line, name)
        counted = into.scores["functions made by macros"] if function.made == "whole" else score
        counted.found += matched
        counted.missing += not matched
        if not matched:
            named = ours.by_file.get((function.path, _squeezed(function.name)), [])
            around = [s for s in named if s.span.first_line <= function.line <= s.span.last_line]
            reason = (
                "a macro makes all of it"
                if function.made == "whole"
                else "a macro makes its name"
                if function.made
                else "not there at all"
                if not named
                else "there, with another line"
                if any(s.is_definition for s in around)
                else "there, but not as a definition"
                if around
                else "only elsewhere in the file"
            )
            topic = "functions: made" if function.made == "whole" else "functions"
            detail = (function.path, function.line, function.name, function.label, _kinds_and_lines(named))
            into.findings.append(Finding(topic, "missing", reason, *detail))
    made = {(f.path, f.line) for f in oracle.functions if f.made}
    defaulted = {(f.path, f.line, _squeezed(f.name)) for f in oracle.functions if f.defaulted}
    judged = [
        s
        for s in definitions
        if _is_active(oracle, s.span.path, _line(s))
        and (s.span.path, _line(s)) not in made
        and (s.span.path, _line(s), _squeezed(s.name)) not in defaulted
    ]
    _judge(score, left, judged, "functions", into)


def _types(oracle: Oracle, ours: Ours, into: Comparison) -> None:
    for topic, kinds in (("types", CLASSES), ("aliases", TYPES)):
        score = into.scores[topic]
        definitions = [s for s in ours.symbols if s.kind in kinds and s.is_definition]
        left = _Unmatched(definitions)
        made = {(t.path, t.line) for t in oracle.types if t.from_macro}
        for found in sorted(oracle.types):
            if (found.kind == "alias") != (topic == "aliases") or found.from_macro:
                continue
            matched = left.take(found.path, found.line, found.name)
            score.found += matched
            score.missing += not matched
            if not matched:
                named = ours.by_file.get((found.path, found.name), [])
                reason = "there as something else" if named else "not there at all"
                clang = f"{found.kind} {found.name}"
                detail = (found.path, found.line, found.name, clang, _kinds_and_lines(named))
                into.findings.append(Finding(topic, "missing", reason, *detail))
        judged = [
            s
            for s in definitions
            if (s.kind is SymbolKind.ALIAS) == (topic == "aliases")
            and _is_active(oracle, s.span.path, _line(s))
            and (s.span.path, _line(s)) not in made
        ]
        _judge(score, left, judged, topic, into)


def _judge(score: Score, left: "_Unmatched", judged: Iterable[Symbol], topic: str, into: Comparison) -> None:
    for symbol in judged:
        right = left.was_taken(symbol)
        score.right += right
        score.wrong += not right
        if not right:
            place = (symbol.span.path, _line(symbol), symbol.name)
            detail = f"{symbol.kind} {symbol.signature[:100]}"
            into.findings.append(Finding(topic, "wrong", f"no such {symbol.kind}", *place, "nothing", detail))


class _Unmatched:
    """Symbols that Clang's facts are matched with, each at most once."""

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self._left: defaultdict[tuple[str, str], list[Symbol]] = defaultdict(list)
        self._taken: set[int] = set()
        for symbol in symbols:
            self._left[symbol.span.path, _squeezed(symbol.name)].append(symbol)
            self._left[symbol.span.path, ""].append(symbol)

    def take(self, path: str, line: int, name: str | None) -> bool:
        """Takes the innermost one of that place and name; without a name, any whose name stands there."""
        around = [
            symbol
            for symbol in self._left.get((path, _squeezed(name) if name else ""), ())
            if id(symbol) not in self._taken
            and (symbol.line == line or (not symbol.line and symbol.span.first_line <= line <= symbol.span.last_line))
            and (name or line in (symbol.line, symbol.span.first_line))
        ]
        if not around:
            return False
        self._taken.add(id(max(around, key=lambda symbol: symbol.span.first_line)))
        return True

    def was_taken(self, symbol: Symbol) -> bool:
        return id(symbol) in self._taken


def _line(symbol: Symbol) -> int:
    return symbol.line or symbol.span.first_line


def _kinds_and_lines(symbols: Sequence[Symbol]) -> str:
    return ", ".join(f"{s.kind} {s.span.first_line}-{s.span.last_line}" for s in symbols[:3]) or "nothing"


def _squeezed(name: str) -> str:
    """A name without spaces; of a conversion only that it is one, for its type is spelt in many ways."""
    plain = "".join(name.split())
    if plain.startswith("operator") and name[8:9].isspace() and not plain.startswith(("operatornew", "operatordelete")):
        return "operator <type>" if name[8:].strip()[:1].isalpha() else plain
    return plain


def _is_active(oracle: Oracle, path: str, line: int) -> bool:
    return path in oracle.inactive and line not in oracle.inactive[path]


# Calls


class _Sites:
    """Clang's calls by path, line and name, and the places where it can tell nothing."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.at: defaultdict[tuple[str, int, str], list[Call]] = defaultdict(list)
        for call in oracle.calls:
            for line in call.lines:
                for name in call.names:
                    self.at[call.path, line, _squeezed(name)].append(call)
        self.silent: defaultdict[str, set[int]] = defaultdict(set)
        stretches: list[Stretch | Expansion] = [*oracle.templates, *oracle.expansions]
        for stretch in stretches:
            self.silent[stretch.path].update(range(stretch.first_line, stretch.last_line + 1))

    def cannot_tell(self, path: str, line: int, name: str, *, seen: bool) -> bool:
        """``seen`` tells whether Clang sees a call of that name there, so that it has a say after all."""
        return (path, line, name) in self._oracle.unjudged or (not seen and line in self.silent[path])


def _calls(oracle: Oracle, ours: Ours, into: Comparison) -> None:
    sites = _Sites(oracle)
    right: set[Call] = set()
    seen: defaultdict[tuple[str, int, str], list[Edge]] = defaultdict(list)
    for edge in sorted(set(ours.edges), key=lambda e: (e.path, e.line, e.target, e.inside, e.target_id or "")):
        if edge.kind is not ReferenceKind.CALL or not _is_active(oracle, edge.path, edge.line):
            continue
        name = _squeezed(last_name(edge.target))
        seen[edge.path, edge.line, name].append(edge)
        here = sites.at.get((edge.path, edge.line, name), [])
        if edge.how is Provenance.BY_NAME:
            into.counts["by-name"] += 1
            continue
        targets = ours.targets(edge)
        if not targets or any(symbol.kind is SymbolKind.MACRO for symbol in targets):
            continue
        matched = [
            call for call in here if any(stands_at(symbol, oracle.callees[call.callee].places) for symbol in targets)
        ]
        if matched:
            right.update(matched)
            for category in sorted({_group(call) for call in matched}):
                into.scores[category].right += 1
        elif _names_no_constructor(targets) and (not here or _is_class_of(oracle, here, targets)):
            into.counts["constructions without a constructor"] += 1
        elif sites.cannot_tell(edge.path, edge.line, name, seen=bool(here)):
            into.counts["unjudged"] += 1
        else:
            group = _group(here[0]) if here else "calls"
            into.scores[group].wrong += 1
            into.findings.append(_wrong_call(oracle, edge, name, here, targets, group))
    _missing_calls(oracle, ours, right, seen, into)
    _pairs(oracle, ours, sites, into)


def _group(call: Call) -> str:
    if call.from_macro:
        return "calls out of macros"
    return "calls" if call.category in HEADLINE else f"calls: {call.category}"


def _names_no_constructor(targets: Sequence[Symbol]) -> bool:
    """Whether an edge says that an object is made, and names no function that does it.

    An aggregate, a copy that is elided and a value that a defaulted constructor makes: Clang notes no call there.
    """
    return all(symbol.kind in TYPES or Trait.DEFAULTED in symbol.traits for symbol in targets)


def _is_class_of(oracle: Oracle, here: Iterable[Call], targets: Sequence[Symbol]) -> bool:
    """Whether the class is right, and only the constructor is left open."""
    return any(
        symbol.span.path == path and symbol.span.first_line <= line <= symbol.span.last_line
        for call in here
        for path, line in oracle.callees[call.callee].places
        for symbol in targets
    )


def _wrong_call(
    oracle: Oracle, edge: Edge, name: str, here: Sequence[Call], targets: Sequence[Symbol], group: str
) -> Finding:
    callees = [oracle.callees[call.callee] for call in here]
    if not here:
        reason, clang = "Clang sees no call of that name", "no call"
    elif all(call.category == "variable" for call in here):
        reason, clang = "Clang: through a variable", callees[0].label
    elif not any(callee.places for callee in callees):
        reason, clang = "Clang: outside the tree", callees[0].label
    else:
        overload = any(callee.label.partition("(")[0] == targets[0].qualified_name for callee in callees)
        reason = "another overload" if overload else "another function"
        clang = " | ".join(_described(callee.label, callee.places) for callee in callees[:2])
    return Finding(group, "wrong", reason, edge.path, edge.line, name, clang, f"{_symbol(targets[0])} ({edge.how})")


def _missing_calls(
    oracle: Oracle,
    ours: Ours,
    right: set[Call],
    seen: dict[tuple[str, int, str], list[Edge]],
    into: Comparison,
) -> None:
    for call in sorted(oracle.calls):
        callee = oracle.callees[call.callee]
        if not callee.places or call.category in ("variable", "implicit"):
            continue
        group = _group(call)
        score = into.scores[group]
        if call in right:
            score.found += 1
            continue
        score.missing += 1
        edges = [
            edge
            for line in call.lines
            for name in call.names
            for edge in seen.get((call.path, line, _squeezed(name)), ())
        ]
        reason, shown = _why_missing(ours, edges, callee.places)
        into.counts["said to be outside, but inside"] += group == "calls" and reason == _OUTSIDE
        if group == "calls" and edges and reason.startswith("known by name"):
            into.counts["by-name, right one among the candidates"] += reason.endswith("the right one")
            into.counts["by-name, should be resolved"] += 1
        form = f"{call.category}{' ' + call.form if call.form else ''}"
        clang = _described(callee.label, callee.places)
        finding = Finding(group, "missing", f"{reason} [{form}]", call.path, call.lines[0], callee.name, clang, shown)
        into.findings.append(finding)


_OUTSIDE = "said to be outside"


def _why_missing(ours: Ours, edges: Sequence[Edge], places: Sequence[Place]) -> tuple[str, str]:
    if not edges:
        return "no call noted", "nothing"
    named = [edge for edge in edges if edge.how is Provenance.BY_NAME]
    if named:
        among = any(stands_at(symbol, places) for symbol in ours.candidates(named[0]))
        which = "among them the right one" if among else "not the right one among them"
        found = ours.candidates(named[0])
        return f"known by name, {which}", f"{len(found)} candidates: {'; '.join(map(_symbol, found[:2]))}"
    targets = [symbol for edge in edges for symbol in ours.targets(edge)[:1]]
    if not targets:
        return _OUTSIDE, edges[0].target
    if any(symbol.kind in TYPES for symbol in targets):
        return "the class, not the constructor", _symbol(targets[0])
    return "resolved to another", "; ".join(map(_symbol, targets[:2]))


def _pairs(oracle: Oracle, ours: Ours, sites: _Sites, into: Comparison) -> None:
    """The measure that the published figures of other tools use: pairs of names, with the file of the callee.

    A header and the source file of its name count as one file, and so do all calls of one caller.
    """
    callers = {function.key: function.name for function in oracle.functions}
    made = {(function.path, function.line): function.name for function in oracle.functions if function.made == "named"}
    wanted = {
        (_stem(call.path), callers[call.inside], callee.name, _stem(path))
        for call in oracle.calls
        if call.category in HEADLINE and call.inside in callers
        for callee in (oracle.callees[call.callee],)
        for path, _ in callee.places
    }
    got: set[tuple[str, str, str, str]] = set()
    for edge in ours.edges:
        if edge.kind is not ReferenceKind.CALL or not edge.inside or not _is_active(oracle, edge.path, edge.line):
            continue
        name = last_name(edge.target)
        targets = [symbol for symbol in ours.targets(edge) if symbol.kind in FUNCTIONS]
        here = sites.at.get((edge.path, edge.line, _squeezed(name)), [])
        if not targets or (not here and sites.cannot_tell(edge.path, edge.line, name, seen=False)):
            continue
        if here and not any(call.category in HEADLINE for call in here):
            continue
        inside = ours.by_id.get(edge.inside_id, ()) if edge.inside_id else ()
        caller = next((made[place] for s in inside if (place := (s.span.path, _line(s))) in made), None)
        files = {_stem(symbol.span.path) for symbol in targets}
        pairs = {(_stem(edge.path), caller or last_name(edge.inside), name, file) for file in files}
        got |= (pairs & wanted) or {min(pairs)}
    score = into.scores["calls as pairs of names"]
    score.right = len(got & wanted)
    score.wrong = len(got) - score.right
    reached = {pair[:3] for pair in got & wanted}
    score.found, score.missing = len(reached), len({pair[:3] for pair in wanted} - reached)


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


# What else spans files


def _bases(oracle: Oracle, ours: Ours, into: Comparison) -> None:
    edges: defaultdict[tuple[str, int], list[Edge]] = defaultdict(list)
    for edge in ours.edges:
        if edge.kind is ReferenceKind.BASE and _is_active(oracle, edge.path, edge.line):
            edges[edge.path, edge.line].append(edge)
    known: set[tuple[str, int, str]] = set()
    for base in sorted(oracle.bases):
        here = edges.get((base.path, base.base_line), [])
        known.update((base.path, base.base_line, name) for name in base.bases)
        if base.dependent or base.from_macro:
            known.update((base.path, base.base_line, last_name(edge.target)) for edge in here)
        else:
            _base(base, here, ours, into)
    score = into.scores["bases by name"]
    for (path, line), here in sorted(edges.items()):
        for edge in here:
            right = (path, line, last_name(edge.target)) in known
            score.right += right
            score.wrong += not right
            if not right:
                detail = (path, line, edge.target, "no such base", f"{edge.inside} : {edge.target}")
                into.findings.append(Finding("bases", "wrong", "Clang sees no such base", *detail))


def _base(base: Base, here: Sequence[Edge], ours: Ours, into: Comparison) -> None:
    names, targets = into.scores["bases by name"], into.scores["bases"]
    fits = [e for e in here if last_name(e.target) in base.bases and last_name(e.inside) in ("", base.name)]
    clang = f"{base.name} : {_described(base.bases[0], base.places)}"
    place = (base.path, base.base_line, base.bases[0], clang)
    names.found += bool(fits)
    names.missing += not fits
    if not fits:
        seen = "; ".join(f"{e.inside} : {e.target}" for e in here) or "nothing"
        into.findings.append(Finding("bases", "missing", "no such base noted", *place, seen))
    claims = {edge: ours.targets(edge) for edge in fits}
    right = {edge for edge in fits if any(stands_at(symbol, base.places) for symbol in claims[edge])}
    if base.places:
        targets.found += bool(right)
        targets.missing += not right
        if fits and not right:
            seen = "; ".join(f"{e.target} ({e.how})" for e in fits)
            into.findings.append(Finding("bases", "missing", "target not resolved", *place, seen))
    for edge, claimed in claims.items():
        targets.right += edge in right
        if claimed and edge not in right:
            targets.wrong += 1
            into.findings.append(Finding("bases", "wrong", "another class", *place, _symbol(claimed[0])))


def _includes(oracle: Oracle, ours: Ours, into: Comparison) -> None:
    score = into.scores["includes"]
    wanted = {(include.path, include.line): include.target for include in oracle.includes}
    found: dict[tuple[str, int], str] = {}
    for edge in ours.edges:
        if edge.kind is not ReferenceKind.INCLUDE or not _is_active(oracle, edge.path, edge.line):
            continue
        if edge.how is Provenance.BY_NAME:
            into.counts["includes by name"] += 1
            continue
        place = (edge.path, edge.line)
        found[place] = edge.target
        right = wanted.get(place) == edge.target
        score.right += right
        score.wrong += not right
        if not right:
            clang = wanted.get(place, "outside the tree")
            detail = (edge.path, edge.line, edge.target, clang, edge.target)
            into.findings.append(Finding("includes", "wrong", "another file", *detail))
    for (path, line), target in sorted(wanted.items()):
        matched = found.get((path, line)) == target
        score.found += matched
        score.missing += not matched
        if not matched:
            seen = found.get((path, line), "nothing")
            into.findings.append(Finding("includes", "missing", "not resolved", path, line, target, target, seen))


def _overrides(oracle: Oracle, ours: Ours, into: Comparison) -> None:
    score = into.scores["overrides"]
    edges: defaultdict[tuple[str, int], list[Edge]] = defaultdict(list)
    for edge in ours.edges:
        if edge.kind is ReferenceKind.OVERRIDE and _is_active(oracle, edge.path, edge.line):
            edges[edge.path, edge.line].append(edge)
    for override in sorted(oracle.overrides):
        here = edges.get((override.path, override.line), [])
        found = any(stands_at(symbol, override.places) for edge in here for symbol in ours.targets(edge))
        score.found += found
        score.missing += not found
        if not found and override.places:
            clang = _described(override.name, override.places)
            detail = (
                override.path,
                override.line,
                override.name,
                clang,
                "; ".join(e.target for e in here) or "nothing",
            )
            into.findings.append(Finding("overrides", "missing", "not noted", *detail))
        # One claim may come twice: derived from the classes, and from the compiler.
        for edge in {edge.target_id or edge.target: edge for edge in here}.values():
            right = any(stands_at(symbol, override.places) for symbol in ours.targets(edge))
            score.right += right
            score.wrong += not right


def _described(label: str, places: Sequence[Place]) -> str:
    return f"{label} at {' and '.join(f'{path}:{line}' for path, line in places[:2])}" if places else label


def _symbol(symbol: Symbol) -> str:
    span = symbol.span
    return f"{symbol.kind} {symbol.qualified_name} [{symbol.signature[:70]}] at {span.path}:{_line(symbol)}"


def reasons(findings: Iterable[Finding]) -> Iterator[tuple[str, int]]:
    """How often each reason stands, the most frequent first."""
    counted: defaultdict[str, int] = defaultdict(int)
    for finding in findings:
        counted[finding.reason] += 1
    yield from sorted(counted.items(), key=lambda item: (-item[1], item[0]))
