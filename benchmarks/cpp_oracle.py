"""What Clang knows of a library's own files: the measure that cpp_facts.py holds our facts against.

The values, how they are kept as JSON, and asking for all units of a library in processes. What stands outside the
library's tree is left out, except as the target of a call. It knows nothing of our facts, and of libclang only that
cpp_clang.py reads it.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, NamedTuple

from cpp_libraries import Library, Unit

Place = tuple[str, int]  # path and line of a declared name


class Function(NamedTuple):
    """A definition. ``defaulted`` is one without a body of its own, ``= default`` or ``= delete``.

    ``made`` is "" where the name stands in the text, "named" where a macro makes the name and the body stands in the
    text (``TEST(A, b) {...}``), and "whole" where a macro makes all of it.
    """

    path: str
    line: int
    name: str
    label: str
    key: str
    made: str
    defaulted: bool


class Type(NamedTuple):
    path: str
    line: int
    name: str
    kind: str  # "class", "struct", "union", "enum" or "alias"
    from_macro: bool


class Call(NamedTuple):
    """One call as it is written.

    ``category``: "function", "constructor" (T(x), T{x}, new T, T v(x)), "initialiser" (of a member or base),
    "operator" (called by its sign), "variable" (through a pointer or function object), "default" (T v;) and "implicit"
    (written, but of a constructor or assignment that the class does not declare).
    """

    path: str
    lines: tuple[int, ...]  # of the called name, and of the type's name for a constructor
    names: tuple[str, ...]  # that of the callee, and the word that stands there
    category: str
    form: str  # what stands before the name: ".", "->", "::" or ""
    callee: str  # a key of Oracle.callees
    inside: str  # the key of the function it stands in, or ""
    from_macro: bool  # its name stands in a macro's body, not at this place


class Callee(NamedTuple):
    name: str
    label: str  # qualified, with parameter types
    places: tuple[Place, ...]  # declarations and definitions in the tree; none for what is outside


class Base(NamedTuple):
    path: str
    line: int  # of the class's name
    name: str
    base_line: int
    bases: tuple[str, ...]  # the base's name, and the word that is written when it is an alias
    places: tuple[Place, ...]
    dependent: bool  # a template parameter: no one can say
    from_macro: bool


class Include(NamedTuple):
    path: str
    line: int
    target: str


class Override(NamedTuple):
    path: str
    line: int
    name: str
    places: tuple[Place, ...]  # of the methods it overrides


class Expansion(NamedTuple):
    path: str
    first_line: int
    last_line: int
    name: str


class Stretch(NamedTuple):
    path: str
    first_line: int
    last_line: int


@dataclass(slots=True)
class Oracle:
    functions: set[Function] = field(default_factory=set)
    types: set[Type] = field(default_factory=set)
    calls: set[Call] = field(default_factory=set)
    callees: dict[str, Callee] = field(default_factory=dict)
    # Calls that depend on a template's parameters, and the types of members: (path, line, name).
    unjudged: set[tuple[str, int, str]] = field(default_factory=set)
    bases: set[Base] = field(default_factory=set)
    includes: set[Include] = field(default_factory=set)
    overrides: set[Override] = field(default_factory=set)
    templates: set[Stretch] = field(default_factory=set)  # where calls may depend on parameters
    expansions: set[Expansion] = field(default_factory=set)
    inactive: dict[str, set[int]] = field(default_factory=dict)  # by visited path: the lines no unit compiled
    units: int = 0
    fatal: list[str] = field(default_factory=list)  # units that did not compile, with the first error
    errors: int = 0

    def add(self, other: "Oracle") -> None:
        for name in ("functions", "types", "calls", "unjudged", "bases", "includes", "overrides"):
            getattr(self, name).update(getattr(other, name))
        self.templates |= other.templates
        self.expansions |= other.expansions
        for key, callee in other.callees.items():
            self.callees[key] = merged(self.callees.get(key, callee), callee)
        for path, lines in other.inactive.items():
            self.inactive[path] = self.inactive[path] & lines if path in self.inactive else lines
        self.units += other.units
        self.fatal += other.fatal
        self.errors += other.errors

    def dumps(self) -> str:
        rows: dict[str, Any] = {name: sorted(getattr(self, name)) for name in _ROWS}
        rows |= {
            "unjudged": sorted(self.unjudged),
            "callees": self.callees,
            "inactive": {path: sorted(lines) for path, lines in self.inactive.items()},
            "units": self.units,
            "fatal": self.fatal,
            "errors": self.errors,
        }
        return json.dumps(rows)

    @classmethod
    def loads(cls, text: str) -> "Oracle":
        found = json.loads(text)
        oracle = cls(units=found["units"], fatal=found["fatal"], errors=found["errors"])
        for name, kind in _ROWS.items():
            setattr(oracle, name, {kind(*(_tuples(value) for value in row)) for row in found[name]})
        oracle.unjudged = {(path, line, name) for path, line, name in found["unjudged"]}
        oracle.callees = {key: Callee(row[0], row[1], _tuples(row[2])) for key, row in found["callees"].items()}
        oracle.inactive = {path: set(lines) for path, lines in found["inactive"].items()}
        return oracle


_ROWS: dict[str, Any] = {
    "functions": Function,
    "types": Type,
    "calls": Call,
    "bases": Base,
    "includes": Include,
    "overrides": Override,
    "templates": Stretch,
    "expansions": Expansion,
}


def merged(one: Callee, other: Callee) -> Callee:
    return one._replace(places=tuple(sorted({*one.places, *other.places})))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def ask(library: Library, system: Sequence[str], workers: int) -> Oracle:
    """Parses all units of a library. Definitions of one unit are known as the targets of calls in all others."""
    parts = [library.units[start::workers] for start in range(workers)]
    oracle = Oracle()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for part in pool.map(_ask_some, parts, [str(library.tree)] * workers, [tuple(system)] * workers):
            oracle.add(part)
    for function in oracle.functions:
        if function.key in oracle.callees:
            callee = oracle.callees[function.key]
            oracle.callees[function.key] = merged(callee, callee._replace(places=((function.path, function.line),)))
    # A branch that one unit skipped may be another's; and a guarded file that comes a second time is skipped whole.
    for path, line, *_ in (*oracle.functions, *oracle.types):
        oracle.inactive[path].discard(line)
    return oracle


def _ask_some(units: Sequence[Unit], tree: str, system: tuple[str, ...]) -> Oracle:
    from cpp_clang import read  # noqa: PLC0415 - libclang is needed only where nothing was kept

    return read(units, tree, system)
