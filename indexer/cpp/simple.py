"""Calls and declarations so simple that their text alone tells their parts: most of all code is of this kind.

Going through the nodes of a tree costs many times what a look into a cache does, and ``status.ok()`` stands in a
thousand places. What is read here is read the same from the nodes: it depends on the text alone, never on the file.
"""

import re
from functools import lru_cache
from typing import NamedTuple

MAX_LENGTH = 160  # bytes of a call or list that are looked at: the patterns must not wander through whole files

_NAME = rb"[A-Za-z_]\w*"
_PATH = rb"(?:%b::)*%b(?:(?:\.|->)%b)*" % (_NAME, _NAME, _NAME)
_NUMBER = rb"-?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?)[uUlLfF]{0,3}\b"
_ATOM = rb"[&*]?%b|%b|\"[^\"\\\n]*\"|'[^'\\\n]'" % (_PATH, _NUMBER)
_LIST = rb"\(\s*(?:(?:%b)(?:\s*,\s*(?:%b))*)?\s*\)" % (_ATOM, _ATOM)
_CALL = re.compile(rb"(%b)(%b)" % (_PATH, _LIST))
_ARGUMENTS = re.compile(_LIST)
_ATOMS = re.compile(_ATOM)
_STEP = re.compile(r"\.|->")
_TYPE = rb"(?:const\s+)?(?:%b::)*%b" % (_NAME, _NAME)
_PARAMETER = rb"(%b)(\s*[*&]*\s*)\b(%b)" % (_TYPE, _NAME)
_PARAMETERS = re.compile(rb"\(\s*%b(?:\s*,\s*%b)*\s*\)" % (_PARAMETER, _PARAMETER))
_EACH_PARAMETER = re.compile(_PARAMETER)
_VARIABLE = re.compile(rb"(%b)(\s*[*&]*\s*)\b(%b)\s*(?:=(?!\s*\{)([^,;]*))?;" % (_TYPE, _NAME))
_NAMED = re.compile(rb"\s*&?\s*((?:%b::)*%b)\s*" % (_NAME, _NAME))
# Words of the language that the patterns take for names.
_BUILTINS = frozenset(
    "bool char char16_t char32_t char8_t double float int long short signed unsigned void wchar_t".split()
)
_WORDS = frozenset(
    "alignof auto case class co_await co_return co_yield const consteval constexpr constinit decltype default delete"
    " else enum explicit extern friend goto inline mutable new noexcept operator register requires return sizeof static"
    " struct template thread_local throw typedef typeid typename union using virtual volatile".split()
)
_LITERALS = frozenset({"true", "false", "nullptr", "NULL"})
_NO_NAMES = _BUILTINS | _WORDS | _LITERALS
_SIGNS = b"&*"
_QUOTES_AND_DIGITS = b"-\"'0123456789"


class Path(NamedTuple):
    """``first.second->third``."""

    first: str  # with its qualifiers; "this" for the pointer
    steps: tuple[tuple[bool, str], ...]  # (whether by ->, name)


class Atom(NamedTuple):
    """One simple argument: a path, perhaps behind ``&`` or ``*``, or a literal."""

    sign: str
    path: Path | None
    literal: bytes


class Call(NamedTuple):
    """``path(atom, atom)``."""

    path: Path
    name_offset: int  # bytes from the start of the call to the last part of its name
    arguments: tuple[Atom, ...]


class Variable(NamedTuple):
    """``const Type& name``."""

    type: bytes
    name: str
    offset: int  # bytes from the start of the text to the name
    made: str  # the name of the type where the variable is an object of it that is made here, otherwise ""
    value: str  # the name that it is initialised with, or with the address of, otherwise ""
    value_offset: int  # bytes from the start of the text to the last part of that name


@lru_cache(maxsize=32768)
def call_of(text: bytes) -> Call | None:
    """The parts of a call, or None where its text is not as simple as that."""
    found = _CALL.fullmatch(text)
    if found is None:
        return None
    path = _path(found[1])
    listed = arguments_of(found[2])
    if path is None or listed is None:
        return None
    last = (path.steps[-1][1] if path.steps else path.first).rpartition("::")[2]
    return Call(path, found.end(1) - len(last), listed)


@lru_cache(maxsize=32768)
def arguments_of(text: bytes) -> tuple[Atom, ...] | None:
    """The arguments in a list with its parentheses, or None where one of them is not simple."""
    if _ARGUMENTS.fullmatch(text) is None:
        return None
    atoms: list[Atom] = []
    for written in _ATOMS.findall(text):
        if written[0] in _QUOTES_AND_DIGITS:
            atoms.append(Atom("", None, written))
            continue
        sign = chr(written[0]) if written[0] in _SIGNS else ""
        name = written[len(sign) :]
        path = _path(name)
        if path is not None:
            atoms.append(Atom(sign, path, b""))
        elif not sign and name.decode() in _LITERALS:
            atoms.append(Atom("", None, name))
        else:
            return None
    return tuple(atoms)


@lru_cache(maxsize=8192)
def variable_of(text: bytes) -> Variable | None:
    """The one variable of a declaration that gives its type in one word, or None."""
    found = _VARIABLE.fullmatch(text)
    if found is None:
        return None
    declared = _declared(found[1], found[2], found[3])
    if declared is None:
        return None
    made = declared[0].removeprefix(b"const").strip() if not found[2].strip() and found[4] is None else b""
    named = _NAMED.fullmatch(found[4] or b"")
    value = "" if named is None or named[1].decode() in _NO_NAMES else named[1].decode()
    value_offset = 0 if named is None else found.start(4) + named.end(1) - len(value.rpartition("::")[2])
    return Variable(*declared, found.start(3), made.decode(), value, value_offset)


@lru_cache(maxsize=8192)
def parameters_of(text: bytes) -> tuple[tuple[bytes, str], ...] | None:
    """The types and names in a list of parameters that all have a type in one word, or None."""
    if _PARAMETERS.fullmatch(text) is None:
        return None
    read = [_declared(*parts) for parts in _EACH_PARAMETER.findall(text)]
    known = [one for one in read if one is not None]
    return tuple(known) if len(known) == len(read) else None


def _declared(type_text: bytes, signs: bytes, name: bytes) -> tuple[bytes, str] | None:
    first = type_text.removeprefix(b"const ").strip().decode()
    if first in _WORDS or first in _LITERALS or name.decode() in _NO_NAMES:
        return None
    return type_text + signs.strip(), name.decode()


def _path(written: bytes) -> Path | None:
    first, *others = _STEP.split(written.decode())
    if first in _NO_NAMES:
        return None
    arrows = [sign == "->" for sign in _STEP.findall(written.decode())]
    return Path(first, tuple(zip(arrows, others, strict=True)))
