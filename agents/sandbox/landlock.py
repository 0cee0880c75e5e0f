"""The kernel's second opinion on files: a process, and all that it starts, may write in the named places alone.

Part of the launcher, which runs inside a sandbox by itself: imports the standard library only. What is run afterwards,
it does not know. Source of numbers and bits: Linux' include/uapi/linux/landlock.h.
"""

import ctypes
import os
import stat
import struct

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every machine
_VERSION, _BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38  # of prctl
LEAST = 2  # the first version that lets files be moved between folders

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MOVE, _TRUNCATE, _DEVICE = 1 << 13, 1 << 14, 1 << 15
_FIRST = (1 << 13) - 1  # what version 1 knows
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE
_SCOPES = 0b11  # abstract sockets and signals end at the processes that are held
_ADDED = ((2, _MOVE), (3, _TRUNCATE), (5, _DEVICE))
_SIZES = ((7, 24), (6, 24), (4, 16), (0, 8))  # of struct landlock_ruleset_attr


def version() -> int:
    """The version that the kernel speaks; 0 where it has none, or keeps it from us."""
    try:
        return _call(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    except (OSError, AttributeError):
        return 0


def restrict(spoken: int, writable: list[str], devices: str) -> None:
    """Holds the process: reads and starts everything it sees, writes beneath ``writable``, uses what is in ``devices``.

    ``spoken`` is what ``version`` said, and at least ``LEAST``. Raises OSError where it cannot be held.
    """
    everything = _FIRST
    for since, right in _ADDED:
        everything |= right if spoken >= since else 0
    size = next(size for since, size in _SIZES if spoken >= since)
    rules = ctypes.create_string_buffer(struct.pack("=QQQ", everything, 0, _SCOPES if spoken >= 6 else 0), 24)
    ruleset = _call(_CREATE, rules, ctypes.c_size_t(size), 0)
    try:
        reading = _EXECUTE | _READ | _LIST
        _add(ruleset, "/", reading)
        _add(ruleset, devices, (reading | _WRITE | _TRUNCATE | _DEVICE) & everything)
        for place in writable:
            _add(ruleset, place, everything)
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        _call(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, place: str, rights: int) -> None:
    descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        _call(_ADD, ruleset, _BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    answer = library.syscall(ctypes.c_long(number), *arguments)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(answer)
