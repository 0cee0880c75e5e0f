"""The graph of calls, classes and includes: what is followed, how far, and what a guess may do. Laws first."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import QuestionError
from indexer.model import Edge, Provenance, ReferenceKind, Symbol, SymbolId, SymbolKind, Trait
from indexer.symbol_table.graph import DEEPEST, Graph, Reach, Step
from indexer.symbol_table.lineage import Relative
from tests.support.graphs import OUTSIDE, Written, facts_of, graph_of, symbol

CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)
GUESS = Provenance.BY_NAME
SURE = Provenance.RESOLVED
NUMBERS = st.integers(0, 6)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS, st.booleans()), max_size=16, unique_by=lambda pair: pair[:2])


def function(number: int) -> Symbol:
    return symbol(f"n::f{number}", f"{number % 3}.cc", 10 * number + 1, lines=9)


def call(caller: int, callee: int, *, sure: bool = True) -> Written:
    place = function(caller)
    target = function(callee) if sure else None
    return Written(f"f{callee}", place.span.path, place.span.first_line + 1 + callee, place, target)


def calls_of(pairs: list[tuple[int, int, bool]]) -> list[Written]:
    return [call(caller, callee, sure=sure) for caller, callee, sure in pairs]


ALL = [function(number) for number in range(7)]


def places(steps: list[Step]) -> set[tuple[str, int]]:
    return {(step.edge.path, step.edge.line) for step in steps}


# Laws


@settings(max_examples=30)
@given(PAIRS, NUMBERS, st.integers(1, 5))
def test_callers_to_a_depth_are_as_many_steps_of_depth_one(
    pairs: list[tuple[int, int, bool]], root: int, depth: int
) -> None:
    graph = graph_of(ALL, calls_of(pairs))
    for by_name in (True, False):
        expected: set[tuple[str, int]] = set()
        seen = frontier = {function(root).id}
        for level in range(depth):
            steps = graph.callers(frontier, Reach(1, by_name))
            if level and not by_name:
                steps = [step for step in steps if step.edge.how is not GUESS]
            expected |= places(steps)
            followed = [step for step in steps if by_name or step.edge.how is not GUESS]
            frontier = {step.edge.inside_id for step in followed if step.edge.inside_id} - seen
            seen = seen | frontier
        assert places(graph.callers([function(root).id], Reach(depth, by_name))) == expected


@settings(max_examples=30)
@given(PAIRS, NUMBERS, NUMBERS, st.integers(1, 4))
def test_callers_and_callees_are_inverse(pairs: list[tuple[int, int, bool]], one: int, other: int, depth: int) -> None:
    graph = graph_of(ALL, calls_of([(caller, callee, True) for caller, callee, _ in pairs]))
    up = {step.edge.inside for step in graph.callers([function(one).id], Reach(depth))}
    down = {step.edge.target for step in graph.callees([function(other).id], Reach(depth))}
    assert (function(other).qualified_name in up) == (function(one).qualified_name in down)


@settings(max_examples=30)
@given(PAIRS, NUMBERS, st.randoms(use_true_random=False))
def test_answers_do_not_depend_on_the_order_of_insertion(
    pairs: list[tuple[int, int, bool]], root: int, chance: object
) -> None:
    shuffled_symbols, shuffled_uses = list(ALL), calls_of(pairs)
    chance.shuffle(shuffled_symbols)  # type: ignore[attr-defined]
    chance.shuffle(shuffled_uses)  # type: ignore[attr-defined]
    one, other = graph_of(ALL, calls_of(pairs)), graph_of(shuffled_symbols, shuffled_uses)
    reach = Reach(4, by_name=True)
    assert one.callers([function(root).id], reach) == other.callers([function(root).id], reach)
    assert one.callees([function(root).id], reach) == other.callees([function(root).id], reach)
    assert list(one._facts.all_edges()) == list(other._facts.all_edges())


@settings(max_examples=30)
@given(PAIRS, NUMBERS)
def test_the_way_to_an_edge_is_a_chain_of_calls_from_the_symbol_asked_for(
    pairs: list[tuple[int, int, bool]], root: int
) -> None:
    graph = graph_of(ALL, calls_of([(caller, callee, True) for caller, callee, _ in pairs]))
    called = {(f"n::f{caller}", f"n::f{callee}") for caller, callee, _ in pairs}
    for step in graph.callers([function(root).id], Reach(DEEPEST)):
        chain = [f"n::f{root}", *step.via]
        assert len(chain) == step.depth
        assert chain[-1] == step.edge.target
        assert all((caller, callee) in called for callee, caller in pairwise(chain))


@settings(max_examples=30)
@given(PAIRS, NUMBERS)
def test_every_edge_to_a_symbol_is_an_edge_of_the_whole_table(pairs: list[tuple[int, int, bool]], root: int) -> None:
    facts = facts_of(ALL, calls_of(pairs))
    everything = set(facts.all_edges())
    assert set(facts.edges_to(function(root), CALLS)) <= everything
    assert set(facts.edges_from(function(root), CALLS)) <= everything
    assert everything == {edge for entry in ALL for edge in facts.edges_from(entry, CALLS)}


# What decides the target


def test_a_compiler_s_word_counts_and_shadows_what_the_parser_saw() -> None:
    caller, one, other = symbol("caller", line=1, lines=9), symbol("A::run", line=20), symbol("B::run", line=30)
    parsed = Written("run", "a.cc", 2, caller, OUTSIDE, shadowed=True)
    facts = facts_of(
        [caller, one, other],
        [parsed, Written("run", "a.cc", 2, caller, other, how=Provenance.COMPILER)],
    )
    assert [(e.line, e.how) for e in facts.edges_to(other, CALLS)] == [(2, Provenance.COMPILER)]
    assert facts.edges_to(one, CALLS) == []
    assert [e.line for e in facts.all_edges()] == [2]
    assert [e.how for e in facts.edges_from(caller, CALLS)] == [Provenance.COMPILER]
    assert facts.edges_by_name("run", CALLS) == []


def test_what_means_something_outside_the_tree_is_no_use_of_a_namesake() -> None:
    caller, size = symbol("caller", lines=9), symbol("Own::size", line=20, kind=SymbolKind.METHOD)
    facts = facts_of([caller, size], [Written("size", "a.cc", 2, caller, OUTSIDE), Written("size", "a.cc", 3, caller)])
    assert [(e.line, e.how) for e in facts.edges_to(size, CALLS)] == [(3, GUESS)]
    assert [e.line for e in facts.edges_from(caller, CALLS)] == [3]
    assert [e.line for e in facts.edges_by_name("size", CALLS)] == [2, 3]


def test_a_guess_names_its_candidates_and_pretends_nothing() -> None:
    caller = symbol("caller", lines=9)
    methods = [symbol(f"S{n}::Get", "s.h", n + 1, SymbolKind.METHOD, parameters=["int"]) for n in range(7)]
    facts = facts_of([caller, *methods], [Written("Get", "a.cc", 2, caller, operands='["method",null,["int"]]')])
    (edge,) = facts.edges_from(caller, CALLS)
    assert (edge.how, edge.target, edge.target_id, edge.candidate_count) == (GUESS, "Get", None, 7)
    assert edge.candidates == tuple(f"S{n}::Get(int)" for n in range(5))
    assert facts.edges_to(methods[6], CALLS) == [edge]


def test_the_only_candidate_is_named_but_stays_a_guess() -> None:
    caller, get = symbol("caller", lines=9), symbol("S::Get", line=20, kind=SymbolKind.METHOD)
    (edge,) = facts_of([caller, get], [Written("Get", "a.cc", 2, caller)]).edges_to(get, CALLS)
    assert (edge.how, edge.target, edge.target_id, edge.candidates) == (GUESS, "S::Get", get.id, ())


@pytest.mark.parametrize(
    ("operands", "found"),
    [
        ("", {"g()", "g(int)", "g(int, int)", "g(int, ...)", "N::g(int)", "C::g(int)"}),
        ('["call"]', {"g()", "N::g(int)"}),
        ('["call",null,["int"]]', {"g(int)", "g(int, ...)", "N::g(int)", "C::g(int)"}),
        ('["call",null,["int",null,null]]', {"g(int, ...)"}),
        ('["method",null,["int"]]', {"C::g(int)"}),
        ('["new",null,["int"]]', set()),
        ("not json", {"g()", "g(int)", "g(int, int)", "g(int, ...)", "N::g(int)", "C::g(int)"}),
    ],
)
def test_a_guess_must_fit_in_kind_and_number_of_arguments(operands: str, found: set[str]) -> None:
    caller = symbol("caller", lines=9)
    targets = [
        symbol("g", line=20),
        symbol("g", line=21, parameters=["int"]),
        symbol("g", line=22, parameters=["int", "int"]),
        symbol("g", line=23, parameters=["int", "..."], required=1),
        symbol("N::g", line=24, parameters=["int"], required=0),
        symbol("C::g", line=25, kind=SymbolKind.METHOD, parameters=["int"]),
    ]
    facts = facts_of([caller, *targets], [Written("g", "a.cc", 2, caller, operands=operands)])
    held = {target.signature for target in targets if facts.edges_to(target, CALLS)}
    assert held == found


def test_a_written_qualifier_must_fit_the_candidate_and_a_constructor_s_class_is_said_once() -> None:
    caller = symbol("caller", lines=9)
    mine, others = symbol("n::Foo::run", line=20), symbol("n::Bar::run", line=21)
    made = symbol("n::Foo::Foo", line=22, kind=SymbolKind.CONSTRUCTOR)
    owner = symbol("n::Foo", line=19, kind=SymbolKind.CLASS)
    facts = facts_of(
        [caller, mine, others, made, owner],
        [Written("Foo::run", "a.cc", 2, caller), Written("n::Foo", "a.cc", 3, caller, operands='["new"]')],
    )
    assert [e.line for e in facts.edges_to(mine, CALLS)] == [2]
    assert facts.edges_to(others, CALLS) == []
    assert [(e.line, e.target) for e in facts.edges_to(made, CALLS)] == [(3, "n::Foo::Foo")]
    assert facts.edges_to(owner, CALLS) == []


def test_an_operator_that_is_free_takes_its_left_operand_too() -> None:
    caller = symbol("caller", lines=9)
    method = symbol("A::operator+", line=20, kind=SymbolKind.METHOD, parameters=["int"])
    free, unary = symbol("operator+", line=21, parameters=["A", "int"]), symbol("operator+", line=22, parameters=["A"])
    facts = facts_of(
        [caller, method, free, unary],
        [Written("operator+", "a.cc", 2, caller, operands='["operator","A",["int"]]')],
    )
    assert facts.edges_to(method, CALLS)
    assert facts.edges_to(free, CALLS)
    assert not facts.edges_to(unary, CALLS)


def test_edges_are_counted_by_what_they_rest_on() -> None:
    caller, run = symbol("caller", lines=9), symbol("run", line=20)
    facts = facts_of(
        [caller, run],
        [
            Written("run", "a.cc", 2, caller, run, how=Provenance.COMPILER),
            Written("run", "a.cc", 3, caller, run),
            Written("run", "a.cc", 4, caller),
            Written("unknown", "a.cc", 5, caller),
            Written("run", "a.cc", 6, caller, OUTSIDE),
        ],
    )
    assert facts.provenance() == {Provenance.COMPILER: 1, Provenance.RESOLVED: 1, Provenance.BY_NAME: 1}


# Calls to a depth


def test_guesses_are_shown_beside_the_symbol_asked_for_but_followed_only_when_that_is_asked() -> None:
    graph = graph_of(ALL, [call(1, 0, sure=False), call(2, 1), call(3, 1, sure=False), call(4, 2)])
    assert [(s.depth, s.edge.inside) for s in graph.callers([ALL[0].id], Reach(5))] == [(1, "n::f1")]
    followed = graph.callers([ALL[0].id], Reach(5, by_name=True))
    assert [(s.depth, s.edge.inside) for s in followed] == [(1, "n::f1"), (2, "n::f2"), (2, "n::f3"), (3, "n::f4")]
    assert followed[-1].via == ("n::f1", "n::f2")


def test_calls_in_a_circle_end() -> None:
    graph = graph_of(ALL, [call(0, 1), call(1, 0), call(0, 0)])
    found = [(s.depth, s.edge.inside, s.edge.target) for s in graph.callers([ALL[0].id], Reach(DEEPEST))]
    assert found == [(1, "n::f0", "n::f0"), (1, "n::f1", "n::f0"), (2, "n::f0", "n::f1")]


# Classes


def class_(name: str, line: int, *bases: str, path: str = "c.h", template: tuple[str, ...] = ()) -> Symbol:
    return symbol(name, path, line, SymbolKind.CLASS, lines=5, bases=bases, template_parameters=template)


def derives(lower: Symbol, upper: Symbol | None, name: str = "") -> Written:
    named = name or (upper.qualified_name if upper else "")
    return Written(named, lower.span.path, lower.line, lower, upper, ReferenceKind.BASE)


def method(name: str, line: int, *parameters: str, traits: tuple[Trait, ...] = (), path: str = "c.h") -> Symbol:
    return symbol(name, path, line, SymbolKind.METHOD, parameters=parameters, traits=traits, defined=False)


def names(relatives: tuple[Relative, ...]) -> list[object]:
    return [(r.name, names(r.relatives)) if r.relatives else r.name for r in relatives]


def test_a_hierarchy_is_a_tree_whose_shared_parts_are_shown_once() -> None:
    top, left, right, bottom = (
        class_("Top", 1),
        class_("L", 10, "Top"),
        class_("R", 20, "Top"),
        class_("B", 30, "L", "R"),
    )
    graph = graph_of(
        [top, left, right, bottom],
        [derives(left, top), derives(right, top), derives(bottom, left), derives(bottom, right)],
    )
    assert names(graph.lineage.bases(bottom)) == [("L", ["Top"]), ("R", ["Top"])]
    assert graph.lineage.bases(bottom)[1].relatives[0].repeated
    assert names(graph.lineage.derived(top)) == [("L", ["B"]), ("R", ["B"])]
    assert graph.lineage.bases(top) == ()


def test_a_class_that_derives_from_itself_through_others_is_no_endless_tree() -> None:
    one, other = class_("One", 1, "Other"), class_("Other", 10, "One")
    graph = graph_of([one, other], [derives(one, other), derives(other, one)])
    assert names(graph.lineage.bases(one)) == [("Other", ["One"])]
    assert graph.lineage.bases(one)[0].relatives[0].repeated


def test_a_base_outside_the_tree_is_named_and_one_known_by_name_says_so() -> None:
    lower, upper = class_("Lower", 1, "Upper", "Widget"), class_("a::Upper", 10)
    graph = graph_of([lower, upper], [derives(lower, None, "Upper"), derives(lower, None, "Widget")])
    found = graph.lineage.bases(lower)
    assert [(r.name, r.id, r.how) for r in found] == [("Widget", None, GUESS), ("a::Upper", upper.id, GUESS)]


def test_a_base_named_by_an_alias_is_the_class_that_it_stands_for() -> None:
    upper, lower = class_("n::Upper", 1), class_("Lower", 10, "Short")
    alias = symbol("Short", "c.h", 8, SymbolKind.ALIAS, type_="n::Upper<int>")
    over = method("Lower::run", 11)
    base = method("n::Upper::run", 2, traits=(Trait.VIRTUAL,))
    graph = graph_of([upper, lower, alias, over, base], [derives(lower, alias, "Short")])
    assert names(graph.lineage.bases(lower)) == ["n::Upper"]
    assert [o.overridden for o in graph.lineage.overrides_of([over.id])] == [base.id]


VIRTUAL, OVERRIDE, CONST = (Trait.VIRTUAL,), (Trait.VIRTUAL, Trait.OVERRIDE), (Trait.CONST, Trait.VIRTUAL)


@pytest.mark.parametrize(
    ("upper", "lower", "overrides"),
    [
        (method("Base::run", 2, traits=VIRTUAL), method("Derived::run", 12), True),
        (method("Base::run", 2), method("Derived::run", 12), False),
        (method("Base::run", 2, "int", traits=VIRTUAL), method("Derived::run", 12, "long"), False),
        (method("Base::run", 2, "const Slice&", traits=VIRTUAL), method("Derived::run", 12, "const db::Slice&"), True),
        (method("Base::run", 2, traits=CONST), method("Derived::run", 12), False),
        (method("Base::run", 2, traits=CONST), method("Derived::run", 12, traits=CONST), True),
        (method("Base::run", 2, traits=VIRTUAL), method("Derived::walk", 12), False),
        (method("Base::run", 2, traits=VIRTUAL), method("Derived::run", 12, traits=(Trait.STATIC,)), False),
        (method("Base::run", 2, "const T&", traits=VIRTUAL), method("Derived::run", 12, "const int&"), True),
        (method("Base::run", 2, "const T&", traits=VIRTUAL), method("Derived::run", 12, "const long&"), False),
    ],
)
def test_a_method_overrides_one_of_its_name_parameters_and_const(upper: Symbol, lower: Symbol, overrides: bool) -> None:
    base, derived = class_("Base", 1, template=("T",)), class_("Derived", 10, "Base<int>")
    graph = graph_of([base, derived, upper, lower], [derives(derived, base)])
    up = [(o.method, o.overridden) for o in graph.lineage.overrides_of([lower.id])]
    assert up == ([(lower.id, upper.id)] if overrides else [])
    assert [(o.method, o.overridden) for o in graph.lineage.overriders_of([upper.id])] == up


def test_destructors_override_each_other_whatever_their_names() -> None:
    base, derived = class_("Base", 1), class_("Derived", 10, "Base")
    upper = symbol("Base::~Base", "c.h", 2, SymbolKind.DESTRUCTOR, traits=VIRTUAL)
    lower = symbol("Derived::~Derived", "c.h", 12, SymbolKind.DESTRUCTOR)
    graph = graph_of([base, derived, upper, lower], [derives(derived, base)])
    assert [o.overridden for o in graph.lineage.overrides_of([lower.id])] == [upper.id]
    assert [o.method for o in graph.lineage.overriders_of([upper.id])] == [lower.id]


def chain() -> tuple[list[Symbol], list[Written]]:
    """Three generations; only the top one says virtual."""
    top, middle, low = class_("Top", 1), class_("Middle", 10, "Top"), class_("Low", 20, "Middle")
    methods = [method("Top::run", 2, traits=VIRTUAL), method("Middle::run", 11), method("Low::run", 21)]
    return [top, middle, low, *methods], [derives(middle, top), derives(low, middle)]


def test_virtual_is_inherited_and_the_nearest_overridden_method_is_the_direct_one() -> None:
    symbols, uses = chain()
    graph = graph_of(symbols, uses)
    found = {(o.overridden, o.distance, o.direct) for o in graph.lineage.overrides_of([symbols[5].id])}
    assert found == {(symbols[4].id, 1, True), (symbols[3].id, 2, False)}
    edges = [(e.inside, e.target, e.how) for e in graph.lineage.all_overrides()]
    assert edges == [("Middle::run", "Top::run", SURE), ("Low::run", "Middle::run", SURE)]


def test_an_override_over_a_guessed_base_is_a_guess_and_one_the_compiler_told_is_sure() -> None:
    symbols, uses = chain()
    guessed = [uses[0], derives(symbols[2], None, "Middle")]
    found = {o.overridden: o.how for o in graph_of(symbols, guessed).lineage.overrides_of([symbols[5].id])}
    assert found == {symbols[4].id: GUESS, symbols[3].id: GUESS}
    told = Written("run", "c.h", 21, symbols[5], symbols[4], ReferenceKind.OVERRIDE, Provenance.COMPILER)
    found = {o.overridden: o.how for o in graph_of(symbols, [*guessed, told]).lineage.overrides_of([symbols[5].id])}
    assert found == {symbols[4].id: Provenance.COMPILER, symbols[3].id: GUESS}


def test_a_call_of_the_overridden_method_is_a_caller_of_the_overriding_one_and_says_through_what() -> None:
    symbols, uses = chain()
    user, main = symbol("user", "u.cc", 1, lines=3), symbol("main", "u.cc", 10, lines=3)
    uses += [Written("run", "u.cc", 2, user, symbols[3]), Written("user", "u.cc", 11, main, user)]
    graph = graph_of([*symbols, user, main], uses)
    steps = graph.callers([symbols[5].id], Reach(2))
    assert [(s.edge.inside, s.edge.target, s.depth, s.via) for s in steps] == [
        ("user", "Top::run", 1, ("virtual Top::run",)),
        ("main", "user", 2, ("virtual Top::run", "user")),
    ]


def test_callees_hold_what_overrides_a_called_method_when_that_is_asked() -> None:
    symbols, uses = chain()
    user = symbol("user", "u.cc", 1, lines=3)
    graph = graph_of([*symbols, user], [*uses, Written("run", "u.cc", 2, user, symbols[3])])
    assert [s.edge.target for s in graph.callees([user.id], Reach(1))] == ["Top::run"]
    found = {(s.edge.target, s.via) for s in graph.callees([user.id], Reach(1, overriders=True))}
    assert found == {("Top::run", ()), *((f"{c}::run", ("virtual Top::run",)) for c in ("Middle", "Low"))}


def test_classes_of_one_name_in_two_files_keep_their_own_methods() -> None:
    base = class_("Base", 1)
    one = replace(class_("Impl", 10, "Base", path="one.cc"), id=SymbolId("impl of one"))
    two = replace(class_("Impl", 10, path="two.cc"), id=SymbolId("impl of two"))
    upper = method("Base::run", 2, traits=VIRTUAL)
    mine = replace(method("Impl::run", 11, path="one.cc"), id=SymbolId("run of one"))
    others = replace(method("Impl::run", 11, path="two.cc"), id=SymbolId("run of two"))
    graph = graph_of([base, one, two, upper, mine, others], [derives(one, base)])
    assert [o.method for o in graph.lineage.overriders_of([upper.id])] == [mine.id]
    assert graph.lineage.overrides_of([others.id]) == []


# Includes


def include(path: str, line: int, written: str, target: str | None) -> Written:
    return Written(written, path, line, None, target, ReferenceKind.INCLUDE)


def included(steps: list[Step]) -> list[tuple[str, str, int, bool]]:
    return [(s.edge.path, s.edge.target, s.depth, s.cycle) for s in steps]


@pytest.fixture
def tree() -> Graph:
    return graph_of(
        [],
        [
            include("src/a.cc", 1, "b.h", "inc/b.h"),
            include("src/a.cc", 2, "vector", ""),
            include("inc/b.h", 1, "c.h", "inc/c.h"),
            include("inc/c.h", 1, "b.h", "inc/b.h"),
            include("inc/c.h", 2, "d.h", None),
        ],
        ["src/a.cc", "inc/b.h", "inc/c.h", "lib/d.h", "old/c.h"],
    )


def test_includes_are_followed_to_a_depth_and_a_circle_ends_and_is_said(tree: Graph) -> None:
    assert included(tree.includes("src/a.cc", 1)) == [
        ("src/a.cc", "inc/b.h", 1, False),
        ("src/a.cc", "vector", 1, False),
    ]
    assert included(tree.includes("src/a.cc", 8)) == [
        ("src/a.cc", "inc/b.h", 1, False),
        ("src/a.cc", "vector", 1, False),
        ("inc/b.h", "inc/c.h", 2, True),
        ("inc/c.h", "inc/b.h", 3, True),
        ("inc/c.h", "lib/d.h", 3, False),
    ]


def test_what_includes_a_file_is_found_the_other_way_round(tree: Graph) -> None:
    assert included(tree.included_by("lib/d.h", 3)) == [
        ("inc/c.h", "lib/d.h", 1, False),
        ("inc/b.h", "inc/c.h", 2, True),
        ("inc/c.h", "inc/b.h", 3, True),
        ("src/a.cc", "inc/b.h", 3, False),
    ]
    assert tree.included_by("src/a.cc", 3) == []
    assert tree.included_by("old/c.h", 3) == []
    (guess,) = tree.included_by("lib/d.h", 1)
    assert guess.edge.how is GUESS


def test_a_file_is_found_by_its_path_or_the_end_of_it(tree: Graph) -> None:
    assert tree.file("src/a.cc") == tree.file("./a.cc") == tree.file("a.cc") == "src/a.cc"
    assert tree.file("inc/c.h") == "inc/c.h"
    assert tree.file("x.h") is tree.file("") is tree.file(".cc") is None
    with pytest.raises(QuestionError, match=r"c\.h may be any of 2 files: inc/c\.h, old/c\.h\.") as caught:
        tree.file("c.h")
    assert caught.value.hint


# Effects


def test_a_change_reaches_callers_derived_classes_overrides_users_and_including_files() -> None:
    symbols, uses = chain()
    user = symbol("user", "u.cc", 1, lines=3)
    uses += [
        Written("run", "u.cc", 2, user, symbols[3]),
        Written("run", "u.cc", 3, user, symbols[3], ReferenceKind.NAME),
        Written("Top", "u.cc", 2, user, symbols[0], ReferenceKind.TYPE),
        include("u.cc", 1, "c.h", "c.h"),
    ]
    graph = graph_of([*symbols, user], uses)
    found = [
        (e.group, e.step.edge.inside or e.step.edge.path, e.reason)
        for e in graph.effects([symbols[0], symbols[3]], ["c.h"], 3)
    ]
    assert found == [
        ("callers", "user", "calls Top::run"),
        ("callers", "user", "names Top::run"),
        ("derived", "Middle", "derives from Top"),
        ("derived", "Low", "derives from Middle"),
        ("included by", "u.cc", "includes c.h"),
        ("overrides", "Middle::run", "overrides Top::run"),
        ("overrides", "Low::run", "overrides Top::run"),
        ("users", "user", "names the type Top"),
    ]


def test_an_edge_says_where_it_stands() -> None:
    (step,) = graph_of(ALL, [call(1, 0)]).callers([ALL[0].id], Reach())
    assert step.edge == Edge(ReferenceKind.CALL, "1.cc", 12, "n::f1", "n::f0", SURE, ALL[0].id, ALL[1].id)
