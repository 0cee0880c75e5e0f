"""What a package above adds: commands, a path of the server, checks of doctor. Here small ones stand in for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from hub import health
from hub.cli import main
from hub.cli.adding import AddCommand, Added
from hub.health.model import Finding, Grade, Group, Surroundings
from hub.http_api.app import application, create_app
from hub.http_api.extending import Extension
from tests.support.asgi import Sent, answered
from tests.support.served import settings_for
from tests.support.server_state import EVERYTHING, state_in


def test_an_added_command_runs_as_one_of_the_hub_does(capsys: pytest.CaptureFixture[str]) -> None:
    def parsers(command: AddCommand) -> None:
        command("calendar", "say what year it is")

    added = Added(parsers=parsers, homes={"calendar": "tests.support.added"})
    assert main(["calendar", "--json"], added) == 0
    assert capsys.readouterr().out == '{"year": 1998}\n'
    with pytest.raises(SystemExit):
        main(["calendar"])


def test_an_added_check_takes_the_place_of_the_one_of_its_subject(tmp_path: Path) -> None:
    def look(_around: Surroundings) -> Finding:
        return Finding("sandbox", Grade.OK, "of sand")

    def another(_around: Surroundings) -> Finding:
        return Finding("moon", Grade.WARNING, "is new")

    added = [
        health.Check("moon", Group.FOLDER, another),
        health.Check("sandbox", Group.MACHINE, look),
    ]
    settings = settings_for(tmp_path)
    before = [one.subject for one in health.examine(settings)]
    found = list(health.examine(settings, added=added))
    assert [one.subject for one in found if one.subject != "moon"] == before
    assert [one.detail for one in found if one.subject in {"sandbox", "moon"}] == ["of sand", "is new"]
    assert [list(Group).index(one.group) for one in found] == sorted(list(Group).index(one.group) for one in found)


def test_an_added_path_stands_behind_the_doors_and_is_told_who_calls(tmp_path: Path) -> None:
    running: list[str] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        body = scope["state"]["principal"].owner.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    @asynccontextmanager
    async def runs() -> AsyncIterator[None]:
        running.append("begun")
        yield
        running.append("ended")

    async def ask() -> None:
        with state_in(tmp_path / "data") as state:
            extension = Extension("/mcp", app, runs)
            doors = application(state, [extension])
            key = state.keys.create("Ada", EVERYTHING).text
            stranger = await answered(doors, Sent("GET", "/mcp"))
            known = await answered(doors, Sent("GET", "/mcp", (("authorization", f"Bearer {key}"),)))
            below = await answered(doors, Sent("GET", "/mcp/x", (("authorization", f"Bearer {key}"),)))
            assert (stranger.status, known.status, known.body, below.status) == (401, 200, b"Ada", 404)
            inner = create_app(state, [extension])
            async with inner.router.lifespan_context(inner):
                assert running == ["begun"]
            assert running == ["begun", "ended"]

    asyncio.run(ask())
