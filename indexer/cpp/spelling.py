"""Turns stretches of C++ into the words shown for them: signatures, names of tests, qualified names of types.

Pure text. It is asked about places that someone else found in a tree.
"""

import re

from tree_sitter import Node

MAX_SIGNATURE = 400  # characters
MAX_TEST_NAME = 120  # characters

_SPACE = re.compile(r"\s+")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ARGUMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^,]+')
_WORD_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_DIRECTIVE = re.compile(r"^[ \t]*#[^\n]*", re.MULTILINE)
_LESS, _GREATER = b"<>"
_MAX_ARGUMENTS = 400  # bytes of template arguments that are stepped over: keeps a search linear


def one_line(heading: str) -> str:
    """A declaration on one line, without comments, conditions of the preprocessor and what ends it."""
    if "/" in heading:
        heading = _COMMENT.sub(" ", heading)
    if "\n" in heading and "#" in heading and not heading.startswith("#"):
        heading = _DIRECTIVE.sub(" ", heading)
    line = _SPACE.sub(" ", heading.replace("\\\n", " ")).strip(" ;{").replace(" )", ")")
    return line if len(line) <= MAX_SIGNATURE else line[: MAX_SIGNATURE - 4] + " ..."


def with_name(heading: str, name: str) -> str:
    """The heading of a type; ``typedef struct {...} Name`` has its name behind the body."""
    return heading if name in heading else f"{heading.rstrip()} {name}"


def test_name(heading: str) -> str:
    """``DBTest.Empty`` of ``TEST_F(DBTest, Empty)``, the words of ``TEST_CASE("the words", "[tag]")``."""
    arguments = heading.partition("(")[2].rpartition(")")[0]
    parts = [part.strip().strip('"') for part in _ARGUMENT.findall(arguments)]
    named = [part for part in parts if part and not part.startswith("[")]
    return _SPACE.sub(" ", ".".join(named))[:MAX_TEST_NAME] or one_line(heading)[:MAX_TEST_NAME]


def argument_starts(node: Node) -> list[int]:
    """Where the arguments of a macro begin that the grammar took for the parameters of a function."""
    declarator = node.child_by_field_name("declarator")
    parameters = None if declarator is None else declarator.child_by_field_name("parameters")
    return [] if parameters is None else [child.start_byte for child in parameters.named_children]


def qualifier_before(code: bytes, start: int) -> str:
    """The ``a::b::`` that stands before the name at this offset, without template arguments."""
    parts: list[str] = []
    while code[max(0, start - 2) : start] == b"::":
        stop = start - 2
        if code[max(0, stop - 1) : stop] == b">":
            stop = _opening_angle(code, stop)
        start = stop
        while start > 0 and code[start - 1] in _WORD_BYTES:
            start -= 1
        if start == stop:
            break
        parts.append(code[start:stop].decode("utf-8", "replace") + "::")
    return "".join(reversed(parts))


def _opening_angle(code: bytes, stop: int) -> int:
    """The offset of the ``<`` that the ``>`` right before ``stop`` closes, or ``stop`` when it is not near."""
    depth = 0
    for index in range(stop - 1, max(-1, stop - _MAX_ARGUMENTS), -1):
        if code[index] == _GREATER:
            depth += 1
        elif code[index] == _LESS:
            depth -= 1
            if depth == 0:
                return index
    return stop


def line_before(text: bytes, at: int) -> bytes:
    """What stands before an offset on its line; of a very long line only the end, to stay linear."""
    line = text[max(0, at - 400) : at]
    return line[line.rfind(b"\n") + 1 :]
