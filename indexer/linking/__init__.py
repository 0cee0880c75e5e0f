"""Says which symbol each use of a file means, as far as names and written types show it.

Pure: it knows no store, and equal look-ups give equal links whatever the order in which files are linked. Every name
that was looked up comes back with the links; they stay true until the symbols of such a name change. Nothing here
guesses: a use that may mean several things gets no link.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from indexer.linking.calls import UNKNOWN, Meaning, Meanings
from indexer.linking.names import Site
from indexer.linking.world import FILE_MARK, FUNCTIONS, INCLUDES, TYPES, Row, Seen, Sources, World
from indexer.model import Provenance, ReferenceKind

__all__ = ["FILE_MARK", "FUNCTIONS", "INCLUDES", "TYPES", "Link", "Linked", "Row", "Sources", "Use", "World", "link"]

_RESOLVED, _COMPILER = Provenance.RESOLVED.value, Provenance.COMPILER.value
_CALL, _MACRO, _NAME = ReferenceKind.CALL.value, ReferenceKind.MACRO.value, ReferenceKind.NAME.value
_TYPE, _BASE, _INCLUDE = ReferenceKind.TYPE.value, ReferenceKind.BASE.value, ReferenceKind.INCLUDE.value
_LIKE_CALLS = frozenset({_CALL, _MACRO, _NAME})  # which of them a use is, parser and compiler may see differently


class Use(NamedTuple):
    """A reference as it is stored."""

    ref: int
    kind: str
    name: str  # the last name; of an include the base name
    written: str
    line: int
    context: int
    operands: str
    inside: str | None
    how: str


class Link(NamedTuple):
    """What a use means: a symbol's id, the path of an included file, or "" for what lies outside the tree."""

    ref: int
    target: str
    how: str


class Linked(NamedTuple):
    links: list[Link]  # of the uses whose meaning is known, in the order of the uses
    names: set[str]  # that were looked up


def link(
    path: str,
    uses: Iterable[Use],
    contexts: Mapping[int, tuple[str, tuple[str, ...]]],
    const_methods: frozenset[str],
    local_scopes: Mapping[str, str],
    world: World,
) -> Linked:
    """Links the uses of one file.

    ``contexts`` has scope and usings by number; ``const_methods`` the ids of those that the file declares, and
    ``local_scopes``, by the id of a function, a scope that its body looks into first: its own where it has types
    inside, that of its fixture where it is a test. A use that the compiler has seen too gets no meaning of its own.
    """
    uses = list(uses)
    seen = Seen(world, path)
    meanings = Meanings(seen)
    sites = {number: meanings.site(scope, usings) for number, (scope, usings) in contexts.items()}
    nowhere = meanings.site("", ())
    compiled = {_place(use) for use in uses if use.how == _COMPILER}
    known: dict[tuple[object, ...], str | None] = {}
    links: list[Link] = []
    for use in uses:
        if use.how == _COMPILER:
            continue
        if compiled and _place(use) in compiled:
            links.append(Link(use.ref, "", _COMPILER))
            continue
        constant = (use.inside in const_methods) if use.operands else False
        local = local_scopes.get(use.inside, "") if use.inside else ""
        key = (use.kind, use.written, use.context, use.operands, constant, local)
        if key in known:
            target = known[key]
        else:
            site = sites.get(use.context, nowhere)
            if local and not site.scope.startswith(local):
                site = meanings.site(local, contexts.get(use.context, ("", ()))[1])
            target = known[key] = _target(use, meanings, site, constant, seen)
        if target is not None:
            links.append(Link(use.ref, target, _RESOLVED))
    return Linked(links, seen.names())


def _target(use: Use, meanings: Meanings, site: Site, constant: bool, seen: Seen) -> str | None:
    kind = use.kind
    if kind == _INCLUDE:
        return seen.included(use.written) or None
    meaning = UNKNOWN
    if kind == _CALL:
        meaning = meanings.of_call(use.written, use.operands, site, constant)
    elif kind in (_TYPE, _BASE):
        meaning = meanings.of_type(use.written, site)
    elif kind == _NAME:
        meaning = meanings.of_name(use.written, site)
    elif kind == _MACRO:
        meaning = _of_macro(use, meanings, site, constant)
    if meaning.symbol is not None:
        return meaning.symbol.id
    # A name that the tree does not have at all needs no word about lying outside.
    return "" if meaning.outside and seen.world.bucket(use.name)[0] else None


def _of_macro(use: Use, meanings: Meanings, site: Site, constant: bool) -> Meaning:
    """Names in capitals are read as macros; some are functions."""
    found = meanings.of_macro(use.written)
    return (
        meanings.of_call(use.written, use.operands, site, constant) if found.symbol is None and use.operands else found
    )


def _place(use: Use) -> tuple[int, str, str]:
    return use.line, use.name, _CALL if use.kind in _LIKE_CALLS else use.kind
