"""What uses mean in small trees: the cases stand in cases/links_*.md, each with its files in one block."""

import re
from pathlib import Path

import pytest

from indexer.model import Language, Provenance, SourceFile
from indexer.pipeline import parse_file
from indexer.rows import rows_of, split_row
from indexer.symbol_table.database import Database
from indexer.symbol_table.links import Linker, LinkTable
from indexer.symbol_table.table import SymbolTable
from tests.support.cases import Case, check, load

_FILE = re.compile(r"^// file: (\S+)\n", re.MULTILINE)
_QUIET = {"cpp": ("type", "macro"), "cpp-all": ()}  # what a block leaves out, so that a case shows what it is about


def files_of(text: str) -> dict[str, str]:
    """The files of a case: what follows each ``// file: path`` line, or all of it as a.cc."""
    parts = _FILE.split(text)
    files = {"a.cc": parts[0]} if parts[0].strip() else {}
    return files | dict(zip(parts[1::2], parts[2::2], strict=True))


def index_files(database: Database, files: dict[str, str]) -> None:
    """Parses files into the table and links them."""
    sources = [SourceFile(path, Language.CPP, len(text), 0, path, text) for path, text in files.items()]
    SymbolTable(database).write(rows_of(source, *parse_file(source)) for source in sources)
    table = LinkTable(database)
    table.store(list(Linker(database).link([waiting.file for waiting in table.waiting()])))


def edges(database: Database, without: tuple[str, ...] = ()) -> str:
    """One line a use: ``path:line kind written -> what it means``. "?" is a use that is known by its name only."""
    names = {}
    for identity, kind, scope, name, parameters, traits, path in database.rows(
        "SELECT symbols.id, kind, scope, name, replace(parameters, char(31), ', '), traits, path FROM symbols"
        " JOIN files ON files.id = symbols.file ORDER BY is_definition, path DESC"
    ):
        listed = f"({parameters})" if kind in ("function", "method", "constructor") else ""
        constant = " const" if "const" in split_row(traits) else ""
        names[identity] = f"{kind} {scope + '::' if scope else ''}{name}{listed}{constant} {path}"
    lines = []
    for path, line, kind, written, target, how in database.rows(
        "SELECT path, line, refs.kind, written, links.target, links.how FROM refs JOIN files ON files.id = refs.file"
        " LEFT JOIN links ON links.ref = refs.id WHERE NOT (refs.kind = 'include' AND links.target IS NULL)"
        " ORDER BY path, line, refs.id"
    ):
        if kind in without:
            continue
        meant = "?" if target is None else "outside" if target == "" else names.get(target, target)
        shown = "" if how in (None, Provenance.RESOLVED.value) else f" ({how})"
        lines.append(f"{path}:{line} {kind} {written} -> {meant}{shown}\n")
    return "".join(lines)


@pytest.mark.parametrize("case", load("links_*.md"), ids=lambda case: case.name)
def test_uses_in_a_small_tree_mean_what_their_case_says(case: Case, tmp_path: Path) -> None:
    database = Database.create_or_open(tmp_path / "index.db")
    try:
        index_files(database, files_of(case.text))
        check(case, edges(database, _QUIET[case.kind]))
    finally:
        database.close()


def test_a_use_that_the_compiler_has_seen_gets_no_second_meaning(tmp_path: Path) -> None:
    database = Database.create_or_open(tmp_path / "index.db")
    index_files(database, {"a.cc": "void put(int n);\nvoid put(long n);\nvoid user() {\n  put(1);\n  put(2);\n}\n"})
    (file,) = database.rows("SELECT id FROM files")[0]
    (target,) = database.rows("SELECT id FROM symbols WHERE line = 2")[0]
    database.run(
        "INSERT INTO refs VALUES(NULL, ?, 'call', 'put', 'put', 4, NULL, ?, 'compiler', 0, '')", (file, target)
    )
    LinkTable(database).distrust(["a.cc", "gone.cc"])
    LinkTable(database).store(list(Linker(database).link([file])))
    shown = edges(database)
    assert "a.cc:4 call put -> outside (compiler)\n" in shown  # the parser's row gives way
    assert "a.cc:4 call put -> ?\n" in shown  # the compiler's row carries its own target
    assert "a.cc:5 call put -> function put(int) a.cc\n" in shown
    assert LinkTable(database).waiting() == []
    database.close()


@pytest.mark.parametrize(
    "text",
    [
        "struct A : A { void f() { g(); } };\nvoid user(A a) { a.f(); a.g(); }",
        "struct A : B {};\nstruct B : A {};\nvoid user(A a) { a.f(); }\nvoid f();",
        "using A = B;\nusing B = A;\nvoid user(A a) { a.f(); A::g(); B::h(); }",
        "namespace a = b;\nnamespace b = a;\nvoid user() { a::f(); }\nvoid f();",
        "namespace n { using m::f; }\nnamespace m { using n::f; }\nvoid user() { n::f(); }",
        "template <class T> struct A : A<A<T>> {};\nvoid user(A<int> a) { a.f(); }\nvoid f();",
        "struct A { A* operator->(); };\nvoid user(A a) { a->f(); }\nvoid f();",
        "using namespace n;\nnamespace n { using namespace n; }\nvoid user() { f(); n::n::f(); }\nvoid f();",
        "#define f() f()\nvoid user() { f(); }",
        '#include "a.cc"\nvoid user() { user(); }',
    ],
)
def test_names_that_lead_back_to_themselves_come_to_an_end(text: str, tmp_path: Path) -> None:
    database = Database.create_or_open(tmp_path / "index.db")
    index_files(database, {"a.cc": text})
    assert database.number("SELECT count(*) FROM unlinked") == 0
    database.close()
