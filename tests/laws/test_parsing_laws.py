"""Laws of reading and cutting files: they hold for any text, C++ or not."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import chunking, cpp, documents
from indexer.cpp.macros import definitions, learn
from indexer.model import Language, ParsedFile, SourceFile, SymbolKind
from tests.support.cases import load

# Real shapes to break: every case of the reader's tests.
SNIPPETS = [case.text for kind in ("cpp", "uses", "links") for case in load(f"{kind}_*.md")]
SPLINTERS = [
    *"{}()[]<>;:,#\"'\\/*~&=\n\r\x00\x0b\u2028é😀",
    *("/*", "*/", "//", 'R"(', "#if X\n", "#else\n", "#endif\n", "#define M(a) \\\n", "namespace ", "class "),
    *("template <", "operator", "enum ", "struct API ", "typedef ", "using ", "TEST(A, B) {", "FMT_BEGIN_NAMESPACE\n"),
    *(
        "#define N namespace n {\n",
        "#define API\n",
        "#define T(x) void x()\n",
        "N ",
        "API ",
        "T(",
        "#elif X\n",
        "#if 0\n",
    ),
    *("GUARDED_BY(mu)", "friend ", "<<<", ">>>", "::", "[[", "]]", 'extern "C" {', "new ", "noexcept", "requires "),
]

texts = st.text(st.characters(codec="utf-8"), max_size=300)
splinters = st.lists(st.sampled_from(SPLINTERS), max_size=40).map("".join)


@st.composite
def broken_code(draw: st.DrawFn) -> str:
    """Snippets of C++ in a row, with pieces cut out and splinters put in."""
    text = "".join(draw(st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 12))
        text = text[:at] + draw(st.sampled_from(["", *SPLINTERS])) + text[at + cut :]
    return text


any_text = st.one_of(texts, splinters, broken_code())
any_language = st.sampled_from(list(Language))


def source(text: str, language: Language = Language.CPP) -> SourceFile:
    return SourceFile("dir/a.cc", language, len(text), 0, "", text)


def parsed(file: SourceFile) -> ParsedFile:
    """Under the macros that the text itself defines, as in a tree of this one file."""
    if file.language is not Language.CPP:
        return documents.parse_document(file)
    return cpp.parse(file, learn(definitions(file.text.encode("utf-8", "surrogatepass"))))


def line_count(text: str) -> int:
    """Lines that a span may name; an empty file still has its first."""
    return max(1, text.count("\n") + (not text.endswith("\n")))


@settings(max_examples=400, deadline=None)
@given(any_text, any_language)
def test_parsing_never_raises_and_every_span_lies_in_the_file(text: str, language: Language) -> None:
    found = parsed(source(text, language))
    last = line_count(text)
    spans = [symbol.span for symbol in found.symbols] + [reference.span for reference in found.references]
    for span in spans:
        assert span.path == "dir/a.cc"
        assert 1 <= span.first_line <= span.last_line <= last
    assert all(1 <= problem.line <= last for problem in found.problems)
    assert len(found.problems) <= cpp.MAX_PROBLEMS + 1
    assert all(symbol.name and "\n" not in symbol.signature for symbol in found.symbols)


@settings(max_examples=100, deadline=None)
@given(any_text)
def test_references_stand_in_symbols_of_the_file_and_are_told_once(text: str) -> None:
    found = cpp.parse(source(text))
    ids = {symbol.id for symbol in found.symbols}
    assert all(reference.inside is None or reference.inside in ids for reference in found.references)
    assert all(reference.name and reference.target is None for reference in found.references)
    assert len(set(found.references)) == len(found.references)
    assert list(found.references) == sorted(found.references, key=lambda reference: reference.span)


@settings(max_examples=400, deadline=None)
@given(any_text, any_language)
def test_chunks_cover_the_file_without_gap_or_overlap(text: str, language: Language) -> None:
    file = source(text, language)
    chunks = chunking.chunk(file, parsed(file))
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(above.span.last_line + 1 == below.span.first_line for above, below in pairwise(chunks))
    assert [chunk.span.first_line for chunk in chunks[:1]] == [1][: len(text)]
    for chunk in chunks:
        lines = chunk.span.last_line - chunk.span.first_line + 1
        assert lines == line_count(chunk.text)
        assert chunk.text
        assert "\n" not in chunk.title


@settings(max_examples=75, deadline=None)
@given(any_text, any_language)
def test_the_same_text_gives_the_same_facts_and_chunks(text: str, language: Language) -> None:
    file = source(text, language)
    first, second = parsed(file), parsed(file)
    assert first == second
    chunks = chunking.chunk(file, first)
    assert chunks == chunking.chunk(file, second)
    assert len({chunk.id for chunk in chunks}) == len(chunks)


@settings(max_examples=75, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=12))
def test_a_function_under_the_limit_is_never_cut(statements: list[int]) -> None:
    bodies = ["".join(f"  step{i}(value, {i});\n\n" for i in range(count)) for count in statements]
    text = "".join(f"// Does part {n}.\nvoid part{n}(int value) {{\n{body}}}\n\n" for n, body in enumerate(bodies))
    file = source(text)
    found = cpp.parse(file)
    chunks = chunking.chunk(file, found)
    lines = text.split("\n")
    functions = [symbol for symbol in found.symbols if symbol.kind is SymbolKind.FUNCTION]
    assert len(functions) == len(statements)
    for symbol in functions:
        first, last = symbol.span.first_line, symbol.span.last_line
        whole = any(c.span.first_line <= first and last <= c.span.last_line for c in chunks)
        size = sum(len(line) + 1 for line in lines[first - 1 : last])
        assert whole or size > chunking.WHOLE_SIZE


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 3))
def test_an_insertion_above_renames_no_chunk_of_a_file_of_functions(blank_lines: int) -> None:
    text = "int unrelated(int a) {\n  return a;\n}\n\n" + "void last() {\n  a();\n  b();\n}\n"
    before = {chunk.id for chunk in chunking.chunk(source(text), cpp.parse(source(text)))}
    longer = "void first() {\n  c();\n  d();\n}\n" + "\n" * (blank_lines + 1) + text
    after = {chunk.id for chunk in chunking.chunk(source(longer), cpp.parse(source(longer)))}
    assert before <= after
