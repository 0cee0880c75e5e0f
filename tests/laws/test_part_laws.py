"""Looking only where something changed equals looking everywhere: of a tree on disk, and of an index row by row.

With PART_EXAMPLES=200 in the environment it takes minutes and tries as many courses of events.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from indexer.files import IGNORE_FILES, FileRules, Part, Scan, scan
from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import EmbedderSource, Options, refresh
from tests.laws.test_refresh_laws import BLOCKS, TEXTS, TICK_NS, changed, words_of
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import contents, write_tree

FOLDERS = ["", "sub", "sub/deep", "other", ".hidden", "build", "sub/build", "CMakeFiles"]
NAMES = ["a.cc", "b.h", "c.cc", "d.md", "e.hpp", "a", "sub.cc", ".f.cc", "g.pb.h"]
PATHS = st.builds(lambda folder, name: f"{folder}/{name}".lstrip("/"), st.sampled_from(FOLDERS), st.sampled_from(NAMES))
RULES = st.lists(
    st.sampled_from(
        ["build/", "*.md", "!d.md", "/a.cc", "sub/*.h", "!sub/b.h", "deep", "*", "!*/", "!*.cc", "a*", "**/e.hpp", ""]
    ),
    max_size=3,
).map("\n".join)
IGNORING = st.sampled_from([".gitignore", "sub/.gitignore", "sub/.codehubignore", ".git/info/exclude"])
EXAMPLES = int(os.environ.get("PART_EXAMPLES", "8"))
PLACES = st.integers(0, 60)  # taken modulo what there is
SOURCES = tuple(
    EmbedderSource(name, partial(FakeEmbedder, name)) for name in ("static-fake/16", "fake/16")
)  # one that parsing makes the vectors of, and one that comes afterwards


def remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def make_room(root: Path, path: str) -> Path:
    """A place where something new can stand: what is a file above it, or stands there, goes."""
    place = root / path
    for above in reversed(place.parents):
        if above.is_relative_to(root) and above != root and (above.is_symlink() or above.is_file()):
            remove(above)
    remove(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


# Of a tree


def written(root: Path, files: Iterable[str], ignoring: dict[str, str], links: Iterable[tuple[str, str]]) -> None:
    for path in files:
        make_room(root, path).write_text("int x;\n", encoding="utf-8")
    for path, rules in ignoring.items():
        make_room(root, path).write_text(rules, encoding="utf-8")
    for path, target in links:
        with suppress(OSError):
            make_room(root, path).symlink_to(root / target)


def of_part(found: Scan, part: Part) -> Scan:
    def named(path: str) -> bool:
        return any(path == place or path.startswith(f"{place}/") for place in part.places)

    return Scan(
        tuple(candidate for candidate in found.candidates if named(candidate.path)),
        tuple(skipped for skipped in found.skipped if named(skipped[0])),
        found.problems,
    )


@given(
    st.lists(PATHS, max_size=12),
    st.dictionaries(IGNORING, RULES, max_size=3),
    st.lists(st.tuples(PATHS, PATHS), max_size=2),
    st.frozensets(PATHS, max_size=4),
    st.frozensets(st.sampled_from([*FOLDERS[1:], "sub/a.cc", "missing", "..", "sub/.."]), max_size=2),
    st.sampled_from([(), ("other/",), ("*.hpp", "!sub/")]),
)
@settings(max_examples=10 * EXAMPLES, deadline=None)
def test_of_a_part_the_same_is_seen_as_when_the_whole_tree_is_walked(
    files: list[str],
    ignoring: dict[str, str],
    links: list[tuple[str, str]],
    paths: frozenset[str],
    folders: frozenset[str],
    exclude: tuple[str, ...],
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        written(root, files, ignoring, links)
        part, rules = Part(paths, folders), FileRules(exclude=exclude)
        seen = scan(root, rules, part)
        event("something is seen" if seen.candidates else "nothing is seen")
        assert seen == of_part(scan(root, rules), part)


@pytest.mark.parametrize(
    "paths",
    [[""], ["."], [".gitignore"], ["sub/.codehubignore"], [".git/info/exclude"], [".git"], ["a.cc", "x/.gitignore"]],
)
def test_what_may_change_the_meaning_of_other_places_asks_for_everything(paths: list[str]) -> None:
    assert Part(frozenset(paths)).everything
    assert Part(folders=frozenset(paths)).everything
    assert not Part(frozenset({"a.cc", "sub/.gitignored", ".github/x.md"}), frozenset({"sub"})).everything


# Of an index


class Entry(NamedTuple):
    kind: str
    size: int
    time_ns: int
    text: bytes


def entries(root: Path) -> dict[str, Entry]:
    """Everything below a root, as far as a change of it could matter."""
    found = {}
    for place in root.rglob("*"):
        status = place.lstat()
        kind = "link" if place.is_symlink() else "folder" if place.is_dir() else "file"
        text = place.read_bytes() if kind == "file" else str(place.readlink()).encode() if kind == "link" else b""
        time_ns = status.st_mtime_ns if kind == "file" else 0
        found[place.relative_to(root).as_posix()] = Entry(kind, len(text), time_ns, text)
    return found


def part_of(before: dict[str, Entry], after: dict[str, Entry], how: str) -> Part:
    """What changed, told as a watcher might: each path, or whole folders, or the folder that it stands in."""
    places = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    folders = {path for path in places if "folder" in {each[path].kind for each in (before, after) if path in each}}
    if how == "each path":
        return Part(frozenset(places))
    topmost = {path for path in folders if not any(path.startswith(f"{other}/") for other in folders)}
    rest = {path for path in places - folders if not any(path.startswith(f"{other}/") for other in topmost)}
    ignoring = {path for path in rest if path.rpartition("/")[2] in IGNORE_FILES}
    if how == "folders" or any("/" not in path for path in rest):
        return Part(frozenset(rest), frozenset(topmost))
    return Part(frozenset(ignoring), frozenset(topmost | {path.rpartition("/")[0] for path in rest - ignoring}))


EDITS = st.one_of(
    st.tuples(st.just("write"), PLACES, PATHS, TEXTS),
    st.tuples(st.just("insert a block"), PLACES, PLACES, BLOCKS),
    st.tuples(st.just("insert a block"), PLACES, st.just(0), BLOCKS),
    st.tuples(st.just("cut a block"), PLACES, PLACES, st.just("")),
    st.tuples(st.just("change within a tick"), PLACES, PLACES, st.sampled_from("xyz")),
    st.tuples(st.just("delete"), PLACES, st.just(""), st.just("")),
    st.tuples(st.just("delete folder"), PLACES, st.just(""), st.just("")),
    st.tuples(st.just("rename"), PLACES, PATHS, st.just("")),
    st.tuples(st.just("rename folder"), PLACES, st.sampled_from(FOLDERS[1:]), st.just("")),
    st.tuples(st.just("link"), PLACES, PATHS, st.just("")),
    st.tuples(st.just("rules"), PLACES, IGNORING.filter(lambda path: ".git/" not in path), RULES),
)


class Parts(RuleBasedStateMachine):
    """One index that is told each time what changed, beside one made afresh."""

    @initialize(files=st.dictionaries(PATHS, TEXTS, min_size=4))
    def begin(self, files: dict[str, str]) -> None:
        self.folder = TemporaryDirectory()
        self.base = Path(self.folder.name).resolve()
        self.root = self.base / "tree"
        self.now_ns = 1_700_000_000_000_000_000
        self.fresh = 0
        self.how = "each path"
        for path, text in {"always.cc": "int always;\n", **files}.items():
            self._write(path, text)
        self.before = entries(self.root)
        with self._opened("data") as index:
            assert self._refresh(index).whole

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(
        edits=st.lists(EDITS, min_size=1, max_size=4),
        how=st.sampled_from(["each path", "folders", "folders of files"]),
        waits=st.booleans(),
    )
    def edit(self, edits: list[tuple[str, int, int | str, str]], how: str, waits: bool) -> None:
        for edit in edits:
            self._edit(*edit)
        self.how = how
        self.now_ns += 60_000_000_000 * waits

    @invariant()
    def the_index_equals_one_made_afresh(self) -> None:
        if not hasattr(self, "how"):
            return
        after = entries(self.root)
        part = part_of(self.before, after, self.how)
        self.before = after
        self.fresh += 1
        with self._opened(f"fresh{self.fresh}") as index:
            afresh = self._refresh(index)
            expected = (contents(index), words_of(index), rows_of(index))
        with self._opened("data") as index:
            report = self._refresh(index, part)
            event(f"whole: {report.whole}")
            assert report.whole == part.everything
            index.walk.keep()
            assert (contents(index), words_of(index), rows_of(index)) == expected
            assert totals(report) == totals(afresh)
            again = self._refresh(index, part)
            assert (again.changed, again.removed, again.embedded, totals(again)) == (0, 0, 0, totals(afresh))

    @contextmanager
    def _opened(self, name: str) -> Iterator[Index]:
        data = DataFolder(self.base / name)
        with data.owned(), Index.for_writing(data, "w", self.root) as index:
            yield index

    def _refresh(self, index: Index, part: Part | None = None) -> IndexReport:
        now = lambda: datetime.fromtimestamp(self.now_ns / 1e9, UTC)  # noqa: E731 - reads the clock that is made here
        options = Options(workers=1, now=now, part=part, graph=part is None, carry=False)
        return refresh(index, options, SOURCES)

    def _write(self, path: str, text: str, time_ns: int | None = None) -> None:
        self.now_ns += TICK_NS
        file = make_room(self.root, path)
        write_tree(file.parent, {file.name: text})
        os.utime(file, ns=(time_ns or self.now_ns, time_ns or self.now_ns))

    def _edit(self, kind: str, place: int, what: int | str, text: str) -> None:
        files = sorted(file for file in self.root.rglob("*.*") if file.is_file() and not file.is_symlink())
        folders = sorted(each for each in self.root.rglob("*") if each.is_dir() and not each.is_symlink())
        file, folder = files[place % len(files)], folders[place % len(folders)] if folders else None
        if kind.endswith("folder"):
            if folder is not None:
                self._edit_folder(folder, what)
        elif isinstance(what, int):
            self._edit_text(kind, file, what, text)
        elif kind == "write":
            self._write(what, text)
        elif kind == "rules":
            self._write(what, f"{text}\n!/always.cc\n")
        elif file.name != "always.cc" and what != "always.cc":
            self._edit_place(kind, file, what)

    def _edit_text(self, kind: str, file: Path, place: int, text: str) -> None:
        path, before = file.relative_to(self.root).as_posix(), file.read_text(encoding="utf-8")
        time_ns = file.stat().st_mtime_ns if kind == "change within a tick" else None
        if time_ns is None or self.now_ns - time_ns < 1_000_000_000:
            self._write(path, changed(kind, before, place, text), time_ns)

    def _edit_place(self, kind: str, file: Path, to: str) -> None:
        path = file.relative_to(self.root).as_posix()
        if kind == "delete":
            file.unlink()
        elif not is_within(path, to) and not is_within(to, path):
            place = make_room(self.root, to)
            if kind == "rename":
                file.rename(place)
            else:
                place.symlink_to(file)

    def _edit_folder(self, folder: Path, to: int | str) -> None:
        """Moves a folder, or deletes it where it is to go nowhere."""
        path = folder.relative_to(self.root).as_posix()
        if not to:
            remove(folder)
        elif not is_within(path, str(to)) and not is_within(str(to), path):
            folder.rename(make_room(self.root, str(to)))


def is_within(path: str, other: str) -> bool:
    return f"{path}/".startswith(f"{other}/")


def totals(report: IndexReport) -> tuple[int, ...]:
    return (
        *(report.files, report.lines, report.symbols, report.references, report.chunks),
        report.waiting_for_vectors,
    )


def rows_of(index: Index) -> list[object]:
    """The rows that nothing else compares: what links rest on, and what still waits to be made."""
    return [
        index._database.rows(statement)
        for statement in (
            "SELECT name, path FROM dependencies JOIN files ON files.id = file ORDER BY 1, 2",
            (
                "SELECT path, kind, name, line, links.target, links.how FROM links JOIN refs ON refs.id = ref"
                " JOIN files ON files.id = refs.file ORDER BY 1, 2, 3, 4, 5, 6"
            ),
            "SELECT path, number, scope, usings FROM contexts JOIN files ON files.id = file ORDER BY 1, 2",
            "SELECT path, name, parameters, body FROM macros ORDER BY 1, rowid",
            "SELECT file FROM unlinked",
            "SELECT key, value FROM meta WHERE key IN ('begun', 'facts', 'looked', 'macros') ORDER BY 1",
            # A link that leads nowhere, and a row of a file that is gone.
            "SELECT count(*) FROM links WHERE ref NOT IN (SELECT id FROM refs)",
            "SELECT count(*) FROM symbols WHERE file NOT IN (SELECT id FROM files)",
        )
    ]


TestParts = pytest.mark.slow(Parts.TestCase)
TestParts.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
