"""One member put into or taken out of JSON that people wrote, by spans: every other byte stays as it is.

Read is what the clients read: JSON with comments and trailing commas. What is put in is laid out so that taking it out
again restores the text exactly, also where the object around it was empty, was on one line, or was not there at all.
It knows nothing of clients or files.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from agents.errors import ConnectError

_DEEPEST = 200  # levels; far below where Python's own stack ends
_TOKEN = re.compile(
    r"[ \t\r\n]*+(?:(?P<comment>//[^\r\n]*+|/\*.*?\*/)"
    r'|(?P<text>"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)|(?P<word>true|false|null)"
    r"|(?P<mark>[{}\[\],:])|(?P<end>\Z))",
    re.DOTALL,
)
_SPACE = re.compile(r"[ \t\r\n]*+")
_COMMENT = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_NEWLINE = re.compile(r"\r\n?|\n")
_WORDS = {"true": True, "false": False, "null": None}
_CLOSING = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class Item:
    """A value with its span, its key where it is a member, and the comma that follows it."""

    key: str  # "" in a list
    start: int  # of the key, or of the value in a list
    value: "Node"
    comma: int  # where it stands; -1 for none


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands; objects and lists with their items."""

    start: int
    end: int
    opening: str = ""  # "{", "[", or "" for a plain value
    plain: Any = None
    items: tuple[Item, ...] = field(default=())

    def value(self) -> Any:
        """As ``json.loads`` would give it; of two members of one name the last."""
        if self.opening == "{":
            return {item.key: item.value.value() for item in self.items}
        if self.opening == "[":
            return [item.value.value() for item in self.items]
        return self.plain


def read(text: str) -> Node:
    """The value that a text holds. Raises ConnectError with line and column where it is broken."""
    return _Reader(text).document()


def put(text: str | None, container: str, key: str, value: Any) -> str:
    """The text with one more member in an object that is a member of the outermost one, or with its value replaced.

    A value with ``key`` as its "id" goes into a list instead. None is no file yet. Raises ConnectError where the text
    is broken, or the container is there and of another kind.
    """
    opening = "[" if isinstance(value, dict) and value.get("id") == key else "{"
    if text is None:
        return _laid_out({container: _wrapped(opening, key, value)}, "  ", "\n", "") + "\n"
    root = _root(text)
    holder = _member(root, container, text)
    unit, newline = _unit(text, root), _newline(text)
    if holder is None:
        nested, indent = _wrapped(opening, key, value), _room(text, root, unit)
        written = _padded(nested) if indent is None else _laid_out(nested, unit, newline, indent)
        changed = _inserted(text, root, f"{json.dumps(container)}: {written}", unit)
        return _proved(root, changed, container, key, value)
    if holder.value.opening != opening:
        raise _wrong(text, holder.value.start, f"{container!r} is no {'object' if opening == '{' else 'list'}")
    found = _find(holder.value, key, text)
    if found is not None:
        if found.value.value() == value:
            return text
        old = text[found.value.start : found.value.end]
        indent = _line_indent(text, found.start)
        written = _laid_out(value, unit, newline, indent) if _NEWLINE.search(old) else _compact(value)
        changed = text[: found.value.start] + written + text[found.value.end :]
        return _proved(root, changed, container, key, value)
    room = _room(text, holder.value, unit)
    written = _compact(value) if room is None else _laid_out(value, unit, newline, room)
    prefix = f"{json.dumps(key)}: " if opening == "{" else ""
    return _proved(root, _inserted(text, holder.value, prefix + written, unit), container, key, value)


def take(text: str, container: str, key: str) -> str | None:
    """The text without that member, and without the container where ``put`` made it.

    None where nothing is left but what ``put`` would make of no file. Raises ConnectError where the text is broken.
    """
    root = _root(text)
    holder = _member(root, container, text)
    found = None if holder is None else _find(holder.value, key, text)
    if holder is None or found is None:
        return text
    changed, was_made = _removed(text, holder.value, found)
    if was_made:
        changed, was_made = _removed(text, root, holder)
        if was_made and text[: root.start] == "" and text[root.end :] == "\n":
            return None
    return _proved(root, changed, container, key, None)


def shown(text: str, container: str, key: str) -> Any:
    """The value of that member, None where there is none. Raises ConnectError where the text is broken."""
    holder = _member(_root(text), container, text)
    found = None if holder is None else _find(holder.value, key, text)
    return None if found is None else found.value.value()


class _Reader:
    """Tokens into values, by going down; bounded in depth."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind = ""
        self._start = 0
        self._next()

    def document(self) -> Node:
        value = self._value(0)
        if self._kind:
            raise _wrong(self._text, self._start, "there is more after the end")
        return value

    def _next(self) -> None:
        while True:
            token = _TOKEN.match(self._text, self._at)
            if token is None:
                space = _SPACE.match(self._text, self._at)
                raise _wrong(self._text, space.end() if space else self._at, "this is no JSON")
            kind = str(token.lastgroup)
            self._start, self._at = token.span(kind)
            if kind != "comment":
                self._kind = "" if kind == "end" else token[kind] if kind == "mark" else kind
                return

    def _value(self, depth: int) -> Node:
        start, kind = self._start, self._kind
        written = self._text[start : self._at]
        if kind in ("{", "["):
            if depth == _DEEPEST:
                raise _wrong(self._text, start, "it is nested too deeply")
            return self._inner(start, kind, depth)
        if kind == "text":
            node = Node(start, self._at, plain=json.loads(written))
        elif kind == "number":
            if len(written) > _DEEPEST:
                raise _wrong(self._text, start, "the number is too long")
            node = Node(start, self._at, plain=json.loads(written))
        elif kind == "word":
            node = Node(start, self._at, plain=_WORDS[written])
        else:
            raise _wrong(self._text, start, "a value is missing" if kind else "it ends too early")
        self._next()
        return node

    def _inner(self, start: int, opening: str, depth: int) -> Node:
        items: list[Item] = []
        self._next()
        while self._kind != _CLOSING[opening]:
            at, key = self._start, ""
            if opening == "{":
                if self._kind != "text":
                    raise _wrong(self._text, at, "a name in quotes is missing" if self._kind else "it ends too early")
                key = json.loads(self._text[at : self._at])
                self._next()
                if self._kind != ":":
                    raise _wrong(self._text, self._start, "a colon is missing")
                self._next()
            value = self._value(depth + 1)
            comma = self._start if self._kind == "," else -1
            items.append(Item(key, at, value, comma))
            if comma >= 0:
                self._next()
            elif self._kind != _CLOSING[opening]:
                raise _wrong(self._text, self._start, "a comma is missing" if self._kind else "it ends too early")
        end = self._at
        self._next()
        return Node(start, end, opening, None, tuple(items))


def _wrong(text: str, at: int, what: str) -> ConnectError:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return ConnectError(f"Line {line}, column {column}: {what}.", "Mend the file first; nothing was written.")


def _root(text: str) -> Node:
    root = read(text)
    if root.opening != "{":
        raise _wrong(text, root.start, "the outermost value is no object")
    return root


def _member(node: Node, key: str, text: str) -> Item | None:
    found = [item for item in node.items if item.key == key]
    if len(found) > 1:
        raise _wrong(text, found[1].start, f"{key!r} stands there twice")
    return found[0] if found else None


def _find(node: Node, key: str, text: str) -> Item | None:
    if node.opening == "{":
        return _member(node, key, text)
    found = [item for item in node.items if item.value.opening == "{" and item.value.value().get("id") == key]
    if len(found) > 1:
        raise _wrong(text, found[1].start, f"{key!r} stands there twice")
    return found[0] if found else None


def _wrapped(opening: str, key: str, value: Any) -> Any:
    return [value] if opening == "[" else {key: value}


# -- layout: what is put in says by its white space what was there before


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _padded(value: Any) -> str:
    """On one line, with the spaces inside by which a container of ours is told from one that was there."""
    written = _compact(value)
    return f"{written[0]} {written[1:-1]} {written[-1]}"


def _laid_out(value: Any, unit: str, newline: str, indent: str) -> str:
    """Over several lines, but lists of plain values on one."""
    if isinstance(value, dict) and value:
        return _object(value, unit, newline, indent)
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        inner = [indent + unit + _laid_out(part, unit, newline, indent + unit) for part in value]
        return f"[{newline}{(',' + newline).join(inner)}{newline}{indent}]"
    return _compact(value)


def _object(value: dict[str, Any], unit: str, newline: str, indent: str) -> str:
    inner = [
        f"{indent}{unit}{json.dumps(key, ensure_ascii=False)}: {_laid_out(part, unit, newline, indent + unit)}"
        for key, part in value.items()
    ]
    return f"{{{newline}{(',' + newline).join(inner)}{newline}{indent}}}"


def _newline(text: str) -> str:
    found = _NEWLINE.search(text)
    return found.group() if found else "\n"


def _line_start(text: str, at: int) -> int:
    return max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1


def _line_indent(text: str, at: int) -> str:
    """The white space that the line begins with."""
    start = _line_start(text, at)
    end = start
    while end < len(text) and text[end] in " \t":
        end += 1
    return text[start:end]


def _begins_line(text: str, at: int) -> bool:
    return not text[_line_start(text, at) : at].strip(" \t")


def _unit(text: str, root: Node) -> str:
    """What one level is indented by: two spaces where the file does not show it."""
    if root.items and _begins_line(text, root.items[0].start):
        outer, inner = _line_indent(text, root.start), _line_indent(text, root.items[0].start)
        if inner.startswith(outer) and len(inner) > len(outer):
            return inner[len(outer) :]
    return "  "


def _indent(text: str, node: Node, unit: str) -> str:
    """Of the members of an object or list."""
    if node.items and _begins_line(text, node.items[-1].start):
        return _line_indent(text, node.items[-1].start)
    return _line_indent(text, node.start) + unit


def _gap(node: Node) -> tuple[int, int]:
    """Between what stands last in it, a trailing comma included, and its closing mark."""
    if not node.items:
        return node.start + 1, node.end - 1
    last = node.items[-1]
    return (last.value.end if last.comma < 0 else last.comma + 1), node.end - 1


def _line_end(text: str, start: int, end: int) -> int:
    """Where the first line of a gap ends, before its newline; -1 where all of it is on one line."""
    at = start
    while True:
        comment, newline = _COMMENT.search(text, at, end), _NEWLINE.search(text, at, end)
        if newline is None:
            return -1
        if comment is None or newline.start() < comment.start():
            return newline.start()
        at = comment.end()


def _room(text: str, node: Node, unit: str) -> str | None:
    """The indent of what is put into an object or list; None where it has to stand on the line that is there."""
    gap = _gap(node)
    if _line_end(text, *gap) >= 0:
        return _indent(text, node, unit)
    return None if node.items or text[slice(*gap)].strip() else _line_indent(text, node.start)


def _inserted(text: str, node: Node, written: str, unit: str) -> str:
    """The text with one more item at the end of an object or list."""
    start, end = _gap(node)
    at = _line_end(text, start, end)
    broken = at >= 0
    lead = _newline(text) + _indent(text, node, unit) if broken else " "
    comments = [found.end() for found in _COMMENT.finditer(text, start, end)]
    if not node.items and not comments:
        # Right behind the opening mark, with all the white space that was there after it: a blank line where that has
        # lines, nothing where it has none. Neither is how a container of our own looks.
        if broken:
            return f"{text[:start]}{lead}{written}{_newline(text)}{text[start:]}"
        return f"{text[:start]}{written}{text[start:]}"
    if not broken:
        at = comments[-1] if comments else start
    if not node.items:
        return f"{text[:at]}{lead}{written}{text[at:]}"
    if node.items[-1].comma >= 0:
        return f"{text[:at]}{lead}{written},{text[at:]}"
    return f"{text[:start]},{text[start:at]}{lead}{written}{text[at:]}"


def _removed(text: str, node: Node, item: Item) -> tuple[str, bool]:
    """The text without an item of a node, and whether the node is as ``put`` makes one where there is none."""
    number = node.items.index(item)
    before = node.items[number - 1] if number else None
    start, end = item.start, item.value.end
    inner, outer = (before.comma + 1 if before else node.start + 1), node.end - 1
    if len(node.items) == 1 and item.comma < 0:
        left, right = text[inner:start], text[end:outer]
        newline = _newline(text)
        lead, trail = newline + _line_indent(text, start), newline + _line_indent(text, node.start)
        made = (left, right) in ((lead, trail), (" ", " "))
        if not (left + right).strip(" \t\r\n"):
            if left:
                start = _lead_start(text, inner, start)
                end += len(newline) if right.startswith(newline) else 0
            return text[:start] + text[end:], made
    start = _lead_start(text, inner, start)
    if item.comma >= 0:
        return text[:start] + text[end : item.comma] + text[item.comma + 1 :], False
    if before is not None:
        return text[: before.comma] + text[before.comma + 1 : start] + text[end:], False
    return text[:start] + text[end:], False


def _lead_start(text: str, least: int, start: int) -> int:
    """Where the newline and the indent in front of an item begin, or the one space."""
    at = start
    while at > least and text[at - 1] in " \t":
        at -= 1
    if at > least and text[at - 1] in "\r\n":
        return at - 2 if at - 1 > least and text[at - 2 : at] == "\r\n" else at - 1
    return start - 1 if start > at else start


def _proved(before: Node, after: str, container: str, key: str, value: Any) -> str:
    """The changed text, once it is seen that it says what it said before but for that one member."""
    old, new = before.value(), _root(after).value()
    if _told(new, container, key) != value or _others(old, container, key) != _others(new, container, key):
        raise ConnectError(
            "The file cannot be changed without changing more.", "Change it by hand; see docs/agents.md."
        )
    return after


def _told(root: dict[str, Any], container: str, key: str) -> Any:
    holder = root.get(container)
    if isinstance(holder, list):
        return next((part for part in holder if isinstance(part, dict) and part.get("id") == key), None)
    return holder.get(key) if isinstance(holder, dict) else None


def _others(root: dict[str, Any], container: str, key: str) -> Any:
    """All but that member; an empty container is as good as none."""
    holder = root.get(container)
    rest: Any = holder
    if isinstance(holder, list):
        rest = [part for part in holder if not (isinstance(part, dict) and part.get("id") == key)]
    elif isinstance(holder, dict):
        rest = {name: part for name, part in holder.items() if name != key}
    others = [(name, part) for name, part in root.items() if name != container]
    return others, rest or None
