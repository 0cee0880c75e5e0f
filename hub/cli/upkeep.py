"""The commands that make and keep an index: index, status, doctor, repair."""

import argparse
from dataclasses import asdict

from hub import health, indexing, shapes, wiring
from hub.cli import DONE, FAILED, NOTHING
from hub.cli.output import print_json, print_notes, settings_of
from hub.cli.progress import interruptible, shown
from indexer import history
from indexer.index import Index
from indexer.model import IndexReport

_SHOWN_PROBLEMS = 5


def index(options: argparse.Namespace) -> int:
    settings = settings_of(options, embeddings="none" if options.no_vectors else None)
    with shown() as progress, interruptible() as cancelled:
        report = indexing.index_tree(settings, options.path, options.workspace, progress, cancelled)
    if options.json:
        print_json(shapes.report_shape(report))
    else:
        _print_report(report)
    return DONE


def status(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    data = wiring.data_folder(settings)
    source = indexing.embedder_source(settings) if settings.embeddings == "minilm" else None
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
        print_json({"data": str(settings.data), "workspaces": entries})
        return DONE if entries else NOTHING
    if not entries:
        print("Nothing is indexed yet. Run `codehub index PATH`.")
    for entry in entries:
        _print_status(entry)
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
    for entry in done if not options.json else ():
        print(f"{entry.workspace}: {entry.done}")
    return DONE if done else NOTHING


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
    print_notes(report.notes)


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
