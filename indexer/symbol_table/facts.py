"""Symbols and the edges between them, as they are asked for. What a use refers to is decided here, when it is asked:
nothing that spans files is stored, so a refreshed table cannot differ from one made afresh.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from indexer.model import Access, Edge, Provenance, ReferenceKind, Span, Symbol, SymbolId, SymbolKind, Trait
from indexer.rows import Row, last_name, split_row
from indexer.symbol_table.database import Database, marks

_SYMBOL_COLUMNS = (
    "SELECT symbols.id, kind, name, scope, signature, is_definition, path, first_line, last_line, doc, line, type,"
    " parameters, required, template_parameters, bases, traits, access"
    " FROM symbols JOIN files ON files.id = symbols.file"
)
_EDGE_COLUMNS = (
    "SELECT refs.kind, path, line, written, refs.name, refs.inside,"
    " (SELECT scope FROM symbols WHERE symbols.id = refs.inside LIMIT 1),"
    " (SELECT symbols.name FROM symbols WHERE symbols.id = refs.inside LIMIT 1)"
    " FROM refs JOIN files ON files.id = refs.file"
)
_TYPES = frozenset({SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.UNION, SymbolKind.ENUM, SymbolKind.ALIAS})
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR})
# What each kind of use can mean. A call may go through a variable or a type's constructor; a macro in capitals may look
# like a call, and a call like a macro.
_MEANT = {
    ReferenceKind.CALL: _FUNCTIONS | _TYPES | {SymbolKind.VARIABLE, SymbolKind.FIELD, SymbolKind.MACRO},
    ReferenceKind.TYPE: _TYPES | {SymbolKind.CONCEPT, SymbolKind.MACRO},
    ReferenceKind.BASE: _TYPES | {SymbolKind.MACRO},
    ReferenceKind.OVERRIDE: _FUNCTIONS,
    ReferenceKind.MACRO: _FUNCTIONS | {SymbolKind.MACRO},
    ReferenceKind.NAME: _FUNCTIONS | {SymbolKind.VARIABLE, SymbolKind.FIELD, SymbolKind.ENUMERATOR},
    ReferenceKind.INCLUDE: frozenset[SymbolKind](),
}
_ARGUMENTS = re.compile(r"\(.*$", re.DOTALL)


class Facts:
    """Reads symbols and edges from one table."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def symbols_named(self, name: str, limit: int) -> list[Symbol]:
        """Symbols of a name as a developer types it: ``Get``, ``DBImpl::Get``, ``leveldb::DBImpl::Get(int)``.

        Partial qualification is enough. Letter case counts unless nothing has the exact case. The fullest match
        comes first, definitions before declarations, then by path and line.
        """
        wanted = _typed_name(name)
        if not wanted:
            return []
        rows = self._db.rows(f"{_SYMBOL_COLUMNS} WHERE name = ? COLLATE NOCASE", (last_name(wanted),))
        symbols = [_symbol(row) for row in rows]
        exact = [s for s in symbols if _ends_with(s.qualified_name, wanted)]
        folded = exact or [s for s in symbols if _ends_with(s.qualified_name.lower(), wanted.lower())]
        folded.sort(
            key=lambda s: (
                s.kind is SymbolKind.SECTION,
                s.qualified_name != wanted,
                not s.is_definition,
                s.qualified_name.count("::"),
                s.span,
                s.kind,
                s.signature,
            )
        )
        return folded[:limit]

    def symbols_by_id(self, wanted: SymbolId) -> list[Symbol]:
        return sorted(
            (_symbol(row) for row in self._db.rows(f"{_SYMBOL_COLUMNS} WHERE symbols.id = ?", (wanted,))),
            key=lambda s: (not s.is_definition, s.span),
        )

    def names_of(self, ids: Iterable[SymbolId]) -> dict[SymbolId, tuple[str, SymbolKind]]:
        """Qualified name and kind of each id that exists, the kind as its definition has it where there is one."""
        wanted = sorted(set(ids))
        rows = self._db.rows(
            f"SELECT id, scope, name, kind FROM symbols WHERE id IN ({marks(wanted)})"
            " ORDER BY is_definition, kind DESC",
            wanted,
        )
        return {SymbolId(symbol): (_join(scope, name), SymbolKind(kind)) for symbol, scope, name, kind in rows}

    def all_symbols(self) -> Iterator[Symbol]:
        """Every symbol, by path and line."""
        rows = self._db.rows(f"{_SYMBOL_COLUMNS} ORDER BY path, first_line, last_line, kind, scope, name, signature")
        return (_symbol(row) for row in rows)

    def edges_to(self, symbol: Symbol, kinds: Sequence[ReferenceKind]) -> list[Edge]:
        """Where a symbol may be used, by path and line, less the uses whose written qualifier names another thing."""
        edges = []
        for row in self._db.rows(
            f"{_EDGE_COLUMNS} WHERE refs.name = ? AND refs.kind IN ({marks(kinds)})", (symbol.name, *kinds)
        ):
            how = _judge(ReferenceKind(row[0]), row[3], row[6] or "", symbol)
            if how is not None:
                edges.append(
                    Edge(ReferenceKind(row[0]), row[1], row[2], _join(row[6], row[7]), symbol.qualified_name, how)
                )
        return _ordered(edges)

    def edges_from(self, symbol: Symbol, kinds: Sequence[ReferenceKind]) -> list[Edge]:
        """What a symbol's own text uses, by path and line."""
        rows = self._db.rows(
            f"{_EDGE_COLUMNS} WHERE refs.inside = ? AND refs.kind IN ({marks(kinds)})", (symbol.id, *kinds)
        )
        return _ordered(self._resolved(row) for row in rows)

    def edges_by_name(self, name: str, kinds: Sequence[ReferenceKind]) -> list[Edge]:
        """Uses of a name of which the tree holds no symbol, such as ``std::move``."""
        wanted = _typed_name(name)
        rows = self._db.rows(
            f"{_EDGE_COLUMNS} WHERE refs.name = ? AND refs.kind IN ({marks(kinds)})", (last_name(wanted), *kinds)
        )
        found = (row for row in rows if _ends_with(row[3], wanted))
        return _ordered(
            Edge(ReferenceKind(row[0]), row[1], row[2], _join(row[6], row[7]), row[3], Provenance.BY_NAME)
            for row in found
        )

    def all_edges(self) -> Iterator[Edge]:
        """Every reference, by path and line, each with its target where one symbol is meant."""
        rows = self._db.rows(f"{_EDGE_COLUMNS} ORDER BY path, line, refs.kind, written, inside")
        return (self._resolved(row) for row in rows)

    def _resolved(self, row: Row) -> Edge:
        kind, path, line, written, name, inside_name = ReferenceKind(row[0]), row[1], row[2], row[3], row[4], row[7]
        inside = _join(row[6], inside_name)
        target, how = written, Provenance.BY_NAME
        if kind is ReferenceKind.INCLUDE:
            target, how = self._included(path, written)
        else:
            candidates: dict[SymbolId, tuple[str, Provenance]] = {}
            for found in self._db.rows(f"{_SYMBOL_COLUMNS} WHERE name = ? COLLATE NOCASE", (name,)):
                symbol = _symbol(found)
                verdict = _judge(kind, written, row[6] or "", symbol) if symbol.name == name else None
                if verdict is not None:
                    candidates[symbol.id] = (symbol.qualified_name, verdict)
            sure = sorted(c for c in candidates.values() if c[1] is Provenance.RESOLVED) or sorted(candidates.values())
            if len({qualified for qualified, _ in sure}) == 1:
                target, how = sure[0]
        return Edge(kind, path, line, inside, target, how)

    def _included(self, path: str, written: str) -> tuple[str, Provenance]:
        """The file an include names: beside the includer, below the root, or the only one whose path ends so."""
        beside = "/".join((*path.split("/")[:-1], written))
        for candidate in (_normal(beside), _normal(written)):
            if self._db.rows("SELECT 1 FROM files WHERE path = ?", (candidate,)):
                return candidate, Provenance.RESOLVED
        ending = "/" + written
        rows = self._db.rows(
            "SELECT path FROM files WHERE substr(path, -length(?1)) = ?1 ORDER BY path LIMIT 2", (ending,)
        )
        return (rows[0][0], Provenance.BY_NAME) if len(rows) == 1 else (written, Provenance.BY_NAME)


def _symbol(row: Row) -> Symbol:
    return Symbol(
        id=SymbolId(row[0]),
        kind=SymbolKind(row[1]),
        name=row[2],
        scope=row[3],
        signature=row[4],
        is_definition=bool(row[5]),
        span=Span(row[6], row[7], row[8]),
        doc=row[9],
        line=row[10],
        type=row[11],
        parameters=split_row(row[12]),
        required=row[13],
        template_parameters=split_row(row[14]),
        bases=split_row(row[15]),
        traits=tuple(Trait(word) for word in split_row(row[16])),
        access=Access(row[17]) if row[17] else None,
    )


def _typed_name(name: str) -> str:
    """A name without arguments, spaces or a leading ``::``; ``operator()`` keeps its parentheses."""
    whole = name.encode("utf-8", "replace").decode()  # SQLite takes no lone surrogates, which a shell may hand over
    text = "".join(whole.split()).removeprefix("::")
    head, found, operator = text.partition("operator")
    if found and (not head or head.endswith("::")) and operator.startswith("()"):
        return head + found + "()"
    return _ARGUMENTS.sub("", text)


def _ends_with(qualified: str, wanted: str) -> bool:
    return qualified == wanted or qualified.endswith("::" + wanted)


def _judge(kind: ReferenceKind, written: str, inside_scope: str, symbol: Symbol) -> Provenance | None:
    """How sure it is that a written name means a symbol of the same last name; None when it cannot.

    An unqualified call may go through an object of any class, so it is never more than a name. An unqualified type
    is looked up from the inside out.
    """
    if symbol.kind not in _MEANT[kind]:
        return None
    qualifier = written.removeprefix("::").rpartition("::")[0]
    if qualifier:
        return Provenance.RESOLVED if _ends_with(symbol.scope, qualifier) else None
    if kind in (ReferenceKind.TYPE, ReferenceKind.BASE) and symbol.scope:
        encloses = inside_scope == symbol.scope or inside_scope.startswith(symbol.scope + "::")
        return Provenance.RESOLVED if encloses else Provenance.BY_NAME
    return Provenance.BY_NAME


def _join(scope: str | None, name: str | None) -> str:
    return f"{scope}::{name}" if scope and name else name or ""


def _ordered(edges: Iterable[Edge]) -> list[Edge]:
    return sorted(set(edges), key=lambda e: (e.path, e.line, e.kind, e.inside, e.target, e.how))


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
