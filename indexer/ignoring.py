"""Whether the patterns of an ignore file mean an entry of a folder, as git reads them. Owns pathspec.

Patterns that look at a name alone are asked once for each name; only those with a slash in them look at paths. Where
ignore files stand, and which of several decides, it does not know.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from pathspec import GitIgnoreSpec
from pathspec.pattern import RegexPattern
from pathspec.patterns.gitignore import GitIgnorePatternError

_FOLDER_MARK = "ps_d"  # the group of pathspec's expressions that matches the slash behind a folder
_MARKED = f"(?P<{_FOLDER_MARK}>"
# A name, or a star and the end of one: what most patterns are. All others are read as pathspec reads them.
_PLAIN = re.compile(r"!?(\*?)([A-Za-z0-9_.+~@%=,-]{0,200})(/?)")
_KEPT_CHARS = 16 << 10  # of an ignore file; an expression takes a hundred times as much memory as its text
_KEPT_LINE = 200  # characters
_MOST_NAMES = 50_000  # of which the answer is kept, about 100 bytes each
_NEVER = -1  # stands before every pattern


class Patterns:
    """The patterns of one ignore file, or of several that stand in the same folder, in order. The last one decides."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Lines that say nothing, such as a lone ``!``, are passed over, as git does it."""
        self._includes: list[bool] = []
        self._names: dict[str, int] = {}  # by name, the last pattern that means whatever is called so
        self._folder_names: dict[str, int] = {}  # the same, of those that mean folders only
        self._endings: list[tuple[str, int, bool]] = []  # end of a name, pattern, whether it means folders only
        names: list[tuple[re.Pattern[str], int]] = []
        paths: list[tuple[re.Pattern[str], int]] = []
        for line in lines:
            found = _read(line) if len(line) <= _KEPT_LINE else _read.__wrapped__(line)
            if found is None:
                continue
            place = len(self._includes)
            self._includes.append(found[1])
            if (plain := _PLAIN.fullmatch(line)) and (plain[1] or plain[2]):
                if plain[1]:
                    self._endings.append((plain[2], place, bool(plain[3])))
                else:
                    (self._folder_names if plain[3] else self._names)[plain[2]] = place
            else:
                slashed = "/" in line.strip().rstrip("/")
                (paths if slashed else names).append((found[0], place))
        self._ends = tuple({ending for ending, _, _ in self._endings})
        self._of_names = _last_of(names)
        self._of_paths = _last_of(paths) if paths else None
        self._known: dict[tuple[str, bool], int] = {}

    def __bool__(self) -> bool:
        return bool(self._includes)

    def verdict(self, path: str, *, folder: bool) -> bool | None:
        """What the last pattern says that means this very entry: True to ignore it, None where none means it.

        ``path`` is relative to where the patterns stand. What is said of the folders above it was heeded on the way
        down, so ``!*/`` lets folders in and nothing that stands in them.
        """
        name = path.rpartition("/")[2]
        last = self._known.get((name, folder))
        if last is None:
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            last = self._known[name, folder] = self._by_name(name, folder)
        if self._of_paths is not None:
            last = max(last, self._of_paths(path, folder))
        return None if last == _NEVER else self._includes[last]

    def _by_name(self, name: str, folder: bool) -> int:
        last = max(self._names.get(name, _NEVER), self._of_names(name, folder))
        if folder:
            last = max(last, self._folder_names.get(name, _NEVER))
        if self._ends and name.endswith(self._ends):
            last = max(
                last,
                max(
                    (at for end, at, only in self._endings if (folder or not only) and name.endswith(end)),
                    default=_NEVER,
                ),
            )
        return last


def patterns_of(lines: tuple[str, ...]) -> Patterns:
    """Shared by all who read the same lines: most folders of a process are looked at many times."""
    return _kept(lines) if sum(map(len, lines)) <= _KEPT_CHARS else Patterns(lines)


@lru_cache(maxsize=128)
def _kept(lines: tuple[str, ...]) -> Patterns:
    return Patterns(lines)


class Selection:
    """Further patterns, relative to a root, that a person gave: they mean what stands beneath a folder too."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self._spec = GitIgnoreSpec.from_lines(line for line in lines if _read(line)) if lines else None

    def means(self, path: str) -> bool:
        """Whether they mean a file, or with a slash behind it a folder."""
        return self._spec is not None and self._spec.match_file(path)


@lru_cache(maxsize=64)
def selection_of(lines: tuple[str, ...]) -> Selection:
    return Selection(lines)


@lru_cache(maxsize=4_096)
def _read(line: str) -> tuple[re.Pattern[str], bool] | None:
    """A line's expression, and whether it ignores; None of a line that says nothing."""
    try:
        pattern = next(iter(GitIgnoreSpec.from_lines((line,)).patterns), None)
    except GitIgnorePatternError:
        return None
    if not isinstance(pattern, RegexPattern) or pattern.include is None or pattern.regex is None:
        return None
    return pattern.regex, pattern.include


def _last_of(expressions: Sequence[tuple[re.Pattern[str], int]]) -> Callable[[str, bool], int]:
    """Finds the last of some patterns that means an entry. All are tried together first: most entries match none."""
    if not expressions:
        return lambda _path, _folder: _NEVER
    sources = [expression.pattern.replace(_MARKED, "(?:") for expression, _ in expressions]
    together = re.compile("|".join(f"(?:{source})" for source in sources))
    # From the beginning only, where all of them ask for it: otherwise each place of the path would be tried.
    tried = together.match if all(source.startswith("^") for source in sources) else together.search
    backwards = list(reversed(expressions))

    def last(path: str, folder: bool) -> int:
        if not tried(path) and not (folder and tried(path + "/")):
            return _NEVER
        return next((place for expression, place in backwards if _means(expression, path, folder)), _NEVER)

    return last


def _means(expression: re.Pattern[str], path: str, folder: bool) -> bool:
    """Whether an expression of pathspec's matches an entry itself: its name, or the slash behind it."""
    if any(match.groupdict().get(_FOLDER_MARK) is None for match in expression.finditer(path)):
        return True
    return folder and any(
        len(path) < match.end() and match.groupdict().get(_FOLDER_MARK) for match in expression.finditer(path + "/")
    )
