"""``codehub connect``: lets a coding agent's own program use our tools, on consent, and undoes it."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from agents.connect import Place, Plan, carry_out, connected, disconnected
from agents.connect.clients import CLIENTS, Client, Served, Started
from agents.errors import ConnectError
from hub import config
from hub.choosing import choose_workspace
from hub.cli import DONE, NOTHING
from hub.cli.output import print_json, settings_of
from indexer.index import DataFolder, Workspace


def connect(options: argparse.Namespace) -> int:
    """Shows what would change, and writes it where that is wanted; 1 where nothing was written that should be."""
    client = CLIENTS[options.client]
    if options.key_variable is not None and options.http is None:
        raise ConnectError(
            "A key is for a server that is asked over HTTP.", "Give its address by --http, or leave out --key-variable."
        )
    settings = settings_of(options)
    workspace = _workspace(settings, options)
    place = Place(_folder(options, workspace), is_user=options.user, file=options.file)
    if options.remove:
        plan = disconnected(client, place, with_guide=options.agents_md)
    else:
        server = _server(options, settings, workspace)
        with_guide = not (options.user or options.file) if options.agents_md is None else options.agents_md
        plan = connected(client, server, place, with_guide=with_guide)
    if not options.json:
        _print_plan(plan)
    wanted = plan.is_any() and (options.yes or (not options.json and _agreed()))
    kept = carry_out(plan) if wanted else ()
    if options.json:
        print_json(_shape(plan, kept, written=wanted))
    else:
        _print_end(plan, kept, written=wanted, removed=options.remove)
    return DONE if wanted or not plan.is_any() else NOTHING


def _workspace(settings: config.Settings, options: argparse.Namespace) -> Workspace | None:
    """The named one, or the one whose tree holds the current folder."""
    workspaces = DataFolder(settings.data).workspaces() if settings.data.is_dir() else []
    here = Path.cwd().resolve()
    if options.workspace is None and not any(here.is_relative_to(workspace.root) for workspace in workspaces):
        return None
    return choose_workspace(workspaces, options.workspace, here)


def _folder(options: argparse.Namespace, workspace: Workspace | None) -> Path:
    """The project's root, or the user's folder."""
    if options.user:
        return Path.home()
    if workspace is not None:
        return Path(workspace.root)
    if options.http is None and not options.remove and not options.file:
        raise ConnectError(
            "The current folder belongs to no indexed tree.",
            "Run `codehub index` here first, name a tree by --workspace, or use --user.",
        )
    return Path.cwd()


def _server(options: argparse.Namespace, settings: config.Settings, workspace: Workspace | None) -> Started | Served:
    if options.http is not None:
        return Served(options.http, options.key_variable or "")
    arguments = ["mcp"]
    # In the user's own configuration the folder that the agent works in says which tree is meant.
    if workspace is not None and (options.workspace is not None or not options.user):
        arguments += ["--workspace", workspace.name]
    # The client may start it anywhere and with another environment, and a project's settings are not read there.
    if settings.data != config.load({}, environment={}, folder=Path("/")).data:
        arguments += ["--data", str(settings.data.absolute())]
    return Started(_program(), tuple(arguments))


def _program() -> str:
    """Where this command is: as it was called, beside its Python, or in the path."""
    called = Path(sys.argv[0])
    for place in (called.absolute(), Path(sys.executable).absolute().with_name("codehub")):
        if place.name == "codehub" and place.is_file():
            return str(place)
    found = shutil.which("codehub")
    if found is None:
        raise ConnectError("The command `codehub` is not installed.", "Install it, such as by `pipx install .`.")
    return str(Path(found).absolute())


def _agreed() -> bool:
    """Asks a person; where there is none, nothing is written."""
    if not sys.stdin.isatty():
        return False
    print("Write this? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_plan(plan: Plan) -> None:
    for change in plan.changes:
        if change.is_any():
            print(change.diff())
        else:
            print(f"{change.found.path}: nothing to change.")


def _print_end(plan: Plan, kept: tuple[Path, ...], *, written: bool, removed: bool) -> None:
    if not plan.is_any():
        return
    if not written:
        print("Nothing was written; call it with --yes.")
        return
    for change in plan.changes:
        if change.is_any():
            print(f"{'Removed' if change.after is None else 'Wrote'} {change.found.path}.")
    for path in kept:
        print(f"As it was: {path}.")
    if not removed:
        print(_next(plan.client))


def _next(client: Client) -> str:
    return f"{client.title} uses it from its next start on. {client.note}".strip()


def _shape(plan: Plan, kept: tuple[Path, ...], *, written: bool) -> dict[str, Any]:
    return {
        "client": plan.client.name,
        "written": written,
        "files": [
            {
                "path": str(change.found.path),
                "change": _kind(change.found.content, change.after),
                "diff": change.diff(),
            }
            for change in plan.changes
        ],
        "kept": [str(path) for path in kept],
        "next": _next(plan.client),
    }


def _kind(before: bytes | None, after: bytes | None) -> str:
    if before == after:
        return "none"
    return "created" if before is None else "removed" if after is None else "changed"
