"""What llama.cpp itself says it would allocate: the truth that planning is held against.

xllamacpp opens a model of sparse weights, told to allocate nothing, and prints what each part would take before it
gives up. All of that happens in a process of its own, and each case in a fork of it, because giving up is to abort.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hub.capacity.model import KvType, Load, Placement

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 240.0  # for all cases together; one takes about 0.1 s
_MIB = 1 << 20
_CACHE = re.compile(r"llama_kv_cache: size = *([\d.]+) MiB \( *(\d+) cells, *(\d+) layers, .*?K \(.*?\): *([\d.]+) MiB")
_STATE = re.compile(r"llama_memory_recurrent: size = *([\d.]+) MiB")
_COMPUTE = re.compile(r"sched_reserve: +\S+ compute buffer size = *([\d.]+) MiB")
_TRAINED = re.compile(r"print_info: n_ctx_train += (\d+)")
_ORIGINAL = re.compile(r"print_info: n_ctx_orig_yarn += (\d+)")
_SCALING = re.compile(r"print_info: rope scaling += (\w+)")
_HOST = re.compile(r"\| +- Host +\| +(\d+) = +(\d+) \+ +(\d+) \+ +(\d+)")


@dataclass(frozen=True, slots=True)
class Told:
    """Bytes as llama.cpp prints them, in hundredths of a MiB; weights in whole MiB, rounded down."""

    kv: float
    state: float
    compute: float
    weights: float
    cells: tuple[int, ...]  # of each cache, those of the sliding layers last
    trained: int  # tokens, as the metadata say
    original: int  # before scaling
    scaling: str  # of RoPE

    @property
    def total(self) -> float:
        return self.kv + self.state + self.compute + self.weights


def ask(cases: Sequence[tuple[Path, Load]]) -> list[Told]:
    """One answer for each case. Raises AssertionError with llama.cpp's own words where it gives none."""
    request = json.dumps([{"path": str(path), **asdict(load)} for path, load in cases])
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.oracle"],
        input=request,
        capture_output=True,
        text=True,
        cwd=ROOT,
        # A backtrace would start a debugger, for 20 s each.
        env={"PATH": os.environ.get("PATH", ""), "OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"},
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout)
    for (path, load), answer in zip(cases, answers, strict=True):
        assert "failed" not in answer, f"{path.name} with {load}: {answer['failed']}"
    return [Told(**{**answer, "cells": tuple(answer["cells"])}) for answer in answers]


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import xllamacpp

    json.dump([_asked(xllamacpp, case) for case in json.load(sys.stdin)], sys.stdout)


def _asked(library: Any, case: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.closerange(3, writing + 1)
        _load(library, case)
        os._exit(0)
    os.close(writing)
    try:
        text = _until_told(reading)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # before it tries other settings, or aborts, which takes seconds
        os.waitpid(child, 0)
    host, compute, state = _HOST.search(text), _COMPUTE.search(text), _STATE.search(text)
    caches = _CACHE.findall(text)
    trained, original, scaling = _TRAINED.search(text), _ORIGINAL.search(text), _SCALING.search(text)
    if host is None or compute is None or trained is None or original is None or scaling is None:
        return {"failed": text[-1500:]}
    return {
        "kv": sum(float(cache[0]) for cache in caches) * _MIB,
        "state": float(state[1]) * _MIB if state else 0.0,
        "compute": float(compute[1]) * _MIB,
        "weights": int(host[2]) * _MIB,
        "cells": [int(cache[1]) for cache in caches],
        "trained": int(trained[1]),
        "original": int(original[1]),
        "scaling": scaling[1],
    }


def _until_told(reading: int) -> str:
    """What it prints up to the breakdown; all of it where there is none."""
    pieces = []
    with open(reading, encoding="utf-8", errors="replace", closefd=False) as lines:
        for line in lines:
            pieces.append(line)
            if _HOST.search(line):
                break
    return "".join(pieces)


def _load(library: Any, case: dict[str, Any]) -> None:
    assert case["placement"] == Placement.CPU
    settings = library.CommonParams()
    settings.model.path = case["path"]
    settings.n_ctx = case["context"]
    settings.n_parallel = case["parallel"]
    settings.kv_unified = case["unified"]
    settings.n_batch = max(2048, case["batch"])
    settings.n_ubatch = case["batch"]
    settings.swa_full = case["swa_full"]
    settings.cache_type_k = getattr(library.ggml_type, f"GGML_TYPE_{KvType(case['k_type']).name}")
    settings.cache_type_v = getattr(library.ggml_type, f"GGML_TYPE_{KvType(case['v_type']).name}")
    chosen = "ENABLED" if case["flash_attention"] else "DISABLED"
    settings.flash_attn_type = getattr(library.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{chosen}")
    settings.no_extra_bufts = True  # weights repacked for one kind of CPU would be counted apart
    settings.load_mode = library.llama_load_mode.LLAMA_LOAD_MODE_NONE
    settings.no_alloc = True
    settings.warmup = False
    settings.verbosity = 5  # less is silent about the trial run that fits the settings
    library.Server(settings)


if __name__ == "__main__":
    _main()
