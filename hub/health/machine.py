"""What codehub stands on: the system, its libraries, memory, cards and what the kernel allows.

Reads files and asks NVIDIA's driver; runs nothing and changes nothing. Knows nothing of indexes.
"""

import ctypes
import ctypes.util
import platform
import re
import shutil
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from hub.capacity import host
from hub.health.model import Finding, Surroundings, failed, fine, warning
from indexer.symbol_table.database import SQLITE_WITHOUT_THE_WAL_BUG, has_text_search, sqlite_version

# Bytes. Parsing in processes, the static model and SQLite's cache beside a small model. 2 to 8 GiB.
LOW_RAM_BYTES = 4 << 30
# Of the swap. A model that is swapped out answers hundreds of times slower. 0.25 to 0.9.
MUCH_SWAP = 0.5
# A clock before the year this was written in is wrong, and with it the expiry of every key.
LEAST_YEAR = 2026
# Whoever follows a tree takes a watch for each of its folders. Linux allows 8,192 where it found little memory.
FEW_WATCHES = 65_536

_GIB = 1 << 30
_TIME_ERROR = 5  # what adjtimex(2) returns for a clock that nothing keeps right
_TIMEX_BYTES = 512  # more than its structure has on any system


def system(around: Surroundings) -> Finding:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', read_text(around.root / "etc/os-release"), re.MULTILINE))
    name = release.get("PRETTY_NAME") or platform.system()
    detail = f"{name}, {platform.system()} {platform.release()}, {platform.machine()}"
    if sys.platform != "linux":
        return warning("system", detail, "codehub is tested on Linux: run its server there.")
    return fine("system", detail)


def python(_: Surroundings) -> Finding:
    return fine("python", sys.version.split()[0])


def sqlite(_: Surroundings) -> Finding:
    version = sqlite_version()
    words = ".".join(map(str, version))
    if not has_text_search():
        return failed("sqlite", f"{words} without FTS5", "Install apsw from PyPI, whose SQLite has it.")
    if version < SQLITE_WITHOUT_THE_WAL_BUG:
        return warning("sqlite", words, "Upgrade apsw: WAL files may be corrupted.")
    return fine("sqlite", f"{words} with FTS5")


def git(_: Surroundings) -> Finding:
    found = shutil.which("git")
    if found is None:
        return warning("git", "not found", "Install git, and answers will name the commit they rest on.")
    return fine("git", found)


def clang(_: Surroundings) -> Finding:
    try:
        return fine("libclang", metadata.version("libclang"))
    except metadata.PackageNotFoundError:
        hint = "pip install 'code-knowledge-hub[clang]', and a compile_commands.json makes edges exact."
        return warning("libclang", "not installed: facts come from the parser alone", hint)


def memory(around: Surroundings) -> Finding:
    """Main memory and swap."""
    found = host.memory(around.places)
    if found is None:
        return warning("memory", "its size cannot be read here", "Plan with `codehub plan --ram SIZE`.")
    limit = " (limited for this process)" if found.limited else ""
    detail = f"{found.total / _GIB:.1f} GiB{limit}, {found.available / _GIB:.1f} GiB free"
    kibibytes = dict(
        re.findall(r"^(SwapTotal|SwapFree):\s+(\d+)", read_text(around.places.proc / "meminfo"), re.MULTILINE)
    )
    total, free = int(kibibytes.get("SwapTotal", 0)) << 10, int(kibibytes.get("SwapFree", 0)) << 10
    detail += f"; swap {(total - free) / _GIB:.1f} of {total / _GIB:.1f} GiB used" if total else "; no swap"
    if total and total - free > MUCH_SWAP * total:
        return warning("memory", detail, "Free some: a model that is swapped out answers hundreds of times slower.")
    if found.total < LOW_RAM_BYTES:
        return warning("memory", detail, "Enough to search; `codehub plan` says which models fit.")
    return fine("memory", detail)


def cards(around: Surroundings) -> Finding:
    """Graphics cards, NVIDIA's and AMD's."""
    reading = around.ask_cards()
    named = [f"{card.name}, {card.memory / _GIB:.1f} GiB, {card.used / _GIB:.1f} used" for card in reading.cards]
    if not named:
        others = (card for card in host.drm_cards(around.places) if card.memory)
        named = [f"{card.name or 'AMD'}, {card.memory / _GIB:.1f} GiB" for card in others]
    if named:
        return fine("graphics card", "; ".join(named))
    return fine("graphics card", "none found: models run on the processor, which reads prompts far slower")


def driver(around: Surroundings) -> Finding:
    """NVIDIA's driver: loaded, and of the version that its library has."""
    loaded = re.search(
        r"Kernel Module(?: for \S+)?\s+(\d+[\d.]*)", read_text(around.places.proc / "driver/nvidia/version")
    )
    reading = around.ask_cards()
    if loaded and reading.cards:
        partitioned = "; partitioned (MIG)" if any(card.partitioned for card in reading.cards) else ""
        return fine("driver", f"NVIDIA {loaded[1]}{partitioned}")
    if loaded:
        hint = "After an upgrade of the driver restart the machine; in a container give it the card (--gpus all)."
        return warning("driver", f"NVIDIA {loaded[1]} is loaded, and no card answers: {reading.note}", hint)
    if reading.cards:
        return fine("driver", "NVIDIA's, of a version that is not shown here")
    if any(card.vendor == _NVIDIA for card in host.drm_cards(around.places)):
        hint = "Install NVIDIA's driver; nouveau cannot compute."
        return warning("driver", "there is a card of NVIDIA's, and no driver of theirs is loaded", hint)
    return fine("driver", "none needed: there is no card of NVIDIA's")


_NVIDIA = 0x10DE


def watches(around: Surroundings) -> Finding:
    """How many folders the kernel lets one user follow."""
    limits = around.places.proc / "sys/fs/inotify"
    most, instances = (_number(limits / name) for name in ("max_user_watches", "max_user_instances"))
    if not most:
        return fine("inotify", "not here; trees are looked over when they are indexed")
    detail = f"{most:,} watches, {instances} instances a user"
    if most < FEW_WATCHES:
        hint = f"echo fs.inotify.max_user_watches={8 * FEW_WATCHES} | sudo tee /etc/sysctl.d/60-codehub.conf"
        return warning("inotify", detail, f"{hint} && sudo sysctl --system")
    return fine("inotify", detail)


def sandbox(around: Surroundings) -> Finding:
    """Whether builds and tests could be run apart: bubblewrap, and user namespaces for it."""
    kernel = around.places.proc / "sys"
    missing = []
    if shutil.which("bwrap") is None:
        missing.append("bubblewrap is not installed")
    if read_text(kernel / "user/max_user_namespaces").strip() == "0":
        missing.append("the kernel allows no user namespaces (user.max_user_namespaces=0)")
    if read_text(kernel / "kernel/unprivileged_userns_clone").strip() == "0":
        missing.append("user namespaces are the administrator's alone (kernel.unprivileged_userns_clone=0)")
    if read_text(kernel / "kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
        missing.append("AppArmor keeps user namespaces from programs without a profile")
    layers = "landlock" if "landlock" in read_text(around.places.sys / "kernel/security/lsm") else ""
    if missing:
        hint = "Searching and asking need none. To run builds: install bubblewrap, and see docs/doctor.md."
        return warning("sandbox", "; ".join(missing), hint)
    return fine("sandbox", "bubblewrap and user namespaces" + (f", {layers}" if layers else ""))


def clock(around: Surroundings) -> Finding:
    """Whether the clock can be right, and whether anything keeps it so."""
    now = around.clock()
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if datetime.fromtimestamp(now, UTC).year < LEAST_YEAR:
        return failed("clock", f"{shown} cannot be", "Set it: keys expire and webhooks are refused by this clock.")
    if (around.root / "run/systemd/timesync/synchronized").exists() or _kept_right():
        return fine("clock", f"{shown}, synchronized")
    return fine("clock", f"{shown}; whether anything keeps it right is not shown here")


def _kept_right() -> bool:
    """What the kernel says of it; False where it says nothing."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    told = library.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))  # of zeros: asks, sets nothing
    return isinstance(told, int) and 0 <= told < _TIME_ERROR


def read_text(file: Path) -> str:
    """What a file of the system says; "" where it is not there or not ours to read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> int:
    text = read_text(file).strip()
    return int(text) if text.isdecimal() else 0
