"""How fast engines read and write, learnt from every answer, and what they read last. Tokens and seconds only.

A pace is the median of what was measured nearest to a length, else what a plan says, else an assumption that is named
as one. Never keeps a word of a question, a prompt or an answer.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from statistics import median

from hub.model import BackendInfo, Timings, Usage

# Measurements kept of an engine and model, the newest, and of these so many nearest to a length. 8 to 100; 3 to 15.
MOST_SAMPLES = 32
NEAREST = 7
# A shorter prompt or answer tells more of starting than of reading or writing. Tokens, 32 to 1,024; 4 to 64.
LEAST_READ = 128
LEAST_WRITTEN = 8
# Tokens a second where nothing was measured and nothing planned: a model of 30B in 4 bits with 3B busy, partly in main
# memory, on a card of 16 GB (docs/planning.md: 500 to 2,500 and 20 to 60). In this process, a small model on 2 to 4
# cores reads 60 to 100 and writes 10 to 30.
ASSUMED_READ, ASSUMED_WRITTEN = 1000.0, 30.0
ASSUMED_READ_HERE, ASSUMED_WRITTEN_HERE = 80.0, 15.0
# Tokens of an answer, where none was measured. 50 to 768.
ASSUMED_ANSWER = 250
# Seconds that an engine of its own is believed to keep what it read, where it was asked nothing else: Ollama is asked
# for an hour, other servers keep their slots. 300 to 86,400.
HELD_S = 3600.0
MOST_ENGINES = 50
MOST_BYTES = 1 << 20
_VERSION = 1
_FILE = "paces.json"


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens a second, and the tokens that an answer usually has. ``origin`` says in words what it rests on."""

    read: float
    written: float
    answer: int = ASSUMED_ANSWER
    origin: str = "assumed"

    def seconds(self, read: int, written: int | None = None) -> float:
        """What reading and writing so many tokens takes; by default an answer as long as usual."""
        return max(0, read) / self.read + (self.answer if written is None else written) / self.written


@dataclass(slots=True)
class _Known:
    """What is known of an engine with a model: (tokens, seconds) of what was read and written, oldest first."""

    read: list[tuple[int, float]] = field(default_factory=list)
    written: list[tuple[int, float]] = field(default_factory=list)
    held: str = ""  # a digest of the beginning of what was read last
    held_at: float = 0.0  # seconds since the epoch


class Paces:
    """Paces by engine and model, in a file of the data folder that several processes may share; the last one wins.

    Without a folder, or where it cannot be written, they are known to this process alone.
    """

    def __init__(
        self,
        folder: Path | None = None,
        planned: Callable[[BackendInfo, int], Pace | None] = lambda _info, _tokens: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``planned`` tells the pace of a model at a prompt of so many tokens by arithmetic, where it can."""
        self._file = folder / _FILE if folder else None
        self._planned = planned
        self._now = now
        self._known: dict[str, _Known] | None = None

    def pace(self, info: BackendInfo, tokens: int) -> Pace:
        """How fast a prompt of about so many tokens is read, and an answer to it written."""
        known = self._engines().get(_key(info))
        read = _nearest(known.read, tokens) if known else 0.0
        written = median(n / s for n, s in known.written) if known and known.written else 0.0
        answer = round(median(n for n, _ in known.written)) if known and known.written else ASSUMED_ANSWER
        if read and written:
            return Pace(read, written, answer, "measured")
        planned = self._planned(info, tokens)
        here = in_process(info)
        assumed = Pace(
            ASSUMED_READ_HERE if here else ASSUMED_READ, ASSUMED_WRITTEN_HERE if here else ASSUMED_WRITTEN, answer
        )
        other = planned or assumed
        origin = f"measured in part, otherwise {other.origin}" if read or written else other.origin
        return Pace(read or other.read, written or other.written, answer, origin)

    def learn(self, info: BackendInfo, usage: Usage, timings: Timings) -> None:
        """Takes what an answer has shown. What the engine does not tell is not guessed."""
        read = usage.prompt - (usage.cached or 0)
        known = self._engines().setdefault(_key(info), _Known())
        learnt = False
        if read >= LEAST_READ and timings.prompt_s > 0:
            known.read = [*known.read, (read, round(timings.prompt_s, 3))][-MOST_SAMPLES:]
            learnt = True
        if usage.completion >= LEAST_WRITTEN and timings.completion_s > 0:
            known.written = [*known.written, (usage.completion, round(timings.completion_s, 3))][-MOST_SAMPLES:]
            learnt = True
        if learnt:
            self._keep()

    def hold(self, info: BackendInfo, digest: str) -> None:
        """Notes what the engine has read last, by a digest of how it begins; "" for what is not asked again."""
        known = self._engines().setdefault(_key(info), _Known())
        if digest or known.held:
            known.held, known.held_at = digest, self._now() if digest else 0.0
            self._keep()

    def holds(self, info: BackendInfo, digest: str) -> bool:
        """Whether the engine, one outside this process, was last made to read this and may still know it."""
        known = self._engines().get(_key(info))
        fresh = known is not None and 0 <= self._now() - known.held_at < HELD_S
        return fresh and known is not None and bool(digest) and known.held == digest and not in_process(info)

    def _engines(self) -> dict[str, _Known]:
        if self._known is None:
            self._known = _read(self._file) if self._file else {}
        return self._known

    def _keep(self) -> None:
        if self._file is None:
            return
        newest = list(self._engines().items())[-MOST_ENGINES:]
        shape = {"version": _VERSION, "engines": {key: _shape(known) for key, known in newest}}
        # An index may be read where nothing may be kept: then the next process assumes again.
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=self._file.parent, prefix=_FILE, suffix=".new", delete=False
            ) as file:
                temporary = Path(file.name)
                file.write(json.dumps(shape, indent=1))
            try:
                temporary.replace(self._file)
            finally:
                temporary.unlink(missing_ok=True)


def in_process(info: BackendInfo) -> bool:
    """Whether the engine ends with this process, and what it read with it."""
    return info.name.startswith("embedded")


def _key(info: BackendInfo) -> str:
    return f"{info.name}|{info.model}"


def _nearest(samples: list[tuple[int, float]], tokens: int) -> float:
    """The median pace of the samples whose lengths are nearest; 0 where there are none."""
    wanted = log(max(1, tokens))
    near = sorted(samples, key=lambda sample: (abs(log(sample[0]) - wanted), sample))[:NEAREST]
    return median(n / s for n, s in near) if near else 0.0


def _shape(known: _Known) -> dict[str, object]:
    return {"read": known.read, "written": known.written, "held": known.held, "held_at": known.held_at}


def _read(file: Path) -> dict[str, _Known]:
    """What was kept. A file that is damaged, or of another version, counts as none: it is written anew."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        told = json.loads(raw) if len(raw) <= MOST_BYTES else {}
        if told["version"] != _VERSION:
            return {}
        return {str(key): _known(shape) for key, shape in told["engines"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _known(shape: Mapping[str, object]) -> _Known:
    """Raises ValueError, KeyError or TypeError for what ``_shape`` has not made."""
    held, held_at = shape["held"], shape["held_at"]
    if not isinstance(held, str) or not isinstance(held_at, int | float):
        raise TypeError
    return _Known(_samples(shape["read"]), _samples(shape["written"]), held, float(held_at))


def _samples(shape: object) -> list[tuple[int, float]]:
    if not isinstance(shape, list):
        raise TypeError
    samples = [(int(tokens), float(seconds)) for tokens, seconds in shape[-MOST_SAMPLES:]]
    if not all(tokens > 0 and 0 < seconds < float("inf") for tokens, seconds in samples):
        raise ValueError
    return samples
