"""Reads expressions into hints: from their nodes, or from their text alone where that is simple enough.

It looks at one expression at a time, with the locals that are in sight; what a hint says stands in ``hints``, and which
declaration a name means, nothing here asks. However deep a text nests, an expression is read a few levels deep only.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tree_sitter import Node

from indexer.cpp import simple
from indexer.cpp.hints import (
    BOOL,
    MAX_DEPTH,
    MAX_HINT,
    SIZE,
    UNKNOWN,
    Hint,
    address,
    arithmetic,
    callable_object,
    literal_operator,
    literal_type,
    pointee,
    quoted,
    read_type,
    subscripted,
)
from indexer.cpp.locals import Locals

MAX_ARGUMENTS = 12  # that are read; the others are counted
MAX_COUNTED = 48
_REWRITTEN = b"operator__"  # what masking makes of "operator==" where the grammar wants a plain name
_MAX_LITERAL = 64  # bytes that are looked at
_MAX_PARENTHESES = 32

_COMMENT: Hint = ("", -1)  # stands between arguments and is none
CASTS = frozenset({"static_cast", "dynamic_cast", "reinterpret_cast", "const_cast"})
_COMPARISONS = frozenset({b"==", b"!=", b"<", b">", b"<=", b">=", b"&&", b"||", b"and", b"or", b"not_eq"})
_SHIFTS = frozenset({b"<<", b">>"})
_TEMPLATED = frozenset({"template_function", "template_method", "template_type"})
_PLAIN = frozenset({"identifier", "field_identifier", "type_identifier", "namespace_identifier", "operator_name"})
_PLAIN_QUALIFIED = re.compile(rb"(?:::)?((?:\w+::){0,32}\w+)")
_SPACE = re.compile(r"\s+")
_OPERATOR_WORD = re.compile(r"operator((?:new|delete|co_await)\b.*)")


class Name(NamedTuple):
    """A name as written, apart from its template arguments."""

    text: str  # "std::move"; "" where it cannot be looked up
    start: int  # byte offset of its last part
    arguments: Node | None  # of the last part


class Callee(NamedTuple):
    """What a call calls."""

    name: Name
    object: Node | None  # of object.name()
    arrow: bool  # object->name()


class Expressions:
    """The expressions of one file, read where the locals are those in sight."""

    def __init__(self, code: bytes, text: bytes, names: Locals) -> None:
        """``code`` is what the grammar read; names that had to be rewritten for it are those of ``text``."""
        self._code = code
        self._file = text
        self._rewritten = _REWRITTEN in code
        self.simple_length = 0 if self._rewritten else simple.MAX_LENGTH  # bytes of what may be read off its text
        self._get = names.get
        self._hides = names.hides
        self._chain_start = -1  # of the last chain of shifts, and the first operand of it
        self._chain_first: Node | None = None
        self._readers: dict[str, Callable[[Node, int], Hint]] = {
            "comment": lambda _, __: _COMMENT,
            "identifier": self._identifier,
            "type_identifier": self._identifier,
            "qualified_identifier": self._qualified,
            "template_function": self._qualified,
            "call_expression": self._call,
            "field_expression": self._field,
            "parenthesized_expression": self._parenthesized,
            "this": self._this,
            "lambda_expression": self._lambda,
            "number_literal": self._literal,
            "char_literal": self._literal,
            "string_literal": self._literal,
            "raw_string_literal": self._literal,
            "concatenated_string": self._joined,
            "user_defined_literal": self._user_literal,
            "true": self._literal,
            "false": self._literal,
            "requires_expression": self._bool,
            "null": self._literal,
            "sizeof_expression": self._size,
            "alignof_expression": self._size,
            "offsetof_expression": self._size,
            "new_expression": self._new,
            "cast_expression": self._cast,
            "compound_literal_expression": self._braced_type,
            "initializer_list": self._list,
            "parameter_pack_expansion": self._pack,
            "binary_expression": self._binary,
            "unary_expression": self._unary,
            "update_expression": self._update,
            "assignment_expression": self._assignment,
            "comma_expression": self._comma,
            "conditional_expression": self._conditional,
            "pointer_expression": self._pointer,
            "subscript_expression": self._subscript,
        }

    def hint(self, node: Node, room: int = MAX_DEPTH) -> Hint:
        """The hint of an expression, with its lists nested at most ``room`` deep. UNKNOWN for what is none."""
        reader = self._readers.get(node.type)
        return UNKNOWN if reader is None else reader(node, room)

    def operands(self, form: str, subject: Hint, arguments: Sequence[Hint], template_arguments: str) -> str:
        """The JSON of a use's operands, without the empty parts at its end."""
        listed = ",".join([hint for hint, _ in arguments])
        if template_arguments:
            return f'["{form}",{subject[0]},[{listed}],{template_arguments}]'
        if listed:
            return f'["{form}",{subject[0]},[{listed}]]'
        return f'["{form}"]' if subject is UNKNOWN else f'["{form}",{subject[0]}]'

    def arguments(self, listed: Node | None, room: int = MAX_DEPTH) -> list[Hint]:
        """The hints of what stands in an argument list or braced list."""
        if listed is None:
            return []
        start, stop = listed.start_byte, listed.end_byte
        if stop - start <= self.simple_length:
            atoms = simple.arguments_of(self._code[start:stop])
            if atoms is not None:
                return self.atoms(atoms, room)
        nodes = listed.named_children
        read = [self.hint(node, room) for node in (nodes if len(nodes) <= MAX_ARGUMENTS else nodes[:MAX_ARGUMENTS])]
        if _COMMENT in read:
            read = [hint for hint in read if hint is not _COMMENT]
        if len(nodes) > MAX_ARGUMENTS:
            read += [UNKNOWN] * (min(len(nodes), MAX_COUNTED) - MAX_ARGUMENTS)
        return read

    def counted(self, listed: Node) -> list[Hint]:
        """As many unknown hints as there are arguments: those of macros are text, and of no type."""
        written = [node for node in listed.named_children if node.type != "comment"]
        return [UNKNOWN] * min(len(written), MAX_COUNTED)

    def each(self, nodes: Sequence[Node], room: int = MAX_DEPTH) -> list[Hint]:
        """The hints of several expressions."""
        return [self.hint(node, room) for node in nodes]

    def atoms(self, atoms: tuple[simple.Atom, ...], room: int = MAX_DEPTH) -> list[Hint]:
        """The hints of simple arguments."""
        read = [self._atom(atom, room) for atom in atoms[:MAX_ARGUMENTS]]
        return read + [UNKNOWN] * (min(len(atoms), MAX_COUNTED) - MAX_ARGUMENTS)

    def _atom(self, atom: simple.Atom, room: int) -> Hint:
        sign, path, literal = atom
        if path is None:
            return literal_type(literal), 0
        if not sign:
            return self.path(path, room)
        if room < 1:
            return UNKNOWN
        found = self.path(path, room - 1)
        return pointee(found, room) if sign == "*" else address(found, room)

    def path(self, path: simple.Path, room: int) -> Hint:
        """The hint of ``first.second->third``, as from its nodes."""
        first, steps = path
        known = self._get(first)
        if not steps and known is None and first != "this":
            return self._named(first, room)
        inner = room - len(steps) - sum(arrow for arrow, _ in steps)
        if first == "this":
            found: Hint = ('["this"]', 1) if inner > 0 else UNKNOWN
        elif known is None:
            found = self._named(first, inner)
        else:
            found = known if known[1] <= inner else UNKNOWN
        for arrow, name in steps:
            if found is UNKNOWN:
                break
            if arrow:
                found = pointee(found, room)
            found = f'["member",{found[0]},{quoted(name)}]', found[1] + 1
        return found

    def _named(self, name: str, room: int) -> Hint:
        if room < 1 or ("::" in name and self._hides(name)):
            return UNKNOWN
        return f'["name",{quoted(name)}]', 1

    def template_arguments(self, listed: Node | None) -> str:
        """JSON: a list of types and nulls, or "" where none are written."""
        if listed is None:
            return ""
        nodes = [node for node in listed.named_children[:MAX_ARGUMENTS] if node.type != "comment"]
        return "[" + ",".join([self.type_of(node)[0] for node in nodes]) + "]"

    def type_of(self, node: Node) -> Hint:
        """The hint of a type as written."""
        start, stop = node.start_byte, node.end_byte
        if stop - start > MAX_HINT:
            return UNKNOWN
        known, first = read_type(self._code[start:stop])
        return UNKNOWN if self._get(first) is not None else known

    def name(self, node: Node) -> Name:
        """A name as written, with its qualifiers and without template arguments."""
        start, stop = node.start_byte, node.end_byte
        kind = node.type
        if kind in _PLAIN and kind != "operator_name" and not self._rewritten:
            return Name(self._text(start, stop), start, None)
        if kind == "qualified_identifier":
            plain = _PLAIN_QUALIFIED.fullmatch(self._code, start, stop)
            if plain is not None:
                text = plain[1].decode("utf-8", "replace")
                return Name(text, stop - len(plain[1].rpartition(b"::")[2]), None)
        parts: list[str] = []
        found: Node | None = node
        while found is not None and kind in ("qualified_identifier", "dependent_name"):
            if kind == "dependent_name":
                found = found.named_child(0)
            else:
                scope = found.child_by_field_name("scope")
                if scope is not None:
                    parts.append(self._last(scope)[0])
                found = found.child_by_field_name("name")
            kind = "" if found is None else found.type
        if found is None:
            return Name("", start, None)
        last, arguments = self._last(found)
        whole = all(parts) and last
        return Name("::".join([*parts, last]) if whole else "", found.start_byte, arguments)

    def _last(self, node: Node) -> tuple[str, Node | None]:
        kind = node.type
        if kind in _TEMPLATED:
            name = node.child_by_field_name("name")
            arguments = node.child_by_field_name("arguments")
            return ("" if name is None else self._last(name)[0]), arguments
        text = self._text(node.start_byte, node.end_byte)
        if self._rewritten and text.startswith("operator_"):
            text = self._file[node.start_byte : node.end_byte].decode("utf-8", "replace")
            kind = "operator_name"
        if kind == "operator_name":
            text = _SPACE.sub("", text)
            word = _OPERATOR_WORD.match(text)
            return (f"operator {word[1]}" if word else text), None
        return (text if kind in _PLAIN else ""), None

    def callee(self, parts: Sequence[Node]) -> Callee | None:
        """What the parts of a call name, or None where they name nothing: ``f(x)(y)``, ``table[i](x)``."""
        node = parts[0]
        if len(parts) > 2 and parts[1].type == "ERROR":  # a.operator[](1), which the grammar does not know
            return self._operator_callee(node, parts[1])
        kind = node.type
        if kind == "field_expression":
            return self._member(node)
        if kind in _NAMED:
            return Callee(self.name(node), None, arrow=False)
        if kind == "parenthesized_expression":  # (std::min)(a, b) keeps macros and lookup by argument away
            inner = self._inside(node)
            return Callee(self.name(inner), None, arrow=False) if inner is not None and inner.type in _NAMED else None
        return None

    def _member(self, node: Node) -> Callee:
        parts = node.children
        arrow = self._code[parts[1].start_byte] == _MINUS
        return Callee(self.name(parts[-1]), parts[0], arrow)

    def _operator_callee(self, subject: Node, rest: Node) -> Callee | None:
        named = rest.children[-1] if rest.child_count else rest
        if named.type != "operator_name":
            return None
        return Callee(self.name(named), subject, arrow=self._code[rest.start_byte] == _MINUS)

    def object(self, called: Callee, room: int = MAX_DEPTH - 1) -> Hint:
        """The hint of what a method is called on."""
        if called.object is None:
            return UNKNOWN
        found = self.hint(called.object, room - called.arrow)
        return pointee(found, room) if called.arrow else found

    def declared(self, written: bytes, deduced: Hint) -> Hint:
        """The hint of a variable of this type; ``deduced`` where that is ``auto``."""
        known, first = read_type(written)
        if first:
            return UNKNOWN if self._get(first) is not None else known
        return deduced

    def deduced(self, value: Node) -> Hint:
        """What ``auto`` stands for before this initialiser."""
        one = value.named_child(0) if value.named_child_count == 1 and value.type in _ENCLOSING else value
        found = UNKNOWN if one is None else self.hint(one)
        return found if len(found[0]) <= MAX_HINT else UNKNOWN

    def spelled(self, written: bytes) -> str:
        """A type in canonical spelling, "" where it is deduced."""
        hint, first = read_type(written)
        return str(json.loads(hint[0])) if first else ""

    # Kinds of expressions. Each takes the node and how deeply its answer may nest.

    def _identifier(self, node: Node, room: int) -> Hint:
        name = self._text(node.start_byte, node.end_byte)
        known = self._get(name)
        if known is not None:
            return known if known[1] <= room else UNKNOWN
        return (f'["name",{quoted(name)}]', 1) if room and name else UNKNOWN

    def _qualified(self, node: Node, room: int) -> Hint:
        name = self.name(node).text
        if not room or not name or self._hides(name):
            return UNKNOWN
        return f'["name",{quoted(name)}]', 1

    def _call(self, node: Node, room: int) -> Hint:
        start, stop = node.start_byte, node.end_byte
        if stop - start <= self.simple_length:
            plain = simple.call_of(self._code[start:stop])
            if plain is not None:
                return self._simple_call(plain, room)
        parts = node.children
        function = parts[0]
        if function.type == "primitive_type":
            return self.type_of(function)
        called = self.callee(parts)
        if called is None or room < 1:
            return UNKNOWN
        name = called.name.text
        if called.object is not None:
            subject = self.object(called, room - 1)
            if subject is UNKNOWN:
                return UNKNOWN
        elif name in CASTS:
            return self._cast_named(called.name)
        else:
            subject = UNKNOWN
        written = self.template_arguments(called.name.arguments)
        return self.called(subject, name, self.arguments(parts[-1], room - 1), written, room)

    def _simple_call(self, call: simple.Call, room: int) -> Hint:
        if room < 1:
            return UNKNOWN
        subject = UNKNOWN
        path = call.path
        name = path.first
        if path.steps:
            subject, name = self.subject(path, room - 1)
            if subject is UNKNOWN:
                return UNKNOWN
        return self.called(subject, name, self.atoms(call.arguments, room - 1), "", room)

    def subject(self, path: simple.Path, room: int = MAX_DEPTH - 1) -> tuple[Hint, str]:
        """The hint of the object in a simple call of a method, and the method's name."""
        arrow, name = path.steps[-1]
        found = self.path(simple.Path(path.first, path.steps[:-1]), room - arrow)
        return (pointee(found, room) if arrow else found), name

    def called(self, subject: Hint, name: str, arguments: list[Hint], written: str, room: int) -> Hint:
        """The hint of a call; without ``subject`` perhaps of a local."""
        if not name or room < 1:
            return UNKNOWN
        if subject is UNKNOWN:
            local = self._get(name)
            if "::" in name and self._hides(name):
                return UNKNOWN
            if local is not None:
                if not callable_object(local) or local[1] >= room:
                    return UNKNOWN
                subject, name = local, "operator()"
        depth = subject[1]
        for argument in arguments:
            depth = max(depth, argument[1])
        head = f'["call",{quoted(name)}' if subject is UNKNOWN else f'["method",{subject[0]},{quoted(name)}'
        tail = f",{written}]" if written else "]"
        return head + ",[" + ",".join([hint for hint, _ in arguments]) + "]" + tail, depth + 1

    def _cast_named(self, name: Name) -> Hint:
        first = None if name.arguments is None else name.arguments.named_child(0)
        return UNKNOWN if first is None else self.type_of(first)

    def _field(self, node: Node, room: int) -> Hint:
        if room < 1:
            return UNKNOWN
        called = self._member(node)
        subject = self.object(called, room - 1)
        if subject is UNKNOWN or not called.name.text:
            return UNKNOWN
        return f'["member",{subject[0]},{quoted(called.name.text)}]', subject[1] + 1

    def _parenthesized(self, node: Node, room: int) -> Hint:
        inner = self._inside(node)
        return UNKNOWN if inner is None else self.hint(inner, room)

    def _inside(self, node: Node) -> Node | None:
        found: Node | None = node
        for _ in range(_MAX_PARENTHESES):
            if found is None or found.type != "parenthesized_expression":
                return found
            found = found.named_child(0)
        return None

    def _this(self, _: Node, room: int) -> Hint:
        return ('["this"]', 1) if room else UNKNOWN

    def _lambda(self, _: Node, room: int) -> Hint:
        return ('["lambda"]', 1) if room else UNKNOWN

    def _literal(self, node: Node, _: int) -> Hint:
        return literal_type(self._code[node.start_byte : min(node.end_byte, node.start_byte + _MAX_LITERAL)]), 0

    def _joined(self, node: Node, room: int) -> Hint:
        first = node.named_child(0)
        return self._literal(first, room) if first is not None and first.type in _STRINGS_OF else ('"const char*"', 0)

    def _user_literal(self, node: Node, room: int) -> Hint:
        parts = node.children
        suffix = literal_operator(self._text(parts[-1].start_byte, parts[-1].end_byte))
        return (f'["call",{quoted(suffix)},[{self.hint(parts[0], 0)[0]}]]', 1) if room else UNKNOWN

    def _bool(self, _: Node, __: int) -> Hint:
        return BOOL

    def _size(self, _: Node, __: int) -> Hint:
        return SIZE

    def _new(self, node: Node, room: int) -> Hint:
        named = node.child_by_field_name("type")
        if named is None:
            return UNKNOWN
        return address(self.type_of(named), room)

    def _cast(self, node: Node, room: int) -> Hint:
        named = node.child_by_field_name("type")
        if named is None:
            return UNKNOWN
        called = parenthesized_call(node, self._code)
        if called is not None:
            name, arguments = called
            return self.called(UNKNOWN, self.name(name).text, self.each(arguments, room - 1), "", room)
        return self.type_of(named)

    def _braced_type(self, node: Node, _: int) -> Hint:
        named = node.child_by_field_name("type")
        return UNKNOWN if named is None else self.type_of(named)

    def _list(self, node: Node, room: int) -> Hint:
        if room < 1:
            return UNKNOWN
        parts = self.arguments(node, room - 1)[:MAX_ARGUMENTS]
        depth = max([depth for _, depth in parts], default=0)
        return '["list",[' + ",".join([hint for hint, _ in parts]) + "]]", depth + 1

    def _pack(self, node: Node, room: int) -> Hint:
        pattern = node.named_child(0)
        found = UNKNOWN if pattern is None or room < 1 else self.hint(pattern, room - 1)
        return (f'["pack",{found[0]}]', found[1] + 1) if room else UNKNOWN

    def _binary(self, node: Node, room: int) -> Hint:
        parts = node.children
        if len(parts) != 3 or self._code[parts[1].start_byte : parts[1].end_byte] == b"<=>":
            return UNKNOWN  # a comment between left, operator and right is rare
        sign = self._code[parts[1].start_byte : parts[1].end_byte]
        if sign in _COMPARISONS:
            return BOOL
        if room < 1:
            return UNKNOWN
        if sign in _SHIFTS:
            return self.hint(self._first_shifted(parts[0]), room - 1)
        one, other = self.hint(parts[0], room - 1), self.hint(parts[2], room - 1)
        if one is UNKNOWN or other is UNKNOWN:
            return UNKNOWN
        known = arithmetic(one[0], other[0], sign) if one[1] == other[1] == 0 else ""
        return (known, 0) if known else (f'["op","{sign.decode()}",{one[0]},{other[0]}]', max(one[1], other[1]) + 1)

    def _first_shifted(self, node: Node) -> Node:
        if node.type != "binary_expression":
            return node
        start = node.start_byte  # that of all in a chain, which would otherwise be walked once for each of its links
        if start != self._chain_start:
            while node.type == "binary_expression":
                node = node.children[0]
            self._chain_start, self._chain_first = start, node
        return self._chain_first or node

    def _unary(self, node: Node, room: int) -> Hint:
        parts = node.children
        sign = self._code[parts[0].start_byte : parts[0].end_byte]
        if sign in (b"!", b"not"):
            return BOOL
        found = self.hint(parts[-1], room - 1) if room else UNKNOWN
        if found[1] == 0:
            return found
        return f'["op","{sign.decode()}",{found[0]}]', found[1] + 1

    def _update(self, node: Node, room: int) -> Hint:
        operand = node.child_by_field_name("argument")
        return UNKNOWN if operand is None or room < 1 else self.hint(operand, room - 1)

    def _assignment(self, node: Node, room: int) -> Hint:
        return self.hint(node.children[0], room - 1) if room else UNKNOWN

    def _comma(self, node: Node, room: int) -> Hint:
        return self.hint(node.children[-1], room - 1) if room else UNKNOWN

    def _conditional(self, node: Node, room: int) -> Hint:
        one = node.child_by_field_name("consequence")
        other = node.child_by_field_name("alternative")
        if one is None or other is None or room < 1:
            return UNKNOWN
        first, second = self.hint(one, room - 1), self.hint(other, room - 1)
        if first[0] == second[0] or second[0] in _SAYS_LITTLE:
            return first
        if first[0] in _SAYS_LITTLE:
            return second
        return f'["cond",{first[0]},{second[0]}]', max(first[1], second[1]) + 1

    def _pointer(self, node: Node, room: int) -> Hint:
        parts = node.children
        if room < 1:
            return UNKNOWN
        found = self.hint(parts[-1], room - 1)
        return pointee(found, room) if self._code[parts[0].start_byte] == _STAR else address(found, room)

    def _subscript(self, node: Node, room: int) -> Hint:
        if room < 1:
            return UNKNOWN
        subject = self.hint(node.children[0], room - 1)
        indices = self.arguments(node.children[-1], room - 1)[:1] or [UNKNOWN]
        return subscripted(subject, indices[0])

    def _text(self, start: int, stop: int) -> str:
        return self._code[start:stop].decode("utf-8", "replace")


def parenthesized_call(node: Node, code: bytes) -> tuple[Node, list[Node]] | None:
    """The name and arguments of ``(std::max)(a, b)``, which the grammar takes for a cast of a comma expression."""
    parts = [part for part in node.children if part.type != "comment"]
    named = parts[1].named_child(0) if len(parts) > 1 and parts[1].named_child_count else None
    if named is None or code[named.end_byte : parts[-1].start_byte].strip() != b")":
        return None
    arguments = listed_by_commas(parts[-1])
    return (named, arguments) if len(arguments) > 1 else None


def listed_by_commas(node: Node) -> list[Node]:
    """The expressions in ``(a, b)``, where that is one expression."""
    found = node.named_child(0) if node.type == "parenthesized_expression" else None
    if found is None or found.start_byte == found.end_byte:
        return []
    arguments: list[Node] = []
    while found.type == "comma_expression" and len(arguments) < MAX_ARGUMENTS:
        pair = found.children
        arguments.append(pair[-1])
        found = pair[0]
    return [found, *reversed(arguments)]


_MINUS, _STAR = b"-*"
_ENCLOSING = frozenset({"argument_list", "initializer_list"})
_SAYS_LITTLE = frozenset({"null", '"std::nullptr_t"'})
_STRINGS_OF = frozenset({"string_literal", "raw_string_literal"})
_NAMED = frozenset(
    {"identifier", "qualified_identifier", "template_function", "dependent_name", "operator_name", "template_type"}
)
