"""Every tool over every way to it: the same text, whoever the client is, in both eras of the protocol."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from agents.mcp_server import extension
from agents.tools import TOOLS
from hub.remote import version
from tests.support.mcp_clients import (
    Json,
    OverHttp,
    call,
    request,
    sdk_over_http,
    sdk_over_stdio,
    spoken,
    text_of,
    told_of,
)
from tests.support.served import Served, served

# One call of each tool that tells the same each time, but for what VARIES takes out: ids, times, and what is of a key.
CALLS: Mapping[str, Json] = {
    "explore": {"question": "Where is the counter incremented?", "tokens": 800},
    "ask": {"question": "What does Counter::Increment do?"},
    "search_code": {"query": "increment the counter", "limit": 3},
    "find_symbol": {"name": "Counter"},
    "find_references": {"name": "app::Counter::Increment"},
    "call_graph": {"name": "main", "direction": "callees"},
    "read_file": {"path": "src/counter.cc", "first_line": 3, "last_line": 8},
    "impact": {"change": "app::Counter::Increment"},
    "search_knowledge": {"query": "limits"},
    "remember": {"text": "Counts without a lock."},
    "run": {},
    "job": {},
}
VARIES = re.compile(
    r"\bcursor=\S+|\bs_[0-9a-zA-Z_-]+|\b[0-9a-f]{8,}\b|\d+(?:\.\d+)? ?m?s\b|20\d\d-\d\d-\d\d[T ][0-9:.]+"
)
WAYS = 9
Told = dict[str, str]


@dataclass
class Hub:
    running: Served
    data: Path


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("tools")
    with served(folder, extend=(extension,)) as running:
        told_of(running, folder / "data")
        yield Hub(running, folder / "data")


def by_hand(ask: Callable[[Json], Json], *, new: bool) -> Told:
    listed = ask(request("tools/list", new=new))["result"]["tools"]
    assert [tool["name"] for tool in listed] == [tool.name for tool in TOOLS]
    return {name: text_of(ask(call(name, arguments, new=new))) for name, arguments in CALLS.items()}


def by_sdk(made: AbstractAsyncContextManager[Client]) -> Told:
    async def told() -> Told:
        async with made as client:
            listed = (await client.list_tools()).tools
            assert [tool.name for tool in listed] == [tool.name for tool in TOOLS]
            found: Told = {}
            for name, arguments in CALLS.items():
                result = await client.call_tool(name, dict(arguments))
                (content,) = result.content
                assert content.type == "text"
                assert result.structured_content is None
                found[name] = content.text
            return found

    return asyncio.run(told())


def over_http(hub: Hub, *, new: bool) -> Told:
    client = OverHttp(hub.running.client)
    if not new:
        assert client.greet()["result"]["serverInfo"] == {"name": "codehub", "title": "codehub", "version": version()}
    return by_hand(client.ask, new=new)


def over_lines(hub: Hub, *options: str, new: bool) -> Told:
    with spoken(hub.data, options) as lines:
        if not new:
            assert lines.greet()["result"]["serverInfo"]["name"] == "codehub"
        return by_hand(lines.ask, new=new)


@pytest.fixture(scope="module")
def told(hub: Hub) -> dict[str, Told]:
    """What every tool told, by the way it was called. Side by side, since processes take their time to begin."""
    key, url, data = hub.running.key, hub.running.url, hub.data
    ways: dict[str, Callable[[], Told]] = {
        "by hand over HTTP, older": lambda: over_http(hub, new=False),
        "by hand over HTTP, newer": lambda: over_http(hub, new=True),
        "SDK over HTTP, older": lambda: by_sdk(sdk_over_http(url, key, "legacy")),
        "SDK over HTTP, newer": lambda: by_sdk(sdk_over_http(url, key, "auto")),
        "SDK over the relay, older": lambda: by_sdk(sdk_over_stdio(data, "legacy")),
        "SDK over the relay, newer": lambda: by_sdk(sdk_over_stdio(data, "auto")),
        "by hand over the relay, newer": lambda: over_lines(hub, new=True),
        "by hand without a server, older": lambda: over_lines(hub, "--no-server", new=False),
        "SDK without a server, newer": lambda: by_sdk(sdk_over_stdio(data, "auto", "--no-server")),
    }
    assert len(ways) == WAYS
    with ThreadPoolExecutor(WAYS) as threads:
        running = {name: threads.submit(way) for name, way in ways.items()}
        return {name: future.result() for name, future in running.items()}


def test_every_tool_is_called_here() -> None:
    assert list(CALLS) == [tool.name for tool in TOOLS]


@pytest.mark.parametrize("tool", list(CALLS))
def test_a_tool_tells_the_same_over_every_way(told: dict[str, Told], tool: str) -> None:
    texts: dict[str, Any] = {way: VARIES.sub("…", found[tool]) for way, found in told.items()}
    first = texts.popitem()[1]
    assert first.strip()
    assert texts == dict.fromkeys(texts, first)


def test_what_the_tools_tell_is_of_the_tree(told: dict[str, Told]) -> None:
    found = told["SDK over HTTP, newer"]
    for tool in ("explore", "search_code", "find_symbol", "find_references", "impact", "read_file"):
        assert re.search(r"src/(?:counter|main)\.(?:cc|h):\d", found[tool]), tool
    assert "value_ += by;" in found["read_file"]
    assert "Increment" in found["call_graph"]
