"""The ``codehub`` command as a user meets it: text or one JSON object on stdout, the rest on stderr, an exit code."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.command import main
from tests.support.command import COMMAND, LIMIT_S, ROOT, environment, run
from tests.support.trees import write_tree

SAMPLE = ROOT / "sample_repo"
QUESTION = "When is a memtable written to a level-0 table, and who decides it?"
COMMANDS = (
    "index search symbol references callers callees hierarchy overrides includes included-by history"
    " why impact ask status export doctor evaluate tune calibrate plan extend-context profile"
    " measure-context warm monitor serve open keys audit approve backup restore jobs knowledge hooks changes ingest"
    " watch connect mcp run recipes sandbox repair"
).split()

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the sample's index, without vectors."""
    data = tmp_path_factory.mktemp("sample") / "data"
    done = run(["index", SAMPLE, "--no-vectors"], data)
    assert done.code == 0, done.err
    return data


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    """Runs a command in this process, which spares its start: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODEHUB_BACKEND", "none")
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")

    def call(data: Path, *arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*map(str, arguments), "--data", str(data)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def lines_of(path: str, first: int, last: int) -> list[str]:
    lines = (SAMPLE / path).read_text(encoding="utf-8").split("\n")
    assert 1 <= first <= last <= len(lines)
    return lines[first - 1 : last]


# The demo


def check_answer(answer: dict[str, Any]) -> None:
    """It answers from two files or more, and every citation is there and says what is quoted."""
    cited = {(citation["path"], citation["symbol"]) for citation in answer["citations"]}
    assert ("src/db_impl.cc", "ember::DBImpl::MakeRoomForWrite") in cited
    assert len({path for path, _ in cited}) >= 2
    assert "MakeRoomForWrite" in answer["answer"]
    blocks = dict(re.findall(r"^\[(\d+)\] (\S+:\d+-\d+)", answer["answer"], re.MULTILINE))
    for citation in answer["citations"]:
        lines = lines_of(citation["path"], citation["first_line"], citation["last_line"])
        where = f"{citation['path']}:{citation['first_line']}-{citation['last_line']}"
        assert blocks[str(citation["label"])] == where
        quoted = "\n".join(f"    {line}".rstrip() for line in lines)
        assert quoted.rstrip() in answer["answer"]
    labels = {int(label) for label in re.findall(r"\[(\d+)\]", answer["answer"].split("\n\n[")[0])}
    assert labels <= {citation["label"] for citation in answer["citations"]}


@pytest.mark.slow
def test_the_demo_answers_its_question_from_two_files_with_citations_that_are_true(tmp_path: Path) -> None:
    """As `make demo` does it, with vectors, in two processes."""
    data = tmp_path / "data"
    indexed = run(["index", SAMPLE, "--json"], data)
    assert indexed.code == 0, indexed.err
    report = indexed.json()
    assert (report["files"], report["waiting_for_vectors"]) == (25, 0)
    assert indexed.err.splitlines()[0] == "looking for files"

    asked = run(["ask", QUESTION, "--workspace", "sample_repo"], data)
    assert asked.code == 0, asked.err
    assert asked.out.count("\nSources:\n") == 1
    sources = re.findall(r"^  \[\d+\] (\S+):(\d+)-(\d+)", asked.out, re.MULTILINE)
    assert len({path for path, _, _ in sources}) >= 2
    for path, first, last in sources:
        assert lines_of(path, int(first), int(last))
    check_answer(run(["ask", QUESTION, "--json", "--backend", "none"], data).json())

    again = run(["index", SAMPLE, "--json"], data).json()
    assert (again["changed"], again["removed"], again["embedded"]) == (0, 0, 0)
    assert set(again["seconds"]) == {"scan", "parse and write"}


def test_the_question_of_the_demo_is_answered_without_vectors_too(sample: Path, shell: Shell) -> None:
    code, out, _ = shell(sample, "ask", QUESTION, "--json")
    assert code == 0
    check_answer(json.loads(out))


# Every command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: codehub {command}" in out
    for option in ("--json", "--data DIR", "--workspace NAME"):
        assert option in out


def test_the_help_of_all_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = re.findall(r"^    ([\w-]+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert listed == COMMANDS


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["search", "level-0", "table"], {"query", "workspace", "stamp", "confidence", "hits", "notes"}),
        (["symbol", "MakeRoomForWrite"], {"symbols", "stamp"}),
        (["references", "MemTable"], {"symbols", "edges", "stamp"}),
        (["callers", "MakeRoomForWrite"], {"symbols", "edges", "stamp"}),
        (["callees", "DBImpl::Write"], {"symbols", "edges", "stamp"}),
        (["hierarchy", "Iterator"], {"classes", "stamp"}),
        (["overrides", "Next"], {"overrides", "overridden_by", "stamp"}),
        (["includes", "db_impl.h"], {"path", "edges", "stamp"}),
        (["impact", "MakeRoomForWrite"], {"stamp"}),
        (["why", "MakeRoomForWrite"], {"reasons", "stamp"}),
        (
            ["ask", "Where is MakeRoomForWrite defined?"],
            {"answer", "citations", "confidence", "tier", "tried", "stamp"},
        ),
        (["status"], {"data", "workspaces"}),
        (["doctor"], {"findings"}),
        (["doctor", str(SAMPLE)], {"left_out"}),
        (["repair"], {"repairs"}),
        (["plan", "gpt-oss:20b", "--gpu", "RTX 4080", "--ram", "32GB"], {"model", "recommended", "reasons", "rows"}),
        (["profile", "--engine", "ollama"], {"engine", "knobs"}),
    ],
)
def test_json_is_one_object_on_stdout_with_the_promised_keys(
    sample: Path, shell: Shell, arguments: list[str], keys: set[str]
) -> None:
    code, out, _ = shell(sample, *arguments, "--json")
    assert code == 0
    assert keys <= json.loads(out).keys()


def test_json_of_indexing_is_one_object_and_the_progress_goes_to_stderr(tmp_path: Path, shell: Shell) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "int a;\n", "b.cc": b"int b\0;\n"})
    code, out, err = shell(tmp_path / "data", "index", root, "--json")
    report = json.loads(out)
    assert (code, report["files"], report["workspace"]) == (0, 1, "tree")
    assert report["skipped"] == [{"path": "b.cc", "reason": "binary (NUL bytes)"}]
    assert err.splitlines() == ["looking for files", "reading and parsing: 2", "working out what uses mean: 1"]


def test_an_export_is_one_object_a_line_and_its_lines_exist(sample: Path, shell: Shell) -> None:
    code, out, err = shell(sample, "export", "--format", "jsonl")
    assert (code, err) == (0, "")
    entries = [json.loads(line) for line in out.splitlines()]
    symbols = [entry for entry in entries if entry["type"] == "symbol"]
    edges = [entry for entry in entries if entry["type"] == "edge"]
    assert len(symbols) + len(edges) == len(entries)
    assert {"kind", "source", "target", "path", "line", "how"} <= edges[0].keys()
    assert {edge["kind"] for edge in edges} >= {"call", "type", "base", "include"}
    for symbol in symbols:
        lines = lines_of(symbol["path"], symbol["first_line"], symbol["last_line"])
        if symbol["kind"] in {"class", "struct", "function", "method"}:
            assert symbol["qualified_name"].rpartition("::")[2].removeprefix("operator")[:3] in "\n".join(lines)


def test_a_search_shows_lines_that_exist_and_explains_its_sums(sample: Path, shell: Shell) -> None:
    code, out, _ = shell(sample, "search", "MakeRoomForWrite", "--limit", "3", "--json")
    assert code == 0
    hits = json.loads(out)["hits"]
    assert hits[0]["path"] == "src/db_impl.cc"
    for hit in hits:
        assert "\n".join(lines_of(hit["path"], hit["first_line"], hit["last_line"])) == hit["text"].removesuffix("\n")
        assert hit["score"] == pytest.approx(sum(hit["contributions"].values()), abs=1e-5)
    code, out, _ = shell(sample, "search", "MakeRoomForWrite", "--explain")
    assert code == 0
    assert out.startswith(" 1. src/db_impl.cc:")
    assert re.search(r"^    score \d+\.\d+ = \d+\.\d+ from arms", out, re.MULTILINE)
    assert re.search(r"^      symbol   rank   1  raw    1\.000  weight +\d+\.\d\d  gives \+\d", out, re.MULTILINE)
    assert re.search(r"^read as name; words by rarity: makeroomforwrite \d+\.\d, ", out, re.MULTILINE)
    assert "\nnames: MakeRoomForWrite\n" in out
    assert re.search(r"^weights, fitted on .+: .*\blexical \d", out, re.MULTILINE)


def test_a_search_for_files_ranks_each_file_once(sample: Path, shell: Shell) -> None:
    code, out, _ = shell(sample, "search", "make room in the memtable", "--files", "--limit", "4")
    assert code == 0
    files = re.findall(r"^ *(\d+)\. (\S+)  (-?\d+\.\d+)$", out, re.MULTILINE)
    assert [rank for rank, _, _ in files] == ["1", "2", "3", "4"]
    assert len({path for _, path, _ in files}) == 4
    assert "src/db_impl.cc" in {path for _, path, _ in files}
    scores = [float(score) for _, _, score in files]
    assert scores == sorted(scores, reverse=True)
    code, out, _ = shell(sample, "search", "make room in the memtable", "--files", "--limit", "4", "--json")
    told = json.loads(out)["files"]
    assert [(one["path"], f"{one['score']:.3f}") for one in told] == [(path, score) for _, path, score in files]


def test_a_symbol_is_shown_where_it_is_defined_and_declared(sample: Path, shell: Shell) -> None:
    code, out, _ = shell(sample, "symbol", "DBImpl::MakeRoomForWrite")
    assert code == 0
    assert re.search(
        r"^src/db_impl\.cc:\d+-\d+  method ember::DBImpl::MakeRoomForWrite  \(defined\)$", out, re.MULTILINE
    )
    assert re.search(r"^src/db_impl\.h:\d+-\d+  .*\(declared\)$", out, re.MULTILINE)


def test_callers_tell_what_they_rest_on(sample: Path, shell: Shell) -> None:
    code, out, _ = shell(sample, "callers", "MakeRoomForWrite")
    assert code == 0
    assert re.search(r"^src/db_impl\.cc:\d+  ember::DBImpl::\w+  \(call, (by-name|resolved)\)$", out, re.MULTILINE)


# Exit codes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["symbol", "NoSuchName"], "No symbol is named NoSuchName."),
        (["callers", "NoSuchName"], "Nothing is named NoSuchName."),
        (["references", "NoSuchName"], "Nothing is named NoSuchName."),
        (["ask", "How do I bake sourdough bread with rye?"], "Not found."),
        (["search", "zyxwvut"], "Nothing found in sample_repo."),
    ],
)
def test_what_is_not_there_is_a_sentence_and_code_one(
    sample: Path, shell: Shell, arguments: list[str], said: str
) -> None:
    code, out, _ = shell(sample, *arguments)
    assert code == 1
    assert said in out
    code, out, _ = shell(sample, *arguments, "--json")
    assert code == 1
    assert json.loads(out)


@pytest.mark.parametrize(
    "arguments",
    [["search", "x"], ["symbol", "x"], ["callers", "x"], ["ask", "x"], ["export"], ["status", "-w", "none"]],
)
def test_before_anything_is_indexed_every_command_says_what_to_run(
    tmp_path: Path, shell: Shell, arguments: list[str]
) -> None:
    code, out, err = shell(tmp_path / "data", *arguments)
    assert (code, out) == (2, "")
    assert err == "codehub: Nothing is indexed yet.\n  Run `codehub index PATH` first.\n"
    code, out, err = shell(tmp_path / "data", *arguments, "--json")
    assert (code, err) == (2, "")
    assert json.loads(out) == {"error": "Nothing is indexed yet.", "hint": "Run `codehub index PATH` first."}


@pytest.mark.parametrize("command", ["status", "repair"])
def test_upkeep_of_nothing_says_so_and_ends_with_code_one(tmp_path: Path, shell: Shell, command: str) -> None:
    code, out, _ = shell(tmp_path / "data", command)
    assert (code, out) == (1, "Nothing is indexed yet. Run `codehub index PATH`.\n")


def test_a_workspace_that_does_not_exist_is_an_error_that_names_those_that_do(sample: Path, shell: Shell) -> None:
    for command in (["search", "x"], ["status"], ["export"], ["repair"], ["repair", "--rebuild"]):
        code, _, err = shell(sample, *command, "--workspace", "nope")
        assert code == 2
        assert err == "codehub: There is no workspace 'nope'.\n  There are: sample_repo.\n"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CODEHUB_BAKEND", "none", "CODEHUB_BAKEND is no setting."),
        ("CODEHUB_BACKEND", "gpt", "backend is 'gpt'."),
        ("CODEHUB_INDEX_WORKERS", "many", "CODEHUB_INDEX_WORKERS is 'many'."),
    ],
)
def test_a_wrong_setting_is_an_error_with_a_hint(
    sample: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    code, out, _ = shell(sample, "status", "--json")
    assert code == 2
    assert json.loads(out)["error"] == message
    assert json.loads(out)["hint"]


@pytest.mark.parametrize("arguments", [["serach", "x"], ["search"], ["search", "x", "--limit", "0"], ["--nope"], []])
def test_a_misspelt_command_line_is_an_error_with_code_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: codehub")


# What a shell can do to a command


def test_bytes_that_are_no_text_are_searched_for_without_harm(sample: Path) -> None:
    for command in ("search", "symbol", "callers", "ask"):
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, command, "--json", b"mem\xfftable"],
            capture_output=True,
            env=environment(sample, {"CODEHUB_EMBEDDINGS": "none"}),
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode in {0, 1}, done.stderr
        assert json.loads(done.stdout)


def test_a_terminal_that_shows_ascii_only_gets_ascii(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "/// Größe — in Bytes.\nint size_of_all;\n"})
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "CODEHUB_EMBEDDINGS": "none"}
    assert run(["index", root], tmp_path / "data", ascii_only).code == 0
    shown = run(["symbol", "size_of_all"], tmp_path / "data", ascii_only)
    assert shown.code == 0
    assert "Gr\\xf6\\xdfe \\u2014 in Bytes." in shown.out
    done = run(["symbol", "size_of_all", "--json"], tmp_path / "data", ascii_only)
    assert done.json()["symbols"][0]["doc"] == "Größe — in Bytes."


@pytest.mark.parametrize("arguments", [["export"], ["symbol", "Get"]])
def test_a_reader_that_leaves_early_ends_the_command_quietly(sample: Path, arguments: list[str]) -> None:
    """As `codehub export | head -1` does, with more and with less than a pipe holds."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    with subprocess.Popen(command, env=environment(sample), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(LIMIT_S) == 0
    assert said == b""


def test_where_one_stands_decides_which_tree_is_meant(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    for name in ("one", "two"):
        shell(data, "index", write_tree(tmp_path / name, {"sub/a.cc": f"int from_{name};\n"}))
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name / "sub")
        _, out, _ = shell(data, "search", "from", "--json")
        assert json.loads(out)["workspace"] == name
    monkeypatch.chdir(tmp_path)
    _, out, _ = shell(data, "search", "from", "--json")
    assert json.loads(out)["workspace"] == "two"
    _, out, _ = shell(data, "search", "from", "--json", "-w", "one")
    assert json.loads(out)["workspace"] == "one"


def test_status_tells_what_is_indexed_and_what_changed_since(tmp_path: Path, shell: Shell) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "int a;\n", "b.cc": "int b;\n"})
    shell(tmp_path / "data", "index", root)
    write_tree(root, {"a.cc": "int a, and_more;\n"})
    code, out, _ = shell(tmp_path / "data", "status", "--json")
    (entry,) = json.loads(out)["workspaces"]
    assert (code, entry["files"], entry["changed_files"], entry["root"]) == (0, 2, 1, str(root))
    code, out, _ = shell(tmp_path / "data", "status")
    assert (code, "1 files changed since" in out) == (0, True)
    code, out, _ = shell(tmp_path / "data", "search", "a")
    assert "Changed since it was indexed: a.cc." in out
