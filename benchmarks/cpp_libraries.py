"""The libraries that cpp_facts.py measures on, as package clients deliver them, and how a compiler would be called.

Sources come out of npm and Debian packages, and so do the headers of the compiler and of the standard library: the
result does not depend on what is installed. None of these packages carries a compile_commands.json, so the commands
are made here: one translation unit for each .cc file, or for each public header where a library has nothing else. The
same commands can be had as a compile_commands.json. It knows packages and flags, and nothing of facts.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

LEVELDOWN = "leveldown@6.1.1"
ROCKSDB = "rocksdb@5.2.1"
# Newest first of what works with the libclang wheel, whose own headers it does not carry.
_COMPILER_HEADERS = ("18", "19", "17", "16", "15", "14")
_STANDARD = "-std=c++17"
_INCLUDED = re.compile(r"#include <([^>\n]+)>")


class Unit(NamedTuple):
    """One call of the compiler. ``text`` is that of a file that exists nowhere, or None for a file of the tree."""

    name: str
    text: str | None
    arguments: tuple[str, ...]


class Library(NamedTuple):
    name: str
    tree: Path  # what is indexed; facts outside it are nobody's
    units: tuple[Unit, ...]
    note: str


def write_commands(library: Library, folder: Path) -> Path:
    """Writes a library's commands as a compile_commands.json beside its tree, in ``folder``, and returns its path.

    Only files of a tree are compiled by a build: a unit that exists nowhere stands there as the headers it includes.
    """
    system = system_arguments(folder)
    entries = []
    for unit in library.units:
        headers = [] if unit.text is None else _INCLUDED.findall(unit.text)
        for name in [unit.name] if unit.text is None else [str(library.tree / header) for header in headers]:
            compiler = "cc" if name.endswith(".c") else "c++"
            language = ["-x", "c++"] if headers else []
            arguments = [compiler, *unit.arguments, *system, *language, "-c", name]
            entries.append({"directory": str(library.tree), "file": name, "arguments": arguments})
    path = folder / "commands" / library.name / "compile_commands.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    return path


def missing_clients() -> list[str]:
    return [name for name in ("npm", "tar", "apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]


def system_arguments(folder: Path) -> tuple[str, ...]:
    """The flags that make Clang find the headers of the compiler, the standard library and the kernel in ``folder``."""
    compiler = _first_package([f"libclang-common-{version}-dev" for version in _COMPILER_HEADERS])
    known = _lines(["apt-cache", "pkgnames", "libstdc++-"])
    standard = sorted(
        (name for name in known if re.fullmatch(r"libstdc\+\+-\d+-dev", name)), key=lambda name: int(name.split("-")[1])
    )
    usable = _first_package(standard[::-1])
    roots = [_debian(folder, name) for name in (usable, compiler, "libc6-dev", "linux-libc-dev")]
    found: list[Path] = []
    for pattern in (
        "usr/include/c++/*",
        "usr/include/*-linux-gnu*/c++/*",
        "usr/lib/llvm-*/lib/clang/*/include",
        "usr/include/*-linux-gnu*",
        "usr/include",
    ):
        found += [path for root in roots for path in sorted(root.glob(pattern))]
    flags = ["-nostdinc", "-nostdinc++", "-ferror-limit=0", "-Wno-everything"]
    return (*flags, *(part for path in found for part in ("-isystem", str(path))))


def leveldb(folder: Path) -> Library:
    deps = _npm(folder, LEVELDOWN) / "deps"
    tree = deps / "leveldb" / "leveldb-1.20"
    arguments = (
        *(f"-I{path}" for path in (tree, tree / "include", deps / "snappy" / "linux", deps / "snappy" / "snappy")),
        *("-DLEVELDB_PLATFORM_POSIX", "-DOS_LINUX", "-DSNAPPY", "-DLEVELDB_PLATFORM_POSIX_SSE", "-msse4.2"),
    )
    # Two benchmarks of other databases need sqlite3 and Kyoto Cabinet.
    sources = [path for path in _sources(tree) if path.parent.name != "bench"]
    return Library("leveldb", tree, _units(sources, (*arguments, _STANDARD)), "made: one unit for each .cc")


def snappy(folder: Path) -> Library:
    deps = _npm(folder, LEVELDOWN) / "deps"
    tree = deps / "snappy" / "snappy"
    zlib = _debian(folder, "zlib1g-dev") / "usr" / "include"  # its test compares itself with zlib
    arguments = (*(f"-I{path}" for path in (tree, deps / "snappy" / "linux", zlib)), "-DHAVE_CONFIG_H", _STANDARD)
    return Library("snappy", tree, _units(_sources(tree), arguments), "made: one unit for each .cc")


def fmt(folder: Path) -> Library:
    include = _debian(folder, "libfmt-dev") / "usr" / "include"
    return _headers("fmt", include, ("-DFMT_HEADER_ONLY",))


def spdlog(folder: Path) -> Library:
    include = _debian(folder, "libspdlog-dev") / "usr" / "include"
    other = _debian(folder, "libfmt-dev") / "usr" / "include"
    # Parts of other headers, and what needs the headers of systems and programs that are not here.
    absent = re.compile(r"-inl|android|msvc|wincolor|windows|win_event|qt_sink|mongo|systemd|kafka")
    headers = [
        path for path in sorted(include.rglob("*.h")) if not absent.search(path.name) and path.parent.name != "fmt"
    ]
    names = ["spdlog/spdlog.h", *(path.relative_to(include).as_posix() for path in headers)]
    text = "".join(f"#include <{name}>\n" for name in names)
    flags = (f"-I{include}", f"-I{other}", "-DFMT_HEADER_ONLY", "-DSPDLOG_FMT_EXTERNAL", _STANDARD)
    return Library("spdlog", include, (Unit("unit of all", text, flags),), "made: one unit that includes every header")


def nlohmann(folder: Path) -> Library:
    include = _debian(folder, "nlohmann-json3-dev") / "usr" / "include"
    return _headers("nlohmann", include, (), lambda path: path.parent == include / "nlohmann")


def catch2(folder: Path) -> Library:
    include = _debian(folder, "catch2") / "usr" / "include"
    # Its reporters are parts of the one big header.
    return _headers("catch2", include, ("-DCATCH_CONFIG_MAIN",), lambda path: path.name == "catch.hpp")


LIBRARIES: dict[str, Callable[[Path], Library]] = {
    "leveldb": leveldb,
    "snappy": snappy,
    "fmt": fmt,
    "spdlog": spdlog,
    "nlohmann": nlohmann,
    "catch2": catch2,
}


def range_v3(folder: Path) -> Path:
    """A tree that is measured for what the grammar makes of it, not against Clang."""
    return _debian(folder, "librange-v3-dev") / "usr" / "include"


def rocksdb(folder: Path) -> Path:
    """A large tree, for speed."""
    return _npm(folder, ROCKSDB) / "deps"


def _headers(
    name: str, include: Path, flags: Sequence[str], wanted: Callable[[Path], bool] = lambda _: True
) -> Library:
    headers = [path for path in sorted(include.rglob("*")) if path.suffix in {".h", ".hpp"} and wanted(path)]
    # The one that includes most goes first: what was seen through it is not walked again.
    headers.sort(key=lambda path: -path.read_bytes().count(b"#include"))
    names = [path.relative_to(include).as_posix() for path in headers]
    arguments = (f"-I{include}", *flags, _STANDARD)
    units = tuple(Unit(f"unit of {header}", f"#include <{header}>\n", arguments) for header in names)
    return Library(name, include, units, "made: one unit for each public header")


def _sources(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.suffix in {".cc", ".cpp", ".c"})


def _units(sources: Sequence[Path], arguments: tuple[str, ...]) -> tuple[Unit, ...]:
    plain = tuple(argument for argument in arguments if not argument.startswith("-std="))
    return tuple(Unit(str(path), None, plain if path.suffix == ".c" else arguments) for path in sources)


def _npm(folder: Path, package: str) -> Path:
    target = folder / "npm" / package.replace("@", "-")
    if not target.exists():
        with_scratch = folder / "npm" / f"{target.name}.new"
        with_scratch.mkdir(parents=True, exist_ok=True)
        _run(["npm", "pack", package, "--silent"], with_scratch)
        _run(["tar", "-xzf", next(with_scratch.glob("*.tgz")).name], with_scratch)
        (with_scratch / "package").rename(target)
        shutil.rmtree(with_scratch)
    return target


def _debian(folder: Path, package: str) -> Path:
    target = folder / "debian" / package
    if not target.exists():
        scratch = folder / "debian" / f"{package}.new"
        scratch.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", package], scratch)
        _run(["dpkg-deb", "-x", next(scratch.glob("*.deb")).name, "unpacked"], scratch)
        (scratch / "unpacked").rename(target)
        shutil.rmtree(scratch)
    return target


def _first_package(names: Sequence[str]) -> str:
    known = set(_lines(["apt-cache", "pkgnames"]))
    for name in names:
        if name in known and any(
            "Candidate: (none)" not in line for line in _lines(["apt-cache", "policy", name])[2:3]
        ):
            return name
    raise SystemExit(f"Debian's package lists hold none of {', '.join(names)}: run `apt-get update`.")


def _lines(arguments: Sequence[str]) -> list[str]:
    return subprocess.run(arguments, check=True, timeout=120, capture_output=True, text=True).stdout.splitlines()


def _run(arguments: Sequence[str], folder: Path) -> None:
    done = subprocess.run(arguments, cwd=folder, check=False, timeout=600, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr.strip()[-300:]}")
