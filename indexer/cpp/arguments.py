"""Arguments of macros, rewritten in as many bytes so that the grammar takes them for parameters or for expressions.

Pure text: it is given what stands between two parentheses of a skeleton.
"""

import re
from collections.abc import Iterator

_SEPARATOR = re.compile(rb"[,(){}\[\]]")
_PARAMETERS = re.compile(rb"[\w\s,:<>*&]*")
_TYPE_WORDS = (
    rb"(?:const|unsigned|signed|int|char|bool|short|long|float|double|void|struct|class|typename|auto)\b"  # in front
)
# Of arguments with their parentheses.
_ODD = re.compile(rb"[-+*/%<>=!&|^~(,](?:(?<=[(,])\s*(?:throw\b|" + _TYPE_WORDS + rb")|(?<=[^(,])\s*[,)])")
_TYPE = re.compile(rb"[-+*/%<>=!&|^~]{1,3}|[\w:<>\s,]{1,200}[*&\s]{0,9}[*&]|" + _TYPE_WORDS + rb"[\w:<>\s,*&]{0,200}")
_COMMA = 44


def split(inner: bytes) -> list[bytes]:
    """Arguments, cut at the commas outside of brackets."""
    parts: list[bytes] = []
    depth = start = 0
    for match in _SEPARATOR.finditer(inner):
        mark = inner[match.start()]
        if mark == _COMMA:
            if depth <= 0:
                parts.append(inner[start : match.start()])
                start = match.end()
        else:
            depth += 1 if mark in b"({[" else -1
    parts.append(inner[start:])
    return parts


def are_parameters(inner: bytes) -> bool:
    """Whether the grammar would read them as the parameters of a function: words and what types are made of."""
    return _PARAMETERS.fullmatch(inner) is not None and not any(
        part.strip()[:1].isdigit() for part in inner.split(b",")
    )


def as_parameters(inner: bytes) -> Iterator[tuple[int, bytes]]:
    """What to write at which offset: strings, numbers and expressions become underscores, which are a type's name."""
    if are_parameters(inner) and b"<" not in inner:
        return
    at = 0
    for part in split(inner):
        words = part.strip()
        if not are_parameters(part) or part.count(b"<") != part.count(b">"):
            yield at + part.index(words), b"_" * len(words)
        at += len(part) + 1


def are_odd(code: bytes | bytearray, opening: int, end: int) -> bool:
    """Whether ``as_expressions`` may have to change what stands in these parentheses."""
    return _ODD.search(code, opening, end) is not None


def as_expressions(inner: bytes) -> Iterator[tuple[int, bytes]]:
    """The same for a call: types and bare operators become names, what is thrown stands without ``throw``."""
    at = 0
    for part in split(inner):
        words = part.strip()
        if words.startswith(b"throw") and words[5:6].isspace():
            yield at + part.index(words), b"     "
        elif words and _TYPE.fullmatch(words):
            yield at + part.index(words), b"_" * len(words)
        at += len(part) + 1
