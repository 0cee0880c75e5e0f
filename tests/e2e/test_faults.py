"""Bad input and a bad world, through the real command: a clear sentence, the right exit code, and nothing is lost.

In a process of its own where users, disks or terminals matter; that it says the same there is `test_command`'s to show.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import pytest

from hub.cli import main
from indexer.index import DataFolder
from tests.support.command import COMMAND, LIMIT_S, Done, environment, held_by_another_process, run, run_here
from tests.support.fake_ollama import (
    Answer,
    FakeOllama,
    Lines,
    Refusal,
    chat_line,
    count_tokens,
    error_body,
    exceeds,
    last_line,
)
from tests.support.trees import COUNTER, write_tree

NO_VECTORS = {"CODEHUB_EMBEDDINGS": "none"}
NOBODY = 65_534


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a small tree, indexed without vectors."""
    assert indexed(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data").code == 0
    return tmp_path


def indexed(root: Path, data: Path, settings: Mapping[str, str] | None = None) -> Done:
    return run_here(["index", root, "--json"], data, {**NO_VECTORS, **(settings or {})})


def called(capsys: pytest.CaptureFixture[str], data: Path, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of a command run in this process."""
    capsys.readouterr()
    code = main([*map(str, arguments), "--json", "--data", str(data)])
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return code, answer


# The tree


def test_a_folder_that_is_missing_empty_or_a_file_is_refused_in_a_sentence(base: Path) -> None:
    (base / "empty").mkdir()
    for path, said in (
        (base / "missing", "does not exist"),
        (base / "empty", "holds no C++"),
        (base / "tree" / "README.md", "is not a folder"),
    ):
        done = run_here(["index", path], base / "data", NO_VECTORS)
        assert (done.code, done.out) == (2, "")
        message, hint = done.err.removeprefix("looking for files\n").splitlines()
        assert message.startswith(f"codehub: {path} {said}")
        assert hint.startswith("  ")
        refused = indexed(path, base / "data").json()
        assert said in refused["error"]
        assert refused["hint"] == hint.strip()
    found = run_here(["search", "Counter", "--json"], base / "data", NO_VECTORS).json()
    assert found["workspace"] == "tree", "a refused folder must not become the workspace that answers"
    assert [w.name for w in DataFolder(base / "data").workspaces()] == ["tree"]


def test_odd_files_do_not_stop_the_command_and_are_named(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "tree",
        {
            "good.cc": "int good() { return 1; }\n",
            "nul.cc": b"int nul;\0\n",
            "latin1.cc": b"// caf\xe9\nint latin1;\n",
            "crlf.cc": b"int crlf;\r\n",
            "bom.cc": b"\xef\xbb\xbfint bom;\n",
            "unclosed.cc": "namespace broken {\nvoid before() {\nint after() { return 1; }\n",
            "parens.cc": "int parens = " + "(" * 5_000 + "1" + ")" * 5_000 + ";\nint after_parens;\n",
            "large.cc": b"int generated[] = {\n" + b"1, 2, 3, 4, 5, 6, 7,\n" * 2_500_000 + b"};\n",
        },
    )
    assert (root / "large.cc").stat().st_size > 50_000_000
    (root / "loop").symlink_to(root)
    (root / "self.cc").symlink_to(root / "self.cc")
    done = indexed(root, tmp_path / "data")
    report = done.json()
    assert (done.code, report["files"]) == (0, 6)
    assert [entry["path"] for entry in report["skipped"]] == ["large.cc", "nul.cc", "self.cc"]
    assert {problem["path"] for problem in report["problems"]} >= {"unclosed.cc"}
    doctor = run_here(["doctor", root], tmp_path / "data")
    assert doctor.out.splitlines() == [
        f"large.cc: larger than 2048 KiB ({(root / 'large.cc').stat().st_size >> 10} KiB)",
        "nul.cc: binary (NUL bytes)",
        "self.cc: symbolic link",
    ]
    for name in ("good", "latin1", "crlf", "bom", "after_parens"):
        assert run_here(["symbol", name], tmp_path / "data").code == 0, name


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may use, as pytest's own is not."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_an_unreadable_file_is_named_and_taken_up_when_it_can_be_read(open_folder: Path) -> None:
    root = write_tree(open_folder / "tree", {"good.cc": "int good;\n", "secret.cc": "int secret;\n"})
    (root / "secret.cc").chmod(0)
    user = NOBODY if os.geteuid() == 0 else None  # root reads everything
    done = run(["index", root, "--json"], open_folder / "data", NO_VECTORS, user=user)
    assert done.code == 0, done.err
    assert done.json()["files"] == 1
    assert done.json()["problems"] == [{"path": "secret.cc", "line": 0, "message": "cannot be read: Permission denied"}]
    (root / "secret.cc").chmod(0o644)
    assert run(["index", root, "--json"], open_folder / "data", NO_VECTORS, user=user).json()["changed"] == 1
    root.chmod(0)
    done = run(["index", root], open_folder / "data", NO_VECTORS, user=user)
    root.chmod(0o755)
    assert done.code == 2
    assert "cannot be read" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user to own the data folder")
def test_a_data_folder_of_another_user_is_refused_in_a_sentence(open_folder: Path) -> None:
    root = write_tree(open_folder / "tree", {"good.cc": "int good;\n"})
    assert indexed(root, open_folder / "data").code == 0
    done = run(["index", root], open_folder / "data", NO_VECTORS, user=NOBODY)
    assert done.code == 2
    assert done.err.startswith(f"codehub: The data folder {open_folder / 'data'} ")
    assert "--data" in done.err


# The data folder


def test_an_index_of_another_format_is_refused_and_rebuilt_when_asked(base: Path) -> None:
    database = base / "data" / "workspaces" / "tree" / "index.db"
    connection = apsw.Connection(str(database))
    connection.execute("UPDATE meta SET value = '999' WHERE key = 'format'")
    connection.close()
    for command in (["index", base / "tree"], ["search", "Counter"], ["symbol", "Counter"], ["repair"]):
        refused = run_here([*command, "--json"], base / "data", NO_VECTORS)
        assert refused.code == 2
        assert "has format 999" in refused.json()["error"]
        assert "repair --rebuild" in refused.json()["hint"]
    status = run_here(["status"], base / "data", NO_VECTORS)
    assert status.code == 2
    assert "has format 999" in status.out
    assert run_here(["repair", "--rebuild"], base / "data", NO_VECTORS).code == 0
    assert run_here(["symbol", "Counter"], base / "data", NO_VECTORS).code == 0


def test_while_another_process_writes_one_can_look_up_but_not_index(base: Path) -> None:
    write_tree(base / "tree", {"new.cc": "int brand_new;\n"})
    with held_by_another_process(base / "data") as pid:
        for command in (["index", base / "tree"], ["repair"], ["repair", "--rebuild"]):
            refused = run_here([*command, "--json"], base / "data", NO_VECTORS)
            assert refused.code == 2
            assert f"is being written by process {pid}" in refused.json()["error"]
            assert "searching and asking work meanwhile" in refused.json()["hint"]
        for command in (["search", "Counter"], ["symbol", "Counter"], ["ask", "What does Counter count?"], ["status"]):
            assert run_here([*command, "--json"], base / "data", NO_VECTORS).code == 0
    assert indexed(base / "tree", base / "data").json()["changed"] == 1


@pytest.mark.parametrize("damage", [b"", b"this is no database at all, whatever its name\n" * 400])
def test_a_damaged_index_is_told_by_every_command_and_rebuilt_when_asked(
    base: Path, damage: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    monkeypatch.setenv("CODEHUB_BACKEND", "none")
    for file in (base / "data" / "workspaces" / "tree").glob("index.db*"):
        file.unlink()
    (base / "data" / "workspaces" / "tree" / "index.db").write_bytes(damage)
    for command in ("search", "symbol", "ask"):
        code, answer = called(capsys, base / "data", command, "Counter")
        assert (code, "no index" in answer["error"]) == (2, True)
        assert "repair --rebuild" in answer["hint"]
    code, answer = called(capsys, base / "data", "doctor")
    (finding,) = (f for f in answer["findings"] if f["subject"] == "workspace tree")
    assert (code, finding["grade"]) == (2, "failed")
    assert called(capsys, base / "data", "repair", "--rebuild")[0] == 0
    assert called(capsys, base / "data", "symbol", "Counter")[0] == 0


def test_a_size_that_is_used_up_is_told_and_the_index_stays_whole(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {f"f{n:03}.cc": f"// {f'word{n} ' * 1_500}\nint v{n};\n" for n in range(160)})
    bound = {"CODEHUB_INDEX_MAX_MEGABYTES": "3"}
    refused = indexed(root, tmp_path / "data", bound)
    assert refused.code == 2
    assert "is used up" in refused.json()["error"]
    assert "index.max_megabytes" in refused.json()["hint"]
    status = run_here(["status", "--json"], tmp_path / "data", NO_VECTORS).json()["workspaces"][0]
    assert 0 < status["files"] < 160
    assert run_here(["symbol", "v0"], tmp_path / "data").code == 0
    bounded = run_here(["repair", "--rebuild", "--json"], tmp_path / "data", {**NO_VECTORS, **bound})
    assert "is used up" in bounded.json()["error"]
    done = indexed(root, tmp_path / "data").json()
    assert (done["files"], done["waiting_for_vectors"]) == (160, done["chunks"])


_ON_A_SMALL_DISK = """
mount -t tmpfs -o size=3m tmpfs "$DISK" || exit 77
"$PYTHON" -c "$COMMAND" index "$TREE/small" --json || exit 78
"$PYTHON" -c "$COMMAND" index "$TREE/large" --json; echo "code $?"
"$PYTHON" -c "$COMMAND" index "$TREE/small" --json; echo "code $?"
"$PYTHON" -c "$COMMAND" symbol small -w small --json; echo "code $?"
"$PYTHON" -c "$COMMAND" status; echo "code $?"
rm -f "$DISK/filler"
"$PYTHON" -c "$COMMAND" repair --json; echo "code $?"
"""


def test_a_full_disk_is_told_and_loses_no_workspace(tmp_path: Path) -> None:
    """On a real file system of three megabytes, in a mount namespace of its own."""
    write_tree(tmp_path / "tree" / "small", {"small.cc": "int small;\n"})
    write_tree(
        tmp_path / "tree" / "large",
        {f"f{n:03}.cc": f"// {f'word{n} ' * 2_000}\nint v{n};\n" for n in range(200)},
    )
    done = on_a_disk(tmp_path, _ON_A_SMALL_DISK)
    _, large, small, symbol, status, _ = split_by_code(done.stdout)
    assert large[0] == 2
    error = json.loads(large[1])
    assert "used up" in error["error"] or "No space left" in error["error"]
    assert error["hint"]
    assert small[0] in {0, 2}
    assert symbol[0] == 0
    assert "small" in status[1]
    assert "large" in status[1]


_ON_A_DISK_THAT_TURNS_READ_ONLY = """
mount -t tmpfs -o size=64m tmpfs "$DISK" || exit 77
"$PYTHON" -c "$COMMAND" index "$TREE" --json || exit 78
mount -o remount,ro "$DISK" || exit 77
echo "int later;" >> "$TREE/small.cc"
"$PYTHON" -c "$COMMAND" index "$TREE" --json; echo "code $?"
"$PYTHON" -c "$COMMAND" symbol small --json; echo "code $?"
mount -o remount,rw "$DISK"
"$PYTHON" -c "$COMMAND" index "$TREE" --json; echo "code $?"
"$PYTHON" -c "$COMMAND" symbol later --json; echo "code $?"
"""


def test_a_file_system_that_turned_read_only_is_told_read_from_and_gone_on_with(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", {"small.cc": "int small;\n"})
    done = on_a_disk(tmp_path, _ON_A_DISK_THAT_TURNS_READ_ONLY)
    _, refused, found, again, later = split_by_code(done.stdout)
    assert refused[0] == 2
    assert "Read-only file system" in refused[1]
    assert (found[0], again[0], later[0]) == (0, 0, 0)


def on_a_disk(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script in a mount namespace of its own, where it may mount a disk at $DISK. Skips where nobody may."""
    if not shutil.which("unshare") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root and unshare")
    disk = folder / "disk"
    disk.mkdir()
    here = {"DISK": str(disk), "TREE": str(folder / "tree"), "PYTHON": sys.executable, "COMMAND": COMMAND}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**environment(disk / "data", NO_VECTORS), **here},
        cwd=folder,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def split_by_code(out: str) -> list[tuple[int, str]]:
    """What each command of the script said, with its code; the first one has succeeded."""
    parts: list[tuple[int, str]] = []
    said: list[str] = []
    first = True
    for line in out.splitlines():
        if line.startswith("code "):
            parts.append((int(line[5:]), "\n".join(said)))
            said = []
        else:
            said.append(line)
            if first and line == "}":
                parts.append((0, "\n".join(said)))
                said, first = [], False
    return parts


@pytest.mark.slow
def test_a_chroma_folder_that_was_deleted_or_damaged_is_made_again_from_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_INDEX_BACKGROUND", "0")
    root, data = write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data"
    assert run_here(["index", root], data).code == 0
    chroma = data / "workspaces" / "tree" / "chroma"

    def delete() -> None:
        shutil.rmtree(chroma)

    def damage() -> None:
        (chroma / "chroma.sqlite3").write_bytes(b"rubbish" * 5_000)

    for number, harm in enumerate((delete, damage)):
        for mend in (["index", root], ["repair"]):
            harm()
            write_tree(root, {"another.cc": f"int another_{number}_{mend[0]};\n"})
            assert called(capsys, data, *mend)[0] == 0
            assert called(capsys, data, "index", root)[0] == 0
            code, repaired = called(capsys, data, "repair")
            assert (code, repaired["repairs"]) == (0, [{"workspace": "tree", "done": "nothing to mend"}])
    found = run_here(["search", "adds to the value", "--json"], data).json()
    assert any("static" in hit["signals"] for hit in found["hits"])


# The language model


MODEL = "qwen2.5-coder:7b"
QUESTION = "What does Counter::Increment do to the value?"


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a small indexed tree."""
    base = tmp_path_factory.mktemp("counter")
    assert indexed(write_tree(base / "tree", dict(COUNTER)), base / "data").code == 0
    return base / "data"


@pytest.fixture
def ask(
    counter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], dict[str, Any]]:
    """Asks the question of an Ollama at a host, in this process; whatever happens, there is an answer."""
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    monkeypatch.setenv("CODEHUB_BACKEND", "ollama")
    monkeypatch.delenv("CODEHUB_OLLAMA_MODEL", raising=False)

    def call(host: str) -> dict[str, Any]:
        monkeypatch.setenv("CODEHUB_OLLAMA_HOST", host)
        code, answer = called(capsys, counter, "ask", QUESTION)
        assert code == 0
        return answer

    return call


def check_evidence(answer: dict[str, Any], *notes: str) -> None:
    """The user gets the quoted evidence, and one note that holds the sentence and the hint."""
    assert "value_ += by;" in answer["answer"]
    assert {"label", "path", "first_line", "last_line"} <= answer["citations"][0].keys()
    assert "src/counter.cc" in {citation["path"] for citation in answer["citations"]}
    assert any(all(part in note for part in notes) for note in answer["notes"]), answer["notes"]


def says(*pieces: str) -> Callable[[Mapping[str, Any]], Answer]:
    """A model that answers with these pieces and tells how much it has read."""

    def chat(body: Mapping[str, Any]) -> Answer:
        tokens = 8 + sum(count_tokens(message["content"]) for message in body["messages"])
        return Lines([*map(chat_line, pieces), last_line(tokens, len(pieces))])

    return chat


def test_a_good_answer_is_shown_as_the_model_wrote_it_with_citations_that_exist(
    ask: Callable[[str], dict[str, Any]],
) -> None:
    with FakeOllama(chat=says("It adds `by` to", " the value", " and never overflows in practice [1]", ".")) as fake:
        answer = ask(fake.url)
        (chat,) = fake.bodies("/api/chat")
    assert answer["answer"].strip() == "It adds `by` to the value and never overflows in practice [1]."
    assert [citation["label"] for citation in answer["citations"]] == [1]
    assert (answer["backend"], answer["model"], answer["notes"]) == ("ollama", MODEL, [])
    (citation,) = answer["citations"]
    lines = str(COUNTER[citation["path"]]).split("\n")[citation["first_line"] - 1 : citation["last_line"]]
    assert lines
    prompt = "\n".join(message["content"] for message in chat["messages"])
    assert all(line in prompt for line in lines)
    assert answer["usage"]["prompt"] > 0


def test_a_citation_that_was_not_in_the_prompt_is_removed_and_told(ask: Callable[[str], dict[str, Any]]) -> None:
    with FakeOllama(chat=says("It adds `by` to the value [1][77].")) as fake:
        answer = ask(fake.url)
    assert "[77]" not in answer["answer"]
    assert {citation["label"] for citation in answer["citations"]} >= {1}
    assert any("[77]" in note for note in answer["notes"])


def test_an_ollama_that_is_down_leaves_the_evidence_and_the_way_to_start_it(
    ask: Callable[[str], dict[str, Any]],
) -> None:
    with FakeOllama() as fake:
        url = fake.url
    check_evidence(ask(url), f"Ollama does not answer at {url}.", "ollama serve")


def test_a_model_that_was_not_pulled_leaves_the_evidence_and_the_way_to_pull_it(
    ask: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_OLLAMA_MODEL", "llama3.3:70b")
    with FakeOllama() as fake:
        check_evidence(ask(fake.url), "does not have the model llama3.3:70b", "ollama pull llama3.3:70b")


def test_a_full_queue_leaves_the_evidence_and_the_advice_to_try_again(ask: Callable[[str], dict[str, Any]]) -> None:
    busy = Refusal(503, error_body("server busy, please try again.  maximum pending requests exceeded"))
    with FakeOllama(chat=lambda _: busy) as fake:
        check_evidence(ask(fake.url), "Ollama is busy", "OLLAMA_MAX_QUEUE")


@pytest.mark.parametrize(
    "rest",
    [
        Lines([chat_line("It adds `by` to the value [1]. And"), error_body("CUDA error: device lost").encode()]),
        Lines([chat_line("It adds `by` to the value [1]. And")], cut=True),
    ],
    ids=["an error in the stream", "a connection that drops"],
)
def test_a_stream_that_breaks_leaves_what_was_checked_and_the_evidence(
    ask: Callable[[str], dict[str, Any]], rest: Lines
) -> None:
    with FakeOllama(chat=lambda _: rest) as fake:
        answer = ask(fake.url)
    check_evidence(answer, "Ollama", "log" if not rest.cut else "")
    assert any("broke off" in note for note in answer["notes"])
    assert "And" not in answer["answer"].split("\n\n")[0]


def test_a_prompt_that_is_too_long_for_the_window_leaves_the_evidence(ask: Callable[[str], dict[str, Any]]) -> None:
    refusal = Refusal(400, exceeds(5_000, 4_096))
    with FakeOllama(chat=lambda _: refusal) as fake:
        check_evidence(ask(fake.url), "of 5000 tokens does not fit the model's context window of 4096", "num_ctx")


def test_a_window_too_small_for_any_evidence_is_told_and_nothing_is_cut_in_silence(
    ask: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_OLLAMA_CONTEXT", "1200")
    with FakeOllama() as fake:
        answer = ask(fake.url)
        for body in fake.bodies("/api/chat"):
            assert body["truncate"] is False
            assert 8 + sum(count_tokens(m["content"]) for m in body["messages"]) <= 1_200
    assert answer["notes"]


def test_a_broken_answer_reads_well_on_a_terminal_too(counter: Path) -> None:
    """Through a process of its own: the text is printed as it comes, the note at the end, and the code is 0."""
    half = Lines([chat_line("It adds `by` to the value [1]. And")], cut=True)
    with FakeOllama(chat=lambda _: half) as fake:
        settings = {**NO_VECTORS, "CODEHUB_BACKEND": "ollama", "CODEHUB_OLLAMA_HOST": fake.url}
        done = run(["ask", QUESTION], counter, settings)
    assert done.code == 0
    assert done.out.startswith("It adds `by` to the value [1].")
    assert "The evidence itself:\n\n" in done.out
    assert [line for line in done.out.split("Sources:\n")[1].splitlines() if line.startswith("  [")]
    assert "note: " in done.out
    assert "Traceback" not in done.err
    assert f"{MODEL} (ollama) reads" in done.err
