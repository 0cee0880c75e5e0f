"""Reads what a C++ declarator declares: its name, the scope written before it, its type and parameters in one form.

It looks at one declarator at a time and knows nothing of files, symbols or where the declaration stands.
"""

import re
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import lru_cache

from tree_sitter import Node

from indexer.cpp.types import NO_PARAMETERS, full_type, parameters_of

_WRAPPERS = frozenset({"pointer_declarator", "array_declarator", "init_declarator"})
_BARE_WRAPPERS = frozenset(
    {"reference_declarator", "parenthesized_declarator", "attributed_declarator", "variadic_declarator"}
)
_POINTERS = frozenset({"pointer_declarator", "reference_declarator"})
_PLAIN_NAMES = frozenset({"identifier", "field_identifier", "type_identifier", "namespace_identifier"})
_TEMPLATED = frozenset({"template_type", "template_function", "template_method"})
_MAX_NESTING = 64  # pointers to arrays of pointers ...: nobody writes more, and the loop has its bound

_SPACE = re.compile(r"\s+")
_OPERATOR_WORD = re.compile(r"operator((?:new|delete|co_await)\b.*)")
_PLAIN_ARGUMENTS = re.compile(r"<[\w\s,.]*>")
_QUALIFIER = re.compile(rb"\bconst\b|\bvolatile\b|&&|&")
_ENDS_QUALIFIERS = re.compile(rb"\b(?:noexcept|requires|throw)\b|->|[={:]")


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared name. ``*_key`` are the spellings that ids are made of: with the arguments of specialisations."""

    name: str
    name_key: str
    scope: str  # written before the name: "DBImpl" in "DBImpl::Get", without template arguments
    scope_key: str
    templated_scopes: int  # how many parts of the scope are written with template arguments
    callable: bool
    parameters: tuple[str, ...]  # of a callable: canonical types
    required: int  # parameters that a call must give
    qualifiers: tuple[str, ...]  # of a callable, as ids hold them: "(const)", "(&)", "(this Self&)"
    owner: str  # the last name in the scope, without arguments
    around: str  # what of the type stands around the name: "*" in "*p", "[3]" in "a[3]", "(*)(int)" in "(*f)(int)"
    returns: str  # the type behind "->" or of a conversion, as written
    name_start: int  # byte offset of the last part of the name
    after_parameters: int  # byte offset where the parameter list ends; of a variable, where its name does
    scope_starts: tuple[int, ...]  # byte offsets of the type names in the scope

    @property
    def destroys(self) -> bool:
        return self.name.startswith("~")

    @property
    def converts(self) -> bool:
        return self.name.startswith("operator ") and bool(self.returns)


def declared(declarator: Node, code: bytes, levels: Container[tuple[str, ...]]) -> Declared | None:
    """What a declarator declares, or None if it has no name that could be looked up.

    ``levels`` holds the template parameters in sight, outermost template first: ``Foo<T>::f`` is ``Foo::f`` when some
    template has exactly T.
    """
    node: Node | None = declarator
    function: Node | None = None
    outer = declarator
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
            if kind == "init_declarator" and node is not None:
                outer = node
        elif kind in _BARE_WRAPPERS:
            node = _last_named(node)
        else:
            break
    return None if node is None else _named(node, function, outer, code, levels)


def as_function(initialised: Node, name: Declared, code: bytes) -> Declared:
    """``void f(A* a, void (*then)())`` reads like a variable made with arguments: the same name as a function's."""
    value = initialised.child_by_field_name("value")
    if value is None or value.type != "argument_list":
        return name
    found = parameters_of(_text(code, value.start_byte + 1, value.end_byte - 1))
    return replace(
        name, callable=True, parameters=found.types, required=found.required, after_parameters=value.end_byte
    )


def _named(
    node: Node, function: Node | None, outer: Node, code: bytes, levels: Container[tuple[str, ...]]
) -> Declared | None:
    start = node.start_byte
    scope: list[str] = []
    scope_key: list[str] = []
    scope_starts: list[int] = []
    templated_scopes = 0
    owner = ""
    while node.type == "qualified_identifier":
        part = node.child_by_field_name("scope")
        if part is not None:
            owner, arguments = name_and_arguments(part, code, levels)
            templated_scopes += part.type in _TEMPLATED
            scope.append(owner)
            scope_key.append(owner + arguments)
            scope_starts.append(part.start_byte)
        following = node.child_by_field_name("name")
        if following is None:
            return None
        node = following
    returns = arguments = ""
    callable_ = function is not None
    if node.type == "operator_cast":
        callable_ = True
        function = _function_of_conversion(node)
        stop = node.end_byte if function is None else function.start_byte
        returns = _text(code, node.start_byte + len("operator"), stop)
        name = "operator " + full_type(returns)
    else:
        name, arguments = name_and_arguments(node, code, levels)
    if not name:
        return None
    inner_end = after = node.end_byte
    found = NO_PARAMETERS
    qualifiers: tuple[str, ...] = ()
    listed = None if function is None else function.child_by_field_name("parameters")
    if function is not None and listed is not None:
        inner_end, after = function.end_byte, listed.end_byte
        found = parameters_of(_text(code, listed.start_byte + 1, listed.end_byte - 1))
        if inner_end > after:
            behind = code[after:inner_end]
            qualifiers = _qualifiers(behind)
            if b"->" in behind and not returns:
                returns = _trailing_return(function, code)
        if found.explicit_object:
            qualifiers = (*qualifiers, f"(this {found.explicit_object})")
    return Declared(
        name=name,
        name_key=name + arguments,
        scope="::".join(scope),
        scope_key="::".join(scope_key),
        templated_scopes=templated_scopes,
        callable=callable_,
        parameters=found.types,
        required=found.required,
        qualifiers=qualifiers,
        owner=owner,
        around=_text(code, outer.start_byte, start) + _text(code, inner_end, outer.end_byte),
        returns=returns,
        name_start=node.start_byte,
        after_parameters=after,
        scope_starts=tuple(scope_starts),
    )


def name_and_arguments(node: Node, code: bytes, levels: Container[tuple[str, ...]] = ()) -> tuple[str, str]:
    """A name, and its template arguments in one form: "" when they only repeat the parameters of a template."""
    scopes: list[str] = []
    found: Node | None = node
    while found is not None and found.type in ("qualified_identifier", "dependent_name"):
        if found.type == "dependent_name":
            found = found.named_child(0)
            continue
        scope = found.child_by_field_name("scope")
        if scope is not None:
            scopes.append(_unqualified(scope, code, levels)[0])
        found = found.child_by_field_name("name")
    name, arguments = ("", "") if found is None else _unqualified(found, code, levels)
    return ("::".join([*scopes, name]) if name else ""), arguments


def _unqualified(node: Node, code: bytes, levels: Container[tuple[str, ...]]) -> tuple[str, str]:
    kind = node.type
    if kind in ("destructor_name", "operator_name"):
        text = _SPACE.sub("", _text(code, node.start_byte, node.end_byte))
        word = _OPERATOR_WORD.match(text)  # the words among the operators keep their space
        return (f"operator {word[1]}" if word else text), ""
    if kind in _TEMPLATED:
        name = node.child_by_field_name("name")
        arguments = node.child_by_field_name("arguments")
        written = "" if arguments is None else _text(code, arguments.start_byte, arguments.end_byte)
        if _PLAIN_ARGUMENTS.fullmatch(written) and levels:
            parts = tuple(_SPACE.sub("", part) for part in written[1:-1].split(","))
            if parts in levels:
                written = ""
        return ("" if name is None else _text(code, name.start_byte, name.end_byte)), full_type(written)
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


def _function_of_conversion(node: Node) -> Node | None:
    function = node.child_by_field_name("declarator")
    while function is not None and function.type != "abstract_function_declarator":
        function = function.child_by_field_name("declarator") or _last_named(function)
    return function


def _trailing_return(function: Node, code: bytes) -> str:
    for child in function.children:
        if child.type == "trailing_return_type":
            return _text(code, child.start_byte, child.end_byte).removeprefix("->")
    return ""


@lru_cache(maxsize=1024)
def _qualifiers(behind: bytes) -> tuple[str, ...]:
    written = _ENDS_QUALIFIERS.split(behind, maxsplit=1)[0]
    return tuple(f"({found.decode()})" for found in _QUALIFIER.findall(written))


def _last_named(node: Node) -> Node | None:
    count = node.named_child_count
    return node.named_child(count - 1) if count else None


def _text(code: bytes, start: int, stop: int) -> str:
    return code[start:stop].decode("utf-8", "replace")
