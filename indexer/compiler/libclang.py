"""The few functions of libclang's C interface that reading a unit takes, typed. Owns the library.

The wheel's Python classes wrap each cursor and attribute anew, at ten times the price of these calls; a unit has a
hundred thousand of them. Names and constants are those of clang-c/Index.h.
"""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from typing import Any, NamedTuple

# CXTranslationUnit_DetailedPreprocessingRecord (macro uses, includes and skipped lines), _Incomplete (no instantiations
# at the end, which nobody reads) and _KeepGoing (a missing header ends nothing).
_OPTIONS = 0x01 | 0x02 | 0x200
CRASHED = 2  # CXError_Crashed
ERROR, FATAL = 3, 4  # CXDiagnosticSeverity
BREAK, CONTINUE, RECURSE = 0, 1, 2  # CXChildVisitResult


class Cursor(Structure):
    _fields_ = (("kind", c_int), ("xdata", c_int), ("data", c_void_p * 3))


class _Location(Structure):
    _fields_ = (("data", c_void_p * 2), ("offset", c_uint))


class _Range(Structure):
    _fields_ = (("data", c_void_p * 2), ("start", c_uint), ("end", c_uint))


class _Ranges(Structure):
    _fields_ = (("count", c_uint), ("ranges", POINTER(_Range)))


class _Type(Structure):
    _fields_ = (("kind", c_int), ("data", c_void_p * 2))


class _String(Structure):
    _fields_ = (("data", c_void_p), ("flags", c_uint))


Visitor = ctypes.CFUNCTYPE(c_int, Cursor, Cursor, c_void_p)
_InclusionVisitor = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_uint, c_void_p)

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "clang_createIndex": (c_void_p, [c_int, c_int]),
    "clang_disposeIndex": (None, [c_void_p]),
    "clang_parseTranslationUnit2": (
        c_int,
        [c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, c_uint, c_uint, POINTER(c_void_p)],
    ),
    "clang_disposeTranslationUnit": (None, [c_void_p]),
    "clang_getTranslationUnitCursor": (Cursor, [c_void_p]),
    "clang_visitChildren": (c_uint, [Cursor, Visitor, c_void_p]),
    "clang_getCursorReferenced": (Cursor, [Cursor]),
    "clang_getCursorDefinition": (Cursor, [Cursor]),
    "clang_getCanonicalCursor": (Cursor, [Cursor]),
    "clang_getSpecializedCursorTemplate": (Cursor, [Cursor]),
    "clang_getCursorSemanticParent": (Cursor, [Cursor]),
    "clang_getCursorLinkage": (c_int, [Cursor]),
    "clang_isCursorDefinition": (c_uint, [Cursor]),
    "clang_getCursorSpelling": (_String, [Cursor]),
    "clang_getCursorLocation": (_Location, [Cursor]),
    "clang_getCursorExtent": (_Range, [Cursor]),
    "clang_getRangeStart": (_Location, [_Range]),
    "clang_getRangeEnd": (_Location, [_Range]),
    "clang_getFileLocation": (
        None,
        [_Location, POINTER(c_void_p), POINTER(c_uint), POINTER(c_uint), POINTER(c_uint)],
    ),
    "clang_getSpellingLocation": (
        None,
        [_Location, POINTER(c_void_p), POINTER(c_uint), POINTER(c_uint), POINTER(c_uint)],
    ),
    "clang_Cursor_getNumArguments": (c_int, [Cursor]),
    "clang_Cursor_getArgument": (Cursor, [Cursor, c_uint]),
    "clang_getCursorType": (_Type, [Cursor]),
    "clang_getTypeSpelling": (_String, [_Type]),
    "clang_CXXMethod_isVirtual": (c_uint, [Cursor]),
    "clang_getOverriddenCursors": (None, [Cursor, POINTER(POINTER(Cursor)), POINTER(c_uint)]),
    "clang_disposeOverriddenCursors": (None, [POINTER(Cursor)]),
    "clang_getIncludedFile": (c_void_p, [Cursor]),
    "clang_getInclusions": (None, [c_void_p, _InclusionVisitor, c_void_p]),
    "clang_getFileName": (_String, [c_void_p]),
    "clang_getFileContents": (c_void_p, [c_void_p, c_void_p, POINTER(c_size_t)]),
    "clang_getAllSkippedRanges": (POINTER(_Ranges), [c_void_p]),
    "clang_disposeSourceRangeList": (None, [POINTER(_Ranges)]),
    "clang_getNumDiagnostics": (c_uint, [c_void_p]),
    "clang_getDiagnostic": (c_void_p, [c_void_p, c_uint]),
    "clang_disposeDiagnostic": (None, [c_void_p]),
    "clang_getDiagnosticSeverity": (c_int, [c_void_p]),
    "clang_getDiagnosticSpelling": (_String, [c_void_p]),
    "clang_getDiagnosticLocation": (_Location, [c_void_p]),
    "clang_getCString": (c_char_p, [_String]),
    "clang_disposeString": (None, [_String]),
}


class Diagnostic(NamedTuple):
    severity: int
    file: int | None  # as ``Clang.file_name`` takes it; None outside of any file
    line: int
    message: str


class Clang:
    """The library, loaded."""

    def __init__(self) -> None:
        from clang.cindex import conf  # noqa: PLC0415 - an extra, and loaded where it is used: in the workers

        library = ctypes.CDLL(conf.get_filename())
        for name, (result, arguments) in _SIGNATURES.items():
            function = library[name]
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("clang_"), function)
        self._file, self._line, self._offset = c_void_p(), c_uint(), c_uint()
        self._index = self.createIndex(0, 0)

    def __getattr__(self, name: str) -> Any:  # what __init__ sets; this tells the type checker
        raise AttributeError(name)

    def parse(self, path: str, arguments: Sequence[str]) -> "Translation | int":
        """A parsed unit, which the caller closes, or the CXErrorCode that says why there is none."""
        words = (c_char_p * len(arguments))(*(argument.encode() for argument in arguments))
        unit = c_void_p()
        error = self.parseTranslationUnit2(
            self._index, path.encode(), words, len(arguments), None, 0, _OPTIONS, byref(unit)
        )
        return int(error) if error or not unit.value else Translation(self, unit)

    def text(self, string: _String) -> str:
        found = self.getCString(string)
        self.disposeString(string)
        return found.decode("utf-8", "replace") if found else ""

    def spelling(self, cursor: Cursor) -> str:
        return self.text(self.getCursorSpelling(cursor))

    def type_of(self, cursor: Cursor) -> str:
        return self.text(self.getTypeSpelling(self.getCursorType(cursor)))

    def place(self, cursor: Cursor) -> tuple[int | None, int, int]:
        """File, line and byte offset of a name. What a macro's body holds stands where the macro is used."""
        return self._in_file(self.getCursorLocation(cursor))

    def start(self, cursor: Cursor) -> int:
        """The offset at which it is spelt, be it in the body of a macro: only good for comparing."""
        start = self.getRangeStart(self.getCursorExtent(cursor))
        self.getSpellingLocation(start, None, None, None, byref(self._offset))
        return self._offset.value

    def _in_file(self, location: _Location) -> tuple[int | None, int, int]:
        self.getFileLocation(location, byref(self._file), byref(self._line), None, byref(self._offset))
        return self._file.value, self._line.value, self._offset.value

    def overridden(self, method: Cursor) -> list[Cursor]:
        found, count = POINTER(Cursor)(), c_uint()
        self.getOverriddenCursors(method, byref(found), byref(count))
        try:
            return [Cursor.from_buffer_copy(found[number]) for number in range(count.value)]
        finally:
            if found:
                self.disposeOverriddenCursors(found)


class Translation:
    """One parsed unit."""

    def __init__(self, clang: Clang, unit: c_void_p) -> None:
        self._clang = clang
        self._unit = unit
        self.cursor: Cursor = clang.getTranslationUnitCursor(unit)

    def close(self) -> None:
        self._clang.disposeTranslationUnit(self._unit)

    def visit(self, cursor: Cursor, visitor: Callable[..., int]) -> None:
        self._clang.visitChildren(cursor, visitor, None)

    def file_name(self, file: int) -> str:
        return self._clang.text(self._clang.getFileName(file))

    def contents(self, file: int) -> bytes:
        """The bytes that were parsed, which may no longer be those on disk."""
        size = c_size_t()
        start = self._clang.getFileContents(self._unit, file, byref(size))
        return ctypes.string_at(start, size.value) if start else b""

    def files(self) -> list[int]:
        """Every file that was read, the main one among them."""
        found: dict[int, None] = {}

        def note(file: int, _stack: object, _depth: int, _data: object) -> None:
            found[file] = None

        self._clang.getInclusions(self._unit, _InclusionVisitor(note), None)
        return list(found)

    def skipped(self) -> dict[int, set[tuple[int, int]]]:
        """For each file the lines that the preprocessor left out: those of its #if and #else or #endif, exclusive."""
        clang = self._clang
        ranges = clang.getAllSkippedRanges(self._unit)
        found: dict[int, set[tuple[int, int]]] = {}
        try:
            for number in range(ranges.contents.count if ranges else 0):
                stretch = ranges.contents.ranges[number]
                file, first, _ = clang._in_file(clang.getRangeStart(stretch))  # noqa: SLF001 - one class in two halves
                last = clang._in_file(clang.getRangeEnd(stretch))[1]  # noqa: SLF001 - as above
                if file is not None:
                    found.setdefault(file, set()).add((first, last))
        finally:
            if ranges:
                clang.disposeSourceRangeList(ranges)
        return found

    def errors(self, limit: int) -> list[Diagnostic]:
        """The errors and fatal errors, ``limit`` at most."""
        clang = self._clang
        found: list[Diagnostic] = []
        for number in range(clang.getNumDiagnostics(self._unit)):
            diagnostic = clang.getDiagnostic(self._unit, number)
            try:
                severity = clang.getDiagnosticSeverity(diagnostic)
                if severity >= ERROR and len(found) < limit:
                    file, line, _ = clang._in_file(clang.getDiagnosticLocation(diagnostic))  # noqa: SLF001 - as above
                    message = clang.text(clang.getDiagnosticSpelling(diagnostic))
                    found.append(Diagnostic(severity, file, line, message))
            finally:
                clang.disposeDiagnostic(diagnostic)
        return found
