"""Reads one C++ file (C and CUDA too) into its symbols, its references and what could not be read. It never raises.

Names are those a developer types: unnamed and inline namespaces leave no trace in a qualified name, and neither do the
template arguments of a class (``std::hash<Foo>`` is a ``std::hash``; its id still differs). Nothing here knows other
files: references carry names, never targets.
"""

from collections.abc import Iterator

from indexer.cpp.collector import Ranges
from indexer.cpp.dialects import plain
from indexer.cpp.grammar import captures_of, shallow
from indexer.cpp.macros import BUILTIN, Macros
from indexer.cpp.masking import Masked, mask
from indexer.cpp.reader import Reader
from indexer.cpp.uses import Use, Uses
from indexer.model import Context, ParsedFile, Problem, Reference, SourceFile, Span, Symbol

MAX_PROBLEMS = 20  # of one file; a file that is no C++ at all should not flood the report


def parse(source: SourceFile, macros: Macros = BUILTIN) -> ParsedFile:
    r"""The symbols by place, the references by line, and a Problem for each stretch that is not C++ to the grammar.

    Lines are those of ``text.split("\n")``. A declaration and its definition share an id; overloads differ in it.
    """
    text = source.text.encode("utf-8", "surrogatepass")
    masked = mask(text, macros)
    contexts: dict[Context, int] = {}
    reader, uses = _read(source.path, text, masked, contexts)
    symbols, found = reader.symbols, uses.found
    for branch in masked.branches:
        # What one reading must leave out, because the branches of an #if split braces, another one holds.
        other = masked._replace(code=branch.code, uses=())
        more, further = _read(source.path, text, other, contexts, branch.ranges)
        symbols += more.symbols
        found |= further.found
    return ParsedFile(
        path=source.path,
        language=source.language,
        symbols=tuple(sorted(symbols, key=_place)),
        references=tuple(
            Reference(
                name=use.name,
                kind=use.kind,
                span=Span(source.path, use.line, use.line),
                inside=use.inside,
                context=use.context,
                operands=use.operands,
            )
            for use in sorted(found, key=_use)
        ),
        problems=tuple(_limited(source.path, reader.problems)),
        contexts=tuple(contexts),
    )


def _read(
    path: str, text: bytes, masked: Masked, contexts: dict[Context, int], only: Ranges = ()
) -> tuple[Reader, Uses]:
    """One reading of a file: its declarations, then its uses."""
    readable = plain(masked.code, old_functions=path.endswith(".c"))
    code, cuts = shallow(readable.code)
    declarations, used, comments = captures_of(code)
    reader = Reader(path, text, masked, readable, comments, only)
    reader.read(declarations)
    for cut in cuts:
        reader.problems[reader.lines.of(cut)] = "too deeply nested to be read"
    uses = Uses(text, readable.code, reader.lines, reader.not_uses, reader.guards, contexts, only)
    uses.read(used, reader.regions, reader.noted, masked.uses)
    return reader, uses


def _place(symbol: Symbol) -> tuple[int, int]:
    return symbol.span.first_line, -symbol.span.last_line  # the sort is stable: one line keeps the order of its text


def _use(use: Use) -> tuple[int, str, str, str, str]:
    return use.line, use.kind, use.name, use.inside or "", use.operands


def _limited(path: str, found: dict[int, str]) -> Iterator[Problem]:
    lines = sorted(found)
    for line in lines[:MAX_PROBLEMS]:
        yield Problem(path, line, found[line])
    if len(lines) > MAX_PROBLEMS:
        yield Problem(path, lines[MAX_PROBLEMS], f"{len(lines) - MAX_PROBLEMS} more lines could not be read as C++")
