"""The desk of a process: what its tools share, opened and closed in order. Knows no protocol."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agents.cursors import Cursors
from agents.desk import Desk
from agents.policy import Policy
from agents.runs import Runs
from hub.auth import approvals, audit
from hub.auth.approvals import Approvals
from hub.auth.audit import AuditLog
from hub.auth.model import LOCAL, Principal
from hub.config import Settings
from hub.knowledge import Lasting, Review, Sessions, lasting
from hub.workspaces import Workspaces
from indexer.errors import DataFolderError

if TYPE_CHECKING:
    from hub.http_api.state import State

SESSIONS = "sessions.db"  # in the data folder
_PAGE = "/approvals"


@contextmanager
def desk_of(state: "State") -> Iterator[Desk]:
    """The desk of a server, with what the server has open already. Raises HubError and IndexerError."""
    settings = state.settings
    scheme = "https" if settings.server_tls_certificate else "http"
    host = f"[{settings.server_host}]" if ":" in settings.server_host else settings.server_host
    page = f"{scheme}://{host}:{settings.server_port}{_PAGE}" if settings.server_port else f"the page {_PAGE}"
    with _desk(settings, state.workspaces, state.audit, state.approvals) as desk:
        desk.approve_at = f"`codehub approve` or {page}"
        yield desk


@contextmanager
def opened_desk(settings: Settings) -> Iterator[Desk]:
    """The desk of a process that has no server. Raises HubError and IndexerError."""
    data = settings.data
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataFolderError(
            f"The data folder {data} cannot be made: {error.strerror}.", "Give another one with --data."
        ) from None
    with ExitStack() as stack:
        workspaces = Workspaces(settings)
        stack.callback(workspaces.close)
        waiting = stack.enter_context(closing(Approvals(data / approvals.FILE)))
        yield stack.enter_context(_desk(settings, workspaces, AuditLog(data / audit.FILE), waiting))


def around(workspaces: Workspaces, principal: Principal, folder: Path) -> str:
    """The workspace that he sees in whose tree the folder lies, the innermost; "" for none."""
    found = [each for each in workspaces.visible(principal) if folder.is_relative_to(each.root)]
    return max(found, key=lambda each: (len(each.root.parts), each.name)).name if found else ""


@contextmanager
def _desk(settings: Settings, workspaces: Workspaces, log: AuditLog, waiting: Approvals) -> Iterator[Desk]:
    data = settings.data
    with ExitStack() as stack:
        lifetime_s = settings.agents_session_hours * 3600.0
        sessions = stack.enter_context(closing(Sessions(data / SESSIONS, lifetime_s=lifetime_s)))
        review = Review(settings.knowledge_review)
        known = stack.enter_context(closing(Lasting(data / lasting.FILE, log, review)))
        try:
            cursors = Cursors.of(data)
        except OSError as error:
            raise DataFolderError(
                f"The data folder {data} cannot be written: {error.strerror}.", "Check who owns it."
            ) from None
        policy = Policy.of(settings, lambda: [each.root for each in workspaces.visible(LOCAL)])
        runs = stack.enter_context(closing(Runs(settings, workspaces, sessions, data)))
        yield Desk(settings, workspaces, log, waiting, sessions, cursors, policy, runs, known)
