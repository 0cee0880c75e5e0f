"""What the operating system tells of memory, processors and AMD's cards, on Linux and on Apple's machines.

Containers lie in ``/proc/meminfo`` and in the count of processors, so limits of cgroups (both versions) are read too.
Reads files and ``sysctl`` only, starts nothing. What a file does not say is None, "" or 0, never an error.
"""

import ctypes
import ctypes.util
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Sysctl = Callable[[str], bytes]


def no_sysctl(name: str) -> bytes:  # noqa: ARG001 - the shape of a sysctl
    """For systems without one."""
    return b""


def libc_sysctl(name: str) -> bytes:
    """The value of a name as bytes, b"" where there is none. For macOS."""
    library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    size = ctypes.c_size_t(0)
    key = name.encode()
    if not hasattr(library, "sysctlbyname") or library.sysctlbyname(key, None, ctypes.byref(size), None, 0) != 0:
        return b""
    value = ctypes.create_string_buffer(size.value)
    if library.sysctlbyname(key, value, ctypes.byref(size), None, 0) != 0:
        return b""
    return value.raw[: size.value]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the operating system tells about itself. Tests put captured files there."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    sysctl: Sysctl = no_sysctl


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory in bytes; ``limited`` where a container may take less than the machine has."""

    total: int
    available: int
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Processor:
    """``cores`` are physical ones that this process may use; ``clock`` in Hz, 0 where unknown."""

    name: str
    cores: int
    clock: float
    operations: int  # of single precision, of one core in a clock
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Module:
    """One module of main memory."""

    channel: str  # as its locators name it, "" where they do not
    bytes_wide: int
    transfers: float  # a second


@dataclass(frozen=True, slots=True)
class DrmCard:
    """A graphics card as the kernel knows it."""

    vendor: int
    device: int
    name: str
    memory: int
    used: int
    shared: int = 0  # main memory that it may use too


def memory(places: Places) -> Memory | None:
    """None where nothing is told."""
    values = _meminfo(places)
    total = values.get("MemTotal", 0)
    if not total:
        return _apple_memory(places)
    free = values.get("MemAvailable", values.get("MemFree", 0) + values.get("Cached", 0))
    limited = False
    for limit, used in _memory_limits(places):
        if limit < total:
            total, limited = limit, True
            free = min(free, max(0, limit - used))
    return Memory(total, min(free, total), limited)


def processor(places: Places, allowed: Iterable[int]) -> Processor:
    """``allowed`` are the numbers of the processors that this process may run on."""
    usable = sorted(allowed)
    text = _text(places.proc / "cpuinfo")
    name = _first(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text)
    flags = set(_first(r"^(?:flags|Features)\s*:\s*(.+)$", text).split())
    megahertz = _first(r"^cpu MHz\s*:\s*([\d.]+)$", text)
    fastest = _number(places.sys / "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    clock = fastest * 1e3 if fastest else float(megahertz or 0) * 1e6
    if brand := _words(places.sysctl("machdep.cpu.brand_string")):
        name, flags = brand, {"asimd"}
        usable = usable[: _integer(places.sysctl("hw.perflevel0.physicalcpu")) or len(usable)]
    pairs = {_text(places.sys / f"devices/system/cpu/cpu{number}/topology/thread_siblings_list") for number in usable}
    cores = len(pairs) if "" not in pairs else len(usable)
    quota = min((share for share in _processor_limits(places)), default=float("inf"))
    limited = quota < cores
    return Processor(name, max(1, int(min(cores, quota))), clock, _operations(flags), limited)


def resident(places: Places, pids: Iterable[int]) -> int:
    """Bytes that the processes and their descendants hold in main memory. Those that ended count nothing.

    Pages that several share count in each, so the sum of a model mapped by two processes is too large.
    """
    wanted = set(pids)
    if not wanted:
        return 0
    children: dict[int, list[int]] = {}
    for number, parent in _parents(places):
        children.setdefault(parent, []).append(number)
    family: set[int] = set()
    waiting = list(wanted)
    while waiting:
        number = waiting.pop()
        if number not in family:
            family.add(number)
            waiting += children.get(number, ())
    return sum(_resident_pages(places, number) for number in family) * os.sysconf("SC_PAGE_SIZE")


def named(places: Places, pattern: re.Pattern[str]) -> tuple[int, ...]:
    """The processes whose program's name is all of a match."""
    found = []
    for folder in _process_folders(places):
        command = _text(folder / "cmdline").split("\0")[0] or _text(folder / "comm").strip()
        if pattern.fullmatch(command.rsplit("/", 1)[-1]):
            found.append(int(folder.name))
    return tuple(sorted(found))


def argument(places: Places, pid: int, name: str) -> str:
    """The value of an option of a process, written as ``--name VALUE`` or ``--name=VALUE``; "" without."""
    words = _text(places.proc / str(pid) / "cmdline").split("\0")
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def drm_cards(places: Places) -> tuple[DrmCard, ...]:
    """Cards that the kernel's drivers speak of, in the order of their numbers; of outputs and the like it is silent."""
    cards = []
    folder = places.sys / "class/drm"
    names = sorted(_entries(folder), key=lambda name: (len(name), name))
    for name in names:
        if not re.fullmatch(r"card\d+", name):
            continue
        device = folder / name / "device"
        total = _number(device / "mem_info_vram_total")
        cards.append(
            DrmCard(
                vendor=_hexadecimal(device / "vendor"),
                device=_hexadecimal(device / "device"),
                name=_text(device / "product_name").strip(),
                memory=total,
                used=_number(device / "mem_info_vram_used"),
                shared=_number(device / "mem_info_gtt_total"),
            )
        )
    return tuple(cards)


def modules(places: Places) -> tuple[Module, ...]:
    """The modules of main memory by the firmware's table, which only an administrator may read; () otherwise.

    The layout is that of structure 17 in DMTF's SMBIOS reference.
    """
    try:
        table = (places.sys / "firmware/dmi/tables/DMI").read_bytes()
    except OSError:
        return ()
    found = []
    for kind, body, words in _structures(table):
        if kind != 17 or len(body) < 0x17:
            continue
        size = int.from_bytes(body[0x0C:0x0E], "little")
        wide = int.from_bytes(body[0x0A:0x0C], "little")
        speed = int.from_bytes(body[0x15:0x17], "little")
        if len(body) >= 0x22:
            speed = int.from_bytes(body[0x20:0x22], "little") or speed  # as it is run, not as it could be
        if not size or not speed or wide in {0, 0xFFFF} or speed == 0xFFFF:
            continue
        locators = " ".join(words[index - 1] for index in body[0x10:0x12] if 0 < index <= len(words))
        found.append(Module(_channel(locators), wide // 8, speed * 1e6))
    return tuple(found)


def _channel(locators: str) -> str:
    found = re.search(r"channel[\s_-]*([a-z0-9]+)", locators, re.IGNORECASE)
    found = found or re.search(r"\b(?:dimm|ddr5|ddr4)[\s_-]*([a-h])\d?\b", locators, re.IGNORECASE)
    return found[1].upper() if found else ""


def _structures(table: bytes) -> Iterator[tuple[int, bytes, list[str]]]:
    """Kind, formatted part and strings of each structure of the table; stops where it is cut short."""
    at = 0
    while at + 4 <= len(table) and table[at + 1] >= 4:
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if end < 0:
            return
        words = table[at + length : end].split(b"\0")
        yield kind, table[at : at + length], [word.decode("latin-1") for word in words]
        at = end + 2


def _apple_memory(places: Places) -> Memory | None:
    total = _integer(places.sysctl("hw.memsize"))
    if not total:
        return None
    page = _integer(places.sysctl("hw.pagesize")) or 16384
    counts = ("vm.page_free_count", "vm.page_purgeable_count", "vm.page_pageable_external_count")
    free = sum(_integer(places.sysctl(name)) for name in counts) * page
    return Memory(total, min(free, total))


def _operations(flags: set[str]) -> int:
    """Two fused operations a lane: two units of 16, 8 or 4 lanes (vendors' optimisation manuals)."""
    if "avx512f" in flags:
        return 64
    if "avx2" in flags or {"fma", "avx"} <= flags:
        return 32
    if flags & {"asimd", "neon", "avx"}:
        return 16
    return 8


def _meminfo(places: Places) -> dict[str, int]:
    values = {}
    for line in _text(places.proc / "meminfo").splitlines():
        if found := re.fullmatch(r"(\w+):\s+(\d+) kB", line.strip()):
            values[found[1]] = int(found[2]) * 1024
    return values


def _memory_limits(places: Places) -> Iterator[tuple[int, int]]:
    """Limit and use, without files that can be dropped, of each group that this process is in."""
    for group in _groups(places, "memory"):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        if not limit:
            continue
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        dropped = _first(r"^(?:total_)?inactive_file (\d+)$", _text(group / "memory.stat"))
        yield limit, max(0, used - int(dropped or 0))


def _processor_limits(places: Places) -> Iterator[float]:
    for group in _groups(places, "cpu"):
        quota, _, period = _text(group / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)
        old, each = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if old > 0 and each:
            yield old / each


def _groups(places: Places, controller: str) -> Iterator[Path]:
    """The folders of the control groups around this process, innermost first, in both hierarchies.

    Inside a container the path may be the host's, which is not mounted; the root of the mount is its group then.
    """
    for line in _text(places.proc / "self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root = places.sys / "fs/cgroup"
            if not (root / "cgroup.controllers").exists():
                root = root / "unified"
        elif controller in controllers.split(","):
            root = places.sys / "fs/cgroup" / controllers
            if not root.exists():
                root = places.sys / "fs/cgroup" / controller
        else:
            continue
        inner = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(inner), -1, -1):
            folder = root.joinpath(*inner[:depth])
            if folder.is_dir():
                yield folder


def _parents(places: Places) -> Iterator[tuple[int, int]]:
    for folder in _process_folders(places):
        # The name is in brackets and may hold any character, brackets too.
        fields = _text(folder / "stat").rpartition(")")[2].split()
        if len(fields) > 1 and fields[1].isdigit():
            yield int(folder.name), int(fields[1])


def _resident_pages(places: Places, number: int) -> int:
    fields = _text(places.proc / str(number) / "statm").split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0


def _process_folders(places: Places) -> Iterator[Path]:
    for name in _entries(places.proc):
        if name.isdigit():
            yield places.proc / name


def _entries(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def _text(path: Path) -> str:
    """The text of a file; "" where there is none, or where it is not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def _hexadecimal(path: Path) -> int:
    text = _text(path).strip()
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else 0


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else ""


def _words(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "little") if len(value) in {4, 8} else 0
