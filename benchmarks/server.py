"""How fast the server answers many at once, and what stays behind: search, streams of answers, and a long mixed load.

    python benchmarks/server.py [TREE ...] [--data DIR] [--json]

Indexes the trees together, or a made-up one, unless ``--data`` names a folder with an index. The server runs in a
process of its own, and so does a scripted model; the clients are threads of this one, on the same cores. Every figure
stands beside what it is compared with, taken in the same run.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the server has it, before numpy is imported

from hub import config, wiring  # noqa: E402 - the path is set above, so that a plain checkout works
from indexer.index import DataFolder, Index  # noqa: E402 - as above
from tests.support.scripted_server import CHAT, ScriptedServer, counts, event, prompt_tokens, stream, vllm, whole  # noqa: E402 - as above

CLIENTS = 8
SEARCHES = 160  # of each way of asking, none of them asked twice
THINK_S = 1.0  # between two searches of one person, where they are not asked one after the other
STREAMS = 100
TOKENS = 200  # of each stream
FEW_TOKENS = 20  # of streams that are asked to be brief, from which the price of one more token is told
BRIEF = "in brief"
MIXED = 2_000  # requests of the mixed load
MADE_UP_FILES = 1_400  # about 25,000 chunks
_WORD = re.compile(r"[a-z]{3,}")


def main() -> None:
    options = _options()
    with ExitStack() as stack:
        base = Path(stack.enter_context(TemporaryDirectory()))
        data = options.data or base / "data"
        if not options.data:
            _index(_tree(options.trees, base / "tree"), data)
        workspace, chunks, questions = _questions(data)
        rows: list[tuple[str, dict[str, float]]] = []
        told: dict[str, Any] = {"chunks": chunks, "cores": os.cpu_count(), "rows": rows}
        _say(f"{chunks:,} chunks, {os.cpu_count()} cores, {len(questions)} questions")

        def row(name: str, figures: dict[str, float]) -> None:
            rows.append((name, figures))
            _say(f"| {name} | " + " | ".join(f"{key} {value:,.4g}" for key, value in figures.items()) + " |")

        backend = stack.enter_context(_backend())
        server = stack.enter_context(_server(data, backend))
        part = iter(questions[n : n + options.searches] for n in range(0, len(questions), options.searches))
        warm = next(part)
        _searches(server, workspace, warm, 1)
        row("search, in process, 1 thread", _in_process(data, workspace, next(part)))
        row("search, HTTP, 1 client", _searches(server, workspace, next(part), 1))
        row(f"search, HTTP, {CLIENTS} clients, no pause", _searches(server, workspace, next(part), CLIENTS))
        row(f"search, HTTP, {CLIENTS} clients, 1 s pause", _searches(server, workspace, next(part), CLIENTS, THINK_S))
        again = warm[:64]  # of which the server keeps what it found
        _searches(server, workspace, again, 1)
        row(f"search, HTTP, {CLIENTS} clients, asked before", _searches(server, workspace, again, CLIENTS))
        _streams(server, workspace, options.streams, questions)  # what is made for the first of them is not lost
        seconds = []
        for tokens in (FEW_TOKENS, TOKENS):
            direct = _direct(backend, options.streams, tokens)
            row(f"{options.streams} streams of {tokens}, the model itself", direct)
            asked = [f"{question} {BRIEF}" for question in questions] if tokens == FEW_TOKENS else questions
            served = _streams(server, workspace, options.streams, asked)
            row(f"{options.streams} streams of {tokens}, ask", served)
            seconds.append((served["seconds"] - direct["seconds"], served["CPU s"]))
        further = (TOKENS - FEW_TOKENS) * options.streams / 1e3
        (few, few_cpu), (many, many_cpu) = seconds
        row(
            "of the server, for each further token",
            {"ms": (many - few) / further, "CPU ms": (many_cpu - few_cpu) / further},
        )
        row(f"mixed load, {options.mixed} requests", _mixed(server, workspace, questions, options.mixed))
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        print(_table(rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--data", type=Path, help="a data folder with an index, which is not changed but by the load")
    parser.add_argument("--searches", type=int, default=SEARCHES)
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--mixed", type=int, default=MIXED)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(rows: Sequence[tuple[str, dict[str, float]]]) -> str:
    lines = ["| what | figures |", "|---|---|"]
    return "\n".join(
        [*lines, *(f"| {name} | {', '.join(f'{k} {v:,.4g}' for k, v in told.items())} |" for name, told in rows)]
    )


# What is served


def _tree(trees: Sequence[Path], made: Path) -> Path:
    """The trees below one folder; a made-up one where none are given."""
    made.mkdir(parents=True)
    for number, tree in enumerate(trees):
        shutil.copytree(tree, made / f"{number}-{tree.resolve().name}", symlinks=True)
    if trees:
        return made
    chance = random.Random(1)
    words = sorted(set(_WORD.findall((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").lower())))
    for number in range(MADE_UP_FILES):
        parts = []
        for place in range(18):
            name = "_".join(chance.sample(words, 3))
            said = " ".join(chance.choices(words, k=12))
            body = "".join(f"  {chance.choice(words)}_{line}({place}, {line});\n" for line in range(14))
            parts.append(f"// {said.capitalize()}.\nint {name}(int {chance.choice(words)}_count) {{\n{body}}}\n")
        file = made / chance.choice(words) / f"part_{number}.cc"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(parts), encoding="utf-8")
    return made


def _index(tree: Path, data: Path) -> None:
    began = time.perf_counter()
    command = _codehub("index", str(tree), "--data", str(data), "--workspace", "measured", "--wait", "--json")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _say(f"indexed in {time.perf_counter() - began:.0f} s")


def _codehub(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("codehub")), *arguments]


def _questions(data: Path) -> tuple[str, int, list[str]]:
    """The workspace, how many chunks it has, and what can be asked of it: comments and names, each once."""
    folder = DataFolder(data)
    workspace = folder.workspaces()[0].name
    with Index.for_reading(folder, workspace) as index:
        chance = random.Random(7)
        symbols = list(index.facts.all_symbols())
        docs = sorted({" ".join(symbol.doc.split())[:200] for symbol in symbols if len(symbol.doc) > 40})
        names = sorted({symbol.qualified_name for symbol in symbols})
        asked = [*chance.sample(docs, min(1_000, len(docs))), *chance.sample(names, min(400, len(names)))]
        if len(docs) < 600:
            asked += [f"how is {name} used" for name in chance.sample(names, min(800, len(names)))]
        chance.shuffle(asked)
        return workspace, index.text.size(), asked


# Who answers


@contextmanager
def _backend() -> Iterator[str]:
    """A model that streams TOKENS words at once, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MODEL, str(ROOT / "benchmarks")],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    try:
        assert process.stdout
        yield process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.wait()


_MODEL = """
import sys
sys.path.insert(0, sys.argv[1])
from server import model
model()
"""


def model() -> None:
    """The process of the scripted model: tells its address, and ends when nobody holds its input any more."""
    answers = dict(vllm(32_768))
    answers[CHAT] = _answer
    with ScriptedServer(answers) as server:
        print(server.url, flush=True)
        sys.stdin.read()


def _answer(body: Any) -> Any:
    if not body.get("stream"):
        return whole({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {}})
    words = _words(FEW_TOKENS if BRIEF in json.dumps(body["messages"]) else TOKENS)
    return stream(*map(event, words), event(finish="stop"), counts(prompt_tokens(body), len(words)), "data: [DONE]")


def _words(number: int) -> list[str]:
    """So many pieces: sentences that repeat nothing, name nothing and cite what is shown."""
    chance = random.Random(3)
    words = sorted(set(_WORD.findall((ROOT / "README.md").read_text(encoding="utf-8").lower())))
    pieces: list[str] = []
    while len(pieces) < number:
        sentence = [f" {word}" for word in chance.sample(words, 8)]
        pieces += [" It", *sentence, " [1]."]
    return pieces[:number]


class _Server:
    """A server that runs, and what its process takes."""

    def __init__(self, told: dict[str, Any]) -> None:
        parts = urlsplit(told["url"])
        self.host, self.port, self.pid, self.key = parts.hostname, parts.port, int(told["pid"]), told["first_key"]

    def connect(self) -> HTTPConnection:
        return HTTPConnection(str(self.host), self.port, timeout=300)

    def ask(self, connection: HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        sent = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def mebibytes(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def cpu_s(self) -> float:
        """Of all its threads so far: unlike what a clock tells, hardly changed by what else the machine does."""
        parts = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@contextmanager
def _server(data: Path, backend: str) -> Iterator[_Server]:
    settings = {
        "CODEHUB_BACKEND": "openai",
        "CODEHUB_OPENAI_URL": backend,
        "CODEHUB_SERVER_REQUESTS_PER_MINUTE": "10000000",
        "CODEHUB_SERVER_ASKS_PER_MINUTE": "10000000",
        "CODEHUB_CALIBRATION_BACKGROUND": "0",
    }
    (data / "keys.db").unlink(missing_ok=True)  # so that a first key is told
    process = subprocess.Popen(
        _codehub("serve", "--port", "0", "--data", str(data), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **settings},
    )
    try:
        assert process.stdout
        yield _Server(json.loads(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait(timeout=60)


# What is measured


def _in_process(data: Path, workspace: str, questions: Sequence[str]) -> dict[str, float]:
    """The same search without a server: what the rest is compared with."""
    settings = config.load({"data": data, "backend": "none"}, environment={}, folder=data)
    with wiring.open_service(settings, workspace, data) as service:
        for question in questions[:20]:
            service.search(f"{question} ", 10)
        return _timed([lambda question=question: service.search(question, 10) for question in questions])  # type: ignore[misc]


def _searches(
    server: _Server, workspace: str, questions: Sequence[str], clients: int, pause_s: float = 0.0
) -> dict[str, float]:
    """Each client asks its share of the questions, one after the other or with pauses between."""
    times: list[float] = []
    failed: list[int] = []

    def client(number: int) -> None:
        connection = server.connect()
        for place, question in enumerate(questions[number::clients]):
            if pause_s:
                time.sleep(pause_s * (random.Random(place * clients + number).random() + 0.5))
            began = time.perf_counter()
            status, _ = server.ask(connection, "POST", "/api/v1/search", {"query": question, "workspace": workspace})
            times.append(time.perf_counter() - began)
            if status != 200:
                failed.append(status)
        connection.close()

    cpu_s = server.cpu_s()
    seconds = _at_once(clients, client)
    cost = 1e3 * (server.cpu_s() - cpu_s) / len(times)
    return {**_spread(times, seconds), "CPU ms": cost, "errors": len(failed)}


def _timed(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    times = []
    whole_s, cpu_s = time.perf_counter(), time.process_time()
    for call in calls:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    cost = 1e3 * (time.process_time() - cpu_s) / len(times)
    return {**_spread(times, time.perf_counter() - whole_s), "CPU ms": cost}


def _spread(times: list[float], seconds: float) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50 ms": 1e3 * ordered[len(ordered) // 2],
        "p95 ms": 1e3 * ordered[int(len(ordered) * 0.95)],
        "a second": len(ordered) / seconds,
    }


def _direct(backend: str, number: int, tokens: int) -> dict[str, float]:
    """The model's streams read without the server between, all at once."""
    parts = urlsplit(backend)
    expected, wrong = "".join(_words(tokens)), []
    said = BRIEF if tokens == FEW_TOKENS else "at length"

    def read(_place: int) -> None:
        connection = HTTPConnection(str(parts.hostname), parts.port, timeout=300)
        body = {"model": "x", "messages": [{"role": "user", "content": said}], "stream": True, "max_tokens": TOKENS}
        connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
        text = ""
        for line in connection.getresponse():
            if line.startswith(b"data: {") and (choices := json.loads(line[6:])["choices"]):
                text += choices[0]["delta"].get("content", "")
        connection.close()
        if text != expected:
            wrong.append(text)

    seconds = _at_once(number, read)
    return {"seconds": seconds, "wrong": len(wrong)}


def _streams(server: _Server, workspace: str, number: int, questions: Sequence[str]) -> dict[str, float]:
    """So many answers at once. Lost is a stream without its end, wrong one whose pieces are not the answer's text."""
    lost, wrong, pieces = [], [], [0]
    memory, descriptors, cpu_s = server.mebibytes(), server.descriptors(), server.cpu_s()
    lock = threading.Lock()

    def read(place: int) -> None:
        connection = server.connect()
        body = {"question": questions[place], "workspace": workspace, "tier": "rag", "stream": True}
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/ask", json.dumps(body), headers)
        name, text, ended, count = "", "", "", 0
        for line in connection.getresponse():
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: ") and name == "piece":
                text, count = text + json.loads(line[6:])["text"], count + 1
            elif line.startswith(b"data: ") and name == "moved":
                text = ""
            elif line.startswith(b"data: ") and name in {"answer", "error"}:
                ended = name
                if name == "answer" and json.loads(line[6:])["answer"].strip() != text.strip():
                    wrong.append(place)
        connection.close()
        with lock:
            pieces[0] += count
            if ended != "answer":
                lost.append(place)

    seconds = _at_once(number, read)
    cpu_s = server.cpu_s() - cpu_s
    time.sleep(2)  # connections that ended are closed by then
    return {
        "seconds": seconds,
        "CPU s": cpu_s,
        "pieces": pieces[0],
        "lost": len(lost),
        "wrong": len(wrong),
        "MiB more": server.mebibytes() - memory,
        "descriptors more": server.descriptors() - descriptors,
    }


def _at_once(number: int, work: Callable[[int], None]) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(number) as pool:
        list(pool.map(work, range(number)))
    return time.perf_counter() - began


def _mixed(server: _Server, workspace: str, questions: Sequence[str], number: int) -> dict[str, float]:
    """Searches, look-ups and answers, with the tree indexed again in between. Memory after a tenth, a half, and all."""
    failed: list[tuple[str, int]] = []
    jobs = [number // 4, number // 2, 3 * number // 4]
    places = iter(range(number))
    lock = threading.Lock()
    memory: list[float] = []
    descriptors: list[int] = []

    def client(_number: int) -> None:
        connection = server.connect()
        while True:
            with lock:
                place = next(places, None)
            if place is None:
                break
            if place in (number // 10, number // 2, number - 1):
                memory.append(server.mebibytes())
                descriptors.append(server.descriptors())
            method, path, body = _request(place, jobs, workspace, questions)
            status, _ = server.ask(connection, method, path, body)
            if status not in {200, 201, 202}:
                failed.append((path, status))
        connection.close()

    seconds = _at_once(CLIENTS, client)
    for path, status in failed[:5]:
        _say(f"{status} {path}")
    return {
        "seconds": seconds,
        "errors": len(failed),
        "MiB first": memory[0],
        "MiB half": memory[1],
        "MiB last": memory[-1],
        "growth %": 100 * (memory[-1] / memory[0] - 1),
        "descriptors first": descriptors[0],
        "descriptors last": descriptors[-1],
    }


def _request(place: int, jobs: Sequence[int], workspace: str, questions: Sequence[str]) -> tuple[str, str, Any]:
    question = questions[place % len(questions)]
    if place in jobs:
        return "POST", "/api/v1/jobs", {"kind": "index", "workspace": workspace, "arguments": {}}
    match place % 10:
        case 0:
            return "POST", "/api/v1/ask", {"question": question, "workspace": workspace, "tier": "rag"}
        case 1:
            return "GET", f"/api/v1/symbol?name=value&workspace={workspace}", None
        case 2:
            return "GET", f"/api/v1/callers?name=close&workspace={workspace}", None
        case 3:
            return "GET", "/api/v1/workspaces", None
        case _:
            return "POST", "/api/v1/search", {"query": question, "workspace": workspace}


if __name__ == "__main__":
    main()
