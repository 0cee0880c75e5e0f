"""The words in which the type of an expression is told, as far as one file shows it, and how they combine.

A hint is JSON, as short as it can be:

    null                          nothing is known
    "const Slice&"                a type in canonical spelling, as written: of a variable, a cast, a literal
    ["this"]                      the pointer
    ["name", n]                   n is no local: a variable, field, enumerator or function, as written
    ["call", n, arguments, template_arguments]
    ["method", object, n, arguments, template_arguments]
    ["member", object, n]         x.n; x->n is ["member", ["*", x], n]
    ["*", e]  ["&", e]  ["[]", e, index]
    ["op", "+", left, right]  ["op", "-", e]
    ["cond", a, b]                of a ? b : c, where both are known
    ["element", e]                what a range-for over e yields
    ["bind", e, i]                the i-th name of a structured binding of e
    ["lambda"]
    ["list", [hints]]             a braced list, at most its first 12
    ["pack", e]                   e...: any number of arguments

Arguments are lists of hints; behind the twelfth they are null, but counted. Template arguments are types as written,
null where they rest on a template parameter in sight; the list is left out where none are written. Lists nest at most
six deep, what lies deeper is null. A type that is a template parameter, or is looked up in one (``T::value_type``), is
null, and so is everything looked up in an object of which nothing is known.

No local name stands in a hint: what is known of a local stands in its place. Where a type shows that they mean nothing
more, ``*``, ``&`` and ``[]`` are worked out, and ``<<`` and ``>>`` have the hint of their left operand: they shift
numbers and return streams. Which declaration a name means, nothing here asks.
"""

import json
import re
from enum import Enum
from functools import lru_cache

from indexer.cpp.types import canonical_type

Hint = tuple[str, int]  # JSON, and how deeply its lists nest

MAX_DEPTH = 6
MAX_HINT = 300  # characters of what is known of one local; longer ones are not known

UNKNOWN: Hint = ("null", 0)
BOOL: Hint = ('"bool"', 0)
SIZE: Hint = ('"size_t"', 0)
_FIRST_NAME = re.compile(r"(?:const )?(\w+(?:::|(?=[*&.]|$)))")
_NO_FUNCTION = re.compile(r"default|delete|[A-Z][A-Z0-9_]+|k[A-Z]\w*|[mgs]_\w+|\w+_|\w")
_NAMED = re.compile(r'(?:\["&",)?\["name","(?:\w+::)*(\w+)"\]\]?')
_OPAQUE = re.compile(r"\b(?:auto|decltype|typeof|__typeof__)\b")
_WORDS = {b"true": '"bool"', b"false": '"bool"', b"nullptr": '"std::nullptr_t"', b"NULL": '"std::nullptr_t"'}
_QUOTE = re.compile(rb"(L|u8|u|U)?R?(['\"])")
_STRINGS = {b"L": '"const wchar_t*"', b"u8": '"const char8_t*"', b"u": '"const char16_t*"', b"U": '"const char32_t*"'}
_CHARACTERS = {b"L": '"wchar_t"', b"u8": '"char8_t"', b"u": '"char16_t"', b"U": '"char32_t"'}
# The usual arithmetic conversions, C++ [expr.arith.conv]; what is smaller than int becomes int.
_BY_RANK = (
    *("int", "unsigned int", "long", "unsigned long", "long long", "unsigned long long"),
    *("float", "double", "long double"),
)
_RANKS = {name: rank for rank, name in enumerate(_BY_RANK)} | dict.fromkeys(
    ("bool", "char", "short", "signed char", "unsigned char", "unsigned short"), 0
)
_BUILTIN = re.compile(
    r"(?:std::)?(?:u?int(?:_fast|_least)?\d+_t|u?int(?:ptr|max)_t|s?size_t|ptrdiff_t|nullptr_t|byte)|u?int|[us]?char"
    r"|(?:(?:unsigned|signed|long|short|int|char|float|double|bool|void|wchar_t|char8_t|char16_t|char32_t|__int128)\b"
    r" ?)+"
)


def callable_object(hint: Hint) -> bool:
    """Whether calling a local of this hint calls its class: it is no lambda, no pointer and not unknown."""
    return hint is not UNKNOWN and hint[0] != '["lambda"]' and not is_builtin(hint[0])


class Weight(Enum):
    """Whether an operator may be one of a class when this is its operand."""

    BUILTIN = 0  # a number or a pointer
    TEXT = 4  # a string of C
    OPEN = 1  # a field or a result, whose type another declaration tells
    STANDARD = 2  # of the standard library
    CLASS = 3  # of a type that is none of these


def is_no_function(name: str) -> bool:
    """Whether a name is spelled as constants, fields and keywords are, and functions are not."""
    return _NO_FUNCTION.fullmatch(name) is not None


@lru_cache(maxsize=16384)
def may_name_a_function(hint: str) -> bool:
    """Whether a hint's text is a name, or the address of one, that a function may have."""
    found = _NAMED.fullmatch(hint)
    return found is not None and not is_no_function(found[1])


def is_builtin(hint: str) -> bool:
    """Whether a hint is a type that has no operators of its own: a number, a pointer."""
    return weigh_text(hint) in (Weight.BUILTIN, Weight.TEXT)


@lru_cache(maxsize=16384)
def weigh_text(hint: str) -> Weight:
    """The weight of a hint's text."""
    if not hint.startswith('"'):
        return Weight.BUILTIN if hint in ("null", '["lambda"]', '["this"]') else Weight.OPEN
    text = json.loads(hint).removeprefix("const ").rstrip("&")
    if text == "char*":
        return Weight.TEXT
    if text.endswith(("*", ")")) or _BUILTIN.fullmatch(text):
        return Weight.BUILTIN
    return Weight.STANDARD if text.startswith("std::") else Weight.CLASS


def weigh(hint: Hint) -> Weight:
    """The weight of an operand."""
    return weigh_text(hint[0])


def element_of(hint: Hint) -> Hint:
    """What a range-for over this yields."""
    if _pointed(hint[0]):
        return pointee(hint, MAX_DEPTH)
    return UNKNOWN if hint is UNKNOWN or hint[1] >= MAX_DEPTH else (f'["element",{hint[0]}]', hint[1] + 1)


def binding_of(hint: Hint, index: int) -> Hint:
    """One name of a structured binding."""
    return UNKNOWN if hint is UNKNOWN or hint[1] >= MAX_DEPTH else (f'["bind",{hint[0]},{index}]', hint[1] + 1)


def subscripted(subject: Hint, index: Hint) -> Hint:
    """What ``subject[index]`` is."""
    if _pointed(subject[0]):
        return pointee(subject, MAX_DEPTH)
    if subject is UNKNOWN:
        return UNKNOWN
    return f'["[]",{subject[0]},{index[0]}]', max(subject[1], index[1]) + 1


def literal_operator(suffix: str) -> str:
    """The name of what a literal's suffix calls."""
    return 'operator""' + suffix


def _pointed(hint: str) -> bool:
    return hint.startswith('"') and hint[:-1].rstrip("&").endswith("*")


def pointee(hint: Hint, room: int) -> Hint:
    if _pointed(hint[0]):
        return hint[0][:-1].rstrip("&")[:-1] + '"', 0
    return UNKNOWN if hint is UNKNOWN or hint[1] >= room else (f'["*",{hint[0]}]', hint[1] + 1)


def address(hint: Hint, room: int) -> Hint:
    text = hint[0]
    if text.startswith('"'):
        return text[:-1].rstrip("&") + '*"', 0
    return UNKNOWN if hint is UNKNOWN or hint[1] >= room else (f'["&",{text}]', hint[1] + 1)


@lru_cache(maxsize=8192)
def arithmetic(one: str, other: str, sign: bytes) -> str:
    """The hint of ``one sign other`` where both are numbers or pointers and the answer is sure, otherwise ""."""
    if not (is_builtin(one) and is_builtin(other)):
        return ""
    if _pointed(one) or _pointed(other):
        if _pointed(one) and _pointed(other):
            return '"ptrdiff_t"' if sign == b"-" else ""
        return one if _pointed(one) else other
    first, second = (json.loads(hint).removeprefix("const ").rstrip("&") for hint in (one, other))
    ranks = _RANKS.get(first), _RANKS.get(second)
    if ranks[0] is not None and ranks[1] is not None:
        return f'"{_BY_RANK[max(ranks[0], ranks[1])]}"'
    if first == second or ranks[1] == 0:
        return f'"{first}"'
    return f'"{second}"' if ranks[0] == 0 else ""


@lru_cache(maxsize=4096)
def literal_type(written: bytes) -> str:
    """The type of a literal as written: its first bytes say it, of numbers the last."""
    known = _WORDS.get(written)
    if known is not None:
        return known
    quote = _QUOTE.match(written)
    if quote is not None:
        kinds, usual = (_CHARACTERS, '"char"') if quote[2] == b"'" else (_STRINGS, '"const char*"')
        return kinds.get(quote[1], usual)
    text = written.lower().lstrip(b"+-").replace(b"'", b"")
    hexadecimal = text.startswith(b"0x")
    if b"." in text or (b"p" in text if hexadecimal else b"e" in text):
        return '"float"' if text.endswith(b"f") else '"long double"' if text.endswith(b"l") else '"double"'
    suffix = text[len(text.rstrip(b"ulz")) :]
    if b"z" in suffix:
        return '"size_t"'
    long = b"long long" if suffix.count(b"l") > 1 else b"long" if b"l" in suffix else b"int"
    return '"' + (b"unsigned " * (b"u" in suffix) + long).decode() + '"'


@lru_cache(maxsize=16384)
def read_type(written: bytes) -> tuple[Hint, str]:
    """A type as a hint, and the name that decides whether it rests on a template parameter: "" where it is deduced."""
    if len(written) > MAX_HINT:
        return UNKNOWN, ""
    text = canonical_type(written.decode("utf-8", "replace"))
    if not text or _OPAQUE.search(text):
        return UNKNOWN, ""
    first = _FIRST_NAME.match(text)
    return (quoted(text), 0), first[1] if first else text


@lru_cache(maxsize=16384)
def quoted(text: str) -> str:
    """A text as JSON."""
    return json.dumps(text, ensure_ascii=False)
