"""What clients hold a server to: sizes of definitions, names, instructions and results, measured on the wire.

Where a limit comes from: descriptions and instructions are cut at 2 KB by Claude Code and its results at 25,000 tokens;
names of tools end at 63 characters in Gemini CLI, with a prefix of the server's name.
"""

import json
import re
from collections.abc import Iterator

import pytest

from agents.mcp_server import extension
from agents.text import DEFAULT_TOKENS, MOST_TOKENS, tokens
from agents.tools import TOOLS
from tests.support.mcp_clients import Json, OverHttp, call, request, text_of
from tests.support.served import Served, served

MOST_BYTES = 6_000  # of all definitions
MOST_DESCRIPTION = 1_200  # characters
MOST_INSTRUCTIONS = 2_000  # bytes
MOST_NAME = 63 - len("mcp__codehub__")
HINTS = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
# A tree in which everything is there too often: uses, callers, hits, and lines that are too long.
USES = 300
MANY: dict[str, str] = {
    "src/base.h": "#pragma once\nint measure(int width);\n",
    "src/base.cpp": '#include "base.h"\nint measure(int width) { return width; }\n',
    **{
        f"src/use{number}.cpp": '#include "base.h"\n'
        + "".join(
            f"/// Measures the width of part {each}, which is needed by whoever draws it.\n"
            f"int part_{number}_{each}(int width) {{ return measure(width) + {each}; }}\n"
            for each in range(60)
        )
        for number in range(USES // 60)
    },
    "src/long.cpp": "".join(f"int long_{n}[] = {{{', '.join(map(str, range(300)))}}};\n" for n in range(60)),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("limits"), MANY, extend=(extension,)) as running:
        yield running


@pytest.fixture(scope="module")
def listed(hub: Served) -> list[Json]:
    tools: list[Json] = OverHttp(hub.client).ask(request("tools/list", new=True))["result"]["tools"]
    return tools


def test_there_are_twelve_tools_in_their_order(listed: list[Json]) -> None:
    assert [tool["name"] for tool in listed] == [tool.name for tool in TOOLS]
    assert len(listed) == 12


def test_all_definitions_together_stay_small(listed: list[Json]) -> None:
    on_the_wire = json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(on_the_wire) < MOST_BYTES
    assert {tuple(sorted(tool)) for tool in listed} <= {
        ("annotations", "description", "inputSchema", "name"),
        ("_meta", "annotations", "description", "inputSchema", "name"),
    }


def test_the_wire_shows_what_the_tools_say_of_themselves(listed: list[Json]) -> None:
    assert listed == [tool.definition() for tool in TOOLS]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_definition_is_one_that_every_client_takes(tool: object, listed: list[Json]) -> None:
    (shown,) = [each for each in listed if each["name"] == getattr(tool, "name", "")]
    assert re.fullmatch(r"[a-z][a-z_]*", shown["name"])
    assert len(shown["name"]) <= MOST_NAME
    assert 0 < len(shown["description"]) <= MOST_DESCRIPTION
    assert shown["description"].isprintable()
    annotations = shown["annotations"]
    assert set(annotations) == HINTS
    assert all(isinstance(hint, bool) for hint in annotations.values())
    assert not (annotations["readOnlyHint"] and annotations["destructiveHint"])
    schema = shown["inputSchema"]
    assert schema["type"] == "object"
    assert not {"anyOf", "oneOf", "allOf", "$ref", "$defs", "title"} & set(schema)
    for parameter in schema["properties"].values():
        assert not {"anyOf", "oneOf", "allOf", "$ref", "properties", "title"} & set(parameter)


def test_what_acts_says_so_and_wants_a_person(listed: list[Json]) -> None:
    acting = {tool["name"] for tool in listed if not tool["annotations"]["readOnlyHint"]}
    asking = {tool["name"] for tool in listed if tool.get("_meta", {}).get("anthropic/requiresUserInteraction")}
    assert acting >= {"run", "remember"}
    assert "run" in asking
    assert asking <= acting


def test_the_instructions_are_read_whole_and_name_every_tool(hub: Served) -> None:
    told = OverHttp(hub.client).greet()["result"]
    assert len(told["instructions"].encode()) < MOST_INSTRUCTIONS
    assert {name for name in re.findall(r"`([a-z_]+)`", told["instructions"]) if "_" in name} <= {
        tool.name for tool in TOOLS
    }
    assert all(f"`{tool.name}`" in told["instructions"] for tool in TOOLS)
    assert set(told["capabilities"]) == {"tools"}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("explore", {"question": "measure"}),
        ("explore", {"question": "Who measures the width?", "tokens": 12_000}),
        ("search_code", {"query": "width of a part", "limit": 50}),
        ("search_code", {"query": "long"}),
        ("find_symbol", {"name": "part"}),
        ("find_references", {"name": "measure", "limit": 200}),
        ("call_graph", {"name": "measure", "depth": 3}),
        ("read_file", {"path": "src/long.cpp"}),
        ("read_file", {"path": "src/use0.cpp"}),
        ("impact", {"change": "measure"}),
        ("search_knowledge", {"query": "width of a part"}),
        ("ask", {"question": "What does measure do?"}),
        ("run", {}),
        ("job", {}),
    ],
)
def test_a_result_is_text_alone_and_never_above_its_cap(hub: Served, tool: str, arguments: Json) -> None:
    answer = OverHttp(hub.client).ask(call(tool, arguments, new=True))
    text = text_of(answer)
    assert set(answer["result"]) == {"content", "isError", "resultType", "_meta"}
    assert not answer["result"]["isError"]
    usual = DEFAULT_TOKENS if arguments.get("tokens") is None and arguments.get("limit", 0) < 50 else MOST_TOKENS
    assert 0 < tokens(text) <= usual


def test_a_program_gets_one_object_where_it_asks_for_it(hub: Served) -> None:
    client = OverHttp(hub.client)
    told = json.loads(
        text_of(client.ask(call("find_symbol", {"name": "measure"}, new=True, **{"codehub/format": "json"})))
    )
    assert isinstance(told, dict)


def test_pages_by_cursor_lose_nothing(hub: Served) -> None:
    client, found, cursor = OverHttp(hub.client), set[str](), ""
    for _ in range(40):
        arguments: Json = {"name": "measure", "limit": 100, **({"cursor": cursor} if cursor else {})}
        text = text_of(client.ask(call("find_references", arguments, new=True)))
        found |= set(re.findall(r"part_\d+_\d+", text))
        more = re.search(r"cursor=(\S+)", text)
        if more is None:
            break
        cursor = more[1].strip('".')
    assert len(found) == USES
