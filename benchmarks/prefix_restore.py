"""Measures what a saved prefix spares: restoring it from disk, checked, against reading it again.

    make bench-prefix       (or: python benchmarks/prefix_restore.py [--tokens 4096] [--times 5] [--kv q8_0] [--json])

SmolLM2-135M in process, on the CPU. Every time is that of a fresh server: the model is loaded first, outside of the
clock. "read" is what a user waits for without a saved state, "restore" what he waits for with one: comparing the whole
file with its digest, the engine taking it back, and the one token that shows that it was used. The text is the sample
of this repository, repeated with its lines numbered until it is long enough.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from hub.backends.embedded import EmbeddedBackend  # noqa: E402 - the path is set above, so that a plain checkout works
from hub.capacity.model import KvType  # noqa: E402
from hub.capacity.profile import Profile  # noqa: E402
from hub.fullload.snapshots import Snapshots  # noqa: E402
from hub.fullload.warming import How, warm  # noqa: E402
from hub.model import GenerationOptions, Prompt  # noqa: E402

WINDOW = 8192
SYSTEM = "You answer questions about a C++ code base from numbered evidence."


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in seconds, of ``times`` fresh servers each."""

    kv: str
    tokens: int
    bytes: int
    times: int
    read_s: float
    restore_s: float
    cached: int  # the fewest of all restores
    ratio: float


def text_of(backend: EmbeddedBackend, tokens: int) -> str:
    files = sorted((REPOSITORY / "sample_repo").rglob("*.cc")) + sorted((REPOSITORY / "sample_repo").rglob("*.h"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    text = ""
    number = 0
    while backend.count_tokens(text) < tokens:
        for _ in range(20):
            text += f"{number}: {lines[number % len(lines)]}\n"
            number += 1
    return text


def measure(kv: KvType, tokens: int, times: int) -> Row:
    profile = Profile(k_type=kv, v_type=kv)
    options = GenerationOptions()
    reads, restores, cached = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        snapshots = Snapshots(Path(folder))
        backend = EmbeddedBackend(context_window=WINDOW, profile=profile)
        prefix = Prompt(SYSTEM, text_of(backend, tokens), (), (), tokens)
        backend.close()
        for _ in range(times):
            for how in (How.READ, How.RESTORED):
                backend = EmbeddedBackend(context_window=WINDOW, profile=profile, slots_folder=snapshots.folder)
                backend.count_tokens("load")
                started = perf_counter()
                if how is How.READ:
                    warmth = warm(backend, prefix, options)
                    reads.append(perf_counter() - started)
                    if not snapshots.kept():
                        warm(backend, prefix, options, snapshots=snapshots)  # known already: it is only saved
                else:
                    warmth = warm(backend, prefix, options, snapshots=snapshots)
                    restores.append(perf_counter() - started)
                    cached.append(warmth.cached or 0)
                backend.close()
                if warmth.how is not how or warmth.notes:
                    raise SystemExit(f"expected {how}, got {warmth}")
                print(
                    f"  {kv} {how}: {warmth.seconds:.3f} s, {warmth.cached} of {warmth.tokens} cached", file=sys.stderr
                )
        kept = snapshots.kept()[0]
    read_s, restore_s = statistics.median(reads), statistics.median(restores)
    return Row(str(kv), warmth.tokens, kept.bytes, times, read_s, restore_s, min(cached), read_s / restore_s)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures what a saved prefix spares.")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--kv", action="append", type=KvType, help="f16 and q8_0 by default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(kv, options.tokens, options.times) for kv in options.kv or (KvType.F16, KvType.Q8_0)]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    print("| KV | tokens | state | read | restore | of these cached | read / restore |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.kv} | {row.tokens} | {row.bytes / (1 << 20):.0f} MiB | {row.read_s:.1f} s | "
            f"{row.restore_s * 1000:.0f} ms | {row.cached} | {row.ratio:.0f}x |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
