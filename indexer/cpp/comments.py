"""Finds the comment that documents a declaration and frees it of its markers.

It works on byte offsets of comments that someone else found; what a declaration is, it does not know.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

_LINE_MARK = re.compile(r"^\s*(?://!<?|///?<?)(?!/)\s?|^\s*/{4,}.*$")
_BLOCK_OPEN = re.compile(r"^\s*/\*+[!<]*")
_BLOCK_CLOSE = re.compile(r"\**/\s*$")
_BLOCK_LINE = re.compile(r"^\s*\*(?!/)\s?")
_RULE = re.compile(r"^[\s\-=*#/_~+]*$")
_DIRECTIVE = re.compile(r"^\s*(?:NOLINT\w*|clang-format\s+(?:on|off)|cppcheck-suppress|IWYU pragma)\b")
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
_TRAILING = re.compile(rb"(?://[/!]|/\*[*!])<")
_NEAR = 400  # bytes between a comment and what it documents, or before it on its line: keeps every search linear


class Comments:
    """The comments of one file, in order, as half-open byte ranges."""

    def __init__(self, text: bytes, code: bytes, ranges: Sequence[tuple[int, int]]) -> None:
        """``text`` is the file as written, ``code`` the same with misplaced macros blanked."""
        self._text = text
        self._code = code
        self._ranges = ranges
        self._starts = [start for start, _ in ranges]
        self._own_line = [_starts_line(text, start) for start in self._starts]

    def before(self, start: int) -> str:
        """The comment block right above a declaration that starts at this offset, without a blank line between."""
        last = bisect_left(self._starts, start) - 1
        if last < 0 or start - self._ranges[last][1] > _NEAR:
            return ""
        first = last + 1
        below = start
        while first > 0:
            comment_start, comment_end = self._ranges[first - 1]
            if _TRAILING.match(self._text, comment_start):
                break
            if not (0 <= below - comment_end <= _NEAR) or not self._own_line[first - 1]:
                break
            between = self._text[comment_end:below]
            if _BLANK_LINE.search(between):
                break
            if self._code[comment_end:below].strip() or (below != start and between.count(b"\n") > 1):
                break
            first -= 1
            below = comment_start
        if first > last:
            return ""
        # Only the lowest of several blocks belongs to the declaration when a block comment ends it.
        for index in range(last, first - 1, -1):
            if self._text.startswith(b"/*", self._ranges[index][0]):
                first = index if index == last else index + 1
                break
        return self._clean(range(first, last + 1))

    def after(self, end: int) -> str:
        """The comment behind a declaration on the line where it ends, with the ``///<`` lines that go on below it."""
        index = bisect_right(self._starts, end - 1)
        if index == len(self._ranges) or self._own_line[index]:
            return ""
        between = self._text[end : min(self._starts[index], end + _NEAR)]
        if b"\n" in between or between.strip(b" \t;,"):
            return ""
        stop = index + 1
        if _TRAILING.match(self._text, self._starts[index]):
            while stop < len(self._ranges) and _TRAILING.match(self._text, self._starts[stop]):
                between = self._text[self._ranges[stop - 1][1] : self._starts[stop]]
                if not self._own_line[stop] or between.strip() or between.count(b"\n") > 1:
                    break
                stop += 1
        return self._clean(range(index, stop))

    def _clean(self, indexes: range) -> str:
        return clean("\n".join(self._text[slice(*self._ranges[i])].decode("utf-8", "replace") for i in indexes))


def _starts_line(text: bytes, start: int) -> bool:
    line = text[max(0, start - _NEAR) : start]
    return not line[line.rfind(b"\n") + 1 :].strip()


def clean(comment: str) -> str:
    """The words of a comment: no markers, no rules of dashes, no blank lines at either end, common indentation gone."""
    lines: list[str] = []
    inside_block = False
    for raw in comment.split("\n"):
        line = raw.rstrip()
        if inside_block:
            line = _BLOCK_LINE.sub("", line, count=1)
        elif _BLOCK_OPEN.match(line):
            line = _BLOCK_OPEN.sub("", line, count=1)
            line = line.removeprefix(" ")
            inside_block = True
        else:
            line = _LINE_MARK.sub("", line, count=1)
        if inside_block and _BLOCK_CLOSE.search(line):
            line = _BLOCK_CLOSE.sub("", line).rstrip()
            inside_block = False
        if _DIRECTIVE.match(line):
            continue
        lines.append("" if _RULE.match(line) else line)
    indents = [len(line) - len(line.lstrip()) for line in lines if line]
    common = min(indents, default=0)
    return "\n".join(line[common:] for line in lines).strip("\n")
