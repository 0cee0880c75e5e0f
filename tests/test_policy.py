"""Whether a call is let pass: by scopes, by rules, by mode, and by whether anybody could be asked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import RecipeError
from agents.model import AGENT, Effect, Limits, Mode, Verdict
from agents.policy import GATED, SCOPES, UNREADABLE, Policy, decide
from agents.recipes import Argument, Asking, Book, Does, Recipe, Rule
from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Principal, Scope
from hub.config import Settings

LIMITS = Limits(600.0, 1 << 30, 64, 1 << 30, 1 << 18)
RUNNER = Principal("k1", "ada", (Grant("ember", frozenset({Scope.READ, Scope.EXECUTE})),))
STRICTNESS = [Effect.ALLOW, Effect.ASK, Effect.DENY]
FILTER = Argument("filter", "[A-Za-z]{1,20}", "All")
TESTS = Recipe("tests", Does.TESTS, LIMITS, (("ctest", "-R", "{filter}"),), (FILTER,))
BRANCH = Recipe("write_branch", Does.BRANCH, LIMITS, arguments=(Argument("branch", "[a-z]{1,9}"),))
PATCH = Recipe("apply_patch", Does.PATCH, LIMITS, arguments=(FILTER,), then="tests")
RECIPES = (TESTS, PATCH, BRANCH, replace(TESTS, name="careful", approval=Asking.ALWAYS))


def check(
    mode: Mode,
    effect: Effect,
    rule: str,
    *rules: Rule,
    arguments: Mapping[str, object] = {"recipe": "tests"},
    principal: Principal = RUNNER,
    workspace: str = "ember",
    tool: str = "run",
    **askable: bool,
) -> None:
    verdict = decide(Book(RECIPES, rules), principal, workspace, tool, arguments, mode, **askable)
    assert (verdict.effect, verdict.rule) == (effect, rule), verdict
    assert bool(verdict.reason) == (effect is not Effect.ALLOW)


def rule(name: str, effect: Effect, priority: int = 0, **matches: Any) -> Rule:
    return Rule(name, priority, effect, **matches)


# Laws

_PATTERNS = st.lists(st.sampled_from(["tests", "t*", "*", "none", "k1", "ember", "run"]), max_size=2).map(tuple)
_RULES = st.lists(
    st.builds(
        Rule,
        st.text("abc", min_size=1, max_size=3),
        st.integers(-3, 3),
        st.sampled_from(Effect),
        tools=_PATTERNS,
        recipes=_PATTERNS,
        workspaces=_PATTERNS,
        keys=_PATTERNS,
        modes=st.lists(st.sampled_from(Mode), max_size=2).map(tuple),
        patch=st.sampled_from([None, True, False]),
        arguments=st.sampled_from([(), (("filter", "A.{0,9}"),), (("other", ".{0,9}"),)]),
    ),
    max_size=5,
).map(tuple)
_PRINCIPALS = st.builds(
    Principal,
    st.sampled_from(["k1", "k2", "local", "agent"]),
    st.just("someone"),
    st.lists(
        st.builds(
            Grant,
            st.sampled_from(["ember", "other", ALL_WORKSPACES]),
            st.frozensets(st.sampled_from(Scope)),
        ),
        max_size=3,
    ).map(tuple),
)
_ODD = st.one_of(st.none(), st.integers(), st.text(max_size=20), st.lists(st.text(max_size=9), max_size=3))
_ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "recipe": st.one_of(st.sampled_from([recipe.name for recipe in RECIPES]), _ODD),
        "arguments": st.one_of(st.just(["filter=Abc"]), st.just(["branch=x"]), _ODD),
        "patch": st.sampled_from(["", "--- a/x\n"]),
        "changes": st.booleans(),
    },
)
_TOOLS = st.sampled_from([*SCOPES, "shell", ""])


@given(_RULES, _PRINCIPALS, st.sampled_from(["ember", "other", ""]), _TOOLS, _ARGUMENTS, st.sampled_from(Mode))
@settings(max_examples=70)
def test_whatever_is_asked_there_is_a_verdict_and_it_never_goes_beyond_scopes_mode_and_people(
    rules: tuple[Rule, ...],
    principal: Principal,
    workspace: str,
    tool: str,
    arguments: dict[str, object],
    mode: Mode,
) -> None:
    book = Book(RECIPES, rules)
    verdict = decide(book, principal, workspace, tool, arguments, mode)
    assert decide(book, principal, workspace, tool, arguments, mode) == verdict
    assert verdict.rule
    if verdict.effect is Effect.DENY or tool not in GATED or not arguments.get("recipe"):
        return
    assert principal.may(Scope.EXECUTE, workspace)
    assert mode is not Mode.READ
    if arguments["recipe"] == "write_branch":
        assert verdict.effect is Effect.ASK
        assert principal.may(Scope.WRITE, workspace)
    if verdict.effect is Effect.ASK:
        assert principal.key_id != LOCAL.key_id
    else:
        unattended = mode is Mode.TRUSTED and arguments["recipe"] != "careful"
        assert unattended or verdict.rule in {each.name for each in rules if each.effect is Effect.ALLOW}


@given(_RULES, _PRINCIPALS, _ARGUMENTS, st.sampled_from(Mode))
@settings(max_examples=30)
def test_one_scope_less_never_lets_more_pass(
    rules: tuple[Rule, ...], principal: Principal, arguments: dict[str, object], mode: Mode
) -> None:
    poorer = replace(principal, grants=principal.grants[1:])
    verdicts = [decide(Book(RECIPES, rules), each, "ember", "run", arguments, mode) for each in (principal, poorer)]
    assert STRICTNESS.index(verdicts[0].effect) <= STRICTNESS.index(verdicts[1].effect)


@given(_RULES, _ARGUMENTS, st.sampled_from(Mode), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_the_rules_decides_nothing(
    rules: tuple[Rule, ...], arguments: dict[str, object], mode: Mode, chance: Any
) -> None:
    shuffled = list(rules)
    chance.shuffle(shuffled)
    first = decide(Book(RECIPES, rules), RUNNER, "ember", "run", arguments, mode)
    second = decide(Book(RECIPES, tuple(shuffled)), RUNNER, "ember", "run", arguments, mode)
    assert first == second


@given(_RULES, _ARGUMENTS, st.sampled_from(Mode))
@settings(max_examples=30)
def test_a_rule_that_denies_above_all_others_denies(
    rules: tuple[Rule, ...], arguments: dict[str, object], mode: Mode
) -> None:
    highest = rule("never", Effect.DENY, 9)
    verdict = decide(Book(RECIPES, (*rules, highest)), RUNNER, "ember", "run", arguments, mode)
    assert verdict.effect is Effect.DENY or not arguments.get("recipe")


@given(_RULES, _PRINCIPALS, _ARGUMENTS, st.sampled_from(Mode))
@settings(max_examples=30)
def test_where_nobody_can_be_asked_nothing_waits_for_anybody(
    rules: tuple[Rule, ...], principal: Principal, arguments: dict[str, object], mode: Mode
) -> None:
    book = Book(RECIPES, rules)
    asked = decide(book, principal, "ember", "run", arguments, mode, askable=True)
    alone = decide(book, principal, "ember", "run", arguments, mode, askable=False)
    assert alone.effect is (Effect.DENY if asked.effect is Effect.ASK else asked.effect)


# What is built in


@pytest.mark.parametrize("mode", Mode)
def test_reading_is_let_pass_in_every_mode_by_whoever_may_read(mode: Mode) -> None:
    check(mode, Effect.ALLOW, "reading", tool="search_code")
    check(mode, Effect.ALLOW, "reading", tool="job", workspace="")
    check(mode, Effect.DENY, "scope", tool="remember")
    check(mode, Effect.DENY, "scope", tool="search_code", workspace="other")
    check(mode, Effect.DENY, "unknown-tool", tool="shell")


def test_the_mode_decides_about_runs_where_no_rule_does() -> None:
    check(Mode.READ, Effect.DENY, "mode-read")
    check(Mode.ASK, Effect.ASK, "mode-ask")
    check(Mode.TRUSTED, Effect.ALLOW, "mode-trusted")
    check(Mode.TRUSTED, Effect.ASK, "recipe-always", arguments={"recipe": "careful"})
    for mode in Mode:
        check(mode, Effect.ALLOW, "listing", arguments={})


def test_a_run_needs_a_grant_to_execute_and_a_branch_one_to_write() -> None:
    reader = Principal("k2", "eve", (Grant("ember", frozenset(Scope) - {Scope.EXECUTE}),))
    check(Mode.TRUSTED, Effect.DENY, "scope", principal=reader)
    check(Mode.TRUSTED, Effect.DENY, "scope", principal=reader, arguments={})
    branch = {"recipe": "write_branch", "arguments": ["branch=x"]}
    check(Mode.TRUSTED, Effect.DENY, "scope", arguments=branch)
    check(Mode.TRUSTED, Effect.ASK, "branch", arguments=branch, principal=AGENT)
    check(Mode.TRUSTED, Effect.ASK, "branch", rule("all", Effect.ALLOW, 9), arguments=branch, principal=AGENT)


def test_a_patch_recipe_asks_where_the_recipe_that_it_goes_on_with_does() -> None:
    careful = replace(PATCH, then="careful")
    book = Book((TESTS, careful, replace(TESTS, name="careful", approval=Asking.ALWAYS)))
    verdict = decide(book, RUNNER, "ember", "run", {"recipe": "apply_patch", "patch": "x"}, Mode.TRUSTED)
    assert verdict == Verdict(Effect.ASK, "recipe-always", verdict.reason)
    check(Mode.TRUSTED, Effect.ALLOW, "mode-trusted", arguments={"recipe": "apply_patch", "patch": "x"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"recipe": "tests", "arguments": ["filter=-R"]},
        {"recipe": "tests", "arguments": ["filter=a;b"]},
        {"recipe": "tests", "arguments": ["filter=a\nb"]},
        {"recipe": "tests", "arguments": ["filter"]},
        {"recipe": "tests", "arguments": ["target=x"]},
        {"recipe": "tests", "arguments": "filter=a"},
        {"recipe": "tests", "arguments": ["filter=a", "filter=b"]},
        {"recipe": "tests", "arguments": [7]},
    ],
)
def test_nobody_is_asked_about_arguments_that_make_no_sense(arguments: dict[str, object]) -> None:
    check(Mode.ASK, Effect.DENY, "arguments", arguments=arguments)
    check(Mode.TRUSTED, Effect.DENY, "arguments", rule("all", Effect.ALLOW, 9), arguments=arguments)


def test_a_recipe_of_another_workspace_is_as_one_that_is_not_there() -> None:
    book = Book((replace(TESTS, workspaces=("o*",)),))
    everywhere = replace(RUNNER, grants=(Grant(ALL_WORKSPACES, frozenset({Scope.EXECUTE})),))
    here = decide(book, everywhere, "ember", "run", {"recipe": "tests"}, Mode.TRUSTED)
    missing = decide(Book(()), everywhere, "ember", "run", {"recipe": "tests"}, Mode.TRUSTED)
    assert here == missing
    assert here.rule == "unknown-recipe"
    assert decide(book, everywhere, "other", "run", {"recipe": "tests"}, Mode.TRUSTED).effect is Effect.ALLOW


# Rules


def test_the_highest_priority_decides_and_of_equals_the_most_restrictive() -> None:
    allow, ask, deny = (rule(effect.value, effect) for effect in Effect)
    check(Mode.ASK, Effect.ALLOW, "allow", allow)
    check(Mode.TRUSTED, Effect.DENY, "deny", allow, deny, ask)
    check(Mode.TRUSTED, Effect.ASK, "ask", allow, ask)
    check(Mode.TRUSTED, Effect.ALLOW, "first", deny, rule("first", Effect.ALLOW, 1))
    check(Mode.READ, Effect.DENY, "mode-read", rule("first", Effect.ALLOW, 99))


@pytest.mark.parametrize(
    ("fits", "fails"),
    [
        ({"tools": ("r*",)}, {"tools": ("ask", "job")}),
        ({"recipes": ("tests",)}, {"recipes": ("build",)}),
        ({"workspaces": ("em*",)}, {"workspaces": ("EMBER",)}),
        ({"keys": ("k1", "k2")}, {"keys": ("k",)}),
        ({"owners": ("ada",)}, {"owners": ("eve",)}),
        ({"does": (Does.TESTS,)}, {"does": (Does.BUILD,)}),
        ({"modes": (Mode.ASK,)}, {"modes": (Mode.TRUSTED,)}),
        ({"patch": False}, {"patch": True}),
        ({"arguments": (("filter", "A.*"),)}, {"arguments": (("filter", "A"),)}),
        ({}, {"arguments": (("target", ".*"),)}),
    ],
)
def test_a_rule_meets_a_call_where_all_that_it_names_fits(fits: dict[str, Any], fails: dict[str, Any]) -> None:
    check(Mode.ASK, Effect.ALLOW, "it", rule("it", Effect.ALLOW, **fits))
    check(Mode.ASK, Effect.ASK, "mode-ask", rule("it", Effect.ALLOW, **(fits | fails)))


def test_a_rule_looks_at_the_value_that_would_be_used_defaults_too() -> None:
    only = rule("it", Effect.DENY, arguments=(("filter", "All"),))
    check(Mode.TRUSTED, Effect.DENY, "it", only)
    check(Mode.TRUSTED, Effect.ALLOW, "mode-trusted", only, arguments={"recipe": "tests", "arguments": ["filter=B"]})


def test_a_rule_about_a_recipe_holds_for_the_patch_recipe_that_goes_on_with_it() -> None:
    patched = {"recipe": "apply_patch", "patch": "x"}
    check(Mode.TRUSTED, Effect.DENY, "it", rule("it", Effect.DENY, recipes=("tests",)), arguments=patched)
    check(Mode.TRUSTED, Effect.DENY, "it", rule("it", Effect.DENY, does=(Does.TESTS,)), arguments=patched)
    check(Mode.TRUSTED, Effect.ALLOW, "mode-trusted", rule("it", Effect.DENY, recipes=("careful",)), arguments=patched)
    unlike = rule("it", Effect.DENY, recipes=("tests",), patch=False)
    check(Mode.TRUSTED, Effect.ALLOW, "mode-trusted", unlike, arguments=patched)


def test_this_machines_own_user_has_nobody_to_ask() -> None:
    check(Mode.ASK, Effect.DENY, "mode-ask", principal=LOCAL)
    check(Mode.ASK, Effect.ASK, "mode-ask", principal=LOCAL, askable=True)
    check(Mode.ASK, Effect.ASK, "mode-ask", principal=AGENT)
    check(Mode.ASK, Effect.DENY, "mode-ask", principal=AGENT, askable=False)


# From settings


def test_a_file_that_cannot_be_read_denies_all_that_acts_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "recipes.toml"
    path.write_text('[recipes.tests]\ndoes = "tests"\nsteps = 1\n')
    path.chmod(0o600)
    policy = Policy.of(Settings(tmp_path, agents_mode="trusted"))
    verdict = policy.decide(RUNNER, "ember", "run", {"recipe": "tests"})
    assert (verdict.effect, verdict.rule) == (Effect.DENY, "recipes")
    assert verdict.reason == UNREADABLE
    assert str(tmp_path) not in verdict.reason
    assert policy.decide(RUNNER, "ember", "search_code", {}).effect is Effect.ALLOW
    path.write_text('[recipes.tests]\ndoes = "tests"\nsteps = [["ctest"]]\n')
    assert policy.decide(RUNNER, "ember", "run", {"recipe": "tests"}).effect is Effect.ALLOW
    path.chmod(0o620)
    assert policy.decide(RUNNER, "ember", "run", {"recipe": "tests"}).effect is Effect.DENY


def test_the_mode_is_the_settings_unless_another_is_given() -> None:
    def broken() -> Book:
        raise RecipeError("no", "way")

    policy = Policy(lambda: Book(RECIPES), Mode.READ)
    assert policy.decide(RUNNER, "ember", "run", {"recipe": "tests"}).rule == "mode-read"
    assert policy.decide(RUNNER, "ember", "run", {"recipe": "tests"}, Mode.ASK).rule == "mode-ask"
    assert Policy(broken, Mode.ASK).decide(RUNNER, "ember", "explore", {}).rule == "reading"
