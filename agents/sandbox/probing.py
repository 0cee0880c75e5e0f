"""Tries to get out of the sandbox that it is run in, and says what it reached. Imports the standard library only.

Run by the self-test as a program of its own; its arguments are a port and the name of an abstract socket that are open
outside, and files and folders that are there outside. What it prints is one JSON object: each attempt, and what it
reached; "" where it was held.
"""

import ctypes
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

_NEW_USER_AND_MOUNTS = 0x10020000
_BIND = 4096
_SELF, _SHADOW = "/proc/self", Path("/etc/shadow")


def main() -> None:
    """Every attempt, in the order in which they are shown."""
    port, name, *paths = sys.argv[1:]
    attempts: dict[str, Callable[[], str]] = {
        "read the passwords of the system": _shadow,
        "read files that are outside": lambda: _seen(paths),
        "read the memory of the machine": _memory,
        "write beside its folder": _write,
        "write through the kernel's settings": _settings,
        "connect to a port of this machine": lambda: _port(int(port)),
        "connect to the metadata address of a cloud": lambda: _connected("169.254.169.254", 80),
        "connect to an abstract socket": lambda: _abstract(name),
        "talk to the machine below this one": _below,
        "make namespaces": _namespaces,
        "mount": _mount,
        "hold privileges": _privileges,
        "leave a set-user-id program": _set_user_id,
        "see processes that are outside": _processes,
        "find open files of the server": _inherited,
        "find variables of the server": _variables,
    }
    reached = {}
    for words, attempt in attempts.items():
        try:
            reached[words] = attempt()
        except (OSError, ValueError) as error:
            reached[words] = "" if isinstance(error, OSError) else str(error)
    sys.stdout.write(json.dumps(reached) + "\n")


def _shadow() -> str:
    return "read" if _SHADOW.read_bytes() else ""


def _seen(paths: list[str]) -> str:
    return next((path for path in paths if os.path.lexists(path) and _has_something(path)), "")


def _has_something(path: str) -> bool:
    return not Path(path).is_dir() or any(Path(path).iterdir())


def _memory() -> str:
    for path in ("/dev/mem", "/dev/kmem", "/proc/kcore"):
        try:
            with Path(path).open("rb") as file:
                file.read(1)
        except OSError:
            continue
        return path
    return ""


def _write() -> str:
    for folder in ("/", "/usr", "/etc", "/dev", "/run", "/proc", "/run/launcher", "/usr/local/bin"):
        try:
            Path(folder, "planted").write_bytes(b"x")
        except OSError:
            continue
        return folder
    return ""


def _settings() -> str:
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/hostname",
        "/proc/1/oom_score_adj",
    ):
        try:
            os.close(os.open(path, os.O_WRONLY))
        except OSError:
            continue
        return path
    return ""


def _port(port: int) -> str:
    return _connected("127.0.0.1", port) or _connected("::1", port)


def _connected(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as outgoing:
        outgoing.settimeout(1)
        return "" if outgoing.connect_ex((host, port)) else f"{host}:{port}"


def _abstract(name: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as outgoing:
        outgoing.settimeout(1)
        outgoing.connect("\0" + name)
    return name


def _below() -> str:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM):
        return "a socket to the host of virtual machines"


def _namespaces() -> str:
    return "" if ctypes.CDLL(None).unshare(_NEW_USER_AND_MOUNTS) else "a user namespace"


def _mount() -> str:
    return "" if ctypes.CDLL(None).mount(b"/usr", b"/tmp", None, _BIND, None) else "/usr over /tmp"


def _privileges() -> str:
    told = dict(line.split(":\t", 1) for line in Path(_SELF, "status").read_text("utf-8").splitlines() if ":\t" in line)
    held = [name for name in ("CapPrm", "CapEff", "CapBnd") if int(told[name], 16)]
    return ", ".join(held) or ("" if told["NoNewPrivs"].strip() == "1" else "new privileges")


def _set_user_id() -> str:
    Path("program").write_bytes(b"")
    Path("program").chmod(0o4755)
    return "program" if Path("program").stat().st_mode & stat.S_ISUID else ""


def _processes() -> str:
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return f"{len(numbers)} processes" if len(numbers) > 8 or os.getppid() > 1 else ""


def _inherited() -> str:
    found = [path.name for path in Path(_SELF, "fd").iterdir() if int(path.name) > 2]
    return ", ".join(found[1:])  # one is that of the listing


def _variables() -> str:
    known = {"PATH", "LANG", "HOME", "TMPDIR", "USER", "LOGNAME", "LC_CTYPE", "PWD"}
    return ", ".join(sorted(set(os.environ) - known))


if __name__ == "__main__":
    main()
