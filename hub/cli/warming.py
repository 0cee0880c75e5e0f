"""The command that has a model read the code base before a question comes, and shows what is kept of it."""

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from hub import wiring
from hub.cli import DONE, NOTHING
from hub.cli.handing import Json, done
from hub.cli.output import print_json, print_notes, settings_of
from hub.fullload.snapshots import Kept, Snapshots
from hub.fullload.warming import How
from hub.jobs.model import JobKind, Task

_GIB = 1 << 30
_WORDS = {
    How.HELD: "the model still knew it",
    How.RESTORED: "taken back from disk",
    How.READ: "read",
}


def warm(options: argparse.Namespace) -> int:
    if options.list or options.forget is not None:
        return _kept(options)
    settings = settings_of(options, backend=options.backend)
    workspace = wiring.choose_workspace(wiring.data_folder(settings).workspaces(), options.workspace, Path.cwd())
    shape = done(settings, Task(JobKind.WARM, workspace.name, {}))
    if options.json:
        print_json(shape)
    else:
        _print(shape)
    return DONE


def _kept(options: argparse.Namespace) -> int:
    snapshots = wiring.snapshots(settings_of(options))
    kept = snapshots.kept() if snapshots else []
    if options.forget is not None:
        kept = [state for state in kept if options.forget in {"all", state.key[: len(options.forget)]}]
        for state in kept:
            if snapshots:
                snapshots.forget(state.key)
    if options.json:
        print_json({"forgotten" if options.forget is not None else "kept": [_kept_shape(state) for state in kept]})
        return DONE if kept else NOTHING
    for state in kept:
        used = datetime.fromtimestamp(state.used, UTC).astimezone()
        print(
            f"{state.key[:12]}  {state.bytes / _GIB:6.2f} GiB  {state.tokens:8} tokens  {state.prefill_s:6.0f} s"
            f"  {used:%Y-%m-%d %H:%M}  {state.label}"
        )
    if not kept:
        print("Nothing is kept." if options.forget is None else "Nothing was kept under that name.")
    elif options.forget is not None:
        print(f"Removed {len(kept)}.")
    elif isinstance(snapshots, Snapshots):
        used_bytes = sum(state.bytes for state in kept)
        print(f"{used_bytes / _GIB:.2f} of {snapshots.quota / _GIB:.0f} GiB in {snapshots.folder}")
    return DONE if kept else NOTHING


def _print(warmth: Json) -> None:
    known = "" if warmth["cached"] is None else f", {warmth['cached']} of them known already"
    print(f"{warmth['tokens']} tokens{known}: {_WORDS[How(warmth['how'])]} in {warmth['seconds']:.1f} s")
    if kept := warmth["kept"]:
        print(f"kept on disk as {kept['key'][:12]}: {kept['bytes'] / _GIB:.2f} GiB, spares {kept['prefill_s']:.0f} s")
    print_notes(warmth["notes"])


def _kept_shape(kept: Kept) -> dict[str, object]:
    shape = asdict(kept)
    del shape["next"]
    return shape
