"""Types as linking sees them: what a written type says, template parameters filled in and deduced, and how well an
argument fits a parameter.

It knows the language's own types and conversions between them. What a name means it does not look up.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

_TOKEN = re.compile(r"\w+|::|\.\.\.|&&|[<>,*&()\[\]]|[^\s\w]")
_MAX_NESTING = 8  # template arguments within template arguments that anybody reads
_MAX_TOKENS = 200


# An unscoped enum in a scope of which only an enumerator is known: which of the scope's enums it is, is not.
SOME_ENUM = "::?"
LAMBDA = "lambda"  # the kind of a closure's type


class Written(NamedTuple):
    """A type as it is written, taken apart."""

    name: str  # without template arguments: "std::vector::iterator"
    arguments: tuple["Written", ...]  # of the last part of the name
    outer: tuple["Written", ...]  # of the part before: in "vector<int>::iterator" (int)
    pointers: int
    const: bool  # what is pointed or referred to; of a plain type, itself
    category: str  # "", "&" or "&&"
    pack: bool


class Type(NamedTuple):
    """A type whose name has been looked up. ``const`` and ``category`` as in Written."""

    kind: str  # "class", "enum", "builtin", "outside", "parameter" or "lambda"
    name: str  # qualified; of builtins in one spelling
    arguments: tuple["Type | None", ...] = ()
    pointers: int = 0
    const: bool = False
    category: str = ""


Environment = Mapping[str, "Type | None"]  # what template parameters stand for
UNREADABLE = Written("", (), (), 0, const=False, category="", pack=False)

_INTEGERS = frozenset({"signed", "unsigned", "int", "long", "short", "char"})
# The aliases of <cstdint> and <cstddef> as on 64-bit Linux; which ones coincide differs elsewhere, their sizes do not.
_FIXED = {
    "int8_t": "signed char",
    "uint8_t": "unsigned char",
    "int16_t": "short",
    "uint16_t": "unsigned short",
    "int32_t": "int",
    "uint32_t": "unsigned int",
    "int64_t": "long",
    "uint64_t": "unsigned long",
    "size_t": "unsigned long",
    "ssize_t": "long",
    "ptrdiff_t": "long",
    "intptr_t": "long",
    "uintptr_t": "unsigned long",
}
_RANKS = {
    "bool": 0,
    "char": 1,
    "signed char": 1,
    "unsigned char": 1,
    "char8_t": 1,
    "short": 2,
    "unsigned short": 2,
    "char16_t": 2,
    "wchar_t": 3,
    "char32_t": 3,
    "int": 3,
    "unsigned int": 3,
    "long": 4,
    "unsigned long": 4,
    "long long": 5,
    "unsigned long long": 5,
    "float": 6,
    "double": 7,
    "long double": 8,
}
BUILTINS = frozenset(_RANKS) | _FIXED.keys() | {"void", "nullptr_t"}
STANDARD_BUILTINS = frozenset(f"std::{name}" for name in (*_FIXED, "nullptr_t"))

# How much an argument must change to become a parameter, after [over.best.ics]: what is less is better. Only the order
# matters, and that a sum of sub-steps stays below the next step.
EXACT, QUALIFIED, PROMOTED, CONVERTED, TO_VOID, TO_BOOL, BY_USER, ELLIPSIS = 0.0, 0.25, 1.0, 2.0, 3.6, 3.8, 4.5, 6.0
BY_VALUE = 0.125  # neither better nor worse than a reference, const or not
INDISTINCT = 0.15  # two costs no farther apart are equal
UNFIT = 100.0


@lru_cache(maxsize=32_768)
def read_type(spelling: str) -> Written:
    """A type in its canonical spelling taken apart. What is no plain type, as ``void(*)(int)``, is UNREADABLE."""
    words = _TOKEN.findall(spelling)
    if len(words) > _MAX_TOKENS:
        return UNREADABLE
    written, end = _read(words, 0, 0)
    return written if end == len(words) else UNREADABLE


def _read(words: list[str], at: int, depth: int) -> tuple[Written, int]:  # noqa: C901, PLR0912 - one branch a sign
    parts: list[str] = []
    arguments: tuple[Written, ...] = ()
    outer: tuple[Written, ...] = ()
    pointers, const, category, pack = 0, False, "", False
    count = len(words)
    while at < count:
        word = words[at]
        if word in (",", ">"):
            break
        if word == "const":
            const = const or not pointers
        elif word in ("volatile", "typename", "struct", "class", "enum", "union", "template", "constexpr", "mutable"):
            pass
        elif word == "<":
            if depth >= _MAX_NESTING:
                return UNREADABLE, count + 1
            outer = arguments or outer
            listed: list[Written] = []
            while at < count and words[at] != ">":
                written, at = _read(words, at + 1, depth + 1)
                if at < count:
                    listed.append(written)
            if at >= count:
                return UNREADABLE, count + 1
            arguments = tuple(listed) if listed != [UNREADABLE] else ()
        elif word == "*":
            pointers += 1
        elif word in ("&", "&&"):
            category = word
        elif word == "...":
            pack = True
        elif word == "[":
            while at < count and words[at] != "]":
                at += 1
            pointers += 1
        elif word == "::":
            if parts:
                parts.append(word)
                outer, arguments = arguments or outer, ()
        elif word[0].isalnum() or word[0] == "_":
            if parts and parts[-1] != "::":
                if parts[-1] not in _INTEGERS and word not in _INTEGERS:
                    return _skip(words, at)
                parts.append(" ")
            parts.append(word)
        else:
            return _skip(words, at)
        at += 1
    return Written(_plain("".join(parts)), arguments, outer, pointers, const, category, pack), at


def _skip(words: list[str], at: int) -> tuple[Written, int]:
    """Past what cannot be read, up to the comma or bracket that ends it."""
    depth = 0
    while at < len(words):
        word = words[at]
        if depth == 0 and word in (",", ">"):
            break
        depth += (word in ("(", "<", "[")) - (word in (")", ">", "]"))
        at += 1
    return UNREADABLE, at


def _plain(name: str) -> str:
    """One spelling for the integer types: ``long unsigned int`` is ``unsigned long``."""
    if " " not in name:
        return {"unsigned": "unsigned int", "signed": "int"}.get(name, name)
    words = name.split(" ")
    sign = "unsigned " if "unsigned" in words else ""
    if "char" in words:
        return "signed char" if "signed" in words else f"{sign}char"
    if "double" in words:
        return "long double"
    size = {0: "int", 1: "long", 2: "long long"}.get(words.count("long"), "int")
    return f"{sign}{'short' if 'short' in words else size}"


def builtin(name: str) -> str:
    """The language's own type that a name stands for, or ""."""
    name = name.removeprefix("std::")
    return _FIXED.get(name, name) if name in BUILTINS else ""


def substitute(found: Type | None, environment: Environment) -> Type | None:
    """The type with its parameters replaced; None where one of them is not known."""
    if found is None or (found.kind != "parameter" and not found.arguments):
        return found
    if found.kind == "parameter":
        value = environment.get(found.name)
        if value is None:
            return None
        return value._replace(
            pointers=value.pointers + found.pointers,
            const=value.const or found.const,
            category=found.category or value.category,
        )
    return found._replace(arguments=tuple(substitute(argument, environment) for argument in found.arguments))


def deduce(parameter: Type | None, argument: Type | None, into: dict[str, Type | None]) -> None:
    """Learns from a call's argument what the template parameters in a function's parameter stand for."""
    if parameter is None or argument is None:
        return
    if parameter.kind == "parameter":
        if argument.pointers >= parameter.pointers:
            value = argument._replace(pointers=argument.pointers - parameter.pointers, category="")
            into.setdefault(parameter.name, value._replace(const=value.const and not parameter.const))
    elif parameter.name == argument.name:
        for inner, given in zip(parameter.arguments, argument.arguments, strict=False):
            deduce(inner, given, into)


Distance = Callable[[str, str], int]  # steps from a class to a base of it, -1 where it is none
Converts = Callable[[Type, Type], bool]  # whether a class may be made of, or turned into, another type


def cost(argument: Type | None, parameter: Type | None, distance: Distance, converts: Converts) -> float | None:
    """How much an argument must change to be taken by a parameter, UNFIT if it cannot be; None where it is unknown.

    The order of [over.ics.rank], coarsely.
    """
    if argument is None or parameter is None:
        return None
    if parameter.kind == "parameter":
        if parameter.pointers > argument.pointers:
            return UNFIT
        if argument.kind == LAMBDA and parameter.category == "&" and not parameter.const:
            return None  # a variable of this type may be const or not
        return _binding(argument, parameter) if parameter.category != "&&" else EXACT
    fit = _fit(argument, parameter, distance, converts)
    if fit is None or fit >= UNFIT:
        return fit
    binding = _binding(argument, parameter) if fit < CONVERTED or _is_base(argument, parameter) else EXACT
    return min(fit + binding, UNFIT)


def _is_base(argument: Type, parameter: Type) -> bool:
    return argument.kind == parameter.kind == "class"


def _binding(argument: Type, parameter: Type) -> float:
    """What reference and const add."""
    if parameter.pointers != argument.pointers or parameter.pointers:
        if argument.pointers and argument.const and not parameter.const and parameter.pointers:
            return UNFIT
        return QUALIFIED if parameter.const and not argument.const else EXACT
    if parameter.category == "&":
        if parameter.const:
            return QUALIFIED
        return UNFIT if argument.const or argument.category == "&&" else EXACT
    if parameter.category == "&&":
        return UNFIT if argument.category == "&" else EXACT
    return BY_VALUE


def _fit(  # noqa: PLR0911 - one line a rule
    argument: Type, parameter: Type, distance: Distance, converts: Converts
) -> float | None:
    if argument.pointers or parameter.pointers:
        return _fit_pointers(argument, parameter, distance, converts)
    if argument.name == parameter.name:
        for given, wanted in zip(argument.arguments, parameter.arguments, strict=False):
            if given and wanted and wanted.kind != "parameter" and given.kind != "parameter" and given != wanted:
                return UNFIT if (given.name, given.pointers) != (wanted.name, wanted.pointers) else EXACT
        return EXACT
    if argument.kind == "builtin" and parameter.kind == "builtin":
        return _fit_builtins(argument.name, parameter.name)
    if argument.kind == "class" and parameter.kind == "class":
        steps = min(distance(argument.name, parameter.name), 6)
        if steps > 0:
            return CONVERTED + steps / 4  # a nearer base is better
    if argument.kind == "enum" and parameter.kind == "builtin":
        return PROMOTED if parameter.name in ("int", "unsigned int") else CONVERTED
    if parameter.kind == "enum":
        scope = argument.name.removesuffix(SOME_ENUM) if argument.kind == "enum" else None
        fits = scope != argument.name and scope == parameter.name.rpartition("::")[0]
        return EXACT if fits else UNFIT
    return BY_USER if converts(argument, parameter) else UNFIT


def _fit_builtins(argument: str, parameter: str) -> float:
    given, wanted = _RANKS.get(argument), _RANKS.get(parameter)
    if given is None or wanted is None:  # void, nullptr_t
        return UNFIT
    promotes = (given < 3 and parameter == "int") or (argument == "float" and parameter == "double")
    return PROMOTED if promotes else CONVERTED


def _fit_pointers(  # noqa: PLR0911 - one line a rule
    argument: Type, parameter: Type, distance: Distance, converts: Converts
) -> float | None:
    if argument.pointers == parameter.pointers:
        if argument.name == parameter.name:
            return EXACT
        if parameter.name == "void" and parameter.pointers == 1:
            return TO_VOID
        if argument.kind == parameter.kind == "class" and argument.pointers == 1:
            steps = min(distance(argument.name, parameter.name), 6)
            return CONVERTED + steps / 4 if steps > 0 else UNFIT
        if "parameter" in (argument.kind, parameter.kind):
            return EXACT
        return None if "outside" in (argument.kind, parameter.kind) else UNFIT
    if not parameter.pointers:
        if parameter.kind == "builtin":
            return TO_BOOL if parameter.name == "bool" else UNFIT
        return BY_USER if parameter.kind != "enum" and converts(argument, parameter) else UNFIT
    if not argument.pointers:
        if argument.name in ("nullptr_t", "int"):  # a literal zero is an int like any other here
            return CONVERTED if argument.name == "nullptr_t" else TO_BOOL
        return BY_USER if argument.kind in ("class", "outside") and converts(argument, parameter) else UNFIT
    return TO_VOID if parameter.name == "void" else UNFIT
