"""The commands that keep the data folder elsewhere, and get it back."""

import argparse

from hub import background
from hub import backup as backups
from hub.cli import DONE
from hub.cli.output import print_json, print_notes, settings_of
from hub.cli.progress import interruptible, shown
from hub.errors import HubError
from indexer.errors import IndexerError


def backup(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    with shown() as progress, interruptible() as cancelled:
        made = backups.backup(settings, options.target, progress, cancelled, keep=options.keep or 0)
    if options.json:
        print_json(backups.archive_shape(made))
    else:
        print(f"{made.path}: {_told(made)}, {made.bytes / 1e6:.1f} MB, checked")
        print_notes(made.notes)
    return DONE


def restore(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    with shown() as progress, interruptible() as cancelled:
        made = backups.restore(options.archive, settings.data, progress, cancelled)
    notes = list(made.notes)
    try:
        if settings.index_background:
            background.start(settings)
    except (HubError, IndexerError) as error:  # search scans exactly until Chroma is filled, so it is worth a line only
        notes.append(f"{error.message} {error.hint}")
    if options.json:
        print_json({**backups.archive_shape(made), "data": str(settings.data), "notes": notes})
    else:
        print(f"{settings.data}: {_told(made)}")
        print_notes(notes)
    return DONE


def _told(made: backups.Archive) -> str:
    names = ", ".join(f"{kept.name} ({kept.files:,} files)" for kept in made.workspaces)
    return names or "no workspace"
