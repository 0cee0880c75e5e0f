"""Recipes to begin with, for the usual builders, and those that are there without any file."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.errors import RecipeError
from agents.model import Limits
from agents.recipes.model import (
    APPLY_PATCH,
    WRITE_BRANCH,
    Argument,
    Asking,
    Does,
    Recipe,
    listed,
    named_in,
    short,
)


@dataclass(frozen=True, slots=True)
class Template:
    """Steps that build, steps that test after those, and the arguments that stand in them."""

    build: tuple[tuple[str, ...], ...] = ()
    tests: tuple[tuple[str, ...], ...] = ()
    tests_alone: bool = False  # testing builds by itself
    arguments: tuple[Argument, ...] = field(default=())

    def steps(self, does: Does) -> tuple[tuple[str, ...], ...]:
        if does is Does.TESTS:
            return self.tests if self.tests_alone else (*self.build, *self.tests)
        return self.build if does is Does.BUILD else ()


_JOBS = Argument(
    "jobs", "[1-9][0-9]?", str(max(1, min(16, os.cpu_count() or 1))), about="how many compile and test at once"
)
_FILTER = Argument(
    "filter", r"[\w.:/*|^$ +-]{1,200}", ".", about="a regular expression of the names of the tests to run"
)
BRANCH_ARGUMENTS = (
    Argument("run", r"[0-9a-f]{4,64}", None, about="the id of a run that passed with a patch"),
    Argument("branch", r"[A-Za-z0-9][A-Za-z0-9_./-]{0,99}", None, about="the branch to make or move forward"),
    Argument("message", r".{1,200}", None, about="the commit's message, in one line"),
)


def _target(default: str) -> Argument:
    return Argument("target", r"[A-Za-z0-9_][\w./+-]{0,119}", default, about="what to build")


_CONFIG = Argument(
    "config", "", "Debug", ("Debug", "Release", "RelWithDebInfo", "MinSizeRel"), about="the kind of build"
)
_CONFIGURE = ("cmake", "-S", ".", "-B", "build", "-DCMAKE_BUILD_TYPE={config}")
_COMPILE = ("cmake", "--build", "build", "--config", "{config}", "--target", "{target}", "--parallel", "{jobs}")
_CTEST = (
    *("ctest", "--test-dir", "build", "-C", "{config}", "--output-on-failure", "--no-tests=error"),
    *("--parallel", "{jobs}", "-R", "{filter}"),
)
_BAZEL = ("bazel", "--batch", "--output_user_root=/tmp/bazel")
# The words are those of the manuals: cmake(1), ctest(1), make(1), ninja(1), and Bazel's command line reference.
TEMPLATES: Mapping[str, Template] = {
    "cmake": Template((_CONFIGURE, _COMPILE), (_CTEST,), arguments=(_target("all"), _FILTER, _CONFIG, _JOBS)),
    "ninja": Template(
        ((*_CONFIGURE, "-G", "Ninja"), _COMPILE), (_CTEST,), arguments=(_target("all"), _FILTER, _CONFIG, _JOBS)
    ),
    "make": Template(
        (("make", "-j{jobs}", "{target}"),), (("make", "-j{jobs}", "check"),), arguments=(_target("all"), _JOBS)
    ),
    "bazel": Template(
        ((*_BAZEL, "build", "--jobs={jobs}", "{target}"),),
        ((*_BAZEL, "test", "--jobs={jobs}", "--test_output=errors", "--test_filter={filter}", "{target}"),),
        tests_alone=True,
        arguments=(
            Argument("target", r"[A-Za-z0-9_/:@.+-]{1,150}", "//...", about="labels of what to build or test"),
            Argument("filter", r"[\w.:/*+-]{1,200}", "*", about="the tests to run, as the test's own program reads it"),
            _JOBS,
        ),
    ),
}


def starting_file(template: str) -> str:
    """A file to begin with, for one of TEMPLATES. Raises RecipeError for another name."""
    if template not in TEMPLATES:
        raise RecipeError(f"There is no template {short(template)}.", f"There are {listed(TEMPLATES)}.")
    made = TEMPLATES[template]
    lines = [
        "# What coding agents may have run, each in a sandbox without network over a throw-away copy of the tree.",
        "# It must belong to you or root, and nobody else may write it. docs/recipes.md tells the rest.",
        "",
    ]
    for does in (Does.BUILD, Does.TESTS):
        steps = made.steps(does)
        named = named_in(steps)
        lines += [f"[recipes.{does}]", f'template = "{template}"', f'does = "{does}"']
        lines += ["# The same as:", *(f"#   {json.dumps(step)}" for step in steps)]
        lines += [
            f"# {argument.name} = {argument.default!r}: {argument.about}"
            for argument in made.arguments
            if argument.name in named
        ]
        lines += ['# workspaces = ["*"]', "# seconds = 600", '# approval = "mode"', ""]
    lines += [
        "# [[rules]]",
        '# name = "tests run by themselves"',
        "# priority = 10",
        '# effect = "allow"',
        '# recipe = "tests"',
        "# patch = false",
    ]
    return "\n".join(lines) + "\n"


def built_in(most: Limits, made: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Those that need no file. A patch is tried with the tests, where a recipe of that name runs them."""
    names = {recipe.name for recipe in made}
    then = next((recipe.name for recipe in made if recipe.name == "tests" and recipe.does is Does.TESTS), "")
    both = (
        Recipe(APPLY_PATCH, Does.PATCH, most, about="applies a patch to a throw-away copy and tests it", then=then),
        Recipe(
            WRITE_BRANCH,
            Does.BRANCH,
            most,
            arguments=BRANCH_ARGUMENTS,
            about="puts a patch that passed on a branch of the repository",
            approval=Asking.ALWAYS,
        ),
    )
    return tuple(recipe for recipe in both if recipe.name not in names)
