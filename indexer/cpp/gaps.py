"""What the grammar of C++ does not know, or not everywhere, rewritten in as many bytes so that it does.

Each kind is a search for a fixed text and a short look around it, so that a file without it costs next to nothing. It
knows no macros: those are gone by the time it looks.
"""

import re
from collections.abc import Callable, Iterator

from indexer.cpp.lexing import Structure, blanked

Edit = tuple[int, bytes]  # offset, what is to stand there

_ARGUMENTS = rb"\([^()]{0,300}(?:\([^()]{0,200}\)[^()]{0,200}){0,8}\)"
_CUDA = rb"global|device|host|constant|shared|managed|grid_constant|forceinline|noinline|extension"
_CONVENTIONS = rb"cdecl|stdcall|fastcall|thiscall|vectorcall"

# The groups are blanked: of these when one of the words is there, and of the next when a text is.
_BY_WORD: tuple[tuple[frozenset[bytes], re.Pattern[bytes]], ...] = (
    (
        frozenset((b"__attribute", b"__attribute__")),
        re.compile(rb"(__attribute(?:__)?\s*\(\([^()]{0,200}(?:\([^()]{0,200}\)[^()]{0,200}){0,8}\)\))"),
    ),
    (
        frozenset(b"__%b__" % word for word in _CUDA.split(b"|")) | {b"__launch_bounds__"},
        re.compile(rb"(__(?<!\w__)(?:launch_bounds__\s*" + _ARGUMENTS + rb"|(?:" + _CUDA + rb")__))"),
    ),
    (
        frozenset(b"__" + word for word in _CONVENTIONS.split(b"|")),
        re.compile(rb"(__(?<!\w__)(?:" + _CONVENTIONS + rb")\b)"),
    ),
    # (std::min)(a, b) keeps the macros of windows.h away.
    (frozenset((b"min",)), re.compile(rb"(\()(?<![\w\])]\()(?:std::)?min(\))(?=\s*\()")),
    (frozenset((b"max",)), re.compile(rb"(\()(?<![\w\])]\()(?:std::)?max(\))(?=\s*\()")),
)
_BY_MARK: tuple[tuple[bytes, re.Pattern[bytes]], ...] = (
    (b"<<<", re.compile(rb"(<<<(?:[^;{}<]|<(?!<<)){1,400}?>>>)(?=\s*\()")),  # a kernel's launch is a call
    # In front of a declaration the grammar reads an attribute, behind a name it often does not.
    (
        b"[[",
        re.compile(
            rb"(\[\[(?:(?<=\w\[\[)|(?<=\w\s\[\[))\s*[\w:]+\s*(?:" + _ARGUMENTS + rb")?\s*(?:,\s*[\w:]+\s*)*\]\])"
        ),
    ),
)
_MEMBER_POINTER = re.compile(rb"::[ \t]{0,9}\*")
_NO_CLASS_END = frozenset((b"", *(bytes((byte,)) for byte in b"*&(,;={}")))
_ITS_CLASS = re.compile(rb"(?<![\w:>])[A-Za-z_][\w:]*(?:<[^<>;(){}]*>)?\s*$")
_NULL_PARAMETER = re.compile(rb"nullptr\s{0,9}[>,]")
_ITS_STAR = re.compile(rb"[\w>]\s*(\*)\s*=\s*$")
_INSTANTIATION = re.compile(rb"template[ \t]+(?!class\b|struct\b|union\b)[A-Za-z_:][^;{}]{0,600};")
_EMPTY_DEFAULT = re.compile(rb"=[ \t]*(\{[ \t]*\})[ \t]*[,)]")
_OPERATOR_CALL = re.compile(rb"operator\s{0,9}((?:[-+*/%^&|~!=<>]{1,3}|\(\)|\[\]|->)\s{0,9})(?=\()")
_TEMPLATE_CALL = re.compile(rb"template\s{0,9}\(")
_COMPUTED_BASE = re.compile(rb":\s{0,40}(?:(?:public|private|protected|virtual)\s{1,40})?decltype\s{0,9}\(")
_AUTO_FUNCTION = re.compile(rb"CPP_auto_fun\s{0,9}\(")
_AND = re.compile(rb"\bAND\b")
_MEMBER_ACCESS = frozenset((b"->",)) | {bytes((byte, 46)) for byte in range(256)}
_OPENING = re.compile(rb"\s{0,200}\(")
_BRACE_NEXT = re.compile(rb"\s*\{")


def gaps(code: bytes, structure: Structure, words: frozenset[bytes]) -> Iterator[Edit]:
    """The edits of a skeleton, in no order; they never overlap in a way that depends on it.

    ``words`` are those of GAP_WORDS that stand in it.
    """
    searches = [pattern for marks, pattern in _BY_WORD if not marks.isdisjoint(words)]
    searches += [pattern for mark, pattern in _BY_MARK if mark in code]
    for pattern in searches:
        for match in pattern.finditer(code):
            for group in range(1, pattern.groups + 1):
                yield _blank(code, *match.span(group))
    yield from _member_pointers(code)
    for match in _EMPTY_DEFAULT.finditer(code):
        start, end = match.span(1)
        yield start, b"0" + b" " * (end - start - 1)
    for word, rewrite in _REWRITES:
        if word in words:
            yield from rewrite(code, structure)


def _blank(code: bytes, start: int, end: int) -> Edit:
    return start, blanked(code[start:end])


def _member_pointers(code: bytes) -> Iterator[Edit]:
    """A pointer to a member is a pointer."""
    if b"::*" not in code and b":: " not in code and b"::\t" not in code:
        return
    for match in _MEMBER_POINTER.finditer(code):
        start = match.start()
        if code[start - 1 : start] in _NO_CLASS_END:
            continue
        owner = _ITS_CLASS.search(code, max(0, start - 200), start)
        if owner:
            yield _blank(code, owner.start(), match.end() - 1)


def _null_parameters(code: bytes, _: Structure) -> Iterator[Edit]:
    """A pointer without a name among a template's parameters, with a default, is its type."""
    for match in _NULL_PARAMETER.finditer(code):
        star = _ITS_STAR.search(code, max(0, match.start() - 40), match.start())
        if star:
            yield _blank(code, *star.span(1))


def _instantiations(code: bytes, _: Structure) -> Iterator[Edit]:
    """The explicit instantiation of a function declares nothing."""
    for match in _INSTANTIATION.finditer(code):
        start = code.rfind(b"\n", max(0, match.start() - 80), match.start()) + 1
        if code[start : match.start()].strip() in (b"", b"extern"):
            yield _blank(code, start, match.end())


def _operator_calls(code: bytes, _: Structure) -> Iterator[Edit]:
    """p->operator[](i) calls a member of that name."""
    for match in _OPERATOR_CALL.finditer(code):
        if code[max(0, match.start() - 40) : match.start()].rstrip()[-2:] in _MEMBER_ACCESS:
            start, end = match.start() + len(b"operator"), match.end(1)
            yield start, b"_" * (end - start)


def _computed_bases(code: bytes, structure: Structure) -> Iterator[Edit]:
    """A base class that decltype computes has no name."""
    for match in _COMPUTED_BASE.finditer(code):
        closing = structure.closing(match.end() - 1)
        if closing >= 0 and _BRACE_NEXT.match(code, closing + 1):
            yield _blank(code, match.start(), closing + 1)


def _template_calls(code: bytes, structure: Structure) -> Iterator[Edit]:
    """The forms that range-v3 and its followers give to what concepts say today, as are those of the next."""
    for match in _TEMPLATE_CALL.finditer(code):
        if code[match.start() - 1 : match.start()].isspace():
            yield from _template_call(code, structure, match.end() - 1)


def _template_call(code: bytes, structure: Structure, opening: int) -> Iterator[Edit]:
    """template(typename T)(requires C<T>) is a template's head with a condition."""
    closing = structure.closing(opening)
    if closing < 0:
        return
    yield opening, b"<"
    yield closing, b">"
    found = _OPENING.match(code, closing + 1)
    end = structure.closing(found.end() - 1) if found else -1
    if found is None or end < 0:
        return
    inner = code[found.end() : end]
    if inner.lstrip().startswith(b"requires"):
        yield found.end() - 1, b" "
        yield end, b" "
        for match in _AND.finditer(inner):
            yield found.end() + match.start(), b"&& "
    else:
        yield _blank(code, found.end() - 1, end + 1)


def _auto_functions(code: bytes, structure: Structure) -> Iterator[Edit]:
    for match in _AUTO_FUNCTION.finditer(code):
        yield from _auto_function(code, structure, match.start(), match.end() - 1)


def _auto_function(code: bytes, structure: Structure, start: int, opening: int) -> Iterator[Edit]:
    """CPP_auto_fun(name)(parameters)(const) (return x) is name(parameters) const { return x; }."""
    closing = structure.closing(opening)
    parameters = _OPENING.match(code, closing + 1) if closing >= 0 else None
    if parameters is None:
        return
    yield _blank(code, start, opening + 1)
    yield closing, b" "
    end = structure.closing(parameters.end() - 1)
    for _ in range(2):
        found = _OPENING.match(code, end + 1) if end >= 0 else None
        end = structure.closing(found.end() - 1) if found else -1
        if found is None or end < 0:
            return
        inner = code[found.end() : end]
        if inner.lstrip().startswith(b"return") and inner[-1:].isspace():
            yield found.end() - 1, b"{"
            yield end - 1, b";}"
            return
        yield found.end() - 1, b" "
        yield end, b" "


_REWRITES: tuple[tuple[bytes, Callable[[bytes, Structure], Iterator[Edit]]], ...] = (
    (b"nullptr", _null_parameters),
    (b"template", _instantiations),
    (b"operator", _operator_calls),
    (b"template", _template_calls),
    (b"CPP_auto_fun", _auto_functions),
    (b"decltype", _computed_bases),
)
# Those whose presence decides which searches are worth while.
GAP_WORDS = frozenset(word for word, _ in _REWRITES).union(*(words for words, _ in _BY_WORD))
