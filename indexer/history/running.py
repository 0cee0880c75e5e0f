"""Git run and listened to: with a time limit, a closed environment, and nothing of the repository's own run or fetched.

What its commands mean it does not know.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

GIT_TIMEOUT_S = 30.0  # a status of Chromium's tree on a cold disk takes about 20 s
SILENCE_S = 60.0  # without any output of a log; the largest commit of LLVM takes about 5 s
BLOCK_BYTES = 1 << 16
LINES_TIMEOUT_S = 10.0  # for the story of a few lines; leveldb takes 0.1 s. What was told by then counts. 2 to 30

# A repository's own configuration may name programs that git then runs; these settings name none.
_HARMLESS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat")
_CLOSED = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # a clone with missing objects would fetch them, by a program of its own choice
    "GIT_NO_LAZY_FETCH": "1",  # and would try to, for each of them
    "LC_ALL": "C",
}
_KEPT_VARIABLES = ("PATH", "HOME", "SYSTEMROOT")  # HOME, because safe.directory stands in the user's own settings
# What comparing commits would run beside, and what it would colour.
PLAIN = ("--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--encoding=UTF-8", "--no-color")
# What these commands would do beside: check signatures by a program, and read files that the repository names.
PASSIVE = tuple(
    part
    for setting in (
        "log.showSignature=false",
        "blame.ignoreRevsFile=",
        "mailmap.file=",
        "mailmap.blob=",
        "core.quotePath=false",
    )
    for part in ("-c", setting)
)


class Broken(Exception):
    """Git ended with an error, or went silent."""


def printed(root: Path, *arguments: str) -> str | None:
    """What git prints, or None when it fails or is not there."""
    told = printed_bytes(root, arguments)
    return None if told is None else told.decode("utf-8", "replace")


def printed_bytes(root: Path, arguments: Sequence[str], given: bytes = b"") -> bytes | None:
    try:
        done = subprocess.run(
            ["git", *_HARMLESS, "-C", str(root), *arguments],  # noqa: S607 - git is found on the user's own PATH
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
            env=git_environment(),
            input=given,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def told_in_time(root: Path, arguments: Sequence[str]) -> tuple[str, bool]:
    """What git printed until it ended or its time was up, and whether it ended well."""
    try:
        done = subprocess.run(
            ["git", *_HARMLESS, "-C", str(root), *arguments],  # noqa: S607 - git is found on the user's own PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LINES_TIMEOUT_S,
            check=False,
            env=git_environment(),
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode("utf-8", "replace"), False
    except OSError:
        return "", False
    return done.stdout.decode("utf-8", "replace"), done.returncode == 0


def git_environment() -> dict[str, str]:
    """What git is started with: where programs and the user's own settings are, and nothing that leads elsewhere."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | _CLOSED


def blocks(repository: Path, arguments: Sequence[str], given: bytes) -> Iterator[bytes]:
    """What git prints, piece by piece as it comes; ``given`` must fit into a pipe. Raises Broken behind the last piece
    where git fails, and where it is silent for too long or missing.
    """
    try:
        process = subprocess.Popen(
            ["git", *_HARMLESS, "-C", str(repository), *arguments],  # noqa: S607 - git is found on the user's own PATH
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=git_environment(),
        )
    except OSError:
        raise Broken from None
    pieces: Queue[bytes] = Queue(maxsize=8)  # an empty one is the last
    Thread(target=_pump, args=(process, given, pieces), daemon=True).start()
    ended = False
    try:
        while piece := pieces.get(timeout=SILENCE_S):
            yield piece
        ended = True
        if process.wait(SILENCE_S):
            raise Broken
    except (Empty, subprocess.TimeoutExpired):
        raise Broken from None
    finally:
        process.kill()
        while not ended:
            ended = not pieces.get()
        process.wait()


def _pump(process: "subprocess.Popen[bytes]", given: bytes, pieces: "Queue[bytes]") -> None:
    """Carries bytes in a thread of its own, because only a queue can be waited for with a limit on every system."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError), process.stdin:  # git may have ended already
        process.stdin.write(given)
    with process.stdout:
        while block := os.read(process.stdout.fileno(), BLOCK_BYTES):
            pieces.put(block)
    pieces.put(b"")
