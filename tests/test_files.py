"""What is taken from a tree and what is left out, on real folders."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer import files
from indexer.errors import TreeError
from indexer.files import FileRules, Skip, check_root, language_of, read, read_beneath, scan
from indexer.model import Language, SourceFile
from indexer.rows import count_lines
from tests.support.trees import write_tree as tree

RULES = FileRules()


def taken(root: Path, rules: FileRules = RULES) -> list[str]:
    return [candidate.path for candidate in scan(root, rules).candidates]


def reasons(root: Path, rules: FileRules = RULES) -> dict[str, str]:
    """Every file left out, after a look inside, with its reason."""
    found = scan(root, rules)
    looked = [read(root, candidate, rules) for candidate in found.candidates]
    return dict(found.skipped) | {entry.path: entry.reason for entry in looked if isinstance(entry, Skip)}


def text_of(root: Path, path: str) -> str:
    (candidate,) = (c for c in scan(root, RULES).candidates if c.path == path)
    source = read(root, candidate, RULES)
    assert isinstance(source, SourceFile)
    return source.text


@pytest.mark.parametrize(
    "name",
    "a.c a.cc a.cpp a.cxx a.c++ a.h a.hh a.hpp a.hxx a.inl a.ipp a.tpp a.txx a.cu a.cuh a.ixx a.cppm A.CC".split(),
)
def test_every_suffix_of_cpp_is_read_as_cpp(name: str) -> None:
    assert language_of(name) is Language.CPP


def test_documents_and_cmake_are_taken_and_other_files_are_not(tmp_path: Path) -> None:
    names = ["a.md", "b.rst", "c.txt", "CMakeLists.txt", "d.cmake"]
    tree(tmp_path, dict.fromkeys([*names, "e.py", "f.o", "Makefile", "g", ".cc", "h.tar.gz"], "text"))
    assert taken(tmp_path) == sorted(names)
    assert language_of("x/CMakeLists.txt") is Language.CMAKE


def test_ignore_files_count_at_every_level_and_the_innermost_decides(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            ".gitignore": "build/\n*.gen.cc\n/top.cc\n",
            "lib/.gitignore": "!kept.gen.cc\nlocal.cc\n",
            ".git/info/exclude": "mine.cc\n",
            "sub/.codehubignore": "vendor/\n",
            **dict.fromkeys(
                "top.cc build/a.cc lib/x.gen.cc lib/kept.gen.cc lib/local.cc lib/top.cc mine.cc sub/vendor/v.cc"
                " sub/s.cc".split(),
                "int x;\n",
            ),
        },
    )
    assert taken(tmp_path) == ["lib/kept.gen.cc", "lib/top.cc", "sub/s.cc"]
    assert taken(tmp_path, FileRules(exclude=("sub/",))) == ["lib/kept.gen.cc", "lib/top.cc"]


PATTERNS = [
    *("*", "!*.*", "!*/", "*.txt", "!*.cc", "out/", "!keep/out/", "!t/n.txt", "q/a?.cc", "x", "!x/", "!x", "/*", "!/x"),
    *("/x/*", "!/x/y", "y/*", "!y/z", "**/d.h", "x/**", "x/**/d.h", "**/y/", "out", "!out", "# words", "[ab].cc", "!"),
]


@given(st.lists(st.sampled_from(PATTERNS), max_size=5), st.lists(st.sampled_from(PATTERNS), max_size=3))
@example(["*", "!*.*", "!*/"], [])
@example(["out/", "!keep/out/", "*.txt", "!t/n.txt", "q/a?.cc"], ["y/*", "!y/z", "**/d.h"])
@settings(max_examples=60, deadline=None)
def test_the_same_files_are_taken_that_git_itself_does_not_ignore(top: list[str], inner: list[str]) -> None:
    files = dict.fromkeys(
        "a.cc x/b.cc x/y/c.cc x/y/z/d.h out/e.cc deep/out/f.cc keep/out/g.cc t/n.txt t/m.txt q/a1.cc q/a22.cc".split(),
        "x\n",
    )
    with TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        tree(root, {**files, ".gitignore": "\n".join(top), "x/.gitignore": "\n".join(inner)})
        subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=30)
        listed = subprocess.run(
            ["git", "-C", str(root), "ls-files", "--others", "--exclude-standard"],
            check=True,
            timeout=30,
            capture_output=True,
            text=True,
        ).stdout.split()
        assert taken(root) == sorted(path for path in listed if not path.endswith(".gitignore"))


def test_symbolic_links_are_never_followed_even_in_a_loop(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a.cc": "int a;\n"})
    tree(tmp_path / "outside", {"secret.cc": "int s;\n"})
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "link.cc").symlink_to(tmp_path / "outside" / "secret.cc")
    assert taken(root) == ["a.cc"]
    assert reasons(root) == {"link.cc": "symbolic link"}


def test_a_file_swapped_for_a_link_or_fifo_after_the_walk_is_not_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a.cc": "int a;\n", "b.cc": "int b;\n", "sub/c.cc": "int c;\n"})
    tree(tmp_path / "outside", {"c.cc": "int stolen;\n"})
    found = {candidate.path: candidate for candidate in scan(root, RULES).candidates}
    (root / "a.cc").unlink()
    (root / "a.cc").symlink_to(tmp_path / "outside" / "c.cc")
    (root / "b.cc").unlink()
    os.mkfifo(root / "b.cc")
    (root / "sub" / "c.cc").unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to(tmp_path / "outside")
    assert isinstance(read(root, found["a.cc"], RULES), Skip)
    assert isinstance(read(root, found["b.cc"], RULES), Skip)
    assert isinstance(read(root, found["sub/c.cc"], RULES), Skip)


@pytest.fixture(params=["openat2", "step by step"])
def opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to open a file; the second is for kernels that lack the first."""
    if request.param == "openat2" and not files._has_openat2():
        pytest.skip("this kernel has no openat2")
    monkeypatch.setattr(files, "_has_openat2", lambda: request.param == "openat2")


def test_only_regular_files_beneath_the_root_are_opened(
    tmp_path: Path, opening: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "root", {"sub/a.cc": "int a;\n", "big.cc": "x" * 100})
    monkeypatch.chdir(root)  # the path of a socket must be short
    tree(tmp_path / "outside", {"c.cc": "int stolen;\n"})
    (root / "link.cc").symlink_to("sub/a.cc")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to("loop")
    (root / "dev.cc").symlink_to("/dev/zero")
    (root / "self").symlink_to("/proc/self/root")
    os.mkfifo(root / "pipe.cc")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("sock.cc")
    bound.close()
    assert read_beneath(root, "sub/a.cc", 100) == b"int a;\n"
    assert read_beneath(root, "big.cc", 10) == b"x" * 11
    for path in ("link.cc", "out/c.cc", "loop", "loop/x", "dev.cc", "self/etc/passwd", "pipe.cc", "sock.cc", "sub"):
        assert read_beneath(root, path, 100) is None, path
    for path in (
        "../outside/c.cc",
        "/etc/passwd",
        "sub/../../outside/c.cc",
        "./sub/a.cc",
        "sub//a.cc",
        "",
        ".",
        "a\0b",
    ):
        assert read_beneath(root, path, 100) is None, path
    for path in ("none.cc", "sub/none.cc", "none/a.cc"):
        with pytest.raises(FileNotFoundError):
            read_beneath(root, path, 100)


def test_no_descriptor_stays_open(tmp_path: Path, opening: None) -> None:
    root = tree(tmp_path, {"a/b/c.cc": "int a;\n"})
    (root / "a" / "link").symlink_to("b")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        read_beneath(root, "a/b/c.cc", 100)
        read_beneath(root, "a/link/c.cc", 100)
        read_beneath(root, "a/b", 100)
        with pytest.raises(OSError, match="No such file"):
            read_beneath(root, "a/b/none", 100)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_that_is_swapped_for_a_link_all_the_while_never_leads_outside(tmp_path: Path, opening: None) -> None:
    root = tree(tmp_path / "root", {"sub/c.cc": "int mine;\n"})
    tree(tmp_path / "outside", {"c.cc": "int stolen;\n"})
    (root / "link").symlink_to(tmp_path / "outside")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for old, new in (("sub", "kept"), ("link", "sub"), ("sub", "link"), ("kept", "sub")):
                (root / old).rename(root / new)

    thread = threading.Thread(target=swap)
    thread.start()
    seen: set[bytes | None] = set()
    try:
        for _ in range(3_000):
            with suppress(FileNotFoundError):
                seen.add(read_beneath(root, "sub/c.cc", 100))
    finally:
        done.set()
        thread.join(30)
    assert seen <= {b"int mine;\n", None}
    assert b"int mine;\n" in seen


def test_an_ignore_file_that_is_a_fifo_or_a_link_out_rules_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a.cc": "int a;\n", "sub/b.cc": "int b;\n"})
    (tmp_path / "outside").write_text("*\n", encoding="utf-8")
    os.mkfifo(root / ".gitignore")
    (root / "sub" / ".gitignore").symlink_to(tmp_path / "outside")
    assert taken(root) == ["a.cc", "sub/b.cc"]


def test_a_fifo_and_a_socket_are_left_out_with_their_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.cc")
    assert reasons(tmp_path) == {"pipe.cc": "not a regular file"}


def test_large_binary_and_generated_files_are_left_out_with_their_reason(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "big.cc": b"int x;\n" * 8_000_000,  # 56 MB
            "nul.h": b"int a;\0int b;",
            "a.pb.h": "int x;",
            "moc_window.cpp": "int x;",
            "gen.cc": "// Code generated by protoc. DO NOT EDIT.\nint x;\n",
            "writer.cc": 'const char* head = "// @generated";\nint x;\n',
            "notes.md": "This text was automatically generated.\n",
        },
    )
    assert reasons(tmp_path) == {
        "big.cc": "larger than 2048 KiB (54687 KiB)",
        "nul.h": "binary (NUL bytes)",
        "a.pb.h": "generated (by its name)",
        "moc_window.cpp": "generated (by its name)",
        "gen.cc": "generated (it says so)",
    }
    assert "a.pb.h" in taken(tmp_path, FileRules(include_generated=True))


def test_odd_bytes_become_text_whose_lines_are_those_of_the_file(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "latin1.cc": b"// caf\xe9\nint x;\n",
            "bom.cc": b"\xef\xbb\xbfint x;\n",
            "crlf.cc": b"int a;\r\nint b;\r\n",
            "utf16.h": "int wide;\n".encode("utf-16"),
            "empty.h": b"",
        },
    )
    assert text_of(tmp_path, "latin1.cc") == "// caf\ufffd\nint x;\n"
    assert text_of(tmp_path, "bom.cc") == "int x;\n"
    assert text_of(tmp_path, "crlf.cc") == "int a;\r\nint b;\r\n"
    assert text_of(tmp_path, "utf16.h") == "int wide;\n"
    assert text_of(tmp_path, "empty.h") == ""


def test_a_name_that_is_no_utf8_is_left_out_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "good.cc").write_text("int x;\n", encoding="utf-8")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.cc")).write_bytes(b"int y;\n")
    found = scan(tmp_path, RULES)
    assert [candidate.path for candidate in found.candidates] == ["good.cc"]
    assert [reason for _, reason in found.skipped] == ["its name is not valid UTF-8"]


_LOOK = """
import os, sys
from pathlib import Path
from indexer.files import FileRules, read, scan
if os.geteuid() == 0:  # root reads everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
root, rules = Path(sys.argv[1]), FileRules()
found = scan(root, rules)
print([problem.path for problem in found.problems], [read(root, c, rules).message for c in found.candidates])
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may enter, as pytest's own are not."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_an_unreadable_file_and_folder_are_problems_and_the_rest_goes_on(open_folder: Path) -> None:
    root = tree(open_folder, {"a.cc": "int a;\n", "locked/b.cc": "int b;\n"})
    (root / "a.cc").chmod(0)
    (root / "locked").chmod(0)
    repository = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=repository,
    )
    (root / "locked").chmod(0o755)
    assert done.stdout.strip() == "['locked'] ['cannot be read: Permission denied']", done.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing", "does not exist"),
        (lambda path: tree(path, {"a.cc": ""}) / "a.cc", "is not a folder"),
    ],
)
def test_a_root_that_is_no_folder_is_refused_in_a_sentence(tmp_path: Path, make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(TreeError, match=message) as caught:
        check_root(make(tmp_path))
    assert caught.value.hint


@given(st.text(alphabet=st.sampled_from("ab\n\r\t é\U0001f600")))
def test_lines_are_counted_as_an_editor_shows_them(text: str) -> None:
    shown = text.split("\n")
    assert count_lines(text) == (len(shown) - 1 if shown[-1] == "" else len(shown))
