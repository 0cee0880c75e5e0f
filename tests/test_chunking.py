"""How files are cut: the cases stand in cases/chunk_*.md, sizes are checked here."""

import pytest

from indexer import chunking, cpp, documents
from indexer.model import Chunk, Language, SourceFile
from tests.support.cases import Case, check, load


def chunks_of(text: str, language: Language = Language.CPP, path: str = "src/a.cc") -> tuple[Chunk, ...]:
    file = SourceFile(path, language, len(text), 0, "", text)
    return chunking.chunk(file, cpp.parse(file) if language is Language.CPP else documents.parse_document(file))


def shown(chunks: tuple[Chunk, ...]) -> str:
    """Each chunk's lines and title, and with what it starts and ends."""
    lines = []
    for chunk in chunks:
        text = chunk.text.strip().split("\n")
        lines.append(f"{chunk.span.first_line}-{chunk.span.last_line} {chunk.title}\n")
        lines.append(f"    {text[0].strip()} ... {text[-1].strip()}\n")
    return "".join(lines)


LANGUAGES = {
    "cpp": (Language.CPP, "src/a.cc"),
    "markdown": (Language.MARKDOWN, "README.md"),
    "rst": (Language.RST, "docs/index.rst"),
    "cmake": (Language.CMAKE, "CMakeLists.txt"),
    "text": (Language.TEXT, "NOTES.txt"),
}


@pytest.mark.parametrize("case", load("chunk_*.md"), ids=lambda case: case.name)
def test_a_file_is_cut_as_its_case_says(case: Case) -> None:
    language, path = LANGUAGES[case.kind]
    check(case, shown(chunks_of(case.text, language, path)))


def test_an_empty_file_has_no_chunks() -> None:
    assert chunks_of("") == ()


def test_a_single_huge_line_is_one_chunk() -> None:
    (chunk,) = chunks_of("int table[] = {" + "1, " * 33_000 + "};")
    assert len(chunk.text) > 90_000


def test_a_huge_line_among_others_is_not_split_and_pulls_nothing_large_along() -> None:
    text = "int a;\n" * 300 + "int t[] = {" + "1, " * 2_000 + "};\n" + "int b;\n" * 300
    chunks = chunks_of(text)
    assert max(len(chunk.text) for chunk in chunks) < 6_100 + chunking.TARGET_SIZE
    assert "".join(chunk.text for chunk in chunks) == text


def test_declarations_share_chunks_near_the_target_size() -> None:
    chunks = chunks_of("".join(f"int declared_function_{n}(int a, int b);\n" for n in range(200)))
    sizes = [len(chunk.text) for chunk in chunks]
    assert max(sizes) <= chunking.TARGET_SIZE
    assert min(sizes[:-1]) > chunking.TARGET_SIZE * 0.9


def test_a_type_that_fits_is_one_chunk_and_a_larger_one_is_cut_between_its_members() -> None:
    method = "  int method{}() {{\n    int a = first({});\n    return second(a) + third(a) + fourth(a);\n  }}\n\n"
    small = "class Small {\n" + "".join(method.format(n, n) for n in range(5)) + "};\n"
    large = "class Large {\n" + "".join(method.format(n, n) for n in range(60)) + "};\n"
    (chunk,) = chunks_of(small)
    assert chunk.title == "src/a.cc | Small | class Small"
    chunks = chunks_of(large)
    assert len(chunks) == 60
    assert all(chunk.text.count(" int method") == 1 for chunk in chunks)
    assert chunks[7].title == "src/a.cc | Large::method7 | int method7()"


def test_a_long_function_is_cut_at_blank_lines_and_every_piece_bears_its_name() -> None:
    blocks = "".join(f"  if (condition_{n}) {{\n    act({n});\n    act_again({n});\n  }}\n\n" for n in range(120))
    chunks = chunks_of(f"void Long() {{\n{blocks}}}\n")
    assert len(chunks) > 3
    assert {chunk.title for chunk in chunks} == {"src/a.cc | Long | void Long()"}
    assert len({chunk.symbol for chunk in chunks}) == 1
    assert all(chunk.text.endswith("}\n\n") for chunk in chunks[:-1])
    assert all(len(chunk.text) <= chunking.TARGET_SIZE * chunking.CUT_WINDOW[1] for chunk in chunks)


def test_a_long_comment_does_not_get_its_short_function_cut() -> None:
    comment = "// A sentence about what the function does and why.\n" * 120
    function = "int f() {\n" + "  step();\n" * 40 + "  return 1;\n}\n"
    chunks = chunks_of(comment + function)
    assert [chunk.text for chunk in chunks if "int f()" in chunk.text] == [function]


def test_equal_chunks_of_one_file_have_different_ids() -> None:
    chunks = chunks_of("#if A\n" + "int f() {\n  a();\n  b();\n}\n\n" * 2 + "#endif\n")
    assert len({chunk.id for chunk in chunks}) == len(chunks) >= 2
