"""The administrator's file of recipes and rules: whose it must be, its form, and every way in which it can be wrong.

An error names the table and the key. Runs nothing.
"""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from agents.errors import RecipeError
from agents.model import Effect, Limits, Mode
from agents.recipes.model import (
    APPLY_PATCH,
    ARGUMENT_NAME,
    PLACEHOLDER,
    UNFIT,
    WRITE_BRANCH,
    Argument,
    Asking,
    Book,
    Does,
    Recipe,
    Rule,
    listed,
    named_in,
    short,
)
from agents.recipes.templates import BRANCH_ARGUMENTS, TEMPLATES, Template, built_in
from hub.config import Settings

FILE = "recipes.toml"
_MOST_FILE_BYTES = 1 << 20
_MOST_RECIPES = 100
_MOST_RULES = 500
_MOST_STEPS = 20
_MOST_WORDS = 200
_MOST_PATTERN_CHARS = 300
# Of one pattern: each of them multiplies the ways to try at a text of 200 characters, so that three take milliseconds.
_MOST_REPEATS = 3
_MOST_OPTIONAL = 8
_MIB = 1 << 20
_KIB = 1 << 10
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
# What counts in a pattern: an escaped character, a class, a group's beginning, its end, what repeats, all else.
_PATTERN_PART = re.compile(
    r"(?P<escape>\\.)|(?P<class>\[\^?\]?(?:[^\]\\]|\\.){0,200}\])|(?P<open>\(\??[:=!<>]{0,2})|(?P<close>\))"
    r"|(?P<repeat>[*+?]|\{\d{0,4},?\d{0,4}\})(?P<way>[+?]?)|.",
    re.DOTALL,
)
_REFERENCE = re.compile(r"\\[1-9]|\(\?P|\(\?\(")


class Shelf:
    """The book as the file is now. Raises RecipeError from ``book``. Safe to use from several threads."""

    def __init__(self, settings: Settings, roots: Callable[[], Iterable[Path]] = tuple) -> None:
        """``roots`` are of the trees that are indexed: what lies in one of them may have come with it."""
        self._settings = settings
        self._roots = roots
        self._known: tuple[object, Book] | None = None
        self.path = path_of(settings)

    def book(self) -> Book:
        if not self.path.is_absolute():
            raise RecipeError(
                f"[agents] recipes is {self.path}.",
                "Write an absolute path, so that it does not matter where one stands.",
            )
        beneath = next((root for root in self._roots() if _is_beneath(self.path, root)), None)
        if beneath is not None and (self._settings.agents_recipes or self.path.exists()):
            raise RecipeError(
                f"{self.path} lies in the indexed tree {beneath}.",
                "What agents may run is not for a tree to say: move the file and name it in [agents] recipes.",
            )
        limits = limits_of(self._settings)
        try:
            status = self.path.stat()
        except OSError:
            if self._settings.agents_recipes:
                raise RecipeError(
                    f"{self.path} cannot be read.", "[agents] recipes names it: write it, or leave the setting out."
                ) from None
            return Book(built_in(limits, ()))
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._known
        if known is not None and known[0] == stamp:
            return known[1]
        found = read(self.path, limits)
        self._known = (stamp, found)
        return found


def path_of(settings: Settings) -> Path:
    """Where the file of recipes lies, or would."""
    if settings.agents_recipes:
        return Path(settings.agents_recipes).expanduser()
    return settings.data / FILE


def limits_of(settings: Settings) -> Limits:
    """The most that a run may take."""
    return Limits(
        seconds=float(settings.agents_seconds),
        memory=settings.agents_memory_megabytes * _MIB,
        processes=settings.agents_processes,
        disk=settings.agents_disk_megabytes * _MIB,
        output=settings.agents_output_kilobytes * _KIB,
    )


def read(path: Path, most: Limits) -> Book:
    """The book in a file. Raises RecipeError, which names the table and the key.

    The file belongs to whoever runs this, or to root, and nobody else may write it or put another in its place: what
    stands in it is run.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            _check_owner(path, status)
            _check_owner(path.resolve().parent, path.resolve().parent.stat())
            data = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.", "Check its owner and mode.") from None
    if len(data) > _MOST_FILE_BYTES:
        raise RecipeError(f"{path} is longer than {_MOST_FILE_BYTES >> 20} MiB.", "Recipes are a few lines each.")
    try:
        return parse(data.decode(), str(path), most)
    except UnicodeDecodeError:
        raise RecipeError(f"{path} is not in UTF-8.", "Save it so.") from None


def parse(text: str, where: str, most: Limits) -> Book:
    """The book in a text; ``where`` it stands is for errors. Raises RecipeError."""
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(f"{where} is no TOML: {error}.", "Mend the line.") from None
    top = _Table(tree, where, "")
    recipes = top.take("recipes", dict, {})
    rules = top.take("rules", list, [])
    top.end()
    if len(recipes) > _MOST_RECIPES or len(rules) > _MOST_RULES:
        raise top.wrong("", f"holds more than {_MOST_RECIPES} recipes or {_MOST_RULES} rules")
    made = [_recipe(name, _Table(table, where, f"recipes.{name}"), most) for name, table in recipes.items()]
    every = (*made, *built_in(most, made))
    book = Book(
        tuple(_going_on(recipe, every, where) for recipe in every),
        tuple(_rule(table, number, where) for number, table in enumerate(rules)),
    )
    names = [rule.name for rule in book.rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"Two rules in {where} are called {twice!r}.", "The audit log names rules: tell them apart.")
    return book


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Raises RecipeError where others may change what stands there."""
    if status.st_uid not in (0, os.geteuid()):
        raise RecipeError(
            f"{path} belongs to another user.", "What it says is run: it must be yours or root's. Use chown."
        )
    alone = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX  # nobody replaces another's file there
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not alone:
        raise RecipeError(f"Others may write {path}.", f"What it says is run: use chmod go-w {path}.")


def _is_beneath(path: Path, root: Path) -> bool:
    real = root.resolve()
    return path.is_relative_to(root) or path.resolve().is_relative_to(real)


class _Table:
    """One table of the file, whose keys are taken one by one, so that a misspelt one is left and told."""

    def __init__(self, values: object, where: str, name: str) -> None:
        self.where = where
        self.name = name
        if not isinstance(values, dict):
            raise self.wrong("", "is no table")
        self._left: dict[str, Any] = dict(values)
        self._known: list[str] = []

    def wrong(self, key: str, what: str, hint: str = "See docs/recipes.md for its form.") -> RecipeError:
        table = f"[{self.name}]" if self.name else "the top"
        place = f"{key} in {table}" if key else table
        return RecipeError(f"{place} of {self.where} {what}.", hint)

    def take(self, key: str, kind: type, default: Any) -> Any:
        """The value of a key, of exactly that type. Raises RecipeError."""
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is not default and type(value) is not kind:
            words = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}
            raise self.wrong(key, f"must be {words[kind]}")
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts; one text alone is a list of it."""
        if isinstance(self._left.get(key), str):
            return (self.take(key, str, ""),)
        found = self.take(key, list, None)
        if found is None:
            return default
        if not all(isinstance(item, str) and item for item in found):
            raise self.wrong(key, "must be a list of texts")
        return tuple(found)

    def choice(self, key: str, choices: type[StrEnum], default: StrEnum | None) -> Any:
        value = self.take(key, str, None)
        if value is None and default is not None:
            return default
        if value not in set(choices):
            raise self.wrong(key, f"must be {listed(list(choices))}")
        return choices(value)

    def count(self, key: str, default: float, unit: int = 1) -> int:
        """A number of units, which must be above nothing and not above the default, which is the setting's."""
        value = self.take(key, int, None)
        if value is None:
            return int(default)
        if not 0 < value * unit <= default:
            raise self.wrong(
                key, f"is {value}", f"It must be between 1 and {int(default) // unit}, which [agents] {key} allows."
            )
        return int(value) * unit

    def end(self) -> None:
        """Raises RecipeError where a key is left that nobody knows."""
        for key in self._left:
            raise self.wrong(short(key), "is not known", f"There are {listed(self._known)}.")


def _recipe(name: str, table: _Table, most: Limits) -> Recipe:
    if not _NAME.fullmatch(name):
        raise table.wrong("", "has a name that cannot be called", "Use up to 40 letters, digits, '_', '-' and '.'.")
    built_in = {APPLY_PATCH: Does.PATCH, WRITE_BRANCH: Does.BRANCH}.get(name)
    kind = table.take("template", str, "")
    if kind and kind not in TEMPLATES:
        raise table.wrong("template", f"is {short(kind)}", f"There are {listed(TEMPLATES)}.")
    does: Does = table.choice("does", Does, built_in or (Does.TESTS if kind else None))
    if built_in not in (None, does) or (built_in is None and does is Does.BRANCH):
        raise table.wrong("does", f"cannot be {does}", f"{WRITE_BRANCH} alone writes branches.")
    template = TEMPLATES[kind] if kind else Template()
    steps = _steps(table, template.steps(does) if kind else ())
    arguments = {argument.name: argument for argument in template.arguments if argument.name in named_in(steps)}
    if does is Does.BRANCH:
        arguments = {argument.name: argument for argument in BRANCH_ARGUMENTS}
    for argument, inner in table.take("arguments", dict, {}).items():
        place = _Table(inner, table.where, f"recipes.{name}.arguments.{argument}")
        arguments[argument] = _argument(argument, place, arguments.get(argument))
    made = Recipe(
        name,
        does,
        Limits(
            float(table.count("seconds", most.seconds)),
            table.count("memory_megabytes", most.memory, _MIB),
            table.count("processes", most.processes),
            table.count("disk_megabytes", most.disk, _MIB),
            table.count("output_kilobytes", most.output, _KIB),
        ),
        steps=steps,
        arguments=tuple(arguments.values()),
        about=table.take("about", str, ""),
        workspaces=table.texts("workspaces", ("*",)),
        approval=table.choice("approval", Asking, Asking.ALWAYS if does is Does.BRANCH else Asking.MODE),
        folder=_folder(table),
        cache=table.take("cache", bool, True),
        readable=_readable(table),
        environment=_environment(table),
        then=table.take("then", str, "") if does is Does.PATCH else "",
    )
    table.end()
    _check_recipe(made, table)
    return made


def _going_on(recipe: Recipe, every: Sequence[Recipe], where: str) -> Recipe:
    """A recipe that goes on with another takes that one's arguments."""
    if not recipe.then:
        return recipe
    runnable = {each.name: each for each in every if each.does in {Does.BUILD, Does.TESTS}}
    if recipe.then not in runnable:
        raise RecipeError(
            f"then in [recipes.{recipe.name}] of {where} names no recipe that builds or tests.",
            f"There are {listed(runnable)}.",
        )
    return replace(recipe, arguments=runnable[recipe.then].arguments)


def _check_recipe(recipe: Recipe, table: _Table) -> None:
    if recipe.does in (Does.BUILD, Does.TESTS) and not recipe.steps:
        raise table.wrong("", "has neither template nor steps", 'Write steps = [["make", "check"]], say.')
    if recipe.does in (Does.PATCH, Does.BRANCH) and recipe.steps:
        raise table.wrong("steps", f"has no place where does is {recipe.does}", "Name a recipe by then.")
    known = {argument.name for argument in recipe.arguments}
    unknown = named_in(recipe.steps) - known
    if unknown:
        raise table.wrong(
            "steps", f"names {{{min(unknown)}}}, which is no argument", f"Add [{table.name}.arguments.{min(unknown)}]."
        )
    unused = known - named_in(recipe.steps) if recipe.steps else set()
    if unused:
        raise table.wrong("arguments", f"has {min(unused)}, which no step names", f"Write {{{min(unused)}}} in a step.")


def _steps(table: _Table, default: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    found = table.take("steps", list, None)
    if found is None:
        return default
    if not 0 < len(found) <= _MOST_STEPS:
        raise table.wrong("steps", f"must be one to {_MOST_STEPS} lists of words")
    for step in found:
        fits = isinstance(step, list) and 0 < len(step) <= _MOST_WORDS and all(isinstance(word, str) for word in step)
        if not fits:
            raise table.wrong("steps", "must be lists of words", 'Such as [["make", "-j{jobs}"], ["ctest"]].')
        if not step[0] or step[0].startswith("-") or PLACEHOLDER.search(step[0]):
            raise table.wrong("steps", "must begin with a program's name each", "No argument says which program it is.")
        if any(UNFIT.search(word) for word in step):
            raise table.wrong("steps", "holds a control character", "Write each line of a script in a file of its own.")
    return tuple(tuple(step) for step in found)


def _argument(name: str, table: _Table, template: Argument | None) -> Argument:
    if not ARGUMENT_NAME.fullmatch(name):
        raise table.wrong("", "has a name that cannot be given", "Use small letters, digits and '_'.")
    choices = table.texts("choices", template.choices if template else ())
    pattern = table.take("pattern", str, None if choices else (template.pattern if template else None))
    default = table.take("default", str, template.default if template else None)
    about = table.take("about", str, template.about if template else "")
    table.end()
    if pattern is None and not choices:
        raise table.wrong("", "has neither pattern nor choices", "Say what the whole value has to match.")
    if pattern is not None and (refusal := _pattern_refusal(pattern)):
        raise table.wrong("pattern", refusal[0], refusal[1])
    made = Argument(name, pattern or "", default, choices, about)
    if default is not None and UNFIT.search(default):
        raise table.wrong("default", "holds a control character")
    return made


def _pattern_refusal(pattern: str) -> tuple[str, str] | None:
    """Why a pattern is not taken, and the way out: it is tried at texts of whoever asks, and must not take long."""
    if len(pattern) > _MOST_PATTERN_CHARS:
        return "is too long", f"Use {_MOST_PATTERN_CHARS} characters at most."
    if _REFERENCE.search(pattern):
        return "refers back to a group", "Write what may stand there."
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression: {error}", "See Python's re for the form."
    repeats = optional = 0
    after_group = False
    for part in _PATTERN_PART.finditer(pattern):
        repeat, way = part["repeat"], part["way"]
        if repeat is not None and way != "+":
            if repeat == "?":
                optional += 1
            elif after_group:
                return "repeats a group", f"Repeat it without going back: (...){repeat}+ instead of (...){repeat}."
            else:
                repeats += 1
        after_group = part["close"] is not None
    if repeats > _MOST_REPEATS or optional > _MOST_OPTIONAL:
        return "repeats too much", f"Use {_MOST_REPEATS} repeats that may go back at most; *+ and ++ do not."
    return None


def _folder(table: _Table) -> str:
    folder: str = table.take("folder", str, "")
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or UNFIT.search(folder):
        raise table.wrong("folder", "must lie below the tree's root", 'Such as folder = "cpp".')
    return "" if path == PurePosixPath() else str(path)


def _readable(table: _Table) -> tuple[Path, ...]:
    paths = tuple(Path(text) for text in table.texts("readable"))
    if not all(path.is_absolute() and ".." not in path.parts for path in paths):
        raise table.wrong("readable", "must be absolute paths", 'Such as readable = ["/opt/toolchain"].')
    return paths


def _environment(table: _Table) -> tuple[tuple[str, str], ...]:
    found = table.take("environment", dict, {})
    for name, value in found.items():
        if not _VARIABLE.fullmatch(name) or not isinstance(value, str) or UNFIT.search(value):
            raise table.wrong(f"environment.{short(name)}", "must be the text of a variable")
    return tuple(sorted(found.items()))


def _rule(values: object, number: int, where: str) -> Rule:
    table = _Table(values, where, f"rules, number {number + 1},")
    name = table.take("name", str, "")
    if not _NAME.fullmatch(name.replace(" ", "-")):
        raise table.wrong("name", "must be there", "The audit log tells it: up to 40 letters, digits, blanks and '-'.")
    does = table.texts("does")
    modes = table.texts("mode")
    if not set(does) <= set(Does) or not set(modes) <= set(Mode):
        raise table.wrong("does or mode", f"must be of {listed(list(Does))}; {listed(list(Mode))}")
    arguments = table.take("arguments", dict, {})
    for argument, pattern in arguments.items():
        if not isinstance(pattern, str):
            raise table.wrong(f"arguments.{short(argument)}", "must be a pattern")
        if refusal := _pattern_refusal(pattern):
            raise table.wrong(f"arguments.{short(argument)}", refusal[0], refusal[1])
    effect = table.choice("effect", Effect, None)
    made = Rule(
        name,
        table.take("priority", int, 0),
        effect,
        tools=table.texts("tool"),
        recipes=table.texts("recipe"),
        workspaces=table.texts("workspace"),
        keys=table.texts("key"),
        owners=table.texts("owner"),
        does=tuple(map(Does, does)),
        modes=tuple(map(Mode, modes)),
        # What an agent has written itself is let pass only where that is said outright.
        patch=table.take("patch", bool, False if effect is Effect.ALLOW else None),
        arguments=tuple(sorted(arguments.items())),
    )
    table.end()
    return made
