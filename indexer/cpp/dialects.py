"""Rewrites what the grammar does not know of C++ of today and of C of the past, each byte at its place.

Modules, the explicit object parameter, ``extern template``, using-declarations with ``typename`` or commas and the
parameters of K&R functions become what the grammar reads, spaces for the most part. It works on spellings: what stands
in comments or strings may be rewritten too, which harms nothing, as all text that is shown comes from the file itself.
"""

import re
from bisect import bisect_right
from typing import NamedTuple

from indexer.cpp.types import EXPLICIT_OBJECT

_MODULE = re.compile(
    rb"^[ \t]*(?P<word>(export[ \t]+)?module)"
    rb"(?:[ \t]+([A-Za-z_][\w.]*(?:[ \t]*:[ \t]*[\w.]+)?)|[ \t]*(:)[ \t]*private)?[ \t]*;",
    re.MULTILINE,
)
_IMPORT = re.compile(
    rb"^[ \t]*(?:export[ \t]+)?import[ \t]*(<[^>\n]+>|\"[^\"\n]+\"|[ \t]:?[A-Za-z_][\w.]*(?::[\w.]+)?)[ \t]*;",
    re.MULTILINE,
)
_EXPORT = re.compile(rb"^[ \t]*(export)\b(?:\s*(\{))?", re.MULTILINE)
_ONLY_BEFORE_A_MODULE = re.compile(rb"(?:\s+|//[^\n]*|/\*.*?\*/|#(?:[^\n\\]|\\.)*|module\s*;)*", re.DOTALL)
_COMMENT = re.compile(rb"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"", re.DOTALL)
_VISIBLE = re.compile(rb"[^\n]")
_SPACE = re.compile(rb"\s")
_BRACE = re.compile(rb"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[{}]", re.DOTALL)
_EXPLICIT_OBJECT = re.compile(rb"\((\s*)this(?=\s+[A-Za-z_:])")
_EXTERN_TEMPLATE = re.compile(rb"\bextern(?=\s+template\b)")
_USING_TYPENAME = re.compile(rb"\b(using\s+)typename\b")
_FURTHER_USINGS = re.compile(rb"\busing\s+[\w:<>\s]{1,200}(,[^;{}()]{1,400});")
# A function with the names of its parameters alone, then their declarations, then its body.
_OLD_FUNCTION = re.compile(
    rb"^[A-Za-z_][\w \t*]{0,200}\(([\w\s,]{1,400})\)((?:\s{1,40}[A-Za-z_][\w\s*,\[\]]{1,200};){1,16})\s{0,80}\{",
    re.MULTILINE,
)
_NAME = re.compile(rb"[A-Za-z_]\w*")
_DECLARED = re.compile(rb"([A-Za-z_]\w*)\s*(?:\[[^\]]*\]\s*)*(?=[,;])")


class Module(NamedTuple):
    """A ``module`` declaration. Offsets in bytes, ``end`` exclusive."""

    name: str  # "a.b:part"
    start: int
    end: int
    exported: bool


class Import(NamedTuple):
    name: str  # "a.b:part", "vector"
    start: int


class Plain(NamedTuple):
    """What the grammar can read, as long as what was given, and what was taken out of it."""

    code: bytes
    modules: tuple[Module, ...] = ()
    imports: tuple[Import, ...] = ()
    exported: tuple[tuple[int, int], ...] = ()  # the blocks of export {...}, as byte offsets


def plain(code: bytes, *, old_functions: bool) -> Plain:
    """``old_functions`` says whether to look for the functions of K&R C, which only files of C have."""
    if b"this" in code and _EXPLICIT_OBJECT.search(code):
        code = _EXPLICIT_OBJECT.sub(rb"(\1" + EXPLICIT_OBJECT.encode(), code)
    if b"template" in code and b"extern" in code:
        code = _EXTERN_TEMPLATE.sub(b" " * len(b"extern"), code)
    if b"using" in code:
        code = _USING_TYPENAME.sub(rb"\1        ", code)
        code = _FURTHER_USINGS.sub(_first_using, code)
    if old_functions:
        code = _OLD_FUNCTION.sub(_modern_function, code)
    if b"import" in code or b"module" in code:
        return _without_modules(code)
    return Plain(code)


def _first_using(match: re.Match[bytes]) -> bytes:
    """``using A::f     ;`` of ``using A::f, B::g;``."""
    start = match.start()
    return match[0][: match.start(1) - start] + _VISIBLE.sub(b" ", match[1]) + b";"


def _modern_function(match: re.Match[bytes]) -> bytes:
    """``f(a, b) int a; char *b; {`` as ``f(      int a, char *b) {``."""
    names = _NAME.findall(match[1])
    declarations = match[2]
    if sorted(names) != sorted(_DECLARED.findall(declarations)):
        return match[0]
    last = declarations.rindex(b";")
    parameters = declarations[:last].replace(b";", b",") + b")" + declarations[last + 1 :]
    start, whole = match.start(), match[0]
    before, behind = match.start(1) - start, match.end(2) - start
    blank = _VISIBLE.sub(b" ", match[1]) + b" "
    return whole[:before] + blank + parameters + whole[behind:]


def _without_modules(code: bytes) -> Plain:
    imported = list(_IMPORT.finditer(code))
    declared = list(_MODULE.finditer(code))
    if not imported and not declared:
        return Plain(code)
    comments = [match.span() for match in _COMMENT.finditer(code) if match[0].startswith(b"/")]
    imported = [match for match in imported if not _inside(comments, match.start())]
    # "module m;" declares a variable of a type named module, unless nothing but directives stands before it.
    first = _ONLY_BEFORE_A_MODULE.match(code)
    first_end = 0 if first is None else first.end()
    declared = [
        match
        for match in declared
        if (match[2] or match[4] or match.start("word") <= first_end) and not _inside(comments, match.start())
    ]
    blanked = [match.span() for match in (*imported, *declared)]
    exported: list[tuple[int, int]] = []
    if declared:
        for match in _EXPORT.finditer(code):
            blanked.append(match.span(1))
            if match[2]:
                end = _closing_brace(code, match.start(2))
                blanked += [match.span(2), (end - 1, end)]
                exported.append((match.start(2), end))
    rewritten = bytearray(code)
    for start, end in blanked:
        rewritten[start:end] = _VISIBLE.sub(b" ", bytes(rewritten[start:end]))
    return Plain(
        bytes(rewritten),
        tuple(
            Module(
                _SPACE.sub(b"", match[3]).decode("utf-8", "replace"), match.start("word"), match.end(), bool(match[2])
            )
            for match in declared
            if match[3]
        ),
        tuple(Import(match[1].decode("utf-8", "replace").strip(' \t<>"'), match.start(1)) for match in imported),
        tuple(exported),
    )


def _inside(ranges: list[tuple[int, int]], at: int) -> bool:
    before = bisect_right(ranges, (at, at)) - 1
    return before >= 0 and ranges[before][0] < at < ranges[before][1]


def _closing_brace(code: bytes, opening: int) -> int:
    depth = 0
    for match in _BRACE.finditer(code, opening):
        depth += (match[0] == b"{") - (match[0] == b"}")
        if depth == 0:
            return match.end()
    return len(code)
