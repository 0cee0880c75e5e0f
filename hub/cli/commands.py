"""The commands themselves: settings and arguments in, text or JSON on stdout and an exit code out."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from hub import config, health, shapes, wiring
from hub.cli import DONE, FAILED, NOTHING
from hub.cli.progress import interruptible, shown
from hub.model import Answer, Event, Found, Hit, Piece, Reading, Tier
from hub.prompting import visible
from hub.service import Relations, Service
from indexer import history
from indexer.index import Index
from indexer.model import IndexReport, Symbol

_SHOWN_PROBLEMS = 5
_SNIPPET_LINES = 6


def index(options: argparse.Namespace) -> int:
    settings = _settings(options, embeddings="none" if options.no_vectors else None)
    with shown() as progress, interruptible() as cancelled:
        report = wiring.index_tree(settings, options.path, options.workspace, progress, cancelled)
    if options.json:
        _print_json(shapes.report_shape(report))
    else:
        _print_report(report)
    return DONE


def search(options: argparse.Namespace) -> int:
    with _service(options) as service:
        result = service.search(" ".join(options.query), options.limit)
    if options.json:
        _print_json(shapes.search_shape(result))
    elif not result.hits:
        print(f"Nothing found in {result.workspace}. {' '.join(result.confidence.reasons)}")
    else:
        for rank, hit in enumerate(result.hits, 1):
            _print_hit(rank, hit, explain=options.explain)
        confidence = result.confidence
        print(f"confidence {confidence.value:.2f} (uncalibrated): {'; '.join(confidence.reasons)}")
        _print_notes(result.notes)
    return DONE if result.hits else NOTHING


def symbol(options: argparse.Namespace) -> int:
    with _service(options) as service:
        found = service.symbols(options.name, options.limit)
    if options.json:
        _print_json({"symbols": [shapes.symbol_shape(symbol) for symbol in found]})
    elif not found:
        print(f"No symbol is named {options.name}.")
    for entry in found if not options.json else ():
        _print_symbol(entry)
    return DONE if found else NOTHING


def references(options: argparse.Namespace) -> int:
    return _relations(options, "references", "used")


def callers(options: argparse.Namespace) -> int:
    return _relations(options, "callers", "called")


def callees(options: argparse.Namespace) -> int:
    return _relations(options, "callees", "calling")


def ask(options: argparse.Namespace) -> int:
    question = " ".join(options.question)
    tier = None if options.tier == "auto" else Tier(options.tier)
    with _service(options, backend=options.backend) as service:
        answer = service.ask(question, tier, _ignore if options.json else _tell)
    if options.json:
        _print_json(shapes.answer_shape(answer))
    else:
        _print_sources(answer)
    return NOTHING if answer.declined else DONE


def status(options: argparse.Namespace) -> int:
    settings = _settings(options)
    data = wiring.data_folder(settings)
    source = wiring.embedder_source(settings) if settings.embeddings == "minilm" else None
    entries = []
    for workspace in data.workspaces():
        if options.workspace in {None, workspace.name}:
            with Index.for_reading(data, workspace.name) as opened:
                counts = asdict(opened.table.counts())
                stamp = opened.stamp()
                changed = opened.changed_since(opened.table.known_files())
                waiting = opened.table.waiting(source.name) if source else 0
                depth, size = opened.table.outbox_depth(), opened.bytes_on_disk()
            head, _ = history.head(workspace.root)
            entries.append(
                {
                    "workspace": workspace.name,
                    "root": str(workspace.root),
                    "stamp": shapes.stamp_shape(stamp),
                    "head": head,
                    "changed_files": len(changed),
                    **counts,
                    "waiting_for_vectors": waiting,
                    "waiting_for_chroma": depth,
                    "bytes_on_disk": size,
                }
            )
    if options.json:
        _print_json({"data": str(settings.data), "workspaces": entries})
        return DONE if entries else NOTHING
    if not entries:
        print("Nothing is indexed yet. Run `codehub index PATH`.")
    for entry in entries:
        _print_status(entry)
    return DONE if entries else NOTHING


def export(options: argparse.Namespace) -> int:
    settings = _settings(options)
    data = wiring.data_folder(settings)
    chosen = wiring.choose_workspace(data.workspaces(), options.workspace, Path.cwd())
    with Index.for_reading(data, chosen.name) as opened:
        for shape in shapes.export_shapes(opened.facts.all_symbols(), opened.facts.all_edges()):
            print(json.dumps(shape, ensure_ascii=False))
    return DONE


def doctor(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if options.path is not None:
        reasons = health.left_out(options.path, settings)
        if options.json:
            _print_json({"left_out": [asdict(entry) for entry in reasons]})
        for entry in reasons if not options.json else ():
            print(f"{entry.path}: {entry.reason}")
        return DONE
    findings = []
    for finding in health.examine(settings):
        findings.append(finding)
        if not options.json:
            print(f"{finding.grade.value:8} {finding.subject}: {finding.detail}")
            if finding.hint and finding.grade is not health.Grade.OK:
                print(f"{'':8} -> {finding.hint}")
    if options.json:
        _print_json({"findings": [asdict(finding) for finding in findings]})
    return FAILED if any(finding.grade is health.Grade.FAILED for finding in findings) else DONE


def repair(options: argparse.Namespace) -> int:
    settings = _settings(options)
    mend = health.rebuild if options.rebuild else health.repair
    with shown() as progress, interruptible() as cancelled:
        done = mend(settings, options.workspace, progress, cancelled)
    if options.json:
        _print_json({"repairs": [asdict(entry) for entry in done]})
    for entry in done if not options.json else ():
        print(f"{entry.workspace}: {entry.done}")
    return DONE if done else NOTHING


def _settings(options: argparse.Namespace, **flags: object) -> config.Settings:
    return config.load({"data": options.data, **flags})


@contextmanager
def _service(options: argparse.Namespace, **flags: object) -> Iterator[Service]:
    with wiring.open_service(_settings(options, **flags), options.workspace, Path.cwd()) as service:
        yield service


def _relations(options: argparse.Namespace, kind: str, verb: str) -> int:
    with _service(options) as service:
        found: Relations = getattr(service, kind)(options.name)
    if options.json:
        _print_json(shapes.relations_shape(found))
        return DONE if found.edges else NOTHING
    if not found.edges:
        known = (
            f"{options.name} is known, but no {kind} of it." if found.symbols else f"Nothing is named {options.name}."
        )
        print(known)
        return NOTHING
    for edge in found.edges:
        other = edge.target if kind == "callees" else edge.inside or "file scope"
        print(f"{edge.path}:{edge.line}  {other}  ({edge.kind.value}, {edge.how.value})")
    print(f"{len(found.edges)} places {verb}")
    return DONE


def _ignore(_event: Event) -> None:
    pass


def _tell(event: Event) -> None:
    match event:
        case Found(citations, confidence) if citations:
            files = len({citation.span.path for citation in citations})
            print(
                f"found {len(citations)} pieces of evidence in {files} files, confidence {confidence.value:.2f}",
                file=sys.stderr,
            )
        case Reading(backend, model, prompt_tokens):
            print(f"{model} ({backend}) reads {prompt_tokens} tokens ...", file=sys.stderr)
        case Piece(text):
            print(text, end="", flush=True)


def _print_sources(answer: Answer) -> None:
    print("\n")
    if answer.citations:
        print("Sources:")
    for citation in answer.citations:
        name = f"  {citation.symbol}" if citation.symbol else ""
        print(f"  [{citation.label}] {citation.span}{name}")
    calibrated = "" if answer.confidence.calibrated else " (uncalibrated)"
    state = f"{answer.workspace} at {answer.stamp.commit[:12] if answer.stamp.commit else 'no commit'}"
    dirty = " with local changes" if answer.stamp.dirty else ""
    who = answer.backend if answer.model == "none" else f"{answer.model} ({answer.backend})"
    print(
        f"confidence {answer.confidence.value:.2f}{calibrated}, tier {answer.tier.value}, {who},"
        f" {answer.seconds:.1f} s, {state}{dirty}"
    )
    _print_notes(answer.notes)


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"note: {note}")


def _print_hit(rank: int, hit: Hit, *, explain: bool) -> None:
    name = f"  {hit.symbol_name}" if hit.symbol_name else ""
    print(f"{rank:2}. {hit.chunk.span}{name}")
    if explain:
        ranks = ", ".join(f"{signal.source.value} rank {signal.rank} ({signal.raw:.3f})" for signal in hit.signals)
        sums = " ".join(f"{value:+.5f} {source}" for source, value in hit.contributions)
        print(f"    score {hit.score:.5f} = {sums}\n    {ranks}")
    lines = [line.rstrip() for line in visible(hit.chunk.text).split("\n") if line.strip()]
    for line in lines[:_SNIPPET_LINES]:
        print(f"    {line}")
    print()


def _print_symbol(entry: Symbol) -> None:
    form = "defined" if entry.is_definition else "declared"
    print(f"{entry.span}  {entry.kind.value} {entry.qualified_name}  ({form})")
    print(f"    {visible(entry.signature)}")
    if entry.doc:
        print("\n".join(f"    {line}" for line in visible(entry.doc).split("\n")))


def _print_report(report: IndexReport) -> None:
    print(
        f"{report.workspace}: {report.files} files ({report.changed} changed, {report.removed} removed),"
        f" {report.lines:,} lines, {report.symbols:,} symbols, {report.references:,} references,"
        f" {report.chunks:,} chunks"
    )
    print("  " + ", ".join(f"{stage.stage} {stage.seconds:.2f} s" for stage in report.stages))
    if report.waiting_for_vectors:
        print(f"  {report.waiting_for_vectors} chunks have no vector yet; text and symbols can be searched")
    if report.skipped:
        print(f"  {len(report.skipped)} files left out; `codehub doctor PATH` says why")
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        print(f"  {problem.path}:{problem.line}: {problem.message}")
    if len(report.problems) > _SHOWN_PROBLEMS:
        print(f"  and {len(report.problems) - _SHOWN_PROBLEMS} more places that could not be parsed as C++")
    _print_notes(report.notes)


def _print_status(entry: dict[str, object]) -> None:
    stamp = entry["stamp"]
    assert isinstance(stamp, dict)
    commit = str(stamp["commit"] or "no commit")[:12]
    print(f"{entry['workspace']}  {entry['root']}")
    print(f"  indexed {stamp['indexed_at']} at {commit}{' with local changes' if stamp['dirty'] else ''}")
    if entry["head"] != stamp["commit"]:
        print(f"  the tree is now at {str(entry['head'])[:12]}")
    print(
        f"  {entry['files']} files, {entry['lines']} lines, {entry['symbols']} symbols, {entry['chunks']} chunks,"
        f" {int(str(entry['bytes_on_disk'])) >> 10} KiB"
    )
    for key, words in (
        ("changed_files", "files changed since"),
        ("problems", "places could not be parsed"),
        ("waiting_for_vectors", "chunks wait for a vector"),
        ("waiting_for_chroma", "entries wait for Chroma"),
    ):
        if entry[key]:
            print(f"  {entry[key]} {words}")


def _print_json(shape: shapes.Json) -> None:
    print(json.dumps(shape, ensure_ascii=False, indent=2))
