"""Which of several functions a call means: how many arguments each takes, then how well each argument fits.

The order is that of C++ ([over.match.best]) as far as written types show it. What is not known about an argument
neither speaks for nor against a function; where no single best is left, there is no answer.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from indexer.linking.names import Names
from indexer.linking.types import (
    ELLIPSIS,
    EXACT,
    INDISTINCT,
    QUALIFIED,
    UNFIT,
    Environment,
    Type,
    cost,
    deduce,
    read_type,
    substitute,
)
from indexer.linking.world import CLASSES, CONSTRUCTOR, Known
from indexer.model import SymbolKind, Trait

_MAX_CANDIDATES = 60  # more overloads of one name are compared by their number of arguments alone
_METHOD = SymbolKind.METHOD.value


SPREAD = Type("spread", "...")  # an argument that stands for any number of them


class Call(NamedTuple):
    """What a call shows."""

    arguments: tuple[Type | None, ...]
    explicit: tuple[Type | None, ...] = ()  # template arguments
    constant: bool | None = None  # whether the object is const; None where there is none or it is not known


class Candidate(NamedTuple):
    known: Known
    environment: Environment  # what the template parameters of its class stand for


class Choice(NamedTuple):
    best: Known | None
    result: Type | None  # what the call yields; also known where all that are left yield the same


class Overloads:
    """Chooses among candidates, for one file."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._parameters: dict[str, tuple[Type | None, ...]] = {}
        self._converting = False

    def choose(self, candidates: Sequence[Candidate], call: Call) -> Choice:
        """The function that is meant, if there is a unique best."""
        count = len(call.arguments)
        if SPREAD in call.arguments:
            fitting = [one for one in candidates if one.known.open_ended or len(one.known.parameters) >= count - 1]
        else:
            fitting = [one for one in candidates if takes(one.known, count)]
        if call.explicit and any(one.known.template_parameters for one in fitting):
            fitting = [one for one in fitting if one.known.template_parameters]
        if not fitting or (count and all(one.known.parameters == ("...",) for one in fitting)):
            return Choice(None, None)  # f(...) catches what no other takes, and another may stand outside the tree
        if len(fitting) > 1:
            fitting = self._best(fitting, call)
        if len(fitting) == 1:
            if Trait.DELETED.value in fitting[0].known.traits and len(candidates) > 1:
                return Choice(None, None)  # code that compiles calls no such function: another was meant
            return Choice(fitting[0].known, self.result(fitting[0], call))
        results = {self.result(one, call) for one in fitting}
        return Choice(None, results.pop() if len(results) == 1 else None)

    def result(self, candidate: Candidate, call: Call) -> Type | None:
        """What calling a function yields."""
        known = candidate.known
        found = self._names.declared_type(known) if known.type else None
        if found is None or (found.kind != "parameter" and not found.arguments):
            return found
        environment = dict(candidate.environment)
        if known.template_parameters:
            own: dict[str, Type | None] = dict(zip(known.template_parameters, call.explicit, strict=False))
            for parameter, argument in zip(self.parameters(known), call.arguments, strict=False):
                deduce(parameter, argument, own)
            environment.update(own)
        return substitute(found, environment)

    def parameters(self, known: Known) -> tuple[Type | None, ...]:
        """The types of the parameters; the last stands for all further ones of a function that is open-ended."""
        found = self._parameters.get(known.id)
        if found is None:
            names = self._names
            site = names.site_of(known)
            found = tuple(names.resolve(read_type(text), site) for text in known.parameters)
            self._parameters[known.id] = found
        return found

    def is_own(self, known: Known) -> bool:
        """Whether a function takes something of the tree, so that the library's function of its name is another."""
        return any(found is not None and found.kind in ("class", "enum") for found in self.parameters(known))

    def _best(self, candidates: list[Candidate], call: Call) -> list[Candidate]:
        """Those that no other beats."""
        if len(candidates) > _MAX_CANDIDATES:
            return candidates
        costs = [self._costs(one, call) for one in candidates]
        possible = [at for at, found in enumerate(costs) if UNFIT not in found]
        if not possible:
            return candidates
        if len(possible) > 1:
            possible = self._in_sight(possible, candidates)
        left = [at for at in possible if not any(_beats(costs[other], costs[at]) for other in possible if other != at)]
        if len(left) > 1:
            plain = [at for at in left if not _is_template(candidates[at].known)]
            if all(_equal(costs[at], costs[left[0]]) for at in left):
                left = plain or self._most_special(left, candidates)
        chosen = [candidates[at] for at in left]
        return chosen if len(chosen) < 2 else self._told_apart(chosen)

    def _in_sight(self, possible: list[int], candidates: list[Candidate]) -> list[int]:
        """Without the functions out of the file's sight, where others of their scope are in sight.

        So it is with the headers of several platforms, each of which declares the same names.
        """
        known = [candidates[at].known for at in possible]
        first = known[0]
        if first.kind == _METHOD or all(not set(first.paths).isdisjoint(one.paths) for one in known):
            return possible
        if any(one.scope != first.scope or len(one.parameters) != len(first.parameters) for one in known):
            return possible
        return [at for at in possible if self._names.seen.sees(candidates[at].known)] or possible

    def _most_special(self, left: list[int], candidates: list[Candidate]) -> list[int]:
        """Those templates that say most about their parameters, by how many are nothing but a template parameter."""
        bare = [
            sum(found is not None and found.kind == "parameter" for found in self.parameters(candidates[at].known))
            for at in left
        ]
        return [at for at, number in zip(left, bare, strict=True) if number == min(bare)]

    def _told_apart(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those that the file can see, and one of them where all are the same function."""
        if len({one.known.paths for one in candidates}) > 1:
            candidates = [one for one in candidates if self._names.seen.sees(one.known)] or candidates
        first = candidates[0].known
        same = not self._is_specialised(first.scope) and all(
            one.known.scope == first.scope
            and self._signature(one.known) == self._signature(first)
            and (Trait.CONST.value in one.known.traits) == (Trait.CONST.value in first.traits)
            for one in candidates
        )
        return candidates[:1] if same else candidates

    def _signature(self, known: Known) -> tuple[Type | str, ...]:
        types = self.parameters(known)
        return tuple(found or text for found, text in zip(types, known.parameters, strict=True))

    def _is_specialised(self, qualified: str) -> bool:
        """Whether members of a class may belong to one of several specialisations."""
        scope, _, name = qualified.rpartition("::")
        return sum(known.kind in CLASSES for known in self._names.seen.at(scope, name)) > 1

    def _costs(self, candidate: Candidate, call: Call) -> list[float | None]:
        known = candidate.known
        costs: list[float | None] = []
        if call.constant is not None and known.kind == _METHOD and Trait.STATIC.value not in known.traits:
            is_const = Trait.CONST.value in known.traits
            costs.append((EXACT if is_const else UNFIT) if call.constant else (QUALIFIED if is_const else EXACT))
        elif known.kind == _METHOD:
            costs.append(None)
        else:
            costs.append(EXACT)
        types = self.parameters(known)
        if candidate.environment:
            own = {name: Type("parameter", name) for name in known.template_parameters}
            environment: Mapping[str, Type | None] = {**candidate.environment, **own}
            types = tuple(substitute(found, environment) for found in types)
        names = self._names
        for at, argument in enumerate(call.arguments):
            if argument is SPREAD:
                costs += [None] * (len(call.arguments) - at)
                break
            if at < len(types) and not (known.open_ended and at >= len(types) - 1):
                costs.append(cost(argument, types[at], names.distance, self._converts))
            elif known.parameters[-1] == "...":
                costs.append(ELLIPSIS)
            else:
                costs.append(None if argument is None else EXACT)
        return costs

    def _converts(self, given: Type, wanted: Type) -> bool:
        """Whether a conversion that somebody wrote may lead from one type to another."""
        if wanted.kind == "outside":
            return not (wanted.name == "std::string" and given.kind in ("builtin", "enum") and not given.pointers)
        if given.kind == "outside" and wanted.kind == "builtin":
            return not given.name.startswith("std::") or given.name == "std::reference_wrapper"
        if given.kind == "class" and wanted.kind != "class":
            return True  # a conversion function may stand anywhere in its bases
        if wanted.kind != "class" or self._converting:
            return False
        self._converting = True  # one conversion of the user's at most
        single = [
            one
            for one in self._names.seen.at(wanted.name, wanted.name.rpartition("::")[2])
            if one.kind == CONSTRUCTOR and takes(one, 1) and Trait.EXPLICIT.value not in one.traits
        ]
        fits = any(
            one.open_ended
            or (found := cost(given, self.parameters(one)[0], self._names.distance, self._converts)) is None
            or found < UNFIT
            for one in single
        )
        self._converting = False
        return fits or (given.kind == "class" and bool(self._names.seen.at(given.name, f"operator {wanted.name}")))


def takes(known: Known, count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    if count < known.required:
        return False
    return known.open_ended or count <= len(known.parameters)


def _is_template(known: Known) -> bool:
    return bool(known.template_parameters)


def _beats(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    better = False
    for mine, theirs in zip(one, other, strict=True):
        if mine is None or theirs is None:
            continue
        if mine > theirs + INDISTINCT:
            return False
        better = better or mine < theirs - INDISTINCT
    return better


def _equal(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    return all(
        mine == theirs if mine is None or theirs is None else abs(mine - theirs) <= INDISTINCT
        for mine, theirs in zip(one, other, strict=True)
    )
