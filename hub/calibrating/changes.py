"""Where in an older tree a later change would be made: the functions whose lines it replaces or adds to. Pure.

A patch tells lines of the tree that it was made on, which is not the one asked. What it takes away is looked for by its
text, and what it adds inside a function by the function's name; what cannot be told for certain gives nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from hub.labels import without_comments
from indexer.model import Span, Symbol, SymbolKind

MOST_LINES = 40  # of a stretch outside of functions that counts as one place

_FUNCTIONS = frozenset(
    {SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR, SymbolKind.MACRO}
)
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@ ?(?P<heading>.*)$", re.MULTILINE)
_CALLED = re.compile(r"(~?\w+)\s*\(")
_TOLD = re.compile(r"\w")


def changed_places(
    patches: Mapping[str, str], texts: Mapping[str, str], symbols: Mapping[str, Sequence[Symbol]]
) -> tuple[Span, ...] | None:
    """The places of an older tree that a commit changes, sorted; None where some of them cannot be found there.

    ``patches`` are unified diffs without context of the files that the tree holds, ``texts`` and ``symbols`` those of
    the tree, all by path. Code that is added between functions, comments and includes have no place.
    """
    places: set[Span] = set()
    for path, patch in patches.items():
        lines = texts[path].split("\n")
        functions = [symbol for symbol in symbols.get(path, ()) if symbol.kind in _FUNCTIONS and symbol.is_definition]
        for heading, gone, added in _hunks(patch):
            if _is_code(gone):
                found = _standing(gone, lines)
                around = {_around(first, len(gone), functions, path) for first in found}
                if len(around) > 1:  # the heading tells which of several is meant, or nothing does
                    named = {function.span for function in _named(heading, functions)}
                    around &= named
                if len(around) != 1:
                    return None
                places |= around
            elif _is_code(added) and added[0][:1].isspace():
                inside = _named(heading, functions)
                if len(inside) != 1:
                    return None
                places.add(inside[0].span)
    return tuple(sorted(places))


def _hunks(patch: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """(heading, lines taken away, lines added) of each."""
    found = list(_HUNK.finditer(patch))
    for number, hunk in enumerate(found):
        end = found[number + 1].start() if number + 1 < len(found) else len(patch)
        body = patch[hunk.end() : end].split("\n")
        gone = [line[1:] for line in body if line.startswith("-")]
        yield hunk["heading"], gone, [line[1:] for line in body if line.startswith("+")]


def _is_code(lines: Sequence[str]) -> bool:
    rest = [line for line in without_comments("\n".join(lines)).split("\n") if not line.lstrip().startswith("#include")]
    return any(_TOLD.search(line) for line in rest)


def _standing(block: Sequence[str], lines: Sequence[str]) -> list[int]:
    """The numbers of the lines, from 1, at which these lines stand one after another."""
    wanted = [line.rstrip() for line in block]
    return [
        at + 1
        for at, line in enumerate(lines)
        if line.rstrip() == wanted[0] and [one.rstrip() for one in lines[at : at + len(wanted)]] == wanted
    ]


def _around(first: int, length: int, functions: Sequence[Symbol], path: str) -> Span:
    """The innermost function around some lines, or these lines."""
    last = first + length - 1
    inside = [one.span for one in functions if one.span.first_line <= first and last <= one.span.last_line]
    if inside:
        return min(inside, key=lambda span: (span.last_line - span.first_line, span))
    return Span(path, first, min(last, first + MOST_LINES - 1))


def _named(heading: str, functions: Sequence[Symbol]) -> list[Symbol]:
    """The functions that the heading of a hunk names; it may be cut off."""
    called = _CALLED.search(heading)
    return [function for function in functions if called and function.name == called[1]]
