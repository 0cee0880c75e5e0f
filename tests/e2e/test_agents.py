"""An agent's day with the sample: a change that breaks a function, the tests that say so, the right change, a branch.

Everything is real: the server, its doors, the tools over MCP, git, the sandbox, a compiler. A person approves at the
command line.
"""

import difflib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents import sandbox
from tests.support.command import COMMAND, LIMIT_S, ROOT, environment, run_here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(shutil.which, ("cmake", "g++", "make", "git"))), reason="needs g++, CMake and git"),
]

BOUND_S = 280.0  # of the whole: three builds of the sample, two of them mostly out of ccache
FILE = "src/table_builder.cc"
FUNCTION = "return (filter[bit / 8] & (1 << (bit % 8))) != 0;"
BROKEN = FUNCTION.replace("!= 0", "== 0")
RIGHT = "return (filter[bit / 8] >> (bit % 8)) % 2 != 0;"
PLAIN = {"CODEHUB_EMBEDDINGS": "none"}
PROTOCOL = "2025-06-18"
APPROVAL = re.compile(r"\b[0-9a-f]{32}\b")


class Agent:
    """Speaks JSON-RPC with ``codehub mcp``, a line each, as a client of the handshake's era does."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._number = 0
        client = {"name": "test", "version": "1"}
        self.asked("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def asked(self, method: str, parameters: Mapping[str, Any]) -> Any:
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]
        raise AssertionError("it ended before it answered")

    def call(self, tool: str, **arguments: Any) -> tuple[str, bool]:
        """The text of the result, and whether it is an error."""
        result = self.asked("tools/call", {"name": tool, "arguments": arguments})
        assert "structuredContent" not in result
        return "\n".join(part["text"] for part in result["content"]), bool(result.get("isError"))

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


@contextmanager
def process(data: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(data, PLAIN),
        cwd=data.parent,
    ) as made:
        overdue = threading.Timer(BOUND_S, made.kill)
        overdue.start()
        try:
            yield made
        finally:
            overdue.cancel()
            made.send_signal(signal.SIGTERM)
            try:
                made.wait(LIMIT_S / 4)
            finally:
                made.kill()


def git(tree: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", tree, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def patch(tree: Path, old: str, new: str) -> str:
    """The change of one line as a diff, as a model writes it."""
    text = (tree / FILE).read_text(encoding="utf-8")
    assert text.count(old) == 1
    lines = text.splitlines(keepends=True), text.replace(old, new).splitlines(keepends=True)
    return "".join(difflib.unified_diff(*lines, f"a/{FILE}", f"b/{FILE}"))


def approved(data: Path, refused: str) -> str:
    """The id of the request that a refusal names, once a person has looked at it and let it pass."""
    found: str
    (found,) = set(APPROVAL.findall(refused))
    waiting = run_here(["approve"], data)
    assert found in waiting.out, waiting
    assert run_here(["approve", found], data).code == 0
    return found


def the_sample(folder: Path) -> tuple[Path, Path]:
    """The sample as a repository, and a data folder with its index and recipes."""
    tree, data = folder / "ember", folder / "data"
    shutil.copytree(ROOT / "sample_repo", tree)
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "Import")
    data.mkdir(mode=0o700)
    assert run_here(["index", tree, "--no-vectors"], data).code == 0
    recipes = run_here(["recipes", "--template", "cmake"], data).out
    (data / "recipes.toml").write_text(recipes, encoding="utf-8")
    # The developer's own run, which fills the workspace's ccache: a run with somebody's patch only reads that.
    built = run_here(["run", "build", "--json"], data)
    assert (built.code, built.json()["state"]) == (0, "passed"), built
    return tree, data


@pytest.mark.timeout(BOUND_S)
@pytest.mark.skipif(not sandbox.look().available, reason="nothing can be run apart here")
def test_a_broken_function_is_found_by_its_test_and_the_right_patch_goes_to_a_branch(tmp_path: Path) -> None:
    tree, data = the_sample(tmp_path)
    with process(data, "serve", "--port", "0") as server:
        assert server.stdout is not None
        assert any(b"Ctrl-C stops it" in line for line in server.stdout)
        with process(data, "mcp") as relay:
            agent = Agent(relay)

            # The change that breaks a function: nothing runs before a person has let it pass.
            breaking = {"recipe": "tests", "patch": patch(tree, FUNCTION, BROKEN)}
            refused, is_error = agent.call("run", **breaking)
            assert is_error
            assert "codehub approve" in refused
            approval = approved(data, refused)
            text, is_error = agent.call("run", **breaking, approval=approval)
            text = followed(agent, text)
            assert text.startswith("FAILED")
            assert "ABloomFilterNeverMissesAndSeldomLies" in text
            assert "BloomFilter::MayContain" in text
            assert "tests/ember_test.cc:138" in text
            assert agent.call("run", **breaking, approval=approval)[1], "an approval holds once"

            # The right change, tried by the same tests, and let pass for exactly this patch.
            right = {"recipe": "apply_patch", "patch": patch(tree, FUNCTION, RIGHT)}
            refused, is_error = agent.call("run", **right)
            assert is_error
            approval = approved(data, refused)
            assert agent.call("run", **breaking, approval=approval)[1]
            text = followed(agent, agent.call("run", **right, approval=approval)[0])
            assert text.startswith("PASSED")
            assert RIGHT in text
            run_id = re.findall(r"\b(?:run|job)[ =]+([0-9a-f]{4,64})\b", text)[0]

            # Onto a branch, which is asked for once more. The user's own checkout stays as it was.
            writing = {
                "recipe": "write_branch",
                "arguments": [f"run={run_id}", "branch=agents/bloom", "message=Ask for the bit by shifting"],
            }
            refused, is_error = agent.call("run", **writing)
            assert is_error
            text = followed(agent, agent.call("run", **writing, approval=approved(data, refused))[0])
            assert "agents/bloom" in text
            assert RIGHT in git(tree, "show", f"agents/bloom:{FILE}")
            assert git(tree, "log", "-1", "--format=%s", "agents/bloom") == "Ask for the bit by shifting"
            assert git(tree, "rev-parse", "agents/bloom^") == git(tree, "rev-parse", "main")
            assert git(tree, "status", "--porcelain") == ""
            assert git(tree, "rev-parse", "--abbrev-ref", "HEAD") == "main"

    assert_recorded(data)


def assert_recorded(data: Path) -> None:
    """Each run and each request for one stands in a log that holds together."""
    verified = run_here(["audit", "verify"], data)
    assert verified.code == 0, verified
    entries = run_here(["audit", "show", "--limit", "100", "--json"], data).json()["entries"]
    outcomes = [(entry["action"], entry["outcome"]) for entry in entries if entry["action"] == "tool.run"]
    assert outcomes.count(("tool.run", "done")) == 3
    assert outcomes.count(("tool.run", "asked")) >= 3


def followed(agent: Agent, text: str) -> str:
    """The result, after whatever waiting it took."""
    for _ in range(20):
        waiting = re.search(r"\bid=([0-9a-f]{4,64})\b", text)
        if not re.match("QUEUED|RUNNING", text) or waiting is None:
            return text
        text = agent.call("job", id=waiting[1], wait=25)[0]
    raise AssertionError(text)
