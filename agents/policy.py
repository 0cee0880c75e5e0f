"""Whether a call of a tool is let pass, by scopes, rules and mode. Pure: it runs nothing and asks nobody.

Scopes come first, and the mode in which agents run nothing: no rule grants what they do not. Then the administrator's
rules, and below them the built-in ones; the highest priority decides, and of equals the most restrictive. Where nobody
can be asked, ask means deny.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from agents.errors import RecipeError
from agents.model import Arguments, Effect, Mode, Verdict
from agents.recipes import Asking, Book, Does, Recipe, Rule, Shelf, given
from hub.auth.model import LOCAL, Principal, Scope
from hub.config import Settings

# What each tool needs. A tool that stands nowhere here is refused, so that a new one is not forgotten.
SCOPES: Mapping[str, Scope] = {
    **dict.fromkeys(
        ("explore", "ask", "search_code", "find_symbol", "find_references", "call_graph", "read_file", "impact"),
        Scope.READ,
    ),
    "search_knowledge": Scope.READ,
    "remember": Scope.KNOWLEDGE,
    "run": Scope.EXECUTE,
    "job": Scope.EXECUTE,
}
GATED = frozenset({"run"})  # what acts
# What agents are told where the file is wrong, which says where it lies and what stands in it.
UNREADABLE = "The recipes of this hub cannot be read, so nothing is run. `codehub recipes` tells its owner why."
_LOG = logging.getLogger("codehub.agents")
_STRICTNESS = {Effect.ALLOW: 0, Effect.ASK: 1, Effect.DENY: 2}
_STRICTEST_ASKING = {Asking.NEVER: 0, Asking.MODE: 1, Asking.ALWAYS: 2}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call of a gated tool, as rules look at it."""

    principal: Principal
    workspace: str
    tool: str
    mode: Mode
    recipe: Recipe
    values: Mapping[str, str]
    patch: bool


class Policy:
    """Rules and mode, and recipes as their file is now. Safe to use from several threads."""

    def __init__(self, book: Callable[[], Book], mode: Mode) -> None:
        """``book`` may raise RecipeError, and then nothing is run."""
        self._book = book
        self.mode = mode

    @classmethod
    def of(cls, settings: Settings, roots: Callable[[], Iterable[Path]] = tuple) -> "Policy":
        """That of an administrator's settings; ``roots`` are of the indexed trees, which have no say."""
        return cls(Shelf(settings, roots).book, Mode(settings.agents_mode))

    def decide(
        self,
        principal: Principal,
        workspace: str,
        tool: str,
        arguments: Arguments,
        mode: Mode | None = None,
        *,
        askable: bool | None = None,
    ) -> Verdict:
        """As the function of this name does. A file of recipes that cannot be read denies all that acts."""
        try:
            book = self._book() if tool in GATED else Book(())
        except RecipeError as error:
            _LOG.warning("Nothing is run: %s", error.message)
            return Verdict(Effect.DENY, "recipes", UNREADABLE)
        return decide(book, principal, workspace, tool, arguments, mode or self.mode, askable=askable)


def decide(
    book: Book,
    principal: Principal,
    workspace: str,
    tool: str,
    arguments: Arguments,
    mode: Mode,
    *,
    askable: bool | None = None,
) -> Verdict:
    """What becomes of a call. Never raises, whatever the arguments hold.

    ``askable`` says whether anybody may let it pass but who asks: by default all may be asked for but this machine's
    own user, who has nobody above.
    """
    verdict = _of_scope(principal, workspace, tool)
    if verdict is None and not arguments.get("recipe"):
        verdict = Verdict(Effect.ALLOW, "listing", "")  # which recipes there are
    if verdict is None and mode is Mode.READ:
        verdict = Verdict(Effect.DENY, "mode-read", "Agents run nothing here: [agents] mode is read.")
    if verdict is None:
        asked = _asked(book, principal, workspace, tool, arguments, mode)
        verdict = asked if isinstance(asked, Verdict) else _ruled(book, asked)
    can_ask = principal.key_id != LOCAL.key_id if askable is None else askable
    if verdict.effect is Effect.ASK and not can_ask:
        return Verdict(Effect.DENY, verdict.rule, "A person would have to let it pass, and nobody can be asked.")
    return verdict


_REASONS = {
    Effect.ALLOW: "",
    Effect.ASK: "A person has to let it pass, says the rule {rule}.",
    Effect.DENY: "The rule {rule} forbids it.",
}


def _of_scope(principal: Principal, workspace: str, tool: str) -> Verdict | None:
    """What scopes alone decide; None for a gated tool that they let pass."""
    scope = SCOPES.get(tool)
    if scope is None:
        return Verdict(Effect.DENY, "unknown-tool", "There is no such tool.")
    anywhere = not workspace and tool not in GATED  # a tool that takes none looks at each thing by itself
    if not (any(scope in grant.scopes for grant in principal.grants) if anywhere else principal.may(scope, workspace)):
        return _lacking(scope)
    return None if tool in GATED else Verdict(Effect.ALLOW, "reading", "")


def _asked(
    book: Book, principal: Principal, workspace: str, tool: str, arguments: Arguments, mode: Mode
) -> _Asked | Verdict:
    """The call as rules look at it, or why it makes no sense: nobody is to be asked about what cannot be run."""
    name = arguments.get("recipe")
    recipe = book.recipe(name) if isinstance(name, str) else None
    if recipe is None or not recipe.serves(workspace):
        return Verdict(Effect.DENY, "unknown-recipe", _no_such(book, workspace))
    if recipe.does is Does.BRANCH and not principal.may(Scope.WRITE, workspace):
        return _lacking(Scope.WRITE)
    try:
        values = recipe.filled(_given(arguments.get("arguments")))
    except RecipeError as error:
        return Verdict(Effect.DENY, "arguments", f"{error.message} {error.hint}".strip())
    return _Asked(principal, workspace, tool, mode, recipe, values, bool(arguments.get("patch")))


def _ruled(book: Book, asked: _Asked) -> Verdict:
    """By the rules that meet it, then by the built-in ones."""
    # What holds for a recipe holds for one that goes on with it, too.
    views = {each.name: replace(asked, recipe=each) for each in (asked.recipe, _steps_of(book, asked))}.values()
    meeting = [rule for rule in book.rules if any(_meets(rule, view) for view in views)]
    if not meeting:
        return _built_in(book, asked)
    rule = max(meeting, key=lambda rule: (rule.priority, _STRICTNESS[rule.effect], rule.name))
    if asked.recipe.does is Does.BRANCH and rule.effect is Effect.ALLOW:
        return _to_be_asked("branch")  # what stays is never put there by rules alone
    return Verdict(rule.effect, rule.name, _REASONS[rule.effect].format(rule=rule.name))


def _built_in(book: Book, asked: _Asked) -> Verdict:
    """What is decided where no rule of the administrator's meets the call."""
    if asked.recipe.does is Does.BRANCH:
        return _to_be_asked("branch")
    if asked.mode is Mode.ASK:
        return _to_be_asked("mode-ask")
    strictest = max(asked.recipe.approval, _steps_of(book, asked).approval, key=_STRICTEST_ASKING.__getitem__)
    if strictest is Asking.ALWAYS:
        return _to_be_asked("recipe-always")
    return Verdict(Effect.ALLOW, "mode-trusted", "")


def _to_be_asked(rule: str) -> Verdict:
    return Verdict(Effect.ASK, rule, _REASONS[Effect.ASK].format(rule=rule))


def _lacking(scope: Scope) -> Verdict:
    return Verdict(Effect.DENY, "scope", f"It needs a grant to {scope.value} in this workspace.")


def _steps_of(book: Book, asked: _Asked) -> Recipe:
    return book.steps_of(asked.recipe, asked.workspace)


def _meets(rule: Rule, asked: _Asked) -> bool:
    return (
        _fits(rule.tools, asked.tool)
        and _fits(rule.recipes, asked.recipe.name)
        and _fits(rule.workspaces, asked.workspace)
        and _fits(rule.keys, asked.principal.key_id)
        and _fits(rule.owners, asked.principal.owner)
        and (not rule.does or asked.recipe.does in rule.does)
        and (not rule.modes or asked.mode in rule.modes)
        and rule.patch in (None, asked.patch)
        and all(name in asked.values and re.fullmatch(pattern, asked.values[name]) for name, pattern in rule.arguments)
    )


def _fits(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def _given(written: Any) -> dict[str, str]:
    """The arguments of a recipe. Raises RecipeError for what is none."""
    if written is None:
        return {}
    if not isinstance(written, list | tuple) or not all(isinstance(text, str) for text in written):
        raise RecipeError("The arguments are no list of texts.", "Write name=value, such as filter=Parser.")
    return given(written)


def _no_such(book: Book, workspace: str) -> str:
    names = [recipe.name for recipe in book.recipes if recipe.serves(workspace)]
    return f"There is no such recipe here. There are {', '.join(names) or 'none'}."
