"""The commands that make and keep an index: index, status, doctor, repair."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from hub import background, following, health, indexing, shapes, wiring
from hub.auth.model import ALL_WORKSPACES
from hub.calibrating import unattended
from hub.cli import DONE, FAILED, NOTHING
from hub.cli.adding import standing_at
from hub.cli.handing import done
from hub.cli.output import print_json, print_notes, settings_of
from hub.cli.progress import shown
from hub.config import Settings
from hub.hooking import spool
from hub.jobs.model import JobKind, Task
from hub.remote import find
from hub.remote.reading import report_from
from hub.standing import state_shape
from indexer import history
from indexer.errors import DataFolderError
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
    if settings.compiler_commands not in {"auto", "none"}:  # the server is in another folder than this command
        named = Path(settings.compiler_commands).expanduser().absolute()
        settings = replace(settings, compiler_commands=str(named))
    arguments = {"tree": str(options.path.absolute())}
    shape = done(settings, Task(JobKind.INDEX, options.workspace or ALL_WORKSPACES, arguments))
    if options.json:
        print_json(shape)
    else:
        _print_report(report_from(shape))
    return DONE


def status(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    data = wiring.data_folder(settings)
    local = settings.embeddings in {"static", "minilm", "none"}  # whose names are known without asking anyone
    encoder = indexing.encoder_source(settings) if local else None
    sources = (*indexing.instant_sources(settings), *((encoder,) if encoder else ()))
    workspaces = data.workspaces()
    if options.workspace is not None:
        workspaces = [wiring.choose_workspace(workspaces, options.workspace, Path())]
    told = spool.waiting(settings.data, [workspace.root for workspace in workspaces])
    followed = {tree.workspace: tree for tree in following.state(settings.data)}
    entries = [
        _state(data, workspace, sources)
        | {"told": workspace.root in told}
        | {"followed": following.followed_shape(followed[workspace.name]) if workspace.name in followed else None}
        for workspace in workspaces
    ]
    at_work, learning = background.state(data), unattended.state(data)
    if options.json:
        print_json(
            {
                "data": str(settings.data),
                "workspaces": entries,
                "background": asdict(at_work) if at_work else None,
                "calibrating": asdict(learning) if learning else None,
                "server": _server(settings),
            }
        )
    elif not entries:
        print("Nothing is indexed yet. Run `codehub index PATH`.")
    for entry in entries if not options.json else ():
        _print_status(entry)
        if tree := followed.get(entry["workspace"]):
            print(f"  {following.words_of(tree)}")
    if at_work and not options.json:
        _print_background(at_work)
    if learning and not options.json:
        print(f"calibrating: {learning.note or _asking(learning)}")
    if not options.json and (server := _server(settings)):
        print(f"a server runs at {server['url']} (process {server['pid']})")
    if any("error" in entry for entry in entries):
        return FAILED
    return DONE if entries else NOTHING


def _server(settings: Settings) -> shapes.Json | None:
    remote = find(settings.data)
    return None if remote is None else {"pid": remote.pid, "url": remote.url, "version": remote.version}


def doctor(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.path is not None:
        reasons = health.left_out(options.path, settings)
        if options.json:
            print_json({"left_out": [asdict(entry) for entry in reasons]})
        for entry in reasons if not options.json else ():
            print(f"{entry.path}: {entry.reason}")
        return DONE
    checklist = health.Checklist.TEAM if options.team else health.Checklist.SINGLE if options.single else None
    around = health.Surroundings(settings, checklist=checklist)
    with shown() as progress:
        fixed = list(health.fix(settings, progress)) if options.fix else []
    for mended in fixed if not options.json else ():
        print(f"fixed    {mended.subject}: {mended.done}")
    findings: list[health.Finding] = []
    added = [standing_at(place) for place in options.added.checks]
    for finding in health.examine(settings, around, added):
        if not options.json:
            _print_finding(finding, findings[-1].group if findings else None)
        findings.append(finding)
    grades = Counter(finding.grade for finding in findings)
    if options.json:
        shape = {"findings": [asdict(finding) for finding in findings]}
        print_json(shape | {"fixed": [asdict(mended) for mended in fixed]} if options.fix else shape)
    else:
        print(
            f"{len(findings)} looked at, {grades[health.Grade.WARNING]} warnings, {grades[health.Grade.FAILED]} failed"
        )
    return FAILED if grades[health.Grade.FAILED] else DONE


def _print_finding(finding: health.Finding, before: health.Group | None) -> None:
    if finding.group is not before:
        print(f"{finding.group}:")
    print(f"{finding.grade.value:8} {finding.subject}: {finding.detail}")
    if finding.hint and finding.grade is not health.Grade.OK:
        print(f"{'':8} -> {finding.hint}")


def repair(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    arguments = {"rebuild": True} if options.rebuild else {}
    shape = done(settings, Task(JobKind.REPAIR, options.workspace or ALL_WORKSPACES, arguments))
    if options.json:
        print_json(shape)
    elif not shape["repairs"]:
        print("Nothing is indexed yet. Run `codehub index PATH`.")
    for entry in shape["repairs"] if not options.json else ():
        print(f"{entry['workspace']}: {entry['done']}")
    return DONE if shape["repairs"] else NOTHING


def _state(data: DataFolder, workspace: Workspace, sources: Sequence[EmbedderSource]) -> shapes.Json:
    """What is indexed and how fresh it is; of an index that cannot be read, why."""
    entry: shapes.Json = {"workspace": workspace.name, "root": str(workspace.root)}
    try:
        with Index.for_reading(data, workspace.name) as opened:
            entry |= {
                "head": history.head(workspace.root)[0],
                **state_shape(data, opened, (source.name for source in sources)),
                **_problems(opened.table.problems()),
            }
    except DataFolderError as error:
        entry |= {"error": error.message, "hint": error.hint}
    return entry


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
    if report.redacted or report.redacted_commits:
        print(
            f"  {len(report.redacted)} secrets in files and {report.redacted_commits} in messages of commits were not"
            " indexed"
        )
    for redacted in report.redacted[:_SHOWN_PROBLEMS]:
        print(f"    {redacted.path}:{redacted.line}: {redacted.message}")
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
    if entry["told"]:
        print("  git has told of a change since, which `codehub index` or a server will look at")
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
    if entry["redacted"]:
        print(f"  {entry['redacted']} secrets of the tree and its history are not in the index")
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
