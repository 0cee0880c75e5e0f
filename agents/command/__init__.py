"""The ``codehub`` command: that of the hub, with what agents add to it. The outermost module, which nothing imports."""

from collections.abc import Sequence

from hub.cli import main as run
from hub.cli.adding import AddCommand, Added


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    return run(arguments, ADDED)


def _parsers(command: AddCommand) -> None:
    """The parsers of this package's commands, each in the module that runs it."""


ADDED = Added(parsers=_parsers, homes={}, served=(), checks=())
