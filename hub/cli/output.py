"""What the commands share: settings and service out of the arguments, and how JSON and notes are printed."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hub import config, wiring
from hub.service import Service
from hub.shapes import Json


def settings_of(options: argparse.Namespace, **flags: object) -> config.Settings:
    return config.load({"data": options.data, **flags})


@contextmanager
def opened_service(options: argparse.Namespace, **flags: object) -> Iterator[Service]:
    """The service of the workspace that is meant, closed afterwards."""
    with wiring.open_service(settings_of(options, **flags), options.workspace, Path.cwd()) as service:
        yield service


def print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")


def print_json(shape: Json) -> None:
    print(json_text(shape, indent=2))


def json_text(shape: Json, indent: int | None = None) -> str:
    """Letters as they are where stdout can show them all; otherwise escapes, which are JSON everywhere."""
    return json.dumps(shape, ensure_ascii=(sys.stdout.encoding or "").lower() != "utf-8", indent=indent)
