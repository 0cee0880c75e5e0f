"""What this machine offers to run things apart, found out by trying, and what to do where something is missing.

Knows no recipe and no job but its own, which looks around inside and says what it sees.
"""

import itertools
import os
import re
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agents.errors import SandboxUnavailable
from agents.model import Limits
from agents.sandbox import cgroups, command, landlock, limits, running, seccomp
from agents.sandbox.model import Job, Sandboxing

# Where systems put it. PATH is not asked: whoever can write there could put something else in its place.
PLACES = ("/usr/bin", "/usr/local/bin", "/bin", "/run/wrappers/bin", "/run/current-system/sw/bin")
_NEEDED = ("--json-status-fd", "--clearenv", "--perms", "--size", "--seccomp", "--ro-bind-data", "--remount-ro")
_TRIAL = Limits(seconds=20, memory=256 << 20, processes=32, disk=16 << 20, output=16 << 10)
_ROOT = Path("/")
_DOCS = "See docs/sandbox.md."
_BEFORE = running.NOT_MADE

_INSTALLING = {
    "debian": "apt install bubblewrap",
    "ubuntu": "apt install bubblewrap",
    "fedora": "dnf install bubblewrap",
    "rhel": "dnf install bubblewrap",
    "centos": "dnf install bubblewrap",
    "arch": "pacman -S bubblewrap",
    "suse": "zypper install bubblewrap",
    "opensuse": "zypper install bubblewrap",
    "alpine": "apk add bubblewrap",
    "gentoo": "emerge sys-apps/bubblewrap",
    "void": "xbps-install bubblewrap",
    "nixos": "add pkgs.bubblewrap to environment.systemPackages",
}


@dataclass(slots=True)
class _Found:
    """What was found, kept for a process once it is good: what is missing may be installed while a server runs."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sandboxing: Sandboxing | None = None
    host: running.Host | None = None


_found = _Found()


def look() -> Sandboxing:
    """What there is, tried out once for a process. Never raises."""
    return _looked()[0]


def host() -> running.Host:
    """The machine as jobs need it. Raises SandboxUnavailable, with what is missing and the way out."""
    sandboxing, found = _looked()
    if found is None:
        missing = sandboxing.missing[0] if sandboxing.missing else "it could not be tried"
        raise SandboxUnavailable(f"Nothing can be run apart on this machine: {missing}.", sandboxing.hint)
    return found


def _looked() -> tuple[Sandboxing, running.Host | None]:
    with _found.lock:
        if _found.sandboxing is None or not _found.sandboxing.available:
            _found.sandboxing, _found.host = examine()
        return _found.sandboxing, _found.host


def examine(places: Sequence[str] = PLACES, root: Path = _ROOT) -> tuple[Sandboxing, running.Host | None]:
    """Looks afresh. ``root`` is that of the file system, for what the system says of itself."""
    machine = os.uname().machine
    if sys.platform != "linux" or not seccomp.supports(machine):
        missing = f"there is no filter of system calls for {machine} on {sys.platform}"
        return Sandboxing(
            available=False, missing=(missing,), hint=f"Linux on x86_64 or aarch64 is needed. {_DOCS}"
        ), None
    program = find(places)
    if program is None:
        return _lacking("bubblewrap is not installed", f"Install it: {installing(root)}. {_DOCS}"), None
    version, options = _told(program)
    absent = [option for option in _NEEDED if option not in options]
    if absent:
        missing = f"bubblewrap {version} is too old: it has no {absent[0]}"
        hint = f"Install 0.8 or newer, of the distribution or from its source. {_DOCS}"
        return _lacking(missing, hint, program, version), None
    groups, no_groups = cgroups.place()
    if groups is not None:
        cgroups.sweep(groups)
    error: SandboxUnavailable | None = None
    # Where a unit forbids making up a host name (ProtectHostname), the machine's is seen: no reason to run nothing.
    for usable, (libraries, hidden) in itertools.product((options, options - {"--hostname"}), _interpreters()):
        kit = command.Kit(program, usable, _top(), _python(), libraries, hidden)
        found = running.Host(
            kit,
            machine,
            "where there is" if landlock.version() >= landlock.LEAST else "",
            groups,
            limits.counts_apart(os.uname().release, os.getuid()),
            _launcher(),
            _place_of_devices(),
        )
        try:
            seen = _tried(found)
        except SandboxUnavailable as refused:
            error = refused
            continue
        found = replace(found, landlock="must" if "landlock" in seen else "")
        return _described(found, version, seen, no_groups), found
    assert error is not None
    missing, hint = explained(error.message, root)
    return _lacking(missing, hint, program, version), None


def _lacking(missing: str, hint: str, program: Path | None = None, version: str = "") -> Sandboxing:
    return Sandboxing(available=False, missing=(missing,), hint=hint, program=program, version=version)


def _described(found: running.Host, version: str, layers: tuple[str, ...], no_groups: str) -> Sandboxing:
    missing = []
    if "landlock" not in layers:
        missing.append("Landlock is not in the kernel: files are kept apart by the mounts alone")
    if "cgroup" not in layers:
        missing.append(f"{no_groups or 'no group could be made'}: memory and processes are watched, not bounded")
    warnings = []
    if os.getuid() == 0:
        warnings.append("jobs run as root without its rights; a user of its own for codehub keeps them further apart")
    if os.getuid() == 0 and found.devices is None:
        warnings.append("jobs of root own /dev/null and its like: no folder was found where they could have their own")
    if "--hostname" not in found.kit.options:
        warnings.append("the name of this machine can be seen inside (ProtectHostname of a unit)")
    if "--disable-userns" not in found.kit.options:
        warnings.append("this bubblewrap leaves making user namespaces to the filter of system calls alone to refuse")
    hint = (
        f"Delegate=yes in the unit of the server has the kernel bound jobs. {_DOCS}" if "cgroup" not in layers else ""
    )
    return Sandboxing(
        available=True,
        layers=layers,
        missing=tuple(missing),
        hint=hint,
        program=found.kit.program,
        version=version,
        landlock=landlock.version() if "landlock" in layers else 0,
        cgroup=found.groups.version if found.groups is not None and "cgroup" in layers else "",
        warnings=tuple(warnings),
    )


def find(places: Sequence[str] = PLACES) -> Path | None:
    """Bubblewrap, from places that nobody but root and ourselves can write to."""
    for place in places:
        program = Path(place) / "bwrap"
        try:
            resolved = program.resolve(strict=True)
            told, folder = resolved.stat(), resolved.parent.stat()
        except (OSError, RuntimeError):
            continue
        trusted = all(one.st_uid in {0, os.getuid()} and not one.st_mode & 0o022 for one in (told, folder))
        if trusted and stat.S_ISREG(told.st_mode) and os.access(resolved, os.X_OK):
            return resolved
    return None


def _told(program: Path) -> tuple[str, frozenset[str]]:
    """The version of a bubblewrap, and all of its options; "" and none where it does not say."""
    said = []
    for option in ("--version", "--help"):
        try:
            done = subprocess.run(
                [str(program), option],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
                env={},
                errors="replace",
            )
        except (OSError, subprocess.TimeoutExpired):
            return "", frozenset()
        said.append(done.stdout + done.stderr)
    return said[0].split()[-1] if said[0].split() else "", frozenset(re.findall(r"--[a-z][a-z0-9-]+", said[1]))


def _top() -> command.Root:
    links, folders = [], []
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            links.append((name, str(path.readlink())))
        elif path.is_dir():
            folders.append(name)
    return command.Root(tuple(links), tuple(folders))


def _python() -> Path:
    return Path(sys.executable).resolve()


def _interpreters() -> list[tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """What is shown of this Python besides what stands in /usr, and what of that is hidden: as little as may do, then
    all of it.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    library = Path(str(sysconfig.get_config_var("LIBDIR") or ""), str(sysconfig.get_config_var("INSTSONAME") or ""))
    wanted = [_python(), folder, library] if library.suffix != ".a" and library.is_file() else [_python(), folder]
    wanted = [path for path in wanted if not path.is_relative_to("/usr")]
    others = folder / "site-packages"
    hidden = (others,) if folder in wanted and others.is_dir() else ()
    few = (tuple(wanted), hidden)
    base = Path(sys.base_prefix)
    return [few] if not wanted or base.is_relative_to("/usr") else [few, ((base,), ())]


def _place_of_devices() -> Path | None:
    """For root, who owns the machine's devices: where some can be made for a job alone."""
    if os.getuid():
        return None
    for place in ("/var/tmp", "/tmp", "/run"):  # noqa: S108 - a folder of our own is made in it
        try:
            with running.devices_in(Path(place)) as folder:
                (folder / "null").write_bytes(b"x")
        except OSError:
            continue
        running.sweep_devices(Path(place))
        return Path(place)
    return None


def _launcher() -> dict[str, bytes]:
    here = Path(__file__).parent
    return {
        "launching.py": (here / "launching.py").read_bytes(),
        "agents/sandbox/landlock.py": (here / "landlock.py").read_bytes(),
    }


def _tried(found: running.Host) -> tuple[str, ...]:
    """The layers of a job that does nothing. Raises SandboxUnavailable where none can be run."""
    with tempfile.TemporaryDirectory(prefix="codehub-") as folder:
        ended = running.run(found, Job(("/bin/sh", "-c", "echo inside"), Path(folder), _TRIAL), lambda: False)
    if ended.code != 0 or b"inside" not in ended.output or ended.survivors:
        words = ended.output.decode("utf-8", "replace").strip()[-200:]
        raise SandboxUnavailable(f"A program that does nothing ended with {ended.code} {ended.reason}: {words}", _DOCS)
    return ended.layers


def explained(said: str, root: Path = _ROOT) -> tuple[str, str]:
    """What is missing, and the way out, of what bubblewrap said when it failed."""
    if _read(root / "proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1" and os.getuid():
        return (
            "AppArmor keeps user namespaces from programs without a profile",
            "Put a profile for bwrap into /etc/apparmor.d and load it: the text stands in docs/sandbox.md.",
        )
    if _read(root / "proc/sys/user/max_user_namespaces").strip() == "0":
        return (
            "the kernel allows no user namespaces",
            "As root: sysctl user.max_user_namespaces=15000, and the same in /etc/sysctl.d.",
        )
    if _read(root / "proc/sys/kernel/unprivileged_userns_clone").strip() == "0" and os.getuid():
        return (
            "user namespaces are the administrator's alone",
            "As root: sysctl kernel.unprivileged_userns_clone=1, and the same in /etc/sysctl.d.",
        )
    contained = container(root)
    if contained and said.startswith("bwrap: ", len(_BEFORE)):
        return (
            f"{contained} lets no namespaces be made in it: {_short(said)}",
            "Run codehub on the machine itself, or give the container what docs/sandbox.md says.",
        )
    return _short(said), f"`codehub sandbox --test` shows more. {_DOCS}"


def container(root: Path = _ROOT) -> str:
    """What kind of container this is; "" where it seems to be none."""
    for mark, name in ((".dockerenv", "Docker"), ("run/.containerenv", "Podman")):
        if (root / mark).exists():
            return name
    told = _read(root / "run/systemd/container").strip()
    if told:
        return told
    return "Kubernetes" if (root / "var/run/secrets/kubernetes.io").exists() else ""


def installing(root: Path = _ROOT) -> str:
    """The command that installs bubblewrap on this distribution."""
    told = dict(
        line.partition("=")[::2] for line in _read(root / "etc/os-release").splitlines() if not line.startswith("#")
    )
    names = [told.get("ID", ""), *told.get("ID_LIKE", "").replace('"', " ").split()]
    for name in names:
        family = name.strip('"').partition("-")[0]
        if family in _INSTALLING:
            return _INSTALLING[family]
    return "the package bubblewrap of your distribution"


def _short(said: str) -> str:
    return said.removeprefix(_BEFORE).rstrip(".")[:300]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def shape(sandboxing: Sandboxing) -> dict[str, object]:
    """What there is, for those that read JSON."""
    return {
        "available": sandboxing.available,
        "layers": list(sandboxing.layers),
        "missing": list(sandboxing.missing),
        "warnings": list(sandboxing.warnings),
        "hint": sandboxing.hint,
        "program": str(sandboxing.program) if sandboxing.program is not None else None,
        "version": sandboxing.version,
        "landlock": sandboxing.landlock,
        "cgroup": sandboxing.cgroup,
    }
