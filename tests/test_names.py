"""Finding symbols by what is typed: laws of matching first, then what is found and how it says so."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import QuestionError
from indexer.model import Provenance, Symbol, SymbolKind, Trait
from indexer.symbol_table.mentions import Mentions
from indexer.symbol_table.names import (
    Match,
    Names,
    edit_distance,
    split_arguments,
    typed_name,
    without_arguments,
)
from indexer.symbol_table.patterns import MOST_CHARS, Pattern
from tests.support.graphs import symbol, written_table

PARTS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "^", "$", r"\w", "_"]),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds(
            "({}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,2}", "*?", "{0}"])
        ),
    ),
    max_leaves=8,
)
SHORT = st.text(alphabet="abc_", max_size=8)


@given(PARTS, SHORT)
@settings(max_examples=300)
def test_a_pattern_finds_what_python_s_own_matcher_finds(pattern: str, name: str) -> None:
    assert Pattern(pattern).found_in(name) == bool(re.search(pattern, name))


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_is_refused_with_a_way_out(text: str) -> None:
    refused = None
    try:
        Pattern(text).found_in("leveldb::DBImpl::Get")
    except QuestionError as error:
        refused = error
    assert refused is None or (text[:50] and refused.message and refused.hint)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*(a*)*b", "(.*a){20}b", "(a?){50}a{50}b"])
def test_a_pattern_made_to_hang_a_matcher_is_as_quick_as_any(pattern: str) -> None:
    """Each character is a step between sets of states, of which there are few; what goes back to try hangs here."""
    looked_for = Pattern(pattern)
    assert not looked_for.found_in("a" * 3_000)
    assert len(looked_for._known) < 3_000


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "not closed"),
        (")", "no opening one"),
        ("*a", "nothing for"),
        ("a|+", "nothing for"),
        ("(?=a)", "looks ahead"),
        (r"(a)\1", r"\\1 is not taken"),
        (r"a\b", "is not taken"),
        ("[z-a]", "bad character range"),
        ("a{200}", "more than 100 times"),
        ("((a{99}){99}){99}", "too large"),
        ("(" * 90 + ")" * 90, "nested too deeply"),
        ("a" * (MOST_CHARS + 1), f"{MOST_CHARS} are the most"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(pattern: str, reason: str) -> None:
    with pytest.raises(QuestionError, match=reason):
        Pattern(pattern)


def test_a_pattern_may_leave_letter_case_out() -> None:
    assert Pattern("(?i)dbimpl").found_in("leveldb::DBImpl")
    assert not Pattern("dbimpl").found_in("leveldb::DBImpl")


@given(SHORT, SHORT)
def test_the_distance_is_that_of_its_definition(one: str, other: str) -> None:
    def slow(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        found = min(slow(i - 1, j) + 1, slow(i, j - 1) + 1, slow(i - 1, j - 1) + (one[i - 1] != other[j - 1]))
        if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
            found = min(found, slow(i - 2, j - 2) + 1)
        return found

    one, other = one[:5], other[:5]
    assert edit_distance(one, other, 10) == slow(len(one), len(other)) == edit_distance(other, one, 10)
    for most in range(5):
        assert edit_distance(one, other, most) == min(slow(len(one), len(other)), most + 1)


@given(st.text())
def test_any_text_is_taken_apart_without_harm(text: str) -> None:
    found = typed_name(text)
    assert found.last == found.last.rpartition("::")[2] or "operator" in found.last
    split_arguments(text)


@pytest.mark.parametrize(
    ("typed", "name", "parameters"),
    [
        ("Get", "Get", None),
        (" ::a :: Get ( int , const  Slice & ) const", "a::Get", ("int", "const Slice&")),
        ("Map<K, V<int>>::Node::Get()", "Map::Node::Get", ()),
        ("operator()", "operator()", None),
        ("A<T>::operator()(std::map<K, V>)", "A::operator()", ("std::map<K,V>",)),
        ("A::operator<", "A::operator<", None),
        ("operator<<(A, B)", "operator<<", ("A", "B")),
        ("A::operator bool", "A::operator bool", None),
        ("operator_count", "operator_count", None),
        ("f(void (*)(int, int), T)", "f", ("void(*)(int,int)", "T")),
        ("f(int", "f", ("int",)),
        ("x" * 5_000, "", None),
    ],
)
def test_a_typed_name_is_taken_apart(typed: str, name: str, parameters: tuple[str, ...] | None) -> None:
    found = typed_name(typed)
    written = None if found.parameters is None else tuple(p.replace(", ", ",") for p in found.parameters)
    assert (found.name, written) == (name, parameters)


def test_template_arguments_are_left_out_however_deep() -> None:
    assert without_arguments("A<B<C<int>>>::D<1>::E") == "A::D::E"
    assert without_arguments("<" * 50_000)


# What is found

DB = [
    symbol("leveldb::DB::Get", "db.h", 5, SymbolKind.METHOD, parameters=["int"], defined=False),
    symbol("leveldb::DB::Get", "db.cc", 20, SymbolKind.METHOD, parameters=["int"]),
    symbol("leveldb::DB::Get", "db.cc", 30, SymbolKind.METHOD, parameters=["const leveldb::Slice&"]),
    symbol("leveldb::DB::Get", "db.cc", 40, SymbolKind.METHOD, parameters=["int"], traits=(Trait.CONST,)),
    symbol("leveldb::DB::GetProperty", "db.cc", 50, SymbolKind.METHOD),
    symbol("leveldb::Cache::Get", "cache.h", 3, SymbolKind.METHOD),
    symbol("leveldb::DB", "db.h", 3, SymbolKind.CLASS, defined=False),
    symbol("leveldb::DB", "z.h", 1, SymbolKind.CLASS, lines=30),
    symbol("app::DB", "app.h", 1, SymbolKind.USING),
    symbol("get_all", "c.c", 1),
    symbol("Get", "readme.md", 1, SymbolKind.SECTION),
]


@pytest.fixture(scope="module")
def names() -> Names:
    return Names(written_table(DB))


Seen = tuple[Match | None, list[str]]


def found(names: Names, typed: str, how: Match | None = None, kinds: tuple[SymbolKind, ...] = ()) -> Seen:
    result = names.find(typed, 50, 0, how, kinds)
    return result.match, [f"{s.qualified_name}:{s.line}" for s in result.symbols]


def test_parameters_select_the_overload(names: Names) -> None:
    assert found(names, "DB::Get(int)") == (
        Match.EXACT,
        ["leveldb::DB::Get:20", "leveldb::DB::Get:40", "leveldb::DB::Get:5"],
    )
    assert found(names, "DB::Get(int) const") == (Match.EXACT, ["leveldb::DB::Get:40"])
    assert found(names, "Get(Slice)") == found(names, "Get(const Slice&)") == (Match.EXACT, ["leveldb::DB::Get:30"])


def test_parameters_that_no_overload_takes_find_the_others_as_a_suggestion_only(names: Names) -> None:
    match, others = found(names, "DB::Get(double)")
    assert match is Match.FUZZY
    assert len(others) == 4
    assert names.named("DB::Get(double)", 5) == []


def test_empty_parentheses_mean_any_overload_unless_one_takes_nothing(names: Names) -> None:
    assert len(names.named("DB::Get()", 50)) == 4
    assert [s.qualified_name for s in names.named("Get()", 50)] == ["leveldb::Cache::Get"]


def test_definitions_come_before_declarations_and_using_declarations_come_last(names: Names) -> None:
    assert found(names, "DB") == (Match.EXACT, ["leveldb::DB:1", "leveldb::DB:3", "app::DB:1"])


def test_what_is_not_there_is_looked_for_in_other_case_then_as_a_beginning_then_by_spelling(names: Names) -> None:
    assert found(names, "db::GETPROPERTY") == (Match.FOLDED, ["leveldb::DB::GetProperty:50"])
    assert found(names, "DB::GetP") == (Match.PREFIX, ["leveldb::DB::GetProperty:50"])
    assert found(names, "GetPorperty") == (Match.FUZZY, ["leveldb::DB::GetProperty:50"])
    assert found(names, "DB::Gte", kinds=(SymbolKind.METHOD,))[1][:1] == ["leveldb::DB::Get:20"]
    assert found(names, "Unlike") == (None, [])


def test_a_way_that_is_asked_for_is_the_only_one(names: Names) -> None:
    assert found(names, "Ge", Match.PREFIX, (SymbolKind.FUNCTION,)) == (Match.PREFIX, ["get_all:1"])
    assert found(names, "GetPorperty", Match.PREFIX) == (None, [])
    assert found(names, "^leveldb::.*::Get$", Match.REGEX, (SymbolKind.METHOD,))[1][0] == "leveldb::Cache::Get:3"
    assert found(names, "^Get", Match.REGEX, (SymbolKind.METHOD,)) == (None, [])


@settings(max_examples=50)
@given(st.sampled_from(["Get", "DB", "g", "Gte", ".*"]), st.integers(1, 4))
def test_pages_put_together_are_the_whole(names: Names, typed: str, size: int) -> None:
    for how in (None, Match.PREFIX, Match.REGEX):
        whole = names.find(typed, 1_000, 0, how)
        pages: list[Symbol] = []
        while page := names.find(typed, size, len(pages), how).symbols:
            pages += page
        assert tuple(pages) == whole.symbols
        assert len(pages) == whole.total


@settings(max_examples=30)
@given(st.permutations(DB), st.sampled_from(["Get", "Ge", "Gte", "DB"]))
def test_what_is_found_does_not_depend_on_the_order_of_insertion(rows: list[Symbol], typed: str) -> None:
    one, other = Names(written_table(rows)), Names(written_table(DB))
    for how in (None, Match.PREFIX, Match.FUZZY):
        assert one.find(typed, 50, 0, how) == other.find(typed, 50, 0, how)


def test_every_misspelling_within_the_bound_is_found() -> None:
    """The pieces that narrow the search lose nothing: each name one edit away from a real one finds it."""
    name = "CompactRange"
    table = Names(written_table([symbol(f"x::{name}"), *(symbol(f"other{n}") for n in range(5))]))
    for at in range(len(name)):
        swapped = name[:at] + name[at : at + 2][::-1] + name[at + 2 :]
        for typed in (
            name[:at] + name[at + 1 :],
            name[:at] + "q" + name[at:],
            name[:at] + "q" + name[at + 1 :],
            swapped,
        ):
            result = table.find(typed, 5, 0, Match.FUZZY)
            assert [s.name for s in result.symbols] == [name], typed


# Names in the text

TEXT = """struct Options {
  int size_ = 4;
  int twice() { return size_ + size_; }
};
// size_ in a comment
const char* text = "size_";
const char* raw = R"x(size_)x";
int outside(Options* o) {
  /* size_ */ return o->size_ + Other::size_;
}
int size_;
int thousand = 1'000 + size_; char c = 'x';
"""


def test_a_field_is_found_in_its_class_and_behind_an_arrow_but_not_in_comments_and_strings() -> None:
    owner = symbol("Options", line=1, kind=SymbolKind.CLASS, lines=4)
    size = symbol("Options::size_", line=2, kind=SymbolKind.FIELD)
    twice = symbol("Options::twice", line=3, kind=SymbolKind.METHOD)
    outside = symbol("outside", line=8, lines=3)
    lone = symbol("size_", line=11, kind=SymbolKind.VARIABLE)
    table = written_table([owner, size, twice, outside, lone], text=TEXT)
    mentions = Mentions(table, Names(table))
    places = [(m.likely, m.edge.line, m.edge.inside, m.edge.target) for m in mentions.of([size])]
    assert places == [
        (True, 3, "Options::twice", "Options::size_"),
        (True, 9, "outside", "Options::size_"),
        (True, 12, "", "size_"),
    ]
    assert {m.edge.how for m in mentions.of([size, lone])} == {Provenance.BY_NAME}
    assert mentions.of([twice]) == []


@given(st.text(alphabet="x_'\"/*\\R(n)1\n ", max_size=40))
@settings(max_examples=60)
def test_text_of_any_kind_is_read_to_its_end(text: str) -> None:
    table = written_table([symbol("x", "a.h", 1, SymbolKind.VARIABLE)], files=["b.cc"], text=text)
    for mention in Mentions(table, Names(table)).of([*DB[:1], symbol("x", "a.h", 1, SymbolKind.VARIABLE)]):
        assert "x" in text.split("\n")[mention.edge.line - 1]
