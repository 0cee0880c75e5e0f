"""The tools that run recipes and follow what they run. Whether they may has been decided before."""

import json

from agents.desk import Desk
from agents.errors import ArgumentError
from agents.model import Arguments, Binding, Call, Effect, Run
from agents.parameters import Choice, Flag, Number, Text, Texts
from agents.recipes import Does, Recipe, given
from agents.runs import Prepared, in_one_line, run_shape, told, told_output
from agents.text import MOST_TOKENS, one_line, shortened, tokens
from agents.tools.model import Tool
from hub.auth.model import Scope

# Seconds that a call waits for the end of its run: below every client's patience, the shortest of which is 60. 5 to 40.
WAIT_S = 20.0
MOST_WAIT_S = 25
MOST_PATCH_CHARS = 400_000
_MOST_LISTED = 20


def _bind(desk: Desk, call: Call, arguments: Arguments) -> Binding:
    """What a run would do, for whoever is asked about it; nothing where recipes are only listed."""
    if not arguments["recipe"]:
        return Binding(arguments["workspace"], "", {})
    prepared = _prepared(desk, call, arguments)
    return Binding(prepared.workspace, prepared.bound, prepared.told, prepared)


def _prepared(desk: Desk, call: Call, arguments: Arguments) -> Prepared:
    """What the call would do. Everything that can be wrong with it is found here, before a person is asked."""
    prepared = desk.runs.prepare(
        call.principal,
        arguments["workspace"] or None,
        arguments["recipe"],
        given(arguments["arguments"]),
        arguments["patch"],
        arguments["changes"],
    )
    desk.runs.check_session(call.principal, prepared.workspace, arguments["session"])
    return prepared


def _run(desk: Desk, call: Call, arguments: Arguments) -> str:
    if not arguments["recipe"]:
        return _listing(desk, call, arguments)
    bound = call.bound.prepared if call.bound is not None else None
    # What was bound is what was decided about, and is not worked out a second time.
    prepared = bound if isinstance(bound, Prepared) else _prepared(desk, call, arguments)
    run = desk.runs.start(call.principal, prepared, arguments["session"])
    answered = False
    try:
        run = desk.runs.wait(run.id, call.principal, WAIT_S, call.tell, call.cancelled)
        answered = not call.cancelled()
    finally:
        if not answered:  # whoever asked has left, and does not know its id
            run = desk.runs.cancel(run.id, call.principal)
    return _answer(call, run)


def _listing(desk: Desk, call: Call, arguments: Arguments) -> str:
    """The recipes that may be used, with their arguments, and whether a person is asked."""
    workspace = desk.workspaces.chosen(call.principal, arguments["workspace"] or None, Scope.EXECUTE).name
    recipes = desk.runs.recipes(call.principal, workspace)
    standing = {recipe.name: _standing(desk, call, workspace, recipe) for recipe in recipes}
    if call.as_json:
        listed = [{**_recipe_shape(recipe), "effect": standing[recipe.name].value} for recipe in recipes]
        return json.dumps({"workspace": workspace, "recipes": listed}, ensure_ascii=False)
    lines = [f"Recipes in {one_line(workspace)}. Each runs on a throw-away copy, without network:"]
    for recipe in recipes:
        lines.append(f"- {recipe.name} ({recipe.does}, {_EFFECTS[standing[recipe.name]]}): {one_line(recipe.about)}")
        for argument in recipe.arguments:
            may = ", ".join(argument.choices) or argument.pattern
            default = "required" if argument.default is None else f"default {argument.default}"
            lines.append(one_line(f"    {argument.name}: {argument.about}; {default}; may be {may}"))
    if not any(recipe.does in {Does.BUILD, Does.TESTS} for recipe in recipes):
        lines.append("None builds or tests: whoever runs the hub adds them as `codehub recipes` says.")
    lines.append('Next: call run with recipe=NAME and arguments=["name=value"].')
    return shortened("\n".join(lines), MOST_TOKENS)


_EFFECTS = {Effect.ALLOW: "runs at once", Effect.ASK: "a person is asked", Effect.DENY: "not allowed"}


def _standing(desk: Desk, call: Call, workspace: str, recipe: Recipe) -> Effect:
    """What would be decided with every argument left out that may be."""
    written = tuple(
        f"{argument.name}={argument.choices[0] if argument.choices else _SAMPLE}"
        for argument in recipe.arguments
        if argument.default is None
    )
    asked = {"recipe": recipe.name, "arguments": written, "patch": "", "changes": True}
    verdict = desk.policy.decide(call.principal, workspace, "run", asked)
    # A required argument has no value here that would surely be allowed.
    return Effect.ASK if verdict.rule == "arguments" else verdict.effect


_SAMPLE = "0000"


def _recipe_shape(recipe: Recipe) -> dict[str, object]:
    return {
        "name": recipe.name,
        "does": recipe.does.value,
        "about": recipe.about,
        "arguments": [
            {
                "name": argument.name,
                "pattern": argument.pattern,
                "choices": list(argument.choices),
                "default": argument.default,
                "about": argument.about,
            }
            for argument in recipe.arguments
        ],
    }


def _job(desk: Desk, call: Call, arguments: Arguments) -> str:
    if not arguments["id"]:
        if arguments["action"] != "status":
            raise ArgumentError("id is missing.", "Call job without an action for the latest ids.")
        return _latest(desk, call)
    run_id = arguments["id"]
    if arguments["action"] == "cancel":
        desk.runs.cancel(run_id, call.principal)
        return _answer(call, desk.runs.wait(run_id, call.principal, WAIT_S, call.tell, call.cancelled))
    if arguments["action"] == "output":
        run = desk.runs.run(run_id, call.principal)
        return _as_json(run) if call.as_json else told_output(run)
    return _answer(call, desk.runs.wait(run_id, call.principal, arguments["wait"], call.tell, call.cancelled))


def _latest(desk: Desk, call: Call) -> str:
    runs = desk.runs.runs(call.principal)
    if call.as_json:
        shown = [{**run_shape(run), "output": "", "diff": "", "findings": []} for run in runs[:_MOST_LISTED]]
        return json.dumps({"runs": shown, "total": len(runs)}, ensure_ascii=False)
    if not runs:
        return "Nothing was run within the last 24 hours. Next: call run without a recipe for what there is."
    more = [f"... {len(runs) - _MOST_LISTED} older ones"] if len(runs) > _MOST_LISTED else []
    return "\n".join([*(one_line(in_one_line(run)) for run in runs[:_MOST_LISTED]), *more])


def _answer(call: Call, run: Run) -> str:
    if call.as_json:
        return _as_json(run)
    return told(run, call.principal.may(Scope.WRITE, run.workspace))


def _as_json(run: Run) -> str:
    """A run as one object that is not cut anywhere: what is long in it is shortened until it fits."""
    shape = run_shape(run)
    text = json.dumps(shape, ensure_ascii=False)
    for room in (40_000, 20_000, 5_000, 0):
        if tokens(text) <= MOST_TOKENS:
            break
        output = shape["output"]
        shape |= {
            "output": output[max(0, len(output) - room) :],
            "diff": shape["diff"][:room],
            "findings": shape["findings"][: room // 1_000],
        }
        text = json.dumps(shape, ensure_ascii=False)
    return text


RUN = Tool(
    name="run",
    title="Run a recipe",
    about=(
        "Builds, tests or tries a patch by a recipe, in a sandbox over a copy of the tree. Without recipe: lists them. "
        "Gives failed tests with symbols, or a job's id."
    ),
    parameters=(
        Text("recipe"),
        Texts("arguments", "name=value", most_items=20, most=240),
        Text("patch", "unified diff", most=MOST_PATCH_CHARS),
        Flag("changes", "uncommitted too", default=True),
        Text("approval"),
        Text("session"),
        Text("workspace"),
    ),
    scope=Scope.EXECUTE,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=False,
    run=_run,
    bind=_bind,
    needs_person=True,
)
JOB = Tool(
    name="job",
    title="Follow a run",
    about="Waits for a job of run, shows its whole output, or cancels it. Without id: the latest ones.",
    parameters=(
        Text("id"),
        Choice("action", "", ("status", "output", "cancel"), "status"),
        Number("wait", "seconds", 0, MOST_WAIT_S, 20),
    ),
    scope=Scope.EXECUTE,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_job,
)
