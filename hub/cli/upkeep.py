"""The commands that make and keep an index: index, status, doctor, repair."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hub import background, health, indexing, shapes, wiring
from hub.calibrating import unattended
from hub.cli import DONE, FAILED, NOTHING
from hub.cli.output import print_json, print_notes, settings_of
from hub.cli.progress import interruptible, shown
from hub.config import Settings
from hub.errors import HubError
from hub.standing import Standing, standing, unlike
from indexer import history
from indexer.errors import DataFolderError, IndexerError
from indexer.index import DataFolder, Index, Workspace
from indexer.model import IndexReport, Problem
from indexer.pipeline import EmbedderSource

_SHOWN_PROBLEMS = 5


def index(options: argparse.Namespace) -> int:
    settings = settings_of(
        options,
        embeddings="none" if options.no_vectors else "static" if options.no_encoder else None,
        compiler_commands="none" if options.no_compiler else None,
        index_background=False if options.wait else None,
    )
    with shown() as progress, interruptible() as cancelled:
        report = indexing.index_tree(settings, options.path, options.workspace, progress, cancelled)
    if options.json:
        print_json(shapes.report_shape(report))
    else:
        _print_report(report)
    _leave_the_rest(settings)
    return DONE


def _leave_the_rest(settings: Settings) -> None:
    """What is indexed can be searched, so a process that does not begin is worth a line, not a failure."""
    for begin in (*([background.start] if settings.index_background else ()), unattended.start):
        try:
            begin(settings)
        except (HubError, IndexerError) as error:
            print_notes((f"{error.message} {error.hint}",))


def status(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    data = wiring.data_folder(settings)
    local = settings.embeddings in {"static", "minilm", "none"}  # whose names are known without asking anyone
    encoder = indexing.encoder_source(settings) if local else None
    sources = (*indexing.instant_sources(settings), *((encoder,) if encoder else ()))
    workspaces = data.workspaces()
    if options.workspace is not None:
        workspaces = [wiring.choose_workspace(workspaces, options.workspace, Path())]
    entries = [_state(data, workspace, sources) for workspace in workspaces]
    at_work, learning = background.state(data), unattended.state(data)
    if options.json:
        print_json(
            {
                "data": str(settings.data),
                "workspaces": entries,
                "background": asdict(at_work) if at_work else None,
                "calibrating": asdict(learning) if learning else None,
            }
        )
    elif not entries:
        print("Nothing is indexed yet. Run `codehub index PATH`.")
    for entry in entries if not options.json else ():
        _print_status(entry)
    if at_work and not options.json:
        _print_background(at_work)
    if learning and not options.json:
        print(f"calibrating: {learning.note or _asking(learning)}")
    if any("error" in entry for entry in entries):
        return FAILED
    return DONE if entries else NOTHING


def doctor(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.path is not None:
        reasons = health.left_out(options.path, settings)
        if options.json:
            print_json({"left_out": [asdict(entry) for entry in reasons]})
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
        print_json({"findings": [asdict(finding) for finding in findings]})
    return FAILED if any(finding.grade is health.Grade.FAILED for finding in findings) else DONE


def repair(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    mend = health.rebuild if options.rebuild else health.repair
    with shown() as progress, interruptible() as cancelled:
        done = mend(settings, options.workspace, progress, cancelled)
    if options.json:
        print_json({"repairs": [asdict(entry) for entry in done]})
    elif not done:
        print("Nothing is indexed yet. Run `codehub index PATH`.")
    for entry in done if not options.json else ():
        print(f"{entry.workspace}: {entry.done}")
    return DONE if done else NOTHING


def _state(data: DataFolder, workspace: Workspace, sources: Sequence[EmbedderSource]) -> shapes.Json:
    """What is indexed and how fresh it is; of an index that cannot be read, why."""
    entry: shapes.Json = {"workspace": workspace.name, "root": str(workspace.root)}
    try:
        with Index.for_reading(data, workspace.name) as opened:
            entry |= {
                "stamp": shapes.stamp_shape(opened.stamp()),
                "head": history.head(workspace.root)[0],
                "changed_files": len(opened.changed_since(opened.table.known_files())),
                **asdict(opened.table.counts()),
                **_problems(opened.table.problems()),
                "edges": {how.value: number for how, number in opened.facts.provenance().items()},
                "compiler": asdict(opened.compiled.coverage()),
                "waiting_for_vectors": max((opened.table.waiting(source.name) for source in sources), default=0),
                "waiting_for_chroma": opened.table.outbox_depth(),
                "bytes_on_disk": opened.bytes_on_disk(),
                "calibration": _calibration(standing(data, opened)),
            }
    except DataFolderError as error:
        entry |= {"error": error.message, "hint": error.hint}
    return entry


def _calibration(now: Standing | None) -> shapes.Json | None:
    if now is None:
        return None
    shifted = [unlike(now.shifts)] if now.shifts else []
    return {"calibrated_at": now.calibrated_at, "asked": now.asked, "stale": list(now.stale), "notes": shifted}


def _problems(problems: Sequence[Problem]) -> shapes.Json:
    """The files that hold what could not be read, the worst first, and how many lines that are."""
    lines = Counter(path for path, _ in {(problem.path, problem.line) for problem in problems})
    worst = sorted(lines.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "problem_files": len(lines),
        "problem_lines": lines.total(),
        "worst_files": [{"path": path, "lines": number} for path, number in worst[:_SHOWN_PROBLEMS]],
    }


def _print_report(report: IndexReport) -> None:
    print(
        f"{report.workspace}: {report.files} files ({report.changed} changed, {report.removed} removed),"
        f" {report.lines:,} lines, {report.symbols:,} symbols, {report.references:,} references,"
        f" {report.chunks:,} chunks"
    )
    print("  " + ", ".join(f"{stage.stage} {stage.seconds:.2f} s" for stage in report.stages))
    if confirmed := report.confirmation:
        print(
            f"  compiler: {confirmed.files} files confirmed, {confirmed.read} of {confirmed.units} units read now,"
            f" {confirmed.broken} with errors, {confirmed.failed} without result"
        )
        for problem in confirmed.problems[:_SHOWN_PROBLEMS]:
            print(f"    {problem.path}:{problem.line}: {problem.message}")
    if report.waiting_for_vectors:
        print(f"  {report.waiting_for_vectors} chunks wait for a vector of an encoder; they can be searched already")
    if report.skipped:
        print(f"  {len(report.skipped)} files left out; `codehub doctor PATH` says why")
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        print(f"  {problem.path}:{problem.line}: {problem.message}")
    if len(report.problems) > _SHOWN_PROBLEMS:
        print(f"  and {len(report.problems) - _SHOWN_PROBLEMS} more places that could not be parsed as C++")
    print_notes(report.notes)


def _asking(learning: background.State) -> str:
    return f"{learning.workspace} was asked {learning.done} of {learning.total} questions (process {learning.pid})"


def _print_background(at_work: background.State) -> None:
    if at_work.note:
        print(f"in the background: {at_work.note}")
    elif at_work.embedder:
        print(
            f"in the background: {at_work.embedder} has read {at_work.done:,} of {at_work.total:,} chunks of"
            f" {at_work.workspace} (process {at_work.pid})"
        )
    else:
        print(f"in the background: vectors of {at_work.workspace} go to Chroma (process {at_work.pid})")


def _print_status(entry: shapes.Json) -> None:
    print(f"{entry['workspace']}  {entry['root']}")
    if "error" in entry:
        print(f"  {entry['error']}\n  {entry['hint']}")
        return
    stamp = entry["stamp"]
    commit = (stamp["commit"] or "no commit")[:12]
    dirty = " with local changes" if stamp["dirty"] else ""
    print(f"  indexed {stamp['indexed_at'] or 'not to the end yet'} at {commit}{dirty}")
    if entry["head"] != stamp["commit"]:
        print(f"  the tree is now at {(entry['head'] or 'no commit')[:12]}")
    print(
        f"  {entry['files']} files, {entry['lines']} lines, {entry['symbols']} symbols, {entry['chunks']} chunks,"
        f" {entry['bytes_on_disk'] >> 10} KiB"
    )
    print("  edges: " + ", ".join(f"{number} {how}" for how, number in entry["edges"].items()))
    if (compiled := entry["compiler"])["units"]:
        print(
            f"  the compiler confirmed {compiled['files']} of {compiled['files_in_tree']} files,"
            f" {compiled['functions']} of {compiled['functions_in_tree']} functions,"
            f" {compiled['uses']} of {compiled['uses_in_tree']} uses"
        )
    if entry["problem_files"]:
        print(f"  {entry['problem_lines']} lines of {entry['problem_files']} files could not be parsed whole")
        for worst in entry["worst_files"]:
            print(f"    {worst['lines']} of {worst['path']}")
    _print_calibration(entry["calibration"])
    for key, words in (
        ("changed_files", "files changed since"),
        ("waiting_for_vectors", "chunks wait for a vector"),
        ("waiting_for_chroma", "entries wait for Chroma"),
    ):
        if entry[key]:
            print(f"  {entry[key]} {words}")


def _print_calibration(calibration: shapes.Json | None) -> None:
    if calibration is None:
        return
    print(f"  confidence calibrated {calibration['calibrated_at']} with {calibration['asked']} questions")
    for sentence in (*calibration["stale"], *calibration["notes"]):
        print(f"    {sentence}")
    if calibration["stale"]:
        print("    `codehub calibrate` does it again")
