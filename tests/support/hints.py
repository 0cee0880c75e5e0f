"""The grammar of operands and hints, as indexer.cpp.hints states it, to hold what is read from any text against it."""

import json
from typing import Any

MAX_DEPTH = 6
MAX_READ = 12
MAX_COUNTED = 48
FORMS = {"call", "method", "new", "init", "operator"}

# What stands behind the first word of a hint: h a hint, n a name, a arguments, t template arguments (may be left out).
_PARTS = {
    "this": "",
    "lambda": "",
    "name": "n",
    "call": "nat",
    "method": "hnat",
    "member": "hn",
    "*": "h",
    "&": "h",
    "[]": "hh",
    "cond": "hh",
    "element": "h",
    "pack": "h",
}


def check_operands(text: str) -> None:
    """Asserts that the operands of a use are what the language of hints allows."""
    operands = json.loads(text)
    assert json.dumps(operands, separators=(",", ":"), ensure_ascii=False) == text, "not as short as it can be"
    assert isinstance(operands, list)
    assert 1 <= len(operands) <= 4
    form, subject, arguments, template_arguments = operands + [None, [], None][len(operands) - 1 :]
    assert form in FORMS
    assert len(operands) == 1 or operands[-1] not in (None, []), "an empty part at the end"
    assert subject is None or form in ("method", "operator"), f"{form} of an object"
    check_hint(subject, MAX_DEPTH)
    _check_arguments(arguments, MAX_DEPTH)
    if template_arguments is not None:
        _check_template_arguments(template_arguments)


def check_hint(hint: Any, room: int) -> None:
    """Asserts that this is a hint whose lists nest at most ``room`` deep."""
    if hint is None:
        return
    if isinstance(hint, str):
        assert hint, "an empty type"
        return
    assert isinstance(hint, list)
    assert room > 0, "nested too deeply"
    word, *rest = hint
    if word == "list":
        assert len(rest) == 1
        assert len(rest[0]) <= MAX_READ
        _check_arguments(rest[0], room - 1)
    elif word == "op":
        assert isinstance(rest[0], str)
        assert len(rest) in (2, 3)
        for operand in rest[1:]:
            check_hint(operand, room - 1)
    elif word == "bind":
        check_hint(rest[0], room - 1)
        assert isinstance(rest[1], int)
        assert len(rest) == 2
    else:
        _check_parts(rest, _PARTS[word], room - 1)


def _check_parts(rest: list[Any], parts: str, room: int) -> None:
    assert len(rest) in (len(parts), len(parts.removesuffix("t")))
    for part, value in zip(parts, rest, strict=False):
        if part == "h":
            check_hint(value, room)
        elif part == "n":
            assert isinstance(value, str)
            assert value
        elif part == "a":
            _check_arguments(value, room)
        else:
            _check_template_arguments(value)


def _check_arguments(arguments: Any, room: int) -> None:
    assert isinstance(arguments, list)
    assert len(arguments) <= MAX_COUNTED
    assert all(argument is None for argument in arguments[MAX_READ:])
    for argument in arguments:
        check_hint(argument, room)


def _check_template_arguments(arguments: Any) -> None:
    assert isinstance(arguments, list)
    assert len(arguments) <= MAX_READ
    assert all(argument is None or (isinstance(argument, str) and argument) for argument in arguments)
