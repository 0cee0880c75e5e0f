"""Which of our symbols Clang means, by the places at which it found them declared. Never a guess: what stands in the
tree and is none of our symbols, or could be several, has no target and is left to the parser.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence

from indexer.compiler.commands import Unit
from indexer.compiler.unit import FileFacts, Target, UnitFacts
from indexer.model import ReferenceKind
from indexer.symbol_table.compiled import CompiledFile, CompiledTable, CompiledUnit, CompiledUse, Declared, UnitKey

FILES_AT_HAND = 1_000  # whose symbols are kept, the last used ones: some 100 kB each at most

_SPACE = re.compile(r"\s+")
_ELABORATED = re.compile(r"\b(?:class|struct|enum|union|typename) ")
_HOLDERS = frozenset({"function", "type"})


class Targets:
    """Turns what units say into uses with the ids of symbols. Good while nothing is indexed."""

    def __init__(self, table: CompiledTable) -> None:
        self._table = table
        self._files: OrderedDict[str, _Symbols] = OrderedDict()

    def compiled(self, unit: Unit, key: UnitKey, facts: UnitFacts) -> CompiledUnit:
        """A unit ready to be kept."""
        ids = [self._id(target) for target in facts.targets]
        path, line, message = facts.error or ("", 0, "")
        note = f"{message} ({facts.errors} errors)" if facts.errors > 1 else message
        if path and path != unit.path:
            note = f"{note}, in {path}:{line}"
        return CompiledUnit(
            key=key,
            files=tuple(self._file(file, ids) for file in facts.files),
            missing=facts.missing,
            broken=facts.broken,
            note=note if facts.broken else "",
            line=line if path == unit.path else 0,
        )

    def _file(self, file: FileFacts, ids: Sequence[str | None]) -> CompiledFile:
        uses: dict[CompiledUse, None] | None = None
        if file.walked:
            symbols = self._symbols(file.path)
            uses = {}
            for kind, line, name, number, inside in file.uses:
                target = ids[number]
                if target is not None:
                    # What a macro has made is no symbol of ours: then the innermost one around counts.
                    holder = (ids[inside] if inside >= 0 else None) or symbols.around(line)
                    uses[CompiledUse(kind, name, name, line, holder, target)] = None
            for line, written, path in file.includes:
                name = written.rpartition("/")[2]
                uses[CompiledUse(ReferenceKind.INCLUDE, name, written, line, None, path)] = None
        return CompiledFile(file.path, file.digest, file.flavor, file.skipped, None if uses is None else tuple(uses))

    def _id(self, target: Target) -> str | None:
        """The id of a target; "" for what is outside the tree, None for no symbol of ours or one of several."""
        if not target.places:
            return ""
        for path, line in target.places:
            found = self._symbols(path).at(line, target)
            if found:
                return found
        return None

    def _symbols(self, path: str) -> "_Symbols":
        symbols = self._files.get(path)
        if symbols is None:
            symbols = self._files[path] = _Symbols(self._table.declared(path))
            if len(self._files) > FILES_AT_HAND:
                self._files.popitem(last=False)
        self._files.move_to_end(path)
        return symbols


class _Symbols:
    """The symbols of one file, by the line of their name and by the lines they span."""

    def __init__(self, declared: Sequence[Declared]) -> None:
        self._at: dict[tuple[int, str], list[Declared]] = {}
        self._spans: list[Declared] = []
        for symbol in declared:
            self._at.setdefault((symbol.line, _without_space(symbol.name)), []).append(symbol)
            if symbol.is_definition and symbol.family in _HOLDERS:
                self._spans.append(symbol)

    def at(self, line: int, target: Target) -> str | None:
        found = self._at.get((line, _without_space(target.symbol)), ())
        same = [symbol for symbol in found if symbol.family == target.family]
        if len({symbol.id for symbol in same}) > 1:
            wanted = [_plain(parameter) for parameter in target.parameters]
            same = [symbol for symbol in same if [_plain(parameter) for parameter in symbol.parameters] == wanted]
        return same[0].id if len({symbol.id for symbol in same}) == 1 else None

    def around(self, line: int) -> str | None:
        """The innermost function or class whose lines a line is among."""
        inner = None
        for symbol in self._spans:  # in the order in which they begin: the last one that holds the line is innermost
            if symbol.first_line > line:
                break
            if symbol.last_line >= line:
                inner = symbol
        return inner.id if inner else None


def _without_space(name: str) -> str:
    return name.replace(" ", "")


def _plain(parameter: str) -> str:
    return _SPACE.sub("", _ELABORATED.sub("", parameter))
