"""The way of every call: who may, whether a person lets it pass, what is kept of it; and what never comes of it."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import records
from agents.desk import Desk
from agents.model import AGENT, Arguments, Binding, Call, Effect, Verdict
from agents.parameters import Number, Text
from agents.router import Result, Router
from agents.text import MOST_TOKENS, tokens
from agents.tools import TOOLS
from agents.tools.model import Tool
from hub.auth.audit import AuditLog, Entry
from hub.auth.model import LOCAL, Principal, Scope
from hub.errors import SettingsError
from indexer.errors import DataFolderError, QuestionError
from tests.support.desks import desk_in, holder
from tests.support.server_state import Clock

READER = holder("reader", Scope.READ)
RUNNER = holder("runner", Scope.READ, Scope.EXECUTE)


def ruled(effect: Effect = Effect.ALLOW, reason: str = "") -> Any:
    """A policy that decides as it is told."""

    class Rules:
        def decide(self, *_asked: object) -> Verdict:
            return Verdict(effect, "a-rule", reason)

    return Rules()


class Doing:
    """Tools of which one reads and one acts, and what was asked of them."""

    def __init__(self) -> None:
        self.seen: list[tuple[Call, Arguments]] = []
        self.answer: Callable[[], str] = lambda: "told"
        self.state = "commit 1"

    def _run(self, _desk: Desk, call: Call, arguments: Arguments) -> str:
        self.seen.append((call, arguments))
        return self.answer()

    def _bind(self, _desk: Desk, _call: Call, arguments: Arguments) -> Binding:
        return Binding(arguments["workspace"], self.state, {"recipe": arguments["recipe"]}, prepared="this")

    @property
    def tools(self) -> tuple[Tool, ...]:
        workspace, approval = Text("workspace"), Text("approval", most=64)
        return (
            Tool(
                "read_file",
                "Read",
                "Reads.",
                (Text("path", required=True), Number("limit", "", 1, 9, 3), workspace),
                *(Scope.READ, True, False, True, False, self._run),
            ),
            Tool(
                "run",
                "Run",
                "Runs.",
                (Text("recipe", required=True), Text("session"), approval, workspace),
                *(Scope.EXECUTE, False, True, False, False, self._run, self._bind, True),
            ),
            Tool("job", "Job", "Waits.", (Text("id"),), *(Scope.EXECUTE, True, False, True, False, self._run)),
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_in(tmp_path_factory.mktemp("router")) as desk:
        yield desk


@pytest.fixture
def desk(shared: Desk, tmp_path: Path) -> Desk:
    """With a record of its own."""
    return replace(shared, audit=AuditLog(tmp_path / "audit.jsonl"), policy=ruled())


@pytest.fixture
def doing() -> Doing:
    return Doing()


@pytest.fixture
def router(desk: Desk, doing: Doing) -> Iterator[Router]:
    made = Router(desk, doing.tools)
    yield made
    made.close()


def ask(router: Router, principal: Principal, name: str, **arguments: object) -> Result:
    return router.call(Call(principal), name, arguments)


def recorded(router: Router, desk: Desk) -> list[Entry]:
    """What stands in the record once the router is closed, the oldest first; it is whole."""
    router.close()
    assert desk.audit.verify().broken_at is None
    return list(reversed(desk.audit.entries()))


def test_a_tool_gets_checked_arguments_and_the_workspace_by_name(router: Router, doing: Doing) -> None:
    assert ask(router, READER, "read_file", path="a.cpp") == Result("told")
    assert doing.seen[0][1] == {"path": "a.cpp", "limit": 3, "workspace": "w"}


@pytest.mark.parametrize("principal", [READER, RUNNER, AGENT, LOCAL, holder("nobody"), holder("x", Scope.ADMIN)])
def test_what_is_listed_is_what_can_be_called(router: Router, principal: Principal) -> None:
    listed = [tool.name for tool in router.listed(principal)]
    for name in ("read_file", "run", "job"):
        answer = ask(router, principal, name, path="a") if name == "read_file" else ask(router, principal, name)
        hidden = answer.text.startswith("There is no such tool")
        assert hidden == (name not in listed)


def test_a_hidden_a_missing_and_a_disabled_tool_are_answered_alike(desk: Desk, doing: Doing) -> None:
    off = replace(desk.settings, agents_disabled=("read_file",))
    router = Router(replace(desk, settings=off), doing.tools)
    answers = {ask(router, READER, name, path="a").text for name in ("run", "read_file", "rm_rf", "", "tool\n.run")}
    router.close()
    assert len(answers) == 1
    assert doing.seen == []


def test_turning_off_what_is_no_tool_is_told(desk: Desk, doing: Doing) -> None:
    off = replace(desk.settings, agents_disabled=("red_file",))
    with pytest.raises(SettingsError, match="red_file"):
        Router(replace(desk, settings=off), doing.tools)


def test_a_workspace_that_is_not_seen_is_answered_as_one_that_is_not_there(router: Router) -> None:
    blind = holder("blind", Scope.READ, workspace="other")
    unseen, absent = (ask(router, blind, "read_file", path="a", workspace=name) for name in ("w", "v"))
    assert unseen.is_error
    assert unseen.text.replace("'w'", "'v'") == absent.text


def test_a_wrong_workspace_is_answered_with_those_that_are_seen(router: Router) -> None:
    answer = ask(router, READER, "read_file", path="a", workspace="v")
    assert answer == Result("There is no workspace 'v'. There are: w.", is_error=True)


def test_a_scope_held_elsewhere_does_not_count_here(router: Router, doing: Doing) -> None:
    grants = (*READER.grants, *holder("", Scope.EXECUTE, workspace="other").grants)
    split = Principal("split", "", grants)
    assert "run" in [tool.name for tool in router.listed(split)]
    answer = ask(router, split, "run", recipe="build", workspace="w")
    assert answer.is_error
    assert "no execute grant" in answer.text
    assert doing.seen == []


def test_the_connection_says_which_workspace_is_meant_where_the_arguments_do_not(router: Router, doing: Doing) -> None:
    there = router.call(Call(READER, workspace="w"), "read_file", {"path": "a"})
    wrong = router.call(Call(READER, workspace="v"), "read_file", {"path": "a"})
    right = router.call(Call(READER, workspace="v"), "read_file", {"path": "a", "workspace": "w"})
    assert [there.is_error, wrong.is_error, right.is_error] == [False, True, False]


def test_a_session_says_which_workspace_is_meant(router: Router, doing: Doing, desk: Desk) -> None:
    handle = desk.sessions.open(RUNNER, "w").handle
    assert router.call(Call(RUNNER, workspace="v"), "run", {"recipe": "a", "session": handle}) == Result("told")
    assert doing.seen[0][1]["workspace"] == "w"
    other = ask(router, RUNNER, "run", recipe="a", session=handle, workspace="v")
    assert other.text.startswith("The session is of the workspace w.")
    stranger = holder("stranger", Scope.EXECUTE)
    texts = {ask(router, stranger, "run", recipe="a", session=name).text for name in (handle, "s_0")}
    assert len(texts) == 1
    assert len(doing.seen) == 1


@pytest.mark.parametrize(
    "arguments",
    [{}, {"path": 1}, {"path": "a", "limit": 99}, {"path": "a", "more": 1}, {"path": "x" * 1_000_000}, {"path": None}],
)
def test_wrong_arguments_are_answered_with_what_is_right(router: Router, doing: Doing, arguments: Any) -> None:
    answer = router.call(Call(READER), "read_file", arguments)
    assert answer.is_error
    assert "path" in answer.text or "limit" in answer.text
    assert len(answer.text) < 500
    assert doing.seen == []
    assert ask(router, READER, "read_file", path="a") == Result("told")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["read_file", "run", "job"]) | st.text(max_size=20),
    arguments=st.none() | st.dictionaries(st.sampled_from(["path", "limit", "workspace", "recipe"]) | st.text(), JSON),
)
def test_no_call_raises(router: Router, name: str, arguments: Any) -> None:
    answer = router.call(Call(RUNNER), name, arguments)
    assert answer.text
    assert tokens(answer.text) <= MOST_TOKENS


def test_a_result_never_exceeds_the_cap(router: Router, doing: Doing) -> None:
    doing.answer = lambda: "many words of it\n" * 100_000
    answer = ask(router, READER, "read_file", path="a")
    assert tokens(answer.text) <= MOST_TOKENS
    assert "cut" in answer.text


def test_a_mistake_of_ours_costs_one_call_and_tells_nothing(
    router: Router, doing: Doing, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> str:
        raise ValueError("the path /secret/thing")

    doing.answer = broken
    answer = ask(router, READER, "read_file", path="a")
    assert answer.is_error
    assert "made a mistake" in answer.text
    assert "secret" not in answer.text
    assert "A tool broke: ValueError" in [record.getMessage() for record in caplog.records]
    doing.answer = lambda: "well again"
    assert ask(router, READER, "read_file", path="a") == Result("well again")
    assert [entry.outcome for entry in recorded(router, desk)] == ["failed", "done"]


def test_an_error_is_told_with_its_next_step(router: Router, doing: Doing) -> None:
    def wrong() -> str:
        raise QuestionError("There is no such file.", "Ask for another.")

    doing.answer = wrong
    assert ask(router, READER, "read_file", path="a") == Result(
        "There is no such file. Ask for another.", is_error=True
    )


def test_every_call_leaves_a_line_without_a_word_of_what_was_asked(router: Router, desk: Desk) -> None:
    desk.policy = ruled()
    ask(router, READER, "read_file", path="canary")
    ask(router, READER, "read_file", path="canary", limit=99)
    ask(router, RUNNER, "run", recipe="canary")
    lines = recorded(router, desk)
    assert [(line.who, line.action, line.workspace, line.outcome) for line in lines] == [
        ("reader", "tool.read_file", "w", "done"),
        ("reader", "tool.read_file", "", "failed"),
        ("runner", "tool.run", "w", "begun"),
        ("runner", "tool.run", "w", "done"),
    ]
    assert lines[0].detail["rule"] == "a-rule"
    assert {"digest", "seconds", "tokens"} <= set(lines[0].detail)
    assert "canary" not in desk.audit.path.read_text(encoding="utf-8")


def test_a_call_that_nobody_waits_for_any_more_is_recorded_as_such(router: Router, desk: Desk) -> None:
    router.call(Call(READER, cancelled=lambda: True), "read_file", {"path": "a"})
    assert [line.outcome for line in recorded(router, desk)] == ["cancelled"]


def test_the_same_arguments_have_the_same_digest_and_others_another(router: Router, desk: Desk) -> None:
    for path in ("a", "a", "b"):
        ask(router, READER, "read_file", path=path)
    first, again, other = (line.detail["digest"] for line in recorded(router, desk))
    assert first == again != other


def test_a_denial_is_written_before_it_is_told_and_many_are_counted(desk: Desk, doing: Doing) -> None:
    clock = Clock()
    desk.policy = ruled(Effect.DENY, "Not here.")
    router = Router(desk, doing.tools, clock=clock)
    for _ in range(50):
        answer = ask(router, RUNNER, "run", recipe="build")
        assert answer.text.startswith("Not here.")
        assert [entry.outcome for entry in desk.audit.entries()] == ["denied"]
    clock.now += records.HELD_S
    ask(router, RUNNER, "run", recipe="build")
    assert [entry.detail.get("times") for entry in desk.audit.entries()] == [50, None]
    ask(router, RUNNER, "run", recipe="build")
    assert len(recorded(router, desk)) == 3
    assert doing.seen == []


def test_a_flood_of_denials_of_many_kinds_leaves_few_lines(desk: Desk, doing: Doing) -> None:
    router = Router(desk, doing.tools, clock=Clock())
    for number in range(records.LINES_PER_MINUTE + 50):
        ask(router, holder(f"key {number}"), "read_file", path="a")
    assert len(desk.audit.entries(1_000)) == records.LINES_PER_MINUTE


def test_what_may_act_is_recorded_before_it_does(router: Router, doing: Doing, desk: Desk) -> None:
    doing.answer = lambda: desk.audit.entries(1)[0].outcome
    assert ask(router, RUNNER, "run", recipe="build").text == "begun"


def test_nothing_acts_while_it_cannot_be_recorded_and_reading_goes_on(
    router: Router, doing: Doing, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_line: object) -> None:
        raise DataFolderError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(desk.audit, "append", full)
        answer = ask(router, RUNNER, "run", recipe="build")
        assert answer.text.startswith("This cannot be recorded")
        assert ask(router, RUNNER, "read_file", path="a") == Result("told")
    assert [arguments.get("recipe") for _, arguments in doing.seen] == [None]
    assert ask(router, RUNNER, "run", recipe="build") == Result("told")


def asked_of(answer: Result) -> str:
    """The id of the approval that an answer tells of."""
    assert answer.is_error
    return answer.text.split('approval="')[1].split('"')[0]


def test_an_approved_call_runs_once_and_as_it_was_shown(router: Router, doing: Doing, desk: Desk) -> None:
    desk.policy = ruled(Effect.ASK)
    waiting = asked_of(ask(router, RUNNER, "run", recipe="build"))
    assert asked_of(ask(router, RUNNER, "run", recipe="build")) == waiting
    assert asked_of(ask(router, RUNNER, "run", recipe="build", approval=waiting)) == waiting
    assert desk.approvals.one(waiting, LOCAL).told == {"recipe": "build"}
    desk.approvals.decide(waiting, LOCAL, grant=True)
    assert doing.seen == []
    assert ask(router, RUNNER, "run", recipe="build", approval=waiting) == Result("told")
    assert doing.seen[0][0].bound == Binding("w", "commit 1", {"recipe": "build"}, "this")
    again = ask(router, RUNNER, "run", recipe="build", approval=waiting)
    assert "used already" in again.text
    assert asked_of(again) != waiting
    assert len(doing.seen) == 1
    assert [line.outcome for line in recorded(router, desk)] == ["asked"] * 3 + ["begun", "done", "asked"]


@pytest.mark.parametrize("change", ["argument", "tree", "caller"])
def test_an_approval_of_something_else_runs_nothing(router: Router, doing: Doing, desk: Desk, change: str) -> None:
    desk.policy = ruled(Effect.ASK)
    waiting = asked_of(ask(router, RUNNER, "run", recipe=f"build {change}"))
    desk.approvals.decide(waiting, LOCAL, grant=True)
    caller, recipe = RUNNER, f"build {change}"
    match change:
        case "argument":
            recipe = "install"
        case "tree":
            doing.state = "commit 2"
        case _:
            caller = holder("another", Scope.EXECUTE)
    answer = ask(router, caller, "run", recipe=recipe, approval=waiting)
    assert asked_of(answer) != waiting
    assert doing.seen == []


def test_what_a_person_refused_is_not_asked_again(router: Router, desk: Desk) -> None:
    desk.policy = ruled(Effect.ASK)
    waiting = asked_of(ask(router, RUNNER, "run", recipe="refused"))
    desk.approvals.decide(waiting, LOCAL, grant=False)
    answer = ask(router, RUNNER, "run", recipe="refused", approval=waiting)
    assert answer.text.startswith("A person has refused this.")
    assert all(one.approval_id != waiting for one in desk.approvals.pending())


def test_two_who_use_one_approval_at_once_get_one_run(router: Router, doing: Doing, desk: Desk) -> None:
    desk.policy = ruled(Effect.ASK)
    waiting = asked_of(ask(router, RUNNER, "run", recipe="twice"))
    desk.approvals.decide(waiting, LOCAL, grant=True)
    start = threading.Barrier(8)

    def use() -> None:
        start.wait(10)
        ask(router, RUNNER, "run", recipe="twice", approval=waiting)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(doing.seen) == 1


def test_an_agent_of_this_machine_cannot_decide_what_it_asked(router: Router, desk: Desk) -> None:
    desk.policy = ruled(Effect.ASK)
    waiting = asked_of(ask(router, AGENT, "run", recipe="own"))
    assert not AGENT.may(Scope.APPROVE, "w")
    assert desk.approvals.decide(waiting, LOCAL, grant=True).asked_by == AGENT.key_id


def test_costly_calls_are_limited_for_each_key(desk: Desk, doing: Doing) -> None:
    counted: list[tuple[str, int]] = []

    def limit(name: str, most: int) -> float:
        counted.append((name, most))
        return 7.2 if len(counted) > 1 else 0.0

    router = Router(desk, doing.tools, limit)
    assert not ask(router, RUNNER, "run", recipe="a").is_error
    over = ask(router, RUNNER, "run", recipe="a")
    assert "8 seconds" in over.text
    assert not ask(router, RUNNER, "read_file", path="a").is_error
    assert [name for name, _ in counted] == ["run runner"] * 2
    assert [line.outcome for line in recorded(router, desk)] == ["begun", "done", "denied", "done"]


def test_lines_are_written_in_the_order_of_the_calls(router: Router, desk: Desk) -> None:
    for number in range(40):
        ask(router, READER, "read_file", path="a", limit=number % 9 + 1)
    ask(router, RUNNER, "run", recipe="last")
    lines = recorded(router, desk)
    assert [line.action for line in lines] == ["tool.read_file"] * 40 + ["tool.run"] * 2
    assert [line.detail["digest"] for line in lines[:9]] == [line.detail["digest"] for line in lines[9:18]]


def test_the_real_tools_are_refused_without_their_scope(desk: Desk, shared: Desk) -> None:
    router = Router(replace(desk, policy=shared.policy), TOOLS)
    for tool in TOOLS:
        without = holder("without", *set(Scope) - {tool.scope})
        assert ask(router, without, tool.name).text.startswith("There is no such tool")
        assert tool.name in json.dumps([one.definition() for one in router.listed(LOCAL)])
    router.close()


def test_a_closed_router_refuses_what_acts(router: Router) -> None:
    router.close()
    assert ask(router, RUNNER, "run", recipe="late").text.startswith("This cannot be recorded")
