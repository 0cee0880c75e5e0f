"""Facts from the compiler: which commands are trusted, what is read again, and what a bad unit costs."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.compiler import (
    CompilerOptions,
    CompilerReport,
    Limits,
    confirm,
    coverage,
    defines,
    find_commands,
    retract,
    workers,
)
from indexer.compiler.commands import MAX_UNITS_A_FILE, Commands, Unit, read_commands, split_words
from indexer.compiler.headers import compiler_headers
from indexer.errors import Cancelled
from indexer.index import DataFolder, Index
from indexer.model import Provenance
from indexer.pipeline import Options, refresh
from tests.support.trees import write_tree

SHAPES: dict[str, str | bytes] = {
    "shape.h": "#pragma once\nstruct Shape {\n  int Area() const;\n  int Grow(int by);\n  int Grow(double by);\n};\n",
    "shape.cc": '#include "shape.h"\nint Shape::Area() const { return 1; }\n'
    "int Shape::Grow(int by) { return by; }\nint Shape::Grow(double by) { return 2; }\n",
    "use.cc": '#include "shape.h"\nint Use(Shape& shape) {\n  return shape.Grow(1.5) + shape.Area();\n}\n',
    "alone.cc": "int Alone() { return 0; }\nint once = Alone(); int Twice() { return Alone(); }\n",
}


def command(file: str, *flags: str, folder: str = ".") -> dict[str, object]:
    return {"directory": folder, "file": file, "arguments": ["g++", *flags, "-c", file, "-o", f"{file}.o"]}


def commands_for(files: Mapping[str, object]) -> list[dict[str, object]]:
    return [command(path, "-std=c++17") for path in files if path.endswith(".cc")]


def write_commands(root: Path, entries: Sequence[object]) -> Path:
    path = root / "compile_commands.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def commands_of(root: Path, *entries: object) -> Commands:
    return read_commands(write_commands(root, entries), root)


def arguments_of(root: Path, *flags: str) -> tuple[str, ...]:
    write_tree(root, {"a.cc": ""})
    (unit,) = commands_of(root, command("a.cc", *flags)).units
    return unit.arguments


ENDLESS = "constexpr int f() { for (;;) {} return 0; }\nconstexpr int x = f();\n"
SLOW = command("endless.cc", "-std=c++17", "-fconstexpr-steps=999999999")


@contextmanager
def opened(base: Path) -> Iterator[Index]:
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "w", base / "tree") as index:
        yield index


def confirmed(
    base: Path, limits: Limits | None = None, cancelled: Callable[[], bool] = lambda: False
) -> CompilerReport:
    """The quick pass, then the compiler's."""
    with opened(base) as index:
        refresh(index, Options(workers=1))
        return confirm(index, CompilerOptions(limits=limits or Limits(workers=1)), cancelled=cancelled)


def edges(base: Path) -> list[tuple[str, int, str, str]]:
    """(path, line, name, target's signature or what it is) of what the compiler said."""
    with Index.for_reading(DataFolder(base / "data"), "w") as index:
        signatures = {symbol.id: symbol.signature for symbol in index.facts.all_symbols()}
        rows = index._database.rows(
            "SELECT path, line, written, target FROM refs JOIN files ON files.id = refs.file"
            " WHERE how = ? ORDER BY 1, 2, 3, 4",
            (Provenance.COMPILER,),
        )
        return [
            (path, line, written, signatures.get(target, target or "outside")) for path, line, written, target in rows
        ]


# Commands


def test_commands_are_found_where_builds_put_them(tmp_path: Path) -> None:
    assert find_commands(tmp_path) is None
    write_tree(tmp_path, {"out/Release/compile_commands.json": "[]", "src/compile_commands.json": "[]"})
    assert find_commands(tmp_path) == tmp_path / "out/Release/compile_commands.json"
    write_tree(tmp_path, {"build/compile_commands.json": "[]"})
    assert find_commands(tmp_path) == tmp_path / "build/compile_commands.json"
    write_tree(tmp_path, {"compile_commands.json": "[]"})
    assert find_commands(tmp_path) == tmp_path / "compile_commands.json"


def test_relative_paths_start_at_the_entrys_folder_which_starts_at_the_files(tmp_path: Path) -> None:
    write_tree(tmp_path, {"src/a.cc": "", "build/compile_commands.json": "[]"})
    path = tmp_path / "build/compile_commands.json"
    entry = {
        "directory": "debug",
        "file": "../../src/a.cc",
        "command": "c++ -I../inc -isystem ../../sys -c ../../src/a.cc",
    }
    path.write_text(json.dumps([entry]), encoding="utf-8")
    (unit,) = read_commands(path, tmp_path).units
    assert unit == Unit("src/a.cc", ("-I", f"{tmp_path}/build/inc", "-isystem", f"{tmp_path}/sys"))


def test_a_unit_counts_once_however_often_it_is_listed(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.cc": "", "b.cc": ""})
    many = [command("a.cc", "-DX", "-O2", "-Wall", "-o", f"{number}.o") for number in range(5_000)]
    found = commands_of(tmp_path, *many, command("b.cc"), *(command("a.cc", f"-DN={n}") for n in range(9)))
    assert [unit.path for unit in found.units] == ["a.cc", "b.cc", *["a.cc"] * (MAX_UNITS_A_FILE - 1)]
    assert found.duplicates == 4_999 + 9 - (MAX_UNITS_A_FILE - 1)
    assert defines(found) == ("N=0", "N=1", "X")


def test_what_is_missing_outside_or_malformed_is_counted_and_never_raised(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "", "a.s": "", "k.cu": ""})
    write_tree(tmp_path, {"other.cc": ""})
    (root / "link.cc").symlink_to(tmp_path / "other.cc")
    bad: list[object] = [1, {}, {"directory": ".", "file": 3, "command": "x"}, {"directory": ".", "file": "a.cc"}]
    bad += [
        {"directory": ".", "file": "a\0.cc", "command": "g++ a.cc"},
        {"directory": ".", "file": "\ud800", "command": "x"},
    ]
    found = commands_of(
        root,
        *bad,
        command("gone.cc"),
        command("../other.cc"),
        command("a.s"),
        command("k.cu"),
        {"directory": "/nowhere/at/all", "file": str(root / "a.cc"), "command": "clang++ -Iinc a.cc"},
        {"directory": ".", "file": "a.cc", "arguments": ["C:\\VC\\cl.exe", "/c", "a.cc"]},
    )
    assert found.units == (Unit("a.cc", ("-I", "/nowhere/at/all/inc")),)
    assert (found.outside, found.missing) == (1, 1)
    assert [problem.message for problem in found.problems] == [
        "6 entries have no directory, file and command",
        "1 entries name files that do not exist",
        "1 commands call cl.exe, whose flags are not understood",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is no JSON"),
        ("{}", "it holds no list of commands"),
        ("[" * 100_000, "it is no JSON"),
        (None, "it cannot be read"),
    ],
)
def test_a_file_of_commands_that_is_none_is_one_problem(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "compile_commands.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    found = read_commands(path, tmp_path)
    assert found.units == ()
    assert [problem.message.startswith(message) for problem in found.problems] == [True]


def test_flags_that_run_code_write_files_or_read_foreign_syntax_trees_are_dropped(tmp_path: Path) -> None:
    evil = (
        "-fplugin=/tmp/evil.so -Xclang -load -Xclang /tmp/evil.so -Xclang -add-plugin -Xclang evil -o /etc/passwd"
        " -fpass-plugin=/tmp/evil.so -MD -MF /etc/deps -MJ /etc/x.json -save-temps=/etc -ftime-trace=/etc/t"
        " -fmodules -fmodules-cache-path=/etc -fmodule-file=/tmp/m.pcm -include-pch /tmp/evil.pch -mllvm -debug"
        " -wrapper /bin/sh,-c -B/tmp/bin -specs=/tmp/specs -ivfsoverlay /tmp/o.yaml -Wp,-MD,/etc/d --config=/tmp/c"
        " -fcrash-diagnostics-dir=/etc -fprofile-use=/tmp/p -Xpreprocessor -MF/etc -index-store-path /etc/i"
        " -E -S -emit-ast -working-directory /etc -fdump-record-layouts -x none -x ast -target ../../x -ccc-gcc-name sh"
    ).split()
    assert arguments_of(tmp_path, *evil, "-DKEPT") == ("-DKEPT",)


def test_flags_that_shape_the_language_are_kept(tmp_path: Path) -> None:
    kept = (
        "-std=gnu++20 -fno-exceptions -fno-rtti -m32 -msse4.2 -march=x86-64-v3 -pthread -nostdinc++ -DA=1 -UB".split()
    )
    assert arguments_of(tmp_path, *kept, "-O2", "-g", "-Werror", "-fPIC") == (*kept, "-fPIC")
    assert arguments_of(tmp_path, "-D", "A=b c", "-x", "c", "-target", "arm-linux", "--sysroot", "/s") == (
        *("-DA=b c", "-xc", "--target=arm-linux", "--sysroot=/s"),
    )
    # A forced header goes past the driver, which would take a precompiled one that lies beside it.
    forced = ("-Xclang", "-include", "-Xclang", f"{tmp_path}/pre.h")
    assert arguments_of(tmp_path, "-include", "pre.h") == forced
    assert arguments_of(tmp_path, "-Xclang", "-include", "-Xclang", "pre.h") == forced


def test_response_files_are_read_in_the_tree_alone(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "tree", {"a.cc": "", "flags.rsp": "-DIN @more.rsp", "more.rsp": '-D"TWO=a b" @flags.rsp'}
    )
    write_tree(tmp_path, {"outside.rsp": "-DOUT"})
    found = commands_of(root, command("a.cc", "@flags.rsp", "@../outside.rsp", "@/etc/hostname"))
    (unit,) = found.units
    assert unit.arguments == ("-DIN", "-DTWO=a b", "-DIN")
    assert found.problems[0].message.startswith("3 response files were not read")


@pytest.mark.parametrize(
    ("launched", "path", "arguments"),
    [
        ("ccache g++ -DA -c a.cc", "a.cc", ("-DA",)),
        ("env CCACHE_DIR=/x sccache /usr/bin/clang++-18 -DA a.cc", "a.cc", ("-DA",)),
        ("cmake -E __run_co_compile --tidy=clang-tidy --source=a.cc -- g++ -DA -c a.cc", "a.cc", ("-DA",)),
        ("g++ -c old.c", "old.c", ("-xc++",)),
        ("gcc -c old.c", "old.c", ()),
    ],
)
def test_what_launches_the_compiler_is_seen_through(
    tmp_path: Path, launched: str, path: str, arguments: tuple[str, ...]
) -> None:
    write_tree(tmp_path, {"a.cc": "", "old.c": ""})
    found = commands_of(tmp_path, {"directory": ".", "file": path, "command": launched})
    assert found.units == (Unit(path, arguments),)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1))
def test_words_survive_the_shells_quoting(words: list[str]) -> None:
    import shlex

    assert split_words(shlex.join(words)) == words


@given(st.text(alphabet="ab \"'\\\n", max_size=200))
def test_splitting_a_command_never_raises(command_line: str) -> None:
    assert all(isinstance(word, str) for word in split_words(command_line))


def test_headers_of_the_nearest_clang_are_taken_and_those_of_gcc_without_one(tmp_path: Path) -> None:
    assert compiler_headers(18, tmp_path) == ()
    write_tree(tmp_path, {f"usr/lib/gcc/x86_64-linux-gnu/{n}/include/stddef.h": "" for n in (9, 12)})
    assert compiler_headers(18, tmp_path) == ("-idirafter", f"{tmp_path}/usr/lib/gcc/x86_64-linux-gnu/12/include")
    write_tree(tmp_path, {f"usr/lib/llvm-{n}/lib/clang/{n}.0.1/include/stddef.h": "" for n in (14, 17, 19)})
    assert compiler_headers(18, tmp_path) == ("-resource-dir", f"{tmp_path}/usr/lib/llvm-17/lib/clang/17.0.1")


# The pass


def test_overloads_and_includes_are_confirmed_and_an_unchanged_tree_is_not_read_again(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", dict(SHAPES))
    write_commands(tmp_path / "tree", commands_for(SHAPES))
    report = confirmed(tmp_path)
    assert (report.units, report.done, report.fresh, report.broken, report.failed) == (3, 3, 0, 0, 0)
    found = edges(tmp_path)
    assert ("use.cc", 3, "Grow", "int Grow(double by)") in found or (
        ("use.cc", 3, "Grow", "int Shape::Grow(double by)") in found
    )
    assert ("use.cc", 1, "shape.h", "shape.h") in found
    assert len(found) == len(set(found))
    again = confirmed(tmp_path)
    assert (again.done, again.fresh, edges(tmp_path)) == (0, 3, found)
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        seen = coverage(index)
    assert (seen.units, seen.files, seen.files_in_tree, seen.functions, seen.functions_in_tree) == (3, 4, 4, 6, 6)


def test_editing_a_header_reads_again_what_includes_it_and_equals_a_fresh_pass(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(SHAPES))
    write_commands(root, commands_for(SHAPES))
    confirmed(tmp_path)
    write_tree(root, {"shape.h": str(SHAPES["shape.h"]).replace("double by", "const double& by")})
    write_tree(root, {"shape.cc": str(SHAPES["shape.cc"]).replace("double by", "const double& by")})
    report = confirmed(tmp_path)
    assert (report.done, report.fresh) == (2, 1)
    assert any(edge[:3] == ("use.cc", 3, "Grow") and "const double& by" in edge[3] for edge in edges(tmp_path))
    (tmp_path / "afresh").mkdir()
    (tmp_path / "afresh" / "tree").symlink_to(root)
    data = DataFolder(tmp_path / "afresh/data")
    with data.owned(), Index.for_writing(data, "w", root) as index:
        refresh(index, Options(workers=1))
        confirm(index, CompilerOptions(limits=Limits(workers=1)))
    assert edges(tmp_path) == edges(tmp_path / "afresh")


def test_a_header_that_comes_back_is_seen_by_the_unit_that_missed_it(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "tree", {"a.cc": '#include "late.h"\nint A() { return Late(); }\n', "b.cc": "int b;\n"}
    )
    write_commands(root, commands_for({"a.cc": "", "b.cc": ""}))
    report = confirmed(tmp_path)
    assert (report.done, report.broken) == (2, 1)
    assert [(p.path, p.line, p.message) for p in report.problems] == [("a.cc", 1, "'late.h' file not found (2 errors)")]
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        assert "compiler: 'late.h' file not found (2 errors)" in [p.message for p in index.table.problems()]
    write_tree(root, {"late.h": "int Late();\n"})
    report = confirmed(tmp_path)
    assert (report.done, report.fresh, report.broken) == (1, 1, 0)
    assert ("a.cc", 2, "Late", "int Late()") in edges(tmp_path)
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        assert not [p for p in index.table.problems() if p.message.startswith("compiler: ")]


def test_lines_that_only_one_of_two_units_reads_are_told_by_that_one(tmp_path: Path) -> None:
    header = (
        "inline void A() {}\ninline void B() {}\n"
        "#ifdef LEFT\ninline void C() { A(); }\n#else\ninline void D() { B(); }\n#endif\n"
    )
    root = write_tree(tmp_path / "tree", {"h.h": header, "l.cc": '#include "h.h"\n', "r.cc": '#include "h.h"\n'})
    write_commands(root, [command("l.cc", "-DLEFT"), command("r.cc"), command("l.cc", "-DLEFT", "-DMORE")])
    assert confirmed(tmp_path).done == 3
    both = [("h.h", 4, "A", "inline void A()"), ("h.h", 6, "B", "inline void B()")]
    assert [edge for edge in edges(tmp_path) if edge[2] in "AB"] == both
    # The unit that told one of them goes; another one that reads the same lines takes its place.
    write_commands(root, [command("r.cc"), command("l.cc", "-DLEFT", "-DMORE")])
    confirmed(tmp_path)
    assert [edge for edge in edges(tmp_path) if edge[2] in "AB"] == both
    write_commands(root, [command("r.cc")])
    confirmed(tmp_path)
    assert [edge for edge in edges(tmp_path) if edge[2] in "AB"] == both[1:]


def test_a_unit_that_never_ends_costs_itself_alone_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "tree", {"endless.cc": ENDLESS, "good.cc": "int G();\nint H() { return G(); }\n"})
    write_commands(root, [SLOW, command("good.cc")])
    limits = Limits(workers=1, seconds=0.5)
    take = workers._Worker.take

    def take_in_no_time(self: workers._Worker, unit: Unit, system: tuple[str, ...], told: workers.Told) -> None:
        take(self, unit, system, told)
        self._deadline = 0.0 if unit.path == "endless.cc" else monotonic() + 60.0

    monkeypatch.setattr(workers._Worker, "take", take_in_no_time)
    report = confirmed(tmp_path, limits)
    assert (report.done, report.failed) == (1, 1)
    assert [(p.path, p.message) for p in report.problems] == [("endless.cc", "the compiler took longer than 0.5 s")]
    assert ("good.cc", 2, "G", "int G()") in edges(tmp_path)
    again = confirmed(tmp_path, limits)
    assert (again.done, again.failed, again.fresh) == (0, 0, 2)
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        assert coverage(index).failed == 1


def test_a_unit_that_eats_memory_costs_itself_alone(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"endless.cc": ENDLESS})
    write_commands(root, [SLOW])
    report = confirmed(tmp_path, Limits(workers=1, memory_bytes=1 << 20))
    assert (report.done, report.failed) == (0, 1)
    assert [problem.message for problem in report.problems] == ["the compiler took more than 1 MiB"]


def test_flags_that_clang_refuses_leave_the_unit_with_macros_and_folders(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "int A();\n#ifdef ON\nint B() { return A(); }\n#endif\n"})
    write_commands(root, [command("a.cc", "-DON", "-march=no-such-thing")])
    report = confirmed(tmp_path)
    assert (report.done, report.broken) == (1, 1)
    assert ("a.cc", 3, "A", "int A()") in edges(tmp_path)


def test_a_pass_that_is_stopped_goes_on_from_there(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(SHAPES))
    write_commands(root, commands_for(SHAPES))
    with opened(tmp_path) as index:
        refresh(index, Options(workers=1))
        seen: list[int] = []
        options = CompilerOptions(limits=Limits(workers=1))
        with pytest.raises(Cancelled):
            confirm(index, options, lambda _stage, done, _total: seen.append(done), lambda: bool(seen and seen[-1]))
        assert index.compiled.coverage().units == 1
        report = confirm(index, options)
    assert (report.done, report.fresh) == (2, 1)


def test_without_commands_nothing_is_confirmed_and_what_was_is_taken_back(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(SHAPES))
    path = write_commands(root, commands_for(SHAPES))
    confirmed(tmp_path)
    assert edges(tmp_path)
    path.unlink()
    report = confirmed(tmp_path)
    assert (report.units, report.files_confirmed, len(report.notes)) == (0, 0, 1)
    assert edges(tmp_path) == []


def test_a_run_without_the_compiler_keeps_nothing_it_said_that_may_have_changed(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(SHAPES))
    write_commands(root, commands_for(SHAPES))
    confirmed(tmp_path)
    write_tree(root, {"shape.h": str(SHAPES["shape.h"]).replace("int Area", "long Area")})
    with opened(tmp_path) as index:
        refresh(index, Options(workers=1))
        retract(index, CompilerOptions())
        assert coverage(index).units == 1
    assert {path for path, *_ in edges(tmp_path)} == {"alone.cc"}


def test_one_unit_that_goes_leaves_the_rest_as_a_pass_without_it_would(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(SHAPES))
    write_commands(root, commands_for(SHAPES))
    confirmed(tmp_path)
    (root / "use.cc").unlink()
    report = confirmed(tmp_path)
    assert (report.units, report.missing, report.done) == (2, 1, 0)
    assert {path for path, *_ in edges(tmp_path)} == {"alone.cc", "shape.cc"}
