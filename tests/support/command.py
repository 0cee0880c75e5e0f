"""Runs the ``codehub`` command with a closed environment: in a process of its own as its users do, or in this one."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from agents.command import main

ROOT = Path(__file__).parent.parent.parent
COMMAND = "import sys; from agents.command import main; sys.exit(main())"
# Another user may not be able to read this one's Python, so what is needed is loaded before.
_COMMAND_AS = """
import encodings.utf_8_sig, os, sys, filelock, numpy, agents.command, hub.cli.upkeep
user = int(sys.argv.pop(1))
os.setgroups([]); os.setgid(user); os.setuid(user)
sys.exit(agents.command.main())
"""
LIMIT_S = 110.0  # below the limit of a test, so that a command that hangs is reported with what it printed
_KEPT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one object on stdout; anything else there is an error."""
        return json.loads(self.out)


def environment(data: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of the user's own but the path; no language model, and no process that outlives the command, unless the
    settings say so.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    here = {"HOME": str(data.parent), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "COLUMNS": "120"}
    return {
        **kept,
        **here,
        "CODEHUB_DATA": str(data),
        "CODEHUB_BACKEND": "none",
        "CODEHUB_INDEX_BACKGROUND": "0",
        "CODEHUB_WATCH_ENABLED": "0",
        **(settings or {}),
    }


def run(
    arguments: Sequence[str | Path],
    data: Path,
    settings: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
) -> Done:
    """Runs one command to its end; ``user`` is a user id to run ``index`` as, which needs root."""
    program = [COMMAND] if user is None else [_COMMAND_AS, str(user)]
    done = subprocess.run(
        [sys.executable, "-c", *program, *map(str, arguments)],
        capture_output=True,
        env=environment(data, settings),
        cwd=cwd or data.parent,
        timeout=LIMIT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def run_here(
    arguments: Sequence[str | Path], data: Path, settings: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Done:
    """The same in this process, which has imported by then what takes a new one a second: for all but what is true of
    processes, such as signals, users and terminals.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment(data, settings), clear=True),
        contextlib.chdir(cwd or data.parent),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main([*map(str, arguments)])
        except SystemExit as end:  # argparse has said what is wrong
            code = end.code if isinstance(end.code, int) else 1
    for stream in (out, err):
        stream.flush()
    said = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
    return Done(code, *said)


_HOLD = """
import sys
from pathlib import Path
from indexer.index import DataFolder
with DataFolder(Path(sys.argv[1])).owned():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(data: Path) -> Iterator[int]:
    """The process id of one that owns the folder meanwhile."""
    command = [sys.executable, "-c", _HOLD, str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other.pid
        other.stdin.close()
        assert other.wait(60) == 0
