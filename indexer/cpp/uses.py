"""Collects what the code of one file uses: calls, types, bases, includes and macros, each with the symbol it stands in.

It comes after the declarations were read, which gave it the regions of the file. It knows nothing of other files: a use
carries a name, never a target.
"""

from collections.abc import Iterable
from typing import NamedTuple

from tree_sitter import Node

from indexer.cpp.declarators import last_name, name_and_arguments
from indexer.cpp.grammar import Captures
from indexer.cpp.masking import MacroUse
from indexer.cpp.reader import MACRO_NAME, Lines, Noted, Region
from indexer.cpp.spelling import qualifier_before
from indexer.model import Context, ReferenceKind, SymbolId

_NOT_CALLS = frozenset({"static_cast", "dynamic_cast", "reinterpret_cast", "const_cast"})


class Use(NamedTuple):
    name: str
    kind: ReferenceKind
    line: int
    inside: SymbolId | None
    context: int
    operands: str


class Uses:
    """One pass over the uses of one file, in the order of the text, under the regions they stand in."""

    def __init__(self, text: bytes, code: bytes, lines: Lines, not_uses: set[int], guards: set[bytes]) -> None:
        self.found: dict[Use, None] = {}
        self.contexts: dict[Context, int] = {}
        self._text = text
        self._code = code
        self._lines = lines
        self._not_uses = not_uses
        self._guards = guards
        self._stack: list[Region] = []

    def read(
        self, captures: Captures, regions: Iterable[Region], noted: Iterable[Noted], masked: Iterable[MacroUse]
    ) -> None:
        """Fills ``found`` and ``contexts``."""
        items: list[tuple[int, int, str, Node | Noted | MacroUse | Region]] = []
        for note in noted:  # before the regions: the macro that makes a function stands outside of it
            items.append((note.start, len(items), "noted", note))
        for region in regions:
            items.append((region.start, len(items), "region", region))
        for tag, nodes in captures.items():
            for node in nodes:
                items.append((node.start_byte, len(items), tag, node))
        for use in masked:
            items.append((use.start, len(items), "masked_macro", use))
        items.sort()
        handlers = {tag: getattr(self, f"_{tag}") for tag in {item[2] for item in items}}
        stack = self._stack
        for start, _, tag, found in items:
            while stack and start >= stack[-1].end:
                stack.pop()
            handlers[tag](found)

    def _region(self, region: Region) -> None:
        self._stack.append(region)

    def _noted(self, note: Noted) -> None:
        self._refer(note.name, note.kind, note.start)

    def _masked_macro(self, use: MacroUse) -> None:
        self._refer(use.name, ReferenceKind.MACRO, use.start)

    def _call(self, node: Node) -> None:
        callee = node.child_by_field_name("field") if node.type == "field_expression" else node
        if callee is None:
            return
        name, _ = name_and_arguments(callee, self._code, frozenset())
        if not name or name.startswith("~") or name in _NOT_CALLS or name in self._own():
            return
        kind = ReferenceKind.MACRO if MACRO_NAME.fullmatch(name) else ReferenceKind.CALL
        self._refer(name, kind, last_name(callee).start_byte)

    def _new(self, node: Node) -> None:
        name, _ = name_and_arguments(node, self._code, frozenset())
        if name:
            self._refer(name, ReferenceKind.CALL, last_name(node).start_byte)

    def _type_use(self, node: Node) -> None:
        start = node.start_byte
        if start in self._not_uses:
            return
        name = self._written(node)
        if name in self._own():
            return
        self._refer(qualifier_before(self._code, start) + name, ReferenceKind.TYPE, start)

    def _bases(self, node: Node) -> None:
        for child in node.named_children:
            if child.type not in ("type_identifier", "qualified_identifier", "template_type"):
                continue
            last = last_name(child)
            self._not_uses.add(last.start_byte)
            name, _ = name_and_arguments(child, self._code, frozenset())
            if name and name not in self._own():
                self._refer(name, ReferenceKind.BASE, last.start_byte)

    def _include(self, node: Node) -> None:
        path = self._written(node).strip('<>" ')
        if path:
            self._refer(path, ReferenceKind.INCLUDE, node.start_byte)

    def _tested_macro(self, node: Node) -> None:
        if self._text[node.start_byte : node.end_byte] not in self._guards:
            self._refer(self._written(node), ReferenceKind.MACRO, node.start_byte)

    def _refer(self, name: str, kind: ReferenceKind, start: int, operands: str = "") -> None:
        if not name:  # a type that the parser only misses has none
            return
        region = self._stack[-1] if self._stack else None
        context = Context(region.scope if region else "")
        number = self.contexts.setdefault(context, len(self.contexts))
        use = Use(name, kind, self._lines.of(start), region.inside if region else None, number, operands)
        self.found[use] = None

    def _own(self) -> frozenset[str]:
        return self._stack[-1].own if self._stack else frozenset()

    def _written(self, node: Node) -> str:
        return self._text[node.start_byte : node.end_byte].decode("utf-8", "replace")
