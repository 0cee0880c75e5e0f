"""The memory that is planned, beside what llama.cpp itself would allocate, and beside the usual rules of thumb.

    python benchmarks/memory_oracle.py [MODEL ...] [--all]

llama.cpp opens models of real dimensions without weights and prints what it would allocate; nothing is downloaded, and
no memory is used. A line is a load. The last four columns are errors: of what is planned, and of the rules of thumb,
2 x layers x KV heads x D x 2 bytes a token for the cache, and with it 0.7 GB a billion parameters for the whole. --all
adds users, one cache for all of them, windows switched off and flash attention switched off.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hub.capacity import memory
from hub.capacity.architecture import shape_of
from hub.capacity.gguf import read_header
from hub.capacity.model import KvType, Load, ModelShape, Placement
from tests.support import gguf_models, oracle

_K, _MIB = 1024, 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[[], *gguf_models.MODELS], help="default: all")
    parser.add_argument("--all", action="store_true", help="settings that change more than a size, too")
    options = parser.parse_args()
    print(
        f"{'model':24}{'context':>8} {'KV':>5} {'batch':>5} {'users':>5} {'':>8}"
        f"{'KV+state':>10}{'compute':>9}{'whole':>9}{'ours KV':>9}{'whole':>8}{'rule KV':>9}{'whole':>8}"
    )
    worst, equal, count = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models or gguf_models.MODELS:
            path = gguf_models.sparse(Path(folder) / f"{name}.gguf", name)
            header = read_header(path)
            shape = shape_of(header.metadata, header.tensors, name=name, source="gguf")
            loads = list(_loads(shape, odd=options.all))
            for load, told in zip(loads, oracle.ask([(path, load) for load in loads]), strict=True):
                ours_kv = memory.kv_bytes(shape, load) + memory.state_bytes(shape, load)
                ours = memory.need(shape, load).host.total
                rule_kv = _rule(shape, load)
                rule = int(0.7 * shape.parameters) + rule_kv
                kv = told.kv + told.state
                # It prints hundredths of a MiB for each of up to three caches.
                equal += abs(ours_kv - kv) < 0.02 * _MIB
                worst, count = max(worst, abs(ours / told.total - 1)), count + 1
                print(
                    f"{name:24}{load.context // _K:7}K {load.k_type:>5} {load.batch:5} {load.parallel:5}"
                    f" {_special(load):>8}"
                    f"{kv / _MIB:10,.0f}{told.compute / _MIB:9,.0f}{told.total / _MIB:9,.0f}"
                    f"{ours_kv / kv - 1:+9.1%}{ours / told.total - 1:+8.1%}"
                    f"{rule_kv / kv - 1:+9.0%}{rule / told.total - 1:+8.0%}",
                    flush=True,
                )
    print(f"\nKV and state equal in {equal} of {count} loads; whole device wrong by at most {worst:.2%}. Sizes in MiB.")


def _loads(shape: ModelShape, *, odd: bool) -> Iterator[Load]:
    usual = Load(context=32 * _K, placement=Placement.CPU)
    for context in (32 * _K, 64 * _K, 128 * _K, 256 * _K):
        load = replace(usual, context=context)
        yield load
        yield replace(load, k_type=KvType.Q8_0, v_type=KvType.Q8_0)
        yield replace(load, batch=2048)
    if not odd:
        return
    yield replace(usual, context=128 * _K, parallel=4)
    yield replace(usual, context=128 * _K, parallel=4, unified=True)
    yield replace(usual, flash_attention=False)
    if shape.window:
        yield replace(usual, swa_full=True)


def _special(load: Load) -> str:
    words = {"unified": load.unified, "no FA": not load.flash_attention, "swa full": load.swa_full}
    return next((word for word, is_so in words.items() if is_so), "")


def _rule(shape: ModelShape, load: Load) -> int:
    """Bytes of the KV cache by the rule, from the layer that keeps most."""
    widest = max(layer.kv_heads * layer.key_length for layer in shape.layers)
    return int(2 * len(shape.layers) * widest * load.context * (2 if load.k_type is KvType.F16 else 17 / 16))


if __name__ == "__main__":
    main()
