"""The command that lets git's own hooks tell of changed trees, and takes that back: hooks."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hub import wiring
from hub.cli import DONE, NOTHING
from hub.cli.output import Json, print_json, settings_of
from hub.errors import HookError
from hub.hooking.installing import HOOKS, KEPT, SWITCH, HookState
from hub.hooking.standing import Standing, put_in, standing, taken_out
from indexer import history
from indexer.index import Workspace


def hooks(options: argparse.Namespace) -> int:
    """1 where hooks were to tell and do not, or still do and were not to; a status is 0 where all of them tell."""
    settings = settings_of(options)
    workspaces = wiring.data_folder(settings).workspaces()
    found: list[Standing] = []
    odd: list[tuple[Path, HookError]] = []
    for path in _paths(options, workspaces):
        try:
            found.append(standing(path, settings.data, history.hooks_path(path)))
        except HookError as error:
            if options.action != "status" or options.path is not None:
                raise
            odd.append((path, error))
    if options.action == "install":
        found = [put_in(each, settings.data) for each in found]
    elif options.action == "uninstall":
        found = [taken_out(each) for each in found]
    if options.json:
        told = [{"tree": str(path), "error": error.message, "hint": error.hint} for path, error in odd]
        print_json({"trees": [*(_shape(each, workspaces) for each in found), *told]})
    else:
        _print(options.action, found, odd, workspaces)
    if options.action == "uninstall":
        return NOTHING if any(each.holds_ours for each in found) else DONE
    return DONE if found and all(each.state == "installed" for each in found) else NOTHING


def _paths(options: argparse.Namespace, workspaces: list[Workspace]) -> list[Path]:
    """The trees that are meant: the one named, else where we are, or for a status all that are indexed."""
    if options.path is not None:
        return [options.path]
    if options.workspace is not None:
        return [wiring.choose_workspace(workspaces, options.workspace, Path()).root]
    if options.action == "status" and workspaces:
        return [workspace.root for workspace in workspaces]
    return [Path.cwd()]


def _shape(each: Standing, workspaces: Sequence[Workspace]) -> Json:
    return {
        "tree": str(each.tree.top),
        "workspaces": _concerned(each, workspaces),
        "state": each.state,
        "folder": str(each.place.folder),
        "reason": each.place.reason,
        "hooks": [asdict(hook) for hook in each.hooks],
        "snippet": each.snippet,
    }


def _concerned(each: Standing, workspaces: Sequence[Workspace]) -> list[str]:
    """The workspaces that a hook of this tree tells of: those in it, and those that it lies in."""
    top = each.tree.top
    return [one.name for one in workspaces if one.root.is_relative_to(top) or top.is_relative_to(one.root)]


def _print(
    action: str,
    found: Sequence[Standing],
    odd: Sequence[tuple[Path, HookError]],
    workspaces: Sequence[Workspace],
) -> None:
    for each in found:
        print(f"{each.tree.top}: {_STATES[each.state]} ({each.place.folder})")
        if each.place.reason:
            print(f"  {each.place.reason}, so nothing is written there")
        for hook in each.hooks:
            told = f": it {hook.note}" if hook.note else ""
            print(f"  {hook.name:14} {_WORDS[hook.state]}{told}")
        if action == "install":
            _print_rest(each, workspaces)
    for path, error in odd:
        print(f"{path}: {error.message}")


def _print_rest(each: Standing, workspaces: Sequence[Workspace]) -> None:
    if each.missing:
        print(f"Put this into {', '.join(hook.name for hook in each.missing)}, near the top, as docs/hooks.md says:\n")
        print(each.snippet)
    elif any((each.place.folder / (name + KEPT)).exists() for name in HOOKS):
        print(f"  hooks that are no shell scripts are kept as NAME{KEPT} and run as before")
    if not _concerned(each, workspaces):
        print(f"Nothing here is indexed yet: codehub index {shlex.quote(str(each.tree.top))}")
    print(f"{SWITCH}=off in the environment switches them off; `codehub hooks uninstall` takes them out.")


_STATES = {
    "installed": "git tells of every change",
    "partly": "git tells of some changes",
    "none": "git tells of no change",
    "by hand": "git tells of no change, unless another program sees to it",
}
_WORDS = {
    HookState.INSTALLED: "tells",
    HookState.ABSENT: "is not there",
    HookState.OTHERS: "tells nothing",
    HookState.OUTDATED: "tells another data folder, or is of another version",
    HookState.ODD: "is left alone",
}
