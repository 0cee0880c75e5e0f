"""Laws of masking and of what is learned from macros; what becomes of single constructs stands in cases/cpp_*.md."""

import pickle
import re
import sys
from pathlib import Path

import pytest
import tree_sitter_cpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tree_sitter import Language, Parser

from indexer.cpp.candidates import candidates
from indexer.cpp.conditionals import MAX_READINGS
from indexer.cpp.lexing import directives, skeleton
from indexer.cpp.macros import BUILTIN, Kind, MacroDefinition, Macros, changed, definitions, from_flag, learn
from indexer.cpp.masking import mask

_LANGUAGE = Language(tree_sitter_cpp.language())
_SAMPLE = Path(__file__).parent.parent / "sample_repo"

# Pieces of C++ that, put together at random, open and close everything that masking looks at.
_PIECES = st.sampled_from(
    [
        "\n",
        " ",
        ";",
        "{",
        "}",
        "(",
        ")",
        "<",
        ">",
        ",",
        ":",
        "::",
        "=",
        "#",
        "\\\n",
        '"',
        "'",
        "/*",
        "*/",
        "//",
        'R"(',
        ')"',
        "#if A\n",
        "#if 0\n",
        "#ifdef B\n",
        "#ifndef B\n",
        "#elif C\n",
        "#else\n",
        "#endif\n",
        "#define M(x) x {\n",
        "#include <a>\n",
        "class ",
        "struct ",
        "enum ",
        "namespace n ",
        "template",
        "operator",
        "void f() ",
        "int x",
        "return ",
        "FMT_API ",
        "Q_OBJECT\n",
        "FMT_BEGIN_NAMESPACE\n",
        "FMT_END_NAMESPACE\n",
        "TEST_CASE(",
        "FOREACH(",
        "UNKNOWN(",
        "X_Y\n",
        "signals",
        "foreach (",
        "emit ",
        "PRIu64",
        "decltype(",
        "= {}",
        "nullptr>",
        "::*",
        "->operator[](",
        "[[a]]",
        "throw ",
        "1'000",
    ]
)
_TEXTS = st.one_of(st.lists(_PIECES, max_size=60).map("".join), st.text(max_size=200))
_NAMESPACE = learn(
    definitions(b"#define FMT_BEGIN_NAMESPACE namespace fmt { inline namespace v9 {\n#define FMT_END_NAMESPACE }}\n")
)


def errors(code: bytes) -> int:
    """How many bytes of a text stand in errors of the grammar."""
    cursor = Parser(_LANGUAGE).parse(code).walk()
    total = 0
    while True:
        node = cursor.node
        assert node is not None
        if node.type == "ERROR":
            total += node.end_byte - node.start_byte
        elif node.has_error and cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return total


@given(_TEXTS)
@settings(max_examples=120, deadline=None)
def test_masking_keeps_the_length_of_any_text_and_every_use_stands_inside_it(text: str) -> None:
    data = text.encode()
    masked = mask(data, _NAMESPACE)
    assert len(masked.code) == len(data)
    assert all(len(branch.code) == len(data) for branch in masked.branches)
    assert len(masked.branches) <= MAX_READINGS
    for use in masked.uses:
        assert data[use.start : use.start + len(use.name)] == use.name.encode()
    for scope in masked.scopes:
        assert 0 <= scope.start <= scope.end <= len(data)
        assert scope.scopes
    for branch in masked.branches:
        assert branch.ranges
        for start, end in branch.ranges:
            assert 0 <= start < end <= len(data)


@given(st.binary(max_size=400))
@settings(max_examples=80, deadline=None)
def test_masking_takes_any_bytes(data: bytes) -> None:
    assert len(mask(data).code) == len(data)
    assert len(skeleton(data)) == len(data)
    assert definitions(data) == definitions(data)


@given(_TEXTS)
@settings(max_examples=80, deadline=None)
def test_what_masking_changes_becomes_a_space_or_one_of_the_few_words_it_places(text: str) -> None:
    data = text.encode()
    code = mask(data, _NAMESPACE).code
    placed = set(b' ;,:<>&_0"{}()=intifforelsecatchpublicprivateprotected')
    assert {new for old, new in zip(data, code, strict=True) if old != new} <= placed


@given(
    st.lists(
        st.sampled_from(
            ["int f(int a) {\n  return g(a) + 1;\n}\n", "class A : B {\n  int n_ = 2;\n};\n", "// it's #if\n"]
        )
    )
)
def test_a_text_without_macros_and_conditionals_is_unchanged(parts: list[str]) -> None:
    data = "".join(parts).encode()
    assert mask(data) == (data, (), (), ())


@given(_TEXTS)
@settings(max_examples=120, deadline=None)
def test_candidates_are_the_words_in_capitals_and_the_macros_spelt_otherwise(text: str) -> None:
    data = text.encode()
    found, present = candidates(data, _NAMESPACE, frozenset((b"operator", b"template")))
    whole = {(match.start(), match[0]) for match in re.finditer(rb"[A-Za-z0-9_]+", data)}
    shouted = {(at, word) for at, word in whole if re.fullmatch(rb"[A-Z_](?=.*[A-Z])[A-Z0-9_]{2,}", word)}
    odd = {(at, word) for at, word in whole if word in _NAMESPACE.odd_names}
    assert [(at, word) for at, word, _ in found] == sorted(shouted | odd)
    assert present == {word for _, word in whole} & (_NAMESPACE.odd_names | {b"operator", b"template"})


def test_more_macros_than_anyone_writes_are_left_as_they_are() -> None:
    one = b"Q_OBJECT "
    data = one * 80_001
    assert mask(data).code == b" " * len(one) * 80_000 + one


def test_the_sample_tree_stays_free_of_errors() -> None:
    texts = [path.read_bytes() for path in sorted(_SAMPLE.rglob("*.cc")) + sorted(_SAMPLE.rglob("*.h"))]
    assert sum(errors(text) for text in texts) > 0
    macros = learn(definition for text in texts for definition in definitions(text))
    assert [errors(mask(text, macros).code) for text in texts] == [0] * len(texts)


# The bound counts the lines of our own code that run, not seconds: a square would be far above it.
@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "{",
        "#if A\n",
        "#if A\n#else\n",
        "FOO(",
        "FOO ",
        "X_Y\n",
        '"',
        "'",
        "/*",
        'R"(',
        "template(",
        "::*",
        "a ",
        "#",
        "#if A\n{\n#else\n}\n#endif\n",
        "IN OUT ",
        "FOO(a,{",
        "<<<",
        "[[a",
        "}",
    ],
)
def test_hostile_text_is_masked_in_steps_that_grow_with_its_length(piece: str) -> None:
    def steps(count: int) -> int:
        taken = 0

        def trace(frame: object, event: str, argument: object) -> object:
            nonlocal taken
            taken += 1
            return trace

        data = piece.encode() * count
        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]  # a tracer may return itself
        try:
            mask(data)
        finally:
            sys.settrace(before)
        return taken

    assert steps(2_000) <= 3 * steps(1_000) + 1_000


@pytest.mark.parametrize(
    "piece",
    ["(", "#if\n", "FOO(", "#if A\n#else\n", "a", "template(", "{", "= {", "x::", "FOO(x)\n", "<<<", "::*", "#\n"],
)
@pytest.mark.timeout(30)
def test_a_long_file_of_one_thing_ends(piece: str) -> None:
    data = (piece * (100_000 // len(piece))).encode()
    assert len(mask(data).code) == len(data)


_DEFINITIONS = st.builds(
    MacroDefinition,
    st.sampled_from(["A_API", "B_BEGIN", "C_END", "D", "E_EXPORT"]),
    st.sampled_from([None, (), ("x",), ("x", "y")]),
    st.sampled_from(
        [
            "",
            "namespace a {",
            "}",
            "__attribute__((x))",
            "A_API",
            "B_BEGIN D",
            "3",
            "x",
            "do { x; } while (0)",
            "for (x)",
            "E_EXPORT inline",
        ]
    ),
)


@given(st.lists(_DEFINITIONS, max_size=8), st.randoms())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_learning_does_not_depend_on_order_or_repetition(found: list[MacroDefinition], random: object) -> None:
    learned = learn(found)
    shuffled = [*found, *found[:2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types its random as an object
    assert learn(shuffled) == learned
    assert hash(learn(shuffled)) == hash(learned)
    assert Macros.loads(learned.dumps()) == learned
    assert pickle.loads(pickle.dumps(learned)) == learned
    assert changed(learned, learned) == frozenset()


def kinds(text: str) -> dict[str, Kind]:
    learned = learn(definitions(text.encode()))
    return {name: meaning.kind for name, meaning in learned if name in text and BUILTIN.get(name) != meaning}


@pytest.mark.parametrize(
    ("define", "kind"),
    [
        ("EMPTY", Kind.ATTRIBUTE),
        ('EXPORT __attribute__((visibility("default")))', Kind.ATTRIBUTE),
        ("GUARDED(x) __attribute__((guarded_by(x)))", Kind.ATTRIBUTE),
        ("IMPORT extern __declspec(dllimport)", Kind.ATTRIBUTE),
        ("NODISCARD [[nodiscard]]", Kind.ATTRIBUTE),
        ("DELETED = delete", Kind.ATTRIBUTE),
        ("BEGIN namespace a { inline namespace v1 {", Kind.SCOPES),
        ("END } }", Kind.SCOPES),
        ('BEGIN_C extern "C" {', Kind.SCOPES),
        ("TPL template <typename T, template<class> class U>", Kind.TEMPLATE),
        ("REQUIRES(...) std::enable_if_t<(__VA_ARGS__), int> = 0", Kind.PARAMETER),
        ('FORMAT "%" "d"', Kind.STRING),
        ("WIDE(x) L##x", Kind.STRING),
        ("PRIVATE public", Kind.ACCESS),
        ("EACH(a, b) for (auto a : b)", Kind.CONTROL),
        ("ELSE else", Kind.CONTROL),
        ("CHECK(x) do { if (!(x)) abort(); } while (0)", Kind.DECLARES),
        ("NO_COPY(T) T(const T&) = delete; T& operator=(const T&) = delete", Kind.DECLARES),
        ("RUN(a, b) class a##b {}; void a##b::Run()", Kind.HEADING),
        ('API_CALL(type) extern "C" type __stdcall', Kind.ARGUMENT),
    ],
)
def test_a_macro_means_what_its_body_says(define: str, kind: Kind) -> None:
    name = define.partition(" ")[0].partition("(")[0]
    assert kinds(f"#define {define}\n") == {name: kind}


@pytest.mark.parametrize("define", ["LIMIT 42", "SQUARE(x) ((x) * (x))", "HANDLE void*", "MAKE(T) std::make_unique<T>"])
def test_constants_expressions_and_types_need_no_entry(define: str) -> None:
    assert kinds(f"#define {define}\n") == {}


def test_a_namespace_keeps_its_names_and_which_of_them_are_inline() -> None:
    text = b"FMT_BEGIN_NAMESPACE\nvoid f();\nFMT_END_NAMESPACE\nint after;\n"
    masked = mask(text, _NAMESPACE)
    (scope,) = masked.scopes
    assert [(part.name, part.inline) for part in scope.scopes] == [("fmt", False), ("v9", True)]
    assert scope.names == ("fmt",)
    assert text[scope.start : scope.end] == b"\nvoid f();\n"
    assert [use.name for use in masked.uses] == ["FMT_BEGIN_NAMESPACE", "FMT_END_NAMESPACE"]


def test_a_macro_is_followed_into_the_macros_of_its_body() -> None:
    text = (
        "#define INNER __attribute__((x))\n#define OUTER INNER inline\n#define LOOP_A LOOP_B\n#define LOOP_B LOOP_A\n"
    )
    assert kinds(text) == {"INNER": Kind.ATTRIBUTE, "OUTER": Kind.ATTRIBUTE}


def test_definitions_are_found_in_all_branches_but_not_in_comments_or_strings() -> None:
    text = b"""\
/* #define NO 1
#define NOT_HERE 2
*/
#if A
#  define YES(a, \\
              b) a + \\
     b /* why */ + 1
#else
#define ALSO // nothing
#endif
const char* url = "http:/*";
#define LAST 'x'
"""
    assert definitions(text) == (
        MacroDefinition("YES", ("a", "b"), "a +       b   + 1"),
        MacroDefinition("ALSO", None, ""),
        MacroDefinition("LAST", None, "'x'"),
    )


@pytest.mark.parametrize(
    ("flag", "definition"),
    [
        ("-DNDEBUG", MacroDefinition("NDEBUG", None, "1")),
        ("-DAPI=", MacroDefinition("API", None, "")),
        ("-DAPI=__declspec(dllexport)", MacroDefinition("API", None, "__declspec(dllexport)")),
        ("-DMAX(a,b)=a", MacroDefinition("MAX", ("a", "b"), "a")),
    ],
)
def test_a_flag_of_the_compiler_is_a_definition(flag: str, definition: MacroDefinition) -> None:
    assert from_flag(flag) == definition


def test_a_changed_body_names_the_macros_to_read_again() -> None:
    before = learn(definitions(b"#define A_API\n#define B_API inline\n"))
    after = learn(definitions(b"#define A_API 3\n#define B_API inline\n#define C_API static\n"))
    assert changed(before, after) == {"A_API", "C_API"}


def test_text_that_no_macros_were_dumped_to_is_refused() -> None:
    with pytest.raises(ValueError, match=r".+"):
        Macros.loads('[["A", ["unheard", false, -1, 0, [], ""]]]')
    with pytest.raises(ValueError, match=r".+"):
        Macros.loads("[1]")


def test_branches_that_share_a_brace_are_read_one_by_one_and_facts_come_from_all() -> None:
    text = b"#if A\nvoid f(int a) {\n#else\nvoid f(long a) {\n#endif\n  g();\n}\n"
    masked = mask(text)
    assert b"void f(int a) {" in masked.code
    assert b"long" not in masked.code
    (branch,) = masked.branches
    assert b"void f(long a) {" in branch.code
    assert b"int" not in branch.code
    assert [text[start:end] for start, end in branch.ranges] == [b"\nvoid f(long a) {\n"]
    assert errors(masked.code) == errors(branch.code) == 0


def test_directives_are_cut_where_lines_end_unless_they_go_on() -> None:
    code = skeleton(b'#define A \\\n  1\nint a; # no\nx = R"(\n#if)";\n  # if B // c\n')
    assert [(found.word, code[found.start : found.end].strip()) for found in directives(code)] == [
        (b"define", b"#define A \\\n  1"),
        (b"if", b"# if B"),
    ]
