"""Reads translation units with libclang and notes what stands in a library's tree.

The rules of what counts as written stand beside the code that applies them: a place is where a word stands in a file,
also when it is the argument of a macro; what a macro's body makes says so; what Clang does by itself is left out. It
owns the libclang binding.
"""

import ctypes
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpp_libraries import Unit
from cpp_oracle import Base, Call, Callee, Expansion, Function, Include, Oracle, Override, Place, Stretch, Type, merged


def _binding() -> Any:
    try:
        return importlib.import_module("clang.cindex")
    except ModuleNotFoundError:
        raise SystemExit("The oracle is libclang: pip install 'libclang>=18' (the extra `clang`).") from None


cindex = _binding()
LIB = cindex.conf.lib


class _Ranges(ctypes.Structure):
    """CXSourceRangeList, which the binding lacks."""

    _fields_ = (("count", ctypes.c_uint), ("ranges", ctypes.POINTER(cindex.SourceRange)))


_UNSIGNED = ctypes.POINTER(ctypes.c_uint)
LIB.clang_getFileLocation.argtypes = (cindex.SourceLocation, ctypes.POINTER(cindex.c_object_p), *[_UNSIGNED] * 3)
LIB.clang_getFileLocation.restype = None
LIB.clang_getSkippedRanges.argtypes = (cindex.TranslationUnit, cindex.c_object_p)
LIB.clang_getSkippedRanges.restype = ctypes.POINTER(_Ranges)
LIB.clang_disposeSourceRangeList.argtypes = (ctypes.POINTER(_Ranges),)
LIB.clang_disposeSourceRangeList.restype = None

_WITH_PREPROCESSOR = 1  # CXTranslationUnit_DetailedPreprocessingRecord


class K:
    """The numbers of the kinds of cursors; a property of the binding would look each up by its number."""

    CALL_EXPR: int = cindex.CursorKind.CALL_EXPR.value
    CLASS_DECL: int = cindex.CursorKind.CLASS_DECL.value
    CLASS_TEMPLATE: int = cindex.CursorKind.CLASS_TEMPLATE.value
    CLASS_TEMPLATE_PARTIAL_SPECIALIZATION: int = cindex.CursorKind.CLASS_TEMPLATE_PARTIAL_SPECIALIZATION.value
    COMPOUND_STMT: int = cindex.CursorKind.COMPOUND_STMT.value
    CONSTRUCTOR: int = cindex.CursorKind.CONSTRUCTOR.value
    CONVERSION_FUNCTION: int = cindex.CursorKind.CONVERSION_FUNCTION.value
    CXX_BASE_SPECIFIER: int = cindex.CursorKind.CXX_BASE_SPECIFIER.value
    CXX_FUNCTIONAL_CAST_EXPR: int = cindex.CursorKind.CXX_FUNCTIONAL_CAST_EXPR.value
    CXX_METHOD: int = cindex.CursorKind.CXX_METHOD.value
    CXX_NEW_EXPR: int = cindex.CursorKind.CXX_NEW_EXPR.value
    CXX_TRY_STMT: int = cindex.CursorKind.CXX_TRY_STMT.value
    DECL_REF_EXPR: int = cindex.CursorKind.DECL_REF_EXPR.value
    DESTRUCTOR: int = cindex.CursorKind.DESTRUCTOR.value
    ENUM_DECL: int = cindex.CursorKind.ENUM_DECL.value
    FIELD_DECL: int = cindex.CursorKind.FIELD_DECL.value
    FUNCTION_DECL: int = cindex.CursorKind.FUNCTION_DECL.value
    FUNCTION_TEMPLATE: int = cindex.CursorKind.FUNCTION_TEMPLATE.value
    INCLUSION_DIRECTIVE: int = cindex.CursorKind.INCLUSION_DIRECTIVE.value
    LINKAGE_SPEC: int = cindex.CursorKind.LINKAGE_SPEC.value
    MACRO_DEFINITION: int = cindex.CursorKind.MACRO_DEFINITION.value
    MACRO_INSTANTIATION: int = cindex.CursorKind.MACRO_INSTANTIATION.value
    MEMBER_REF_EXPR: int = cindex.CursorKind.MEMBER_REF_EXPR.value
    NAMESPACE: int = cindex.CursorKind.NAMESPACE.value
    NAMESPACE_REF: int = cindex.CursorKind.NAMESPACE_REF.value
    NO_DECL_FOUND: int = cindex.CursorKind.NO_DECL_FOUND.value
    OVERLOADED_DECL_REF: int = cindex.CursorKind.OVERLOADED_DECL_REF.value
    PAREN_EXPR: int = cindex.CursorKind.PAREN_EXPR.value
    STRUCT_DECL: int = cindex.CursorKind.STRUCT_DECL.value
    TEMPLATE_NON_TYPE_PARAMETER: int = cindex.CursorKind.TEMPLATE_NON_TYPE_PARAMETER.value
    TEMPLATE_REF: int = cindex.CursorKind.TEMPLATE_REF.value
    TEMPLATE_TEMPLATE_PARAMETER: int = cindex.CursorKind.TEMPLATE_TEMPLATE_PARAMETER.value
    TEMPLATE_TYPE_PARAMETER: int = cindex.CursorKind.TEMPLATE_TYPE_PARAMETER.value
    TYPEDEF_DECL: int = cindex.CursorKind.TYPEDEF_DECL.value
    TYPE_ALIAS_DECL: int = cindex.CursorKind.TYPE_ALIAS_DECL.value
    TYPE_ALIAS_TEMPLATE_DECL: int = cindex.CursorKind.TYPE_ALIAS_TEMPLATE_DECL.value
    TYPE_REF: int = cindex.CursorKind.TYPE_REF.value
    UNEXPOSED_DECL: int = cindex.CursorKind.UNEXPOSED_DECL.value
    UNEXPOSED_EXPR: int = cindex.CursorKind.UNEXPOSED_EXPR.value
    UNION_DECL: int = cindex.CursorKind.UNION_DECL.value
    VAR_DECL: int = cindex.CursorKind.VAR_DECL.value


FUNCTIONS = frozenset(
    {K.FUNCTION_DECL, K.CXX_METHOD, K.CONSTRUCTOR, K.DESTRUCTOR, K.CONVERSION_FUNCTION, K.FUNCTION_TEMPLATE}
)
TYPES = {
    K.CLASS_DECL: "class",
    K.STRUCT_DECL: "struct",
    K.UNION_DECL: "union",
    K.ENUM_DECL: "enum",
    K.CLASS_TEMPLATE: "class",
    K.CLASS_TEMPLATE_PARTIAL_SPECIALIZATION: "class",
    K.TYPEDEF_DECL: "alias",
    K.TYPE_ALIAS_DECL: "alias",
    K.TYPE_ALIAS_TEMPLATE_DECL: "alias",
}
TEMPLATES = frozenset({K.FUNCTION_TEMPLATE, K.CLASS_TEMPLATE, K.CLASS_TEMPLATE_PARTIAL_SPECIALIZATION})
PARAMETERS = frozenset({K.TEMPLATE_TYPE_PARAMETER, K.TEMPLATE_NON_TYPE_PARAMETER, K.TEMPLATE_TEMPLATE_PARAMETER})
NAMES_A_TYPE = frozenset({K.TYPE_REF, K.TEMPLATE_REF, K.NAMESPACE_REF})
OPEN = frozenset({K.NAMESPACE, K.LINKAGE_SPEC, K.UNEXPOSED_DECL})


def read(units: Sequence[Unit], tree: str, system: tuple[str, ...]) -> Oracle:
    """What the units say together. A file is walked in the first unit that includes it."""
    sys.setrecursionlimit(20_000)
    oracle = Oracle()
    seen: set[str] = set()
    index = cindex.Index.create()
    for unit in units:
        name = unit.name if unit.text is None else "/unit.cc"
        unsaved = [] if unit.text is None else [(name, unit.text)]
        parsed = index.parse(name, [*unit.arguments, *system], unsaved, _WITH_PREPROCESSOR)
        errors = [found for found in parsed.diagnostics if found.severity >= cindex.Diagnostic.Error]
        oracle.units += 1
        oracle.errors += len(errors)
        if errors:
            where = errors[0].location
            oracle.fatal.append(f"{unit.name}: {where.file}:{where.line}: {errors[0].spelling}")
        walk = _Walk(parsed, tree, seen, oracle)
        walk.walk()
        seen |= walk.visited
    return oracle


class _At(NamedTuple):
    """Where a token stands in a file, the argument of a macro in the file too. ``path`` is "" outside the tree."""

    path: str
    line: int
    offset: int


class _Context(NamedTuple):
    inside: str = ""  # the key of the function
    form: str = ""  # how a constructor call directly below is written
    start: int = -1  # the offset at which it must begin, or -1


_NAME = re.compile(
    rb"operator\s*(?:\(\s*\)|\[\s*\]|\"\"\s*\w+|(?:new|delete)\b(?:\s*\[\s*\])?|[^\w\s(]+|[^(;{]+)|~?\s*[A-Za-z_]\w*"
)
_WRITTEN_END = re.compile(rb"[)}]$")

_FORMS = {
    K.CXX_FUNCTIONAL_CAST_EXPR: "temporary",
    K.CXX_NEW_EXPR: "new",
    K.VAR_DECL: "variable",
    K.FIELD_DECL: "variable",
}


class _Walk:
    """One walk over one unit. Files in ``seen`` were walked in an earlier unit and are passed over."""

    def __init__(self, unit: Any, tree: str, seen: set[str], oracle: Oracle) -> None:
        self.oracle = oracle
        self.visited: set[str] = set()
        self._unit = unit
        self._tree = str(Path(tree).resolve()) + "/"
        self._seen = seen
        self._paths: dict[int | None, str] = {None: ""}
        self._handles: dict[str, Any] = {}
        self._texts: dict[str, bytes] = {}
        self._keys: dict[int, str] = {}
        self._expanded: set[tuple[str, int, str]] = set()  # macros, by path and line

    def walk(self) -> None:
        inclusion, expansion = K.INCLUSION_DIRECTIVE, K.MACRO_INSTANTIATION
        for cursor in self._unit.cursor.get_children():
            kind = kind_of(cursor)
            if kind == K.MACRO_DEFINITION:
                continue
            at = self._at(cursor)
            if not at.path:
                continue
            if kind == inclusion:
                if target := self._included(cursor):
                    self.oracle.includes.add(Include(at.path, at.line, target))
            elif kind == expansion:
                first, last = self._lines(cursor)
                self.oracle.expansions.add(Expansion(at.path, first, last, cursor.spelling))
                self._expanded.add((at.path, at.line, cursor.spelling))
            else:
                self._outside_function(cursor, at)
        for path in self.visited:
            skipped = self._skipped(path)
            known = self.oracle.inactive.get(path)
            self.oracle.inactive[path] = skipped if known is None else known & skipped

    def _included(self, cursor: Any) -> str:
        try:
            return self._relative(LIB.clang_getIncludedFile(cursor).name)
        except AssertionError:  # how the binding says that the file was not found
            return ""

    def _outside_function(self, cursor: Any, at: _At) -> None:
        """A declaration of a namespace: the ones of files that were walked before are passed over."""
        if not at.path or at.path in self._seen:
            return
        self.visited.add(at.path)
        if kind_of(cursor) in OPEN:
            for child in cursor.get_children():
                self._outside_function(child, self._at(child))
        else:
            self._node(cursor, _Context(), at)

    def _node(self, cursor: Any, context: _Context, at: _At | None = None) -> None:
        kind = kind_of(cursor)
        children = list(cursor.get_children())
        below = _Context(context.inside, _FORMS.get(kind, ""))
        if kind in FUNCTIONS:
            below = self._function(cursor, at or self._at(cursor), children)
        elif kind in TYPES and not (context.inside and TYPES[kind] == "alias"):  # an alias in a body is nobody's symbol
            self._type(cursor, at or self._at(cursor), children)
        elif kind == K.CALL_EXPR:
            self._call(cursor, children, context)
        elif kind in (K.UNEXPOSED_EXPR, K.PAREN_EXPR):
            below = context  # what Clang puts around an expression without a word in the text
        elif below.form == "variable":
            below = below._replace(start=self._at(cursor).offset)
        if kind == K.FIELD_DECL:
            self._member(cursor, children)
        if kind in TEMPLATES or any(kind_of(child) in PARAMETERS for child in children):
            self._template(cursor)
        for child in children:
            self._node(child, below)

    # Definitions

    def _function(self, cursor: Any, at: _At, children: Sequence[Any]) -> _Context:
        key = self._callee(cursor)
        bodies = [child for child in children if kind_of(child) in (K.COMPOUND_STMT, K.CXX_TRY_STMT)]
        if at.path and (bodies or cursor.is_definition() or self._is_defaulted(cursor)):
            callee = self.oracle.callees[key]
            body = self._locate(bodies[0].extent.start).offset if bodies else at.offset + 1
            written = self._is_written(at, callee.name)
            made = "" if written and body > at.offset else "named" if body > at.offset else "whole"
            self.oracle.functions.add(
                Function(at.path, at.line, callee.name, callee.label, key, made, defaulted=not bodies)
            )
        declared = kind_of(cursor) == K.CXX_METHOD and cursor.lexical_parent == cursor.semantic_parent
        overridden = sorted(set(self._overridden(cursor))) if at.path and declared else []
        if overridden:
            self.oracle.overrides.add(Override(at.path, at.line, _plain(cursor.spelling), tuple(overridden)))
        return _Context(key, "initialiser")

    def _is_defaulted(self, cursor: Any) -> bool:
        return bool(LIB.clang_CXXMethod_isDefaulted(cursor) or LIB.clang_CXXMethod_isDeleted(cursor))

    def _overridden(self, cursor: Any) -> Iterator[Place]:
        found = ctypes.POINTER(cindex.Cursor)()
        number = ctypes.c_uint()
        LIB.clang_getOverriddenCursors(cursor, ctypes.byref(found), ctypes.byref(number))
        for position in range(number.value):
            other = found[position]
            other._tu = self._unit  # noqa: SLF001 - the binding does so for every cursor that it hands out itself
            yield from self._places(other)
        if number.value:
            LIB.clang_disposeOverriddenCursors(found)

    def _type(self, cursor: Any, at: _At, children: Sequence[Any]) -> None:
        kind = TYPES[kind_of(cursor)]
        name = cursor.spelling
        if not name or "(" in name or (kind != "alias" and not cursor.is_definition()) or not at.path:
            return
        name = _plain(name)
        if kind == "alias" and cursor.underlying_typedef_type.get_declaration().spelling == name:
            return  # typedef struct Point Point; names nothing new
        macro = not self._is_written(at, name)
        self.oracle.types.add(Type(at.path, at.line, name, kind, macro))
        for child in children:
            if kind_of(child) == K.CXX_BASE_SPECIFIER:
                self._base(child, at, name, macro=macro)

    def _base(self, cursor: Any, at: _At, name: str, *, macro: bool) -> None:
        declared = cursor.type.get_declaration()
        # Its last name, not those of the scopes before it or of its template arguments.
        words = [part for part in cursor.get_children() if kind_of(part) in (K.TYPE_REF, K.TEMPLATE_REF)]
        same = [word for word in words if declared.spelling and _plain(word.referenced.spelling) == declared.spelling]
        templates = [word for word in words if kind_of(word) == K.TEMPLATE_REF]
        word = next(iter((*same, *templates, *words)), None)
        written = word.referenced if word is not None else None
        dependent = written is None or kind_of(written) in PARAMETERS
        found = [] if dependent else [part for part in (declared, written) if part is not None and part.spelling]
        places = {place for part in found for place in self._places(part)}
        names = {_plain(part.spelling) for part in (*found, *([written] if written is not None else ()))}
        line = self._at(word if word is not None else cursor).line
        row = (at.path, at.line, name, line, tuple(sorted(names)), tuple(sorted(places)), dependent, macro)
        self.oracle.bases.add(Base(*row))

    # Calls

    def _call(self, cursor: Any, children: Sequence[Any], context: _Context) -> None:
        target = cursor.referenced
        if target is None or kind_of(target) in (
            K.OVERLOADED_DECL_REF,
            K.NO_DECL_FOUND,
            *PARAMETERS,
        ):
            self._undecided(cursor, children)
        elif kind_of(target) == K.CONSTRUCTOR:
            self._constructor_call(cursor, target, children, context)
        elif kind_of(target) in FUNCTIONS:
            self._function_call(cursor, target, children, context)
        else:
            at = self._name_at(cursor, children, target.spelling)
            if at.path:
                self._add_call(at, (at.line,), target, "variable", context)

    def _function_call(self, cursor: Any, target: Any, children: Sequence[Any], context: _Context) -> None:
        name = target.spelling
        at = self._name_at(cursor, children, name)
        if not at.path:
            return
        named = self._text(at.path).startswith(b"operator", at.offset)
        if kind_of(target) == K.CONVERSION_FUNCTION and not named:
            return  # an implicit conversion: nobody wrote it
        is_operator = name.startswith("operator") and not name[8:9].isalnum() and name[8:9] != "_"
        category = "function" if named or not is_operator else "implicit" if self._is_implicit(target) else "operator"
        self._add_call(at, (at.line,), target, category, context)

    def _constructor_call(self, cursor: Any, target: Any, children: Sequence[Any], context: _Context) -> None:
        """Only what is written: T(x), T{x}, new T, T v(x), T v{x} and the initialisers of members and bases.

        Left out are conversions (f("x") where f takes a Slice), copies, moves and ``return {x}``: a constructor runs
        there, but no name of it stands in the text. ``T v;`` is noted apart.
        """
        at = self._at(cursor)
        if not at.path:
            return
        lines = {at.line}
        words = [child for child in children if kind_of(child) in NAMES_A_TYPE]
        spelt = bool(words) and kind_of(children[0]) in NAMES_A_TYPE  # the type is a part of this very expression
        declares = context.form == "variable"
        if spelt:
            category = "constructor"
            lines.update(self._at(word).line for word in words)
            at = self._at(words[-1])
        elif context.form in ("temporary", "new") or (declares and self._initialises(cursor, at, context.start)):
            category = "constructor"
        elif declares and cursor.extent.start.offset == context.start:
            category = "default"
        elif context.form == "initialiser":
            category = "initialiser"
        else:
            return
        if category != "initialiser" and self._is_implicit(target):
            category = "implicit"
        if declares and not spelt:
            lines.add(self._type_line(at))
        self._add_call(at, tuple(sorted(lines)), target, category, context)

    def _is_implicit(self, member: Any) -> bool:
        """Whether the compiler declares it: it then stands where its class does."""
        parent = member.semantic_parent
        return parent is not None and self._at(parent) == self._at(member)

    def _initialises(self, cursor: Any, at: _At, variable: int) -> bool:
        text = self._text(at.path)
        start, end = cursor.extent.start.offset, cursor.extent.end.offset
        begins = start == variable or text[start : start + 1] in (b"{", b"(")
        return begins and _WRITTEN_END.search(text[start:end]) is not None

    def _type_line(self, at: _At) -> int:
        """The line on which the statement begins that declares a variable, where its type is written."""
        text = self._text(at.path)
        before = text[max(0, at.offset - 400) : at.offset]
        start = max(before.rfind(mark) for mark in (b";", b"{", b"}")) + 1
        skipped = len(before[start:]) - len(before[start:].lstrip())
        return at.line - before[start + skipped :].count(b"\n")

    def _undecided(self, cursor: Any, children: Sequence[Any]) -> None:
        at = self._at(cursor)
        if not at.path:
            return
        head = children[0] if children else cursor
        end = head.extent.end
        first, last = at.line, max(at.line, end.line)
        words = {self._word(at), *(part.spelling for part in _chain(head) if part.spelling)}
        text = self._text(at.path)[at.offset : end.offset]
        words.update(found.decode() for found in re.findall(rb"[A-Za-z_]\w*", text[-400:]))
        for line in range(first, last + 1):
            self.oracle.unjudged.update((at.path, line, word) for word in words if word)

    def _add_call(self, at: _At, lines: tuple[int, ...], target: Any, category: str, context: _Context) -> None:
        key = self._callee(target)
        name = self.oracle.callees[key].name
        before = self._text(at.path)[max(0, at.offset - 40) : at.offset].rstrip()
        form = next((mark for mark in ("->", "::", ".") if before.endswith(mark.encode())), "")
        word = self._word(at)
        names = (name, word) if word not in ("", name) and category != "operator" else (name,)
        macro = (at.path, at.line, word) in self._expanded
        self.oracle.calls.add(Call(at.path, lines, names, category, form, key, context.inside, macro))

    def _member(self, cursor: Any, children: Sequence[Any]) -> None:
        """A member of class type is constructed by each constructor of its class, not where it is declared."""
        behind_alias = _plain(cursor.type.get_canonical().get_declaration().spelling)
        for word in children:
            if kind_of(word) in NAMES_A_TYPE:
                at = self._at(word)
                names = {self._word(at), behind_alias} - {""} if at.path else set()
                self.oracle.unjudged.update((at.path, at.line, name) for name in names)

    def _name_at(self, cursor: Any, children: Iterable[Any], name: str) -> _At:
        """Where the name of the callee stands, or its sign for an operator."""
        for child in children:
            for part in _chain(child):
                if kind_of(part) in (K.DECL_REF_EXPR, K.MEMBER_REF_EXPR):
                    if part.spelling == name:
                        return self._at(part)
                    break
        return self._at(cursor)

    # Names and places

    def _callee(self, cursor: Any) -> str:
        """The key of a function; what is known of it is noted."""
        known = self._keys.get(cursor.hash)
        if known is not None:
            return known
        pattern = cursor
        while (more := LIB.clang_getSpecializedCursorTemplate(pattern)) is not None:
            pattern = more
        name = _plain(cursor.spelling)
        key = pattern.get_usr() or f"{name}@{self._at(pattern)}"
        label = "::".join((*_scopes(pattern), pattern.displayname))
        # Clang declares a builtin where it is called first.
        places = () if name.startswith("__builtin_") else tuple(sorted(set(self._places(cursor))))
        callee = Callee(name, label, places)
        self.oracle.callees[key] = merged(self.oracle.callees.get(key, callee), callee)
        self._keys[cursor.hash] = key
        return key

    def _places(self, cursor: Any) -> Iterator[Place]:
        """Where a thing is declared and defined in the tree, what it is an instance of too."""
        while cursor is not None:
            for found in (cursor, cursor.canonical, cursor.get_definition()):
                if found is not None:
                    at = self._at(found)
                    if at.path:
                        yield at.path, at.line
            cursor = LIB.clang_getSpecializedCursorTemplate(cursor)

    def _at(self, cursor: Any) -> _At:
        return self._locate(LIB.clang_getCursorLocation(cursor))

    def _locate(self, location: Any) -> _At:
        handle = cindex.c_object_p()
        line, column, offset = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
        LIB.clang_getFileLocation(
            location, ctypes.byref(handle), ctypes.byref(line), ctypes.byref(column), ctypes.byref(offset)
        )
        address = ctypes.cast(handle, ctypes.c_void_p).value
        path = self._paths.get(address)
        if path is None:
            path = self._paths[address] = self._relative(cindex.File(handle).name)
            self._handles.setdefault(path, handle)
        return _At(path, line.value, offset.value)

    def _relative(self, name: str) -> str:
        whole = str(Path(name).resolve())
        return whole[len(self._tree) :] if whole.startswith(self._tree) else ""

    def _lines(self, cursor: Any) -> tuple[int, int]:
        extent = cursor.extent
        return self._locate(extent.start).line, self._locate(extent.end).line

    def _template(self, cursor: Any) -> None:
        at = self._at(cursor)
        if at.path:
            self.oracle.templates.add(Stretch(at.path, *self._lines(cursor)))

    def _skipped(self, path: str) -> set[int]:
        found = LIB.clang_getSkippedRanges(self._unit, self._handles[path])
        lines: set[int] = set()
        for position in range(found.contents.count):
            skipped = found.contents.ranges[position]
            lines.update(range(skipped.start.line + 1, skipped.end.line))
        LIB.clang_disposeSourceRangeList(found)
        return lines

    def _text(self, path: str) -> bytes:
        if path not in self._texts:
            self._texts[path] = Path(self._tree + path).read_bytes()
        return self._texts[path]

    def _word(self, at: _At) -> str:
        found = _NAME.match(self._text(at.path), at.offset)
        return found[0].decode("utf-8", "replace") if found else ""

    def _is_written(self, at: _At, name: str) -> bool:
        """Whether a name stands in the text, or comes out of a macro's body."""
        text = self._text(at.path)[at.offset : at.offset + len(name) + 40].decode("utf-8", "replace")
        if name.startswith("operator"):
            return text.startswith("operator")
        return "".join(text.split()).startswith("".join(name.split()))


def kind_of(cursor: Any) -> int:
    return int(cursor._kind_id)  # noqa: SLF001 - the public property costs a look-up, for every node of every unit


def _chain(cursor: Any) -> Iterator[Any]:
    """A node and what it only wraps."""
    while True:
        yield cursor
        if not cursor.kind.is_unexposed():
            return
        cursor = next(iter(cursor.get_children()), None)
        if cursor is None:
            return


def _plain(name: str) -> str:
    """A name without template arguments: Clang calls the constructor of Box ``Box<T>``."""
    return name if name.startswith("operator") else name.partition("<")[0]


def _scopes(cursor: Any) -> list[str]:
    names: list[str] = []
    parent = cursor.semantic_parent
    while parent is not None and not parent.kind.is_translation_unit():
        if parent.spelling and "(" not in parent.spelling:
            names.append(parent.spelling)
        parent = parent.semantic_parent
    return names[::-1]
