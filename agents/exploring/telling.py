"""What stands around the symbols that a question is about: who calls them, what they call, classes, tests, commits.

One line each, with the place, and nothing that was not looked up: what is known by its name only is said so. Text of
the tree comes in one line behind a place or a word of ours. Knows nothing of budgets.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agents.text import one_line
from hub.service import Page, Service, is_test_path
from indexer.model import Edge, Provenance, Symbol, SymbolKind

FEW, MANY = 4, 16  # places told of one relation, and where the question asks for it; 2 to 8, 8 to 40
READ_EDGES = 60  # callers that are looked through for tests; 20 to 300
MOST_TESTS = 3  # 1 to 10
MOST_COMMITS = 3  # that changed a symbol; 1 to 10
MOST_SIGNATURE = 160  # characters; 80 to 300
MOST_SUBJECT = 90  # characters of a commit's subject; 50 to 120

_FUNCTIONS = (
    SymbolKind.FUNCTION,
    SymbolKind.METHOD,
    SymbolKind.CONSTRUCTOR,
    SymbolKind.DESTRUCTOR,
    SymbolKind.MACRO,
)
_CLASSES = (SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION)
_ASKS = {
    "callers": re.compile(
        r"\b(?:what|who|which|where|all)\b.{0,80}\b(?:calls|called|callers?|uses|used|users|invokes)\b", re.IGNORECASE
    ),
    "callees": re.compile(
        r"\b(?:does|do|did)\b.{0,80}\b(?:call|use|invoke|depend)\b|\bcallees?\b|\bcalled by\b", re.IGNORECASE
    ),
    "classes": re.compile(
        r"\b(?:deriv\w+|inherit\w*|implement\w*|subclass\w*|overrid\w+|base class\w*|extends?)\b", re.IGNORECASE
    ),
    "tests": re.compile(r"\b(?:tests?|tested|testing|unittests?)\b", re.IGNORECASE),
    "commits": re.compile(
        r"\b(?:when|why|who)\b.*\b(?:changed?|added|introduced|removed)\b|\bhistory\b|\bcommits?\b", re.IGNORECASE
    ),
}
_MOST_READ = 2_000  # characters of a question that are read for what it asks


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many places of each relation are told."""

    callers: int = FEW
    callees: int = FEW
    classes: int = FEW
    tests: int = MOST_TESTS
    commits: int = MOST_COMMITS

    @property
    def any(self) -> bool:
        """Whether the question asks for one."""
        return self != Wanted()


def wanted(question: str) -> Wanted:
    """What a question asks for, beside code."""
    text = question[:_MOST_READ]
    return Wanted(**{name: MANY for name, pattern in _ASKS.items() if pattern.search(text)})


def about(service: Service, symbol: Symbol, how_many: Wanted) -> list[str]:
    """The lines about one symbol; the first one says what it is and where."""
    name = symbol.qualified_name
    signature = one_line(symbol.signature)
    if len(signature) > MOST_SIGNATURE:
        signature = signature[:MOST_SIGNATURE] + " …"
    lines = [f"{one_line(name)}  {_place(symbol.span.path, symbol.line or symbol.span.first_line)}  {signature}"]
    if symbol.kind in _FUNCTIONS:
        lines += _calls(service, symbol, how_many)
    elif symbol.kind in _CLASSES:
        lines += _lineage(service, symbol, how_many)
    else:
        found = service.references(name, Page(how_many.callers))
        lines += _listed("used", _places(found.edges), found.total)
    return lines


def commits(service: Service, names: Iterable[str], how_many: int) -> list[str]:
    """The commits that changed these symbols, newest first, each once."""
    told: dict[str, tuple[int, str]] = {}
    for name in names:
        for change in service.history(name, Page(how_many))[0]:
            commit = change.commit
            day = datetime.fromtimestamp(commit.time_s, UTC).date().isoformat()
            subject = one_line(commit.subject)[:MOST_SUBJECT]
            told.setdefault(commit.id, (-commit.time_s, f"{commit.id[:10]} {day} “{subject}”"))
    return [line for _, line in sorted(told.values())[:how_many]]


def _calls(service: Service, symbol: Symbol, how_many: Wanted) -> list[str]:
    name = symbol.qualified_name
    callers = service.callers(name, page=Page(max(READ_EDGES, how_many.callers)))
    tests = _places([edge for edge in callers.edges if is_test_path(edge.path)])
    others = _places([edge for edge in callers.edges if not is_test_path(edge.path)])
    unread = callers.total - len(callers.edges)
    lines = _listed("callers", others[: how_many.callers], len(others) + unread)
    lines += _listed("tests", tests[: how_many.tests], len(tests))
    targets = dict.fromkeys((edge.target, edge.target_id) for edge in service.callees(name).edges if edge.target_id)
    shown = [_target(service, target, wanted_id) for target, wanted_id in list(targets)[: how_many.callees]]
    lines += _listed("calls", shown, len(targets))
    if symbol.kind is SymbolKind.METHOD:
        overrides = service.overrides(name, Page(how_many.classes))
        up = [f"{one_line(edge.target)} {_place(edge.path, edge.line)}{_doubt(edge)}" for edge in overrides.overridden]
        lines += _listed("overrides", up)
        lines += _listed("overridden by", _places(overrides.overriding), overrides.total - len(overrides.overridden))
    return lines


def _lineage(service: Service, symbol: Symbol, how_many: Wanted) -> list[str]:
    lines = []
    for tree in service.hierarchy(symbol.qualified_name):
        if tree.symbol.id != symbol.id:
            continue
        lines += _listed("bases", [f"{one_line(base.name)} {_place(base.path, base.line)}" for base in tree.bases])
        derived = [f"{one_line(child.name)} {_place(child.path, child.line)}" for child in tree.derived]
        lines += _listed("derived", derived[: how_many.classes], len(derived))
    return lines


def _listed(title: str, places: Sequence[str], total: int | None = None) -> list[str]:
    if not places:
        return []
    total = len(places) if total is None else max(total, len(places))
    more = f"; … {total - len(places)} more" if total > len(places) else ""
    return [f"  {title} ({total}): {'; '.join(places)}{more}"]


def _places(edges: Iterable[Edge]) -> list[str]:
    """Where something is used: each function once, with the lines in it."""
    lines: dict[tuple[str, str, str], list[int]] = {}
    for edge in edges:
        lines.setdefault((one_line(edge.inside) or "at file scope", one_line(edge.path), _doubt(edge)), []).append(
            edge.line
        )
    return [
        f"{inside} {path}:{','.join(map(str, dict.fromkeys(numbers)))}{doubt}"
        for (inside, path, doubt), numbers in lines.items()
    ]


def _target(service: Service, name: str, wanted_id: str | None) -> str:
    rows = [symbol for symbol in service.symbols(name, 8) if symbol.id == wanted_id]
    best = next((row for row in rows if row.is_definition), rows[0] if rows else None)
    place = f" {_place(best.span.path, best.line or best.span.first_line)}" if best else ""
    return f"{one_line(name)}{place}"


def _doubt(edge: Edge) -> str:
    return " (by name)" if edge.how is Provenance.BY_NAME else ""


def _place(path: str, line: int) -> str:
    return f"{one_line(path)}:{line}"
