"""The git command where a stranger's files are touched: never with a stranger's settings, and never without a bound.

Git reads the settings of the repository that GIT_DIR names, and runs programs that those name: monitors, filters,
hooks, helpers. So it is only ever pointed at repositories that were made here. What a path or an object means to
whoever asks, this module does not know.
"""

import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agents.errors import TreeStateError
from indexer.history import git_environment

QUICK_S = 120.0  # what reads or compares; a first look at a tree of 150,000 files takes about 10 s
LONG_S = 600.0  # what writes a whole tree
PATIENCE_S = 2.0  # between asking git to end, so that it takes its locks away, and ending it
MOST_PRINTED = 64 << 20  # bytes; names of about a million files
MOST_COMPLAINT = 8 << 10
BLOCK_BYTES = 1 << 16

# Whatever a version of git makes of a setting that is missing in ours, nothing of it may name a program.
_HARMLESS = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat"),
    *("-c", "core.attributesFile=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
)
_CLOSED = {
    "HOME": "/dev/null",  # nothing of the user's own either: a filter may be his and read the repository's settings
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_EDITOR": "false",
    "GIT_ASKPASS": "false",
    "GIT_SSH_COMMAND": "false",
}


class GitFailed(Exception):
    """Git ended with an error; ``complaint`` is what it said, cut short."""

    def __init__(self, code: int, complaint: str) -> None:
        super().__init__(complaint)
        self.code = code
        self.complaint = complaint


@dataclass(frozen=True, slots=True)
class Git:
    """Git on one of our own repositories, and perhaps a tree and an index beside it."""

    folder: Path  # GIT_DIR
    tree: Path | None = None  # GIT_WORK_TREE, where git stands too
    index: Path | None = None  # GIT_INDEX_FILE

    def run(
        self,
        *arguments: str,
        given: bytes = b"",
        within_s: float | None = None,
        most: int = MOST_PRINTED,
        who: dict[str, str] | None = None,
    ) -> bytes:
        """What git prints. Raises GitFailed, and TreeStateError where git is missing, too slow or prints too much."""
        environment = safe_environment() | {"GIT_DIR": str(self.folder)} | (who or {})
        if self.tree:
            environment["GIT_WORK_TREE"] = str(self.tree)
        if self.index:
            environment["GIT_INDEX_FILE"] = str(self.index)
        command = [git_program(), *_HARMLESS, *arguments]
        return _run(command, self.tree or self.folder, environment, given, within_s or QUICK_S, most)

    def line(self, *arguments: str, given: bytes = b"", who: dict[str, str] | None = None) -> str:
        """The first line that git prints, such as an object's id."""
        return self.run(*arguments, given=given, most=1 << 20, who=who).decode("utf-8", "replace").partition("\n")[0]


def git_program() -> str:
    """Where git is, on the parts of the user's PATH that do not depend on a folder. Raises TreeStateError."""
    found = shutil.which("git", path=safe_environment()["PATH"])
    if found is None:
        raise TreeStateError("Git is not installed.", "Install it, for instance with `apt install git`.")
    return found


def safe_environment() -> dict[str, str]:
    """Of the user's environment only where programs are; a relative place could lie in a stranger's tree."""
    places = git_environment().get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(place for place in places if place.startswith(os.sep))
    return git_environment() | _CLOSED | {"PATH": path}


def _run(
    command: list[str], folder: Path, environment: dict[str, str], given: bytes, within_s: float, most: int
) -> bytes:
    with tempfile.TemporaryFile() as told:
        told.write(given)
        told.seek(0)
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=told,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise TreeStateError(f"Git cannot be started: {error.strerror}.", "Check the folder and git.") from None
    code: int | None = None
    try:
        printed, complaint = _printed(process, time.monotonic() + within_s, most)
        code = process.wait(max(PATIENCE_S, within_s))
    except subprocess.TimeoutExpired:
        raise TreeStateError(
            f"Git took longer than {within_s:.0f} s.", "Try again when the disk is less busy, or index a smaller tree."
        ) from None
    finally:
        if code is None:
            _end(process)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    if code:
        raise GitFailed(code, complaint.decode("utf-8", "replace").strip())
    return printed


def _printed(process: "subprocess.Popen[bytes]", until: float, most: int) -> tuple[bytes, bytes]:
    """Both of git's outputs, to their ends. Raises TimeoutExpired, and TreeStateError for more than ``most`` bytes."""
    assert process.stdout is not None
    assert process.stderr is not None
    output, complaint = process.stdout.fileno(), process.stderr.fileno()
    pieces: dict[int, list[bytes]] = {output: [], complaint: []}
    sizes = {output: 0, complaint: 0}
    with selectors.DefaultSelector() as waiting:
        for stream in pieces:
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _ in waiting.select(left):
                stream = key.fd
                block = os.read(stream, BLOCK_BYTES)
                if not block:
                    waiting.unregister(stream)
                    continue
                sizes[stream] += len(block)
                if stream == output and sizes[stream] > most:
                    raise TreeStateError(
                        "Git has more to say of this tree than is read.",
                        "Name what builds leave behind in .gitignore, or index a smaller tree.",
                    )
                if stream == output or sizes[stream] - len(block) < MOST_COMPLAINT:
                    pieces[stream].append(block)
    return b"".join(pieces[output]), b"".join(pieces[complaint])[:MOST_COMPLAINT]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends git and whatever it has started, which may be all that is left of it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
