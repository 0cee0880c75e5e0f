"""Collects the symbols of one file of C++ from the nodes that the grammar found, and the regions they span.

One pass over the nodes in the order of the text keeps a stack of the scopes they stand in; there is no recursion. It
knows the nodes of tree-sitter-cpp; how a declarator, a comment or a misplaced macro is read, it leaves to the modules
beside it, and what the code uses to ``uses``.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tree_sitter import Node

from indexer.cpp.comments import Comments
from indexer.cpp.declarators import Declared, declared, last_name, name_and_arguments, template_parameter_names
from indexer.cpp.grammar import Captures
from indexer.cpp.masking import Masked, line_before
from indexer.cpp.recovery import Lost, disguised_scope, lost_scopes
from indexer.cpp.spelling import argument_starts, one_line, test_name, with_name
from indexer.model import ReferenceKind, Span, Symbol, SymbolId, SymbolKind, symbol_id

MAX_DOC = 4000  # characters
MAX_SCOPE = 1000  # characters; names in a file of nothing but opening braces would grow with its square

MACRO_NAME = re.compile(r"[A-Z_][A-Z0-9_]{2,}")
_DEFAULTED = re.compile(r"=\s*(?:default|delete)\s*;?$")
_SPACE = re.compile(r"\s+")
_BODY_FOLLOWS = re.compile(rb"\s*(?:const|noexcept|override|final|&{1,2}|\s)*(?::[^:;]{0,400})?\{")
_TYPE_KINDS = {"class": SymbolKind.CLASS, "struct": SymbolKind.STRUCT, "union": SymbolKind.UNION}


class Region(NamedTuple):
    """A stretch of the file as its uses see it. Regions come in the order of their starts, outer ones first."""

    start: int  # byte offset
    end: int  # exclusive
    kind: str  # as of a frame
    scope: str  # of namespaces and classes: where a name used here is looked up from
    class_name: str
    inside: SymbolId | None
    own: frozenset[str]  # template parameters in sight


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


class _Frame(NamedTuple):
    """A stretch of the file and what it means for what stands in it."""

    end: int  # byte offset, exclusive
    kind: str  # "namespace", "class", "friend", "function" or "ignored"
    scope: str
    scope_key: str  # as scope, with the arguments of specialisations
    lookup: str  # as scope, of namespaces and classes alone: without the functions
    namespace: str  # the scope of the innermost namespace, where friends live
    class_name: str
    inside: SymbolId | None
    own: frozenset[str]  # template parameters in sight
    template_start: int | None = None  # of a template<...> whose declaration has not come yet


class Reader:
    """One pass over one file. The stack of frames always holds the scopes around the node at hand, the file first."""

    def __init__(self, path: str, text: bytes, masked: Masked, comments: Sequence[tuple[int, int]]) -> None:
        self.path = path
        self.text = text
        self.symbols: list[Symbol] = []
        self.regions: list[Region] = []
        self.noted: list[Noted] = []
        self.not_uses: set[int] = set()  # offsets of type names that are declared there, or told otherwise
        self.guards = set(
            re.findall(rb"^[ \t]*#[ \t]*ifndef[ \t]+(\w+)[^\n]*\n[ \t]*#[ \t]*define[ \t]+\1\b", text, re.MULTILINE)
        )
        self.problems: dict[int, str] = {}
        self.lines = Lines(text)
        self._code = masked.code
        self._comments = Comments(text, self._code, comments)
        self._stack = [_Frame(len(text) + 1, "namespace", "", "", "", "", "", None, frozenset())]
        self._at = 0  # where the item at hand starts
        self._typedefs: dict[int, tuple[Node, str]] = {}  # offset of an unnamed type -> the typedef that names it

    def read(self, captures: Captures) -> None:
        """Fills ``symbols``, ``regions`` and ``noted`` in the order of the text, and ``problems`` by line."""
        items: list[tuple[int, int, int, str, Node | Lost]] = []
        for tag, nodes in captures.items():
            for node in nodes:
                items.append((node.start_byte, -node.end_byte, len(items), tag, node))
        for node in captures.get("error", ()):
            for lost in lost_scopes(node, self._code):
                items.append((lost.start, -lost.end, len(items), "lost_scope", lost))
        items.sort()
        handlers = {tag: getattr(self, f"_{tag}") for tag in {item[3] for item in items}}
        stack = self._stack
        for start, _, _, tag, found in items:
            while start >= stack[-1].end:
                stack.pop()
            self._at = start
            handlers[tag](found)

    # Scopes

    def _namespace(self, node: Node) -> None:
        name_node = _name_of(node)
        name = "" if name_node is None else _SPACE.sub("", self._written(name_node.start_byte, name_node.end_byte))
        self._enter_namespace(node, name, inline=self._code.startswith(b"inline", node.start_byte))

    def _enter_namespace(self, node: Node | Lost, name: str, *, inline: bool = False) -> None:
        start, end = _extent(node)
        frame = self._stack[-1]
        name = name.strip(":")
        if name:
            outer, _, last = name.replace("::inline", "::").rpartition("::")
            self._add(SymbolKind.NAMESPACE, last, _join(frame.scope, outer), start, end, self._heading(start, end))
        scope = frame.scope if inline else _join(frame.scope, name)
        scope_key = frame.scope_key if inline else _join(frame.scope_key, name)
        self._push(
            end, frame._replace(kind="namespace", scope=scope, scope_key=scope_key, lookup=scope, namespace=scope)
        )

    def _type_specifier(self, node: Node) -> None:
        frame = self._stack[-1]
        body = node.child_by_field_name("body")
        name_node = _name_of(node)
        kind = _TYPE_KINDS[node.type.removesuffix("_specifier")]
        if body is None:
            if name_node is not None and self._is_forward(node, name_node, frame):
                self.not_uses.add(name_node.start_byte)
                name, arguments = name_and_arguments(name_node, self._code, frame.own)
                outer, _, last = name.rpartition("::")
                key = _join(frame.scope_key, name + arguments)
                self._add(kind, last, _join(frame.scope, outer), *self._with_template(node), key=key, defines=False)
            return
        if name_node is None:
            node, name = self._typedefs.get(node.start_byte, (node, ""))
            arguments = ""
        else:
            name, arguments = name_and_arguments(name_node, self._code, frame.own)
            self.not_uses.update((name_node.start_byte, last_name(name_node).start_byte))
        self._enter_type(node, kind, name, arguments, body.start_byte)

    def _enter_type(self, node: Node | Lost, kind: SymbolKind, name: str, arguments: str, body: int) -> None:
        frame = self._stack[-1]
        inside = frame.inside
        name = name.strip(":")
        end = _extent(node)[1]
        start = self._with_template(node)[0]
        outer, _, last = name.rpartition("::")
        key = _join(frame.scope_key, name + arguments)
        if name:
            heading = with_name(self._written(start, body), last)
            inside = self._add(kind, last, _join(frame.scope, outer), start, end, heading, key=key)
        scope = _join(frame.scope, name)
        frame = frame._replace(kind="class", scope=scope, scope_key=key, lookup=scope, class_name=last, inside=inside)
        self._push(end, frame)

    def _is_forward(self, node: Node, name_node: Node, frame: _Frame) -> bool:
        """Whether a type without a body is declared here (``class Foo;``), not used (``struct Foo* next;``)."""
        if frame.kind in ("function", "ignored"):
            return False
        if name_node.type != "type_identifier" and frame.template_start is None:
            return False
        return self._code[node.end_byte : node.end_byte + 40].lstrip().startswith(b";")

    def _enum(self, node: Node) -> None:
        frame = self._stack[-1]
        body = node.child_by_field_name("body")
        name_node = _name_of(node)
        if frame.kind in ("function", "ignored"):
            return
        if body is None:
            if name_node is not None and self._is_forward(node, name_node, frame):
                name = self._written(name_node.start_byte, name_node.end_byte)
                self.not_uses.add(name_node.start_byte)
                self._add(SymbolKind.ENUM, name, frame.scope, node.start_byte, node.end_byte, defines=False)
            return
        if name_node is None:
            node, name = self._typedefs.get(node.start_byte, (node, ""))
        else:
            name = self._written(name_node.start_byte, name_node.end_byte).strip(":")
            self.not_uses.update((name_node.start_byte, last_name(name_node).start_byte))
        outer, _, last = name.rpartition("::")
        if name:
            heading = with_name(self._written(node.start_byte, body.start_byte), last)
            self._add(SymbolKind.ENUM, last, _join(frame.scope, outer), node.start_byte, node.end_byte, heading)
        scoped = re.match(rb"enum\s+(?:class|struct)\b", self._code[node.start_byte : node.start_byte + 40])
        if scoped and name:
            scope = _join(frame.scope, name)
            frame = frame._replace(scope=scope, scope_key=_join(frame.scope_key, name), lookup=scope)
            self._push(node.end_byte, frame)

    def _template(self, node: Node) -> None:
        frame = self._stack[-1]
        parameters = node.child_by_field_name("parameters")
        names = frozenset[str]() if parameters is None else template_parameter_names(parameters, self._code)
        start = node.start_byte if frame.template_start is None else frame.template_start
        self._push(node.end_byte, frame._replace(own=frame.own | names), template_start=start)

    def _friend(self, node: Node) -> None:
        frame = self._stack[-1]
        outer = frame._replace(kind="friend", scope=frame.namespace, scope_key=frame.namespace)
        self._push(node.end_byte, outer, template_start=frame.template_start)

    def _instantiation(self, node: Node) -> None:
        self._push(node.end_byte, self._stack[-1]._replace(kind="ignored"))

    def _statements(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind != "function":
            self._push(node.end_byte, frame._replace(kind="function"))

    # Functions, variables and fields

    def _function_definition(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind == "ignored":
            return
        declarator = node.child_by_field_name("declarator")
        name = None if declarator is None else declared(declarator, self._code, frame.own)
        body = node.child_by_field_name("body")
        if name is None or not name.callable:
            disguised = disguised_scope(node, self._code)
            if disguised is not None:
                self._lost_scope(disguised)
            return
        typeless = node.child_by_field_name("type") is None
        if typeless and not name.scope and frame.kind == "function":
            # FOREACH(item, list) {...}: a macro that opens a loop. Functions do not nest.
            self._note(name.name, ReferenceKind.MACRO, name.name_start)
            self.not_uses.update(argument_starts(node))
            return
        self._enter_function(node, name, self._end_of_heading(node, body), typeless=typeless)

    def _end_of_heading(self, node: Node, body: Node | None) -> int:
        if body is not None:
            last = body.prev_named_sibling
            if last is not None and last.type == "field_initializer_list":
                return last.start_byte
            return body.start_byte
        for child in node.named_children:
            if child.type in ("field_initializer_list", "try_statement"):
                return child.start_byte
        return node.end_byte

    def _enter_function(self, node: Node, name: Declared, heading_end: int, *, typeless: bool) -> None:
        frame = self._stack[-1]
        start, end = self._with_template(node)
        heading = self._written(start, heading_end)
        if typeless and not name.scope and frame.kind != "class" and MACRO_NAME.fullmatch(name.name):
            self._note(name.name, ReferenceKind.MACRO, name.name_start)
            arguments = argument_starts(node)
            named_first = bool(arguments) and self.text[arguments[0] : arguments[0] + 1].isalpha()
            self.not_uses.update(arguments[1:] if named_first else arguments)  # the first may name a fixture
            inside = frame.inside
            test = test_name(heading)
            if re.search(r"\w", test):
                key = _join(frame.scope_key, test)
                inside = self._add(
                    SymbolKind.FUNCTION, test, frame.scope, start, end, heading, key=key, parameters=(name.name,)
                )
        else:
            self.not_uses.update(name.scope_starts)
            inside = self._add_declared(name, start, end, heading, defines=True)
        outer = self._outer_scope(frame)
        scope = _join(_join(outer, name.scope), name.name)
        scope_key = _join(_join(outer, name.scope_key), name.name_key)
        lookup = _join(outer, name.scope)
        frame = frame._replace(kind="function", scope=scope, scope_key=scope_key, lookup=lookup, inside=inside)
        self._push(end, frame)

    def _outer_scope(self, frame: _Frame) -> str:
        """The scope a function belongs to: functions do not nest, so one inside another was swallowed by an error."""
        return frame.scope if frame.kind != "function" else frame.namespace

    def _declaration(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind in ("function", "ignored"):
            return
        declarators = node.children_by_field_name("declarator")
        typeless = node.child_by_field_name("type") is None
        for declarator in declarators:
            name = declared(declarator, self._code, frame.own)
            if name is None:
                continue
            if typeless and name.callable and MACRO_NAME.fullmatch(name.name) and name.name != frame.class_name:
                self._note(name.name, ReferenceKind.MACRO, name.name_start)
                self.not_uses.update(argument_starts(node))
                continue
            start, end = self._with_template(node)
            heading = self._written(start, end)
            if not name.callable:
                if frame.kind == "class" or not node.has_error:  # prose looks like a broken declaration
                    self._add_variable(node, name, start, heading)
            elif name.scope and frame.kind == "friend":
                continue  # a friend of another class is declared there
            else:
                defines = _DEFAULTED.search(heading) is not None
                inside = self._add_declared(name, start, end, heading, defines=defines)
                if len(declarators) == 1:
                    self._push(end, frame._replace(inside=inside))

    def _add_declared(self, name: Declared, start: int, end: int, heading: str, *, defines: bool) -> SymbolId:
        frame = self._stack[-1]
        kind = SymbolKind.FUNCTION
        if name.destroys:
            kind = SymbolKind.DESTRUCTOR
        elif name.name == (name.owner if name.scope else frame.class_name):
            kind = SymbolKind.CONSTRUCTOR
        elif name.scope or frame.kind == "class":
            kind = SymbolKind.METHOD
        outer = self._outer_scope(frame)
        outer_key = frame.scope_key if frame.kind != "function" else frame.namespace
        return self._add(
            kind,
            name.name,
            _join(outer, name.scope),
            start,
            end,
            heading,
            key=_join(_join(outer_key, name.scope_key), name.name_key),
            parameters=name.parameters,
            defines=defines,
        )

    def _add_variable(self, node: Node, name: Declared, start: int, heading: str) -> None:
        frame = self._stack[-1]
        member = frame.kind == "class" or name.scope
        words = set(heading[:200].partition("=")[0].split())
        declares = "extern" in words or (
            frame.kind == "class" and "static" in words and not words & {"inline", "constexpr"}
        )
        self._add(
            SymbolKind.FIELD if member else SymbolKind.VARIABLE,
            name.name,
            _join(frame.scope, name.scope),
            start,
            node.end_byte,
            heading,
            key=_join(_join(frame.scope_key, name.scope_key), name.name_key),
            defines=not declares or ("=" in heading and "extern" in words),
            trailing_doc=True,
        )

    def _lost_scope(self, lost: Lost) -> None:
        self.not_uses.add(lost.name_start)
        if lost.word == "namespace":
            self._enter_namespace(lost, lost.name)
        else:
            body = self._code.find(b"{", lost.start)
            self._enter_type(lost, _TYPE_KINDS[lost.word], lost.name, "", body if body > 0 else lost.end)

    def _stray_function(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind in ("function", "ignored"):
            return
        name = declared(node, self._code, frame.own)
        if name is None or not name.callable or not _BODY_FOLLOWS.match(self._code, node.end_byte):
            return
        line_start = self._code.rfind(b"\n", max(0, node.start_byte - 400), node.start_byte) + 1
        start = max(line_start, node.start_byte - 400)
        heading = self._written(start, node.end_byte)
        self._add_declared(name, start, node.end_byte, heading, defines=True)

    # Other declarations

    def _enumerator(self, node: Node) -> None:
        frame = self._stack[-1]
        name_node = _name_of(node)
        if frame.kind in ("function", "ignored") or name_node is None:
            return
        name = self._written(name_node.start_byte, name_node.end_byte)
        self._add(SymbolKind.ENUMERATOR, name, frame.scope, node.start_byte, node.end_byte, trailing_doc=True)

    def _alias(self, node: Node) -> None:
        name_node = _name_of(node)
        if name_node is not None:
            self.not_uses.add(name_node.start_byte)
            self._add_alias(node, self._written(name_node.start_byte, name_node.end_byte))

    def _type_definition(self, node: Node) -> None:
        specifier = node.child_by_field_name("type")
        unnamed = (
            specifier is not None
            and specifier.type.endswith("_specifier")
            and specifier.child_by_field_name("body") is not None
            and _name_of(specifier) is None
        )
        tag = None if specifier is None else _name_of(specifier)
        tag_name = "" if tag is None else self._written(tag.start_byte, tag.end_byte)
        for declarator in node.children_by_field_name("declarator"):
            name = declared(declarator, self._code, self._stack[-1].own)
            if name is None:
                continue
            self.not_uses.add(name.name_start)
            if unnamed and specifier is not None and declarator.type == "type_identifier":
                self._typedefs.setdefault(specifier.start_byte, (node, name.name))
            elif name.name != tag_name:
                self._add_alias(node, name.name)

    def _add_alias(self, node: Node, name: str) -> None:
        frame = self._stack[-1]
        if frame.kind in ("function", "ignored"):
            return
        start, end = self._with_template(node)
        self._add(SymbolKind.ALIAS, name, frame.scope, start, end, trailing_doc=True)

    def _concept(self, node: Node) -> None:
        name_node = _name_of(node)
        if name_node is not None:
            name = self._written(name_node.start_byte, name_node.end_byte)
            self._add(SymbolKind.CONCEPT, name, self._stack[-1].scope, *self._with_template(node))

    def _macro(self, node: Node) -> None:
        name_node = _name_of(node)
        if name_node is None:
            return
        written = self.text[name_node.start_byte : name_node.end_byte]
        value = node.child_by_field_name("value")
        if value is None and written in self.guards:
            return
        parameters = node.child_by_field_name("parameters")
        end = (name_node if parameters is None else parameters).end_byte
        if (
            value is not None
            and value.end_byte - value.start_byte <= 80
            and b"\n" not in self.text[end : value.end_byte]
        ):
            end = value.end_byte
        heading = self._written(node.start_byte, end)
        self._add(
            SymbolKind.MACRO, written.decode("utf-8", "replace"), "", node.start_byte, node.end_byte, heading, key=None
        )

    # Problems

    def _error(self, node: Node) -> None:
        text = _SPACE.sub(" ", self._written(node.start_byte, min(node.end_byte, node.start_byte + 60))).strip()
        self.problems.setdefault(self.lines.of(node.start_byte), f"could not be read as C++: {text}")

    def _missing(self, node: Node) -> None:
        if self._stack[-1].kind == "ignored":
            return  # the grammar wants a declarator behind "template class A<int>"
        self.problems.setdefault(self.lines.of(node.start_byte), f"{node.type} is missing")

    # Building blocks

    def _push(self, end: int, frame: _Frame, template_start: int | None = None) -> None:
        frame = frame._replace(end=min(end, self._stack[-1].end), template_start=template_start)
        self._stack.append(frame)
        self.regions.append(
            Region(self._at, frame.end, frame.kind, frame.lookup, frame.class_name, frame.inside, frame.own)
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
        key: str | None = "",
        parameters: tuple[str, ...] = (),
        defines: bool = True,
        trailing_doc: bool = False,
    ) -> SymbolId:
        identity = symbol_id(kind, key or _join(scope, name), parameters)
        doc = self._comments.before(start)
        if trailing_doc:
            doc = "\n".join(part for part in (doc, self._comments.after(end)) if part)
        first_line = self.lines.of(start)
        signature = one_line(self._written(start, end) if heading is None else heading)
        self.symbols.append(
            Symbol(
                id=identity,
                kind=kind,
                name=name,
                scope=scope,
                signature=signature,
                is_definition=defines,
                span=Span(self.path, first_line, max(first_line, self.lines.of(end - 1))),
                doc=doc[:MAX_DOC],
            )
        )
        return identity

    def _with_template(self, node: Node | Lost) -> tuple[int, int]:
        start, end = _extent(node)
        template_start = self._stack[-1].template_start
        start = start if template_start is None else template_start
        blanked = line_before(self.text, start)
        if self._code[start - len(blanked) : start].isspace():
            start -= len(blanked.lstrip())  # an export macro, __global__: part of what was written
        return start, end

    def _heading(self, start: int, end: int) -> str:
        brace = self._code.find(b"{", start, end)
        return self._written(start, end if brace < 0 else brace)

    def _note(self, name: str, kind: ReferenceKind, start: int) -> None:
        self.noted.append(Noted(name, kind, start))

    def _written(self, start: int, end: int) -> str:
        return self.text[start:end].decode("utf-8", "replace")


def _extent(node: Node | Lost) -> tuple[int, int]:
    return (node.start, node.end) if isinstance(node, Lost) else (node.start_byte, node.end_byte)


def _name_of(node: Node) -> Node | None:
    """The node of the name, if there is one that the parser did not only miss."""
    name = node.child_by_field_name("name")
    return name if name is not None and name.end_byte > name.start_byte else None


def _join(scope: str, name: str) -> str:
    if len(scope) > MAX_SCOPE:
        return scope
    return f"{scope}::{name}" if scope and name else scope or name
