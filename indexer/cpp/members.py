"""Reads the functions, variables and fields of one file: their names, types, ids and linkage.

It stands on the collector, which knows the scopes; which nodes come when is the reader's business.
"""

import re
from collections.abc import Sequence

from tree_sitter import Node

from indexer.cpp.collector import Collector, Ranges
from indexer.cpp.declarators import Declared, as_function, declared
from indexer.cpp.dialects import Plain
from indexer.cpp.frames import Frame, Levels, internal, join
from indexer.cpp.headings import traits_before, traits_behind
from indexer.cpp.spelling import argument_starts, test_name
from indexer.cpp.types import full_type
from indexer.model import ReferenceKind, SymbolId, SymbolKind, Trait, symbol_id

MACRO_NAME = re.compile(r"[A-Z_][A-Z0-9_]{2,}")
TYPE_NODES = frozenset({"class_specifier", "struct_specifier", "union_specifier", "enum_specifier"})
_UNNAMED = b"{}"  # stands for a type without a name
_DEFAULTED = frozenset({Trait.DEFAULTED, Trait.DELETED})
_BODY_FOLLOWS = re.compile(rb"\s*(?:const|noexcept|override|final|&{1,2}|\s)*(?::[^:;]{0,400})?\{")
# What is void, or extern with a parenthesis behind its name, is no variable.
_NO_VARIABLE = re.compile(rb"\bvoid\s*$|\bextern\b")
_SINGLE_C_LINKAGE = re.compile(rb'\bextern\s*"C(?:\+\+)?"\s*(?=[^\s{])')


class Members(Collector):
    def __init__(
        self, path: str, text: bytes, plain: Plain, comments: Sequence[tuple[int, int]], only: Ranges = ()
    ) -> None:
        super().__init__(path, text, plain, comments, only)
        self._members_of: dict[int, str] = {}  # offset of an unnamed type -> the variable whose type it is
        self._namespaces: set[str] = set()
        self._internal_types: set[str] = set()  # scopes of the types in unnamed namespaces
        self._internal: set[SymbolId] = set()  # the ids that static functions would have without the path
        self._c_linkage = {match.end() for match in _SINGLE_C_LINKAGE.finditer(self._code)}

    def _is_function(self, node: Node) -> bool:
        """Takes a function's definition, and says whether that is what the node is."""
        frame = self._stack[-1]
        declarator = node.child_by_field_name("declarator")
        name = None if declarator is None else declared(declarator, self._code, frame.levels)
        body = node.child_by_field_name("body")
        if name is None or declarator is None or not name.callable:
            return False
        typeless = node.child_by_field_name("type") is None
        if typeless and not name.scope and frame.kind == "function":
            # FOREACH(item, list) {...}: a macro that opens a loop. Functions do not nest.
            self._note(name.name, ReferenceKind.MACRO, name.name_start)
            self.not_uses.update(argument_starts(node))
            return True
        heading_end = self._end_of_heading(node, body)
        start, end = self._with_template(node)
        heading = self._written(start, heading_end)
        if typeless and not name.scope and frame.kind != "class" and MACRO_NAME.fullmatch(name.name):
            inside = self._add_test(node, name, start, end, heading)
        else:
            self.not_uses.update(name.scope_starts)
            base = self._code[node.start_byte : declarator.start_byte]
            behind = self._code[name.after_parameters : heading_end]
            inside = self._add_function(name, base, behind, start, end, heading, defines=True)
        home = self._home()
        scope = join(join(home.scope, name.scope), name.name)
        frame = frame._replace(
            kind="function",
            scope=scope,
            scope_key=join(home.scope_key, f"{name.name}({inside})"),
            lookup=join(home.lookup, name.scope),
            namespace=home.namespace,
            namespace_key=home.namespace_key,
            inside=inside,
        )
        self._push(end, frame)
        return True

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

    def _add_test(self, node: Node, name: Declared, start: int, end: int, heading: str) -> SymbolId | None:
        """``TEST(A, B) {...}``: the function that a macro makes, named after its arguments."""
        frame = self._stack[-1]
        self._note(name.name, ReferenceKind.MACRO, name.name_start)
        arguments = argument_starts(node)
        named_first = (
            len(arguments) > 1 and "TEST" in name.name and self.text[arguments[0] : arguments[0] + 1].isalpha()
        )
        self.not_uses.update(arguments[1:] if named_first else arguments)  # the first may name a fixture
        test = test_name(heading)
        if not re.search(r"\w", test):
            return frame.inside
        key = join(frame.scope_key, test)
        return self._add(
            SymbolKind.FUNCTION,
            test,
            frame.scope,
            start,
            end,
            heading,
            key=key,
            key_parameters=(name.name,),
            name_start=name.name_start,
        )

    def _home(self) -> Frame:
        """The frame that a function belongs to: functions do not nest, so one in another was swallowed by an error."""
        for frame in reversed(self._stack):
            if frame.kind != "function":
                return frame
        return self._stack[0]

    def _declaration(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind in ("function", "ignored"):
            return
        declarators = node.children_by_field_name("declarator")
        if not declarators:
            return
        type_node = node.child_by_field_name("type")
        base = self._code[node.start_byte : declarators[0].start_byte]
        start, end = self._with_template(node)
        heading = ""
        for declarator in declarators:
            name = self._declared(declarator, base)
            heading = heading or self._written(start, end)
            if name is None:
                self._add_bindings(node, declarator, base, start, heading)
            elif not name.callable:
                if frame.kind == "class" or not node.has_error:  # prose looks like a broken declaration
                    base = self._without_body(node, type_node, base, name.name)
                    self._add_variable(node, name, base, start, heading)
            elif type_node is None and self._is_no_function(node, name):
                continue
            elif not (name.scope and frame.kind == "friend"):  # a friend of another class is declared there
                behind = self._code[name.after_parameters : node.end_byte]
                inside = self._add_function(name, base, behind, start, end, heading, defines=False)
                if len(declarators) == 1:
                    self._push(end, frame._replace(inside=inside))

    def _declared(self, declarator: Node, base: bytes) -> Declared | None:
        name = declared(declarator, self._code, self._stack[-1].levels)
        if name and declarator.type == "init_declarator" and _NO_VARIABLE.search(base):
            return as_function(declarator, name, self._code)
        return name

    def _is_no_function(self, node: Node, name: Declared) -> bool:
        """Whether what looks like a function without a type is a macro's use or a deduction guide."""
        frame = self._stack[-1]
        if name.destroys or name.converts or name.name.startswith("operator"):
            return False
        if name.name == (name.owner if name.scope else frame.class_name) and frame.kind == "class":
            return False
        if name.returns:
            return True
        if name.scope or (frame.kind != "class" and not MACRO_NAME.fullmatch(name.name)):
            return False
        self._note(name.name, ReferenceKind.MACRO, name.name_start)
        self.not_uses.update(argument_starts(node))
        return True

    def _add_function(
        self, name: Declared, base: bytes, behind: bytes, start: int, end: int, heading: str, *, defines: bool
    ) -> SymbolId:
        frame, home = self._stack[-1], self._home()
        kind = SymbolKind.FUNCTION
        if name.destroys:
            kind = SymbolKind.DESTRUCTOR
        elif name.name == (name.owner if name.scope else home.class_name):
            kind = SymbolKind.CONSTRUCTOR
        elif (name.scope and join(home.scope, name.scope) not in self._namespaces) or home.kind == "class":
            kind = SymbolKind.METHOD
        heads = frame.heads[name.templated_scopes :]
        traits = traits_before(base)
        if behind:
            traits |= traits_behind(behind)
        if frame.heads:
            traits |= template_traits(heads, specialised=() in frame.heads or name.name_key != name.name)
        if frame.kind == "friend":
            traits |= {Trait.FRIEND}
        if start in self._c_linkage:
            traits |= {Trait.EXTERN}
        key = join(home.scope_key, frame.placed(join(name.scope_key, name.name_key)))
        parameters = name.parameters + name.qualifiers
        if frame.places:
            parameters = tuple(map(frame.placed, parameters))
        returns = ""
        if kind in (SymbolKind.FUNCTION, SymbolKind.METHOD):
            returns = full_type(name.returns or base.decode("utf-8", "replace") + name.around)
        return self._add(
            kind,
            name.name,
            join(home.scope, name.scope),
            start,
            end,
            heading,
            key=self._linked(kind, name, key, parameters, hidden=Trait.STATIC in traits and home.kind != "class"),
            key_parameters=parameters,
            defines=defines or not traits.isdisjoint(_DEFAULTED),
            name_start=name.name_start,
            type=returns,
            parameters=name.parameters,
            required=name.required,
            template_parameters=heads[-1] if heads else (),
            traits=traits,
        )

    def _linked(
        self, kind: SymbolKind, name: Declared, key: str, parameters: tuple[str, ...] = (), *, hidden: bool
    ) -> str:
        """The key of a function or variable, with the path in it where only this file can see it."""
        home = self._home()
        if name.scope:
            return internal(self.path, key) if join(home.scope, name.scope) in self._internal_types else key
        if home.kind == "class":
            return key
        if hidden or self._internal:
            everywhere = symbol_id(kind, key, parameters)
            if hidden:
                self._internal.add(everywhere)
            if everywhere in self._internal:
                return internal(self.path, key)
        return internal(self.path, key) if name.name == "main" and name.callable and not home.scope else key

    def _add_variable(self, node: Node, name: Declared, base: bytes, start: int, heading: str) -> None:
        frame = self._stack[-1]
        member = frame.kind == "class" or (name.scope and join(frame.scope, name.scope) not in self._namespaces)
        kind = SymbolKind.FIELD if member else SymbolKind.VARIABLE
        traits = traits_before(base)
        if node.start_byte in self._c_linkage:
            traits |= {Trait.EXTERN}
        heads = frame.heads[name.templated_scopes :]
        if frame.heads:
            traits |= template_traits(heads, specialised=() in frame.heads or name.name_key != name.name)
        declares = Trait.EXTERN in traits and "=" not in heading
        if frame.kind == "class" and Trait.STATIC in traits:
            declares = traits.isdisjoint({Trait.INLINE, Trait.CONSTEXPR})
        key = join(frame.scope_key, frame.placed(join(name.scope_key, name.name_key)))
        hidden = Trait.STATIC in traits and frame.kind != "class"
        self._add(
            kind,
            name.name,
            join(frame.scope, name.scope),
            start,
            node.end_byte,
            heading,
            key=self._linked(kind, name, key, hidden=hidden),
            defines=not declares,
            trailing_doc=True,
            name_start=name.name_start,
            type="" if base.endswith(_UNNAMED) else full_type(base.decode("utf-8", "replace") + name.around),
            template_parameters=heads[-1] if heads else (),
            traits=traits,
        )

    def _without_body(self, node: Node, type_node: Node | None, base: bytes, variable: str) -> bytes:
        """What stands before a name whose type is defined in front of it: ``struct P { int x; } p``."""
        if type_node is None or type_node.type not in TYPE_NODES or b"{" not in base:
            return base
        tag = name_of(type_node)
        if tag is None:
            self._members_of.setdefault(type_node.start_byte, variable)
        name = _UNNAMED if tag is None else self._code[tag.start_byte : tag.end_byte] + b" "
        return self._code[node.start_byte : type_node.start_byte] + name

    def _add_bindings(self, node: Node, declarator: Node, base: bytes, start: int, heading: str) -> None:
        """``auto [a, b] = pair;``."""
        bound = declarator.child_by_field_name("declarator")
        if bound is None or bound.type != "structured_binding_declarator":
            return
        frame = self._stack[-1]
        for child in bound.named_children:
            name = self._written(child.start_byte, child.end_byte)
            self._add(
                SymbolKind.VARIABLE,
                name,
                frame.scope,
                start,
                node.end_byte,
                heading,
                key=frame.key(name),
                name_start=child.start_byte,
                type=full_type(base.decode("utf-8", "replace")),
                traits=traits_before(base),
            )

    def _stray_function(self, node: Node) -> None:
        frame = self._stack[-1]
        if frame.kind in ("function", "ignored"):
            return
        name = declared(node, self._code, frame.levels)
        if name is None or not name.callable or not _BODY_FOLLOWS.match(self._code, node.end_byte):
            return
        line_start = self._code.rfind(b"\n", max(0, node.start_byte - 400), node.start_byte) + 1
        start = max(line_start, node.start_byte - 400)
        base = self._code[start : node.start_byte]
        behind = self._code[name.after_parameters : node.end_byte]
        heading = self._written(start, node.end_byte)
        self._add_function(name, base, behind, start, node.end_byte, heading, defines=True)


def template_traits(heads: Levels, *, specialised: bool = False) -> frozenset[Trait]:
    traits = {Trait.TEMPLATE} if heads and heads[-1] else set[Trait]()
    if specialised or (heads and not heads[-1]):
        traits.add(Trait.SPECIALIZATION)
    return frozenset(traits)


def name_of(node: Node) -> Node | None:
    """The node of the name, if there is one that the parser did not only miss."""
    name = node.child_by_field_name("name")
    return name if name is not None and name.end_byte > name.start_byte else None
