"""A disk that is full, or cannot be written, while an index is written, carried, migrated, seeded and its Chroma
exchanged: it is told in a sentence, nothing is lost, and the next run goes on once there is room.

By hand, on a small file system that may be filled:
``mount -t tmpfs -o size=24m none DIR && FRESHNESS_DISK=DIR pytest -s tests/e2e/test_full_disk.py``.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.errors import DataFolderError
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.e2e.test_kills import check_whole, left_to
from tests.support.crashes import SOURCE, WORKS, work
from tests.support.trees import write_tree

DISK = os.environ.get("FRESHNESS_DISK", "")
FILES = 150
ROOMS = (0, 8, 16, 32, 64, 128, 256, 512, 1024)  # KiB that are left
UNIT = (
    "/// Counts {0} things.\nint count_{0}(int x) {{\n  return x + helper_{0}(x);\n}}\n\nclass Thing{0} : Base {{}};\n"
)
pytestmark = pytest.mark.skipif(not DISK, reason="set FRESHNESS_DISK to a small file system")


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """The data folder lies on the small file system, the trees and what is compared with do not."""
    disk = Path(DISK)
    for left in disk.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    (disk / "data").mkdir()
    (tmp_path / "data").symlink_to(disk / "data")
    files: dict[str, str | bytes] = {f"src/{n}.cc": UNIT.format(n) * 3 for n in range(FILES)}
    write_tree(tmp_path / "tree", files)
    write_tree(tmp_path / "sibling", {**files, "src/0.cc": "int other;\n"})
    data = DataFolder(tmp_path / "data")
    with data.owned(), Index.for_writing(data, "sibling", tmp_path / "sibling") as index:
        refresh(index, Options(workers=1, carry=False), (SOURCE,))
    work(tmp_path / "data", tmp_path / "tree", "index")
    work(tmp_path / "data", tmp_path / "tree", "carry")
    yield tmp_path
    (disk / "filler").unlink(missing_ok=True)


def filled(room_kib: int) -> None:
    """Leaves that much room."""
    disk = Path(DISK)
    with (disk / "filler").open("wb") as file:
        left = max(0, shutil.disk_usage(disk).free - (room_kib << 10))
        os.posix_fallocate(file.fileno(), 0, left) if left else None


@pytest.mark.parametrize("what", WORKS)
def test_a_full_disk_is_told_and_the_next_run_goes_on(
    base: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    for number, room in enumerate(ROOMS):
        for n in range(number % 3, FILES, 3):
            write_tree(base / "tree", {f"src/{n}.cc": UNIT.format(f"{n}_{number}") * (1 + number % 3)})
        left_to(what, base)
        filled(room)
        try:
            work(base / "data", base / "tree", what)
            told.append(f"{room} KiB: went well")
        except DataFolderError as error:
            told.append(f"{room} KiB: {error.message} {error.hint}")
        (Path(DISK) / "filler").unlink()
        check_whole(base)
    with capsys.disabled():
        sys.stdout.write("\n" + what + "\n" + "\n".join(told) + "\n")
