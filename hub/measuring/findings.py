"""What rows of a measurement mean: the largest safe context, and where waiting begins to hurt. Pure.

The constants below are the rules; docs/measuring.md states them in words.
"""

import math
from collections.abc import Sequence

from hub.measuring.model import ANSWERED, FULL_PERCENT, NeedleCell, Reach, Row

# Share of the fastest decoding that is left at the knee. 0.5 to 0.9.
KNEE_DECODE_SHARE = 0.7
# How far the curve of the time to the first token must hang below its chord to have a knee at all, as a share of its
# height: the difference of Kneedle (Satopää et al., 2011). 0.05 to 0.3.
KNEE_DISTANCE = 0.15
# Rows that a curve needs.
KNEE_ROWS = 4
# Recall, as a share of the best one, below which a model no longer reads. RULER calls a length effective while a model
# keeps about this share of its score at 4K. 0.7 to 0.95.
RECALL_SHARE = 0.85


def reach(rows: Sequence[Row]) -> Reach:
    """The largest safe context and the latency knee."""
    answered = sorted((row for row in rows if row.status in ANSWERED), key=lambda row: row.context)
    safe = [row for row in answered if row.alert < FULL_PERCENT]
    failed = sorted((row for row in rows if row not in safe), key=lambda row: row.context)
    if not safe:
        said = "No context was answered" + (" below the alert line." if answered else ".")
        return Reach(0, said, 0, "There is nothing to bend.")
    largest = safe[-1].context
    next_failed = next((row for row in failed if row.context > largest), None)
    if next_failed is None:
        safe_reason = "It is the largest that was tried."
    elif next_failed.status in ANSWERED:
        safe_reason = f"At {next_failed.context:,} memory was fuller than {FULL_PERCENT}%."
    else:
        safe_reason = f"At {next_failed.context:,} it was {next_failed.status}: {next_failed.reason}"
    return Reach(largest, safe_reason, *_knee(safe))


def recall_breaks(cells: Sequence[NeedleCell]) -> tuple[int, str]:
    """The largest context up to which hidden facts are found as well as in the best, and why; 0 where none are."""
    by_context: dict[int, tuple[float, float]] = {}
    for context in sorted({cell.context for cell in cells}):
        here = [cell for cell in cells if cell.context == context]
        by_context[context] = _recall(here)
    if not by_context:
        return 0, "No facts were hidden."
    best = max(score for score, _ in by_context.values())
    chance = max(chance for _, chance in by_context.values())
    if best <= chance:
        return 0, f"Nowhere more was found than by guessing ({chance:.0%})."
    reached = 0
    for context, (score, luck) in by_context.items():
        facts = sum(cell.facts for cell in cells if cell.context == context)
        noise = math.sqrt((best * (1 - best) + score * (1 - score)) / facts)  # standard error of the difference
        # What guessing would find anyway says nothing of reading.
        if score - luck < RECALL_SHARE * (best - chance) and best - score > noise:
            return reached, (
                f"At {context:,} tokens {score:.0%} were found, against {best:.0%} at best and {luck:.0%} by guessing."
            )
        reached = context
    return reached, "It is the largest that was tried."


def _recall(cells: Sequence[NeedleCell]) -> tuple[float, float]:
    """The share found and the share that guessing finds: by choice where that was asked, else by words."""
    facts = sum(cell.facts for cell in cells)
    chosen = [cell.chosen for cell in cells if cell.chosen is not None]
    if len(chosen) == len(cells) and cells:
        return sum(chosen) / facts, sum(cell.facts / cell.candidates for cell in cells) / facts
    return sum(cell.recalled for cell in cells) / facts, 0.0


def _knee(rows: Sequence[Row]) -> tuple[int, str]:
    """The smaller of two: the last context before decoding lost too much, and where the wait for a prompt bends."""
    found: list[tuple[int, str]] = []
    speeds = [(row.context, row.decode_tokens_s) for row in rows if row.decode_tokens_s]
    if speeds:
        fastest = max(speed for _, speed in speeds)
        before = 0
        for context, speed in speeds:
            if speed < KNEE_DECODE_SHARE * fastest:
                said = f"At {context:,} decoding falls to {speed / fastest:.0%} of its fastest."
                found.append((before, said))
                break
            before = context
    bend = _bend([(row.context, row.first_cold_s) for row in rows if row.first_cold_s is not None])
    if bend is not None:
        found.append((bend, f"Beyond {bend:,} the time to the first token grows faster than the context."))
    if not found:
        return 0, "Neither decoding nor the time to the first token bends in what was measured."
    return min(found)


def _bend(points: Sequence[tuple[int, float]]) -> int | None:
    """Where a curve that grows faster and faster hangs furthest below the chord between its ends."""
    if len(points) < KNEE_ROWS:
        return None
    (first, low), (last, high) = points[0], points[-1]
    if high <= low:
        return None
    gaps = [
        ((context - first) / (last - first) - (seconds - low) / (high - low), context) for context, seconds in points
    ]
    gap, context = max(gaps)
    return context if gap >= KNEE_DISTANCE else None
