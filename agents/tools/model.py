"""A tool as a value: what a client is shown of it, what it takes, and what runs. Knows no protocol and no caller."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.desk import Desk
from agents.model import Arguments, Binding, Call
from agents.parameters import Parameter, schema
from hub.auth.model import Scope


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. ``run`` gets checked arguments and gives the text that the agent reads; it raises HubError and
    IndexerError. ``bind`` says what an approval of a call would be for, where one may be needed.
    """

    name: str
    title: str  # for people
    about: str  # for agents: when to take it, the decisive sentence first
    parameters: tuple[Parameter, ...]
    scope: Scope
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    run: Callable[[Desk, Call, Arguments], str]
    bind: Callable[[Desk, Call, Arguments], Binding] | None = None
    needs_person: bool = False  # clients that can are told to ask their user at every call

    def definition(self) -> dict[str, Any]:
        """What ``tools/list`` shows of it, plain JSON values."""
        shown: dict[str, Any] = {
            "name": self.name,
            "description": self.about,
            "inputSchema": schema(self.parameters),
            "annotations": {
                "readOnlyHint": self.read_only,
                "destructiveHint": self.destructive,
                "idempotentHint": self.idempotent,
                "openWorldHint": self.open_world,
            },
        }
        if self.needs_person:
            shown["_meta"] = {"anthropic/requiresUserInteraction": True}
        return shown
