"""What names mean inside functions: parameters, variables, template parameters, and the usings in sight.

Blocks open and close in the order of the text; a name means what its innermost declaration before that place says. A
lookup costs the same at any depth of nesting. Nothing here knows fields, other functions or other files, and what a
hint says is left to ``hints``.
"""

import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from tree_sitter import Node

from indexer.cpp.hints import MAX_HINT, UNKNOWN, Hint

MAX_USINGS = 64  # in one context; a file of nothing but using-directives would grow with its square
_MAX_NESTING = 64  # pointers to arrays of pointers ...
_NAMES = frozenset({"identifier", "field_identifier", "type_identifier"})
_MAX_BARE = 3  # calls inside calls among arguments that look like parameters
_BARE = frozenset({"type_identifier", "qualified_identifier"})
_SHAPES = {"pointer_declarator": "*", "reference_declarator": "&", "array_declarator": "[]"}
_STORAGE = re.compile(
    rb"\b(?:static|constexpr|constinit|extern|inline|mutable|thread_local|register|volatile|friend|__thread)\b"
    rb"|\balignas\s{0,9}\([^()]{0,200}\)|\[\[[^\]]{0,200}\]\]"
    rb"|\b__attribute__\s{0,9}\(\([^()]{0,200}(?:\([^()]{0,200}\))?[^()]{0,200}\)\)"
)
_MAX_USING = 400  # bytes
_QUALIFIED = re.compile(r"\w[\w:]*")


class Declarator(NamedTuple):
    """One declared name: where it stands, and the text of its type around it."""

    names: tuple[str, ...]  # several for a structured binding
    type: bytes  # the declaration without its name, its storage class and its initialiser
    # The outermost part of the type: "", "*", "&", "[]", "()" of a function, "(*)" of a pointer to one, or "bind".
    shape: str
    start: int  # byte offset of the name


class Declaration(NamedTuple):
    """One declarator and its initialiser."""

    declarator: Declarator
    node: Node  # of the declarator
    value: Node | None
    assigned: bool  # behind "="


class Bare(NamedTuple):
    """An argument that looks like a parameter: ``start`` or ``size(start)``."""

    name: Node
    arguments: "tuple[Bare, ...] | None"  # of a call


class Locals:
    """The names in sight at one place of a function, moving forward through the text."""

    def __init__(self) -> None:
        self._hints: dict[str, Hint] = {}
        self.get = self._hints.get  # name -> what is known of it, None where it is no local
        self.end = sys.maxsize  # of the innermost block
        self._ends: list[int] = []  # of the blocks around it
        self._hidden: list[list[tuple[str, Hint | None]]] = [[]]  # by block: what its names meant outside
        self.usings: tuple[str, ...] = ()  # as in Context.usings
        self._usings: list[tuple[str, ...]] = []  # of the blocks around it

    def open(self, end: int) -> None:
        """A block that reaches to this offset, or to the end of the one around it."""
        self._ends.append(self.end)
        self.end = min(self.end, end)
        self._hidden.append([])
        self._usings.append(self.usings)

    def leave(self, start: int) -> None:
        """Closes the blocks that end at or before this offset."""
        while self.end <= start:
            self.end = self._ends.pop()
            self.usings = self._usings.pop()
            for name, before in reversed(self._hidden.pop()):
                if before is None:
                    del self._hints[name]
                else:
                    self._hints[name] = before

    def declare(self, name: str, hint: Hint) -> None:
        """From here to the end of the innermost block."""
        self._hidden[-1].append((name, self._hints.get(name)))
        self._hints[name] = hint

    def declare_type(self, name: str) -> None:
        """A template parameter: unlike a variable, it hides what stands before a ``::`` as well."""
        self.declare(name, UNKNOWN)
        self.declare(name + "::", UNKNOWN)

    def hides(self, name: str) -> bool:
        """Whether a local or template parameter stands before what a name, qualified or not, would mean elsewhere."""
        end = name.find("::")
        return self.get(name if end < 0 else name[: end + 2]) is not None

    def use(self, using: str) -> None:
        """A using-directive, using-declaration or alias, in the spelling of ``Context.usings``."""
        if len(self.usings) < MAX_USINGS and using not in self.usings:
            self.usings = (*self.usings, using)


def declarations(node: Node, code: bytes, start: int | None = None) -> Iterator[Declaration]:
    """What a declaration, field, parameter, condition or range-for declares; its type begins at ``start``."""
    listed = node.children_by_field_name("declarator")
    if not listed:
        return
    start = node.start_byte if start is None else start
    stop = listed[0].start_byte
    before = code[start:stop] if stop - start <= MAX_HINT else b"auto "
    for target in listed:
        value: Node | None = None
        assigned = False
        declarator = target
        if target.type == "init_declarator":
            parts = target.children
            declarator, value = parts[0], parts[-1]
            assigned = len(parts) > 2
        found = declarator_of(declarator, before, code)
        if found is not None:
            yield Declaration(found, declarator, value, assigned)


def declarator_of(declarator: Node, before: bytes, code: bytes) -> Declarator | None:
    """The name in a declarator; ``before`` is the text of the type on its left."""
    node: Node | None = declarator
    shape = ""
    for _ in range(_MAX_NESTING):
        if node is None:
            return None
        kind = node.type
        if kind in _NAMES:
            start, stop = node.start_byte, node.end_byte
            if start == stop:
                return None
            left, right = declarator.start_byte, declarator.end_byte
            around = code[left:start] + b" " + code[stop:right] if right - left <= MAX_HINT else b" auto"
            return Declarator((_text(code, start, stop),), plain_type(before + b" " + around), shape, start)
        if kind == "structured_binding_declarator":
            names = tuple(_text(code, part.start_byte, part.end_byte) for part in node.named_children)
            return Declarator(names, b"auto", "bind", node.start_byte)
        if kind.startswith("abstract_"):
            return None  # the parameters in it are those of a type
        shape = _shape(kind, shape)
        following = node.child_by_field_name("declarator")
        if following is None:
            count = node.named_child_count
            following = node.named_child(count - 1) if count else None
        node = following
    return None


def _shape(kind: str, outer: str) -> str:
    if kind == "function_declarator":
        return "()"
    if outer == "()" and kind in ("pointer_declarator", "reference_declarator"):
        return "(*)"
    return outer or _SHAPES.get(kind, "")


def bare_arguments(listed: Node | None, nesting: int = _MAX_BARE) -> tuple[Bare, ...] | None:
    """The arguments in what the grammar took for parameters, or None where they are parameters."""
    if listed is None or nesting < 0:
        return None
    arguments: list[Bare] = []
    for parameter in listed.named_children:
        if parameter.type == "comment":
            continue
        parts = parameter.children
        called = parts[-1].child(0) if len(parts) == 2 and parts[1].type == "abstract_function_declarator" else None
        inner = () if len(parts) == 1 else bare_arguments(called, nesting - 1)
        if not parts or parts[0].type not in _BARE or inner is None:
            return None
        arguments.append(Bare(parts[0], inner if called is not None else None))
    return tuple(arguments)


@lru_cache(maxsize=8192)
def plain_type(written: bytes) -> bytes:
    """A declared type without what only says how the variable is stored."""
    return _STORAGE.sub(b" ", written).strip()


def using_of(node: Node, code: bytes) -> tuple[str, str]:
    """("namespace", "std"), ("enum", "Color") or ("", "std::swap"); the name is "" where none can be read."""
    text = code[node.start_byte : min(node.end_byte, node.start_byte + _MAX_USING)].decode("utf-8", "replace")
    words = text.rstrip(" ;").split()[1:]  # behind "using"
    word = words.pop(0) if words and words[0] in ("namespace", "enum", "typename") else ""
    name = "".join(words).removeprefix("::")
    return ("" if word == "typename" else word), (name if _QUALIFIED.fullmatch(name) else "")


def _text(code: bytes, start: int, stop: int) -> str:
    return code[start:stop].decode("utf-8", "replace")
