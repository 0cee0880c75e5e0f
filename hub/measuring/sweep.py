"""Climbs from context to context, each as full as it goes, and looks for the last one that works.

A context that fails ends the climb, not the measurement: the gap below it is halved until it is as small as was asked.
A prompt grows out of the one before, so where an engine keeps what it has read, a climb to N tokens reads N tokens.
Engines whose memory follows the window are loaded anew for each, and take over on disk what was read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

from hub.errors import MeasuringError
from hub.measuring.engine import Engine, Failed, Tell
from hub.measuring.model import ALERT_PERCENT, ANSWERED, FULL_PERCENT, Peak, Row, Status
from hub.measuring.steps import Asked, Opened, Step, measure, open_backend, restore, save
from hub.model import Counting, PrefixState

# Tokens a second. Below, a review or a refactoring is no longer read along (docs/planning.md). 3 to 10.
SLOW_TOKENS_S = 5.0
# Windows are rounded down to this by llama.cpp's caches.
WINDOW_STEP = 256
# Share of the counted tokens that an engine must have read, where the count is exact; templates only add to it.
READ_SHARE = 0.98
# The same, against the first row's share, where tokens are only bounded: Ollama cuts to the half.
READ_SHARE_BOUND = 0.8
# Tokens that make a speed worth telling.
LEAST_DECODED = 4
# Seconds to load a model from a slow disk.
LOAD_S = 900.0
# A prefix is not kept where it would take more than this share of what is free on the disk.
DISK_SHARE = 0.5

_PREFIX = "measured-prefix"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. ``limit`` is the longest context that the model or the running engine admits, 0 for unknown.

    ``reloads``: the engine is loaded with each context as its window; otherwise ``open`` is asked once, and prompts
    grow within its window. ``precision`` is the smallest gap worth halving. ``salt`` begins every prompt.
    """

    contexts: tuple[int, ...]
    reloads: bool
    limit: int = 0
    limit_reason: str = ""
    precision: int = 1024
    answer_tokens: int = 24
    timeout_s: float = 1800.0
    salt: str = ""
    in_process: bool = True  # the engine is loaded in the process that is measured, and fails there


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a sweep needs of the world: an engine for a window, free bytes for prefix files, ears for progress."""

    open: Callable[[int], Engine]
    free_bytes: Callable[[], int]
    tell: Tell


class Sweep:
    """One climb. ``done`` holds rows that an earlier run has finished."""

    def __init__(self, plan: Plan, pieces: Sequence[str], hooks: Hooks, done: Mapping[int, Row] | None = None) -> None:
        self._plan = plan
        self._pieces = tuple(pieces)
        self._hooks = hooks
        self._done = dict(done or {})
        self._engine: Engine | None = None
        self._opened: Opened | None = None
        self._window = 0
        self._read = [(0, 0.0)]  # prompt tokens, and the seconds that reading so many takes cold
        self._share = 0.0  # of the counted tokens that the first row's prompt had
        self._kept: PrefixState | None = None
        self._keeps = True  # what was read, for the next load
        self._gone = False  # the engine or its model, so that no context can be tried any more
        self.notes: list[str] = []

    @property
    def opened(self) -> Opened | None:
        """What the engine last said of itself."""
        return self._opened

    def rows(self) -> Iterator[Row]:
        """Finished rows as they come, the halved ones last. Raises MeasuringError where nothing can be measured."""
        try:
            best, failed = 0, None
            for context in sorted(set(self._plan.contexts)):
                row = self._row(context)
                yield row
                if not _safe(row):
                    failed = row
                    break
                best = context
            if failed is not None:
                yield from self._between(best, failed)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the engine. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _between(self, best: int, failed: Row) -> Iterator[Row]:
        """The largest context that works, between one that does and one that does not."""
        left = [context for context in self._plan.contexts if context > failed.context]
        if left:
            self.notes.append(f"Nothing beyond {failed.context:,} tokens was tried, because that did not work.")
        if failed.status is Status.TIMEOUT:
            return  # each further try could take as long again
        high = failed.context
        least = max(self._plan.precision, WINDOW_STEP)
        if 0 < self._plan.limit < high:
            high = self._plan.limit
            if high - best > least:
                row = self._row(high)
                yield row
                if _safe(row):
                    return
        while high - best > least and not self._gone:
            middle = (best + high) // 2 // WINDOW_STEP * WINDOW_STEP
            if middle in {best, high}:
                return
            row = self._row(middle)
            yield row
            if row.status is Status.TIMEOUT:
                return
            best, high = (middle, high) if _safe(row) else (best, middle)

    def _row(self, context: int) -> Row:
        if (row := self._done.get(context)) is not None:
            if row.prompt_tokens and row.prefill_overall_tokens_s:
                self._note_read(row.prompt_tokens, row.prompt_tokens / row.prefill_overall_tokens_s)
            return row
        if self._plan.limit and context > self._plan.limit:
            return Row(context, Status.REFUSED, self._plan.limit_reason)
        loaded, began = self._opened is not None, False
        try:
            engine, opened = self._at(context)
            began = True
            cold, warm = engine.run(
                measure,
                self._plan.timeout_s,
                self._hooks.tell,
                Step(self._pieces, context, self._plan.answer_tokens, self._salt(context, opened)),
            )
        except Failed as failed:
            if not began and failed.status is Status.CRASHED and (failed.lasting or not self._plan.in_process):
                self._gone = True  # a server that ended, a file that was deleted: nothing to halve
            elif not began and failed.status is Status.CRASHED and loaded and failed.hint:
                # The file is sound and the settings are; only the window is larger.
                said = f"It can be loaded with a smaller window, but not with this one: {failed.reason}"
                failed = Failed(Status.OUT_OF_MEMORY, said)
            return self._failed(context, failed)
        row = self._judged(context, opened, cold, warm, engine.peak)
        self._keep(engine, opened)
        return row

    def _at(self, context: int) -> tuple[Engine, Opened]:
        """A loaded engine with room for the context."""
        wanted = context if self._plan.reloads else max(self._plan.contexts)
        if self._engine is not None and self._opened is not None and self._window == wanted:
            return self._engine, self._opened
        self.close()
        engine = self._engine = self._hooks.open(wanted)
        self._window = wanted
        opened = self._opened = engine.run(open_backend, min(LOAD_S, self._plan.timeout_s), self._hooks.tell)
        if self._kept is not None:
            try:
                engine.run(restore, self._plan.timeout_s, self._hooks.tell, _PREFIX)
            except Failed as failed:
                self.notes.append(f"What was read before could not be taken over: {failed.reason}")
                self._kept = None
                if failed.status not in {Status.REFUSED, Status.CRASHED} or failed.lasting:
                    raise
        return engine, opened

    def _keep(self, engine: Engine, opened: Opened) -> None:
        """Saves what was read for the next load, where that costs no more than half of the free disk."""
        if not (self._keeps and self._plan.reloads and opened.capabilities.prefix_files):
            return
        if self._kept is not None and self._kept.tokens:
            coming = self._kept.bytes / self._kept.tokens * self._read[-1][0]
            if coming > self._hooks.free_bytes() * DISK_SHARE:
                self.notes.append("What was read is not kept on disk any more, because too little of it is free.")
                self._keeps, self._kept = False, None
                return
        try:
            self._kept = engine.run(save, self._plan.timeout_s, self._hooks.tell, _PREFIX)
        except Failed as failed:
            self._keeps, self._kept = False, None
            self.notes.append(f"What was read could not be kept on disk: {failed.reason}")

    def _failed(self, context: int, failed: Failed) -> Row:
        peak = self._engine.peak if self._engine is not None else Peak()
        worked = self._opened is not None or bool(self._done)
        self.close()
        if not worked and failed.status is Status.CRASHED and failed.hint:
            raise MeasuringError(failed.reason, failed.hint)  # it never began, and the way out is known
        return Row(context, failed.status, failed.reason, peak=peak, alert=alert(peak))

    def _salt(self, context: int, opened: Opened) -> str:
        """Nothing may be reused where the engine does not tell that it was; elsewhere the climb itself is reused."""
        if opened.capabilities.cached_tokens:
            return self._plan.salt
        return f"{self._plan.salt}// context {context}\n"

    def _judged(self, context: int, opened: Opened, cold: Asked, warm: Asked, peak: Peak) -> Row:
        cached = cold.cached or 0
        before = self._cold_s(cached)
        new = max(cold.prompt - cached, 1)
        overall_s = before + cold.prompt_s
        decoded, decode_s = cold.decoded + warm.decoded, cold.decode_s + warm.decode_s
        row = Row(
            context,
            Status.OK,
            prompt_tokens=cold.prompt,
            new_tokens=new,
            prefill_tokens_s=new / cold.prompt_s if cold.prompt_s else None,
            prefill_overall_tokens_s=cold.prompt / overall_s if overall_s else None,
            decode_tokens_s=decoded / decode_s if decoded >= LEAST_DECODED and decode_s else None,
            first_cold_s=before + cold.first_s,
            first_warm_s=warm.first_s,
            warm_cached=warm.cached,
            summed=cached > 0,
            load_s=opened.load_s,
            peak=peak,
            alert=alert(peak),
        )
        self._note_read(cold.prompt, overall_s)
        share = min(cold.prompt / cold.sent, warm.prompt / warm.sent)
        self._share = self._share or cold.prompt / cold.sent
        least = READ_SHARE if opened.capabilities.counting is Counting.EXACT else READ_SHARE_BOUND * self._share
        if share < least:
            fewer = cold if cold.prompt / cold.sent == share else warm
            said = f"The engine read {fewer.prompt:,} tokens of {fewer.sent:,} that were sent."
            return replace(row, status=Status.TRUNCATED, reason=said)
        if row.decode_tokens_s is None:
            return replace(row, reason="The model ended its answers at once, so its speed is unknown.")
        if row.decode_tokens_s < SLOW_TOKENS_S:
            return replace(row, status=Status.SLOW, reason=f"Below {SLOW_TOKENS_S:g} tokens a second.")
        return row

    def _note_read(self, tokens: int, seconds: float) -> None:
        with suppress(StopIteration):
            place = next(number for number, (known, _) in enumerate(self._read) if known >= tokens)
            del self._read[place:]  # a halved context is smaller than the one before
        self._read.append((tokens, seconds))

    def _cold_s(self, tokens: int) -> float:
        """Seconds to read so many tokens, between the measured ones in a straight line."""
        for (fewer, fewer_s), (more, more_s) in pairwise(self._read):
            if tokens <= more:
                return fewer_s + (more_s - fewer_s) * (tokens - fewer) / (more - fewer)
        return self._read[-1][1]


def alert(peak: Peak) -> int:
    """The alert line that was crossed: 0, 90 or 95 percent of the card's or the machine's memory."""
    share = 100 * max(peak.gpu_share, peak.ram_share)
    return next((line for line in (FULL_PERCENT, ALERT_PERCENT) if share >= line), 0)


def _safe(row: Row) -> bool:
    return row.status in ANSWERED and row.alert < FULL_PERCENT
