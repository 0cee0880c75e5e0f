"""Tries to get out of the sandbox of this machine, and to take more than is allowed, and says what was held.

A short form of the battery in the tests: two seconds, for whoever sets codehub up.
"""

import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agents.errors import SandboxUnavailable
from agents.model import Limits
from agents.sandbox import looking, running
from agents.sandbox.model import Ended, Job

_LIMITS = Limits(seconds=20, memory=128 << 20, processes=24, disk=8 << 20, output=64 << 10)
_SLEEPER = "import time\ntime.sleep(60)"
_DAEMON = (
    "import os, signal, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "    os.fork()\n"
    "    time.sleep(60)\n"
)
_MEMORY = "held = []\nwhile True:\n    held.append(bytearray(8 << 20))\n"
_PROCESSES = "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(60)\n"
_DISK = "for number in range(64):\n    open(f'file{number}', 'wb').write(bytes(1 << 20))\n"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: in words, whether it was held, and what it reached or how it ended."""

    words: str
    held: bool
    detail: str = ""


def attempts(found: running.Host | None = None) -> Iterator[Attempt]:
    """One after the other, as they are made. Raises SandboxUnavailable where nothing can be run apart."""
    host = found if found is not None else looking.host()
    yield from _reached(host)
    yield _bounded(host, "run for longer than it may", _SLEEPER, replace(_LIMITS, seconds=1.0), "time")
    yield _bounded(host, "take more memory than it may", _MEMORY, _LIMITS, "memory")
    yield _bounded(host, "start more processes than it may", _PROCESSES, _LIMITS, "processes")
    yield _bounded(host, "write more than it may", _DISK, _LIMITS, "disk")
    ended = _run(host, _DAEMON, _LIMITS)
    yield Attempt("outlive its end", not ended.survivors, _said(ended) if ended.survivors else "")


def _reached(host: running.Host) -> list[Attempt]:
    """What a probe inside says of itself."""
    probe = Path(__file__).with_name("probing.py").read_bytes()
    with tempfile.TemporaryDirectory(prefix="codehub-") as folder, _listening() as (port, name):
        inside = Path(folder, "inside")
        inside.mkdir()
        outside = Path(folder, "outside")
        outside.write_bytes(b"secret")
        Path(inside, "probe.py").write_bytes(probe)
        there = [str(path) for path in (outside, Path.home() / ".ssh", Path("/sys/kernel"))]
        argv = (str(host.kit.interpreter), "-I", "-S", "probe.py", str(port), name, *there)
        ended = running.run(host, Job(argv, inside, _LIMITS), lambda: False)
    try:
        told = json.loads(ended.output)
    except ValueError as error:
        raise SandboxUnavailable(f"The probe did not answer: {_said(ended)}", "See docs/sandbox.md.") from error
    return [Attempt(words, not what, str(what)) for words, what in told.items()]


def _bounded(host: running.Host, words: str, program: str, limits: Limits, reason: str) -> Attempt:
    ended = _run(host, program, limits)
    held = (ended.reason == reason or (not ended.reason and ended.code != 0)) and not ended.survivors
    return Attempt(words, held, "" if held else _said(ended))


def _run(host: running.Host, program: str, limits: Limits) -> Ended:
    with tempfile.TemporaryDirectory(prefix="codehub-") as folder:
        Path(folder, "program.py").write_text(program, encoding="utf-8")
        argv = (str(host.kit.interpreter), "-I", "-S", "program.py")
        return running.run(host, Job(argv, Path(folder), limits), lambda: False)


def _said(ended: Ended) -> str:
    last = ended.output.decode("utf-8", "replace").strip()[-200:]
    return f"ended with {ended.code} {ended.reason}, {ended.survivors} processes left. {last}".strip()


@contextmanager
def _listening() -> Iterator[tuple[int, str]]:
    """A port and an abstract socket of this machine, which a job must not reach."""
    name = f"codehub-{os.getpid()}-{secrets.token_hex(4)}"
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as local:
        local.bind("\0" + name)
        local.listen()
        yield port.getsockname()[1], name
