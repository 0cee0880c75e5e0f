"""A desk with real stores over an index of a small tree, for tests of what agents call."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from agents.cursors import Cursors
from agents.desk import Desk
from agents.policy import Policy
from hub import config
from hub.auth.approvals import Approvals
from hub.auth.audit import AuditLog
from hub.auth.model import Grant, Principal, Scope
from hub.knowledge import Lasting, Review, Sessions
from hub.workspaces import Workspaces
from tests.support.trees import COUNTER, index_of, write_tree


@contextmanager
def desk_in(tmp_path: Path, **changes: Any) -> Iterator[Desk]:
    """Over COUNTER as the workspace "w". ``changes`` are fields of Settings; nothing can be run."""
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    if not (data / "workspaces").exists():
        index_of(write_tree(tmp_path / "tree", dict(COUNTER)), data)
    flags = {"data": data, "backend": "none", "embeddings": "none", **changes}
    settings = config.load(flags, environment={}, folder=data)
    with ExitStack() as stack:
        workspaces = Workspaces(settings)
        stack.callback(workspaces.close)
        approvals = stack.enter_context(closing(Approvals(data / "approvals.db")))
        sessions = stack.enter_context(closing(Sessions(data / "sessions.db")))
        log = AuditLog(data / "audit.jsonl")
        lasting = stack.enter_context(closing(Lasting(data / "knowledge.db", log, Review(settings.knowledge_review))))
        nothing_runs: Any = None
        yield Desk(
            settings,
            workspaces,
            log,
            approvals,
            sessions,
            Cursors.of(data),
            Policy.of(settings),
            nothing_runs,
            lasting,
        )


def holder(name: str, *scopes: Scope, workspace: str = "w") -> Principal:
    """Whoever has a key with these scopes in one workspace."""
    return Principal(name, f"the owner of {name}", (Grant(workspace, frozenset(scopes)),))
