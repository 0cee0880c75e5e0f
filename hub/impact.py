"""What a change reaches: a diff read into changed lines, these into changed symbols, and those followed to whatever
calls, derives from, overrides, names, includes or tests them. A diff is untrusted text: no file is opened for it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hub.errors import ChangeError
from indexer.index import Effect, Index, Step
from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolId, SymbolKind

MOST_DIFF_CHARS = 16 << 20  # a change of 400,000 lines
MOST_REMOVED_NAMES = 500  # names of removed declarations that are looked for
GROUPS = ("callers", "users", "derived", "overrides", "included by", "left behind")

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_QUOTED = re.compile(r"\\([0-7]{1,3}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_NOWHERE = "/dev/null"
# A declaration, as far as one removed line shows it: a keyword and a name, or a type, a name and a parenthesis.
_TYPE_REMOVED = re.compile(
    r"^\s*(?:template\s*<[^;{}]{0,200}>\s*)?(?:(?:enum\s+)?(?:class|struct)|enum|union|concept|using|#\s*define)\s+(\w+)"
)
_FUNCTION_REMOVED = re.compile(r"^\s*(?P<before>[\w:<>,*&\s~]{1,200}?[\s*&])(?:\w+::){0,9}(?P<name>\w+)\s*\(")
_STATEMENTS = frozenset("return else throw new delete case goto co_return co_await co_yield typedef using".split())
_USED = (ReferenceKind.CALL, ReferenceKind.MACRO, ReferenceKind.TYPE, ReferenceKind.BASE, ReferenceKind.NAME)
_LAYOUT = frozenset({SymbolKind.FIELD, SymbolKind.ENUMERATOR})  # a change of these is one of what holds them
_NOT_CHANGED = frozenset({SymbolKind.NAMESPACE, SymbolKind.SECTION, SymbolKind.MODULE})
_TEST_PATH = re.compile(
    r"(?:^|/)(?:tests?|testing|unittests?|gtest)/|(?:^|/)test_[^/]*$|(?:^|[_\-./])(?:unit)?tests?\.\w+$|[a-z]Test\.\w+$"
)
_TEST_MACRO = re.compile(r"(?:TYPED_)?TEST(?:_F|_P|_CASE|_CASE_METHOD)?\s*\(|SCENARIO\s*\(|BOOST_\w*TEST_CASE\w*\s*\(")


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a diff says of one file. Lines are those of the new text."""

    path: str  # as written in the diff, without its prefix
    written: str  # with it
    removed: bool = False
    lines: tuple[tuple[int, int], ...] = ()  # added or changed, first and last
    gaps: tuple[int, ...] = ()  # lines after which something was cut out
    cut: tuple[str, ...] = ()  # the lines that are gone


@dataclass(frozen=True, slots=True)
class Reached:
    """A symbol or file that a change reaches, by the shortest way to it."""

    group: str
    name: str  # qualified, or the path of a file
    id: SymbolId | None
    path: str
    line: int
    reason: str
    how: Provenance
    depth: int
    via: tuple[str, ...]
    places: int  # at which it is reached at this depth
    is_test: bool


@dataclass(frozen=True, slots=True)
class Impact:
    """``changed`` is what was asked about, ``reached`` what depends on it, by group and distance."""

    changed: tuple[Symbol, ...]
    files: tuple[str, ...]
    reached: tuple[Reached, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    """One file of a diff while it is read."""

    old: str = ""
    new: str = ""
    headed: bool = False  # by both of its paths
    lines: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    old_left: int = 0  # lines of the hunk that are still to come
    new_left: int = 0
    position: int = 0  # in the new text

    def take(self, line: str) -> None:
        """The next line, of a hunk while one lasts."""
        if self.old_left > 0 or self.new_left > 0:
            self._take_inner(line)
        elif hunk := _HUNK.match(line):
            self.old_left = int(hunk[2] or 1)
            self.new_left = int(hunk[4] or 1)
            self.position = int(hunk[3]) + (self.new_left == 0)
        elif line.startswith("--- "):
            self.old = _path_of(line[4:])
        elif line.startswith("+++ "):
            self.new, self.headed = _path_of(line[4:]), True
        elif line.startswith("rename from "):
            self.old = "a/" + _path_of(line[12:])
        elif line.startswith("rename to "):
            self.new = "b/" + _path_of(line[10:])

    def ends_before(self, line: str) -> bool:
        """Whether a line begins the next file."""
        if self.old_left > 0 or self.new_left > 0:
            return False
        return line.startswith("diff ") or (self.headed and line.startswith("--- "))

    def changes(self) -> Iterator[FileChange]:
        bare = self.old == self.new  # written without the letters before the paths
        new = self.new if bare else _unprefixed(self.new)
        old = self.old if bare else _unprefixed(self.old)
        if self.new not in ("", _NOWHERE):
            kept = tuple(self.cut) if old == new else ()
            edges = {first - 1 for first, _ in self.lines} | {last for _, last in self.lines}
            gaps = tuple(gap for gap in self.gaps if gap not in edges)  # the others are lines put in place of others
            yield FileChange(new, self.new, lines=tuple(self.lines), gaps=gaps, cut=kept)
        if self.old not in ("", _NOWHERE) and old != new:
            yield FileChange(old, self.old, removed=True, cut=tuple(self.cut))

    def _take_inner(self, line: str) -> None:
        sign = line[:1]
        if sign == "+":
            if self.lines and self.lines[-1][1] == self.position - 1:
                self.lines[-1] = (self.lines[-1][0], self.position)
            else:
                self.lines.append((self.position, self.position))
            self.position += 1
            self.new_left -= 1
        elif sign == "-":
            self.cut.append(line[1:])
            if not self.gaps or self.gaps[-1] != self.position - 1:
                self.gaps.append(self.position - 1)
            self.old_left -= 1
        elif sign != "\\":
            self.position += 1
            self.old_left -= 1
            self.new_left -= 1


def changes_of(diff: str) -> tuple[FileChange, ...]:
    """The files of a unified diff, by path. Text that is no diff holds none. Raises ChangeError for one too large."""
    if len(diff) > MOST_DIFF_CHARS:
        raise ChangeError(
            f"The diff has {len(diff) >> 20} million characters; {MOST_DIFF_CHARS >> 20} million are the most.",
            "Ask about a part of it, such as one folder.",
        )
    found: list[FileChange] = []
    reading = _Reading()
    for line in diff.split("\n"):
        if reading.ends_before(line):
            found += reading.changes()
            reading = _Reading()
        reading.take(line)
    found += reading.changes()
    return tuple(sorted(found, key=lambda change: (change.path, change.removed)))


def of_diff(index: Index, diff: str, depth: int) -> Impact:
    """What the changes of a diff reach. Raises ChangeError."""
    changed: dict[tuple[SymbolId, str, int], Symbol] = {}
    files: dict[str, None] = {}
    notes: list[str] = []
    gone: dict[str, str] = {}
    for change in changes_of(diff):
        path = _known_path(index, change)
        if path is None:
            notes.append(f"{change.written} leads out of the tree and is left out.")
            continue
        files[path] = None
        here = index.facts.names.in_file(path)
        if not here and not change.removed and index.table.known_file(path) is None:
            notes.append(f"{path} is not in the index.")
        for symbol in here if change.removed else _touched(here, change):
            changed[symbol.id, symbol.span.path, symbol.span.first_line] = symbol
        for name in _declared_in(change.cut):
            gone.setdefault(name, path)
    impact = of_symbols(index, list(changed.values()), depth, tuple(files))
    left = [reached for name in list(gone)[:MOST_REMOVED_NAMES] for reached in _left_behind(index, name, gone[name])]
    reached = sorted({*impact.reached, *left}, key=_order)
    return Impact(impact.changed, tuple(files), tuple(reached), tuple(dict.fromkeys(notes)))


def of_symbols(index: Index, changed: Sequence[Symbol], depth: int, files: Sequence[str] = ()) -> Impact:
    """What changes of these symbols and files reach."""
    effects = index.graph.effects(changed, files, depth)
    tests = _tests(index, {e.id for e in effects if e.id is not None})
    best: dict[tuple[str, str], list[Effect]] = {}
    for effect in effects:  # in order of distance
        best.setdefault((effect.group, effect.id or effect.step.edge.path), []).append(effect)
    reached = [_reached(group, found, tests) for (group, _), found in best.items()]
    own = tuple(sorted(changed, key=lambda s: (s.span, s.qualified_name, s.id)))
    return Impact(own, tuple(files), tuple(sorted(reached, key=_order)))


def _reached(group: str, effects: Sequence[Effect], tests: set[SymbolId]) -> Reached:
    first = effects[0]
    step, edge = first.step, first.step.edge
    return Reached(
        group=group,
        name=edge.inside if first.id is not None and edge.inside else edge.path,
        id=first.id,
        path=edge.path,
        line=edge.line,
        reason=_reason(first.reason, step),
        how=edge.how,
        depth=step.depth,
        via=step.via,
        places=sum(1 for effect in effects if effect.step.depth == step.depth),
        is_test=first.id in tests or bool(_TEST_PATH.search(edge.path)),
    )


def _reason(reason: str, step: Step) -> str:
    virtual = [way for way in step.via if way.startswith("virtual ")]
    return f"{reason}, via {virtual[-1]}" if virtual else reason


def _tests(index: Index, ids: set[SymbolId]) -> set[SymbolId]:
    """Those that a macro of a test framework makes."""
    return {s.id for s in index.facts.names.by_ids(ids) if _TEST_MACRO.match(s.signature)}


def _left_behind(index: Index, name: str, path: str) -> list[Reached]:
    """Who still uses a name of which the change removed the last declaration."""
    if index.facts.symbols_named(name, 1):
        return []
    return [
        Reached(
            group="left behind",
            name=edge.inside or edge.path,
            id=edge.inside_id,
            path=edge.path,
            line=edge.line,
            reason=f"uses {name}, which {path} no longer declares",
            how=Provenance.BY_NAME,
            depth=1,
            via=(),
            places=1,
            is_test=bool(_TEST_PATH.search(edge.path)),
        )
        for edge in _undecided(index.facts.edges_by_name(name, _USED))
    ]


def _undecided(edges: Iterable[Edge]) -> list[Edge]:
    return [edge for edge in edges if edge.target_id is None]


def _touched(symbols: Sequence[Symbol], change: FileChange) -> list[Symbol]:
    """The innermost symbols that hold a changed line, and what a changed field or enumerator stands in."""
    code = [s for s in symbols if s.kind not in _NOT_CHANGED]
    found: dict[tuple[SymbolId, int], Symbol] = {}
    for first, last in change.lines:
        holding = [s for s in code if s.span.first_line <= last and s.span.last_line >= first]
        found |= {(s.id, s.span.first_line): s for s in holding if _changes(s, holding, first, last)}
    for gap in change.gaps:  # what was cut out stood inside of what holds the lines on both of its sides
        holding = [s for s in code if s.span.first_line <= gap and s.span.last_line > gap]
        found |= {(s.id, s.span.first_line): s for s in holding if _changes(s, holding, gap, gap + 1)}
    return list(found.values())


def _changes(symbol: Symbol, holding: Sequence[Symbol], first: int, last: int) -> bool:
    """Whether some of these lines are the symbol's own and not only those of what stands in it."""
    begin, end = symbol.span.first_line, symbol.span.last_line
    inner = [s for s in holding if s.span != symbol.span and begin <= s.span.first_line and s.span.last_line <= end]
    if any(s.kind in _LAYOUT for s in inner):
        return True
    reach = max(first, begin)
    for s in sorted(inner, key=lambda s: s.span):
        if s.span.first_line > reach:
            return True
        reach = max(reach, s.span.last_line + 1)
    return reach <= min(last, end)


def _declared_in(lines: Iterable[str]) -> list[str]:
    """Names that these lines look as if they declared, each once."""
    found: dict[str, None] = {}
    for line in lines:
        if declared := _TYPE_REMOVED.match(line[:500]):
            found[declared[1]] = None
            continue
        declared = _FUNCTION_REMOVED.match(line[:500])
        if declared and not _STATEMENTS & set(declared["before"].split()):
            found[declared["name"]] = None
    return list(found)


def _known_path(index: Index, change: FileChange) -> str | None:
    """The file of the index that a diff means; the path as written where there is none, None where it leads away."""
    for path in (change.path, change.written):
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\0" in path:
            return None
        # A diff of the whole repository, where a folder of it was indexed, names that folder first.
        above = index.root.parts
        for cut in range(min(len(parts), len(above) + 1)):
            if above[len(above) - cut :] == parts[:cut]:
                inner = "/".join(parts[cut:])
                if index.table.known_file(inner):
                    return inner
    return change.path


def _unprefixed(path: str) -> str:
    """Without the letter that git writes before both paths: a and b, or i, w, c and o."""
    return path[2:] if re.match(r"[abiwco]/", path) else path


def _path_of(written: str) -> str:
    r"""A path as diff and git write it: a time after a tab goes, quotes and escapes such as ``\303\244`` are read."""
    path = written.rstrip("\r")
    if not path.startswith('"'):
        return path.partition("\t")[0]
    raw = bytearray()
    inner = path[1 : path.rfind('"')] if path.rfind('"') > 0 else path[1:]
    rest = 0
    for escape in _QUOTED.finditer(inner):
        raw += inner[rest : escape.start()].encode("utf-8", "replace")
        sign = escape[1]
        raw += (
            bytes([int(sign, 8) & 255])
            if sign[0] in "01234567"
            else _ESCAPES.get(sign, sign).encode("utf-8", "replace")
        )
        rest = escape.end()
    raw += inner[rest:].encode("utf-8", "replace")
    return raw.decode("utf-8", "replace")


def _order(reached: Reached) -> tuple[object, ...]:
    return (
        GROUPS.index(reached.group),
        reached.depth,
        reached.how is Provenance.BY_NAME,
        reached.path,
        reached.line,
        reached.name,
        reached.reason,
        reached.id or "",
    )
