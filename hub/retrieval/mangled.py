"""Function names as tools print them, brought to the form in which a symbol table knows them: ``ns::Class::function``.

Mangled names are read first, those of the Itanium ABI with the C++ runtime's own reader where there is one. Knows
nothing of traces and messages.
"""

import ctypes
import re
from functools import lru_cache

MOST_CHARS = 1_000  # of a mangled name; the runtime's reader recurses, and longer ones are hardly ever pasted
MOST_SPELT = 4_000  # characters of a spelt-out function that are looked at; templates of templates are that long

_OPERATOR = (
    r"operator(?!\w)\s*(?:\(\)|\[\]|<=>|->\*?|<<=?|>>=?|&&|\|\||\+\+|--|[-+*/%^&|~!=<>]=?|,|\"\"\s*\w+|(?=\())"
    r"|operator\s+(?:new|delete)(?:\[\])?|operator\s+(?!new|delete|const\b)[A-Za-z_][\w:]*|operator\s+const\s[\w:]+"
)
_TOKEN = re.compile(
    rf"(?P<operator>{_OPERATOR})"
    r"|(?P<anonymous>\(anonymous(?: namespace| class| struct| union)?\)|\{anonymous\}|<unnamed>"
    r"|[`']anonymous[ -]namespace'|\?A0x[0-9a-f]{1,16})"
    r"|(?P<lambda>\{lambda\b|\{unnamed|<lambda|\$_\d+|\{closure|'lambda\d*')"
    r"|(?P<name>~?[A-Za-z_]\w*)"
    r"|(?P<scope>::)|(?P<open>[<(\[{])|(?P<close>[>)\]}])|(?P<space>\s+)|(?P<arrow>->)|(?P<other>.)",
    re.DOTALL,
)
_TAKES_PARENTHESES = frozenset({"decltype", "noexcept", "__attribute__", "__declspec", "alignas"})
_AFTER_A_NAME = frozenset({"const", "volatile", "noexcept", "override", "final"})
_MODULE = re.compile(r"[\w.+-]{1,100}!(?!=)")
_LOCAL_SCOPE = re.compile(r"__l\d+")
_ITANIUM = re.compile(r"_{1,4}Z[A-Za-z0-9_$.]{2,}")
_MICROSOFT = re.compile(r"\?[?$\w][\w?$@]*@@[\w?$@]*")
MANGLED = re.compile(rf"(?<![\w?$@]){_ITANIUM.pattern}|(?<![\w?$@]){_MICROSOFT.pattern}")


def name_of(spelt: str) -> str:  # noqa: C901, PLR0912 - one branch a sign
    """The qualified name within a function as a tool prints it, or "" where there is none.

    Return types, template arguments, parameters, unnamed namespaces and marks of the compiler go; a lambda or a local
    class becomes the function it stands in.
    """
    if module := _MODULE.match(spelt):
        spelt = spelt[module.end() :]
    if found := MANGLED.match(spelt):
        return name_of_mangled(found.group())
    parts: list[str] = []
    joined = after_space = skips_parentheses = False
    depth = 0
    for token in _TOKEN.finditer(spelt, 0, MOST_SPELT):
        kind, text = token.lastgroup, token.group()
        if depth or (kind == "open" and (text != "(" or skips_parentheses)):
            depth += (kind == "open" or (kind == "lambda" and text[0] in "{<")) - (kind == "close")
            if kind == "open" and depth == 1 and spelt.startswith(("[clone", "[with"), token.start()):
                break
            skips_parentheses = skips_parentheses and depth > 0
            continue
        match kind:
            case "name" | "operator":
                if kind == "name" and text in _TAKES_PARENTHESES:
                    skips_parentheses = True
                elif text not in _AFTER_A_NAME:
                    parts = [*parts, _tidy(text)] if joined else [_tidy(text)]
                    joined = False
            case "scope":
                if after_space:
                    parts = []
                joined = True
            case "lambda":
                break
            case "open":
                if parts:
                    break
            case "other" if text in ".+@":
                break
            case "other" if text in "!`":  # what stood before was a module
                parts = []
        after_space = kind == "space"
    return "::".join(part for part in parts if not _LOCAL_SCOPE.fullmatch(part))


def _tidy(text: str) -> str:
    if not text.startswith("operator"):
        return text
    sign = text.removeprefix("operator").strip()
    if not sign:  # printed without its parentheses, which lldb does
        return "operator()"
    return f"operator {sign}" if sign[0].isalpha() or sign[0] == "_" else f"operator{sign}"


@lru_cache(maxsize=4_096)
def name_of_mangled(mangled: str) -> str:
    """The qualified name within a mangled one, or "" where it cannot be read."""
    if len(mangled) > MOST_CHARS:
        return ""
    if mangled.startswith("?"):
        return name_of_microsoft(mangled)
    spelt = _Runtime.spell_out("_Z" + mangled.partition("Z")[2].partition(".")[0].partition("@")[0])
    return name_of(spelt) if spelt else name_of_itanium(mangled)


class _Runtime:
    """The C++ runtime's own reader of mangled names, where the platform has one under a known name."""

    libraries = ("libstdc++.so.6", "libc++abi.so.1", "libc++abi.dylib")
    _functions: tuple["ctypes._NamedFuncPointer", "ctypes._NamedFuncPointer"] | None = None
    _tried = False

    @classmethod
    def spell_out(cls, mangled: str) -> str:
        if not cls._tried:
            cls._tried = True
            cls._functions = cls._loaded()
        if not cls._functions or not mangled.isascii():
            return ""
        demangle, free = cls._functions
        status = ctypes.c_int()
        pointer = demangle(mangled.encode("ascii"), None, None, ctypes.byref(status))
        if not pointer:
            return ""
        spelt = ctypes.string_at(pointer).decode("utf-8", "replace")
        free(pointer)
        return spelt

    @classmethod
    def _loaded(cls) -> tuple["ctypes._NamedFuncPointer", "ctypes._NamedFuncPointer"] | None:
        for library in cls.libraries:
            try:
                demangle = ctypes.CDLL(library)["__cxa_demangle"]
                free = ctypes.CDLL(None)["free"]
            except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library of the process itself
                continue
            demangle.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)
            demangle.restype = ctypes.c_void_p
            free.argtypes = (ctypes.c_void_p,)
            free.restype = None
            return demangle, free
        return None


# The Itanium C++ ABI, section 5.1: what a name is made of, as far as a qualified name needs it.
_ITANIUM_OPERATORS = {
    "nw": "operator new", "na": "operator new[]", "dl": "operator delete", "da": "operator delete[]", "ng": "operator-",
    "ad": "operator&", "de": "operator*", "co": "operator~", "pl": "operator+", "mi": "operator-", "ml": "operator*",
    "dv": "operator/", "rm": "operator%", "an": "operator&", "or": "operator|", "eo": "operator^", "aS": "operator=",
    "pL": "operator+=", "mI": "operator-=", "mL": "operator*=", "dV": "operator/=", "rM": "operator%=",
    "aN": "operator&=", "oR": "operator|=", "eO": "operator^=", "ls": "operator<<", "rs": "operator>>",
    "lS": "operator<<=", "rS": "operator>>=", "eq": "operator==", "ne": "operator!=", "lt": "operator<",
    "gt": "operator>", "le": "operator<=", "ge": "operator>=", "ss": "operator<=>", "nt": "operator!",
    "aa": "operator&&", "oo": "operator||", "pp": "operator++", "mm": "operator--", "cm": "operator,",
    "pm": "operator->*", "pt": "operator->", "cl": "operator()", "ix": "operator[]",
}  # fmt: skip
_ITANIUM_PREFIXES = re.compile(r"_+Z(?:T[VTISvhc](?:h?n?\d+_)?|GV|GR|TW|TH)?")
_STANDARD = {"St": "std", "Sa": "std::allocator", "Sb": "std::basic_string", "Ss": "std::string", "So": "std::ostream"}
_LENGTH = re.compile(r"\d{1,4}")


def name_of_itanium(mangled: str) -> str:  # noqa: C901, PLR0912 - one branch a rule of the grammar
    """The qualified name of an Itanium mangled one, read here: without the runtime's help and without parameters."""
    start = _ITANIUM_PREFIXES.match(mangled)
    if not start:
        return ""
    at = start.end()
    while mangled.startswith("Z", at) or mangled.startswith("L", at):  # what is local to a function: the function
        at += 1
    nested = mangled.startswith("N", at)
    if nested:
        at += 1
        while at < len(mangled) and mangled[at] in "KVrRO":
            at += 1
    parts: list[str] = []
    while at < len(mangled):
        if length := _LENGTH.match(mangled, at):
            at = length.end() + int(length.group())
            name = mangled[length.end() : at]
            if not name.startswith("_GLOBAL__N"):
                parts.append(name)
        elif (operator := mangled[at : at + 2]) in _STANDARD:
            parts.append(_STANDARD[operator])
            at += 2
            if not nested and operator == "St":
                continue
        elif operator in _ITANIUM_OPERATORS:
            parts.append(_ITANIUM_OPERATORS[operator])
            at += 2
        elif operator[:1] in "CD" and operator[1:2].isdigit() and parts:
            last = parts[-1].rpartition("::")[2]
            parts.append(f"~{last}" if operator[0] == "D" else last)
            at += 2
        elif mangled[at] == "I":
            at = _after_arguments(mangled, at)
            continue
        elif mangled[at] == "B":  # an ABI tag
            length = _LENGTH.match(mangled, at + 1)
            at = length.end() + int(length.group()) if length else len(mangled)
            continue
        elif mangled[at] == "L":
            at += 1
            continue
        else:
            break
        if not nested:
            break
    return "::".join(parts)


def _after_arguments(mangled: str, at: int) -> int:
    """Where the template arguments end that begin here; the end of the text where they do not."""
    depth = 0
    while at < len(mangled):
        if length := _LENGTH.match(mangled, at):
            at = length.end() + int(length.group())
            continue
        if mangled[at] == "L" and mangled[at + 1 : at + 2].islower():  # a literal of a plain type, to its E
            at = mangled.find("E", at) + 1 or len(mangled)
            continue
        if mangled.startswith("S", at):  # St, Sa ... are two characters; S_, S0_ end at the underscore
            at = mangled.find("_", at) + 1 or len(mangled) if mangled[at + 1 : at + 2] not in "tabsiod" else at + 2
            continue
        if mangled[at] in "TA":  # a template parameter or the length of an array, to its underscore
            at = mangled.find("_", at) + 1 or len(mangled)
            continue
        if mangled[at] == "L" and mangled[at + 1 : at + 2].isdigit():  # what follows is a name of one file alone
            at += 1
            continue
        if mangled[at] in "NIXLJFZ" or mangled.startswith("Ul", at):
            depth += 1
        elif mangled[at] == "E":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return at


# Names of Microsoft's compiler: parts between @, the innermost first, ended by an empty one.
_MICROSOFT_OPERATORS = {
    "2": "operator new", "3": "operator delete", "4": "operator=", "5": "operator>>", "6": "operator<<",
    "7": "operator!", "8": "operator==", "9": "operator!=", "A": "operator[]", "C": "operator->", "D": "operator*",
    "E": "operator++", "F": "operator--", "G": "operator-", "H": "operator+", "I": "operator&", "J": "operator->*",
    "K": "operator/", "L": "operator%", "M": "operator<", "N": "operator<=", "O": "operator>", "P": "operator>=",
    "Q": "operator,", "R": "operator()", "S": "operator~", "T": "operator^", "U": "operator|", "V": "operator&&",
    "W": "operator||", "X": "operator*=", "Y": "operator+=", "Z": "operator-=",
}  # fmt: skip
_MICROSOFT_SPECIAL = re.compile(r"\?(?:_[0-9A-Z]|__[A-Z]|[0-9A-Z])")
_MICROSOFT_NAME = re.compile(r"[A-Za-z_$][\w$]*@")


def name_of_microsoft(mangled: str) -> str:  # noqa: C901 - one branch a rule of the grammar
    """The qualified name of a name that Microsoft's compiler has mangled, or "" where it is none."""
    at = 1
    special = _MICROSOFT_SPECIAL.match(mangled, at)
    if special:
        at = special.end()
    names: list[str] = []
    known: list[str] = []  # the names that a digit may stand for
    while at < len(mangled) and mangled[at] != "@":
        if name := _MICROSOFT_NAME.match(mangled, at):
            text = name.group()[:-1]
            known.append(text)
            names.append(text)
            at = name.end()
        elif mangled.startswith("?$", at):
            name = _MICROSOFT_NAME.match(mangled, at + 2)
            if not name:
                return ""
            names.append(name.group()[:-1])
            at = _after_microsoft_arguments(mangled, name.end())
        elif mangled.startswith("?A", at):  # an unnamed namespace
            at = mangled.find("@", at) + 1 or len(mangled)
        elif mangled[at].isdigit():
            number = int(mangled[at])
            if number < len(known):
                names.append(known[number])
            at += 1
        else:  # what is local to a function: the scopes found so far are within it
            break
    parts = names[::-1]
    if not special or not parts:
        return "::".join(parts)
    code = special.group()[1:]
    if code in "01":
        return "::".join([*parts, ("~" if code == "1" else "") + parts[-1]])
    if code in _MICROSOFT_OPERATORS:
        return "::".join([*parts, _MICROSOFT_OPERATORS[code]])
    return "::".join(parts)  # a table or a guard of a class


def _after_microsoft_arguments(mangled: str, at: int) -> int:
    """Where template arguments end: at an @ where a type would begin."""
    while at < len(mangled) and mangled[at] != "@":
        if mangled[at] in "UVT" or mangled.startswith("W4", at):  # a class, struct, union or enum and its scopes
            at = _after_scopes(mangled, at + (2 if mangled[at] == "W" else 1))
        elif mangled.startswith("$0", at):  # a number: one digit, or letters to an @
            at += 2
            at = at + 1 if mangled[at : at + 1].isdigit() else mangled.find("@", at) + 1 or len(mangled)
        else:
            at += 1
    return at + 1


def _after_scopes(mangled: str, at: int) -> int:
    while at < len(mangled) and mangled[at] != "@":
        if mangled.startswith("?$", at):
            at = _after_microsoft_arguments(mangled, mangled.find("@", at) + 1 or len(mangled))
        elif mangled[at].isdigit():
            at += 1
        else:
            at = mangled.find("@", at) + 1 or len(mangled)
    return at + 1
