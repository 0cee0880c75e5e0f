"""What the uses of one file mean: calls by their operands, types, bases, names and macros by look-up.

It reads the operands and hints that ``indexer.cpp.expressions`` writes. A use that could mean several things, or rests
on something unknown, gets no answer: precision goes first.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from indexer.linking import library
from indexer.linking.names import NAMEABLE_TYPES, Found, Names, Site, split_name
from indexer.linking.overloads import SPREAD, Call, Candidate, Overloads, takes
from indexer.linking.types import LAMBDA, SOME_ENUM, Type, substitute
from indexer.linking.world import (
    CLASSES,
    CONSTRUCTOR,
    FUNCTIONS,
    MACRO,
    OBJECTS,
    VALUES,
    Known,
    Seen,
)
from indexer.model import SymbolKind, Trait

_CALLABLE = FUNCTIONS | OBJECTS | NAMEABLE_TYPES
_NAMED = FUNCTIONS | VALUES
_TESTS = frozenset({"==", "!=", "<", ">", "<=", ">=", "&&", "||"})
_MAX_DEPTH = 12  # of hints within hints; the reader cuts them at six

Hint = Any  # JSON; see indexer.cpp.expressions


class Meaning(NamedTuple):
    """What one use means: a symbol, something outside the tree, or unknown. ``type`` is what the use yields."""

    symbol: Known | None = None
    outside: bool = False
    type: Type | None = None


class Place(NamedTuple):
    """Where a hint stands."""

    site: Site
    constant: bool | None  # whether the function around it is a const method


Arguments = tuple[Type | None, ...]
UNKNOWN = Meaning()
OUTSIDE = Meaning(outside=True)


class Meanings:
    """Decides uses, for one file."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._names = Names(seen)
        self._overloads = Overloads(self._names)
        self._depth = 0

    def site(self, scope: str, usings: tuple[str, ...]) -> Site:
        return self._names.site(scope, usings)

    # Uses

    def of_call(  # noqa: PLR0911 - one line a form
        self, written: str, operands: str, site: Site, constant: bool | None
    ) -> Meaning:
        if not operands:
            return self._only(written, site)
        form, target, arguments, explicit = _operands(operands)
        place = Place(site, constant)
        match form:
            case "call":
                return self._call(written, self._types(arguments, place), explicit, place)
            case "method":
                return self._method(self._type(target, place), written, self._types(arguments, place), explicit, place)
            case "new":
                return self._new(written, self._types(arguments, place), explicit, place)
            case "init":
                return self._init(written, self._types(arguments, place), place)
            case "operator":
                return self._operator(
                    written, self._type(target, place), [self._type(argument, place) for argument in arguments], place
                )
        return UNKNOWN

    def _only(self, written: str, site: Site) -> Meaning:
        """A call of which nothing but the name is known."""
        found = self._names.find(written, site, _CALLABLE)
        symbol = self._one(found.symbols)
        return Meaning(symbol) if symbol is not None and symbol.kind in FUNCTIONS else UNKNOWN

    def of_type(self, written: str, site: Site) -> Meaning:
        found = self._names.find(written, site, NAMEABLE_TYPES)
        if found.outside:
            return OUTSIDE
        symbol = self._one_type(found.symbols)
        return UNKNOWN if symbol is None else Meaning(symbol)

    def of_name(self, written: str, site: Site) -> Meaning:
        found = self._names.find(written, site, _NAMED)
        if found.outside:
            return OUTSIDE
        symbol = self._one(found.symbols)
        if symbol is not None:
            return Meaning(symbol)
        return UNKNOWN if found.symbols else self._nothing(written, found)

    def of_macro(self, written: str) -> Meaning:
        for symbol in self._seen.bucket(written).get("", ()):
            if symbol.kind == MACRO:
                return Meaning(symbol)
        return UNKNOWN

    # Calls

    def _call(  # noqa: PLR0911 - one line a rule
        self, written: str, arguments: Arguments, explicit: Sequence[Hint], place: Place
    ) -> Meaning:
        names = self._names
        found = names.find(written, place.site, _CALLABLE)
        symbols = found.symbols
        functions = [symbol for symbol in symbols if symbol.kind in FUNCTIONS]
        unqualified = "::" not in written
        if found.outside:
            associated = names.associated(written, arguments) if unqualified else ()
            if not associated:
                return self._library(written, arguments, explicit, place)
            return self._chosen(associated, found, arguments, explicit, place, None)
        if not functions and symbols:
            if symbols[0].kind in OBJECTS:
                return self._through(self._type_of_value(found, symbols[0]), arguments, place)
            return self._construct(names.type_of(found, self._explicit(explicit, place)), arguments)
        if unqualified and (found.owner is None or not symbols):
            known = {symbol.id for symbol in functions}
            functions += [one for one in names.associated(written, arguments) if one.id not in known]
        if functions:
            constant = place.constant if found.owner is not None else None
            return self._chosen(functions, found, arguments, explicit, place, constant)
        meaning = self.of_macro(written) if unqualified else UNKNOWN
        if meaning.symbol is not None:
            return meaning
        if not unqualified:
            return UNKNOWN
        if not self._seen.bucket(written):
            return self._library(f"std::{written}", arguments, explicit, place)
        return self._nothing(written, found, arguments)

    def _chosen(
        self,
        functions: Sequence[Known],
        found: Found,
        arguments: Arguments,
        explicit: Sequence[Hint],
        place: Place,
        constant: bool | None,
    ) -> Meaning:
        owner = found.owner
        environment = self._names.environment(owner) if owner is not None else {}
        candidates = [Candidate(function, environment) for function in functions]
        call = Call(arguments, self._explicit(explicit, place), constant)
        choice = self._overloads.choose(candidates, call)
        if found.mixed and choice.best is not None and not self._overloads.is_own(choice.best):
            return Meaning(type=choice.result)
        return Meaning(choice.best, type=choice.result)

    def _method(  # noqa: PLR0911 - one line a rule
        self, owner: Type | None, written: str, arguments: Arguments, explicit: Sequence[Hint], place: Place
    ) -> Meaning:
        if owner is None or owner.kind == "parameter":
            return UNKNOWN
        name = split_name(written)[2]
        if owner.pointers or owner.kind in ("builtin", "enum"):
            return UNKNOWN
        if owner.kind == "outside":
            return Meaning(outside=True, type=library.member(owner, name))
        qualifier = split_name(written)[0]
        if qualifier:
            scope = self._names.scope_of(qualifier, place.site)
            if scope is None or scope.type is None:
                return UNKNOWN
            owner = scope.type
        found = self._names.members(owner, name)
        functions = [symbol for symbol in found.symbols if symbol.kind in FUNCTIONS]
        if functions:
            return self._chosen(functions, found, arguments, explicit, place, owner.const)
        if found.symbols:
            if found.symbols[0].kind in OBJECTS:
                return self._through(self._type_of_value(found, found.symbols[0]), arguments, place)
            return UNKNOWN
        return OUTSIDE if found.complete else UNKNOWN

    def _through(self, callee: Type | None, arguments: Arguments, place: Place) -> Meaning:
        """A call through a variable: of an object its class's ``operator()``, otherwise of nothing that has a name."""
        if callee is not None and callee.kind == "class" and not callee.pointers:
            return self._method(callee, "operator()", arguments, (), place)
        return OUTSIDE

    def _new(self, written: str, arguments: Arguments, explicit: Sequence[Hint], place: Place) -> Meaning:
        found = self._names.find(written, place.site, NAMEABLE_TYPES)
        if found.outside:
            return OUTSIDE
        if not found.symbols:
            return UNKNOWN
        return self._construct(self._names.type_of(found, self._explicit(explicit, place)), arguments)

    def _init(self, written: str, arguments: Arguments, place: Place) -> Meaning:
        """A constructor's initialiser: of a field, a base, or the class itself."""
        around = self._names.class_around(place.site)
        if "::" not in written and around is not None:
            for symbol in self._seen.at(around.qualified, written):
                if symbol.kind in OBJECTS:
                    made = self._names.declared_type(symbol) if symbol.type else None
                    return OUTSIDE if made is not None and made.category else self._construct(made, arguments)
        return self._new(written, arguments, (), place)

    def _construct(  # noqa: PLR0911 - one line a rule
        self, made: Type | None, arguments: Arguments
    ) -> Meaning:
        """The constructor that makes an object, or the class itself where it has none that is written."""
        if made is None:
            return UNKNOWN
        if made.pointers or made.kind != "class":
            return Meaning(outside=made.pointers > 0 or made.kind != "parameter", type=made)
        known = self._names.class_at(made.name)
        if known is None:
            return UNKNOWN
        value = made._replace(category="&&", const=False)
        constructors = [one for one in self._seen.at(made.name, known.name) if one.kind == CONSTRUCTOR]
        if not constructors:
            inherited = self._inherited(known, arguments, made)
            return Meaning(inherited or known, type=value)
        environment = self._names.environment(made)
        if (
            len(arguments) == 1
            and self._is_copy(arguments[0], made)
            and not self._copies(constructors, made, arguments)
        ):
            return Meaning(known, type=value)  # the compiler writes the constructor that takes it
        if self._inherits_from_outside(known):
            return Meaning(type=value)
        choice = self._overloads.choose([Candidate(one, environment) for one in constructors], Call(arguments))
        return Meaning(choice.best, type=value)

    def _is_copy(self, given: Type | None, made: Type) -> bool:
        if given is None or given.kind != "class" or given.pointers:
            return False
        return given.name == made.name or self._names.distance(given.name, made.name) > 0

    def _copies(self, constructors: Sequence[Known], made: Type, arguments: Arguments) -> bool:
        """Whether one of a class's constructors takes an object of the class itself, better than the compiler's do."""
        given = arguments[0]
        same = given is not None and given.name == made.name
        for one in constructors:
            if takes(one, 1) and one.parameters:
                first = self._overloads.parameters(one)[0]
                if first is not None and first.kind == "parameter":
                    if same and first.category != "&&" and not first.pointers:
                        continue  # of two that fit alike, the one that is no template is better
                    return True
                if first is None and same and made.name.rpartition("::")[2] not in one.parameters[0]:
                    continue
                if first is None or (first.name == made.name and not first.pointers):
                    return True
        return False

    def _inherits_from_outside(self, known: Known) -> bool:
        """Whether a class takes over the constructors of a base that the tree does not have."""
        return any(
            bool(self._seen.at(known.qualified, base.name.rpartition("::")[2]))
            for base in self._names.bases(known.qualified)
            if base is not None and base.kind == "outside"
        )

    def _inherited(self, known: Known, arguments: Arguments, made: Type) -> Known | None:
        """The constructor of a base, where a class has taken it over."""
        for base in self._names.bases(known.qualified):
            if base is None or base.kind != "class":
                continue
            last = base.name.rpartition("::")[2]
            if self._seen.at(made.name, last):  # using Base::Base
                constructors = [one for one in self._seen.at(base.name, last) if one.kind == CONSTRUCTOR]
                return self._overloads.choose([Candidate(one, {}) for one in constructors], Call(arguments)).best
        return None

    def _operator(self, written: str, left: Type | None, rest: list[Type | None], place: Place) -> Meaning:
        left, *rest = operands = tuple(None if _is_some_enum(operand) else operand for operand in (left, *rest))
        if not any(_of_the_tree(operand) for operand in operands):
            known = all(operand is not None for operand in operands)
            return Meaning(outside=known, type=self._builtin_result(written, left, rest))
        names = self._names
        best: list[tuple[Known, Type | None]] = []
        if left is not None and left.kind == "class" and not left.pointers:
            found = names.members(left, written)
            functions = [symbol for symbol in found.symbols if symbol.kind in FUNCTIONS]
            if functions:
                arguments = tuple(rest)
                meaning = self._chosen(functions, found, arguments, (), place, left.const)
                if meaning.symbol is None:
                    return meaning
                best.append((meaning.symbol, meaning.type))
        if written in ("operator=", "operator[]", "operator()", "operator->"):
            return Meaning(best[0][0], type=best[0][1]) if best else self._assignment(written, left)
        free = self._free_operator(written, operands, place)
        if best and free.symbol is None:
            return Meaning(best[0][0], type=best[0][1])
        if best:
            return UNKNOWN
        return free

    def _assignment(self, written: str, left: Type | None) -> Meaning:
        """An assignment that the compiler writes belongs to its class, as constructors that it writes do."""
        known = self._names.class_at(left.name) if left is not None and left.kind == "class" else None
        if written != "operator=" or left is None or left.pointers or known is None:
            return OUTSIDE
        return Meaning(known, type=left)

    def _free_operator(self, written: str, operands: tuple[Type | None, ...], place: Place) -> Meaning:
        names = self._names
        found = names.find(written, place.site, FUNCTIONS)
        functions = {one.id: one for one in (*found.symbols, *names.associated(written, operands))}
        candidates = [
            Candidate(one, {})
            for one in functions.values()
            if one.kind == SymbolKind.FUNCTION.value and self._wants(one, operands)
        ]
        if not candidates:  # what enums and numbers do among themselves is the language's
            plain = all(operand is not None and operand.kind != "class" for operand in operands)
            return OUTSIDE if plain else UNKNOWN
        choice = self._overloads.choose(candidates, Call(operands))
        return Meaning(choice.best, type=choice.result)

    def _wants(self, function: Known, operands: tuple[Type | None, ...]) -> bool:
        """Whether an operator is written for a class among the operands, and not for another one."""
        if len(function.parameters) != len(operands):
            return False
        exact = False
        for parameter, operand in zip(self._overloads.parameters(function), operands, strict=True):
            if parameter is None or operand is None or parameter.kind == "parameter":
                continue
            if (operand.pointers or operand.kind == "builtin") and _must_be_itself(parameter):
                return False
            if parameter.kind in ("class", "enum") and operand.kind in ("class", "enum"):
                if parameter.name != operand.name and self._names.distance(operand.name, parameter.name) < 0:
                    return False
                exact = True
        return exact

    @staticmethod
    def _builtin_result(written: str, left: Type | None, rest: list[Type | None]) -> Type | None:
        sign = written.removeprefix("operator")
        if sign in _TESTS or sign == "!":
            return Type("builtin", "bool")
        if left is not None and left.kind == "outside" and sign in ("+", "+=", "<<", ">>", "-", "="):
            return left._replace(const=False)
        if left is not None and (left.pointers or left.kind == "builtin"):
            other = rest[0] if rest else None
            if other is not None and other.pointers == left.pointers == 0 and other.kind == "builtin":
                return left if left.name == other.name else max(left, other, key=_width)._replace(category="")
            return left._replace(category="") if left.pointers else None
        return None

    def _nothing(self, written: str, found: Found, arguments: Arguments | None = None) -> Meaning:
        """An unqualified name that no scope in sight has: what other classes call so, it cannot mean."""
        if not found.complete:
            return UNKNOWN
        free = any(
            symbol.kind == SymbolKind.FUNCTION.value
            for symbols in self._seen.bucket(written).values()
            for symbol in symbols
        )
        if free and (arguments is None or None in arguments):
            return UNKNOWN
        return OUTSIDE if not free or arguments is not None else UNKNOWN

    def _library(self, written: str, arguments: Arguments, explicit: Sequence[Hint], place: Place) -> Meaning:
        name = written if "::" in written else place.site.declared.get(written, written)
        if not name.startswith("std::"):
            return OUTSIDE
        return Meaning(
            outside=True, type=library.returned(name, list(arguments), list(self._explicit(explicit, place)))
        )

    # Types of hints

    def _types(self, hints: Sequence[Hint], place: Place) -> Arguments:
        return tuple(SPREAD if _is_pack(hint) else self._type(hint, place) for hint in hints)

    def _explicit(self, written: Sequence[Hint], place: Place) -> tuple[Type | None, ...]:
        return tuple(self._names.type_named(text, place.site) if isinstance(text, str) else None for text in written)

    def _type(self, hint: Hint, place: Place) -> Type | None:
        """The type of an expression, as far as its hint and the tree show it."""
        if hint is None:
            return None
        if isinstance(hint, str):
            found = self._names.type_named(hint, place.site)
            if found is None or found.kind == "parameter":
                return None
            if found.kind in ("class", "outside") and not found.pointers and not found.category:
                return found._replace(category="&")  # nearly always a variable; a value would be a call
            return found._replace(category="&") if found.category == "&&" else found
        if self._depth >= _MAX_DEPTH or not isinstance(hint, list) or not hint:
            return None
        self._depth += 1
        found = self._type_of_expression(hint, place)
        self._depth -= 1
        return None if found is None or found.kind == "parameter" else found

    def _type_of_expression(  # noqa: C901, PLR0911, PLR0912 - one case a form of hint
        self, hint: list[Hint], place: Place
    ) -> Type | None:
        match hint:
            case ["lambda"]:
                return Type(LAMBDA, LAMBDA)
            case ["this"]:
                known = self._names.class_around(place.site)
                return Type("class", known.qualified, (), 1, bool(place.constant)) if known is not None else None
            case ["name", str(name)]:
                found = self._names.find(name, place.site, _NAMED)
                return self._type_of_value(found, found.symbols[0], place) if len(found.symbols) == 1 else None
            case ["call", str(name), *rest]:
                arguments, explicit = _two(rest)
                return _as_value(self._call(name, self._types(arguments, place), explicit, place).type)
            case ["new", str(name), *_]:
                return self._names.type_named(name, place.site)
            case ["method", target, str(name), *rest]:
                arguments, explicit = _two(rest)
                owner = self._type(target, place)
                return _as_value(self._method(owner, name, self._types(arguments, place), explicit, place).type)
            case ["member", target, str(name)]:
                return self._member(self._type(target, place), name)
            case ["*", inner]:
                return self._dereferenced(self._type(inner, place), place)
            case ["&", inner]:
                found_type = self._type(inner, place)
                return found_type._replace(pointers=found_type.pointers + 1, category="") if found_type else None
            case ["[]", inner, *index]:
                return self._subscripted(self._type(inner, place), [self._type(one, place) for one in index], place)
            case ["op", str(sign), left, *rest]:
                others = [self._type(one, place) for one in rest]
                return self._operator(f"operator{sign}", self._type(left, place), others, place).type
            case ["cond", one, other]:
                first, second = self._type(one, place), self._type(other, place)
                if first is None or second is None:
                    return first or second
                return first if first.name == second.name and first.pointers == second.pointers else None
            case ["element", inner]:
                return self._element(self._type(inner, place), place)
            case ["bind", inner, int(index)]:
                owner = self._type(inner, place)
                return library.part(owner, index) if owner is not None and owner.kind == "outside" else None
        return None

    def _type_of_value(self, found: Found, symbol: Known, place: Place | None = None) -> Type | None:
        """The type of a variable, field or enumerator that was found by name."""
        if symbol.kind not in OBJECTS:
            if symbol.kind == SymbolKind.ENUMERATOR.value:
                scope = symbol.scope
                return Type("enum", scope if any(s.kind == "enum" for s in self._at(scope)) else scope + SOME_ENUM)
            return None
        names = self._names
        result = names.declared_type(symbol) if symbol.type else None
        if result is not None and found.owner is not None:
            result = substitute(result, names.environment(found.owner))
        if result is None or result.kind == "parameter":
            return None
        if place is not None and place.constant and found.owner is not None and not result.pointers:
            result = result._replace(const=result.const or Trait.MUTABLE.value not in symbol.traits)
        return result if result.category else result._replace(category="&")

    def _at(self, qualified: str) -> tuple[Known, ...]:
        scope, _, name = qualified.rpartition("::")
        return self._seen.at(scope, name)

    def _member(self, owner: Type | None, name: str) -> Type | None:
        if owner is None or owner.pointers:
            return None
        if owner.kind == "outside":
            return library.member(owner, name)
        if owner.kind != "class":
            return None
        found = self._names.members(owner, name)
        if len(found.symbols) != 1:
            return None
        result = self._type_of_value(found, found.symbols[0])
        if result is not None and owner.const and not result.pointers:
            result = result._replace(const=True)
        return result

    def _dereferenced(self, owner: Type | None, place: Place) -> Type | None:
        if owner is None:
            return None
        if owner.pointers:
            return owner._replace(pointers=owner.pointers - 1, category="&")
        if owner.kind == "outside":
            return library.dereferenced(owner)
        if owner.kind != "class":
            return None
        meaning = self._method(owner, "operator*", (), (), place)
        if meaning.symbol is not None:
            return meaning.type
        through = self._method(owner, "operator->", (), (), place).type
        return self._dereferenced(through, place) if through is not None and through.pointers else None

    def _subscripted(self, owner: Type | None, index: list[Type | None], place: Place) -> Type | None:
        if owner is None:
            return None
        if owner.pointers:
            return owner._replace(pointers=owner.pointers - 1, category="&")
        if owner.kind == "outside":
            return library.subscripted(owner)
        return self._method(owner, "operator[]", tuple(index), (), place).type if owner.kind == "class" else None

    def _element(self, owner: Type | None, place: Place) -> Type | None:
        if owner is None:
            return None
        if owner.pointers:
            return owner._replace(pointers=owner.pointers - 1, category="&")
        if owner.kind == "outside":
            return library.element(owner)
        if owner.kind != "class":
            return None
        return self._dereferenced(self._method(owner, "begin", (), (), place).type, place)

    # Choosing without arguments

    def _one(self, symbols: Sequence[Known]) -> Known | None:
        """The one symbol there is, or the one that the file can see."""
        if len(symbols) > 1:
            symbols = [symbol for symbol in symbols if self._seen.sees(symbol)]
        return symbols[0] if len(symbols) == 1 else None

    def _one_type(self, symbols: Sequence[Known]) -> Known | None:
        if len(symbols) > 1:
            plain = [symbol for symbol in symbols if Trait.SPECIALIZATION.value not in symbol.traits]
            symbols = plain or symbols
            if len({symbol.qualified for symbol in symbols}) == 1:  # a type and its alias of one name: struct tags in C
                classes = [symbol for symbol in symbols if symbol.kind in CLASSES]
                symbols = classes[:1] if len(classes) == 1 else symbols
        return self._one(symbols)


def _operands(text: str) -> tuple[str, Hint, list[Hint], list[Hint]]:
    parts = json.loads(text)
    form, target, arguments, explicit = (*parts, None, None, None, None)[:4]
    return form or "call", target, arguments or [], explicit or []


def _must_be_itself(parameter: Type) -> bool:
    """Whether a parameter takes an object alone, and nothing converted into one."""
    return parameter.category == "&" and not parameter.const and not parameter.pointers and parameter.kind != "builtin"


def _is_some_enum(operand: Type | None) -> bool:
    return operand is not None and operand.kind == "enum" and operand.name.endswith(SOME_ENUM)


def _is_pack(hint: Hint) -> bool:
    return isinstance(hint, list) and hint[:1] == ["pack"]


def _two(rest: list[Hint]) -> tuple[list[Hint], list[Hint]]:
    first, second = (*rest, None, None)[:2]
    return first or [], second or []


def _as_value(found: Type | None) -> Type | None:
    """What a call yields, as an argument of another: a value where it is no reference."""
    if found is None or found.category or found.pointers or found.kind not in ("class", "outside"):
        return found
    return found._replace(category="&&")


def _of_the_tree(operand: Type | None) -> bool:
    return operand is not None and operand.kind in ("class", "enum") and not operand.pointers


def _width(operand: Type) -> int:
    order = ("bool", "char", "short", "int", "unsigned int", "long", "unsigned long", "long long", "float", "double")
    return order.index(operand.name) if operand.name in order else 0
