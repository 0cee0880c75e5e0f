"""The ``codehub`` command: reads the arguments, runs one command, turns errors into a sentence and an exit code.

Exit codes: 0 done or answered, 1 nothing found or declined, 2 error, 130 stopped by the user. The commands themselves
are imported only when one is run, so that ``--help`` needs nothing.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from hub.errors import HubError
from indexer.errors import Cancelled, IndexerError

_UPKEEP = {"index", "status", "doctor", "repair"}
DONE, NOTHING, FAILED, STOPPED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        # What a terminal cannot show, or a shell handed over as bytes that are no text, is spelt out.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        # Imported here, because --help and a misspelt option need nothing, and looking up needs no parser.
        commands = import_module("hub.cli.upkeep" if options.command in _UPKEEP else "hub.cli.reading")
        run: Callable[[argparse.Namespace], int] = getattr(commands, options.command)
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


def _report(options: argparse.Namespace, message: str, hint: str) -> None:
    if options.json:
        print(json.dumps({"error": message, "hint": hint}))
    else:
        print(f"codehub: {message}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    shared.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds the indexes")
    shared.add_argument("--workspace", "-w", metavar="NAME", help="the indexed tree to use (default: where you are)")

    parser = argparse.ArgumentParser(
        prog="codehub", description="Index C++ code, search it, and ask questions that are answered with citations."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", parents=[shared]
        )

    index = command("index", "index a source tree, or bring its index up to date")
    index.add_argument("path", nargs="?", type=Path, default=Path(), help="the tree (default: the current folder)")
    index.add_argument("--no-vectors", action="store_true", help="text and symbols only")

    search = command("search", "find code by words, names or meaning")
    search.add_argument("query", nargs="+")
    search.add_argument("--limit", "-n", type=_positive, default=10, metavar="N", help="hits to show (default: 10)")
    search.add_argument("--explain", action="store_true", help="show what each hit's score is made of")

    symbol = command("symbol", "show where a symbol is defined and declared")
    symbol.add_argument("name", help="such as Get, DBImpl::Get or leveldb::DBImpl::Get")
    symbol.add_argument("--limit", "-n", type=_positive, default=20, metavar="N", help="symbols to show (default: 20)")
    for name, summary in (
        ("references", "show every use of a name"),
        ("callers", "show what calls a function"),
        ("callees", "show what a function calls"),
    ):
        command(name, summary).add_argument("name")

    ask = command("ask", "answer a question about the code, with citations")
    ask.add_argument("question", nargs="+")
    ask.add_argument(
        "--tier",
        choices=("auto", "exact", "rag", "wide"),
        default="auto",
        help="how much to read: the tables alone, a moderate prompt, a wide one (default: auto)",
    )
    ask.add_argument("--backend", choices=("auto", "ollama", "embedded", "llama-server", "none"), help="who writes")

    command("status", "show what is indexed and how fresh it is")
    export = command("export", "write all symbols and edges, one JSON object a line")
    export.add_argument("--format", choices=("jsonl",), default="jsonl")
    doctor = command("doctor", "check the installation; with PATH, say which files of a tree are left out and why")
    doctor.add_argument("path", nargs="?", type=Path)
    repair = command("repair", "bring the vector index in line with the tables")
    repair.add_argument("--rebuild", action="store_true", help="delete the index and make it again from the tree")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 0.05 s for this option alone

        try:
            parser.exit(message=f"codehub {version('code-knowledge-hub')}\n")
        except PackageNotFoundError:
            parser.exit(message="codehub of a source tree that is not installed\n")
