"""What the macros of a tree stand for, as far as a grammar without a preprocessor needs to know it.

Learned from the bodies of all ``#define`` lines of a tree, whatever branch they stand in. A macro whose use looks like
C++ anyway (a constant, a type, an expression) has no entry. Nothing is expanded, and nothing here looks at uses.
"""

import json
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple, Self

from indexer.cpp.frameworks import FRAMEWORKS

MAX_BODY = 2000  # bytes of a body that are looked at
SHOUTED = re.compile(r"[A-Z_][A-Z0-9_]{2,}")  # how macros are spelt
MAX_DEPTH = 8  # macros within macros that are followed


class MacroDefinition(NamedTuple):
    name: str
    parameters: tuple[str, ...] | None  # None: used without parentheses
    body: str  # one line


class Kind(StrEnum):
    """What stands in the place of a use."""

    ATTRIBUTE = "attribute"  # attributes, specifiers or nothing
    TEMPLATE = "template"  # template<...>
    SCOPES = "scopes"  # braces that open or close namespaces and linkage blocks
    ACCESS = "access"  # public: and the like
    STRING = "string"  # a piece of a string literal
    ARGUMENT = "argument"  # one of its arguments, perhaps with attributes
    DECLARES = "declares"  # declarations or statements that are complete
    CONTROL = "control"  # if, for, else, try ...: a block or statement follows
    HEADING = "heading"  # the heading of a function: its body follows
    PARAMETER = "parameter"  # a template parameter that only asks for something
    VALUE = "value"  # an expression or a type, although its name sounds otherwise


class Scope(NamedTuple):
    name: str  # "" without a name
    inline: bool = False
    linkage: bool = False  # extern "C"


class Meaning(NamedTuple):
    kind: Kind
    arguments: bool = False  # whether it takes them
    keep: int = -1  # ARGUMENT: which one
    closes: int = 0  # SCOPES: how many scopes of the text before are closed
    opens: tuple[Scope, ...] = ()  # SCOPES: and then opened
    word: str = ""  # CONTROL and ACCESS: the first keyword


_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[A-Za-z_]\w*|\.?\d[\w.\']*|##|::|->|\[\[|\]\]|<<|>>|&&|\|\||[^\s\w]'
)
_DEFINE = re.compile(
    rb"#[ \t]*define[ \t]+([A-Za-z_]\w*)(?:\(([^()\n]{0,2000}(?:\\\r?\n[^()\n]{0,2000}){0,20})\))?"
    rb"([^\n]*(?:(?:(?<=\\)|(?<=\\\r))\n[^\n]*)*)"
)
_COMMENT = re.compile(rb'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_PLAIN = re.compile(r"[(\s]*-?\.?\d[\w.']*[)\s]*|\(.*\)|(?!\s)(?:\w+\s*(?:::|\+|-|\*|\||\.|->)\s*)+\w+")
_CALL = re.compile(r"[A-Za-z_]\w*\(.*\)")

_SPECIFIERS = frozenset(
    """inline static constexpr consteval constinit extern noexcept override final virtual explicit volatile const
    register thread_local mutable friend restrict __restrict __restrict__ __inline __inline__ __forceinline
    __extension__ __thread __unaligned __volatile__ __const __cdecl __stdcall __fastcall __thiscall __vectorcall
    __pascal _cdecl _stdcall _fastcall __regcall __clrcall pascal far near _Noreturn _Thread_local __noinline__
    __host__ __device__ __global__ __shared__ __constant__ __managed__ __forceinline__ __launch_bounds__""".split()
)
_TAKES_GROUP = frozenset(
    """__attribute__ __attribute __declspec alignas _Alignas _Pragma __pragma __asm__ __asm asm noexcept throw explicit
    __launch_bounds__ __nonnull __attribute_deprecated__ _GLIBCXX_NOEXCEPT_IF""".split()
)
_CONTROL = frozenset("if else for while do switch try catch case default goto return throw break continue".split())
_COMPLETE_CONTROL = frozenset("goto return throw break continue".split())
_DECLARING = frozenset("using typedef static_assert friend class struct union enum".split())
_TYPE_WORDS = frozenset("void bool int char long short unsigned signed float double auto static".split())
_SPELT_LIKE_ATTRIBUTE = re.compile(
    r".*(?:EXPORT|IMPORT|API|INLINE|CONSTEXPR|CONSTEVAL|CONSTINIT|NODISCARD|NOEXCEPT|EXTERN|PUBLIC|VISIB|HIDDEN"
    r"|DEPRECATED|ATTR|UNUSED|NORETURN|MUST|DECL|CALL|OVERRIDE|RESTRICT|ALWAYS|NONNULL|WARN|GUARD|LOCK|REQUIRES"
    r"|EXCLUDES|ACQUIRE|RELEASE|PRINTF|BEGIN|END)"
)


def definitions(text: bytes) -> tuple[MacroDefinition, ...]:
    """Every ``#define`` of one file, of all branches of its conditionals, but not those within comments."""
    found: list[MacroDefinition] = []
    comment, looked = -1, 0  # start of the last comment that opened before the place looked at
    for match in _DEFINE.finditer(text):
        at = match.start()
        line = text[max(0, at - 200) : at]
        if line[line.rfind(b"\n") + 1 :].strip():
            continue
        comment = max(comment, text.rfind(b"/*", looked, at))
        looked = at
        if comment >= 0 and _in_comment(text, comment, at):
            continue
        parameters = match[2]
        if parameters is None and match[3][:1] == b"(":
            continue  # its parameters do not end
        body = match[3]
        if b"/" in body:
            body = _COMMENT.sub(_without_comment, body)
        if b"\n" in body:
            body = body.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
        found.append(
            MacroDefinition(
                match[1].decode(),
                None if parameters is None else _parameters(parameters),
                body[:MAX_BODY].decode("utf-8", "replace").strip(),
            )
        )
    return tuple(found)


def _without_comment(match: re.Match[bytes]) -> bytes:
    return match[1] or b" "


def _parameters(text: bytes) -> tuple[str, ...]:
    names = text.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").decode("utf-8", "replace").split(",")
    return tuple(name.strip() for name in names if name.strip())


def _in_comment(text: bytes, comment: int, at: int) -> bool:
    if text.find(b"*/", comment + 2, min(at, comment + (1 << 16))) >= 0 or at - comment > 1 << 16:
        return False
    line = text[max(0, comment - 400) : comment]
    line = line[line.rfind(b"\n") + 1 :]
    return b"//" not in line and line.count(b'"') % 2 == 0


def from_flag(flag: str) -> MacroDefinition:
    """The macro that a compiler's ``-DNAME``, ``-DNAME=VALUE`` or ``-DNAME(a,b)=VALUE`` defines."""
    name, equals, body = flag.removeprefix("-D").removeprefix("/D").strip().partition("=")
    head, parenthesis, rest = name.partition("(")
    parameters = tuple(part.strip() for part in rest.rstrip(") ").split(",") if part.strip()) if parenthesis else None
    return MacroDefinition(head.strip(), parameters, body.strip()[:MAX_BODY] if equals else "1")


class Macros:
    """The meanings that matter, by name. Immutable; equal when their contents are."""

    __slots__ = ("_hash", "_meanings", "odd_names")

    def __init__(self, meanings: Iterable[tuple[str, Meaning]]) -> None:
        self._meanings = dict(sorted(meanings))
        # Names that no search for words in capitals finds.
        self.odd_names = frozenset(name.encode() for name in self._meanings if not SHOUTED.fullmatch(name))
        self._hash = hash(tuple(self._meanings.items()))

    def get(self, name: str) -> Meaning | None:
        return self._meanings.get(name)

    def __iter__(self) -> Iterator[tuple[str, Meaning]]:
        return iter(self._meanings.items())

    def __len__(self) -> int:
        return len(self._meanings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Macros) and self._meanings == other._meanings

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[tuple[str, Meaning], ...]]]:
        return type(self), (tuple(self._meanings.items()),)

    def dumps(self) -> str:
        """A stable text: equal macros give equal text."""
        return json.dumps(list(self._meanings.items()), separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Self:
        """Raises ValueError for a text that ``dumps`` did not make."""
        try:
            return cls(
                (name, Meaning(Kind(kind), arguments, keep, closes, tuple(Scope(*scope) for scope in opens), word))
                for name, (kind, arguments, keep, closes, opens, word) in json.loads(text)
            )
        except TypeError as error:
            raise ValueError("these are no macros") from error


def learn(definitions: Iterable[MacroDefinition]) -> Macros:
    """What these macros mean, together with BUILTIN where they do not say otherwise."""
    by_name: dict[str, set[MacroDefinition]] = {}
    for definition in definitions:
        by_name.setdefault(definition.name, set()).add(definition)
    judge = _Judge(by_name)
    meanings = dict(BUILTIN)
    for name, found in sorted(by_name.items()):
        meaning = judge.meaning(name)
        if meaning is None or (meaning.kind is Kind.VALUE and not _SPELT_LIKE_ATTRIBUTE.match(name)):
            # An empty branch says nothing against what a framework's macro is known to do.
            if any(definition.body for definition in found):
                meanings.pop(name, None)
        else:
            meanings[name] = meaning
    return Macros(meanings.items())


def changed(before: Macros, after: Macros) -> frozenset[str]:
    """The names whose meaning differs: the files they stand in must be read again."""
    old, new = dict(before), dict(after)
    return frozenset(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


_CALLED_KINDS = (Kind.DECLARES, Kind.CONTROL, Kind.HEADING, Kind.SCOPES)  # passed on by a body that is a call


class _Judge:
    """Meanings of the macros of one tree, each worked out once."""

    def __init__(self, by_name: dict[str, set[MacroDefinition]]) -> None:
        self._by_name = by_name
        self._known: dict[str, Meaning | None] = {}

    def meaning(self, name: str, depth: int = 0) -> Meaning | None:
        if name in self._known:
            return self._known[name]
        found = self._by_name.get(name)
        if found is None or depth > MAX_DEPTH:
            return BUILTIN.get(name)
        self._known[name] = None  # one that leads back to itself has no meaning
        judged = {self._of(definition, depth) for definition in found if not _is_itself(definition)}
        self._known[name] = meaning = _together(judged) if judged else BUILTIN.get(name)
        return meaning

    def _of(self, definition: MacroDefinition, depth: int) -> Meaning:  # noqa: C901, PLR0911 - a table in prose
        arguments = definition.parameters is not None
        body = definition.body
        if not body:
            return Meaning(Kind.ATTRIBUTE, arguments, word="empty")
        if _PLAIN.fullmatch(body):
            return Meaning(Kind.VALUE, arguments)
        pieces = _TOKEN.findall(body)
        parameters = definition.parameters or ()
        if arguments and _is_parameter(pieces):
            return Meaning(Kind.PARAMETER, arguments)
        rest = self._without_attributes(pieces, parameters, depth)
        if not rest:
            return Meaning(Kind.ATTRIBUTE, arguments)
        scopes = _scopes(pieces) if "{" in rest or "}" in rest else None
        if scopes is not None:
            return scopes._replace(arguments=arguments)
        if len(rest) == 1:
            return self._of_one(rest[0], definition, depth)
        if rest[0] == "(" and rest[-1] == ")" and len(rest) == 3 and rest[1] in parameters:
            return Meaning(Kind.VALUE, arguments)
        if rest[0] == "template" and _is_template_head(rest):
            return Meaning(Kind.TEMPLATE, arguments)
        if rest[0] in ("public", "protected", "private"):
            return Meaning(Kind.ACCESS, arguments, word=rest[0])
        if all(self._is_string(piece, parameters, depth) for piece in rest) and any(
            piece[0] == '"' or piece in ("#", "L", "u8") or self._names_string(piece, depth) for piece in rest
        ):
            return Meaning(Kind.STRING, arguments)
        return self._of_statement(rest, arguments=arguments, depth=depth)

    def _of_one(self, piece: str, definition: MacroDefinition, depth: int) -> Meaning:  # noqa: PLR0911 - a table in prose
        arguments = definition.parameters is not None
        parameters = definition.parameters or ()
        if piece in parameters or piece == "__VA_ARGS__":
            return Meaning(Kind.ARGUMENT, arguments, parameters.index(piece) if piece in parameters else -1)
        if piece[0] == '"':
            return Meaning(Kind.STRING, arguments)
        if piece in ("public", "protected", "private"):
            return Meaning(Kind.ACCESS, arguments, word=piece)
        if piece in _CONTROL:
            kind = Kind.DECLARES if piece in _COMPLETE_CONTROL else Kind.CONTROL
            return Meaning(kind, arguments, word=piece)
        if piece == ";":
            return Meaning(Kind.DECLARES, arguments)
        if not arguments:
            other = self.meaning(piece, depth + 1)
            if other is not None:  # another name of the same
                return other
        return Meaning(Kind.VALUE, arguments)

    def _of_statement(  # noqa: PLR0911 - a table in prose
        self, pieces: list[str], *, arguments: bool, depth: int
    ) -> Meaning:
        first = pieces[0]
        start = _last_statement(pieces)
        tail = pieces[start:]
        if not tail:
            word = first if first in _CONTROL else ""
            return Meaning(Kind.DECLARES, arguments, word=word)
        if tail[0] in _CONTROL:
            if tail[0] in _COMPLETE_CONTROL or (tail[0] == "do" and tail[-1] == ")"):
                return Meaning(Kind.DECLARES, arguments, word=tail[0])
            if tail[0] in ("case", "default"):
                return Meaning(Kind.VALUE, arguments)
            if not _awaits_statement(tail):
                return Meaning(Kind.DECLARES, arguments, word=tail[0])
            return Meaning(Kind.CONTROL, arguments, word=tail[0])
        other = self.meaning(tail[0], depth + 1)
        if other is not None and other.kind in _CALLED_KINDS and tail[1:2] == ["("] and tail[-1] == ")":
            return other._replace(arguments=arguments)
        if tail[-1] in (")", "const", "override") and _is_heading(tail):
            return Meaning(Kind.HEADING, arguments)
        if start or first in _DECLARING or "{" in tail:
            return Meaning(Kind.DECLARES, arguments)
        if _is_declaration(tail):
            return Meaning(Kind.DECLARES, arguments)
        return Meaning(Kind.VALUE, arguments)

    def _without_attributes(self, pieces: list[str], parameters: tuple[str, ...], depth: int) -> list[str]:
        """What is left besides attributes and specifiers."""
        rest: list[str] = []
        index = 0
        while index < len(pieces):
            piece = pieces[index]
            behind = pieces[index + 1] if index + 1 < len(pieces) else ""
            if piece == "[[":
                index = _behind(pieces, index, "[[", "]]")
                continue
            if piece in _TAKES_GROUP and behind == "(":
                index = _behind(pieces, index + 1, "(", ")")
                continue
            if piece == "extern" and behind[:1] == '"' and pieces[index + 2 : index + 3] != ["{"]:
                index += 2
                continue
            if piece in _SPECIFIERS and not (piece == "extern" and behind[:1] == '"'):
                index += 1
                continue
            if piece == "=" and behind in ("0", "default", "delete") and index + 2 == len(pieces):
                return rest
            if piece[0].isalpha() or piece[0] == "_":
                other = None if piece in parameters else self.meaning(piece, depth + 1)
                if other is not None and other.kind is Kind.ATTRIBUTE and (not other.arguments or behind == "("):
                    index = _behind(pieces, index + 1, "(", ")") if other.arguments else index + 1
                    continue
            rest.append(piece)
            index += 1
        return rest

    def _is_string(self, piece: str, parameters: tuple[str, ...], depth: int) -> bool:
        return (
            piece[0] in '"#'
            or piece in parameters
            or piece in ("L", "u8", "__VA_ARGS__")
            or self._names_string(piece, depth)
        )

    def _names_string(self, piece: str, depth: int) -> bool:
        if not (piece[0].isalpha() or piece[0] == "_"):
            return False
        other = self.meaning(piece, depth + 1)
        return other is not None and other.kind is Kind.STRING


def _is_itself(definition: MacroDefinition) -> bool:
    return definition.parameters is None and definition.body == definition.name


# What wins when branches define one name differently: what breaks the grammar most.
_WEIGHT = {
    kind: weight
    for weight, kind in enumerate(
        (
            Kind.ATTRIBUTE,
            Kind.VALUE,
            Kind.STRING,
            Kind.DECLARES,
            Kind.PARAMETER,
            Kind.ARGUMENT,
            Kind.CONTROL,
            Kind.TEMPLATE,
            Kind.HEADING,
            Kind.ACCESS,
            Kind.SCOPES,
        )
    )
}


def _together(judged: set[Meaning]) -> Meaning | None:
    """One meaning for all branches. None where an empty branch stands against a value: the place must tell."""
    best = max(judged, key=lambda meaning: (_WEIGHT[meaning.kind], len(meaning.opens), meaning.closes, meaning))
    kinds = {meaning.kind for meaning in judged}
    if best.kind is Kind.VALUE and Kind.ATTRIBUTE in kinds:
        return None
    if best.kind is Kind.ATTRIBUTE:
        real = [meaning for meaning in judged if meaning.word != "empty"]
        return Meaning(Kind.ATTRIBUTE, any(meaning.arguments for meaning in judged), word="" if real else "empty")
    return best


def _behind(pieces: list[str], index: int, opening: str, closing: str) -> int:
    """The index behind the group that opens at an index; the end when it does not close."""
    depth = 0
    while index < len(pieces):
        piece = pieces[index]
        if piece == opening:
            depth += 1
        elif piece == closing:
            depth -= 1
            if depth == 0:
                return index + 1
        index += 1
    return index


def _scopes(pieces: list[str]) -> Meaning | None:
    """The braces that a body opens or closes for others, if what opens them is a namespace or a linkage."""
    closes = 0
    opened: list[Scope | None] = []
    head: list[str] = []
    for piece in pieces:
        if piece == "{":
            opened.append(_scope_of(head))
            head = []
        elif piece == "}":
            if opened:
                opened.pop()
            else:
                closes += 1
            head = []
        elif piece == ";":
            head = []
        else:
            head.append(piece)
    if not closes and not opened:
        return None
    scopes = [scope for scope in opened if scope is not None]
    if len(scopes) != len(opened):
        return Meaning(Kind.HEADING, word="{") if not closes else None
    names: list[Scope] = []
    for scope in scopes:
        parts = scope.name.split("::")
        names += [Scope(part, scope.inline, scope.linkage) for part in parts]
    return Meaning(Kind.SCOPES, closes=closes, opens=tuple(names[:20]))


def _scope_of(head: list[str]) -> Scope | None:
    if "namespace" in head:
        at = head.index("namespace") + 1
        end = at
        while end < len(head) and (head[end] == "::" or head[end][0].isalpha() or head[end][0] == "_"):
            end += 1
        computed = head[end : end + 1] in (["("], ["##"])
        return Scope("" if computed else "".join(head[at:end]), inline="inline" in head[: at - 1])
    if len(head) >= 2 and head[0] == "extern" and head[1][:1] == '"':
        return Scope("", linkage=True)
    return None


def _is_parameter(pieces: list[str]) -> bool:
    """``std::enable_if_t<(...), int> = 0``."""
    typed = "::" in pieces or "typename" in pieces or "<" in pieces
    return typed and len(pieces) > 4 and pieces[-2] == "=" and pieces[-1] in ("0", "1", "nullptr", "true", "false")


def _is_template_head(pieces: list[str]) -> bool:
    """Whether there is nothing but ``template<...>``, perhaps several and with a requires-clause."""
    depth = 0
    for index, piece in enumerate(pieces[1:], 1):
        if piece == "<":
            depth += 1
        elif piece == ">":
            depth -= 1
        elif piece == ">>":
            depth -= 2
        if depth <= 0:
            behind = pieces[index + 1 :]
            if not behind or behind[0] == "requires":
                return True
            return behind[0] == "template" and _is_template_head(behind)
    return False


def _last_statement(pieces: list[str]) -> int:
    """The index behind the last ``;`` or block that stands outside of brackets."""
    depth = start = 0
    for index, piece in enumerate(pieces):
        if piece in ("(", "{"):
            depth += 1
        elif piece in (")", "}"):
            depth -= 1
        if depth == 0 and (piece == ";" or (piece == "}" and _ends_block(pieces, index))):
            start = index + 1
    return start


def _ends_block(pieces: list[str], index: int) -> bool:
    behind = pieces[index + 1] if index + 1 < len(pieces) else ""
    return behind not in ("(", ")", ",", ".", "->", "while", "else")


def _is_heading(pieces: list[str]) -> bool:
    """``void name(...)``, ``A::B::f()`` behind other statements: two words or more and then parentheses."""
    at = pieces.index("(") if "(" in pieces else 0
    words = [piece for piece in pieces[:at] if piece[0].isalpha() or piece[0] == "_"]
    if not words or "=" in pieces[:at] or pieces[0] in _DECLARING:
        return False
    return words[0] in _TYPE_WORDS or (
        "::" in pieces[:at] and pieces[0] != "::" and len(words) >= 3 and words[0] == "void"
    )


def _awaits_statement(pieces: list[str]) -> bool:
    """Whether pieces end behind ``if (...)``, ``else``, ``try``: a block or a statement must follow."""
    index = 0
    while index < len(pieces) and pieces[index] in _CONTROL | {"constexpr"}:
        behind = pieces[index + 1] if index + 1 < len(pieces) else ""
        index = _behind(pieces, index + 1, "(", ")") if behind == "(" else index + 1
    return index >= len(pieces)


def _is_declaration(pieces: list[str]) -> bool:
    """``type name ...``: two words side by side before any operator."""
    if pieces[0] in ("sizeof", "new", "delete", "typename", "decltype", "operator", "typeof", "__typeof__"):
        return False
    for before, piece in pairwise(pieces):
        if not (before[0].isalpha() or before[0] in "_#:<>*&,"):
            return False
        if piece in ("=", ";"):
            return piece == "=" and before != pieces[0]
        if piece in ("(", "["):
            return before != pieces[0]
        if not (piece[0].isalpha() or piece[0] in "_#:<>*&,"):
            return False
    return False


def _frameworks() -> Macros:
    found: dict[str, Meaning] = {
        "QT_BEGIN_NAMESPACE": Meaning(Kind.ATTRIBUTE),
        "QT_END_NAMESPACE": Meaning(Kind.ATTRIBUTE),
        "__BEGIN_DECLS": Meaning(Kind.ATTRIBUTE),  # both sides of an extern "C" that this tree does not show
        "__END_DECLS": Meaning(Kind.ATTRIBUTE),
        "OF": Meaning(Kind.ARGUMENT, arguments=True, keep=0),
    }
    for key, names in FRAMEWORKS.items():
        plain, arguments = key.removesuffix("()"), key.endswith("()")
        kind, _, word = plain.partition(":")
        meaning = Meaning(Kind(kind), arguments, word=word)
        found |= dict.fromkeys(names.split(), meaning)
    return Macros(found.items())


BUILTIN = _frameworks()
