"""One translation unit through libclang into plain facts: what each file of the tree uses, and what that is.

A use is written down where its name stands, with the places at which its target is declared. What nobody wrote is left
out: implicit conversions, copies, and calls of constructors and conversions that have no name in the text. So is what
Clang cannot decide, in templates before they are instantiated. It knows nothing of symbols and their ids.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from indexer.compiler.commands import Unit
from indexer.compiler.libclang import BREAK, CONTINUE, CRASHED, FATAL, RECURSE, Clang, Cursor, Translation, Visitor
from indexer.model import ReferenceKind
from indexer.secrets import redact

MAX_ERRORS = 50  # looked at for headers that are missing; the first is shown
MAX_FILE_BYTES = 64 << 20  # of a file whose text is looked at

_NO_HEADER = re.compile(r"'([^']{1,200})' file not found")
# What a second try leaves out, when Clang takes none of a command's flags: all but macros and where to look.
_BARE = re.compile(r"-D|-U|-I|-isystem|-iquote|-idirafter|-x|-nostdinc|-Xclang|/|-include|-imacros|-resource-dir")

_QUALIFIER = re.compile(rb"(?:\w+(?:<[^()]{0,100}>)?::)+~?")
_OPERATOR = re.compile(r"operator\b")
_ARGUMENTS = re.compile(r"<.*|\[.*|\bconst\b", re.DOTALL)  # greedy: what is left stands before the first bracket
_LAST_NAME = re.compile(r"\w+(?=\W*$)")

# CXCursorKind
_CLASSES = frozenset({2, 3, 4, 31, 32})  # struct, union, class, class template and its partial specialisations
_ENUM, _FIELD, _ENUMERATOR, _VARIABLE = 5, 6, 7, 9
_METHOD, _CONSTRUCTOR, _DESTRUCTOR, _CONVERSION = 21, 24, 25, 26
_FUNCTIONS = frozenset({8, _METHOD, _CONSTRUCTOR, _DESTRUCTOR, _CONVERSION, 30})
_ALIASES = frozenset({20, 36, 601})  # typedef, using, and the template of it
_TYPES = _CLASSES | _ALIASES | {_ENUM}
_CONCEPT = 604
_OUTER = frozenset({1, 22, 23})  # unexposed (extern "C" of old), namespace, linkage specification
_TYPE_REF, _BASE, _TEMPLATE_REF, _NAMESPACE_REF, _MEMBER_REF = 43, 44, 45, 46, 47
_DECL_REF_EXPR, _MEMBER_REF_EXPR, _CALL, _CONCEPT_REF = 101, 102, 103, 153
_MACRO, _MACRO_USE, _INCLUDE = 501, 502, 503
_FAMILIES = {
    **dict.fromkeys(_FUNCTIONS, "function"),
    **dict.fromkeys(_TYPES, "type"),
    _FIELD: "variable",
    _VARIABLE: "variable",
    _ENUMERATOR: "enumerator",
    _CONCEPT: "concept",
    _MACRO: "macro",
}
_HAS_LINKAGE = 2  # CXLinkage_Internal: from here on, a variable is none of a function's own
_LOCAL = -1  # the number of what is nobody's target


class Target(NamedTuple):
    """What a use means. ``places`` are path and line of its name where it is declared in the tree; outside, none.

    A constructor that nobody wrote is its class, and an assignment that nobody wrote is nothing of the tree's.
    """

    name: str  # as a use would spell it
    symbol: str  # the name that stands at ``places``
    family: str  # as indexer.model.SymbolKind.family
    places: tuple[tuple[str, int], ...]
    parameters: tuple[str, ...]  # types as Clang spells them


class Use(NamedTuple):
    kind: ReferenceKind
    line: int
    name: str  # as it stands there, without qualifiers: of an alias, where the target is what it stands for
    target: int  # its number in UnitFacts.targets
    inside: int  # the number there of the function or class it stands in, or -1


class Include(NamedTuple):
    line: int
    written: str
    path: str  # relative to the root; "" outside of the tree


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one unit says of one file. ``flavor`` is one for all units that read the same lines of the same text."""

    path: str  # relative to the root
    digest: str  # of its bytes, as indexer.model.SourceFile.digest
    flavor: str
    skipped: tuple[tuple[int, int], ...]  # lines left out by the preprocessor: of #if and #endif, exclusive
    walked: bool  # false where another unit had already told the same flavor
    uses: tuple[Use, ...] = ()
    includes: tuple[Include, ...] = ()


@dataclass(frozen=True, slots=True)
class UnitFacts:
    targets: tuple[Target, ...]
    files: tuple[FileFacts, ...]
    # The first error, and how many there are; a broken unit misses headers, or its flags could not be used.
    error: tuple[str, int, str] | None = None
    errors: int = 0
    broken: bool = False
    missing: tuple[str, ...] = ()  # last names of headers that were not found


class Crash(NamedTuple):
    """Clang gave up on a unit. ``fatal`` says that the process should not be used again."""

    message: str
    fatal: bool


class Reader:
    """Reads one unit after the other. ``told`` holds the (path, flavor) that other units have told already."""

    def __init__(self, root: Path) -> None:
        self._clang = Clang()
        self._root = str(root).rstrip("/") + "/"
        self._real: dict[str, str | None] = {}  # a file's name as Clang has it -> its path in the tree
        self.told: set[tuple[str, str]] = set()

    def read(self, unit: Unit, system: Iterable[str]) -> UnitFacts | Crash:
        """Parses and walks. ``system`` are flags that lead to the headers of the compiler itself."""
        # No guess at what a misspelt name meant, no end after twenty errors, no warnings.
        extra = ["-w", "-fno-spell-checking", "-ferror-limit=0", *system]
        path = self._root + unit.path
        translation = self._clang.parse(path, [*unit.arguments, *extra])
        bare = not isinstance(translation, Translation) and translation != CRASHED
        if bare:
            kept = [argument for argument in unit.arguments if _BARE.match(argument) or not argument.startswith("-")]
            translation = self._clang.parse(path, [*kept, *extra])
        if not isinstance(translation, Translation):
            if translation == CRASHED:
                return Crash("the compiler crashed on it", fatal=True)
            return Crash("the compiler could not begin with it", fatal=False)
        try:
            return self._facts(translation, bare=bare)
        finally:
            translation.close()

    def _facts(self, translation: Translation, *, bare: bool) -> UnitFacts:
        errors = translation.errors(MAX_ERRORS)
        missing = {found[1].rpartition("/")[2] for error in errors if (found := _NO_HEADER.search(error.message))}
        broken = bare or bool(missing) or any(error.severity >= FATAL for error in errors)
        files = self._files(translation, broken=broken)
        targets, told = _Walk(self._clang, translation, files).run()
        if broken and not errors:
            first = ("", 0, "its flags are not understood by Clang")
        elif errors:
            known = files.get(errors[0].file or 0)
            said, _ = redact(errors[0].message)  # an #error or a static_assert quotes what stands in the code
            first = (known.path if known else "", errors[0].line if known else 0, said)
        return UnitFacts(
            targets=targets,
            files=tuple(sorted(told, key=lambda file: file.path)),
            error=first if errors or broken else None,
            errors=len(errors),
            broken=broken,
            missing=tuple(sorted(missing)),
        )

    def _files(self, translation: Translation, *, broken: bool) -> dict[int, "_File"]:
        """The files of the tree among those that were read, by Clang's number of them."""
        skipped = translation.skipped()
        found: dict[int, _File] = {}
        for number in translation.files():
            path = self._path(translation.file_name(number))
            if path is None:
                continue
            text = translation.contents(number)
            lines = tuple(sorted(skipped.get(number, ())))
            digest = blake2b(text, digest_size=16).hexdigest()
            flavor = blake2b(f"{digest}{lines}".encode(), digest_size=8).hexdigest()
            # What a broken unit tells is less than what others may tell of the same lines.
            own = flavor + "-" if broken else flavor
            walk = (path, flavor) not in self.told and (path, own) not in self.told
            found[number] = _File(path, digest, own, lines, text, walk)
        return found

    def _path(self, name: str) -> str | None:
        if name not in self._real:
            full = str(Path(name).resolve())
            self._real[name] = full.removeprefix(self._root) if full.startswith(self._root) else None
        return self._real[name]


class _File:
    __slots__ = ("digest", "flavor", "includes", "path", "skipped", "text", "uses", "walk")

    def __init__(
        self, path: str, digest: str, flavor: str, skipped: tuple[tuple[int, int], ...], text: bytes, walk: bool
    ) -> None:
        self.path = path
        self.digest = digest
        self.flavor = flavor
        self.skipped = skipped
        self.text = text
        self.walk = walk
        self.uses: dict[Use, None] = {}
        self.includes: dict[Include, None] = {}

    def facts(self) -> FileFacts:
        uses, includes = tuple(self.uses), tuple(self.includes)
        return FileFacts(self.path, self.digest, self.flavor, self.skipped, self.walk, uses, includes)


_Where = tuple[_File | None, int, int]  # file of the tree, line, byte offset


class _Walk:
    """One walk over the syntax tree of a unit, from the outside in."""

    def __init__(self, clang: Clang, translation: Translation, files: dict[int, _File]) -> None:
        self._clang = clang
        self._translation = translation
        self._files = files
        self._targets: list[Target] = []
        self._numbers: dict[tuple[int, int], int] = {}  # (kind, address) of a cursor -> number of a target
        self._inside = -1
        self._base = _LOCAL  # the target of the base at hand
        # Calls whose callee's name has not come yet, by the callee's address, with the places of the calls.
        self._pending: dict[int, list[tuple[_Where, int]]] = {}
        self._visitor = Visitor(self._visit)
        self._outer_visitor = Visitor(self._visit_outer)
        handlers = {
            **dict.fromkeys(_CLASSES, self._scope),
            **dict.fromkeys(_FUNCTIONS, self._define),
            **dict.fromkeys((_DECL_REF_EXPR, _MEMBER_REF_EXPR, _MEMBER_REF), self._name),
            **dict.fromkeys((_TYPE_REF, _TEMPLATE_REF, _CONCEPT_REF), self._type),
            _ENUM: self._scope,
            _CALL: self._call,
            _BASE: self._base_class,
        }
        self._handlers = handlers

    def run(self) -> tuple[tuple[Target, ...], list[FileFacts]]:
        if any(file.walk for file in self._files.values()):
            self._translation.visit(self._translation.cursor, self._outer_visitor)
            self._flush()
        return tuple(self._targets), [file.facts() for file in self._files.values()]

    # From the file's level down to its declarations

    def _visit_outer(self, cursor: Cursor, parent: Cursor, _data: object) -> int:
        kind = cursor.kind
        if kind == _MACRO:
            return CONTINUE
        number, line, offset = self._clang.place(cursor)
        file = self._files.get(number or 0)
        if file is None or not file.walk:
            return CONTINUE
        if kind == _MACRO_USE:
            self._macro_use(cursor, file, line, offset)
            return CONTINUE
        if kind == _INCLUDE:
            included = self._files.get(self._clang.getIncludedFile(cursor) or 0)
            file.includes[Include(line, self._clang.spelling(cursor), included.path if included else "")] = None
            return CONTINUE
        if kind in _OUTER:
            self._translation.visit(cursor, self._outer_visitor)
            return CONTINUE
        return self._visit(cursor, parent, None)

    def _visit(self, cursor: Cursor, parent: Cursor, _data: object) -> int:
        handler = self._handlers.get(cursor.kind)
        return RECURSE if handler is None else handler(cursor, parent)

    def _scope(self, cursor: Cursor, _parent: Cursor) -> int:
        before = self._inside
        if self._clang.isCursorDefinition(cursor):
            number = self._number(cursor)
            self._inside = before if number == _LOCAL else number
        self._translation.visit(cursor, self._visitor)
        self._inside = before
        return CONTINUE

    def _define(self, cursor: Cursor, parent: Cursor) -> int:
        if cursor.kind == _METHOD and parent.kind in _CLASSES and self._clang.CXXMethod_isVirtual(cursor):
            self._override(cursor)
        if not self._clang.isCursorDefinition(cursor):
            self._translation.visit(cursor, self._visitor)
            return CONTINUE
        before = self._inside
        number = self._number(cursor)
        self._inside = before if number == _LOCAL else number
        self._translation.visit(cursor, self._visitor)
        self._flush()
        self._inside = before
        return CONTINUE

    def _override(self, method: Cursor) -> None:
        where = self._place(method)
        before, self._inside = self._inside, self._number(method)
        for overridden in self._clang.overridden(method):
            self._note(where, ReferenceKind.OVERRIDE, self._number(overridden))
        self._inside = before

    def _base_class(self, cursor: Cursor, _parent: Cursor) -> int:
        """A base stands where its name does; libclang's place of one that spans lines is where it ends."""
        self._base = self._number(self._clang.getCursorReferenced(cursor))
        self._translation.visit(cursor, self._visitor)
        if self._base != _LOCAL:  # not named by a name of its own, but by an alias
            self._note(self._place(cursor), ReferenceKind.BASE, self._base)
            self._base = _LOCAL
        return CONTINUE

    # Uses

    def _macro_use(self, cursor: Cursor, file: _File, line: int, offset: int) -> None:
        number = self._number(self._clang.getCursorReferenced(cursor))
        # Macros that macros use stand nowhere in the text.
        if number != _LOCAL and file.text.startswith(self._targets[number].name.encode(), offset):
            self._note((file, line, offset), ReferenceKind.MACRO, number)

    def _call(self, cursor: Cursor, parent: Cursor) -> int:
        callee = self._clang.getCursorReferenced(cursor)
        kind = callee.kind
        if kind == _CONSTRUCTOR:
            self._construct(cursor, parent, callee)
        elif kind in _FUNCTIONS and kind != _CONVERSION and self._number(callee) != _LOCAL:
            self._pending.setdefault(callee.data[0], []).append((self._place(cursor), self._number(callee)))
        return RECURSE

    def _construct(self, cursor: Cursor, parent: Cursor, constructor: Cursor) -> None:
        """Notes a constructor's call if its class or what it makes is named: T(x), T{x}, new T, T v(x), member(x)."""
        where = file, _, offset = self._place(cursor)
        if file is None or file.text.startswith(b"{", offset):
            return
        first = self._first_child(cursor)
        if first is None:
            of_class = self._clang.place(self._clang.getCursorSemanticParent(constructor))
            if of_class == self._clang.place(constructor):
                return  # T v; of a class without a constructor of its own
        elif first.kind not in (_TYPE_REF, _TEMPLATE_REF, _NAMESPACE_REF) and (
            self._clang.start(first) == self._clang.start(cursor)
        ):
            return  # a conversion or a copy: it stands where its argument stands
        # The type as written is that of the variable, where there is one.
        written = _ARGUMENTS.sub("", self._clang.type_of(parent if parent.kind == _VARIABLE else cursor))
        name = _LAST_NAME.search(written)
        self._note(where, ReferenceKind.CALL, self._number(constructor), name[0] if name else "")

    def _name(self, cursor: Cursor, _parent: Cursor) -> int:
        meant = self._clang.getCursorReferenced(cursor)
        number = self._number(meant)
        if number != _LOCAL:
            calls = self._pending.get(meant.data[0])
            kind = ReferenceKind.NAME
            if calls:  # the callee of a call that came just before
                calls.pop()
                kind = ReferenceKind.CALL
            self._note(self._place(cursor), kind, number)
        return RECURSE

    def _type(self, cursor: Cursor, parent: Cursor) -> int:
        number = self._number(self._clang.getCursorReferenced(cursor))
        if number == _LOCAL:
            return RECURSE
        where = self._place(cursor)
        if self._base != _LOCAL and self._is_base(number):
            self._base = _LOCAL
            self._note(where, ReferenceKind.BASE, number)
        elif parent.kind not in _FUNCTIONS or not self._qualifies(parent, where):
            self._note(where, ReferenceKind.TYPE, number)
        return RECURSE

    def _is_base(self, number: int) -> bool:
        """Whether it is the base at hand: Clang means a template here, and what was made of it there."""
        named, base = self._targets[number], self._targets[self._base]
        return (named.symbol, named.places) == (base.symbol, base.places)

    def _qualifies(self, function: Cursor, where: _Where) -> bool:
        """Whether a class is named only to say whose function is declared, as in ``void A::f()``."""
        file, _, offset = where
        own, _, name = self._place(function)
        if file is None:
            return False
        return (
            own is file and offset < name <= offset + 200 and _QUALIFIER.fullmatch(file.text, offset, name) is not None
        )

    def _flush(self) -> None:
        """Calls whose callee has no name in the tree of syntax stand where they begin."""
        for calls in self._pending.values():
            for where, number in calls:
                self._note(where, ReferenceKind.CALL, number)
        self._pending.clear()

    def _note(self, where: _Where, kind: ReferenceKind, number: int, written: str = "") -> None:
        file, line, offset = where
        if number == _LOCAL or file is None or not file.walk:
            return
        target = self._targets[number]
        name = written or target.name
        if target.places or written or _OPERATOR.match(name) or file.text.startswith(name.encode(), offset):
            file.uses[Use(kind, line, name, number, self._inside)] = None
        # What the body of a macro uses is worth knowing where it is the tree's own, and noise where it is not.

    # What cursors are

    def _place(self, cursor: Cursor) -> _Where:
        number, line, offset = self._clang.place(cursor)
        return self._files.get(number or 0), line, offset

    def _first_child(self, cursor: Cursor) -> Cursor | None:
        found: list[Cursor] = []

        def note(child: Cursor, _parent: Cursor, _data: object) -> int:
            found.append(Cursor.from_buffer_copy(child))
            return BREAK

        self._translation.visit(cursor, Visitor(note))
        return found[0] if found else None

    def _number(self, cursor: Cursor) -> int:
        """The number of the target that a declaration is, or _LOCAL where nobody would look for it."""
        key = (cursor.kind, cursor.data[0])
        number = self._numbers.get(key)
        if number is None:
            target = self._target(cursor)
            number = _LOCAL
            if target is not None:
                number = len(self._targets)
                self._targets.append(target)
            self._numbers[key] = number
        return number

    def _target(self, cursor: Cursor) -> Target | None:
        clang, kind = self._clang, cursor.kind
        family = _FAMILIES.get(kind)
        if family is None or (kind == _VARIABLE and clang.getCursorLinkage(cursor) < _HAS_LINKAGE):
            return None
        name = clang.spelling(cursor)
        if kind in (_CONSTRUCTOR, _DESTRUCTOR):
            name = name.partition("<")[0]
        if not name or name.startswith("(") or " at " in name:
            return None
        places: dict[tuple[str, int], None] = {}
        others = (
            ()
            if kind == _MACRO
            else (
                clang.getCursorDefinition(cursor),
                clang.getCanonicalCursor(cursor),
                clang.getSpecializedCursorTemplate(cursor),
            )
        )
        for declared in (cursor, *others):
            file, line, _ = self._place(declared)
            if file is not None:
                places[file.path, line] = None
        if places and kind in _FUNCTIONS:
            return self._function_target(cursor, Target(name, name, family, tuple(places), ()))
        return Target(name, name, family, tuple(places), ())

    def _function_target(self, cursor: Cursor, target: Target) -> Target | None:
        clang = self._clang
        parent = clang.getCursorSemanticParent(cursor)
        if parent.kind in _CLASSES and clang.place(parent) == clang.place(cursor):  # nobody wrote it
            of_class = clang.spelling(parent)
            if of_class.startswith("("):  # a lambda
                return None
            if cursor.kind != _CONSTRUCTOR:
                return target._replace(places=())
            return target._replace(symbol=of_class, family=_FAMILIES[parent.kind])
        count = clang.Cursor_getNumArguments(cursor)
        arguments = (clang.Cursor_getArgument(cursor, at) for at in range(count))
        return target._replace(parameters=tuple(clang.type_of(argument) for argument in arguments))
