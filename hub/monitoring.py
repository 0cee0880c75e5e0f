"""Memory watched while a model works: of cards, of the machine, of the engine and of its KV cache.

A ``Monitor`` puts together what is read at one moment, keeps a history, and raises alert lines. What an engine says is
read from plain replies: where they come from, and that an engine may be gone, is the caller's business. The same
readings as Prometheus' text format. Knows no backend, and prints nothing.
"""

import math
import operator
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hub.capacity.machine import Sample
from hub.errors import HubError

# Shares of a memory at which an alert line stands. Beyond the first the next request may be the one that fails, beyond
# the second loading anything will. 0.85 to 0.98.
HIGH_SHARE, CRITICAL_SHARE = 0.90, 0.95
# Readings that are kept: ten minutes at one a second.
HISTORY = 600
PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METRIC_LINE = re.compile(
    r"^(?:llamacpp|vllm):(\w{1,80})(\{[^\n]{0,2000}\})? ([-+.\deE]{1,40})(?: \d{1,20})?$", re.MULTILINE
)
_LABEL = re.compile(r'(\w{1,80})="([^"\n]{0,400})"')
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Level(StrEnum):
    """How full a memory is."""

    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """A line that was crossed. ``share`` is of what there is, from 0 on."""

    subject: str  # "GPU 0", "RAM", "KV cache", "engine"
    level: Level
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class Held:
    """A model that an engine holds. Bytes are 0 and tokens None where it does not tell."""

    model: str
    context: int = 0  # tokens of all its slots together
    used: int | None = None  # tokens in its KV cache
    slots: int = 0
    busy: int = 0
    fullest: float = 0.0  # share of its context that the fullest slot at work has taken
    size: int = 0
    on_gpu: int = 0


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine says of itself. ``totals`` count since it was started, named as in our metrics."""

    name: str
    up: bool
    models: tuple[Held, ...] = ()
    totals: tuple[tuple[str, float], ...] = ()
    waiting: int = 0  # requests that no slot has taken yet
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything at one moment; ``at`` in seconds since 1970."""

    at: float
    sample: Sample
    engine: Engine | None
    alerts: tuple[Alert, ...]


class Monitor:
    """Reads, judges and remembers. Safe to use from several threads, as a server of metrics does."""

    def __init__(
        self,
        sample: Callable[[], Sample],
        engine: Callable[[], Engine] | None,
        clock: Callable[[], float],
        history: int = HISTORY,
    ) -> None:
        self._sample = sample
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._readings: deque[Reading] = deque(maxlen=history)

    def read(self) -> Reading:
        """Reads now."""
        with self._lock:
            sample = self._sample()
            engine = self._engine() if self._engine is not None else None
            reading = Reading(self._clock(), sample, engine, alerts(sample, engine))
            self._readings.append(reading)
            return reading

    def history(self) -> tuple[Reading, ...]:
        """The last readings, oldest first."""
        with self._lock:
            return tuple(self._readings)


def alerts(sample: Sample, engine: Engine | None) -> tuple[Alert, ...]:
    """The lines that are crossed, cards first. An idle slot may be full: what it holds is only kept for reuse."""
    found = [
        _alert(f"GPU {number}", used, total, "memory of the card is taken")
        for number, (used, total) in enumerate(sample.gpus)
    ]
    found.append(_alert("RAM", sample.ram_used, sample.ram_total, "main memory is taken"))
    if engine is not None:
        if not engine.up:
            found.append(Alert("engine", Level.CRITICAL, 1.0, engine.note or f"{engine.name} does not answer"))
        for held in engine.models:
            taken = held.fullest if held.busy else 0.0
            found.append(_alert("KV cache", taken, 1, f"the context of {held.model} is filled"))
    return tuple(alert for alert in found if alert is not None)


def _alert(subject: str, used: float, total: float, what: str) -> Alert | None:
    share = used / total if total else 0.0
    if share < HIGH_SHARE:
        return None
    level = Level.CRITICAL if share >= CRITICAL_SHARE else Level.HIGH
    return Alert(subject, level, share, f"{share:.0%} of the {what}")


def llama_server(model: str, slots: object, metrics: str, *, name: str = "llama-server") -> Engine:
    """What ``/slots`` (as read from JSON) and ``/metrics`` (as text, "" without) of llama.cpp's server say.

    Source of the fields: server_slot::to_json and server_task_result_metrics in llama.cpp b11434.
    """
    entries = [entry for entry in slots if isinstance(entry, dict)] if isinstance(slots, list) else []
    totals = _metrics(metrics)
    held = _held(model, entries)
    return Engine(
        name=name,
        up=True,
        models=(held,) if held else (),
        totals=tuple((ours, totals[theirs]) for theirs, ours in _TOTALS if theirs in totals),
        waiting=int(totals.get("requests_deferred", 0)),
    )


_TOTALS = (
    ("prompt_tokens_total", "prompt_tokens"),
    ("prompt_tokens_cached_total", "prompt_tokens_cached"),
    ("prompt_seconds_total", "prompt_seconds"),
    ("tokens_predicted_total", "generated_tokens"),
    ("tokens_predicted_seconds_total", "generated_seconds"),
)


def _held(model: str, slots: Sequence[Mapping[str, object]]) -> Held | None:
    if not slots:
        return None
    sizes = [(_whole(slot.get("n_ctx")), _whole(slot.get("n_prompt_tokens"))) for slot in slots]
    busy = [slot.get("is_processing") is True for slot in slots]
    filled = [used / context for (context, used), works in zip(sizes, busy, strict=True) if works and context]
    return Held(
        model=model,
        context=sum(context for context, _ in sizes),
        used=sum(used for _, used in sizes),
        slots=len(slots),
        busy=sum(busy),
        fullest=max(filled, default=0.0),
    )


def ollama(reply: Mapping[str, object], runners: Iterable[Engine] = ()) -> Engine:
    """What ``/api/ps`` of Ollama says; ``runners`` are the llama.cpp servers it started, where they can be asked.

    A runner is the model's whose context it has: Ollama does not say which is which.
    """
    listed = reply.get("models")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    asked = list(runners)
    contexts = [runner.models[0] for runner in asked if runner.models]
    models: dict[str, Held] = {}
    for entry in entries:
        name = str(entry.get("model") or entry.get("name") or "a model")
        context = _whole(entry.get("context_length"))
        same = [runner for runner in contexts if runner.context == context]
        inside = same[0] if len(same) == 1 else Held("")
        models[name] = replace(
            inside,
            model=name,
            context=context,
            size=_whole(entry.get("size")),
            on_gpu=_whole(entry.get("size_vram")),
        )
    totals: dict[str, float] = {}
    for runner in asked:
        for metric, value in runner.totals:
            totals[metric] = totals.get(metric, 0.0) + value
    return Engine("ollama", up=True, models=tuple(models.values()), totals=tuple(sorted(totals.items())))


def vllm(metrics: str) -> Engine:
    """What ``/metrics`` of vLLM says; of a server without them, only that it is up.

    Its cache is one pool of blocks for all requests, or one for each of several engines. When one is full, requests are
    put off and read again later, so a full one is an alert while anything is at work. Source of the names:
    vllm/v1/metrics in vLLM 0.33.
    """
    totals = _metrics(metrics)
    pools = [_tokens_of(labels) for labels, _ in _lines(metrics, "cache_config_info")]
    shares = [min(1.0, max(0.0, share)) for _, share in _lines(metrics, "kv_cache_usage_perc")]
    named = [labels.get("model_name", "") for labels, _ in _lines(metrics, "num_requests_running")]
    held = Held(
        model=next((name for name in named if name), "a model"),
        context=sum(pools),
        used=round(sum(map(operator.mul, pools, shares))) if sum(pools) and len(pools) == len(shares) else None,
        busy=max(0, int(totals.get("num_requests_running", 0))),
        fullest=max(shares, default=0.0),
    )
    return Engine(
        name="vllm",
        up=True,
        models=(held,) if totals else (),
        totals=tuple((ours, totals[theirs]) for theirs, ours in _VLLM_TOTALS if theirs in totals),
        waiting=max(0, int(totals.get("num_requests_waiting", 0))),
    )


_VLLM_TOTALS = (
    ("prompt_tokens_total", "prompt_tokens"),
    ("prompt_tokens_cached_total", "prompt_tokens_cached"),
    ("generation_tokens_total", "generated_tokens"),
)


def gone(name: str, error: HubError) -> Engine:
    """An engine that does not answer."""
    return Engine(name, up=False, note=error.message.rstrip("."))


def prometheus(reading: Reading) -> str:
    """The reading in Prometheus' text format 0.0.4, every family with its help and type."""
    return "".join(_family(*family) for family in _families(reading))


_Samples = Sequence[tuple[Mapping[str, str], float]]


def _families(reading: Reading) -> Iterator[tuple[str, str, str, _Samples]]:
    sample, engine = reading.sample, reading.engine
    cards = [({"gpu": str(number)}, pair) for number, pair in enumerate(sample.gpus)]
    yield "gpu_memory_used_bytes", "gauge", "Memory of a card that is taken.", [(of, used) for of, (used, _) in cards]
    yield "gpu_memory_total_bytes", "gauge", "Memory of a card.", [(of, total) for of, (_, total) in cards]
    yield "ram_used_bytes", "gauge", "Main memory that is not available.", [({}, sample.ram_used)]
    yield "ram_total_bytes", "gauge", "Main memory, as far as this process may take it.", [({}, sample.ram_total)]
    yield "engine_resident_bytes", "gauge", "Main memory of the engine's processes.", [({}, sample.rss)]
    crossed = sorted({(alert.subject, alert.level.value) for alert in reading.alerts})  # two models may cross the same
    lines = [({"subject": subject, "level": level}, 1.0) for subject, level in crossed]
    yield "alerts", "gauge", "1 for each alert line that is crossed.", lines
    if engine is None:
        return
    of = {"engine": engine.name}
    yield "engine_up", "gauge", "1 if the engine answers.", [(of, float(engine.up))]
    if not engine.up:
        return
    yield "requests_waiting", "gauge", "Requests that no slot has taken yet.", [(of, engine.waiting)]
    models = [({**of, "model": held.model}, held) for held in engine.models]
    yield "model_bytes", "gauge", "A model with its cache.", [(by, held.size) for by, held in models if held.size]
    yield (
        "model_gpu_bytes",
        "gauge",
        "The part of it that lies on cards.",
        [(by, held.on_gpu) for by, held in models if held.size],
    )
    yield "kv_context_tokens", "gauge", "Tokens that the cache can hold.", [(by, held.context) for by, held in models]
    used = [(by, float(held.used)) for by, held in models if held.used is not None]
    yield "kv_used_tokens", "gauge", "Tokens that the cache holds.", used
    slots = [(by, held.slots) for by, held in models if held.slots]
    yield "slots", "gauge", "Requests that can be worked on at once.", slots
    works = [(by, held.busy) for by, held in models if held.slots or held.busy]
    yield "slots_busy", "gauge", "Requests that are worked on.", works
    for metric, value in engine.totals:
        yield f"{metric}_total", "counter", _HELP[metric], [(of, value)]


_HELP = {
    "prompt_tokens": "Tokens of prompts that were read, without cached ones.",
    "prompt_tokens_cached": "Tokens of prompts that came out of the cache.",
    "prompt_seconds": "Seconds spent reading prompts.",
    "generated_tokens": "Tokens that were written.",
    "generated_seconds": "Seconds spent writing.",
}


def _family(name: str, kind: str, words: str, samples: _Samples) -> str:
    if not samples:
        return ""
    lines = [f"# HELP codehub_{name} {words}", f"# TYPE codehub_{name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{text.translate(_ESCAPED)}"' for key, text in labels.items())
        lines.append(f"codehub_{name}{{{inside}}} {_number(value)}" if inside else f"codehub_{name} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def server(monitor: Monitor, host: str, port: int) -> ThreadingHTTPServer:
    """A server of ``/metrics``, which reads anew for each request; ``serve_forever`` runs it. Raises HubError."""

    class Metrics(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            found = self.path.split("?", 1)[0] in {"/metrics", "/"}
            body = prometheus(monitor.read()) if found else "The metrics are at /metrics.\n"
            content = body.encode("utf-8", "replace")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", PROMETHEUS_TYPE if found else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """A scrape is no news."""

    try:
        made = ThreadingHTTPServer((host, port), Metrics)
    except (OSError, OverflowError) as error:
        raise HubError(f"Metrics cannot be served at {host}:{port}: {error}.", "Choose another --listen.") from None
    made.daemon_threads = True
    return made


def _metrics(text: str) -> dict[str, float]:
    """The sum of each metric over its labels."""
    sums: dict[str, float] = {}
    for found in _METRIC_LINE.finditer(text):
        if (value := _float(found[3])) is not None:
            sums[found[1]] = sums.get(found[1], 0.0) + value
    return sums


def _lines(text: str, metric: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each of the metric's lines."""
    return [
        (dict(_LABEL.findall(found[2] or "")), value)
        for found in _METRIC_LINE.finditer(text)
        if found[1] == metric and (value := _float(found[3])) is not None
    ]


def _tokens_of(pool: Mapping[str, str]) -> int:
    blocks, size = pool.get("num_gpu_blocks", ""), pool.get("block_size", "")
    return int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() and len(blocks + size) < 20 else 0


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else 0
