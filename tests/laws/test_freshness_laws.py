"""Whatever happens to a tree and to the process that indexes it, the next refresh makes the index equal to a fresh one,
row by row: edits, renames, deletions, modes, what git does to a tree, refreshes of parts, and a crash between any two
writes of indexing, of carrying vectors, of making Chroma again, of migrating, seeding, replacing and deleting an index.

A short form runs with the suite. ``FRESHNESS_STEPS=10000 pytest --timeout=0 -o faulthandler_timeout=0
tests/laws/test_freshness_laws.py`` takes that many steps; ``FRESHNESS_CHROMA=1`` takes them with Chroma itself instead
of files that are written in the same steps.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from indexer import carrying, vectors
from indexer.errors import OldFormatError
from indexer.files import Part
from indexer.index import DataFolder, Index
from indexer.pipeline import EmbedderSource, Options, refresh
from tests.laws.test_refresh_laws import BLOCKS, TEXTS, words_of
from tests.support.crashes import stepping
from tests.support.fake_embedder import FakeEmbedder
from tests.support.filed_vectors import FiledVectors
from tests.support.formats import to_format_3
from tests.support.histories import history_of
from tests.support.trees import contents, write_tree
from tests.test_commits import git

STEPS = int(os.environ.get("FRESHNESS_STEPS", "0"))
WITH_CHROMA = os.environ.get("FRESHNESS_CHROMA") == "1"
STEPS_OF_ONE = 25

TICK_NS = 20_000_000
SOURCE = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
# Like the static one, its vectors are made by the parsers.
INSTANT = EmbedderSource("static/16", lambda: FakeEmbedder("static/16"))
ALWAYS = "always.cc"
PATHS = st.sampled_from(["a.cc", "b.h", "sub/c.cc", "sub/d.md", "sub/deep/e.hpp"])
PLACES = st.integers(0, 30)  # taken modulo what there is
BRANCHES = st.sampled_from(["one", "two", "three"])
FUSES = st.integers(0, 40)


class Crash(BaseException):
    """The process dies here."""


EDITS = st.one_of(
    st.tuples(st.just("write"), PLACES, PATHS, TEXTS),
    st.tuples(st.just("append"), PLACES, st.just(""), BLOCKS),
    st.tuples(st.just("delete"), PLACES, st.just(""), st.just("")),
    st.tuples(st.just("rename"), PLACES, PATHS, st.just("")),
    st.tuples(st.just("move a folder"), PLACES, st.sampled_from(["moved", "sub"]), st.just("")),
    st.tuples(st.just("mode"), PLACES, st.just(""), st.just("")),
    st.tuples(st.just("ignore"), PLACES, st.just(""), st.just("")),
    st.tuples(st.just("ignore nothing"), st.just(0), st.just(""), st.just("")),
    st.tuples(st.just("touch"), PLACES, st.just(""), st.just("")),
)
FLOWS = st.one_of(
    st.tuples(st.just("commit"), BRANCHES),
    st.tuples(st.just("commit"), BRANCHES),
    st.tuples(st.just("amend"), BRANCHES),
    st.tuples(st.just("branch"), BRANCHES),
    st.tuples(st.just("switch"), BRANCHES),
    st.tuples(st.just("switch"), BRANCHES),
    st.tuples(st.just("merge"), BRANCHES),
    st.tuples(st.just("squash"), BRANCHES),
    st.tuples(st.just("rebase"), BRANCHES),
    st.tuples(st.just("cherry-pick"), BRANCHES),
    st.tuples(st.just("reset"), BRANCHES),
    st.tuples(st.just("stash"), BRANCHES),
)
WORKS = st.sampled_from(
    [
        *("whole", "whole", "part", "part", "part without a graph", "background", "carry", "rebuild", "migrate"),
        *("seed", "make anew", "forget", "forget an embedder"),
    ]
)


class Freshness(RuleBasedStateMachine):
    """Time is made here: what git writes is dated as everything else is."""

    @initialize(files=st.dictionaries(PATHS, TEXTS, min_size=3), batch=st.sampled_from([2, 5, 100]))
    def begin(self, files: dict[str, str], batch: int) -> None:
        self.folder = TemporaryDirectory()
        self.base = Path(self.folder.name)
        self.root = self.base / "tree"
        self.now_ns = 1_700_000_000_000_000_000
        self.commits = 0
        self.fresh = 0
        self.dated: dict[str, tuple[int, int]] = {}
        self.seen: dict[str, tuple[int, int, int]] = {}
        self.changed: set[str] = set()  # since a refresh ended well
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(carrying, "DRAIN_BATCH", batch)
        if not WITH_CHROMA:
            self.patches.setattr(vectors, "ChromaVectors", FiledVectors)
        write_tree(self.root, {ALWAYS: "int always;\n", **files})
        git(self.root, "init", "--quiet", "--initial-branch=main")
        self._commit("First")
        self._whole(self.data)
        self.check()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.check()
            self.patches.undo()
            self.folder.cleanup()

    @property
    def data(self) -> DataFolder:
        return DataFolder(self.base / "data")

    @rule(edits=st.lists(EDITS, min_size=1, max_size=4))
    def edit(self, edits: list[tuple[str, int, str, str]]) -> None:
        for edit in edits:
            self._edit(*edit)
            self._date()

    @rule(flows=st.lists(FLOWS, min_size=1, max_size=3))
    def use_git(self, flows: list[tuple[str, str]]) -> None:
        for flow in flows:
            self._flow(*flow)
            self._date()

    @rule(work=WORKS)
    def work(self, work: str) -> None:
        self._work(work)
        self.check()

    @rule(edits=st.lists(EDITS, max_size=3), work=WORKS, after=FUSES, again=FUSES)
    def crash(self, edits: list[tuple[str, int, str, str]], work: str, after: int, again: int) -> None:
        """Once, and once more while the next process is mending it."""
        self.edit(edits)
        for fuse, doing in ((after, work), (again, "whole")):
            with crashing(fuse), suppress(Crash):
                self._work(doing)
        self.check()

    # Laws

    def check(self) -> None:
        """The refreshed index equals one made afresh, and Chroma holds what the table holds."""
        self._whole(self.data)
        with self.data.owned(), Index.for_writing(self.data, "w", self.root) as index:
            lost = index.carrier.lost()
            index.drain()
            for embedder in index.table.embedders():
                drift = index.drift(embedder)
                assert lost or (drift.missing, drift.orphans) == (0, 0)
            index.reconcile()
            drifts = [index.drift(embedder) for embedder in index.table.embedders()]
            assert [(drift.missing, drift.orphans) for drift in drifts] == [(0, 0)] * len(drifts)
            assert not index.waits_for_chroma()
            refreshed = rows_of(index)
            again = refresh(index, self._options(), (INSTANT, SOURCE))
            assert (again.changed, again.removed, again.embedded) == (0, 0, 0)
        self.changed.clear()
        self.data.sweep()
        left = sorted(path.name for path in (self.base / "data" / "workspaces" / "w").iterdir())
        assert set(left) <= {"chroma", "index.db", "index.db-wal", "index.db-shm", "workspace.json"}
        assert not list((self.base / "data" / "forgotten").glob("*"))
        self.fresh += 1
        afresh = DataFolder(self.base / f"fresh{self.fresh}")
        self._whole(afresh, carry=False)
        with Index.for_reading(afresh, "w") as index:
            expected = rows_of(index)
        shutil.rmtree(afresh.path)
        assert refreshed.keys() == expected.keys()
        for table, rows in expected.items():
            assert refreshed[table] == rows, table

    # What may be under way

    def _work(self, work: str) -> None:  # noqa: C901 - one arm a kind, and nothing between them
        data = self.data
        match work:
            case "whole":
                self._whole(data)
            case "part" | "part without a graph":
                self._part(data, graph=work == "part")
            case "background":
                self._whole(data, carry=False)
            case "carry":
                with self._opened(data) as index:
                    while index.carry(3):
                        pass
            case "rebuild":
                with self._opened(data) as index:
                    index.rebuild_vectors()
            case "migrate":
                table = data.workspace_folder("w") / "index.db"
                if table.exists():
                    to_format_3(table)
                with self._opened(data):
                    pass
            case "seed":
                self._sibling()
                with data.owned():
                    data.sweep()
                    data.forget("w")
                    Index.seed(data, "w", "sibling", lambda: None)
                self._whole(data)
            case "make anew":
                with data.owned():
                    Index.make_anew(data, "w", ())
            case "forget":
                with data.owned():
                    data.forget("w")
            case "forget an embedder":
                with self._opened(data) as index:
                    index.forget_embedder(SOURCE.name)

    def _whole(self, data: DataFolder, *, carry: bool = True) -> None:
        with self._opened(data) as index:
            refresh(index, self._options(carry=carry), (INSTANT, SOURCE))
            index.unseal()
        self.changed.clear()

    def _part(self, data: DataFolder, *, graph: bool) -> None:
        part = Part(frozenset(self.changed))
        with self._opened(data) as index:
            refresh(index, self._options(part=part, graph=graph), (INSTANT, SOURCE))
            index.unseal()
        self.changed.clear()

    @contextmanager
    def _opened(self, data: DataFolder) -> Iterator[Index]:
        """As the next process would find it."""
        with data.owned():
            data.sweep()
            try:
                index = Index.for_writing(data, "w", self.root)
            except OldFormatError:
                Index.make_anew(data, "w", ())
                index = Index.for_writing(data, "w", self.root)
            with index:
                yield index

    def _sibling(self) -> None:
        """Another checkout of the tree as it was committed, indexed."""
        other = self.base / "sibling"
        if not other.exists():
            git(self.root, "worktree", "add", "--quiet", "--detach", str(other))
            with self.data.owned(), Index.for_writing(self.data, "sibling", other) as index:
                refresh(index, self._options(carry=False), (INSTANT, SOURCE))

    def _options(self, *, carry: bool = True, part: Part | None = None, graph: bool = True) -> Options:
        return Options(
            workers=1,
            carry=carry,
            part=part,
            graph=graph,
            now=lambda: datetime.fromtimestamp(self.now_ns / 1e9, UTC),
        )

    # What may happen to the tree

    def _files(self) -> list[Path]:
        return sorted(file for file in self.root.rglob("*.*") if file.is_file() and ".git" not in str(file))

    def _edit(self, kind: str, place: int, what: str, text: str) -> None:  # noqa: C901 - as above
        files = self._files()
        file = files[place % len(files)]
        match kind:
            case "write":
                write_tree(self.root, {what: text})
            case "append":
                file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")
            case "delete" if file.name != ALWAYS:
                file.unlink()
            case "rename" if file.name != ALWAYS:
                (self.root / what).parent.mkdir(parents=True, exist_ok=True)
                file.replace(self.root / what)
            case "move a folder":
                there = next((folder for folder in (self.root / "sub", self.root / "moved") if folder.exists()), None)
                if there and not (self.root / what).exists():
                    there.rename(self.root / what)
            case "mode":
                file.chmod(0o755 if file.stat().st_mode & 0o111 == 0 else 0o644)
            case "touch":
                self.dated.pop(str(file), None)
            case "ignore":
                rules = f"/{file.relative_to(self.root).as_posix()}\n!{ALWAYS}\n"
                write_tree(self.root, {".gitignore": rules})
            case "ignore nothing":
                (self.root / ".gitignore").unlink(missing_ok=True)

    def _flow(self, kind: str, branch: str) -> None:  # noqa: C901 - as above
        known = git(self.root, "branch", "--format=%(refname:short)").split()
        match kind:
            case "commit":
                self._commit(f"Change {branch}")
            case "amend":
                self._commit(f"Amended: {branch}", "--amend")
            case "branch" if branch not in known:
                git(self.root, "branch", "--quiet", branch)
            case "switch" if branch in known:
                self._commit("Kept before a switch")
                git(self.root, "switch", "--quiet", branch)
            case "merge" | "squash" | "rebase" | "cherry-pick" if branch in known:
                self._commit("Kept before a merge")
                command = {
                    "merge": ["merge", "--quiet", "--no-ff", "-X", "theirs", "-m", f"Merge {branch}", branch],
                    "squash": ["merge", "--quiet", "--squash", "-X", "theirs", branch],
                    "rebase": ["rebase", "--quiet", "-X", "theirs", branch],
                    "cherry-pick": ["cherry-pick", "-X", "theirs", branch],
                }[kind]
                try:
                    git(self.root, *command, time_s=self._minute())
                except CalledProcessError:  # a conflict: it is committed as it stands, or given up
                    if kind == "rebase":
                        git(self.root, "rebase", "--abort")
                    else:
                        self._commit(f"Conflicts of {branch}")
                        for left in ("CHERRY_PICK_HEAD", "MERGE_HEAD"):
                            (self.root / ".git" / left).unlink(missing_ok=True)
            case "reset" if git(self.root, "rev-list", "--count", "--first-parent", "HEAD") != "1":
                git(self.root, "reset", "--quiet", "--hard", "HEAD^")
            case "stash":
                git(self.root, "stash", "--quiet", "--include-untracked")
                if git(self.root, "stash", "list"):
                    git(self.root, "stash", "drop", "--quiet")

    def _commit(self, message: str, *arguments: str) -> None:
        git(self.root, "add", "--all")
        git(
            self.root,
            *("commit", "--quiet", "--allow-empty", "--message", message),
            *arguments,
            time_s=self._minute(),
        )

    def _minute(self) -> int:
        self.commits += 1
        return 1_600_000_000 + 60 * self.commits

    def _date(self) -> None:
        """Dates what was written since, and notes what of it a watcher would have told."""
        for file in self._files():
            status = file.stat()
            if self.dated.get(str(file)) != (status.st_mtime_ns, status.st_size):
                self.now_ns += TICK_NS
                os.utime(file, ns=(self.now_ns, self.now_ns))
                self.dated[str(file)] = (self.now_ns, status.st_size)
        self.now_ns += 60_000_000_000
        now = {
            file.relative_to(self.root).as_posix(): (status.st_mtime_ns, status.st_size, status.st_mode)
            for file in self._files()
            for status in (file.stat(),)
        }
        self.changed |= {path for path in {*now, *self.seen} if now.get(path) != self.seen.get(path)}
        if (self.root / ".gitignore").exists() or ".gitignore" in self.seen:
            now[".gitignore"] = (0, 0, 0)
        self.seen = now


@contextmanager
def crashing(after: int) -> Iterator[None]:
    """Raises Crash at one of the things that outlast a process: before or after a transaction ends, a step of Chroma's
    and a change of names or folders.
    """
    left = after

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash

    with stepping(step):
        yield


def rows_of(index: Index) -> dict[str, object]:
    """All that is kept, without row numbers and times, and what readers get of it."""
    rows = index._database.rows
    path = "(SELECT path FROM files WHERE files.id = {}.file)"
    tables = {
        "files": "SELECT path, language, size, digest, lines FROM files",
        "symbols": f"SELECT {path.format('symbols')}, id, kind, name, scope, signature, is_definition, first_line,"
        " last_line, doc, line, type, parameters, required, template_parameters, bases, traits, access FROM symbols",
        "references": f"SELECT {path.format('refs')}, kind, name, written, line, inside, refs.target, refs.how,"
        " context, operands, links.target, links.how FROM refs LEFT JOIN links ON links.ref = refs.id",
        "links of none": "SELECT count(*) FROM links WHERE ref NOT IN (SELECT id FROM refs)",
        "contexts": f"SELECT {path.format('contexts')}, number, scope, usings FROM contexts",
        "dependencies": f"SELECT {path.format('dependencies')}, name FROM dependencies",
        "unlinked": "SELECT * FROM unlinked",
        "macros": "SELECT path, name, parameters, body FROM macros",
        "problems": f"SELECT {path.format('problems')}, line, message FROM problems",
        "chunks": f"SELECT {path.format('chunks')}, id, first_line, last_line, title, text, symbol, words_digest"
        " FROM chunks",
        "vectors": "SELECT name, chunks.id, vector FROM vectors JOIN embedders ON embedders.id = key >> 40"
        " JOIN chunks ON chunks.rowid = key & ((1 << 40) - 1)",
        "vectors of none": "SELECT count(*) FROM vectors WHERE key & ((1 << 40) - 1) NOT IN (SELECT rowid FROM chunks)",
        "units": "SELECT count(*) FROM units",
        "notes": "SELECT key, value FROM meta WHERE key IN ('commit', 'dirty', 'facts', 'macros') AND value <> ''",
    }
    index._database.run("CREATE VIRTUAL TABLE IF NOT EXISTS temp.told USING fts5vocab(main, commit_words, instance)")
    return {
        **{name: sorted(rows(sql), key=repr) for name, sql in tables.items()},
        "words": words_of(index),
        "words of commits": sorted(
            rows("SELECT hash, col, told.offset, term FROM temp.told JOIN commits ON commits.id = doc"), key=repr
        ),
        "history": history_of(index),
        "found": contents(index),
    }


TestFreshness = pytest.mark.slow(Freshness.TestCase)
TestFreshness.settings = settings(
    max_examples=max(1, STEPS // STEPS_OF_ONE) if STEPS else 4,
    stateful_step_count=STEPS_OF_ONE if STEPS else 6,
    deadline=None,
    phases=[Phase.generate] if STEPS else list(Phase),  # to make a failure smaller takes as long as the steps
    suppress_health_check=list(HealthCheck),
)
