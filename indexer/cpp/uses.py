"""Collects what the code of one file uses: calls, types, bases, includes and macros, each with the symbol it stands in.

It comes after the declarations were read, which gave it the regions of the file. A call carries what is known of its
operands, in the words of ``expressions``, and a number for the scopes and usings it is looked up from. It knows nothing
of other files: a use carries a name, never a target.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import count, repeat
from typing import Any, NamedTuple

from tree_sitter import Node

from indexer.cpp import simple
from indexer.cpp.collector import Lines, Noted, Ranges, Region, within
from indexer.cpp.expressions import CASTS, MAX_ARGUMENTS, MAX_COUNTED, Expressions, Name, parenthesized_call
from indexer.cpp.grammar import Captures
from indexer.cpp.hints import (
    MAX_DEPTH,
    SIZE,
    UNKNOWN,
    Hint,
    binding_of,
    callable_object,
    element_of,
    is_builtin,
    is_no_function,
    literal_operator,
    may_name_a_function,
)
from indexer.cpp.locals import Bare, Declaration, Locals, bare_arguments, declarations, using_of
from indexer.cpp.masking import MacroUse
from indexer.cpp.members import MACRO_NAME
from indexer.cpp.operators import Operator, Operators
from indexer.cpp.spelling import qualifier_before
from indexer.model import Context, ReferenceKind, SymbolId

# Written like calls, and none: operators of the language, and words that the grammar takes for names in broken code.
_NOT_CALLS = CASTS | {"typeid", "alignof", "_Alignof", "noexcept", "decltype", "if", "while", "for", "switch", "return"}
_CLASS_TYPES = frozenset({"type_identifier", "qualified_identifier", "template_type"})
_VALUES = frozenset({"identifier", "qualified_identifier", "template_function"})
_ADDRESS, _SEMICOLON, _COLON = b"&;:"
_THROUGH_POINTER = re.compile(r'\["\*",(?!\["this"\])')  # what * gives is rather a function than an object with ()
# What a sizeof measures that is spelled like a type, and an assignment of what may be a function.
_SIZE_OF_TYPE = re.compile(rb"sizeof\s*\(\s*([A-Z]\w*|\w+_t)\s*\)")
_NAME_ASSIGNED = re.compile(rb"[^=(){};]{1,80}=\s*&?[\w:]+")
_LAST_WORD = re.compile(r"\w+(?=\s*$)")
# The order in which what starts at one place is read.
_FIRST = (
    "block",
    "lambda",
    "requires",
    "range_loop",
    "parameters",
    "using_in_sight",
    "local_alias",
    "variable",
    "field",
)


_Item = Any  # a Node, Region, Noted or MacroUse, which its handler takes
_Handler = Callable[[_Item], None]


class Use(NamedTuple):
    name: str
    kind: ReferenceKind
    line: int
    inside: SymbolId | None
    context: int
    operands: str


class _Target(NamedTuple):
    form: str
    subject: Hint
    name: str
    kind: ReferenceKind


class Uses:
    """One pass over the uses of one file, in the order of the text, under the regions they stand in."""

    def __init__(
        self,
        text: bytes,
        code: bytes,
        lines: Lines,
        not_uses: set[int],
        guards: set[bytes],
        contexts: dict[Context, int],
        only: Ranges = (),
    ) -> None:
        """Contexts are numbered on in ``contexts``. Of another reading of the file ``only`` these ranges are kept."""
        self.found: dict[Use, None] = {}
        self.contexts = contexts
        self._only = only
        self._text = text
        self._code = code
        self._lines = lines
        self._not_uses = not_uses
        self._guards = guards
        self._stack: list[Region] = []
        self._locals = Locals()
        self._expressions = Expressions(code, text, self._locals)
        self._operators = Operators(code, self._expressions, self._locals)
        # What the last use had in common with the next one, most often: its region, usings, context and line.
        self._at: Region | None = None
        self._usings: tuple[str, ...] | None = None
        self._context = 0
        self._line = self._line_start = self._line_end = 0
        self._variables: set[str] = set()  # names that this file has declared so far and that are no functions

    def read(
        self, captures: Captures, regions: Sequence[Region], noted: Sequence[Noted], masked: Sequence[MacroUse]
    ) -> None:
        """Fills ``found`` and ``contexts``."""
        found: list[tuple[int, int, _Handler, _Item]] = []
        for tag, listed in (
            ("noted", noted),
            ("region", regions),
        ):  # a macro that makes a function stands outside of it
            found += _placed([item.start for item in listed], len(found), getattr(self, f"_{tag}"), listed)
        for tag in sorted(captures, key=lambda tag: _FIRST.index(tag) if tag in _FIRST else len(_FIRST)):
            nodes = captures[tag]
            found += _placed([node.start_byte for node in nodes], len(found), getattr(self, f"_{tag}"), nodes)
        found += _placed([use.start for use in masked], len(found), self._masked_macro, masked)
        found.sort()
        names = self._locals
        for start, _, handle, item in found:
            if start >= names.end:
                self._leave(start)
            handle(item)

    def _leave(self, start: int) -> None:
        self._locals.leave(start)
        while self._stack and start >= self._stack[-1].end:
            self._stack.pop()

    # Scopes and what they declare

    def _region(self, region: Region) -> None:
        outer = self._stack[-1].own if self._stack else frozenset()
        self._stack.append(region)
        self._locals.open(region.end)
        for name in region.own - outer:
            self._locals.declare_type(name)

    def _block(self, node: Node) -> None:
        self._locals.open(node.end_byte)

    def _lambda(self, node: Node) -> None:
        captures = node.child_by_field_name("captures")
        named = (
            [] if captures is None else [n for n in captures.named_children if n.type == "lambda_capture_initializer"]
        )
        held = [(part.children[0], self._expressions.hint(part.children[-1])) for part in named]
        self._locals.open(node.end_byte)
        for name, hint in held:
            self._locals.declare(self._written(name), hint)
        parameters = node.child_by_field_name("template_parameters")
        if parameters is not None:
            for parameter in parameters.named_children:
                word = _LAST_WORD.search(self._written(parameter).partition("=")[0])
                if word:
                    self._locals.declare_type(word[0])

    def _requires(self, node: Node) -> None:
        self._locals.open(node.end_byte)
        parameters = node.child_by_field_name("parameters")
        if parameters is not None:
            self._declare_parameters(parameters)

    def _range_loop(self, node: Node) -> None:
        self._locals.open(node.end_byte)
        before = node.child_by_field_name("initializer")
        for first in [] if before is None else before.named_children:
            if first.type == "declaration":
                self._variable(first)
        right = node.child_by_field_name("right")
        element = UNKNOWN if right is None else element_of(self._expressions.hint(right))
        written = node.child_by_field_name("type")
        if written is not None:
            start = written.start_byte  # const may stand before it
            opening = max(self._code.rfind(sign, node.start_byte, start) for sign in (b"(", b";"))
            for declaration in declarations(node, self._code, opening + 1):
                self._declare(declaration, element)

    def _parameters(self, node: Node) -> None:
        if not self._in_function():
            return
        start, stop = node.start_byte, node.end_byte
        plain = simple.parameters_of(self._code[start:stop]) if stop - start <= simple.MAX_LENGTH else None
        if plain is None:
            self._declare_parameters(node)
        else:
            for written, name in plain:
                self._locals.declare(name, self._expressions.declared(written, UNKNOWN))

    def _declare_parameters(self, node: Node) -> None:
        for parameter in node.named_children:
            for declaration in declarations(parameter, self._code):
                self._declare(declaration, UNKNOWN)

    def _declare(self, declaration: Declaration, deduced: Hint) -> None:
        """``deduced`` is the hint of ``auto``."""
        declarator = declaration.declarator
        if declarator.shape == "bind":
            for index, name in enumerate(declarator.names):
                self._locals.declare(name, binding_of(deduced, index))
        else:
            self._locals.declare(declarator.names[0], self._expressions.declared(declarator.type, deduced))

    def _using_in_sight(self, node: Node) -> None:
        word, name = using_of(node, self._code)
        if name and (word or self._in_function()):
            self._locals.use(f"{word} {name}" if word else name)

    def _local_alias(self, node: Node) -> None:
        if not self._in_function():
            return
        if node.type == "type_definition":
            for declaration in declarations(node, self._code):
                type_text = declaration.declarator.type.removeprefix(b"typedef")
                self._use_alias(declaration.declarator.names[0], self._expressions.spelled(type_text))
            return
        parts = node.named_children
        if len(parts) > 1:
            written = self._code[parts[-1].start_byte : parts[-1].end_byte]
            self._use_alias(self._written(parts[0]), self._expressions.spelled(written))

    def _use_alias(self, name: str, meaning: str) -> None:
        if name and meaning:
            self._locals.use(f"{name}={meaning}")

    # Variables, and the objects they make

    def _variable(self, node: Node) -> None:
        start, stop = node.start_byte, node.end_byte
        if stop - start <= simple.MAX_LENGTH:
            plain = simple.variable_of(self._code[start:stop])
            if plain is not None:
                self._simple_variable(plain, start)
                return
        type_node = node.child_by_field_name("type")
        if type_node is None:
            return
        in_function = self._in_function()
        for declaration in declarations(node, self._code):
            declarator, target, value, assigned = declaration
            if target.type == "function_declarator" and declarator.shape == "()":
                if in_function and target.child(0) is not None:
                    self._variable_like_a_function(type_node, declaration)
                continue
            if value is None and self._code[node.end_byte - 1] != _SEMICOLON:
                value = node.child_by_field_name("value")  # if (Foo* foo = Find())
                assigned = True
            self._declared(declaration, value, assigned=assigned, in_function=in_function)
            initialised = not assigned or (value is not None and value.type == "initializer_list")
            if declarator.shape == "" and initialised and not self._code.startswith(b"extern", node.start_byte):
                self._made_of(type_node, declarator.start, self._arguments(value))

    def _simple_variable(self, variable: simple.Variable, start: int) -> None:
        if self._in_function():
            self._locals.declare(variable.name, self._expressions.declared(variable.type, UNKNOWN))
        else:
            self._variables.add(variable.name)
        if variable.value:
            self._name(variable.value, start + variable.value_offset)
        if variable.made:
            self._made(Name(variable.made, start, None), start + variable.offset, ())

    def _declared(self, declaration: Declaration, value: Node | None, *, assigned: bool, in_function: bool) -> None:
        declarator = declaration.declarator
        if assigned and value is not None:
            self._value(value)
        if in_function:
            self._declare(declaration, self._deduced(declarator.type, value))
        else:
            self._variables.update(declarator.names)

    def _deduced(self, declared_type: bytes, value: Node | None) -> Hint:
        return self._expressions.deduced(value) if b"auto" in declared_type and value is not None else UNKNOWN

    def _variable_like_a_function(self, type_node: Node, declaration: Declaration) -> None:
        """``Slice key(start, size());`` in a function makes an object, though the grammar sees two parameters."""
        arguments = bare_arguments(declaration.node.child_by_field_name("parameters"))
        if not arguments:
            return
        known = [self._locals.get(self._written(argument.name)) for argument in arguments]
        if type_node.type == "primitive_type" and not any(known):
            return
        hints = [self._bare(argument, MAX_DEPTH) for argument in arguments]
        declarator = declaration.declarator
        type_text = self._code[type_node.start_byte : type_node.end_byte]
        self._locals.declare(declarator.names[0], self._expressions.declared(type_text, hints[0]))
        self._made_of(type_node, declarator.start, hints)

    def _bare(self, argument: Bare, room: int) -> Hint:
        name = self._expressions.name(argument.name)
        self._not_uses.add(name.start)
        if argument.arguments is None:
            hint = self._expressions.hint(argument.name, room)
            if may_name_a_function(hint[0]):
                self._named(argument.name)
            return hint
        hints = [self._bare(inner, room - 1) for inner in argument.arguments]
        if name.text == "sizeof":
            return SIZE
        target = self._target("call", UNKNOWN, name.text)
        if target is not None:
            operands = self._expressions.operands(target.form, target.subject, hints, "")
            self._refer(target.name, target.kind, name.start, operands)
        return self._expressions.called(UNKNOWN, name.text, hints, "", room)

    def _field(self, node: Node) -> None:
        type_node = node.child_by_field_name("type")
        if type_node is None:
            return
        value = node.child_by_field_name("default_value")
        initialised = value is None or value.type == "initializer_list"
        declares = self._code.startswith(b"static", node.start_byte)
        for declaration in declarations(node, self._code):
            declarator = declaration.declarator
            self._variables.update(declarator.names)
            if declaration.node.type == "field_identifier" and initialised and not declares:
                self._made_of(type_node, declarator.start, self._arguments(value))

    def _made_of(self, type_node: Node, start: int, arguments: Sequence[Hint]) -> None:
        if type_node.type in _CLASS_TYPES:
            self._made(self._expressions.name(type_node), start, arguments)

    def _made(self, name: Name, start: int, arguments: Sequence[Hint]) -> None:
        """A variable of this type is made, unless the type is surely none of the tree's classes."""
        text = name.text
        if not text or text.startswith("std::") or is_builtin(f'"{text}"') or self._locals.hides(text):
            return
        written = self._expressions.template_arguments(name.arguments)
        self._refer(text, ReferenceKind.CALL, start, self._expressions.operands("new", UNKNOWN, arguments, written))

    # Calls

    def _call(self, node: Node) -> None:
        start, stop = node.start_byte, node.end_byte
        if stop - start <= self._expressions.simple_length:
            plain = simple.call_of(self._code[start:stop])
            if plain is not None:
                self._simple_call(plain, node)
                return
        parts = node.children
        called = self._expressions.callee(parts)
        if called is None:
            self._call_of_value(parts[0], parts[-1])
            return
        name = called.name
        subject = UNKNOWN if called.object is None else self._expressions.object(called)
        target = self._target("call" if called.object is None else "method", subject, name.text)
        if target is None or target.kind is ReferenceKind.CALL:
            arguments = self._arguments(parts[-1])
        else:
            arguments = self._expressions.counted(parts[-1])
        if target is not None:
            written = self._expressions.template_arguments(name.arguments)
            operands = self._expressions.operands(target.form, target.subject, arguments, written)
            self._refer(target.name, target.kind, name.start, operands)

    def _simple_call(self, call: simple.Call, node: Node) -> None:
        path = call.path
        if path.steps:
            subject, name = self._expressions.subject(path)
            target = self._target("method", subject, name)
        else:
            target = self._target("call", UNKNOWN, path.first)
        if target is None or target.kind is ReferenceKind.CALL:
            arguments = self._expressions.atoms(call.arguments)
            for hint, _ in arguments:
                if may_name_a_function(hint):
                    self._values_among(node.children[-1])
                    break
        else:
            arguments = [UNKNOWN] * min(len(call.arguments), MAX_COUNTED)
        if target is not None:
            operands = self._expressions.operands(target.form, target.subject, arguments, "")
            self._refer(target.name, target.kind, node.start_byte + call.name_offset, operands)

    def _target(self, form: str, subject: Hint, name: str) -> _Target | None:
        """What a call of this name uses, or None where it uses nothing that could be looked up."""
        if not name or name in _NOT_CALLS:
            return None
        if form == "call":
            local = self._locals.get(name)
            if local is not None:
                return _Target("method", local, "operator()", ReferenceKind.CALL) if callable_object(local) else None
        kind = ReferenceKind.MACRO if name.isupper() and MACRO_NAME.fullmatch(name) else ReferenceKind.CALL
        return _Target(form, subject, name, kind)

    def _call_of_value(self, function: Node, listed: Node) -> None:
        """``f(x)(y)``, ``handlers[i](x)``, ``(*this)(x)``: of an object, unless it is a pointer to a function."""
        arguments = self._arguments(listed)
        hint = self._expressions.hint(function)
        if callable_object(hint) and not _THROUGH_POINTER.match(hint[0]):
            operands = self._expressions.operands("method", hint, arguments, "")
            self._refer("operator()", ReferenceKind.CALL, listed.start_byte, operands)

    def _new(self, node: Node) -> None:
        named = node.child_by_field_name("type")
        if named is None or self._code[named.end_byte : named.end_byte + 4].lstrip().startswith(b"*"):
            return  # new T*[n] makes pointers
        name = self._expressions.name(named)
        array = node.child_by_field_name("declarator") is not None
        arguments = [] if array else self._arguments(node.child_by_field_name("arguments"))
        self._make(name, arguments)

    def _braced_type(self, node: Node) -> None:
        named = node.child_by_field_name("type")
        if named is not None and named.type in _CLASS_TYPES:
            self._make(self._expressions.name(named), self._arguments(node.child_by_field_name("value")))

    def _make(self, name: Name, arguments: Sequence[Hint]) -> None:
        if name.text and not self._locals.hides(name.text):
            written = self._expressions.template_arguments(name.arguments)
            operands = self._expressions.operands("new", UNKNOWN, arguments, written)
            self._refer(name.text, ReferenceKind.CALL, name.start, operands)

    def _initializer(self, node: Node) -> None:
        parts = node.named_children
        name = self._expressions.name(parts[0])
        if name.text and not self._locals.hides(name.text):
            written = self._expressions.template_arguments(name.arguments)
            operands = self._expressions.operands("init", UNKNOWN, self._arguments(parts[-1]), written)
            self._refer(name.text, ReferenceKind.CALL, name.start, operands)

    def _cast(self, node: Node) -> None:
        called = parenthesized_call(node, self._code)
        if called is not None:
            name = self._expressions.name(called[0])
            self._not_uses.add(name.start)
            operands = self._expressions.operands("call", UNKNOWN, self._expressions.each(called[1]), "")
            self._refer(name.text, ReferenceKind.CALL, name.start, operands)

    def _literal(self, node: Node) -> None:
        parts = node.children
        suffix = self._written(parts[-1])
        if suffix.startswith("_"):  # the others are the standard library's
            hint = self._expressions.hint(parts[0])
            operands = self._expressions.operands("call", UNKNOWN, [hint], "")
            self._refer(literal_operator(suffix), ReferenceKind.CALL, parts[-1].start_byte, operands)

    def _arguments(self, listed: Node | None) -> list[Hint]:
        """The hints of arguments; those that may name functions are uses of them."""
        hints = self._expressions.arguments(listed)
        if listed is not None:
            for hint, _ in hints:
                if may_name_a_function(hint):
                    self._values_among(listed)
                    break
        return hints

    def _values_among(self, listed: Node) -> None:
        for node in listed.named_children[:MAX_ARGUMENTS]:
            self._value(node)

    # Operators

    def _binary(self, node: Node) -> None:
        self._operation(node, self._operators.binary)

    def _assignment(self, node: Node) -> None:
        self._operation(node, self._operators.assignment)
        if _NAME_ASSIGNED.fullmatch(self._code, node.start_byte, node.end_byte):
            self._value(node.children[-1])

    def _operation(self, node: Node, read: Callable[[Node], Operator | None]) -> None:
        called = self._operators.called(node)
        if called is None:
            self._operator(read(node))
        else:
            operands = self._expressions.operands("call", UNKNOWN, called.right, "")
            self._refer("operator" + called.sign, ReferenceKind.CALL, called.start, operands)

    def _subscript(self, node: Node) -> None:
        self._operator(self._operators.subscript(node))

    def _unary(self, node: Node) -> None:
        self._operator(self._operators.unary(node))

    def _member(self, node: Node) -> None:
        self._operator(self._operators.arrow(node))

    def _operator(self, used: Operator | None) -> None:
        if used is not None:
            operands = self._expressions.operands("operator", used.left, used.right, "")
            self._refer("operator" + used.sign, ReferenceKind.CALL, used.start, operands)

    # Names and types

    def _value(self, node: Node) -> None:
        kind = node.type
        if kind == "pointer_expression":
            parts = node.children
            if self._code[node.start_byte] == _ADDRESS and parts[-1].type in _VALUES:
                self._named(parts[-1])
        elif kind in _VALUES:
            self._named(node)

    def _named(self, node: Node) -> None:
        name = self._expressions.name(node)
        self._name(name.text, name.start)

    def _name(self, name: str, start: int) -> None:
        """A name that is perhaps a function's."""
        head, _, last = name.rpartition("::")
        known = not last or is_no_function(last) or (not head and last in self._variables)
        if not known and not self._locals.hides(name):
            self._refer(name, ReferenceKind.NAME, start)

    def _type_use(self, node: Node) -> None:
        start = node.start_byte
        if start in self._not_uses:
            return
        name = self._written(node)
        if self._code[start - 1] == _COLON:
            name = qualifier_before(self._code, start) + name
            if self._locals.hides(name):
                return
        elif self._locals.get(name) is not None:
            return
        self._refer(name, ReferenceKind.TYPE, start)

    def _qualifier(self, node: Node) -> None:
        start, stop = node.start_byte, node.end_byte
        if self._code[start : start + 1].isupper() and start not in self._not_uses and self._code[stop] == _COLON:
            name = qualifier_before(self._code, start) + self._written(node)
            if not MACRO_NAME.fullmatch(name) and not self._locals.hides(name):
                self._refer(name, ReferenceKind.TYPE, start)

    def _size(self, node: Node) -> None:
        """``sizeof(Foo)`` looks like a variable to the grammar."""
        found = _SIZE_OF_TYPE.fullmatch(self._code, node.start_byte, node.end_byte)
        name = "" if found is None else found[1].decode("utf-8", "replace")
        if found is not None and not MACRO_NAME.fullmatch(name) and not self._locals.hides(name):
            self._refer(name, ReferenceKind.TYPE, found.start(1))

    def _bases(self, node: Node) -> None:
        for child in node.named_children:
            if child.type not in _CLASS_TYPES:
                continue
            name = self._expressions.name(child)
            self._not_uses.add(name.start)
            if not self._locals.hides(name.text):
                self._refer(name.text, ReferenceKind.BASE, name.start)

    def _include(self, node: Node) -> None:
        path = self._written(node).strip('<>" ')
        if path:
            self._refer(path, ReferenceKind.INCLUDE, node.start_byte)

    def _tested_macro(self, node: Node) -> None:
        if self._text[node.start_byte : node.end_byte] not in self._guards:
            self._refer(self._written(node), ReferenceKind.MACRO, node.start_byte)

    def _noted(self, note: Noted) -> None:
        self._refer(note.name, note.kind, note.start)

    def _masked_macro(self, use: MacroUse) -> None:
        self._refer(use.name, ReferenceKind.MACRO, use.start)

    # Building blocks

    def _refer(self, name: str, kind: ReferenceKind, start: int, operands: str = "") -> None:
        if not name:  # a type that the parser only misses has none
            return
        if self._only and not within(self._only, start):
            return
        region = self._stack[-1] if self._stack else None
        if region is not self._at or self._locals.usings is not self._usings:
            self._at, self._usings = region, self._locals.usings
            context = Context(region.scope if region else "", self._usings)
            self._context = self.contexts.setdefault(context, len(self.contexts))
        if not self._line_start <= start < self._line_end:
            self._line = self._lines.of(start)
            self._line_start = start
            self._line_end = self._text.find(b"\n", start)
        inside = region.inside if region else None
        self.found[Use(name, kind, self._line, inside, self._context, operands)] = None

    def _in_function(self) -> bool:
        return bool(self._stack) and self._stack[-1].kind == "function"

    def _written(self, node: Node) -> str:
        return self._code[node.start_byte : node.end_byte].decode("utf-8", "replace")


def _placed(
    starts: list[int], number: int, handle: _Handler, items: Iterable[_Item]
) -> Iterable[tuple[int, int, _Handler, _Item]]:
    """Items with where they start, numbered on, so that a sort keeps the order of what starts at one place."""
    return zip(starts, count(number), repeat(handle), items)
