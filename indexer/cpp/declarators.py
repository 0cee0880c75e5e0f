"""Reads what a C++ declarator declares: its name, the scope written before it, and its parameter types in one form.

It looks at one declarator at a time and knows nothing of files, symbols or where the declaration stands.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from tree_sitter import Node

_WRAPPERS = frozenset({"pointer_declarator", "array_declarator", "init_declarator"})
_BARE_WRAPPERS = frozenset(
    {"reference_declarator", "parenthesized_declarator", "attributed_declarator", "variadic_declarator"}
)
_POINTERS = frozenset({"pointer_declarator", "reference_declarator"})
_PLAIN_NAMES = frozenset({"identifier", "field_identifier", "type_identifier", "namespace_identifier"})
_TEMPLATED = frozenset({"template_type", "template_function", "template_method"})
_MAX_NESTING = 64  # pointers to arrays of pointers ...: nobody writes more, and the loop has its bound

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_WORD_OR_SIGN = re.compile(r"\w+|::|\.\.\.|&&|->|\S")
_ELABORATED = frozenset({"struct", "class", "union", "enum", "typename", "register"})
_SPACE = re.compile(r"\s+")
_OPERATOR_WORD = re.compile(r"operator((?:new|delete|co_await)\b.*)")
_PLAIN_ARGUMENTS = re.compile(r"<[\w\s,.]*>")
_TEMPLATE_PARAMETER = re.compile(r"(?<=[\s.*&])(\w+)\s*$")


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared name. ``*_key`` are the spellings that ids are made of: with the arguments of specialisations."""

    name: str
    name_key: str
    scope: str  # written before the name: "DBImpl" in "DBImpl::Get", without template arguments
    scope_key: str
    callable: bool
    parameters: tuple[str, ...]  # of a callable: canonical types, then "const" and "&" of the function itself
    owner: str  # the last name in the scope, without arguments
    name_start: int  # byte offset of the last part of the name
    scope_starts: tuple[int, ...]  # byte offsets of the type names in the scope

    @property
    def destroys(self) -> bool:
        return self.name.startswith("~")


def declared(declarator: Node, code: bytes, own: frozenset[str]) -> Declared | None:
    """What a declarator declares, or None if it has no name that could be looked up.

    ``own`` holds the template parameters in sight: ``Foo<T>::f`` is ``Foo::f`` when T is one of them.
    """
    node: Node | None = declarator
    function: Node | None = None
    for _ in range(_MAX_NESTING):
        if node is None:
            return None
        kind = node.type
        if kind == "function_declarator":
            function = node
            node = node.child_by_field_name("declarator")
            if node is not None and node.type == "parenthesized_declarator":
                node = _last_named(node)
                if node is not None and node.type in _POINTERS:
                    function = None  # a pointer to a function is a variable
        elif kind in _WRAPPERS:
            node = node.child_by_field_name("declarator")
        elif kind in _BARE_WRAPPERS:
            node = _last_named(node)
        else:
            break
    return None if node is None else _named(node, function, code, own)


def _named(node: Node, function: Node | None, code: bytes, own: frozenset[str]) -> Declared | None:
    scope: list[str] = []
    scope_key: list[str] = []
    scope_starts: list[int] = []
    owner = ""
    while node.type == "qualified_identifier":
        part = node.child_by_field_name("scope")
        if part is not None:
            owner, arguments = name_and_arguments(part, code, own)
            scope.append(owner)
            scope_key.append(owner + arguments)
            scope_starts.append(part.start_byte)
        following = node.child_by_field_name("name")
        if following is None:
            return None
        node = following
    parameters: tuple[str, ...] = ()
    if node.type == "operator_cast":
        function = node.child_by_field_name("declarator")
        while function is not None and function.type != "abstract_function_declarator":
            function = function.child_by_field_name("declarator") or _last_named(function)
        stop = node.end_byte if function is None else function.start_byte
        name = "operator " + canonical_type(_text(code, node.start_byte + len("operator"), stop))
        arguments = ""
    else:
        name, arguments = name_and_arguments(node, code, own)
    if not name:
        return None
    if function is not None:
        parameters = _parameters(function, code)
    return Declared(
        name=name,
        name_key=name + arguments,
        scope="::".join(scope),
        scope_key="::".join(scope_key),
        callable=function is not None or node.type == "operator_cast",
        parameters=parameters,
        owner=owner,
        name_start=node.start_byte,
        scope_starts=tuple(scope_starts),
    )


def name_and_arguments(node: Node, code: bytes, own: frozenset[str]) -> tuple[str, str]:
    """A name, and its template arguments in one form: "" when they only repeat the template's own parameters."""
    scopes: list[str] = []
    found: Node | None = node
    while found is not None and found.type in ("qualified_identifier", "dependent_name"):
        if found.type == "dependent_name":
            found = found.named_child(0)
            continue
        scope = found.child_by_field_name("scope")
        if scope is not None:
            scopes.append(_unqualified(scope, code, own)[0])
        found = found.child_by_field_name("name")
    name, arguments = ("", "") if found is None else _unqualified(found, code, own)
    return ("::".join([*scopes, name]) if name else ""), arguments


def _unqualified(node: Node, code: bytes, own: frozenset[str]) -> tuple[str, str]:
    kind = node.type
    if kind in ("destructor_name", "operator_name"):
        text = _SPACE.sub("", _text(code, node.start_byte, node.end_byte))
        word = _OPERATOR_WORD.match(text)  # the words among the operators keep their space
        return (f"operator {word[1]}" if word else text), ""
    if kind in _TEMPLATED:
        name = node.child_by_field_name("name")
        arguments = node.child_by_field_name("arguments")
        written = "" if arguments is None else _text(code, arguments.start_byte, arguments.end_byte)
        if _PLAIN_ARGUMENTS.fullmatch(written) and set(re.findall(r"\w+", written)) <= own:
            written = ""
        return ("" if name is None else _text(code, name.start_byte, name.end_byte)), canonical_type(written)
    return (_text(code, node.start_byte, node.end_byte) if kind in _PLAIN_NAMES else ""), ""


def last_name(node: Node) -> Node:
    """The node of the last plain name in a qualified or templated one."""
    while True:
        following = node.child_by_field_name("name")
        if following is None and node.type == "dependent_name":
            following = node.named_child(0)
        if following is None:
            return node
        node = following


def template_parameter_names(parameters: Node, code: bytes) -> frozenset[str]:
    """The names between template< and >."""
    names = set()
    for child in parameters.named_children:
        written = _text(code, child.start_byte, child.end_byte)
        found = _TEMPLATE_PARAMETER.search(written.partition("=")[0])
        if found:
            names.add(found[1])
    return frozenset(names - {"typename", "class"})


def _parameters(function: Node, code: bytes) -> tuple[str, ...]:
    types: list[str] = []
    listed = function.child_by_field_name("parameters")
    if listed is not None:
        for child in listed.children:
            kind = child.type
            if kind in ("parameter_declaration", "optional_parameter_declaration", "variadic_parameter_declaration"):
                types.append(canonical_type(_parameter(child, code)))
            elif kind == "...":
                types.append("...")
    if types == ["void"]:
        types = []
    for child in function.named_children:
        if child.type in ("type_qualifier", "ref_qualifier"):
            qualifier = _text(code, child.start_byte, child.end_byte)
            if qualifier in ("const", "volatile", "&", "&&"):
                types.append(f"({qualifier})")
    return tuple(types)


def _parameter(node: Node, code: bytes) -> str:
    """The text of one parameter without its name and its default."""
    declarator = node.child_by_field_name("declarator")
    if declarator is None:
        default = node.child_by_field_name("default_value")
        stop = node.end_byte if default is None else code.rfind(b"=", node.start_byte, default.start_byte)
        return _text(code, node.start_byte, stop)
    name: Node | None = declarator
    for _ in range(_MAX_NESTING):
        if name is None or name.type in _PLAIN_NAMES:
            break
        name = name.child_by_field_name("declarator") or _last_named(name)
    if name is None or name.type not in _PLAIN_NAMES:
        return _text(code, node.start_byte, declarator.end_byte)
    return _text(code, node.start_byte, name.start_byte) + " " + _text(code, name.end_byte, declarator.end_byte)


@lru_cache(maxsize=8192)
def canonical_type(written: str) -> str:
    """One spelling for a type: ``Foo const &`` and ``const Foo&`` agree, top-level const and ``struct`` are dropped."""
    if "/" in written:
        written = _COMMENT.sub(" ", written)
    if "[[" in written:
        written = re.sub(r"\[\[.*?\]\]", " ", written)
    words = [word for word in _WORD_OR_SIGN.findall(written) if word not in _ELABORATED]
    if words[:1] == ["::"]:
        del words[0]
    base, rest = _split_declarator(words)
    depth = 0
    kept: list[str] = []
    constant = False
    for word in base:
        depth += (word == "<") - (word == ">")
        if word == "const" and depth == 0:
            constant = True
        else:
            kept.append(word)
    if rest and rest[-1] == "const":
        rest.pop()  # "char* const p": the parameter itself, which a caller does not see
    if constant and rest and rest != ["..."]:
        kept.insert(0, "const")
    return _join(kept + rest)


def _split_declarator(words: list[str]) -> tuple[list[str], list[str]]:
    """The words up to the first ``*``, ``&``, ``[``, ``(`` or ``...`` outside template arguments, and the others.

    An array parameter is a pointer: its first pair of brackets becomes ``*``.
    """
    depth = 0
    for index, word in enumerate(words):
        depth += (word == "<") - (word == ">")
        if depth == 0 and word in ("*", "&", "&&", "[", "(", "..."):
            rest = words[index:]
            if "[" in rest and "(" not in rest:
                opening = rest.index("[")
                closing = rest.index("]", opening) if "]" in rest[opening:] else len(rest) - 1
                rest[opening : closing + 1] = ["*"]
            return words[:index], rest
    return words, []


def _join(words: list[str]) -> str:
    pieces: list[str] = []
    for word in words:
        if pieces and (word[0].isalnum() or word[0] == "_") and (pieces[-1][-1].isalnum() or pieces[-1][-1] == "_"):
            pieces.append(" ")
        pieces.append(word)
    return "".join(pieces)


def _last_named(node: Node) -> Node | None:
    count = node.named_child_count
    return node.named_child(count - 1) if count else None


def _text(code: bytes, start: int, stop: int) -> str:
    return code[start:stop].decode("utf-8", "replace")
