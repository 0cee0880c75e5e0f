"""Types, parameter lists and template heads of C++ in one spelling, so that equal ones are equal texts.

Pure text: it is given what stands between two places of a file and knows neither files nor syntax trees. What is not
C++ gets some spelling too, always the same.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

MAX_TYPE = 1000  # characters of a type or a parameter that are read
MAX_PARAMETERS = 4000  # characters of a parameter list that are read

EXPLICIT_OBJECT = "/**/"  # stands in the code read for the "this" of "this Self& self", which the grammar does not know
_TOKEN = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|/\*.*?\*/|//[^\n]*|\[\[.*?\]\]|\w+|::|\.\.\.|&&|->|\S""", re.DOTALL
)
_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_ALL_CLOSING = frozenset(")]}>")
_ELABORATED = frozenset({"struct", "class", "union", "enum", "typename", "template", "register"})
# What may stand before a type and is no part of it.
_SPECIFIERS = frozenset(
    "virtual static explicit inline constexpr consteval constinit extern mutable friend thread_local typedef using "
    "export _Thread_local __inline __inline__ __extension__".split()
)
_ARITHMETIC = frozenset({"unsigned", "signed", "long", "short", "int", "char", "double"})
_BUILT_IN = _ARITHMETIC | {"float", "bool", "void", "auto", "wchar_t", "char8_t", "char16_t", "char32_t"}
_QUALIFIERS = frozenset({"const", "volatile"})
_STARS = frozenset({"*", "&", "&&", "..."})
_NOT_A_TYPE = _QUALIFIERS | _ELABORATED | _SPECIFIERS
_NOT_A_NAME = _BUILT_IN | _NOT_A_TYPE
_DROPPED = _ELABORATED | _SPECIFIERS | {"restrict", "__restrict", "__restrict__"}
_SAYS_NOTHING = frozenset({"alignas", "_Alignas", "__attribute__", "__declspec"})
_TAKES_ARGUMENTS = _SAYS_NOTHING | {"decltype", "typeof", "__typeof__", "__typeof"}
_ARITHMETIC_RUN = re.compile(r"\b(?:(?:unsigned|signed|long|short|int|char|double)\b ?){1,6}")
_SIMPLE = re.compile(r"\s*(const\s+|)([A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)\s*([*&]?)\s*")
_NEEDS_SPELLING = _DROPPED | _QUALIFIERS | (_ARITHMETIC - {"int", "char", "double"})


class Parameters(NamedTuple):
    types: tuple[str, ...]
    required: int  # how many come without a default and are no pack
    explicit_object: str  # the type of "this Self& self", or ""


NO_PARAMETERS = Parameters((), 0, "")


@lru_cache(maxsize=4096)
def template_parameters(written: str) -> tuple[str, ...]:
    """The names between ``template <`` and ``>``, in order: ``Args...`` for a pack, ``_`` for one without a name."""
    names: list[str] = []
    for part, _ in _parts(_TOKEN.findall(written[:MAX_PARAMETERS])):
        words = [token for token in part if token[0].isalpha() or token[0] == "_"]
        named = (
            len(words) > 1
            and part[-1] == words[-1]
            and words[-1] not in _NOT_A_NAME
            and (len(part) < 2 or part[-2] not in ("::", "."))
        )
        name = words[-1] if named else "_"
        names.append(f"{name}..." if "..." in part else name)
    return tuple(names)


@lru_cache(maxsize=16384)
def parameters_of(written: str) -> Parameters:
    """What stands between the parentheses of a function: types in one spelling, without names and defaults."""
    if not written or written.isspace():
        return NO_PARAMETERS
    types: list[str] = []
    required = 0
    explicit_object = ""
    for part, has_default in _parts(_TOKEN.findall(written[:MAX_PARAMETERS])):
        if part[0] == EXPLICIT_OBJECT and not types:
            explicit_object = _spelt(_unnamed(part[1:]), as_parameter=True)
            continue
        types.append(_spelt(_unnamed(part), as_parameter=True))
        required += not has_default and "..." not in part
    if types == ["void"]:
        return NO_PARAMETERS
    return Parameters(tuple(types), required, explicit_object)


def split_list(written: str) -> list[str]:
    """The pieces between the commas that stand in no brackets, without what follows a ``=`` in them."""
    return [" ".join(part) for part, _ in _parts(_TOKEN.findall(written[:MAX_PARAMETERS]))]


def _parts(words: list[str]) -> Iterator[tuple[list[str], bool]]:
    """The words between commas outside of brackets, up to a ``=``, and whether there was one."""
    closing: list[str] = []
    part: list[str] = []
    has_default = False
    before = ""
    for word in words:
        if not closing and word == ",":
            if part:
                yield part, has_default
            part, has_default, before = [], False, ""
            continue
        if word in _CLOSING:
            if word != "<" or before[-1:].isalnum() or before[-1:] == "_":
                closing.append(_CLOSING[word])
        elif word in _ALL_CLOSING:
            _close(closing, word)
        elif word == "=" and not closing:
            has_default = True
        if not has_default:
            part.append(word)
        before = word
    if part:
        yield part, has_default


def _close(closing: list[str], word: str) -> None:
    while word != ">" and closing and closing[-1] == ">":  # it was a "less than"
        closing.pop()
    if closing and closing[-1] == word:
        closing.pop()


def _unnamed(words: list[str]) -> list[str]:
    """The words of a parameter without its name."""
    if "(" in words:
        opening = _declarator_parenthesis(words)
        if opening:
            return _unnamed_function(words, opening)
    end = len(words)
    while end and words[end - 1] == "]" and "[" in words[:end]:
        end = max(index for index in range(end) if words[index] == "[")
    if end and _is_name(words, end - 1):
        return words[: end - 1] + words[end:]
    return words


def _is_name(words: list[str], at: int) -> bool:
    """Whether the word there is the name that the words before it give a type to."""
    word = words[at]
    if not (word[0].isalpha() or word[0] == "_") or word in _NOT_A_NAME or words[at - 1] == "::":
        return False
    return any(
        word == ">" or ((word[0].isalpha() or word[0] == "_") and word not in _NOT_A_TYPE) for word in words[:at]
    )


def _declarator_parenthesis(words: list[str]) -> int:
    """Where the parentheses of ``int (*f)(int)`` or ``int f(int)`` open, or 0."""
    angles = depth = 0
    for index, word in enumerate(words):
        if word == "(":
            if depth == 0 and angles <= 0 and index and words[index - 1] not in _TAKES_ARGUMENTS:
                return index
            depth += 1
        elif word == ")":
            depth -= 1
        elif depth == 0:
            angles += (word == "<") - (word == ">")
    return 0


def _unnamed_function(words: list[str], opening: int) -> list[str]:
    at = opening + 1
    points = False
    while at < len(words):
        word = words[at]
        if word in ("*", "&", "&&"):
            points = True
        elif word not in ("::", "const", "volatile", "...") and words[at + 1 : at + 2] != ["::"]:
            break
        at += 1
    if not points:
        named = _is_name(words, opening - 1)
        return words[: opening - 1] + words[opening:] if named else words
    if at < len(words) and (words[at][0].isalpha() or words[at][0] == "_"):
        return words[:at] + words[at + 1 :]
    return words


@lru_cache(maxsize=16384)
def canonical_type(written: str) -> str:
    """One spelling for the type of a parameter: ``Foo const &`` and ``const Foo&`` agree, top-level const is dropped.

    ``struct``, ``typename`` and a leading ``::`` are dropped, an array is a pointer, ``unsigned`` is ``unsigned int``.
    """
    return _spelt(_TOKEN.findall(written[:MAX_TYPE]), as_parameter=True)


@lru_cache(maxsize=16384)
def full_type(written: str) -> str:
    """The same for what a declaration says before its name: const and arrays stay, ``static`` and its like go."""
    simple = _SIMPLE.fullmatch(written)
    if simple and simple[2] not in _NEEDS_SPELLING:
        return (simple[1] and "const ") + simple[2] + simple[3]
    return _spelt(_TOKEN.findall(written[:MAX_TYPE]), as_parameter=False)


class _Piece:
    """A type, or an argument of one, while its words come in."""

    __slots__ = ("base", "done", "marks", "opening", "rest")

    def __init__(self, opening: str) -> None:
        self.opening = opening
        self.done: list[str] = []  # the arguments before it
        self.marks: set[str] = set()  # const and volatile of the base
        self.base: list[str] = []
        self.rest: list[str] = []  # from the first "*", "&", "[" or "(" on

    def add(self, word: str) -> None:
        if self.rest or word in _STARS:
            self.rest.append(word)
        elif word in _QUALIFIERS:
            self.marks.add(word)
        elif word != "::" or self.base:
            self.base.append(word)

    def take(self, closed: "_Piece") -> None:
        """Puts a pair of brackets and what stands in it behind what it follows."""
        text = closed.opening + ",".join(closed.arguments()) + _CLOSING[closed.opening]
        if self.rest or (closed.opening != "<" and not (self.base and self.base[-1] in _TAKES_ARGUMENTS)):
            self.rest.append(text)
        elif self.base and self.base[-1] in _SAYS_NOTHING:
            self.base.pop()
        else:
            self.base.append(text)

    def arguments(self) -> list[str]:
        last = self.spelt()
        return [*self.done, last] if last else self.done

    def spelt(self) -> str:
        return _join([*sorted(self.marks), *self.base, *self.rest])


def _spelt(words: list[str], *, as_parameter: bool) -> str:
    piece = _Piece("")
    stack: list[_Piece] = []
    for word in words:
        if word in _DROPPED or word.startswith(("/*", "//", "[[")):
            continue
        if word in _CLOSING:
            stack.append(piece)
            piece = _Piece(word)
        elif word == "," and stack:
            piece.done.append(piece.spelt())
            piece.marks, piece.base, piece.rest = set(), [], []
        elif word in _ALL_CLOSING and stack and (word != ">" or piece.opening == "<"):
            piece = _closed(stack, piece, word)
        else:
            piece.add(word)
    piece = _closed(stack, piece, "")
    if as_parameter:
        _adjust_parameter(piece)
    spelt = piece.spelt()
    if "signed" in spelt or "long" in spelt or "short" in spelt:
        spelt = _ARITHMETIC_RUN.sub(_arithmetic, spelt)
    return spelt


def _closed(stack: list[_Piece], piece: _Piece, closing: str) -> _Piece:
    """The piece around, once what this bracket closes is part of it; all that is open for none."""
    while stack:
        inner, piece = piece, stack.pop()
        piece.take(inner)
        if _CLOSING[inner.opening] == closing:
            break
    return piece


def _adjust_parameter(piece: _Piece) -> None:
    rest = piece.rest
    if not any(part[0] == "(" for part in rest):
        array = next((index for index, part in enumerate(rest) if part[0] == "["), -1)
        if array >= 0:
            rest[array] = "(*)" if any(part[0] == "[" for part in rest[array + 1 :]) else "*"
    while rest and rest[-1] in _QUALIFIERS:
        rest.pop()  # "char* const p": the parameter itself, which a caller does not see
    if not rest or rest == ["..."]:
        piece.marks = set()


def _arithmetic(match: re.Match[str]) -> str:
    words = match[0].split()
    unsigned = "unsigned " if "unsigned" in words else ""
    if "char" in words:
        name = unsigned + ("signed char" if "signed" in words else "char")
    elif "double" in words:
        name = "long double" if "long" in words else "double"
    elif "short" in words:
        name = unsigned + "short"
    else:
        name = unsigned + (" ".join(["long"] * words.count("long")) or "int")
    return name + (" " if match[0].endswith(" ") else "")


def _join(words: list[str]) -> str:
    pieces: list[str] = []
    for word in words:
        if pieces and (word[0].isalnum() or word[0] == "_") and (pieces[-1][-1].isalnum() or pieces[-1][-1] == "_"):
            pieces.append(" ")
        pieces.append(word)
    return "".join(pieces)
