"""The commands that tell what changed and why: changes, and ingest, which brings the index up to the tree before."""

import argparse

from hub.auth.model import ALL_WORKSPACES
from hub.changes import Changes, Shelf
from hub.changes.shapes import as_text, changes_shape
from hub.cli import DONE, NOTHING
from hub.cli.handing import done
from hub.cli.output import opened_service, print_json, print_notes, settings_of
from hub.config import Settings
from hub.jobs.model import JobKind, Task


def changes(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    with opened_service(options) as service:
        shelf = service.shelf
        told = (shelf.asked_for(options.range),) if options.range else shelf.recent(options.limit)
        if options.summarize:
            told = _summarized(settings, shelf, told)
    if options.json:
        print_json({"workspace": service.workspace, "changes": [changes_shape(each) for each in told]})
    else:
        print("\n\n".join(as_text(each) for each in told) or "The tree has no commit that git can read.")
    return NOTHING if all(each.empty for each in told) else DONE


def ingest(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    task = Task(JobKind.INDEX, options.workspace or ALL_WORKSPACES, {"tree": str(options.path.absolute())})
    report = done(settings, task)
    options.workspace = report["workspace"]
    with opened_service(options) as service:
        told = service.shelf.asked_for(options.range)
    if options.json:
        kept = {name: report[name] for name in ("workspace", "files", "changed", "removed", "notes")}
        print_json({"index": kept, "changes": changes_shape(told)})
    else:
        print(as_text(told))
        print_notes(report["notes"])
    return NOTHING if told.empty else DONE


def _summarized(settings: Settings, shelf: Shelf, told: tuple[Changes, ...]) -> tuple[Changes, ...]:
    from hub import wiring  # noqa: PLC0415 - those who ask no model need not wait

    backend = wiring.backend(settings)
    try:
        return tuple(shelf.summarized(each, backend, settings.answer_tokens) for each in told)
    finally:
        backend.close()
