"""Which operators of an expression may be those of a class of the tree.

Most operators of any code add numbers and compare pointers, and use nothing. Kept are those with an operand that is
surely of a class, those between two fields or results of which only another declaration tells the type, and what is
printed to a stream of the standard library. What an operator then means, nothing here asks.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tree_sitter import Node

from indexer.cpp.expressions import Expressions, listed_by_commas
from indexer.cpp.hints import UNKNOWN, Hint, Weight, weigh
from indexer.cpp.locals import Locals

_OPERATOR = b"operator"
_LAST_OF_OPERATOR = _OPERATOR[-1]
_LOGIC = frozenset({"&&", "||", "and", "or"})
_UNARY = re.compile(rb"(\*|\+\+|--|[!~+-])\s*([A-Za-z_]\w*)|([A-Za-z_]\w*)\s*(\+\+|--)")
_ARROW = re.compile(rb"([A-Za-z_]\w*)\s*->")
_TEXTUAL = frozenset({"==", "!=", "<", ">", "+"})  # what strings are given to
_OPEN_AND_TEXT = {Weight.OPEN, Weight.TEXT}
_ADDED = frozenset({Weight.OPEN, Weight.TEXT})  # what += may add to a field
_STREAMING = frozenset({"<<", ">>"})
# Of operands that are not looked at more closely. Casts apart, which few add up, no call shows a class.
_WEIGHTS = dict.fromkeys(("call_expression", "field_expression", "template_function"), Weight.OPEN) | dict.fromkeys(
    ("number_literal", "char_literal", "null", "true", "false"), Weight.BUILTIN
)
_INT: Hint = ('"int"', 0)  # the argument that tells x++ from ++x


class Operator(NamedTuple):
    """The use of an operator."""

    sign: str  # "+"
    start: int  # byte offset of the sign
    left: Hint  # the only operand of an operator in front
    right: Sequence[Hint]


class Operators:
    """The operators of one file. Each method gives None for an operator that is no use."""

    def __init__(self, code: bytes, expressions: Expressions, names: Locals) -> None:
        self._code = code
        self._get = names.get
        self._hint = expressions.hint
        self._arguments = expressions.arguments

    def called(self, node: Node) -> Operator | None:
        """``operator==(a, b)``, which the grammar takes for a comparison of a name; ``right`` holds all arguments."""
        parts = node.children
        left = parts[0].end_byte
        if self._code[left - 1] != _LAST_OF_OPERATOR or self._code[left - len(_OPERATOR) : left] != _OPERATOR:
            return None
        if parts[-1].type != "parenthesized_expression":
            return None
        arguments = [self._hint(argument) for argument in listed_by_commas(parts[-1])]
        return Operator(self._written(parts[1]), parts[1].start_byte, UNKNOWN, arguments)

    def binary(self, node: Node) -> Operator | None:
        """``left + right``."""
        parts = node.children
        if len(parts) != 3:  # a comment between them is rare
            return None
        sign = self._written(parts[1])
        if sign in _LOGIC:
            return None
        one, other = self._weight(parts[0]), self._weight(parts[2])
        of_a_class = one is Weight.CLASS or other is Weight.CLASS
        printed = one is Weight.STANDARD and other is Weight.OPEN and sign in _STREAMING
        compared = sign in _TEXTUAL and {one, other} == _OPEN_AND_TEXT
        if of_a_class or printed or compared or one is other is Weight.OPEN:
            return Operator(sign, parts[1].start_byte, self._hint(parts[0]), (self._hint(parts[2]),))
        return None

    def _weight(self, node: Node) -> Weight:
        return _WEIGHTS.get(node.type) or weigh(self._hint(node))

    def assignment(self, node: Node) -> Operator | None:
        """``left = right``, ``left += right``."""
        parts = node.children
        one, other = self._weight(parts[0]), self._weight(parts[-1])
        sign = self._written(parts[1])
        may_be = one is Weight.CLASS or (one is Weight.OPEN and other is Weight.CLASS)
        if one is Weight.OPEN and sign == "=":
            may_be = may_be or parts[-1].type == "call_expression"
        elif one is Weight.OPEN:
            may_be = may_be or other in _ADDED or self._get(self._written(parts[0])) is not None
        if may_be:
            return Operator(sign, parts[1].start_byte, self._hint(parts[0]), (self._hint(parts[-1]),))
        return None

    def subscript(self, node: Node) -> Operator | None:
        """``left[index]``."""
        parts = node.children
        left = self._hint(parts[0])
        if weigh(left) in (Weight.CLASS, Weight.OPEN):
            return Operator("[]", parts[-1].start_byte, left, self._arguments(parts[-1]))
        return None

    def unary(self, node: Node) -> Operator | None:
        """``!local``, ``local++``, ``*local``."""
        found = _UNARY.fullmatch(self._code, node.start_byte, node.end_byte)
        if found is None:
            return None
        before, behind = found[1], found[4]
        subject = self._object(found[2] or found[3])
        if subject is None:
            return None
        sign = before or behind
        start = found.start(1) if before else found.start(4)
        return Operator(sign.decode(), start, subject, () if before else (_INT,))

    def arrow(self, node: Node) -> Operator | None:
        """``local->``."""
        found = _ARROW.match(self._code, node.start_byte, node.end_byte)
        subject = None if found is None else self._object(found[1])
        return None if subject is None or found is None else Operator("->", found.end() - len("->"), subject, ())

    def _object(self, name: bytes) -> Hint | None:
        """The hint of a local that is an object of a class."""
        subject = self._get(name.decode())
        return subject if subject is not None and weigh(subject) is Weight.CLASS else None

    def _written(self, node: Node) -> str:
        return self._code[node.start_byte : node.end_byte].decode("utf-8", "replace")
