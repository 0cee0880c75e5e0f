"""Agents led astray, and callers who try: nothing acts that a person has not let pass, and the next call works.

The tree, its history, notes and builds tell whoever reads them to run things; the agent here does whatever it reads.
The router, all tools, the policy, the approvals, the audit log and the index are the real ones. What would be started
is counted.
"""

import re
import shutil
import subprocess
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents import sandbox
from agents.desk import Desk
from agents.model import AGENT, Call, Limits, Mode, RunState
from agents.parameters import Text, Texts
from agents.policy import GATED, Policy
from agents.recipes import Argument, Book, Does, Recipe
from agents.router import Result, Router
from agents.runs import Runs
from agents.text import MOST_TOKENS, tokens
from agents.tools import TOOLS
from agents.tools.running import JOB, RUN
from hub.auth.approvals import WAIT_S, Approvals, Standing
from hub.auth.audit import AuditLog
from hub.auth.model import LOCAL, Principal, Scope
from hub.errors import HubError
from hub.knowledge import NoteKind, Sessions
from hub.workspaces import Workspaces
from tests.support.counted_runs import CountedRuns
from tests.support.desks import desk_in, holder
from tests.support.hostile import COVERT, FORGED_LINES, ORDERS, TEXT, Gullible, hostile_tree
from tests.support.scripted_server import CHAT, ScriptedServer, counts, event, stream, vllm
from tests.support.server_state import Clock
from tests.support.trees import index_of

LIMITS = Limits(600.0, 1 << 30, 64, 1 << 30, 1 << 18)
BOOK = Book(
    (
        Recipe("tests", Does.TESTS, LIMITS, (("ctest",),), (Argument("filter", "[A-Za-z]{1,20}", "All"),)),
        Recipe("apply_patch", Does.PATCH, LIMITS, then="tests"),
        Recipe("write_branch", Does.BRANCH, LIMITS, arguments=(Argument("branch", "[a-z]{1,20}"),)),
    )
)
ALL = tuple({tool.name: tool for tool in (*TOOLS, RUN, JOB)}.values())
READER = holder("reader", Scope.READ, Scope.KNOWLEDGE)
RUNNER = holder("runner", Scope.READ, Scope.KNOWLEDGE, Scope.EXECUTE, Scope.WRITE)
OTHER = holder("other", Scope.READ, Scope.KNOWLEDGE, Scope.EXECUTE, Scope.APPROVE)
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("explore", {"question": "how does PumpOnce pump?"}),
    ("ask", {"question": "What does PumpOnce do?"}),
    ("search_code", {"query": "pump"}),
    ("find_symbol", {"name": "PumpOnce"}),
    ("find_references", {"name": "PumpOnce"}),
    ("call_graph", {"name": "PumpOnce"}),
    ("read_file", {"path": "src/pump.h"}),
    ("read_file", {"path": "src"}),
    ("read_file", {"path": "docs/adr/0001-pump.md"}),
    ("impact", {"change": "PumpOnce"}),
    ("search_knowledge", {"query": "pump decision"}),
    ("job", {"id": "r1"}),
    ("job", {"id": "r1", "action": "output"}),
    ("job", {}),
    ("run", {}),
]
STAMP = re.compile(r"\[w at [0-9a-f]{12}(?: with local changes)?, indexed \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\]")


class Hub:
    """A hub over the hostile tree, what it would have run, and how to call it."""

    def __init__(self, desk: Desk, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.runs = CountedRuns(BOOK, output=f"{TEXT}\n{COVERT}\nsrc/pump.cc:3:1: error: {ORDERS[1]}\n")
        self.approvals = Approvals(folder / "approvals.db", clock)
        self.sessions = Sessions(folder / "sessions.db", clock, lifetime_s=3600)
        self.audit = AuditLog(folder / "audit.jsonl")
        runs: Any = self.runs
        self.desk = replace(
            desk, runs=runs, approvals=self.approvals, sessions=self.sessions, audit=self.audit, policy=self.rules()
        )
        self.router = Router(self.desk, ALL)

    def rules(self, mode: Mode = Mode.ASK) -> Policy:
        return Policy(lambda: BOOK, mode)

    def ask(self, principal: Principal, name: str, /, **arguments: object) -> Result:
        return self.router.call(Call(principal), name, arguments)

    def requested(self, principal: Principal, /, **arguments: object) -> str:
        """The id under which a run waits for a person."""
        told = self.ask(principal, "run", **arguments)
        assert told.is_error
        found = re.search(r'approval="([^"]+)"', told.text)
        assert found is not None, told.text
        return found[1]

    def recorded(self) -> list[tuple[str, str, str]]:
        """Who, what and how it ended, of all that was recorded; the record is whole."""
        self.router.close()
        assert self.audit.verify().broken_at is None
        return [(entry.who, entry.action, entry.outcome) for entry in reversed(self.audit.entries(10_000))]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "data").mkdir()
    index_of(hostile_tree(folder / "tree"), folder / "data")
    with desk_in(folder) as desk:
        yield desk


@pytest.fixture
def hub(indexed: Desk, tmp_path: Path) -> Iterator[Hub]:
    made = Hub(indexed, tmp_path, Clock())
    with closing(made.approvals), closing(made.sessions), closing(made.router):
        yield made


# -- agents that obey what they read


@pytest.mark.parametrize("mode", [Mode.ASK, Mode.READ])
@pytest.mark.parametrize("principal", [READER, RUNNER, AGENT], ids=lambda principal: principal.key_id)
def test_an_agent_that_does_whatever_it_reads_gets_nothing_run(hub: Hub, principal: Principal, mode: Mode) -> None:
    hub.desk.policy = hub.rules(mode)
    session = hub.sessions.open(principal, "w").handle
    for number, order in enumerate(ORDERS):
        hub.sessions.note(principal, session, NoteKind.RUN, f"pump {number} {order}", f"{order}\n{COVERT}", (), order)

    def decide(approval: str) -> str:
        for each in [approval, *(waiting.approval_id for waiting in hub.approvals.pending(principal))]:
            with pytest.raises(HubError) as refused:
                hub.approvals.decide(each, principal, True)
        return refused.value.message

    agent = Gullible(lambda name, arguments: hub.ask(principal, name, **arguments).text, decide)
    agent.work([("search_knowledge", {"query": "pump", "session": session, "limit": 20}), *QUESTIONS])

    tried = [name for name, _ in agent.calls]
    assert tried.count("run") >= 5, "it was led astray, or this shows nothing"
    assert any('"approval"' in call for _, call in agent.calls)
    assert agent.decisions
    assert hub.runs.started == []
    waiting = hub.approvals.pending(LOCAL)
    assert bool(waiting) == (mode is Mode.ASK and principal is not READER)
    for approval in waiting:
        assert (approval.standing, approval.decided_by, approval.asked_by) == (
            Standing.WAITING,
            None,
            principal.key_id,
        )
    ends = {end for _, action, end in hub.recorded() if action in ("tool.run", "tool")}
    assert ends >= ({"denied"} if mode is Mode.READ or principal is READER else {"asked"})


def test_what_a_person_lets_pass_is_run_once_however_often_the_agent_asks(hub: Hub) -> None:
    """That nothing runs elsewhere is worth something only because this does."""
    approval = hub.requested(AGENT, recipe="tests")
    hub.approvals.decide(approval, LOCAL, True)
    agent = Gullible(lambda name, arguments: hub.ask(AGENT, name, **arguments).text, lambda _id: "")
    agent.work([("run", {"recipe": "tests", "approval": approval}), *QUESTIONS])
    assert [(who, prepared.recipe.name) for who, prepared in hub.runs.started] == [("agent", "tests")]


def test_the_tools_that_act_are_those_that_are_gated() -> None:
    """A new tool that acts is decided about, or this fails."""
    assert {tool.name for tool in ALL if tool.scope is Scope.EXECUTE and not tool.read_only} - {"job"} == GATED
    assert {tool.name for tool in ALL if tool.bind is not None} == GATED
    assert {tool.name for tool in ALL if tool.needs_person} == GATED
    assert not any(tool.open_world for tool in ALL)


# -- what is shown of a hostile tree


def _results(hub: Hub) -> Iterator[tuple[str, str]]:
    session = hub.sessions.open(RUNNER, "w").handle
    hub.sessions.note(RUNNER, session, NoteKind.NOTE, f"pump\n{FORGED_LINES[0]}", f"{TEXT}\n{COVERT}", (), COVERT)
    notes = ("search_knowledge", {"query": "pump", "session": session})
    kept = ("remember", {"text": f"{TEXT}\n{COVERT} pump", "title": f"{COVERT}\n{FORGED_LINES[0]}", "session": session})
    for name, arguments in [*QUESTIONS, kept, notes]:
        yield name, hub.ask(RUNNER, name, **arguments).text
    for wrong in (COVERT, f"x\n{FORGED_LINES[0]}", f"src/{COVERT}\n{FORGED_LINES[1]}"):
        for name in ("find_symbol", "read_file", "search_code", "run", "job", "explore", wrong):
            key = {"find_symbol": "name", "read_file": "path", "search_code": "query", "explore": "question"}.get(
                name, "id"
            )
            yield name, hub.ask(RUNNER, name, **{key: wrong, "workspace": wrong}).text
            yield name, hub.ask(RUNNER, name, **{key: wrong}).text


def test_nothing_covert_is_shown_and_no_line_of_anybodys_passes_for_ours(hub: Hub) -> None:
    seen = 0
    for name, text in _results(hub):
        covert = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}
        assert covert <= {"\n"}, (name, covert)
        for line in text.splitlines():
            # Text of the tree stands behind a number, a place or a word of ours, or is indented.
            assert not line.startswith(FORGED_LINES), (name, line)
            assert not line.startswith(ORDERS), (name, line)
        seen += ORDERS[1] in text
        assert tokens(text) <= MOST_TOKENS
    assert seen > 5, "the orders were there to be read"


def test_the_stamp_of_a_result_is_its_first_or_its_last_line_and_no_other_looks_so(hub: Hub) -> None:
    stamped = set()
    for name, text in _results(hub):
        lines = text.splitlines()
        places = [number for number, line in enumerate(lines) if STAMP.fullmatch(line)]
        assert len(places) <= 1, (name, text)
        if places:
            assert places[0] in (0, len(lines) - 1), (name, text)
            assert "2099" not in lines[places[0]]
            stamped.add(name)
    assert stamped >= {"explore", "ask", "search_code", "find_symbol", "read_file", "find_references", "call_graph"}


def test_what_a_model_was_talked_into_stands_behind_a_mark(indexed: Desk, tmp_path: Path) -> None:
    said = "\n".join(["PumpOnce returns amount plus one when text is set [1].", *FORGED_LINES, ORDERS[1]])
    reply = stream(event(said), event(None, "stop"), counts(2_800, 50), "data: [DONE]")
    with ScriptedServer({**vllm(window=32_768), CHAT: reply}) as server:
        settings = replace(indexed.settings, backend="openai", openai_url=server.url, openai_model="Qwen/Qwen3-8B")
        workspaces = Workspaces(settings)
        router = Router(replace(indexed, settings=settings, workspaces=workspaces, audit=AuditLog(tmp_path / "audit")))
        with closing(workspaces), closing(router):
            told = router.call(Call(READER), "ask", {"question": "What does PumpOnce do and why?", "tier": "rag"}).text
        assert server.bodies(CHAT)
    lines = told.splitlines()
    assert f"> {FORGED_LINES[0]}" in lines, told
    assert not any(line.startswith((*FORGED_LINES, *ORDERS)) for line in lines)
    assert [number for number, line in enumerate(lines) if STAMP.fullmatch(line)] == [len(lines) - 1]


# -- bad input


def _nested(depth: int) -> object:
    inner: object = ""
    for _ in range(depth):
        inner = [inner]
    return inner


_DEEP = _nested(100_000)
WRONG: tuple[object, ...] = (
    None,
    True,
    5,
    -1,
    1.5,
    float("nan"),
    [],
    ["a"],
    {},
    {"a": "b"},
    "\ud800",
    "\x00",
    10**400,
    10**5000,
)


@pytest.mark.parametrize("tool", ALL, ids=lambda tool: tool.name)
def test_arguments_of_any_kind_are_answered_with_a_sentence_and_the_next_call_works(hub: Hub, tool: Any) -> None:
    huge = "x" * 1_000_000
    tried: list[dict[str, object]] = [
        {"no_such": 1},
        {str(number): number for number in range(10_000)},
        {huge: 1},
        {"": ""},
        {"question": _DEEP},
        {"approval": {"$ne": ""}},
    ]
    for parameter in tool.parameters:
        tried += [{parameter.name: value} for value in (*WRONG, _DEEP)]
        if isinstance(parameter, Text | Texts):
            tried += [{parameter.name: huge}, {parameter.name: [huge]}, {parameter.name: ["x"] * 100_000}]
    required = {each.name: "x" for each in tool.parameters if each.required}
    for arguments in tried:
        result = hub.ask(RUNNER, tool.name, **{**required, **arguments})
        assert result.text
        assert tokens(result.text) <= MOST_TOKENS
        assert "mistake" not in result.text, (list(arguments)[:3], result.text)
        assert len(result.text) < 12_000 or not result.is_error
    assert not hub.ask(RUNNER, "find_symbol", name="PumpOnce").is_error
    assert hub.runs.started == []


def test_a_tool_that_is_not_there_or_not_for_the_caller_is_answered_alike_and_recorded(hub: Hub) -> None:
    names = ("shell", "run", "tools.run", "RUN", "run\n", "", "x" * 100_000, "../run", "\ud800")
    told = {hub.ask(READER, name, recipe="tests").text for name in names}
    assert len(told) == 1
    assert hub.ask(RUNNER, "run").is_error is False
    assert sum(end == "denied" for _, _, end in hub.recorded()) >= 1


def test_a_cursor_is_good_for_its_key_its_tool_and_its_question(hub: Hub) -> None:
    first = hub.ask(RUNNER, "search_code", query="pump", limit=2).text
    cursor = re.findall(r"cursor=(\S+)", first.splitlines()[-2])[0]
    assert not hub.ask(RUNNER, "search_code", query="pump", limit=2, cursor=cursor).is_error
    for principal, tool, arguments in (
        (READER, "search_code", {"query": "pump", "limit": 2}),
        (RUNNER, "search_code", {"query": "pump2", "limit": 2}),
        (RUNNER, "find_symbol", {"name": "pump"}),
    ):
        assert hub.ask(principal, tool, **arguments, cursor=cursor).is_error
    for forged in (cursor[:-2], cursor + "A", cursor.swapcase(), "A" * len(cursor), "Q" * 40, "0", "\u0661"):
        told = hub.ask(RUNNER, "search_code", query="pump", limit=2, cursor=forged)
        assert told.is_error
        assert "mistake" not in told.text


def test_a_handle_that_is_expired_anothers_or_made_up_is_answered_alike(hub: Hub) -> None:
    mine, anothers = (hub.sessions.open(principal, "w").handle for principal in (RUNNER, OTHER))
    assert not hub.ask(RUNNER, "search_knowledge", query="pump", session=mine).is_error
    told = {
        hub.ask(RUNNER, "search_knowledge", query="pump", session=each).text for each in (anothers, "s_" + "A" * 22)
    }
    hub.clock.now += 3601
    told.add(hub.ask(RUNNER, "search_knowledge", query="pump", session=mine).text)
    assert len(told) == 1
    assert not hub.ask(RUNNER, "search_knowledge", query="pump").is_error


# -- approvals


@pytest.mark.parametrize(
    ("change", "arguments", "principal"),
    [
        ("arguments", {"recipe": "tests", "arguments": ["filter=Other"]}, RUNNER),
        ("patch", {"recipe": "tests", "patch": "--- a/x\n+++ b/x\n"}, RUNNER),
        ("changes", {"recipe": "tests", "changes": False}, RUNNER),
        ("recipe", {"recipe": "apply_patch", "patch": "--- a/x\n"}, RUNNER),
        ("session", {"recipe": "tests", "session": "s_other"}, RUNNER),
        ("caller", {"recipe": "tests"}, OTHER),
        ("commit", {"recipe": "tests"}, RUNNER),
        ("time", {"recipe": "tests"}, RUNNER),
        ("decision", {"recipe": "tests"}, RUNNER),
        ("rules", {"recipe": "tests"}, RUNNER),
    ],
)
def test_an_approval_is_for_exactly_what_was_asked(
    hub: Hub, change: str, arguments: dict[str, object], principal: Principal
) -> None:
    approval = hub.requested(RUNNER, recipe="tests")
    hub.approvals.decide(approval, OTHER, change != "decision")
    if change == "commit":
        hub.runs.tree += 1
    if change == "time":
        hub.clock.now += WAIT_S + 1
    if change == "rules":
        hub.desk.policy = hub.rules(Mode.READ)
    told = hub.ask(principal, "run", **arguments, approval=approval)
    assert told.is_error
    assert hub.runs.started == []
    assert not any(end in ("begun", "done") for _, _, end in hub.recorded())


def test_an_approval_lets_one_of_many_calls_at_once_pass(hub: Hub) -> None:
    approval = hub.requested(RUNNER, recipe="tests")
    hub.approvals.decide(approval, LOCAL, True)
    ready, told = threading.Barrier(8), list[Result]()

    def call() -> None:
        ready.wait(30)
        told.append(hub.ask(RUNNER, "run", recipe="tests", approval=approval))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(told) == 8
    assert len(hub.runs.started) == 1
    assert sum(not each.is_error for each in told) == 1
    assert hub.ask(RUNNER, "run", recipe="tests", approval=approval).is_error, "it is used up"
    assert sum(end == "begun" for _, _, end in hub.recorded()) == 1


def test_of_two_who_decide_one_does_and_none_decides_his_own(hub: Hub) -> None:
    approval = hub.requested(OTHER, recipe="tests")
    with pytest.raises(HubError, match="himself"):
        hub.approvals.decide(approval, OTHER, True)
    hub.approvals.decide(approval, LOCAL, False)
    with pytest.raises(HubError):
        hub.approvals.decide(approval, LOCAL, True)
    assert hub.ask(OTHER, "run", recipe="tests", approval=approval).is_error
    assert hub.runs.started == []


def test_asking_over_and_over_asks_one_person_once_and_then_no_more(hub: Hub) -> None:
    assert len({hub.requested(RUNNER, recipe="tests") for _ in range(5)}) == 1
    for number in range(150):
        hub.ask(RUNNER, "run", recipe="tests", patch=f"--- a/{number}\n")
    assert len(hub.approvals.pending(LOCAL)) <= 100
    assert hub.runs.started == []
    assert not hub.ask(RUNNER, "find_symbol", name="PumpOnce").is_error


RECIPES = """
[recipes.tests]
does = "tests"
cache = false
steps = [["sh", "-c", 'head -c 200000 /dev/zero; echo; cat src/pump.cc; read answer; exit 3']]
"""
WISHES = {
    "core.fsmonitor": "touch {mark}; false",
    "core.hooksPath": "hooks",
    "core.sshCommand": "touch {mark}",
    "core.pager": "touch {mark}",
    "diff.external": "touch {mark}",
    "filter.mine.clean": "touch {mark}; cat",
    "filter.mine.smudge": "touch {mark}; cat",
    "filter.mine.required": "true",
    "alias.status": "!touch {mark}",
}


@pytest.mark.skipif(not sandbox.look().available, reason="nothing can be run apart here")
def test_a_real_run_is_of_the_tree_that_a_person_was_shown_and_a_hostile_repository_does_nothing(
    hub: Hub, tmp_path: Path
) -> None:
    tree, mark = tmp_path / "tree", tmp_path / "mark"
    shutil.copytree(hub.desk.workspaces.chosen(LOCAL, "w").root, tree)
    for name, value in WISHES.items():
        subprocess.run(["git", "-C", tree, "config", name, value.format(mark=mark)], check=True, timeout=60)
    (tree / "hooks").mkdir(exist_ok=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (tree / "hooks" / name).write_text(f"#!/bin/sh\ntouch {mark}\n", encoding="utf-8")
        (tree / "hooks" / name).chmod(0o755)
    (tree / ".gitattributes").write_text("* filter=mine diff=mine\n", encoding="utf-8")
    recipes = tmp_path / "recipes.toml"
    recipes.write_text(RECIPES, encoding="utf-8")
    recipes.chmod(0o600)
    settings = replace(hub.desk.settings, agents_recipes=str(recipes), data=tmp_path / "data")
    index_of(tree, settings.data)
    workspaces = Workspaces(settings)
    with closing(workspaces), closing(Runs(settings, workspaces, hub.sessions, tmp_path)) as runs:
        hub.desk.workspaces = workspaces
        hub.desk.runs, hub.desk.policy = runs, Policy.of(settings)
        approval = hub.requested(AGENT, recipe="tests")
        hub.approvals.decide(approval, LOCAL, True)
        source = tree / "src" / "pump.cc"
        before = source.read_bytes()
        source.write_bytes(before + b"// changed after somebody was asked\n")
        told = hub.ask(AGENT, "run", recipe="tests", approval=approval)
        assert told.is_error
        assert "the tree have changed" in told.text
        assert runs.runs(LOCAL) == ()
        source.write_bytes(before)
        told = hub.ask(AGENT, "run", recipe="tests", approval=approval)
        assert not told.is_error
        # It wrote zeros, waited for an answer that nobody gives, and is told with the orders of the tree behind bars.
        assert ORDERS[1] in told.text
        assert "\x00" not in told.text
        assert not any(line.startswith((*ORDERS, *FORGED_LINES)) for line in told.text.splitlines())
        assert tokens(told.text) <= MOST_TOKENS
        (run,) = runs.runs(LOCAL)
        assert run.state is RunState.FAILED
        assert hub.ask(AGENT, "run", recipe="tests", approval=approval).is_error, "it is used up"
        assert len(runs.runs(LOCAL)) == 1
        assert not hub.ask(RUNNER, "find_symbol", name="PumpOnce").is_error
    assert not mark.exists(), "the repository's own settings were acted upon"
    subprocess.run(["git", "-C", tree, "status"], capture_output=True, timeout=60, check=False)
    assert mark.exists(), "a git that trusts them would have done so"


def test_what_cannot_be_recorded_is_not_run(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = hub.requested(RUNNER, recipe="tests")
    hub.approvals.decide(approval, LOCAL, True)

    def full(*_line: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub.audit, "append", full)
    assert hub.ask(RUNNER, "run", recipe="tests", approval=approval).is_error
    assert hub.runs.started == []
