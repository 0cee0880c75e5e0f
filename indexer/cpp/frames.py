"""What a stretch of a file means for the declarations that stand in it: names, keys, access, template parameters.

Frames are made from the frame around them. Nothing here knows syntax or text.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from indexer.model import Access, SymbolId

MAX_SCOPE = 1000  # characters; names in a file of nothing but opening braces would grow with its square
_WORD = re.compile(r"[A-Za-z_]\w*")

Levels = tuple[tuple[str, ...], ...]  # the parameter names of templates, the outermost template first


class Frame(NamedTuple):
    """A stretch of a file. ``*_key`` is what ids are made of.

    A key holds the arguments of specialisations, a number for each template parameter, and the path where linkage is
    internal.
    """

    end: int  # byte offset, exclusive
    kind: str = "namespace"  # or "class", "friend", "function" or "ignored"
    scope: str = ""
    scope_key: str = ""
    lookup: str = ""  # as scope, of namespaces and classes alone: without the functions
    namespace: str = ""  # the scope of the innermost namespace, where friends live
    namespace_key: str = ""
    class_name: str = ""
    inside: SymbolId | None = None
    own: frozenset[str] = frozenset()  # template parameters in sight
    levels: Levels = ()  # the same by template
    places: Mapping[str, str] = {}  # the same, each with its number
    access: Access | None = None  # of the members declared here
    anonymous: bool = False
    exported: bool = False
    # Of the templates whose declaration has not come yet: where the outermost starts, and their parameters.
    template_start: int | None = None
    heads: Levels = ()

    def namespaced(self, name: str, path: str, *, inline: bool) -> "Frame":
        """The frame of a namespace in this one: one without a name is this file's alone, an inline one has no trace."""
        scope = self.scope if inline else join(self.scope, name)
        key = self.scope_key if inline else join(self.scope_key, name)
        unnamed = not name and not inline  # an inline one without a name got its name from a macro
        if unnamed:
            key = internal(path, key)
        return self._replace(
            kind="namespace",
            scope=scope,
            scope_key=key,
            lookup=scope,
            namespace=scope,
            namespace_key=key,
            access=None,
            anonymous=self.anonymous or unnamed,
        )

    def befriended(self, start: int) -> "Frame":
        """The frame of what a class declares as its friend: a template among them counts as outside of the class."""
        return self._replace(
            kind="friend",
            scope=self.namespace,
            scope_key=self.namespace_key,
            access=None,
            template_start=start if self.template_start is None else self.template_start,
            places=_places(self.heads) if any(self.heads) else self.places,
        )

    def templated(self, names: tuple[str, ...], start: int) -> "Frame":
        """The frame between ``template<...>`` and the end of what it declares."""
        levels = (*self.levels, names) if names else self.levels
        return self._replace(
            own=self.own | {name.removesuffix("...") for name in names},
            levels=levels,
            places=_places(levels),
            template_start=start if self.template_start is None else self.template_start,
            heads=(*self.heads, names),
        )

    def key(self, name: str) -> str:
        """The key of a name that is written here, with its template arguments."""
        return join(self.scope_key, self.placed(name) if "<" in name else name)

    def placed(self, written: str) -> str:
        """A type whose template parameters are numbers: their names differ between declaration and definition."""
        places = self.places
        return _WORD.sub(lambda word: places.get(word[0], word[0]), written) if places else written


def _places(levels: Levels) -> dict[str, str]:
    return {
        name.removesuffix("..."): f"${depth}.{index}"
        for depth, names in enumerate(levels)
        for index, name in enumerate(names)
    }


def internal(path: str, key: str) -> str:
    """The key of what only one file can see."""
    return key if "\n" in key else f"{path}\n{key}"


def join(scope: str, name: str) -> str:
    if len(scope) > MAX_SCOPE:
        return scope
    return f"{scope}::{name}" if scope and name else scope or name
