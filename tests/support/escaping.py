"""Attempts to get out of a sandbox, each a function; run inside of it as a program of its own.

What it needs to know of the world outside comes as JSON on its command line; what became of each attempt goes out as
one line of JSON: "refused" with the error, or "reached" with what. Each attempt runs in a process of its own.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
OUTSIDE: dict[str, Any] = {}
NUMBERS = {  # of x86_64 and aarch64
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "clone3": (435, 435),
    "init_module": (175, 105),
    "kexec_load": (246, 104),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "open_by_handle_at": (304, 265),
    "pivot_root": (155, 41),
    "setns": (308, 268),
    "unshare": (272, 97),
    "mount": (165, 40),
    "fsopen": (430, 430),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "openat2": (437, 437),
    "fanotify_init": (300, 262),
}


def call(name: str, *arguments: object) -> str:
    """What a system call gave. Raises OSError where it was refused."""
    number = NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]
    answer = LIBC.syscall(ctypes.c_long(number), *arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return f"{name} gave {answer}"


def reading(path: str) -> str:
    return f"read {len(Path(path).read_bytes())} bytes"


def writing(path: str) -> str:
    with Path(path).open("ab") as file:
        file.write(b"planted")
    return f"wrote to {path}"


def read_the_shadow_file() -> str:
    return reading("/etc/shadow")


def read_a_key_in_a_home() -> str:
    return reading(OUTSIDE["home_key"])


def read_the_data_folder() -> str:
    return reading(OUTSIDE["secret"])


def read_beside_the_folder() -> str:
    return reading("/src/../secret")


def read_through_the_root_of_the_first_process() -> str:
    return reading("/proc/1/root" + OUTSIDE["secret"])


def read_through_the_working_folder_of_the_first_process() -> str:
    return reading("/proc/1/cwd/../" + OUTSIDE["secret"])


def read_through_the_descriptors_of_the_first_process() -> str:
    found = [path for path in Path("/proc/1/fd").iterdir() if "/" in str(path.readlink()) and path.is_dir()]
    return str(found) if found else refuse()


def list_the_machine() -> str:
    private = [name for name in ("/sys/kernel", "/boot", "/var/log", "/srv", "/opt") if Path(name).exists()]
    return str(private) if private else refuse()


def read_the_memory_of_the_kernel() -> str:
    return reading("/dev/mem") if Path("/dev/mem").exists() else reading("/proc/kcore")


def plant_a_hook() -> str:
    return writing("/src/.git/hooks/post-checkout")


def change_the_configuration_of_git() -> str:
    return writing("/src/.git/config")


def put_another_history_in_place() -> str:
    Path("/src/.git").rename("/src/elsewhere")
    return "renamed .git"


def write_into_what_is_shown_for_reading() -> str:
    return writing(OUTSIDE["readable"] + "/objects")


def write_through_a_link_to_the_outside() -> str:
    Path("/src/link").symlink_to(OUTSIDE["secret"])
    with Path("/src/link").open("r+b") as file:
        file.write(b"planted")
    return "wrote"


def link_a_file_of_the_outside() -> str:
    os.link(OUTSIDE["readable"] + "/objects", "/src/linked")
    return writing("/src/linked")


def move_a_file_out() -> str:
    Path("/src/moved").write_bytes(b"planted")
    Path("/src/moved").rename(OUTSIDE["readable"] + "/moved")
    return "moved"


def make_a_device() -> str:
    os.mknod("/src/disk", 0o060666, os.makedev(8, 0))
    return reading("/src/disk")


def make_a_device_of_memory() -> str:
    os.mknod("/tmp/memory", 0o020666, os.makedev(1, 1))
    return reading("/tmp/memory")


def leave_a_set_user_id_program() -> str:
    Path("/src/privileged").write_bytes(b"#!/bin/sh\n")
    Path("/src/privileged").chmod(0o4755)
    return "left"


def create_a_set_user_id_program() -> str:
    os.close(os.open("/src/created", os.O_CREAT | os.O_WRONLY, 0o4755))
    return "created" if Path("/src/created").stat().st_mode & 0o4000 else refuse()


def create_one_by_the_newer_call() -> str:
    how = ctypes.create_string_buffer(struct.pack("=QQQ", os.O_CREAT | os.O_WRONLY, 0o4755, 0))
    return call("openat2", -100, b"/src/newer", how, ctypes.c_size_t(24))


def make_the_system_writable() -> str:
    return call("mount", b"none", b"/usr", None, 0x21, None)  # MS_REMOUNT | MS_RDONLY taken away


def write_into_the_system() -> str:
    return writing("/usr/bin/planted")


def write_into_the_root() -> str:
    return writing("/planted")


def write_over_the_launcher() -> str:
    return writing("/run/launcher/launching.py")


def name_a_program_for_crashes() -> str:
    return writing("/proc/sys/kernel/core_pattern")


def trigger_the_keyboard_of_the_kernel() -> str:
    return writing("/proc/sysrq-trigger")


def change_a_setting_of_the_kernel() -> str:
    return writing("/proc/sys/vm/drop_caches")


def open_by_a_handle() -> str:
    handle = ctypes.create_string_buffer(struct.pack("=iiQ", 8, 1, 2))
    return call("open_by_handle_at", os.open("/src", os.O_RDONLY), handle, os.O_RDONLY)


def listen_to_the_file_system() -> str:
    return call("fanotify_init", 0x200, 0)


def connect_to_a_port() -> str:
    return connected(socket.AF_INET, ("127.0.0.1", OUTSIDE["port"]))


def connect_to_a_port_of_the_newer_protocol() -> str:
    return connected(socket.AF_INET6, ("::1", OUTSIDE["port6"]))


def connect_to_the_address_of_the_machine() -> str:
    return connected(socket.AF_INET, (OUTSIDE["address"], OUTSIDE["port_everywhere"]))


def connect_to_the_metadata_of_a_cloud() -> str:
    return connected(socket.AF_INET, ("169.254.169.254", 80))


def ask_a_name_server() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(b"\0" * 12, ("8.8.8.8", 53))
    return "sent"


def resolve_a_name() -> str:
    try:
        return str(socket.getaddrinfo("example.org", 80))
    except socket.gaierror:
        return refuse()


def connect_to_an_abstract_socket() -> str:
    return connected(socket.AF_UNIX, "\0" + OUTSIDE["abstract"])


def connect_to_a_socket_in_a_folder() -> str:
    return connected(socket.AF_UNIX, OUTSIDE["socket"])


def send_to_the_log_of_the_system() -> str:
    return connected(socket.AF_UNIX, "/dev/log")


def make_a_network_device() -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
        name = struct.pack("=HH4s", 8, 3, b"dum\0")
        kind = struct.pack("=HHHH8s", 16, 18, 12, 1, b"dummy\0\0\0")
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + name + kind
        asking.sendto(struct.pack("=IHHII", 16 + len(body), 16, 0x605, 1, 0) + body, (0, 0))
        answer = asking.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))
    return "made"


def ask_the_firewall() -> str:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).close()
    return "a socket of netfilter"


def read_packets() -> str:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    return "a socket for packets"


def send_raw_packets() -> str:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()
    return "a raw socket"


def reach_the_host_of_a_virtual_machine() -> str:
    socket.socket(40, socket.SOCK_STREAM).close()
    return "a socket of vsock"


def use_the_ciphers_of_the_kernel() -> str:
    socket.socket(38, socket.SOCK_SEQPACKET).close()
    return "a socket of ciphers"


def connected(family: int, address: Any) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as outgoing:
        outgoing.settimeout(2)
        outgoing.connect(address)
    return f"connected to {address}"


def unshare_a_user_namespace() -> str:
    return call("unshare", 0x10000000)


def clone_a_user_namespace() -> str:
    number = 56 if os.uname().machine == "x86_64" else 220
    answer = LIBC.syscall(ctypes.c_long(number), ctypes.c_long(0x10000000 | signal.SIGCHLD), 0, 0, 0, 0)
    if not answer:
        os._exit(0)
    return "cloned" if answer > 0 else refuse(ctypes.get_errno())


def clone_by_the_newer_call() -> str:
    how = ctypes.create_string_buffer(struct.pack("=Q10Q", 0x10000000, *([0] * 10)))
    return call("clone3", how, ctypes.c_size_t(88))


def run_bubblewrap_inside() -> str:
    return ran("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "true")


def run_unshare_inside() -> str:
    return ran("unshare", "--user", "--map-root-user", "--mount", "true")


def become_root() -> str:
    os.setuid(0)
    return "root"


def run_a_set_user_id_program() -> str:
    done = subprocess.run(["su", "-c", "id", "root"], capture_output=True, text=True, check=False, input="")
    return done.stdout if "uid=0" in done.stdout else refuse()


def mount_something() -> str:
    return call("mount", b"none", b"/src", b"tmpfs", 0, None)


def mount_by_the_newer_call() -> str:
    return call("fsopen", b"tmpfs", 0)


def change_the_root() -> str:
    os.chroot("/src")
    return "changed"


def turn_the_root() -> str:
    return call("pivot_root", b"/src", b"/src")


def enter_the_namespace_of_the_first_process() -> str:
    descriptor = os.open("/proc/1/ns/user", os.O_RDONLY)
    return call("setns", descriptor, 0)


def trace_the_first_process() -> str:
    return call("ptrace", 16, 1, 0, 0)  # PTRACE_ATTACH


def write_into_the_first_process() -> str:
    maps = Path("/proc/1/maps").read_text("utf-8")
    start = int(maps.split("-", 1)[0], 16)
    with Path("/proc/1/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        return f"read {len(memory.read(4))} bytes"


def kill_a_process_of_the_outside() -> str:
    os.kill(OUTSIDE["process"], signal.SIGKILL)
    return "killed"


def stop_the_first_process() -> str:
    """The kernel takes such signals from nobody inside, and says nothing of it."""
    for number in (signal.SIGKILL, signal.SIGSTOP):
        os.kill(1, number)
    return refuse() if Path("/proc/1/stat").read_text("utf-8").split(") ")[1][0] in "SR" else "stopped"


def type_into_the_terminal() -> str:
    with Path("/dev/tty").open("wb") as terminal:
        fcntl.ioctl(terminal, termios.TIOCSTI, b"x")
    return "typed"


def type_into_a_terminal_of_its_own() -> str:
    _, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSTI, b"x")
    return "typed"


def take_capabilities() -> str:
    if LIBC.prctl(47, 2, 21, 0, 0):  # PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN
        raise OSError(ctypes.get_errno(), "prctl")
    return "raised"


def take_back_the_promise_of_no_privileges() -> str:
    if LIBC.prctl(38, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    return "taken back"


def take_back_the_filter() -> str:
    if LIBC.prctl(22, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    return "taken back"


def find_a_variable_of_the_server() -> str:
    found = OUTSIDE["canary"] in str(os.environ) or OUTSIDE["canary"] in Path("/proc/1/environ").read_text("utf-8")
    return "found" if found else refuse()


def find_an_open_file_of_the_server() -> str:
    found = [path for path in Path("/proc/self/fd").iterdir() if int(path.name) > 2 and path.exists()]
    mine = {str(path.readlink()) for path in found}
    return str(mine) if any(OUTSIDE["inherited"] in one for one in mine) else refuse()


def find_an_open_file_in_the_first_process() -> str:
    links = [str(path.readlink()) for path in Path("/proc/1/fd").iterdir()]
    return str(links) if any(OUTSIDE["inherited"] in link for link in links) else refuse()


def find_memory_of_the_outside_by_name() -> str:
    return reading(OUTSIDE["shared_memory"])


def put_a_key_into_a_ring() -> str:
    return call("add_key", b"user", b"planted", b"x", ctypes.c_size_t(1), -4)


def read_a_ring_of_keys() -> str:
    return call("keyctl", 0, -4, 1)


def set_the_clock() -> str:
    return call("clock_settime", 0, ctypes.create_string_buffer(struct.pack("=qq", 1, 0)))


def set_the_clock_by_the_older_call() -> str:
    return call("settimeofday", ctypes.create_string_buffer(struct.pack("=qq", 1, 0)), None)


def load_a_module() -> str:
    return call("init_module", b"", ctypes.c_size_t(0), b"")


def load_another_kernel() -> str:
    return call("kexec_load", 0, 0, None, 0)


def restart_the_machine() -> str:
    return call("reboot", 0xFEE1DEAD, 672274793, 0, None)  # Ctrl-Alt-Del switched off: nothing where it came through


def name_the_machine() -> str:
    return call("sethostname", b"taken", 5)


def swap_to_a_file() -> str:
    return call("swapon", b"/src/swap", 0)


def load_a_program_into_the_kernel() -> str:
    return call("bpf", 0, ctypes.create_string_buffer(128), 128)


def catch_faults() -> str:
    return call("userfaultfd", 1)


def measure_the_kernel() -> str:
    return call("perf_event_open", ctypes.create_string_buffer(struct.pack("=II", 1, 112), 112), 0, -1, -1, 0)


def open_a_ring_to_the_kernel() -> str:
    return call("io_uring_setup", 1, ctypes.create_string_buffer(120))


def use_priority_of_real_time() -> str:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    return "of real time"


def raise_a_limit() -> str:
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:
        return refuse(errno.EPERM)
    return "raised"


def read_the_memory_of_the_server() -> str:
    with mmap.mmap(-1, 4096) as page:
        local = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(ctypes.c_char.from_buffer(page)), 8))
        return call("process_vm_readv", OUTSIDE["process"], local, 1, local, 1, 0)


def leave_a_dump_of_memory() -> str:
    child = os.fork()
    if not child:
        os.abort()
    _, status = os.waitpid(child, 0)
    left = [path for path in Path("/src").iterdir() if path.name.startswith("core")]
    return str(left) if os.WCOREDUMP(status) or left else refuse()


def ran(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "ran" if not done.returncode else refuse()


def refuse(code: int = errno.EACCES) -> str:
    raise OSError(code, os.strerror(code))


def outcome(attempt: Any) -> str:
    """What became of one attempt, made in a process of its own."""
    reading_end, writing_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            told = f"reached: {attempt()}"
        except OSError as error:
            told = f"refused: {errno.errorcode.get(error.errno or 0, error)}"
        except ValueError as error:  # of a path that holds what no path may
            told = f"reached nothing for a reason of its own: {error}"
        os.write(writing_end, told.encode())
        os._exit(0)
    os.close(writing_end)
    told = os.read(reading_end, 1 << 16).decode()
    os.close(reading_end)
    _, status = os.waitpid(child, 0)
    return told or f"refused: ended by signal {os.WTERMSIG(status)}"


if __name__ == "__main__":
    OUTSIDE.update(json.loads(sys.argv[1]))
    outcomes = {name: outcome(globals()[name]) for name in sys.argv[2:]}
    sys.stdout.write(json.dumps(outcomes) + "\n")
