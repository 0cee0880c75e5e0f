"""Symbol tables written by hand: symbols, uses, and what each use was decided to mean."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from indexer.model import (
    Chunk,
    Language,
    ParsedFile,
    Provenance,
    Reference,
    ReferenceKind,
    SourceFile,
    Span,
    Symbol,
    SymbolId,
    SymbolKind,
    Trait,
    chunk_id,
    symbol_id,
)
from indexer.rows import rows_of
from indexer.symbol_table.database import Database
from indexer.symbol_table.facts import Facts
from indexer.symbol_table.graph import Graph
from indexer.symbol_table.table import SymbolTable

OUTSIDE = SymbolId("")


@dataclass(frozen=True, slots=True)
class Written:
    """One use, as the parser wrote it, and what the linker or the compiler made of it."""

    name: str
    path: str
    line: int
    inside: Symbol | None = None
    target: Symbol | str | None = None  # a symbol, the path of a file, "" for outside, None while it is open
    kind: ReferenceKind = ReferenceKind.CALL
    how: Provenance = Provenance.RESOLVED
    operands: str = ""
    shadowed: bool = False  # the compiler saw it too, and its word is another row


def symbol(
    name: str,
    path: str = "a.cc",
    line: int = 1,
    kind: SymbolKind = SymbolKind.FUNCTION,
    *,
    parameters: Sequence[str] = (),
    required: int | None = None,
    lines: int = 1,
    defined: bool = True,
    traits: Sequence[Trait] = (),
    bases: Sequence[str] = (),
    template_parameters: Sequence[str] = (),
    type_: str = "",
) -> Symbol:
    """A symbol of a qualified name; equal names and parameters share an id."""
    scope, _, last = name.rpartition("::")
    constant = ("(const)",) if Trait.CONST in traits else ()
    return Symbol(
        id=symbol_id(kind, name, (*parameters, *constant)),
        kind=kind,
        name=last,
        scope=scope,
        signature=f"{name}({', '.join(parameters)})",
        is_definition=defined,
        span=Span(path, line, line + lines - 1),
        line=line,
        type=type_,
        parameters=tuple(parameters),
        required=len(parameters) if required is None else required,
        template_parameters=tuple(template_parameters),
        bases=tuple(bases),
        traits=tuple(sorted(traits)),
    )


def written_table(
    symbols: Iterable[Symbol], uses: Iterable[Written] = (), files: Iterable[str] = (), text: str = ""
) -> Database:
    """A table in memory that holds these rows, in the order given."""
    database = Database.create_or_open(Path(":memory:"))
    by_path: dict[str, tuple[list[Symbol], list[Written]]] = {path: ([], []) for path in files}
    for entry in symbols:
        by_path.setdefault(entry.span.path, ([], []))[0].append(entry)
    for use in uses:
        by_path.setdefault(use.path, ([], []))[1].append(use)
    for path, (here, used) in by_path.items():
        references = tuple(
            Reference(
                use.name,
                use.kind,
                Span(path, use.line, use.line),
                use.inside.id if use.inside else None,
                _target(use) if use.how is Provenance.COMPILER else None,
                use.how if use.how is Provenance.COMPILER else Provenance.BY_NAME,
                operands=use.operands,
            )
            for use in used
        )
        source = SourceFile(path, Language.CPP, 1, 1, blake2b(path.encode()).hexdigest(), text)
        count = text.count("\n") or 1
        chunk = Chunk(chunk_id(path, 0, "", text), Span(path, 1, count), "", text)
        parsed = ParsedFile(path, Language.CPP, tuple(here), references)
        SymbolTable(database).write([rows_of(source, parsed, [chunk])])
        rows = database.rows(
            "SELECT refs.id, file FROM refs JOIN files ON files.id = file WHERE path = ? ORDER BY 1", (path,)
        )
        with database.transaction():
            for use, (row, file) in zip(used, rows, strict=True):
                target = _target(use)
                how = Provenance.COMPILER if use.shadowed else use.how
                if target is not None and use.how is not Provenance.COMPILER:
                    database.run("INSERT INTO links VALUES(?, ?, ?, ?)", (row, file, target, how.value))
    return database


def _target(use: Written) -> SymbolId | None:
    return use.target.id if isinstance(use.target, Symbol) else None if use.target is None else SymbolId(use.target)


def graph_of(symbols: Iterable[Symbol], uses: Iterable[Written] = (), files: Iterable[str] = ()) -> Graph:
    database = written_table(symbols, uses, files)
    return Graph(database, Facts(database))


def facts_of(symbols: Iterable[Symbol], uses: Iterable[Written] = (), files: Iterable[str] = ()) -> Facts:
    return Facts(written_table(symbols, uses, files))
