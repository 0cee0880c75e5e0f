"""The tools that follow links: uses of a name, calls as a tree, what a change reaches. Knows nothing of how links are
made; it says of each how its target is known.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from agents import text
from agents.desk import Desk
from agents.errors import ArgumentError
from agents.model import Arguments, Call
from agents.parameters import Choice, Number, Text
from agents.text import Item
from agents.tools.model import Tool
from agents.tools.replies import Asked, asked, counted, listed
from agents.tools.searching import MOST_NAME_CHARS
from hub import shapes
from hub.auth.model import Scope
from hub.service import GROUPS, Impact, Page, Reach, Reached, Relations, is_test_path
from indexer.model import Edge, Provenance, Symbol, SymbolKind

CODE_CHARS = 140  # of a line of code beside its place
CALLS_A_PAGE = 60
MOST_PLACES = 3  # of one caller that are named
MOST_CHANGE_CHARS = 400_000  # of a diff
MOST_CHANGED_NAMES = 50
REACHED_A_PAGE = 60
FIRST_TESTS = 20  # that are shown before what is no test
IMPACT_DEPTH = 3  # as `codehub impact` follows links
SHOWN_CHANGED = 8

_VIRTUAL = "virtual "
_UNLINKED = frozenset({SymbolKind.NAMESPACE, SymbolKind.SECTION, SymbolKind.MODULE})
_NO_USES = "uses of namespaces and headings are not kept. Next: search_code with a word and path=."
_DIFF = re.compile(r"^(?:diff |--- |\+\+\+ |@@ -)", re.MULTILINE)
# Names between commas or line ends that stand in no parentheses.
_NAME = re.compile(r"(?:[^,;\n(]|\([^()\n]{0,300}\)|\()+")


def _references(desk: Desk, call: Call, arguments: Arguments) -> str:
    name = arguments["name"]
    with asked(desk, call, "find_references", arguments) as this:
        found = _tests_last(this.service.references(name))
        first, last = this.offset, this.offset + arguments["limit"]
        if call.as_json:
            return this.json(lambda count: _part(found, first, count), len(found.steps[first:last]), found.total)
        if not found.total:
            return this.whole(*_nothing(this, found, name, "no use of it"))
        steps = found.steps[first:last]
        code = this.service.line_texts((step.edge.path, step.edge.line) for step in steps)
        this.notes += this.service.age(step.edge.path for step in steps)
        items = [Item(_use(step.edge, code), _sureness(step.edge)) for step in steps]
        return this.page(_of_uses(found, name) if first == 0 else "", items, found.total)


def _of_uses(found: Relations, name: str) -> str:
    sure = sum(1 for step in found.steps if step.edge.how is not Provenance.BY_NAME)
    files = len({step.edge.path for step in found.steps})
    kinds = Counter(step.edge.kind.value for step in found.steps)
    by_kind = ", ".join(
        f"{number} {kind}" for kind, number in sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
    )
    guessed = f", {found.total - sure} known by name only" if sure < found.total else ""
    return (
        f"{_meaning(found.symbols, name)}: {counted(found.total, 'use')} in {counted(files, 'file')}"
        f" ({by_kind}){guessed}."
    )


def _meaning(symbols: Sequence[Symbol], name: str) -> str:
    """What a name was taken for."""
    if not symbols:
        return f"{text.one_line(name)}, which this tree uses and does not declare"
    own = [symbol for symbol in symbols if symbol.kind is not SymbolKind.USING] or symbols
    meant = dict.fromkeys(f"{symbol.kind.value} {symbol.qualified_name}" for symbol in own)
    if len(meant) == 1:
        return text.one_line(next(iter(meant)))
    return f"{text.one_line(name)} may mean {counted(len(meant), 'symbol')} ({listed(meant, 5)})"


def _sureness(edge: Edge) -> str:
    return "By name only, these may mean something else:" if edge.how is Provenance.BY_NAME else ""


def _use(edge: Edge, code: dict[tuple[str, int], str]) -> str:
    inside = f" in {text.one_line(edge.inside)}" if edge.inside else ""
    line = " ".join(text.one_line(code.get((edge.path, edge.line), "")[:2_000]).split())
    cut = line if len(line) <= CODE_CHARS else line[:CODE_CHARS] + " …"
    return f"{text.one_line(edge.path)}:{edge.line}{inside} ({edge.kind.value}, {_how(edge)})" + (
        f"  {cut}" if cut else ""
    )


def _how(edge: Edge) -> str:
    return edge.how.value + (f", one of {edge.candidate_count}" if edge.candidate_count > 1 else "")


def _nothing(this: Asked, found: Relations, name: str, what: str) -> list[str]:
    if found.symbols and all(symbol.kind in _UNLINKED for symbol in found.symbols):
        return [f"{_meaning(found.symbols, name)}: {_NO_USES}"]
    if found.symbols:
        return [
            f"{_meaning(found.symbols, name)} is known, but {what} is in the index.",
            "Next: read_file with symbol= for its code, or search_code, which also sees text in comments and strings.",
        ]
    near = this.service.find(name, Page(5)).symbols
    if near:
        return [f"Nothing is named {text.one_line(name)}. Near names: {listed((s.qualified_name for s in near), 5)}."]
    return [f"Nothing is named {text.one_line(name)}, or like it.", "Next: search_code with words of what it does."]


def _tests_last(found: Relations) -> Relations:
    """The same, where at one distance what is sure comes before guesses, and the code itself before its tests."""
    tests = {path: is_test_path(path) for path in {step.edge.path for step in found.steps}}
    ordered = sorted(
        found.steps, key=lambda step: (step.depth, step.edge.how is Provenance.BY_NAME, tests[step.edge.path])
    )
    return replace(found, steps=tuple(ordered))


def _part(found: Relations, first: int, count: int) -> shapes.Json:
    return shapes.relations_shape(replace(found, steps=found.steps[first : first + count], offset=first))


@dataclass(slots=True)
class _Node:
    """One function in a tree of calls: where it calls or is called, and how that is known."""

    name: str
    virtual: str = ""  # the method that the call names, where another one may be run
    edges: list[Edge] = field(default_factory=list)
    below: list[tuple[str, ...]] = field(default_factory=list)  # the ways to what comes next


def _calls(desk: Desk, call: Call, arguments: Arguments) -> str:
    name, up = arguments["name"], arguments["direction"] == "callers"
    reach = Reach(arguments["depth"], overriders=not up)
    with asked(desk, call, "call_graph", arguments) as this:
        found = _tests_last(this.service.callers(name, reach)) if up else this.service.callees(name, reach)
        first, last = this.offset, this.offset + CALLS_A_PAGE
        if call.as_json:
            return this.json(lambda count: _part(found, first, count), len(found.steps[first:last]), found.total)
        if not found.total:
            return this.whole(*_nothing(this, found, name, "no call of it" if up else "no call in it"))
        rows, outside = _tree(found, up=up)
        this.notes += this.service.age(dict.fromkeys(step.edge.path for step in found.steps[:200]))
        verb = "is called by" if up else "calls"
        head = f"{_meaning(found.symbols, name)} {verb} (depth {reach.depth}, {counted(found.total, 'call')}):"
        if outside:
            this.notes.append(f"It also calls, outside the tree or unknown: {listed(outside, 12)}.")
        return this.page(head if first == 0 else "", [Item(row) for row in rows[first:last]], len(rows))


def _tree(found: Relations, *, up: bool) -> tuple[list[str], list[str]]:
    """The rows of a tree of calls, each before what comes next of it, and names of which the tree has no symbol."""
    nodes: dict[tuple[str, ...], _Node] = {(): _Node("")}
    outside: list[str] = []
    for step in found.steps:
        edge = step.edge
        other = edge.inside or edge.path if up else edge.target
        if not up and edge.target_id is None and not edge.candidates:
            outside.append(other)
            continue
        # A step over a virtual method is told with the function that takes it and is no function of its own.
        way = tuple(part for part in step.via if not part.startswith(_VIRTUAL))
        virtual = step.via[-1] if step.via and step.via[-1].startswith(_VIRTUAL) else ""
        key = (*way, other)
        if key not in nodes:
            nodes[key] = _Node(other, virtual)
            nodes.setdefault(way, _Node(way[-1] if way else "")).below.append(key)
        nodes[key].edges.append(edge)
    expanded = {node.name for key, node in nodes.items() if key and node.below}
    roots = {symbol.qualified_name for symbol in found.symbols}
    alone = len({symbol.id for symbol in found.symbols}) == 1
    rows: list[str] = []
    stack = list(reversed(nodes[()].below))
    while stack:
        key = stack.pop()
        node = nodes[key]
        again = ""
        if node.name in key[:-1] or (node.name in roots and alone):
            again = "  (recursion)"
        elif node.name in roots:
            again = "  (asked about itself)"
        elif not node.below and node.name in expanded:
            again = "  (its own are shown elsewhere)"
        rows.append("  " * (len(key) - 1) + f"- {_node(node)}{again}")
        stack += reversed(node.below)
    return rows, list(dict.fromkeys(outside))


def _node(node: _Node) -> str:
    path = node.edges[0].path
    lines = list(dict.fromkeys(edge.line for edge in node.edges if edge.path == path))
    places = ", ".join(map(str, lines[:MOST_PLACES]))
    count = len({(edge.path, edge.line) for edge in node.edges}) - min(len(lines), MOST_PLACES)
    more = f" and {count} more" if count else ""
    how = ", ".join(dict.fromkeys(_how(edge) for edge in node.edges))
    virtual = f"; {text.one_line(node.virtual)}" if node.virtual else ""
    return f"{text.one_line(node.name)}  {text.one_line(path)}:{places}{more} ({how}{virtual})"


class _Told(NamedTuple):
    """One thing that is reached, under its heading."""

    reached: Reached
    heading: str


def _impact(desk: Desk, call: Call, arguments: Arguments) -> str:
    change = arguments["change"]
    with asked(desk, call, "impact", arguments) as this:
        if _DIFF.search(change):
            found = this.service.impact_of_diff(change, IMPACT_DEPTH)
        else:
            found = this.service.impact_of(_names(change), IMPACT_DEPTH)
        this.notes += found.notes
        reached = _nearest_first(found)
        first = this.offset
        if call.as_json:
            totals = shapes.impact_shape(found, 0)["totals"]

            def shape(count: int) -> shapes.Json:
                part = replace(found, reached=tuple(told.reached for told in reached[first : first + count]))
                return {**shapes.impact_shape(part, count), "totals": totals}

            return this.json(shape, len(reached) - first, len(reached))
        if not reached:
            return this.whole(_of_change(found), *_nothing_reached(this, found, change))
        items = [Item(_reached(told.reached), told.heading) for told in reached[first : first + REACHED_A_PAGE]]
        return this.page(_of_change(found) if first == 0 else "", items, len(reached))


def _nothing_reached(this: Asked, found: Impact, change: str) -> list[str]:
    if found.changed and all(symbol.kind in _UNLINKED for symbol in found.changed):
        return [f"{_NO_USES[0].upper()}{_NO_USES[1:]}"]
    if found.changed or found.files:
        return ["Nothing in the index depends on it, as far as names and links tell."]
    near = [symbol.qualified_name for name in _names(change)[:3] for symbol in this.service.find(name, Page(3)).symbols]
    return [f"Near names: {listed(near, 6)}."] if near else ["Next: find_symbol with a part of a name."]


def _names(change: str) -> list[str]:
    names = [name.strip() for name in _NAME.findall(change[: MOST_CHANGED_NAMES * MOST_NAME_CHARS]) if name.strip()]
    if len(names) > MOST_CHANGED_NAMES or any(len(name) > MOST_NAME_CHARS for name in names) or not names:
        raise ArgumentError(
            "change is neither a unified diff nor a list of symbols.",
            f"Give up to {MOST_CHANGED_NAMES} names with commas between, or the text that `git diff` prints.",
        )
    return list(dict.fromkeys(names))


def _nearest_first(found: Impact) -> list[_Told]:
    """The tests to run first, then what else is reached by group and distance, then more tests; each thing once."""
    tests = [each for each in found.reached if each.is_test]
    others = [each for each in found.reached if not each.is_test]
    tests.sort(key=lambda each: (each.how is Provenance.BY_NAME, each.depth, each.path, each.line, each.name))
    tests = list({each.id or each.path: each for each in reversed(tests)}.values())[::-1]
    first, more = tests[:FIRST_TESTS], tests[FIRST_TESTS:]
    sizes = Counter(each.group for each in others)
    return [
        *(_Told(each, f"Tests to run first ({len(first)} of {len(tests)}):") for each in first),
        *(_Told(each, f"{each.group.capitalize()} ({sizes[each.group]}):") for each in others),
        *(_Told(each, f"More tests ({len(more)}):") for each in more),
    ]


def _of_change(found: Impact) -> str:
    if not found.changed:
        files = f" of {listed(found.files, 5)}" if found.files else ""
        return f"The change touches no symbol of the index{files}."
    named = [f"{symbol.kind.value} {symbol.qualified_name} {text.place(symbol.span)}" for symbol in found.changed]
    groups = Counter(each.group for each in found.reached)
    reached = ", ".join(f"{groups[group]} {group}" for group in GROUPS if groups[group])
    return f"Changed: {listed(named, SHOWN_CHANGED)}.\nReached within {IMPACT_DEPTH} steps: {reached or 'nothing'}."


def _reached(each: Reached) -> str:
    name = f" {text.one_line(each.name)}" if each.name != each.path else ""
    depth = f", depth {each.depth}" if each.depth > 1 else ""
    return f"  {text.one_line(each.path)}:{each.line}{name}  {text.one_line(each.reason)} ({each.how.value}{depth})"


FIND_REFERENCES = Tool(
    name="find_references",
    title="Find uses",
    about="Every use of a symbol with its line: calls, types, bases, macros. Sure ones first, guesses marked.",
    parameters=(
        Text("name", required=True),
        Number("limit", "", 1, 200, 50),
        Text("workspace"),
        Text("cursor"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_references,
)

CALL_GRAPH = Tool(
    name="call_graph",
    title="Follow calls",
    about="Who calls a function, or what it calls, as a tree; virtual calls too.",
    parameters=(
        Text("name", required=True),
        Choice("direction", "", ("callers", "callees"), "callers"),
        Number("depth", "", 1, 5, 1),
        Text("workspace"),
        Text("cursor"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_calls,
)

IMPACT = Tool(
    name="impact",
    title="What a change reaches",
    about="What a change reaches, and which tests to run first.",
    parameters=(
        Text("change", about="symbol names or a unified diff", most=MOST_CHANGE_CHARS, required=True),
        Text("workspace"),
        Text("cursor"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_impact,
)
