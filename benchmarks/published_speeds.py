"""Speeds that others have measured and published, beside what hub.capacity.speed computes for the same machine.

    python benchmarks/published_speeds.py

Nothing is measured here, and nothing held out: the shares at the top of hub/capacity/speed.py were chosen with these
in view. Only runs are taken whose card, model, quantisation, batch and context are told; main memory
is the one told, or two channels of the processor's fastest official kind where it decides nothing.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from hub.capacity import catalogue, speed
from hub.capacity.machine import described
from hub.capacity.model import KvType, Load, Placement

_RAM = "64GB DDR5-5600"


@dataclass(frozen=True, slots=True)
class Run:
    """One published figure. ``tokens`` were read behind ``depth`` others; 0 tokens: one was written there."""

    gpu: str
    model: str
    tokens: int
    depth: int
    tokens_s: float
    source: str
    batch: int = 512
    kv: KvType = KvType.F16
    ram: str = _RAM
    ram_experts: int = 0

    @property
    def computed(self) -> float:
        shape, there = catalogue.find(self.model), described(self.gpu, self.ram)
        placement = Placement.UNIFIED if there.unified else Placement.GPU
        if self.ram_experts:
            placement = Placement.EXPERTS_IN_RAM
        context = self.depth + max(self.tokens, 1)
        load = Load(context, self.kv, self.kv, placement, ram_experts=self.ram_experts, batch=self.batch)
        if self.tokens:
            return speed.prefill(shape, load, there, self.tokens, cached=self.depth).tokens_s
        return speed.decode(shape, load, there, used=self.depth).tokens_s


_PULL = "github.com/ggml-org/llama.cpp/pull/"
_SPARK = "forums.developer.nvidia.com/t/355639"
_GUIDE = "github.com/ggml-org/llama.cpp/discussions/15396"
_MAX = "hiesch.eu/blog/llamacpp-benchmarks-speculative-decoding"
_CLUB = "github.com/noonghunna/club-3090/issues/1111 (a sibling of the model, 245 W)"
RUNS = (
    Run("RTX 4090", "llama3.1:8b-q4_0", 512, 0, 10_359, f"{_PULL}7676"),
    Run("RTX 4090", "llama3.1:8b-q4_0", 0, 32_768, 102.8, f"{_PULL}17505"),
    Run("RTX 3090", "llama3.1:8b-q4_0", 512, 32_768, 1_448, f"{_PULL}17505"),
    Run("RTX 3090", "llama3.1:8b-q6_K", 2048, 0, 3_525, f"{_PULL}7860"),
    Run("RTX 3090", "qwen3.6:27b", 32_025, 0, 889, _CLUB, kv=KvType.Q4_0),
    Run("RTX 3090", "qwen3.6:27b", 128_026, 0, 540, _CLUB, kv=KvType.Q4_0),
    Run("RTX 4090", "gpt-oss:20b", 0, 0, 225, "dev.to, runaihome.com, at most 8K"),
    Run("RX 7900 XT", "gpt-oss:20b", 0, 0, 94, _GUIDE),
    Run("RX 7900 XT", "gpt-oss:20b", 0, 0, 20, _GUIDE, ram="32GB DDR4-3200", ram_experts=24),
    Run("GB10", "gpt-oss:120b", 2048, 0, 2_438, _SPARK, batch=2048),
    Run("GB10", "gpt-oss:120b", 2048, 32_768, 1_416, _SPARK, batch=2048),
    Run("GB10", "gpt-oss:120b", 0, 0, 59.1, _SPARK),
    Run("GB10", "gpt-oss:120b", 0, 32_768, 42.9, _SPARK),
    Run(
        "RTX 2080",
        "qwen3:30b-a3b",
        0,
        0,
        36.7,
        "github.com/AlexsJones/llmfit/pull/755 (102 GB/s measured)",
        ram="64GB DDR4-3600 4 channels",
        ram_experts=36,
    ),
    Run("M3 Max 64GB", "gemma4:26b-a4b", 0, 751, 63.9, _MAX),
)


def main() -> None:
    print("| machine | model | what | published | computed | ratio | source |\n|---|---|---|---|---|---|---|")
    ratios = []
    for run in RUNS:
        what = f"read {run.tokens:,}" if run.tokens else "write"
        what += f" behind {run.depth:,}" if run.depth else ""
        what += f", experts of {run.ram_experts} layers in RAM" if run.ram_experts else ""
        ratio = run.computed / run.tokens_s
        ratios.append(ratio)
        figures = f"{run.tokens_s:,.0f} | {run.computed:,.0f} | {ratio:.2f}"
        print(f"| {run.gpu} | {run.model} | {what} | {figures} | {run.source} |")
    off = math.exp(median(abs(math.log(ratio)) for ratio in ratios))
    print(f"\n{len(ratios)} figures; half of them are within a factor of {off:.2f}, all within {_worst(ratios):.2f}.")


def _worst(ratios: list[float]) -> float:
    return math.exp(max(abs(math.log(ratio)) for ratio in ratios))


if __name__ == "__main__":
    main()
