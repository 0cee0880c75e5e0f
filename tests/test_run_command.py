"""``codehub run`` and ``codehub recipes``: the same sandbox for whoever sits at the machine."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agents import sandbox
from agents.command import main
from agents.model import AGENT
from hub.auth.approvals import Approvals
from hub.auth.model import LOCAL
from tests.support.command import COMMAND, environment
from tests.support.running import PATCH, WAIT_S, Place, alive, made_in, opened
from tests.support.served import until

pytestmark = pytest.mark.skipif(not sandbox.look().available, reason="nothing can be run apart here")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def place(made: Path) -> Iterator[Place]:
    with opened(made) as it:
        yield it


@pytest.fixture
def shell(made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.chdir(made / "tree")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*map(str, arguments), "--data", str(made / "data")])
        return code, *capsys.readouterr()

    return call


def test_a_developer_runs_the_same_recipe_and_is_told_by_the_exit_code(made: Path, shell: Any) -> None:
    code, out, err = shell("run", "tests", "filter=Mine")
    assert (code, out.splitlines()[0].split(",")[0]) == (0, "PASSED: tests in tree")
    assert "| Mine" in out
    assert err.splitlines()[0] == "$ c++ -c half.cc -o half.o"
    assert any(line.startswith("step 2 of 2: sh") for line in err.splitlines())
    code, out, err = shell("run", "says", "--json")
    assert (code, json.loads(out)["state"], err.count("$")) == (1, "failed", 0)
    assert shell("run", "brief", "--json")[0] == 2
    (made / "fix.diff").write_text(PATCH)
    code, out, _ = shell("run", "apply_patch", "--patch", made / "fix.diff", "--no-changes")
    assert (code, "number >> 1" in out) == (0, True)
    for wrong in (["run", "none"], ["run", "tests", "filter"], ["run", "tests", "--patch", "no.diff"]):
        code, out, err = shell(*wrong)
        assert (code, out, err[:9]) == (2, "", "codehub: ")


def test_recipes_are_shown_with_what_is_missing_for_them(made: Path, shell: Any) -> None:
    code, out, _ = shell("recipes", "--json")
    shown = json.loads(out)
    assert (code, shown["mode"], shown["problems"]) == (0, "ask", [])
    assert {recipe["name"] for recipe in shown["recipes"]} >= {"tests", "elsewhere", "apply_patch", "write_branch"}
    file = made / "data" / "recipes.toml"
    before = file.read_text()
    try:
        file.write_text(
            '[recipes.odd]\ndoes = "build"\nsteps = [["no-such-program"], ["/no/such/one"], ["./configure"]]\n'
        )
        code, out, _ = shell("recipes")
        assert code == 0
        assert out.count("problem: odd: ") == 2
        file.write_text("")
        code, out, _ = shell("recipes")
        assert (code, "codehub recipes --template cmake > " in out) == (1, True)
        file.write_text("[recipes.odd]\n")
        code, out, _ = shell("recipes", "--json")
        assert (code, json.loads(out)["error"][:26]) == (2, "does in [recipes.odd] of /")
    finally:
        file.write_text(before)
    code, out, _ = shell("recipes", "--template", "cmake")
    assert (code, out.startswith("# What coding agents may have run")) == (0, True)


def test_a_person_reads_a_patch_line_by_line_before_he_decides(made: Path, place: Place, shell: Any) -> None:
    with closing(Approvals(made / "data" / "approvals.db")) as approvals:
        prepared = place.prepared("apply_patch", patch=PATCH.replace(">> 1;", ">> 1;  // \u202e"), principal=AGENT)
        approvals.ask(AGENT, "tree", "run", prepared.bound, prepared.told)
        code, out, _ = shell("approve")
    assert code == 0
    assert '  commands: ["c++ -c half.cc -o half.o", ' in out
    assert "\n  | -  return number / 2;\n  | +  return number >> 1;  // \\u202e\n" in out


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_command_that_is_stopped_leaves_nothing_running(place: Place, how: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", COMMAND, "run", "forever"]
    with subprocess.Popen(
        command,
        cwd=place.tree,
        env=environment(place.settings.data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            until(lambda: bool(alive()))
            process.send_signal(how)
            assert process.wait(WAIT_S) == code
        finally:
            process.kill()
    until(lambda: not alive())
    last = place.runs.runs(LOCAL)[0]
    assert (last.recipe, last.state.ended) == ("forever", True)
