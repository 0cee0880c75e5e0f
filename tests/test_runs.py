"""Recipes that are run: real git, the real sandbox, and what is told of it all."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import results, sandbox
from agents.cursors import Cursors
from agents.desk import Desk
from agents.errors import PatchError, RecipeError, SandboxUnavailable, ToolRefused, UnknownRun
from agents.model import AGENT, Call, Finding, FindingKind, Limits, Run, RunState, Step
from agents.parameters import checked
from agents.patches import Patch, PatchedFile
from agents.policy import Policy
from agents.recipes import Does, Recipe
from agents.runs import MOST_QUEUED, Runs, in_one_line, run_shape, told, told_output
from agents.runs.keeping import Records
from agents.runs.preparing import told_of
from agents.runs.running import MOST_QUEUED_OF_ONE, _told_output
from agents.text import DEFAULT_TOKENS, MOST_TOKENS, tokens
from agents.tools.model import Tool
from agents.tools.running import JOB, RUN, _as_json
from agents.worktrees import TreeState
from hub.auth.approvals import MOST_TOLD_CHARS, Approvals
from hub.auth.audit import AuditLog
from hub.auth.model import LOCAL, Scope
from hub.errors import Forbidden, UnknownSession
from hub.prompting import visible
from tests.support.running import BROKEN, PATCH, SOURCE, WAIT_S, Place, alive, key, made_in, opened
from tests.support.served import until

pytestmark = pytest.mark.skipif(not sandbox.look().available, reason="nothing can be run apart here")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def place(made: Path) -> Iterator[Place]:
    with opened(made) as it:
        yield it


# What becomes of a run


def test_a_run_is_done_in_a_copy_and_leaves_nothing_in_the_tree(place: Place) -> None:
    before = sorted(place.tree.iterdir())
    run = place.ended("tests", arguments={"filter": "$(id); x"})
    assert (run.state, run.reason) == (RunState.PASSED, "")
    assert [step.code for step in run.steps] == [0, 0]
    assert run.output.startswith(f"{SOURCE}noted\n")
    assert "half.o" in run.output
    assert run.output.endswith("$(id); x\n")  # one word, and nothing looked into it
    assert {"bubblewrap", "seccomp"} <= set(run.layers)
    assert run.commit == place.git("rev-parse", "HEAD").strip()
    assert sorted(place.tree.iterdir()) == before
    assert place.git("status", "--porcelain") == ""


def test_what_is_not_committed_is_run_too_unless_it_is_left_out(place: Place) -> None:
    (place.tree / "extra.txt").write_text("only here\n")
    first, second = place.prepared("tests"), place.prepared("tests", changes=False)
    assert first.commit == second.commit
    assert first.bound != second.bound
    assert first.told["uncommitted changes"] == ["extra.txt"]
    assert second.told["uncommitted changes"] == "none"
    assert "only here" in place.ended("tests").output
    assert "only here" not in place.ended("tests", changes=False).output


def test_what_was_prepared_is_run_although_the_tree_has_changed_since(place: Place) -> None:
    prepared = place.prepared("tests")
    (place.tree / "extra.txt").write_text("too late\n")
    assert place.prepared("tests").bound != prepared.bound
    run = place.runs.start(LOCAL, prepared)
    assert "too late" not in place.runs.wait(run.id, LOCAL, WAIT_S).output


def test_another_argument_patch_or_recipe_is_bound_otherwise(place: Place) -> None:
    bound = [
        place.prepared("tests"),
        place.prepared("tests", arguments={"filter": "A"}),
        place.prepared("tests", patch=PATCH),
        place.prepared("tests", patch=BROKEN),
        place.prepared("apply_patch", patch=PATCH),
        place.prepared("says"),
    ]
    assert len({prepared.bound for prepared in bound}) == len(bound)
    assert place.prepared("tests").bound == bound[0].bound


def test_a_failure_is_told_with_its_place_and_the_symbol_that_stands_there(place: Place) -> None:
    run = place.ended("apply_patch", patch=BROKEN)
    assert (run.state, run.reason, run.patch) == (RunState.FAILED, "Step 1 ended with code 1.", "")
    errors = [finding for finding in run.findings if finding.kind is FindingKind.ERROR]
    assert [(error.path, error.line) for error in errors] == [("half.cc", 3)]
    assert "numbre" in errors[0].message
    assert errors[0].symbols[0] == "half"
    assert "-  return number / 2;\n+  return numbre / 2;" in run.diff
    text = told(run)
    assert text.index("half.cc:3") < text.index("What the patch changed") < text.index("Output of c++")
    assert text.splitlines()[-1] == "Next: explore half, mend it, and run apply_patch again."


def test_a_patch_that_passed_is_put_on_a_branch_and_no_other_is(place: Place) -> None:
    (place.tree / "extra.txt").write_text("only here\n")
    run = place.ended("apply_patch", patch=PATCH)
    assert (run.state, run.patch) == (RunState.PASSED, run.id)
    asked = {"run": run.id, "branch": "agent/half", "message": "Halve by shifting"}
    prepared = place.prepared("write_branch", arguments=asked)
    assert prepared.told["files"] == ["half.cc +1 -1"]
    assert (prepared.told["branch"], prepared.told["message"]) == ("agent/half", "Halve by shifting")
    assert "left out" in str(prepared.told["uncommitted changes"])
    written = place.ended("write_branch", arguments=asked)
    assert written.state is RunState.PASSED, written.reason
    commit = place.git("rev-parse", "agent/half").strip()
    assert commit in written.output
    assert place.git(
        "show", "-s", "--format=%s|%an|%P", commit
    ).strip() == f"Halve by shifting|{LOCAL.owner}|{run.commit}".replace("'", " ")
    assert place.git("diff", "--stat", f"{run.commit}..{commit}").split()[0] == "half.cc"
    assert place.git("status", "--porcelain").split() == ["M", "extra.txt"]
    for other in (place.ended("tests").id, place.ended("apply_patch", patch=BROKEN).id):
        with pytest.raises(RecipeError, match="none that passed with a patch"):
            place.prepared("write_branch", arguments={**asked, "run": other})
    with pytest.raises(UnknownRun):
        place.prepared("write_branch", arguments={**asked, "run": "0" * 16})
    with pytest.raises(Forbidden):
        place.prepared("write_branch", arguments=asked, principal=key("k1"))


def test_a_patch_recipe_needs_a_patch_and_one_that_can_be_read(place: Place) -> None:
    for patch in ("", "nonsense", PATCH.replace("half.cc", "../half.cc")):
        with pytest.raises(PatchError):
            place.prepared("apply_patch", patch=patch)
    run = place.ended("apply_patch", patch=PATCH.replace("number / 2", "number / 3"))
    assert run.state is RunState.BROKEN
    assert "half.cc" in run.reason


def test_who_asks_for_input_gets_none_and_what_is_written_is_plain_and_without_secrets(place: Place) -> None:
    run = place.ended("says")
    assert (run.state, run.reason) == (RunState.FAILED, "Step 1 ended with code 3.")
    assert run.output == 'onered\\u0000\\xff password = "[redacted:password]"\ngot=\n'
    kept = (place.settings.data / "runs" / f"{run.id}.json").read_text()
    assert "hunter2" not in kept


@given(st.binary(max_size=400))
@settings(max_examples=25)
def test_an_output_of_anything_is_kept_as_plain_text_of_a_bounded_length(output: bytes) -> None:
    text = _told_output(output * 9)
    assert text == visible(text)
    assert len(text) <= 2 * len(output * 9) + 40


def test_a_run_that_takes_too_long_is_stopped_and_the_rest_left_undone(place: Place) -> None:
    run = place.ended("brief")
    assert (run.state, run.reason) == (RunState.STOPPED, "It took longer than 1 s.")
    assert ("echo", "never") not in [step.argv for step in run.steps]


def test_builds_of_a_workspace_share_a_cache_that_no_other_sees(place: Place) -> None:
    place.ended("tests")
    caches = place.settings.data / "runs" / "caches"
    if Path("/usr/bin/ccache").exists():
        assert [entry.name for entry in caches.iterdir()] == ["tree"]
        filled = sorted(caches.rglob("*"))
        assert len(filled) > 3
        patched = place.ended("tests", patch=PATCH)  # which is compiled, and kept nowhere
        assert (patched.state, sorted(caches.rglob("*"))) == (RunState.PASSED, filled)
    with opened(place.folder, agents_cache=False) as without:
        assert without.runs._cache(without.prepared("tests")) is None


@given(st.lists(st.text(min_size=1, max_size=400), max_size=90), st.text(max_size=300))
@settings(max_examples=20)
def test_what_a_person_is_told_is_never_too_long_to_be_asked(paths: list[str], line: str) -> None:
    state = TreeState("c" * 40, "t" * 40, "d", tuple(paths), tuple((path, "because") for path in paths), (line,))
    patch = Patch(tuple(PatchedFile(path, 1, 2) for path in paths), 1, 2, line * 900, (line,))
    apply = Recipe("apply_patch", Does.PATCH, Limits(1.0, 1, 1, 1, 1))
    told_to = told_of(LOCAL, apply, apply.limits, (("make", line),), state, patch, "", "")
    assert len(json.dumps(told_to)) <= MOST_TOLD_CHARS
    text = str(told_to)
    assert not re.search("[\u200b\u202e]", text)
    assert told_to["patch"] == visible(patch.text) or "characters more" in str(told_to["patch"])


# Ending, and what is left


def test_a_cancelled_run_ends_with_all_that_it_has_started(place: Place) -> None:
    run = place.begun()
    place.runs.cancel(run.id, LOCAL)
    ended = place.runs.wait(run.id, LOCAL, WAIT_S)
    assert (ended.state, ended.reason) == (RunState.CANCELLED, "It was cancelled.")
    assert alive() == []
    assert place.runs.cancel(run.id, LOCAL) == ended


def test_closing_ends_what_runs_and_what_waits(made: Path) -> None:
    with opened(made) as place:
        first = place.begun()
        second = place.runs.start(LOCAL, place.prepared("tests"))
        place.runs.close()
        assert alive() == []
        for run in (first, second):
            assert place.runs.run(run.id, LOCAL).state is RunState.CANCELLED
        with pytest.raises(ToolRefused):
            place.runs.start(LOCAL, place.prepared("tests"))


def test_runs_are_known_after_a_restart_and_those_that_had_not_ended_are_broken(place: Place) -> None:
    run = place.ended("tests")
    running = place.begun()
    later = place.again()
    try:
        assert later.run(run.id, LOCAL) == run
        assert later.run(running.id, LOCAL).state is RunState.RUNNING  # its process lives
        with pytest.raises(ToolRefused):
            later.cancel(running.id, LOCAL)
        place.runs.cancel(running.id, LOCAL)
        place.runs.wait(running.id, LOCAL, WAIT_S)
        left = replace(run, id="0123456789abcdef", state=RunState.RUNNING, ended_at=None)
        dead = Records(place.settings.data / "runs")
        dead.keep(left)
        dead.close()
        broken = later.run(left.id, LOCAL)
        assert (broken.state, bool(broken.reason)) == (RunState.BROKEN, True)
        listed = later.runs(LOCAL)
        assert {run.id, running.id, left.id} <= {each.id for each in listed}
        assert [each.created_at for each in listed] == sorted((each.created_at for each in listed), reverse=True)
    finally:
        later.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_of_ours_costs_one_run_and_the_next_one_works(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(results, "read", lambda *_: 1 / 0)
        run = place.ended("tests")
    assert (run.state, run.reason) == (RunState.BROKEN, "The hub made a mistake.")
    until(lambda: not any(thread.is_alive() for thread in place.runs._threads))
    assert place.ended("tests").state is RunState.PASSED


def test_a_run_is_kept_for_a_day(made: Path) -> None:
    with opened(made) as place:
        run = place.ended("tests")
        tomorrow = Runs(
            place.settings, place.workspaces, place.sessions, place.settings.data, lambda: run.created_at + 25 * 3_600.0
        )
        try:
            assert run.id not in {each.id for each in tomorrow.runs(LOCAL)}
            assert not (place.settings.data / "runs" / f"{run.id}.json").exists()
        finally:
            tomorrow.close()
        assert run.id not in {each.id for each in place.runs.runs(LOCAL)}


def test_records_are_for_their_owner_alone_and_nothing_else_stays(place: Place) -> None:
    place.ended("apply_patch", patch=PATCH)
    folder = place.settings.data / "runs"
    for entry in folder.iterdir():
        if entry.is_file():
            assert entry.stat().st_mode & 0o777 == 0o600, entry
    assert not list((folder / "trees").rglob("half.cc"))


# Who may


def test_a_run_of_another_key_is_as_one_that_is_not_there(place: Place) -> None:
    run = place.ended("tests", principal=key("k1"))
    assert place.runs.run(run.id, key("k1")) == run
    assert place.runs.run(run.id, LOCAL) == run
    told_of = []
    others = ((run.id, key("k2")), ("0" * 16, key("k2")), (run.id, key("k1", Scope.READ)), ("../x", LOCAL))
    for asked, principal in others:
        with pytest.raises(UnknownRun) as error:
            place.runs.run(asked, principal)
        told_of.append((error.value.message, error.value.hint))
        with pytest.raises(UnknownRun):
            place.runs.cancel(asked, principal)
    assert len(set(told_of)) == 1
    assert place.runs.runs(key("k2")) == ()


def test_only_who_may_execute_prepares_and_only_recipes_of_the_workspace(place: Place) -> None:
    with pytest.raises(Forbidden):
        place.prepared("tests", principal=key("k1", Scope.READ, Scope.WRITE))
    with pytest.raises(RecipeError, match="no recipe 'elsewhere'"):
        place.prepared("elsewhere")
    names = [recipe.name for recipe in place.runs.recipes(key("k1"), "tree")]
    assert names == ["apply_patch", "brief", "forever", "says", "tests"]
    assert "write_branch" in {recipe.name for recipe in place.runs.recipes(AGENT, "tree")}


def test_nothing_is_run_where_nothing_can_be_run_apart(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "look", lambda: sandbox.Sandboxing(available=False, hint="Install it."))
    with pytest.raises(SandboxUnavailable) as error:
        place.prepared("tests")
    assert error.value.hint == "Install it."


def test_one_key_cannot_fill_the_queue_and_the_queue_has_an_end(place: Place) -> None:
    place.begun(key("k0"))
    prepared = place.prepared("tests")
    for name in ("k1", "k2"):
        for _ in range(MOST_QUEUED_OF_ONE):
            place.runs.start(key(name), prepared)
        if name == "k1":
            with pytest.raises(ToolRefused):
                place.runs.start(key(name), prepared)
    assert MOST_QUEUED == 2 * MOST_QUEUED_OF_ONE
    with pytest.raises(ToolRefused):
        place.runs.start(key("k3"), prepared)
    waiting = place.runs.runs(key("k1"))[0]
    assert place.runs.cancel(waiting.id, key("k1")).state is RunState.CANCELLED
    assert place.runs.start(key("k3"), prepared).state is RunState.QUEUED


def test_two_runs_go_on_at_once_where_the_settings_say_so(made: Path) -> None:
    with opened(made, agents_runs=2) as place:
        place.begun()
        assert place.ended("tests").state is RunState.PASSED


# The tools


@contextmanager
def desk_of(place: Place) -> Iterator[Desk]:
    data = place.settings.data
    no_lasting: Any = None  # which no tool that runs something asks
    audit, approvals = AuditLog(data / "audit.jsonl"), Approvals(data / "approvals.db")
    try:
        yield Desk(
            place.settings,
            place.workspaces,
            audit,
            approvals,
            place.sessions,
            Cursors(b"x" * 32),
            Policy.of(place.settings),
            place.runs,
            no_lasting,
        )
    finally:
        approvals.close()


def called(tool: Tool, desk: Desk, call: Call = Call(AGENT), **arguments: object) -> str:  # noqa: B008 - frozen
    return tool.run(desk, call, checked(tool.parameters, arguments))


def test_run_gives_the_result_or_the_id_by_which_job_gives_it(place: Place) -> None:
    heard: list[str] = []
    with desk_of(place) as desk:
        call = Call(AGENT, tell=lambda words, _done, _total: heard.append(words))
        text = called(RUN, desk, call, recipe="tests", workspace="tree", arguments=["filter=Some"])
        assert text.startswith("PASSED: tests in tree, run ")
        assert "| Some" in text
        assert text.splitlines()[-1] == "Next: nothing is left to do."
        assert any(words.startswith("step 1 of 2: c++") for words in heard)
        run_id = re.findall(r"run ([0-9a-f]{16})", text)[0]
        assert run_id in called(JOB, desk)
        assert called(JOB, desk, id=run_id) == text
        assert SOURCE.splitlines()[0] in called(JOB, desk, id=run_id, action="output")
        shape = json.loads(called(JOB, desk, Call(AGENT, as_json=True), id=run_id))
        assert (shape["state"], shape["steps"][0]["code"]) == ("passed", 0)
        running = place.begun(AGENT)
        waiting = called(JOB, desk, id=running.id, wait=0)
        assert waiting.endswith(f"Next: call job with id={running.id} and wait=25 until it has ended.")
        assert called(JOB, desk, id=running.id, action="cancel").startswith("CANCELLED: forever")
        with pytest.raises(UnknownRun):
            called(JOB, desk, Call(key("k9")), id=running.id)


def test_run_without_a_recipe_lists_them_with_their_arguments(place: Place) -> None:
    with desk_of(place) as desk:
        text = called(RUN, desk, workspace="tree")
        assert "- tests (tests, a person is asked)" in text
        assert "    filter: ; default All; may be [A-Za-z ;$()]{1,40}" in text
        assert "write_branch" in text
        assert "elsewhere" not in text
        shape = json.loads(called(RUN, desk, Call(AGENT, as_json=True), workspace="tree"))
        assert {recipe["effect"] for recipe in shape["recipes"]} == {"ask"}
        assert RUN.bind is not None
        assert RUN.bind(desk, Call(AGENT), checked(RUN.parameters, {"workspace": "tree"})).prepared is None


def test_what_was_bound_is_what_is_run(place: Place) -> None:
    arguments = checked(RUN.parameters, {"recipe": "tests", "workspace": "tree"})
    with desk_of(place) as desk:
        assert RUN.bind is not None
        bound = RUN.bind(desk, Call(AGENT), arguments)
        assert bound.told["commands"] == [
            "c++ -c half.cc -o half.o",
            "sh -c 'cat half.cc note.txt extra.txt; ls; echo $0' All",
        ]
        assert len(json.dumps(dict(bound.told))) < 20_000
        (place.tree / "extra.txt").write_text("too late\n")
        assert RUN.bind(desk, Call(AGENT), arguments).state != bound.state
        assert "too late" not in RUN.run(desk, Call(AGENT, bound=bound), arguments)


def test_whoever_leaves_before_he_has_an_id_leaves_nothing_running(place: Place) -> None:
    with desk_of(place) as desk:
        text = called(RUN, desk, Call(AGENT, cancelled=lambda: bool(alive())), recipe="forever", workspace="tree")
        run = place.runs.runs(AGENT)[0]
        assert run.id in text
        assert place.runs.wait(run.id, AGENT, WAIT_S).state is RunState.CANCELLED


def test_a_session_that_is_none_is_told_before_anything_is_run(place: Place) -> None:
    with desk_of(place) as desk:
        before = len(place.runs.runs(LOCAL))
        with pytest.raises(UnknownSession):
            called(RUN, desk, recipe="tests", workspace="tree", session="s_0")
        assert len(place.runs.runs(LOCAL)) == before


def test_what_failed_is_remembered_for_the_session(place: Place) -> None:
    session = place.sessions.open(AGENT, "tree")
    place.ended("apply_patch", principal=AGENT, session=session.handle, patch=BROKEN)
    notes = place.sessions.notes(AGENT, session.handle)
    assert any("numbre" in note.title + note.text for note in notes)


# How it is told

_WORDS = st.text(max_size=300)
_FINDINGS = st.lists(
    st.builds(
        Finding,
        st.sampled_from(FindingKind),
        _WORDS,
        st.just("gcc"),
        _WORDS,
        st.integers(0, 9),
        _WORDS,
        _WORDS,
        st.lists(_WORDS, max_size=3).map(tuple),
    ),
    max_size=60,
).map(tuple)
_RUNS = st.builds(
    Run,
    id=st.just("0123456789abcdef"),
    workspace=st.just("tree"),
    recipe=st.just("tests"),
    asked_by=st.just("k1"),
    state=st.sampled_from(RunState),
    commit=st.just("c" * 40),
    reason=_WORDS,
    steps=st.lists(st.builds(Step, st.just(("make",)), st.just(1), st.just(1.0)), max_size=3).map(tuple),
    output=st.text(max_size=200).map(lambda text: text * 900),
    diff=_WORDS,
    findings=_FINDINGS,
    created_at=st.just(1.0),
)


@given(_RUNS)
@settings(max_examples=15)
def test_a_run_is_told_within_the_budget_and_no_line_of_the_tree_passes_for_ours(run: Run) -> None:
    text = told(run)
    assert tokens(text) <= DEFAULT_TOKENS
    lines = text.split("\n")
    assert lines[0].startswith(f"{run.state.upper()}: tests in tree, run {run.id}")
    assert lines[-1].startswith("Next: ")
    ours = re.compile(
        r"  \d+\. make: |\d+ (failed|crash|error|warning)|- |    \| |\| |What the patch|Output|\.\.\. cut|… cut|Next: "
    )
    assert [line for line in lines[1:] if not ours.match(line)] == []
    assert tokens(told_output(run)) <= MOST_TOKENS
    assert "\n" not in in_one_line(run)
    assert tokens(_as_json(run)) <= MOST_TOKENS
    assert json.loads(_as_json(run))["state"] == run.state
    assert json.loads(json.dumps(run_shape(run)))["findings"] == run_shape(run)["findings"]
