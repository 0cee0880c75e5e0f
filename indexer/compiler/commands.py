"""Reads compile_commands.json: which files are compiled, and with which of their flags libclang may be called.

Such a file is untrusted, and a compiler's flags can load plug-ins, run programs and write files. Nothing of a command
is ever run, and a flag reaches libclang only if it stands in the lists below: paths to search, macros, the language
and its dialect, the target. Everything else is dropped, and so is every word that is no flag. It knows nothing of
what is done with the units.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from indexer.files import language_of
from indexer.model import Language, Problem

NAME = "compile_commands.json"
MAX_BYTES = 256 << 20  # of a compile_commands.json; Chromium's has about 150 MB
MAX_RESPONSE_BYTES = 1 << 20  # of one response file
MAX_RESPONSE_DEPTH = 3  # response files that name response files
MAX_UNITS_A_FILE = 3  # ways to compile one file that are worth the time; the first ones win

# Where builds are usually made, the likeliest first.
_FOLDERS = ("", "build", "out", "cmake-build-debug", "cmake-build-release", "cmake-build-relwithdebinfo", "builddir")
_DEEPER = ("cmake-build-*", "build-*", "build/*", "out/*")

# Flags with a path, which is made absolute. Joined to it or before it.
_PATHS = ("-isystem", "-iquote", "-idirafter", "-iframework", "-isysroot", "-cxx-isystem", "-I", "-F")
# Joined with an equals sign to a path.
_EQUALS_PATH = ("--sysroot=", "--gcc-toolchain=", "--gcc-install-dir=")
_FORCED = ("-include", "-imacros")
_DEFINES = ("-D", "-U")
_WITH_VALUE = ("-x", "-target", "--sysroot", *_FORCED, *_PATHS, *_DEFINES)
# What changes the meaning of the source and touches no file. A dialect is named by -std, -x and these.
_LANGUAGE = re.compile(
    r"-f(?:no-)?(?:exceptions|cxx-exceptions|rtti|char8_t|signed-char|unsigned-char|short-enums|short-wchar|openmp"
    r"|wrapv|strict-enums|coroutines|coroutines-ts|builtin|blocks|gnu-keywords|ms-extensions"
    r"|ms-compatibility|declspec|delayed-template-parsing|sized-deallocation|aligned-allocation|aligned-new"
    r"|relaxed-template-template-args|asm-blocks|borland-extensions|operator-names|trigraphs|dollars-in-identifiers"
    r"|threadsafe-statics|access-control)"
    r"|-f(?:freestanding|hosted|PIC|pic|PIE|pie)"
    r"|-f(?:template-depth|constexpr-depth|constexpr-steps|bracket-depth)=\d{1,9}"
    r"|-m(?:no-)?(?:sse[\d.]*|ssse3|avx\w*|fma4?|f16c|bmi2?|popcnt|lzcnt|aes|pclmul|sha|32|64|x32|neon|mmx|crc32|cx16)"
    r"|-m(?:arch|cpu|tune|fpu|float-abi|abi)=[\w.+-]{1,60}"
    r"|-(?:std|stdlib)=[\w+]{1,20}|--std=[\w+]{1,20}|-ansi|-pthread|-undef|-trigraphs"
    r"|-nostdinc|-nostdinc\+\+|-nostdlibinc|-nobuiltininc"
    r"|--target=[\w.-]{1,60}"
)
_LANGUAGES = frozenset({"c", "c++", "c-header", "c++-header"})
_TARGET = re.compile(r"[\w.-]{1,60}")
# Flags that take the next word, none of which is wanted.
_TAKE_A_WORD = frozenset(
    "-o -MF -MT -MQ -MJ -Xlinker -Xassembler -Xpreprocessor -Xanalyzer -mllvm -load -plugin -include-pch -L -l -u -T -z"
    " -framework -aux-info -wrapper -specs -B -dumpbase -dumpdir -ivfsoverlay -imultilib -iprefix -iwithprefix"
    " -iwithprefixbefore -serialize-diagnostics -dependency-file -fmodule-file -module-file-info -main-file-name"
    " -working-directory -add-plugin -arch --param -index-store-path -ccc-install-dir -b -V -G -e -A".split()
)
_LAUNCHERS = frozenset(
    "ccache sccache distcc icecc buildcache gomacc rewrapper fastbuild time nice env fbuild colorgcc".split()
)
_NOT_UNDERSTOOD = re.compile(
    r"(?:clang-)?cl(?:\.exe)?|nvcc|icl(?:\.exe)?|armcc|iccarm|bcc\w*|tasking\w*", re.IGNORECASE
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# One word of a command as a shell splits it: bare stretches, escapes, and quotes of both kinds.
_WORD = re.compile(r"""(?:[^\s"'\\]+|\\(?:.|$)|"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$))+""", re.DOTALL)
_PIECE = re.compile(r"""[^"'\\]+|\\(?:.|$)|"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED_IN_QUOTES = re.compile(r'\\(["\\$`])')


@dataclass(frozen=True, slots=True)
class Unit:
    """One way to compile one file. ``path`` is relative to the root; paths in ``arguments`` are absolute."""

    path: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commands:
    """What a compile_commands.json holds for a tree, in its own order."""

    units: tuple[Unit, ...] = ()
    problems: tuple[Problem, ...] = ()
    duplicates: int = 0  # entries that say nothing new, or one way too many to compile a file
    outside: int = 0  # entries of files that are not in the tree
    missing: int = 0  # entries of files that do not exist


class _Entry(NamedTuple):
    folder: str
    file: str
    words: list[str]


def find_commands(root: Path) -> Path | None:
    """The compile_commands.json of a tree: in its root, or where builds are usually made; None where there is none."""
    folders = [root / name for name in _FOLDERS]
    for pattern in _DEEPER:
        folders += sorted(root.glob(pattern))
    return next((folder / NAME for folder in folders if (folder / NAME).is_file()), None)


def read_commands(path: Path, root: Path) -> Commands:
    """The units of a tree with a resolved root. Never raises on what the file holds: that becomes Problems."""
    shown = _shown(path, root)
    try:
        if path.stat().st_size > MAX_BYTES:
            return Commands(problems=(Problem(shown, 0, f"it is larger than {MAX_BYTES >> 20} MiB and not read"),))
        entries = json.loads(path.read_bytes())
    except OSError as error:
        return Commands(problems=(Problem(shown, 0, f"it cannot be read: {error.strerror}"),))
    except (ValueError, RecursionError) as error:
        return Commands(problems=(Problem(shown, 0, f"it is no JSON: {str(error)[:100]}"),))
    if not isinstance(entries, list):
        return Commands(problems=(Problem(shown, 0, "it holds no list of commands"),))
    return _Reading(path, root).read(entries, shown)


def defines(commands: Commands) -> tuple[str, ...]:
    """The macros that flags define, as NAME or NAME=VALUE, each once, sorted."""
    return tuple(
        sorted({argument[2:] for unit in commands.units for argument in unit.arguments if argument.startswith("-D")})
    )


class _Reading:
    """One pass over the entries, with what has been counted so far."""

    def __init__(self, path: Path, root: Path) -> None:
        self._home = str(path.absolute().parent)
        self._root = str(root)
        self._real: dict[str, str] = {}  # folder -> the folder without symbolic links
        self._left_out: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()  # compilers
        self._rejected = 0

    def read(self, entries: Iterable[object], shown: str) -> Commands:
        units: dict[Unit, None] = {}
        ways: Counter[str] = Counter()
        for raw in entries:
            unit = self._unit(raw)
            if unit is None:
                continue
            if unit in units or ways[unit.path] >= MAX_UNITS_A_FILE:
                self._left_out["duplicate"] += 1
                continue
            units[unit] = None
            ways[unit.path] += 1
        left_out = self._left_out
        messages = [
            (left_out["malformed"], "entries have no directory, file and command"),
            (left_out["missing"], "entries name files that do not exist"),
            (self._rejected, "response files were not read: outside the tree, missing or too large"),
            *(
                (count, f"commands call {name}, whose flags are not understood")
                for name, count in self._unknown.items()
            ),
        ]
        return Commands(
            units=tuple(units),
            problems=tuple(Problem(shown, 0, f"{count} {message}") for count, message in messages if count),
            duplicates=left_out["duplicate"],
            outside=left_out["outside"],
            missing=left_out["missing"],
        )

    def _unit(self, raw: object) -> Unit | None:
        """What an entry asks for, or None after counting why it asks for nothing."""
        entry = _entry(raw)
        if entry is None:
            self._left_out["malformed"] += 1
            return None
        folder = _joined(self._home, entry.folder)
        full = self._resolved(_joined(folder, entry.file))
        path = full.removeprefix(self._root.rstrip("/") + "/")
        if path == full:
            self._left_out["outside"] += 1
            return None
        if language_of(path) is not Language.CPP or path.endswith((".cu", ".cuh")):
            return None  # assembler, resources, CUDA: a build has them, and they are none of our business
        if not Path(full).is_file():
            self._left_out["missing"] += 1
            return None
        compiler, words = _compiler(entry.words)
        if _NOT_UNDERSTOOD.fullmatch(compiler):
            self._unknown[compiler] += 1
            return None
        arguments = _admitted(self._expanded(words, folder), folder)
        if "++" in compiler and _reads_as_c(path) and not any(word.startswith("-x") for word in arguments):
            arguments = ["-xc++", *arguments]
        return Unit(path, tuple(arguments))

    def _resolved(self, full: str) -> str:
        folder, _, name = full.rpartition("/")
        if folder not in self._real:
            self._real[folder] = str(Path(folder or "/").resolve())
        return f"{self._real[folder].rstrip('/')}/{name}"

    def _expanded(self, words: Sequence[str], folder: str, depth: int = 0) -> list[str]:
        """The words with those of response files in their place. Only such beneath the tree or the file's own folder
        are read.
        """
        if not any(word.startswith("@") for word in words):
            return list(words)
        found: list[str] = []
        for word in words:
            if not word.startswith("@"):
                found.append(word)
                continue
            full = str(Path(_joined(folder, word[1:])).resolve()) if _is_name(word) else ""
            text = None
            if depth < MAX_RESPONSE_DEPTH and full.startswith((self._root + "/", self._home + "/")):
                text = _small_text(full)
            if text is None:
                self._rejected += 1
            else:
                found += self._expanded(split_words(text), folder, depth + 1)
        return found


def _admitted(words: Sequence[str], folder: str) -> list[str]:
    """The flags among a command's words that libclang may see, with absolute paths."""
    kept: list[str] = []
    # What stands behind -Xclang is judged like all the others.
    rest = iter([word for word in words if word != "-Xclang"])
    for word in rest:
        if not word.startswith("-") or not _is_name(word):
            continue
        if word in _TAKE_A_WORD:
            next(rest, "")
        elif _LANGUAGE.fullmatch(word):
            kept.append(word)
        elif word.startswith(_EQUALS_PATH):
            flag, _, value = word.partition("=")
            kept.append(f"{flag}={_joined(folder, value)}")
        elif flag := next((flag for flag in _WITH_VALUE if word.startswith(flag)), ""):
            value = word.removeprefix(flag) or next(rest, "")
            if value and _is_name(value):
                kept += _with_value(flag, value, folder)
    return kept


def _with_value(flag: str, value: str, folder: str) -> list[str]:
    if flag == "-x":
        return [f"-x{value}"] if value in _LANGUAGES else []
    if flag == "-target":
        return [f"--target={value}"] if _TARGET.fullmatch(value) else []
    if flag in _DEFINES:
        return [flag + value]
    if value.startswith("="):  # relative to the system's root
        return []
    path = _joined(folder, value)
    if flag in _FORCED:
        # Handed to the compiler proper: its driver would look for a precompiled header beside it and read that.
        return ["-Xclang", flag, "-Xclang", path]
    return [f"--sysroot={path}"] if flag == "--sysroot" else [flag, path]


def _entry(raw: object) -> _Entry | None:
    if not isinstance(raw, dict):
        return None
    folder, file, command, words = (raw.get(key) for key in ("directory", "file", "command", "arguments"))
    if not isinstance(folder, str) or not isinstance(file, str) or not file or not _is_name(folder + file):
        return None
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        return _Entry(folder, file, words)
    return _Entry(folder, file, split_words(command)) if isinstance(command, str) and command.strip() else None


def split_words(command: str) -> list[str]:
    """A command's words as a POSIX shell splits them; a quote that is not closed ends with the text."""
    if not any(mark in command for mark in "\"'\\"):
        return command.split()
    return [
        word if not any(mark in word for mark in "\"'\\") else "".join(map(_unquoted, _PIECE.findall(word)))
        for word in _WORD.findall(command)
    ]


def _unquoted(piece: str) -> str:
    if piece.startswith("'"):
        return piece[1:].removesuffix("'")
    if piece.startswith('"'):
        return _ESCAPED_IN_QUOTES.sub(r"\1", piece[1:-1] if len(piece) > 1 and piece.endswith('"') else piece[1:])
    return _ESCAPED.sub(r"\1", piece)


def _compiler(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The compiler's own name and the words behind it, past what launches it."""
    at = 0
    if _base(words[0]) in {"cmake", "cmake.exe"} and "--" in words:
        at = words.index("--") + 1
    while at < len(words) - 1 and (_base(words[at]) in _LAUNCHERS or _ASSIGNMENT.match(words[at])):
        at += 1
    return (_base(words[at]), words[at + 1 :]) if at < len(words) else ("", ())


def _joined(folder: str, name: str) -> str:
    """An absolute path without dots; by its letters alone, because the folder of a build may not exist here."""
    return os.path.normpath(f"{folder}/{name}") if not name.startswith("/") else os.path.normpath(name)


def _base(word: str) -> str:
    return re.split(r"[/\\]", word)[-1]


def _reads_as_c(path: str) -> bool:
    return path.endswith((".c", ".h", ".inl", ".ipp", ".tpp", ".txx"))


def _is_name(text: str) -> bool:
    """Whether an operating system can have a file of this name."""
    if "\0" in text:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _small_text(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_RESPONSE_BYTES + 1)
    except OSError:
        return None
    return data.decode("utf-8", "replace") if len(data) <= MAX_RESPONSE_BYTES else None


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
