"""Ctrl-C and kill -9 in the middle of indexing: what is finished is kept, and the next run makes the index whole.

The real command in a process of its own, stopped at exact points: it reports its stages on stderr, and a small program
around it can hold it at a step until it is killed.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import IO

import pytest

from indexer.index import DataFolder, Index
from indexer.pipeline import EMBED_BATCH, EmbedderSource
from tests.support.command import COMMAND, LIMIT_S, environment, run, run_here
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import contents, index_of, write_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

FILES = 150
WAIT_S = 60.0  # for the next word of a command; a test may take twice as long
SOURCE = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
WITH_ENCODER = {"CODEHUB_EMBEDDINGS": "minilm"}

# The command with an embedder that needs no model. "stage:number" holds it there: it says so and waits to be ended.
_HELD = '''
import multiprocessing
import sys
import indexer.embedding
from hub import indexing
from hub.cli import main, progress
from indexer import parsing
from indexer.carrying import Carrier
from indexer.symbol_table.table import SymbolTable
from tests.support.fake_embedder import FakeEmbedder

indexer.embedding.MiniLmEmbedder = FakeEmbedder
indexer.embedding.MINILM_NAME = FakeEmbedder().name
indexing.instant_sources = lambda _settings: ()
point, _, number = sys.argv.pop(1).partition(":")

def hold():
    print("HELD", file=sys.stderr, flush=True)
    sys.stdin.read()

def hears_ctrl_c(pid):
    """Whether Python has begun there and has its handler, which raises KeyboardInterrupt wherever it is."""
    try:
        status = open(f"/proc/{pid}/status").read()
    except OSError:
        return True
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) & 2)

def held_before(owner, name):
    real, calls = getattr(owner, name), []
    def wrapped(*arguments, **more):
        calls.append(1)
        if len(calls) == int(number):
            hold()
        return real(*arguments, **more)
    setattr(owner, name, wrapped)

lines = progress._lines
def _lines():
    report = lines()
    def reporting(stage, done, total):
        report(stage, done, total)
        if stage == point and done >= int(number):
            hold()
    return reporting
progress._lines = _lines
for owner, name in ((SymbolTable, "_write_chunks"), (SymbolTable, "clear_outbox"), (Carrier, "_apply"),
                    (SymbolTable, "store_vectors"), (SymbolTable, "_drop_chunks")):
    if point == name:
        held_before(owner, name)
if point == "first parser":
    submit = parsing._submit
    held = []
    def submit_and_hold(*arguments):
        future = submit(*arguments)
        if held:
            return future
        held.append(True)
        (child,) = multiprocessing.active_children()
        while not hears_ctrl_c(child.pid):
            pass
        hold()
        return future
    parsing._submit = submit_and_hold
if __name__ == "__main__":
    sys.exit(main())
'''


def many_files() -> dict[str, str | bytes]:
    """One chunk each, and large enough together to be parsed in other processes."""
    return {f"f{n:03}.cc": f"/* {f'file {n} ' * 300}*/ int v{n};\n" for n in range(FILES)}


class Running:
    """A command under way in a session of its own, as one started from a terminal."""

    def __init__(self, program: list[str], data: Path, settings: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", *program],
            env=environment(data, settings),
            cwd=data.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.said = b""

    def wait_for(self, text: str) -> None:
        """Until stderr says so; fails when the command ends before or the time is up."""
        stream = self._stderr()
        while text.encode() not in self.said:
            ready, _, _ = select([stream], [], [], WAIT_S)
            part = os.read(stream.fileno(), 65_536) if ready else b""
            assert part, f"waited in vain for {text!r}: {self.said.decode()}"
            self.said += part

    def press_ctrl_c(self) -> None:
        """The terminal sends it to every process of the command."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Ends only the command itself, as the kernel does when memory is short."""
        self.process.send_signal(signal.SIGKILL)

    def let_go(self) -> None:
        """Lets a command that is held go on."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def end(self) -> int:
        """The exit code, once the command and everything that holds its stderr have ended."""
        stream = self._stderr()
        while True:
            ready, _, _ = select([stream], [], [], WAIT_S)
            assert ready, f"a process outlives the command: {self.said.decode()}"
            part = os.read(stream.fileno(), 65_536)
            if not part:
                return self.process.wait(LIMIT_S)
            self.said += part

    def _stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr


@contextmanager
def running(program: list[str], data: Path, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
    command = Running(program, data, settings or WITH_ENCODER)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


def held(base: Path) -> dict[str, object]:
    with Index.for_reading(DataFolder(base / "data"), "tree") as index:
        return contents(index)


def afresh(base: Path) -> dict[str, object]:
    index_of(base / "tree", base / "fresh", SOURCE)
    with Index.for_reading(DataFolder(base / "fresh"), "w") as index:
        return contents(index)


def kept_files(base: Path) -> set[str]:
    with Index.for_reading(DataFolder(base / "data"), "tree") as index:
        return set(index.table.known_files())


def check_whole(base: Path) -> None:
    """Equal to an index made afresh, with nothing missing from Chroma and nothing too much in it."""
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "tree", base / "tree") as index:
        assert index.problems() == []
        assert index.table.outbox_depth() == 0
        drift = index.drift(SOURCE.name)
        assert (drift.in_chroma, drift.missing, drift.orphans) == (drift.in_table, 0, 0)
    assert held(base) == afresh(base)


# Ctrl-C


def test_ctrl_c_while_parsing_keeps_the_finished_files_and_the_next_run_goes_on(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", many_files())
    with running([_HELD, "parse:100", "index", str(root)], tmp_path / "data") as command:
        command.wait_for("HELD\n")
        command.press_ctrl_c()
        command.wait_for("Stopping after the files under way")
        command.let_go()
        assert command.end() == 130, command.said.decode()
    said = command.said.decode()
    assert "codehub: Stopped; everything finished so far is kept.\n  Run the same command" in said
    assert "Traceback" not in said
    assert "crashed" not in said
    kept = kept_files(tmp_path)
    assert 100 <= len(kept) < FILES
    report = run_here(["index", root, "--json", "--no-vectors"], tmp_path / "data").json()
    assert (report["files"], report["changed"]) == (FILES, FILES - len(kept))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc for the right moment")
def test_ctrl_c_while_a_parser_starts_does_not_look_like_a_crash(tmp_path: Path) -> None:
    """The terminal sends it to the starting process too, long before that can say that it does not want it."""
    root = write_tree(tmp_path / "tree", many_files())
    with running([_HELD, "first parser", "index", str(root)], tmp_path / "data") as command:
        command.wait_for("HELD\n")
        command.press_ctrl_c()
        command.wait_for("Stopping after the files under way")
        command.let_go()
        assert command.end() == 130, command.said.decode()
    assert "Traceback" not in command.said.decode()
    kept = kept_files(tmp_path)
    assert kept, "the parser that was starting has done its work"


@pytest.mark.slow
def test_ctrl_c_while_the_real_model_embeds_keeps_the_vectors_that_are_done(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {f"f{n:03}.cc": f"int number_{n};\n" for n in range(3 * EMBED_BATCH)})
    data = tmp_path / "data"
    with running([COMMAND, "index", str(root)], data) as command:
        command.wait_for("computing vectors (search works already): 192\n")
        assert run_here(["symbol", "number_7"], data).code == 0, "text and symbols can be searched while vectors follow"
        command.press_ctrl_c()
        assert command.end() == 130, command.said.decode()
    assert "Traceback" not in command.said.decode()
    state = run_here(["status", "--json"], data, WITH_ENCODER).json()["workspaces"][0]
    assert state["files"] == 3 * EMBED_BATCH
    assert state["waiting_for_vectors"] % EMBED_BATCH == 0
    report = run(["index", root, "--json"], data, WITH_ENCODER).json()
    assert (report["changed"], report["embedded"]) == (0, state["waiting_for_vectors"])
    assert report["waiting_for_vectors"] == 0
    assert run_here(["repair", "--json"], data).json()["repairs"][0]["done"] == "nothing to mend"


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", many_files())
    with running([_HELD, "parse:100", "index", str(root)], tmp_path / "data") as command:
        command.wait_for("HELD\n")
        command.press_ctrl_c()
        command.wait_for("Stopping after the files under way")
        command.press_ctrl_c()
        assert command.end() == 130, command.said.decode()
    assert command.said.decode().endswith("codehub: Stopped.\n")
    kept = kept_files(tmp_path)
    assert 64 <= len(kept) < FILES
    report = run_here(["index", root, "--json", "--no-vectors"], tmp_path / "data").json()
    assert (report["files"], report["changed"]) == (FILES, FILES - len(kept))


# Kill


@pytest.mark.slow
def test_a_command_that_is_killed_anywhere_and_again_is_made_whole_by_the_next_run(tmp_path: Path) -> None:
    """Each round goes on where the one before was killed; edits leave something to take out of both stores."""
    root = write_tree(tmp_path / "tree", many_files())
    finished: set[str] = set()
    for point in (
        "parse:1",
        "_write_chunks:100",
        "store_vectors:1",
        "embed:64",
        "_apply:1",
        "clear_outbox:1",
        "_drop_chunks:1",
        "clear_outbox:2",
    ):
        with running([_HELD, point, "index", str(root)], tmp_path / "data") as command:
            command.wait_for("HELD\n")
            command.kill()
            assert command.end() == -signal.SIGKILL
        if point != "parse:1":  # at the first outcome nothing is written yet, not even the file's tables
            assert finished <= kept_files(tmp_path), f"killed at {point}: a finished file is gone"
            finished = kept_files(tmp_path)
        if point in {"_apply:1", "clear_outbox:1"}:
            write_tree(root, {f"f{n:03}.cc": f"int changed_before_{point[:5]}_{n};\n" for n in range(5)})
    assert len(finished) == FILES
    with running([_HELD, "never:0", "index", str(root)], tmp_path / "data") as command:
        assert command.end() == 0
    check_whole(tmp_path)


def test_nothing_outlives_a_command_that_was_killed(tmp_path: Path) -> None:
    """Its parsers hold its stderr, so that their end shows there; and the data folder is free again."""
    root = write_tree(tmp_path / "tree", many_files())
    with running([_HELD, "parse:1", "index", str(root)], tmp_path / "data") as command:
        command.wait_for("HELD\n")
        command.kill()
        assert command.end() == -signal.SIGKILL
    with DataFolder(tmp_path / "data").owned():
        pass


def test_repair_alone_brings_chroma_up_after_a_kill_between_the_stores(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", many_files())
    with running([_HELD, "clear_outbox:1", "index", str(root)], tmp_path / "data") as command:
        command.wait_for("HELD\n")
        command.kill()
        assert command.end() == -signal.SIGKILL
    repaired = run_here(["repair", "--json"], tmp_path / "data")
    assert repaired.json() == {"repairs": [{"workspace": "tree", "done": f"{FILES} waiting entries brought to Chroma"}]}
    check_whole(tmp_path)
