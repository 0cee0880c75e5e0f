"""The arguments of ``codehub knowledge``. Imports nothing, as ``--help`` needs nothing."""

import argparse
from collections.abc import Callable
from pathlib import Path

_KINDS = ("architecture", "decision", "standard", "gotcha")
_MOST_DIGITS = 9


def add_knowledge(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Adds the command with its actions."""
    again = argparse.ArgumentParser(add_help=False)  # the options of all may stand behind the action, too
    again.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    again.add_argument("--data", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    again.add_argument("--workspace", "-w", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    knowledge = command("knowledge", "keep what is known of a tree beside its files, and find it again")
    actions = knowledge.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        described = f"{summary[0].upper()}{summary[1:]}."
        return actions.add_parser(name, help=summary, description=described, parents=[again])

    add = action("add", "propose something to be kept")
    add.add_argument("text", nargs="+", metavar="TEXT", help="what is known, or - for standard input")
    add.add_argument("--title", metavar="LINE", help="default: the beginning of the text")
    add.add_argument("--about", action="append", metavar="PLACES", help="symbols, path:line, with commas; repeatable")
    add.add_argument("--expires", metavar="WHEN", help="such as 90d or 2030-01-31 (default: never)")
    add.add_argument("--supersedes", type=_number, action="append", metavar="ID", help="what it replaces; repeatable")
    listed = [action("list", "show what is kept, newest first"), action("search", "find what is kept by its words")]
    listed[1].add_argument("query", nargs="+")
    for each in listed:
        each.add_argument("--limit", "-n", type=_number, default=20, metavar="N", help="entries (default: 20)")
        each.add_argument("--all", action="store_true", help="proposed, retired and expired ones, too")
    action("show", "show one with all that is known of it").add_argument("id", type=_number, metavar="ID")
    promote = action("promote", "propose notes of a session; without NOTE, show them")
    promote.add_argument("session", metavar="SESSION", help="its handle, which remember gave")
    promote.add_argument("notes", nargs="*", type=_number, metavar="NOTE")
    promote.add_argument("--key", metavar="ID", help="the key that opened it (default: a local agent)")
    take = action("import", "propose what documents say: Markdown, reST, text, HTML, PDF, or what export wrote")
    take.add_argument("files", nargs="+", type=Path, metavar="FILE")
    take.add_argument("--as", dest="name", metavar="NAME", help="what the file is called (default: its name)")
    write = action("export", "write what is kept as JSON lines, to be imported elsewhere")
    write.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: standard output")
    take.add_argument("--kind", choices=_KINDS, default="standard", help="what it is (default: standard)")
    for each in (add, promote):
        each.add_argument("--kind", choices=_KINDS, default="gotcha", help="what it is (default: gotcha)")
        each.add_argument("--evidence", action="append", metavar="TEXT", help="path:line, commit, run; repeatable")
    for each in (add, promote, take):
        each.add_argument("--accept", action="store_true", help="accept it at once, as who sits at the terminal may")
    review = action("review", "accept or reject what is proposed; without ID, show what waits")
    review.add_argument("id", nargs="?", type=_number, metavar="ID")
    decided = review.add_mutually_exclusive_group()
    decided.add_argument("--accept", action="store_true", help="it holds from now on")
    decided.add_argument("--reject", metavar="REASON", help="it does not")
    retire = action("retire", "say that one holds no longer")
    retire.add_argument("id", type=_number, metavar="ID")
    reaffirm = action("reaffirm", "say that one holds for the code as it is now")
    reaffirm.add_argument("id", type=_number, metavar="ID")
    rollback = action("rollback", "take back all that was added at once")
    rollback.add_argument("batch", metavar="BATCH", help="as show tells it")
    for each in (retire, rollback):
        each.add_argument("--reason", metavar="TEXT", help="which show tells")


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > _MOST_DIGITS or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)
