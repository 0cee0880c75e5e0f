"""The command that watches memory: live in a terminal, as JSON lines, or as a server for Prometheus."""

import argparse
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hub import monitoring
from hub.backends.endpoint import Endpoint
from hub.capacity import host
from hub.capacity.cards import GIB
from hub.capacity.host import Places
from hub.capacity.machine import Sampler
from hub.cli import DONE, NOTHING
from hub.cli.output import json_text, settings_of
from hub.config import Settings
from hub.errors import BackendError, SettingsError
from hub.monitoring import Engine, Level, Monitor, Reading

if TYPE_CHECKING:
    from rich.console import RenderableType

# Seconds. A server in the middle of a large batch answers late; what is watched live must not wait for it. 1 to 10.
ANSWER_TIMEOUT_S = 3.0
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 32
_OLLAMA = re.compile(r"ollama(?:\.exe)?")
_LLAMA_SERVER = re.compile(r"llama-server(?:\.exe)?|llama_server")
_VLLM = re.compile(r"vllm|VLLM::EngineCore")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def monitor(options: argparse.Namespace) -> int:
    """With --once: 0 if all is well, 1 if an alert line is crossed or a named engine does not answer."""
    settings = settings_of(options)
    with ExitStack() as stack:
        source = _source(settings, options.engine, stack)
        sampler = stack.enter_context(Sampler(lambda: _pids(settings, options, source is not None)))
        watched = Monitor(sampler.sample, source, time.time)
        if options.once:
            reading = watched.read()
            _print(reading, options)
            return NOTHING if reading.alerts else DONE
        if options.listen is not None:
            return _serve(watched, *options.listen)
        return _watch(watched, options)


def _serve(watched: Monitor, address: str, port: int) -> int:
    with monitoring.server(watched, address, port) as server:
        shown = f"[{address}]" if ":" in address else address
        print(f"Metrics at http://{shown}:{server.server_address[1]}/metrics; Ctrl-C ends it.", flush=True)
        server.serve_forever()
    return DONE


def _watch(watched: Monitor, options: argparse.Namespace) -> int:
    """Until Ctrl-C. A terminal shows one view that changes; what is read by others gets a part for each reading."""
    wait = threading.Event().wait
    if options.json or options.prometheus or not sys.stdout.isatty():
        while True:
            _print(watched.read(), options)
            sys.stdout.flush()
            wait(options.interval)
    from rich.live import Live  # noqa: PLC0415 - for a terminal only

    with Live(_view(watched.read(), watched.history()), screen=False, auto_refresh=False) as live:
        while True:
            wait(options.interval)
            reading = watched.read()
            live.update(_view(reading, watched.history()), refresh=True)


def _print(reading: Reading, options: argparse.Namespace) -> None:
    if options.prometheus:
        print(monitoring.prometheus(reading), end="")
    elif options.json:
        print(json_text(asdict(reading)))
    else:
        for line in _lines(reading):
            print(line)


def _lines(reading: Reading) -> Iterator[str]:
    """The reading as text, one thing a line."""
    sample, engine = reading.sample, reading.engine
    for number, (used, total) in enumerate(sample.gpus):
        yield _line(f"GPU {number}", used, total)
    if not sample.gpus:
        yield f"{'GPU':<9} none that can be asked"
    yield _line("RAM", sample.ram_used, sample.ram_total)
    if sample.rss:
        yield f"{'engine':<9} {sample.rss / GIB:6.2f} GiB of main memory"
    if engine is None:
        yield f"{'engine':<9} none is watched"
    elif engine.up:
        yield f"{engine.name:<9} {len(engine.models)} model{'s' * (len(engine.models) != 1)} held" + _rates(engine)
        for held in engine.models:
            yield f"  {_held(held)}"
    for alert in reading.alerts:
        yield f"{alert.level.value.upper():<9} {alert.subject}: {alert.text}"


def _line(name: str, used: float, total: float) -> str:
    share = used / total if total else 0.0
    full = round(share * _WIDTH)
    return f"{name:<9} {used / GIB:6.2f} of {total / GIB:6.2f} GiB  {'#' * full}{'.' * (_WIDTH - full)} {share:4.0%}"


def _held(held: monitoring.Held) -> str:
    parts = [held.model]
    if held.size:
        parts.append(f"{held.size / GIB:.2f} GiB, {held.on_gpu / held.size:.0%} on the card")
    if held.used is not None and held.context:
        parts.append(f"KV cache {held.used:,} of {held.context:,} tokens ({held.used / held.context:.0%})")
    elif held.context:
        parts.append(f"context {held.context:,} tokens")
    if held.slots:
        parts.append(f"{held.busy} of {held.slots} slots at work")
    return "; ".join(parts)


def _rates(engine: Engine) -> str:
    totals = dict(engine.totals)
    parts = []
    for name, tokens, seconds in (
        ("reading", "prompt_tokens", "prompt_seconds"),
        ("writing", "generated_tokens", "generated_seconds"),
    ):
        if totals.get(seconds):
            parts.append(f"{name} {totals[tokens] / totals[seconds]:.0f} tokens/s")
    waiting = [f"{engine.waiting} waiting"] if engine.waiting else []
    return "".join(f"; {part}" for part in parts + waiting)


def _view(reading: Reading, history: Sequence[Reading]) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - for a terminal only
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table.grid(padding=(0, 2))
    for name, (used, total) in _memories(reading).items():
        series = [memories[name] for memories in map(_memories, history) if name in memories]
        share = used / total if total else 0.0
        full = round(share * _WIDTH)
        bar = Text("█" * full, style=_colour(share)) + Text("░" * (_WIDTH - full), style="dim")
        table.add_row(name, f"{used / GIB:.2f} / {total / GIB:.2f} GiB", bar, f"{share:.0%}", _sparkline(series))
    more = [Text(line) for line in _lines(reading) if not line.startswith(("GPU ", "RAM", "HIGH", "CRITICAL"))]
    warnings = [
        Text(f"{alert.subject}: {alert.text}", style="bold red" if alert.level is Level.CRITICAL else "yellow")
        for alert in reading.alerts
    ]
    when = time.strftime("%H:%M:%S", time.localtime(reading.at))
    return Group(table, *more, *warnings, Text(f"{when}  Ctrl-C ends it", style="dim"))


def _colour(share: float) -> str:
    if share >= monitoring.CRITICAL_SHARE:
        return "red"
    return "yellow" if share >= monitoring.HIGH_SHARE else "green"


def _memories(reading: Reading) -> dict[str, tuple[int, int]]:
    sample = reading.sample
    cards = {f"GPU {number}": memory for number, memory in enumerate(sample.gpus)}
    return {**cards, "RAM": (sample.ram_used, sample.ram_total)}


def _sparkline(pairs: Sequence[tuple[int, int]]) -> str:
    shares = [used / total if total else 0.0 for used, total in pairs][-_WIDTH:]
    return "".join(_BARS[min(len(_BARS) - 1, int(share * len(_BARS)))] for share in shares)


def _chosen(settings: Settings, engine: str) -> str:
    """Whom to ask; with ``auto`` the first whose address is set, as answers do, and Ollama where none is."""
    if engine != "auto":
        return engine
    return "llama-server" if settings.llama_server_url else "openai" if settings.openai_url else "ollama"


def _source(settings: Settings, engine: str, stack: ExitStack) -> Callable[[], Engine] | None:
    """What asks the engine; nothing where there is none, and it was not named."""
    match _chosen(settings, engine):
        case "none":
            return None
        case "llama-server":
            if not settings.llama_server_url:
                raise SettingsError(
                    "No llama-server is named.", "Set llama_server.url, for instance http://127.0.0.1:8080."
                )
            server = _endpoint(settings.llama_server_url, "a llama.cpp server", stack, settings.llama_server_key)
            return lambda: _llama_server(server)
        case "openai":
            if not settings.openai_url:
                raise SettingsError(
                    "No server of OpenAI's interface is named.", "Set openai.url, for instance http://127.0.0.1:8000."
                )
            url = settings.openai_url.rstrip("/").removesuffix("/v1")
            other = _endpoint(url, "a server of OpenAI's interface", stack, settings.openai_key)
            return lambda: _vllm(other)
        case _:
            ollama = _endpoint(_ollama_url(settings.ollama_host), "Ollama", stack)
            if engine == "auto" and not _ollama(ollama).up:
                return None
            return lambda: _ollama(ollama)


def _endpoint(url: str, what: str, stack: ExitStack, key: str = "") -> Endpoint:
    endpoint = Endpoint(url, api_key=key, what=what, way_out="Correct the address.")
    stack.callback(endpoint.close)
    return endpoint


def _llama_server(endpoint: Endpoint) -> Engine:
    """Slots and metrics may be turned off, each on its own; a server without either is up all the same."""
    try:
        properties = endpoint.ask("GET", "/props", timeout_s=ANSWER_TIMEOUT_S)
    except BackendError as error:
        return monitoring.gone("llama-server", error)
    model = str(properties.get("model_alias") or properties.get("model_path") or "a model")
    slots = _text(endpoint, "/slots")
    try:
        listed = json.loads(slots) if slots else []
    except ValueError:
        listed = []
    return monitoring.llama_server(model.rsplit("/", 1)[-1], listed, _text(endpoint, "/metrics"))


def _vllm(endpoint: Endpoint) -> Engine:
    """One that has no metrics, such as LM Studio, is up if it lists its models."""
    metrics = _text(endpoint, "/metrics")
    if "vllm:" in metrics:
        return monitoring.vllm(metrics)
    try:
        endpoint.ask("GET", "/v1/models", timeout_s=ANSWER_TIMEOUT_S)
    except BackendError as error:
        return monitoring.gone("openai", error)
    return Engine("openai", up=True)


def _text(endpoint: Endpoint, path: str) -> str:
    try:
        return endpoint.text(path, timeout_s=ANSWER_TIMEOUT_S)
    except BackendError:
        return ""


def _ollama(endpoint: Endpoint) -> Engine:
    try:
        reply = endpoint.ask("GET", "/api/ps", timeout_s=ANSWER_TIMEOUT_S)
    except BackendError as error:
        return monitoring.gone("ollama", error)
    return monitoring.ollama(reply, _runners(endpoint.url))


def _runners(url: str) -> Iterator[Engine]:
    """The llama.cpp servers that a local Ollama runs its models in: on loopback, at a port that their arguments say."""
    if urlsplit(url).hostname not in _LOOPBACK:
        return
    places = Places()
    for pid in host.named(places, _LLAMA_SERVER):
        if port := host.argument(places, pid, "--port"):
            with ExitStack() as stack:
                found = _llama_server(_endpoint(f"http://127.0.0.1:{port}", "a runner of Ollama", stack))
            if found.up:
                yield found


def _pids(settings: Settings, options: argparse.Namespace, watched: bool) -> tuple[int, ...]:
    """The processes of an engine on this machine; those that --pid names come first."""
    if options.pid:
        return tuple(options.pid)
    program, url = {
        "ollama": (_OLLAMA, settings.ollama_host),
        "llama-server": (_LLAMA_SERVER, settings.llama_server_url),
        "openai": (_VLLM, settings.openai_url),
    }.get(_chosen(settings, options.engine), (_OLLAMA, ""))
    return host.named(Places(), program) if watched and url and _is_local(url) else ()


def _ollama_url(text: str) -> str:
    """The setting may be any form that OLLAMA_HOST may have, an address to listen at included."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port or (11434 if "://" not in text else 443 if parts.scheme == "https" else 80)
    except ValueError:
        raise SettingsError(f"{text} is not an address of Ollama.", "Write it like http://127.0.0.1:11434.") from None
    name = parts.hostname or "127.0.0.1"
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 - it is replaced, not listened at
    return f"{parts.scheme or 'http'}://{f'[{name}]' if ':' in name else name}:{port}{parts.path.rstrip('/')}"


def _is_local(url: str) -> bool:
    return urlsplit(_ollama_url(url)).hostname in _LOOPBACK
