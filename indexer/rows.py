"""Turns one parsed file into the rows that the symbol table stores. Pure, so that the parsing processes can do it.

The split into words is the costly part of writing a file; done here, it runs beside the one process that may write.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from indexer.model import Chunk, Matrix, ParsedFile, Reference, ReferenceKind, SourceFile, Symbol
from indexer.words import spelt_out

Row = tuple[Any, ...]
SEPARATOR = "\x1f"  # between the texts of one column; no C++ holds this character


@dataclass(frozen=True, slots=True)
class FileRows:
    """One file, ready to be written: made by ``rows_of`` in the process that parsed it."""

    path: str
    file: Row
    symbols: tuple[Row, ...]
    references: tuple[Row, ...]
    contexts: tuple[Row, ...]
    problems: tuple[Row, ...]
    chunks: tuple[Row, ...]  # as in the table, from id on
    words: tuple[tuple[str, str, str, str, str], ...]  # the columns of chunk_words, one row for each chunk
    embedder: str = ""  # whose vectors these are; empty where none were made yet
    vectors: tuple[bytes, ...] = ()  # ``packed``, one for each chunk


def rows_of(source: SourceFile, parsed: ParsedFile, chunks: Sequence[Chunk]) -> FileRows:
    """Everything the table holds of one file. Pure; the split into words is the costly part."""
    symbols = tuple(_symbol_row(symbol) for symbol in parsed.symbols)
    first_lines = [symbol.span.first_line for symbol in parsed.symbols]  # in order
    word_rows = tuple(
        _words_of(
            source.path,
            chunk,
            parsed.symbols[
                bisect_left(first_lines, chunk.span.first_line) : bisect_right(first_lines, chunk.span.last_line)
            ],
        )
        for chunk in chunks
    )
    return FileRows(
        path=source.path,
        file=(
            source.path,
            source.language.value,
            source.size,
            source.mtime_ns,
            source.digest,
            count_lines(source.text),
        ),
        symbols=symbols,
        references=tuple(_reference_row(reference) for reference in parsed.references),
        contexts=tuple(
            (number, context.scope, _joined(context.usings)) for number, context in enumerate(parsed.contexts)
        ),
        problems=tuple((problem.line, problem.message) for problem in (*parsed.problems, *source.redacted)),
        chunks=tuple(
            (
                chunk.id,
                chunk.span.first_line,
                chunk.span.last_line,
                chunk.title,
                chunk.text,
                chunk.symbol,
                _digest(row),
            )
            for chunk, row in zip(chunks, word_rows, strict=True)
        ),
        words=word_rows,
    )


def _symbol_row(symbol: Symbol) -> Row:
    span = symbol.span
    return (
        symbol.id,
        symbol.kind.value,
        symbol.name,
        symbol.scope,
        symbol.signature,
        int(symbol.is_definition),
        span.first_line,
        span.last_line,
        symbol.doc,
        symbol.line or span.first_line,
        symbol.type,
        _joined(symbol.parameters),
        symbol.required,
        _joined(symbol.template_parameters),
        _joined(symbol.bases),
        _joined(symbol.traits),
        symbol.access.value if symbol.access else "",
    )


def _joined(parts: Sequence[str]) -> str:
    return SEPARATOR.join(parts)


def split_row(joined: str) -> tuple[str, ...]:
    """The parts of a column that holds several texts."""
    return tuple(joined.split(SEPARATOR)) if joined else ()


def _reference_row(reference: Reference) -> Row:
    return (
        reference.kind.value,
        last_name(reference.name) if reference.kind is not ReferenceKind.INCLUDE else _base_name(reference.name),
        reference.name,
        reference.span.first_line,
        reference.inside,
        reference.target,
        reference.how.value,
        reference.context,
        reference.operands,
    )


def _words_of(path: str, chunk: Chunk, inside: Sequence[Symbol]) -> tuple[str, str, str, str, str]:
    names = dict.fromkeys(s.qualified_name for s in inside)
    signatures = dict.fromkeys(s.signature for s in inside)
    docs = dict.fromkeys(s.doc for s in inside if s.doc)
    texts = (" ".join(names), " ".join(signatures), " ".join(docs), path, chunk.text)
    name, signature, doc, where, body = map(spelt_out, texts)
    return name, signature, doc, where, body


def _digest(row: Sequence[str]) -> bytes:
    return blake2b("\0".join(row).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def packed(vectors: Matrix) -> list[bytes]:
    """Each row as one signed byte a dimension, its largest component at 127. The length goes, for it is always 1.

    A quarter of the size of floats; cosines of 384 dimensions stay true to 0.0002.
    """
    import numpy as np  # noqa: PLC0415 - 0.1 s that what needs no vectors should not wait for

    largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True, initial=0), np.float32(1e-12))
    return [row.tobytes() for row in np.rint(vectors * (127 / largest)).astype(np.int8)]


def last_name(written: str) -> str:
    """``std::move`` -> move; ``a::operator==`` -> operator==; ``Foo::~Foo`` -> ~Foo."""
    if "operator" not in written:
        return written.rpartition("::")[2]
    head, found, operator = written.partition("operator")
    if found and (not head or head.endswith("::")) and not operator[:1].isalnum() and operator[:1] != "_":
        return found + operator
    return written.rpartition("::")[2]


def _base_name(include: str) -> str:
    return include.rpartition("/")[2]


def count_lines(text: str) -> int:
    """Lines as editors count them: a last line without a line end counts."""
    return text.count("\n") + (0 if text.endswith("\n") or not text else 1)
