"""Finds the scopes in what the parser could not make sense of, so that what stands in them keeps its name.

It sees one node and the text; what becomes of a scope is not its business.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tree_sitter import Node

_SCOPE_WORDS = frozenset({"namespace", "class", "struct", "union"})
_NAMES = frozenset({"identifier", "type_identifier", "namespace_identifier", "nested_namespace_specifier"})
_BETWEEN_NAME_AND_BRACE = frozenset({"base_class_clause", "virtual_specifier", "comment"})
_DISGUISED = re.compile(
    rb"\b(namespace|class|struct|union)\s+(?:\w+\s+)*?([A-Za-z_][\w:]*)\s*(?:final\b\s*)?(?::[^:{][^{]*)?$"
)
_MAX_HEADING = 1000  # bytes between such a word and its brace


class Lost(NamedTuple):
    """A scope without a node of its own. Offsets in bytes, ``end`` exclusive."""

    word: str  # "namespace", "class", "struct" or "union"
    name: str
    name_start: int
    start: int
    end: int


def lost_scopes(error: Node, code: bytes) -> Iterator[Lost]:
    """The scopes that the loose tokens of an ERROR node open, each up to its brace or the end of the error."""
    word = name = ""
    name_start = start = 0
    opened: list[Lost] = []
    for child in error.children:
        kind = child.type
        if kind in _SCOPE_WORDS:
            word, name, start = kind, "", child.start_byte
        elif kind in _NAMES and not name:
            name_start = child.start_byte
            name = "".join(code[name_start : child.end_byte].decode("utf-8", "replace").split())
        elif kind == "{":
            opened.append(Lost(word, name, name_start, start, error.end_byte))
            word = name = ""
        elif kind == "}" and opened:
            yield from _named(opened.pop()._replace(end=child.end_byte))
        elif kind not in _BETWEEN_NAME_AND_BRACE and kind not in _NAMES:
            word = ""
    for left in opened:
        yield from _named(left)


def disguised_scope(definition: Node, code: bytes) -> Lost | None:
    """The namespace or class that an unknown macro before it made look like a function without parameters."""
    body = definition.child_by_field_name("body")
    start = definition.start_byte
    stop = definition.end_byte if body is None else body.start_byte
    found = _DISGUISED.search(code[start : min(stop, start + _MAX_HEADING)].rstrip())
    if found is None:
        return None
    word, name = found[1].decode(), found[2].decode()
    return Lost(word, name, start + found.start(2), start + found.start(), definition.end_byte)


def _named(scope: Lost) -> Iterator[Lost]:
    if scope.word and scope.name:
        yield scope
