"""Refreshing after any edits, and after a crash at any point between the two stores, equals indexing afresh."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import RACY_NS, EmbedderSource, Options, refresh
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import contents, write_tree

TICK_NS = 20_000_000  # between two writes; the coarsest clocks of file systems in use are one hundred times coarser

PATHS = st.sampled_from(["a.cc", "b.h", "sub/c.cc", "sub/d.md", "sub/deep/e.hpp"])
NAMES = st.sampled_from(["Alpha", "Beta", "Gamma", "run", "stop"])
PADDING = "  total += first_operand * second_operand - third_operand;\n"


def _function(name: str, other: str, lines: int) -> str:
    return f"/// Does {name} after {other}.\nvoid {name}(int x) {{\n{PADDING * lines}  {other}(x);\n}}\n\n"


# Large enough that a file has several chunks: what stands in one chunk then changes the meaning of another.
BLOCKS = st.one_of(
    st.builds(_function, NAMES, NAMES, st.sampled_from([1, 12, 40])),
    st.builds("class {} : public {} {{\n  void {}();\n}};\n".format, NAMES, NAMES, NAMES),
    st.builds("int {0}_count;\nvoid {0}(int x);\nvoid {1}();\n".format, NAMES, NAMES),
    st.builds("// {} calls {}.\n".format, NAMES, NAMES),
    st.builds("// {0} and {0} again, at length.\n".format, NAMES).map(lambda line: line * 25),
    # The comment stands in chunks of its own, and is a word of the function's chunk nonetheless.
    st.builds(lambda name, other: f"/// {name}, at great length.\n" * 190 + _function(name, other, 1), NAMES, NAMES),
    # How a file is read depends on what other files define.
    st.sampled_from(["#define API\n", "#define API __attribute__((weak))\n", "#define API(x) x\n", "#undef API\n"]),
    st.sampled_from(["#define BEGIN_NS namespace inner {\n#define END_NS }\n", "#define BEGIN_NS\n#define END_NS\n"]),
    st.builds("class API {} {{\n  API void {}();\n}};\n".format, NAMES, NAMES),
    st.builds("BEGIN_NS\nvoid {}(int x) {{ {}(x); }}\nEND_NS\n".format, NAMES, NAMES),
    st.sampled_from(["}\n", "{\n", "namespace n {\n", "# Heading\n", '#include "b.h"\n', "#define MACRO(x) x\n"]),
)
TEXTS = st.lists(BLOCKS, max_size=6).map("".join)
PLACES = st.integers(0, 30)  # taken modulo what there is


class Crash(BaseException):
    """The process dies here."""


EDITS = st.one_of(
    st.tuples(st.just("write"), PLACES, PATHS, TEXTS),
    st.tuples(st.just("insert a block"), PLACES, PLACES, BLOCKS),
    st.tuples(st.just("insert a block"), PLACES, st.just(0), BLOCKS),
    st.tuples(st.just("cut a block"), PLACES, PLACES, st.just("")),
    st.tuples(st.just("change within a tick"), PLACES, PLACES, st.sampled_from("xyz")),
    st.tuples(st.just("delete"), PLACES, st.just(""), st.just("")),
    st.tuples(st.just("rename"), PLACES, PATHS, st.just("")),
    st.tuples(st.just("ignore"), PLACES, st.just(""), st.just("")),
    st.tuples(st.just("ignore nothing"), st.just(0), st.just(""), st.just("")),
)


class Refreshing(RuleBasedStateMachine):
    """Time is made here, so that a file can be changed within the tick in which it was indexed."""

    @initialize(files=st.dictionaries(PATHS, TEXTS, min_size=3))
    def begin(self, files: dict[str, str]) -> None:
        self.folder = TemporaryDirectory()
        self.base = Path(self.folder.name)
        self.root = self.base / "tree"
        self.now_ns = 1_700_000_000_000_000_000
        self.fresh = 0
        self.rebuilds = 0
        for path, text in {"always.cc": "int always;\n", **files}.items():
            self._write(self.root / path, text)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(edits=st.lists(EDITS, min_size=1, max_size=4))
    def edit(self, edits: list[tuple[str, int, int | str, str]]) -> None:
        for edit in edits:
            self._edit(*edit)

    @rule(edits=st.lists(EDITS, min_size=1, max_size=3))
    def edit_and_wait(self, edits: list[tuple[str, int, int | str, str]]) -> None:
        self.edit(edits)
        self.now_ns += 60_000_000_000

    @rule(
        edits=st.lists(EDITS, min_size=1, max_size=4),
        point=st.sampled_from(
            [
                "before Chroma",
                "between taking out and putting in",
                "after Chroma",
                "before the vectors are stored",
                "while writing",
                "while removing",
                "before the end is noted",
            ]
        ),
    )
    def crash_while_refreshing(self, edits: list[tuple[str, int, int | str, str]], point: str) -> None:
        self.edit(edits)
        data = DataFolder(self.base / "data")
        with data.owned(), Index.for_writing(data, "w", self.root) as index:
            self._arm(index, point)
            with suppress(Crash):
                self._refresh(index)

    @invariant()
    def the_index_equals_one_made_afresh(self) -> None:
        if not hasattr(self, "rebuilds"):
            return
        self.fresh += 1
        refreshed, afresh = DataFolder(self.base / "data"), DataFolder(self.base / f"fresh{self.fresh}")
        with afresh.owned(), Index.for_writing(afresh, "w", self.root) as index:
            index.reconcile = lambda: None  # type: ignore[method-assign] # what is compared stands in the table
            self._refresh(index)
            expected = (contents(index), words_of(index))
        with refreshed.owned(), Index.for_writing(refreshed, "w", self.root) as index:
            index.carrier.rebuild = self._count_rebuild  # type: ignore[method-assign]
            self._refresh(index)
            assert (contents(index), words_of(index)) == expected
            assert index.table.outbox_depth() == 0
            drift = index.drift(FakeEmbedder().name)
            assert (drift.missing, drift.orphans, self.rebuilds) == (0, 0, 0)
            again = self._refresh(index)
            assert (again.changed, again.removed, again.embedded) == (0, 0, 0)

    def _count_rebuild(self) -> int:
        """Making Chroma again would hide what should not have gone missing."""
        self.rebuilds += 1
        return 0

    def _refresh(self, index: Index) -> IndexReport:
        options = Options(workers=1, now=lambda: datetime.fromtimestamp(self.now_ns / 1e9, UTC))
        return refresh(index, options, (EmbedderSource(FakeEmbedder().name, FakeEmbedder),))

    def _write(self, file: Path, text: str, time_ns: int | None = None) -> None:
        self.now_ns += TICK_NS
        write_tree(file.parent, {file.name: text})
        os.utime(file, ns=(time_ns or self.now_ns, time_ns or self.now_ns))

    def _edit(self, kind: str, place: int, what: int | str, text: str) -> None:
        files = sorted(file for file in self.root.rglob("*.*") if file.is_file() and file.name != ".gitignore")
        file = files[place % len(files)]
        match kind, what:
            case "write", str():
                self._write(self.root / what, text)
            case "change within a tick", int():
                time_ns = file.stat().st_mtime_ns
                if self.now_ns + TICK_NS - time_ns < RACY_NS:
                    self._write(file, changed(kind, file.read_text(encoding="utf-8"), what, text), time_ns)
            case _, int():
                self._write(file, changed(kind, file.read_text(encoding="utf-8"), what, text))
            case "rename", str() if file.name != "always.cc":
                (self.root / what).parent.mkdir(parents=True, exist_ok=True)
                file.rename(self.root / what)
            case "delete", _ if file.name != "always.cc":
                file.unlink()
            case "ignore" | "ignore nothing", _:
                rules = f"/{file.relative_to(self.root).as_posix()}\n!always.cc\n" if kind == "ignore" else ""
                (self.root / ".gitignore").write_text(rules, encoding="utf-8")

    def _arm(self, index: Index, point: str) -> None:
        def die(*_: object, **__: object) -> None:
            raise Crash

        table = index.table
        match point:
            case "before Chroma":
                index.carrier._apply = die  # type: ignore[method-assign]
            case "between taking out and putting in":
                real: Callable[..., list[tuple[object, object]]] = index.carrier.chroma  # type: ignore[assignment]

                def half(*about: object) -> object:
                    vectors = real(*about)
                    vectors.upsert = die  # type: ignore[attr-defined]
                    return vectors

                index.carrier.chroma = half  # type: ignore[method-assign, assignment]
            case "after Chroma":
                table.clear_outbox = die  # type: ignore[method-assign]
            case "before the vectors are stored":
                table.store_vectors = die  # type: ignore[method-assign]
            case "while writing":
                table._write_chunks = die  # type: ignore[method-assign]
            case "while removing":
                table._drop_facts = die  # type: ignore[method-assign]
            case "before the end is noted":
                table.set_meta = die  # type: ignore[method-assign]


def changed(kind: str, before: str, place: int, text: str) -> str:
    """The file's text after an edit at a place; "change within a tick" keeps its size."""
    if kind == "change within a tick":
        letters = [at for at, letter in enumerate(before) if letter.isalpha()]
        at = letters[place % len(letters)] if letters else 0
        return before[:at] + text + before[at + 1 :] if letters else before
    lines = before.splitlines(keepends=True)
    at = place % (len(lines) + 1)
    return "".join((*lines[:at], text, *lines[at if kind == "insert a block" else at + 3 :]))


def words_of(index: Index) -> list[tuple[object, ...]]:
    """Every word of the full-text index with its chunk, column and place: nothing less shows a word left behind."""
    index._database.run("CREATE VIRTUAL TABLE IF NOT EXISTS temp.places USING fts5vocab(main, chunk_words, instance)")
    return index._database.rows(
        "SELECT chunks.id, col, places.offset, term FROM temp.places JOIN chunks ON chunks.rowid = doc ORDER BY 1, 2, 3"
    )


TestRefreshing = pytest.mark.slow(Refreshing.TestCase)
TestRefreshing.settings = settings(
    max_examples=12, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
