"""Pairs of (what people write about a function, its code), out of C++ sources that Debian's source packages bring.

It fetches the packages, finds the functions and the comments above and inside them, and makes the pairs that
train_embedding.py learns from. What any benchmark of code search scores is kept out twice: by the name of its folder
or file, for copies that other projects carry, and by its namespaces. It knows nothing of models or vectors.
"""

import hashlib
import os
import random
import re
import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import tree_sitter_cpp
from tree_sitter import Language, Node, Parser, Query, QueryCursor

# Projects of many fields and styles, half of them with bodies as well commented as their headers.
PACKAGES = tuple(
    """aria2 armadillo assimp boost1.81 botan box2d bullet capnproto clucene-core cmake cppcheck cpprest cppunit
    deal.ii dlib double-conversion eigen3 exiv2 flatbuffers gdal geographiclib geos gflags google-perftools grpc
    harfbuzz hunspell icu insighttoolkit5 kcoreaddons keepassxc kio kyotocabinet libcrypto++ libkml libmemcached
    libphonenumber libpqxx librdkafka libsfml libsigc++-2.0 libtorrent libtorrent-rasterbar llvm-toolchain-15
    log4cplus mapnik mkvtoolnix msgpack-c muparser ninja-build ogre-1.12 onetbb opencv openexr openscenegraph pdns
    poppler protobuf pugixml qbittorrent qgis qpid-proton qtbase-opensource-src rapidjson s2geometry snappy soci squid
    supertux tesseract thrift tinyxml2 trafficserver unittest++ vtk9 wxwidgets3.2 xapian-core xerces-c z3 zeroc-ice
    zimg znc""".split()
)
QUICK_PACKAGES = ("aria2", "bullet", "cppunit", "geos", "libsfml", "protobuf", "tinyxml2", "xapian-core")

# Never learnt from: what benchmarks score, ours and those of others, and folders for copies of other projects.
_KEPT_OUT = re.compile(
    r"""(?ix) (?:cm|lib)? (?: fmt | nlohmann(?:[-_]?json)? | json\.hpp | catch2? | catch.*\.hpp | abseil.* | absl
    | simdjson.* | rocksdb | (?:cpp-?)?httplib.* | curl | redis | hiredis | uv | leveldb | spdlog | re2 | yaml-?cpp
    | gtest | gmock | googletest | googlemock | drogon | trantor | poco | glog | benchmark | gbenchmark
    | google-benchmark | jsoncpp | json | oatpp | zmq.* | cppzmq | taglib
    | third[-_]?party.* | 3rd[-_]?party | vend | vendor | vendored | extern | externals? | deps | bundled
    | submodules | node_modules | contrib | utilities | docs? | examples )"""
)
_KEPT_OUT_SPACES = re.compile(
    rb"namespace\s+(?:fmt|Catch|nlohmann|absl|simdjson|rocksdb|leveldb|spdlog|re2|YAML|testing|drogon|trantor|Poco"
    rb"|benchmark|Json|oatpp|zmq|TagLib|httplib)\b"
)
_SUFFIXES = frozenset({".cc", ".cpp", ".cxx", ".h", ".hpp", ".hh", ".hxx", ".C", ".ipp", ".tcc"})

PACKAGE_BYTES = 14_000_000  # of source that are read of one package, so that none outweighs the others
FILE_BYTES = 600_000  # larger files are tables or generated
CODE_CHARACTERS = 2500  # of a function
DOC_CHARACTERS = 700
INNER_CHARACTERS = 900

# What of a file makes a chunk of small neighbours, like the product's: characters.
_SMALL_CODE = 400
_CHUNK_SIZES = (300, 900, 1400, 1400, 2400)

# How often a view is taken where it is possible.
_NAME_SHARE = 0.12
_TEXT_SHARE = 0.4
_WITH_INNER_SHARE = 0.7
_CLASS_TITLE_SHARE = 0.6


class View(StrEnum):
    """What stands for the question."""

    SENTENCE = "first sentence of the comment"
    COMMENT = "whole comment"
    INNER = "comments of the body"
    NAME = "words of the name"
    TEXT = "a text of the body"


class Pair(NamedTuple):
    question: str
    title: str  # first line of a document as the product embeds it: a qualified name
    code: str
    view: View
    package: str
    file: int
    chunk: int  # pairs of one chunk have nearly the same code: neither is a wrong answer to the other's question


class Function(NamedTuple):
    name: str  # with its scopes
    defined: bool
    code: str  # without comments
    comment: str
    inner: tuple[str, ...]  # comments of the body


def fetch(folder: Path, packages: Sequence[str]) -> dict[str, str]:
    """Source packages unpacked under ``folder``/trees, their C++ files alone: name -> version.

    Those whose archive the mirror no longer has are left out. Raises SystemExit without any.
    """
    environment = {**os.environ, "APT_CONFIG": str(_apt_config(folder))}
    if not any((folder / "apt" / "lists").glob("*Sources*")):
        _run(["apt-get", "update"], folder, environment)
    versions: dict[str, str] = {}
    for package in packages:
        target, archives = folder / "trees" / package, folder / "archives" / package
        if not target.exists():
            archives.mkdir(parents=True, exist_ok=True)
            command = ["apt-get", "source", "--download-only", package]
            done = subprocess.run(command, cwd=archives, env=environment, check=False, timeout=900, capture_output=True)
            if done.returncode:
                continue
            _unpack(archives, target)
        described = next(iter(sorted(archives.glob("*.dsc"))), None)
        if described:
            versions[package] = described.stem.split("_", 1)[1]
    if not versions:
        raise SystemExit("No source package could be fetched: this needs Debian's or Ubuntu's apt-get and its mirror.")
    return versions


def functions(data: bytes) -> list[Function]:
    """The functions of a file in order: all definitions, and the declarations that carry a comment."""
    captures = QueryCursor(_QUERY).captures(_PARSER.parse(data).root_node)
    comments = _joined(data, captures.get("comment", []))
    ends = [end for _, end in comments]
    found: list[Function] = []
    scopes: list[tuple[str, int]] = []
    done = 0
    for start, end, kind, name in _items(captures):
        while scopes and scopes[-1][1] <= start:
            scopes.pop()
        if start < done:
            continue
        if kind == "scope":
            scopes.append((name, end))
            continue
        brace = data.find(b"{", start, end) if kind == "definition" else -1
        head = data[start : brace if brace > 0 else min(end, start + 400)].decode("utf-8", "replace")
        own = _name(head)
        if not own or (kind == "declaration" and end - start > 1000):
            continue
        comment = _comment_of(data, comments, bisect_right(ends, start), (start, end), kind)
        inner: tuple[str, ...] = ()
        code = data[start:end]
        if kind == "definition":
            done = end
            inner, code = _without_comments(data, comments[bisect_right(ends, max(brace, start)) :], (start, end))
        elif not comment:
            continue
        text = code[: CODE_CHARACTERS * 2].decode("utf-8", "replace")[:CODE_CHARACTERS]
        qualified = "::".join([*(scope for scope, _ in scopes), own])
        found.append(Function(qualified, kind == "definition", text, comment, inner))
    return found


def mine(folder: Path, versions: dict[str, str], package_bytes: int = PACKAGE_BYTES) -> Iterator[Pair]:
    """Pairs of the packages that ``fetch`` brought, in the order of packages, files and lines."""
    tasks = [
        (package, files[at : at + 60])
        for package in sorted(versions)
        for files in [_files(folder / "trees" / package, package_bytes)]
        for at in range(0, len(files), 60)
    ]
    file = chunk = 0
    seen: set[bytes] = set()
    with ProcessPoolExecutor() as pool:
        for (package, _), read in zip(tasks, pool.map(_read, tasks), strict=True):
            for of_file in read:
                file += 1
                chance = random.Random(file)
                for members in _chunks(of_file, chance):
                    chunk += 1
                    key = hashlib.sha256("\0".join(part for f in members for part in (f.name, f.code)).encode())
                    if key.digest() not in seen:
                        seen.add(key.digest())
                        for question, title, code, view in _views(members, chance):
                            yield Pair(question, title, code, view, package, file, chunk)


_LANGUAGE = Language(tree_sitter_cpp.language())
_PARSER = Parser(_LANGUAGE)
_QUERY = Query(
    _LANGUAGE,
    """(comment) @comment (function_definition) @definition (declaration) @declaration
    (field_declaration) @declaration (class_specifier name: (_) @type body: (_))
    (struct_specifier name: (_) @type body: (_)) (namespace_definition name: (_) @space)""",
)
_MARKS = re.compile(r"^[ \t]*(?:///?<?!?|//!<?|/\*+[!<]*|\*+/|\*+(?!/))|\*+/[ \t]*$", re.MULTILINE)
_TAGS = re.compile(
    r"[@\\](?:param|returns?|retval|tparam|throws?|exception|see|sa|note|since|deprecated|ingroup|author|code|endcode"
    r"|warning)\b.*",
    re.DOTALL,
)
_NOISE = re.compile(r"</?\w[^>\n]{0,40}>|[@\\]\w+|[{}*`#\"]|-{3,}|={3,}|_{3,}")
_NOT_ABOUT_CODE = re.compile(
    r"(?i)copyright|licen[sc]e|warranty|\bTODO\b|\bFIXME\b|namespace$|[@\\]file|vim:|-\*-|\bNOLINT|clang-format"
)
_CODE_IN_COMMENT = re.compile(r"[;{}]\s*(?:\n|$)")
_NAMES = re.compile(
    r"((?:[A-Za-z_]\w*(?:<[^<>()]{0,200}>)?\s{0,9}::\s{0,9}){0,9}"
    r"(?:~?[A-Za-z_]\w*|operator\s{0,9}\(\)|operator\s{0,9}[^\s(]{1,30}))\s{0,9}\("
)
_NO_NAMES = frozenset(
    """if while for switch return sizeof defined decltype alignas noexcept __attribute__ catch throw new delete
    void""".split()
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_TEXTS = re.compile(r'"((?:[^"\\\n]|\\.){18,300})"')


def _items(captures: dict[str, list[Node]]) -> list[tuple[int, int, str, str]]:
    """(first byte, end, kind, name of a scope), the outer before the inner."""
    items = [(node.start_byte, node.end_byte, kind, "") for kind in _FUNCTIONS for node in captures.get(kind, [])]
    for node in (*captures.get("type", []), *captures.get("space", [])):
        whole = node.parent
        if whole and node.text:
            items.append((whole.start_byte, whole.end_byte, "scope", node.text.decode("utf-8", "replace")))
    return sorted(items, key=lambda item: (item[0], -item[1]))


_FUNCTIONS = ("definition", "declaration")


def _joined(data: bytes, nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Comments on neighbouring lines as one."""
    runs: list[tuple[int, int]] = []
    for start, end in sorted((node.start_byte, node.end_byte) for node in nodes):
        between = data[runs[-1][1] : start] if runs and start - runs[-1][1] < 200 else b"x"
        if not between.strip() and between.count(b"\n") <= 1:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    return runs


def _name(head: str) -> str:
    found = next((name for name in _NAMES.findall(head) if name.split("::")[-1].strip() not in _NO_NAMES), "")
    return re.sub(r"<[^<>]*>|\s+", "", found)


def _comment_of(
    data: bytes, comments: Sequence[tuple[int, int]], following: int, where: tuple[int, int], kind: str
) -> str:
    """The comment above the function, or behind a declaration on its line."""
    start, end = where
    text = b""
    if following:
        first, last = comments[following - 1]
        gap = data[last:start] if start - last < 300 else b";"
        alone = not data[data.rfind(b"\n", 0, first) + 1 : first].strip()
        if alone and not re.search(rb"[;{}]|\n\n", gap):
            text = data[first:last]
    if not text and kind == "declaration" and following < len(comments):
        first, last = comments[following]
        if first >= end and b"\n" not in data[end:first]:
            text = data[first:last]
    decoded = text[:6000].decode("utf-8", "replace")
    return "" if _NOT_ABOUT_CODE.search(decoded) else _cleaned(decoded)[:1500]


def _without_comments(
    data: bytes, comments: Sequence[tuple[int, int]], where: tuple[int, int]
) -> tuple[tuple[str, ...], bytes]:
    kept: list[bytes] = []
    inner: list[str] = []
    at, stop = where
    for first, last in comments:
        if first >= stop:
            break
        kept.append(data[at:first])
        at = last
        text = data[first:last].decode("utf-8", "replace")
        prose = _cleaned(text)
        if " " in prose and len(prose) > 12 and not _NOT_ABOUT_CODE.search(text) and not _is_code(text):
            inner.append(prose)
    kept.append(data[at:stop])
    return tuple(inner), b" ".join(kept)


def _is_code(comment: str) -> bool:
    return bool(_CODE_IN_COMMENT.search(_MARKS.sub(" ", comment)))


def _cleaned(comment: str) -> str:
    return " ".join(_NOISE.sub(" ", _TAGS.sub(" ", _MARKS.sub(" ", comment))).split())


def _chunks(members: Sequence[Function], chance: random.Random) -> Iterator[list[Function]]:
    """Small functions of one scope together, as the product's chunks hold them; larger ones alone."""
    chunk: list[Function] = []
    scope, size, limit = "", 0, 0
    for function in members:
        own = function.name.rpartition("::")[0]
        small = len(function.code) < _SMALL_CODE and (not function.defined or function.code.count("\n") < 3)
        length = len(function.code) + len(function.comment)
        if small and chunk and limit and own == scope and size + length < limit:
            chunk.append(function)
            size += length
            continue
        if chunk:
            yield chunk
        chunk, scope, size = [function], own, length
        limit = chance.choice(_CHUNK_SIZES) if small else 0
    if chunk:
        yield chunk


def _views(members: Sequence[Function], chance: random.Random) -> Iterator[tuple[str, str, str, View]]:
    """(question, title, code, view): what is asked for is left out of the code, what its neighbours say stays."""
    for place, function in enumerate(members):
        title = members[0].name
        scope, _, leaf = function.name.rpartition("::")
        if len(members) > 1 and scope and chance.random() < _CLASS_TITLE_SHARE:
            title = scope
        around = [
            part for other in members if other is not function for part in (other.code, other.comment, *other.inner)
        ]
        inner = " ".join(function.inner)[:INNER_CHARACTERS]
        said = "\n".join([function.code, inner, *around])
        bare = "\n".join([function.code, *around])
        if len(function.comment.split()) >= 3:
            sentence = _first_sentence(function.comment)
            yield sentence, title, said if chance.random() < _WITH_INNER_SHARE else bare, View.SENTENCE
            if len(function.comment) > len(sentence) + 40:
                whole = function.comment[:DOC_CHARACTERS]
                yield whole, title, said if chance.random() < _WITH_INNER_SHARE else bare, View.COMMENT
        if len(inner.split()) >= 7:
            above = f"{function.comment} " if chance.random() < 0.5 else ""
            yield above + inner, title, bare, View.INNER
        if not function.defined or len(function.code) <= 150 or place:
            continue
        if chance.random() < _NAME_SHARE and leaf.isidentifier():
            yield " ".join(function.name.split("::")[-2:]), "", bare.replace(leaf, " "), View.NAME
        if chance.random() < _TEXT_SHARE:
            texts = [text for text in _TEXTS.findall(function.code) if text.count(" ") >= 3]
            if texts:
                text = chance.choice(texts)
                yield text, title, said.replace(text, " "), View.TEXT


def _first_sentence(comment: str) -> str:
    first, *others = _SENTENCE_END.split(comment, maxsplit=2)
    return f"{first} {others[0]}" if others and len(first.split()) < 8 else first


def _read(task: tuple[str, list[Path]]) -> list[list[Function]]:
    read = []
    for path in task[1]:
        data = path.read_bytes()
        if len(data) <= FILE_BYTES and b"\0" not in data[:2000] and not _KEPT_OUT_SPACES.search(data):
            found = functions(data)
            if found:
                read.append(found)
    return read


def _files(root: Path, limit: int) -> list[Path]:
    """Files of a tree, chosen by chance up to a number of bytes, sorted."""
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _KEPT_OUT.fullmatch(name))
        files += [
            Path(folder, name)
            for name in sorted(names)
            if Path(name).suffix in _SUFFIXES
            and not _KEPT_OUT.fullmatch(name)
            and not _KEPT_OUT.fullmatch(Path(name).stem)
        ]
    random.Random(3).shuffle(files)
    chosen: list[Path] = []
    size = 0
    for path in files:
        if size > limit:
            break
        chosen.append(path)
        size += min(path.stat().st_size, FILE_BYTES)
    return sorted(chosen)


def _apt_config(folder: Path) -> Path:
    """Settings that let apt-get read source packages without touching the machine's own lists. Returns their file."""
    apt = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    suite = release.get("VERSION_CODENAME", "bookworm").strip('"')
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources = f"deb-src [signed-by={keyring}] http://deb.debian.org/debian {suite} main\n"
    (apt / "sources.list").write_text(sources, encoding="utf-8")
    lines = [
        f'Dir::State "{apt}";',
        f'Dir::State::lists "{apt}/lists";',
        'Dir::State::status "/var/lib/dpkg/status";',
        f'Dir::Cache "{apt}/cache";',
        f'Dir::Etc::sourcelist "{apt}/sources.list";',
        'Dir::Etc::sourceparts "-";',
        'APT::Sandbox::User "root";',
    ]
    config = apt / "apt.conf"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return config


def _unpack(archives: Path, target: Path) -> None:
    scratch = target.with_name(target.name + ".new")
    scratch.mkdir(parents=True, exist_ok=True)
    for archive in sorted(archives.glob("*.tar.*")):
        if archive.suffix == ".asc" or ".debian.tar" in archive.name:
            continue
        wanted = [f"*{suffix}" for suffix in sorted(_SUFFIXES)]
        command = ["tar", "-xf", str(archive), "-C", str(scratch), "--no-same-owner", "--wildcards", *wanted]
        # tar complains of patterns that no file matches; what there is, is unpacked.
        subprocess.run(command, check=False, timeout=900, capture_output=True)
    scratch.rename(target)
    for archive in archives.glob("*.tar.*"):
        archive.unlink()


def _run(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    if shutil.which(arguments[0]) is None:
        raise SystemExit(f"{arguments[0]} is not installed.")
    done = subprocess.run(
        arguments, cwd=folder, env=environment, check=False, timeout=900, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr.strip()[-300:]}")
