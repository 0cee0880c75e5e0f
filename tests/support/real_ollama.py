"""A real Ollama: built with Go from its module, and a server of it on loopback with a folder of models of its own.

``python -m tests.support.real_ollama FOLDER`` builds; ``RealOllama(binary, folder)`` runs what was built. Nothing of
the user's own Ollama is touched: HOME, models and port are others.

A Go module comes without folders named ``vendor``, where Ollama keeps three libraries of headers. JSON for C++ is a
package on PyPI. The decoders of sounds and pictures are stood in for by ``ollama_headers``, since tests need neither.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

# The last that was seen to bring a runner of its own in its Go module; logprobs came with 0.12.11.
VERSION = "0.17.4"
JSON_PACKAGE = "nlohmann-json==3.12.0"
# Seconds. Two cores that do nothing else need about 250, the downloads apart. 300 to 1,800.
BUILD_LIMIT_S = 900
# Seconds. A server listens after one; the rest is for machines under load.
START_LIMIT_S = 60

_LISTENING = re.compile(r"Listening on (127\.0\.0\.1:\d+)")
_HEADERS = Path(__file__).parent / "ollama_headers"


class NotBuilt(Exception):
    """Why there is no Ollama to test against."""


def build(folder: Path) -> Path:
    """The path of the binary, made unless it is there. Raises NotBuilt with the reason in one line."""
    folder = folder.resolve()
    binary = folder / f"ollama-{VERSION}"
    if binary.is_file():
        return binary
    if shutil.which("go") is None or shutil.which("g++") is None:
        raise NotBuilt("Go and g++ are needed to build Ollama")
    folder.mkdir(parents=True, exist_ok=True)
    headers = _json_headers(folder)
    flags = "-O2 -march=x86-64-v3" if _has_avx2() else "-O2"  # without AVX2 a prompt is read three times slower
    environment = {
        **os.environ,
        "GOBIN": str(folder),
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": flags,
        "CGO_CXXFLAGS": flags,
        "CPLUS_INCLUDE_PATH": f"{headers}{os.pathsep}{_HEADERS}",
    }
    setting = f"-s -w -X=github.com/ollama/ollama/version.Version={VERSION}"
    command = ["go", "install", "-ldflags", setting, f"github.com/ollama/ollama@v{VERSION}"]
    _run(command, environment, BUILD_LIMIT_S)
    (folder / "ollama").replace(binary)
    return binary


def _json_headers(folder: Path) -> Path:
    """The folder to include from."""
    target = folder / "json"
    if not target.is_dir():
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), JSON_PACKAGE]
        _run(download, os.environ, 120)
        (wheel,) = folder.glob("nlohmann_json-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    return target / "nlohmann_json" / "include"


def _run(command: list[str], environment: Mapping[str, str], limit_s: float) -> None:
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise NotBuilt(
            f"{command[0]} took longer than {limit_s:.0f} s; what it has done is kept for the next"
        ) from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)  # the compilers that it has started, too
            process.communicate()
    if process.returncode:
        raise NotBuilt(f"{' '.join(command)} failed: {said.strip()[-1500:]}")


def _has_avx2() -> bool:
    facts = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and facts.is_file() and " avx2 " in facts.read_text(encoding="utf-8")


def ask(url: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
    """The status and the answer of a plain request: JSON, or a list of it where it comes in lines, or text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as refusal:
        status, text = refusal.code, refusal.read().decode()
    try:
        lines = [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return status, text
    return status, lines[0] if len(lines) == 1 else lines


class RealOllama:
    """``with RealOllama(binary, folder) as ollama: ollama.create("name", "FROM /some.gguf")``."""

    def __init__(self, binary: Path, folder: Path, **environment: str) -> None:
        self._binary = binary
        self._folder = folder
        self._environment = environment
        self._listens = threading.Event()
        self._lines: list[str] = []
        self._address = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self._address}"

    @property
    def log(self) -> str:
        return "\n".join(self._lines)

    def start(self) -> None:
        """Starts the server, again after ``kill`` and on the same port then."""
        self._listens.clear()
        self._process = subprocess.Popen(
            [self._binary.resolve(), "serve"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._folder),
                "OLLAMA_MODELS": str(self._folder / "models"),
                "OLLAMA_HOST": self._address or "127.0.0.1:0",
                "OLLAMA_NO_CLOUD": "1",
                "OLLAMA_DEBUG": "1",
                **self._environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,))
        self._reader.start()
        if not self._listens.wait(START_LIMIT_S) or not self._address:
            self.stop()
            raise AssertionError(f"Ollama did not start:\n{self.log[-3000:]}")

    def stop(self) -> None:
        """Ends the server and the runners it started, which end with it."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(20)

    def kill(self) -> None:
        """Ends the server and its runners without a word, as a crash does."""
        os.killpg(self._process.pid, 9)
        self._process.wait(20)
        self._reader.join(20)

    def create(self, name: str, modelfile: str) -> None:
        """Imports a model as ``ollama create`` does."""
        path = self._folder / "Modelfile"
        path.write_text(modelfile, encoding="utf-8")
        done = subprocess.run(
            [self._binary.resolve(), "create", name, "-f", path],
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "OLLAMA_HOST": self.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.append(line.rstrip())
            if match := _LISTENING.search(line):
                self._address = match[1]
                self._listens.set()
        stream.close()
        self._listens.set()  # it ended; whoever waits looks at the address


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
    except NotBuilt as reason:
        sys.stderr.write(f"There is no Ollama to test against: {reason}.\n")
        sys.exit(3)
