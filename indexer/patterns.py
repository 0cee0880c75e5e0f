"""Regular expressions that are compiled when they are first used: most commands use few of those that they import."""

import re
from typing import Any, cast


class _Later:
    """Stands for a pattern. Its first use compiles it and puts the pattern's own members here, found without detour."""

    def __init__(self, expression: str, flags: int) -> None:
        self.pattern = expression
        self._asked = flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copying and pickling look for, which a pattern has in ways of its own
            raise AttributeError(name)
        compiled = re.compile(self.pattern, self._asked)
        for member in _MEMBERS:
            self.__dict__[member] = getattr(compiled, member)
        return self.__dict__[name]


_MEMBERS = tuple(name for name in dir(re.compile("")) if not name.startswith("_"))


def later(expression: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern of an expression, compiled at its first use, which raises re.error if it is none."""
    return cast(re.Pattern[str], _Later(expression, flags))
