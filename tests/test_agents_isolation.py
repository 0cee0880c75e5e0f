"""Two tenants of one hub, over the tools of agents: what one has is to the other as if it were not there."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from agents.desk import Desk
from agents.model import Call
from agents.router import Result, Router
from agents.tools import TOOLS
from hub.auth.model import Scope
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.support.desks import desk_in, holder
from tests.support.trees import COUNTER, index_of, write_tree

CANARY = "Xylophone"
THEIRS = {
    "src/xylophone.cc": f"/// Strikes the {CANARY}'s bars.\nint Strike{CANARY}(int bar) {{ return bar; }}\n",
    "docs/adr/0001-xylophone.md": f"# Why the {CANARY}\n\nBecause it rings.\n",
}
MINE = holder("minekey000", *(scope for scope in Scope if scope not in (Scope.ADMIN, Scope.APPROVE)))
NAMES: dict[str, tuple[dict[str, Any], ...]] = {
    "explore": ({"question": f"Who calls Strike{CANARY}?"}, {"question": "Why are the bars struck?"}),
    "ask": ({"question": f"What does Strike{CANARY} do?"},),
    "search_code": ({"query": f"strike the {CANARY}"}, {"query": "bars", "path": "src/xylophone.cc"}),
    "find_symbol": ({"name": f"::Strike{CANARY}"}, {"name": "Strike"}),
    "find_references": ({"name": f"Strike{CANARY}"},),
    "call_graph": ({"name": f"Strike{CANARY}", "direction": "callers"},),
    "read_file": ({"path": "src/xylophone.cc"}, {"symbol": f"Strike{CANARY}"}),
    "impact": ({"change": f"Strike{CANARY}"},),
    "search_knowledge": ({"query": f"why the {CANARY}"},),
    "remember": ({"text": "The bars ring.", "about": "src/xylophone.cc"},),
}
VARIES = re.compile(r"\bs_[0-9a-f]{32}\b|20\d\d-\d\d-\d\d[T ][0-9:.]+Z?|\d+(?:\.\d+)? ?m?s\b|\bcursor=\S+")


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Desk]]:
    """One that has both workspaces, and one that has the first alone."""
    both, alone = (tmp_path_factory.mktemp(name) for name in ("both", "alone"))
    for folder in (both, alone):
        (folder / "data").mkdir()
        index_of(write_tree(folder / "tree", dict(COUNTER)), folder / "data")
    held = DataFolder(both / "data")
    with held.owned(), Index.for_writing(held, "theirs", write_tree(both / "theirs", dict(THEIRS))) as index:
        refresh(index, Options(workers=1), ())
    with desk_in(both) as shared, desk_in(alone) as single:
        assert len(shared.workspaces.visible(holder("all", Scope.READ, workspace="*"))) == 2
        yield shared, single


def test_every_tool_that_looks_something_up_is_tried() -> None:
    assert set(NAMES) == {tool.name for tool in TOOLS} - {"run", "job"}  # whose runs are kept by key and workspace


@pytest.mark.parametrize("workspace", ["", "theirs", "nowhere"])
@pytest.mark.parametrize("tool", NAMES)
def test_what_another_workspace_holds_changes_no_byte_of_a_result(
    hubs: tuple[Desk, Desk], tool: str, workspace: str
) -> None:
    for arguments in NAMES[tool]:
        asked = {**arguments, **({"workspace": workspace} if workspace else {})}
        both, alone = (called(desk, tool, asked) for desk in hubs)
        assert both == alone
        assert both.is_error == bool(workspace)
        elsewhere = called(hubs[0], tool, {**arguments, "workspace": "nowhere"})
        if workspace == "theirs":
            assert both.text.replace("theirs", "nowhere") == elsewhere.text.replace("theirs", "nowhere")


def test_who_holds_it_sees_it(hubs: tuple[Desk, Desk]) -> None:
    router = Router(hubs[0])
    found = router.call(Call(holder("theirkey00", Scope.READ, workspace="theirs")), "find_symbol", {"name": "Strike"})
    assert f"Strike{CANARY}" in found.text
    router.close()


def called(desk: Desk, tool: str, arguments: dict[str, Any]) -> Result:
    router = Router(desk)
    result = router.call(Call(MINE), tool, arguments)
    router.close()
    return Result(VARIES.sub("~", result.text), result.is_error)
