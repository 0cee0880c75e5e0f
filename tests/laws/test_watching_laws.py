"""Laws of watching: whatever happens to a tree, what differs afterwards was hinted at, and nothing outside ever is."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer.files import FileRules, scan
from indexer.watcher import Hints, Mode, Options, Watcher, Why
from indexer.watcher.gathering import Gathering
from tests.support.watching import QUICK, kernel_watches, settled

FOLDERS = ["", "a", "a/b", "a/b/c", "d", "d/e", ".hidden", "node_modules"]
FILES = [f"{folder}/{name}".lstrip("/") for folder in FOLDERS[:6] for name in ("x.cc", "y.h")] + ["a/z.bin"]
Step = tuple[str, str, str]

steps = st.one_of(
    st.tuples(
        st.sampled_from(["write", "save", "vim", "append", "delete", "chmod", "keep"]),
        st.sampled_from(FILES),
        st.just(""),
    ),
    st.tuples(st.sampled_from(["move"]), st.sampled_from(FILES), st.sampled_from(FILES)),
    st.tuples(st.sampled_from(["folder", "remove", "out", "in", "link"]), st.sampled_from(FOLDERS[1:]), st.just("")),
    st.tuples(st.sampled_from(["carry"]), st.sampled_from(FOLDERS[1:]), st.sampled_from(FOLDERS[1:])),
)


class Hand:
    """Does to a tree what people and programs do. Every text is longer than all before: sizes tell them apart."""

    def __init__(self, root: Path, outside: Path) -> None:
        self.root, self.outside, self.written = root, outside, 0

    def text(self) -> str:
        self.written += 1
        return "int a;\n" * self.written

    def does(self, step: Step) -> None:
        what, first, second = step
        path = self.root / first
        with suppress(OSError, shutil.Error):  # what is not possible as the tree is does not happen
            getattr(self, "_" + what)(path, self.root / second)

    def _write(self, path: Path, _: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(), encoding="utf-8")

    def _save(self, path: Path, _: Path) -> None:
        other = path.with_name(".saving")
        other.write_text(self.text(), encoding="utf-8")
        other.rename(path)

    def _vim(self, path: Path, _: Path) -> None:
        backup = path.with_name(path.name + "~")
        path.rename(backup)
        path.write_text(self.text(), encoding="utf-8")
        backup.unlink()

    def _append(self, path: Path, _: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(self.text())

    def _delete(self, path: Path, _: Path) -> None:
        path.unlink()

    def _chmod(self, path: Path, _: Path) -> None:
        path.chmod(0o600)

    def _keep(self, path: Path, _: Path) -> None:
        text = path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")

    def _move(self, path: Path, to: Path) -> None:
        path.rename(to)

    def _folder(self, path: Path, _: Path) -> None:
        path.mkdir(parents=True)
        (path / "x.cc").write_text(self.text(), encoding="utf-8")

    def _remove(self, path: Path, _: Path) -> None:
        shutil.rmtree(path)

    def _carry(self, path: Path, to: Path) -> None:
        path.rename(to)

    def _out(self, path: Path, _: Path) -> None:
        path.rename(self.outside / "away")
        (self.outside / "away" / "x.cc").write_text(self.text(), encoding="utf-8")

    def _in(self, path: Path, _: Path) -> None:
        (self.outside / "away").rename(path)
        (path / "y.h").write_text(self.text(), encoding="utf-8")

    def _link(self, path: Path, _: Path) -> None:
        path.symlink_to(self.outside)


def contents(root: Path) -> dict[str, bytes]:
    found = scan(root, FileRules()).candidates
    return {file.path: blake2b((root / file.path).read_bytes()).digest() for file in found}


@contextmanager
def watched() -> Iterator[tuple[Hand, Watcher, Watcher]]:
    with TemporaryDirectory() as place:
        root, outside = Path(place, "root"), Path(place, "outside")
        root.mkdir()
        outside.mkdir()
        for path in FILES:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path, encoding="utf-8")
        with Watcher(root, options=QUICK) as told, Watcher(root, options=QUICK_POLLING) as polled:
            assert told.standing().mode is Mode.INOTIFY
            assert polled.standing().mode is Mode.POLLING
            yield Hand(root, outside), told, polled


QUICK_POLLING = Options(quiet_s=QUICK.quiet_s, most_s=QUICK.most_s, poll_s=0.005, polls=True)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(steps, max_size=6), min_size=1, max_size=3))
@example([[("carry", "a", "d/e"), ("write", "d/e/b/x.cc", "")], [("write", "d/e/b/c/x.cc", "")]])
@example([[("out", "a", "")], [("in", "d/e", "")], [("append", "d/e/x.cc", "")]])
@example([[("remove", "a", ""), ("folder", "a/b/c", ""), ("write", "a/b/y.h", "")], [("vim", "a/b/y.h", "")]])
@example([[("remove", "d", ""), ("link", "d", ""), ("save", "d/x.cc", "")]])
@example([[("folder", "f", ""), ("carry", "a", "d/a"), ("carry", "d", "a")], [("save", "a/a/b/y.h", "")]])
def test_whatever_differs_was_hinted_at_by_notices_and_by_polling(batches: list[list[Step]]) -> None:
    with watched() as (hand, told, polled):
        for watcher in (told, polled):
            settled(watcher, hand.root)
        for batch in batches:
            before = contents(hand.root)
            for step in batch:
                hand.does(step)
            after = contents(hand.root)
            different = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
            by_notices, by_looking = settled(told, hand.root), settled(polled, hand.root)
            for path in sorted(different):
                assert covered(path, by_notices), (path, by_notices)
                assert covered(path, by_looking), (path, by_looking)
            for hints in by_looking:  # what a look finds, a notice told: the other way round some changes were undone
                named = [*hints.paths, *(folder + "/x.cc" for folder in hints.folders)]
                unsaid = [path for path in named if not covered(path, by_notices)]
                assert [path for path in unsaid if not path.startswith("sign")] == []
            for hints in (*by_notices, *by_looking):
                assert not hints.everything, hints
                for path in hints.paths | hints.folders:
                    assert path == os.path.normpath(path)
                    assert not path.startswith(("/", ".", "node_modules"))
        watches = told.standing().watches
        assert watches == kernel_watches() == told.standing().folders == polled.standing().folders


def covered(path: str, hints: list[Hints]) -> bool:
    return any(hint.cover(path) for hint in hints)


def done(gathering: Gathering, what: str, path: str, now: float) -> None:
    if what == "file":
        gathering.file(path, now)
    elif what == "folder":
        gathering.folder(path, now)
    elif what == "everything":
        gathering.everything(Why.HEAD, now)
    elif what != "take":
        gathering.lock(what == "lock", now)


calls = st.lists(
    st.tuples(
        st.sampled_from(["file", "folder", "everything", "lock", "unlock", "take"]),
        st.sampled_from(["a.cc", "b.cc", "c/d.cc"]),
        st.integers(0, 40).map(lambda tenths: tenths / 10),
    ),
    max_size=40,
)


@given(calls, st.integers(1, 4))
def test_nothing_noticed_is_lost_and_nothing_waits_beyond_its_time(
    made: list[tuple[str, str, float]], burst: int
) -> None:
    options = Options(burst=burst)
    gathering, now = Gathering(options), 0.0
    told: list[Hints] = []
    noticed: list[tuple[str, int]] = []  # with how many hints were handed out before
    for what, path, after in made:
        now += after
        done(gathering, what, path, now)
        if what in {"file", "folder"}:
            noticed.append((path if what == "file" else path + "/x", len(told)))
        due = gathering.due()
        if due is not None:
            assert due <= now + options.most_s + options.lock_s
        hints = gathering.take(now) if what == "take" else None
        if hints:
            told.append(hints)
            assert hints.everything != bool(hints.paths or hints.folders)
            assert len(hints.paths) + len(hints.folders) <= burst
            assert hints.head == (Why.HEAD in hints.why)
            assert gathering.due() is None
    last = gathering.due()
    if last is not None:
        hints = gathering.take(last)
        assert hints is not None
        told.append(hints)
    for path, index in noticed:
        assert covered(path, told[index:])
