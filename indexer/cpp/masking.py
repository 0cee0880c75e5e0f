"""Blanks out what a grammar without a preprocessor stumbles over: macros that stand where C++ has no place for a word.

Every byte that goes is replaced by a space (line ends stay), so offsets and lines of the blanked text are those of the
original. What was blanked is reported, so that no use of a macro is lost. It knows spellings and places, not what a
macro expands to, and nothing of tree-sitter: a wrong guess costs a word in the tree, never in the text that is shown.
"""

import re
from functools import lru_cache
from typing import NamedTuple


class MacroUse(NamedTuple):
    name: str
    start: int  # byte offset


class Masked(NamedTuple):
    code: bytes  # as long as the original, same line ends
    uses: tuple[MacroUse, ...]  # the macros that were blanked, by offset


# The bounds keep a search linear in a file of nothing but opening parentheses.
_ARGUMENTS = rb"\([^()]{0,300}(?:\([^()]{0,200}\)[^()]{0,200}){0,8}\)"

_NAME = re.compile(rb"\b[A-Z_][A-Z0-9_]{2,}\b")
_TAIL = re.compile(rb"[ \t]*(?:" + _ARGUMENTS + rb")")

# Words that, as a part of a macro's name, tell that it expands to an attribute, a linkage or nothing.
_DECORATION = re.compile(
    rb"(?:.*_)?(?:(?:DLL)?EXPORTS?|DLLIMPORT|API|INLINE|FORCEINLINE|NOINLINE|CONSTEXPR\d*|CONSTEVAL|CONSTINIT"
    rb"|NODISCARD|NOEXCEPT|EXTERN|PUBLIC|VISIBLE|VISIBILITY|HIDDEN|DEPRECATED|ATTRIBUTES?|ATTR|UNUSED|NORETURN"
    rb"|HEDLEY|MUST|DECL|CDECL|STDCALL|CALLBACK|WINAPI|APIENTRY|OVERRIDE|RESTRICT|ALWAYS|LIFETIMEBOUND|NONNULL"
    rb"|WARN)(?:_.*)?"
)
# Clang's thread-safety vocabulary, old and new spelling, with or without a project's prefix, and printf checks.
_ANNOTATION = re.compile(
    rb"(?:.*_)?(?:GUARDED_BY|GUARDED_VAR|ACQUIRED_(?:AFTER|BEFORE)|LOCKS_REQUIRED|LOCKS_EXCLUDED|LOCK_RETURNED"
    rb"|(?:LOCK|TRYLOCK|UNLOCK)_FUNCTION|REQUIRES(?:_SHARED)?|EXCLUDES|ACQUIRE(?:_SHARED)?"
    rb"|RELEASE(?:_SHARED|_GENERIC)?|ASSERT_(?:EXCLUSIVE_|SHARED_)?LOCK|ASSERT_CAPABILITY|SCOPED_CAPABILITY"
    rb"|SCOPED_LOCKABLE|LOCKABLE|RETURN_CAPABILITY|NO_THREAD_SAFETY_ANALYSIS|PRINTF_FORMAT|PRINTF_ATTRIBUTE)"
)

_TYPE_KEYWORDS = (b"class", b"struct", b"union", b"enum")
_AFTER_KEYWORD = re.compile(rb"\b(class|struct|union|enum|enum\s+class|enum\s+struct)$")
_TYPE_NAME_THEN_BODY = re.compile(
    rb"\s+(?:[A-Z][A-Z0-9_]*(?:" + _ARGUMENTS + rb")?\s+)*(?!final\b)[A-Za-z_][\w:]*\s*(?:<[^;{}]{0,200}>)?\s*"
    rb"(?:final\s*)?(?:\{|:[^:])"
)
_TYPE_NAME_THEN_END = re.compile(rb"\s+[A-Za-z_]\w*\s*;")
_WORD = re.compile(rb"\s+[A-Za-z_~\[:]")
_ANNOTATED = re.compile(rb"\s*[;{=:,A-Z\[]|\s+\w")
_ENDS_DECLARATOR = re.compile(rb"\s*(?:[;{:]|=\s*(?:0|default|delete)\b)")
_BODY = re.compile(rb"\s*(?:\{|=\s*(?:0|default|delete)\b)")
_PARAMETERS_BEFORE = (b")", b" const", b" noexcept", b" override", b" final")
_TYPE_AND_FUNCTION_NAME = re.compile(
    rb"[ \t]+(?:[a-z_]\w*[ \t]+){0,4}[A-Za-z_][\w:]*(?:<[^;{}()]{0,200}>)?[ \t*&]+[~\w:]+[ \t]*\("
)
_OPENS_BLOCK = re.compile(rb"\s*\{")
_LABEL = re.compile(rb"[ \t]*:[ \t]*(?=\r?(?:\n|$))")
_LINE_END = re.compile(rb"[ \t]*\r?(?:\n|$)")
_LONE_LINE = re.compile(rb"[A-Z_][A-Z0-9_]{2,}(?:[ \t]*" + _ARGUMENTS + rb")?")
_ENDS_STATEMENT = (b";", b"{", b"}", b":", b"*/")
_STARTS_STATEMENT = re.compile(rb"\s*(?:[A-Za-z_~#/@\[]|\}|::|$)")

# What the grammar does not know or not everywhere: a text that must be there, and the groups that are blanked.
_OUTSIDE_THE_GRAMMAR = (
    (
        b"__attribute__",
        re.compile(rb"\b(__attribute__\s*\(\([^()]{0,200}(?:\([^()]{0,200}\)[^()]{0,200}){0,8}\)\))"),
    ),
    (
        b"__",
        re.compile(
            rb"\b(__launch_bounds__\s*"
            + _ARGUMENTS
            + rb"|__(?:global|device|host|constant|shared|managed|grid_constant|forceinline|noinline|extension)__\b)"
        ),
    ),
    (b"<<<", re.compile(rb"(<<<[^;{}]{1,400}?>>>)(?=\s*\()")),  # a kernel's launch is a call
    # In front of a declaration the grammar reads an attribute, behind a name it often does not.
    (b"[[", re.compile(rb"(?<=\w)\s*(\[\[\s*[\w:]+\s*(?:" + _ARGUMENTS + rb")?\s*(?:,\s*[\w:]+\s*)*\]\])")),
    # (std::min)(a, b) keeps the macros of windows.h away.
    (b"m", re.compile(rb"(\()(?<![\w\])]\()(?:std::)?(?:min|max)(\))(?=\s*\()")),
)
_NAMED_BY_STRING = re.compile(
    rb"^[ \t]*[A-Z_]*(?:TEST|SCENARIO|BENCHMARK)[A-Z0-9_]*[ \t]*(\([^\n]*\"[^\n]*\))\s*\{", re.MULTILINE
)
_STRING = re.compile(rb'"(?:[^"\\\n]|\\.)*"')
_BLANKED = re.compile(rb"[^\n\\]|\\(?!\r?\n)")  # a backslash that continues a #define must stay


def mask(text: bytes) -> Masked:
    """The text with macros out of place blanked, and which they were."""
    code = bytearray(text)
    uses: list[MacroUse] = []
    for match in _NAME.finditer(text):
        start, end = match.span()
        end = _end_of_misplaced(text, code, start, end)
        if end and not _in_directive(text, start):
            _blank(code, start, end)
            uses.append(MacroUse(match[0].decode(), start))
    for mark, pattern in _OUTSIDE_THE_GRAMMAR:
        if mark in text:
            for match in pattern.finditer(text):
                for group in range(1, pattern.groups + 1):
                    _blank(code, *match.span(group))
    for match in _NAMED_BY_STRING.finditer(text):
        # TEST_CASE("says what", "[tag]") {...} is a function to the grammar once its strings look like words.
        first, last = match.span(1)
        code[first:last] = _STRING.sub(lambda string: b"_" * len(string[0]), bytes(code[first:last]))
    return Masked(bytes(code), tuple(uses))


@lru_cache(maxsize=4096)
def _is_annotation(name: bytes) -> bool:
    return _ANNOTATION.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_decoration(name: bytes) -> bool:
    return _DECORATION.fullmatch(name) is not None


def _end_of_misplaced(text: bytes, code: bytearray, start: int, end: int) -> int:
    """Where the macro at [start, end) ends with its arguments, or 0 if it stands where C++ has a place for it."""
    name = text[start:end]
    arguments = _TAIL.match(text, end)
    end = arguments.end() if arguments else end
    if _is_annotation(name):
        return end if _ANNOTATED.match(text, end) else 0
    before = bytes(code[max(0, start - 120) : start]).rstrip()
    decorates = _is_decoration(name)
    if before.endswith(_TYPE_KEYWORDS) and _AFTER_KEYWORD.search(before):
        # "struct STAT info;" declares a variable in C; "class API Name;" cannot.
        forward = (decorates or before.endswith(b"class")) and _TYPE_NAME_THEN_END.match(text, end)
        return end if forward or _TYPE_NAME_THEN_BODY.match(text, end) else 0
    if decorates and _WORD.match(text, end):
        return end
    if before.endswith(_PARAMETERS_BEFORE) and (_ENDS_DECLARATOR if decorates else _BODY).match(text, end):
        return end
    if line_before(text, start).strip():
        return 0
    return _end_on_own_line(text, before, name, end, has_arguments=arguments is not None)


def _end_on_own_line(text: bytes, before: bytes, name: bytes, end: int, *, has_arguments: bool) -> int:
    """The same for a macro that is the first word of its line."""
    if b"_" in name and _TYPE_AND_FUNCTION_NAME.match(text, end):
        return end
    if not has_arguments and (before.endswith(b")") or _ends_statement(before)):
        label = _LABEL.match(text, end)  # an access specifier in disguise
        if label or _OPENS_BLOCK.match(text, end):  # or what stands for "try"
            return label.end() if label else end
    if _LINE_END.match(text, end) and _stands_alone(before, text[end : end + 200], has_arguments=has_arguments):
        return end
    return 0


def _stands_alone(before: bytes, after: bytes, *, has_arguments: bool) -> bool:
    """Whether a line that holds one macro is a statement of its own, not the middle of a list or an expression."""
    if not _ends_statement(before):
        return False
    if after.lstrip().startswith(b"}"):  # the last enumerator of a list looks like this, without arguments
        return has_arguments
    return _STARTS_STATEMENT.match(after) is not None


def _ends_statement(before: bytes) -> bool:
    """Whether what stands before is complete: a statement, a comment, a directive or another lone macro."""
    last_line = before[before.rfind(b"\n") + 1 :].strip()
    if not last_line or last_line.startswith((b"#", b"//")) or last_line.endswith(_ENDS_STATEMENT):
        return True
    return _LONE_LINE.fullmatch(last_line) is not None


def _in_directive(text: bytes, at: int) -> bool:
    return line_before(text, at).lstrip().startswith(b"#")


def line_before(text: bytes, at: int) -> bytes:
    """What stands before an offset on its line; of a very long line only the end, to stay linear."""
    line = text[max(0, at - 400) : at]
    return line[line.rfind(b"\n") + 1 :]


def _blank(code: bytearray, start: int, end: int) -> None:
    code[start:end] = _BLANKED.sub(b" ", bytes(code[start:end]))
