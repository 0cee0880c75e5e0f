"""Keeps what reading one file yields: its symbols, the regions they span and the uses that only declarations show.

It knows where things stand and how they are put down; what a node of the grammar means, it does not know.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tree_sitter import Node

from indexer.cpp.comments import Comments
from indexer.cpp.dialects import Plain
from indexer.cpp.frames import Frame, join
from indexer.cpp.headings import says_exported
from indexer.cpp.recovery import Lost
from indexer.cpp.spelling import line_before, one_line
from indexer.model import ReferenceKind, Span, Symbol, SymbolId, SymbolKind, Trait, symbol_id

MAX_DOC = 4000  # characters

NO_TRAITS = frozenset[Trait]()


Ranges = tuple[tuple[int, int], ...]  # of byte offsets, the ends exclusive, in order


class Region(NamedTuple):
    """A stretch of the file as its uses see it. Regions come in the order of their starts, outer ones first."""

    start: int  # byte offset
    end: int  # exclusive
    kind: str  # as of a frame
    scope: str  # of namespaces and classes: where a name used here is looked up from
    class_name: str
    inside: SymbolId | None
    own: frozenset[str]  # template parameters in sight
    local_scope: str  # of a function: the scope of the types declared in it


class Noted(NamedTuple):
    """A use that only reading the declarations showed to be one."""

    name: str
    kind: ReferenceKind
    start: int


class Lines:
    """Byte offsets as line numbers."""

    def __init__(self, text: bytes) -> None:
        self._last = len(text) - 1
        self._newlines = [match.start() for match in re.finditer(rb"\n", text)]

    def of(self, offset: int) -> int:
        """From 1; what is missing at the end is missing on the last line."""
        return bisect_right(self._newlines, min(offset, self._last) - 1) + 1


class Collector:
    """The stack of frames always holds the scopes around the node at hand, the file first."""

    def __init__(
        self, path: str, text: bytes, plain: Plain, comments: Sequence[tuple[int, int]], only: Ranges = ()
    ) -> None:
        """``text`` is the file as it stands, ``plain.code`` what the grammar has read of it, byte for byte.

        Of another reading of the same file ``only`` what is named in these ranges is kept.
        """
        self.path = path
        self.text = text
        self.symbols: list[Symbol] = []
        self.regions: list[Region] = []
        self.noted: list[Noted] = []
        self.not_uses: set[int] = set()  # offsets of type names that are declared there, or told otherwise
        self.lines = Lines(text)
        self._only = only
        self._plain = plain
        self._code = plain.code
        self._comments = Comments(text, self._code, comments)
        self._stack = [Frame(end=len(text) + 1)]
        self._at = 0  # where the item at hand starts

    def _push(self, end: int, frame: Frame, *, keeps_template: bool = False) -> None:
        end = min(end, self._stack[-1].end)
        heads, template_start = (frame.heads, frame.template_start) if keeps_template else ((), None)
        frame = frame._replace(end=end, heads=heads, template_start=template_start)
        self._stack.append(frame)
        self.regions.append(
            Region(
                self._at,
                end,
                frame.kind,
                frame.lookup,
                frame.class_name,
                frame.inside,
                frame.own,
                frame.scope if frame.kind == "function" else "",
            )
        )

    def _add(
        self,
        kind: SymbolKind,
        name: str,
        scope: str,
        start: int,
        end: int,
        heading: str | None = None,
        *,
        name_start: int,
        key: str = "",
        key_parameters: tuple[str, ...] = (),
        defines: bool = True,
        trailing_doc: bool = False,
        type: str = "",  # noqa: A002 - it is the field's name
        parameters: tuple[str, ...] = (),
        required: int = 0,
        template_parameters: tuple[str, ...] = (),
        bases: tuple[str, ...] = (),
        traits: frozenset[Trait] = NO_TRAITS,
    ) -> SymbolId:
        frame = self._stack[-1]
        identity = symbol_id(kind, key or join(scope, name), key_parameters)
        if self._only and not within(self._only, name_start):
            return identity
        doc = self._comments.before(start)
        if trailing_doc:
            doc = "\n".join(part for part in (doc, self._comments.after(end)) if part)
        if frame.anonymous and kind is not SymbolKind.MACRO:
            traits |= {Trait.ANONYMOUS}
        if self._plain.modules and (frame.exported or self._is_exported(start)):
            traits |= {Trait.EXPORTED}
        first_line = self.lines.of(start)
        self.symbols.append(
            Symbol(
                id=identity,
                kind=kind,
                name=name,
                scope=scope,
                signature=one_line(self._written(start, end) if heading is None else heading),
                is_definition=defines,
                span=Span(self.path, first_line, max(first_line, self.lines.of(end - 1))),
                doc=doc[:MAX_DOC],
                line=self.lines.of(name_start),
                type=type,
                parameters=parameters,
                required=required,
                template_parameters=template_parameters,
                bases=bases,
                traits=tuple(sorted(traits)) if traits else (),
                access=frame.access if frame.kind == "class" else None,
            )
        )
        return identity

    def _is_exported(self, start: int) -> bool:
        return bool(self._plain.modules) and says_exported(self.text[start : start + 20])

    def _with_template(self, node: Node | Lost) -> tuple[int, int]:
        start, end = extent(node)
        template_start = self._stack[-1].template_start
        start = start if template_start is None else template_start
        blanked = line_before(self.text, start)
        if self._code[start - len(blanked) : start].isspace() and b"{" not in blanked:
            start -= len(blanked.lstrip())  # an export macro, __global__: part of what was written
        return start, end

    def _heading(self, start: int, end: int) -> str:
        brace = self._code.find(b"{", start, end)
        return self._written(start, end if brace < 0 else brace)

    def _note(self, name: str, kind: ReferenceKind, start: int) -> None:
        self.noted.append(Noted(name, kind, start))

    def _written(self, start: int, end: int) -> str:
        return self.text[start:end].decode("utf-8", "replace")


def within(ranges: Ranges, offset: int) -> bool:
    """Whether one of the ranges holds the offset."""
    return any(start <= offset < end for start, end in ranges)


def extent(node: Node | Lost) -> tuple[int, int]:
    return (node.start, node.end) if isinstance(node, Lost) else (node.start_byte, node.end_byte)
