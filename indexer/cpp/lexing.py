"""Cuts C++ text without a grammar: what is code, where directives stand, which brackets belong together.

All of it is linear in the text, whatever the text is, and exact to the byte. It knows neither macros nor what a
directive means.
"""

import re
from bisect import bisect_left
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

_BLANK = bytes(byte if byte in b"\n" else 32 for byte in range(256))
_NOT_CODE = re.compile(
    rb"/(?:/[^\n]*(?:(?:(?<=\\)|(?<=\\\r))\n[^\n]*)*|\*.*?(?:\*/|\Z))"
    rb'|"(?:(?<=R")([^()\\\s"]{0,16})\(.*?(?:\)\1"|\Z)|[^"\\\n]*(?:\\.[^"\\\n]*)*"?)'
    rb"|'(?:(?<=u8')|(?<![0-9A-Fa-f]'))[^'\\\n]*(?:\\.[^'\\\n]*)*'",
    re.DOTALL,
)
_DIRECTIVE = re.compile(rb"#[ \t]*(\w*)[^\n]*(?:(?:(?<=\\)|(?<=\\\r))\n[^\n]*)*")
_COMMENT = re.compile(rb'("(?:[^"\\\n]|\\.)*")|/\*[^\n]*?\*/')
_ONE_BRACE = bytes.maketrans(b"}", b"{")
_ALL_BUT_BRACES = bytes(byte for byte in range(256) if byte not in b"{}")
_PARENTHESIS = re.compile(rb"[()]")
_FLAT = re.compile(rb"\([^()]{0,2000}(?:\([^()]{0,500}\)[^()]{0,500}){0,4}\)")
_OPENS = ord("{")
_STEPS = 100_000
_MAX_NESTED = 400  # parentheses within one pair of them
_MAX_ARGUMENTS = 20_000  # bytes
_MAX_LAST_WORD = 80  # bytes
_MAX_INDENT = 400  # bytes of a line that are looked at to tell whether it begins with #
_MAX_HEAD = 500  # bytes in front of a brace that are looked at to tell what it opens

_SCOPE_WORD = re.compile(rb"(?<![<,(])(?<![<,(] )\b(namespace|class|struct|union|enum|extern)\b(?!\s*[>,*&)])")
_CODE_WORD = re.compile(
    rb"(?:\b(?:do|else|try|const|volatile|noexcept|override|mutable|constexpr|[A-Z_][A-Z0-9_]{2,})|[\])&])$"
)
_RESULT_TYPE = re.compile(rb"->\s*[\w:<>,\s*&]{1,200}$")
_NO_BLOCK = re.compile(rb"(?:[=(,<?\[+|.]|\breturn)$")


class Directive(NamedTuple):
    word: bytes  # "if", "define", ... or "" for a lone #
    start: int  # of the #
    end: int  # behind the last continued line, without its line end


def blanked(text: bytes) -> bytes:
    """As many spaces, with the line ends where they were."""
    return text.translate(_BLANK)


def all_but(kept: list[tuple[int, int]], text: bytes) -> bytes:
    """The text with everything blanked but these stretches."""
    code = bytearray(blanked(text))
    for start, end in kept:
        code[start:end] = text[start:end]
    return bytes(code)


def without_comments(text: bytes) -> bytes:
    """The text with comments within its lines blanked."""
    return _COMMENT.sub(_hollow_comment, text)


def _hollow_comment(match: re.Match[bytes]) -> bytes:
    return match[1] or blanked(match[0])


def skeleton(text: bytes) -> bytes:
    """The text with comments blanked and every character within quotes an underscore, of the same length.

    Line ends within raw strings become underscores too: no line of a string is a line of the file.
    """
    return _NOT_CODE.sub(_hollow, text)


def _hollow(match: re.Match[bytes]) -> bytes:
    found = match[0]
    if found[0] == 47:  # a slash
        return found.translate(_BLANK)
    if len(found) == 1:
        return b" "
    if found[-1:] == found[:1]:
        return found[:1] + b"_" * (len(found) - 2) + found[:1]
    return found[:1] + b"_" * (len(found) - 1)


def directives(code: bytes) -> list[Directive]:
    """The lines that begin with #, of a skeleton, in order."""
    found: list[Directive] = []
    for match in _DIRECTIVE.finditer(code):
        start, end = match.span()
        line = b"" if code[start - 1 : start] == b"\n" else code[max(0, start - _MAX_INDENT) : start]
        if not line[line.rfind(b"\n") + 1 :].strip():
            found.append(Directive(match[1], start, end))
    return found


class Structure:
    """The brackets of a skeleton: which belong together, and what each brace opens."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self._kinds: dict[int, str] = {-1: "namespace"}
        self._closing: dict[int, int] = {}
        self._steps = _STEPS + len(code)  # left to spend on nested parentheses

    @cached_property
    def _offsets(self) -> list[int]:
        pieces = self.code.translate(_ONE_BRACE).split(b"{")
        pieces.pop()
        return [before + index for index, before in enumerate(accumulate(map(len, pieces)))]

    @cached_property
    def _around(self) -> list[int]:
        """For each brace in order the innermost brace open behind it, or -1."""
        opened = [-1]
        around: list[int] = []
        for at, brace in zip(self._offsets, self.code.translate(None, _ALL_BUT_BRACES), strict=True):
            if brace == _OPENS:
                opened.append(at)
            elif len(opened) > 1:
                opened.pop()
            around.append(opened[-1])
        return around

    def closing(self, opening: int) -> int:
        """The offset of the parenthesis that closes the one at an offset, or -1 when none is near."""
        flat = _FLAT.match(self.code, opening)
        if flat:
            return flat.end() - 1
        known = self._closing.get(opening)
        if known is None:
            known = self._closing[opening] = self._nested(opening)
        return known

    def _nested(self, opening: int) -> int:
        depth = 0
        limit = min(self._steps, _MAX_NESTED)
        for count, match in enumerate(_PARENTHESIS.finditer(self.code, opening, opening + _MAX_ARGUMENTS)):
            at = match.start()
            depth += 1 if self.code[at] == 40 else -1
            if depth == 0:
                self._steps -= count
                return at
            if count >= limit:
                break
        self._steps -= limit
        return -1

    def around(self, at: int) -> int:
        """The innermost brace that is open at an offset, or -1."""
        index = bisect_left(self._offsets, at) - 1
        return self._around[index] if index >= 0 else -1

    def unmatched(self, at: int) -> int:
        """The first closing brace behind an offset that closes what was open there, or the end of the text."""
        depth = 0
        for index in range(bisect_left(self._offsets, at), len(self._offsets)):
            offset = self._offsets[index]
            depth += 1 if self.code[offset] == _OPENS else -1
            if depth < 0:
                return offset
        return len(self.code)

    def kind(self, brace: int) -> str:
        """What a brace opens: "namespace", "class", "enum", "code" or "value" (an initialiser)."""
        known = self._kinds.get(brace)
        if known is None:
            known = self._kinds[brace] = self._kind(brace)
        return known

    def place(self, at: int) -> str:
        """The kind of the innermost brace around an offset."""
        index = bisect_left(self._offsets, at) - 1
        brace = self._around[index] if index >= 0 else -1
        return self._kinds.get(brace) or self.kind(brace)

    def _kind(self, brace: int) -> str:
        head = self.code[max(0, brace - _MAX_HEAD) : brace]
        head = head[max(head.rfind(b";"), head.rfind(b"{"), head.rfind(b"}")) + 1 :].rstrip()
        if not head:
            around = self._kinds.get(self.around(brace), "code")
            return "value" if around in ("value", "enum") else "code"
        if _NO_BLOCK.search(head[-_MAX_LAST_WORD:]):
            return "value"
        if not head.endswith(b")"):
            words = _SCOPE_WORD.findall(head)
            if words and not _after_parameters(head):
                if b"enum" in words:
                    return "enum"
                return "namespace" if words[0] in (b"namespace", b"extern") else "class"
        if _CODE_WORD.search(head[-_MAX_LAST_WORD:]) or _RESULT_TYPE.search(head):
            return "code"
        return "code" if head.endswith((b"final", b":")) else "value"


def _after_parameters(head: bytes) -> bool:
    """Whether a heading is that of a function although a word like ``class`` stands in it."""
    tail = head[head.rfind(b")") + 1 :].split()
    return b")" in head and all(word in _BEHIND_PARAMETERS for word in tail)


_BEHIND_PARAMETERS = frozenset(
    {b"const", b"volatile", b"noexcept", b"override", b"final", b"try", b"&", b"&&", b"mutable"}
)
