"""What a name means: C++'s look-up through scopes, base classes, using-declarations and argument types, as far as the
symbols of the tree show it.

It answers with symbols and types; which of several functions a call means is left to ``overloads``. Answers are kept
for one file, because that is how far they are sure to be the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from indexer.linking import library
from indexer.linking.types import (
    STANDARD_BUILTINS,
    Environment,
    Type,
    Written,
    builtin,
    read_type,
    substitute,
)
from indexer.linking.world import (
    ALIAS,
    CLASSES,
    CONSTRUCTOR,
    ENUM,
    FUNCTIONS,
    NAMESPACE,
    TYPES,
    USING,
    Known,
    Seen,
    enclosing,
)
from indexer.model import SymbolKind, Trait

_MAX_DEPTH = 24  # aliases of aliases, bases of bases; beyond it nothing is known
_SCOPES = TYPES | {NAMESPACE, USING}
NAMEABLE_TYPES = TYPES | {SymbolKind.CONCEPT.value}


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Where a name is looked up from. One object for one place, so that it can be compared by identity."""

    scope: str
    directives: tuple[str, ...]  # namespaces of using-directives, as written
    declared: Mapping[str, str]  # block-scope using-declarations: last name -> as written
    aliases: Mapping[str, str]  # block-scope aliases
    own: frozenset[str]  # template parameters in sight


class Found(NamedTuple):
    symbols: tuple[Known, ...]
    owner: Type | None = None  # the class they are members of
    complete: bool = True  # False where a base class that is not known may have hidden the name
    outside: bool = False  # declared to come from outside the tree
    mixed: bool = False  # a using-declaration brings more of the name from outside the tree


class Scope(NamedTuple):
    """What stands before ``::``."""

    kind: str  # "namespace", "class", "enum" or "outside"
    name: str
    type: Type | None = None


NOTHING = Found(())


class Names:
    """Looks names up for one file."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self._depth = 0
        self._sites: dict[tuple[str, tuple[str, ...], frozenset[str]], Site] = {}
        self._directives: dict[Site, tuple[str, ...]] = {}
        self._classes: dict[str, Known | None] = {}
        self._bases: dict[str, tuple[Type | None, ...]] = {}
        self._distances: dict[tuple[str, str], int] = {}
        self._found: dict[tuple[str, Site, frozenset[str]], Found] = {}
        self._members: dict[tuple[str, tuple[Type | None, ...], str], Found] = {}
        self._scopes: dict[tuple[str, Site], Scope | None] = {}
        self._types: dict[tuple[Written, Site], Type | None] = {}
        self._sites_of: dict[str, Site] = {}

    # Sites

    def site(self, scope: str, usings: tuple[str, ...] = (), own: frozenset[str] = frozenset()) -> Site:
        key = (scope, usings, own)
        found = self._sites.get(key)
        if found is None:
            directives, declared, aliases = [], {}, {}
            for using in usings:
                if using.startswith("namespace "):
                    directives.append(using.removeprefix("namespace ").removeprefix("::"))
                elif "=" in using:
                    name, _, target = using.partition("=")
                    aliases[name] = target
                else:
                    declared[using.rpartition("::")[2]] = using
            found = self._sites[key] = Site(scope, tuple(directives), declared, aliases, own)
        return found

    def site_of(self, known: Known) -> Site:
        """Where the types in a symbol's declaration are looked up from."""
        found = self._sites_of.get(known.id)
        if found is None:
            own = frozenset(name.removesuffix("...") for name in known.template_parameters)
            found = self._sites_of[known.id] = self.site(known.scope, (), own)
        return found

    def _namespaces(self, site: Site) -> tuple[str, ...]:
        """The namespaces of the using-directives in sight that the tree has."""
        found = self._directives.get(site)
        if found is None:
            self._directives[site] = ()  # a directive is looked up without the directives
            scopes = (self.scope_of(name, site) for name in site.directives)
            found = tuple(scope.name for scope in scopes if scope is not None and scope.kind == "namespace")
            self._directives[site] = found
        return found

    # Classes

    def class_at(self, qualified: str) -> Known | None:
        """The class of a qualified name, the template itself rather than a specialisation."""
        if qualified in self._classes:
            return self._classes[qualified]
        scope, _, name = qualified.rpartition("::")
        found: Known | None = None
        for known in self.seen.at(scope, name):
            if known.kind in CLASSES and (found is None or Trait.SPECIALIZATION.value in found.traits):
                found = known
        self._classes[qualified] = found
        return found

    def class_around(self, site: Site) -> Known | None:
        """The innermost class around a place."""
        for scope in enclosing(site.scope):
            known = self.class_at(scope) if scope else None
            if known is not None:
                return known
        return None

    def bases(self, qualified: str) -> tuple[Type | None, ...]:
        """The types of a class's bases, in its own template parameters; None for one that cannot be told."""
        found = self._bases.get(qualified)
        if found is None:
            self._bases[qualified] = ()  # a class that derives from itself ends here
            known = self.class_at(qualified)
            found = ()
            if known is not None:
                site = self.site_of(known)
                types = (self.resolve(read_type(base), site) for base in known.bases)
                found = tuple(
                    base if base is not None and base.kind in ("class", "outside") and base.name != qualified else None
                    for base in types
                )
            self._bases[qualified] = found
        return found

    def distance(self, derived: str, base: str) -> int:
        """Steps from a class up to one of its bases; -1 where it is none."""
        key = (derived, base)
        found = self._distances.get(key)
        if found is None:
            found, steps = -1, 0
            level, seen = [derived], {derived}
            while level and found < 0 and steps <= _MAX_DEPTH:
                if base in level:
                    found = steps
                steps += 1
                names = [t.name for one in level for t in self.bases(one) if t is not None]
                level = [name for name in dict.fromkeys(names) if name not in seen]
                seen.update(level)
            self._distances[key] = found
        return found

    def environment(self, owner: Type) -> Environment:
        """What the template parameters of a class stand for in one of its types."""
        known = self.class_at(owner.name) if owner.arguments else None
        return dict(zip(known.template_parameters, owner.arguments, strict=False)) if known is not None else {}

    def members(self, owner: Type, name: str) -> Found:
        """The members of a name in the nearest class of a hierarchy that has one."""
        key = (owner.name, owner.arguments, name)
        found = self._members.get(key)
        if found is None:
            found = self._members[key] = self._search(owner, name, {owner.name})
        return found

    def _search(self, owner: Type, name: str, visited: set[str]) -> Found:
        own = tuple(
            known
            for known in self.seen.at(owner.name, name)
            if known.kind != CONSTRUCTOR and (known.kind != USING or known.type)
        )
        if own:
            own, mixed = self._with_used(own)
            return Found(own, owner, mixed=mixed)
        if self.class_at(owner.name) is None:
            return Found((), None, complete=False)
        environment: Environment | None = None
        complete = True
        for base in self.bases(owner.name):
            if base is None:
                complete = False
                continue
            if base.kind != "class":
                complete = False
                continue
            if base.name in visited:
                continue
            visited.add(base.name)
            if base.arguments:
                environment = self.environment(owner) if environment is None else environment
                base = substitute(base, environment) or base  # noqa: PLW2901 - the base as this class has it
            found = self._search(base, name, visited)
            if found.symbols:
                return found if complete else found._replace(complete=False)
            complete = complete and found.complete
        return Found((), None, complete=complete)

    def _with_used(self, symbols: tuple[Known, ...]) -> tuple[tuple[Known, ...], bool]:
        """The symbols, with what using-declarations among them bring in put in their place.

        And whether something from outside the tree is brought in beside them.
        """
        if not any(known.kind == USING for known in symbols):
            return symbols, False
        result: dict[str, Known] = {}
        mixed = False
        for known in symbols:
            if known.kind != USING:
                result[known.id] = known
                continue
            if self._depth >= _MAX_DEPTH:
                continue
            self._depth += 1
            found = self.qualified(known.type, self.site(known.scope))
            mixed = mixed or found.outside or found.mixed
            for used in found.symbols:
                if used.kind != USING:
                    result.setdefault(used.id, used)
            self._depth -= 1
        return tuple(result.values()), mixed

    # Names

    def find(self, name: str, site: Site, kinds: frozenset[str]) -> Found:
        """What a name means, qualified or not: the symbols of these kinds in the innermost scope that has any."""
        if "::" in name:
            found = self.qualified(name, site)
            return found._replace(symbols=tuple(known for known in found.symbols if known.kind in kinds))
        key = (name, site, kinds)
        known = self._found.get(key)
        if known is None:
            known = self._found[key] = self._unqualified(name, site, kinds)
        return known

    def _unqualified(  # noqa: C901 - one scope after the other, from the inside out
        self, name: str, site: Site, kinds: frozenset[str]
    ) -> Found:
        if name in site.declared:
            found = self.qualified(site.declared[name], site)
            kept = tuple(known for known in found.symbols if known.kind in kinds)
            return found._replace(symbols=kept)
        bucket = self.seen.bucket(name)
        if not bucket:
            return NOTHING
        namespaces = self._namespaces(site) if site.directives else ()
        complete = True
        for scope in enclosing(site.scope):
            if scope and self.class_at(scope) is not None:
                found = self.members(Type("class", scope), name)
                kept = tuple(known for known in found.symbols if known.kind in kinds)
                if kept:
                    return Found(kept, found.owner, complete, mixed=found.mixed)
                complete = complete and found.complete
                continue
            symbols = bucket.get(scope, ())
            for namespace in namespaces:
                if namespace != scope and _meet(namespace, scope, site.scope):
                    symbols += bucket.get(namespace, ())
            if symbols:
                used = any(known.kind == USING for known in symbols)
                symbols, mixed = self._with_used(symbols)
                kept = tuple(known for known in symbols if known.kind in kinds)
                if kept:
                    return Found(kept, None, complete, mixed=mixed)
                if used and not symbols:  # using std::swap
                    return Found((), None, complete, outside=True)
        return Found((), None, complete)

    def qualified(self, name: str, site: Site) -> Found:
        """What a qualified name means."""
        qualifier, _, last = split_name(name)
        scope = self.scope_of(qualifier, site)
        if scope is None:
            return Found((), None, complete=False)
        return self.inside(scope, last)

    def inside(self, scope: Scope, name: str) -> Found:
        """What a scope holds of a name."""
        if scope.kind == "outside":
            return Found((), None, outside=True)
        if scope.type is not None and scope.kind == "class":
            found = self.members(scope.type, name)
            if not found.symbols and name == scope.name.rpartition("::")[2]:
                known = self.class_at(scope.name)
                return Found(() if known is None else (known,), scope.type)
            return found
        symbols, mixed = self._with_used(self.seen.at(scope.name, name))
        outside = not symbols and (scope.name == "std" or mixed)
        return Found(symbols, None, complete=bool(symbols), outside=outside, mixed=mixed)

    def associated(self, name: str, types: Iterable[Type | None]) -> tuple[Known, ...]:
        """The functions of a name in the namespaces of the arguments' types."""
        bucket = self.seen.bucket(name)
        if not bucket:
            return ()
        namespaces: dict[str, None] = {}
        for argument in types:
            if argument is not None:
                for one in (argument, *argument.arguments):
                    if one is not None and one.kind in ("class", "enum"):
                        self._add_namespaces(one.name, namespaces)
        found = [known for namespace in namespaces for known in bucket.get(namespace, ())]
        return tuple(known for known in found if known.kind in FUNCTIONS)

    def _add_namespaces(self, qualified: str, into: dict[str, None]) -> None:
        for name in (qualified, *(base.name for base in self.bases(qualified) if base is not None)):
            scope = name.rpartition("::")[0]
            while scope and self.class_at(scope) is not None:
                scope = scope.rpartition("::")[0]
            into[scope] = None

    # Scopes

    def scope_of(self, qualifier: str, site: Site) -> Scope | None:
        """What a qualifier as written names; None where that cannot be told."""
        key = (qualifier, site)
        if key in self._scopes:
            return self._scopes[key]
        self._scopes[key] = None  # what names itself ends here
        found = self._scope_of(qualifier, site) if self._depth < _MAX_DEPTH else None
        self._scopes[key] = found
        return found

    def _scope_of(self, qualifier: str, site: Site) -> Scope | None:
        parts = qualifier.split("::")
        current = self._first(parts[0], site) if parts[0] else Scope("namespace", "")
        for part in parts[1:]:
            if current is None or not part:
                return current
            current = self._into(current, part)
        return current

    def _first(self, name: str, site: Site) -> Scope | None:
        if name in site.own:
            return None
        if name in site.aliases:
            return _as_scope(self.resolve(read_type(site.aliases[name]), site))
        found = self.find(name, site, _SCOPES)
        for known in found.symbols:
            scope = self._entered(known)
            if scope is not None:
                return scope
        if found.symbols or self._is_class_parameter(name, site):
            return None
        bucket = self.seen.bucket(name)
        if any(known.kind in _SCOPES for symbols in bucket.values() for known in symbols):
            return None
        return Scope("outside", name)

    def _into(self, scope: Scope, name: str) -> Scope | None:
        if scope.kind == "outside":
            return Scope("outside", f"{scope.name}::{name}")
        found = self.inside(scope, name)
        for known in found.symbols:
            entered = self._entered(known) if known.kind in _SCOPES else None
            if entered is not None:
                return entered
        return Scope("outside", f"std::{name}") if found.outside else None

    def _entered(self, known: Known) -> Scope | None:
        if known.kind == NAMESPACE:  # what stands in an inline one is found in the one around it
            return Scope("namespace", known.scope if Trait.INLINE.value in known.traits else known.qualified)
        if known.kind in CLASSES:
            return Scope("class", known.qualified, Type("class", known.qualified))
        if known.kind == ENUM:
            return Scope("enum", known.qualified)
        if known.kind == ALIAS and self._depth < _MAX_DEPTH:
            self._depth += 1
            scopes = {self._aliased(read_type(written), known) for written in self.seen.types(known)}
            self._depth -= 1
            return scopes.pop() if len(scopes) == 1 else None
        return None

    def _aliased(self, written: Written, alias: Known) -> Scope | None:
        """The namespace or type that one declaration of an alias names."""
        site = self.site(alias.scope)
        scope = self.scope_of(written.name, site) if not written.arguments and written.name else None
        if scope is None or scope.kind != "namespace":
            scope = _as_scope(self.resolve(written, self.site_of(alias)))
        return scope

    def _is_class_parameter(self, name: str, site: Site) -> bool:
        """Whether a name is a template parameter of a class around the site."""
        for scope in enclosing(site.scope):
            known = self.class_at(scope) if scope else None
            if known is not None and name in known.template_parameters:
                return True
        return False

    # Types

    def type_named(self, spelling: str, site: Site) -> Type | None:
        """The type that a spelling stands for at a place."""
        return self.resolve(read_type(spelling), site)

    def resolve(self, written: Written, site: Site) -> Type | None:
        if not written.name or written.pack:
            return None
        key = (written, site)
        if key in self._types:
            return self._types[key]
        self._types[key] = None  # an alias of itself ends here
        if self._depth < _MAX_DEPTH:
            self._depth += 1
            found = self._resolved(written, site)
            self._depth -= 1
            if found is not None:
                found = _decorated(found, written)
            self._types[key] = found
            return found
        return None

    def _resolved(  # noqa: C901, PLR0911 - one line a rule
        self, written: Written, site: Site
    ) -> Type | None:
        name = written.name.removeprefix("::")
        plain = builtin(name) if "::" not in name or name in STANDARD_BUILTINS else ""
        if plain:
            return Type("builtin", plain)
        if name in ("auto", "decltype"):
            return None
        if name in site.own:
            return Type("parameter", name)
        if name in site.aliases:
            return self.resolve(read_type(site.aliases[name]), site)
        arguments = tuple(self.resolve(argument, site) for argument in written.arguments)
        qualifier, separator, last = split_name(name)
        if not separator:
            if self._is_class_parameter(name, site):
                return Type("parameter", name)
            found = self.find(name, site, NAMEABLE_TYPES)
            if not found.symbols:
                return self._unknown(name, site, found, arguments)
            return self.type_of(found, arguments)
        scope = self.scope_of(qualifier, site)
        if scope is None:
            return None
        outer = tuple(self.resolve(argument, site) for argument in written.outer)
        if scope.kind == "outside":
            outer = outer or (scope.type.arguments if scope.type is not None else ())
            if outer:
                return library.nested(scope.name, outer, last)
            return Type("outside", f"{scope.name}::{last}", arguments)
        if scope.kind == "class" and scope.type is not None and outer:
            scope = scope._replace(type=scope.type._replace(arguments=outer))
        found = self.inside(scope, last)
        if found.outside:
            return Type("outside", f"std::{last}", arguments)
        return self.type_of(found, arguments)

    def _unknown(self, name: str, site: Site, found: Found, arguments: tuple[Type | None, ...]) -> Type | None:
        """A type that the tree does not declare where it is used."""
        if found.outside:
            return Type("outside", site.declared.get(name, f"std::{name}"), arguments)
        standard = f"std::{name}"
        if standard in library.KNOWN_TYPES and ("std" in site.directives or not self.seen.bucket(name)):
            return Type("outside", standard, arguments)
        return None if self.seen.bucket(name) or not found.complete else Type("outside", name, arguments)

    def declared_type(self, known: Known) -> Type | None:
        """What a symbol is declared to be, hold or return; None too where its declarations disagree."""
        site = self.site_of(known)
        types = {self.resolve(read_type(written), site) for written in self.seen.types(known)}
        return types.pop() if len(types) == 1 else None

    def type_of(self, found: Found, arguments: tuple[Type | None, ...] = ()) -> Type | None:
        """The type that type symbols mean: a class, an enum, or what an alias stands for."""
        for known in found.symbols:
            if known.kind in CLASSES:
                return Type("class", known.qualified, arguments)
            if known.kind == ENUM:
                return Type("enum", known.qualified)
            if known.kind == ALIAS and known.type:
                aliases = [one for one in found.symbols if one.kind == ALIAS]
                target = self.declared_type(known)
                if any(self.declared_type(one) != target for one in aliases):  # those of a template's specialisations
                    return None
                environment: dict[str, Type | None] = {}
                if found.owner is not None:
                    environment.update(self.environment(found.owner))
                environment.update(zip(known.template_parameters, arguments, strict=False))
                return substitute(target, environment) if environment else target
        return None


def _decorated(found: Type, written: Written) -> Type:
    """The type behind a name with the pointers, const and reference written around the name."""
    if not (written.pointers or written.const or written.category):
        return found
    return found._replace(
        pointers=found.pointers + written.pointers,
        const=found.const or written.const,
        category=written.category or found.category,
    )


def _as_scope(found: Type | None) -> Scope | None:
    if found is None or found.pointers:
        return None
    return Scope(found.kind, found.name, found) if found.kind in ("class", "enum", "outside") else None


def split_name(name: str) -> tuple[str, str, str]:
    """The qualifier and the last name; a leading ``::`` leaves an empty qualifier."""
    head, found, operator = name.partition("operator")
    if found and (not head or head.endswith("::")) and not operator[:1].isalnum() and operator[:1] != "_":
        return head.removesuffix("::"), "::" if head else "", found + operator
    return name.rpartition("::")


def _meet(namespace: str, scope: str, used_from: str) -> bool:
    """Whether the names of a nominated namespace appear in this scope, the nearest around both it and the use."""
    if not _encloses(scope, namespace):
        return False
    inner = [around for around in enclosing(used_from) if len(around) > len(scope)]
    return not any(_encloses(around, namespace) for around in inner)


def _encloses(scope: str, inner: str) -> bool:
    return not scope or inner == scope or inner.startswith(f"{scope}::")
