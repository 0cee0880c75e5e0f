"""Makes a backend know a long prefix before the question comes: from its memory, from disk, or by reading it once.

A prefix only ever grows at its end, so the state of a shorter one spares all of itself: the longest that is kept is
taken, the rest is read, and the result is kept in its place when that was much. What an engine says it reused is
compared with what it should have; one that takes a state back and then reads everything again is found out, said, and
not tried again. And what the model would write next is compared with what it would have written when the state was
saved: an engine that was started with other RoPE settings takes a state back without a word, and this shows it.

Knows nothing of how a prefix is written.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from time import perf_counter
from typing import Protocol, runtime_checkable

from hub.errors import BackendError, BrokenStream, SnapshotError
from hub.fullload.snapshots import Kept, Snapshots
from hub.model import Backend, Completion, GenerationOptions, Prefill, PrefixState, Prompt

# Share of a state's tokens that must be reused, or the engine makes no use of it. Engines read the last batch again
# where layers cannot go back token by token (522 of llama.cpp's hybrid models), so it is not 1. 0.5 to 0.95.
LEAST_REUSED = 0.7
# Tokens that a hybrid or sliding-window model reads again whatever happens: its batch and a few. 0 to 4,096.
READ_AGAIN = 640
# Share of a prefix that is newly read before its state replaces the one it was begun with. A state of 100K tokens is
# gigabytes to write; below this the next start reads a little more instead. 0.01 to 0.2.
WORTH_KEEPING = 0.05
# Likeliest next tokens that are compared, and by how much their logarithms may differ in the mean: batches of another
# size round otherwise (0.02 to 0.06 with SmolLM2 and f16 or q8_0), and a state under another RoPE scale is off by 0.2
# to 0.3 (factors 2 and 4, prefixes of 455 and 854 tokens). A false alarm costs reading once. 0.1 to 0.2.
COMPARED_TOKENS = 5
MOST_DRIFT = 0.13


@runtime_checkable
class KeepsPrefixes(Protocol):
    """A backend whose capabilities name prefix files. The names are of files in the folder that it was given."""

    def identity(self) -> str:
        """All that a state depends on but the prefix. Raises BackendError."""

    def save_prefix(self, name: str) -> PrefixState:
        """Writes what was read last. Raises BackendError."""

    def restore_prefix(self, name: str) -> PrefixState:
        """Raises BackendError."""

    def erase_prefix(self) -> None:
        """Forgets what was read last. Raises BackendError."""


@runtime_checkable
class LoadsAnew(Protocol):
    """A backend whose engine holds a model in one window, and loads it again when it is asked for another."""

    def reload_ahead(self) -> str:
        """Why the next request will load the model anew, in a sentence; "" where it need not. Raises BackendError."""


class How(StrEnum):
    """Where most of a prefix came from."""

    HELD = "held"  # the engine still had it
    RESTORED = "restored"  # from disk
    READ = "read"  # token by token


@dataclass(frozen=True, slots=True)
class Warmth:
    """``cached`` counts the tokens that the engine did not read now; None where it does not tell."""

    how: How
    tokens: int
    cached: int | None
    seconds: float
    kept: Kept | None = None  # the state on disk that the next start can use
    notes: tuple[str, ...] = ()


def ignore_progress(_progress: Prefill) -> None:
    """For those who wait for the end."""


def warm(
    backend: Backend,
    prefix: Prompt,
    options: GenerationOptions,
    *,
    snapshots: Snapshots | None = None,
    label: str = "",
    tell: Callable[[Prefill], None] = ignore_progress,
) -> Warmth:
    """Makes the backend know a prefix.

    Without ``snapshots`` nothing is taken from disk or put there; whatever goes wrong there is a note. Raises
    BackendError when the prefix cannot be read at all.
    """
    started = perf_counter()
    notes: list[str] = []
    keeper = _keeper(backend, snapshots, prefix, notes)
    restored = keeper.restore(notes) if keeper else None
    end, reading_s = _read(backend, prefix, options, tell)
    cached = end.usage.cached
    if keeper and restored:
        if cached is not None and cached < LEAST_REUSED * restored.tokens - READ_AGAIN:
            keeper.snapshots.distrust(keeper.made)
            notes.append(_no_reuse(backend))
            keeper = restored = None
        elif restored.characters == len(keeper.text) and _drifted(restored.next, _next(end)):
            keeper.drop(restored, notes)
            restored = None
            end, reading_s = _read(backend, prefix, options, tell)
            cached = end.usage.cached
    kept = restored
    if keeper and _worth_keeping(restored, cached, end.usage.prompt):
        spared = restored.prefill_s if restored else 0.0
        kept = keeper.keep(label, spared + reading_s, end, notes) or restored
        if kept and restored and kept.key != restored.key:
            keeper.snapshots.forget(restored.key)
    how = How.RESTORED if restored else How.READ
    if not restored and cached is not None and cached > end.usage.prompt / 2:
        how = How.HELD
    return Warmth(how, end.usage.prompt, cached, perf_counter() - started, kept, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Keeper:
    """The way of one prefix between a backend and the disk."""

    files: KeepsPrefixes
    snapshots: Snapshots
    made: str
    text: str

    def restore(self, notes: list[str]) -> Kept | None:
        """The longest beginning of the prefix that is kept, taken back."""
        kept = self.snapshots.find(self.made, self.text)
        if kept is None:
            return None
        try:
            self.snapshots.restore(kept, self.files.restore_prefix)
        except (SnapshotError, BackendError) as error:
            notes.append(f"{error.message} {error.hint}".strip())
            return None
        return kept

    def keep(self, label: str, prefill_s: float, end: Completion, notes: list[str]) -> Kept | None:
        try:
            return self.snapshots.keep(
                self.made,
                self.text,
                self.files.save_prefix,
                label=label,
                prefill_s=prefill_s,
                following=_next(end),
            )
        except (SnapshotError, BackendError) as error:
            notes.append(f"What was read is not kept on disk: {error.message} {error.hint}".strip())
            return None

    def drop(self, kept: Kept, notes: list[str]) -> None:
        """Removes a state that the engine misread, from disk and from the engine."""
        self.snapshots.forget(kept.key)
        notes.append(
            "A saved prefix did not mean to the model what it meant when it was saved, so it was read again: "
            "the engine was probably started with other RoPE settings."
        )
        self.files.erase_prefix()


def _keeper(backend: Backend, snapshots: Snapshots | None, prefix: Prompt, notes: list[str]) -> _Keeper | None:
    if snapshots is None or not backend.capabilities().prefix_files or not isinstance(backend, KeepsPrefixes):
        return None
    made = backend.identity()
    if snapshots.distrusted(made):
        notes.append(_no_reuse(backend))
        return None
    return _Keeper(backend, snapshots, made, f"{prefix.system}\0{prefix.user}")


def _read(
    backend: Backend, prefix: Prompt, options: GenerationOptions, tell: Callable[[Prefill], None]
) -> tuple[Completion, float]:
    """Has the prefix read, and one token written, which no engine can do without; and the seconds it took to read."""
    began = perf_counter()
    can = backend.capabilities()
    alternatives = COMPARED_TOKENS if can.logprobs else None
    short = replace(options, max_tokens=1, progress=can.progress, logprobs=alternatives, json_schema="")
    with closing(backend.stream(prefix, short)) as stream:  # type: ignore[type-var] # every backend's is a generator
        for item in stream:
            if isinstance(item, Prefill):
                tell(item)
            elif isinstance(item, Completion):
                return item, item.timings.prompt_s or perf_counter() - began
    raise BrokenStream("The backend ended without saying what it read.")


def _worth_keeping(restored: Kept | None, cached: int | None, tokens: int) -> bool:
    if restored is None:
        return True
    return cached is not None and tokens - cached > max(WORTH_KEEPING * tokens, READ_AGAIN)


def _next(end: Completion) -> tuple[tuple[str, float], ...]:
    return end.logprobs[0].alternatives if end.logprobs else ()


def _drifted(before: tuple[tuple[str, float], ...], now: tuple[tuple[str, float], ...]) -> bool:
    """Whether what was likeliest then is less or more so now by too much; False where either is not told."""
    if not before or not now:
        return False
    chances = dict(now)
    unlisted = min(chances.values())  # what is not among the likeliest now is at most as likely as the last of them
    drift = sum(
        abs(chances[token] - chance) if token in chances else max(0.0, chance - unlisted) for token, chance in before
    )
    return drift / len(before) > MOST_DRIFT


def _no_reuse(backend: Backend) -> str:
    info = backend.info()
    return (
        f"{info.name} takes saved prefixes of {info.model} back and then reads everything again: they are not kept on "
        "disk. A larger number of checkpoints may help (profile.checkpoints)."
    )
