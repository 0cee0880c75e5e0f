"""What a package above adds to the command, which knows these names alone: nothing here imports upwards."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

AddCommand = Callable[[str, str], argparse.ArgumentParser]  # a command's name and its summary


def _no_parsers(_command: AddCommand) -> None:
    """Adds nothing."""


@dataclass(frozen=True, slots=True)
class Added:
    """Commands, what the server serves beside its own routes, and checks of doctor. Modules are named, not imported."""

    parsers: Callable[[AddCommand], None] = _no_parsers
    homes: Mapping[str, str] = field(default_factory=dict)  # a command, and the module with a function of its name
    served: tuple[str, ...] = ()  # "module:function", each a hub.http_api.extending.Extend
    checks: tuple[str, ...] = ()  # "module:function", each a hub.health.model.Look


NOTHING_ADDED = Added()


def standing_at(place: str) -> Any:
    """What stands at "module:name"."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
