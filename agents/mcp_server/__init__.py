"""The tools as an MCP server: at ``/mcp`` of the running server, and over stdin and stdout where none runs.

Knows the protocol and who is at the other end; what a call may do is the router's to say. Each module below loads much,
so that this door loads none of them before it is asked to.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.desk import Desk
    from hub.config import Settings
    from hub.http_api.extending import Extension
    from hub.http_api.state import State


def extension(state: "State") -> "AbstractContextManager[Extension]":
    """The tools for a server. Entering raises HubError and IndexerError where what they need cannot be opened."""
    from agents.mcp_server import http  # noqa: PLC0415 - see above

    return http.extension(state)


def opened_desk(settings: "Settings") -> "AbstractContextManager[Desk]":
    """The desk of a process that has no server. Entering raises HubError and IndexerError."""
    from agents.mcp_server import desks  # noqa: PLC0415 - see above

    return desks.opened_desk(settings)
