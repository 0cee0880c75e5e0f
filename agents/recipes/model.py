"""A recipe, a rule, and the book of both. A recipe is a list of commands, each a list of words. Pure.

Arguments stand in words, checked by pattern, and never add one; no shell reads them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from agents.errors import RecipeError
from agents.model import Effect, Limits, Mode

MOST_VALUE_CHARS = 200  # of an argument's value
APPLY_PATCH = "apply_patch"
WRITE_BRANCH = "write_branch"
ARGUMENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")
PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_]{1,60})\}")
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # in a word of a command
_DASH_FIRST = ("-", r"\-", "(-", "(?:-")


class Does(StrEnum):
    """What comes of a recipe."""

    BUILD = "build"
    TESTS = "tests"
    PATCH = "patch"  # a patch is applied, and the steps of another recipe are run over it
    BRANCH = "branch"  # a patch that passed is put on a branch of the repository


class Asking(StrEnum):
    """Whether a person lets a recipe pass, where no rule says otherwise."""

    NEVER = "never"  # the recipe asks for nobody; what the mode asks for stays
    MODE = "mode"  # as the mode says
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Argument:
    """A text that whoever runs a recipe may give."""

    name: str
    pattern: str  # that the whole of it has to match
    default: str | None = None  # None where it has to be given
    choices: tuple[str, ...] = ()
    about: str = ""

    def refusal(self, value: str) -> str:
        """Why it cannot have this value, as the end of a sentence; "" where it can."""
        if self.choices:
            return "" if value in self.choices else f"may be {listed(self.choices)}"
        if len(value) > MOST_VALUE_CHARS:
            return f"has {len(value)} characters, and {MOST_VALUE_CHARS} are allowed"
        if UNFIT.search(value):
            return "holds a control character or a line end"
        if value.startswith("-") and not self.pattern.startswith(_DASH_FIRST):
            return "begins like an option"
        return "" if re.fullmatch(self.pattern, value) else f"must match {self.pattern}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Commands with a name. ``steps`` are run one after another, until one ends with another code than 0."""

    name: str
    does: Does
    limits: Limits
    steps: tuple[tuple[str, ...], ...] = ()
    arguments: tuple[Argument, ...] = ()
    about: str = ""
    workspaces: tuple[str, ...] = ("*",)  # shell patterns of names
    approval: Asking = Asking.MODE
    folder: str = ""  # below the tree's root, in which the steps begin
    cache: bool = True  # of compiled files, shared with other builds of the workspace
    readable: tuple[Path, ...] = ()  # folders of the machine that the steps may read, such as a tool chain's
    environment: tuple[tuple[str, str], ...] = ()
    then: str = ""  # for PATCH: the recipe whose steps are run

    def serves(self, workspace: str) -> bool:
        """Whether it may be used there."""
        return any(fnmatchcase(workspace, pattern) for pattern in self.workspaces)

    def filled(self, given: Mapping[str, str]) -> dict[str, str]:
        """A value for each argument. Raises RecipeError for one that is unknown, missing or not allowed."""
        known = {argument.name: argument for argument in self.arguments}
        for name in given:
            if name not in known:
                raise RecipeError(
                    f"The recipe {self.name} has no argument {short(name)}.",
                    f"It has {listed(known)}." if known else "It has none at all.",
                )
        values = {}
        for argument in self.arguments:
            value = given.get(argument.name, argument.default)
            if value is None:
                raise RecipeError(
                    f"The recipe {self.name} needs the argument {argument.name}.",
                    f"Give {argument.name}=VALUE{f': {argument.about}' if argument.about else ''}.",
                )
            if argument.name in given and (refusal := argument.refusal(value)):
                raise RecipeError(f"{argument.name} of {self.name} {refusal}.", _way_out(argument))
            values[argument.name] = value
        return values

    def commands(self, values: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
        """The steps with their arguments, as ``filled`` gave them: never more words than were written."""
        return tuple(
            tuple(PLACEHOLDER.sub(lambda place: values[place[1]], word) for word in step) for step in self.steps
        )

    def digest(self) -> str:
        """Another for a recipe that differs in anything."""
        return sha256(repr(self).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the administrator's. It meets a call where each list that is not empty has a pattern that fits."""

    name: str
    priority: int
    effect: Effect
    tools: tuple[str, ...] = ()  # shell patterns, and so are the next four
    recipes: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()  # ids
    owners: tuple[str, ...] = ()
    does: tuple[Does, ...] = ()
    modes: tuple[Mode, ...] = ()
    patch: bool | None = None  # whether the call brings a patch
    arguments: tuple[tuple[str, str], ...] = ()  # of a recipe: a name, and the pattern that its whole value matches


@dataclass(frozen=True, slots=True)
class Book:
    """All recipes, by name, and rules, in the order of the file."""

    recipes: tuple[Recipe, ...]
    rules: tuple[Rule, ...] = ()

    def recipe(self, name: str) -> Recipe | None:
        return next((recipe for recipe in self.recipes if recipe.name == name), None)

    def steps_of(self, recipe: Recipe, workspace: str) -> Recipe:
        """The recipe whose steps are run for this one in a workspace: itself, but for one that goes on with another
        that may be used there.
        """
        following = self.recipe(recipe.then) if recipe.then else None
        return following if following is not None and following.serves(workspace) else recipe


def given(written: Sequence[str]) -> dict[str, str]:
    """Arguments out of texts of the form ``name=value``. Raises RecipeError."""
    values: dict[str, str] = {}
    for text in written:
        name, equals, value = text.partition("=")
        if not equals or not ARGUMENT_NAME.fullmatch(name):
            raise RecipeError(f"{short(text)} is no argument of a recipe.", "Write name=value, such as filter=Parser.")
        if name in values:
            raise RecipeError(f"The argument {name} is given twice.", "Give it once.")
        values[name] = value
    return values


def named_in(steps: Iterable[Iterable[str]]) -> set[str]:
    return {name for step in steps for word in step for name in PLACEHOLDER.findall(word)}


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _way_out(argument: Argument) -> str:
    default = f" Without it: {argument.default}." if argument.default else ""
    return f"{argument.about[:1].upper()}{argument.about[1:]}.{default}" if argument.about else f"Mend it.{default}"
