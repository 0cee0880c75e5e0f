"""``codehub run`` and ``codehub recipes``: what agents may run, run by whoever sits here, in the same sandbox.

Nobody is asked, for it is this machine's own user who types it; rules and the mode are for agents alone.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from agents import sandbox
from agents.errors import PatchError
from agents.model import Run, RunState
from agents.recipes import Book, Does, Recipe, Shelf, given, starting_file
from agents.runs import Runs, run_shape, told
from hub.auth.model import LOCAL
from hub.choosing import choose_workspace
from hub.cli import DONE, FAILED, NOTHING, STOPPED
from hub.cli.output import print_json, settings_of
from hub.config import Settings
from hub.knowledge import Sessions
from hub.knowledge.sessions import FILE as SESSIONS_FILE
from hub.workspaces import Workspaces
from indexer.index import DataFolder

_MOST_PATCH_BYTES = 1 << 20
_CODES = {RunState.PASSED: DONE, RunState.FAILED: NOTHING, RunState.CANCELLED: STOPPED}
_PROGRAMS = "/usr/local/bin:/usr/bin:/bin"  # where a program is looked for inside the sandbox


def run(options: argparse.Namespace) -> int:
    """Runs a recipe to its end; 1 where a step failed, 2 where it was stopped by a limit or could not be run."""
    arguments = given(options.arguments)
    patch = _patch(options.patch) if options.patch is not None else ""
    settings = settings_of(options)
    chosen = choose_workspace(DataFolder(settings.data).workspaces(), options.workspace, Path.cwd())
    with _runs(settings) as runs:
        prepared = runs.prepare(LOCAL, chosen.name, options.recipe, arguments, patch, not options.no_changes)
        if not options.json:
            for command in prepared.commands:
                print(f"$ {shlex.join(command)}", file=sys.stderr)
        begun = runs.start(LOCAL, prepared)
        # Ctrl-C ends the waiting, and leaving the block ends the run with all its processes.
        ended = runs.wait(begun.id, LOCAL, prepared.recipe.limits.seconds * 2 + 60, _Teller(begun))
    if options.json:
        print_json(run_shape(ended))
    else:
        print(told(ended, may_write=True))
    return _CODES.get(ended.state, FAILED)


def recipes(options: argparse.Namespace) -> int:
    """Shows what agents may run and whether it could be, or a file to begin with; 1 where nothing builds or tests."""
    if options.template is not None:
        text = starting_file(options.template)
        if options.json:
            print_json({"template": options.template, "file": text})
        else:
            print(text, end="")
        return DONE
    settings = settings_of(options)
    roots = [workspace.root for workspace in DataFolder(settings.data).workspaces()] if settings.data.is_dir() else []
    shelf = Shelf(settings, lambda: roots)
    book = shelf.book()
    found = tuple(recipe for recipe in book.recipes if options.workspace is None or recipe.serves(options.workspace))
    problems = [*_missing_sandbox(), *(problem for recipe in found for problem in _missing_programs(recipe))]
    if options.json:
        print_json(_shape(shelf.path, book, found, problems, settings))
    else:
        _print(shelf.path, book, found, problems, settings)
    return DONE if any(recipe.does in {Does.BUILD, Does.TESTS} for recipe in found) else NOTHING


class _Teller:
    """Tells each stage of a run once, on stderr."""

    def __init__(self, begun: Run) -> None:
        self._last = begun.stage

    def __call__(self, words: str, done: float, total: float | None) -> None:
        if words and words != self._last:
            self._last = words
            print(f"{words} ({done:.0f} of {total:.0f} s)" if total else words, file=sys.stderr)


@contextmanager
def _runs(settings: Settings) -> Iterator[Runs]:
    """The runs of a data folder, ended with whatever goes on when the block is left."""
    with (
        closing(Workspaces(settings)) as workspaces,
        closing(
            Sessions(settings.data / SESSIONS_FILE, lifetime_s=settings.agents_session_hours * 3_600.0)
        ) as sessions,
        closing(Runs(settings, workspaces, sessions, settings.data)) as runs,
    ):
        yield runs


def _patch(path: Path) -> str:
    """The text of a patch, from stdin for "-". Raises PatchError."""
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(_MOST_PATCH_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(_MOST_PATCH_BYTES + 1)
        return data.decode()
    except OSError as error:
        raise PatchError(f"{path} cannot be read: {error.strerror}.", "Name a file, or - for stdin.") from None
    except UnicodeDecodeError:
        raise PatchError(f"{path} is not in UTF-8.", "Only patches of text are taken.") from None


def _missing_sandbox() -> Iterator[str]:
    found = sandbox.look()
    if not found.available:
        yield f"Nothing can be run apart on this machine. {found.hint}".strip()


def _missing_programs(recipe: Recipe) -> Iterator[str]:
    """The programs of a recipe that its steps will not find. One below the tree cannot be known here."""
    for step in recipe.steps:
        program = step[0]
        if "/" not in program and shutil.which(program, path=_search_path(recipe)) is None:
            yield f"{recipe.name}: {program} is not installed where a sandbox sees it ({_search_path(recipe)})."
        elif program.startswith("/") and not Path(program).is_file():
            yield f"{recipe.name}: there is no {program}."


def _steps_of(book: Book, recipe: Recipe) -> tuple[tuple[str, ...], ...]:
    following = book.recipe(recipe.then) if recipe.then else None
    return (following or recipe).steps


def _search_path(recipe: Recipe) -> str:
    return dict(recipe.environment).get("PATH", _PROGRAMS)


def _print(path: Path, book: Book, found: Sequence[Recipe], problems: Sequence[str], settings: Settings) -> None:
    print(f"{path}{'' if path.exists() else ' (not there)'}, agents' mode: {settings.agents_mode}")
    for recipe in found:
        where = "" if recipe.workspaces == ("*",) else f" in {', '.join(recipe.workspaces)}"
        print(f"\n{recipe.name}: {recipe.does}{where}, approval {recipe.approval}")
        if recipe.about:
            print(f"  {recipe.about}")
        for step in _steps_of(book, recipe):
            print(f"  $ {shlex.join(step)}")
        for argument in recipe.arguments:
            may = ", ".join(argument.choices) or argument.pattern
            default = "required" if argument.default is None else f"default {argument.default!r}"
            print(f"  {{{argument.name}}}: {may}, {default}")
    for rule in sorted(book.rules, key=lambda rule: (-rule.priority, rule.name)):
        print(f"\nrule {rule.name} (priority {rule.priority}): {rule.effect}")
    if not any(recipe.does in {Does.BUILD, Does.TESTS} for recipe in found):
        print(f"\nNothing builds or tests. To begin: codehub recipes --template cmake > {shlex.quote(str(path))}")
    for problem in problems:
        print(f"\nproblem: {problem}")


def _shape(
    path: Path, book: Book, found: Sequence[Recipe], problems: Sequence[str], settings: Settings
) -> dict[str, Any]:
    return {
        "file": str(path),
        "mode": settings.agents_mode,
        "recipes": [
            {
                "name": recipe.name,
                "does": recipe.does.value,
                "about": recipe.about,
                "workspaces": list(recipe.workspaces),
                "approval": recipe.approval.value,
                "steps": [list(step) for step in _steps_of(book, recipe)],
                "arguments": [
                    {
                        "name": argument.name,
                        "pattern": argument.pattern,
                        "choices": list(argument.choices),
                        "default": argument.default,
                    }
                    for argument in recipe.arguments
                ],
            }
            for recipe in found
        ],
        "rules": [{"name": rule.name, "priority": rule.priority, "effect": rule.effect.value} for rule in book.rules],
        "problems": list(problems),
    }
