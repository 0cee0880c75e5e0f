"""The command that keeps indexes up to date while their files change, in the foreground: watch."""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from hub import wiring
from hub.cli import DONE
from hub.cli.output import json_text, settings_of
from hub.errors import FollowError
from hub.follower import Follower, Refreshed
from indexer.index import Workspace


def watch(options: argparse.Namespace) -> int:
    """Runs until a signal ends it; 0 then, as nothing is lost."""
    settings = settings_of(options, watch_mode="polling" if options.polling else None)
    found = wiring.data_folder(settings).workspaces()
    names = None if options.all else [each.name for each in _meant(options, found)]

    def tell(done: Refreshed) -> None:
        if options.json:
            print(json_text(asdict(done)), flush=True)
        elif line := line_of(done):
            print(line, flush=True, file=sys.stderr if done.error else sys.stdout)

    follower = Follower(settings, names, tell)
    if not options.json:
        trees = [each for each in found if names is None or each.name in names]
        for each in trees:
            print(f"watching {each.root} ({each.name}); Ctrl-C ends it", flush=True)
    with _ended_by_signals(follower):
        follower.run()
    return DONE


def line_of(done: Refreshed) -> str:
    """What a person is told of one refresh; nothing where nothing had changed."""
    if done.error:
        return f"{done.workspace}: {done.error} {done.hint}".strip()
    parts = []
    if done.changed:
        parts.append(f"{done.changed:,} file{'s' if done.changed > 1 else ''}")
    if done.removed:
        parts.append(f"{done.removed:,} removed")
    if not parts:
        return f"{done.workspace}: up to date, looked at in {done.seconds:.2f} s" if done.whole else ""
    after = "" if done.after_save_s is None else f", {done.after_save_s:.2f} s after it was saved"
    return f"{done.workspace}: {' and '.join(parts)} in {done.seconds:.2f} s{after}"


def _meant(options: argparse.Namespace, found: Sequence[Workspace]) -> list[Workspace]:
    """The workspaces of the paths, or the one where we are. Raises FollowError, and WorkspaceError for an odd name."""
    if options.workspace is not None or not options.paths:
        return [wiring.choose_workspace(list(found), options.workspace, Path.cwd())]
    meant = []
    for path in options.paths:
        root = path.resolve()
        here = [each for each in found if each.root == root]
        if not here:
            raise FollowError(f"{path} is not indexed.", f"Run `codehub index {path}` first.")
        meant += here
    return meant


@contextmanager
def _ended_by_signals(follower: Follower) -> Iterator[None]:
    """The first signal ends it in order, a second one at once, and so does the first while it waits for its turn."""
    pressed = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        follower.stop()
        if pressed or follower.blocked:
            raise KeyboardInterrupt
        pressed = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
