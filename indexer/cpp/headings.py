"""What the words around a declared name say: traits, the bases of a class, the names of a using-declaration.

Pure text, most of it the same few words again and again, which is why the answers are kept.
"""

import re
from functools import lru_cache

from indexer.cpp.types import full_type, split_list
from indexer.model import Trait

MAX_BASES = 4000  # characters of a list of bases that are read

_BEFORE = {
    b"virtual": Trait.VIRTUAL,
    b"static": Trait.STATIC,
    b"explicit": Trait.EXPLICIT,
    b"inline": Trait.INLINE,
    b"__inline": Trait.INLINE,
    b"__inline__": Trait.INLINE,
    b"constexpr": Trait.CONSTEXPR,
    b"consteval": Trait.CONSTEXPR,
    b"extern": Trait.EXTERN,
    b"mutable": Trait.MUTABLE,
}
_SPECIFIER = re.compile(rb"\b(?:" + b"|".join(_BEFORE) + rb")\b")
_ATTRIBUTE = re.compile(rb"\[\[.*?\]\]", re.DOTALL)
_CONST = re.compile(rb"\s*(?:\bvolatile\b\s*)?\bconst\b")
_NOEXCEPT = re.compile(rb"\bnoexcept\b(?!\s*\(\s*false\s*\))|\bthrow\s*\(\s*\)")
_VIRTUAL_SPECIFIER = re.compile(rb"\b(override|final)\b")
_VALUE = re.compile(rb"=\s*(0|default\b|delete\b)[^=]{0,400}$")
_VALUES = {b"0": Trait.PURE, b"default": Trait.DEFAULTED, b"delete": Trait.DELETED}
_BASES = re.compile(r"(?<!:):(?!:)")
_BASE_WORDS = re.compile(r"\b(?:public|protected|private|virtual)\b|\[\[.*?\]\]")
_USING = re.compile(r"\s*using\s+(enum\b|typename\b)?")
_EXPORTED = re.compile(rb"\s*export\b")


def traits_before(words: bytes) -> frozenset[Trait]:
    """Of what stands before a declared name: specifiers, the type, attributes."""
    if b"[[" in words:
        words = _ATTRIBUTE.sub(b" ", words)
    found = _SPECIFIER.findall(words)
    return frozenset([_BEFORE[word] for word in found]) if found else _NONE


@lru_cache(maxsize=4096)
def traits_behind(words: bytes) -> frozenset[Trait]:
    """Of what stands between the parameters of a function and its body or end."""
    found: list[Trait] = []
    if _CONST.match(words):
        found.append(Trait.CONST)
    if _NOEXCEPT.search(words):
        found.append(Trait.NOEXCEPT)
    for word in _VIRTUAL_SPECIFIER.findall(words):
        found += (Trait.VIRTUAL, Trait.OVERRIDE if word == b"override" else Trait.FINAL)
    value = _VALUE.search(words)
    if value:
        found.append(_VALUES[value[1]])
    return frozenset(found) if found else _NONE


_NONE = frozenset[Trait]()


def says_exported(heading: bytes) -> bool:
    return _EXPORTED.match(heading) is not None


def bases(behind_name: str) -> tuple[str, ...]:
    """The bases of a class as written, from what stands between its name and its body: ``Base<T>``, ``ns::Other``."""
    found = _BASES.search(behind_name[:MAX_BASES])
    if not found:
        return ()
    listed = _BASE_WORDS.sub(" ", behind_name[found.end() : MAX_BASES])
    return tuple(base for base in map(full_type, split_list(listed)) if base)


def underlying_type(behind_name: str) -> str:
    """Of an enum: what it rests on, or ""."""
    found = _BASES.search(behind_name[:MAX_BASES])
    return full_type(behind_name[found.end() :]) if found else ""


def used_names(declaration: str) -> list[tuple[str, str]]:
    """The (last name, qualified name) pairs of ``using a::f, b::g;``; of ``using enum E;`` the second is "enum E"."""
    if "/" in declaration:
        declaration = _COMMENT.sub(" ", declaration)
    opening = _USING.match(declaration)
    if not opening or re.match(r"\s*namespace\b", declaration[opening.end() :]):
        return []
    of_enum = opening[1] == "enum"
    pairs: list[tuple[str, str]] = []
    for part in declaration[opening.end() :].rstrip("; \r\n\t").split(","):
        scope, operator, sign = part.partition("operator")
        qualified = full_type(scope) + operator + "".join(sign.split()) if operator else full_type(scope)
        qualified = qualified.removesuffix("...")
        last = _LAST_NAME.search(qualified)
        if last and (of_enum or "::" in qualified or part.lstrip().startswith("::")):
            pairs.append((last[0], f"enum {qualified}" if of_enum else qualified))
    return pairs


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_NAME = re.compile(r"(?:operator\s*(?:\W+|\w.*)|[^\W\d]\w*)$")
