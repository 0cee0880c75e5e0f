"""The ``codehub`` command: reads the arguments, runs one command, turns errors into a sentence and an exit code.

Exit codes: 0 done or answered, 1 nothing found or declined, 2 error, 130 stopped by the user. The commands themselves
are imported only when one is run, so that ``--help`` needs nothing.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from io import TextIOWrapper

from hub.cli.adding import NOTHING_ADDED, Added
from hub.cli.parsing import parser_of
from hub.errors import HubError
from indexer.errors import Cancelled, IndexerError

_HOMES = {
    **dict.fromkeys(("index", "status", "doctor", "repair"), "upkeep"),
    **dict.fromkeys(("search", "ask", "export"), "reading"),
    "why": "reasons",
    **dict.fromkeys(("changes", "ingest"), "changes"),
    **dict.fromkeys(("evaluate", "tune"), "tuning"),
    "calibrate": "calibrating",
    "plan": "planning",
    "extend-context": "models",
    "profile": "profile",
    "monitor": "monitoring",
    "measure-context": "measuring",
    "warm": "warming",
    "jobs": "jobs",
    "knowledge": "knowledge",
    "hooks": "hooks",
    "watch": "watching",
    **dict.fromkeys(("backup", "restore"), "backups"),
    "serve": "serving",
    "open": "opening",
    **dict.fromkeys(("keys", "audit", "approve"), "keys"),
}
_EXACT = frozenset({"export", "monitor", "plan", "serve"})  # JSON, pictures with colours, and lines that are waited for
DONE, NOTHING, FAILED, STOPPED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None, added: Added = NOTHING_ADDED) -> int:
    """Runs one command and returns its exit code. What it takes on is in ``options.added``."""
    options = parser_of(added).parse_args(arguments)
    options.added = added
    for stream in (sys.stdout, sys.stderr):
        # What a terminal cannot show, or a shell handed over as bytes that are no text, is spelt out.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if options.command == "serve":
        # Read when numpy is imported. Searches side by side are the parallel work of a server: with OpenBLAS' own
        # threads the scan of 25,000 vectors takes 16 ms on a busy machine of 2 cores, without them 2 ms.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        # Imported here, because --help and a misspelt option need nothing, and looking up needs no parser.
        home = added.homes.get(options.command) or f"hub.cli.{_HOMES.get(options.command, 'lookups')}"
        commands = import_module(home)
        run: Callable[[argparse.Namespace], int] = getattr(commands, options.command.replace("-", "_"))
        with _shown_to(options):
            code = run(options)
        sys.stdout.flush()  # here, where a reader that has left is noticed
    except Cancelled as error:
        _report(options, error.message, error.hint)
        return STOPPED
    except KeyboardInterrupt:
        _report(options, "Stopped.", "")
        return STOPPED
    except (HubError, IndexerError) as error:
        _report(options, error.message, error.hint)
        return FAILED
    except BrokenPipeError:
        # The reader of our output left, as `head` does. Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _shown_to(options: argparse.Namespace) -> AbstractContextManager[None]:
    """People are shown what is covert in the text of a tree; programs get it exactly, and pictures draw themselves."""
    if getattr(options, "json", False) or options.command in _EXACT:
        return nullcontext()
    from hub.cli.terminal import visibly  # noqa: PLC0415 - --help needs nothing

    return visibly()


def _report(options: argparse.Namespace, message: str, hint: str) -> None:
    if options.json:
        print(json.dumps({"error": message, "hint": hint}))
    else:
        from hub.prompting import visible  # noqa: PLC0415 - as above

        print(visible(f"codehub: {message}" + (f"\n  {hint}" if hint else "")), file=sys.stderr)
