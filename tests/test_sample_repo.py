"""The sample is a real program: it builds without a warning, its own tests pass, and its papers tell the truth."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parent.parent / "sample_repo"
SOURCES = sorted(SAMPLE.glob("src/*.cc")) + sorted(SAMPLE.glob("tests/*.cc"))
COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
CMAKE = shutil.which("cmake")


def sample_files() -> list[Path]:
    """Every file but what a build in place leaves behind."""
    files = (path.relative_to(SAMPLE) for path in SAMPLE.rglob("*") if path.is_file())
    return sorted(path for path in files if path.parts[0] != "build")


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_sample_stays_small_enough_to_read() -> None:
    assert 15 <= len(sample_files()) <= 25


def test_cmake_lists_exactly_the_sources_that_there_are() -> None:
    listed = re.findall(r"\b(?:src|tests)/\w+\.cc", (SAMPLE / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.relative_to(SAMPLE).as_posix() for path in SOURCES)


@pytest.mark.parametrize("document", sorted(SAMPLE.rglob("*.md")), ids=lambda path: path.name)
def test_every_file_and_function_that_a_document_names_is_there(document: Path) -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SAMPLE.rglob("*.h"))
    quoted = re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8"))
    files = [name for name in quoted if re.fullmatch(r"(?:\w+/)+\S*", name)]
    members = [name for name in quoted if re.fullmatch(r"\w+(?:::\w+)+", name)]
    assert files or members
    assert [name for name in files if not (SAMPLE / name).exists()] == []
    assert [name for name in members for part in name.split("::") if not re.search(rf"\b{part}\b", code)] == []


def test_only_the_macro_header_leaves_macros_behind() -> None:
    for path in [*SAMPLE.glob("src/*"), *SAMPLE.glob("include/ember/*")]:
        text = path.read_text(encoding="utf-8")
        defined = set(re.findall(r"#define (\w+)\(", text))
        if path.name == "macros.h":
            assert len(defined) > 10
        else:
            assert defined == set(re.findall(r"#undef (\w+)", text)), path.name


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on this machine")
def test_the_sample_compiles_without_a_warning_and_passes_its_own_tests(tmp_path: Path) -> None:
    flags = ["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", f"-I{SAMPLE / 'include'}", f"-I{SAMPLE / 'src'}"]
    objects = {source: tmp_path / f"{source.stem}.o" for source in SOURCES}

    def compile_one(source: Path) -> subprocess.CompletedProcess[str]:
        return run([str(COMPILER), *flags, "-c", str(source), "-o", str(objects[source])])

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for done in pool.map(compile_one, SOURCES):
            assert done.returncode == 0, done.stderr

    shared = run([str(COMPILER), *flags, "-DEMBER_SHARED", "-fsyntax-only", str(SAMPLE / "src" / "iterators.cc")])
    assert shared.returncode == 0, shared.stderr

    program = tmp_path / "ember_test"
    linked = run([str(COMPILER), *map(str, objects.values()), "-o", str(program), "-pthread"])
    assert linked.returncode == 0, linked.stderr
    tested = run([str(program)], TMPDIR=str(tmp_path))
    assert tested.returncode == 0, tested.stderr
    written = set(
        re.findall(r"^void ([A-Z]\w+)\(const std::string&", SOURCES[-1].read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert len(written) > 10
    assert set(re.findall(r"^passed (\w+)$", tested.stdout, re.MULTILINE)) == written


@pytest.mark.slow
@pytest.mark.skipif(CMAKE is None or COMPILER is None, reason="no CMake or no C++ compiler on this machine")
def test_cmake_configures_the_sample(tmp_path: Path) -> None:
    done = run([str(CMAKE), "-S", str(SAMPLE), "-B", str(tmp_path / "build")])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build" / "CMakeCache.txt").is_file()
