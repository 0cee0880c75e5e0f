"""What the commands share: settings and service out of the arguments, and how JSON and notes are printed."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub import config
from indexer.errors import QuestionError
from indexer.model import SymbolKind

if TYPE_CHECKING:
    from hub.service import Service

Json = dict[str, Any]


def settings_of(options: argparse.Namespace, **flags: object) -> config.Settings:
    alone = {"use_server": False} if getattr(options, "no_server", False) else {}
    return config.load({"data": options.data, **alone, **flags})


@contextmanager
def opened_service(options: argparse.Namespace, **flags: object) -> Iterator["Service"]:
    """The service of the workspace that is meant, closed afterwards."""
    from hub import wiring  # noqa: PLC0415 - 0.3 s that those need not wait for who have a server

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


def kinds_of(written: Sequence[str]) -> tuple[SymbolKind, ...]:
    """The kinds that were typed. Raises QuestionError for what is none."""
    unknown = [kind for kind in written if kind not in set(SymbolKind)]
    if unknown:
        raise QuestionError(f"{unknown[0]!r} is no kind of symbol.", f"There are: {', '.join(SymbolKind)}.")
    return tuple(SymbolKind(kind) for kind in written)
