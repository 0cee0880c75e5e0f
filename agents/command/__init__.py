"""The ``codehub`` command: that of the hub, with what agents add to it. The outermost module, which nothing imports."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hub.cli import main as run
from hub.cli.adding import AddCommand, Added


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return run(arguments, ADDED)


def _parsers(command: AddCommand) -> None:
    """The parsers of this package's commands, each in the module that runs it."""
    _add_connect(command)
    mcp = command("mcp", "answer a coding agent over stdin and stdout, by the server or without one")
    mcp.add_argument("--no-server", action="store_true", help="do it here, even where a server runs on the data folder")
    _add_running(command)
    sandbox = command("sandbox", "what holds the builds and tests that agents run, and what is missing for it here")
    sandbox.add_argument("--test", action="store_true", help="try to get out of it, and to take more than is allowed")


def _add_running(command: AddCommand) -> None:
    runs = command("run", "run a recipe in the sandbox, over a throw-away copy of the tree")
    runs.add_argument("recipe", help="its name; `codehub recipes` lists them")
    runs.add_argument("arguments", nargs="*", metavar="NAME=VALUE", help="what the recipe takes")
    runs.add_argument("--patch", type=Path, metavar="FILE", help="apply this patch to the copy first; - for stdin")
    runs.add_argument("--no-changes", action="store_true", help="leave out what is not committed")
    recipes = command("recipes", "show what agents may run, and whether it could be run here")
    recipes.add_argument("--template", metavar="NAME", help="print a file to begin with: cmake, ninja, make or bazel")


def _add_connect(command: AddCommand) -> None:
    connect = command("connect", "let a coding agent use the tools of this hub, by an entry in its own configuration")
    connect.add_argument(
        "client", choices=("claude", "cursor", "gemini", "codex", "vscode"), help="the program that the agent runs in"
    )
    where = connect.add_mutually_exclusive_group()
    where.add_argument("--project", action="store_true", help="in the indexed tree, for all who work on it (default)")
    where.add_argument("--user", action="store_true", help="in your own configuration, for all your projects")
    where.add_argument("--file", type=Path, metavar="FILE", help="in this file, such as that of another profile")
    connect.add_argument("--http", metavar="URL", help="ask a server there, instead of starting `codehub mcp`")
    connect.add_argument(
        "--key-variable", metavar="NAME", help="the environment variable that holds the key (default: HUB_KEY)"
    )
    connect.add_argument(
        "--agents-md",
        action=argparse.BooleanOptionalAction,
        help="tell agents in the project's AGENTS.md when to use which tool (default: with --project)",
    )
    connect.add_argument("--remove", action="store_true", help="undo it")
    connect.add_argument("--yes", "-y", action="store_true", help="write it without asking")


ADDED = Added(
    parsers=_parsers,
    homes={
        "connect": "agents.command.connecting",
        "mcp": "agents.command.serving",
        **dict.fromkeys(("run", "recipes"), "agents.command.running"),
        "sandbox": "agents.command.sandboxing",
    },
    served=("agents.mcp_server:extension",),
    checks=("agents.command.examining:CHECK",),
)
