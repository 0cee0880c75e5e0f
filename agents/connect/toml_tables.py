"""One table put into or taken out of TOML that people wrote, by whole lines: every other line stays as it is.

Where the tables of a text begin and end is told by its own look at strings, brackets and comments; that nothing but
the one table has changed is told by tomllib, before and after.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.connect.appending import appended, newline_of, taken
from agents.errors import ConnectError

_BY_HAND = "Change it by hand; see docs/agents.md."
_PART = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*+"|\'[^\'\n]*+\'|#[^\r\n]*+|[\[{]|[\]}]|\n|[^\s#"\'\[\]{}]++',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Line:
    """An expression: a header with the path it names, or a key with its value. The comment behind it is part of it."""

    start: int
    end: int
    path: tuple[str, ...] | None


def put(text: str | None, path: tuple[str, ...], table: Mapping[str, Any]) -> str:
    """The text with the table at its end, or in place of what the table held. None is no file yet.

    Values are texts, whole numbers, truth values and lists of texts. Raises ConnectError where the text is broken, or
    the table stands there in another form, such as in braces.
    """
    before = _read(text or "")
    if _told(before, path) == table:
        return text or ""
    block = "\n".join((f"[{'.'.join(path)}]", *(f"{key} = {_written(value)}" for key, value in table.items())))
    span = _span(text or "", path, before)
    if span is None or text is None:
        return _proved(before, appended(text, block), path, table)
    block = block.replace("\n", newline_of(text))
    return _proved(before, text[: span[0]] + block + text[span[1] :], path, table)


def take(text: str, path: tuple[str, ...]) -> str | None:
    """The text without the table and those below it; None where nothing is left but what ``put`` makes of no file.

    Raises ConnectError as ``put`` does.
    """
    before = _read(text)
    span = _span(text, path, before)
    if span is None:
        return text
    left = taken(text, *span)
    return left if left is None else _proved(before, left, path, None)


def shown(text: str, path: tuple[str, ...]) -> Any:
    """What the table holds, None where there is none. Raises ConnectError where the text is broken."""
    return _told(_read(text), path)


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise ConnectError(f"This is no TOML: {what}.", "Mend the file first; nothing was written.") from error


def _written(value: object) -> str:
    # What JSON escapes in a text TOML reads likewise.
    return json.dumps(value, ensure_ascii=False)


def _lines(text: str) -> list[_Line]:
    """The expressions of a text that tomllib has read."""
    found: list[_Line] = []
    depth, start, end = 0, -1, 0
    for part in _PART.finditer(text):
        first = text[part.start()]
        if first == "\n":
            if not depth and start >= 0:
                found.append(_Line(start, end, _header(text[start:end])))
                start = -1
            continue
        if first == "#":
            end = part.end() if start >= 0 else end
            continue
        if start < 0:
            start = part.start()
        end = part.end()
        depth += (first in "[{") - (first in "]}")
    if start >= 0:
        found.append(_Line(start, end, _header(text[start:end])))
    return found


def _header(line: str) -> tuple[str, ...] | None:
    if not line.startswith("["):
        return None
    path: list[str] = []
    inner: Any = tomllib.loads(line)
    while inner:
        if isinstance(inner, list):
            inner = inner[0]
            continue
        (name, inner) = next(iter(inner.items()))
        path.append(name)
    return tuple(path)


def _span(text: str, path: tuple[str, ...], read: dict[str, Any]) -> tuple[int, int] | None:
    """From the header of the table to the end of its last line; None where there is none."""
    own: list[_Line] = []
    inside, ended = False, False
    for line in _lines(text):
        if line.path is not None:
            inside = line.path[: len(path)] == path
            if inside and ended:
                raise ConnectError(f"What belongs to [{'.'.join(path)}] stands in several places.", _BY_HAND)
        if inside:
            own.append(line)
        elif own:
            ended = True
    if not own and _told(read, path) is not None:
        raise ConnectError(f"{'.'.join(path)} is not written as a table of its own.", _BY_HAND)
    return (own[0].start, own[-1].end) if own else None


def _told(read: dict[str, Any], path: tuple[str, ...]) -> Any:
    inner: Any = read
    for name in path:
        if not isinstance(inner, dict) or name not in inner:
            return None
        inner = inner[name]
    return inner


def _others(read: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """All but that table; a table that holds nothing else is as good as none."""
    rest = dict(read)
    name, *inner = path
    if name in rest and not inner:
        del rest[name]
    elif isinstance(rest.get(name), dict):
        rest[name] = _others(rest[name], tuple(inner))
        if not rest[name]:
            del rest[name]
    return rest


def _proved(before: dict[str, Any], after: str, path: tuple[str, ...], table: Mapping[str, Any] | None) -> str:
    """The changed text, once tomllib has seen that it says what it said before but for that one table."""
    try:
        read = tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        raise ConnectError(f"[{'.'.join(path)}] cannot be put in: {error}.", _BY_HAND) from error
    # Compared as written, because a value that is no number is not equal to itself.
    if _told(read, path) != table or repr(_others(before, path)) != repr(_others(read, path)):
        raise ConnectError("The file cannot be changed without changing more.", _BY_HAND)
    return after
