"""The tools over stdin and stdout of this process, where no server runs on the data folder. Knows no tool."""

import asyncio
from contextlib import closing
from pathlib import Path

from mcp.server.stdio import stdio_server

from agents.desk import Desk
from agents.mcp_server.desks import around, opened_desk
from agents.mcp_server.protocol import Context, Protocol, WorkspaceOf
from agents.router import Router
from hub.auth.model import Principal
from hub.config import Settings
from hub.remote import version

SWEEP_S = 60.0  # between two looks for indexes that are open and that nobody uses any more


def serve(settings: Settings, workspace: str, folder: Path) -> None:
    """Answers until stdin ends. ``workspace`` is meant where a call names none, else that of the folder.

    What else writes to stdout meanwhile goes to stderr. Raises HubError and IndexerError.
    """
    with opened_desk(settings) as desk, closing(Router(desk)) as router:

        def meant(principal: Principal, _ctx: Context) -> str:
            return workspace or around(desk.workspaces, principal, folder)

        asyncio.run(_serve(desk, router, meant))


async def _serve(desk: Desk, router: Router, meant: WorkspaceOf) -> None:
    sweeping = asyncio.create_task(_sweep(desk))
    with closing(Protocol(router, version(), meant, asyncio.Event())) as protocol:
        server = protocol.server
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
    sweeping.cancel()


async def _sweep(desk: Desk) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await asyncio.to_thread(desk.workspaces.sweep)
