"""Reads the headings of files that are not C++ into SECTION symbols: Markdown, reStructuredText, CMake, plain text.

A section reaches from its heading to the next one of its own or a higher level; its scope is the path of the headings
above it. It knows no links, code blocks or commands beyond what it takes not to mistake them for headings.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from indexer.model import Language, ParsedFile, SourceFile, Span, Symbol, SymbolKind, symbol_id


class _Heading(NamedTuple):
    first_line: int
    level: int  # 1 is the highest
    name: str
    written: str


_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_MARKDOWN_PROSE = re.compile(r"^ {0,3}(?![-+*>#|] |\d+[.)] |```|~~~)\S")
_RST_RULE = re.compile(r"^([!-/:-@\[-`{-~])\1{2,}\s*$")
_CMAKE_COMMAND = re.compile(
    r"^[ \t]*(function|macro|add_library|add_executable|add_custom_target|project)[ \t]*\([ \t]*([\w.:\-]+)",
    re.IGNORECASE,
)
_CMAKE_END = re.compile(r"^[ \t]*end(function|macro)[ \t]*\(", re.IGNORECASE)


def parse_document(source: SourceFile) -> ParsedFile:
    """The sections of a document, by first line. A file without headings has none; no text is an error."""
    lines = source.text.split("\n")
    if source.language is Language.MARKDOWN:
        sections = _nested(list(_markdown_headings(lines)), len(lines))
    elif source.language is Language.CMAKE:
        sections = _cmake_blocks(lines)
    else:
        sections = _nested(list(_underlined_headings(lines)), len(lines))
    seen: Counter[str] = Counter()
    symbols: list[Symbol] = []
    last_line = len(lines) - (lines[-1] == "")
    for heading, scope, last in sections:
        qualified = f"{scope}::{heading.name}" if scope else heading.name
        identity = symbol_id(SymbolKind.SECTION, qualified, (source.path, str(seen[qualified])))
        seen[qualified] += 1
        span = Span(source.path, heading.first_line, max(heading.first_line, min(last, last_line)))
        symbols.append(Symbol(identity, SymbolKind.SECTION, heading.name, scope, heading.written, True, span))
    return ParsedFile(path=source.path, language=source.language, symbols=tuple(symbols))


def _nested(headings: list[_Heading], line_count: int) -> Iterator[tuple[_Heading, str, int]]:
    """Each heading with its scope and its last line."""
    ends = [line_count] * len(headings)
    open_sections: list[int] = []
    scopes: list[str] = []
    for index, heading in enumerate(headings):
        while open_sections and headings[open_sections[-1]].level >= heading.level:
            ends[open_sections.pop()] = heading.first_line - 1
        scopes.append("::".join(headings[above].name for above in open_sections))
        open_sections.append(index)
    return zip(headings, scopes, ends, strict=True)


def _markdown_headings(lines: list[str]) -> Iterator[_Heading]:
    fence = ""
    for number, line in enumerate(lines, 1):
        opening = _FENCE.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            continue
        if opening:
            fence = opening[1]
            continue
        atx = _ATX.match(line.rstrip("\r"))
        if atx and atx[2]:
            yield _Heading(number, len(atx[1]), atx[2].strip(), line.strip())
        elif number > 1 and _SETEXT.match(line.rstrip("\r")):
            above = lines[number - 2]
            blank_before = number == 2 or not lines[number - 3].strip()
            if blank_before and _MARKDOWN_PROSE.match(above) and not _SETEXT.match(above.rstrip("\r")):
                yield _Heading(number - 1, 1 if "=" in line else 2, above.strip(), above.strip())


def _underlined_headings(lines: list[str]) -> Iterator[_Heading]:
    """Headings of reStructuredText: the order in which the kinds of underline first appear gives their levels."""
    levels: dict[tuple[str, bool], int] = {}
    for number in range(1, len(lines)):
        rule, title = lines[number], lines[number - 1]
        if not _RST_RULE.match(rule) or not title.strip() or _RST_RULE.match(title):
            continue
        if len(rule.strip()) < len(title.rstrip()) - 1:
            continue
        overlined = number >= 2 and lines[number - 2].strip() == rule.strip()
        if not overlined and (title[0].isspace() or (number >= 2 and lines[number - 2].strip())):
            continue
        level = levels.setdefault((rule[0], overlined), len(levels) + 1)
        yield _Heading(number - 1 if overlined else number, level, title.strip(), title.strip())


def _cmake_blocks(lines: list[str]) -> Iterator[tuple[_Heading, str, int]]:
    """Functions and macros up to their end, targets up to the parenthesis that closes them."""
    for number, line in enumerate(lines, 1):
        found = _CMAKE_COMMAND.match(line)
        if not found:
            continue
        last = number
        if found[1].lower() in ("function", "macro"):
            while last < len(lines) and not _CMAKE_END.match(lines[last - 1]):
                last += 1
        else:
            depth = line.count("(") - line.count(")")
            while depth > 0 and last < len(lines):
                last += 1
                depth += lines[last - 1].count("(") - lines[last - 1].count(")")
        yield _Heading(number, 1, found[2], line.strip()), "", last
