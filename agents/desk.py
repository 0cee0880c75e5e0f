"""What the tools of one process share: services, records, sessions, runs. Put together by whoever serves them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.cursors import Cursors
    from agents.policy import Policy
    from agents.runs import Runs
    from hub.auth.approvals import Approvals
    from hub.auth.audit import AuditLog
    from hub.config import Settings
    from hub.knowledge import Lasting, Sessions
    from hub.workspaces import Workspaces


@dataclass(slots=True, eq=False)
class Desk:
    """Safe to use from several threads, as each of its parts is."""

    settings: "Settings"
    workspaces: "Workspaces"
    audit: "AuditLog"
    approvals: "Approvals"
    sessions: "Sessions"
    cursors: "Cursors"
    policy: "Policy"
    runs: "Runs"
    lasting: "Lasting"
    approve_at: str = field(default="`codehub approve`")  # where a person decides: a command, or the page's address
