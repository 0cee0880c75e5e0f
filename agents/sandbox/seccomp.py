"""The system calls that a job may not make, as a program for the kernel's filter. Pure; knows no process.

What is allowed is everything but the calls below: a list of what compilers, linkers, test programs and sanitizers need
would be wrong with the next one of them. Refused is what widens the kernel's surface and no build needs (io_uring, bpf,
userfaultfd, perf, keys, netlink beyond routes, vsock, kernel crypto), what would make another namespace or mount, what
reaches beyond the namespaces (clocks, modules, TIOCSTI), and what leaves something behind (the set-user-id bit).
ptrace stays: it ends at the process namespace, and the leak checker of a sanitizer needs it. Only the first process of
the namespace is not to be traced, which would keep the job from ending.

Numbers: Linux' arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

import errno
import struct
from dataclasses import dataclass

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_ALLOW = 0x7FFF0000
_KILL = 0x80000000  # the whole process
_FAIL = 0x00050000  # with the errno in the low half
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where they stand in struct seccomp_data
_X32 = 0x40000000

_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_SET_USER_ID = 0o4000
_TYPING = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX put words into a terminal
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: all of them end at the network namespace
_NETLINK, _ROUTES = 16, 0  # what getifaddrs asks; the other protocols of netlink are much code and little use

# x86_64, generic (aarch64); None where the architecture has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
}
# Programs try these and do without where the kernel has none; so it has none.
_ABSENT: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),  # its flags stand in memory, where no filter sees them; libraries go on with clone
    "openat2": (437, 437),  # likewise the mode of a file
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_secret": (447, 447),
}
# Memory that no process has in its own; bounded by a group of processes alone.
_NAMELESS: dict[str, tuple[int | None, int | None]] = {"memfd_create": (319, 279), "shmget": (29, 194)}
# A call, and which of its arguments is a file's mode.
_MODES: dict[str, tuple[int | None, int | None, int]] = {
    "chmod": (90, None, 1),
    "fchmod": (91, 52, 1),
    "fchmodat": (268, 53, 2),
    "fchmodat2": (452, 452, 2),
    "creat": (85, None, 1),
    "mknod": (133, None, 1),
    "mknodat": (259, 33, 2),
}
_CREATING: dict[str, tuple[int | None, int | None, int]] = {"open": (2, None, 2), "openat": (257, 56, 3)}
_MAY_CREATE = 0o100 | 0o20000000  # O_CREAT, and the bit by which O_TMPFILE is told
# A call, and which of its arguments is a process: the first one inside is left alone, since it ends the job.
_TRACING: dict[str, tuple[int | None, int | None, int]] = {
    "ptrace": (101, 117, 1),
    "process_vm_readv": (310, 270, 0),
    "process_vm_writev": (311, 271, 0),
}
_CLONE, _IOCTL, _SOCKET = (56, 220), (16, 29), (41, 198)


@dataclass(frozen=True, slots=True)
class _Machine:
    audit: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


def supports(machine: str) -> bool:
    """Whether there is a filter for what ``os.uname`` calls a machine."""
    return machine in _MACHINES


def program(machine: str, *, bounded: bool) -> bytes:
    """The filter for a machine that ``supports`` admits, as bubblewrap takes it: instructions of struct sock_filter.

    ``bounded`` says that a group of processes bounds the memory of the job; without, memory that belongs to no process
    is refused, because nobody could see whose it is.
    """
    column = _MACHINES[machine].column
    lines: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _MACHINES[machine].audit),
        (_RETURN, 0, 0, _KILL),  # 32-bit programs have calls of other numbers
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _FAIL | errno.ENOSYS)]
    absent = _ABSENT if bounded else _ABSENT | _NAMELESS
    for table, code in ((_REFUSED, errno.EPERM), (absent, errno.ENOSYS)):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _FAIL | code)]
    lines += _when(_CLONE[column], [_argument(0), (_ANY_BIT, 0, 1, _NAMESPACES), _refused(errno.EPERM)])
    words = [(_EQUAL, len(_TYPING) - place, 0, word) for place, word in enumerate(_TYPING)]
    lines += _when(_IOCTL[column], [_argument(1), *words, _allowed(), _refused(errno.EPERM)])
    lines += _when(_SOCKET[column], _socket())
    for number, mode in _having(_MODES, column):
        lines += _when(number, [_argument(mode), (_ANY_BIT, 0, 1, _SET_USER_ID), _refused(errno.EPERM)])
    for number, mode in _having(_CREATING, column):
        lines += _when(number, _creating(mode))
    for number, process in _having(_TRACING, column):
        lines += _when(number, [_argument(process), (_EQUAL, 0, 1, 1), _refused(errno.EPERM)])
    lines.append(_allowed())
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


_Line = tuple[int, int, int, int]


def _having(table: dict[str, tuple[int | None, int | None, int]], column: int) -> list[tuple[int, int]]:
    """The calls of a table that an architecture has, each with the argument that decides."""
    return [(number, row[2]) for row in table.values() if (number := row[column]) is not None]


def _argument(number: int) -> _Line:
    """The lower half of an argument, which is all that a kernel looks at of an int. Both machines put it first."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * number)


def _allowed() -> _Line:
    return (_RETURN, 0, 0, _ALLOW)


def _refused(code: int) -> _Line:
    return (_RETURN, 0, 0, _FAIL | code)


def _when(number: int, body: list[_Line]) -> list[_Line]:
    """Decides one call for good: what its body lets through is allowed."""
    return [(_EQUAL, 0, len(body) + 1, number), *body, _allowed()]


def _socket() -> list[_Line]:
    families = [(_EQUAL, len(_FAMILIES) - place + 3, 0, family) for place, family in enumerate(_FAMILIES)]
    return [
        _argument(0),
        *families,
        (_EQUAL, 0, 2, _NETLINK),
        _argument(2),
        (_EQUAL, 1, 0, _ROUTES),
        _refused(errno.EAFNOSUPPORT),
    ]


def _creating(mode: int) -> list[_Line]:
    """The mode is garbage where a call creates nothing."""
    return [
        _argument(mode - 1),
        (_ANY_BIT, 0, 3, _MAY_CREATE),
        _argument(mode),
        (_ANY_BIT, 0, 1, _SET_USER_ID),
        _refused(errno.EPERM),
    ]
