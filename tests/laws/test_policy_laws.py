"""What is run, a person or an administrator's rule has let pass: ten thousand random calls against a reference.

The reference is written from what is promised (docs/recipes.md, docs/security.md), not from the code: it keeps its own
book of who asked what, who decided it and what the tree was then. The router, the policy, the tool and the approvals
are the real ones; only what would be started is counted instead.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agents.desk import Desk
from agents.model import AGENT, Call, Effect, Limits, Mode
from agents.policy import Policy, decide
from agents.recipes import Argument, Asking, Book, Does, Recipe, Rule
from agents.router import Router
from agents.tools.running import RUN
from hub.auth.approvals import KEPT_S, WAIT_S, Approvals
from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Principal, Scope
from hub.config import Settings
from hub.errors import Forbidden, HubError, WorkspaceError
from indexer.index import Workspace
from tests.support.counted_runs import ROOT, CountedRuns
from tests.support.server_state import Clock

WORLDS, CALLS = 125, 80
WORKSPACES = ("engine", "tools")
LIMITS = Limits(600.0, 1 << 30, 64, 1 << 30, 1 << 18)
FILTER = Argument("filter", "[A-Za-z]{1,20}", "All")


# -- what is promised, written down a second time


@dataclass
class Wish:
    """A call as its caller means it."""

    who: Principal
    where: str
    recipe: str
    arguments: tuple[str, ...]
    patch: str
    changes: bool

    def same(self) -> tuple[object, ...]:
        """What an approval of it is for, beside the tree and the recipes."""
        return (self.who.key_id, self.where, self.recipe, self.arguments, self.patch, self.changes)


@dataclass
class Reference:
    """The promises, for one administrator's book and mode."""

    book: Book
    mode: Mode
    tree: int = 0
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def says(self, wish: Wish) -> str:
        """What becomes of a call without an approval: one of "run", "ask" and "no"."""
        named = {recipe.name: recipe for recipe in self.book.recipes}
        recipe = named.get(wish.recipe)
        if recipe is None or not any(_alike(pattern, wish.where) for pattern in recipe.workspaces):
            return "no"
        writes = recipe.does == "branch"
        needed = ["execute", "write"] if writes else ["execute"]
        values = self._values(recipe, wish.arguments)
        if values is None or self.mode == "read" or not all(_granted(wish.who, wish.where, each) for each in needed):
            return "no"
        over = named.get(recipe.then, recipe)  # whose steps are run, where they may be
        over = over if any(_alike(pattern, wish.where) for pattern in over.workspaces) else recipe
        effects = self._rules((recipe, over), wish, values)
        if not effects:
            careful = "always" in (recipe.approval, over.approval)
            effects = {"ask"} if self.mode == "ask" or careful else {"allow"}
        if writes:  # what stays in the repository is at least asked for
            effects = effects | {"ask"}
        if "deny" in effects or ("ask" in effects and wish.who.key_id == "local"):
            return "no"
        return "ask" if "ask" in effects else "run"

    def _values(self, recipe: Recipe, written: tuple[str, ...]) -> dict[str, str] | None:
        values: dict[str, str] = {}
        known = {argument.name for argument in recipe.arguments}
        for text in written:
            name, equals, value = text.partition("=")
            letters = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
            if not equals or name not in known or name in values or not 0 < len(value) <= 20 or set(value) - letters:
                return None
            values[name] = value
        for argument in recipe.arguments:
            if argument.name not in values:
                if argument.default is None:
                    return None
                values[argument.name] = argument.default
        return values

    def _rules(self, recipes: tuple[Recipe, Recipe], wish: Wish, values: Mapping[str, str]) -> set[str]:
        """The effects of the rules of the highest priority among those that meet the call, as either recipe."""
        meeting = [
            rule
            for rule in self.book.rules
            for recipe in recipes
            if all(
                not patterns or any(_alike(pattern, text) for pattern in patterns)
                for patterns, text in (
                    (rule.tools, "run"),
                    (rule.recipes, recipe.name),
                    (rule.workspaces, wish.where),
                    (rule.keys, wish.who.key_id),
                    (rule.owners, wish.who.owner),
                )
            )
            and (not rule.does or recipe.does in rule.does)
            and (not rule.modes or self.mode in rule.modes)
            and (rule.patch is None or rule.patch == (wish.patch != ""))
            and all(values.get(name) == wanted for name, wanted in rule.arguments)
        ]
        top = max((rule.priority for rule in meeting), default=0)
        return {rule.effect.value for rule in meeting if rule.priority == top}

    def approves(self, wish: Wish, approval: str, now: float) -> bool:
        """Whether somebody else has granted exactly this, now, and it was not used."""
        request = self.requests.get(approval)
        return (
            request is not None
            and request["for"] == (*wish.same(), self.tree)
            and request["granted_at"] is not None
            and now < request["granted_at"] + WAIT_S
            and not request["used"]
        )


def _granted(who: Principal, where: str, scope: str) -> bool:
    return any(
        grant.workspace in ("*", where) and scope in {str(each) for each in grant.scopes} for grant in who.grants
    )


def _alike(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == text


# -- what stands in for a machine


class Trees:
    """Two workspaces without an index."""

    def chosen(self, who: Principal, name: str | None, scope: Scope) -> Workspace:
        seen = [each for each in WORKSPACES if who.sees(each)]
        if (name or "engine") not in seen:
            raise WorkspaceError("There is no such workspace.", "")
        if not who.may(scope, name or "engine"):
            raise Forbidden("Not there.", "")
        return Workspace(name or "engine", ROOT, 1)


class Log:
    """Keeps its entries in memory, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def append(self, who: Principal | None, action: str, _where: str, outcome: str, _detail: object) -> None:
        self.lines.append((who.key_id if who else "", action, outcome))


# -- chance


def _people() -> tuple[Principal, ...]:
    def holds(name: str, owner: str, **scopes: str) -> Principal:
        grants = [Grant(where, frozenset(map(Scope, held.split()))) for where, held in scopes.items()]
        return Principal(name, owner, tuple(grants))

    return (
        AGENT,
        LOCAL,
        holds("reader", "ada", engine="read", tools="read"),
        holds("runner", "ada", engine="read execute"),
        holds("writer", "bob", engine="read execute write", tools="execute"),
        holds("boss", "eve", engine="read execute write approve", tools="approve"),
        Principal("judge", "fay", (Grant(ALL_WORKSPACES, frozenset({Scope.APPROVE})),)),
        Principal("nobody", "gus", ()),
    )


PEOPLE = _people()


def _book(chance: random.Random) -> Book:
    def asking() -> Asking:
        return chance.choice(list(Asking))

    recipes = (
        Recipe("build", Does.BUILD, LIMITS, (("make",),), approval=asking()),
        Recipe("tests", Does.TESTS, LIMITS, (("ctest", "-R", "{filter}"),), (FILTER,), approval=asking()),
        Recipe("only_tools", Does.TESTS, LIMITS, (("make",),), workspaces=("tools",), approval=asking()),
        Recipe("apply_patch", Does.PATCH, LIMITS, (), (FILTER,), then=chance.choice(["tests", ""]), approval=asking()),
        Recipe("write_branch", Does.BRANCH, LIMITS, (), (Argument("branch", "[A-Za-z]{1,20}"),), approval=asking()),
    )

    def some(*choices: str) -> tuple[str, ...]:
        return tuple(chance.sample(choices, chance.choice([0, 0, 0, 1, 1, 2])))

    rules = tuple(
        Rule(
            f"rule {number}",
            chance.randint(-1, 1),
            chance.choice([Effect.ALLOW, Effect.ALLOW, Effect.ASK, Effect.DENY]),
            tools=some("run", "r*", "job"),
            recipes=some("build", "tests", "apply*", "write_branch", "*"),
            workspaces=some("engine", "t*", "*"),
            keys=some("agent", "runner", "w*", "boss"),
            owners=some("ada", "b*", "an agent*"),
            does=tuple(chance.sample(list(Does), chance.choice([0, 0, 1]))),
            modes=tuple(chance.sample(list(Mode), chance.choice([0, 0, 1]))),
            patch=chance.choice([None, None, True, False]),
            arguments=chance.choice([(), (), (("filter", "Abc"),)]),
        )
        for number in range(chance.choice([0, 0, 2, 5, 8]))
    )
    return Book(recipes, rules)


def _wish(chance: random.Random) -> Wish:
    recipe = chance.choice(["build", "tests", "only_tools", "apply_patch", "write_branch", "rm -rf", "BUILD"])
    taken: dict[str, list[tuple[str, ...]]] = {
        "tests": [(), ("filter=Abc",), ("filter=Xyz",)],
        "apply_patch": [(), ("filter=Abc",)],
        "write_branch": [("branch=fix",), ("branch=other",)],
    }
    fitting = taken.get(recipe, [()])
    odd: list[tuple[str, ...]] = [
        ("filter=--all",),
        ("filter=a;b",),
        ("filter=$(id)",),
        ("filter=",),
        ("filter=" + "A" * 21,),
        ("filter=A\nB",),
        ("filter=A", "filter=B"),
        ("other=A",),
        ("filter",),
    ]
    return Wish(
        chance.choices(PEOPLE, (4, 1, 1, 4, 4, 3, 1, 1))[0],
        chance.choice(WORKSPACES),
        recipe,
        chance.choice(odd if chance.random() < 0.15 else fitting),
        chance.choice(["", "", "--- a/x\n+++ b/x\n"]),
        chance.random() < 0.8,
    )


# -- the law


@pytest.fixture
def approvals() -> Iterator[tuple[Approvals, Clock]]:
    """In memory where there is such a folder: a disk would be asked ten thousand times to confirm a write."""
    clock, memory = Clock(), Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        closing(Approvals(Path(folder) / "approvals.db", clock)) as made,
    ):
        yield made, clock


def test_of_ten_thousand_random_calls_none_runs_that_nobody_let_pass(approvals: tuple[Approvals, Clock]) -> None:
    ends: Counter[str] = Counter()
    for seed in range(WORLDS):
        _play(random.Random(seed), *approvals, ends)
    assert sum(ends.values()) == WORLDS * CALLS == 10_000
    # It is about something: of each kind there are many.
    assert min(ends[kind] for kind in ("run by rule or mode", "run by approval", "asked", "refused")) > 100, ends


def _play(chance: random.Random, approvals: Approvals, clock: Clock, ends: Counter[str]) -> None:
    clock.now += KEPT_S + 2 * WAIT_S  # nothing of another world is left
    book = _book(chance)
    reference = Reference(book, chance.choice([Mode.READ, Mode.ASK, Mode.ASK, Mode.TRUSTED, Mode.TRUSTED]))
    runs, log = CountedRuns(book), Log()
    stand_ins: Any = (Trees(), log, approvals, None, None, Policy(lambda: book, reference.mode), runs, None)
    router = Router(Desk(Settings(Path("/nowhere")), *stand_ins), (RUN,))
    before: list[Wish] = []
    for _ in range(CALLS):
        _meanwhile(chance, reference, runs, approvals, clock)
        wish = chance.choice(before) if before and chance.random() < 0.5 else _wish(chance)
        if reference.says(wish) != "no":
            before.append(wish)
        approval = _brought(chance, reference, wish)
        granted = [
            each for each, request in reference.requests.items() if request["granted_at"] and not request["used"]
        ]
        if granted and chance.random() < 0.1:  # another wants to use up what was let pass
            approval = chance.choice(granted)
            wish = replace(reference.requests[approval]["wish"], who=chance.choice(PEOPLE))
        ends[_one(router, reference, runs, wish, approval, clock.now)] += 1
    router.close()
    begun = [line for line in log.lines if line[2] == "begun"]
    assert len(begun) == len(runs.started)
    assert [line[0] for line in begun] == [who for who, _ in runs.started]


def _one(router: Router, reference: Reference, runs: CountedRuns, wish: Wish, approval: str, now: float) -> str:
    """One call, its effect compared with what is promised."""
    promised, approved = reference.says(wish), reference.approves(wish, approval, now)
    verdict = decide(
        reference.book, wish.who, wish.where, "run", {"recipe": wish.recipe, "arguments": wish.arguments,
        "patch": wish.patch}, reference.mode,
    )  # fmt: skip
    assert {"run": "allow", "ask": "ask", "no": "deny"}[promised] == verdict.effect, (wish, verdict)
    count = len(runs.started)
    arguments = {
        "recipe": wish.recipe,
        "arguments": list(wish.arguments),
        "patch": wish.patch,
        "changes": wish.changes,
        "workspace": wish.where,
        "approval": approval,
    }
    result = router.call(Call(wish.who), "run", arguments)
    started = runs.started[count:]
    expected = promised == "run" or (promised == "ask" and approved)
    assert len(started) == expected, (wish, promised, approved, result.text)
    if not expected:
        assert result.is_error
        _noted(reference, wish, result.text)
        return "asked" if promised == "ask" else "refused"
    if promised == "ask":
        reference.requests[approval]["used"] = True
    ((who, prepared),) = started
    assert (who, prepared.workspace, prepared.recipe.name) == (wish.who.key_id, wish.where, wish.recipe)
    assert (prepared.patch, prepared.changes) == (wish.patch, wish.changes)
    assert prepared.state.commit == f"{runs.tree:040x}"
    return "run by approval" if promised == "ask" else "run by rule or mode"


def _noted(reference: Reference, wish: Wish, text: str) -> None:
    """Remembers what was asked for, as its text says it."""
    _, found, rest = text.partition("Asked, as ")
    if found:
        assert reference.says(wish) == "ask"
        reference.requests.setdefault(
            rest.split(";")[0],
            {"for": (*wish.same(), reference.tree), "granted_at": None, "decided": False, "used": False, "wish": wish},
        )


def _meanwhile(
    chance: random.Random, reference: Reference, runs: CountedRuns, approvals: Approvals, clock: Clock
) -> None:
    """What others do between two calls: the tree changes, time passes, people and agents decide."""
    if chance.random() < 0.03:
        reference.tree = runs.tree = reference.tree + 1
    clock.now += chance.choice([0, 1, 30, WAIT_S / 3]) if chance.random() < 0.2 else 0
    waiting = [each for each, request in reference.requests.items() if not request["decided"]]
    # The latest first: people decide what they have just been asked, and try what was decided now and then.
    chosen = waiting[-1:] if chance.random() < 0.6 else []
    if reference.requests and chance.random() < 0.1:
        chosen.append(chance.choice(list(reference.requests)))
    for approval in chosen:
        judge, grant = chance.choice(PEOPLE), chance.random() < 0.9
        request = reference.requests[approval]
        asked: Wish = request["wish"]
        may = _granted(judge, asked.where, "approve") and judge.key_id != asked.who.key_id
        try:
            approvals.decide(approval, judge, grant)
        except HubError:
            continue  # it waits no more, or is not his
        assert may, "nobody decides who may not, and none his own"
        request["decided"] = True
        if grant:
            request["granted_at"] = clock.now


def _brought(chance: random.Random, reference: Reference, wish: Wish) -> str:
    """The id of an approval that is brought along: a fitting one, another's, one that was used, or none at all."""
    known = list(reference.requests)
    fitting = [each for each in known if reference.requests[each]["wish"] == wish]
    kind = chance.random()
    if fitting and kind < 0.7:
        return fitting[-1] if chance.random() < 0.7 else chance.choice(fitting)
    if known and kind < 0.85:
        return chance.choice(known)
    return chance.choice(["", "0" * 32, "approved", "' OR 1=1 --", "*"])
