r"""The values that everything speaks. Plain, frozen, without behaviour beyond naming their parts.

Lines start at 1 and both ends are in. Lines end at ``\n`` only. Paths are POSIX, relative to the workspace's root.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NewType, Protocol

SymbolId = NewType("SymbolId", str)
ChunkId = NewType("ChunkId", str)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float32]  # shape (dimensions,), of unit length
    Matrix = npt.NDArray[np.float32]  # shape (texts, dimensions), rows of unit length
else:  # numpy takes 0.1 s to import, which looking up a symbol should not wait for
    Vector = Matrix = Any


class Language(StrEnum):
    CPP = "c++"  # C and CUDA are read with the C++ grammar too
    CMAKE = "cmake"
    MARKDOWN = "markdown"
    RST = "rst"
    TEXT = "text"


class SymbolKind(StrEnum):
    NAMESPACE = "namespace"
    CLASS = "class"
    STRUCT = "struct"
    UNION = "union"
    ENUM = "enum"
    ENUMERATOR = "enumerator"
    CONCEPT = "concept"
    ALIAS = "alias"
    FUNCTION = "function"
    METHOD = "method"
    CONSTRUCTOR = "constructor"
    DESTRUCTOR = "destructor"
    FIELD = "field"
    VARIABLE = "variable"
    USING = "using"  # a using-declaration: a name of another scope made one of this scope
    MODULE = "module"
    MACRO = "macro"
    SECTION = "section"  # a heading of a document

    @property
    def family(self) -> str:
        """The coarser kind that an id is made of: what one file can tell apart from another's view of the same thing.

        An out-of-line ``A::f`` does not show whether A is a class or a namespace, and a type may be
        declared ``class`` here and ``struct`` there.
        """
        return _FAMILIES.get(self, self.value)


_FAMILIES = {
    SymbolKind.CLASS: "type",
    SymbolKind.STRUCT: "type",
    SymbolKind.UNION: "type",
    SymbolKind.ENUM: "type",
    SymbolKind.ALIAS: "type",
    SymbolKind.FUNCTION: "function",
    SymbolKind.METHOD: "function",
    SymbolKind.CONSTRUCTOR: "function",
    SymbolKind.DESTRUCTOR: "function",
    SymbolKind.FIELD: "variable",
    SymbolKind.VARIABLE: "variable",
}


class Access(StrEnum):
    """Who may name a member."""

    PUBLIC = "public"
    PROTECTED = "protected"
    PRIVATE = "private"


class Trait(StrEnum):
    """What a declaration says of itself beside its type."""

    VIRTUAL = "virtual"  # written virtual, override or final
    PURE = "pure"
    OVERRIDE = "override"
    FINAL = "final"
    STATIC = "static"
    CONST = "const"  # of a method
    NOEXCEPT = "noexcept"
    EXPLICIT = "explicit"
    INLINE = "inline"
    CONSTEXPR = "constexpr"
    EXTERN = "extern"
    MUTABLE = "mutable"
    DEFAULTED = "defaulted"
    DELETED = "deleted"
    TEMPLATE = "template"
    SPECIALIZATION = "specialization"
    FRIEND = "friend"
    SCOPED = "scoped"  # enum class
    ANONYMOUS = "anonymous"  # in an unnamed namespace
    EXPORTED = "exported"  # from a C++20 module


class ReferenceKind(StrEnum):
    CALL = "call"
    TYPE = "type"
    BASE = "base"
    OVERRIDE = "override"
    INCLUDE = "include"
    MACRO = "macro"
    NAME = "name"  # a function, variable or field named as a value: &Foo::bar, a callback


class Provenance(StrEnum):
    """How an edge's target is known, surest first."""

    COMPILER = "compiler"
    RESOLVED = "resolved"
    BY_NAME = "by-name"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    path: str
    first_line: int
    last_line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.first_line}-{self.last_line}"


def symbol_id(kind: SymbolKind, qualified_name: str, parameter_types: Sequence[str] = ()) -> SymbolId:
    """The id that a declaration and its definition share and that overloads do not: 16 hexadecimal digits."""
    text = "\0".join((kind.family, qualified_name, *parameter_types))
    return SymbolId(blake2b(text.encode(), digest_size=8).hexdigest())


@dataclass(frozen=True, slots=True)
class Symbol:
    id: SymbolId
    kind: SymbolKind
    name: str
    scope: str  # "leveldb::DBImpl", or "" at the top
    signature: str  # one line, as written, without the body
    is_definition: bool
    span: Span
    doc: str = ""
    line: int = 0  # where the name stands; 0 where only the span is known
    # What a function returns, what a variable holds, what an alias or using-declaration stands for, what an enum rests
    # on; as written, in one spelling (see indexer.cpp.declarators.canonical_type). "" where nothing is written.
    type: str = ""
    parameters: tuple[str, ...] = ()  # types in one spelling, "..." for C's, "Args&&..." for a pack
    required: int = 0  # how many arguments a call must give: parameters without a default and not a pack
    template_parameters: tuple[str, ...] = ()  # names, in order; "Args..." for a pack
    bases: tuple[str, ...] = ()  # of a class, as written with their arguments: "Base<T>"
    traits: tuple[Trait, ...] = ()  # sorted
    access: Access | None = None  # of a member of a class

    @property
    def qualified_name(self) -> str:
        return f"{self.scope}::{self.name}" if self.scope else self.name


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of a name. ``span`` is the line of the use, ``inside`` the symbol whose text it stands in."""

    name: str  # as written, without template arguments: "Slice", "std::move", "util/coding.h"
    kind: ReferenceKind
    span: Span
    inside: SymbolId | None = None
    target: SymbolId | None = None
    how: Provenance = Provenance.BY_NAME
    context: int = 0  # number of the Context in its file's list
    operands: str = ""  # of a call: what is known of the object and the arguments, see indexer.cpp.expressions


@dataclass(frozen=True, slots=True)
class Context:
    """Where a name is looked up from, as far as one file shows."""

    scope: str  # of namespaces and classes: "leveldb::DBImpl" inside its methods
    # The using-directives ("namespace std"), block-scope using-declarations ("std::swap") and block-scope aliases
    # ("V=std::vector<int>") in sight, the outermost first.
    usings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """A reference as it is shown: with names instead of ids. ``how`` says what the target rests on."""

    kind: ReferenceKind
    path: str
    line: int
    inside: str  # qualified name of the symbol it stands in, or "" at file scope
    target: str  # qualified name where one symbol is meant, otherwise the name as written
    how: Provenance
    target_id: SymbolId | None = None  # where one symbol is meant
    inside_id: SymbolId | None = None
    candidates: tuple[str, ...] = ()  # what a use known by name may mean, where that is several; the first few
    candidate_count: int = 0  # and how many in all


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the tree that could not be read as it should be. Never an exception."""

    path: str
    line: int  # 0 when it is about the whole file
    message: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was read: its text is valid Unicode, without a byte order mark, line ends as they stand.

    Secrets are taken out of it, and ``redacted`` says of which kind and where.
    """

    path: str
    language: Language
    size: int  # bytes on disk
    mtime_ns: int
    digest: str  # of the bytes on disk
    text: str
    redacted: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedFile:
    path: str
    language: Language
    symbols: tuple[Symbol, ...] = ()
    references: tuple[Reference, ...] = ()
    problems: tuple[Problem, ...] = ()
    contexts: tuple[Context, ...] = ()


def chunk_id(path: str, ordinal: int, title: str, text: str) -> ChunkId:
    """The deterministic id of a chunk: 32 hexadecimal digits.

    ``ordinal`` counts equal texts within the file, so that an insertion above does not rename what stands below.
    """
    parts = "\0".join((path, str(ordinal), title, text))
    return ChunkId(blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest())


@dataclass(frozen=True, slots=True)
class Chunk:
    id: ChunkId
    span: Span
    title: str  # "path | scope::name | signature", what stands before the text when it is embedded or shown
    text: str  # exactly the lines of the span
    symbol: SymbolId | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    id: str  # full hash
    subject: str
    author: str
    time_s: int  # Unix time of the commit


@dataclass(frozen=True, slots=True)
class Behind:
    """How far a tree has moved on since it was indexed, as far as can be seen cheaply. None for what is not known."""

    commits: int | None
    files: int | None  # changed since: those that wait to be read again, or those that were shown and are known to be
    since_s: float | None  # since the oldest change that is known to wait; None where there is none


@dataclass(frozen=True, slots=True)
class Stamp:
    """What state of the tree an index shows: the commit it was made at, and whether the work tree differed from it."""

    commit: str | None  # None outside a git work tree
    dirty: bool
    indexed_at: str  # ISO 8601, UTC
    behind: Behind | None = None  # None where nothing is known


@dataclass(frozen=True, slots=True)
class StageTime:
    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the compiler's pass did with the units of a compile_commands.json."""

    units: int
    read: int  # in this run; the others were known as they are
    broken: int  # of those read: headers were missing, or flags unknown
    failed: int  # gave nothing
    files: int  # of the tree, confirmed by now
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run of indexing did. ``skipped`` holds (path, reason) of the files that were left out on purpose.

    Numbers are of the whole index, but for ``changed``, ``removed`` and ``embedded``. Where only a part was looked at,
    problems, secrets and what was skipped are those of the files that were.
    """

    workspace: str
    files: int
    changed: int
    unchanged: int
    removed: int
    lines: int
    symbols: int
    references: int
    chunks: int
    embedded: int
    waiting_for_vectors: int
    problems: tuple[Problem, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    stages: tuple[StageTime, ...] = ()
    notes: tuple[str, ...] = field(default=())
    confirmation: Confirmation | None = None  # None where the compiler was not asked
    redacted: tuple[Problem, ...] = ()  # secrets in files that are not in the index; the message names the rule
    redacted_commits: int = 0  # secrets in messages of commits that are not in the index
    whole: bool = True  # whether everything was looked at, asked for or not


class Embedder(Protocol):
    """Texts to unit vectors. Implementations: MiniLM in process, Ollama. One shared contract test."""

    @property
    def name(self) -> str:
        """A fingerprint of model and settings; vectors of different names are never compared."""

    @property
    def dimensions(self) -> int: ...

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """One row for each text. Raises EmbedderError."""

    def embed_query(self, text: str) -> Vector:
        """Shape (dimensions,). Raises EmbedderError."""


class VectorIndex(Protocol):
    """Nearest neighbours over chunk ids. Implementations: Chroma, and an exact scan. One shared contract test.

    It is a cache of the symbol table's vectors: ids it returns may be unknown there, and are then ignored.
    """

    def upsert(self, ids: Sequence[ChunkId], vectors: Matrix) -> None: ...

    def delete(self, ids: Sequence[ChunkId]) -> None: ...

    def nearest(self, vector: Vector, limit: int) -> list[tuple[ChunkId, float]]:
        """(id, cosine similarity), best first, equal ones by id."""

    def count(self) -> int: ...

    def close(self) -> None: ...
