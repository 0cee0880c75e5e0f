"""What the kernel bounds of each process of a job, beside what bounds the job as a whole. Pure."""

import math

from agents.model import Limits

FILES = 4_096  # open at once by one process; linkers of large programs need some thousands
_MESSAGES = 1 << 20  # bytes in queues of messages
_LOCKED = 64 << 20  # bytes of memory that may be kept from being swapped
_OWN_COUNT = (5, 14)  # since then processes are counted apart for each user namespace


def of_a_process(limits: Limits, cores: int, *, counted: bool) -> dict[str, int]:
    """Names of ``resource`` and their bounds.

    The address space is left as it is: sanitizers reserve terabytes of it and touch little. ``counted`` says that a
    count of processes means those of the job alone.
    """
    bounds = {
        "RLIMIT_CORE": 1,  # not 0: that the kernel does not heed where a program of the machine takes dumps (core(5))
        "RLIMIT_FSIZE": limits.disk,
        "RLIMIT_NOFILE": FILES,
        "RLIMIT_MEMLOCK": _LOCKED,
        "RLIMIT_MSGQUEUE": _MESSAGES,
        "RLIMIT_RTPRIO": 0,
        "RLIMIT_CPU": math.ceil(limits.seconds * cores) + 5,  # a backstop: the clock on the wall ends it before
    }
    return bounds | ({"RLIMIT_NPROC": limits.processes} if counted else {})


def counts_apart(release: str, user: int) -> bool:
    """Whether RLIMIT_NPROC means one job: not on old kernels, and never for root, whom it does not bind."""
    numbers = tuple(int(part) for part in release.replace("-", ".").split(".")[:2] if part.isdecimal())
    return user != 0 and numbers >= _OWN_COUNT
