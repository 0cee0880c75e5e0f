"""Commands beside a server that runs on their data folder: the same output, work handed over, and nothing left behind.

The server is a real process. Commands run in this process, where they need not be interrupted.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

import hub.cli.handing
import hub.cli.reading
from hub.cli import main
from hub.remote import Remote, find
from tests.support.command import COMMAND, LIMIT_S, environment, held_by_another_process
from tests.support.trees import COUNTER, write_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

BOUND_S = 60.0
PLAIN = {"CODEHUB_EMBEDDINGS": "none"}
WAITING = b"waiting for whoever writes"

Shell = Callable[..., tuple[int, str, str]]


@contextmanager
def a_server(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, once it takes requests; ended afterwards."""
    with process(["serve", "--port", "0"], data) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        if not said(server.stdout, b"Ctrl-C stops it"):
            raise AssertionError(server.stderr.read().decode())
        yield server
        server.send_signal(signal.SIGTERM)
        assert server.wait(BOUND_S) in {0, -signal.SIGKILL}


@contextmanager
def process(arguments: Sequence[str | Path], data: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(data, PLAIN),
        cwd=data.parent,
    ) as made:
        overdue = threading.Timer(LIMIT_S, made.kill)
        overdue.start()
        try:
            yield made
        finally:
            overdue.cancel()
            made.kill()
            made.communicate()


def said(stream: IO[bytes], words: bytes) -> bool:
    """Reads until a line has the words; False where they never come."""
    return any(words in line for line in stream)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a tree beside it."""
    folder = tmp_path_factory.mktemp("served")
    write_tree(folder / "tree", COUNTER)
    (folder / "data").mkdir()
    return folder / "data"


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Remote]:
    """A server over the tree, which was indexed through it."""
    with a_server(data), pytest.MonkeyPatch.context() as patch:
        for name, value in environment(data, PLAIN).items():
            patch.setenv(name, value)
        assert main(["index", str(data.parent / "tree")]) == 0
        remote = find(data)
        assert remote is not None
        yield remote


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: Path) -> Shell:
    monkeypatch.chdir(data.parent)
    for name, value in environment(data, PLAIN).items():
        if name.startswith(("CODEHUB", "HOME")):
            monkeypatch.setenv(name, value)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return call


def without_times(text: str) -> str:
    text = re.sub(r'"(seconds|cost_s|worth_s)": [-\d.e]+', r'"\1": 0', text)
    return re.sub(r"-?\d+\.\d+ s\b", "0 s", text)


# The same, by the server and here


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "Increment"),
        ("search", "--explain", "--limit", "2", "what counts things"),
        ("search", "--files", "counter"),
        ("search", "--json", "Increment"),
        ("search", "zzzz qqqq"),
        ("search", "Increment", "--workspace", "nothing"),
        ("ask", "What does Counter::Increment do?"),
        ("ask", "--json", "who calls Increment"),
        ("ask", "--tier", "rag", "--policy", "fast", "what does Increment add to?"),
        ("ask", "--explain", "--tier", "exact", "who calls Increment"),
    ],
)
def test_a_command_says_the_same_through_the_server(
    server: Remote, shell: Shell, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert server.pid
    alone = shell(*arguments, "--no-server")
    used: list[str] = []
    for name in ("post", "stream"):
        real = getattr(Remote, name)

        def through(remote: Remote, path: str, body: Any, real: Callable[..., Any] = real) -> Any:
            used.append(path)
            return real(remote, path, body)

        monkeypatch.setattr(Remote, name, through)
    together = shell(*arguments)
    assert [without_times(str(part)) for part in together] == [without_times(str(part)) for part in alone]
    assert bool(used) is ("nothing" not in arguments)  # a workspace that is not there is looked for here


def test_a_command_with_other_settings_does_not_ask_the_server(
    server: Remote, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unasked(*_: object) -> None:
        raise AssertionError("the server was asked")

    assert server.pid
    monkeypatch.setattr(Remote, "_asked", unasked)
    monkeypatch.setenv("CODEHUB_RETRIEVAL_ADAPT", "0")
    assert shell("search", "Increment")[0] == 0
    monkeypatch.delenv("CODEHUB_RETRIEVAL_ADAPT")
    monkeypatch.setenv("CODEHUB_USE_SERVER", "0")
    assert shell("search", "Increment")[0] == 0


def test_a_server_of_another_version_is_told_and_not_used(
    server: Remote, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.cli.served.version", lambda: "99")
    monkeypatch.setattr(hub.cli.reading, "event_from", None)
    code, out, err = shell("ask", "What does Counter::Increment do?")
    assert code == 0
    assert "Increment" in out
    assert err.startswith(f"note: the server (process {server.pid}) is of version")


def test_status_tells_of_the_server_and_doctor_needs_none(server: Remote, shell: Shell) -> None:
    assert json.loads(shell("status", "--json")[1])["server"] == {
        "pid": server.pid,
        "url": server.url,
        "version": server.version,
    }
    assert f"a server runs at {server.url}" in shell("status")[1]


# Work handed over


def test_an_index_through_the_server_is_reported_as_one_made_here(
    server: Remote, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.pid
    alone = shell("index", "tree", "--no-server")

    def here(*_: object) -> None:
        raise AssertionError("it was done here")

    monkeypatch.setattr(hub.cli.handing, "perform", here)
    together = shell("index", "tree")
    assert [without_times(part) for part in together[1:2]] == [without_times(part) for part in alone[1:2]]
    assert together[0] == alone[0] == 0
    assert shell("index", "nowhere")[0] == 2
    assert "nowhere" in shell("index", "nowhere")[2]
    assert shell("repair")[1] == "tree: nothing to mend\n"
    code, out, _ = shell("jobs", "--json")
    assert code == 0
    states = [(job["kind"], job["state"]) for job in json.loads(out)["jobs"]]
    assert states == [("repair", "done"), ("index", "done"), ("index", "done")]  # what is refused is no job
    shown = json.loads(shell("jobs", "show", "--json")[1])
    assert shown["result"] == {"repairs": [{"workspace": "tree", "done": "nothing to mend"}]}
    assert shell("jobs", "show", "zz")[0] == 2


def test_two_commands_at_once_are_both_served(server: Remote, shell: Shell, data: Path) -> None:
    assert server.pid
    with process(["index", "tree"], data) as command:
        code, out, _ = shell("index", "tree", "--no-compiler")
        assert code == 0
        assert "4 files" in out
        assert shell("search", "Increment")[0] == 0
        assert command.wait(BOUND_S) == 0


def test_ctrl_c_cancels_the_job(server: Remote, data: Path, shell: Shell) -> None:
    assert server.pid
    with held_by_another_process(data), process(["index", "tree"], data) as command:
        assert command.stderr is not None
        assert said(command.stderr, WAITING)
        command.send_signal(signal.SIGINT)
        assert command.wait(BOUND_S) == 130
        assert b"jobs resume" in command.stderr.read()
    last = json.loads(shell("jobs", "show", "--json")[1])
    assert (last["kind"], last["state"]) == ("index", "cancelled")
    assert shell("jobs", "resume")[0] == 0
    assert shell("jobs", "follow")[0] == 0
    assert json.loads(shell("jobs", "show", "--json")[1])["state"] == "done"


# The end of a server


def test_a_server_that_is_killed_leaves_no_process_and_a_job_that_goes_on(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_tree(tmp_path / "tree", COUNTER)
    with a_server(data) as server, held_by_another_process(data), process(["index", "tree"], data) as command:
        assert command.stderr is not None
        assert said(command.stderr, WAITING)
        children = children_of(server.pid)
        assert children
        server.kill()
        assert command.wait(BOUND_S) == 2
        message = command.stderr.read().decode()
        assert "went away" in message
        assert "jobs resume" in message
        for child in children:
            assert dies(child)
    assert find(data) is None
    there = ("--data", str(data))
    listed = json.loads(shell("jobs", "--json", *there)[1])["jobs"]
    assert [(job["kind"], job["state"]) for job in listed] == [("index", "interrupted")]
    with a_server(data):
        assert json.loads(shell("jobs", "show", "--json", *there)[1])["state"] == "interrupted"
        assert shell("jobs", "resume", listed[0]["id"][:4], *there)[0] == 0
        assert shell("jobs", "follow", *there)[0] == 0
    assert shell("search", "Increment", *there)[0] == 0


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def dies(pid: int) -> bool:
    """Whether a process ends by itself within a bounded time."""
    looks = threading.Event()
    for _ in range(int(BOUND_S / 0.05)):
        with suppress(OSError):
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        looks.wait(0.05)
    return False
