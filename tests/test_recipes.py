"""The administrator's file: what it may say, whose it must be, and how arguments become words and nothing else."""

import os
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agents import recipes
from agents.errors import RecipeError
from agents.model import Effect, Limits, Mode
from agents.recipes import TEMPLATES, Asking, Book, Does, Recipe, Rule, Shelf, parse, starting_file
from hub.config import Settings

LIMITS = Limits(600.0, 4096 << 20, 256, 4096 << 20, 256 << 10)
ONE = """
[recipes.tests]
does = "tests"
steps = [["ctest", "-R{filter}", "--config", "{config}"]]

[recipes.tests.arguments.filter]
pattern = '[\\w*:.-]{1,40}'
default = "All"
about = "names of tests"

[recipes.tests.arguments.config]
choices = ["Debug", "Release"]
"""


def book(text: str) -> Book:
    return parse(text, "recipes.toml", LIMITS)


def recipe(text: str, name: str = "tests") -> Recipe:
    found = book(text).recipe(name)
    assert found is not None
    return found


def refused(text: str) -> str:
    """The error that a file ends with: its sentence and the way out."""
    with pytest.raises(RecipeError) as error:
        book(text)
    assert error.value.hint
    return f"{error.value.message} {error.value.hint}"


# Laws


@given(st.dictionaries(st.sampled_from(["filter", "config"]), st.text(max_size=60), min_size=1))
@settings(max_examples=40)
def test_whatever_is_given_no_word_is_added_and_none_becomes_an_option(values: dict[str, str]) -> None:
    tests = recipe(ONE)
    try:
        filled = tests.filled({"config": "Debug", **values})
    except RecipeError:
        return
    (command,) = tests.commands(filled)
    assert len(command) == len(tests.steps[0])
    assert command == ("ctest", f"-R{filled['filter']}", "--config", filled["config"])
    assert filled["config"] in {"Debug", "Release"}
    assert not filled["filter"].startswith("-")
    assert not re.search(r"[\0\n\r ]", filled["filter"])


@given(st.text(max_size=400))
@settings(max_examples=40)
def test_a_file_of_anything_is_a_book_or_an_error_that_says_so(text: str) -> None:
    try:
        names = {each.name for each in book(text).recipes}
    except RecipeError:
        names = {"apply_patch", "write_branch"}
    assert {"apply_patch", "write_branch"} <= names


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of re, about what its syntax may come to mean
@given(st.from_regex(r"[a-c(){}*+?|.\[\]\\,1-9]{1,30}", fullmatch=True), st.text("ab", min_size=150, max_size=200))
@settings(max_examples=40)
def test_no_pattern_that_is_taken_takes_long(pattern: str, value: str) -> None:
    assume('"' not in pattern and "'" not in pattern)
    text = f"[recipes.t]\ndoes='build'\nsteps=[['a','{{x}}']]\n[recipes.t.arguments.x]\npattern='{pattern}'\n"
    try:
        made = recipe(text, "t")
    except RecipeError:
        return
    made.arguments[0].refusal(value)  # the time that a test may take is the bound


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a|a)*", "(?:a?){30}", r"(a)\1", "a*a*a*a*b", "(((a{1,9}){1,9}){1,9})", "("]
)
def test_a_pattern_that_might_take_long_is_refused(pattern: str) -> None:
    told = refused(f"[recipes.t]\ndoes='build'\nsteps=[['a','{{x}}']]\n[recipes.t.arguments.x]\npattern='{pattern}'\n")
    assert told.startswith("pattern in [recipes.t.arguments.x] of recipes.toml ")


def test_a_group_may_be_repeated_where_it_never_goes_back() -> None:
    text = "[recipes.t]\ndoes='build'\nsteps=[['a','{x}']]\n[recipes.t.arguments.x]\npattern='[a-z]+(?:::[a-z]+)*+'\n"
    argument = recipe(text, "t").arguments[0]
    assert argument.refusal("a::b::c") == ""
    assert argument.refusal("a::") != ""


# Arguments


@pytest.mark.parametrize(
    ("given_values", "told"),
    [
        ({}, "The recipe tests needs the argument config."),
        ({"config": "Fast"}, "config of tests may be Debug, Release."),
        ({"config": "Debug", "filter": "-x"}, "filter of tests begins like an option."),
        ({"config": "Debug", "filter": "a b"}, r"filter of tests must match [\w*:.-]{1,40}."),
        ({"config": "Debug", "filter": "a\n"}, "filter of tests holds a control character or a line end."),
        ({"config": "Debug", "filter": "x" * 201}, "filter of tests has 201 characters, and 200 are allowed."),
        ({"config": "Debug", "filter": "$(id)"}, r"filter of tests must match [\w*:.-]{1,40}."),
        ({"config": "Debug", "filter": ""}, r"filter of tests must match [\w*:.-]{1,40}."),
        ({"target": "all"}, "The recipe tests has no argument 'target'."),
    ],
)
def test_an_argument_that_is_not_allowed_is_told_by_name(given_values: dict[str, str], told: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(ONE).filled(given_values)
    assert error.value.message == told
    assert error.value.hint


def test_an_argument_may_begin_like_an_option_where_its_pattern_says_so() -> None:
    text = "[recipes.t]\ndoes='build'\nsteps=[['cc','{x}']]\n[recipes.t.arguments.x]\npattern='-O[0-3]'\n"
    assert recipe(text, "t").commands(recipe(text, "t").filled({"x": "-O2"})) == (("cc", "-O2"),)


def test_arguments_are_written_as_name_and_value() -> None:
    assert recipes.given(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for wrong in (["a"], ["=1"], ["A=1"], ["a=1", "a=2"]):
        with pytest.raises(RecipeError):
            recipes.given(wrong)


# The file's form


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "'x' in the top of recipes.toml is not known."),
        ("[recipes.t]\ndoes='build'\nstep=[['a']]", "[recipes.t] of recipes.toml is not known. There are template"),
        ("[recipes.t]\nsteps=[['a']]", "does in [recipes.t] of recipes.toml must be build, tests, patch, branch."),
        ("[recipes.t]\ndoes='build'", "[recipes.t] of recipes.toml has neither template nor steps."),
        ("[recipes.t]\ndoes='build'\nsteps=['make']", "steps in [recipes.t] of recipes.toml must be lists of words."),
        ("[recipes.t]\ndoes='build'\nsteps=[['{x}']]", "must begin with a program's name each."),
        ("[recipes.t]\ndoes='build'\nsteps=[['a','{x}']]", "names {x}, which is no argument."),
        (
            "[recipes.t]\ndoes='build'\nsteps=[['a','b\\nc']]".replace("'b\\nc'", '"b\\nc"'),
            "holds a control character.",
        ),
        ("[recipes.t]\ntemplate='scons'", "template in [recipes.t] of recipes.toml is 'scons'. There are cmake,"),
        (
            "[recipes.t]\ntemplate='make'\nseconds=601",
            "seconds in [recipes.t] of recipes.toml is 601. It must be",
        ),
        ("[recipes.t]\ntemplate='make'\nmemory_megabytes=0", "memory_megabytes in [recipes.t] of recipes.toml is 0."),
        ("[recipes.t]\ntemplate='make'\nfolder='../x'", "folder in [recipes.t] of recipes.toml must lie below"),
        ("[recipes.t]\ntemplate='make'\nreadable='x'", "readable in [recipes.t] of recipes.toml must be absolute"),
        ("[recipes.t]\ntemplate='make'\ncache=1", "cache in [recipes.t] of recipes.toml must be true or false."),
        ("[recipes.t]\ntemplate='make'\n[recipes.t.environment]\n'A B'='x'", "environment.'A B' in [recipes.t]"),
        ("[recipes.t]\ndoes='branch'", "does in [recipes.t] of recipes.toml cannot be branch."),
        ("[recipes.apply_patch]\ndoes='tests'", "does in [recipes.apply_patch] of recipes.toml cannot be tests."),
        ("[recipes.apply_patch]\nthen='none'", "then in [recipes.apply_patch] of recipes.toml names no recipe"),
        ("[recipes.'a b']\ntemplate='make'", "has a name that cannot be called."),
        ("[[rules]]\neffect='allow'", "name in [rules, number 1,] of recipes.toml must be there."),
        ("[[rules]]\nname='a'\neffect='yes'", "effect in [rules, number 1,] of recipes.toml must be allow, ask, deny."),
        ("[[rules]]\nname='a'", "effect in [rules, number 1,] of recipes.toml must be allow, ask, deny."),
        (
            "[[rules]]\nname='a'\neffect='deny'\nmode='fast'",
            "build, tests, patch, branch; read, ask, trusted.",
        ),
        ("[[rules]]\nname='a'\neffect='deny'\n[rules.arguments]\nx='(a+)+'", "arguments.'x' in [rules, number 1,]"),
        (
            "[[rules]]\nname='a'\neffect='deny'\n[[rules]]\nname='a'\neffect='ask'",
            "Two rules in recipes.toml are called 'a'.",
        ),
        ("[[rules]]\nname='a'\neffect='deny'\nkeys='x'", "'keys' in [rules, number 1,] of recipes.toml is not known."),
        ("= 1", "recipes.toml is no TOML:"),
    ],
)
def test_what_is_wrong_is_told_with_its_table_and_key(text: str, told: str) -> None:
    assert told in refused(text)


def test_a_whole_file_is_read_as_it_stands() -> None:
    made = book(
        ONE
        + """
[recipes.apply_patch]
then = "tests"
approval = "always"
workspaces = ["ember", "r*"]

[recipes.slow]
template = "cmake"
does = "build"
folder = "cpp"
seconds = 60
memory_megabytes = 512
cache = false
readable = ["/opt/toolchain"]
environment = { CC = "clang" }
arguments.target = { default = "lib" }

[[rules]]
name = "night"
priority = 5
effect = "deny"
tool = "run"
recipe = ["slow", "t*"]
key = "k1"
owner = "ada"
workspace = "ember"
does = "build"
mode = ["ask", "trusted"]
patch = true
arguments = { target = "l.*" }
"""
    )
    names = [each.name for each in made.recipes]
    assert names == ["tests", "apply_patch", "slow", "write_branch"]
    patch, slow = made.recipes[1], made.recipes[2]
    assert (patch.does, patch.then, patch.approval) == (Does.PATCH, "tests", Asking.ALWAYS)
    assert [argument.name for argument in patch.arguments] == ["filter", "config"]
    assert [patch.serves(name) for name in ("ember", "re2", "folly")] == [True, True, False]
    assert made.steps_of(patch, "ember") is made.recipes[0]
    assert made.steps_of(slow, "ember") is slow
    assert (slow.limits.seconds, slow.limits.memory, slow.limits.disk) == (60.0, 512 << 20, LIMITS.disk)
    assert (slow.folder, slow.cache, slow.readable, slow.environment) == (
        *("cpp", False),
        *((Path("/opt/toolchain"),), (("CC", "clang"),)),
    )
    assert slow.filled({})["target"] == "lib"
    assert slow.filled({"target": "app"})["target"] == "app"
    assert made.rules == (
        Rule(
            *("night", 5, Effect.DENY, ("run",), ("slow", "t*"), ("ember",), ("k1",), ("ada",)),
            does=(Does.BUILD,),
            modes=(Mode.ASK, Mode.TRUSTED),
            patch=True,
            arguments=(("target", "l.*"),),
        ),
    )


@pytest.mark.parametrize(("effect", "meets"), [("allow", False), ("ask", None), ("deny", None)])
def test_a_rule_that_allows_is_about_calls_without_a_patch_unless_it_says_so(effect: str, meets: bool | None) -> None:
    rule = f"[[rules]]\nname = 'r'\neffect = '{effect}'\n"
    assert book(ONE + rule).rules[0].patch is meets
    assert book(f"{ONE}{rule}patch = true\n").rules[0].patch is True


def test_without_any_file_a_patch_can_be_tried_and_a_branch_asked_for() -> None:
    made = book("")
    assert [(each.name, each.does, each.approval) for each in made.recipes] == [
        ("apply_patch", Does.PATCH, Asking.MODE),
        ("write_branch", Does.BRANCH, Asking.ALWAYS),
    ]
    with_tests = book(ONE).recipe("apply_patch")
    assert with_tests is not None
    assert with_tests.then == "tests"


def test_another_recipe_has_another_digest() -> None:
    texts = [
        ONE,
        ONE.replace("-R{filter}", "-L{filter}"),
        ONE.replace('"All"', '"Some"'),
        ONE + '[recipes.tests.environment]\nA = "1"',
    ]
    assert len({recipe(text).digest() for text in texts}) == len(texts)


# Templates


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_file_that_a_template_begins_with_is_a_book_that_builds_and_tests(name: str) -> None:
    made = book(starting_file(name))
    found = {each.name: each for each in made.recipes}
    assert (found["build"].does, found["tests"].does) == (Does.BUILD, Does.TESTS)
    for each in (found["build"], found["tests"]):
        for command in each.commands(each.filled({})):
            assert not any("{" in word or not word for word in command)
            assert shlex.split(shlex.join(command)) == list(command)
    assert found["apply_patch"].then == "tests"


def test_a_template_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RecipeError):
        starting_file("scons")


# Whose the file is


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipes.toml"
    path.write_text(ONE)
    path.chmod(0o644)
    assert recipes.read(path, LIMITS).recipe("tests")
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(RecipeError, match="Others may write"):
            recipes.read(path, LIMITS)
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    with pytest.raises(RecipeError, match="Others may write"):
        recipes.read(path, LIMITS)
    tmp_path.chmod(0o1777)
    assert recipes.read(path, LIMITS).recipe("tests")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipes.toml"
    path.write_text(ONE)
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(RecipeError, match="belongs to another user"):
        recipes.read(path, LIMITS)


def test_a_file_within_an_indexed_tree_has_no_say(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    inside = tree / "recipes.toml"
    inside.write_text(ONE)
    inside.chmod(0o600)
    link = tmp_path / "link.toml"
    link.symlink_to(inside)
    for path in (inside, link):
        shelf = Shelf(Settings(tmp_path / "data", agents_recipes=str(path)), lambda: [tree])
        with pytest.raises(RecipeError, match="lies in the indexed tree"):
            shelf.book()


def test_a_shelf_follows_the_file(tmp_path: Path) -> None:
    shelf = Shelf(Settings(tmp_path))
    assert shelf.book().recipe("tests") is None
    shelf.path.write_text(ONE)
    shelf.path.chmod(0o600)
    assert shelf.book().recipe("tests")
    assert shelf.book() is shelf.book()
    shelf.path.write_text(ONE.replace("recipes.tests", "recipes.check"))
    assert shelf.book().recipe("check")
    shelf.path.unlink()
    assert shelf.book().recipe("check") is None
    named = Shelf(Settings(tmp_path, agents_recipes=str(tmp_path / "none.toml")))
    with pytest.raises(RecipeError, match="cannot be read"):
        named.book()
    with pytest.raises(RecipeError, match=r"is recipes\.toml"):
        Shelf(Settings(tmp_path, agents_recipes="recipes.toml")).book()


def test_every_example_of_the_documentation_is_a_file_that_can_be_read() -> None:
    text = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 2
    made = [book(example) for example in examples]
    assert {each.name for each in made[0].recipes} >= {"tests", "lint"}
    assert [rule.effect for rule in made[1].rules] == [Effect.ALLOW, Effect.DENY]
    whole = book("\n".join(examples))
    assert whole.recipe("apply_patch")
