"""A Backend for measuring: it counts words, reads at a stated speed without taking the time, keeps the last prompt,
and goes wrong in every way that an engine can, at a stated size.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from hub.errors import BackendUnavailable, BrokenStream, HubError, PromptShortened, PromptTooLong
from hub.measuring.engine import Failed
from hub.measuring.model import Peak, Reading, Status
from hub.model import (
    BackendInfo,
    Capabilities,
    Completion,
    Counting,
    GenerationOptions,
    PrefixState,
    Prompt,
    Streamed,
    Timings,
    Usage,
)

GIB = 1 << 30
PLENTY = Reading(None, None, GIB, 64 * GIB, GIB)
_SLICE = 1 << 20


@dataclass
class MeasuredBackend:
    """``fails_from`` is the window, in tokens, from which ``way`` happens; ``folder`` keeps prefixes."""

    window: int
    way: str = ""
    fails_from: int = 1 << 40
    tells_cached: bool = True
    counting: Counting = Counting.EXACT
    decode_tokens_s: float = 50.0
    folder: Path | None = None

    def __post_init__(self) -> None:
        self._kept: list[str] = []
        self.read = 0  # tokens that were really read, over all requests

    def info(self) -> BackendInfo:
        return BackendInfo("measured", "words", self.window, self.window)

    def count_tokens(self, text: str) -> int:
        if self.way == "cannot load" and self.window >= self.fails_from:
            raise BackendUnavailable("The model cannot be loaded.", "Take a smaller one.")
        return len(text.split())

    def capabilities(self) -> Capabilities:
        return Capabilities(self.counting, cached_tokens=self.tells_cached, prefix_files=self.folder is not None)

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        words = f"{prompt.system} {prompt.user}".split()
        if len(words) + options.max_tokens > self.window:
            raise PromptTooLong("It does not fit.", "Less.")
        if self.window >= self.fails_from:
            self._fail()
        if self.way == "truncated" and self.window >= self.fails_from:
            words = words[: len(words) // 2]
        cached = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, self._kept, strict=False)))
        self._kept = words
        new = len(words) - cached
        self.read += new
        # A tenth of a millisecond a token, and one more for each 10,000 tokens that stand before it.
        seconds = sum(1e-4 * (1 + place / 10_000) for place in range(cached, len(words)))
        yield "word"
        usage = Usage(len(words), options.max_tokens, cached if self.tells_cached else None)
        yield Completion("word", usage, "length", (), Timings(0, seconds, options.max_tokens / self.decode_tokens_s))

    def save_prefix(self, name: str) -> PrefixState:
        assert self.folder is not None
        (self.folder / name).write_text("\n".join(self._kept), encoding="utf-8")
        return PrefixState(len(self._kept), 10 * len(self._kept), 0)

    def restore_prefix(self, name: str) -> PrefixState:
        assert self.folder is not None
        self._kept = (self.folder / name).read_text(encoding="utf-8").split("\n")
        return PrefixState(len(self._kept), 10 * len(self._kept), 0)

    def close(self) -> None:
        """Nothing is held."""

    def _fail(self) -> None:
        match self.way:
            case "abort":
                os.write(2, b"ggml.c:42: GGML_ASSERT(cells < size) failed\n")
                os.abort()
            case "abort for memory":
                os.write(2, b"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 9000000\n")
                os.abort()
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
            case "greedy":
                _held.append([bytearray(_SLICE) for _ in range(1 << 14)])
            case "stream breaks":
                raise BrokenStream("The connection broke.", "Look at the log.")
            case "shortened":
                raise PromptShortened("The answer was made from a shortened prompt: 5 tokens of 10.", "")


_held: list[Any] = []


class HereEngine:
    """What an Engine does, in this process: for laws that ask a thousand times."""

    def __init__(self, backend: MeasuredBackend) -> None:
        self.backend = backend
        self.peak = Peak(rss=GIB, ram=GIB, ram_total=64 * GIB)
        self.closed = False

    def run(
        self, work: Callable[..., Any], _timeout_s: float, tell: Callable[[int, int], None], *given: Any, **named: Any
    ) -> Any:
        try:
            return work(self.backend, tell, *given, **named)
        except PromptTooLong as error:
            raise Failed(Status.REFUSED, error.message, error.hint) from None
        except BrokenStream as error:
            shortened = isinstance(error, PromptShortened)
            raise Failed(Status.TRUNCATED if shortened else Status.CRASHED, error.message, error.hint) from None
        except HubError as error:
            raise Failed(Status.CRASHED, error.message, error.hint) from None

    def close(self) -> None:
        self.closed = True


def made(backend: MeasuredBackend) -> MeasuredBackend:
    """A backend of its own for the process that asks, as the wiring makes one."""
    return replace(backend)


def ample(pids: tuple[int, ...]) -> Reading:
    return PLENTY


def nearly_full(pids: tuple[int, ...]) -> Reading:
    """Little is left as soon as there is an engine to look at."""
    return Reading(None, None, 64 * GIB - (1 << 20), 64 * GIB, GIB) if pids else PLENTY
