"""``codehub sandbox``: what holds the programs that agents let run, tried out here."""

import argparse

from agents.sandbox import Sandboxing, look
from agents.sandbox.looking import shape
from agents.sandbox.selftest import Attempt, attempts
from hub.cli import DONE, FAILED
from hub.cli.output import print_json


def sandbox(options: argparse.Namespace) -> int:
    found = look()
    if not options.json:
        _print_found(found)
    tried: list[Attempt] = []
    for attempt in attempts() if options.test and found.available else ():
        tried.append(attempt)
        if not options.json:
            print(
                f"{'held   ' if attempt.held else 'ESCAPED'} {attempt.words}"
                + (attempt.detail and f": {attempt.detail}")
            )
    escaped = sum(not attempt.held for attempt in tried)
    if options.json:
        told = [{"attempt": one.words, "held": one.held, "detail": one.detail} for one in tried]
        print_json(shape(found) | ({"attempts": told, "escaped": escaped} if options.test else {}))
    elif tried:
        print(f"{len(tried)} attempts, {escaped} escaped")
    return DONE if found.available and not escaped else FAILED


def _print_found(found: Sandboxing) -> None:
    print("builds and tests can be run apart" if found.available else "nothing can be run apart here")
    if found.program is not None:
        print(f"program: bubblewrap {found.version}, {found.program}")
    for layer in found.layers:
        print(f"layer:   {layer}{_version(layer, found.landlock, found.cgroup)}")
    for missing in found.missing:
        print(f"missing: {missing}")
    for warning in found.warnings:
        print(f"note:    {warning}")
    if found.hint:
        print(f"-> {found.hint}")


def _version(layer: str, landlock: int, cgroup: str) -> str:
    return {"landlock": f" (version {landlock})", "cgroup": f" ({cgroup})"}.get(layer, "")
