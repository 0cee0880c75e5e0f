"""The values of a sandbox: what is to run, how it ended, and what this machine offers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agents.model import Limits

SOURCE = "/src"  # where a job's folder appears inside, whatever its path outside
CACHE = "/cache"  # where its cache appears

_NOTHING: Mapping[str, str] = {}


def drop(_output: bytes) -> None:
    """For callers that read the output when the job has ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run apart from everything else."""

    argv: tuple[str, ...]
    folder: Path  # writable, and all that is left of the job afterwards; inside it is SOURCE
    limits: Limits
    readable: tuple[Path, ...] = ()  # shown read-only at their own paths
    cache: Path | None = None  # writable, kept between jobs; inside it is CACHE
    environment: Mapping[str, str] = field(default_factory=lambda: _NOTHING)  # beside PATH, LANG, HOME and TMPDIR
    inside: str = ""  # the folder below SOURCE in which the program starts


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended. By then none of its processes is alive but for the counted ``survivors``, which must be none."""

    code: int | None  # as a shell tells it, 128 and more for a signal; None where it was stopped
    reason: str  # "" | time | memory | processes | disk | cancelled
    output: bytes  # beginning and end, with a line between them that says how much is left out
    output_bytes: int  # that it wrote in all
    seconds: float
    layers: tuple[str, ...]  # that held it: bubblewrap, seccomp, landlock, cgroup
    survivors: int = 0


@dataclass(frozen=True, slots=True)
class Sandboxing:
    """What this machine offers to run things apart."""

    available: bool
    layers: tuple[str, ...] = ()  # in the order in which they hold
    missing: tuple[str, ...] = ()  # one sentence each: what is not there, and what that means
    hint: str = ""  # the way out
    program: Path | None = None  # bubblewrap
    version: str = ""
    landlock: int = 0  # the version of the kernel's interface; 0 where there is none
    cgroup: str = ""  # "v2", "v1", or "" where a group of our own cannot be made
    warnings: tuple[str, ...] = ()  # of what is there and could be better
