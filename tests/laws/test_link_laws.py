"""Links after any edits equal those of an index made afresh, and do not depend on the order of the files."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.model import Language, SourceFile
from indexer.pipeline import parse_file
from indexer.rows import FileRows, Row, rows_of
from indexer.symbol_table.database import Database
from indexer.symbol_table.links import Linker, LinkTable
from indexer.symbol_table.table import SymbolTable

# Pieces that mean something to each other across files: the same names as types, functions, members, bases, aliases.
PIECES = [
    "struct Base { void run(int n); void run(const char* s); int size; };\n",
    "struct Base { void run(double d); };\n",
    "struct Leaf : Base { Leaf(int n); Leaf* next(); };\n",
    "struct Leaf { Leaf(const Base& b); void run(int n); };\n",
    "namespace n { struct Leaf : Base { using Base::run; void stop(); }; void go(Leaf& l); }\n",
    "namespace n { struct Base { Base* next(); }; }\n",
    "using Alias = Leaf;\n",
    "using Alias = n::Leaf;\n",
    "namespace n { using ::go; using Alias = Base; }\n",
    "namespace m = n;\n",
    "void go(int n);\n",
    "void go(Leaf& l, int n = 0);\n",
    "static void go(const char* s) {}\n",
    "namespace { void go(bool b) {} struct Hidden { void run(); }; }\n",
    "bool operator==(const Base& a, const Base& b);\n",
    "Alias make(int n);\nAlias* global;\n",
    "std::vector<Leaf> leaves;\n",
    "template <class T> struct Box { T* get(); T value; };\nBox<Leaf> box;\n",
    "#define MAKE(x) make(x)\n",
    'void use(Leaf l, Base* b) { l.run(1); b->run("x"); go(l); go(1); if (l == *b) l.next()->next()->run(2); }\n',
    "void use2(Alias a, n::Leaf& l) { a.run(1); l.stop(); n::go(l); m::go(l); make(1).run(2); MAKE(3); }\n",
    "void use3() { leaves.front().run(1); box.get()->run(1); box.value.next(); global->run(2); Leaf x(1); }\n",
    "namespace n { void use4(Leaf l) { l.run(1); go(l); Base b; b.next()->next(); Alias c; c.run(1); } }\n",
    "void use5() { using namespace n; Base b; go(1); Hidden h; h.run(); }\n",
    '#include "a.h"\n',
    '#include "sub/b.h"\n',
    '#include "b.h"\n',
]
PATHS = ["a.h", "b.h", "sub/b.h", "c.cc", "sub/d.cc"]
FILES = st.dictionaries(st.sampled_from(PATHS), st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=2)
# Each step writes or removes files, as one batch or as several, and may end before the links are made.
STEPS = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from(PATHS),
            st.one_of(st.none(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)),
            min_size=1,
            max_size=3,
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


def rows(path: str, text: str) -> FileRows:
    source = SourceFile(path, Language.CPP, len(text), 0, text, text)
    return rows_of(source, *parse_file(source))


def apply(database: Database, change: dict[str, str | None]) -> None:
    table = SymbolTable(database)
    table.remove([path for path, text in change.items() if text is None])
    table.write(rows(path, text) for path, text in change.items() if text is not None)


def link_waiting(database: Database) -> int:
    table = LinkTable(database)
    waiting = table.waiting()
    table.store(list(Linker(database).link([one.file for one in waiting])))
    return len(waiting)


def links(database: Database) -> list[Row]:
    return database.rows(
        "SELECT path, line, written, refs.kind, refs.operands, links.target, links.how FROM refs"
        " JOIN files ON files.id = refs.file LEFT JOIN links ON links.ref = refs.id ORDER BY 1, 2, 3, 4, 5, 6, 7"
    )


def afresh(folder: Path, files: dict[str, str]) -> list[Row]:
    database = Database.create_or_open(folder)
    apply(database, dict(files))
    link_waiting(database)
    found = links(database)
    database.close()
    return found


@settings(max_examples=60, deadline=None)
@given(files=FILES, steps=STEPS)
def test_links_after_any_edits_equal_those_of_an_index_made_afresh(
    files: dict[str, str], steps: list[tuple[dict[str, str | None], bool]]
) -> None:
    with TemporaryDirectory() as folder:
        database = Database.create_or_open(Path(folder) / "edited.db")
        apply(database, dict(files))
        link_waiting(database)
        now: dict[str, str] = dict(files)
        for change, linked in steps:
            apply(database, change)
            now = {path: text for path, text in (now | change).items() if text is not None}
            if linked:
                link_waiting(database)
        link_waiting(database)
        assert links(database) == afresh(Path(folder) / "fresh.db", now)
        assert link_waiting(database) == 0
        database.close()


@settings(max_examples=25, deadline=None)
@given(files=FILES, order=st.randoms(use_true_random=False))
def test_links_do_not_depend_on_the_order_in_which_files_are_written(
    files: dict[str, str], order: Sequence[str]
) -> None:
    shuffled = list(files)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:
        found = afresh(Path(folder) / "a.db", files)
        assert found == afresh(Path(folder) / "b.db", {path: files[path] for path in shuffled})


def test_a_file_that_nothing_rests_on_has_only_itself_linked_again(tmp_path: Path) -> None:
    database = Database.create_or_open(tmp_path / "index.db")
    apply(database, {"a.h": PIECES[0], "b.h": "void lonely();\n", "c.cc": PIECES[19]})
    link_waiting(database)
    apply(database, {"b.h": "void lonely(int n);\n"})
    assert link_waiting(database) == 1
    apply(database, {"a.h": PIECES[1]})
    assert link_waiting(database) == 2
    database.close()
