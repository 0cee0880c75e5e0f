"""The first program inside a sandbox: looks whether it is really shut in, shuts itself in further, becomes the job.

It is run by itself, as a script, and so imports the standard library and landlock.py only. Limits are set in here
and not between fork and exec of the server, because Python may not run there while other threads hold locks; and
because the kernel counts processes apart for each user namespace since 5.14, so that in here a limit on them means
this job alone. Whatever is not as it should be ends it before the job begins.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_NICE = 5  # of 19: whoever asks the server comes before what it builds
NOT_HELD = 125  # its exit code where it did not become the job
_NOT_THERE, _NOT_A_PROGRAM = 127, 126  # those of a shell


def main() -> int:
    """Reads what to do from the descriptor that is its first argument, says what became of it on the second."""
    orders, answers = (int(word) for word in sys.argv[1:3])
    with os.fdopen(orders, encoding="utf-8") as file:
        wanted = json.load(file)
    for opened in tuple(Path("/proc/self/fd").iterdir()):
        if int(opened.name) > 2:
            _close_on_exec(int(opened.name))
    try:
        _check()
        _limit(wanted["limits"])
        held = _restrict(wanted)
    except (OSError, ValueError, KeyError, ImportError) as error:
        _say(answers, {"failed": f"{type(error).__name__}: {error}"})
        return NOT_HELD
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is ignored stays so across exec
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    os.nice(_NICE)
    try:
        os.chdir(wanted["folder"])
    except OSError as error:
        _say(answers, {"started": True, "landlock": held})
        sys.stderr.write(f"{wanted['folder']}: {error.strerror}\n")
        return _NOT_THERE
    argv = wanted["argv"]
    _say(answers, {"started": True, "landlock": held})
    try:
        os.execvpe(argv[0], argv, wanted["environment"])  # noqa: S606 - this is what it is for
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return _NOT_THERE if isinstance(error, FileNotFoundError) else _NOT_A_PROGRAM


def _check() -> None:
    """Whether the layers that others have put around this process are there. Raises ValueError where one is not."""
    told = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines() if ":\t" in line
    )
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(told[name], 16):
            raise ValueError(f"it holds capabilities ({name} {told[name]})")
    if told["NoNewPrivs"].strip() != "1":
        raise ValueError("programs could give it privileges")
    if told["Seccomp"].strip() != "2":
        raise ValueError("no system calls are refused to it")
    seen = [line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text("utf-8").splitlines()[2:]]
    if set(seen) - {"lo"}:
        raise ValueError("it sees a network: " + ", ".join(sorted(seen)))


def _limit(limits: dict[str, int]) -> None:
    for name, most in limits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (bound, bound))


def _restrict(wanted: dict[str, Any]) -> int:
    """The version of Landlock that holds it; 0 where the kernel has none, which is said before any job is taken."""
    if not wanted["landlock"]:
        return 0
    from agents.sandbox import landlock  # noqa: PLC0415 - needs ctypes, which a small Python may lack

    spoken = landlock.version()
    if spoken >= landlock.LEAST:
        landlock.restrict(spoken, wanted["writable"], "/dev")
        return spoken
    if wanted["landlock"] == "where there is":
        return 0
    raise ValueError("Landlock is gone")


def _close_on_exec(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        return  # it was the one by which the folder was listed


def _say(descriptor: int, told: dict[str, object]) -> None:
    os.write(descriptor, json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))  # where landlock.py stands, in the place that its name tells
    sys.exit(main())
