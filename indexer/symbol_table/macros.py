"""The macros that a tree defines, and what was learnt of them when its files were last read.

How a file is parsed depends on the macros of the whole tree. So what was learnt is noted in the same transaction that
makes the files be read again which hold a macro whose meaning changed: a crash cannot come between. What a macro means,
it does not know.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from indexer.rows import SEPARATOR, split_row
from indexer.symbol_table.database import Database, marks
from indexer.symbol_table.names import parts
from indexer.words import words

Definition = tuple[str, tuple[str, ...] | None, str]  # name, parameters of a function-like macro, body

_NAMES_A_STATEMENT = 200  # of a full-text expression


class MacroTable:
    """The table ``macros``, and the knowledge that was made of it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def definitions(self, paths: Collection[str] | None = None) -> dict[str, tuple[Definition, ...]]:
        """The macros of each file that defines any, of these or of all, in the order of the text."""
        found: dict[str, list[Definition]] = {}
        listed: list[tuple[str, Sequence[str]]]
        listed = [("1", ())] if paths is None else [(f"path IN ({marks(part)})", part) for part in parts(sorted(paths))]
        for within, values in listed:
            for path, name, parameters, body in self._db.rows(
                f"SELECT path, name, parameters, body FROM macros WHERE {within} ORDER BY rowid", values
            ):
                kept = None if parameters is None else split_row(parameters)
                found.setdefault(path, []).append((name, kept, body))
        return {path: tuple(macros) for path, macros in found.items()}

    def knowledge(self) -> str:
        """What was learnt, as it was noted; "" before anything was, or when it is out of date."""
        row = self._db.row("SELECT value FROM meta WHERE key = 'macros'")
        return "" if row is None else str(row[0])

    def replace(self, files: Mapping[str, Iterable[Definition]], knowledge: str, changed: Iterable[str]) -> None:
        """Notes the definitions of these files in place of what was there, and what was learnt of all.

        The files that hold a name in ``changed`` are no longer trusted: the next look at them reads them again.
        """
        with self._db.transaction():
            self._db.run_many("DELETE FROM macros WHERE path = ?", ((path,) for path in files))
            self._db.run_many(
                "INSERT INTO macros VALUES(?, ?, ?, ?)",
                (
                    (path, name, None if parameters is None else SEPARATOR.join(parameters), body)
                    for path, macros in files.items()
                    for name, parameters, body in macros
                ),
            )
            self._db.run("INSERT OR REPLACE INTO meta VALUES('macros', ?)", (knowledge,))
            holders = sorted(self._holders(changed))
            for start in range(0, len(holders), _NAMES_A_STATEMENT):
                part = holders[start : start + _NAMES_A_STATEMENT]
                self._db.run(f"UPDATE files SET digest = '', mtime_ns = 0 WHERE id IN ({marks(part)})", part)

    def _holders(self, names: Iterable[str]) -> set[int]:
        """The files whose text holds one of the names, and some that hold one much like it."""
        wanted = sorted({words(name)[0] for name in names if words(name)})
        holders: set[int] = set()
        for start in range(0, len(wanted), _NAMES_A_STATEMENT):
            match = " OR ".join(f'"{word}"' for word in wanted[start : start + _NAMES_A_STATEMENT])
            rows = self._db.rows(
                "SELECT DISTINCT file FROM chunks WHERE rowid IN"
                " (SELECT rowid FROM chunk_words WHERE chunk_words MATCH ?)",
                (match,),
            )
            holders.update(row[0] for row in rows)
        return holders
