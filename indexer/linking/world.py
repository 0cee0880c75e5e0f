"""What linking may see of the tree: symbols by last name and files by base name, through one cache.

It knows no store. Whoever links hands in three look-ups, so that equal answers give equal links whatever the order of
the files; and each name that was asked for is kept, because a file must be linked again when what the name means
changes.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from indexer.model import SymbolKind, Trait

INCLUDES = "#includes"  # as a name looked up: which file includes which
FILE_MARK = "#"  # before the base name of a file, as a name looked up

CLASSES = frozenset({SymbolKind.CLASS.value, SymbolKind.STRUCT.value, SymbolKind.UNION.value})
TYPES = CLASSES | {SymbolKind.ENUM.value, SymbolKind.ALIAS.value}
FUNCTIONS = frozenset({SymbolKind.FUNCTION.value, SymbolKind.METHOD.value})
OBJECTS = frozenset({SymbolKind.VARIABLE.value, SymbolKind.FIELD.value})
VALUES = OBJECTS | {SymbolKind.ENUMERATOR.value}
NAMESPACE, CONSTRUCTOR, USING = SymbolKind.NAMESPACE.value, SymbolKind.CONSTRUCTOR.value, SymbolKind.USING.value
ALIAS, ENUM, MACRO = SymbolKind.ALIAS.value, SymbolKind.ENUM.value, SymbolKind.MACRO.value
_UNNAMEABLE = frozenset({CONSTRUCTOR, SymbolKind.DESTRUCTOR.value, SymbolKind.SECTION.value, MACRO})

_MAX_CLOSURE = 5_000  # files; what a file sees of a tree that includes itself in circles has its bound


class Row(NamedTuple):
    """A symbol as a store hands it over."""

    path: str
    id: str
    kind: str
    scope: str
    type: str
    parameters: tuple[str, ...]
    required: int
    template_parameters: tuple[str, ...]
    bases: tuple[str, ...]
    traits: tuple[str, ...]
    is_definition: bool


class Known(NamedTuple):
    """All that the tree says of one symbol, its declarations and definitions put together."""

    id: str
    kind: str
    name: str
    scope: str
    type: str
    parameters: tuple[str, ...]  # without the qualifiers of the function itself
    required: int
    open_ended: bool  # takes any number of further arguments
    template_parameters: tuple[str, ...]
    bases: tuple[str, ...]
    traits: frozenset[str]
    paths: tuple[str, ...]
    internal: bool  # seen by its own file and those that include it
    # Its types with their files, where declarations disagree, as in the branches of an #if or the headers of platforms.
    disputed: tuple[tuple[str, str], ...] = ()

    @property
    def qualified(self) -> str:
        return f"{self.scope}::{self.name}" if self.scope else self.name


Bucket = dict[str, tuple[Known, ...]]  # by scope


class Sources(NamedTuple):
    """The three look-ups. Their answers may come in any order; the first may repeat nothing and leave out nothing."""

    symbols: Callable[[str], Iterable[Row]]  # of exactly this last name
    files: Callable[[str], Iterable[str]]  # paths of this base name
    includes: Callable[[str], Iterable[str]]  # what the file of this path includes, as written


class World:
    """The look-ups with their answers kept, for as long as the tree does not change."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._buckets: dict[str, tuple[Bucket, bool]] = {}
        self._files: dict[str, tuple[str, ...]] = {}
        self._included: dict[str, tuple[str, ...]] = {}

    def bucket(self, name: str) -> tuple[Bucket, bool]:
        """The symbols of a last name by scope, and whether some are seen by few files only."""
        found = self._buckets.get(name)
        if found is None:
            found = self._buckets[name] = _bucket(name, self._sources.symbols(name))
        return found

    def files(self, base: str) -> tuple[str, ...]:
        found = self._files.get(base)
        if found is None:
            found = self._files[base] = tuple(sorted(self._sources.files(base)))
        return found

    def closure(self, path: str) -> frozenset[str]:
        """The file and all that it includes, directly or not."""
        seen = {path}
        todo = [path]
        while todo and len(seen) < _MAX_CLOSURE:
            for target in self._targets(todo.pop()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return frozenset(seen)

    def _targets(self, path: str) -> tuple[str, ...]:
        found = self._included.get(path)
        if found is None:
            targets = (self.included(path, written) for written in sorted(self._sources.includes(path)))
            found = self._included[path] = tuple(target for target in targets if target)
        return found

    def included(self, path: str, written: str) -> str:
        """The file of the tree that an include means: beside the includer, or below the nearest folder that has it.

        "" where none does or several are equally near.
        """
        base = written.rpartition("/")[2]
        candidates = self.files(base)
        if not candidates:
            return ""
        folder = path.rpartition("/")[0]
        beside = _normal(f"{folder}/{written}")
        if beside in candidates:
            return beside
        if written in C_HEADERS:
            return ""
        tail = _normal(written)
        found = [candidate for candidate in candidates if candidate == tail or candidate.endswith(f"/{tail}")]
        if len(found) > 1:
            near = [(_shared(folder, candidate), candidate) for candidate in found]
            most = max(near)[0]
            found = [candidate for shared, candidate in near if shared == most]
        return found[0] if len(found) == 1 else ""


class Seen:
    """The world as one file sees it, which notes every name that it was asked for."""

    def __init__(self, world: World, path: str) -> None:
        self.world = world
        self.path = path
        self._buckets: dict[str, Bucket] = {}
        self._others: set[str] = set()
        self._closure: frozenset[str] | None = None

    def bucket(self, name: str) -> Bucket:
        found = self._buckets.get(name)
        if found is None:
            found, internal = self.world.bucket(name)
            if internal:
                found = self._visible_here(found)
            self._buckets[name] = found
        return found

    def at(self, scope: str, name: str) -> tuple[Known, ...]:
        return self.bucket(name).get(scope, ())

    def included(self, written: str) -> str:
        self._others.add(FILE_MARK + written.rpartition("/")[2])
        return self.world.included(self.path, written)

    def closure(self) -> frozenset[str]:
        if self._closure is None:
            self._others.add(INCLUDES)
            self._closure = self.world.closure(self.path)
        return self._closure

    def sees(self, known: Known) -> bool:
        return self.path in known.paths or not self.closure().isdisjoint(known.paths)

    def types(self, known: Known) -> tuple[str, ...]:
        """The types that a symbol is declared with, as written: those in sight of the file where some are."""
        if not known.disputed:
            return (known.type,) if known.type else ()
        written = {text for path, text in known.disputed if path == self.path or path in self.closure()}
        return tuple(sorted(written or {text for _, text in known.disputed}))

    def names(self) -> set[str]:
        """Every name looked up so far."""
        return self._others | self._buckets.keys()

    def _visible_here(self, bucket: Bucket) -> Bucket:
        visible = dict(bucket)
        for scope, symbols in bucket.items():
            if not any(known.internal for known in symbols):
                continue
            here = any(known.internal and self.path in known.paths for known in symbols)
            kept = tuple(
                known
                for known in symbols
                if not known.internal or (self.path in known.paths if here else self.sees(known))
            )
            if kept:
                visible[scope] = kept
            else:
                del visible[scope]
        return visible


@lru_cache(maxsize=65_536)
def enclosing(scope: str) -> tuple[str, ...]:
    """A scope and those around it, the innermost first, "" last."""
    scopes = []
    while scope:
        scopes.append(scope)
        scope = scope.rpartition("::")[0]
    return (*scopes, "")


def _bucket(name: str, rows: Iterable[Row]) -> tuple[Bucket, bool]:
    by_id: dict[str, list[Row]] = {}
    for row in rows:
        by_id.setdefault(row.id, []).append(row)
    scopes: dict[str, list[Known]] = {}
    internal = False
    for identity in sorted(by_id):
        known = _known(name, by_id[identity])
        internal = internal or known.internal
        scopes.setdefault(known.scope, []).append(known)
    return {scope: tuple(found) for scope, found in scopes.items()}, internal


def _known(name: str, rows: list[Row]) -> Known:
    """Declarations before definitions: they stand in the scope that their types are looked up from."""
    if len(rows) > 1:
        rows.sort(key=lambda row: (row.is_definition, row.path, row))
    first = rows[0]
    parameters = tuple(part for part in first.parameters if part[0] != "(")
    traits = frozenset(trait for row in rows for trait in row.traits)
    if len(parameters) != len(first.parameters) and "(const)" in first.parameters:
        traits |= {Trait.CONST.value}
    open_ended = bool(parameters) and parameters[-1].endswith("...")
    return Known(
        id=first.id,
        kind=next((row.kind for row in rows if row.is_definition), first.kind),
        name=name,
        scope=first.scope,
        type=next((row.type for row in rows if row.type), ""),
        parameters=parameters,
        required=min(row.required for row in rows),
        open_ended=open_ended,
        template_parameters=next((row.template_parameters for row in rows if row.template_parameters), ()),
        bases=tuple(dict.fromkeys(base for row in rows for base in row.bases)),
        traits=traits,
        paths=tuple(dict.fromkeys(row.path for row in rows)),
        internal=Trait.ANONYMOUS.value in traits
        or (Trait.STATIC.value in traits and first.kind in (SymbolKind.FUNCTION.value, SymbolKind.VARIABLE.value)),
        disputed=_disputed(rows) if len(rows) > 1 else (),
    )


def _disputed(rows: list[Row]) -> tuple[tuple[str, str], ...]:
    """The types of the declarations, or else of the definitions, where they are not one.

    A definition may spell the type of its declaration in another way; two declarations mostly do not.
    """
    found = {(row.path, row.type) for row in rows if row.type and row.is_definition == rows[0].is_definition}
    return tuple(sorted(found)) if len({written for _, written in found}) > 1 else ()


def _shared(folder: str, path: str) -> int:
    """How many leading folders two places have in common."""
    shared = 0
    for here, there in zip(folder.split("/"), path.split("/")[:-1], strict=False):
        if here != there:
            break
        shared += 1
    return shared


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


# Written in angle brackets they are the library's, and a project's file of such a name lies beside who includes it.
# ISO/IEC 9899:2018, 7.1.2, and POSIX.1-2017, headers.
C_HEADERS = frozenset(
    """assert.h complex.h ctype.h errno.h fenv.h float.h inttypes.h iso646.h limits.h locale.h math.h setjmp.h signal.h
    stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h stdnoreturn.h string.h tgmath.h
    threads.h time.h uchar.h wchar.h wctype.h dirent.h dlfcn.h fcntl.h poll.h pthread.h sched.h semaphore.h spawn.h
    strings.h syslog.h termios.h unistd.h utime.h sys/mman.h sys/resource.h sys/select.h sys/socket.h sys/stat.h
    sys/time.h sys/types.h sys/uio.h sys/utsname.h sys/wait.h netdb.h netinet/in.h arpa/inet.h""".split()
)
