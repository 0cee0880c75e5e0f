"""The answers of ``settle`` as text: for a shell, a systemd unit, Docker, Ollama, llama.cpp's own file, and a page.

Every rendering quotes for its reader, keeps the order of the knobs, says each setting once, and never writes an empty
value: an empty LLAMA_ARG_* variable ends llama.cpp's server at its start. What a form cannot carry stands in it as a
comment, so that nothing is lost between two forms. Runs nothing and writes no file.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from hub.capacity.model import KvType
from hub.capacity.profile.engines import Binding, Engine, Place, Settled, Status, settle
from hub.capacity.profile.knobs import (
    MEANINGS,
    Knob,
    KvPlacement,
    Numa,
    Profile,
    Switch,
    Value,
    plain,
    read_cpus,
)
from hub.errors import SettingsError


class Form(StrEnum):
    """How answers can be written down."""

    EXPORTS = "exports"
    SYSTEMD = "systemd"
    MODELFILE = "modelfile"
    FLAGS = "flags"
    COMPOSE = "compose"
    INI = "ini"


def render(settled: Sequence[Settled], engine: Engine, form: Form, model: str) -> str:
    """The answers of one engine in one form, with a newline at the end. Raises SettingsError where it has no such form.

    ``model`` is what the engine calls the model, a path for llama.cpp.
    """
    if engine is Engine.EMBEDDED:
        raise SettingsError(
            "The embedded llama.cpp is started by codehub, which sets everything itself.",
            "`codehub profile --engine embedded` shows what it sets.",
        )
    if engine not in _FORMS[form]:
        engines = " or ".join(_FORMS[form])
        raise SettingsError(f"There is no {form} for {engine}.", f"It is for {engines}.")
    return "".join(f"{line}\n" for line in _WRITERS[form](settled, engine, model))


def line_for(settled: Settled, engine: Engine) -> str:
    """What to add where the engine is started, for a knob that needs it; "" for others."""
    if settled.status is not Status.NEEDS_ENVIRONMENT:
        return ""
    parts = []
    for binding in settled.bindings:
        match binding.place:
            case Place.ENVIRONMENT:
                parts.append(_export(binding.name, binding.value))
            case Place.FLAG:
                parts.append(shlex.join(_words(binding)))
            case Place.CONFIG:
                parts.append(f"[*] {binding.name} = {plain(binding.value)}")
            case Place.MODEL_FILE:
                parts.append(_extension(binding))
    return ("; " if engine is Engine.OLLAMA else " ").join(parts)


def table() -> str:
    """Every knob beside every engine, as Markdown: what docs/profiles.md shows."""
    fixed = replace(EXAMPLE, gpu_layers=20, vram_margin_mib=None)  # which exclude each other
    columns = {
        engine: {row.knob: row for row in settle(EXAMPLE, engine, gpu_memory=16 << 30)}
        | {row.knob: row for row in settle(fixed, engine) if row.knob is Knob.GPU_LAYERS}
        for engine in Engine
    }
    lines = [f"| knob | meaning | {' | '.join(Engine)} |", f"|---|---|{'---|' * len(Engine)}"]
    for knob in Knob:
        cells = [_cell(columns[engine][knob]) for engine in Engine]
        lines.append(f"| `{knob}` | {MEANINGS[knob]} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


# Every knob set, for tables and tests. What excludes another knob is left out: FIT goes without a number of layers.
EXAMPLE = Profile(
    context=65_536,
    k_type=KvType.Q8_0,
    v_type=KvType.Q8_0,
    flash_attention=Switch.ON,
    kv_placement=KvPlacement.GPU,
    ram_experts=12,
    vram_margin_mib=1024,
    prefill_chunk=2048,
    threads=8,
    cpus=read_cpus("0-7"),
    cpu_strict=True,
    numa=Numa.DISTRIBUTE,
    yarn_factor=2.0,
    yarn_original=32_768,
    swa_full=True,
    ram_cache_mib=4096,
    chunk_reuse=256,
    checkpoints=32,
    slots_folder="/var/cache/codehub/slots",
    parallel=2,
    keep_alive_s=1800.0,
)


def _cell(row: Settled) -> str:
    if row.status is Status.UNSUPPORTED:
        return f"unsupported: {row.note}"
    said = [f"`{binding.spelling}` ({binding.place})" for binding in row.bindings if binding.place is not Place.CODEHUB]
    return "; ".join(part for part in (*said, row.note) if part).replace("|", "\\|")


_FORMS: Mapping[Form, tuple[Engine, ...]] = {
    Form.EXPORTS: (Engine.OLLAMA, Engine.LLAMA_SERVER),
    Form.SYSTEMD: (Engine.OLLAMA, Engine.LLAMA_SERVER),
    Form.COMPOSE: (Engine.OLLAMA, Engine.LLAMA_SERVER),
    Form.MODELFILE: (Engine.OLLAMA,),
    Form.FLAGS: (Engine.LLAMA_SERVER, Engine.VLLM),
    Form.INI: (Engine.OLLAMA, Engine.LLAMA_SERVER),
}
_SERVICES = {Engine.OLLAMA: "ollama", Engine.LLAMA_SERVER: "llama-server"}
_CPU_NAMES = frozenset({"--cpu-mask", "--cpu-strict", "cpu-mask", "cpu-strict"})


def _exports(settled: Sequence[Settled], engine: Engine, _: str) -> Iterator[str]:
    yield from (_export(name, value) for name, value in _variables(settled))
    yield from _left_over(settled, engine, "# ")


def _systemd(settled: Sequence[Settled], engine: Engine, _: str) -> Iterator[str]:
    yield f"# /etc/systemd/system/{_SERVICES[engine]}.service.d/codehub.conf"
    yield "[Service]"
    for name, value in _variables(settled):
        escaped = f"{name}={plain(value)}".replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        yield f'Environment="{escaped}"'
    if cpus := _cpus(settled):
        yield f"CPUAffinity={cpus.replace(',', ' ')}"
    yield from _left_over(settled, engine, "# ", without=_CPU_NAMES)


def _compose(settled: Sequence[Settled], engine: Engine, _: str) -> Iterator[str]:
    yield "services:"
    yield f"  {_SERVICES[engine]}:"
    variables = list(_variables(settled))
    if variables:
        yield "    environment:"
    for name, value in variables:
        yield f"      {name}: {json.dumps(plain(value)).replace('$', '$$')}"
    if cpus := _cpus(settled):
        yield f"    cpuset: {json.dumps(cpus)}"
    yield from _left_over(settled, engine, "    # ", without=_CPU_NAMES)


def _modelfile(settled: Sequence[Settled], engine: Engine, model: str) -> Iterator[str]:
    yield f"FROM {model}"
    for binding in _bindings(settled, Place.REQUEST):
        if binding.name.startswith("num_"):
            yield f"PARAMETER {binding.name} {plain(binding.value)}"
    for binding in _bindings(settled, Place.MODEL_FILE):
        yield f"# FROM has to name what this makes: {_extension(binding)}"
    for binding in _bindings(settled, Place.ENVIRONMENT, Place.CONFIG):
        yield f"# where {engine} is started: {binding.spelling}"


def _flag_line(settled: Sequence[Settled], engine: Engine, model: str) -> Iterator[str]:
    program = ["llama-server", "--model", model] if engine is Engine.LLAMA_SERVER else ["vllm", "serve", model]
    yield shlex.join([*program, *(word for binding in _bindings(settled, Place.FLAG) for word in _words(binding))])


def _ini(settled: Sequence[Settled], _: Engine, __: str) -> Iterator[str]:
    yield "; ~/.config/llama.cpp/config.ini or /etc/llama.cpp/config.ini; variables and flags override it"
    yield "[*]"
    for binding in _bindings(settled, Place.FLAG, Place.CONFIG):
        yield f"{binding.name.lstrip('-')} = {plain(binding.value)}"
    for name, value in _variables(settled) if _bindings(settled, Place.ENVIRONMENT) else ():
        if name.startswith("LLAMA_ARG_"):
            yield f"{name} = {plain(value)}"
        else:
            yield f"; in the environment of Ollama itself: {name}={plain(value)}"


_WRITERS: Mapping[Form, Callable[[Sequence[Settled], Engine, str], Iterator[str]]] = {
    Form.EXPORTS: _exports,
    Form.SYSTEMD: _systemd,
    Form.COMPOSE: _compose,
    Form.MODELFILE: _modelfile,
    Form.FLAGS: _flag_line,
    Form.INI: _ini,
}


def _bindings(settled: Sequence[Settled], *places: Place) -> list[Binding]:
    """What stands at these places, each setting once."""
    found = (binding for row in settled for binding in row.bindings if binding.place in places)
    return list(dict.fromkeys(binding for binding in found if plain(binding.value)))


def _variables(settled: Sequence[Settled]) -> Iterator[tuple[str, Value]]:
    """What can be said in the environment."""
    for binding in _bindings(settled, Place.ENVIRONMENT, Place.FLAG):
        if binding.place is Place.ENVIRONMENT:
            yield binding.name, binding.value
        elif binding.variable:
            name, _, fixed = binding.variable.partition("=")
            yield name, fixed or binding.value


def _left_over(
    settled: Sequence[Settled], engine: Engine, prefix: str, without: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Comments on what the environment cannot carry."""
    for binding in _bindings(settled, Place.FLAG, Place.CONFIG, Place.MODEL_FILE):
        if binding.variable or binding.name in without:
            continue
        if binding.place is Place.FLAG:
            yield f"{prefix}has no variable; for the command line of {_SERVICES[engine]}: {shlex.join(_words(binding))}"
        elif binding.place is Place.CONFIG:
            yield f"{prefix}has no variable; for /etc/llama.cpp/config.ini: {binding.name} = {plain(binding.value)}"
        else:
            yield f"{prefix}the model's file has to be what this makes: {_extension(binding)}"


def _cpus(settled: Sequence[Settled]) -> str:
    return next((row.value for row in settled if row.knob is Knob.CPUS), "")


def _export(name: str, value: Value) -> str:
    return f"export {name}={shlex.quote(plain(value))}"


def _extension(binding: Binding) -> str:
    """The command that makes the model's file that a binding asks for."""
    return f"codehub extend-context MODEL.gguf --factor {plain(binding.value)}"


def _words(binding: Binding) -> list[str]:
    """A flag as the words of a command line."""
    return [binding.name] if binding.value is True else [binding.name, plain(binding.value)]
