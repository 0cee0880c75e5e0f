"""Which operators of an expression may be those of a class of the tree.

Most operators of any code add numbers and compare pointers, and use nothing. Kept are those with an operand that is
surely of a class, those between two fields or results of which only another declaration tells the type, and what is
printed to a stream of the standard library. What an operator then means, nothing here asks.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tree_sitter import Node

from indexer.cpp.expressions import Expressions, listed_by_commas
from indexer.cpp.hints import UNKNOWN, Hint, Weight, weigh
from indexer.cpp.locals import Locals

_OPERATOR = b"operator"
_OPEN = (Weight.OPEN, Weight.OPEN)
_PRINTED = (Weight.STANDARD, Weight.OPEN)
_STREAMING = frozenset({"<<", ">>"})
_NOT_TYPED = frozenset({"call_expression", "field_expression", "template_function"})  # casts apart, which few add up
_INT: Hint = ('"int"', 0)  # the argument that tells x++ from ++x


class Operator(NamedTuple):
    """The use of an operator."""

    sign: str  # "+"
    start: int  # byte offset of the sign
    left: Hint  # the only operand of an operator in front
    right: Sequence[Hint]


class Operators:
    """The operators of one file. Each method gives None for an operator that is no use."""

    def __init__(self, code: bytes, expressions: Expressions) -> None:
        self._code = code
        self._hint = expressions.hint
        self._arguments = expressions.arguments

    def called(self, node: Node) -> Operator | None:
        """``operator==(a, b)``, which the grammar takes for a comparison of a name; ``right`` holds all arguments."""
        parts = node.children
        left = parts[0].end_byte
        if self._code[left - len(_OPERATOR) : left] != _OPERATOR or parts[-1].type != "parenthesized_expression":
            return None
        arguments = [self._hint(argument) for argument in listed_by_commas(parts[-1])]
        return Operator(self._written(parts[1]), parts[1].start_byte, UNKNOWN, arguments)

    def binary(self, node: Node) -> Operator | None:
        """``left + right``."""
        parts = node.children
        if len(parts) != 3:  # a comment between them is rare
            return None
        weights = self._weight(parts[0]), self._weight(parts[2])
        sign = self._written(parts[1])
        if Weight.CLASS in weights or weights == _OPEN or (weights == _PRINTED and sign in _STREAMING):
            return Operator(sign, parts[1].start_byte, self._hint(parts[0]), (self._hint(parts[2]),))
        return None

    def _weight(self, node: Node) -> Weight:
        """The weight of an operand, without its hint where that could not show a class."""
        return Weight.OPEN if node.type in _NOT_TYPED else weigh(self._hint(node))

    def assignment(self, node: Node) -> Operator | None:
        """``local = right``, ``*local += right``."""
        parts = node.children
        left = self._hint(parts[0])
        if weigh(left) is Weight.CLASS:
            return Operator(self._written(parts[1]), parts[1].start_byte, left, (self._hint(parts[-1]),))
        return None

    def subscript(self, node: Node) -> Operator | None:
        """``left[index]``."""
        parts = node.children
        left = self._hint(parts[0])
        if weigh(left) in (Weight.CLASS, Weight.OPEN):
            return Operator("[]", parts[-1].start_byte, left, self._arguments(parts[-1]))
        return None

    def unary(self, operand: Node, names: Locals) -> Operator | None:
        """``!local``, ``local++``, ``*local``."""
        subject = self._object(operand, names)
        node = operand.parent if subject is not None else None
        if subject is None or node is None:
            return None
        parts = node.children
        after = parts[0].type == "identifier"
        sign = parts[-1] if after else parts[0]
        return Operator(self._written(sign), sign.start_byte, subject, (_INT,) if after else ())

    def arrow(self, operand: Node, names: Locals) -> Operator | None:
        """``local->``."""
        subject = self._object(operand, names)
        return None if subject is None else Operator("->", operand.end_byte, subject, ())

    def _object(self, operand: Node, names: Locals) -> Hint | None:
        """The hint of a local that is an object of a class."""
        subject = names.get(self._written(operand))
        return subject if subject is not None and weigh(subject) is Weight.CLASS else None

    def _written(self, node: Node) -> str:
        return self._code[node.start_byte : node.end_byte].decode("utf-8", "replace")
