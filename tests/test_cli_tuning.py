"""The commands that measure and fit retrieval, as their users run them."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hub.cli import main
from hub.retrieval import STORED_WEIGHTS
from indexer.index import DataFolder, Index
from tests.support.command import COMMAND, environment
from tests.support.trees import index_of, write_tree

VERBS = "opens closes rotates flushes locks frees counts sorts merges splits copies moves".split()
NOUNS = "journals cursors leases shards mirrors".split()

Shell = Callable[..., tuple[int, str]]


def documented(noun: str) -> str:
    return "".join(
        f"// {verb.capitalize()} all {noun} that nobody has asked for since the last {number} rounds.\n"
        f"int {verb.capitalize()}{noun.capitalize()}(int limit) {{\n  return limit - {number};\n}}\n\n"
        for number, verb in enumerate(VERBS, 2)
    )


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = write_tree(tmp_path / "tree", {f"{noun}.cc": documented(noun) for noun in NOUNS})
    index_of(root, tmp_path / "data")
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    return tmp_path / "data"


@pytest.fixture
def shell(data: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--data", str(data)])
        told = capsys.readouterr()
        return code, told.out + ("" if code < 2 else told.err)

    return run


def shape(shell: Shell, *arguments: str) -> Any:
    code, out = shell(*arguments, "--json")
    assert code == 0, out
    return json.loads(out)


def test_evaluate_prints_a_table_for_each_kind_of_question_and_what_was_hidden(shell: Shell, data: Path) -> None:
    code, out = shell("evaluate")
    assert code == 0
    assert "comment -> its function, " in out
    assert "name -> its symbol, " in out
    assert "commit message" not in out
    assert "The tree has no commits of git, so nothing is asked of its history." in out
    assert "60 of 60 comments that describe a function were hidden" in out
    assert [path.name for path in data.iterdir() if path.name.startswith("evaluation")] == []


def test_evaluate_as_json_holds_what_the_table_shows(shell: Shell) -> None:
    told = shape(shell, "evaluate", "--limit", "3")
    fused = {figure["kind"]: figure for figure in told["figures"] if figure["arm"] == "fused"}
    assert {kind: figure["questions"] for kind, figure in fused.items()} == {"description": 3, "name": 3}
    assert fused["name"]["mrr"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert told["revision"] is None
    assert any(note.startswith("Only 3 questions of kind name") for note in told["notes"])


def test_own_questions_are_asked_of_the_index_as_it_is(shell: Shell, tmp_path: Path) -> None:
    lines = [
        {"question": "rotates leases nobody has asked for", "gold": ["RotatesLeases"]},
        {"question": "journals", "gold": ["journals.cc", "gone.cc"]},
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    told = shape(shell, "evaluate", "--labels", str(file))
    fused = next(figure for figure in told["figures"] if figure["arm"] == "fused")
    assert (fused["kind"], fused["questions"], fused["hit"]["mean"]) == ("own", 2, 1.0)
    assert "Line 2: the index holds no file or symbol 'gone.cc'." in told["notes"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), (b"\xff\xfe{", "no UTF-8 text"), (b"{}", "Line 1 has no question")],
)
def test_questions_that_cannot_be_read_are_an_error(
    shell: Shell, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "labels.jsonl"
    if content is not None:
        file.write_bytes(content)
    code, out = shell("evaluate", "--labels", str(file))
    assert code == 2
    assert said in out


def test_a_tree_that_can_be_asked_nothing_says_so(shell: Shell, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "prose", {"README.md": "# Nothing\n\nNo code.\n"})
    assert shell("index", str(root))[0] == 0
    code, out = shell("evaluate", "--workspace", "prose")
    assert code == 1
    assert "There is nothing to ask" in out


def test_a_picture_of_no_known_kind_is_refused_at_once(shell: Shell, tmp_path: Path) -> None:
    code, out = shell("evaluate", "--plot", str(tmp_path / "figures.doc"))
    assert code == 2
    assert "names no kind of picture" in out


@pytest.mark.skipif(find_spec("matplotlib") is not None, reason="the extra `plots` is installed")
def test_a_picture_needs_an_extra_and_the_error_names_it(shell: Shell, tmp_path: Path) -> None:
    code, out = shell("evaluate", "--plot", str(tmp_path / "figures.png"))
    assert code == 2
    assert "code-knowledge-hub[plots]" in out


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra `plots` is not installed")
def test_the_figures_are_drawn(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "figures.svg"
    assert shell("evaluate", "--limit", "5", "--plot", str(file))[0] == 0
    assert "name -&gt; its symbol" in file.read_text(encoding="utf-8") or file.stat().st_size > 1000


def test_stopped_by_its_user_evaluate_leaves_nothing_behind(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "tree", {f"{number}/{noun}.cc": documented(noun) for number in range(20) for noun in NOUNS}
    )
    data = tmp_path / "data"
    index_of(write_tree(tmp_path / "small", {"a.cc": "int a;\n"}), data)
    card = data / "workspaces" / "w" / "workspace.json"
    card.write_text(json.dumps({"root": str(root)}), encoding="utf-8")  # quicker than indexing the large tree first
    command = [sys.executable, "-c", COMMAND, "evaluate", "--workspace", "w"]
    with subprocess.Popen(
        command, env=environment(data), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "looking for files\n"
        assert list(data.glob("evaluation-*"))
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert not list(data.glob("evaluation-*"))


def test_tune_stores_weights_only_where_they_find_more_and_says_what_it_did(shell: Shell, data: Path) -> None:
    told = shape(shell, "tune")
    with Index.for_reading(DataFolder(data), "w") as index:
        stored = index.table.meta()[STORED_WEIGHTS]
    assert bool(stored) == bool(told["kept"])
    if stored:
        assert json.loads(stored) == told["weights"]
    assert {figure["arm"] for figure in told["figures"]} == {"shipped", "fused"}
    assert any(note.startswith("Weights of prose fitted on") for note in told["notes"])
    assert shape(shell, "tune") == told, "the same tree is fitted the same way"
