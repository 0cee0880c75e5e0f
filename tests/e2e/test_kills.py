"""kill -9 while an index is written, carried to Chroma, migrated, seeded and its Chroma exchanged: nothing is missing
afterwards, nothing is too much, and whoever comes next goes on from there. With Chroma itself, in processes of its own.

Some exact points run with the suite. ``FRESHNESS_KILLS=50 pytest -s --timeout=0 -o faulthandler_timeout=0
tests/e2e/test_kills.py`` kills a larger index at that many moments by chance, and prints how long opening it took
afterwards.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.laws.test_freshness_laws import rows_of
from tests.support.crashes import SOURCE, WORKS, work
from tests.support.formats import to_format_3
from tests.support.trees import write_tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX"),
]

KILLS = int(os.environ.get("FRESHNESS_KILLS", "0"))
FILES = 100 if KILLS else 12
LIMIT_S = 300.0
UNIT = (
    "/// Counts {0} things.\nint count_{0}(int x) {{\n  return x + helper_{0}(x);\n}}\n\nclass Thing{0} : Base {{}};\n"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree, its index in "data" with all of it in Chroma, that of a sibling, and what one made afresh holds."""
    base = tmp_path_factory.mktemp("kills")
    files: dict[str, str | bytes] = {f"src/{n}.cc": UNIT.format(n) * 3 for n in range(FILES)}
    write_tree(base / "tree", files)
    write_tree(base / "sibling", {**files, "src/0.cc": "int other;\n", "src/gone.cc": "int gone;\n"})
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "sibling", base / "sibling") as index:
        refresh(index, Options(workers=1, carry=False), (SOURCE,))
    work(base / "data", base / "tree", "index")
    work(base / "data", base / "tree", "carry")
    return base


def killed(base: Path, what: str, when: dict[str, float]) -> bool:
    """Whether it was still at work."""
    told = {"data": str(base / "data"), "root": str(base / "tree"), "what": what, **when}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.crashes", json.dumps(told)],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode != 0


def changed(base: Path, number: int) -> None:
    """A fifth of the tree is other than it was: deletions, files that are new, and changes."""
    for n in range(number % 5, FILES, 5):
        write_tree(base / "tree", {f"src/{n}.cc": UNIT.format(f"{n}_{number}") * (1 + number % 3)})
    (base / "tree" / f"src/{number % FILES}.cc").unlink(missing_ok=True)
    write_tree(base / "tree", {f"src/new{number}.cc": UNIT.format(f"new{number}")})


def left_to(what: str, base: Path) -> None:
    """Brings about what is to be done."""
    if what == "carry":
        work(base / "data", base / "tree", "index")
    elif what == "migrate":
        to_format_3(base / "data" / "workspaces" / "w" / "index.db")


def check_whole(base: Path) -> float:
    """The next run makes the index equal to one made afresh. Returns the seconds it took to open it as it was left."""
    data = DataFolder(base / "data")
    began = perf_counter()
    with data.owned():
        data.sweep()
        with Index.for_writing(data, "w", base / "tree") as index:
            opened = perf_counter() - began
            assert index.problems() == []
            refresh(index, Options(workers=1), (SOURCE,))
            index.unseal()
            index.reconcile()
            drift = index.drift(SOURCE.name)
            assert (drift.in_chroma, drift.missing, drift.orphans) == (drift.in_table, 0, 0)
            assert not index.waits_for_chroma()
            rows = rows_of(index)
    afresh = DataFolder(base / "fresh")
    with afresh.owned(), Index.for_writing(afresh, "w", base / "tree") as index:
        refresh(index, Options(workers=1, carry=False), (SOURCE,))
        expected = rows_of(index)
    shutil.rmtree(afresh.path)
    assert rows == expected
    left = {path.name for path in data.workspace_folder("w").iterdir()}
    assert left <= {"chroma", "index.db", "index.db-wal", "index.db-shm", "workspace.json"}
    return opened


@pytest.mark.skipif(KILLS > 0, reason="moments by chance are asked for")
@pytest.mark.parametrize(
    ("what", "step"), [("index", 5), ("carry", 6), ("swap", 12), ("migrate", 1), ("seed", 9)], ids=WORKS
)
def test_what_was_killed_at_a_step_is_whole_after_the_next_run(prepared: Path, what: str, step: int) -> None:
    changed(prepared, step)
    left_to(what, prepared)
    assert killed(prepared, what, {"steps": step})
    check_whole(prepared)


@pytest.mark.skipif(not KILLS, reason="set FRESHNESS_KILLS to how many")
def test_what_was_killed_at_a_moment_by_chance_is_whole_after_the_next_run(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(9)
    longest: dict[str, float] = dict.fromkeys(WORKS, 0.5)
    died, slowest = 0, 0.0
    for number in range(KILLS):
        what = WORKS[number % len(WORKS)]
        changed(prepared, number)
        left_to(what, prepared)
        began = perf_counter()
        seconds = chance.uniform(0.0, longest[what])
        if killed(prepared, what, {"seconds": seconds}):
            died += 1
        else:
            longest[what] = max(0.02, min(longest[what], perf_counter() - began, seconds * 1.1))
        slowest = max(slowest, check_whole(prepared))
    with capsys.disabled():
        sys.stdout.write(f"\n{died} of {KILLS} died at work; the slowest opening afterwards took {slowest:.2f} s\n")
    assert died > KILLS // 2
