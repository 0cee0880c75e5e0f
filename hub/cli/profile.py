"""The command that says how the model is to be run, in the words of each engine: profile.

It shows for every knob of the settings whether codehub applies it, what has to be set where the engine is started, and
what the engine cannot do; and beside a running engine, what that one shows.
"""

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace

from hub import wiring
from hub.backends import running
from hub.backends.embedded import EmbeddedBackend
from hub.capacity import machine
from hub.capacity.profile import Compared, Engine, Knob, Profile, Settled, Status, Verdict, compare, settle
from hub.capacity.profile.renderings import Form, line_for, render, table
from hub.cli import DONE, NOTHING
from hub.cli.output import print_json, settings_of
from hub.config import Settings
from hub.errors import BackendError, SettingsError
from hub.shapes import Json

_WIDTH = 100
_HEADINGS = {
    Status.APPLIED: "codehub sees to",
    Status.NEEDS_ENVIRONMENT: "to be set where {engine} is started",
    Status.UNSUPPORTED: "{engine} cannot",
}


def profile(options: argparse.Namespace) -> int:
    """Exit code 1 where a running engine shows something else than was asked for."""
    if options.format == "markdown":
        _print_text(options, table())
        return DONE
    settings = settings_of(options)
    engine = Engine(options.engine) if options.engine else wiring.engine(settings)
    wanted = _meant(settings, engine)
    if options.check:
        return _check(options, settings, engine, wanted)
    rows = _settled(settings, engine, wanted)
    if options.format != "table":
        _print_text(options, render(rows, engine, Form(options.format), _model(settings, engine)))
        return DONE
    if options.json:
        print_json({"engine": str(engine), "knobs": [_row(row, engine) for row in rows]})
        return DONE
    print("\n".join(_lines(rows, engine)))
    return DONE


def _meant(settings: Settings, engine: Engine) -> Profile:
    """The profile with what other settings say for this engine."""
    meant = wiring.profile(settings)
    if engine is Engine.OLLAMA and not meant.context:
        return replace(meant, context=settings.ollama_context)
    return meant


def _settled(settings: Settings, engine: Engine, wanted: Profile) -> tuple[Settled, ...]:
    if engine is Engine.EMBEDDED:
        try:
            with closing(_embedded(settings)) as backend:
                return backend.settled()
        except BackendError:
            pass  # it is not installed, and its answers are the same without what it chooses itself
    memory = 0
    if engine is Engine.VLLM and wanted.vram_margin_mib is not None:
        gpu = machine.detect().gpu
        memory = gpu.memory if gpu else 0
    return settle(wanted, engine, gpu_memory=memory)


def _embedded(settings: Settings) -> EmbeddedBackend:
    backend = wiring.backend(replace(settings, backend="embedded"))
    assert isinstance(backend, EmbeddedBackend)
    return backend


def _model(settings: Settings, engine: Engine) -> str:
    """What stands for the model in a command: its name where one is set."""
    named = {Engine.OLLAMA: settings.ollama_model, Engine.VLLM: settings.openai_model}.get(engine, "")
    return named or ("MODEL.gguf" if engine is Engine.LLAMA_SERVER else "MODEL")


def _check(options: argparse.Namespace, settings: Settings, engine: Engine, wanted: Profile) -> int:
    rows = compare(wanted, _seen(settings, engine))
    differing = any(row.verdict is Verdict.DIFFERS for row in rows)
    if options.json:
        print_json({"engine": str(engine), "knobs": [_compared(row) for row in rows]})
    else:
        print(f"The running {engine}, beside what the settings ask for:")
        for row in rows:
            shown = f"{row.seen or '?':<12} {row.verdict}" + (f" from {row.asked}" if _differs(row) else "")
            print(f"  {row.knob:<16} {shown}")
    return NOTHING if differing else DONE


def _seen(settings: Settings, engine: Engine) -> dict[Knob, str]:
    match engine:
        case Engine.EMBEDDED:
            with closing(_embedded(settings)) as backend:
                return dict(running.of_embedded(backend))
        case Engine.OLLAMA:
            return dict(running.of_ollama(settings.ollama_host, settings.ollama_model))
        case Engine.LLAMA_SERVER:
            if not settings.llama_server_url:
                raise SettingsError(
                    "No llama-server is named.", "Set llama_server.url, for instance http://127.0.0.1:8080."
                )
            return dict(running.of_llama_server(settings.llama_server_url, settings.llama_server_key))
        case _:
            if not settings.openai_url:
                raise SettingsError("No server is named.", "Set openai.url, for instance http://127.0.0.1:8000.")
            with closing(wiring.backend(replace(settings, backend="openai", profile_context=0))) as backend:
                return {Knob.CONTEXT: str(backend.info().context_window)}


def _differs(row: Compared) -> bool:
    return row.verdict is Verdict.DIFFERS


def _compared(row: Compared) -> Json:
    return {name: str(value) for name, value in asdict(row).items()}


def _row(row: Settled, engine: Engine) -> Json:
    return {
        "knob": str(row.knob),
        "asked": row.value,
        "status": str(row.status),
        "settings": [
            {"place": str(one.place), "name": one.name, "value": one.value, "variable": one.variable.partition("=")[0]}
            for one in row.bindings
        ],
        "line": line_for(row, engine),
        "note": row.note,
    }


def _lines(rows: Sequence[Settled], engine: Engine) -> Iterator[str]:
    yield f"How {engine} is to run the model"
    for status, heading in _HEADINGS.items():
        chosen = [row for row in rows if row.status is status]
        if chosen:
            yield f"\n{heading.format(engine=engine)}:"
        for row in chosen:
            how = line_for(row, engine) or ("" if status is Status.UNSUPPORTED else row.spelling)
            yield f"  {row.knob:<16} {row.value:<10} {how}".rstrip()
            yield from textwrap.wrap(row.note, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    if left := [str(row.knob) for row in rows if row.status is Status.DEFAULT]:
        yield ""
        yield from textwrap.wrap(f"left to {engine}: {', '.join(left)}", _WIDTH, subsequent_indent="  ")


def _print_text(options: argparse.Namespace, text: str) -> None:
    if options.json:
        print_json({"text": text})
    else:
        print(text, end="")
