"""What our layer costs a request, and whether a backend ever answers from less than its prompt: `make bench-backends`.

Overhead is the time from a finished prompt to its last byte at the server: a stub in a process of its own, which notes
when each request has arrived. A prompt near the window is counted again by the server's tokenizer, so that is measured
apart, against a real llama.cpp. The sweep asks every backend that can be made here with prompts around its window.
"""

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from hub.backends.llama_server import LlamaServerBackend
from hub.backends.ollama import OllamaBackend
from hub.backends.openai_compatible import OpenAiCompatibleBackend
from hub.errors import BackendError, BrokenStream, PromptTooLong
from hub.model import Backend, Completion, GenerationOptions, Prompt

# Tokens.
SIZES = (1_000, 16_000, 200_000)
WINDOW = 1 << 20
LINE = "    for (const auto& step : path.steps()) total += step.length;  // in metres, as Path::length says\n"
# UTF-8 bytes. The line takes so many a token in SmolLM2's vocabulary.
BYTES_A_TOKEN = 3.6
# The overhead that the project allows.
BAR_MS = 10.0
SWEEP_WINDOW = 512


class _Stub(BaseHTTPRequestHandler):
    """Answers as llama.cpp, vLLM and Ollama do, as far as the backends ask, with the time at which a chat was whole."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Says nothing."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        arrived = time.perf_counter()
        size = len(raw) * 10 // 36
        self.close_connection = True
        match self.path:
            case "/v1/chat/completions":
                choice = {"delta": {"content": repr(arrived)}, "finish_reason": "stop"}
                usage = {"prompt_tokens": size, "completion_tokens": 1}
                event = f"data: {json.dumps({'choices': [choice], 'usage': usage})}\n\ndata: [DONE]\n\n"
                self._send(event, "text/event-stream")
            case "/api/chat":
                counts = {"prompt_eval_count": size, "eval_count": 1, "done": True, "done_reason": "stop"}
                self._send(json.dumps({"message": {"content": repr(arrived)}, **counts}) + "\n")
            case "/api/show":
                facts = {"general.architecture": "qwen2", "qwen2.context_length": WINDOW}
                self._send(json.dumps({"model_info": facts, "capabilities": ["completion"]}))
            case "/api/tags":
                self._send(json.dumps({"models": [{"name": "stub", "model": "stub", "size": 1, "digest": "0" * 12}]}))
            case "/api/version":
                self._send(json.dumps({"version": "0.17.4"}))
            case "/v1/models":
                self._send(json.dumps({"data": [{"id": "stub", "owned_by": "vllm", "max_model_len": WINDOW}]}))
            case "/props":
                self._send(json.dumps({"default_generation_settings": {"n_ctx": WINDOW}, "model_path": "stub"}))
            case "/apply-template":
                self._send(json.dumps({"prompt": "".join(said["content"] for said in json.loads(raw)["messages"])}))
            case "/tokenize":
                self._send(json.dumps({"tokens": [1] * size, "count": size}))
            case _:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

    def _send(self, text: str, kind: str = "application/json") -> None:
        payload = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stub)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


@contextmanager
def stub() -> Iterator[str]:
    """The address of a stub in another process, so that it takes no time of ours."""
    process = subprocess.Popen([sys.executable, __file__, "--stub"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(10)


def prompt_of(tokens: int) -> Prompt:
    lines = round(tokens * BYTES_A_TOKEN / len(LINE))
    return Prompt("You explain C++ in one sentence and cite the evidence.", LINE * lines, (), (), tokens)


def overhead_ms(backend: Backend, prompt: Prompt, repeats: int) -> list[float]:
    """Milliseconds from the call to the last byte of the prompt at the stub, for each request."""
    taken: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        *_, end = backend.stream(prompt, GenerationOptions(max_tokens=64, timeout_s=30))
        assert isinstance(end, Completion)
        taken.append((float(end.text) - began) * 1000)
    return taken


def print_overhead(repeats: int) -> None:
    makers: dict[str, Callable[[str], Backend]] = {
        "llama.cpp server": LlamaServerBackend,
        "  asked for its facts anew": lambda url: LlamaServerBackend(url, clock=itertools.count(step=2).__next__),
        "OpenAI-compatible (vLLM)": OpenAiCompatibleBackend,
        "Ollama": lambda url: OllamaBackend(url, "stub", num_ctx=WINDOW),
    }
    print("Overhead of a request, prompt ready to last byte sent: ms")
    print(f"median of {repeats} (fastest, first); the bar is {BAR_MS:.0f}\n")
    print(f"{'backend':28}" + "".join(f"{size:>22,}" for size in SIZES) + "   tokens")
    with stub() as url:
        for name, make in makers.items():
            cells = []
            for size in SIZES:
                with closing(make(url)) as backend:
                    first, *rest = overhead_ms(backend, prompt_of(size), repeats + 1)
                cells.append(f"{statistics.median(rest):.1f} ({min(rest):.1f}, {first:.1f})")
            print(f"{name:28}" + "".join(f"{cell:>22}" for cell in cells))


def print_counting(repeats: int) -> None:
    from tests.support.real_llama import llama_server  # noqa: PLC0415 - loads llama.cpp

    print("\nCounting a prompt again, which is done near the window only: ms, median, a real llama.cpp's tokenizer")
    with llama_server(1024) as url, closing(LlamaServerBackend(url)) as backend:
        cells = []
        for size in SIZES:
            prompt = prompt_of(size)
            taken = []
            for _ in range(max(3, repeats // 4)):
                began = time.perf_counter()
                try:
                    backend.stream(prompt, GenerationOptions(max_tokens=64))
                except PromptTooLong as error:
                    counted = error.message
                taken.append((time.perf_counter() - began) * 1000)
            cells.append(f"{statistics.median(taken):.0f}")
        print(f"{'llama.cpp server':28}" + "".join(f"{cell:>22}" for cell in cells))
        print(f"  ({counted})")


def outcome(backend: Backend, prompt: Prompt, least: int) -> str:
    try:
        *_, end = backend.stream(prompt, GenerationOptions(max_tokens=4, timeout_s=120))
    except PromptTooLong:
        return "refused"
    except BrokenStream:
        return "broken"
    except BackendError as error:
        return f"failed: {error.message}"
    assert isinstance(end, Completion)
    return "whole" if end.usage.prompt >= least else "SILENT"


def print_sweep() -> int:
    """Prints the table and returns how often an answer was made from less than its prompt."""
    from tests.contract.backends import MAKERS  # noqa: PLC0415 - loads llama.cpp

    print(f"\nPrompts of {SWEEP_WINDOW - 140} to {SWEEP_WINDOW + 40} tokens and twice the window of {SWEEP_WINDOW}")
    print(f"{'backend':28}{'asked':>8}{'whole':>8}{'refused':>8}{'broken':>8}{'SILENT':>8}")
    silent = 0
    for name, make in MAKERS.items():
        if name == "evidence only":
            continue
        with make(SWEEP_WINDOW) as made:
            rate = made.backend.count_tokens(" word" * 1000) / 1000
            sizes = (*range(SWEEP_WINDOW - 140, SWEEP_WINDOW + 41, 5), 2 * SWEEP_WINDOW)
            found: Counter[str] = Counter()
            for by in (rate, 1.0):  # by the backend's own count, and by words
                for size in sizes:
                    text = " word" * round(size / by)
                    for stated in (made.backend.count_tokens(text), 1):
                        asked = Prompt("", text, (), (), stated)
                        found[outcome(made.backend, asked, made.true_tokens(text))] += 1
        counts = "".join(f"{found[kind]:>8}" for kind in ("whole", "refused", "broken", "SILENT"))
        others = [kind for kind in found if kind.startswith("failed")]
        print(f"{name:28}{found.total():>8}{counts}  {' '.join(others)}", flush=True)
        silent += found["SILENT"]
    print(f"silent truncations: {silent}")
    return silent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--stub", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-sweep", action="store_true", help="leave the prompts around the window out")
    arguments = parser.parse_args()
    if arguments.stub:
        serve()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    print_overhead(arguments.repeats)
    print_counting(arguments.repeats)
    return 1 if not arguments.no_sweep and print_sweep() else 0


if __name__ == "__main__":
    sys.exit(main())
