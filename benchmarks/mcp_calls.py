"""What a call over MCP costs beside the same call in process: the relay's start, stdio, HTTP, both eras.

    python benchmarks/mcp_calls.py [--calls 300] [--starts 9]

Indexes a small tree into a temporary folder, serves it with ``codehub serve``, and calls ``find_symbol``. Prints
medians and 95th percentiles in milliseconds, and the seconds from starting ``codehub mcp`` to the last of the answers
to initialize, tools/list and a call.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from agents.mcp_server import opened_desk  # noqa: E402 - the path is set above, so that a plain checkout works
from agents.model import AGENT, Call  # noqa: E402 - as above
from agents.router import Router  # noqa: E402 - as above
from hub import config  # noqa: E402 - as above
from indexer.index import DataFolder, Index  # noqa: E402 - as above
from indexer.pipeline import Options, refresh  # noqa: E402 - as above

COMMAND = "import sys; from agents.command import main; sys.exit(main())"
TREE = {
    "counter.h": "struct Counter { void add(int by); };\n",
    "counter.cpp": '#include "counter.h"\nvoid Counter::add(int) {}\n',
}
OLD, NEW = "2025-06-18", "2026-07-28"
CLIENT = {"name": "benchmark", "version": "1"}
META = "io.modelcontextprotocol"
ENVELOPE = {f"{META}/protocolVersion": NEW, f"{META}/clientCapabilities": {}, f"{META}/clientInfo": CLIENT}
ASKED = {"name": "find_symbol", "arguments": {"name": "Counter"}}
Json = dict[str, Any]


def message(method: str, params: Json | None = None) -> Json:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}


GREETING = message("initialize", {"protocolVersion": OLD, "capabilities": {}, "clientInfo": CLIENT})
INITIALIZED: Json = {"jsonrpc": "2.0", "method": "notifications/initialized"}
OLDER, NEWER = message("tools/call", ASKED), message("tools/call", {**ASKED, "_meta": ENVELOPE})


def timed(name: str, call: Callable[[], object], times: int) -> None:
    """Prints how long a call takes, once it is warm."""
    for _ in range(10):
        call()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1e3)
    print(f"{name:28} p50 {median(took):6.2f} ms   p95 {quantiles(took, n=20)[-1]:6.2f} ms")


def environment(data: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    chosen = {"CODEHUB_DATA": str(data), "CODEHUB_BACKEND": "none", "CODEHUB_EMBEDDINGS": "none"}
    limits = {"CODEHUB_SERVER_REQUESTS_PER_MINUTE": "1000000", "CODEHUB_SERVER_PORT": "0"}
    return {**kept, **chosen, **limits, "HOME": str(data.parent), "PYTHONPATH": str(ROOT)}


@contextmanager
def command(data: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    whole = [sys.executable, "-c", COMMAND, *arguments]
    pipes = subprocess.PIPE
    with subprocess.Popen(
        whole, env=environment(data), cwd=data.parent, stdin=pipes, stdout=pipes, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def asked(process: "subprocess.Popen[bytes]", told: Json) -> Json:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.flush()
    answer: Json = json.loads(process.stdout.readline()) if "id" in told else {}
    return answer


def started(data: Path) -> tuple[float, float]:
    """Seconds until a new relay has answered a call, and until it has ended behind the end of its lines."""
    began = time.perf_counter()
    with command(data, "mcp") as process:
        for told in (GREETING, INITIALIZED, message("tools/list"), OLDER):
            asked(process, told)
        answered = time.perf_counter()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)
        return answered - began, time.perf_counter() - answered


def over_http(url: str, key: str, times: int) -> None:
    address = urlsplit(url)
    with closing(HTTPConnection(address.hostname or "", address.port)) as connection:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        headers["accept"] = "application/json, text/event-stream"

        def post(told: Json, more: dict[str, str]) -> str:
            connection.request("POST", "/mcp", json.dumps(told), {**headers, **more})
            reply = connection.getresponse()
            assert reply.status < 300, reply.status
            reply.read()
            return reply.headers.get("mcp-session-id", "")

        older = {"mcp-session-id": post(GREETING, {}), "mcp-protocol-version": OLD}
        post(INITIALIZED, older)
        newer = {"mcp-protocol-version": NEW, "mcp-method": "tools/call", "mcp-name": ASKED["name"]}
        timed("HTTP, older era", lambda: post(OLDER, older), times)
        timed("HTTP, newer era", lambda: post(NEWER, newer), times)  # type: ignore[arg-type] # a text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--starts", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        root, data = Path(made) / "tree", Path(made) / "data"
        root.mkdir()
        for name, text in TREE.items():
            (root / name).write_text(text, encoding="utf-8")
        folder = DataFolder(data)
        with folder.owned(), Index.for_writing(folder, "w", root) as index:
            refresh(index, Options(workers=1), ())
        settings = config.load({"data": data, "backend": "none", "embeddings": "none"}, {}, data)
        with opened_desk(settings) as desk, closing(Router(desk)) as router:
            arguments: Json = ASKED["arguments"]  # type: ignore[assignment] # an object
            timed("in process", lambda: router.call(Call(AGENT), "find_symbol", arguments), options.calls)
        with command(data, "serve", "--json") as server:
            assert server.stdout is not None
            told = json.loads(server.stdout.readline())
            over_http(told["url"], told["first_key"], options.calls)
            with command(data, "mcp") as relay:
                for greeting in (GREETING, INITIALIZED):
                    asked(relay, greeting)
                timed("stdio, older era", lambda: asked(relay, OLDER), options.calls)
                timed("stdio, newer era", lambda: asked(relay, NEWER), options.calls)
            both = [started(data) for _ in range(options.starts)]
            print(f"start to answer: p50 {median(one for one, _ in both):.3f} s, slowest {max(both)[0]:.3f} s")
            print(f"end of lines to end: p50 {median(one for _, one in both):.3f} s")


if __name__ == "__main__":
    main()
