"""Collects the symbols of one file of C++ from the nodes that the grammar found, and the regions they span.

One pass over the nodes in the order of the text keeps a stack of the scopes they stand in; there is no recursion. It
knows the nodes of tree-sitter-cpp; how a declarator, a heading, a comment or a misplaced macro is read, it leaves to
the modules beside it, and what the code uses to ``uses``.
"""

import re
from collections.abc import Sequence

from tree_sitter import Node

from indexer.cpp.collector import NO_TRAITS, Ranges, extent
from indexer.cpp.declarators import declared, last_name, name_and_arguments
from indexer.cpp.dialects import Import, Module, Plain
from indexer.cpp.frames import Frame, join
from indexer.cpp.grammar import Captures
from indexer.cpp.headings import bases, underlying_type, used_names
from indexer.cpp.masking import Masked, VirtualScope
from indexer.cpp.members import TYPE_NODES, Members, name_of, template_traits
from indexer.cpp.recovery import Lost, disguised_scope, lost_scopes
from indexer.cpp.spelling import with_name
from indexer.cpp.types import full_type, template_parameters
from indexer.model import Access, ReferenceKind, SymbolId, SymbolKind, Trait

_SPACE = re.compile(r"\s+")
_INLINE_PART = re.compile(r"\binline\s+\w+\s*(?:::)?")
_GUARD = re.compile(rb"^[ \t]*#[ \t]*ifndef[ \t]+(\w+)[^\n]*\n[ \t]*#[ \t]*define[ \t]+\1\b", re.MULTILINE)
_TYPE_KINDS = {"class": SymbolKind.CLASS, "struct": SymbolKind.STRUCT, "union": SymbolKind.UNION}
_ACCESS = {b"public": Access.PUBLIC, b"protected": Access.PROTECTED, b"private": Access.PRIVATE}


class Reader(Members):
    """One pass over one file."""

    def __init__(
        self,
        path: str,
        text: bytes,
        masked: Masked,
        plain: Plain,
        comments: Sequence[tuple[int, int]],
        only: Ranges = (),
    ) -> None:
        """``plain.code`` is what the grammar has read: ``masked.code``, rewritten where it is not of its dialect."""
        super().__init__(path, text, plain, comments, only)
        self.guards = set(_GUARD.findall(text))
        self.problems: dict[int, str] = {}
        self._masked = masked
        self._typedefs: dict[int, tuple[Node, str]] = {}  # offset of an unnamed type -> the typedef that names it

    def read(self, captures: Captures) -> None:
        """Fills ``symbols``, ``regions`` and ``noted`` in the order of the text, and ``problems`` by line."""
        items = self._items(captures)
        items.sort()
        handlers = {tag: getattr(self, f"_{tag}") for tag in {item[3] for item in items}}
        stack = self._stack
        for start, _, _, tag, found in items:
            while start >= stack[-1].end:
                stack.pop()
            self._at = start
            handlers[tag](found)

    def _items(self, captures: Captures) -> list[tuple[int, int, int, str, object]]:
        """All that has a place: (start, end as a negative number, tie-breaker, name of the method, what it takes)."""
        items: list[tuple[int, int, int, str, object]] = []
        for scope in self._masked.scopes:
            items.append((scope.start, -scope.end, len(items), "virtual_scope", scope))
        for start, end in self._plain.exported:
            items.append((start, -end, len(items), "exported", end))
        for module in self._plain.modules:
            items.append((module.start, -module.end, len(items), "module", module))
        for imported in self._plain.imports:
            items.append((imported.start, 0, len(items), "import", imported))
        for tag, nodes in captures.items():
            for node in nodes:
                items.append((node.start_byte, -node.end_byte, len(items), tag, node))
        for node in captures.get("error", ()):
            for lost in lost_scopes(node, self._code):
                items.append((lost.start, -lost.end, len(items), "lost_scope", lost))
        return items

    # Scopes

    def _namespace(self, node: Node) -> None:
        name_node = name_of(node)
        name, name_start = "", node.start_byte
        if name_node is not None:
            name_start = name_node.start_byte
            written = self._written(name_start, name_node.end_byte)
            name = _SPACE.sub("", _INLINE_PART.sub("", written))
        inline = self._code.startswith(b"inline", node.start_byte)
        self._enter_namespace(node, name, name_start, inline=inline)

    def _enter_namespace(self, node: Node | Lost, name: str, name_start: int, *, inline: bool = False) -> None:
        start, end = self._with_template(node) if self._plain.modules else extent(node)
        frame = self._stack[-1]
        name = name.strip(":")
        exported = frame.exported or self._is_exported(start)
        if name:
            outer, _, last = name.rpartition("::")
            heading = self._heading(start, end)
            inner = join(frame.scope, outer)
            traits = frozenset({Trait.INLINE}) if inline else NO_TRAITS
            self._add(SymbolKind.NAMESPACE, last, inner, start, end, heading, name_start=name_start, traits=traits)
            self._namespaces.update((join(frame.scope, name), inner))
        self._push(end, frame.namespaced(name, self.path, inline=inline)._replace(exported=exported))

    def _virtual_scope(self, found: VirtualScope) -> None:
        for scope in found.scopes:
            if scope.linkage:
                continue
            frame = self._stack[-1]
            if scope.name:
                line_end = self.text.find(b"\n", found.start, found.end)
                start, end = found.start, found.end if line_end < 0 else line_end
                heading = f"namespace {scope.name}"
                traits = frozenset({Trait.INLINE}) if scope.inline else NO_TRAITS
                self._add(
                    SymbolKind.NAMESPACE, scope.name, frame.scope, start, end, heading, name_start=start, traits=traits
                )
                self._namespaces.add(join(frame.scope, scope.name))
            self._push(found.end, frame.namespaced(scope.name, self.path, inline=scope.inline))

    def _exported(self, end: int) -> None:
        self._push(end, self._stack[-1]._replace(exported=True))

    def _access(self, node: Node) -> None:
        frame = self._stack[-1]
        word = self._code[node.start_byte : node.end_byte].partition(b" ")[0].strip(b": \t")
        if frame.kind == "class" and word in _ACCESS:
            self._stack[-1] = frame._replace(access=_ACCESS[word])

    def _type_specifier(self, node: Node) -> None:
        frame = self._stack[-1]
        body = node.child_by_field_name("body")
        name_node = name_of(node)
        kind = _TYPE_KINDS[node.type.removesuffix("_specifier")]
        name = arguments = ""
        if name_node is not None:
            name, arguments = name_and_arguments(name_node, self._code, frame.levels)
        if body is None:
            if name_node is not None and self._is_forward(node, name_node, frame):
                self.not_uses.add(name_node.start_byte)
                start, end = self._with_template(node)
                self._add_type(kind, name, arguments, start, end, None, last_name(name_node).start_byte)
            return
        name_start = name_end = node.start_byte
        if name_node is None:
            name_start = name_end = body.start_byte
            node, name = self._typedefs.get(node.start_byte, (node, ""))
        else:
            self.not_uses.update((name_node.start_byte, last_name(name_node).start_byte))
            name_start, name_end = last_name(name_node).start_byte, name_node.end_byte
        self._enter_type(node, kind, name, arguments, name_start, name_end, body.start_byte)

    def _enter_type(
        self, node: Node | Lost, kind: SymbolKind, name: str, arguments: str, name_start: int, name_end: int, body: int
    ) -> None:
        frame = self._stack[-1]
        inside = frame.inside
        name = name.strip(":")
        start, end = self._with_template(node)[0], extent(node)[1]
        last = name.rpartition("::")[2]
        access = Access.PRIVATE if kind is SymbolKind.CLASS else Access.PUBLIC
        if name:
            heading = with_name(self._written(start, body), last)
            behind = self._code[name_end:body].decode("utf-8", "replace")
            inside = self._add_type(kind, name, arguments, start, end, heading, name_start, behind)
        elif node.start_byte in self._members_of if isinstance(node, Node) else False:
            name = self._members_of[start]
        elif frame.kind == "class":
            access = frame.access or access
        scope = join(frame.scope, name)
        if frame.anonymous and name:
            self._internal_types.add(scope)
        frame = frame._replace(
            kind="class",
            scope=scope,
            scope_key=frame.key(name + arguments),
            lookup=scope,
            class_name=last,
            inside=inside,
            access=access,
        )
        self._push(end, frame)

    def _add_type(
        self,
        kind: SymbolKind,
        name: str,
        arguments: str,
        start: int,
        end: int,
        heading: str | None,
        name_start: int,
        behind: str = "",
    ) -> SymbolId:
        """A class, or with ``heading`` None its declaration; ``behind``: what stands between its name and body."""
        frame = self._stack[-1]
        outer, _, last = name.rpartition("::")
        traits = template_traits(frame.heads, specialised=bool(arguments))
        if behind.lstrip().startswith("final"):
            traits |= {Trait.FINAL}
        return self._add(
            kind,
            last,
            join(frame.scope, outer),
            start,
            end,
            heading,
            key=frame.key(name + arguments),
            defines=heading is not None,
            name_start=name_start,
            bases=bases(behind) if ":" in behind else (),
            template_parameters=frame.heads[-1] if frame.heads else (),
            traits=traits,
        )

    def _is_forward(self, node: Node, name_node: Node, frame: Frame) -> bool:
        """Whether a type without a body is declared here (``class Foo;``), not used (``struct Foo* next;``)."""
        if frame.kind in ("function", "ignored", "friend"):
            return False
        if name_node.type != "type_identifier" and frame.template_start is None:
            return False
        return self._code[node.end_byte : node.end_byte + 40].lstrip().startswith(b";")

    def _enum(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind == "ignored":
            return
        body = node.child_by_field_name("body")
        name_node = name_of(node)
        start, end = self._with_template(node)
        defines = body is not None
        name = "" if name_node is None else self._written(name_node.start_byte, name_node.end_byte).strip(":")
        behind = name_start = node.start_byte
        if name_node is not None:
            behind, name_start = name_node.end_byte, last_name(name_node).start_byte
            if not defines and (name_node.type != "type_identifier" or not self._is_forward(node, name_node, frame)):
                return
            self.not_uses.update((name_node.start_byte, name_start))
        elif start in self._typedefs or node.start_byte in self._typedefs:
            typedef, name = self._typedefs[node.start_byte]
            start, end = extent(typedef)
        scoped = re.match(rb"enum\s+(?:class|struct)\b", self._code[node.start_byte : node.start_byte + 40])
        outer, _, last = name.rpartition("::")
        stop = node.end_byte if body is None else body.start_byte
        if name:
            self._add(
                SymbolKind.ENUM,
                last,
                join(frame.scope, outer),
                start,
                end,
                with_name(self._written(start, stop), last),
                key=frame.key(name),
                defines=defines,
                name_start=name_start,
                type=underlying_type(self._code[behind:stop].decode("utf-8", "replace")),
                traits=frozenset({Trait.SCOPED}) if scoped else NO_TRAITS,
            )
        if scoped and name and defines:
            scope = join(frame.scope, name)
            frame = frame._replace(scope=scope, scope_key=frame.key(name), lookup=scope, access=None)
            self._push(node.end_byte, frame)

    def _template(self, node: Node) -> None:
        listed = node.child_by_field_name("parameters")
        names: tuple[str, ...] = ()
        if listed is not None:
            names = template_parameters(
                self._code[listed.start_byte + 1 : listed.end_byte - 1].decode("utf-8", "replace")
            )
        self._push(node.end_byte, self._stack[-1].templated(names, node.start_byte), keeps_template=True)

    def _friend(self, node: Node) -> None:
        self._push(node.end_byte, self._stack[-1].befriended(node.start_byte), keeps_template=True)

    def _instantiation(self, node: Node) -> None:
        self._push(node.end_byte, self._stack[-1]._replace(kind="ignored"))

    def _statements(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind != "function":
            self._push(node.end_byte, frame._replace(kind="function"))

    def _function_definition(self, node: Node) -> None:
        if self._stack[-1].kind == "ignored" or self._is_function(node):
            return
        disguised = disguised_scope(node, self._code)
        if disguised is not None:
            self._lost_scope(disguised)

    def _lost_scope(self, lost: Lost) -> None:
        self.not_uses.add(lost.name_start)
        if lost.word == "namespace":
            self._enter_namespace(lost, lost.name, lost.name_start)
        else:
            name_end = lost.name_start + len(lost.name.encode())
            body = self._code.find(b"{", name_end)
            body = body if 0 < body < lost.end else lost.end
            self._enter_type(lost, _TYPE_KINDS[lost.word], lost.name, "", lost.name_start, name_end, body)

    # Other declarations

    def _enumerator(self, node: Node) -> None:
        frame = self._stack[-1]
        name_node = name_of(node)
        if frame.kind == "ignored" or name_node is None:
            return
        name = self._written(name_node.start_byte, name_node.end_byte)
        start = node.start_byte
        self._add(
            SymbolKind.ENUMERATOR,
            name,
            frame.scope,
            start,
            node.end_byte,
            key=frame.key(name),
            trailing_doc=True,
            name_start=start,
        )

    def _using(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind in ("function", "ignored"):
            return
        start, end = self._with_template(node)
        for name, qualified in used_names(self._written(node.start_byte, end)):
            self._add(
                SymbolKind.USING, name, frame.scope, start, end, key=frame.key(name), name_start=start, type=qualified
            )

    def _alias(self, node: Node) -> None:
        name_node = name_of(node)
        if name_node is not None:
            self.not_uses.add(name_node.start_byte)
            name = self._written(name_node.start_byte, name_node.end_byte)
            meaning = self._code[name_node.end_byte : node.end_byte].partition(b"=")[2].strip(b" ;\r\n\t")
            self._add_alias(node, name, name_node.start_byte, full_type(meaning.decode("utf-8", "replace")))

    def _type_definition(self, node: Node) -> None:
        specifier = node.child_by_field_name("type")
        defines = (
            specifier is not None and specifier.type in TYPE_NODES and specifier.child_by_field_name("body") is not None
        )
        tag = None if specifier is None else name_of(specifier)
        tag_name = "" if tag is None else self._written(tag.start_byte, tag.end_byte)
        declarators = node.children_by_field_name("declarator")
        base = self._code[node.start_byte : declarators[0].start_byte] if declarators else b""
        named = ""
        for declarator in declarators:
            name = declared(declarator, self._code, self._stack[-1].levels)
            if name is None:
                continue
            self.not_uses.add(name.name_start)
            if defines and specifier is not None:
                if tag is None and declarator.type == "type_identifier" and not named:
                    named = name.name
                    self._typedefs.setdefault(specifier.start_byte, (node, named))
                    continue
                base = (tag_name or named).encode() + b" "
            if name.name != tag_name:
                meaning = full_type(base.decode("utf-8", "replace") + name.around)
                if name.callable:
                    meaning += f"({','.join(name.parameters)})"
                self._add_alias(node, name.name, name.name_start, meaning)
            elif not defines and specifier is not None and self._stack[-1].kind not in ("function", "ignored"):
                # "typedef struct Name Name;", which declares the type
                kind = _TYPE_KINDS.get(specifier.type.removesuffix("_specifier"), SymbolKind.ENUM)
                self.not_uses.add(last_name(specifier).start_byte)
                self._add_type(kind, tag_name, "", *self._with_template(node), None, name.name_start)

    def _add_alias(self, node: Node, name: str, name_start: int, meaning: str) -> None:
        frame = self._stack[-1]
        if frame.kind in ("function", "ignored"):
            return
        start, end = self._with_template(node)
        self._add(
            SymbolKind.ALIAS,
            name,
            frame.scope,
            start,
            end,
            key=frame.key(name),
            trailing_doc=True,
            name_start=name_start,
            type=meaning,
            template_parameters=frame.heads[-1] if frame.heads else (),
            traits=template_traits(frame.heads),
        )

    def _concept(self, node: Node) -> None:
        name_node = name_of(node)
        if name_node is not None:
            frame = self._stack[-1]
            self._add(
                SymbolKind.CONCEPT,
                self._written(name_node.start_byte, name_node.end_byte),
                frame.scope,
                *self._with_template(node),
                name_start=name_node.start_byte,
                template_parameters=frame.heads[-1] if frame.heads else (),
                traits=template_traits(frame.heads),
            )

    def _module(self, module: Module) -> None:
        name_start = self.text.find(b"module", module.start)
        self._add(
            SymbolKind.MODULE,
            module.name,
            "",
            module.start,
            module.end,
            defines=module.exported,
            name_start=name_start,
        )

    def _import(self, imported: Import) -> None:
        self._note(imported.name, ReferenceKind.INCLUDE, imported.start)

    def _macro(self, node: Node) -> None:
        name_node = name_of(node)
        if name_node is None:
            return
        written = self.text[name_node.start_byte : name_node.end_byte]
        value = node.child_by_field_name("value")
        if value is None and written in self.guards:
            return
        parameters = node.child_by_field_name("parameters")
        end = (name_node if parameters is None else parameters).end_byte
        listed = "" if parameters is None else self._written(parameters.start_byte + 1, end - 1)
        if (
            value is not None
            and value.end_byte - value.start_byte <= 80
            and b"\n" not in self.text[end : value.end_byte]
        ):
            end = value.end_byte
        names = tuple(name.strip() for name in listed.replace("\\\n", " ").split(",")) if listed.strip() else ()
        self._add(
            SymbolKind.MACRO,
            written.decode("utf-8", "replace"),
            "",
            node.start_byte,
            node.end_byte,
            self._written(node.start_byte, end),
            name_start=name_node.start_byte,
            parameters=names,
            required=sum(not name.endswith("...") for name in names),
        )

    # Problems

    def _error(self, node: Node) -> None:
        text = _SPACE.sub(" ", self._written(node.start_byte, min(node.end_byte, node.start_byte + 60))).strip()
        self.problems.setdefault(self.lines.of(node.start_byte), f"could not be read as C++: {text}")

    def _missing(self, node: Node) -> None:
        if self._stack[-1].kind == "ignored":
            return  # the grammar wants a declarator behind "template class A<int>"
        self.problems.setdefault(self.lines.of(node.start_byte), f"{node.type} is missing")
