"""The command that says which model fits which machine, how fast it is there, and how to load it: plan.

Tables stay readable at 80 columns; ``--json`` has everything, sizes in bytes and times in seconds.
"""

import argparse
import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hub import config
from hub.capacity import advice, architecture, calibration, catalogue, gguf, machine
from hub.capacity.advice import Note, duration, rate, tokens
from hub.capacity.model import Calibration, DeviceMemory, KvType, Machine, ModelShape, Placement
from hub.capacity.planning import LOSS, Plan, Row, Task, UsersAt, Wish, best_of, fast_enough, survey
from hub.capacity.planning import plan as planned
from hub.capacity.rules import Rule, rules
from hub.capacity.shapes import plan_shape, profile_of, survey_shape
from hub.capacity.speed import Term
from hub.cli import DONE, NOTHING, plotting
from hub.cli.output import print_json, settings_of
from hub.errors import BackendError, HubError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_GIB = 1 << 30
_PLACES = {
    Placement.GPU: "card",
    Placement.KV_IN_RAM: "KV in RAM",
    Placement.LAYERS_ON_CPU: "layers on CPU",
    Placement.EXPERTS_IN_RAM: "experts in RAM",
    Placement.CPU: "CPU",
    Placement.UNIFIED: "shared",
}


def plan(options: argparse.Namespace) -> int:
    """Exit code 1 where nothing fits."""
    if options.plot is not None:
        if len(options.models) != 1:
            raise HubError("A picture shows one model.", "Name it: codehub plan MODEL --plot FILE.")
        plotting.check(options.plot)
    settings = settings_of(options)
    there = machine.described(options.gpu, options.ram)
    shapes = [_shape(name, settings) for name in options.models] or [*map(catalogue.find, catalogue.models())]
    measured = Calibration()
    if options.gpu is None and options.ram is None:  # another machine has not been measured
        measured = calibration.load(settings.data, there, model=shapes[0].name if len(shapes) == 1 else "")
        if damaged := calibration.damage(settings.data):
            there = replace(there, notes=(*there.notes, damaged))
    wish = Wish(
        contexts=tuple(sorted(set(options.context or ()))),
        users=options.users,
        kv_type=KvType(options.kv) if options.kv else None,
        task=Task(options.task),
    )
    if len(options.models) != 1:
        return _print_survey(options, survey(shapes, there, wish, measured))
    made = planned(shapes[0], there, wish, measured)
    compared = _rules(made) if options.rules else ()
    if options.plot is not None:
        plotting.draw(options.plot, made)
    if options.json:
        print_json(plan_shape(made, compared))
    else:
        _print(made, compared, options)
    return DONE if made.recommended else NOTHING


def _shape(name: str, settings: config.Settings) -> ModelShape:
    """A file where there is one, else what Ollama has, else the catalogue."""
    path = Path(name).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        header = gguf.read_header(path)
        return architecture.shape_of(header.metadata, header.tensors, name=path.stem, source="gguf")
    from hub.backends import ollama  # noqa: PLC0415 - takes 0.3 s

    try:
        metadata, tensors = ollama.model_facts(settings.ollama_host, name)
    except BackendError:
        return catalogue.find(name)
    return architecture.shape_of(metadata, tensors, name=name, source="ollama")


def _rules(made: Plan) -> tuple[Rule, ...]:
    row = made.recommended or min(made.rows, key=lambda row: row.context)
    return rules(made.shape, row.context, made.machine, made.calibration)


def _print(made: Plan, compared: Sequence[Rule], options: argparse.Namespace) -> None:
    console = _console()
    shape, row = made.shape, made.recommended
    console.print(_model_line(shape))
    _print_machine(console, made.machine)
    if made.calibration.measured:
        console.print(f"Corrected by what was measured here: {made.calibration.measured}.")
    console.print()
    if row:
        console.print(f"Recommended: {_way(row, len(shape.layers))}", style="bold")
        _print_row(console, made, row)
        _print_notes(console, "Why", advice.reasons(made))
    _print_notes(console, "Mind" if row else "", advice.cautions(made))
    console.print()
    console.print(_table(made, made.rows if options.all else tuple(_best_of_each_context(made))))
    console.print("* more than the model is trained on" if any(row.beyond_training for row in made.rows) else "")
    if made.users:
        console.print(_users_line(made.users), style="bold" if made.wish.users > 1 else "")
    if compared:
        console.print(_rules_table(compared))
    if row:
        console.print("\nTo run it so, in codehub.toml (codehub profile says what else an engine needs):\n[profile]")
        for key, value in profile_of(shape, row).items():
            console.print(f"{key} = {json.dumps(value)}")
        console.print()
    _print_lines(console, [_ASSUMED])


_ASSUMED = (
    "Speeds are computed, usually right within a third; codehub measure-context measures them and corrects the next"
    " plan. Speculative decoding is left out."
)


_SURVEYED = (
    "Each at the largest context at which it is fast enough for {task}, with the KV cache as q8_0 if nothing else was"
    " asked for. Larger models stand first."
)


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415 - slow

    return Console(highlight=False, markup=False, emoji=False)


def _model_line(shape: ModelShape) -> str:
    parts = [shape.name if shape.quantization in shape.name or not shape.quantization else _named(shape)]
    parts.append(f"{shape.parameters / 1e9:.3g} B parameters")
    if shape.experts:
        parts.append(f"{shape.experts_used} of {shape.experts} experts")
    parts += [f"{_gib(shape.weight_bytes)} GiB of weights", f"trained on {shape.trained_context:,} tokens"]
    return f"{', '.join(parts)} ({shape.source})"


def _named(shape: ModelShape) -> str:
    return f"{shape.name} {shape.quantization}"


def _print_machine(console: "Console", there: Machine) -> None:
    parts = []
    if there.gpu:
        each = f"{there.gpu.count} x " if there.gpu.count > 1 else ""
        parts.append(
            f"{each}{there.gpu.name}, {_gib(there.gpu.free)} of {_gib(there.gpu.memory)} GiB free,"
            f" {there.gpu.bandwidth / 1e9:.0f} GB/s, {there.gpu.flops / 1e12:.0f} TFLOPS"
            + ("" if there.unified else f", link {there.gpu.link / 1e9:.0f} GB/s")
        )
    else:
        parts.append("No graphics card")
    if not there.unified:
        parts.append(f"RAM {_gib(there.ram_free)} of {_gib(there.ram)} GiB free, {there.ram_bandwidth / 1e9:.0f} GB/s")
    console.print("; ".join(parts))
    _print_lines(console, there.notes)


def _print_row(console: "Console", made: Plan, row: Row) -> None:
    parts = []
    if row.need.gpu.total:
        parts.append(f"card   {_gib(row.need.gpu.total)} of {_gib(made.card_room)} GiB: {_parts(row.need.gpu)}")
    if row.need.host.total:
        parts.append(f"RAM    {_gib(row.need.host.total)} of {_gib(made.host_room)} GiB: {_parts(row.need.host)}")
    parts.append(f"token  {_terms(row.decode.terms, row.decode.seconds)}")
    parts.append(f"prompt {_terms(row.cold.terms, row.cold.seconds)}")
    for part in parts:
        _print_lines(console, [part[7:]], f"  {part[:7]}")


def _parts(memory: DeviceMemory) -> str:
    named = (
        ("weights", memory.weights),
        ("KV", memory.kv),
        ("state", memory.state),
        ("buffers", memory.compute),
        ("driver", memory.overhead),
    )
    return ", ".join(f"{name} {_gib(size)}" for name, size in named if size)


def _terms(terms: Sequence[Term], seconds: float) -> str:
    """What takes at least a fiftieth of the time, with the share of each."""
    whole = sum(term.seconds for term in terms)
    shown = ", ".join(f"{term.name} {term.seconds / whole:.0%}" for term in terms if term.seconds >= whole / 50)
    return f"{duration(seconds) if seconds >= 1 else f'{seconds * 1000:.3g} ms'}: {shown}"


def _print_notes(console: "Console", title: str, notes: Iterable[Note]) -> None:
    lines = [note.text for note in notes]
    if lines and title:
        console.print(title)
    _print_lines(console, lines, "  - ")


def _print_lines(console: "Console", lines: Iterable[str], lead: str = "  ") -> None:
    for line in lines:
        width = max(40, console.width)
        console.print(textwrap.fill(line, width, initial_indent=lead, subsequent_indent=" " * len(lead)))


def _way(row: Row, layers: int) -> str:
    load = row.load
    users = f" for each of {load.parallel} users" if load.parallel > 1 else ""
    more = {
        Placement.EXPERTS_IN_RAM: f", experts of {load.ram_experts} of {layers} layers in RAM",
        Placement.LAYERS_ON_CPU: f", {load.gpu_layers} of {layers + 1} layers on the card",
    }.get(load.placement, f", {advice.PLACEMENT_NAMES[load.placement]}")
    return f"{tokens(row.context)}{users}, KV {load.k_type}{more}, batch {load.batch}"


def _best_of_each_context(made: Plan) -> Iterator[Row]:
    """Of each context and KV type the best that fits, or what lacks least; four bits only where asked for."""
    asked = made.wish.kv_type is not None or (made.recommended and LOSS.get(made.recommended.load.k_type))
    groups: dict[tuple[int, KvType], list[Row]] = {}
    for row in made.rows:
        if asked or not LOSS.get(row.load.k_type):
            groups.setdefault((row.context, row.load.k_type), []).append(row)
    for group in groups.values():
        chosen = [row for row in group if row is made.recommended]
        fitting = [row for row in group if row.fits]
        if chosen or fitting:
            yield chosen[0] if chosen else best_of(fitting)
        else:
            yield min(group, key=lambda row: row.card_short + row.host_short)


def _table(made: Plan, rows: Iterable[Row]) -> "Table":
    table = _columns(("Context", "KV", "Where", "Batch", "Card", "RAM", "t/s", "empty", "cold", "+4K"), (1, 2), 2)
    for row in rows:
        context = tokens(row.context) + ("*" if row.beyond_training else "")
        place = _PLACES[row.load.placement]
        if row.load.placement is Placement.EXPERTS_IN_RAM:
            place = f"{place} {row.load.ram_experts}"
        if row.load.placement is Placement.LAYERS_ON_CPU:
            place = f"{place} {len(made.shape.layers) + 1 - (row.load.gpu_layers or 0)}"
        cells = [
            context,
            str(row.load.k_type),
            place,
            str(row.load.batch),
            _gib(row.need.gpu.total),
            _gib(row.need.host.total),
        ]
        if row.fits:
            cells += [
                rate(row.decode.tokens_s),
                rate(row.decode_start.tokens_s),
                duration(row.cold.seconds),
                duration(row.warm.seconds),
            ]
        else:
            cells += ["-", "-", "no", "room"]
        table.add_row(*cells, style="bold" if row is made.recommended else None if row.fits else "dim")
    return table


def _columns(names: Sequence[str], left: Sequence[int], wrapped: int) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - slow

    table = Table(box=None, pad_edge=False, header_style="underline")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number in left else "right", no_wrap=number != wrapped)
    return table


def _users_line(users: Sequence[UsersAt]) -> str:
    shown = ", ".join(f"{at.users} x {tokens(at.context)} ({rate(at.tokens_s)} t/s each)" for at in users)
    return f"Users at once, loaded so: {shown}"


def _rules_table(compared: Sequence[Rule]) -> "Table":
    table = _columns(("Rule of thumb", "of", "says", "computed", "off"), (0, 1), 0)
    for rule in compared:
        said, computed = (
            (_gib(rule.says) + " GiB", _gib(rule.computed) + " GiB")
            if rule.unit == "bytes"
            else (rate(rule.says) + " t/s", rate(rule.computed) + " t/s")
        )
        table.add_row(rule.name, rule.quantity, said, computed, f"{rule.off:+.0%}")
    return table


def _print_survey(options: argparse.Namespace, plans: Sequence[Plan]) -> int:
    if options.json:
        print_json(survey_shape(plans))
    else:
        console = _console()
        _print_machine(console, plans[0].machine)
        table = _columns(("Model", "GiB", "Context", "Where", "t/s", "cold", "+4K"), (0, 3), 0)
        told = False
        for made in plans:
            if row := made.recommended:
                if not told and not fast_enough(row, made.wish):
                    table.add_row(f"too slow for {made.wish.task}:", style="dim")
                    told = True
                table.add_row(
                    made.shape.name,
                    _gib(made.shape.weight_bytes),
                    tokens(row.context),
                    _PLACES[row.load.placement],
                    rate(row.decode.tokens_s),
                    duration(row.cold.seconds),
                    duration(row.warm.seconds),
                )
        console.print(table)
        _print_lines(console, [_SURVEYED.format(task=plans[0].wish.task)], "")
        without = [made.shape.name for made in plans if made.recommended is None]
        if without:
            _print_lines(console, [f"Not on this machine: {', '.join(without)}."], "")
        _print_lines(console, [_ASSUMED], "")
    return DONE if any(made.recommended for made in plans) else NOTHING


def _gib(size: float) -> str:
    return f"{size / _GIB:,.1f}" if size < 100 * _GIB else f"{size / _GIB:,.0f}"
