"""Pasted questions: laws over any text, real reports as text cases, and what they lead to in a real index."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.confidence import SHIPPED, judge, observe
from hub.model import Frame, Paste, PasteKind, QuestionKind, SignalSource, Tier
from hub.retrieval import retrieve, understand
from hub.retrieval.mangled import name_of, name_of_itanium, name_of_mangled
from hub.retrieval.pasted import MOST_FRAMES, MOST_MESSAGES, MOST_NAME, MOST_NAMES, MOST_WORDING, read_paste
from hub.retrieval.places import MOST_CHUNKS, resolve
from indexer.index import DataFolder, Index
from indexer.model import Chunk, Symbol, SymbolKind
from tests.support.cases import Case, check, load
from tests.support.trees import index_of, write_tree

SAMPLE = Path(__file__).resolve().parent.parent / "sample_repo"

TRACE = """#0  0x0000555555556599 in harbor::Berth::Weigh (this=0x7fffffffe2f0, ship=...) at src/berth.cc:40
#1  0x0000555555557e1f in Run (what=0x7fffffffe9cc "null") at src/main.cc:11
"""
# What pastes are made of, in any order: brackets that never close, and beginnings of everything that is recognised.
PIECES = st.sampled_from(
    """#0 | 0x1234abcd | in | ( | ) | < | > | :: | ns::f | std:: | at | src/a.cc:12 | a.cc(3,4) | C:\\b.cpp | : |
    error: | note: | Assertion ` | ' | " | \u2018 | \u2019 | failed | undefined reference to ` | _ZN3foo3barEv |
    _ZNI | ?f@A@@ | ?$ | @@ | [ | ] | operator | operator< | {lambda | [with | required from here | ==12== | Test
    #1: x ... Failed | ---------------- | [  FAILED  ] A.b | [ RUN      ] A.c | 2024-01-01 10:00:00 | [info] |
    ERROR: | F20240101 10:00:00.1 7 a.cc:3] | frame #0: 0x1234 | (x=1) | check failed: x | ^ | ~~~^~~~ | 12 | | \t
    | word | \\n | \x00 | \ud800 | \u202e | .h:1: | In file included from a.h:1 | what():  x | Line 12 | foo.dll!f
    | Direct leak of | SUMMARY: FooSanitizer: x a.cc:1 in f""".replace("\n    ", " ").split(" | ")
)
TEXTS = st.lists(PIECES, max_size=30).map(lambda pieces: " ".join(pieces).replace("\\n", "\n"))
IDENTIFIERS = st.from_regex(r"[a-z][A-Za-z0-9]{0,8}_?x", fullmatch=True).filter(
    lambda name: not name.startswith("operator")
)
NAMES = st.lists(IDENTIFIERS, min_size=1, max_size=4)
WORDS = st.from_regex(r"[A-Za-z]{1,9}|[0-9]{1,4}|can't|[a-z]{1,5}-[a-z]{1,5}", fullmatch=True)
PROSE = st.lists(st.tuples(WORDS, st.sampled_from(["", "", "", ",", ".", "?", "!", "\n"])), max_size=25).map(
    lambda words: " ".join(word + mark for word, mark in words)
)


def shown(paste: Paste | None) -> str:
    """What was read, a line a fact."""
    if paste is None:
        return "no paste\n"
    lines = [paste.kind.value]
    for frame in paste.frames:
        place = f"{frame.path}:{frame.line}" if frame.path else ""
        lines.append(" ".join(filter(None, ("at", place, frame.symbol))))
    lines += [f"names {', '.join(paste.names)}"] if paste.names else []
    lines += [f"prose {paste.prose}"] if paste.prose else []
    lines += [f"words {paste.wording}"] if paste.wording else []
    return "\n".join(lines) + "\n"


def read(text: str) -> Paste:
    paste = read_paste(text)
    assert paste is not None
    return paste


# Laws of reading


@given(st.one_of(TEXTS, st.text(max_size=300), st.tuples(TEXTS, st.integers(1, 40)).map(lambda it: it[0] * it[1])))
@example("#0 " * 30_000)
@example("a.cc:1\n" + "(" * 50_000)
@example("a.cc:1: error: " + "'" * 50_000)
def test_reading_never_fails_and_what_it_finds_is_bounded(text: str) -> None:
    paste = read_paste(text)
    if paste:
        assert len(paste.frames) <= MOST_FRAMES
        assert len(paste.names) <= MOST_NAMES
        assert len(paste.wording) <= MOST_WORDING * (1 + MOST_MESSAGES) + 4 * MOST_NAME + 20  # and what joins them
        assert all(
            (frame.path or frame.symbol) and frame.line >= 0 and "\\" not in frame.path for frame in paste.frames
        )
        assert all(bool(frame.path) == bool(frame.line) or frame.path for frame in paste.frames)
        assert len(set(paste.frames)) == len(paste.frames)
        assert paste.frames or paste.names or paste.wording


@given(TEXTS)
def test_reading_twice_says_the_same(text: str) -> None:
    assert read_paste(text) == read_paste(text)


@given(PROSE)
def test_prose_is_no_paste(text: str) -> None:
    assert read_paste(text) is None


@given(NAMES)
def test_a_name_is_no_paste(parts: list[str]) -> None:
    assert read_paste("::".join(parts)) is None


@given(PROSE, PROSE)
def test_prose_around_a_trace_changes_nothing_but_the_words(before: str, after: str) -> None:
    paste = read(f"{before}\n\n{TRACE}\n\n{after}")
    assert (paste.kind, paste.frames, paste.names) == (PasteKind.TRACE, read(TRACE).frames, read(TRACE).names)


def test_a_question_before_and_after_a_trace_is_asked() -> None:
    paste = read(f"Why does it crash?\n{TRACE}It did not yesterday.\n")
    assert paste.prose == "Why does it crash? It did not yesterday"
    assert paste.wording.startswith(paste.prose)


def test_the_colours_of_a_terminal_fall_away() -> None:
    plain = 'a.cc(5): error: in "berths/weighs_the_whole_ship": check b.Weigh(s) == 8 has failed [7 != 8]'
    assert read(plain.replace("error", "\x1b[1;31;49merror") + "\x1b[0;39;49m") == read(plain)
    assert read(plain).frames == (Frame("a.cc", 5, ""),)


def test_the_beginning_and_the_end_of_a_text_that_is_too_long_are_read() -> None:
    paste = read(TRACE + "noise without any meaning\n" * 20_000 + TRACE.replace("berth", "pier"))
    assert {frame.path for frame in paste.frames} == {"src/berth.cc", "src/main.cc", "src/pier.cc"}


# Laws of names


@given(NAMES)
def test_both_readers_of_itanium_names_agree(parts: list[str]) -> None:
    mangled = "_ZN" + "".join(f"{len(part)}{part}" for part in parts) + "Ei"
    assert name_of_itanium(mangled) == name_of_mangled(mangled) == "::".join(parts)


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("_Z3runv", "run"),
        ("_ZL3runv", "run"),
        ("_ZNK2ns1A3getEv", "ns::A::get"),
        ("_ZN2ns5StackIiE4pushERKi", "ns::Stack::push"),
        ("_ZN2ns5StackISt6vectorIiSaIiEEE4pushEv", "ns::Stack::push"),
        ("_ZN2ns5FixedILm3ELb1EE4pushEv", "ns::Fixed::push"),
        ("_ZN2ns1AC1Ev", "ns::A::A"),
        ("_ZN2ns1AD0Ev", "ns::A::~A"),
        ("_ZN2ns1AeqERKS0_", "ns::A::operator=="),
        ("_ZN2ns1AclEi", "ns::A::operator()"),
        ("_ZN2ns12_GLOBAL__N_13sumEv", "ns::sum"),
        ("_ZTVN2ns1AE", "ns::A"),
        ("_ZThn8_N2ns1A3getEv", "ns::A::get"),
        ("_ZZN2ns1A3getEvE5cache", "ns::A::get"),
        ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector::push_back"),
        ("_ZN2ns4nameB5cxx11Ev", "ns::name"),
        ("_ZN2ns1A3getEv.cold", "ns::A::get"),
    ],
)
def test_itanium_names_are_read_with_the_runtime_and_without(mangled: str, name: str) -> None:
    assert name_of_mangled(mangled) == name
    assert name_of_itanium(mangled.partition(".")[0]) == name


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("?get@A@ns@@QEBAHXZ", "ns::A::get"),
        ("?run@@YAXXZ", "run"),
        ("??0A@ns@@QEAA@XZ", "ns::A::A"),
        ("??1A@ns@@UEAA@XZ", "ns::A::~A"),
        ("??8A@ns@@QEBA_NAEBV01@@Z", "ns::A::operator=="),
        ("??RA@ns@@QEAAXH@Z", "ns::A::operator()"),
        ("??_7A@ns@@6B@", "ns::A"),
        ("?push@?$Stack@H@ns@@QEAAXAEBH@Z", "ns::Stack::push"),
        ("?push@?$Stack@V?$vector@HV?$allocator@H@std@@@std@@@ns@@QEAAXXZ", "ns::Stack::push"),
        ("??$sort@UCrate@ns@@@ns@@YAXAEAUCrate@0@@Z", "ns::sort"),
        ("?sum@?A0x1234abcd@ns@@YAHXZ", "ns::sum"),
    ],
)
def test_names_of_microsofts_compiler_are_read(mangled: str, name: str) -> None:
    assert name_of_mangled(mangled) == name


@given(st.one_of(TEXTS, st.text(alphabet="_ZNIESL0123456789abKRcv?@$VUH", max_size=80)))
def test_no_text_is_too_odd_to_be_looked_at_as_a_name(text: str) -> None:
    for prefix in ("", "_Z", "_ZN", "?", "??$"):
        assert "(" not in name_of(prefix + text).replace("operator()", "")
        name_of_mangled(prefix + text)
        name_of_itanium(prefix + text)


DRESSES: list[Callable[[str], str]] = [
    lambda name: f"{name}(int, std::vector<char> const&) const",
    lambda name: f"void {name}<std::map<int, ns::Other> >(int (*)(char))",
    lambda name: f"virtual std::pair<int, char> const& {name}(ns::Other*)",
    lambda name: f"{name}(int)::{{lambda(auto:1)#2}}::operator()(char) const",
    lambda name: f"{name}() [clone .isra.0] [clone .cold]",
    lambda name: f"{name}[abi:cxx11]() const",
    lambda name: f"public: void __cdecl {name}(class ns::Other *)",
    lambda name: f"non-virtual thunk to {name}()",
    lambda name: f"app.exe!{name}+0x1f",
    lambda name: f"(anonymous namespace)::{name}()",
]


@given(NAMES, st.sampled_from(DRESSES))
def test_a_name_is_found_within_what_tools_print_around_it(parts: list[str], dress: Callable[[str], str]) -> None:
    assert name_of(dress("::".join(parts))) == "::".join(parts)


# Real reports


@pytest.mark.parametrize("case", load("pasted_*.md"), ids=lambda case: f"{case.path.stem}: {case.name}")
def test_real_pastes(case: Case) -> None:
    check(case, shown(read_paste(case.text)))


# What they lead to


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    data = tmp_path_factory.mktemp("sample") / "data"
    index_of(SAMPLE, data)
    with Index.for_reading(DataFolder(data), "w") as opened:
        yield opened


def first_chunk(index: Index, text: str) -> Chunk:
    found = resolve(index, read(text))
    assert found == sorted(found, key=lambda item: (-item[1], item[0]))
    assert 0 < len(found) <= MOST_CHUNKS
    (chunk,) = index.table.chunks([found[0][0]])
    return chunk


def functions(index: Index) -> list[Symbol]:
    kinds = {SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CONSTRUCTOR, SymbolKind.DESTRUCTOR}
    return [one for one in index.facts.all_symbols() if one.kind in kinds and one.is_definition]


FORMS: dict[str, Callable[[str, str, int], str]] = {
    "gdb": lambda name, path, line: f"#0  0x0000555555556599 in {name} (this=0x7ff0, n=...) at /build/x/{path}:{line}",
    "sanitizer": lambda name, path, line: f"    #0 0x55f1b1acb47e in {name}(int, char) /home/ci/x/{path}:{line}:7",
    "valgrind": lambda name, path, line: f"==7==    at 0x10A599: {name}(int) ({path.rpartition('/')[2]}:{line})",
    "lldb": lambda name, path, line: (
        f"  * frame #0: 0x0000555555556599 x`{name}(n=1) at {path.rpartition('/')[2]}:{line}:5"
    ),
    "GCC": lambda _, path, line: f"../{path}:{line}:5: error: expected ';' before '}}' token",
    "Visual C++": lambda _, path, line: "D:\\a\\x\\{}({},5): error C2143: syntax error".format(
        path.replace("/", "\\"), line
    ),
    "UBSan": lambda _, path, line: f"/x/{path}:{line}:9: runtime error: shift exponent 40 is too large",
    "place": lambda _, path, line: f"What is done at {path}:{line}?",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_line_in_any_form_leads_to_its_chunk_first(index: Index, form: str) -> None:
    found = functions(index)
    assert len(found) > 150
    for symbol in found:
        line = (symbol.line + symbol.span.last_line) // 2
        chunk = first_chunk(index, FORMS[form](symbol.qualified_name, symbol.span.path, line))
        assert chunk.span.path == symbol.span.path
        assert chunk.span.first_line <= line <= chunk.span.last_line


@settings(max_examples=50)
@given(text=TEXTS)
def test_no_paste_is_too_odd_to_be_looked_for(index: Index, text: str) -> None:
    found = retrieve(index, understand(text), (), 5)
    assert len(found.hits) <= 5
    assert found.query.text == text


def test_a_function_without_a_place_leads_to_where_it_is_defined(index: Index) -> None:
    chunk = first_chunk(index, "    @     0x55721e96b6b9  ember::DBImpl::MakeRoomForWrite()")
    (symbol,) = [one for one in functions(index) if one.qualified_name == "ember::DBImpl::MakeRoomForWrite"]
    assert chunk.span.path == symbol.span.path
    assert chunk.span.first_line <= symbol.line <= chunk.span.last_line


def test_a_function_that_has_moved_since_is_found_by_its_name(index: Index) -> None:
    (symbol,) = [one for one in functions(index) if one.qualified_name == "ember::DBImpl::MakeRoomForWrite"]
    chunk = first_chunk(index, f"#0  0x00001234 in ember::DBImpl::MakeRoomForWrite (this=0x1) at {symbol.span.path}:1")
    assert chunk.span.first_line <= symbol.line <= chunk.span.last_line


def test_a_namespace_that_the_index_does_not_know_falls_away(index: Index) -> None:
    known = first_chunk(index, "#0  0x00001234 in ember::DBImpl::MakeRoomForWrite (this=0x1)")
    assert first_chunk(index, "#0  0x00001234 in vendor::v2::ember::DBImpl::MakeRoomForWrite (this=0x1)") == known


def test_frames_of_the_system_alone_lead_nowhere(index: Index) -> None:
    paste = read("what is this?\n#0  0x00007ffff7a5 in std::terminate() () from /lib/libstdc++.so.6")
    assert (paste.frames, paste.names) == ((), ())
    assert resolve(index, paste) == []


def test_folders_decide_between_files_of_one_name(tmp_path: Path) -> None:
    tree = write_tree(
        tmp_path / "tree", {f"{folder}/size.cc": f"int {folder}() {{\n  return 1;\n}}\n" for folder in "abc"}
    )
    index_of(tree, tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        assert first_chunk(index, "/build/b/size.cc:2:3: error: no").span.path == "b/size.cc"
        assert first_chunk(index, "D:\\x\\C\\Size.cc(2): error C1: no").span.path == "c/size.cc"
        assert first_chunk(index, "#0 0x1234 in b (n=1) at size.cc:2").span.path == "b/size.cc"
        every = resolve(index, read("size.cc:2: error: no"))
        assert len(every) == 3
        assert len({score for _, score in every}) == 1


def test_a_real_trace_leads_to_its_innermost_frame(index: Index) -> None:
    question = understand("""Why is this slow?
Breakpoint 1, ember::Table::Get (this=0x5555555cbab0, options=..., key="100", sequence=7) at src/table_reader.cc:216
#0  ember::Table::Get (this=0x5555555cbab0, options=..., key="100", sequence=7) at src/table_reader.cc:216
#1  0x0000555555584327 in (anonymous namespace)::ATableGivesBackItsEntriesAndNoticesDamage () at tests/ember_test.cc:198
#2  0x000055555558968c in main () at tests/ember_test.cc:440
""")
    found = retrieve(index, question, (), 5)
    assert question.kind is QuestionKind.PASTE
    assert SignalSource.PLACE in found.arms
    assert found.unknown == ()
    assert found.hits[0].symbol_name == "ember::Table::Get"
    assert found.hits[0].chunk.span.path == "src/table_reader.cc"


def test_a_trace_of_this_tree_is_answered_and_one_of_another_is_not(index: Index) -> None:
    frame = "#0  0x000055555558 in {} (this=0x1) at /build/{}:216\n#1  0x000055555559 in {} (n=2) at /build/{}:30\n"
    here = frame.format("ember::Table::Get", "src/table_reader.cc", "app::Run", "app/run.cc")
    elsewhere = frame.format("zoo::Cage::Unlock", "zoo/cage.cc", "zoo::Feed", "zoo/feed.cc")
    tiers = {}
    for text in (here, elsewhere):
        found = retrieve(index, understand(text), (), 5)
        confidence = judge(found, observe(index, found, None, 16_384), SHIPPED, Tier.RAG, index.text.stems)
        tiers[text] = confidence.tier
        places = "places" if text is here else "no place"
        assert f"What was pasted names {places} of this tree." in confidence.reasons or not found.hits
    assert tiers == {here: Tier.RAG, elsewhere: Tier.NONE}


@pytest.mark.parametrize(
    "text",
    [
        "undefined reference to `ember::DBImpl::MakeRoomForWrite(std::unique_lock<std::mutex>&)'",
        'a.obj : error LNK2019: unresolved external symbol "?MakeRoomForWrite@DBImpl@ember@@AEAA?AVStatus@2@XZ"',
        "_ZN5ember6DBImpl16MakeRoomForWriteERSt11unique_lockISt5mutexE",
    ],
)
def test_a_name_of_a_linker_leads_to_its_definition(index: Index, text: str) -> None:
    assert retrieve(index, understand(text), (), 5).hits[0].symbol_name == "ember::DBImpl::MakeRoomForWrite"


def test_a_line_of_a_log_leads_to_the_code_that_wrote_it(index: Index) -> None:
    line = "2026-11-22 18:40:19.311 [error] [31884] /var/db/000012.log: damaged record at byte 4711"
    found = retrieve(index, understand(line), (), 5)
    assert "damaged record at byte" in found.hits[0].chunk.text


WRITERS = {
    "berth 4711 is nearly full": 'void a(int n) {\n  LOG(WARNING) << "berth " << n << " is nearly full";\n}\n',
    "docked ship Anna of 300 tons at berth 4": (
        'void b(S s) {\n  info("docked ship {} of {} tons at berth {}", s.n, s.t, s.b);\n}\n'
    ),
    "lift of 1200 kg refused after 15 ms": (
        'void c(int n) {\n  printf("lift of %d kg refused after %5.2f ms\\n", n, t());\n}\n'
    ),
    "cannot read the manifest /var/db/M-7: truncated": (
        'void d() {\n  throw E("cannot read "\n          "the manifest " + path + ": truncated");\n}\n'
    ),
}


@pytest.mark.parametrize("message", WRITERS)
def test_a_message_leads_to_the_literal_it_was_made_of(tmp_path: Path, message: str) -> None:
    others = [f"// The berth is full: docked ships of many tons, a lift is refused, {message.replace('/', ' ')}.\n"]
    files: dict[str, str | bytes] = {f"{number}.cc": text for number, text in enumerate([*WRITERS.values(), *others])}
    index_of(write_tree(tmp_path / "tree", files), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        chunk = first_chunk(index, f"2026-11-22 18:40:19.311 [warning] [crane] {message}")
        assert chunk.text == WRITERS[message]
        assert resolve(index, read("2026-11-22 18:40:19.311 [info] the crane is tired")) == []


def test_the_message_of_a_commit_that_quotes_an_error_stays_one() -> None:
    message = (
        "Fix the type of the counter\n\nSince the last change of the queue, clang ends with\n\n{}\n\nas it should."
    )
    error = "src/berth.cc:40:15: error: implicit conversion changes signedness: 'uint64_t' to 'int64_t'"
    assert understand(message.format(error)).kind is QuestionKind.CHANGE
    assert understand(f"Fix this\n\n{error}").kind is QuestionKind.PASTE


def test_a_place_within_a_question_stays_a_question() -> None:
    question = understand("What happens to the old value at src/db_impl.cc:80 when DB::Put is called twice?")
    assert question.kind is QuestionKind.MIXED
    assert question.paste is not None
    assert question.paste.frames == (Frame("src/db_impl.cc", 80, ""),)
    assert "DB::Put" in question.identifiers
